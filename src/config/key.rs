//! The dotted name of a setting.

use std::fmt;

/// The name of a setting as segments: `delivery.deadline` is `["delivery", "deadline"]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(Vec<String>);

/// The prefix of environment variables that set something.
pub(crate) const VARIABLE_PREFIX: &str = "MORTISE_";

impl Key {
    /// The name from its segments.
    pub(crate) fn new(segments: Vec<String>) -> Self {
        Self(segments)
    }

    /// The name from an environment variable's, where that starts with the prefix.
    pub(crate) fn from_variable(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(VARIABLE_PREFIX)?;
        Some(Self(rest.split("__").map(str::to_lowercase).collect()))
    }

    /// The environment variable that sets this.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.0.join("__").to_uppercase())
    }

    /// The segments.
    pub(crate) fn segments(&self) -> &[String] {
        &self.0
    }

    /// This name with one more segment.
    pub(crate) fn child(&self, segment: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment.to_owned());
        Self(segments)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(".")?;
            }
            let bare = !segment.is_empty()
                && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-_<>".contains(c));
            if bare {
                formatter.write_str(segment)?;
            } else {
                write!(formatter, "{segment:?}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_dotted_names_are_the_same_thing() {
        let key = Key::from("delivery.retention.payload");
        assert_eq!(key.variable(), "MORTISE_DELIVERY__RETENTION__PAYLOAD");
        assert_eq!(Key::from_variable("MORTISE_DELIVERY__RETENTION__PAYLOAD"), Some(key));
        assert_eq!(Key::from_variable("PATH"), None);
    }

    #[test]
    fn odd_segments_are_quoted() {
        let key = Key::from("oauth.providers").child("Zoho Oauth").child("issuer");
        assert_eq!(key.to_string(), "oauth.providers.\"Zoho Oauth\".issuer");
    }
}
