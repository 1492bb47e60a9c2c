//! Turns the bytes of a JSON file into text.

use super::code;
use super::json::Span;
use super::parse::Fault;

/// Turns the bytes of a file into text, or says where they stop being UTF-8.
pub(crate) fn decode(bytes: &[u8], largest: usize) -> Result<&str, Box<(String, Fault)>> {
    let fault = |offset: usize, code, message: String, suggestion: &str| {
        let good = bytes.get(..offset).unwrap_or_default();
        let before = String::from_utf8_lossy(good).into_owned();
        let span = Span { start: before.len(), end: before.len() + 1 };
        let suggestion = Some(suggestion.to_owned());
        let pointer = String::new();
        Box::new((before, Fault { code, span, pointer, message, suggestion, related: None }))
    };
    if bytes.len() > largest {
        let message =
            format!("the file is longer than {largest} bytes; nothing behind this is read");
        let start = (0..=largest).rev().find(|&at| bytes[at] & 0xC0 != 0x80).unwrap_or(0);
        return Err(fault(start, code::JSON_TOO_LARGE, message, "keep the file small"));
    }
    let wide = match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, ..] | [_, 0, 0, ..] => Some("UTF-32"),
        [0xFF, 0xFE, ..] | [_, 0, ..] => Some("UTF-16 (little-endian)"),
        [0xFE, 0xFF, ..] | [0, ..] => Some("UTF-16 (big-endian)"),
        _ => None,
    };
    if let Some(encoding) = wide {
        let message = format!("the file is {encoding}; JSON files must be UTF-8");
        return Err(fault(0, code::JSON_ENCODING, message, "save the file as UTF-8"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("the byte 0x{:02X} is not UTF-8", bytes[error.valid_up_to()]);
        fault(error.valid_up_to(), code::JSON_ENCODING, message, "save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_encodings_are_located() {
        let (before, fault) = *decode(b"{\"a\": \"\xE4\"}", 100).expect_err("Latin-1");
        assert_eq!((fault.code, fault.span.start), (code::JSON_ENCODING, 7));
        assert_eq!(before, "{\"a\": \"");
        for wide in [&b"\xFF\xFE{\0}\0"[..], b"\xFE\xFF\0{\0}", b"{\0}\0", b"\0{\0}"] {
            let (_, fault) = *decode(wide, 100).expect_err("UTF-16");
            assert_eq!((fault.code, fault.span.start), (code::JSON_ENCODING, 0));
        }
        for wide in [&b"\xFF\xFE\0\0{\0\0\0"[..], b"\0\0\0{", b"{\0\0\0"] {
            let (_, fault) = *decode(wide, 100).expect_err("UTF-32");
            assert!(fault.message.contains("UTF-32"), "{}", fault.message);
        }
        let (_, fault) = *decode("{\"aaaaä\"}".as_bytes(), 7).expect_err("too long");
        assert_eq!((fault.code, fault.span.start), (code::JSON_TOO_LARGE, 6));
    }
}
