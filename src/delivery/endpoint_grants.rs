//! Access tokens that somebody granted: refreshed when they end or are refused, by one node at a time,
//! since a refresh token may be good for one use. What the authorisation server takes back is told of.

use std::time::Duration;

use sea_orm::EntityTrait as _;
use uuid::Uuid;

use super::endpoint_tokens::NoToken;
use crate::crypto::{Keys, SecretText};
use crate::egress::Egress;
use crate::notice::{Board, Notice, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::webhook;
use crate::store::{Store, StoreError};
use crate::webhook::own::{EndpointAuthentication, broken_message, grants};

/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);

/// A token that was refused is not refreshed within this time of its coming.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// How long a node waits for another one that refreshes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the node that refreshes is done.
const LOOK: Duration = Duration::from_millis(100);

/// What refreshing needs, by itself: a request that is given up must not take a refresh with it, whose
/// new token nobody would know.
#[derive(Clone, Debug)]
pub(super) struct Granting {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) seam: Seam,
    pub(super) egress: Egress,
    pub(super) board: Board,
    pub(super) authentication: EndpointAuthentication,
}

/// A token as it is used.
#[derive(Clone, Debug)]
pub(super) struct Usable {
    pub(super) token: SecretText,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) since: Timestamp,
}

/// The token of a webhook that somebody authorised. `refused` is the one that the endpoint answered
/// 401 to.
pub(super) async fn token(
    id: Uuid,
    with: Granting,
    refused: Option<SecretText>,
) -> Result<Usable, NoToken> {
    let with = &with;
    let ring = &with.keys.ring;
    let end = with.seam.clock.instant() + PATIENCE;
    let unreadable = |error: &StoreError| {
        tracing::warn!(webhook = %id, %error, "cannot read what was granted");
        NoToken::because("what was granted cannot be read now")
    };
    loop {
        let now = with.seam.clock.now();
        let grant = grants::read(&with.store, ring, id).await.map_err(|e| unreadable(&e))?;
        let Some(grant) = grant else {
            return Err(NoToken::because("nobody has authorised the webhook at its endpoint yet"));
        };
        if grant.settings_digest != grants::grant_digest(&with.authentication.how) {
            let why = "its authorisation was for other settings: authorise it again";
            return Err(NoToken::because(why));
        }
        if let Some(reason) = &grant.broken_reason {
            return Err(NoToken::because(&format!("its authorisation is over: {reason}")));
        }
        let ends = grant.granted.expires_at.is_some_and(|end| end <= now.plus(MARGIN));
        let is_refused = refused.as_ref() == Some(&grant.granted.access)
            && now.since(grant.refreshed_at) >= REFUSED_PAUSE;
        if !ends && !is_refused {
            return Ok(Usable {
                token: grant.granted.access,
                expires_at: grant.granted.expires_at,
                since: grant.refreshed_at,
            });
        }
        let Some(former) = &grant.granted.refresh else {
            let reason = "the access token ended, and the server gave no refresh token";
            return Err(broken(id, &grant, reason, with).await);
        };
        if !grants::claim(&with.store, id, &grant, now).await.map_err(|e| unreadable(&e))? {
            // Another node refreshes, or has just done so.
            if with.seam.clock.instant() >= end {
                return Err(NoToken::because("another node has been refreshing it for too long"));
            }
            with.seam.clock.sleep(LOOK).await;
            continue;
        }
        let brought = grants::refresh(&with.authentication, former, &with.egress, now).await;
        match brought {
            Ok(granted) => {
                let written = keep(id, &grant, Some(&granted), with).await;
                written.map_err(|error| unreadable(&error))?;
            }
            Err(grants::NoGrant::Refused) => {
                let reason = "the authorisation server took it back or let it end";
                return Err(broken(id, &grant, reason, with).await);
            }
            Err(passing @ grants::NoGrant::Passing(_)) => {
                if let Err(error) = keep(id, &grant, None, with).await {
                    tracing::warn!(webhook = %id, %error, "the right to refresh ends by itself");
                }
                return Err(NoToken::because(&passing.to_string()));
            }
        }
    }
}

async fn keep(
    id: Uuid,
    seen: &grants::Grant,
    brought: Option<&grants::Granted>,
    with: &Granting,
) -> Result<(), StoreError> {
    let now = with.seam.clock.now();
    let randomness = &with.seam.randomness;
    grants::refreshed(&with.store, &with.keys.ring, id, seen, brought, now, randomness).await
}

/// Marks a grant as broken, and tells the administrator, once.
async fn broken(id: Uuid, seen: &grants::Grant, reason: &str, with: &Granting) -> NoToken {
    if let Err(error) = tell(id, seen, reason, with).await {
        tracing::warn!(webhook = %id, %error, "cannot note that an authorisation is over");
    }
    NoToken::because(&format!("its authorisation is over: {reason}"))
}

async fn tell(
    id: Uuid,
    seen: &grants::Grant,
    reason: &str,
    with: &Granting,
) -> Result<(), StoreError> {
    let work = with.store.begin().await?;
    let row = webhook::Entity::find_by_id(id).one(work.connection()).await?;
    let is_news = grants::break_off(work.connection(), id, seen, reason).await?;
    let (true, Some(row)) = (is_news, row) else { return work.rollback().await };
    let notice = Notice {
        kind: NoticeKind::ConnectionBroken,
        subject: format!("webhook:{id}"),
        org_id: row.org_id.clone(),
        extension_key: None,
        installation_id: None,
        webhook_id: Some(id),
        message: broken_message(&row, reason),
    };
    with.board.post(&work, &notice).await?;
    let _settled = work.commit(with.seam.clock.now()).await?;
    Ok(())
}
