//! `/webhooks`: everybody sees them; an extension's are its own to change.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::extract::{Path, RawBody, json_response, require_json};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::{self, WrittenBody};
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::{endpoint_scope, installation_scope};
use super::shapes::WebhookBody;
use super::state::ApiState;
use crate::audit::{self, Entry};
use crate::event::{self, ParseError, Verdict};
use crate::identifier::WebhookId;
use crate::lifecycle::{self, WebhookFilter};
use crate::webhook::own::WebhookPatch;

/// The routes of webhooks.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read, patch, put, delete))
        .routes(routes!(explain))
}

/// Which webhooks.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of one org.
    #[serde(default)]
    org_id: Option<String>,
    /// Whose name, description or address holds this text, whatever its case.
    #[serde(default)]
    search: Option<String>,
    /// `CUSTOMER_WEBHOOK` or `EXTENSION_WEBHOOK`.
    #[serde(rename = "type", default)]
    kind: Option<String>,
    /// In this dialect.
    #[serde(default)]
    dialect: Option<String>,
    /// That subscribe to this event, by the name that they subscribe with.
    #[serde(default)]
    event_type: Option<String>,
    /// Switched on, or off.
    #[serde(default)]
    is_enabled: Option<bool>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

impl ListQuery {
    fn filter(&self, org_id: Option<String>) -> Result<WebhookFilter, Problem> {
        let is_extension = match self.kind.as_deref() {
            None => None,
            Some("EXTENSION_WEBHOOK") => Some(true),
            Some("CUSTOMER_WEBHOOK") => Some(false),
            Some(_) => {
                let message = "must be CUSTOMER_WEBHOOK or EXTENSION_WEBHOOK";
                let error = FieldError::new("type", FieldErrorKind::Invalid, message);
                return Err(Problem::invalid(vec![error]));
            }
        };
        Ok(WebhookFilter {
            org_id,
            search: self.search.clone().filter(|text| !text.is_empty()),
            is_extension,
            dialect: self.dialect.clone(),
            event: self.event_type.clone(),
            is_enabled: self.is_enabled,
            after: self.cursor.as_ref().map(|after| after.0),
            limit: self.limit.rows(),
        })
    }
}

/// Lists webhooks, extensions' ones among them.
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "webhooks", params(ListQuery),
    responses((status = 200, description = "A page", body = Page<WebhookBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query: ListQuery = super::extract::parse_query(parts.uri.query().unwrap_or_default())?;
    let org = match caller.role {
        // An admin's token implies the org; whoever else names one is limited to it.
        Role::Admin | Role::Viewer => Some(caller.org_of(&parts)?.to_string()),
        _ => query.org_id.clone().or_else(|| {
            parts.headers.get("orgId").and_then(|value| value.to_str().ok()).map(str::to_owned)
        }),
    };
    let scope = installation_scope(state.store(), &caller).await?;
    let views = lifecycle::webhooks(state.store(), &scope, &query.filter(org)?).await?;
    let page = Page::new(views, query.limit, |view| Cursor::Id(view.id()))
        .map(|view| WebhookBody::from(view).complete(&state));
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads a webhook.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "The webhook", body = WebhookBody), (status = 404, description = "No such webhook"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    let view = lifecycle::webhook(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("webhook"))?;
    Ok(json_response(StatusCode::OK, &WebhookBody::from(view).complete(&state)))
}

/// A webhook that the caller may change: one of an org's own. An extension's is refused for every
/// role, and all of this before a body is read. Returns its org.
pub(super) async fn changeable(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    method: &str,
) -> Result<String, Problem> {
    let scope = installation_scope(state.store(), caller).await?;
    let view = lifecycle::webhook(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("webhook"))?;
    let webhook = WebhookBody::from(view);
    let Some(owner) = webhook.extension else {
        return match caller.role {
            Role::Operator | Role::Admin => Ok(webhook.org_id),
            role => Err(Problem::new(Code::Forbidden)
                .detail(format!(
                    "The role {role} may not change an org's own webhooks; it takes one of: \
                     operator, admin."
                ))
                .with("neededRoles", ["operator", "admin"])),
        };
    };
    let now = state.seam().clock.now();
    let work = state.store().begin().await?;
    let entry = Entry {
        chain: &webhook.org_id,
        action: "webhook.edit-refused",
        subject: format!("webhook:{id}"),
        detail: Some(json!({ "method": method, "extensionKey": owner.extension_key })),
    };
    audit::append(&work, entry, &caller.actor(), now, &state.seam().randomness).await?;
    let _settled = work.commit(now).await?;
    Err(Problem::new(Code::Forbidden)
        .kind("webhook-locked", "The webhook belongs to an extension")
        .detail(format!(
            "Only the extension {} can change this webhook. It goes when the extension is \
             uninstalled.",
            owner.extension_key
        ))
        .with(
            "lockedBy",
            json!({
                "extensionKey": owner.extension_key,
                "installationId": owner.installation_id,
            }),
        ))
}

/// Changes an org's own webhook: what is left out stays. An extension's is locked.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    request_body = WebhookPatch,
    responses(
        (status = 200, description = "As it is now", body = WrittenBody),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
        (status = 409, description = "It was changed since it was read"),
    )
)]
async fn patch(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "PATCH").await?;
    own_webhooks::patch(&state, &caller, id, request).await
}

