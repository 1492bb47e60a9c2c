//! The client crate against a real server: a marketplace's, a host's, an administrator's and an
//! operator's calls.

use std::time::Duration;

use mortise_client::deliveries::{DeliveryFilter, DeliveryState};
use mortise_client::events::Event;
use mortise_client::lifecycle::{
    AuthorizeRequest, InstallRequest, InstallationFilter, InstallationState, JournalFilter,
    UninstallRequest,
};
use mortise_client::listeners::ListenerRequest;
use mortise_client::tokens::{Role, TokenRequest};
use mortise_client::webhooks::{WebhookFilter, WebhookPatch, WebhookRequest};
use mortise_client::{Client, ExtensionKey, OrgId, Retries, Value};
use serde_json::json;

use crate::support::server::{Backend, ORG, TestServer, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn client(server: &TestServer, token: &str) -> Client {
    let builder = Client::builder(&server.client.url(""), token).expect("an address");
    builder.retries(Retries::NONE).build().expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_tells_the_whole_story() {
    let server = TestServer::start(Backend::Sqlite, |settings| {
        settings.set("marketplace.signing_secret", SECRET);
    })
    .await;
    server.publish(&server.package()).await.expect(201);
    let (org, key) = (OrgId::new(ORG).expect("an org"), ExtensionKey::new("ticket-mirror"));
    let key = key.expect("a key");

    // The operator makes the tokens of all others.
    let operator = client(&server, &server.operator);
    let made = async |request: TokenRequest| {
        let token = operator.create_token(&request).await.expect("a token");
        token.value.expect("it is told once").expose().to_owned()
    };
    let marketplace = made(TokenRequest::new(Role::Marketplace)).await;
    let host = client(&server, &made(TokenRequest::new(Role::Host)).await);
    let admin = client(&server, &made(TokenRequest::of_org(Role::Admin, org.clone())).await);
    let listed = operator.tokens().up_to(100).await.expect("a list");
    assert!(listed.len() >= 3 && listed.iter().all(|token| token.value.is_none()));

    // The marketplace signs; who does not is refused.
    let request = InstallRequest::new(key.clone(), org.clone());
    let refused = client(&server, &marketplace).install(&request).await.expect_err("unsigned");
    let problem = refused.problem().expect("a problem");
    assert_eq!((problem.status.as_u16(), &*problem.error_code), (401, "SIGNATURE_INVALID"));
    assert!(problem.correlation_id.is_some());
    let marketplace = Client::builder(&server.client.url(""), &*marketplace)
        .and_then(|builder| builder.marketplace_secret(SECRET))
        .and_then(mortise_client::ClientBuilder::build)
        .expect("a client");
    let installed = marketplace.install(&request).await.expect("it is installed");
    assert_eq!(installed.state, InstallationState::PendingAuthorization);
    let url = installed.authorization_url.expect("an address");
    let answer = server.consent(&url).await;
    let (code, state) = (answer.code.expect("a code"), answer.state.expect("a state"));
    let authorize = AuthorizeRequest::new(installed.installation_id, code, state);
    let active = marketplace.authorize(&authorize).await.expect("it is authorised");
    assert_eq!(active.state, InstallationState::Active);
    let webhook = active.webhooks.first().expect("a webhook").clone();
    assert!(webhook.locked && webhook.extension.is_some());

    // The host posts; the administrator follows.
    let listening = ListenerRequest::default();
    assert!(admin.listen(&listening).await.is_err(), "to what?");
    let mut listening = ListenerRequest::default();
    listening.webhook_id = Some(webhook.id);
    let listener = admin.listen(&listening).await.expect("a listener");
    let Value::Object(payload) = json!({ "id": "1", "subject": "a ticket" }) else {
        unreachable!()
    };
    let mut event = Event::new("Ticket_Add", org.clone(), payload);
    event.event_id = Some("one/of two".to_owned());
    let accepted = host.post_events(&[event.clone()]).await.expect("it is on disk");
    assert_eq!((accepted.accepted, accepted.events[0].deliveries), (1, 1));
    let again = host.post_events(&[event]).await.expect("it was there");
    assert!(again.events[0].duplicate && !accepted.events[0].duplicate);
    let mut filter = DeliveryFilter::default();
    filter.state = Some(DeliveryState::Delivered);
    filter.limit = Some(1);
    let delivery = eventually("it is delivered", async || {
        admin.deliveries(&filter).next().await.expect("a list")
    })
    .await;
    let shown = admin.delivery(delivery.id).await.expect("it is there");
    assert_eq!((shown.state, shown.attempts_made), (DeliveryState::Delivered, 1));
    assert_eq!(shown.attempts[0].status, Some(200));
    let explained = host.event(&org, "one/of two").await.expect("it is explained");
    assert!(explained.webhooks.iter().any(|verdict| verdict.matched));
    let copies = admin.listened(listener.id, None, Duration::from_secs(5)).await.expect("copies");
    assert_eq!(copies.data[0].delivery_id, delivery.id);
    admin.end_listener(listener.id).await.expect("it ends");

    // An extension's webhook is locked; the org's own is not.
    let patch = WebhookPatch::default();
    let refused = admin.change_webhook(webhook.id, &patch).await.expect_err("it is locked");
    let problem = refused.problem().expect("a problem");
    assert_eq!(problem.document["lockedBy"]["extensionKey"], "ticket-mirror");
    let own = WebhookRequest::new(server.vendor.url("/own"), &["Ticket_Add"]);
    let own = admin.create_webhook(None, &own).await.expect("it is made");
    assert!(own.secret.is_some() && !own.locked);
    let mut patch = WebhookPatch::default();
    patch.name = Some(Some("mine".to_owned()));
    let named = admin.change_webhook(own.id, &patch).await.expect("it is changed");
    assert_eq!(named.name.as_deref(), Some("mine"));
    patch.name = Some(None);
    assert_eq!(admin.change_webhook(own.id, &patch).await.expect("it is").name, None);
    assert!(admin.ping_webhook(own.id).await.expect("a ping").is_delivered());
    let mut filter = WebhookFilter::default();
    filter.kind = Some("CUSTOMER_WEBHOOK".to_owned());
    assert_eq!(admin.webhooks(&filter).up_to(10).await.expect("a list").len(), 1);
    admin.delete_webhook(own.id).await.expect("it is gone");
    assert!(admin.webhook(own.id).await.expect_err("it is gone").is_not_found());

    // Lists go on where they were; the end of it.
    let mut pages = marketplace.installations(&InstallationFilter::default());
    assert_eq!(
        pages.next().await.expect("a page").expect("one").installation_id,
        active.installation_id
    );
    assert!(pages.next().await.expect("a page").is_none());
    let request = UninstallRequest::of_extension(key.clone(), org);
    let gone = marketplace.uninstall(&request).await.expect("it is uninstalled");
    assert_eq!((gone.state, gone.removed_webhooks), (InstallationState::Uninstalled, 1));
    let again = marketplace.uninstall(&request).await.expect("and again");
    assert_eq!(again.removed_webhooks, gone.removed_webhooks);
    let history = marketplace.history(active.installation_id).up_to(50).await.expect("a list");
    assert!(history.iter().any(|step| step.to == "uninstalled"), "{history:?}");
    let journal = operator.journal(&JournalFilter::default()).up_to(50).await.expect("a list");
    assert!(journal.iter().all(|entry| entry.extension_key == key) && !journal.is_empty());
    let (known, one) = (operator.extension(&key).await, operator.extensions().next().await);
    assert_eq!(
        known.expect("it is there").extension_id,
        one.expect("a page").expect("it").extension_id
    );
}
