//! What asks for more, pair by pair.

use serde_json::{Value, json};

use super::*;

#[test]
fn all_covers_the_scopes_beside_it_and_no_others() {
    assert!(scope_covers("Desk.tickets.ALL", "Desk.tickets.READ"));
    assert!(scope_covers("Desk.tickets.READ", "Desk.tickets.READ"));
    assert!(!scope_covers("Desk.tickets.READ", "Desk.tickets.ALL"));
    assert!(!scope_covers("Desk.tickets.ALL", "Desk.contacts.READ"));
    assert!(!scope_covers("Desk.ALL", "Desk.tickets.READ"));
    assert!(!scope_covers("ALL", "READ"));
    assert!(!scope_covers("Desk.tickets.ALL", "Desk.tickets."));
}

/// A package with a webhook, by what can grow in it.
fn package(change: impl FnOnce(&mut Value, &mut Value)) -> CheckedPackage {
    let mut manifest = json!({
        "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
        "whiteListedDomains": [], "secret": "a secret of some length",
        "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
        "zohoAuthorisation": { "type": "connectors", "scope": ["Desk.events.ALL", "Desk.tickets.READ"] },
        "connectors": [{
            "connectionName": "tracker", "connectionLinkName": "tracker", "serviceName": "tracker",
            "scope": ["read"],
        }],
        "config": [
            { "name": "host", "userdefined": true, "type": "text", "mandatory": false, "secure": false },
            { "name": "token", "userdefined": true, "type": "text", "mandatory": false, "secure": true },
        ],
        "callbackListener": { "onInstall": "https://a.example.com/install" },
    });
    let mut resources = json!({ "webhook": {
        "resourceName": "hook", "url": "https://a.example.com/h", "name": "Hook",
        "subscriptions": { "Ticket_Add": null, "Ticket_Update": { "fields": ["status"] } },
        "ignoreSourceId": "7b1c2d04-3a58-4f6e-9c1d-5e0f8a9b2c31",
    }});
    change(&mut manifest, &mut resources);
    CheckedPackage::from_stored(&manifest, &resources).expect("a package")
}

