//! Newtypes for every id, so that no two can be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines an id of our own: a time-ordered UUID.
macro_rules! own_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
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
    /// A job that sends deliveries again, or rolls a version out.
    JobId,
    /// A notice.
    NoticeId,
    /// An event as it was accepted.
    EventId,
    /// One event on its way to one webhook.
    DeliveryId,
    /// An API token.
    TokenId,
    /// An extension in the catalogue.
    ExtensionId,
    /// One published version of an extension.
    VersionId,
    /// An address that takes any request.
    InspectorId,
    /// Somebody who follows deliveries.
    ListenerId,
}

/// Why a text cannot be an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidIdentifier {
    /// What was to be named.
    pub what: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
}

/// Defines an id that others made: an opaque string under a rule.
macro_rules! foreign_id {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidIdentifier> {
                let text = text.as_ref();
                if $check(text) {
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

        impl TryFrom<String> for $name {
            type Error = InvalidIdentifier;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
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
    OrgId, "orgId", "1 to 64 characters without control characters", is_host_id;
    /// A department of an org, as the host names it.
    DepartmentId, "departmentId", "1 to 64 characters without control characters", is_host_id;
    /// The key that an extension has for all its versions.
    ExtensionKey, "an extension key", "lower-case letters, digits and hyphens, 1 to 64, not starting with a hyphen", is_extension_key;
    /// The vendor that publishes extensions.
    VendorKey, "a vendor key", "lower-case letters, digits and hyphens, 1 to 64, not starting with a hyphen", is_extension_key;
}

fn is_host_id(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_extension_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && allowed(bytes[0])
        && bytes.iter().all(|&byte| allowed(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_keys_follow_the_pattern() {
        for good in ["a", "9", "ticket-mirror", "a--b", &"x".repeat(64)] {
            assert!(ExtensionKey::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a b", "ä", &"x".repeat(65)] {
            assert!(ExtensionKey::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_ids_are_opaque_but_bounded() {
        for good in ["1", "761336011", "org/ä #1", &"ä".repeat(64)] {
            assert!(OrgId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "\u{7f}", &"x".repeat(65)] {
            assert!(OrgId::new(bad).is_err(), "{bad:?}");
        }
    }
}
