//! The platform's signing keys: published, rotated while everything runs, and what they sign.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mortise::audit::Actor;
use mortise::crypto::{
    DEFAULT_TOLERANCE, Ed25519PublicKey, KeyStoreError, MasterKey, SignatureHeaders, Verifier,
    open_keys, rewrap,
};
use mortise::development::Received;
use mortise::oauth::HOST_CONNECTION;
use mortise::seam::{Seam, Timestamp};
use serde_json::{Value, json};

use crate::support::delivery_world::{World, a_while};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, Place, TestServer};

on_both!(
    signatures_by_key_pair_verify_through_a_rotation,
    a_new_key_signs_tokens_and_the_former_stays_published,
    only_operators_rotate_keys,
    another_master_key_wraps_the_same_data_keys,
);

const HOUR: Duration = Duration::from_hours(1);

async fn published(world: &World, kind: &str) -> Vec<Value> {
    let set = world.server.client.get("/.well-known/jwks.json", "").await.expect(200).json;
    let keys = set["keys"].as_array().expect("keys").clone();
    keys.into_iter().filter(|key| key["kty"] == kind).collect()
}

async fn rotate(world: &World, purpose: &str, overlap: Duration) -> String {
    let path = format!("/api/v1/keys/{purpose}/rotate");
    let body = json!({ "overlapSeconds": overlap.as_secs() });
    let client = &world.server.client;
    client.post(&path, &world.server.operator, &body).await.expect(200).text_of("keyId")
}

/// Whether the receiver that knows one published key believes the request.
fn believes(key: &Value, received: &Received) -> bool {
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("x")).expect("base64url");
    let key = Ed25519PublicKey::parse(&format!("whpk_{}", STANDARD.encode(x))).expect("a key");
    let verifier = Verifier::new([], [key]).expect("a verifier");
    let header = |name| received.header(name).expect("the header is there");
    let headers = SignatureHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let seconds: i64 = headers.timestamp.parse().expect("seconds");
    let at = Timestamp::from_millis(seconds * 1_000);
    verifier.verify(headers, &received.body, at, DEFAULT_TOLERANCE).is_ok()
}

fn versions(received: &Received) -> Vec<&str> {
    let signatures = received.header("webhook-signature").expect("signatures");
    signatures
        .split(' ')
        .filter_map(|one| one.split_once(','))
        .map(|(version, _)| version)
        .collect()
}

async fn signatures_by_key_pair_verify_through_a_rotation(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.ed25519", "true"), |_| {}).await;
    let before = published(&world, "OKP").await;
    assert_eq!(before.len(), 1);
    assert_eq!((&before[0]["crv"], &before[0]["alg"]), (&json!("Ed25519"), &json!("EdDSA")));
    assert!(before[0].get("d").is_none());
    world.ticket("a").await;
    let first: Arc<Received> = world.arrived(1).await[0].clone();
    assert_eq!(versions(&first), ["v1", "v1a"]);
    assert!(believes(&before[0], &first));

    let key_id = rotate(&world, "ed25519", HOUR).await;
    let during = published(&world, "OKP").await;
    assert_eq!(during.len(), 2);
    let new = during.iter().find(|key| key["kid"] == key_id.as_str()).expect("it is published");
    world.ticket("b").await;
    let second = world.arrived(2).await[1].clone();
    assert_eq!(versions(&second), ["v1", "v1a", "v1a"], "both sign, so either key will do");
    assert!(believes(new, &second) && believes(&before[0], &second));

    world.server.advance(HOUR + Duration::from_mins(1));
    a_while().await;
    assert_eq!(published(&world, "OKP").await.len(), 1);
    world.ticket("c").await;
    let third = world.arrived(3).await[2].clone();
    assert_eq!(versions(&third), ["v1", "v1a"]);
    assert!(believes(new, &third) && !believes(&before[0], &third));

    // What was stolen ends at once.
    let key_id = rotate(&world, "ed25519", Duration::ZERO).await;
    let only = published(&world, "OKP").await;
    assert_eq!((only.len(), &only[0]["kid"]), (1, &json!(key_id)));

    // The same keys after a restart.
    let world = World { server: world.server.restart().await, ..world };
    assert_eq!(published(&world, "OKP").await, only);
}

