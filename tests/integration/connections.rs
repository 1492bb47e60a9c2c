//! The access tokens of connections: refreshed once for all who ask, recovered when an answer is
//! lost, broken when nothing helps, and authorised again.

use std::time::Duration;

use mortise::oauth::{AccessToken, HOST_CONNECTION, OAuthError};
use mortise::seam::{Clock, Seam};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::on_both;
use crate::support::server::{
    Backend, Installation, ORG, RETURN_ORIGIN, TestServer, assert_absent, eventually,
};

on_both!(
    a_hundred_callers_refresh_once,
    a_refused_token_is_refreshed_once,
    tokens_are_refreshed_before_they_end,
    a_lost_answer_is_recovered,
    the_former_refresh_token_helps_where_its_successor_was_lost,
    a_dead_connection_is_broken_and_authorised_again,
    narrowed_scopes_break_a_connection,
    a_provider_that_is_down_is_not_stormed,
    without_a_refresh_token_a_connection_ends_with_its_token,
    an_uninstall_during_a_refresh_wins,
    a_claim_of_a_process_that_is_gone_ends,
    what_is_sealed_opens_in_its_own_row_only,
    users_do_not_push_each_other_out,
);

const HOUR: Duration = Duration::from_hours(1);

/// Longer than an access token lives.
const LATER: Duration = Duration::from_secs(3_700);

async fn active(backend: Backend) -> (TestServer, Installation, Uuid) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let id = installation.id.parse().expect("an id");
    (server, installation, id)
}

async fn ask(server: &TestServer, id: Uuid) -> Result<AccessToken, OAuthError> {
    server.connections().access_token(id, HOST_CONNECTION, None, None).await
}

async fn token(server: &TestServer, id: Uuid) -> AccessToken {
    ask(server, id).await.expect("a token")
}

/// How the connection is shown.
async fn shown(server: &TestServer, installation: &Installation) -> Value {
    let seen = server.installation(&installation.id).await;
    let connections = seen["connections"].as_array().expect("connections");
    let host = connections.iter().find(|one| one["name"] == HOST_CONNECTION).expect("the host's");
    assert_eq!(host["health"], seen["connection"]["health"], "{seen}");
    assert_eq!(host["reason"], seen["connection"]["reason"], "{seen}");
    host.clone()
}

async fn notices(server: &TestServer, token: &str) -> Vec<Value> {
    let all = server.client.all("/api/v1/notices", token).await;
    all.into_iter().filter(|notice| notice["kind"] == "connection.broken").collect()
}

async fn a_hundred_callers_refresh_once(backend: Backend) {
    let (server, _, id) = active(backend).await;
    let first = token(&server, id).await;
    assert!(server.provider.is_live(first.token.expose()));
    assert_eq!(server.provider.token_requests(), 1, "a good token is not refreshed");
    server.provider.conduct(|conduct| conduct.token_delay = Duration::from_millis(300));
    server.advance(LATER);
    let callers = (0..100).map(|_| {
        let connections = server.connections().clone();
        tokio::spawn(async move {
            connections.access_token(id, HOST_CONNECTION, None, None).await.expect("a token")
        })
    });
    let mut tokens = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        tokens.push(caller.await.expect("no panic"));
    }
    assert_eq!(server.provider.token_requests(), 2, "one exchange and one refresh");
    for token in &tokens {
        assert_eq!(token.version, tokens[0].version);
        assert_eq!(token.token, tokens[0].token);
        assert_eq!(token.scheme, "Zoho-oauthtoken");
    }
    assert!(tokens[0].version > first.version);
    assert!(server.provider.is_live(tokens[0].token.expose()));
    let dump = server.dump().await;
    for issued in server.provider.issued_tokens() {
        assert_absent(&dump, &issued.token);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_refresh_once() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let url = database.url().to_owned();
    let (server, _, id) = active(Backend::Postgres(database)).await;
    let config = server.config_of_another_node(&url);
    let seam: Seam = server.seam.clone();
    let other = mortise::server::start(config, seam).await.expect("another node starts");
    server.provider.conduct(|conduct| conduct.token_delay = Duration::from_millis(300));
    server.advance(LATER);
    let callers = (0..100).map(|number| {
        let connections =
            if number % 2 == 0 { server.connections() } else { other.connections() }.clone();
        tokio::spawn(async move {
            connections.access_token(id, HOST_CONNECTION, None, None).await.expect("a token")
        })
    });
    let mut tokens = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        tokens.push(caller.await.expect("no panic"));
    }
    assert!(tokens.iter().all(|token| token.token == tokens[0].token));
    assert_eq!(server.provider.token_requests(), 2, "one exchange and one refresh");
    other.stop().await;
}

