//! The vendor's tools as programs: listen, trigger, replay, doctor receiver.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mortise::crypto::{DEFAULT_TOLERANCE, SignatureHeaders, SigningSecret, Verifier};
use mortise::development::{Behaviour, Received, SampleVendor, SampleVendorOptions};
use mortise::seam::Clock;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::delivery_world::{HOOK, SOON, World};
use crate::support::on_both;
use crate::support::server::Backend;

on_both!(listen_forwards_what_is_delivered_and_tells_what_came_back, replay_sends_again_and_waits,);

const PATIENCE: Duration = Duration::from_mins(1);
const SECRET: &str = "a secret of the vendor's own";

struct Ended {
    code: Option<i32>,
    said: String,
    told: String,
}

fn mortise(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mortise"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MORTISE_") {
            command.env_remove(name);
        }
    }
    command
}

async fn run(arguments: &[&str]) -> Ended {
    let output = timeout(PATIENCE, mortise(arguments).output()).await;
    let output = output.expect("it ends").expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code(), said: text(output.stdout), told: text(output.stderr) }
}

impl Ended {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.said, self.told);
        self
    }
}

async fn receiver() -> SampleVendor {
    SampleVendor::start(SampleVendorOptions::default()).await.expect("a receiver")
}

/// Starts a command and waits until it says that it listens.
async fn listening(arguments: &[&str]) -> Child {
    let mut command = mortise(arguments);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its messages")).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
    let line = line.expect("it says something");
    assert!(line.starts_with("listening"), "{line}");
    // Whoever writes to a pipe that nobody reads would end.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

async fn ended(mut child: Child) -> (Option<i32>, String) {
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("its status");
    let mut said = String::new();
    let mut output = child.stdout.take().expect("its answers");
    output.read_to_string(&mut said).await.expect("text");
    (status.code(), said)
}

async fn listen_forwards_what_is_delivered_and_tells_what_came_back(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let (token, base) = (server.vendor_token("acme").await, server.client.url(""));
    let file = server.folder().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("a file");
    let file = file.display().to_string();
    let local = receiver().await;
    local.behave_in_turn("/local", [Behaviour::status(202)], Behaviour::status(500));
    let forward = local.url("/local?mine=1");
    let common = ["listen", "--server", &base, "--token-file", &file];
    let child = listening(
        &[&common[..], &["--webhook", &world.webhook, "--forward", &forward, "--count", "2"]]
            .concat(),
    )
    .await;
    world.ticket("one").await;
    local.wait_for_path("/local", 1, SOON).await.expect("it is forwarded");
    world.ticket("two").await;
    let (code, said) = ended(child).await;
    assert_eq!(code, Some(1), "the second was answered 500: {said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    for (line, status) in lines.iter().zip(["202", "500"]) {
        assert!(line.contains("Ticket_Add") && line.contains("signature valid"), "{line}");
        assert!(line.contains(&format!("forwarded: {status} in ")), "{line}");
        assert!(!line.contains('\u{1b}'), "no colours where nobody looks");
    }
    let forwarded = local.wait_for_path("/local", 2, SOON).await.expect("both");
    let original = world.arrived(2).await;
    for (copy, original) in forwarded.iter().zip(&original) {
        assert_same(copy, original);
    }
    // A secret that is not the extension's: the command says so, and ends with no.
    let child = listening(
        &[&common[..], &["--extension", "ticket-mirror", "--secret", SECRET, "--count", "1"]]
            .concat(),
    )
    .await;
    world.ticket("three").await;
    let (code, said) = ended(child).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("signature INVALID") && said.contains("answered 200"), "{said}");
    let refused = run(&[&common[..], &["--extension", "nobodys"]].concat()).await.expect(1);
    assert!(refused.told.contains("404") && refused.told.contains("hint:"), "{}", refused.told);
    run(&common).await.expect(2);
    run(&["listen", "--server", &base, "--extension", "x", "--token", "x"]).await.expect(2);
}

fn assert_same(copy: &Arc<Received>, original: &Arc<Received>) {
    assert_eq!(copy.body, original.body);
    let query = original.query.as_deref().expect("a query");
    assert_eq!(copy.query.as_deref(), Some(format!("mine=1&{query}").as_str()));
    for name in
        ["webhook-id", "webhook-signature", "webhook-timestamp", "x-zdesk-jwt", "user-agent"]
    {
        assert_eq!(copy.header(name), original.header(name), "{name}");
    }
}

async fn replay_sends_again_and_waits(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.schedule", "1s"), |_| {}).await;
    let server = &world.server;
    let (token, base) = (server.vendor_token("acme").await, server.client.url(""));
    server.vendor.behave(HOOK, Behaviour::status(422));
    world.ticket("lost").await;
    world.attempted("lost", 1).await;
    server.advance(Duration::from_secs(2));
    let delivery = world.in_state("lost", "failed").await;
    let id = delivery["id"].as_str().expect("an id");
    let common = ["replay", "--server", &base, "--token", &token];
    let still = run(&[&common[..], &["--delivery", id]].concat()).await.expect(1);
    assert!(still.said.contains("answered 422"), "{}", still.said);
    assert!(still.told.contains("hint:"), "{}", still.told);
    server.vendor.behave(HOOK, Behaviour::status(200));
    let done = run(&[&common[..], &["--delivery", id]].concat()).await.expect(0);
    assert!(done.said.starts_with("delivered: attempt"), "{}", done.said);
    let many =
        [&common[..], &["--webhook", &world.webhook, "--since", "2h", "--state", "delivered"]];
    let done = run(&many.concat()).await.expect(0);
    assert!(done.said.contains("done, 1 of 1 looked at, 1 on their way again"), "{}", done.said);
    let missing = "01890000-0000-7000-8000-000000000000";
    run(&[&common[..], &["--delivery", missing]].concat()).await.expect(1);
    run(&common).await.expect(2);
    // Triggered at a real server: as a test of a webhook, or as the host's event.
    let trigger = ["trigger", "Ticket_Add", "--server", &base];
    let as_test = [&trigger[..], &["--token", &token, "--webhook", &world.webhook]].concat();
    assert!(run(&as_test).await.expect(0).said.contains("delivered, answered 200"));
    let as_host = [&trigger[..], &["--token", &world.host, "--org", "60001280952"]].concat();
    assert!(run(&as_host).await.expect(0).said.contains("accepted, 1 deliveries"));
}

