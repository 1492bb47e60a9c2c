//! The program dies at every crash point of every step of an installation. After a restart the
//! installation is fully there or cleanly not, nothing is left over, and the step can be repeated.
//!
//! A crash point of another step is one row of [`ROWS`], and a step that is not here yet one arm of
//! [`Campaign::attempt`].

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::ground::Ground;
use crate::support::on_both;
use crate::support::program::Program;
use crate::support::server::{Backend, eventually};

on_both!(
    killed_in_an_authorisation_it_is_whole_or_not_there,
    killed_while_tokens_are_revoked_none_is_left,
    killed_in_a_connection_it_works_again,
    killed_in_another_step_it_is_whole_or_not_there,
    killed_in_an_erasure_it_counts_each_row_once,
);

/// What the marketplace, or somebody else, does when the program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Install,
    Authorize,
    /// With a consent that is too small: its tokens are discarded.
    AuthorizeTooLittle,
    Configure,
    /// The connection is authorised again.
    Reauthorize,
    /// The connection's token is refreshed, by the loop.
    Refresh,
    Uninstall,
    /// The operator has a lost webhook put back.
    Reconcile,
}

/// How the installation stands after the restart, before anything is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Nothing has happened: the state of before the step.
    Before,
    /// The step is done.
    Done,
}

use After::{Before, Done};

/// Each crash point with the step that it is in, and how things stand after it.
const ROWS: &[(&str, Step, After)] = &[
    ("lifecycle.before-commit", Step::Install, Before),
    ("lifecycle.after-commit", Step::Install, Done),
    ("authorize.before-exchange", Step::Authorize, Before),
    ("authorize.after-exchange", Step::Authorize, Before),
    ("lifecycle.before-commit", Step::Authorize, Before),
    ("lifecycle.after-commit", Step::Authorize, Done),
    ("authorize.after-exchange", Step::AuthorizeTooLittle, Before),
    ("lifecycle.before-commit", Step::AuthorizeTooLittle, Before),
    ("lifecycle.after-commit", Step::AuthorizeTooLittle, Before),
    ("lifecycle.before-commit", Step::Configure, Before),
    ("lifecycle.after-commit", Step::Configure, Done),
    ("connect.after-exchange", Step::Reauthorize, Before),
    ("lifecycle.before-commit", Step::Reauthorize, Before),
    ("lifecycle.after-commit", Step::Reauthorize, Done),
    ("connection.before-refresh", Step::Refresh, Before),
    ("connection.after-refresh-call", Step::Refresh, Before),
    ("connection.after-commit", Step::Refresh, Done),
    ("lifecycle.before-commit", Step::Uninstall, Before),
    ("lifecycle.after-commit", Step::Uninstall, Done),
    ("uninstall.after-commit", Step::Uninstall, Done),
    ("revocation.before-call", Step::Uninstall, Done),
    ("revocation.after-call", Step::Uninstall, Done),
    ("revocation.before-commit", Step::Uninstall, Done),
    ("revocation.after-commit", Step::Uninstall, Done),
    ("reconcile.before-commit", Step::Reconcile, Before),
    ("reconcile.after-commit", Step::Reconcile, Done),
];

/// How long the program may take to die.
const DYING: Duration = Duration::from_secs(20);

/// One row on its way: the org and what was prepared in it.
struct Campaign<'g> {
    ground: &'g Ground,
    step: Step,
    org: String,
    /// The installation, where there is one before the step.
    id: Option<String>,
    webhook: Option<String>,
    /// The call, the same each time, with its key.
    path: &'static str,
    body: Value,
    key: String,
}

