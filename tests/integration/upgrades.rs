//! Upgrades: plans, what survives them, consent, and who serves until then.

use std::time::Duration;

use mortise::development::{Behaviour, Browser, Decision};
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::{HOOK, SOON, World, a_while, ticket};
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, ORG, TestServer, assert_absent, eventually};

on_both!(
    a_version_that_asks_for_no_more_is_applied_at_once,
    a_dry_run_tells_every_kind_of_change_and_writes_nothing,
    what_is_left_out_stays_and_null_clears,
    the_order_of_keys_is_no_change,
    the_old_version_serves_until_consent,
    a_later_upgrade_supersedes_the_consent_of_an_earlier_one,
    what_was_consented_to_is_what_comes,
    scopes_grow_by_an_authorisation_only,
    scopes_grow_through_the_browser,
    an_installation_that_waits_is_authorised_for_the_new_version,
    parameters_come_along,
    what_cannot_be_is_refused,
    late_calls_change_nothing,
    waiting_ends_with_its_deadline_and_with_its_version,
    what_is_queued_goes_where_the_webhook_is,
    a_webhook_that_becomes_ordered_forgets_nothing,
    uninstalling_drops_what_waits,
    an_upgraded_webhook_stays_locked,
);

const MARK: &str = "another-secret-of-a-parameter";

/// The usual package of a version, with a callback for updates.
fn version(server: &TestServer, version: &str) -> Package {
    let updates = format!("{}/callbacks", server.vendor_origin());
    server.package().version(version).with(|package| {
        package.manifest["callbackListener"]["onUpdate"] = json!(updates);
    })
}

/// The same with one event more, which asks for consent.
fn growing(server: &TestServer, number: &str, event: &str) -> Package {
    version(server, number).with(|package| {
        package.resources["webhook"]["subscriptions"][event] = Value::Null;
    })
}

async fn publish(server: &TestServer, package: &Package) -> String {
    server.publish(package).await.expect(201).text_of("digest")
}

async fn start(backend: Backend) -> World {
    World::with(backend, |_| {}, |_| {}).await
}

async fn upgrade(world: &World, version: &str) -> Answer {
    let body = json!({ "installationId": world.installation.id, "version": version });
    world.server.callback("upgrade", &body).await
}

async fn look(world: &World, version: &str) -> Answer {
    let body = json!({ "installationId": world.installation.id, "version": version });
    world.server.callback("upgrade?dryRun=true", &body).await
}

async fn agree(world: &World, consent_id: &str, digest: &str) -> Answer {
    let body = json!({
        "installationId": world.installation.id, "consentId": consent_id, "digest": digest,
        "grantedBy": "user-7",
    });
    world.server.callback("consent", &body).await
}

async fn seen(world: &World) -> Value {
    world.server.installation(&world.installation.id).await
}

async fn history(world: &World) -> Vec<Value> {
    let path = format!("/api/v1/installations/{}/history", world.installation.id);
    world.server.client.all(&path, &world.server.operator).await
}

async fn notices(world: &World, kind: &str) -> Vec<Value> {
    let admin = world.server.admin(ORG).await;
    let all = world.server.client.all("/api/v1/notices", &admin).await;
    all.into_iter().filter(|notice| notice["kind"] == kind).collect()
}

/// The names of a list of the plan.
fn names(answer: &Answer, list: &str) -> Vec<String> {
    let list = answer.json["plan"][list].as_array().expect("a list");
    let name = |one: &Value| {
        format!(
            "{}:{}",
            one["kind"].as_str().expect("a kind"),
            one["resourceName"].as_str().expect("a name")
        )
    };
    list.iter().map(name).collect()
}

