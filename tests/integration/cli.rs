//! The program itself: what its commands print and how they end.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_mins(1);

/// The program with arguments, in a folder of its own and without the surroundings' settings.
fn program(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mortise"));
    command.args(arguments.split(' ')).current_dir(folder).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MORTISE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
async fn run(folder: &Path, arguments: &str) -> Ended {
    ended(program(folder, arguments)).await
}

async fn ended(mut command: Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    Ended::from(output)
}

/// How a run ended and what it said.
struct Ended {
    code: Option<i32>,
    answers: String,
    messages: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            answers: String::from_utf8(output.stdout).expect("text"),
            messages: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl Ended {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.answers, self.messages);
        self
    }

    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.messages.contains(part), "no {part:?} in: {}", self.messages);
        }
    }
}

/// A server that runs as a process of its own.
struct Served {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    address: String,
}

impl Served {
    async fn start(folder: &Path, arguments: &str) -> Self {
        let arguments = format!("serve --listen 127.0.0.1:0 {arguments}");
        let mut command = program(folder, arguments.trim_end());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its messages")).lines();
        let address = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.expect("text").expect("it is ready first");
                if let Some((_, rest)) = line.split_once("Mortise is ready address=") {
                    break rest.split(' ').next().expect("an address").to_owned();
                }
            }
        })
        .await
        .expect("it is ready");
        Self { child, lines, address }
    }

    /// Asks it to end, and waits until it has.
    async fn terminate(mut self) -> (Option<i32>, String) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill is there");
        assert!(sent.success());
        let mut rest = String::new();
        let status = timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                rest.push_str(&line);
                rest.push('\n');
            }
            self.child.wait().await.expect("it ends")
        });
        (status.await.expect("it ends").code(), rest)
    }
}

/// The status that the list of tokens is answered with, asked for in plain HTTP.
async fn answered(address: &str, token: &str) -> u16 {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "GET /api/v1/tokens HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let status = answer.split(' ').nth(1).expect("a status line");
    status.parse().expect("a number")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn the_demo_tells_its_story_and_leaves_nothing_behind() {
    let folder = folder();
    let mut command = program(folder.path(), "demo --once");
    // A setting of the surroundings must not reach it.
    command.env("TMPDIR", folder.path()).env("MORTISE_LISTEN", "nonsense");
    let ended = timeout(Duration::from_secs(30), ended(command)).await.expect("within 30 s");
    let ended = ended.expect(0);
    assert_eq!(ended.messages, "");
    for part in [
        "12/12",
        "Every step did what it says.",
        "securityContext=•••",
        "lockedBy",
        "none of the subscribed fields changed: status",
    ] {
        assert!(ended.answers.contains(part), "no {part:?} in: {}", ended.answers);
    }
    assert!(!ended.answers.contains('\u{1b}') && !ended.answers.contains('✗'));
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "the temporary folder is removed");
}

#[tokio::test]
async fn packages_are_validated() {
    let folder = folder();
    let validate = async |name: &str, format: &str| {
        let path = fixture(name);
        let path = path.to_str().expect("a path in Unicode");
        assert!(!path.contains(' '), "the words of a command are split at spaces");
        run(folder.path(), &format!("validate --format {format} {path}")).await
    };
    let valid = validate("ticket-mirror", "text").await.expect(0);
    assert!(valid.answers.contains("The package is valid"), "{}", valid.answers);
    let invalid = validate("broken/personal-with-webhook/package", "text").await.expect(1);
    assert!(invalid.answers.contains(" --> resources.json:2:3"), "{}", invalid.answers);
    let invalid = validate("broken/personal-with-webhook/package", "json").await.expect(1);
    let document: Value = serde_json::from_str(&invalid.answers).expect("JSON alone");
    let codes: Vec<_> = document["errors"].as_array().expect("errors").iter().collect();
    assert_eq!(codes.len(), 2, "{document}");
    assert_eq!(document["errors"][0]["code"], "webhook.scope-missing");
    let sarif = validate("broken/personal-with-webhook/package", "sarif").await.expect(1);
    let log: Value = serde_json::from_str(&sarif.answers).expect("JSON alone");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "webhook.scope-missing", "{log}");
    let annotations = validate("broken/personal-with-webhook/package", "github").await.expect(1);
    assert!(annotations.answers.starts_with("::error file="), "{}", annotations.answers);
    let unusable = validate("nowhere", "text").await.expect(2);
    unusable.says(&["error: ", "there is no such file or folder", "hint: "]);
    assert_eq!(unusable.answers, "");
}

