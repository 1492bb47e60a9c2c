//! Keys, sealing and signatures.
//!
//! Everything secret that the program keeps is sealed under a data key of the [`KeyRing`], and the
//! data keys are wrapped by the [`MasterKey`], which lives in a file and nowhere else. What leaves
//! for a vendor is signed by [`Signer`] (Standard Webhooks), [`desk_hash`] (the desk dialect's
//! `HASH`) and [`JwtSigningKey`] (`X-ZDesk-JWT`).
//!
//! All primitives come from aws-lc-rs; this room chooses formats, keys and limits.

mod data_key_rotation;
mod desk_hash;
mod ed25519;
mod jwt;
mod key_ring;
mod key_rotation;
mod key_store;
mod master_key;
mod rewrapping;
mod sealing;
mod secret;
mod security_context;
mod signature;
mod signing_keys;

use std::path::PathBuf;

pub(crate) use data_key_rotation::{
    DataKeyView, activate_data_key, data_keys, introduce_data_key, retire_data_keys,
};
pub use desk_hash::{desk_hash, verify_desk_hash};
pub use ed25519::{Ed25519PublicKey, Ed25519SigningKey};
pub use jwt::{JwtClaims, JwtSigningKey};
pub use key_ring::{KeyId, KeyRing, Purpose, WrappedKey};
pub use key_rotation::{NewSigningKey, Rotated, rotate_signing_key};
pub use key_store::{KeyStoreError, Keys, open_keys};
pub use master_key::MasterKey;
#[cfg(unix)]
pub(crate) use master_key::lets_others_in;
pub use rewrapping::{Rewrapped, rewrap};
pub use sealing::AssociatedData;
pub(crate) use sealing::sealing_key;
pub use secret::{SecretBytes, SecretText, constant_time_equal};
pub use security_context::{Locator, SecurityContext};
pub use signature::{
    DEFAULT_TOLERANCE, SignatureHeaders, SignatureRefused, Signer, SigningSecret, Verifier,
};
pub use signing_keys::{SigningKeyView, SigningKeys, SigningPurpose, UnknownSigningPurpose};

/// What can go wrong with keys and ciphertexts. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes; nothing that needs a secret can go on")]
    Randomness,
    /// The master key's file cannot be read or written.
    #[error("the master key file {path} cannot be used: {source}")]
    MasterKeyFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others than its owner may read the master key's file.
    #[error(
        "the master key file {path} has mode {mode:04o}: others than its owner may use it; run `chmod 600 {path}`"
    )]
    MasterKeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The master key's file does not hold a key.
    #[error(
        "the master key file {path} must hold one line with 32 bytes in base64; restore it from its backup, a new key cannot open what the old one sealed"
    )]
    MasterKeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// The ring has no key for a purpose.
    #[error("the key ring has no key for {purpose}; start the server once so that it makes one")]
    NoKey {
        /// What the key would be for.
        purpose: Purpose,
    },
    /// A ciphertext names a key that the ring lacks.
    #[error("the key ring lacks key {id} for {purpose}; it was removed before what it sealed")]
    UnknownKey {
        /// What the key would be for.
        purpose: Purpose,
        /// The key that the ciphertext names.
        id: KeyId,
    },
    /// Two keys of the ring have the same purpose and id.
    #[error("the key ring has key {id} for {purpose} twice")]
    DuplicateKey {
        /// What the keys are for.
        purpose: Purpose,
        /// The id that both have.
        id: KeyId,
    },
    /// Something is not in the format that this program writes.
    #[error("{what} is malformed")]
    Malformed {
        /// What was to be read.
        what: &'static str,
    },
    /// A ciphertext was changed, moved to another place or sealed under another key.
    #[error("{what} does not open: it was changed, moved, or sealed under another key")]
    Refused {
        /// What was to be opened.
        what: &'static str,
    },
    /// A secret breaks a rule of its kind.
    #[error("{what} must be {rule}")]
    UnfitSecret {
        /// What was given.
        what: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The library failed at something that only fails for want of memory or a broken build.
    #[error("the crypto library failed at {operation}")]
    Library {
        /// What was to be done.
        operation: &'static str,
    },
}
