//! Who calls, and whether they may: everything that the table of routes does not open needs a
//! token, and what the table does not name is refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::client_address::ClientAddress;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::{Role, Scopes};
use super::routes::{self, Access, Lookup, Route};
use super::state::ApiState;
use super::subject;
use super::token_store::{TokenRecord, TokenValue, find_by_digest};
use crate::audit::Actor;
use crate::identifier::{OrgId, TokenId, VendorKey};
use crate::seam::{Clock, Timestamp};
use crate::store::{Store, StoreError};

/// How long a token is believed without asking the database again. Revocations are told to every
/// node and take effect at once; this bounds only what a lost message could do.
const BELIEVED: Duration = Duration::from_secs(30);

/// How many tokens are remembered.
const CACHE_LIMIT: usize = 10_000;

/// The header and the parameter that name an org.
const ORG_ID: &str = "orgId";

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token.
    pub token: TokenId,
    /// Its role.
    pub role: Role,
    /// Its org, for an admin or viewer.
    pub org: Option<OrgId>,
    /// Its vendor, for a vendor.
    pub vendor: Option<VendorKey>,
    /// What the token was narrowed to.
    pub scopes: Option<Scopes>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Who sits before the page that makes the request, as the host names him.
    pub subject: Option<Arc<str>>,
}

/// A caller whom a session of the pages lets in. Only this process can lay it on a request: what
/// comes over the wire has no such thing.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(pub(crate) Caller);

impl Caller {
    /// The caller of an authenticated request.
    ///
    /// # Errors
    /// 500 on an open path: a handler there must not ask.
    pub fn of(parts: &Parts) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a handler of an open path asked for its caller");
            Problem::new(Code::InternalServerError)
        })
    }

    /// The same for history and audit.
    pub fn actor(&self) -> Actor {
        Actor {
            name: subject::actor_name(self.role, self.subject.as_deref(), self.token),
            address: self.address,
        }
    }

    /// The org that a request is about: the token's, else what the header or the parameter `orgId`
    /// names.
    ///
    /// # Errors
    /// 403 where the request names another org than the token's; 422 where none is named, or two.
    pub fn org_of(&self, parts: &Parts) -> Result<OrgId, Problem> {
        let named = named_org(parts)?;
        match (&self.org, named) {
            (Some(own), None) => Ok(own.clone()),
            (Some(own), Some(named)) if *own == named => Ok(named),
            (Some(_), Some(_)) => Err(Problem::new(Code::OauthOrgMismatch)),
            (None, Some(named)) => Ok(named),
            (None, None) => Err(Problem::invalid(vec![FieldError::new(
                ORG_ID,
                FieldErrorKind::Missing,
                "is needed as a header or query parameter: this token belongs to no org",
            )])),
        }
    }
}

fn named_org(parts: &Parts) -> Result<Option<OrgId>, Problem> {
    let refused = |message: String| {
        Problem::invalid(vec![FieldError::new(ORG_ID, FieldErrorKind::Invalid, message)])
    };
    let query = parts.uri.query().unwrap_or_default();
    let in_query = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == ORG_ID)
        .map(|(_, value)| value.into_owned());
    let in_headers = parts.headers.get_all(ORG_ID).iter().map(|value| {
        // Header bytes outside of ASCII are not defined; an org with such a name uses the query.
        value.to_str().unwrap_or_default().to_owned()
    });
    let mut orgs = in_query.chain(in_headers).collect::<Vec<_>>();
    orgs.dedup();
    match orgs.as_slice() {
        [] => Ok(None),
        [one] => OrgId::new(one).map(Some).map_err(|error| refused(error.to_string())),
        _ => Err(refused("must name one org, not several".to_owned())),
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        Self::of(parts)
    }
}

/// The org that a request is about: see [`Caller::org_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallersOrg(pub OrgId);

impl FromRequestParts<ApiState> for CallersOrg {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        Caller::of(parts)?.org_of(parts).map(Self)
    }
}

