//! `/metrics`: what this process counts, in Prometheus' text format.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use sea_orm::{ConnectionTrait, Statement};
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;

use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::services::Services;
use super::state::ApiState;
use crate::store::{Store, StoreError};
use crate::telemetry::exposition::{self, Exposition};
use crate::telemetry::{ANSWERS, AttemptOutcome, Counter, METRICS, Metrics, PHASES};

/// For how long what the database was asked for counts: scrapes cost it no more than that, however
/// many there are.
const FRESH: Duration = Duration::from_secs(5);

/// How long a scrape waits for the database, or for another scrape that does: whoever scrapes waits
/// seconds, and what this process itself knows matters most where the database hangs.
const STORED_LIMIT: Duration = Duration::from_secs(2);

/// What the database is asked for, and when it was last.
#[derive(Debug, Default)]
pub struct Scrapes(Mutex<Option<(Instant, Stored)>>);

/// What only the database knows.
#[derive(Clone, Debug, Default)]
struct Stored {
    waiting: i64,
    notices: i64,
    /// Webhooks by health.
    health: Vec<(String, i64)>,
}

impl Scrapes {
    async fn stored(&self, state: &ApiState) -> Result<Stored, StoreError> {
        let now = state.seam().clock.instant();
        let mut kept = self.0.lock().await;
        if let Some((at, stored)) = &*kept
            && now.saturating_duration_since(*at) < FRESH
        {
            return Ok(stored.clone());
        }
        let stored = Stored::read(state.store()).await?;
        *kept = Some((now, stored.clone()));
        Ok(stored)
    }
}

impl Stored {
    async fn read(store: &Store) -> Result<Self, StoreError> {
        let ask = |sql: &'static str| {
            store.reader().query_all_raw(Statement::from_string(store.dialect(), sql))
        };
        let number = async |sql: &'static str| -> Result<i64, StoreError> {
            let rows = ask(sql).await?;
            let row = rows.first().ok_or(StoreError::Corrupt { what: "count" })?;
            Ok(row.try_get_by_index(0)?)
        };
        let health = ask("select health, count(*) from endpoint_states group by health").await?;
        let health = health
            .iter()
            .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            // Bounded, so that a backlog of millions does not make every scrape slow.
            waiting: number(
                "select count(*) from (select 1 from deliveries where due_at is not null \
                 limit 10000) waiting",
            )
            .await?,
            notices: number("select count(*) from notice_outbox").await?,
            health,
        })
    }
}

/// The routes of metrics.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// What this process counts, in Prometheus' text format
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String))
)]
async fn metrics(State(state): State<ApiState>) -> Result<Response, Problem> {
    respond(&state).await
}

