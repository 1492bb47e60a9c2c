//! The program dies in an upgrade: at once, by consent, or by an authorisation whose tokens take the
//! place of the old ones. After a restart either version serves wholly, nothing is left over, and the
//! call can be repeated.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::lifecycle::nothing_is_left;
use crate::support::client::Answer;
use crate::support::ground::Ground;
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::program::Program;
use crate::support::server::Backend;

on_both!(
    killed_in_an_upgrade_either_version_serves,
    killed_in_a_consent_either_version_serves,
    killed_in_an_authorisation_of_an_upgrade_either_version_serves,
);

/// How the next version comes to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It asks for no more.
    AtOnce,
    /// It asks for another event, and somebody agrees.
    Consent,
    /// It asks for another scope, and the host grants it.
    Authorize,
}

impl Way {
    fn version(self) -> &'static str {
        match self {
            Self::AtOnce => "2.0.0",
            Self::Consent => "3.0.0",
            Self::Authorize => "4.0.0",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::AtOnce => "/api/v1/callbacks/upgrade",
            Self::Consent => "/api/v1/callbacks/consent",
            Self::Authorize => "/api/v1/callbacks/authorize",
        }
    }
}

/// How long the program may take to die.
const DYING: Duration = Duration::from_secs(20);

/// A call on its way.
struct Call {
    way: Way,
    org: String,
    id: String,
    body: Value,
}

async fn publish(ground: &Ground, program: &Program) {
    for way in [Way::AtOnce, Way::Consent, Way::Authorize] {
        let package = Package::new(&ground.vendor.url("")).version(way.version()).with(|package| {
            package.resources["webhook"]["name"] = way.version().into();
            let subscriptions = &mut package.resources["webhook"]["subscriptions"];
            match way {
                Way::AtOnce => {}
                Way::Consent => subscriptions["Ticket_Delete"] = Value::Null,
                Way::Authorize => {
                    package.manifest["zohoAuthorisation"]["scope"] =
                        json!(["Desk.events.ALL", "Desk.tickets.READ", "Desk.contacts.READ"]);
                }
            }
        });
        let path = "/api/v1/extensions";
        program.client.post(path, &ground.operator, &package.json()).await.expect(201);
    }
}

/// Installs the first version and brings the upgrade to where its step begins.
async fn prepare(ground: &Ground, program: &Program, way: Way, org: String) -> Call {
    let install = json!({ "extensionKey": "ticket-mirror", "version": "1.0.0", "orgId": org,
        "config": { "mirrorToken": "a secret of the org" } });
    let made = ground.call(program, "install", &install).await;
    let id = made["installationId"].as_str().expect("an id").to_owned();
    ground.authorize(program, &id, made["authorizationUrl"].as_str().expect("a URL")).await;
    let upgrade = json!({ "installationId": id, "version": way.version() });
    let body = match way {
        Way::AtOnce => upgrade,
        Way::Consent => {
            let waits = ground.call(program, "upgrade", &upgrade).await;
            assert_eq!(waits["consentRequired"], true, "{waits}");
            json!({ "installationId": id, "consentId": waits["consentId"],
                "digest": waits["digest"], "grantedBy": "user-7" })
        }
        Way::Authorize => {
            let waits = ground.call(program, "upgrade", &upgrade).await;
            assert_eq!(waits["authorizationRequired"], true, "{waits}");
            let url = waits["authorizationUrl"].as_str().expect("a URL");
            let answer = ground.consent(url).await;
            json!({ "installationId": id, "code": answer.code, "state": answer.state })
        }
    };
    Call { way, org, id, body }
}

impl Call {
    async fn attempt(&self, ground: &Ground, program: &Program) -> Option<Answer> {
        let request = program
            .client
            .request(Method::POST, self.way.path(), &ground.operator)
            .header("Idempotency-Key", format!("key-{}", self.org))
            .json(&self.body);
        program.client.try_send(request).await.ok()
    }

