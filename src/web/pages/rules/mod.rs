//! Triggers and automations: when an org's own webhooks are called, and with what.

mod filled;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use self::filled::{FIELDS, Filled};
use super::own::event_choices;
use super::{back_to, next_page, page, page_with};
use crate::api::Role;
use crate::web::answers::{List, Placeholders, Rule, Webhook};
use crate::web::faults::Faults;
use crate::web::parts::Choice;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

/// How many rows a form grows by when it is asked for more.
const MORE: usize = 4;

/// The event type that a new rule begins with.
const FIRST: &str = "Ticket_Add";

/// Of which kind rules are: a part of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Triggers,
    Automations,
}

impl Kind {
    fn of(part: &str) -> Result<Self, Trouble> {
        match part {
            "triggers" => Ok(Self::Triggers),
            "automations" => Ok(Self::Automations),
            _ => Err(Trouble::not_found()),
        }
    }

    const fn part(self) -> &'static str {
        match self {
            Self::Triggers => "triggers",
            Self::Automations => "automations",
        }
    }

    const fn connection(self) -> &'static str {
        match self {
            Self::Triggers => "trigger",
            Self::Automations => "automation",
        }
    }

    const fn is_automation(self) -> bool {
        matches!(self, Self::Automations)
    }
}

/// Rules of a kind, as a page lists them.
#[derive(Debug)]
struct Section {
    part: &'static str,
    title: &'static str,
    lead: &'static str,
    one: &'static str,
    /// Where a new one is made.
    new: String,
    rules: Vec<Rule>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RuleList {
    shell: Shell,
    sections: Vec<Section>,
    needs_org: bool,
    org: String,
    can_change: bool,
}

#[derive(Template)]
#[template(path = "rule.html")]
struct RulePage {
    shell: Shell,
    part: &'static str,
    one: &'static str,
    is_automation: bool,
    /// The rule; nothing where one is made.
    rule: Option<Rule>,
    /// The webhook that it calls, where it can be seen.
    called: Option<Webhook>,
    can_change: bool,
    needs_org: bool,
    /// Where the form goes.
    action: String,
    filled: Filled,
    faults: Faults,
    webhooks: Vec<Choice>,
    types: Vec<Choice>,
    /// What the payload can name; nothing where no event type is known yet.
    placeholders: Option<Placeholders>,
}

/// Lists triggers and automations.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let org = visit.parameter("org");
    let needs_org = visit.is_any(&[Role::Operator]);
    let mut sections = Vec::new();
    if !needs_org || !org.is_empty() {
        for (kind, title, lead) in [
            (
                Kind::Triggers,
                "Triggers",
                "Each is asked about every event, in this order, and calls its webhook at once \
                 where its conditions hold.",
            ),
            (
                Kind::Automations,
                "Automations",
                "Each waits some time after an event that fulfils its conditions, and calls its \
                 webhook unless something else happened meanwhile.",
            ),
        ] {
            let cursor = if visit.parameter("of") == kind.part() {
                visit.parameter("cursor")
            } else {
                String::new()
            };
            let query = [("orgId", org.as_str()), ("limit", "100"), ("cursor", cursor.as_str())];
            let found: List<Rule> =
                visit.get(&with_query(&format!("/{}", kind.part()), &query)).await?;
            let next = next_page(&visit, found.next_cursor.as_deref());
            let next = next.map(|next| format!("{next}&of={}", kind.part()));
            let (part, one) = (kind.part(), kind.connection());
            let new = with_query(&format!("/pages/rules/{part}/new"), &[("org", &org)]);
            sections.push(Section { part, title, lead, one, new, rules: found.data, next });
        }
    }
    let can_change = visit.may(&Method::POST, "/triggers");
    page(&RuleList { shell: visit.shell("Rules"), sections, needs_org, org, can_change })
}

