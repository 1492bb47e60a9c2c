//! `/webhooks/{id}/recover`, `/webhooks/{id}/reactivate` and `/jobs`: sending many again, and
//! following whatever runs in the background.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Path, Query, json_response};
use super::handler::routes;
use super::installations::parse_moment;
use super::openapi::ApiRouter;
use super::ownership::{locked, own_webhook};
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::rollouts::RolloutBody;
use super::services::{endpoint_scope, rollout_scope};
use super::shapes::moment;
use super::state::ApiState;
use crate::delivery::{
    self, CancelRefusal, JOB_STATES, JobFilter, JobView, RecoveryRefusal, RecoveryRequest,
};
use crate::identifier::{JobId, WebhookId};
use crate::lifecycle::{self, RolloutCancelRefusal, RolloutView};
use crate::seam::Timestamp;
use crate::store::claims::DeliveryState;

/// The routes of jobs.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(recover))
        .routes(routes!(reactivate))
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(cancel))
}

/// What is to be sent again. At least `since` is needed: what is sent twice should be meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecoverRequest {
    /// Deliveries made at this moment or later (RFC 3339).
    since: String,
    /// Deliveries made before this moment; until now where it is left out.
    #[serde(default)]
    until: Option<String>,
    /// Those in this state: `failed` (where it is left out), `held`, `delivered`, `cancelled` or
    /// `pending`.
    #[serde(default)]
    state: Option<String>,
    /// Those of this event type.
    #[serde(default)]
    event_type: Option<String>,
    /// Those whose first attempt had this status.
    #[serde(default)]
    status_code: Option<u16>,
    /// How many a second; at most `delivery.recovery_per_second`, which it is where it is left out.
    #[serde(default)]
    per_second: Option<u32>,
}

/// Whether what was held goes out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReactivateRequest {
    /// True: what was held goes out in order of acceptance, as a job. False: it stays held until
    /// `recover` with `"state":"held"` asks for it, or it expires.
    release: bool,
}

/// A job that sends again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobBody {
    /// Its id.
    job_id: Uuid,
    /// `recover`, or `release` where a reactivation made it.
    kind: String,
    /// The webhook.
    webhook_id: Uuid,
    /// The org.
    org_id: String,
    /// The extension that owns the webhook.
    extension_key: Option<String>,
    /// `queued`, `running`, `done`, `cancelled` or `failed`.
    state: String,
    /// Why it ended, where it is not done.
    reason: Option<String>,
    /// What it was asked for.
    filter: JobFilterBody,
    /// How many a second.
    per_second: i32,
    /// How many deliveries it looks at; null until it has begun.
    total: Option<i64>,
    /// Whether there are more than `total` says.
    total_is_estimate: bool,
    /// How many it has looked at.
    processed: i64,
    /// How many matched and are on their way again.
    requeued: i64,
    /// How many matched and are not, by reason: `payloadExpired`, `underWay`,
    /// `formerInstallation`, `changedMeanwhile`.
    #[schema(value_type = Object)]
    skipped: BTreeMap<String, i64>,
    /// Who asked for it.
    created_by: String,
    /// When it was asked for.
    created_at: Option<String>,
    /// When it began.
    started_at: Option<String>,
    /// When it ended.
    finished_at: Option<String>,
}

/// A job: one that sends again, or a rollout.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum AnyJobBody {
    /// It sends deliveries again.
    Sending(Box<JobBody>),
    /// It rolls a version out.
    Rollout(Box<RolloutBody>),
}

/// A job of either sort, as it was read.
enum AnyJob {
    Sending(Box<JobView>),
    Rollout(Box<RolloutView>),
}

impl AnyJob {
    fn id(&self) -> Uuid {
        match self {
            Self::Sending(view) => view.id(),
            Self::Rollout(view) => view.id(),
        }
    }
}

