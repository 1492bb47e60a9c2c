//! Reading installations, their history and their webhooks.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::{Expr, ExprTrait, Func, LikeExpr, Order};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::authorize::Activated;
use super::completion;
use super::connection_views::{ALONE, ConnectionView, IN_A_LIST};
use super::consent::WaitingUpgrade;
use super::error::LifecycleError;
use super::service::{read_manifest, state_of};
use super::state::Holders;
use crate::seam::Timestamp;
use crate::store::entity::{
    endpoint_state, extension, extension_version, installation, org_plan, own_webhook,
    own_webhook_grant, transition, webhook, webhook_rule,
};
use crate::store::{Store, UnitOfWork};
use crate::webhook::own::development_orgs;

/// Which installations a caller may see: every query carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallationScope {
    /// All of them.
    All,
    /// Those of one org.
    Org(String),
    /// Those of a vendor's extensions.
    Extensions(Vec<String>),
}

impl InstallationScope {
    fn condition(&self) -> Condition {
        match self {
            Self::All => Condition::all(),
            Self::Org(org) => Condition::all().add(installation::Column::OrgId.eq(org)),
            Self::Extensions(keys) => {
                Condition::all().add(installation::Column::ExtensionKey.is_in(keys.iter().cloned()))
            }
        }
    }

    fn webhook_condition(&self) -> Condition {
        match self {
            Self::All => Condition::all(),
            Self::Org(org) => Condition::all().add(webhook::Column::OrgId.eq(org)),
            Self::Extensions(keys) => {
                Condition::all().add(webhook::Column::ExtensionKey.is_in(keys.iter().cloned()))
            }
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct InstallationFilter {
    /// Of one org.
    pub org_id: Option<String>,
    /// Of one extension.
    pub extension_key: Option<String>,
    /// In one state, as answers name it.
    pub state: Option<String>,
    /// Changed at this moment or later.
    pub since: Option<Timestamp>,
    /// After this one.
    pub after: Option<InstallationCursor>,
    /// How many at the most.
    pub limit: u64,
}

/// Where a page of installations begins. What changed since a moment goes by the order of changes,
/// so that a row that changes while somebody pages comes once more and none is passed over; other
/// lists go by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallationCursor {
    /// After this id.
    Id(Uuid),
    /// After this change.
    Change(ChangeCursor),
}

/// A place in the order of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeCursor {
    /// The position of the change.
    pub position: i64,
    /// The installation; one change may touch several.
    pub id: Uuid,
}

/// An installation as it is shown.
#[derive(Clone, Debug)]
pub struct InstallationView {
    /// Its row.
    pub(crate) row: installation::Model,
    /// The version that serves.
    pub(crate) version: extension_version::Model,
    /// How `onInstall`, the reference's installation handler, went: `pending`, `ok` or `failed`.
    pub vendor_setup: &'static str,
    /// Its webhooks.
    pub webhooks: Vec<WebhookView>,
    /// Its connections, those that nobody authorised yet too; the first ones, where there are many.
    pub connections: Vec<ConnectionView>,
    /// How many connections it has, those that are not shown too.
    pub connection_count: u64,
    /// The upgrade that waits for consent.
    pub waiting_upgrade: Option<WaitingUpgrade>,
}

impl InstallationView {
    /// Its state.
    pub fn state(&self) -> &'static str {
        state_of(&self.row).name()
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }

    /// Where it stands in the order of changes.
    pub fn change(&self) -> ChangeCursor {
        ChangeCursor { position: self.row.change_position, id: self.row.id }
    }

    /// Its org.
    pub fn org_id(&self) -> &str {
        &self.row.org_id
    }

    /// Its extension.
    pub fn extension_key(&self) -> &str {
        &self.row.extension_key
    }

    /// Whether it has not ended.
    pub fn is_live(&self) -> bool {
        self.row.live == 1
    }

    /// Whether the serving version's manifest asks for the key-value store.
    pub fn has_storage(&self) -> bool {
        read_manifest(&self.version).is_ok_and(|manifest| manifest.storage)
    }

    /// Who holds it suspended.
    pub fn suspended_by(&self) -> Vec<&'static str> {
        Holders::from_number(self.row.suspended_by).names()
    }
}