async fn a_version_that_asks_for_no_more_is_applied_at_once(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    world.ticket("before").await;
    world.in_state("before", "delivered").await;
    let (secret, created) = (world.secret().await, world.webhook().await["createdTime"].clone());
    let second = version(server, "2.0.0").with(|package| {
        let webhook = &mut package.resources["webhook"];
        webhook["url"] = json!(format!("{}/hooks/second", server.vendor_origin()));
        webhook["name"] = json!("Second");
        webhook["subscriptions"] = json!({ "Ticket_Add": null });
    });
    publish(server, &second).await;
    let done = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(done.json["state"], "active");
    assert_eq!(done.json["version"], "2.0.0");
    assert_eq!(done.json["consentRequired"], false);
    assert_eq!(done.json["consentId"], Value::Null);
    assert_eq!(done.json["authorizationUrl"], Value::Null);
    assert_eq!(names(&done, "update"), ["webhook:ticket-mirror"]);
    for list in ["create", "delete", "unchanged"] {
        assert!(names(&done, list).is_empty(), "{}", done.text);
    }

    let webhook = world.webhook().await;
    assert_eq!(webhook["id"], world.webhook.as_str());
    assert_eq!(webhook["createdTime"], created);
    assert_eq!(webhook["name"], "Second");
    assert_eq!(webhook["subscriptions"], json!({ "Ticket_Add": null }));
    assert_eq!(webhook["extension"]["version"], "2.0.0");
    assert_eq!(world.secret().await, secret);
    let installation = seen(&world).await;
    assert_eq!(installation["version"], "2.0.0");
    assert_eq!(installation["digest"], done.json["digest"]);
    assert_eq!(installation["waitingUpgrade"], Value::Null);
    assert!(installation["upgradedTime"].is_string());

    world.ticket("after").await;
    let arrived = server.vendor.wait_for_path("/hooks/second", 1, SOON).await.expect("it arrives");
    let first = &server.vendor.received_at(HOOK)[0];
    assert_eq!(arrived[0].parameter("securityContext"), first.parameter("securityContext"));
    assert_eq!(server.vendor.received_at(HOOK).len(), 1);
    assert_eq!(world.deliveries("").await.len(), 2, "the history is there");

    // The vendor hears of it, from which version to which.
    let told = server.vendor.wait_for_path("/callbacks", 3, SOON).await.expect("they arrive");
    let told = told[2].json().expect("JSON");
    assert_eq!(told["event"], "onUpdate");
    assert_eq!(told["version"], "2.0.0");
    assert_eq!(told["formerVersion"], "1.0.0");
    let steps = history(&world).await;
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[2]["command"], "upgrade");
    assert_eq!(steps[2]["reason"], "from 1.0.0 to 2.0.0");
    assert_eq!((&steps[2]["from"], &steps[2]["to"]), (&json!("active"), &json!("active")));

    // Once more is nothing more.
    let again = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(names(&again, "unchanged"), ["webhook:ticket-mirror"]);
    assert!(names(&again, "update").is_empty());
    assert_eq!(history(&world).await.len(), 3);
    assert_eq!(world.webhook().await, webhook);
    // And back is an upgrade as any other; what it asks for in events is growth.
    let back = look(&world, "1.0.0").await.expect(200);
    assert_eq!(back.json["consentRequired"], true);
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_dry_run_tells_every_kind_of_change_and_writes_nothing(backend: Backend) {
    let field = |name: &str, length: u32| {
        json!({
            "resourceName": name, "module": "tickets", "displayLabel": name, "type": "Text",
            "maxLength": length,
        })
    };
    let world = World::with(
        backend,
        |_| {},
        |package| {
            package.resources["fields"] = json!([field("a", 1), field("b", 1), field("c", 1)]);
        },
    )
    .await;
    let server = &world.server;
    let second = version(server, "2.0.0").with(|package| {
        package.resources["fields"] = json!([field("d", 1), field("c", 2), field("b", 1)]);
        package.resources["webhook"]["resourceName"] = json!("renamed");
    });
    publish(server, &second).await;
    let tables = ["installations", "webhooks", "transitions", "upgrades", "audit", "kept_answers"];
    let state = async || {
        let mut all = Vec::new();
        for table in tables {
            all.push(server.texts(&format!("select cast(count(*) as text) from {table}")).await);
        }
        (all, seen(&world).await["version"].clone(), world.webhook().await)
    };
    let before = state().await;
    let request = server.client.request(
        reqwest::Method::POST,
        "/api/v1/callbacks/upgrade?dryRun=true",
        &server.operator,
    );
    let body = json!({ "installationId": world.installation.id, "version": "2.0.0" });
    let request = request.header("Idempotency-Key", "a-dry-run").json(&body);
    let plan = server.client.send(request).await.expect(200);
    assert_eq!(plan.json["dryRun"], true);
    assert_eq!(names(&plan, "create"), ["fields:d", "webhook:renamed"]);
    assert_eq!(names(&plan, "update"), ["fields:c"]);
    assert_eq!(names(&plan, "delete"), ["fields:a", "webhook:ticket-mirror"]);
    assert_eq!(names(&plan, "unchanged"), ["fields:b"]);
    assert_eq!(plan.json["plan"]["update"][0]["changes"][0]["pointer"], "/fields/1/maxLength");
    assert_eq!(plan.json["version"], "1.0.0");
    assert_eq!(plan.json["targetVersion"], "2.0.0");
    assert_eq!(state().await, before);

    // A rename is another webhook, and never two.
    upgrade(&world, "2.0.0").await.expect(200);
    let webhooks = server.webhooks(ORG).await;
    assert_eq!(webhooks.len(), 1);
    assert_ne!(webhooks[0]["id"], world.webhook.as_str());
    let plan = look(&world, "2.0.0").await.expect(200);
    assert_eq!(names(&plan, "unchanged").len(), 4);
}