type Row = (&'static str, fn(&mut Value, &mut Value), usize);

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

/// How a version differs from the usual one, and how much more it asks for.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("nothing", |_, _| {}, 0),
    ("another scope", |m, _| push(&mut m["zohoAuthorisation"]["scope"], json!("Desk.contacts.READ")), 1),
    ("two scopes", |m, _| m["zohoAuthorisation"]["scope"] = json!(["Desk.events.ALL", "Desk.a.READ", "Desk.b.READ"]), 2),
    ("a scope that ALL covers", |m, _| push(&mut m["zohoAuthorisation"]["scope"], json!("Desk.events.CREATE")), 0),
    ("ALL of what was READ", |m, _| m["zohoAuthorisation"]["scope"] = json!(["Desk.events.ALL", "Desk.tickets.ALL"]), 1),
    ("READ of what was ALL", |m, _| m["zohoAuthorisation"]["scope"] = json!(["Desk.events.READ"]), 0),
    ("a scope less", |m, _| m["zohoAuthorisation"]["scope"] = json!(["Desk.events.ALL"]), 0),
    ("scopes in another order", |m, _| m["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ", "Desk.events.ALL"]), 0),
    ("a scope twice", |m, _| push(&mut m["zohoAuthorisation"]["scope"], json!("Desk.tickets.READ")), 0),
    ("the same scopes at another service", |m, _| m["zohoAuthorisation"]["serviceName"] = json!("other"), 3),
    ("the service by its name", |m, _| m["zohoAuthorisation"]["serviceName"] = json!("zlabs_integration"), 0),
    ("no authorisation", |m, _| m["zohoAuthorisation"] = json!({}), 0),
    ("another name of the connection", |m, _| m["zohoAuthorisation"]["connectionName"] = json!("X"), 0),
    ("a connector", |m, _| push(&mut m["connectors"], json!({ "connectionName": "chat", "connectionLinkName": "chat", "serviceName": "chat" })), 1),
    ("a connector with scopes", |m, _| push(&mut m["connectors"], json!({ "connectionName": "chat", "connectionLinkName": "chat", "serviceName": "chat", "scope": ["a", "b"] })), 3),
    ("a connector's scope", |m, _| push(&mut m["connectors"][0]["scope"], json!("write")), 1),
    ("a connector's service", |m, _| m["connectors"][0]["serviceName"] = json!("other"), 2),
    ("a connector's names", |m, _| { m["connectors"][0]["connectionName"] = json!("x"); m["connectors"][0]["connectionLinkName"] = json!("x"); }, 0),
    ("a server of its own that is a connection", |m, _| m["TPAOauth"] = json!([{ "name": "box", "params": { "scope": "a b" } }]), 3),
    ("a server of its own for a connector", |m, _| m["TPAOauth"] = json!([{ "name": "tracker", "params": { "scope": "a b" } }]), 0),
    ("no connector", |m, _| m["connectors"] = json!([]), 0),
    ("an event", |_, r| r["webhook"]["subscriptions"]["Contact_Add"] = Value::Null, 1),
    ("three events", |_, r| r["webhook"]["subscriptions"] = json!({ "Account_Add": null, "Agent_Add": null, "Task_Add": null }), 3),
    ("an event less", |_, r| r["webhook"]["subscriptions"] = json!({ "Ticket_Add": null }), 0),
    ("an event without its filter", |_, r| r["webhook"]["subscriptions"]["Ticket_Update"] = Value::Null, 0),
    ("previous states", |_, r| r["webhook"]["subscriptions"]["Ticket_Update"] = json!({ "includePrevState": true }), 0),
    ("no webhook", |_, r| *r = json!({}), 0),
    ("another path", |_, r| r["webhook"]["url"] = json!("https://a.example.com/other?x=1"), 0),
    ("the port said", |_, r| r["webhook"]["url"] = json!("https://a.example.com:443/h"), 0),
    ("another port", |_, r| r["webhook"]["url"] = json!("https://a.example.com:8443/h"), 1),
    ("plain http", |_, r| r["webhook"]["url"] = json!("http://a.example.com/h"), 1),
    ("another host", |_, r| r["webhook"]["url"] = json!("https://b.example.com/h"), 1),
    ("a host below", |_, r| r["webhook"]["url"] = json!("https://x.a.example.com/h"), 1),
    ("the host in capitals, with a dot", |_, r| r["webhook"]["url"] = json!("https://A.Example.com./h"), 0),
    ("a callback more at the same host", |m, _| m["callbackListener"]["onUpdate"] = json!("https://a.example.com/u"), 0),
    ("a callback at another host", |m, _| m["callbackListener"]["onUpdate"] = json!("https://c.example.com/u"), 1),
    ("webhook and callback at one other host", |m, r| { m["callbackListener"]["onInstall"] = json!("https://b.example.com/i"); r["webhook"]["url"] = json!("https://b.example.com/h"); }, 1),
    ("no callbacks", |m, _| m["callbackListener"] = json!({}), 0),
    ("a parameter", |m, _| push(&mut m["config"], json!({ "name": "x", "userdefined": true, "type": "text", "mandatory": true, "secure": false })), 0),
    ("a secret parameter", |m, _| push(&mut m["config"], json!({ "name": "x", "userdefined": true, "type": "text", "mandatory": false, "secure": true })), 1),
    ("a parameter that becomes a secret", |m, _| m["config"][0]["secure"] = json!(true), 1),
    ("a secret that becomes open", |m, _| m["config"][1]["secure"] = json!(false), 0),
    ("no parameters", |m, _| m["config"] = json!([]), 0),
    ("another resource name", |_, r| r["webhook"]["resourceName"] = json!("renamed"), 0),
    ("a field", |_, r| r["fields"] = json!([{ "resourceName": "a" }]), 0),
    ("more of everything", |m, r| { push(&mut m["zohoAuthorisation"]["scope"], json!("Desk.contacts.READ")); r["webhook"]["subscriptions"]["Contact_Add"] = Value::Null; r["webhook"]["url"] = json!("https://b.example.com/h"); m["config"][0]["secure"] = json!(true); }, 4),
];

#[test]
fn each_difference_asks_for_as_much_as_it_is() {
    assert!(ROWS.len() >= 40);
    let usual = package(|_, _| {});
    for (name, change, more) in ROWS {
        let other = package(change);
        let grown = growth(&usual, &other);
        assert_eq!(grown.len(), *more, "{name}: {grown:?}");
        assert!(growth(&other, &other).is_empty(), "{name}: a version asks no more than itself");
    }
}
