//! The ring of data keys.
//!
//! Each data key serves one [`Purpose`] and is known by its [`KeyId`]. The newest seals, all of
//! them open, so that a key can be replaced without touching what the former one sealed. The
//! database keeps them wrapped; rows and transactions are the caller's business.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{
    AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::{CryptoError, MasterKey};
use crate::seam::Randomness;

/// Length of a data key in bytes.
const DATA_KEY_LENGTH: usize = 32;
/// First byte of a wrapped key.
const WRAPPED_VERSION: u8 = 1;
/// Sets our derivations apart from any other use of the same bytes.
const SALT: &[u8] = b"mortise data key v1";

/// What a data key is for. A key of one purpose never opens what another sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Secrets, tokens and signing keys in the database.
    Vault,
    /// The securityContext that vendors hold.
    SecurityContext,
    /// Answers kept for repeated requests.
    Answers,
}

impl Purpose {
    /// Every purpose, for those that make the first keys.
    pub const ALL: [Self; 3] = [Self::Vault, Self::SecurityContext, Self::Answers];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::SecurityContext => "securityContext",
            Self::Answers => "answers",
        }
    }

    /// The byte that binds a ciphertext to its purpose; never changes.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Vault => 1,
            Self::SecurityContext => 2,
            Self::Answers => 3,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or(CryptoError::Malformed { what: "the purpose of a data key" })
    }
}

/// The number of a data key within its purpose; a later key has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A data key as the database keeps it: wrapped by the master key, bound to purpose and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// What the key is for.
    pub purpose: Purpose,
    /// Its number within the purpose.
    pub id: KeyId,
    /// Version, nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl WrappedKey {
    /// Wraps the same data key under another master key.
    ///
    /// # Errors
    /// Where `from` is not the master key that wrapped it.
    pub fn rewrap(
        &self,
        from: &MasterKey,
        to: &MasterKey,
        randomness: &Randomness,
    ) -> Result<Self, CryptoError> {
        let key = unwrap(self, &from.wrapping_key()?)?;
        wrap(self.purpose, self.id, &key, to, randomness)
    }
}

/// One data key, ready for use. The two ciphers have keys of their own, derived from it.
pub(super) struct DataKey {
    /// For [`KeyRing::seal`]: AES-256-GCM under a random nonce.
    pub(super) sealing: LessSafeKey,
    /// For the securityContext: AES-256-GCM-SIV, deterministic.
    pub(super) deterministic: LessSafeKey,
}

/// The opened keys of one moment.
type Keys = BTreeMap<Purpose, BTreeMap<KeyId, Arc<DataKey>>>;

/// The data keys in use. Cloning is cheap and shares the ring, also when it is
/// [replaced](KeyRing::replace).
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<ArcSwap<Keys>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: BTreeMap<_, Vec<_>> = self
            .keys
            .load()
            .iter()
            .map(|(purpose, keys)| (*purpose, keys.keys().copied().collect()))
            .collect();
        formatter.debug_tuple("KeyRing").field(&ids).finish()
    }
}

impl KeyRing {
    /// Makes a data key and wraps it for the database.
    pub fn generate_wrapped(
        purpose: Purpose,
        id: KeyId,
        master: &MasterKey,
        randomness: &Randomness,
    ) -> Result<WrappedKey, CryptoError> {
        let key = Zeroizing::new(
            randomness.bytes::<DATA_KEY_LENGTH>().map_err(|_| CryptoError::Randomness)?,
        );
        wrap(purpose, id, &key, master, randomness)
    }

    /// Opens the ring from all its wrapped keys, in any order.
    ///
    /// # Errors
    /// Where a key was wrapped by another master key, changed, or is there twice.
    pub fn open(
        wrapped: impl IntoIterator<Item = WrappedKey>,
        master: &MasterKey,
    ) -> Result<Self, CryptoError> {
        let wrapping = master.wrapping_key()?;
        let mut keys = Keys::new();
        for one in wrapped {
            let opened = unwrap(&one, &wrapping)?;
            let key = Arc::new(derive(&opened)?);
            if keys.entry(one.purpose).or_default().insert(one.id, key).is_some() {
                return Err(CryptoError::DuplicateKey { purpose: one.purpose, id: one.id });
            }
        }
        Ok(Self { keys: Arc::new(ArcSwap::from_pointee(keys)) })
    }