#[tokio::test]
async fn packages_come_through_the_standard_input_too() {
    let folder = folder();
    let validate = async |bytes: Vec<u8>| {
        let mut command = program(folder.path(), "validate --format json -");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut input = child.stdin.take().expect("its input");
        let write = async move { input.write_all(&bytes).await };
        let (written, output) = tokio::join!(write, timeout(PATIENCE, child.wait_with_output()));
        written.expect("it reads");
        let ended = Ended::from(output.expect("it ends").expect("an output"));
        let document: Value = serde_json::from_str(&ended.answers).unwrap_or_default();
        (ended, document)
    };
    let path = fixture("broken/personal-with-webhook/package");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).expect("a file");
    let (manifest, resources) = (read("plugin-manifest.json"), read("resources.json"));

    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("plugin-manifest.json", &manifest), ("resources.json", &resources)] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("start");
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("write");
    }
    let (ended, document) = validate(writer.finish().expect("a zip").into_inner()).await;
    let at = |document: &Value, code: &str| -> Value {
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        errors.into_iter().find(|one| one["code"] == code).unwrap_or_default()
    };
    assert_eq!(ended.code, Some(1), "{}", ended.messages);
    assert_eq!(at(&document, "webhook.org-type")["line"], 2, "{document}");
    assert_eq!(at(&document, "package.app-missing")["file"], "app", "{document}");

    let body = format!("{{\"manifest\":{manifest},\"resources\":{resources}}}");
    let (ended, document) = validate(body.into_bytes()).await;
    assert_eq!(ended.code, Some(1), "{}", ended.messages);
    assert_eq!(at(&document, "webhook.org-type")["pointer"], "/webhook", "{document}");
    assert!(at(&document, "package.app-missing").is_null(), "{document}");

    let wide: Vec<u8> = manifest.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (ended, document) = validate(wide).await;
    assert_eq!(ended.code, Some(1), "{}", ended.messages);
    assert_eq!(at(&document, "json.encoding")["line"], 1, "{document}");

    let (ended, _) = validate(b"no package".to_vec()).await;
    assert!(ended.code == Some(1) || ended.code == Some(2), "{}", ended.answers);
    let (ended, _) = validate(b"PK and nothing more".to_vec()).await;
    assert_eq!(ended.code, Some(2), "{}", ended.answers);
}

#[tokio::test]
async fn rules_are_explained() {
    let folder = folder();
    let all = run(folder.path(), "explain").await.expect(0).answers;
    assert!(all.lines().count() > 50, "{all}");
    for code in all.lines() {
        assert!(fixture(&format!("../docs/rules/{code}.md")).is_file(), "{code}");
    }
    let page = run(folder.path(), "explain webhook.scope-missing").await.expect(0).answers;
    assert!(page.starts_with("# webhook.scope-missing\n"), "{page}");
    let unknown = run(folder.path(), "explain webhook.scope-mising").await.expect(2);
    unknown.says(&["there is no rule", "did you mean `webhook.scope-missing`?"]);
}

