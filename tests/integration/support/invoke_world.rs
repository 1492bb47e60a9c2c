//! An installation that calls back through invoke, with a host, an upstream that it may call, and a
//! stranger that it may not.

use std::fmt::Write as _;

use mortise::development::{SampleVendor, SampleVendorOptions, hash_of};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::delivery_world::{SOON, World};
use super::package::{MANIFEST_SECRET, Package};
use super::server::{Backend, Installation, ORG, Settings};

/// The path of the lifecycle callbacks of the usual package.
const CALLBACKS: &str = "/callbacks";

/// The fields of a call, in the order in which `HASH` covers them.
const COVERED: [&str; 6] =
    ["requestURL", "requestType", "queryParams", "postBody", "headers", "connectionLinkName"];

/// An active installation and what is around it.
#[derive(Debug)]
pub(crate) struct InvokeWorld {
    pub(crate) world: World,
    /// Named in `whiteListedDomains`.
    pub(crate) upstream: SampleVendor,
    /// Where the token of the connector `chat` may go.
    pub(crate) chat: SampleVendor,
    /// Named nowhere.
    pub(crate) stranger: SampleVendor,
    /// The securityContext that the vendor was told.
    pub(crate) context: String,
}

/// What a vendor hashes: the fields that are there, in their order.
pub(crate) fn canonical(fields: &Value) -> String {
    COVERED.iter().fold(String::new(), |mut text, name| {
        let value = fields[*name].as_str().unwrap_or_default();
        if !value.is_empty() {
            let separator = if text.is_empty() { "" } else { "&" };
            let _infallible = write!(text, "{separator}{name}={value}");
        }
        text
    })
}

/// What the upstream answered, out of an answer of invoke.
#[track_caller]
pub(crate) fn inner(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    serde_json::from_str(&answer.text_of("response")).expect("JSON in a text")
}

impl InvokeWorld {
    /// Starts with the usual settings.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::with(backend, |_| {}, |_| {}).await
    }

    /// Starts with other settings and another package.
    pub(crate) async fn with(
        backend: Backend,
        settings: impl FnOnce(&mut Settings),
        package: impl FnOnce(&mut Package),
    ) -> Self {
        let vendor = || SampleVendor::start(SampleVendorOptions::default());
        let upstream = vendor().await.expect("the upstream starts");
        let stranger = vendor().await.expect("the stranger starts");
        let chat = vendor().await.expect("the connector's service starts");
        let origin = upstream.url("");
        let chat_origin = chat.url("");
        let settings = |bent: &mut Settings| {
            for name in ["authorize_url", "token_url", "revoke_url", "client_id", "client_secret"] {
                let value = bent.get(&format!("oauth.providers.zlabs_integration.{name}"));
                bent.set(&format!("oauth.providers.chat.{name}"), value);
            }
            bent.set("oauth.providers.chat.api_origins", chat_origin);
            bent.set("oauth.providers.chat.token_scheme", "Chat-token");
            settings(bent);
        };
        let world = World::with(backend, settings, |bent| {
            bent.manifest["whiteListedDomains"] =
                json!([origin, "http://10.1.2.3:8443", "https://{{mirrorHost}}"]);
            bent.manifest["connectors"] = json!([{
                "connectionName": "Chat", "serviceName": "chat", "connectionLinkName": "chat",
                "scope": ["messages.write"],
            }]);
            package(bent);
        })
        .await;
        let told = world.server.vendor.wait_for_path(CALLBACKS, 2, SOON).await;
        let told = told.expect("the vendor is told")[1].json().expect("JSON");
        let context = told["securityContext"].as_str().expect("a context").to_owned();
        Self { world, upstream, chat, stranger, context }
    }

    /// Installs the extension in another org, or again, and authorises it.
    pub(crate) async fn another(&self, org: &str) -> Installation {
        let server = &self.world.server;
        let installation = server.install("ticket-mirror", org).await;
        let answer = server.consent(&installation.authorization_url).await;
        server.authorize(&installation.id, &answer).await.expect(200);
        installation
    }

    /// The fields of a call.
    pub(crate) fn fields(&self, method: &str, url: &str) -> Value {
        json!({ "securityContext": self.context, "requestURL": url, "requestType": method })
    }

    /// Makes a call as the vendor does: a form, with its `HASH`.
    pub(crate) async fn call(&self, fields: &Value) -> Answer {
        let hash = hash_of(MANIFEST_SECRET, canonical(fields).as_bytes());
        self.call_as(ORG, fields, &hash).await
    }

    /// Makes a call with any org and hash.
    pub(crate) async fn call_as(&self, org: &str, fields: &Value, hash: &str) -> Answer {
        self.call_at(&self.world.server.client, org, fields, hash).await
    }

    /// The same at any node.
    pub(crate) async fn call_at(
        &self,
        client: &Client,
        org: &str,
        fields: &Value,
        hash: &str,
    ) -> Answer {
        let pairs: Vec<(&str, &str)> = fields
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
            .collect();
        let request = client.request(Method::POST, &format!("/api/v1/invoke?orgId={org}"), "");
        client.send(request.header("HASH", hash).form(&pairs)).await
    }

    /// Makes a GET.
    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.call(&self.fields("GET", url)).await
    }

    /// Makes a call with one more field.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        url: &str,
        field: &str,
        value: &str,
    ) -> Answer {
        let mut fields = self.fields(method, url);
        fields[field] = value.into();
        self.call(&fields).await
    }

    /// The record of the installation's calls.
    pub(crate) async fn invocations(&self) -> Vec<Value> {
        let server = &self.world.server;
        let path = format!("/api/v1/installations/{}/invocations", self.world.installation.id);
        server.client.all(&path, &server.operator).await
    }

    /// The access token of the installation, as the authorisation server knows it.
    pub(crate) fn access_tokens(&self) -> Vec<String> {
        self.world.server.provider.issued_tokens().into_iter().map(|issued| issued.token).collect()
    }
}
