//! Refreshing: journalled by a claim before it is tried, once for all who wait, and right again
//! after a crash or a lost answer.
//!
//! The claim in the row says who asks the authorisation server and until when nobody else does. No
//! transaction is open while it is asked. Where the answer is lost, the next try brings the same
//! refresh token again; where a new one replaced it, the former is kept until the new one was used
//! with success, and tried where the new one is refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::connections::{Connections, EXPIRED, Inner};
use super::discarding;
use super::error::OAuthError;
use super::health::{break_connection, show_scopes};
use super::provider::{RefreshError, Service, Tokens};
use super::vault::{
    self, ACCESS, FORMER_REFRESH, REFRESH, TokenPlace, refresh_due, scopes_of, scopes_text,
};
use crate::audit::Actor;
use crate::crypto::SecretText;
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{connection, installation};
use crate::store::{StoreError, UnitOfWork};

/// How long a claim keeps others off: longer than two calls of the authorisation server.
const CLAIM: Duration = Duration::from_secs(25);

/// How long a caller waits for a refresh, his own or another node's.
const PATIENCE: Duration = Duration::from_secs(22);

/// How often a claim of another node is looked at.
const CLAIM_POLL: Duration = Duration::from_millis(50);

/// How many refreshes may be under way or waiting for their lane on a node.
const MOST_FLIGHTS: usize = 2_048;

/// How often the table is read for what ends soon.
const POLL: Duration = Duration::from_secs(1);

/// How many connections one round takes on.
const ROUND: u64 = 256;

/// The first pause after a failure; each doubles the former one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// The first pause after an answer that could not be written; each doubles the former one.
const FIRST_WRITE_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between tries to write an answer.
const LONGEST_WRITE_PAUSE: Duration = Duration::from_secs(2);

/// How long a stop waits for refreshes that are under way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What a refresh came to.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The row has another token than before.
    Done,
    /// The connection does not work any more.
    Broken { reason: String },
    /// It may still be good.
    Unavailable { reason: String, retry_after: Duration },
    /// It was taken out meanwhile.
    Gone,
}

type Landing = watch::Receiver<Option<Outcome>>;

/// The refreshes that are under way on this node.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_connection: Mutex<HashMap<Uuid, Landing>>,
    tasks: TaskTracker,
}

/// Takes a flight out of the list however it ends.
struct Entry {
    inner: Arc<Inner>,
    id: Uuid,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let flights = &self.inner.flights.by_connection;
        flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What trying to claim a row came to.
enum Claim {
    Mine(Box<connection::Model>),
    Another,
    Ended(Outcome),
}

fn busy(reason: &str) -> Outcome {
    Outcome::Unavailable { reason: reason.to_owned(), retry_after: Duration::from_secs(1) }
}

fn service_of(row: &connection::Model) -> Service {
    Service { name: row.service_name.clone(), declared_in: row.declared_in }
}

impl Inner {
    /// Refreshes a connection whose row was just read, or waits for whoever does it already.
    pub(super) async fn refreshed(
        self: &Arc<Self>,
        row: &connection::Model,
    ) -> Result<Outcome, OAuthError> {
        let now = self.seam.clock.now();
        if row.refresh_failures > 0
            && let Some(due) = row.refresh_due_at.map(Timestamp::from_micros)
            && due > now
        {
            let reason = "it failed just now, and is asked again later".to_owned();
            return Ok(Outcome::Unavailable { reason, retry_after: due.since(now) });
        }
        let Some(mut landing) = self.flight(row, None) else {
            return Ok(busy("very many refreshes are under way"));
        };
        let landed = landing.wait_for(Option::is_some);
        let outcome = tokio::select! {
            outcome = landed => outcome.ok().and_then(|outcome| outcome.clone()),
            () = self.seam.clock.sleep(PATIENCE) => None,
        };
        Ok(outcome.unwrap_or_else(|| busy("a refresh is still under way")))
    }

