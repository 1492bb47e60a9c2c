//! What the story is told on: a temporary folder, the real server, an authorisation server and a
//! vendor, all on free ports of the loopback interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Client;
use super::narrator::Narrator;
use super::story::{self, Cast};
use super::{DemoError, sample};
use crate::api::token_store::OPERATOR_TOKEN_FILE;
use crate::config::{Config, Inputs};
use crate::development::{
    DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions, SampleVendor,
    SampleVendorOptions,
};
use crate::seam::Seam;
use crate::server::{self, RunningServer};

/// How long the story may take.
const STORY: Duration = Duration::from_secs(25);

/// Everything that runs for the story.
#[derive(Debug)]
pub struct Demo {
    pub(super) server: RunningServer,
    pub(super) provider: DevelopmentAuthorizationServer,
    pub(super) vendor: SampleVendor,
    pub(super) client: Client,
    pub(super) operator: String,
    pub(super) seam: Seam,
    cast: Option<Cast>,
    folder: TemporaryFolder,
}

impl Demo {
    /// Starts the servers. Configuration files and variables are not looked at.
    pub async fn open(seam: Seam) -> Result<Self, DemoError> {
        let folder = TemporaryFolder::make(&seam)?;
        let vendor =
            SampleVendor::start(SampleVendorOptions { seam: seam.clone(), ..Default::default() })
                .await?;
        let options = DevelopmentAuthorizationServerOptions {
            seam: seam.clone(),
            ..DevelopmentAuthorizationServerOptions::default()
        };
        let provider = DevelopmentAuthorizationServer::start(options).await?;
        let config = configuration(&folder.path, &provider, &vendor)?;
        let server = server::start(config, seam.clone()).await?;
        let public_url = server.config().public_url.clone();
        provider.register_redirect_uri(format!(
            "{}/oauth/callback",
            public_url.as_str().trim_end_matches('/')
        ));
        let token = folder.path.join(OPERATOR_TOKEN_FILE);
        let operator = std::fs::read_to_string(&token)
            .map_err(|error| DemoError::Folder { path: token, error })?;
        Ok(Self {
            client: Client::new(public_url)?,
            operator: operator.trim().to_owned(),
            server,
            provider,
            vendor,
            seam,
            cast: None,
            folder,
        })
    }

    /// Tells the story; every step checks that it did what it says.
    pub async fn tell(&mut self, say: &mut Narrator<'_>) -> Result<(), DemoError> {
        say.heading("Mortise: the life of an extension, on this machine")?;
        say.line("")?;
        say.field("server", format_args!("{}  SQLite in {}", self.base(), self.folder()))?;
        say.field("provider", format_args!("{}  OAuth 2.0 with PKCE", self.provider.issuer()))?;
        say.field("vendor", format_args!("{}  checks every signature", self.vendor.url("")))?;
        let told = tokio::time::timeout(STORY, Box::pin(story::tell(self, say))).await;
        let cast = told.map_err(|_| DemoError::TooSlow { seconds: STORY.as_secs() })??;
        self.cast = Some(cast);
        say.heading("Every step did what it says.")
    }

    /// Installs the extension once more, says how to reach everything, and prints what the vendor
    /// receives, without end.
    pub async fn stay(&mut self, say: &mut Narrator<'_>) -> Result<(), DemoError> {
        let Some(cast) = self.cast.take() else { return Ok(()) };
        story::stay(self, &cast, say).await
    }

    /// Stops everything and removes the folder.
    pub async fn close(self) -> Result<(), DemoError> {
        self.server.stop().await;
        self.provider.stop().await;
        self.vendor.stop().await;
        self.folder.remove()
    }

    fn base(&self) -> &str {
        self.client.base().as_str().trim_end_matches('/')
    }

    fn folder(&self) -> std::path::Display<'_> {
        self.folder.path.display()
    }
}

/// The configuration of the story's server. The retries come after a second, not after a minute.
fn configuration(
    folder: &Path,
    provider: &DevelopmentAuthorizationServer,
    vendor: &SampleVendor,
) -> Result<Config, DemoError> {
    let service = |name: &str| format!("oauth.providers.{}.{name}", crate::oauth::DEFAULT_SERVICE);
    let overrides = vec![
        ("listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("data_dir".to_owned(), folder.display().to_string()),
        ("host.api_base".to_owned(), provider.issuer().to_owned()),
        ("egress.require_https".to_owned(), "false".to_owned()),
        ("egress.allow".to_owned(), format!("127.0.0.1/32:{}", vendor.address().port())),
        ("delivery.schedule".to_owned(), "1s,1s,1s,1s".to_owned()),
        ("limits.drain".to_owned(), "1s".to_owned()),
        (service("authorize_url"), provider.authorize_url()),
        (service("token_url"), provider.token_url()),
        (service("revoke_url"), provider.revoke_url()),
        (service("issuer"), provider.issuer().to_owned()),
        (service("client_id"), provider.client_id().to_owned()),
        (service("client_secret"), provider.client_secret().to_owned()),
    ];
    Ok(Config::load(&Inputs { overrides, ..Inputs::default() })?)
}

impl Demo {
    /// The sample, addressed to this story's vendor.
    pub(super) fn package(&self) -> Result<Vec<u8>, DemoError> {
        sample::package(&self.vendor.url(""))
    }

    /// The sample with mistakes.
    pub(super) fn broken_package(&self) -> Result<Vec<u8>, DemoError> {
        sample::broken_package(&self.vendor.url(""))
    }
}

/// A folder that only this user can read, and that goes with this.
#[derive(Debug)]
struct TemporaryFolder {
    path: PathBuf,
    is_there: bool,
}

impl TemporaryFolder {
    fn make(seam: &Seam) -> Result<Self, DemoError> {
        let name = format!("mortise-demo-{}", seam.randomness.id().simple());
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| DemoError::Folder { path: path.clone(), error })?;
        Ok(Self { path, is_there: true })
    }

    fn remove(mut self) -> Result<(), DemoError> {
        self.is_there = false;
        std::fs::remove_dir_all(&self.path)
            .map_err(|error| DemoError::Folder { path: self.path.clone(), error })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if self.is_there
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, folder = %self.path.display(), "the folder is left behind");
        }
    }
}
