//! Webhooks: whose they are, how they do, and for their owners what may be sent to them.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deliveries::Filter;
use super::{back_to, next_page, page};
use crate::api::Role;
use crate::web::answers::{Delivery, EventType, Job, List, Statistics, Trial, Webhook};
use crate::web::parts::{Choice, Moment};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "webhooks.html")]
struct WebhookList {
    shell: Shell,
    webhooks: Vec<Webhook>,
    org: String,
    has_org: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "webhook.html")]
struct WebhookPage {
    shell: Shell,
    webhook: Webhook,
    figures: Statistics,
    deliveries: Vec<Delivery>,
    next: Option<String>,
    filter: Filter,
    states: Vec<Choice>,
    /// Where what happens is told; with the same filter.
    live: String,
    /// Whether the visitor may send to it.
    can_send: bool,
    jobs: Vec<Job>,
}

/// What of a webhook's page changes while it is looked at.
#[derive(Template)]
#[template(path = "webhook_figures.html")]
struct FiguresPart {
    webhook: Webhook,
    figures: Statistics,
}

/// The same of its deliveries.
#[derive(Template)]
#[template(path = "webhook_deliveries.html")]
struct DeliveriesPart {
    deliveries: Vec<Delivery>,
    filter: Filter,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "webhook_test.html")]
