//! `mortise doctor`: checks, repairs, and the way back after a restored backup. In the database, or
//! through the server that holds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;

use super::configuration::ConfigurationArguments;
use super::local_server::LocalServer;
use super::output::{CliError, Exit, Output};
use super::receiver;
use crate::api::reconcile::{DoctorBody, ReleasedBody};
use crate::audit::Actor;
use crate::config::Config;
use crate::crypto::open_keys;
use crate::doctor::{
    self, AfterRestore, Check, MarketplaceList, RestoreError, RestoreReport, Status,
};
use crate::lifecycle::{PassLimits, PassPosition, Report};
use crate::seam::Seam;
use crate::server::{self, Workbench, store_options};
use crate::store::{Backend, Nodes, Store, StoreError, StoreOptions};

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  nothing is wrong, or all that was wrong is repaired; warnings are not wrong
  1  something is wrong, or differs and was not repaired
  2  it could not be examined: flags, configuration, or the database is not there";

/// How many findings are printed.
const MOST_PRINTED: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// Repair what the comparison finds; otherwise it only tells
    #[arg(long)]
    repair: bool,
    /// For a restored backup, while no server runs: hold all deliveries, begin a new life, and
    /// compare with the marketplace; uninstalls what it does not have only with --repair
    #[arg(long, conflicts_with = "release")]
    after_restore: bool,
    /// The marketplace's own list: JSON lines or an array of
    /// {"extensionKey","orgId","installationId","generation","state"}
    #[arg(long, value_name = "FILE", requires = "after_restore")]
    marketplace_list: Option<PathBuf>,
    /// Let the deliveries go that --after-restore holds
    #[arg(long, conflicts_with = "repair")]
    release: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

/// What else can be examined.
#[derive(Debug, Subcommand)]
enum Other {
    /// Check whether a receiver refuses bad signatures, absorbs duplicates and answers in time
    Receiver(receiver::Arguments),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a check
    #[default]
    Text,
    /// One document
    Json,
}

/// All that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    healthy: bool,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reconcile: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<RestoreReport>,
}

impl Document {
    fn of(checks: Vec<Check>, reconcile: Option<Report>, restore: Option<RestoreReport>) -> Self {
        let is_sound = checks.iter().all(|check| check.status != Status::Problem);
        let is_even = reconcile
            .as_ref()
            .is_none_or(|report| report.found == report.repaired && report.skipped == 0);
        let is_back = restore.as_ref().is_none_or(RestoreReport::is_settled);
        Self { healthy: is_sound && is_even && is_back, checks, reconcile, restore }
    }
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    if let Some(Other::Receiver(receiver)) = arguments.other {
        return Box::pin(receiver::run(receiver, output)).await;
    }
    let seam = Seam::default();
    let list = match &arguments.marketplace_list {
        Some(file) => Some(read_list(file)?),
        None => None,
    };
    let format = arguments.format;
    let config = arguments.configuration.load()?;
    if arguments.release {
        return release(&config, &seam, output).await;
    }
    let document = match open(&config).await? {
        Some(store) => {
            let examined = if arguments.after_restore {
                Box::pin(after_restore(&config, &store, &seam, list.as_ref(), arguments.repair))
                    .await
            } else {
                Box::pin(here(&config, &store, &seam, arguments.repair)).await
            };
            close(&store).await;
            examined?
        }
        None if arguments.after_restore => {
            return Err(CliError::failed("a server holds the restored database")
                .hint("stop it first: nothing may be sent before the deliveries are held"));
        }
        None => there(&config, arguments.repair, output).await?,
    };
    match format {
        Format::Text => print(&document, output)?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&document).map_err(CliError::failed)?;
            output.answer(text)?;
        }
    }
    Ok(if document.healthy { Exit::Success } else { Exit::Negative })
}

fn read_list(file: &Path) -> Result<MarketplaceList, CliError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        CliError::unusable(format_args!("{} cannot be read: {error}", file.display()))
    })?;
    MarketplaceList::parse(&text)
        .map_err(|error| CliError::unusable(format_args!("{}: {error}", file.display())))
}

/// Opens the database as it is; nothing where a server holds it.
async fn open(config: &Config) -> Result<Option<Store>, CliError> {
    let options = store_options(config).map_err(CliError::unusable)?;
    if let Backend::Sqlite { path } = &options.backend
        && !path.exists()
    {
        return Err(CliError::unusable(format_args!("there is no database at {}", path.display()))
            .hint("`mortise serve` makes it; is `data_dir` or `database.url` the right one?"));
    }
    match Store::open(&StoreOptions { migrate: false, ..options }).await {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Locked { .. }) => Ok(None),
        Err(error) => Err(CliError::unusable(format_args!(
            "the database {} cannot be opened: {error}",
            config.database.url
        ))
        .hint("see that it runs, that `database.url` is right, and that this user may use it")),
    }
}

