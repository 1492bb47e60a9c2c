//! Whether a request that came is signed as Standard Webhooks say, and if not, why.

use http::HeaderMap;

use crate::crypto::{DEFAULT_TOLERANCE, SignatureHeaders, Verifier};
use crate::seam::Timestamp;

/// What a request's signature is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// A live secret of the webhook made it.
    Valid,
    /// It did not, and why.
    Invalid(String),
    /// The request brings none.
    Unsigned(String),
    /// It is not known whose secret should have made it.
    Unknown(String),
}

impl SignatureVerdict {
    /// The name in answers and the database.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid(_) => "invalid",
            Self::Unsigned(_) => "unsigned",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Why, where there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Valid => None,
            Self::Invalid(why) | Self::Unsigned(why) | Self::Unknown(why) => Some(why),
        }
    }
}

/// The three headers of Standard Webhooks, and which of them are missing or there twice.
fn signature_headers(headers: &HeaderMap) -> Result<SignatureHeaders<'_>, Vec<&'static str>> {
    const NAMES: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let one = |name: &str| {
        let mut sent = headers.get_all(name).iter();
        match (sent.next(), sent.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    match NAMES.map(one) {
        [Some(id), Some(timestamp), Some(signature)] => {
            Ok(SignatureHeaders { id, timestamp, signature })
        }
        found => Err(NAMES
            .iter()
            .zip(found)
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| *name)
            .collect()),
    }
}

/// Judges a request by the live secrets of its webhook; `None` where that is not known.
pub fn judge(
    headers: &HeaderMap,
    body: &[u8],
    verifier: Option<&Verifier>,
    now: Timestamp,
) -> SignatureVerdict {
    let signed = match signature_headers(headers) {
        Ok(signed) => signed,
        Err(missing) => {
            let missing = missing.join(", ");
            let why = format!("missing, empty or there more than once: {missing}");
            return SignatureVerdict::Unsigned(why);
        }
    };
    let Some(verifier) = verifier else {
        let why = "no webhook is named for this inspector, and webhook-id is no delivery of yours";
        return SignatureVerdict::Unknown(why.to_owned());
    };
    match verifier.verify(signed, body, now, DEFAULT_TOLERANCE) {
        Ok(()) => SignatureVerdict::Valid,
        Err(refused) => SignatureVerdict::Invalid(refused.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Signer, SigningSecret};
    use crate::seam::Clock;

    #[test]
    fn valid_invalid_unsigned_and_unknown_are_told_apart() {
        let secret = SigningSecret::from_chosen_bytes(&[7; 32]).expect("a secret");
        let other = SigningSecret::from_chosen_bytes(&[8; 32]).expect("a secret");
        let (signer, now) = (Signer::new([&secret]).expect("a signer"), Clock::default().now());
        let signature = signer.sign("msg_1", now.seconds(), &[b"{}"]);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().expect("a value"));
        headers.insert("webhook-timestamp", now.seconds().into());
        headers.insert("webhook-signature", signature.parse().expect("a value"));
        let (right, wrong) = (signer.verifier(), Verifier::new([&other], []).expect("a verifier"));
        let verdict = |body: &[u8], verifier| judge(&headers, body, verifier, now);
        assert_eq!(verdict(b"{}", Some(&right)), SignatureVerdict::Valid);
        for (body, verifier) in [(b"{}".as_slice(), &wrong), (b"{ }", &right)] {
            let SignatureVerdict::Invalid(why) = verdict(body, Some(verifier)) else {
                panic!("{body:?} is believed");
            };
            assert!(why.contains("no signature"), "{why}");
        }
        assert_eq!(verdict(b"{}", None).name(), "unknown");
        let late = now.plus(DEFAULT_TOLERANCE * 2);
        let late = judge(&headers, b"{}", Some(&right), late);
        assert!(late.reason().is_some_and(|why| why.contains("too old")), "{late:?}");
        headers.remove("webhook-signature");
        let bare = judge(&headers, b"{}", Some(&right), now);
        assert_eq!(bare.name(), "unsigned");
        assert!(bare.reason().is_some_and(|why| why.ends_with("webhook-signature")), "{bare:?}");
    }
}
