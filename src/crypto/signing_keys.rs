//! The keys that sign for the platform: of each purpose the newest, and the former ones while a
//! rotation overlaps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{CryptoError, Ed25519SigningKey, JwtSigningKey};
use crate::seam::Timestamp;

/// What a signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningPurpose {
    /// `X-ZDesk-JWT`, RS256.
    Jwt,
    /// `v1a` in `webhook-signature`, Ed25519.
    Ed25519,
}

/// A text is not the name of a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing keys are those for `jwt` and `ed25519`")]
pub struct UnknownSigningPurpose;

impl SigningPurpose {
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Jwt, Self::Ed25519];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for SigningPurpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for SigningPurpose {
    type Err = UnknownSigningPurpose;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or(UnknownSigningPurpose)
    }
}

/// A key, ready for use.
#[derive(Clone, Debug)]
pub(super) enum Material {
    Jwt(Arc<JwtSigningKey>),
    Ed25519(Arc<Ed25519SigningKey>),
}

/// A key with its times.
#[derive(Clone, Debug)]
pub(super) struct HeldKey {
    pub(super) id: Uuid,
    pub(super) material: Material,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
}

/// What may be shown of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyView {
    /// What it is for.
    pub purpose: SigningPurpose,
    /// Its `kid` in the published set.
    pub key_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is published; nothing for the one that signs.
    pub expires_at: Option<Timestamp>,
}

impl HeldKey {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|until| until > now)
    }

    fn view(&self) -> SigningKeyView {
        let (purpose, key_id) = match &self.material {
            Material::Jwt(key) => (SigningPurpose::Jwt, key.key_id().to_owned()),
            Material::Ed25519(key) => (SigningPurpose::Ed25519, key.public_key().key_id()),
        };
        SigningKeyView { purpose, key_id, created_at: self.created_at, expires_at: self.expires_at }
    }
}

/// The signing keys of a running process. Cloning shares them: a rotation is seen by all.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    held: Arc<ArcSwap<Vec<HeldKey>>>,
}

impl SigningKeys {
    /// Takes what was read; the newest first, whatever order it came in.
    ///
    /// # Errors
    /// Where no key signs tokens.
    pub(super) fn new(held: Vec<HeldKey>) -> Result<Self, CryptoError> {
        let keys = Self { held: Arc::new(ArcSwap::from_pointee(Vec::new())) };
        keys.replace(held)?;
        Ok(keys)
    }

    /// Puts what was read in the place of what is held.
    pub(super) fn replace(&self, mut held: Vec<HeldKey>) -> Result<(), CryptoError> {
        held.sort_by_key(|key| {
            std::cmp::Reverse((key.expires_at.is_none(), key.created_at, key.id))
        });
        if !held.iter().any(|key| matches!(key.material, Material::Jwt(_))) {
            return Err(CryptoError::Malformed {
                what: "the set of signing keys (none for tokens)",
            });
        }
        self.held.store(Arc::new(held));
        Ok(())
    }

    /// The key that signs tokens now.
    ///
    /// # Errors
    /// Never for a set that was read from the database.
    pub fn jwt(&self) -> Result<Arc<JwtSigningKey>, CryptoError> {
        self.held
            .load()
            .iter()
            .find_map(|key| match &key.material {
                Material::Jwt(key) => Some(Arc::clone(key)),
                Material::Ed25519(_) => None,
            })
            .ok_or(CryptoError::Malformed { what: "the set of signing keys (none for tokens)" })
    }

    /// The key pairs that sign now, the newest first: all of them while a rotation overlaps, so that
    /// receivers need to know one.
    pub fn ed25519(&self, now: Timestamp) -> Vec<Arc<Ed25519SigningKey>> {
        self.held
            .load()
            .iter()
            .filter(|key| key.is_live(now))
            .filter_map(|key| match &key.material {
                Material::Ed25519(key) => Some(Arc::clone(key)),
                Material::Jwt(_) => None,
            })
            .collect()
    }

