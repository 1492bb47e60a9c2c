//! Access tokens for endpoints (OAuth 2.0 client credentials): fetched when one is needed, kept
//! sealed, fetched anew before they end or when an endpoint refuses one.
//!
//! However many deliveries need one at once, it is asked for once: by this node, or by another one whose
//! token this one takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, Scope, TokenResponse, TokenUrl};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect};
use uuid::Uuid;

use super::endpoint_grants::{self, Granting, Usable};
use super::token_claims;
use crate::crypto::{AssociatedData, Keys, Purpose, SecretText};
use crate::egress::{Egress, OauthHttpClient, OauthHttpError};
use crate::notice::Board;
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{own_webhook, own_webhook_token};
use crate::store::{Store, StoreError};
use crate::webhook::own::{
    Authentication, ClientAuthentication, EndpointAuthentication, OwnFace, TOKEN_FIELD,
};

/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);

/// A token that was refused is not fetched anew within this time of its fetching: an endpoint that
/// always refuses would make a storm.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// How long a node waits for another one that fetches.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether that one is done.
const LOOK: Duration = Duration::from_millis(50);

/// How many webhooks are remembered in memory; what is forgotten is in the table.
const REMEMBERED: usize = 10_000;

/// A token with what it was fetched for.
#[derive(Clone, Debug)]
struct Fetched {
    settings_digest: String,
    token: SecretText,
    expires_at: Option<Timestamp>,
    since: Timestamp,
}

/// What a token must be to be used.
#[derive(Clone, Debug)]
struct Wanted {
    settings_digest: String,
    /// The one that the endpoint answered 401 to.
    refused: Option<SecretText>,
}

impl Wanted {
    fn is_met_by(&self, fetched: &Fetched, now: Timestamp) -> bool {
        let ends = fetched.expires_at.is_some_and(|end| end <= now.plus(MARGIN));
        let is_refused = self.refused.as_ref() == Some(&fetched.token)
            && now.since(fetched.since) >= REFUSED_PAUSE;
        fetched.settings_digest == self.settings_digest && !ends && !is_refused
    }
}

/// What one webhook has; locked while a token is fetched.
type Flight = Arc<tokio::sync::Mutex<Option<Fetched>>>;

/// The access tokens of this node's deliveries.
#[derive(Debug, Default)]
pub(super) struct EndpointTokens {
    flights: Mutex<HashMap<Uuid, Flight>>,
}

/// Why there is no token, in words without anything secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoToken(String);

impl NoToken {
    /// For a reason, in words.
    pub(super) fn because(reason: &str) -> Self {
        Self(reason.to_owned())
    }

    /// The token endpoint left no time for the request itself.
    pub(super) fn late() -> Self {
        Self("the token endpoint took too long".to_owned())
    }
}

/// What fetching needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetching<'a> {
    pub(super) store: &'a Store,
    pub(super) keys: &'a Keys,
    pub(super) seam: &'a Seam,
    pub(super) egress: &'a Egress,
    /// Where it is told that an authorisation is over.
    pub(super) board: &'a Board,
    /// Whether the webhook is there, so that what is fetched may be kept for it.
    pub(super) is_saved: bool,
}

