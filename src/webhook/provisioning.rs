//! How an extension's webhooks come into being and go: only here, and only by whoever holds the
//! [`ExtensionAuthority`].

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::seam::{Randomness, Timestamp};
use crate::store::claims;
use crate::store::entity::{endpoint, endpoint_state, webhook};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// The right to change extension webhooks. The lifecycle and its reconciler hold it; it can be
/// neither copied nor made by the rooms that serve requests.
#[derive(Debug)]
pub struct ExtensionAuthority(());

impl ExtensionAuthority {
    /// Makes the value. Called where the rooms are wired, which give it to the lifecycle room alone.
    pub(crate) fn for_server() -> Self {
        Self(())
    }
}

/// A webhook as the package declares it, ready to be written.
#[derive(Clone, Debug)]
pub struct NewExtensionWebhook {
    /// The org.
    pub org_id: String,
    /// The installation that owns it.
    pub installation_id: Uuid,
    /// Its extension.
    pub extension_key: String,
    /// Its generation.
    pub generation: i32,
    /// Its identity over all versions.
    pub resource_name: String,
    /// The name that people see.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The declared address.
    pub url: String,
    /// Event types with their options, as JSON.
    pub subscriptions: String,
    /// The source whose events it does not want.
    pub ignore_source_id: String,
    /// `includeEventsFrom` as JSON.
    pub include_events_from: Option<String>,
    /// Whether deliveries go in order.
    pub ordered: bool,
    /// How it wants to be delivered to, as JSON.
    pub delivery: Option<String>,
}

/// Writes a webhook of an extension. Returns its id.
pub async fn provision(
    _authority: &ExtensionAuthority,
    work: &mut UnitOfWork,
    new: NewExtensionWebhook,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<Uuid, StoreError> {
    let id = randomness.id();
    endpoint::Entity::insert(endpoint::ActiveModel {
        id: Set(id),
        org_id: Set(new.org_id.clone()),
        lane: Set("webhook".to_owned()),
        installation_id: Set(Some(new.installation_id)),
        extension_key: Set(Some(new.extension_key.clone())),
        created_at: Set(now.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    work.routing_changed(RoutingChange::Org(new.org_id.clone()));
    webhook::Entity::insert(webhook::ActiveModel {
        id: Set(id),
        org_id: Set(new.org_id),
        kind: Set("extension".to_owned()),
        installation_id: Set(Some(new.installation_id)),
        extension_key: Set(Some(new.extension_key)),
        resource_name: Set(Some(new.resource_name)),
        generation: Set(new.generation),
        name: Set(Some(new.name)),
        description: Set(new.description),
        url: Set(new.url),
        subscriptions: Set(new.subscriptions),
        ignore_source_id: Set(Some(new.ignore_source_id)),
        include_events_from: Set(new.include_events_from),
        is_enabled: Set(1),
        ordered: Set(i32::from(new.ordered)),
        dialect: Set("desk".to_owned()),
        created_by: Set(None),
        created_at: Set(now.micros()),
        modified_at: Set(now.micros()),
        delivery: Set(new.delivery),
    })
    .exec_without_returning(work.connection())
    .await?;
    Ok(id)
}

/// Removes the webhooks of an installation with everything that waits for them. Returns how many
/// there were.
pub async fn remove(
    _authority: &ExtensionAuthority,
    store: &Store,
    work: &mut UnitOfWork,
    org_id: &str,
    installation_id: Uuid,
) -> Result<u64, StoreError> {
    for id in ids(work, installation_id).await? {
        claims::cancel_unresolved(store, work, id).await?;
        endpoint_state::Entity::delete_by_id(id).exec(work.connection()).await?;
    }
    let removed = webhook::Entity::delete_many()
        .filter(webhook::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    work.routing_changed(RoutingChange::Org(org_id.to_owned()));
    Ok(removed.rows_affected)
}

/// Puts what was held for the webhooks of an installation back on its way.
pub async fn release(
    _authority: &ExtensionAuthority,
    store: &Store,
    work: &mut UnitOfWork,
    org_id: &str,
    installation_id: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    for id in ids(work, installation_id).await? {
        claims::release_held(store, work, id, now).await?;
    }
    work.routing_changed(RoutingChange::Org(org_id.to_owned()));
    Ok(())
}

async fn ids(work: &UnitOfWork, installation_id: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let rows = webhook::Entity::find()
        .filter(webhook::Column::InstallationId.eq(installation_id))
        .all(work.connection())
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
