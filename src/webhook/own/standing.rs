//! A digest of all that the requests of an own webhook are made of, so that what a node holds can be
//! compared with what is stored. Made of what is sealed as it is opened: who seals it anew changes
//! nothing of it.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use crate::crypto::SecretText;
use crate::store::entity::{own_webhook, webhook, webhook_rule};

/// A digest that is being made.
pub(super) struct Standing(Context);

impl Standing {
    /// Of the rows of a webhook, without what is sealed in them.
    pub(super) fn new(row: &webhook::Model, own: Option<&own_webhook::Model>) -> Self {
        let mut standing = Self(Context::new(&SHA256));
        standing.add(Some(row.url.as_str()));
        standing.add(row.name.as_deref());
        standing.add(row.ignore_source_id.as_deref());
        let alias = own.map(|own| own.alias.to_string());
        standing.add(alias.as_deref());
        standing.add(own.map(|own| own.connection.as_str()));
        standing.add(own.map(|own| own.settings.as_str()));
        standing
    }

    /// Adds what was sealed; it may be missing, or not be readable here.
    pub(super) fn add_secret(&mut self, secret: Option<&SecretText>) {
        self.add(secret.map(SecretText::expose));
    }

    /// Adds a trigger or an automation.
    pub(super) fn add_rule(&mut self, rule: &webhook_rule::Model) {
        let id = rule.id.to_string();
        let after = rule.after_minutes.map(|minutes| minutes.to_string());
        for part in [
            Some(id.as_str()),
            Some(rule.kind.as_str()),
            Some(rule.name.as_str()),
            Some(rule.conditions.as_str()),
            Some(rule.content.as_str()),
            after.as_deref(),
            rule.unless.as_deref(),
        ] {
            self.add(part);
        }
    }

    /// Each part with its length, so that no two lists of parts are alike.
    fn add(&mut self, part: Option<&str>) {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        self.0.update(&length.to_be_bytes());
        self.0.update(part.unwrap_or_default().as_bytes());
    }

    /// The digest, in hex.
    pub(super) fn finish(self) -> String {
        let digest = self.0.finish();
        digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a text cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn rule(content: &str, unless: Option<&str>) -> webhook_rule::Model {
        webhook_rule::Model {
            id: Uuid::from_u128(1),
            org_id: "1".to_owned(),
            kind: "trigger".to_owned(),
            webhook_id: Uuid::from_u128(2),
            name: "New".to_owned(),
            position: 1,
            is_active: 1,
            conditions: "{}".to_owned(),
            content: content.to_owned(),
            after_minutes: None,
            unless: unless.map(str::to_owned),
            created_by: String::new(),
            created_at: 0,
            modified_by: String::new(),
            modified_at: 0,
        }
    }

    fn of(secrets: &[Option<&str>], rules: &[webhook_rule::Model]) -> String {
        let mut standing = Standing(Context::new(&SHA256));
        for secret in secrets {
            standing.add_secret(secret.map(SecretText::new).as_ref());
        }
        for rule in rules {
            standing.add_rule(rule);
        }
        standing.finish()
    }

    #[test]
    fn whatever_differs_is_seen() {
        let one = rule("a", None);
        let all = [
            of(&[Some("ab"), Some("c")], &[]),
            of(&[Some("a"), Some("bc")], &[]),
            of(&[Some("abc"), None], &[]),
            of(&[Some("abc"), Some("")], &[]),
            of(&[Some("abc"), None], std::slice::from_ref(&one)),
            of(&[Some("abc"), None], &[rule("b", None)]),
            of(&[Some("abc"), None], &[rule("a", Some("{}"))]),
            of(&[Some("abc"), None], &[one.clone(), one.clone()]),
        ];
        for (index, digest) in all.iter().enumerate() {
            assert_eq!(digest.len(), 64);
            assert!(!all[..index].contains(digest), "{index}");
        }
        assert_eq!(all[4], of(&[Some("abc"), None], &[one]));
    }
}
