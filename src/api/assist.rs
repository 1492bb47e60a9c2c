//! `/assist/webhooks`: the own webhooks of the dialect `assist` under the attribute names of Zoho
//! Assist. They are the same webhooks as under `/webhooks`.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Json, Path, json_response, parse_query};
use super::openapi::ApiRouter;
use super::own_webhooks::{refused, remove as remove_webhook};
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::services::installation_scope;
use super::state::ApiState;
use super::webhooks::changeable;
use crate::dialect::{Dialect, assist_event};
use crate::identifier::WebhookId;
use crate::lifecycle::{self, WebhookFilter, WebhookView};
use crate::store::UnitOfWork;
use crate::webhook::own::{Definition, FieldFault, OwnRefusal, WebhookPatch, WebhookRequest};

/// The most subscriptions of one request: more than there are events.
const MOST_SUBSCRIPTIONS: usize = 64;

/// The routes of Zoho Assist's webhooks.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, delete))
}

/// The id of a department: a number or a text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum DepartmentNumber {
    Number(u64),
    Text(String),
}

/// An event that is subscribed to.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HookSubscription {
    /// The event, 0 to 17.
    event_id: u8,
    /// Only of these departments; of all where it is left out or empty.
    #[serde(default)]
    #[schema(value_type = Option<Vec<u64>>)]
    dept_ids: Option<Vec<DepartmentNumber>>,
}

/// A webhook as it is asked for, or what is to change of one.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HookRequest {
    /// Its name.
    #[serde(default)]
    name: Option<String>,
    /// What it is for.
    #[serde(default)]
    desc: Option<String>,
    /// Where it is called; https.
    #[serde(default)]
    url: Option<String>,
    /// Events that this source caused are not sent.
    #[serde(default)]
    ignore_src: Option<String>,
    /// The events.
    #[serde(default)]
    subscriptions: Option<Vec<HookSubscription>>,
    /// 0 (off) or 1 (on).
    #[serde(default)]
    status: Option<u8>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
struct HookBody {
    /// Its id: stable, of 63 bits.
    hook_id: i64,
    /// Its name.
    name: Option<String>,
    /// What it is for.
    desc: Option<String>,
    /// Where it is called.
    url: String,
    /// Events that this source caused are not sent.
    ignore_src: Option<String>,
    /// The events: `{"event_id","dept_ids"}` each.
    #[schema(value_type = Vec<Object>)]
    subscriptions: Vec<Value>,
    /// 0 (off) or 1 (on).
    status: u8,
    /// What it signs with, where that was made here: told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<WebhookView> for HookBody {
    fn from(view: WebhookView) -> Self {
        let stored: Map<String, Value> =
            serde_json::from_str(&view.row.subscriptions).unwrap_or_default();
        let mut subscriptions: Vec<(u8, Value)> = stored
            .iter()
            .filter_map(|(name, options)| {
                let event = assist_event(name)?;
                let departments = options["departmentIds"].as_array().cloned().unwrap_or_default();
                let departments: Vec<Value> = departments.into_iter().map(number_or_text).collect();
                Some((event.id, json!({ "event_id": event.id, "dept_ids": departments })))
            })
            .collect();
        subscriptions.sort_by_key(|(id, _)| *id);
        Self {
            hook_id: view.own.as_ref().map_or(0, |own| own.alias),
            name: view.row.name,
            desc: view.row.description,
            url: view.row.url,
            ignore_src: view.row.ignore_source_id,
            subscriptions: subscriptions.into_iter().map(|(_, one)| one).collect(),
            status: u8::from(view.row.is_enabled != 0),
            secret: None,
        }
    }
}

/// Digits are a number there, as that system has them.
fn number_or_text(id: Value) -> Value {
    let number = id.as_str().and_then(|text| {
        text.parse::<u64>().ok().filter(|number| number.to_string() == text)
    });
    number.map_or(id, Value::from)
}

fn fault(pointer: impl Into<String>, rule: impl Into<String>) -> FieldFault {
    FieldFault::new(pointer, rule)
}

