//! Each role's main paths, with what a browser sees of them: no error on the console, nothing that
//! the policy refused, nothing that axe-core finds wrong, in light and dark and on a phone.

use std::time::Duration;

use serde_json::json;

use super::driver::{Browser, ENTER, TAB};
use super::visits::{busy_world, enter, examine, focus, invitation};
use crate::pages::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::server::{Backend, ORG};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_looks_around_and_decides() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let request = json!({
        "role": "admin", "orgId": ORG, "subject": "ada", "displayName": "Ada Lovelace",
    });
    let url = invitation(&world.server, request).await;
    browser.open(&url).await;
    examine(&browser, "portal").await;
    enter(&browser, &url).await;
    browser.sees("Ticket Mirror").await;
    examine(&browser, "admin-extensions").await;
    browser.click("main table a").await;
    browser.sees("Its life so far").await;
    examine(&browser, "admin-installation").await;
    browser.write("#reason", "too loud").await;
    browser.click("section[aria-labelledby=holding] button").await;
    browser.sees("Suspended by: admin").await;
    browser.click("section[aria-labelledby=holding] button").await;
    browser.sees("Your suspension is lifted").await;
    browser.open(&world.server.client.url("/pages/webhooks")).await;
    browser.sees("Ticket Mirror").await;
    examine(&browser, "admin-webhooks").await;
    browser.click("main table a").await;
    browser.sees("The last 24 hours").await;
    // A control that would change the locked webhook does not exist.
    let controls = browser
        .script("return [...document.querySelectorAll('main form, main [data-method]')].filter((form) => form.method !== 'get').length")
        .await;
    assert_eq!(controls, json!(0));
    // What happens shows by itself.
    browser.sees("Live").await;
    let before =
        browser.script("return document.querySelectorAll('main table tbody tr').length").await;
    world.ticket("t-live").await;
    let shown = "return document.querySelectorAll('main table tbody tr').length";
    let clock = mortise::seam::Clock::default();
    let end = clock.instant() + Duration::from_secs(10);
    while browser.script(shown).await.as_i64() <= before.as_i64() {
        assert!(clock.instant() < end, "the new delivery never showed");
        clock.sleep(Duration::from_millis(100)).await;
    }
    browser.script("document.activeElement?.blur?.()").await;
    browser.sees("Delivered").await;
    examine(&browser, "admin-webhook").await;
    browser.open(&world.server.client.url("/pages/deliveries?status=503")).await;
    browser.click("main table a").await;
    browser.sees("Attempt 1: answered 503").await;
    examine(&browser, "admin-delivery").await;
    browser.open(&world.server.client.url("/pages/events/t-busy")).await;
    browser.sees("Matched").await;
    examine(&browser, "admin-event").await;
    let installation = format!("/pages/installations/{}/uninstall", world.installation.id);
    browser.open(&world.server.client.url(&installation)).await;
    browser.sees("What will happen").await;
    examine(&browser, "admin-uninstall").await;
    browser.click("button.danger").await;
    browser.sees("Uninstalled. No request of it begins any more.").await;
    browser.open(&world.server.client.url("/pages/webhooks")).await;
    browser.sees("There is no webhook.").await;
    examine(&browser, "admin-empty").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_looks_around_and_sends_again() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let next = world.server.package().version("1.1.0").with(|package| {
        package.resources["webhook"]["subscriptions"]["Contact_Add"] = json!(null);
    });
    world.server.publish(&next).await.expect(201);
    let request = json!({ "role": "vendor", "vendor": "acme", "subject": "vic" });
    enter(&browser, &invitation(&world.server, request).await).await;
    browser.sees("Ticket Mirror").await;
    examine(&browser, "vendor-extensions").await;
    browser.click("main table a").await;
    browser.sees("Compare two versions").await;
    examine(&browser, "vendor-extension").await;
    browser.click("section[aria-labelledby=compare] button").await;
    browser.sees("must agree before 1.1.0 serves").await;
    examine(&browser, "vendor-compare").await;
    browser.open(&world.server.client.url(&format!("/pages/webhooks/{}", world.webhook))).await;
    browser.sees("Send again").await;
    examine(&browser, "vendor-webhook").await;
    browser.script("document.querySelector('#since').value = '2020-01-01T00:00'; document.querySelector('#again-state').value = 'delivered'").await;
    browser.click("section[aria-labelledby=again] button").await;
    browser.sees("On their way again").await;
    examine(&browser, "vendor-job").await;
    browser
        .open(&world.server.client.url(&format!("/pages/webhooks/{}/test", world.webhook)))
        .await;
    browser.click("main form.card button").await;
    browser.sees("What came of it").await;
    examine(&browser, "vendor-test").await;
    browser.open(&world.server.client.url("/pages/journal")).await;
    browser.sees("onInstall").await;
    examine(&browser, "vendor-journal").await;
    // A package with faults is shown as an editor shows it.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("broken.zip");
    std::fs::write(&file, broken_package()).expect("it is written");
    browser.open(&world.server.client.url("/pages/publish")).await;
    browser.write("#package", &file.display().to_string()).await;
    browser.click("button[value=check]").await;
    browser.sees("The package is not valid").await;
    browser.sees("plugin-manifest.json").await;
    examine(&browser, "vendor-publish").await;
    browser.close().await;
}

