//! What the API answers: the shapes of the contract, null where nothing is known.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::own_shapes::OwnBody;
use super::state::ApiState;
use super::upgrades::WaitingUpgradeBody;
use crate::delivery::{AttemptView, DeliveryView};
use crate::dialect::Dialect;
use crate::event::{Verdict, WebhookVerdict};
use crate::lifecycle::{ConnectionView, InstallationView, TransitionView, WebhookView};
use crate::manifest::DeliveryWishes;
use crate::seam::Timestamp;
use crate::webhook::{DeliveryBounds, mask_context};

/// RFC 3339 of microseconds in the database.
pub(super) fn moment(micros: Option<i64>) -> Option<String> {
    micros.map(|micros| Timestamp::from_micros(micros).rfc3339())
}

/// A stored document; null where there is none.
pub(super) fn document(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

/// What is in one list and not in another.
fn missing(wanted: &Value, there: &Value) -> Value {
    let there = there.as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
    wanted.iter().filter(|one| !there.contains(one)).cloned().collect()
}

/// An installation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstallationBody {
    /// Its id.
    pub installation_id: Uuid,
    /// The extension.
    pub extension_key: String,
    /// The extension's name.
    pub extension_name: String,
    /// The version that serves.
    pub version: String,
    /// The digest of that version.
    pub digest: String,
    /// The org.
    pub org_id: String,
    /// How many installations of this extension the org has had, this one included.
    pub generation: i32,
    /// `pendingAuthorization`, `active`, `suspended`, `uninstalled` or `erased`.
    pub state: String,
    /// Who holds it suspended: each lifts its own only.
    pub suspended_by: Vec<String>,
    /// The departments whose events it gets; null means all.
    #[schema(value_type = Option<Vec<String>>)]
    pub department_ids: Value,
    /// Its parameters, without the secure ones.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Who installed it.
    pub installed_by: Option<String>,
    /// The scopes that the version declares.
    #[schema(value_type = Vec<String>)]
    pub required_scopes: Value,
    /// The scopes that were granted.
    #[schema(value_type = Option<Vec<String>>)]
    pub granted_scopes: Value,
    /// The connection to the host.
    pub connection: ConnectionBody,
    /// Its connections, those that nobody authorised yet too; never their tokens. In a list the
    /// first 20 of each installation, else the first 500: one of each name before the second of any.
    pub connections: Vec<ConnectionStateBody>,
    /// How many connections were authorised and are kept, those that are not shown too.
    pub connection_count: u64,
    /// Whose installation it is, where the extension is personal.
    pub user_id: Option<String>,
    /// The scopes that are declared and not granted yet; none once it is uninstalled.
    #[schema(value_type = Vec<String>)]
    pub pending_scopes: Value,
    /// How `onInstall`, the vendor's installation handler, went: `pending`, `ok` or `failed`.
    pub vendor_setup: String,
    /// Whether everything that was left to be taken back is: `pending` or `done`.
    pub cleanup: String,
    /// Its webhooks.
    pub webhooks: Vec<WebhookBody>,
    /// The upgrade that waits for consent; the version above serves meanwhile.
    pub waiting_upgrade: Option<WaitingUpgradeBody>,
    /// When another version began to serve last.
    pub upgraded_time: Option<String>,
    /// When it was installed.
    pub created_time: Option<String>,
    /// When it was authorised.
    pub authorized_time: Option<String>,
    /// When it was uninstalled.
    pub uninstalled_time: Option<String>,
    /// When what is kept of it is erased; null while it is installed.
    pub erase_time: Option<String>,
    /// When that was done.
    pub erased_time: Option<String>,
    /// When it changed last.
    pub modified_time: Option<String>,
}

/// How a connection does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectionBody {
    /// `none`, `ok` or `broken`.
    pub health: String,
    /// Why it is broken.
    pub reason: Option<String>,
}

