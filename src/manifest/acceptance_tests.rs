//! What is refused and what is not, row by row: the reference refuses it, or is documented to; what
//! it accepts is accepted.

use serde_json::{Value, json};

use super::*;

/// A package as files, with one value put in or taken out.
fn package(file: &str, pointer: &str, value: Option<Value>) -> PackageSource {
    let mut manifest = json!({
        "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
        "whiteListedDomains": ["https://api.example.com"],
        "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html", "icon": "/app/icon.png" }] },
        "cspDomains": { "connect-src": [] },
        "zohoAuthorisation": { "type": "connectors", "scope": ["Desk.events.ALL"] },
        "connectors": [], "config": [],
    });
    let mut resources = json!({ "webhook": {
        "resourceName": "hook", "url": "https://hooks.example.com/desk", "name": "Hook",
        "subscriptions": { "Ticket_Add": null },
        "ignoreSourceId": "7b1c2d04-3a58-4f6e-9c1d-5e0f8a9b2c31",
    }});
    let target = if file == MANIFEST_FILE { &mut manifest } else { &mut resources };
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = target.pointer_mut(parent).expect("a parent");
    match (parent, value) {
        (Value::Array(items), Some(value)) => items.push(value),
        (Value::Object(members), Some(value)) => drop(members.insert(key.to_owned(), value)),
        (Value::Object(members), None) => drop(members.remove(key)),
        (parent, _) => panic!("{parent}"),
    }
    let mut intake = intake::Intake::new(Limits::default());
    for (name, content) in [
        (MANIFEST_FILE, manifest.to_string()),
        (RESOURCES_FILE, resources.to_string()),
        ("app/panel.html", "<p>".to_owned()),
        ("app/icon.png", "png".to_owned()),
        ("app/translations/en.json", "{}".to_owned()),
    ] {
        let kind = intake::EntryKind::File;
        intake.admit(&intake::Entry { name, kind, size: 1, packed: None });
        intake.keep(name, content.into_bytes());
    }
    PackageSource::of_intake(intake.close())
}

/// The diagnostics for one change: severity, code and pointer.
fn told(file: &str, pointer: &str, value: Option<Value>) -> Vec<(Severity, &'static str, String)> {
    let checked = check(&package(file, pointer, value), &Policy::strict_offline());
    checked.diagnostics.into_iter().map(|one| (one.severity, one.code, one.pointer)).collect()
}

/// One error of that code at that place, and nothing else.
fn refused(file: &str, pointer: &str, value: Value, code: &str, at: &str) {
    let value = (value != json!("(gone)")).then_some(value);
    assert_eq!(
        told(file, pointer, value.clone()),
        [(Severity::Error, code, at.to_owned())],
        "{pointer}: {value:?}"
    );
}

/// No error; one warning of that code, or none at all where the code is empty.
fn accepted(file: &str, pointer: &str, value: Value, code: &str) {
    let value = (value != json!("(gone)")).then_some(value);
    let told = told(file, pointer, value.clone());
    let codes: Vec<_> = told.iter().map(|(severity, code, _)| (*severity, *code)).collect();
    let expected: &[_] = if code.is_empty() { &[] } else { &[(Severity::Warning, code)] };
    assert_eq!(codes, expected, "{pointer}: {value:?}");
}

