//! A connection that does not work any more: said wherever it is shown, to administrator and vendor.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use uuid::Uuid;

use super::declared::HOST_CONNECTION;
use super::error::OAuthError;
use super::vault::revoke_tokens;
use crate::audit::{self, Actor, Entry};
use crate::crypto::KeyRing;
use crate::notice::{Board, Notice, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::UnitOfWork;
use crate::store::entity::{connection, installation, transition};

/// What a notice of a connection is about.
pub(super) fn subject(connection_id: Uuid) -> String {
    format!("connection:{connection_id}")
}

/// Whether a connection is the one that `connection` of an installation shows.
pub(crate) fn is_main(installation: &installation::Model, row: &connection::Model) -> bool {
    row.name == HOST_CONNECTION && row.user_id == installation.user_id
}

/// Breaks a connection, in the caller's transaction, which holds the locks of the installation and
/// of the row, in this order. Its tokens go into the revocation job; the row stays and says why.
#[expect(clippy::too_many_arguments, reason = "each is another room's")]
pub(crate) async fn break_connection(
    ring: &KeyRing,
    board: &Board,
    work: &UnitOfWork,
    installation: &installation::Model,
    row: &connection::Model,
    reason: &str,
    actor: &Actor,
    seam: &Seam,
) -> Result<(), OAuthError> {
    let now = seam.clock.now();
    revoke_tokens(ring, work, row, now, seam).await?;
    let nothing = Option::<Vec<u8>>::None;
    connection::Entity::update_many()
        .col_expr(connection::Column::Health, Expr::value("broken"))
        .col_expr(connection::Column::Reason, Expr::value(reason))
        .col_expr(connection::Column::SealedAccessToken, Expr::value(Vec::<u8>::new()))
        .col_expr(connection::Column::SealedRefreshToken, Expr::value(nothing.clone()))
        .col_expr(connection::Column::SealedFormerRefreshToken, Expr::value(nothing))
        .col_expr(connection::Column::Version, Expr::value(row.version + 1))
        .col_expr(connection::Column::ClaimedBy, Expr::value(Option::<Uuid>::None))
        .col_expr(connection::Column::ClaimedUntil, Expr::value(Option::<i64>::None))
        .col_expr(connection::Column::RefreshDueAt, Expr::value(Option::<i64>::None))
        .col_expr(connection::Column::UpdatedAt, Expr::value(now.micros()))
        .filter(connection::Column::Id.eq(row.id))
        .exec(work.connection())
        .await?;
    let mut shown = installation::Entity::update_many()
        .col_expr(installation::Column::UpdatedAt, Expr::value(now.micros()))
        .filter(installation::Column::Id.eq(installation.id));
    if is_main(installation, row) {
        shown = shown
            .col_expr(installation::Column::ConnectionHealth, Expr::value("broken"))
            .col_expr(installation::Column::ConnectionReason, Expr::value(reason));
    }
    shown.exec(work.connection()).await?;
    work.installation_changed(installation.id);
    let whose = match row.user_id.as_str() {
        "" => format!("the connection {:?}", row.name),
        user => format!("the connection {:?} of user {user}", row.name),
    };
    board
        .post(
            work,
            &Notice {
                kind: NoticeKind::ConnectionBroken,
                subject: subject(row.id),
                org_id: installation.org_id.clone(),
                extension_key: Some(installation.extension_key.clone()),
                installation_id: Some(installation.id),
                webhook_id: None,
                message: format!(
                    "{whose} of extension {} to {:?} is broken: {reason}. Authorise it again.",
                    installation.extension_key, row.service_name
                ),
            },
        )
        .await?;
    record(work, installation, row, "connectionBroken", Some(reason), actor, seam).await
}

/// Shows other scopes of a connection than before with its installation, in the caller's transaction,
/// which holds the locks of both.
pub(super) async fn show_scopes(
    work: &UnitOfWork,
    installation: &installation::Model,
    row: &connection::Model,
    scopes: &str,
    now: Timestamp,
) -> Result<(), OAuthError> {
    let mut shown = installation::Entity::update_many()
        .col_expr(installation::Column::UpdatedAt, Expr::value(now.micros()))
        .filter(installation::Column::Id.eq(installation.id));
    if is_main(installation, row) {
        shown = shown.col_expr(installation::Column::GrantedScopes, Expr::value(scopes));
    }
    shown.exec(work.connection()).await?;
    work.installation_changed(installation.id);
    Ok(())
}

/// Writes what happened to a connection into history and audit.
pub(super) async fn record(
    work: &UnitOfWork,
    installation: &installation::Model,
    row: &connection::Model,
    command: &'static str,
    reason: Option<&str>,
    actor: &Actor,
    seam: &Seam,
) -> Result<(), OAuthError> {
    let now = seam.clock.now();
    let state = if installation.state == "active" && installation.suspended_by != 0 {
        "suspended"
    } else {
        installation.state.as_str()
    };
    let mut why = format!("connection {}", row.name);
    if !row.user_id.is_empty() {
        why = format!("{why} of user {}", row.user_id);
    }
    if let Some(reason) = reason {
        why = format!("{why}: {reason}");
    }
    transition::Entity::insert(transition::ActiveModel {
        id: Set(seam.randomness.id()),
        installation_id: Set(installation.id),
        at: Set(now.micros()),
        actor: Set(actor.name.clone()),
        address: Set(actor.address.map(|address| address.to_string())),
        command: Set(command.to_owned()),
        from_state: Set(Some(state.to_owned())),
        to_state: Set(state.to_owned()),
        generation: Set(installation.generation),
        reason: Set(Some(why)),
    })
    .exec_without_returning(work.connection())
    .await?;
    let entry = Entry {
        chain: &installation.org_id,
        action: &format!("installation.{command}"),
        subject: format!("installation:{}", installation.id),
        detail: Some(serde_json::json!({
            "extensionKey": installation.extension_key,
            "generation": installation.generation,
            "connection": row.name,
            "userId": row.user_id,
            "service": row.service_name,
            "reason": reason,
        })),
    };
    audit::append(work, entry, actor, now, &seam.randomness).await?;
    Ok(())
}
