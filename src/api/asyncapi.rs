//! What vendors receive as an AsyncAPI 3.0 document, made from the catalogue of events: deliveries in
//! the desk dialect, and the lifecycle callbacks.

use serde_json::{Map, Value, json};

use crate::event::catalogue::{EventOption, EventType, catalogue};

/// The events of the lifecycle that a manifest can ask to be told of, with when they are sent.
const CALLBACKS: [(&str, &str); 8] = [
    ("onInstall", "The extension was installed in an org."),
    ("onZohoAuthorise", "The org's administrator authorised it; its webhook exists now."),
    ("onTPAAuthorise", "A third-party connection was authorised."),
    ("onTPARevoke", "A third-party connection is over."),
    ("onUpdate", "Another version serves the installation."),
    ("onConfigParamAdd", "Parameters were set."),
    ("onConfigParamDelete", "Parameters were taken away."),
    ("onUninstall", "The extension was uninstalled; nothing of the org will come any more."),
];

/// The document of a server.
pub(super) fn document(origin: &str) -> Value {
    let events: Vec<&EventType> = catalogue().iter().filter(|known| known.only.is_none()).collect();
    let mut messages = Map::new();
    for known in &events {
        messages.insert(known.name.to_owned(), delivery(known));
    }
    for (name, summary) in CALLBACKS {
        messages.insert(name.to_owned(), callback(name, summary));
    }
    let channel = |names: Vec<&str>, title: &str, description: &str| {
        let listed: Map<String, Value> = names
            .iter()
            .map(|name| {
                let reference = format!("#/components/messages/{name}");
                ((*name).to_owned(), json!({ "$ref": reference }))
            })
            .collect();
        json!({ "address": null, "title": title, "description": description, "messages": listed })
    };
    let sent = |channel: &str, summary: &str| {
        json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{channel}") },
            "summary": summary,
            "bindings": { "http": { "method": "POST", "bindingVersion": "0.3.0" } },
        })
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "What extensions receive from Mortise",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Signed requests to the addresses that an extension's package declares. \
                Answer 2xx within the deadline; verify `webhook-signature` over the raw body first.",
            "externalDocs": { "url": format!("{origin}/docs") },
        },
        "defaultContentType": "application/json",
        "channels": {
            "webhook": channel(
                events.iter().map(|known| known.name).collect(),
                "Deliveries",
                "The `url` of the webhook in resources.json, with `orgId` and `securityContext` in \
                 the query. The body's `orgId` is signed; compare the two.",
            ),
            "callbacks": channel(
                CALLBACKS.map(|(name, _)| name).to_vec(),
                "Lifecycle callbacks",
                "The addresses of `callbackListener` in plugin-manifest.json, in order for each \
                 installation.",
            ),
        },
        "operations": {
            "deliver": sent("webhook", "An event of the org, at least once"),
            "callBack": sent("callbacks", "A step in the life of an installation"),
        },
        "components": {
            "messages": messages,
            "schemas": { "deliveryHeaders": headers(false), "callbackHeaders": headers(true) },
        },
    })
}

fn headers(of_callback: bool) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let mut properties = json!({
        "webhook-id": text("One for each event and webhook, the same over retries: what was seen is a duplicate."),
        "webhook-timestamp": text("Seconds since 1970; refuse what is more than five minutes off."),
        "webhook-signature": text("One or more, separated by blanks: `v1,` and HMAC-SHA256 in base64 over `id.timestamp.body`, by each live secret; `v1a,` Ed25519 where it is switched on."),
    });
    let mut required = vec!["webhook-id", "webhook-timestamp", "webhook-signature"];
    if of_callback {
        properties["HASH"] =
            text("HMAC-SHA256 of the raw body in hex, by the manifest's `secret`.");
        required.push("HASH");
    } else {
        properties["X-ZDesk-JWT"] = text(
            "RS256: `iss` is `orgId:` and the org, `aud` is `webhookId:` and the webhook. Keys are at `/.well-known/jwks.json`.",
        );
        properties["X-Mortise-Replay"] = text("`true` where it was sent again on purpose.");
    }
    json!({ "type": "object", "required": required, "properties": properties })
}

