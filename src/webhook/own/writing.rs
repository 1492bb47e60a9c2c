//! How own webhooks come into being, change and go. Whoever changes one holds the lock of the org's
//! plan; a change is checked against what was read before it, and given up where another came first.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait as _, QueryFilter, QuerySelect as _,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::current::{Current, read_current, shown};
use super::definition::{Definition, FieldFault, Kept, Settings};
use super::granting::erase_grants;
use super::imported::forget_imported;
use super::plan::{self, PlanUse, counted, event_keys};
use super::request::WebhookRequest;
use super::rule_writing::{erase_rules, refuse_unfit_for_rules, refuse_while_in_use};
use super::rules::RuleKind;
use super::secrets::end_former_secrets;
use super::{CREDENTIALS_FIELD, KIND, SECRET_FIELD};
use crate::audit::{self, Actor, Entry};
use crate::crypto::{AssociatedData, CryptoError, Keys, Purpose, SecretText, SigningSecret};
use crate::dialect::Dialect;
use crate::egress::Egress;
use crate::notice::{Board, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::claims;
use crate::store::entity::{
    delivery, endpoint, endpoint_state, org_closure, own_webhook, own_webhook_token,
    own_webhook_token_claim, webhook,
};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};
use crate::webhook::provisioning::drop_waiting;

/// How many deliveries that were held are discarded with the change that says so.
pub(crate) const DISCARDED: u32 = 20_000;

/// The bits that a number of JSON has for whole numbers everywhere.
const ALIAS_BITS: i64 = (1 << 53) - 1;

/// Why an own webhook is not written.
#[derive(Debug, thiserror::Error)]
pub enum OwnRefusal {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Members of the request break their rules.
    #[error("{} members of the webhook break their rules", .0.len())]
    Faults(Vec<FieldFault>),
    /// There is no such webhook.
    #[error("there is no such webhook")]
    Unknown,
    /// What is stored of it cannot be read by this release.
    #[error("what is stored of the webhook cannot be read by this release")]
    Unreadable,
    /// It is another by now.
    #[error("the webhook was changed since it was read")]
    Changed,
    /// The org closes.
    #[error("the org is being closed: nothing new is made in it")]
    Closing,
    /// The plan has no room for another webhook.
    #[error("the plan of the org has room for {limit} webhooks of its own")]
    TooMany {
        /// How many there may be.
        limit: u32,
    },
    /// The plan has no room for another webhook of an event.
    #[error("the plan of the org has room for {limit} webhooks of its own for {event}")]
    TooManyOfEvent {
        /// The event.
        event: String,
        /// How many there may be.
        limit: u32,
    },
    /// Triggers or automations call it.
    #[error("the webhook is in use: {}", named(rules))]
    InUse {
        /// Kind, id and name of each.
        rules: Vec<(String, Uuid, String)>,
    },
    /// Former secrets sign still, as many as may.
    #[error(
        "{limit} former secrets sign beside the present one: wait until one ends, or end them all with \
         overlapSeconds 0"
    )]
    TooManySecrets {
        /// How many there may be.
        limit: u64,
    },
    /// There is no such trigger or automation.
    #[error("there is no such trigger or automation")]
    UnknownRule,
    /// The org has as many as it may.
    #[error("an org has at most {limit} {}s", kind.as_str())]
    TooManyRules {
        /// Of what.
        kind: RuleKind,
        /// How many there may be.
        limit: u64,
    },
    /// The plan does not allow the dialect.
    #[error("the plan of the org does not have the dialect {}", dialect.as_str())]
    Dialect {
        /// The dialect.
        dialect: Dialect,
    },
}

fn named(rules: &[(String, Uuid, String)]) -> String {
    let named: Vec<String> =
        rules.iter().map(|(kind, _, name)| format!("{kind} `{name}`")).collect();
    named.join(", ")
}

impl From<sea_orm::DbErr> for OwnRefusal {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// A webhook that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: Uuid,
    /// What it signs with, where that was made here: told once.
    pub secret: Option<SecretText>,
}

