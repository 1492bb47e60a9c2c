//! How long pages take on the server with a long history: `cargo bench --bench pages -- [--history
//! 100000] [--rounds 100] [--database postgres://…]`.
//!
//! The server runs in this process, on SQLite or on an empty PostgreSQL database. Every page is asked
//! for over HTTP on a kept connection, one after the other, so that a figure has the way through the
//! loopback interface in it and nothing that waits for others. Takes under two minutes.

use std::process::ExitCode;
use std::str::FromStr as _;
use std::time::Duration;

use clap::Parser;
use mortise::config::{Config, Inputs};
use mortise::development::{
    Browser, Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    SampleVendor, SampleVendorOptions,
};
use mortise::seam::{Clock, Seam};
use serde_json::{Value, json};
use sqlx::Connection as _;

/// As in the program.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong: said once, at the end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The org that everything is of.
const ORG: &str = "60001";

/// What a page may take, in milliseconds.
const WANTED: f64 = 20.0;

/// Measures how long pages take.
#[derive(Clone, Debug, Parser)]
#[command(name = "pages")]
struct Arguments {
    /// Deliveries in the history of one webhook.
    #[arg(long, default_value_t = 100_000)]
    history: u64,
    /// How often each page is asked for.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// An empty PostgreSQL database; SQLite where it is left out.
    #[arg(long)]
    database: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
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
            eprintln!("FAILED: pages took longer than {WANTED} ms");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a client of the server, not a call of it")]
fn client() -> Result<reqwest::Client, Failure> {
    let none = reqwest::redirect::Policy::none();
    let builder = reqwest::Client::builder().no_proxy().redirect(none);
    Ok(builder.timeout(Duration::from_secs(30)).build()?)
}

async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let provider = DevelopmentAuthorizationServerOptions::default();
    let provider = DevelopmentAuthorizationServer::start(provider).await?;
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let mut settings = vec![
        ("listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("data_dir".to_owned(), folder.path().display().to_string()),
        ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ("egress.require_https".to_owned(), "false".to_owned()),
        ("host.api_base".to_owned(), provider.issuer().to_owned()),
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
    let installation = world.install().await?;
    let webhook = world.webhook().await?;
    let own = world.own_webhook().await?;
    if let Some(url) = &arguments.database {
        fill_postgres(url, &webhook, arguments.history).await?;
    } else {
        let file = folder.path().join("mortise.db");
        fill_sqlite(&file, &webhook, arguments.history).await?;
    }
    let delivery = world.newest_delivery(&webhook).await?;

    let admin = world.visit(&json!({ "role": "admin", "orgId": ORG, "subject": "ada" })).await?;
    let vendor =
        world.visit(&json!({ "role": "vendor", "vendor": "bench", "subject": "v" })).await?;
    let operator = world.visit(&json!({ "role": "operator", "subject": "otto" })).await?;
    let of_org = [
        "/pages".to_owned(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{webhook}"),
        format!("/pages/webhooks/{webhook}?state=delivered"),
        format!("/pages/webhooks/{webhook}?state=cancelled"),
        format!("/pages/webhooks/{webhook}?type=Nothing"),
        "/pages/deliveries".to_owned(),
        "/pages/deliveries?status=599".to_owned(),
        format!("/pages/deliveries/{delivery}"),
        format!("/pages/installations/{installation}"),
    ];
    let of_admin = [
        format!("/pages/webhooks/{own}"),
        format!("/pages/webhooks/{own}/edit"),
        "/pages/rules".to_owned(),
        format!("/pages/events/{delivery}"),
    ];
    let of_vendor = [
        "/pages/installations".to_owned(),
        "/pages/journal".to_owned(),
        "/pages/jobs".to_owned(),
        "/pages/extensions/bench".to_owned(),
        "/pages/event-types".to_owned(),
    ];
    let of_operator = ["/pages/audit", "/pages/tokens", "/pages/findings"].map(str::to_owned);
    println!("{} deliveries in the history, {} rounds", arguments.history, arguments.rounds);
    let mut is_quick = true;
    for (role, cookie, paths) in [
        ("admin", &admin, of_org.iter().chain(&of_admin).collect::<Vec<_>>()),
        ("vendor", &vendor, of_org.iter().chain(&of_vendor).collect()),
        ("operator", &operator, of_org.iter().chain(&of_vendor).chain(&of_operator).collect()),
    ] {
        for path in paths {
            is_quick &= world.measure(role, cookie, path, arguments.rounds).await?;
        }
    }
    running.stop().await;
    Ok(is_quick)
}

/// A server with what is on it.
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

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.client.get(format!("{}/api/v1{path}", self.origin));
        Ok(request.bearer_auth(&self.operator).send().await?.error_for_status()?.json().await?)
    }

    /// Publishes the extension and installs it; the installation's id.
    async fn install(&self) -> Result<String, Failure> {
        let package = json!({
            "key": "bench", "name": "Bench", "version": "1.0.0", "vendor": "bench",
            "manifest": {
                "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
                "whiteListedDomains": ["https://bench.example"],
                "modules": { "widgets": [{ "name": "W", "url": "/app/w.html",
                    "location": "desk.ticket.detail.rightpanel" }] },
                "zohoAuthorisation": {
                    "type": "connectors", "scope": ["Desk.tickets.READ", "Desk.events.ALL"],
                },
                "connectors": [], "config": [],
            },
            "resources": {
                "webhook": {
                    "resourceName": "bench", "name": "Bench",
                    "ignoreSourceId": "3f0f3a52-6d0c-4f0e-9d3e-2c1d3b4a5e6f", "url": self.vendor.url("/hooks"),
                    "subscriptions": { "Ticket_Add": null },
                },
            },
        });
        self.post("/extensions", &package).await?;
        let request = json!({ "extensionKey": "bench", "orgId": ORG });
        let installed = self.post("/callbacks/install", &request).await?;
        let text = |name: &str| installed[name].as_str().unwrap_or_default().to_owned();
        let mut browser = Browser::new()?;
        let answer = browser.consent(&text("authorizationUrl"), Decision::Approve).await?;
        let body = json!({
            "installationId": text("installationId"), "code": answer.code, "state": answer.state,
        });
        self.post("/callbacks/authorize", &body).await?;
        Ok(text("installationId"))
    }

    async fn webhook(&self) -> Result<String, Failure> {
        let found = self.get(&format!("/webhooks?orgId={ORG}")).await?;
        Ok(found["data"][0]["id"].as_str().ok_or("the extension has no webhook")?.to_owned())
    }

    async fn own_webhook(&self) -> Result<String, Failure> {
        let body = json!({
            "name": "Own", "url": self.vendor.url("/own"), "subscriptions": { "Contact_Add": null },
        });
        let made = self.post(&format!("/webhooks?orgId={ORG}"), &body).await?;
        Ok(made["id"].as_str().ok_or("a webhook without an id")?.to_owned())
    }

    async fn newest_delivery(&self, webhook: &str) -> Result<String, Failure> {
        let found = self.get(&format!("/deliveries?webhookId={webhook}&limit=1")).await?;
        Ok(found["data"][0]["id"].as_str().ok_or("there is no delivery")?.to_owned())
    }

    /// Opens the pages for somebody; the cookie.
    async fn visit(&self, request: &Value) -> Result<String, Failure> {
        let link = self.post("/portal-links", request).await?;
        let url = link["url"].as_str().ok_or("a link without an address")?;
        let entered = self.client.post(url).header("origin", &self.origin).send().await?;
        let cookie = entered.headers().get("set-cookie").ok_or("no cookie")?.to_str()?;
        Ok(cookie.split(';').next().unwrap_or_default().to_owned())
    }

    /// Asks for a page again and again, and says how long it took. Whether it was quick.
    async fn measure(
        &self,
        role: &str,
        cookie: &str,
        path: &str,
        rounds: usize,
    ) -> Result<bool, Failure> {
        let clock = Clock::default();
        let url = format!("{}{path}", self.origin);
        let mut took = Vec::with_capacity(rounds);
        // The first rounds prepare statements and are not counted.
        for round in 0..rounds + 3 {
            let began = clock.instant();
            let answer = self.client.get(&url).header("cookie", cookie).send().await?;
            let status = answer.status();
            answer.bytes().await?;
            if status != 200 {
                return Err(format!("{role} {path}: answered {status}").into());
            }
            if round >= 3 {
                took.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        took.sort_unstable_by(f64::total_cmp);
        let at = |permille: usize| took.get((took.len() * permille / 1_000).min(took.len() - 1));
        let (half, most) = (at(500).copied().unwrap_or(0.0), at(950).copied().unwrap_or(0.0));
        let mark = if half < WANTED { "" } else { "  TOO LONG" };
        println!("{role:<9} p50 {half:>6.2} ms  p95 {most:>6.2} ms  {path}{mark}");
        Ok(half < WANTED)
    }
}

/// Writes deliveries of a webhook straight into the tables, with an id a millisecond.
async fn fill_sqlite(file: &std::path::Path, webhook: &str, count: u64) -> Result<(), Failure> {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(Duration::from_mins(1));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
    let now = Clock::default().now().millis();
    let id = format!("unhex(printf('%012x', {now} + n) || '7000b000' || printf('%012x', n))");
    let numbers = format!(
        "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {count})"
    );
    let endpoint = format!("x'{}'", webhook.replace('-', ""));
    for sql in filling(&numbers, &id, &endpoint, "x'7b7d'", now) {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

/// The same on PostgreSQL.
async fn fill_postgres(url: &str, webhook: &str, count: u64) -> Result<(), Failure> {
    let options = sqlx::postgres::PgConnectOptions::from_str(url)?;
    let mut connection = sqlx::PgConnection::connect_with(&options).await?;
    let now = Clock::default().now().millis();
    let id = format!(
        "(lpad(to_hex({now} + n), 12, '0') || '7000b000' || lpad(to_hex(n), 12, '0'))::uuid"
    );
    let numbers = format!("with numbers(n) as (select generate_series(1::bigint, {count}))");
    let endpoint = format!("'{webhook}'::uuid");
    for sql in filling(&numbers, &id, &endpoint, "'{}'::bytea", now) {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

fn filling(numbers: &str, id: &str, endpoint: &str, payload: &str, now: i64) -> [String; 3] {
    [
        format!(
            "{numbers} insert into events (id, org_id, event_type, event_time, origin, accepted_at, \
             payload) select {id}, '{ORG}', 'Ticket_Add', 0, 0, ({now} + n) * 1000, {payload} from \
             numbers"
        ),
        format!(
            "{numbers} insert into deliveries (id, event_id, endpoint_id, generation, state, replay, \
             attempts, created_at, first_at, first_status, first_micros) select {id}, {id}, \
             {endpoint}, 1, 2, 0, 1, ({now} + n) * 1000, ({now} + n) * 1000, 200, 5000 from numbers"
        ),
        "analyze".to_owned(),
    ]
}
