//! The ring of data keys.
//!
//! Each data key serves one [`Purpose`] and is known by its [`KeyId`]. The newest that may seal does,
//! all of them open, so that a key can be replaced without touching what the former one sealed, and
//! be known everywhere before anything is sealed with it. The database keeps them wrapped; rows and
//! transactions are the caller's business.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    /// Whether it may seal; one that is being made known opens only.
    pub seals: bool,
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
        let moved = wrap(self.purpose, self.id, &key, to, randomness)?;
        Ok(Self { seals: self.seals, ..moved })
    }
}

/// One data key, ready for use. The two ciphers have keys of their own, derived from it.
pub(super) struct DataKey {
    /// For [`KeyRing::seal`]: AES-256-GCM under a random nonce.
    pub(super) sealing: LessSafeKey,
    /// For the securityContext: AES-256-GCM-SIV, deterministic.
    pub(super) deterministic: LessSafeKey,
}

/// A data key in the ring, and whether it may seal.
#[derive(Clone)]
struct Held {
    key: Arc<DataKey>,
    seals: bool,
}

/// The opened keys of one moment.
type Keys = BTreeMap<Purpose, BTreeMap<KeyId, Held>>;

/// The data keys in use. Cloning is cheap and shares the ring, also when it is
/// [replaced](KeyRing::replace).
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<ArcSwap<Keys>>,
    /// The lowest key of the database that does not open here; 0 where all do.
    passed_over: Arc<AtomicU32>,
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
            let held = Held { key: Arc::new(derive(&opened)?), seals: one.seals };
            if keys.entry(one.purpose).or_default().insert(one.id, held).is_some() {
                return Err(CryptoError::DuplicateKey { purpose: one.purpose, id: one.id });
            }
        }
        Ok(Self { keys: Arc::new(ArcSwap::from_pointee(keys)), passed_over: Arc::default() })
    }

    /// Puts the keys of another ring in the place of these, for all clones of this ring.
    pub fn replace(&self, with: &Self) {
        self.keys.store(with.keys.load_full());
    }

    /// Takes the keys of the database as they are now, for all clones of this ring: unwraps what it
    /// does not hold yet, and forgets what is there no more. The master key is asked for only where
    /// there is something to unwrap.
    ///
    /// A key that does not open and does not seal either is passed over, and told by
    /// [`KeyRing::known`]: this process goes on with those that it has, and nobody seals with that one.
    ///
    /// # Errors
    /// Where a key that seals does not open; then the ring stays as it was.
    pub(super) fn follow(
        &self,
        wrapped: Vec<WrappedKey>,
        master: impl FnOnce() -> Result<MasterKey, CryptoError>,
    ) -> Result<(), CryptoError> {
        let present = self.keys.load_full();
        let held = |one: &WrappedKey| present.get(&one.purpose).and_then(|keys| keys.get(&one.id));
        let wrapping = if wrapped.iter().any(|one| held(one).is_none()) {
            Some(master().and_then(|master| master.wrapping_key()))
        } else {
            None
        };
        let mut keys = Keys::new();
        let mut passed_over = 0;
        for one in wrapped {
            let opened = match (held(&one), &wrapping) {
                (Some(held), _) => Ok(Arc::clone(&held.key)),
                (None, Some(Ok(wrapping))) => {
                    unwrap(&one, wrapping).and_then(|key| derive(&key)).map(Arc::new)
                }
                (None, _) => Err(CryptoError::UnknownKey { purpose: one.purpose, id: one.id }),
            };
            match opened {
                Ok(key) => {
                    let held = Held { key, seals: one.seals };
                    keys.entry(one.purpose).or_default().insert(one.id, held);
                }
                Err(error) if one.seals => {
                    return Err(match wrapping {
                        Some(Err(error)) => error,
                        _ => error,
                    });
                }
                Err(error) => {
                    let lowest = if passed_over == 0 { one.id.0 } else { passed_over };
                    passed_over = lowest.min(one.id.0);
                    let cause = match &wrapping {
                        Some(Err(error)) => error,
                        _ => &error,
                    };
                    tracing::error!(
                        purpose = %one.purpose, key = %one.id, error = %cause,
                        "a new data key cannot be unwrapped: bring the present master key, the \
                         rotation waits for it"
                    );
                }
            }
        }
        self.keys.store(Arc::new(keys));
        self.passed_over.store(passed_over, Ordering::Release);
        Ok(())
    }

    /// Whether the ring holds a key.
    pub(crate) fn holds(&self, purpose: Purpose, id: KeyId) -> bool {
        self.key(purpose, id).is_ok()
    }

    /// Up to which id the ring holds every key that the database has; 0 where it holds none.
    pub(crate) fn known(&self) -> KeyId {
        let passed_over = self.passed_over.load(Ordering::Acquire);
        if passed_over > 0 {
            return KeyId(passed_over - 1);
        }
        let keys = self.keys.load();
        keys.values().filter_map(|keys| keys.keys().next_back()).max().copied().unwrap_or(KeyId(0))
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
            .and_then(|keys| keys.iter().rev().find(|(_, held)| held.seals))
            .ok_or(CryptoError::NoKey { purpose })?;
        Ok((*id, Arc::clone(&key.key)))
    }

    pub(super) fn key(&self, purpose: Purpose, id: KeyId) -> Result<Arc<DataKey>, CryptoError> {
        let keys = self.keys.load();
        let key = keys.get(&purpose).and_then(|keys| keys.get(&id));
        key.map(|held| Arc::clone(&held.key)).ok_or(CryptoError::UnknownKey { purpose, id })
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
    Ok(WrappedKey { purpose, id, bytes, seals: true })
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
    fn a_key_is_known_before_it_seals_and_gone_when_it_is_retired() {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).unwrap();
        let key = |id| {
            KeyRing::generate_wrapped(Purpose::Vault, KeyId(id), &master, &randomness).unwrap()
        };
        let (first, second) = (key(1), key(2));
        let ring = KeyRing::open([first.clone()], &master).unwrap();
        let old = ring.seal(Purpose::Vault, &place(), b"old", &randomness).unwrap();
        let introduced = WrappedKey { seals: false, ..second.clone() };

        // Another master key: the ring goes on without the new key, and says so.
        let other = MasterKey::generate(&randomness).unwrap();
        ring.follow(vec![first.clone(), introduced.clone()], || Ok(other.clone())).unwrap();
        assert_eq!(ring.known(), KeyId(1));
        let refused = ring.follow(vec![first.clone(), second.clone()], || Ok(other.clone()));
        assert!(refused.is_err(), "what seals must open");

        ring.follow(vec![first.clone(), introduced], || Ok(master.clone())).unwrap();
        assert_eq!((ring.known(), ring.newest(Purpose::Vault).unwrap()), (KeyId(2), KeyId(1)));
        let unneeded = || unreachable!("everything is held");
        ring.follow(vec![first, second.clone()], unneeded).unwrap();
        assert_eq!(ring.newest(Purpose::Vault).unwrap(), KeyId(2));
        let new = ring.reseal(Purpose::Vault, &place(), &old, &randomness).unwrap().unwrap();
        assert!(ring.reseal(Purpose::Vault, &place(), &new, &randomness).unwrap().is_none());
        let elsewhere = AssociatedData { subject: Uuid::from_u128(2), field: "secret" };
        assert!(ring.reseal(Purpose::Vault, &elsewhere, &old, &randomness).is_err());

        ring.follow(vec![second], || unreachable!("everything is held")).unwrap();
        assert!(!ring.holds(Purpose::Vault, KeyId(1)));
        assert!(ring.unseal(Purpose::Vault, &place(), &old).is_err());
        assert_eq!(ring.unseal(Purpose::Vault, &place(), &new).unwrap().expose(), b"old");
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
