//! The one table of routes: which role may call what, and which scope a narrowed token needs.
//!
//! What is not in it is refused. `docs/routes-and-roles.md` is written from it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use http::Method;
use utoipa::openapi::OpenApi;

use super::role::Role;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Open,
    /// The holders of a token with one of these roles.
    Roles(&'static [Role]),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, as the router writes it.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The scope that a narrowed token needs, in the reference's names; such a token may not call
    /// a route without one.
    pub scope: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
}

const fn row(
    method: Method,
    path: &'static str,
    access: Access,
    scope: Option<&'static str>,
    doc: &'static str,
) -> Route {
    Route { method, path, access, scope, doc }
}

use Access::{Open, Roles};
use Role::{Admin, Host, Marketplace, Operator, Vendor, Viewer};

const EVERYBODY: Access = Roles(&[Operator, Marketplace, Host, Vendor, Admin, Viewer]);
const OPERATOR: Access = Roles(&[Operator]);
const CATALOGUE: Access = Roles(&[Operator, Marketplace, Vendor]);
const LIFECYCLE: Access = Roles(&[Operator, Marketplace]);
const OWNER: Access = Roles(&[Operator, Vendor]);
const HOLDERS: Access = Roles(&[Operator, Marketplace, Vendor, Admin]);
const INSTALLATIONS: Access = Roles(&[Operator, Marketplace, Vendor, Admin, Viewer]);
const DELIVERIES: Access = Roles(&[Operator, Vendor, Admin, Viewer]);
const DECIDERS: Access = Roles(&[Operator, Marketplace, Admin]);
const OPENERS: Access = Roles(&[Operator, Marketplace, Host]);
const JOB_OWNERS: Access = Roles(&[Operator, Marketplace, Vendor, Admin]);
const SENDERS: Access = Roles(&[Operator, Vendor, Admin]);
const CONFIGURERS: Access = Roles(&[Operator, Admin]);
const CONFIGURATION: Access = Roles(&[Operator, Admin, Viewer]);
const USERS: Access = Roles(&[Operator, Marketplace, Admin, Viewer]);
const USER_KEEPERS: Access = Roles(&[Operator, Marketplace, Admin]);
const EVENTS: Access = Roles(&[Operator, Host, Admin, Viewer]);

const EXTENSIONS_READ: Option<&str> = Some("Desk.extensions.READ");
const EXTENSIONS_CREATE: Option<&str> = Some("Desk.extensions.CREATE");
const EXTENSIONS_UPDATE: Option<&str> = Some("Desk.extensions.UPDATE");
const WEBHOOKS_READ: Option<&str> = Some("Desk.webhooks.READ");
const WEBHOOKS_CREATE: Option<&str> = Some("Desk.webhooks.CREATE");
const WEBHOOKS_UPDATE: Option<&str> = Some("Desk.webhooks.UPDATE");
const WEBHOOKS_DELETE: Option<&str> = Some("Desk.webhooks.DELETE");
const EXTENSIONS_DELETE: Option<&str> = Some("Desk.extensions.DELETE");
const ASSIST_READ: Option<&str> = Some("ZohoAssist.webhooks.READ");
const ASSIST_CREATE: Option<&str> = Some("ZohoAssist.webhooks.CREATE");
const ASSIST_UPDATE: Option<&str> = Some("ZohoAssist.webhooks.UPDATE");
const ASSIST_DELETE: Option<&str> = Some("ZohoAssist.webhooks.DELETE");
const EVENTS_READ: Option<&str> = Some("Desk.events.READ");
const EVENTS_CREATE: Option<&str> = Some("Desk.events.CREATE");

/// Where inspectors take requests of any method, and whatever follows the address.
const INSPECT: &str = "/inspect/{token}";
const INSPECT_BELOW: [&str; 2] = ["/inspect/{token}/", "/inspect/{token}/{*rest}"];

