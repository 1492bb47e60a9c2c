//! From the fields of a believed call to what is sent: placeholders filled in, rules kept, target
//! known. Pure.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::IgnoredAny;
use serde_json::Value;
use url::Url;

use super::error::InvokeError;
use super::headers::{object, outgoing, plain};
use super::placeholders::{Filling, Place, Values};
use super::request::InvokeRequest;
use super::target::{LONGEST_URL, Reach, Target, read_url};
use crate::crypto::SecretText;

/// The methods that a call may have (reference).
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The header by which the host knows the org.
const ORG_ID: HeaderName = HeaderName::from_static("orgid");

/// The longest path that is recorded, in characters.
const LONGEST_PATH: usize = 300;

/// A call that is ready to be made.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Secrets that were filled in, to be masked in the answer.
    pub(super) secrets: Vec<SecretText>,
    /// The path as it was written, for the record: no value of a placeholder, no query.
    pub(super) path: String,
}

/// Prepares a call of an installation.
pub(super) fn prepare(
    request: &InvokeRequest,
    org_id: &str,
    reach: &Reach,
    values: &Values,
) -> Result<Prepared, InvokeError> {
    let method = METHODS
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(&request.request_type))
        .ok_or_else(|| {
            InvokeError::invalid("requestType", "must be GET, POST, PUT, PATCH or DELETE")
        })?;
    let mut filling = Filling::new(values, false);
    let mut url = read_url(&request.request_url, reach.api_base.as_ref(), &mut filling)?;
    let target = reach.classify(&url, &request.connection_link_name)?;
    // What this server itself would keep, the extension could read.
    filling.allow_secrets(target != Target::Own);
    add_query(&mut url, &request.query_params, &mut filling)?;
    let mut headers = outgoing(&request.headers, &mut filling)?;
    let body = body(&request.post_body, &mut headers, &mut filling)?;
    if reach.api_base.as_ref().is_some_and(|origin| origin.contains(&url)) {
        set_org(&mut headers, org_id)?;
    }
    let path = written_path(&request.request_url);
    Ok(Prepared { method, url, target, headers, body, secrets: filling.used, path })
}

fn add_query(url: &mut Url, text: &str, filling: &mut Filling<'_>) -> Result<(), InvokeError> {
    let rule = "must be a JSON object whose values are texts, numbers, switches or lists of them";
    let refused = || InvokeError::invalid("queryParams", rule);
    let object = object(text).ok_or_else(refused)?;
    let mut pairs = Vec::new();
    for (name, value) in &object {
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values {
            let value = plain(value).ok_or_else(refused)?;
            let value = filling
                .fill(&value, Place::Plain, false)
                .map_err(|fault| InvokeError::placeholder("queryParams", &fault))?;
            pairs.push((name, value.into_owned()));
        }
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    if url.as_str().len() > LONGEST_URL {
        let rule = format!("make the URL longer than {LONGEST_URL} bytes");
        return Err(InvokeError::invalid("queryParams", rule));
    }
    Ok(())
}

/// The body, with values escaped as its type asks for. A body without a type gets one.
fn body(
    text: &str,
    headers: &mut HeaderMap,
    filling: &mut Filling<'_>,
) -> Result<Bytes, InvokeError> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    if !headers.contains_key(CONTENT_TYPE) {
        let is_json = text.trim_start().starts_with(['{', '['])
            && serde_json::from_str::<IgnoredAny>(text).is_ok();
        let name = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let place = place_of(media_type.unwrap_or_default());
    let filled = filling
        .fill(text, place, true)
        .map_err(|fault| InvokeError::placeholder("postBody", &fault))?;
    Ok(Bytes::from(filled.into_owned()))
}

fn place_of(media_type: &str) -> Place {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-www-form-urlencoded" => Place::Form,
        json if json.ends_with("/json") || json.ends_with("+json") => Place::Json,
        xml if xml.ends_with("/xml") || xml.ends_with("+xml") => Place::Xml,
        "text/html" => Place::Xml,
        _ => Place::Plain,
    }
}

/// The host is told the installation's org, whatever the call says.
fn set_org(headers: &mut HeaderMap, org_id: &str) -> Result<(), InvokeError> {
    let is_other = headers.get(ORG_ID).is_some_and(|given| given.as_bytes() != org_id.as_bytes());
    if is_other {
        let rule = "names another org in orgId than the installation's";
        return Err(InvokeError::invalid("headers", rule));
    }
    let value =
        HeaderValue::from_bytes(org_id.as_bytes()).map_err(|_| InvokeError::Unreadable("org"))?;
    headers.insert(ORG_ID, value);
    Ok(())
}

fn written_path(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => text,
    };
    path.chars().filter(|c| !c.is_control()).take(LONGEST_PATH).collect()
}

#[cfg(test)]
mod tests {
    use super::super::placeholders::Value as Filled;
    use super::super::target::DeclaredConnection;
    use super::*;

