//! `mortise token`: API tokens, in the database or, where a server holds it, through that server.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde::{Deserialize, Serialize};

use super::configuration::ConfigurationArguments;
use super::local_server::LocalServer;
use super::output::{CliError, Exit, Output};
use crate::api::paging::Limit;
use crate::api::token_store::{NewToken, TokenError, create_token, list_tokens, revoke_token};
use crate::api::tokens::{TokenCreated, TokenRequest, TokenView};
use crate::api::{Role, Scope, Scopes};
use crate::audit::Actor;
use crate::config::{Config, parse_duration};
use crate::identifier::{OrgId, TokenId, VendorKey};
use crate::seam::{Seam, Timestamp};
use crate::server::store_options;
use crate::store::{Store, StoreError};

/// The longest span until a token expires.
const LONGEST: Duration = Duration::from_hours(36_500 * 24);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Make a token; its value is printed once, alone on standard output
    Create(Create),
    /// List tokens, the newest first
    List(List),
    /// Revoke a token for good
    Revoke(Revoke),
}

#[derive(Debug, Args)]
struct Create {
    /// operator, marketplace, host, vendor, admin or viewer
    #[arg(long)]
    role: Role,
    /// The org of an admin or viewer
    #[arg(long, value_name = "ID")]
    org: Option<OrgId>,
    /// The vendor of a vendor's token
    #[arg(long, value_name = "KEY")]
    vendor: Option<VendorKey>,
    /// Narrow the token to a scope, such as Desk.webhooks.READ; can be repeated
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// Let it expire after a span, such as 30d or 12h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    expires: Option<Duration>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

#[derive(Debug, Args)]
struct List {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

#[derive(Debug, Args)]
struct Revoke {
    /// The token's id, as `list` shows it
    id: TokenId,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For eyes.
    #[default]
    Text,
    /// The same document as the API's.
    Json,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|span| !span.is_zero() && *span <= LONGEST)
        .ok_or_else(|| "must be a span such as `30d`, `12h` or `10m`, at most `36500d`".to_owned())
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    match arguments.step {
        Step::Create(create) => {
            let door = Door::open(&create.configuration.clone().load()?, seam).await?;
            let made = make(&door, create, output).await;
            door.close().await;
            made
        }
        Step::List(list) => {
            let door = Door::open(&list.configuration.load()?, seam).await?;
            let shown = show(&door, list.format, output).await;
            door.close().await;
            shown
        }
        Step::Revoke(revoke) => {
            let door = Door::open(&revoke.configuration.load()?, seam).await?;
            let revoked = door.revoke(revoke.id).await;
            door.close().await;
            revoked?;
            output.message(format_args!("revoked {}", revoke.id));
            Ok(Exit::Success)
        }
    }
}

async fn make(door: &Door, create: Create, output: &mut Output) -> Result<Exit, CliError> {
    let format = create.format;
    let made = door.create(create).await?;
    match format {
        Format::Json => output.answer(document(&made)?)?,
        Format::Text => {
            let view = &made.view;
            let until = view.expires_at.as_deref().unwrap_or("revoked");
            output.message(format_args!(
                "made the {} token {}, good until {until}; its value is shown only now:",
                view.role, view.id
            ));
            output.answer(&made.token)?;
        }
    }
    Ok(Exit::Success)
}

async fn show(door: &Door, format: Format, output: &mut Output) -> Result<Exit, CliError> {
    let views = door.list().await?;
    match format {
        Format::Json => output.answer(document(&views)?)?,
        Format::Text => {
            for view in &views {
                output.answer(line(view))?;
            }
        }
    }
    Ok(Exit::Success)
}

fn document(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(CliError::failed)
}

/// A token in one line; fields in the same order, with a `-` for none.
fn line(view: &TokenView) -> String {
    let bound = view.org_id.as_ref().map(|org| format!("org {org}"));
    let bound = bound.or_else(|| view.vendor.as_ref().map(|vendor| format!("vendor {vendor}")));
    let state = match (&view.revoked_at, &view.expires_at) {
        (Some(moment), _) => format!("revoked {moment}"),
        (None, Some(moment)) => format!("until {moment}"),
        (None, None) => "live".to_owned(),
    };
    let scopes = view.scopes.as_deref().unwrap_or_default();
    let scopes = scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(",");
    [
        view.id.to_string(),
        view.role.to_string(),
        bound.unwrap_or_else(|| "-".to_owned()),
        state,
        if scopes.is_empty() { "-".to_owned() } else { scopes },
        view.name.clone().unwrap_or_else(|| "-".to_owned()),
    ]
    .join("  ")
}

/// How the tokens are reached.
enum Door {
    /// In the database itself.
    Database(Box<Store>, Seam),
    /// Through the server that holds the SQLite file.
    Server(LocalServer, Seam),
}

/// A page, as the API writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    data: Vec<TokenView>,
    next_cursor: Option<String>,
}

