//! The rows that tokens are kept in: what they are bound to, what is written of an answer that could
//! not be written at once, and who reads them while keys change.

use std::time::Duration;

use mortise::audit::Actor;
use mortise::crypto::{Purpose, open_keys};
use mortise::lifecycle::{PassLimits, PassPosition};
use mortise::oauth::{AccessToken, HOST_CONNECTION, OAuthError};
use mortise::rotation::{RotationState, Rotations};
use mortise::seam::{Clock, Seam};
use serde_json::json;
use uuid::Uuid;

use crate::support::on_both;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};

on_both!(
    an_answer_is_written_when_the_database_takes_it_again,
    scopes_that_a_refresh_changes_are_shown,
    a_token_opens_in_its_own_installation_only,
    a_reconciler_reads_keys_that_came_after_it,
);

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

async fn an_answer_is_written_when_the_database_takes_it_again(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let (server, installation, id) = active(backend).await;
    let first = ask(&server, id).await.expect("a token");
    // A write that fails, and nothing else.
    if is_sqlite {
        let guard = "create trigger full before update of sealed_access_token on connections \
                     begin select raise(abort, 'no room'); end";
        server.execute(guard).await;
    } else {
        let function = "create function no_room() returns trigger language plpgsql as $$ \
                        begin raise exception 'no room'; end $$";
        server.execute(function).await;
        let guard = "create trigger full_disk before update of sealed_access_token on connections \
                     for each row execute function no_room()";
        server.execute(guard).await;
    }
    server.advance(LATER);
    eventually("the authorisation server has answered", async || {
        (server.provider.token_requests() == 2).then_some(())
    })
    .await;
    Clock::default().sleep(Duration::from_secs(1)).await;
    let drop =
        if is_sqlite { "drop trigger full" } else { "drop trigger full_disk on connections" };
    server.execute(drop).await;
    let next = eventually("the answer is written", async || {
        ask(&server, id).await.ok().filter(|token| token.version > first.version)
    })
    .await;
    assert!(server.provider.is_live(next.token.expose()), "it is what the server answered");
    assert_eq!(server.provider.token_requests(), 2, "nobody was asked again");
    assert_eq!(server.installation(&installation.id).await["connection"]["health"], "ok");
}

async fn scopes_that_a_refresh_changes_are_shown(backend: Backend) {
    let (server, installation, id) = active(backend).await;
    // More was granted at first than was asked for, and the next answer says what is left.
    let wider = r#"["Desk.events.ALL","Desk.tickets.READ","Desk.contacts.READ"]"#;
    server.execute(&format!("update connections set scopes = '{wider}'")).await;
    server.execute(&format!("update installations set granted_scopes = '{wider}'")).await;
    server.execute("update installations set updated_at = 1").await;
    let before = server.installation(&installation.id).await;
    assert_eq!(before["grantedScopes"].as_array().map(Vec::len), Some(3), "{before:#}");
    server.advance(LATER);
    ask(&server, id).await.expect("a token");
    let after = server.installation(&installation.id).await;
    let scopes = json!(["Desk.events.ALL", "Desk.tickets.READ"]);
    assert_eq!(after["grantedScopes"], scopes, "{after:#}");
    let host = &after["connections"][0];
    assert_eq!(host["scopes"], scopes, "{host:#}");
    let told = server.texts("select cast(updated_at as text) from installations").await;
    assert_ne!(told, ["1"], "whoever reads what changed sees it");
}

async fn a_token_opens_in_its_own_installation_only(backend: Backend) {
    let (server, _, id) = active(backend).await;
    let other = server.install("ticket-mirror", "2").await;
    let answer = server.consent(&other.authorization_url).await;
    server.authorize(&other.id, &answer).await.expect(200);
    let other: Uuid = other.id.parse().expect("an id");
    ask(&server, id).await.expect("a token");
    // The whole row, id and all, becomes the other installation's.
    server
        .execute(
            "update connections set name = 'x' where installation_id in \
                    (select id from installations where org_id = '2')",
        )
        .await;
    server
        .execute(
            "update connections set installation_id = \
                    (select id from installations where org_id = '2') where name <> 'x'",
        )
        .await;
    let moved = ask(&server, other).await.expect_err("it is another's");
    assert!(matches!(moved, OAuthError::Crypto(_)), "{moved}");
}

/// A command that reads the keys once, while a rotation goes through.
async fn a_reconciler_reads_keys_that_came_after_it(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let (server, installation, id) = active(backend).await;
    let restarted = server.restart_after(async |place| {
        let store = place.store().await;
        let seam = Seam::default();
        let master = place.folder().join("master.key");
        let former = open_keys(&store, &master, &seam).await.expect("the keys open");
        let config = place.config();
        let reconciler = mortise::server::reconciler(&config, &store, &former, &seam);
        let keys = open_keys(&store, &master, &seam).await.expect("the keys open");
        let rotations = Rotations::of_command(store.clone(), keys, seam.clone());
        let mut work = store.begin().await.expect("a transaction");
        let actor = Actor::system("test");
        rotations.start(&mut work, Purpose::Vault, None, &actor).await.expect("it begins");
        let _revision = work.commit(seam.clock.now()).await.expect("it is committed");
        let through = rotations.run_through(Purpose::Vault, |rotation| {
            if rotation.reason.is_some() {
                assert!(!is_sqlite, "alone there is nothing to wait for: {rotation:?}");
                seam.clock.advance(Duration::from_secs(90));
            }
        });
        let done = through.await.expect("it comes to its end");
        assert_eq!(done.state, RotationState::Done);
        let after = PassPosition::default();
        let limits = PassLimits { time: None, pause: Duration::ZERO, after };
        let report = reconciler.kept_pass(&actor, limits).await.expect("a report");
        assert_eq!(report.found, 0, "{report:#?}");
        store.close().await.expect("it closes");
        place
    });
    let server = Box::pin(restarted).await;
    assert_eq!(server.installation(&installation.id).await["connection"]["health"], "ok");
    let token = ask(&server, id).await.expect("a token");
    assert!(server.provider.is_live(token.token.expose()));
}