async fn what_is_left_out_stays_and_null_clears(backend: Backend) {
    let world = World::with(
        backend,
        |_| {},
        |package| {
            package.resources["webhook"]["includeEventsFrom"] = json!(["AUTOMATION"]);
        },
    )
    .await;
    let server = &world.server;
    let second = version(server, "2.0.0").with(|package| {
        let webhook = package.resources["webhook"].as_object_mut().expect("an object");
        webhook.remove("description");
        webhook["name"] = json!("Second");
    });
    publish(server, &second).await;
    let third = version(server, "3.0.0").with(|package| {
        package.resources["webhook"]["includeEventsFrom"] = Value::Null;
        package.resources["webhook"]["description"] = Value::Null;
    });
    publish(server, &third).await;
    upgrade(&world, "2.0.0").await.expect(200);
    let webhook = world.webhook().await;
    assert_eq!(webhook["includeEventsFrom"], json!(["AUTOMATION"]));
    assert_eq!(webhook["description"], "Mirrors tickets.");
    let mut automatic = ticket(ORG, "automatic");
    automatic["origin"] = json!("AUTOMATION");
    assert_eq!(world.fans_out(&automatic).await, 1);

    upgrade(&world, "3.0.0").await.expect(200);
    let webhook = world.webhook().await;
    assert_eq!(webhook["includeEventsFrom"], Value::Null);
    assert_eq!(webhook["description"], Value::Null);
    automatic["eventId"] = json!("automatic-2");
    assert_eq!(world.fans_out(&automatic).await, 0);
}

async fn the_order_of_keys_is_no_change(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let same = server.package().version("1.0.1").with(|package| {
        let webhook = package.resources["webhook"].as_object().cloned().expect("an object");
        package.resources["webhook"] = webhook.into_iter().rev().collect();
        package.resources["webhook"]["subscriptions"] = json!({
            "Ticket_Comment_Add": {},
            "Ticket_Update": { "includePrevState": true, "fields": ["status"] },
            "Ticket_Add": null,
        });
    });
    publish(server, &same).await;
    let before = world.webhook().await;
    let done = upgrade(&world, "1.0.1").await.expect(200);
    assert_eq!(done.json["version"], "1.0.1");
    assert_eq!(names(&done, "unchanged"), ["webhook:ticket-mirror"]);
    assert!(names(&done, "update").is_empty(), "{}", done.text);
    let mut after = world.webhook().await;
    assert_eq!(after["extension"]["version"], "1.0.1");
    after["extension"]["version"] = json!("1.0.0");
    assert_eq!(after, before);
}

async fn the_old_version_serves_until_consent(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let digest = publish(server, &growing(server, "2.0.0", "Ticket_Delete")).await;
    let deleted = |id: &str| json!({ "eventId": id, "eventType": "Ticket_Delete", "orgId": ORG, "payload": { "id": id } });
    let waits = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(waits.json["consentRequired"], true);
    assert_eq!(waits.json["authorizationRequired"], false);
    assert_eq!((&waits.json["state"], &waits.json["version"]), (&json!("active"), &json!("1.0.0")));
    assert_eq!(waits.json["targetVersion"], "2.0.0");
    assert_eq!(waits.json["digest"], digest.as_str());
    assert_eq!(waits.json["growth"], json!([{ "kind": "event", "eventType": "Ticket_Delete" }]));
    let consent = waits.text_of("consentId");

    assert_eq!(world.fans_out(&deleted("d-1")).await, 0);
    world.ticket("t-1").await;
    let installation = seen(&world).await;
    assert_eq!(installation["version"], "1.0.0");
    let shown = &installation["waitingUpgrade"];
    assert_eq!(shown["consentId"], consent.as_str());
    assert_eq!(shown["version"], "2.0.0");
    assert_eq!(shown["digest"], digest.as_str());
    assert_eq!(shown["plan"], waits.json["plan"]);
    assert_eq!(shown["growth"], waits.json["growth"]);
    assert_eq!(shown["deadline"], Value::Null);
    assert!(shown["since"].is_string());
    let waiting = notices(&world, "upgrade.waiting").await;
    assert_eq!(waiting.len(), 1);
    let message = waiting[0]["message"].as_str().expect("a text");
    assert!(message.contains("2.0.0") && message.contains("Ticket_Delete"), "{message}");
    assert_eq!(waiting[0]["resolvedTime"], Value::Null);

    // The same again is the same upgrade.
    let again = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(again.text_of("consentId"), consent);
    assert_eq!(history(&world).await.len(), 3);

    // Another digest than the one that waits: nothing changes, and what waits is said.
    let other = seen(&world).await["digest"].as_str().expect("a digest").to_owned();
    let refused = agree(&world, &consent, &other).await.refused(409, "STATE_CONFLICT");
    assert!(refused.text_of("type").ends_with("consent-mismatch"), "{}", refused.text);
    assert_eq!(refused.json["waitingUpgrade"]["digest"], digest.as_str());
    assert_eq!(refused.json["waitingUpgrade"]["plan"], waits.json["plan"]);
    let nobody = "01890000-0000-7000-8000-000000000000";
    agree(&world, nobody, &digest).await.refused(404, "RESOURCE_NOT_FOUND");
    let unsigned = json!({
        "installationId": world.installation.id, "consentId": consent, "digest": digest,
        "grantedBy": "",
    });
    server.callback("consent", &unsigned).await.refused(422, "INVALID_DATA");
    assert_eq!(seen(&world).await["version"], "1.0.0");

    let done = agree(&world, &consent, &digest).await.expect(200);
    assert_eq!(done.json["version"], "2.0.0");
    assert_eq!(done.json["waitingUpgrade"], Value::Null);
    assert_eq!(done.json["webhooks"][0]["id"], world.webhook.as_str());
    assert_eq!(world.fans_out(&deleted("d-2")).await, 1);
    assert!(notices(&world, "upgrade.waiting").await[0]["resolvedTime"].is_string());
    let steps = history(&world).await;
    assert_eq!(steps[2]["reason"], "from 1.0.0 to 2.0.0; waits for consent");
    assert_eq!(steps[3]["command"], "consent");
    assert_eq!(steps[3]["reason"], "user-7 agreed; from 1.0.0 to 2.0.0");
    // The same consent again is answered again; with another digest it is not.
    assert_eq!(agree(&world, &consent, &digest).await.expect(200).json["version"], "2.0.0");
    assert_eq!(history(&world).await.len(), 4);
    agree(&world, &consent, &other).await.refused(409, "STATE_CONFLICT");
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_later_upgrade_supersedes_the_consent_of_an_earlier_one(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let second = publish(server, &growing(server, "2.0.0", "Ticket_Delete")).await;
    let third = publish(server, &growing(server, "3.0.0", "Contact_Add")).await;
    let first = upgrade(&world, "2.0.0").await.expect(200).text_of("consentId");
    let later = upgrade(&world, "3.0.0").await.expect(200).text_of("consentId");
    assert_ne!(first, later);
    let refused = agree(&world, &first, &second).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["consentState"], "superseded");
    assert_eq!(refused.json["waitingUpgrade"]["consentId"], later.as_str());
    assert_eq!(refused.json["waitingUpgrade"]["version"], "3.0.0");
    agree(&world, &later, &second).await.refused(409, "STATE_CONFLICT");
    assert_eq!(seen(&world).await["version"], "1.0.0");

    // The version that serves takes back what waits.
    let stays = upgrade(&world, "1.0.0").await.expect(200);
    assert_eq!(stays.json["consentRequired"], false);
    assert_eq!(seen(&world).await["waitingUpgrade"], Value::Null);
    let refused = agree(&world, &later, &third).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["consentState"], "withdrawn");
    let steps: Vec<Value> = history(&world).await;
    assert_eq!(steps.last().expect("a step")["command"], "withdrawUpgrade");
    assert!(notices(&world, "upgrade.waiting").await[0]["resolvedTime"].is_string());

    // One that needs no consent supersedes one that waits, too.
    publish(server, &version(server, "1.0.1")).await;
    let waits = upgrade(&world, "3.0.0").await.expect(200).text_of("consentId");
    upgrade(&world, "1.0.1").await.expect(200);
    let refused = agree(&world, &waits, &third).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["consentState"], "superseded");
    assert_eq!(seen(&world).await["version"], "1.0.1");
}

