//! What holds for every template and every value: what was accepted as JSON or XML is JSON or XML
//! when it is sent, and an address stays where it was.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::text::Text;
use super::{AddressTemplate, Output, Values, json as json_template, xml};
use crate::dialect::placeholders::Scene;
use crate::dialect::{EventParts, RenderError, WebhookFace};
use crate::seam::Timestamp;

fn with_values<T>(x: &Value, y: &Value, run: impl FnOnce(&mut Values<'_>) -> T) -> T {
    let payload = json!({ "x": x, "y": y }).to_string();
    let event = EventParts::new("Ticket_Add", "1", Timestamp::default(), payload.as_bytes());
    let webhook = WebhookFace { id: Uuid::nil(), alias: 1, name: "a" };
    let scene = Scene::new(event, "Ticket_Add", webhook, Uuid::nil()).expect("a scene");
    run(&mut Values::new(&scene))
}

fn rendered(text: &Text, x: &Value, y: &Value) -> String {
    with_values(x, y, |values| {
        let mut output = Output::new("payload");
        text.write(values, &mut output).expect("it is small");
        output.take()
    })
}

fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 0..12).prop_map(|pieces| pieces.concat())
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{0,12}".prop_map(Value::from),
        "[\\]\\[<>&\"'{}\\\\/.?#%\\x00-\\x1f-]{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!({ "a": ["]]>", "\"" ] })),
        Just(json!(["..", "-->"])),
    ]
}

const JSON: &[&str] = &[
    "{{payload.x}}",
    "{{payload.y}}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\\"",
    "0",
    "a",
    " ",
    "\"k\":",
    "\"{{payload.x}}\"",
    "[{{payload.x}},",
    "\\u00",
    "null",
];

const XML: &[&str] = &[
    "{{payload.x}}",
    "{{payload.y}}",
    "<a>",
    "</a>",
    "<a",
    "/>",
    ">",
    " b=\"",
    "\"",
    " c='",
    "'",
    "&amp;",
    "&",
    "<![CDATA[",
    "]]>",
    "]",
    "<!--",
    "-->",
    "<?p ?>",
    "x",
    "<a b=\"{{payload.x}}\">",
];

const ADDRESS: &[&str] = &[
    "{{payload.x}}",
    "{{payload.y}}",
    "/",
    "a",
    ".",
    "..",
    "?",
    "=",
    "&",
    "#",
    "@",
    ":",
    "\\",
    "%2e",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_accepted_as_json_is_json(template in pieces(JSON), x in values(), y in values()) {
        if let Ok(text) = json_template::parse(&template) {
            let sent = rendered(&text, &x, &y);
            if !template.trim().is_empty() {
                let read = serde_json::from_str::<Value>(&sent);
                prop_assert!(read.is_ok(), "{template} became {sent}");
            }
        }
    }

    #[test]
    fn what_is_accepted_as_xml_is_xml(template in pieces(XML), x in values(), y in values()) {
        if let Ok(text) = xml::parse(&template) {
            let sent = rendered(&text, &x, &y);
            // What is sent has no placeholders any more, but values may look like some.
            let looked_at = sent.replace("{{", "((").replace("}}", "))");
            prop_assert!(xml::parse(&looked_at).is_ok(), "{template} became {sent}");
        }
    }

    #[test]
    fn an_address_stays_where_it_was(rest in pieces(ADDRESS), x in values(), y in values()) {
        let Ok(address) = AddressTemplate::parse(&format!("https://a.example/{rest}")) else {
            return Ok(());
        };
        match with_values(&x, &y, |values| address.render(values)) {
            Ok(url) => {
                prop_assert_eq!(url.origin(), address.base().origin());
                prop_assert_eq!(url.username(), "");
                let segments = |url: &url::Url| -> Vec<String> {
                    url.path_segments().into_iter().flatten().map(str::to_owned).collect()
                };
                let (now, before) = (segments(&url), segments(address.base()));
                prop_assert_eq!(now.len(), before.len());
                for (now, before) in now.iter().zip(&before) {
                    // Nothing became nothing, which is another place.
                    prop_assert_eq!(now.is_empty(), before.is_empty());
                    if !before.contains('0') {
                        prop_assert_eq!(now, before);
                    }
                }
                prop_assert_eq!(url.fragment(), None);
            }
            Err(error) => {
                let is_address = matches!(error, RenderError::Address { .. });
                prop_assert!(is_address, "{error}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(template in "\\PC{0,40}|[{}<>\"'&;!\\[\\]/=a-c \\-?#.]{0,40}") {
        let _ = json_template::parse(&template);
        let _ = xml::parse(&template);
        let _ = AddressTemplate::parse(&template);
        let _ = AddressTemplate::parse(&format!("https://{template}"));
    }
}
