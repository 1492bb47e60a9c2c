//! Pages of lists, by the last id seen: a page is found in the same time however far it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::lifecycle::{ChangeCursor, InstallationCursor};

/// The version of the cursors that are made.
const VERSION: u8 = 1;
const ID: u8 = 0;
const TEXT: u8 = 1;
const POSITION: u8 = 2;
const CHANGE: u8 = 3;

/// The longest cursor that is read, in characters.
const CURSOR_LIMIT: usize = 1_024;

/// Where a page begins: after the last thing of the page before. Opaque to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After this id.
    Id(Uuid),
    /// After this key.
    Text(String),
    /// After this place in the journal.
    Position(i64),
    /// After this place in the order of changes, of one change after this id.
    Change(i64, Uuid),
}

impl Cursor {
    /// The text that callers give back.
    pub fn encode(&self) -> String {
        let bytes = match self {
            Self::Id(id) => [&[VERSION, ID], id.as_bytes().as_slice()].concat(),
            Self::Text(text) => [&[VERSION, TEXT], text.as_bytes()].concat(),
            Self::Position(position) => {
                [&[VERSION, POSITION], position.to_be_bytes().as_slice()].concat()
            }
            Self::Change(position, id) => {
                [&[VERSION, CHANGE], position.to_be_bytes().as_slice(), id.as_bytes()].concat()
            }
        };
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] made.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > CURSOR_LIMIT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        match bytes.as_slice() {
            [VERSION, ID, rest @ ..] => Uuid::from_slice(rest).ok().map(Self::Id),
            [VERSION, TEXT, rest @ ..] => {
                std::str::from_utf8(rest).ok().map(|text| Self::Text(text.to_owned()))
            }
            [VERSION, POSITION, rest @ ..] => {
                rest.try_into().ok().map(i64::from_be_bytes).map(Self::Position)
            }
            [VERSION, CHANGE, rest @ ..] => {
                let (position, id) = rest.split_first_chunk::<8>()?;
                let id = Uuid::from_slice(id).ok()?;
                Some(Self::Change(i64::from_be_bytes(*position), id))
            }
            _ => None,
        }
    }
}

const BAD_CURSOR: &str = "must be a `nextCursor` of a former page, unchanged";

/// A page begins after this id; the parameter `cursor` of lists that go by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterId(pub Uuid);

impl<'de> Deserialize<'de> for AfterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cursor::decode(&String::deserialize(deserializer)?) {
            Some(Cursor::Id(id)) => Ok(Self(id)),
            _ => Err(de::Error::custom(BAD_CURSOR)),
        }
    }
}

/// A page begins after this place; the parameter `cursor` of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterPosition(pub i64);

impl<'de> Deserialize<'de> for AfterPosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cursor::decode(&String::deserialize(deserializer)?) {
            Some(Cursor::Position(position)) => Ok(Self(position)),
            _ => Err(de::Error::custom(BAD_CURSOR)),
        }
    }
}

/// A page begins after this installation, by id or in the order of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterInstallation(pub InstallationCursor);

impl<'de> Deserialize<'de> for AfterInstallation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cursor::decode(&String::deserialize(deserializer)?) {
            Some(Cursor::Id(id)) => Ok(Self(InstallationCursor::Id(id))),
            Some(Cursor::Change(position, id)) => {
                Ok(Self(InstallationCursor::Change(ChangeCursor { position, id })))
            }
            _ => Err(de::Error::custom(BAD_CURSOR)),
        }
    }
}

/// A page begins after this place, and of one place after this id; the parameter `cursor` of lists
/// that go by positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterPlace(pub i64, pub Uuid);

impl<'de> Deserialize<'de> for AfterPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cursor::decode(&String::deserialize(deserializer)?) {
            Some(Cursor::Change(place, id)) => Ok(Self(place, id)),
            _ => Err(de::Error::custom(BAD_CURSOR)),
        }
    }
}

/// A page begins after this key; the parameter `cursor` of lists that go by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterText(pub String);

