//! Exchanges of codes, journalled before they are made: a process that dies between the provider's
//! answer and our commit leaves tokens that nobody knows.
//!
//! Whoever comes after presents the code once more. A code that was not redeemed yet gives tokens,
//! which go into the revocation job; of one that was, the provider revokes the tokens (RFC 6749,
//! section 4.1.2).

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement, Value, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::discarding;
use super::error::OAuthError;
use super::lanes::Lanes;
use super::provider::{Providers, Service, Tokens};
use crate::crypto::{AssociatedData, KeyRing, Purpose};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{authorization_request, token_exchange};
use crate::store::{Store, StoreError, UnitOfWork};

/// How often abandoned exchanges are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// After how long an exchange is abandoned whose process may still live: longer than one can take.
const ABANDONED_AFTER: Duration = Duration::from_mins(5);

/// For how long a code is presented again where the provider cannot be reached: none lives longer.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// For how long a try keeps others off the row: longer than a call can take.
const CLAIM: Duration = Duration::from_secs(15);

/// The first pause after a failure; each doubles the former one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How many tries may be under way on a node.
const MOST_TRIES: usize = 128;

/// How many one round takes on.
const ROUND: u64 = 32;

/// What the provider is asked with.
#[derive(Serialize, Deserialize)]
struct Presented {
    code: String,
    verifier: String,
}

fn place(id: Uuid) -> AssociatedData<'static> {
    AssociatedData { subject: id, field: "token-exchange" }
}

/// Uses a state up and journals the exchange of its code, both or neither. Returns the exchange's
/// id; nothing where the state was used before.
pub(super) async fn begin(
    store: &Store,
    ring: &KeyRing,
    installation_id: Uuid,
    service: &Service,
    (state_digest, code, verifier): (&[u8], &str, &str),
    seam: &Seam,
) -> Result<Option<Uuid>, OAuthError> {
    let id = seam.randomness.id();
    let now = seam.clock.now();
    let presented = Presented { code: code.to_owned(), verifier: verifier.to_owned() };
    let text =
        serde_json::to_vec(&presented).map_err(|_| OAuthError::Unreadable { what: "code" })?;
    let sealed = ring.seal(Purpose::Vault, &place(id), &text, &seam.randomness)?;
    if let Some(connection) = store.autocommit() {
        let sql = "with used as (
                update authorization_requests set consumed_at = $1
                where state_digest = $2 and consumed_at is null returning state_digest)
            insert into token_exchanges (id, installation_id, service_name, declared_in, sealed,
                started_at, attempts, next_at)
            select $3, $4, $5, $6, $7, $1, 0, $1 from used";
        let values: [Value; 7] = [
            now.micros().into(),
            state_digest.to_vec().into(),
            id.into(),
            installation_id.into(),
            service.name.clone().into(),
            service.declared_in.into(),
            sealed.into(),
        ];
        let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
        let journalled = connection.execute_raw(statement).await?;
        return Ok((journalled.rows_affected() == 1).then_some(id));
    }
    let work = store.begin().await?;
    let used = authorization_request::Entity::update_many()
        .col_expr(authorization_request::Column::ConsumedAt, Expr::value(now.micros()))
        .filter(authorization_request::Column::StateDigest.eq(state_digest))
        .filter(authorization_request::Column::ConsumedAt.is_null())
        .exec(work.connection())
        .await?;
    if used.rows_affected != 1 {
        return Ok(None);
    }
    token_exchange::Entity::insert(token_exchange::ActiveModel {
        id: Set(id),
        installation_id: Set(installation_id),
        service_name: Set(service.name.clone()),
        declared_in: Set(service.declared_in),
        sealed: Set(sealed),
        started_at: Set(now.micros()),
        attempts: Set(0),
        next_at: Set(now.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    let _settled = work.commit(now).await?;
    Ok(Some(id))
}

/// Ends an exchange, in the transaction that stores or discards its tokens. `false` where that was
/// done before: then the tokens are not the caller's any more.
pub(crate) async fn end(work: &UnitOfWork, id: Uuid) -> Result<bool, StoreError> {
    let ended = token_exchange::Entity::delete_by_id(id).exec(work.connection()).await?;
    Ok(ended.rows_affected == 1)
}

/// Who finishes what a dead process left.
#[derive(Debug)]
struct Finisher {
    store: Store,
    ring: KeyRing,
    providers: Providers,
    seam: Seam,
    /// A server that hangs holds its own codes and nobody else's.
    lanes: Lanes,
}

/// Finishes abandoned exchanges until told to stop.
pub(crate) async fn run(
    store: Store,
    ring: KeyRing,
    providers: Providers,
    seam: Seam,
    stop: CancellationToken,
) {
    let lanes = Lanes::default();
    let finisher = Arc::new(Finisher { store, ring, providers, seam, lanes });
    // What is cut off at the end is found by its row.
    let mut tries = JoinSet::new();
    loop {
        if let Err(error) = finisher.round(&mut tries).await {
            tracing::warn!(%error, "cannot finish exchanges that a dead process left");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = finisher.seam.clock.sleep(LOOK) => {}
        }
    }
}

fn service_of(row: &token_exchange::Model) -> Service {
    Service { name: row.service_name.clone(), declared_in: row.declared_in }
}

fn note(ended: Result<Result<(), OAuthError>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "an exchange that a dead process left stays"),
        Err(error) => tracing::error!(%error, "finishing an exchange panicked"),
    }
}

