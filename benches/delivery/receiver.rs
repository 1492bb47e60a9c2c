//! The receiver of all webhooks: answers at once and notes what came, on a thread of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Buf as _, Bytes, BytesMut};
use mortise::development::{Check, Received, Secrets, verify};
use mortise::seam::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::Outcome;
use super::connection::frame;
use super::event::Reader;
use super::ledger::Ledger;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// The path of bare requests, which are counted and nothing else.
pub(crate) const BARE: &str = "/bare";

/// One arrival in so many has its signature checked.
const CHECKED: u64 = 256;

/// How the receiver treats the troubled org.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// As all others.
    None,
    /// 503.
    Refuses,
    /// No answer ever.
    Hangs,
}

/// What the receiver and its owner share.
#[derive(Debug, Default)]
struct Shared {
    runs: RwLock<Vec<Arc<Ledger>>>,
    secrets: Mutex<Vec<(String, Secrets)>>,
    trouble: AtomicU8,
    troubled: Mutex<Vec<u8>>,
    relieved: Notify,
    bare: AtomicU64,
    strays: AtomicU64,
    faulty: AtomicU64,
    checked: AtomicU64,
    wrongly_signed: AtomicU64,
    said: AtomicBool,
}

/// What came that should not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Requests that are not what was sent.
    pub(crate) faulty: u64,
    /// Signatures that do not fit, of those that were checked.
    pub(crate) wrongly_signed: u64,
    /// Events of no run.
    pub(crate) strays: u64,
}

/// A receiver that runs until the program ends.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// Starts it on a free port.
    pub(crate) fn start() -> Outcome<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&serving)));
                }
            });
        })?;
        Ok(Self { address, shared })
    }

    /// Its origin.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Expects the events of one more run; returns its number.
    pub(crate) fn expect(&self, ledger: &Arc<Ledger>) -> usize {
        let mut runs = self.shared.runs.write().unwrap_or_else(PoisonError::into_inner);
        runs.push(Arc::clone(ledger));
        runs.len() - 1
    }

    /// Forgets all runs: their events, should any still come, are strays.
    pub(crate) fn forget(&self) {
        self.shared.runs.write().unwrap_or_else(PoisonError::into_inner).clear();
        lock(&self.shared.secrets).clear();
    }

    /// The secret that signs what comes to a path.
    pub(crate) fn know(&self, path: &str, secret: String) {
        let secrets = Secrets { signing: vec![secret], ..Secrets::default() };
        lock(&self.shared.secrets).push((path.to_owned(), secrets));
    }

    /// Treats an org differently from now on.
    pub(crate) fn trouble(&self, org: &str, trouble: Trouble) {
        *lock(&self.shared.troubled) = org.as_bytes().to_vec();
        self.shared.trouble.store(trouble as u8, Ordering::Release);
        self.shared.relieved.notify_waiters();
    }

    /// How many bare requests came.
    pub(crate) fn bare(&self) -> u64 {
        self.shared.bare.load(Ordering::Relaxed)
    }

    /// What came that should not have, since the last time.
    pub(crate) fn take_faults(&self) -> Faults {
        Faults {
            faulty: self.shared.faulty.swap(0, Ordering::Relaxed),
            wrongly_signed: self.shared.wrongly_signed.swap(0, Ordering::Relaxed),
            strays: self.shared.strays.swap(0, Ordering::Relaxed),
        }
    }
}

/// Serves one connection.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    // A connection without it is slower, not wrong.
    let _slower = stream.set_nodelay(true);
    let reader = Reader::new();
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        let (head, body) = loop {
            if let Some((head, body)) = frame(&buffer)
                && buffer.len() >= head + body
            {
                break (head, body);
            }
            buffer.reserve(8 << 10);
            // The server may close a connection that it does not need any more.
            if !matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0) {
                return;
            }
        };
        let answer = match take(&buffer[..head], &buffer[head..head + body], &reader, &shared) {
            Trouble::None => OK,
            Trouble::Refuses => UNAVAILABLE,
            Trouble::Hangs => {
                hang(&mut stream, &shared).await;
                return;
            }
        };
        buffer.advance(head + body);
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Waits until the other side gives up, or until hanging is over.
async fn hang(stream: &mut TcpStream, shared: &Shared) {
    let mut nothing = [0; 64];
    let relieved = shared.relieved.notified();
    if shared.trouble.load(Ordering::Acquire) != Trouble::Hangs as u8 {
        return;
    }
    tokio::select! {
        _closed = stream.read(&mut nothing) => {}
        () = relieved => {}
    }
}

/// The path and the query of a request.
fn target(head: &[u8]) -> (&[u8], &[u8]) {
    let target = head.strip_prefix(b"POST ").unwrap_or_default();
    let end = target.iter().position(|byte| *byte == b' ').unwrap_or(0);
    let target = target.get(..end).unwrap_or_default();
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    }
}

/// Takes a request; says how to answer.
fn take(head: &[u8], body: &[u8], reader: &Reader, shared: &Shared) -> Trouble {
    let (path, query) = target(head);
    if path == BARE.as_bytes() {
        shared.bare.fetch_add(1, Ordering::Relaxed);
        return Trouble::None;
    }
    let webhook = path.strip_prefix(b"/hooks/").and_then(|digits| std::str::from_utf8(digits).ok());
    let webhook = webhook.and_then(|digits| digits.parse::<usize>().ok());
    let (Some(webhook), Some((number, org))) = (webhook, reader.read(body)) else {
        shared.faulty.fetch_add(1, Ordering::Relaxed);
        if !shared.said.swap(true, Ordering::Relaxed) {
            eprintln!("not what was sent: {}", String::from_utf8_lossy(body));
        }
        return Trouble::None;
    };
    // The org of the address is the body's, which the signature covers.
    let of_query = query.strip_prefix(b"orgId=").and_then(|rest| rest.get(..org.len()));
    if of_query != Some(org) {
        shared.faulty.fetch_add(1, Ordering::Relaxed);
    }
    let trouble = shared.trouble.load(Ordering::Acquire);
    if trouble != Trouble::None as u8 && *lock(&shared.troubled) == org {
        return if trouble == Trouble::Hangs as u8 { Trouble::Hangs } else { Trouble::Refuses };
    }
    let run = {
        let runs = shared.runs.read().unwrap_or_else(PoisonError::into_inner);
        runs.get(number.run).cloned()
    };
    if !run.is_some_and(|run| run.arrive(number.event, webhook)) {
        shared.strays.fetch_add(1, Ordering::Relaxed);
    }
    if shared.checked.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECKED)
        && !is_signed(path, head, body, shared)
    {
        shared.wrongly_signed.fetch_add(1, Ordering::Relaxed);
    }
    Trouble::None
}

/// Whether a request's signature is right.
fn is_signed(path: &[u8], head: &[u8], body: &[u8], shared: &Shared) -> bool {
    let clock = Clock::default();
    let path = String::from_utf8_lossy(path).into_owned();
    let headers = String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let received = Received {
        number: 0,
        connection: 0,
        peer: SocketAddr::from(([127, 0, 0, 1], 0)),
        arrived: clock.now(),
        instant: clock.instant(),
        method: "POST".to_owned(),
        path: path.clone(),
        query: None,
        headers,
        body: Bytes::copy_from_slice(body),
    };
    let secrets = lock(&shared.secrets);
    let known = secrets.iter().find(|(of, _)| *of == path);
    known.is_some_and(|(_, secrets)| verify(&received, secrets).standard == Check::Valid)
}
