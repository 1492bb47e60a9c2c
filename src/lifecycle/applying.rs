//! What an upgrade brings, worked out before it is asked for or carried out, and the effects of the
//! state table that concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::error::LifecycleError;
use super::parameters::{self, Parameters};
use super::reconcile;
use super::service::{Lifecycle, Locked, read_package};
use super::state::Settlement;
use crate::audit::Actor;
use crate::crypto::{AssociatedData, Purpose};
use crate::extension_data;
use crate::manifest::{
    CheckedPackage, ExtensionType, Growth, Manifest, Provisioned, ProvisionedWebhook,
    SubscriptionOptions, Upgrade,
};
use crate::notice::{Notice, NoticeKind};
use crate::oauth::{AuthorizationPurpose, DeclaredConnection, HOST_CONNECTION, authorization};
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{connection, extension_version, installation, upgrade, webhook};
use crate::store::{RoutingChange, UnitOfWork};
use crate::webhook::provisioning::{self, NewExtensionWebhook};

/// How many of the things that a version asks for a notice names.
const MOST_NAMED: usize = 10;

/// What an upgrade brings to one installation.
#[derive(Clone)]
pub(super) struct PreparedUpgrade {
    /// The version.
    pub(super) version: extension_version::Model,
    /// Its package.
    pub(super) package: CheckedPackage,
    /// What it changes and what it asks for.
    pub(super) upgrade: Upgrade,
    /// Whether consent must be an authorisation: the host is to grant more.
    pub(super) needs_authorization: bool,
    /// The parameters afterwards.
    parameters: Parameters,
    /// The parameters that came with the upgrade.
    pub(super) given: Map<String, Value>,
    /// The consent that it waits for, where it does.
    pub(super) consent_id: Uuid,
    /// Until when it waits.
    pub(super) deadline: Option<Timestamp>,
    /// The rollout that it belongs to.
    pub(super) rollout_id: Option<Uuid>,
    /// Who agreed, where somebody did.
    pub(super) granted_by: Option<String>,
}

impl fmt::Debug for PreparedUpgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parameters may be secrets.
        formatter
            .debug_struct("PreparedUpgrade")
            .field("version", &self.version.version)
            .field("upgrade", &self.upgrade)
            .field("consent_id", &self.consent_id)
            .finish_non_exhaustive()
    }
}

/// What the notices of an installation's upgrades are filed under.
fn notice_subject(installation_id: Uuid) -> String {
    format!("installation:{installation_id}")
}

fn config_place(consent_id: Uuid) -> AssociatedData<'static> {
    AssociatedData { subject: consent_id, field: "upgrade-config" }
}

/// An installation is the org's or a user's, and no upgrade makes one of the other: its connections
/// and its webhook would be somebody else's.
fn check_type(serving: &Manifest, new: &Manifest, version: &str) -> Result<(), LifecycleError> {
    let is_personal =
        |manifest: &Manifest| manifest.extension_type == Some(ExtensionType::Personal);
    let (from, to) = match (is_personal(serving), is_personal(new)) {
        (false, true) => ("the org's", "personal"),
        (true, false) => ("personal", "the org's"),
        _ => return Ok(()),
    };
    let message = format!(
        "version {version} is {to} and this installation is {from}: uninstall it and install that \
         version"
    );
    Err(LifecycleError::field("/version", message))
}

/// Whether the host is to grant what it did not.
fn needs_authorization(manifest: &Manifest, growth: &[Growth]) -> bool {
    manifest.authorisation.as_ref().is_some_and(|own| {
        growth.iter().any(|grown| match grown {
            Growth::Connection { service_name } | Growth::Scope { service_name, .. } => {
                *service_name == own.service_name
            }
            Growth::Event { .. } | Growth::CallbackHost { .. } | Growth::SecretParameter { .. } => {
                false
            }
        })
    })
}

