//! What a browser is sent to an authorisation server for.

use uuid::Uuid;

/// What a browser is sent to an authorisation server for: it decides what becomes of the tokens.
/// The row of the state says it, never the request that brings the state back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthorizationPurpose {
    /// The first authorisation of an installation: makes it active.
    Install,
    /// Consent to a version that asks for more.
    Upgrade {
        /// The consent that waits.
        consent_id: Uuid,
    },
    /// New tokens for a connection that all of the org use.
    Reauthorize,
    /// A connection to a service of somebody else that all of the org use.
    Connector,
    /// A connection of one user, whether the host's or somebody else's.
    User {
        /// The user, as the host names him.
        user_id: String,
    },
}

impl AuthorizationPurpose {
    /// The name in the database.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade { .. } => "upgrade",
            Self::Reauthorize => "reauthorize",
            Self::Connector => "connector",
            Self::User { .. } => "user",
        }
    }

    /// The consent that waits, where there is one.
    pub const fn consent_id(&self) -> Option<Uuid> {
        match self {
            Self::Upgrade { consent_id } => Some(*consent_id),
            _ => None,
        }
    }

    /// Whose connection it is; empty where it is everybody's.
    pub fn user_id(&self) -> &str {
        match self {
            Self::User { user_id } => user_id,
            _ => "",
        }
    }

    /// Reads the columns of a row; nothing where they make no sense together.
    pub fn from_columns(name: &str, consent_id: Option<Uuid>, user_id: &str) -> Option<Self> {
        match (name, consent_id, user_id) {
            ("install", None, "") => Some(Self::Install),
            ("upgrade", Some(consent_id), "") => Some(Self::Upgrade { consent_id }),
            ("reauthorize", None, "") => Some(Self::Reauthorize),
            ("connector", None, "") => Some(Self::Connector),
            ("user", None, user) if !user.is_empty() => {
                Some(Self::User { user_id: user.to_owned() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_survives_its_columns_and_nothing_else_is_one() {
        let consent = Uuid::from_u128(7);
        for purpose in [
            AuthorizationPurpose::Install,
            AuthorizationPurpose::Upgrade { consent_id: consent },
            AuthorizationPurpose::Reauthorize,
            AuthorizationPurpose::Connector,
            AuthorizationPurpose::User { user_id: "u-1".to_owned() },
        ] {
            let read = AuthorizationPurpose::from_columns(
                purpose.name(),
                purpose.consent_id(),
                purpose.user_id(),
            );
            assert_eq!(read, Some(purpose));
        }
        for (name, consent, user) in [
            ("install", Some(consent), ""),
            ("install", None, "u"),
            ("upgrade", None, ""),
            ("user", None, ""),
            ("connector", None, "u"),
            ("", None, ""),
            ("Install", None, ""),
        ] {
            assert_eq!(AuthorizationPurpose::from_columns(name, consent, user), None, "{name}");
        }
    }
}
