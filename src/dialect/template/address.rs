//! Addresses with placeholders in path and query, never in the host.

use url::Url;

use super::TemplateFault;

/// An address with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTemplate {
    base: Url,
    placeholders: Vec<String>,
}

impl AddressTemplate {
    /// Reads an absolute http or https address.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let base = Url::parse(text).map_err(|error| TemplateFault::Address(error.to_string()))?;
        Ok(Self { base, placeholders: Vec::new() })
    }

    /// Whether there are placeholders in it.
    pub fn has_placeholders(&self) -> bool {
        !self.placeholders.is_empty()
    }

    /// The names of its placeholders.
    pub fn placeholders(&self) -> Vec<&str> {
        self.placeholders.iter().map(String::as_str).collect()
    }

    /// The address with `0` for each placeholder: same scheme, host and port, to be vetted.
    pub const fn base(&self) -> &Url {
        &self.base
    }
}
