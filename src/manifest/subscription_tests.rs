//! The published schemas of subscriptions and the checker say the same about every option of every
//! event type.

use serde_json::{Value, json};

use super::*;

/// What the checker says about a webhook that subscribes to one event with these options: whether
/// it is valid, and whether departments were ignored.
fn verdict(event: &str, options: &Value) -> (bool, bool) {
    let manifest = json!({
        "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
        "whiteListedDomains": [], "connectors": [], "config": [],
        "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
        "zohoAuthorisation": { "type": "connectors", "scope": ["Desk.events.ALL"] },
    });
    let resources = json!({ "webhook": {
        "resourceName": "hook", "url": "https://hooks.example.com/desk", "name": "Hook",
        "subscriptions": { event: options },
        "ignoreSourceId": "7b1c2d04-3a58-4f6e-9c1d-5e0f8a9b2c31",
    }});
    let source = PackageSource::from_json(&manifest.to_string(), &resources.to_string());
    let checked = check(&source, &Policy::strict_offline());
    let ignored = |one: &Diagnostic| one.code == "webhook.departments-ignored";
    (checked.is_valid(), checked.diagnostics.iter().any(ignored))
}

/// Values for an option: those that some type takes, those that none does.
fn values() -> Vec<Value> {
    let many: Vec<String> = (0..6).map(|number| format!("cf_{number}")).collect();
    vec![
        json!(null),
        json!(true),
        json!(7),
        json!("in"),
        json!("out"),
        json!("IN"),
        json!([]),
        json!(["status"]),
        json!(["1892000000006907"]),
        json!([""]),
        json!([1]),
        json!(many[..5]),
        json!(many),
        json!({}),
    ]
}

#[test]
fn schema_and_checker_agree_about_every_option_of_every_event() {
    let keys =
        ["departmentIds", "fields", "includePrevState", "direction", "departmentId", "other"];
    let (mut compared, mut accepted) = (0, 0);
    for event_type in event_types() {
        let schema: Value = serde_json::from_str(event_type.schema).expect("JSON");
        let validator = jsonschema::draft202012::new(&schema).expect("a schema");
        let mut instances: Vec<Value> = values();
        for key in keys {
            instances.extend(values().into_iter().map(|value| json!({ key: value })));
        }
        for (one, other) in [("fields", "includePrevState"), ("direction", "departmentIds")] {
            instances.push(json!({ one: ["status"], other: true }));
            instances.push(json!({ one: "in", other: ["1"] }));
        }
        for options in instances {
            let (valid, departments_ignored) = verdict(event_type.name, &options);
            // Departments have no effect in a package: the checker only warns where the schema,
            // which is for the help desk's own API as well, may refuse.
            let named = |key: &str| options.get(key).is_some();
            let departments = named("departmentIds") || named("departmentId");
            assert_eq!(departments_ignored, departments, "{}: {options}", event_type.name);
            let mut bare = options.clone();
            if let Some(members) = bare.as_object_mut() {
                members.retain(|key, _| !key.starts_with("departmentId"));
            }
            assert_eq!(valid, validator.is_valid(&bare), "{}: {options}", event_type.name);
            if !departments {
                accepted += usize::from(valid);
            }
            compared += 1;
        }
    }
    assert!(compared > 56 * 90 && accepted > 56 * 2, "{compared} compared, {accepted} accepted");
}