/// A webhook as it is shown.
#[derive(Clone, Debug)]
pub struct WebhookView {
    pub(crate) row: webhook::Model,
    pub(crate) extension_name: Option<String>,
    pub(crate) version: Option<String>,
    /// `ok`, `failing`, `gone` or `disabled`.
    pub health: String,
    pub(crate) state: Option<endpoint_state::Model>,
    /// What an org's own webhook has beside an extension's.
    pub(crate) own: Option<own_webhook::Model>,
    /// How often the plan of its org has an own webhook called in a minute.
    pub(crate) rate_per_minute: Option<u32>,
    /// Whether a trigger or an automation calls it.
    pub(crate) has_rules: bool,
    /// What somebody granted for its endpoint.
    pub(crate) grant: Option<own_webhook_grant::Model>,
    /// Whether it is an own one of an org that is for development.
    pub(crate) is_development: bool,
}

/// Which webhooks are asked for.
#[derive(Clone, Debug, Default)]
pub struct WebhookFilter {
    /// Of one org.
    pub org_id: Option<String>,
    /// Whose name, description or address holds this text.
    pub search: Option<String>,
    /// An extension's, or an org's own.
    pub is_extension: Option<bool>,
    /// In one dialect.
    pub dialect: Option<String>,
    /// That subscribe to one event, by the name that they subscribe with.
    pub event: Option<String>,
    /// Switched on, or off.
    pub is_enabled: Option<bool>,
    /// After this one.
    pub after: Option<Uuid>,
    /// How many at the most.
    pub limit: u64,
}

/// A step in the life of an installation.
#[derive(Clone, Debug)]
pub struct TransitionView {
    pub(crate) row: transition::Model,
}

impl WebhookView {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }
}

impl TransitionView {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }
}

/// Lists installations, oldest first; what changed since a moment in the order of changes.
pub async fn installations(
    store: &Store,
    scope: &InstallationScope,
    filter: &InstallationFilter,
) -> Result<Vec<InstallationView>, LifecycleError> {
    let mut query = installation::Entity::find().filter(scope.condition()).limit(filter.limit);
    if filter.since.is_some() {
        query = query.order_by_asc(installation::Column::ChangePosition);
    }
    query = query.order_by_asc(installation::Column::Id);
    if let Some(org) = &filter.org_id {
        query = query.filter(installation::Column::OrgId.eq(org));
    }
    if let Some(key) = &filter.extension_key {
        query = query.filter(installation::Column::ExtensionKey.eq(key));
    }
    query = match filter.state.as_deref() {
        None => query,
        Some("suspended") => query
            .filter(installation::Column::State.eq("active"))
            .filter(installation::Column::SuspendedBy.ne(0)),
        Some("active") => query
            .filter(installation::Column::State.eq("active"))
            .filter(installation::Column::SuspendedBy.eq(0)),
        Some(state) => query.filter(installation::Column::State.eq(state)),
    };
    if let Some(since) = filter.since {
        query = query.filter(installation::Column::UpdatedAt.gte(since.micros()));
    }
    match filter.after {
        None => {}
        Some(InstallationCursor::Id(id)) => query = query.filter(installation::Column::Id.gt(id)),
        Some(InstallationCursor::Change(after)) => {
            let same = Condition::all()
                .add(installation::Column::ChangePosition.eq(after.position))
                .add(installation::Column::Id.gt(after.id));
            query = query.filter(installation::Column::ChangePosition.gte(after.position)).filter(
                Condition::any()
                    .add(installation::Column::ChangePosition.gt(after.position))
                    .add(same),
            );
        }
    }
    let reading = store.begin_reading().await?;
    let rows = query.all(&reading).await?;
    let views = completion::of_rows(&reading, rows, IN_A_LIST).await?;
    reading.rollback().await?;
    Ok(views)
}

/// Reads one installation; nothing where the caller may not see it.
pub async fn installation(
    store: &Store,
    scope: &InstallationScope,
    id: Uuid,
) -> Result<Option<InstallationView>, LifecycleError> {
    let reading = store.begin_reading().await?;
    let row = installation::Entity::find_by_id(id).filter(scope.condition()).one(&reading).await?;
    let view = completion::of_rows(&reading, row.into_iter().collect(), ALONE).await?.pop();
    reading.rollback().await?;
    Ok(view)
}

/// Reads an installation as a transaction leaves it.
pub async fn installation_within(
    work: &UnitOfWork,
    id: Uuid,
) -> Result<Option<InstallationView>, LifecycleError> {
    work.flush().await?;
    let row = installation::Entity::find_by_id(id).one(work.connection()).await?;
    Ok(completion::of_rows(work.connection(), row.into_iter().collect(), ALONE).await?.pop())
}

