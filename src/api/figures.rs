//! What the pages show in figures: how a webhook does, what a delivery was sent as, how delivering
//! does on the whole, what the audit says, and what differs between two versions.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::catalogue::vendor_of;
use super::extract::{Path, Query, json_response};
use super::handler::routes;
use super::installations::parse_moment;
use super::openapi::ApiRouter;
use super::paging::{AfterText, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::services::{endpoint_scope, installation_scope};
use super::shapes::moment;
use super::state::ApiState;
use crate::audit::{self, AuditCursor, AuditFilter, AuditLink};
use crate::catalogue::{self, VersionRow};
use crate::delivery::{EndpointNote, HourView, MOST_COUNTED, MOST_COUNTED_IN_ALL};
use crate::identifier::{DeliveryId, ExtensionKey, WebhookId};
use crate::lifecycle;
use crate::manifest::{CheckedPackage, Upgrade};
use crate::seam::Timestamp;

/// The hours of the shorter span.
const DAY_HOURS: usize = 24;

/// The routes of this file.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(statistics))
        .routes(routes!(request))
        .routes(routes!(operation))
        .routes(routes!(search_audit))
        .routes(routes!(compare))
}

/// Milliseconds with three places.
#[expect(clippy::cast_precision_loss, reason = "a duration of hours still fits exactly")]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

/// The attempts of a span.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SpanBody {
    /// How many attempts the endpoint took.
    succeeded: i64,
    /// How many it did not.
    failed: i64,
    /// The share of those it took, 0 to 1; null where there was none.
    success_rate: Option<f64>,
}

impl SpanBody {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than six places")]
    fn of<'h>(hours: impl Iterator<Item = &'h HourView>) -> Self {
        let (succeeded, failed) = hours.fold((0_i64, 0_i64), |(succeeded, failed), hour| {
            (succeeded.saturating_add(hour.succeeded), failed.saturating_add(hour.failed))
        });
        let all = succeeded.saturating_add(failed);
        let success_rate = (all > 0).then(|| succeeded as f64 / all as f64);
        Self { succeeded, failed, success_rate }
    }
}

/// An hour in which there was an attempt.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HourBody {
    /// When it began.
    time: String,
    /// How many attempts the endpoint took.
    succeeded: i64,
    /// How many it did not.
    failed: i64,
    /// How long an attempt took on the average, in milliseconds.
    average_ms: f64,
}

/// How long answers took lately.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TimesBody {
    /// How many first attempts were looked at, the newest.
    sample: usize,
    /// What half of them did not exceed, in milliseconds.
    p50_ms: f64,
    /// What 95 of 100 did not exceed, in milliseconds.
    p95_ms: f64,
}

/// A number that is counted up to a bound.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CountBody {
    /// How many, at the least.
    count: i64,
    /// Whether there may be more.
    or_more: bool,
}

impl CountBody {
    fn new(count: i64, bound: i64) -> Self {
        Self { count, or_more: count >= bound }
    }
}

/// How a webhook does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StatisticsBody {
    /// The webhook.
    webhook_id: Uuid,
    /// Until when this is.
    time: String,
    /// The attempts of the last 24 hours, the one that has begun among them.
    last24_hours: SpanBody,
    /// Those of the last 30 days.
    last30_days: SpanBody,
    /// The hours of the last 31 days in which there was an attempt, oldest first.
    hours: Vec<HourBody>,
    /// How long answers took lately; null where none came.
    answer_times: Option<TimesBody>,
    /// Deliveries that wait for an attempt and are not in memory.
    waiting: CountBody,
    /// Deliveries that are held.
    held: CountBody,
}

