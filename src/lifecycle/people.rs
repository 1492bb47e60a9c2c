//! A user leaves an org: what he granted is broken at once, what was his own goes.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Command;
use crate::audit::{self, Actor, Entry};
use crate::extension_data;
use crate::store::UnitOfWork;
use crate::store::entity::{
    authorization_request, connection, installation, page_session, portal_link,
};

/// How many installations one transaction sees to.
const PAGE: u64 = 50;

/// How often a page is begun anew that gave way to another transaction.
const MOST_TURNS: u32 = 5;

/// Why his own installations end.
const REASON: &str = "the user was removed from the org";

/// Ends what sessions and unused links into the pages there are of an org: of one of its people by
/// the host's name for him, or of all.
pub(super) async fn end_visits(
    work: &UnitOfWork,
    org_id: &str,
    subject: Option<&str>,
) -> Result<(), LifecycleError> {
    let mut sessions =
        page_session::Entity::delete_many().filter(page_session::Column::OrgId.eq(org_id));
    let mut links =
        portal_link::Entity::delete_many().filter(portal_link::Column::OrgId.eq(org_id));
    if let Some(subject) = subject {
        sessions = sessions.filter(page_session::Column::Subject.eq(subject));
        links = links.filter(portal_link::Column::Subject.eq(subject));
    }
    // Links first: that waits for whoever is using one, whose session is then there to be ended.
    links.exec(work.connection()).await?;
    sessions.exec(work.connection()).await?;
    Ok(())
}

/// What became of a user's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLeft {
    /// Connections of others that he had granted.
    pub broken_connections: u64,
    /// His own.
    pub removed_connections: u64,
    /// His personal installations.
    pub uninstalled: u64,
}

impl Lifecycle {
    /// Sees to everything that a user who leaves had granted, page by page. Again is the same, and
    /// goes on where a crash cut it off.
    pub async fn user_removed(
        &self,
        org_id: &str,
        user_id: &str,
        actor: &Actor,
    ) -> Result<UserLeft, LifecycleError> {
        let mut left = UserLeft::default();
        let mut after = None;
        loop {
            let mut turns = 0;
            let (page, last) = loop {
                match self.user_removed_page(org_id, user_id, after, actor).await {
                    Err(error) if error.is_contention() && turns < MOST_TURNS => turns += 1,
                    done => break done?,
                }
            };
            left.broken_connections += page.broken_connections;
            left.removed_connections += page.removed_connections;
            left.uninstalled += page.uninstalled;
            if last.is_none() {
                return Ok(left);
            }
            after = last;
        }
    }

    async fn user_removed_page(
        &self,
        org_id: &str,
        user_id: &str,
        after: Option<uuid::Uuid>,
        actor: &Actor,
    ) -> Result<(UserLeft, Option<uuid::Uuid>), LifecycleError> {
        let mut left = UserLeft::default();
        let mut work = self.begin().await?;
        // Third parties post for him no more.
        extension_data::user_tokens::user_removed(&work, org_id, user_id).await?;
        end_visits(&work, org_id, Some(user_id)).await?;
        let granted = connection::Entity::find()
            .select_only()
            .column(connection::Column::InstallationId)
            .filter(
                Condition::any()
                    .add(connection::Column::GrantedBy.eq(user_id))
                    .add(connection::Column::UserId.eq(user_id)),
            )
            .into_query();
        let his_requests = || {
            Condition::any()
                .add(authorization_request::Column::GrantedBy.eq(user_id))
                .add(authorization_request::Column::UserId.eq(user_id))
        };
        let begun = authorization_request::Entity::find()
            .select_only()
            .column(authorization_request::Column::InstallationId)
            .filter(his_requests())
            .into_query();
        let mut query = installation::Entity::find()
            .filter(installation::Column::OrgId.eq(org_id))
            .filter(installation::Column::Live.eq(1))
            .filter(
                Condition::any()
                    .add(installation::Column::UserId.eq(user_id))
                    .add(installation::Column::Id.in_subquery(granted))
                    .add(installation::Column::Id.in_subquery(begun)),
            )
            .order_by_asc(installation::Column::Id)
            .limit(PAGE)
            .lock_exclusive();
        if let Some(after) = after {
            query = query.filter(installation::Column::Id.gt(after));
        }
        let rows = query.all(work.connection()).await?;
        let last = (rows.len() as u64 == PAGE).then(|| rows.last().map(|row| row.id)).flatten();
        for row in rows {
            if row.user_id == user_id {
                let mut locked = self.for_its_end(&work, row).await?;
                let reason = Some(REASON);
                self.take(&mut work, &mut locked, Command::Uninstall, actor, reason).await?;
                left.uninstalled += 1;
                continue;
            }
            let connections = &self.inner.connections;
            let (broken, removed) = connections.user_left(&work, &row, user_id, actor).await?;
            left.broken_connections += broken;
            left.removed_connections += removed;
            // What he was about to grant is granted no more.
            authorization_request::Entity::delete_many()
                .filter(authorization_request::Column::InstallationId.eq(row.id))
                .filter(his_requests())
                .exec(work.connection())
                .await?;
        }
        self.commit(work).await?;
        Ok((left, last))
    }

    /// Writes into the audit that a user left.
    pub async fn note_user_removed(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        left: UserLeft,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let entry = Entry {
            chain: org_id,
            action: "org.user-removed",
            // No erasure would find a user's name here; the audit of what was his has it, erasably.
            subject: format!("org:{org_id}"),
            detail: Some(serde_json::json!({
                "brokenConnections": left.broken_connections,
                "removedConnections": left.removed_connections,
                "uninstalled": left.uninstalled,
            })),
        };
        let seam = &self.inner.seam;
        audit::append(work, entry, actor, seam.clock.now(), &seam.randomness).await?;
        Ok(())
    }
}
