//! Generations after a restored backup: the marketplace may have seen higher ones than are kept
//! here, and none may be given twice.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement,
    sea_query::{Expr, OnConflict},
};

use super::error::LifecycleError;
use crate::store::UnitOfWork;
use crate::store::entity::{installation_generation, setting};

/// The setting that says from which generation an extension's first installation in an org counts.
pub(super) const FLOOR: &str = "generation_floor";

/// How far generations are raised at a restore: more reinstalls of one extension in one org than can
/// lie between a backup and its loss.
const MARGIN: i32 = 1_000;

/// The generation after which a pair of org and extension begins that was never seen.
pub(super) async fn floor(connection: &impl ConnectionTrait) -> Result<i32, LifecycleError> {
    let row = setting::Entity::find_by_id(FLOOR).one(connection).await?;
    match row {
        None => Ok(0),
        Some(row) => {
            row.value.parse().map_err(|_| LifecycleError::Unreadable { what: "generation floor" })
        }
    }
}

/// Raises all generations beyond what any of them can have become since the backup, and those of
/// pairs that are not known here too. Returns the generation after which all go on.
pub async fn raise_generations(work: &UnitOfWork) -> Result<i32, LifecycleError> {
    let connection = work.connection();
    let statement = Statement::from_string(
        connection.get_database_backend(),
        "select coalesce(max(generation), 0) from installation_generations",
    );
    let highest: i32 = match connection.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    let raised = floor(connection).await?.max(highest).saturating_add(MARGIN);
    setting::Entity::insert(setting::ActiveModel {
        name: Set(FLOOR.to_owned()),
        value: Set(raised.to_string()),
    })
    .on_conflict(
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned(),
    )
    .exec_without_returning(connection)
    .await?;
    raise(work, None, raised).await?;
    Ok(raised)
}

/// Raises the generation of one pair to one that somebody has seen.
pub async fn raise_generation(
    work: &UnitOfWork,
    org_id: &str,
    extension_key: &str,
    seen: i32,
) -> Result<(), LifecycleError> {
    installation_generation::Entity::insert(installation_generation::ActiveModel {
        org_id: Set(org_id.to_owned()),
        extension_key: Set(extension_key.to_owned()),
        generation: Set(seen),
    })
    .on_conflict_do_nothing_on([
        installation_generation::Column::OrgId,
        installation_generation::Column::ExtensionKey,
    ])
    .exec_without_returning(work.connection())
    .await
    .map(|_| ())
    .or_else(|error| match error {
        sea_orm::DbErr::RecordNotInserted => Ok(()),
        other => Err(other),
    })?;
    raise(work, Some((org_id, extension_key)), seen).await
}

async fn raise(
    work: &UnitOfWork,
    pair: Option<(&str, &str)>,
    generation: i32,
) -> Result<(), LifecycleError> {
    use installation_generation::Column;
    let mut update = installation_generation::Entity::update_many()
        .col_expr(Column::Generation, Expr::value(generation))
        .filter(Column::Generation.lt(generation));
    if let Some((org_id, extension_key)) = pair {
        update =
            update.filter(Column::OrgId.eq(org_id)).filter(Column::ExtensionKey.eq(extension_key));
    }
    update.exec(work.connection()).await?;
    Ok(())
}
