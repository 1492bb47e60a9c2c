//! `/extensions/{key}/versions/{version}/rollout`: one version for all installations, as a job.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::catalogue::vendor_of;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path};
use super::handler::routes;
use super::installations::parse_moment;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::shapes::{document, moment};
use super::state::ApiState;
use crate::audit::Actor;
use crate::catalogue::{self, VersionRow};
use crate::identifier::{ExtensionKey, OrgId};
use crate::lifecycle::{RolloutFailure, RolloutRequest, RolloutView};

/// The routes of rollouts.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(roll_out))
}

/// How a version is rolled out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RollOutRequest {
    /// How many installations have their turn in a second: 1 to 500, 50 where it is left out.
    #[serde(default)]
    per_second: Option<u32>,
    /// Until when installations that need consent wait for it (RFC 3339); where it is left out, as
    /// the manifest's own `updateBefore` says.
    #[serde(default)]
    update_before: Option<String>,
    /// Installations in these orgs only, up to 1,000.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    org_ids: Option<Vec<OrgId>>,
    /// Installations that these versions serve only, up to 100.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    from_versions: Option<Vec<Version>>,
    /// True: counts what would happen, and changes no installation.
    #[serde(default)]
    dry_run: bool,
}

/// A job that rolls a version out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RolloutBody {
    /// Its id.
    job_id: Uuid,
    /// `rollout`.
    kind: &'static str,
    /// The extension.
    extension_key: String,
    /// The version.
    version: String,
    /// `queued`, `running`, `done`, `cancelled` or `failed`.
    state: String,
    /// Why it ended, where it is not done.
    reason: Option<String>,
    /// Whether it only counts.
    dry_run: bool,
    /// Which installations it is for.
    filter: RolloutFilterBody,
    /// How many have their turn in a second.
    per_second: i32,
    /// Until when those that need consent wait for it.
    update_before: Option<String>,
    /// How many installations it is for; null until it has begun.
    total: Option<i64>,
    /// How many have had their turn.
    processed: i64,
    /// How many have not; null until it has begun.
    remaining: Option<i64>,
    /// How many the version serves through this job, with those that agreed since.
    upgraded: i64,
    /// How many wait for consent now.
    waiting_for_consent: i64,
    /// How many waited, and do not any more without having been upgraded by this job.
    lapsed: i64,
    /// How many had the version already.
    unchanged: i64,
    /// How many could not be upgraded.
    failed: i64,
    /// How many were uninstalled, or had another version than those meant, when their turn came.
    skipped: i64,
    /// Up to 20 that could not be upgraded; null in lists.
    failures: Option<Vec<FailureBody>>,
    /// Who asked for it.
    created_by: String,
    /// When it was asked for.
    created_at: Option<String>,
    /// When it began.
    started_at: Option<String>,
    /// When it ended.
    finished_at: Option<String>,
}

/// Which installations a rollout is for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RolloutFilterBody {
    /// In these orgs; null means all.
    #[schema(value_type = Option<Vec<String>>)]
    org_ids: Value,
    /// Served by these versions; null means any.
    #[schema(value_type = Option<Vec<String>>)]
    from_versions: Value,
}

/// An installation that could not be upgraded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailureBody {
    /// The installation.
    installation_id: Uuid,
    /// Why.
    reason: String,
}

impl From<RolloutFailure> for FailureBody {
    fn from(failure: RolloutFailure) -> Self {
        Self { installation_id: failure.installation_id, reason: failure.reason }
    }
}

impl From<RolloutView> for RolloutBody {
    fn from(view: RolloutView) -> Self {
        let processed = view.processed();
        let row = view.row;
        Self {
            job_id: row.id,
            kind: "rollout",
            extension_key: row.extension_key,
            version: row.version,
            state: row.state,
            reason: row.reason,
            dry_run: row.dry_run != 0,
            filter: RolloutFilterBody {
                org_ids: document(row.org_ids.as_deref()),
                from_versions: document(row.from_versions.as_deref()),
            },
            per_second: row.per_second,
            update_before: moment(row.update_before),
            total: row.total,
            processed,
            remaining: row.total.map(|total| (total - processed).max(0)),
            upgraded: view.upgraded,
            waiting_for_consent: view.waiting,
            lapsed: view.lapsed,
            unchanged: row.unchanged,
            failed: row.failed,
            skipped: row.skipped,
            failures: view
                .failures
                .map(|failures| failures.into_iter().map(FailureBody::from).collect()),
            created_by: row.created_by,
            created_at: moment(Some(row.created_at)),
            started_at: moment(row.started_at),
            finished_at: moment(row.finished_at),
        }
    }
}

/// Rolls a version out over the installations of an extension, in the background.
#[utoipa::path(
    post, path = "/api/v1/extensions/{key}/versions/{version}/rollout", tag = "catalogue",
    params(("key" = String, Path), ("version" = String, Path)), request_body = RollOutRequest,
    responses(
        (status = 202, description = "The job", body = RolloutBody),
        (status = 404, description = "No such version"),
        (status = 409, description = "A rollout of the extension runs, or the version was withdrawn"),
    )
)]
async fn roll_out(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, version)): Path<(ExtensionKey, Version)>,
    request: Idempotent<RollOutRequest>,
) -> Result<Response, Problem> {
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let version = catalogue::version(state.store(), key.as_str(), &version.to_string()).await?;
    let wanted = request.value;
    let wanted = RolloutRequest {
        per_second: wanted.per_second,
        update_before: parse_moment("/updateBefore", wanted.update_before.as_deref())?,
        org_ids: wanted.org_ids,
        from_versions: wanted
            .from_versions
            .map(|versions| versions.iter().map(Version::to_string).collect()),
        is_dry: wanted.dry_run,
    };
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = roll_out_once(&state, &version, &wanted, &caller.actor(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            state.services()?.rollouts.poke();
            return done;
        }
    }
}

async fn roll_out_once(
    state: &ApiState,
    version: &VersionRow,
    wanted: &RolloutRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let work = services.lifecycle.begin().await?;
    let job = services.rollouts.begin(&work, version, wanted, actor).await?;
    effect.finish(state, work, StatusCode::ACCEPTED, &RolloutBody::from(job)).await
}
