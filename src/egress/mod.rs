//! The only door out.
//!
//! Every outgoing request of the program goes through [`Egress::send`]: to vendors, to an
//! administrator's own webhooks, to the host's API and to authorisation servers. The first two are
//! vetted: their URL by [`Egress::vet`] (the same rules when a package is checked, a webhook is
//! saved, tested and called), and what their name resolves to by the resolver inside of the
//! connector, so that exactly the vetted addresses are connected to and an answer of DNS that
//! changes in between (rebinding) gains nothing. The operator's own hosts are
//! [trusted](Egress::trusted) as configured.
//!
//! Redirects are never followed, no proxy is taken from the environment, nothing is decompressed,
//! nothing is retried, one deadline covers a request from name resolution to the last byte of the
//! answer, and answers are read to a cap.
//!
//! Commands that call a Mortise server do so by `mortise-client`, over the HTTP client that
//! [`api_client`] makes for it: no delivery ever goes that way.

mod answer;
mod api_client;
mod certificate;
mod client;
mod connecting;
mod connections;
mod exchange;
mod gated;
mod library;
mod oauth;
mod own_server;
mod probe;
mod receiver_control;
mod resolver;
mod retry_after;
mod tls;
mod vetting;

#[cfg(test)]
mod notations;
#[cfg(test)]
mod receivers;
#[cfg(test)]
mod tls_receivers;

pub use answer::{Answer, ErrorClass, Outcome, Phases, SendError};
pub use api_client::{api_client, told_of};
pub use client::{Egress, EgressError, EgressOptions, TlsProfile};
pub use exchange::OutgoingRequest;
pub use gated::Gate;
pub use oauth::{OauthHttpClient, OauthHttpError};
pub use own_server::OwnServer;
pub use receiver_control::{ReceiverControl, receiver_control};
pub use resolver::{Resolver, ScriptedNames, SystemNames};
pub use retry_after::retry_after;
pub use vetting::{
    AllowRule, HostVerdict, InvalidAllowRule, Policy, Refusal, VettedUrl, host_verdict,
    vet_address, vet_url,
};
