//! `/extensions/{key}/properties`: texts that a vendor keeps for an extension, the same in all orgs.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::extract::{Json, Path, Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{AfterText, Cursor, Limit, Page};
use super::problem::Problem;
use super::role::Role;
use super::state::ApiState;
use crate::catalogue;
use crate::crypto::SecretText;
use crate::extension_data::properties::{self, Owner, Property};
use crate::identifier::VendorKey;

/// The routes of properties.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(set))
        .routes(routes!(delete))
}

/// A property.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PropertyBody {
    /// Its name.
    name: String,
    /// Its value; null of a secret one.
    #[schema(required)]
    value: Option<String>,
    /// Whether it is secret.
    secret: bool,
    /// When it was set, RFC 3339.
    updated_at: String,
}

impl From<Property> for PropertyBody {
    fn from(property: Property) -> Self {
        Self {
            name: property.name,
            value: property.value,
            secret: property.is_secret,
            updated_at: property.updated_at.rfc3339(),
        }
    }
}

/// A property to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PropertyRequest {
    /// The value, at most 8,192 bytes.
    #[schema(value_type = String)]
    value: SecretText,
    /// Whether it is sealed and never shown again.
    #[serde(default)]
    secret: bool,
}

/// Which properties.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct PropertyPaging {
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterText>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// The extension, where it is the caller's.
async fn own(
    state: &ApiState,
    caller: &Caller,
    key: &str,
) -> Result<catalogue::ExtensionRow, Problem> {
    let vendor = match caller.role {
        Role::Vendor => caller.vendor.as_ref().map(VendorKey::as_str),
        _ => None,
    };
    Ok(catalogue::extension(state.store(), key, vendor).await?)
}

/// The properties of an extension, by name
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}/properties", tag = "invoke",
    params(("key" = String, Path), PropertyPaging),
    responses((status = 200, description = "A page", body = Page<PropertyBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<String>,
    Query(paging): Query<PropertyPaging>,
) -> Result<Response, Problem> {
    own(&state, &caller, &key).await?;
    let after = paging.cursor.as_ref().map(|after| after.0.as_str());
    let rows = properties::list(state.store(), &key, after, paging.limit.rows()).await?;
    let page = Page::new(rows, paging.limit, |row| Cursor::Text(row.name.clone()));
    Ok(json_response(StatusCode::OK, &page.map(PropertyBody::from)))
}

/// A property
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}/properties/{name}", tag = "invoke",
    params(("key" = String, Path), ("name" = String, Path)),
    responses((status = 200, description = "The property", body = PropertyBody), (status = 404, description = "No such property"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    own(&state, &caller, &key).await?;
    let property = properties::read(state.store(), &key, &name)
        .await?
        .ok_or_else(|| Problem::not_found("property"))?;
    Ok(json_response(StatusCode::OK, &PropertyBody::from(property)))
}

/// Sets a property; when the answer is there, calls on every node use it
#[utoipa::path(
    put, path = "/api/v1/extensions/{key}/properties/{name}", tag = "invoke",
    params(("key" = String, Path), ("name" = String, Path)), request_body = PropertyRequest,
    responses((status = 200, description = "The property", body = PropertyBody))
)]
async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    Json(request): Json<PropertyRequest>,
) -> Result<Response, Problem> {
    let extension = own(&state, &caller, &key).await?;
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let property = properties::set(
        &mut work,
        Owner { id: extension.id, key: &key },
        properties::New { name: &name, value: &request.value, is_secret: request.secret },
        &caller.actor(),
        state.keys(),
        state.seam(),
    )
    .await?;
    lifecycle.commit(work).await?;
    Ok(json_response(StatusCode::OK, &PropertyBody::from(property)))
}

/// Deletes a property
#[utoipa::path(
    delete, path = "/api/v1/extensions/{key}/properties/{name}", tag = "invoke",
    params(("key" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = 404, description = "No such property"))
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let extension = own(&state, &caller, &key).await?;
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let owner = Owner { id: extension.id, key: &key };
    if !properties::delete(&mut work, owner, &name, &caller.actor(), state.seam()).await? {
        return Err(Problem::not_found("property"));
    }
    lifecycle.commit(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