    /// Puts the keys of another ring in the place of these, for all clones of this ring.
    pub fn replace(&self, with: &Self) {
        self.keys.store(with.keys.load_full());
    }

    /// The key that seals for a purpose now.
    pub fn newest(&self, purpose: Purpose) -> Result<KeyId, CryptoError> {
        self.newest_key(purpose).map(|(id, _)| id)
    }

    pub(super) fn newest_key(
        &self,
        purpose: Purpose,
    ) -> Result<(KeyId, Arc<DataKey>), CryptoError> {
        let keys = self.keys.load();
        let (id, key) = keys
            .get(&purpose)
            .and_then(BTreeMap::last_key_value)
            .ok_or(CryptoError::NoKey { purpose })?;
        Ok((*id, Arc::clone(key)))
    }

    pub(super) fn key(&self, purpose: Purpose, id: KeyId) -> Result<Arc<DataKey>, CryptoError> {
        let keys = self.keys.load();
        let key = keys.get(&purpose).and_then(|keys| keys.get(&id));
        key.map(Arc::clone).ok_or(CryptoError::UnknownKey { purpose, id })
    }
}

fn derive(key: &[u8; DATA_KEY_LENGTH]) -> Result<DataKey, CryptoError> {
    let failed = |_| CryptoError::Library { operation: "deriving from a data key" };
    let material = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key);
    let sealing = material.expand(&[b"seal"], &AES_256_GCM).map_err(failed)?;
    let deterministic = material.expand(&[b"deterministic"], &AES_256_GCM_SIV).map_err(failed)?;
    Ok(DataKey {
        sealing: LessSafeKey::new(UnboundKey::from(sealing)),
        deterministic: LessSafeKey::new(UnboundKey::from(deterministic)),
    })
}

fn associated(purpose: Purpose, id: KeyId) -> Aad<[u8; 6]> {
    let [a, b, c, d] = id.0.to_be_bytes();
    Aad::from([WRAPPED_VERSION, purpose.tag(), a, b, c, d])
}

fn wrap(
    purpose: Purpose,
    id: KeyId,
    key: &[u8; DATA_KEY_LENGTH],
    master: &MasterKey,
    randomness: &Randomness,
) -> Result<WrappedKey, CryptoError> {
    let nonce = randomness.bytes::<NONCE_LEN>().map_err(|_| CryptoError::Randomness)?;
    let mut sealed = Zeroizing::new(*key);
    let tag = master
        .wrapping_key()?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            associated(purpose, id),
            sealed.as_mut_slice(),
        )
        .map_err(|_| CryptoError::Library { operation: "wrapping a data key" })?;
    let mut bytes = Vec::with_capacity(1 + NONCE_LEN + DATA_KEY_LENGTH + tag.as_ref().len());
    bytes.push(WRAPPED_VERSION);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(sealed.as_slice());
    bytes.extend_from_slice(tag.as_ref());
    Ok(WrappedKey { purpose, id, bytes })
}