/// A connection: never its tokens.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionStateBody {
    /// `zohoAuthorisation`, or the connector's link name.
    pub name: String,
    /// What administrators see it as.
    pub display_name: Option<String>,
    /// The service that grants.
    pub service: String,
    /// `none` (nobody authorised it yet), `ok` or `broken`.
    pub health: String,
    /// Why it is broken, in words.
    pub reason: Option<String>,
    /// What was granted.
    #[schema(value_type = Option<Vec<String>>)]
    pub scopes: Value,
    /// Who granted it, as the marketplace named him.
    pub granted_by: Option<String>,
    /// Whose it is; null where it is the org's.
    pub user_id: Option<String>,
    /// Whether each user has one of his own.
    pub user_access: bool,
    /// Who made it, as the vendor wrote it in the manifest; nobody checks it.
    pub shared_by: Option<String>,
    /// When it was authorised.
    pub since: Option<String>,
    /// When its present access token ends; it is refreshed before.
    pub expires_at: Option<String>,
}

impl From<ConnectionView> for ConnectionStateBody {
    fn from(view: ConnectionView) -> Self {
        Self {
            name: view.name,
            display_name: view.display_name,
            service: view.service,
            health: view.health,
            reason: view.reason,
            scopes: document(view.scopes.as_deref()),
            granted_by: view.granted_by,
            user_id: view.user_id,
            user_access: view.user_access,
            shared_by: view.shared_by,
            since: view.since.map(Timestamp::rfc3339),
            expires_at: view.expires_at.map(Timestamp::rfc3339),
        }
    }
}

impl From<InstallationView> for InstallationBody {
    fn from(view: InstallationView) -> Self {
        let state = view.state().to_owned();
        let suspended_by = view.suspended_by().into_iter().map(str::to_owned).collect();
        let row = view.row;
        let required = document(Some(&view.version.required_scopes));
        let granted = document(row.granted_scopes.as_deref());
        let pending = if row.live == 1 { missing(&required, &granted) } else { json!([]) };
        Self {
            installation_id: row.id,
            extension_key: row.extension_key,
            extension_name: view.version.name,
            version: view.version.version,
            digest: view.version.digest,
            org_id: row.org_id,
            generation: row.generation,
            state,
            suspended_by,
            department_ids: document(row.department_ids.as_deref()),
            config: document(Some(&row.config)),
            installed_by: row.installed_by,
            required_scopes: required,
            granted_scopes: granted,
            pending_scopes: pending,
            connection: ConnectionBody {
                health: row.connection_health,
                reason: row.connection_reason,
            },
            connection_count: view.connection_count,
            connections: view.connections.into_iter().map(ConnectionStateBody::from).collect(),
            user_id: (!row.user_id.is_empty()).then_some(row.user_id),
            vendor_setup: view.vendor_setup.to_owned(),
            cleanup: row.cleanup,
            webhooks: view.webhooks.into_iter().map(WebhookBody::from).collect(),
            waiting_upgrade: view.waiting_upgrade.map(WaitingUpgradeBody::from),
            upgraded_time: moment(row.upgraded_at),
            created_time: moment(Some(row.created_at)),
            authorized_time: moment(row.authorized_at),
            uninstalled_time: moment(row.uninstalled_at),
            erase_time: moment(row.erase_at),
            erased_time: moment(row.erased_at),
            modified_time: moment(Some(row.updated_at)),
        }
    }
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookBody {
    /// Its id.
    pub id: Uuid,
    /// Its org.
    pub org_id: String,
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The declared address; what would be secret in it is masked.
    pub url: String,
    /// Event types with their options.
    #[schema(value_type = Object)]
    pub subscriptions: Value,
    /// The source whose events it does not get.
    pub ignore_source_id: Option<String>,
    /// `["AUTOMATION"]` where it gets events that automation caused.
    #[schema(value_type = Option<Vec<String>>)]
    pub include_events_from: Value,
    /// Whether it is enabled.
    pub is_enabled: bool,
    /// `CUSTOMER_WEBHOOK` or `EXTENSION_WEBHOOK`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether deliveries go in order of acceptance.
    pub ordered: bool,
    /// Whether only its extension can change it.
    pub locked: bool,
    /// How its endpoint does.
    pub health: HealthBody,
    /// Who made it.
    pub created_by: Option<String>,
    /// When it came into being.
    pub created_time: Option<String>,
    /// When it changed last.
    pub modified_time: Option<String>,
    /// The extension that owns it.
    pub extension: Option<OwnerBody>,
    /// What an org's own webhook has beside an extension's.
    #[serde(flatten)]
    pub own: Option<OwnBody>,
    /// On which terms it is delivered to; only where webhooks are asked for by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<TermsBody>,
    #[serde(skip)]
    wishes: Option<String>,
    #[serde(skip)]
    own_rate: Option<u32>,
}

/// The terms of delivery that are in force for a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TermsBody {
    /// The waits before the second and each later attempt, in seconds; up to a tenth is added.
    pub schedule: Vec<u64>,
    /// How long one attempt may take, in seconds.
    pub deadline_seconds: u64,
    /// The most requests under way at a time, on each node.
    pub concurrency: usize,
    /// The most deliveries that begin in a minute; null where there is no such limit.
    pub rate_per_minute: Option<u32>,
    /// What the package asks for (`mortise.delivery`); null where it asks for nothing.
    #[schema(value_type = Option<Object>)]
    pub requested: Value,
    /// Which of it lies outside of the operator's bounds and was brought to the nearest one.
    pub clamped: Vec<&'static str>,
}

