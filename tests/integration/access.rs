//! Who may call what, and what every answer keeps to: the table of routes is walked with every
//! role, and bad input meets a clear refusal everywhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use mortise::api::Role;
use mortise::api::routes::{Access, ROUTES, Route, missing_and_extra};
use reqwest::Method;
use serde_json::json;

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    every_mounted_route_has_a_row_and_the_other_way_round,
    the_table_is_walked_with_every_role,
    a_narrowed_token_needs_the_routes_scope,
    another_tenants_ids_are_not_found,
    tokens_end_by_revocation_and_by_time,
    tokens_are_bound_as_their_role_asks,
    bad_bodies_are_refused_on_every_route,
    paths_and_methods_that_are_not_there,
    an_answer_has_the_callers_correlation_id,
);

const NOBODY: &str = "01890000-0000-7000-8000-000000000000";
const JSON: &str = "application/json";

async fn every_mounted_route_has_a_row_and_the_other_way_round(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let document = server.client.get("/openapi.json", "").await.expect(200);
    assert!(document.text_of("openapi").starts_with("3.1"), "{}", document.json["openapi"]);
    let mut mounted = Vec::new();
    for (path, item) in document.json["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "patch", "delete", "head", "options", "trace"] {
            if item.get(method).is_some() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes());
                // The document has no word for "the rest of the path".
                let path = path.replace("/schemas/{path}", "/schemas/{*path}");
                mounted.push((method.expect("a method"), path));
            }
        }
    }
    let (missing, extra) = missing_and_extra(&mounted);
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    for route in ROUTES.iter().filter(|route| route.access == Access::Open) {
        let path = path_of(route, "ticket-mirror", NOBODY);
        let answer = server.client.call(route.method.clone(), &path, "", None).await;
        // What third parties post proves itself by a key of its own.
        let has_own_key = route.path.contains("/incoming/");
        assert_eq!(answer.status == 401, has_own_key, "{path}");
        assert_ne!(answer.status, 405, "{path}");
    }
}

/// The path of a row with names and ids in it.
fn path_of(route: &Route, key: &str, id: &str) -> String {
    route
        .path
        .replace("{key}", key)
        .replace("{version}", "1.0.0")
        .replace("{id}", id)
        .replace("{installationId}", id)
        .replace("{tokenId}", id)
        .replace("{name}", "name")
        .replace("{extensionKey}", key)
        .replace("{eventId}", id)
        .replace("{orgId}", ORG)
        .replace("{hookId}", "1")
        .replace("{purpose}", "jwt")
        .replace("{nonce}", "nonce")
        .replace("{token}", "token")
        .replace("{*path}", "plugin-manifest.json")
}

async fn tokens_of_all_roles(server: &TestServer) -> Vec<(Role, String)> {
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let token = match role {
            Role::Operator => server.operator.clone(),
            Role::Marketplace => server.marketplace().await,
            Role::Host => server.host().await,
            Role::Vendor => server.vendor_token("acme").await,
            Role::Admin => server.admin(ORG).await,
            Role::Viewer => server.viewer(ORG).await,
        };
        tokens.push((*role, token));
    }
    tokens
}

fn roles_of(route: &Route) -> &'static [Role] {
    match route.access {
        Access::Roles(roles) => roles,
        Access::Open => &[],
    }
}

/// Calls a row with nothing that could have an effect.
async fn probe(server: &TestServer, route: &Route, token: &str) -> Answer {
    let path = path_of(route, "nobody", NOBODY);
    let request = server.client.request(route.method.clone(), &path, token);
    let request = if route.method == Method::POST {
        // Refused by every route, after who calls was looked at.
        request.header("content-type", "application/json").body("[1")
    } else {
        request
    };
    server.client.send(request).await
}

/// Whether a route asks whose its object is before it reads the body: locked ones say so first.
fn looks_before_it_reads(route: &Route) -> bool {
    [
        "/webhooks/{id}/",
        "/assist/webhooks/{hookId}/",
        "/deliveries/{id}/",
        "/jobs/{id}/",
        "/installations/{id}/",
        "/installedExtensions/",
    ]
    .iter()
    .any(|part| route.path.contains(part))
}

