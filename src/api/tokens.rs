//! API tokens over HTTP: an operator lists, makes and revokes them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::answers::{AnswerGuard, Begun};
use super::extract::{Idempotent, Json, Path, Query, json_bytes};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::role::{Role, Scope, Scopes};
use super::state::ApiState;
use super::token_store::{
    NewToken, TokenError, TokenRecord, TokenValue, UnfitToken, create_in, list_tokens, revoke_token,
};
use crate::identifier::{OrgId, TokenId, VendorKey};
use crate::seam::Timestamp;

/// A token that is wanted.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenRequest {
    /// Its role.
    pub role: Role,
    /// Its org; needed for an admin or viewer, and for them only.
    pub org_id: Option<OrgId>,
    /// Its vendor; needed for a vendor, and for it only.
    pub vendor: Option<VendorKey>,
    /// What it is narrowed to, in the reference's names; left out: not narrowed.
    pub scopes: Option<Vec<Scope>>,
    /// A name for people, 1 to 100 characters.
    pub name: Option<String>,
    /// When it stops working by itself, RFC 3339; left out: never.
    pub expires_at: Option<String>,
}

impl TokenRequest {
    /// Checks it against the rules.
    fn check(self, now: Timestamp) -> Result<NewToken, Problem> {
        let expires_at = self
            .expires_at
            .map(|text| {
                Timestamp::parse_rfc3339(&text).ok_or_else(|| {
                    invalid(
                        "/expiresAt",
                        "must be a moment in RFC 3339, such as 2030-01-01T00:00:00Z",
                    )
                })
            })
            .transpose()?;
        let scopes = match self.scopes {
            None => None,
            Some(scopes) if scopes.len() > 50 => {
                return Err(invalid("/scopes", "must have at most 50 entries"));
            }
            // An empty list would read as "nothing" and work as "everything".
            Some(scopes) => match Scopes::new(scopes) {
                None => return Err(invalid("/scopes", "must have an entry, or be left out")),
                scopes => scopes,
            },
        };
        let unfit = |error: UnfitToken| invalid(error.field(), &error.to_string());
        NewToken::new(self.role, self.org_id, self.vendor)
            .map(|new| new.narrowed(scopes))
            .and_then(|new| new.named(self.name))
            .and_then(|new| new.until(expires_at, now))
            .map_err(unfit)
    }
}

fn invalid(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

/// A token without its value.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Its role.
    pub role: Role,
    /// Its org.
    #[schema(required)]
    pub org_id: Option<OrgId>,
    /// Its vendor.
    #[schema(required)]
    pub vendor: Option<VendorKey>,
    /// What it is narrowed to; null: not narrowed.
    #[schema(required)]
    pub scopes: Option<Vec<Scope>>,
    /// Its name.
    #[schema(required)]
    pub name: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it stops working by itself, RFC 3339.
    #[schema(required)]
    pub expires_at: Option<String>,
    /// When it was revoked, RFC 3339.
    #[schema(required)]
    pub revoked_at: Option<String>,
}

impl From<TokenRecord> for TokenView {
    fn from(record: TokenRecord) -> Self {
        Self {
            id: record.id,
            role: record.role,
            org_id: record.org,
            vendor: record.vendor,
            scopes: record.scopes.map(|scopes| scopes.as_slice().to_vec()),
            name: record.name,
            created_at: record.created_at.rfc3339(),
            expires_at: record.expires_at.map(Timestamp::rfc3339),
            revoked_at: record.revoked_at.map(Timestamp::rfc3339),
        }
    }
}

/// A token that was made, with its value.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenCreated {
    /// What is known of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// The value, which is told here and never again.
    pub token: String,
}

impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenCreated").field("view", &self.view).finish_non_exhaustive()
    }
}

impl TokenCreated {
    /// What was made.
    pub fn new(record: TokenRecord, value: &TokenValue) -> Self {
        Self { view: record.into(), token: value.expose().to_owned() }
    }
}

/// Which tokens are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct TokenList {
    /// The `nextCursor` of a former page.
    #[param(value_type = Option<String>)]
    cursor: Option<AfterId>,
    /// How many, at most 200.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// List API tokens, the newest first
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens", params(TokenList),
    responses((status = 200, body = Page<TokenView>))
)]
async fn list(
    State(state): State<ApiState>,
    Query(list): Query<TokenList>,
) -> Result<Json<Page<TokenView>>, Problem> {
    let before = list.cursor.map(|AfterId(id)| id);
    let rows = list_tokens(state.store(), before, list.limit.rows()).await?;
    let page = Page::new(rows, list.limit, |record| Cursor::Id(record.id.0));
    Ok(Json(page.map(TokenView::from)))
}

