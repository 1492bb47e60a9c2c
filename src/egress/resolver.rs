//! From names to vetted addresses, inside of the connector.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::Shared;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::connecting::ConnectFailure;
use super::library::CONNECTING;
use super::probe::Probe;
use super::vetting::{Policy, vet_address};
use crate::seam::Clock;

/// Lookups that run at once; each holds a thread of the blocking pool, which has 512.
const RUNNING_LOOKUPS: usize = 256;
/// Names that may wait for a lookup; beyond, a lookup fails at once.
const WAITING_NAMES: usize = 4_096;

/// Who answers for names.
#[derive(Clone, Debug)]
pub enum Resolver {
    /// The operating system.
    System(SystemNames),
    /// A script, for tests and simulation.
    Scripted(ScriptedNames),
}

impl Default for Resolver {
    fn default() -> Self {
        Self::System(SystemNames::default())
    }
}

/// A name has no addresses, for the reason given.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct LookupFailed {
    reason: Arc<str>,
}

type Answer = Result<Arc<[IpAddr]>, LookupFailed>;
type Lookup = Shared<Pin<Box<dyn Future<Output = Answer> + Send>>>;

impl Resolver {
    async fn look_up(&self, name: &str) -> Answer {
        match self {
            Self::System(names) => names.look_up(name).await,
            Self::Scripted(names) => names.look_up(name),
        }
    }
}

/// Asks the operating system. Callers that ask for the same name at the same time share one
/// lookup, so that a name whose servers hang occupies one thread and not one for each delivery.
#[derive(Clone)]
pub struct SystemNames {
    running: Arc<Mutex<HashMap<Box<str>, Lookup>>>,
    permits: Arc<Semaphore>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self { running: Arc::default(), permits: Arc::new(Semaphore::new(RUNNING_LOOKUPS)) }
    }
}

impl fmt::Debug for SystemNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SystemNames").finish_non_exhaustive()
    }
}

impl SystemNames {
    async fn look_up(&self, name: &str) -> Answer {
        let lookup = {
            let mut running = unpoisoned(&self.running);
            match running.get(name) {
                Some(lookup) => lookup.clone(),
                None if running.len() >= WAITING_NAMES => {
                    return Err(LookupFailed {
                        reason: "too many names wait for an answer".into(),
                    });
                }
                None => {
                    let lookup = self.start(name.into());
                    running.insert(name.into(), lookup.clone());
                    lookup
                }
            }
        };
        lookup.await
    }

    /// Runs on its own, so that it ends and cleans up also when all who asked have gone.
    fn start(&self, name: Box<str>) -> Lookup {
        let permits = Arc::clone(&self.permits);
        let running = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            let answer = match permits.acquire().await {
                Ok(_permit) => ask_system(&name).await,
                Err(_) => Err(LookupFailed { reason: "the resolver is closed".into() }),
            };
            unpoisoned(&running).remove(&name);
            answer
        });
        let lookup: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(async move {
            task.await.unwrap_or_else(|_| {
                Err(LookupFailed { reason: "the lookup was cut off by the shutdown".into() })
            })
        });
        lookup.shared()
    }
}

async fn ask_system(name: &str) -> Answer {
    match tokio::net::lookup_host((name, 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(LookupFailed { reason: error.to_string().into() }),
    }
}

/// What a name answers, one lookup after the other.
type Script = VecDeque<Vec<IpAddr>>;

/// Answers from a script: each lookup of a name takes its next answer, the last one stays. Cloning
/// shares the script.
#[derive(Clone, Debug, Default)]
pub struct ScriptedNames {
    answers: Arc<Mutex<HashMap<Box<str>, Script>>>,
}

impl ScriptedNames {
    /// Adds the answers of a name, in the order in which they are given.
    #[must_use]
    pub fn with(self, name: &str, answers: impl IntoIterator<Item = Vec<IpAddr>>) -> Self {
        unpoisoned(&self.answers).insert(name.into(), answers.into_iter().collect());
        self
    }

    fn look_up(&self, name: &str) -> Answer {
        let mut answers = unpoisoned(&self.answers);
        let script = answers.get_mut(name);
        let answer = match script {
            Some(script) if script.len() > 1 => script.pop_front(),
            Some(script) => script.front().cloned(),
            None => None,
        };
        answer.map(Arc::from).ok_or_else(|| LookupFailed { reason: "no such name".into() })
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept under these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver of a client: gives only addresses that may be connected to.
pub(super) struct VettingResolver {
    pub(super) resolver: Resolver,
    /// Nothing for the operator's own hosts, which are trusted.
    pub(super) policy: Option<Arc<Policy>>,
    /// The proxy, which is the operator's as well.
    pub(super) proxy: Option<Box<str>>,
    pub(super) clock: Clock,
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        // The connector calls this on behalf of one request, in whose scope the port is known.
        let probe = CONNECTING.try_with(Arc::clone).ok();
        let is_proxy = self.proxy.as_deref() == Some(name.as_str());
        let policy = if is_proxy { None } else { self.policy.clone() };
        let resolver = self.resolver.clone();
        let clock = self.clock.clone();
        Box::pin(async move {
            let resolver = (&resolver, policy.as_deref(), &clock);
            let port = probe.as_ref().map_or(0, |probe| probe.port);
            let vetted = vetted_addresses(resolver, name.as_str(), port, probe.as_deref()).await?;
            let addresses = vetted.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// The addresses of a name that may be connected to at the port; at least one. Without a policy
/// all of them may.
pub(super) async fn vetted_addresses(
    (resolver, policy, clock): (&Resolver, Option<&Policy>, &Clock),
    name: &str,
    port: u16,
    probe: Option<&Probe>,
) -> Result<Vec<IpAddr>, ConnectFailure> {
    let started = clock.instant();
    let answer = resolver.look_up(name).await;
    if let Some(probe) = probe {
        probe.resolved(started.elapsed());
    }
    let mut refusal = None;
    let mut vetted = Vec::new();
    for address in answer?.iter() {
        match policy.map_or(Ok(()), |policy| vet_address(*address, port, policy)) {
            Ok(()) => vetted.push(*address),
            Err(reason) => refusal = Some(reason),
        }
    }
    match refusal {
        _ if !vetted.is_empty() => Ok(vetted),
        None => Err(LookupFailed { reason: "the name has no addresses".into() }.into()),
        Some(reason) => {
            if let Some(probe) = probe {
                probe.refuse(reason.clone());
            }
            Err(reason.into())
        }
    }
}
