//! `/invoke`: the vendor's way back in, and the record of what was called.

use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::extract::{Path, Query, RawBody, json_response, media_type, parse_json, parse_query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{Cursor, Page, Paging};
use super::problem::{Code, Problem};
use super::services::installation_scope;
use super::state::ApiState;
use crate::crypto::SignatureHeaders;
use crate::identifier::InstallationId;
use crate::invoke::{InvocationView, InvokeRequest, Proof, invocations};
use crate::lifecycle;

/// The routes of invoke.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(invoke)).routes(routes!(list))
}

/// A call, as a form or as JSON; every field is a text.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which the room reads")]
struct InvokeBody {
    /// The securityContext of the event or callback.
    security_context: String,
    /// Absolute, or a path of the host's API; may hold placeholders.
    #[schema(rename = "requestURL")]
    request_url: String,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    request_type: String,
    /// Further query parameters: a JSON object in a text.
    query_params: Option<String>,
    /// The body.
    post_body: Option<String>,
    /// Headers: a JSON object in a text.
    headers: Option<String>,
    /// The connection whose token goes along.
    connection_link_name: Option<String>,
}

/// What the upstream answered.
#[derive(Debug, Serialize, ToSchema)]
struct InvokeResponse {
    /// JSON in a text: `statusCode`, `headers`, `body`; `isBase64Encoded` where the body is no
    /// UTF-8, `isTruncated` where it was longer than what is handed back.
    response: String,
}

/// Calls the host or another service as an installation
///
/// Proven by the header `HASH` (hex HMAC-SHA256 with the manifest's `secret`), or by the Standard
/// Webhooks headers over the raw body, which is then required of the extension for good. A bearer
/// token is not looked at.
#[utoipa::path(
    post, path = "/api/v1/invoke", tag = "invoke", request_body = InvokeBody,
    params(
        ("orgId" = String, Query, description = "The org of the installation"),
        ("HASH" = Option<String>, Header, description = "Hex HMAC-SHA256 over the fields"),
    ),
    responses(
        (status = 200, description = "The upstream's answer, whatever its status", body = InvokeResponse),
        (status = 401, description = "Not proven; the same for everything that can be wrong"),
        (status = 403, description = "The host may not be called"),
        (status = 409, description = "The connection is broken"),
        (status = 429, description = "The installation calls too often"),
        (status = 502, description = "The upstream gave no answer"),
    )
)]
async fn invoke(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let limit = state.config().limits.request_body_bytes;
    let mut head = Request::new(body);
    *head.headers_mut() = parts.headers.clone();
    let body = RawBody::from(head).read(limit).await?;
    let fields = fields(&parts.headers, &body)?;
    let org_id = only_parameter(&parts, "orgId");
    let hash = only_header(&parts.headers, "hash");
    let proof = Proof {
        org_id: org_id.as_deref(),
        hash,
        signature: signature(&parts.headers),
        body: &body,
    };
    let answer = state.services()?.invoke.call(&fields, &proof).await?;
    Ok(json_response(StatusCode::OK, &answer.document()))
}

fn fields(headers: &HeaderMap, body: &[u8]) -> Result<InvokeRequest, Problem> {
    match media_type(headers).as_deref() {
        Some("application/x-www-form-urlencoded") => {
            let text = std::str::from_utf8(body)
                .map_err(|_| Problem::new(Code::BadRequest).detail("The form is not UTF-8."))?;
            parse_query(text)
        }
        Some("application/json") => parse_json(body),
        _ => Err(Problem::new(Code::UnsupportedMediaType).detail(
            "`Content-Type` must be `application/x-www-form-urlencoded` or `application/json`.",
        )),
    }
}

/// A parameter of the query that is there once.
pub(super) fn only_parameter(parts: &Parts, wanted: &str) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    let mut found =
        url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value.into_owned()),
        _ => None,
    }
}

fn only_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = headers.get_all(name).iter();
    match (found.next(), found.next()) {
        (None, _) => None,
        // What is there twice, or no text, proves nothing, but it is there.
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
    }
}

/// The Standard Webhooks headers, where any of them is there.
fn signature(headers: &HeaderMap) -> Option<SignatureHeaders<'_>> {
    let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| only_header(headers, name));
    (id.is_some() || timestamp.is_some() || signature.is_some()).then(|| SignatureHeaders {
        id: id.unwrap_or_default(),
        timestamp: timestamp.unwrap_or_default(),
        signature: signature.unwrap_or_default(),
    })
}

/// A call that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InvocationBody {
    /// Its id.
    id: Uuid,
    /// When it began, RFC 3339.
    at: String,
    /// The method.
    method: String,
    /// Host and port.
    host: String,
    /// The path as it was written, without a query and before placeholders.
    path: String,
    /// The connection whose token went along.
    #[schema(required)]
    connection: Option<String>,
    /// The status of the answer.
    #[schema(required)]
    status_code: Option<i32>,
    /// Why there was none.
    #[schema(required)]
    error: Option<String>,
    /// How long it took, in milliseconds.
    duration_ms: f64,
}

impl From<InvocationView> for InvocationBody {
    fn from(view: InvocationView) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a span of less than days")]
        let duration_ms = view.micros as f64 / 1_000.0;
        Self {
            id: view.id,
            at: view.at.rfc3339(),
            method: view.method,
            host: view.host,
            path: view.path,
            connection: view.connection,
            status_code: view.status,
            error: view.error,
            duration_ms,
        }
    }
}

/// What an installation called, the newest first
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/invocations", tag = "invoke",
    params(("id" = String, Path), Paging),
    responses((status = 200, description = "A page", body = Page<InvocationBody>), (status = 404, description = "No such installation"))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let before = paging.cursor.map(|after| after.0);
    let rows = invocations(state.store(), id.0, before, paging.limit.rows()).await?;
    let page = Page::new(rows, paging.limit, |row| Cursor::Id(row.id)).map(InvocationBody::from);
    Ok(json_response(StatusCode::OK, &page))
}
