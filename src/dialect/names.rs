//! What each dialect calls the host's events.

use super::Dialect;

/// Which events of a dialect a host's event is, none to several. `payload` and `previous` are JSON
/// texts and read only where the answer depends on them.
pub fn told<'n>(
    _dialect: Dialect,
    event_type: &'n str,
    _payload: &[u8],
    _previous: Option<&[u8]>,
) -> Vec<&'n str> {
    vec![event_type]
}

/// The name that a dialect has for what was written: `13` and `13 Device Online` are
/// `Device Online`. Nothing where the dialect knows no such event.
pub fn canonical(_dialect: Dialect, _given: &str) -> Option<&'static str> {
    None
}

/// The host's event types of which some are the named event of a dialect. The name is canonical.
pub fn host_types(_dialect: Dialect, _name: &str) -> Vec<&'static str> {
    Vec::new()
}

/// Every name that a webhook of the dialect can subscribe to.
pub fn known_names(_dialect: Dialect) -> &'static [&'static str] {
    &[]
}

/// The name of the dialect that is spelled most like an unknown one.
pub fn nearest(dialect: Dialect, given: &str) -> Option<&'static str> {
    crate::manifest::nearest(given, known_names(dialect).iter().copied())
}
