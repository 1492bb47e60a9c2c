//! What makes two packages the same, and which parts of a manifest are nobody's to see.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

/// What stands in a stored manifest where a secret stood.
pub const SEALED: &str = "[sealed]";

/// Takes the secrets out of a manifest: `secret`, `deskOauth.clientSecret` and
/// `TPAOauth[].clientSecret`. Gives the manifest with [`SEALED`] in their places, and the secrets
/// by their JSON pointers.
pub fn split_secrets(manifest: &Value) -> (Value, BTreeMap<String, String>) {
    let mut without = manifest.clone();
    let mut secrets = BTreeMap::new();
    let mut pointers = vec!["/secret".to_owned(), "/deskOauth/clientSecret".to_owned()];
    let services = manifest.get("TPAOauth").and_then(Value::as_array).map_or(0, Vec::len);
    pointers.extend((0..services).map(|index| format!("/TPAOauth/{index}/clientSecret")));
    for pointer in pointers {
        if let Some(place) = without.pointer_mut(&pointer)
            && let Value::String(secret) = place
        {
            let secret = std::mem::replace(secret, SEALED.to_owned());
            secrets.insert(pointer, secret);
        }
    }
    (without, secrets)
}

/// `sha256:` and the hex SHA-256 of the canonical JSON (RFC 8785) of a package's two files, the
/// manifest without its secrets: order of keys and white space make no difference.
pub fn digest(manifest_without_secrets: &Value, resources: &Value) -> String {
    let both = json!({ "manifest": manifest_without_secrets, "resources": resources });
    // Canonicalising fails only on numbers that a `Value` can't hold; plain JSON has sorted keys too.
    let bytes = serde_json_canonicalizer::to_vec(&both).unwrap_or_else(|_| both.to_string().into());
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let mut text = "sha256:".to_owned();
    for byte in hash.as_ref() {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_out_and_change_no_digest() {
        let manifest = |secret: &str| {
            json!({
                "secret": secret,
                "service": "DESK",
                "deskOauth": {"clientSecret": secret},
                "TPAOauth": [{"name": "a"}, {"clientSecret": secret}],
            })
        };
        let (without, secrets) = split_secrets(&manifest("hush"));
        assert!(!without.to_string().contains("hush"));
        assert_eq!(
            secrets.keys().collect::<Vec<_>>(),
            ["/TPAOauth/1/clientSecret", "/deskOauth/clientSecret", "/secret"]
        );
        assert!(secrets.values().all(|secret| secret == "hush"));
        assert_eq!(
            digest(&without, &json!({})),
            digest(&split_secrets(&manifest("other")).0, &json!({}))
        );
    }

    #[test]
    fn the_digest_is_that_of_the_canonical_form() {
        let one = digest(&json!({"b": 1, "a": 10.0}), &json!({}));
        // SHA-256 of {"manifest":{"a":10,"b":1},"resources":{}}.
        assert_eq!(one, "sha256:cf05b77205134896166829024bae8864b22b9b3f4010cafaf40f49bda142e53f");
        assert_ne!(one, digest(&json!({"b": 1, "a": 11}), &json!({})));
    }
}