impl From<AnyJob> for AnyJobBody {
    fn from(job: AnyJob) -> Self {
        match job {
            AnyJob::Sending(view) => Self::Sending(Box::new(JobBody::from(*view))),
            AnyJob::Rollout(view) => Self::Rollout(Box::new(RolloutBody::from(*view))),
        }
    }
}

/// What a job looks for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobFilterBody {
    /// Made at this moment or later.
    since: Option<String>,
    /// Made before this moment.
    until: Option<String>,
    /// In this state.
    state: Option<String>,
    /// Of this event type.
    event_type: Option<String>,
    /// Whose first attempt had this status.
    status_code: Option<i32>,
}

impl From<JobView> for JobBody {
    fn from(view: JobView) -> Self {
        let JobView { row, skipped } = view;
        Self {
            job_id: row.id,
            kind: row.kind,
            webhook_id: row.webhook_id,
            org_id: row.org_id,
            extension_key: row.extension_key,
            state: row.state,
            reason: row.reason,
            filter: JobFilterBody {
                since: moment(row.since),
                until: moment(row.until),
                state: DeliveryState::from_number(row.wanted_state)
                    .map(|state| state.name().to_owned()),
                event_type: row.event_type,
                status_code: row.status_code,
            },
            per_second: row.per_second,
            total: row.total,
            total_is_estimate: row.total_is_estimate != 0,
            processed: row.processed,
            requeued: row.requeued,
            skipped,
            created_by: row.created_by,
            created_at: moment(Some(row.created_at)),
            started_at: moment(row.started_at),
            finished_at: moment(row.finished_at),
        }
    }
}

impl From<RecoveryRefusal> for Problem {
    fn from(refusal: RecoveryRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            RecoveryRefusal::Store(error) => error.into(),
            RecoveryRefusal::Removed => Self::not_found("webhook"),
            RecoveryRefusal::Held(_) => Self::new(Code::StateConflict).detail(text),
            RecoveryRefusal::Running(job) => {
                Self::new(Code::StateConflict).detail(format!("{text}.")).with("jobId", job)
            }
            RecoveryRefusal::TooFast { limit } => Self::invalid(vec![FieldError::new(
                "/perSecond",
                FieldErrorKind::Invalid,
                format!("must be at most {limit}, which is `delivery.recovery_per_second`"),
            )]),
        }
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

fn checked(request: RecoverRequest) -> Result<RecoveryRequest, Problem> {
    let state = match request.state.as_deref() {
        None => DeliveryState::Failed,
        Some(name) => DeliveryState::from_name(name).ok_or_else(|| {
            let names = DeliveryState::ALL.map(DeliveryState::name).join(", ");
            invalid("/state", format!("must be one of: {names}"))
        })?,
    };
    if let Some(name) = request.event_type.as_deref()
        && crate::event::catalogue::find(name).is_none()
    {
        return Err(unknown_event_type("/eventType", name));
    }
    if request.status_code.is_some_and(|status| !(100..=999).contains(&status)) {
        return Err(invalid("/statusCode", "must be a status from 100 to 999"));
    }
    if request.per_second == Some(0) {
        return Err(invalid("/perSecond", "must be at least 1"));
    }
    let since = parse_moment("/since", Some(&request.since))?;
    let until = parse_moment("/until", request.until.as_deref())?;
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(invalid("/until", "must be later than `since`"));
    }
    Ok(RecoveryRequest {
        state,
        since: since.map(|since| since.max(Timestamp::from_micros(0))),
        until,
        event_type: request.event_type,
        status_code: request.status_code,
        per_second: request.per_second,
    })
}

/// The refusal of an event type that is not in the catalogue.
pub(super) fn unknown_event_type(field: &str, name: &str) -> Problem {
    let shown: String = name.chars().take(100).collect();
    let mut error = FieldError::new(
        field,
        FieldErrorKind::Invalid,
        format!("`{shown}` is not an event type; GET /api/v1/event-types lists them"),
    );
    error.suggestion = crate::event::catalogue::nearest(name).map(str::to_owned);
    Problem::invalid(vec![error])
}

