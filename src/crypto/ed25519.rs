//! Ed25519 keys for Standard Webhooks `v1a`: a receiver verifies with what it cannot sign with.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::signing_keys::base64url;
use super::{CryptoError, SecretBytes, SecretText};
use crate::seam::Randomness;

const SECRET_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";
const SEED_LENGTH: usize = 32;
const PUBLIC_LENGTH: usize = 32;

/// Signs `v1a`. Written as `whsk_` and the base64 of seed and public key (64 bytes, the form of
/// the reference libraries); the seed alone (32 bytes) is read too.
pub struct Ed25519SigningKey {
    seed: SecretBytes,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Ed25519SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ed25519SigningKey([hidden])")
    }
}

/// Verifies `v1a`. Written as `whpk_` and the base64 of 32 bytes; it is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey([u8; PUBLIC_LENGTH]);

impl Ed25519SigningKey {
    /// Makes a new key.
    pub fn generate(randomness: &Randomness) -> Result<Self, CryptoError> {
        let seed =
            Zeroizing::new(randomness.bytes::<SEED_LENGTH>().map_err(|_| CryptoError::Randomness)?);
        Self::from_seed(seed.as_slice())
    }

    /// Reads `whsk_…`.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let unfit = CryptoError::UnfitSecret {
            what: "an Ed25519 signing key",
            rule: "whsk_ and the base64 of 64 (or 32) bytes that belong together",
        };
        let Some(bytes) =
            text.strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok())
        else {
            return Err(unfit);
        };
        let bytes = Zeroizing::new(bytes);
        match bytes.split_at_checked(SEED_LENGTH) {
            Some((seed, [])) => Self::from_seed(seed),
            Some((seed, public)) => {
                let key = Self::from_seed(seed)?;
                if key.public_key().0.as_slice() == public { Ok(key) } else { Err(unfit) }
            }
            None => Err(unfit),
        }
    }

    /// Writes `whsk_…`, to be sealed by the caller.
    pub fn encode(&self) -> SecretText {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SEED_LENGTH + PUBLIC_LENGTH));
        bytes.extend_from_slice(self.seed.expose());
        bytes.extend_from_slice(&self.public_key().0);
        SecretText::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes.as_slice())))
    }

    /// The key that verifies.
    pub fn public_key(&self) -> Ed25519PublicKey {
        let mut bytes = [0; PUBLIC_LENGTH];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        Ed25519PublicKey(bytes)
    }

    /// Signs a message; 64 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.pair.sign(message)
    }

    fn from_seed(seed: &[u8]) -> Result<Self, CryptoError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| CryptoError::Malformed { what: "the seed of an Ed25519 key" })?;
        Ok(Self { seed: SecretBytes::new(seed), pair })
    }
}

impl Ed25519PublicKey {
    /// Reads `whpk_…`.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        text.strip_prefix(PUBLIC_PREFIX)
            .and_then(|rest| STANDARD.decode(rest).ok())
            .and_then(|bytes| <[u8; PUBLIC_LENGTH]>::try_from(bytes).ok())
            .map(Self)
            .ok_or(CryptoError::Malformed { what: "an Ed25519 public key (whpk_ and base64)" })
    }

    /// Writes `whpk_…`.
    pub fn encode(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }

    /// The key's 32 bytes, as a JWK's `x` holds them.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_LENGTH] {
        &self.0
    }

    /// The `kid`: the key's thumbprint by RFC 7638 and RFC 8037.
    pub fn key_id(&self) -> String {
        let x = base64url(&self.0);
        let thumbprint =
            digest(&SHA256, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        base64url(thumbprint.as_ref())
    }

    /// The key as a JWK (RFC 8037).
    pub(super) fn jwk(&self) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": self.key_id(),
            "x": base64url(&self.0),
        })
    }

    /// Whether the signature is this key's over the message.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn it_signs_as_rfc_8032_does() {
        // RFC 8032, section 7.1, test 2.
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let public = from_hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = from_hex(concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ));
        let key = Ed25519SigningKey::from_seed(&seed).unwrap();
        assert_eq!(key.public_key().as_bytes().as_slice(), public);
        assert_eq!(key.sign(&[0x72]).as_ref(), signature);
        assert!(key.public_key().verify(&[0x72], &signature));
        assert!(!key.public_key().verify(&[0x73], &signature));
        assert!(!key.public_key().verify(&[0x72], &signature[..63]));
        assert!(!key.public_key().verify(&[0x72], b""));
    }

    #[test]
    fn the_published_key_is_rfc_8037s() {
        // RFC 8037, appendix A.3: key and thumbprint.
        let x = from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let key = Ed25519PublicKey(x.try_into().unwrap());
        assert_eq!(key.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.jwk(),
            json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            })
        );
    }

    #[test]
    fn keys_are_written_and_read_again() {
        let key = Ed25519SigningKey::generate(&Randomness::default()).unwrap();
        let again = Ed25519SigningKey::parse(key.encode().expose()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let seed_only = format!("whsk_{}", STANDARD.encode(key.seed.expose()));
        assert_eq!(Ed25519SigningKey::parse(&seed_only).unwrap().public_key(), key.public_key());
        let public = key.public_key();
        assert_eq!(Ed25519PublicKey::parse(&public.encode()).unwrap(), public);
        assert_eq!(format!("{key:?}"), "Ed25519SigningKey([hidden])");
    }

    #[test]
    fn malformed_keys_are_refused() {
        let key = Ed25519SigningKey::generate(&Randomness::default()).unwrap();
        let mut swapped = key.seed.expose().to_vec();
        swapped.extend_from_slice(&[9; 32]);
        for wrong in [
            "",
            "whsk_",
            "whsk_AAAA",
            "whsec_AAAA",
            &format!("whsk_{}", STANDARD.encode(swapped)),
            &format!("whsk_{}", STANDARD.encode([1; 65])),
            &key.public_key().encode(),
        ] {
            assert!(Ed25519SigningKey::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "whpk_", "whpk_AAAA", key.encode().expose()] {
            assert!(Ed25519PublicKey::parse(wrong).is_err());
        }
    }
}
