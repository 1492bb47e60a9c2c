//! The vendor's installation validator: asked before an install, and only then.

use std::time::Duration;

use mortise::development::{Behaviour, Check, Secrets, verify};
use serde_json::{Value, json};

use crate::support::delivery_world::SOON;
use crate::support::on_both;
use crate::support::package::{MANIFEST_SECRET, Package};
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    the_vendor_is_asked_and_may_refuse,
    what_is_no_answer_can_be_repeated,
    installs_at_once_make_one_installation,
    each_user_of_a_personal_extension_is_asked_about,
);

const VALIDATOR: &str = "/validator";
const INSTALLATIONS: &str = "/api/v1/installations";

fn package(server: &TestServer) -> Package {
    let url = server.vendor.url(VALIDATOR);
    server.package().with(|package| {
        package.manifest["mortise"] = json!({ "installationValidator": { "url": url } });
    })
}

fn request() -> Value {
    json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "installedBy": "42",
        "departmentIds": ["7"], "config": { "mirrorHost": "a.example", "mirrorToken": "do-not-tell" },
    })
}

async fn the_vendor_is_asked_and_may_refuse(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&package(&server)).await.expect(201);
    let no = json!({ "allowed": false, "message": "No seats left.\r\n<b>Buy more.</b>" });
    server.vendor.behave(VALIDATOR, Behaviour::status(200).with_body(no.to_string()));
    let refused = server.callback("install", &request()).await.refused(422, "INSTALLATION_REFUSED");
    assert_eq!(refused.json["message"], "No seats left.  <b>Buy more.</b>", "one plain line");
    assert!(server.client.all(INSTALLATIONS, &server.operator).await.is_empty());
    assert!(server.texts("select event from journal").await.is_empty(), "nobody was told");

    let asked = server.vendor.received_at(VALIDATOR).pop().expect("it was asked");
    let body = asked.json().expect("JSON");
    for (member, value) in [
        ("event", json!("validateInstallation")),
        ("extensionKey", json!("ticket-mirror")),
        ("version", json!("1.0.0")),
        ("orgId", json!(ORG)),
        ("installedBy", json!("42")),
        ("departmentIds", json!(["7"])),
        ("configNames", json!(["mirrorHost", "mirrorToken"])),
    ] {
        assert_eq!(body[member], value, "{member}");
    }
    assert!(!body.to_string().contains("do-not-tell") && !body.to_string().contains("a.example"));
    let path = "/api/v1/extensions/ticket-mirror/signing-secret";
    let secret = server.client.get(path, &server.operator).await.expect(200).text_of("secret");
    let secrets = Secrets {
        signing: vec![secret],
        manifest: Some(MANIFEST_SECRET.to_owned()),
        ..Secrets::default()
    };
    let verification = verify(&asked, &secrets);
    assert_eq!((verification.standard, verification.hash), (Check::Valid, Check::Valid));

    let yes = json!({ "allowed": true });
    server.vendor.behave(VALIDATOR, Behaviour::status(200).with_body(yes.to_string()));
    let installed = server.install_with(request()).await;
    assert_eq!(installed.generation, 1, "a refusal uses up no generation");
    // The same again lives already: nobody is asked. Faulty requests neither.
    let before = server.vendor.received_at(VALIDATOR).len();
    server.callback("install", &request()).await.expect(200);
    let mut faulty = request();
    faulty["orgId"] = json!("another");
    faulty["config"] = json!({ "colour": "red" });
    server.callback("install", &faulty).await.refused(422, "INVALID_DATA");
    assert_eq!(server.vendor.received_at(VALIDATOR).len(), before);
    // The next installation is another question.
    server.callback("uninstall", &json!({ "installationId": installed.id })).await.expect(200);
    server.install_with(request()).await;
    assert_eq!(server.vendor.received_at(VALIDATOR).len(), before + 1);
    // A version without a validator asks nobody.
    let mut newer = server.package().version("2.0.0");
    "without".clone_into(&mut newer.key);
    server.publish(&newer).await.expect(201);
    server.install("without", ORG).await;
    assert_eq!(server.vendor.received_at(VALIDATOR).len(), before + 1);
}

