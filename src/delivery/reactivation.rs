//! A webhook that was given up goes live again, with or without what was held meanwhile.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, Statement,
};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::outcome::{Health, TROUBLE, notice_subject};
use super::recovery::{
    HELD_BY_SUSPENSION, JobKind, JobView, Recoveries, RecoveryRefusal, RecoveryRequest,
};
use crate::audit::{self, Actor, Entry};
use crate::notice::NoticeKind;
use crate::seam::Timestamp;
use crate::store::claims::{self, DeliveryState};
use crate::store::entity::{endpoint_state, installation, webhook};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};
use crate::webhook::own::{self, OwnRefusal};

/// Why a webhook that is switched off stays so.
const OVER_PLAN: &str = "The webhook is switched off, and the plan of the org has no room for it: delete another one first.";

/// How many held deliveries one statement touches.
const STEP: u32 = 500;

/// What a reactivation did.
#[derive(Clone, Debug)]
pub struct Reactivated {
    /// The health before.
    pub former: String,
    /// The job that releases what was held, where that was asked for.
    pub job: Option<JobView>,
}

impl Recoveries {
    /// Makes a webhook live again. With `release` what was held goes out in order of acceptance at
    /// the configured pace; without, it stays held until somebody recovers it or it expires.
    pub async fn reactivate(
        &self,
        work: &mut UnitOfWork,
        id: Uuid,
        release: bool,
        actor: &Actor,
    ) -> Result<Reactivated, RecoveryRefusal> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let Some(row) = webhook::Entity::find_by_id(id).one(work.connection()).await? else {
            return Err(RecoveryRefusal::Removed);
        };
        if let Some(owner) = row.installation_id {
            let owner = installation::Entity::find_by_id(owner).one(work.connection()).await?;
            if owner.is_some_and(|owner| owner.suspended_by != 0) {
                return Err(RecoveryRefusal::Held(HELD_BY_SUSPENSION));
            }
        }
        if row.is_enabled == 0 {
            // An org's own is switched on with it, where the plan has room.
            match own::switch_on(work, &row, &inner.seam).await {
                Ok(()) => {}
                Err(OwnRefusal::Store(error)) => return Err(error.into()),
                Err(_) => return Err(RecoveryRefusal::Held(OVER_PLAN)),
            }
            let board = &inner.dispatcher.inner.options.notices;
            board.resolve(work, &[NoticeKind::WebhookOverPlan], &notice_subject(id)).await?;
            if !release {
                claims::discard_held(&inner.store, work, id, own::DISCARDED).await?;
            }
        }
        let job = if release {
            let request = RecoveryRequest {
                state: DeliveryState::Held,
                since: None,
                until: None,
                event_type: None,
                status_code: None,
                per_second: None,
            };
            Some(self.write(work, &row, &request, JobKind::Release, actor).await?)
        } else {
            None
        };
        // After the job, as whoever ends one locks them.
        let current =
            endpoint_state::Entity::find_by_id(id).lock_exclusive().one(work.connection()).await?;
        let former = current.map_or_else(|| Health::Ok.name().to_owned(), |state| state.health);
        let keeps_before = (!release).then(|| inner.seam.randomness.id());
        let is_news = former != Health::Ok.name();
        let mut live = endpoint_state::Entity::update_many();
        if is_news {
            live = live.col_expr(endpoint_state::Column::HealthSince, Expr::value(now.micros()));
        }
        live.col_expr(endpoint_state::Column::Health, Expr::value(Health::Ok.name()))
            .col_expr(endpoint_state::Column::Reason, Expr::value(Option::<String>::None))
            .col_expr(endpoint_state::Column::ConsecutiveFailures, Expr::value(0))
            .col_expr(endpoint_state::Column::BreakerUntil, Expr::value(Option::<i64>::None))
            .col_expr(endpoint_state::Column::KeepsHeldBefore, Expr::value(keeps_before))
            .col_expr(endpoint_state::Column::UpdatedAt, Expr::value(now.micros()))
            .filter(endpoint_state::Column::EndpointId.eq(id))
            .exec(work.connection())
            .await?;
        if is_news {
            let board = &inner.dispatcher.inner.options.notices;
            board.resolve(work, TROUBLE, &notice_subject(id)).await?;
        }
        let entry = Entry {
            chain: &row.org_id,
            action: "webhook.reactivate",
            subject: format!("webhook:{id}"),
            detail: Some(serde_json::json!({
                "from": former, "release": release, "jobId": job.as_ref().map(JobView::id),
            })),
        };
        audit::append(work, entry, actor, now, &inner.seam.randomness).await?;
        work.routing_changed(RoutingChange::Endpoint(id.to_string()));
        work.routing_changed(RoutingChange::Org(row.org_id));
        Ok(Reactivated { former, job })
    }
}

/// How what is held of a live endpoint is to be treated.
#[derive(Debug, FromQueryResult)]
struct Keeping {
    keeps_held_before: Option<Uuid>,
    releasing: i64,
}

/// What is held although its webhook is live: it came while the webhook came back, or was held
/// before and stays so. A step over each, in order of acceptance.
///
/// Returns whether there may be more.
pub(super) async fn settle_live(
    store: &Store,
    endpoint: Uuid,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "select (select keeps_held_before from endpoint_states where endpoint_id = $1) \
               as keeps_held_before, \
               (select count(*) from recovery_jobs where webhook_id = $1 \
                and running is not null and wanted_state = 1) as releasing";
    let keeping = Keeping::find_by_statement(Statement::from_sql_and_values(
        store.dialect(),
        sql,
        [endpoint.into()],
    ))
    .one(store.reader())
    .await?;
    let Some(Keeping { keeps_held_before, releasing: 0 }) = keeping else {
        // A job releases it at its own pace.
        return Ok(false);
    };
    let work = store.begin().await?;
    let mut touched = 0;
    if let Some(before) = keeps_held_before {
        touched += claims::park_held(store, &work, endpoint, before, STEP).await?;
    }
    if touched < u64::from(STEP) {
        let from = keeps_held_before.unwrap_or(Uuid::nil());
        touched += claims::release_held_from(store, &work, endpoint, from, now, STEP).await?;
    }
    let _settled = work.commit(now).await?;
    Ok(touched >= u64::from(STEP))
}

impl Dispatcher {
    /// Forgets that endpoints were paused: somebody said that they work again.
    pub fn unpause(&self, endpoints: &[Uuid]) {
        let now = self.inner.seam.clock.now();
        {
            let mut lanes = self.lanes();
            for endpoint in endpoints {
                lanes.unpause(*endpoint, now);
            }
        }
        self.spawn_workers();
        self.poke();
    }
}

/// The number of deliveries that are held of a webhook, up to a bound.
pub async fn held_count(store: &Store, webhook: Uuid, most: u32) -> Result<i64, StoreError> {
    let sql = format!(
        "select count(*) from (select 1 from deliveries where endpoint_id = $1 \
         and due_at >= 9223372036854775806 limit {most}) held"
    );
    let row = store
        .reader()
        .query_one_raw(Statement::from_sql_and_values(store.dialect(), sql, [webhook.into()]))
        .await?
        .ok_or(StoreError::Corrupt { what: "count" })?;
    Ok(row.try_get_by_index(0)?)
}
