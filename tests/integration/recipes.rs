//! Recipes: two values are typed in, and what comes of it is a webhook that works.

use mortise::development::Behaviour;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, ORG};

on_both!(
    every_recipe_ends_in_a_passed_test,
    what_fails_its_test_is_not_made,
    a_recipe_does_what_it_says,
);

const RECIPES: &str = "/api/v1/recipes";

async fn apply(world: &OwnWorld, id: &str, values: &Value) -> Answer {
    let path = format!("{RECIPES}/{id}/apply");
    world.server.client.post(&path, &world.admin, &json!({ "values": values })).await
}

async fn every_recipe_ends_in_a_passed_test(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let all = world.server.client.all(RECIPES, &world.admin).await;
    assert!(all.len() >= 5, "{all:?}");
    for recipe in &all {
        let id = recipe["id"].as_str().expect("an id");
        let read = world.server.client.get(&format!("{RECIPES}/{id}"), &world.admin).await;
        assert_eq!(read.expect(200).json, *recipe);
        let receiver = format!("/{id}");
        let mut values = json!({});
        for input in recipe["inputs"].as_array().expect("inputs") {
            let name = input["name"].as_str().expect("a name");
            values[name] = match name {
                "url" => json!(world.server.vendor.url(&receiver)),
                _ => input["example"].clone(),
            };
        }
        let made = apply(&world, id, &values).await.expect(201).json;
        assert_eq!((&made["made"], &made["test"]["outcome"]), (&json!(true), &json!("delivered")));
        let tested = world.arrived(&receiver, 1).await.remove(0);
        assert_eq!(tested.header("x-mortise-test"), Some("true"), "{id}");
        tested.json().expect("JSON");
        let read = world.read(made["webhook"]["id"].as_str().expect("an id")).await;
        assert_eq!(
            (&read["setup"], &read["isEnabled"]),
            (&json!("complete"), &json!(true)),
            "{id}"
        );
    }
    assert_eq!(world.server.client.all(WEBHOOKS, &world.admin).await.len(), all.len());
    world.server.client.get(&format!("{RECIPES}/none"), &world.admin).await.expect(404);
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_fails_its_test_is_not_made(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.vendor.behave("/deaf", Behaviour::status(404));
    let values = json!({ "url": world.server.vendor.url("/deaf"), "priority": "High" });
    let told = apply(&world, "slack", &values).await.expect(200).json;
    assert_eq!((&told["made"], &told["webhook"]), (&json!(false), &Value::Null));
    assert_eq!(told["test"]["response"]["status"], 404);
    assert!(told["test"]["hint"].is_string(), "{told}");
    let refused = apply(&world, "slack", &json!({ "url": "no address" })).await;
    let refused = refused.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/values/priority");
    assert!(world.server.client.all(WEBHOOKS, &world.admin).await.is_empty());
    let path = format!("{RECIPES}/slack/apply");
    let anyway = json!({ "values": values, "saveAnyway": true });
    let made = world.server.client.post(&path, &world.admin, &anyway).await.expect(201);
    assert_eq!(made.json["made"], true);
    let viewer = world.server.viewer(ORG).await;
    world.server.client.post(&path, &viewer, &anyway).await.refused(403, "FORBIDDEN");
}

async fn a_recipe_does_what_it_says(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let values = json!({ "url": world.server.vendor.url("/slack"), "priority": "High" });
    apply(&world, "slack", &values).await.expect(201);
    for (id, priority, expected) in [("low", "Low", 0), ("high", "High", 1)] {
        let mut ticket = event("Ticket_Add", id);
        ticket["payload"] = json!({ "id": id, "ticketNumber": "101", "subject": "On \"fire\"",
            "priority": priority, "webUrl": "https://desk.example/101" });
        assert_eq!(world.fans_out(&ticket).await, expected, "{id}");
    }
    // The test, and the ticket.
    let received = world.arrived("/slack", 2).await.pop().expect("a request");
    let text = "New ticket 101: On \"fire\" (High) https://desk.example/101";
    assert_eq!(received.json().expect("JSON"), json!({ "text": text }));
}
