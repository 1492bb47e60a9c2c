//! Whose rows of the record of calls go where there are too many: those of the installations that
//! have most, so that nobody empties the record of another by calling often. Pure.

/// How many rows each of these installations loses, for `most` to be left in all: the largest are
/// cut down to one level. Gives at most `steps` of them, the largest first.
pub(super) fn surplus<Id>(counts: Vec<(Id, u64)>, most: u64, steps: usize) -> Vec<(Id, u64)> {
    let level = level(counts.iter().map(|(_, count)| *count).collect(), most);
    let mut over: Vec<(Id, u64)> = counts.into_iter().filter(|(_, count)| *count > level).collect();
    over.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
    over.truncate(steps);
    over.into_iter().map(|(id, count)| (id, count - level)).collect()
}

/// The most rows that each may have for all together to have `most`; [`u64::MAX`] where they have no
/// more.
fn level(mut counts: Vec<u64>, most: u64) -> u64 {
    counts.sort_unstable();
    let mut left = most;
    for (index, count) in counts.iter().enumerate() {
        let others = u64::try_from(counts.len() - index).unwrap_or(u64::MAX);
        let share = left / others;
        if *count > share {
            return share;
        }
        left -= count;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_cut_down_to_one_level() {
        for (counts, most, wanted) in [
            (vec![], 10, vec![]),
            (vec![("a", 4), ("b", 6)], 10, vec![]),
            (vec![("quiet", 5), ("noisy", 1_000)], 100, vec![("noisy", 905)]),
            (vec![("a", 50), ("b", 60), ("c", 3)], 83, vec![("b", 20), ("a", 10)]),
            (vec![("a", 9), ("b", 9), ("c", 9)], 10, vec![("a", 6), ("b", 6), ("c", 6)]),
        ] {
            let mut found = surplus(counts, most, 10);
            found.sort_by_key(|(name, rows)| (std::cmp::Reverse(*rows), *name));
            assert_eq!(found, wanted);
        }
        assert_eq!(surplus(vec![("a", 9), ("b", 10)], 2, 1), [("b", 9)]);
    }

    proptest::proptest! {
        #[test]
        fn no_more_is_left_than_may_be_and_the_small_lose_nothing(
            counts in proptest::collection::vec(0_u64..1_000, 0..50), most in 0_u64..10_000,
        ) {
            let all: u64 = counts.iter().sum();
            let lost = surplus(counts.iter().copied().enumerate().collect(), most, usize::MAX);
            let gone: u64 = lost.iter().map(|(_, rows)| rows).sum();
            proptest::prop_assert!(all - gone <= most);
            if all <= most {
                proptest::prop_assert_eq!(gone, 0);
            }
            let fair = most / u64::try_from(counts.len().max(1)).unwrap_or(1);
            for (index, _) in lost {
                proptest::prop_assert!(counts[index] > fair);
            }
        }
    }
}
