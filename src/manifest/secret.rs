//! The secrets in a manifest: cut out before anything is stored, digested, compared or shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The key of the object that stands in a stored manifest where a secret was. It is no text, so no
/// manifest that is published can hold it in that place.
pub const SEALED_MARKER: &str = "$sealed";

/// A secret as a manifest has it.
#[derive(Clone)]
pub enum DeclaredSecret {
    /// The manifest was just sent; the secret is still in it.
    Plain(SecretString),
    /// The manifest was stored; the secret is sealed elsewhere.
    Sealed,
}

impl fmt::Debug for DeclaredSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain(_) => "Plain(…)",
            Self::Sealed => "Sealed",
        })
    }
}

impl DeclaredSecret {
    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Plain(text.as_str().into())),
            value if *value == marker() => Some(Self::Sealed),
            _ => None,
        }
    }
}

/// A stored manifest lacks the place of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored manifest has no sealed secret at {pointer}")]
pub struct MissingSecret {
    /// The place, as a JSON Pointer.
    pub pointer: String,
}

fn marker() -> Value {
    json!({ SEALED_MARKER: true })
}

/// Where a manifest holds secrets, as JSON Pointers, as far as these places are there.
fn places(manifest: &Value) -> Vec<String> {
    let mut places = vec!["/secret".to_owned(), "/deskOauth/clientSecret".to_owned()];
    let clients = manifest.get("TPAOauth").and_then(Value::as_array).map_or(0, Vec::len);
    places.extend((0..clients).map(|client| format!("/TPAOauth/{client}/clientSecret")));
    places.retain(|place| manifest.pointer(place).is_some());
    places
}

/// Cuts the secrets out of a manifest. In their places stays a marker that is the same whatever
/// the secret was, so that a digest says nothing about it. Gives back each secret with its place.
pub fn split_secrets(manifest: &Value) -> (Value, Vec<(String, SecretString)>) {
    let mut stripped = manifest.clone();
    let mut secrets = Vec::new();
    for place in places(manifest) {
        if let Some(value) = stripped.pointer_mut(&place)
            && let Value::String(text) = value
        {
            secrets.push((place, SecretString::from(std::mem::take(text))));
            *value = marker();
        }
    }
    (stripped, secrets)
}

/// Puts secrets back to their places in a stored manifest.
pub fn join_secrets(
    stripped: &Value,
    secrets: &[(String, SecretString)],
) -> Result<Value, MissingSecret> {
    let mut manifest = stripped.clone();
    for (pointer, secret) in secrets {
        let place = manifest.pointer_mut(pointer).filter(|value| **value == marker());
        let place = place.ok_or_else(|| MissingSecret { pointer: pointer.clone() })?;
        *place = secret.expose_secret().into();
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::super::digest::digest;
    use super::*;

    #[test]
    fn secrets_are_cut_out_and_put_back() {
        let manifest = json!({
            "secret": "one", "name": "secret",
            "deskOauth": { "clientId": "id", "clientSecret": "two" },
            "TPAOauth": [{ "clientSecret": "three" }, { "clientId": "id" }, { "clientSecret": 4 }],
        });
        let (stripped, secrets) = split_secrets(&manifest);
        let places: Vec<_> = secrets.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["/secret", "/deskOauth/clientSecret", "/TPAOauth/0/clientSecret"]);
        let text = stripped.to_string() + &format!("{secrets:?}");
        assert!(!["one", "two", "three"].iter().any(|secret| text.contains(secret)), "{text}");
        assert_eq!(join_secrets(&stripped, &secrets).expect("joined"), manifest);
        assert_eq!(split_secrets(&stripped).0, stripped);
        assert!(join_secrets(&json!({}), &secrets).is_err());
    }

    #[test]
    fn the_digest_says_nothing_about_the_secret() {
        let of = |secret: &str| digest(&split_secrets(&json!({ "secret": secret })).0, &json!({}));
        assert_eq!(of("one"), of("two"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = DeclaredSecret::read(&json!("hush")).expect("a secret");
        assert_eq!(format!("{secret:?}"), "Plain(…)");
    }
}
