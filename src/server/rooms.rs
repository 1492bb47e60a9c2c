//! The rooms that do the work, put together in the order in which they depend on each other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::trace_export::TraceExport;
use super::wiring::StartError;
use crate::api::access::Authenticator;
use crate::api::{ApiState, IncomingRates, ReaderPlaces, Services, TrialRates};
use crate::config::Config;
use crate::crypto::{CryptoError, Keys, Signer, SigningSecret, Verifier};
use crate::delivery::{
    BreakerPolicy, DeliveryOptions, Dispatcher, NodeLease, Recoveries, Retention, retry::Schedule,
    run_retention,
};
use crate::egress::{self, AllowRule, Egress, EgressOptions, OwnServer, Resolver};
use crate::event::{Intake, IntakeOptions};
use crate::identifier::TokenId;
use crate::inspector::{self, InspectorGate, KnownInspectors};
use crate::invoke::{Invoke, InvokeOptions, InvokeParts};
use crate::lifecycle::{
    Lifecycle, LifecycleOptions, OrgClosures, Reconciler, ReconcilerParts, Rollouts, run_reconciler,
};
use crate::listening::Listening;
use crate::manifest;
use crate::notice::{Board, Outbox, OutboxOptions, run_expiry};
use crate::oauth::{Connections, Providers, Revocations, exchanges};
use crate::rotation::Rotations;
use crate::seam::Seam;
use crate::store::committer::{Committer, CommitterEnd};
use crate::store::{RoutingChange, Store};
use crate::telemetry::beat::{Beat, Beats};
use crate::webhook::own::OwnWebhooks;
use crate::webhook::{
    DeliveryBounds, ExtensionAuthority, HookFuture, RouteHook, Routing, RoutingOptions,
};

/// How long a host waits for its 202 before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long results may take to be written when the server stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// After how long without a sign a loop counts as stalled.
const STALLED: Duration = Duration::from_secs(15);

/// How often routing is read where no notification comes.
const ROUTING_POLL: Duration = Duration::from_millis(250);

/// What runs beside the listener.
#[derive(Debug)]
pub(super) struct Rooms {
    store: Store,
    seam: Seam,
    dispatcher: Dispatcher,
    /// Hands out access tokens.
    pub(super) connections: Connections,
    routing: Routing,
    committer: Committer,
    lease: NodeLease,
    /// Cancelled where another node took this one for dead.
    pub(super) lost: CancellationToken,
    stop: CancellationToken,
    lease_stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
    lease_loop: JoinHandle<()>,
    committer_watch: JoinHandle<()>,
    drain: Duration,
}

