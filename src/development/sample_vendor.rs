//! A vendor's receiver: takes every request, keeps it, and answers as it is told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::received::{Origin, ReadError, Received, read_request};
use super::{Background, DevelopmentError};
use crate::seam::Seam;

/// The most connections at a time.
const CONNECTIONS: usize = 4_096;

/// How a sample vendor is set up.
#[derive(Clone, Debug)]
pub struct SampleVendorOptions {
    /// The clock that arrivals are noted by.
    pub seam: Seam,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// How many requests are kept; older ones are forgotten.
    pub capacity: usize,
    /// How many bytes of bodies are kept; older ones are forgotten.
    pub capacity_bytes: usize,
}

impl Default for SampleVendorOptions {
    fn default() -> Self {
        Self { seam: Seam::default(), port: 0, capacity: 10_000, capacity_bytes: 64 << 20 }
    }
}

/// What the vendor does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers.
    Answer {
        /// The status.
        status: u16,
        /// The headers, but for the length.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
        /// How long it thinks before.
        delay: Duration,
    },
    /// Answers 200 and says back what came: `headers` and `body` in JSON, and what came as
    /// `Authorization` in the header `X-Echo`.
    Echo,
    /// Answers the same way, but one byte at a time.
    Trickle {
        /// How long from byte to byte.
        interval: Duration,
    },
    /// Answers 200 and a body that never ends.
    Flood,
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes the connection.
    Close,
    /// Takes the request and resets the connection.
    Reset,
    /// Answers something that is not HTTP.
    Garbage,
}

impl Behaviour {
    /// An answer of a status, without headers and body.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO }
    }

    /// The same answer with one more header. Nothing changes where this is no answer.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same answer with a body. Nothing changes where this is no answer.
    #[must_use]
    pub fn with_body(mut self, text: impl Into<Vec<u8>>) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = text.into();
        }
        self
    }

    /// The same answer after a while. Nothing changes where this is no answer.
    #[must_use]
    pub fn after(mut self, span: Duration) -> Self {
        if let Self::Answer { delay, .. } = &mut self {
            *delay = span;
        }
        self
    }
}

/// The answer that says back what came.
fn echo(received: &Received) -> Vec<u8> {
    let headers: serde_json::Map<String, serde_json::Value> = (received.headers.iter())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().into()))
        .collect();
    let body = String::from_utf8_lossy(&received.body);
    let said = serde_json::json!({ "headers": headers, "body": body }).to_string();
    let authorization = received.header("authorization").unwrap_or_default();
    let headers = [
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-echo".to_owned(), authorization.to_owned()),
    ];
    answer(200, &headers, said.as_bytes())
}

/// How one path behaves: some answers first, then one for good.
struct Script {
    first: VecDeque<Behaviour>,
    then: Behaviour,
}

/// How many requests of a path are in hand, and were at most.
#[derive(Clone, Copy, Default)]
struct Load {
    now: usize,
    most: usize,
}

struct Desk {
    kept: VecDeque<Arc<Received>>,
    kept_bytes: usize,
    /// How many requests came in all.
    count: u64,
    /// The number of the last request that `next` gave out.
    taken: u64,
    connections: u64,
    scripts: HashMap<String, Script>,
    otherwise: Behaviour,
    load: HashMap<String, Load>,
}

