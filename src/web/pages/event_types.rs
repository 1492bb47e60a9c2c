//! Event types: what there is to subscribe to, with samples exactly as they are delivered.

use askama::Template;
use axum::response::Response;

use super::page;
use crate::web::answers::EventType;
use crate::web::parts::{Choice, choices};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Visit, segment, with_query};
use crate::web::words;

/// The event types of a module.
struct Module {
    name: String,
    types: Vec<Entry>,
}

/// An event type with its page.
struct Entry {
    href: String,
    name: String,
    description: String,
    options: Vec<String>,
}

#[derive(Template)]
#[template(path = "event_types.html")]
struct EventTypeList {
    shell: Shell,
    dialects: Vec<Choice>,
    modules: Vec<Module>,
}

#[derive(Template)]
#[template(path = "event_type.html")]
struct EventTypePage {
    shell: Shell,
    dialect: String,
    one: EventType,
    back: String,
}

/// Lists them by module.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let dialect = visit.parameter("dialect");
    let mut modules: Vec<Module> = Vec::new();
    for one in visit.event_types(&dialect).await?.iter() {
        let path = format!("/pages/event-types/{}", segment(&one.name));
        let entry = Entry {
            href: with_query(&path, &[("dialect", &dialect)]),
            name: one.name.clone(),
            description: one.description.clone(),
            options: one.options.clone(),
        };
        match modules.iter_mut().find(|module| module.name == one.module) {
            Some(module) => module.types.push(entry),
            None => modules.push(Module { name: one.module.clone(), types: vec![entry] }),
        }
    }
    let chosen = if dialect.is_empty() { "desk" } else { &dialect };
    let dialects = choices(words::DIALECTS, chosen);
    page(&EventTypeList { shell: visit.shell("Event types"), dialects, modules })
}

/// Shows one with a sample.
pub(in crate::web) async fn show(
    visit: Visit,
    Part(name): Part<String>,
) -> Result<Response, Trouble> {
    let dialect = visit.parameter("dialect");
    let types = visit.event_types(&dialect).await?;
    let one = types.iter().find(|one| one.name == name).cloned().ok_or_else(Trouble::not_found)?;
    let back = with_query("/pages/event-types", &[("dialect", &dialect)]);
    let chosen = if dialect.is_empty() { "desk" } else { &dialect };
    page(&EventTypePage {
        shell: visit.shell(one.name.clone()),
        dialect: words::dialect(chosen).to_owned(),
        one,
        back,
    })
}
