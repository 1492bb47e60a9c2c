//! Authorising: by the marketplace's callback and by the browser, and every way in which it fails.

use std::time::Duration;

use mortise::development::{Browser, Decision, Page, ProviderAnswer};
use serde_json::{Value, json};
use url::Url;

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::server::{
    Backend, Installation, ORG, RETURN_ORIGIN, TestServer, assert_absent, eventually,
};

on_both!(
    the_callback_activates,
    the_browser_activates_with_its_cookie,
    another_browser_hands_code_and_state_over,
    a_refusal_changes_nothing_and_is_said_in_words,
    a_wrong_state_burns_nothing,
    a_state_expires,
    five_states_live_and_all_die_at_authorisation,
    missing_scopes_provision_nothing,
    a_missing_scope_member_means_as_asked,
    a_provider_that_fails_is_said_to,
    another_issuer_is_refused,
    an_uninstall_during_the_exchange_wins,
    a_return_address_must_be_known,
    a_service_must_be_configured,
);

async fn waiting(backend: Backend) -> (TestServer, Installation) {
    waiting_with(backend, json!({ "extensionKey": "ticket-mirror", "orgId": ORG })).await
}

async fn waiting_with(backend: Backend, request: Value) -> (TestServer, Installation) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let installation = server.install_with(request).await;
    (server, installation)
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("an address")
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Opens the one-time address and gives consent; the provider's answer is not followed.
async fn begin(browser: &mut Browser, start_url: &str) -> ProviderAnswer {
    let page = browser.open(&url(start_url)).await.expect("the start answers");
    assert_eq!(page.status, 303, "{}", page.body);
    let to = page.location.expect("it leads on");
    browser.consent(to.as_str(), Decision::Approve).await.expect("consent is given")
}

async fn open(browser: &mut Browser, address: &Url) -> Page {
    browser.open(address).await.expect("the server answers")
}

/// Nothing was provisioned and the installation waits.
async fn still_waits(server: &TestServer, id: &str) {
    let seen = server.installation(id).await;
    assert_eq!(seen["state"], "pendingAuthorization", "{seen}");
    assert_eq!(seen["webhooks"], json!([]));
    assert_eq!(seen["grantedScopes"], Value::Null);
    assert!(server.webhooks(ORG).await.is_empty());
    assert!(server.texts("select 'x' from connections").await.is_empty());
    let path = format!("/api/v1/installations/{id}/history");
    let history = server.client.all(&path, &server.operator).await;
    assert_eq!(history.len(), 1, "only the install is in the history");
}

async fn bring(server: &TestServer, id: &str, code: &str, state: &str) -> Answer {
    let body = json!({ "installationId": id, "code": code, "state": state });
    server.callback("authorize", &body).await
}

