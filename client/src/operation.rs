//! Every operation that the client calls, by method and path.

use std::fmt::Display;

use reqwest::Method;
use url::Url;

use super::error::Error;

/// What is filled into a path.
pub(crate) type Place<'p> = &'p (dyn Display + Sync);

/// One operation of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// The path below the server's address, with `{…}` for what is filled in.
    pub path: &'static str,
}

macro_rules! operations {
    ($($name:ident = $method:ident $path:literal;)+) => {
        $(
            pub(crate) const $name: Operation = Operation {
                method: stringify!($method),
                path: concat!("/api/v1", $path),
            };
        )+

        /// Every operation that the client calls.
        pub const OPERATIONS: &[Operation] = &[$($name),+];
    };
}

operations! {
    PUBLISH = POST "/extensions";
    EXTENSIONS = GET "/extensions";
    EXTENSION = GET "/extensions/{key}";
    VERSION = GET "/extensions/{key}/versions/{version}";
    WITHDRAW = POST "/extensions/{key}/versions/{version}/withdraw";
    ROLL_OUT = POST "/extensions/{key}/versions/{version}/rollout";
    SUSPEND_EXTENSION = POST "/extensions/{key}/suspend";
    RESUME_EXTENSION = POST "/extensions/{key}/resume";
    SIGNING_SECRET = GET "/extensions/{key}/signing-secret";
    ROTATE_SIGNING_SECRET = POST "/extensions/{key}/signing-secret/rotate";
    INSTALL = POST "/callbacks/install";
    AUTHORIZE = POST "/callbacks/authorize";
    CONFIGURE = POST "/callbacks/configure";
    UPGRADE = POST "/callbacks/upgrade";
    CONSENT = POST "/callbacks/consent";
    REAUTHORIZE = POST "/callbacks/reauthorize";
    SUSPEND = POST "/callbacks/suspend";
    RESUME = POST "/callbacks/resume";
    UNINSTALL = POST "/callbacks/uninstall";
    USER_REMOVED = POST "/callbacks/user-removed";
    ORG_CLOSED = POST "/callbacks/org-closed";
    INSTALLATIONS = GET "/installations";
    INSTALLATION = GET "/installations/{id}";
    HISTORY = GET "/installations/{id}/history";
    JOURNAL = GET "/journal";
    REDELIVER = POST "/journal/{id}/redeliver";
    POST_EVENTS = POST "/events";
    EVENT = GET "/events/{eventId}";
    EVENT_TYPES = GET "/event-types";
    WEBHOOKS = GET "/webhooks";
    WEBHOOK = GET "/webhooks/{id}";
    CREATE_WEBHOOK = POST "/webhooks";
    CHANGE_WEBHOOK = PATCH "/webhooks/{id}";
    DELETE_WEBHOOK = DELETE "/webhooks/{id}";
    PING_WEBHOOK = POST "/webhooks/{id}/ping";
    TEST_WEBHOOK = POST "/webhooks/{id}/test";
    REACTIVATE = POST "/webhooks/{id}/reactivate";
    RECOVER = POST "/webhooks/{id}/recover";
    IMPORT = POST "/webhooks/import";
    DELIVERIES = GET "/deliveries";
    DELIVERY = GET "/deliveries/{id}";
    RETRY_DELIVERY = POST "/deliveries/{id}/retry";
    JOBS = GET "/jobs";
    JOB = GET "/jobs/{id}";
    CANCEL_JOB = POST "/jobs/{id}/cancel";
    LISTEN = POST "/listeners";
    END_LISTENER = DELETE "/listeners/{id}";
    LISTENED = GET "/listeners/{id}/deliveries";
    ANSWERED = POST "/listeners/{id}/answers";
    TOKENS = GET "/tokens";
    CREATE_TOKEN = POST "/tokens";
    REVOKE_TOKEN = DELETE "/tokens/{id}";
    PORTAL_LINK = POST "/portal-links";
}

impl Operation {
    pub(crate) fn method(self) -> Result<Method, Error> {
        Method::from_bytes(self.method.as_bytes())
            .map_err(|error| Error::Unusable(error.to_string()))
    }

    /// The address: the base, the path with its places filled in one after the other.
    pub(crate) fn url(self, base: &Url, places: &[Place<'_>]) -> Result<Url, Error> {
        let mut url = base.clone();
        let mut places = places.iter();
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| Error::Unusable("the server's address has no path".to_owned()))?;
        segments.pop_if_empty();
        for segment in self.path.split('/').skip(1) {
            if !segment.starts_with('{') {
                segments.push(segment);
                continue;
            }
            let place = places.next().map(ToString::to_string).unwrap_or_default();
            // Such a segment would lead elsewhere.
            if place.is_empty() || place == "." || place == ".." {
                return Err(Error::Unusable(format!("`{place}` cannot stand for {segment}")));
            }
            segments.push(&place);
        }
        drop(segments);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_stays_in_its_place() {
        let base = Url::parse("https://h.example/below/").expect("a URL");
        let url = VERSION.url(&base, &[&"a/b?c", &"1.0.0+x"]).expect("an address");
        assert_eq!(
            url.as_str(),
            "https://h.example/below/api/v1/extensions/a%2Fb%3Fc/versions/1.0.0+x"
        );
        let base = Url::parse("http://127.0.0.1:8080").expect("a URL");
        let url = WEBHOOKS.url(&base, &[]).expect("an address");
        assert_eq!(url.as_str(), "http://127.0.0.1:8080/api/v1/webhooks");
        for bad in ["", ".", ".."] {
            assert!(EXTENSION.url(&base, &[&bad]).is_err(), "{bad}");
        }
        assert!(EXTENSION.url(&base, &[]).is_err());
    }
}
