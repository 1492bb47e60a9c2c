//! Traces: one from the caller to the vendor, and a collector that gets all of it.

use std::collections::BTreeMap;

use mortise::development::{Behaviour, SampleVendor, SampleVendorOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, World, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(an_event_is_one_trace_from_the_caller_to_the_vendor, nothing_is_traced_unless_asked_for,);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The spans that a collector was given, by name.
fn spans(collector: &SampleVendor) -> Vec<Value> {
    collector
        .received_at("/v1/traces")
        .iter()
        .flat_map(|request| {
            let document = request.json().expect("JSON");
            let scope = &document["resourceSpans"][0]["scopeSpans"][0];
            scope["spans"].as_array().expect("spans").clone()
        })
        .collect()
}

fn attributes(span: &Value) -> BTreeMap<String, String> {
    let attributes = span["attributes"].as_array().expect("attributes").iter();
    attributes
        .map(|one| {
            let value = one["value"].as_object().expect("a value").values().next();
            let value = value.and_then(Value::as_str).expect("text or a number as text");
            (one["key"].as_str().expect("a key").to_owned(), value.to_owned())
        })
        .collect()
}

async fn post(world: &World, event: &Value, traceparent: &str) {
    let client = &world.server.client;
    let request = client.request(Method::POST, "/api/v1/events", &world.host);
    let answer = client.send(request.header("traceparent", traceparent).json(event)).await;
    answer.expect(202);
}

async fn an_event_is_one_trace_from_the_caller_to_the_vendor(backend: Backend) {
    let collector = SampleVendor::start(SampleVendorOptions::default()).await.expect("a collector");
    let address = collector.url("");
    let world = World::with(
        backend,
        |settings| {
            settings.set("otlp.endpoint", address);
            settings.set("otlp.authorization", "Bearer of the collector");
            settings.set("otlp.sample_percent", "0");
        },
        |_| {},
    )
    .await;
    let vendor = &world.server.vendor;
    vendor.behave_in_turn(HOOK, [Behaviour::status(503)], Behaviour::status(200));
    post(&world, &ticket(ORG, "one"), &format!("00-{TRACE}-{CALLER}-01")).await;
    world.attempted("one", 1).await;
    world.server.advance(std::time::Duration::from_mins(2));
    world.in_state("one", "delivered").await;
    let arrived = world.arrived(2).await;
    let told: Vec<&str> =
        arrived.iter().map(|one| one.header("traceparent").expect("it is told on")).collect();
    let of_trace = eventually("the collector has all three", async || {
        let spans = spans(&collector);
        let own: Vec<Value> = spans.into_iter().filter(|span| span["traceId"] == TRACE).collect();
        (own.len() >= 3).then_some(own)
    })
    .await;
    assert_eq!(of_trace.len(), 3, "{of_trace:?}");
    let request = of_trace.iter().find(|span| span["name"] == "POST /api/v1/events");
    let request = request.expect("the call of the API");
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&json!(CALLER), &json!(2)));
    assert_eq!(attributes(request)["http.response.status_code"], "202");
    let attempts: Vec<&Value> =
        of_trace.iter().filter(|span| span["name"] == "deliver Ticket_Add").collect();
    for (attempt, (told, (status, error))) in
        attempts.iter().zip(told.iter().zip([("503", 2), ("200", 0)]))
    {
        assert_eq!(attempt["parentSpanId"], request["spanId"]);
        let span = attempt["spanId"].as_str().expect("an id");
        assert_eq!(*told, format!("00-{TRACE}-{span}-01"));
        let said = attributes(attempt);
        assert_eq!(said["http.response.status_code"], status);
        assert_eq!(attempt["status"]["code"].as_i64().unwrap_or(0), error);
        assert_eq!(said["mortise.delivery_id"], arrived[0].header("webhook-id").expect("an id"));
        let (began, ended) = (&attempt["startTimeUnixNano"], &attempt["endTimeUnixNano"]);
        let number = |value: &Value| value.as_str().expect("text").parse::<u64>().expect("it");
        assert!(number(began) <= number(ended) && number(began) > 1_000_000_000_000_000_000);
    }
    // What the caller does not want recorded is told on, and recorded by nobody.
    post(&world, &ticket(ORG, "two"), &format!("00-{TRACE}-{CALLER}-00")).await;
    world.in_state("two", "delivered").await;
    let third = world.arrived(3).await;
    assert!(third[2].header("traceparent").expect("it is told on").ends_with("-00"));
    // Nobody's payload, token or securityContext is in it; the collector's own token is.
    for request in collector.received_at("/v1/traces") {
        assert_eq!(request.header("authorization"), Some("Bearer of the collector"));
        let text = String::from_utf8_lossy(&request.body).into_owned();
        for secret in ["securityContext", "Bearer", "payload", world.host.as_str()] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    // A collector that takes nothing holds up nobody.
    collector.behave("/v1/traces", Behaviour::status(503));
    post(&world, &ticket(ORG, "three"), &format!("00-{TRACE}-{CALLER}-01")).await;
    world.in_state("three", "delivered").await;
}

async fn nothing_is_traced_unless_asked_for(backend: Backend) {
    let world = World::start(backend).await;
    post(&world, &ticket(ORG, "one"), &format!("00-{TRACE}-{CALLER}-01")).await;
    world.in_state("one", "delivered").await;
    assert_eq!(world.arrived(1).await[0].header("traceparent"), None);
}
