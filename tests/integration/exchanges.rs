//! What happens while a code is exchanged, and what becomes of tokens that come too late, twice, or
//! to nobody.

use std::time::Duration;

use mortise::development::{Browser, Decision};
use mortise::oauth::HOST_CONNECTION;
use mortise::seam::Clock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connectors::{with_connector, world};
use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};

on_both!(
    a_user_who_is_removed_during_an_exchange_grants_nothing,
    a_disconnection_during_an_exchange_stands,
    of_two_exchanges_the_later_one_is_revoked,
    a_refresh_token_that_comes_again_lives_on,
    an_erasure_waits_for_a_code_whose_answer_was_lost,
    a_dead_server_stops_no_recovery_of_others,
    a_hanging_revocation_holds_nobody_elses,
    a_change_of_a_connection_has_its_place_among_the_changes,
);

/// How long an exchange takes within which something else happens.
const SLOW: Duration = Duration::from_millis(1_500);

/// Longer than an exchange may live before it is taken for abandoned.
const ABANDONED: Duration = Duration::from_mins(6);

async fn begin(server: &TestServer, name: &str, body: &Value) -> String {
    server.callback(name, body).await.expect(200).text_of("authorizationUrl")
}

/// Begins to authorise, consents, and brings the answer.
async fn bring(server: &TestServer, id: &str, authorization_url: &str) -> Answer {
    let answer = server.consent(authorization_url).await;
    server.authorize(id, &answer).await
}

/// Loses the answer of the next exchange after the tokens were issued.
async fn lose(server: &TestServer, id: &str, authorization_url: &str) {
    bring(server, id, authorization_url).await.expect(502);
}

async fn no_exchange_is_left(server: &TestServer) {
    assert!(server.texts("select 'x' from token_exchanges").await.is_empty());
    assert!(server.texts("select 'x' from authorization_requests").await.is_empty());
}

