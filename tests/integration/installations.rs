//! Installing, configuring and uninstalling, the generations of installations, and what is read.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, ORG, TestServer, assert_absent, eventually};

on_both!(
    the_same_request_is_answered_again_and_another_is_refused,
    nothing_to_authorise_is_active_at_once,
    installs_at_the_same_moment_make_one_installation,
    bad_requests_leave_nothing,
    a_waiting_installation_is_uninstalled,
    uninstalling_removes_the_webhook_and_is_the_same_again,
    uninstalling_leaves_nothing_of_the_secrets,
    cleaning_up_outlasts_a_provider_that_fails,
    tokens_of_a_refused_consent_are_cleaned_up_too,
    a_reinstall_is_another_installation,
    late_calls_change_nothing_of_the_successor,
    departments_are_configured,
    parameters_are_configured_and_secure_ones_hidden,
    the_history_tells_every_step,
    lists_are_filtered_and_paged,
    the_journal_tells_the_vendor_everything,
);

const INSTALLATIONS: &str = "/api/v1/installations";

async fn start(backend: Backend) -> TestServer {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server
}

fn of(org: &str) -> Value {
    json!({ "extensionKey": "ticket-mirror", "orgId": org })
}

async fn the_same_request_is_answered_again_and_another_is_refused(backend: Backend) {
    let server = start(backend).await;
    let request = json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "version": "1.0.0", "installedBy": "42",
        "departmentIds": ["1", "2"], "config": { "mirrorHost": "a.example" },
    });
    let first = server.install_with(request.clone()).await;
    assert_eq!(first.generation, 1);
    let again = server.callback("install", &request).await.expect(200);
    assert_eq!(again.json["installationId"], first.id.as_str());
    assert_eq!(again.json["generation"], 1);
    assert_eq!(again.json["state"], "pendingAuthorization");
    assert_ne!(again.text_of("authorizationUrl"), first.authorization_url);
    assert_ne!(again.text_of("startUrl"), first.start_url);
    // Who installs is not part of what makes two requests the same.
    let mut by_another = request.clone();
    by_another["installedBy"] = json!("43");
    server.callback("install", &by_another).await.expect(200);

    let refuse = async || {
        for (member, value) in [
            ("departmentIds", json!(["1"])),
            ("departmentIds", json!(["2", "1"])),
            ("departmentIds", Value::Null),
            ("config", json!({ "mirrorHost": "b.example" })),
            ("version", Value::Null),
        ] {
            let mut other = request.clone();
            if value.is_null() {
                other.as_object_mut().expect("it is there").remove(member);
            } else {
                other[member] = value;
            }
            let refused = server.callback("install", &other).await.refused(409, "STATE_CONFLICT");
            assert_eq!(refused.json["installationId"], first.id.as_str(), "{}", refused.text);
        }
    };
    refuse().await;
    let answer = server.consent(&again.text_of("authorizationUrl")).await;
    server.authorize(&first.id, &answer).await.expect(200);
    let active = server.callback("install", &request).await.expect(200);
    assert_eq!(active.json["state"], "active");
    assert_eq!(active.json["authorizationUrl"], Value::Null);
    assert_eq!(active.json["startUrl"], Value::Null);
    refuse().await;
    let seen = server.installation(&first.id).await;
    assert_eq!(seen["installedBy"], "42");
    assert_eq!(seen["departmentIds"], json!(["1", "2"]));
    assert_eq!(seen["config"], json!({ "mirrorHost": "a.example" }));
    assert_eq!(server.client.all(INSTALLATIONS, &server.operator).await.len(), 1);
}

async fn nothing_to_authorise_is_active_at_once(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package().without_authorization()).await.expect(201);
    let installed = server.callback("install", &of(ORG)).await.expect(201);
    assert_eq!(installed.json["state"], "active");
    assert_eq!(installed.json["authorizationUrl"], Value::Null);
    let id = installed.text_of("installationId");
    let seen = server.installation(&id).await;
    assert_eq!(seen["connection"]["health"], "none");
    assert_eq!(seen["requiredScopes"], json!([]));
    let body = json!({ "installationId": id, "code": "a", "state": "b" });
    server.callback("authorize", &body).await.refused(422, "INVALID_STATE");
    let ended = server.callback("uninstall", &json!({ "installationId": id })).await.expect(200);
    assert_eq!(ended.json["removedWebhooks"], 0);
    assert_eq!(server.installation(&id).await["cleanup"], "done");
}

