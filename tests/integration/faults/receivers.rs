//! Receivers that do their worst, one webhook each, all at the same time: each is recorded as what
//! it is, within one deadline, and none of them harms another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mortise::seam::{Clock, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::delivery_world::{HOOK, SOON, a_while, ticket};
use crate::support::load::report;
use crate::support::program::Stage;
use crate::support::server::{Backend, ORG, eventually};

const DEADLINE: Duration = Duration::from_secs(2);

/// What a receiver does with a connection.
#[derive(Clone, Debug)]
enum Conduct {
    /// Resets it at once.
    ResetAtOnce,
    /// Reads so many bytes and resets it.
    ResetAfter(usize),
    /// Reads a request, writes this, and resets it.
    WriteAndReset(Vec<u8>),
    /// Reads a request, writes this, and closes.
    WriteAndClose(Vec<u8>),
    /// Answers each request with this and keeps the connection.
    Answer(Vec<u8>),
    /// Answers the first request with this, and all others with a 500.
    AnswerOnce(Vec<u8>),
    /// Reads a request, writes the first, and then the second, again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Reads a request, writes the first, and then a byte a moment.
    Trickle(Vec<u8>),
    /// Reads a request, writes this, and no more.
    Hang(Vec<u8>),
}

/// A receiver.
#[derive(Debug)]
struct Receiver {
    address: SocketAddr,
    written: Arc<AtomicU64>,
}

/// Reads to the end of a request.
async fn request(stream: &mut TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
            return Some(());
        }
    }
}