async fn what_was_consented_to_is_what_comes(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let wanted = growing(server, "2.0.0", "Ticket_Delete");
    let digest = publish(server, &wanted).await;
    let consent = upgrade(&world, "2.0.0").await.expect(200).text_of("consentId");
    // Neither a version that comes later, nor the kill switch, nor other content of the same.
    publish(server, &growing(server, "2.0.1", "Contact_Add")).await;
    let forged = wanted.with(|package| {
        package.resources["webhook"]["subscriptions"]["Account_Add"] = Value::Null;
    });
    server.publish(&forged).await.refused(409, "VERSION_CONFLICT");
    let switch = |what: &str| format!("/api/v1/extensions/ticket-mirror/{what}");
    let reason = json!({ "reason": "a look" });
    server.client.post(&switch("suspend"), &server.operator, &reason).await.expect(200);
    let done = agree(&world, &consent, &digest).await.expect(200);
    assert_eq!(
        (&done.json["state"], &done.json["version"]),
        (&json!("suspended"), &json!("2.0.0"))
    );
    server.client.post(&switch("resume"), &server.operator, &reason).await.expect(200);
    let events = world.webhook().await["subscriptions"].clone();
    assert!(events.get("Ticket_Delete").is_some() && events.get("Contact_Add").is_none());
    assert!(events.get("Account_Add").is_none());
    world.ticket("again").await;
    world.in_state("again", "delivered").await;
}

/// A version that asks for one scope more.
fn with_scope(server: &TestServer, number: &str, scope: &str) -> Package {
    version(server, number).with(|package| {
        let scopes = package.manifest["zohoAuthorisation"]["scope"].as_array_mut();
        scopes.expect("a list").push(json!(scope));
    })
}