async fn the_table_is_walked_with_every_role(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let tokens = tokens_of_all_roles(&server).await;
    let unknown = format!("mortise_{}", "A".repeat(43));
    let mut walked = 0;
    for route in ROUTES.iter().filter(|route| route.access != Access::Open) {
        let name = format!("{} {}", route.method, route.path);
        let nobody = probe(&server, route, "").await.refused(401, "UNAUTHORIZED");
        assert!(!nobody.header("www-authenticate").is_empty(), "{name}");
        probe(&server, route, &unknown).await.refused(401, "INVALID_OAUTH");
        let malformed = probe(&server, route, "no-token").await;
        assert_eq!(malformed.status, 401, "{name}: {}", malformed.text);
        for (role, token) in &tokens {
            let answer = probe(&server, route, token).await;
            if roles_of(route).contains(role) {
                assert!(
                    ![401, 403, 405].contains(&answer.status) && answer.status < 500,
                    "{name} as {role}: {}",
                    answer.text
                );
                if route.method == Method::POST {
                    let is_refused = answer.status == 400
                        || (looks_before_it_reads(route) && answer.status == 404);
                    assert!(is_refused, "{name} as {role}: {}", answer.text);
                }
            } else {
                let answer = answer.refused(403, "FORBIDDEN");
                let needed = answer.json["neededRoles"].as_array().expect("what is missing");
                assert_eq!(needed.len(), roles_of(route).len(), "{name} as {role}");
            }
            walked += 1;
        }
    }
    assert!(walked > 150, "{walked}");
}

async fn a_narrowed_token_needs_the_routes_scope(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let narrowed = async |role: Role, scope: &str| {
        let body = match role {
            Role::Vendor => json!({ "role": role, "vendor": "acme", "scopes": [scope] }),
            Role::Admin | Role::Viewer => json!({ "role": role, "orgId": ORG, "scopes": [scope] }),
            _ => json!({ "role": role, "scopes": [scope] }),
        };
        server.token(body).await
    };
    let mut tokens: BTreeMap<(Role, String), String> = BTreeMap::new();
    for role in Role::ALL {
        for scope in ROUTES.iter().filter_map(|route| route.scope) {
            let group = scope.rsplit_once('.').expect("a group").0;
            for scope in [scope.to_owned(), format!("{group}.ALL"), "Desk.search.READ".to_owned()] {
                let key = (*role, scope.clone());
                if let Entry::Vacant(place) = tokens.entry(key) {
                    place.insert(narrowed(*role, &scope).await);
                }
            }
        }
    }
    for route in ROUTES {
        for role in roles_of(route) {
            let name = format!("{} {} as {role}", route.method, route.path);
            for ((of, scope), token) in &tokens {
                if of != role {
                    continue;
                }
                let answer = probe(&server, route, token).await;
                let is_covered = route.scope.is_some_and(|needed| {
                    let group = needed.rsplit_once('.').expect("a group").0;
                    scope == needed || *scope == format!("{group}.ALL")
                });
                if is_covered {
                    assert_ne!(answer.status, 403, "{name} with {scope}: {}", answer.text);
                } else {
                    let answer = answer.refused(403, "SCOPE_MISMATCH");
                    if let Some(needed) = route.scope {
                        assert_eq!(answer.json["neededScope"], needed, "{name}");
                    }
                }
            }
        }
    }
}

