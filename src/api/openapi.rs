//! The router of the whole API and the document that describes it, made from the same handlers.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::extract::json_bytes;
use super::handler::routes;
use super::problem::{Code, Problem};
use super::routes::{Access, Lookup, find};
use super::state::ApiState;
use super::{correlation, health, tokens};

/// A router that keeps the document beside the routes. Paths are whole, `/api/v1/…` included.
pub type ApiRouter = OpenApiRouter<ApiState>;

/// The name of the security scheme.
const BEARER: &str = "bearer";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Mortise",
        description = "Manages the whole life of help desk extensions: packages, installations, \
                       locked webhooks, signed durable delivery."
    ),
    tags(
        (name = "catalogue", description = "Extensions and their versions"),
        (name = "lifecycle", description = "Callbacks from the marketplace, installations"),
        (name = "events", description = "Events from the host"),
        (name = "webhooks", description = "Webhooks of an org"),
        (name = "deliveries", description = "Deliveries to vendors"),
        (name = "invoke", description = "The vendor's way back in, and what extensions keep here"),
        (name = "notices", description = "What one must know"),
        (name = "tools", description = "Inspectors and listeners: what vendors build with"),
        (name = "rules", description = "Triggers and automations of an org"),
        (name = "tokens", description = "API tokens"),
        (name = "keys", description = "Keys of the platform and their rotation"),
        (name = "operation", description = "Whether everything is as it should be"),
        (name = "health", description = "Whether it runs"),
        (name = "description", description = "What describes this API"),
    )
)]
struct Frame;

/// A refusal (RFC 9457). Some have more members, such as `lockedBy`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
struct ProblemSchema {
    /// What kind of problem it is, as a URI.
    r#type: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The code of the desk dialect's list, enlarged.
    error_code: String,
    /// As `detail`; for an extension that is not valid, the desk dialect's form.
    message: String,
    /// The id of the request, to be quoted to the operator.
    #[schema(required)]
    correlation_id: Option<String>,
    /// The single faults.
    errors: Option<Vec<FieldErrorSchema>>,
}

/// A fault of one field or parameter.
#[derive(Serialize, ToSchema)]
#[schema(as = FieldError)]
#[serde(rename_all = "camelCase")]
struct FieldErrorSchema {
    /// A JSON pointer into the body, or the name of a parameter or header.
    field_name: String,
    /// `invalid`, `missing` or `duplicate`.
    error_type: String,
    /// What is wrong, with the rule.
    error_message: String,
    /// The nearest known name.
    suggestion: Option<String>,
}

/// This API as an OpenAPI 3.1 document
#[utoipa::path(
    get, path = "/openapi.json", tag = "description",
    responses((status = 200, body = serde_json::Value))
)]
async fn document(State(state): State<ApiState>) -> Response {
    match state.document() {
        Some(document) => json_bytes(StatusCode::OK, document.clone()),
        None => Problem::new(Code::ServiceUnavailable).into_response(),
    }
}

/// What the API always has: tokens, health, its own description.
pub fn ground() -> ApiRouter {
    OpenApiRouter::with_openapi(Frame::openapi())
        .merge(tokens::router())
        .merge(health::router())
        .routes(routes!(document))
}

/// The whole application: the ground and the routes of other rooms, behind all layers.
pub fn application(state: ApiState, rooms: ApiRouter) -> Router {
    let (router, mut document) = ground().merge(rooms).split_for_parts();
    describe(&mut document, state.origin());
    match document.to_json() {
        Ok(text) => state.publish_document(text.into()),
        Err(error) => tracing::error!(%error, "the OpenAPI document cannot be written"),
    }
    guarded(state, router.fallback(correlation::url_not_found))
}

/// The same with the pages behind every path that is not the API's.
pub fn application_with_pages(state: ApiState, rooms: ApiRouter, pages: Router) -> Router {
    let (router, _document) = ground().merge(rooms).split_for_parts();
    guarded(state, router.fallback_service(pages))
}

/// Puts the frame around a router.
pub(crate) fn guarded(state: ApiState, router: Router<ApiState>) -> Router {
    router
        .method_not_allowed_fallback(correlation::method_not_allowed)
        .layer(correlation::FrameLayer(state.clone()))
        .with_state(state)
}

