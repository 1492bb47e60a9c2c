//! What people come for, without JavaScript.

use std::time::Duration;

use serde_json::json;

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    an_administrator_sees_an_extension_and_holds_it,
    an_administrator_takes_an_extension_out,
    an_administrator_agrees_to_an_upgrade_that_was_shown,
    figures_are_those_of_the_deliveries,
    what_happens_is_told_while_somebody_looks,
    a_vendor_sends_again_and_replaces_the_secret,
    an_operator_makes_tokens_and_reads_the_audit,
    each_lifts_its_own_hold_of_an_extension,
    event_types_and_notices_have_pages,
);

async fn an_administrator_sees_an_extension_and_holds_it(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let ada = Visitor::admin(&server, ORG).await;
    assert!(ada.get("/pages").await.text.contains("No extension is installed yet"));
    assert!(ada.get("/pages/webhooks").await.text.contains("There is no webhook"));
    let active = server.active(ORG).await;
    let home = ada.get("/pages").await.expect(200).text;
    for words in ["Ticket Mirror", "Active", "1.0.0", "Desk.events.ALL", "all departments"] {
        assert!(home.contains(words), "{words}: {home}");
    }
    let page = format!("/pages/installations/{}", active.id);
    let shown = ada.get(&page).await.expect(200).text;
    for words in ["Installed", "Authorised", "Its life so far", "Uninstall"] {
        assert!(shown.contains(words), "{words}");
    }
    let held =
        ada.act(&page, &format!("{page}/suspend"), &[("reason", "too loud")]).await.expect(200);
    assert!(
        held.text.contains("Suspended by: admin") && held.text.contains("too loud"),
        "{}",
        held.text
    );
    assert!(held.text.contains("admin:ada"), "the actor is the subject of the link");
    assert_eq!(server.installation(&active.id).await["state"], "suspended");
    let again = ada.act(&page, &format!("{page}/resume"), &[]).await.expect(200);
    assert!(again.text.contains("Your suspension is lifted"));
    assert_eq!(server.installation(&active.id).await["state"], "active");
    let actors = server.texts("select actor from transitions where command = 'suspend'").await;
    assert_eq!(actors, ["admin:ada"]);
    // A viewer sees the same and may do nothing.
    let vera = Visitor::viewer(&server, ORG).await;
    let seen = vera.get(&page).await.expect(200).text;
    assert!(!seen.contains("/suspend\"") && !seen.contains("Uninstall…"));
}

