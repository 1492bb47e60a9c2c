//! What a vendor checks: Standard Webhooks signatures and the `HASH` of callbacks.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::received::Received;

/// How far a timestamp may be from the moment of arrival.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What a vendor knows of an extension.
#[derive(Clone, Default)]
pub struct Secrets {
    /// The secrets of Standard Webhooks that may have signed: `whsec_…`, or plain text.
    pub signing: Vec<String>,
    /// The Ed25519 keys that may have signed: `whpk_…`.
    pub public_keys: Vec<String>,
    /// The manifest's `secret`, which makes `HASH`.
    pub manifest: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// What one signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// There is none.
    Absent,
    /// There is one, but no secret to check it with.
    Unchecked,
    /// It is right.
    Valid,
    /// It is wrong, and why.
    Invalid(&'static str),
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("absent"),
            Self::Unchecked => formatter.write_str("not checked, no secret is known"),
            Self::Valid => formatter.write_str("valid"),
            Self::Invalid(why) => write!(formatter, "INVALID: {why}"),
        }
    }
}

/// What the signatures of a request are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// `webhook-signature`.
    pub standard: Check,
    /// `HASH`.
    pub hash: Check,
}

impl Verification {
    /// Whether at least one signature is right and none is wrong.
    pub fn is_trusted(&self) -> bool {
        let checks = [self.standard, self.hash];
        checks.contains(&Check::Valid)
            && !checks.iter().any(|check| matches!(check, Check::Invalid(_)))
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "signature {}, HASH {}", self.standard, self.hash)
    }
}

/// Checks the signatures of a request at the moment of its arrival.
pub fn verify(received: &Received, secrets: &Secrets) -> Verification {
    Verification { standard: standard(received, secrets), hash: hash(received, secrets) }
}

/// `HASH` as a host computes it: hexadecimal HMAC-SHA256 of the raw body.
pub fn hash_of(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .fold(String::with_capacity(64), |text, pair| text + &pair)
}

fn standard(received: &Received, secrets: &Secrets) -> Check {
    let Some(signatures) = received.header("webhook-signature") else { return Check::Absent };
    let (Some(id), Some(timestamp)) =
        (received.header("webhook-id"), received.header("webhook-timestamp"))
    else {
        return Check::Invalid("webhook-id or webhook-timestamp is missing");
    };
    let Ok(seconds) = timestamp.parse::<i64>() else {
        return Check::Invalid("webhook-timestamp is not a number of seconds");
    };
    if received.arrived.seconds().abs_diff(seconds) > TOLERANCE.as_secs() {
        return Check::Invalid("webhook-timestamp is more than 5 minutes off");
    }
    if secrets.signing.is_empty() && secrets.public_keys.is_empty() {
        return Check::Unchecked;
    }
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(&received.body);
    let fits = |signature: &str| {
        let Some((version, encoded)) = signature.split_once(',') else { return false };
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        match version {
            "v1" => secrets.signing.iter().any(|secret| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key_bytes(secret));
                hmac::verify(&key, &content, &bytes).is_ok()
            }),
            "v1a" => secrets.public_keys.iter().any(|key| {
                let Ok(key) = STANDARD.decode(key.trim_start_matches("whpk_")) else {
                    return false;
                };
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                key.verify(&content, &bytes).is_ok()
            }),
            _ => false,
        }
    };
    if signatures.split(' ').any(fits) {
        Check::Valid
    } else {
        Check::Invalid("no signature fits a known secret")
    }
}

/// The key of a secret: the bytes behind `whsec_`, or the text itself.
fn key_bytes(secret: &str) -> Vec<u8> {
    let decoded = secret.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

fn hash(received: &Received, secrets: &Secrets) -> Check {
    let Some(given) = received.header("HASH") else { return Check::Absent };
    let Some(secret) = &secrets.manifest else { return Check::Unchecked };
    let expected = hash_of(secret, &received.body);
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(
        expected.as_bytes(),
        given.to_ascii_lowercase().as_bytes(),
    );
    if same.is_ok() { Check::Valid } else { Check::Invalid("it does not fit the body") }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::seam::{Clock, Timestamp};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn received(headers: &[(&str, &str)], body: &'static [u8], arrived: Timestamp) -> Received {
        Received {
            number: 1,
            connection: 1,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            arrived,
            instant: Clock::default().instant(),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: None,
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            body: bytes::Bytes::from_static(body),
        }
    }

    fn secrets() -> Secrets {
        Secrets { signing: vec![SECRET.to_owned()], ..Secrets::default() }
    }

    #[test]
    fn signatures_of_the_reference_library_are_accepted() {
        let now = Clock::default().now();
        let webhook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        let signature = webhook.sign("msg_1", now.seconds(), b"[1]").expect("a signature");
        let timestamp = now.seconds().to_string();
        let both = format!("v1,{} {signature}", STANDARD.encode([0_u8; 32]));
        let headers = [
            ("Webhook-Id", "msg_1"),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", both.as_str()),
        ];
        let good = received(&headers, b"[1]", now);
        assert_eq!(verify(&good, &secrets()).standard, Check::Valid);
        assert!(verify(&good, &secrets()).is_trusted());
        assert_eq!(verify(&good, &Secrets::default()).standard, Check::Unchecked);
        let changed = received(&headers, b"[2]", now);
        assert!(matches!(verify(&changed, &secrets()).standard, Check::Invalid(_)));
        let late = received(&headers, b"[1]", now.plus(Duration::from_secs(301)));
        assert!(matches!(verify(&late, &secrets()).standard, Check::Invalid(_)));
        let other = received(&[("webhook-id", "msg_2"), headers[1], headers[2]], b"[1]", now);
        assert!(matches!(verify(&other, &secrets()).standard, Check::Invalid(_)));
    }

    #[test]
    fn ed25519_signatures_are_checked() {
        use aws_lc_rs::signature::KeyPair as _;
        let pair = signature::Ed25519KeyPair::generate().expect("a key pair");
        let now = Clock::default().now();
        let content = format!("m.{}.[1]", now.seconds());
        let signature = format!("v1a,{}", STANDARD.encode(pair.sign(content.as_bytes())));
        let timestamp = now.seconds().to_string();
        let headers = [
            ("webhook-id", "m"),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let key = format!("whpk_{}", STANDARD.encode(pair.public_key()));
        let secrets = Secrets { public_keys: vec![key], ..Secrets::default() };
        assert_eq!(verify(&received(&headers, b"[1]", now), &secrets).standard, Check::Valid);
        let changed = received(&headers, b"[2]", now);
        assert!(matches!(verify(&changed, &secrets).standard, Check::Invalid(_)));
    }

    #[test]
    fn hash_is_the_hmac_of_the_body() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = b"what do ya want for nothing?";
        assert_eq!(hash_of("Jefe", body), expected);
        let secrets = Secrets { manifest: Some("Jefe".to_owned()), ..Secrets::default() };
        let now = Clock::default().now();
        assert_eq!(
            verify(&received(&[("hash", expected)], body, now), &secrets).hash,
            Check::Valid
        );
        let wrong = verify(&received(&[("HASH", expected)], b"else", now), &secrets);
        assert!(matches!(wrong.hash, Check::Invalid(_)) && !wrong.is_trusted());
    }
}
