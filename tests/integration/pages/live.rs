//! Those who watch: how many there may be at a time, and that a stream ends with its session.

use std::time::Duration;

use futures_util::StreamExt as _;
use mortise::seam::Clock;
use serde_json::json;

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::server::{Backend, eventually};

/// How many a node serves, and how many of one session.
const MOST: usize = 64;
const MOST_OF_SESSION: usize = 4;

async fn watch(world: &World, visitor: &Visitor<'_>) -> reqwest::Response {
    let path = format!("/pages/webhooks/{}/live", world.webhook);
    let request = world.server.client.request(reqwest::Method::GET, &path, "");
    let request = request.header("cookie", &visitor.cookie).header("accept", "text/event-stream");
    request.send().await.expect("it answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_places_and_a_stream_ends_with_its_session() {
    let world = World::start(Backend::Sqlite).await;
    let mut streams = Vec::new();
    let mut first = None;
    for number in 0..MOST / MOST_OF_SESSION {
        let request = json!({ "role": "operator", "subject": format!("otto-{number}") });
        let otto = Visitor::invited(&world.server, request).await;
        for _ in 0..MOST_OF_SESSION {
            let stream = watch(&world, &otto).await;
            assert_eq!(stream.status(), 200);
            assert_eq!(stream.headers()["content-type"], "text/event-stream");
            assert_eq!(stream.headers()["cache-control"], "no-store");
            assert_eq!(stream.headers()["x-accel-buffering"], "no");
            streams.push(stream);
        }
        if number == 0 {
            // One more of the same session has no place, whoever else has.
            assert_eq!(watch(&world, &otto).await.status(), 503);
            first = Some(otto);
        }
    }
    let first = first.expect("somebody came");
    let late = Visitor::operator(&world.server).await;
    let refused = watch(&world, &late).await;
    assert_eq!(refused.status(), 503, "the {}th stream", MOST + 1);
    let words = refused.text().await.expect("words");
    assert!(words.contains("Too many pages are watched right now"), "{words}");
    // Whoever stops watching leaves a place.
    streams.truncate(1);
    let _served = eventually("a place is free", async || {
        let stream = watch(&world, &late).await;
        (stream.status() == 200).then_some(stream)
    })
    .await;
    let mut stream = streams.remove(0).bytes_stream();
    let told = stream.next().await.expect("what is there is told").expect("it can be read");
    assert!(told.starts_with(b"event: part"), "{told:?}");
    first.submit("/pages", "/sign-out", &[]).await.expect(303);
    // The server looks after some of its seconds, which pass as soon as its clock is moved.
    let clock = Clock::default();
    let end = clock.instant() + Duration::from_secs(20);
    loop {
        assert!(clock.instant() < end, "the stream of a session that ended goes on");
        world.server.advance(Duration::from_secs(1));
        match tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
            Ok(None) => break,
            Ok(Some(chunk)) => drop(chunk.expect("it is not broken off")),
            Err(_) => {}
        }
    }
}
