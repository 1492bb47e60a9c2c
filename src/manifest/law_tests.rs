//! The laws of checking and comparing packages, as properties.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Map, Value, json};

use super::*;

const EVENTS: [&str; 6] = [
    "Ticket_Add",
    "Ticket_Update",
    "Ticket_Thread_Add",
    "Contact_Update",
    "Agent_Delete",
    "Article_Add",
];
const SCOPES: [&str; 5] = [
    "Desk.events.ALL",
    "Desk.tickets.ALL",
    "Desk.tickets.READ",
    "Desk.contacts.READ",
    "Desk.contacts.UPDATE",
];
const HOSTS: [&str; 3] =
    ["https://a.example.com", "https://b.example.com:8443", "https://c.example.com"];
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(names, 0..=names.len()).prop_shuffle()
}

fn options(event: &str) -> BoxedStrategy<Value> {
    let fields = some_of(&["status", "subject", "priority"]);
    match event {
        "Ticket_Update" => (fields, any::<bool>())
            .prop_map(|(fields, flag)| json!({ "fields": fields, "includePrevState": flag }))
            .boxed(),
        "Ticket_Thread_Add" => {
            prop_oneof![Just(Value::Null), Just(json!({ "direction": "in" }))].boxed()
        }
        _ => prop_oneof![Just(Value::Null), Just(json!({}))].boxed(),
    }
}

/// Nothing, `null` or a value under a key.
fn optional(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), value.prop_map(Some)]
}

fn webhook() -> impl Strategy<Value = Value> {
    let subscriptions = some_of(&EVENTS).prop_flat_map(|events| {
        events
            .into_iter()
            .map(|event| options(event).prop_map(move |value| (event, value)))
            .collect::<Vec<_>>()
    });
    let name = prop::sample::select(&["hook", "other"][..]);
    let host = prop::sample::select(&HOSTS[..]);
    let description = optional("[a-z]{1,8}".prop_map(Value::from));
    let origins = optional(prop_oneof![Just(json!(["AUTOMATION"])), Just(json!([]))]);
    let ordered = optional(any::<bool>().prop_map(Value::from));
    (name, host, "[a-z]{1,8}", subscriptions, description, origins, ordered).prop_map(
        |(name, host, path, subscriptions, description, origins, ordered)| {
            let subscriptions: Map<_, _> =
                subscriptions.into_iter().map(|(event, value)| (event.to_owned(), value)).collect();
            let mut webhook = json!({
                "resourceName": name, "url": format!("{host}/{path}"), "name": path,
                "subscriptions": subscriptions,
                "ignoreSourceId": "7b1c2d04-3a58-4f6e-9c1d-5e0f8a9b2c31",
            });
            for (key, value) in [("description", description), ("includeEventsFrom", origins)] {
                if let Some(value) = value {
                    webhook[key] = value;
                }
            }
            if let Some(ordered) = ordered {
                webhook["mortise"] = json!({ "ordered": ordered });
            }
            webhook
        },
    )
}

fn fields() -> impl Strategy<Value = Vec<Value>> {
    some_of(&NAMES).prop_flat_map(|names| {
        let one = |name: &'static str| {
            (1_u8..4).prop_map(move |length| json!({ "resourceName": name, "maxLength": length }))
        };
        names.into_iter().map(one).collect::<Vec<_>>()
    })
}

