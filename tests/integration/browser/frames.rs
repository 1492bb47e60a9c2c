//! The pages in a frame of another server: where the operator names it, and not where he does not.

use axum::Router;
use axum::extract::Query;
use axum::response::Html;
use axum::routing::get;
use serde::Deserialize;

use super::driver::Browser;
use crate::support::server::{Backend, ORG, TestServer};

#[derive(Deserialize)]
struct Framed {
    address: String,
}

/// A server with a page that shows another one in a frame; its origin.
async fn console() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let page = async |Query(Framed { address }): Query<Framed>| {
        Html(format!(
            "<!doctype html><title>Console</title><h1>The console</h1>\
             <iframe src=\"{address}\" width=\"900\" height=\"600\"></iframe>"
        ))
    };
    let router = Router::new().route("/", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

async fn open_framed(browser: &Browser, console: &str, address: &str) {
    let address: String = url::form_urlencoded::byte_serialize(address.as_bytes()).collect();
    browser.open(&format!("{console}/?address={address}")).await;
    browser.sees("The console").await;
    browser.enter_frame().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_shown_in_the_frame_that_the_operator_names() {
    let Some(browser) = Browser::start().await else { return };
    let console = console().await;
    let server = TestServer::start(Backend::Sqlite, |settings| {
        settings.set("pages.frame_ancestors", console.clone());
    })
    .await;
    let token = server.admin(ORG).await;
    open_framed(&browser, &console, &server.client.url("/sign-in")).await;
    browser.sees("API token").await;
    browser.write("#token", &token).await;
    browser.click("main form button").await;
    browser.sees("No extension is installed yet").await;
    assert_eq!(browser.path().await, "/pages");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_shown_in_no_other_frame() {
    let Some(browser) = Browser::start().await else { return };
    let (console, other) = (console().await, console().await);
    let server = TestServer::start(Backend::Sqlite, |settings| {
        settings.set("pages.frame_ancestors", other);
    })
    .await;
    let address = server.client.url("/sign-in");
    open_framed(&browser, &console, &address).await;
    // What stands in the frame is the browser's own page of the refusal.
    let shown = browser.text().await;
    assert!(!shown.contains("API token"), "{shown}");
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("frame-ancestors"), "{complaints}");
    // The same address by itself is there.
    browser.open(&address).await;
    browser.sees("API token").await;
    browser.close().await;
}
