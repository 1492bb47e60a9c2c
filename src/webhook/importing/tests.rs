//! What exports of other systems become.
#![expect(clippy::needless_pass_by_value, reason = "documents are written where they are used")]

use serde_json::json;

use super::*;

fn translated(request: Value) -> Import {
    let request: ImportRequest = serde_json::from_value(request).expect("a request");
    request.translate().expect("an import")
}

fn faults(request: Value) -> Vec<String> {
    let request: ImportRequest = serde_json::from_value(request).expect("a request");
    let faults = request.translate().expect_err("faults");
    faults.into_iter().map(|fault| fault.pointer).collect()
}

fn webhook(more: &Value) -> Value {
    let mut webhook = json!({
        "id": "01EJFTSCC78X5V07NPY2MHR00M", "name": "Wall", "status": "active",
        "endpoint": "https://wall.example/hook", "http_method": "POST", "request_format": "json",
        "subscriptions": ["conditional_ticket_events"], "created_at": "2026-01-01T00:00:00Z",
    });
    for (name, value) in more.as_object().expect("members") {
        webhook[name] = value.clone();
    }
    webhook
}

fn trigger(id: u64, conditions: Value, payload: Value) -> Value {
    json!({
        "id": id, "title": format!("Trigger {id}"), "active": true, "position": id,
        "conditions": conditions,
        "actions": [{ "field": "notification_webhook",
            "value": ["01EJFTSCC78X5V07NPY2MHR00M", payload] }],
    })
}

fn of(webhooks: Value, triggers: Value, automations: Value, mapping: Value) -> Import {
    translated(json!({
        "source": "zendesk", "webhooks": { "webhooks": webhooks },
        "triggers": { "triggers": triggers }, "automations": { "automations": automations },
        "mapping": mapping,
    }))
}

fn rule(draft: &Draft) -> &RuleRequest {
    match &draft.fate {
        Fate::Rule { request, .. } => request,
        other => panic!("no rule: {other:?}, {:?}", draft.reasons),
    }
}

fn made(draft: &Draft) -> &WebhookRequest {
    match &draft.fate {
        Fate::Webhook(request) => request,
        other => panic!("no webhook: {other:?}, {:?}", draft.reasons),
    }
}

fn conditions_of(conditions: Value) -> Draft {
    let all = of(
        json!([webhook(&json!({}))]),
        json!([trigger(1, conditions, json!("{}"))]),
        json!([]),
        json!({}),
    );
    all.drafts.into_iter().nth(1).expect("the trigger")
}

fn all(field: &str, operator: &str, value: Value) -> Value {
    json!({ "all": [{ "field": field, "operator": operator, "value": value }], "any": [] })
}

#[test]
fn documents_are_taken_as_any_call_answers_them() {
    let one = webhook(&json!({}));
    let other = webhook(&json!({ "id": "02" }));
    for (document, expected) in [
        (json!({ "webhooks": [one] }), 1),
        (json!({ "webhook": one }), 1),
        (json!([one, other]), 2),
        (one.clone(), 1),
        (json!([{ "webhooks": [one] }, { "webhooks": [other, one] }]), 2),
    ] {
        let import = translated(json!({ "source": "zendesk", "webhooks": document }));
        assert_eq!(import.drafts.len(), expected, "{document}");
        assert!(import.warnings.is_empty());
    }
    let page = json!({ "webhooks": [one], "meta": { "has_more": true } });
    let import = translated(json!({ "source": "zendesk", "webhooks": page }));
    assert_eq!(import.warnings.len(), 1);
    for (document, place) in [
        (json!(7), "/webhooks"),
        (json!([{ "name": "no id" }]), "/webhooks/0/id"),
        (json!({ "webhooks": ["x"] }), "/webhooks/webhooks/0"),
        (json!({ "webhooks": [] }), "/webhooks"),
        (json!([[[[one]]]]), "/webhooks/0/0/0"),
    ] {
        let request = json!({ "source": "zendesk", "webhooks": document });
        assert_eq!(faults(request), [place], "{document}");
    }
    let unknown = json!({ "source": "zendesk", "webhooks": [one], "credentials": { "9/9": {} } });
    assert_eq!(faults(unknown), ["/credentials/9~19"]);
    let many: Vec<Value> = (0..=MOST_IMPORTED).map(|n| webhook(&json!({ "id": n }))).collect();
    assert_eq!(faults(json!({ "source": "zendesk", "webhooks": many })), [""]);
    let foreign =
        json!({ "source": "zohoDesk", "webhooks": [{ "id": 1 }], "triggers": [{ "id": 1 }] });
    assert_eq!(faults(foreign), ["/triggers"]);
}

