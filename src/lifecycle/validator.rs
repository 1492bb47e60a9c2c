//! The vendor's installation validator: asked before an install, outside of any transaction, whether
//! the org may have the extension.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::error::LifecycleError;
use super::install::{InstallRequest, check_texts, check_whose};
use super::parameters;
use super::service::{Lifecycle, read_manifest};
use crate::catalogue;
use crate::crypto::{CryptoError, desk_hash};
use crate::egress::{Answer, OutgoingRequest};
use crate::identifier::DepartmentId;
use crate::manifest::Manifest;
use crate::store::entity::{extension_version, installation};

/// The time for the whole call.
const DEADLINE: Duration = Duration::from_secs(5);

/// How much of the answer is read.
const RESPONSE_LIMIT: usize = 8_192;

/// The longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 500;

/// What the validator is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    event: &'static str,
    extension_key: &'a str,
    version: &'a str,
    org_id: &'a str,
    installed_by: Option<&'a str>,
    /// Whose a personal installation is to be; null where it is the org's.
    user_id: Option<&'a str>,
    department_ids: Option<Vec<&'a str>>,
    /// The names of the parameters that were given; never a value.
    config_names: Vec<&'a str>,
    occurred_at: String,
}

/// What the validator answers.
#[derive(Deserialize)]
struct Verdict {
    allowed: bool,
    #[serde(default)]
    message: Option<String>,
}

/// What an install needs before its transaction: the version that the vendor agreed to, or that is
/// to be installed where nobody has to agree.
#[derive(Clone, Debug, Default)]
pub struct Agreed(Option<Arc<extension_version::Model>>);

impl Agreed {
    /// Whether the vendor agreed to this version.
    pub(super) fn covers(&self, version: Uuid) -> bool {
        self.0.as_ref().is_some_and(|agreed| agreed.id == version)
    }

    /// The version that was read a moment ago, where nobody had to be asked about it meanwhile.
    pub(super) fn unasked(&self) -> Option<(extension_version::Model, Manifest)> {
        let version = self.0.as_deref()?;
        let manifest = read_manifest(version).ok()?;
        manifest.installation_validator.is_none().then(|| (version.clone(), manifest))
    }
}

impl Lifecycle {
    /// Asks the vendor's validator, where the version to be installed declares one. Nobody is asked
    /// for an installation that lives already, and nothing is kept: after a crash or a failure the
    /// next request asks again.
    pub async fn ask_validator(&self, request: &InstallRequest) -> Result<Agreed, LifecycleError> {
        let inner = &self.inner;
        check_texts(request)?;
        // Whether it lives already, or may be installed at all, the install itself says.
        let version = self.version_to_install(request).await;
        if let Ok(version) = &version
            && read_manifest(version).is_ok_and(|found| found.installation_validator.is_none())
        {
            return Ok(Agreed(Some(Arc::new(version.clone()))));
        }
        let live = installation::Entity::find()
            .filter(installation::Column::ExtensionKey.eq(request.extension_key.as_str()))
            .filter(installation::Column::OrgId.eq(request.org_id.as_str()))
            .filter(installation::Column::UserId.eq(request.user()))
            .filter(installation::Column::Live.eq(1))
            .one(inner.store.reader())
            .await?;
        if live.is_some() {
            return Ok(Agreed::default());
        }
        // An extension that is not there is said first, as the install itself does.
        catalogue::extension(&inner.store, request.extension_key.as_str(), None).await?;
        let version = version?;
        let manifest = read_manifest(&version)?;
        let Some(url) = &manifest.installation_validator else {
            return Ok(Agreed(Some(Arc::new(version))));
        };
        // What would be refused anyhow is not asked about.
        check_whose(request, &manifest)?;
        let given = request.config.clone().unwrap_or_default();
        parameters::check(&given, &manifest.parameters, true)?;
        let answer = self.call_validator(url, &version, request).await?;
        judge(&answer)?;
        Ok(Agreed(Some(Arc::new(version))))
    }

    async fn call_validator(
        &self,
        url: &Url,
        version: &extension_version::Model,
        request: &InstallRequest,
    ) -> Result<Answer, LifecycleError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let question = Question {
            event: "validateInstallation",
            extension_key: &version.extension_key,
            version: &version.version,
            org_id: request.org_id.as_str(),
            installed_by: request.installed_by.as_deref(),
            user_id: request.user_id.as_deref(),
            department_ids: request
                .department_ids
                .as_ref()
                .map(|ids| ids.iter().map(DepartmentId::as_str).collect()),
            config_names: request
                .config
                .as_ref()
                .map(|config| config.keys().map(String::as_str).collect())
                .unwrap_or_default(),
            occurred_at: now.rfc3339(),
        };
        let body = serde_json::to_vec(&question)
            .map_err(|_| LifecycleError::Unreadable { what: "request" })?;
        let (signer, secret) = inner.routing.extension_signer(version).await?;
        let id = inner.seam.randomness.id().to_string();
        let timestamp = now.seconds();
        let signature = signer.sign(&id, timestamp, &[&body]);
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", Some(id)),
            ("webhook-timestamp", Some(timestamp.to_string())),
            ("webhook-signature", Some(signature)),
            ("hash", secret.map(|secret| desk_hash(&secret, &body)).transpose()?),
        ] {
            let Some(value) = value else { continue };
            let value = HeaderValue::from_str(&value)
                .map_err(|_| CryptoError::Malformed { what: "a header of a signature" })?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let unreachable = |error: &dyn std::fmt::Display| LifecycleError::Unvalidated {
            reason: error.to_string(),
        };
        let url = inner.options.egress.vet(url).map_err(|refusal| unreachable(&refusal))?;
        let outgoing = OutgoingRequest {
            method: Method::POST,
            url,
            headers,
            body: Bytes::from(body),
            deadline: DEADLINE,
            response_limit: RESPONSE_LIMIT,
            gate: None,
        };
        inner.options.egress.send(outgoing).await.map_err(|error| unreachable(&error))
    }
}

/// Only a 2xx that says so is a yes or a no; everything else is a failure that passes.
fn judge(answer: &Answer) -> Result<(), LifecycleError> {
    let unclear = |reason: String| Err(LifecycleError::Unvalidated { reason });
    if !answer.status.is_success() {
        return unclear(format!("it answered {}", answer.status.as_u16()));
    }
    let verdict = match serde_json::from_slice::<Verdict>(&answer.body_excerpt) {
        Ok(verdict) if !answer.truncated => verdict,
        Ok(_) => return unclear("its answer is longer than 8 KiB".to_owned()),
        Err(_) => {
            return unclear("its answer is not `{\"allowed\":…,\"message\":…}`".to_owned());
        }
    };
    if verdict.allowed {
        return Ok(());
    }
    let message = plain(verdict.message.as_deref().unwrap_or_default());
    Err(LifecycleError::RefusedByVendor { message })
}

/// A text of the vendor as it may be shown: one line, bounded.
fn plain(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(LONGEST_MESSAGE)
        .collect();
    let shown = shown.trim();
    if shown.is_empty() { "the vendor gave no reason".to_owned() } else { shown.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_bounded_line() {
        assert_eq!(plain("no\r\nseats\tleft"), "no  seats left");
        assert_eq!(plain(" \n "), "the vendor gave no reason");
        assert_eq!(plain(&"x".repeat(9_000)).chars().count(), LONGEST_MESSAGE);
    }
}