    /// Begins a refresh, in a task of its own: a caller that goes away must not lose the answer.
    /// Joins the one that is under way. Nothing where there are too many.
    fn flight(
        self: &Arc<Self>,
        row: &connection::Model,
        place: Option<OwnedSemaphorePermit>,
    ) -> Option<Landing> {
        let mut flights = self.flights.by_connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = flights.get(&row.id) {
            return Some(landing.clone());
        }
        if flights.len() >= MOST_FLIGHTS {
            return None;
        }
        let (take_off, landing) = watch::channel(None);
        flights.insert(row.id, landing.clone());
        drop(flights);
        let entry = Entry { inner: Arc::clone(self), id: row.id };
        let (inner, row) = (Arc::clone(self), row.clone());
        self.flights.tasks.spawn(async move {
            let outcome = match inner.refresh(&row, place).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::warn!(connection = %row.id, %error, "a connection was not refreshed");
                    busy("the refresh failed here")
                }
            };
            // Out of the list first: who comes from now on reads the row anew.
            drop(entry);
            take_off.send_replace(Some(outcome));
        });
        Some(landing)
    }

    async fn refresh(
        &self,
        seen: &connection::Model,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Outcome, OAuthError> {
        let end = self.seam.clock.instant() + PATIENCE;
        let lane = self.lanes.of(&service_of(seen));
        let place = if place.is_some() {
            place
        } else {
            tokio::select! {
                place = lane.acquire_owned() => place.ok(),
                () = self.seam.clock.sleep(PATIENCE) => None,
            }
        };
        let Some(_place) = place else {
            return Ok(busy("its authorisation server has many slow calls under way"));
        };
        let mine = self.seam.randomness.id();
        let (row, lapses) = loop {
            let asked = self.seam.clock.instant();
            match self.claim(seen, mine).await? {
                Claim::Mine(row) => break (row, asked + CLAIM),
                Claim::Ended(outcome) => return Ok(outcome),
                Claim::Another if self.seam.clock.instant() >= end => {
                    return Ok(busy("another node refreshes it"));
                }
                Claim::Another => self.seam.clock.sleep(CLAIM_POLL).await,
            }
        };
        crash_point("connection.before-refresh");
        let answer = self.ask(&row).await;
        crash_point("connection.after-refresh-call");
        let outcome = match answer {
            Ok((tokens, used)) => self.keep_answer(&row, mine, &tokens, &used, lapses).await?,
            Err(RefreshError::Dead) => {
                let reason = "the authorisation server does not accept its refresh token any more \
                              (invalid_grant): the consent was withdrawn, or has ended";
                self.write_broken(&row, Some(mine), reason, None).await?
            }
            Err(RefreshError::Failed { reason }) => self.write_failure(&row, mine, reason).await?,
        };
        crash_point("connection.after-commit");
        Ok(outcome)
    }

    /// Journals that this node refreshes, before anything is tried.
    async fn claim(&self, seen: &connection::Model, mine: Uuid) -> Result<Claim, OAuthError> {
        let now = self.seam.clock.now();
        let work = self.store.begin().await?;
        let row =
            connection::Entity::find_by_id(seen.id).lock_exclusive().one(work.connection()).await?;
        let Some(row) = row else { return Ok(Claim::Ended(Outcome::Gone)) };
        if row.health == "broken" {
            let reason = row.reason.unwrap_or_default();
            return Ok(Claim::Ended(Outcome::Broken { reason }));
        }
        if row.version != seen.version || row.sealed_refresh_token.is_none() {
            return Ok(Claim::Ended(Outcome::Done));
        }
        if row.claimed_until.is_some_and(|until| until > now.micros()) {
            return Ok(Claim::Another);
        }
        connection::Entity::update_many()
            .col_expr(connection::Column::ClaimedBy, Expr::value(mine))
            .col_expr(connection::Column::ClaimedUntil, Expr::value(now.plus(CLAIM).micros()))
            .filter(connection::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        let _no_routing = work.commit(now).await?;
        Ok(Claim::Mine(Box::new(row)))
    }

    /// Asks the authorisation server: with the present refresh token, and where that is dead with
    /// the former one. Gives back which one was taken.
    async fn ask(&self, row: &connection::Model) -> Result<(Tokens, SecretText), RefreshError> {
        let failed = |error: OAuthError| RefreshError::Failed { reason: error.to_string() };
        let server = self.providers.find(&service_of(row)).await.map_err(failed)?;
        let opened = |field, sealed: &Option<Vec<u8>>| {
            let open = |sealed| vault::open(&self.ring, TokenPlace::of(row), field, sealed);
            sealed.as_deref().map(open).transpose()
        };
        let present = opened(REFRESH, &row.sealed_refresh_token).map_err(failed)?;
        let former = opened(FORMER_REFRESH, &row.sealed_former_refresh_token).map_err(failed)?;
        for token in [present, former].into_iter().flatten() {
            match self.providers.refresh(&server, &token).await {
                Ok(tokens) => return Ok((tokens, token)),
                Err(RefreshError::Dead) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RefreshError::Dead)
    }

    /// The installation and the connection under their locks, in this order.
    async fn lock_both(
        &self,
        work: &UnitOfWork,
        row: &connection::Model,
    ) -> Result<Option<(installation::Model, connection::Model)>, OAuthError> {
        let installation = installation::Entity::find_by_id(row.installation_id)
            .lock_exclusive()
            .one(work.connection())
            .await?;
        let present =
            connection::Entity::find_by_id(row.id).lock_exclusive().one(work.connection()).await?;
        Ok(installation.zip(present))
    }

    /// Writes an answer until it is on disk: a server that rotates has ended the old tokens with it,
    /// and nobody else has the new ones. Given up only when the claim ends, since another may ask
    /// then.
    async fn keep_answer(
        &self,
        row: &connection::Model,
        mine: Uuid,
        tokens: &Tokens,
        used: &SecretText,
        lapses: tokio::time::Instant,
    ) -> Result<Outcome, OAuthError> {
        let mut pause = FIRST_WRITE_PAUSE;
        loop {
            let error = match self.write_tokens(row, mine, tokens, used).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if self.seam.clock.instant() + pause >= lapses {
                tracing::error!(connection = %row.id, %error, "refreshed tokens were never written");
                return Err(error);
            }
            tracing::warn!(
                connection = %row.id, %error,
                "refreshed tokens could not be written; tried again"
            );
            self.seam.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_WRITE_PAUSE);
        }
    }

    /// Puts new tokens in the place of the old ones, where nothing came in between.
    async fn write_tokens(
        &self,
        row: &connection::Model,
        mine: Uuid,
        tokens: &Tokens,
        used: &SecretText,
    ) -> Result<Outcome, OAuthError> {
        let scopes = tokens.scopes.clone();
        let asked = scopes_of(row.asked.as_deref().unwrap_or(&row.scopes))?;
        let lost: Vec<&str> = scopes
            .iter()
            .flat_map(|scopes| {
                asked.iter().filter(|scope| !scopes.contains(scope)).map(String::as_str)
            })
            .collect();
        if !lost.is_empty() {
            let reason =
                format!("its scopes were narrowed: {} is granted no more", lost.join(", "));
            return self.write_broken(row, Some(mine), &reason, Some(tokens)).await;
        }
        let now = self.seam.clock.now();
        let work = self.store.begin().await?;
        let both = self.lock_both(&work, row).await?;
        let is_same = |present: &connection::Model| {
            present.created_at == row.created_at && present.health == "ok"
        };
        let Some((installation, present)) = both.filter(|(_, present)| is_same(present)) else {
            // Uninstalled, disconnected, broken or authorised anew meanwhile: nobody uses these.
            self.discard(&work, row, tokens).await?;
            let _no_routing = work.commit(now).await?;
            return Ok(Outcome::Done);
        };
        if present.version != row.version || present.claimed_by != Some(mine) {
            // This took so long that another went on with the same grant. To revoke these tokens
            // would end it.
            return Ok(Outcome::Done);
        }
        let place = TokenPlace::of(row);
        let seal =
            |field, token: &SecretText| vault::seal(&self.ring, place, field, token, &self.seam);
        let (refresh, former) = match &tokens.refresh {
            Some(new) => (seal(REFRESH, new)?, Some(seal(FORMER_REFRESH, used)?)),
            None => (seal(REFRESH, used)?, None),
        };
        let scopes = match scopes {
            Some(scopes) => scopes_text(&scopes)?,
            None => present.scopes.clone(),
        };
        if scopes != present.scopes {
            show_scopes(&work, &installation, &present, &scopes, now).await?;
        }
        let end = tokens.expires_at.map(Timestamp::micros);
        let due = refresh_due(now, tokens.expires_at, true, &self.seam);
        connection::Entity::update_many()
            .col_expr(
                connection::Column::SealedAccessToken,
                Expr::value(seal(ACCESS, &tokens.access)?),
            )
            .col_expr(connection::Column::SealedRefreshToken, Expr::value(Some(refresh)))
            .col_expr(connection::Column::SealedFormerRefreshToken, Expr::value(former))
            .col_expr(connection::Column::AccessExpiresAt, Expr::value(end))
            .col_expr(connection::Column::Scopes, Expr::value(scopes))
            .col_expr(connection::Column::Version, Expr::value(present.version + 1))
            .col_expr(connection::Column::ClaimedBy, Expr::value(Option::<Uuid>::None))
            .col_expr(connection::Column::ClaimedUntil, Expr::value(Option::<i64>::None))
            .col_expr(connection::Column::RefreshDueAt, Expr::value(due))
            .col_expr(connection::Column::RefreshFailures, Expr::value(0))
            .col_expr(connection::Column::UpdatedAt, Expr::value(now.micros()))
            .filter(connection::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        let _no_routing = work.commit(now).await?;
        Ok(Outcome::Done)
    }

    /// Puts tokens that nobody uses into the revocation job.
    async fn discard(
        &self,
        work: &UnitOfWork,
        row: &connection::Model,
        tokens: &Tokens,
    ) -> Result<(), OAuthError> {
        let now = self.seam.clock.now();
        let (id, service) = (row.installation_id, service_of(row));
        discarding::discard(&self.ring, work, id, &service, &tokens.all(), now, &self.seam).await
    }

    /// Breaks the connection, where nothing came in between. `surplus` are tokens of the last answer.
    async fn write_broken(
        &self,
        row: &connection::Model,
        mine: Option<Uuid>,
        reason: &str,
        surplus: Option<&Tokens>,
    ) -> Result<Outcome, OAuthError> {
        let work = self.store.begin().await?;
        if let Some(tokens) = surplus {
            self.discard(&work, row, tokens).await?;
        }
        let outcome = match self.lock_both(&work, row).await? {
            Some((installation, present))
                if present.version == row.version
                    && present.claimed_by == mine
                    && present.health != "broken" =>
            {
                let actor = Actor::system("connections");
                let (ring, board, seam) = (&self.ring, &self.board, &self.seam);
                break_connection(ring, board, &work, &installation, &present, reason, &actor, seam)
                    .await?;
                Outcome::Broken { reason: reason.to_owned() }
            }
            Some((_, present)) if present.health == "broken" => {
                Outcome::Broken { reason: present.reason.unwrap_or_default() }
            }
            Some(_) => Outcome::Done,
            None => Outcome::Gone,
        };
        let _no_routing = work.commit(self.seam.clock.now()).await?;
        Ok(outcome)
    }

    /// Breaks a connection whose token ended and cannot be refreshed.
    pub(super) async fn break_expired(&self, row: &connection::Model) -> Result<(), OAuthError> {
        self.write_broken(row, row.claimed_by, EXPIRED, None).await.map(|_| ())
    }

    /// Lets the next try wait: a server that is down is not stormed.
    async fn write_failure(
        &self,
        row: &connection::Model,
        mine: Uuid,
        reason: String,
    ) -> Result<Outcome, OAuthError> {
        let now = self.seam.clock.now();
        let doubled = u32::try_from(row.refresh_failures).unwrap_or(0).min(16);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doubled)).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(1.0 + self.seam.randomness.fraction() / 4.0);
        tracing::warn!(
            connection = %row.id, service = %row.service_name, %reason,
            "a token was not refreshed; tried again"
        );
        let work = self.store.begin().await?;
        connection::Entity::update_many()
            .col_expr(connection::Column::ClaimedBy, Expr::value(Option::<Uuid>::None))
            .col_expr(connection::Column::ClaimedUntil, Expr::value(Option::<i64>::None))
            .col_expr(connection::Column::RefreshFailures, Expr::value(row.refresh_failures + 1))
            .col_expr(connection::Column::RefreshDueAt, Expr::value(now.plus(pause).micros()))
            .filter(connection::Column::Id.eq(row.id))
            .filter(connection::Column::ClaimedBy.eq(mine))
            .exec(work.connection())
            .await?;
        let _no_routing = work.commit(now).await?;
        Ok(Outcome::Unavailable { reason, retry_after: pause })
    }
}

