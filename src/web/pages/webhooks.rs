//! Webhooks: whose they are, how they do, and for their owners what may be sent to them.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::deliveries::Filter;
use super::own::{event_choices, headers};
use super::{back_to, next_page, page, page_with};
use crate::api::Role;
use crate::web::answers::{Delivery, EventType, Job, List, Rule, Statistics, Trial, Webhook};
use crate::web::chart::Chart;
use crate::web::faults::{Faults, Fields};
use crate::web::parts::{Choice, Moment, choices};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "webhooks.html")]
struct WebhookList {
    shell: Shell,
    webhooks: Vec<Webhook>,
    org: String,
    search: String,
    kinds: Vec<Choice>,
    /// Whether the list is narrowed.
    is_narrowed: bool,
    has_org: bool,
    /// Whether the visitor may make one, and where.
    can_make: bool,
    new: String,
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
    is_over_many: bool,
    /// Where what happens is told; nowhere on pages that do not change under the reader.
    live: String,
    /// Whether the visitor may send to it.
    can_send: bool,
    /// Whether the visitor may change it: never an extension's.
    can_change: bool,
    jobs: Vec<Job>,
    /// The triggers or automations that call it: address and name.
    rules: Vec<(String, String)>,
    /// The org to name where the visitor belongs to none.
    own_org: String,
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
    is_over_many: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "webhook_test.html")]
struct TestPage {
    shell: Shell,
    webhook: Webhook,
    types: Vec<Choice>,
    trial: Option<Trial>,
    payload: String,
    headers: String,
    faults: Faults,
}

