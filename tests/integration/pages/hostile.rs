//! Texts that would run if they were written as they are: in packages, payloads, answers of
//! receivers, names of people. They are shown, and nothing of them is markup.

use mortise::development::Behaviour;
use serde_json::{Value, json};

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(hostile_texts_are_shown_and_never_markup);

/// What has run elsewhere, short enough for every field.
pub(crate) const CORPUS: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "--><!--<script>alert(1)</script>",
    "\u{2028}</script><script>alert(1)//",
    "<iframe srcdoc=\"<script>alert(1)</script>\">",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
];

/// Holds a page to nothing of the corpus standing in it as markup.
fn holds_nothing(path: &str, html: &str) {
    let lower = html.to_lowercase();
    for sign in [
        "<script>",
        "<img",
        "<iframe",
        "onerror=alert(1)>",
        "<svg/",
        "href=\"javascript:",
        "</title><script",
        "<!--",
    ] {
        assert!(!lower.contains(sign), "{path} has {sign}");
    }
}

async fn hostile_texts_are_shown_and_never_markup(backend: Backend) {
    match backend {
        // A database file for each, so that it is clear which one broke out.
        Backend::Sqlite => {
            for hostile in CORPUS {
                one_round(Backend::Sqlite, hostile).await;
            }
        }
        // There the texts go through the same templates: the longest way for one of them is enough.
        database @ Backend::Postgres(_) => one_round(database, CORPUS[1]).await,
    }
}

