//! What an inspector answers: chosen by its owner, within what is safe on this server's own origin.
//!
//! Strangers see these answers under the origin that the pages have. So nothing in them may run,
//! redirect, set a cookie or ask for a password: the content types and headers are those listed
//! here, and [`guard`] goes with every one.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

/// The largest body that may be chosen, in bytes.
const BODY_LIMIT: usize = 16 * 1_024;

/// The most headers that may be chosen.
const MOST_HEADERS: usize = 16;

/// The longest value of one, in bytes.
const LONGEST_VALUE: usize = 512;

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How many requests may be failed at first.
const MOST_FAILED: u32 = 1_000;

/// Content types that no browser runs or renders.
const CONTENT_TYPES: &[&str] = &[
    "application/json",
    "application/problem+json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "application/xml",
    "text/plain",
];

/// `X-` headers that steer a proxy or a browser.
const STEERING: &[&str] = &[
    "x-accel",
    "x-content-type-options",
    "x-correlation-id",
    "x-dns-prefetch-control",
    "x-forwarded",
    "x-frame-options",
    "x-litespeed",
    "x-lighttpd",
    "x-original",
    "x-permitted",
    "x-reproxy",
    "x-rewrite",
    "x-robots",
    "x-sendfile",
    "x-ua-compatible",
    "x-xss-protection",
];

/// What goes with every answer of an inspector.
pub fn guard() -> [(HeaderName, HeaderValue); 4] {
    let policy = "sandbox; default-src 'none'; frame-ancestors 'none'";
    [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

/// What is wrong with a chosen answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct InvalidAnswer {
    /// JSON Pointer into the answer.
    pub pointer: String,
    /// The rule.
    pub message: String,
}

fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> InvalidAnswer {
    InvalidAnswer { pointer: pointer.into(), message: message.into() }
}

/// What is wished for, before it is checked.
#[derive(Clone, Debug, Default)]
pub struct AnswerWish {
    /// The status; 200 where there is none.
    pub status: Option<u16>,
    /// Headers by name.
    pub headers: Vec<(String, String)>,
    /// The body; empty where there is none.
    pub body: Option<String>,
    /// How long to wait before answering, in milliseconds.
    pub delay_ms: Option<u64>,
    /// How many requests are failed first.
    pub fail_first: Option<u32>,
    /// The status of those; 503 where there is none.
    pub fail_status: Option<u16>,
}

/// A checked answer. Stored as JSON; reading it back checks nothing, since only checked ones are
/// written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChosenAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    delay_ms: u64,
    fail_first: u32,
    fail_status: u16,
}

impl ChosenAnswer {
    /// Checks a wish.
    pub fn new(wish: AnswerWish) -> Result<Self, InvalidAnswer> {
        let status = checked_status("/status", wish.status.unwrap_or(200))?;
        let fail_status = checked_status("/failStatus", wish.fail_status.unwrap_or(503))?;
        let body = wish.body.unwrap_or_default();
        if body.len() > BODY_LIMIT {
            return Err(invalid("/body", format!("has at most {BODY_LIMIT} bytes")));
        }
        if wish.headers.len() > MOST_HEADERS {
            return Err(invalid("/headers", format!("has at most {MOST_HEADERS} members")));
        }
        let headers = wish
            .headers
            .into_iter()
            .map(|(name, value)| checked_header(&name, value))
            .collect::<Result<Vec<_>, _>>()?;
        let delay_ms = wish.delay_ms.unwrap_or(0);
        if Duration::from_millis(delay_ms) > LONGEST_DELAY {
            let most = LONGEST_DELAY.as_millis();
            return Err(invalid("/delayMs", format!("is at most {most}")));
        }
        let fail_first = wish.fail_first.unwrap_or(0);
        if fail_first > MOST_FAILED {
            return Err(invalid("/failFirst", format!("is at most {MOST_FAILED}")));
        }
        Ok(Self { status, headers, body, delay_ms, fail_first, fail_status })
    }

    /// The status of the request with a number, counted from 1.
    pub fn status_of(&self, sequence: i64) -> StatusCode {
        let is_failed = sequence <= i64::from(self.fail_first);
        let status = if is_failed { self.fail_status } else { self.status };
        // Only checked ones are stored.
        StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
    }

