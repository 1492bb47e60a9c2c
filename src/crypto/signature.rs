//! Standard Webhooks signatures: HMAC-SHA256 (`v1`) and Ed25519 (`v1a`) over
//! `{id}.{timestamp}.{body}`.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{
    CryptoError, Ed25519PublicKey, Ed25519SigningKey, SecretBytes, SecretText, constant_time_equal,
};
use crate::seam::{Randomness, Timestamp};

const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret that we make.
const GENERATED_LENGTH: usize = 32;
/// Length of the base64 of an HMAC-SHA256 tag.
const V1_LENGTH: usize = 44;
/// Decimal digits of the longest timestamp and its sign.
const TIMESTAMP_LENGTH: usize = 20;
/// A longer id or signature header is refused unread.
const LONGEST_ID: usize = 256;
const LONGEST_SIGNATURES: usize = 4_096;

/// How far a timestamp may be off, in either direction, where nothing else is agreed upon.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_mins(5);

/// A symmetric signing secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(SecretBytes);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecret([hidden])")
    }
}

impl SigningSecret {
    /// Makes a new secret of 32 bytes.
    pub fn generate(randomness: &Randomness) -> Result<Self, CryptoError> {
        let bytes = Zeroizing::new(
            randomness.bytes::<GENERATED_LENGTH>().map_err(|_| CryptoError::Randomness)?,
        );
        Ok(Self(SecretBytes::new(bytes.as_slice())))
    }

    /// Reads `whsec_` and the base64 of 24 to 64 bytes, as Standard Webhooks has it.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        text.strip_prefix(SECRET_PREFIX)
            .and_then(|rest| STANDARD.decode(rest).ok())
            .map(SecretBytes::new)
            .filter(|bytes| (24..=64).contains(&bytes.expose().len()))
            .map(Self)
            .ok_or(CryptoError::UnfitSecret {
                what: "a signing secret",
                rule: "whsec_ and the base64 of 24 to 64 bytes",
            })
    }

    /// Takes bytes that a customer chose: 1 to 256, used as they are.
    pub fn from_chosen_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        if (1..=256).contains(&bytes.len()) {
            Ok(Self(SecretBytes::new(bytes)))
        } else {
            Err(CryptoError::UnfitSecret { what: "a signing secret", rule: "1 to 256 bytes" })
        }
    }

    /// Writes `whsec_…`, for its owner's eyes or to be sealed.
    pub fn encode(&self) -> SecretText {
        SecretText::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(self.0.expose())))
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

/// Signs with all live secrets at once. Made once per webhook; its keys are ready for use.
#[derive(Clone)]
pub struct Signer {
    keys: Box<[hmac::Key]>,
    key_pairs: Box<[Arc<Ed25519SigningKey>]>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Signer")
            .field("v1_keys", &self.keys.len())
            .field("v1a_keys", &self.key_pairs.len())
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with one secret, or several while a rotation overlaps; the newest first.
    ///
    /// # Errors
    /// Where there is no secret.
    pub fn new<'a>(
        secrets: impl IntoIterator<Item = &'a SigningSecret>,
    ) -> Result<Self, CryptoError> {
        let keys: Box<[_]> = secrets.into_iter().map(SigningSecret::key).collect();
        if keys.is_empty() {
            return Err(CryptoError::UnfitSecret {
                what: "a signer's list of secrets",
                rule: "not empty",
            });
        }
        Ok(Self { keys, key_pairs: Box::default() })
    }

    /// Adds a `v1a` signature of each key pair to every message; several while a rotation overlaps.
    #[must_use]
    pub fn with_key_pairs(
        mut self,
        key_pairs: impl IntoIterator<Item = Arc<Ed25519SigningKey>>,
    ) -> Self {
        self.key_pairs = key_pairs.into_iter().collect();
        self
    }

    /// HMAC-SHA256 over the parts as one, with the newest secret: for the signatures of other
    /// systems, which have room for one.
    pub fn newest_tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        let Some(key) = self.keys.first() else { return Vec::new() };
        let mut context = hmac::Context::with_key(key);
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    /// Verifies what this signer signs, by any one of its keys.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            keys: self.keys.clone(),
            public_keys: self.key_pairs.iter().map(|pair| pair.public_key()).collect(),
        }
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds, as in `webhook-timestamp`;
    /// the parts of the body are taken as one.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[&[u8]]) -> String {
        let v1a = self.key_pairs.len() * (V1_LENGTH * 2 + 5);
        let mut value = String::with_capacity(self.keys.len() * (V1_LENGTH + 4) + v1a);
        let mut digits = [0_u8; TIMESTAMP_LENGTH];
        let timestamp = decimal(timestamp, &mut digits);
        for key in &self.keys {
            separate(&mut value);
            value.push_str("v1,");
            STANDARD.encode_string(tag(key, id, timestamp, body), &mut value);
        }
        if !self.key_pairs.is_empty() {
            let message = message(id, timestamp, body);
            for key_pair in &self.key_pairs {
                separate(&mut value);
                value.push_str("v1a,");
                STANDARD.encode_string(key_pair.sign(&message), &mut value);
            }
        }
        value
    }
}

