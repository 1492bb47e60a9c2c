//! The orgs' own webhooks: what one may say, what is kept of it, and who may have how many.
//!
//! A request is checked as a whole ([`WebhookRequest::check`]) before anything is written; every
//! change goes through [`OwnWebhooks`], in one transaction with its audit row, under the lock of the
//! org's plan, so that what is counted is what there is.

mod authentication;
mod current;
mod definition;
mod development;
mod face;
mod granting;
pub(crate) mod grants;
mod headers;
mod imported;
mod loading;
mod plan;
mod plan_changes;
mod request;
mod rule_writing;
mod rules;
mod secrets;
mod standing;
mod subscriptions;
mod watching;
mod writing;

pub use authentication::{
    Authentication, AuthenticationRequest, ClientAuthentication, EndpointAuthentication,
};
pub use current::Current;
pub use definition::{Definition, FieldFault, Kept, Settings, TlsSettings, WhileDisabled};
pub use development::{DevelopmentChanged, DevelopmentMark};
pub use face::OwnFace;
pub use granting::{AuthorizationBegun, AuthorizationRefusal, AuthorizationStarted};
pub use imported::{Carried, Imported, imported_key};
pub use plan::{Plan, PlanRequest, PlanUse};
pub use plan_changes::PlanChanged;
pub use request::{TlsRequest, WebhookPatch, WebhookRequest};
pub use rule_writing::RuleView;
pub use rules::{
    FindUnknown, MOST_RULES, RequestForm, RoutedRule, RuleAction, RuleDefinition, RuleKind,
    RulePatch, RuleRequest, Vocabulary,
};
pub use secrets::{LONGEST_OVERLAP, SecretRotated};
pub use subscriptions::SubscriptionRequest;
pub use writing::{Created, OwnRefusal, OwnWebhooks, Updated, id_of_alias};

pub(crate) use authentication::{add_secret, is_ours};
pub(crate) use definition::stored_settings;
pub(crate) use development::development_orgs;
pub(crate) use granting::broken_message;
pub(crate) use loading::signing_secret;
pub(in crate::webhook) use loading::{Doors, is_own, spread};
pub(crate) use plan_changes::{remove_some_of_org, switch_on};
pub(crate) use writing::DISCARDED;

/// How the rows of own webhooks are called in `webhooks.kind`.
pub(crate) const KIND: &str = "customer";

/// The field of a sealed secret.
pub(crate) const SECRET_FIELD: &str = "own-webhook-secret";

/// The field of a sealed secret that was replaced.
pub(crate) const FORMER_SECRET_FIELD: &str = "own-webhook-former-secret";

/// The field of sealed credentials.
pub(crate) const CREDENTIALS_FIELD: &str = "own-webhook-credentials";

/// The field of a sealed access token.
pub(crate) const TOKEN_FIELD: &str = "own-webhook-access-token";
