//! Places for those who wait for deliveries: bounded in all, and for each token, so that one cannot
//! take all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identifier::TokenId;

/// How many readers wait on this node at a time.
const READERS: usize = 256;

/// How many of them with one token: two for each of its listeners, since a reader whose connection
/// broke may be replaced before that is noticed.
const READERS_PER_TOKEN: usize = 16;

/// The places. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct ReaderPlaces(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    of_tokens: HashMap<TokenId, usize>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct ReaderPlace {
    places: ReaderPlaces,
    token: TokenId,
}

impl ReaderPlaces {
    /// A place for a token; nothing where it, or all together, have none left.
    pub(super) fn take(&self, token: TokenId) -> Option<ReaderPlace> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = count.of_tokens.get(&token).copied().unwrap_or(0);
        if count.in_all >= READERS || own >= READERS_PER_TOKEN {
            return None;
        }
        count.in_all += 1;
        count.of_tokens.insert(token, own + 1);
        Some(ReaderPlace { places: self.clone(), token })
    }
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all = taken.in_all.saturating_sub(1);
        let own = taken.of_tokens.get(&self.token).copied().unwrap_or(0);
        if own <= 1 {
            taken.of_tokens.remove(&self.token);
        } else {
            taken.of_tokens.insert(self.token, own - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_token_leaves_room_for_the_others() {
        let places = ReaderPlaces::default();
        let of = |number: u128| places.take(TokenId(Uuid::from_u128(number)));
        let first: Vec<_> = std::iter::from_fn(|| of(1)).collect();
        assert_eq!(first.len(), READERS_PER_TOKEN);
        let others: Vec<_> = (2..).map_while(of).collect();
        assert_eq!(others.len(), READERS - READERS_PER_TOKEN, "bounded in all");
        drop((first, others));
        assert_eq!(places.0.lock().unwrap().in_all, 0);
        assert!(places.0.lock().unwrap().of_tokens.is_empty());
    }
}