impl Door {
    async fn open(config: &Config, seam: Seam) -> Result<Self, CliError> {
        let options = store_options(config).map_err(CliError::unusable)?;
        let store = match Store::open(&options).await {
            Ok(store) => store,
            Err(StoreError::Locked { .. }) => {
                return LocalServer::of(config).map(|server| Self::Server(server, seam));
            }
            Err(error) => return Err(failed(&error)),
        };
        if !store.pending_migrations().await.map_err(|error| failed(&error))?.is_empty() {
            return Err(CliError::failed("the database's schema is not up to date")
                .hint("run `mortise migrate up` first"));
        }
        Ok(Self::Database(Box::new(store), seam))
    }

    /// Closes the database, so that SQLite takes its log into the file.
    async fn close(self) {
        if let Self::Database(store, _) = self
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }

    async fn create(&self, create: Create) -> Result<TokenCreated, CliError> {
        let (Self::Database(_, seam) | Self::Server(_, seam)) = self;
        let now = seam.clock.now();
        let expires_at = create.expires.map(|span| now.plus(span));
        match self {
            Self::Database(store, seam) => {
                let new = NewToken::new(create.role, create.org, create.vendor)
                    .map(|new| new.narrowed(Scopes::new(create.scope)))
                    .and_then(|new| new.named(create.name))
                    .and_then(|new| new.until(expires_at, now))
                    .map_err(CliError::unusable)?;
                let (record, value) = create_token(store, seam, new, &actor()).await.map_err(
                    |error| match error {
                        TokenError::Store(error) => failed(&error),
                        other => CliError::failed(other),
                    },
                )?;
                Ok(TokenCreated::new(record, &value))
            }
            Self::Server(server, _) => {
                let request = TokenRequest {
                    role: create.role,
                    org_id: create.org,
                    vendor: create.vendor,
                    scopes: (!create.scope.is_empty()).then_some(create.scope),
                    name: create.name,
                    expires_at: expires_at.map(Timestamp::rfc3339),
                };
                let body = serde_json::to_value(request).map_err(CliError::failed)?;
                server
                    .call(Method::POST, "/api/v1/tokens", Some(body))
                    .await?
                    .ok_or_else(|| CliError::failed("the server answered without the token"))
            }
        }
    }

    async fn list(&self) -> Result<Vec<TokenView>, CliError> {
        let mut views: Vec<TokenView> = Vec::new();
        match self {
            Self::Database(store, _) => loop {
                let before = views.last().map(|view| view.id.0);
                let rows = list_tokens(store, before, u64::from(Limit::MOST))
                    .await
                    .map_err(|error| failed(&error))?;
                if rows.is_empty() {
                    return Ok(views);
                }
                views.extend(rows.into_iter().map(TokenView::from));
            },
            Self::Server(server, _) => {
                let first = format!("/api/v1/tokens?limit={}", Limit::MOST);
                let mut path = first.clone();
                while let Some(page) = server.call::<Listed>(Method::GET, &path, None).await? {
                    views.extend(page.data);
                    let Some(cursor) = page.next_cursor else { break };
                    path = format!("{first}&cursor={cursor}");
                }
                Ok(views)
            }
        }
    }

