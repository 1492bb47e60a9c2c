//! `/journal`, sending callbacks again, and what was erased.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::callbacks::shown;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Path, Query, json_response};
use super::handler::routes;
use super::installations::parse_moment;
use super::openapi::ApiRouter;
use super::paging::{AfterPosition, Cursor, Limit, Page};
use super::problem::Problem;
use super::services::installation_scope;
use super::shapes::{InstallationBody, moment};
use super::state::ApiState;
use crate::identifier::{DeliveryId, InstallationId};
use crate::lifecycle::{self, ErasureView, JournalCursor, JournalEntry};
use crate::seam::Timestamp;
use crate::store::claims::DeliveryState;

/// The routes of the journal and of erasure.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(journal))
        .routes(routes!(redeliver))
        .routes(routes!(resend_setup))
        .routes(routes!(erasure))
}

/// Which part of the journal.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct JournalQuery {
    /// What happened at this moment or later.
    #[serde(default)]
    since: Option<String>,
    /// The `nextCursor` of the page before, or the `cursor` of the last entry that was read.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterPosition>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// A lifecycle event, as the journal shows it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JournalBody {
    /// The `webhook-id` that it was sent with.
    id: Uuid,
    /// Its place: as `cursor` of a request it gives everything that follows, and misses nothing.
    cursor: String,
    /// The extension.
    extension_key: String,
    /// The body as it was sent, but for the securityContext: event, orgId, installationId,
    /// generation, sequence, version, occurredAt, reason. Null where it is older than what is kept.
    #[schema(value_type = Option<Object>)]
    callback: Value,
    /// Whether it arrived: `pending`, `delivered`, `failed`, `cancelled`, or `expired` where that is
    /// older than what is kept.
    state: String,
    /// How many attempts were made.
    attempts_made: i32,
    /// The last attempt.
    last_attempt: Option<CallbackAttemptBody>,
    /// When it is tried next.
    next_attempt_time: Option<String>,
    /// When it happened.
    time: String,
}

/// The last attempt at a callback.
#[derive(Debug, Serialize, ToSchema)]
struct CallbackAttemptBody {
    /// When it began.
    time: String,
    /// The status of the answer.
    status: Option<i32>,
    /// The class of the error; null on success.
    error: Option<String>,
}

impl From<JournalEntry> for JournalBody {
    fn from(entry: JournalEntry) -> Self {
        Self {
            id: entry.id,
            cursor: Cursor::Position(entry.cursor.0).encode(),
            extension_key: entry.extension_key,
            callback: entry.body,
            state: entry.state.map_or("expired", DeliveryState::name).to_owned(),
            attempts_made: entry.attempts,
            last_attempt: entry.last_attempt.map(|attempt| CallbackAttemptBody {
                time: attempt.at.rfc3339(),
                status: attempt.status,
                error: attempt.error,
            }),
            next_attempt_time: entry.next_attempt_at.map(Timestamp::rfc3339),
            time: entry.at.rfc3339(),
        }
    }
}

