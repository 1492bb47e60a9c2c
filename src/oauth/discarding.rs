//! Tokens that came and that nobody uses: they are revoked, and the clean-up of an installation that
//! ended meanwhile begins anew.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use super::error::OAuthError;
use super::provider::Service;
use super::revocation::{self, Revocation};
use super::vault;
use crate::crypto::{KeyRing, SecretText};
use crate::seam::{Seam, Timestamp};
use crate::store::UnitOfWork;
use crate::store::entity::installation;

/// Puts tokens that are not stored into the revocation job, under the installation's lock.
///
/// A server may hand out the same token again (RFC 6749 section 6 lets it keep the refresh token):
/// what a connection of the installation uses is left alone.
pub(crate) async fn discard(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    service: &Service,
    tokens: &[(&'static str, &SecretText)],
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    lock(work, installation_id).await?;
    let in_use = vault::in_use(ring, work, installation_id, service).await?;
    for (kind, token) in tokens.iter().copied() {
        if in_use.contains(token) {
            continue;
        }
        let job = Revocation { installation_id, service: service.clone(), kind, token };
        revocation::schedule(ring, work, job, now, seam).await?;
    }
    settle(work, installation_id, now).await
}

/// The installation's lock. Whoever ends a token or an exchange takes it first, so that of two that
/// end at once the later one sees that it was the last.
pub(crate) async fn lock(work: &UnitOfWork, installation_id: Uuid) -> Result<(), OAuthError> {
    installation::Entity::find_by_id(installation_id)
        .lock_exclusive()
        .one(work.connection())
        .await?;
    Ok(())
}

/// Says whether an installation that ended is cleaned up: nothing waits to be revoked, and no code
/// is being exchanged. The caller holds its lock.
pub(crate) async fn settle(
    work: &UnitOfWork,
    installation_id: Uuid,
    now: Timestamp,
) -> Result<(), OAuthError> {
    let waits = revocation::waiting(work, installation_id).await? > 0;
    let cleanup = if waits { "pending" } else { "done" };
    let changed = installation::Entity::update_many()
        .col_expr(installation::Column::Cleanup, Expr::value(cleanup))
        .col_expr(installation::Column::UpdatedAt, Expr::value(now.micros()))
        .filter(installation::Column::Id.eq(installation_id))
        .filter(installation::Column::Live.eq(0))
        .filter(installation::Column::Cleanup.ne(cleanup))
        .exec(work.connection())
        .await?;
    if changed.rows_affected > 0 {
        work.installation_changed(installation_id);
    }
    Ok(())
}