impl<'de> Deserialize<'de> for AfterText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cursor::decode(&String::deserialize(deserializer)?) {
            Some(Cursor::Text(text)) => Ok(Self(text)),
            _ => Err(de::Error::custom(BAD_CURSOR)),
        }
    }
}

/// How many things a page has; the parameter `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// The most that a page has.
    pub const MOST: u16 = 200;

    /// As many as a page can have.
    pub fn largest() -> Self {
        Self(Self::MOST)
    }

    /// What to ask the database for: one more than the page has, which tells whether there is
    /// another page.
    pub fn rows(self) -> u64 {
        u64::from(self.0) + 1
    }

    /// The number of things on a page.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer) {
            Ok(count) if (1..=Self::MOST).contains(&count) => Ok(Self(count)),
            _ => Err(de::Error::custom(format_args!(
                "must be a whole number from 1 to {}",
                Self::MOST
            ))),
        }
    }
}

/// Where a page begins and how long it is: the query of a list without filters.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    pub cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    pub limit: Limit,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of the rows that [`Limit::rows`] asked for, in their order.
    pub fn new(mut rows: Vec<T>, limit: Limit, cursor: impl FnOnce(&T) -> Cursor) -> Self {
        let has_more = rows.len() > limit.count();
        rows.truncate(limit.count());
        let next_cursor = rows.last().filter(|_| has_more).map(|last| cursor(last).encode());
        Self { data: rows, next_cursor }
    }

    /// The same page of other things.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::extract::parse_query;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        cursor: Option<AfterId>,
        #[serde(default)]
        limit: Limit,
    }

    #[test]
    fn the_limit_has_a_default_and_bounds() {
        assert_eq!(parse_query::<List>("").unwrap().limit.count(), 50);
        assert_eq!(parse_query::<List>("limit=200").unwrap().limit.rows(), 201);
        for bad in ["limit=0", "limit=201", "limit=-1", "limit=", "limit=99999", "limit=5.0"] {
            let document = parse_query::<List>(bad).unwrap_err().document("", None);
            assert_eq!(document["status"], 422, "{bad}");
            assert_eq!(document["errors"][0]["fieldName"], "limit", "{bad}");
        }
    }

    #[test]
    fn a_cursor_of_another_list_or_version_is_refused() {
        let id = Uuid::from_u128(5);
        let cursor = Cursor::Id(id).encode();
        assert_eq!(
            parse_query::<List>(&format!("cursor={cursor}")).unwrap().cursor,
            Some(AfterId(id))
        );
        let text = Cursor::Text("key".to_owned()).encode();
        let later = URL_SAFE_NO_PAD.encode([&[2, ID], id.as_bytes().as_slice()].concat());
        for bad in [text.as_str(), later.as_str(), "", "x", &cursor[1..], &"A".repeat(2_000)] {
            assert!(parse_query::<List>(&format!("cursor={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_full_page_has_a_next_one() {
        let limit = Limit(2);
        let page = |count: u128| {
            Page::new((0..count).collect::<Vec<_>>(), limit, |id| Cursor::Id(Uuid::from_u128(*id)))
        };
        assert_eq!(page(2).next_cursor, None);
        assert_eq!(page(0).next_cursor, None);
        let full = page(3);
        assert_eq!(full.data, [0, 1]);
        assert_eq!(
            Cursor::decode(&full.next_cursor.unwrap()),
            Some(Cursor::Id(Uuid::from_u128(1)))
        );
    }

    proptest! {
        #[test]
        fn cursors_come_back(text in ".{0,100}", id: u128, position: i64) {
            let text = Cursor::Text(text);
            prop_assert_eq!(Cursor::decode(&text.encode()), Some(text));
            let place = Cursor::Position(position);
            prop_assert_eq!(Cursor::decode(&place.encode()), Some(place));
            let change = Cursor::Change(position, Uuid::from_u128(id));
            prop_assert_eq!(Cursor::decode(&change.encode()), Some(change));
            let id = Cursor::Id(Uuid::from_u128(id));
            prop_assert_eq!(Cursor::decode(&id.encode()), Some(id));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _any = Cursor::decode(&text);
        }
    }
}
