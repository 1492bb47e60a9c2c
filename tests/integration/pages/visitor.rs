//! A browser without JavaScript: keeps its cookie, follows forms, and holds every page to what is
//! promised of all of them.

use regex::Regex;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::server::TestServer;

/// Somebody with a session.
#[derive(Clone, Debug)]
pub(crate) struct Visitor<'s> {
    server: &'s TestServer,
    pub(crate) cookie: String,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub(crate) struct PageForm {
    pub(crate) method: String,
    pub(crate) action: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// A text of HTML as it was before it was escaped.
pub(crate) fn unescaped(text: &str) -> String {
    text.replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

fn attribute(tag: &str, name: &str) -> String {
    let pattern = Regex::new(&format!(r#"\s{name}="([^"]*)""#)).expect("a pattern");
    pattern.captures(tag).map(|found| unescaped(&found[1])).unwrap_or_default()
}

/// Whether an input would be sent as it stands: a box or a choice only where it is ticked.
fn is_sent(tag: &str) -> bool {
    let is_choice = ["checkbox", "radio"].contains(&attribute(tag, "type").as_str());
    !is_choice || tag.contains(" checked")
}

/// The forms of a page, with what their inputs would send if nobody touched them.
pub(crate) fn forms(html: &str) -> Vec<PageForm> {
    let form = Regex::new(r"(?s)(<form[^>]*>)(.*?)</form>").expect("a pattern");
    let input = Regex::new(r"<input[^>]*>").expect("a pattern");
    form.captures_iter(html)
        .map(|found| PageForm {
            method: attribute(&found[1], "method"),
            action: attribute(&found[1], "action"),
            fields: input
                .find_iter(&found[2])
                .filter(|tag| is_sent(tag.as_str()))
                .map(|tag| (attribute(tag.as_str(), "name"), attribute(tag.as_str(), "value")))
                .filter(|(name, _)| !name.is_empty())
                .collect(),
        })
        .collect()
}

impl<'s> Visitor<'s> {
    /// Somebody whom the operator opens the pages for.
    pub(crate) async fn invited(server: &'s TestServer, request: Value) -> Self {
        let answer = server.client.post("/api/v1/portal-links", &server.operator, &request).await;
        let url = answer.expect(201).text_of("url");
        let path = url.strip_prefix(&server.client.url("")).expect("a link to this server");
        Self::by_link(server, path).await
    }

    /// Uses a link.
    pub(crate) async fn by_link(server: &'s TestServer, path: &str) -> Self {
        let nobody = Self { server, cookie: String::new() };
        let entered = nobody.send(path, &[]).await.expect(303);
        assert_eq!(entered.header("location"), "/pages");
        Self { server, cookie: cookie_of(&entered) }
    }

    pub(crate) async fn admin(server: &'s TestServer, org: &str) -> Self {
        let request = json!({ "role": "admin", "orgId": org, "subject": "ada" });
        Self::invited(server, request).await
    }

    pub(crate) async fn viewer(server: &'s TestServer, org: &str) -> Self {
        let request = json!({ "role": "viewer", "orgId": org, "subject": "vera" });
        Self::invited(server, request).await
    }

    pub(crate) async fn vendor(server: &'s TestServer, vendor: &str) -> Self {
        let request = json!({ "role": "vendor", "vendor": vendor, "subject": "vic" });
        Self::invited(server, request).await
    }

    pub(crate) async fn operator(server: &'s TestServer) -> Self {
        Self::invited(server, json!({ "role": "operator", "subject": "otto" })).await
    }

    /// Somebody without a session.
    pub(crate) fn nobody(server: &'s TestServer) -> Self {
        Self { server, cookie: String::new() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.server.client.request(method, path, "");
        let request = request.header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        if self.cookie.is_empty() { request } else { request.header("cookie", &self.cookie) }
    }

    /// Asks for a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let answer = self.server.client.send(self.request(Method::GET, path)).await;
        keeps_promises(&answer, path);
        answer
    }

    /// Sends a form as it is given, from a page of the server.
    pub(crate) async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = self.server.client.url("");
        self.send_from(Some(&origin), path, fields).await
    }

    /// Sends a form from a page of another server, or one that does not say.
    pub(crate) async fn send_from(
        &self,
        origin: Option<&str>,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.finish());
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        let answer = self.server.client.send(request).await;
        keeps_promises(&answer, path);
        answer
    }

    /// Sends a form with a file in it, from a page of the server.
    pub(crate) async fn send_file(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        (file_name, bytes): (&str, &[u8]),
    ) -> Answer {
        const BETWEEN: &str = "a-line-that-stands-nowhere-else";
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!(
                "--{BETWEEN}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BETWEEN}\r\nContent-Disposition: form-data; name=\"package\"; \
             filename=\"{file_name}\"\r\nContent-Type: application/zip\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(format!("\r\n--{BETWEEN}--\r\n").as_bytes());
        let request = self
            .request(Method::POST, path)
            .header("content-type", format!("multipart/form-data; boundary={BETWEEN}"))
            .header("origin", self.server.client.url(""))
            .body(body);
        let answer = self.server.client.send(request).await;
        keeps_promises(&answer, path);
        answer
    }

    /// The token that forms of this session carry.
    pub(crate) async fn form_token(&self) -> String {
        let page = self.get("/pages").await.expect(200);
        let form = forms(&page.text).into_iter().find(|form| form.action == "/sign-out");
        let form = form.expect("a way out");
        form.fields.into_iter().find(|(name, _)| name == "csrf").expect("a token").1
    }

    /// Sends a form of a page, with other values in some fields.
    pub(crate) async fn submit(
        &self,
        page: &str,
        action: &str,
        changes: &[(&str, &str)],
    ) -> Answer {
        let html = self.get(page).await.expect(200).text;
        let all = forms(&html);
        let form = all
            .iter()
            .find(|form| form.action == action && form.method == "post")
            .unwrap_or_else(|| panic!("no form {action} on {page}: {all:?}"));
        let mut fields = form.fields.clone();
        for (name, value) in changes {
            fields.retain(|(field, _)| field != name);
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send(action, &fields).await
    }

    /// Sends a form of a page, and follows where it leads.
    pub(crate) async fn act(&self, page: &str, action: &str, changes: &[(&str, &str)]) -> Answer {
        let answer = self.submit(page, action, changes).await;
        if answer.status != 303 {
            return answer;
        }
        self.get(answer.header("location")).await
    }
}

/// The cookie that an answer sets, as it is sent back.
pub(crate) fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

/// What every page has, errors too: a policy without anything inline, and no other way around it.
fn keeps_promises(answer: &Answer, path: &str) {
    if path.starts_with("/assets/") {
        return;
    }
    assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    let policy = answer.header("content-security-policy");
    for part in [
        "default-src 'none';",
        "script-src 'self';",
        "style-src 'self';",
        "base-uri 'none';",
        "form-action 'self';",
    ] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    // One header for browsers of today, one for the others: both, or somebody is named.
    let is_closed = policy.ends_with("frame-ancestors 'none'");
    assert!(is_closed || policy.contains("frame-ancestors https://"), "{path}: {policy}");
    let closed = if is_closed { "DENY" } else { "" };
    assert_eq!(answer.header("x-frame-options"), closed, "{path}");
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
    assert!(!answer.text.to_lowercase().contains("href=\"javascript:"), "{path}");
    // What stands in quotes is no name of an attribute.
    let quoted = Regex::new(r#""[^"]*""#).expect("a pattern");
    let bare = quoted.replace_all(&answer.text, "\"\"");
    let inline = Regex::new(r"(?i)<style|<[^>]*\s(style|on[a-z]+)\s*=").expect("a pattern");
    assert!(!inline.is_match(&bare), "{path}: {:?}", inline.find(&bare));
    let scripts = answer.text.matches("<script").count();
    let ours = answer.text.matches("<script type=\"module\" src=\"/assets/pages-").count();
    assert_eq!(scripts, ours, "{path}");
}
