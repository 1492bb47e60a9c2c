//! What is there of some installations, read with a statement a table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use url::Url;
use uuid::Uuid;

use crate::lifecycle::LifecycleError;
use crate::lifecycle::service::read_package;
use crate::manifest::WebhookResource;
use crate::oauth;
use crate::store::entity::{
    authorization_request, connection, endpoint, erasure, extension_version, installation,
    provisioned_webhook, revocation, token_exchange, upgrade, webhook,
};

/// How many connections are read of an installation that has ended.
pub(super) const MOST_CONNECTIONS: u64 = 500;

/// What a version declares, as far as it makes rows.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) webhook: Option<WebhookResource>,
    pub(super) authorises: bool,
    /// Where the vendor is told of the installation's life.
    pub(super) listener: BTreeMap<String, Url>,
    pub(super) version: String,
}

/// Versions that were read in a pass; nothing where one cannot be.
pub(super) type Versions = HashMap<Uuid, Option<Arc<Declared>>>;

/// What is there of one installation.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) row: installation::Model,
    pub(super) declared: Option<Arc<Declared>>,
    /// Its webhooks, and those that were its own by what lifecycle remembers.
    pub(super) webhooks: Vec<webhook::Model>,
    pub(super) remembered: Vec<provisioned_webhook::Model>,
    /// Its endpoints, and those of its webhooks.
    pub(super) endpoints: Vec<endpoint::Model>,
    /// Its main connection; of one that has ended the first ones that are left.
    pub(super) connections: Vec<connection::Model>,
    pub(super) requests: usize,
    /// Tokens that wait to be revoked, and codes that are being exchanged.
    pub(super) revocations: usize,
    /// Upgrades that wait.
    pub(super) upgrades: usize,
    /// When each exchange of a code that is journalled began.
    pub(super) exchanges: Vec<i64>,
    /// Whether its erasure is entered.
    pub(super) has_erasure: bool,
}

