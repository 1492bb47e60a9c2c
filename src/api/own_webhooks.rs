//! An org's own webhooks: made, copied, switched on and off, changed and removed. An extension's is
//! refused before any of this is reached.

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, RawBody, parse_json, require_json};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::shapes::WebhookBody;
use super::state::ApiState;
use super::url_check;
use super::webhooks::changeable;
use crate::audit::Actor;
use crate::event::placeholders;
use crate::identifier::{OrgId, WebhookId};
use crate::lifecycle;
use crate::store::UnitOfWork;
use crate::webhook::own::{
    Created, Current, Definition, FieldFault, OwnRefusal, WebhookPatch, WebhookRequest,
};

/// How often a change is worked out anew that another one came before.
const MOST_READINGS: u32 = 16;

/// The routes of own webhooks, beside those that they share with extensions' ones.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(clone))
        .routes(routes!(enable))
        .routes(routes!(disable))
}

/// A webhook that was made or changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenBody {
    /// The webhook.
    #[serde(flatten)]
    webhook: WebhookBody,
    /// What it signs with, where that was made here: told once, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What may be a mistake.
    warnings: Vec<String>,
}

impl From<FieldFault> for FieldError {
    fn from(fault: FieldFault) -> Self {
        let kind = if fault.is_missing { FieldErrorKind::Missing } else { FieldErrorKind::Invalid };
        let mut error = Self::new(fault.pointer, kind, fault.message);
        error.suggestion = fault.suggestion;
        error
    }
}