    fn prepared(fields: serde_json::Value) -> Result<Prepared, InvokeError> {
        let mut values = Values::default();
        values.add("id", Filled::Open("7".to_owned()));
        values.add("quote", Filled::Open("a\"&b".to_owned()));
        values.add("token", Filled::Secret(SecretText::new("s3cret-value")));
        let base: crate::config::Origin = "https://desk.example".parse().expect("an origin");
        let reach = Reach {
            api_base: Some(base.clone()),
            host: Some(DeclaredConnection {
                name: "zohoAuthorisation".to_owned(),
                link_name: None,
                origins: vec![base],
                is_operators: true,
            }),
            connectors: Vec::new(),
            listed: vec!["https://mirror.example".parse().expect("an origin")],
        };
        let request = serde_json::from_value(fields).expect("a request");
        prepare(&request, "60001", &reach, &values)
    }

    fn field_of(fields: serde_json::Value) -> &'static str {
        match prepared(fields) {
            Err(InvokeError::Invalid { field, .. }) => field,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn everything_comes_together() {
        let prepared = prepared(serde_json::json!({
            "requestURL": "https://mirror.example/a/{{id}}?x=1",
            "requestType": "post",
            "queryParams": "{\"q\":\"{{quote}}\",\"n\":5,\"l\":[\"a\",\"b\"]}",
            "headers": "{\"X-Key\":\"{{token}}\"}",
            "postBody": "{\"q\":\"{{quote}}\",\"other\":\"{{unknown}}\"}",
        }))
        .expect("it is fine");
        assert_eq!(prepared.method, Method::POST);
        assert_eq!(prepared.url.as_str(), "https://mirror.example/a/7?x=1&l=a&l=b&n=5&q=a%22%26b");
        assert_eq!(prepared.target, Target::Listed);
        assert_eq!(prepared.headers["x-key"], "s3cret-value");
        assert_eq!(prepared.headers["content-type"], "application/json");
        assert!(!prepared.headers.contains_key("orgid"));
        assert_eq!(&prepared.body[..], br#"{"q":"a\"&b","other":"{{unknown}}"}"#);
        assert_eq!(prepared.secrets.len(), 1);
        assert_eq!(prepared.path, "/a/{{id}}");
    }

    #[test]
    fn the_host_is_told_the_org_of_the_installation() {
        let call = |headers: &str| {
            prepared(serde_json::json!({
                "requestURL": "/api/v1/tickets", "requestType": "GET", "headers": headers,
            }))
        };
        assert_eq!(call("").expect("it is fine").headers["orgid"], "60001");
        assert_eq!(call("{\"orgId\":60001}").expect("it is fine").headers["orgid"], "60001");
        assert!(call("{\"orgId\":\"60002\"}").is_err());
    }

    #[test]
    fn each_field_has_its_rule() {
        for (field, value) in [
            ("requestType", "TRACE"),
            ("requestType", "CONNECT"),
            ("requestType", ""),
            ("requestURL", "tickets"),
            ("requestURL", "/x/{{token}}"),
            ("requestURL", "/x/{{nobody}}"),
            ("queryParams", "[]"),
            ("queryParams", "{\"a\":{}}"),
            ("queryParams", "{\"a\":\"{{nobody}}\"}"),
            ("headers", "{\"Host\":\"x\"}"),
        ] {
            let mut fields = serde_json::json!({ "requestURL": "/x", "requestType": "GET" });
            fields[field] = value.into();
            assert_eq!(field_of(fields), field, "{value}");
        }
    }

    #[test]
    fn no_secret_goes_where_the_extension_could_read_it() {
        for (field, value) in [
            ("postBody", "{\"variables\":[{\"name\":\"a\",\"value\":\"{{token}}\"}]}"),
            ("queryParams", "{\"key\":\"{{token}}\"}"),
        ] {
            let mut fields = serde_json::json!({
                "requestURL": "/api/v1/installedExtensions/1/configParams", "requestType": "POST",
            });
            fields[field] = value.into();
            assert_eq!(field_of(fields), field);
        }
    }

    #[test]
    fn bodies_are_escaped_as_their_type_asks_for() {
        for (media_type, wanted) in [
            ("application/json; charset=utf-8", "[a\\\"&b]"),
            ("application/vnd.x+json", "[a\\\"&b]"),
            ("application/x-www-form-urlencoded", "[a%22%26b]"),
            ("text/xml", "[a&quot;&amp;b]"),
            ("text/plain", "[a\"&b]"),
        ] {
            let prepared = prepared(serde_json::json!({
                "requestURL": "/x", "requestType": "PUT", "postBody": "[{{quote}}]",
                "headers": serde_json::json!({ "Content-Type": media_type }).to_string(),
            }))
            .expect("it is fine");
            assert_eq!(prepared.body, wanted, "{media_type}");
        }
    }
}
