//! How calls through invoke are made: `cargo bench --bench invoke -- [--rate 2000] [--seconds 20]
//! [--database postgres://…]`.
//!
//! The server runs in this process, on SQLite or on an empty PostgreSQL database; the host's API is
//! a bare answer on the loopback interface, which is called directly first at the same rate, so that
//! every figure has its measure beside it. Ends with 1 where a call failed, or the rate was not
//! reached.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use mortise::config::{Config, Inputs};
use mortise::development::{
    Browser, Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    SampleVendor, SampleVendorOptions, hash_of,
};
use mortise::seam::{Clock, Seam};
use serde_json::{Value, json};

/// As in the program.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong: said once, at the end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The `secret` of the extension.
const SECRET: &str = "manifest-secret-of-the-benchmark";

/// The part of the rate that must be reached.
const REACHED: f64 = 0.99;

/// Measures calls through invoke at a fixed rate.
#[derive(Clone, Debug, Parser)]
#[command(name = "invoke")]
struct Arguments {
    /// Calls a second.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How long.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Installations that call, each in an org of its own.
    #[arg(long, default_value_t = 16)]
    installations: usize,
    /// An empty PostgreSQL database; SQLite where it is left out.
    #[arg(long)]
    database: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A call that is made again and again.
#[derive(Clone)]
struct Call {
    url: String,
    hash: Option<String>,
    body: String,
}

/// What a run came to.
struct Figures {
    made: u64,
    failed: u64,
    took: Duration,
    latencies: Vec<u32>,
}

impl Figures {
    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
        let made = self.made as f64;
        made / self.took.as_secs_f64()
    }

    /// The latency in milliseconds below which so many of a thousand calls are.
    fn at(&self, permille: usize) -> f64 {
        let index = (self.latencies.len() * permille / 1_000).min(self.latencies.len() - 1);
        f64::from(self.latencies[index]) / 1_000.0
    }

    fn say(&self, name: &str) {
        println!(
            "{name:<8} {:>8.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms  p99.9 {:>7.2} ms  failed {}",
            self.rate(),
            self.at(500),
            self.at(990),
            self.at(999),
            self.failed
        );
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(run(&arguments))),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("FAILED: calls failed, or the rate was not reached");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The host's API: one short answer.
async fn host() -> Result<String, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = || async { axum::Json(json!({ "id": "1", "subject": "It works" })) };
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}"))
}

#[expect(clippy::disallowed_methods, reason = "a client of the server, not a call of it")]
fn client() -> Result<reqwest::Client, Failure> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?)
}

async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let clock = Clock::default();
    let api = host().await?;
    let provider = DevelopmentAuthorizationServerOptions::default();
    let provider = DevelopmentAuthorizationServer::start(provider).await?;
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let mut settings = vec![
        ("listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("data_dir".to_owned(), folder.path().display().to_string()),
        ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ("egress.require_https".to_owned(), "false".to_owned()),
        ("host.api_base".to_owned(), api.clone()),
        ("limits.invoke_per_minute".to_owned(), "10000000".to_owned()),
        ("limits.invoke_under_way".to_owned(), "8192".to_owned()),
        ("limits.invocations_kept".to_owned(), "100000".to_owned()),
    ];
    settings.extend(arguments.database.clone().map(|url| ("database.url".to_owned(), url)));
    for (name, value) in [
        ("authorize_url", provider.authorize_url()),
        ("token_url", provider.token_url()),
        ("revoke_url", provider.revoke_url()),
        ("client_id", provider.client_id().to_owned()),
        ("client_secret", provider.client_secret().to_owned()),
    ] {
        settings.push((format!("oauth.providers.zlabs_integration.{name}"), value));
    }
    let config = Config::load(&Inputs { overrides: settings, ..Inputs::default() })?;
    let running = mortise::server::start(config, Seam::default()).await?;
    let origin = format!("http://{}", running.address());
    provider.register_redirect_uri(format!("{origin}/oauth/callback"));
    let operator = std::fs::read_to_string(folder.path().join("operator.token"))?;
    let world = World { origin, operator: operator.trim().to_owned(), client: client()?, vendor };
    let calls = world.calls(arguments.installations).await?;

    let bare: Vec<Call> = calls
        .iter()
        .map(|call| Call { url: format!("{api}/api/v1/tickets/1"), hash: None, ..call.clone() })
        .collect();
    let bare = measure(&clock, &world.client, bare, arguments).await?;
    bare.say("bare");
    let through = measure(&clock, &world.client, calls, arguments).await?;
    through.say("invoke");
    println!("an invoke call takes {:.2} times a bare one at p50", through.at(500) / bare.at(500));
    running.stop().await;
    let is_reached = through.rate() >= f64::from(arguments.rate) * REACHED;
    Ok(through.failed == 0 && is_reached)
}

