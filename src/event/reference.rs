//! `docs/events.md`, made from the catalogue.

use std::fmt::Write as _;

use super::catalogue::catalogue;

/// The page.
fn reference() -> String {
    let mut text = String::from(
        "# Events\n\n\
         Every type of event that a host can post and a webhook can subscribe to, made from the code. \
         A running server has the same with schema and sample: `GET /api/v1/event-types`, the \
         schemas below `/schemas/events/`, and all that vendors receive as AsyncAPI at \
         `/asyncapi.json`. Options are what a subscription may say beside `null`. The names that \
         other dialects have for them are in [DIALECTS.md](DIALECTS.md).\n\n\
         This file is written by `UPDATE_DOCS=1 cargo nextest run --lib event::reference`.\n",
    );
    let mut module = "";
    for known in catalogue() {
        if known.module != module {
            module = known.module;
            let _infallible = write!(
                text,
                "\n## {module}\n\n| event | what has happened | options | schema |\n\
                 | --- | --- | --- | --- |\n"
            );
        }
        let options: Vec<String> =
            known.options.iter().map(|option| format!("`{}`", option.name())).collect();
        let only = known.only.map(|dialect| format!(" Only in `{}`.", dialect.as_str()));
        let _infallible = writeln!(
            text,
            "| `{}` | {}{} | {} | `{}` |",
            known.name,
            known.description,
            only.unwrap_or_default(),
            options.join(", "),
            known.schema_location
        );
    }
    text
}

#[test]
fn the_documentation_lists_every_event() {
    crate::api::testing::documented("docs/events.md", &reference());
}