impl HookRequest {
    /// The same in the names of `/webhooks`; all faults that only this form can have.
    fn translated(&self) -> Result<Map<String, Value>, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut wanted = Map::new();
        for (name, value) in
            [("name", &self.name), ("description", &self.desc), ("ignoreSourceId", &self.ignore_src)]
        {
            if let Some(value) = value {
                wanted.insert(name.to_owned(), json!(value));
            }
        }
        if let Some(url) = &self.url {
            if url.get(..8).is_none_or(|start| !start.eq_ignore_ascii_case("https://")) {
                faults.push(fault("/url", "must be an https address"));
            }
            wanted.insert("url".to_owned(), json!(url));
        }
        match self.status {
            None => {}
            Some(status @ (0 | 1)) => {
                wanted.insert("isEnabled".to_owned(), json!(status == 1));
            }
            Some(_) => faults.push(fault("/status", "must be 0 or 1")),
        }
        if let Some(subscriptions) = &self.subscriptions {
            let mut named = Map::new();
            if subscriptions.len() > MOST_SUBSCRIPTIONS {
                faults.push(fault("/subscriptions", format!("at most {MOST_SUBSCRIPTIONS}")));
            }
            for (index, one) in subscriptions.iter().take(MOST_SUBSCRIPTIONS).enumerate() {
                let Some(event) = assist_event(&one.event_id.to_string()) else {
                    let place = format!("/subscriptions/{index}/event_id");
                    faults.push(fault(place, "must be an event: 0 to 17"));
                    continue;
                };
                let departments: Vec<String> = one
                    .dept_ids
                    .iter()
                    .flatten()
                    .map(|id| match id {
                        DepartmentNumber::Number(number) => number.to_string(),
                        DepartmentNumber::Text(text) => text.clone(),
                    })
                    .collect();
                let options = if departments.is_empty() {
                    Value::Null
                } else {
                    json!({ "departmentIds": departments })
                };
                if named.insert(event.name.to_owned(), options).is_some() {
                    let place = format!("/subscriptions/{index}/event_id");
                    faults.push(fault(place, "is there twice"));
                }
            }
            wanted.insert("subscriptions".to_owned(), Value::Object(named));
        }
        if faults.is_empty() { Ok(wanted) } else { Err(faults) }
    }
}

/// Faults under the names of here.
fn refusal_of(refusal: OwnRefusal) -> Problem {
    let OwnRefusal::Faults(mut faults) = refusal else { return refusal.into() };
    for fault in &mut faults {
        for (theirs, ours) in [("/description", "/desc"), ("/ignoreSourceId", "/ignore_src")] {
            if fault.pointer == theirs {
                ours.clone_into(&mut fault.pointer);
            }
        }
    }
    OwnRefusal::Faults(faults).into()
}

fn untranslated(faults: Vec<FieldFault>) -> Problem {
    Problem::invalid(faults.into_iter().map(FieldError::from))
}

fn parsed<T: serde::de::DeserializeOwned>(wanted: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(wanted)).map_err(|error| Problem::internal(&error))
}

/// The webhook with a `hook_id`, where the caller may see it and it is one of Assist's.
async fn visible(state: &ApiState, caller: &Caller, hook: i64) -> Result<WebhookView, Problem> {
    let missing = || Problem::not_found("webhook");
    let id = state.services()?.own_webhooks.id_of(hook).await?.ok_or_else(missing)?;
    let scope = installation_scope(state.store(), caller).await?;
    let view = lifecycle::webhook(state.store(), &scope, id).await?;
    view.filter(|view| view.row.dialect == Dialect::Assist.as_str()).ok_or_else(missing)
}

async fn answered(work: &UnitOfWork, id: Uuid) -> Result<HookBody, Problem> {
    let view = lifecycle::webhook_within(work, id).await?;
    view.map(HookBody::from).ok_or_else(|| Problem::not_found("webhook"))
}

/// Which webhooks.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct HooksQuery {
    /// The org, where the token belongs to none.
    #[serde(default, rename = "orgId")]
    _org_id: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Lists the webhooks of the org that are for Zoho Assist's events.
