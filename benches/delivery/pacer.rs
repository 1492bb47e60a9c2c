//! An open loop: single events at even intervals, whether the server keeps up or not.
//!
//! The pacer sleeps until shortly before the moment and spins the rest, because a sleep ends up to
//! a tenth of a millisecond late, and a timer of the runtime rounds to a whole one.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mortise::seam::Clock;
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::connection::frame;
use super::event::{Number, Request};
use super::ledger::Ledger;
use super::load::Orgs;
use super::{Failure, Outcome};

/// Over how many connections the events go in turn.
const CONNECTIONS: usize = 64;

/// For how long before the moment the pacer spins.
const SPIN: Duration = Duration::from_micros(120);

/// How long before the first event.
const RUN_UP: Duration = Duration::from_millis(20);

/// What is sent how fast.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) authority: String,
    pub(crate) token: String,
    /// Events a second.
    pub(crate) rate: u32,
    pub(crate) run: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) orgs: Orgs,
}

impl Pace {
    /// Sends all events of the ledger and waits for the answers. Returns how many were refused.
    pub(crate) async fn run(self) -> Outcome<u64> {
        let (mut writing, mut reading) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(&self.authority)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            reading.push(stream.try_clone()?);
            writing.push(stream);
        }
        let ledger = Arc::clone(&self.ledger);
        let (read, all_read) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("answers".to_owned()).spawn(move || {
            let outcome = LocalSet::new().block_on(&runtime, read_all(reading, ledger));
            // Nobody waits any more where the run was given up.
            let _unheard = read.send(outcome);
        })?;
        let (wrote, all_written) = oneshot::channel();
        std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            let _unheard = wrote.send(self.write_all(&writing));
        })?;
        all_written.await??;
        all_read.await?
    }

    fn write_all(&self, streams: &[TcpStream]) -> Outcome<()> {
        let mut request = Request::new(&self.authority, &self.token, None, false);
        let interval = Duration::from_secs(1) / self.rate.max(1);
        let clock = Clock::default();
        let begin = clock.instant() + RUN_UP;
        let offset = self.ledger.now() + nanos(RUN_UP);
        for (event, stream) in (0..self.ledger.events()).zip(streams.iter().cycle()) {
            let number = Number { run: self.run, event };
            let bytes = request.patch(number, |event| self.orgs.of(event));
            let after = interval * u32::try_from(event)?;
            let rest = (begin + after).saturating_duration_since(clock.instant());
            if rest > SPIN {
                clock.pause_thread(rest.saturating_sub(SPIN));
            }
            while clock.instant() < begin + after {
                std::hint::spin_loop();
            }
            self.ledger.plan(event, offset + nanos(after));
            self.ledger.send(event..event + 1);
            write(stream, bytes)?;
        }
        Ok(())
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes to a socket that does not block; a request fits into its buffer.
fn write(mut stream: &TcpStream, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(Failure::from("the server closed a connection")),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn read_all(streams: Vec<TcpStream>, ledger: Arc<Ledger>) -> Outcome<u64> {
    let mut tasks = Vec::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        tasks.push(tokio::task::spawn_local(read(stream, index, Arc::clone(&ledger))));
    }
    let mut refused = 0;
    for task in tasks {
        refused += task.await??;
    }
    Ok(refused)
}

/// Reads the answers of one connection: they come in the order of its requests.
async fn read(
    mut stream: tokio::net::TcpStream,
    index: usize,
    ledger: Arc<Ledger>,
) -> Outcome<u64> {
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let mut refused = 0;
    for event in (index..ledger.events()).step_by(CONNECTIONS) {
        loop {
            if let Some((head, body)) = frame(&buffer)
                && buffer.len() >= head + body
            {
                if buffer.get(9..12) == Some(b"202") {
                    ledger.accept(event..event + 1);
                } else {
                    refused += 1;
                }
                buffer.advance(head + body);
                break;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(Failure::from("the server closed a connection"));
            }
        }
    }
    Ok(refused)
}
