//! Any template, address and event: what is rendered is what its format says, no larger than may be
//! sent, and goes where the address without its values goes.

use http::HeaderMap;
use mortise::crypto::{Signer, SigningSecret};
use mortise::dialect::{
    BodyFormat, Connection, Content, Dialect, EventParts, Occasion, RequestMethod, RequestSettings,
    RequestWish, TEMPLATE_LIMIT, Template, WebhookFace, render,
};
use mortise::seam::Timestamp;
use uuid::Uuid;

/// One input: the address, the template and the event's payload, with the byte 1 between them.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '\u{1}');
    let mut next = || parts.next().unwrap_or_default();
    let (address, template, payload) = (next(), next(), next());
    let Ok(secret) = SigningSecret::from_chosen_bytes(b"a secret") else { panic!("a secret") };
    let Ok(signer) = Signer::new([&secret]) else { panic!("one secret is enough") };
    for format in BodyFormat::ALL {
        let method = Some(RequestMethod::Post);
        let wish = RequestWish {
            method,
            format: Some(format),
            cloud_events: None,
            headers: HeaderMap::new(),
            url: address.to_owned(),
        };
        let Ok(settings) = RequestSettings::new(Dialect::Zendesk, Connection::Trigger, wish) else {
            continue;
        };
        let content = match format {
            BodyFormat::Form => Content::Parameters(vec![("a".to_owned(), template.to_owned())]),
            BodyFormat::Json | BodyFormat::Xml => Content::Payload(template.to_owned()),
        };
        let Ok(template) = Template::parse(RequestMethod::Post, format, &content) else { continue };
        let at = Timestamp::from_millis(1_763_000_000_000);
        let occasion = Occasion {
            event: EventParts::new("Ticket_Add", "1", at, payload.as_bytes()),
            name: "Ticket_Add",
            delivery_id: Uuid::nil(),
            webhook: WebhookFace { id: Uuid::nil(), alias: 1, name: "a" },
            at,
            signer: &signer,
            is_test: false,
            is_replay: false,
            settings: &settings,
            template: Some(&template),
        };
        let Ok(rendered) = render(Dialect::Zendesk, &occasion) else { continue };
        assert!(rendered.body.len() <= TEMPLATE_LIMIT);
        assert!(std::str::from_utf8(&rendered.body).is_ok());
        if format == BodyFormat::Json && !template.is_empty() {
            let body: Result<serde_json::Value, _> = serde_json::from_slice(&rendered.body);
            assert!(body.is_ok(), "{:?}", rendered.body);
        }
        if let (Some(address), Some(base)) = (&rendered.address, settings.vetted_address()) {
            assert_eq!(address.origin(), base.origin());
            assert_eq!(
                (address.username(), address.password()),
                (base.username(), base.password())
            );
            assert_eq!(address.fragment(), None);
        }
    }
}