    async fn revoke(&self, id: TokenId) -> Result<(), CliError> {
        match self {
            Self::Database(store, seam) => {
                // No server of this file runs; nodes on PostgreSQL follow the revision by
                // themselves.
                match revoke_token(store, seam, id, &actor())
                    .await
                    .map_err(|error| failed(&error))?
                {
                    Some(_followed) => Ok(()),
                    None => Err(CliError::failed(format_args!("there is no token {id}"))
                        .hint("`mortise token list` shows the ids")),
                }
            }
            Self::Server(server, _) => {
                let path = format!("/api/v1/tokens/{id}");
                server.call::<serde_json::Value>(Method::DELETE, &path, None).await.map(|_none| ())
            }
        }
    }
}

fn actor() -> Actor {
    Actor::system("command-line")
}

fn failed(error: &StoreError) -> CliError {
    CliError::failed(format_args!("the database: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::output::tests::kept;
    use crate::config::Inputs;

    /// Runs a command line on a data folder; gives back the exit and the answer.
    async fn call(line: &str, data_dir: &str, listen: &str) -> Result<(Exit, String), CliError> {
        let settings = [format!("--set=data_dir={data_dir}"), format!("--listen={listen}")];
        let words = ["mortise", "token"].into_iter().chain(line.split(' '));
        let words = words.chain(settings.iter().map(String::as_str));
        let arguments = crate::cli::Arguments::try_parse_from(words).unwrap();
        let (mut output, answers, _) = kept();
        let exit = Box::pin(arguments.run(&mut output)).await?;
        Ok((exit, answers.text()))
    }

    async fn tells_one_story(data_dir: &str, listen: &str, known: usize) {
        let (_, value) =
            call("create --role admin --org 7 --expires 30d --name a", data_dir, listen)
                .await
                .unwrap();
        assert!(value.starts_with("mortise_") && value.len() == 52, "{value}");
        let (_, list) = call("list", data_dir, listen).await.unwrap();
        assert_eq!(list.lines().count(), known + 1, "{list}");
        let first = list.lines().next().unwrap();
        assert!(first.contains("admin  org 7  until "), "{first}");
        assert!(!list.contains(value.trim()));
        let id = first.split(' ').next().unwrap();
        call(&format!("revoke {id}"), data_dir, listen).await.unwrap();
        let (_, json) = call("list --format json", data_dir, listen).await.unwrap();
        let views: Vec<TokenView> = serde_json::from_str(&json).unwrap();
        assert!(views[0].revoked_at.is_some());
        let unknown = "revoke 0198c5b2-0000-7000-8000-000000000000";
        let error = call(unknown, data_dir, listen).await.unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
        let bad = call("create --role admin", data_dir, listen).await.unwrap_err();
        assert!(bad.to_string().contains("org"), "{bad}");
    }

    #[tokio::test]
    async fn without_a_server_the_database_is_used() {
        let folder = tempfile::tempdir().unwrap();
        tells_one_story(&folder.path().display().to_string(), "127.0.0.1:9", 0).await;
    }

    #[tokio::test]
    async fn a_running_server_is_asked_instead() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().display().to_string();
        let overrides = [("data_dir", data_dir.as_str()), ("listen", "127.0.0.1:0")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
        let config = Config::load(&Inputs { overrides, ..Inputs::default() }).unwrap();
        let running = crate::server::start(config.clone(), Seam::default()).await.unwrap();
        let address = running.address().to_string();
        tells_one_story(&data_dir, &address, 1).await;
        let second = crate::server::start(config, Seam::default()).await.unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        let nowhere = call("list", &data_dir, "127.0.0.1:0").await.unwrap_err();
        assert!(nowhere.to_string().contains("port 0"), "{nowhere}");
        running.stop().await;
        let refused = tokio::net::TcpStream::connect(&address).await;
        assert!(refused.is_err());
        let (_, list) = call("list", &data_dir, &address).await.unwrap();
        assert_eq!(list.lines().count(), 2);
    }
}