/// How a webhook does, in figures. Counts are up to ten seconds late on other nodes.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}/statistics", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "The figures", body = StatisticsBody), (status = 404, description = "No such webhook"))
)]
async fn statistics(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<Response, Problem> {
    // The index knows nearly all of them, without a question to the database.
    let scope = endpoint_scope(state.store(), &caller).await?;
    let known = state.services()?.routing.endpoint(id.0);
    if !known.is_some_and(|endpoint| !endpoint.is_incoming && scope.covers(&endpoint)) {
        let scope = installation_scope(state.store(), &caller).await?;
        lifecycle::webhook(state.store(), &scope, id.0)
            .await?
            .ok_or_else(|| Problem::not_found("webhook"))?;
    }
    let view = state.services()?.dispatcher.statistics(id.0).await?;
    let now = state.seam().clock.now();
    let since = |hours: usize| {
        let hours = i64::try_from(hours).unwrap_or(i64::MAX);
        let first = now.seconds().div_euclid(3_600) - hours + 1;
        Timestamp::from_millis(first.saturating_mul(3_600_000))
    };
    let within = |hours: usize| {
        let from = since(hours);
        SpanBody::of(view.hours.iter().filter(move |hour| hour.began >= from))
    };
    let body = StatisticsBody {
        webhook_id: id.0,
        time: now.rfc3339(),
        last24_hours: within(DAY_HOURS),
        last30_days: within(30 * DAY_HOURS),
        hours: view
            .hours
            .iter()
            .map(|hour| HourBody {
                time: hour.began.rfc3339(),
                succeeded: hour.succeeded,
                failed: hour.failed,
                average_ms: millis(hour.micros / hour.succeeded.saturating_add(hour.failed).max(1)),
            })
            .collect(),
        answer_times: view.answer_times.map(|times| TimesBody {
            sample: times.sample,
            p50_ms: millis(times.half),
            p95_ms: millis(times.most),
        }),
        waiting: CountBody::new(view.waiting, MOST_COUNTED),
        held: CountBody::new(view.held, MOST_COUNTED),
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// What a delivery is sent as.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    /// The method.
    method: String,
    /// The webhook's present address, without the securityContext; null where there is none.
    url: Option<String>,
    /// Headers that follow from the delivery; each attempt is signed anew besides.
    #[schema(value_type = Vec<Vec<String>>)]
    headers: Value,
    /// The body, up to 64 KiB of it; null where the payload is older than what is kept.
    body: Option<String>,
    /// Whether there is more of it.
    truncated: bool,
    /// How long the whole body is, in bytes.
    length: usize,
}

/// What a delivery is sent as, put together from its event.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{id}/request", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, description = "The request", body = RequestBody), (status = 404, description = "No such delivery"))
)]
async fn request(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<DeliveryId>,
) -> Result<Response, Problem> {
    let scope = endpoint_scope(state.store(), &caller).await?;
    let view = state
        .services()?
        .dispatcher
        .request_of(&scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("delivery"))?;
    let body = RequestBody {
        method: view.method,
        url: view.url,
        headers: view.headers.into_iter().map(|(name, value)| json!([name, value])).collect(),
        body: view.body,
        truncated: view.truncated,
        length: view.length,
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// A webhook that the operator should look at.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NoteBody {
    /// The webhook.
    webhook_id: Uuid,
    /// Its org.
    org_id: String,
    /// The extension that owns it.
    extension_key: Option<String>,
    /// Its health, where that is why it is listed.
    health: Option<String>,
    /// Until when it is paused.
    paused_until: Option<String>,
    /// What was wrong last.
    last_error: Option<String>,
    /// The attempts of this hour and the last, where that is why it is listed.
    attempts: i64,
    /// How many of them failed.
    failed: i64,
    /// How long one of them took on the average, in milliseconds.
    average_ms: f64,
}

impl From<EndpointNote> for NoteBody {
    fn from(note: EndpointNote) -> Self {
        Self {
            webhook_id: note.webhook_id,
            org_id: note.org_id,
            extension_key: note.extension_key,
            health: note.health,
            paused_until: note.paused_until.map(Timestamp::rfc3339),
            last_error: note.last_error,
            attempts: note.attempts,
            failed: note.failed,
            average_ms: millis(note.average_micros),
        }
    }
}

/// How delivering does on the whole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OperationBody {
    /// Requests under way on the node that answers.
    under_way: usize,
    /// Deliveries that wait in its memory.
    in_memory: usize,
    /// Deliveries that wait in the table, held ones too.
    in_table: CountBody,
    /// Webhooks with something in the table.
    waiting_webhooks: usize,
    /// How long the longest due of them waits, in seconds; null where none is due.
    lag_seconds: Option<u64>,
    /// Webhooks that are failing, gone or disabled: some of them, those since lately first.
    unwell: Vec<NoteBody>,
    /// How many there are.
    unwell_count: CountBody,
    /// Webhooks whose breaker is open: some of them.
    paused: Vec<NoteBody>,
    /// How many there are.
    paused_count: CountBody,
    /// Webhooks that take the longest to answer, of this hour and the last.
    slowest: Vec<NoteBody>,
    /// Webhooks with the most failed attempts, of this hour and the last.
    most_failed: Vec<NoteBody>,
}

