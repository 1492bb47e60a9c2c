//! Tokens that live on only to be revoked: first try at once, then less and less often, for at most
//! 14 days. A server that is down holds nobody.

use std::time::Duration;

use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::discarding;
use super::error::OAuthError;
use super::lanes::Lanes;
use super::provider::{Providers, Service};
use super::vault;
use crate::crypto::{AssociatedData, KeyRing, Purpose, SecretText};
use crate::seam::{Seam, Timestamp, crash_point};
use crate::store::entity::{connection, revocation, token_exchange};
use crate::store::{Store, StoreError, UnitOfWork};

/// How long a token is tried to be revoked.
const GIVE_UP_AFTER: Duration = Duration::from_hours(14 * 24);

/// How often the table is read where nothing pokes; the first try comes within 2 s.
const POLL: Duration = Duration::from_secs(1);

/// The first pause after a failure; each doubles the former one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// For how long a try keeps others off the row: longer than a call can take.
const CLAIM: Duration = Duration::from_secs(15);

/// How many tries may be under way.
const MOST_TRIES: usize = 512;

/// How many tries of one service may be under way on a node.
const WIDTH: usize = 16;

/// How many tokens one round takes on.
const ROUND: u64 = 64;

/// A token to be revoked.
#[derive(Debug)]
pub struct Revocation<'a> {
    /// The installation that it belonged to.
    pub installation_id: Uuid,
    /// The service that granted it.
    pub service: Service,
    /// `access_token` or `refresh_token` (RFC 7009 section 2.1).
    pub kind: &'static str,
    /// The token.
    pub token: &'a SecretText,
}

/// A job that is to be written.
pub(super) type Job = revocation::ActiveModel;

/// Writes the job in the transaction that takes the token out of use.
pub async fn schedule(
    ring: &KeyRing,
    work: &UnitOfWork,
    revocation: Revocation<'_>,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    schedule_all(work, vec![job(ring, revocation, now, seam)?]).await
}

/// Writes jobs in the transaction that takes their tokens out of use.
pub(super) async fn schedule_all(work: &UnitOfWork, jobs: Vec<Job>) -> Result<(), OAuthError> {
    if !jobs.is_empty() {
        revocation::Entity::insert_many(jobs).exec_without_returning(work.connection()).await?;
    }
    Ok(())
}

/// The job that revokes a token.
pub(super) fn job(
    ring: &KeyRing,
    job: Revocation<'_>,
    now: Timestamp,
    seam: &Seam,
) -> Result<Job, OAuthError> {
    let id = seam.randomness.id();
    // Sealed for the job: nothing that opens a connection opens this.
    let place = AssociatedData { subject: id, field: "revocation" };
    let sealed =
        ring.seal(Purpose::Vault, &place, job.token.expose().as_bytes(), &seam.randomness)?;
    Ok(revocation::ActiveModel {
        id: Set(id),
        installation_id: Set(job.installation_id),
        service_name: Set(job.service.name),
        token_kind: Set(job.kind.to_owned()),
        sealed_token: Set(sealed),
        due_at: Set(now.micros()),
        give_up_at: Set(now.plus(GIVE_UP_AFTER).micros()),
        attempts: Set(0),
        last_error: Set(None),
        created_at: Set(now.micros()),
        declared_in: Set(job.service.declared_in),
    })
}

/// Whether the token of a job can be unsealed.
pub(crate) fn is_readable(ring: &KeyRing, row: &revocation::Model) -> bool {
    let place = AssociatedData { subject: row.id, field: "revocation" };
    ring.unseal(Purpose::Vault, &place, &row.sealed_token).is_ok()
}

/// How many tokens of an installation wait to be revoked, with the connections whose tokens are yet to
/// be moved, and the codes that are being exchanged: each of them may bring tokens.
pub(super) async fn waiting(work: &UnitOfWork, installation_id: Uuid) -> Result<u64, OAuthError> {
    let tokens = revocation::Entity::find()
        .filter(revocation::Column::InstallationId.eq(installation_id))
        .count(work.connection())
        .await?;
    let codes = token_exchange::Entity::find()
        .filter(token_exchange::Column::InstallationId.eq(installation_id))
        .count(work.connection())
        .await?;
    let ended = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(installation_id))
        .filter(connection::Column::Health.eq(vault::ENDED))
        .count(work.connection())
        .await?;
    Ok(tokens + codes + ended)
}

/// The job that revokes.
#[derive(Debug)]
pub struct Revocations {
    store: Store,
    ring: KeyRing,
    providers: Providers,
    seam: Seam,
    lanes: Lanes,
    poked: Notify,
}

impl Revocations {
    /// Puts the parts together.
    pub fn new(store: Store, ring: KeyRing, providers: Providers, seam: Seam) -> Self {
        let lanes = Lanes::of_width(WIDTH);
        Self { store, ring, providers, seam, lanes, poked: Notify::new() }
    }

