//! How somebody authorises an own webhook at its endpoint's authorisation server (RFC 6749 section 4.1,
//! with PKCE): a link that works once binds a browser, and what comes back to it counts in that
//! browser alone.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait as _, QueryFilter,
    QueryOrder as _, QuerySelect as _,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::authentication::{Authentication, EndpointAuthentication};
use super::current::{Current, read_current};
use super::grants::{self, NoGrant, grant_digest};
use super::writing::{OwnRefusal, OwnWebhooks, subject_of};
use super::{CREDENTIALS_FIELD, plan};
use crate::audit::Actor;
use crate::crypto::{AssociatedData, CryptoError, Purpose, SecretText, constant_time_equal};
use crate::notice::NoticeKind;
use crate::seam::Timestamp;
use crate::store::entity::{own_webhook_authorization, own_webhook_grant, webhook};
use crate::store::{RoutingChange, StoreError, UnitOfWork};

/// The field of a sealed request.
const REQUEST_FIELD: &str = "own-webhook-authorization";

/// How long an authorisation may take.
const LIFE: Duration = Duration::from_mins(10);

/// How many may be under way for one webhook; of more, the oldest end.
const MOST_LIVE: u64 = 5;

/// An authorisation that was begun.
#[derive(Clone, Debug)]
pub struct AuthorizationBegun {
    /// What stands in the link.
    pub link: SecretText,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// A browser that was bound.
#[derive(Clone, Debug)]
pub struct AuthorizationStarted {
    /// Where it goes on.
    pub authorization_url: Url,
    /// What it is bound by.
    pub cookie: SecretText,
    /// Which authorisation it is.
    pub flow: Uuid,
}

/// Why nothing was authorised.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationRefusal {
    /// The webhook refuses.
    #[error(transparent)]
    Own(#[from] OwnRefusal),
    /// The webhook has another authentication.
    #[error("the webhook has no authentication of the type oauth2AuthorizationCode")]
    OtherAuthentication,
    /// The link or the state was used, has expired, or is none.
    #[error("this link was used or has expired: begin again")]
    InvalidState,
    /// It came back to another browser.
    #[error("this is not the browser that began: begin and finish in the same one")]
    OtherBrowser,
    /// The authorisation server gave no tokens.
    #[error("the authorisation server gave no tokens: {0}")]
    NoTokens(String),
}

impl From<StoreError> for AuthorizationRefusal {
    fn from(error: StoreError) -> Self {
        Self::Own(error.into())
    }
}

impl From<sea_orm::DbErr> for AuthorizationRefusal {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Own(error.into())
    }
}

impl From<CryptoError> for AuthorizationRefusal {
    fn from(error: CryptoError) -> Self {
        Self::Own(error.into())
    }
}

/// What is kept of a request until it comes back.
#[derive(Serialize, Deserialize)]
struct Request {
    verifier: String,
    authorization_url: Url,
}

