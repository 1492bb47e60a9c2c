//! Counters, gauges and histograms of atomics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most label sets of a family that is counted by label; what is beyond is counted as `other`.
const MOST_LABELS: usize = 200;

/// A number that only grows. On a cache line of its own, since many threads add to it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it was set to.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The most buckets of a histogram, beside the last.
const MOST_BUCKETS: usize = 16;

/// How often values fell between bounds, and their sum.
#[derive(Debug)]
#[repr(align(64))]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: [AtomicU64; MOST_BUCKETS + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        let bounds = &bounds[..bounds.len().min(MOST_BUCKETS)];
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Notes a value.
    pub fn note(&self, value: u64) {
        // A dozen comparisons at the most, of which nearly all are over after a few.
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        self.buckets[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many values were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// The bounds, each with how many values were at most so large; the last one has no bound.
    pub fn cumulative(&self) -> Vec<(Option<u64>, u64)> {
        let mut so_far = 0;
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                so_far += bucket.load(Ordering::Relaxed);
                (bound, so_far)
            })
            .collect()
    }
}

/// Counts by label sets, for what happens seldom.
#[derive(Debug)]
pub struct Labelled<const LABELS: usize>(Mutex<BTreeMap<[String; LABELS], u64>>);

impl<const LABELS: usize> Default for Labelled<LABELS> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<const LABELS: usize> Labelled<LABELS> {
    /// Adds to a label set.
    pub fn add(&self, labels: [&str; LABELS], amount: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = labels.map(str::to_owned);
        if counts.len() >= MOST_LABELS && !counts.contains_key(&key) {
            key = labels.map(|_| "other".to_owned());
        }
        *counts.entry(key).or_default() += amount;
    }

    /// All label sets with their counts.
    pub fn get(&self) -> Vec<([String; LABELS], u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(labels, count)| (labels.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            histogram.note(value);
        }
        assert_eq!(histogram.cumulative(), [(Some(10), 2), (Some(20), 4), (None, 6)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 1_062));
    }

    #[test]
    fn label_sets_are_bounded() {
        let labelled = Labelled::<1>::default();
        for number in 0..MOST_LABELS + 50 {
            labelled.add([&number.to_string()], 1);
        }
        let counts = labelled.get();
        assert_eq!(counts.len(), MOST_LABELS + 1);
        assert!(counts.contains(&(["other".to_owned()], 50)));
    }
}
