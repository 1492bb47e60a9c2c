//! How often one token may have this server call an address of its choice.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Code, Problem};
use crate::identifier::TokenId;
use crate::seam::{Clock, Timestamp};

/// How many pings and tests are under way on this node at the most.
const UNDER_WAY: usize = 32;

/// How many tokens are remembered at the most.
const REMEMBERED: usize = 10_000;

/// How many tests may come at once before the rate counts.
const BURST: u32 = 10;

/// The rate of pings and tests, for each token, on this node.
pub struct TrialRates {
    clock: Clock,
    /// What one test takes of a token's allowance.
    pause: Duration,
    /// Until when each token's allowance is used up to.
    used_until: Mutex<HashMap<TokenId, Timestamp>>,
    under_way: Arc<Semaphore>,
}

impl fmt::Debug for TrialRates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TrialRates").field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl TrialRates {
    /// So many a minute for each token.
    pub fn new(per_minute: u32, clock: Clock) -> Self {
        Self {
            clock,
            pause: Duration::from_mins(1) / per_minute.max(1),
            used_until: Mutex::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
        }
    }

    /// Takes one test of a token's allowance; 429 where there is none left. What is returned is
    /// held while the test is under way.
    pub fn admit(&self, token: TokenId) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| {
            Problem::new(Code::TooManyRequests)
                .detail("Too many pings and tests are under way; repeat this one shortly.")
                .retry_after(Duration::from_secs(1))
        })?;
        self.take(token).map(|()| permit).map_err(|wait| {
            Problem::new(Code::TooManyRequests)
                .detail("This token has made too many pings and tests in the last minute.")
                .retry_after(wait)
        })
    }

    fn take(&self, token: TokenId) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        if used_until.len() >= REMEMBERED {
            used_until.retain(|_, until| *until > now);
        }
        let ahead = self.pause * (BURST - 1);
        // No use lies further ahead than a burst, but where the time of day was set back.
        let furthest = now.plus(self.pause * BURST);
        let used = used_until.get(&token).copied().unwrap_or(now).clamp(now, furthest);
        let wait = used.since(now);
        let over = wait.saturating_sub(ahead);
        if !over.is_zero() {
            return Err(over);
        }
        if used_until.len() >= REMEMBERED && !used_until.contains_key(&token) {
            return Err(self.pause);
        }
        used_until.insert(token, used.plus(self.pause));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_counts_for_each_token() {
        let clock = Clock::default();
        let rates = TrialRates::new(60, clock.clone());
        let (one, other) = (TokenId(uuid::Uuid::from_u128(1)), TokenId(uuid::Uuid::from_u128(2)));
        for _ in 0..BURST {
            assert!(rates.take(one).is_ok());
        }
        let wait = rates.take(one).expect_err("the burst is used up");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(rates.take(other).is_ok(), "another token has its own");
        clock.advance(Duration::from_secs(1));
        assert!(rates.take(one).is_ok());
        assert!(rates.take(one).is_err());
        let problem = rates.admit(one).expect_err("still used up");
        assert_eq!(problem.status(), http::StatusCode::TOO_MANY_REQUESTS);
    }
}
