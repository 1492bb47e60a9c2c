//! `/triggers` and `/automations`: when an org's own webhooks are called, and with what.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Json, Path, json_response, parse_query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::refused;
use super::paging::{AfterPlace, Cursor, Limit, Page};
use super::problem::Problem;
use super::state::ApiState;
use crate::audit::Actor;
use crate::dialect::Content;
use crate::event::catalogue::{self, EventType};
use crate::event::placeholders;
use crate::identifier::OrgId;
use crate::store::UnitOfWork;
use crate::webhook::own::{
    OwnRefusal, OwnWebhooks, RuleKind, RulePatch, RuleRequest, RuleView, Vocabulary,
};

/// The routes of triggers and automations.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list_triggers, create_trigger))
        .routes(routes!(read_trigger, patch_trigger, delete_trigger))
        .routes(routes!(list_automations, create_automation))
        .routes(routes!(read_automation, patch_automation, delete_automation))
}

/// What a rule does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ActionBody {
    /// The webhook that is called.
    webhook_id: Uuid,
    /// What is sent, where that is a payload.
    payload: Option<String>,
    /// What is sent, where that is parameters: pairs in order.
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    parameters: Option<Vec<(String, String)>>,
}

/// A trigger or an automation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuleBody {
    /// Its id.
    id: Uuid,
    /// The org.
    org_id: String,
    /// What administrators see it as.
    name: String,
    /// Rules fire in the order of their positions.
    position: i32,
    /// Whether it fires.
    is_active: bool,
    /// When it fires.
    #[schema(value_type = Object)]
    conditions: Value,
    /// What it does.
    action: ActionBody,
    /// Of an automation: how many minutes after the event it fires.
    after_minutes: Option<i32>,
    /// Of an automation: what keeps it from firing.
    #[schema(value_type = Option<Object>)]
    unless: Value,
    /// Who made it.
    created_by: String,
    /// When it was made.
    created_time: String,
    /// Who changed it last.
    modified_by: String,
    /// When it changed last.
    modified_time: String,
    /// What may be a mistake, where it was written just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
}

impl From<RuleView> for RuleBody {
    fn from(view: RuleView) -> Self {
        let (created_by, created) = view.created();
        let (modified_by, modified) = view.modified();
        let (payload, parameters) = match view.content() {
            Some(Content::Payload(payload)) => (Some(payload), None),
            Some(Content::Parameters(parameters)) => (None, Some(parameters)),
            None => (None, None),
        };
        Self {
            id: view.id(),
            org_id: view.org_id().to_owned(),
            name: view.name().to_owned(),
            position: view.position(),
            is_active: view.is_active(),
            conditions: view.conditions(),
            action: ActionBody { webhook_id: view.webhook_id(), payload, parameters },
            after_minutes: view.after_minutes(),
            unless: view.unless(),
            created_by: created_by.to_owned(),
            created_time: created.rfc3339(),
            modified_by: modified_by.to_owned(),
            modified_time: modified.rfc3339(),
            warnings: None,
        }
    }
}

/// Which rules.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RulesQuery {
    /// The org, where the token belongs to none.
    #[serde(default, rename = "orgId")]
    _org_id: Option<String>,
    /// That call this webhook.
    #[serde(default)]
    webhook_id: Option<Uuid>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterPlace>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// How long a delivery of a rule may be retried, in minutes: the pauses of the dialect, and some time.
const RETRIED: u64 = 4 * 60;

