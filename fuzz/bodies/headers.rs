//! Any lines as custom headers: what is accepted is as many headers as were given, none of them
//! Mortise's own and none with a second line in it.

use mortise::webhook::header_rules;

/// One input: a name and a value on each line, with a colon between them.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs: Vec<(String, String)> = text
        .split('\u{1}')
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for is_https in [true, false] {
        let Ok(checked) = header_rules::check(&pairs, is_https) else { continue };
        assert!(is_https || pairs.is_empty());
        assert_eq!(checked.headers.len(), pairs.len());
        for (name, value) in &checked.headers {
            let name = name.as_str();
            assert!(!["host", "content-length", "content-type", "connection"].contains(&name));
            assert!(!name.starts_with("x-zendesk") && !name.starts_with("webhook-"), "{name}");
            assert!(value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)), "{value:?}");
        }
    }
}