/// Every route, in the order of the documentation.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    row(Method::POST, "/api/v1/extensions", CATALOGUE, EXTENSIONS_CREATE,
        "Publish a version of an extension"),
    row(Method::GET, "/api/v1/extensions", CATALOGUE, EXTENSIONS_READ,
        "List extensions; a vendor sees its own"),
    row(Method::POST, "/api/v1/extensions/validate", CATALOGUE, EXTENSIONS_READ,
        "Check a package and store nothing"),
    row(Method::GET, "/api/v1/extensions/{key}", CATALOGUE, EXTENSIONS_READ,
        "Show an extension"),
    row(Method::GET, "/api/v1/extensions/{key}/versions/{version}", CATALOGUE, EXTENSIONS_READ,
        "Show a version"),
    row(Method::POST, "/api/v1/extensions/{key}/versions/{version}/withdraw", CATALOGUE, EXTENSIONS_UPDATE,
        "Withdraw a version: it is not installed any more"),
    row(Method::POST, "/api/v1/extensions/{key}/versions/{version}/rollout", CATALOGUE, EXTENSIONS_UPDATE,
        "Roll a version out over the installations, as a job"),
    row(Method::GET, "/api/v1/extensions/{key}/compare", CATALOGUE, EXTENSIONS_READ,
        "What differs between two versions, and whether an upgrade needs consent"),
    row(Method::POST, "/api/v1/extensions/{key}/suspend", CATALOGUE, EXTENSIONS_UPDATE,
        "Suspend an extension in all orgs; a vendor its own"),
    row(Method::POST, "/api/v1/extensions/{key}/resume", CATALOGUE, EXTENSIONS_UPDATE,
        "Lift the suspension of an extension: each its own"),
    row(Method::GET, "/api/v1/extensions/{key}/signing-secret", OWNER, EXTENSIONS_READ,
        "Show the secret that deliveries are signed with"),
    row(Method::POST, "/api/v1/extensions/{key}/signing-secret/rotate", OWNER, EXTENSIONS_UPDATE,
        "Replace the signing secret; the old one works for a while"),

    row(Method::POST, "/api/v1/callbacks/install", LIFECYCLE, EXTENSIONS_CREATE,
        "Install an extension in an org"),
    row(Method::POST, "/api/v1/callbacks/authorize", LIFECYCLE, EXTENSIONS_UPDATE,
        "Bring an installation's authorisation code"),
    row(Method::POST, "/api/v1/callbacks/configure", LIFECYCLE, EXTENSIONS_UPDATE,
        "Change an installation's departments or parameters"),
    row(Method::POST, "/api/v1/callbacks/reauthorize", LIFECYCLE, EXTENSIONS_UPDATE,
        "Begin to authorise a connection again"),
    row(Method::POST, "/api/v1/callbacks/connect", LIFECYCLE, EXTENSIONS_UPDATE,
        "Begin to authorise a connection that the manifest declares"),
    row(Method::POST, "/api/v1/callbacks/disconnect", LIFECYCLE, EXTENSIONS_UPDATE,
        "Take a connection back"),
    row(Method::POST, "/api/v1/callbacks/upgrade", LIFECYCLE, EXTENSIONS_UPDATE,
        "Upgrade to another version, or say what that would do"),
    row(Method::POST, "/api/v1/callbacks/consent", LIFECYCLE, EXTENSIONS_UPDATE,
        "Bring consent to an upgrade that waits"),
    row(Method::POST, "/api/v1/callbacks/suspend", LIFECYCLE, EXTENSIONS_UPDATE,
        "Suspend an installation"),
    row(Method::POST, "/api/v1/callbacks/resume", LIFECYCLE, EXTENSIONS_UPDATE,
        "Lift the suspension of an installation"),
    row(Method::POST, "/api/v1/callbacks/uninstall", LIFECYCLE, EXTENSIONS_UPDATE,
        "Uninstall"),
    row(Method::POST, "/api/v1/callbacks/user-removed", LIFECYCLE, EXTENSIONS_UPDATE,
        "Break what a user granted who was removed from an org"),
    row(Method::POST, "/api/v1/callbacks/org-closed", LIFECYCLE, EXTENSIONS_UPDATE,
        "Uninstall everything that a closed org has"),
    row(Method::GET, "/api/v1/installations", INSTALLATIONS, EXTENSIONS_READ,
        "List installations; an admin sees the org's, a vendor those of its extensions"),
    row(Method::GET, "/api/v1/installations/{id}", INSTALLATIONS, EXTENSIONS_READ,
        "Show an installation"),
    row(Method::GET, "/api/v1/installations/{id}/history", INSTALLATIONS, EXTENSIONS_READ,
        "Every transition of an installation"),
    row(Method::POST, "/api/v1/installations/{id}/suspend", HOLDERS, EXTENSIONS_UPDATE,
        "Suspend an installation in one's own name"),
    row(Method::POST, "/api/v1/installations/{id}/resume", HOLDERS, EXTENSIONS_UPDATE,
        "Lift one's own suspension of an installation"),
    row(Method::POST, "/api/v1/installations/{id}/consent", DECIDERS, EXTENSIONS_UPDATE,
        "Agree to an upgrade that waits"),
    row(Method::POST, "/api/v1/installations/{id}/authorization", DECIDERS, EXTENSIONS_UPDATE,
        "Begin to authorise an upgrade that waits, or a connection once more"),
    row(Method::POST, "/api/v1/installations/{id}/uninstall", DECIDERS, EXTENSIONS_DELETE,
        "Take an extension out of the org"),
    row(Method::POST, "/api/v1/installations/{id}/vendor-setup/resend", CATALOGUE, EXTENSIONS_UPDATE,
        "Send onInstall again"),
    row(Method::GET, "/api/v1/installations/{id}/erasure", INSTALLATIONS, EXTENSIONS_READ,
        "What is to be erased of an installation, and the proof of what was"),
    row(Method::GET, "/api/v1/journal", OWNER, EXTENSIONS_READ,
        "All lifecycle events of a vendor's extensions"),
    row(Method::POST, "/api/v1/journal/{id}/redeliver", CATALOGUE, EXTENSIONS_UPDATE,
        "Send a lifecycle callback again"),

    row(Method::POST, "/api/v1/invoke", Open, None,
        "Call the host or another service as an installation; proven by securityContext and HASH"),
    row(Method::GET, "/api/v1/installations/{id}/invocations", DELIVERIES, EXTENSIONS_READ,
        "List what an installation called through invoke"),
    row(Method::GET, "/api/v1/installedExtensions/{installationId}/configParams", CONFIGURATION, EXTENSIONS_READ,
        "Show the parameters of an installation; secure ones without their value"),
    row(Method::POST, "/api/v1/installedExtensions/{installationId}/configParams", CONFIGURERS, EXTENSIONS_CREATE,
        "Set parameters of an installation"),
    row(Method::GET, "/api/v1/installedExtensions/{installationId}/storage", OWNER, EXTENSIONS_READ,
        "Read the key-value store of an installation"),
    row(Method::POST, "/api/v1/installedExtensions/{installationId}/storage", OWNER, EXTENSIONS_CREATE,
        "Write to the key-value store of an installation"),
    row(Method::DELETE, "/api/v1/installedExtensions/{installationId}/storage", OWNER, EXTENSIONS_DELETE,
        "Delete from the key-value store of an installation"),
    row(Method::GET, "/api/v1/extensions/{key}/properties", OWNER, EXTENSIONS_READ,
        "List the properties of an extension"),
    row(Method::GET, "/api/v1/extensions/{key}/properties/{name}", OWNER, EXTENSIONS_READ,
        "Show a property; a secret one without its value"),
    row(Method::PUT, "/api/v1/extensions/{key}/properties/{name}", OWNER, EXTENSIONS_UPDATE,
        "Set a property"),
    row(Method::DELETE, "/api/v1/extensions/{key}/properties/{name}", OWNER, EXTENSIONS_DELETE,
        "Delete a property"),
    row(Method::GET, "/api/v1/installations/{id}/user-tokens", USERS, EXTENSIONS_READ,
        "List the tokens of an installation's users, without their values"),
    row(Method::POST, "/api/v1/installations/{id}/user-tokens", USER_KEEPERS, EXTENSIONS_CREATE,
        "Make a user's token, in place of the former one; its value is told once"),
    row(Method::DELETE, "/api/v1/installations/{id}/user-tokens/{tokenId}", USER_KEEPERS, EXTENSIONS_DELETE,
        "Revoke a user's token"),
    row(Method::POST, "/api/v1/incoming/{extensionKey}", Open, None,
        "Post to an extension for a user, by the user's token in `zapikey`"),

    row(Method::POST, "/api/v1/events", Roles(&[Operator, Host]), EVENTS_CREATE,
        "Post events"),
    row(Method::GET, "/api/v1/events/{eventId}", EVENTS, EVENTS_READ,
        "Show an event and what every webhook of the org made of it"),
    row(Method::GET, "/api/v1/event-types", EVERYBODY, EVENTS_READ,
        "List event types with options, schema and sample"),
    row(Method::GET, "/api/v1/placeholders", EVERYBODY, EVENTS_READ,
        "List the placeholders of an event type, with templates to begin with"),

    row(Method::GET, "/api/v1/webhooks", DELIVERIES, WEBHOOKS_READ,
        "List webhooks"),
    row(Method::POST, "/api/v1/webhooks", CONFIGURERS, WEBHOOKS_CREATE,
        "Make a webhook of the org's own"),
    row(Method::GET, "/api/v1/webhooks/{id}", DELIVERIES, WEBHOOKS_READ,
        "Show a webhook"),
    row(Method::PATCH, "/api/v1/webhooks/{id}", EVERYBODY, WEBHOOKS_UPDATE,
        "Change an org's own webhook, as operator or admin; an extension's is locked for every role"),
    row(Method::PUT, "/api/v1/webhooks/{id}", EVERYBODY, WEBHOOKS_UPDATE,
        "As PATCH; an extension's is locked for every role"),
    row(Method::DELETE, "/api/v1/webhooks/{id}", EVERYBODY, WEBHOOKS_DELETE,
        "Delete an org's own webhook, as operator or admin; an extension's is locked for every role"),
    row(Method::POST, "/api/v1/webhooks/{id}/clone", CONFIGURERS, WEBHOOKS_CREATE,
        "Copy an org's own webhook; an extension's is locked"),
    row(Method::POST, "/api/v1/webhooks/{id}/enable", CONFIGURERS, WEBHOOKS_UPDATE,
        "Switch an org's own webhook on; an extension's is locked"),
    row(Method::POST, "/api/v1/webhooks/{id}/disable", CONFIGURERS, WEBHOOKS_UPDATE,
        "Switch an org's own webhook off; an extension's is locked"),
    row(Method::POST, "/api/v1/webhooks/{id}/authorization", CONFIGURERS, WEBHOOKS_UPDATE,
        "Begin to authorise an org's own webhook at its endpoint's authorisation server"),
    row(Method::POST, "/api/v1/webhooks/{id}/secret", CONFIGURERS, WEBHOOKS_UPDATE,
        "Have an own webhook sign with another secret, the former one signing on for a while"),
    row(Method::GET, "/api/v1/assist/webhooks", CONFIGURATION, ASSIST_READ,
        "List the org's own webhooks of the dialect `assist`, by Zoho Assist's names"),
    row(Method::POST, "/api/v1/assist/webhooks", CONFIGURERS, ASSIST_CREATE,
        "Make one"),
    row(Method::POST, "/api/v1/assist/webhooks/ping_url", CONFIGURERS, ASSIST_CREATE,
        "Ping URL: ping an address that is not saved"),
    row(Method::POST, "/api/v1/assist/webhooks/ping_event", CONFIGURERS, ASSIST_CREATE,
        "Ping Event: send a sample event to an address that is not saved"),
    row(Method::POST, "/api/v1/assist/webhooks/{hookId}/ping_event", CONFIGURERS, ASSIST_UPDATE,
        "Ping Event: send a sample event to one"),
    row(Method::GET, "/api/v1/assist/webhooks/{hookId}", CONFIGURATION, ASSIST_READ,
        "Show one"),
    row(Method::PUT, "/api/v1/assist/webhooks/{hookId}", CONFIGURERS, ASSIST_UPDATE,
        "Change one"),
    row(Method::DELETE, "/api/v1/assist/webhooks/{hookId}", CONFIGURERS, ASSIST_DELETE,
        "Delete one"),
    row(Method::GET, "/api/v1/orgs/{orgId}/plan", USERS, WEBHOOKS_READ,
        "Show what an org may have of its own, and how much of it is used"),
    row(Method::PUT, "/api/v1/orgs/{orgId}/plan", LIFECYCLE, None,
        "Set what an org may have of its own; what it leaves no room for is switched off"),
    row(Method::GET, "/api/v1/orgs/{orgId}/development", USERS, WEBHOOKS_READ,
        "Say whether an org is for development"),
    row(Method::PUT, "/api/v1/orgs/{orgId}/development", OPERATOR, None,
        "Mark an org as being for development, or lift that; what is not allowed any more is switched off"),
    row(Method::POST, "/api/v1/webhooks/import", CONFIGURERS, WEBHOOKS_CREATE,
        "Make own webhooks, triggers and automations of what Zendesk's or Zoho Desk's API tells, or say what would be made"),
    row(Method::POST, "/api/v1/webhooks/{id}/explain", DELIVERIES, WEBHOOKS_READ,
        "Say whether an event that is made up would match, and why not"),

    row(Method::GET, "/api/v1/recipes", CONFIGURATION, WEBHOOKS_READ,
        "List recipes: own webhooks with two values to type in"),
    row(Method::GET, "/api/v1/recipes/{id}", CONFIGURATION, WEBHOOKS_READ,
        "Show a recipe"),
    row(Method::POST, "/api/v1/recipes/{id}/apply", CONFIGURERS, WEBHOOKS_CREATE,
        "Try a recipe with two values, and make its webhook where the test is taken"),
    row(Method::GET, "/api/v1/triggers", CONFIGURATION, WEBHOOKS_READ,
        "List an org's triggers"),
    row(Method::POST, "/api/v1/triggers", CONFIGURERS, WEBHOOKS_CREATE,
        "Make a trigger, which calls an own webhook with the events that fulfil its conditions"),
    row(Method::GET, "/api/v1/triggers/{id}", CONFIGURATION, WEBHOOKS_READ,
        "Show a trigger"),
    row(Method::PATCH, "/api/v1/triggers/{id}", CONFIGURERS, WEBHOOKS_UPDATE,
        "Change a trigger"),
    row(Method::DELETE, "/api/v1/triggers/{id}", CONFIGURERS, WEBHOOKS_DELETE,
        "Delete a trigger"),
    row(Method::GET, "/api/v1/automations", CONFIGURATION, WEBHOOKS_READ,
        "List an org's automations"),
    row(Method::POST, "/api/v1/automations", CONFIGURERS, WEBHOOKS_CREATE,
        "Make an automation, which calls an own webhook some time after an event"),
    row(Method::GET, "/api/v1/automations/{id}", CONFIGURATION, WEBHOOKS_READ,
        "Show an automation"),
    row(Method::PATCH, "/api/v1/automations/{id}", CONFIGURERS, WEBHOOKS_UPDATE,
        "Change an automation"),
    row(Method::DELETE, "/api/v1/automations/{id}", CONFIGURERS, WEBHOOKS_DELETE,
        "Delete an automation"),

    row(Method::GET, "/api/v1/deliveries", DELIVERIES, WEBHOOKS_READ,
        "List deliveries"),
    row(Method::GET, "/api/v1/deliveries/{id}", DELIVERIES, WEBHOOKS_READ,
        "Show a delivery with its attempts"),
    row(Method::GET, "/api/v1/deliveries/{id}/request", DELIVERIES, WEBHOOKS_READ,
        "Show what a delivery is sent as"),
    row(Method::GET, "/api/v1/webhooks/{id}/statistics", DELIVERIES, WEBHOOKS_READ,
        "Show how a webhook does, in figures"),
    row(Method::POST, "/api/v1/deliveries/{id}/retry", SENDERS, WEBHOOKS_UPDATE,
        "Deliver again; on an extension's webhook an admin is refused"),
    row(Method::POST, "/api/v1/webhooks/{id}/recover", SENDERS, WEBHOOKS_UPDATE,
        "Deliver many again, as a job; on an extension's webhook an admin is refused"),
    row(Method::POST, "/api/v1/webhooks/{id}/reactivate", SENDERS, WEBHOOKS_UPDATE,
        "Make a webhook live again; on an extension's webhook an admin is refused"),
    row(Method::GET, "/api/v1/jobs", INSTALLATIONS, WEBHOOKS_READ,
        "List jobs: those that deliver again, and (not for admins) rollouts; a marketplace sees rollouts only"),
    row(Method::GET, "/api/v1/jobs/{id}", INSTALLATIONS, WEBHOOKS_READ,
        "Show a job with its progress"),
    row(Method::POST, "/api/v1/jobs/{id}/cancel", JOB_OWNERS, WEBHOOKS_UPDATE,
        "Call a job off; on an extension's webhook an admin is refused"),
    row(Method::POST, "/api/v1/webhooks/ping", SENDERS, WEBHOOKS_UPDATE,
        "Ping an address that is not saved"),
    row(Method::POST, "/api/v1/webhooks/test", SENDERS, WEBHOOKS_UPDATE,
        "Send a sample event to a webhook that is not saved"),
    row(Method::POST, "/api/v1/webhooks/{id}/ping", SENDERS, WEBHOOKS_UPDATE,
        "Ping a webhook; on an extension's webhook an admin is refused"),
    row(Method::POST, "/api/v1/webhooks/{id}/test", SENDERS, WEBHOOKS_UPDATE,
        "Send a sample event; on an extension's webhook an admin is refused"),

    row(Method::GET, "/api/v1/notices", DELIVERIES, WEBHOOKS_READ,
        "List what one must know; an admin sees the org's, a vendor its extensions'"),
    row(Method::POST, "/api/v1/notices/{id}/dismiss", SENDERS, WEBHOOKS_UPDATE,
        "Put a notice aside until it happens again"),

    row(Method::POST, "/api/v1/inspectors", SENDERS, WEBHOOKS_UPDATE,
        "Make an inspector: an address that takes any request and shows it"),
    row(Method::GET, "/api/v1/inspectors", DELIVERIES, WEBHOOKS_READ,
        "List inspectors; an admin sees the org's, a vendor its own"),
    row(Method::GET, "/api/v1/inspectors/{id}", DELIVERIES, WEBHOOKS_READ,
        "Show an inspector"),
    row(Method::DELETE, "/api/v1/inspectors/{id}", SENDERS, WEBHOOKS_UPDATE,
        "End an inspector, with what came to it"),
    row(Method::GET, "/api/v1/inspectors/{id}/requests", DELIVERIES, WEBHOOKS_READ,
        "What came to an inspector"),

    row(Method::POST, "/api/v1/listeners", DELIVERIES, WEBHOOKS_READ,
        "Begin to follow deliveries as they are made"),
    row(Method::GET, "/api/v1/listeners/{id}", DELIVERIES, WEBHOOKS_READ,
        "Show a listener of this token"),
    row(Method::DELETE, "/api/v1/listeners/{id}", DELIVERIES, WEBHOOKS_READ,
        "End a listener of this token"),
    row(Method::GET, "/api/v1/listeners/{id}/deliveries", DELIVERIES, WEBHOOKS_READ,
        "The requests that were sent since, as soon as there are any; only a vendor sees securityContext"),
    row(Method::POST, "/api/v1/listeners/{id}/answers", DELIVERIES, WEBHOOKS_READ,
        "Note what the listener's own server answered"),

    row(Method::GET, "/api/v1/tokens", OPERATOR, None, "List API tokens"),
    row(Method::POST, "/api/v1/tokens", OPERATOR, None,
        "Make an API token; its value is told once"),
    row(Method::DELETE, "/api/v1/tokens/{id}", OPERATOR, None, "Revoke an API token"),

    row(Method::POST, "/api/v1/portal-links", OPENERS, None,
        "Open the pages for somebody: the host for administrators and viewers of an org, the marketplace for vendors too, the operator for all"),

    row(Method::DELETE, "/api/v1/portal-sessions", OPENERS, None,
        "End sessions of the pages and unused links: those of an org, of a vendor, or of one person"),

    row(Method::GET, "/api/v1/operation", OPERATOR, None,
        "How delivering does: queues, breakers, failing and slow webhooks"),
    row(Method::GET, "/api/v1/audit", OPERATOR, None, "Look something up in the audit"),

    row(Method::GET, "/api/v1/keys", OPERATOR, None,
        "List signing keys and data keys, and rotations with their progress"),
    row(Method::POST, "/api/v1/keys/{purpose}/rotate", OPERATOR, None,
        "Replace a signing key, or a data key with all that it sealed"),

    row(Method::GET, "/api/v1/reconcile", OPERATOR, None,
        "What the last comparison of what is there with what should be found"),
    row(Method::POST, "/api/v1/reconcile", OPERATOR, None,
        "Compare what is there with what should be, and repair it where asked to"),
    row(Method::GET, "/api/v1/doctor", OPERATOR, None,
        "Check configuration, database, keys, clock, nodes and audit"),
    row(Method::POST, "/api/v1/hold/release", OPERATOR, None,
        "Let deliveries go that a restored backup holds"),

    row(Method::GET, INSPECT, Open, None, "Takes a request for an inspector"),
    row(Method::POST, INSPECT, Open, None, "As GET; every other method is taken too"),
    row(Method::PUT, INSPECT, Open, None, "As GET"),
    row(Method::PATCH, INSPECT, Open, None, "As GET"),
    row(Method::DELETE, INSPECT, Open, None, "As GET"),

    row(Method::GET, "/oauth/start/{nonce}", Open, None,
        "One-time start of an authorisation in the browser"),
    row(Method::GET, "/oauth/webhooks/start/{nonce}", Open, None,
        "A one-time link that binds the browser and goes on to the authorisation server of an own webhook"),
    row(Method::GET, "/oauth/webhooks/callback", Open, None,
        "Where the authorisation server of an own webhook's endpoint sends the browser back to"),
    row(Method::GET, "/oauth/callback", Open, None,
        "Where the provider sends the browser back to"),
    row(Method::GET, "/oauth/callback/{place}", Open, None,
        "Where a provider that a manifest declares sends the browser back to"),
    row(Method::GET, "/metrics", OPERATOR, None,
        "What this process counts, for Prometheus; without a token on `metrics.listen`"),
    row(Method::GET, "/health/live", Open, None, "Whether the process runs"),
    row(Method::GET, "/health/ready", Open, None, "Whether requests can be served"),
    row(Method::GET, "/.well-known/jwks.json", Open, None, "The public keys of `X-ZDesk-JWT` and of `v1a` signatures"),
    row(Method::GET, "/openapi.json", Open, None, "This API as an OpenAPI 3.1 document"),
    row(Method::GET, "/asyncapi.json", Open, None, "What vendors receive, as an AsyncAPI 3.0 document"),
    row(Method::GET, "/docs", Open, None, "This API as a page to read"),
    row(Method::GET, "/problems/{kind}", Open, None, "What a problem means and what to do, as a page"),
    row(Method::GET, "/schemas/{*path}", Open, None, "The JSON Schemas of packages and events"),
];

