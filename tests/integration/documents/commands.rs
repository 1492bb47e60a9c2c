//! Every command in the documents runs here, against the real program.

use std::io::Write as _;

use mortise::development::{Behaviour, SampleVendor, SampleVendorOptions};

use super::pages::{all, root};
use super::session::{Session, commands};
use crate::support::delivery_world::World;
use crate::support::program::free_address;
use crate::support::server::{Backend, ORG};

/// Pages whose commands are run, each by a test below.
const FOLLOWED: [&str; 6] = [
    "README.md",
    "docs/DEPLOYMENT.md",
    "docs/DOCTOR.md",
    "docs/PAGES.md",
    "docs/TUTORIAL.md",
    "docs/VENDOR_TOOLS.md",
];

/// Pages whose commands are not run here, and why.
const NOT_FOLLOWED: [(&str, &str); 4] = [
    ("docs/PERFORMANCE.md", "benchmarks: they build the program and take half an hour"),
    ("docs/RELIABILITY.md", "the long form of tests that run in their short form"),
    ("examples/README.md", "the examples have a test of their own, with the same commands"),
    ("fuzz/README.md", "fuzzing goes on until it is stopped, with a tool that is not needed else"),
];

#[test]
fn every_page_with_commands_is_followed_or_says_why_not() {
    for page in all() {
        for block in page.blocks() {
            let first = block.text.split_whitespace().next().unwrap_or_default();
            let is_command =
                ["mortise", "curl", "cargo", "scripts/test", "export"].contains(&first);
            assert!(
                block.language == "sh" || !is_command,
                "{}:{}: commands are marked as `sh`",
                page.path,
                block.line
            );
        }
        let has_commands = page.blocks().iter().any(|block| block.language == "sh");
        let is_known = FOLLOWED.contains(&page.path.as_str())
            || NOT_FOLLOWED.iter().any(|(path, _)| *path == page.path);
        assert_eq!(has_commands, is_known, "{}", page.path);
    }
    for (page, reason) in NOT_FOLLOWED {
        assert!(!commands(page).is_empty() && reason.len() > 20, "{page}");
    }
}