#[test]
fn a_webhook_of_events_keeps_what_is_known() {
    let import = of(
        json!([webhook(&json!({
            "subscriptions": ["zen:event-type:user.created", "zen:event-type:community_post.created"],
            "custom_headers": { "X-Team": "b" }, "description": "", "status": "inactive",
        }))]),
        json!([]),
        json!([]),
        json!({}),
    );
    let [draft] = import.drafts.as_slice() else { panic!("{:?}", import.drafts) };
    let request = made(draft);
    assert_eq!(draft.part, Part::EventWebhook);
    assert_eq!(request.subscriptions.keys().collect::<Vec<_>>(), ["zen:event-type:user.created"]);
    assert_eq!(request.is_enabled, Some(false));
    assert_eq!(request.description, None);
    assert_eq!(request.include_events_from, Some(vec!["AUTOMATION".to_owned()]));
    assert_eq!(request.headers.as_ref().map(|headers| headers["X-Team"].as_str()), Some("b"));
    assert!(request.method.is_none() && request.format.is_none());
    assert!(draft.notes[0].contains("community_post.created"), "{:?}", draft.notes);
    // What it signed with is not needed: another one is made.
    assert!(!draft.is_blocked());
    assert_eq!(draft.missing[0].pointer, "/credentials/01EJFTSCC78X5V07NPY2MHR00M/secret");
    for wrong in [
        json!({ "external_source": { "type": "zendesk_app", "data": { "app_id": "1" } } }),
        json!({ "subscriptions": ["zen:event-type:community_post.created"] }),
        json!({ "endpoint": null }),
        json!({ "authentication": { "type": "kerberos" } }),
        json!({ "custom_headers": [1] }),
    ] {
        let import = of(json!([webhook(&wrong)]), json!([]), json!([]), json!({}));
        assert!(matches!(import.drafts[0].fate, Fate::Impossible), "{wrong}");
        assert_eq!(import.drafts[0].reasons.len(), 1, "{wrong}");
    }
}

#[test]
fn secrets_must_be_given_and_masks_are_none() {
    let given = |authentication: &Value, credentials: Value| {
        let mut draft = translated(json!({
            "source": "zendesk",
            "webhooks": [webhook(&json!({ "authentication": authentication }))],
            "credentials": { "01EJFTSCC78X5V07NPY2MHR00M": credentials },
        }))
        .drafts
        .remove(0);
        let needed: Vec<String> = draft
            .missing
            .iter()
            .filter(|missing| missing.is_needed)
            .filter_map(|missing| missing.pointer.rsplit('/').next().map(str::to_owned))
            .collect();
        let kind = match &mut draft.fate {
            Fate::Webhook(request) => request.authentication.take().expect("authentication").kind,
            other => panic!("{other:?}"),
        };
        (kind, needed)
    };
    let basic = json!({ "type": "basic_auth", "add_position": "header" });
    let shown =
        json!({ "type": "basic_auth", "data": { "username": "ann", "password": "********" } });
    let told = json!({ "type": "api_key", "data": { "name": "X-Key", "value": "k-1" } });
    for (authentication, credentials, kind, needed) in [
        (&basic, json!({}), "basic", vec!["username", "password"]),
        (&basic, json!({ "username": "ann", "password": "p" }), "basic", vec![]),
        (&shown, json!({}), "basic", vec!["password"]),
        (&told, json!({}), "apiKey", vec![]),
        (&json!({ "type": "bearer_token" }), json!({}), "bearer", vec!["token"]),
        (&json!({ "type": "bearer_token" }), json!({ "token": "t" }), "bearer", vec![]),
    ] {
        assert_eq!(
            given(authentication, credentials),
            (kind.to_owned(), needed.into_iter().map(str::to_owned).collect())
        );
    }
}

