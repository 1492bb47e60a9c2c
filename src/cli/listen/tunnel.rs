//! Listening over a connection that goes out: copies of deliveries as they are made, by long polling.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mortise_client::listeners::{CopyAnswer, DeliveryCopy, ListenerRequest};
use mortise_client::{Client, Error, ExtensionKey, InstallationId, ListenerId, Retries, WebhookId};
use url::Url;

use super::lines::{Answer, Line, header_map, print, print_whole};
use super::{Arguments, signing_secret};
use crate::cli::output::{CliError, Exit, Output};
use crate::cli::remote_server::{Out, RemoteServer, words};
use crate::cli::signals::Signals;
use crate::crypto::{SigningSecret, Verifier};
use crate::inspector::{SignatureVerdict, judge};
use crate::seam::{Clock, Seam, Timestamp};

/// How long the server waits for something to tell.
const WAIT: Duration = Duration::from_secs(25);

/// How long the local server may take.
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

/// How often the server is shown that somebody listens while a page is worked on.
const SHOW_EVERY: Duration = Duration::from_mins(1);

/// The pauses before the first, second … new try; the last one stays.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// The exact bytes; nothing where they were too many to be copied.
fn body_of(copy: &DeliveryCopy) -> Option<Bytes> {
    let text = copy.body.as_ref()?;
    if copy.is_base64_encoded {
        STANDARD.decode(text).ok().map(Bytes::from)
    } else {
        Some(Bytes::from(text.clone()))
    }
}

/// Puts a query behind that of an address.
pub(super) fn add_query(url: &mut Url, query: Option<&str>) {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return };
    let joined = match url.query().filter(|own| !own.is_empty()) {
        Some(own) => format!("{own}&{query}"),
        None => query.to_owned(),
    };
    url.set_query(Some(&joined));
}

pub(super) async fn run(
    server: RemoteServer,
    arguments: Arguments,
    verifier: Option<Verifier>,
    seam: &Seam,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let mut what = ListenerRequest::default();
    if let Some(id) = arguments.webhook {
        what.webhook_id = Some(WebhookId(id));
    } else if let Some(id) = arguments.installation {
        what.installation_id = Some(InstallationId(id));
    } else if let Some(key) = &arguments.extension {
        what.extension_key = Some(ExtensionKey::new(&**key).map_err(CliError::unusable)?);
    } else {
        return Err(CliError::unusable("what is to be listened to?")
            .hint("give --webhook, --installation or --extension"));
    }
    let mut listener = Listener {
        secrets: Secrets { given: verifier, fetched: HashMap::new() },
        // What breaks off is said and taken up again here.
        client: server.client.with_retries(Retries::NONE),
        out: server.out,
        what,
        arguments,
        seam: seam.clone(),
        dropped: 0,
        is_fine: true,
    };
    let mut signals = Signals::listen()?;
    let mut id = listener.begin(output).await?;
    let ended = tokio::select! {
        () = signals.next() => Ok(Exit::Success),
        ended = listener.follow(&mut id, output) => ended,
    };
    // It ends by itself where this cannot be said.
    let _ends_anyway = listener.client.end_listener(id).await;
    ended
}

struct Listener {
    client: Client,
    out: Out,
    what: ListenerRequest,
    arguments: Arguments,
    secrets: Secrets,
    seam: Seam,
    /// What the server said that it could not pass on, so far.
    dropped: i64,
    is_fine: bool,
}

impl Listener {
    async fn begin(&self, output: &mut Output) -> Result<ListenerId, CliError> {
        let begun = self.client.listen(&self.what).await?;
        output.message("listening; deliveries go on as ever, copies come here");
        Ok(begun.id)
    }