/// What may be called, as the configuration has it.
fn egress_policy(config: &Config) -> Result<egress::Policy, StartError> {
    let allow = config
        .egress
        .allow
        .iter()
        .map(|network| {
            AllowRule::new(network.network(), network.port())
                .map_err(|error| StartError::Egress(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(egress::Policy {
        allow,
        require_https: config.egress.require_https,
        refuse_ports: config.egress.refuse_ports.clone(),
        ..egress::Policy::default()
    })
}

/// The door out, as the configuration has it.
pub(super) fn open_egress(config: &Config, seam: &Seam) -> Result<Egress, StartError> {
    let proxy = match &config.egress.proxy {
        Some(proxy) => Some(
            Url::parse(proxy.expose()).map_err(|error| StartError::Egress(error.to_string()))?,
        ),
        None => None,
    };
    let options = EgressOptions {
        policy: egress_policy(config)?,
        proxy,
        ca_file: config.egress.ca_file.clone(),
        user_agent: concat!("Mortise/", env!("CARGO_PKG_VERSION")).to_owned(),
        resolver: Resolver::default(),
        own_server: Some(
            OwnServer::new(&config.public_url, config.listen)
                .with_port(config.metrics.listen.map(|address| address.port())),
        ),
    };
    Egress::new(options, seam.clock.clone()).map_err(|error| StartError::Egress(error.to_string()))
}

/// The rules for packages: hosts are judged as egress judges them.
pub(crate) fn package_policy(config: &Config) -> Result<manifest::Policy, StartError> {
    Ok(manifest::Policy {
        require_https: config.egress.require_https,
        host_vetting: host_vetting(egress_policy(config)?),
        denied_scopes: config.catalogue.denied_scopes.clone(),
        ..manifest::Policy::strict_offline()
    })
}

/// The one function by which hosts are judged, whoever asks: when a package is checked, here or at
/// the command line, a webhook is saved, and a request is sent.
fn host_vetting(policy: egress::Policy) -> manifest::HostVetting {
    Arc::new(move |host, port| match egress::host_verdict(host, port, &policy) {
        egress::HostVerdict::Public => manifest::HostVerdict::Public,
        egress::HostVerdict::Documentation => manifest::HostVerdict::Documentation,
        egress::HostVerdict::NotPublic { reason } => {
            // The end of a sentence that names the host already.
            let reason = match reason {
                egress::Refusal::Address { range, .. } => format!("is not public ({range})"),
                egress::Refusal::Name { rule, .. } => format!("cannot be public: it {rule}"),
                egress::Refusal::Port { port } => {
                    format!(
                        "cannot be called at port {port}, which is another protocol's or refused"
                    )
                }
                other => format!("cannot be called: {other}"),
            };
            manifest::HostVerdict::NotPublic { reason }
        }
    })
}

fn marketplace_verifier(config: &Config) -> Result<Option<Arc<Verifier>>, CryptoError> {
    let Some(secret) = &config.marketplace.signing_secret else { return Ok(None) };
    Ok(Some(Arc::new(Verifier::new([&chosen_secret(secret)?], [])?)))
}

fn chosen_secret(secret: &SecretString) -> Result<SigningSecret, CryptoError> {
    let text = secret.expose_secret();
    if text.starts_with("whsec_") {
        SigningSecret::parse(text)
    } else {
        SigningSecret::from_chosen_bytes(text.as_bytes())
    }
}

/// What sends notices, where somebody is to get them.
fn outbox(
    config: &Config,
    store: &Store,
    egress: &Egress,
    board: &Board,
    seam: &Seam,
) -> Result<Option<Outbox>, CryptoError> {
    let (Some(url), Some(secret)) = (&config.notices.url, &config.notices.signing_secret) else {
        return Ok(None);
    };
    let signer = Arc::new(Signer::new([&chosen_secret(secret)?])?);
    let options = OutboxOptions { url: url.clone(), signer };
    Ok(Some(Outbox::new(store.clone(), egress.clone(), seam.clone(), board.clone(), options)))
}

pub(super) fn delivery_options(config: &Config, board: &Board) -> DeliveryOptions {
    let delivery = &config.delivery;
    DeliveryOptions {
        deadline: delivery.deadline,
        concurrency_per_webhook: delivery.concurrency_per_webhook,
        concurrency: delivery.concurrency,
        schedule: Schedule::new(delivery.schedule.clone()),
        queue_bytes: delivery.queue_bytes,
        breaker: BreakerPolicy {
            failures: delivery.breaker.failures,
            failure_percent: delivery.breaker.failure_percent,
            volume: delivery.breaker.volume,
            pause: delivery.breaker.pause,
            pause_limit: delivery.breaker.pause_limit,
        },
        disable_after: delivery.disable_after,
        notices: board.clone(),
    }
}

/// Tells the dispatcher and the tokens' cache of applied changes, before they count as applied.
fn hooks(dispatcher: &Dispatcher, authenticator: &Authenticator) -> Vec<RouteHook> {
    let (dispatcher, unpausing) = (dispatcher.clone(), dispatcher.clone());
    let authenticator = authenticator.clone();
    let stopped: RouteHook = Box::new(move |_, stopped: Vec<Uuid>| -> HookFuture {
        let dispatcher = dispatcher.clone();
        Box::pin(async move {
            if !stopped.is_empty() {
                dispatcher.quiesce(&stopped).await;
            }
        })
    });
    let unpaused: RouteHook = {
        let dispatcher = unpausing;
        Box::new(move |changes: Vec<RoutingChange>, _| -> HookFuture {
            let ids: Vec<Uuid> = changes
                .iter()
                .filter_map(|change| match change {
                    RoutingChange::Endpoint(id) => id.parse().ok(),
                    _ => None,
                })
                .collect();
            if !ids.is_empty() {
                dispatcher.unpause(&ids);
            }
            Box::pin(std::future::ready(()))
        })
    };
    let revoked: RouteHook = Box::new(move |changes: Vec<RoutingChange>, _| -> HookFuture {
        let ids: HashSet<TokenId> = changes
            .iter()
            .filter_map(|change| match change {
                RoutingChange::Token(id) => id.parse().ok(),
                _ => None,
            })
            .collect();
        authenticator.forget(&ids.into_iter().collect::<Vec<_>>());
        Box::pin(std::future::ready(()))
    });
    vec![stopped, unpaused, revoked]
}

fn invoke_options(config: &Config) -> InvokeOptions {
    let limits = &config.limits;
    InvokeOptions {
        api_base: config.host.api_base.clone(),
        per_minute: limits.invoke_per_minute,
        under_way: limits.invoke_under_way,
        deadline: limits.invoke_deadline,
        response_bytes: limits.invoke_response_bytes,
        kept: limits.invocations_kept,
    }
}

fn incoming_rates(config: &Config, seam: &Seam) -> IncomingRates {
    let limits = &config.limits;
    let of_installation = limits.incoming_installation_per_minute;
    IncomingRates::new(limits.incoming_per_minute, of_installation, &seam.clock)
}

/// Ends the calls of installations that stop to serve, before that counts as applied.
fn invoke_hook(invoke: &Invoke) -> RouteHook {
    let invoke = invoke.clone();
    Box::new(move |changes: Vec<RoutingChange>, _| -> HookFuture {
        let invoke = invoke.clone();
        Box::pin(async move { invoke.apply(&changes).await })
    })
}

impl Rooms {
    /// Puts the rooms together and starts their loops.
    pub(super) async fn open(
        config: &Config,
        store: &Store,
        keys: &Keys,
        state: &ApiState,
        seam: &Seam,
    ) -> Result<Self, StartError> {
        let egress = open_egress(config, seam)?;
        let options = RoutingOptions {
            bounds: DeliveryBounds::of(&config.delivery),
            ed25519: config.delivery.ed25519,
        };
        let routing = Routing::load(store, keys, &egress, &seam.clock, options).await?;
        let board = Board::new(seam.clone(), config.notices.url.is_some());
        let options = delivery_options(config, &board);
        let lease = NodeLease::acquire(store, seam, options.queue_bytes)
            .await
            .map_err(StartError::Nodes)?;
        let dispatcher = Dispatcher::new(
            store.clone(),
            routing.clone(),
            egress.clone(),
            keys.clone(),
            seam.clone(),
            lease.clone(),
            options,
        );
        let (beats, writing) = (Beats::default(), Beat::new(seam.clock.clone()));
        let following = Beat::new(seam.clock.clone());
        beats.watch("routing", STALLED, following.clone());
        beats.watch("refill", STALLED, dispatcher.beat());
        beats.watch("commit", STALLED, writing.clone());
        let (committer, committer_end) = {
            let dispatcher = dispatcher.clone();
            let hand_over = Arc::new(move |events| dispatcher.hand_over(events));
            Committer::start(store, lease.epoch(), seam.clock.clone(), hand_over, writing)
                .map_err(StartError::Nodes)?
        };
        routing.attach(lease.epoch(), hooks(&dispatcher, state.authenticator()));
        // What changed between reading and entering among the nodes: from here on others wait.
        routing.apply().await?;
        let providers = Providers::new(
            config.oauth.providers.clone(),
            &config.public_url,
            store.clone(),
            keys.ring.clone(),
            egress.clone(),
            seam.clock.clone(),
        );
        let connections = Connections::new(
            store.clone(),
            keys.ring.clone(),
            providers.clone(),
            board.clone(),
            seam.clone(),
        );
        let exchanging = providers.clone();
        let revocations = Arc::new(Revocations::new(
            store.clone(),
            keys.ring.clone(),
            providers.clone(),
            seam.clone(),
        ));
        let lifecycle = Lifecycle::new(
            store.clone(),
            keys.clone(),
            routing.clone(),
            dispatcher.clone(),
            providers.clone(),
            Arc::clone(&revocations),
            connections.clone(),
            ExtensionAuthority::for_server(),
            board.clone(),
            config.public_url.clone(),
            config.marketplace.return_urls.clone(),
            seam.clone(),
            LifecycleOptions {
                erase_after: config.installations.erase_after,
                egress: egress.clone(),
            },
        );
        let reconciler = Reconciler::of_server(
            ReconcilerParts {
                store: store.clone(),
                keys: keys.clone(),
                authority: ExtensionAuthority::for_server(),
                board: board.clone(),
                seam: seam.clone(),
                erase_after: config.installations.erase_after,
            },
            routing.clone(),
            dispatcher.clone(),
            Arc::clone(&revocations),
        );
        let intake = Intake::new(
            routing.clone(),
            dispatcher.clone(),
            committer.clone(),
            seam.clone(),
            IntakeOptions { patience: PATIENCE },
        );
        let marketplace = marketplace_verifier(config)
            .map_err(|error| StartError::MarketplaceSecret(error.to_string()))?;
        let outbox = outbox(config, store, &egress, &board, seam)
            .map_err(|error| StartError::NoticesSecret(error.to_string()))?;
        let (invoke, invoke_writer) = Invoke::new(
            InvokeParts {
                store: store.clone(),
                keys: keys.clone(),
                egress: egress.clone(),
                providers: providers.clone(),
                connections: connections.clone(),
                lifecycle: lifecycle.clone(),
                lease: lease.clone(),
                seam: seam.clone(),
            },
            invoke_options(config),
        )
        .map_err(|error| StartError::Egress(error.to_string()))?;
        routing.add_hook(invoke_hook(&invoke));
        let recoveries = Recoveries::new(
            store.clone(),
            dispatcher.clone(),
            seam.clone(),
            config.delivery.recovery_per_second,
        );
        let rollouts = Rollouts::new(lifecycle.clone());
        let own_webhooks = OwnWebhooks::new(
            store.clone(),
            keys.clone(),
            egress.clone(),
            board.clone(),
            seam.clone(),
        );
        let rotations =
            Rotations::of_server(store.clone(), keys.clone(), routing.clone(), seam.clone());
        let erasing = lifecycle.clone();
        let listening = Listening::new(store.clone(), &dispatcher, seam.clone());
        // So that the first package does not wait for the schemas; one that comes before does.
        drop(tokio::task::spawn_blocking(manifest::warm_up));
        state.serve_with(Services {
            lifecycle: lifecycle.clone(),
            connections: connections.clone(),
            reconciler: reconciler.clone(),
            board: board.clone(),
            intake,
            routing: routing.clone(),
            dispatcher: dispatcher.clone(),
            recoveries: recoveries.clone(),
            rollouts: rollouts.clone(),
            rotations: rotations.clone(),
            own_webhooks: own_webhooks.clone(),
            trials: Arc::new(TrialRates::new(config.limits.tests_per_minute, seam.clock.clone())),
            invoke,
            incoming_rates: Arc::new(incoming_rates(config, seam)),
            beats: beats.clone(),
            scrapes: Arc::default(),
            listening: listening.clone(),
            readers: ReaderPlaces::default(),
            inspector_gate: Arc::new(InspectorGate::new(seam.clock.clone())),
            inspectors: Arc::new(KnownInspectors::new(seam.clock.clone())),
            policy: Arc::new(package_policy(config)?),
            marketplace,
        });
        settle_by(state, &routing);
        ready_by(state, &lease);
        run_by(state, &beats);

        let stop = CancellationToken::new();
        let lease_stop = CancellationToken::new();
        let lost = CancellationToken::new();
        let lease_loop =
            tokio::spawn(lease.clone().run(routing.clone(), lease_stop.clone(), lost.clone()));
        let reaper =
            tokio::spawn(lease.clone().run_reaper(store.clone(), dispatcher.clone(), stop.clone()));
        let follow = tokio::spawn(follow(
            routing.clone(),
            store.clone(),
            seam.clone(),
            following,
            lease_stop.clone(),
        ));
        let revoke = {
            let stop = stop.clone();
            tokio::spawn(async move { revocations.run(stop).await })
        };
        let prune = tokio::spawn(run_retention(
            store.clone(),
            seam.clock.clone(),
            Retention {
                payload: config.delivery.retention.payload,
                attempts: config.delivery.retention.attempts,
                deduplication: config.delivery.retention.deduplication,
                audit: config.audit.retention,
            },
            stop.clone(),
        ));
        let exchanges = tokio::spawn(exchanges::run(
            store.clone(),
            keys.ring.clone(),
            exchanging,
            seam.clone(),
            stop.clone(),
        ));
        let recover = tokio::spawn(recoveries.run(stop.clone()));
        let refresh = {
            let (connections, stop) = (connections.clone(), stop.clone());
            tokio::spawn(async move { connections.run(stop).await })
        };
        let close = tokio::spawn(OrgClosures::new(lifecycle.clone()).run(stop.clone()));
        let roll_out = tokio::spawn(rollouts.run(stop.clone()));
        let rotate = tokio::spawn(rotations.run(stop.clone()));
        let erase = tokio::spawn(erasing.run_erasures(stop.clone()));
        let record = tokio::spawn(invoke_writer.run(stop.clone()));
        let watch_own = tokio::spawn(own_webhooks.run(stop.clone()));
        let inspect =
            tokio::spawn(inspector::run_pruning(store.clone(), seam.clock.clone(), stop.clone()));
        let listen = tokio::spawn(listening.run(stop.clone()));
        let expire =
            tokio::spawn(run_expiry(store.clone(), board.clone(), seam.clone(), stop.clone()));
        let mut loops = vec![
            follow, revoke, prune, reaper, recover, refresh, close, roll_out, erase, exchanges,
            record, rotate, inspect, listen, expire, watch_own,
        ];
        if let Some(every) = config.reconcile.every {
            let repair = config.reconcile.repair;
            loops.push(tokio::spawn(run_reconciler(reconciler, every, repair, stop.clone())));
        }
        loops.extend(outbox.map(|outbox| tokio::spawn(outbox.run(stop.clone()))));
        if let Some((tracer, export)) = TraceExport::of(&config.otlp, &egress, seam)? {
            state.trace_with(tracer);
            // Until the last deliveries have ended.
            loops.push(tokio::spawn(export.run(lease_stop.clone())));
        }
        dispatcher.start(committer.clone());
        let committer_watch =
            tokio::spawn(watch_committer(committer_end, stop.clone(), lost.clone()));
        Ok(Self {
            store: store.clone(),
            seam: seam.clone(),
            dispatcher,
            connections,
            routing,
            committer,
            lease,
            lost,
            stop,
            lease_stop,
            loops,
            lease_loop,
            committer_watch,
            drain: config.limits.drain,
        })
    }

    /// Stops: what is under way finishes, what waits is left for whoever comes next.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.dispatcher.stop(self.drain).await;
        // While the lease still holds: a result that is not on disk would be sent once more.
        let flushed = async {
            self.committer.end().await;
            let _ended = self.committer_watch.await;
        };
        tokio::select! {
            () = flushed => {}
            () = self.seam.clock.sleep(FLUSH_LIMIT) => {
                tracing::warn!("the database takes no results; what they are of is sent again");
            }
        }
        self.lease_stop.cancel();
        for task in self.loops.into_iter().chain([self.lease_loop]) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a loop ended badly");
            }
        }
        if let Err(error) = self.lease.release(&self.store).await {
            tracing::warn!(%error, "this node could not take itself out; its lease runs out by itself");
        }
        // Routing and dispatcher hold each other, and through them the database's lock.
        self.routing.detach();
    }
}

/// Nothing can be accepted without the committer: where it ends by itself, so does the server.
async fn watch_committer(end: CommitterEnd, stop: CancellationToken, lost: CancellationToken) {
    end.wait().await;
    if !stop.is_cancelled() {
        tracing::error!("the committer ended; nothing can be written any more; stopping");
        lost.cancel();
    }
}

fn settle_by(state: &ApiState, routing: &Routing) {
    let routing = routing.clone();
    state.settle_with(Box::new(move |revision| {
        let routing = routing.clone();
        Box::pin(async move { routing.settle(revision).await.map_err(Into::into) })
    }));
}

fn ready_by(state: &ApiState, lease: &NodeLease) {
    let lease = lease.clone();
    state.readiness().add("lease", move || {
        let valid = lease.is_valid();
        Box::pin(async move {
            if valid { Ok(()) } else { Err("this node's lease has run out".to_owned()) }
        })
    });
}

/// A node whose loops stand still takes requests and does nothing with them: it is not ready.
fn run_by(state: &ApiState, beats: &Beats) {
    let beats = beats.clone();
    state.readiness().add("loops", move || {
        let stalled = beats.stalled();
        Box::pin(async move { stalled.map_or(Ok(()), Err) })
    });
}

/// Applies routing as other nodes change it: told by a notification, made sure by polling.
async fn follow(routing: Routing, store: Store, seam: Seam, beat: Beat, stop: CancellationToken) {
    let mut notifications = crate::store::listen_to_routing(&store).await;
    loop {
        beat.beat();
        if let Err(error) = routing.apply().await {
            tracing::warn!(%error, "routing could not be read; tried again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = notifications.next() => {}
            () = seam.clock.sleep(ROUTING_POLL) => {}
        }
    }
}
