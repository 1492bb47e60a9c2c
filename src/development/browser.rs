//! A browser that plays an administrator: it keeps cookies, follows no redirect by itself and
//! answers the consent page of the development authorisation server.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use url::Url;

use super::DevelopmentError;

/// The most bytes of a page that are read.
const PAGE_LIMIT: usize = 4 << 20;
/// The most redirects of one walk.
const REDIRECTS: usize = 10;

/// What is answered to the question for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

/// An answer as the browser sees it.
#[derive(Clone, Debug)]
pub struct Page {
    /// The address that answered.
    pub url: Url,
    /// The status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<Url>,
    /// The body.
    pub body: String,
}

/// What the provider sends back through the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderAnswer {
    /// The whole address that the browser was sent to.
    pub redirect: Url,
    /// The code, where consent was given.
    pub code: Option<String>,
    /// The state, as it was sent.
    pub state: Option<String>,
    /// The issuer, where the provider says it.
    pub iss: Option<String>,
    /// The error, where consent was refused.
    pub error: Option<String>,
}

/// A browser with its cookies.
#[derive(Clone, Debug)]
pub struct Browser {
    client: reqwest::Client,
    /// By host and name; ports share cookies, as they do in a browser.
    cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    /// A browser without cookies.
    #[expect(clippy::disallowed_methods, reason = "it calls development servers, not the world")]
    pub fn new() -> Result<Self, DevelopmentError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .map_err(|error| DevelopmentError::Request { url: "nowhere yet".to_owned(), error })?;
        Ok(Self { client, cookies: BTreeMap::new() })
    }

    /// Opens an address.
    pub async fn open(&mut self, url: &Url) -> Result<Page, DevelopmentError> {
        let request = self.client.get(url.clone());
        self.send(url, request).await
    }

    /// Sends a form.
    pub async fn submit(
        &mut self,
        url: &Url,
        fields: &[(&str, &str)],
    ) -> Result<Page, DevelopmentError> {
        let request = self.client.post(url.clone()).form(fields);
        self.send(url, request).await
    }

    /// Opens an authorisation address and answers the question for consent; what the provider
    /// sends back is not followed.
    pub async fn consent(
        &mut self,
        authorization_url: &str,
        decision: Decision,
    ) -> Result<ProviderAnswer, DevelopmentError> {
        let url = parse(authorization_url)?;
        let page = self.open(&url).await?;
        let answered = self.answer_consent(page, decision).await?;
        let redirect = answered
            .location
            .ok_or_else(|| unexpected(&url, format!("status {}, no redirect", answered.status)))?;
        Ok(provider_answer(redirect))
    }

    /// Walks from any address over all redirects and the consent page to the page at the end.
    pub async fn walk(
        &mut self,
        start: &str,
        decision: Decision,
    ) -> Result<Page, DevelopmentError> {
        let mut page = self.open(&parse(start)?).await?;
        for _ in 0..REDIRECTS {
            page = match page.location.clone() {
                Some(next) => self.open(&next).await?,
                None if ticket_of(&page.body).is_some() => {
                    self.answer_consent(page, decision).await?
                }
                None => return Ok(page),
            };
        }
        Err(unexpected(&page.url, "too many redirects".to_owned()))
    }

    /// Whether the browser keeps a cookie of this name for the host.
    pub fn has_cookie(&self, host: &str, name: &str) -> bool {
        self.cookies.contains_key(&(host.to_owned(), name.to_owned()))
    }

    async fn answer_consent(
        &mut self,
        page: Page,
        decision: Decision,
    ) -> Result<Page, DevelopmentError> {
        if page.location.is_some() {
            return Ok(page);
        }
        let Some(ticket) = ticket_of(&page.body) else {
            let problem = format!("status {}, neither consent page nor redirect", page.status);
            return Err(unexpected(&page.url, problem));
        };
        let form = page
            .url
            .join("/decision")
            .map_err(|_| unexpected(&page.url, "its form has no address".to_owned()))?;
        self.submit(&form, &[("ticket", &ticket), ("decision", decision.word())]).await
    }

    async fn send(
        &mut self,
        url: &Url,
        request: reqwest::RequestBuilder,
    ) -> Result<Page, DevelopmentError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|((of, _), _)| *of == host)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let request =
            if cookies.is_empty() { request } else { request.header(COOKIE, cookies.join("; ")) };
        let failed = |error: reqwest::Error| DevelopmentError::Request {
            url: shown(url),
            error: error.without_url(),
        };
        let mut response = request.send().await.map_err(failed)?;
        for value in response.headers().get_all(SET_COOKIE) {
            self.keep_cookie(&host, &String::from_utf8_lossy(value.as_bytes()));
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|text| url.join(text).ok());
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > PAGE_LIMIT {
                return Err(unexpected(url, format!("the page is larger than {PAGE_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Page { url: url.clone(), status, location, body })
    }

    /// Keeps a cookie, or forgets it where its time is over at once.
    fn keep_cookie(&mut self, host: &str, header: &str) {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let key = (host.to_owned(), name.to_owned());
        let ends = parts.any(|attribute| {
            attribute.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("max-age")
                    && value.parse::<i64>().is_ok_and(|seconds| seconds <= 0)
            })
        });
        if ends {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.to_owned());
        }
    }
}

fn provider_answer(redirect: Url) -> ProviderAnswer {
    let value = |wanted: &str| {
        redirect.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let (code, state, iss, error) = (value("code"), value("state"), value("iss"), value("error"));
    ProviderAnswer { redirect, code, state, iss, error }
}

/// The ticket that the form of the consent page carries.
fn ticket_of(html: &str) -> Option<String> {
    let (_, rest) = html.split_once("name=\"ticket\" value=\"")?;
    rest.split_once('"').map(|(ticket, _)| ticket.to_owned())
}

fn parse(text: &str) -> Result<Url, DevelopmentError> {
    Url::parse(text).map_err(|error| DevelopmentError::Unexpected {
        url: text.split('?').next().unwrap_or_default().to_owned(),
        problem: error.to_string(),
    })
}

fn unexpected(url: &Url, problem: String) -> DevelopmentError {
    DevelopmentError::Unexpected { url: shown(url), problem }
}

/// Codes and states stand in queries and belong in no message.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}