/// Knows tokens. Cloning shares what it remembers.
#[derive(Clone, Debug)]
pub struct Authenticator {
    store: Store,
    clock: Clock,
    cache: Arc<RwLock<Cache>>,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<[u8; 32], Entry>,
    /// Counts the calls of `forget`: what was read before one is not remembered after it.
    forgotten: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Arc<TokenRecord>,
    read_at: Timestamp,
}

impl Authenticator {
    /// Knows the tokens of a database.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, cache: Arc::default() }
    }

    /// The live token with a value; nothing where it is unknown, expired or revoked.
    pub async fn find(&self, value: &TokenValue) -> Result<Option<Arc<TokenRecord>>, StoreError> {
        let digest = value.digest();
        let now = self.clock.now();
        let (known, forgotten) = self.read(|cache| {
            let fresh = cache.entries.get(&digest).filter(|entry| is_fresh(entry, now));
            (fresh.map(|entry| Arc::clone(&entry.record)), cache.forgotten)
        });
        let record = match known {
            Some(record) => record,
            None => match find_by_digest(&self.store, &digest).await? {
                Some(record) => self.remember(digest, Arc::new(record), now, forgotten),
                None => return Ok(None),
            },
        };
        Ok(record.is_live(now).then_some(record))
    }

    /// Forgets tokens, at once and for requests that are being looked up too. Whoever applies a
    /// `RoutingChange::Token` calls it.
    pub fn forget(&self, tokens: &[TokenId]) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.forgotten += 1;
        cache.entries.retain(|_, entry| !tokens.contains(&entry.record.id));
    }

    fn remember(
        &self,
        digest: [u8; 32],
        record: Arc<TokenRecord>,
        now: Timestamp,
        forgotten: u64,
    ) -> Arc<TokenRecord> {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.forgotten == forgotten {
            if cache.entries.len() >= CACHE_LIMIT {
                cache.entries.retain(|_, entry| is_fresh(entry, now));
            }
            if cache.entries.len() >= CACHE_LIMIT {
                cache.entries.clear();
            }
            cache.entries.insert(digest, Entry { record: Arc::clone(&record), read_at: now });
        }
        record
    }

    fn read<T>(&self, with: impl FnOnce(&Cache) -> T) -> T {
        with(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_fresh(entry: &Entry, now: Timestamp) -> bool {
    // A clock that was set back makes an entry old, not young.
    now >= entry.read_at && now.since(entry.read_at) < BELIEVED
}

/// Guards every path: lets a request on, with its caller where the table asks for one.
pub(crate) async fn guard(state: &ApiState, request: &mut Request) -> Result<(), Problem> {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    let route = match routes::find(request.method(), matched.as_str()) {
        Lookup::Found(route) => route,
        Lookup::OtherMethods(allow) => return Err(method_not_allowed(&allow)),
        Lookup::Unknown => {
            tracing::error!(
                method = %request.method(),
                path = matched.as_str(),
                "a mounted path is missing in the table of routes; it is refused"
            );
            return Err(Problem::new(Code::InternalServerError));
        }
    };
    if let Access::Roles(roles) = route.access {
        let address = ClientAddress::of(request.extensions());
        let admitted = request.extensions_mut().remove::<Admitted>();
        let caller = if let Some(Admitted(caller)) = admitted {
            permit(route, roles, caller.role, caller.scopes.as_ref())?;
            caller
        } else {
            let value = bearer_token(request.headers(), route.path)?;
            admit(state, route, roles, &value, address).await?
        };
        tracing::Span::current().record("caller", tracing::field::display(caller.token));
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

fn method_not_allowed(allow: &str) -> Problem {
    let problem = Problem::new(Code::MethodNotAllowed)
        .detail(format!("The methods that this path takes are {allow}."));
    match HeaderValue::from_str(allow) {
        Ok(value) => problem.header(ALLOW, value),
        Err(_) => problem,
    }
}

async fn admit(
    state: &ApiState,
    route: &Route,
    roles: &[Role],
    value: &TokenValue,
    address: Option<IpAddr>,
) -> Result<Caller, Problem> {
    let record = state
        .authenticator()
        .find(value)
        .await?
        .ok_or_else(|| invalid_token("The token is unknown, expired or revoked."))?;
    permit(route, roles, record.role, record.scopes.as_ref())?;
    Ok(Caller {
        token: record.id,
        role: record.role,
        org: record.org.clone(),
        vendor: record.vendor.clone(),
        scopes: record.scopes.clone(),
        address,
        subject: None,
    })
}

/// Whether a role, narrowed to scopes or not, may call a route.
fn permit(
    route: &Route,
    roles: &[Role],
    role: Role,
    scopes: Option<&Scopes>,
) -> Result<(), Problem> {
    if !roles.contains(&role) {
        let needed = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>();
        return Err(Problem::new(Code::Forbidden)
            .detail(format!(
                "The role {role} may not do this; it takes one of: {}.",
                needed.join(", ")
            ))
            .with("neededRoles", needed));
    }
    let Some(scopes) = scopes else { return Ok(()) };
    match route.scope {
        Some(scope) if scopes.cover(scope) => Ok(()),
        Some(scope) => Err(Problem::new(Code::ScopeMismatch)
            .detail(format!("The token lacks the scope {scope}."))
            .with("neededScope", scope)),
        None => Err(Problem::new(Code::ScopeMismatch)
            .detail("A token that is narrowed to scopes may not do this.")),
    }
}

/// Whether a role, narrowed to scopes or not, may call a route of the table, given by its pattern.
/// A page leaves out what would be refused.
pub(crate) fn may(role: Role, scopes: Option<&Scopes>, method: &Method, path: &str) -> bool {
    let Lookup::Found(route) = routes::find(method, path) else { return false };
    match route.access {
        Access::Open => true,
        Access::Roles(roles) => permit(route, roles, role, scopes).is_ok(),
    }
}

/// Takes the token out of `Authorization`. The desk dialect's scheme works on its own paths only.
fn bearer_token(headers: &HeaderMap, path: &str) -> Result<TokenValue, Problem> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else {
        return Err(no_token("`Authorization: Bearer <token>` is needed, once."));
    };
    let text = value.to_str().unwrap_or_default().trim();
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let is_known = scheme.eq_ignore_ascii_case("Bearer")
        || (routes::is_desk_dialect(path) && scheme.eq_ignore_ascii_case("Zoho-oauthtoken"));
    if !is_known {
        return Err(no_token("The scheme of `Authorization` must be `Bearer` here."));
    }
    TokenValue::parse(token.trim())
        .ok_or_else(|| invalid_token("The token is not in the form of one of this server."))
}

fn no_token(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthorized)
        .detail(detail)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mortise\""))
}

