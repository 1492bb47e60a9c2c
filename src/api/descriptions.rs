//! What is open to everybody: public keys and JSON Schemas.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use utoipa_axum::router::OpenApiRouter;

use super::extract::{Path, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::state::ApiState;
use crate::event::catalogue;
use crate::manifest;

/// The routes of descriptions.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(keys)).routes(routes!(schema))
}

/// The public keys that `X-ZDesk-JWT` and `v1a` signatures are verified with (RFC 7517, RFC 8037)
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "description",
    responses((status = 200, description = "The keys"))
)]
async fn keys(State(state): State<ApiState>) -> Response {
    let now = state.seam().clock.now();
    let set = state.keys().signing.jwks(now, state.config().delivery.ed25519);
    let mut response = json_response(StatusCode::OK, &set);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// A JSON Schema (draft 2020-12): `plugin-manifest.json`, `resources.json`, those of events
#[utoipa::path(
    get, path = "/schemas/{*path}", tag = "description", params(("path" = String, Path)),
    responses((status = 200, description = "The schema"), (status = 404, description = "No such schema"))
)]
async fn schema(Path(path): Path<String>) -> Result<Response, Problem> {
    let of_packages = || {
        let is_meant = |name: &str| name.strip_prefix("/schemas/") == Some(path.as_str());
        manifest::schemas().find(|(name, _)| is_meant(name)).map(|(_, text)| text)
    };
    let text = catalogue::schema_files()
        .find(|(name, _)| *name == path)
        .map(|(_, text)| text)
        .or_else(of_packages)
        .ok_or_else(|| Problem::not_found("schema"))?;
    let content_type = HeaderValue::from_static("application/schema+json");
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
