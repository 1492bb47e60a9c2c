//! Credentials that end soon: those who hold them are told in time to make others.
//!
//! Told of once for each credential, on whatever node looks first; over when it has ended or was
//! revoked.

use std::time::Duration;

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::board::{Board, Notice, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{api_token, notice};
use crate::store::{Store, StoreError};

/// How long before its end a credential is told of.
pub const TOLD_BEFORE: Duration = Duration::from_hours(7 * 24);

/// How often it is looked for such, and how soon after the start.
const LOOK: Duration = Duration::from_hours(1);
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How many are read at a time.
const ROUND: u64 = 500;

/// What the notices of API tokens are filed under.
const SUBJECT: &str = "token:";

/// Looks for API tokens that end soon, until told to stop.
pub async fn run(store: Store, board: Board, seam: Seam, stop: CancellationToken) {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = seam.clock.sleep(pause) => {}
        }
        pause = LOOK;
        if let Err(error) = look(&store, &board, &seam).await {
            tracing::warn!(%error, "cannot look for tokens that end soon; tried again in an hour");
        }
    }
}

async fn look(store: &Store, board: &Board, seam: &Seam) -> Result<(), StoreError> {
    let now = seam.clock.now();
    let mut after = (now.micros(), Uuid::max());
    loop {
        let beyond = Condition::any().add(api_token::Column::ExpiresAt.gt(after.0)).add(
            Condition::all()
                .add(api_token::Column::ExpiresAt.eq(after.0))
                .add(api_token::Column::Id.gt(after.1)),
        );
        let ending = api_token::Entity::find()
            .filter(beyond)
            .filter(api_token::Column::ExpiresAt.lte(now.plus(TOLD_BEFORE).micros()))
            .filter(api_token::Column::RevokedAt.is_null())
            .order_by_asc(api_token::Column::ExpiresAt)
            .order_by_asc(api_token::Column::Id)
            .limit(ROUND)
            .all(store.reader())
            .await?;
        let Some(last) = ending.last() else { break };
        after = (last.expires_at.unwrap_or_default(), last.id);
        for token in ending.iter().filter(|token| is_worth_telling(token)) {
            tell(store, board, token.id, now).await?;
        }
    }
    settle(store, board, now).await
}

/// Who makes a token for a few days knows that it ends soon.
fn is_worth_telling(token: &api_token::Model) -> bool {
    let ends = Timestamp::from_micros(token.expires_at.unwrap_or_default());
    ends.since(Timestamp::from_micros(token.created_at)) > TOLD_BEFORE
}

/// Tells of a token unless somebody did.
async fn tell(store: &Store, board: &Board, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let subject = format!("{SUBJECT}{id}");
    let told = || {
        notice::Entity::find()
            .filter(notice::Column::Kind.eq(NoticeKind::CredentialExpiring.name()))
            .filter(notice::Column::Subject.eq(&subject))
    };
    if told().one(store.reader()).await?.is_some() {
        return Ok(());
    }
    let work = store.begin().await?;
    // Two nodes may look at the same time: under the token's lock one of them sees the other's.
    let token = api_token::Entity::find_by_id(id).lock_exclusive().one(work.connection()).await?;
    let is_told = told().one(work.connection()).await?.is_some();
    let Some(token) = token.filter(|token| !is_told && token.revoked_at.is_none()) else {
        return work.rollback().await;
    };
    let until = Timestamp::from_micros(token.expires_at.unwrap_or_default());
    let name = token.name.as_deref().map_or_else(String::new, |name| format!(" “{name}”"));
    let whose = match (&token.org_id, &token.vendor) {
        (Some(org), _) => format!(" of org {org}"),
        (None, Some(vendor)) => format!(" of the vendor {vendor}"),
        (None, None) => String::new(),
    };
    let notice = Notice {
        kind: NoticeKind::CredentialExpiring,
        subject,
        org_id: token.org_id.clone().unwrap_or_default(),
        extension_key: None,
        installation_id: None,
        webhook_id: None,
        message: format!(
            "The API token{name} with the role {}{whose} ends at {}. Whoever calls with it gets 401 \
             then: make another one, put it in its place, and revoke this one.",
            token.role,
            until.rfc3339()
        ),
    };
    board.post(&work, &notice).await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

/// Says of tokens that ended or were revoked that it is over.
async fn settle(store: &Store, board: &Board, now: Timestamp) -> Result<(), StoreError> {
    let open = notice::Entity::find()
        .filter(notice::Column::Kind.eq(NoticeKind::CredentialExpiring.name()))
        .filter(notice::Column::Subject.starts_with(SUBJECT))
        .filter(notice::Column::ResolvedAt.is_null())
        .order_by_asc(notice::Column::LastAt)
        .limit(ROUND)
        .all(store.reader())
        .await?;
    for row in open {
        let id = row.subject.strip_prefix(SUBJECT).and_then(|id| id.parse::<Uuid>().ok());
        let token = match id {
            Some(id) => api_token::Entity::find_by_id(id).one(store.reader()).await?,
            None => None,
        };
        let lives = token.is_some_and(|token| {
            token.revoked_at.is_none() && token.expires_at.is_none_or(|until| until > now.micros())
        });
        if !lives {
            let work = store.begin().await?;
            board.resolve(&work, &[NoticeKind::CredentialExpiring], &row.subject).await?;
            let _settled = work.commit(now).await?;
        }
    }
    Ok(())
}
