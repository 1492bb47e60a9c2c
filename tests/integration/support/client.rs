//! A client of the API that holds every answer to what is promised of all of them.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Calls one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The body as text.
    pub(crate) text: String,
    /// The body as JSON; null where it is none.
    pub(crate) json: Value,
}

impl Answer {
    /// Holds it to a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Holds it to a refusal: status and `errorCode`.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.json["errorCode"], code, "{}", self.text);
        self
    }

    /// A member that is a text.
    #[track_caller]
    pub(crate) fn text_of(&self, member: &str) -> String {
        let text = self.json[member].as_str();
        text.unwrap_or_else(|| panic!("no text {member} in {}", self.text)).to_owned()
    }

    /// A header, empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The rows of a list.
    #[track_caller]
    pub(crate) fn data(&self) -> &Vec<Value> {
        self.json["data"].as_array().unwrap_or_else(|| panic!("no list: {}", self.text))
    }
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "a client of the server, not a call of it")]
    pub(crate) fn new(base: String) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("a client");
        Self { base, http }
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request as the holder of a token; without a header where it is empty.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        token: &str,
    ) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        if token.is_empty() {
            request
        } else {
            request.header(AUTHORIZATION, format!("Bearer {token}"))
        }
    }

    /// Sends a request and holds the answer to what is promised of every answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the server answers")
    }

    /// The same of a server that may be gone.
    pub(crate) async fn try_send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let status = response.status();
        let headers = response.headers().clone();
        let path = response.url().path().to_owned();
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        let answer = Answer { status: status.as_u16(), headers, text, json };
        answer.keeps_promises(status, &path);
        Ok(answer)
    }

    /// Calls a path with a JSON body, or none.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = self.request(method, path, token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, token, Some(body)).await
    }

    /// All rows of a list, page by page.
    pub(crate) async fn all(&self, path: &str, token: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let next = cursor.map_or(String::new(), |cursor| format!("{separator}cursor={cursor}"));
            let page = self.get(&format!("{path}{next}"), token).await.expect(200);
            rows.extend(page.data().iter().cloned());
            assert!(rows.len() < 10_000, "a list without end");
            match page.json["nextCursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return rows,
            }
        }
    }
}

impl Answer {
    /// A correlation id always, never a 500, and refusals of the API as problems.
    fn keeps_promises(&self, status: StatusCode, path: &str) {
        let id = self.header("x-correlation-id");
        assert!(!id.is_empty(), "{path}: no correlation id on {status}: {}", self.text);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {}", self.text);
        let is_page = self.header(CONTENT_TYPE.as_str()).starts_with("text/html");
        if (status.is_client_error() || status.is_server_error()) && !is_page {
            assert_eq!(self.header("content-type"), "application/problem+json", "{path}");
            if !self.text.is_empty() {
                assert_eq!(self.json["status"], status.as_u16(), "{path}: {}", self.text);
                assert_eq!(self.json["correlationId"], id, "{path}: {}", self.text);
                for member in ["type", "title", "detail", "errorCode", "message"] {
                    let text = self.json[member].as_str().unwrap_or_default();
                    assert!(!text.is_empty(), "{path}: no {member} in {}", self.text);
                }
            }
        }
    }
}
