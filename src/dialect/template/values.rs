//! The values of placeholders, and how each is written where it stands.

use serde_json::Value;

use super::json::is_whole_number;
use super::text::{Escape, Output};
use crate::dialect::RenderError;

/// Where the values of one rendering come from. Remembers which were missing.
#[derive(Debug)]
pub(in crate::dialect) struct Values<'v> {
    lookup: Lookup<'v>,
    empty: Vec<String>,
}

/// What finds the value of a placeholder.
#[derive(Debug)]
pub(in crate::dialect) struct Lookup<'v>(pub(in crate::dialect) &'v crate::dialect::placeholders::Scene<'v>);

impl<'v> Values<'v> {
    pub(in crate::dialect) fn new(scene: &'v crate::dialect::placeholders::Scene<'v>) -> Self {
        Self { lookup: Lookup(scene), empty: Vec::new() }
    }

    /// The placeholders that had no value.
    pub(in crate::dialect) fn into_empty(self) -> Vec<String> {
        self.empty
    }

    /// Writes a value.
    pub(super) fn write(
        &mut self,
        name: &str,
        escape: Escape,
        output: &mut Output,
    ) -> Result<(), RenderError> {
        let value = self.lookup.0.value(name);
        let is_empty = match value.as_deref() {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if is_empty && !self.empty.iter().any(|known| known == name) {
            self.empty.push(name.to_owned());
        }
        let value = value.as_deref().unwrap_or(&Value::Null);
        if escape == Escape::JsonValue {
            return match value {
                Value::String(text) if is_whole_number(text) => output.push(text),
                other => output.push(&other.to_string()),
            };
        }
        escaped(&as_text(value), escape, output)
    }
}
