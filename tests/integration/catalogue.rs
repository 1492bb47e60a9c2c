//! The catalogue: publishing in both forms, what is refused and how it is said, what is read.

use std::io::{Cursor, Write as _};
use std::path::Path;

use reqwest::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::package::MANIFEST_SECRET;
use crate::support::server::{Backend, ORG, TestServer, assert_absent};

const EXTENSIONS: &str = "/api/v1/extensions";

on_both!(
    a_version_is_published_once,
    a_zip_is_a_package_too,
    what_is_wrong_is_said_in_the_dialects_words,
    every_broken_fixture_is_refused_over_http,
    the_command_line_says_the_same_to_the_byte,
    scopes_that_the_operator_denies_are_refused,
    every_schema_is_published,
    validating_stores_nothing,
    secrets_are_neither_shown_nor_stored_in_the_clear,
    a_vendor_has_its_own_extensions_only,
    lists_go_page_by_page,
    the_newest_stable_version_is_installed,
    the_kill_switch_holds_all_orgs_and_lets_go,
    signing_secrets_are_rotated,
);

async fn start(backend: Backend) -> TestServer {
    TestServer::start(backend, |_| {}).await
}

async fn a_version_is_published_once(backend: Backend) {
    let server = start(backend).await;
    let package = server.package();
    let first = server.publish(&package).await.expect(201);
    assert_eq!(first.json["key"], "ticket-mirror");
    assert_eq!(first.json["version"], "1.0.0");
    assert_eq!(first.json["requiredScopes"], json!(["Desk.events.ALL", "Desk.tickets.READ"]));
    assert!(first.text_of("digest").starts_with("sha256:"), "{}", first.text);
    assert!(first.json["warnings"].is_array(), "{}", first.text);

    let again = server.publish(&package).await.expect(200);
    assert_eq!(again.json["extensionId"], first.json["extensionId"]);
    assert_eq!(again.json["digest"], first.json["digest"]);

    // Another order of keys and other numbers of spaces are the same content.
    let mut text = serde_json::to_string_pretty(&package.json()).expect("it is JSON");
    text.insert(0, ' ');
    let request = server.client.request(Method::POST, EXTENSIONS, &server.operator);
    let request = request.header("content-type", "application/json").body(text);
    server.client.send(request).await.expect(200);

    let other = package.clone().with(|package| {
        package.resources["webhook"]["description"] = json!("Something else.");
    });
    let conflict = server.publish(&other).await.refused(409, "VERSION_CONFLICT");
    assert_eq!(conflict.json["digest"], first.json["digest"], "{}", conflict.text);

    // Only the secret differs: it is not in the digest, and is other content all the same.
    let other = package.clone().with(|package| package.manifest["secret"] = json!("another"));
    server.publish(&other).await.refused(409, "VERSION_CONFLICT");

    let seen = server.client.get(&format!("{EXTENSIONS}/ticket-mirror"), &server.operator).await;
    let seen = seen.expect(200);
    assert_eq!(seen.json["versions"].as_array().map(Vec::len), Some(1), "{}", seen.text);

    let missing_name = json!({ "manifest": package.manifest, "resources": package.resources });
    let answer = server.client.post(EXTENSIONS, &server.operator, &missing_name).await;
    answer.refused(422, "INVALID_DATA");
    for (member, value) in [
        ("version", json!("1.0")),
        ("key", json!("Ticket_Mirror")),
        ("vendor", json!("")),
        ("name", json!(" ")),
        ("name", json!("a\u{7}b")),
        ("extra", json!(1)),
    ] {
        let mut body = package.json();
        body[member] = value;
        let answer = server.client.post(EXTENSIONS, &server.operator, &body).await;
        answer.refused(422, "INVALID_DATA");
    }
}

/// The sample extension as an archive, with the vendor's addresses for those of the sample.
fn zipped(server: &TestServer, skip: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ticket-mirror");
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("the fixture is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&folder).expect("inside").display().to_string();
            if name == skip {
                continue;
            }
            let mut content = std::fs::read(&path).expect("a file");
            if name == "resources.json" || name == "plugin-manifest.json" {
                let text = String::from_utf8(content).expect("UTF-8");
                content = text
                    .replace("https://vendor.example/hooks", &server.vendor.url("/hooks"))
                    .replace("https://vendor.example/callbacks", &server.vendor.url("/callbacks"))
                    .into_bytes();
            }
            writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("start");
            writer.write_all(&content).expect("write");
        }
    }
    writer.finish().expect("finish").into_inner()
}