/// The webhooks that rules of a kind can call.
async fn callable(visit: &Visit, kind: Kind, org: &str) -> Result<Vec<Webhook>, Trouble> {
    let query =
        [("orgId", org), ("type", "CUSTOMER_WEBHOOK"), ("dialect", "zendesk"), ("limit", "200")];
    let found: List<Webhook> = visit.get(&with_query("/webhooks", &query)).await?;
    let is_callable =
        |one: &Webhook| one.own.as_ref().is_some_and(|own| own.connection == kind.connection());
    Ok(found.data.into_iter().filter(is_callable).collect())
}

async fn rule_page(
    visit: &Visit,
    kind: Kind,
    rule: Option<Rule>,
    filled: Filled,
    faults: Faults,
) -> Result<Response, Trouble> {
    let can_change = visit.may(&Method::POST, "/triggers");
    let org = rule.as_ref().map_or_else(|| filled.org.clone(), |rule| rule.org_id.clone());
    // The org of an administrator is implied, and may not be another one.
    let of_org = if visit.is_any(&[Role::Operator]) { org.as_str() } else { "" };
    let needs_org = rule.is_none() && visit.is_any(&[Role::Operator]);
    let webhooks = if needs_org && org.is_empty() {
        Vec::new()
    } else {
        callable(visit, kind, of_org).await?
    };
    let event_type = filled.event_type();
    let placeholders: Option<Placeholders> = match event_type.as_deref().filter(|_| can_change) {
        None => None,
        Some(name) => {
            let path = with_query("/placeholders", &[("eventType", name)]);
            let answered = visit.ask(Method::GET, &path, None, None).await?;
            // A name that there is not is the form's to say.
            let found = answered.status.is_success().then(|| serde_json::from_value(answered.json));
            found.transpose().map_err(|error| Trouble::internal(&error))?
        }
    };
    let mut filled = filled;
    let is_untouched = rule.is_none() && faults.is_empty() && filled.name.is_empty();
    if let Some(found) = placeholders.as_ref().filter(|_| is_untouched && filled.payload.is_empty())
    {
        begin(&mut filled, &webhooks, found);
    }
    let types = if can_change {
        let types = visit.event_types("").await?;
        event_choices(types.iter(), event_type.as_deref().unwrap_or_default())
    } else {
        Vec::new()
    };
    let title = rule
        .as_ref()
        .map_or_else(|| format!("New {}", kind.connection()), |rule| rule.name.clone());
    let action = match &rule {
        None => format!("/pages/rules/{}", kind.part()),
        Some(rule) => format!("/pages/rules/{}/{}", kind.part(), rule.id),
    };
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let called_id = rule.as_ref().map(|rule| rule.action.webhook_id);
    let choice = |one: &Webhook| Choice {
        value: one.id.to_string(),
        label: one.title(),
        is_chosen: one.id.to_string() == filled.webhook,
    };
    let template = RulePage {
        shell: visit.shell(title),
        part: kind.part(),
        one: kind.connection(),
        is_automation: kind.is_automation(),
        webhooks: webhooks.iter().map(choice).collect(),
        called: webhooks.into_iter().find(|one| Some(one.id) == called_id),
        can_change,
        needs_org,
        action,
        rule,
        filled: filled.with_room(0),
        faults,
        types,
        placeholders,
    };
    page_with(status, &template)
}

/// Fills what a new rule sends, as its webhook takes it.
fn begin(filled: &mut Filled, webhooks: &[Webhook], found: &Placeholders) {
    let chosen = webhooks.iter().find(|one| one.id.to_string() == filled.webhook);
    let Some(one) = chosen.or(webhooks.first()) else { return };
    filled.webhook = one.id.to_string();
    let Some(own) = &one.own else { return };
    let has_body = ["POST", "PUT", "PATCH"].contains(&own.method.as_str());
    filled.sends_parameters = !has_body || own.format == "form";
    if filled.sends_parameters {
        let lines: Vec<String> = found
            .templates
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        filled.parameters = lines.join("\n");
    } else if own.format == "xml" {
        filled.payload.clone_from(&found.templates.xml);
    } else {
        filled.payload.clone_from(&found.templates.json);
    }
}

