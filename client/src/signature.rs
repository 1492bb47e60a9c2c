//! The marketplace's signature: Standard Webhooks over the raw body.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a text cannot be a signing secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret must be whsec_ and the base64 of 24 to 64 bytes")]
pub struct UnfitSecret;

/// What the marketplace signs its callbacks with (`marketplace.signing_secret` of the server).
#[derive(Clone)]
pub struct MarketplaceSecret(hmac::Key);

impl fmt::Debug for MarketplaceSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MarketplaceSecret([hidden])")
    }
}

impl MarketplaceSecret {
    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, UnfitSecret> {
        let bytes = text.trim().strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok());
        let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len())).ok_or(UnfitSecret)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature` for a message: its `webhook-id`, its `webhook-timestamp` in
    /// seconds since 1970, and the body exactly as it is sent.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_comes_out() {
        let secret = MarketplaceSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = secret.expect("a secret").sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_printed() {
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ä"] {
            assert_eq!(MarketplaceSecret::parse(bad).err(), Some(UnfitSecret), "{bad}");
        }
        let secret = MarketplaceSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(format!("{:?}", secret.expect("one")), "MarketplaceSecret([hidden])");
    }
}