    /// Says that there is a new token to revoke.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// Revokes until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        // A provider that hangs holds its own lane and not the loop.
        let mut tries = JoinSet::new();
        loop {
            let backlog = match self.round(&mut tries).await {
                Ok(backlog) => backlog,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot read the tokens to revoke");
                    Backlog::Nothing
                }
            };
            let moved = match vault::move_ended(&self.ring, &self.store, &self.seam).await {
                Ok(moved) => moved,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot move tokens of ended connections");
                    false
                }
            };
            if (moved || backlog == Backlog::More) && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.poked.notified() => {}
                // A place is free.
                Some(ended) = tries.join_next(), if backlog == Backlog::Waits => note(ended),
                () = self.seam.clock.sleep(POLL) => {}
            }
        }
    }

    /// Tries what is due. Returns what there may be beyond it.
    async fn round(
        &self,
        tries: &mut JoinSet<Result<(), OAuthError>>,
    ) -> Result<Backlog, StoreError> {
        use revocation::Column;
        while let Some(ended) = tries.try_join_next() {
            note(ended);
        }
        if tries.len() >= MOST_TRIES {
            return Ok(Backlog::Waits);
        }
        let now = self.seam.clock.now();
        let due = revocation::Entity::find()
            .filter(Column::DueAt.lte(now.micros()))
            .filter(self.lanes.but_full(Column::ServiceName, Column::DeclaredIn))
            .order_by_asc(Column::DueAt)
            .limit(ROUND)
            .all(self.store.reader())
            .await?;
        let is_full = due.len() as u64 == ROUND;
        let mut taken_on = false;
        for row in due {
            let Some(place) = self.lanes.enter(&service_of(&row)) else { continue };
            if self.claim(&row, now).await? {
                taken_on = true;
                let (ring, providers, seam, store) = (
                    self.ring.clone(),
                    self.providers.clone(),
                    self.seam.clone(),
                    self.store.clone(),
                );
                tries.spawn(async move {
                    let _place = place;
                    revoke(&store, &ring, &providers, &seam, row).await
                });
            }
        }
        Ok(if is_full && taken_on {
            Backlog::More
        } else if self.lanes.full().is_empty() {
            Backlog::Nothing
        } else {
            Backlog::Waits
        })
    }

    /// Moves the row out of the others' sight; `false` where another node was first.
    async fn claim(&self, row: &revocation::Model, now: Timestamp) -> Result<bool, StoreError> {
        let work = self.store.begin().await?;
        let claimed = revocation::Entity::update_many()
            .col_expr(revocation::Column::DueAt, Expr::value(now.plus(CLAIM).micros()))
            .filter(revocation::Column::Id.eq(row.id))
            .filter(revocation::Column::DueAt.eq(row.due_at))
            .exec(work.connection())
            .await?;
        let _settled = work.commit(now).await?;
        Ok(claimed.rows_affected == 1)
    }
}

/// What is due beyond what a round took on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backlog {
    /// Nothing that is known of.
    Nothing,
    /// There may be more in lanes that have a place.
    More,
    /// Only where there is no place: a try must end first.
    Waits,
}

fn service_of(row: &revocation::Model) -> Service {
    Service { name: row.service_name.clone(), declared_in: row.declared_in }
}

fn note(ended: Result<Result<(), OAuthError>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %error, "cannot note a revocation"),
        Err(error) => tracing::error!(error = %error, "a revocation panicked"),
    }
}

/// One try at one token, and what is written of it.
async fn revoke(
    store: &Store,
    ring: &KeyRing,
    providers: &Providers,
    seam: &Seam,
    row: revocation::Model,
) -> Result<(), OAuthError> {
    let place = AssociatedData { subject: row.id, field: "revocation" };
    let token = ring.unseal(Purpose::Vault, &place, &row.sealed_token)?;
    let token = SecretText::new(
        std::str::from_utf8(token.expose())
            .map_err(|_| OAuthError::Unreadable { what: "token" })?,
    );
    let service = service_of(&row);
    crash_point("revocation.before-call");
    let outcome = providers.revoke(&service, &token, &row.token_kind).await;
    crash_point("revocation.after-call");
    let now = seam.clock.now();
    let work = store.begin().await?;
    let given_up = now.micros() >= row.give_up_at;
    match outcome {
        Err(error) if !given_up => {
            let attempts = row.attempts + 1;
            let factor = 2_u32.saturating_pow(u32::try_from(attempts - 1).unwrap_or(0).min(16));
            let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
            revocation::Entity::update(revocation::ActiveModel {
                id: Unchanged(row.id),
                due_at: Set(now.plus(pause).micros()),
                attempts: Set(attempts),
                last_error: Set(Some(error.to_string())),
                ..sea_orm::ActiveModelTrait::default()
            })
            .exec(work.connection())
            .await?;
        }
        outcome => {
            if let Err(error) = outcome {
                tracing::error!(installation = %row.installation_id, error = %error, "gave up revoking a token");
            }
            discarding::lock(&work, row.installation_id).await?;
            revocation::Entity::delete_by_id(row.id).exec(work.connection()).await?;
            discarding::settle(&work, row.installation_id, now).await?;
        }
    }
    crash_point("revocation.before-commit");
    let _settled = work.commit(now).await?;
    crash_point("revocation.after-commit");
    Ok(())
}
