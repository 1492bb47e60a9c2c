//! What somebody granted for the endpoint of an own webhook (OAuth 2.0 authorisation code): kept sealed,
//! refreshed by one node at a time, and marked as broken where the authorisation server takes it back.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, TokenResponse, TokenUrl,
};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::authentication::{Authentication, ClientAuthentication, EndpointAuthentication};
use crate::crypto::{AssociatedData, KeyRing, Purpose, SecretText};
use crate::egress::{Egress, OauthHttpClient, OauthHttpError};
use crate::seam::{Randomness, Timestamp};
use crate::store::entity::own_webhook_grant;
use crate::store::{Store, StoreError};

/// The field of sealed tokens.
const TOKENS_FIELD: &str = "own-webhook-grant";

/// How long a node that refreshes has the row for itself: longer than a call of a token endpoint may
/// take.
const CLAIMED_FOR: Duration = Duration::from_secs(30);

/// Tokens, as they are sealed.
#[derive(Clone, Serialize, Deserialize)]
struct Tokens {
    access: String,
    refresh: Option<String>,
}

/// Tokens that were given.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// For requests.
    pub(crate) access: SecretText,
    /// For the next ones; nothing where the server gave none.
    pub(crate) refresh: Option<SecretText>,
    /// When the first ends.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A grant as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) granted: Granted,
    pub(crate) settings_digest: String,
    pub(crate) refreshed_at: Timestamp,
    pub(crate) broken_reason: Option<String>,
}

/// Why there are no tokens, in words without anything secret.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NoGrant {
    /// The server says no: asking again would not help.
    #[error("the token endpoint refuses to give an access token")]
    Refused,
    /// Another time it may.
    #[error("{0}")]
    Passing(String),
}

/// Of which settings a grant is: where any of them changes, somebody must authorise anew.
pub(crate) fn grant_digest(how: &Authentication) -> String {
    let Authentication::Oauth2AuthorizationCode {
        authorization_url,
        token_url,
        client_id,
        scope,
        ..
    } = how
    else {
        return String::new();
    };
    let text = [
        authorization_url.as_str(),
        token_url.as_str(),
        client_id,
        scope.as_deref().unwrap_or_default(),
    ]
    .join("\n");
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

type Client = BasicClient<
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

fn client(authentication: &EndpointAuthentication) -> Option<Client> {
    let Authentication::Oauth2AuthorizationCode {
        token_url, client_id, client_authentication, ..
    } = &authentication.how
    else {
        return None;
    };
    let secret = authentication.secret.as_ref().map_or("", SecretText::expose);
    let client = BasicClient::new(ClientId::new(client_id.clone()))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_auth_type(match client_authentication {
            ClientAuthentication::Basic => AuthType::BasicAuth,
            ClientAuthentication::Body => AuthType::RequestBody,
        })
        .set_token_uri(TokenUrl::from_url(token_url.clone()));
    Some(client)
}

fn other() -> NoGrant {
    NoGrant::Passing("the webhook asks for no authorisation".to_owned())
}

/// Exchanges a code for tokens.
pub(crate) async fn exchange(
    authentication: &EndpointAuthentication,
    code: &SecretText,
    verifier: &SecretText,
    redirect: &Url,
    egress: &Egress,
    now: Timestamp,
) -> Result<Granted, NoGrant> {
    let client = client(authentication).ok_or_else(other)?;
    let http = OauthHttpClient::vetted(egress.clone());
    let redirect = RedirectUrl::from_url(redirect.clone());
    let answer = client
        .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()))
        .set_redirect_uri(std::borrow::Cow::Owned(redirect))
        .request_async(&http)
        .await
        .map_err(failure)?;
    Ok(granted(&answer, None, now))
}

/// Asks for other tokens.
pub(crate) async fn refresh(
    authentication: &EndpointAuthentication,
    former: &SecretText,
    egress: &Egress,
    now: Timestamp,
) -> Result<Granted, NoGrant> {
    let client = client(authentication).ok_or_else(other)?;
    let http = OauthHttpClient::vetted(egress.clone());
    let token = RefreshToken::new(former.expose().to_owned());
    let answer =
        client.exchange_refresh_token(&token).request_async(&http).await.map_err(failure)?;
    // RFC 6749 section 6: where no other refresh token comes, the former one stays good.
    Ok(granted(&answer, Some(former), now))
}

fn granted(answer: &BasicTokenResponse, former: Option<&SecretText>, now: Timestamp) -> Granted {
    let refresh = answer.refresh_token().map(|token| SecretText::new(token.secret().clone()));
    Granted {
        access: SecretText::new(answer.access_token().secret().clone()),
        refresh: refresh.or_else(|| former.cloned()),
        expires_at: answer.expires_in().map(|span| now.plus(span)),
    }
}

/// What the token endpoint did, without what it wrote: that may hold anything.
fn failure<E: oauth2::ErrorResponse>(error: RequestTokenError<OauthHttpError, E>) -> NoGrant {
    match error {
        RequestTokenError::ServerResponse(_) => NoGrant::Refused,
        RequestTokenError::Request(error) => {
            NoGrant::Passing(format!("the token endpoint gave no answer: {error}"))
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            NoGrant::Passing("the token endpoint's answer is not one of OAuth 2.0".to_owned())
        }
    }
}

