//! Crash points: places at which a test can end the process as a power cut would.

/// Ends the process at once where the point is armed.
///
/// Only in builds with the feature `fault-injection`; elsewhere it is nothing. A point is armed by
/// `MORTISE_CRASH_AT=name`.
#[cfg(feature = "fault-injection")]
pub fn crash_point(name: &str) {
    if std::env::var("MORTISE_CRASH_AT").is_ok_and(|armed| armed == name) {
        std::process::abort();
    }
}

/// Ends the process at once where the point is armed.
///
/// Only in builds with the feature `fault-injection`; elsewhere it is nothing.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn crash_point(_name: &str) {}
