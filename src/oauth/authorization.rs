//! A browser on its way to the provider and back.
//!
//! `state`, the start nonce and the browser's cookie are random and kept as digests only; the PKCE
//! verifier and the address with the state in it are sealed. A state is used once; a wrong one
//! burns nothing.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, FromQueryResult, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationDef, sea_query::Expr,
};
use url::Url;
use uuid::Uuid;

use super::discarding;
use super::error::{OAuthError, until};
use super::exchanges;
use super::provider::{Providers, Service};
use super::purpose::AuthorizationPurpose;
use crate::crypto::{
    AssociatedData, CryptoError, KeyRing, Purpose, SecretText, constant_time_equal,
};
use crate::seam::{Seam, Timestamp, crash_point};
use crate::store::entity::{authorization_request, installation};
use crate::store::{Store, UnitOfWork};

/// How long a state lives.
const LIFE: Duration = Duration::from_mins(10);

/// How many live states there may be for one installation, purpose, connection and user; the
/// oldest goes first.
const MOST_LIVE: usize = 5;

/// How many live states an installation may have for all its users together.
const MOST_LIVE_OF_ALL: u64 = 1_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// What the browser is sent for.
    pub purpose: AuthorizationPurpose,
    /// `zohoAuthorisation`, or the connector's link name.
    pub connection: String,
    /// The service that grants.
    pub service: Service,
    /// The scopes.
    pub scopes: Vec<String>,
    /// Who is sent, as the marketplace names him.
    pub granted_by: Option<String>,
    /// The digest of the version that the consent is for.
    pub target_digest: String,
    /// Where the browser goes at the end.
    pub return_url: Option<String>,
    /// Whether nothing can have been asked for the installation before: this transaction makes it.
    pub is_first: bool,
}

/// The addresses of a begun authorisation.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The provider's.
    pub authorization_url: Url,
    /// The last part of our own one-time address.
    pub start_nonce: String,
}

/// A browser that used its one-time address.
#[derive(Debug)]
pub struct StartedBrowser {
    /// Where it goes on.
    pub authorization_url: Url,
    /// What tells its cookie from that of another flow in the same browser.
    pub flow: String,
    /// What its cookie holds.
    pub cookie: SecretText,
}

/// A request that a state belongs to.
#[derive(Clone, Debug)]
pub struct PendingAuthorization {
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// What the browser was sent for.
    pub purpose: AuthorizationPurpose,
    /// Which connection.
    pub connection: String,
    /// The service that grants; nothing where a node of the former release wrote the row.
    pub service: Option<Service>,
    /// The scopes that were asked for, where the row says them.
    pub scopes: Vec<String>,
    /// Who was sent.
    pub granted_by: Option<String>,
    /// The digest of the version that the consent is for.
    pub target_digest: String,
    /// Where the browser goes at the end.
    pub return_url: Option<String>,
    state_digest: Vec<u8>,
    browser_digest: Option<Vec<u8>>,
    sealed_verifier: Vec<u8>,
}

/// Tokens that cover what was asked.
#[derive(Debug)]
pub struct GrantedTokens {
    /// The service that granted them.
    pub service: Service,
    pub(super) access: SecretText,
    pub(super) refresh: Option<SecretText>,
    pub(super) expires_at: Option<Timestamp>,
    /// What was granted.
    pub scopes: Vec<String>,
    pub(super) asked: Vec<String>,
    /// The journalled exchange that they came from.
    pub(crate) exchange: Uuid,
}

impl GrantedTokens {
    /// The tokens with their kinds (RFC 7009), for revoking what comes too late.
    pub fn all(&self) -> Vec<(&'static str, &SecretText)> {
        let refresh = self.refresh.as_ref().map(|token| ("refresh_token", token));
        std::iter::once(("access_token", &self.access)).chain(refresh).collect()
    }

    /// The scopes of `declared` that were not granted.
    pub fn missing(&self, declared: &[String]) -> Vec<String> {
        declared.iter().filter(|scope| !self.scopes.contains(scope)).cloned().collect()
    }
}

