//! The order in which changes become visible: positions are given out at the very end of a
//! transaction, under a lock that is held until its commit.
//!
//! An id made in the middle of a transaction says nothing of when others can see its row; whoever
//! reads on from the last id that it saw would miss rows of slower transactions. A position cannot
//! be overtaken.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseBackend, DatabaseTransaction,
    EntityTrait, QueryFilter, Statement, Value, sea_query::Expr,
};
use uuid::Uuid;

use super::entity::{installation, journal};
use super::error::StoreError;
use crate::seam::Timestamp;

/// How many installations one statement names.
const NAMED: usize = 500;

/// A lifecycle callback that a transaction wrote.
#[derive(Clone, Debug)]
pub(crate) struct Journalled {
    pub(crate) delivery_id: Uuid,
    pub(crate) installation_id: Uuid,
    pub(crate) extension_key: String,
    pub(crate) event: String,
    pub(crate) at: Timestamp,
}

/// What a transaction changed that others read on from.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) journal: Vec<Journalled>,
    pub(super) installations: Vec<Uuid>,
    pub(super) extensions: Vec<String>,
}

impl Noted {
    fn is_empty(&self) -> bool {
        self.journal.is_empty() && self.installations.is_empty() && self.extensions.is_empty()
    }

    /// Gives each change its position. Nothing may follow but the commit.
    pub(super) async fn write(self, transaction: &DatabaseTransaction) -> Result<(), StoreError> {
        if self.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(self.journal.len()).unwrap_or(i64::MAX).saturating_add(1);
        if transaction.get_database_backend() == DatabaseBackend::Postgres
            && self.extensions.is_empty()
            && self.installations.len() + self.journal.len() <= NAMED
        {
            return self.write_together(transaction, count).await;
        }
        let last: i64 = transaction
            .query_one_raw(Statement::from_sql_and_values(
                transaction.get_database_backend(),
                "update change_positions set last = last + $1 where singleton = 1 returning last",
                [count.into()],
            ))
            .await?
            .ok_or(StoreError::Corrupt { what: "row of change positions" })?
            .try_get_by_index(0)?;
        for ids in self.installations.chunks(NAMED) {
            installation::Entity::update_many()
                .col_expr(installation::Column::ChangePosition, Expr::value(last))
                .filter(installation::Column::Id.is_in(ids.iter().copied()))
                .exec(transaction)
                .await?;
        }
        for key in self.extensions {
            installation::Entity::update_many()
                .col_expr(installation::Column::ChangePosition, Expr::value(last))
                .filter(installation::Column::ExtensionKey.eq(key))
                .filter(installation::Column::Live.eq(1))
                .exec(transaction)
                .await?;
        }
        let first = last - count + 1;
        for (entry, position) in self.journal.into_iter().zip(first..) {
            journal::Entity::insert(journal::ActiveModel {
                position: Set(position),
                delivery_id: Set(entry.delivery_id),
                installation_id: Set(entry.installation_id),
                extension_key: Set(entry.extension_key),
                event: Set(entry.event),
                at: Set(entry.at.micros()),
            })
            .exec_without_returning(transaction)
            .await?;
        }
        Ok(())
    }

    /// The same in one round trip to PostgreSQL.
    async fn write_together(
        self,
        transaction: &DatabaseTransaction,
        count: i64,
    ) -> Result<(), StoreError> {
        let mut values: Vec<Value> = vec![count.into()];
        let mut place = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut parts = vec![
            "moved as (update change_positions set last = last + $1 where singleton = 1 \
             returning last)"
                .to_owned(),
        ];
        if !self.installations.is_empty() {
            let ids: Vec<String> =
                self.installations.into_iter().map(|id| place(id.into())).collect();
            parts.push(format!(
                "changed as (update installations set change_position = moved.last from moved \
                 where installations.id in ({}))",
                ids.join(", ")
            ));
        }
        if !self.journal.is_empty() {
            let rows: Vec<String> = self
                .journal
                .into_iter()
                .zip(1_i64..)
                .map(|(entry, number)| {
                    let row = [
                        place(number.into()),
                        place(entry.delivery_id.into()),
                        place(entry.installation_id.into()),
                        place(entry.extension_key.into()),
                        place(entry.event.into()),
                        place(entry.at.micros().into()),
                    ];
                    format!("({})", row.join(", "))
                })
                .collect();
            parts.push(format!(
                "told as (insert into journal
                     (position, delivery_id, installation_id, extension_key, event, at)
                 select moved.last - $1 + entry.number, entry.delivery_id, entry.installation_id,
                     entry.extension_key, entry.event, entry.at
                 from moved, (values {}) as entry
                     (number, delivery_id, installation_id, extension_key, event, at))",
                rows.join(", ")
            ));
        }
        let sql = format!("with {} select last from moved", parts.join(", "));
        let statement =
            Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
        let moved = transaction.query_one_raw(statement).await?;
        moved.map(|_| ()).ok_or(StoreError::Corrupt { what: "row of change positions" })
    }
}