async fn upload(server: &TestServer, path: &str, bytes: Vec<u8>) -> Answer {
    let request = server.client.request(Method::POST, path, &server.operator);
    let request = request.header("content-type", "application/zip").body(bytes);
    server.client.send(request).await
}

async fn a_zip_is_a_package_too(backend: Backend) {
    let server = start(backend).await;
    let path =
        format!("{EXTENSIONS}?key=ticket-mirror&name=Ticket%20Mirror&version=1.0.0&vendor=acme");
    let archive = zipped(&server, "");
    let first = upload(&server, &path, archive.clone()).await.expect(201);
    upload(&server, &path, archive.clone()).await.expect(200);
    let validate = format!("{EXTENSIONS}/validate");
    let valid = upload(&server, &validate, archive.clone()).await.expect(200);
    assert_eq!(valid.json["valid"], true);

    let version = format!("{EXTENSIONS}/ticket-mirror/versions/1.0.0");
    let version = server.client.get(&version, &server.operator).await.expect(200);
    assert_eq!(version.json["digest"], first.json["digest"]);
    assert_eq!(version.json["name"], "Ticket Mirror");
    assert_absent(&version.text, "0f3c6b1e9d7a4c52b8e1f0a96d2c7b43");

    // A zip has files, so rules about files hold, and places are known.
    let bare = zipped(&server, "app/widget.html");
    let refused = upload(&server, &validate, bare).await.refused(422, "UNPROCESSABLE_ENTITY");
    let errors = refused.json["errors"].as_array().expect("errors");
    assert!(
        !errors.is_empty() && errors.iter().all(|one| one["line"].is_u64()),
        "{}",
        refused.text
    );

    // What names the version is needed to publish, and only then.
    upload(&server, EXTENSIONS, archive.clone()).await.refused(422, "INVALID_DATA");
    let unknown = format!("{path}&color=red");
    upload(&server, &unknown, archive.clone()).await.refused(422, "INVALID_DATA");
    upload(&server, &path, b"no archive".to_vec()).await.refused(422, "UNPROCESSABLE_ENTITY");
    let cut = archive[..archive.len() / 2].to_vec();
    upload(&server, &path, cut).await.refused(422, "UNPROCESSABLE_ENTITY");
    upload(&server, &path, Vec::new()).await.refused(422, "UNPROCESSABLE_ENTITY");
}