async fn a_new_key_signs_tokens_and_the_former_stays_published(backend: Backend) {
    let world = World::start(backend).await;
    assert!(published(&world, "OKP").await.is_empty(), "v1a is off");
    let kid = |received: &Received| {
        let token = received.header("x-zdesk-jwt").expect("the header is there");
        jsonwebtoken::decode_header(token).expect("a JWT").kid.expect("a kid")
    };
    world.ticket("a").await;
    let former = kid(&world.arrived(1).await[0]);
    let new = rotate(&world, "jwt", HOUR).await;
    assert_ne!(new, former);
    world.ticket("b").await;
    assert_eq!(kid(&world.arrived(2).await[1]), new, "no token of the former key is given out");
    let kids: Vec<Value> =
        published(&world, "RSA").await.into_iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, [json!(new), json!(former)]);
    world.server.advance(HOUR + Duration::from_mins(1));
    assert_eq!(published(&world, "RSA").await.len(), 1);
    let listed = world.server.client.get("/api/v1/keys", &world.server.operator).await.expect(200);
    let listed = listed.json["data"].as_array().expect("keys").clone();
    let jwt: Vec<_> = listed.iter().filter(|key| key["purpose"] == "jwt").collect();
    assert_eq!((jwt.len(), &jwt[0]["keyId"]), (1, &json!(new)));
    assert_eq!(jwt[0]["expiresTime"], Value::Null);
    world.server.stop().await.audit_holds(&[]).await;
}

async fn only_operators_rotate_keys(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let vendor = server.vendor_token("acme").await;
    let path = "/api/v1/keys/jwt/rotate";
    assert_eq!(client.post(path, &vendor, &json!({})).await.status, 403);
    assert_eq!(client.get("/api/v1/keys", &vendor).await.status, 403);
    assert_eq!(client.post(path, "", &json!({})).await.status, 401);
    let operator = &server.operator;
    let unknown = "/api/v1/keys/vault/rotate";
    client.post(unknown, operator, &json!({})).await.refused(404, "RESOURCE_NOT_FOUND");
    let long = json!({ "overlapSeconds": 2_592_001 });
    client.post(path, operator, &long).await.refused(422, "INVALID_DATA");
    let day = client.post(path, operator, &json!({})).await.expect(200);
    assert_eq!(day.json["purpose"], "jwt");
    assert_eq!(published(&world, "RSA").await.len(), 2);
}

async fn another_master_key_wraps_the_same_data_keys(backend: Backend) {
    let wrapped = match &backend {
        Backend::Sqlite => "select hex(wrapped) from data_keys",
        Backend::Postgres(_) => "select encode(wrapped, 'hex') from data_keys",
    };
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let former: Vec<String> = server.texts(wrapped).await;
    assert_eq!(former.len(), 3);
    let server = server.restart_after(wrap_anew).await;
    let dump = server.dump().await.to_lowercase();
    for wrapped in former {
        assert!(!dump.contains(&wrapped.to_lowercase()), "a former wrapping is left");
    }
    // What was sealed before opens as before.
    let id = installation.id.parse().expect("an id");
    let token = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert!(server.provider.is_live(token.expect("a token").token.expose()));
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn wrap_anew(place: Place) -> Place {
    let folder = place.folder();
    let (present, new) = (folder.join("master.key"), folder.join("new.key"));
    let store = place.store().await;
    let (actor, seam) = (Actor::system("test"), Seam::default());
    let is_refused = |error| matches!(error, KeyStoreError::OtherMasterKey { .. });
    // A stranger's key changes nothing.
    let stranger = folder.join("stranger.key");
    MasterKey::create(&stranger, &seam.randomness).expect("a key");
    let refused = rewrap(&store, &stranger, &new, &actor, &seam).await;
    assert!(is_refused(refused.expect_err("it is another's")));
    let done = rewrap(&store, &present, &new, &actor, &seam).await.expect("it is wrapped anew");
    assert_eq!(done.keys, 3);
    let refused = rewrap(&store, &present, &new, &actor, &seam).await;
    assert!(is_refused(refused.expect_err("the former is no more")));
    let refused = open_keys(&store, &present, &seam).await;
    assert!(is_refused(refused.expect_err("the former is no more")));
    store.close().await.expect("it closes");
    std::fs::rename(&new, &present).expect("the new one takes its place");
    place
}
