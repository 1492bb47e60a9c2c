//! Two nodes on one PostgreSQL: what one of them does holds on the other.

use mortise::api::Role;
use mortise::api::token_store::{NewToken, create_token, make_first_operator_token};
use mortise::audit::Actor;
use mortise::config::{Config, Inputs};
use mortise::seam::Seam;
use mortise::server::{RunningServer, start, store_options};
use mortise::store::Store;
use serde_json::{Value, json};

use crate::support::postgres;

fn config(folder: &tempfile::TempDir, url: &str) -> Config {
    let data_dir = folder.path().display().to_string();
    let overrides =
        [("data_dir", data_dir.as_str()), ("listen", "127.0.0.1:0"), ("database.url", url)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
    Config::load(&Inputs { overrides, ..Inputs::default() }).expect("a good configuration")
}

#[tokio::test]
async fn nodes_that_start_together_make_one_operator_token() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let options = store_options(&config(&folder, database.url())).expect("a good URL");
    let store = Store::open(&options).await.expect("the database opens");
    let seam = Seam::default();
    let make = || make_first_operator_token(&store, &seam, folder.path());
    let (a, b, c, d) = tokio::join!(make(), make(), make(), make());
    let files = [a, b, c, d].into_iter().filter_map(|file| file.expect("no error")).count();
    assert_eq!(files, 1);
    store.close().await.expect("the database closes");
}

#[tokio::test]
async fn one_key_on_two_nodes_has_one_effect_and_one_answer() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder, database.url());
    let first = start(config.clone(), Seam::default()).await.expect("the first node starts");
    let second = start(config.clone(), Seam::default()).await.expect("the second node starts");
    let store = Store::open(&store_options(&config).expect("a good URL")).await.expect("it opens");
    let operator = NewToken::new(Role::Operator, None, None).expect("an operator needs nothing");
    let (_, operator) = create_token(&store, &Seam::default(), operator, &Actor::system("test"))
        .await
        .expect("a token");
    for round in 0..20 {
        let name = format!("round {round}");
        let (here, there) = tokio::join!(
            post(&first, operator.expose(), &name),
            post(&second, operator.expose(), &name)
        );
        assert_eq!(here.0, 201, "{}", here.1);
        assert_eq!(here, there);
    }
    let listed = get(&first, operator.expose()).await;
    let rounds = listed["data"].as_array().expect("a list").iter();
    let rounds =
        rounds.filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with("round")));
    assert_eq!(rounds.count(), 20);
    store.close().await.expect("the database closes");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_rotated_key_is_published_by_every_node_when_the_answer_is_there() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder, database.url());
    let first = start(config.clone(), Seam::default()).await.expect("the first node starts");
    let second = start(config.clone(), Seam::default()).await.expect("the second node starts");
    let store = Store::open(&store_options(&config).expect("a good URL")).await.expect("it opens");
    let operator = NewToken::new(Role::Operator, None, None).expect("an operator needs nothing");
    let (_, operator) = create_token(&store, &Seam::default(), operator, &Actor::system("test"))
        .await
        .expect("a token");
    for _ in 0..3 {
        let rotated = client()
            .post(format!("http://{}/api/v1/keys/jwt/rotate", first.address()))
            .bearer_auth(operator.expose())
            .json(&json!({}))
            .send()
            .await
            .expect("the node answers");
        let rotated: Value = rotated.json().await.expect("JSON");
        for node in [&first, &second] {
            let url = format!("http://{}/.well-known/jwks.json", node.address());
            let set = client().get(url).send().await.expect("the node answers");
            let set: Value = set.json().await.expect("JSON");
            assert_eq!(set["keys"][0]["kid"], rotated["keyId"], "{set}");
        }
    }
    store.close().await.expect("the database closes");
    first.stop().await;
    second.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "a test calls its own server")]
fn client() -> reqwest::Client {
    reqwest::Client::new()
}

async fn post(node: &RunningServer, token: &str, name: &str) -> (u16, Value) {
    let response = client()
        .post(format!("http://{}/api/v1/tokens", node.address()))
        .bearer_auth(token)
        .header("Idempotency-Key", name.replace(' ', "-"))
        .json(&json!({"role": "host", "name": name}))
        .send()
        .await
        .expect("the node answers");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

async fn get(node: &RunningServer, token: &str) -> Value {
    let request = client().get(format!("http://{}/api/v1/tokens?limit=200", node.address()));
    let response = request.bearer_auth(token).send().await.expect("the node answers");
    response.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_job_and_send_each_delivery_once() {
    use std::time::Duration;

    use mortise::development::Behaviour;

    use crate::support::delivery_world::{HOOK, World, ticket};
    use crate::support::server::{Backend, ORG, eventually};

    let Some(database) = postgres::database().await else { return };
    let url = database.url().to_owned();
    let world = World::with(
        Backend::Postgres(database),
        |settings| {
            settings.set("delivery.schedule", "1s");
            settings.set("delivery.breaker.failures", "10000");
            settings.set("delivery.breaker.volume", "1000000");
        },
        |_| {},
    )
    .await;
    let (server, client) = (&world.server, &world.server.client);
    server.vendor.behave(HOOK, Behaviour::status(500));
    let names: Vec<String> = (0..120).map(|number| format!("n-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(many)).await.expect(202);
    eventually("all failed", async || {
        server.advance(Duration::from_secs(1));
        (world.deliveries("&state=failed").await.len() == names.len()).then_some(())
    })
    .await;
    server.vendor.behave(HOOK, Behaviour::status(200));
    let before = server.vendor.received_at(HOOK).len();
    // The other node has the same clock, keys and settings.
    let other = mortise::server::start(server.config_of_another_node(&url), server.seam.clone());
    let other = other.await.expect("the other node starts");
    let body = json!({ "since": "1970-01-02T00:00:00Z", "perSecond": 40 });
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    let job = client.post(&path, &server.operator, &body).await.expect(202).text_of("jobId");
    let done = eventually("the job ends", async || {
        let job = client.get(&format!("/api/v1/jobs/{job}"), &server.operator).await.json;
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!((&done["requeued"], &done["processed"]), (&json!(120), &json!(120)), "{done}");
    eventually("all arrive", async || {
        (world.deliveries("&state=delivered").await.len() == names.len()).then_some(())
    })
    .await;
    assert_eq!(server.vendor.received_at(HOOK).len() - before, names.len(), "each once");
    other.stop().await;
}