/// As PATCH; an extension's is locked.
#[utoipa::path(
    put, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    request_body = WebhookPatch,
    responses(
        (status = 200, description = "As it is now", body = WrittenBody),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
        (status = 409, description = "It was changed since it was read"),
    )
)]
async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "PUT").await?;
    own_webhooks::patch(&state, &caller, id, request).await
}

/// Deletes an org's own webhook with what waits for it; its history stays. An extension's is locked.
#[utoipa::path(
    delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is no more"),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
    )
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<Response, Problem> {
    let org = changeable(&state, &caller, id, "DELETE").await?;
    own_webhooks::remove(&state, &caller, id, &org).await
}

/// An event that is only made up, as `POST /events` takes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the body; its event is read as raw text")]
struct ExplainRequest {
    /// The event.
    #[schema(value_type = Object)]
    event: serde_json::Value,
}

/// Whether a webhook would get an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExplainBody {
    /// The webhook.
    webhook_id: Uuid,
    /// Whether it would.
    matched: bool,
    /// The first rule that refuses.
    rule: Option<String>,
    /// Why, in words.
    reason: Option<String>,
}

/// Says whether a webhook would get an event that is only made up, and if not why.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/explain", tag = "webhooks", params(("id" = String, Path)),
    request_body = ExplainRequest,
    responses((status = 200, description = "The verdict", body = ExplainBody), (status = 404, description = "No such webhook"))
)]
async fn explain(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    require_json(request.headers())?;
    let limit = state.config().limits.event_body_bytes;
    let body = RawBody::from(request).read(limit).await?;
    let _shape: ExplainRequest = super::extract::parse_json(&body)?;
    let scope = endpoint_scope(state.store(), &caller).await?;
    let services = state.services()?;
    let endpoint = services
        .routing
        .endpoint(id.0)
        .filter(|endpoint| scope.covers(endpoint))
        .ok_or_else(|| Problem::not_found("webhook"))?;
    let event = event::parse_enveloped(&body).map_err(|error| match error {
        ParseError::Faulty(faults) => Problem::invalid(
            faults
                .into_iter()
                .map(|fault| {
                    FieldError::new("/event", FieldErrorKind::Invalid, fault.fault.to_string())
                })
                .collect::<Vec<_>>(),
        ),
        other => other.into(),
    })?;
    let (matched, rule, reason) = match event::explain_made_up(&services.routing, &endpoint, &event)
    {
        Verdict::Matched => (true, None, None),
        Verdict::Refused { rule, reason } => (false, Some(rule.to_owned()), Some(reason)),
    };
    let body = ExplainBody { webhook_id: id.0, matched, rule, reason };
    Ok(json_response(StatusCode::OK, &body))
}
