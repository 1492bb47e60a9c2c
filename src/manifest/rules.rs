//! The rules that a schema can't say: uniqueness, URLs, events, and what holds across the files.
//!
//! A rule passes over what has the wrong type, since the schema tells that already.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    diagnostic::{MANIFEST_FILE, RESOURCES_FILE, Severity, escaped, nearest, shown},
    digest::{SEALED, split_secrets},
    findings::Findings,
    links::{self, Codes, Place},
    policy::Policy,
    position::Part,
    schema::event_types,
};

/// The scope without which no event may be sent to an extension.
const EVENTS_SCOPE: &str = "Desk.events.ALL";
/// The reference's own sentence, to the letter.
const SCOPE_MISSING: &str =
    "The webhook resource should have connection in zohoAuthorisation with Desk.events.ALL scope.";
/// The reference's own sentence, to the letter: the misspelling is its own.
const NOT_ORG_TYPE: &str = "webhook should be configured for org exension type";
/// The service that stands for the host itself, which is no connector.
const OWN_SERVICE: &str = "zlabs_integration";

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn non_empty<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Reports every text that stood before; the texts come with their pointers.
fn unique<'a>(
    findings: &mut Findings<'_>,
    code: &'static str,
    file: &'static str,
    texts: impl IntoIterator<Item = (String, &'a str)>,
) {
    let mut first: HashMap<&str, String> = HashMap::new();
    for (pointer, text) in texts {
        if let Some(before) = first.get(text) {
            let message = format!("{} stands here a second time", shown(text));
            findings
                .report(code, Severity::Error, file, &pointer, Part::Value, message)
                .relate(file, before.clone())
                .suggest("give each its own");
        } else {
            first.insert(text, pointer);
        }
    }
}

/// The texts under a key of every item of a list, with their pointers.
fn members<'a>(value: &'a Value, list: &str, key: &str) -> Vec<(String, &'a str)> {
    items(value, list)
        .filter_map(|(index, item)| Some((format!("{list}/{index}/{key}"), non_empty(item, key)?)))
        .collect()
}

/// The rules of the manifest alone.
pub(crate) fn manifest(findings: &mut Findings<'_>, policy: &Policy, manifest: &Value) {
    for (code, list, key) in [
        ("widget.duplicate-name", "/modules/widgets", "name"),
        ("config.duplicate-name", "/config", "name"),
        ("connector.duplicate-name", "/connectors", "connectionName"),
        ("connector.duplicate-service", "/connectors", "serviceName"),
    ] {
        unique(findings, code, MANIFEST_FILE, members(manifest, list, key));
    }
    for (pointer, service) in members(manifest, "/connectors", "serviceName") {
        if service == OWN_SERVICE {
            let message = format!("{OWN_SERVICE} is the host itself, and no connector");
            findings
                .report(
                    "connector.own-service",
                    Severity::Error,
                    MANIFEST_FILE,
                    &pointer,
                    Part::Value,
                    message,
                )
                .relate(MANIFEST_FILE, "/zohoAuthorisation")
                .suggest("move the connection to zohoAuthorisation");
        }
    }
    for (pointer, _) in split_secrets(manifest).1.iter().filter(|(_, secret)| *secret == SEALED) {
        findings
            .report(
                "secret.marker",
                Severity::Warning,
                MANIFEST_FILE,
                pointer,
                Part::Value,
                "this is the mark that is shown in place of a secret, which everybody knows"
                    .to_owned(),
            )
            .suggest("write the secret itself");
    }
    addresses(findings, policy, manifest);
    callbacks(findings, policy, manifest);
    for (index, scope) in items(manifest, "/zohoAuthorisation/scope") {
        if let Some(scope) = scope.as_str()
            && policy.denied_scopes.iter().any(|denied| denied == scope)
        {
            let message = format!("the scope {} is not granted to extensions here", shown(scope));
            let pointer = format!("/zohoAuthorisation/scope/{index}");
            findings
                .report(
                    "authorization.scope-denied",
                    Severity::Error,
                    MANIFEST_FILE,
                    &pointer,
                    Part::Value,
                    message,
                )
                .suggest("ask for a narrower scope, or ask the operator");
        }
    }
}