async fn installs_at_the_same_moment_make_one_installation(backend: Backend) {
    let server = start(backend).await;
    let request = of(ORG);
    let calls = (0..8).map(|_| server.callback("install", &request));
    let answers = futures_util::future::join_all(calls).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| [200, 201].contains(&answer.status)));
    let id = answers[0].text_of("installationId");
    assert!(answers.iter().all(|answer| answer.json["installationId"] == id.as_str()));
    assert!(answers.iter().all(|answer| answer.json["generation"] == 1));
    // Uninstalled by many at once, it is uninstalled once.
    let request = json!({ "installationId": id });
    let calls = (0..8).map(|_| server.callback("uninstall", &request));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect(200).json["state"], "uninstalled");
    }
    let path = format!("{INSTALLATIONS}/{id}/history");
    assert_eq!(server.client.all(&path, &server.operator).await.len(), 2);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn bad_requests_leave_nothing(backend: Backend) {
    let server = start(backend).await;
    let unknown = json!({ "extensionKey": "nobody", "orgId": ORG });
    server.callback("install", &unknown).await.refused(404, "RESOURCE_NOT_FOUND");
    for (member, value) in [
        ("orgId", json!("")),
        ("orgId", json!("a\nb")),
        ("orgId", json!("x".repeat(65))),
        ("orgId", json!(7)),
        ("extensionKey", json!("No Key")),
        ("version", json!(1)),
        ("installedBy", json!("")),
        ("installedBy", json!("x".repeat(65))),
        ("departmentIds", json!([])),
        ("departmentIds", json!([""])),
        ("departmentIds", json!("1")),
        ("departmentIds", json!(vec!["1"; 1_001])),
        ("config", json!([])),
        ("config", json!({ "mirrorhost": "a" })),
        ("config", json!({ "mirrorHost": 7 })),
        ("config", json!({ "mirrorHost": "x".repeat(8_193) })),
        ("colour", json!("red")),
    ] {
        let mut request = of(ORG);
        request[member] = value;
        let refused = server.callback("install", &request).await.refused(422, "INVALID_DATA");
        let field = refused.json["errors"][0]["fieldName"].as_str().unwrap_or_default().to_owned();
        assert!(field.starts_with(&format!("/{member}")), "{member}: {}", refused.text);
    }
    let near =
        json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "config": { "mirrorhost": "a" } });
    let refused = server.callback("install", &near).await.expect(422);
    assert!(refused.text.contains("mirrorHost"), "the nearest name is said: {}", refused.text);
    for body in [
        json!({}),
        json!({ "extensionKey": "ticket-mirror" }),
        json!({ "orgId": ORG }),
        json!({ "installationId": "no-id" }),
    ] {
        server.callback("uninstall", &body).await.refused(422, "INVALID_DATA");
        server.callback("configure", &body).await.refused(422, "INVALID_DATA");
        server.callback("authorize", &body).await.refused(422, "INVALID_DATA");
    }
    let both = json!({
        "extensionKey": "ticket-mirror", "orgId": ORG,
        "installationId": "01890000-0000-7000-8000-000000000000",
    });
    server.callback("uninstall", &both).await.refused(422, "INVALID_DATA");
    let nobody = json!({ "installationId": "01890000-0000-7000-8000-000000000000" });
    server.callback("uninstall", &nobody).await.refused(404, "RESOURCE_NOT_FOUND");
    server.callback("configure", &nobody).await.refused(404, "RESOURCE_NOT_FOUND");
    server.callback("uninstall", &of(ORG)).await.refused(404, "RESOURCE_NOT_FOUND");

    assert!(server.client.all(INSTALLATIONS, &server.operator).await.is_empty());
    for table in ["installations", "transitions", "endpoints", "authorization_requests"] {
        let rows = server.texts(&format!("select 'x' from {table}")).await;
        assert!(rows.is_empty(), "{table}");
    }
    assert_eq!(
        server.install("ticket-mirror", ORG).await.generation,
        1,
        "no generation is used up"
    );
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_waiting_installation_is_uninstalled(backend: Backend) {
    let server = start(backend).await;
    let waiting = server.install("ticket-mirror", ORG).await;
    let answer = server.consent(&waiting.authorization_url).await;
    let ended = server.callback("uninstall", &of(ORG)).await.expect(200);
    assert_eq!(ended.json["installationId"], waiting.id.as_str());
    assert_eq!(ended.json["state"], "uninstalled");
    assert_eq!(ended.json["removedWebhooks"], 0);
    server.authorize(&waiting.id, &answer).await.refused(422, "INVALID_STATE");
    let page = server
        .client
        .get(waiting.start_url.strip_prefix(&server.client.url("")).expect("our address"), "");
    page.await.expect(410);
    let seen = server.installation(&waiting.id).await;
    assert_eq!(seen["state"], "uninstalled");
    assert_eq!(seen["cleanup"], "done");
    assert!(seen["uninstalledTime"].is_string());
    assert_eq!(seen["authorizedTime"], Value::Null);
    assert!(server.texts("select 'x' from authorization_requests").await.is_empty());
    assert_eq!(server.provider.token_requests(), 0);
}

