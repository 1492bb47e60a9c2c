//! What a receiver asks for beside its status: the answer header `webhook-delivery`.

use http::HeaderMap;

const WEBHOOK_DELIVERY: &str = "webhook-delivery";

/// What a receiver asks of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverControl {
    /// `disable`: send nothing more until somebody switches the webhook on again.
    Disable,
    /// `abort-message`: do not send this one again.
    AbortMessage,
}

/// What the answer asks for; nothing where it does not say so readably. Where it says both, the
/// farther one counts.
pub fn receiver_control(headers: &HeaderMap) -> Option<ReceiverControl> {
    let mut asked = None;
    for value in headers.get_all(WEBHOOK_DELIVERY).iter().take(4) {
        for word in value.to_str().unwrap_or_default().split(',').take(8) {
            if word.trim().eq_ignore_ascii_case("disable") {
                return Some(ReceiverControl::Disable);
            }
            if word.trim().eq_ignore_ascii_case("abort-message") {
                asked = Some(ReceiverControl::AbortMessage);
            }
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Option<ReceiverControl> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WEBHOOK_DELIVERY, HeaderValue::from_bytes(value).expect("a value"));
        }
        receiver_control(&headers)
    }

    #[test]
    fn both_words_are_known_and_nothing_else() {
        use ReceiverControl::{AbortMessage, Disable};
        let rows: &[(&[&[u8]], Option<ReceiverControl>)] = &[
            (&[], None),
            (&[b"disable"], Some(Disable)),
            (&[b" Disable "], Some(Disable)),
            (&[b"abort-message"], Some(AbortMessage)),
            (&[b"abort-message, disable"], Some(Disable)),
            (&[b"abort-message", b"disable"], Some(Disable)),
            (&[b"later, abort-message"], Some(AbortMessage)),
            (&[b""], None),
            (&[b"disabled"], None),
            (&[b"abort"], None),
            (&[b"\xff"], None),
        ];
        for (values, expected) in rows {
            assert_eq!(read(values), *expected, "{values:?}");
        }
    }
}