#[test]
fn manifests_are_refused_where_the_reference_refuses_them() {
    let gone = || json!("(gone)");
    let rows = [
        ("/locale", gone(), "key.missing", ""),
        ("/service", gone(), "key.missing", ""),
        ("/storage", gone(), "key.missing", ""),
        ("/whiteListedDomains", gone(), "key.missing", ""),
        ("/modules", gone(), "key.missing", ""),
        ("/connectors", gone(), "key.missing", ""),
        ("/config", gone(), "key.missing", ""),
        ("/locale", json!("en"), "value.type", "/locale"),
        ("/locale", json!([]), "locale.default-missing", "/locale"),
        ("/locale/-", json!("klingon"), "value.not-listed", "/locale/1"),
        ("/locale/-", json!("fr"), "locale.translation-missing", "/locale/1"),
        ("/service", json!("Desk"), "value.not-listed", "/service"),
        ("/storage", json!("true"), "value.type", "/storage"),
        ("/modules", json!({}), "key.missing", "/modules"),
        ("/modules/widgets", json!({}), "value.type", "/modules/widgets"),
        ("/modules/widgets", json!([]), "value.too-few", "/modules/widgets"),
        ("/modules/widgets/0/name", gone(), "key.missing", "/modules/widgets/0"),
        ("/modules/widgets/0/url", gone(), "key.missing", "/modules/widgets/0"),
        ("/modules/widgets/0/name", json!("a+b"), "name.pattern", "/modules/widgets/0/name"),
        ("/modules/widgets/0/url", json!("panel.html"), "widget.url", "/modules/widgets/0/url"),
        ("/modules/widgets/0/url", json!("/panel.html"), "file.missing", "/modules/widgets/0/url"),
        (
            "/modules/widgets/0/logo",
            json!("/app/l.bmp"),
            "file.not-an-image",
            "/modules/widgets/0/logo",
        ),
        ("/modules/widgets/0/logo", json!("/app/l.png"), "file.missing", "/modules/widgets/0/logo"),
        (
            "/whiteListedDomains",
            json!("https://a.example.com"),
            "value.type",
            "/whiteListedDomains",
        ),
        (
            "/whiteListedDomains/-",
            json!("ftp://a.example.com"),
            "domain.invalid",
            "/whiteListedDomains/1",
        ),
        (
            "/whiteListedDomains/-",
            json!("a.example.com"),
            "domain.invalid",
            "/whiteListedDomains/1",
        ),
        ("/cspDomains", json!([]), "value.type", "/cspDomains"),
        ("/cspDomains/connect-src", gone(), "csp.connect-src-missing", "/cspDomains"),
        (
            "/cspDomains/connect-src/-",
            json!("example.com"),
            "csp.invalid",
            "/cspDomains/connect-src/0",
        ),
        ("/zohoAuthorisation/type", gone(), "authorisation.type-missing", "/zohoAuthorisation"),
        (
            "/zohoAuthorisation/serviceName",
            json!("desk"),
            "authorisation.service-name",
            "/zohoAuthorisation/serviceName",
        ),
        ("/config/-", json!({}), "key.missing", "/config/0"),
        ("/config/-", json!({ "name": "9x" }), "name.pattern", "/config/0/name"),
        (
            "/config/-",
            json!({ "name": "x", "userdefined": "true" }),
            "value.type",
            "/config/0/userdefined",
        ),
        (
            "/config/-",
            json!({ "name": "x", "displayName": "x".repeat(256) }),
            "value.too-long",
            "/config/0/displayName",
        ),
        ("/callbackListener", json!({}), "callback.secret-missing", ""),
        ("/deskOauth", json!({ "clientId": "i", "name": "n" }), "key.missing", "/deskOauth"),
        ("/secret", json!({ "$sealed": true }), "value.type", "/secret"),
    ];
    for (pointer, value, code, at) in rows {
        refused(MANIFEST_FILE, pointer, value, code, at);
    }
}

