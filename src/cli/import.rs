//! `mortise import`: another help desk's webhooks, triggers and automations, made on a server of what
//! its API told.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mortise_client::OrgId;
use mortise_client::webhooks::{ImportReport, ImportRequest};
use serde_json::Value;

use super::output::{CliError, Exit, Output};
use super::remote_server::{ServerArguments, printable};
use crate::seam::Seam;

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  everything that calls a webhook was made, was there already, or would be made
  1  something was not: it cannot be carried over, something is missing, or the server refused
  2  flags or files cannot be used";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// Zendesk
    Zendesk,
    /// Zoho Desk
    ZohoDesk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// The answer of the server
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Where the definitions come from
    from: From,
    #[command(flatten)]
    server: ServerArguments,
    /// The org, where the token belongs to none
    #[arg(long, value_name = "ORG")]
    org: Option<String>,
    /// What GET /api/v2/webhooks (Zendesk) or GET /api/v1/webhooks (Zoho Desk) answered; once for each
    /// page
    #[arg(long, value_name = "FILE", required = true)]
    webhooks: Vec<PathBuf>,
    /// What GET /api/v2/triggers answered; once for each page
    #[arg(long, value_name = "FILE")]
    triggers: Vec<PathBuf>,
    /// What GET /api/v2/automations answered; once for each page
    #[arg(long, value_name = "FILE")]
    automations: Vec<PathBuf>,
    /// What is secret, by the webhook's id there: {"01…": {"secret": "…", "token": "…"}}
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// What fields, values and placeholders are here: {"fields": {}, "values": {}, "placeholders": {}}
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Only say what would be made
    #[arg(long)]
    dry_run: bool,
    /// Bring up to date what was imported before, instead of leaving it as it is
    #[arg(long)]
    update: bool,
    /// Make everything switched off
    #[arg(long)]
    disabled: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Imports.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let Some(server) = arguments.server.open(&seam)? else {
        return Err(CliError::unusable("--server is needed"));
    };
    let source = match arguments.from {
        From::Zendesk => "zendesk",
        From::ZohoDesk => "zohoDesk",
    };
    let mut request = ImportRequest::new(source);
    for (pages, files) in [
        (&mut request.webhooks, &arguments.webhooks),
        (&mut request.triggers, &arguments.triggers),
        (&mut request.automations, &arguments.automations),
    ] {
        *pages = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    }
    request.credentials = arguments.credentials.as_deref().map(read).transpose()?;
    request.mapping = arguments.mapping.as_deref().map(read).transpose()?;
    request.is_enabled = arguments.disabled.then_some(false);
    request.existing = arguments.update.then(|| "update".to_owned());
    let org = arguments.org.as_deref().map(OrgId::new).transpose().map_err(CliError::unusable)?;
    let imported = server.client.import(org.as_ref(), &request, arguments.dry_run).await?;
    let told = &imported.report;
    if arguments.format == Format::Json {
        output.answer(format_args!("{:#}", imported.document))?;
    } else {
        tell(told, output)?;
    }
    let is_left = told.blocked > 0 || told.over_plan > 0 || told.impossible > 0;
    Ok(if is_left { Exit::Negative } else { Exit::Success })
}

fn read(file: &Path) -> Result<Value, CliError> {
    let unusable = |what: &dyn std::fmt::Display| {
        CliError::unusable(format_args!("{} cannot be used: {what}", file.display()))
    };
    let size = std::fs::metadata(file).map_err(|error| unusable(&error))?.len();
    if size > LARGEST {
        return Err(unusable(&format_args!("it is larger than {LARGEST} bytes")));
    }
    let text = std::fs::read(file).map_err(|error| unusable(&error))?;
    serde_json::from_slice(&text).map_err(|error| unusable(&error))
}

fn tell(told: &ImportReport, output: &mut Output) -> Result<(), CliError> {
    for item in &told.items {
        let outcome = match item.outcome.as_str() {
            "made" if told.dry_run => "would be made",
            "updated" if told.dry_run => "would be updated",
            "overPlan" => "over the plan",
            other => other,
        };
        let kind = match &item.connection {
            Some(connection) => format!("{} ({connection})", item.kind),
            None => item.kind.clone(),
        };
        let id = item.id.map(|id| format!(" as {id}")).unwrap_or_default();
        let line = format!("{kind} {} `{}`: {outcome}{id}", item.source_id, item.name);
        output.answer(printable(&line))?;
        if let Some(secret) = &item.secret {
            output.answer(format_args!("    signs with {} (told once)", secret.expose()))?;
        }
        for change in &item.changes {
            let line = format!("{}: {} -> {}", change.member, change.before, change.after);
            output.answer(format_args!("    {}", printable(&line)))?;
        }
        for missing in &item.missing {
            let word = if missing.is_needed { "needs" } else { "may have" };
            let line = printable(&format!("{}: {}", missing.pointer, missing.message));
            output.answer(format_args!("    {word} {line}"))?;
        }
        for reason in &item.reasons {
            output.answer(format_args!("    why not: {}", printable(reason)))?;
        }
        for note in &item.notes {
            output.answer(format_args!("    note: {}", printable(note)))?;
        }
    }
    for warning in &told.warnings {
        output.message(format_args!("warning: {}", printable(warning)));
    }
    output.answer(format_args!(
        "{} {}, {} updated, {} there already, {} wait for something, {} over the plan, {} impossible, {} skipped",
        told.made,
        if told.dry_run { "would be made" } else { "made" },
        told.updated,
        told.exists,
        told.blocked,
        told.over_plan,
        told.impossible,
        told.skipped,
    ))
}
