//! Turns JSON into the typed view. The rules ran before, or the package was stored after they did;
//! so nothing here explains, it only refuses to guess.

use std::collections::HashSet;

use serde_json::{Map, Value};
use url::Url;

use super::json::escape;
use super::package::StoredPackageInvalid;

/// A part of a file with the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Part<'v> {
    pub(crate) file: &'static str,
    pub(crate) pointer: String,
    pub(crate) value: &'v Value,
}

type Outcome<T> = Result<T, StoredPackageInvalid>;

impl<'v> Part<'v> {
    pub(crate) fn new(file: &'static str, value: &'v Value) -> Self {
        Self { file, pointer: String::new(), value }
    }

    pub(crate) fn invalid<T>(&self, expected: &'static str) -> Outcome<T> {
        let (file, pointer) = (self.file, self.pointer.clone());
        Err(StoredPackageInvalid { file, pointer, expected })
    }

    /// The member of that name, where it is there; it may be `null`.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key)?;
        Some(Self { file: self.file, pointer: format!("{}/{}", self.pointer, escape(key)), value })
    }

    pub(crate) fn need(&self, key: &str) -> Outcome<Self> {
        match self.get(key) {
            Some(part) => Ok(part),
            None => Self { pointer: format!("{}/{}", self.pointer, escape(key)), ..self.clone() }
                .invalid("there"),
        }
    }

    pub(crate) fn text(&self) -> Outcome<&'v str> {
        self.value.as_str().map_or_else(|| self.invalid("a text"), Ok)
    }

    pub(crate) fn flag(&self) -> Outcome<bool> {
        self.value.as_bool().map_or_else(|| self.invalid("`true` or `false`"), Ok)
    }

    pub(crate) fn object(&self) -> Outcome<&'v Map<String, Value>> {
        self.value.as_object().map_or_else(|| self.invalid("an object"), Ok)
    }

    pub(crate) fn members(&self) -> Outcome<Vec<(&'v str, Self)>> {
        let member = |(key, value): (&'v String, &'v Value)| {
            let pointer = format!("{}/{}", self.pointer, escape(key));
            (key.as_str(), Self { file: self.file, pointer, value })
        };
        Ok(self.object()?.iter().map(member).collect())
    }

    pub(crate) fn items(&self) -> Outcome<Vec<Self>> {
        let Some(items) = self.value.as_array() else { return self.invalid("a list") };
        let item = |(position, value)| Self {
            file: self.file,
            pointer: format!("{}/{position}", self.pointer),
            value,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn url(&self) -> Outcome<Url> {
        Url::parse(self.text()?).or_else(|_| self.invalid("an absolute URL"))
    }

    /// The texts of a list, each once, in their order.
    pub(crate) fn texts(&self) -> Outcome<Vec<String>> {
        let mut seen = HashSet::new();
        let mut texts = Vec::new();
        for item in self.items()? {
            let text = item.text()?;
            if seen.insert(text) {
                texts.push(text.to_owned());
            }
        }
        Ok(texts)
    }

    /// A member that only a warning is told about where it isn't a text.
    pub(crate) fn loose_text(&self, key: &str) -> Option<String> {
        self.value.get(key)?.as_str().map(str::to_owned)
    }

    /// A member that only a warning is told about where it isn't a flag.
    pub(crate) fn loose_flag(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}
