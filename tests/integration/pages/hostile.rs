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
    "javascript:alert(1)",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
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

/// A package that is not valid, and has a text in names, values, keys and files of it.
fn hostile_package(world: &World, hostile: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut package = world.server.package();
    package.manifest[hostile] = hostile.into();
    package.manifest["locale"] = json!([hostile]);
    package.resources["webhook"]["name"] = hostile.into();
    package.resources["webhook"]["subscriptions"][hostile] = Value::Null;
    let file: String =
        hostile.chars().filter(|one| !one.is_control() && !"/\\:".contains(*one)).collect();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [
        ("plugin-manifest.json".to_owned(), format!("{:#}", package.manifest)),
        ("resources.json".to_owned(), format!("{:#}", package.resources)),
        (format!("app/{file}.html"), hostile.to_owned()),
    ] {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(name, options).expect("a file begins");
        writer.write_all(text.as_bytes()).expect("it is written");
    }
    writer.finish().expect("it is whole").into_inner()
}

async fn hostile_texts_are_shown_and_never_markup(backend: Backend) {
    match backend {
        // A database file for each, so that it is clear which one broke out.
        Backend::Sqlite => {
            // Some at a time: each in the long fields, and the first ones in the short ones too.
            for some in CORPUS.chunks(3) {
                one_round(Backend::Sqlite, &some.join(" ")).await;
            }
        }
        // There the texts go through the same templates: the longest way for one of them is enough.
        database @ Backend::Postgres(_) => one_round(database, CORPUS[1]).await,
    }
}