async fn uninstalling_removes_the_webhook_and_is_the_same_again(backend: Backend) {
    let server = start(backend).await;
    let active = server.active(ORG).await;
    let other = server.active("2").await;
    let webhook = server.webhooks(ORG).await[0]["id"].as_str().expect("an id").to_owned();
    let body = json!({ "installationId": active.id, "reason": "Too dear." });
    let first = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(first.json["state"], "uninstalled");
    assert_eq!(first.json["removedWebhooks"], 1);
    assert_eq!(first.json["generation"], 1);
    assert!(server.webhooks(ORG).await.is_empty());
    let path = format!("/api/v1/webhooks/{webhook}");
    server.client.get(&path, &server.operator).await.refused(404, "RESOURCE_NOT_FOUND");

    let again = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(again.json, first.json);
    let by_name = server.callback("uninstall", &of(ORG)).await.expect(200);
    assert_eq!(by_name.json, first.json);
    let seen = server.installation(&active.id).await;
    assert_eq!(seen["state"], "uninstalled");
    assert_eq!(seen["webhooks"], json!([]));
    let configure = json!({ "installationId": active.id, "departmentIds": ["1"] });
    server.callback("configure", &configure).await.refused(409, "STATE_CONFLICT");
    let long = json!({ "installationId": other.id, "reason": "x".repeat(501) });
    server.callback("uninstall", &long).await.refused(422, "INVALID_DATA");
    // Another org's is untouched.
    assert_eq!(server.installation(&other.id).await["state"], "active");
    assert_eq!(server.webhooks("2").await.len(), 1);
    server.stop().await.audit_holds(&[ORG, "2"]).await;
}

async fn uninstalling_leaves_nothing_of_the_secrets(backend: Backend) {
    let server = start(backend).await;
    let secret = "parameter-that-only-the-vendor-may-know";
    let request = json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "config": { "mirrorToken": secret },
    });
    let installed = server.install_with(request).await;
    let answer = server.consent(&installed.authorization_url).await;
    server.authorize(&installed.id, &answer).await.expect(200);
    let tokens = server.provider.live_tokens();
    assert_eq!(tokens.len(), 2);
    assert_eq!(server.texts("select 'x' from connections").await.len(), 1);
    let sealed = "select 'x' from installations where sealed_config is not null";
    assert_eq!(server.texts(sealed).await.len(), 1);

    let body = json!({ "installationId": installed.id });
    server.callback("uninstall", &body).await.expect(200);
    assert!(server.texts("select 'x' from connections").await.is_empty());
    assert!(server.texts(sealed).await.is_empty());
    eventually("the tokens are revoked at the provider", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    eventually("the clean-up is done", || async {
        (server.installation(&installed.id).await["cleanup"] == "done").then_some(())
    })
    .await;
    assert!(server.texts("select 'x' from revocations").await.is_empty());
    assert!(server.texts("select 'x' from webhooks").await.is_empty());
    let dump = server.dump().await;
    let place = server.stop().await;
    let raw = place.raw();
    let code = answer.code.expect("a code");
    let state = answer.state.expect("a state");
    let secrets = tokens.iter().map(|token| token.token.as_str());
    for secret in secrets.chain([secret, &code, &state]) {
        assert_absent(&dump, secret);
        let found = raw.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "a secret of {} bytes is in the file", secret.len());
    }
    place.audit_holds(&[ORG]).await;
}