async fn serve(mut stream: TcpStream, conduct: Conduct, answered: &AtomicU64, written: &AtomicU64) {
    let reset = |stream: TcpStream| {
        stream.set_zero_linger().expect("the option is set");
    };
    let put = async |stream: &mut TcpStream, bytes: &[u8]| {
        let done = stream.write_all(bytes).await;
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        done.is_ok()
    };
    match conduct {
        Conduct::ResetAtOnce => return reset(stream),
        Conduct::ResetAfter(bytes) => {
            let _ended = stream.read_exact(&mut vec![0; bytes]).await;
            return reset(stream);
        }
        _ => {}
    }
    while request(&mut stream).await.is_some() {
        let is_first = answered.fetch_add(1, Ordering::Relaxed) == 0;
        match &conduct {
            Conduct::ResetAtOnce | Conduct::ResetAfter(_) => {}
            Conduct::WriteAndReset(bytes) => {
                put(&mut stream, bytes).await;
                // It arrives before the reset, which would overtake it.
                Clock::default().sleep(Duration::from_millis(100)).await;
                return reset(stream);
            }
            Conduct::WriteAndClose(bytes) => {
                put(&mut stream, bytes).await;
                return;
            }
            Conduct::Answer(bytes) => {
                put(&mut stream, bytes).await;
            }
            Conduct::AnswerOnce(bytes) => {
                let other = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".as_slice();
                put(&mut stream, if is_first { bytes } else { other }).await;
            }
            Conduct::Endless(first, then) => {
                let mut goes_on = put(&mut stream, first).await;
                while goes_on {
                    goes_on = put(&mut stream, then).await;
                }
                return;
            }
            Conduct::Trickle(first) => {
                let mut goes_on = put(&mut stream, first).await;
                while goes_on {
                    Clock::default().sleep(Duration::from_millis(100)).await;
                    goes_on = put(&mut stream, b"a").await;
                }
                return;
            }
            Conduct::Hang(bytes) => {
                put(&mut stream, bytes).await;
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Receiver {
    async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let written = Arc::new(AtomicU64::new(0));
        let (counted, answered) = (Arc::clone(&written), Arc::new(AtomicU64::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (conduct, counted) = (conduct.clone(), Arc::clone(&counted));
                let answered = Arc::clone(&answered);
                tokio::spawn(async move { serve(stream, conduct, &answered, &counted).await });
            }
        });
        Self { address, written }
    }
}

/// What has to be recorded.
#[derive(Clone, Copy, Debug)]
struct Expected {
    state: &'static str,
    status: Option<u16>,
    error: Option<&'static str>,
}

const fn delivered(status: u16) -> Expected {
    Expected { state: "delivered", status: Some(status), error: None }
}

const fn refused(status: u16) -> Expected {
    Expected { state: "pending", status: Some(status), error: Some("status") }
}

const fn broken(error: &'static str) -> Expected {
    Expected { state: "pending", status: None, error: Some(error) }
}

/// An HTTP date, so many seconds from now.
fn date(seconds: i64) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let moment = Clock::default().now().seconds() + seconds;
    let moment = time::OffsetDateTime::from_unix_timestamp(moment).expect("a moment");
    moment.format(format).expect("a date of HTTP")
}

fn answer(line: &str, headers: &str) -> Conduct {
    Conduct::Answer(format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n").into_bytes())
}

/// Every receiver, by its name.
fn receivers(canary: SocketAddr) -> Vec<(&'static str, Conduct, Expected)> {
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let close = |text: &str| Conduct::WriteAndClose(text.as_bytes().to_vec());
    let reset = |text: &str| Conduct::WriteAndReset(text.as_bytes().to_vec());
    let ok = "HTTP/1.1 200 OK\r\n";
    vec![
        // Hanging, at each phase.
        ("hang", Conduct::Hang(Vec::new()), broken("timeout")),
        ("hang-in-status", Conduct::Hang(bytes("HTTP/1.1 20")), broken("timeout")),
        (
            "hang-in-headers",
            Conduct::Hang(bytes("HTTP/1.1 200 OK\r\nx-a: b\r\nx-")),
            broken("timeout"),
        ),
        (
            "hang-in-body",
            Conduct::Hang(bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")),
            broken("timeout"),
        ),
        (
            "hang-in-chunk",
            Conduct::Hang(bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")),
            broken("timeout"),
        ),
        ("trickle-headers", Conduct::Trickle(bytes("HTTP/1.1 200 OK\r\nx-a: ")), broken("timeout")),
        (
            "trickle-body",
            Conduct::Trickle(bytes("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")),
            broken("timeout"),
        ),
        // Interim answers without end.
        (
            "continue-flood",
            Conduct::Endless(Vec::new(), bytes("HTTP/1.1 100 Continue\r\n\r\n").repeat(100)),
            broken("timeout"),
        ),
        // Resets, at each phase.
        ("reset-at-once", Conduct::ResetAtOnce, broken("connectionClosed")),
        ("reset-in-request", Conduct::ResetAfter(20), broken("connectionClosed")),
        ("reset-before-answer", reset(""), broken("connectionClosed")),
        ("reset-in-headers", reset("HTTP/1.1 200 OK\r\nx-a"), broken("connectionClosed")),
        (
            "reset-in-body",
            reset("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            broken("connectionClosed"),
        ),
        (
            "short-body",
            close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            broken("connectionClosed"),
        ),
        (
            "short-chunks",
            close("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"),
            broken("connectionClosed"),
        ),
        // Answers that say no.
        ("500", answer("500 No", ""), refused(500)),
        ("429-seconds", answer("429 Slow", "retry-after: 3600\r\n"), refused(429)),
        (
            "429-date",
            answer("429 Slow", &format!("retry-after: {}\r\n", date(7_200))),
            refused(429),
        ),
        (
            "410",
            answer("410 Gone", ""),
            Expected { state: "held", status: Some(410), error: Some("status") },
        ),
        ("302", answer("302 Found", &format!("location: http://{canary}/\r\n")), refused(302)),
        ("307", answer("307 Moved", &format!("location: http://{canary}/\r\n")), refused(307)),
        (
            "308-metadata",
            answer("308 Moved", "location: http://169.254.169.254/latest\r\n"),
            refused(308),
        ),
        // Too much.
        (
            "100-mb",
            Conduct::Endless(
                bytes("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n"),
                vec![b'x'; 1 << 16],
            ),
            delivered(200),
        ),
        (
            "endless-chunks",
            Conduct::Endless(bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), chunk),
            delivered(200),
        ),
        (
            "endless-headers",
            Conduct::Endless(bytes(ok), bytes("x-more: and more\r\n").repeat(100)),
            broken("protocol"),
        ),
        (
            "endless-header",
            Conduct::Endless(bytes("HTTP/1.1 200 OK\r\nx: "), vec![b'x'; 10_000]),
            broken("protocol"),
        ),
        (
            "endless-status",
            Conduct::Endless(bytes("HTTP/1.1 200 "), vec![b'x'; 10_000]),
            broken("protocol"),
        ),
        // Nonsense.
        (
            "garbage-headers",
            Conduct::Hang(b"HTTP/1.1 200 OK\r\n\x00\xff\x01: \x02\r\n\r\n".to_vec()),
            broken("protocol"),
        ),
        ("http-0.9", close("<html>welcome</html>"), broken("protocol")),
        (
            "binary",
            Conduct::Hang(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n".to_vec()),
            broken("protocol"),
        ),
        (
            "two-lengths",
            Conduct::Hang(bytes(
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            )),
            broken("protocol"),
        ),
        (
            "huge-length",
            Conduct::Hang(bytes("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n")),
            broken("protocol"),
        ),
        (
            "huge-chunk",
            Conduct::Hang(bytes(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            )),
            broken("protocol"),
        ),
        (
            "switching",
            Conduct::Hang(bytes(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            )),
            refused(101),
        ),
        // Odd, and well.
        (
            "interim-answers",
            Conduct::Answer(bytes(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            )),
            delivered(200),
        ),
        (
            "204-with-body",
            Conduct::AnswerOnce(bytes("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello")),
            delivered(204),
        ),
        (
            "long-body",
            Conduct::AnswerOnce(bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more")),
            delivered(200),
        ),
        (
            "smuggled-answer",
            Conduct::AnswerOnce(bytes(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            )),
            delivered(200),
        ),
        ("until-the-end", close("HTTP/1.0 200 OK\r\n\r\nuntil the end"), delivered(200)),
    ]
}

/// Those that answer the first request with more than an answer: the second one must not be judged
/// by what is left of the first.
const ANSWER_ONCE: [&str; 3] = ["204-with-body", "long-body", "smuggled-answer"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_do_their_worst_are_recorded_and_harm_nobody() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let canary_address = canary.local_addr().expect("an address");
    let table = receivers(canary_address);
    let mut running = HashMap::new();
    for (name, conduct, _) in &table {
        running.insert(*name, Receiver::start(conduct.clone()).await);
    }
    let settings = |settings: &mut crate::support::server::Settings| {
        settings.set("delivery.deadline", "2s");
    };
    let stage = Stage::with(Backend::Sqlite, settings, async |world, vendor| {
        for (number, (name, _, _)) in table.iter().enumerate() {
            let address = running[name].address;
            let package = world.server.package().key(&format!("r-{number}")).with(|package| {
                package.resources["webhook"]["url"] = format!("http://{address}/{name}").into();
                let callbacks = vendor.url("/callbacks");
                package.manifest["callbackListener"] = json!({ "onInstall": callbacks });
            });
            world.server.active_package(&package, ORG).await;
        }
    })
    .await;
    let program = stage.launch().await;
    let before = program.peak_memory();
    let clock = Clock::default();
    let posted = clock.instant();
    let answer = program.client.post("/api/v1/events", &stage.host, &ticket(ORG, "first")).await;
    assert_eq!(answer.expect(202).json["events"][0]["deliveries"], table.len() + 1);
    let arrived = stage.vendor.wait_for_path(HOOK, 1, SOON).await.expect("the healthy one");
    let took = arrived[0].instant.saturating_duration_since(posted);
    assert!(took < DEADLINE, "the healthy one waited {took:?}");

    let deliveries = async |event: &str| -> HashMap<&str, Value> {
        let path = format!("/api/v1/events/{event}?orgId={ORG}");
        let event = program.client.get(&path, &stage.operator).await.expect(200);
        let webhooks = event.json["webhooks"].as_array().expect("the webhooks").clone();
        let mut by_name = HashMap::new();
        for webhook in webhooks {
            let key = webhook["extensionKey"].as_str().expect("a key");
            let number = key.strip_prefix("r-").and_then(|number| number.parse::<usize>().ok());
            if let Some(number) = number {
                by_name.insert(table[number].0, webhook["delivery"].clone());
            }
        }
        by_name
    };
    let all = eventually("an attempt of each", async || {
        let all = deliveries("first").await;
        all.values().all(|delivery| delivery["attemptsMade"] == 1).then_some(all)
    })
    .await;
    let mut wrong = Vec::new();
    for (name, _, expected) in &table {
        let delivery = &all[*name];
        let attempt = &delivery["attempts"][0];
        let milliseconds = attempt["durationMs"].as_f64().expect("a duration");
        let deadline = DEADLINE.as_secs_f64() * 1_000.0;
        let is_right = delivery["state"] == expected.state
            && attempt["status"] == json!(expected.status)
            && attempt["error"] == json!(expected.error)
            && milliseconds < deadline + 1_000.0
            && (milliseconds >= deadline - 50.0) == (expected.error == Some("timeout"));
        if !is_right {
            wrong.push(format!("{name}: not {expected:?} but {delivery}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let wait = |name: &str| {
        let moment = |value: &Value| {
            Timestamp::parse_rfc3339(value.as_str().expect("a moment")).expect("RFC 3339")
        };
        let delivery = &all[name];
        moment(&delivery["nextAttemptTime"])
            .since(moment(&delivery["attempts"][0]["time"]))
            .as_secs()
    };
    assert!((3_599..3_700).contains(&wait("429-seconds")), "{}", wait("429-seconds"));
    assert!((7_100..7_300).contains(&wait("429-date")), "{}", wait("429-date"));
    assert!((60..70).contains(&wait("500")), "{}", wait("500"));
    for name in ["100-mb", "endless-chunks"] {
        assert_eq!(all[name]["attempts"][0]["response"]["truncated"], true, "{name}");
    }
    // What floods was cut off soon, and stays so.
    let floods =
        ["100-mb", "endless-chunks", "endless-headers", "endless-header", "endless-status"];
    let written = || floods.map(|name| running[name].written.load(Ordering::Relaxed));
    let so_far = written();
    a_while().await;
    assert_eq!(written(), so_far, "it goes on reading");
    assert!(so_far.iter().all(|bytes| *bytes < 32 << 20), "{so_far:?}");

    // The second delivery is judged by its own answer.
    program.client.post("/api/v1/events", &stage.host, &ticket(ORG, "second")).await.expect(202);
    let again = eventually("a second attempt of each", async || {
        let all = deliveries("second").await;
        ANSWER_ONCE.iter().all(|name| all[*name]["attemptsMade"] == 1).then_some(all)
    })
    .await;
    for name in ANSWER_ONCE {
        let delivery = &again[name];
        assert_eq!(delivery["state"], "pending", "{name}: {delivery}");
        assert_eq!(delivery["attempts"][0]["status"], 500, "{name}: {delivery}");
    }
    stage.vendor.wait_for_path(HOOK, 2, SOON).await.expect("the healthy one");
    let followed = tokio::time::timeout(Duration::from_millis(1), canary.accept()).await;
    assert!(followed.is_err(), "a redirect was followed");
    if let (Some(before), Some(after)) = (before, program.peak_memory()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 64, "memory grew by {grown} MiB");
        report(&format!("{} bad receivers: memory grew by {grown} MiB", table.len()));
    }
}