/// All lifecycle events of the vendor's extensions, for replay.
#[utoipa::path(
    get, path = "/api/v1/journal", tag = "lifecycle", params(JournalQuery),
    responses((status = 200, description = "A page", body = Page<JournalBody>))
)]
async fn journal(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<JournalQuery>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    let since = parse_moment("since", query.since.as_deref())?;
    let after = query.cursor.map(|after| JournalCursor(after.0));
    let entries =
        lifecycle::journal(state.store(), &scope, since, after, query.limit.rows()).await?;
    let page = Page::new(entries, query.limit, |entry| Cursor::Position(entry.cursor.0))
        .map(JournalBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Nothing, or an empty object.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// A callback that is on its way again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RedeliveredBody {
    /// The callback: the `webhook-id` that it carries.
    id: Uuid,
    /// The installation that it tells of.
    installation_id: Uuid,
    /// `pending`.
    state: String,
}

/// Sends a lifecycle callback again, with the same `webhook-id` and body.
#[utoipa::path(
    post, path = "/api/v1/journal/{id}/redeliver", tag = "lifecycle",
    params(("id" = String, Path)), request_body = Empty,
    responses(
        (status = 200, description = "On its way", body = RedeliveredBody),
        (status = 404, description = "No such callback"),
        (status = 409, description = "It is on its way already, or too old, or its installation is erased"),
    )
)]
async fn redeliver(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<DeliveryId>,
    request: Idempotent<Empty>,
) -> Result<Response, Problem> {
    let Empty {} = request.value;
    let scope = installation_scope(state.store(), &caller).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let installation_id = lifecycle
        .redeliver(&mut work, &scope, id.0, &caller.actor())
        .await?
        .ok_or_else(|| Problem::not_found("callback"))?;
    let state_name = DeliveryState::Pending.name().to_owned();
    let body = RedeliveredBody { id: id.0, installation_id, state: state_name };
    effect.finish(&state, work, StatusCode::OK, &body).await
}

/// Sends `onInstall` again, the callback whose outcome `vendorSetup` shows.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/vendor-setup/resend", tag = "lifecycle",
    params(("id" = String, Path)), request_body = Empty,
    responses(
        (status = 200, description = "On its way", body = InstallationBody),
        (status = 404, description = "No such installation"),
        (status = 409, description = "There is no onInstall to send, or it is on its way already"),
    )
)]
async fn resend_setup(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    use axum::extract::FromRequest as _;
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let request = Idempotent::<Empty>::from_request(request, &state).await?;
    let Empty {} = request.value;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    lifecycle.resend_setup(&mut work, id.0, &caller.actor()).await?;
    let body = shown(&work, id.0).await?;
    effect.finish(&state, work, StatusCode::OK, &body).await
}

/// What is to be erased of an installation, and the proof of what was.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErasureBody {
    /// The installation.
    installation_id: Uuid,
    /// The extension.
    extension_key: String,
    /// The org.
    org_id: String,
    /// `scheduled`, `running` or `done`.
    state: String,
    /// `policy` or `request`.
    cause: String,
    /// When it was entered.
    requested_time: Option<String>,
    /// When it begins.
    due_time: Option<String>,
    /// When it began.
    started_time: Option<String>,
    /// When it ended.
    finished_time: Option<String>,
    /// What was erased so far: rows by kind, each with when the last of them was.
    #[schema(value_type = Object)]
    erased: Value,
    /// What remains for good.
    kept: Vec<&'static str>,
}

impl From<ErasureView> for ErasureBody {
    fn from(view: ErasureView) -> Self {
        let state = view.state().to_owned();
        let erased = serde_json::to_value(&view.erased).unwrap_or_default();
        let row = view.row;
        Self {
            installation_id: row.installation_id,
            extension_key: row.extension_key,
            org_id: row.org_id,
            state,
            cause: row.cause,
            requested_time: moment(Some(row.requested_at)),
            due_time: moment(Some(row.due_at)),
            started_time: moment(row.started_at),
            finished_time: moment(row.finished_at),
            erased,
            kept: vec![
                "ids of installation, org, extension, version, webhook, deliveries and events",
                "states, times, generation and granted scopes",
                "digests of the audit chain, without their salts",
            ],
        }
    }
}

/// What is to be erased of an uninstalled installation, or was: how many rows of what, and when.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/erasure", tag = "lifecycle",
    params(("id" = String, Path)),
    responses((status = 200, description = "The report", body = ErasureBody), (status = 404, description = "No such installation, or it is still installed"))
)]
async fn erasure(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let view = lifecycle::erasure(state.store(), id.0)
        .await?
        .ok_or_else(|| Problem::not_found("erasure: the installation is still there"))?;
    Ok(json_response(StatusCode::OK, &ErasureBody::from(view)))
}