impl WebhookBody {
    /// The same with what only a running server knows: the terms in force, and whether this release
    /// can read the webhook.
    pub(super) fn complete(mut self, state: &ApiState) -> Self {
        let bounds = DeliveryBounds::of(&state.config().delivery);
        let wishes: Option<DeliveryWishes> =
            self.wishes.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let own_dialect = self.own.as_ref().and_then(|own| Dialect::from_name(&own.dialect));
        let terms = match own_dialect {
            Some(dialect) => {
                bounds.own_terms(dialect, &Arc::from(self.org_id.as_str()), self.own_rate)
            }
            None => bounds.terms(wishes.as_ref()),
        };
        self.delivery = Some(TermsBody {
            schedule: terms.pauses.iter().map(std::time::Duration::as_secs).collect(),
            deadline_seconds: terms.deadline.as_secs(),
            concurrency: terms.concurrency,
            rate_per_minute: terms.rate_per_minute,
            requested: document(self.wishes.as_deref()),
            clamped: terms.clamped,
        });
        let endpoint =
            state.services().ok().and_then(|services| services.routing.endpoint(self.id));
        if let Some(what) = endpoint.and_then(|endpoint| endpoint.unreadable) {
            "unreadable".clone_into(&mut self.health.state);
            self.health.reason = Some(format!(
                "This node cannot read its {what}, as when a later release wrote it: deliveries are \
                 made and held until a node can."
            ));
        }
        self
    }
}

/// How a webhook's endpoint does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthBody {
    /// `ok`, `paused` (failures in a row; it goes on by itself), `failing`, `disabled`, `gone`, or
    /// `unreadable` where this node is too old for the webhook.
    pub state: String,
    /// Since when; null where it was never otherwise.
    pub since: Option<String>,
    /// Why, in words; null where all is well.
    pub reason: Option<String>,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// When it last took a delivery; up to some seconds late.
    pub last_success_at: Option<String>,
    /// When it last did not; up to some seconds late.
    pub last_failure_at: Option<String>,
    /// How many attempts failed since the last success.
    pub consecutive_failures: i32,
    /// Until when deliveries pause after failures in a row.
    pub paused_until: Option<String>,
}