    /// Follows until so many events came. What breaks off is taken up where it was.
    async fn follow(&mut self, id: &mut ListenerId, output: &mut Output) -> Result<Exit, CliError> {
        let (mut cursor, mut failures) = (None::<String>, 0_usize);
        let mut left = self.arguments.count;
        loop {
            let page = match self.client.listened(*id, cursor.as_deref(), WAIT).await {
                Ok(page) => page,
                Err(error) if error.is_not_found() => {
                    output.message(
                        "the server forgot this listener; beginning anew: events between may be missing",
                    );
                    *id = self.begin(output).await?;
                    (cursor, self.dropped) = (None, 0);
                    continue;
                }
                Err(error) if error.is_passing() => {
                    let pause = PAUSES.get(failures).or(PAUSES.last()).copied().unwrap_or_default();
                    failures += 1;
                    let why = words(&error);
                    output.message(format_args!("{why}; again in {} s", pause.as_secs_f32()));
                    self.seam.clock.sleep(pause).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            failures = 0;
            if page.missed > 0 {
                output.message(format_args!("{} events were too old to be kept", page.missed));
            }
            if page.dropped > self.dropped {
                let more = page.dropped - self.dropped;
                output.message(format_args!("{more} events came too fast and are not shown"));
                self.dropped = page.dropped;
            }
            let mut answers = Vec::new();
            let (client, clock) = (self.client.clone(), self.seam.clock.clone());
            for copy in &page.data {
                // A slow local server must not make the server forget who listens.
                let answer = tokio::select! {
                    answer = self.handle(copy, output) => answer?,
                    error = keep_alive(&client, &clock, *id, &page.next_cursor) => {
                        return Err(error.into());
                    }
                };
                answers.push(answer);
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    break;
                }
            }
            cursor = Some(page.next_cursor);
            self.report(*id, answers, output).await;
            if left == Some(0) {
                return Ok(if self.is_fine { Exit::Success } else { Exit::Negative });
            }
        }
    }

    /// Verifies, forwards and prints one event. Returns what is told to the server.
    async fn handle(
        &mut self,
        tapped: &DeliveryCopy,
        output: &mut Output,
    ) -> Result<CopyAnswer, CliError> {
        let sent_at =
            Timestamp::parse_rfc3339(&tapped.sent_time).unwrap_or_else(|| self.seam.clock.now());
        let headers = header_map(&tapped.headers);
        let body = body_of(tapped);
        let verdict = match &body {
            // By the moment of sending: what is read late is not too old for that.
            Some(body) => {
                let verifier = self.secrets.of(tapped, &self.client, output).await;
                judge(&headers, body, verifier, sent_at)
            }
            None => SignatureVerdict::Unknown(format!("{} bytes are too many", tapped.body_bytes)),
        };
        let knows_secret = !matches!(verdict, SignatureVerdict::Unknown(_));
        let answer = self.answer(tapped, headers, body.clone()).await;
        let line = Line {
            at: sent_at,
            event_type: &tapped.event_type,
            org_id: tapped.org_id.as_str(),
            delivery: &tapped.delivery_id.to_string(),
            attempt: Some(tapped.attempt),
            verdict: &verdict,
            answer: &answer,
        };
        print(&line, output)?;
        if self.arguments.verbose {
            print_whole(&tapped.headers, body.as_deref().unwrap_or_default(), output)?;
        }
        self.is_fine &=
            (!knows_secret || verdict == SignatureVerdict::Valid) && answer.is_success();
        let sequence = tapped.sequence;
        Ok(match answer {
            Answer::Chosen(status) => CopyAnswer::answered(sequence, status, 0),
            Answer::Forwarded(status, took) => CopyAnswer::answered(sequence, status, millis(took)),
            Answer::Unanswered(why, took) => CopyAnswer::unanswered(sequence, why, millis(took)),
        })
    }

    async fn answer(
        &self,
        tapped: &DeliveryCopy,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Answer {
        if !self.arguments.delay.is_zero() {
            self.seam.clock.sleep(self.arguments.delay).await;
        }
        let Some(to) = &self.arguments.forward else {
            return Answer::Chosen(self.arguments.status);
        };
        let Some(body) = body else {
            let why = "its body is too large to be copied".to_owned();
            return Answer::Unanswered(why, Duration::ZERO);
        };
        let mut url = to.clone();
        let query = Url::parse(&tapped.url).ok().and_then(|url| url.query().map(str::to_owned));
        add_query(&mut url, query.as_deref());
        let method = Method::from_bytes(tapped.method.as_bytes()).unwrap_or(Method::POST);
        let began = self.seam.clock.instant();
        match self.out.send(method, &url, headers, body, FORWARD_LIMIT).await {
            Ok(answer) => Answer::Forwarded(answer.status.as_u16(), began.elapsed()),
            Err(failed) => Answer::Unanswered(failed.to_string(), began.elapsed()),
        }
    }

    /// Tells the server what was answered. That is for others to see, and no reason to end.
    async fn report(&self, id: ListenerId, answers: Vec<CopyAnswer>, output: &mut Output) {
        if answers.is_empty() {
            return;
        }
        if let Err(error) = self.client.tell_answers(id, &answers).await {
            output.message(format_args!("the answers could not be reported: {}", words(&error)));
        }
    }
}

/// Shows the server that somebody still listens, until that is refused for good.
async fn keep_alive(client: &Client, clock: &Clock, id: ListenerId, cursor: &str) -> Error {
    loop {
        clock.sleep(SHOW_EVERY).await;
        // What else fails is told when the next page is read.
        if let Err(error) = client.listened(id, Some(cursor), Duration::ZERO).await
            && error.status() == Some(StatusCode::UNAUTHORIZED)
        {
            return error;
        }
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// The secrets by which signatures are checked: those that were given, else those of the extension as
/// far as the token may read them.
struct Secrets {
    given: Option<Verifier>,
    /// By extension; nothing where the token may not read it.
    fetched: HashMap<ExtensionKey, Option<Verifier>>,
}

impl Secrets {
    async fn of(
        &mut self,
        tapped: &DeliveryCopy,
        client: &Client,
        output: &mut Output,
    ) -> Option<&Verifier> {
        if self.given.is_some() {
            return self.given.as_ref();
        }
        let key = tapped.extension_key.clone()?;
        let is_asked = self.fetched.contains_key(&key);
        if !is_asked {
            let fetched = match client.signing_secret(&key).await {
                Ok(answer) => verifier_of(answer.secret.expose()),
                Err(error) => {
                    let why = words(&error);
                    output.message(format_args!("the secret of {key} cannot be read: {why}"));
                    None
                }
            };
            self.fetched.insert(key.clone(), fetched);
        }
        self.fetched.get(&key).and_then(Option::as_ref)
    }
}

fn verifier_of(text: &str) -> Option<Verifier> {
    let secret: SigningSecret = signing_secret(text).ok()?;
    Verifier::new([&secret], []).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn the_query_of_the_delivery_follows_that_of_the_local_address() {
        for (to, query, joined) in [
            ("http://127.0.0.1:1/a", Some("orgId=1&x=%20"), "http://127.0.0.1:1/a?orgId=1&x=%20"),
            ("http://127.0.0.1:1/a?b=c", Some("orgId=1"), "http://127.0.0.1:1/a?b=c&orgId=1"),
            ("http://127.0.0.1:1/a?b=c", None, "http://127.0.0.1:1/a?b=c"),
        ] {
            let mut url = Url::parse(to).expect("a URL");
            add_query(&mut url, query);
            assert_eq!(url.as_str(), joined);
        }
    }

    /// A server that answers one request after the other, and counts them.
    async fn server(answers: [&'static str; 3]) -> (Client, Arc<AtomicU32>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 4_096];
                let length = stream.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(request.contains("cursor=c") && request.contains("waitSeconds=0"));
                counted.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer.split_once('|').expect("status|body");
                let text = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(text.as_bytes()).await.expect("it is read");
            }
        });
        let http = crate::egress::api_client(None).expect("a client");
        let client = Client::builder(&base, "t").expect("an address").http_client(http);
        (client.retries(Retries::NONE).build().expect("a client"), asked)
    }

    #[tokio::test]
    async fn a_listener_is_kept_while_a_slow_local_server_works() {
        let page = r#"200 OK|{"data":[],"nextCursor":"c","missed":0,"dropped":0}"#;
        let (client, asked) =
            server([page, "503 Service Unavailable|{}", "401 Unauthorized|{}"]).await;
        let clock = Clock::default();
        let kept = keep_alive(&client, &clock, ListenerId(uuid::Uuid::nil()), "c");
        let minutes = async {
            for minute in 1..=3 {
                // Whoever sleeps begins to do so after the last answer.
                while asked.load(Ordering::SeqCst) < minute {
                    clock.advance(SHOW_EVERY);
                    tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>())
                        .await
                        .ok();
                }
            }
        };
        let (ended, ()) = tokio::join!(kept, minutes);
        assert_eq!(ended.status(), Some(StatusCode::UNAUTHORIZED), "{ended}");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "what passes ends nothing");
    }
}