async fn an_administrator_takes_an_extension_out(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let ada = Visitor::admin(&server, ORG).await;
    let page = format!("/pages/installations/{}/uninstall", active.id);
    let before = ada.get(&page).await.expect(200).text;
    for words in ["What will happen", "Its webhook is removed", "revoked at the provider"] {
        assert!(before.contains(words), "{words}: {before}");
    }
    let after = ada.act(&page, &page, &[("reason", "not needed")]).await.expect(200).text;
    assert!(after.contains("Uninstalled. No request of it begins any more."), "{after}");
    assert_eq!(server.installation(&active.id).await["state"], "uninstalled");
    assert!(server.webhooks(ORG).await.is_empty());
    assert!(!after.contains("Uninstall…"), "it is out already");
    ada.get(&page).await.expect(303);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn an_administrator_agrees_to_an_upgrade_that_was_shown(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let next = server.package().version("2.0.0").with(|package| {
        package.resources["webhook"]["subscriptions"]["Contact_Add"] = json!(null);
    });
    server.publish(&next).await.expect(201);
    let request = json!({ "installationId": active.id, "version": "2.0.0" });
    let waiting = server.callback("upgrade", &request).await.expect(200);
    assert_eq!(waiting.json["consentRequired"], true, "{}", waiting.text);
    let ada = Visitor::admin(&server, ORG).await;
    assert!(ada.get("/pages").await.text.contains("Upgrade waits"));
    let page = format!("/pages/installations/{}", active.id);
    let shown = ada.get(&page).await.expect(200).text;
    for words in
        ["Version 2.0.0 waits for your consent", "Contact_Add", "Changes:", "An event that it gets"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // Another package than the one that was shown is not agreed to.
    let consent = format!("{page}/consent");
    ada.submit(&page, &consent, &[("digest", "sha256:0")]).await.expect(409);
    let vera = Visitor::viewer(&server, ORG).await;
    assert!(!vera.get(&page).await.text.contains(&consent));
    let agreed = ada.act(&page, &consent, &[]).await.expect(200).text;
    assert!(agreed.contains("The new version serves now"), "{agreed}");
    let installation = server.installation(&active.id).await;
    assert_eq!(installation["version"], "2.0.0");
    // Where scopes grow only an authorisation is consent: the page leads there.
    let more = server.package().version("3.0.0").with(|package| {
        package.manifest["zohoAuthorisation"]["scope"] =
            json!(["Desk.events.ALL", "Desk.tickets.READ", "Desk.contacts.READ"]);
    });
    server.publish(&more).await.expect(201);
    let request = json!({ "installationId": active.id, "version": "3.0.0" });
    server.callback("upgrade", &request).await.expect(200);
    let authorization = format!("{page}/authorization");
    // Another one than was shown is not authorised.
    ada.submit(&page, &authorization, &[("digest", "sha256:0")]).await.expect(409);
    let led = ada.act(&page, &authorization, &[]).await.expect(200).text;
    assert!(led.contains("/oauth/start/") && led.contains("To version 3.0.0"), "{led}");
    assert!(led.contains("Desk.contacts.READ"), "what is agreed to is shown: {led}");
}

async fn figures_are_those_of_the_deliveries(backend: Backend) {
    let world = World::start(backend).await;
    for number in 0..4 {
        world.ticket(&format!("good-{number}")).await;
        world.in_state(&format!("good-{number}"), "delivered").await;
    }
    world
        .server
        .vendor
        .behave("/hooks/desk", mortise::development::Behaviour::status(503).with_body("busy"));
    world.ticket("bad").await;
    world.attempted("bad", 1).await;
    let path = format!("/api/v1/webhooks/{}/statistics", world.webhook);
    let vendor = world.server.vendor_token("acme").await;
    let figures = world.server.client.get(&path, &vendor).await.expect(200).json;
    assert_eq!(figures["last24Hours"]["succeeded"], 4, "{figures}");
    assert_eq!(figures["last24Hours"]["failed"], 1, "{figures}");
    assert_eq!(figures["last24Hours"]["successRate"], 0.8, "{figures}");
    assert_eq!(figures["answerTimes"]["sample"], 5, "{figures}");
    assert_eq!(figures["waiting"]["count"], 1, "{figures}");
    let stranger = world.server.vendor_token("other").await;
    world.server.client.get(&path, &stranger).await.refused(404, "RESOURCE_NOT_FOUND");
    let ada = Visitor::admin(&world.server, ORG).await;
    let page = format!("/pages/webhooks/{}", world.webhook);
    let shown = ada.get(&page).await.expect(200).text;
    for words in ["80.0 %", "of 5 attempts", "4 succeeded and 1 failed", "answered 503"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let only = ada.get(&format!("{page}?state=delivered")).await.expect(200).text;
    assert!(!only.contains("answered 503") && only.contains("answered 200"));
    // What was counted outlives the process.
    let World { server, webhook, .. } = world;
    let server = server.restart().await;
    let path = format!("/api/v1/webhooks/{webhook}/statistics");
    let figures = server.client.get(&path, &server.operator).await.expect(200).json;
    assert_eq!(figures["last24Hours"]["succeeded"], 4, "{figures}");
    server.advance(Duration::from_hours(48));
    let figures = server.client.get(&path, &server.operator).await.expect(200).json;
    assert_eq!(figures["last24Hours"]["succeeded"], 0, "{figures}");
    assert_eq!(figures["last30Days"]["succeeded"], 4, "{figures}");
}

async fn what_happens_is_told_while_somebody_looks(backend: Backend) {
    use futures_util::StreamExt as _;
    let world = World::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let url = format!("/pages/webhooks/{}/live", world.webhook);
    let request = world.server.client.request(reqwest::Method::GET, &url, "");
    let response = request.header("cookie", &ada.cookie).send().await.expect("it answers");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut told = String::new();
    let mut posted = false;
    let clock = mortise::seam::Clock::default();
    let end = clock.instant() + Duration::from_secs(20);
    while !told.contains("answered 200") {
        assert!(clock.instant() < end, "never told: {told}");
        let chunk = stream.next().await.expect("it goes on").expect("it can be read");
        told.push_str(&String::from_utf8_lossy(&chunk));
        if !posted {
            assert!(told.contains("Nothing was delivered yet"), "{told}");
            world.ticket("t-1").await;
            posted = true;
        }
    }
    // A server that stops does not wait for those who watch.
    let stopping = clock.instant();
    let World { server, .. } = world;
    let _place = server.stop().await;
    assert!(clock.instant() - stopping < Duration::from_secs(8));
}

async fn a_vendor_sends_again_and_replaces_the_secret(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("t-1").await;
    let delivery =
        world.in_state("t-1", "delivered").await["id"].as_str().expect("an id").to_owned();
    let vic = Visitor::vendor(&world.server, "acme").await;
    let page = format!("/pages/deliveries/{delivery}");
    let shown = vic.get(&page).await.expect(200).text;
    for words in ["Attempt 1: answered 200", "webhook-id", "Waiting", "Ticket_Add"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("securityContext=") || shown.contains("securityContext=***"));
    vic.act(&page, &format!("{page}/retry"), &[]).await.expect(200);
    world.arrived(2).await;
    let marked = eventually("the attempt is marked as a replay", async || {
        let shown = vic.get(&page).await.expect(200).text;
        shown.contains("Attempt 2: answered 200").then_some(shown)
    })
    .await;
    assert_eq!(marked.matches(">Replay<").count(), 1, "{marked}");
    assert!(vic.get("/pages/deliveries").await.text.contains(">Replay<"));
    let webhook = format!("/pages/webhooks/{}", world.webhook);
    let job = vic
        .act(
            &webhook,
            &format!("{webhook}/recover"),
            &[("since", "2020-01-01T00:00"), ("state", "delivered")],
        )
        .await
        .expect(200)
        .text;
    assert!(job.contains("<progress"), "{job}");
    world.arrived(3).await;
    let tested = vic.act(&webhook, &format!("{webhook}/ping"), &[]).await.expect(200).text;
    assert!(tested.contains("What came of it") && tested.contains("Delivered"), "{tested}");
    let extension = "/pages/extensions/ticket-mirror";
    let before = world.secret().await;
    let shown = vic.act(extension, &format!("{extension}/secret"), &[]).await.expect(200).text;
    assert!(shown.contains(&before));
    let rotated = vic
        .act(extension, &format!("{extension}/rotate"), &[("hours", "24")])
        .await
        .expect(200)
        .text;
    let after = world.secret().await;
    assert!(
        rotated.contains(&after)
            && after != before
            && rotated.contains("A former one signs too until")
    );
    let journal = vic.get("/pages/journal").await.expect(200).text;
    assert!(journal.contains("onInstall"));
    for path in ["/pages/tokens", "/pages/audit", "/pages/findings", "/pages/events"] {
        vic.get(path).await.expect(404);
    }
}

async fn an_operator_makes_tokens_and_reads_the_audit(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let otto = Visitor::operator(&server).await;
    let home = otto.get("/pages").await.expect(200).text;
    for words in ["In the table", "Lag", "Breakers open", "Slowest, this hour and the last"] {
        assert!(home.contains(words), "{words}");
    }
    let changes = [("role", "viewer"), ("org", ORG), ("name", "a <viewer>")];
    let made = otto.act("/pages/tokens", "/pages/tokens", &changes).await.expect(200).text;
    let at = made.find("mortise_").expect("the value is told once");
    let token = &made[at..at + "mortise_".len() + 43];
    server.client.get("/api/v1/webhooks", token).await.expect(200);
    assert!(!otto.get("/pages/tokens").await.text.contains(token));
    let audit = otto.get("/pages/audit?action=token.create").await.expect(200).text;
    assert!(audit.contains("token.create") && audit.contains("operator:otto"), "{audit}");
    assert!(!audit.contains("session.begin"));
    let of_org = otto.get(&format!("/pages/audit?org={ORG}")).await.expect(200).text;
    assert!(of_org.contains(&active.id));
    let key = "/pages/extensions/ticket-mirror";
    let held = otto
        .act(&format!("{key}/suspend"), &format!("{key}/suspend"), &[("reason", "evil")])
        .await
        .expect(200)
        .text;
    assert!(held.contains("Suspended everywhere") && held.contains("evil"), "{held}");
    eventually("the installation is held", async || {
        (server.installation(&active.id).await["state"] == "suspended").then_some(())
    })
    .await;
    otto.act(key, &format!("{key}/resume"), &[]).await.expect(200);
    let found = otto.act("/pages/findings", "/pages/findings", &[]).await.expect(200).text;
    assert!(found.contains("What was found just now"), "{found}");
}

async fn each_lifts_its_own_hold_of_an_extension(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let (otto, vic) = (Visitor::operator(&server).await, Visitor::vendor(&server, "acme").await);
    let page = "/pages/extensions/ticket-mirror";
    let (suspend, resume) = (format!("{page}/suspend"), format!("{page}/resume"));
    vic.act(&suspend, &suspend, &[("reason", "a fault")]).await.expect(200);
    // The operator holds it too, so that the vendor alone cannot lift it.
    let held = otto.act(&suspend, &suspend, &[("reason", "evil")]).await.expect(200).text;
    assert!(held.contains("Suspended by: vendor, operator. evil"), "{held}");
    let lifted = vic.act(page, &resume, &[]).await.expect(200).text;
    assert!(lifted.contains("Your suspension is lifted."), "{lifted}");
    assert!(lifted.contains("Suspended by: operator"), "{lifted}");
    assert_eq!(server.installation(&active.id).await["state"], "suspended");
    let resumed = otto.act(page, &resume, &[]).await.expect(200).text;
    assert!(resumed.contains("Resumed. What was held goes on."), "{resumed}");
    assert_eq!(server.installation(&active.id).await["state"], "active");
}

async fn event_types_and_notices_have_pages(backend: Backend) {
    let world = World::start(backend).await;
    let vic = Visitor::vendor(&world.server, "acme").await;
    let types = vic.get("/pages/event-types").await.expect(200).text;
    assert!(types.contains("/pages/event-types/Ticket_Add") && types.contains("departmentIds"));
    let one = vic.get("/pages/event-types/Ticket_Add").await.expect(200).text;
    for words in ["A sample, as it is delivered", "&#34;eventType&#34;: &#34;Ticket_Add&#34;"] {
        assert!(one.contains(words), "{words}: {one}");
    }
    let named = vic.get("/pages/event-types?dialect=dzdesk").await.expect(200).text;
    assert!(named.contains("request.updated"), "{named}");
    vic.get("/pages/event-types/Nothing").await.expect(404);
    vic.get("/pages/event-types?dialect=nothing").await.expect(422);
    assert!(vic.get("/pages/notices").await.expect(200).text.contains("There is nothing to know."));
    world.server.vendor.behave("/hooks/desk", mortise::development::Behaviour::status(410));
    world.ticket("gone").await;
    let page = eventually("the notice is there", async || {
        let shown = vic.get("/pages/notices").await.expect(200).text;
        shown.contains("Put aside").then_some(shown)
    })
    .await;
    let dismiss = super::visitor::forms(&page)
        .into_iter()
        .find(|form| form.action.ends_with("/dismiss"))
        .expect("it can be put aside");
    let after = vic.act("/pages/notices", &dismiss.action, &[]).await.expect(200).text;
    assert!(after.contains("There is nothing to know."), "{after}");
    // The operator's first page counts webhooks, not the lanes of callbacks.
    let otto = Visitor::operator(&world.server).await;
    let home = otto.get("/pages").await.expect(200).text;
    assert!(home.contains("<dt>Not well</dt><dd>1</dd>"), "{home}");
    let counts = world.server.client.get("/api/v1/operation", &world.server.operator).await;
    assert_eq!(counts.expect(200).json["unwellCount"], json!({ "count": 1, "orMore": false }));
}
