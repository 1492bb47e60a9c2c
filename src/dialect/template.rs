//! Templates: texts with placeholders such as `{{ticket.id}}`.
//!
//! A template is read once, when it is saved, and every place in it knows from then on how a value
//! is to be escaped there. Nothing in a template is ever evaluated, and rendering takes time
//! linear in what comes out, which is bounded.

mod address;
mod json;
#[cfg(test)]
mod laws;
mod text;
mod values;
mod xml;

use super::settings::{BodyFormat, RequestMethod, has_payload};

pub use address::AddressTemplate;
pub(super) use text::Output;
use text::Text;
pub(super) use values::Values;

/// What a template, and what is rendered from it, must be smaller than, in bytes: 256 KB.
pub const TEMPLATE_LIMIT: usize = 256 * 1_024;

/// The most placeholders of one template.
pub const MOST_PLACEHOLDERS: usize = 1_000;

/// The most parameters of one template.
pub const MOST_PARAMETERS: usize = 100;

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// It is too large.
    #[error("the {what} must have less than {limit} bytes; it has {bytes}")]
    TooLarge {
        /// The payload, the parameters or the address.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// What it must stay below.
        limit: usize,
    },
    /// It has too many of something.
    #[error("at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: usize,
    },
    /// Two opening braces are not followed by two closing ones.
    #[error("`{{{{` at byte {at} is not closed by `}}}}`")]
    Unclosed {
        /// Where it begins, in bytes from 0.
        at: usize,
    },
    /// What stands between the braces is no name.
    #[error(
        "{given:?} is no placeholder: names like ticket.id stand between the braces, nothing is computed"
    )]
    Malformed {
        /// What stands there, cut.
        given: String,
    },
    /// A placeholder stands where no value can be made safe.
    #[error("the placeholder {name} cannot stand {place}")]
    Misplaced {
        /// The placeholder.
        name: String,
        /// Where it stands.
        place: &'static str,
    },
    /// The text is not of its format, whatever the values would be.
    #[error("the payload is not {format}: {reason}")]
    Format {
        /// JSON or XML.
        format: &'static str,
        /// Why.
        reason: String,
    },
    /// A payload where there can be none, or parameters.
    #[error("requests with {method} and {format} have {has}, not {given}")]
    Content {
        /// The method.
        method: &'static str,
        /// The format.
        format: &'static str,
        /// What they have.
        has: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// The address is no address.
    #[error("the address {0}")]
    Address(String),
}

/// What an action sends, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A payload.
    Payload(String),
    /// Parameters, in order.
    Parameters(Vec<(String, String)>),
}

/// What a trigger or automation sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    Payload(BodyFormat, Text),
    Parameters(Vec<(Text, Text)>),
}

impl Template {
    /// Reads what an action of a webhook with this method and format sends.
    pub fn parse(
        method: RequestMethod,
        format: BodyFormat,
        content: &Content,
    ) -> Result<Self, TemplateFault> {
        let refused = |has, given| TemplateFault::Content {
            method: method.as_str(),
            format: format.as_str(),
            has,
            given,
        };
        let parts = match (content, has_payload(method, format)) {
            (Content::Payload(text), true) => {
                within("payload", text.len())?;
                let text = match format {
                    BodyFormat::Json => json::parse(text)?,
                    BodyFormat::Xml => xml::parse(text)?,
                    BodyFormat::Form => return Err(refused("parameters", "a payload")),
                };
                bounded(std::iter::once(&text))?;
                Parts::Payload(format, text)
            }
            (Content::Parameters(pairs), false) => {
                if pairs.len() > MOST_PARAMETERS {
                    return Err(TemplateFault::TooMany {
                        what: "parameters",
                        limit: MOST_PARAMETERS,
                    });
                }
                let size = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
                within("parameters", size)?;
                let pairs = pairs
                    .iter()
                    .map(|(name, value)| Ok((Text::plain(name)?, Text::plain(value)?)))
                    .collect::<Result<Vec<_>, TemplateFault>>()?;
                bounded(pairs.iter().flat_map(|(name, value)| [name, value]))?;
                Parts::Parameters(pairs)
            }
            (Content::Payload(_), false) => return Err(refused("parameters", "a payload")),
            (Content::Parameters(_), true) => return Err(refused("a payload", "parameters")),
        };
        Ok(Self { parts })
    }

    /// The names of its placeholders, as often as they stand there.
    pub fn placeholders(&self) -> Vec<&str> {
        match &self.parts {
            Parts::Payload(_, text) => text.names().collect(),
            Parts::Parameters(pairs) => {
                pairs.iter().flat_map(|(name, value)| name.names().chain(value.names())).collect()
            }
        }
    }

    /// Whether nothing would be sent: an empty payload, or no parameters.
    pub fn is_empty(&self) -> bool {
        match &self.parts {
            Parts::Payload(_, text) => text.is_blank(),
            Parts::Parameters(pairs) => pairs.is_empty(),
        }
    }

    pub(super) const fn parts(&self) -> &Parts {
        &self.parts
    }
}

fn within(what: &'static str, bytes: usize) -> Result<(), TemplateFault> {
    if bytes < TEMPLATE_LIMIT {
        Ok(())
    } else {
        Err(TemplateFault::TooLarge { what, bytes, limit: TEMPLATE_LIMIT })
    }
}

fn bounded<'t>(texts: impl Iterator<Item = &'t Text>) -> Result<(), TemplateFault> {
    let count: usize = texts.map(|text| text.names().count()).sum();
    if count > MOST_PLACEHOLDERS {
        return Err(TemplateFault::TooMany { what: "placeholders", limit: MOST_PLACEHOLDERS });
    }
    Ok(())
}