#[tokio::test]
async fn an_upgrade_is_told_before_it_happens() {
    let folder = folder();
    let old = fixture("ticket-mirror");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(old.join(name)).expect("a file")).expect("JSON")
    };
    let mut changed = read("resources.json");
    changed["webhook"]["subscriptions"]["Contact_Add"] = Value::Null;
    changed["webhook"]["name"] = "Mirror".into();
    let body =
        serde_json::json!({ "manifest": read("plugin-manifest.json"), "resources": changed });
    std::fs::write(folder.path().join("new.json"), body.to_string()).expect("a file");
    let old = old.to_str().expect("a path in Unicode");

    let same = run(folder.path(), &format!("diff {old} {old}")).await.expect(0).answers;
    assert!(same.contains("No resource changes.") && same.contains("No consent"), "{same}");
    let grown = run(folder.path(), &format!("diff {old} new.json")).await.expect(0).answers;
    assert!(grown.contains("/webhook/name: \"Ticket Mirror\" -> \"Mirror\""), "{grown}");
    assert!(grown.contains("+ event Contact_Add"), "{grown}");
    let json = format!("diff --format json {old} new.json");
    let json = run(folder.path(), &json).await.expect(0).answers;
    let document: Value = serde_json::from_str(&json).expect("JSON alone");
    assert_eq!(document["consentRequired"], true, "{document}");
    assert_eq!(document["growth"][0]["eventType"], "Contact_Add", "{document}");
    let broken = fixture("broken/personal-with-webhook/package");
    let invalid = format!("diff {old} {}", broken.display());
    run(folder.path(), &invalid).await.expect(1).says(&["error[webhook.scope-missing]"]);
    run(folder.path(), &format!("diff {old} nowhere")).await.expect(2).says(&["nowhere"]);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_without_a_server() {
    let folder = folder();
    let made = run(folder.path(), "token create --role admin --org 7 --expires 30d").await;
    let made = made.expect(0);
    let value = made.answers.trim().to_owned();
    assert!(value.starts_with("mortise_") && !made.messages.contains(&value));
    let list = run(folder.path(), "token list").await.expect(0).answers;
    assert!(list.contains("admin  org 7  until ") && !list.contains(&value), "{list}");
    let id = list.split(' ').next().expect("an id").to_owned();
    run(folder.path(), &format!("token revoke {id}")).await.expect(0);
    let list = run(folder.path(), "token list").await.expect(0).answers;
    assert!(list.contains("revoked "), "{list}");
    run(folder.path(), "token create --role admin").await.expect(2).says(&["needs an org"]);
    run(folder.path(), "token create --role king").await.expect(2).says(&["not a role"]);
    let unknown = "token revoke 0198c5b2-0000-7000-8000-000000000000";
    run(folder.path(), unknown).await.expect(1).says(&["there is no token"]);
}

#[tokio::test]
async fn signing_keys_are_listed_and_rotated_with_and_without_a_server() {
    let folder = folder();
    let list = run(folder.path(), "keys list").await.expect(0).answers;
    assert!(list.contains("jwt  ") && list.contains("ed25519  "), "{list}");
    let rotated = run(folder.path(), "keys rotate jwt --overlap 2h").await.expect(0);
    let first = rotated.answers.trim().to_owned();
    let list = run(folder.path(), "keys list").await.expect(0).answers;
    assert!(list.contains(&format!("jwt  {first}  ")), "{list}");
    assert_eq!(list.lines().count(), 3 + 3, "{list}");
    run(folder.path(), "keys rotate king").await.expect(2).says(&["`ed25519`", "`vault`"]);
    run(folder.path(), "keys rotate vault --overlap 1h").await.expect(2).says(&["sealed anew"]);
    // A data key, where nobody else has the database: to its end, and the old one is gone.
    let rotated = run(folder.path(), "keys rotate vault").await.expect(0);
    rotated.says(&["resealing", "retiring", "done", "sealed anew"]);
    assert_eq!(rotated.answers.trim(), "4");
    let list = run(folder.path(), "keys list").await.expect(0).answers;
    assert!(list.contains("vault  4  ") && !list.contains("vault  1  "), "{list}");
    run(folder.path(), "keys rotate jwt --overlap 31d").await.expect(2).says(&["at most `30d`"]);

    let server = Served::start(folder.path(), "").await;
    let address = server.address.clone();
    let rotate = format!("keys rotate jwt --listen {address}");
    let second = run(folder.path(), &rotate).await.expect(0).answers.trim().to_owned();
    let list = run(folder.path(), &format!("keys list --listen {address}")).await.expect(0).answers;
    assert!(list.contains(&first) && list.contains(&second), "{list}");
    assert_eq!(list.lines().count(), 4 + 3, "{list}");
    let rotate = format!("keys rotate securityContext --overlap 1h --listen {address}");
    let rotated = run(folder.path(), &rotate).await.expect(0);
    rotated.says(&["overlapping", "the former one opens until"]);
    assert_eq!(rotated.answers.trim(), "5");
    let (code, rest) = server.terminate().await;
    assert_eq!(code, Some(0), "{rest}");
}

