//! A published extension on a database that programs are started on, with an authorisation server
//! and a vendor that outlive all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use mortise::development::{
    Browser, Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    ProviderAnswer, SampleVendor, SampleVendorOptions,
};
use serde_json::{Value, json};

use super::package::Package;
use super::program::{Program, free_address};
use super::server::{Backend, Place, Settings, TestServer};

/// What programs run on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) vendor: SampleVendor,
    #[cfg_attr(
        not(feature = "fault-injection"),
        expect(dead_code, reason = "only the campaign of crashes looks at it")
    )]
    pub(crate) provider: DevelopmentAuthorizationServer,
    pub(crate) operator: String,
    pub(crate) host: String,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
    pub(crate) is_sqlite: bool,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) answers: String,
    pub(crate) messages: String,
}

impl Ground {
    /// Sets it up; no server runs.
    pub(crate) async fn new(backend: Backend, change: impl FnOnce(&mut Settings)) -> Self {
        let is_sqlite = matches!(backend, Backend::Sqlite);
        let options = DevelopmentAuthorizationServerOptions::default();
        let provider = DevelopmentAuthorizationServer::start(options).await.expect("a provider");
        let options = SampleVendorOptions {
            capacity: 4_000_000,
            capacity_bytes: 4 << 30,
            ..SampleVendorOptions::default()
        };
        let vendor = SampleVendor::start(options).await.expect("a vendor");
        let address = free_address();
        provider.register_redirect_uri(format!("http://{address}/oauth/callback"));
        let server = Box::pin(TestServer::start(backend, |settings| {
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
            settings.set("host.api_base", provider.issuer());
            settings.set("reconcile.every", "0s");
            change(settings);
        }))
        .await;
        server.publish(&Package::new(&vendor.url(""))).await.expect(201);
        let (operator, host) = (server.operator.clone(), server.host().await);
        let place = server.stop().await;
        let mut settings = place.settings();
        settings.insert("public_url".to_owned(), format!("http://{address}"));
        Self { vendor, provider, operator, host, settings, address, place, is_sqlite }
    }

    /// Starts the program.
    pub(crate) async fn launch(&self) -> Program {
        Program::start(&self.settings, self.address).await
    }

    /// Gives consent at the provider; brings back its answer, which nobody has used.
    pub(crate) async fn consent(&self, authorization_url: &str) -> ProviderAnswer {
        let mut browser = Browser::new().expect("a browser");
        browser.consent(authorization_url, Decision::Approve).await.expect("consent is given")
    }

    /// Installs in an org and authorises; says the installation.
    pub(crate) async fn active(&self, program: &Program, org: &str) -> String {
        let body = json!({ "extensionKey": "ticket-mirror", "orgId": org,
            "config": { "mirrorToken": "a secret of the org" } });
        let made = self.call(program, "install", &body).await;
        let id = made["installationId"].as_str().expect("an id").to_owned();
        self.authorize(program, &id, made["authorizationUrl"].as_str().expect("a URL")).await;
        id
    }

    /// Authorises an installation.
    pub(crate) async fn authorize(&self, program: &Program, id: &str, authorization_url: &str) {
        let answer = self.consent(authorization_url).await;
        let body = json!({ "installationId": id, "code": answer.code, "state": answer.state });
        assert_eq!(self.call(program, "authorize", &body).await["state"], "active");
    }

    /// Calls a callback that must succeed.
    pub(crate) async fn call(&self, program: &Program, name: &str, body: &Value) -> Value {
        let path = format!("/api/v1/callbacks/{name}");
        let answer = program.client.post(&path, &self.operator, body).await;
        assert!([200, 201].contains(&answer.status), "{name}: {}", answer.text);
        answer.json
    }

    /// Reads an installation.
    pub(crate) async fn installation(&self, program: &Program, id: &str) -> Value {
        let path = format!("/api/v1/installations/{id}");
        program.client.get(&path, &self.operator).await.expect(200).json
    }

    /// An id as SQL writes it.
    pub(crate) fn sql_id(&self, id: &str) -> String {
        if self.is_sqlite { format!("x'{}'", id.replace('-', "")) } else { format!("'{id}'::uuid") }
    }

    /// The number that a query answers.
    pub(crate) async fn number(&self, what: &str) -> i64 {
        let rows = self.place.texts(&format!("select cast(count(*) as text) from {what}")).await;
        rows[0].parse().expect("a number")
    }

    /// Runs a command of the program on the ground's configuration to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Ended {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mortise"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MORTISE_") {
                command.env_remove(name);
            }
        }
        for (key, value) in self.settings.iter().filter(|(key, _)| *key != "listen") {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.arg("--listen").arg(self.address.to_string());
        let output = command.output().await.expect("it runs");
        Ended {
            code: output.status.code(),
            answers: String::from_utf8(output.stdout).expect("text"),
            messages: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// The folder with the files.
    pub(crate) fn folder(&self) -> &Path {
        Path::new(&self.settings["data_dir"])
    }
}