fn digest_of(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

fn random_text(seam: &Seam) -> Result<String, OAuthError> {
    let bytes: [u8; 32] = seam.randomness.bytes().map_err(|_| CryptoError::Randomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is sealed opens in the row of its own state only: the key of that row is a digest, and its
/// first half stands for it.
pub(crate) fn request_place(
    state_digest: &[u8],
    field: &'static str,
) -> Result<AssociatedData<'static>, OAuthError> {
    let subject = state_digest
        .first_chunk::<16>()
        .map(|half| Uuid::from_bytes(*half))
        .ok_or(OAuthError::Unreadable { what: "state" })?;
    Ok(AssociatedData { subject, field })
}

/// The field of the PKCE verifier.
pub(crate) const VERIFIER: &str = "pkce-verifier";

/// The field of the address that the browser is sent to.
pub(crate) const ADDRESS: &str = "authorization-url";

/// Begins an authorisation in the transaction of what asks for it.
pub(crate) async fn begin(
    providers: &Providers,
    ring: &KeyRing,
    work: &UnitOfWork,
    request: &AuthorizationRequest,
    now: Timestamp,
    seam: &Seam,
) -> Result<Begun, OAuthError> {
    let state = random_text(seam)?;
    let verifier = random_text(seam)?;
    let start_nonce = random_text(seam)?;
    let authorization_url =
        providers.authorization_url(&request.service, &request.scopes, &state, &verifier).await?;
    make_room(work, request, now).await?;
    let scopes = serde_json::to_string(&request.scopes)
        .map_err(|_| OAuthError::Unreadable { what: "list of scopes" })?;
    let state_digest = digest_of(&state);
    let sealed = |field, text: &str| -> Result<Vec<u8>, OAuthError> {
        let place = request_place(&state_digest, field)?;
        Ok(ring.seal(Purpose::Vault, &place, text.as_bytes(), &seam.randomness)?)
    };
    let (sealed_verifier, sealed_url) =
        (sealed(VERIFIER, &verifier)?, sealed(ADDRESS, authorization_url.as_str())?);
    let id = request.installation_id;
    work.write_later(&authorization_request::Entity::insert(authorization_request::ActiveModel {
        state_digest: Set(state_digest),
        installation_id: Set(id),
        generation: Set(request.generation),
        connection: Set(request.connection.clone()),
        target_digest: Set(request.target_digest.clone()),
        sealed_verifier: Set(sealed_verifier),
        sealed_url: Set(sealed_url),
        start_digest: Set(digest_of(&start_nonce)),
        browser_digest: Set(None),
        return_url: Set(request.return_url.clone()),
        created_at: Set(now.micros()),
        expires_at: Set(now.plus(LIFE).micros()),
        consumed_at: Set(None),
        purpose: Set(request.purpose.name().to_owned()),
        consent_id: Set(request.purpose.consent_id()),
        user_id: Set(request.purpose.user_id().to_owned()),
        service_name: Set(Some(request.service.name.clone())),
        scopes: Set(Some(scopes)),
        declared_in: Set(request.service.declared_in),
        granted_by: Set(request.granted_by.clone()),
    }));
    tracing::debug!(installation = %id, valid = until(now.plus(LIFE)), "authorisation begun");
    Ok(Begun { authorization_url, start_nonce })
}

/// The rows of one installation, purpose, connection and user.
fn alike(installation_id: Uuid, purpose: &AuthorizationPurpose, connection: &str) -> Condition {
    use authorization_request::Column;
    Condition::all()
        .add(Column::InstallationId.eq(installation_id))
        .add(Column::Purpose.eq(purpose.name()))
        .add(Column::Connection.eq(connection))
        .add(Column::UserId.eq(purpose.user_id()))
}

/// A state that has not expired, as far as it says what it was begun for.
#[derive(Debug, FromQueryResult)]
struct Live {
    state_digest: Vec<u8>,
    purpose: String,
    connection: String,
    user_id: String,
    consumed_at: Option<i64>,
}

impl Live {
    fn is_alike(&self, request: &AuthorizationRequest) -> bool {
        self.purpose == request.purpose.name()
            && self.connection == request.connection
            && self.user_id == request.purpose.user_id()
    }
}

/// Drops what expired, and the oldest live states beyond the bound: those of the same purpose,
/// connection and user, so that nobody pushes another out. One that is being exchanged stays until
/// that is over.
async fn make_room(
    work: &UnitOfWork,
    request: &AuthorizationRequest,
    now: Timestamp,
) -> Result<(), OAuthError> {
    use authorization_request::Column;
    let is_stale = Column::ExpiresAt.lte(now.minus(LIFE).micros());
    work.write_later(
        &authorization_request::Entity::delete_many()
            .filter(Column::ExpiresAt.lte(now.micros()))
            .filter(Condition::any().add(Column::ConsumedAt.is_null()).add(is_stale)),
    );
    if request.is_first {
        return Ok(());
    }
    let live: Vec<Live> = authorization_request::Entity::find()
        .select_only()
        .columns([
            Column::StateDigest,
            Column::Purpose,
            Column::Connection,
            Column::UserId,
            Column::ConsumedAt,
        ])
        .filter(Column::InstallationId.eq(request.installation_id))
        .filter(Column::ExpiresAt.gt(now.micros()))
        .order_by_desc(Column::CreatedAt)
        .limit(MOST_LIVE_OF_ALL)
        .into_model()
        .all(work.connection())
        .await?;
    if live.len() as u64 >= MOST_LIVE_OF_ALL {
        return Err(OAuthError::TooManyStates { most: MOST_LIVE_OF_ALL });
    }
    let surplus: Vec<Vec<u8>> = live
        .into_iter()
        .filter(|one| one.is_alike(request) && one.consumed_at.is_none())
        .skip(MOST_LIVE - 1)
        .map(|one| one.state_digest)
        .collect();
    if !surplus.is_empty() {
        authorization_request::Entity::delete_many()
            .filter(Column::StateDigest.is_in(surplus))
            .exec(work.connection())
            .await?;
    }
    Ok(())
}

/// Uses a one-time address: binds the browser and says where it goes on.
pub(crate) async fn start_browser(
    store: &Store,
    ring: &KeyRing,
    nonce: &str,
    seam: &Seam,
) -> Result<StartedBrowser, OAuthError> {
    let now = seam.clock.now();
    let work = store.begin().await?;
    let row = authorization_request::Entity::find()
        .filter(authorization_request::Column::StartDigest.eq(digest_of(nonce)))
        .lock_exclusive()
        .one(work.connection())
        .await?
        .filter(|row| {
            row.expires_at > now.micros()
                && row.consumed_at.is_none()
                && row.browser_digest.is_none()
        })
        .ok_or(OAuthError::InvalidState)?;
    let cookie = random_text(seam)?;
    authorization_request::Entity::update_many()
        .col_expr(authorization_request::Column::BrowserDigest, Expr::value(digest_of(&cookie)))
        .filter(authorization_request::Column::StateDigest.eq(row.state_digest.clone()))
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    let place = request_place(&row.state_digest, ADDRESS)?;
    let url = ring.unseal(Purpose::Vault, &place, &row.sealed_url)?;
    let authorization_url = std::str::from_utf8(url.expose())
        .ok()
        .and_then(|text| Url::parse(text).ok())
        .ok_or(OAuthError::Unreadable { what: "authorisation address" })?;
    let flow = row
        .state_digest
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Ok(StartedBrowser { authorization_url, flow, cookie: SecretText::new(cookie) })
}

/// Finds what a state belongs to, with the row of its installation, where that is of the state's
/// generation and has not ended; nothing is used up.
pub(crate) async fn find(
    store: &Store,
    state: &str,
    now: Timestamp,
) -> Result<(PendingAuthorization, Option<installation::Model>), OAuthError> {
    let of: RelationDef = authorization_request::Entity::belongs_to(installation::Entity)
        .from(authorization_request::Column::InstallationId)
        .to(installation::Column::Id)
        .into();
    let (row, installation) = authorization_request::Entity::find_by_id(digest_of(state))
        .join(JoinType::LeftJoin, of)
        .select_also(installation::Entity)
        .one(store.reader())
        .await?
        .filter(|(row, _)| row.expires_at > now.micros() && row.consumed_at.is_none())
        .ok_or(OAuthError::InvalidState)?;
    let installation = installation.filter(|one| one.live == 1 && one.generation == row.generation);
    // A purpose that this release does not know is another release's to finish.
    let purpose = AuthorizationPurpose::from_columns(&row.purpose, row.consent_id, &row.user_id)
        .ok_or(OAuthError::InvalidState)?;
    let scopes = match row.scopes.as_deref().map(serde_json::from_str) {
        Some(Ok(scopes)) => scopes,
        Some(Err(_)) => return Err(OAuthError::Unreadable { what: "list of scopes" }),
        None => Vec::new(),
    };
    let pending = PendingAuthorization {
        installation_id: row.installation_id,
        generation: row.generation,
        purpose,
        connection: row.connection,
        service: row.service_name.map(|name| Service { name, declared_in: row.declared_in }),
        scopes,
        granted_by: row.granted_by,
        target_digest: row.target_digest,
        return_url: row.return_url,
        state_digest: row.state_digest,
        browser_digest: row.browser_digest,
        sealed_verifier: row.sealed_verifier,
    };
    Ok((pending, installation))
}

impl PendingAuthorization {
    /// What the row of the state is known by.
    pub(crate) fn state_digest(&self) -> &[u8] {
        &self.state_digest
    }

    /// Whether a cookie is that of the browser which began.
    pub(crate) fn is_of_browser(&self, cookie: &str) -> bool {
        self.browser_digest
            .as_ref()
            .is_some_and(|bound| constant_time_equal(bound, &digest_of(cookie)))
    }

    /// Uses the state up, once, and exchanges the code.
    #[expect(clippy::too_many_arguments, reason = "called once; each is another room's")]
    pub(crate) async fn redeem(
        self,
        store: &Store,
        ring: &KeyRing,
        providers: &Providers,
        service: &Service,
        code: &str,
        asked: &[String],
        seam: &Seam,
    ) -> Result<GrantedTokens, OAuthError> {
        let verifier = ring.unseal(
            Purpose::Vault,
            &request_place(&self.state_digest, VERIFIER)?,
            &self.sealed_verifier,
        )?;
        let verifier = std::str::from_utf8(verifier.expose())
            .map_err(|_| OAuthError::Unreadable { what: "verifier" })?;
        let (id, state_digest) = (self.installation_id, &self.state_digest);
        let presented = (state_digest.as_slice(), code, verifier);
        let exchange = exchanges::begin(store, ring, id, service, presented, seam)
            .await?
            .ok_or(OAuthError::InvalidState)?;
        crash_point("authorize.before-exchange");
        let tokens = match providers.exchange(service, code, verifier).await {
            Ok(tokens) => tokens,
            Err(error) => {
                let now = seam.clock.now();
                let work = store.begin().await?;
                discarding::lock(&work, id).await?;
                forget_state(&work, state_digest).await?;
                // Else it may have been redeemed without our knowing: that is found out later.
                if !matches!(error, OAuthError::Unreachable { .. }) {
                    exchanges::end(&work, exchange).await?;
                    discarding::settle(&work, id, now).await?;
                }
                let _settled = work.commit(now).await?;
                return Err(error);
            }
        };
        Ok(GrantedTokens {
            exchange,
            service: service.clone(),
            access: tokens.access,
            refresh: tokens.refresh,
            expires_at: tokens.expires_at,
            // A missing `scope` means that everything asked for was granted (RFC 6749 5.1).
            scopes: tokens.scopes.unwrap_or_else(|| asked.to_vec()),
            asked: asked.to_vec(),
        })
    }
}

/// Drops one state.
pub(crate) async fn forget_state(work: &UnitOfWork, state_digest: &[u8]) -> Result<(), OAuthError> {
    authorization_request::Entity::delete_by_id(state_digest.to_vec())
        .exec(work.connection())
        .await?;
    Ok(())
}

/// Drops the states of one purpose, connection and user: a right answer ends the others. Asked
/// under the installation's lock, as everybody who drops states holds it. Returns the digests of
/// those that were being exchanged: what one of them was begun for was not taken back meanwhile.
pub(crate) async fn drop_alike(
    work: &UnitOfWork,
    installation_id: Uuid,
    purpose: &AuthorizationPurpose,
    connection: &str,
) -> Result<Vec<Vec<u8>>, OAuthError> {
    let dropped = authorization_request::Entity::delete_many()
        .filter(alike(installation_id, purpose, connection))
        .exec_with_returning(work.connection())
        .await?;
    let used = dropped.into_iter().filter(|row| row.consumed_at.is_some());
    Ok(used.map(|row| row.state_digest).collect())
}

/// Drops all states of an installation: it is gone.
pub(crate) async fn drop_states(
    work: &UnitOfWork,
    installation_id: Uuid,
) -> Result<(), OAuthError> {
    authorization_request::Entity::delete_many()
        .filter(authorization_request::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    Ok(())
}
