//! The waits of `mortise.delivery`, whose text form no schema keyword words well.

use serde_json::Value;

use super::super::code;
use super::super::delivery_wishes::wait;
use super::super::diagnostic::Finding;
use super::super::json::{Document, Kind, shown};

pub(super) fn check(document: &Document, report: &mut impl FnMut(Finding)) {
    let schedule = document
        .cursor()
        .get("webhook")
        .and_then(|webhook| webhook.get("mortise"))
        .and_then(|block| block.get("delivery"))
        .and_then(|delivery| delivery.get("schedule"));
    let Some(schedule) = schedule else { return };
    for item in schedule.items() {
        let (given, value) = match item.kind() {
            Kind::Text(text) => (shown(text), Value::String(text.clone())),
            Kind::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                (number.to_string(), Value::Number(number.clone()))
            }
            // What is neither a text nor whole is the schema's to refuse.
            _ => continue,
        };
        if wait(&value).is_none() {
            let message = format!("`{given}` is not a wait from one second to seven days");
            report(
                Finding::error(code::WEBHOOK_DELIVERY_OPTION, item.at_value(), message)
                    .suggest("write seconds, or a text such as `30s`, `5m`, `2h` or `1d`"),
            );
        }
    }
}