/// A valid package, as manifest and resources.
fn package() -> impl Strategy<Value = (Value, Value)> {
    let parameters = (some_of(&NAMES), any::<[bool; 4]>()).prop_map(|(names, secure)| {
        let one = |(name, secure): (&&str, bool)| {
            json!({ "name": name, "userdefined": true, "type": "text", "mandatory": false, "secure": secure })
        };
        names.iter().zip(secure).map(one).collect::<Vec<_>>()
    });
    let connectors = subsequence(vec!["tracker", "chat"], 0..=2).prop_map(|services| {
        let one = |service: &str| {
            json!({ "connectionName": service, "connectionLinkName": service, "serviceName": service,
                "scope": ["read"] })
        };
        services.into_iter().map(one).collect::<Vec<_>>()
    });
    let callback = proptest::option::of(prop::sample::select(&HOSTS[..]));
    (some_of(&SCOPES), parameters, connectors, callback, proptest::option::of(webhook()), fields())
        .prop_map(|(mut scopes, config, connectors, callback, webhook, fields)| {
            let mut resources = json!({});
            if !fields.is_empty() {
                resources["fields"] = fields.into();
            }
            if let Some(webhook) = webhook {
                resources["webhook"] = webhook;
                if !scopes.contains(&"Desk.events.ALL") {
                    scopes.push("Desk.events.ALL");
                }
            }
            let mut manifest = json!({
                "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
                "whiteListedDomains": [],
                "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
                "zohoAuthorisation": { "type": "connectors", "scope": scopes },
                "connectors": connectors, "config": config,
            });
            if let Some(host) = callback {
                manifest["secret"] = "a secret of some length".into();
                manifest["callbackListener"] = json!({ "onInstall": format!("{host}/callbacks") });
            }
            (manifest, resources)
        })
}

fn checked((manifest, resources): &(Value, Value)) -> CheckedPackage {
    let source = PackageSource::from_json(&manifest.to_string(), &resources.to_string());
    let checked = check(&source, &Policy::strict_offline());
    checked.package.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
}

/// The same text with the members of every object, and the items of lists that are told apart by
/// their names, in another order.
fn permuted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = (members.iter().rev())
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), permuted(value)))
                .collect();
            format!("{{ {} }}", members.join(" , "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().rev().map(permuted).collect();
            format!("[{}]", items.join(","))
        }
        value => value.to_string(),
    }
}

/// What the merge rule makes of an installation and a version, worked out from the JSON alone.
fn merged(old: &Provisioned, resources: &Value) -> Option<Value> {
    let declared = resources.get("webhook")?;
    let former = old.webhook().map(ProvisionedWebhook::to_json);
    let former = former.filter(|former| former["resourceName"] == declared["resourceName"]);
    let keep = |declared: Option<&Value>, former: Option<Value>, empty: Value| match declared {
        None => former.unwrap_or(empty),
        Some(Value::Null) => empty,
        Some(value) if *value == json!([]) => empty,
        Some(value) => value.clone(),
    };
    let before =
        |pointer: &str| former.as_ref().and_then(|former| former.pointer(pointer)).cloned();
    let mut subscriptions = declared["subscriptions"].clone();
    for (_, options) in subscriptions.as_object_mut()? {
        if let Some(fields) = options.get("fields").and_then(Value::as_array) {
            let sorted: BTreeSet<_> = fields.iter().filter_map(Value::as_str).collect();
            options["fields"] = json!(sorted);
        }
        if let Some(object) = options.as_object_mut() {
            object.retain(|_, value| *value != json!([]) && *value != json!(false));
        }
        if *options == json!({}) {
            *options = Value::Null;
        }
    }
    Some(json!({
        "resourceName": declared["resourceName"], "url": declared["url"], "name": declared["name"],
        "subscriptions": subscriptions, "ignoreSourceId": declared["ignoreSourceId"],
        "description": keep(declared.get("description"), before("/description"), Value::Null),
        "includeEventsFrom":
            keep(declared.get("includeEventsFrom"), before("/includeEventsFrom"), Value::Null),
        "mortise": { "ordered":
            keep(declared.pointer("/mortise/ordered"), before("/mortise/ordered"), json!(false)) },
    }))
}