/// Adds to the document what the table of routes knows: security, roles, scopes, and the problem
/// that every operation may answer.
pub(super) fn describe(document: &mut OpenApi, origin: &str) {
    document.servers = Some(vec![utoipa::openapi::Server::new(origin)]);
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API token. `Zoho-oauthtoken` works on the desk dialect's paths."))
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    let mut schemas = vec![(ProblemSchema::name().into_owned(), ProblemSchema::schema())];
    ProblemSchema::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (http::Method::GET, &mut item.get),
            (http::Method::POST, &mut item.post),
            (http::Method::PUT, &mut item.put),
            (http::Method::PATCH, &mut item.patch),
            (http::Method::DELETE, &mut item.delete),
        ] {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(operation_id(&method, path));
            if let Lookup::Found(route) = find(&method, path) {
                describe_operation(operation, route);
            }
        }
    }
    // OpenAPI has no word for "the rest of the path".
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths =
        paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
}

/// A name that is one over the whole API, such as `getInstallationsByIdHistory`: handlers of
/// different rooms may have the same one.
fn operation_id(method: &http::Method, path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let mut id = method.as_str().to_ascii_lowercase();
    for segment in path.split('/') {
        let name = segment.trim_start_matches(['{', '*']).trim_end_matches('}');
        id.push_str(if segment.starts_with('{') { "By" } else { "" });
        for word in name.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let (first, rest) = word.split_at(usize::from(!word.is_empty()));
            id.push_str(&first.to_ascii_uppercase());
            id.push_str(rest);
        }
    }
    id
}

fn describe_operation(operation: &mut Operation, route: &super::routes::Route) {
    let mut problem =
        ResponseBuilder::new().description("A refusal; `docs/errors.md` lists the codes").content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
        );
    if route.path.starts_with("/oauth/") {
        // A browser is told in words.
        problem = problem.content("text/html", ContentBuilder::new().build());
    }
    let problem = problem.build();
    operation.responses.responses.insert("default".to_owned(), problem.into());
    let Access::Roles(roles) = route.access else {
        operation.security = Some(Vec::new());
        return;
    };
    operation.security = Some(vec![SecurityRequirement::new(BEARER, [""; 0])]);
    let known: &mut Extensions = operation.extensions.get_or_insert_default();
    known.insert("x-roles".to_owned(), serde_json::json!(roles));
    if let Some(scope) = route.scope {
        known.insert("x-scope".to_owned(), scope.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::{FieldError, FieldErrorKind};
    use crate::api::routes::{missing_and_extra, mounted};
    use crate::api::testing::TestApi;

    #[test]
    fn every_route_of_the_ground_has_its_row() {
        let (missing, extra) = missing_and_extra(&mounted(&ground().into_openapi()));
        assert_eq!(extra, Vec::<String>::new());
        for own in ["/tokens", "/health/", "/openapi.json"] {
            assert!(!missing.iter().any(|row| row.contains(own)), "{own}: {missing:?}");
        }
    }

    #[tokio::test]
    async fn the_document_is_openapi_3_1_and_knows_roles_and_problems() {
        let api = TestApi::start().await;
        let answer = api.call(http::Method::GET, "/openapi.json", "", None).await;
        assert_eq!(answer.status, StatusCode::OK);
        let document = answer.json;
        assert!(
            document["openapi"].as_str().unwrap().starts_with("3.1"),
            "{}",
            document["openapi"]
        );
        let tokens = &document["paths"]["/api/v1/tokens"]["get"];
        assert_eq!(tokens["x-roles"], serde_json::json!(["operator"]));
        assert_eq!(tokens["security"], serde_json::json!([{"bearer": []}]));
        let problem = &document["components"]["schemas"]["Problem"]["properties"];
        for member in ["type", "title", "status", "detail", "errorCode", "message", "correlationId"]
        {
            assert!(problem[member].is_object(), "{member}: {problem}");
        }
        assert_eq!(document["paths"]["/health/live"]["get"]["security"], serde_json::json!([]));
        assert_eq!(document["servers"][0]["url"], api.state.origin());
    }

    #[test]
    fn every_route_has_an_operation_id_of_its_own() {
        let ids: Vec<_> = crate::api::routes::ROUTES
            .iter()
            .map(|route| operation_id(&route.method, route.path))
            .collect();
        for (place, id) in ids.iter().enumerate() {
            assert!(!ids[..place].contains(id), "{id}");
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        }
        assert!(ids.contains(&"getInstallationsByIdHistory".to_owned()), "{ids:?}");
    }

    #[test]
    fn the_schema_of_a_field_error_says_what_is_written() {
        let error = FieldError {
            suggestion: Some("a".to_owned()),
            ..FieldError::new("/b", FieldErrorKind::Invalid, "c")
        };
        let written = serde_json::to_value(error).unwrap();
        let schema = serde_json::to_value(FieldErrorSchema::schema()).unwrap();
        for name in written.as_object().unwrap().keys() {
            assert!(schema["properties"][name].is_object(), "{name}");
        }
    }
}
