//! The flags that say by which rules packages are judged.

use std::path::PathBuf;

use clap::Args;

use super::output::CliError;
use crate::config::{Config, Inputs};
use crate::manifest::Policy;
use crate::server::package_policy;

/// By which rules packages are judged: without a flag by those of a server without configuration.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyArguments {
    /// Judge as the server with this configuration does: its `egress.allow`,
    /// `egress.require_https` and `catalogue.denied_scopes` hold, and so do MORTISE_ variables
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Accept webhook and callback URLs that are plain http, as with `egress.require_https` off
    #[arg(long)]
    pub(super) allow_http: bool,
    /// A scope that no extension may hold, as in `catalogue.denied_scopes`;
    /// `Desk.organization.*` stands for all that begin so; can be repeated
    #[arg(long = "deny-scope", value_name = "SCOPE")]
    pub(super) denied_scopes: Vec<String>,
}

impl PolicyArguments {
    /// The rules. Hosts are judged by what is written, nothing is resolved or called.
    pub(crate) fn policy(&self) -> Result<Policy, CliError> {
        let inputs = match &self.config {
            Some(file) => Inputs::of_process(Some(file.clone()), Vec::new()),
            None => Inputs::default(),
        };
        let config = Config::load(&inputs).map_err(|error| {
            CliError::unusable(error)
                .hint("docs/configuration.md lists every setting with its rule")
        })?;
        let mut policy = package_policy(&config).map_err(CliError::unusable)?;
        policy.require_https &= !self.allow_http;
        policy.denied_scopes.extend_from_slice(&self.denied_scopes);
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use url::Host;

    use super::*;
    use crate::manifest::HostVerdict;

    #[test]
    fn a_servers_configuration_holds() {
        let policy = PolicyArguments::default().policy().expect("the defaults");
        let local = Host::Domain("localhost");
        assert!(policy.require_https && policy.denied_scopes.is_empty());
        let verdict = (policy.host_vetting)(&local, 9000);
        assert!(matches!(verdict, HostVerdict::NotPublic { .. }), "{verdict:?}");

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mortise.toml");
        let text = "[egress]\nrequire_https = false\nallow = [\"127.0.0.0/8:9000\"]\n\
            [catalogue]\ndenied_scopes = [\"Desk.settings.READ\"]\n";
        std::fs::write(&path, text).expect("a file");
        let arguments = PolicyArguments {
            config: Some(path),
            denied_scopes: vec!["Desk.organization.*".into()],
            ..PolicyArguments::default()
        };
        let policy = arguments.policy().expect("a configuration");
        assert!(!policy.require_https);
        assert_eq!(policy.denied_scopes, ["Desk.settings.READ", "Desk.organization.*"]);
        let address = Host::Ipv4(std::net::Ipv4Addr::LOCALHOST);
        assert_eq!((policy.host_vetting)(&address, 9000), HostVerdict::Public);
        let missing =
            PolicyArguments { config: Some("nowhere.toml".into()), ..PolicyArguments::default() };
        assert!(missing.policy().is_err());
    }
}