impl HealthBody {
    fn of(view: &WebhookView) -> Self {
        let state = view.state.as_ref();
        let is_off = view.row.is_enabled == 0;
        let why_off = view.own.as_ref().and_then(|own| own.disabled_reason.clone());
        let paused_until = state.and_then(|state| state.breaker_until);
        let (name, reason) = if is_off {
            ("disabled", why_off.or_else(|| Some("Switched off by its owner.".to_owned())))
        } else if view.health == "ok" && paused_until.is_some() {
            let why = "Several attempts in a row failed: deliveries wait and go on by themselves \
                       after a probe.";
            ("paused", Some(why.to_owned()))
        } else {
            (view.health.as_str(), state.and_then(|state| state.reason.clone()))
        };
        let since = state.and_then(|state| state.health_since).filter(|_| !is_off);
        Self {
            state: name.to_owned(),
            since: moment(since),
            reason,
            last_error: state.and_then(|state| state.last_error.clone()),
            last_success_at: moment(state.and_then(|state| state.last_success_at)),
            last_failure_at: moment(state.and_then(|state| state.last_failure_at)),
            consecutive_failures: state.map_or(0, |state| state.consecutive_failures),
            paused_until: moment(paused_until),
        }
    }
}

/// The extension that owns a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnerBody {
    /// Its key.
    pub extension_key: String,
    /// Its name.
    pub extension_name: Option<String>,
    /// The version that serves.
    pub version: Option<String>,
    /// The installation.
    pub installation_id: Option<Uuid>,
    /// The same, under the reference's name.
    pub uu_id: Option<Uuid>,
}

impl From<WebhookView> for WebhookBody {
    fn from(view: WebhookView) -> Self {
        let health = HealthBody::of(&view);
        let own = view.own.as_ref().map(|own| OwnBody::new(&view, own));
        let row = view.row;
        let is_extension = row.kind == "extension";
        // An own webhook's address is shown as it was written, placeholders and all.
        let url = match url::Url::parse(&row.url) {
            Ok(url) if is_extension => mask_context(&url),
            _ => row.url,
        };
        Self {
            id: row.id,
            org_id: row.org_id,
            name: row.name,
            description: row.description,
            url,
            subscriptions: document(Some(&row.subscriptions)),
            ignore_source_id: row.ignore_source_id,
            include_events_from: document(row.include_events_from.as_deref()),
            is_enabled: row.is_enabled != 0,
            kind: if is_extension { "EXTENSION_WEBHOOK" } else { "CUSTOMER_WEBHOOK" }.to_owned(),
            ordered: row.ordered != 0,
            locked: is_extension,
            health,
            created_by: row.created_by,
            created_time: moment(Some(row.created_at)),
            modified_time: moment(Some(row.modified_at)),
            extension: row.extension_key.map(|extension_key| OwnerBody {
                extension_key,
                extension_name: view.extension_name,
                version: view.version,
                installation_id: row.installation_id,
                uu_id: row.installation_id,
            }),
            own,
            delivery: None,
            wishes: row.delivery,
            own_rate: view.rate_per_minute,
        }
    }
}

/// A step in the life of an installation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransitionBody {
    /// When.
    pub at: Option<String>,
    /// Who; for a vendor only the role of those who are not its own.
    pub actor: String,
    /// Where the request came from; null for a vendor.
    pub address: Option<String>,
    /// What was asked.
    pub command: String,
    /// The state before; null at the beginning.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// The generation.
    pub generation: i32,
    /// Why.
    pub reason: Option<String>,
}

