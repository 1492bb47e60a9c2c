//! What must survive: crashes, outages, frozen nodes, full disks, clocks that are set, receivers
//! that do their worst. All but the clock on the real program. `docs/RELIABILITY.md` says how to run
//! the long forms.

mod backlog;
mod clock;
mod crashes;
mod disk;
#[cfg(feature = "fault-injection")]
mod lifecycle;
mod nodes;
mod outage;
mod receivers;
#[cfg(feature = "fault-injection")]
mod upgrades;
mod window;
