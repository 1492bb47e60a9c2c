//! What a vendor gets back: the upstream's answer as JSON in a text, without credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::headers::incoming;
use super::masking::Masking;
use crate::crypto::SecretText;

/// What came of a call.
#[derive(Clone, Debug)]
pub struct InvokeAnswer {
    /// The upstream's status.
    pub status: StatusCode,
    inner: Map<String, Value>,
}

impl InvokeAnswer {
    /// What the upstream answered; `secrets` went along and do not come back.
    pub(super) fn of_upstream(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        is_truncated: bool,
        secrets: &[SecretText],
    ) -> Self {
        let masking = Masking::new(secrets);
        let mut inner = Map::new();
        inner.insert("statusCode".to_owned(), status.as_u16().into());
        inner.insert("headers".to_owned(), Value::Object(incoming(headers, &masking)));
        let body = masking.bytes(body, is_truncated);
        // A cut may go through a character.
        let whole = match std::str::from_utf8(&body) {
            Ok(text) => Some(text),
            Err(error) if is_truncated && error.error_len().is_none() => {
                std::str::from_utf8(&body[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        if let Some(text) = whole {
            inner.insert("body".to_owned(), text.into());
        } else {
            inner.insert("body".to_owned(), STANDARD.encode(&body).into());
            inner.insert("isBase64Encoded".to_owned(), true.into());
        }
        if is_truncated {
            inner.insert("isTruncated".to_owned(), true.into());
        }
        Self { status, inner }
    }

    /// What this server answered itself. The document is there as text, as of every upstream, and
    /// parsed, where vendors of the reference look for it.
    pub(super) fn of_ours(status: StatusCode, document: Value) -> Self {
        let mut inner = Map::new();
        inner.insert("statusCode".to_owned(), status.as_u16().into());
        inner.insert("headers".to_owned(), json!({ "content-type": "application/json" }));
        inner.insert("body".to_owned(), document.to_string().into());
        inner.insert("statusMessage".to_owned(), document);
        Self { status, inner }
    }

    /// The body of the answer: `{"response":"<JSON>"}`.
    pub fn document(&self) -> Value {
        json!({ "response": Value::Object(self.inner.clone()).to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(body: &[u8], is_truncated: bool) -> Value {
        let secrets = [SecretText::new("t0ken-value")];
        let answer = InvokeAnswer::of_upstream(
            StatusCode::OK,
            &HeaderMap::new(),
            body,
            is_truncated,
            &secrets,
        );
        let document = answer.document();
        let text = document["response"].as_str().expect("a text");
        serde_json::from_str(text).expect("JSON in it")
    }

    #[test]
    fn bodies_come_back_without_secrets() {
        assert_eq!(inner(b"{\"t\":\"t0ken-value\"}", false)["body"], "{\"t\":\"***\"}");
        let binary = inner(b"\xff\xfet0ken-value\xff", false);
        assert_eq!(binary["isBase64Encoded"], true);
        let decoded = STANDARD.decode(binary["body"].as_str().expect("a text")).expect("base64");
        assert_eq!(decoded, b"\xff\xfe***\xff");
        // Cut by the limit of what is handed back, it is not told in part either.
        assert_eq!(inner(b"t: t0ken-va", true)["body"], "t: ***");
    }

    #[test]
    fn a_cut_through_a_character_is_no_binary() {
        let cut = inner(&"aé".as_bytes()[..2], true);
        assert_eq!((&cut["body"], &cut["isTruncated"]), (&json!("a"), &json!(true)));
        assert!(inner(b"abc", false).get("isTruncated").is_none());
    }

    #[test]
    fn our_own_answers_are_there_twice() {
        let document = json!({ "data": [{ "name": "a", "value": "b" }] });
        let answer = InvokeAnswer::of_ours(StatusCode::OK, document.clone()).document();
        let inner: Value =
            serde_json::from_str(answer["response"].as_str().expect("a text")).expect("JSON");
        assert_eq!(inner["statusMessage"], document);
        assert_eq!(inner["body"], document.to_string());
    }
}