impl Finisher {
    /// Takes on those whose process is dead: every live node started after them. Each compares with
    /// its own clock, since a node began before whatever it exchanges.
    async fn round(
        self: &Arc<Self>,
        tries: &mut JoinSet<Result<(), OAuthError>>,
    ) -> Result<(), StoreError> {
        use token_exchange::Column;
        while let Some(ended) = tries.try_join_next() {
            note(ended);
        }
        let now = self.seam.clock.now();
        let is_abandoned = Condition::any()
            .add(Column::StartedAt.lt(now.minus(ABANDONED_AFTER).micros()))
            .add(Expr::cust("started_at < (select min(started_at) from nodes)"));
        let rows = token_exchange::Entity::find()
            .filter(Column::NextAt.lte(now.micros()))
            .filter(is_abandoned)
            .filter(self.lanes.but_full(Column::ServiceName, Column::DeclaredIn))
            .order_by_asc(Column::NextAt)
            .limit(ROUND)
            .all(self.store.reader())
            .await?;
        for row in rows {
            if tries.len() >= MOST_TRIES {
                return Ok(());
            }
            let Some(place) = self.lanes.enter(&service_of(&row)) else { continue };
            if self.claim(&row, now).await? {
                let finisher = Arc::clone(self);
                tries.spawn(async move {
                    let _place = place;
                    finisher.finish(row).await
                });
            }
        }
        Ok(())
    }

    /// Moves the row out of the others' sight; `false` where another node was first.
    async fn claim(&self, row: &token_exchange::Model, now: Timestamp) -> Result<bool, StoreError> {
        use token_exchange::Column;
        let work = self.store.begin().await?;
        let claimed = token_exchange::Entity::update_many()
            .col_expr(Column::NextAt, Expr::value(now.plus(CLAIM).micros()))
            .filter(Column::Id.eq(row.id))
            .filter(Column::NextAt.eq(row.next_at))
            .exec(work.connection())
            .await?;
        let _settled = work.commit(now).await?;
        Ok(claimed.rows_affected == 1)
    }

    /// Presents a code once more. What comes of it is revoked.
    async fn finish(&self, row: token_exchange::Model) -> Result<(), OAuthError> {
        let (id, service) = (row.installation_id, service_of(&row));
        let presented = self
            .ring
            .unseal(Purpose::Vault, &place(row.id), &row.sealed)
            .ok()
            .and_then(|text| serde_json::from_slice::<Presented>(text.expose()).ok());
        let answered = if let Some(Presented { code, verifier }) = &presented {
            self.providers.exchange(&service, code, verifier).await.map(Some)
        } else {
            tracing::error!(installation = %id, "an exchange cannot be read; dropped");
            Ok(None)
        };
        let now = self.seam.clock.now();
        let is_over = now.since(Timestamp::from_micros(row.started_at)) >= GIVE_UP_AFTER;
        if let Err(error) = &answered
            && !matches!(error, OAuthError::CodeRefused { .. })
            && !is_over
        {
            tracing::warn!(installation = %id, %error, "a code is presented again later");
            let doubled = u32::try_from(row.attempts).unwrap_or(0).min(16);
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doubled));
            let next = now.plus(pause.min(LONGEST_PAUSE));
            let work = self.store.begin().await?;
            token_exchange::Entity::update_many()
                .col_expr(token_exchange::Column::NextAt, Expr::value(next.micros()))
                .col_expr(token_exchange::Column::Attempts, Expr::value(row.attempts + 1))
                .filter(token_exchange::Column::Id.eq(row.id))
                .exec(work.connection())
                .await?;
            let _settled = work.commit(now).await?;
            return Ok(());
        }
        let work = self.store.begin().await?;
        discarding::lock(&work, id).await?;
        end(&work, row.id).await?;
        let tokens = answered.ok().flatten();
        // Without tokens this only says whether the installation's clean-up is done.
        let all = tokens.as_ref().map(Tokens::all).unwrap_or_default();
        discarding::discard(&self.ring, &work, id, &service, &all, now, &self.seam).await?;
        let _settled = work.commit(now).await?;
        tracing::info!(
            installation = %id,
            "finished an exchange that a dead process left: its tokens are revoked"
        );
        Ok(())
    }
}
