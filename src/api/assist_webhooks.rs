//! `/assist/webhooks`: own webhooks of the dialect `assist`, by the attribute names of Zoho Assist.
//! They are the same webhooks as under `/webhooks`, and their ids here are the aliases there.

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{
    Idempotent, Path, RawBody, json_response, parse_json, parse_query, require_json,
};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::{self, refused};
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::dialect::{Dialect, assist_event};
use crate::identifier::{OrgId, WebhookId};
use crate::lifecycle::{self, InstallationScope, WebhookFilter, WebhookView};
use crate::store::UnitOfWork;
use crate::webhook::own::{Definition, WebhookPatch, WebhookRequest, id_of_alias};

/// The routes of Zoho Assist's form.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// An event with its departments.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssistSubscription {
    /// The number of the event, 0 to 17.
    event_id: u8,
    /// Only events of these departments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<i64>>)]
    dept_ids: Option<Vec<DepartmentNumber>>,
}

/// The id of a department: a number, or digits.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum DepartmentNumber {
    Number(i64),
    Text(String),
}

impl DepartmentNumber {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    fn of(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text.to_owned()),
        }
    }
}

/// A webhook as it is asked for; in a change, what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssistRequest {
    /// Its name.
    #[serde(default)]
    name: Option<String>,
    /// What it is for.
    #[serde(default)]
    desc: Option<String>,
    /// Where it is called.
    #[serde(default)]
    url: Option<String>,
    /// The source whose events it does not get.
    #[serde(default)]
    ignore_src: Option<String>,
    /// The events.
    #[serde(default)]
    subscriptions: Option<Vec<AssistSubscription>>,
    /// 0 for off, 1 for on.
    #[serde(default)]
    status: Option<u8>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
