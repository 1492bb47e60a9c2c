//! The server that is measured: the release program as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mortise::development::DevelopmentAuthorizationServer;
use mortise::seam::Clock;

use super::api::{self, Api};
use super::child::Watched;
use super::{Failure, Outcome};

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program to measure.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Program {
    /// What `--server` names, or the one that Cargo built.
    pub(crate) fn of(arguments: &[String]) -> Vec<Self> {
        if arguments.is_empty() {
            let path = PathBuf::from(env!("CARGO_BIN_EXE_mortise"));
            return vec![Self { name: "mortise".to_owned(), path }];
        }
        arguments
            .iter()
            .map(|argument| match argument.split_once('=') {
                Some((name, path)) => Self { name: name.to_owned(), path: path.into() },
                None => Self { name: argument.clone(), path: argument.into() },
            })
            .collect()
    }
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A running server; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Watched,
    pub(crate) authority: String,
    pub(crate) operator: Api,
    log: PathBuf,
}

impl Server {
    /// Starts a program on a database, or on an SQLite file in the folder, and waits until it is
    /// ready.
    pub(crate) async fn start(
        program: &Program,
        database: Option<&str>,
        folder: &Path,
        provider: &DevelopmentAuthorizationServer,
        settings: &[(String, String)],
    ) -> Outcome<Self> {
        let authority = format!("127.0.0.1:{}", free_port()?);
        let log = folder.join("server.log");
        let output = std::fs::File::create(&log)?;
        let mut command = Command::new(&program.path);
        command.arg("serve").current_dir(folder);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MORTISE_")) {
            command.env_remove(name);
        }
        let usual = [
            ("listen", authority.clone()),
            ("data_dir", folder.display().to_string()),
            ("egress.allow", "127.0.0.0/8".to_owned()),
            ("egress.require_https", "false".to_owned()),
            ("host.api_base", provider.issuer().to_owned()),
            ("oauth.providers.zlabs_integration.authorize_url", provider.authorize_url()),
            ("oauth.providers.zlabs_integration.token_url", provider.token_url()),
            ("oauth.providers.zlabs_integration.revoke_url", provider.revoke_url()),
            ("oauth.providers.zlabs_integration.client_id", provider.client_id().to_owned()),
            (
                "oauth.providers.zlabs_integration.client_secret",
                provider.client_secret().to_owned(),
            ),
            ("oauth.providers.zlabs_integration.issuer", provider.issuer().to_owned()),
        ];
        let usual = usual.map(|(key, value)| (key.to_owned(), value));
        let database = database.map(|url| ("database.url".to_owned(), url.to_owned()));
        for (key, value) in usual.iter().chain(&database).chain(settings) {
            let variable = key.to_uppercase().replace('.', "__");
            command.env(format!("MORTISE_{variable}"), value);
        }
        command.stdout(output.try_clone()?).stderr(output);
        let mut process = Watched::start(&mut command)?;
        let clock = Clock::default();
        let end = clock.instant() + PATIENCE;
        let origin = format!("http://{authority}");
        let client = api::http()?;
        loop {
            let answer = client.get(format!("{origin}/health/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if process.has_ended() || clock.instant() > end {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::from(format!("the server does not start:\n{log}")));
            }
            clock.sleep(Duration::from_millis(20)).await;
        }
        provider.register_redirect_uri(format!("{origin}/oauth/callback"));
        let token = std::fs::read_to_string(folder.join("operator.token"))?;
        let operator = Api::new(origin, token.trim().to_owned())?;
        Ok(Self { process, authority, operator, log })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it said that is worse than a note.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        // Of the configuration it says that it is one for development, which it is.
        let is_bad = |line: &&str| {
            (line.contains(" WARN ") || line.contains("ERROR")) && !line.contains("environment var")
        };
        log.lines().filter(is_bad).map(str::to_owned).collect()
    }
}
