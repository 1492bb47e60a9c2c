//! `/notices`: what an administrator, a vendor or the operator must know.

use axum::extract::State;
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
use super::openapi::ApiRouter;
use super::paging::{AfterText, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::services::notice_audience;
use super::shapes::moment;
use super::state::ApiState;
use crate::identifier::NoticeId;
use crate::notice::{self, NoticeCursor, NoticeView};

/// The routes of notices.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(dismiss))
}

/// Which notices.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    /// Those that were dismissed, too.
    #[serde(default)]
    dismissed: bool,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterText>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// A notice.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NoticeBody {
    /// Its id.
    id: Uuid,
    /// What it is about: `webhook.failing`, `webhook.gone`, `webhook.disabled`,
    /// `webhook.recovered`, `webhook.over-plan`, `connection.broken`, `upgrade.waiting`, `upgrade.expired`,
    /// `installation.suspended`, `installation.resumed`, `extension.suspended`,
    /// `extension.resumed`, `callback.failed`, `credential.expiring`, `org.closing`; of the whole
    /// platform `lifecycle.drift` and `deliveries.held`.
    kind: String,
    /// The org; empty where it is about the whole platform.
    org_id: String,
    /// The extension.
    extension_key: Option<String>,
    /// The installation.
    installation_id: Option<Uuid>,
    /// The webhook.
    webhook_id: Option<Uuid>,
    /// What happened and what to do.
    message: String,
    /// How often it happened.
    count: i64,
    /// When it happened first.
    first_time: Option<String>,
    /// When it happened last.
    last_time: Option<String>,
    /// When it was over.
    resolved_time: Option<String>,
    /// Whether the caller's side put it aside, and it did not happen since.
    dismissed: bool,
}

impl From<NoticeView> for NoticeBody {
    fn from(view: NoticeView) -> Self {
        let row = view.row;
        Self {
            id: row.id,
            kind: row.kind,
            org_id: row.org_id,
            extension_key: row.extension_key,
            installation_id: row.installation_id,
            webhook_id: row.webhook_id,
            message: row.message,
            count: row.occurrences,
            first_time: moment(Some(row.first_at)),
            last_time: moment(Some(row.last_at)),
            resolved_time: moment(row.resolved_at),
            dismissed: view.dismissed,
        }
    }
}

fn read_cursor(text: &str) -> Option<NoticeCursor> {
    let (last_at, id) = text.split_once(' ')?;
    Some(NoticeCursor { last_at: last_at.parse().ok()?, id: id.parse().ok()? })
}

/// Lists notices, the latest first.
#[utoipa::path(
    get, path = "/api/v1/notices", tag = "notices", params(ListQuery),
    responses((status = 200, description = "A page", body = Page<NoticeBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let after = match &query.cursor {
        None => None,
        Some(AfterText(text)) => Some(read_cursor(text).ok_or_else(|| {
            let message = "must be a `nextCursor` of a former page, unchanged";
            Problem::invalid(vec![FieldError::new("cursor", FieldErrorKind::Invalid, message)])
        })?),
    };
    let audience = notice_audience(state.store(), &caller).await?;
    let (views, next) =
        notice::list(state.store(), &audience, query.dismissed, after, query.limit.count()).await?;
    let page = Page {
        data: views.into_iter().map(NoticeBody::from).collect::<Vec<_>>(),
        next_cursor: next
            .map(|next| Cursor::Text(format!("{} {}", next.last_at, next.id)).encode()),
    };
    Ok(json_response(StatusCode::OK, &page))
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DismissRequest {}

/// Puts a notice aside, for all administrators of the org, for the vendor, or for the operator.
/// It comes back when it happens again.
#[utoipa::path(
    post, path = "/api/v1/notices/{id}/dismiss", tag = "notices", params(("id" = String, Path)),
    request_body = DismissRequest,
    responses((status = 200, description = "It is put aside", body = NoticeBody), (status = 404, description = "No such notice"))
)]
async fn dismiss(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<NoticeId>,
    request: Idempotent<DismissRequest>,
) -> Result<Response, Problem> {
    let DismissRequest {} = request.value;
    let audience = notice_audience(state.store(), &caller).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let work = state.store().begin().await?;
    let now = state.seam().clock.now();
    let actor = caller.actor();
    let dismissed = notice::dismiss(&work, &audience, id.0, &actor.name, now).await?;
    let Some(view) = dismissed else {
        work.rollback().await?;
        return Err(Problem::not_found("notice"));
    };
    effect.finish(&state, work, StatusCode::OK, &NoticeBody::from(view)).await
}