static BY_PATH: LazyLock<HashMap<&'static str, Vec<&'static Route>>> = LazyLock::new(|| {
    let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
    for route in ROUTES {
        by_path.entry(route.path).or_default().push(route);
    }
    by_path
});

/// What the table says of a method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The row.
    Found(&'static Route),
    /// The path takes these other methods, as `Allow` lists them.
    OtherMethods(String),
    /// The path is not in the table.
    Unknown,
}

/// Whether the answer of a matched path may be delayed on purpose: its time says nothing.
pub(super) fn may_wait(path: Option<&str>) -> bool {
    path.is_some_and(|path| {
        path == INSPECT
            || INSPECT_BELOW.contains(&path)
            || path == "/api/v1/listeners/{id}/deliveries"
    })
}

/// Looks a request up, by its method and the path that the router matched. HEAD is GET.
pub fn find(method: &Method, path: &str) -> Lookup {
    let takes_any = path == INSPECT || INSPECT_BELOW.contains(&path);
    let path = if takes_any { INSPECT } else { path };
    let Some(routes) = BY_PATH.get(path) else { return Lookup::Unknown };
    if takes_any && let Some(route) = routes.first() {
        return Lookup::Found(route);
    }
    let method = if method == Method::HEAD { &Method::GET } else { method };
    if let Some(route) = routes.iter().find(|route| route.method == *method) {
        return Lookup::Found(route);
    }
    let mut methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    Lookup::OtherMethods(methods.join(", "))
}