impl<'g> Campaign<'g> {
    /// Brings an org to where the step begins.
    async fn prepare(ground: &'g Ground, program: &Program, step: Step, org: String) -> Self {
        let install = json!({ "extensionKey": "ticket-mirror", "orgId": org,
            "config": { "mirrorToken": "a secret of the org" } });
        let (mut id, mut webhook) = (None, None);
        let (path, body) = match step {
            Step::Install => ("/api/v1/callbacks/install", install),
            Step::Authorize | Step::AuthorizeTooLittle => {
                let made = ground.call(program, "install", &install).await;
                ground.provider.conduct(|conduct| {
                    conduct.grant_only = (step == Step::AuthorizeTooLittle)
                        .then(|| vec!["Desk.tickets.READ".to_owned()]);
                });
                let url = made["authorizationUrl"].as_str().expect("a URL");
                let answer = ground.consent(url).await;
                let made = made["installationId"].as_str().expect("an id").to_owned();
                let body =
                    json!({ "installationId": made, "code": answer.code, "state": answer.state });
                id = Some(made);
                ("/api/v1/callbacks/authorize", body)
            }
            Step::Configure
            | Step::Reauthorize
            | Step::Refresh
            | Step::Uninstall
            | Step::Reconcile => {
                let made = ground.active(program, &org).await;
                let seen = ground.installation(program, &made).await;
                webhook = seen["webhooks"][0]["id"].as_str().map(str::to_owned);
                id = Some(made.clone());
                match step {
                    Step::Configure => (
                        "/api/v1/callbacks/configure",
                        json!({ "installationId": made, "departmentIds": ["7"] }),
                    ),
                    Step::Reauthorize => {
                        let begun = json!({ "installationId": made });
                        let begun = ground.call(program, "reauthorize", &begun).await;
                        let url = begun["authorizationUrl"].as_str().expect("a URL");
                        let answer = ground.consent(url).await;
                        let body = json!({ "installationId": made, "code": answer.code,
                            "state": answer.state });
                        ("/api/v1/callbacks/authorize", body)
                    }
                    // Nobody calls: see `arm`.
                    Step::Refresh => {
                        ground.provider.conduct(|conduct| conduct.resilient_refresh = true);
                        ("/health/live", Value::Null)
                    }
                    Step::Uninstall => {
                        ("/api/v1/callbacks/uninstall", json!({ "installationId": made }))
                    }
                    _ => {
                        let lost = webhook.as_deref().expect("a webhook");
                        let delete =
                            format!("delete from webhooks where id = {}", ground.sql_id(lost));
                        ground.place.execute(&delete).await;
                        ("/api/v1/reconcile", json!({ "repair": true }))
                    }
                }
            }
        };
        let key = format!("key-{org}");
        Self { ground, step, org, id, webhook, path, body, key }
    }

    /// What makes a program die by itself.
    async fn arm(&self) {
        if self.step == Step::Refresh {
            let id = self.ground.sql_id(self.id.as_deref().expect("it is installed"));
            let due =
                format!("update connections set refresh_due_at = 0 where installation_id = {id}");
            self.ground.place.execute(&due).await;
        }
    }

    /// Takes the step, at a program that may die of it.
    async fn attempt(&self, program: &Program) -> Option<crate::support::client::Answer> {
        if self.step == Step::Refresh {
            return None;
        }
        let request = program
            .client
            .request(Method::POST, self.path, &self.ground.operator)
            .header("Idempotency-Key", &self.key)
            .json(&self.body);
        program.client.try_send(request).await.ok()
    }

    /// The one installation of the org, where there is one.
    async fn found(&self, program: &Program) -> Option<Value> {
        let path = format!("/api/v1/installations?orgId={}", self.org);
        let mut all = program.client.all(&path, &self.ground.operator).await;
        assert!(all.len() <= 1, "{}: {all:?}", self.org);
        all.pop()
    }

    /// How it stands after the restart: the state, and the rows that belong to it.
    async fn stands(&self, program: &Program, after: After, point: &str) {
        let what = format!("{point} in {:?}", self.step);
        let found = self.found(program).await;
        let state = found.as_ref().and_then(|row| row["state"].as_str()).unwrap_or("none");
        let wanted = match (self.step, after) {
            (Step::Install, Before) => "none",
            (Step::Install, Done) | (Step::Authorize, Before) | (Step::AuthorizeTooLittle, _) => {
                "pendingAuthorization"
            }
            (Step::Uninstall, Done) => "uninstalled",
            _ => "active",
        };
        assert_eq!(state, wanted, "{what}");
        let Some(found) = found else { return };
        let is_active = wanted == "active";
        let lacks_webhook = self.step == Step::Reconcile && after == Before;
        let webhooks = usize::from(is_active && !lacks_webhook);
        assert_eq!(found["webhooks"].as_array().map(Vec::len), Some(webhooks), "{what}");
        let id = self.ground.sql_id(found["installationId"].as_str().expect("an id"));
        let of = |table: &str| format!("{table} where installation_id = {id}");
        let ground = self.ground;
        assert_eq!(ground.number(&of("connections")).await, i64::from(is_active), "{what}");
        let secrets = format!("installations where id = {id} and sealed_config is not null");
        let keeps = i64::from(wanted != "uninstalled");
        assert_eq!(ground.number(&secrets).await, keeps, "{what}");
        if self.step == Step::Configure {
            let departments = &found["departmentIds"];
            let wanted = if after == Done { json!(["7"]) } else { Value::Null };
            assert_eq!(*departments, wanted, "{what}");
        }
        if self.step == Step::Reconcile && after == Done {
            assert_eq!(found["webhooks"][0]["id"].as_str(), self.webhook.as_deref(), "{what}");
        }
    }