async fn what_is_wrong_is_said_in_the_dialects_words(backend: Backend) {
    let server = start(backend).await;
    let package = server.package().with(|package| {
        package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
        package.manifest.as_object_mut().expect("an object").remove("type");
    });
    let refused = server.publish(&package).await.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(
        refused.text_of("message"),
        concat!(
            r#"{"errors":{"resourcesJson":["The webhook resource should have connection in "#,
            r#"zohoAuthorisation with Desk.events.ALL scope.","webhook should be configured for "#,
            r#"org exension type"]}}"#
        )
    );
    assert!(refused.text_of("type").ends_with("/extension-invalid"), "{}", refused.text);
    assert_eq!(refused.json["title"], "Extension package is not valid");
    assert_eq!(refused.json["warnings"], json!([]));
    let errors = refused.json["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 2, "{}", refused.text);
    let scope = errors.iter().find(|one| one["code"] == "webhook.scope-missing").expect("the code");
    assert_eq!(scope["severity"], "error");
    assert_eq!(scope["file"], "resources.json");
    assert_eq!(scope["pointer"], "/webhook");
    assert_eq!(scope["related"]["file"], "plugin-manifest.json");
    assert_eq!(scope["related"]["pointer"], "/zohoAuthorisation/scope");
    server.client.get(&format!("{EXTENSIONS}/ticket-mirror"), &server.operator).await.expect(404);

    // All faults in one answer, in both documents.
    let package = server.package().with(|package| {
        package.manifest.as_object_mut().expect("an object").remove("service");
        package.resources["webhook"]["subscriptions"]["Ticket_Addd"] = Value::Null;
        package.resources["webhook"]["url"] = json!("https://desk.internal/hook");
        package.resources["webhook"]["ignoreSourceId"] = json!("not-a-uuid");
    });
    let refused = server.publish(&package).await.refused(422, "UNPROCESSABLE_ENTITY");
    let errors = refused.json["errors"].as_array().expect("errors");
    let at = |pointer: &str| errors.iter().any(|one| one["pointer"] == pointer);
    assert!(at("/webhook/url") && at("/webhook/ignoreSourceId"), "{}", refused.text);
    assert!(at("/webhook/subscriptions/Ticket_Addd"), "{}", refused.text);
    let near = errors
        .iter()
        .any(|one| one["suggestion"].as_str().unwrap_or_default().contains("Ticket_Add"));
    assert!(near, "the nearest name is said: {}", refused.text);
    let message: Value = serde_json::from_str(&refused.text_of("message")).expect("a document");
    assert!(message["errors"]["manifestJson"].is_array(), "{message}");
    assert!(message["errors"]["resourcesJson"].is_array(), "{message}");

    // A key that stands twice is an error, which a parsed value would hide.
    let text = server.package().json().to_string();
    let text = text.replacen("\"service\":", "\"service\":\"DESK\",\"service\":", 1);
    let request = server.client.request(Method::POST, EXTENSIONS, &server.operator);
    let request = request.header("content-type", "application/json").body(text);
    let refused = server.client.send(request).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}

async fn every_broken_fixture_is_refused_over_http(backend: Backend) {
    let server = start(backend).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/broken");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures are there") {
        let folder = entry.expect("an entry").path();
        let read = |name: &str| -> Option<Value> {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            serde_json::from_str(&text).ok()
        };
        // Faults of files and of the text itself do not show in a JSON body, and this server takes
        // plain http; nothing else hides.
        let expected = read("expected.json").expect("what is wrong with it");
        let shows = expected.as_array().expect("a list").iter().any(|one| {
            let code = one["code"].as_str().expect("a code");
            let room = code.split('.').next().unwrap_or_default();
            one["severity"] == "error"
                && code != "url.scheme"
                && !["file", "json", "locale", "package"].contains(&room)
        });
        let manifest = read("package/plugin-manifest.json");
        let resources = read("package/resources.json");
        let (Some(manifest), Some(resources), true) = (manifest, resources, shows) else {
            continue;
        };
        let body = json!({
            "key": "broken", "name": "Broken", "version": "1.0.0", "vendor": "acme",
            "manifest": manifest, "resources": resources,
        });
        let answer = server.client.post(EXTENSIONS, &server.operator, &body).await;
        assert_eq!(answer.status, 422, "{}: {}", folder.display(), answer.text);
        seen += 1;
    }
    assert!(seen >= 10, "{seen} fixtures were tried");
}

/// Everything in a folder as an archive, as it is.
fn packed(folder: &Path) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("inside").display().to_string();
            writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("start");
            writer.write_all(&std::fs::read(&path).expect("a file")).expect("write");
        }
    }
    writer.finish().expect("finish").into_inner()
}

/// `mortise validate --format json` with the configuration of a file: exit code and answer.
async fn validated(config: &Path, package: &Path) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mortise"));
    command.args(["validate", "--format", "json", "--config"]).arg(config).arg(package);
    command.env_remove("MORTISE_CONFIG").kill_on_drop(true);
    let output = command.output().await.expect("it ends");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// The diagnostics of a document, to the byte.
#[derive(Debug, serde::Deserialize)]
struct Told<'t> {
    #[serde(borrow)]
    message: &'t RawValue,
    #[serde(borrow)]
    errors: &'t RawValue,
    #[serde(borrow)]
    warnings: &'t RawValue,
}

