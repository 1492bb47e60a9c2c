//! The index of who gets what, and how it follows the database on every node.
//!
//! A transition commits a new routing revision with its change. Every node applies revisions in
//! order; a notification makes that quick, polling makes it sure. [`Routing::settle`] is the
//! barrier: it returns when this node and every node with a live lease have applied a revision, so
//! that an answer which says "uninstalled" is true everywhere.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

use super::endpoint::{CallbackLane, Endpoint, Passage, Subscription};
use super::loading::Loader;
use super::matching::Facts;
use super::own::RoutedRule;
use super::terms::DeliveryBounds;
use crate::crypto::{CryptoError, KeyStoreError, Keys, SecretText, Signer};
use crate::dialect::correlation;
use crate::egress::Egress;
use crate::seam::{Clock, Timestamp};
use crate::store::entity::{extension_version, routing, routing_change, webhook};
use crate::store::{Applied, Epoch, Nodes, RoutingChange, RoutingRevision, Store, StoreError};

/// How often a settling caller looks whether the other nodes are there.
const SETTLE_POLL: Duration = Duration::from_millis(10);

/// How long a settling caller waits at the most: by then the lease of every node that did not
/// follow has run out, and it has stopped sending.
const SETTLE_LIMIT: Duration = Duration::from_secs(6);

/// How many orgs one statement names; beyond that everything is read.
const MOST_NAMED: usize = 500;

/// The webhooks of one org.
#[derive(Debug, Default)]
pub struct OrgRoutes {
    by_type: HashMap<Arc<str>, Vec<Subscription>>,
    endpoints: Vec<Arc<Endpoint>>,
    /// The automations that do not fire where something happens meanwhile.
    watching: Vec<Arc<RoutedRule>>,
}

impl OrgRoutes {
    pub(super) fn new(
        by_type: HashMap<Arc<str>, Vec<Subscription>>,
        endpoints: Vec<Arc<Endpoint>>,
    ) -> Self {
        let rules = endpoints.iter().filter_map(|one| one.own.as_ref()).flat_map(|own| &own.rules);
        let watching = rules.filter(|rule| rule.unless.is_some()).cloned().collect();
        Self { by_type, endpoints, watching }
    }

    /// Adds these to others of the same org.
    pub(super) fn join(
        self,
        by_type: &mut HashMap<Arc<str>, Vec<Subscription>>,
        endpoints: &mut Vec<Arc<Endpoint>>,
    ) {
        for (event_type, subscriptions) in self.by_type {
            by_type.entry(event_type).or_default().extend(subscriptions);
        }
        endpoints.extend(self.endpoints);
    }

    /// The subscriptions to an event type.
    pub fn subscriptions(&self, event_type: &str) -> &[Subscription] {
        self.by_type.get(event_type).map_or(&[], Vec::as_slice)
    }

    /// The automations that an event keeps from firing, each with what the event is about.
    pub fn marks(&self, event_type: &str, facts: &Facts<'_>) -> Vec<(Uuid, String)> {
        if self.watching.is_empty() {
            return Vec::new();
        }
        let Some(subject) = correlation(event_type, facts.payload()) else { return Vec::new() };
        self.watching
            .iter()
            .filter(|rule| {
                rule.unless.as_ref().is_some_and(|unless| unless.hold(event_type, facts).is_ok())
            })
            .map(|rule| (rule.id, subject.clone()))
            .collect()
    }

    /// All webhooks.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Everything that decides what goes where, to be compared.
    fn standing(routes: Option<&Self>) -> Vec<(Uuid, String)> {
        let Some(routes) = routes else { return Vec::new() };
        let mut all: Vec<(Uuid, String)> = routes
            .endpoints
            .iter()
            .map(|endpoint| {
                let mut types: Vec<_> = routes
                    .by_type
                    .iter()
                    .flat_map(|(event_type, subscriptions)| {
                        subscriptions
                            .iter()
                            .filter(|one| one.endpoint.id == endpoint.id)
                            .map(move |one| (event_type, &one.name, &one.filter))
                    })
                    .collect();
                types.sort_by_key(|(event_type, name, _)| (*event_type, *name));
                let standing = format!(
                    "{:?}",
                    (
                        endpoint.generation,
                        &endpoint.owner,
                        endpoint.destination.as_ref().map(|vetted| vetted.url().as_str()),
                        endpoint.ordered,
                        endpoint.passage,
                        endpoint.unreadable,
                        (endpoint.dialect, &endpoint.terms),
                        endpoint.own.as_ref().map(|own| &own.standing),
                        types,
                    )
                );
                (endpoint.id, standing)
            })
            .collect();
        all.sort_unstable();
        all
    }
}

