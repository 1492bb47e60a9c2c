//! `/event-types` and `/placeholders`: what there is to subscribe to, and what an event's template
//! can name.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::extract::{Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::crypto::{Signer, SigningSecret};
use crate::dialect::{
    self, BodyFormat, Dialect, EventParts, Occasion, RequestMethod, RequestSettings, WebhookFace,
};
use crate::event::catalogue::{self, EventType};
use crate::event::placeholders::{self, Placeholder, Starter};
use crate::seam::Timestamp;

/// The org of samples.
const SAMPLE_ORG: &str = "761336011";

/// The routes of the catalogue of events.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(types)).routes(routes!(list_placeholders))
}

/// Which event types.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct TypesQuery {
    /// The dialect, whose names are listed; `desk` where it is left out.
    #[serde(default)]
    dialect: Option<String>,
    /// Of one module, such as `tickets`.
    #[serde(default)]
    module: Option<String>,
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TypeBody {
    /// Its name in the dialect: what a webhook subscribes by.
    name: String,
    /// Its number, where the dialect has numbers.
    id: Option<u8>,
    /// The types of the host that are, or may be, this event: what the host posts.
    host_types: Vec<&'static str>,
    /// Its module.
    module: String,
    /// What people call it.
    label: String,
    /// When it happens.
    description: String,
    /// The options that a subscription may have.
    options: Vec<String>,
    /// The JSON Schema of the payload that the host posts.
    #[schema(value_type = Object)]
    schema: Value,
    /// A sample, exactly as it is delivered.
    #[schema(value_type = Object)]
    sample: Value,
}

/// Every event type with its options, its schema and a sample as delivered.
#[utoipa::path(
    get, path = "/api/v1/event-types", tag = "events", params(TypesQuery),
    responses((status = 200, description = "All of them"))
)]
async fn types(
    State(state): State<ApiState>,
    Query(query): Query<TypesQuery>,
) -> Result<Response, Problem> {
    let dialect = dialect_of(query.dialect.as_deref())?;
    let now = state.seam().clock.now();
    // A sample is signed and the signature is not shown: any secret will do.
    let signer = Signer::new([&SigningSecret::generate(&state.seam().randomness)?])?;
    let mut data = Vec::new();
    for name in dialect::known_names(dialect) {
        let host_types = dialect::host_types(dialect, name);
        let Some(known) = host_types.first().and_then(|name| catalogue::find(name)) else {
            continue;
        };
        if query.module.as_deref().is_none_or(|module| known.module == module) {
            data.push(type_body(name, host_types, known, dialect, &signer, now));
        }
    }
    Ok(json_response(StatusCode::OK, &json!({ "data": data, "nextCursor": null })))
}

fn dialect_of(name: Option<&str>) -> Result<Dialect, Problem> {
    let name = name.unwrap_or(Dialect::Desk.as_str());
    Dialect::from_name(name).ok_or_else(|| {
        let all = Dialect::ALL.map(Dialect::as_str).join(", ");
        let error =
            FieldError::new("dialect", FieldErrorKind::Invalid, format!("must be one of {all}"));
        Problem::invalid(vec![error])
    })
}

fn type_body(
    name: &'static str,
    host_types: Vec<&'static str>,
    known: &'static EventType,
    dialect: Dialect,
    signer: &Signer,
    now: Timestamp,
) -> TypeBody {
    let settings = RequestSettings::default();
    let event = EventParts {
        previous: known.sample_previous.as_ref().map(|previous| previous.get().as_bytes()),
        ..EventParts::new(known.name, SAMPLE_ORG, now, known.sample.get().as_bytes())
    };
    let rendered = dialect::render(
        dialect,
        &Occasion {
            event,
            name,
            delivery_id: Uuid::nil(),
            webhook: WebhookFace { id: Uuid::nil(), alias: 1, name: "Sample" },
            at: now,
            signer,
            is_test: false,
            is_replay: false,
            settings: &settings,
            template: None,
        },
    );
    let sample = rendered.ok().and_then(|made| serde_json::from_slice(&made.body).ok());
    TypeBody {
        name: name.to_owned(),
        id: (dialect == Dialect::Assist)
            .then(|| dialect::assist_event(name))
            .flatten()
            .map(|event| event.id),
        host_types,
        module: known.module.to_owned(),
        label: known.label.clone(),
        description: known.description.clone(),
        options: known.options.iter().map(|option| option.name().to_owned()).collect(),
        schema: known.schema.clone(),
        sample: sample.unwrap_or_default(),
    }
}

