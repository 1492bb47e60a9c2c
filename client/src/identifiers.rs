//! A type for every id, so that no two can be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines an id that the server makes.
macro_rules! own_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

own_id! {
    /// One installation of an extension in one org; a reinstall is a new one.
    InstallationId,
    /// A webhook.
    WebhookId,
    /// One event on its way to one webhook.
    DeliveryId,
    /// A job that sends deliveries again, or rolls a version out.
    JobId,
    /// An API token.
    TokenId,
    /// An extension in the catalogue.
    ExtensionId,
    /// Somebody who follows deliveries.
    ListenerId,
}

/// Why a text cannot be an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidIdentifier {
    what: &'static str,
    rule: &'static str,
}

/// Defines an id that others made: a text under a rule. What a server answers is taken as it is.
macro_rules! foreign_id {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text by the server's rule.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidIdentifier> {
                let text = text.into();
                if $check(&text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidIdentifier { what: $what, rule: $rule })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidIdentifier;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }
    )+};
}

foreign_id! {
    /// An org of the host, as the host names it.
    OrgId, "an org's id", "1 to 64 characters without control characters", is_host_id;
    /// The key that an extension has for all its versions.
    ExtensionKey, "an extension's key", "lower-case letters, digits and hyphens, 1 to 64, not starting with a hyphen", is_key;
    /// The vendor that publishes extensions.
    VendorKey, "a vendor's key", "lower-case letters, digits and hyphens, 1 to 64, not starting with a hyphen", is_key;
}

fn is_host_id(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_key(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(is_fit)
        && text.bytes().all(|byte| is_fit(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_the_servers() {
        for good in ["a", "ticket-mirror", "0-9", &"k".repeat(64)] {
            assert_eq!(ExtensionKey::new(good).expect("a key").as_str(), good);
        }
        for bad in ["", "-a", "A", "a_b", "a b", &"k".repeat(65)] {
            assert!(ExtensionKey::new(bad).is_err(), "{bad}");
            assert!(VendorKey::new(bad).is_err(), "{bad}");
        }
        assert!(OrgId::new("60001 ü").is_ok());
        for bad in ["", "a\n", &"ü".repeat(65)] {
            let told = OrgId::new(bad).expect_err("no org").to_string();
            assert!(told.starts_with("an org's id must be 1 to 64"), "{told}");
        }
    }
}