fn invalid_token(detail: &'static str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"mortise\", error=\"invalid_token\"");
    Problem::new(Code::InvalidOauth).detail(detail).header(WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::api::role::Scope;
    use crate::api::testing::TestApi;

    #[tokio::test]
    async fn without_a_good_token_there_is_a_challenge() {
        let api = TestApi::start().await;
        let stranger = format!("mortise_{}", "A".repeat(43));
        for (authorization, code) in [
            (None, "UNAUTHORIZED"),
            (Some("Basic YTpi".to_owned()), "UNAUTHORIZED"),
            (Some(format!("Zoho-oauthtoken {}", api.operator)), "UNAUTHORIZED"),
            (Some("Bearer nonsense".to_owned()), "INVALID_OAUTH"),
            (Some(format!("Bearer {stranger}")), "INVALID_OAUTH"),
        ] {
            let mut request = http::Request::get("/api/v1/tokens");
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let answer = api.send(request.body(axum::body::Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert_eq!(answer.json["errorCode"], code, "{authorization:?}");
            assert!(answer.headers.contains_key(WWW_AUTHENTICATE));
        }
    }

    #[tokio::test]
    async fn a_small_role_or_scope_is_told_what_is_missing() {
        let api = TestApi::start().await;
        let viewer = api.token(json!({"role": "viewer", "orgId": "1"})).await;
        let answer = api.call(Method::GET, "/api/v1/tokens", &viewer, None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.json["neededRoles"], json!(["operator"]));
        let narrow = json!({"role": "operator", "scopes": ["Desk.webhooks.READ"]});
        let narrow = api.token(narrow).await;
        let answer = api.call(Method::GET, "/api/v1/tokens", &narrow, None).await;
        assert_eq!(answer.json["errorCode"], "SCOPE_MISMATCH");
    }

    #[tokio::test]
    async fn a_revoked_token_stops_at_once_and_an_old_one_by_itself() {
        let api = TestApi::start().await;
        let made = api
            .call(Method::POST, "/api/v1/tokens", &api.operator, Some(json!({"role": "operator"})))
            .await;
        let (token, id) = (made.json["token"].as_str().unwrap(), made.json["id"].as_str().unwrap());
        let list = async |token: &str| api.call(Method::GET, "/api/v1/tokens", token, None).await;
        assert_eq!(list(token).await.status, StatusCode::OK);
        let path = format!("/api/v1/tokens/{id}");
        let gone = api.call(Method::DELETE, &path, &api.operator, None).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
        assert_eq!(list(token).await.status, StatusCode::UNAUTHORIZED);

        let expires_at = api.state.seam().clock.now().plus(Duration::from_mins(1)).rfc3339();
        let token = api.token(json!({"role": "operator", "expiresAt": expires_at})).await;
        assert_eq!(list(&token).await.status, StatusCode::OK);
        api.state.seam().clock.advance(Duration::from_secs(61));
        assert_eq!(list(&token).await.status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn what_was_read_before_a_revocation_is_not_remembered_after_it() {
        let api = TestApi::start().await;
        let known = api.state.authenticator();
        let value = TokenValue::parse(&api.operator).unwrap();
        let record = known.find(&value).await.unwrap().unwrap();
        let before = known.read(|cache| cache.forgotten);
        known.forget(&[record.id]);
        known.remember(value.digest(), Arc::clone(&record), api.state.seam().clock.now(), before);
        assert_eq!(known.read(|cache| cache.entries.len()), 0);
    }

    #[test]
    fn an_org_comes_from_the_token_or_the_request() {
        let caller = |org: Option<&str>| Caller {
            token: TokenId(uuid::Uuid::nil()),
            role: Role::Admin,
            org: org.map(|org| OrgId::new(org).unwrap()),
            vendor: None,
            scopes: Scopes::new(vec![Scope::new("a.b").unwrap()]),
            address: None,
            subject: None,
        };
        let parts = |uri: &str, header: Option<&str>| {
            let mut request = http::Request::get(uri);
            if let Some(header) = header {
                request = request.header(ORG_ID, header);
            }
            request.body(()).unwrap().into_parts().0
        };
        for (own, uri, header, expected) in [
            (Some("1"), "/x", None, Ok("1")),
            (Some("1"), "/x?orgId=1", Some("1"), Ok("1")),
            (Some("1"), "/x?orgId=2", None, Err(Code::OauthOrgMismatch)),
            (None, "/x?orgId=2", None, Ok("2")),
            (None, "/x", Some("3"), Ok("3")),
            (None, "/x?orgId=2", Some("3"), Err(Code::InvalidData)),
            (None, "/x?orgId=", None, Err(Code::InvalidData)),
            (None, "/x", None, Err(Code::InvalidData)),
        ] {
            let org = caller(own).org_of(&parts(uri, header));
            let org = org.as_ref().map(OrgId::as_str).map_err(Problem::code);
            assert_eq!(org, expected, "{own:?} {uri} {header:?}");
        }
    }
}
