//! The one source of randomness.

use aws_lc_rs::rand;
use uuid::Uuid;

/// Gives random bytes and time-ordered ids. Cloning shares the source.
#[derive(Clone, Debug, Default)]
pub struct Randomness {
    _private: (),
}

/// The operating system gave no random bytes: nothing that needs a secret can go on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessExhausted;

impl Randomness {
    /// Random bytes fit for secrets.
    ///
    /// # Errors
    /// Where the operating system has none.
    pub fn bytes<const LENGTH: usize>(&self) -> Result<[u8; LENGTH], RandomnessExhausted> {
        let mut bytes = [0_u8; LENGTH];
        rand::fill(&mut bytes).map_err(|_| RandomnessExhausted)?;
        Ok(bytes)
    }

    /// A time-ordered id (UUIDv7), monotonic within the process.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes ids")]
    pub fn id(&self) -> Uuid {
        Uuid::now_v7()
    }

    /// A number in `0.0..1.0`, for jitter; not for secrets.
    pub fn fraction(&self) -> f64 {
        let bytes = self.bytes::<4>().unwrap_or([0x80, 0, 0, 0]);
        f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow() {
        let randomness = Randomness::default();
        let ids: Vec<_> = (0..1_000).map(|_| randomness.id()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn fractions_stay_in_range() {
        let randomness = Randomness::default();
        assert!((0..1_000).map(|_| randomness.fraction()).all(|value| (0.0..1.0).contains(&value)));
    }
}