async fn another_tenants_ids_are_not_found(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let own = server.active(ORG).await;
    let webhook = server.webhooks(ORG).await[0]["id"].as_str().expect("an id").to_owned();
    let event = json!({
        "eventId": "event-of-one", "eventType": "Ticket_Add", "orgId": ORG,
        "payload": { "id": "1" },
    });
    server.client.post("/api/v1/events", &server.operator, &event).await.expect(202);
    let deliveries = server.client.all("/api/v1/deliveries", &server.operator).await;
    let delivery = deliveries
        .iter()
        .find(|delivery| delivery["eventType"] == "Ticket_Add")
        .unwrap_or_else(|| panic!("{deliveries:?}"));
    let delivery = delivery["id"].as_str().expect("an id");

    let paths = [
        format!("/api/v1/installations/{}", own.id),
        format!("/api/v1/installations/{}/history", own.id),
        format!("/api/v1/webhooks/{webhook}"),
        format!("/api/v1/webhooks/{webhook}/statistics"),
        format!("/api/v1/deliveries/{delivery}"),
        format!("/api/v1/deliveries/{delivery}/request"),
    ];
    let (admin, viewer) = (server.admin("2").await, server.viewer("2").await);
    let vendor = server.vendor_token("other").await;
    for path in &paths {
        for token in [&server.admin(ORG).await, &server.vendor_token("acme").await] {
            server.client.get(path, token).await.expect(200);
        }
        for token in [&admin, &viewer, &vendor] {
            let foreign = server.client.get(path, token).await.refused(404, "RESOURCE_NOT_FOUND");
            // The answer does not tell one that is another's from one that is nobody's.
            let nobody = path.replace(&own.id, NOBODY).replace(&webhook, NOBODY);
            let nobody = nobody.replace(delivery, NOBODY);
            let nobody = server.client.get(&nobody, token).await.expect(404);
            for member in ["type", "title", "detail", "errorCode", "message"] {
                assert_eq!(foreign.json[member], nobody.json[member], "{path}");
            }
        }
    }
    let explain = format!("/api/v1/webhooks/{webhook}/explain");
    let body = json!({ "event": event });
    for token in [&admin, &viewer, &vendor] {
        let refused = server.client.post(&explain, token, &body).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    let retry = format!("/api/v1/deliveries/{delivery}/retry");
    for token in [&admin, &vendor] {
        let refused = server.client.post(&retry, token, &json!({})).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    for token in [&admin, &viewer] {
        let path = "/api/v1/events/event-of-one";
        server.client.get(path, token).await.refused(404, "RESOURCE_NOT_FOUND");
        for list in ["webhooks", "deliveries", "installations"] {
            assert!(
                server.client.all(&format!("/api/v1/{list}"), token).await.is_empty(),
                "{list}"
            );
        }
        let named = format!("/api/v1/deliveries?webhookId={webhook}");
        assert!(server.client.all(&named, token).await.is_empty());
        let named = format!("/api/v1/deliveries?installationId={}", own.id);
        assert!(server.client.all(&named, token).await.is_empty());
    }
    for list in ["webhooks", "deliveries", "installations", "extensions", "journal"] {
        assert!(server.client.all(&format!("/api/v1/{list}"), &vendor).await.is_empty(), "{list}");
    }
}

async fn tokens_end_by_revocation_and_by_time(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let body = json!({ "role": "host" });
    let made = server.client.post("/api/v1/tokens", &server.operator, &body).await.expect(201);
    let (id, token) = (made.text_of("id"), made.text_of("token"));
    server.client.get("/api/v1/event-types", &token).await.expect(200);
    let path = format!("/api/v1/tokens/{id}");
    for _ in 0..2 {
        let revoked = server.client.call(Method::DELETE, &path, &server.operator, None).await;
        assert!([200, 204].contains(&revoked.status), "{}", revoked.text);
        server.client.get("/api/v1/event-types", &token).await.refused(401, "INVALID_OAUTH");
    }
    let nobody = format!("/api/v1/tokens/{NOBODY}");
    let refused = server.client.call(Method::DELETE, &nobody, &server.operator, None).await;
    refused.refused(404, "RESOURCE_NOT_FOUND");

    let expires = server.seam.clock.now().plus(Duration::from_hours(1)).rfc3339();
    let short = server.token(json!({ "role": "host", "expiresAt": expires })).await;
    server.client.get("/api/v1/event-types", &short).await.expect(200);
    server.advance(Duration::from_secs(3_601));
    server.client.get("/api/v1/event-types", &short).await.refused(401, "INVALID_OAUTH");
    // The list knows all of them, and the value of none.
    let list = server.client.get("/api/v1/tokens", &server.operator).await.expect(200);
    assert_eq!(list.data().len(), 3);
    assert!(list.data().iter().all(|row| row.get("token").is_none()), "{}", list.text);
    for value in [&token, &short, &server.operator] {
        assert!(!list.text.contains(value.as_str()));
        crate::support::server::assert_absent(&server.dump().await, value);
    }
    server.stop().await.audit_holds(&[]).await;
}

async fn tokens_are_bound_as_their_role_asks(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    for body in [
        json!({ "role": "admin" }),
        json!({ "role": "viewer", "vendor": "acme" }),
        json!({ "role": "vendor" }),
        json!({ "role": "vendor", "vendor": "acme", "orgId": "1" }),
        json!({ "role": "host", "orgId": "1" }),
        json!({ "role": "root" }),
        json!({ "role": "host", "scopes": [] }),
        json!({ "role": "host", "scopes": ["no scope"] }),
        json!({ "role": "host", "name": "" }),
        json!({ "role": "host", "expiresAt": "2000-01-01T00:00:00Z" }),
        json!({ "role": "host", "expiresAt": "tomorrow" }),
        json!({}),
    ] {
        let refused = server.client.post("/api/v1/tokens", &server.operator, &body).await;
        refused.refused(422, "INVALID_DATA");
    }
    assert_eq!(server.client.all("/api/v1/tokens", &server.operator).await.len(), 1);
}

async fn bad_bodies_are_refused_on_every_route(backend: Backend) {
    let server = TestServer::start(backend, |settings| {
        settings.set("limits.request_body_bytes", "64KiB");
        settings.set("limits.event_body_bytes", "128KiB");
        settings.set("limits.package_bytes", "256KiB");
    })
    .await;
    let installation = server.active(ORG).await.id;
    let webhook = server.webhooks(ORG).await[0]["id"].as_str().expect("an id").to_owned();
    let before = server.texts("select 'x' from audit").await.len();
    let client = &server.client;
    let large = format!("\"{}\"", "x".repeat(300 << 10));
    let deep = "[".repeat(60_000);
    let objects = [
        "/deliveries/{id}/",
        "/jobs/{id}/",
        "/installedExtensions/",
        // Takes forms too, and what third parties send goes on as it is.
        "/invoke",
        "/incoming/",
        // Takes anything.
        "/inspect/",
        "/listeners/{id}/",
        // The webhook here is an extension's: locked, which is said before a body is read.
        "/webhooks/{id}/clone",
        "/webhooks/{id}/enable",
        "/webhooks/{id}/disable",
        "/webhooks/{id}/authorization",
        "/webhooks/{id}/secret",
        "/assist/webhooks/{hookId}/",
    ];
    let posts = ROUTES.iter().filter(|route| {
        // There is a webhook here, and none of these.
        route.method == Method::POST && !objects.iter().any(|part| route.path.contains(part))
    });
    for route in posts {
        let is_installation = route.path.contains("/installations/{id}/");
        let id = if is_installation { &installation } else { &webhook };
        let path = path_of(route, "ticket-mirror", id);
        let send = async |kind: &str, body: String| {
            let mut request = client.request(Method::POST, &path, &server.operator);
            if !kind.is_empty() {
                request = request.header("content-type", kind);
            }
            client.send(request.body(body)).await
        };
        for broken in
            ["{", "{\"a\":}", "nonsense", "{}{}", "\u{feff}{}", "{\"a\":\"\u{1}\"}", &deep]
        {
            let refused = send(JSON, broken.to_owned()).await;
            let shown = &broken[..broken.len().min(20)];
            assert_eq!(refused.status, 400, "{path} {shown}: {}", refused.text);
            assert_eq!(refused.json["errorCode"], "BAD_REQUEST", "{path} {shown}");
        }
        for empty in ["", " \n"] {
            let refused = send(JSON, empty.to_owned()).await;
            assert_eq!(refused.status, 400, "{path}: {}", refused.text);
            assert_eq!(refused.json["errorCode"], "EMPTY_PAYLOAD", "{path}");
        }
        for kind in ["", "text/plain", "application/x-www-form-urlencoded", "json"] {
            let refused = send(kind, "{}".to_owned()).await;
            assert_eq!(refused.status, 415, "{path} {kind:?}: {}", refused.text);
        }
        for wrong in ["7", "null", "\"text\"", "true", "{\"unknownMember\":1}"] {
            let refused = send(JSON, wrong.to_owned()).await;
            assert_eq!(refused.status, 422, "{path} {wrong}: {}", refused.text);
            assert_eq!(refused.json["errorCode"], "INVALID_DATA", "{path} {wrong}");
            let errors = refused.json["errors"].as_array().map_or(0, Vec::len);
            assert!(errors > 0, "{path} {wrong}: which field: {}", refused.text);
        }
        let refused = send(JSON, large.clone()).await;
        assert_eq!(refused.status, 413, "{path}: {}", refused.text);
        assert_eq!(refused.json["errorCode"], "RESOURCE_SIZE_EXCEEDED", "{path}");
        // Not UTF-8.
        let request = client.request(Method::POST, &path, &server.operator);
        let request = request.header("content-type", JSON).body(vec![b'"', 0xff, 0xfe, b'"']);
        let refused = client.send(request).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
    }
    assert_eq!(server.texts("select 'x' from audit").await.len(), before, "nothing happened");
    // A body without a length is measured as it comes.
    let stream =
        futures_util::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 8 << 10])));
    let request = client.request(Method::POST, "/api/v1/callbacks/install", &server.operator);
    let request =
        request.header("content-type", "application/json").body(reqwest::Body::wrap_stream(stream));
    client.send(request).await.refused(413, "RESOURCE_SIZE_EXCEEDED");
}