async fn cleaning_up_outlasts_a_provider_that_fails(backend: Backend) {
    let server = start(backend).await;
    let active = server.active(ORG).await;
    server.provider.conduct(|conduct| conduct.revocation_failures.extend([503, 500, 503, 503]));
    let body = json!({ "installationId": active.id });
    let ended = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(ended.json["state"], "uninstalled");
    eventually("both tokens were tried", || async {
        (server.provider.revocation_requests() >= 2).then_some(())
    })
    .await;
    let seen = server.installation(&active.id).await;
    assert_eq!((&seen["state"], &seen["cleanup"]), (&json!("uninstalled"), &json!("pending")));
    assert_eq!(server.provider.live_tokens().len(), 2);
    // A successor does not wait for that.
    let second = server.active(ORG).await;
    eventually("the clean-up is done", || async {
        server.advance(Duration::from_secs(10));
        (server.installation(&active.id).await["cleanup"] == "done").then_some(())
    })
    .await;
    assert_eq!(server.provider.live_tokens().len(), 2, "those of the successor");
    assert_eq!(server.provider.revocation_requests(), 6);
    assert_eq!(server.installation(&second.id).await["state"], "active");
}

async fn tokens_of_a_refused_consent_are_cleaned_up_too(backend: Backend) {
    let server = start(backend).await;
    let waiting = server.install("ticket-mirror", ORG).await;
    server.provider.conduct(|conduct| {
        conduct.grant_only = Some(vec!["Desk.tickets.READ".to_owned()]);
        conduct.revocation_failures.extend([503, 503]);
    });
    let answer = server.consent(&waiting.authorization_url).await;
    server.authorize(&waiting.id, &answer).await.refused(422, "UNPROCESSABLE_ENTITY");
    eventually("both tokens were tried", || async {
        (server.provider.revocation_requests() >= 2).then_some(())
    })
    .await;
    let body = json!({ "installationId": waiting.id });
    server.callback("uninstall", &body).await.expect(200);
    assert_eq!(server.installation(&waiting.id).await["cleanup"], "pending");
    eventually("the clean-up is done", || async {
        server.advance(Duration::from_secs(10));
        (server.installation(&waiting.id).await["cleanup"] == "done").then_some(())
    })
    .await;
    assert!(server.provider.live_tokens().is_empty());
}

async fn a_reinstall_is_another_installation(backend: Backend) {
    let server = start(backend).await;
    let first = server.active(ORG).await;
    let webhook = server.webhooks(ORG).await[0]["id"].clone();
    for generation in 2..=3 {
        server.callback("uninstall", &of(ORG)).await.expect(200);
        let next = server.active(ORG).await;
        assert_ne!(next.id, first.id);
        assert_eq!(next.generation, generation);
        let webhooks = server.webhooks(ORG).await;
        assert_eq!(webhooks.len(), 1);
        assert_ne!(webhooks[0]["id"], webhook);
    }
    // Another org counts for itself.
    assert_eq!(server.install("ticket-mirror", "2").await.generation, 1);
    let list = format!("{INSTALLATIONS}?orgId={ORG}");
    let rows = server.client.all(&list, &server.operator).await;
    let seen: Vec<_> = rows.iter().map(|row| (&row["generation"], &row["state"])).collect();
    let (uninstalled, active) = (json!("uninstalled"), json!("active"));
    assert_eq!(seen, [(&json!(1), &uninstalled), (&json!(2), &uninstalled), (&json!(3), &active)]);
}

