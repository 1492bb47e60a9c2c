//! The steps of jobs that send again: small, paced, and each one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Statement, Value,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::recovery::{Recoveries, Standing, standing};
use super::views::variants_of;
use crate::seam::{Timestamp, crash_point};
use crate::store::claims::DeliveryState;
use crate::store::entity::{event, recovery_job, webhook, webhook_rule};
use crate::store::{StoreError, UnitOfWork};
use crate::webhook::own::RoutedRule;

/// How often jobs are looked for where nothing pokes.
const POLL: Duration = Duration::from_millis(500);

/// How many deliveries one step looks at.
const LOOKED_AT: u64 = 1_000;

/// How many deliveries one step puts on their way at the most.
const STEP: usize = 250;

/// How long after a step the next one comes at the least, in microseconds.
const STEP_PAUSE: i64 = 10_000;

/// How far ahead a step may put the next one; more shows a clock that was set back.
const FURTHEST: Duration = Duration::from_mins(30);

/// For how long a job is left alone whose step failed, so that it does not stop the others.
const TROUBLE: Duration = Duration::from_secs(30);

/// Up to how many deliveries a job counts what it has before it.
const COUNTED: i64 = 100_000;

/// Why a delivery that matched was not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Skipped {
    /// Its payload is older than what is kept.
    PayloadExpired,
    /// It is on its way already.
    UnderWay,
    /// It belongs to a former installation.
    FormerInstallation,
    /// Its trigger or automation is no more, or is switched off.
    RuleEnded,
    /// Its state changed while the job looked at it.
    ChangedMeanwhile,
}

impl Skipped {
    const fn name(self) -> &'static str {
        match self {
            Self::PayloadExpired => "payloadExpired",
            Self::UnderWay => "underWay",
            Self::FormerInstallation => "formerInstallation",
            Self::RuleEnded => "ruleEnded",
            Self::ChangedMeanwhile => "changedMeanwhile",
        }
    }
}

/// What a step needs of a delivery.
#[derive(Debug, FromQueryResult)]
struct Candidate {
    id: Uuid,
    event_id: Uuid,
    generation: i32,
    state: i16,
    due_at: Option<i64>,
    claim: Option<i64>,
    first_status: Option<i32>,
}

/// What a step needs of an event.
#[derive(Debug, FromQueryResult)]
struct Content {
    id: Uuid,
    event_type: String,
    has_payload: bool,
}

/// A stretch of a webhook's deliveries, as far as one step goes.
#[derive(Debug)]
struct Stretch {
    /// The last delivery that was looked at.
    position: Uuid,
    is_last: bool,
    looked_at: i64,
    /// Those to put on their way.
    wanted: Vec<Uuid>,
    skipped: BTreeMap<&'static str, i64>,
}

