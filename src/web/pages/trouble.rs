//! Errors in words.

use askama::Template;
use axum::response::{IntoResponse, Response};

use super::page_with;
use crate::web::Pages;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::Visitor;

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'t> {
    shell: Shell,
    trouble: &'t Trouble,
    /// The single faults, where there are several.
    faults: Vec<String>,
}

/// The page of a refusal.
pub(in crate::web) fn page(
    pages: &Pages,
    visitor: Option<&Visitor>,
    trouble: &Trouble,
) -> Response {
    let shell = Shell::new(pages, visitor, trouble.title.clone(), "");
    let faults = trouble
        .document
        .get("errors")
        .and_then(serde_json::Value::as_array)
        .map(|errors| {
            errors
                .iter()
                .take(20)
                .filter_map(|error| {
                    let message = error.get("errorMessage")?.as_str()?;
                    let field = error.get("fieldName")?.as_str()?;
                    Some(format!("{}: {message}", field.trim_start_matches('/')))
                })
                .collect()
        })
        .unwrap_or_default();
    page_with(trouble.status, &TroublePage { shell, trouble, faults })
        .unwrap_or_else(|_| trouble.status.into_response())
}
