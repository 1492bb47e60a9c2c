//! The marketplace's own list of installations: a JSON array, or a JSON object a line.

use std::collections::HashMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::identifier::{ExtensionKey, OrgId};

/// The largest list that is read, in rows.
const MOST_ROWS: usize = 1_000_000;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableList {
    /// It is not in the form.
    #[error(
        "entry {number} of the marketplace's list cannot be read: {reason}; each must be \
         {{\"extensionKey\",\"orgId\",\"installationId\",\"generation\",\"state\"}}"
    )]
    Entry {
        /// Which, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// It names nothing: everything would be taken out.
    #[error("the marketplace's list is empty: that would take every installation out")]
    Empty,
    /// It is too long.
    #[error("the marketplace's list has more than {MOST_ROWS} entries")]
    TooLong,
}

/// An installation as the marketplace knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The extension.
    pub extension_key: ExtensionKey,
    /// The org.
    pub org_id: OrgId,
    /// The installation, as we answered it.
    pub installation_id: Uuid,
    /// Its generation, as we answered it.
    pub generation: i32,
    /// Its state, as we answered it last.
    pub state: String,
}

impl Listed {
    /// Whether the marketplace takes it for installed.
    pub fn is_live(&self) -> bool {
        !matches!(self.state.as_str(), "uninstalled" | "erased" | "failed")
    }
}

/// The list, by installation.
#[derive(Clone, Debug, Default)]
pub struct MarketplaceList {
    entries: HashMap<Uuid, Listed>,
}

impl MarketplaceList {
    /// Reads a list in either form.
    pub fn parse(text: &str) -> Result<Self, UnreadableList> {
        let refused = |number, error: serde_json::Error| UnreadableList::Entry {
            number,
            reason: error.to_string(),
        };
        let mut entries = HashMap::new();
        let mut add = |number: usize, listed: Result<Listed, serde_json::Error>| {
            let listed = listed.map_err(|error| refused(number, error))?;
            if entries.len() >= MOST_ROWS {
                return Err(UnreadableList::TooLong);
            }
            entries.insert(listed.installation_id, listed);
            Ok(())
        };
        if text.trim_start().starts_with('[') {
            let all: Vec<serde_json::Value> =
                serde_json::from_str(text).map_err(|error| refused(1, error))?;
            for (number, value) in (1..).zip(all) {
                add(number, serde_json::from_value(value))?;
            }
        } else {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (number, line) in lines {
                add(number + 1, serde_json::from_str(line))?;
            }
        }
        if entries.is_empty() { Err(UnreadableList::Empty) } else { Ok(Self { entries }) }
    }

    /// What it says of an installation.
    pub fn get(&self, id: Uuid) -> Option<&Listed> {
        self.entries.get(&id)
    }

    /// All of it, in the order of ids.
    pub fn entries(&self) -> Vec<&Listed> {
        let mut all: Vec<&Listed> = self.entries.values().collect();
        all.sort_by_key(|listed| listed.installation_id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"extensionKey":"a","orgId":"1","generation":2,"state":"active",
        "installationId":"0198c0de-0000-7000-8000-000000000001"}"#;

    #[test]
    fn both_forms_are_read() {
        let line = ENTRY.replace('\n', " ");
        for text in [format!("[{ENTRY}]"), format!("\n{line}\n\n"), format!("{line}\n{line}")] {
            let list = MarketplaceList::parse(&text).unwrap();
            assert_eq!(list.entries().len(), 1);
            assert!(list.entries()[0].is_live() && list.entries()[0].generation == 2);
        }
    }

    #[test]
    fn what_would_take_everything_out_is_refused() {
        for text in ["", "  \n", "[]"] {
            assert!(matches!(MarketplaceList::parse(text), Err(UnreadableList::Empty)), "{text:?}");
        }
        let line = ENTRY.replace('\n', " ");
        let fault = MarketplaceList::parse(&format!("{line}\n{{}}\n")).unwrap_err();
        assert!(fault.to_string().starts_with("entry 2 of"), "{fault}");
        assert!(MarketplaceList::parse("[{}]").is_err());
        assert!(MarketplaceList::parse("nonsense").is_err());
    }
}
