//! The kill switch: one extension, all orgs, one call; reversible, and nothing queued is lost.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    Statement, sea_query::Expr,
};

use super::error::LifecycleError;
use super::service::{Lifecycle, state_of};
use super::state::{Holder, Holders};
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::store::claims::HELD;
use crate::store::entity::{extension, installation, transition};
use crate::store::{RoutingChange, UnitOfWork};

/// How many steps one statement writes.
const HISTORY_PAGE: usize = 500;

impl Lifecycle {
    /// Suspends an extension in all orgs. Returns how many installations that touched.
    pub async fn suspend_extension(
        &self,
        work: &mut UnitOfWork,
        key: &str,
        holder: Holder,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let row = self.lock_extension(work, key).await?;
        let holders = Holders::from_number(row.suspended_by);
        if holders.contains(holder) {
            return Ok(0);
        }
        extension::Entity::update_many()
            .col_expr(extension::Column::SuspendedBy, Expr::value(holders.with(holder).number()))
            .col_expr(extension::Column::SuspendedAt, Expr::value(now.micros()))
            .col_expr(extension::Column::SuspendedReason, Expr::value(reason))
            .filter(extension::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        self.switch(work, key, holder, true, reason, actor).await
    }

    /// Lifts the kill switch: each holder its own. Returns how many installations that touched.
    pub async fn resume_extension(
        &self,
        work: &mut UnitOfWork,
        key: &str,
        holder: Holder,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let row = self.lock_extension(work, key).await?;
        let holders = Holders::from_number(row.suspended_by);
        if !holders.contains(holder) {
            return if holders.is_empty() {
                Ok(0)
            } else {
                Err(LifecycleError::HeldByOthers {
                    extension: key.to_owned(),
                    holders: holders.names().join(", "),
                })
            };
        }
        let left = holders.without(holder);
        let mut lifted = extension::Entity::update_many()
            .col_expr(extension::Column::SuspendedBy, Expr::value(left.number()))
            .filter(extension::Column::Id.eq(row.id));
        if left.is_empty() {
            lifted = lifted
                .col_expr(extension::Column::SuspendedAt, Expr::value(Option::<i64>::None))
                .col_expr(extension::Column::SuspendedReason, Expr::value(Option::<String>::None));
        }
        lifted.exec(work.connection()).await?;
        let touched = self.switch(work, key, holder, false, reason, actor).await?;
        // What was held goes on where nobody else holds the installation.
        let backend = work.connection().get_database_backend();
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                backend,
                "update deliveries set state = 0, claim = null, due_at = $1
                 where due_at = $2 and state = 1 and endpoint_id in (
                     select w.id from webhooks w join installations i on i.id = w.installation_id
                     where w.extension_key = $3 and i.suspended_by = 0)",
                [now.micros().into(), HELD.into(), key.into()],
            ))
            .await?;
        Ok(touched)
    }

    pub(super) async fn lock_extension(
        &self,
        work: &UnitOfWork,
        key: &str,
    ) -> Result<extension::Model, LifecycleError> {
        extension::Entity::find()
            .filter(extension::Column::ExtensionKey.eq(key))
            .lock_exclusive()
            .one(work.connection())
            .await?
            .ok_or_else(|| {
                crate::catalogue::CatalogueError::UnknownExtension { key: key.to_owned() }.into()
            })
    }

    /// One statement a table, however many installations there are.
    async fn switch(
        &self,
        work: &mut UnitOfWork,
        key: &str,
        holder: Holder,
        on: bool,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let bit = Holders::NONE.with(holder).number();
        let change =
            if on { format!("suspended_by | {bit}") } else { format!("suspended_by & ~{bit}") };
        let command = if on { "suspend" } else { "resume" };
        let live = installation::Entity::find()
            .filter(installation::Column::ExtensionKey.eq(key))
            .filter(installation::Column::Live.eq(1))
            .all(work.connection())
            .await?;
        let steps: Vec<transition::ActiveModel> = live
            .into_iter()
            .map(|mut row| {
                let from = state_of(&row).name();
                let held = Holders::from_number(row.suspended_by);
                let held = if on { held.with(holder) } else { held.without(holder) };
                row.suspended_by = held.number();
                transition::ActiveModel {
                    id: Set(self.inner.seam.randomness.id()),
                    installation_id: Set(row.id),
                    at: Set(now.micros()),
                    actor: Set(actor.name.clone()),
                    address: Set(actor.address.map(|address| address.to_string())),
                    command: Set(command.to_owned()),
                    from_state: Set(Some(from.to_owned())),
                    to_state: Set(state_of(&row).name().to_owned()),
                    generation: Set(row.generation),
                    reason: Set(Some(reason.to_owned())),
                }
            })
            .collect();
        for page in steps.chunks(HISTORY_PAGE) {
            transition::Entity::insert_many(page.to_vec())
                .exec_without_returning(work.connection())
                .await?;
        }
        let touched = installation::Entity::update_many()
            .col_expr(installation::Column::SuspendedBy, Expr::cust(change))
            .col_expr(installation::Column::UpdatedAt, Expr::value(now.micros()))
            .filter(installation::Column::ExtensionKey.eq(key))
            .filter(installation::Column::Live.eq(1))
            .exec(work.connection())
            .await?
            .rows_affected;
        work.routing_changed(RoutingChange::Extension(key.to_owned()));
        audit::append(
            work,
            Entry {
                chain: PLATFORM_CHAIN,
                action: &format!("extension.{command}"),
                subject: format!("extension:{key}"),
                detail: Some(serde_json::json!({ "installations": touched, "reason": reason })),
            },
            actor,
            now,
            &self.inner.seam.randomness,
        )
        .await?;
        Ok(touched)
    }
}