impl From<OwnRefusal> for Problem {
    fn from(refusal: OwnRefusal) -> Self {
        let text = format!("{refusal}.");
        let limited = |feature: &str| {
            Self::new(Code::LicenseAccessLimited)
                .detail(capitalised(&text))
                .with("feature", feature)
        };
        match refusal {
            OwnRefusal::Store(error) => error.into(),
            OwnRefusal::Crypto(error) => Self::internal(&error),
            OwnRefusal::Faults(faults) => Self::invalid(faults.into_iter().map(FieldError::from)),
            OwnRefusal::Unknown => Self::not_found("webhook"),
            OwnRefusal::Unreadable | OwnRefusal::Closing => {
                Self::new(Code::StateConflict).detail(capitalised(&text))
            }
            OwnRefusal::Changed => Self::new(Code::Conflict),
            OwnRefusal::UnknownRule => Self::not_found("trigger or automation"),
            OwnRefusal::TooManyRules { limit, .. } => {
                limited("rules").with("maxAllowedEntity", limit)
            }
            OwnRefusal::InUse { ref rules } => {
                let used_by: Vec<_> = rules
                    .iter()
                    .map(|(kind, id, name)| json!({ "kind": kind, "id": id, "name": name }))
                    .collect();
                Self::new(Code::StateConflict).detail(capitalised(&text)).with("usedBy", used_by)
            }
            OwnRefusal::TooMany { limit } => limited("webhooks").with("maxAllowedEntity", limit),
            OwnRefusal::TooManyOfEvent { limit, .. } => {
                limited("webhooksPerEvent").with("maxAllowedEntity", limit)
            }
            OwnRefusal::Dialect { .. } => limited("dialects"),
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

/// Ends a transaction that was refused.
pub(super) async fn refused(work: UnitOfWork, refusal: OwnRefusal) -> Problem {
    match work.rollback().await {
        Ok(()) => refusal.into(),
        Err(error) => error.into(),
    }
}

/// A webhook as a transaction leaves it.
pub(super) async fn shown(
    state: &ApiState,
    work: &UnitOfWork,
    id: uuid::Uuid,
) -> Result<WebhookBody, Problem> {
    let view =
        lifecycle::webhook_within(work, id).await?.ok_or_else(|| Problem::not_found("webhook"))?;
    Ok(WebhookBody::from(view).complete(state))
}

/// Makes a webhook of the org's own. Only `url` and `subscriptions` are needed.
#[utoipa::path(
    post, path = "/api/v1/webhooks", tag = "webhooks", request_body = WebhookRequest,
    responses(
        (status = 201, description = "It is there; what it signs with is told once", body = WrittenBody),
        (status = 403, description = "The plan of the org has no room for it"),
        (status = 422, description = "Members break their rules, or nothing answers at its address"),
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let request = Request::from_parts(parts, body);
    // A body that cannot be read is refused before anything that is missing in the head.
    let request = Idempotent::<WebhookRequest>::from_request(request, &state).await?;
    let org = caller.org_of(&head)?;
    let definition = state.services()?.own_webhooks.check(org.as_str(), request.value).await?;
    known_in_address(&definition)?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    make(&state, &caller, &org, &definition, &effect).await
}

/// Makes a webhook as a definition has it, and answers it.
pub(super) async fn make(
    state: &ApiState,
    caller: &Caller,
    org: &OrgId,
    definition: &Definition,
    effect: &Effect,
) -> Result<Response, Problem> {
    url_check::check(state, caller, org.as_str(), definition).await?;
    let mut turns = Turns::default();
    loop {
        let done = make_once(state, org, definition, None, &caller.actor(), effect).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn make_once(
    state: &ApiState,
    org: &OrgId,
    definition: &Definition,
    copied: Option<&Current>,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let own = &services.own_webhooks;
    let mut work = services.lifecycle.begin().await?;
    let made = match copied {
        None => own.create(&mut work, org.as_str(), definition.clone(), actor).await,
        Some(from) => own.copy(&mut work, from, definition.clone(), actor).await,
    };
    let Created { id, secret } = match made {
        Ok(created) => created,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let body = WrittenBody {
        webhook: shown(state, &work, id).await?,
        secret: secret.map(|secret| secret.expose().to_owned()),
        warnings: definition.warnings.clone(),
    };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

/// Refuses placeholders in the address that no event has.
pub(super) fn known_in_address(definition: &Definition) -> Result<(), Problem> {
    let Some(address) = definition.request.address() else { return Ok(()) };
    let unknown = placeholders::unknown(address.placeholders(), &[]);
    if unknown.is_empty() {
        return Ok(());
    }
    let error = |one: &placeholders::UnknownPlaceholder| {
        let mut error = FieldError::new("/url", FieldErrorKind::Invalid, one.to_string());
        error.suggestion.clone_from(&one.nearest);
        error
    };
    Err(Problem::invalid(unknown.iter().map(error)))
}

/// The request that a patch makes of a webhook that is there, checked.
async fn changed(
    state: &ApiState,
    seen: &Current,
    patch: &WebhookPatch,
) -> Result<Definition, Problem> {
    let merged = serde_json::to_vec(&seen.patched(patch.clone()))
        .map_err(|error| Problem::internal(&error))?;
    let request: WebhookRequest = parse_json(&merged)?;
    let own = &state.services()?.own_webhooks;
    let definition = own.check_change(seen.org_id(), request, &seen.kept(patch)).await?;
    known_in_address(&definition)?;
    Ok(definition)
}

/// Makes a copy of an own webhook, with what is to be otherwise. It has another id, secret and
/// source, comes with the credentials of the original where its address has the same origin, and is
/// switched off where nothing is said of that.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/clone", tag = "webhooks", params(("id" = String, Path)),
    request_body = WebhookPatch,
    responses(
        (status = 201, description = "The copy; what it signs with is told once", body = WrittenBody),
        (status = 403, description = "The webhook belongs to an extension, or the plan has no room"),
        (status = 404, description = "No such webhook"),
    )
)]
async fn clone(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "clone").await?;
    let request = Idempotent::<WebhookPatch>::from_request(request, &state).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let seen = state.services()?.own_webhooks.current(id.0).await?;
    let patch = request.value.for_copy(seen.name_of_copy());
    let mut definition = changed(&state, &seen, &patch).await?;
    if !patch.names_source() {
        definition.ignore_source_id = None;
    }
    if definition.url != seen.url() {
        url_check::check(&state, &caller, seen.org_id(), &definition).await?;
    }
    let org = OrgId::new(seen.org_id()).map_err(|error| Problem::internal(&error))?;
    let mut turns = Turns::default();
    loop {
        let actor = caller.actor();
        let done = make_once(&state, &org, &definition, Some(&seen), &actor, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

/// What becomes of what was queued while the webhook was off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnableRequest {
    /// True (where it is left out): it goes out, in order of acceptance. False: it is discarded.
    #[serde(default)]
    release: Option<bool>,
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DisableRequest {}

/// Switches an own webhook on.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/enable", tag = "webhooks", params(("id" = String, Path)),
    request_body = EnableRequest,
    responses(
        (status = 200, description = "It is on", body = WrittenBody),
        (status = 403, description = "The webhook belongs to an extension, or the plan has no room"),
        (status = 404, description = "No such webhook"),
    )
)]
async fn enable(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "enable").await?;
    let request = Idempotent::<EnableRequest>::from_request(request, &state).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let release = request.value.release.unwrap_or(true);
    change(&state, &caller, id, &WebhookPatch::enabled(true), release, &effect).await
}

/// Switches an own webhook off. What is queued of it waits.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/disable", tag = "webhooks", params(("id" = String, Path)),
    request_body = DisableRequest,
    responses(
        (status = 200, description = "It is off", body = WrittenBody),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
    )
)]
async fn disable(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "disable").await?;
    let request = Idempotent::<DisableRequest>::from_request(request, &state).await?;
    let DisableRequest {} = request.value;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    change(&state, &caller, id, &WebhookPatch::enabled(false), true, &effect).await
}

/// Changes an own webhook as the body of a request says.
pub(super) async fn patch(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    request: Request,
) -> Result<Response, Problem> {
    require_json(request.headers())?;
    let body = RawBody::from(request).read(state.config().limits.request_body_bytes).await?;
    if body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        let message = "must be an object";
        return Err(Problem::invalid(vec![FieldError::new("", FieldErrorKind::Invalid, message)]));
    }
    let patch: WebhookPatch = parse_json(&body)?;
    change(state, caller, id, &patch, true, &Effect::default()).await
}

