//! What the tests in a browser share: coming in, looking closely, going on by the keyboard.

use serde_json::json;

use super::driver::{Browser, TAB};
use crate::support::delivery_world::World;
use crate::support::server::{Backend, TestServer};

/// The link that opens the pages for somebody.
pub(super) async fn invitation(server: &TestServer, request: serde_json::Value) -> String {
    let answer = server.client.post("/api/v1/portal-links", &server.operator, &request).await;
    answer.expect(201).text_of("url")
}

/// Comes in by a link, as a person does.
pub(super) async fn enter(browser: &Browser, url: &str) {
    browser.open(url).await;
    browser.click("main form button").await;
    browser.sees("Sign out").await;
    assert_eq!(browser.path().await, "/pages");
}

/// The pages of which pictures are kept in the dark and on a phone too.
const PICTURED_ALL_WAYS: &[&str] = &["admin-extensions", "admin-webhook", "admin-webhook-new"];

/// Looks at a page closely, and keeps pictures of it under a name.
pub(super) async fn examine(browser: &Browser, name: &str) {
    browser.resize(1280, 860).await;
    browser.prefer("light").await;
    browser.picture(name).await;
    if PICTURED_ALL_WAYS.contains(&name) {
        browser.prefer("dark").await;
        browser.picture(&format!("{name}-dark")).await;
        browser.prefer("light").await;
        browser.resize(390, 844).await;
        browser.picture(&format!("{name}-phone")).await;
    }
    look(browser, name).await;
}

/// Looks at a page closely: in light and dark, and on a phone.
pub(super) async fn look(browser: &Browser, name: &str) {
    browser.resize(1280, 860).await;
    browser.prefer("light").await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "{name}, light");
    browser.prefer("dark").await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "{name}, dark");
    browser.resize(390, 844).await;
    browser.prefer("light").await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "{name}, on a phone");
    let overflow =
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    let overflow = browser.script(overflow).await;
    assert!(overflow.as_i64().unwrap_or(0) <= 0, "{name} is wider than a phone by {overflow}");
    browser.resize(1280, 860).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "{name}");
}

/// A world with deliveries that succeeded, and one that did not.
pub(super) async fn busy_world() -> World {
    let world = World::start(Backend::Sqlite).await;
    for number in 0..6 {
        world.ticket(&format!("t-{number}")).await;
        world.in_state(&format!("t-{number}"), "delivered").await;
    }
    let busy = mortise::development::Behaviour::status(503)
        .with_header("content-type", "application/json")
        .with_body(r#"{"error":"the queue is full"}"#);
    world.server.vendor.behave("/hooks/desk", busy);
    world.ticket("t-busy").await;
    world.attempted("t-busy", 1).await;
    world.server.vendor.behave("/hooks/desk", mortise::development::Behaviour::status(200));
    world
}

/// Goes on by the tab key until the focus is on something with a text.
pub(super) async fn focus(browser: &Browser, text: &str) {
    for _ in 0..80 {
        let focused = browser.script("return document.activeElement.innerText.trim()").await;
        if focused == json!(text) {
            return;
        }
        browser.press(TAB).await;
    }
    panic!("the tab key never came to {text}");
}
