//! The door against receivers that misbehave, on loopback.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::{
    Egress, EgressOptions, ErrorClass, Gate, OauthHttpClient, OutgoingRequest, Policy, Resolver,
    ScriptedNames, SendError,
};
use crate::seam::Clock;

const SHORT: Duration = Duration::from_millis(300);
pub(super) const LONG: Duration = Duration::from_secs(10);
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Counts what a receiver sees.
#[derive(Default)]
pub(super) struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// Listens on loopback and hands each connection to `serve`.
pub(super) async fn listen<Serving>(
    serve: impl Fn(TcpStream, Arc<Seen>) -> Serving + Send + 'static,
) -> (SocketAddr, Arc<Seen>)
where
    Serving: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (address, seen)
}

/// Reads one request with its body; nothing where the connection ends.
async fn read_request(stream: &mut TcpStream, seen: &Seen) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        seen.bytes.fetch_add(count, Ordering::SeqCst);
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            return Some(text);
        }
    }
}

/// A receiver that answers every request with the same bytes and keeps the connection.
async fn answering(answer: &'static [u8]) -> (SocketAddr, Arc<Seen>) {
    listen(move |mut stream, seen| async move {
        while read_request(&mut stream, &seen).await.is_some() {
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A receiver that writes something over and over after the first request.
async fn endless(
    head: &'static [u8],
    again: impl Fn() -> Vec<u8> + Clone + Send + Sync + 'static,
    pause: Duration,
) -> (SocketAddr, Arc<Seen>) {
    listen(move |mut stream, seen| {
        let again = again.clone();
        async move {
            read_request(&mut stream, &seen).await;
            let mut written = stream.write_all(head).await;
            while written.is_ok() {
                let bytes = again();
                written = stream.write_all(&bytes).await;
                seen.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
                if !pause.is_zero() {
                    Clock::default().sleep(pause).await;
                }
            }
        }
    })
    .await
}

fn egress(resolver: Resolver, allow: &[&str]) -> Egress {
    let options = EgressOptions {
        policy: Policy {
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            require_https: false,
            ..Policy::default()
        },
        user_agent: "Mortise/test".to_owned(),
        resolver,
        ..EgressOptions::default()
    };
    Egress::new(options, Clock::default()).unwrap()
}

fn local() -> Egress {
    egress(Resolver::default(), &["127.0.0.0/8"])
}

pub(super) fn post(egress: &Egress, url: &str, deadline: Duration) -> OutgoingRequest {
    OutgoingRequest {
        method: Method::POST,
        url: egress.vet(&Url::parse(url).unwrap()).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"[{}]"),
        deadline,
        response_limit: 1_000,
        gate: None,
    }
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}/hooks?securityContext=confidential")
}

async fn failure(egress: &Egress, request: OutgoingRequest) -> SendError {
    let error = egress.send(request).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("confidential"), "{error:?}");
    assert!(!error.detail.is_empty() && !error.hint.is_empty());
    error
}

#[tokio::test]
async fn an_answer_comes_with_everything_that_is_known_about_it() {
    let (address, seen) = listen(|mut stream, seen| async move {
        let request = read_request(&mut stream, &seen).await.unwrap();
        let body = format!(
            "HTTP/1.1 418 Odd\r\nx-odd: \u{e9}\r\ncontent-length: {}\r\n\r\n{request}",
            request.len()
        );
        stream.write_all(body.as_bytes()).await.unwrap();
    })
    .await;
    let egress = local();
    let mut request = post(&egress, &at(address), LONG);
    for (name, value) in [
        ("webhook-id", "msg_1"),
        ("host", "elsewhere"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "webhook-id"),
    ] {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = egress.send(request).await.unwrap();
    assert_eq!(answer.status.as_u16(), 418);
    assert_eq!(answer.remote_address, Some(address));
    assert!(!answer.truncated);
    let sent = String::from_utf8(answer.body_excerpt.to_vec()).unwrap();
    assert!(sent.starts_with("POST /hooks?securityContext=confidential HTTP/1.1\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n[{}]"), "{sent}");
    for line in [
        "webhook-id: msg_1",
        "user-agent: Mortise/test",
        "content-length: 4",
        &format!("host: {address}"),
    ] {
        assert!(sent.contains(&format!("\r\n{line}\r\n")), "{line} in {sent}");
    }
    for name in
        ["accept-encoding", "transfer-encoding", "referer", "cookie", "elsewhere", "connection"]
    {
        assert!(!sent.contains(name), "{name} in {sent}");
    }
    let texts = answer.header_texts(10, 1_000);
    assert_eq!(texts[0].0, "x-odd");
    assert!(answer.header_texts(0, 1_000).is_empty() && answer.header_texts(10, 5).is_empty());
    let timing = answer.timing;
    assert!(timing.connect_micros.is_some() && timing.dns_micros.is_none());
    assert!(timing.first_byte_micros.unwrap() <= timing.total_micros);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_are_kept_and_a_little_too_much_is_drained() {
    const TWO_HUNDRED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n01234567890123456789";
    let (address, seen) = answering(TWO_HUNDRED).await;
    let egress = local();
    for round in 0..3 {
        let mut request = post(&egress, &at(address), LONG);
        request.response_limit = 10;
        let answer = egress.send(request).await.unwrap();
        assert_eq!(
            (answer.body_excerpt.as_ref(), answer.truncated),
            (b"0123456789".as_slice(), true)
        );
        assert_eq!(answer.timing.connect_micros.is_some(), round == 0);
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_hundred_posts_one_after_the_other_take_one_connection() {
    let (address, seen) = answering(OK).await;
    let egress = local();
    for _ in 0..100 {
        egress.send(post(&egress, &at(address), LONG)).await.unwrap();
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn what_is_packed_stays_packed() {
    // "hello" by gzip. Whoever unpacked it could be made to unpack a gigabyte.
    const PACKED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 25\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00";
    let (address, _) = answering(PACKED).await;
    let egress = local();
    let answer = egress.send(post(&egress, &at(address), LONG)).await.unwrap();
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert_eq!(answer.body_excerpt, PACKED[PACKED.len() - 25..]);
}

#[tokio::test]
async fn no_text_breaks_out_of_its_line() {
    // A header's type keeps line breaks out; so does the URL's parser.
    for text in ["a\r\nx-injected: 1", "a\nx-injected: 1", "a\rb", "a\0b"] {
        assert!(HeaderValue::from_str(text).is_err(), "{text:?}");
    }
    let (address, seen) = listen(|mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream, &seen).await {
            let head = request.split_once("\r\n\r\n").unwrap().0.to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let egress = local();
    for path in [
        "a\r\nx-injected: 1\r\n\r\nGET /second",
        "a?b=\r\nx-injected: 1",
        "a%0d%0ax-injected:%201",
        "a HTTP/1.1\r\nx-injected: 1",
        "a#\r\nx-injected: 1",
    ] {
        let mut request = post(&egress, &format!("http://{address}/{path}"), LONG);
        request.response_limit = 10_000;
        request.body = Bytes::new();
        let answer = egress.send(request).await.unwrap();
        let head = String::from_utf8(answer.body_excerpt.to_vec()).unwrap();
        assert!(head.lines().next().unwrap().ends_with(" HTTP/1.1"), "{head}");
        assert!(!head.contains("\nx-injected"), "{head}");
        assert_eq!(head.lines().next().unwrap().split(' ').count(), 3, "{head}");
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 5);
}

/// The name of the test below, which runs itself anew with another environment.
const PROXIED: &str = "egress::receivers::no_proxy_is_taken_from_the_environment";
const RECEIVER: &str = "EGRESS_TEST_RECEIVER";

#[test]
fn no_proxy_is_taken_from_the_environment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(receiver) = std::env::var(RECEIVER) {
        // Inside: the environment names a proxy at which nobody listens.
        assert!(std::env::var_os("HTTP_PROXY").is_some());
        runtime.block_on(async {
            let egress = local();
            let url = format!("http://{receiver}/hooks");
            assert_eq!(egress.send(post(&egress, &url, LONG)).await.unwrap().body_excerpt, "ok");
        });
        return;
    }
    let (address, seen) = runtime.block_on(answering(OK));
    let vacant = runtime
        .block_on(async { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() });
    let proxy = format!("http://{vacant}");
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", PROXIED, "--nocapture"]).env(RECEIVER, address.to_string());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        again.env(name, &proxy);
    }
    let ended = again.output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && told.contains("1 passed"), "{told}");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_answers() {
    for answer in [
        b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".as_slice(),
        b"HTTP/1.1 307 Moved\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, seen) = answering(answer).await;
        let egress = local();
        let answer = egress.send(post(&egress, &at(address), LONG)).await.unwrap();
        assert!(answer.status.is_redirection());
        assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn one_deadline_covers_every_way_of_hanging() {
    let (silent, _) = listen(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        std::future::pending::<()>().await;
    })
    .await;
    let drop_by_drop = Duration::from_millis(20);
    let (trickled_head, _) =
        endless(b"HTTP/1.1 200 OK\r\nx: ", || b"a".to_vec(), drop_by_drop).await;
    let (trickled_body, _) =
        endless(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", || b"a".to_vec(), drop_by_drop)
            .await;
    let (deaf, _) = listen(|stream, _| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let egress = local();
    for (address, url, status) in [
        (silent, at(silent), None),
        (trickled_head, at(trickled_head), None),
        (trickled_body, at(trickled_body), Some(200)),
        // A TLS handshake that nobody answers.
        (deaf, format!("https://{deaf}/"), None),
    ] {
        let error = failure(&egress, post(&egress, &url, SHORT)).await;
        assert_eq!(error.class, ErrorClass::Timeout, "{address}: {error:?}");
        assert_eq!(error.status.map(|status| status.as_u16()), status, "{error:?}");
        let total = Duration::from_micros(error.timing.total_micros.into());
        assert!(total >= SHORT && total < SHORT * 10, "{total:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_apart() {
    let (closing, _) = listen(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
    })
    .await;
    // Closing with unread bytes makes the system send a reset.
    let (resetting, _) = listen(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let (halfway, _) = listen(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    })
    .await;
    let egress = local();
    for (address, status) in [(closing, None), (resetting, None), (halfway, Some(200))] {
        let error = failure(&egress, post(&egress, &at(address), LONG)).await;
        assert_eq!(error.class, ErrorClass::ConnectionClosed, "{error:?}");
        assert!(!error.is_stale_connection(), "the connection was new");
        assert_eq!(error.status.map(|status| status.as_u16()), status, "{error:?}");
    }

    let vacant = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = failure(&egress, post(&egress, &at(vacant), LONG)).await;
    assert_eq!(error.class, ErrorClass::Connect, "{error:?}");
    assert_eq!(error.timing.connect_micros, None);
}

#[tokio::test]
async fn a_kept_connection_that_breaks_is_marked() {
    let (address, _) = listen(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let _ = stream.write_all(OK).await;
        // The second request is read and never answered.
        read_request(&mut stream, &seen).await;
    })
    .await;
    let egress = local();
    egress.send(post(&egress, &at(address), LONG)).await.unwrap();
    let error = failure(&egress, post(&egress, &at(address), LONG)).await;
    assert!(error.is_stale_connection(), "{error:?}");
}

#[tokio::test]
async fn a_long_body_is_cut_at_the_cap() {
    let megabyte = || vec![b'x'; 1 << 20];
    let (announced, seen_announced) =
        endless(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", megabyte, Duration::ZERO)
            .await;
    let chunk = || [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    let (chunked, seen_chunked) =
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk, Duration::ZERO)
            .await;
    let egress = local();
    for (address, seen) in [(announced, seen_announced), (chunked, seen_chunked)] {
        let answer = egress.send(post(&egress, &at(address), LONG)).await.unwrap();
        assert_eq!((answer.body_excerpt.len(), answer.truncated), (1_000, true));
        // The receiver's writes fail soon, for its connection is closed.
        Clock::default().sleep(SHORT).await;
        let sent = seen.bytes.load(Ordering::SeqCst);
        Clock::default().sleep(SHORT).await;
        assert_eq!(seen.bytes.load(Ordering::SeqCst), sent, "still sending");
        assert!(sent < 50 << 20, "{sent}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    let line = || b"x-more: and more and more and more\r\n".to_vec();
    let (endless_head, _) = endless(b"HTTP/1.1 200 OK\r\n", line, Duration::ZERO).await;
    let (endless_line, _) =
        endless(b"HTTP/1.1 200 OK\r\nx: ", || vec![b'x'; 10_000], Duration::ZERO).await;
    let (greeting, _) = answering(b"220 mail.vendor.com ESMTP\r\n").await;
    let (garbage, _) = answering(b"\x00\x01\x02\xff\xfe\r\n\r\n").await;
    let (bad_header, _) = answering(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n").await;
    let (bad_length, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").await;
    let (bad_chunk, _) =
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    let egress = local();
    for address in
        [endless_head, endless_line, greeting, garbage, bad_header, bad_length, bad_chunk]
    {
        let error = failure(&egress, post(&egress, &at(address), LONG)).await;
        assert_eq!(error.class, ErrorClass::Protocol, "{error:?}");
    }
}

#[tokio::test]
async fn a_handshake_with_something_else_is_a_tls_error() {
    let (plain, _) = listen(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    let (closing, _) = listen(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4_096]).await;
    })
    .await;
    let egress = local();
    for address in [plain, closing] {
        let error = failure(&egress, post(&egress, &format!("https://{address}/"), LONG)).await;
        assert_eq!(error.class, ErrorClass::Tls, "{error:?}");
    }
}

#[tokio::test]
async fn rebinding_gains_nothing() {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let private = IpAddr::from([10, 0, 0, 1]);
    let metadata = IpAddr::from([169, 254, 169, 254]);
    let (address, seen) =
        answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let names = ScriptedNames::default()
        .with("rebinding.vendor.com", [vec![loopback], vec![private], vec![metadata, private]])
        .with("mixed.vendor.com", [vec![metadata, loopback, private]])
        .with("empty.vendor.com", [vec![]]);
    let port = address.port();
    let allowing = egress(Resolver::Scripted(names.clone()), &[&format!("127.0.0.1:{port}")]);
    let url = |name: &str| format!("http://{name}.vendor.com:{port}/?securityContext=confidential");

    let answer = allowing.send(post(&allowing, &url("rebinding"), LONG)).await.unwrap();
    assert_eq!(answer.remote_address, Some(address));
    assert!(answer.timing.dns_micros.is_some());
    for _ in 0..2 {
        let error = failure(&allowing, post(&allowing, &url("rebinding"), LONG)).await;
        assert_eq!(error.class, ErrorClass::AddressRefused, "{error:?}");
        assert!(error.detail.contains("10.0.0.1"), "{error:?}");
    }
    // Of several addresses only the allowed one is connected to.
    let answer = allowing.send(post(&allowing, &url("mixed"), LONG)).await.unwrap();
    assert_eq!(answer.remote_address, Some(address));
    for name in ["empty", "unknown"] {
        let error = failure(&allowing, post(&allowing, &url(name), LONG)).await;
        assert_eq!(error.class, ErrorClass::NameResolution, "{error:?}");
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);

    // The same address at a port that is not allowed.
    let elsewhere = egress(Resolver::Scripted(names), &["127.0.0.1:1024"]);
    let error = failure(&elsewhere, post(&elsewhere, &url("mixed"), LONG)).await;
    assert_eq!(error.class, ErrorClass::AddressRefused, "{error:?}");
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_operators_own_hosts_are_trusted_and_no_others() {
    let (address, _) = answering(OK).await;
    let names = ScriptedNames::default().with("api.internal", [vec![IpAddr::from([127, 0, 0, 1])]]);
    let egress = egress(Resolver::Scripted(names), &[]);
    for text in [at(address), format!("http://api.internal:{}/", address.port())] {
        let url = Url::parse(&text).unwrap();
        assert!(egress.vet(&url).is_err());
        let request = OutgoingRequest {
            url: egress.trusted(&url).unwrap(),
            ..post(&egress, "http://vendor.com/", LONG)
        };
        assert_eq!(egress.send(request).await.unwrap().body_excerpt, "ok");
    }
    for text in ["ftp://api.internal/", "data:text/plain,x"] {
        assert!(egress.trusted(&Url::parse(text).unwrap()).is_err(), "{text}");
    }
    let vetted = egress.vet(&Url::parse("https://vendor.com/hooks").unwrap()).unwrap();
    assert!(vetted.with_url(&Url::parse("https://vendor.com/other?x=1").unwrap()).is_some());
    for text in [
        "https://vendor.com:444/",
        "http://vendor.com/",
        "https://u@vendor.com/",
        "https://10.0.0.1/",
    ] {
        assert!(vetted.with_url(&Url::parse(text).unwrap()).is_none(), "{text}");
    }
    assert!(
        !format!("{:?}", egress.trusted(&Url::parse(&at(address)).unwrap()))
            .contains("confidential")
    );
}

#[tokio::test]
async fn a_closed_gate_lets_no_byte_out_also_on_a_kept_connection() {
    let (address, seen) = answering(OK).await;
    let egress = local();
    let open = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new({
        let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            open.load(Ordering::SeqCst)
        }
    });
    let gated =
        || OutgoingRequest { gate: Some(gate.clone()), ..post(&egress, &at(address), LONG) };

    assert_eq!(egress.send(gated()).await.unwrap().body_excerpt, "ok");
    let before = seen.bytes.load(Ordering::SeqCst);
    open.store(false, Ordering::SeqCst);
    // Once on the kept connection, once on a new one.
    for _ in 0..2 {
        let error = failure(&egress, gated()).await;
        assert_eq!(error.class, ErrorClass::Withdrawn, "{error:?}");
    }
    let empty = OutgoingRequest { body: Bytes::new(), ..gated() };
    assert_eq!(failure(&egress, empty).await.class, ErrorClass::Withdrawn);
    Clock::default().sleep(SHORT).await;
    assert_eq!(seen.bytes.load(Ordering::SeqCst), before, "bytes arrived");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 4);

    open.store(true, Ordering::SeqCst);
    assert_eq!(egress.send(gated()).await.unwrap().body_excerpt, "ok");
}

/// What connecting takes is time in which an installation can end: a request without a body is asked
/// about again when the connection stands, by our own connections and by the library's.
#[tokio::test]
async fn a_gate_that_closes_while_connecting_lets_no_byte_out() {
    let (address, seen) = answering(OK).await;
    let egress = local();
    let url = Url::parse(&at(address)).unwrap();
    for url in [egress.vet(&url), egress.trusted(&url)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let gate = Gate::new({
            let asked = Arc::clone(&asked);
            // Open before connecting, and never after.
            move || asked.fetch_add(1, Ordering::SeqCst) == 0
        });
        let request = OutgoingRequest {
            method: Method::GET,
            url: url.unwrap(),
            body: Bytes::new(),
            gate: Some(gate),
            ..post(&egress, &at(address), LONG)
        };
        let error = failure(&egress, request).await;
        assert_eq!(error.class, ErrorClass::Withdrawn, "{error:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
    Clock::default().sleep(SHORT).await;
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2, "both did connect");
    assert_eq!(seen.bytes.load(Ordering::SeqCst), 0, "bytes arrived");
}

#[tokio::test]
async fn a_proxy_gets_everything_but_what_is_refused_by_its_looks() {
    let (proxy, seen) = listen(|mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream, &seen).await {
            let line = request.lines().next().unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let names =
        ScriptedNames::default().with("proxy.internal", [vec![IpAddr::from([127, 0, 0, 1])]]);
    let options = EgressOptions {
        policy: Policy { require_https: false, ..Policy::default() },
        proxy: Some(Url::parse(&format!("http://proxy.internal:{}", proxy.port())).unwrap()),
        resolver: Resolver::Scripted(names),
        ..EgressOptions::default()
    };
    let egress = Egress::new(options, Clock::default()).unwrap();
    let answer = egress.send(post(&egress, "http://hooks.vendor.com/a?b=c", LONG)).await.unwrap();
    assert_eq!(answer.body_excerpt, "POST http://hooks.vendor.com/a?b=c HTTP/1.1");
    assert!(egress.vet(&Url::parse("http://127.0.0.1/").unwrap()).is_err());
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_authorisation_library_calls_through_the_door() {
    use oauth2::basic::BasicClient;
    use oauth2::{ClientId, ClientSecret, TokenResponse, TokenUrl};

    const TOKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 46\r\n\r\n{\"access_token\":\"abc\",\"token_type\":\"bearer\"}   ";
    let (address, seen) = answering(TOKEN).await;
    let client = BasicClient::new(ClientId::new("id".to_owned()))
        .set_client_secret(ClientSecret::new("secret".to_owned()))
        .set_token_uri(TokenUrl::new(format!("http://{address}/token")).unwrap());
    let strict = egress(Resolver::default(), &[]);
    let trusted = OauthHttpClient::trusted(strict.clone());
    let call = {
        let client = client.clone();
        // In a task of its own, as a handler runs: the future must be `Send`.
        async move { client.exchange_client_credentials().request_async(&trusted).await }
    };
    let token = tokio::spawn(call).await.unwrap().unwrap();
    assert_eq!(token.access_token().secret(), "abc");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);

    let vetted = OauthHttpClient::vetted(strict);
    assert!(client.exchange_client_credentials().request_async(&vetted).await.is_err());
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_systems_names_are_asked_once_for_many() {
    let (address, _) = answering(OK).await;
    let egress = local();
    let url = format!("http://localhost:{}/", address.port());
    let calls = (0..20).map(|_| egress.send(post(&egress, &url, LONG)));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().remote_address, Some(address));
    }
    let unknown = failure(&egress, post(&egress, "http://does-not-exist.invalid/", LONG)).await;
    assert_eq!(unknown.class, ErrorClass::NameResolution, "{unknown:?}");
}

#[test]
fn unusable_certificates_are_refused_when_the_door_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let build = || {
        let options = EgressOptions { ca_file: Some(path.clone()), ..EgressOptions::default() };
        Egress::new(options, Clock::default()).unwrap_err().to_string()
    };
    assert!(build().contains("cannot be read"));
    std::fs::write(&path, "not a certificate").unwrap();
    assert!(build().contains("no usable PEM"));
}