    /// The marketplace repeats its call, or begins the authorisation anew, and gets there.
    async fn repeat(&self, program: &Program, point: &str) {
        let what = format!("{point} in {:?}", self.step);
        self.ground.provider.conduct(|conduct| conduct.grant_only = None);
        if self.step == Step::Refresh {
            let id = self.ground.sql_id(self.id.as_deref().expect("it is installed"));
            // On PostgreSQL the claim of a dead process lapses by itself: nobody waits for it here.
            let lapsed = format!(
                "update connections set claimed_until = 0
                 where installation_id = {id} and claimed_until is not null"
            );
            self.ground.place.execute(&lapsed).await;
            let fresh = format!(
                "connections where installation_id = {id} and version > 1 and health = 'ok'
                 and claimed_by is null and refresh_due_at > 0"
            );
            eventually(&format!("the token is refreshed: {what}"), async || {
                (self.ground.number(&fresh).await == 1).then_some(())
            })
            .await;
            return;
        }
        let answer = self.attempt(program).await.expect("an answer");
        if self.step == Step::Reauthorize && answer.status == 422 {
            // A code works once: it is begun anew.
            let id = self.id.as_deref().expect("it is installed");
            let begun = json!({ "installationId": id });
            let begun = self.ground.call(program, "reauthorize", &begun).await;
            let url = begun["authorizationUrl"].as_str().expect("a fresh address");
            self.ground.authorize(program, id, url).await;
            return;
        }
        let is_authorization = matches!(self.step, Step::Authorize | Step::AuthorizeTooLittle);
        if is_authorization && answer.status == 422 {
            // A code works once: the installation that waits is installed again for a fresh address.
            let install = json!({ "extensionKey": "ticket-mirror", "orgId": self.org,
                "config": { "mirrorToken": "a secret of the org" } });
            let fresh = self.ground.call(program, "install", &install).await;
            let id = self.id.as_deref().expect("it is installed");
            assert_eq!(fresh["installationId"], id, "{what}");
            let url = fresh["authorizationUrl"].as_str().expect("a fresh address");
            self.ground.authorize(program, id, url).await;
        } else {
            assert!([200, 201].contains(&answer.status), "{what}: {}", answer.text);
        }
        let found = self.found(program).await.expect("it is there");
        let wanted = match self.step {
            Step::Install => "pendingAuthorization",
            Step::Uninstall => "uninstalled",
            _ => "active",
        };
        assert_eq!(found["state"], wanted, "{what}");
    }
}

/// Nothing is left of anything: no exchange, no token to revoke, and as many live tokens as active
/// installations have.
pub(super) async fn nothing_is_left(ground: &Ground, program: &Program, what: &str) {
    eventually(&format!("nothing is left after {what}"), async || {
        let active = "installations where live = 1 and state = 'active'";
        let tokens = 2 * ground.number(active).await;
        let is_clean = ground.number("token_exchanges").await == 0
            && ground.number("revocations").await == 0
            && ground.number("installations where cleanup = 'pending'").await == 0
            && i64::try_from(ground.provider.live_tokens().len()) == Ok(tokens);
        is_clean.then_some(())
    })
    .await;
    let body = json!({ "repair": false });
    let report = program.client.post("/api/v1/reconcile", &ground.operator, &body).await;
    let report = report.expect(200).json;
    assert_eq!(report["found"], 0, "after {what}: {report:#}");
}

/// The part of the campaign that a row belongs to, so that none takes too long.
fn part(point: &str, step: Step) -> usize {
    match step {
        Step::Authorize | Step::AuthorizeTooLittle => 0,
        _ if point.starts_with("revocation.") => 1,
        Step::Reauthorize | Step::Refresh => 3,
        _ => 2,
    }
}

fn rows(wanted: usize) -> Vec<(&'static str, Step, After)> {
    ROWS.iter().filter(|(point, step, _)| part(point, *step) == wanted).copied().collect()
}

async fn killed_in_an_authorisation_it_is_whole_or_not_there(backend: Backend) {
    Box::pin(campaign(backend, rows(0))).await;
}

async fn killed_while_tokens_are_revoked_none_is_left(backend: Backend) {
    Box::pin(campaign(backend, rows(1))).await;
}

async fn killed_in_another_step_it_is_whole_or_not_there(backend: Backend) {
    Box::pin(campaign(backend, rows(2))).await;
}

async fn killed_in_a_connection_it_works_again(backend: Backend) {
    Box::pin(campaign(backend, rows(3))).await;
}

