//! The rooms below, as handlers reach them.

use std::sync::Arc;

use crate::crypto::Verifier;
use crate::delivery::{Dispatcher, EndpointScope, Recoveries};
use crate::event::Intake;
use crate::inspector::{InspectorGate, KnownInspectors};
use crate::invoke::Invoke;
use crate::lifecycle::{InstallationScope, Lifecycle, Reconciler, RolloutScope, Rollouts};
use crate::listening::Listening;
use crate::manifest;
use crate::notice::{Audience, Board};
use crate::oauth::Connections;
use crate::rotation::Rotations;
use crate::store::Store;
use crate::telemetry::beat::Beats;
use crate::webhook::Routing;
use crate::webhook::own::OwnWebhooks;

use super::access::Caller;
use super::incoming_rates::IncomingRates;
use super::metrics::Scrapes;
use super::problem::{Code, Problem};
use super::rates::TrialRates;
use super::reader_places::ReaderPlaces;
use super::role::Role;
use crate::catalogue;

/// How many extensions of one vendor a query names.
const MOST_EXTENSIONS: u64 = 10_000;

/// The rooms that do the work.
#[derive(Clone, Debug)]
pub struct Services {
    /// Installations.
    pub lifecycle: Lifecycle,
    /// Their connections: who hands out access tokens.
    pub connections: Connections,
    /// What compares what is there with what should be.
    pub reconciler: Reconciler,
    /// Where notices are written.
    pub board: Board,
    /// Events.
    pub intake: Intake,
    /// Who gets what.
    pub routing: Routing,
    /// Deliveries.
    pub dispatcher: Dispatcher,
    /// Jobs that send again.
    pub recoveries: Recoveries,
    /// Jobs that roll versions out.
    pub rollouts: Rollouts,
    /// Data keys that take each other's place.
    pub rotations: Rotations,
    /// How often a token may ping and test.
    pub trials: Arc<TrialRates>,
    /// The orgs' own webhooks and their plans.
    pub own_webhooks: OwnWebhooks,
    /// The vendors' way back in.
    pub invoke: Invoke,
    /// How often users' tokens, and installations, may be posted to.
    pub incoming_rates: Arc<IncomingRates>,
    /// How much may come to inspectors.
    pub inspector_gate: Arc<InspectorGate>,
    /// Which inspectors there are.
    pub inspectors: Arc<KnownInspectors>,
    /// Whether loops still run.
    pub beats: Beats,
    /// What scrapes of the metrics asked the database for.
    pub scrapes: Arc<Scrapes>,
    /// Who follows deliveries as they are made.
    pub listening: Listening,
    /// Places for those who wait for something to read.
    pub readers: ReaderPlaces,
    /// The rules for packages.
    pub policy: Arc<manifest::Policy>,
    /// Checks callbacks of the marketplace, where it signs them.
    pub marketplace: Option<Arc<Verifier>>,
}

/// The extensions of the caller's vendor.
async fn own_extensions(store: &Store, caller: &Caller) -> Result<Vec<String>, Problem> {
    let Some(vendor) = &caller.vendor else { return Err(Problem::new(Code::Forbidden)) };
    extensions_of(store, vendor.as_str()).await
}

/// The extensions of a vendor.
pub(super) async fn extensions_of(store: &Store, vendor: &str) -> Result<Vec<String>, Problem> {
    let rows = catalogue::extensions(store, Some(vendor), None, MOST_EXTENSIONS).await?;
    Ok(rows.into_iter().map(|row| row.extension_key).collect())
}

fn own_org(caller: &Caller) -> Result<String, Problem> {
    caller.org.as_ref().map(ToString::to_string).ok_or_else(|| Problem::new(Code::Forbidden))
}

/// Which installations a caller may see.
pub(super) async fn installation_scope(
    store: &Store,
    caller: &Caller,
) -> Result<InstallationScope, Problem> {
    Ok(match caller.role {
        Role::Operator | Role::Marketplace | Role::Host => InstallationScope::All,
        Role::Vendor => InstallationScope::Extensions(own_extensions(store, caller).await?),
        Role::Admin | Role::Viewer => InstallationScope::Org(own_org(caller)?),
    })
}

/// Which deliveries a caller may see.
pub(super) async fn endpoint_scope(
    store: &Store,
    caller: &Caller,
) -> Result<EndpointScope, Problem> {
    Ok(match caller.role {
        Role::Operator | Role::Marketplace | Role::Host => EndpointScope::All,
        Role::Vendor => EndpointScope::Extensions(own_extensions(store, caller).await?),
        Role::Admin | Role::Viewer => EndpointScope::Org(own_org(caller)?),
    })
}

/// Which rollouts a caller may see.
pub(super) async fn rollout_scope(store: &Store, caller: &Caller) -> Result<RolloutScope, Problem> {
    Ok(match caller.role {
        Role::Operator | Role::Marketplace => RolloutScope::All,
        Role::Vendor => RolloutScope::Extensions(own_extensions(store, caller).await?),
        Role::Host | Role::Admin | Role::Viewer => RolloutScope::Nothing,
    })
}

/// Which notices a caller may see, and as whom.
pub(super) async fn notice_audience(store: &Store, caller: &Caller) -> Result<Audience, Problem> {
    Ok(match caller.role {
        Role::Operator | Role::Marketplace | Role::Host => Audience::Operator,
        Role::Vendor => Audience::Vendor {
            vendor: caller
                .vendor
                .as_ref()
                .map(ToString::to_string)
                .ok_or_else(|| Problem::new(Code::Forbidden))?,
            extensions: own_extensions(store, caller).await?,
        },
        Role::Admin | Role::Viewer => Audience::Org(own_org(caller)?),
    })
}