    /// Which version serves, with all that belongs to it and nothing of the other.
    async fn stands(&self, ground: &Ground, program: &Program, is_done: bool, what: &str) {
        let seen = ground.installation(program, &self.id).await;
        let version = if is_done { self.way.version() } else { "1.0.0" };
        assert_eq!(
            (&seen["state"], &seen["version"]),
            (&json!("active"), &json!(version)),
            "{what}"
        );
        let hooks = seen["webhooks"].as_array().expect("webhooks");
        assert_eq!(hooks.len(), 1, "{what}: {hooks:?}");
        let name = if is_done { version } else { "Ticket Mirror" };
        assert_eq!(hooks[0]["name"], name, "{what}");
        let waits = !is_done && self.way != Way::AtOnce;
        assert_eq!(seen["waitingUpgrade"].is_null(), !waits, "{what}: {seen:#}");
        let id = ground.sql_id(&self.id);
        for (table, wanted) in [
            ("connections", 1),
            ("webhooks", 1),
            ("provisioned_webhooks", 1),
            ("token_exchanges", 0),
            ("revocations", 0),
        ] {
            let of = format!("{table} where installation_id = {id}");
            assert_eq!(ground.number(&of).await, wanted, "{table}: {what}");
        }
        let waiting = format!("upgrades where installation_id = {id} and waiting is not null");
        assert_eq!(ground.number(&waiting).await, i64::from(waits), "{what}");
        let granted = seen["grantedScopes"].to_string();
        let is_wider = is_done && self.way == Way::Authorize;
        assert_eq!(granted.contains("Desk.contacts.READ"), is_wider, "{what}: {granted}");
    }

    /// The marketplace repeats its call, or begins the authorisation anew, and gets there.
    async fn repeat(&self, ground: &Ground, program: &Program, what: &str) {
        let answer = self.attempt(ground, program).await.expect("an answer");
        if self.way == Way::Authorize && answer.status == 422 {
            // A code works once.
            let upgrade = json!({ "installationId": self.id, "version": self.way.version() });
            let waits = ground.call(program, "upgrade", &upgrade).await;
            let url = waits["authorizationUrl"].as_str().expect("a fresh address");
            ground.authorize(program, &self.id, url).await;
        } else {
            assert_eq!(answer.status, 200, "{what}: {}", answer.text);
        }
    }
}

async fn campaign(backend: Backend, way: Way, points: &[(&str, bool)]) {
    let ground = Ground::new(backend, |_| {}).await;
    let mut program = ground.launch().await;
    publish(&ground, &program).await;
    for (number, (point, is_done)) in points.iter().enumerate() {
        let what = format!("{point} in {way:?}");
        let call = prepare(&ground, &program, way, format!("{number}")).await;
        program.terminate(DYING).await;
        let armed = Program::start_armed(&ground.settings, ground.address, Some(point)).await;
        let _answered = call.attempt(&ground, &armed).await;
        let ended = armed.ended(DYING).await;
        assert!(!ended.success(), "{what}: it did not die: {ended}");
        program = ground.launch().await;
        nothing_is_left(&ground, &program, &what).await;
        call.stands(&ground, &program, *is_done, &what).await;
        call.repeat(&ground, &program, &what).await;
        let what = format!("{what}, repeated");
        nothing_is_left(&ground, &program, &what).await;
        call.stands(&ground, &program, true, &what).await;
        let body = json!({ "installationId": call.id });
        ground.call(&program, "uninstall", &body).await;
        nothing_is_left(&ground, &program, &format!("{what}, uninstalled")).await;
    }
    program.terminate(DYING).await;
    for table in ["webhooks", "connections", "provisioned_webhooks"] {
        assert_eq!(ground.number(table).await, 0, "{table}");
    }
    let secrets = "upgrades where waiting is not null or sealed_config is not null";
    assert_eq!(ground.number(secrets).await, 0);
    assert_eq!(ground.number("installations where sealed_config is not null").await, 0);
    let orgs: Vec<String> = (0..points.len()).map(|number| number.to_string()).collect();
    let orgs: Vec<&str> = orgs.iter().map(String::as_str).collect();
    ground.place.audit_holds(&orgs).await;
}

async fn killed_in_an_upgrade_either_version_serves(backend: Backend) {
    let points = [
        ("upgrade.before-apply", false),
        ("lifecycle.before-commit", false),
        ("lifecycle.after-commit", true),
        ("upgrade.after-commit", true),
    ];
    Box::pin(campaign(backend, Way::AtOnce, &points)).await;
}

async fn killed_in_a_consent_either_version_serves(backend: Backend) {
    let points = [
        ("upgrade.before-apply", false),
        ("consent.applied", false),
        ("lifecycle.before-commit", false),
        ("lifecycle.after-commit", true),
        ("upgrade.after-commit", true),
    ];
    Box::pin(campaign(backend, Way::Consent, &points)).await;
}

async fn killed_in_an_authorisation_of_an_upgrade_either_version_serves(backend: Backend) {
    let points = [
        ("authorize.before-exchange", false),
        ("authorize.after-exchange", false),
        ("upgrade.before-apply", false),
        ("consent.applied", false),
        ("consent.tokens-replaced", false),
        ("lifecycle.before-commit", false),
        ("lifecycle.after-commit", true),
    ];
    Box::pin(campaign(backend, Way::Authorize, &points)).await;
}