async fn one_round(backend: Backend, hostile: &str) {
    let name: String = hostile.chars().filter(|letter| !letter.is_control()).take(90).collect();
    let text = hostile.to_owned();
    let world = World::with(
        backend,
        |_| {},
        |package| {
            package.name.clone_from(&name);
            let webhook = &mut package.resources["webhook"];
            webhook["name"] = name.clone().into();
            webhook["description"] = text.clone().into();
        },
    )
    .await;
    let header: String = hostile.chars().filter(char::is_ascii_graphic).collect();
    let behaviour = Behaviour::status(500).with_header("x-hostile", &header).with_body(hostile);
    world.server.vendor.behave("/hooks/desk", behaviour);
    let event = json!({
        "eventId": "e-1", "eventType": "Ticket_Add", "orgId": ORG,
        "payload": { "id": "1", "subject": hostile, hostile: hostile },
        "actor": { "id": name, "name": hostile },
    });
    world.post(&event).await.expect(202);
    let delivery = world.attempted("e-1", 1).await;
    let delivery = delivery["id"].as_str().expect("an id").to_owned();
    let subject: String = name.chars().take(64).collect();
    let ada = Visitor::invited(
        &world.server,
        json!({ "role": "admin", "orgId": ORG, "subject": subject, "displayName": name }),
    )
    .await;
    let vic = Visitor::invited(
        &world.server,
        json!({ "role": "vendor", "vendor": "acme", "subject": subject }),
    )
    .await;
    let otto = Visitor::operator(&world.server).await;
    // Of the org itself: a webhook with its answers, and a rule.
    let admin = world.server.admin(ORG).await;
    let post = async |path: &str, body: Value| {
        let made = world.server.client.post(path, &admin, &body).await;
        made.expect(201).text_of("id")
    };
    let called = json!({
        "name": name, "description": hostile, "url": world.server.vendor.url("/own"),
        "dialect": "zendesk", "connection": "trigger", "subscriptions": {},
    });
    let own = post("/api/v1/webhooks", called).await;
    let rule = json!({
        "name": name,
        "conditions": { "all": [
            { "field": "eventType", "operator": "is", "value": "Ticket_Add" },
            { "field": "payload.subject", "operator": "is", "value": hostile },
        ] },
        "action": { "webhookId": own, "payload": "{}" },
    });
    let rule = post("/api/v1/triggers", rule).await;
    world.server.vendor.behave("/own", Behaviour::status(500).with_body(hostile));
    let token = json!({ "role": "host", "name": name });
    world.server.client.post("/api/v1/tokens", &world.server.operator, &token).await.expect(201);
    let installation = &world.installation.id;
    let suspend = format!("/pages/installations/{installation}/suspend");
    let page = format!("/pages/installations/{installation}");
    let reason: String = name.clone();
    ada.act(&page, &suspend, &[("reason", &reason)]).await.expect(200);
    let encoded: String = url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let paths = [
        "/pages".to_owned(),
        page.clone(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{}", world.webhook),
        format!("/pages/webhooks/{}?type={encoded}&status=500", world.webhook),
        format!("/pages/deliveries/{delivery}"),
        format!("/pages/deliveries?type={encoded}"),
        "/pages/events/e-1".to_owned(),
        format!("/pages/events?id={encoded}"),
        format!("/pages/installations?key={encoded}"),
        "/pages/journal".to_owned(),
        "/pages/jobs".to_owned(),
        "/pages/extensions".to_owned(),
        "/pages/extensions/ticket-mirror".to_owned(),
        format!("/pages/audit?actor={encoded}"),
        "/pages/audit".to_owned(),
        "/pages/findings".to_owned(),
        format!("/pages?done={encoded}"),
        format!("/pages/webhooks/{own}"),
        format!("/pages/webhooks/{own}/edit"),
        format!("/pages/webhooks/{own}/test"),
        format!("/pages/webhooks/{own}/delete"),
        format!("/pages/webhooks?search={encoded}"),
        format!("/pages/webhooks/new?dialect={encoded}&connection={encoded}"),
        format!("/pages/rules?org={ORG}"),
        format!("/pages/rules/triggers/{rule}"),
        format!("/pages/rules/triggers/new?type={encoded}"),
        format!("/pages/event-types/{encoded}"),
        "/pages/notices".to_owned(),
        "/pages/tokens".to_owned(),
        "/pages/publish".to_owned(),
        "/pages/recipes".to_owned(),
        "/pages/recipes/slack".to_owned(),
        format!("/pages/recipes/{encoded}"),
    ];
    // What of these is there for whom; the others are not found, and say nothing either.
    let mut found = 0;
    for visitor in [&ada, &vic, &otto] {
        for path in &paths {
            let mut page = visitor.get(path).await;
            if page.status == 303 {
                page = visitor.get(page.header("location")).await;
            }
            assert!([200, 404, 422].contains(&page.status), "{path}: {}", page.text);
            found += usize::from(page.status == 200);
            holds_nothing(path, &page.text);
        }
    }
    assert!(found >= 65, "only {found} pages were there");
    // What was typed in comes back with what is wrong with it.
    let hostile_fields = [
        ("name", hostile),
        ("description", hostile),
        ("url", hostile),
        ("headers", hostile),
        ("event", hostile),
        ("source", hostile),
        ("username", hostile),
        ("authentication", "basic"),
        ("certificates", hostile),
        ("secret-choice", "make"),
    ];
    for action in ["save", "test"] {
        let mut fields = hostile_fields.to_vec();
        fields.push(("action", action));
        let page = ada.submit("/pages/webhooks/new", "/pages/webhooks", &fields).await;
        holds_nothing("/pages/webhooks", &page.expect(422).text);
    }
    let fields = [
        ("name", hostile),
        ("conditions.0.field", hostile),
        ("conditions.0.value", hostile),
        ("payload", hostile),
        ("content", "payload"),
        ("webhook", hostile),
        ("action", "save"),
    ];
    let page = ada.submit("/pages/rules/triggers/new", "/pages/rules/triggers", &fields).await;
    holds_nothing("/pages/rules/triggers", &page.expect(422).text);
    let trial = format!("/pages/webhooks/{own}/test");
    let tried = ada.submit(&trial, &trial, &[("type", "Ticket_Add")]).await.expect(200).text;
    holds_nothing(&trial, &tried);
    assert!(tried.contains("What came of it"), "{tried}");
    let shown = ada.get(&format!("/pages/deliveries/{delivery}")).await.expect(200).text;
    let shown = super::visitor::unescaped(&shown);
    let json: Value = Value::String(hostile.to_owned());
    let inner = json.to_string();
    assert!(shown.contains(inner.trim_matches('"')), "what was sent is shown: {hostile}");
    let nobody = Visitor::nobody(&world.server);
    for path in
        [format!("/sign-in?next={encoded}"), format!("/portal/{encoded}"), format!("/{encoded}")]
    {
        holds_nothing(&path, &nobody.get(&path).await.text);
    }
}