/// The webhook of an installation as its row is written.
pub(super) fn extension_webhook(
    row: &installation::Model,
    webhook: &ProvisionedWebhook,
) -> NewExtensionWebhook {
    let subscriptions: serde_json::Map<String, serde_json::Value> = (webhook.subscriptions.iter())
        .map(|(event, options)| (event.clone(), options.to_json()))
        .collect();
    let origins = &webhook.include_events_from;
    NewExtensionWebhook {
        org_id: row.org_id.clone(),
        installation_id: row.id,
        extension_key: row.extension_key.clone(),
        generation: row.generation,
        resource_name: without_nul(webhook.resource_name.clone()),
        name: without_nul(webhook.name.clone()),
        description: webhook.description.clone().map(without_nul),
        url: webhook.url.to_string(),
        subscriptions: serde_json::Value::Object(subscriptions).to_string(),
        ignore_source_id: webhook.ignore_source_id.to_string(),
        include_events_from: (!origins.is_empty()).then(|| serde_json::json!(origins).to_string()),
        ordered: webhook.ordered,
        delivery: webhook.delivery.as_ref().and_then(|wishes| serde_json::to_string(wishes).ok()),
    }
}

/// A text of a manifest without NUL characters, which PostgreSQL cannot keep in a text.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// A webhook as an installation has it.
fn installed_webhook(row: webhook::Model) -> Option<ProvisionedWebhook> {
    let subscriptions: BTreeMap<String, Option<SubscriptionOptions>> =
        serde_json::from_str(&row.subscriptions).ok()?;
    let read = |text: Option<String>| text.map(|text| serde_json::from_str::<Value>(&text));
    let origins = read(row.include_events_from).transpose().ok()?;
    let delivery = read(row.delivery).transpose().ok()?;
    Some(ProvisionedWebhook {
        resource_name: row.resource_name?,
        url: Url::parse(&row.url).ok()?,
        name: row.name?,
        description: row.description,
        subscriptions: subscriptions
            .into_iter()
            .map(|(event, options)| (event, options.unwrap_or_default()))
            .collect(),
        ignore_source_id: Uuid::parse_str(&row.ignore_source_id?).ok()?,
        include_events_from: match origins {
            Some(origins) => serde_json::from_value(origins).ok()?,
            None => BTreeSet::new(),
        },
        ordered: row.ordered != 0,
        delivery: match delivery {
            Some(delivery) => serde_json::from_value(delivery).ok()?,
            None => None,
        },
    })
}

impl Lifecycle {
    /// Works out what a version brings to an installation. Nothing is written.
    pub(super) async fn prepare(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        version: extension_version::Model,
        given: Map<String, Value>,
    ) -> Result<PreparedUpgrade, LifecycleError> {
        let old = read_package(&locked.version)?;
        let package = read_package(&version)?;
        check_type(&locked.manifest, &package.manifest, &version.version)?;
        let installed = Provisioned::of(&old).with_webhook(self.webhook_of(work, locked).await?);
        let upgrade = Upgrade::from_installed(&installed, &old, &package);
        let former = Parameters {
            open: serde_json::from_str(&locked.row.config)
                .map_err(|_| LifecycleError::Unreadable { what: "config" })?,
            secure: self.open_config(locked.row.id, locked.row.sealed_config.as_deref())?,
        };
        let parameters = parameters::carry(&former, &given, &package.manifest.parameters)?;
        Ok(PreparedUpgrade {
            needs_authorization: needs_authorization(&package.manifest, &upgrade.growth),
            version,
            package,
            upgrade,
            parameters,
            given,
            consent_id: self.inner.seam.randomness.id(),
            deadline: None,
            rollout_id: None,
            granted_by: None,
        })
    }

    /// The webhook that an installation really has.
    async fn webhook_of(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
    ) -> Result<Option<ProvisionedWebhook>, LifecycleError> {
        let row = webhook::Entity::find()
            .filter(webhook::Column::InstallationId.eq(locked.row.id))
            .one(work.connection())
            .await?;
        row.map(|row| {
            installed_webhook(row)
                .ok_or(LifecycleError::Unreadable { what: "webhook of the installation" })
        })
        .transpose()
    }

