//! `/api/v1/installedExtensions/…` through invoke: answered by this server itself, as the
//! installation that calls.

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::answer::InvokeAnswer;
use super::error::InvokeError;
use super::prepared::Prepared;
use super::service::Invoke;
use super::target::OWN_PATH;
use super::tenant::Tenant;
use crate::audit::Actor;
use crate::extension_data::ExtensionDataError;
use crate::extension_data::storage::{self, StorageQuery, StoredValue};
use crate::lifecycle::{ConfigVariables, LifecycleError};
use crate::store::UnitOfWork;

/// Values of the store as they may be sent: one, or a list.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredValues {
    /// The values.
    pub values: Vec<StoredValue>,
    /// Whether they came as a list.
    pub is_list: bool,
}

impl StoredValues {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, ExtensionDataError> {
        let invalid = |error: serde_json::Error| ExtensionDataError::Invalid {
            pointer: String::new(),
            message: format!("must be {{key, queriableValue?, value}} or a list of them: {error}"),
        };
        let is_list = body.trim_ascii_start().starts_with(b"[");
        let values = if is_list {
            serde_json::from_slice(body).map_err(invalid)?
        } else {
            vec![serde_json::from_slice(body).map_err(invalid)?]
        };
        storage::check(&values, is_list)?;
        Ok(Self { values, is_list })
    }

    /// The answer after they were written: as they were sent.
    pub fn document(&self) -> Value {
        if self.is_list { json!({ "data": self.values }) } else { json!(self.values.first()) }
    }
}

fn fault(status: StatusCode, code: &str, message: impl Into<String>) -> InvokeAnswer {
    InvokeAnswer::of_ours(status, json!({ "errorCode": code, "message": message.into() }))
}

fn data(rows: &impl Serialize) -> InvokeAnswer {
    InvokeAnswer::of_ours(StatusCode::OK, json!({ "data": rows }))
}