#[tokio::test]
async fn a_running_server_is_asked_for_tokens_and_keeps_a_second_one_out() {
    let folder = folder();
    let server = Served::start(folder.path(), "").await;
    let address = server.address.clone();
    let made = format!("token create --role operator --listen {address}");
    let token = run(folder.path(), &made).await.expect(0).answers.trim().to_owned();
    let status = async || answered(&address, &token).await;
    assert_eq!(status().await, 200);
    let json = format!("token list --format json --listen {address}");
    let list = run(folder.path(), &json).await.expect(0).answers;
    let list: Value = serde_json::from_str(&list).expect("JSON alone");
    let id = list[0]["id"].as_str().expect("an id");
    run(folder.path(), &format!("token revoke {id} --listen {address}")).await.expect(0);
    assert_eq!(status().await, 401);

    let second = run(folder.path(), "serve --listen 127.0.0.1:0").await.expect(1);
    second.says(&["another process serves the database", "only one process may open it"]);
    run(folder.path(), "token list --listen 127.0.0.1:1").await.expect(1).says(&["hint: "]);
    run(folder.path(), "migrate up").await.expect(1).says(&["another process"]);

    let (code, rest) = server.terminate().await;
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("stopping"), "{rest}");
    assert!(!rest.contains("WARN") && !rest.contains("ERROR"), "{rest}");
    let log = folder.path().join("data/mortise.db-wal");
    assert!(!log.exists(), "everything is in the file itself");
}

#[tokio::test]
async fn a_running_servers_database_is_copied_and_the_copy_serves() {
    let folder = folder();
    let server = Served::start(folder.path(), "").await;
    let address = server.address.clone();
    let made = format!("token create --role operator --listen {address}");
    let token = run(folder.path(), &made).await.expect(0).answers.trim().to_owned();
    let copied = run(folder.path(), "backup copy.db").await.expect(0);
    assert!(copied.answers.starts_with("copy.db  "), "{}", copied.answers);
    copied.says(&["the master key is not in it", "master.key"]);
    let later = run(folder.path(), &made).await.expect(0).answers.trim().to_owned();
    assert_eq!((answered(&address, &token).await, answered(&address, &later).await), (200, 200));
    let again = run(folder.path(), "backup copy.db").await.expect(1);
    again.says(&["copy.db is there already"]);
    let (code, rest) = server.terminate().await;
    assert!(code == Some(0) && !rest.contains("WARN"), "{code:?} {rest}");
    // And with nobody there.
    run(folder.path(), "backup stopped.db").await.expect(0);

    // Elsewhere, with the key: what was there at the moment of the copy.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    for (from, to) in [("copy.db", "mortise.db"), ("data/master.key", "master.key")] {
        std::fs::copy(folder.path().join(from), elsewhere.join(to)).expect("a copy");
    }
    let server = Served::start(folder.path(), "--set data_dir=elsewhere").await;
    let address = server.address.clone();
    assert_eq!((answered(&address, &token).await, answered(&address, &later).await), (200, 401));
    server.terminate().await;

    let missing = run(folder.path(), "backup other.db --set data_dir=nowhere").await.expect(1);
    missing.says(&["there is no database at"]);
    let elsewhere = "backup other.db --set database.url=postgres://127.0.0.1:1/none";
    run(folder.path(), elsewhere).await.expect(2).says(&["pg_dump"]);
}