async fn scopes_grow_by_an_authorisation_only(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let digest = publish(server, &with_scope(server, "2.0.0", "Desk.contacts.READ")).await;
    let old = server.provider.live_tokens();
    assert_eq!(old.len(), 2);
    let waits = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(waits.json["authorizationRequired"], true);
    let consent = waits.text_of("consentId");
    let refused = agree(&world, &consent, &digest).await.refused(409, "STATE_CONFLICT");
    assert!(refused.text_of("type").ends_with("authorization-needed"), "{}", refused.text);

    // Less than what is asked for: the old version goes on, the new tokens go.
    server.provider.conduct(|conduct| {
        conduct.grant_only = Some(vec!["Desk.events.ALL".to_owned()]);
    });
    let answer = server.consent(&waits.text_of("authorizationUrl")).await;
    let refused = server.authorize(&world.installation.id, &answer).await;
    refused.refused(422, "UNPROCESSABLE_ENTITY");
    server.provider.conduct(|conduct| conduct.grant_only = None);
    eventually("the new tokens are revoked", async || {
        (server.provider.live_tokens().len() == 2).then_some(())
    })
    .await;
    let installation = seen(&world).await;
    assert_eq!(installation["version"], "1.0.0");
    assert_eq!(installation["connection"]["health"], "ok");
    assert_eq!(installation["waitingUpgrade"]["consentId"], consent.as_str());

    let again = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(again.text_of("consentId"), consent);
    let stale = server.consent(&again.text_of("authorizationUrl")).await;
    let again = upgrade(&world, "2.0.0").await.expect(200);
    let answer = server.consent(&again.text_of("authorizationUrl")).await;
    let done = server.authorize(&world.installation.id, &answer).await.expect(200);
    assert_eq!((&done.json["state"], &done.json["version"]), (&json!("active"), &json!("2.0.0")));
    assert_eq!(done.json["waitingUpgrade"], Value::Null);
    assert_eq!(
        done.json["grantedScopes"],
        json!(["Desk.events.ALL", "Desk.tickets.READ", "Desk.contacts.READ"])
    );
    assert_eq!(done.json["webhooks"][0]["id"], world.webhook.as_str());
    // All states died with it.
    server.authorize(&world.installation.id, &stale).await.refused(422, "INVALID_STATE");
    eventually("the old tokens are revoked", async || {
        old.iter().all(|token| !server.provider.is_live(&token.token)).then_some(())
    })
    .await;
    assert_eq!(server.provider.live_tokens().len(), 2);
    assert_eq!(server.texts("select 'x' from connections").await.len(), 1);
    assert_eq!(agree(&world, &consent, &digest).await.expect(200).json["version"], "2.0.0");
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn scopes_grow_through_the_browser(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    publish(server, &with_scope(server, "2.0.0", "Desk.contacts.READ")).await;
    publish(server, &with_scope(server, "3.0.0", "Desk.accounts.READ")).await;
    let second = upgrade(&world, "2.0.0").await.expect(200);
    let third = upgrade(&world, "3.0.0").await.expect(200);
    // The address of a superseded upgrade is worth nothing any more.
    let mut browser = Browser::new().expect("a browser");
    let gone = url::Url::parse(&second.text_of("startUrl")).expect("an address");
    assert_eq!(browser.open(&gone).await.expect("a page").status, 410);
    assert_eq!(seen(&world).await["version"], "1.0.0");
    let page = browser.walk(&third.text_of("startUrl"), Decision::Approve).await.expect("a page");
    assert_eq!(page.status, 200, "{}", page.body);
    let installation = seen(&world).await;
    assert_eq!(installation["version"], "3.0.0");
    assert_eq!(installation["webhooks"][0]["id"], world.webhook.as_str());
    let steps = history(&world).await;
    assert_eq!(steps.last().expect("a step")["reason"], "authorised; from 1.0.0 to 3.0.0");

    // Without a scope more, an authorisation is consent as well.
    let package = with_scope(server, "4.0.0", "Desk.accounts.READ").with(|package| {
        package.resources["webhook"]["subscriptions"]["Contact_Add"] = Value::Null;
    });
    publish(server, &package).await;
    let waits = upgrade(&world, "4.0.0").await.expect(200);
    assert_eq!(waits.json["authorizationRequired"], false);
    let answer = server.consent(&waits.text_of("authorizationUrl")).await;
    let done = server.authorize(&world.installation.id, &answer).await.expect(200);
    assert_eq!(done.json["version"], "4.0.0");
}

async fn an_installation_that_waits_is_authorised_for_the_new_version(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    publish(&server, &server.package()).await;
    publish(&server, &growing(&server, "2.0.0", "Ticket_Delete")).await;
    publish(&server, &version(&server, "3.0.0").without_authorization()).await;
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "version": "1.0.0" });
    let waiting = server.install_with(request.clone()).await;
    let old = server.consent(&waiting.authorization_url).await;
    let body = json!({ "installationId": waiting.id, "version": "2.0.0" });
    let done = server.callback("upgrade", &body).await.expect(200);
    assert_eq!(done.json["state"], "pendingAuthorization");
    assert_eq!(done.json["version"], "2.0.0");
    assert_eq!(done.json["consentRequired"], false);
    server.authorize(&waiting.id, &old).await.refused(422, "INVALID_STATE");
    assert!(server.webhooks(ORG).await.is_empty());
    // The request that installed it is the same still.
    server.callback("install", &request).await.expect(200);
    let answer = server.consent(&done.text_of("authorizationUrl")).await;
    let active = server.authorize(&waiting.id, &answer).await.expect(200);
    assert_eq!(
        (&active.json["state"], &active.json["version"]),
        (&json!("active"), &json!("2.0.0"))
    );
    let webhooks = server.webhooks(ORG).await;
    assert!(webhooks[0]["subscriptions"].get("Ticket_Delete").is_some());

    // Where the version has nothing to authorise, nothing is waited for; and the other way round
    // the tokens are given back.
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": "2", "version": "1.0.0" });
    let waiting = server.install_with(request).await;
    let body = json!({ "installationId": waiting.id, "version": "3.0.0" });
    let done = server.callback("upgrade", &body).await.expect(200);
    assert_eq!(done.json["state"], "active");
    let live = server.provider.live_tokens().len();
    let id = active.text_of("installationId");
    let body = json!({ "installationId": id, "version": "3.0.0" });
    server.callback("upgrade", &body).await.expect(200);
    assert!(server.webhooks(ORG).await.is_empty());
    eventually("the tokens are revoked", async || {
        (server.provider.live_tokens().len() == live - 2).then_some(())
    })
    .await;
    let seen = server.installation(&id).await;
    assert_eq!(seen["connection"]["health"], "none");
    assert_eq!(seen["grantedScopes"], Value::Null);
}

