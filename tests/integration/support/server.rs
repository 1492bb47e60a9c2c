//! The real server in this process, on a database of its own, with a vendor and an authorisation
//! server on the loopback interface.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use mortise::config::{Config, Inputs};
use mortise::development::{
    Browser, Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    ProviderAnswer, SampleVendor, SampleVendorOptions,
};
use mortise::oauth::Connections;
use mortise::seam::{Clock, Seam};
use mortise::server::RunningServer;
use mortise::store::Store;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::package::Package;
use super::postgres;

/// How long something may take that goes on by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The origin that a `returnUrl` may have.
pub(crate) const RETURN_ORIGIN: &str = "https://marketplace.example";

/// The org that tests with one org have.
pub(crate) const ORG: &str = "60001280952";

/// Which database a server runs on.
#[derive(Debug)]
pub(crate) enum Backend {
    /// A file in the server's folder.
    Sqlite,
    /// A database of the run's server.
    Postgres(postgres::Database),
}

/// What the configuration of a server sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Sets a key, as a flag would.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// What is set.
    pub(crate) fn get(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// Sets all that others set.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Takes a setting out.
    pub(crate) fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// A server that runs, and who is around it. The clock of all of them can be moved.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) client: Client,
    pub(crate) seam: Seam,
    pub(crate) provider: DevelopmentAuthorizationServer,
    pub(crate) vendor: SampleVendor,
    /// The value of the first operator token.
    pub(crate) operator: String,
    running: RunningServer,
    place: Place,
}

/// What outlives a server.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    backend: Backend,
    settings: Settings,
}

/// An installation that a test made.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) id: String,
    pub(crate) generation: i64,
    pub(crate) authorization_url: String,
    pub(crate) start_url: String,
}

impl TestServer {
    /// Starts a server on an empty database.
    pub(crate) async fn start(backend: Backend, change: impl FnOnce(&mut Settings)) -> Self {
        let seam = Seam::default();
        let options =
            DevelopmentAuthorizationServerOptions { seam: seam.clone(), ..Default::default() };
        let provider =
            DevelopmentAuthorizationServer::start(options).await.expect("the provider starts");
        let vendor = SampleVendor::start(SampleVendorOptions::default()).await;
        let vendor = vendor.expect("the vendor starts");
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.set("listen", "127.0.0.1:0");
        settings.set("data_dir", folder.path().display().to_string());
        settings.set("egress.allow", "127.0.0.0/8");
        settings.set("egress.require_https", "false");
        settings.set("host.api_base", provider.issuer());
        settings.set("marketplace.return_urls", RETURN_ORIGIN);
        for (name, value) in [
            ("authorize_url", provider.authorize_url()),
            ("token_url", provider.token_url()),
            ("revoke_url", provider.revoke_url()),
            ("client_id", provider.client_id().to_owned()),
            ("client_secret", provider.client_secret().to_owned()),
            ("issuer", provider.issuer().to_owned()),
        ] {
            settings.set(&format!("oauth.providers.zlabs_integration.{name}"), value);
        }
        if let Backend::Postgres(database) = &backend {
            settings.set("database.url", database.url());
        }
        change(&mut settings);
        let place = Place { folder, backend, settings };
        Self::open(place, seam, provider, vendor).await
    }

    async fn open(
        place: Place,
        seam: Seam,
        provider: DevelopmentAuthorizationServer,
        vendor: SampleVendor,
    ) -> Self {
        let running = mortise::server::start(place.config(), seam.clone()).await;
        let running = running.expect("the server starts");
        let base = format!("http://{}", running.address());
        provider.register_redirect_uri(format!("{base}/oauth/callback"));
        let file = place.folder.path().join("operator.token");
        let operator = std::fs::read_to_string(file).expect("the operator's token is there");
        let operator = operator.trim().to_owned();
        Self { client: Client::new(base), seam, provider, vendor, operator, running, place }
    }