    /// How long to wait before answering.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms).min(LONGEST_DELAY)
    }

    /// The chosen headers; what cannot be written as one is left out.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.headers.iter().filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        })
    }

    /// The body.
    pub fn body(&self) -> &str {
        &self.body
    }
}

fn checked_status(pointer: &str, status: u16) -> Result<u16, InvalidAnswer> {
    if (200..=599).contains(&status) {
        Ok(status)
    } else {
        Err(invalid(pointer, "must be from 200 to 599"))
    }
}

fn checked_header(name: &str, value: String) -> Result<(String, String), InvalidAnswer> {
    let lower = name.to_ascii_lowercase();
    let at = || format!("/headers/{}", lower.replace('~', "~0").replace('/', "~1"));
    if HeaderName::from_bytes(lower.as_bytes()).is_err() || lower.len() > LONGEST_VALUE {
        return Err(invalid("/headers", "a name is not one of a header"));
    }
    if value.len() > LONGEST_VALUE || HeaderValue::from_str(&value).is_err() {
        let rule = format!("its value cannot be sent, or has more than {LONGEST_VALUE} bytes");
        return Err(invalid(at(), rule));
    }
    if lower == "content-type" {
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !CONTENT_TYPES.contains(&essence.as_str()) {
            let rule = format!("must be one of {}", CONTENT_TYPES.join(", "));
            return Err(invalid(at(), rule));
        }
    }
    let is_free = ["content-type", "retry-after", "etag", "warning"].contains(&lower.as_str())
        || lower.starts_with("webhook-")
        || (lower.starts_with("x-") && !STEERING.iter().any(|word| lower.starts_with(word)));
    if is_free {
        return Ok((lower, value));
    }
    let rule = "may not be chosen: Content-Type, Retry-After, ETag, Warning, webhook-… and X-… may";
    Err(invalid(at(), rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(name: &str, value: &str) -> Result<ChosenAnswer, InvalidAnswer> {
        let headers = vec![(name.to_owned(), value.to_owned())];
        ChosenAnswer::new(AnswerWish { headers, ..AnswerWish::default() })
    }

    #[test]
    fn what_could_run_or_steer_on_our_origin_cannot_be_chosen() {
        for (name, value) in [
            ("Set-Cookie", "a=b"),
            ("Location", "https://elsewhere.example/"),
            ("WWW-Authenticate", "Basic"),
            ("Content-Type", "text/html"),
            ("Content-Type", "text/javascript"),
            ("Content-Type", "image/svg+xml"),
            ("Content-Security-Policy", "script-src *"),
            ("Access-Control-Allow-Origin", "*"),
            ("Service-Worker-Allowed", "/"),
            ("Strict-Transport-Security", "max-age=0"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "1"),
            ("X-Accel-Redirect", "/internal"),
            ("X-Sendfile", "/etc/passwd"),
            ("X-Frame-Options", "ALLOWALL"),
            ("X-A", "b\r\nSet-Cookie: c=d"),
            ("a b", "c"),
            ("", "c"),
        ] {
            assert!(with_header(name, value).is_err(), "{name}: {value}");
        }
        for (name, value) in [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Retry-After", "120"),
            ("webhook-delivery", "disable"),
            ("X-Request-Id", "1"),
        ] {
            assert!(with_header(name, value).is_ok(), "{name}: {value}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let of = |change: &dyn Fn(&mut AnswerWish)| {
            let mut wish = AnswerWish::default();
            change(&mut wish);
            ChosenAnswer::new(wish)
        };
        assert!(of(&|wish| wish.status = Some(199)).is_err());
        assert!(of(&|wish| wish.status = Some(600)).is_err());
        assert!(of(&|wish| wish.fail_status = Some(101)).is_err());
        assert!(of(&|wish| wish.delay_ms = Some(30_001)).is_err());
        assert!(of(&|wish| wish.fail_first = Some(1_001)).is_err());
        assert!(of(&|wish| wish.body = Some("x".repeat(BODY_LIMIT + 1))).is_err());
        let many = |wish: &mut AnswerWish| {
            wish.headers = (0..=MOST_HEADERS).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
        };
        assert!(of(&many).is_err());
        let answer = of(&|wish| {
            wish.fail_first = Some(2);
            wish.status = Some(204);
        })
        .expect("it is within them");
        let statuses: Vec<u16> = (1..=4).map(|n| answer.status_of(n).as_u16()).collect();
        assert_eq!(statuses, [503, 503, 204, 204]);
    }
}