fn sealed(
    ring: &KeyRing,
    id: Uuid,
    granted: &Granted,
    randomness: &Randomness,
) -> Result<Vec<u8>, StoreError> {
    let tokens = Tokens {
        access: granted.access.expose().to_owned(),
        refresh: granted.refresh.as_ref().map(|token| token.expose().to_owned()),
    };
    let corrupt = StoreError::Corrupt { what: "tokens of a grant" };
    let Ok(text) = serde_json::to_vec(&tokens) else { return Err(corrupt) };
    let place = AssociatedData { subject: id, field: TOKENS_FIELD };
    ring.seal(Purpose::Vault, &place, &text, randomness).map_err(|_| corrupt)
}

/// The grant of a webhook; nothing where there is none, or where it cannot be opened.
pub(crate) async fn read(
    store: &Store,
    ring: &KeyRing,
    id: Uuid,
) -> Result<Option<Grant>, StoreError> {
    let row = own_webhook_grant::Entity::find_by_id(id).one(store.reader()).await?;
    Ok(row.and_then(|row| {
        let place = AssociatedData { subject: id, field: TOKENS_FIELD };
        let opened = ring.unseal(Purpose::Vault, &place, &row.sealed_tokens).ok()?;
        let tokens: Tokens = serde_json::from_slice(opened.expose()).ok()?;
        Some(Grant {
            granted: Granted {
                access: SecretText::new(tokens.access),
                refresh: tokens.refresh.map(SecretText::new),
                expires_at: row.expires_at.map(Timestamp::from_micros),
            },
            settings_digest: row.settings_digest,
            refreshed_at: Timestamp::from_micros(row.refreshed_at),
            broken_reason: row.broken_reason,
        })
    }))
}

/// Keeps what was granted just now, in place of what was granted before.
pub(super) async fn keep(
    connection: &impl ConnectionTrait,
    ring: &KeyRing,
    id: Uuid,
    granted: &Granted,
    settings_digest: &str,
    (granted_by, now): (&str, Timestamp),
    randomness: &Randomness,
) -> Result<(), StoreError> {
    use own_webhook_grant::Column;
    own_webhook_grant::Entity::insert(own_webhook_grant::ActiveModel {
        id: Set(id),
        settings_digest: Set(settings_digest.to_owned()),
        sealed_tokens: Set(sealed(ring, id, granted, randomness)?),
        expires_at: Set(granted.expires_at.map(Timestamp::micros)),
        refreshed_at: Set(now.micros()),
        claimed_until: Set(None),
        broken_reason: Set(None),
        granted_by: Set(granted_by.to_owned()),
        granted_at: Set(now.micros()),
    })
    .on_conflict(
        OnConflict::column(Column::Id)
            .update_columns([
                Column::SettingsDigest,
                Column::SealedTokens,
                Column::ExpiresAt,
                Column::RefreshedAt,
                Column::ClaimedUntil,
                Column::BrokenReason,
                Column::GrantedBy,
                Column::GrantedAt,
            ])
            .to_owned(),
    )
    .exec_without_returning(connection)
    .await?;
    Ok(())
}

/// Takes the right to refresh a grant, as it was seen: one node has it at a time.
pub(crate) async fn claim(
    store: &Store,
    id: Uuid,
    seen: &Grant,
    now: Timestamp,
) -> Result<bool, StoreError> {
    use own_webhook_grant::Column;
    let work = store.begin().await?;
    let claimed = own_webhook_grant::Entity::update_many()
        .col_expr(Column::ClaimedUntil, Expr::value(Some(now.plus(CLAIMED_FOR).micros())))
        .filter(Column::Id.eq(id))
        .filter(Column::RefreshedAt.eq(seen.refreshed_at.micros()))
        .filter(Column::BrokenReason.is_null())
        .filter(
            Condition::any()
                .add(Column::ClaimedUntil.is_null())
                .add(Column::ClaimedUntil.lt(now.micros())),
        )
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    Ok(claimed.rows_affected == 1)
}

/// Writes what a refresh brought, or gives the claim back where it brought nothing.
pub(crate) async fn refreshed(
    store: &Store,
    ring: &KeyRing,
    id: Uuid,
    seen: &Grant,
    brought: Option<&Granted>,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<(), StoreError> {
    use own_webhook_grant::Column;
    let mut update = own_webhook_grant::Entity::update_many()
        .col_expr(Column::ClaimedUntil, Expr::value(Option::<i64>::None));
    if let Some(granted) = brought {
        let ends = granted.expires_at.map(Timestamp::micros);
        // Two in one moment are two, so that the second is told from the first.
        let at = now.max(seen.refreshed_at.plus(Duration::from_millis(1)));
        update = update
            .col_expr(Column::SealedTokens, Expr::value(sealed(ring, id, granted, randomness)?))
            .col_expr(Column::ExpiresAt, Expr::value(ends))
            .col_expr(Column::RefreshedAt, Expr::value(at.micros()));
    }
    let work = store.begin().await?;
    update
        .filter(Column::Id.eq(id))
        .filter(Column::RefreshedAt.eq(seen.refreshed_at.micros()))
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

/// Marks a grant as broken. Says whether it was whole until now.
pub(crate) async fn break_off(
    connection: &impl ConnectionTrait,
    id: Uuid,
    seen: &Grant,
    reason: &str,
) -> Result<bool, StoreError> {
    use own_webhook_grant::Column;
    let broken = own_webhook_grant::Entity::update_many()
        .col_expr(Column::BrokenReason, Expr::value(Some(reason)))
        .col_expr(Column::ClaimedUntil, Expr::value(Option::<i64>::None))
        .filter(Column::Id.eq(id))
        .filter(Column::RefreshedAt.eq(seen.refreshed_at.micros()))
        .filter(Column::BrokenReason.is_null())
        .exec(connection)
        .await?;
    Ok(broken.rows_affected == 1)
}