/// What a hook returns.
pub type HookFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Is told of applied changes and of the endpoints that stopped delivering with them; the revision
/// counts as applied when it is done.
pub type RouteHook = Box<dyn Fn(Vec<RoutingChange>, Vec<Uuid>) -> HookFuture + Send + Sync>;

#[derive(Default)]
struct Index {
    orgs: HashMap<Arc<str>, Arc<OrgRoutes>>,
    endpoints: HashMap<Uuid, Arc<Endpoint>>,
    /// When the first secret in use expires.
    secrets_until: Option<Timestamp>,
}

struct Inner {
    store: Store,
    nodes: Nodes,
    clock: Clock,
    loader: Loader,
    index: RwLock<Index>,
    /// Held while revisions are applied, with the newest one.
    applied: Mutex<i64>,
    /// They lead to rooms that hold this routing: emptied at the end, so that all of them go.
    hooks: RwLock<Vec<Arc<RouteHook>>>,
    /// Wakes the loop that applies, and whoever renews the lease after it.
    changed: Notify,
    published: std::sync::atomic::AtomicI64,
    epoch: OnceLock<Epoch>,
}

/// The routing of this node. Cloning shares it.
#[derive(Clone)]
pub struct Routing {
    inner: Arc<Inner>,
}

impl fmt::Debug for Routing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Routing").finish_non_exhaustive()
    }
}

/// How webhooks are made ready.
#[derive(Clone, Debug)]
pub struct RoutingOptions {
    /// What holds for every webhook, and how far the wishes of one go.
    pub bounds: DeliveryBounds,
    /// Whether deliveries carry an Ed25519 signature too.
    pub ed25519: bool,
}

impl Routing {
    /// Loads everything.
    pub async fn load(
        store: &Store,
        keys: &Keys,
        egress: &Egress,
        clock: &Clock,
        options: RoutingOptions,
    ) -> Result<Self, RoutingError> {
        let inner = Inner {
            store: store.clone(),
            nodes: Nodes::new(store.clone()),
            clock: clock.clone(),
            loader: Loader::new(
                store.clone(),
                keys.clone(),
                egress.clone(),
                clock.clone(),
                options,
            ),
            index: RwLock::default(),
            applied: Mutex::new(0),
            hooks: RwLock::default(),
            changed: Notify::new(),
            published: std::sync::atomic::AtomicI64::new(0),
            epoch: OnceLock::new(),
        };
        let routing = Self { inner: Arc::new(inner) };
        let mut applied = routing.inner.applied.lock().await;
        *applied = routing.reload_all().await?;
        routing.publish(*applied);
        drop(applied);
        Ok(routing)
    }

    /// Sets who is told of changes, and the epoch of this node.
    pub fn attach(&self, epoch: Epoch, hooks: Vec<RouteHook>) {
        let _set = self.inner.epoch.set(epoch);
        *self.inner.hooks.write().unwrap_or_else(PoisonError::into_inner) =
            hooks.into_iter().map(Arc::new).collect();
    }