/// The three headers of a received message, as they came.
#[derive(Clone, Copy, Debug)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`, seconds.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// Why a received message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// The id is empty, too long or has a dot, with which it could pose as another message.
    #[error("webhook-id must have 1 to 256 printable characters and no dot")]
    MalformedId,
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp must be seconds since 1970 in decimal digits")]
    MalformedTimestamp,
    /// The message is older than tolerated.
    #[error("webhook-timestamp is too old; is the sender's clock right?")]
    TooOld,
    /// The message comes from the future.
    #[error("webhook-timestamp is in the future; is the sender's clock right?")]
    TooNew,
    /// No signature matches a live secret.
    #[error("no signature in webhook-signature matches")]
    NoMatch,
}

/// Verifies received messages against the live secrets and public keys.
#[derive(Clone)]
pub struct Verifier {
    keys: Box<[hmac::Key]>,
    public_keys: Box<[Ed25519PublicKey]>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Verifier")
            .field("v1_keys", &self.keys.len())
            .field("v1a_keys", &self.public_keys)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier that accepts what any of the keys signed.
    ///
    /// # Errors
    /// Where there is no key at all.
    pub fn new<'a>(
        secrets: impl IntoIterator<Item = &'a SigningSecret>,
        public_keys: impl IntoIterator<Item = Ed25519PublicKey>,
    ) -> Result<Self, CryptoError> {
        let keys: Box<[_]> = secrets.into_iter().map(SigningSecret::key).collect();
        let public_keys: Box<[_]> = public_keys.into_iter().collect();
        if keys.is_empty() && public_keys.is_empty() {
            return Err(CryptoError::UnfitSecret {
                what: "a verifier's list of keys",
                rule: "not empty",
            });
        }
        Ok(Self { keys, public_keys })
    }

    /// Verifies a message. Every signature is compared with every key, so that the time does not
    /// tell which one matched.
    pub fn verify(
        &self,
        headers: SignatureHeaders<'_>,
        body: &[u8],
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<(), SignatureRefused> {
        let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if !(1..=LONGEST_ID).contains(&headers.id.len()) || !headers.id.bytes().all(printable) {
            return Err(SignatureRefused::MalformedId);
        }
        let seconds = seconds(headers.timestamp).ok_or(SignatureRefused::MalformedTimestamp)?;
        let tolerance = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
        if now.seconds().saturating_sub(seconds) > tolerance {
            return Err(SignatureRefused::TooOld);
        }
        if seconds.saturating_sub(now.seconds()) > tolerance {
            return Err(SignatureRefused::TooNew);
        }
        if headers.signature.len() > LONGEST_SIGNATURES {
            return Err(SignatureRefused::NoMatch);
        }
        if self.matches(headers, body) { Ok(()) } else { Err(SignatureRefused::NoMatch) }
    }

    fn matches(&self, headers: SignatureHeaders<'_>, body: &[u8]) -> bool {
        let timestamp = headers.timestamp.as_bytes();
        let given = || headers.signature.split(' ').filter_map(|one| one.split_once(','));
        let mut matched = false;
        for key in &self.keys {
            let mut expected = String::with_capacity(V1_LENGTH);
            STANDARD.encode_string(tag(key, headers.id, timestamp, &[body]), &mut expected);
            for (_, signature) in given().filter(|(version, _)| *version == "v1") {
                matched |= constant_time_equal(expected.as_bytes(), signature.as_bytes());
            }
        }
        if !self.public_keys.is_empty() {
            let message = message(headers.id, timestamp, &[body]);
            // Each costs a curve operation, so the number is bounded.
            for (_, signature) in given().filter(|(version, _)| *version == "v1a").take(8) {
                let Ok(signature) = STANDARD.decode(signature) else { continue };
                for key in &self.public_keys {
                    matched |= key.verify(&message, &signature);
                }
            }
        }
        matched
    }
}