async fn one_round(backend: Backend, hostile: &str) {
    let name: String = hostile.chars().filter(|letter| !letter.is_control()).take(90).collect();
    // Some names are trimmed.
    let name = name.trim().to_owned();
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
    let parameters = json!({ "installationId": installation, "config": { "mirrorHost": hostile } });
    world.server.callback("configure", &parameters).await.expect(200);
    // A second version, so that there is something to compare.
    let second = world.server.package().version("1.0.1").with(|package| {
        package.name.clone_from(&name);
        package.resources["webhook"]["name"] = name.clone().into();
        package.resources["webhook"]["description"] = format!("{hostile} and more").into();
    });
    world.server.publish(&second).await.expect(201);
    let suspend = format!("/pages/installations/{installation}/suspend");
    let page = format!("/pages/installations/{installation}");
    let reason: String = name.clone();
    ada.act(&page, &suspend, &[("reason", &reason)]).await.expect(200);
    // As it stands in JSON.
    let inner = Value::String(hostile.to_owned()).to_string();
    let inner = inner[1..inner.len() - 1].to_owned();
    let inner = inner.as_str();
    let encoded: String = url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let extension = "/pages/extensions/ticket-mirror".to_owned();
    // What each of them answers to the administrator, the vendor and the operator: a page that is not
    // there, or refuses, would show nothing of the texts.
    let (all, org, owner, operator) =
        ([200, 200, 200], [200, 404, 200], [404, 200, 200], [404, 404, 200]);
    let paths = [
        (all, "/pages".to_owned()),
        (all, page.clone()),
        (org, format!("{page}/uninstall")),
        (all, "/pages/webhooks".to_owned()),
        (all, format!("/pages/webhooks/{}", world.webhook)),
        (all, format!("/pages/webhooks/{}?type={encoded}&status=500", world.webhook)),
        ([404, 200, 200], format!("/pages/webhooks/{}/test", world.webhook)),
        (all, format!("/pages/deliveries/{delivery}")),
        (all, format!("/pages/deliveries?type={encoded}")),
        (org, format!("/pages/events/e-1?org={ORG}")),
        ([404; 3], format!("/pages/events?id={encoded}&org={ORG}")),
        (all, format!("/pages/installations?key={encoded}")),
        (owner, "/pages/journal".to_owned()),
        (all, "/pages/jobs".to_owned()),
        (owner, "/pages/extensions".to_owned()),
        (owner, extension.clone()),
        (owner, format!("{extension}/suspend")),
        (owner, format!("{extension}/compare?from=1.0.0&to=1.0.1")),
        (operator, format!("/pages/audit?actor={encoded}")),
        (operator, "/pages/audit".to_owned()),
        (operator, "/pages/findings".to_owned()),
        (all, format!("/pages?done={encoded}")),
        (org, format!("/pages/webhooks/{own}")),
        (org, format!("/pages/webhooks/{own}/edit")),
        (org, format!("/pages/webhooks/{own}/test")),
        (org, format!("/pages/webhooks/{own}/delete")),
        (all, format!("/pages/webhooks?search={encoded}")),
        (org, format!("/pages/webhooks/new?dialect={encoded}&connection={encoded}&org={ORG}")),
        (org, format!("/pages/rules?org={ORG}")),
        (org, format!("/pages/rules/triggers/{rule}")),
        (org, format!("/pages/rules/triggers/new?type={encoded}&org={ORG}")),
        ([404; 3], format!("/pages/event-types/{encoded}")),
        (all, "/pages/notices".to_owned()),
        (all, "/pages/session".to_owned()),
        (operator, "/pages/tokens".to_owned()),
        (owner, "/pages/publish".to_owned()),
        (org, format!("/pages/recipes?org={ORG}")),
        (org, format!("/pages/recipes/slack?org={ORG}")),
        ([404; 3], format!("/pages/recipes/{encoded}?org={ORG}")),
    ];
    let mut others = Vec::new();
    for (statuses, path) in &paths {
        for (visitor, wanted) in [&ada, &vic, &otto].into_iter().zip(statuses) {
            let mut page = visitor.get(path).await;
            if page.status == 303 {
                page = visitor.get(page.header("location")).await;
            }
            if page.status != *wanted {
                others.push(format!("{path}: {} and not {wanted}", page.status));
            }
            holds_nothing(path, &page.text);
        }
    }
    assert_eq!(others, Vec::<String>::new());
    // Where a text has to be, so that it is clear that it came as far as that.
    for (visitor, path, text) in [
        (&ada, page.as_str(), name.as_str()),
        (&vic, page.as_str(), name.as_str()),
        (&vic, extension.as_str(), name.as_str()),
        (&ada, &format!("/pages/webhooks/{own}"), name.as_str()),
        (&ada, &format!("/pages/webhooks/{own}/edit"), hostile),
        (&ada, &format!("/pages/rules/triggers/{rule}"), hostile),
        (&ada, &format!("/pages/events/e-1?org={ORG}"), inner),
        (&otto, "/pages/tokens", name.as_str()),
        (&otto, "/pages/audit", subject.as_str()),
        (&ada, "/pages/session", name.as_str()),
    ] {
        let shown = visitor.get(path).await.expect(200).text;
        let shown = super::visitor::unescaped(&shown);
        assert!(shown.contains(text), "{path} shows {text:?}: {shown}");
    }
    // A parameter of the installation.
    let shown = super::visitor::unescaped(&ada.get(&page).await.text);
    assert!(shown.contains("mirrorHost") && shown.matches(inner).count() >= 1, "{shown}");
    // A package with them in every place that a diagnostic quotes.
    let package = hostile_package(&world, hostile);
    let token = vic.form_token().await;
    for (action, status) in [("check", 200), ("publish", 422)] {
        let fields = [
            ("csrf", token.as_str()),
            ("key", ""),
            ("extension", "ticket-mirror"),
            ("name", name.as_str()),
            ("version", hostile),
            ("action", action),
        ];
        let file = (header.as_str(), package.as_slice());
        let checked = vic.send_file("/pages/publish", &fields, file).await.expect(status).text;
        holds_nothing("/pages/publish", &checked);
        if action == "check" {
            let shown = super::visitor::unescaped(&checked);
            assert!(shown.contains("The package is not valid."), "{shown}");
            assert!(shown.contains(inner), "the source is shown: {shown}");
        }
    }
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
    assert!(shown.contains(inner), "what was sent is shown: {hostile}");
    let nobody = Visitor::nobody(&world.server);
    for path in
        [format!("/sign-in?next={encoded}"), format!("/portal/{encoded}"), format!("/{encoded}")]
    {
        holds_nothing(&path, &nobody.get(&path).await.text);
    }
}