/// How delivering does on the whole: queues, breakers, the webhooks to look at.
#[utoipa::path(
    get, path = "/api/v1/operation", tag = "operation",
    responses((status = 200, description = "The figures", body = OperationBody))
)]
async fn operation(State(state): State<ApiState>) -> Result<Response, Problem> {
    let view = state.services()?.dispatcher.operation().await?;
    let now = state.seam().clock.now();
    let notes = |notes: Vec<EndpointNote>| notes.into_iter().map(NoteBody::from).collect();
    let body = OperationBody {
        under_way: view.under_way,
        in_memory: view.in_memory,
        in_table: CountBody::new(view.in_table, MOST_COUNTED_IN_ALL),
        waiting_webhooks: view.waiting_endpoints,
        lag_seconds: view.oldest_due.map(|due| now.since(due).as_secs()),
        unwell: notes(view.unwell),
        unwell_count: CountBody::new(view.unwell_count, MOST_COUNTED),
        paused: notes(view.paused),
        paused_count: CountBody::new(view.paused_count, MOST_COUNTED),
        slowest: notes(view.slowest),
        most_failed: notes(view.most_failed),
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// What is looked for in the audit.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuditQuery {
    /// Of one org; empty for what belongs to none.
    #[serde(default)]
    org_id: Option<String>,
    /// Actors that begin so, such as `admin:`.
    #[serde(default)]
    actor: Option<String>,
    /// Actions that begin so, such as `webhook.`.
    #[serde(default)]
    action: Option<String>,
    /// Subjects that begin so, such as `installation:0198…`.
    #[serde(default)]
    subject: Option<String>,
    /// Before this moment.
    #[serde(default)]
    until: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterText>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// A link of the audit; what was erased is empty.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuditBody {
    /// The org; empty for what belongs to none.
    org_id: String,
    /// Its number in the org's chain.
    sequence: i64,
    /// When.
    time: Option<String>,
    /// Who.
    actor: String,
    /// Where the request came from.
    address: Option<String>,
    /// What was done.
    action: String,
    /// What it was done to.
    subject: String,
    /// What else there is to say.
    #[schema(value_type = Option<Object>)]
    detail: Value,
}

impl From<AuditLink> for AuditBody {
    fn from(link: AuditLink) -> Self {
        Self {
            org_id: link.chain,
            sequence: link.sequence,
            time: moment(Some(link.at)),
            actor: link.actor,
            address: link.address,
            action: link.action,
            subject: link.subject,
            detail: link
                .detail
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or(Value::Null),
        }
    }
}

fn read_audit_cursor(text: &str) -> Option<AuditCursor> {
    let mut parts = text.splitn(3, ' ');
    let (at, sequence) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(AuditCursor { at, sequence, chain: parts.next()?.to_owned() })
}

/// Looks something up in the audit, newest first. A page looks at a bounded stretch of it, so it
/// may hold fewer than asked for, or none, and still have a `nextCursor`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "operation", params(AuditQuery),
    responses((status = 200, description = "A page", body = Page<AuditBody>))
)]
async fn search_audit(
    State(state): State<ApiState>,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Problem> {
    let after = match &query.cursor {
        None => None,
        Some(AfterText(text)) => Some(read_audit_cursor(text).ok_or_else(|| {
            let message = "must be a `nextCursor` of a former page, unchanged";
            Problem::invalid(vec![FieldError::new("cursor", FieldErrorKind::Invalid, message)])
        })?),
    };
    let filter = AuditFilter {
        chain: query.org_id,
        actor: query.actor,
        action: query.action,
        subject: query.subject,
        until: parse_moment("until", query.until.as_deref())?,
        after,
        limit: query.limit.count(),
    };
    let found = audit::search(state.store(), &filter).await?;
    let cursor =
        |next: AuditCursor| Cursor::Text(format!("{} {} {}", next.at, next.sequence, next.chain));
    let page = Page {
        data: found.links.into_iter().map(AuditBody::from).collect::<Vec<_>>(),
        next_cursor: found.next.map(|next| cursor(next).encode()),
    };
    Ok(json_response(StatusCode::OK, &page))
}

/// Which versions are compared.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct CompareQuery {
    /// The version in force.
    from: String,
    /// The version to come.
    to: String,
}

fn package(row: &VersionRow) -> Result<CheckedPackage, Problem> {
    let read = |text: &str| serde_json::from_str::<Value>(text);
    let manifest = read(&row.manifest).map_err(|error| Problem::internal(&error))?;
    let resources = read(&row.resources).map_err(|error| Problem::internal(&error))?;
    CheckedPackage::from_stored(&manifest, &resources).map_err(|error| Problem::internal(&error))
}

/// What an upgrade from one version to another would change, and whether it needs consent.
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}/compare", tag = "catalogue",
    params(("key" = String, Path), CompareQuery),
    responses((status = 200, description = "What differs", body = Upgrade), (status = 404, description = "No such extension or version"))
)]
async fn compare(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
    Query(query): Query<CompareQuery>,
) -> Result<Response, Problem> {
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let old = catalogue::version(state.store(), key.as_str(), &query.from).await?;
    let new = catalogue::version(state.store(), key.as_str(), &query.to).await?;
    let upgrade = Upgrade::between(&package(&old)?, &package(&new)?);
    Ok(json_response(StatusCode::OK, &upgrade))
}