async fn the_command_line_says_the_same_to_the_byte(backend: Backend) {
    const SCOPES: &str = "Desk.organization.*";
    let server =
        TestServer::start(backend, |settings| settings.set("catalogue.denied_scopes", SCOPES));
    let server = server.await;
    let config = server.folder().join("judge.toml");
    let text = format!(
        "[egress]\nallow = [\"127.0.0.0/8\"]\nrequire_https = false\n\
         [catalogue]\ndenied_scopes = [\"{SCOPES}\"]\n"
    );
    std::fs::write(&config, text).expect("a file");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let broken = std::fs::read_dir(fixtures.join("broken")).expect("the fixtures are there");
    let mut folders: Vec<_> =
        broken.map(|entry| entry.expect("an entry").path().join("package")).collect();
    folders.push(fixtures.join("ticket-mirror"));
    let (mut valid, mut invalid) = (0, 0);
    for folder in folders {
        let archive = server.folder().join("package.zip");
        let bytes = packed(&folder);
        std::fs::write(&archive, &bytes).expect("a file");
        let answer = upload(&server, &format!("{EXTENSIONS}/validate"), bytes).await;
        let (code, text) = validated(&config, &archive).await;
        if answer.status == 200 {
            assert_eq!((code, text.trim_end()), (Some(0), answer.text.as_str()));
            valid += 1;
        } else {
            assert_eq!((code, answer.status), (Some(1), 422), "{}", folder.display());
            let told = |text| serde_json::from_str::<Told<'_>>(text).expect("diagnostics");
            let (own, of_api) = (told(&text), told(&answer.text));
            assert_eq!(own.errors.get(), of_api.errors.get(), "{}", folder.display());
            assert_eq!(own.warnings.get(), of_api.warnings.get(), "{}", folder.display());
            assert_eq!(own.message.get(), of_api.message.get(), "{}", folder.display());
            assert!(own.errors.get().len() > 100, "{text}");
            invalid += 1;
        }
    }
    assert!(valid >= 2 && invalid >= 12, "{valid} valid, {invalid} invalid");
}

async fn scopes_that_the_operator_denies_are_refused(backend: Backend) {
    let server = TestServer::start(backend, |settings| {
        settings.set("catalogue.denied_scopes", "Desk.settings.READ,Desk.organization.*");
    });
    let server = server.await;
    server.publish(&server.package()).await.expect(201);
    for scope in [
        "Desk.organization.ALL",
        "desk.settings.read",
        "Desk.settings.ALL",
        "Desk.tickets.READ,Desk.settings.READ",
    ] {
        let package = server.package().with(|package| {
            package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.events.ALL", scope]);
        });
        let refused = server.publish(&package).await.refused(422, "UNPROCESSABLE_ENTITY");
        let errors = refused.json["errors"].as_array().expect("errors");
        assert_eq!(errors.len(), 1, "{}", refused.text);
        assert_eq!(errors[0]["code"], "scope.denied");
        assert_eq!(errors[0]["pointer"], "/zohoAuthorisation/scope/1");
    }
    let package = server.package().with(|package| {
        package.manifest["connectors"] = json!([{
            "connectionName": "other", "connectionLinkName": "other", "serviceName": "other",
            "scope": ["Desk.organization.READ"],
        }]);
    });
    let refused = server.publish(&package).await.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(refused.json["errors"][0]["pointer"], "/connectors/0/scope/0", "{}", refused.text);
}

