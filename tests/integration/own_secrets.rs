//! Signing secrets of own webhooks that take the place of others.

use std::time::Duration;

use mortise::crypto::{Signer, SigningSecret};
use mortise::development::Received;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::own_world::{OwnWorld, event};
use crate::support::server::{Backend, ORG, assert_absent, eventually};

on_both!(a_new_secret_signs_beside_the_former_for_a_while);

const FIRST: &str = "the first secret of all";
const SECOND: &str = "the second secret";

/// Whether the signatures are those of some secrets, in this order.
fn signed(received: &Received, secrets: &[&str]) -> bool {
    let secrets: Vec<SigningSecret> = secrets
        .iter()
        .map(|secret| match secret.strip_prefix("whsec_") {
            Some(_) => SigningSecret::parse(secret).expect("a secret"),
            None => SigningSecret::from_chosen_bytes(secret.as_bytes()).expect("a secret"),
        })
        .collect();
    let signer = Signer::new(&secrets).expect("a signer");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    signer.sign(header("webhook-id"), timestamp, &[&received.body]) == header("webhook-signature")
}

async fn a_new_secret_signs_beside_the_former_for_a_while(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let installation = world.server.active(ORG).await;
    let own = world.make("/own", json!({ "dialect": "standard", "secret": FIRST })).await;
    let dzdesk = json!({ "dialect": "dzdesk", "secret": FIRST, "subscriptions": { "request.created": null } });
    let dzdesk = world.make("/dz", dzdesk).await;
    world.server.vendor.forget();
    let last = async |receiver: &str, count: usize| {
        assert!(world.fans_out(&event("Ticket_Add", &format!("{receiver}{count}"))).await >= 2);
        world.arrived(receiver, count).await.pop().expect("one")
    };
    assert!(signed(&*last("/own", 1).await, &[FIRST]));

    let rotation = json!({ "secret": SECOND, "overlapSeconds": 3_600 });
    let rotated = world.act(&own, "/secret", &rotation).await.expect(200).json;
    assert!(rotated.get("secret").is_none(), "who brings one knows it: {rotated}");
    assert_eq!(rotated["expiring"].as_array().map(Vec::len), Some(1), "{rotated}");
    assert_eq!(rotated["warnings"], json!([]));
    assert!(signed(&*last("/own", 2).await, &[SECOND, FIRST]), "the newest first");
    world.settled(&dzdesk, "delivered", 2).await;
    // A header with room for one has the new one at once, and says so.
    let rotated = world.act(&dzdesk, "/secret", &rotation).await.expect(200).json;
    assert!(rotated["warnings"][0].as_str().expect("a warning").contains("X-DZDESK-Signature"));
    let received = last("/dz", 3).await;
    let expected = mortise::development::hash_of(SECOND, &received.body);
    assert_eq!(received.header("x-dzdesk-signature"), Some(&*format!("sha256={expected}")));
    assert!(signed(&received, &[SECOND, FIRST]));
    let dump = world.server.dump().await;
    assert_absent(&dump, FIRST);
    assert_absent(&dump, SECOND);

    // The former one ends by itself.
    world.server.advance(Duration::from_secs(3_601));
    eventually("the former secret goes", async || {
        let left = world.server.texts("select 'x' from own_webhook_former_secrets").await;
        if !left.is_empty() {
            world.server.advance(Duration::from_secs(30));
        }
        left.is_empty().then_some(())
    })
    .await;
    eventually("it signs no more", async || {
        let count = world.server.vendor.received_at("/own").len() + 1;
        signed(&*last("/own", count).await, &[SECOND]).then_some(())
    })
    .await;

    // One that is made is told once; of those that sign still there are four at the most.
    let mut made = Vec::new();
    for _ in 0..4 {
        let rotated = world.act(&own, "/secret", &json!({})).await.expect(200);
        made.push(rotated.text_of("secret"));
    }
    let refused = world.act(&own, "/secret", &json!({})).await.refused(409, "STATE_CONFLICT");
    assert!(refused.text.contains("overlapSeconds 0"), "{}", refused.text);
    let at_once = json!({ "overlapSeconds": 0 });
    let rotated = world.act(&own, "/secret", &at_once).await.expect(200);
    assert_eq!(rotated.json["expiring"], json!([]));
    let count = world.server.vendor.received_at("/own").len() + 1;
    assert!(signed(&*last("/own", count).await, &[rotated.text_of("secret").as_str()]));
    // A change of the secret leaves none of the former ones either.
    world.act(&own, "/secret", &json!({ "secret": FIRST })).await.expect(200);
    world.patch(&own, &json!({ "secret": SECOND })).await.expect(200);
    assert!(signed(&*last("/own", count + 1).await, &[SECOND]));

    for (wrong, place) in [
        (json!({ "secret": SECOND }), "/secret"),
        (json!({ "secret": "" }), "/secret"),
        (json!({ "overlapSeconds": 2_592_001 }), "/overlapSeconds"),
    ] {
        let refused = world.act(&own, "/secret", &wrong).await.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], place, "{}", refused.text);
    }
    let extension = world.server.webhooks(ORG).await;
    let locked = extension.iter().find(|one| one["locked"] == true).expect("an extension's");
    let locked = locked["id"].as_str().expect("an id");
    let refused = world.act(locked, "/secret", &json!({})).await.refused(403, "FORBIDDEN");
    assert_eq!(refused.json["lockedBy"]["installationId"], installation.id.as_str());
    let stranger = world.server.admin("another-org").await;
    let path = OwnWorld::path(&own, "/secret");
    world.server.client.post(&path, &stranger, &json!({})).await.expect(404);
    let query = format!(
        "select detail from audit where chain = '{ORG}' and action = 'webhook.rotate-secret' order by sequence"
    );
    let told = world.server.texts(&query).await;
    assert_eq!(told.len(), 8, "{told:?}");
    let first: Value = serde_json::from_str(&told[0]).expect("JSON");
    assert_eq!(first, json!({ "overlapSeconds": 3_600, "made": false }));
    world.server.stop().await.audit_holds(&[ORG]).await;
}