async fn late_calls_change_nothing_of_the_successor(backend: Backend) {
    let server = start(backend).await;
    let old = server.install("ticket-mirror", ORG).await;
    let late = server.consent(&old.authorization_url).await;
    server.callback("uninstall", &of(ORG)).await.expect(200);
    let live = server.active(ORG).await;
    let before = {
        let mut seen = server.installation(&live.id).await;
        seen["vendorSetup"] = Value::Null;
        seen
    };
    // The old state is worth nothing, for either installation.
    server.authorize(&old.id, &late).await.refused(422, "INVALID_STATE");
    server.authorize(&live.id, &late).await.refused(422, "INVALID_STATE");

    // With a lower generation every callback answers with the old installation's state.
    let old_id = json!(old.id);
    let mut by_name = of(ORG);
    by_name["generation"] = json!(1);
    for body in [json!({ "installationId": old.id, "generation": 1 }), by_name.clone()] {
        let ended = server.callback("uninstall", &body).await.expect(200);
        assert_eq!(ended.json["installationId"], old_id, "{}", ended.text);
        assert_eq!(
            (&ended.json["state"], &ended.json["generation"]),
            (&json!("uninstalled"), &json!(1))
        );
    }
    let body = json!({
        "installationId": old.id, "generation": 1, "code": late.code, "state": late.state,
    });
    let answered = server.callback("authorize", &body).await.expect(200);
    assert_eq!(
        (&answered.json["state"], &answered.json["installationId"]),
        (&json!("uninstalled"), &old_id)
    );
    let body = json!({ "installationId": old.id, "generation": 1, "departmentIds": ["9"] });
    let answered = server.callback("configure", &body).await.expect(200);
    assert_eq!(
        (&answered.json["state"], &answered.json["installationId"]),
        (&json!("uninstalled"), &old_id)
    );
    assert_eq!(answered.json["departmentIds"], Value::Null);
    let answered = server.callback("install", &by_name).await.expect(200);
    assert_eq!(
        (&answered.json["state"], &answered.json["installationId"]),
        (&json!("uninstalled"), &old_id)
    );
    assert_eq!(answered.json["authorizationUrl"], Value::Null);

    // In the name of the live one, but with a lower generation: nothing changes either.
    let body = json!({ "installationId": live.id, "generation": 1, "departmentIds": ["9"] });
    server.callback("configure", &body).await.expect(200);
    let body = json!({ "installationId": live.id, "generation": 1 });
    server.callback("uninstall", &body).await.expect(200);

    let mut after = server.installation(&live.id).await;
    after["vendorSetup"] = Value::Null;
    assert_eq!(after, before);
    assert_eq!(server.webhooks(ORG).await.len(), 1);
    let path = format!("{INSTALLATIONS}/{}/history", old.id);
    assert_eq!(server.client.all(&path, &server.operator).await.len(), 2);
    // Its own generation is not late.
    let body = json!({ "installationId": live.id, "generation": 2 });
    let ended = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(ended.json["removedWebhooks"], 1);
}

async fn departments_are_configured(backend: Backend) {
    let server = start(backend).await;
    let active = server.active(ORG).await;
    let configure = async |departments: Value| {
        let body = json!({ "installationId": active.id, "departmentIds": departments });
        server.callback("configure", &body).await
    };
    let set = configure(json!(["11", "12"])).await.expect(200);
    assert_eq!(set.json["departmentIds"], json!(["11", "12"]));
    assert_eq!(set.json["state"], "active");
    // What is left out stays; null means all of them.
    let body = json!({ "installationId": active.id });
    let kept = server.callback("configure", &body).await.expect(200);
    assert_eq!(kept.json["departmentIds"], json!(["11", "12"]));
    for bad in [json!([]), json!([""]), json!("11"), json!([11])] {
        configure(bad).await.refused(422, "INVALID_DATA");
    }
    assert_eq!(server.installation(&active.id).await["departmentIds"], json!(["11", "12"]));
    let all = configure(Value::Null).await.expect(200);
    assert_eq!(all.json["departmentIds"], Value::Null);
    assert_eq!(server.webhooks(ORG).await.len(), 1, "the webhook stays what it is");
}

fn with_parameters(package: Package) -> Package {
    package.with(|package| {
        package.manifest["config"] = json!([
            { "name": "host", "displayName": "Host", "userdefined": true,
              "type": "text", "mandatory": true, "secure": false },
            { "name": "token", "displayName": "Token", "userdefined": true,
              "type": "text", "mandatory": false, "secure": true },
            { "name": "mode", "displayName": "Mode", "userdefined": true, "type": "picklist",
              "mandatory": false, "secure": false, "options": ["all", "open"] },
        ]);
    })
}

