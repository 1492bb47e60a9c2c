//! Secrets that cannot be printed.

use std::fmt;

use aws_lc_rs::constant_time;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret text. It is wiped when dropped, and neither printed nor serialised.
///
/// Equality takes the same time wherever the texts differ.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

/// Secret bytes. They are wiped when dropped, and neither printed nor serialised.
///
/// Equality takes the same time wherever the bytes differ.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretText {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SecretBytes {
    /// Takes bytes into custody.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves, for the one place that must have them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        constant_time_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for SecretText {}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        constant_time_equal(&self.0, &other.0)
    }
}

impl Eq for SecretBytes {}

/// Compares in a time that depends on the lengths only.
pub fn constant_time_equal(left: &[u8], right: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        #[derive(Debug)]
        struct Holder {
            text: SecretText,
            bytes: SecretBytes,
        }
        let holder =
            Holder { text: SecretText::new("tip-top"), bytes: SecretBytes::new(*b"tip-top") };
        let shown = format!("{holder:?} {holder:#?}");
        assert!(!shown.contains("tip-top") && !shown.contains("116"), "{shown}");
        assert!(shown.contains("[hidden]"));
        assert_eq!(holder.text.expose().as_bytes(), holder.bytes.expose());
    }

    #[test]
    fn equality_looks_at_every_byte_and_the_length() {
        assert!(constant_time_equal(b"", b""));
        assert!(constant_time_equal(b"abc", b"abc"));
        for (left, right) in [("abc", "abd"), ("abc", "xbc"), ("abc", "ab"), ("", "a")] {
            assert!(!constant_time_equal(left.as_bytes(), right.as_bytes()), "{left} {right}");
            assert_ne!(SecretText::new(left), SecretText::new(right));
        }
        assert_eq!(SecretBytes::new(*b"abc"), SecretBytes::new(*b"abc"));
    }

    #[test]
    fn a_configuration_can_hold_a_secret() {
        let text: SecretText = serde_json::from_str("\"s3cret\"").unwrap();
        assert_eq!(text.expose(), "s3cret");
    }
}
