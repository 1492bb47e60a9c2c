//! What a vendor sends to invoke, and the text that its `HASH` is made of. Pure.

use std::fmt;

use serde::Deserialize;

use crate::crypto::SecretText;

/// The fields of a call, as they came: raw, before anything is put in for placeholders.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvokeRequest {
    /// Which installation calls; none opens nothing.
    #[serde(default = "nothing")]
    pub security_context: SecretText,
    /// What is to be called: absolute, or a path of the host's API.
    #[serde(default, rename = "requestURL")]
    pub request_url: String,
    /// The method.
    #[serde(default)]
    pub request_type: String,
    /// Further query parameters, as a JSON object.
    #[serde(default)]
    pub query_params: String,
    /// The body.
    #[serde(default)]
    pub post_body: String,
    /// Headers, as a JSON object.
    #[serde(default)]
    pub headers: String,
    /// The connection whose token is to go along.
    #[serde(default)]
    pub connection_link_name: String,
}

fn nothing() -> SecretText {
    SecretText::new("")
}

/// Shows nothing of the values: they may hold anything.
impl fmt::Debug for InvokeRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InvokeRequest")
            .field("request_type", &self.request_type)
            .finish_non_exhaustive()
    }
}

/// A field whose value could pose as the beginning of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field} must not contain `&{later}=`: the HASH would be the same as that of another request; \
     write the `&` as an escape, or change the order"
)]
pub struct Ambiguous {
    /// The field.
    pub field: &'static str,
    /// The field that it could pose as.
    pub later: &'static str,
}

impl InvokeRequest {
    /// The fields that `HASH` covers, in its order (reference, invoke API).
    fn covered(&self) -> [(&'static str, &str); 6] {
        [
            ("requestURL", &self.request_url),
            ("requestType", &self.request_type),
            ("queryParams", &self.query_params),
            ("postBody", &self.post_body),
            ("headers", &self.headers),
            ("connectionLinkName", &self.connection_link_name),
        ]
    }

    /// What `HASH` is made of: `k=v` joined by `&`, empty ones left out, raw values.
    pub fn canonical(&self) -> String {
        let covered = self.covered();
        let length = covered.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut text = String::with_capacity(length);
        for (name, value) in covered.iter().filter(|(_, value)| !value.is_empty()) {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        text
    }

    /// Refuses values by which two different requests would have the same canonical text.
    pub fn check_unambiguous(&self) -> Result<(), Ambiguous> {
        let covered = self.covered();
        for (index, (field, value)) in covered.iter().enumerate() {
            for (later, _) in &covered[index + 1..] {
                if value.contains(&format!("&{later}=")) {
                    return Err(Ambiguous { field, later });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{desk_hash, verify_desk_hash};

    fn request(fields: serde_json::Value) -> InvokeRequest {
        serde_json::from_value(fields).expect("the fields of a request")
    }

    /// The keys are `secret` texts; the hashes were made with `printf … | openssl dgst -sha256 -hmac`.
    #[test]
    fn hashes_are_those_that_others_compute() {
        let vectors = [
            (
                serde_json::json!({
                    "securityContext": "not covered",
                    "requestURL": "/api/v1/tickets/1",
                    "requestType": "GET",
                }),
                "requestURL=/api/v1/tickets/1&requestType=GET",
                "48fde3b1e8b032f42fb0f23cbd9c9415b6612b6005f3f964f11ff23f69238c30",
            ),
            (
                serde_json::json!({
                    "requestURL": "https://desk.example/api/v1/tickets",
                    "requestType": "POST",
                    "queryParams": "{\"include\":\"contacts\"}",
                    "postBody": "{\"subject\":\"a & b = c\"}",
                    "headers": "{\"Content-Type\":\"application/json\"}",
                    "connectionLinkName": "mirror_desk",
                }),
                "requestURL=https://desk.example/api/v1/tickets&requestType=POST&queryParams={\"include\":\"contacts\"}&postBody={\"subject\":\"a & b = c\"}&headers={\"Content-Type\":\"application/json\"}&connectionLinkName=mirror_desk",
                "1feeecb39b12e52610cfc16a3fca999f002890e4706367080147cf06fe703e0e",
            ),
            (
                serde_json::json!({
                    "requestURL": "/api/v1/installedExtensions/{{installationId}}/configParams",
                    "requestType": "GET",
                    "headers": "{\"X-Note\":\"größer\"}",
                }),
                "requestURL=/api/v1/installedExtensions/{{installationId}}/configParams&requestType=GET&headers={\"X-Note\":\"größer\"}",
                "f99311d82dfa99cc203589cb872be0dfaaa8f277e76e71a22d8492eaf54ee6fa",
            ),
        ];
        let secret = SecretText::new("manifest-secret");
        for (fields, canonical, hash) in vectors {
            let request = request(fields);
            assert_eq!(request.canonical(), canonical);
            assert_eq!(desk_hash(&secret, canonical.as_bytes()).expect("a hash"), hash);
            assert!(verify_desk_hash(&secret, request.canonical().as_bytes(), hash));
        }
    }

    #[test]
    fn a_value_that_poses_as_a_later_field_is_refused() {
        let covered = [
            "requestURL",
            "requestType",
            "queryParams",
            "postBody",
            "headers",
            "connectionLinkName",
        ];
        for (index, field) in covered.iter().enumerate() {
            for (other, later) in covered.iter().enumerate() {
                let request = request(serde_json::json!({ *field: format!("x&{later}=y") }));
                assert_eq!(request.check_unambiguous().is_err(), other > index, "{field} {later}");
            }
        }
        let harmless = request(serde_json::json!({
            "requestURL": "/a?b=1&c=2", "postBody": "a=1&b=2&requestURL=3",
        }));
        assert_eq!(harmless.check_unambiguous(), Ok(()));
    }

    #[test]
    fn only_texts_are_taken_each_once_and_nothing_is_printed() {
        for wrong in [
            r#"{"requestURL":1}"#,
            r#"{"headers":{}}"#,
            r#"{"postBody":null}"#,
            r#"{"requestUrl":"/"}"#,
            r#"{"requestURL":"/","requestURL":"/"}"#,
        ] {
            assert!(serde_json::from_str::<InvokeRequest>(wrong).is_err(), "{wrong}");
        }
        let request = request(serde_json::json!({"securityContext": "abc", "requestURL": "def"}));
        let shown = format!("{request:?}");
        assert!(!shown.contains("abc") && !shown.contains("def"), "{shown}");
    }
}