fn unwrap(
    wrapped: &WrappedKey,
    wrapping: &LessSafeKey,
) -> Result<Zeroizing<[u8; DATA_KEY_LENGTH]>, CryptoError> {
    const WHAT: &str = "a wrapped data key";
    let malformed = CryptoError::Malformed { what: WHAT };
    let Some((&WRAPPED_VERSION, rest)) = wrapped.bytes.split_first() else {
        return Err(malformed);
    };
    let Some((nonce, sealed)) = rest.split_first_chunk::<NONCE_LEN>() else {
        return Err(malformed);
    };
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let opened = wrapping
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            associated(wrapped.purpose, wrapped.id),
            &mut buffer,
        )
        .map_err(|_| CryptoError::Refused { what: WHAT })?;
    let key: &[u8; DATA_KEY_LENGTH] = (&*opened).try_into().map_err(|_| malformed)?;
    Ok(Zeroizing::new(*key))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::crypto::AssociatedData;

    fn place() -> AssociatedData<'static> {
        AssociatedData { subject: Uuid::from_u128(1), field: "secret" }
    }

    #[test]
    fn the_newest_key_seals_and_all_open() {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).unwrap();
        let first =
            KeyRing::generate_wrapped(Purpose::Vault, KeyId(1), &master, &randomness).unwrap();
        let ring = KeyRing::open([first.clone()], &master).unwrap();
        let user = ring.clone();
        let old = ring.seal(Purpose::Vault, &place(), b"old", &randomness).unwrap();

        let second =
            KeyRing::generate_wrapped(Purpose::Vault, KeyId(2), &master, &randomness).unwrap();
        ring.replace(&KeyRing::open([second.clone(), first], &master).unwrap());
        assert_eq!(user.newest(Purpose::Vault).unwrap(), KeyId(2), "clones follow");
        let new = user.seal(Purpose::Vault, &place(), b"new", &randomness).unwrap();
        assert_eq!(user.unseal(Purpose::Vault, &place(), &old).unwrap().expose(), b"old");
        assert_eq!(user.unseal(Purpose::Vault, &place(), &new).unwrap().expose(), b"new");

        let without = KeyRing::open([second], &master).unwrap();
        let error = without.unseal(Purpose::Vault, &place(), &old).unwrap_err();
        assert!(matches!(error, CryptoError::UnknownKey { id: KeyId(1), .. }), "{error}");
    }

    #[test]
    fn another_master_key_opens_nothing_until_rewrapped() {
        let randomness = Randomness::default();
        let old = MasterKey::generate(&randomness).unwrap();
        let new = MasterKey::generate(&randomness).unwrap();
        let key = KeyRing::generate_wrapped(Purpose::Vault, KeyId(1), &old, &randomness).unwrap();
        let sealed = KeyRing::open([key.clone()], &old)
            .unwrap()
            .seal(Purpose::Vault, &place(), b"kept", &randomness)
            .unwrap();

        let error = KeyRing::open([key.clone()], &new).unwrap_err();
        assert!(matches!(error, CryptoError::Refused { .. }), "{error}");
        assert!(key.rewrap(&new, &old, &randomness).is_err());

        let moved = key.rewrap(&old, &new, &randomness).unwrap();
        assert!(KeyRing::open([moved.clone()], &old).is_err());
        let ring = KeyRing::open([moved], &new).unwrap();
        assert_eq!(ring.unseal(Purpose::Vault, &place(), &sealed).unwrap().expose(), b"kept");
    }

    #[test]
    fn a_wrapped_key_is_bound_to_purpose_and_id() {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).unwrap();
        let key =
            KeyRing::generate_wrapped(Purpose::Vault, KeyId(1), &master, &randomness).unwrap();
        let elsewhere = WrappedKey { purpose: Purpose::Answers, ..key.clone() };
        let renumbered = WrappedKey { id: KeyId(2), ..key.clone() };
        for wrong in [elsewhere, renumbered] {
            assert!(matches!(KeyRing::open([wrong], &master), Err(CryptoError::Refused { .. })));
        }
        for length in 0..key.bytes.len() {
            let cut = WrappedKey { bytes: key.bytes[..length].to_vec(), ..key.clone() };
            assert!(KeyRing::open([cut], &master).is_err(), "cut to {length}");
        }
        let twice = KeyRing::open([key.clone(), key], &master).unwrap_err();
        assert!(matches!(twice, CryptoError::DuplicateKey { .. }));
    }

    #[test]
    fn purposes_have_names_and_a_ring_shows_ids_only() {
        for purpose in Purpose::ALL {
            assert_eq!(purpose.as_str().parse::<Purpose>().unwrap(), purpose);
        }
        assert!("other".parse::<Purpose>().is_err());
        let ring =
            KeyRing::open([], &MasterKey::generate(&Randomness::default()).unwrap()).unwrap();
        assert!(matches!(ring.newest(Purpose::Vault), Err(CryptoError::NoKey { .. })));
        assert_eq!(format!("{ring:?}"), "KeyRing({})");
    }
}
