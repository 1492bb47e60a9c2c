//! What goes over the wire: retries under one key, signatures, pages, refusals.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_client::lifecycle::{InstallRequest, InstallationState, UninstallRequest};
use mortise_client::webhooks::WebhookPatch;
use mortise_client::{
    Client, Error, ExtensionKey, InstallationId, MarketplaceSecret, OrgId, Retries, WebhookId,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request as it came.
#[derive(Clone, Debug)]
struct Came {
    line: String,
    head: String,
    body: String,
}

impl Came {
    fn header(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| {
            line.to_ascii_lowercase().starts_with(&prefix).then(|| line[prefix.len()..].to_owned())
        })
    }
}

/// A server that gives one answer after the other, and closes where it has none.
async fn server(answers: Vec<&'static str>) -> (String, Arc<Mutex<Vec<Came>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let came = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&came);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = Vec::new();
            let request = loop {
                let mut chunk = [0; 4_096];
                let length = stream.read(&mut chunk).await.expect("a request");
                read.extend_from_slice(&chunk[..length]);
                let text = String::from_utf8_lossy(&read).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let came = Came {
                    line: head.lines().next().unwrap_or_default().to_owned(),
                    head: head.to_owned(),
                    body: body.to_owned(),
                };
                let length = came.header("content-length").and_then(|text| text.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break came;
                }
            };
            kept.lock().expect("no panic").push(request);
            let Some(answer) = answers.next() else { continue };
            let (status, rest) = answer.split_once('|').expect("status|headers|body");
            let (headers, body) = rest.split_once('|').expect("status|headers|body");
            let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
            let text = format!(
                "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.expect("it is read");
        }
    });
    (base, came)
}

fn client(base: &str, retries: Retries) -> Client {
    let builder = Client::builder(base, "a-token").expect("an address").retries(retries);
    builder.marketplace_secret(SECRET).expect("a secret").build().expect("a client")
}

fn install() -> InstallRequest {
    let key = ExtensionKey::new("ticket-mirror").expect("a key");
    InstallRequest::new(key, OrgId::new("60001").expect("an org"))
}

const INSTALLED: &str = r#"201 Created||{"installationId":"01890000-0000-7000-8000-000000000000","generation":1,"state":"pendingAuthorization","authorizationUrl":null,"startUrl":null,"later":"unknown members are no hindrance"}"#;

#[tokio::test]
async fn a_call_is_made_again_under_the_same_key_and_signed_anew() {
    let (base, came) = server(vec![
        "503 Service Unavailable|retry-after: 0|{}",
        r#"409 Conflict|retry-after: 0|{"errorCode":"REQUEST_IN_PROGRESS"}"#,
        INSTALLED,
    ])
    .await;
    let installed = client(&base, Retries::up_to(3)).install(&install()).await.expect("it is done");
    assert_eq!(installed.state, InstallationState::PendingAuthorization);
    let came = came.lock().expect("no panic").clone();
    assert_eq!(came.len(), 3);
    let secret = MarketplaceSecret::parse(SECRET).expect("a secret");
    for request in &came {
        assert_eq!(request.line, "POST /api/v1/callbacks/install HTTP/1.1");
        assert_eq!(request.header("authorization").as_deref(), Some("Bearer a-token"));
        assert_eq!(request.body, came[0].body);
        for name in ["idempotency-key", "webhook-id"] {
            assert!(request.header(name).is_some(), "{name}");
            assert_eq!(request.header(name), came[0].header(name), "{name} is kept");
        }
        let header = |name: &str| request.header(name).expect("it is signed");
        let at = header("webhook-timestamp").parse().expect("seconds");
        let signature = secret.sign(&header("webhook-id"), at, request.body.as_bytes());
        assert_eq!(header("webhook-signature"), signature);
    }
    assert_eq!(came[0].body, r#"{"extensionKey":"ticket-mirror","orgId":"60001"}"#);
}

#[tokio::test]
async fn what_breaks_off_is_repeated_only_where_that_does_no_harm() {
    // The server takes the request and says nothing: it may have been done.
    let (base, came) = server(vec![]).await;
    let webhook = WebhookId(uuid::Uuid::nil());
    let patient = client(&base, Retries::up_to(3));
    let failed = patient.change_webhook(webhook, &WebhookPatch::default()).await;
    assert!(matches!(failed, Err(Error::Unreachable(_))));
    assert_eq!(came.lock().expect("no panic").len(), 1, "a change has no key");
    let read = client(&base, Retries::up_to(1)).webhook(webhook).await;
    let error = read.expect_err("no answer");
    assert!(error.is_passing(), "{error}");
    assert_eq!(came.lock().expect("no panic").len(), 3, "reading is tried once more");
}

#[tokio::test]
async fn a_refusal_says_why_and_when_to_come_back() {
    let answer = r#"429 Too Many Requests|retry-after: 60|{"status":429,"errorCode":"TOO_MANY_REQUESTS","detail":"Later.","correlationId":"c-7"}"#;
    let (base, came) = server(vec![answer]).await;
    let retries = Retries::up_to(3).longest(Duration::from_secs(5));
    let uninstall = UninstallRequest::of(InstallationId(uuid::Uuid::nil()));
    let error = client(&base, retries).uninstall(&uninstall).await.expect_err("refused");
    let problem = error.problem().expect("a problem");
    assert_eq!(problem.error_code, "TOO_MANY_REQUESTS");
    assert_eq!(problem.correlation_id.as_deref(), Some("c-7"));
    assert_eq!(problem.retry_after, Some(Duration::from_mins(1)));
    assert_eq!(came.lock().expect("no panic").len(), 1, "nobody waits for a minute here");
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let token = |id: u8, next: &str| {
        format!(
            r#"200 OK||{{"data":[{{"id":"01890000-0000-7000-8000-00000000000{id}","role":"host","orgId":null,"vendor":null,"scopes":null,"name":null,"createdAt":"t","expiresAt":null,"revokedAt":null}}],"nextCursor":{next}}}"#
        )
    };
    let pages: Vec<&'static str> = vec![
        token(1, r#""a b&c""#).leak(),
        r#"200 OK||{"data":[],"nextCursor":"d"}"#,
        token(2, "null").leak(),
    ];
    let (base, came) = server(pages).await;
    let mut tokens = client(&base, Retries::NONE).tokens();
    let mut ids = Vec::new();
    while let Some(token) = tokens.next().await.expect("a page") {
        ids.push(token.id.to_string());
    }
    assert_eq!(ids.len(), 2);
    assert!(tokens.next_page().await.expect("it is over").is_none());
    let came = came.lock().expect("no panic").clone();
    let lines: Vec<&str> = came.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1/tokens HTTP/1.1",
            "GET /api/v1/tokens?cursor=a+b%26c HTTP/1.1",
            "GET /api/v1/tokens?cursor=d HTTP/1.1",
        ]
    );
}