/// Sends deliveries of a webhook again, in the background: those since a moment, by filter.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/recover", tag = "deliveries", params(("id" = String, Path)),
    request_body = RecoverRequest,
    responses(
        (status = 202, description = "The job", body = JobBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "A job of this webhook runs already, or its deliveries are held"),
    )
)]
async fn recover(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    own_webhook(&state, &caller, id).await?;
    let request = Idempotent::<RecoverRequest>::from_request(request, &state).await?;
    let wanted = checked(request.value)?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let work = services.lifecycle.begin().await?;
    let job = match services.recoveries.begin(&work, id.0, &wanted, &caller.actor()).await {
        Ok(job) => job,
        Err(refusal) => {
            work.rollback().await?;
            return Err(refusal.into());
        }
    };
    let answer = effect.finish(&state, work, StatusCode::ACCEPTED, &JobBody::from(job)).await?;
    services.recoveries.poke();
    Ok(answer)
}

/// A webhook that is live again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReactivatedBody {
    /// The webhook.
    webhook_id: Uuid,
    /// Its health before.
    from: String,
    /// Its health now: `ok`, until an attempt says otherwise.
    health: String,
    /// The job that releases what was held, where that was asked for.
    job: Option<JobBody>,
    /// How many deliveries are held and stay so, up to 10,000, where release was not asked for.
    still_held: Option<i64>,
}

/// How many held deliveries an answer counts.
const MOST_COUNTED: u32 = 10_000;

/// Makes a webhook live again that is gone, disabled, failing or paused.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/reactivate", tag = "webhooks", params(("id" = String, Path)),
    request_body = ReactivateRequest,
    responses(
        (status = 200, description = "It is live", body = ReactivatedBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "Its installation is suspended, or a job of it runs"),
    )
)]
async fn reactivate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    own_webhook(&state, &caller, id).await?;
    let request = Idempotent::<ReactivateRequest>::from_request(request, &state).await?;
    let release = request.value.release;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let still_held = if release {
        None
    } else {
        Some(delivery::held_count(state.store(), id.0, MOST_COUNTED).await?)
    };
    let mut work = services.lifecycle.begin().await?;
    let done = match services.recoveries.reactivate(&mut work, id.0, release, &caller.actor()).await
    {
        Ok(done) => done,
        Err(refusal) => {
            work.rollback().await?;
            return Err(refusal.into());
        }
    };
    let body = ReactivatedBody {
        webhook_id: id.0,
        from: done.former,
        health: "ok".to_owned(),
        job: done.job.map(JobBody::from),
        still_held,
    };
    let answer = effect.finish(&state, work, StatusCode::OK, &body).await?;
    services.recoveries.poke();
    Ok(answer)
}

