//! Any bytes as a zip: reading never panics and never keeps more than the limits allow.

use mortise::manifest::{Limits, MANIFEST_FILE, PackageSource, Policy, RESOURCES_FILE, check};

/// One input.
pub(super) fn run(bytes: &[u8]) {
    let limits = Limits { total_bytes: 1_000_000, file_bytes: 100_000, ..Limits::default() };
    if let Ok(source) = PackageSource::from_zip(bytes, &limits) {
        for name in [MANIFEST_FILE, RESOURCES_FILE] {
            assert!(source.content(name).is_none_or(|content| content.len() <= 100_000));
        }
        check(&source, &Policy::strict_offline());
    }
}