/// The answer, at the API and at the listener of its own.
pub(crate) async fn respond(state: &ApiState) -> Result<Response, Problem> {
    let services = state.services()?;
    // Where the database is away all else is still worth knowing.
    let stored = tokio::select! {
        stored = services.scrapes.stored(state) => stored
            .inspect_err(|error| {
                tracing::warn!(%error, "a scrape cannot read the database; it answers without");
            })
            .ok(),
        () = state.seam().clock.sleep(STORED_LIMIT) => {
            tracing::warn!("the database does not answer a scrape; it is answered without");
            None
        }
    };
    let mut response = Response::new(Body::from(text(services, stored.as_ref())));
    *response.status_mut() = StatusCode::OK;
    let media_type = HeaderValue::from_static(exposition::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 have more digits than matter")]
fn text(services: &Services, stored: Option<&Stored>) -> String {
    let mut out = Exposition::default();
    out.gauges("mortise_build_info", "version", [(env!("CARGO_PKG_VERSION"), 1.0)]);
    let (is_valid, nodes) = services.dispatcher.standing();
    out.gauge("mortise_node_lease_valid", f64::from(u8::from(is_valid)));
    out.gauge("mortise_nodes", f64::from(nodes));
    let silences = services.beats.silences();
    let silences = silences
        .iter()
        .map(|(name, silence)| (*name, silence.map_or(0.0, |silence| silence.as_secs_f64())));
    out.gauges("mortise_loop_silence_seconds", "loop", silences);
    counted(&mut out, &METRICS);
    let (in_flight, in_memory) = services.dispatcher.load();
    out.gauge("mortise_delivery_in_flight", in_flight as f64);
    let in_table = stored.map(|stored| ("table", stored.waiting as f64));
    let depths = [("memory", in_memory as f64)].into_iter().chain(in_table);
    out.gauges("mortise_delivery_queue_depth", "place", depths);
    out.gauge("mortise_delivery_due_webhooks", METRICS.due_endpoints.get() as f64);
    let oldest = METRICS.oldest_due_micros.get() as f64 / 1_000_000.0;
    out.gauge("mortise_delivery_oldest_due_seconds", oldest);
    let (open, half_open) = services.dispatcher.breakers();
    let breakers = [("open", open as f64), ("half_open", half_open as f64)];
    out.gauges("mortise_delivery_breakers", "state", breakers);
    if let Some(stored) = stored {
        let health = stored.health.iter().map(|(name, count)| (name.as_str(), *count as f64));
        out.gauges("mortise_webhooks", "health", health);
        out.gauge("mortise_notices_waiting", stored.notices as f64);
    }
    out.finish()
}

/// Everything that is counted on the way.
fn counted(out: &mut Exposition, metrics: &Metrics) {
    out.counter("mortise_events_accepted_total", metrics.events_accepted.get());
    out.counter("mortise_events_duplicate_total", metrics.events_duplicate.get());
    out.counter("mortise_deliveries_created_total", metrics.deliveries_made.get());
    let outcomes = AttemptOutcome::ALL.map(AttemptOutcome::name);
    let each = |names: &'static [&'static str], counters: &'static [Counter]| {
        names.iter().copied().zip(counters.iter().map(Counter::get)).collect::<Vec<_>>()
    };
    out.counters(
        "mortise_delivery_attempts_total",
        "outcome",
        outcomes.into_iter().zip(metrics.attempts.iter().map(Counter::get)),
    );
    out.counters("mortise_delivery_answers_total", "answer", each(&ANSWERS, &METRICS.answers));
    out.spans("mortise_delivery_attempt_duration_seconds", [(None, &metrics.attempt_micros)]);
    let phases = PHASES.iter().zip(&metrics.phase_micros);
    let phases = phases.map(|(phase, histogram)| (Some(("phase", *phase)), histogram));
    out.spans("mortise_delivery_phase_duration_seconds", phases);
    out.spans("mortise_delivery_lag_seconds", [(None, &metrics.lag_micros)]);
    out.numbers("mortise_commit_rows", &metrics.commit_rows);
    out.spans("mortise_commit_duration_seconds", [(None, &metrics.commit_micros)]);
    out.counter("mortise_commit_retries_total", metrics.commit_retries.get());
    out.counters(
        "mortise_http_requests_total",
        "class",
        ANSWERS.into_iter().zip(metrics.http_answers.iter().map(Counter::get)),
    );
    out.spans("mortise_http_request_duration_seconds", [(None, &metrics.http_micros)]);
    out.labelled("mortise_http_problems_total", ["code"], &metrics.problems);
    out.labelled("mortise_lifecycle_transitions_total", ["command", "to"], &metrics.transitions);
    out.counter("mortise_reconciler_passes_total", metrics.reconciler_passes.get());
    out.labelled("mortise_reconciler_findings_total", ["kind"], &metrics.reconciler_findings);
    out.counter("mortise_reconciler_repaired_total", metrics.reconciler_repaired.get());
    out.counter("mortise_notices_sent_total", metrics.notices_sent.get());
    out.counter("mortise_notices_failed_total", metrics.notices_failed.get());
    out.counter("mortise_inspected_requests_total", metrics.inspected.get());
    out.counter("mortise_tapped_deliveries_total", metrics.tapped.get());
}

#[cfg(test)]
mod tests {
    use crate::api::testing::documented;
    use crate::telemetry::families;

    #[test]
    fn the_reference_lists_every_family() {
        documented("docs/metrics.md", &families::reference());
    }
}