/// Which jobs.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    /// Of one webhook.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    webhook_id: Option<WebhookId>,
    /// In one state: `queued`, `running`, `done`, `cancelled` or `failed`.
    #[serde(default)]
    state: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Lists jobs, newest first: those that send again, and rollouts.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "deliveries", params(ListQuery),
    responses((status = 200, description = "A page", body = Page<AnyJobBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    if let Some(name) = query.state.as_deref()
        && !JOB_STATES.contains(&name)
    {
        return Err(invalid("state", format!("must be one of: {}", JOB_STATES.join(", "))));
    }
    let (before, rows) = (query.cursor.map(|after| after.0), query.limit.rows());
    let mut jobs: Vec<AnyJob> = Vec::new();
    if query.webhook_id.is_none() {
        let (store, wanted) = (state.store(), query.state.as_deref());
        let scope = rollout_scope(store, &caller).await?;
        let views = lifecycle::list_rollouts(store, &scope, wanted, before, rows).await?;
        jobs.extend(views.into_iter().map(|view| AnyJob::Rollout(Box::new(view))));
    }
    if caller.role != Role::Marketplace {
        let filter = JobFilter {
            webhook_id: query.webhook_id.map(|id| id.0),
            state: query.state,
            before,
            limit: rows,
        };
        let scope = endpoint_scope(state.store(), &caller).await?;
        let views = delivery::list_jobs(state.store(), &scope, &filter).await?;
        jobs.extend(views.into_iter().map(|view| AnyJob::Sending(Box::new(view))));
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id()));
    jobs.truncate(usize::try_from(rows).unwrap_or(usize::MAX));
    let page = Page::new(jobs, query.limit, |job| Cursor::Id(job.id())).map(AnyJobBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, description = "The job", body = AnyJobBody), (status = 404, description = "No such job"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Result<Response, Problem> {
    let job = find_job(&state, &caller, id).await?;
    Ok(json_response(StatusCode::OK, &AnyJobBody::from(job)))
}

/// A job that the caller may see.
async fn find_job(state: &ApiState, caller: &Caller, id: JobId) -> Result<AnyJob, Problem> {
    let store = state.store();
    let scope = rollout_scope(store, caller).await?;
    if let Some(view) = lifecycle::find_rollout(store, &scope, id.0).await? {
        return Ok(AnyJob::Rollout(Box::new(view)));
    }
    if caller.role == Role::Marketplace {
        return Err(Problem::not_found("job"));
    }
    let scope = endpoint_scope(store, caller).await?;
    delivery::find_job(store, &scope, id.0)
        .await?
        .map(|view| AnyJob::Sending(Box::new(view)))
        .ok_or_else(|| Problem::not_found("job"))
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CancelRequest {}

/// Calls a job off. What it has done stays done.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "deliveries", params(("id" = String, Path)),
    request_body = CancelRequest,
    responses(
        (status = 200, description = "It is called off", body = AnyJobBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "It has ended"),
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<JobId>,
    request: Request,
) -> Result<Response, Problem> {
    let job = find_job(&state, &caller, id).await?;
    if let (Role::Admin, AnyJob::Sending(view)) = (caller.role, &job)
        && let Some(key) = &view.row.extension_key
    {
        let endpoint = state.services()?.routing.endpoint(view.row.webhook_id);
        let owner = endpoint.as_ref().and_then(|endpoint| endpoint.owner.as_ref());
        return Err(locked(key, owner.map(|owner| owner.installation_id)));
    }
    let request = Idempotent::<CancelRequest>::from_request(request, &state).await?;
    let CancelRequest {} = request.value;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let actor = caller.actor();
    let work = services.lifecycle.begin().await?;
    let ended = || Problem::new(Code::StateConflict).detail("The job has ended already.");
    let cancelled = match job {
        AnyJob::Sending(_) => {
            let scope = endpoint_scope(state.store(), &caller).await?;
            match services.recoveries.cancel(&work, &scope, id.0, &actor).await? {
                Ok(view) => Ok(AnyJobBody::from(AnyJob::Sending(Box::new(view)))),
                Err(CancelRefusal::Unknown) => Err(Problem::not_found("job")),
                Err(CancelRefusal::Ended) => Err(ended()),
            }
        }
        AnyJob::Rollout(_) => {
            let scope = rollout_scope(state.store(), &caller).await?;
            match services.rollouts.cancel(&work, &scope, id.0, &actor).await? {
                Ok(view) => Ok(AnyJobBody::from(AnyJob::Rollout(Box::new(view)))),
                Err(RolloutCancelRefusal::Unknown) => Err(Problem::not_found("job")),
                Err(RolloutCancelRefusal::Ended) => Err(ended()),
            }
        }
    };
    match cancelled {
        Ok(body) => effect.finish(&state, work, StatusCode::OK, &body).await,
        Err(problem) => {
            work.rollback().await?;
            Err(problem)
        }
    }
}