/// An installation that was just activated: its row and its version are known.
pub async fn activated_within(
    work: &UnitOfWork,
    activated: Activated,
) -> Result<InstallationView, LifecycleError> {
    work.flush().await?;
    let Activated { row, version } = activated;
    let versions = HashMap::from([(version.id, version)]);
    completion::of(work.connection(), vec![row], versions, ALONE)
        .await?
        .pop()
        .ok_or(LifecycleError::Unreadable { what: "installation" })
}

/// The steps of an installation, oldest first or newest first, from after a step on.
pub async fn history(
    store: &Store,
    installation_id: Uuid,
    newest_first: bool,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<TransitionView>, LifecycleError> {
    let order = if newest_first { Order::Desc } else { Order::Asc };
    let mut query = transition::Entity::find()
        .filter(transition::Column::InstallationId.eq(installation_id))
        .order_by(transition::Column::Id, order)
        .limit(limit);
    if let Some(after) = after {
        let id = transition::Column::Id;
        query = query.filter(if newest_first { id.lt(after) } else { id.gt(after) });
    }
    Ok(query.all(store.reader()).await?.into_iter().map(|row| TransitionView { row }).collect())
}

/// Lists webhooks, oldest first.
pub async fn webhooks(
    store: &Store,
    scope: &InstallationScope,
    filter: &WebhookFilter,
) -> Result<Vec<WebhookView>, LifecycleError> {
    let mut query = webhook::Entity::find()
        .filter(scope.webhook_condition())
        .order_by_asc(webhook::Column::Id)
        .limit(filter.limit);
    if let Some(org) = &filter.org_id {
        query = query.filter(webhook::Column::OrgId.eq(org));
    }
    if let Some(after) = filter.after {
        query = query.filter(webhook::Column::Id.gt(after));
    }
    if let Some(text) = &filter.search {
        let pattern = like(&text.to_lowercase());
        let holds = |column| {
            Expr::expr(Func::lower(Expr::col(column))).like(LikeExpr::new(&pattern).escape('\\'))
        };
        let columns = [webhook::Column::Name, webhook::Column::Description, webhook::Column::Url];
        query = query.filter(
            columns.into_iter().fold(Condition::any(), |any, column| any.add(holds(column))),
        );
    }
    match filter.is_extension {
        None => {}
        Some(true) => query = query.filter(webhook::Column::Kind.eq("extension")),
        Some(false) => query = query.filter(webhook::Column::Kind.ne("extension")),
    }
    if let Some(dialect) = &filter.dialect {
        query = query.filter(webhook::Column::Dialect.eq(dialect));
    }
    if let Some(event) = &filter.event {
        // A name is a member of the document, followed by its options.
        let quoted = serde_json::to_string(event).unwrap_or_default();
        let pattern = like(&format!("{quoted}:"));
        query = query.filter(
            Expr::col(webhook::Column::Subscriptions).like(LikeExpr::new(pattern).escape('\\')),
        );
    }
    match filter.is_enabled {
        None => {}
        Some(true) => query = query.filter(webhook::Column::IsEnabled.ne(0)),
        Some(false) => query = query.filter(webhook::Column::IsEnabled.eq(0)),
    }
    webhook_views(store.reader(), query.all(store.reader()).await?).await
}

/// Reads one webhook; nothing where the caller may not see it.
pub async fn webhook(
    store: &Store,
    scope: &InstallationScope,
    id: Uuid,
) -> Result<Option<WebhookView>, LifecycleError> {
    let row = webhook::Entity::find_by_id(id)
        .filter(scope.webhook_condition())
        .one(store.reader())
        .await?;
    Ok(webhook_views(store.reader(), row.into_iter().collect()).await?.pop())
}

/// Reads a webhook as a transaction leaves it.
pub async fn webhook_within(
    work: &UnitOfWork,
    id: Uuid,
) -> Result<Option<WebhookView>, LifecycleError> {
    let row = webhook::Entity::find_by_id(id).one(work.connection()).await?;
    Ok(webhook_views(work.connection(), row.into_iter().collect()).await?.pop())
}

/// A pattern for whatever holds a text.
fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

async fn webhook_views<C: ConnectionTrait>(
    connection: &C,
    rows: Vec<webhook::Model>,
) -> Result<Vec<WebhookView>, LifecycleError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let states = states(connection, rows.iter().map(|row| row.id)).await?;
    let owners = rows.iter().filter_map(|row| row.installation_id).collect();
    let serving = serving_versions(connection, owners).await?;
    let names = extension::Entity::find()
        .filter(
            extension::Column::ExtensionKey
                .is_in(rows.iter().filter_map(|row| row.extension_key.clone())),
        )
        .all(connection)
        .await?
        .into_iter()
        .map(|row| (row.extension_key, row.name))
        .collect();
    named_views(connection, rows, &states, &serving, &names).await
}

