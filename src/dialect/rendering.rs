//! What all dialects share in making a request: content from a template, custom headers, the
//! headers of Standard Webhooks, which every dialect has beside its own.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::placeholders::Scene;
use super::settings::{BodyFormat, RequestMethod};
use super::template::{Output, Parts, Template, Values};
use super::{Dialect, Occasion, RenderError, Rendered, assist, desk, dzdesk, standard, zendesk};
use crate::seam::Timestamp;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const REPLAY: HeaderName = HeaderName::from_static("x-mortise-replay");
const TEST: HeaderName = HeaderName::from_static("x-mortise-test");

/// The content of a request.
pub(super) struct Made {
    /// The body; may be empty.
    pub(super) body: Bytes,
    /// Its type; nothing where there is no body.
    pub(super) content_type: Option<&'static str>,
    /// Headers that belong to the content.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Made {
    /// A JSON body.
    pub(super) fn json(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { body, content_type: Some("application/json"), headers: Vec::new() }
    }
}

pub(super) fn render(dialect: Dialect, occasion: &Occasion<'_>) -> Result<Rendered, RenderError> {
    let settings = occasion.settings;
    let needs_values = occasion.template.is_some() || settings.address().is_some();
    let scene = if needs_values {
        let Occasion { event, name, webhook, delivery_id, .. } = *occasion;
        Some(Scene::new(event, name, webhook, delivery_id)?)
    } else {
        None
    };
    let mut values = scene.as_ref().map(Values::new);
    let mut query = Vec::new();
    let (method, made) = match (occasion.template, values.as_mut()) {
        (Some(template), Some(values)) => {
            let made = of_template(template, settings.method(), values, &mut query)?;
            (settings.method().method(), made)
        }
        _ => (Method::POST, own_body(dialect, occasion)?),
    };
    let address = match (settings.address(), values.as_mut()) {
        (Some(address), Some(values)) => Some(address.render(values)?),
        _ => None,
    };
    let headers = headers(dialect, occasion, &made)?;
    let empty_placeholders = values.map(Values::into_empty).unwrap_or_default();
    Ok(Rendered { method, address, query, headers, body: made.body, empty_placeholders })
}

fn own_body(dialect: Dialect, occasion: &Occasion<'_>) -> Result<Made, RenderError> {
    match dialect {
        Dialect::Desk => Ok(Made::json(desk::body(&occasion.event))),
        Dialect::Standard => standard::body(occasion),
        Dialect::Zendesk => zendesk::body(occasion),
        Dialect::Dzdesk => dzdesk::body(occasion),
        Dialect::Assist => assist::body(occasion),
    }
}

fn of_template(
    template: &Template,
    method: RequestMethod,
    values: &mut Values<'_>,
    query: &mut Vec<(String, String)>,
) -> Result<Made, RenderError> {
    match template.parts() {
        Parts::Payload(format, text) => {
            let mut output = Output::new("payload");
            text.write(values, &mut output)?;
            Ok(Made {
                body: output.take().into(),
                content_type: Some(format.content_type()),
                headers: Vec::new(),
            })
        }
        Parts::Parameters(pairs) => {
            let mut output = Output::new("parameters");
            for (name, value) in pairs {
                name.write(values, &mut output)?;
                let name = output.take();
                value.write(values, &mut output)?;
                query.push((name, output.take()));
            }
            let has_body = !matches!(method, RequestMethod::Get | RequestMethod::Delete);
            if !has_body {
                return Ok(Made { body: Bytes::new(), content_type: None, headers: Vec::new() });
            }
            // Form-encoded: the parameters are the body.
            let pairs = std::mem::take(query);
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            Ok(Made {
                body: body.into(),
                content_type: Some(BodyFormat::Form.content_type()),
                headers: Vec::new(),
            })
        }
    }
}