    /// The upgrade of an installation that waits.
    pub(super) async fn waiting_upgrade(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
    ) -> Result<Option<upgrade::Model>, LifecycleError> {
        let Some(id) = row.waiting_upgrade_id else { return Ok(None) };
        let found = upgrade::Entity::find_by_id(id).one(work.connection()).await?;
        found.map(Some).ok_or(LifecycleError::Unreadable { what: "waiting upgrade" })
    }

    /// The parameters that came with an upgrade that waits.
    pub(super) fn given_with(
        &self,
        waiting: &upgrade::Model,
    ) -> Result<Map<String, Value>, LifecycleError> {
        let Some(sealed) = &waiting.sealed_config else { return Ok(Map::new()) };
        let text =
            self.inner.keys.ring.unseal(Purpose::Vault, &config_place(waiting.id), sealed)?;
        serde_json::from_slice(text.expose())
            .map_err(|_| LifecycleError::Unreadable { what: "config of the upgrade" })
    }

    /// What waits to be authorised is another version.
    pub(super) async fn retarget(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let prepared = take_prepared(locked)?;
        crash_point("upgrade.before-apply");
        authorization::drop_states(work, locked.row.id).await?;
        self.serve_with(work, locked, *prepared, actor, now).await
    }

    /// Another version serves: removals come before additions.
    pub(super) async fn apply_upgrade(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let prepared = take_prepared(locked)?;
        crash_point("upgrade.before-apply");
        let inner = &self.inner;
        let (authority, plan) = (&inner.authority, &prepared.upgrade.plan);
        let (org, id) = (locked.row.org_id.clone(), locked.row.id);
        for gone in plan.delete.iter().filter(|gone| gone.key.kind == "webhook") {
            let name = &gone.key.resource_name;
            provisioning::remove_one(authority, &inner.store, work, &org, id, name).await?;
        }
        for webhook in plan.update.iter().filter_map(|planned| planned.webhook()) {
            let new = extension_webhook(&locked.row, webhook);
            if !provisioning::update(authority, work, new, now).await? {
                return Err(LifecycleError::Unreadable { what: "webhook of the installation" });
            }
        }
        for webhook in plan.create.iter().filter_map(|planned| planned.webhook()) {
            let new = extension_webhook(&locked.row, webhook);
            provisioning::provision(authority, work, new, now, &inner.seam.randomness);
        }
        let subject = notice_subject(id);
        inner.notices.resolve(work, &[NoticeKind::UpgradeExpired], &subject).await?;
        // The secret of the version that served until now counts for a while longer.
        let former = locked.row.version_id;
        extension_data::former_versions::remember(work, id, former, now).await?;
        self.serve_with(work, locked, *prepared, actor, now).await?;
        reconcile::forget(work, id).await?;
        work.flush().await?;
        let rows = webhook::Entity::find()
            .filter(webhook::Column::InstallationId.eq(id))
            .all(work.connection())
            .await?;
        for row in rows {
            let webhook_id = row.id;
            if let Some(webhook) = installed_webhook(row) {
                reconcile::remember(work, webhook_id, &locked.row, &webhook).await?;
            }
        }
        Ok(())
    }

    /// Writes the version and what goes with it into the row, and ends connections that it does
    /// not declare.
    async fn serve_with(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        prepared: PreparedUpgrade,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let manifest = prepared.package.manifest;
        let declared = self.declared_by(&manifest, &prepared.version)?;
        let ended = self.end_connections(work, locked, &declared).await?;
        let row = &mut locked.row;
        row.former_version_id = Some(row.version_id);
        row.upgraded_at = Some(now.micros());
        row.version_id = prepared.version.id;
        row.target_digest.clone_from(&prepared.version.digest);
        row.config = Value::Object(prepared.parameters.open).to_string();
        row.sealed_config = self.seal_config(row.id, &prepared.parameters.secure)?;
        // The callbacks' addresses and their key are those of the version that serves.
        work.routing_changed(RoutingChange::Installation(row.id.to_string()));
        let former = std::mem::replace(&mut locked.version, prepared.version);
        locked.former_version = Some(former.version);
        locked.manifest = manifest;
        self.tell_ended(work, locked, ended, actor, now).await
    }

