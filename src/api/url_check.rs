//! Whether anything answers at an address before a webhook is saved, as the reference does it: by
//! GET, and where that is not taken by POST.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::access::Caller;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::dialect::{Connection, Dialect};
use crate::egress::{Egress, OutgoingRequest, VettedUrl};
use crate::webhook::own::Definition;

/// How long each of the two may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the second one brings: no events.
const NOTHING: &[u8] = b"[]";

/// Checks the address of a webhook where its dialect does that. A name for documentation is not
/// looked for, and placeholders have no value yet.
pub(super) async fn check(
    state: &ApiState,
    caller: &Caller,
    definition: &Definition,
) -> Result<(), Problem> {
    let is_checked = definition.dialect == Dialect::Desk
        && definition.connection == Connection::Events
        && state.config().webhooks.check_url;
    let Some(url) = definition.address().filter(|_| is_checked) else { return Ok(()) };
    let services = state.services()?;
    let egress = services.own_webhooks.egress();
    // It was vetted with the rest of the request.
    let Ok(vetted) = egress.vet(&url) else { return Ok(()) };
    if vetted.is_documentation() {
        return Ok(());
    }
    let _under_way = services.trials.admit(caller.token)?;
    let profile = definition.settings.tls_profile(definition.credentials.as_ref());
    let own_door = match profile.map(|profile| egress.with_tls(&profile)).transpose() {
        Ok(door) => door,
        Err(error) => return Err(refusal(&error.to_string())),
    };
    let egress = own_door.as_ref().unwrap_or(egress);
    let Err(by_get) = ask(egress, vetted.clone(), Method::GET).await else { return Ok(()) };
    let Err(by_post) = ask(egress, vetted, Method::POST).await else { return Ok(()) };
    Err(refusal(&format!("GET {by_get}, and POST {by_post}")))
}

fn refusal(reason: &str) -> Problem {
    let message = format!("nothing takes requests at this address: {reason}");
    let error = FieldError::new("/url", FieldErrorKind::Invalid, message);
    Problem::new(Code::UnprocessableEntity)
        .kind("url-check-failed", "The webhook's address was not answered with success")
        .detail(format!("The address was asked by GET and by POST before saving: {reason}."))
        .errors(&[error])
}

/// Says what was seen where it was no success.
async fn ask(egress: &Egress, url: VettedUrl, method: Method) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    let body = if method == Method::POST {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Bytes::from_static(NOTHING)
    } else {
        Bytes::new()
    };
    let request = OutgoingRequest {
        method,
        url,
        headers,
        body,
        deadline: DEADLINE,
        response_limit: 0,
        gate: None,
    };
    match egress.send(request).await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("was answered {}", answer.status.as_u16())),
        Err(error) => Err(format!("failed ({})", error.class.as_str())),
    }
}
