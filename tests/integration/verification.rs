//! What receivers of other systems do to believe a request, run as real programs: they accept what
//! the dialects send, and nothing that was altered.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mortise::crypto::{Signer, SigningSecret};
use mortise::dialect::{
    Dialect, EventParts, Occasion, Rendered, RequestSettings, WebhookFace, render,
};
use mortise::seam::Clock;
use serde_json::{Value, json};
use uuid::Uuid;

/// A secret as somebody types it in, beyond ASCII too.
const CHOSEN: &str = "sëcret for 4 receivers";

/// A secret as Standard Webhooks has it.
const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAQIDBAUGBwg=";

/// A payload that is not plain ASCII, so that raw bytes are what counts.
const PAYLOAD: &str = r#"{"id":"req_123","subject":"Kann E-Mail nicht öffnen 📧","status":"Open","contact":{"id":"usr_1","email":"j@a.example"}}"#;

/// How to run a program, where what it needs is there. Under `CI=true` it must be.
fn command(language: &str, program: &str, needs_library: bool) -> Option<Command> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let library = if language == "node" {
        root.join("examples/node/node_modules/standardwebhooks")
    } else {
        root.join("examples/python/.venv/bin/python")
    };
    let interpreter = match (language, needs_library) {
        ("node", _) => PathBuf::from("node"),
        (_, true) => library.clone(),
        (_, false) => PathBuf::from("python3"),
    };
    let has_interpreter = Command::new(&interpreter)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_interpreter || (needs_library && !library.exists()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{program} cannot run: run scripts/examples"
        );
        // Straight to the terminal: what a test prints through the harness is hidden.
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {program}; run scripts/examples first");
        return None;
    }
    let mut command = Command::new(interpreter);
    command
        .arg(root.join("tests/integration/verification").join(program))
        .env("LIBRARY_FOLDER", root.join("examples/node"));
    Some(command)
}

/// Whether a program believes what it is given.
fn believes(command: &mut Command, given: &Value) -> bool {
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(given.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let code = output.status.code();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(code, Some(0 | 1)) && !told.contains("Traceback") && !told.contains("    at "),
        "{code:?}: {told}"
    );
    code == Some(0)
}

fn sent(dialect: Dialect, name: &str, secret: &SigningSecret) -> Rendered {
    let now = Clock::default().now();
    let signer = Signer::new([secret]).expect("a signer");
    let settings = RequestSettings::default();
    let occasion = Occasion {
        event: EventParts::new("Ticket_Add", "761336011", now, PAYLOAD.as_bytes()),
        name,
        delivery_id: Uuid::from_u128(7),
        webhook: WebhookFace { id: Uuid::from_u128(8), alias: 9, name: "Wall" },
        at: now,
        signer: &signer,
        is_test: false,
        is_replay: false,
        settings: &settings,
        template: None,
    };
    render(dialect, &occasion).expect("a request")
}

fn text(rendered: &Rendered) -> String {
    String::from_utf8(rendered.body.to_vec()).expect("UTF-8")
}

fn dzdesk_accepts(language: &str, program: &str) {
    let Some(mut command) = command(language, program, false) else { return };
    let secret = SigningSecret::from_chosen_bytes(CHOSEN.as_bytes()).expect("a secret");
    let rendered = sent(Dialect::Dzdesk, "request.created", &secret);
    let signature = rendered.headers["x-dzdesk-signature"].to_str().expect("ASCII").to_owned();
    let body = text(&rendered);
    let given = json!({ "body": body, "signature": signature, "secret": CHOSEN });
    assert!(believes(&mut command, &given), "as it was sent");
    for (what, altered) in [
        ("body", json!(body.replace("req_123", "req_124"))),
        ("signature", json!(signature.replace("sha256=", ""))),
        ("secret", json!("another")),
    ] {
        let mut given = given.clone();
        given[what] = altered;
        assert!(!believes(&mut command, &given), "another {what}");
    }
}

#[test]
fn dzdesks_recipe_in_javascript_accepts_what_dzdesk_sends() {
    dzdesk_accepts("node", "dzdesk.mjs");
}

#[test]
fn dzdesks_recipe_in_python_accepts_what_dzdesk_sends() {
    dzdesk_accepts("python", "dzdesk.py");
}

fn library_accepts(language: &str, program: &str) {
    let Some(mut command) = command(language, program, true) else { return };
    let secret = SigningSecret::parse(STANDARD).expect("a secret");
    // Every dialect has this signature beside its own.
    for (dialect, name) in [
        (Dialect::Standard, "Ticket_Add"),
        (Dialect::Desk, "Ticket_Add"),
        (Dialect::Dzdesk, "request.created"),
        (Dialect::Zendesk, "zen:event-type:ticket.created"),
        (Dialect::Assist, "Ping"),
    ] {
        let rendered = sent(dialect, name, &secret);
        let header = |name: &str| rendered.headers[name].to_str().expect("ASCII").to_owned();
        let headers = json!({
            "webhook-id": header("webhook-id"),
            "webhook-timestamp": header("webhook-timestamp"),
            "webhook-signature": header("webhook-signature"),
        });
        let given = json!({ "body": text(&rendered), "headers": headers, "secret": STANDARD });
        assert!(believes(&mut command, &given), "{dialect:?} as it was sent");
        let mut altered = given.clone();
        altered["body"] = json!(text(&rendered).replace("req_123", "req_124"));
        assert!(!believes(&mut command, &altered), "{dialect:?} with another body");
        let mut altered = given.clone();
        altered["headers"]["webhook-id"] = json!("another");
        assert!(!believes(&mut command, &altered), "{dialect:?} with another id");
    }
}

#[test]
fn the_published_library_for_node_accepts_every_dialect() {
    library_accepts("node", "standard.mjs");
}

#[test]
fn the_published_library_for_python_accepts_every_dialect() {
    library_accepts("python", "standard.py");
}