fn delivery(known: &EventType) -> Value {
    let mut payload = known.schema.clone();
    if let Some(members) = payload.as_object_mut() {
        members.remove("$schema");
    }
    let text = json!({ "type": "string" });
    let mut properties = json!({
        "payload": payload.clone(),
        "eventTime": { "type": "string", "description": "Milliseconds since 1970." },
        "eventType": { "const": known.name },
        "orgId": text,
    });
    let mut example = json!({
        "payload": *known.sample,
        "eventTime": "1763755200000",
        "eventType": known.name,
        "orgId": "761336011",
    });
    if known.supports(EventOption::IncludePrevState) {
        properties["prevState"] = json!({
            "type": "object", "description": "What was before, for those that asked for it.",
        });
        if let Some(previous) = &known.sample_previous {
            example["prevState"] = json!(**previous);
        }
    }
    json!({
        "name": known.name,
        "title": known.label,
        "summary": known.description,
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/deliveryHeaders" },
        "payload": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["payload", "eventTime", "eventType", "orgId"],
                "properties": properties,
            },
        },
        "examples": [{ "payload": [example] }],
    })
}

fn callback(name: &str, summary: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let number = |description: &str| json!({ "type": "integer", "description": description });
    json!({
        "name": name,
        "summary": summary,
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/callbackHeaders" },
        "payload": {
            "type": "object",
            "required": [
                "event", "orgId", "securityContext", "installationId", "generation", "sequence",
                "version", "occurredAt", "reason",
            ],
            "properties": {
                "event": { "const": name },
                "orgId": { "type": ["string", "integer"], "description": "A number where it is one." },
                "securityContext": text("Stands for the installation in calls back."),
                "installationId": text("The installation."),
                "generation": number("Counts the installations of the extension in the org."),
                "sequence": number("Its place among the callbacks of the installation, from 1."),
                "version": text("The version that serves."),
                "occurredAt": text("When it happened (RFC 3339)."),
                "reason": { "type": ["string", "null"], "description": "Why." },
                "connection": text("The connection that it tells of."),
                "userId": text("Whose connection, where it is a user's own."),
                "formerVersion": text("The version that served before."),
                "eraseAt": text("When what is kept of the installation is erased."),
            },
        },
        "examples": [{ "payload": {
            "event": name,
            "orgId": 761_336_011,
            "securityContext": "mNq3…",
            "installationId": "0198c5b2-7d4e-7b11-9d35-5a7c1be0a2f4",
            "generation": 1,
            "sequence": 1,
            "version": "1.0.0",
            "occurredAt": "2026-11-21T20:14:05.120Z",
            "reason": null,
        } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in the document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str() {
                        Some(target) if name == "$ref" => found.push(target.to_owned()),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|entry| references(entry, found)),
            _ => {}
        }
    }

    #[test]
    fn references_lead_somewhere_and_names_are_those_of_the_specification() {
        let document = document("https://mortise.example");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for target in found {
            let pointer = target.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        let top: Vec<_> = document.as_object().expect("an object").keys().collect();
        let known =
            ["asyncapi", "info", "defaultContentType", "channels", "operations", "components"];
        assert!(top.iter().all(|name| known.contains(&name.as_str())), "{top:?}");
        let name = regex::Regex::new(r"^[\w\d.\-_]+$").expect("a pattern");
        let messages = document["components"]["messages"].as_object().expect("messages");
        assert_eq!(messages.len(), 56 + CALLBACKS.len());
        assert!(messages.keys().all(|key| name.is_match(key)));
    }

    #[test]
    fn every_example_is_valid_by_its_own_schema() {
        let document = document("https://mortise.example");
        for (name, message) in document["components"]["messages"].as_object().expect("messages") {
            let validator = jsonschema::draft202012::new(&message["payload"]).expect("a schema");
            for example in message["examples"].as_array().expect("examples") {
                let faults: Vec<String> =
                    validator.iter_errors(&example["payload"]).map(|e| e.to_string()).collect();
                assert!(faults.is_empty(), "{name}: {faults:?}");
            }
            let broken = json!([{ "eventType": "other" }]);
            assert!(!validator.is_valid(&broken), "{name} takes anything");
        }
    }

    /// The manifest's own schema is the list of what an extension can be told.
    #[test]
    fn the_callbacks_are_those_that_a_manifest_declares() {
        let schema = crate::manifest::schemas()
            .find(|(name, _)| name.ends_with("plugin-manifest.json"))
            .map(|(_, text)| serde_json::from_str::<Value>(text).expect("JSON"))
            .expect("the manifest's schema");
        let declared =
            schema["properties"]["callbackListener"]["properties"].as_object().expect("events");
        for (name, _) in CALLBACKS {
            assert!(declared.contains_key(name), "{name}: {:?}", declared.keys());
        }
    }
}
