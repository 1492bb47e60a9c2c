//! The tokens of webhooks, signed once an hour and not for each delivery.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use uuid::Uuid;

use crate::seam::Timestamp;

/// How long before its end a token is made anew.
const RENEWAL: Duration = Duration::from_mins(10);

/// Tokens that are kept: about 700 bytes each. Beyond, those that end first are made anew when they
/// are needed.
const MOST: usize = 32_768;

#[derive(Debug)]
struct Token {
    value: HeaderValue,
    until: Timestamp,
    /// The key that signed it: a token of a former key is not given out.
    key_id: Box<str>,
}

/// The tokens of this node.
#[derive(Debug)]
pub(super) struct JwtCache {
    tokens: Mutex<HashMap<Uuid, Token>>,
    most: usize,
}

impl Default for JwtCache {
    fn default() -> Self {
        Self { tokens: Mutex::default(), most: MOST }
    }
}

impl JwtCache {
    /// The token of a webhook, where it was signed by this key and counts for long enough.
    pub(super) fn get(&self, endpoint: Uuid, key_id: &str, now: Timestamp) -> Option<HeaderValue> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(&endpoint)
            .filter(|token| now.plus(RENEWAL) < token.until && &*token.key_id == key_id)
            .map(|token| token.value.clone())
    }

    /// Keeps a token.
    pub(super) fn put(&self, endpoint: Uuid, key_id: &str, value: HeaderValue, until: Timestamp) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= self.most && !tokens.contains_key(&endpoint) {
            // An eighth at once, so that this is rare: those that would be made anew first.
            let mut ends: Vec<Timestamp> = tokens.values().map(|token| token.until).collect();
            let place = ends.len() / 8;
            let (_, latest, _) = ends.select_nth_unstable(place);
            let latest = *latest;
            tokens.retain(|_, token| token.until > latest);
        }
        tokens.insert(endpoint, Token { value, until, key_id: key_id.into() });
    }

    /// Drops the tokens of endpoints that deliver no more.
    pub(super) fn forget(&self, endpoints: &[Uuid]) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in endpoints {
            tokens.remove(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const TOKEN: HeaderValue = HeaderValue::from_static("a.b.c");

    #[test]
    fn a_token_is_given_out_until_it_is_renewed_or_its_key_is() {
        let cache = JwtCache::default();
        let (one, hour) = (Uuid::from_u128(1), START.plus(Duration::from_hours(1)));
        cache.put(one, "first", TOKEN, hour);
        assert_eq!(cache.get(one, "first", START), Some(TOKEN));
        assert_eq!(cache.get(one, "second", START), None);
        assert_eq!(cache.get(one, "first", hour.minus(RENEWAL)), None);
        cache.forget(&[one]);
        assert_eq!(cache.get(one, "first", START), None);
    }

    #[test]
    fn ten_thousand_webhooks_are_remembered_and_no_more_than_the_bound() {
        let cache = JwtCache::default();
        let id = |number: usize| Uuid::from_u128(number as u128);
        let until = |number: usize| {
            START.plus(Duration::from_hours(1) + Duration::from_micros(number as u64))
        };
        for number in 0..10_000 {
            cache.put(id(number), "key", TOKEN, until(number));
        }
        assert!((0..10_000).all(|number| cache.get(id(number), "key", START).is_some()));
        for number in 10_000..3 * MOST {
            cache.put(id(number), "key", TOKEN, until(number));
            assert!(cache.tokens.lock().unwrap().len() <= MOST);
        }
        assert!(cache.get(id(3 * MOST - 1), "key", START).is_some());
        assert!(cache.get(id(0), "key", START).is_none(), "the oldest went first");

        // Tokens that all end at once leave together rather than none.
        let small = JwtCache { most: 8, ..JwtCache::default() };
        for number in 0..20 {
            small.put(id(number), "key", TOKEN, START.plus(Duration::from_hours(1)));
            assert!(small.tokens.lock().unwrap().len() <= 8);
        }
    }
}
