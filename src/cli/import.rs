//! `mortise import`: another help desk's webhooks, triggers and automations, made on a server of what
//! its API told.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

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
    let mut body = Map::new();
    body.insert("source".to_owned(), json!(source));
    for (name, files) in [
        ("webhooks", &arguments.webhooks),
        ("triggers", &arguments.triggers),
        ("automations", &arguments.automations),
    ] {
        let pages: Vec<Value> = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
        if !pages.is_empty() {
            body.insert(name.to_owned(), Value::Array(pages));
        }
    }
    for (name, file) in [("credentials", &arguments.credentials), ("mapping", &arguments.mapping)] {
        if let Some(file) = file {
            body.insert(name.to_owned(), read(file)?);
        }
    }
    if arguments.disabled {
        body.insert("isEnabled".to_owned(), json!(false));
    }
    if arguments.update {
        body.insert("existing".to_owned(), json!("update"));
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("dryRun", if arguments.dry_run { "true" } else { "false" });
    if let Some(org) = &arguments.org {
        query.append_pair("orgId", org);
    }
    let path = format!("/webhooks/import?{}", query.finish());
    let told = server.call(Method::POST, &path, Some(&Value::Object(body))).await?;
    if arguments.format == Format::Json {
        output.answer(format_args!("{told:#}"))?;
    } else {
        tell(&told, output)?;
    }
    let is_left = ["blocked", "overPlan", "impossible"].iter().any(|name| told[name] != json!(0));
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

fn tell(told: &Value, output: &mut Output) -> Result<(), CliError> {
    let is_dry = told["dryRun"] == json!(true);
    let text = |value: &Value| printable(value.as_str().unwrap_or_default());
    for item in told["items"].as_array().into_iter().flatten() {
        let outcome = match item["outcome"].as_str().unwrap_or("?") {
            "made" if is_dry => "would be made",
            "updated" if is_dry => "would be updated",
            "overPlan" => "over the plan",
            other => other,
        };
        let kind = match item["connection"].as_str() {
            Some(connection) => format!("{} ({connection})", text(&item["kind"])),
            None => text(&item["kind"]),
        };
        let id = item["id"].as_str().map(|id| format!(" as {id}")).unwrap_or_default();
        output.answer(format_args!(
            "{kind} {} `{}`: {outcome}{id}",
            text(&item["sourceId"]),
            text(&item["name"])
        ))?;
        if let Some(secret) = item["secret"].as_str() {
            output.answer(format_args!("    signs with {secret} (told once)"))?;
        }
        for change in item["changes"].as_array().into_iter().flatten() {
            let value = |side: &str| printable(&change[side].to_string());
            output.answer(format_args!(
                "    {}: {} -> {}",
                text(&change["member"]),
                value("before"),
                value("after")
            ))?;
        }
        for missing in item["missing"].as_array().into_iter().flatten() {
            let word = if missing["isNeeded"] == json!(true) { "needs" } else { "may have" };
            let (pointer, message) = (text(&missing["pointer"]), text(&missing["message"]));
            output.answer(format_args!("    {word} {pointer}: {message}"))?;
        }
        for reason in item["reasons"].as_array().into_iter().flatten() {
            output.answer(format_args!("    why not: {}", text(reason)))?;
        }
        for note in item["notes"].as_array().into_iter().flatten() {
            output.answer(format_args!("    note: {}", text(note)))?;
        }
    }
    for warning in told["warnings"].as_array().into_iter().flatten() {
        output.message(format_args!("warning: {}", text(warning)));
    }
    output.answer(format_args!(
        "{} {}, {} updated, {} there already, {} wait for something, {} over the plan, {} impossible, {} skipped",
        told["made"],
        if is_dry { "would be made" } else { "made" },
        told["updated"],
        told["exists"],
        told["blocked"],
        told["overPlan"],
        told["impossible"],
        told["skipped"],
    ))
}