struct Shared {
    options: SampleVendorOptions,
    desk: Mutex<Desk>,
    /// The count of requests; whoever waits looks here.
    count: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Shared {
    /// The desk; a panic elsewhere leaves it as it was, which is good enough to go on.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request and says what to do with it.
    fn take_in(&self, mut received: Received) -> (Behaviour, Arc<Received>) {
        let mut desk = self.desk();
        desk.count += 1;
        received.number = desk.count;
        // Paths come from outside: beyond the capacity new ones are not counted.
        if desk.load.len() < self.options.capacity || desk.load.contains_key(&received.path) {
            let load = desk.load.entry(received.path.clone()).or_default();
            load.now += 1;
            load.most = load.most.max(load.now);
        }
        let behaviour = match desk.scripts.get_mut(&received.path) {
            Some(script) => script.first.pop_front().unwrap_or_else(|| script.then.clone()),
            None => desk.otherwise.clone(),
        };
        desk.kept_bytes += received.body.len();
        let received = Arc::new(received);
        desk.kept.push_back(Arc::clone(&received));
        while desk.kept.len() > self.options.capacity
            || (desk.kept_bytes > self.options.capacity_bytes && desk.kept.len() > 1)
        {
            if let Some(forgotten) = desk.kept.pop_front() {
                desk.kept_bytes -= forgotten.body.len();
            }
        }
        let count = desk.count;
        drop(desk);
        self.count.send_replace(count);
        (behaviour, received)
    }

    fn done(&self, path: &str) {
        if let Some(load) = self.desk().load.get_mut(path) {
            load.now = load.now.saturating_sub(1);
        }
    }
}

/// A running sample vendor; it stops, and drops all connections, when this is dropped.
pub struct SampleVendor {
    address: SocketAddr,
    shared: Arc<Shared>,
    background: Background,
}

impl std::fmt::Debug for SampleVendor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SampleVendor")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SampleVendor {
    /// Starts a vendor on the loopback interface. Every path answers 200 at first.
    pub async fn start(options: SampleVendorOptions) -> Result<Self, DevelopmentError> {
        let (listener, address) = super::listen(options.port).await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            options,
            desk: Mutex::new(Desk {
                kept: VecDeque::new(),
                kept_bytes: 0,
                count: 0,
                taken: 0,
                connections: 0,
                scripts: HashMap::new(),
                otherwise: Behaviour::status(200),
                load: HashMap::new(),
            }),
            count: watch::Sender::new(0),
            stop: stop.clone(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, background: Background::new(stop, task) })
    }

    /// Stops the vendor and waits until its connections are gone.
    pub async fn stop(mut self) {
        self.background.stop().await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What a path does from now on.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.behave_in_turn(path, [], behaviour);
    }

    /// What a path does with the next requests, one after the other, and then with all others.
    pub fn behave_in_turn(
        &self,
        path: &str,
        first: impl IntoIterator<Item = Behaviour>,
        then: Behaviour,
    ) {
        let script = Script { first: first.into_iter().collect(), then };
        self.shared.desk().scripts.insert(path.to_owned(), script);
    }

    /// What all paths do that were not told anything.
    pub fn behave_otherwise(&self, behaviour: Behaviour) {
        self.shared.desk().otherwise = behaviour;
    }

    /// The requests that are kept, the oldest first.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.desk().kept.iter().cloned().collect()
    }

    /// The requests of a path that are kept, the oldest first.
    pub fn received_at(&self, path: &str) -> Vec<Arc<Received>> {
        let desk = self.shared.desk();
        desk.kept.iter().filter(|received| received.path == path).cloned().collect()
    }

    /// How many requests came in all.
    pub fn count(&self) -> u64 {
        self.shared.desk().count
    }

    /// How many connections were accepted in all.
    pub fn connections(&self) -> u64 {
        self.shared.desk().connections
    }

    /// How many requests of a path are in hand now.
    pub fn in_hand(&self, path: &str) -> usize {
        self.shared.desk().load.get(path).map_or(0, |load| load.now)
    }

    /// How many requests of a path were in hand at the same time, at most.
    pub fn most_in_hand(&self, path: &str) -> usize {
        self.shared.desk().load.get(path).map_or(0, |load| load.most)
    }

    /// Forgets the requests that are kept; numbers go on.
    pub fn forget(&self) {
        let mut desk = self.shared.desk();
        desk.kept.clear();
        desk.kept_bytes = 0;
        desk.taken = desk.count;
    }

    /// The next request that this has not given out yet.
    pub async fn next(&self, timeout: Duration) -> Result<Arc<Received>, DevelopmentError> {
        let take = || {
            let mut desk = self.shared.desk();
            let taken = desk.taken;
            let next = desk.kept.iter().find(|received| received.number > taken).cloned();
            if let Some(next) = &next {
                desk.taken = next.number;
            }
            next
        };
        self.wait(timeout, 1, || take().ok_or(0)).await
    }

    /// Waits until so many requests are kept; gives all that are.
    pub async fn wait_for(
        &self,
        wanted: usize,
        timeout: Duration,
    ) -> Result<Vec<Arc<Received>>, DevelopmentError> {
        self.wait_where(wanted, timeout, |_| true).await
    }

    /// Waits until so many requests of a path are kept; gives all that are.
    pub async fn wait_for_path(
        &self,
        path: &str,
        wanted: usize,
        timeout: Duration,
    ) -> Result<Vec<Arc<Received>>, DevelopmentError> {
        self.wait_where(wanted, timeout, |received| received.path == path).await
    }

    /// Waits until so many requests are kept that fulfil a condition; gives all that do.
    pub async fn wait_where(
        &self,
        wanted: usize,
        timeout: Duration,
        condition: impl Fn(&Received) -> bool,
    ) -> Result<Vec<Arc<Received>>, DevelopmentError> {
        let look = || {
            let desk = self.shared.desk();
            let found: Vec<_> = desk.kept.iter().filter(|kept| condition(kept)).cloned().collect();
            if found.len() >= wanted { Ok(found) } else { Err(found.len()) }
        };
        self.wait(timeout, wanted, look).await
    }

    /// Looks whenever a request has come, until there is something or the time is up.
    async fn wait<T>(
        &self,
        timeout: Duration,
        wanted: usize,
        look: impl Fn() -> Result<T, usize>,
    ) -> Result<T, DevelopmentError> {
        let mut count = self.shared.count.subscribe();
        let mut got = 0;
        let waiting = async {
            loop {
                match look() {
                    Ok(found) => return Some(found),
                    Err(so_far) => got = so_far,
                }
                // The sender lives as long as this vendor.
                if count.changed().await.is_err() {
                    return None;
                }
            }
        };
        let found = tokio::time::timeout(timeout, waiting).await.ok().flatten();
        let milliseconds = timeout.as_millis();
        found.ok_or(DevelopmentError::TimedOut { milliseconds, wanted, got })
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    let stop = shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                listener.accept().await.map(|(stream, peer)| (stream, peer, place))
            } => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    let _place = place;
                    let stop = shared.stop.clone();
                    let served = stop.run_until_cancelled(serve(stream, peer, &shared)).await;
                    if let Some(Err(error)) = served {
                        tracing::debug!(%error, %peer, "a connection to the sample vendor ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the sample vendor cannot accept a connection");
                shared.options.seam.clock.sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Gives a path's place back however the work with its request ends.
struct InHand<'a> {
    shared: &'a Shared,
    path: String,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.shared.done(&self.path);
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) -> Result<(), ReadError> {
    let connection = {
        let mut desk = shared.desk();
        desk.connections += 1;
        desk.connections
    };
    stream.set_nodelay(true)?;
    let origin = Origin { clock: &shared.options.seam.clock, peer, connection };
    let mut buffer = BytesMut::with_capacity(8 << 10);
    while let Some(received) = read_request(&mut stream, &mut buffer, origin).await? {
        let asks_to_close =
            received.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let path = received.path.clone();
        let (behaviour, received) = shared.take_in(received);
        let _in_hand = InHand { shared, path };
        if !behave(&mut stream, &behaviour, &received).await? || asks_to_close {
            break;
        }
    }
    Ok(())
}