async fn the_callback_activates(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let asked = url(&installation.authorization_url);
    assert!(installation.authorization_url.starts_with(&server.provider.authorize_url()));
    let is = |name: &str, value: &str| assert_eq!(parameter(&asked, name).as_deref(), Some(value));
    is("client_id", server.provider.client_id());
    is("response_type", "code");
    is("redirect_uri", &server.client.url("/oauth/callback"));
    is("code_challenge_method", "S256");
    is("scope", "Desk.events.ALL,Desk.tickets.READ");
    assert_eq!(parameter(&asked, "code_challenge").map_or(0, |text| text.len()), 43);
    assert!(parameter(&asked, "state").is_some_and(|state| state.len() >= 43));
    still_waits(&server, &installation.id).await;

    let answer = server.consent(&installation.authorization_url).await;
    let active = server.authorize(&installation.id, &answer).await.expect(200);
    assert_eq!(active.json["state"], "active");
    assert_eq!(active.json["connection"], json!({ "health": "ok", "reason": null }));
    assert_eq!(active.json["grantedScopes"], json!(["Desk.events.ALL", "Desk.tickets.READ"]));
    let webhooks = active.json["webhooks"].as_array().expect("webhooks");
    assert_eq!(webhooks.len(), 1, "{}", active.text);
    let webhook = &webhooks[0];
    assert_eq!(webhook["type"], "EXTENSION_WEBHOOK");
    assert_eq!(webhook["locked"], true);
    assert_eq!(webhook["isEnabled"], true);
    assert_eq!(webhook["health"]["state"], "ok");
    assert_eq!(webhook["extension"]["installationId"], installation.id.as_str());
    assert_eq!(webhook["extension"]["uuId"], installation.id.as_str());
    assert_eq!(webhook["extension"]["extensionName"], "Ticket Mirror");
    assert_eq!(webhook["subscriptions"]["Ticket_Update"]["fields"], json!(["status"]));

    // What was granted is nowhere to be read, in no form.
    let dump = server.dump().await;
    let tokens = server.provider.issued_tokens();
    assert_eq!(tokens.len(), 2, "an access token and a refresh token");
    for token in &tokens {
        assert!(server.provider.is_live(&token.token));
        assert_absent(&dump, &token.token);
        assert_absent(&active.text, &token.token);
    }
    // The same answer again is a used state.
    server.authorize(&installation.id, &answer).await.refused(422, "INVALID_STATE");
    assert_eq!(server.webhooks(ORG).await.len(), 1);
    let place = server.stop().await;
    for token in tokens {
        let found =
            place.raw().windows(token.token.len()).any(|bytes| bytes == token.token.as_bytes());
        assert!(!found, "a token is in the file");
    }
}

async fn the_browser_activates_with_its_cookie(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let path = installation.start_url.strip_prefix(&server.client.url("")).expect("our address");
    assert!(path.starts_with("/oauth/start/"), "{path}");

    // Without a return address a page says it.
    let mut browser = Browser::new().expect("a browser");
    let page = browser.walk(&installation.start_url, Decision::Approve).await.expect("a page");
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("active"), "{}", page.body);
    assert_eq!(server.installation(&installation.id).await["state"], "active");
    let used = server.client.get(path, "").await.expect(410);
    assert!(used.text.contains("used or has expired"), "{}", used.text);
    server.client.get("/oauth/start/nonsense", "").await.expect(410);

    // With one the browser goes there.
    let request = json!({
        "extensionKey": "ticket-mirror", "orgId": "2",
        "returnUrl": format!("{RETURN_ORIGIN}/done?x=1"),
    });
    let second = server.install_with(request).await;
    let path = second.start_url.strip_prefix(&server.client.url("")).expect("our address");
    let begun = server.client.get(path, "").await.expect(303);
    let cookie = begun.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-mortise-oauth-"), "{cookie}");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert_eq!(begun.header("location"), second.authorization_url);
    assert_eq!(begun.header("cache-control"), "no-store");
    // That one-time address is used up; a fresh one is asked for by the same request.
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": "2" });
    let again = server.callback("install", &request).await.expect(200).text_of("startUrl");
    let mut browser = Browser::new().expect("a browser");
    let answer = begin(&mut browser, &again).await;
    let back = open(&mut browser, &answer.redirect).await;
    assert_eq!(back.status, 303, "{}", back.body);
    let to = back.location.expect("it leads on");
    assert!(to.as_str().starts_with(&format!("{RETURN_ORIGIN}/done?x=1&")), "{to}");
    assert_eq!(parameter(&to, "installationId").as_deref(), Some(second.id.as_str()));
    assert_eq!(parameter(&to, "state").as_deref(), Some("active"));
    assert_eq!(parameter(&to, "code"), None, "the code is used and goes nowhere");
    assert_eq!(server.installation(&second.id).await["state"], "active");
    // The browser's reload of the same address does no harm.
    let reload = open(&mut browser, &answer.redirect).await;
    assert_eq!(reload.status, 422, "{}", reload.body);
    assert_eq!(server.installation(&second.id).await["state"], "active");
}