async fn a_refused_token_is_refreshed_once(backend: Backend) {
    let (server, _, id) = active(backend).await;
    let refused = token(&server, id).await.version;
    let connections = server.connections();
    let again = || connections.access_token(id, HOST_CONNECTION, None, Some(refused));
    let (a, b, c) = tokio::join!(again(), again(), again());
    let fresh = a.expect("a token");
    assert!(fresh.version > refused);
    assert_eq!(fresh.version, b.expect("a token").version);
    assert_eq!(fresh.version, c.expect("a token").version);
    // Whoever still holds the old one gets the new one, and nobody is asked.
    assert_eq!(again().await.expect("a token").version, fresh.version);
    assert_eq!(server.provider.token_requests(), 2);
    // A service that refuses whatever it is brought makes no storm.
    for _ in 0..5 {
        let same = connections.access_token(id, HOST_CONNECTION, None, Some(fresh.version)).await;
        assert_eq!(same.expect("a token").version, fresh.version);
    }
    assert_eq!(server.provider.token_requests(), 2);
    server.advance(Duration::from_secs(11));
    let next = connections.access_token(id, HOST_CONNECTION, None, Some(fresh.version)).await;
    assert!(next.expect("a token").version > fresh.version);
}

async fn tokens_are_refreshed_before_they_end(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    let first = token(&server, id).await;
    let end = shown(&server, &installation).await["expiresAt"].clone();
    server.advance(Duration::from_mins(30));
    assert_eq!(token(&server, id).await.version, first.version, "it is far from its end");
    server.advance(Duration::from_mins(29));
    eventually("it is refreshed by itself", || async {
        (server.provider.token_requests() == 2).then_some(())
    })
    .await;
    eventually("its new end is shown", || async {
        (shown(&server, &installation).await["expiresAt"] != end).then_some(())
    })
    .await;
    assert!(token(&server, id).await.version > first.version);
    assert_eq!(server.provider.token_requests(), 2);
    // What is uninstalled is refreshed no more.
    let body = json!({ "installationId": installation.id });
    server.callback("uninstall", &body).await.expect(200);
    assert!(matches!(ask(&server, id).await, Err(OAuthError::NoConnection { .. })));
    server.advance(2 * HOUR);
    Clock::default().sleep(Duration::from_millis(1_300)).await;
    assert_eq!(server.provider.token_requests(), 2);
}

async fn a_lost_answer_is_recovered(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    server.provider.conduct(|conduct| {
        conduct.resilient_refresh = true;
        conduct.lost_token_answers = 1;
    });
    server.advance(LATER);
    let lost = ask(&server, id).await.expect_err("the answer is lost");
    let OAuthError::Unavailable { retry_after, .. } = lost else { panic!("{lost}") };
    assert!(retry_after <= Duration::from_secs(10), "{retry_after:?}");
    assert_eq!(server.provider.token_requests(), 2);
    // Until then nobody is asked.
    assert!(matches!(ask(&server, id).await, Err(OAuthError::Unavailable { .. })));
    assert_eq!(server.provider.token_requests(), 2);
    assert_eq!(shown(&server, &installation).await["health"], "ok");
    server.advance(Duration::from_secs(10));
    let found = token(&server, id).await;
    assert!(server.provider.is_live(found.token.expose()));
    assert_eq!(server.provider.token_requests(), 3);
}

