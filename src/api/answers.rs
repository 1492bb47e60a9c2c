//! Answers kept for repeated requests.
//!
//! The same idempotency key, or the same `webhook-id`, gives the same answer again for 24 hours and
//! has no second effect. The answer is written in the effect's own transaction: there is no moment
//! at which the one is there without the other. It is sealed, for it may hold a secret that is told
//! only once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use uuid::Uuid;

use super::extract::{json_bytes, sha256};
use super::problem::{Code, Problem};
use crate::crypto::{AssociatedData, KeyRing, Purpose, constant_time_equal};
use crate::identifier::TokenId;
use crate::seam::{Seam, Timestamp};
use crate::store::entity::kept_answer;
use crate::store::{Store, StoreError, UnitOfWork};

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_hours(24);

/// How long a caller is told to wait while the same request is under way.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// How many old answers one statement removes.
const PRUNE_STEP: u64 = 1_000;

/// Says that an answer is a former one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What makes two requests the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerScope {
    /// An `Idempotency-Key`, of one token, method and path.
    Idempotency {
        /// Who asks.
        token: TokenId,
        /// The method.
        method: Method,
        /// The path, without its query.
        path: String,
        /// The key.
        key: String,
    },
    /// A `webhook-id` of the marketplace, over all callback paths.
    WebhookId {
        /// The id.
        id: String,
    },
}

impl AnswerScope {
    fn digest(&self) -> [u8; 32] {
        let mut text = Vec::with_capacity(256);
        let mut part = |bytes: &[u8]| {
            text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            text.extend_from_slice(bytes);
        };
        match self {
            Self::Idempotency { token, method, path, key } => {
                part(b"idempotency");
                part(token.0.as_bytes());
                part(method.as_str().as_bytes());
                part(path.as_bytes());
                part(key.as_bytes());
            }
            Self::WebhookId { id } => {
                part(b"webhook-id");
                part(id.as_bytes());
            }
        }
        sha256(&text)
    }
}

/// Where an answer is kept, and what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerKey {
    scope: [u8; 32],
    fingerprint: [u8; 32],
    is_signed: bool,
}

impl AnswerKey {
    /// The key of a request: its scope, and the digest of its path and body.
    pub fn new(scope: &AnswerScope, fingerprint: [u8; 32]) -> Self {
        let is_signed = matches!(scope, AnswerScope::WebhookId { .. });
        Self { scope: scope.digest(), fingerprint, is_signed }
    }

    /// Where the sealed answer belongs. The row has no id of its own: the digest stands for one.
    fn place(&self) -> AssociatedData<'static> {
        let mut subject = [0; 16];
        subject.copy_from_slice(&self.scope[..16]);
        AssociatedData { subject: Uuid::from_bytes(subject), field: "answer" }
    }

    /// The refusal where the same key came with another request.
    fn reused(&self) -> Problem {
        if self.is_signed {
            Problem::new(Code::SignatureInvalid)
                .detail("This `webhook-id` was used within 24 hours for another request.")
        } else {
            Problem::new(Code::IdempotencyKeyReused)
        }
    }
}