struct TestPage {
    shell: Shell,
    webhook: Webhook,
    types: Vec<Choice>,
    trial: Option<Trial>,
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let (org, cursor) = (visit.parameter("org"), visit.parameter("cursor"));
    let query = [("orgId", org.as_str()), ("cursor", cursor.as_str())];
    let found: List<Webhook> = visit.get(&with_query("/webhooks", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    page(&WebhookList {
        shell: visit.shell("Webhooks"),
        webhooks: found.data,
        org,
        has_org: visit.is_any(&[Role::Admin, Role::Viewer]),
        next,
    })
}

/// Whether a visitor may send to a webhook: to an extension's not as an administrator.
fn can_send(visit: &Visit, webhook: &Webhook) -> bool {
    if webhook.locked {
        visit.is_any(&[Role::Operator, Role::Vendor])
    } else {
        visit.is_any(&[Role::Operator, Role::Admin])
    }
}

async fn deliveries_of(
    visit: &Visit,
    id: Uuid,
    filter: &Filter,
) -> Result<List<Delivery>, Trouble> {
    let id = id.to_string();
    let mut query = vec![("webhookId", id.as_str()), ("limit", "25")];
    query.extend(filter.query());
    visit.get(&with_query("/deliveries", &query)).await
}

/// Shows one.
pub(in crate::web) async fn show(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let webhook: Webhook = visit.get(&format!("/webhooks/{id}")).await?;
    let figures: Statistics = visit.get(&format!("/webhooks/{id}/statistics")).await?;
    let filter = Filter::of(&visit);
    let found = deliveries_of(&visit, id, &filter).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    let can_send = can_send(&visit, &webhook);
    let jobs = if can_send {
        let id = id.to_string();
        let query = [("webhookId", id.as_str()), ("limit", "3")];
        let jobs: List<Job> = visit.get(&with_query("/jobs", &query)).await?;
        jobs.data
    } else {
        Vec::new()
    };
    let live = with_query(&format!("/pages/webhooks/{id}/live"), &filter.page_query());
    page(&WebhookPage {
        shell: visit.shell(webhook.title()),
        // An older page does not change under the reader.
        live: if filter.is_first_page() { live } else { String::new() },
        webhook,
        figures,
        deliveries: found.data,
        next,
        states: filter.states(),
        filter,
        can_send,
        jobs,
    })
}

/// What of a webhook's page changes while it is looked at: HTML by the name of the part, as JSON.
pub(in crate::web) async fn live_part(visit: &Visit, id: Uuid) -> Result<String, Trouble> {
    let webhook: Webhook = visit.get(&format!("/webhooks/{id}")).await?;
    let figures: Statistics = visit.get(&format!("/webhooks/{id}/statistics")).await?;
    let filter = Filter::of(visit);
    let found = deliveries_of(visit, id, &filter).await?;
    let mut page = visit.clone();
    page.path = format!("/pages/webhooks/{id}");
    let next = next_page(&page, found.next_cursor.as_deref());
    let figures = FiguresPart { webhook, figures }.render();
    let deliveries = DeliveriesPart { deliveries: found.data, filter, next }.render();
    let parts = json!({
        "figures": figures.map_err(|error| Trouble::internal(&error))?,
        "deliveries": deliveries.map_err(|error| Trouble::internal(&error))?,
    });
    Ok(parts.to_string())
}

async fn own(visit: &Visit, id: Uuid) -> Result<Webhook, Trouble> {
    let webhook: Webhook = visit.get(&format!("/webhooks/{id}")).await?;
    if can_send(visit, &webhook) { Ok(webhook) } else { Err(Trouble::not_found()) }
}

async fn test_page(
    visit: &Visit,
    webhook: Webhook,
    chosen: &str,
    trial: Option<Trial>,
) -> Result<Response, Trouble> {
    let types: List<EventType> = visit.get("/event-types").await?;
    let shell = visit.shell(format!("Test {}", webhook.title()));
    let types = types
        .data
        .into_iter()
        .map(|one| Choice {
            label: format!("{} ({})", one.label, one.name),
            is_chosen: one.name == chosen,
            value: one.name,
        })
        .collect();
    page(&TestPage { shell, webhook, types, trial })
}

/// Says what can be sent as a test.
pub(in crate::web) async fn before_test(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    let webhook = own(&visit, id).await?;
    let first = webhook.subscribed().into_iter().next().map(|one| one.name).unwrap_or_default();
    test_page(&visit, webhook, &first, None).await
}

async fn tried(
    visit: &Visit,
    id: Uuid,
    step: &str,
    body: &Value,
    key: &str,
) -> Result<Trial, Trouble> {
    let answer = visit.post(&format!("/webhooks/{id}/{step}"), body, key).await?;
    serde_json::from_value(answer).map_err(|error| Trouble::internal(&error))
}

/// Sends a sample event.
pub(in crate::web) async fn test(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let chosen = form.text("type").to_owned();
    let body = json!({ "eventType": chosen });
    let trial = tried(&visit, id, "test", &body, form.text("key")).await?;
    let webhook = own(&visit, id).await?;
    test_page(&visit, webhook, &chosen, Some(trial)).await
}

/// Pings.
pub(in crate::web) async fn ping(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let trial = tried(&visit, id, "ping", &json!({}), form.text("key")).await?;
    let webhook = own(&visit, id).await?;
    test_page(&visit, webhook, "", Some(trial)).await
}

/// A moment as a form sends it, which is in UTC, as the API takes it.
fn moment(text: &str) -> Option<String> {
    let text = match text.len() {
        0 => return None,
        // What `<input type="datetime-local">` sends.
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let moment = Moment::parse(&text);
    // What cannot be read goes to the API as it is, which says what is wrong with it.
    Some(if moment.is_known() { moment.exact().to_owned() } else { text })
}

/// Delivers many again.
pub(in crate::web) async fn recover(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let mut body = json!({ "since": moment(form.text("since")).unwrap_or_default() });
    for (name, value) in [("until", moment(form.text("until"))), ("state", form.filled("state"))] {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    let job = visit.post(&format!("/webhooks/{id}/recover"), &body, form.text("key")).await?;
    let job = job.get("jobId").and_then(Value::as_str).unwrap_or_default();
    Ok(back_to(&format!("/pages/jobs/{job}"), "recovering"))
}

/// Makes it live again.
pub(in crate::web) async fn reactivate(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "release": form.is_ticked("release") });
    visit.post(&format!("/webhooks/{id}/reactivate"), &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/webhooks/{id}"), "reactivated"))
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_of_forms_are_those_of_the_api() {
        assert_eq!(moment(""), None);
        let read = moment("2026-11-21T20:15").unwrap();
        assert!(read.starts_with("2026-11-21T20:15:00") && read.ends_with('Z'), "{read}");
        assert_eq!(moment("yesterday").as_deref(), Some("yesterday"));
    }
}
