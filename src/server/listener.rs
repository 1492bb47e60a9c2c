//! The listener: takes connections up to a cap, bounds how long a client may take to say what it
//! wants, and ends without cutting requests that are under way.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::api::TrustedProxies;
use crate::api::extract::BodyTooSlow;
use crate::config::Limits;
use crate::seam::Clock;

/// How much of a connection is buffered while headers are read, in bytes; so much they may have.
const HEADER_BUFFER: usize = 64 << 10;

/// The pause after the system refused a connection for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// The most connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How long the headers of a request may take.
    pub header_read_timeout: Duration,
    /// How long the body of a request may take.
    pub body_read_timeout: Duration,
    /// How long requests may finish when the listener is told to stop.
    pub drain: Duration,
}

impl From<&Limits> for ListenerOptions {
    fn from(limits: &Limits) -> Self {
        Self {
            connections: limits.connections,
            header_read_timeout: limits.header_read_timeout,
            body_read_timeout: limits.body_read_timeout,
            drain: limits.drain,
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; is another server running there? `listen` sets another address"
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    proxies: TrustedProxies,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, proxies: TrustedProxies::default() })
    }

    /// The same behind proxies whose word is taken for whom they speak for.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// The address that was really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop; then lets requests finish, for as long as the drain allows.
    /// Returns how many connections had to be cut.
    pub async fn serve(
        self,
        router: Router,
        options: ListenerOptions,
        clock: Clock,
        stop: CancellationToken,
    ) -> usize {
        let proxies = self.proxies;
        let cut = CancellationToken::new();
        let server = Arc::new(Connections { router, options, proxies, clock, stop, cut });
        let places = Arc::new(Semaphore::new(options.connections.min(Semaphore::MAX_PERMITS)));
        let tasks = TaskTracker::new();
        while let Some((stream, peer, place)) = server.next(&self.socket, &places).await {
            tasks.spawn(Arc::clone(&server).connection(stream, peer, place));
        }
        // Nobody is left waiting in the backlog of a socket that takes no more.
        drop(self.socket);
        tasks.close();
        let left = tokio::select! {
            () = tasks.wait() => 0,
            () = server.clock.sleep(options.drain) => tasks.len(),
        };
        server.cut.cancel();
        tasks.wait().await;
        left
    }
}

/// What all connections of a listener share.
struct Connections {
    router: Router,
    options: ListenerOptions,
    proxies: TrustedProxies,
    clock: Clock,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    /// The next connection, with its place; nothing once told to stop.
    async fn next(
        &self,
        socket: &TcpListener,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            place = Arc::clone(places).acquire_owned() => place.ok()?,
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted for a moment");
                    tokio::select! {
                        () = self.stop.cancelled() => return None,
                        () = self.clock.sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _place: OwnedSemaphorePermit,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let mut request = request.map(|body| Body::new(self.timed(body)));
            let client = self.proxies.client(peer.ip(), request.headers());
            request.extensions_mut().insert(client);
            // A router is always ready, and its clone shares the routes.
            self.router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.header_read_timeout)
            .max_buf_size(HEADER_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended with an error");
        }
    }

    fn timed(&self, body: Incoming) -> TimedBody {
        TimedBody {
            body,
            limit: self.options.body_read_timeout,
            clock: self.clock.clone(),
            deadline: None,
        }
    }
}

/// Whether a client went away between knocking and coming in.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// A body with a deadline for all of it, from the moment that somebody first waits for it.
struct TimedBody {
    body: Incoming,
    limit: Duration,
    clock: Clock,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(this.clock.instant() + this.limit))
        });
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Box::new(BodyTooSlow)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::extract::Request;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::api::{ClientAddress, RawBody};

    const PATIENCE: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(300);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        task: JoinHandle<usize>,
    }

    async fn run(router: Router, change: impl FnOnce(&mut ListenerOptions)) -> Running {
        let mut options = ListenerOptions {
            connections: 100,
            header_read_timeout: PATIENCE,
            body_read_timeout: PATIENCE,
            drain: PATIENCE,
        };
        change(&mut options);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let serving = listener.serve(router, options, Clock::default(), stop.clone());
        Running { address, stop, task: tokio::spawn(serving) }
    }

    async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// What comes until the connection ends.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        // A connection that is reset has ended too.
        let _ended = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn first(stream: &mut TcpStream) -> String {
        let mut bytes = vec![0; 4_096];
        let length = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("in time").unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_drips_its_headers_is_cut() {
        let running = run(Router::new(), |options| options.header_read_timeout = SHORT).await;
        let mut stream = send(running.address, b"GET / HTTP/1.1\r\nHost: x\r\n").await;
        let dripping = async {
            loop {
                tokio::time::sleep_until(Clock::default().instant() + SHORT / 6).await;
                if stream.write_all(b"x: y\r\n").await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, dripping).await.expect("the server closes");
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        rest(&mut silent).await;
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_answered() {
        let read = async |request: Request| RawBody::from(request).read(100).await;
        let running = run(Router::new().route("/", post(read)), |options| {
            options.body_read_timeout = SHORT;
        })
        .await;
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123";
        let answer = rest(&mut send(running.address, head).await).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_under_way_finishes_and_nothing_new_begins() {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            async move || {
                entered.notify_one();
                leave.notified().await;
                "done"
            }
        };
        let running = run(Router::new().route("/", get(handler)), |_| {}).await;
        // An idle connection holds nothing up.
        let _idle = TcpStream::connect(running.address).await.unwrap();
        let mut stream = send(running.address, REQUEST).await;
        entered.notified().await;
        running.stop.cancel();
        let refused = async {
            while TcpStream::connect(running.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, refused).await.expect("the socket closes");
        leave.notify_one();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
        assert_eq!(timeout(PATIENCE, running.task).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn the_drain_has_an_end() {
        let entered = Arc::new(Notify::new());
        let handler = {
            let entered = Arc::clone(&entered);
            async move || {
                entered.notify_one();
                std::future::pending::<&str>().await
            }
        };
        let running =
            run(Router::new().route("/", get(handler)), |options| options.drain = SHORT).await;
        let mut stream = send(running.address, REQUEST).await;
        entered.notified().await;
        running.stop.cancel();
        assert_eq!(timeout(PATIENCE, running.task).await.unwrap().unwrap(), 1);
        assert_eq!(rest(&mut stream).await, "");
    }

    #[tokio::test]
    async fn one_connection_more_than_the_cap_waits_for_a_place() {
        let router = Router::new().route(
            "/",
            get(async |Extension(ClientAddress(client)): Extension<ClientAddress>| {
                client.to_string()
            }),
        );
        let running = run(router, |options| options.connections = 1).await;
        let mut holder = send(running.address, REQUEST).await;
        assert!(first(&mut holder).await.ends_with("127.0.0.1"));
        let mut waiting = send(running.address, REQUEST).await;
        let mut byte = [0];
        assert!(timeout(SHORT, waiting.read(&mut byte)).await.is_err(), "there is no place");
        drop(holder);
        assert!(first(&mut waiting).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn headers_without_end_are_refused() {
        let running = run(Router::new(), |_| {}).await;
        let mut stream = send(running.address, b"GET / HTTP/1.1\r\nHost: x\r\nx: ").await;
        let flood = vec![b'a'; HEADER_BUFFER * 4];
        let _cut = stream.write_all(&flood).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