    /// Where metrics are served without a token.
    pub(crate) fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.running.metrics_address()
    }

    /// Who hands out access tokens.
    pub(crate) fn connections(&self) -> &Connections {
        self.running.connections()
    }

    /// The folder with the server's files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.place.folder.path().to_owned()
    }

    /// Stops the server and starts another on the same data. Its port is another one.
    pub(crate) async fn restart(self) -> Self {
        let Self { seam, provider, vendor, running, place, .. } = self;
        running.stop().await;
        Self::open(place, seam, provider, vendor).await
    }

    /// Stops the server, lets something be done to what it left, and starts another on it.
    pub(crate) async fn restart_after<F>(self, change: impl FnOnce(Place) -> F) -> Self
    where
        F: Future<Output = Place>,
    {
        let Self { seam, provider, vendor, running, place, .. } = self;
        running.stop().await;
        Self::open(change(place).await, seam, provider, vendor).await
    }

    /// Stops the server; what it leaves can be looked at.
    pub(crate) async fn stop(self) -> Place {
        self.running.stop().await;
        self.place
    }

    /// The vendor's origin.
    pub(crate) fn vendor_origin(&self) -> String {
        self.vendor.url("")
    }

    /// The usual package, with addresses of the vendor.
    pub(crate) fn package(&self) -> Package {
        Package::new(&self.vendor_origin())
    }

    /// Moves the clock of the server and of the provider.
    pub(crate) fn advance(&self, span: Duration) {
        self.seam.clock.advance(span);
    }

    /// The value of a new token, as `POST /tokens` takes it.
    pub(crate) async fn token(&self, body: Value) -> String {
        let answer = self.client.post("/api/v1/tokens", &self.operator, &body).await;
        answer.expect(201).text_of("token")
    }

    pub(crate) async fn marketplace(&self) -> String {
        self.token(json!({ "role": "marketplace" })).await
    }

    pub(crate) async fn host(&self) -> String {
        self.token(json!({ "role": "host" })).await
    }

    pub(crate) async fn vendor_token(&self, vendor: &str) -> String {
        self.token(json!({ "role": "vendor", "vendor": vendor })).await
    }

    pub(crate) async fn admin(&self, org: &str) -> String {
        self.token(json!({ "role": "admin", "orgId": org })).await
    }

    pub(crate) async fn viewer(&self, org: &str) -> String {
        self.token(json!({ "role": "viewer", "orgId": org })).await
    }

    /// Publishes a package as the operator.
    pub(crate) async fn publish(&self, package: &Package) -> Answer {
        self.client.post("/api/v1/extensions", &self.operator, &package.json()).await
    }

    /// Calls a callback as the operator.
    pub(crate) async fn callback(&self, name: &str, body: &Value) -> Answer {
        self.client.post(&format!("/api/v1/callbacks/{name}"), &self.operator, body).await
    }

    /// Installs an extension in an org; it waits for its authorisation.
    pub(crate) async fn install(&self, key: &str, org: &str) -> Installation {
        self.install_with(json!({ "extensionKey": key, "orgId": org })).await
    }

    /// Installs as a request says.
    pub(crate) async fn install_with(&self, request: Value) -> Installation {
        let answer = self.callback("install", &request).await.expect(201);
        assert_eq!(answer.json["state"], "pendingAuthorization", "{}", answer.text);
        Installation {
            id: answer.text_of("installationId"),
            generation: answer.json["generation"].as_i64().expect("a generation"),
            authorization_url: answer.text_of("authorizationUrl"),
            start_url: answer.text_of("startUrl"),
        }
    }

    /// Gives consent at the provider; brings back its answer, which nobody has used.
    pub(crate) async fn consent(&self, authorization_url: &str) -> ProviderAnswer {
        let mut browser = Browser::new().expect("a browser");
        browser.consent(authorization_url, Decision::Approve).await.expect("consent is given")
    }

    /// Brings an answer of the provider as the marketplace does.
    pub(crate) async fn authorize(&self, id: &str, answer: &ProviderAnswer) -> Answer {
        let body = json!({ "installationId": id, "code": answer.code, "state": answer.state });
        self.callback("authorize", &body).await
    }

    /// Publishes the usual package, installs it in an org and authorises it.
    pub(crate) async fn active(&self, org: &str) -> Installation {
        self.active_package(&self.package(), org).await
    }

    /// Publishes a package, installs it in an org and authorises it.
    pub(crate) async fn active_package(&self, package: &Package, org: &str) -> Installation {
        let published = self.publish(package).await;
        assert!([200, 201].contains(&published.status), "{}", published.text);
        let installation = self.install(&package.key, org).await;
        let answer = self.consent(&installation.authorization_url).await;
        let active = self.authorize(&installation.id, &answer).await.expect(200);
        assert_eq!(active.json["state"], "active", "{}", active.text);
        installation
    }

    /// Reads an installation as the operator.
    pub(crate) async fn installation(&self, id: &str) -> Value {
        let path = format!("/api/v1/installations/{id}");
        self.client.get(&path, &self.operator).await.expect(200).json
    }

    /// The webhooks of an org, as the operator sees them.
    pub(crate) async fn webhooks(&self, org: &str) -> Vec<Value> {
        self.client.all(&format!("/api/v1/webhooks?orgId={org}"), &self.operator).await
    }

    /// All rows of all tables as text, as they are now.
    pub(crate) async fn dump(&self) -> String {
        self.place.dump().await
    }

    /// What another node on the same PostgreSQL database starts with.
    pub(crate) fn config_of_another_node(&self, url: &str) -> Config {
        let mut settings = self.place.settings.clone();
        settings.set("database.url", url);
        let overrides = settings.0.into_iter().collect();
        Config::load(&Inputs { overrides, ..Inputs::default() }).expect("it is valid")
    }

    /// Writes so many delivered deliveries of a webhook straight into the tables, newer than all
    /// that is there, and lets the planner know.
    pub(crate) async fn fill_history(&self, webhook: uuid::Uuid, org: &str, count: u64) {
        self.place.fill_history(webhook, org, count).await;
    }

    /// How SQLite would answer a query, a line a step.
    pub(crate) async fn plans_of_sqlite(&self, query: &str) -> Vec<String> {
        let text = sqlx::AssertSqlSafe(format!("explain query plan {query}"));
        let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(text)
            .fetch_all(&mut self.place.sqlite().await)
            .await
            .expect("the query can be planned");
        rows.into_iter().map(|row| row.3).collect()
    }

    /// The first column of every row that a query answers, as text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        self.place.texts(query).await
    }

    /// Changes the database behind the server's back.
    pub(crate) async fn execute(&self, statement: &str) {
        self.place.execute(statement).await;
    }
}

