//! Any fields of a call through invoke: no two requests that are taken have the same `HASH`.

use mortise::crypto::SecretText;
use mortise::invoke::InvokeRequest;

const NAMES: [&str; 6] =
    ["requestURL", "requestType", "queryParams", "postBody", "headers", "connectionLinkName"];

/// One input: the fields, with the byte 1 between them.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\u{1}').map(str::to_owned);
    let fields: [String; 6] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let request = request(fields.clone());
    let canonical = request.canonical();
    // Whoever reads the text back, first come, first served, finds other fields or the same ones.
    let read = request_of(&canonical);
    let other = self::request(read.clone());
    if request.check_unambiguous().is_ok()
        && other.check_unambiguous().is_ok()
        && other.canonical() == canonical
    {
        assert_eq!(read, fields);
    }
}

fn request([url, kind, query, body, headers, connection]: [String; 6]) -> InvokeRequest {
    InvokeRequest {
        security_context: SecretText::new(""),
        request_url: url,
        request_type: kind,
        query_params: query,
        post_body: body,
        headers,
        connection_link_name: connection,
    }
}

fn request_of(canonical: &str) -> [String; 6] {
    let mut fields: [String; 6] = std::array::from_fn(|_| String::new());
    let mut rest = canonical;
    for (index, name) in NAMES.iter().enumerate() {
        let Some(value) = rest.strip_prefix(&format!("{name}=")) else { continue };
        let end =
            NAMES[index + 1..].iter().filter_map(|later| value.find(&format!("&{later}="))).min();
        value[..end.unwrap_or(value.len())].clone_into(&mut fields[index]);
        rest = end.map_or("", |end| &value[end + 1..]);
    }
    fields
}