#[test]
fn manifests_are_accepted_where_the_reference_accepts_them() {
    let gone = || json!("(gone)");
    let rows = [
        ("/cspDomains", gone(), ""),
        ("/cspDomains/connect-src/-", json!("blob:"), ""),
        ("/whiteListedDomains/-", json!("wss://a.example.com"), ""),
        ("/whiteListedDomains/-", json!("https://{{base}}"), "domain.placeholder-unknown"),
        ("/whiteListedDomains/-", json!("http://localhost:4001"), "url.not-public"),
        ("/whiteListedDomains/-", json!("https://vendor.example"), "url.documentation-host"),
        ("/modules/widgets/0/url", json!("{{base}}/panel"), ""),
        ("/modules/widgets/0/url", json!("https://www.example.com/panel?q=a"), ""),
        ("/modules/widgets/0/location", json!("desk.new.place"), "widget.location"),
        ("/modules/widgets/0/icon", gone(), ""),
        ("/modules/events", json!([]), ""),
        ("/zohoAuthorisation/type", json!("basic"), "authorisation.type-unknown"),
        ("/zohoAuthorisation/sharedBy", json!(711_770_823), ""),
        ("/zohoAuthorisation/connectionName", json!(7), "value.type"),
        ("/config/-", json!({ "name": "x" }), ""),
        ("/config/-", json!({ "name": "x", "userdefined": false, "authType": "org" }), ""),
        ("/oauth", json!([]), ""),
        ("/secret", json!("a secret of some length"), ""),
        ("/updateBefore", json!("2026-01-15T04:49:09.963Z"), ""),
        ("/colour", json!("red"), "key.unknown"),
        (
            "/mortise",
            json!({ "installationValidator": { "url": "https://hooks.example.com/v" } }),
            "",
        ),
    ];
    for (pointer, value, code) in rows {
        accepted(MANIFEST_FILE, pointer, value, code);
    }
}

#[test]
fn resources_are_refused_where_the_reference_refuses_them() {
    let gone = || json!("(gone)");
    let event = |name: &str, options: Value| json!({ name: options });
    let rows = [
        ("/webhook", json!([]), "value.type", "/webhook"),
        ("/webhook/resourceName", gone(), "key.missing", "/webhook"),
        ("/webhook/url", gone(), "key.missing", "/webhook"),
        ("/webhook/name", gone(), "key.missing", "/webhook"),
        ("/webhook/subscriptions", gone(), "key.missing", "/webhook"),
        ("/webhook/ignoreSourceId", gone(), "key.missing", "/webhook"),
        ("/webhook/url", json!(""), "value.empty", "/webhook/url"),
        ("/webhook/url", json!(4), "value.type", "/webhook/url"),
        ("/webhook/url", json!("http://hooks.example.com"), "url.scheme", "/webhook/url"),
        ("/webhook/url", json!("https://10.0.0.1/"), "url.not-public", "/webhook/url"),
        ("/webhook/url", json!("https://intranet/"), "url.not-public", "/webhook/url"),
        ("/webhook/url", json!("https://{{base}}/"), "url.invalid", "/webhook/url"),
        ("/webhook/subscriptions", json!(null), "value.type", "/webhook/subscriptions"),
        ("/webhook/subscriptions", json!(["Ticket_Add"]), "value.type", "/webhook/subscriptions"),
        (
            "/webhook/subscriptions",
            event("Nope", json!(null)),
            "webhook.event-unknown",
            "/webhook/subscriptions/Nope",
        ),
        (
            "/webhook/subscriptions",
            event("Ticket_Add", json!(true)),
            "value.type",
            "/webhook/subscriptions/Ticket_Add",
        ),
        (
            "/webhook/subscriptions",
            event("Ticket_Add", json!({ "fields": [] })),
            "webhook.option-unsupported",
            "/webhook/subscriptions/Ticket_Add/fields",
        ),
        ("/webhook/ignoreSourceId", json!(4), "value.type", "/webhook/ignoreSourceId"),
        (
            "/webhook/ignoreSourceId",
            json!("webhook1"),
            "webhook.source-id",
            "/webhook/ignoreSourceId",
        ),
        ("/webhook/ignoreSourceId", json!(""), "webhook.source-id", "/webhook/ignoreSourceId"),
        (
            "/webhook/includeEventsFrom",
            json!(["USER"]),
            "value.not-listed",
            "/webhook/includeEventsFrom/0",
        ),
        (
            "/webhook/includeEventsFrom",
            json!("AUTOMATION"),
            "value.type",
            "/webhook/includeEventsFrom",
        ),
        ("/webhook/mortise", json!({ "ordered": "yes" }), "value.type", "/webhook/mortise/ordered"),
        (
            "/channel",
            json!({
                "resourceName": "c", "channelLogoPath": "/app/icon.png", "sync": {},
                "contentTypes": ["text/html", "text/markdown"],
            }),
            "value.not-listed",
            "/channel/contentTypes/1",
        ),
        ("/fields", json!([]), "value.too-few", "/fields"),
        ("/fields", json!({}), "value.type", "/fields"),
        ("/fields", json!([{ "resourceName": "hook" }]), "name.duplicate", "/webhook/resourceName"),
        (
            "/permissions",
            json!([{ "apiName": "a", "displayName": "A" }]),
            "key.missing",
            "/permissions/0",
        ),
        (
            "/targets",
            json!([{ "resourceName": "t", "targetName": "T" }]),
            "key.missing",
            "/targets/0",
        ),
    ];
    for (pointer, value, code, at) in rows {
        refused(RESOURCES_FILE, pointer, value, code, at);
    }
}