/// What a caller did wrong is told in the answer; what went wrong here is an error of the call.
fn refusal(error: InvokeError) -> Result<InvokeAnswer, InvokeError> {
    let text = error.to_string();
    match error {
        InvokeError::Data(ExtensionDataError::Invalid { .. } | ExtensionDataError::Full { .. })
        | InvokeError::Lifecycle(LifecycleError::Invalid { .. }) => {
            Ok(fault(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_DATA", text))
        }
        InvokeError::TooMany { wait, .. } => {
            let seconds = wait.as_secs() + 1;
            let text = format!("{text}, in {seconds} s");
            Ok(fault(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", text))
        }
        // It ended, or was suspended, just now: the calls of such a one are all answered alike.
        InvokeError::Lifecycle(
            LifecycleError::Unknown(_)
            | LifecycleError::NotNow { .. }
            | LifecycleError::Held { .. },
        ) => Err(InvokeError::Unproven),
        error => Err(error),
    }
}

impl Invoke {
    /// Answers a call of this server's own paths.
    pub(super) async fn serve(
        &self,
        tenant: &Tenant,
        call: &Prepared,
    ) -> Result<InvokeAnswer, InvokeError> {
        let rest = call.url.path().strip_prefix(OWN_PATH).unwrap_or_default();
        let (id, resource) = rest.split_once('/').unwrap_or((rest, ""));
        if id.parse::<Uuid>().ok() != Some(tenant.id) {
            let text = "There is no such installation for this securityContext.";
            return Ok(fault(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", text));
        }
        let actor = Actor { name: format!("installation:{}", tenant.id), address: None };
        let answered = match (&call.method, resource) {
            (&Method::GET, "configParams") => self.config_parameters(tenant.id).await,
            (&Method::POST, "configParams") => {
                self.set_config_parameters(tenant.id, &call.body, &actor).await
            }
            (_, "storage") if !tenant.has_storage => {
                let text = "The manifest does not declare \"storage\": true.";
                return Ok(fault(StatusCode::FORBIDDEN, "FORBIDDEN", text));
            }
            (&Method::GET, "storage") => self.read_storage(tenant.id, &call.url).await,
            (&Method::POST | &Method::PUT, "storage") => {
                self.write_storage(tenant.id, &call.body).await
            }
            (&Method::DELETE, "storage") => self.delete_storage(tenant.id, &call.url).await,
            (_, "configParams" | "storage") => {
                let text = "This path does not take the method.";
                return Ok(fault(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", text));
            }
            _ => {
                return Ok(fault(
                    StatusCode::NOT_FOUND,
                    "URL_NOT_FOUND",
                    "Nothing is served here.",
                ));
            }
        };
        answered.or_else(refusal)
    }

    async fn config_parameters(&self, id: Uuid) -> Result<InvokeAnswer, InvokeError> {
        Ok(data(&self.inner.lifecycle.config_parameters(id).await?))
    }

    async fn set_config_parameters(
        &self,
        id: Uuid,
        body: &[u8],
        actor: &Actor,
    ) -> Result<InvokeAnswer, InvokeError> {
        let request: ConfigVariables = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => {
                let text =
                    format!("postBody must be {{\"variables\":[{{\"name\",\"value\"}}]}}: {error}");
                return Ok(fault(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_DATA", text));
            }
        };
        let lifecycle = &self.inner.lifecycle;
        let mut work = lifecycle.begin().await?;
        lifecycle.set_config_parameters(&mut work, id, &request, actor).await?;
        let rows = lifecycle.config_parameters_within(&work, id).await?;
        lifecycle.commit(work).await?;
        Ok(data(&rows))
    }

    async fn read_storage(&self, id: Uuid, url: &Url) -> Result<InvokeAnswer, InvokeError> {
        self.inner.storage_rates.read(id)?;
        let query = storage_query(url)?;
        Ok(data(&storage::read(&self.inner.store, id, &query).await?))
    }

    async fn write_storage(&self, id: Uuid, body: &[u8]) -> Result<InvokeAnswer, InvokeError> {
        let values = StoredValues::parse(body)?;
        self.inner.storage_rates.write(id)?;
        let work = self.begin_within(id).await?;
        storage::write(&work, id, &values.values, self.inner.seam.clock.now()).await?;
        self.inner.lifecycle.commit(work).await?;
        Ok(InvokeAnswer::of_ours(StatusCode::OK, values.document()))
    }

    async fn delete_storage(&self, id: Uuid, url: &Url) -> Result<InvokeAnswer, InvokeError> {
        let query = storage_query(url)?;
        self.inner.storage_rates.delete(id)?;
        let work = self.begin_within(id).await?;
        let deleted = storage::delete(&work, id, &query).await?;
        self.inner.lifecycle.commit(work).await?;
        Ok(InvokeAnswer::of_ours(StatusCode::OK, json!({ "deleted": deleted })))
    }

    /// Begins a transaction that writes for an installation: it lives until the commit.
    async fn begin_within(&self, id: Uuid) -> Result<UnitOfWork, InvokeError> {
        let work = self.inner.lifecycle.begin().await?;
        self.inner.lifecycle.hold_live(&work, id).await?;
        Ok(work)
    }
}

/// The parameters of a read or deletion, as a query has them.
fn storage_query(url: &Url) -> Result<StorageQuery, InvokeError> {
    let mut query = StorageQuery::default();
    for (name, value) in url.query_pairs() {
        let invalid = |message: &str| {
            InvokeError::Data(ExtensionDataError::Invalid {
                pointer: name.chars().take(64).collect(),
                message: message.to_owned(),
            })
        };
        let number = || value.parse::<u64>().map_err(|_| invalid("must be a whole number"));
        let is_twice = match &*name {
            "key" => query.key.replace(value.into_owned()).is_some(),
            "queriableValue" => query.queriable_value.replace(value.into_owned()).is_some(),
            "from" => query.from.replace(number()?).is_some(),
            "limit" => query.limit.replace(number()?).is_some(),
            _ => {
                return Err(invalid("is not a parameter: key, queriableValue, from and limit are"));
            }
        };
        if is_twice {
            let pointer = name.chars().take(64).collect();
            let message = "is there twice".to_owned();
            return Err(InvokeError::Data(ExtensionDataError::Invalid { pointer, message }));
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_just_now_is_refused_as_everything_that_ended() {
        let installation = || "0193".to_owned();
        for error in [
            LifecycleError::Unknown(installation()),
            LifecycleError::NotNow {
                command: "configure",
                installation: installation(),
                reason: "it is uninstalled",
            },
        ] {
            let refused = refusal(InvokeError::Lifecycle(error));
            assert!(matches!(refused, Err(InvokeError::Unproven)), "{refused:?}");
        }
        let fault = LifecycleError::Invalid { faults: Vec::new() };
        let told = refusal(InvokeError::Lifecycle(fault)).expect("an answer");
        assert_eq!(told.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}
