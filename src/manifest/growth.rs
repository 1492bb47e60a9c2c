//! Whether a version asks for more than the one before, and so needs consent.

use std::collections::BTreeSet;

use serde::Serialize;
use url::Url;

use super::own_servers::own_connections;
use super::package::CheckedPackage;

/// One thing that a new version asks for and the old one did not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Growth {
    /// A connection to a provider that it had none to.
    Connection {
        /// The provider's name in the manifest.
        service_name: String,
    },
    /// A scope that none of its scopes at that provider covers.
    Scope {
        /// The provider's name in the manifest.
        service_name: String,
        /// The scope.
        scope: String,
    },
    /// An event type that it did not receive.
    Event {
        /// The name of the event type.
        event_type: String,
    },
    /// A host that nothing was sent to.
    CallbackHost {
        /// The host and port.
        host: String,
    },
    /// A secret that administrators were not asked for.
    SecretParameter {
        /// The name of the parameter.
        name: String,
    },
}

/// Whether having one scope means having another: `Desk.tickets.ALL` covers `Desk.tickets.READ`.
pub fn scope_covers(held: &str, wanted: &str) -> bool {
    held == wanted
        || held.strip_suffix("ALL").filter(|stem| stem.ends_with('.')).is_some_and(|stem| {
            wanted.strip_prefix(stem).is_some_and(|last| !last.is_empty() && !last.contains('.'))
        })
}

/// Everything that a package asks for.
fn asks(package: &CheckedPackage) -> BTreeSet<Growth> {
    let manifest = &package.manifest;
    let mut asks = BTreeSet::new();
    let own = manifest.authorisation.iter().map(|own| (&own.service_name, &own.scopes));
    let others = manifest.connectors.iter().map(|other| (&other.service_name, &other.scopes));
    let by_themselves = own_connections(manifest, package.stripped_manifest());
    let by_themselves = by_themselves.iter().map(|one| (&one.name, &one.scopes));
    for (service_name, scopes) in own.chain(others).chain(by_themselves) {
        asks.insert(Growth::Connection { service_name: service_name.clone() });
        asks.extend(scopes.iter().map(|scope| Growth::Scope {
            service_name: service_name.clone(),
            scope: scope.clone(),
        }));
    }
    if let Some(webhook) = &package.webhook {
        asks.extend(
            webhook.subscriptions.keys().map(|name| Growth::Event { event_type: name.clone() }),
        );
    }
    let urls = (manifest.callback_listener.values())
        .chain(&manifest.installation_validator)
        .chain(&manifest.incoming_webhook)
        .chain(package.webhook.as_ref().map(|webhook| &webhook.url));
    asks.extend(urls.filter_map(host).map(|host| Growth::CallbackHost { host }));
    let secrets = manifest.parameters.iter().filter(|parameter| parameter.secure);
    asks.extend(secrets.map(|secret| Growth::SecretParameter { name: secret.name.clone() }));
    asks
}

/// Host and port: another port is another receiver, and plain http has another one too.
fn host(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?.trim_end_matches('.'), url.port_or_known_default()?))
}

/// What the new version asks for beyond the old one. Empty exactly where it asks for no more.
pub fn growth(old: &CheckedPackage, new: &CheckedPackage) -> Vec<Growth> {
    let held = asks(old);
    asks(new).into_iter().filter(|wanted| !is_held(&held, wanted)).collect()
}

fn is_held(held: &BTreeSet<Growth>, wanted: &Growth) -> bool {
    held.contains(wanted)
        || matches!(wanted, Growth::Scope { service_name: service, scope: wanted } if held
            .iter()
            .any(|one| matches!(one, Growth::Scope { service_name, scope }
                if service_name == service && scope_covers(scope, wanted))))
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
