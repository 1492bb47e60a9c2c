//! What is remembered of installations is counted in bytes, and an extension's properties are held
//! once for all its installations.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::placeholders::Value;

/// Of how many extensions the entry may outlive the properties before it is swept out.
const SWEPT_AT: usize = 1_024;

/// Counts bytes that are held. Cloning shares the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// How many are held now.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts so many until what is returned is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { meter: self.clone(), bytes }
    }
}

/// Bytes that are counted as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    meter: Meter,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The properties of an extension, the same for all its installations.
#[derive(Debug, Default)]
pub(super) struct Properties {
    values: BTreeMap<String, Value>,
    _held: Option<Held>,
}

impl Properties {
    /// The value of a property.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

/// The properties that installations hold now, by extension.
pub(super) struct SharedProperties {
    meter: Meter,
    by_extension: Mutex<HashMap<String, Weak<Properties>>>,
}

impl fmt::Debug for SharedProperties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedProperties").finish_non_exhaustive()
    }
}

impl SharedProperties {
    /// None yet.
    pub(super) fn new(meter: Meter) -> Self {
        Self { meter, by_extension: Mutex::default() }
    }

    /// What was just read of an extension: as others hold it already, where it says the same.
    pub(super) fn share(
        &self,
        extension_key: &str,
        values: BTreeMap<String, Value>,
    ) -> Arc<Properties> {
        if values.is_empty() {
            return Arc::default();
        }
        let mut known = self.by_extension.lock().unwrap_or_else(PoisonError::into_inner);
        let held = known.get(extension_key).and_then(Weak::upgrade);
        if let Some(held) = held.filter(|held| held.values == values) {
            return held;
        }
        if known.len() >= SWEPT_AT {
            known.retain(|_, properties| properties.strong_count() > 0);
        }
        let bytes = values.iter().map(|(name, value)| name.len() + value.bytes()).sum();
        let fresh = Arc::new(Properties { values, _held: Some(self.meter.hold(bytes)) });
        known.insert(extension_key.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretText;

    fn values(text: &str) -> BTreeMap<String, Value> {
        BTreeMap::from([
            ("open".to_owned(), Value::Open(text.to_owned())),
            ("secret".to_owned(), Value::Secret(SecretText::new(text))),
        ])
    }

    #[test]
    fn installations_of_one_extension_hold_its_properties_once() {
        let meter = Meter::default();
        let shared = SharedProperties::new(meter.clone());
        let long = "x".repeat(8_192);
        let held: Vec<_> = (0..1_000).map(|_| shared.share("mirror", values(&long))).collect();
        let once = meter.bytes();
        assert!((16_384..20_000).contains(&once), "{once}");
        assert!(held.iter().all(|one| Arc::ptr_eq(one, &held[0])));
        // What changed is another set, and both count as long as somebody holds them.
        let other = shared.share("mirror", values("y"));
        assert!(matches!(other.get("open"), Some(Value::Open(text)) if text == "y"));
        assert!(meter.bytes() > once);
        drop(held);
        assert!(meter.bytes() < 1_000, "{}", meter.bytes());
        assert!(!Arc::ptr_eq(&other, &shared.share("another", values("y"))), "each its own");
        drop(other);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn what_nobody_holds_is_swept_out() {
        let shared = SharedProperties::new(Meter::default());
        for number in 0..SWEPT_AT * 2 {
            drop(shared.share(&format!("e{number}"), values("v")));
        }
        let known = shared.by_extension.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(known.len() <= SWEPT_AT, "{}", known.len());
    }
}
