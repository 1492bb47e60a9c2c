//! Any headers and body of a received message: what was not signed is not believed, and what was
//! signed is.

use std::time::Duration;

use mortise::crypto::{SignatureHeaders, Signer, SigningSecret, Verifier};
use mortise::seam::Timestamp;

const NOW: i64 = 1_763_000_000;
const TOLERANCE: Duration = Duration::from_mins(5);

/// One input: id, timestamp, signature and body, with the byte 1 between them.
pub(super) fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == 1);
    let mut next = || parts.next().unwrap_or_default();
    let [id, timestamp, signature] = [next(), next(), next()].map(String::from_utf8_lossy);
    let body = next();
    let Ok(secret) = SigningSecret::from_chosen_bytes(b"a secret that the input cannot know")
    else {
        panic!("a secret");
    };
    let (Ok(signer), Ok(verifier)) = (Signer::new([&secret]), Verifier::new([&secret], [])) else {
        panic!("one secret is enough");
    };
    let verify = |timestamp: &str, signature: &str| {
        let headers = SignatureHeaders { id: &id, timestamp, signature };
        verifier.verify(headers, body, Timestamp::from_millis(NOW * 1_000), TOLERANCE)
    };
    if verify(&timestamp, &signature).is_ok() {
        let seconds: i64 = timestamp.parse().unwrap_or_default();
        let right = signer.sign(&id, seconds, &[body]);
        assert!(signature.split(' ').any(|one| one == right), "{signature:?} was believed");
        assert!((NOW - 300..=NOW + 300).contains(&seconds));
    }
    let right = signer.sign(&id, NOW, &[body]);
    let is_fit = (1..=256).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.');
    assert_eq!(verify(&NOW.to_string(), &right).is_ok(), is_fit, "{id:?}");
    let late = (NOW - 301).to_string();
    assert!(verify(&late, &signer.sign(&id, NOW - 301, &[body])).is_err());
}