impl Connections {
    /// Refreshes what ends soon, until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.inner;
        if let Err(error) = inner.drop_stale_claims().await {
            tracing::warn!(%error, "claims of a former process stay until they lapse");
        }
        loop {
            if let Err(error) = inner.round().await {
                tracing::warn!(%error, "cannot read the tokens that end soon");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = inner.seam.clock.sleep(POLL) => {}
            }
        }
        inner.flights.tasks.close();
        tokio::select! {
            () = inner.flights.tasks.wait() => {}
            // What is cut off here is found by its claim.
            () = inner.seam.clock.sleep(STOP_PATIENCE) => {}
        }
    }
}

impl Inner {
    /// One process owns the file of `SQLite`: what another claimed in it is free.
    async fn drop_stale_claims(&self) -> Result<(), OAuthError> {
        if self.store.autocommit().is_some() {
            return Ok(());
        }
        let work = self.store.begin().await?;
        connection::Entity::update_many()
            .col_expr(connection::Column::ClaimedUntil, Expr::value(Option::<i64>::None))
            .filter(connection::Column::ClaimedUntil.lte(self.started_at.plus(CLAIM).micros()))
            .exec(work.connection())
            .await?;
        let _no_routing = work.commit(self.seam.clock.now()).await?;
        Ok(())
    }

    /// Takes on what is due. What is taken on already is joined and not begun twice.
    async fn round(self: &Arc<Self>) -> Result<(), StoreError> {
        use connection::Column;
        let now = self.seam.clock.now();
        let due = connection::Entity::find()
            .filter(Column::RefreshDueAt.lte(now.micros()))
            .filter(Column::Health.eq("ok"))
            .filter(
                Condition::any()
                    .add(Column::ClaimedUntil.is_null())
                    .add(Column::ClaimedUntil.lte(now.micros())),
            )
            .filter(self.lanes.but_full(Column::ServiceName, Column::DeclaredIn))
            .order_by_asc(Column::RefreshDueAt)
            .limit(ROUND)
            .all(self.store.reader())
            .await?;
        for row in due {
            if row.sealed_refresh_token.is_none() {
                if let Err(error) = self.break_expired(&row).await {
                    tracing::warn!(connection = %row.id, %error, "an ended connection stays");
                }
            } else {
                let place = self.lanes.enter(&service_of(&row));
                let _who_waits = self.flight(&row, place);
            }
        }
        Ok(())
    }
}
