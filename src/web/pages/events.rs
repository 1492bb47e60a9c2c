//! Events: what came, and why it went where it went.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;

use super::{page, page_with};
use crate::api::Role;
use crate::web::answers::Event;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Visit, segment, with_query};

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    shell: Shell,
    /// What was looked for; empty where nothing was yet.
    wanted: String,
    org: String,
    needs_org: bool,
    event: Option<Event>,
}

fn template(visit: &Visit, wanted: String, event: Option<Event>) -> EventPage {
    EventPage {
        shell: visit.shell("Why did it not arrive?"),
        wanted,
        org: visit.parameter("org"),
        needs_org: visit.is_any(&[Role::Operator]),
        event,
    }
}

/// Asks for an event.
pub(in crate::web) async fn ask(visit: Visit) -> Result<Response, Trouble> {
    let (wanted, org) = (visit.parameter("id"), visit.parameter("org"));
    if !wanted.is_empty() {
        let path = format!("/pages/events/{}", segment(&wanted));
        return Ok(Redirect::to(&with_query(&path, &[("org", &org)])).into_response());
    }
    page(&template(&visit, String::new(), None))
}

/// Shows an event, and for every webhook whether it matched.
pub(in crate::web) async fn show(
    visit: Visit,
    Part(id): Part<String>,
) -> Result<Response, Trouble> {
    let org = visit.parameter("org");
    let query: &[(&str, &str)] =
        if visit.is_any(&[Role::Operator]) { &[("orgId", &org)] } else { &[] };
    let path = with_query(&format!("/events/{}", segment(&id)), query);
    let event: Option<Event> = visit.find(&path).await?;
    // In words, for what is not there too.
    let status = if event.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    page_with(status, &template(&visit, id, event))
}
