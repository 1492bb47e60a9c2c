//! The API to read: one page made from the OpenAPI document, a page for each problem, and the
//! AsyncAPI document. The pages are whole: they load nothing, run nothing, and work offline.

use std::fmt::Write as _;
use std::sync::{LazyLock, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use super::asyncapi;
use super::cures::by_slug;
use super::extract::{Path, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, Problem};
use super::state::ApiState;

const STYLE: &str = include_str!("reading.css");

/// The page of the API, written once for the process from its one document.
static PAGE: OnceLock<Bytes> = OnceLock::new();

/// The routes of this file.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(reference)).routes(routes!(problem)).routes(routes!(events))
}

/// This API as a page to read
#[utoipa::path(
    get, path = "/docs", tag = "description",
    responses((status = 200, description = "The page", content_type = "text/html"))
)]
async fn reference(State(state): State<ApiState>) -> Result<Response, Problem> {
    let document = state.document().ok_or_else(|| Problem::new(Code::ServiceUnavailable))?;
    if let Some(page) = PAGE.get() {
        return Ok(html(page.clone()));
    }
    let document: Value =
        serde_json::from_slice(document).map_err(|error| Problem::internal(&error))?;
    Ok(html(PAGE.get_or_init(|| Bytes::from(written(&document))).clone()))
}

/// What a problem means and what to do: the page that its `type` leads to
#[utoipa::path(
    get, path = "/problems/{kind}", tag = "description",
    params(("kind" = String, Path, description = "The last segment of a problem's `type`")),
    responses(
        (status = 200, description = "The page", content_type = "text/html"),
        (status = 404, description = "There is no such problem"),
    )
)]
async fn problem(Path(kind): Path<String>) -> Result<Response, Problem> {
    let (code, meaning, cure) = by_slug(&kind).ok_or_else(|| Problem::not_found("problem"))?;
    let body = format!(
        "<h1>{}</h1><p><code>{}</code>, status {}</p><h2>What it means</h2><p>{}</p>\
         <h2>What to do</h2><p>{}</p><p><a href=\"/docs\">The API</a></p>",
        escaped(code.title()),
        code.as_str(),
        code.status().as_u16(),
        marked(meaning),
        marked(cure),
    );
    Ok(html(Bytes::from(framed(code.title(), &body))))
}

/// What vendors receive, as an AsyncAPI 3.0 document
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "description",
    responses((status = 200, body = serde_json::Value))
)]
async fn events(State(state): State<ApiState>) -> Response {
    json_response(StatusCode::OK, &asyncapi::document(state.origin()))
}

/// Nothing but the one stylesheet in the page itself, known by its digest.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let sum = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{sum}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    // A digest in base64 is always fit for a header; without it the page has no style.
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

fn html(page: Bytes) -> Response {
    let mut response = Response::new(page.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn framed(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} - Mortise</title><style>{STYLE}</style></head><body>{body}</body></html>",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text whose parts between backticks are code.
fn marked(text: &str) -> String {
    text.split('`').enumerate().fold(String::new(), |mut html, (place, part)| {
        let part = escaped(part);
        // Writing to a text never fails.
        let _infallible = match place % 2 {
            0 => write!(html, "{part}"),
            _ => write!(html, "<code>{part}</code>"),
        };
        html
    })
}

/// An operation of the document with where it is.
struct Operation<'d> {
    method: String,
    path: &'d str,
    content: &'d Value,
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.content["operationId"].as_str().unwrap_or_default()
    }

    fn is_of(&self, tag: &str) -> bool {
        self.content["tags"].as_array().into_iter().flatten().any(|one| one == tag)
    }
}

/// The page of a document.
fn written(document: &Value) -> String {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, content) in item.as_object().into_iter().flatten() {
            if content["operationId"].is_string() {
                let method = method.to_ascii_uppercase();
                operations.push(Operation { method, path, content });
            }
        }
    }
    let info = &document["info"];
    let mut body = format!(
        "<h1>{} {}</h1><p>{}</p><p>For programs: <a href=\"/openapi.json\">OpenAPI</a>, \
         <a href=\"/asyncapi.json\">AsyncAPI</a> (what vendors receive), \
         <a href=\"/.well-known/jwks.json\">public keys</a>.</p>",
        text(&info["title"]),
        text(&info["version"]),
        text(&info["description"])
    );
    let mut sections = String::new();
    body.push_str("<nav><ul>");
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        let own: Vec<&Operation<'_>> =
            operations.iter().filter(|operation| operation.is_of(name)).collect();
        if own.is_empty() {
            continue;
        }
        let shown = escaped(name);
        let _infallible = write!(body, "<li><a href=\"#{shown}\">{shown}</a></li>");
        let _infallible = write!(
            sections,
            "<section id=\"{shown}\"><h2>{shown}</h2><p>{}</p>",
            text(&tag["description"])
        );
        for operation in own {
            describe(&mut sections, operation, document);
        }
        sections.push_str("</section>");
    }
    body.push_str("</ul></nav>");
    body.push_str(&sections);
    framed("The API", &body)
}