#[tokio::test]
async fn listen_is_a_receiver_of_its_own_too() {
    let port = {
        let probe = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        probe.local_addr().expect("an address").port().to_string()
    };
    let child = listening(&[
        "listen",
        "--port",
        &port,
        "--secret",
        SECRET,
        "--count",
        "1",
        "--status",
        "202",
        "--verbose",
    ])
    .await;
    let to = format!("http://127.0.0.1:{port}/hook");
    let sent =
        run(&["trigger", "Ticket_Update", "--to", &to, "--secret", SECRET, "--org", "7"]).await;
    assert!(sent.expect(0).said.contains("answered 202"));
    let (code, said) = ended(child).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Ticket_Update org 7") && said.contains("signature valid"), "{said}");
    assert!(said.contains("    webhook-signature: v1,"), "{said}");
    let nobody = run(&["trigger", "Ticket_Update", "--to", &to]).await.expect(1);
    assert!(nobody.told.contains("hint:"), "{}", nobody.told);
    let unknown = run(&["trigger", "Ticket_Updat", "--to", &to]).await.expect(2);
    assert!(unknown.told.contains("did you mean `Ticket_Update`?"), "{}", unknown.told);
}

/// A receiver as it should be, and as it should not.
async fn vendor(verifies: bool) -> (String, tokio::task::JoinHandle<()>) {
    let bound = "127.0.0.1:0".parse().expect("an address");
    let listener = mortise::server::Listener::bind(bound).await.expect("a port");
    let address = format!("http://{}/hook", listener.address());
    let secret = SigningSecret::from_chosen_bytes(SECRET.as_bytes()).expect("a secret");
    let keys = Verifier::new([&secret], []).expect("a verifier");
    let check = move |headers: http::HeaderMap, body: bytes::Bytes| {
        let one = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let signed = SignatureHeaders {
            id: one("webhook-id").unwrap_or_default(),
            timestamp: one("webhook-timestamp").unwrap_or_default(),
            signature: one("webhook-signature").unwrap_or_default(),
        };
        let now = Clock::default().now();
        keys.verify(signed, &body, now, DEFAULT_TOLERANCE).is_ok()
    };
    let app = axum::Router::new().route(
        "/hook",
        axum::routing::post(async move |headers: http::HeaderMap, body: bytes::Bytes| {
            if !verifies || check(headers, body) {
                http::StatusCode::NO_CONTENT
            } else {
                http::StatusCode::UNAUTHORIZED
            }
        }),
    );
    let (router, stop) = (app, tokio_util::sync::CancellationToken::new());
    let options = mortise::server::ListenerOptions {
        connections: 10,
        header_read_timeout: SOON,
        body_read_timeout: SOON,
        drain: Duration::ZERO,
    };
    let serving = async move {
        listener.serve(router, options, Clock::default(), stop).await;
    };
    (address, tokio::spawn(serving))
}

#[tokio::test]
async fn doctor_receiver_tells_a_good_receiver_from_a_bad_one() {
    let (good, serving) = vendor(true).await;
    let fine = run(&["doctor", "receiver", &good, "--secret", SECRET]).await.expect(0);
    assert_eq!(fine.said.lines().filter(|line| line.starts_with("ok")).count(), 6, "{}", fine.said);
    let wrong = run(&["doctor", "receiver", &good, "--secret", "another"]).await.expect(1);
    assert!(wrong.said.contains("PROBLEM takes a signed delivery: answered 401"), "{}", wrong.said);
    serving.abort();
    let (careless, serving) = vendor(false).await;
    let arguments = ["doctor", "receiver", &careless, "--secret", SECRET, "--format", "json"];
    let bad = run(&arguments).await.expect(1);
    let document: serde_json::Value = serde_json::from_str(&bad.said).expect("JSON");
    assert_eq!(document["healthy"], false);
    let problems: Vec<_> = document["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["status"] == "problem")
        .map(|check| check["check"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        problems,
        [
            "refuses what is not signed",
            "refuses a forged signature",
            "refuses a changed body",
            "refuses an old delivery that is sent again",
        ]
    );
    serving.abort();
    let slow = receiver().await;
    slow.behave_otherwise(Behaviour::status(200).after(Duration::from_secs(3)));
    let url = slow.url("/");
    let late = ["doctor", "receiver", &url, "--secret", SECRET, "--deadline", "500ms"];
    let late = run(&late).await.expect(1);
    assert!(late.said.contains("PROBLEM takes a signed delivery: timeout"), "{}", late.said);
    run(&["doctor", "receiver", "no address", "--secret", SECRET]).await.expect(2);
}