#[tokio::test]
async fn migrations_are_listed_and_applied() {
    let folder = folder();
    let before = run(folder.path(), "migrate status").await.expect(1);
    assert!(before.answers.contains("no database"), "{}", before.answers);
    let up = run(folder.path(), "migrate up").await.expect(0).answers;
    assert!(up.starts_with("applied  m2"), "{up}");
    assert_eq!(run(folder.path(), "migrate status").await.expect(0).answers, up);
    let again = run(folder.path(), "migrate up").await.expect(0).answers;
    assert_eq!(again, "the schema is up to date\n");
}

#[tokio::test]
async fn migrations_work_on_postgresql() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let folder = folder();
    let on_it = async |arguments: &str| {
        let mut command = program(folder.path(), arguments);
        command.env("MORTISE_DATABASE__URL", database.url());
        ended(command).await
    };
    let pending = on_it("migrate status").await.expect(1).answers;
    assert!(pending.starts_with("pending  m2"), "{pending}");
    let refused = on_it("serve --listen 127.0.0.1:0 --set database.migrate=false").await.expect(1);
    refused.says(&["migrate up"]);
    on_it("token list").await.expect(0);
    let up = on_it("migrate status").await.expect(0).answers;
    assert!(up.starts_with("applied  m2"), "{up}");
}

#[tokio::test]
async fn nodes_on_postgresql_share_keys_and_another_key_is_kept_out() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let folder = folder();
    let on_it = format!("--set database.url={}", database.url());
    let first = Served::start(folder.path(), &on_it).await;
    assert!(folder.path().join("data/operator.token").exists());
    let second = Served::start(folder.path(), &on_it).await;
    let made = run(folder.path(), &format!("token create --role operator {on_it}")).await.expect(0);
    for address in [&first.address, &second.address] {
        assert_eq!(answered(address, made.answers.trim()).await, 200);
    }
    let elsewhere = format!("serve --listen 127.0.0.1:0 --set data_dir=elsewhere {on_it}");
    let refused = run(folder.path(), &elsewhere).await.expect(1);
    refused.says(&["there is no file elsewhere/master.key", "from another node"]);
    for node in [second, first] {
        let (code, rest) = node.terminate().await;
        assert!(code == Some(0) && !rest.contains("WARN"), "{code:?} {rest}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_and_says_what_is_wrong() {
    let folder = folder();
    std::fs::write(folder.path().join("wrong.toml"), "listn = \"127.0.0.1:0\"\n").expect("write");
    run(folder.path(), "serve --config wrong.toml").await.expect(2).says(&[
        "wrong.toml:1:1",
        "`listn`",
        "did you mean `listen`?",
    ]);
    let mut command = program(folder.path(), "serve");
    command.env("MORTISE_DELIVERY__DEADLIN", "3s");
    ended(command).await.expect(2).says(&["MORTISE_DELIVERY__DEADLIN", "is not a setting"]);
    run(folder.path(), "serve --set delivery.deadline=9h").await.expect(2).says(&["1s to 1m"]);
    run(folder.path(), "serve --config none.toml").await.expect(2).says(&["none.toml"]);
    assert!(!folder.path().join("data").exists(), "nothing was made");
}

#[tokio::test]
async fn help_is_an_answer_and_nonsense_is_not() {
    let folder = folder();
    let help = run(folder.path(), "--help").await.expect(0);
    for command in ["serve", "demo", "validate", "explain", "diff", "migrate", "token"] {
        assert!(help.answers.contains(&format!("\n  {command} ")), "{}", help.answers);
    }
    run(folder.path(), "--version").await.expect(0);
    run(folder.path(), "nonsense").await.expect(2).says(&["nonsense"]);
}
