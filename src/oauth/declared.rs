//! The connections that a manifest declares, and the authorisation servers that it brings itself.
//!
//! A connector names its service. The operator's registry (`oauth.providers`) comes first; a service
//! that is not there is the one of this name in the manifest's `TPAOauth`. Such a server is the
//! vendor's: its addresses are vetted like every other of the vendor's, and its client secret is
//! sealed with the version. An entry of `TPAOauth` that no connector names is a connection by itself.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::EntityTrait;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::error::OAuthError;
use super::provider::{Server, Service};
use crate::config::{Origin, Provider};
use crate::crypto::{AssociatedData, KeyRing, Purpose, SecretText};
pub use crate::manifest::HOST_CONNECTION;
use crate::manifest::{Manifest, own_connections, own_servers};
use crate::store::Store;
use crate::store::entity::extension_version;

/// What a manifest may not add to the address that the browser is sent to: these are ours.
const OURS: &[&str] = &[
    "client_id",
    "client_secret",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
];

/// A connection as a manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredConnection {
    /// [`HOST_CONNECTION`], or the connector's link name.
    pub name: String,
    /// What administrators see it as.
    pub display_name: Option<String>,
    /// Who grants.
    pub service: Service,
    /// The scopes that it needs.
    pub scopes: Vec<String>,
    /// Whether each user has one of his own.
    pub user_access: bool,
    /// Who made it, as the vendor wrote it: shown, never trusted.
    pub shared_by: Option<String>,
    /// Where its token may go, where the manifest itself says so; for the operator's services his
    /// registry does.
    pub own_origins: Vec<Origin>,
}

impl DeclaredConnection {
    /// Whether it is the host's.
    pub fn is_host(&self) -> bool {
        self.name == HOST_CONNECTION
    }

    /// Whether a token that was granted for `former` may serve this one: the name leads to the same
    /// service, which is where it was.
    pub fn continues(&self, former: &Self) -> bool {
        let is_there = |origin| former.own_origins.contains(origin);
        self.name == former.name
            && self.service.name == former.service.name
            && self.service.declared_in.is_some() == former.service.declared_in.is_some()
            && self.own_origins.len() == former.own_origins.len()
            && self.own_origins.iter().all(is_there)
    }
}

fn text<'v>(client: &'v Value, name: &str) -> Option<&'v str> {
    client.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Where the tokens of a server that a manifest brings may go: to whoever grants them.
fn origins(client: &Value) -> Vec<Origin> {
    let mut origins = Vec::new();
    for name in ["tokenUrl", "authoriseUrl"] {
        let url = text(client, name).and_then(|text| Url::parse(text).ok());
        if let Some(origin) = url.as_ref().and_then(Origin::of)
            && !origins.contains(&origin)
        {
            origins.push(origin);
        }
    }
    origins
}

/// The connections of a version, the host's first. Each name leads to one: of a manifest from before
/// the rule that says so the first counts, and none takes the host's name.
pub fn connections(
    manifest: &Manifest,
    stored: &Value,
    version_id: Uuid,
    is_operators: impl Fn(&str) -> bool,
) -> Vec<DeclaredConnection> {
    let own_server = |name: &str| {
        own_servers(stored).map(|(_, client)| client).find(|one| text(one, "name") == Some(name))
    };
    let service = |name: &str| {
        let own = own_server(name).filter(|_| !is_operators(name));
        let declared_in = own.map(|_| version_id);
        (Service { name: name.to_owned(), declared_in }, own.map(origins).unwrap_or_default())
    };
    let host = manifest.authorisation.iter().map(|host| DeclaredConnection {
        name: HOST_CONNECTION.to_owned(),
        display_name: host.connection_name.clone(),
        // The host's own server is the operator's to name, whatever a manifest brings.
        service: Service::of_operator(&host.service_name),
        scopes: host.scopes.clone(),
        user_access: host.user_access,
        shared_by: host.shared_by.clone(),
        own_origins: Vec::new(),
    });
    let connectors = manifest.connectors.iter().map(|connector| {
        let (service, own_origins) = service(&connector.service_name);
        DeclaredConnection {
            name: connector.connection_link_name.clone(),
            display_name: Some(connector.connection_name.clone()),
            service,
            scopes: connector.scopes.clone(),
            user_access: connector.user_access,
            shared_by: connector.shared_by.clone(),
            own_origins,
        }
    });
    let own = own_connections(manifest, stored).into_iter().map(|own| DeclaredConnection {
        own_origins: own_server(&own.name).map(origins).unwrap_or_default(),
        service: Service { name: own.name.clone(), declared_in: Some(version_id) },
        name: own.name,
        display_name: None,
        scopes: own.scopes,
        user_access: false,
        shared_by: None,
    });
    let mut all: Vec<DeclaredConnection> = host.collect();
    for connection in connectors.chain(own) {
        let is_taken = all.iter().any(|other| other.name == connection.name);
        if !is_taken && !connection.is_host() {
            all.push(connection);
        }
    }
    all
}