    /// Adds one who is told of changes, after the others.
    pub fn add_hook(&self, hook: RouteHook) {
        let hook = Arc::new(hook);
        self.inner.hooks.write().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Forgets who is told of changes, and with them all that they hold.
    pub fn detach(&self) {
        self.inner.hooks.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The webhooks of an org.
    pub fn org(&self, org_id: &str) -> Option<Arc<OrgRoutes>> {
        self.read(|index| index.orgs.get(org_id).cloned())
    }

    /// A webhook that exists.
    pub fn endpoint(&self, id: Uuid) -> Option<Arc<Endpoint>> {
        self.read(|index| index.endpoints.get(&id).cloned())
    }

    /// The gate: whether a delivery of this generation may begin now.
    pub fn gate(&self, id: Uuid, generation: i32) -> Gate {
        match self.endpoint(id) {
            Some(endpoint) if endpoint.generation == generation => match endpoint.passage {
                Passage::Open => Gate::Open(endpoint),
                Passage::Held | Passage::Suspended | Passage::Off => Gate::Held,
            },
            _ => Gate::Closed,
        }
    }

    /// Where the callbacks of an installation go; nothing where there is no such installation.
    pub async fn callback_lane(
        &self,
        installation_id: Uuid,
    ) -> Result<Option<CallbackLane>, RoutingError> {
        self.inner.loader.callback_lane(installation_id).await
    }

    /// What signs for an extension: every live secret, and the `secret` of a version's manifest.
    pub(crate) async fn extension_signer(
        &self,
        version: &extension_version::Model,
    ) -> Result<(Arc<Signer>, Option<SecretText>), RoutingError> {
        self.inner.loader.extension_signer(version).await
    }

    /// The newest revision that this node has applied.
    pub fn applied_revision(&self) -> i64 {
        self.inner.published.load(std::sync::atomic::Ordering::Acquire)
    }

    /// How far this node has followed: what others wait for.
    pub fn applied(&self) -> Applied {
        let known_data_key = i64::from(self.inner.loader.keys().ring.known().0);
        Applied { revision: self.applied_revision(), known_data_key }
    }

    /// Resolves when a new revision has been applied since the last call.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Waits until this node and all others have applied a revision. Nothing is waited for where
    /// the transaction changed no routing.
    pub async fn settle(&self, revision: RoutingRevision) -> Result<(), RoutingError> {
        let Some(revision) = revision.0 else { return Ok(()) };
        self.apply().await?;
        let Some(&epoch) = self.inner.epoch.get() else { return Ok(()) };
        if !self.inner.nodes.is_shared() {
            return Ok(());
        }
        let give_up = self.inner.clock.instant() + SETTLE_LIMIT;
        loop {
            match self.inner.nodes.slowest_other(epoch, self.inner.clock.now()).await {
                Ok(slowest) if slowest.is_none_or(|slowest| slowest >= revision) => return Ok(()),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %error, "cannot ask how far the nodes are"),
            }
            if self.inner.clock.instant() >= give_up {
                return Ok(());
            }
            self.inner.clock.sleep(SETTLE_POLL).await;
        }
    }

    /// Applies every revision that the database has. Returns whether there was one.
    pub async fn apply(&self) -> Result<bool, RoutingError> {
        let mut applied = self.inner.applied.lock().await;
        let rows = routing_change::Entity::find()
            .filter(routing_change::Column::Revision.gt(*applied))
            .order_by_asc(routing_change::Column::Revision)
            .all(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?;
        let Some(newest) = rows.last().map(|row| row.revision) else {
            if self.secrets_expired() {
                self.reload_all().await?;
            }
            return Ok(false);
        };
        let is_whole = rows.first().is_some_and(|row| row.revision == *applied + 1);
        let changes: Vec<RoutingChange> = rows
            .into_iter()
            .filter_map(|row| RoutingChange::read(&row.kind, row.subject))
            .collect();
        let orgs = if is_whole { self.orgs_of(&changes).await? } else { HashSet::new() };
        // Where changes were pruned, one of the keys may have been among them.
        let has_new_keys = !is_whole || changes.contains(&RoutingChange::Keys);
        let stopped = if !has_new_keys && orgs.len() <= MOST_NAMED {
            self.reload(&orgs).await?
        } else {
            // What lay between was pruned while this node was away, or nearly all of it changed.
            let before = self.read(|index| open_of(index.endpoints.values()));
            self.reload_all().await?;
            self.read(|index| stopped_of(before, index))
        };
        let hooks = self.inner.hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in hooks {
            hook(changes.clone(), stopped.clone()).await;
        }
        *applied = newest;
        self.publish(newest);
        Ok(true)
    }

    fn publish(&self, revision: i64) {
        self.inner.published.store(revision, std::sync::atomic::Ordering::Release);
        self.inner.changed.notify_one();
    }

    fn secrets_expired(&self) -> bool {
        let now = self.inner.clock.now();
        self.read(|index| index.secrets_until.is_some_and(|until| until <= now))
    }

    /// The orgs whose webhooks a change may have touched.
    async fn orgs_of(&self, changes: &[RoutingChange]) -> Result<HashSet<String>, RoutingError> {
        let mut orgs = HashSet::new();
        for change in changes {
            match change {
                RoutingChange::Org(org) => {
                    orgs.insert(org.clone());
                }
                RoutingChange::Extension(key) => {
                    let rows = webhook::Entity::find()
                        .filter(webhook::Column::ExtensionKey.eq(key))
                        .all(self.inner.store.reader())
                        .await
                        .map_err(StoreError::from)?;
                    orgs.extend(rows.into_iter().map(|row| row.org_id));
                    self.read(|index| {
                        let touched = index.endpoints.values().filter(|endpoint| {
                            endpoint.owner.as_ref().is_some_and(|o| *o.extension_key == **key)
                        });
                        orgs.extend(touched.map(|endpoint| endpoint.org_id.to_string()));
                    });
                }
                RoutingChange::Installation(_)
                | RoutingChange::Token(_)
                | RoutingChange::Endpoint(_)
                | RoutingChange::Keys => {}
            }
        }
        Ok(orgs)
    }

    /// Reads some orgs anew: what that costs does not grow with the others. Returns the endpoints
    /// that stopped delivering.
    async fn reload(&self, orgs: &HashSet<String>) -> Result<Vec<Uuid>, RoutingError> {
        if orgs.is_empty() {
            return Ok(Vec::new());
        }
        let mut loaded = self.inner.loader.orgs(Some(orgs)).await?;
        let mut index = self.inner.index.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = Vec::new();
        for org in orgs {
            if let Some(former) = index.orgs.remove(org.as_str()) {
                before.extend(open_of(former.endpoints()));
                for endpoint in former.endpoints() {
                    index.endpoints.remove(&endpoint.id);
                }
            }
            if let Some((name, routes)) = loaded.orgs.remove_entry(org.as_str()) {
                for endpoint in routes.endpoints() {
                    index.endpoints.insert(endpoint.id, Arc::clone(endpoint));
                }
                index.orgs.insert(name, Arc::new(routes));
            }
        }
        index.secrets_until = earlier(index.secrets_until, loaded.secrets_until);
        Ok(stopped_of(before, &index))
    }

    /// The orgs that the index has something of, in order.
    pub(crate) fn held_orgs(&self) -> Vec<String> {
        let mut orgs: Vec<String> =
            self.read(|index| index.orgs.keys().map(|org| (**org).to_owned()).collect());
        orgs.sort_unstable();
        orgs
    }

    /// Compares the index with the database, for some orgs: those of which it holds something else
    /// although every revision is applied. They are read anew where `reload` says so.
    pub(crate) async fn stale(
        &self,
        orgs: &HashSet<String>,
        reload: bool,
    ) -> Result<Vec<String>, RoutingError> {
        if orgs.is_empty() {
            return Ok(Vec::new());
        }
        // What was committed before this moment is not stale, only on its way.
        self.apply().await?;
        let differing = async |orgs: &HashSet<String>| {
            let loaded = self.inner.loader.orgs(Some(orgs)).await?;
            let differs = |org: &&String| {
                let held = self.org(org);
                OrgRoutes::standing(held.as_deref())
                    != OrgRoutes::standing(loaded.orgs.get(org.as_str()))
            };
            Ok::<HashSet<String>, RoutingError>(orgs.iter().filter(differs).cloned().collect())
        };
        let candidates = differing(orgs).await?;
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        // Nearly always a step that was committed while we looked: looked at once more, with
        // everything applied and nobody applying more.
        self.apply().await?;
        let applied = self.inner.applied.lock().await;
        let stale = differing(&candidates).await?;
        let newest = routing::Entity::find_by_id(1)
            .one(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?
            .map_or(0, |row| row.revision);
        if newest != *applied {
            return Ok(Vec::new());
        }
        if reload {
            self.reload(&stale).await?;
        }
        drop(applied);
        Ok(stale.into_iter().collect())
    }

    /// Reads everything anew. Returns the revision that the reading stands for.
    async fn reload_all(&self) -> Result<i64, RoutingError> {
        // The revision first: what changes while we read is applied once more.
        let revision = routing::Entity::find_by_id(1)
            .one(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?
            .map_or(0, |row| row.revision);
        // The keys before the endpoints, whose contexts the newest seals. Also at the first loading: one
        // may have been introduced since this process read them.
        self.inner.loader.keys().reload(&self.inner.store).await?;
        let loaded = self.inner.loader.orgs(None).await?;
        let mut fresh = Index { secrets_until: loaded.secrets_until, ..Index::default() };
        for (org, routes) in loaded.orgs {
            for endpoint in routes.endpoints() {
                fresh.endpoints.insert(endpoint.id, Arc::clone(endpoint));
            }
            fresh.orgs.insert(org, Arc::new(routes));
        }
        *self.inner.index.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(revision)
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.inner.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Those of some endpoints that deliver.
fn open_of<'e>(endpoints: impl IntoIterator<Item = &'e Arc<Endpoint>>) -> Vec<Uuid> {
    endpoints
        .into_iter()
        .filter(|endpoint| endpoint.passage == Passage::Open)
        .map(|endpoint| endpoint.id)
        .collect()
}

/// Those of some endpoints that delivered before and do not any more.
fn stopped_of(before: Vec<Uuid>, index: &Index) -> Vec<Uuid> {
    let delivers = |id: &Uuid| {
        index.endpoints.get(id).is_some_and(|endpoint| endpoint.passage == Passage::Open)
    };
    before.into_iter().filter(|id| !delivers(id)).collect()
}

fn earlier(left: Option<Timestamp>, right: Option<Timestamp>) -> Option<Timestamp> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, other) => one.or(other),
    }
}

/// What the gate says of a delivery.
#[derive(Debug)]
pub enum Gate {
    /// It may begin.
    Open(Arc<Endpoint>),
    /// It waits until its webhook is active again.
    Held,
    /// Its webhook is no more.
    Closed,
}

/// Why routing could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be unsealed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The signing keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// What is stored of a webhook cannot be read.
    #[error("the stored {what} of {subject} cannot be read")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// Of what.
        subject: String,
    },
}
