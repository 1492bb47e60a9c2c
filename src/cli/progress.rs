//! What takes long says meanwhile how far it is.

use std::pin::pin;
use std::time::Duration;

use super::output::Output;
use crate::seam::Clock;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// How many bytes a thing of this size must have for its progress to be worth a line.
pub(super) const WORTH_TELLING: u64 = 1 << 20;

/// Does something, and says every second how far it is where that is more than the second before.
pub(super) async fn telling<T>(
    work: impl Future<Output = T>,
    clock: &Clock,
    output: &mut Output,
    mut line: impl FnMut() -> Option<String>,
) -> T {
    let mut work = pin!(work);
    let mut told = String::new();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = clock.sleep(LOOK) => {}
        }
        if let Some(line) = line()
            && line != told
        {
            output.message(&line);
            told = line;
        }
    }
}

/// So much of so much, in MiB with a place behind the point.
pub(super) fn of_bytes(done: u64, whole: u64) -> String {
    let shown = |bytes: u64| {
        let tenths = bytes.saturating_mul(10) >> 20;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    format!("{} of {} MiB", shown(done), shown(whole))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::oneshot;

    use super::*;
    use crate::cli::output::tests::kept;

    #[tokio::test]
    async fn it_is_told_how_far_it_is_and_nothing_twice() {
        let (mut output, answers, messages) = kept();
        let clock = Clock::default();
        let (end, ended) = oneshot::channel();
        let done = Arc::new(AtomicU64::new(1));
        let line = {
            let done = Arc::clone(&done);
            move || Some(format!("{} done", done.load(Ordering::Relaxed)))
        };
        let moving = async {
            for (step, lines) in [(2, 1), (2, 1), (3, 2)] {
                done.store(step, Ordering::Relaxed);
                clock.advance(LOOK);
                while messages.text().lines().count() < lines {
                    tokio::task::yield_now().await;
                }
                tokio::task::yield_now().await;
            }
            end.send(7).expect("somebody waits");
        };
        let telling = telling(ended, &clock, &mut output, line);
        let (told, ()) = tokio::join!(telling, moving);
        assert_eq!(told, Ok(7));
        assert_eq!(messages.text(), "2 done\n3 done\n");
        assert_eq!(answers.text(), "");
    }

    #[test]
    fn sizes_are_told_in_mebibytes() {
        assert_eq!(of_bytes(0, 3 << 20), "0.0 of 3.0 MiB");
        assert_eq!(of_bytes((1 << 20) + (1 << 19), 1 << 30), "1.5 of 1024.0 MiB");
    }
}
