//! What the ordinary end of an installation brings about, made up for where it ended without it: by
//! hand, or by a node of a release that did not know of it.

use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Query},
};
use uuid::Uuid;

use super::facts::Declared;
use crate::audit::Actor;
use crate::delivery::{Callback, declared_name, enqueue_callback};
use crate::lifecycle::LifecycleError;
use crate::lifecycle::state::Settlement;
use crate::notice::NoticeKind;
use crate::seam::{Seam, Timestamp};
use crate::store::UnitOfWork;
use crate::store::entity::{
    delivery, event, installation, journal, notice, token_exchange, upgrade,
};
use crate::store::positions::Journalled;

/// What the vendor is told at the end.
const UNINSTALLED: &str = "onUninstall";

/// What notices tell of that ends with the installation however it ended.
const OVER: &[NoticeKind] =
    &[NoticeKind::ConnectionBroken, NoticeKind::UpgradeWaiting, NoticeKind::UpgradeExpired];

/// Settles the upgrade that waits; what came with it goes.
pub(super) async fn settle_upgrades(
    work: &UnitOfWork,
    row: &mut installation::Model,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), LifecycleError> {
    row.waiting_upgrade_id = None;
    upgrade::Entity::update_many()
        .col_expr(upgrade::Column::State, Expr::value(Settlement::Uninstalled.name()))
        .col_expr(upgrade::Column::Waiting, Expr::value(Option::<i16>::None))
        .col_expr(upgrade::Column::SealedConfig, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(upgrade::Column::SettledAt, Expr::value(now.micros()))
        .col_expr(upgrade::Column::SettledBy, Expr::value(actor.name.clone()))
        .filter(upgrade::Column::InstallationId.eq(row.id))
        .filter(upgrade::Column::Waiting.is_not_null())
        .exec(work.connection())
        .await?;
    Ok(())
}

/// Removes exchanges from before `limit`: their codes are long dead.
pub(super) async fn drop_exchanges(
    work: &UnitOfWork,
    id: Uuid,
    limit: Timestamp,
) -> Result<(), LifecycleError> {
    token_exchange::Entity::delete_many()
        .filter(token_exchange::Column::InstallationId.eq(id))
        .filter(token_exchange::Column::StartedAt.lt(limit.micros()))
        .exec(work.connection())
        .await?;
    Ok(())
}

/// Says that notices of the installation are over: of connections and upgrades, or, in the moment
/// of its end, all of them.
pub(super) async fn resolve_notices(
    work: &UnitOfWork,
    id: Uuid,
    ends: bool,
    now: Timestamp,
) -> Result<(), LifecycleError> {
    let mut statement = notice::Entity::update_many()
        .col_expr(notice::Column::ResolvedAt, Expr::value(now.micros()))
        .filter(notice::Column::InstallationId.eq(id))
        .filter(notice::Column::ResolvedAt.is_null());
    if !ends {
        statement =
            statement.filter(notice::Column::Kind.is_in(OVER.iter().map(|kind| kind.name())));
    }
    statement.exec(work.connection()).await?;
    Ok(())
}

/// Queues the vendor's last callback, unless it was queued already.
pub(super) async fn tell_end(
    work: &UnitOfWork,
    row: &mut installation::Model,
    declared: Option<&Declared>,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), LifecycleError> {
    if last_callbacks(work, row.id).await? > 0 {
        return journal_end(work, row).await;
    }
    // Without a version that can be read nobody knows whom to tell.
    let Some(declared) = declared else { return Ok(()) };
    let Some(name) = declared_name(&declared.listener, UNINSTALLED) else { return Ok(()) };
    row.callback_sequence += 1;
    let callback = Callback {
        event: name.to_owned(),
        org_id: row.org_id.clone(),
        extension_key: row.extension_key.clone(),
        installation_id: row.id,
        generation: row.generation,
        sequence: row.callback_sequence,
        version: declared.version.clone(),
        reason: Some("uninstalled".to_owned()),
        connection: None,
        user_id: None,
        former_version: None,
        erase_at: row.erase_at.map(Timestamp::from_micros),
    };
    enqueue_callback(work, &callback, now, seam).await?;
    Ok(())
}

async fn last_callbacks(work: &UnitOfWork, id: Uuid) -> Result<usize, LifecycleError> {
    Ok(lane(id).limit(1).all(work.connection()).await?.len())
}

/// The last callbacks on the lane of an installation.
fn lane(id: Uuid) -> sea_orm::Select<delivery::Entity> {
    let named = Query::select()
        .column(event::Column::Id)
        .from(event::Entity)
        .and_where(event::Column::EventType.eq(UNINSTALLED))
        .and_where(
            Expr::col((event::Entity, event::Column::Id))
                .equals((delivery::Entity, delivery::Column::EventId)),
        )
        .take();
    delivery::Entity::find()
        .filter(delivery::Column::EndpointId.eq(id))
        .filter(Expr::exists(named))
        .order_by_desc(delivery::Column::Id)
}

/// Enters the vendor's last callback into the journal, where a node that does not know of the
/// journal queued it.
pub(super) async fn journal_end(
    work: &UnitOfWork,
    row: &installation::Model,
) -> Result<(), LifecycleError> {
    let Some(last) = lane(row.id).limit(1).one(work.connection()).await? else { return Ok(()) };
    let known = journal::Entity::find()
        .filter(journal::Column::DeliveryId.eq(last.id))
        .one(work.connection())
        .await?;
    if known.is_none() {
        work.journalled(Journalled {
            delivery_id: last.id,
            installation_id: row.id,
            extension_key: row.extension_key.clone(),
            event: UNINSTALLED.to_owned(),
            at: Timestamp::from_micros(last.created_at),
        });
    }
    Ok(())
}