/// URLs of widgets, domains and authorisation servers.
fn addresses(findings: &mut Findings<'_>, policy: &Policy, manifest: &Value) {
    let file = MANIFEST_FILE;
    for (pointer, url) in members(manifest, "/modules/widgets", "url") {
        // A rooted path is a file of the package; what starts with a brace is made up later.
        if url.starts_with(['/', '{']) {
            continue;
        }
        let codes = Codes { invalid: "widget.url-invalid", host: "widget.host-not-public" };
        let place = Place { file, pointer: &pointer };
        links::named(findings, policy, place, codes, &["https", "http"], url);
    }
    let codes = Codes { invalid: "domain.invalid", host: "domain.host-not-public" };
    let schemes = ["http", "https", "wss"];
    for (index, domain) in items(manifest, "/whiteListedDomains") {
        if let Some(domain) = domain.as_str() {
            let pointer = format!("/whiteListedDomains/{index}");
            links::named(
                findings,
                policy,
                Place { file, pointer: &pointer },
                codes,
                &schemes,
                domain,
            );
        }
    }
    let sources: Vec<_> = items(manifest, "/cspDomains/connect-src")
        .filter_map(|(index, source)| {
            Some((format!("/cspDomains/connect-src/{index}"), source.as_str()?))
        })
        .collect();
    for (pointer, source) in &sources {
        if *source != "blob:" {
            let codes = Codes { invalid: "csp.invalid", host: "csp.host-not-public" };
            links::named(
                findings,
                policy,
                Place { file, pointer },
                codes,
                &["http", "https", "wss", "ws"],
                source,
            );
        }
    }
    unique(findings, "csp.duplicate", file, sources);
    let codes = Codes { invalid: "oauth.url-invalid", host: "oauth.host-not-public" };
    for key in ["authoriseUrl", "tokenUrl", "revokeUrl"] {
        for (pointer, url) in members(manifest, "/TPAOauth", key) {
            let place = Place { file, pointer: &pointer };
            links::named(findings, policy, place, codes, &["https", "http"], url);
        }
    }
}

fn callbacks(findings: &mut Findings<'_>, policy: &Policy, manifest: &Value) {
    let Some(listener) = manifest.get("callbackListener") else { return };
    if manifest.get("secret").is_none_or(Value::is_null) {
        findings
            .report(
                "callback.secret-missing",
                Severity::Error,
                MANIFEST_FILE,
                "/callbackListener",
                Part::Key,
                "callbacks are signed with the key \"secret\", which is missing".to_owned(),
            )
            .relate(MANIFEST_FILE, "/secret")
            .suggest("add \"secret\" with a long random text");
    }
    let codes = Codes { invalid: "callback.url-invalid", host: "callback.host-not-public" };
    for (event, url) in listener.as_object().into_iter().flatten() {
        if let Some(url) = url.as_str() {
            let pointer = format!("/callbackListener/{}", escaped(event));
            let place = Place { file: MANIFEST_FILE, pointer: &pointer };
            links::called(findings, policy, place, codes, url);
        }
    }
}