async fn parameters_are_configured_and_secure_ones_hidden(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&with_parameters(server.package())).await.expect(201);
    let refused = server.callback("install", &of(ORG)).await.refused(422, "INVALID_DATA");
    assert!(refused.text.contains("host is mandatory"), "{}", refused.text);
    let mut request = of(ORG);
    request["config"] = json!({ "host": "a.example", "mode": "some" });
    server.callback("install", &request).await.refused(422, "INVALID_DATA");

    let first = "secure-parameter-of-the-install";
    let second = "secure-parameter-of-configure";
    request["config"] = json!({ "host": "a.example", "token": first, "mode": "all" });
    let installed = server.install_with(request).await;
    let answer = server.consent(&installed.authorization_url).await;
    let active = server.authorize(&installed.id, &answer).await.expect(200);
    assert_eq!(active.json["config"], json!({ "host": "a.example", "mode": "all" }));
    let configure = async |config: Value| {
        let body = json!({ "installationId": installed.id, "config": config });
        server.callback("configure", &body).await
    };
    let seen = configure(json!({ "mode": null, "token": second })).await.expect(200);
    assert_eq!(seen.json["config"], json!({ "host": "a.example" }));
    for bad in [
        json!({ "host": null }),
        json!({ "host": ["a"] }),
        json!({ "mode": "some" }),
        json!({ "colour": "red" }),
        json!({ "host": "b.example", "mode": 7 }),
    ] {
        configure(bad).await.refused(422, "INVALID_DATA");
    }
    let path = format!("{INSTALLATIONS}/{}", installed.id);
    let seen = server.client.get(&path, &server.operator).await.expect(200);
    assert_eq!(seen.json["config"], json!({ "host": "a.example" }), "all or nothing");
    let list = server.client.get(INSTALLATIONS, &server.operator).await.expect(200);
    let history = format!("{INSTALLATIONS}/{}/history", installed.id);
    let history = server.client.get(&history, &server.operator).await.expect(200);
    let dump = server.dump().await;
    for secret in [first, second] {
        for text in [&active.text, &seen.text, &list.text, &history.text, &dump] {
            assert_absent(text, secret);
        }
    }
    let cleared = configure(json!({ "token": null })).await.expect(200);
    assert_eq!(cleared.json["config"], json!({ "host": "a.example" }));
    let sealed = "select 'x' from installations where sealed_config is not null";
    assert!(server.texts(sealed).await.is_empty(), "nothing secure is left");
}

