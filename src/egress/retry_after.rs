//! `Retry-After` in both forms (RFC 9110, section 10.2.3).

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use time::{Date, Month, PrimitiveDateTime, Time};

use crate::seam::Timestamp;

/// How long the receiver asks to be left alone; nothing where it does not say so readably.
///
/// A date in the past is no wait at all. Bounding the wait is the caller's business.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a wait, a very long one.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    http_date(text).map(|moment| moment.since(now))
}

/// The three forms of a date that HTTP knows; all are in UTC.
fn http_date(text: &str) -> Option<Timestamp> {
    let parts: Vec<_> =
        text.split([' ', ',', '-', ':']).filter(|part| !part.is_empty()).take(9).collect();
    let (day, month, year, clock) = match *parts.as_slice() {
        [_, day, month, year, hour, minute, second, "GMT"] => {
            (day, month, year, [hour, minute, second])
        }
        [_, month, day, hour, minute, second, year] => (day, month, year, [hour, minute, second]),
        _ => return None,
    };
    let year: i32 = match (year.len(), year.parse().ok()?) {
        (4, year) => year,
        // RFC 850 writes two digits; those that would lie far ahead belong to the past century.
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        _ => return None,
    };
    let date = Date::from_calendar_date(year, month_of(month)?, day.parse().ok()?).ok()?;
    let [hour, minute, second] = clock;
    // A leap second is written as 60, which the calendar does not know.
    let second = second.parse::<u8>().ok()?.min(59);
    let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, second).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

fn month_of(text: &str) -> Option<Month> {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let index = NAMES.iter().position(|name| *name == text)?;
    u8::try_from(index + 1).ok().and_then(|number| Month::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);

    fn read(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().ok()?);
        retry_after(&headers, NOW)
    }

    #[test]
    fn both_forms_are_read() {
        for (value, seconds) in [
            ("0", 0),
            ("120", 120),
            (" 5 ", 5),
            ("99999999999999999999999", u64::MAX),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:51:37 GMT", 120),
            ("Sunday, 06-Nov-94 08:51:37 GMT", 120),
            ("Sun Nov  6 08:51:37 1994", 120),
            ("Mon, 07 Nov 1994 08:49:37 GMT", 86_400),
            ("Sun, 06 Nov 1993 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:60 GMT", 22),
        ] {
            assert_eq!(read(value), Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn what_is_unreadable_is_no_wish() {
        for value in [
            "",
            "soon",
            "-5",
            "+5",
            "5s",
            "1.5",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 94444 08:49:37 GMT",
            "06 Nov 1994",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW), None);
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(value in "\\PC{0,60}") {
            let _ = read(&value);
        }
    }
}