#[test]
fn a_webhook_that_triggers_and_automations_call_becomes_two() {
    let new = all("update_type", "is", json!("Create"));
    let solved =
        json!({ "all": [{ "field": "SOLVED", "operator": "greater_than", "value": "24" }] });
    let webhook = webhook(&json!({ "http_method": "put", "request_format": "xml" }));
    let import = of(
        json!([webhook]),
        json!([trigger(2, new.clone(), json!("<a/>")), trigger(1, new, json!("<b/>"))]),
        json!([trigger(3, solved, json!("<c/>"))]),
        json!({}),
    );
    let parts: Vec<_> =
        import.drafts.iter().map(|draft| (draft.part, draft.source_id.as_str())).collect();
    let id = "01EJFTSCC78X5V07NPY2MHR00M";
    assert_eq!(
        parts,
        [
            (Part::TriggerWebhook, id),
            (Part::AutomationWebhook, id),
            // In the order in which they fire.
            (Part::Trigger, "1"),
            (Part::Trigger, "2"),
            (Part::Automation, "3"),
        ]
    );
    let request = made(&import.drafts[1]);
    assert_eq!(request.connection.as_deref(), Some("automation"));
    assert_eq!((request.method.as_deref(), request.format.as_deref()), (Some("PUT"), Some("xml")));
}

#[test]
fn conditions_over_tickets_become_conditions_over_events() {
    for (given, expected) in [
        (
            all("update_type", "is", json!("Create")),
            json!([{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }]),
        ),
        (
            all("status", "less_than", json!("pending")),
            json!([
                { "field": "eventType", "operator": "is", "value": ["Ticket_Add", "Ticket_Update"] },
                { "field": "payload.status", "operator": "is", "value": ["New", "Open"] },
            ]),
        ),
        (
            json!({ "all": [
                { "field": "update_type", "operator": "is", "value": "Change" },
                { "field": "status", "operator": "value", "value": "solved" },
                { "field": "assignee_id", "operator": "is_not", "value": "" },
                { "field": "subject_includes_word", "operator": "includes", "value": "fire  smoke" },
                { "field": "subject_includes_word", "operator": "is", "value": "on fire" },
            ] }),
            json!([
                { "field": "eventType", "operator": "is", "value": "Ticket_Update" },
                { "field": "payload.status", "operator": "changedTo", "value": ["Solved", "Closed"] },
                { "field": "payload.assigneeId", "operator": "present" },
                { "field": "payload.subject", "operator": "includes", "value": ["fire", "smoke"] },
                { "field": "payload.subject", "operator": "includes", "value": "on fire" },
            ]),
        ),
        (
            all("comment_is_public", "is", json!("false")),
            json!([
                { "field": "eventType", "operator": "is", "value": "Ticket_Comment_Add" },
                { "field": "payload.isPublic", "operator": "is", "value": false },
            ]),
        ),
        (
            all("priority", "changed", Value::Null),
            json!([
                { "field": "eventType", "operator": "is", "value": ["Ticket_Add", "Ticket_Update"] },
                { "field": "payload.priority", "operator": "changed" },
            ]),
        ),
    ] {
        let draft = conditions_of(given.clone());
        assert!(draft.missing.is_empty(), "{given}: {:?}", draft.missing);
        assert_eq!(json!(rule(&draft).conditions)["all"], expected, "{given}");
    }
}

#[test]
fn what_has_no_counterpart_is_said() {
    for (given, word) in [
        (all("status", "not_value", json!("open")), "not_value"),
        (all("status", "is", json!("sleeping")), "sleeping"),
        (all("status", "greater_than", json!("closed")), "beyond"),
        (
            json!({ "all": [
                { "field": "comment_is_public", "operator": "is", "value": "true" },
                { "field": "status", "operator": "is", "value": "open" },
            ] }),
            "none of the ticket's fields",
        ),
    ] {
        let draft = conditions_of(given.clone());
        assert!(matches!(draft.fate, Fate::Impossible), "{given}");
        assert!(draft.reasons.iter().any(|reason| reason.contains(word)), "{:?}", draft.reasons);
    }
    // What only somebody else can know is asked for.
    for (given, pointer) in [
        (all("group_id", "is", json!(360)), "/mapping/values/group_id/360"),
        (all("custom_fields_7", "is", json!("x")), "/mapping/fields/custom_fields_7"),
    ] {
        let draft = conditions_of(given);
        assert!(draft.is_blocked());
        assert_eq!(draft.missing[0].pointer, pointer);
    }
    let without = json!({ "id": 5, "title": "Mail", "actions": [{ "field": "notification_user", "value": [] }] });
    let import = of(json!([webhook(&json!({}))]), json!([without]), json!([]), json!({}));
    assert!(matches!(import.drafts[1].fate, Fate::Skipped));
    let liquid = json!("{% if ticket.id %}{}{% endif %}");
    let import = of(
        json!([webhook(&json!({}))]),
        json!([trigger(1, all("update_type", "is", json!("Create")), liquid)]),
        json!([]),
        json!({}),
    );
    assert!(import.drafts[1].reasons[0].contains("Liquid"), "{:?}", import.drafts[1].reasons);
}