    /// Revokes what a version has no use for, and has the rest be shared as it says. Returns the
    /// names of what ended, each with how many there were.
    async fn end_connections(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        new: &[DeclaredConnection],
    ) -> Result<Vec<(String, u64)>, LifecycleError> {
        let id = locked.row.id;
        let mut ended = Vec::new();
        for former in self.declared(locked)? {
            // A name that leads to another service, or elsewhere, is another connection.
            if let Some(stays) = new.iter().find(|one| one.continues(&former)) {
                let is_shared = i32::from(!stays.user_access);
                connection::Entity::update_many()
                    .col_expr(connection::Column::Shared, Expr::value(is_shared))
                    .filter(connection::Column::InstallationId.eq(id))
                    .filter(connection::Column::Name.eq(&stays.name))
                    .filter(connection::Column::UserId.eq(""))
                    .filter(connection::Column::Shared.ne(is_shared))
                    .exec(work.connection())
                    .await?;
                continue;
            }
            if former.is_host() {
                locked.row.granted_scopes = None;
                "none".clone_into(&mut locked.row.connection_health);
                locked.row.connection_reason = None;
            }
            let only = Some((former.name.as_str(), None));
            let removed = self.inner.connections.remove(work, id, only).await?;
            if removed > 0 {
                ended.push((former.name, removed));
            }
        }
        Ok(ended)
    }

    /// Tells of connections that an upgrade ended, by the version that serves now: the vendor once
    /// for each, however many users had one, and the history.
    async fn tell_ended(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        ended: Vec<(String, u64)>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let state = locked.state().name();
        for (name, count) in ended {
            if name != HOST_CONNECTION {
                let of = Some((name.as_str(), ""));
                let why = Some("version_change");
                self.tell_of(work, locked, "onTPARevoke", why, of, now).await?;
            }
            let what = format!(
                "connection {name}: version {} does not declare it any more, or leads it elsewhere; \
                 {count} ended",
                locked.version.version
            );
            self.record(work, &locked.row, "disconnect", Some(state), actor, Some(&what)).await?;
        }
        Ok(())
    }

    /// Writes down what waits for consent, as it is shown, and tells the administrators.
    pub(super) async fn await_consent(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let prepared = take_prepared(locked)?;
        let inner = &self.inner;
        let unreadable = |_| LifecycleError::Unreadable { what: "plan of the upgrade" };
        let sealed_config = if prepared.given.is_empty() {
            None
        } else {
            let text = serde_json::to_vec(&prepared.given).map_err(unreadable)?;
            let place = config_place(prepared.consent_id);
            Some(inner.keys.ring.seal(Purpose::Vault, &place, &text, &inner.seam.randomness)?)
        };
        upgrade::Entity::insert(upgrade::ActiveModel {
            id: Set(prepared.consent_id),
            installation_id: Set(locked.row.id),
            from_version_id: Set(locked.row.version_id),
            version_id: Set(prepared.version.id),
            digest: Set(prepared.version.digest.clone()),
            plan: Set(serde_json::to_string(&prepared.upgrade.plan).map_err(unreadable)?),
            growth: Set(serde_json::to_string(&prepared.upgrade.growth).map_err(unreadable)?),
            needs_authorization: Set(i16::from(prepared.needs_authorization)),
            sealed_config: Set(sealed_config),
            rollout_id: Set(prepared.rollout_id),
            state: Set("waiting".to_owned()),
            waiting: Set(Some(1)),
            requested_by: Set(actor.name.clone()),
            deadline: Set(prepared.deadline.map(Timestamp::micros)),
            created_at: Set(now.micros()),
            settled_at: Set(None),
            settled_by: Set(None),
        })
        .exec_without_returning(work.connection())
        .await?;
        locked.row.waiting_upgrade_id = Some(prepared.consent_id);
        let subject = notice_subject(locked.row.id);
        inner.notices.resolve(work, &[NoticeKind::UpgradeExpired], &subject).await?;
        let message = waiting_message(locked, &prepared);
        self.post(work, locked, NoticeKind::UpgradeWaiting, message).await
    }