/// Changes an own webhook. Where another change comes between, it is worked out anew, unless the
/// caller said which state it was made from.
pub(super) async fn change(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    patch: &WebhookPatch,
    release: bool,
    effect: &Effect,
) -> Result<Response, Problem> {
    let (mut turns, mut readings, mut checked) = (Turns::default(), 0, None);
    loop {
        let seen = state.services()?.own_webhooks.current(id.0).await?;
        if patch.modified_time.as_ref().is_some_and(|wanted| *wanted != seen.modified_time()) {
            return Err(OwnRefusal::Changed.into());
        }
        // What is only switched off need not be fit to be switched on.
        let definition =
            if patch.only_disables() { None } else { Some(changed(state, &seen, patch).await?) };
        if let Some(definition) = definition.as_ref().filter(|one| one.url != seen.url())
            && checked.as_ref() != Some(&definition.url)
        {
            url_check::check(state, caller, seen.org_id(), definition).await?;
            checked = Some(definition.url.clone());
        }
        let done = change_once(state, &seen, definition, patch, release, caller, effect).await;
        let is_overtaken = matches!(&done, Err(problem) if problem.code() == Code::Conflict);
        if is_overtaken && patch.modified_time.is_none() && readings < MOST_READINGS {
            readings += 1;
            continue;
        }
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn change_once(
    state: &ApiState,
    seen: &Current,
    definition: Option<Definition>,
    patch: &WebhookPatch,
    release: bool,
    caller: &Caller,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let own = &services.own_webhooks;
    let actor = caller.actor();
    let mut work = services.lifecycle.begin().await?;
    let mut warnings = Vec::new();
    let updated = match definition {
        Some(definition) => {
            warnings.clone_from(&definition.warnings);
            let names_secret = patch.names_secret();
            own.update(&mut work, seen, definition, names_secret, release, &actor).await
        }
        None => own.switch_off_by(&mut work, seen, &actor).await,
    };
    let updated = match updated {
        Ok(updated) => updated,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let body = WrittenBody {
        webhook: shown(state, &work, seen.id()).await?,
        secret: updated.secret.map(|secret| secret.expose().to_owned()),
        warnings,
    };
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// Removes an own webhook.
pub(super) async fn remove(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    org_id: &str,
) -> Result<Response, Problem> {
    let mut turns = Turns::default();
    loop {
        let done = remove_once(state, caller, id, org_id).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn remove_once(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    org_id: &str,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let removed = services.own_webhooks.remove(&mut work, id.0, org_id, &caller.actor()).await;
    if let Err(refusal) = removed {
        return Err(refused(work, refusal).await);
    }
    services.lifecycle.commit(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
