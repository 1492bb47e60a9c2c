//! The desk dialect's `HASH`: HMAC-SHA256 in lower-case hex, keyed by the manifest's `secret`.

use std::fmt::Write;

use aws_lc_rs::hmac;

use super::{CryptoError, SecretText, constant_time_equal};

/// Length of the hex text.
const HEX_LENGTH: usize = 64;

/// The `HASH` header of a message.
///
/// # Errors
/// Where the secret is empty: anybody could make that hash.
pub fn desk_hash(secret: &SecretText, message: &[u8]) -> Result<String, CryptoError> {
    if secret.is_empty() {
        return Err(CryptoError::UnfitSecret { what: "the extension's secret", rule: "not empty" });
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, message);
    Ok(hex(tag.as_ref()))
}

/// Whether `given` is the `HASH` of the message, in a time that depends on its length only.
///
/// Upper-case digits pass too; an empty secret matches nothing.
pub fn verify_desk_hash(secret: &SecretText, message: &[u8], given: &str) -> bool {
    let Ok(expected) = desk_hash(secret, message) else {
        return false;
    };
    given.len() == HEX_LENGTH
        && constant_time_equal(expected.as_bytes(), given.to_ascii_lowercase().as_bytes())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, whose key is a text.
    const KEY: &str = "Jefe";
    const MESSAGE: &[u8] = b"what do ya want for nothing?";
    const HASH: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn it_is_the_rfc_4231_value() {
        assert_eq!(desk_hash(&SecretText::new(KEY), MESSAGE).unwrap(), HASH);
        assert!(verify_desk_hash(&SecretText::new(KEY), MESSAGE, HASH));
        assert!(verify_desk_hash(&SecretText::new(KEY), MESSAGE, &HASH.to_uppercase()));
    }

    #[test]
    fn whatever_differs_is_refused() {
        let secret = SecretText::new(KEY);
        for position in 0..HASH.len() {
            let mut changed = HASH.to_owned().into_bytes();
            changed[position] = if changed[position] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!verify_desk_hash(&secret, MESSAGE, &changed), "{position}");
            assert!(!verify_desk_hash(&secret, MESSAGE, &HASH[..position]), "{position}");
        }
        assert!(!verify_desk_hash(&secret, b"", HASH));
        assert!(!verify_desk_hash(&SecretText::new("jefe"), MESSAGE, HASH));
        assert!(!verify_desk_hash(&secret, MESSAGE, &format!("{HASH}0")));
    }

    #[test]
    fn an_empty_secret_signs_and_matches_nothing() {
        let empty = SecretText::new("");
        assert!(desk_hash(&empty, MESSAGE).is_err());
        let forged = hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), MESSAGE).as_ref());
        assert!(!verify_desk_hash(&empty, MESSAGE, &forged));
    }
}