/// An answer as it was given the first time.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its JSON body; empty where it had none.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for StoredAnswer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The body may hold a secret.
        formatter.debug_struct("StoredAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl IntoResponse for StoredAnswer {
    fn into_response(self) -> Response {
        let mut response = if self.body.is_empty() {
            self.status.into_response()
        } else {
            json_bytes(self.status, self.body)
        };
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// What a request finds when it begins.
#[derive(Debug)]
pub enum Begun {
    /// It was answered before.
    Replay(StoredAnswer),
    /// It is new; its answer is to be kept with the guard.
    Fresh(AnswerGuard),
}

/// The kept answers. Cloning shares them.
#[derive(Clone)]
pub struct Answers {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    ring: KeyRing,
    seam: Seam,
    /// The scopes of requests under way on this node; as many as there are requests.
    under_way: Mutex<HashSet<[u8; 32]>>,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Answers {
    /// The answers in a database, sealed with a ring.
    pub fn new(store: Store, ring: KeyRing, seam: Seam) -> Self {
        Self { inner: Arc::new(Inner { store, ring, seam, under_way: Mutex::default() }) }
    }

    /// Begins a request. Without a key it is always a new one.
    ///
    /// # Errors
    /// 409 `REQUEST_IN_PROGRESS` while the same request is under way on this node; where the key was
    /// used for another request 409 `IDEMPOTENCY_KEY_REUSED`, or 401 for a `webhook-id`, which the
    /// caller writes into the audit.
    pub async fn begin(&self, key: Option<AnswerKey>) -> Result<Begun, Problem> {
        let Some(key) = key else { return Ok(Begun::Fresh(AnswerGuard { claim: None })) };
        if !self.under_way(|scopes| scopes.insert(key.scope)) {
            return Err(Problem::new(Code::RequestInProgress).retry_after(BUSY_PAUSE));
        }
        // From here on the guard takes the scope out again, whatever happens.
        let guard = AnswerGuard { claim: Some(Claim { answers: self.clone(), key }) };
        match self.find(&key).await? {
            Some(answer) => Ok(Begun::Replay(answer)),
            None => Ok(Begun::Fresh(guard)),
        }
    }

    /// The answer that another node kept at the same moment, where that is why a transaction met a
    /// conflict. To be asked after the own transaction is gone.
    pub async fn after_conflict(
        &self,
        key: Option<&AnswerKey>,
    ) -> Result<Option<StoredAnswer>, Problem> {
        match key {
            Some(key) => self.find(key).await,
            None => Ok(None),
        }
    }

    /// Removes answers that are older than a day. Returns how many.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let old: Vec<Vec<u8>> = kept_answer::Entity::find()
                .select_only()
                .column(kept_answer::Column::Scope)
                .filter(kept_answer::Column::CreatedAt.lte(now.minus(KEPT).micros()))
                .order_by_asc(kept_answer::Column::CreatedAt)
                .limit(PRUNE_STEP)
                .into_tuple()
                .all(self.inner.store.reader())
                .await?;
            if old.is_empty() {
                return Ok(removed);
            }
            let work = self.inner.store.begin().await?;
            let done = kept_answer::Entity::delete_many()
                .filter(
                    Condition::all()
                        .add(kept_answer::Column::Scope.is_in(old))
                        .add(kept_answer::Column::CreatedAt.lte(now.minus(KEPT).micros())),
                )
                .exec(work.connection())
                .await?;
            let _no_routing = work.commit(now).await?;
            removed += done.rows_affected;
        }
    }

    async fn find(&self, key: &AnswerKey) -> Result<Option<StoredAnswer>, Problem> {
        let row = kept_answer::Entity::find_by_id(key.scope.to_vec())
            .one(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?;
        let horizon = self.inner.seam.clock.now().minus(KEPT).micros();
        let Some(row) = row.filter(|row| row.created_at > horizon) else { return Ok(None) };
        if !constant_time_equal(&row.fingerprint, &key.fingerprint) {
            return Err(key.reused());
        }
        let corrupt = || Problem::internal(&StoreError::Corrupt { what: "answer" });
        let status = u16::try_from(row.status).map_err(|_| corrupt())?;
        let status = StatusCode::from_u16(status).map_err(|_| corrupt())?;
        let body = self.inner.ring.unseal(Purpose::Answers, &key.place(), &row.sealed)?;
        Ok(Some(StoredAnswer { status, body: body.expose().to_vec() }))
    }

    fn under_way<T>(&self, with: impl FnOnce(&mut HashSet<[u8; 32]>) -> T) -> T {
        with(&mut self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The right to answer a request for the first time; ends when dropped.
#[derive(Debug)]
#[must_use = "the answer is kept with it"]
pub struct AnswerGuard {
    claim: Option<Claim>,
}

#[derive(Debug)]
struct Claim {
    answers: Answers,
    key: AnswerKey,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.answers.under_way(|scopes| scopes.remove(&self.key.scope));
    }
}

impl AnswerGuard {
    /// The key, for [`Answers::after_conflict`].
    pub fn key(&self) -> Option<&AnswerKey> {
        self.claim.as_ref().map(|claim| &claim.key)
    }

    /// Keeps the answer, in the transaction of its effect. Nothing where there is no key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another node answered the same request at the same moment:
    /// drop the transaction and replay what [`Answers::after_conflict`] finds.
    pub async fn keep(
        &self,
        work: &UnitOfWork,
        status: StatusCode,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        use kept_answer::Column;

        let Some(Claim { answers, key }) = &self.claim else { return Ok(()) };
        let inner = &answers.inner;
        let sealed = inner
            .ring
            .seal(Purpose::Answers, &key.place(), body, &inner.seam.randomness)
            .map_err(|error| {
                tracing::error!(%error, "an answer could not be sealed");
                StoreError::Corrupt { what: "key for answers" }
            })?;
        // One that is there still but no longer counts makes room.
        let kept = kept_answer::Entity::insert(kept_answer::ActiveModel {
            scope: Set(key.scope.to_vec()),
            fingerprint: Set(key.fingerprint.to_vec()),
            status: Set(status.as_u16().into()),
            sealed: Set(sealed),
            created_at: Set(now.micros()),
        })
        .on_conflict(
            OnConflict::column(Column::Scope)
                .update_columns([
                    Column::Fingerprint,
                    Column::Status,
                    Column::Sealed,
                    Column::CreatedAt,
                ])
                .action_and_where(
                    Expr::col((kept_answer::Entity, Column::CreatedAt))
                        .lte(now.minus(KEPT).micros()),
                )
                .to_owned(),
        )
        .exec_without_returning(work.connection())
        .await;
        match kept {
            Ok(1..) => Ok(()),
            Ok(0) | Err(sea_orm::DbErr::RecordNotInserted) => Err(StoreError::Conflict),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::TestApi;

    fn key(name: &str, body: &[u8]) -> AnswerKey {
        let scope = AnswerScope::Idempotency {
            token: TokenId(Uuid::from_u128(1)),
            method: Method::POST,
            path: "/api/v1/x".to_owned(),
            key: name.to_owned(),
        };
        AnswerKey::new(&scope, sha256(body))
    }

    async fn fresh(answers: &Answers, key: AnswerKey) -> AnswerGuard {
        match answers.begin(Some(key)).await.unwrap() {
            Begun::Fresh(guard) => guard,
            Begun::Replay(answer) => panic!("{answer:?}"),
        }
    }

    async fn keep(api: &TestApi, guard: &AnswerGuard, body: &[u8]) -> Result<(), StoreError> {
        let now = api.state.seam().clock.now();
        let work = api.state.store().begin().await?;
        guard.keep(&work, StatusCode::CREATED, body, now).await?;
        let _no_routing = work.commit(now).await?;
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_comes_back_for_a_day() {
        let api = TestApi::start().await;
        let answers = api.state.answers();
        let guard = fresh(answers, key("a", b"1")).await;
        let busy = answers.begin(Some(key("a", b"1"))).await.unwrap_err();
        assert_eq!(busy.code(), Code::RequestInProgress);
        keep(&api, &guard, b"{\"secret\":1}").await.unwrap();
        drop(guard);
        let Begun::Replay(answer) = answers.begin(Some(key("a", b"1"))).await.unwrap() else {
            panic!("the answer was kept")
        };
        assert_eq!((answer.status, answer.body), (StatusCode::CREATED, b"{\"secret\":1}".to_vec()));
        let reused = answers.begin(Some(key("a", b"2"))).await.unwrap_err();
        assert_eq!(reused.code(), Code::IdempotencyKeyReused);
        drop(fresh(answers, key("b", b"1")).await);

        api.state.seam().clock.advance(KEPT + Duration::from_secs(1));
        let guard = fresh(answers, key("a", b"2")).await;
        keep(&api, &guard, b"{}").await.unwrap();
        assert_eq!(answers.prune(api.state.seam().clock.now()).await.unwrap(), 0);
        api.state.seam().clock.advance(KEPT + Duration::from_secs(1));
        assert_eq!(answers.prune(api.state.seam().clock.now()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn of_two_nodes_one_keeps_and_the_other_replays() {
        let api = TestApi::start().await;
        let (here, there) = (api.state.answers().clone(), api.another_node());
        let mine = fresh(&here, key("a", b"1")).await;
        let theirs = fresh(&there, key("a", b"1")).await;
        keep(&api, &theirs, b"{\"by\":\"there\"}").await.unwrap();
        let error = keep(&api, &mine, b"{\"by\":\"here\"}").await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict), "{error}");
        let answer = here.after_conflict(mine.key()).await.unwrap().unwrap();
        assert_eq!(answer.body, b"{\"by\":\"there\"}");
    }

    #[tokio::test]
    async fn an_answer_without_its_effect_is_not_kept() {
        let api = TestApi::start().await;
        let answers = api.state.answers();
        let guard = fresh(answers, key("a", b"1")).await;
        let now = api.state.seam().clock.now();
        let work = api.state.store().begin().await.unwrap();
        guard.keep(&work, StatusCode::OK, b"{}", now).await.unwrap();
        work.rollback().await.unwrap();
        drop(guard);
        drop(fresh(answers, key("a", b"1")).await);
    }

    #[tokio::test]
    async fn a_webhook_id_is_one_over_all_paths() {
        let api = TestApi::start().await;
        let answers = api.state.answers();
        let scope = AnswerScope::WebhookId { id: "msg_1".to_owned() };
        let guard = fresh(answers, AnswerKey::new(&scope, sha256(b"1"))).await;
        keep(&api, &guard, b"{}").await.unwrap();
        drop(guard);
        let problem = answers.begin(Some(AnswerKey::new(&scope, sha256(b"2")))).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn scopes_do_not_run_into_each_other() {
        let scope = |path: &str, key: &str| AnswerScope::Idempotency {
            token: TokenId(Uuid::nil()),
            method: Method::POST,
            path: path.to_owned(),
            key: key.to_owned(),
        };
        assert_ne!(scope("/ab", "c").digest(), scope("/a", "bc").digest());
        assert_ne!(
            scope("/a", "b").digest(),
            AnswerScope::WebhookId { id: "b".to_owned() }.digest()
        );
    }
}