impl Place {
    /// The folder with the server's files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What the configuration of the server set.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        self.settings.0.clone()
    }

    pub(crate) fn config(&self) -> Config {
        let overrides = self.settings.0.clone().into_iter().collect();
        let inputs = Inputs { overrides, ..Inputs::default() };
        Config::load(&inputs).expect("the configuration is valid")
    }

    /// Opens the database; the server must be stopped.
    pub(crate) async fn store(&self) -> Store {
        let options = mortise::server::store_options(&self.config()).expect("options");
        Store::open(&options).await.expect("the database opens")
    }

    /// Checks the audit chains of the platform and of orgs.
    pub(crate) async fn audit_holds(&self, orgs: &[&str]) {
        let store = self.store().await;
        for chain in orgs.iter().copied().chain([mortise::audit::PLATFORM_CHAIN]) {
            let broken = mortise::audit::verify(&store, chain).await.expect("it is readable");
            assert_eq!(broken, None, "chain {chain:?}");
        }
        store.close().await.expect("the database closes");
    }

    async fn fill_history(&self, webhook: uuid::Uuid, org: &str, count: u64) {
        // An id a millisecond, from now on: 48 bits of time, then the version.
        let now = Clock::default().now().millis();
        let (id, number, empty) = match &self.backend {
            Backend::Sqlite => (
                format!("unhex(printf('%012x', {now} + n) || '7000b000' || printf('%012x', n))"),
                "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < COUNT)",
                format!("x'{}'", webhook.simple()),
            ),
            Backend::Postgres(_) => (
                format!(
                    "(lpad(to_hex({now} + n), 12, '0') || '7000b000' || lpad(to_hex(n), 12, '0'))::uuid"
                ),
                "with numbers(n) as (select generate_series(1::bigint, COUNT))",
                format!("'{webhook}'::uuid"),
            ),
        };
        let number = number.replace("COUNT", &count.to_string());
        let payload =
            if matches!(self.backend, Backend::Sqlite) { "x'7b7d'" } else { "'{}'::bytea" };
        for sql in [
            format!(
                "{number} insert into events (id, org_id, event_type, event_time, origin, accepted_at, payload) \
                 select {id}, '{org}', 'Ticket_Add', 0, 0, ({now} + n) * 1000, {payload} from numbers"
            ),
            format!(
                "{number} insert into deliveries (id, event_id, endpoint_id, generation, state, replay, attempts, \
                 created_at, first_at, first_status, first_micros) \
                 select {id}, {id}, {empty}, 1, 2, 0, 1, ({now} + n) * 1000, ({now} + n) * 1000, 200, 5 from numbers"
            ),
            "analyze".to_owned(),
        ] {
            let query = sqlx::AssertSqlSafe(sql);
            match &self.backend {
                Backend::Sqlite => {
                    let options = SqliteConnectOptions::new()
                        .filename(self.folder.path().join("mortise.db"))
                        .busy_timeout(Duration::from_secs(20));
                    let mut connection =
                        SqliteConnection::connect_with(&options).await.expect("the database opens");
                    sqlx::query(query).execute(&mut connection).await.expect("it is written");
                }
                Backend::Postgres(database) => {
                    sqlx::query(query)
                        .execute(&mut database.connect().await)
                        .await
                        .expect("it is written");
                }
            }
        }
    }

    /// The first column of every row that a query answers, as text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        // The text is the test's own.
        let query = sqlx::AssertSqlSafe(query.to_owned());
        let rows: Result<Vec<Option<String>>, _> = match &self.backend {
            Backend::Sqlite => sqlx::query_scalar(query).fetch_all(&mut self.sqlite().await).await,
            Backend::Postgres(database) => {
                sqlx::query_scalar(query).fetch_all(&mut database.connect().await).await
            }
        };
        rows.expect("the query is answered").into_iter().flatten().collect()
    }

    /// Changes the database behind the back of whoever uses it.
    pub(crate) async fn execute(&self, statement: &str) {
        self.try_execute(statement).await.expect("the statement runs");
    }

    /// The same of a statement that the database may refuse.
    pub(crate) async fn try_execute(&self, statement: &str) -> Result<(), sqlx::Error> {
        // The text is the test's own.
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        match &self.backend {
            Backend::Sqlite => {
                let options = SqliteConnectOptions::new()
                    .filename(self.folder.path().join("mortise.db"))
                    .busy_timeout(Duration::from_secs(10));
                let mut connection = SqliteConnection::connect_with(&options).await?;
                sqlx::query(statement).execute(&mut connection).await?;
                connection.close().await
            }
            Backend::Postgres(database) => {
                let mut connection = database.connect().await;
                sqlx::query(statement).execute(&mut connection).await.map(|_| ())
            }
        }
    }

    async fn sqlite(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.folder.path().join("mortise.db"))
            .read_only(true);
        SqliteConnection::connect_with(&options).await.expect("the database opens")
    }

    async fn dump(&self) -> String {
        let mut dump = String::new();
        let tables = match &self.backend {
            Backend::Sqlite => "select name from sqlite_master where type = 'table'",
            Backend::Postgres(_) => {
                "select tablename::text from pg_tables where schemaname = 'public'"
            }
        };
        for table in self.texts(tables).await {
            let rows = match &self.backend {
                Backend::Sqlite => {
                    let columns = format!("select name from pragma_table_info('{table}')");
                    let columns: Vec<String> = self.texts(&columns).await;
                    let quoted: Vec<String> =
                        columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                    format!("select {} from \"{table}\"", quoted.join(" || ',' || "))
                }
                Backend::Postgres(_) => format!("select t::text from \"{table}\" t"),
            };
            for row in self.texts(&rows).await {
                let _infallible = writeln!(dump, "{table}: {row}");
            }
        }
        assert!(dump.lines().count() > 3, "the dump has what the server wrote: {dump}");
        dump
    }

    /// A file of SQLite as it is on disk, journal and free pages too; nothing on PostgreSQL.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if matches!(self.backend, Backend::Sqlite) {
            for name in ["mortise.db", "mortise.db-wal"] {
                let file = self.folder.path().join(name);
                bytes.extend(std::fs::read(file).unwrap_or_default());
            }
            assert!(!bytes.is_empty(), "the database is there");
        }
        bytes
    }
}

/// Asserts that a secret stands nowhere in a dump: neither as it is, nor as hex or base64.
#[track_caller]
pub(crate) fn assert_absent(dump: &str, secret: &str) {
    use base64::Engine as _;
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    });
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
    // The last characters of an encoding depend on what follows.
    let base64 = &base64[..base64.len() - 4];
    for line in dump.lines() {
        let is_there =
            line.contains(secret) || line.to_lowercase().contains(&hex) || line.contains(base64);
        assert!(!is_there, "a secret of {} bytes stands in {line:.300}", secret.len());
    }
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let clock = Clock::default();
        let end = clock.instant() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(clock.instant() < end, "{place}: never came: {what}");
            clock.sleep(Duration::from_millis(25)).await;
        }
    }
}
