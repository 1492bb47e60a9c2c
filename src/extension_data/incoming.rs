//! What third parties post for a user of an extension: kept as an event with one delivery, on a lane
//! of the installation beside its webhook's, and sent as every event is.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::OnConflict};
use uuid::Uuid;

use super::user_tokens::UserToken;
use crate::seam::{Seam, Timestamp};
use crate::store::claims::DeliveryState;
use crate::store::entity::{delivery, endpoint, event, incoming_lane};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};
use crate::webhook::provisioning::drop_waiting;

/// The event type under which what was posted is delivered.
pub const EVENT_TYPE: &str = "Incoming_Webhook";

/// The lane of an installation. The first time it is made, and every node is told.
async fn lane(
    work: &mut UnitOfWork,
    token: &UserToken,
    now: Timestamp,
    seam: &Seam,
) -> Result<Uuid, StoreError> {
    let find = async |work: &UnitOfWork| {
        incoming_lane::Entity::find()
            .filter(incoming_lane::Column::InstallationId.eq(token.installation_id))
            .one(work.connection())
            .await
    };
    if let Some(lane) = find(work).await? {
        return Ok(lane.id);
    }
    let id = seam.randomness.id();
    let row = incoming_lane::ActiveModel {
        id: Set(id),
        installation_id: Set(token.installation_id),
        org_id: Set(token.org_id.clone()),
    };
    // Two may come at once: the second waits here for the first, and finds its lane.
    incoming_lane::Entity::insert(row)
        .on_conflict(
            OnConflict::column(incoming_lane::Column::InstallationId).do_nothing().to_owned(),
        )
        .exec_without_returning(work.connection())
        .await?;
    let lane = find(work).await?.ok_or(StoreError::Corrupt { what: "incoming lane" })?;
    if lane.id == id {
        endpoint::Entity::insert(endpoint::ActiveModel {
            id: Set(id),
            org_id: Set(token.org_id.clone()),
            lane: Set("incoming".to_owned()),
            installation_id: Set(Some(token.installation_id)),
            extension_key: Set(Some(token.extension_key.clone())),
            created_at: Set(now.micros()),
        })
        .exec_without_returning(work.connection())
        .await?;
        work.routing_changed(RoutingChange::Org(token.org_id.clone()));
    }
    Ok(lane.id)
}

/// Keeps what was posted, to be delivered. Returns the id of its delivery.
pub async fn enqueue(
    work: &mut UnitOfWork,
    token: &UserToken,
    generation: i32,
    payload: Vec<u8>,
    seam: &Seam,
) -> Result<Uuid, StoreError> {
    let now = seam.clock.now();
    let endpoint_id = lane(work, token, now, seam).await?;
    let event_id = seam.randomness.id();
    event::Entity::insert(event::ActiveModel {
        id: Set(event_id),
        org_id: Set(token.org_id.clone()),
        event_type: Set(EVENT_TYPE.to_owned()),
        department_id: Set(None),
        event_time: Set(now.millis()),
        origin: Set(0),
        source_id: Set(None),
        actor: Set(None),
        event_key: Set(None),
        accepted_at: Set(now.micros()),
        payload: Set(payload),
        previous: Set(None),
    })
    .exec_without_returning(work.connection())
    .await?;
    let id = seam.randomness.id();
    delivery::Entity::insert(delivery::ActiveModel {
        id: Set(id),
        event_id: Set(event_id),
        endpoint_id: Set(endpoint_id),
        generation: Set(generation),
        state: Set(DeliveryState::Pending.number()),
        due_at: Set(Some(now.micros())),
        claim: Set(None),
        ordered: Set(None),
        sequence: Set(0),
        replay: Set(0),
        attempts: Set(0),
        created_at: Set(now.micros()),
        first_at: Set(None),
        first_status: Set(None),
        first_micros: Set(None),
        first_error: Set(None),
        first_detail: Set(None),
    })
    .exec_without_returning(work.connection())
    .await?;
    Ok(id)
}

/// Takes the lane of an installation out, and cancels what waits in it.
pub(super) async fn close(
    store: &Store,
    work: &UnitOfWork,
    installation_id: Uuid,
) -> Result<(), StoreError> {
    let Some(id) = id_of(work, installation_id).await? else { return Ok(()) };
    drop_waiting(store, work, id).await?;
    incoming_lane::Entity::delete_by_id(id).exec(work.connection()).await?;
    Ok(())
}

async fn id_of(work: &UnitOfWork, installation_id: Uuid) -> Result<Option<Uuid>, StoreError> {
    let row = incoming_lane::Entity::find()
        .filter(incoming_lane::Column::InstallationId.eq(installation_id))
        .one(work.connection())
        .await?;
    Ok(row.map(|row| row.id))
}