impl EndpointTokens {
    /// A token for a webhook; nothing where it needs none. `refused` is the one that the endpoint
    /// answered 401 to: comes the same back, nothing is to be done about it.
    pub(super) async fn token(
        &self,
        id: Uuid,
        own: &OwnFace,
        with: Fetching<'_>,
        refused: Option<&SecretText>,
    ) -> Result<Option<SecretText>, NoToken> {
        let is_granted = match own.authentication.how {
            Authentication::Oauth2ClientCredentials { .. } => false,
            Authentication::Oauth2AuthorizationCode { .. } => true,
            _ => return Ok(None),
        };
        if is_granted && !with.is_saved {
            let why =
                "a webhook is authorised once it is saved: save it, authorise it, and test it";
            return Err(NoToken::because(why));
        }
        if !with.is_saved {
            let fetched = Box::pin(fetch(&own.authentication, with.egress, with.seam));
            return fetched.await.map(|fetched| Some(fetched.token));
        }
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            if flights.len() >= REMEMBERED && !flights.contains_key(&id) {
                flights.clear();
            }
            Arc::clone(flights.entry(id).or_default())
        };
        let mut held = flight.lock().await;
        let now = with.seam.clock.now();
        let wanted =
            Wanted { settings_digest: own.settings_digest.clone(), refused: refused.cloned() };
        if let Some(fetched) = held.as_ref().filter(|fetched| wanted.is_met_by(fetched, now)) {
            return Ok(Some(fetched.token.clone()));
        }
        if is_granted {
            let usable = granted(id, own, with, refused).await?;
            let token = usable.token.clone();
            *held = Some(Fetched {
                settings_digest: own.settings_digest.clone(),
                token: usable.token,
                expires_at: usable.expires_at,
                since: usable.since,
            });
            return Ok(Some(token));
        }
        // In a task of its own: a request that is given up must not leave others waiting for a token
        // that nobody fetches any more.
        let sharing = Sharing {
            id,
            store: with.store.clone(),
            keys: with.keys.clone(),
            seam: with.seam.clone(),
            egress: with.egress.clone(),
            authentication: own.authentication.clone(),
            wanted,
        };
        let task = tokio::spawn(sharing.token());
        let broken_off = |_| Err(NoToken::because("the fetching of a token was broken off"));
        let fetched = task.await.unwrap_or_else(broken_off)?;
        let token = fetched.token.clone();
        *held = Some(fetched);
        Ok(Some(token))
    }
}

/// A token that all nodes share, with what fetching it needs.
struct Sharing {
    id: Uuid,
    store: Store,
    keys: Keys,
    seam: Seam,
    egress: Egress,
    authentication: EndpointAuthentication,
    wanted: Wanted,
}

impl Sharing {
    /// The kept token, or one that this node fetches while no other one does.
    async fn token(self) -> Result<Fetched, NoToken> {
        let clock = &self.seam.clock;
        let end = clock.instant() + PATIENCE;
        loop {
            if let Some(kept) = self.kept().await {
                return Ok(kept);
            }
            match token_claims::claim(&self.store, self.id, &self.seam).await {
                Ok(Some(claim)) => {
                    let fetched = self.fetch_and_keep().await;
                    let released =
                        token_claims::release(&self.store, self.id, claim, clock.now()).await;
                    if let Err(error) = released {
                        tracing::warn!(webhook = %self.id, %error, "the right to fetch a token ends by itself");
                    }
                    return fetched;
                }
                Ok(None) if clock.instant() >= end => {
                    let why = "another node has been fetching a token for too long";
                    return Err(NoToken::because(why));
                }
                Ok(None) => clock.sleep(LOOK).await,
                Err(error) => {
                    // Better one token too many than none.
                    tracing::warn!(webhook = %self.id, %error, "cannot ask who fetches a token");
                    return self.fetch_and_keep().await;
                }
            }
        }
    }

    /// The token that is kept, where it is as it must be.
    async fn kept(&self) -> Option<Fetched> {
        let now = self.seam.clock.now();
        match read(&self.store, &self.keys, self.id).await {
            Ok(kept) => kept.filter(|kept| self.wanted.is_met_by(kept, now)),
            Err(error) => {
                tracing::warn!(webhook = %self.id, %error, "cannot read a kept access token");
                None
            }
        }
    }

    async fn fetch_and_keep(&self) -> Result<Fetched, NoToken> {
        // Whoever had the right before may have kept one since it was looked.
        if let Some(kept) = self.kept().await {
            return Ok(kept);
        }
        let fetched = Box::pin(fetch(&self.authentication, &self.egress, &self.seam)).await?;
        let settings_digest = self.wanted.settings_digest.clone();
        let fetched = Fetched { settings_digest, ..fetched };
        if let Err(error) = keep(&self.store, &self.keys, &self.seam, self.id, &fetched).await {
            tracing::warn!(webhook = %self.id, %error, "cannot keep an access token; another is fetched");
        }
        Ok(fetched)
    }
}

/// The token that somebody granted, refreshed where that is needed. In a task of its own: see
/// [`Granting`].
async fn granted(
    id: Uuid,
    own: &OwnFace,
    with: Fetching<'_>,
    refused: Option<&SecretText>,
) -> Result<Usable, NoToken> {
    let granting = Granting {
        store: with.store.clone(),
        keys: with.keys.clone(),
        seam: with.seam.clone(),
        egress: with.egress.clone(),
        board: with.board.clone(),
        authentication: own.authentication.clone(),
    };
    let task = tokio::spawn(endpoint_grants::token(id, granting, refused.cloned()));
    task.await.unwrap_or_else(|_| Err(NoToken::because("the refresh was broken off")))
}