#[test]
fn a_mapping_says_what_things_are_here() {
    let conditions = json!({
        "all": [
            { "field": "group_id", "operator": "is", "value": "360" },
            { "field": "status", "operator": "is", "value": "hold" },
        ],
        "any": [
            { "field": "custom_fields_7", "operator": "is", "value": "eu" },
            { "field": "update_type", "operator": "is", "value": "Create" },
        ],
    });
    let payload = json!("{\"c\":\"{{ ticket.latest_comment }}\",\"i\":{{ticket.id}},\"o\":\"{{\"}");
    let import = of(
        json!([webhook(&json!({}))]),
        json!([trigger(1, conditions, payload)]),
        json!([]),
        json!({
            "fields": { "custom_fields_7": "payload.cf.cf_region" },
            "values": { "group_id": { "360": "7" }, "status": { "hold": "Waiting" },
                "custom_fields_7": { "eu": ["EU", "Europe"] } },
            "placeholders": { "ticket.latest_comment": "ticket.description" },
        }),
    );
    let rule = rule(&import.drafts[1]);
    assert_eq!(
        json!(rule.conditions),
        json!({
            "all": [
                { "field": "eventType", "operator": "is", "value": ["Ticket_Add", "Ticket_Update"] },
                { "field": "payload.departmentId", "operator": "is", "value": "7" },
                { "field": "payload.status", "operator": "is", "value": "Waiting" },
            ],
            "any": [
                { "field": "payload.cf.cf_region", "operator": "is", "value": ["EU", "Europe"] },
                { "field": "eventType", "operator": "is", "value": "Ticket_Add" },
            ],
        })
    );
    assert_eq!(
        rule.action.payload.as_deref(),
        Some("{\"c\":\"{{ticket.description}}\",\"i\":{{ticket.id}},\"o\":\"{{\"}")
    );
}

#[test]
fn an_automation_waits_since_one_thing() {
    let automation = |conditions: Value| {
        let all = of(
            json!([webhook(&json!({}))]),
            json!([]),
            json!([trigger(1, conditions, json!([["id", "{{ticket.id}}"]]))]),
            json!({}),
        );
        all.drafts.into_iter().nth(1).expect("the automation")
    };
    let pending = automation(json!({ "all": [
        { "field": "PENDING", "operator": "is", "value": "72" },
        { "field": "priority", "operator": "is", "value": "high" },
    ] }));
    let pending = rule(&pending);
    assert_eq!(pending.after_minutes, Some(72 * 60));
    assert_eq!(
        json!(pending.conditions)["all"],
        json!([
            { "field": "eventType", "operator": "is", "value": "Ticket_Update" },
            { "field": "payload.status", "operator": "changedTo", "value": ["Pending", "On Hold"] },
            { "field": "payload.priority", "operator": "is", "value": "High" },
        ])
    );
    assert_eq!(
        json!(pending.unless)["all"],
        json!([
            { "field": "eventType", "operator": "is", "value": "Ticket_Update" },
            { "field": "payload.status", "operator": "changed" },
        ])
    );
    assert_eq!(
        pending.action.parameters,
        Some(vec![("id".to_owned(), "{{ticket.id}}".to_owned())])
    );
    for (field, event) in [
        ("NEW", json!("Ticket_Add")),
        ("assigned_at", json!("Ticket_Update")),
        ("updated_at", json!(["Ticket_Add", "Ticket_Update"])),
        ("requester_updated_at", json!("Ticket_Thread_Add")),
    ] {
        let draft = automation(all(field, "greater_than", json!(2)));
        let request = rule(&draft);
        assert_eq!(json!(request.conditions)["all"][0]["value"], event, "{field}");
        assert_eq!(request.after_minutes, Some(120));
        assert!(request.unless.is_some(), "{field}");
    }
    for conditions in [
        all("due_date", "greater_than", json!(2)),
        all("NEW", "less_than", json!(2)),
        all("NEW", "is", json!(0)),
        all("NEW", "is", json!("4294967295")),
        all("NEW", "is_business_hours", json!(2)),
        json!({ "all": [{ "field": "NEW", "operator": "is", "value": 1 }, { "field": "OPEN", "operator": "is", "value": 1 }] }),
        json!({ "all": [], "any": [{ "field": "NEW", "operator": "is", "value": 1 }] }),
    ] {
        let draft = automation(conditions.clone());
        assert!(matches!(draft.fate, Fate::Impossible), "{conditions}");
        assert!(!draft.reasons.is_empty(), "{conditions}");
    }
}