/// A server with what calls it.
struct World {
    origin: String,
    operator: String,
    client: reqwest::Client,
    vendor: SampleVendor,
}

impl World {
    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.client.post(format!("{}/api/v1{path}", self.origin));
        let answer = request.bearer_auth(&self.operator).json(body).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Publishes the extension, installs it in orgs, and makes a call of each.
    async fn calls(&self, installations: usize) -> Result<Vec<Call>, Failure> {
        let callbacks = self.vendor.url("/callbacks");
        let package = json!({
            "key": "bench", "name": "Bench", "version": "1.0.0", "vendor": "bench",
            "manifest": {
                "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
                "whiteListedDomains": ["https://bench.example"],
                "modules": { "widgets": [{ "name": "W", "url": "/app/w.html",
                    "location": "desk.ticket.detail.rightpanel" }] },
                "zohoAuthorisation": { "type": "connectors", "scope": ["Desk.tickets.READ"] },
                "connectors": [], "config": [], "secret": SECRET,
                "callbackListener": { "onZohoAuthorise": callbacks },
            },
            "resources": {},
        });
        self.post("/extensions", &package).await?;
        let mut browser = Browser::new()?;
        let mut calls = Vec::with_capacity(installations);
        for number in 0..installations {
            let org = (60_000 + number).to_string();
            let request = json!({ "extensionKey": "bench", "orgId": org });
            let installed = self.post("/callbacks/install", &request).await?;
            let text = |name: &str| installed[name].as_str().unwrap_or_default().to_owned();
            let answer = browser.consent(&text("authorizationUrl"), Decision::Approve).await?;
            let body = json!({
                "installationId": text("installationId"), "code": answer.code, "state": answer.state,
            });
            self.post("/callbacks/authorize", &body).await?;
            let told = self.vendor.wait_for(number + 1, Duration::from_secs(20)).await?;
            let told = told.last().ok_or("the vendor was not told")?.json()?;
            let fields = json!({
                "securityContext": told["securityContext"],
                "requestURL": "/api/v1/tickets/1",
                "requestType": "GET",
            });
            calls.push(Call {
                url: format!("{}/api/v1/invoke?orgId={org}", self.origin),
                hash: Some(hash_of(SECRET, b"requestURL=/api/v1/tickets/1&requestType=GET")),
                body: fields.to_string(),
            });
        }
        Ok(calls)
    }
}

/// Makes calls at the rate, each at its own moment whatever became of those before it.
async fn measure(
    clock: &Clock,
    client: &reqwest::Client,
    calls: Vec<Call>,
    arguments: &Arguments,
) -> Result<Figures, Failure> {
    let total = u64::from(arguments.rate) * u64::from(arguments.seconds);
    let gap = Duration::from_secs(1) / arguments.rate.max(1);
    let failed = Arc::new(AtomicU64::new(0));
    let began = clock.instant();
    let mut under_way = tokio::task::JoinSet::new();
    let mut latencies = Vec::with_capacity(usize::try_from(total)?);
    for (number, call) in (0..total).zip(calls.iter().cycle()) {
        let due = began + gap * u32::try_from(number)?;
        let early = due.saturating_duration_since(clock.instant());
        // A timer has a millisecond: what is due within it goes at once.
        if early > Duration::from_millis(1) {
            clock.sleep(early).await;
        }
        let (client, call) = (client.clone(), call.clone());
        let (failed, clock) = (Arc::clone(&failed), clock.clone());
        under_way.spawn(async move {
            let mut request =
                client.post(&call.url).header("content-type", "application/json").body(call.body);
            if let Some(hash) = call.hash {
                request = request.header("HASH", hash);
            }
            let is_good = match request.send().await {
                Ok(answer) => answer.status() == 200 && answer.bytes().await.is_ok(),
                Err(_) => false,
            };
            if !is_good {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            // From the moment that it was due: what waits for its turn is late too.
            let took = clock.instant().saturating_duration_since(due);
            u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
        });
        while let Some(done) = under_way.try_join_next() {
            latencies.push(done?);
        }
    }
    while let Some(done) = under_way.join_next().await {
        latencies.push(done?);
    }
    latencies.sort_unstable();
    Ok(Figures {
        made: total,
        failed: failed.load(Ordering::Relaxed),
        took: began.elapsed(),
        latencies,
    })
}
