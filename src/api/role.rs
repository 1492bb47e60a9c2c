//! Roles and scopes: what a token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whom a token stands for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Everything.
    Operator,
    /// The catalogue and the lifecycle.
    Marketplace,
    /// The help desk itself, which posts events.
    Host,
    /// One vendor: its extensions, their installations and deliveries.
    Vendor,
    /// One org: its installations and webhooks.
    Admin,
    /// As an admin, but only to look.
    Viewer,
}

/// What a token must be bound to, by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// To nothing.
    Platform,
    /// To one vendor.
    Vendor,
    /// To one org.
    Org,
}

impl Role {
    /// Every role.
    pub const ALL: &[Self] =
        &[Self::Operator, Self::Marketplace, Self::Host, Self::Vendor, Self::Admin, Self::Viewer];

    /// The name in requests, answers and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Marketplace => "marketplace",
            Self::Host => "host",
            Self::Vendor => "vendor",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }

    /// What a token of this role belongs to.
    pub const fn binding(self) -> Binding {
        match self {
            Self::Operator | Self::Marketplace | Self::Host => Binding::Platform,
            Self::Vendor => Binding::Vendor,
            Self::Admin | Self::Viewer => Binding::Org,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A text is not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; the roles are operator, marketplace, host, vendor, admin and viewer")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|role| role.as_str() == text);
        known.copied().ok_or_else(|| UnknownRole(text.chars().take(64).collect()))
    }
}

/// A scope in the reference's form, such as `Desk.webhooks.READ`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Box<str>);

/// A text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope must be two to four names of letters, digits, `_` or `-` with dots between them, such \
     as `Desk.webhooks.READ`, at most 100 characters"
)]
pub struct InvalidScope;

impl Scope {
    /// Checks a text.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidScope> {
        let text = text.as_ref();
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        let names = text.split('.').count();
        if text.len() <= 100 && (2..=4).contains(&names) && text.split('.').all(is_name) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidScope)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it gives what a needed scope asks for: itself, or as `…ALL` of the same group.
    pub fn covers(&self, needed: &str) -> bool {
        if &*self.0 == needed {
            return true;
        }
        let group = |scope: &'_ str| scope.rsplit_once('.').map(|(group, _)| group.to_owned());
        self.0.ends_with(".ALL") && group(&self.0) == group(needed)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidScope;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.into()
    }
}

/// The scopes that a token was narrowed to; one at the least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Box<[Scope]>);

impl Scopes {
    /// The scopes in order, each once; nothing where there are none, which means not narrowed.
    pub fn new(mut scopes: Vec<Scope>) -> Option<Self> {
        scopes.sort();
        scopes.dedup();
        (!scopes.is_empty()).then(|| Self(scopes.into()))
    }

    /// Whether one of them gives what a needed scope asks for.
    pub fn cover(&self, needed: &str) -> bool {
        self.0.iter().any(|scope| scope.covers(needed))
    }

    /// The single scopes.
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// As the database keeps them: with spaces between.
    pub(crate) fn column(scopes: Option<&Self>) -> String {
        scopes.map(ToString::to_string).unwrap_or_default()
    }

    /// Reads what [`Scopes::column`] wrote.
    pub(crate) fn from_column(text: &str) -> Result<Option<Self>, InvalidScope> {
        let scopes = text.split_ascii_whitespace().map(Scope::new).collect::<Result<_, _>>()?;
        Ok(Self::new(scopes))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, scope) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(formatter, "{space}{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::new(text).unwrap()
    }

    #[test]
    fn all_covers_its_group_and_nothing_else() {
        assert!(scope("Desk.webhooks.READ").covers("Desk.webhooks.READ"));
        assert!(scope("Desk.webhooks.ALL").covers("Desk.webhooks.READ"));
        for (given, needed) in [
            ("Desk.webhooks.READ", "Desk.webhooks.UPDATE"),
            ("Desk.events.ALL", "Desk.webhooks.READ"),
            ("Desk.ALL", "Desk.webhooks.READ"),
            ("Desk.webhooks.READ", "Desk.webhooks.ALL"),
            ("Desk.webhooks.xALL", "Desk.webhooks.READ"),
        ] {
            assert!(!scope(given).covers(needed), "{given} {needed}");
        }
    }

    #[test]
    fn scopes_come_back_from_their_column() {
        let scopes = Scopes::new(vec![scope("b.c"), scope("a.b"), scope("b.c")]);
        let column = Scopes::column(scopes.as_ref());
        assert_eq!(column, "a.b b.c");
        assert_eq!(Scopes::from_column(&column).unwrap(), scopes);
        assert_eq!(Scopes::from_column("").unwrap(), None);
        assert!(Scopes::from_column("a..b").is_err());
    }

    #[test]
    fn names_of_roles_are_read_back() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().is_err());
    }
}
