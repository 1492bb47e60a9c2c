//! Notices: what an administrator, a vendor or the operator must know.
//!
//! A notice is written in the transaction of what it tells of ([`Board::post`]). What happens again
//! to the same subject is counted and makes no second row; who dismissed it sees it again then.
//! Where `notices.url` is set, each time also goes there, signed and durably ([`Outbox`]).

mod board;
mod expiry;
mod outbox;
mod reading;

pub use board::{Board, Notice, NoticeKind};
pub use expiry::{TOLD_BEFORE, run as run_expiry};
pub use outbox::{Outbox, OutboxOptions};
pub use reading::{Audience, NoticeCursor, NoticeView, dismiss, list};