async fn the_former_refresh_token_helps_where_its_successor_was_lost(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    server.provider.conduct(|conduct| conduct.resilient_refresh = true);
    server.advance(LATER);
    token(&server, id).await;
    let issued = server.provider.issued_tokens();
    let successor = issued.last().expect("a refresh token");
    assert_eq!(issued.len(), 4);
    server.provider.forget(&successor.token);
    server.advance(LATER);
    let found = token(&server, id).await;
    assert!(server.provider.is_live(found.token.expose()));
    assert_eq!(server.provider.token_requests(), 4, "the present one, then the former one");
    assert_eq!(shown(&server, &installation).await["health"], "ok");
}

async fn a_dead_connection_is_broken_and_authorised_again(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    let before = shown(&server, &installation).await;
    assert_eq!(before["scopes"], json!(["Desk.events.ALL", "Desk.tickets.READ"]));
    assert_eq!(before["service"], "zlabs_integration");
    let (admin, vendor) = (server.admin(ORG).await, server.vendor_token("acme").await);
    let others = server.admin("2").await;
    server.provider.revoke_all();
    server.advance(LATER);
    let error = ask(&server, id).await.expect_err("it is dead");
    assert!(
        matches!(&error, OAuthError::Broken { reason, .. } if reason.contains("invalid_grant")),
        "{error}"
    );
    let broken = shown(&server, &installation).await;
    assert_eq!(broken["health"], "broken");
    let reason = broken["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("consent was withdrawn"), "{reason}");
    for token in [&admin, &vendor] {
        let notices = notices(&server, token).await;
        assert_eq!(notices.len(), 1);
        assert!(notices[0]["message"].as_str().expect("words").contains(&reason));
        assert_eq!(notices[0]["installationId"], installation.id.as_str());
    }
    assert!(notices(&server, &others).await.is_empty());
    let requests = server.provider.token_requests();
    for _ in 0..5 {
        assert!(matches!(ask(&server, id).await, Err(OAuthError::Broken { .. })));
        server.advance(HOUR);
    }
    Clock::default().sleep(Duration::from_millis(1_300)).await;
    assert_eq!(server.provider.token_requests(), requests, "nobody is asked any more");
    // Events go on: the webhook lives from authorisation to uninstall.
    assert_eq!(server.webhooks(ORG).await.len(), 1);

    let unknown = json!({ "installationId": installation.id, "connection": "nothing" });
    server.callback("reauthorize", &unknown).await.refused(422, "INVALID_DATA");
    let body = json!({
        "installationId": installation.id, "grantedBy": "u-2",
        "returnUrl": format!("{RETURN_ORIGIN}/back"),
    });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    let authorization_url = asked.text_of("authorizationUrl");
    assert!(asked.text_of("startUrl").starts_with(&server.client.url("/oauth/start/")));
    let answer = server.consent(&authorization_url).await;
    let active = server.authorize(&installation.id, &answer).await.expect(200);
    assert_eq!(active.json["state"], "active");
    assert_eq!(active.json["connection"], json!({ "health": "ok", "reason": null }));
    let healed = shown(&server, &installation).await;
    assert_eq!(healed["grantedBy"], "u-2");
    let found = token(&server, id).await;
    assert!(server.provider.is_live(found.token.expose()));
    let notices = notices(&server, &admin).await;
    assert!(notices.iter().all(|notice| notice["resolvedTime"].is_string()), "{notices:?}");
    // It is refreshed like the first one.
    server.advance(LATER);
    assert!(token(&server, id).await.version > found.version);
    let path = format!("/api/v1/installations/{}/history", installation.id);
    let history = server.client.all(&path, &server.operator).await;
    let commands: Vec<&str> = history.iter().filter_map(|one| one["command"].as_str()).collect();
    assert_eq!(
        commands,
        ["install", "authorize", "connectionBroken", "reauthorize"],
        "{history:?}"
    );
    // The answer is used up, and a good connection can be authorised anew: the old tokens go.
    server.authorize(&installation.id, &answer).await.refused(422, "INVALID_STATE");
    let old = token(&server, id).await;
    let body = json!({ "installationId": installation.id });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    assert!(token(&server, id).await.version > old.version);
    eventually("the old token is revoked", || async {
        (!server.provider.is_live(old.token.expose())).then_some(())
    })
    .await;
    assert!(server.provider.is_live(token(&server, id).await.token.expose()));
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn narrowed_scopes_break_a_connection(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    server.provider.conduct(|conduct| {
        conduct.narrow_refresh = Some(vec!["Desk.tickets.READ".to_owned()]);
    });
    server.advance(LATER);
    let error = ask(&server, id).await.expect_err("it was narrowed");
    assert!(
        matches!(&error, OAuthError::Broken { reason, .. } if reason.contains("narrowed") && reason.contains("Desk.events.ALL")),
        "{error}"
    );
    assert_eq!(shown(&server, &installation).await["health"], "broken");
    eventually("what is left of it is revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
}

async fn a_provider_that_is_down_is_not_stormed(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    server.provider.conduct(|conduct| conduct.token_failures.extend([503; 40]));
    server.advance(LATER);
    for _ in 0..20 {
        assert!(matches!(ask(&server, id).await, Err(OAuthError::Unavailable { .. })));
    }
    assert_eq!(server.provider.token_requests(), 2, "one try, then a pause");
    for _ in 0..3 {
        server.advance(Duration::from_secs(61));
        let requests = server.provider.token_requests();
        eventually("it is tried again by itself", || async {
            (server.provider.token_requests() > requests).then_some(())
        })
        .await;
    }
    assert!(server.provider.token_requests() < 8);
    assert_eq!(shown(&server, &installation).await["health"], "ok");
    server.provider.conduct(|conduct| conduct.token_failures.clear());
    server.advance(Duration::from_mins(16));
    eventually("it is back", || async { ask(&server, id).await.ok() }).await;
}

async fn without_a_refresh_token_a_connection_ends_with_its_token(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.provider.conduct(|conduct| conduct.issue_refresh_tokens = false);
    let installation = server.active(ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let first = token(&server, id).await;
    // Nothing can be done about a 401: the caller gets the same one.
    let same = server
        .connections()
        .access_token(id, HOST_CONNECTION, None, Some(first.version))
        .await
        .expect("a token");
    assert_eq!(same.version, first.version);
    server.advance(LATER);
    eventually("it is shown as broken by itself", || async {
        (shown(&server, &installation).await["health"] == "broken").then_some(())
    })
    .await;
    let error = ask(&server, id).await.expect_err("it ended");
    assert!(
        matches!(&error, OAuthError::Broken { reason, .. } if reason.contains("expired")),
        "{error}"
    );
    assert_eq!(server.provider.token_requests(), 1);
}

async fn an_uninstall_during_a_refresh_wins(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    server.provider.conduct(|conduct| {
        conduct.token_answer_delay = Duration::from_millis(700);
    });
    server.advance(LATER);
    let refreshing = ask(&server, id);
    let uninstalling = async {
        eventually("tokens were issued", || async {
            (server.provider.issued_tokens().len() == 4).then_some(())
        })
        .await;
        let body = json!({ "installationId": installation.id });
        server.callback("uninstall", &body).await.expect(200)
    };
    let (refreshed, _) = tokio::join!(refreshing, uninstalling);
    assert!(matches!(refreshed, Err(OAuthError::NoConnection { .. })), "{refreshed:?}");
    assert!(server.texts("select 'x' from connections").await.is_empty());
    eventually("the late tokens are revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    eventually("the clean-up is done", || async {
        let seen = server.installation(&installation.id).await;
        (seen["cleanup"] == "done").then_some(())
    })
    .await;
}

async fn a_claim_of_a_process_that_is_gone_ends(backend: Backend) {
    let (server, _, id) = active(backend).await;
    let now = server.seam.clock.now();
    let until = now.plus(Duration::from_secs(25)).micros();
    // As a crash leaves it between the claim and the answer.
    server
        .execute(&format!(
            "update connections set claimed_until = {until}, access_expires_at = {}, \
             refresh_due_at = null",
            now.micros()
        ))
        .await;
    let connections = server.connections().clone();
    let waiting = tokio::spawn(async move {
        connections.access_token(id, HOST_CONNECTION, None, None).await.map(|_| ())
    });
    Clock::default().sleep(Duration::from_millis(400)).await;
    assert_eq!(server.provider.token_requests(), 1, "another may be asking");
    server.advance(Duration::from_secs(26));
    let waited = waiting.await.expect("no panic");
    assert!(matches!(waited, Ok(()) | Err(OAuthError::Unavailable { .. })), "{waited:?}");
    let found = eventually("it is free", || async { ask(&server, id).await.ok() }).await;
    assert!(server.provider.is_live(found.token.expose()));
    assert_eq!(server.provider.token_requests(), 2);
}

async fn what_is_sealed_opens_in_its_own_row_only(backend: Backend) {
    let (server, _, id) = active(backend).await;
    let other = server.install("ticket-mirror", "2").await;
    let answer = server.consent(&other.authorization_url).await;
    server.authorize(&other.id, &answer).await.expect(200);
    let other: Uuid = other.id.parse().expect("an id");
    token(&server, id).await;
    token(&server, other).await;
    // A token takes the other's place; which one, is the database's choice.
    server
        .execute(
            "update connections set sealed_access_token = (select o.sealed_access_token \
             from connections o where o.id <> connections.id)",
        )
        .await;
    let outcomes = [ask(&server, id).await, ask(&server, other).await];
    let refused = |outcome: &Result<_, _>| matches!(outcome, Err(OAuthError::Crypto(_)));
    assert!(outcomes.iter().any(refused), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || refused(outcome)), "{outcomes:?}");
}

async fn users_do_not_push_each_other_out(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    let connect = |user: &str| {
        json!({
            "installationId": installation.id, "connectionLinkName": HOST_CONNECTION, "userId": user,
        })
    };
    let mut first = Vec::new();
    for user in ["a", "b", "c", "d", "e", "f", "g"] {
        first.push(server.callback("connect", &connect(user)).await.expect(200));
    }
    let body = json!({ "installationId": installation.id });
    let again = server.callback("reauthorize", &body).await.expect(200);
    for _ in 0..5 {
        server.callback("connect", &connect("a")).await.expect(200);
    }
    let kept = server.texts("select 'x' from authorization_requests").await;
    assert_eq!(kept.len(), 7 + 1 + 4, "five of a, one of each other, one of the org's");
    let bring = |asked: &crate::support::client::Answer| asked.text_of("authorizationUrl");
    // The oldest of a is dead; b's lives, and so does the org's after it.
    let answer = server.consent(&bring(&first[0])).await;
    server.authorize(&installation.id, &answer).await.refused(422, "INVALID_STATE");
    let answer = server.consent(&bring(&first[1])).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let answer = server.consent(&bring(&again)).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let kept = server.texts("select user_id from authorization_requests").await;
    assert_eq!(kept.len(), 5 + 5, "all of b's and of the org's are gone: {kept:?}");
    // b has a token of his own; c has none, and the org's is not his.
    let connections = server.connections();
    let of = |user: &'static str| connections.access_token(id, HOST_CONNECTION, Some(user), None);
    let (own, orgs) = (of("b").await.expect("a token"), token(&server, id).await);
    assert_ne!(own.token, orgs.token);
    assert!(matches!(of("c").await, Err(OAuthError::NoConnection { .. })));
    let seen = server.installation(&installation.id).await;
    let users: Vec<&Value> =
        seen["connections"].as_array().expect("a list").iter().map(|one| &one["userId"]).collect();
    assert_eq!(users, [&json!(null), &json!("b")]);
}
