//! What the reconciler found.

use askama::Template;
use axum::response::Response;
use serde_json::json;

use super::page;
use crate::web::answers::{LastPass, Report};
use crate::web::parts::Moment;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Sent, Visit};

#[derive(Template)]
#[template(path = "findings.html")]
struct FindingsPage {
    shell: Shell,
    requested_by: String,
    report: Option<Report>,
    held_since: Moment,
    /// Whether it was compared for this page, without a repair: then nothing of it is kept.
    is_dry: bool,
}

/// Shows what the last pass that is kept found.
pub(in crate::web) async fn show(visit: Visit) -> Result<Response, Trouble> {
    let last: LastPass = visit.get("/reconcile").await?;
    page(&FindingsPage {
        shell: visit.shell("Findings"),
        requested_by: last.requested_by.to_string(),
        report: last.report,
        held_since: last.held_since,
        is_dry: false,
    })
}

/// Compares anew, and repairs where asked to.
pub(in crate::web) async fn compare(visit: Visit, Sent(form): Sent) -> Result<Response, Trouble> {
    let repair = form.text("repair") == "yes";
    let report = visit.post("/reconcile", &json!({ "repair": repair }), form.text("key")).await?;
    let report: Report =
        serde_json::from_value(report).map_err(|error| Trouble::internal(&error))?;
    let last: LastPass = visit.get("/reconcile").await?;
    page(&FindingsPage {
        shell: visit.shell("Findings").done("compared"),
        requested_by: String::new(),
        report: Some(report),
        held_since: last.held_since,
        is_dry: !repair,
    })
}