/// A zip whose manifest has faults of more than one kind.
fn broken_package() -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let manifest = "{\n  \"locale\": [\"en\"],\n  \"service\": \"DESK\",\n  \"storage\": \"yes\",\n  \"whiteListedDomain\": []\n}\n";
    for (name, text) in
        [("plugin-manifest.json", manifest), ("resources.json", "{}"), ("app/widget.html", "<p>")]
    {
        zip.start_file(name, options).expect("a file");
        zip.write_all(text.as_bytes()).expect("it is written");
    }
    zip.finish().expect("a zip").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_around_and_makes_a_token() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let request = json!({ "role": "operator", "subject": "otto", "displayName": "Otto" });
    enter(&browser, &invitation(&world.server, request).await).await;
    browser.sees("Breakers open").await;
    examine(&browser, "operator-operation").await;
    browser.open(&world.server.client.url("/pages/tokens")).await;
    browser.write("#name", "for the host").await;
    browser.script("document.querySelector('#role').value = 'host'").await;
    browser.click("section[aria-labelledby=make] button").await;
    browser.sees("Copy it now; it is not shown again.").await;
    browser.open(&world.server.client.url("/pages/tokens")).await;
    browser.sees("for the host").await;
    examine(&browser, "operator-tokens").await;
    browser.open(&world.server.client.url("/pages/audit")).await;
    browser.sees("token.create").await;
    examine(&browser, "operator-audit").await;
    browser.open(&world.server.client.url("/pages/findings")).await;
    browser.click("main form button.quiet").await;
    browser.sees("What was found just now").await;
    examine(&browser, "operator-findings").await;
    browser.open(&world.server.client.url("/pages/installations")).await;
    browser.sees("Ticket Mirror").await;
    examine(&browser, "operator-installations").await;
    browser.open(&world.server.client.url(&format!("/pages/deliveries?org={ORG}"))).await;
    browser.sees("answered 503").await;
    examine(&browser, "operator-deliveries").await;
    // The kill switch: one click from the list, and what it does before it is done.
    browser.open(&world.server.client.url("/pages/extensions")).await;
    browser.sees("Suspend everywhere").await;
    examine(&browser, "operator-extensions").await;
    browser.click("main table a.danger-text").await;
    browser.sees("What will happen").await;
    browser.sees("The one installation that is active stops.").await;
    examine(&browser, "operator-suspend").await;
    browser.write("#reason", "a test").await;
    browser.click("main button.danger").await;
    browser.sees("Suspended everywhere").await;
    examine(&browser, "operator-extension").await;
    browser.click("header .who-name").await;
    browser.sees("Where you are signed in").await;
    examine(&browser, "operator-session").await;
    browser.click("main button.danger").await;
    browser.sees("You are signed out everywhere").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_is_enough() {
    let Some(browser) = Browser::start().await else { return };
    let world = busy_world().await;
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    browser.open(&invitation(&world.server, request).await).await;
    browser.sees("Open the pages").await;
    // Skip link, brand, then the button.
    browser.press(TAB).await;
    let first = browser.script("return document.activeElement.textContent").await;
    assert_eq!(first, json!("Skip to the content"));
    focus(&browser, "Open the pages").await;
    browser.press(ENTER).await;
    browser.sees("Sign out").await;
    focus(&browser, "Ticket Mirror").await;
    browser.press(ENTER).await;
    browser.sees("Its life so far").await;
    focus(&browser, "Suspend").await;
    // Where the focus is can be seen.
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.script(outline).await, json!("solid"));
    browser.press(ENTER).await;
    browser.sees("Suspended by: admin").await;
    focus(&browser, "Webhooks").await;
    browser.press(ENTER).await;
    browser.sees("they come and go with their extension").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_do_not_run() {
    let Some(browser) = Browser::start().await else { return };
    let hostile =
        "\"><img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>";
    let world = World::with(
        Backend::Sqlite,
        |_| {},
        |package| {
            package.name = "<script>document.title='ran'</script>".to_owned();
            package.resources["webhook"]["name"] = hostile.into();
            package.resources["webhook"]["description"] = hostile.into();
        },
    )
    .await;
    let answer = mortise::development::Behaviour::status(500)
        .with_header("content-type", "text/html")
        .with_body(hostile);
    world.server.vendor.behave("/hooks/desk", answer);
    let event = json!({
        "eventId": "e", "eventType": "Ticket_Add", "orgId": ORG,
        "payload": { "id": "1", "subject": hostile },
    });
    world.post(&event).await.expect(202);
    let delivery = world.attempted("e", 1).await["id"].as_str().expect("an id").to_owned();
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "<b>ada", "displayName": "<img src=x onerror=alert(1)>" });
    enter(&browser, &invitation(&world.server, request).await).await;
    for path in [
        "/pages".to_owned(),
        format!("/pages/installations/{}", world.installation.id),
        format!("/pages/webhooks/{}", world.webhook),
        format!("/pages/deliveries/{delivery}"),
        "/pages/events/e".to_owned(),
    ] {
        browser.open(&world.server.client.url(&path)).await;
        // The live part is written by the script, so it gets its time.
        mortise::seam::Clock::default().sleep(Duration::from_millis(1_200)).await;
        let title = browser.script("return document.title").await;
        assert!(title.as_str().is_some_and(|title| title.ends_with("Mortise")), "{path}: {title}");
        let images = browser.script("return document.querySelectorAll('main img, header img, body script:not([src])').length").await;
        assert_eq!(images, json!(0), "{path}");
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{path}");
    }
    // And nothing of it ran for others.
    let ada = Visitor::admin(&world.server, ORG).await;
    ada.get("/pages").await.expect(200);
    browser.close().await;
}
