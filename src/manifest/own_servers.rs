//! Authorisation servers that a manifest brings itself (`TPAOauth`), and the connections that they are.

use serde_json::Value;

use super::package::Manifest;

/// The name of the connection that `zohoAuthorisation` declares.
pub const HOST_CONNECTION: &str = "zohoAuthorisation";

/// A connection that an entry of `TPAOauth` is by itself: no connector names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnConnection {
    /// The entry's name: that of the connection and of its service.
    pub name: String,
    /// The scopes of `params.scope`.
    pub scopes: Vec<String>,
}

/// The entries of a manifest's `TPAOauth`, each with its place in the list.
pub fn own_servers(manifest: &Value) -> impl Iterator<Item = (usize, &Value)> {
    manifest.get("TPAOauth").and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// The connections of a manifest that none of its other connections names or uses.
pub fn own_connections(manifest: &Manifest, document: &Value) -> Vec<OwnConnection> {
    // The host's name is the host's, also where a manifest has no connection to it.
    let mut known: Vec<&str> = vec![HOST_CONNECTION];
    known.extend(manifest.authorisation.iter().map(|host| host.service_name.as_str()));
    for other in &manifest.connectors {
        known.extend([other.connection_link_name.as_str(), other.service_name.as_str()]);
    }
    let mut own = Vec::new();
    for (_, entry) in own_servers(document) {
        let name = entry.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let Some(name) = name.filter(|name| !known.contains(name)) else { continue };
        known.push(name);
        let scopes = entry
            .pointer("/params/scope")
            .and_then(Value::as_str)
            .map(|scopes| scopes.split([' ', ',']).filter(|scope| !scope.is_empty()))
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        own.push(OwnConnection { name: name.to_owned(), scopes });
    }
    own
}