/// Make an API token; its value is told once
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request repeatable for 24 h")),
    responses((status = 201, body = TokenCreated))
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<TokenRequest>,
) -> Result<Response, Problem> {
    let guard = match state.answers().begin(request.key).await? {
        Begun::Replay(answer) => return Ok(answer.into_response()),
        Begun::Fresh(guard) => guard,
    };
    let new = request.value.check(state.seam().clock.now())?;
    match make(&state, &caller, new, &guard).await {
        Ok(body) => Ok(json_bytes(StatusCode::CREATED, body)),
        Err(TokenError::Store(crate::store::StoreError::Conflict)) => {
            match state.answers().after_conflict(guard.key()).await? {
                Some(answer) => Ok(answer.into_response()),
                None => Err(crate::store::StoreError::Conflict.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn make(
    state: &ApiState,
    caller: &Caller,
    new: NewToken,
    guard: &AnswerGuard,
) -> Result<Vec<u8>, TokenError> {
    let now = state.seam().clock.now();
    let work = state.store().begin().await?;
    let (record, value) = create_in(&work, state.seam(), new, &caller.actor(), now).await?;
    let body = serde_json::to_vec(&TokenCreated::new(record, &value))
        .map_err(|_| crate::store::StoreError::Corrupt { what: "API token" })?;
    guard.keep(&work, StatusCode::CREATED, &body, now).await?;
    let _no_routing = work.commit(now).await?;
    Ok(body)
}

/// Revoke an API token
///
/// When the answer is there, no node takes the token any more. A second time it changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)),
    responses((status = 204, description = "Revoked"))
)]
async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<TokenId>,
) -> Result<StatusCode, Problem> {
    let revision = revoke_token(state.store(), state.seam(), id, &caller.actor())
        .await?
        .ok_or_else(|| Problem::not_found("token"))?;
    state.authenticator().forget(&[id]);
    state.settle(revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unfit(unfit) => invalid(unfit.field(), &unfit.to_string()),
            TokenError::Store(error) => error.into(),
            TokenError::Randomness | TokenError::File { .. } => Self::internal(&error),
        }
    }
}

/// The routes of this file.
pub(crate) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use serde_json::json;

    use super::*;
    use crate::api::extract::IDEMPOTENCY_KEY;
    use crate::api::testing::TestApi;
    use crate::api::token_store::{OPERATOR_TOKEN_FILE, make_first_operator_token};

    #[tokio::test]
    async fn a_value_is_told_once_and_a_repeated_request_makes_no_second_token() {
        let api = TestApi::start().await;
        let post = |key: &str, body: serde_json::Value| {
            Request::post("/api/v1/tokens")
                .header("authorization", format!("Bearer {}", api.operator))
                .header("content-type", "application/json")
                .header(IDEMPOTENCY_KEY, key)
                .body(body.to_string().into())
                .unwrap()
        };
        let body = json!({"role": "vendor", "vendor": "acme", "name": "Acme"});
        let first = api.send(post("k1", body.clone())).await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.json);
        let again = api.send(post("k1", body)).await;
        assert_eq!((again.status, &again.json), (StatusCode::CREATED, &first.json));
        let other = api.send(post("k1", json!({"role": "operator"}))).await;
        assert_eq!(other.json["errorCode"], "IDEMPOTENCY_KEY_REUSED");
        let bad = api.send(post("a b", json!({"role": "operator"}))).await;
        assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);

        let list = api.call(Method::GET, "/api/v1/tokens", &api.operator, None).await;
        let names: Vec<_> =
            list.json["data"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
        assert_eq!(names, ["Acme", "first start"]);
        let value = first.json["token"].as_str().unwrap();
        assert!(!list.json.to_string().contains(value));
        assert_eq!(crate::audit::verify(api.state.store(), "").await.unwrap(), None);
    }

    #[tokio::test]
    async fn faults_name_their_field() {
        let api = TestApi::start().await;
        for (body, field) in [
            (json!({}), "/role"),
            (json!({"role": "root"}), "/role"),
            (json!({"role": "admin"}), "/orgId"),
            (json!({"role": "operator", "orgId": "1"}), "/orgId"),
            (json!({"role": "vendor"}), "/vendor"),
            (json!({"role": "vendor", "vendor": "Not a key"}), "/vendor"),
            (json!({"role": "operator", "scopes": []}), "/scopes"),
            (json!({"role": "operator", "scopes": ["x"]}), "/scopes/0"),
            (json!({"role": "operator", "name": ""}), "/name"),
            (json!({"role": "operator", "expiresAt": "tomorrow"}), "/expiresAt"),
            (json!({"role": "operator", "expiresAt": "2000-01-01T00:00:00Z"}), "/expiresAt"),
            (json!({"role": "operator", "expire": 1}), "/expire"),
        ] {
            let answer =
                api.call(Method::POST, "/api/v1/tokens", &api.operator, Some(body.clone())).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert_eq!(answer.json["errors"][0]["fieldName"], field, "{body}: {}", answer.json);
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_end() {
        let api = TestApi::start().await;
        for name in ["a", "b", "c"] {
            api.token(json!({"role": "host", "name": name})).await;
        }
        let mut names = Vec::new();
        let mut path = "/api/v1/tokens?limit=2".to_owned();
        loop {
            let page = api.call(Method::GET, &path, &api.operator, None).await;
            let rows = page.json["data"].as_array().unwrap().clone();
            names.extend(rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()));
            let Some(cursor) = page.json["nextCursor"].as_str() else { break };
            path = format!("/api/v1/tokens?limit=2&cursor={cursor}");
        }
        assert_eq!(names, ["c", "b", "a", "first start"]);
        let unknown = api.call(Method::GET, "/api/v1/tokens?page=2", &api.operator, None).await;
        assert_eq!(unknown.json["errors"][0]["fieldName"], "page");
    }

    #[tokio::test]
    async fn an_unknown_token_is_not_found_and_a_bad_id_too() {
        let api = TestApi::start().await;
        for id in ["0198c5b2-0000-7000-8000-000000000000", "nonsense"] {
            let path = format!("/api/v1/tokens/{id}");
            let answer = api.call(Method::DELETE, &path, &api.operator, None).await;
            assert_eq!(answer.json["errorCode"], "RESOURCE_NOT_FOUND", "{id}");
        }
    }

    #[tokio::test]
    async fn the_first_operator_token_is_made_once_for_its_owner_alone() {
        let api = TestApi::start().await;
        let folder = api.state.config().data_dir.clone();
        let again = make_first_operator_token(api.state.store(), api.state.seam(), &folder).await;
        assert_eq!(again.unwrap(), None);
        let file = folder.join(OPERATOR_TOKEN_FILE);
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), api.operator);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
