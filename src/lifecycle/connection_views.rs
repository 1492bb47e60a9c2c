//! Connections as they are shown with installations: bounded, and read without what is sealed.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::read_manifest;
use crate::oauth::declared_connections;
use crate::seam::Timestamp;
use crate::store::entity::{extension_version, installation};

/// How many connections each installation of a list shows.
pub(super) const IN_A_LIST: u32 = 20;

/// How many connections an installation shows that is asked for by itself.
pub(super) const ALONE: u32 = 500;

/// A connection as it is shown: never its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// `zohoAuthorisation`, or the connector's link name.
    pub name: String,
    /// What administrators see it as.
    pub display_name: Option<String>,
    /// The service that grants.
    pub service: String,
    /// `none`, `ok` or `broken`.
    pub health: String,
    /// Why it is broken, in words.
    pub reason: Option<String>,
    /// What was granted, as JSON.
    pub scopes: Option<String>,
    /// Who granted it.
    pub granted_by: Option<String>,
    /// Whose it is; nothing where it is the org's.
    pub user_id: Option<String>,
    /// Whether each user has one of his own.
    pub user_access: bool,
    /// Who made it, as the vendor wrote it. Not checked by anybody.
    pub shared_by: Option<String>,
    /// When it was authorised.
    pub since: Option<Timestamp>,
    /// When its present access token ends, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// What is shown of a connection's row, with how many there are.
#[derive(Debug, FromQueryResult)]
struct Held {
    installation_id: Uuid,
    name: String,
    service_name: String,
    health: String,
    reason: Option<String>,
    scopes: String,
    granted_by: Option<String>,
    user_id: String,
    created_at: i64,
    access_expires_at: Option<i64>,
    of_name: i64,
    total: i64,
}

/// The first connections of an installation.
#[derive(Debug, Default)]
pub(super) struct HeldConnections {
    rows: Vec<Held>,
    /// How many there are.
    pub(super) count: u64,
}

impl HeldConnections {
    /// Whether every name that has a connection is among those that are read.
    fn has_every_name(&self) -> bool {
        self.rows.len() as u64 >= self.count || self.rows.iter().any(|row| row.of_name > 1)
    }
}

/// Reads the first connections of some installations, `most` of each: one of each name before the
/// second of any, the org's before users', the older before the younger.
pub(super) async fn held<C: ConnectionTrait>(
    connection: &C,
    installations: &[Uuid],
    most: u32,
) -> Result<HashMap<Uuid, HeldConnections>, LifecycleError> {
    let mut values: Vec<Value> = vec![i64::from(most).into()];
    values.extend(installations.iter().map(|id| Value::from(*id)));
    let places: Vec<String> = (2..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "select * from (
             select one.*,
                 row_number() over (partition by installation_id order by of_name, id) as place,
                 count(*) over (partition by installation_id) as total
             from (
                 select id, installation_id, name, service_name, health, reason, scopes, granted_by,
                     user_id, created_at, access_expires_at,
                     row_number() over (
                         partition by installation_id, name
                         order by case when user_id = '' then 0 else 1 end, id
                     ) as of_name
                 from connections where installation_id in ({}) and health <> 'ended'
             ) one
         ) placed where place <= $1 order by installation_id, id",
        places.join(", ")
    );
    let dialect = connection.get_database_backend();
    let rows = Held::find_by_statement(Statement::from_sql_and_values(dialect, sql, values))
        .all(connection)
        .await?;
    let mut by_installation: HashMap<Uuid, HeldConnections> = HashMap::new();
    for row in rows {
        let held = by_installation.entry(row.installation_id).or_default();
        held.count = u64::try_from(row.total).unwrap_or(0);
        held.rows.push(row);
    }
    Ok(by_installation)
}

/// The connections that an installation has, and those that it declares and has not.
pub(super) fn views(
    installation: &installation::Model,
    version: &extension_version::Model,
    held: HeldConnections,
) -> Vec<ConnectionView> {
    // What cannot be read of a manifest hides no connection.
    let declared = read_manifest(version)
        .ok()
        .zip(serde_json::from_str(&version.manifest).ok())
        .map(|(manifest, stored)| declared_connections(&manifest, &stored, version.id, |_| true))
        .unwrap_or_default();
    let shows_others = installation.live == 1 && held.has_every_name();
    let names: HashSet<String> = held.rows.iter().map(|row| row.name.clone()).collect();
    let mut views: Vec<ConnectionView> = held
        .rows
        .into_iter()
        .map(|row| {
            let declared = declared.iter().find(|one| one.name == row.name);
            ConnectionView {
                display_name: declared.and_then(|one| one.display_name.clone()),
                service: row.service_name,
                health: row.health,
                reason: row.reason,
                scopes: Some(row.scopes),
                granted_by: row.granted_by,
                user_id: (!row.user_id.is_empty()).then_some(row.user_id),
                user_access: declared.is_some_and(|one| one.user_access),
                shared_by: declared.and_then(|one| one.shared_by.clone()),
                since: Some(Timestamp::from_micros(row.created_at)),
                expires_at: row.access_expires_at.map(Timestamp::from_micros),
                name: row.name,
            }
        })
        .collect();
    for one in declared.into_iter().filter(|one| shows_others && !names.contains(&one.name)) {
        views.push(ConnectionView {
            name: one.name,
            display_name: one.display_name,
            service: one.service.name,
            health: "none".to_owned(),
            reason: None,
            scopes: None,
            granted_by: None,
            user_id: None,
            user_access: one.user_access,
            shared_by: one.shared_by,
            since: None,
            expires_at: None,
        });
    }
    views
}
