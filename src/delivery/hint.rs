//! What usually lies behind an answer that is no success, in plain words. What lies behind no answer
//! at all is `egress::ErrorClass::hint`.

use crate::egress::ReceiverControl;

/// What the receiver asked for beside its status, in plain words.
pub(super) fn control_hint(control: ReceiverControl) -> &'static str {
    match control {
        ReceiverControl::Disable => {
            "The endpoint answered with `webhook-delivery: disable`: no more is sent until somebody reactivates the webhook."
        }
        ReceiverControl::AbortMessage => {
            "The endpoint answered with `webhook-delivery: abort-message`: this delivery is not tried again."
        }
    }
}

/// What usually lies behind a status, in plain words; nothing where it is a success.
pub fn status_hint(code: u16) -> Option<&'static str> {
    Some(match code {
        200..=299 => return None,
        300..=399 => {
            "The endpoint redirects, and redirects are never followed: declare the final address. Often it is http where https is meant, or a slash at the end."
        }
        400 => {
            "The receiver cannot read the request. Often it expects another body than an array of events, or parses it before it checks the signature."
        }
        401 => {
            "The endpoint asks for credentials, or does not accept the signature. For an extension it must check webhook-signature over the raw body, with the present secret and its clock right, and ask for nothing else; for an org's own webhook, look at its authentication."
        }
        403 => {
            "The endpoint, or a firewall before it, refuses the request. Look for a web application firewall, a list of allowed addresses, or a check of the origin or a CSRF token; it should let this path pass and check webhook-signature."
        }
        404 => {
            "Nothing answers at this path: compare the declared address with the receiver's routes, the slash at its end too, and look whether the receiver's present version is deployed."
        }
        405 => "The receiver does not take this method at this path: deliveries are POST.",
        406 => "The receiver does not want to answer in the form that was asked for: any will do.",
        408 | 504 => {
            "The receiver, or something before it, waited too long: answer first, work afterwards."
        }
        409 => {
            "The receiver says that it conflicts, often since it has this delivery already: a repeat of the same webhook-id is answered with success."
        }
        410 => {
            "The endpoint says that it is gone: no more is sent until somebody reactivates the webhook."
        }
        411 | 413 | 414 | 431 => {
            "The receiver, or a proxy before it, has a lower limit than this request: raise what it takes of body, address or headers."
        }
        415 => {
            "The receiver does not take this content type: it must take application/json, and parse the body itself where its framework takes forms only."
        }
        421 => {
            "The receiver serves another name on this connection: look at its certificate and its virtual hosts."
        }
        422 => {
            "The receiver read the event and refused it: its log says why. Fields that it does not know should be passed over."
        }
        429 => "The receiver asks for fewer requests: it is given the pause of its Retry-After.",
        500 => {
            "The receiver failed: its log says why, under the time of the attempt and its webhook-id."
        }
        501 => "The receiver does not know this method.",
        502 => {
            "A proxy before the receiver could not reach it: look whether it runs, and at which port the proxy looks for it."
        }
        503 => {
            "The receiver is not available right now, as while it restarts or is overloaded: it is given the pause of its Retry-After."
        }
        520..=530 => {
            "A content delivery network before the receiver could not get an answer from it: look at its page for this code, and whether the receiver lets it in."
        }
        505..=599 => "The receiver failed: its log says why.",
        _ => "The endpoint did not answer with success.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::ErrorClass;

    /// What people look for, by what they see.
    const STATUSES: &[(u16, &str)] = &[
        (301, "final address"),
        (400, "array of events"),
        (401, "webhook-signature"),
        (403, "firewall"),
        (404, "compare the declared address"),
        (405, "POST"),
        (408, "answer first"),
        (409, "webhook-id"),
        (410, "reactivates"),
        (413, "lower limit"),
        (415, "application/json"),
        (422, "log says why"),
        (429, "Retry-After"),
        (500, "log says why"),
        (502, "proxy"),
        (503, "Retry-After"),
        (504, "answer first"),
        (522, "content delivery network"),
        (599, "log says why"),
        (418, "did not answer with success"),
    ];

    const CLASSES: &[(ErrorClass, &str)] = &[
        (ErrorClass::AddressRefused, "egress.allow"),
        (ErrorClass::NameResolution, "DNS"),
        (ErrorClass::Connect, "firewall"),
        (ErrorClass::Tls, "certificate"),
        (ErrorClass::Timeout, "Answer first"),
        (ErrorClass::ConnectionClosed, "proxy's timeout"),
        (ErrorClass::Protocol, "https"),
        (ErrorClass::InvalidRequest, "URL"),
        (ErrorClass::Withdrawn, "nothing left"),
    ];

    #[test]
    fn every_failure_has_a_hint_that_says_what_to_look_at() {
        for (status, word) in STATUSES {
            let hint = status_hint(*status).unwrap_or_else(|| panic!("{status} has none"));
            assert!(hint.contains(word), "{status}: {hint}");
        }
        for status in 200..=299 {
            assert_eq!(status_hint(status), None, "{status}");
        }
        for status in (100..=199).chain(300..=999) {
            let hint = status_hint(status).unwrap_or_else(|| panic!("{status} has none"));
            assert!(hint.ends_with('.') && hint.len() < 400, "{status}: {hint}");
        }
        for (class, word) in CLASSES {
            assert!(class.hint().contains(word), "{}: {}", class.as_str(), class.hint());
        }
    }
}