#[test]
fn zoho_desks_webhooks_are_taken_nearly_as_they_are() {
    let document = json!({ "data": [
        { "id": "7000", "name": "Mirror", "url": "https://mirror.example/hook", "isEnabled": true,
          "type": "CUSTOMER_WEBHOOK", "ignoreSourceId": "49ad222a-f812-11e7-8c3f-9a214cf093ae",
          "includeEventsFrom": ["AUTOMATION"],
          "subscriptions": { "Ticket_Add": { "departmentIds": ["1", 2] }, "Ticket_Dance": null,
            "Ticket_Update": { "fields": ["status"], "includePrevState": true, "mood": 1 } } },
        { "id": "7001", "url": "https://x.example/", "type": "EXTENSION_WEBHOOK",
          "subscriptions": { "Ticket_Add": null }, "extension": { "extensionName": "Mirror" } },
        { "id": "7002", "url": "https://x.example/", "subscriptions": { "Ticket_Dance": null } },
        { "id": "7003", "url": "https://x.example/" },
    ] });
    let import = translated(json!({
        "source": "zohoDesk", "webhooks": document,
        "mapping": { "values": { "departmentIds": { "1": "10" } } },
    }));
    let request = made(&import.drafts[0]);
    assert_eq!(json!(request.subscriptions["Ticket_Add"]), json!({ "departmentIds": ["10", "2"] }));
    assert_eq!(
        json!(request.subscriptions["Ticket_Update"]),
        json!({ "fields": ["status"], "includePrevState": true })
    );
    assert_eq!(request.ignore_source_id.as_deref(), Some("49ad222a-f812-11e7-8c3f-9a214cf093ae"));
    assert_eq!(request.include_events_from, Some(vec!["AUTOMATION".to_owned()]));
    let notes = import.drafts[0].notes.join("\n");
    assert!(["Ticket_Dance", "mood", "departments 2"].iter().all(|word| notes.contains(word)));
    for draft in &import.drafts[1..] {
        assert!(matches!(draft.fate, Fate::Impossible), "{draft:?}");
    }
    assert!(import.drafts[1].reasons[0].contains("extension Mirror"));
}

#[test]
fn hostile_documents_make_nothing() {
    let nothing = [json!(null), json!(true), json!([]), json!({}), json!("x"), json!([[null]])];
    for one in &nothing {
        let webhook = webhook(&json!({
            "authentication": one, "custom_headers": one, "subscriptions": one, "external_source": null,
        }));
        let rule = json!({ "id": 1, "title": one, "conditions": one,
            "actions": [{ "field": "notification_webhook", "value": one }, one] });
        let request = json!({ "source": "zendesk", "webhooks": [webhook], "triggers": [rule],
            "automations": [rule] });
        let request: ImportRequest = serde_json::from_value(request).expect("a request");
        let import = request.translate().expect("an import");
        let is_rule = |draft: &&Draft| matches!(draft.fate, Fate::Rule { .. });
        assert_eq!(import.drafts.iter().filter(is_rule).count(), 0, "{one}");
    }
}