async fn campaign(backend: Backend, rows: Vec<(&str, Step, After)>) {
    let ground = Ground::new(backend, |_| {}).await;
    let mut program = ground.launch().await;
    for (number, (point, step, after)) in rows.iter().enumerate() {
        let what = format!("{point} in {step:?}");
        let campaign = Campaign::prepare(&ground, &program, *step, format!("{number}")).await;
        program.terminate(DYING).await;
        let armed = Program::start_armed(&ground.settings, ground.address, Some(point)).await;
        // Not before: it may die of it before it is ready.
        campaign.arm().await;
        let _answered = campaign.attempt(&armed).await;
        let ended = armed.ended(DYING).await;
        assert!(!ended.success(), "{what}: it did not die: {ended}");
        program = ground.launch().await;
        campaign.stands(&program, *after, point).await;
        let is_whole = !matches!(step, Step::Reconcile | Step::Refresh);
        if is_whole {
            nothing_is_left(&ground, &program, &what).await;
        }
        campaign.repeat(&program, point).await;
        // An access token whose answer was lost ends by itself, or with its family.
        if *step != Step::Refresh {
            nothing_is_left(&ground, &program, &format!("{what}, repeated")).await;
        }
        // The end of each: uninstalled, it leaves nothing.
        let body = json!({ "extensionKey": "ticket-mirror", "orgId": campaign.org });
        ground.call(&program, "uninstall", &body).await;
        assert_eq!(campaign.found(&program).await.expect("it is kept")["state"], "uninstalled");
        nothing_is_left(&ground, &program, &format!("{what}, uninstalled")).await;
    }
    program.terminate(DYING).await;
    assert_eq!(ground.number("webhooks").await, 0);
    assert_eq!(ground.number("connections").await, 0);
    assert_eq!(ground.number("installations where sealed_config is not null").await, 0);
    assert_eq!(ground.number("provisioned_webhooks").await, 0);
    let orgs: Vec<String> = (0..rows.len()).map(|number| number.to_string()).collect();
    let orgs: Vec<&str> = orgs.iter().map(String::as_str).collect();
    ground.place.audit_holds(&orgs).await;
}

async fn killed_in_an_erasure_it_counts_each_row_once(backend: Backend) {
    let ground = Ground::new(backend, |_| {}).await;
    let program = ground.launch().await;
    let id = ground.active(&program, "1").await;
    eventually("the vendor is told of its beginning", async || {
        let told = ground.vendor.received_at("/callbacks");
        told.iter()
            .any(|one| one.json().is_ok_and(|body| body["event"] == "onZohoAuthorise"))
            .then_some(())
    })
    .await;
    let body = json!({ "installationId": id, "eraseData": true });
    ground.call(&program, "uninstall", &body).await;
    // What the uninstall itself begins comes to its end first: nothing else is under way then.
    eventually("its tokens are revoked, and the vendor is told", async || {
        let told = ground.vendor.received_at("/callbacks");
        let is_told =
            told.iter().any(|one| one.json().is_ok_and(|body| body["event"] == "onUninstall"));
        let waiting = ground.number("revocations").await
            + ground.number("deliveries where due_at is not null or claim is not null").await
            + ground.number("installations where cleanup = 'pending'").await;
        (is_told && waiting == 0).then_some(())
    })
    .await;
    program.terminate(DYING).await;
    // It dies in the stages that count rows which are there: in the history, and in the callbacks.
    let place = "select stage || ' ' || position || ' ' || counts from erasures";
    for stage in ["history", "callbacks"] {
        let to = format!("update erasures set stage = '{stage}', position = ''");
        ground.place.execute(&to).await;
        let armed =
            Program::start_armed(&ground.settings, ground.address, Some("erase.step")).await;
        // Nobody waits for a minute here.
        ground.place.execute("update erasures set next_at = 0").await;
        assert!(!armed.ended(DYING).await.success(), "it dies in {stage}");
        let stands = ground.place.texts(place).await;
        assert_eq!(stands, [format!("{stage}  {{}}")], "its step was not committed");
        ground.place.execute("update erasures set next_at = due_at").await;
    }
    ground.place.execute("update erasures set stage = 'config'").await;

    let program = ground.launch().await;
    let path = format!("/api/v1/installations/{id}/erasure");
    let report = eventually("it is erased", async || {
        let due = "update erasures set next_at = 0 where pending is not null";
        ground.place.execute(due).await;
        let report = program.client.get(&path, &ground.operator).await.expect(200).json;
        (report["state"] == "done").then_some(report)
    })
    .await;
    let told = ground.number("journal").await;
    assert_eq!(report["erased"]["callbacks"]["rows"], told, "each once: {report:#}");
    let history = ground.number("transitions").await;
    let rows = report["erased"]["historyRows"]["rows"].as_i64().expect("a count");
    assert!(rows > 0 && rows <= history, "each once: {report:#}");
    program.terminate(DYING).await;
    ground.place.audit_holds(&["1"]).await;
}