fn headers(
    dialect: Dialect,
    occasion: &Occasion<'_>,
    made: &Made,
) -> Result<HeaderMap, RenderError> {
    let mut headers = occasion.settings.headers().clone();
    let agent = HeaderValue::from_static(concat!("Mortise/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, agent);
    if let Some(content_type) = made.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let id = occasion.delivery_id.to_string();
    let timestamp = occasion.at.seconds();
    let signature = occasion.signer.sign(&id, timestamp, &[&made.body]);
    headers.insert(WEBHOOK_ID, value("webhook-id", id)?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    headers.insert(WEBHOOK_SIGNATURE, value("webhook-signature", signature)?);
    if occasion.is_replay {
        headers.insert(REPLAY, HeaderValue::from_static("true"));
    }
    if occasion.is_test {
        headers.insert(TEST, HeaderValue::from_static("true"));
    }
    let own = match dialect {
        Dialect::Desk | Dialect::Standard | Dialect::Assist => Vec::new(),
        Dialect::Zendesk => zendesk::headers(occasion, &made.body),
        Dialect::Dzdesk => dzdesk::headers(occasion, &made.body),
    };
    for (name, text) in made.headers.iter().cloned().chain(own) {
        headers.insert(HeaderName::from_static(name), value(name, text)?);
    }
    Ok(headers)
}

fn value(name: &'static str, text: String) -> Result<HeaderValue, RenderError> {
    HeaderValue::try_from(text).map_err(|_| RenderError::Header { name })
}

/// A document as it is, to be put into another.
pub(super) fn raw<'j>(text: &'j [u8], part: &'static str) -> Result<&'j RawValue, RenderError> {
    serde_json::from_slice(text).map_err(|_| RenderError::Event { part })
}

/// Writes a body. Nothing that is made of texts and documents can fail to be one.
pub(super) fn json_bytes(body: &impl serde::Serialize) -> Result<Bytes, RenderError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| RenderError::Event { part: "payload" })
}

/// RFC 3339 in UTC to the second, as the pages of other systems write it.
pub(super) fn seconds_of(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A text that may stand in a header or a URI: everything but unreserved characters encoded.
pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut encoded, format_args!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
pub(super) mod fixtures {
    //! An occasion to render in the tests of every dialect.

    use uuid::Uuid;

    use super::super::{EventParts, Occasion, RequestSettings, WebhookFace};
    use crate::crypto::{Signer, SigningSecret};
    use crate::seam::Timestamp;

    pub(in crate::dialect) const SECRET: &str = "it's a secret to everybody";

    pub(in crate::dialect) fn signer() -> Signer {
        Signer::new([&SigningSecret::from_chosen_bytes(SECRET.as_bytes()).unwrap()]).unwrap()
    }

    pub(in crate::dialect) fn occasion<'o>(
        event: EventParts<'o>,
        name: &'o str,
        signer: &'o Signer,
        settings: &'o RequestSettings,
    ) -> Occasion<'o> {
        Occasion {
            event,
            name,
            delivery_id: Uuid::from_u128(0x0196_0d5e_0000_7000_8000_0000_0000_00d1),
            webhook: WebhookFace {
                id: Uuid::from_u128(0x0196_0d5e_0000_7000_8000_0000_0000_00a1),
                alias: 42,
                name: "Wall",
            },
            at: Timestamp::from_millis(1_705_329_000_500),
            signer,
            is_test: false,
            is_replay: false,
            settings,
            template: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{occasion, signer};
    use super::*;
    use crate::dialect::settings::{Connection, RequestSettings, RequestWish};
    use crate::dialect::template::Content;
    use crate::dialect::{EventParts, render};

    const PAYLOAD: &[u8] =
        br#"{"id":"7","ticketNumber":"1182","subject":"a \"b\" <c> & d","priority":null}"#;

    fn rendered(
        method: RequestMethod,
        format: BodyFormat,
        url: &str,
        content: &Content,
    ) -> Result<Rendered, RenderError> {
        let wish = RequestWish {
            method: Some(method),
            format: Some(format),
            url: url.to_owned(),
            ..RequestWish::default()
        };
        let settings = RequestSettings::new(Dialect::Zendesk, Connection::Trigger, wish).unwrap();
        let template = Template::parse(method, format, content).unwrap();
        let signer = signer();
        let event = EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), PAYLOAD);
        let occasion = Occasion {
            template: Some(&template),
            ..occasion(event, "Ticket_Add", &signer, &settings)
        };
        render(Dialect::Zendesk, &occasion)
    }

    fn payload(text: &str) -> Content {
        Content::Payload(text.to_owned())
    }

    fn parameters() -> Content {
        Content::Parameters(vec![
            ("b".to_owned(), "{{ticket.subject}}".to_owned()),
            ("a".to_owned(), "{{ticket.id}}&x".to_owned()),
            ("b".to_owned(), "{{ticket.priority}}".to_owned()),
        ])
    }

    #[test]
    fn a_json_payload_is_json_whatever_the_values() {
        let text = r#"{"t":"{{ticket.subject}}","n":{{ticket.id}},"p":{{ticket.priority}},"q":"{{ticket.priority}}","s":{{ticket.subject}}}"#;
        let made = rendered(
            RequestMethod::Put,
            BodyFormat::Json,
            "https://a.example/t/{{ticket.id}}.json?s={{ticket.subject}}",
            &payload(text),
        )
        .unwrap();
        assert_eq!(made.method, Method::PUT);
        let read: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"t": "a \"b\" <c> & d", "n": 7, "p": null, "q": "", "s": "a \"b\" <c> & d"})
        );
        assert_eq!(made.headers[CONTENT_TYPE], "application/json");
        assert_eq!(
            made.address.unwrap().as_str(),
            "https://a.example/t/7.json?s=a%20%22b%22%20%3Cc%3E%20%26%20d"
        );
        assert_eq!(made.empty_placeholders, ["ticket.priority"]);
    }

    #[test]
    fn an_xml_payload_is_xml_whatever_the_values() {
        let made = rendered(
            RequestMethod::Post,
            BodyFormat::Xml,
            "https://a.example/",
            &payload("<t a=\"{{ticket.subject}}\"><![CDATA[{{ticket.subject}}]]></t>"),
        )
        .unwrap();
        assert_eq!(
            made.body,
            "<t a=\"a &quot;b&quot; &lt;c&gt; &amp; d\"><![CDATA[a \"b\" <c> & d]]></t>"
        );
        assert_eq!(made.headers[CONTENT_TYPE], "application/xml");
        assert!(made.address.is_none() && made.empty_placeholders.is_empty());
    }

    #[test]
    fn parameters_keep_their_order_and_go_where_the_method_has_room() {
        for method in [RequestMethod::Get, RequestMethod::Delete] {
            for format in BodyFormat::ALL {
                let made = rendered(method, format, "https://a.example/", &parameters()).unwrap();
                let expected = [("b", "a \"b\" <c> & d"), ("a", "7&x"), ("b", "")];
                let query: Vec<_> =
                    made.query.iter().map(|(name, value)| (&**name, &**value)).collect();
                assert_eq!(query, expected);
                assert!(made.body.is_empty() && !made.headers.contains_key(CONTENT_TYPE));
                assert_eq!(made.empty_placeholders, ["ticket.priority"]);
            }
        }
        for method in [RequestMethod::Post, RequestMethod::Put, RequestMethod::Patch] {
            let made =
                rendered(method, BodyFormat::Form, "https://a.example/", &parameters()).unwrap();
            assert_eq!(made.body, "b=a+%22b%22+%3Cc%3E+%26+d&a=7%26x&b=");
            assert_eq!(made.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
            assert!(made.query.is_empty());
        }
    }

    /// Which content each method and format has: the whole table.
    #[test]
    fn a_payload_stands_only_where_method_and_format_have_one() {
        for method in RequestMethod::ALL {
            for format in BodyFormat::ALL {
                let has_payload = matches!(method.as_str(), "POST" | "PUT" | "PATCH")
                    && matches!(format.as_str(), "json" | "xml");
                let text = if format == BodyFormat::Xml { "<a/>" } else { "{}" };
                let with_payload = Template::parse(method, format, &payload(text));
                assert_eq!(with_payload.is_ok(), has_payload, "{method:?} {format:?}");
                let with_parameters = Template::parse(method, format, &parameters());
                assert_eq!(with_parameters.is_ok(), !has_payload, "{method:?} {format:?}");
            }
        }
    }

    #[test]
    fn what_grows_too_large_is_not_sent() {
        let text = format!("[{}0]", "\"{{payload.subject}}\",".repeat(900));
        let template =
            Template::parse(RequestMethod::Post, BodyFormat::Json, &payload(&text)).unwrap();
        let settings = RequestSettings::default();
        let signer = signer();
        let document = format!(r#"{{"subject":"{}"}}"#, "x".repeat(1_000));
        let event =
            EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), document.as_bytes());
        let occasion = Occasion {
            template: Some(&template),
            ..occasion(event, "Ticket_Add", &signer, &settings)
        };
        assert!(matches!(
            render(Dialect::Zendesk, &occasion),
            Err(RenderError::TooLarge { what: "payload", limit: 262_144, .. })
        ));
        let large = payload(&format!("\"{}\"", "x".repeat(262_142)));
        assert!(Template::parse(RequestMethod::Post, BodyFormat::Json, &large).is_err());
        let just = payload(&format!("\"{}\"", "x".repeat(262_141)));
        assert!(Template::parse(RequestMethod::Post, BodyFormat::Json, &just).is_ok());
    }

    #[test]
    fn a_value_cannot_lead_to_another_place() {
        let settings = RequestSettings::new(
            Dialect::Zendesk,
            Connection::Trigger,
            RequestWish {
                url: "https://a.example/t/{{payload.x}}/reply?y={{payload.x}}".to_owned(),
                ..RequestWish::default()
            },
        )
        .unwrap();
        let template =
            Template::parse(RequestMethod::Post, BodyFormat::Json, &payload("{}")).unwrap();
        let signer = signer();
        for (value, expected) in [
            ("..", None),
            (".", None),
            ("%2e%2e", Some("https://a.example/t/%252e%252e/reply?y=%252e%252e")),
            ("a/../..", Some("https://a.example/t/a%2F..%2F../reply?y=a%2F..%2F..")),
            ("?#@x", Some("https://a.example/t/%3F%23%40x/reply?y=%3F%23%40x")),
        ] {
            let document = serde_json::json!({ "x": value }).to_string();
            let event =
                EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), document.as_bytes());
            let occasion = Occasion {
                template: Some(&template),
                ..occasion(event, "Ticket_Add", &signer, &settings)
            };
            let made = render(Dialect::Zendesk, &occasion).ok();
            let address = made.and_then(|made| made.address).map(String::from);
            assert_eq!(address.as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn every_dialect_signs_as_standard_webhooks_and_says_what_it_is() {
        let settings = RequestSettings::default();
        let signer = signer();
        let event = EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), PAYLOAD);
        for dialect in Dialect::ALL {
            let occasion = Occasion {
                is_test: true,
                is_replay: true,
                ..occasion(event, "Ticket_Add", &signer, &settings)
            };
            let made = render(dialect, &occasion).unwrap();
            assert_eq!(made.method, Method::POST);
            assert_eq!(made.headers["webhook-timestamp"], "1705329000");
            assert_eq!(made.headers["x-mortise-test"], "true");
            assert_eq!(made.headers["x-mortise-replay"], "true");
            let id = made.headers["webhook-id"].to_str().unwrap();
            assert_eq!(
                made.headers["webhook-signature"].to_str().unwrap(),
                signer.sign(id, 1_705_329_000, &[&made.body])
            );
        }
    }

    #[test]
    fn what_is_not_json_is_an_error_and_no_panic() {
        let settings = RequestSettings::default();
        let signer = signer();
        let event = EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), b"{");
        for dialect in [Dialect::Standard, Dialect::Zendesk, Dialect::Dzdesk, Dialect::Assist] {
            let occasion = occasion(event, "Ticket_Add", &signer, &settings);
            assert!(
                matches!(render(dialect, &occasion), Err(RenderError::Event { part: "payload" })),
                "{dialect:?}"
            );
        }
    }
}
