//! What belongs to installations and is shown with them, in as few statements as it takes: the
//! answer to a step is read while the step's locks are held.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder,
    QuerySelect, RelationDef, Statement, Value,
};
use uuid::Uuid;

use super::connection_views as connections;
use super::consent::WaitingUpgrade;
use super::error::LifecycleError;
use super::views::{InstallationView, WebhookView, named_views};
use crate::store::claims::DeliveryState;
use crate::store::entity::{endpoint_state, extension_version, installation, upgrade, webhook};

/// Adds what belongs to installations. All of it is read in one transaction, so that no step lies
/// between an installation and what is shown of it.
pub(super) async fn of_rows<C: ConnectionTrait>(
    connection: &C,
    rows: Vec<installation::Model>,
    most_connections: u32,
) -> Result<Vec<InstallationView>, LifecycleError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let versions = extension_version::Entity::find()
        .filter(extension_version::Column::Id.is_in(rows.iter().map(|row| row.version_id)))
        .all(connection)
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    of(connection, rows, versions, most_connections).await
}

/// The same, where the versions that serve them are known.
pub(super) async fn of<C: ConnectionTrait>(
    connection: &C,
    rows: Vec<installation::Model>,
    versions: HashMap<Uuid, extension_version::Model>,
    most_connections: u32,
) -> Result<Vec<InstallationView>, LifecycleError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut waiting = waiting_upgrades(connection, &rows).await?;
    let noted = Noted::of(connection, &ids).await?;
    let mut held = connections::held(connection, &ids, most_connections).await?;
    let mut webhooks = webhooks_of(connection, &rows, &versions, &noted).await?;
    rows.into_iter()
        .map(|row| {
            let version = versions
                .get(&row.version_id)
                .cloned()
                .ok_or(LifecycleError::Unreadable { what: "version" })?;
            let vendor_setup = noted.get(&row.id).map_or("ok", Noted::vendor_setup);
            let webhooks = webhooks.remove(&row.id).unwrap_or_default();
            let held = held.remove(&row.id).unwrap_or_default();
            let connection_count = held.count;
            let connections = connections::views(&row, &version, held);
            let waiting_upgrade = waiting.remove(&row.id);
            Ok(InstallationView {
                row,
                version,
                vendor_setup,
                webhooks,
                connections,
                connection_count,
                waiting_upgrade,
            })
        })
        .collect()
}

/// What is noted of an installation outside of its row.
#[derive(Debug, FromQueryResult)]
struct Noted {
    id: Uuid,
    extension_name: Option<String>,
    /// What became of `onInstall`, as far as its delivery is still kept.
    setup: Option<i16>,
    /// Later what was noted of it stands in for it.
    health: Option<String>,
}

impl Noted {
    async fn of<C: ConnectionTrait>(
        connection: &C,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Self>, LifecycleError> {
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        // A callback goes by the lane that has the id of its installation.
        let sql = format!(
            "select i.id, x.name as extension_name, s.health,
                 (select d.state from journal j join deliveries d on d.id = j.delivery_id
                  where j.installation_id = i.id and j.event = 'onInstall'
                  order by j.position desc limit 1) as setup
             from installations i
             left join extensions x on x.extension_key = i.extension_key
             left join endpoint_states s on s.endpoint_id = i.id
             where i.id in ({})",
            places.join(", ")
        );
        let dialect = connection.get_database_backend();
        let values = ids.iter().map(|id| Value::from(*id));
        let rows = Self::find_by_statement(Statement::from_sql_and_values(dialect, sql, values))
            .all(connection)
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }

    fn vendor_setup(&self) -> &'static str {
        let setup = self.setup.and_then(DeliveryState::from_number);
        match (setup, self.health.as_deref()) {
            (Some(DeliveryState::Delivered), _) | (None, None | Some("ok")) => "ok",
            (Some(DeliveryState::Pending | DeliveryState::Held), _) | (None, Some("pending")) => {
                "pending"
            }
            (Some(DeliveryState::Failed | DeliveryState::Cancelled), _) | (None, Some(_)) => {
                "failed"
            }
        }
    }
}

/// The webhooks of some installations, by installation.
async fn webhooks_of<C: ConnectionTrait>(
    connection: &C,
    rows: &[installation::Model],
    versions: &HashMap<Uuid, extension_version::Model>,
    noted: &HashMap<Uuid, Noted>,
) -> Result<HashMap<Uuid, Vec<WebhookView>>, LifecycleError> {
    let known: RelationDef = webhook::Entity::belongs_to(endpoint_state::Entity)
        .from(webhook::Column::Id)
        .to(endpoint_state::Column::EndpointId)
        .into();
    let found = webhook::Entity::find()
        .filter(webhook::Column::InstallationId.is_in(rows.iter().map(|row| row.id)))
        .order_by_asc(webhook::Column::Id)
        .join(JoinType::LeftJoin, known)
        .select_also(endpoint_state::Entity)
        .all(connection)
        .await?;
    let mut hooks = Vec::with_capacity(found.len());
    let mut states = HashMap::new();
    for (hook, state) in found {
        states.extend(state.map(|state| (hook.id, state)));
        hooks.push(hook);
    }
    let serving = rows
        .iter()
        .filter_map(|row| Some((row.id, versions.get(&row.version_id)?.version.clone())))
        .collect();
    let names = rows
        .iter()
        .filter_map(|row| {
            Some((row.extension_key.clone(), noted.get(&row.id)?.extension_name.clone()?))
        })
        .collect();
    let mut by_installation: HashMap<Uuid, Vec<WebhookView>> = HashMap::new();
    for view in named_views(connection, hooks, &states, &serving, &names).await? {
        if let Some(id) = view.row.installation_id {
            by_installation.entry(id).or_default().push(view);
        }
    }
    Ok(by_installation)
}

/// The upgrades that wait for some installations, by installation.
async fn waiting_upgrades<C: ConnectionTrait>(
    connection: &C,
    rows: &[installation::Model],
) -> Result<HashMap<Uuid, WaitingUpgrade>, LifecycleError> {
    let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.waiting_upgrade_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found =
        upgrade::Entity::find().filter(upgrade::Column::Id.is_in(ids)).all(connection).await?;
    let versions: HashMap<Uuid, String> = extension_version::Entity::find()
        .filter(extension_version::Column::Id.is_in(found.iter().map(|row| row.version_id)))
        .all(connection)
        .await?
        .into_iter()
        .map(|row| (row.id, row.version))
        .collect();
    found
        .into_iter()
        .map(|row| {
            let version = versions
                .get(&row.version_id)
                .cloned()
                .ok_or(LifecycleError::Unreadable { what: "version" })?;
            Ok((row.installation_id, WaitingUpgrade::new(row, version)?))
        })
        .collect()
}