fn separate(value: &mut String) {
    if !value.is_empty() {
        value.push(' ');
    }
}

fn tag(key: &hmac::Key, id: &str, timestamp: &[u8], body: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(id.as_bytes());
    context.update(b".");
    context.update(timestamp);
    context.update(b".");
    for part in body {
        context.update(part);
    }
    context.sign()
}

fn message(id: &str, timestamp: &[u8], body: &[&[u8]]) -> Vec<u8> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let mut message = Vec::with_capacity(id.len() + timestamp.len() + 2 + length);
    message.extend_from_slice(id.as_bytes());
    message.push(b'.');
    message.extend_from_slice(timestamp);
    message.push(b'.');
    for part in body {
        message.extend_from_slice(part);
    }
    message
}

/// Decimal digits without an allocation.
fn decimal(number: i64, buffer: &mut [u8; TIMESTAMP_LENGTH]) -> &[u8] {
    let mut rest = buffer.as_mut_slice();
    // The buffer holds every i64, so writing cannot fail.
    let _ = write!(rest, "{number}");
    let unused = rest.len();
    &buffer[..TIMESTAMP_LENGTH - unused]
}

/// Seconds as the sender must write them: digits only, no sign, no leading zeros to sign with.
fn seconds(text: &str) -> Option<i64> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standardwebhooks::{
        HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
    };

    use super::*;
    use crate::seam::Clock;

    const NOW: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"a":1}"#;

    fn secret(byte: u8) -> SigningSecret {
        SigningSecret::from_chosen_bytes(&[byte; 32]).unwrap()
    }

    fn check(
        verifier: &Verifier,
        id: &str,
        timestamp: &str,
        signature: &str,
    ) -> Result<(), SignatureRefused> {
        let headers = SignatureHeaders { id, timestamp, signature };
        verifier.verify(headers, BODY, Timestamp::from_millis(NOW * 1_000), DEFAULT_TOLERANCE)
    }

    #[test]
    fn hmac_is_the_rfc_4231_one() {
        // RFC 4231, test case 6: the key is longer than a block.
        let key = SigningSecret::from_chosen_bytes(&[0xaa; 131]).unwrap().key();
        let tag_6 = hmac::sign(&key, b"Test Using Larger Than Block-Size Key - Hash Key First");
        let hex = super::super::desk_hash::hex(tag_6.as_ref());
        assert_eq!(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        // The parts are joined by dots and the body's parts by nothing.
        let whole = hmac::sign(&key, b"msg.17.body");
        assert_eq!(tag(&key, "msg", b"17", &[b"bo", b"dy"]).as_ref(), whole.as_ref());
    }

    #[test]
    fn every_number_of_seconds_is_written() {
        let mut buffer = [0; TIMESTAMP_LENGTH];
        for number in [0, 7, NOW, -1, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut buffer), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_reference_library_accepts_every_live_secret() {
        let (old, new) = (secret(1), SigningSecret::generate(&Randomness::default()).unwrap());
        let signer = Signer::new([&new, &old]).unwrap();
        let now = Clock::default().now().seconds();
        let value = signer.sign("msg_1", now, &[BODY]);
        let mut headers = http::HeaderMap::new();
        headers.insert(HEADER_WEBHOOK_ID, "msg_1".parse().unwrap());
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, now.to_string().parse().unwrap());
        headers.insert(HEADER_WEBHOOK_SIGNATURE, value.parse().unwrap());
        for secret in [&old, &new] {
            let oracle = Webhook::new(secret.encode().expose()).unwrap();
            oracle.verify(BODY, &headers).unwrap();
            assert!(value.contains(&oracle.sign("msg_1", now, BODY).unwrap()));
        }
        let stranger = Webhook::new(secret(9).encode().expose()).unwrap();
        assert!(stranger.verify(BODY, &headers).is_err());
    }

    #[test]
    fn it_verifies_what_the_reference_library_signs() {
        let secret = secret(3);
        let value = Webhook::new(secret.encode().expose()).unwrap().sign("msg", NOW, BODY).unwrap();
        let verifier = Verifier::new([&secret], []).unwrap();
        assert_eq!(check(&verifier, "msg", &NOW.to_string(), &value), Ok(()));
    }

    #[test]
    fn all_signatures_and_all_keys_are_tried() {
        let key_pair = Arc::new(Ed25519SigningKey::generate(&Randomness::default()).unwrap());
        let former = Arc::new(Ed25519SigningKey::generate(&Randomness::default()).unwrap());
        let signer = Signer::new([&secret(1), &secret(2)])
            .unwrap()
            .with_key_pairs([key_pair.clone(), former.clone()]);
        let value = signer.sign("msg", NOW, &[b"{\"a\"", b":1}"]);
        let parts: Vec<_> = value.split(' ').collect();
        assert_eq!(
            parts.iter().map(|part| part.split_once(',').unwrap().0).collect::<Vec<_>>(),
            ["v1", "v1", "v1a", "v1a"]
        );
        let noise = format!("v2,abc v1 v1, v1,AAAA {value} v1a,AAAA");
        for verifier in [
            Verifier::new([&secret(2)], []).unwrap(),
            Verifier::new([&secret(9), &secret(1)], []).unwrap(),
            Verifier::new([], [key_pair.public_key()]).unwrap(),
            Verifier::new([], [former.public_key()]).unwrap(),
        ] {
            for signature in [&value, &noise] {
                assert_eq!(check(&verifier, "msg", &NOW.to_string(), signature), Ok(()));
            }
        }
        let stranger = Ed25519SigningKey::generate(&Randomness::default()).unwrap();
        for verifier in [
            Verifier::new([&secret(9)], []).unwrap(),
            Verifier::new([], [stranger.public_key()]).unwrap(),
        ] {
            let refused = check(&verifier, "msg", &NOW.to_string(), &noise);
            assert_eq!(refused, Err(SignatureRefused::NoMatch));
        }
    }

    #[test]
    fn a_version_cannot_pose_as_another() {
        let signer = Signer::new([&secret(1)]).unwrap();
        let value = signer.sign("msg", NOW, &[BODY]);
        let verifier = Verifier::new([&secret(1)], []).unwrap();
        for wrong in [
            String::new(),
            value.replacen("v1,", "v1a,", 1),
            value.replacen("v1,", "V1,", 1),
            value.replacen("v1,", "", 1),
            value[..value.len() - 1].to_owned(),
            format!("{value}="),
            "v1,".to_owned(),
            format!("{}{value}", "v1,AAAA ".repeat(1_000)),
        ] {
            assert_eq!(
                check(&verifier, "msg", &NOW.to_string(), &wrong),
                Err(SignatureRefused::NoMatch),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_window_is_five_minutes_either_way() {
        let signer = Signer::new([&secret(1)]).unwrap();
        let verifier = Verifier::new([&secret(1)], []).unwrap();
        for (offset, expected) in [
            (0, Ok(())),
            (-300, Ok(())),
            (300, Ok(())),
            (-301, Err(SignatureRefused::TooOld)),
            (301, Err(SignatureRefused::TooNew)),
        ] {
            let value = signer.sign("msg", NOW + offset, &[BODY]);
            let timestamp = (NOW + offset).to_string();
            assert_eq!(check(&verifier, "msg", &timestamp, &value), expected, "{offset}");
        }
    }

    #[test]
    fn ids_and_timestamps_cannot_shift_into_each_other() {
        let signer = Signer::new([&secret(1)]).unwrap();
        let verifier = Verifier::new([&secret(1)], []).unwrap();
        let long = "a".repeat(257);
        for id in ["", "a.b", "a b", "ä", "a\n", long.as_str()] {
            let value = signer.sign(id, NOW, &[BODY]);
            let refused = check(&verifier, id, &NOW.to_string(), &value);
            assert_eq!(refused, Err(SignatureRefused::MalformedId), "{id}");
        }
        for timestamp in
            ["", "-1", "+1700000000", "01700000000", "17e8", "1700000000.0", "99999999999999999999"]
        {
            let refused = check(&verifier, "msg", timestamp, "v1,AAAA");
            assert_eq!(refused, Err(SignatureRefused::MalformedTimestamp), "{timestamp}");
        }
    }

    #[test]
    fn secrets_follow_their_rules() {
        for length in [24, 32, 64] {
            let text = format!("whsec_{}", STANDARD.encode(vec![5; length]));
            assert_eq!(SigningSecret::parse(&text).unwrap().encode().expose(), text);
        }
        for wrong in [
            String::new(),
            "whsec_".to_owned(),
            format!("whsec_{}", STANDARD.encode([5; 23])),
            format!("whsec_{}", STANDARD.encode([5; 65])),
            STANDARD.encode([5; 32]),
            "whsec_!!!!".to_owned(),
        ] {
            assert!(SigningSecret::parse(&wrong).is_err(), "{wrong}");
        }
        assert!(SigningSecret::from_chosen_bytes(b"").is_err());
        assert!(SigningSecret::from_chosen_bytes(&[1; 257]).is_err());
        assert!(SigningSecret::from_chosen_bytes(&[1; 256]).is_ok());
        assert!(Signer::new([]).is_err());
        assert!(Verifier::new([], []).is_err());
        assert_eq!(format!("{:?}", secret(1)), "SigningSecret([hidden])");
        let shown = format!("{:?}", Signer::new([&secret(1)]).unwrap());
        assert_eq!(shown, "Signer { v1_keys: 1, v1a_keys: 0, .. }");
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_what_is_changed_does_not(
            body: Vec<u8>, id in "[!-\\-/-~]{1,64}", cut in 0_usize..64,
        ) {
            let signer = Signer::new([&secret(1)]).unwrap();
            let verifier = Verifier::new([&secret(1)], []).unwrap();
            let (left, right) = body.split_at(cut.min(body.len()));
            let value = signer.sign(&id, NOW, &[left, right]);
            let timestamp = NOW.to_string();
            let headers = SignatureHeaders { id: &id, timestamp: &timestamp, signature: &value };
            let now = Timestamp::from_millis(NOW * 1_000);
            prop_assert_eq!(verifier.verify(headers, &body, now, DEFAULT_TOLERANCE), Ok(()));
            let mut longer = body.clone();
            longer.push(b' ');
            prop_assert!(verifier.verify(headers, &longer, now, DEFAULT_TOLERANCE).is_err());
        }

        #[test]
        fn hostile_headers_never_panic(id: String, timestamp: String, signature: String) {
            let verifier = Verifier::new([&secret(1)], []).unwrap();
            let headers = SignatureHeaders { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert!(verifier.verify(headers, b"", Timestamp::from_millis(0), DEFAULT_TOLERANCE).is_err());
        }
    }
}