    /// When the first key expires that still signs or is published.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.held.load().iter().filter_map(|key| key.expires_at).filter(|at| *at > now).min()
    }

    /// The live keys as they may be shown.
    pub fn views(&self, now: Timestamp) -> Vec<SigningKeyView> {
        self.held.load().iter().filter(|key| key.is_live(now)).map(HeldKey::view).collect()
    }

    /// The set for `/.well-known/jwks.json` (RFC 7517, RFC 8037): public halves only, those for
    /// `v1a` where it is on.
    pub fn jwks(&self, now: Timestamp, with_ed25519: bool) -> Value {
        let keys: Vec<Value> = self
            .held
            .load()
            .iter()
            .filter(|key| key.is_live(now))
            .filter_map(|key| match &key.material {
                Material::Jwt(key) => Some(key.jwk()),
                Material::Ed25519(key) if with_ed25519 => Some(key.public_key().jwk()),
                Material::Ed25519(_) => None,
            })
            .collect();
        json!({ "keys": keys })
    }
}

/// The unpadded base64url of some bytes.
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seam::Randomness;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn jwt(number: u128, expires_at: Option<Timestamp>) -> HeldKey {
        let key = JwtSigningKey::load(&JwtSigningKey::generate().unwrap()).unwrap();
        held(number, Material::Jwt(Arc::new(key)), expires_at)
    }

    fn pair(number: u128, expires_at: Option<Timestamp>) -> HeldKey {
        let key = Ed25519SigningKey::generate(&Randomness::default()).unwrap();
        held(number, Material::Ed25519(Arc::new(key)), expires_at)
    }

    fn held(number: u128, material: Material, expires_at: Option<Timestamp>) -> HeldKey {
        HeldKey { id: Uuid::from_u128(number), material, created_at: START, expires_at }
    }

    fn kids(set: &Value) -> Vec<String> {
        let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
        set["keys"].as_array().unwrap().iter().map(kid).collect()
    }

    #[test]
    fn the_newest_signs_and_all_are_published_until_they_expire() {
        let until = START.plus(Duration::from_hours(24));
        let (old, new) = (jwt(1, Some(until)), jwt(2, None));
        let (old_pair, new_pair) = (pair(3, Some(until)), pair(4, None));
        let expected = [&new, &new_pair, &old_pair, &old].map(|key| key.view().key_id);
        let keys = SigningKeys::new(vec![old_pair, old, new, new_pair]).unwrap();
        assert!(expected.contains(&keys.jwt().unwrap().key_id().to_owned()));
        assert_eq!(keys.jwt().unwrap().key_id(), expected[0]);
        assert_eq!(keys.ed25519(START).len(), 2);
        let mut published = kids(&keys.jwks(START, true));
        let mut all = expected.to_vec();
        published.sort();
        all.sort();
        assert_eq!(published, all);
        assert_eq!(keys.jwks(START, false)["keys"].as_array().unwrap().len(), 2);
        assert_eq!(keys.next_expiry(START), Some(until));

        assert_eq!(keys.ed25519(until).len(), 1);
        assert_eq!(kids(&keys.jwks(until, true)).len(), 2);
        assert_eq!(keys.views(until).len(), 2);
        assert_eq!(keys.next_expiry(until), None);
    }

    #[test]
    fn a_set_without_a_key_for_tokens_is_refused_and_nothing_secret_is_shown() {
        assert!(SigningKeys::new(vec![pair(1, None)]).is_err());
        let keys = SigningKeys::new(vec![jwt(1, None), pair(2, None)]).unwrap();
        assert!(keys.replace(Vec::new()).is_err());
        assert_eq!(keys.views(START).len(), 2, "what was there stays");
        let set = keys.jwks(START, true);
        for key in set["keys"].as_array().unwrap() {
            assert!(key.get("d").is_none() && key["use"] == "sig", "{key}");
        }
        let shown = format!("{keys:?}");
        assert!(shown.contains("[hidden]") && !shown.contains("seed"), "{shown}");
        for purpose in SigningPurpose::ALL {
            assert_eq!(purpose.as_str().parse::<SigningPurpose>(), Ok(purpose));
        }
        assert!("vault".parse::<SigningPurpose>().is_err());
    }
}