/// The words of the catalogue of events, for checking a rule.
fn with_vocabulary<T>(state: &ApiState, use_it: impl FnOnce(&Vocabulary<'_>) -> T) -> T {
    let find = |name: &str| {
        catalogue::find(name).map(|known| known.name).ok_or_else(|| catalogue::nearest(name))
    };
    let unknown = |names: &[&str], types: &[&str]| -> Vec<String> {
        let types: Vec<&'static EventType> =
            types.iter().filter_map(|name| catalogue::find(name)).collect();
        let unknown = placeholders::unknown(names.iter().copied(), &types);
        unknown.iter().map(ToString::to_string).collect()
    };
    let kept = state.config().delivery.retention.payload.as_secs() / 60;
    // Less than that, so that the last retry of what falls due last still has its payload.
    let longest_wait_minutes =
        u32::try_from(kept.saturating_sub(RETRIED)).unwrap_or(u32::MAX).max(1);
    use_it(&Vocabulary { find: &find, unknown: &unknown, longest_wait_minutes })
}

fn not_found(kind: RuleKind) -> Problem {
    Problem::not_found(kind.as_str())
}

/// A rule that the caller may see.
async fn visible(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    id: Uuid,
) -> Result<RuleView, Problem> {
    let found = state.services()?.own_webhooks.rule(kind, id).await?;
    found
        .filter(|rule| caller.org.as_ref().is_none_or(|org| org.as_str() == rule.org_id()))
        .ok_or_else(|| not_found(kind))
}

async fn list(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query: RulesQuery = parse_query(parts.uri.query().unwrap_or_default())?;
    let org = caller.org_of(&parts)?;
    let after = query
        .cursor
        .map(|AfterPlace(position, id)| (i32::try_from(position).unwrap_or(i32::MAX), id));
    let rules = state
        .services()?
        .own_webhooks
        .rules(org.as_str(), kind, query.webhook_id, after, query.limit.rows())
        .await?;
    let page =
        Page::new(rules, query.limit, |rule| Cursor::Change(i64::from(rule.position()), rule.id()))
            .map(RuleBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

async fn read(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    id: Uuid,
) -> Result<Response, Problem> {
    let rule = visible(state, caller, kind, id).await?;
    Ok(json_response(StatusCode::OK, &RuleBody::from(rule)))
}

async fn create(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let request = Request::from_parts(parts, body);
    // A body that cannot be read is refused before anything that is missing in the head.
    let request = Idempotent::<RuleRequest>::from_request(request, state).await?;
    let org = caller.org_of(&head)?;
    let effect = match Effect::start(state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = create_once(state, caller, kind, &org, request.value.clone(), &effect).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

/// Checks a request for a rule and makes it; says its id, and what may be a mistake.
pub(super) async fn write_new(
    state: &ApiState,
    own: &OwnWebhooks,
    work: &mut UnitOfWork,
    org: &OrgId,
    (kind, request): (RuleKind, RuleRequest),
    actor: &Actor,
) -> Result<(Uuid, Vec<String>), OwnRefusal> {
    let (form, request) = own.check_rule(work, org.as_str(), kind, request).await?;
    let definition = with_vocabulary(state, |words| request.check(kind, form, words))
        .map_err(OwnRefusal::Faults)?;
    let id = own.create_rule(work, org.as_str(), &definition, actor).await?;
    Ok((id, definition.warnings))
}

/// Checks what a patch makes of a rule and changes it; says what may be a mistake.
pub(super) async fn write_change(
    state: &ApiState,
    own: &OwnWebhooks,
    work: &mut UnitOfWork,
    (kind, id): (RuleKind, Uuid),
    patch: RulePatch,
    actor: &Actor,
) -> Result<Vec<String>, OwnRefusal> {
    let seen = own.rule_within(work, kind, id).await?.ok_or(OwnRefusal::UnknownRule)?;
    let (form, request, current) = own.patched_rule(work, &seen, kind, patch).await?;
    let definition = with_vocabulary(state, |words| request.check(kind, form, words))
        .map_err(OwnRefusal::Faults)?;
    own.update_rule(work, &current, &definition, actor).await?;
    Ok(definition.warnings)
}

/// A rule as a transaction leaves it.
pub(super) async fn shown(
    state: &ApiState,
    work: &UnitOfWork,
    kind: RuleKind,
    id: Uuid,
) -> Result<RuleBody, Problem> {
    let view = state.services()?.own_webhooks.rule_within(work, kind, id).await?;
    view.map(RuleBody::from).ok_or_else(|| not_found(kind))
}

async fn create_once(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    org: &OrgId,
    request: RuleRequest,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let created = write_new(state, own, &mut work, org, (kind, request), &caller.actor()).await;
    let (id, warnings) = match created {
        Ok(created) => created,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let body = RuleBody { warnings: Some(warnings), ..shown(state, &work, kind, id).await? };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

async fn patch(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    id: Uuid,
    patch: &RulePatch,
) -> Result<Response, Problem> {
    let seen = visible(state, caller, kind, id).await?;
    let mut turns = Turns::default();
    loop {
        let done = patch_once(state, caller, kind, &seen, patch.clone()).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn patch_once(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    seen: &RuleView,
    patch: RulePatch,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let (rule, actor) = ((kind, seen.id()), caller.actor());
    let updated = write_change(state, own, &mut work, rule, patch, &actor).await;
    let warnings = match updated {
        Ok(warnings) => warnings,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let view = own.rule_within(&work, kind, seen.id()).await?.ok_or_else(|| not_found(kind))?;
    let body = RuleBody { warnings: Some(warnings), ..RuleBody::from(view) };
    Effect::default().finish(state, work, StatusCode::OK, &body).await
}

async fn delete(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    id: Uuid,
) -> Result<Response, Problem> {
    let seen = visible(state, caller, kind, id).await?;
    let mut turns = Turns::default();
    loop {
        let done = delete_once(state, caller, kind, &seen).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn delete_once(
    state: &ApiState,
    caller: &Caller,
    kind: RuleKind,
    seen: &RuleView,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let removed = services.own_webhooks.remove_rule(&mut work, seen, kind, &caller.actor()).await;
    if let Err(refusal) = removed {
        return Err(refused(work, refusal).await);
    }
    services.lifecycle.commit(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Defines the five handlers of a kind of rules.
macro_rules! handlers {
    (
        $kind:expr, $path:literal, $list:ident $list_doc:literal, $create:ident $create_doc:literal,
        $read:ident $read_doc:literal, $patch:ident $patch_doc:literal,
        $delete:ident $delete_doc:literal
    ) => {
        #[doc = $list_doc]
        #[utoipa::path(
            get, path = concat!("/api/v1/", $path), tag = "rules", params(RulesQuery),
            responses((status = 200, description = "A page", body = Page<RuleBody>))
        )]
        async fn $list(
            State(state): State<ApiState>,
            caller: Caller,
            request: Request,
        ) -> Result<Response, Problem> {
            list(&state, &caller, $kind, request).await
        }

        #[doc = $create_doc]
        #[utoipa::path(
            post, path = concat!("/api/v1/", $path), tag = "rules", request_body = RuleRequest,
            responses(
                (status = 201, description = "It is there", body = RuleBody),
                (status = 403, description = "The org has as many as it may"),
                (status = 422, description = "Members break their rules; unknown placeholders and event types with the nearest name"),
            )
        )]
        async fn $create(
            State(state): State<ApiState>,
            caller: Caller,
            request: Request,
        ) -> Result<Response, Problem> {
            create(&state, &caller, $kind, request).await
        }

        #[doc = $read_doc]
        #[utoipa::path(
            get, path = concat!("/api/v1/", $path, "/{id}"), tag = "rules", params(("id" = String, Path)),
            responses((status = 200, description = "It", body = RuleBody), (status = 404, description = "No such rule"))
        )]
        async fn $read(
            State(state): State<ApiState>,
            caller: Caller,
            Path(id): Path<Uuid>,
        ) -> Result<Response, Problem> {
            read(&state, &caller, $kind, id).await
        }

        #[doc = $patch_doc]
        #[utoipa::path(
            patch, path = concat!("/api/v1/", $path, "/{id}"), tag = "rules", params(("id" = String, Path)),
            request_body = RulePatch,
            responses(
                (status = 200, description = "As it is now", body = RuleBody),
                (status = 404, description = "No such rule"),
                (status = 422, description = "Members break their rules"),
            )
        )]
        async fn $patch(
            State(state): State<ApiState>,
            caller: Caller,
            Path(id): Path<Uuid>,
            Json(body): Json<RulePatch>,
        ) -> Result<Response, Problem> {
            patch(&state, &caller, $kind, id, &body).await
        }

        #[doc = $delete_doc]
        #[utoipa::path(
            delete, path = concat!("/api/v1/", $path, "/{id}"), tag = "rules", params(("id" = String, Path)),
            responses((status = 204, description = "It is gone"), (status = 404, description = "No such rule"))
        )]
        async fn $delete(
            State(state): State<ApiState>,
            caller: Caller,
            Path(id): Path<Uuid>,
        ) -> Result<Response, Problem> {
            delete(&state, &caller, $kind, id).await
        }
    };
}

handlers!(
    RuleKind::Trigger, "triggers",
    list_triggers "Lists an org's triggers, in the order in which they fire.",
    create_trigger "Makes a trigger: with the events that fulfil its conditions it calls a webhook.",
    read_trigger "Reads a trigger.",
    patch_trigger "Changes a trigger: what is left out stays.",
    delete_trigger "Deletes a trigger."
);

handlers!(
    RuleKind::Automation, "automations",
    list_automations "Lists an org's automations, in the order in which they fire.",
    create_automation "Makes an automation: some time after an event that fulfils its conditions it calls a webhook, unless something else happened meanwhile.",
    read_automation "Reads an automation.",
    patch_automation "Changes an automation: what is left out stays. What waits already keeps its time.",
    delete_automation "Deletes an automation. What waits of it is cancelled when it falls due."
);