/// Whether the desk dialect's `Zoho-oauthtoken` works on a path.
pub fn is_desk_dialect(path: &str) -> bool {
    ["/api/v1/webhooks", "/api/v1/installedExtensions"].iter().any(|prefix| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The methods and paths of a document, which the router was made from.
pub fn mounted(document: &OpenApi) -> Vec<(Method, String)> {
    let mut mounted = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
            (Method::HEAD, &item.head),
            (Method::OPTIONS, &item.options),
            (Method::TRACE, &item.trace),
        ] {
            if operation.is_some() {
                mounted.push((method, path.clone()));
            }
        }
    }
    mounted
}

/// How the table and the router differ: rows that nobody serves, and routes without a row, each
/// as `METHOD path`.
pub fn missing_and_extra(mounted: &[(Method, String)]) -> (Vec<String>, Vec<String>) {
    let is_row = |method: &Method, path: &str| {
        ROUTES.iter().any(|route| route.method == *method && route.path == path)
    };
    let missing = ROUTES
        .iter()
        .filter(|route| {
            !mounted.iter().any(|(method, path)| *method == route.method && path == route.path)
        })
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    let extra = mounted
        .iter()
        .filter(|(method, path)| !is_row(method, path))
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    (missing, extra)
}

/// The table for people, for `docs/routes-and-roles.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Routes and roles\n\n\
         Who may call what. A token has one role; a token that is narrowed to scopes needs the \
         scope of the route too, or the `ALL` of its group. What is not listed is refused.\n\n\
         This file is written by `UPDATE_DOCS=1 cargo nextest run --lib api::routes`.\n\n\
         | method | path | what it does | scope |",
    );
    let _infallible = write!(
        text,
        "{}\n| --- | --- | --- | --- |{}\n",
        Role::ALL.iter().fold(String::new(), |line, role| line + " " + role.as_str() + " |"),
        " :-: |".repeat(Role::ALL.len())
    );
    for route in ROUTES {
        let scope = route.scope.map(|scope| format!("`{scope}`")).unwrap_or_default();
        let _infallible =
            write!(text, "| {} | `{}` | {} | {scope} |", route.method, route.path, route.doc);
        for role in Role::ALL {
            text.push_str(match route.access {
                Open => " open |",
                Roles(roles) if roles.contains(role) => " yes |",
                Roles(_) => " |",
            });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::documented;

    #[test]
    fn no_row_is_there_twice_and_every_path_is_guarded() {
        let mut seen = Vec::new();
        for route in ROUTES {
            let name = format!("{} {}", route.method, route.path);
            assert!(!seen.contains(&name), "{name}");
            seen.push(name);
            // These two are proven by what they bring, not by a token.
            let is_proven_otherwise =
                route.path == "/api/v1/invoke" || route.path.starts_with("/api/v1/incoming/");
            let is_below_api = route.path.starts_with("/api/") || route.path == "/metrics";
            let is_open = !is_below_api || is_proven_otherwise;
            assert_eq!(route.access == Open, is_open, "{}", route.path);
            if let Roles(roles) = route.access {
                assert!(roles.contains(&Operator), "{}: the operator may everything", route.path);
            }
        }
    }

    #[test]
    fn a_request_finds_its_row() {
        assert!(matches!(
            find(&Method::HEAD, "/api/v1/tokens"),
            Lookup::Found(Route { method: Method::GET, .. })
        ));
        assert_eq!(
            find(&Method::PATCH, "/api/v1/tokens"),
            Lookup::OtherMethods("GET, POST, HEAD".to_owned())
        );
        assert_eq!(find(&Method::GET, "/api/v1/tokens/"), Lookup::Unknown);
    }

    #[test]
    fn inspectors_take_every_method() {
        let odd = Method::from_bytes(b"PROPFIND").expect("a method");
        for path in [INSPECT, INSPECT_BELOW[0], INSPECT_BELOW[1]] {
            for method in [&Method::GET, &Method::OPTIONS, &Method::TRACE, &odd] {
                let found = find(method, path);
                assert!(matches!(found, Lookup::Found(Route { access: Open, .. })), "{method}");
            }
        }
    }

    #[test]
    fn differences_are_found_both_ways() {
        let mut mounted: Vec<_> =
            ROUTES.iter().map(|route| (route.method.clone(), route.path.to_owned())).collect();
        assert_eq!(missing_and_extra(&mounted), (Vec::new(), Vec::new()));
        mounted[0].1 = "/api/v1/other".to_owned();
        assert_eq!(
            missing_and_extra(&mounted),
            (vec!["POST /api/v1/extensions".to_owned()], vec!["POST /api/v1/other".to_owned()])
        );
    }

    #[test]
    fn the_desk_dialect_ends_where_another_path_begins() {
        assert!(is_desk_dialect("/api/v1/webhooks") && is_desk_dialect("/api/v1/webhooks/{id}"));
        assert!(!is_desk_dialect("/api/v1/webhooksx") && !is_desk_dialect("/api/v1/events"));
    }

    #[test]
    fn the_documentation_lists_every_route() {
        documented("docs/routes-and-roles.md", &reference());
    }
}