impl From<TransitionView> for TransitionBody {
    fn from(view: TransitionView) -> Self {
        let row = view.row;
        Self {
            at: moment(Some(row.at)),
            actor: row.actor,
            address: row.address,
            command: row.command,
            from: row.from_state,
            to: row.to_state,
            generation: row.generation,
            reason: row.reason,
        }
    }
}

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryBody {
    /// Its id: the `webhook-id` that it is sent with.
    pub id: Uuid,
    /// The event: the caller's id, or ours.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// What the webhook's dialect calls it, where it has names of its own; or the trigger or
    /// automation that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_name: Option<String>,
    /// Of one that was cancelled before anybody tried it: why the trigger or automation did not fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The webhook.
    pub webhook_id: Uuid,
    /// The org.
    pub org_id: String,
    /// The installation that owns the webhook.
    pub installation_id: Option<Uuid>,
    /// The extension that owns the webhook.
    pub extension_key: Option<String>,
    /// `pending`, `held`, `delivered`, `failed` or `cancelled`.
    pub state: String,
    /// When it is tried next.
    pub next_attempt_time: Option<String>,
    /// When it was made.
    pub created_time: String,
    /// How many attempts were made.
    pub attempts_made: i32,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptBody>,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttemptBody {
    /// Its number, from 1.
    pub number: i32,
    /// When it began.
    pub time: String,
    /// The status of the answer.
    pub status: Option<i32>,
    /// The class of the error; null on success.
    pub error: Option<String>,
    /// What was seen, in words.
    pub message: Option<String>,
    /// What usually lies behind it.
    pub hint: Option<String>,
    /// Whether somebody had it sent again: it carried `X-Mortise-Replay: true`.
    pub replay: bool,
    /// Placeholders that had no value in this request.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Vec<String>>)]
    pub empty_placeholders: Value,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// How long each phase took, in microseconds.
    #[schema(value_type = Object)]
    pub phases: Value,
    /// What was connected to.
    pub address: Option<String>,
    /// The answer.
    #[schema(value_type = Object)]
    pub response: Value,
}

impl From<AttemptView> for AttemptBody {
    fn from(view: AttemptView) -> Self {
        let text = |name: &str| view.detail.get(name).and_then(Value::as_str).map(str::to_owned);
        let part = |name: &str| view.detail.get(name).cloned();
        // Milliseconds with three places: far below what a double can hold.
        #[expect(clippy::cast_precision_loss, reason = "a duration of hours still fits exactly")]
        let duration_ms = view.micros as f64 / 1_000.0;
        Self {
            number: view.number,
            time: view.at.rfc3339(),
            status: view.status,
            error: view.error,
            message: text("message"),
            hint: text("hint"),
            replay: view.detail.get("replay").and_then(Value::as_bool).unwrap_or(false),
            empty_placeholders: part("emptyPlaceholders").unwrap_or_default(),
            duration_ms,
            phases: part("phases").unwrap_or_else(|| json!({})),
            address: text("address"),
            response: json!({
                "headers": part("headers").unwrap_or_else(|| json!([])),
                "body": text("body"),
                "truncated": view.detail.get("truncated").and_then(Value::as_bool).unwrap_or(false),
            }),
        }
    }
}

/// The id of an event as callers know it: keys that we derived are ours alone.
pub(super) fn public_event_id(key: Option<&str>, id: Uuid) -> String {
    key.filter(|key| !key.starts_with('\u{1}')).map_or_else(|| id.to_string(), str::to_owned)
}

impl From<DeliveryView> for DeliveryBody {
    fn from(view: DeliveryView) -> Self {
        Self {
            id: view.id,
            event_id: public_event_id(view.event_key.as_deref(), view.event_id),
            event_type: view.event_type,
            event_name: view.variant,
            reason: view.reason,
            webhook_id: view.webhook_id,
            org_id: view.org_id,
            installation_id: view.installation_id,
            extension_key: view.extension_key,
            state: view.state.name().to_owned(),
            next_attempt_time: view.next_attempt_at.map(Timestamp::rfc3339),
            created_time: view.created_at.rfc3339(),
            attempts_made: view.attempts_made,
            attempts: view.attempts.into_iter().map(AttemptBody::from).collect(),
        }
    }
}

/// Whether an event goes to a webhook, and if not why.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VerdictBody {
    /// The webhook.
    pub webhook_id: Uuid,
    /// The extension that owns it.
    pub extension_key: Option<String>,
    /// Whether it matched.
    pub matched: bool,
    /// The first rule that refused.
    pub rule: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// The delivery that it made.
    pub delivery: Option<DeliveryBody>,
}

impl From<WebhookVerdict> for VerdictBody {
    fn from(verdict: WebhookVerdict) -> Self {
        let (matched, rule, reason) = match verdict.verdict {
            Verdict::Matched => (true, None, None),
            Verdict::Refused { rule, reason } => (false, Some(rule.to_owned()), Some(reason)),
        };
        Self {
            webhook_id: verdict.webhook_id,
            extension_key: verdict.extension_key,
            matched,
            rule,
            reason,
            delivery: verdict.delivery.map(DeliveryBody::from),
        }
    }
}