async fn another_browser_hands_code_and_state_over(backend: Backend) {
    let request = json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "returnUrl": format!("{RETURN_ORIGIN}/back"),
    });
    let (server, installation) = waiting_with(backend, request).await;
    // A browser that began another authorisation is another browser too.
    let other = server.install("ticket-mirror", "2").await;
    let mut browser = Browser::new().expect("a browser");
    let others = begin(&mut browser, &other.start_url).await;
    let answer =
        browser.consent(&installation.authorization_url, Decision::Approve).await.expect("consent");
    let page = open(&mut browser, &answer.redirect).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let to = page.location.expect("it leads on");
    assert!(to.as_str().starts_with(&format!("{RETURN_ORIGIN}/back?")), "{to}");
    assert_eq!(parameter(&to, "code"), answer.code);
    assert_eq!(parameter(&to, "state"), answer.state);
    assert_eq!(parameter(&to, "iss").as_deref(), Some(server.provider.issuer()));
    still_waits(&server, &installation.id).await;
    server.authorize(&installation.id, &answer).await.expect(200);

    // Without a return address there is nowhere to go; the state is not used up by that.
    let mut stranger = Browser::new().expect("a browser");
    let page = open(&mut stranger, &others.redirect).await;
    assert_eq!(page.status, 400, "{}", page.body);
    assert_eq!(page.location, None);
    assert_eq!(server.installation(&other.id).await["state"], "pendingAuthorization");
    let page = open(&mut browser, &others.redirect).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(server.installation(&other.id).await["state"], "active");
}

