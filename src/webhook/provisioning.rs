//! How an extension's webhooks come into being and go: only here, and only by whoever holds the
//! [`ExtensionAuthority`].

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement,
    sea_query::Expr,
};
use uuid::Uuid;

use crate::seam::{Randomness, Timestamp};
use crate::store::claims;
use crate::store::entity::{endpoint, endpoint_state, webhook};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// How many waiting deliveries of a webhook are cancelled in the transaction that removes it.
const CANCELLED_AT_ONCE: u32 = 5_000;

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
pub fn provision(
    _authority: &ExtensionAuthority,
    work: &mut UnitOfWork,
    new: NewExtensionWebhook,
    now: Timestamp,
    randomness: &Randomness,
) -> Uuid {
    let id = randomness.id();
    work.write_later(&endpoint::Entity::insert(endpoint::ActiveModel {
        id: Set(id),
        org_id: Set(new.org_id.clone()),
        lane: Set("webhook".to_owned()),
        installation_id: Set(Some(new.installation_id)),
        extension_key: Set(Some(new.extension_key.clone())),
        created_at: Set(now.micros()),
    }));
    work.routing_changed(RoutingChange::Org(new.org_id.clone()));
    work.write_later(&webhook::Entity::insert(webhook::ActiveModel {
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
    }));
    id
}

/// Changes a webhook of an installation in place, by its resource name: its id, its secret, its
/// health and its history stay, and what is queued goes where it points from now on. Returns
/// whether there is one.
pub async fn update(
    _authority: &ExtensionAuthority,
    work: &mut UnitOfWork,
    new: NewExtensionWebhook,
    now: Timestamp,
) -> Result<bool, StoreError> {
    work.routing_changed(RoutingChange::Org(new.org_id));
    let changed = webhook::Entity::update_many()
        .col_expr(webhook::Column::Name, Expr::value(Some(new.name)))
        .col_expr(webhook::Column::Description, Expr::value(new.description))
        .col_expr(webhook::Column::Url, Expr::value(new.url))
        .col_expr(webhook::Column::Subscriptions, Expr::value(new.subscriptions))
        .col_expr(webhook::Column::IgnoreSourceId, Expr::value(Some(new.ignore_source_id)))
        .col_expr(webhook::Column::IncludeEventsFrom, Expr::value(new.include_events_from))
        .col_expr(webhook::Column::Ordered, Expr::value(i32::from(new.ordered)))
        .col_expr(webhook::Column::Delivery, Expr::value(new.delivery))
        .col_expr(webhook::Column::ModifiedAt, Expr::value(now.micros()))
        .filter(webhook::Column::InstallationId.eq(new.installation_id))
        .filter(webhook::Column::ResourceName.eq(new.resource_name))
        .exec(work.connection())
        .await?;
    Ok(changed.rows_affected > 0)
}

/// Removes one webhook of an installation, by its resource name, with everything that waits for it.
pub async fn remove_one(
    _authority: &ExtensionAuthority,
    store: &Store,
    work: &mut UnitOfWork,
    org_id: &str,
    installation_id: Uuid,
    resource_name: &str,
) -> Result<u64, StoreError> {
    let rows = webhook::Entity::find()
        .filter(webhook::Column::InstallationId.eq(installation_id))
        .filter(webhook::Column::ResourceName.eq(resource_name))
        .all(work.connection())
        .await?;
    let mut removed = 0;
    for row in rows {
        drop_waiting(store, work, row.id).await?;
        removed +=
            webhook::Entity::delete_by_id(row.id).exec(work.connection()).await?.rows_affected;
    }
    work.routing_changed(RoutingChange::Org(org_id.to_owned()));
    Ok(removed)
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
        drop_waiting(store, work, id).await?;
    }
    let removed = webhook::Entity::delete_many()
        .filter(webhook::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    work.routing_changed(RoutingChange::Org(org_id.to_owned()));
    Ok(removed.rows_affected)
}

/// Cancels what waits for a webhook that goes, and forgets what delivering found out about it.
pub(crate) async fn drop_waiting(
    store: &Store,
    work: &UnitOfWork,
    id: Uuid,
) -> Result<(), StoreError> {
    // So many at once; what is left is cancelled in steps by whoever looks at the table next.
    claims::cancel_unresolved(store, work, id, CANCELLED_AT_ONCE).await?;
    endpoint_state::Entity::delete_by_id(id).exec(work.connection()).await?;
    work.connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            "delete from endpoint_sequences where endpoint_id = $1",
            [id.into()],
        ))
        .await?;
    Ok(())
}

/// The webhooks of an installation.
pub(crate) async fn ids(work: &UnitOfWork, installation_id: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let rows = webhook::Entity::find()
        .filter(webhook::Column::InstallationId.eq(installation_id))
        .all(work.connection())
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