/// Fetches a token; of which settings it is is the caller's to say.
async fn fetch(
    authentication: &EndpointAuthentication,
    egress: &Egress,
    seam: &Seam,
) -> Result<Fetched, NoToken> {
    let Authentication::Oauth2ClientCredentials {
        token_url,
        client_id,
        scope,
        client_authentication,
    } = &authentication.how
    else {
        return Err(NoToken("the webhook asks for no access token".to_owned()));
    };
    let secret = authentication.secret.as_ref().map_or("", SecretText::expose);
    let client = BasicClient::new(ClientId::new(client_id.clone()))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_auth_type(match client_authentication {
            ClientAuthentication::Basic => AuthType::BasicAuth,
            ClientAuthentication::Body => AuthType::RequestBody,
        })
        .set_token_uri(TokenUrl::from_url(token_url.clone()));
    let http = OauthHttpClient::vetted(egress.clone());
    let scopes = scope.iter().flat_map(|scope| scope.split_ascii_whitespace());
    let answer = client
        .exchange_client_credentials()
        .add_scopes(scopes.map(|scope| Scope::new(scope.to_owned())))
        .request_async(&http)
        .await
        .map_err(failure)?;
    let now = seam.clock.now();
    Ok(Fetched {
        settings_digest: String::new(),
        token: SecretText::new(answer.access_token().secret().clone()),
        expires_at: answer.expires_in().map(|span| now.plus(span)),
        since: now,
    })
}

/// What the token endpoint did, without what it wrote: that may hold anything.
fn failure<E: oauth2::ErrorResponse>(error: RequestTokenError<OauthHttpError, E>) -> NoToken {
    NoToken(match error {
        RequestTokenError::ServerResponse(_) => {
            "the token endpoint refuses to give an access token".to_owned()
        }
        RequestTokenError::Request(error) => format!("the token endpoint gave no answer: {error}"),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            "the token endpoint's answer is not one of OAuth 2.0".to_owned()
        }
    })
}

async fn read(store: &Store, keys: &Keys, id: Uuid) -> Result<Option<Fetched>, StoreError> {
    let row = own_webhook_token::Entity::find_by_id(id).one(store.reader()).await?;
    Ok(row.and_then(|row| {
        let place = AssociatedData { subject: id, field: TOKEN_FIELD };
        let opened = keys.ring.unseal(Purpose::Vault, &place, &row.sealed_access_token).ok()?;
        Some(Fetched {
            settings_digest: row.settings_digest,
            token: SecretText::new(std::str::from_utf8(opened.expose()).ok()?),
            expires_at: row.expires_at.map(Timestamp::from_micros),
            since: Timestamp::from_micros(row.fetched_at),
        })
    }))
}

/// Keeps a token, unless its webhook is no more: the lock makes who deletes it wait and see.
async fn keep(
    store: &Store,
    keys: &Keys,
    seam: &Seam,
    id: Uuid,
    fetched: &Fetched,
) -> Result<(), StoreError> {
    let place = AssociatedData { subject: id, field: TOKEN_FIELD };
    let sealed = keys
        .ring
        .seal(Purpose::Vault, &place, fetched.token.expose().as_bytes(), &seam.randomness)
        .map_err(|_| StoreError::Corrupt { what: "key for an access token" })?;
    let work = store.begin().await?;
    let owner = own_webhook::Entity::find_by_id(id).lock_shared().one(work.connection()).await?;
    if owner.is_none() {
        return work.rollback().await;
    }
    own_webhook_token::Entity::insert(own_webhook_token::ActiveModel {
        id: Set(id),
        settings_digest: Set(fetched.settings_digest.clone()),
        sealed_access_token: Set(sealed),
        expires_at: Set(fetched.expires_at.map(Timestamp::micros)),
        fetched_at: Set(fetched.since.micros()),
    })
    .on_conflict(
        OnConflict::column(own_webhook_token::Column::Id)
            .update_columns([
                own_webhook_token::Column::SettingsDigest,
                own_webhook_token::Column::SealedAccessToken,
                own_webhook_token::Column::ExpiresAt,
                own_webhook_token::Column::FetchedAt,
            ])
            .to_owned(),
    )
    .exec_without_returning(work.connection())
    .await?;
    let _settled = work.commit(seam.clock.now()).await?;
    Ok(())
}
