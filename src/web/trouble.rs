//! What went wrong, in words for people.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::api::Problem;

/// A refusal that becomes an error page: [`super::frame`] writes it, since only it knows who looks.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) detail: String,
    /// What the request is known by: [`super::frame`] says it.
    pub(super) correlation_id: Option<String>,
    /// The whole document of the API's refusal, for pages that show more of it.
    pub(super) document: Value,
}

/// The members of the API's refusals that people are told.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Refusal {
    title: String,
    detail: String,
}

impl Trouble {
    /// A trouble of the pages' own.
    pub(super) fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        Self {
            status,
            title: title.to_owned(),
            detail: detail.to_owned(),
            correlation_id: None,
            document: Value::Null,
        }
    }

    /// There is no such page for this visitor.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is no such page",
            "It may have been removed, or it belongs to somebody else.",
        )
    }

    /// What the API refused.
    pub(super) fn refused(status: StatusCode, document: Value) -> Self {
        let Refusal { title, detail } = Refusal::deserialize(&document).unwrap_or_default();
        if status == StatusCode::NOT_FOUND {
            return Self { document, ..Self::not_found() };
        }
        Self { status, title, detail, correlation_id: None, document }
    }

    /// A fault of this server. What it was is in the log.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a page failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong here",
            "It is a fault of this server. Try again; if it stays, tell the operator.",
        )
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        let document = problem.document("", None);
        Self::refused(problem.status(), document)
    }
}

impl From<crate::store::StoreError> for Trouble {
    fn from(error: crate::store::StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