async fn parameters_come_along(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let configure = json!({
        "installationId": world.installation.id,
        "config": { "mirrorHost": "a.example", "mirrorToken": MARK },
    });
    server.callback("configure", &configure).await.expect(200);
    let parameter = |name: &str, mandatory: bool, secure: bool| {
        json!({
            "name": name, "displayName": name, "userdefined": true, "type": "text",
            "mandatory": mandatory, "secure": secure,
        })
    };
    let second = version(server, "2.0.0").with(|package| {
        package.manifest["config"] = json!([
            parameter("mirrorHost", true, false),
            parameter("region", true, false),
            parameter("mirrorToken", false, true),
        ]);
    });
    publish(server, &second).await;
    let third = version(server, "3.0.0").with(|package| {
        package.manifest["config"] = json!([
            parameter("region", true, false),
            parameter("mirrorToken", false, false),
            parameter("key", true, true),
        ]);
    });
    let digest = publish(server, &third).await;
    for answer in [look(&world, "2.0.0").await, upgrade(&world, "2.0.0").await] {
        let refused = answer.refused(422, "INVALID_DATA");
        assert!(refused.text.contains("region is mandatory"), "{}", refused.text);
    }
    assert_eq!(seen(&world).await["version"], "1.0.0");
    let with = |version: &str, config: Value| json!({ "installationId": world.installation.id, "version": version, "config": config });
    let unknown = with("2.0.0", json!({ "region": "eu", "regoin": "eu" }));
    server.callback("upgrade", &unknown).await.refused(422, "INVALID_DATA");
    let done =
        server.callback("upgrade", &with("2.0.0", json!({ "region": "eu" }))).await.expect(200);
    assert_eq!(done.json["version"], "2.0.0");
    assert_eq!(seen(&world).await["config"], json!({ "mirrorHost": "a.example", "region": "eu" }));
    let same = with("2.0.0", json!({ "region": "us" }));
    server.callback("upgrade", &same).await.refused(422, "INVALID_DATA");

    // A secret parameter more needs consent; what comes with the upgrade waits with it, sealed.
    let secret = "secret-that-came-with-an-upgrade";
    let request = with("3.0.0", json!({ "key": secret }));
    let waits = server.callback("upgrade", &request).await.expect(200);
    assert_eq!(waits.json["consentRequired"], true);
    assert_eq!(waits.json["growth"], json!([{ "kind": "secretParameter", "name": "key" }]));
    let consent = waits.text_of("consentId");
    assert_eq!(
        server.callback("upgrade", &request).await.expect(200).text_of("consentId"),
        consent
    );
    assert_eq!(upgrade(&world, "3.0.0").await.expect(200).text_of("consentId"), consent);
    assert_absent(&server.dump().await, secret);
    agree(&world, &consent, &digest).await.expect(200);
    let config = seen(&world).await["config"].clone();
    assert_eq!(config, json!({ "region": "eu" }), "neither what is gone nor what was hidden");
    let dump = server.dump().await;
    assert_absent(&dump, secret);
    assert_absent(&dump, MARK);
    let kept = "select 'x' from upgrades where sealed_config is not null";
    assert!(server.texts(kept).await.is_empty());
    let sealed = "select 'x' from installations where sealed_config is not null";
    assert_eq!(server.texts(sealed).await.len(), 1);
}