async fn every_schema_is_published(backend: Backend) {
    let server = start(backend).await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut folders = vec![root.clone()];
    let mut seen = 0;
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("the schemas are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("inside").display().to_string();
            if name == "README.md" {
                continue;
            }
            let answer = server.client.get(&format!("/schemas/{name}"), &server.operator).await;
            let text = std::fs::read_to_string(&path).expect("a schema");
            assert_eq!(answer.expect(200).text, text, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 + 56 + 15, "two files, the event types' options, their payloads by module");
    for path in ["/schemas/", "/schemas/plugin-manifest", "/schemas//resources.json"] {
        assert_eq!(server.client.get(path, &server.operator).await.status, 404, "{path}");
    }
}

async fn validating_stores_nothing(backend: Backend) {
    let server = start(backend).await;
    let path = format!("{EXTENSIONS}/validate");
    let valid = server.client.post(&path, &server.operator, &server.package().json()).await;
    assert_eq!(valid.expect(200).json["valid"], true);
    let unnamed = json!({
        "manifest": server.package().manifest, "resources": server.package().resources,
    });
    let valid = server.client.post(&path, &server.operator, &unnamed).await.expect(200);
    assert_eq!(valid.json["warnings"], json!([]), "{}", valid.text);
    let package = server.package().with(|package| package.manifest["colour"] = json!("red"));
    let warned = server.client.post(&path, &server.operator, &package.json()).await.expect(200);
    assert_eq!(warned.json["warnings"].as_array().map(Vec::len), Some(1), "{}", warned.text);
    let package = server.package().with(|package| package.manifest["type"] = json!("user"));
    let refused = server.client.post(&path, &server.operator, &package.json()).await;
    refused.refused(422, "UNPROCESSABLE_ENTITY");
    assert!(server.client.all(EXTENSIONS, &server.operator).await.is_empty());
}

async fn secrets_are_neither_shown_nor_stored_in_the_clear(backend: Backend) {
    let server = start(backend).await;
    let secrets = [MANIFEST_SECRET, "older-client-secret-7251", "third-party-secret-9914"];
    let package = server.package().with(|package| {
        package.manifest["deskOauth"] = json!({
            "clientId": "a", "name": "b", "clientSecret": secrets[1],
        });
        package.manifest["TPAOauth"] = json!([{
            "name": "c", "clientId": "d", "clientSecret": secrets[2],
            "authoriseUrl": "https://third.example/a", "tokenUrl": "https://third.example/t",
        }]);
    });
    let mut shown = server.publish(&package).await.expect(201).text;
    let key = server.client.get(&format!("{EXTENSIONS}/ticket-mirror"), &server.operator).await;
    shown += &key.expect(200).text;
    let path = format!("{EXTENSIONS}/ticket-mirror/versions/1.0.0");
    let version = server.client.get(&path, &server.operator).await.expect(200);
    let marker = json!({ "$sealed": true });
    for place in ["/secret", "/deskOauth/clientSecret", "/TPAOauth/0/clientSecret"] {
        assert_eq!(version.json["manifest"].pointer(place), Some(&marker), "{place}");
    }
    shown += &version.text;
    shown += &server.client.get(EXTENSIONS, &server.operator).await.expect(200).text;
    // A refusal does not repeat them either.
    let other = package.clone().with(|package| package.manifest["secret"] = json!("other"));
    shown += &server.publish(&other).await.expect(409).text;
    let broken = package.clone().with(|package| package.manifest["type"] = json!("user"));
    shown += &server.publish(&broken).await.expect(422).text;

    let path = format!("{EXTENSIONS}/ticket-mirror/signing-secret");
    let signing = server.client.get(&path, &server.operator).await.expect(200).text_of("secret");
    let dump = server.dump().await;
    for secret in secrets {
        assert_absent(&shown, secret);
        assert_absent(&dump, secret);
    }
    assert_absent(&dump, &signing);
    assert_absent(&dump, &signing["whsec_".len()..]);
    assert_absent(&dump, &server.operator);
    let raw = server.stop().await.raw();
    for secret in secrets.into_iter().chain([signing.as_str()]) {
        let found = raw.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "a secret is in the file");
    }
}

