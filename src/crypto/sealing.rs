//! Sealing what must be kept but not read.
//!
//! A ciphertext is bound to its purpose, to the row that it belongs to and to its field: moved
//! anywhere else it does not open. Format: version (1), key id (4, big endian), nonce (12),
//! ciphertext, tag (16).

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{CryptoError, KeyId, KeyRing, Purpose, SecretBytes};
use crate::seam::Randomness;

const VERSION: u8 = 1;
const HEADER_LENGTH: usize = 5;
const TAG_LENGTH: usize = 16;

/// Where a ciphertext belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociatedData<'a> {
    /// The id of the row: an installation, an extension, a token.
    pub subject: Uuid,
    /// The name of the field; never renamed, for it is part of every ciphertext.
    pub field: &'a str,
}

impl AssociatedData<'_> {
    /// Header, purpose, subject and field; the only one of variable length comes last.
    fn bind(&self, header: [u8; HEADER_LENGTH], purpose: Purpose) -> Aad<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + 1 + 16 + self.field.len());
        bytes.extend_from_slice(&header);
        bytes.push(purpose.tag());
        bytes.extend_from_slice(self.subject.as_bytes());
        bytes.extend_from_slice(self.field.as_bytes());
        Aad::from(bytes)
    }
}

/// Version and key id, as every ciphertext begins.
pub(super) fn header(id: KeyId) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [VERSION, a, b, c, d]
}

/// Takes the header off; nothing where the format is another.
pub(super) fn split_header(bytes: &[u8]) -> Option<(KeyId, &[u8])> {
    let ([VERSION, a, b, c, d], rest) = bytes.split_first_chunk::<HEADER_LENGTH>()? else {
        return None;
    };
    Some((KeyId(u32::from_be_bytes([*a, *b, *c, *d])), rest))
}

/// The key that a ciphertext says it was sealed with, from its beginning; nothing where it has another
/// format.
pub(crate) fn sealing_key(sealed: &[u8]) -> Option<KeyId> {
    split_header(sealed).map(|(id, _)| id)
}

impl KeyRing {
    /// Seals bytes for one place, under the newest key of the purpose.
    ///
    /// Equal plaintexts give different ciphertexts; the length shows.
    pub fn seal(
        &self,
        purpose: Purpose,
        place: &AssociatedData<'_>,
        plaintext: &[u8],
        randomness: &Randomness,
    ) -> Result<Vec<u8>, CryptoError> {
        let (id, key) = self.newest_key(purpose)?;
        let nonce = randomness.bytes::<NONCE_LEN>().map_err(|_| CryptoError::Randomness)?;
        let header = header(id);
        let mut sealed =
            Vec::with_capacity(HEADER_LENGTH + NONCE_LEN + plaintext.len() + TAG_LENGTH);
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = key
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                place.bind(header, purpose),
                &mut sealed[HEADER_LENGTH + NONCE_LEN..],
            )
            .map_err(|_| CryptoError::Library { operation: "sealing" })?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Seals anew what an older key sealed; nothing where the newest did.
    ///
    /// # Errors
    /// Where it does not open.
    pub(crate) fn reseal(
        &self,
        purpose: Purpose,
        place: &AssociatedData<'_>,
        sealed: &[u8],
        randomness: &Randomness,
    ) -> Result<Option<Vec<u8>>, CryptoError> {
        if sealing_key(sealed) == Some(self.newest(purpose)?) {
            return Ok(None);
        }
        let opened = self.unseal(purpose, place, sealed)?;
        self.seal(purpose, place, opened.expose(), randomness).map(Some)
    }

    /// Opens what [`KeyRing::seal`] made for the same purpose and place.
    pub fn unseal(
        &self,
        purpose: Purpose,
        place: &AssociatedData<'_>,
        sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        const WHAT: &str = "a sealed value";
        let malformed = || CryptoError::Malformed { what: WHAT };
        let (id, rest) = split_header(sealed).ok_or_else(malformed)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(malformed)?;
        let key = self.key(purpose, id)?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let length = key
            .sealing
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                place.bind(header(id), purpose),
                &mut buffer,
            )
            .map_err(|_| CryptoError::Refused { what: WHAT })?
            .len();
        buffer.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::MasterKey;

    /// A ring with one key for each purpose.
    pub(in crate::crypto) fn ring() -> KeyRing {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).unwrap();
        let keys = Purpose::ALL.map(|purpose| {
            KeyRing::generate_wrapped(purpose, KeyId(1), &master, &randomness).unwrap()
        });
        KeyRing::open(keys, &master).unwrap()
    }

    const PLACE: AssociatedData<'static> =
        AssociatedData { subject: Uuid::from_u128(7), field: "accessToken" };

    #[test]
    fn a_moved_ciphertext_does_not_open() {
        let ring = ring();
        let randomness = Randomness::default();
        let sealed = ring.seal(Purpose::Vault, &PLACE, b"token", &randomness).unwrap();
        assert_eq!(ring.unseal(Purpose::Vault, &PLACE, &sealed).unwrap().expose(), b"token");
        let other_row = AssociatedData { subject: Uuid::from_u128(8), ..PLACE };
        let other_field = AssociatedData { field: "refreshToken", ..PLACE };
        for (purpose, place) in [
            (Purpose::Vault, other_row),
            (Purpose::Vault, other_field),
            (Purpose::Answers, PLACE),
            (Purpose::SecurityContext, PLACE),
        ] {
            let error = ring.unseal(purpose, &place, &sealed).unwrap_err();
            assert!(matches!(error, CryptoError::Refused { .. }), "{purpose} {place:?}: {error}");
        }
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let ring = ring();
        let sealed = ring.seal(Purpose::Vault, &PLACE, b"token", &Randomness::default()).unwrap();
        for position in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[position / 8] ^= 1 << (position % 8);
            assert!(ring.unseal(Purpose::Vault, &PLACE, &changed).is_err(), "bit {position}");
        }
        for length in 0..sealed.len() {
            assert!(ring.unseal(Purpose::Vault, &PLACE, &sealed[..length]).is_err());
        }
    }

    #[test]
    fn equal_plaintexts_look_different() {
        let ring = ring();
        let randomness = Randomness::default();
        let first = ring.seal(Purpose::Vault, &PLACE, b"same", &randomness).unwrap();
        let second = ring.seal(Purpose::Vault, &PLACE, b"same", &randomness).unwrap();
        assert_ne!(first, second);
        assert!(!first.windows(4).any(|window| window == b"same"));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens_again(plaintext: Vec<u8>, subject: u128, field in ".{0,40}") {
            let ring = ring();
            let place = AssociatedData { subject: Uuid::from_u128(subject), field: &field };
            let sealed = ring
                .seal(Purpose::Answers, &place, &plaintext, &Randomness::default())
                .unwrap();
            let opened = ring.unseal(Purpose::Answers, &place, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), plaintext.as_slice());
        }

        #[test]
        fn garbage_never_opens(bytes: Vec<u8>) {
            prop_assert!(ring().unseal(Purpose::Vault, &PLACE, &bytes).is_err());
        }
    }
}
