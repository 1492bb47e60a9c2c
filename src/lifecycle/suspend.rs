//! The kill switch: one extension, all orgs, one call; reversible, and nothing queued is lost.
//!
//! The switch has bits of its own in each installation, so that lifting it leaves alone what holds
//! a single one. Rows are gone through in pages: memory stays bounded, and locks are taken in the
//! order of ids. What was held goes on after the commit, in the bounded steps in which everything
//! that is held of a live webhook does.

use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    Statement, sea_query::Expr,
};
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::{Lifecycle, state_of_parts};
use super::state::{Holder, Holders};
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::notice::{Notice, NoticeKind};
use crate::store::entity::{extension, transition};
use crate::store::{RoutingChange, UnitOfWork};

/// How many installations one statement touches.
const PAGE: usize = 500;

/// An installation as the switch left it.
#[derive(Debug, FromQueryResult)]
struct Touched {
    id: Uuid,
    state: String,
    suspended_by: i32,
    generation: i32,
}

/// What the switch does, and in whose name.
#[derive(Clone, Copy, Debug)]
struct Switch<'a> {
    key: &'a str,
    holder: Holder,
    on: bool,
    /// Whether others hold the extension too.
    is_held: bool,
    reason: &'a str,
}

impl Switch<'_> {
    fn command(&self) -> &'static str {
        if self.on { "suspend" } else { "resume" }
    }

    fn bit(&self) -> i32 {
        Holders::NONE.with_switch(self.holder).number()
    }

    /// Which installations the switch has not touched yet.
    fn pending(&self) -> String {
        let untouched = if self.on { "= 0" } else { "<> 0" };
        format!("live = 1 and (suspended_by & {}) {untouched}", self.bit())
    }

    /// Touches the next installations in the order of their ids. What is asked of them is asked
    /// again of each row under its lock: one that was uninstalled while the statement waited for
    /// it keeps its end.
    fn statement(&self) -> String {
        let change = if self.on {
            format!("suspended_by | {}", self.bit())
        } else {
            format!("suspended_by & ~{}", self.bit())
        };
        let pending = self.pending();
        format!(
            "update installations set suspended_by = {change}, updated_at = $1 where {pending}
               and id in (
                 select id from installations
                 where extension_key = $2 and id > $3 and {pending}
                 order by id limit {PAGE})
             returning id, state, suspended_by, generation"
        )
    }

    /// Whether there is one that it has not touched, behind an id.
    fn question(&self) -> String {
        format!(
            "select id from installations where extension_key = $1 and id > $2 and {} limit 1",
            self.pending()
        )
    }
}

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
        let is_held = !holders.is_empty();
        self.switch(work, Switch { key, holder, on: true, is_held, reason }, actor).await
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
        let is_held = !left.is_empty();
        let switch = Switch { key, holder, on: false, is_held, reason };
        let touched = self.switch(work, switch, actor).await?;
        if left.is_empty() {
            let board = self.inner.dispatcher.notices();
            board
                .resolve(work, &[NoticeKind::ExtensionSuspended], &format!("extension:{key}"))
                .await?;
        }
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

    /// Goes through the live installations page by page. None can come in meanwhile: an install
    /// needs the extension's row, which is locked.
    async fn switch(
        &self,
        work: &mut UnitOfWork,
        switch: Switch<'_>,
        actor: &Actor,
    ) -> Result<u64, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let (statement, command) = (switch.statement(), switch.command());
        let mut touched = 0_u64;
        let mut after = Uuid::nil();
        loop {
            let connection = work.connection();
            let rows = Touched::find_by_statement(Statement::from_sql_and_values(
                connection.get_database_backend(),
                &statement,
                [now.micros().into(), switch.key.into(), after.into()],
            ))
            .all(connection)
            .await?;
            if let Some(last) = rows.iter().map(|row| row.id).max() {
                after = last;
                touched += rows.len() as u64;
                self.note_steps(work, &rows, switch, actor).await?;
            }
            // A page that is not full may have lost what ended meanwhile: more may lie behind it.
            if rows.len() < PAGE && !self.is_pending(work, switch, after).await? {
                break;
            }
        }
        work.routing_changed(RoutingChange::Extension(switch.key.to_owned()));
        work.extension_changed(switch.key);
        // Where somebody else's switch is still on, nothing was resumed.
        if switch.on || !switch.is_held {
            self.post_switch(work, switch, touched).await?;
        }
        let (key, reason) = (switch.key, switch.reason);
        let entry = Entry {
            chain: PLATFORM_CHAIN,
            action: &format!("extension.{command}"),
            subject: format!("extension:{key}"),
            detail: Some(serde_json::json!({
                "installations": touched, "reason": reason, "holder": switch.holder.name(),
            })),
        };
        audit::append(work, entry, actor, now, &self.inner.seam.randomness).await?;
        Ok(touched)
    }

    async fn is_pending(
        &self,
        work: &UnitOfWork,
        switch: Switch<'_>,
        after: Uuid,
    ) -> Result<bool, LifecycleError> {
        let connection = work.connection();
        let found = connection
            .query_one_raw(Statement::from_sql_and_values(
                connection.get_database_backend(),
                switch.question(),
                [switch.key.into(), after.into()],
            ))
            .await?;
        Ok(found.is_some())
    }

    /// Tells that an extension was suspended or resumed.
    async fn post_switch(
        &self,
        work: &UnitOfWork,
        switch: Switch<'_>,
        touched: u64,
    ) -> Result<(), LifecycleError> {
        let (key, reason) = (switch.key, switch.reason);
        let (kind, said) = if switch.on {
            (NoticeKind::ExtensionSuspended, "suspended")
        } else {
            (NoticeKind::ExtensionResumed, "resumed")
        };
        let notice = Notice {
            kind,
            subject: format!("extension:{key}"),
            org_id: String::new(),
            extension_key: Some(key.to_owned()),
            installation_id: None,
            webhook_id: None,
            message: format!(
                "The {} {said} {key} in all orgs ({touched} installations). Reason: {}",
                switch.holder.name(),
                if reason.is_empty() { "none given" } else { reason }
            ),
        };
        Ok(self.inner.dispatcher.notices().post(work, &notice).await?)
    }

    /// Writes the step into the history of each installation of a page.
    async fn note_steps(
        &self,
        work: &UnitOfWork,
        rows: &[Touched],
        switch: Switch<'_>,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let now = self.inner.seam.clock.now();
        let steps = rows.iter().map(|row| {
            let after = Holders::from_number(row.suspended_by);
            let before = if switch.on {
                after.without_switch(switch.holder)
            } else {
                after.with_switch(switch.holder)
            };
            let from = state_of_parts(&row.state, before.number()).name();
            let to = state_of_parts(&row.state, row.suspended_by).name();
            work.transitioned(switch.command(), to);
            transition::ActiveModel {
                id: Set(self.inner.seam.randomness.id()),
                installation_id: Set(row.id),
                at: Set(now.micros()),
                actor: Set(actor.name.clone()),
                address: Set(actor.address.map(|address| address.to_string())),
                command: Set(switch.command().to_owned()),
                from_state: Set(Some(from.to_owned())),
                to_state: Set(to.to_owned()),
                generation: Set(row.generation),
                reason: Set(Some(switch.reason.to_owned())),
            }
        });
        transition::Entity::insert_many(steps).exec_without_returning(work.connection()).await?;
        Ok(())
    }
}