/// Asks what a new one is to be.
pub(in crate::web) async fn new(
    visit: Visit,
    Part(part): Part<String>,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let wanted = visit.parameter("type");
    let first = if wanted.is_empty() { FIRST } else { &wanted };
    let mut filled = Filled::fresh(first, visit.parameter("org"));
    filled.webhook = visit.parameter("webhook");
    rule_page(&visit, kind, None, filled, Faults::none(FIELDS)).await
}

/// Shows one.
pub(in crate::web) async fn show(
    visit: Visit,
    Part((part, id)): Part<(String, Uuid)>,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let rule: Rule = visit.get(&format!("/{}/{id}", kind.part())).await?;
    let filled = Filled::of_rule(&rule);
    rule_page(&visit, kind, Some(rule), filled, Faults::none(FIELDS)).await
}

/// Makes one, or only makes room for more conditions.
pub(in crate::web) async fn create(
    visit: Visit,
    Part(part): Part<String>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let filled = Filled::of_form(&form);
    let mut faults = Faults::none(FIELDS);
    if form.text("action") == "more" {
        return rule_page(&visit, kind, None, filled.with_room(MORE), faults).await;
    }
    let body = filled.body(kind.is_automation(), &mut faults);
    if !faults.is_empty() {
        return rule_page(&visit, kind, None, filled, faults).await;
    }
    let path = with_query(&format!("/{}", kind.part()), &[("orgId", &filled.org)]);
    let answered = visit.send(Method::POST, &path, &body, form.text("key")).await?;
    if !answered.status.is_success() {
        let faults = Faults::of(FIELDS, answered, "")?;
        return rule_page(&visit, kind, None, filled, faults).await;
    }
    let rule: Rule =
        serde_json::from_value(answered.json).map_err(|error| Trouble::internal(&error))?;
    Ok(back_to(&format!("/pages/rules/{}/{}", kind.part(), rule.id), "created"))
}

/// Changes one, or only makes room for more conditions.
pub(in crate::web) async fn change(
    visit: Visit,
    Part((part, id)): Part<(String, Uuid)>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let path = format!("/{}/{id}", kind.part());
    let rule: Rule = visit.get(&path).await?;
    let filled = Filled::of_form(&form);
    let mut faults = Faults::none(FIELDS);
    if form.text("action") == "more" {
        return rule_page(&visit, kind, Some(rule), filled.with_room(MORE), faults).await;
    }
    let body = filled.body(kind.is_automation(), &mut faults);
    if !faults.is_empty() {
        return rule_page(&visit, kind, Some(rule), filled, faults).await;
    }
    let answered = visit.send(Method::PATCH, &path, &body, "").await?;
    if !answered.status.is_success() {
        let faults = Faults::of(FIELDS, answered, "")?;
        return rule_page(&visit, kind, Some(rule), filled, faults).await;
    }
    Ok(back_to(&format!("/pages/rules/{}/{id}", kind.part()), "saved"))
}

/// Switches one on or off.
pub(in crate::web) async fn switch(
    visit: Visit,
    Part((part, id)): Part<(String, Uuid)>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let is_active = form.text("to") == "on";
    let body = json!({ "isActive": is_active });
    let answered = visit.send(Method::PATCH, &format!("/{}/{id}", kind.part()), &body, "").await?;
    if !answered.status.is_success() {
        return Err(Trouble::refused(answered.status, answered.json));
    }
    let done = if is_active { "switched-on" } else { "switched-off" };
    Ok(back_to(&format!("/pages/rules/{}/{id}", kind.part()), done))
}

/// Deletes one.
pub(in crate::web) async fn delete(
    visit: Visit,
    Part((part, id)): Part<(String, Uuid)>,
) -> Result<Response, Trouble> {
    let kind = Kind::of(&part)?;
    let path = format!("/{}/{id}", kind.part());
    let rule: Rule = visit.get(&path).await?;
    visit.delete(&path).await?;
    let org = if visit.is_any(&[Role::Operator]) { rule.org_id.as_str() } else { "" };
    let query = [("org", org), ("done", "deleted")];
    Ok(Redirect::to(&with_query("/pages/rules", &query)).into_response())
}