async fn close(store: &Store) {
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

/// Examines a database that this process has opened.
async fn here(
    config: &Config,
    store: &Store,
    seam: &Seam,
    repair: bool,
) -> Result<Document, CliError> {
    let checks = doctor::examine(config, store, seam).await;
    // Without the schema or the keys nothing can be compared.
    let needed = |name: &str| {
        let found = checks.iter().find(|check| check.name == name);
        found.is_some_and(|check| check.status == Status::Ok)
    };
    if !needed("database") || !needed("keys") {
        return Ok(Document::of(checks, None, None));
    }
    let keys = open_keys(store, &config.keys.master_file, seam).await.map_err(CliError::failed)?;
    let reconciler = server::reconciler(config, store, &keys, seam);
    let after = PassPosition::default();
    let limits = PassLimits { time: None, pause: Duration::ZERO, after };
    let actor = Actor::system("doctor");
    let report = if repair {
        reconciler.kept_pass(&actor, limits).await
    } else {
        reconciler.pass(false, &actor, limits).await
    };
    Ok(Document::of(checks, Some(report.map_err(CliError::failed)?), None))
}

/// Examines through the server that holds the database, answer by answer.
async fn there(config: &Config, repair: bool, output: &mut Output) -> Result<Document, CliError> {
    let server = LocalServer::of(config)?;
    let checks = checks_there(&server, output).await?;
    let mut whole: Option<Report> = None;
    loop {
        let after = whole.as_ref().and_then(|report| report.next.clone());
        let request = json!({ "repair": repair, "after": after });
        let report: Report =
            server
                .call(Method::POST, "/api/v1/reconcile", Some(request))
                .await?
                .ok_or_else(|| CliError::failed("the server answered without a report"))?;
        let is_complete = report.complete;
        let whole = match &mut whole {
            None => whole.insert(report),
            Some(whole) => {
                whole.join(report);
                whole
            }
        };
        if is_complete {
            return Ok(Document::of(checks, Some(whole.clone()), None));
        }
        output.message(format_args!("{} installations are compared …", whole.installations));
    }
}

/// All checks; the audit is read in stretches.
async fn checks_there(server: &LocalServer, output: &mut Output) -> Result<Vec<Check>, CliError> {
    const AUDIT: &str = "audit";
    let mut path = "/api/v1/doctor".to_owned();
    let mut checks: Vec<Check> = Vec::new();
    let (mut chains, mut stretches) = (0, 0_u64);
    loop {
        let body: DoctorBody = server
            .call(Method::GET, &path, None)
            .await?
            .ok_or_else(|| CliError::failed("the server answered without its checks"))?;
        chains += body.audit_chains;
        stretches += 1;
        // Of the stretches, what is wrong counts; that one was not the last does not.
        checks.extend(body.checks.into_iter().filter(|check| {
            let is_part = check.name == AUDIT && check.status == Status::Warning;
            !(is_part && body.audit_next.is_some())
        }));
        let Some(next) = body.audit_next else { break };
        output.message(format_args!("{chains} chains of the audit are read …"));
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("auditAfter", &next)
            .finish();
        path = format!("/api/v1/doctor?{query}");
    }
    if stretches > 1 {
        let is_sound = |check: &Check| check.name == AUDIT && check.status == Status::Ok;
        let is_broken =
            checks.iter().any(|check| check.name == AUDIT && check.status == Status::Problem);
        for check in checks.iter_mut().filter(|check| is_sound(check)) {
            check.detail = format!("{chains} chains hold");
        }
        if is_broken {
            checks.retain(|check| !is_sound(check));
        }
    }
    Ok(checks)
}

async fn after_restore(
    config: &Config,
    store: &Store,
    seam: &Seam,
    list: Option<&MarketplaceList>,
    repair: bool,
) -> Result<Document, CliError> {
    // Before anything is written to it.
    if let Some(broken) = doctor::broken_file(store).await {
        let what = format!("the restored database is damaged: {}", broken.detail);
        return Err(CliError::failed(what).hint(broken.advice.unwrap_or_default()));
    }
    let pending = store.pending_migrations().await.map_err(CliError::failed)?;
    if !pending.is_empty() {
        return Err(CliError::unusable("the restored database's schema is not up to date")
            .hint("run `mortise migrate up` first: it sends nothing"));
    }
    let nodes = Nodes::new(store.clone());
    let live = nodes.live_elsewhere(seam.clock.now()).await.map_err(CliError::failed)?;
    if live > 0 {
        return Err(CliError::failed(RestoreError::NodesRun(live)));
    }
    let keys = open_keys(store, &config.keys.master_file, seam).await.map_err(CliError::failed)?;
    let bench = Workbench::open(config, store, &keys, seam).await.map_err(CliError::failed)?;
    let actor = Actor::system("doctor");
    let parts = AfterRestore {
        store,
        lifecycle: &bench.lifecycle,
        board: &bench.board,
        seam,
        actor: &actor,
    };
    let done = doctor::after_restore(&parts, list, repair).await;
    bench.close().await;
    let restore = done.map_err(CliError::failed)?;
    let Document { checks, reconcile, .. } = Box::pin(here(config, store, seam, repair)).await?;
    // That everything is held is what was asked for.
    let checks = checks.into_iter().filter(|check| check.name != "deliveries").collect();
    Ok(Document::of(checks, reconcile, Some(restore)))
}

async fn release(config: &Config, seam: &Seam, output: &mut Output) -> Result<Exit, CliError> {
    let released = if let Some(store) = open(config).await? {
        let done = release_here(config, &store, seam).await;
        close(&store).await;
        done.map_err(CliError::failed)?
    } else {
        let server = LocalServer::of(config)?;
        let body: Option<ReleasedBody> =
            server.call(Method::POST, "/api/v1/hold/release", Some(json!({}))).await?;
        body.is_some_and(|body| body.released)
    };
    output.answer(if released {
        "released: every node delivers within two seconds"
    } else {
        "nothing was held"
    })?;
    Ok(Exit::Success)
}

async fn release_here(config: &Config, store: &Store, seam: &Seam) -> Result<bool, StoreError> {
    let work = store.begin().await?;
    let board = server::board(config, seam);
    let released = doctor::release(&work, &board, &Actor::system("doctor"), seam).await?;
    let _settled = work.commit(seam.clock.now()).await?;
    Ok(released)
}

fn print(document: &Document, output: &mut Output) -> Result<(), CliError> {
    for check in &document.checks {
        output.answer(format_args!("{:<8} {:<14} {}", check.status, check.name, check.detail))?;
        if let Some(advice) = &check.advice {
            output.answer(format_args!("{:24}→ {advice}", ""))?;
        }
    }
    if let Some(report) = &document.reconcile {
        let status = if report.found == report.repaired { Status::Ok } else { Status::Problem };
        output.answer(format_args!("{status:<8} {:<14} {}", "orphans", report.summary()))?;
        for finding in report.findings.iter().take(MOST_PRINTED) {
            let done = if finding.repaired { "repaired" } else { "would do" };
            output.answer(format_args!(
                "{:24}{} {}: {} ({done}: {})",
                "", finding.kind, finding.subject, finding.detail, finding.action
            ))?;
        }
        if report.findings.len() > MOST_PRINTED {
            let more = report.findings.len() - MOST_PRINTED;
            output.answer(format_args!("{:24}… and {more} more: --format json", ""))?;
        }
        if report.found > report.repaired && !report.repair {
            output.answer(format_args!("{:24}→ run `mortise doctor --repair`", ""))?;
        }
    }
    if let Some(restore) = &document.restore {
        print_restore(restore, output)?;
    }
    Ok(())
}

fn print_restore(restore: &RestoreReport, output: &mut Output) -> Result<(), CliError> {
    output.answer(format_args!(
        "held     deliveries     {} wait for `mortise doctor --release`; reinstalls count from {}",
        restore.deliveries_waiting,
        restore.generations_after + 1
    ))?;
    if !restore.compared {
        output.answer(format_args!(
            "{:24}→ compare before the release: --after-restore --marketplace-list FILE",
            ""
        ))?;
        return Ok(());
    }
    let done = if restore.uninstalled { "uninstalled" } else { "to uninstall (--repair)" };
    output.answer(format_args!("{:<23} {} {done}", "not at the marketplace", restore.surplus))?;
    output.answer(format_args!(
        "{:<23} {} to install again",
        "only at the marketplace", restore.missing
    ))?;
    let settled = restore.differing - restore.unsettled;
    output.answer(format_args!(
        "{:<23} {} put right, {} to look at",
        "in another state", settled, restore.unsettled
    ))?;
    let named = restore.surplus_installations.iter().chain(&restore.install_again);
    let named = named.chain(&restore.differing_installations);
    for one in named.take(MOST_PRINTED) {
        output.answer(format_args!(
            "{:24}{} of {} in org {}: {}",
            "", one.installation_id, one.extension_key, one.org_id, one.reason
        ))?;
    }
    Ok(())
}