async fn the_history_tells_every_step(backend: Backend) {
    let server = start(backend).await;
    let marketplace = server.marketplace().await;
    let active = server.active(ORG).await;
    let body = json!({ "installationId": active.id, "departmentIds": ["1"] });
    server.client.post("/api/v1/callbacks/configure", &marketplace, &body).await.expect(200);
    let body = json!({ "installationId": active.id, "reason": "Not needed any more." });
    server.client.post("/api/v1/callbacks/uninstall", &marketplace, &body).await.expect(200);
    server.callback("uninstall", &body).await.expect(200);

    let path = format!("{INSTALLATIONS}/{}/history", active.id);
    let rows = server.client.all(&format!("{path}?limit=1"), &server.operator).await;
    let steps: Vec<_> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            assert_eq!(row["generation"], 1);
            assert!(row["at"].is_string());
            assert_eq!(row["address"], "127.0.0.1");
            (text("command"), text("from"), text("to"), text("reason"))
        })
        .collect();
    let step = |command: &str, from: &str, to: &str, reason: &str| {
        (command.to_owned(), from.to_owned(), to.to_owned(), reason.to_owned())
    };
    assert_eq!(
        steps,
        [
            step("install", "-", "pendingAuthorization", "-"),
            step("authorize", "pendingAuthorization", "active", "-"),
            step("configure", "active", "active", "-"),
            step("uninstall", "active", "uninstalled", "Not needed any more."),
        ]
    );
    let actor = |index: usize| rows[index]["actor"].as_str().unwrap_or_default();
    assert!(actor(0).starts_with("operator:"), "{}", actor(0));
    assert!(actor(3).starts_with("marketplace:"), "{}", actor(3));
    let nobody = format!("{INSTALLATIONS}/01890000-0000-7000-8000-000000000000");
    server.client.get(&nobody, &server.operator).await.expect(404);
    server.client.get(&format!("{nobody}/history"), &server.operator).await.expect(404);
    server.client.get(&format!("{INSTALLATIONS}/no-id"), &server.operator).await.expect(404);

    let audit = "select action from audit where subject like 'installation:%' order by sequence";
    assert_eq!(
        server.texts(audit).await,
        [
            "installation.install",
            "installation.authorize",
            "installation.configure",
            "installation.uninstall"
        ]
    );
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn lists_are_filtered_and_paged(backend: Backend) {
    let server = start(backend).await;
    server.publish(&server.package().key("other")).await.expect(201);
    for org in ["1", "2", "3"] {
        server.install("ticket-mirror", org).await;
    }
    server.active_package(&server.package().key("other"), "1").await;
    server.callback("uninstall", &of("3")).await.expect(200);
    let count = async |query: &str| {
        let path = format!("{INSTALLATIONS}?{query}");
        server.client.all(&path, &server.operator).await.len()
    };
    assert_eq!(count("limit=1").await, 4);
    assert_eq!(count("orgId=1").await, 2);
    assert_eq!(count("extensionKey=other").await, 1);
    assert_eq!(count("orgId=1&extensionKey=other").await, 1);
    assert_eq!(count("state=pendingAuthorization").await, 2);
    assert_eq!(count("state=active").await, 1);
    assert_eq!(count("state=suspended").await, 0);
    assert_eq!(count("state=uninstalled").await, 1);
    assert_eq!(count("orgId=nobody").await, 0);
    assert_eq!(count("since=2000-01-01T00:00:00Z").await, 4);
    assert_eq!(count("since=2999-01-01T00:00:00Z").await, 0);
    assert_eq!(count("since=0").await, 4);
    for query in ["state=gone", "since=yesterday", "limit=0", "cursor=abc", "colour=red"] {
        let path = format!("{INSTALLATIONS}?{query}");
        server.client.get(&path, &server.operator).await.refused(422, "INVALID_DATA");
    }
    // Each sees its own.
    let admin = server.admin("1").await;
    assert_eq!(server.client.all(INSTALLATIONS, &admin).await.len(), 2);
    let viewer = server.viewer("2").await;
    assert_eq!(server.client.all(INSTALLATIONS, &viewer).await.len(), 1);
    let vendor = server.vendor_token("acme").await;
    assert_eq!(server.client.all(INSTALLATIONS, &vendor).await.len(), 4);
    let other = server.vendor_token("nobody").await;
    assert!(server.client.all(INSTALLATIONS, &other).await.is_empty());
    let foreign = format!("{INSTALLATIONS}?orgId=2");
    assert!(server.client.all(&foreign, &admin).await.is_empty());
}

async fn the_journal_tells_the_vendor_everything(backend: Backend) {
    let server = start(backend).await;
    let active = server.active(ORG).await;
    server.callback("uninstall", &of(ORG)).await.expect(200);
    let acme = server.vendor_token("acme").await;
    let rows = server.client.all("/api/v1/journal?limit=2", &acme).await;
    let events: Vec<&str> =
        rows.iter().filter_map(|row| row["callback"]["event"].as_str()).collect();
    assert_eq!(events, ["onInstall", "onZohoAuthorise", "onUninstall"], "{rows:?}");
    for (index, row) in rows.iter().enumerate() {
        let callback = &row["callback"];
        assert_eq!(callback["installationId"], active.id.as_str());
        assert_eq!(callback["sequence"], index + 1);
        assert_eq!(callback["generation"], 1);
    }
    let other = server.vendor_token("other").await;
    assert!(server.client.all("/api/v1/journal", &other).await.is_empty());
    assert_eq!(server.client.all("/api/v1/journal", &server.operator).await.len(), 3);
    let later = "/api/v1/journal?since=2999-01-01T00:00:00Z";
    assert!(server.client.all(later, &acme).await.is_empty());
}