/// The authorisation server of a name that the manifest of a version brings.
pub(super) async fn server(
    store: &Store,
    ring: &KeyRing,
    version_id: Uuid,
    name: &str,
) -> Result<Option<Server>, OAuthError> {
    let unreadable = |what| OAuthError::Unreadable { what };
    let Some(row) = extension_version::Entity::find_by_id(version_id).one(store.reader()).await?
    else {
        return Ok(None);
    };
    let manifest: Value =
        serde_json::from_str(&row.manifest).map_err(|_| unreadable("manifest"))?;
    let Some((index, client)) =
        own_servers(&manifest).find(|(_, one)| text(one, "name") == Some(name))
    else {
        return Ok(None);
    };
    let secrets: BTreeMap<String, SecretText> = match &row.sealed_secrets {
        None => BTreeMap::new(),
        Some(sealed) => {
            let place = AssociatedData { subject: row.id, field: "manifest-secrets" };
            let opened = ring.unseal(Purpose::Vault, &place, sealed)?;
            serde_json::from_slice(opened.expose()).map_err(|_| unreadable("manifest's secrets"))?
        }
    };
    let secret = secrets
        .get(&format!("/TPAOauth/{index}/clientSecret"))
        .ok_or_else(|| unreadable("client secret of a manifest"))?;
    read(client, secret, place(&row.extension_key, name)).map(Some)
}