/// A webhook that was changed.
#[derive(Clone, Debug)]
pub struct Updated {
    /// What it signs with from now on, where that was made here: told once.
    pub secret: Option<SecretText>,
}

/// The orgs' own webhooks. Cloning shares it.
#[derive(Clone, Debug)]
pub struct OwnWebhooks {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) egress: Egress,
    pub(super) board: Board,
    pub(super) seam: Seam,
}

impl OwnWebhooks {
    /// Puts the parts together.
    pub fn new(store: Store, keys: Keys, egress: Egress, board: Board, seam: Seam) -> Self {
        Self { store, keys, egress, board, seam }
    }

    /// Reads a webhook to change it.
    pub async fn current(&self, id: Uuid) -> Result<Current, OwnRefusal> {
        read_current(self.store.reader(), id).await
    }

    /// Checks a request for a new webhook of an org.
    pub async fn check(
        &self,
        org_id: &str,
        request: WebhookRequest,
    ) -> Result<Definition, OwnRefusal> {
        let door = self.door(org_id).await?;
        request.check(&door, None).map_err(OwnRefusal::Faults)
    }

    /// Checks a request for a webhook that is there.
    pub async fn check_change(
        &self,
        org_id: &str,
        request: WebhookRequest,
        kept: &Kept,
    ) -> Result<Definition, OwnRefusal> {
        let door = self.door(org_id).await?;
        request.check(&door, Some(kept)).map_err(OwnRefusal::Faults)
    }

    /// Makes a webhook of an org.
    pub async fn create(
        &self,
        work: &mut UnitOfWork,
        org_id: &str,
        definition: Definition,
        actor: &Actor,
    ) -> Result<Created, OwnRefusal> {
        self.write_new(work, org_id, definition, None, actor).await
    }

    /// Makes a copy of a webhook, as a definition has it: what is secret in the authentication comes
    /// along where the definition brings no other.
    pub async fn copy(
        &self,
        work: &mut UnitOfWork,
        from: &Current,
        definition: Definition,
        actor: &Actor,
    ) -> Result<Created, OwnRefusal> {
        let credentials = match &from.own.sealed_credentials {
            Some(sealed)
                if definition.credentials.is_none()
                    && definition.settings.authentication.is_some() =>
            {
                let place = AssociatedData { subject: from.id(), field: CREDENTIALS_FIELD };
                let opened = self.keys.ring.unseal(Purpose::Vault, &place, sealed)?;
                let text =
                    std::str::from_utf8(opened.expose()).map_err(|_| OwnRefusal::Unreadable)?;
                Some(SecretText::new(text))
            }
            _ => None,
        };
        self.write_new(work, &from.row.org_id, definition, Some((from.id(), credentials)), actor)
            .await
    }

