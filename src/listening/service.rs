//! Listeners: who may begin one, how long it lives, and what becomes of it.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use uuid::Uuid;

use super::reading::{self, ListenerView, TappedPage};
use crate::delivery::{Dispatcher, Tap, TapOf, Taps};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{listener, tapped_delivery};
use crate::store::{Store, StoreError, UnitOfWork};

/// How long a listener lives without being read.
pub const LIVES_UNREAD: Duration = Duration::from_mins(5);

/// A listener that is read is renewed when it would live for less than this.
const RENEWED_BELOW: Duration = Duration::from_mins(4);

/// How many listeners a token may have.
pub const LISTENERS_PER_TOKEN: u64 = 8;

/// How many listeners there are in all.
const LISTENERS: u64 = 256;

/// How often a reader looks for what other nodes wrote.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListeningError {
    /// The token has as many as it may have.
    #[error("this token has {LISTENERS_PER_TOKEN} listeners already; end one, or wait 5 minutes")]
    TooMany,
    /// There are as many as there may be.
    #[error("too many listeners at the moment; try again later")]
    Full,
    /// There is none with this id for this token, or nobody read it for too long.
    #[error("there is no such listener, or nobody read it for 5 minutes")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for ListeningError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTo {
    /// One webhook.
    Webhook(Uuid),
    /// The webhooks of an installation.
    Installation(Uuid),
    /// The webhooks of an extension, of all orgs or of one.
    Extension {
        /// Its key.
        key: String,
        /// The org, where the token is of one.
        org: Option<String>,
    },
}

/// A listener to begin. Whether its token may see what it listens to is the caller's to ask.
#[derive(Clone, Debug)]
pub struct NewListener {
    /// The token that reads it.
    pub token: Uuid,
    /// To what.
    pub to: ListenTo,
}

/// What a listener's own server answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The number of the copy.
    pub sequence: i64,
    /// The status; none where there was no answer.
    pub status: Option<u16>,
    /// What was seen instead, in words.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Listening on this node. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Listening {
    pub(super) store: Store,
    pub(super) taps: Taps,
    pub(super) seam: Seam,
}

impl Listening {
    /// Listens to what a dispatcher sends.
    pub fn new(store: Store, dispatcher: &Dispatcher, seam: Seam) -> Self {
        Self { store, taps: dispatcher.taps(), seam }
    }

    /// Begins to listen, in the caller's transaction. This node copies when it has [looked](Self::look)
    /// after that, the others within a second.
    pub async fn begin(
        &self,
        work: &UnitOfWork,
        new: &NewListener,
    ) -> Result<ListenerView, ListeningError> {
        let now = self.seam.clock.now();
        let lives =
            || listener::Entity::find().filter(listener::Column::ExpiresAt.gt(now.micros()));
        let own = lives()
            .filter(listener::Column::TokenId.eq(new.token))
            .count(work.connection())
            .await?;
        let all = lives().count(work.connection()).await?;
        if own >= LISTENERS_PER_TOKEN {
            return Err(ListeningError::TooMany);
        }
        if all >= LISTENERS {
            return Err(ListeningError::Full);
        }
        let (webhook_id, installation_id, extension_key, org_id) = match &new.to {
            ListenTo::Webhook(id) => (Some(*id), None, None, None),
            ListenTo::Installation(id) => (None, Some(*id), None, None),
            ListenTo::Extension { key, org } => (None, None, Some(key.clone()), org.clone()),
        };
        let row = listener::Model {
            id: self.seam.randomness.id(),
            token_id: new.token,
            webhook_id,
            installation_id,
            extension_key,
            org_id,
            tapped: 0,
            dropped: 0,
            created_at: now.micros(),
            expires_at: now.plus(LIVES_UNREAD).micros(),
        };
        listener::Entity::insert(listener::ActiveModel {
            id: Set(row.id),
            token_id: Set(row.token_id),
            webhook_id: Set(row.webhook_id),
            installation_id: Set(row.installation_id),
            extension_key: Set(row.extension_key.clone()),
            org_id: Set(row.org_id.clone()),
            tapped: Set(row.tapped),
            dropped: Set(row.dropped),
            created_at: Set(row.created_at),
            expires_at: Set(row.expires_at),
        })
        .exec_without_returning(work.connection())
        .await?;
        Ok(row.into())
    }

