//! Upgrades whose waiting is over: those that cannot be ended hold no other.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::server::{Backend, TestServer, eventually};

on_both!(those_that_cannot_be_ended_hold_no_other);

/// One more than a round looks at at a time.
const STUCK: usize = 51;

async fn those_that_cannot_be_ended_hold_no_other(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let mut all = Vec::new();
    for number in 0..=STUCK {
        let made = server.install("ticket-mirror", &format!("org-{number}")).await;
        let answer = server.consent(&made.authorization_url).await;
        server.authorize(&made.id, &answer).await.expect(200);
        all.push(made.id);
    }
    let before = server.seam.clock.now().plus(Duration::from_hours(2)).rfc3339();
    let second = server.package().version("2.0.0").with(|package| {
        package.manifest["updateBefore"] = json!(before);
        package.resources["webhook"]["subscriptions"]["Ticket_Delete"] = Value::Null;
    });
    server.publish(&second).await.expect(201);
    for id in &all {
        let body = json!({ "installationId": id, "version": "2.0.0" });
        let waits = server.callback("upgrade", &body).await.expect(200);
        assert_eq!(waits.json["consentRequired"], true, "{}", waits.text);
    }
    let last = all.last().expect("there are some").clone();
    let of_last =
        if is_sqlite { format!("x'{}'", last.replace('-', "")) } else { format!("'{last}'::uuid") };
    // All but the last one stand in the way, and are due before it.
    let sooner = "update upgrades set deadline = deadline - 1000000 where installation_id <> ";
    server.execute(&format!("{sooner}{of_last}")).await;
    let (function, guard) = if is_sqlite {
        (
            None,
            format!(
                "create trigger stuck before update of waiting_upgrade_id on installations
                 when old.id <> {of_last} begin select raise(abort, 'it waits'); end"
            ),
        )
    } else {
        (
            Some(
                "create function stuck() returns trigger language plpgsql as $$
                 begin raise exception 'it waits'; end $$",
            ),
            format!(
                "create trigger stuck before update of waiting_upgrade_id on installations
                 for each row when (old.id <> {of_last}) execute function stuck()"
            ),
        )
    };
    if let Some(function) = function {
        server.execute(function).await;
    }
    server.execute(&guard).await;
    server.advance(Duration::from_hours(3));
    eventually("the waiting of the last one ends", async || {
        server.installation(&last).await["waitingUpgrade"].is_null().then_some(())
    })
    .await;
    let waiting = server.texts("select 'x' from upgrades where waiting is not null").await;
    assert_eq!(waiting.len(), STUCK, "the others wait on");
}
