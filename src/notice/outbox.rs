//! Sending notices to the operator's receiver: durable, signed, tried again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::board::Board;
use crate::crypto::Signer;
use crate::egress::{Egress, OutgoingRequest};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::notice_outbox;
use crate::store::{Store, StoreError};
use crate::telemetry::METRICS;

/// How often the outbox is looked at where nothing pokes.
const POLL: Duration = Duration::from_secs(1);

/// Time for one call of the receiver.
const DEADLINE: Duration = Duration::from_secs(10);

/// For how long a notice is out of the others' sight while it is sent.
const CLAIM: Duration = Duration::from_secs(20);

/// The pauses after the first, second … failed try; the last one stays.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
];

/// After this time a notice is not sent any more; it stays in the list.
const GIVE_UP_AFTER: Duration = Duration::from_hours(72);

/// How many notices are sent at a time.
const ROUND: u64 = 10;

/// How much of an answer is read; only its status counts.
const RESPONSE_LIMIT: usize = 1_024;

/// Where notices go.
#[derive(Clone, Debug)]
pub struct OutboxOptions {
    /// `notices.url`: the operator's own, called whatever its address and scheme.
    pub url: Url,
    /// Signs with `notices.signing_secret`.
    pub signer: Arc<Signer>,
}

/// Sends what [`Board::post`] left.
#[derive(Debug)]
pub struct Outbox {
    store: Store,
    egress: Egress,
    seam: Seam,
    board: Board,
    options: OutboxOptions,
}

impl Outbox {
    /// Puts the parts together.
    pub fn new(
        store: Store,
        egress: Egress,
        seam: Seam,
        board: Board,
        options: OutboxOptions,
    ) -> Self {
        Self { store, egress, seam, board, options }
    }

    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let more = match self.round(&stop).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the notices to send");
                    false
                }
            };
            if more && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.board.poked.notified() => {}
                () = self.seam.clock.sleep(POLL) => {}
            }
        }
    }

    /// Sends what is due. Returns whether there may be more.
    async fn round(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let now = self.seam.clock.now();
        let due = notice_outbox::Entity::find()
            .filter(notice_outbox::Column::DueAt.lte(now.micros()))
            .order_by_asc(notice_outbox::Column::DueAt)
            .limit(ROUND)
            .all(self.store.reader())
            .await?;
        let is_full = due.len() as u64 == ROUND;
        for row in due {
            if stop.is_cancelled() {
                break;
            }
            if self.claim(&row).await? {
                self.send(row).await?;
            }
        }
        Ok(is_full)
    }

    /// Moves the row out of the others' sight; `false` where another node was first.
    async fn claim(&self, row: &notice_outbox::Model) -> Result<bool, StoreError> {
        let now = self.seam.clock.now();
        let work = self.store.begin().await?;
        let claimed = notice_outbox::Entity::update_many()
            .col_expr(notice_outbox::Column::DueAt, Expr::value(now.plus(CLAIM).micros()))
            .filter(notice_outbox::Column::Id.eq(row.id))
            .filter(notice_outbox::Column::DueAt.eq(row.due_at))
            .exec(work.connection())
            .await?;
        let _settled = work.commit(now).await?;
        Ok(claimed.rows_affected == 1)
    }

    async fn send(&self, row: notice_outbox::Model) -> Result<(), StoreError> {
        let failure = self.attempt(&row).await.err();
        let counter =
            if failure.is_some() { &METRICS.notices_failed } else { &METRICS.notices_sent };
        counter.add(1);
        let now = self.seam.clock.now();
        let age = now.since(Timestamp::from_micros(row.created_at));
        let work = self.store.begin().await?;
        match failure {
            Some(failure) if age < GIVE_UP_AFTER => {
                tracing::warn!(notice = %row.id, %failure, "a notice could not be sent; tried again");
                let tried = usize::try_from(row.attempts).unwrap_or(0);
                let pause = PAUSES.get(tried).or(PAUSES.last()).copied().unwrap_or(DEADLINE);
                notice_outbox::Entity::update_many()
                    .col_expr(notice_outbox::Column::DueAt, Expr::value(now.plus(pause).micros()))
                    .col_expr(
                        notice_outbox::Column::Attempts,
                        Expr::col(notice_outbox::Column::Attempts).add(1),
                    )
                    .filter(notice_outbox::Column::Id.eq(row.id))
                    .exec(work.connection())
                    .await?;
            }
            failure => {
                if let Some(failure) = failure {
                    tracing::error!(
                        notice = %row.id, %failure,
                        "a notice was not sent for three days; it stays in the list only"
                    );
                }
                notice_outbox::Entity::delete_by_id(row.id).exec(work.connection()).await?;
            }
        }
        let _settled = work.commit(now).await?;
        Ok(())
    }

    /// One try. What is wrong comes back in words.
    async fn attempt(&self, row: &notice_outbox::Model) -> Result<(), String> {
        let id = row.id.to_string();
        let timestamp = self.seam.clock.now().seconds();
        let body = Bytes::from(row.body.clone().into_bytes());
        let signature = self.options.signer.sign(&id, timestamp, &[&body]);
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ] {
            let value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let url = self.egress.trusted(&self.options.url).map_err(|error| error.to_string())?;
        let request = OutgoingRequest {
            method: Method::POST,
            url,
            headers,
            body,
            deadline: DEADLINE,
            response_limit: RESPONSE_LIMIT,
            gate: None,
        };
        match self.egress.send(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("the receiver answered {}", answer.status.as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }
}