struct AssistBody {
    /// Its id.
    hook_id: i64,
    /// Its name.
    name: Option<String>,
    /// What it is for.
    desc: Option<String>,
    /// Where it is called.
    url: String,
    /// The source whose events it does not get.
    ignore_src: Option<String>,
    /// The events.
    subscriptions: Vec<AssistSubscription>,
    /// 0 for off, 1 for on.
    status: u8,
    /// What it signs with, where that was made here: told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A page of webhooks.
#[derive(Debug, Serialize, ToSchema)]
struct AssistList {
    /// What is on it.
    data: Vec<AssistBody>,
    /// The `cursor` of the next page; null on the last one.
    #[serde(rename = "nextCursor")]
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Where a page begins, and how long it is.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AssistListQuery {
    /// The org, where the token does not imply it; the header `orgId` says it too.
    #[serde(default, rename = "orgId")]
    _org_id: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most; 200 where it is left out, which is the most.
    #[param(value_type = Option<u16>)]
    #[serde(default = "Limit::largest")]
    limit: Limit,
}

fn invalid(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

impl AssistRequest {
    /// The same by the names of `/webhooks`.
    fn translated(self) -> Result<Map<String, Value>, Problem> {
        let mut members = Map::new();
        let texts = [
            ("name", self.name),
            ("description", self.desc),
            ("url", self.url),
            ("ignoreSourceId", self.ignore_src),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                members.insert(name.to_owned(), Value::String(text));
            }
        }
        match self.status {
            None => {}
            Some(status @ (0 | 1)) => {
                members.insert("isEnabled".to_owned(), Value::Bool(status == 1));
            }
            Some(_) => return Err(invalid("/status", "must be 0 or 1")),
        }
        if let Some(subscriptions) = self.subscriptions {
            let mut by_name = Map::new();
            for (index, one) in subscriptions.into_iter().enumerate() {
                let place = format!("/subscriptions/{index}/event_id");
                let Some(event) = assist_event(&one.event_id.to_string()) else {
                    return Err(invalid(&place, "must be the number of an event, 0 to 17"));
                };
                let options = one.dept_ids.filter(|ids| !ids.is_empty()).map(|ids| {
                    let ids: Vec<String> = ids.iter().map(DepartmentNumber::text).collect();
                    json!({ "departmentIds": ids })
                });
                if by_name.insert(event.name.to_owned(), json!(options)).is_some() {
                    return Err(invalid(&place, "is there twice"));
                }
            }
            members.insert("subscriptions".to_owned(), Value::Object(by_name));
        }
        Ok(members)
    }
}

impl AssistBody {
    fn new(view: &WebhookView, secret: Option<String>) -> Option<Self> {
        let row = &view.row;
        let subscriptions: Map<String, Value> =
            serde_json::from_str(&row.subscriptions).unwrap_or_default();
        let mut subscriptions: Vec<AssistSubscription> = subscriptions
            .into_iter()
            .filter_map(|(name, options)| {
                let departments = options["departmentIds"].as_array().map(|ids| {
                    ids.iter().filter_map(Value::as_str).map(DepartmentNumber::of).collect()
                });
                Some(AssistSubscription {
                    event_id: assist_event(&name)?.id,
                    dept_ids: departments,
                })
            })
            .collect();
        subscriptions.sort_by_key(|one| one.event_id);
        Some(Self {
            hook_id: view.own.as_ref()?.alias,
            name: row.name.clone(),
            desc: row.description.clone(),
            url: row.url.clone(),
            ignore_src: row.ignore_source_id.clone(),
            subscriptions,
            status: u8::from(row.is_enabled != 0),
            secret,
        })
    }
}

/// The webhook with an alias, where the caller may see it.
pub(super) async fn find(
    state: &ApiState,
    caller: &Caller,
    alias: i64,
) -> Result<WebhookView, Problem> {
    let unknown = || Problem::not_found("webhook");
    let id = id_of_alias(state.store(), alias).await?.ok_or_else(unknown)?;
    let scope = match &caller.org {
        Some(org) => InstallationScope::Org(org.to_string()),
        None => InstallationScope::All,
    };
    let view = lifecycle::webhook(state.store(), &scope, id).await?.ok_or_else(unknown)?;
    if view.row.dialect == Dialect::Assist.as_str() { Ok(view) } else { Err(unknown()) }
}

async fn shown(work: &UnitOfWork, id: Uuid, secret: Option<String>) -> Result<AssistBody, Problem> {
    let view = lifecycle::webhook_within(work, id).await?;
    view.and_then(|view| AssistBody::new(&view, secret))
        .ok_or_else(|| Problem::not_found("webhook"))
}

/// Lists the org's webhooks of the dialect `assist`.
#[utoipa::path(
    get, path = "/api/v1/assist/webhooks", tag = "webhooks", params(AssistListQuery),
    responses((status = 200, description = "A page", body = AssistList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query: AssistListQuery = parse_query(parts.uri.query().unwrap_or_default())?;
    let org = caller.org_of(&parts)?.to_string();
    let filter = WebhookFilter {
        org_id: Some(org.clone()),
        is_extension: Some(false),
        dialect: Some(Dialect::Assist.as_str().to_owned()),
        after: query.cursor.map(|after| after.0),
        limit: query.limit.rows(),
        ..WebhookFilter::default()
    };
    let views = lifecycle::webhooks(state.store(), &InstallationScope::Org(org), &filter).await?;
    let page = Page::new(views, query.limit, |view| Cursor::Id(view.id()));
    let data = page.data.iter().filter_map(|view| AssistBody::new(view, None)).collect();
    let list = AssistList { data, next_cursor: page.next_cursor };
    Ok(json_response(StatusCode::OK, &list))
}

/// Makes a webhook of the dialect `assist`.
#[utoipa::path(
    post, path = "/api/v1/assist/webhooks", tag = "webhooks", request_body = AssistRequest,
    responses(
        (status = 201, description = "It is there; what it signs with is told once", body = AssistBody),
        (status = 403, description = "The plan of the org has no room for it"),
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
    let request = Idempotent::<AssistRequest>::from_request(request, &state).await?;
    let org = caller.org_of(&head)?;
    let mut members = request.value.translated()?;
    members.insert("dialect".to_owned(), json!(Dialect::Assist.as_str()));
    let text = serde_json::to_vec(&members).map_err(|error| Problem::internal(&error))?;
    let wanted: WebhookRequest = parse_json(&text)?;
    let definition = state.services()?.own_webhooks.check(org.as_str(), wanted).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = create_once(&state, &caller, &org, &definition, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn create_once(
    state: &ApiState,
    caller: &Caller,
    org: &OrgId,
    definition: &Definition,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let made = own.create(&mut work, org.as_str(), definition.clone(), &caller.actor()).await;
    let made = match made {
        Ok(made) => made,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let secret = made.secret.map(|secret| secret.expose().to_owned());
    let body = shown(&work, made.id, secret).await?;
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

/// Reads a webhook.
#[utoipa::path(
    get, path = "/api/v1/assist/webhooks/{hookId}", tag = "webhooks", params(("hookId" = i64, Path)),
    responses((status = 200, description = "The webhook", body = AssistBody), (status = 404, description = "No such webhook"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(alias): Path<i64>,
) -> Result<Response, Problem> {
    let view = find(&state, &caller, alias).await?;
    let body = AssistBody::new(&view, None).ok_or_else(|| Problem::not_found("webhook"))?;
    Ok(json_response(StatusCode::OK, &body))
}

/// Changes a webhook: what is left out stays.
#[utoipa::path(
    put, path = "/api/v1/assist/webhooks/{hookId}", tag = "webhooks", params(("hookId" = i64, Path)),
    request_body = AssistRequest,
    responses((status = 200, description = "As it is now", body = AssistBody), (status = 404, description = "No such webhook"))
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    Path(alias): Path<i64>,
    request: Request,
) -> Result<Response, Problem> {
    let view = find(&state, &caller, alias).await?;
    require_json(request.headers())?;
    let body = RawBody::from(request).read(state.config().limits.request_body_bytes).await?;
    let wanted: AssistRequest = parse_json(&body)?;
    let members = wanted.translated()?;
    let text = serde_json::to_vec(&members).map_err(|error| Problem::internal(&error))?;
    let patch: WebhookPatch = parse_json(&text)?;
    let id = WebhookId(view.id());
    let changed =
        own_webhooks::change(&state, &caller, id, &patch, true, &Effect::default()).await?;
    if !changed.status().is_success() {
        return Ok(changed);
    }
    let view = find(&state, &caller, alias).await?;
    let body = AssistBody::new(&view, None).ok_or_else(|| Problem::not_found("webhook"))?;
    Ok(json_response(StatusCode::OK, &body))
}

/// Removes a webhook.
#[utoipa::path(
    delete, path = "/api/v1/assist/webhooks/{hookId}", tag = "webhooks", params(("hookId" = i64, Path)),
    responses((status = 204, description = "It is no more"), (status = 404, description = "No such webhook"))
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(alias): Path<i64>,
) -> Result<Response, Problem> {
    let view = find(&state, &caller, alias).await?;
    let org = view.row.org_id.clone();
    Ok(own_webhooks::remove(&state, &caller, WebhookId(view.id()), &org).await?.into_response())
}