/// Whether the programs are there that pages call besides ours. Under `CI=true` they must be.
fn are_there(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| {
            let found = std::process::Command::new(program).arg("--version").output();
            !found.is_ok_and(|output| output.status.success())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing: {missing:?}");
    // Straight to the terminal: what a test prints through the harness is hidden.
    let _ = writeln!(std::io::stderr(), "NOT TESTED: commands of documents, without {missing:?}");
    false
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn the_tutorial_leads_to_a_signed_event() {
    if !are_there(&["bash", "curl", "sed", "node"]) {
        return;
    }
    let (server, receiver) = (free_address(), free_address().port());
    let folder = folder();
    let session = Session {
        page: "docs/TUTORIAL.md",
        replace: vec![
            (
                "serve --development",
                format!("serve --development --listen {server} --provider-port 0 --vendor-port 0"),
            ),
            ("127.0.0.1:8080", server.to_string()),
            ("--port 9000", format!("--port {receiver}")),
            ("127.0.0.1:9000", format!("127.0.0.1:{receiver}")),
            ("node my-first", format!("env PORT={receiver} node my-first")),
        ],
        stays: &[
            ("mortise serve", "second", "Mortise is ready"),
            ("mortise listen", "third", "listening on http://"),
            ("node ", "third", "listening on http://"),
        ],
        says: &[
            ("mortise new", "", "my-first-extension/extension/plugin-manifest.json"),
            ("mortise validate", "", "The package is valid"),
            ("START=", "mortise listen", "onInstall"),
            ("START=", "mortise listen", "onZohoAuthorise"),
            ("mortise trigger Ticket_Add --server", "", "accepted, 1 deliveries"),
            ("mortise trigger Ticket_Add --server", "mortise listen", "Ticket_Add org 60001"),
            (
                "mortise trigger Ticket_Add --server",
                "mortise listen",
                "signature valid  answered 200",
            ),
            ("curl -s \"http", "", "\"eventType\":\"Ticket_Add\""),
            ("curl -s http", "", "\"removedWebhooks\":1"),
            ("curl -s http", "node ", "Ticket_Add of org 60001"),
            ("curl -s http", "node ", "onUninstall of org 60001"),
        ],
        ..Session::default()
    };
    session.follow(folder.path()).await;
    assert!(!std::fs::read_to_string(folder.path().join("out-3")).expect("it").contains("INVALID"));
}

#[tokio::test]
async fn the_quick_start_works() {
    if !are_there(&["bash", "curl", "sed"]) {
        return;
    }
    let (server, vendor) = (free_address(), free_address().port());
    let folder = folder();
    let session = Session {
        page: "README.md",
        replace: vec![
            (
                "cargo run --release -- serve --development",
                format!(
                    "mortise serve --development --listen {server} --provider-port 0 \
                     --vendor-port {vendor}"
                ),
            ),
            ("127.0.0.1:8080", server.to_string()),
            ("127.0.0.1:8182", format!("127.0.0.1:{vendor}")),
            ("fixtures/", format!("{}/fixtures/", root().display())),
        ],
        stays: &[("cargo run --release -- serve", "server", "Mortise is ready")],
        says: &[
            ("printf", "", "\"digest\":\"sha256:"),
            ("curl -s \"$MORTISE/api/v1/webhooks\"", "", "\"lockedBy\""),
            ("curl -s \"$MORTISE/api/v1/events\"", "", "\"deliveries\":1"),
            ("curl -s \"$MORTISE/api/v1/portal-links\"", "", "/portal/"),
            ("curl -s \"$MORTISE/api/v1/callbacks/uninstall\"", "", "\"removedWebhooks\":1"),
            ("curl -s \"$MORTISE/api/v1/callbacks/uninstall\"", "", "{\"data\":[]"),
        ],
        not_run: &[
            (
                "cargo run --release -- demo",
                "the demo has a test of its own; the other is this run",
            ),
            ("MORTISE_DATABASE__URL", "needs that very database and file"),
        ],
        ..Session::default()
    };
    session.follow(folder.path()).await;
}

/// A folder with a file that makes a server listen at a free port.
fn configured() -> (tempfile::TempDir, std::net::SocketAddr) {
    let (folder, address) = (folder(), free_address());
    let text = format!("listen = \"{address}\"\n");
    std::fs::write(folder.path().join("mortise.toml"), text).expect("a file");
    (folder, address)
}

#[tokio::test]
async fn the_first_minutes_and_a_backup_work() {
    if !are_there(&["bash"]) {
        return;
    }
    let (folder, _) = configured();
    let session = Session {
        page: "docs/DEPLOYMENT.md",
        replace: vec![("/backup/", "./".to_owned())],
        stays: &[("mortise serve", "server", "Mortise is ready")],
        says: &[("mortise token", "", "mortise_"), ("mortise backup", "", "bytes")],
        ..Session::default()
    };
    session.follow(folder.path()).await;
}

#[tokio::test]
async fn the_doctor_is_called_as_its_page_says() {
    if !are_there(&["bash"]) {
        return;
    }
    let (folder, _) = configured();
    // A database with its keys, as a server leaves them.
    for command in [["migrate", "up"], ["keys", "list"]] {
        let made = tokio::process::Command::new(env!("CARGO_BIN_EXE_mortise"))
            .args(command)
            .current_dir(folder.path())
            .output();
        assert!(made.await.expect("it starts").status.success(), "{command:?}");
    }
    let session = Session {
        page: "docs/DOCTOR.md",
        says: &[("mortise doctor", "", "\"healthy\":")],
        ..Session::default()
    };
    session.follow(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_work_as_their_page_says() {
    if !are_there(&["bash"]) {
        return;
    }
    let world = World::start(Backend::Sqlite).await;
    let server = &world.server;
    let folder = folder();
    let vendor = server.vendor_token("acme").await;
    for (file, token) in [("token", &vendor), ("host-token", &world.host)] {
        std::fs::write(folder.path().join(file), token).expect("a file");
    }
    let local = SampleVendor::start(SampleVendorOptions::default()).await.expect("a receiver");
    local.behave_otherwise(Behaviour::status(200));
    world.ticket("lost").await;
    let lost = world.in_state("lost", "delivered").await;
    let (port, secret) = (free_address().port(), world.secret().await);
    let session = Session {
        page: "docs/VENDOR_TOOLS.md",
        replace: vec![
            ("https://mortise.example.com", server.client.url("")),
            ("http://127.0.0.1:3000/hooks", local.url("/hooks")),
            ("--port 9000", format!("--port {port}")),
            ("whsec_…", secret),
            ("--webhook 0198…", format!("--webhook {}", world.webhook)),
            ("--delivery 0198…", format!("--delivery {}", lost["id"].as_str().expect("an id"))),
            ("--org 600", format!("--org {ORG}")),
        ],
        stays: &[
            ("mortise listen --server", "first", "listening"),
            ("mortise listen --port", "second", "listening on http://"),
        ],
        says: &[
            ("mortise trigger", "", "Ticket_Add"),
            ("mortise trigger", "mortise listen --server", "signature valid"),
        ],
        // The development receiver takes everything: that is said, and is what the page is about.
        not_run: &[("mortise doctor receiver", "run against a real receiver by the tutorial")],
        ..Session::default()
    };
    session.follow(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_to_the_pages_are_made_as_their_page_says() {
    if !are_there(&["bash", "curl"]) {
        return;
    }
    let world = World::start(Backend::Sqlite).await;
    let session = Session {
        page: "docs/PAGES.md",
        variables: vec![
            ("MORTISE", world.server.client.url("")),
            ("AUTH", format!("Authorization: Bearer {}", world.server.operator)),
            ("JSON", "Content-Type: application/json".to_owned()),
        ],
        says: &[
            ("curl -s \"$MORTISE/api/v1/portal-links\"", "", "/portal/"),
            ("curl -s -X DELETE", "", "\"links\":1"),
        ],
        ..Session::default()
    };
    session.follow(folder().path()).await;
}
