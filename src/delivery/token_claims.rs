//! The right to fetch an access token for a webhook: one node has it at a time, and the others take what
//! that one keeps. It ends by itself where its node does.

use std::time::Duration;

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::seam::{Seam, Timestamp};
use crate::store::entity::own_webhook_token_claim;
use crate::store::{Store, StoreError};

/// How long a node has the right: longer than a call of a token endpoint may take.
const CLAIMED_FOR: Duration = Duration::from_secs(30);

/// Takes the right to fetch a token for a webhook; nothing where another one has it.
pub(super) async fn claim(
    store: &Store,
    id: Uuid,
    seam: &Seam,
) -> Result<Option<Uuid>, StoreError> {
    use own_webhook_token_claim::{ActiveModel, Column, Entity};
    let now = seam.clock.now();
    let (claim, until) = (seam.randomness.id(), now.plus(CLAIMED_FOR).micros());
    let work = store.begin().await?;
    let taken_over = Entity::update_many()
        .col_expr(Column::Claim, Expr::value(claim))
        .col_expr(Column::ClaimedUntil, Expr::value(until))
        .filter(Column::Id.eq(id))
        .filter(is_over(now))
        .exec(work.connection())
        .await?
        .rows_affected;
    let is_mine = taken_over == 1 || {
        let row = ActiveModel { id: Set(id), claim: Set(claim), claimed_until: Set(until) };
        let inserted = Entity::insert(row)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(work.connection())
            .await;
        match inserted {
            Ok(rows) => rows == 1,
            Err(DbErr::RecordNotInserted) => false,
            Err(error) => return Err(error.into()),
        }
    };
    let _settled = work.commit(now).await?;
    Ok(is_mine.then_some(claim))
}

/// One that has ended; or one that would last longer than any does, as where the time of day was set
/// back.
fn is_over(now: Timestamp) -> sea_orm::Condition {
    use own_webhook_token_claim::Column;
    sea_orm::Condition::any()
        .add(Column::ClaimedUntil.lte(now.micros()))
        .add(Column::ClaimedUntil.gt(now.plus(CLAIMED_FOR * 2).micros()))
}

/// Gives the right back.
pub(super) async fn release(
    store: &Store,
    id: Uuid,
    claim: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    use own_webhook_token_claim::{Column, Entity};
    let work = store.begin().await?;
    Entity::delete_many()
        .filter(Column::Id.eq(id))
        .filter(Column::Claim.eq(claim))
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    Ok(())
}
