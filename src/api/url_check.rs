//! Whether anything answers at an address before a webhook is saved, as the reference does it: by
//! GET, and where that is not taken by POST.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::access::Caller;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::dialect::{Connection, Dialect};
use crate::egress::{Egress, OutgoingRequest, VettedUrl};
use crate::webhook::own::{Authentication, Definition, EndpointAuthentication};

/// How long each of the two may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many addresses of one import are asked at a time.
const AT_A_TIME: usize = 8;

/// What the second one brings: no events.
const NOTHING: &[u8] = b"[]";

/// Checks the address of a webhook where its dialect does that. A name for documentation is not
/// looked for, and placeholders have no value yet.
pub(super) async fn check(
    state: &ApiState,
    caller: &Caller,
    org_id: &str,
    definition: &Definition,
) -> Result<(), Problem> {
    let door = state.services()?.own_webhooks.door(org_id).await?;
    let Some(wanted) = Wanted::of(state, &door, definition)? else { return Ok(()) };
    let _under_way = state.services()?.trials.admit(caller.token)?;
    wanted.ask().await.map_err(|reason| refusal(&reason))
}

/// The same for many, which count as one test; says of each why not, a few at a time.
pub(super) async fn check_all(
    state: &ApiState,
    caller: &Caller,
    org_id: &str,
    definitions: &[&Definition],
) -> Result<Vec<Option<String>>, Problem> {
    let door = state.services()?.own_webhooks.door(org_id).await?;
    let wanted: Vec<Option<Wanted>> = definitions
        .iter()
        .map(|definition| Wanted::of(state, &door, definition))
        .collect::<Result<_, _>>()?;
    if wanted.iter().all(Option::is_none) {
        return Ok(vec![None; definitions.len()]);
    }
    let _under_way = state.services()?.trials.admit(caller.token)?;
    let asked = stream::iter(wanted).map(|wanted| async move {
        match wanted {
            Some(wanted) => wanted.ask().await.err(),
            None => None,
        }
    });
    Ok(asked.buffered(AT_A_TIME).collect().await)
}

/// An address that is to be asked, by the door of its webhook and as deliveries will come.
struct Wanted {
    egress: Result<Egress, String>,
    url: VettedUrl,
    headers: HeaderMap,
    /// Whether whoever is there may well ask who we are: saying no is an answer then.
    may_refuse: bool,
}

impl Wanted {
    fn of(
        state: &ApiState,
        egress: &Egress,
        definition: &Definition,
    ) -> Result<Option<Self>, Problem> {
        let is_checked = definition.dialect == Dialect::Desk
            && definition.connection == Connection::Events
            && state.config().webhooks.check_url;
        let Some(url) = definition.address().filter(|_| is_checked) else { return Ok(None) };
        // It was vetted with the rest of the request.
        let Some(url) = egress.vet(&url).ok().filter(|url| !url.is_documentation()) else {
            return Ok(None);
        };
        let authentication = EndpointAuthentication {
            how: definition.settings.authentication.clone(),
            secret: definition.credentials.clone(),
        };
        if matches!(authentication.how, Authentication::Mtls { .. })
            && authentication.secret.is_none()
        {
            // The key that is kept is not at hand here, and without it nobody is let in.
            return Ok(None);
        }
        let profile = definition.settings.tls_profile(definition.credentials.as_ref());
        let egress = match profile {
            None => Ok(egress.clone()),
            Some(profile) => egress.with_tls(&profile).map_err(|error| error.to_string()),
        };
        let mut headers = definition.request.headers().clone();
        let may_refuse = authentication.how.is_some();
        if !authentication.add_to(&mut headers) {
            return Err(refusal("the credentials cannot be written in a header"));
        }
        Ok(Some(Self { egress, url, headers, may_refuse }))
    }

    /// Says why not, where nothing takes requests.
    async fn ask(&self) -> Result<(), String> {
        let Err(by_get) = self.ask_by(Method::GET).await else { return Ok(()) };
        let Err(by_post) = self.ask_by(Method::POST).await else { return Ok(()) };
        Err(format!("GET {by_get}, and POST {by_post}"))
    }

    /// Says what was seen where it was no success.
    async fn ask_by(&self, method: Method) -> Result<(), String> {
        let egress = self.egress.as_ref().map_err(Clone::clone)?;
        let mut headers = self.headers.clone();
        let body = if method == Method::POST {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Bytes::from_static(NOTHING)
        } else {
            Bytes::new()
        };
        let request = OutgoingRequest {
            method,
            url: self.url.clone(),
            headers,
            body,
            deadline: DEADLINE,
            response_limit: 0,
            gate: None,
        };
        match egress.send(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            // Credentials that are fetched or kept are not brought along.
            Ok(answer)
                if self.may_refuse
                    && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]
                        .contains(&answer.status) =>
            {
                Ok(())
            }
            Ok(answer) => Err(format!("was answered {}", answer.status.as_u16())),
            Err(error) => Err(format!("failed ({})", error.class.as_str())),
        }
    }
}

fn refusal(reason: &str) -> Problem {
    let message = format!("nothing takes requests at this address: {reason}");
    let error = FieldError::new("/url", FieldErrorKind::Invalid, message);
    Problem::new(Code::UnprocessableEntity)
        .kind("url-check-failed", "The webhook's address was not answered with success")
        .detail(format!("The address was asked by GET and by POST before saving: {reason}."))
        .errors(&[error])
}