async fn what_is_no_answer_can_be_repeated(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&package(&server)).await.expect(201);
    let said = |text: &str| Behaviour::status(200).with_body(text.to_owned());
    for behaviour in [
        Behaviour::status(500),
        Behaviour::status(404),
        Behaviour::status(302),
        said(""),
        said("yes"),
        said("{}"),
        said("{\"allowed\":\"yes\"}"),
        said(&format!("{{\"allowed\":true,\"message\":\"{}\"}}", "x".repeat(20_000))),
        Behaviour::Close,
        Behaviour::Garbage,
    ] {
        let told = format!("{behaviour:?}");
        server.vendor.behave(VALIDATOR, behaviour);
        let refused =
            server.callback("install", &request()).await.refused(503, "SERVICE_UNAVAILABLE");
        assert_eq!(refused.header("retry-after"), "5", "{told:.100}");
    }
    // One that hangs holds the caller for 5 s, and nobody else.
    server.vendor.behave(VALIDATOR, Behaviour::Hang);
    let hanging = async {
        let body = request();
        server.callback("install", &body).await.refused(503, "SERVICE_UNAVAILABLE");
    };
    let meanwhile = async {
        server.vendor.wait_for_path(VALIDATOR, 11, SOON).await.expect("it is asked");
        let other = server.package().key("other");
        let began = mortise::seam::Clock::default().instant();
        server.active_package(&other, ORG).await;
        assert!(began.elapsed() < Duration::from_secs(4), "no transaction is open meanwhile");
    };
    futures_util::future::join(hanging, meanwhile).await;
    assert_eq!(server.client.all(INSTALLATIONS, &server.operator).await.len(), 1);
    server.vendor.behave(VALIDATOR, said("{\"allowed\":true}"));
    server.install_with(request()).await;
}

async fn installs_at_once_make_one_installation(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&package(&server)).await.expect(201);
    let yes = Behaviour::status(200).with_body("{\"allowed\":true}");
    server.vendor.behave(VALIDATOR, yes.after(Duration::from_millis(200)));
    let body = request();
    let answers =
        futures_util::future::join_all((0..6).map(|_| server.callback("install", &body))).await;
    assert!(answers.iter().all(|answer| [200, 201].contains(&answer.status)));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(server.client.all(INSTALLATIONS, &server.operator).await.len(), 1);
}

async fn each_user_of_a_personal_extension_is_asked_about(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let personal = package(&server).with(|package| {
        package.manifest["type"] = json!("personal");
        package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
        package.resources = json!({});
    });
    server.publish(&personal).await.expect(201);
    let yes = Behaviour::status(200).with_body("{\"allowed\":true}");
    server.vendor.behave(VALIDATOR, yes);
    let body =
        |user: &str| json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "userId": user });
    for (number, user) in ["u-1", "u-2", "u-3"].into_iter().enumerate() {
        server.callback("install", &body(user)).await.expect(201);
        let asked = server.vendor.received_at(VALIDATOR);
        assert_eq!(asked.len(), number + 1);
        assert_eq!(asked[number].json().expect("JSON")["userId"], user);
    }
    // His lives already: nobody is asked. What would be refused anyhow is not asked about.
    server.callback("install", &body("u-2")).await.expect(200);
    let nobody = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    server.callback("install", &nobody).await.refused(422, "INVALID_DATA");
    assert_eq!(server.vendor.received_at(VALIDATOR).len(), 3);
    let no = json!({ "allowed": false, "message": "not you" });
    server.vendor.behave(VALIDATOR, Behaviour::status(200).with_body(no.to_string()));
    server.callback("install", &body("u-4")).await.refused(422, "INSTALLATION_REFUSED");
}