/// Reads the versions that are not known yet.
async fn read_versions(
    connection: &impl ConnectionTrait,
    rows: &[installation::Model],
    versions: &mut Versions,
) -> Result<(), LifecycleError> {
    let mut wanted: Vec<Uuid> =
        rows.iter().map(|row| row.version_id).filter(|id| !versions.contains_key(id)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = extension_version::Entity::find()
        .filter(extension_version::Column::Id.is_in(wanted.iter().copied()))
        .all(connection)
        .await?;
    for id in wanted {
        versions.insert(id, None);
    }
    for row in found {
        let declared = read_package(&row).ok().map(|package| {
            Arc::new(Declared {
                webhook: package.webhook,
                authorises: package.manifest.authorisation.is_some(),
                listener: package.manifest.callback_listener,
                version: row.version.clone(),
            })
        });
        versions.insert(row.id, declared);
    }
    Ok(())
}

/// What is only counted, by installation.
struct Counts {
    requests: HashMap<Uuid, usize>,
    revocations: HashMap<Uuid, usize>,
    upgrades: HashMap<Uuid, usize>,
    exchanges: Vec<(Uuid, i64)>,
    erasures: HashSet<Uuid>,
}

async fn count(database: &impl ConnectionTrait, ids: &[Uuid]) -> Result<Counts, LifecycleError> {
    let counted = |pairs: Vec<Uuid>| {
        pairs.into_iter().fold(HashMap::<Uuid, usize>::new(), |mut counts, id| {
            *counts.entry(id).or_default() += 1;
            counts
        })
    };
    let requests = counted(
        authorization_request::Entity::find()
            .select_only()
            .column(authorization_request::Column::InstallationId)
            .filter(authorization_request::Column::InstallationId.is_in(ids.iter().copied()))
            .into_tuple()
            .all(database)
            .await?,
    );
    let mut revocations = counted(
        revocation::Entity::find()
            .select_only()
            .column(revocation::Column::InstallationId)
            .filter(revocation::Column::InstallationId.is_in(ids.iter().copied()))
            .into_tuple()
            .all(database)
            .await?,
    );
    // Connections that are over, whose tokens are yet to be moved into the job.
    let ended: Vec<(Uuid, i64)> = connection::Entity::find()
        .select_only()
        .column(connection::Column::InstallationId)
        .column_as(connection::Column::Id.count(), "ended")
        .filter(connection::Column::InstallationId.is_in(ids.iter().copied()))
        .filter(connection::Column::Health.eq(oauth::ENDED_CONNECTION))
        .group_by(connection::Column::InstallationId)
        .into_tuple()
        .all(database)
        .await?;
    for (id, count) in ended {
        *revocations.entry(id).or_default() += usize::try_from(count).unwrap_or(usize::MAX);
    }
    let upgrades = counted(
        upgrade::Entity::find()
            .select_only()
            .column(upgrade::Column::InstallationId)
            .filter(upgrade::Column::InstallationId.is_in(ids.iter().copied()))
            .filter(upgrade::Column::Waiting.is_not_null())
            .into_tuple()
            .all(database)
            .await?,
    );
    let exchanges: Vec<(Uuid, i64)> = token_exchange::Entity::find()
        .select_only()
        .column(token_exchange::Column::InstallationId)
        .column(token_exchange::Column::StartedAt)
        .filter(token_exchange::Column::InstallationId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(database)
        .await?;
    let erasures: HashSet<Uuid> = erasure::Entity::find()
        .select_only()
        .column(erasure::Column::InstallationId)
        .filter(erasure::Column::InstallationId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(database)
        .await?
        .into_iter()
        .collect();
    Ok(Counts { requests, revocations, upgrades, exchanges, erasures })
}

/// Which connections are looked at with their installations: the main one of each that lives, and
/// what is left of one that does not. The tokens of the others are looked at page by page.
pub(super) fn connections_of(rows: &[installation::Model]) -> Condition {
    use connection::Column;
    rows.iter().fold(Condition::any(), |any, row| {
        let of = Condition::all().add(Column::InstallationId.eq(row.id));
        any.add(if row.live == 1 {
            of.add(Column::Name.eq(oauth::HOST_CONNECTION)).add(Column::UserId.eq(&row.user_id))
        } else {
            of
        })
    })
}

/// Reads everything that belongs to these installations. What depends is read before who owns it is
/// compared with it, so that what a step just made is never taken for a leftover: a finding counts
/// only where it is found again under the installation's lock.
pub(super) async fn gather(
    connection: &impl ConnectionTrait,
    rows: Vec<installation::Model>,
    versions: &mut Versions,
) -> Result<Vec<Facts>, LifecycleError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    read_versions(connection, &rows, versions).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let remembered = provisioned_webhook::Entity::find()
        .filter(provisioned_webhook::Column::InstallationId.is_in(ids.iter().copied()))
        .all(connection)
        .await?;
    let own_endpoints = endpoint::Entity::find()
        .filter(endpoint::Column::InstallationId.is_in(ids.iter().copied()))
        .all(connection)
        .await?;
    // Rows that were moved away are known by their ids.
    let known = remembered
        .iter()
        .map(|row| row.webhook_id)
        .chain(own_endpoints.iter().filter(|row| row.lane == "webhook").map(|row| row.id));
    let webhooks = webhook::Entity::find()
        .filter(
            Condition::any()
                .add(webhook::Column::InstallationId.is_in(ids.iter().copied()))
                .add(webhook::Column::Id.is_in(known)),
        )
        .all(connection)
        .await?;
    let endpoints = endpoint::Entity::find()
        .filter(
            Condition::any()
                .add(endpoint::Column::Id.is_in(webhooks.iter().map(|row| row.id)))
                .add(endpoint::Column::Id.is_in(ids.iter().copied())),
        )
        .all(connection)
        .await?;
    let connections = connection::Entity::find()
        .filter(connections_of(&rows))
        .filter(connection::Column::Health.ne(oauth::ENDED_CONNECTION))
        .order_by_asc(connection::Column::Id)
        .limit(MOST_CONNECTIONS.max(rows.len() as u64))
        .all(connection)
        .await?;
    let counts = count(connection, &ids).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id;
        let remembered: Vec<_> =
            remembered.iter().filter(|one| one.installation_id == id).cloned().collect();
        let is_own = |one: &webhook::Model| {
            one.installation_id == Some(id)
                || remembered.iter().any(|known| known.webhook_id == one.id)
                || own_endpoints
                    .iter()
                    .any(|endpoint| endpoint.id == one.id && endpoint.installation_id == Some(id))
        };
        let webhooks: Vec<_> = webhooks.iter().filter(|one| is_own(one)).cloned().collect();
        let endpoints = endpoints
            .iter()
            .chain(&own_endpoints)
            .filter(|one| {
                one.id == id
                    || one.installation_id == Some(id)
                    || webhooks.iter().any(|webhook| webhook.id == one.id)
            })
            .cloned()
            .collect();
        all.push(Facts {
            declared: versions.get(&row.version_id).cloned().flatten(),
            webhooks,
            remembered,
            endpoints,
            connections: connections
                .iter()
                .filter(|one| one.installation_id == id)
                .cloned()
                .collect(),
            requests: counts.requests.get(&id).copied().unwrap_or(0),
            revocations: counts.revocations.get(&id).copied().unwrap_or(0),
            upgrades: counts.upgrades.get(&id).copied().unwrap_or(0),
            exchanges: counts.exchanges.iter().filter(|one| one.0 == id).map(|one| one.1).collect(),
            has_erasure: counts.erasures.contains(&id),
            row,
        });
    }
    Ok(all)
}
