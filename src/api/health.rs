//! Whether the process runs, and whether requests can be served.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use futures_util::future::{Either, join_all, select};
use http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use super::extract::{Json, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::state::ApiState;
use crate::seam::Clock;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// What a check returns: nothing, or in a few words what is wrong. The words are public.
pub type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

type Check = Arc<dyn Fn() -> CheckFuture + Send + Sync>;

/// What must hold for this node to be sent requests. Cloning shares it.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<RwLock<Vec<(&'static str, Check)>>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.checks().into_iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}

impl Readiness {
    /// Adds a check.
    pub fn add(&self, name: &'static str, check: impl Fn() -> CheckFuture + Send + Sync + 'static) {
        let mut checks = self.checks.write().unwrap_or_else(PoisonError::into_inner);
        checks.push((name, Arc::new(check)));
    }

    /// Asks all checks at once.
    async fn ask(&self, clock: &Clock) -> Vec<CheckResult> {
        let asked = self.checks().into_iter().map(|(name, check)| async move {
            let limit = std::pin::pin!(clock.sleep(CHECK_LIMIT));
            let failure = match select(check(), limit).await {
                Either::Left((outcome, _)) => outcome.err(),
                Either::Right(_) => Some("takes too long".to_owned()),
            };
            CheckResult { name, ok: failure.is_none(), detail: failure }
        });
        join_all(asked).await
    }

    fn checks(&self) -> Vec<(&'static str, Check)> {
        self.checks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a check came to.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CheckResult {
    name: &'static str,
    ok: bool,
    #[schema(required)]
    detail: Option<String>,
}

/// How the process is.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `live`, `ready` or `unready`.
    status: &'static str,
    /// The single checks.
    checks: Vec<CheckResult>,
}

/// Whether the process runs
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Health)))]
async fn live() -> Json<Health> {
    Json(Health { status: "live", checks: Vec::new() })
}

/// Whether requests can be served
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health, description = "Not now"))
)]
async fn ready(State(state): State<ApiState>) -> Response {
    let checks = state.readiness().ask(&state.seam().clock).await;
    let is_ready = checks.iter().all(|check| check.ok);
    let (code, status) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    json_response(code, &Health { status, checks })
}

/// The routes of this file.
pub(crate) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::api::testing::TestApi;

    #[tokio::test]
    async fn one_failing_check_makes_the_node_unready() {
        let api = TestApi::start().await;
        let live = api.call(Method::GET, "/health/live", "", None).await;
        assert_eq!((live.status.as_u16(), &live.json["status"]), (200, &"live".into()));
        let ready = api.call(Method::GET, "/health/ready", "", None).await;
        assert_eq!(
            (ready.status.as_u16(), &ready.json["checks"][0]["name"]),
            (200, &"database".into())
        );
        api.state.readiness().add("lease", || Box::pin(async { Err("lost".to_owned()) }));
        let unready = api.call(Method::GET, "/health/ready", "", None).await;
        assert_eq!(unready.status.as_u16(), 503);
        assert_eq!(unready.json["checks"][1]["detail"], "lost");
    }

    #[tokio::test]
    async fn a_database_that_is_gone_is_noticed() {
        let api = TestApi::start().await;
        api.state.store().close().await.unwrap();
        let unready = api.call(Method::GET, "/health/ready", "", None).await;
        assert_eq!(unready.status.as_u16(), 503, "{}", unready.json);
    }
}
