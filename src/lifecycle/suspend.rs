//! The kill switch: one extension, all orgs, one call; reversible, and nothing queued is lost.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, Statement, sea_query::Expr,
};

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Holder;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::store::claims::HELD;
use crate::store::entity::{extension, installation};
use crate::store::{RoutingChange, UnitOfWork};

impl Lifecycle {
    /// Suspends an extension in all orgs. Returns how many installations that touched.
    pub async fn suspend_extension(
        &self,
        work: &mut UnitOfWork,
        key: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let row = self.lock_extension(work, key).await?;
        if row.suspended_at.is_some() {
            return Ok(0);
        }
        extension::Entity::update_many()
            .col_expr(extension::Column::SuspendedAt, Expr::value(now.micros()))
            .col_expr(extension::Column::SuspendedReason, Expr::value(reason))
            .filter(extension::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        self.switch(work, key, true, reason, actor).await
    }

    /// Lifts the kill switch. Returns how many installations that touched.
    pub async fn resume_extension(
        &self,
        work: &mut UnitOfWork,
        key: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let row = self.lock_extension(work, key).await?;
        if row.suspended_at.is_none() {
            return Ok(0);
        }
        extension::Entity::update_many()
            .col_expr(extension::Column::SuspendedAt, Expr::value(Option::<i64>::None))
            .col_expr(extension::Column::SuspendedReason, Expr::value(Option::<String>::None))
            .filter(extension::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        let touched = self.switch(work, key, false, reason, actor).await?;
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

    async fn lock_extension(
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
        on: bool,
        reason: &str,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let bit = super::state::Holders::NONE.with(Holder::Operator).number();
        let change =
            if on { format!("suspended_by | {bit}") } else { format!("suspended_by & ~{bit}") };
        let backend = work.connection().get_database_backend();
        let command = if on { "suspend" } else { "resume" };
        // The history first: it reads the state before.
        let new_id = match backend {
            sea_orm::DatabaseBackend::Postgres => "gen_random_uuid()",
            _ => "randomblob(16)",
        };
        let name_after = if on {
            "case when state = 'active' then 'suspended' else state end".to_owned()
        } else {
            format!(
                "case when state = 'active' and (suspended_by & ~{bit}) <> 0 then 'suspended' else state end"
            )
        };
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                backend,
                format!(
                    "insert into transitions (id, installation_id, at, actor, address, command, \
                     from_state, to_state, generation, reason) \
                     select {new_id}, id, $1, $2, $3, $4, \
                       case when state = 'active' and suspended_by <> 0 then 'suspended' else state end, \
                       {name_after}, generation, $5 \
                     from installations where extension_key = $6 and live = 1"
                ),
                [
                    now.micros().into(),
                    actor.name.clone().into(),
                    actor.address.map(|address| address.to_string()).into(),
                    command.into(),
                    reason.into(),
                    key.into(),
                ],
            ))
            .await?;
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