/// What delivering knows of some endpoints.
async fn states<C: ConnectionTrait>(
    connection: &C,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, endpoint_state::Model>, LifecycleError> {
    let rows = endpoint_state::Entity::find()
        .filter(endpoint_state::Column::EndpointId.is_in(ids))
        .all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.endpoint_id, row)).collect())
}

/// Webhooks with what delivering knows of them; `serving` are the versions of their installations,
/// `names` those of their extensions.
pub(super) async fn named_views<C: ConnectionTrait>(
    connection: &C,
    rows: Vec<webhook::Model>,
    states: &HashMap<Uuid, endpoint_state::Model>,
    serving: &HashMap<Uuid, String>,
    names: &HashMap<String, String>,
) -> Result<Vec<WebhookView>, LifecycleError> {
    let mut own = own_parts(connection, &rows).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let state = states.get(&row.id).cloned();
            let health = match (&state, row.is_enabled) {
                (_, 0) => "disabled".to_owned(),
                (Some(state), _) => state.health.clone(),
                (None, _) => "ok".to_owned(),
            };
            WebhookView {
                extension_name: row.extension_key.as_ref().and_then(|key| names.get(key)).cloned(),
                version: row.installation_id.and_then(|id| serving.get(&id)).cloned(),
                health,
                state,
                rate_per_minute: own.rates.get(&row.org_id).copied(),
                own: own.rows.remove(&row.id),
                has_rules: own.with_rules.contains(&row.id),
                is_development: own.development.contains(&row.org_id),
                grant: own.grants.remove(&row.id),
                row,
            }
        })
        .collect())
}

/// What belongs to the own webhooks among some.
#[derive(Default)]
struct OwnParts {
    rows: HashMap<Uuid, own_webhook::Model>,
    rates: HashMap<String, u32>,
    with_rules: HashSet<Uuid>,
    development: HashSet<String>,
    grants: HashMap<Uuid, own_webhook_grant::Model>,
}

async fn own_parts<C: ConnectionTrait>(
    connection: &C,
    rows: &[webhook::Model],
) -> Result<OwnParts, LifecycleError> {
    let own: Vec<&webhook::Model> =
        rows.iter().filter(|row| row.installation_id.is_none()).collect();
    if own.is_empty() {
        return Ok(OwnParts::default());
    }
    let found = own_webhook::Entity::find()
        .filter(own_webhook::Column::Id.is_in(own.iter().map(|row| row.id)))
        .all(connection)
        .await?;
    let plans = org_plan::Entity::find()
        .filter(org_plan::Column::OrgId.is_in(own.iter().map(|row| row.org_id.clone())))
        .all(connection)
        .await?;
    let connected = found.iter().filter(|row| row.connection != "events").map(|row| row.id);
    let connected: Vec<Uuid> = connected.collect();
    let with_rules: Vec<Uuid> = if connected.is_empty() {
        Vec::new()
    } else {
        webhook_rule::Entity::find()
            .select_only()
            .column(webhook_rule::Column::WebhookId)
            .distinct()
            .filter(webhook_rule::Column::WebhookId.is_in(connected))
            .into_tuple()
            .all(connection)
            .await?
    };
    let grants = own_webhook_grant::Entity::find()
        .filter(own_webhook_grant::Column::Id.is_in(own.iter().map(|row| row.id)))
        .all(connection)
        .await?;
    let orgs: HashSet<String> = own.iter().map(|row| row.org_id.clone()).collect();
    Ok(OwnParts {
        development: development_orgs(connection, orgs).await?,
        grants: grants.into_iter().map(|row| (row.id, row)).collect(),
        with_rules: with_rules.into_iter().collect(),
        rows: found.into_iter().map(|row| (row.id, row)).collect(),
        rates: plans
            .into_iter()
            .filter_map(|row| Some((row.org_id, u32::try_from(row.invocations_per_minute?).ok()?)))
            .collect(),
    })
}

/// The versions that serve some installations.
async fn serving_versions<C: ConnectionTrait>(
    connection: &C,
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, String>, LifecycleError> {
    let rows = installation::Entity::find()
        .filter(installation::Column::Id.is_in(ids))
        .all(connection)
        .await?;
    let versions: HashMap<Uuid, String> = extension_version::Entity::find()
        .filter(extension_version::Column::Id.is_in(rows.iter().map(|row| row.version_id)))
        .all(connection)
        .await?
        .into_iter()
        .map(|row| (row.id, row.version))
        .collect();
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((row.id, versions.get(&row.version_id)?.clone())))
        .collect())
}
