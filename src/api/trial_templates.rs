//! What a test of a webhook sends that triggers or automations call: what the request says, else
//! what the first of them sends, else the template that a new one begins with.

use super::problem::{FieldError, FieldErrorKind, Problem};
use crate::dialect::{Connection, Content, Template};
use crate::event::catalogue::EventType;
use crate::event::placeholders::{self, Starter};
use crate::webhook::own::OwnFace;

/// What a test's request says of the content.
#[derive(Debug, Default)]
pub(super) struct TestContent {
    /// A payload with placeholders.
    pub(super) payload: Option<String>,
    /// Parameters with placeholders.
    pub(super) parameters: Option<Vec<(String, String)>>,
}

fn invalid(place: &str, message: String) -> Problem {
    Problem::invalid(vec![FieldError::new(place, FieldErrorKind::Invalid, message)])
}

/// The template of a test; nothing for a webhook that is connected to events.
pub(super) fn template(
    own: Option<&OwnFace>,
    known: &'static EventType,
    content: TestContent,
) -> Result<Option<Template>, Problem> {
    let place = if content.payload.is_some() { "/payload" } else { "/parameters" };
    let content = match (content.payload, content.parameters) {
        (None, None) => None,
        (Some(payload), None) => Some(Content::Payload(payload)),
        (None, Some(parameters)) => Some(Content::Parameters(parameters)),
        (Some(_), Some(_)) => {
            return Err(invalid("/payload", "is sent, or parameters are: not both".to_owned()));
        }
    };
    let Some(own) = own.filter(|own| own.connection != Connection::Events) else {
        return match content {
            None => Ok(None),
            Some(_) => Err(invalid(
                place,
                "is for webhooks that triggers or automations call; `body` is the event's payload"
                    .to_owned(),
            )),
        };
    };
    let (method, format) = (own.request.method(), own.request.format());
    let content = match (content, own.rules.first()) {
        (None, Some(rule)) => return Ok(Some(rule.template.clone())),
        (Some(content), _) => content,
        (None, None) => match placeholders::starter(known, method, format) {
            Starter::Payload(payload) => Content::Payload(payload),
            Starter::Parameters(parameters) => Content::Parameters(parameters),
        },
    };
    let template = Template::parse(method, format, &content)
        .map_err(|fault| invalid(place, fault.to_string()))?;
    let unknown = placeholders::unknown(template.placeholders(), &[known]);
    if unknown.is_empty() {
        return Ok(Some(template));
    }
    Err(Problem::invalid(unknown.iter().map(|one| {
        let mut error = FieldError::new(place, FieldErrorKind::Invalid, one.to_string());
        error.suggestion.clone_from(&one.nearest);
        error
    })))
}
