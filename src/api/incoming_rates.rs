//! How often third parties may post: with one user's token, and to one installation over all of its
//! users, each of whom may have a token.

use uuid::Uuid;

use super::problem::{Code, Problem};
use crate::rate::KeyedRate;
use crate::seam::Clock;

/// The rates of what third parties post, on this node.
#[derive(Debug)]
pub struct IncomingRates {
    tokens: KeyedRate<Uuid>,
    installations: KeyedRate<Uuid>,
}

impl IncomingRates {
    /// So many requests a minute by one token and to one installation; a tenth of them at once.
    pub fn new(by_token: u32, to_installation: u32, clock: &Clock) -> Self {
        let rate = |a_minute: u32| KeyedRate::new(a_minute, (a_minute / 10).max(1), clock.clone());
        Self { tokens: rate(by_token), installations: rate(to_installation) }
    }

    /// Takes a request of both allowances; 429 where either is used up.
    pub fn admit(&self, token: Uuid, installation: Uuid) -> Result<(), Problem> {
        let over = |detail: &'static str| {
            move |wait| Problem::new(Code::TooManyRequests).detail(detail).retry_after(wait)
        };
        let often = "This token has posted too often in the last minute.";
        self.tokens.take(token, 1).map_err(over(often))?;
        let often = "This installation has been posted to too often in the last minute.";
        self.installations.take(installation, 1).map_err(over(often))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tokens_share_the_allowance_of_their_installation() {
        let rates = IncomingRates::new(100, 200, &Clock::default());
        let installation = Uuid::from_u128(1);
        let admitted = (0..100)
            .filter(|n| rates.admit(Uuid::from_u128(100 + n), installation).is_ok())
            .count();
        assert_eq!(admitted, 20, "a tenth of a minute's at once");
        assert!(rates.admit(Uuid::from_u128(999), Uuid::from_u128(2)).is_ok(), "others go on");
        let one = Uuid::from_u128(5);
        let admitted = (0..100).filter(|n| rates.admit(one, Uuid::from_u128(10 + n)).is_ok());
        assert_eq!(admitted.count(), 10, "and one token has its own");
    }
}
