//! A process that ends with this one, however this one ends.

use std::process::{Child, ChildStdin, Command, Stdio};

use super::Outcome;

/// A child that is killed when this is dropped, and by its watchdog where this process dies.
#[derive(Debug)]
pub(crate) struct Watched {
    child: Child,
    watchdog: Child,
    /// The watchdog wakes when this closes.
    _leash: Option<ChildStdin>,
}

impl Watched {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", "read nothing; kill -KILL \"$1\"", "sh", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(mut watchdog) => {
                let leash = watchdog.stdin.take();
                Ok(Self { child, watchdog, _leash: leash })
            }
            Err(error) => {
                end(&mut child);
                Err(error.into())
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Kills a process and takes it from the table, so that its id means nobody else.
fn end(child: &mut Child) {
    let _ended = child.kill();
    let _status = child.wait();
}

impl Drop for Watched {
    fn drop(&mut self) {
        // First the watchdog, which must not kill whoever gets the id next.
        end(&mut self.watchdog);
        end(&mut self.child);
    }
}