impl Recoveries {
    /// Takes steps of the jobs that run until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.inner.seam.clock.clone();
        let mut troubled = HashMap::new();
        while !stop.is_cancelled() {
            let pause = match self.step(&mut troubled).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "a step of a recovery failed; tried again");
                    Some(POLL)
                }
            };
            let Some(pause) = pause else { continue };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.poked.notified() => {}
                () = clock.sleep(pause.min(POLL)) => {}
            }
        }
    }

    /// One step of the job that has waited longest. Returns how long to wait for the next, where
    /// nothing is due.
    async fn step(
        &self,
        troubled: &mut HashMap<Uuid, tokio::time::Instant>,
    ) -> Result<Option<Duration>, StoreError> {
        let inner = &self.inner;
        // A node that another one may take for dead does nothing.
        if !inner.dispatcher.inner.lease.is_valid() {
            return Ok(Some(POLL));
        }
        let now = inner.seam.clock.now();
        let instant = inner.seam.clock.instant();
        troubled.retain(|_, until| *until > instant);
        let next = recovery_job::Entity::find()
            .filter(recovery_job::Column::Running.is_not_null())
            .filter(recovery_job::Column::Id.is_not_in(troubled.keys().copied()))
            .order_by_asc(recovery_job::Column::NextAt)
            .limit(1)
            .one(inner.store.reader())
            .await?;
        let Some(job) = next else { return Ok(Some(POLL)) };
        let next_at = Timestamp::from_micros(job.next_at);
        // Further away than any step puts it: the time of day was set back.
        if next_at > now && next_at.since(now) < FURTHEST {
            return Ok(Some(next_at.since(now).max(Duration::from_millis(1))));
        }
        let id = job.id;
        let done = self.step_of(job).await;
        if done.is_err() {
            troubled.insert(id, instant + TROUBLE);
        }
        done.map(|()| None)
    }

    async fn step_of(&self, seen: recovery_job::Model) -> Result<(), StoreError> {
        let inner = &self.inner;
        let counted = match seen.total {
            None => Some(self.count(&seen).await?),
            Some(_) => None,
        };
        let found = self.look(&seen).await?;
        let work = inner.store.begin().await?;
        let current = recovery_job::Entity::find_by_id(seen.id)
            .lock_exclusive()
            .one(work.connection())
            .await?;
        // Another node took this step, or somebody called the job off.
        let Some(job) = current.filter(|current| *current == seen) else {
            return work.rollback().await;
        };
        let now = inner.seam.clock.now();
        let mut job = job;
        if job.started_at.is_none() {
            job.started_at = Some(now.micros());
            "running".clone_into(&mut job.state);
        }
        if let Some(total) = counted {
            job.total = Some(total);
            job.total_is_estimate = i16::from(total >= COUNTED);
        }
        match standing(&work, job.webhook_id).await? {
            Standing::Open(row) => self.carry_out(&work, &mut job, found, &row, now).await?,
            Standing::Held(why) => end(&mut job, "failed", Some(why), now),
            Standing::Removed => {
                end(&mut job, "failed", Some("The webhook is no more: it was removed."), now);
            }
        }
        save(&work, &job).await?;
        crash_point("recovery.before-commit");
        let _settled = work.commit(now).await?;
        if job.requeued > seen.requeued {
            inner.dispatcher.inner.pokes.endpoints([job.webhook_id]);
        }
        Ok(())
    }

    /// How many deliveries the job has to look at, up to a bound.
    async fn count(&self, job: &recovery_job::Model) -> Result<i64, StoreError> {
        let sql = format!(
            "select count(*) from (select 1 from deliveries \
             where (endpoint_id, id) > ($1, $2) and (endpoint_id, id) <= ($1, $3) \
             limit {COUNTED}) counted"
        );
        let values = [job.webhook_id.into(), job.position.into(), job.upper.into()];
        let row = self
            .inner
            .store
            .reader()
            .query_one_raw(Statement::from_sql_and_values(self.inner.store.dialect(), sql, values))
            .await?
            .ok_or(StoreError::Corrupt { what: "count" })?;
        Ok(row.try_get_by_index(0)?)
    }

    /// Reads the next stretch and sorts it, outside of the transaction.
    async fn look(&self, job: &recovery_job::Model) -> Result<Stretch, StoreError> {
        let store = &self.inner.store;
        let sql = format!(
            "select id, event_id, generation, state, due_at, claim, first_status from deliveries \
             where (endpoint_id, id) > ($1, $2) and (endpoint_id, id) <= ($1, $3) \
             order by endpoint_id, id limit {LOOKED_AT}"
        );
        let values = [job.webhook_id.into(), job.position.into(), job.upper.into()];
        let rows = Candidate::find_by_statement(Statement::from_sql_and_values(
            store.dialect(),
            sql,
            values,
        ))
        .all(store.reader())
        .await?;
        let mut stretch = Stretch {
            position: rows.last().map_or(job.upper, |row| row.id),
            is_last: (rows.len() as u64) < LOOKED_AT,
            looked_at: i64::try_from(rows.len()).unwrap_or(i64::MAX),
            wanted: Vec::new(),
            skipped: BTreeMap::new(),
        };
        let matching: Vec<Candidate> = rows
            .into_iter()
            .filter(|row| {
                row.state == job.wanted_state
                    && job.status_code.is_none_or(|status| row.first_status == Some(status))
            })
            .collect();
        let contents = self.contents(&matching).await?;
        let variants = self.variants(job, &matching).await?;
        let ended = self.ended_rules(&variants).await?;
        let now = self.inner.seam.clock.now();
        let generation = self
            .inner
            .dispatcher
            .inner
            .routing
            .endpoint(job.webhook_id)
            .map(|endpoint| endpoint.generation);
        let step = step_size(job.per_second);
        for row in matching {
            let content = contents.get(&row.event_id);
            let variant = variants.get(&row.id);
            let is_of_type = job.event_type.as_ref().is_none_or(|wanted| {
                content.is_some_and(|content| content.event_type == *wanted)
                    || variant == Some(wanted)
            });
            if !is_of_type {
                continue;
            }
            let is_pending = row.state == DeliveryState::Pending.number();
            let is_waiting =
                row.due_at.is_some_and(|due| row.claim.is_none() || due <= now.micros());
            let skipped = if content.is_none_or(|content| !content.has_payload) {
                Some(Skipped::PayloadExpired)
            } else if is_pending && !is_waiting {
                Some(Skipped::UnderWay)
            } else if generation.is_some_and(|generation| generation != row.generation) {
                Some(Skipped::FormerInstallation)
            } else if variant.is_some_and(|variant| ended.contains(variant)) {
                Some(Skipped::RuleEnded)
            } else {
                None
            };
            match skipped {
                Some(why) => *stretch.skipped.entry(why.name()).or_default() += 1,
                None => stretch.wanted.push(row.id),
            }
            if stretch.wanted.len() == step {
                // The rest of the stretch comes with the next step.
                stretch.position = row.id;
                stretch.is_last = false;
                stretch.looked_at = self.looked_at_until(job, row.id).await?;
                break;
            }
        }
        Ok(stretch)
    }

    /// What deliveries tell of, where the webhook is one whose deliveries say that.
    async fn variants(
        &self,
        job: &recovery_job::Model,
        rows: &[Candidate],
    ) -> Result<HashMap<Uuid, String>, StoreError> {
        let endpoint = self.inner.dispatcher.inner.routing.endpoint(job.webhook_id);
        if rows.is_empty() || !endpoint.is_some_and(|endpoint| endpoint.has_variants()) {
            return Ok(HashMap::new());
        }
        variants_of(&self.inner.store, rows.iter().map(|row| row.id)).await
    }

    /// Which of them are of a trigger or automation that is no more: nobody knows what to send.
    async fn ended_rules(
        &self,
        variants: &HashMap<Uuid, String>,
    ) -> Result<HashSet<String>, StoreError> {
        let named: HashMap<Uuid, &String> = variants
            .values()
            .filter_map(|variant| Some((RoutedRule::id_of(variant)?, variant)))
            .collect();
        if named.is_empty() {
            return Ok(HashSet::new());
        }
        let live: HashSet<Uuid> = webhook_rule::Entity::find()
            .select_only()
            .column(webhook_rule::Column::Id)
            .filter(webhook_rule::Column::Id.is_in(named.keys().copied()))
            .filter(webhook_rule::Column::IsActive.ne(0))
            .into_tuple::<Uuid>()
            .all(self.inner.store.reader())
            .await?
            .into_iter()
            .collect();
        let ended = named.into_iter().filter(|(id, _)| !live.contains(id));
        Ok(ended.map(|(_, variant)| variant.clone()).collect())
    }

    /// How many deliveries lie between the job's position and a delivery of its stretch.
    async fn looked_at_until(
        &self,
        job: &recovery_job::Model,
        until: Uuid,
    ) -> Result<i64, StoreError> {
        let row = self
            .inner
            .store
            .reader()
            .query_one_raw(Statement::from_sql_and_values(
                self.inner.store.dialect(),
                "select count(*) from deliveries \
                 where (endpoint_id, id) > ($1, $2) and (endpoint_id, id) <= ($1, $3)",
                [job.webhook_id.into(), job.position.into(), until.into()],
            ))
            .await?
            .ok_or(StoreError::Corrupt { what: "count" })?;
        Ok(row.try_get_by_index(0)?)
    }

    async fn contents(&self, rows: &[Candidate]) -> Result<HashMap<Uuid, Content>, StoreError> {
        use sea_orm::sea_query::Expr;
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(event::Entity::find()
            .select_only()
            .columns([event::Column::Id, event::Column::EventType])
            .column_as(Expr::cust("length(payload) > 0"), "has_payload")
            .filter(event::Column::Id.is_in(rows.iter().map(|row| row.event_id)))
            .into_model::<Content>()
            .all(self.inner.store.reader())
            .await?
            .into_iter()
            .map(|content| (content.id, content))
            .collect())
    }

    async fn carry_out(
        &self,
        work: &UnitOfWork,
        job: &mut recovery_job::Model,
        mut found: Stretch,
        row: &webhook::Model,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let requeued = self.requeue(work, job, &found.wanted, row.ordered != 0, now).await?;
        let wanted = i64::try_from(found.wanted.len()).unwrap_or(i64::MAX);
        if requeued < wanted {
            *found.skipped.entry(Skipped::ChangedMeanwhile.name()).or_default() +=
                wanted - requeued;
        }
        let mut skipped: BTreeMap<String, i64> =
            serde_json::from_str(&job.skipped).unwrap_or_default();
        for (why, count) in found.skipped {
            *skipped.entry(why.to_owned()).or_default() += count;
        }
        job.skipped = serde_json::to_string(&skipped)
            .map_err(|_| StoreError::Corrupt { what: "recovery job" })?;
        job.requeued += requeued;
        job.processed += found.looked_at;
        job.position = found.position;
        // Strictly later each time, so that a step that another node read meanwhile is known as old.
        let pace = 1_000_000 / i64::from(job.per_second.max(1));
        // A step that found nothing to send leaves the others a moment.
        let pause = (requeued * pace).max(STEP_PAUSE);
        job.next_at = now.micros().max(job.next_at.min(now.plus(FURTHEST).micros()) + 1) + pause;
        if found.is_last {
            end(job, "done", None, now);
        }
        Ok(())
    }

    /// Puts deliveries on their way, in order of acceptance. Returns how many still were as the
    /// job saw them.
    async fn requeue(
        &self,
        work: &UnitOfWork,
        job: &recovery_job::Model,
        ids: &[Uuid],
        ordered: bool,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut values: Vec<Value> = vec![
            job.wanted_state.into(),
            now.micros().into(),
            ordered.then_some(1_i16).into(),
            job.webhook_id.into(),
        ];
        let mut rows = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let place = values.len() + 1;
            rows.push(format!("(${place}, ${})", place + 1));
            // A microsecond apart: what is due first was accepted first.
            let due = now.micros().saturating_add(i64::try_from(index).unwrap_or(0));
            values.extend([(*id).into(), due.into()]);
        }
        let sql = format!(
            "update deliveries set state = 0, claim = null, due_at = wanted.column2, \
             replay = case when attempts > 0 then 1 else 0 end, ordered = $3 \
             from (values {}) as wanted \
             where deliveries.id = wanted.column1 and deliveries.endpoint_id = $4 \
               and deliveries.state = $1 and (deliveries.state <> 0 or (deliveries.due_at is not null \
               and (deliveries.claim is null or deliveries.due_at <= $2)))",
            rows.join(", ")
        );
        let done = work
            .connection()
            .execute_raw(Statement::from_sql_and_values(self.inner.store.dialect(), sql, values))
            .await?;
        Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
    }
}

/// How many deliveries a step puts on their way: about half a second's worth.
fn step_size(per_second: i32) -> usize {
    usize::try_from(per_second / 2).unwrap_or(1).clamp(1, STEP)
}

fn end(job: &mut recovery_job::Model, state: &str, reason: Option<&str>, now: Timestamp) {
    state.clone_into(&mut job.state);
    job.running = None;
    job.reason = reason.map(str::to_owned);
    job.finished_at = Some(now.micros());
}

async fn save(work: &UnitOfWork, job: &recovery_job::Model) -> Result<(), StoreError> {
    let active: recovery_job::ActiveModel = job.clone().into();
    recovery_job::Entity::update(active.reset_all()).exec(work.connection()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_half_a_second_and_never_nothing() {
        assert_eq!([1, 2, 10, 100, 100_000].map(step_size), [1, 1, 5, 50, STEP]);
    }
}