async fn paths_and_methods_that_are_not_there(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    for path in ["/api", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/tokens/", "/../etc"] {
        for token in ["", server.operator.as_str()] {
            server.client.get(path, token).await.refused(404, "URL_NOT_FOUND");
        }
    }
    let refused = server.client.call(Method::PATCH, "/api/v1/tokens", &server.operator, None).await;
    assert_eq!(refused.header("allow"), "GET, POST, HEAD");
    refused.refused(405, "METHOD_NOT_ALLOWED");
    let refused = server.client.call(Method::TRACE, "/health/live", "", None).await;
    refused.refused(405, "METHOD_NOT_ALLOWED");
    for path in ["/health/live", "/health/ready", "/openapi.json", "/.well-known/jwks.json"] {
        let head = server.client.call(Method::HEAD, path, "", None).await.expect(200);
        assert!(head.text.is_empty(), "{path}");
    }
    for path in [
        "/api/v1/installations/%00",
        "/api/v1/installations/%ff",
        "/api/v1/webhooks/..",
        "/api/v1/webhooks/01890000-0000-7000-8000-00000000000",
        "/api/v1/extensions/UPPER",
        "/api/v1/extensions/a%2Fb",
        "/api/v1/events/%E2%82%AC",
        "/schemas/../Cargo.toml",
        "/schemas/%2e%2e/Cargo.toml",
        "/schemas//etc/passwd",
    ] {
        let refused = server.client.get(path, &server.operator).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.text);
    }
    let keys = server.client.get("/.well-known/jwks.json", "").await.expect(200);
    assert!(keys.json["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{}", keys.text);
    let schema = server.client.get("/schemas/plugin-manifest.json", "").await.expect(200);
    assert_eq!(schema.json["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

async fn an_answer_has_the_callers_correlation_id(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let ask = async |id: &str| {
        let request =
            server.client.request(Method::GET, "/api/v1/installations/x", &server.operator);
        server.client.send(request.header("X-Correlation-Id", id)).await.expect(404)
    };
    let answer = ask("request-7").await;
    assert_eq!(answer.header("x-correlation-id"), "request-7");
    assert_eq!(answer.json["correlationId"], "request-7");
    for unfit in ["", "with space", &"x".repeat(65)] {
        let answer = ask(unfit).await;
        assert_ne!(answer.header("x-correlation-id"), unfit);
    }
    let (first, second) = (ask("").await, ask("").await);
    assert_ne!(first.header("x-correlation-id"), second.header("x-correlation-id"));
}