/// The rules of the resources alone.
pub(crate) fn resources(findings: &mut Findings<'_>, policy: &Policy, resources: &Value) {
    let mut names = Vec::new();
    for kind in ["webhook", "channel", "meeting"] {
        if let Some(name) = resources.get(kind).and_then(|one| non_empty(one, "resourceName")) {
            names.push((format!("/{kind}/resourceName"), name));
        }
    }
    for kind in ["/customActions", "/fields", "/targets", "/permissions"] {
        names.extend(members(resources, kind, "resourceName"));
    }
    unique(findings, "resource.duplicate-name", RESOURCES_FILE, names);
    let apis = members(resources, "/permissions", "apiName");
    unique(findings, "permission.duplicate-name", RESOURCES_FILE, apis);
    let Some(webhook) = resources.get("webhook") else { return };
    if let Some(url) = non_empty(webhook, "url") {
        let codes = Codes { invalid: "webhook.url-invalid", host: "webhook.host-not-public" };
        let place = Place { file: RESOURCES_FILE, pointer: "/webhook/url" };
        links::called(findings, policy, place, codes, url);
    }
    let Some(subscriptions) = webhook.get("subscriptions").and_then(Value::as_object) else {
        return;
    };
    if subscriptions.is_empty() {
        findings.report(
            "webhook.no-events",
            Severity::Warning,
            RESOURCES_FILE,
            "/webhook/subscriptions",
            Part::Key,
            "the webhook subscribes to no event, so nothing will be sent".to_owned(),
        );
    }
    for (event, options) in subscriptions {
        subscription(findings, event, options);
    }
}

fn subscription(findings: &mut Findings<'_>, event: &str, options: &Value) {
    let file = RESOURCES_FILE;
    let pointer = format!("/webhook/subscriptions/{}", escaped(event));
    let Some(known) = event_types().iter().find(|known| known.name == event) else {
        let message = format!("there is no event {}", shown(event));
        // A flood of names is not worth the comparisons.
        let near = (!findings.is_full())
            .then(|| nearest(event, event_types().iter().map(|known| known.name.as_str())))
            .flatten();
        let finding = findings.report(
            "webhook.event-unknown",
            Severity::Error,
            file,
            &pointer,
            Part::Key,
            message,
        );
        if let Some(near) = near {
            finding.suggest(format!("did you mean {near:?}?"));
        }
        return;
    };
    for option in options.as_object().into_iter().flat_map(serde_json::Map::keys) {
        let place = format!("{pointer}/{}", escaped(option));
        if option == "departmentIds" {
            findings
                .report(
                    "webhook.department-ids",
                    Severity::Warning,
                    file,
                    &place,
                    Part::Key,
                    "departmentIds is ignored in a package: the departments of the installation \
                     take its place"
                        .to_owned(),
                )
                .suggest("take departmentIds out");
        } else if !known.options.contains(option) {
            let names: Vec<_> = known
                .options
                .iter()
                .map(String::as_str)
                .filter(|name| *name != "departmentIds")
                .collect();
            let message = format!("the event {event} has no option {}", shown(option));
            let suggestion = match (nearest(option, names.iter().copied()), names.is_empty()) {
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, true) => "write null: the event has no options".to_owned(),
                (None, false) => format!("it has: {}", names.join(", ")),
            };
            findings
                .report(
                    "webhook.option-unsupported",
                    Severity::Error,
                    file,
                    &place,
                    Part::Key,
                    message,
                )
                .suggest(suggestion);
        }
    }
}

/// The rules that need both files.
pub(crate) fn across(findings: &mut Findings<'_>, manifest: &Value, resources: &Value) {
    if resources.get("webhook").is_none() {
        return;
    }
    let mut webhook = |code, message: &str, related: &str, suggestion: &str| {
        findings
            .report(
                code,
                Severity::Error,
                RESOURCES_FILE,
                "/webhook",
                Part::Key,
                message.to_owned(),
            )
            .relate(MANIFEST_FILE, related)
            .suggest(suggestion);
    };
    if !items(manifest, "/zohoAuthorisation/scope").any(|(_, scope)| scope == EVENTS_SCOPE) {
        webhook(
            "webhook.scope-missing",
            SCOPE_MISSING,
            "/zohoAuthorisation/scope",
            "add \"Desk.events.ALL\" to zohoAuthorisation.scope in plugin-manifest.json",
        );
    }
    if manifest.get("type").and_then(Value::as_str) != Some("org") {
        webhook(
            "webhook.not-org-type",
            NOT_ORG_TYPE,
            "/type",
            "set \"type\": \"org\" in plugin-manifest.json",
        );
    }
}
