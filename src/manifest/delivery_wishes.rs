//! How a webhook wants to be delivered to: what a package says under `mortise.delivery`.
//!
//! The forms are the package's business, the bounds are the operator's: a wish is kept as it was
//! written, and clamped where it is used.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::package::StoredPackageInvalid;
use super::reading::Part;

/// The longest wait that can be written: seven days.
const LONGEST_WAIT: u64 = 7 * 86_400;

/// The wishes; each is nothing where the package leaves it to the operator.
///
/// The JSON form is what is stored with a webhook. A key that this release does not know makes it
/// unreadable rather than ignored: a later release wrote it and meant something by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeliveryWishes {
    /// The waits before the second and each later attempt, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<u32>>,
    /// How long one attempt may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    /// The most requests under way at a time, on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The most deliveries that begin in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_minute: Option<u32>,
}

impl DeliveryWishes {
    pub(super) fn read(part: &Part<'_>) -> Result<Self, StoredPackageInvalid> {
        part.object()?;
        let number = |key| match part.get(key) {
            None => Ok(None),
            Some(part) => match whole(part.value) {
                Some(number) => Ok(Some(number)),
                None => part.invalid("a whole number"),
            },
        };
        let schedule = match part.get("schedule") {
            None => None,
            Some(list) => Some(
                list.items()?
                    .iter()
                    .map(|item| match wait(item.value) {
                        Some(seconds) => Ok(seconds),
                        None => item.invalid("seconds, or a text such as `30s`"),
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self {
            schedule,
            deadline_seconds: number("deadlineSeconds")?,
            concurrency: number("concurrency")?,
            rate_per_minute: number("ratePerMinute")?,
        })
    }
}

/// A whole number, also where it is written as `5.0`.
fn whole(value: &Value) -> Option<u32> {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).ok();
    }
    let number = value.as_f64()?;
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and in range"
    )]
    fits.then_some(number as u32)
}

/// A wait in seconds, of either form, from one second to seven days.
pub(super) fn wait(value: &Value) -> Option<u32> {
    let seconds = match value.as_str() {
        None => u64::from(whole(value)?),
        Some(text) => {
            let digits = text.find(|character: char| !character.is_ascii_digit())?;
            let (number, unit) = text.split_at(digits);
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            number.parse::<u64>().ok()?.checked_mul(unit)?
        }
    };
    (1..=LONGEST_WAIT).contains(&seconds).then_some(())?;
    u32::try_from(seconds).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_of_a_wait_are_read() {
        for (value, seconds) in [
            (json!(1), Some(1)),
            (json!(30.0), Some(30)),
            (json!("30s"), Some(30)),
            (json!("5m"), Some(300)),
            (json!("2h"), Some(7_200)),
            (json!("7d"), Some(604_800)),
            (json!("0s"), None),
            (json!(0), None),
            (json!("8d"), None),
            (json!(604_801), None),
            (json!("30"), None),
            (json!("s"), None),
            (json!("-5s"), None),
            (json!("5 s"), None),
            (json!("5ms"), None),
            (json!("99999999999999999999s"), None),
            (json!(-1), None),
            (json!(1.5), None),
            (json!(null), None),
            (json!([]), None),
        ] {
            assert_eq!(wait(&value), seconds, "{value}");
        }
    }

    #[test]
    fn a_stored_wish_that_a_later_release_wrote_is_not_guessed_at() {
        let read = serde_json::from_str::<DeliveryWishes>;
        assert!(read(r#"{"concurrency":4}"#).is_ok());
        assert!(read(r#"{"concurrency":4,"burst":9}"#).is_err());
        assert!(read(r#"{"schedule":["30s"]}"#).is_err(), "stored in seconds");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}|[0-9]{1,22}[smhd]") {
            if let Some(seconds) = wait(&json!(text)) {
                prop_assert!((1..=604_800).contains(&seconds));
            }
        }
    }
}
