//! `/installedExtensions/…` in the reference's forms: parameters for administrators, the key-value
//! store for vendors. The installation itself reaches both through invoke.

use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{
    Idempotent, Path, Query, RawBody, idempotency_key, json_response, parse_json, require_json,
};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, Problem};
use super::services::installation_scope;
use super::state::ApiState;
use crate::extension_data::storage::{self, StorageQuery, StoredValue};
use crate::identifier::InstallationId;
use crate::invoke::StoredValues;
use crate::lifecycle::{self, ConfigParameter, ConfigVariables, InstallationView};

/// The routes of installed extensions.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(config_parameters))
        .routes(routes!(set_config_parameters))
        .routes(routes!(read_storage))
        .routes(routes!(write_storage))
        .routes(routes!(delete_storage))
}

/// An installation that the caller may see, in the org that the request names.
struct Installed {
    view: InstallationView,
    caller: Caller,
}

impl FromRequestParts<ApiState> for Installed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let Path(id) = Path::<InstallationId>::from_request_parts(parts, state).await?;
        let caller = Caller::of(parts)?;
        if caller.org.is_some() {
            // A token of an org may name it; another one is refused.
            caller.org_of(parts)?;
        }
        let scope = installation_scope(state.store(), &caller).await?;
        let view = lifecycle::installation(state.store(), &scope, id.0)
            .await?
            .filter(InstallationView::is_live)
            .ok_or_else(|| Problem::not_found("installation"))?;
        Ok(Self { view, caller })
    }
}

impl Installed {
    fn id(&self) -> Uuid {
        self.view.id()
    }

    /// Refuses extensions that do not ask for a store.
    fn needs_storage(&self) -> Result<(), Problem> {
        if self.view.has_storage() {
            return Ok(());
        }
        let text = "The manifest does not declare \"storage\": true.";
        Err(Problem::new(Code::Forbidden).detail(text))
    }
}

/// A list in the reference's form.
#[derive(Debug, Serialize, ToSchema)]
struct Data<T> {
    /// Its rows.
    data: Vec<T>,
}

/// The parameters that the serving version declares
///
/// Secure ones come without their value.
#[utoipa::path(
    get, path = "/api/v1/installedExtensions/{installationId}/configParams", tag = "invoke",
    params(("installationId" = String, Path)),
    responses((status = 200, description = "The parameters", body = Data<ConfigParameter>))
)]
async fn config_parameters(
    State(state): State<ApiState>,
    installed: Installed,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let data = lifecycle.config_parameters(installed.id()).await?;
    Ok(json_response(StatusCode::OK, &Data { data }))
}

/// Sets parameters; those left out stay, null clears one
#[utoipa::path(
    post, path = "/api/v1/installedExtensions/{installationId}/configParams", tag = "invoke",
    params(("installationId" = String, Path)), request_body = ConfigVariables,
    responses((status = 200, description = "The parameters after it", body = Data<ConfigParameter>))
)]
async fn set_config_parameters(
    State(state): State<ApiState>,
    installed: Installed,
    request: Idempotent<ConfigVariables>,
) -> Result<Response, Problem> {
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = set_once(&state, &installed, &request.value, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn set_once(
    state: &ApiState,
    installed: &Installed,
    request: &ConfigVariables,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let actor = installed.caller.actor();
    lifecycle.set_config_parameters(&mut work, installed.id(), request, &actor).await?;
    let data = lifecycle.config_parameters_within(&work, installed.id()).await?;
    effect.finish(state, work, StatusCode::OK, &Data { data }).await
}

/// Reads values of the store, in the order of their keys
#[utoipa::path(
    get, path = "/api/v1/installedExtensions/{installationId}/storage", tag = "invoke",
    params(("installationId" = String, Path), StorageQuery),
    responses((status = 200, description = "The values", body = Data<StoredValue>))
)]
async fn read_storage(
    State(state): State<ApiState>,
    installed: Installed,
    Query(query): Query<StorageQuery>,
) -> Result<Response, Problem> {
    installed.needs_storage()?;
    state.services()?.invoke.storage_rates().read(installed.id())?;
    let data = storage::read(state.store(), installed.id(), &query).await?;
    Ok(json_response(StatusCode::OK, &Data { data }))
}

/// Writes a value, or a list of up to 10
#[utoipa::path(
    post, path = "/api/v1/installedExtensions/{installationId}/storage", tag = "invoke",
    params(("installationId" = String, Path)), request_body = StoredValue,
    responses((status = 200, description = "What was written", body = StoredValue))
)]
async fn write_storage(
    State(state): State<ApiState>,
    installed: Installed,
    request: Request,
) -> Result<Response, Problem> {
    installed.needs_storage()?;
    require_json(request.headers())?;
    let (parts, body) = request.into_parts();
    let limit = state.config().limits.request_body_bytes;
    let body = RawBody::from(Request::from_parts(parts.clone(), body)).read(limit).await?;
    // What is no JSON at all is told as everywhere.
    let _is_json: IgnoredAny = parse_json(&body)?;
    let values = StoredValues::parse(&body)?;
    let effect = match Effect::start(&state, idempotency_key(&parts, &body)?).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    state.services()?.invoke.storage_rates().write(installed.id())?;
    let mut turns = Turns::default();
    loop {
        let done = write_once(&state, installed.id(), &values, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn write_once(
    state: &ApiState,
    id: Uuid,
    values: &StoredValues,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let work = lifecycle.begin().await?;
    lifecycle.hold_live(&work, id).await?;
    storage::write(&work, id, &values.values, state.seam().clock.now()).await?;
    effect.finish(state, work, StatusCode::OK, &values.document()).await
}

/// Deletes the values of a key, or with a queriable value
#[utoipa::path(
    delete, path = "/api/v1/installedExtensions/{installationId}/storage", tag = "invoke",
    params(("installationId" = String, Path), StorageQuery),
    responses((status = 200, description = "How many there were"))
)]
async fn delete_storage(
    State(state): State<ApiState>,
    installed: Installed,
    Query(query): Query<StorageQuery>,
) -> Result<Response, Problem> {
    installed.needs_storage()?;
    let services = state.services()?;
    services.invoke.storage_rates().delete(installed.id())?;
    let work = services.lifecycle.begin().await?;
    services.lifecycle.hold_live(&work, installed.id()).await?;
    let deleted = storage::delete(&work, installed.id(), &query).await?;
    services.lifecycle.commit(work).await?;
    Ok(json_response(StatusCode::OK, &json!({ "deleted": deleted })))
}