/// The kinds that a list may be narrowed to.
const KINDS: &[(&str, &str)] = &[
    ("", "All webhooks"),
    ("EXTENSION_WEBHOOK", "Those of extensions"),
    ("CUSTOMER_WEBHOOK", "The org's own"),
];

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let (org, cursor) = (visit.parameter("org"), visit.parameter("cursor"));
    let (search, kind) = (visit.parameter("search"), visit.parameter("type"));
    let query = [
        ("orgId", org.as_str()),
        ("search", search.as_str()),
        ("type", kind.as_str()),
        ("cursor", cursor.as_str()),
    ];
    let found: List<Webhook> = visit.get(&with_query("/webhooks", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    let is_narrowed = [&org, &search, &kind].into_iter().any(|text| !text.is_empty());
    page(&WebhookList {
        shell: visit.shell("Webhooks"),
        webhooks: found.data,
        kinds: choices(KINDS, &kind),
        is_narrowed,
        has_org: visit.is_any(&[Role::Admin, Role::Viewer]),
        can_make: visit.may(&Method::POST, "/webhooks"),
        new: with_query("/pages/webhooks/new", &[("org", &org)]),
        org,
        search,
        next,
    })
}

/// Whether a visitor may send to a webhook: to an extension's not as an administrator.
fn can_send(visit: &Visit, webhook: &Webhook) -> bool {
    let owners: &[Role] = if webhook.locked {
        &[Role::Operator, Role::Vendor]
    } else {
        &[Role::Operator, Role::Admin]
    };
    visit.is_any(owners) && visit.may(&Method::POST, "/webhooks/{id}/test")
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

/// The parts of a webhook's page, asked for side by side.
async fn parts(
    visit: &Visit,
    id: Uuid,
    filter: &Filter,
) -> Result<(Webhook, Statistics, List<Delivery>), Trouble> {
    let (webhook, figures) = (format!("/webhooks/{id}"), format!("/webhooks/{id}/statistics"));
    tokio::try_join!(visit.get(&webhook), visit.get(&figures), deliveries_of(visit, id, filter))
}

/// Shows one.
pub(in crate::web) async fn show(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let filter = Filter::of(&visit);
    let (webhook, figures, found) = parts(&visit, id, &filter).await?;
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
    let rules = rules_of(&visit, &webhook).await?;
    let live = format!("/pages/webhooks/{id}/live");
    let is_operator = visit.is_any(&[Role::Operator]);
    page(&WebhookPage {
        can_change: can_send && !webhook.locked,
        own_org: if is_operator { webhook.org_id.clone() } else { String::new() },
        rules,
        shell: visit.shell(webhook.title()),
        // An older page does not change under the reader, nor one that was searched for.
        live: if filter.is_first_page() && !filter.is_any() { live } else { String::new() },
        webhook,
        figures,
        deliveries: found.data,
        next,
        states: filter.states(),
        filter,
        is_over_many: false,
        can_send,
        jobs,
    })
}

/// The triggers or automations that call a webhook, where such things do.
async fn rules_of(visit: &Visit, webhook: &Webhook) -> Result<Vec<(String, String)>, Trouble> {
    let Some(own) = webhook.own.as_ref().filter(|own| own.is_called_by_rules()) else {
        return Ok(Vec::new());
    };
    // A vendor sees no webhook of an org's own, and so none of these either.
    let org = if visit.is_any(&[Role::Operator]) { webhook.org_id.as_str() } else { "" };
    let id = webhook.id.to_string();
    let query = [("orgId", org), ("webhookId", id.as_str()), ("limit", "100")];
    let found: List<Rule> = visit.get(&with_query(&format!("/{}", own.rules()), &query)).await?;
    let href = |rule: &Rule| format!("/pages/rules/{}/{}", own.rules(), rule.id);
    Ok(found.data.into_iter().map(|rule| (href(&rule), rule.name)).collect())
}

/// What of a webhook's page changes while it is looked at: HTML by the name of the part, as JSON.
pub(in crate::web) async fn live_part(visit: &Visit, id: Uuid) -> Result<String, Trouble> {
    // Whatever the address says: a search through the history is not made every second.
    let filter = Filter::default();
    let (webhook, figures, found) = parts(visit, id, &filter).await?;
    let mut page = visit.clone();
    page.path = format!("/pages/webhooks/{id}");
    page.query.clear();
    let next = next_page(&page, found.next_cursor.as_deref());
    let figures = FiguresPart { webhook, figures }.render();
    let deliveries = DeliveriesPart { deliveries: found.data, filter, is_over_many: false, next };
    let deliveries = deliveries.render();
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

/// What a test's page is shown with.
struct Tried {
    chosen: String,
    trial: Option<Trial>,
    payload: String,
    headers: String,
    faults: Faults,
}

impl Tried {
    fn of(chosen: String, trial: Option<Trial>) -> Self {
        let (payload, headers) = (String::new(), String::new());
        Self { chosen, trial, payload, headers, faults: Faults::none(TEST_FIELDS) }
    }
}

/// The fields of a test.
const TEST_FIELDS: Fields =
    &[("/eventType", "Event"), ("/body", "Payload"), ("/headers", "Headers")];

async fn test_page(visit: &Visit, webhook: Webhook, tried: Tried) -> Result<Response, Trouble> {
    let dialect = webhook.own.as_ref().map_or("", |own| own.dialect.as_str());
    let types = visit.event_types(dialect).await?;
    let mut types: Vec<&EventType> = types.iter().collect();
    let subscribed: Vec<String> =
        webhook.subscribed().into_iter().map(|subscribed| subscribed.name).collect();
    // What it subscribes to comes first.
    types.sort_by_key(|one| !subscribed.contains(&one.name));
    let shell = visit.shell(format!("Test {}", webhook.title()));
    let types = event_choices(types.into_iter(), &tried.chosen);
    let status =
        if tried.faults.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let Tried { trial, payload, headers, faults, .. } = tried;
    page_with(status, &TestPage { shell, webhook, types, trial, payload, headers, faults })
}

/// Says what can be sent as a test.
pub(in crate::web) async fn before_test(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    let webhook = own(&visit, id).await?;
    let first = webhook.subscribed().into_iter().next().map(|one| one.name).unwrap_or_default();
    test_page(&visit, webhook, Tried::of(first, None)).await
}

/// Sends a sample event, or one with a payload of the visitor's own.
pub(in crate::web) async fn test(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let mut tried = Tried::of(form.text("type").to_owned(), None);
    tried.payload = form.lines("body");
    tried.headers = form.lines("headers");
    let mut body = json!({ "eventType": tried.chosen });
    if !tried.payload.is_empty() {
        match serde_json::from_str::<Value>(&tried.payload) {
            Ok(payload) => body["body"] = payload,
            Err(error) => tried.faults.add("/body", format!("is not JSON: {error}")),
        }
    }
    let headers = headers(&tried.headers, &mut tried.faults);
    if !headers.is_null() {
        body["headers"] = headers;
    }
    if tried.faults.is_empty() {
        // Without a key: a test that is sent twice is two tests.
        let path = format!("/webhooks/{id}/test");
        let answered = visit.send(Method::POST, &path, &body, "").await?;
        if answered.status.is_success() {
            let trial = serde_json::from_value(answered.json);
            tried.trial = Some(trial.map_err(|error| Trouble::internal(&error))?);
        } else {
            tried.faults = Faults::of(TEST_FIELDS, answered, "")?;
            if tried.faults.summary.is_empty() {
                "Nothing was sent.".clone_into(&mut tried.faults.summary);
            }
        }
    }
    let webhook = own(&visit, id).await?;
    test_page(&visit, webhook, tried).await
}

/// Pings.
pub(in crate::web) async fn ping(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let answer = visit.post(&format!("/webhooks/{id}/ping"), &json!({}), form.text("key")).await?;
    let trial = serde_json::from_value(answer).map_err(|error| Trouble::internal(&error))?;
    let webhook = own(&visit, id).await?;
    test_page(&visit, webhook, Tried::of(String::new(), Some(trial))).await
}

/// A moment as a form sends it, which is in UTC, as the API takes it.
pub(super) fn moment(text: &str) -> Option<String> {
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
