//! A small client of WebDriver (W3C), and a browser of its own for each test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use mortise::seam::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long something may take to show.
const PATIENCE: Duration = Duration::from_secs(15);

/// The member under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys as WebDriver writes them.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// A program of the PATH.
fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// A browser.
#[derive(Debug)]
pub(crate) struct Browser {
    http: reqwest::Client,
    session: String,
    clock: Clock,
    driver: Child,
    profile: TempDir,
}

impl Drop for Browser {
    /// Ends the driver and what it started, also where a test fails: the driver leads a group of its
    /// own, and the browser, which leads another, is known by its profile.
    fn drop(&mut self) {
        let mut targets: Vec<String> = browsers_of(self.profile.path());
        targets.extend(self.driver.id().map(|group| format!("-{group}")));
        if targets.is_empty() {
            return;
        }
        let ended =
            std::process::Command::new("kill").arg("-KILL").arg("--").args(targets).output();
        if let Err(error) = ended {
            eprintln!("a browser may be left running: {error}");
        }
    }
}

/// The processes that were started with a profile, by their ids.
fn browsers_of(profile: &Path) -> Vec<String> {
    let wanted = profile.display().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|letter| letter.is_ascii_digit()))
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&wanted)
        })
        .collect()
}

impl Browser {
    /// Starts one; nothing where none is installed, which an unattended run does not take.
    pub(crate) async fn start() -> Option<Self> {
        let browser = program(&["chromium", "chromium-browser", "google-chrome"]);
        let driver = program(&["chromedriver"]);
        let (Some(browser), Some(driver)) = (browser, driver) else {
            assert!(std::env::var_os("CI").is_none(), "run scripts/browser first");
            eprintln!("no chromium with its driver here: this test checks nothing in this run");
            return None;
        };
        let mut driver = Command::new(driver)
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .expect("the driver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = loop {
            let line = lines.next_line().await.expect("it speaks").expect("it says its port");
            if let Some((_, rest)) = line.split_once("started successfully on port ") {
                break rest.trim_end_matches('.').to_owned();
            }
        };
        // What it says later is read, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().expect("a folder");
        let http = client();
        let base = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--force-color-profile=srgb".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": browser, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let clock = Clock::default();
        let session = String::new();
        // From here on whatever fails ends it.
        let mut started = Self { http, session, clock, driver, profile };
        let answer = started.http.post(format!("{base}/session")).json(&wanted).send().await;
        let answer: Value = answer.expect("the driver answers").json().await.expect("JSON");
        let id = answer["value"]["sessionId"].as_str();
        let id = id.unwrap_or_else(|| panic!("no session: {answer}"));
        started.session = format!("{base}/session/{id}");
        Some(started)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let request = self.http.request(method, format!("{}{path}", self.session));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let is_success = answer.status().is_success();
        let document: Value = answer.json().await.map_err(|error| error.to_string())?;
        let value = document["value"].clone();
        if is_success { Ok(value) } else { Err(value.to_string()) }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let done = self.call(Method::POST, path, Some(body)).await;
        done.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Opens an address.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// The path that is shown.
    pub(crate) async fn path(&self) -> String {
        self.script("return location.pathname").await.as_str().unwrap_or_default().to_owned()
    }

    /// Goes into the first frame of the page.
    pub(crate) async fn enter_frame(&self) {
        self.post("/frame", json!({ "id": 0 })).await;
    }

    /// Runs a script in the page; what it returns.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Runs a script that calls its last argument when it is done.
    pub(crate) async fn script_until_done(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// The text that is shown.
    pub(crate) async fn text(&self) -> String {
        self.script("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a text is shown.
    pub(crate) async fn sees(&self, text: &str) {
        let end = self.clock.instant() + PATIENCE;
        loop {
            let shown = self.text().await;
            if shown.contains(text) {
                return;
            }
            assert!(self.clock.instant() < end, "never seen: {text} in {shown}");
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks on what a CSS selector names.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Writes into what a CSS selector names.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [
                    json!({ "type": "keyDown", "value": key }),
                    json!({ "type": "keyUp", "value": key }),
                ]
            })
            .collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.post("/actions", body).await;
    }

    async fn find(&self, selector: &str) -> String {
        let end = self.clock.instant() + PATIENCE;
        loop {
            let body = json!({ "using": "css selector", "value": selector });
            match self.call(Method::POST, "/element", Some(body)).await {
                Ok(found) => return found[ELEMENT].as_str().expect("an element").to_owned(),
                Err(error) => assert!(self.clock.instant() < end, "{selector}: {error}"),
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sets the size of the view.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        } });
        self.post("/goog/cdp/execute", metrics).await;
    }

    /// Has the page believe that its reader wants it dark, or light.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            // A colour on its way from one scheme to the other is neither's.
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        let body =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.post("/goog/cdp/execute", body).await;
    }

    /// What the page said on its console since this was asked last: errors and refusals of its policy.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// What axe-core finds wrong with the page, by the rules of WCAG 2.2 A and AA.
    pub(crate) async fn violations(&self) -> Vec<String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/browser/node_modules/axe-core/axe.min.js");
        let Ok(axe) = std::fs::read_to_string(&file) else {
            assert!(std::env::var_os("CI").is_none(), "run scripts/browser first");
            eprintln!("axe-core is not installed: accessibility is not checked in this run");
            return Vec::new();
        };
        // A script of the driver is none of the page: its policy does not hold for it.
        self.script(&format!("{axe}; return true")).await;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
                .then((found) => done(found.violations.map((one) =>
                    one.id + ': ' + one.help + ' at ' + one.nodes.map((node) => node.target.join(' ') + ' ' + node.failureSummary).join(' | '))))
                .catch((error) => done(['axe failed: ' + error]));";
        let found = self.script_until_done(script).await;
        let found = found.as_array().cloned().unwrap_or_default();
        found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Keeps a picture of the page in `docs/images`, where `UPDATE_IMAGES` is set.
    pub(crate) async fn picture(&self, name: &str) {
        if std::env::var_os("UPDATE_IMAGES").is_none() {
            return;
        }
        let picture = self.call(Method::GET, "/screenshot", None).await.expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(picture.as_str().expect("a text"))
            .expect("base64");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("it is written");
    }

    /// Closes it.
    pub(crate) async fn close(self) {
        let _closed = self.call(Method::DELETE, "", None).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a client of the driver, not a call of the server")]
fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_mins(1)).no_proxy().build().expect("a client")
}