/// Any JSON whose keys are mostly those of the schemas, so that rules get to see odd values.
fn document() -> impl Strategy<Value = Value> {
    let mut keys = BTreeSet::new();
    for (_, text) in schemas() {
        collect_keys(&serde_json::from_str(text).expect("JSON"), &mut keys);
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Into::into),
        prop::sample::select(
            &[
                "",
                "en",
                "DESK",
                "org",
                "/app/p.html",
                "https://a.example.com",
                "{{a}}",
                "AUTOMATION"
            ][..]
        )
        .prop_map(Into::into),
    ];
    let key = prop_oneof![6 => prop::sample::select(keys), 1 => any::<String>()];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        let members = prop::collection::btree_map(key.clone(), inner.clone(), 0..8);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
            3 => members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                if key == "properties" {
                    keys.extend(member.as_object().into_iter().flat_map(Map::keys).cloned());
                }
                collect_keys(member, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_changes_between_equals(one in package()) {
        let package = checked(&one);
        let plan = diff(&Provisioned::of(&package), &package);
        prop_assert!(plan.is_empty(), "{plan:?}");
        prop_assert!(growth(&package, &package).is_empty());
    }

    #[test]
    fn the_order_of_things_changes_nothing(one in package()) {
        let package = checked(&one);
        let source = PackageSource::from_json(&permuted(&one.0), &permuted(&one.1));
        let other = check(&source, &Policy::strict_offline()).package.expect("still valid");
        prop_assert!(diff(&Provisioned::of(&package), &other).is_empty());
        prop_assert!(growth(&package, &other).is_empty() && growth(&other, &package).is_empty());
    }

    #[test]
    fn the_order_of_keys_leaves_the_digest(one in package()) {
        let rebuild = |value: &Value| -> Value {
            let object = value.as_object().expect("an object");
            let members: Vec<_> =
                object.iter().rev().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
            serde_json::from_str(&format!("{{{}}}", members.join(","))).expect("JSON")
        };
        let other = (rebuild(&one.0), rebuild(&one.1));
        prop_assert_eq!(checked(&one).digest(), checked(&other).digest());
    }

    #[test]
    fn applying_the_difference_gives_the_merge(one in package(), two in package(), three in package()) {
        let (first, second, third) = (checked(&one), checked(&two), checked(&three));
        let mut installed = Provisioned::of(&first);
        // Twice, because what one version leaves out the one before it may have set.
        for (package, resources) in [(&second, &two.1), (&third, &three.1)] {
            let expected = merged(&installed, resources);
            let plan = diff(&installed, package);
            let after = installed.apply(&plan);
            prop_assert_eq!(after.webhook().map(ProvisionedWebhook::to_json), expected);
            prop_assert!(diff(&after, package).is_empty());
            let touched = plan.create.len() + plan.update.len() + plan.unchanged.len();
            prop_assert_eq!(diff(&Provisioned::default(), package).create.len(), touched);
            for updated in &plan.update {
                prop_assert!(!updated.changes.is_empty());
            }
            installed = after;
        }
    }

    #[test]
    fn a_version_that_says_everything_leaves_nothing_of_the_former(one in package(), two in package()) {
        let mut two = two;
        if let Some(webhook) = two.1.get_mut("webhook") {
            for key in ["description", "includeEventsFrom"] {
                if webhook.get(key).is_none() {
                    webhook[key] = Value::Null;
                }
            }
            if webhook.get("mortise").is_none() {
                webhook["mortise"] = json!({ "ordered": null });
            }
        }
        let (first, second) = (checked(&one), checked(&two));
        let before = Provisioned::of(&first);
        let after = before.apply(&diff(&before, &second));
        prop_assert_eq!(after, Provisioned::of(&second));
    }

    #[test]
    fn growth_is_empty_exactly_where_no_more_is_asked(one in package(), two in package()) {
        let (first, second) = (checked(&one), checked(&two));
        let texts = |value: Option<&Value>| -> BTreeSet<String> {
            let items = value.and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let scopes = |package: &(Value, Value)| texts(package.0.pointer("/zohoAuthorisation/scope"));
        let events = |package: &(Value, Value)| -> BTreeSet<String> {
            let subscribed = package.1.pointer("/webhook/subscriptions").and_then(Value::as_object);
            subscribed.into_iter().flat_map(Map::keys).cloned().collect()
        };
        let hosts = |package: &(Value, Value)| -> BTreeSet<String> {
            let urls = [package.1.pointer("/webhook/url"), package.0.pointer("/callbackListener/onInstall")];
            let urls = urls.into_iter().flatten().filter_map(Value::as_str);
            urls.map(|url| url.split('/').nth(2).expect("a host").to_owned()).collect()
        };
        let named = |package: &(Value, Value), list: &str, key: &str, only: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
            let items = package.0[list].as_array().expect("a list").iter().filter(|item| only(item));
            items.filter_map(|item| item[key].as_str()).map(str::to_owned).collect()
        };
        let secure = |item: &Value| item["secure"] == json!(true);
        let all = |_: &Value| true;
        let held = scopes(&one);
        let covered = scopes(&two).iter().all(|wanted| {
            let group = wanted.rsplit_once('.').map(|(group, _)| format!("{group}.ALL"));
            held.contains(wanted) || group.is_some_and(|group| held.contains(&group))
        });
        let no_more = covered
            && events(&two).is_subset(&events(&one))
            && hosts(&two).is_subset(&hosts(&one))
            && named(&two, "config", "name", &secure).is_subset(&named(&one, "config", "name", &secure))
            && named(&two, "connectors", "serviceName", &all).is_subset(&named(&one, "connectors", "serviceName", &all));
        prop_assert_eq!(growth(&first, &second).is_empty(), no_more);
    }

    #[test]
    fn growth_never_hides_behind_a_version_between(one in package(), two in package(), three in package()) {
        let (first, second, third) = (checked(&one), checked(&two), checked(&three));
        if growth(&first, &second).is_empty() && growth(&second, &third).is_empty() {
            prop_assert!(growth(&first, &third).is_empty());
        }
    }

    #[test]
    fn secrets_leave_and_come_back(one in package()) {
        let (stripped, secrets) = split_secrets(&one.0);
        prop_assert!(!stripped.to_string().contains("a secret of some length"));
        prop_assert_eq!(join_secrets(&stripped, &secrets).expect("joined"), one.0.clone());
        let stored = CheckedPackage::from_stored(&stripped, &one.1).expect("a stored package");
        prop_assert_eq!(stored.digest(), checked(&one).digest());
        prop_assert!(growth(&stored, &checked(&one)).is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let limits = Limits::default();
        let text = String::from_utf8_lossy(&bytes);
        let sources = [
            PackageSource::from_bytes(&bytes, &limits).ok(),
            PackageSource::from_zip(&bytes, &limits).ok(),
            Some(PackageSource::from_json(&text, &text)),
        ];
        for source in sources.into_iter().flatten() {
            let checked = check(&source, &Policy::strict_offline());
            prop_assert!(checked.is_valid() || checked.of_severity(Severity::Error).count() > 0);
            let _text = render_text(&checked.diagnostics, &source, true);
        }
    }

    #[test]
    fn arbitrary_documents_of_known_keys_never_panic(one in document(), two in document()) {
        let source = PackageSource::from_json(&one.to_string(), &two.to_string());
        let checked = check(&source, &Policy::strict_offline());
        prop_assert_eq!(checked.is_valid(), checked.of_severity(Severity::Error).count() == 0);
        for told in &checked.diagnostics {
            prop_assert!(told.offset.is_some() && told.suggestion.is_some(), "{told:?}");
        }
        let text = render_text(&checked.diagnostics, &source, false);
        prop_assert!(text.contains("valid"));
    }

    #[test]
    fn a_wrong_value_anywhere_never_panics_and_never_passes_silently(
        one in package(),
        at in any::<prop::sample::Index>(),
        wrong in prop_oneof![
            Just(Value::Null), Just(json!(true)), Just(json!(7.5)), Just(json!("")), Just(json!("\u{202e}x")),
            Just(json!([])), Just(json!([[null]])), Just(json!({})), Just(json!({ "a": { "b": 1 } })),
        ],
    ) {
        let mut whole = json!({ "manifest": one.0, "resources": one.1 });
        let mut places = Vec::new();
        collect(&whole, String::new(), &mut places);
        let place = at.get(&places).clone();
        *whole.pointer_mut(&place).expect("the place") = wrong;
        let source =
            PackageSource::from_json(&whole["manifest"].to_string(), &whole["resources"].to_string());
        let checked = check(&source, &Policy::strict_offline());
        let errors = checked.of_severity(Severity::Error).count();
        prop_assert_eq!(checked.is_valid(), errors == 0);
        // A rule said it, at its place: the typed view never has to refuse what the rules let pass.
        prop_assert!(checked.diagnostics.iter().all(|one| one.offset.is_some()));
        if let Some(package) = checked.package {
            prop_assert!(diff(&Provisioned::of(&package), &package).is_empty());
        }
    }
}

fn collect(value: &Value, pointer: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                collect(member, format!("{pointer}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                collect(item, format!("{pointer}/{position}"), places);
            }
        }
        _ => {}
    }
    places.push(pointer);
}
