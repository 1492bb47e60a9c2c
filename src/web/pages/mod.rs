//! One file a page, or a few that belong together. Each asks the API and fills a template.

pub(super) mod audit;
pub(super) mod deliveries;
pub(super) mod event_types;
pub(super) mod events;
pub(super) mod extensions;
pub(super) mod findings;
pub(super) mod home;
pub(super) mod installations;
pub(super) mod jobs;
pub(super) mod journal;
pub(super) mod notices;
pub(super) mod own;
pub(super) mod publish;
pub(super) mod recipes;
pub(super) mod rules;
pub(super) mod sign_in;
pub(super) mod tokens;
pub(super) mod trouble;
pub(super) mod webhooks;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::trouble::Trouble;
use super::visit::{Visit, with_query};

/// Writes a page.
fn page(template: &impl Template) -> Result<Response, Trouble> {
    page_with(StatusCode::OK, template)
}

/// Writes a page with another status.
fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, Trouble> {
    let text = template.render().map_err(|error| Trouble::internal(&error))?;
    Ok((status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}

/// Leads back to a page of ours after something was done, and says what.
fn back_to(path: &str, done: &str) -> Response {
    Redirect::to(&with_query(path, &[("done", done)])).into_response()
}

/// Where the next page of a list is: this page with another cursor.
fn next_page(visit: &Visit, cursor: Option<&str>) -> Option<String> {
    let cursor = cursor?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(visit.query.as_bytes()) {
        if name != "cursor" && name != "done" {
            query.append_pair(&name, &value);
        }
    }
    query.append_pair("cursor", cursor);
    Some(format!("{}?{}", visit.path, query.finish()))
}
