//! By what a definition of another system is recognised that was imported before: its id there.

use std::collections::HashMap;

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use uuid::Uuid;

use super::plan;
use super::writing::{OwnRefusal, OwnWebhooks, refuse_while_closing};
use crate::audit::{self, Actor, Entry};
use crate::store::entity::imported_definition;
use crate::store::{StoreError, UnitOfWork};
use crate::webhook::importing::{ImportSource, Part};

/// What of an org was imported from a system, by what it became and its id there.
pub type Imported = HashMap<(String, String), Uuid>;

/// A definition that was carried over: what it became, its id there, and its id here.
pub type Carried<'i> = (Part, &'i str, Uuid);

/// The key of a definition among what was imported.
pub fn imported_key(part: Part, source_id: &str) -> (String, String) {
    (part.as_str().to_owned(), source_id.to_owned())
}

impl OwnWebhooks {
    /// What an org has imported from a system.
    pub async fn imported(
        &self,
        org_id: &str,
        source: ImportSource,
    ) -> Result<Imported, StoreError> {
        read(self.store.reader(), org_id, source).await
    }

    /// The same as a transaction sees it. From here on nobody else changes the org's webhooks.
    pub async fn imported_within(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        source: ImportSource,
    ) -> Result<Imported, OwnRefusal> {
        plan::lock(work, org_id, self.seam.clock.now()).await?;
        refuse_while_closing(work, org_id).await?;
        Ok(read(work.connection(), org_id, source).await?)
    }

    /// Keeps by what an imported definition is recognised.
    pub async fn keep_imported(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        source: ImportSource,
        (part, source_id): (Part, &str),
        target: Uuid,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        imported_definition::Entity::insert(imported_definition::ActiveModel {
            org_id: Set(org_id.to_owned()),
            source: Set(source.as_str().to_owned()),
            part: Set(part.as_str().to_owned()),
            source_id: Set(source_id.to_owned()),
            target_id: Set(target),
            imported_by: Set(actor.name.clone()),
            imported_at: Set(self.seam.clock.now().micros()),
        })
        .exec_without_returning(work.connection())
        .await?;
        Ok(())
    }

    /// Puts an import that made or changed something into the audit; each webhook and rule has its own row
    /// beside it.
    pub async fn audit_import(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        source: ImportSource,
        (made, updated): (&[Carried<'_>], &[Carried<'_>]),
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let listed = |all: &[Carried<'_>]| -> Vec<Value> {
            all.iter()
                .map(|(part, source_id, id)| {
                    json!({ "part": part.as_str(), "sourceId": source_id, "id": id })
                })
                .collect()
        };
        let (made, updated) = (listed(made), listed(updated));
        let entry = Entry {
            chain: org_id,
            action: "webhook.import",
            subject: format!("import:{}", source.as_str()),
            detail: Some(json!({ "made": made, "updated": updated })),
        };
        audit::append(work, entry, actor, self.seam.clock.now(), &self.seam.randomness).await
    }
}

async fn read(
    connection: &impl ConnectionTrait,
    org_id: &str,
    source: ImportSource,
) -> Result<Imported, StoreError> {
    let rows = imported_definition::Entity::find()
        .filter(imported_definition::Column::OrgId.eq(org_id))
        .filter(imported_definition::Column::Source.eq(source.as_str()))
        .all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| ((row.part, row.source_id), row.target_id)).collect())
}

/// Forgets where something came from that goes: another import makes it again.
pub(super) async fn forget_imported(
    connection: &impl ConnectionTrait,
    targets: impl IntoIterator<Item = Uuid>,
) -> Result<(), StoreError> {
    imported_definition::Entity::delete_many()
        .filter(imported_definition::Column::TargetId.is_in(targets))
        .exec(connection)
        .await?;
    Ok(())
}