#[test]
fn resources_are_accepted_where_the_reference_accepts_them() {
    let rows = [
        ("/webhook", json!("(gone)"), ""),
        ("/webhook/description", json!(null), ""),
        ("/webhook/includeEventsFrom", json!(null), ""),
        ("/webhook/includeEventsFrom", json!(["AUTOMATION"]), ""),
        ("/webhook/mortise", json!({ "ordered": true }), ""),
        ("/webhook/subscriptions", json!({}), "webhook.nothing-subscribed"),
        (
            "/webhook/subscriptions",
            json!({ "Ticket_Update": { "fields": ["cf_a"], "includePrevState": true } }),
            "",
        ),
        ("/webhook/subscriptions", json!({ "Ticket_Thread_Add": { "direction": "in" } }), ""),
        (
            "/webhook/subscriptions",
            json!({ "Ticket_Attachment_Add": { "departmentIds": ["1"] } }),
            "webhook.departments-ignored",
        ),
        (
            "/webhook/subscriptions",
            json!({ "Ticket_Add": { "departmentId": "1" } }),
            "webhook.departments-ignored",
        ),
        ("/webhook/url", json!("https://vendor.example/hooks"), "url.documentation-host"),
        ("/webhook/url", json!("https://hooks.example.com:8443/a?b=c"), ""),
        ("/webhook/includEventsFrom", json!(["AUTOMATION"]), "key.unknown"),
        ("/meeting", json!({ "resourceName": "m" }), ""),
        ("/gadgets", json!([]), "key.unknown"),
        ("/permissions", json!([{ "apiName": "a", "displayName": "A", "description": "d" }]), ""),
    ];
    for (pointer, value, code) in rows {
        accepted(RESOURCES_FILE, pointer, value, code);
    }
}

#[test]
fn an_event_that_is_never_sent_may_have_anything_for_a_url() {
    let mut manifest = json!({
        "locale": ["en"], "service": "DESK", "storage": false, "whiteListedDomains": [],
        "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
        "connectors": [], "config": [], "secret": "a secret of some length",
        "callbackListener": { "onSomething": { "a": 1 } },
    });
    let codes = |manifest: &Value| -> Vec<_> {
        let source = PackageSource::from_json(&manifest.to_string(), "{}");
        let checked = check(&source, &Policy::strict_offline());
        checked.diagnostics.into_iter().map(|one| (one.severity, one.code, one.pointer)).collect()
    };
    let at = |event: &str| format!("/callbackListener/{event}");
    assert_eq!(
        codes(&manifest),
        [(Severity::Warning, "callback.event-unknown", at("onSomething"))]
    );
    manifest["callbackListener"] = json!({ "onInstall": { "a": 1 } });
    assert_eq!(codes(&manifest), [(Severity::Error, "value.type", at("onInstall"))]);
}

#[test]
fn http_is_for_operators_who_allow_it() {
    let source = package(RESOURCES_FILE, "/webhook/url", Some(json!("http://hooks.example.com/a")));
    let policy = Policy { require_https: false, ..Policy::strict_offline() };
    assert!(check(&source, &policy).is_valid());
    assert!(!check(&source, &Policy::strict_offline()).is_valid());
}