fn digest_of(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

impl OwnWebhooks {
    /// Begins an authorisation. `redirect` is where the authorisation server sends the browser back.
    pub async fn begin_authorization(
        &self,
        work: &mut UnitOfWork,
        id: Uuid,
        redirect: &Url,
        actor: &Actor,
    ) -> Result<AuthorizationBegun, AuthorizationRefusal> {
        use own_webhook_authorization::Column;
        let now = self.seam.clock.now();
        let seen = read_current(work.connection(), id).await?;
        plan::lock(work, seen.org_id(), now).await?;
        let current = read_current(work.connection(), id).await?;
        let how = &current.settings.authentication;
        let Authentication::Oauth2AuthorizationCode { authorization_url, client_id, scope, .. } =
            how
        else {
            return Err(AuthorizationRefusal::OtherAuthentication);
        };
        own_webhook_authorization::Entity::delete_many()
            .filter(Column::ExpiresAt.lt(now.micros()))
            .exec(work.connection())
            .await?;
        let live = own_webhook_authorization::Entity::find().filter(Column::WebhookId.eq(id));
        let surplus = (live.clone().count(work.connection()).await? + 1).saturating_sub(MOST_LIVE);
        if surplus > 0 {
            let oldest: Vec<Uuid> = live
                .order_by_asc(Column::ExpiresAt)
                .limit(surplus)
                .select_only()
                .column(Column::Id)
                .into_tuple()
                .all(work.connection())
                .await?;
            own_webhook_authorization::Entity::delete_many()
                .filter(Column::Id.is_in(oldest))
                .exec(work.connection())
                .await?;
        }
        let (state, link, verifier) = (self.token()?, self.token()?, self.token()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()));
        let mut url = authorization_url.clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", client_id)
                .append_pair("redirect_uri", redirect.as_str())
                .append_pair("state", state.expose())
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", "S256");
            if let Some(scope) = scope {
                query.append_pair("scope", scope);
            }
        }
        let request = Request { verifier: verifier.expose().to_owned(), authorization_url: url };
        let text = serde_json::to_vec(&request).map_err(|_| OwnRefusal::Unreadable)?;
        let flow = self.seam.randomness.id();
        let place = AssociatedData { subject: flow, field: REQUEST_FIELD };
        let expires_at = now.plus(LIFE);
        own_webhook_authorization::Entity::insert(own_webhook_authorization::ActiveModel {
            id: Set(flow),
            webhook_id: Set(id),
            settings_digest: Set(grant_digest(how)),
            state_digest: Set(digest_of(state.expose())),
            link_digest: Set(digest_of(link.expose())),
            cookie_digest: Set(None),
            sealed_request: Set(self.keys.ring.seal(
                Purpose::Vault,
                &place,
                &text,
                &self.seam.randomness,
            )?),
            begun_by: Set(actor.name.clone()),
            expires_at: Set(expires_at.micros()),
        })
        .exec_without_returning(work.connection())
        .await?;
        self.audit(work, &current.row, "webhook.authorization-begun", json!({}), actor, now)
            .await?;
        Ok(AuthorizationBegun { link, expires_at })
    }

    /// Binds the browser that uses a link for the first time.
    pub async fn start_authorization(
        &self,
        link: &str,
    ) -> Result<AuthorizationStarted, AuthorizationRefusal> {
        use own_webhook_authorization::Column;
        let now = self.seam.clock.now();
        let cookie = self.token()?;
        let work = self.store.begin().await?;
        let bound = own_webhook_authorization::Entity::update_many()
            .col_expr(Column::CookieDigest, Expr::value(Some(digest_of(cookie.expose()))))
            .filter(Column::LinkDigest.eq(digest_of(link)))
            .filter(Column::CookieDigest.is_null())
            .filter(Column::ExpiresAt.gt(now.micros()))
            .exec(work.connection())
            .await?;
        let row = own_webhook_authorization::Entity::find()
            .filter(Column::LinkDigest.eq(digest_of(link)))
            .one(work.connection())
            .await?;
        let (1, Some(row)) = (bound.rows_affected, row) else {
            work.rollback().await?;
            return Err(AuthorizationRefusal::InvalidState);
        };
        let _settled = work.commit(now).await?;
        let request = self.request(&row)?;
        Ok(AuthorizationStarted {
            authorization_url: request.authorization_url,
            cookie,
            flow: row.id,
        })
    }

    /// Takes what came back to a browser, and keeps the tokens that the code is good for. Says which
    /// webhook it is.
    pub async fn finish_authorization(
        &self,
        state: &str,
        code: &SecretText,
        cookies: &[String],
        redirect: &Url,
        actor: &Actor,
    ) -> Result<Uuid, AuthorizationRefusal> {
        use own_webhook_authorization::Column;
        let now = self.seam.clock.now();
        let row = own_webhook_authorization::Entity::find()
            .filter(Column::StateDigest.eq(digest_of(state)))
            .filter(Column::ExpiresAt.gt(now.micros()))
            .one(self.store.reader())
            .await?
            .ok_or(AuthorizationRefusal::InvalidState)?;
        let is_bound = row.cookie_digest.as_ref().is_some_and(|wanted| {
            cookies.iter().any(|cookie| constant_time_equal(&digest_of(cookie), wanted))
        });
        if !is_bound {
            // A wrong browser does not use a right state up.
            return Err(AuthorizationRefusal::OtherBrowser);
        }
        let request = self.request(&row)?;
        let work = self.store.begin().await?;
        let taken =
            own_webhook_authorization::Entity::delete_by_id(row.id).exec(work.connection()).await?;
        let _settled = work.commit(now).await?;
        if taken.rows_affected == 0 {
            return Err(AuthorizationRefusal::InvalidState);
        }
        let current = self.current(row.webhook_id).await?;
        let authentication = self.endpoint_authentication(&current)?;
        if grant_digest(&authentication.how) != row.settings_digest {
            return Err(AuthorizationRefusal::InvalidState);
        }
        let door = self.own_door(&current, &authentication).await?;
        let verifier = SecretText::new(request.verifier);
        let granted =
            grants::exchange(&authentication, code, &verifier, redirect, &door, now).await;
        let granted =
            granted.map_err(|error: NoGrant| AuthorizationRefusal::NoTokens(error.to_string()))?;
        self.keep_granted(&current, &row, &granted, actor).await?;
        Ok(current.id())
    }

    async fn keep_granted(
        &self,
        seen: &Current,
        row: &own_webhook_authorization::Model,
        granted: &grants::Granted,
        actor: &Actor,
    ) -> Result<(), AuthorizationRefusal> {
        let (id, now) = (seen.id(), self.seam.clock.now());
        let mut work = self.store.begin().await?;
        plan::lock(&work, seen.org_id(), now).await?;
        let current = read_current(work.connection(), id).await?;
        if grant_digest(&current.settings.authentication) != row.settings_digest {
            work.rollback().await?;
            return Err(AuthorizationRefusal::InvalidState);
        }
        let by = (row.begun_by.as_str(), now);
        let (ring, randomness) = (&self.keys.ring, &self.seam.randomness);
        let digest = &row.settings_digest;
        grants::keep(work.connection(), ring, id, granted, digest, by, randomness).await?;
        self.board.resolve(&work, &[NoticeKind::ConnectionBroken], &subject_of(id)).await?;
        let detail = json!({ "begunBy": row.begun_by, "refreshes": granted.refresh.is_some() });
        self.audit(&work, &current.row, "webhook.authorize", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(current.org_id().to_owned()));
        let _settled = work.commit(now).await?;
        Ok(())
    }

    /// How the endpoint of a webhook is told who calls, with what is secret in it.
    fn endpoint_authentication(
        &self,
        current: &Current,
    ) -> Result<EndpointAuthentication, AuthorizationRefusal> {
        let secret = match &current.own.sealed_credentials {
            None => None,
            Some(sealed) => {
                let place = AssociatedData { subject: current.id(), field: CREDENTIALS_FIELD };
                let opened = self.keys.ring.unseal(Purpose::Vault, &place, sealed)?;
                let text =
                    std::str::from_utf8(opened.expose()).map_err(|_| OwnRefusal::Unreadable)?;
                Some(SecretText::new(text))
            }
        };
        Ok(EndpointAuthentication { how: current.settings.authentication.clone(), secret })
    }

    /// The door that the deliveries of a webhook go through.
    async fn own_door(
        &self,
        current: &Current,
        authentication: &EndpointAuthentication,
    ) -> Result<crate::egress::Egress, AuthorizationRefusal> {
        let door = self.door(current.org_id()).await?;
        match current.settings.tls_profile(authentication.secret.as_ref()) {
            None => Ok(door),
            Some(profile) => Ok(door.with_tls(&profile).map_err(|_| OwnRefusal::Unreadable)?),
        }
    }

    fn request(
        &self,
        row: &own_webhook_authorization::Model,
    ) -> Result<Request, AuthorizationRefusal> {
        let place = AssociatedData { subject: row.id, field: REQUEST_FIELD };
        let opened = self.keys.ring.unseal(Purpose::Vault, &place, &row.sealed_request)?;
        Ok(serde_json::from_slice(opened.expose()).map_err(|_| OwnRefusal::Unreadable)?)
    }

    /// Something that nobody can guess, fit for an address.
    fn token(&self) -> Result<SecretText, CryptoError> {
        let bytes = self.seam.randomness.bytes::<32>().map_err(|_| CryptoError::Randomness)?;
        Ok(SecretText::new(URL_SAFE_NO_PAD.encode(bytes)))
    }
}

/// Takes out what was granted for a webhook that goes, and what was begun.
pub(super) async fn erase_grants(
    connection: &impl ConnectionTrait,
    id: Uuid,
) -> Result<(), StoreError> {
    own_webhook_grant::Entity::delete_by_id(id).exec(connection).await?;
    own_webhook_authorization::Entity::delete_many()
        .filter(own_webhook_authorization::Column::WebhookId.eq(id))
        .exec(connection)
        .await?;
    Ok(())
}

/// What is told of a grant whose tokens are had no more.
pub(crate) fn broken_message(row: &webhook::Model, reason: &str) -> String {
    let name = row.name.as_deref().unwrap_or("without a name");
    format!(
        "The authorisation of the webhook {name} is over: {reason}. Authorise it again \
         (POST /webhooks/{}/authorization); its deliveries are retried until then.",
        row.id
    )
}