async fn what_cannot_be_is_refused(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    publish(server, &growing(server, "2.0.0", "Ticket_Delete")).await;
    let withdraw = "/api/v1/extensions/ticket-mirror/versions/2.0.0/withdraw";
    let consent = upgrade(&world, "2.0.0").await.expect(200);
    server.client.post(withdraw, &server.operator, &json!({})).await.expect(200);
    upgrade(&world, "2.0.0").await.refused(409, "STATE_CONFLICT");
    let digest = consent.text_of("digest");
    let refused = agree(&world, &consent.text_of("consentId"), &digest).await;
    refused.refused(409, "STATE_CONFLICT");
    assert_eq!(seen(&world).await["version"], "1.0.0");
    upgrade(&world, "9.9.9").await.refused(404, "RESOURCE_NOT_FOUND");
    // Another extension's version is none of this one.
    publish(server, &version(server, "7.0.0").key("other")).await;
    upgrade(&world, "7.0.0").await.refused(404, "RESOURCE_NOT_FOUND");
    let nobody = json!({
        "installationId": "01890000-0000-7000-8000-000000000000", "version": "1.0.0",
    });
    server.callback("upgrade", &nobody).await.refused(404, "RESOURCE_NOT_FOUND");
    for body in [
        json!({ "installationId": world.installation.id }),
        json!({ "installationId": world.installation.id, "version": 2 }),
        json!({ "installationId": world.installation.id, "version": "1.0.0", "x": 1 }),
        json!({ "installationId": world.installation.id, "version": "1.0.0",
            "returnUrl": "https://elsewhere.example/" }),
    ] {
        server.callback("upgrade", &body).await.refused(422, "INVALID_DATA");
    }
    let body = json!({ "installationId": world.installation.id, "version": "1.0.0" });
    server.callback("upgrade?dryRun=perhaps", &body).await.refused(422, "INVALID_DATA");
    for token in [
        server.admin(ORG).await,
        server.viewer(ORG).await,
        server.vendor_token("acme").await,
        world.host.clone(),
    ] {
        for path in ["/api/v1/callbacks/upgrade", "/api/v1/callbacks/consent"] {
            server.client.post(path, &token, &body).await.refused(403, "FORBIDDEN");
        }
    }
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    upgrade(&world, "1.0.0").await.refused(409, "STATE_CONFLICT");
}

async fn late_calls_change_nothing(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    publish(server, &version(server, "2.0.0")).await;
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    let live = server.install_with(json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "version": "1.0.0",
    }));
    let live = live.await;
    let answer = server.consent(&live.authorization_url).await;
    server.authorize(&live.id, &answer).await.expect(200);
    for (id, state) in [(&world.installation.id, "uninstalled"), (&live.id, "active")] {
        let body = json!({ "installationId": id, "version": "2.0.0", "generation": 1 });
        let answered = server.callback("upgrade", &body).await.expect(200);
        assert_eq!(answered.json["state"], state);
        assert_eq!(answered.json["version"], "1.0.0");
    }
    assert_eq!(server.installation(&live.id).await["version"], "1.0.0");
    let body = json!({ "installationId": live.id, "version": "2.0.0", "generation": 2 });
    assert_eq!(server.callback("upgrade", &body).await.expect(200).json["version"], "2.0.0");
}

async fn waiting_ends_with_its_deadline_and_with_its_version(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let before = server.seam.clock.now().plus(Duration::from_hours(2)).rfc3339();
    let second = growing(server, "2.0.0", "Ticket_Delete").with(|package| {
        package.manifest["updateBefore"] = json!(before);
    });
    let digest = publish(server, &second).await;
    let waits = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(waits.json["deadline"], before.as_str());
    assert_eq!(seen(&world).await["waitingUpgrade"]["deadline"], before.as_str());
    server.advance(Duration::from_hours(1));
    a_while().await;
    assert!(seen(&world).await["waitingUpgrade"].is_object());
    server.advance(Duration::from_hours(1) + Duration::from_secs(1));
    // It is too late at once, whoever looks first.
    let consent = waits.text_of("consentId");
    let refused = agree(&world, &consent, &digest).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["consentState"], "expired");
    eventually("the waiting ends", async || {
        seen(&world).await["waitingUpgrade"].is_null().then_some(())
    })
    .await;
    assert_eq!(seen(&world).await["version"], "1.0.0", "nothing is forced");
    let steps = history(&world).await;
    assert_eq!(steps.last().expect("a step")["command"], "expireUpgrade");
    assert!(notices(&world, "upgrade.waiting").await[0]["resolvedTime"].is_string());
    assert_eq!(notices(&world, "upgrade.expired").await[0]["resolvedTime"], Value::Null);

    // A deadline that has passed is none: the upgrade can be proposed again.
    let again = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(again.json["deadline"], Value::Null);
    assert_ne!(again.text_of("consentId"), consent);
    assert!(notices(&world, "upgrade.expired").await[0]["resolvedTime"].is_string());
    let withdraw = "/api/v1/extensions/ticket-mirror/versions/2.0.0/withdraw";
    server.client.post(withdraw, &server.operator, &json!({})).await.expect(200);
    eventually("the waiting ends", async || {
        seen(&world).await["waitingUpgrade"].is_null().then_some(())
    })
    .await;
    let steps = history(&world).await;
    let last = steps.last().expect("a step");
    assert_eq!(last["command"], "withdrawUpgrade");
    assert_eq!(last["reason"], "the version was withdrawn");
    assert!(last["actor"].as_str().is_some_and(|actor| actor.starts_with("system:")));
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_is_queued_goes_where_the_webhook_is(backend: Backend) {
    let world = World::with(backend, |settings| settings.set("delivery.schedule", "1h,1h"), |_| {});
    let world = world.await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("queued").await;
    world.attempted("queued", 1).await;
    let second = version(server, "2.0.0").with(|package| {
        let address = format!("{}/hooks/second", server.vendor_origin());
        package.resources["webhook"]["url"] = json!(address);
    });
    publish(server, &second).await;
    let third = version(server, "3.0.0").with(|package| package.resources = json!({}));
    publish(server, &third).await;
    upgrade(&world, "2.0.0").await.expect(200);
    server.vendor.behave("/hooks/second", Behaviour::status(503));
    server.advance(Duration::from_hours(1) + Duration::from_mins(10));
    let arrived = server.vendor.wait_for_path("/hooks/second", 1, SOON).await.expect("it arrives");
    assert_eq!(arrived[0].json().expect("JSON")[0]["payload"]["id"], "queued");
    assert_eq!(server.vendor.received_at(HOOK).len(), 1);
    let delivery = world.attempted("queued", 2).await["id"].as_str().expect("an id").to_owned();

    // The webhook goes: what waits for it is cancelled, and its history stays.
    let done = upgrade(&world, "3.0.0").await.expect(200);
    assert_eq!(names(&done, "delete"), ["webhook:ticket-mirror"]);
    assert!(server.webhooks(ORG).await.is_empty());
    let path = format!("/api/v1/deliveries/{delivery}");
    let kept = server.client.get(&path, &server.operator).await.expect(200);
    assert_eq!(kept.json["state"], "cancelled");
    assert_eq!(world.fans_out(&ticket(ORG, "nobody")).await, 0);
    server.advance(Duration::from_hours(2));
    a_while().await;
    assert_eq!(server.vendor.received_at("/hooks/second").len(), 1);
    // And comes back as another one: that is growth again.
    let back = upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(back.json["consentRequired"], true);
    agree(&world, &back.text_of("consentId"), &back.text_of("digest")).await.expect(200);
    let webhooks = server.webhooks(ORG).await;
    assert_eq!(webhooks.len(), 1);
    assert_ne!(webhooks[0]["id"], world.webhook.as_str());
}

