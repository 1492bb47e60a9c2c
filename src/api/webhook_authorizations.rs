//! `/webhooks/{id}/authorization`: somebody authorises an own webhook at its endpoint's authorisation
//! server, in a browser.

use axum::Extension;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::browser::{BackQuery, LONGEST_PARAMETER, bound, cookies, page, private};
use super::client_address::ClientAddress;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, Query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, Problem};
use super::state::ApiState;
use super::webhooks::changeable;
use crate::audit::Actor;
use crate::crypto::SecretText;
use crate::identifier::WebhookId;
use crate::webhook::own::{AuthorizationBegun, AuthorizationRefusal, OwnRefusal};

/// Where authorisation servers send the browser back to.
const CALLBACK: &str = "/oauth/webhooks/callback";

const AGAIN: &str = "Begin the authorisation of the webhook again.";

/// The routes of authorisations.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(begin)).routes(routes!(start)).routes(routes!(back))
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AuthorizationRequest {}

/// An authorisation that was begun.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuthorizationBody {
    /// To be opened in a browser; it works once.
    #[schema(value_type = String)]
    start_url: Url,
    /// What must be registered at the authorisation server.
    #[schema(value_type = String)]
    redirect_url: Url,
    /// Until when the link works.
    expires_time: String,
}

impl From<AuthorizationRefusal> for Problem {
    fn from(refusal: AuthorizationRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            AuthorizationRefusal::Own(refusal) => refusal.into(),
            AuthorizationRefusal::OtherAuthentication => {
                Self::new(Code::StateConflict).detail(text)
            }
            AuthorizationRefusal::InvalidState
            | AuthorizationRefusal::OtherBrowser
            | AuthorizationRefusal::NoTokens(_) => {
                Self::new(Code::UnprocessableEntity).detail(text)
            }
        }
    }
}

fn redirect_url(state: &ApiState) -> Url {
    let mut url = state.config().public_url.clone();
    url.set_path(CALLBACK);
    url
}

/// Begins to authorise an own webhook with the authentication `oauth2AuthorizationCode`. The link is
/// opened in a browser, which goes on to the authorisation server and comes back.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/authorization", tag = "webhooks",
    params(("id" = String, Path)), request_body = AuthorizationRequest,
    responses(
        (status = 201, description = "The link to open", body = AuthorizationBody),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
        (status = 409, description = "Its authentication is another one"),
    )
)]
async fn begin(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "authorize").await?;
    let request = Idempotent::<AuthorizationRequest>::from_request(request, &state).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let AuthorizationRequest {} = request.value;
    let mut turns = Turns::default();
    loop {
        let done = begin_once(&state, &caller, id, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn begin_once(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let redirect = redirect_url(state);
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let begun = own.begin_authorization(&mut work, id.0, &redirect, &caller.actor()).await;
    let AuthorizationBegun { link, expires_at } = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            work.rollback().await?;
            return Err(refusal.into());
        }
    };
    let mut start_url = state.config().public_url.clone();
    start_url.set_path(&format!("/oauth/webhooks/start/{}", link.expose()));
    let body =
        AuthorizationBody { start_url, redirect_url: redirect, expires_time: expires_at.rfc3339() };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

/// Binds the browser and sends it on to the authorisation server of an own webhook. Works once.
#[utoipa::path(
    get, path = "/oauth/webhooks/start/{nonce}", tag = "webhooks", params(("nonce" = String, Path)),
    responses((status = 303, description = "On to the authorisation server"), (status = 410, description = "Used or expired"))
)]
async fn start(
    State(state): State<ApiState>,
    method: Method,
    Path(nonce): Path<String>,
) -> Result<Response, Problem> {
    if method == Method::HEAD {
        // Whoever only looks must not use the link up.
        return Ok(private(StatusCode::OK.into_response()));
    }
    match state.services()?.own_webhooks.start_authorization(&nonce).await {
        Ok(started) => Ok(bound(&started.authorization_url, started.flow, &started.cookie)),
        Err(AuthorizationRefusal::InvalidState) => {
            Ok(page(StatusCode::GONE, "This link was used or has expired", AGAIN))
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes a browser back from the authorisation server of an own webhook.
#[utoipa::path(
    get, path = "/oauth/webhooks/callback", tag = "webhooks", params(BackQuery),
    responses(
        (status = 200, description = "Authorised, said in words"),
        (status = 400, description = "Not authorised, said in words"),
        (status = 422, description = "The state is not valid here, or no tokens came, said in words"),
    )
)]
async fn back(
    State(state): State<ApiState>,
    peer: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    Query(query): Query<BackQuery>,
) -> Result<Response, Problem> {
    let texts = [&query.code, &query.state, &query.error];
    if texts.into_iter().flatten().any(|text| text.len() > LONGEST_PARAMETER) {
        return Ok(page(StatusCode::BAD_REQUEST, "This address is not valid", AGAIN));
    }
    if query.error.is_some() {
        let why = "The authorisation server did not authorise. Nothing was changed.";
        return Ok(page(StatusCode::BAD_REQUEST, "Not authorised", why));
    }
    let (Some(code), Some(state_text)) = (query.code, query.state) else {
        return Ok(page(StatusCode::BAD_REQUEST, "This address is not valid", AGAIN));
    };
    let actor = Actor {
        name: "browser".to_owned(),
        address: peer.map(|Extension(ClientAddress(address))| address),
    };
    let own = state.services()?.own_webhooks.clone();
    let (redirect, cookies) = (redirect_url(&state), cookies(&headers));
    // In a task of its own: a tab that is closed must not leave tokens that nobody knows of.
    let task = tokio::spawn(async move {
        let code = SecretText::new(code);
        own.finish_authorization(&state_text, &code, &cookies, &redirect, &actor).await
    });
    match task.await.map_err(|error| Problem::internal(&error))? {
        Ok(_) => {
            let text = "The webhook is authorised. You can close this window.";
            Ok(page(StatusCode::OK, "Authorised", text))
        }
        Err(AuthorizationRefusal::Own(OwnRefusal::Store(error))) => Err(error.into()),
        Err(error) => {
            let problem = Problem::from(error);
            if problem.status().is_client_error() {
                return Ok(page(problem.status(), "Not authorised", problem.text()));
            }
            Err(problem)
        }
    }
}