/// Where browsers come back from a server of a manifest, below our address for browsers: the same for
/// all versions of the extension, and computable by its vendor before there is one.
fn place(extension_key: &str, name: &str) -> String {
    let text = format!("{extension_key}\n{name}");
    let whole = digest(&SHA256, text.as_bytes());
    whole.as_ref().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn read(client: &Value, secret: &SecretText, place: String) -> Result<Server, OAuthError> {
    let url = |name: &str| text(client, name).and_then(|text| Url::parse(text).ok());
    let unreadable = || OAuthError::Unreadable { what: "TPAOauth entry of a manifest" };
    let authorize_url = url("authoriseUrl").ok_or_else(unreadable)?;
    let token_url = url("tokenUrl").ok_or_else(unreadable)?;
    let api_origins = origins(client);
    let parameters = client
        .get("params")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    Ok(Server {
        provider: Provider {
            authorize_url,
            token_url,
            revoke_url: url("revokeUrl"),
            client_id: text(client, "clientId").ok_or_else(unreadable)?.to_owned(),
            client_secret: secret.expose().to_owned().into(),
            issuer: None,
            token_scheme: "Bearer".to_owned(),
            scope_separator: " ".to_owned(),
            api_origins,
        },
        parameters,
        place: Some(place),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Value {
        json!({
            "name": "dropbox", "clientId": "id", "clientSecret": { "$sealed": true },
            "authoriseUrl": "https://www.dropbox.example/oauth2/authorize",
            "tokenUrl": "https://api.dropbox.example/oauth2/token",
            "params": { "token_access_type": "offline", "state": "mine", "redirect_uri": "x", "n": 1 },
        })
    }

    #[test]
    fn a_vendor_adds_parameters_but_takes_none_of_ours() {
        let server =
            read(&entry(), &SecretText::new("s"), place("key", "dropbox")).expect("it is whole");
        assert_eq!(server.parameters, [("token_access_type".to_owned(), "offline".to_owned())]);
        assert!(!server.is_operators(), "its addresses are vetted");
        // As docs/CONNECTIONS.md tells vendors to compute it.
        assert_eq!(server.place.as_deref(), Some("3e3175a066e19a12fea88970ed635e2a"));
        assert_eq!(server.provider.api_origins.len(), 2);
        let mut broken = entry();
        broken["tokenUrl"] = json!("/token");
        assert!(read(&broken, &SecretText::new("s"), place("key", "dropbox")).is_err());
    }

    #[test]
    fn the_operators_registry_comes_before_the_manifest() {
        let manifest = json!({
            "locale": ["en"], "service": "DESK", "storage": false, "whiteListedDomains": [],
            "modules": { "widgets": [{ "name": "W", "url": "/app/w.html" }] },
            "config": [], "TPAOauth": [entry(), { "name": "lonely", "params": { "scope": "a b" } }],
            "zohoAuthorisation": { "type": "connectors", "serviceName": "dropbox", "scope": [] },
            "connectors": [
                { "connectionName": "D", "serviceName": "dropbox", "connectionLinkName": "my_box" },
                { "connectionName": "S", "serviceName": "slack", "connectionLinkName": "my_slack" },
            ],
        });
        let package = crate::manifest::CheckedPackage::from_stored(&manifest, &json!({}));
        let typed = package.expect("it is a manifest").manifest;
        let version = Uuid::from_u128(5);
        let of = |is_operators: bool| {
            let all = connections(&typed, &manifest, version, |_| is_operators);
            let pairs = all.into_iter().map(|one| (one.name, one.service.declared_in));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let declared = of(false);
        assert_eq!(declared["my_box"], Some(version));
        assert_eq!(declared["my_slack"], None);
        assert_eq!(declared["lonely"], Some(version));
        assert_eq!(declared[HOST_CONNECTION], None, "the host's server is never the vendor's");
        assert_eq!(of(true)["my_box"], None);
    }

    fn manifest(connectors: &Value, servers: &Value, has_host: bool) -> Value {
        let mut manifest = json!({
            "locale": ["en"], "service": "DESK", "storage": false, "whiteListedDomains": [],
            "modules": { "widgets": [{ "name": "W", "url": "/app/w.html" }] },
            "config": [], "TPAOauth": servers, "connectors": connectors,
        });
        if has_host {
            manifest["zohoAuthorisation"] = json!({
                "type": "connectors", "serviceName": "zlabs_integration", "scope": [],
            });
        }
        manifest
    }

    fn declared(manifest: &Value) -> Vec<DeclaredConnection> {
        let package = crate::manifest::CheckedPackage::from_stored(manifest, &json!({}));
        let typed = package.expect("it is a manifest").manifest;
        connections(&typed, manifest, Uuid::from_u128(5), |name| name == "operators")
    }

    fn connector(link_name: &str, service: &str) -> Value {
        json!({ "connectionName": service, "serviceName": service, "connectionLinkName": link_name })
    }

    #[test]
    fn a_token_does_not_follow_a_name_to_another_service_or_place() {
        let at = |token: &str, authorise: &str| {
            let mut server = entry();
            server["tokenUrl"] = token.into();
            server["authoriseUrl"] = authorise.into();
            declared(&manifest(&json!([connector("box", "dropbox")]), &json!([server]), true))
                .remove(1)
        };
        let former = at("https://api.box.example/token", "https://box.example/authorise");
        for same in [
            at("https://api.box.example/v2/token", "https://box.example/v2"),
            at("https://box.example/token", "https://api.box.example/authorise"),
        ] {
            assert!(same.continues(&former), "{:?}", same.own_origins);
        }
        for moved in [
            at("https://api.evil.example/token", "https://box.example/authorise"),
            at("https://api.box.example/token", "https://evil.example/authorise"),
            at("https://api.box.example:8443/token", "https://box.example/authorise"),
            at("https://box.example/token", "https://box.example/authorise"),
        ] {
            assert!(!moved.continues(&former), "{:?}", moved.own_origins);
            assert!(!former.continues(&moved), "{:?}", moved.own_origins);
        }
        // What the operator declares, he may move.
        let of_operator = || {
            declared(&manifest(&json!([connector("box", "operators")]), &json!([]), true)).remove(1)
        };
        assert!(of_operator().continues(&of_operator()));
        assert!(!of_operator().continues(&former));
    }

    /// Such manifests are refused now, and may have been published before.
    #[test]
    fn a_name_leads_to_one_connection_and_none_takes_the_hosts() {
        let twice = json!([connector("chat", "one"), connector("chat", "two")]);
        let all = declared(&manifest(&twice, &json!([]), true));
        let pairs: Vec<_> =
            all.iter().map(|one| (one.name.as_str(), one.service.name.as_str())).collect();
        assert_eq!(pairs, [(HOST_CONNECTION, "zlabs_integration"), ("chat", "one")]);
        let posing = json!([connector(HOST_CONNECTION, "dropbox")]);
        let mut server = entry();
        server["name"] = HOST_CONNECTION.into();
        for has_host in [true, false] {
            let all = declared(&manifest(&posing, &json!([entry(), server]), has_host));
            let hosts: Vec<_> = all.iter().filter(|one| one.is_host()).collect();
            assert_eq!(hosts.len(), usize::from(has_host), "{all:?}");
            assert!(hosts.iter().all(|one| one.service.name == "zlabs_integration"));
        }
    }
}