#[utoipa::path(
    get, path = "/api/v1/assist/webhooks", tag = "assist", params(HooksQuery),
    responses((status = 200, description = "A page", body = Page<HookBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query: HooksQuery = parse_query(parts.uri.query().unwrap_or_default())?;
    let filter = WebhookFilter {
        org_id: Some(caller.org_of(&parts)?.to_string()),
        is_extension: Some(false),
        dialect: Some(Dialect::Assist.as_str().to_owned()),
        after: query.cursor.as_ref().map(|after| after.0),
        limit: query.limit.rows(),
        ..WebhookFilter::default()
    };
    let scope = installation_scope(state.store(), &caller).await?;
    let views = lifecycle::webhooks(state.store(), &scope, &filter).await?;
    let page = Page::new(views, query.limit, |view| Cursor::Id(view.id())).map(HookBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads a webhook.
#[utoipa::path(
    get, path = "/api/v1/assist/webhooks/{hook_id}", tag = "assist", params(("hook_id" = i64, Path)),
    responses((status = 200, description = "The webhook", body = HookBody), (status = 404, description = "No such webhook"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(hook): Path<i64>,
) -> Result<Response, Problem> {
    let view = visible(&state, &caller, hook).await?;
    Ok(json_response(StatusCode::OK, &HookBody::from(view)))
}

/// Makes a webhook. `name`, `url` and `subscriptions` are needed.
#[utoipa::path(
    post, path = "/api/v1/assist/webhooks", tag = "assist", request_body = HookRequest,
    responses(
        (status = 201, description = "It is there; what it signs with is told once", body = HookBody),
        (status = 403, description = "The plan of the org has no room for it, or not the dialect"),
        (status = 422, description = "Attributes break their rules"),
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let org = caller.org_of(&parts)?;
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<HookRequest>::from_request(request, &state).await?;
    let needed = [
        ("name", request.value.name.is_none()),
        ("url", request.value.url.is_none()),
        ("subscriptions", request.value.subscriptions.is_none()),
    ];
    let missing = needed.into_iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| {
        FieldError::new(format!("/{name}"), FieldErrorKind::Missing, "is needed")
    });
    let missing: Vec<FieldError> = missing.collect();
    if !missing.is_empty() {
        return Err(Problem::invalid(missing));
    }
    let mut wanted = request.value.translated().map_err(untranslated)?;
    wanted.insert("dialect".to_owned(), json!(Dialect::Assist.as_str()));
    let wanted: WebhookRequest = parsed(wanted)?;
    let definition = state.services()?.own_webhooks.check(wanted).map_err(refusal_of)?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = create_once(&state, &caller, org.as_str(), definition.clone(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn create_once(
    state: &ApiState,
    caller: &Caller,
    org: &str,
    definition: Definition,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let created =
        services.own_webhooks.create(&mut work, org, definition, &caller.actor()).await;
    let created = match created {
        Ok(created) => created,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let secret = created.secret.map(|secret| secret.expose().to_owned());
    let body = HookBody { secret, ..answered(&work, created.id).await? };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

/// Changes a webhook: what is left out stays.
#[utoipa::path(
    put, path = "/api/v1/assist/webhooks/{hook_id}", tag = "assist", params(("hook_id" = i64, Path)),
    request_body = HookRequest,
    responses(
        (status = 200, description = "As it is now", body = HookBody),
        (status = 404, description = "No such webhook"),
        (status = 422, description = "Attributes break their rules"),
    )
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    Path(hook): Path<i64>,
    Json(request): Json<HookRequest>,
) -> Result<Response, Problem> {
    let id = visible(&state, &caller, hook).await?.id();
    changeable(&state, &caller, WebhookId(id), "update").await?;
    let wanted = request.translated().map_err(untranslated)?;
    let patch: WebhookPatch = parsed(wanted)?;
    let mut turns = Turns::default();
    loop {
        let done = update_once(&state, &caller, id, &patch).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn update_once(
    state: &ApiState,
    caller: &Caller,
    id: Uuid,
    patch: &WebhookPatch,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let own = &services.own_webhooks;
    let seen = own.current(id).await?;
    let request: WebhookRequest = parsed(seen.patched(patch.clone()))?;
    let definition = own.check_change(request, &seen.kept(patch)).map_err(refusal_of)?;
    let mut work = services.lifecycle.begin().await?;
    let updated = own.update(&mut work, &seen, definition, false, true, &caller.actor()).await;
    if let Err(refusal) = updated {
        return Err(refused(work, refusal).await);
    }
    let body = answered(&work, id).await?;
    Effect::default().finish(state, work, StatusCode::OK, &body).await
}

/// Removes a webhook.
#[utoipa::path(
    delete, path = "/api/v1/assist/webhooks/{hook_id}", tag = "assist", params(("hook_id" = i64, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "No such webhook"))
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(hook): Path<i64>,
) -> Result<Response, Problem> {
    let id = WebhookId(visible(&state, &caller, hook).await?.id());
    let org = changeable(&state, &caller, id, "delete").await?;
    remove_webhook(&state, &caller, id, &org).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(value: Value) -> Result<Value, Vec<String>> {
        let request: HookRequest = serde_json::from_value(value).expect("a request");
        request
            .translated()
            .map(Value::Object)
            .map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn attributes_are_translated() {
        let request = json!({
            "name": "Wall", "desc": "d", "url": "https://a.example/", "ignore_src": "x", "status": 0,
            "subscriptions": [{ "event_id": 13, "dept_ids": [7, "8"] }, { "event_id": 0 }],
        });
        assert_eq!(
            translated(request),
            Ok(json!({
                "name": "Wall", "description": "d", "url": "https://a.example/",
                "ignoreSourceId": "x", "isEnabled": false,
                "subscriptions": {
                    "Device Online": { "departmentIds": ["7", "8"] },
                    "Outbound Session Start": null,
                },
            }))
        );
        let wrong = json!({
            "url": "http://a.example/", "status": 2,
            "subscriptions": [{ "event_id": 18 }, { "event_id": 1 }, { "event_id": 1 }],
        });
        assert_eq!(
            translated(wrong),
            Err(["/url", "/status", "/subscriptions/0/event_id", "/subscriptions/2/event_id"]
                .map(str::to_owned)
                .to_vec())
        );
        assert!(serde_json::from_value::<HookRequest>(json!({ "description": "d" })).is_err());
    }

    #[test]
    fn departments_are_numbers_where_they_are_digits() {
        assert_eq!(number_or_text(json!("472110000000006907")), json!(472_110_000_000_006_907_u64));
        assert_eq!(number_or_text(json!("007")), json!("007"));
        assert_eq!(number_or_text(json!("sales")), json!("sales"));
    }
}
