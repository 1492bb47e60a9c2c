//! An own webhook ready to be called: what its requests are made of beside what every endpoint has.

use std::sync::Arc;

use uuid::Uuid;

use super::authentication::EndpointAuthentication;
use super::definition::Definition;
use super::rules::RoutedRule;
use crate::crypto::SecretText;
use crate::dialect::{Connection, RequestSettings, WebhookFace};
use crate::egress::Egress;

/// What an own webhook has beside an extension's.
#[derive(Debug)]
pub struct OwnFace {
    /// Its id as a number.
    pub alias: i64,
    /// Its name.
    pub name: String,
    /// What makes it send.
    pub connection: Connection,
    /// The triggers or automations that call it.
    pub rules: Vec<Arc<RoutedRule>>,
    /// How its requests look.
    pub request: RequestSettings,
    /// How the endpoint is told who calls.
    pub authentication: EndpointAuthentication,
    /// A digest of the settings that an access token was fetched with.
    pub settings_digest: String,
    /// A digest of everything that its requests are made of, secrets and rules among it: to be
    /// compared, and shown to nobody.
    pub standing: String,
    /// A door of its own, where it has TLS settings of its own; or why there is none.
    pub egress: Result<Option<Egress>, String>,
}

impl OwnFace {
    /// A webhook that is not saved.
    pub fn of(definition: &Definition, egress: &Egress) -> Self {
        let secret = definition.credentials.clone();
        let profile = definition.settings.tls_profile(secret.as_ref());
        Self {
            alias: 1,
            name: definition.name.clone().unwrap_or_default(),
            connection: definition.connection,
            rules: Vec::new(),
            request: definition.request.clone(),
            authentication: EndpointAuthentication {
                how: definition.settings.authentication.clone(),
                secret,
            },
            settings_digest: String::new(),
            standing: String::new(),
            egress: match profile {
                Some(profile) => egress.with_tls(&profile).map(Some),
                // The door of everybody is at hand; this one is not.
                None => Ok(egress.is_development().then(|| egress.clone())),
            }
            .map_err(|error| error.to_string()),
        }
    }

    /// The trigger or automation with an id.
    pub fn rule(&self, id: Uuid) -> Option<&Arc<RoutedRule>> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// As its receiver may know it.
    pub(crate) fn as_seen(&self, id: Uuid) -> WebhookFace<'_> {
        WebhookFace { id, alias: self.alias, name: &self.name }
    }

    /// The texts that must not be shown where a receiver echoes them.
    pub(crate) fn concealed(&self) -> Vec<SecretText> {
        self.authentication.concealed()
    }
}
