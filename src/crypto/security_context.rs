//! The securityContext: where an extension's webhook lives, sealed so that only we can read it.
//!
//! It is deterministic (AES-256-GCM-SIV under a fixed nonce, RFC 8452: safe against reuse, equal
//! inputs show as equal, which is wanted here), so it need not be stored and stays the same as
//! long as its parts and the key do. Under a newer key a new one is made and the former still
//! opens. It locates and does not authorise: without the extension's HMAC it is useless.
//!
//! Format before base64url: version (1), key id (4), ciphertext (36), tag (16).

use std::fmt;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::sealing::{header, split_header};
use super::{CryptoError, KeyRing, Purpose};
use crate::identifier::{InstallationId, WebhookId};

const PLAINTEXT_LENGTH: usize = 16 + 4 + 16;
/// A longer text is refused unread; what we make has 76 characters.
const LONGEST_TEXT: usize = 200;
/// The one nonce of the deterministic cipher.
const NONCE: [u8; NONCE_LEN] = *b"mortise ctx1";
const WHAT: &str = "the securityContext";

/// What a securityContext stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The installation.
    pub installation: InstallationId,
    /// Which installation of the extension in its org this is; only the live one counts.
    pub generation: u32,
    /// The webhook; none where the context came with a lifecycle callback.
    pub webhook: Option<WebhookId>,
}

/// A sealed [`Locator`] in URL-safe characters. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecurityContext(Box<str>);

impl SecurityContext {
    /// The text, for the wire to the vendor and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecurityContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecurityContext([hidden])")
    }
}

impl KeyRing {
    /// Seals a locator. Equal locators give equal texts under one key.
    pub fn seal_security_context(&self, locator: &Locator) -> Result<SecurityContext, CryptoError> {
        let (id, key) = self.newest_key(Purpose::SecurityContext)?;
        let header = header(id);
        let webhook = locator.webhook.map_or(Uuid::nil(), |webhook| webhook.0);
        let mut plaintext = Zeroizing::new([0_u8; PLAINTEXT_LENGTH]);
        plaintext[..16].copy_from_slice(locator.installation.0.as_bytes());
        plaintext[16..20].copy_from_slice(&locator.generation.to_be_bytes());
        plaintext[20..].copy_from_slice(webhook.as_bytes());
        let tag = key
            .deterministic
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(NONCE),
                Aad::from(header),
                plaintext.as_mut_slice(),
            )
            .map_err(|_| CryptoError::Library { operation: "sealing a securityContext" })?;
        let mut bytes = Vec::with_capacity(header.len() + PLAINTEXT_LENGTH + tag.as_ref().len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(plaintext.as_slice());
        bytes.extend_from_slice(tag.as_ref());
        Ok(SecurityContext(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Opens what a vendor sent back. Reads no database: whether the installation still lives is
    /// the caller's question.
    pub fn open_security_context(&self, text: &str) -> Result<Locator, CryptoError> {
        let malformed = || CryptoError::Malformed { what: WHAT };
        if text.len() > LONGEST_TEXT {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
        let (id, sealed) = split_header(&bytes).ok_or_else(malformed)?;
        let key = self.key(Purpose::SecurityContext, id)?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let opened = key
            .deterministic
            .open_in_place(Nonce::assume_unique_for_key(NONCE), Aad::from(header(id)), &mut buffer)
            .map_err(|_| CryptoError::Refused { what: WHAT })?;
        let (installation, rest) = opened.split_first_chunk::<16>().ok_or_else(malformed)?;
        let (generation, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let webhook: [u8; 16] = rest.try_into().map_err(|_| malformed())?;
        let webhook = Uuid::from_bytes(webhook);
        Ok(Locator {
            installation: InstallationId(Uuid::from_bytes(*installation)),
            generation: u32::from_be_bytes(*generation),
            webhook: (!webhook.is_nil()).then_some(WebhookId(webhook)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sealing::tests::ring;
    use super::*;
    use crate::crypto::{KeyId, MasterKey};
    use crate::seam::Randomness;

    fn locator() -> Locator {
        Locator {
            installation: InstallationId(Uuid::from_u128(
                0x0193_0000_0000_7000_8000_0000_0000_0001,
            )),
            generation: 3,
            webhook: Some(WebhookId(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0002))),
        }
    }

    #[test]
    fn it_is_stable_url_safe_short_and_opens() {
        let ring = ring();
        let context = ring.seal_security_context(&locator()).unwrap();
        assert_eq!(context, ring.seal_security_context(&locator()).unwrap());
        assert!(context.expose().len() <= 200);
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(context.expose().bytes().all(safe), "{}", context.expose());
        assert_eq!(ring.open_security_context(context.expose()).unwrap(), locator());
        assert_eq!(format!("{context:?}"), "SecurityContext([hidden])");
    }

    #[test]
    fn every_part_changes_it() {
        let ring = ring();
        let variants = [
            locator(),
            Locator { installation: InstallationId(Uuid::from_u128(9)), ..locator() },
            Locator { generation: 4, ..locator() },
            Locator { webhook: None, ..locator() },
        ];
        let texts: Vec<_> =
            variants.iter().map(|one| ring.seal_security_context(one).unwrap()).collect();
        for (index, text) in texts.iter().enumerate() {
            assert_eq!(ring.open_security_context(text.expose()).unwrap(), variants[index]);
            assert!(texts[index + 1..].iter().all(|other| other != text));
        }
    }

    #[test]
    fn wrong_cut_swapped_and_foreign_ones_do_not_open() {
        let ring = ring();
        let text = ring.seal_security_context(&locator()).unwrap().expose().to_owned();
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(ring.open_security_context(&changed).is_err(), "{position}");
            assert!(ring.open_security_context(&text[..position]).is_err(), "cut {position}");
        }
        for wrong in ["", "=", " ", "ä", &"A".repeat(76), &"A".repeat(100_000), &format!("{text}=")]
        {
            assert!(ring.open_security_context(wrong).is_err());
        }
        let foreign = super::super::sealing::tests::ring();
        assert!(matches!(foreign.open_security_context(&text), Err(CryptoError::Refused { .. })));
    }

    #[test]
    fn it_survives_rotation() {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).unwrap();
        let key = |id| {
            KeyRing::generate_wrapped(Purpose::SecurityContext, KeyId(id), &master, &randomness)
                .unwrap()
        };
        let (first, second) = (key(1), key(2));
        let ring = KeyRing::open([first.clone()], &master).unwrap();
        let before = ring.seal_security_context(&locator()).unwrap();
        ring.replace(&KeyRing::open([first, second.clone()], &master).unwrap());
        let after = ring.seal_security_context(&locator()).unwrap();
        assert_ne!(before, after);
        for context in [&before, &after] {
            assert_eq!(ring.open_security_context(context.expose()).unwrap(), locator());
        }
        ring.replace(&KeyRing::open([second], &master).unwrap());
        assert!(ring.open_security_context(before.expose()).is_err());
    }
}