    async fn write_new(
        &self,
        work: &mut UnitOfWork,
        org_id: &str,
        definition: Definition,
        copied: Option<(Uuid, Option<SecretText>)>,
        actor: &Actor,
    ) -> Result<Created, OwnRefusal> {
        let now = self.seam.clock.now();
        let plan = plan::lock(work, org_id, now).await?;
        refuse_while_closing(work, org_id).await?;
        let all = counted(work.connection(), org_id).await?;
        let events = event_keys(definition.dialect.as_str(), definition.names());
        let used = PlanUse::of(&all);
        plan.admits(&used, definition.dialect, &events, None, definition.is_enabled)?;

        let id = self.seam.randomness.id();
        let (secret, made) = self.secret(definition.secret.clone())?;
        let (copied_from, copied_credentials) = copied.unzip();
        let credentials = definition.credentials.clone().or(copied_credentials.flatten());
        let own = own_webhook::Model {
            id,
            alias: self.alias()?,
            connection: definition.connection.as_str().to_owned(),
            while_disabled: definition.while_disabled.as_str().to_owned(),
            settings: settings_text(&definition.settings)?,
            sealed_secret: self.seal(id, SECRET_FIELD, &secret)?,
            sealed_credentials: match &credentials {
                Some(credentials) => Some(self.seal(id, CREDENTIALS_FIELD, credentials)?),
                None => None,
            },
            credentials_expire_at: expiry(&definition.settings),
            expiry_told_at: None,
            disabled_at: (!definition.is_enabled).then(|| now.micros()),
            disabled_reason: None,
        };
        let row = webhook::Model {
            id,
            org_id: org_id.to_owned(),
            kind: KIND.to_owned(),
            installation_id: None,
            extension_key: None,
            resource_name: None,
            generation: 1,
            ignore_source_id: Some(self.source(definition.ignore_source_id.clone())),
            created_by: Some(actor.name.clone()),
            created_at: now.micros(),
            ..written(&definition, now)
        };
        endpoint::Entity::insert(endpoint::ActiveModel {
            id: Set(id),
            org_id: Set(org_id.to_owned()),
            lane: Set("webhook".to_owned()),
            installation_id: Set(None),
            extension_key: Set(None),
            created_at: Set(now.micros()),
        })
        .exec_without_returning(work.connection())
        .await?;
        let active: webhook::ActiveModel = row.clone().into();
        webhook::Entity::insert(active).exec_without_returning(work.connection()).await?;
        let active: own_webhook::ActiveModel = own.clone().into();
        own_webhook::Entity::insert(active).exec_without_returning(work.connection()).await?;
        let detail = json!({
            "after": shown(&row, &own, &definition.settings), "copiedFrom": copied_from,
        });
        self.audit(work, &row, "webhook.create", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(Created { id, secret: made })
    }

    /// Changes a webhook to what a definition says. `seen` is what the definition was made from;
    /// `release` says what becomes of what was held, where the change switches it on.
    pub async fn update(
        &self,
        work: &mut UnitOfWork,
        seen: &Current,
        definition: Definition,
        names_secret: bool,
        release: bool,
        actor: &Actor,
    ) -> Result<Updated, OwnRefusal> {
        let id = seen.id();
        let plan = plan::lock(work, seen.org_id(), self.seam.clock.now()).await?;
        let current = read_current(work.connection(), id).await?;
        if current.row.modified_at != seen.row.modified_at {
            return Err(OwnRefusal::Changed);
        }
        let now = after(&current.row, self.seam.clock.now());
        if definition.dialect.as_str() != current.row.dialect {
            refuse_while_waiting(work, id).await?;
        }
        if definition.settings != current.settings {
            refuse_unfit_for_rules(work.connection(), id, &definition.settings).await?;
        }
        let is_switched_on = definition.is_enabled && current.row.is_enabled == 0;
        let all = counted(work.connection(), seen.org_id()).await?;
        let events = event_keys(definition.dialect.as_str(), definition.names());
        let others = PlanUse::of(all.iter().filter(|one| one.id != id));
        let wanted_subscriptions = definition.subscriptions_json().to_string();
        let is_wider = is_switched_on
            || definition.dialect.as_str() != current.row.dialect
            || wanted_subscriptions != current.row.subscriptions;
        if is_wider {
            let former = all.iter().find(|one| one.id == id);
            let former = former.map_or(&[][..], |one| one.events.as_slice());
            let is_enabled = definition.is_enabled;
            plan.admits(&others, definition.dialect, &events, Some(former), is_enabled)?;
        }

        let mut own = current.own.clone();
        let mut made = None;
        if names_secret {
            let (secret, new) = self.secret(definition.secret.clone())?;
            own.sealed_secret = self.seal(id, SECRET_FIELD, &secret)?;
            made = new;
            end_former_secrets(work.connection(), id).await?;
        }
        if let Some(credentials) = &definition.credentials {
            own.sealed_credentials = Some(self.seal(id, CREDENTIALS_FIELD, credentials)?);
        } else if !definition.settings.authentication.is_some() {
            own.sealed_credentials = None;
        }
        let expires_at = expiry(&definition.settings);
        if expires_at != own.credentials_expire_at || definition.credentials.is_some() {
            own.credentials_expire_at = expires_at;
            own.expiry_told_at = None;
            self.board.resolve(work, &[NoticeKind::CredentialExpiring], &subject_of(id)).await?;
        }
        definition.while_disabled.as_str().clone_into(&mut own.while_disabled);
        own.settings = settings_text(&definition.settings)?;
        match (definition.is_enabled, current.row.is_enabled != 0) {
            (true, false) => {
                own.disabled_at = None;
                own.disabled_reason = None;
            }
            (false, true) => own.disabled_at = Some(now.micros()),
            _ => {}
        }
        let source = self.source(definition.ignore_source_id.clone());
        let row = webhook::Model {
            ignore_source_id: Some(source),
            ..webhook::Model {
                id,
                org_id: current.row.org_id.clone(),
                kind: KIND.to_owned(),
                generation: current.row.generation,
                created_by: current.row.created_by.clone(),
                created_at: current.row.created_at,
                ..written(&definition, now)
            }
        };
        let is_changed = own != current.own
            || webhook::Model { modified_at: current.row.modified_at, ..row.clone() }
                != current.row;
        if !is_changed {
            return Ok(Updated { secret: None });
        }
        replace(work, &row, &own).await?;
        if own.settings != current.own.settings || definition.credentials.is_some() {
            own_webhook_token::Entity::delete_by_id(id).exec(work.connection()).await?;
        }
        if is_switched_on {
            switched_on(&self.store, work, id, release, &self.seam).await?;
            self.board.resolve(work, &[NoticeKind::WebhookOverPlan], &subject_of(id)).await?;
        }
        let action = match (definition.is_enabled, current.row.is_enabled != 0) {
            (true, false) => "webhook.enable",
            (false, true) => "webhook.disable",
            _ => "webhook.update",
        };
        let detail = json!({
            "before": current.shown(),
            "after": shown(&row, &own, &definition.settings),
            "changed": {
                "secret": names_secret,
                "credentials": own.sealed_credentials != current.own.sealed_credentials,
            },
            "release": is_switched_on.then_some(release),
        });
        self.audit(work, &row, action, detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(row.org_id));
        Ok(Updated { secret: made })
    }

    /// Switches a webhook off, whatever else of it is not fit to be written any more.
    pub async fn switch_off_by(
        &self,
        work: &mut UnitOfWork,
        seen: &Current,
        actor: &Actor,
    ) -> Result<Updated, OwnRefusal> {
        let now = self.seam.clock.now();
        let org_id = seen.org_id();
        plan::lock(work, org_id, now).await?;
        let current = read_current(work.connection(), seen.id()).await?;
        if current.row.is_enabled == 0 {
            return Ok(Updated { secret: None });
        }
        self.write_off(work, &current.row, None, now).await?;
        let detail = json!({ "before": { "isEnabled": true }, "after": { "isEnabled": false } });
        self.audit(work, &current.row, "webhook.disable", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(Updated { secret: None })
    }

    pub(super) async fn write_off(
        &self,
        work: &UnitOfWork,
        row: &webhook::Model,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), OwnRefusal> {
        let modified_at = after(row, now).micros();
        webhook::Entity::update_many()
            .col_expr(webhook::Column::IsEnabled, Expr::value(0))
            .col_expr(webhook::Column::ModifiedAt, Expr::value(modified_at))
            .filter(webhook::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        own_webhook::Entity::update_many()
            .col_expr(own_webhook::Column::DisabledAt, Expr::value(Some(now.micros())))
            .col_expr(own_webhook::Column::DisabledReason, Expr::value(reason))
            .filter(own_webhook::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        Ok(())
    }

    /// Removes a webhook with everything that waits for it. Its deliveries stay as history.
    pub async fn remove(
        &self,
        work: &mut UnitOfWork,
        id: Uuid,
        org_id: &str,
        actor: &Actor,
    ) -> Result<(), OwnRefusal> {
        let now = self.seam.clock.now();
        plan::lock(work, org_id, now).await?;
        let current = read_current(work.connection(), id).await?;
        refuse_while_in_use(work.connection(), id).await?;
        erase(&self.store, work, id).await?;
        let kinds = [
            NoticeKind::WebhookFailing,
            NoticeKind::WebhookGone,
            NoticeKind::WebhookDisabled,
            NoticeKind::WebhookOverPlan,
            NoticeKind::CredentialExpiring,
            NoticeKind::ConnectionBroken,
        ];
        self.board.resolve(work, &kinds, &subject_of(id)).await?;
        let detail = json!({ "before": current.shown() });
        self.audit(work, &current.row, "webhook.delete", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(())
    }

    pub(super) async fn audit(
        &self,
        work: &UnitOfWork,
        row: &webhook::Model,
        action: &str,
        detail: Value,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entry =
            Entry { chain: &row.org_id, action, subject: subject_of(row.id), detail: Some(detail) };
        audit::append(work, entry, actor, now, &self.seam.randomness).await
    }

    /// The secret that was given, or a new one; what was made is to be told.
    pub(super) fn secret(
        &self,
        given: Option<SecretText>,
    ) -> Result<(SecretText, Option<SecretText>), OwnRefusal> {
        if let Some(given) = given {
            return Ok((given, None));
        }
        let made = SigningSecret::generate(&self.seam.randomness)?.encode();
        Ok((made.clone(), Some(made)))
    }

    fn source(&self, given: Option<String>) -> String {
        given.unwrap_or_else(|| self.seam.randomness.id().to_string())
    }

    /// A positive number that nobody can guess, of 53 bits: more than that JavaScript rounds.
    fn alias(&self) -> Result<i64, OwnRefusal> {
        let bytes = self.seam.randomness.bytes::<8>().map_err(|_| CryptoError::Randomness)?;
        Ok((i64::from_be_bytes(bytes) & ALIAS_BITS).max(1))
    }

    pub(super) fn seal(
        &self,
        id: Uuid,
        field: &str,
        secret: &SecretText,
    ) -> Result<Vec<u8>, CryptoError> {
        let place = AssociatedData { subject: id, field };
        let text = secret.expose().as_bytes();
        self.keys.ring.seal(Purpose::Vault, &place, text, &self.seam.randomness)
    }
}

/// When a change is made: two in one moment are two, so that the second is told from the first.
pub(super) fn after(row: &webhook::Model, now: Timestamp) -> Timestamp {
    now.max(Timestamp::from_micros(row.modified_at).plus(std::time::Duration::from_millis(1)))
}

/// The webhook with an alias.
pub async fn id_of_alias(store: &Store, alias: i64) -> Result<Option<Uuid>, StoreError> {
    let row = own_webhook::Entity::find()
        .filter(own_webhook::Column::Alias.eq(alias))
        .one(store.reader())
        .await?;
    Ok(row.map(|row| row.id))
}

/// What a webhook's notices and audit rows are filed under.
pub(super) fn subject_of(id: Uuid) -> String {
    format!("webhook:{id}")
}

fn settings_text(settings: &Settings) -> Result<String, OwnRefusal> {
    serde_json::to_string(settings).map_err(|_| OwnRefusal::Unreadable)
}

fn expiry(settings: &Settings) -> Option<i64> {
    settings.authentication.expires_at().map(Timestamp::micros)
}

/// The columns that a definition decides; the others are the caller's.
fn written(definition: &Definition, now: Timestamp) -> webhook::Model {
    webhook::Model {
        id: Uuid::nil(),
        org_id: String::new(),
        kind: String::new(),
        installation_id: None,
        extension_key: None,
        resource_name: None,
        generation: 1,
        name: definition.name.clone(),
        description: definition.description.clone(),
        url: definition.url.clone(),
        subscriptions: definition.subscriptions_json().to_string(),
        ignore_source_id: None,
        include_events_from: definition.automation.then(|| "[\"AUTOMATION\"]".to_owned()),
        is_enabled: i32::from(definition.is_enabled),
        ordered: i32::from(definition.ordered),
        dialect: definition.dialect.as_str().to_owned(),
        created_by: None,
        created_at: 0,
        modified_at: now.micros(),
        delivery: None,
    }
}

/// Writes every column of both rows.
async fn replace(
    work: &UnitOfWork,
    row: &webhook::Model,
    own: &own_webhook::Model,
) -> Result<(), OwnRefusal> {
    use sea_orm::{ActiveModelTrait as _, IntoActiveModel as _};
    row.clone().into_active_model().reset_all().update(work.connection()).await?;
    own.clone().into_active_model().reset_all().update(work.connection()).await?;
    Ok(())
}

pub(super) async fn refuse_while_closing(
    work: &UnitOfWork,
    org_id: &str,
) -> Result<(), OwnRefusal> {
    let closure = org_closure::Entity::find_by_id(org_id).one(work.connection()).await?;
    match closure {
        Some(closure) if closure.finished_at.is_none() => Err(OwnRefusal::Closing),
        _ => Ok(()),
    }
}

/// Refuses another dialect while something waits: it was made of events by the names of this one.
async fn refuse_while_waiting(work: &UnitOfWork, id: Uuid) -> Result<(), OwnRefusal> {
    let waits = delivery::Entity::find()
        .filter(delivery::Column::EndpointId.eq(id))
        .filter(delivery::Column::DueAt.is_not_null())
        .limit(1)
        .count(work.connection())
        .await?;
    if waits == 0 {
        return Ok(());
    }
    let rule = "cannot change while deliveries wait, which tell of events by the names of the present \
                one: wait until they are out, discard them, or make another webhook";
    Err(OwnRefusal::Faults(vec![FieldFault::new("/dialect", rule)]))
}

/// Takes out the rows of a webhook, and cancels what waits for it.
pub(super) async fn erase(store: &Store, work: &UnitOfWork, id: Uuid) -> Result<(), StoreError> {
    drop_waiting(store, work, id).await?;
    // Before the token: who keeps one locks this row.
    own_webhook::Entity::delete_by_id(id).exec(work.connection()).await?;
    own_webhook_token::Entity::delete_by_id(id).exec(work.connection()).await?;
    erase_rules(work.connection(), id).await?;
    forget_imported(work.connection(), [id]).await?;
    erase_grants(work.connection(), id).await?;
    end_former_secrets(work.connection(), id).await?;
    own_webhook_token_claim::Entity::delete_by_id(id).exec(work.connection()).await?;
    webhook::Entity::delete_by_id(id).exec(work.connection()).await?;
    Ok(())
}

/// What is held goes out in order by itself once the webhook is on, or is discarded here.
pub(super) async fn switched_on(
    store: &Store,
    work: &UnitOfWork,
    id: Uuid,
    release: bool,
    seam: &Seam,
) -> Result<(), StoreError> {
    let keeps_before = (!release).then(|| seam.randomness.id());
    // One that was never called has no row yet.
    let state = endpoint_state::ActiveModel {
        endpoint_id: Set(id),
        health: Set("ok".to_owned()),
        breaker_until: Set(None),
        consecutive_failures: Set(0),
        last_success_at: Set(None),
        last_failure_at: Set(None),
        last_error: Set(None),
        updated_at: Set(seam.clock.now().micros()),
        health_since: Set(None),
        reason: Set(None),
        keeps_held_before: Set(keeps_before),
    };
    endpoint_state::Entity::insert(state)
        .on_conflict(
            OnConflict::column(endpoint_state::Column::EndpointId)
                .update_column(endpoint_state::Column::KeepsHeldBefore)
                .to_owned(),
        )
        .exec_without_returning(work.connection())
        .await?;
    if !release {
        claims::discard_held(store, work, id, DISCARDED).await?;
    }
    Ok(())
}
