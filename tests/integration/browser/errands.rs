//! Longer errands in a browser: consent over the whole way of an authorisation, and an org's own
//! webhooks and rules, made, tried in place and changed; by the keyboard alone where that is harder.

use mortise::development::Behaviour;
use serde_json::{Value, json};

use super::driver::{Browser, ENTER, TAB};
use super::visits::{busy_world, enter, examine, focus, invitation, look};
use crate::support::own_world::OwnWorld;
use crate::support::server::{Backend, ORG};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_goes_the_whole_way_of_an_authorisation() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let more = world.server.package().version("2.0.0").with(|package| {
        package.manifest["zohoAuthorisation"]["scope"] =
            json!(["Desk.events.ALL", "Desk.tickets.READ", "Desk.contacts.READ"]);
    });
    world.server.publish(&more).await.expect(201);
    let request = json!({ "installationId": world.installation.id, "version": "2.0.0" });
    world.server.callback("upgrade", &request).await.expect(200);
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    enter(&browser, &invitation(&world.server, request).await).await;
    browser.click("main table a").await;
    browser.sees("Version 2.0.0 waits for your consent").await;
    examine(&browser, "admin-upgrade").await;
    browser.click("section[aria-labelledby=upgrade] button").await;
    browser.sees("Authorise at your help desk").await;
    browser.sees("To version 2.0.0").await;
    look(&browser, "admin-authorise").await;
    browser.click("main a.button").await;
    // The authorisation server's own page.
    browser.sees("Approve").await;
    browser.click("button[value=approve]").await;
    browser.sees("uthorised").await;
    let page = format!("/pages/installations/{}", world.installation.id);
    browser.open(&world.server.client.url(&page)).await;
    browser.sees("Version 2.0.0").await;
    let installation = world.server.installation(&world.installation.id).await;
    assert_eq!(
        (&installation["version"], &installation["state"]),
        (&json!("2.0.0"), &json!("active"))
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_webhook_is_made_tried_and_changed() {
    let Some(browser) = Browser::start().await else { return };
    let world = OwnWorld::start(Backend::Sqlite).await;
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    enter(&browser, &invitation(&world.server, request).await).await;
    browser.open(&world.server.client.url("/pages/webhooks")).await;
    browser.click("a.button").await;
    browser.sees("Only the address and the events are needed").await;
    examine(&browser, "admin-webhook-new").await;
    let busy = Behaviour::status(503).with_body("the queue is full");
    world.server.vendor.behave("/mine", busy);
    browser.write("#url", &world.server.vendor.url("/mine")).await;
    browser.write("#name", "Mine").await;
    browser.click("details summary").await;
    browser.click("#subscriptions-Ticket_Add").await;
    // What belongs to a choice shows with it.
    let hidden = "return document.querySelector('#authentication-username').checkVisibility()";
    assert_eq!(browser.script(hidden).await, json!(false));
    browser.click("input[name=authentication][value=basic]").await;
    assert_eq!(browser.script(hidden).await, json!(true));
    browser.click("input[name=authentication][value=none]").await;
    browser.click("input[name=secret-choice][value=own]").await;
    browser.write("#secret", "typed once").await;
    // Tried in place: nothing that was typed in is lost.
    browser.click("button[value=test]").await;
    browser.sees("the queue is full").await;
    browser.sees("The endpoint answered, but not with success.").await;
    let kept = browser.script("return document.querySelector('#secret').value").await;
    assert_eq!(kept, json!("typed once"));
    examine(&browser, "admin-webhook-tried").await;
    // Nothing takes requests there, so it is not saved, and the field says so.
    browser.click("button[value=save]").await;
    browser.sees("nothing takes requests at this address").await;
    assert_eq!(world.server.webhooks(ORG).await, Vec::<Value>::new());
    // The browser says of an answer with 422 that it is one.
    let _of_the_refusal = browser.complaints().await;
    look(&browser, "admin-webhook-refused").await;
    world.server.vendor.behave("/mine", Behaviour::status(200));
    browser.write("#secret", "typed again").await;
    browser.click("button[value=save]").await;
    browser.sees("It is there.").await;
    examine(&browser, "admin-webhook-own").await;
    let id = browser.path().await.rsplit('/').next().expect("an id").to_owned();
    browser.open(&world.server.client.url(&format!("/pages/webhooks/{id}/edit"))).await;
    browser.sees("Keep the present one").await;
    look(&browser, "admin-webhook-edit").await;
    browser.script("document.querySelector('#description').value = 'For the team'").await;
    browser.click("button[value=save]").await;
    browser.sees("For the team").await;
    browser.open(&world.server.client.url(&format!("/pages/webhooks/{id}/delete"))).await;
    browser.sees("What will happen").await;
    look(&browser, "admin-webhook-delete").await;
    browser.click("button.danger").await;
    browser.sees("Deleted.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_made_and_read() {
    let Some(browser) = Browser::start().await else { return };
    let world = OwnWorld::start(Backend::Sqlite).await;
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    enter(&browser, &invitation(&world.server, request).await).await;
    browser.open(&world.server.client.url("/pages/rules")).await;
    browser.sees("There is no trigger.").await;
    look(&browser, "admin-rules-empty").await;
    let body = json!({
        "name": "Called", "dialect": "zendesk", "connection": "automation", "subscriptions": {},
    });
    let webhook = world.make("/hook", body).await;
    browser.open(&world.server.client.url(&format!("/pages/webhooks/{webhook}"))).await;
    browser.click(".said-waiting a").await;
    browser.sees("How long it waits").await;
    browser.write("#name", "Reminder").await;
    browser.write("#afterMinutes", "90").await;
    browser.write("[name=\"unless.0.field\"]", "eventType").await;
    browser.write("[name=\"unless.0.value\"]", "Ticket_Comment_Add").await;
    look(&browser, "admin-rule-new").await;
    browser.click("button[value=save]").await;
    browser.sees("It is there.").await;
    browser.sees("90 min").await;
    examine(&browser, "admin-rule").await;
    browser.open(&world.server.client.url("/pages/rules")).await;
    browser.sees("Reminder").await;
    examine(&browser, "admin-rules").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_by_the_keyboard_alone() {
    let Some(browser) = Browser::start().await else { return };
    let world = OwnWorld::start(Backend::Sqlite).await;
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    enter(&browser, &invitation(&world.server, request).await).await;
    focus(&browser, "Webhooks").await;
    browser.press(ENTER).await;
    browser.sees("Everything that leaves by webhook").await;
    focus(&browser, "New webhook").await;
    browser.press(ENTER).await;
    browser.sees("Only the address and the events are needed").await;
    go_to(&browser, "url").await;
    browser.press(&world.server.vendor.url("/keys")).await;
    go_to(&browser, "subscriptions-Ticket_Add").await;
    browser.press(" ").await;
    focus(&browser, "Make the webhook").await;
    browser.press(ENTER).await;
    browser.sees("Copy it now; it is not shown again.").await;
    assert_eq!(world.server.webhooks(ORG).await.len(), 1);
    browser.close().await;
}

/// Goes on by the tab key until the focus is on an element, and opens what is closed on the way.
async fn go_to(browser: &Browser, id: &str) {
    for _ in 0..200 {
        let focused = browser
            .script("const one = document.activeElement; return [one.id, one.tagName === 'SUMMARY' && !one.parentElement.open]")
            .await;
        if focused[0] == json!(id) {
            return;
        }
        if focused[1] == json!(true) {
            browser.press(ENTER).await;
        }
        browser.press(TAB).await;
    }
    panic!("the tab key never came to {id}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_pages_of_each_role_are_accessible() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let url = |path: &str| world.server.client.url(path);
    let request = json!({ "role": "vendor", "vendor": "acme", "subject": "vic" });
    enter(&browser, &invitation(&world.server, request).await).await;
    for (path, words, name) in [
        ("/pages/event-types", "What there is to subscribe to", "vendor-event-types"),
        ("/pages/event-types/Ticket_Add", "A sample, as it is delivered", "vendor-event-type"),
        ("/pages/deliveries", "What was sent, newest first", "vendor-deliveries"),
        ("/pages/jobs", "There is no job.", "vendor-jobs"),
        ("/pages/notices", "What you should know", "vendor-notices"),
        ("/pages/webhooks", "Everything that leaves", "vendor-webhooks"),
    ] {
        browser.open(&url(path)).await;
        browser.sees(words).await;
        look(&browser, name).await;
    }
    browser.click("header form button").await;
    browser.sees("You are signed out.").await;
    look(&browser, "sign-in").await;
    let request = json!({ "role": "operator", "subject": "otto" });
    enter(&browser, &invitation(&world.server, request).await).await;
    for (path, words, name) in [
        ("/pages/extensions", "Ticket Mirror", "operator-extensions"),
        ("/pages/rules", "Which org?", "operator-rules"),
        ("/pages/journal", "onInstall", "operator-journal"),
        ("/pages/deliveries?status=503", "answered 503", "operator-deliveries"),
        ("/pages/nowhere", "There is no such page", "operator-nowhere"),
    ] {
        browser.open(&url(path)).await;
        browser.sees(words).await;
        // A page that is not there says so with its status, and the browser repeats it.
        if name == "operator-nowhere" {
            let _of_the_status = browser.complaints().await;
        }
        look(&browser, name).await;
    }
    browser.close().await;
}
