//! Which definitions a document holds: the answer of a list call, of a show call, or a list of either.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::FieldFault;

/// The longest id of another system, in bytes.
const LONGEST_ID: usize = 128;

/// How deep lists of pages may be in each other.
const DEEPEST: usize = 3;

/// A definition as the other system tells it.
#[derive(Clone, Debug)]
pub(super) struct Item<'v> {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) members: &'v Map<String, Value>,
}

impl Item<'_> {
    /// A text that is there and not empty.
    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.members.get(member).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
    }
}

/// A text, or a number or truth value as one: ids come in both forms.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The definitions of a document, each once: the first of an id counts, as pages may overlap.
pub(super) fn items<'v>(
    document: &'v Value,
    pointer: &str,
    word: &str,
    faults: &mut Vec<FieldFault>,
    warnings: &mut Vec<String>,
) -> Vec<Item<'v>> {
    let mut reading = Reading { word, faults, items: Vec::new(), has_more: false };
    reading.read(document, pointer, 0);
    let Reading { items, has_more, .. } = reading;
    if has_more {
        warnings.push(format!(
            "The last page of {pointer} says that there are more: fetch the others, and give all of \
             them as a list."
        ));
    }
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.id.clone())).collect()
}

struct Reading<'v, 'r> {
    word: &'r str,
    faults: &'r mut Vec<FieldFault>,
    items: Vec<Item<'v>>,
    /// Whether the page that was read last is not the last one.
    has_more: bool,
}

impl<'v> Reading<'v, '_> {
    fn read(&mut self, document: &'v Value, pointer: &str, depth: usize) {
        let refused = || {
            let rule = "must be what the list or show call of the other system answered";
            FieldFault::new(pointer, rule)
        };
        match document {
            Value::Null => {}
            Value::Array(all) if depth < DEEPEST => {
                for (index, one) in all.iter().enumerate() {
                    self.read(one, &format!("{pointer}/{index}"), depth + 1);
                }
            }
            Value::Object(members) => {
                let plural = format!("{}s", self.word);
                let wrapped = [plural.as_str(), self.word, "data"]
                    .into_iter()
                    .find_map(|name| Some((name, members.get(name)?)))
                    .filter(|(_, value)| value.is_array() || value.is_object());
                match wrapped {
                    // What has an id of its own is a definition, whatever else is in it.
                    Some((name, inner)) if !members.contains_key("id") && depth < DEEPEST => {
                        self.read(inner, &format!("{pointer}/{name}"), depth + 1);
                        self.has_more = is_followed(members);
                    }
                    _ => self.item(members, pointer),
                }
            }
            _ => self.faults.push(refused()),
        }
    }

    fn item(&mut self, members: &'v Map<String, Value>, pointer: &str) {
        let id = members.get("id").and_then(text_of);
        let is_fit =
            |id: &String| (1..=LONGEST_ID).contains(&id.len()) && !id.chars().any(char::is_control);
        let Some(id) = id.filter(is_fit) else {
            let rule = format!("must be a {} with its id, of 1 to {LONGEST_ID} bytes", self.word);
            self.faults.push(FieldFault::new(format!("{pointer}/id"), rule));
            return;
        };
        let named = ["name", "title", "raw_title"].into_iter().find_map(|name| {
            members.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
        });
        let name = named.map_or_else(|| format!("{} {id}", self.word), str::to_owned);
        self.items.push(Item { id, name, members });
    }
}

/// Whether a page says that another one follows.
fn is_followed(page: &Map<String, Value>) -> bool {
    let has_more = page.get("meta").and_then(|meta| meta.get("has_more"));
    has_more == Some(&Value::Bool(true)) || page.get("next_page").is_some_and(Value::is_string)
}