    /// Says what became of the upgrade that waited; what came with it is gone.
    pub(super) async fn settle_upgrade(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        how: Settlement,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let Some(id) = locked.row.waiting_upgrade_id.take() else { return Ok(()) };
        let granted_by = locked.prepared.as_ref().and_then(|prepared| prepared.granted_by.clone());
        let settled_by = granted_by.unwrap_or_else(|| actor.name.clone());
        upgrade::Entity::update_many()
            .col_expr(upgrade::Column::State, Expr::value(how.name()))
            .col_expr(upgrade::Column::Waiting, Expr::value(Option::<i16>::None))
            .col_expr(upgrade::Column::SealedConfig, Expr::value(Option::<Vec<u8>>::None))
            .col_expr(upgrade::Column::SettledAt, Expr::value(now.micros()))
            .col_expr(upgrade::Column::SettledBy, Expr::value(settled_by))
            .filter(upgrade::Column::Id.eq(id))
            .exec(work.connection())
            .await?;
        let purpose = AuthorizationPurpose::Upgrade { consent_id: id };
        authorization::drop_alike(work, locked.row.id, &purpose, HOST_CONNECTION).await?;
        let subject = notice_subject(locked.row.id);
        self.inner.notices.resolve(work, &[NoticeKind::UpgradeWaiting], &subject).await?;
        if how == Settlement::Expired {
            let message = format!(
                "Nobody agreed to the upgrade of {} in time. Version {} goes on serving; propose \
                 the upgrade again to ask anew.",
                locked.version.name, locked.version.version
            );
            self.post(work, locked, NoticeKind::UpgradeExpired, message).await?;
        }
        Ok(())
    }

    async fn post(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        kind: NoticeKind,
        message: String,
    ) -> Result<(), LifecycleError> {
        let notice = Notice {
            kind,
            subject: notice_subject(locked.row.id),
            org_id: locked.row.org_id.clone(),
            extension_key: Some(locked.row.extension_key.clone()),
            installation_id: Some(locked.row.id),
            webhook_id: None,
            message,
        };
        Ok(self.inner.notices.post(work, &notice).await?)
    }

    /// Whether an upgrade that waits still is what was shown to whoever agrees.
    pub(super) fn is_as_shown(waiting: &upgrade::Model, prepared: &PreparedUpgrade) -> bool {
        let same = |kept: &str, now: Result<Value, serde_json::Error>| {
            let kept: Result<Value, _> = serde_json::from_str(kept);
            matches!((kept, now), (Ok(kept), Ok(now)) if kept == now)
        };
        waiting.digest == prepared.version.digest
            && same(&waiting.plan, serde_json::to_value(&prepared.upgrade.plan))
            && same(&waiting.growth, serde_json::to_value(&prepared.upgrade.growth))
    }
}

fn take_prepared(locked: &mut Locked) -> Result<Box<PreparedUpgrade>, LifecycleError> {
    locked.prepared.take().ok_or(LifecycleError::Unreadable { what: "upgrade to be carried out" })
}

fn waiting_message(locked: &Locked, prepared: &PreparedUpgrade) -> String {
    let growth = &prepared.upgrade.growth;
    let mut asks: Vec<String> = growth.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    if growth.len() > MOST_NAMED {
        asks.push(format!("{} more", growth.len() - MOST_NAMED));
    }
    let until = prepared.deadline.map_or_else(String::new, |deadline| {
        format!(" It can be given until {}.", deadline.rfc3339())
    });
    format!(
        "{} {} waits for consent, because it asks for more: {}. Version {} serves until then.{until}",
        prepared.version.name,
        prepared.version.version,
        asks.join(", "),
        locked.version.version,
    )
}