async fn a_user_who_is_removed_during_an_exchange_grants_nothing(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let body = json!({ "installationId": installation.id, "grantedBy": "u-1" });
    let url = begin(&server, "reauthorize", &body).await;
    server.provider.conduct(|conduct| conduct.token_answer_delay = SLOW);
    let removing = async {
        eventually("tokens were issued", || async {
            (server.provider.issued_tokens().len() == 4).then_some(())
        })
        .await;
        let removed = json!({ "orgId": ORG, "userId": "u-1" });
        server.callback("user-removed", &removed).await.expect(200)
    };
    let (brought, _) = tokio::join!(bring(&server, &installation.id, &url), removing);
    brought.refused(422, "INVALID_STATE");
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connection"]["health"], "ok", "the former grant serves on: {seen}");
    assert_eq!(seen["connections"][0]["grantedBy"], Value::Null, "{seen}");
    eventually("what he granted is revoked", || async {
        (server.provider.live_tokens().len() == 2).then_some(())
    })
    .await;
    no_exchange_is_left(&server).await;
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_disconnection_during_an_exchange_stands(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let installation = server.active_package(&with_connector(&server, true), ORG).await;
    let body = json!({
        "installationId": installation.id, "connectionLinkName": "my_crm", "userId": "u-1",
    });
    let url = begin(&server, "connect", &body).await;
    crm.conduct(|conduct| conduct.token_answer_delay = SLOW);
    let disconnecting = async {
        eventually("tokens were issued", || async {
            (crm.issued_tokens().len() == 2).then_some(())
        })
        .await;
        server.callback("disconnect", &body).await.expect(200)
    };
    let (brought, _) = tokio::join!(bring(&server, &installation.id, &url), disconnecting);
    brought.refused(422, "INVALID_STATE");
    let seen = server.installation(&installation.id).await;
    let all = seen["connections"].as_array().expect("connections");
    let crm_now = all.iter().find(|one| one["name"] == "my_crm").expect("it is declared");
    assert_eq!(crm_now["health"], "none", "{seen}");
    eventually("the late tokens are revoked", || async {
        crm.live_tokens().is_empty().then_some(())
    })
    .await;
    no_exchange_is_left(&server).await;
}

/// Both are of one connection: the former one's tokens being stored must not save the later one's.
async fn of_two_exchanges_the_later_one_is_revoked(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let body = json!({ "installationId": installation.id });
    let late = begin(&server, "reauthorize", &body).await;
    let soon = begin(&server, "reauthorize", &body).await;
    server.provider.conduct(|conduct| conduct.token_answer_delay = SLOW);
    let overtaking = async {
        eventually("the late one is under way", || async {
            (server.provider.issued_tokens().len() == 4).then_some(())
        })
        .await;
        server.provider.conduct(|conduct| conduct.token_answer_delay = Duration::ZERO);
        bring(&server, &installation.id, &soon).await.expect(200)
    };
    let (brought, _) = tokio::join!(bring(&server, &installation.id, &late), overtaking);
    brought.refused(422, "INVALID_STATE");
    eventually("only what is stored lives", || async {
        (server.provider.live_tokens().len() == 2).then_some(())
    })
    .await;
    let token = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert!(server.provider.is_live(token.expect("a token").token.expose()));
    no_exchange_is_left(&server).await;
}

async fn a_refresh_token_that_comes_again_lives_on(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let body = json!({ "installationId": installation.id });
    server.provider.conduct(|conduct| {
        conduct.repeat_refresh_token = true;
        conduct.grant_only = Some(vec!["Desk.tickets.READ".to_owned()]);
    });
    // Too little: it is discarded, and with it the refresh token that is in use.
    let url = begin(&server, "reauthorize", &body).await;
    bring(&server, &installation.id, &url).await.refused(422, "UNPROCESSABLE_ENTITY");
    // A process that died in an exchange leaves tokens, too, with the one that is in use.
    server.provider.conduct(|conduct| {
        conduct.grant_only = None;
        conduct.token_failures.push_back(503);
    });
    let url = begin(&server, "reauthorize", &body).await;
    lose(&server, &installation.id, &url).await;
    server.execute("update token_exchanges set started_at = 0, next_at = 0").await;
    eventually("it is finished", || async {
        let left = server.texts("select 'x' from token_exchanges").await;
        let revoked = server.texts("select 'x' from revocations").await;
        (left.is_empty() && revoked.is_empty()).then_some(())
    })
    .await;
    assert_eq!(server.provider.revocation_requests(), 2, "the two surplus access tokens");
    server.advance(Duration::from_secs(3_700));
    let token = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert!(server.provider.is_live(token.expect("it is refreshed").token.expose()));
}

async fn an_erasure_waits_for_a_code_whose_answer_was_lost(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let body = json!({ "installationId": installation.id });
    let url = begin(&server, "reauthorize", &body).await;
    server.provider.conduct(|conduct| conduct.lost_token_answers = 1);
    lose(&server, &installation.id, &url).await;
    let body = json!({ "installationId": installation.id, "eraseData": true });
    server.callback("uninstall", &body).await.expect(200);
    eventually("the known tokens are revoked", || async {
        (server.provider.live_tokens().len() == 2).then_some(())
    })
    .await;
    eventually("the job is empty", || async {
        server.texts("select 'x' from revocations").await.is_empty().then_some(())
    })
    .await;
    // Several turns of the erasure.
    for _ in 0..4 {
        server.advance(Duration::from_secs(31));
        Clock::default().sleep(Duration::from_millis(1_100)).await;
    }
    let path = format!("/api/v1/installations/{}/erasure", installation.id);
    let report = || async { server.client.get(&path, &server.operator).await.expect(200).json };
    assert_ne!(report().await["state"], "done", "tokens may be out there");
    assert_eq!(server.installation(&installation.id).await["cleanup"], "pending");
    assert_eq!(server.texts("select 'x' from token_exchanges").await.len(), 1);
    let looked = server.client.post("/api/v1/reconcile", &server.operator, &json!({})).await;
    assert!(!looked.text.contains("cleanup.stuck"), "{}", looked.text);
    // Presented again: the provider ends what came of it.
    server.advance(ABANDONED);
    eventually("the lost tokens are dead", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    eventually("the clean-up is done", || async {
        (server.installation(&installation.id).await["cleanup"] == "done").then_some(())
    })
    .await;
    eventually("the erasure is done", || async {
        server.advance(Duration::from_secs(31));
        (report().await["state"] == "done").then_some(())
    })
    .await;
    server.stop().await.audit_holds(&[ORG]).await;
}

/// Connects so many users of one installation; they need not wait for each other.
async fn connect_users(
    server: &TestServer,
    installation: &Installation,
    count: usize,
    status: u16,
) {
    let one = |number: usize| async move {
        let body = json!({
            "installationId": installation.id, "connectionLinkName": "my_crm",
            "userId": format!("u-{number}"),
        });
        let asked = server.callback("connect", &body).await.expect(200);
        let mut browser = Browser::new().expect("a browser");
        let url = asked.text_of("authorizationUrl");
        let answer = browser.consent(&url, Decision::Approve).await.expect("consent");
        server.authorize(&installation.id, &answer).await.expect(status);
    };
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(10) {
        futures_util::future::join_all(some.iter().copied().map(one)).await;
    }
}

async fn a_dead_server_stops_no_recovery_of_others(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let installation = server.active_package(&with_connector(&server, true), ORG).await;
    crm.conduct(|conduct| conduct.lost_token_answers = 20);
    connect_users(&server, &installation, 20, 502).await;
    let body = json!({ "installationId": installation.id });
    let url = begin(&server, "reauthorize", &body).await;
    server.provider.conduct(|conduct| conduct.lost_token_answers = 1);
    lose(&server, &installation.id, &url).await;
    assert_eq!(server.texts("select 'x' from token_exchanges").await.len(), 21);
    assert_eq!(server.provider.live_tokens().len(), 4);
    let asked = crm.token_requests();
    crm.conduct(|conduct| conduct.token_delay = Duration::from_mins(5));
    server.advance(ABANDONED);
    let began = Clock::default().instant();
    eventually("the other server's is finished", || async {
        (server.provider.live_tokens().len() == 2).then_some(())
    })
    .await;
    let took = Clock::default().instant() - began;
    assert!(took < Duration::from_secs(8), "{took:?}");
    let at_once = crm.token_requests() - asked;
    assert!((1..=8).contains(&at_once), "its lane is not wider: {at_once}");
    // Who does not answer is asked less and less often.
    crm.conduct(|conduct| {
        conduct.token_delay = Duration::ZERO;
        conduct.token_failures.extend([503; 1_000]);
    });
    server.execute("update token_exchanges set attempts = 6, next_at = 0").await;
    eventually("all were tried", || async {
        let failed = "select 'x' from token_exchanges where attempts = 7";
        (server.texts(failed).await.len() >= 12).then_some(())
    })
    .await;
    let soon = server.seam.clock.now().plus(Duration::from_mins(4)).micros();
    let hasty = format!("select 'x' from token_exchanges where attempts = 7 and next_at < {soon}");
    assert!(server.texts(&hasty).await.is_empty(), "a pause is made");
}

async fn a_hanging_revocation_holds_nobody_elses(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let installation = server.active_package(&with_connector(&server, true), ORG).await;
    let other = server.install("ticket-mirror", "2").await;
    bring(&server, &other.id, &other.authorization_url).await.expect(200);
    // More tokens than there may be tries in all, so that none is left without lanes.
    connect_users(&server, &installation, 140, 200).await;
    assert_eq!(crm.live_tokens().len(), 280);
    crm.conduct(|conduct| conduct.revocation_delay = Duration::from_mins(5));
    let uninstall = |id: String| {
        let server = &server;
        async move {
            let body = json!({ "installationId": id });
            server.callback("uninstall", &body).await.expect(200)
        }
    };
    uninstall(installation.id.clone()).await;
    Clock::default().sleep(Duration::from_millis(1_200)).await;
    let began = Clock::default().instant();
    uninstall(other.id.clone()).await;
    eventually("the other server's tokens are revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    let took = Clock::default().instant() - began;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

async fn a_change_of_a_connection_has_its_place_among_the_changes(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let _first = server.active(ORG).await;
    let _second = server.active("2").await;
    let vendor = server.vendor_token("acme").await;
    let path = "/api/v1/installations?since=2000-01-01T00:00:00Z&limit=1";
    let page = server.client.get(path, &vendor).await.expect(200);
    let first = page.data()[0]["installationId"].as_str().expect("an id").to_owned();
    server.provider.revoke_all();
    let id: Uuid = first.parse().expect("an id");
    server.advance(Duration::from_secs(3_700));
    let broken = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert!(broken.is_err());
    let on = format!("{path}0&cursor={}", page.text_of("nextCursor"));
    let rest = server.client.all(&on, &vendor).await;
    let changed = rest.iter().find(|row| row["installationId"] == first.as_str());
    let changed = changed.expect("who reads on hears of it");
    assert_eq!(changed["connection"]["health"], "broken", "{changed}");
}