/// Whose placeholders.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(rename_all = "camelCase")]
struct PlaceholdersQuery {
    /// The event type, as the host names it or as the dialect does.
    event_type: String,
    /// The dialect, where the name is one of its own.
    #[serde(default)]
    dialect: Option<String>,
}

/// A placeholder.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlaceholderBody {
    /// What stands between the braces.
    name: String,
    /// As it is written.
    placeholder: String,
    /// What it stands for, where the name does not say it.
    description: Option<&'static str>,
    /// The name of here, where this is another system's for the same.
    same_as: Option<&'static str>,
    /// What it is in the type's sample.
    sample: Value,
}

impl From<Placeholder> for PlaceholderBody {
    fn from(one: Placeholder) -> Self {
        Self {
            placeholder: format!("{{{{{}}}}}", one.name),
            name: one.name,
            description: one.description,
            same_as: one.same_as,
            sample: one.sample,
        }
    }
}

/// Templates to begin with.
#[derive(Debug, Serialize, ToSchema)]
struct StartersBody {
    /// A payload for POST, PUT and PATCH with JSON.
    json: String,
    /// A payload for POST, PUT and PATCH with XML.
    xml: String,
    /// Parameters for everything else: pairs in order.
    #[schema(value_type = Vec<Vec<String>>)]
    parameters: Vec<(String, String)>,
}

/// What a template for an event type can say.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlaceholdersBody {
    /// The host's name of the event type.
    event_type: &'static str,
    /// Each placeholder.
    data: Vec<PlaceholderBody>,
    /// Always nothing: all of them are here.
    next_cursor: Option<String>,
    /// Templates to begin with.
    templates: StartersBody,
}

/// The placeholders of an event type, and a template to begin with.
#[utoipa::path(
    get, path = "/api/v1/placeholders", tag = "events", params(PlaceholdersQuery),
    responses(
        (status = 200, description = "The placeholders, and templates to begin with", body = PlaceholdersBody),
        (status = 422, description = "There is no such event type; the nearest is named"),
    )
)]
async fn list_placeholders(Query(query): Query<PlaceholdersQuery>) -> Result<Response, Problem> {
    let dialect = query.dialect.as_deref().map(|name| dialect_of(Some(name))).transpose()?;
    let known = event_type(&query.event_type, dialect).map_err(|nearest| {
        let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
        let message = format!("is no event type{hint}");
        Problem::invalid(vec![FieldError::new("eventType", FieldErrorKind::Invalid, message)])
    })?;
    let payload = |format| match placeholders::starter(known, RequestMethod::Post, format) {
        Starter::Payload(text) => text,
        Starter::Parameters(_) => String::new(),
    };
    let parameters = match placeholders::starter(known, RequestMethod::Get, BodyFormat::Form) {
        Starter::Parameters(pairs) => pairs,
        Starter::Payload(_) => Vec::new(),
    };
    let templates =
        StartersBody { json: payload(BodyFormat::Json), xml: payload(BodyFormat::Xml), parameters };
    let data = placeholders::placeholders(known).into_iter().map(PlaceholderBody::from).collect();
    let body = PlaceholdersBody { event_type: known.name, data, next_cursor: None, templates };
    Ok(json_response(StatusCode::OK, &body))
}

/// The type of a name; else the nearest name.
fn event_type(
    name: &str,
    dialect: Option<Dialect>,
) -> Result<&'static EventType, Option<&'static str>> {
    let by_dialect = |dialect: Dialect| {
        let name = dialect::canonical(dialect, name)?;
        catalogue::find(dialect::host_types(dialect, name).first()?)
    };
    let found = match dialect {
        Some(dialect) => by_dialect(dialect),
        None => catalogue::find(name).or_else(|| Dialect::ALL.into_iter().find_map(by_dialect)),
    };
    found.ok_or_else(|| match dialect {
        Some(dialect) => dialect::nearest(dialect, name),
        None => catalogue::nearest(name),
    })
}
