//! Spans as the OpenTelemetry Protocol has them in JSON (`ExportTraceServiceRequest`): ids in
//! hexadecimal digits, 64-bit numbers as texts.

use serde_json::{Value, json};

use super::traces::{Attribute, Span, SpanKind};

/// The path of traces below a collector's address.
pub const PATH: &str = "v1/traces";

/// A request with these spans of one process.
pub fn request(instance: &str, spans: &[Span]) -> Value {
    let resource = [
        ("service.name", "mortise"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    let resource = resource.map(|(name, text)| attribute(name, &Attribute::Text(text.to_owned())));
    let scope = json!({ "name": "mortise", "version": env!("CARGO_PKG_VERSION") });
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn span(span: &Span) -> Value {
    let nanoseconds = |micros: i64| (i128::from(micros) * 1_000).to_string();
    let attributes: Vec<Value> =
        span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut written = json!({
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": match span.kind { SpanKind::Server => 2, SpanKind::Client => 3 },
        "startTimeUnixNano": nanoseconds(span.began.micros()),
        "endTimeUnixNano": nanoseconds(span.ended.micros()),
        "attributes": attributes,
        "status": match &span.error {
            Some(error) => json!({ "code": 2, "message": error }),
            None => json!({}),
        },
    });
    if let Some(parent) = &span.parent_id {
        written["parentSpanId"] = parent.as_str().into();
    }
    written
}

fn attribute(name: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": name, "value": value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Timestamp;

    #[test]
    fn a_request_is_as_the_protocol_has_it() {
        let one = Span {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            parent_id: None,
            name: "deliver".to_owned(),
            kind: SpanKind::Client,
            began: Timestamp::from_micros(1_700_000_000_000_001),
            ended: Timestamp::from_micros(1_700_000_000_000_002),
            attributes: vec![("http.response.status_code", Attribute::Number(503))],
            error: Some("503".to_owned()),
        };
        let request = request("node-1", &[one]);
        let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(
            span,
            &json!({
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "spanId": "00f067aa0ba902b7",
                "name": "deliver",
                "kind": 3,
                "startTimeUnixNano": "1700000000000001000",
                "endTimeUnixNano": "1700000000000002000",
                "attributes": [
                    { "key": "http.response.status_code", "value": { "intValue": "503" } },
                ],
                "status": { "code": 2, "message": "503" },
            })
        );
        let resource = &request["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(resource[0]["value"]["stringValue"], "mortise");
        assert_eq!(resource[2]["value"]["stringValue"], "node-1");
    }
}