    /// Reads who listens, and taps accordingly.
    pub async fn look(&self) -> Result<(), StoreError> {
        let now = self.seam.clock.now();
        let rows = listener::Entity::find()
            .filter(listener::Column::ExpiresAt.gt(now.micros()))
            .all(self.store.reader())
            .await?;
        self.taps.set(rows.into_iter().filter_map(tap).collect());
        Ok(())
    }

    /// The listener of a token.
    pub async fn find(&self, token: Uuid, id: Uuid) -> Result<ListenerView, ListeningError> {
        self.row(token, id).await.map(ListenerView::from)
    }

    async fn row(&self, token: Uuid, id: Uuid) -> Result<listener::Model, ListeningError> {
        listener::Entity::find_by_id(id)
            .filter(listener::Column::TokenId.eq(token))
            .filter(listener::Column::ExpiresAt.gt(self.seam.clock.now().micros()))
            .one(self.store.reader())
            .await?
            .ok_or(ListeningError::Unknown)
    }

    /// What was sent after a copy, as soon as there is something or the wait is over.
    pub async fn read(
        &self,
        token: Uuid,
        id: Uuid,
        after: i64,
        wait: Duration,
    ) -> Result<TappedPage, ListeningError> {
        let row = self.row(token, id).await?;
        self.renew(&row).await?;
        let clock = &self.seam.clock;
        let until = clock.instant() + wait;
        loop {
            let written = self.taps.written();
            let copies = reading::copies(&self.store, id, after).await?;
            let left = until.saturating_duration_since(clock.instant());
            if !copies.is_empty() || left.is_zero() {
                // Counts move with the copies.
                let row = self.row(token, id).await?;
                return Ok(TappedPage::new(row, copies, after));
            }
            tokio::select! {
                () = written => {}
                () = clock.sleep(left.min(LOOK)) => {}
            }
        }
    }

    async fn renew(&self, row: &listener::Model) -> Result<(), ListeningError> {
        let now = self.seam.clock.now();
        if Timestamp::from_micros(row.expires_at).since(now) >= RENEWED_BELOW {
            return Ok(());
        }
        let work = self.store.begin().await?;
        listener::Entity::update_many()
            .col_expr(listener::Column::ExpiresAt, Expr::value(now.plus(LIVES_UNREAD).micros()))
            .filter(listener::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }

    /// Notes what the listener's own server answered to copies, in the caller's transaction. Returns
    /// of how many; those that are gone are passed over.
    pub async fn answered(
        &self,
        work: &UnitOfWork,
        id: Uuid,
        answers: &[Answered],
    ) -> Result<u64, ListeningError> {
        let mut noted = 0;
        for answer in answers {
            let micros = i64::try_from(answer.took.as_micros()).unwrap_or(i64::MAX);
            noted += tapped_delivery::Entity::update_many()
                .col_expr(
                    tapped_delivery::Column::Answered,
                    Expr::value(answer.status.map(i32::from)),
                )
                .col_expr(tapped_delivery::Column::AnswerError, Expr::value(answer.error.clone()))
                .col_expr(tapped_delivery::Column::AnswerMicros, Expr::value(micros))
                .filter(tapped_delivery::Column::ListenerId.eq(id))
                .filter(tapped_delivery::Column::Sequence.eq(answer.sequence))
                .exec(work.connection())
                .await?
                .rows_affected;
        }
        Ok(noted)
    }

    /// Ends a listener, with its copies.
    pub async fn end(&self, token: Uuid, id: Uuid) -> Result<(), ListeningError> {
        self.row(token, id).await?;
        let work = self.store.begin().await?;
        listener::Entity::delete_by_id(id).exec(work.connection()).await?;
        tapped_delivery::Entity::delete_many()
            .filter(tapped_delivery::Column::ListenerId.eq(id))
            .exec(work.connection())
            .await?;
        let _settled = work.commit(self.seam.clock.now()).await?;
        self.look().await?;
        Ok(())
    }
}

fn tap(row: listener::Model) -> Option<Tap> {
    let of = match (row.webhook_id, row.installation_id, row.extension_key) {
        (Some(id), _, _) => TapOf::Webhook(id),
        (None, Some(id), _) => TapOf::Installation(id),
        (None, None, Some(key)) => TapOf::Extension { key, org: row.org_id },
        // A later release knows something else to listen to.
        (None, None, None) => return None,
    };
    Some(Tap { listener: row.id, of })
}