fn describe(page: &mut String, operation: &Operation<'_>, document: &Value) {
    let content = operation.content;
    let _infallible = write!(
        page,
        "<article id=\"{}\"><h3><code>{} {}</code></h3><p>{}</p>",
        escaped(operation.id()),
        operation.method,
        escaped(operation.path),
        marked(content["summary"].as_str().unwrap_or_default()),
    );
    if let Some(more) = content["description"].as_str() {
        let _infallible = write!(page, "<p>{}</p>", marked(more));
    }
    let roles: Vec<&str> =
        content["x-roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let who =
        if roles.is_empty() { "everybody, without a token".to_owned() } else { roles.join(", ") };
    let scope = content["x-scope"].as_str().map(|scope| format!("; scope <code>{scope}</code>"));
    let _infallible = write!(page, "<p class=\"who\">For {who}{}</p>", scope.unwrap_or_default());
    let parameters: Vec<&Value> = content["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter</th><th>in</th><th>what it is</th></tr>");
        for parameter in parameters {
            let needed = if parameter["required"] == true { ", required" } else { "" };
            let _infallible = write!(
                page,
                "<tr><td><code>{}</code></td><td>{}{needed}</td><td>{}</td></tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                marked(parameter["description"].as_str().unwrap_or_default())
            );
        }
        page.push_str("</table>");
    }
    for (kind, body) in content["requestBody"]["content"].as_object().into_iter().flatten() {
        let _infallible = write!(page, "<p>Body: <code>{}</code></p>", escaped(kind));
        schema(page, &body["schema"], document);
    }
    page.push_str("<table><tr><th>status</th><th>answer</th></tr>");
    for (status, answer) in content["responses"].as_object().into_iter().flatten() {
        let _infallible = write!(
            page,
            "<tr><td>{}</td><td>{}",
            escaped(status),
            marked(answer["description"].as_str().unwrap_or_default())
        );
        for (_, body) in answer["content"].as_object().into_iter().flatten() {
            if status != "default" {
                schema(page, &body["schema"], document);
            }
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</table></article>");
}

/// A schema to be opened, with the name that it has in the document.
fn schema(page: &mut String, schema: &Value, document: &Value) {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    let (name, found) = match reference {
        Some(pointer) => {
            let name = pointer.rsplit('/').next().unwrap_or("schema");
            (name, document.pointer(pointer).unwrap_or(schema))
        }
        None => ("schema", schema),
    };
    if !found.is_null() {
        let _infallible = write!(
            page,
            "<details><summary>{}</summary><pre>{}</pre></details>",
            escaped(name),
            escaped(&format!("{found:#}"))
        );
    }
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::api::rooms;
    use crate::api::routes::ROUTES;
    use crate::api::testing::TestApi;

    /// What of a page a browser would fetch, run or send.
    fn assert_whole(page: &str) {
        for active in ["<script", "<img", "<iframe", "<link", "<form", "src=", "@import", "url("] {
            let found = page.find(active).map(|at| &page[at..page.len().min(at + 40)]);
            assert!(found.is_none(), "{active}: {found:?}");
        }
        assert!(!regex::Regex::new(r"<[^>]+\son[a-z]+=").expect("a pattern").is_match(page));
        for link in page.split("href=\"").skip(1) {
            assert!(link.starts_with('/') || link.starts_with('#'), "{}", &link[..40]);
        }
    }

    #[tokio::test]
    async fn the_page_has_every_route_and_loads_nothing() {
        let api = TestApi::with_routes(|router| router.merge(rooms())).await;
        let answer = api.call(Method::GET, "/docs", "", None).await;
        assert_eq!(answer.status, StatusCode::OK);
        let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let document: Value =
            serde_json::from_slice(api.state.document().expect("a document")).expect("JSON");
        let page = written(&document);
        assert_whole(&page);
        for route in ROUTES {
            let path = route.path.replace("{*", "{");
            let head = format!("<code>{} {path}</code>", route.method);
            assert!(page.contains(&head), "{head}");
        }
        let anchors: Vec<_> =
            page.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(anchors.contains(&target), "{target}");
        }
    }

    #[tokio::test]
    async fn the_address_of_a_problem_leads_to_its_page() {
        let api = TestApi::with_routes(|router| router.merge(rooms())).await;
        let refused = api.call(Method::GET, "/api/v1/nowhere", &api.operator, None).await;
        let kind = refused.json["type"].as_str().expect("a type").to_owned();
        let path = kind.strip_prefix(api.state.origin()).expect("of this server");
        let answer = api.call(Method::GET, path, "", None).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[CONTENT_TYPE], "text/html; charset=utf-8");
        let unknown = api.call(Method::GET, "/problems/none", "", None).await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        let odd = api.call(Method::GET, "/problems/%3Cscript%3E", "", None).await;
        assert_eq!(odd.status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_vendors_receive_is_described() {
        let api = TestApi::with_routes(|router| router.merge(rooms())).await;
        let answer = api.call(Method::GET, "/asyncapi.json", "", None).await;
        assert_eq!((answer.status, &answer.json["asyncapi"]), (StatusCode::OK, &"3.0.0".into()));
        assert!(answer.json["channels"]["webhook"]["messages"]["Ticket_Add"].is_object());
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(marked("a `<b>` & \"c\""), "a <code>&lt;b&gt;</code> &amp; &quot;c&quot;");
    }
}
