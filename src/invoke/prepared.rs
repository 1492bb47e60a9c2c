//! From the fields of a believed call to what is sent: placeholders filled in, rules kept, target
//! known. Pure.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::IgnoredAny;
use serde_json::Value;
use url::Url;

use super::error::InvokeError;
use super::headers::{object, outgoing, plain};
use super::placeholders::{Filling, Place};
use super::request::InvokeRequest;
use super::target::{LONGEST_URL, Reach, ReadUrl, Target, read_url};
use crate::crypto::SecretText;

/// The methods that a call may have (reference).
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The header by which the host knows the org.
const ORG_ID: HeaderName = HeaderName::from_static("orgid");

/// Why a call that names another org is refused.
const OTHER_ORG: &str = "names another org in orgId than the installation's";

/// The longest path that is recorded, in characters.
const LONGEST_PATH: usize = 300;

/// Where a call is aimed at, before anything is decided about it: what its record says.
pub(super) struct Aimed {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The path as it was written, for the record: no value of a placeholder, no query.
    pub(super) path: String,
}

/// A call that is ready to be made.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Secrets that were filled in, to be masked in the answer.
    pub(super) secrets: Vec<SecretText>,
}

/// Reads where a call is to go.
pub(super) fn aim(
    request: &InvokeRequest,
    reach: &Reach,
    filling: &mut Filling<'_>,
) -> Result<Aimed, InvokeError> {
    let method = METHODS
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(&request.request_type))
        .ok_or_else(|| {
            InvokeError::invalid("requestType", "must be GET, POST, PUT, PATCH or DELETE")
        })?;
    let ReadUrl { url, path } = read_url(&request.request_url, reach.api_base.as_ref(), filling)?;
    Ok(Aimed { method, url, path: recorded(&path) })
}

/// Prepares a call of an installation.
pub(super) fn prepare(
    request: &InvokeRequest,
    aimed: Aimed,
    org_id: &str,
    reach: &Reach,
    mut filling: Filling<'_>,
) -> Result<Prepared, InvokeError> {
    let Aimed { method, mut url, .. } = aimed;
    let target = reach.classify(&url, &request.connection_link_name)?;
    let is_host = reach.api_base.as_ref().is_some_and(|origin| origin.contains(&url));
    if is_host {
        check_org("requestURL", url.query().unwrap_or_default(), org_id)?;
    }
    // What this server itself would keep, the extension could read.
    filling.allow_secrets(target != Target::Own);
    add_query(&mut url, &request.query_params, &mut filling)?;
    let mut headers = outgoing(&request.headers, &mut filling)?;
    let body = body(&request.post_body, &mut headers, &mut filling)?;
    if is_host {
        check_org("queryParams", url.query().unwrap_or_default(), org_id)?;
        if place_of(&headers) == Place::Form {
            // Some servers make no difference between parameters of the query and of a form.
            check_org("postBody", &String::from_utf8_lossy(&body), org_id)?;
        }
        set_org(&mut headers, org_id)?;
    }
    // Coded otherwise, a secret that comes back would not be found.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(Prepared { method, url, target, headers, body, secrets: filling.secrets() })
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
    let place = place_of(headers);
    let filled = filling
        .fill(text, place, true)
        .map_err(|fault| InvokeError::placeholder("postBody", &fault))?;
    Ok(Bytes::from(filled.into_owned()))
}

/// What a body is, by its `Content-Type`.
fn place_of(headers: &HeaderMap) -> Place {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default();
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
        return Err(InvokeError::invalid("headers", OTHER_ORG));
    }
    let value =
        HeaderValue::from_bytes(org_id.as_bytes()).map_err(|_| InvokeError::Unreadable("org"))?;
    headers.insert(ORG_ID, value);
    Ok(())
}

/// The host knows the org by parameters too: none but the installation's may stand there, in whatever
/// spelling. Some servers take a `;` between parameters.
fn check_org(field: &'static str, parameters: &str, org_id: &str) -> Result<(), InvokeError> {
    let is_other = parameters.split(['&', ';']).any(|pair| {
        url::form_urlencoded::parse(pair.as_bytes()).any(|(name, value)| {
            name.trim().eq_ignore_ascii_case(ORG_ID.as_str()) && value != org_id
        })
    });
    if is_other {
        return Err(InvokeError::invalid(field, OTHER_ORG));
    }
    Ok(())
}

/// A path as it is recorded; where it is longer, it says so.
fn recorded(path: &str) -> String {
    match path.char_indices().nth(LONGEST_PATH) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::placeholders::{Value as Filled, Values};
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
                service: "zlabs_integration".to_owned(),
                origins: vec![base],
                is_operators: true,
            }),
            connectors: Vec::new(),
            listed: vec!["https://mirror.example".parse().expect("an origin")],
        };
        let request = serde_json::from_value(fields).expect("a request");
        let mut filling = Filling::new(&values, false);
        let aimed = aim(&request, &reach, &mut filling)?;
        prepare(&request, aimed, "60001", &reach, filling)
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
        assert_eq!(prepared.headers["accept-encoding"], "identity");
    }

    #[test]
    fn a_long_path_is_recorded_as_cut() {
        assert_eq!(recorded("/a/{{id}}"), "/a/{{id}}");
        let whole = format!("/{}", "ä".repeat(LONGEST_PATH - 1));
        assert_eq!(recorded(&whole), whole);
        assert_eq!(recorded(&format!("{whole}b")), format!("{whole}…"));
    }

    #[test]
    fn no_spelling_of_another_org_goes_to_the_host() {
        let call = |url: &str, query: &str| {
            prepared(serde_json::json!({
                "requestURL": url, "requestType": "GET", "queryParams": query,
            }))
        };
        for query in [
            "orgId=60002",
            "orgid=60002",
            "ORGID=60002",
            "a=b&%6FrgId=60002",
            "orgId=60001&orgId=60002",
            "org%49d=",
            "orgId",
            "+orgId=60002",
            "a=b;orgId=60002",
            "orgId=600{{id}}",
        ] {
            let refused = call(&format!("/api/v1/tickets?{query}"), "").err();
            assert!(
                matches!(refused, Some(InvokeError::Invalid { field: "requestURL", .. })),
                "{query}"
            );
        }
        for query in
            ["{\"orgId\":60002}", "{\"ORGID\":[60001,\"60002\"]}", "{\" orgid\":\"{{id}}\"}"]
        {
            let refused = call("/api/v1/tickets", query).err();
            assert!(
                matches!(refused, Some(InvokeError::Invalid { field: "queryParams", .. })),
                "{query}"
            );
        }
        let form = |body: &str, media_type: &str| {
            prepared(serde_json::json!({
                "requestURL": "/api/v1/tickets", "requestType": "POST", "postBody": body,
                "headers": serde_json::json!({ "content-type": media_type }).to_string(),
            }))
        };
        let media_type = "Application/X-WWW-form-urlencoded; charset=utf-8";
        let refused = form("a=b&OrgId=60002", media_type).err();
        assert!(matches!(refused, Some(InvokeError::Invalid { field: "postBody", .. })));
        assert!(form("a=b&orgId=60001", media_type).is_ok());
        assert!(form("{\"note\":\"a&orgId=60002\"}", "application/json").is_ok());
        // Its own it may name, and others are told what the vendor likes.
        assert!(call("/api/v1/tickets?orgId=60001", "{\"orgid\":60001}").is_ok());
        assert!(call("https://mirror.example/x?orgId=60002", "{\"orgId\":60002}").is_ok());
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
