//! Where deliveries go: everything that sending needs, made ready once.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;
use uuid::Uuid;

use super::matching::{Facts, Filter};
use super::own::{OwnFace, RoutedRule};
use super::terms::DeliveryTerms;
use crate::crypto::{SecretText, SecurityContext, Signer};
use crate::dialect::{self, Connection, Dialect};
use crate::egress::VettedUrl;

/// Whether deliveries may be made to an endpoint now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// They may.
    Open,
    /// New ones are made and kept: the webhook is gone or disabled.
    Held,
    /// None are made, and those queued are kept: the installation is suspended.
    Suspended,
    /// The same, since an own webhook is switched off.
    Off,
}

impl Passage {
    /// Whether events make deliveries, sent or kept.
    pub const fn makes_deliveries(self) -> bool {
        matches!(self, Self::Open | Self::Held)
    }
}

/// The installation that a webhook belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The installation.
    pub installation_id: Uuid,
    /// Its extension.
    pub extension_key: Arc<str>,
}

/// A webhook, ready to be called.
#[derive(Debug)]
pub struct Endpoint {
    /// The webhook's id.
    pub id: Uuid,
    /// The org that it belongs to.
    pub org_id: Arc<str>,
    /// The installation that owns it; none for an org's own webhook.
    pub owner: Option<Owner>,
    /// The generation of the installation; a delivery of another one is cancelled.
    pub generation: i32,
    /// The address, with `orgId` and `securityContext`; or why it may not be called.
    pub destination: Result<VettedUrl, String>,
    /// The securityContext in that address, to be masked where a receiver echoes it.
    pub security_context: Option<SecurityContext>,
    /// How its body looks.
    pub dialect: Dialect,
    /// Signs with every live secret.
    pub signer: Arc<Signer>,
    /// Whether deliveries go one after the other, in order of acceptance.
    pub ordered: bool,
    /// The event types for which it asked for the state before the change.
    pub wants_previous: Vec<Arc<str>>,
    /// Whether deliveries may be made.
    pub passage: Passage,
    /// Whether its last delivery used up all attempts.
    pub is_failing: bool,
    /// On which terms deliveries are made.
    pub terms: DeliveryTerms,
    /// What of the stored webhook this release cannot read. Its deliveries are made and held, for a
    /// node that can.
    pub unreadable: Option<&'static str>,
    /// Whether it gets what third parties post, and no events.
    pub is_incoming: bool,
    /// What an org's own webhook has beside an extension's.
    pub own: Option<OwnFace>,
}

impl Endpoint {
    /// Whether its deliveries say what they tell of.
    pub fn has_variants(&self) -> bool {
        self.own
            .as_ref()
            .is_some_and(|own| self.dialect.has_names() || own.connection != Connection::Events)
    }
}

/// What a webhook asks of one event type.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The webhook.
    pub endpoint: Arc<Endpoint>,
    /// Which events pass.
    pub filter: Arc<Filter>,
    /// Which of its dialect's events it is, where the dialect has names of its own.
    pub name: Option<Arc<str>>,
    /// The trigger or automation that decides; its name is the variant then.
    pub rule: Option<Arc<RoutedRule>>,
}

impl Subscription {
    /// Whether an event of the type is the one of the dialect's that is subscribed to.
    pub fn tells_of(&self, event_type: &str, facts: &Facts<'_>) -> bool {
        if let Some(rule) = &self.rule {
            return rule.conditions.hold(event_type, facts).is_ok();
        }
        let Some(name) = &self.name else { return true };
        // Read once for all names that are subscribed to.
        let documents = || (facts.payload(), facts.previous());
        dialect::told_with(self.endpoint.dialect, event_type, &documents).contains(&&**name)
    }
}

/// Where the lifecycle callbacks of an installation go. It outlives the installation's end, since
/// its last callback tells of that.
#[derive(Debug)]
pub struct CallbackLane {
    /// The installation.
    pub installation_id: Uuid,
    /// Its org.
    pub org_id: String,
    /// Its generation.
    pub generation: i32,
    /// The address of each event, as the serving version's manifest declares it.
    pub addresses: HashMap<String, Url>,
    /// The manifest's `secret`, which keys the `HASH` header.
    pub hash_secret: Option<SecretText>,
    /// Signs with every live secret of the extension.
    pub signer: Arc<Signer>,
    /// The securityContext that goes into the body.
    pub security_context: SecurityContext,
}