async fn a_refusal_changes_nothing_and_is_said_in_words(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let mut browser = Browser::new().expect("a browser");
    let page = browser.walk(&installation.start_url, Decision::Deny).await.expect("a page");
    assert_eq!(page.status, 400, "{}", page.body);
    assert!(page.body.contains("declined"), "{}", page.body);
    still_waits(&server, &installation.id).await;

    let request = json!({
        "extensionKey": "ticket-mirror", "orgId": ORG, "returnUrl": format!("{RETURN_ORIGIN}/back"),
    });
    let again = server.callback("install", &request).await.expect(200);
    let mut browser = Browser::new().expect("a browser");
    let page = open(&mut browser, &url(&again.text_of("startUrl"))).await;
    let to = page.location.expect("it leads on");
    let refused = browser.consent(to.as_str(), Decision::Deny).await.expect("an answer");
    assert_eq!(refused.error.as_deref(), Some("access_denied"));
    let page = open(&mut browser, &refused.redirect).await;
    let to = page.location.expect("it leads on");
    assert!(to.as_str().starts_with(&format!("{RETURN_ORIGIN}/back?")), "{to}");
    assert_eq!(parameter(&to, "error").as_deref(), Some("access_denied"));
    still_waits(&server, &installation.id).await;

    // What comes without a sense is a page too, and nothing is repeated into it unescaped.
    for query in [
        "",
        "code=a",
        "state=b",
        "code=a&state=b",
        "error=<script>",
        "error=a&state=%00",
        "code=a&code=b&state=c",
    ] {
        let answer = server.client.get(&format!("/oauth/callback?{query}"), "").await;
        assert!((400..500).contains(&answer.status), "{query}: {} {}", answer.status, answer.text);
        assert!(!answer.text.contains("<script>"), "{}", answer.text);
    }
    let long = "x".repeat(5_000);
    server.client.get(&format!("/oauth/callback?code={long}&state=b"), "").await.expect(400);
    // After all that the consent can be given.
    let fresh = server.callback("install", &request).await.expect(200);
    let answer = server.consent(&fresh.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
}

async fn a_wrong_state_burns_nothing(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let other = server.install("ticket-mirror", "2").await;
    let right = server.consent(&installation.authorization_url).await;
    let others = server.consent(&other.authorization_url).await;
    let (code, state) =
        (right.code.clone().expect("it is there"), right.state.clone().expect("it is there"));
    for wrong in
        ["x", &state[1..], &format!("{state}x"), &others.state.clone().expect("it is there")]
    {
        bring(&server, &installation.id, &code, wrong).await.refused(422, "INVALID_STATE");
    }
    // The right state in the name of another installation.
    bring(&server, &other.id, &code, &state).await.refused(422, "INVALID_STATE");
    for (code, state) in [("", state.as_str()), (&code, ""), (&"c".repeat(4_097), &state)] {
        bring(&server, &installation.id, code, state).await.refused(422, "INVALID_DATA");
    }
    let nobody = "01890000-0000-7000-8000-000000000000";
    bring(&server, nobody, &code, &state).await.refused(404, "RESOURCE_NOT_FOUND");
    assert_eq!(server.provider.token_requests(), 0, "no code went out");
    still_waits(&server, &installation.id).await;
    server.authorize(&installation.id, &right).await.expect(200);
    server.authorize(&other.id, &others).await.expect(200);
    // A wrong code with a right state is the provider's to refuse.
    let third = server.install("ticket-mirror", "3").await;
    let answer = server.consent(&third.authorization_url).await;
    let refused =
        bring(&server, &third.id, "wrong", &answer.state.clone().expect("it is there")).await;
    refused.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(server.installation(&third.id).await["state"], "pendingAuthorization");
}

async fn a_state_expires(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let answer = server.consent(&installation.authorization_url).await;
    server.advance(Duration::from_secs(601));
    server.authorize(&installation.id, &answer).await.refused(422, "INVALID_STATE");
    let mut browser = Browser::new().expect("a browser");
    let page = open(&mut browser, &url(&installation.start_url)).await;
    assert_eq!(page.status, 410, "{}", page.body);
    still_waits(&server, &installation.id).await;
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let fresh = server.callback("install", &request).await.expect(200);
    let answer = server.consent(&fresh.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
}

async fn five_states_live_and_all_die_at_authorisation(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let mut answers = vec![server.consent(&installation.authorization_url).await];
    for _ in 0..5 {
        let again = server.callback("install", &request).await.expect(200);
        answers.push(server.consent(&again.text_of("authorizationUrl")).await);
    }
    let kept = server.texts("select 'x' from authorization_requests").await;
    assert_eq!(kept.len(), 5);
    // The oldest of six is dead, the second oldest lives, and ends the others.
    server.authorize(&installation.id, &answers[0]).await.refused(422, "INVALID_STATE");
    server.authorize(&installation.id, &answers[1]).await.expect(200);
    for answer in &answers[2..] {
        server.authorize(&installation.id, answer).await.refused(422, "INVALID_STATE");
    }
    assert!(server.texts("select 'x' from authorization_requests").await.is_empty());
    assert_eq!(server.provider.token_requests(), 1);
    assert_eq!(server.webhooks(ORG).await.len(), 1);
}

async fn missing_scopes_provision_nothing(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    server.provider.conduct(|conduct| {
        conduct.grant_only = Some(vec!["Desk.tickets.READ".to_owned()]);
    });
    let answer = server.consent(&installation.authorization_url).await;
    let refused = server.authorize(&installation.id, &answer).await;
    let refused = refused.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(refused.json["missingScopes"], json!(["Desk.events.ALL"]));
    still_waits(&server, &installation.id).await;
    let issued = server.provider.issued_tokens();
    assert!(!issued.is_empty());
    eventually("the tokens are revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    // The browser's way says it in words.
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let again = server.callback("install", &request).await.expect(200);
    let mut browser = Browser::new().expect("a browser");
    let page = browser.walk(&again.text_of("startUrl"), Decision::Approve).await.expect("a page");
    assert_eq!(page.status, 422, "{}", page.body);
    assert!(page.body.contains("Desk.events.ALL"), "{}", page.body);
    still_waits(&server, &installation.id).await;
    server.provider.conduct(|conduct| conduct.grant_only = None);
    let again = server.callback("install", &request).await.expect(200);
    let answer = server.consent(&again.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
}

async fn a_missing_scope_member_means_as_asked(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    server.provider.conduct(|conduct| conduct.omit_scope = true);
    let answer = server.consent(&installation.authorization_url).await;
    let active = server.authorize(&installation.id, &answer).await.expect(200);
    assert_eq!(active.json["grantedScopes"], json!(["Desk.events.ALL", "Desk.tickets.READ"]));
}

async fn a_provider_that_fails_is_said_to(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    for status in [503, 500] {
        server.provider.conduct(|conduct| conduct.token_failures.push_back(status));
        let again = server.callback("install", &request).await.expect(200);
        let answer = server.consent(&again.text_of("authorizationUrl")).await;
        server.authorize(&installation.id, &answer).await.refused(502, "PROVIDER_ERROR");
        still_waits(&server, &installation.id).await;
    }
    let again = server.callback("install", &request).await.expect(200);
    let answer = server.consent(&again.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
}

async fn another_issuer_is_refused(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    server.provider.conduct(|conduct| {
        conduct.false_issuer = Some("https://attacker.example".to_owned());
    });
    let mut browser = Browser::new().expect("a browser");
    let answer = begin(&mut browser, &installation.start_url).await;
    let page = open(&mut browser, &answer.redirect).await;
    assert_eq!(page.status, 422, "{}", page.body);
    let body = json!({
        "installationId": installation.id, "code": answer.code, "state": answer.state,
        "iss": answer.iss,
    });
    server.callback("authorize", &body).await.refused(422, "INVALID_STATE");
    assert_eq!(server.provider.token_requests(), 0, "no code went out");
    still_waits(&server, &installation.id).await;
    let body = json!({
        "installationId": installation.id, "code": answer.code, "state": answer.state,
        "iss": server.provider.issuer(),
    });
    server.callback("authorize", &body).await.expect(200);
}

async fn an_uninstall_during_the_exchange_wins(backend: Backend) {
    let (server, installation) = waiting(backend).await;
    let answer = server.consent(&installation.authorization_url).await;
    server.provider.conduct(|conduct| conduct.token_answer_delay = Duration::from_millis(700));
    let authorizing = server.authorize(&installation.id, &answer);
    let uninstalling = async {
        eventually("the code is being exchanged", || async {
            (!server.provider.issued_tokens().is_empty()).then_some(())
        })
        .await;
        let body = json!({ "installationId": installation.id });
        server.callback("uninstall", &body).await.expect(200)
    };
    let (authorized, uninstalled) = tokio::join!(authorizing, uninstalling);
    assert_eq!(uninstalled.json["state"], "uninstalled");
    authorized.refused(409, "STATE_CONFLICT");
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["state"], "uninstalled");
    assert!(server.webhooks(ORG).await.is_empty());
    assert!(server.texts("select 'x' from connections").await.is_empty());
    eventually("the late tokens are revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    eventually("the clean-up is done", || async {
        let seen = server.installation(&installation.id).await;
        (seen["cleanup"] == "done").then_some(())
    })
    .await;
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_return_address_must_be_known(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    for bad in [
        "https://elsewhere.example/back",
        "http://marketplace.example/back",
        "https://marketplace.example:8443/back",
        "https://user:password@marketplace.example/back",
        "https://marketplace.example.attacker.example/",
        "javascript:alert(1)",
        "/back",
        "",
    ] {
        let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "returnUrl": bad });
        let refused = server.callback("install", &body).await.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], "/returnUrl", "{}", refused.text);
    }
    assert!(server.client.all("/api/v1/installations", &server.operator).await.is_empty());
}

async fn a_service_must_be_configured(backend: Backend) {
    let server = TestServer::start(backend, |settings| {
        for name in
            ["authorize_url", "token_url", "revoke_url", "client_id", "client_secret", "issuer"]
        {
            settings.unset(&format!("oauth.providers.zlabs_integration.{name}"));
        }
    })
    .await;
    let package = server.package().with(|package| {
        let manifest = &mut package.manifest["zohoAuthorisation"];
        manifest.as_object_mut().expect("an object").remove("serviceName");
    });
    server.publish(&package).await.expect(201);
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let refused = server.callback("install", &body).await.refused(422, "UNPROCESSABLE_ENTITY");
    // A manifest without a name means the usual service.
    assert!(refused.text.contains("oauth.providers.zlabs_integration"), "{}", refused.text);
    assert!(server.client.all("/api/v1/installations", &server.operator).await.is_empty());
}