async fn a_webhook_that_becomes_ordered_forgets_nothing(backend: Backend) {
    let world = World::with(backend, |settings| settings.set("delivery.schedule", "1h,1h"), |_| {});
    let world = world.await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    for id in ["u-1", "u-2"] {
        world.ticket(id).await;
        world.attempted(id, 1).await;
    }
    let second = version(server, "2.0.0").with(|package| {
        package.resources["webhook"]["mortise"] = json!({ "ordered": true });
    });
    publish(server, &second).await;
    let third = version(server, "3.0.0").with(|package| {
        package.resources["webhook"]["mortise"] = json!({ "ordered": null });
    });
    publish(server, &third).await;
    upgrade(&world, "2.0.0").await.expect(200);
    assert_eq!(world.webhook().await["ordered"], true);
    world.ticket("o-1").await;
    world.attempted("o-1", 1).await;
    server.vendor.behave(HOOK, Behaviour::status(200));
    server.advance(Duration::from_hours(1) + Duration::from_mins(10));
    for id in ["u-1", "u-2", "o-1"] {
        world.in_state(id, "delivered").await;
    }
    // And back: what waits in order is not forgotten either.
    server.vendor.behave(HOOK, Behaviour::status(500));
    for id in ["o-2", "o-3"] {
        world.ticket(id).await;
    }
    world.attempted("o-2", 1).await;
    upgrade(&world, "3.0.0").await.expect(200);
    server.vendor.behave(HOOK, Behaviour::status(200));
    server.advance(Duration::from_hours(1) + Duration::from_mins(10));
    world.ticket("u-3").await;
    for id in ["o-2", "o-3", "u-3"] {
        world.in_state(id, "delivered").await;
    }
}

async fn uninstalling_drops_what_waits(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let digest = publish(server, &with_scope(server, "2.0.0", "Desk.contacts.READ")).await;
    let waits = upgrade(&world, "2.0.0").await.expect(200);
    let answer = server.consent(&waits.text_of("authorizationUrl")).await;
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    let installation = seen(&world).await;
    assert_eq!(installation["state"], "uninstalled");
    assert_eq!(installation["version"], "1.0.0");
    assert_eq!(installation["waitingUpgrade"], Value::Null);
    assert!(notices(&world, "upgrade.waiting").await[0]["resolvedTime"].is_string());
    server.authorize(&world.installation.id, &answer).await.refused(422, "INVALID_STATE");
    let refused = agree(&world, &waits.text_of("consentId"), &digest).await;
    refused.refused(409, "STATE_CONFLICT");
    assert_eq!(server.texts("select state from upgrades").await, ["uninstalled"]);
    assert!(server.texts("select 'x' from upgrades where waiting is not null").await.is_empty());
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn an_upgraded_webhook_stays_locked(backend: Backend) {
    let world = start(backend).await;
    let server = &world.server;
    let second = version(server, "2.0.0")
        .with(|package| package.resources["webhook"]["name"] = json!("Two"));
    publish(server, &second).await;
    upgrade(&world, "2.0.0").await.expect(200);
    let path = format!("/api/v1/webhooks/{}", world.webhook);
    let before = world.webhook().await;
    for token in [server.admin(ORG).await, server.operator.clone()] {
        for method in [reqwest::Method::PATCH, reqwest::Method::PUT, reqwest::Method::DELETE] {
            let body = json!({ "name": "mine" });
            let refused = server.client.call(method, &path, &token, Some(&body)).await;
            refused.refused(403, "FORBIDDEN");
        }
    }
    assert_eq!(world.webhook().await, before);
}