async fn a_vendor_has_its_own_extensions_only(backend: Backend) {
    let server = start(backend).await;
    let (acme, other) = (server.vendor_token("acme").await, server.vendor_token("other").await);
    let package = server.package();
    let refused = server.client.post(EXTENSIONS, &other, &package.json()).await;
    refused.refused(403, "FORBIDDEN");
    server.client.post(EXTENSIONS, &acme, &package.json()).await.expect(201);
    // The key belongs to the vendor that published it first, whoever publishes for another.
    let taken = package.clone().vendor("other").version("2.0.0");
    server.client.post(EXTENSIONS, &other, &taken.json()).await.refused(409, "CONFLICT");
    server.publish(&taken).await.refused(409, "CONFLICT");

    assert_eq!(server.client.all(EXTENSIONS, &acme).await.len(), 1);
    assert!(server.client.all(EXTENSIONS, &other).await.is_empty());
    let one = format!("{EXTENSIONS}/ticket-mirror");
    for path in [one.clone(), format!("{one}/versions/1.0.0"), format!("{one}/signing-secret")] {
        server.client.get(&path, &acme).await.expect(200);
        server.client.get(&path, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    for path in [format!("{one}/versions/1.0.0/withdraw"), format!("{one}/signing-secret/rotate")] {
        let refused = server.client.post(&path, &other, &json!({})).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    for path in [format!("{one}/suspend"), format!("{one}/resume")] {
        server.client.post(&path, &other, &json!({})).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    // What the refused calls asked for did not happen.
    let seen = server.client.get(&one, &server.operator).await.expect(200);
    assert_eq!(seen.json["vendor"], "acme");
    assert_eq!(seen.json["suspended"], false);
    assert_eq!(seen.json["versions"][0]["withdrawnTime"], Value::Null);
    server.stop().await.audit_holds(&[]).await;
}

async fn lists_go_page_by_page(backend: Backend) {
    let server = start(backend).await;
    let empty = server.client.get(EXTENSIONS, &server.operator).await.expect(200);
    assert_eq!(empty.json, json!({ "data": [], "nextCursor": null }));
    for index in 0..5 {
        let package = server.package().key(&format!("extension-{index}"));
        server.publish(&package).await.expect(201);
    }
    let rows = server.client.all(&format!("{EXTENSIONS}?limit=2"), &server.operator).await;
    let keys: Vec<&str> = rows.iter().filter_map(|row| row["key"].as_str()).collect();
    assert_eq!(keys, ["extension-0", "extension-1", "extension-2", "extension-3", "extension-4"]);
    let page = format!("{EXTENSIONS}?limit=5");
    let page = server.client.get(&page, &server.operator).await.expect(200);
    assert_eq!((page.data().len(), &page.json["nextCursor"]), (5, &Value::Null));
    for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "colour=red", "limit=1&limit=2"] {
        let path = format!("{EXTENSIONS}?{query}");
        server.client.get(&path, &server.operator).await.refused(422, "INVALID_DATA");
    }
}

async fn the_newest_stable_version_is_installed(backend: Backend) {
    let server = start(backend).await;
    for version in ["1.9.0", "1.10.0", "2.0.0-beta.1", "1.2.0"] {
        server.publish(&server.package().version(version)).await.expect(201);
    }
    let version_of = async |org: &str| {
        let installed = server.install("ticket-mirror", org).await;
        server.installation(&installed.id).await["version"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(version_of("1").await, "1.10.0");
    let withdraw =
        |version: &str| format!("{EXTENSIONS}/ticket-mirror/versions/{version}/withdraw");
    let operator = &server.operator;
    for _ in 0..2 {
        server.client.post(&withdraw("1.10.0"), operator, &json!({})).await.expect(200);
    }
    server.client.post(&withdraw("7.0.0"), operator, &json!({})).await.expect(404);
    assert_eq!(version_of("2").await, "1.9.0");
    // The one that was installed before goes on, and answers as it did.
    let again = json!({ "extensionKey": "ticket-mirror", "orgId": "1" });
    server.callback("install", &again).await.expect(200);
    let withdrawn = json!({ "extensionKey": "ticket-mirror", "orgId": "3", "version": "1.10.0" });
    server.callback("install", &withdrawn).await.refused(409, "STATE_CONFLICT");
    // A version that is not stable is installed where it is named.
    let named = json!({ "extensionKey": "ticket-mirror", "orgId": "3", "version": "2.0.0-beta.1" });
    let installed = server.install_with(named).await;
    assert_eq!(server.installation(&installed.id).await["version"], "2.0.0-beta.1");
    let unknown = json!({ "extensionKey": "ticket-mirror", "orgId": "4", "version": "9.9.9" });
    server.callback("install", &unknown).await.refused(404, "RESOURCE_NOT_FOUND");
    for version in ["1.9.0", "1.2.0"] {
        server.client.post(&withdraw(version), operator, &json!({})).await.expect(200);
    }
    let nothing = json!({ "extensionKey": "ticket-mirror", "orgId": "4" });
    server.callback("install", &nothing).await.refused(409, "STATE_CONFLICT");
    let seen = server.client.get(&format!("{EXTENSIONS}/ticket-mirror"), operator).await;
    let withdrawn = seen.expect(200).json["versions"].as_array().map_or(0, |versions| {
        versions.iter().filter(|version| version["withdrawnTime"].is_string()).count()
    });
    assert_eq!(withdrawn, 3);
}

async fn the_kill_switch_holds_all_orgs_and_lets_go(backend: Backend) {
    let server = start(backend).await;
    let first = server.active("1").await;
    let second = server.active("2").await;
    let waiting = server.install("ticket-mirror", "3").await;
    let gone = server.active("4").await;
    server.callback("uninstall", &json!({ "installationId": gone.id })).await.expect(200);

    let suspend = format!("{EXTENSIONS}/ticket-mirror/suspend");
    let resume = format!("{EXTENSIONS}/ticket-mirror/resume");
    let reason = json!({ "reason": "It sends too much." });
    let off = server.client.post(&suspend, &server.operator, &reason).await.expect(200);
    assert_eq!(off.json["suspended"], true);
    assert_eq!(off.json["installations"], 3, "{}", off.text);
    let again = server.client.post(&suspend, &server.operator, &reason).await.expect(200);
    assert_eq!(again.json["installations"], 0);
    for installation in [&first, &second] {
        let seen = server.installation(&installation.id).await;
        assert_eq!(seen["state"], "suspended");
        assert_eq!(seen["suspendedBy"], json!(["operator"]));
    }
    assert_eq!(server.installation(&gone.id).await["state"], "uninstalled");
    let new = json!({ "extensionKey": "ticket-mirror", "orgId": "5" });
    server.callback("install", &new).await.refused(409, "EXTENSION_SUSPENDED");
    // One that waits can be authorised; it is held all the same.
    let answer = server.consent(&waiting.authorization_url).await;
    let held = server.authorize(&waiting.id, &answer).await.expect(200);
    assert_eq!(held.json["state"], "suspended", "{}", held.text);
    let list = "/api/v1/installations?extensionKey=ticket-mirror&state=suspended";
    assert_eq!(server.client.all(list, &server.operator).await.len(), 3);

    let on = server.client.post(&resume, &server.operator, &json!({})).await.expect(200);
    assert_eq!(on.json["suspended"], false);
    assert_eq!(on.json["installations"], 3, "{}", on.text);
    for installation in [&first, &second, &waiting] {
        assert_eq!(server.installation(&installation.id).await["state"], "active");
    }
    assert_eq!(server.installation(&gone.id).await["state"], "uninstalled");
    let path = format!("{EXTENSIONS}/nobody/suspend");
    server.client.post(&path, &server.operator, &json!({})).await.expect(404);
    let long = json!({ "reason": "x".repeat(501) });
    server.client.post(&suspend, &server.operator, &long).await.refused(422, "INVALID_DATA");
    server.stop().await.audit_holds(&["1", "2", "3", "4"]).await;
}

async fn signing_secrets_are_rotated(backend: Backend) {
    let server = start(backend).await;
    server.publish(&server.package()).await.expect(201);
    let path = format!("{EXTENSIONS}/ticket-mirror/signing-secret");
    let acme = server.vendor_token("acme").await;
    let first = server.client.get(&path, &acme).await.expect(200);
    assert!(first.text_of("secret").starts_with("whsec_"));
    assert_eq!(first.json["expiring"], json!([]));

    let rotate = format!("{path}/rotate");
    let second = server.client.post(&rotate, &acme, &json!({ "overlapSeconds": 600 })).await;
    let second = second.expect(200);
    assert_ne!(second.json["secret"], first.json["secret"]);
    assert_eq!(second.json["expiring"].as_array().map(Vec::len), Some(1), "{}", second.text);
    let seen = server.client.get(&path, &acme).await.expect(200);
    assert_eq!(seen.json, second.json);
    server.advance(std::time::Duration::from_secs(601));
    let seen = server.client.get(&path, &acme).await.expect(200);
    assert_eq!(seen.json, json!({ "secret": second.json["secret"], "expiring": [] }));
    let third = server.client.post(&rotate, &acme, &json!({ "overlapSeconds": 0 })).await;
    assert_eq!(third.expect(200).json["expiring"], json!([]));
    let long = json!({ "overlapSeconds": 2_592_001 });
    server.client.post(&rotate, &acme, &long).await.refused(422, "INVALID_DATA");
    let day = server.client.post(&rotate, &acme, &json!({})).await.expect(200);
    assert_eq!(day.json["expiring"].as_array().map(Vec::len), Some(1), "{}", day.text);
    // Nobody but the vendor and the operator reads it.
    let marketplace = server.marketplace().await;
    server.client.get(&path, &marketplace).await.refused(403, "FORBIDDEN");
    let admin = server.admin(ORG).await;
    server.client.get(&path, &admin).await.refused(403, "FORBIDDEN");
}