/// Does what it is told; `false` where the connection is over then.
async fn behave(
    stream: &mut TcpStream,
    behaviour: &Behaviour,
    received: &Received,
) -> Result<bool, ReadError> {
    match behaviour {
        Behaviour::Echo => {
            stream.write_all(&echo(received)).await?;
            Ok(true)
        }
        Behaviour::Answer { status, headers, body, delay } => {
            // Real time: a test that moves the clock does not mean the vendor's thinking.
            if !delay.is_zero() && ends_within(stream, *delay).await {
                return Ok(false);
            }
            stream.write_all(&answer(*status, headers, body)).await?;
            Ok(true)
        }
        Behaviour::Trickle { interval } => {
            for byte in answer(200, &[], b"slowly") {
                stream.write_all(&[byte]).await?;
                if ends_within(stream, *interval).await {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Behaviour::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let mut chunk = b"4000\r\n".to_vec();
            chunk.resize(chunk.len() + 0x4000, b'x');
            chunk.extend_from_slice(b"\r\n");
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Behaviour::Hang => {
            let mut rest = [0_u8; 1_024];
            while stream.read(&mut rest).await? > 0 {}
            Ok(false)
        }
        Behaviour::Close => Ok(false),
        Behaviour::Reset => {
            stream.set_zero_linger()?;
            Ok(false)
        }
        Behaviour::Garbage => {
            stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
            Ok(false)
        }
    }
}

/// Waits; `true` where the other side closes the connection meanwhile.
async fn ends_within(stream: &TcpStream, span: Duration) -> bool {
    let closed = async {
        // The receiver reads no further request before it has answered this one, so that only
        // the end of the connection can make an empty peek.
        let mut byte = [0_u8; 1];
        match stream.peek(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(_) => std::future::pending().await,
        }
    };
    tokio::time::timeout(span, closed).await.is_ok()
}

fn answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown"));
    for (name, value) in headers {
        text.push_str(&format_header(name, value));
    }
    // 1xx, 204 and 304 have no body and so no length (RFC 9110, section 8.6).
    if status >= 200 && status != 204 && status != 304 {
        text.push_str(&format_header("content-length", &body.len().to_string()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if status != 204 && status != 304 {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn format_header(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}
