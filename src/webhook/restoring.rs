//! Putting an extension's webhook back as lifecycle wants it, in place: its id, its secret and its
//! history stay. As provisioning, only by whoever holds the [`ExtensionAuthority`].

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    EntityTrait,
};
use uuid::Uuid;

use super::provisioning::{ExtensionAuthority, NewExtensionWebhook, drop_waiting};
use crate::seam::Timestamp;
use crate::store::entity::{endpoint, webhook};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// Writes every column of a webhook; makes the row where there is none.
pub(crate) async fn restore(
    _authority: &ExtensionAuthority,
    work: &mut UnitOfWork,
    id: Uuid,
    new: &NewExtensionWebhook,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = webhook::Entity::find_by_id(id).one(work.connection()).await?;
    let is_there = row.is_some();
    if let Some(row) = &row {
        work.routing_changed(RoutingChange::Org(row.org_id.clone()));
    }
    work.routing_changed(RoutingChange::Org(new.org_id.clone()));
    let active = webhook::ActiveModel {
        id: if is_there { Unchanged(id) } else { Set(id) },
        org_id: Set(new.org_id.clone()),
        kind: Set("extension".to_owned()),
        installation_id: Set(Some(new.installation_id)),
        extension_key: Set(Some(new.extension_key.clone())),
        resource_name: Set(Some(new.resource_name.clone())),
        generation: Set(new.generation),
        name: Set(Some(new.name.clone())),
        description: Set(new.description.clone()),
        url: Set(new.url.clone()),
        subscriptions: Set(new.subscriptions.clone()),
        ignore_source_id: Set(Some(new.ignore_source_id.clone())),
        include_events_from: Set(new.include_events_from.clone()),
        is_enabled: Set(1),
        ordered: Set(i32::from(new.ordered)),
        dialect: Set("desk".to_owned()),
        created_by: Set(None),
        created_at: Set(row.map_or(now.micros(), |row| row.created_at)),
        modified_at: Set(now.micros()),
        delivery: Set(new.delivery.clone()),
    };
    if is_there {
        active.update(work.connection()).await?;
    } else {
        webhook::Entity::insert(active).exec_without_returning(work.connection()).await?;
    }
    let tenant = Tenant {
        org_id: &new.org_id,
        installation_id: new.installation_id,
        extension_key: &new.extension_key,
    };
    restore_endpoint(work, id, "webhook", tenant, now).await
}

/// Whose an endpoint is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    pub(crate) org_id: &'a str,
    pub(crate) installation_id: Uuid,
    pub(crate) extension_key: &'a str,
}

/// Writes the row that gives deliveries their tenant.
pub(crate) async fn restore_endpoint(
    work: &UnitOfWork,
    id: Uuid,
    lane: &str,
    tenant: Tenant<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = endpoint::Entity::find_by_id(id).one(work.connection()).await?;
    let is_there = row.is_some();
    let active = endpoint::ActiveModel {
        id: if is_there { Unchanged(id) } else { Set(id) },
        org_id: Set(tenant.org_id.to_owned()),
        lane: Set(lane.to_owned()),
        installation_id: Set(Some(tenant.installation_id)),
        extension_key: Set(Some(tenant.extension_key.to_owned())),
        created_at: Set(row.map_or(now.micros(), |row| row.created_at)),
    };
    if is_there {
        active.update(work.connection()).await?;
    } else {
        endpoint::Entity::insert(active).exec_without_returning(work.connection()).await?;
    }
    Ok(())
}

/// Removes one webhook with everything that waits for it; its deliveries stay as history.
pub(crate) async fn remove_one(
    _authority: &ExtensionAuthority,
    store: &Store,
    work: &mut UnitOfWork,
    id: Uuid,
) -> Result<(), StoreError> {
    drop_waiting(store, work, id).await?;
    if let Some(row) = webhook::Entity::find_by_id(id).one(work.connection()).await? {
        work.routing_changed(RoutingChange::Org(row.org_id));
        webhook::Entity::delete_by_id(id).exec(work.connection()).await?;
    }
    Ok(())
}
