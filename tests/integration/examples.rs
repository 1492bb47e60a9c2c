//! The examples for vendors, run as they are against the real server: they verify deliveries with
//! the published libraries and call back through invoke.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::delivery_world::{SOON, World, a_while, ticket, webhook_of};
use crate::support::on_both;
use crate::support::package::MANIFEST_SECRET;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(the_example_in_node_works, the_example_in_python_works);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// How to run an example, where `scripts/examples` has installed it. Under `CI=true` it must have.
fn command(language: &str) -> Option<Command> {
    let folder = folder(language);
    let (program, installed, script) = if language == "node" {
        (PathBuf::from("node"), folder.join("node_modules/standardwebhooks"), "server.mjs")
    } else {
        let python = folder.join(".venv/bin/python");
        (python.clone(), python, "server.py")
    };
    if !installed.exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "the example in {language} is not installed: run scripts/examples"
        );
        // Straight to the terminal: what a test prints through the harness is hidden.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: the example in {language}; run scripts/examples first"
        );
        return None;
    }
    let mut command = Command::new(program);
    command.arg(folder.join(script));
    Some(command)
}

/// A running example; it ends with this.
struct Example {
    child: Child,
    origin: String,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Example {
    fn start(mut command: Command, port: u16, server: &TestServer, secret: &str) -> Self {
        let mut child = command
            .env("MORTISE_URL", server.client.url(""))
            .env("SIGNING_SECRET", secret)
            .env("MANIFEST_SECRET", MANIFEST_SECRET)
            .env("PORT", port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = lines.next().expect("it says where it listens").expect("text");
        let origin = line.trim_start_matches("listening on ").to_owned();
        assert!(origin.starts_with("http://127.0.0.1:"), "{line}");
        // What it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, origin }
    }
}

async fn the_example_in_node_works(backend: Backend) {
    works(backend, "node").await;
}

async fn the_example_in_python_works(backend: Backend) {
    works(backend, "python").await;
}

async fn works(backend: Backend, language: &str) {
    let Some(command) = command(language) else { return };
    let server = TestServer::start(backend, |_| {}).await;
    // The address must be known before the extension is published, and its secret after it.
    let port = crate::support::program::free_address().port();
    let origin = format!("http://127.0.0.1:{port}");
    let package = server.package().with(|package| {
        package.resources["webhook"]["url"] = format!("{origin}/hooks/desk?tenant=a").into();
    });
    let installation = server.active_package(&package, ORG).await;
    let path = "/api/v1/extensions/ticket-mirror/signing-secret";
    let secret = server.client.get(path, &server.operator).await.expect(200).text_of("secret");
    let example = Example::start(command, port, &server, &secret);
    assert_eq!(example.origin, origin);
    let host = server.host().await;
    let webhook = webhook_of(&server, &installation).await;
    let world = World { server, host, installation, webhook };
    assert_eq!(world.fans_out(&ticket(ORG, "4711")).await, 1);
    let call = eventually("the example calls back", async || {
        world.server.provider.api_calls().first().cloned()
    })
    .await;
    assert_eq!(call.method, "POST");
    assert_eq!(call.path_and_query, "/api/v1/tickets/4711/comments");
    assert!(call.authorized, "with the installation's token, which the vendor never sees");
    let comment: Value = serde_json::from_slice(&call.body).expect("JSON");
    assert_eq!(comment["content"], "We are on it.");
    let source = call.headers.iter().find(|(name, _)| name == "sourceid");
    assert_eq!(source.expect("a sourceId").1, "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13");
    // A request that is not signed is refused, and nothing is called.
    let client = Client::new(example.origin.clone());
    let forged = client
        .request(Method::POST, &format!("/hooks/desk?orgId={ORG}&securityContext=x"), "")
        .header("webhook-id", "forged")
        .header("webhook-timestamp", "1")
        .header("webhook-signature", "v1,AAAA")
        .json(&json!([{ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "1" } }]));
    assert_eq!(forged.send().await.expect("it answers").status(), 401);
    assert_eq!(world.server.provider.api_calls().len(), 1);
    comes_again(&world, &client, &secret).await;
    is_not_held_up_by_nonsense(&example.origin).await;
}

/// A delivery whose answer got lost comes again: it is answered, and posts nothing twice.
async fn comes_again(world: &World, client: &Client, secret: &str) {
    let context = world.server.vendor.wait_for_path("/callbacks", 2, SOON).await;
    let context = context.expect("the vendor is told")[1].json().expect("JSON");
    let context = context["securityContext"].as_str().expect("a context").to_owned();
    let signer = standardwebhooks::Webhook::new(secret).expect("a secret");
    let deliver = async |id: &str, ticket: &str| {
        let body =
            json!([{ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": ticket } }]);
        let body = body.to_string();
        let timestamp = world.server.seam.clock.now().seconds();
        let signature = signer.sign(id, timestamp, body.as_bytes()).expect("a signature");
        let path = format!("/hooks/desk?orgId={ORG}&securityContext={context}");
        let request = client
            .request(Method::POST, &path, "")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header("content-type", "application/json");
        request.body(body).send().await.expect("it answers").status().as_u16()
    };
    let called = |ticket: &str| {
        let path = format!("/api/v1/tickets/{ticket}/comments");
        let calls = world.server.provider.api_calls();
        calls.iter().filter(|call| call.path_and_query == path).count()
    };
    for _ in 0..3 {
        assert_eq!(deliver("once", "1").await, 200);
    }
    // What comes after it is worked on after it: by then all three were.
    assert_eq!(deliver("other", "2").await, 200);
    eventually("both are commented", async || (called("1") + called("2") >= 2).then_some(())).await;
    a_while().await;
    assert_eq!((called("1"), called("2")), (1, 1));
}

/// A length that is none is refused, and nobody waits for a body that does not come.
async fn is_not_held_up_by_nonsense(origin: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = origin.trim_start_matches("http://");
    for length in ["-1", "nonsense", "99999999999999999999"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let head = format!(
            "POST /hooks/desk HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
        read.expect("it does not wait").expect("an answer");
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "411", "413"].contains(&status), "{length}: {answer}");
    }
}
