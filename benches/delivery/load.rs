//! A closed loop: so many clients, each with one request under way.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mortise::seam::Clock;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::connection::Connection;
use super::event::{Number, Request};
use super::ledger::Ledger;
use super::{Failure, Outcome};

/// How long a client waits that was told to come back.
const COME_BACK: Duration = Duration::from_millis(50);

/// The orgs that events are for, in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orgs {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Orgs {
    /// The org of an event.
    pub(crate) fn of(self, event: usize) -> usize {
        self.first + event % self.count.max(1)
    }
}

/// What a loop sends.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) authority: String,
    pub(crate) token: String,
    pub(crate) connections: usize,
    /// Arrays of so many; single events where there is none.
    pub(crate) array: Option<usize>,
    /// Whether events have ids of the host.
    pub(crate) keyed: bool,
    pub(crate) run: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) orgs: Orgs,
}

impl Load {
    /// Sends all events of the ledger, on a thread of its own. Returns how often it was told to
    /// come back later.
    pub(crate) async fn run(self) -> Outcome<u64> {
        let (done, finished) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            let outcome = LocalSet::new().block_on(&runtime, self.send_all());
            // Nobody waits any more where the run was given up.
            let _unheard = done.send(outcome);
        })?;
        finished.await?
    }

    async fn send_all(self) -> Outcome<u64> {
        let next = Rc::new(Cell::new(0));
        let load = Rc::new(self);
        let clients: Vec<_> = (0..load.connections)
            .map(|_| tokio::task::spawn_local(client(Rc::clone(&load), Rc::clone(&next))))
            .collect();
        let mut refusals = 0;
        for client in clients {
            refusals += client.await??;
        }
        Ok(refusals)
    }
}

async fn client(load: Rc<Load>, next: Rc<Cell<usize>>) -> Outcome<u64> {
    let clock = Clock::default();
    let mut connection = Connection::open(&load.authority).await?;
    let mut request = Request::new(&load.authority, &load.token, load.array, load.keyed);
    let count = request.events();
    let expected = format!("{{\"accepted\":{count},");
    let mut refusals = 0;
    loop {
        let first = next.get();
        if first + count > load.ledger.events() {
            return Ok(refusals);
        }
        next.set(first + count);
        let number = Number { run: load.run, event: first };
        let bytes = request.patch(number, |event| load.orgs.of(event));
        loop {
            load.ledger.send(first..first + count);
            let is_accepted = |body: &[u8]| {
                if body.starts_with(expected.as_bytes()) {
                    Ok(())
                } else {
                    Err(String::from_utf8_lossy(body).into_owned())
                }
            };
            match connection.exchange(bytes, is_accepted).await? {
                (202, Ok(())) => break,
                (429 | 503, _) => {
                    refusals += 1;
                    clock.sleep(COME_BACK).await;
                }
                (status, answer) => {
                    let answer = answer.err().unwrap_or_default();
                    return Err(Failure::from(format!("an event was answered {status} {answer}")));
                }
            }
        }
        load.ledger.accept(first..first + count);
    }
}
