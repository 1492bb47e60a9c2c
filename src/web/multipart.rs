//! `multipart/form-data` (RFC 7578) of a body that is there as a whole: what browsers send, and no
//! more of the format than that.

use bytes::Bytes;

use super::form::{File, Form};

/// The longest head of a part, in bytes.
const LONGEST_HEAD: usize = 2_048;

/// The longest value that is not a file, in bytes.
const LONGEST_VALUE: usize = 1 << 20;

/// Where a pattern begins.
fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let (first, rest) = pattern.split_first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| byte == first)?;
        if text.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        let after = after.trim_start();
        let (key, text) = after.split_once('=')?;
        let text = text.trim_start();
        let (found, left) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => text.split_at(text.find(';').unwrap_or(text.len())),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(found.trim().to_owned());
        }
        rest = left;
    }
    None
}

/// Reads up to so many parts; nothing where it is not what it says.
pub(super) fn read(content_type: &str, body: &Bytes, most: usize) -> Option<Form> {
    let boundary = parameter(content_type, "boundary")?;
    if !(1..=70).contains(&boundary.len()) {
        return None;
    }
    let opening = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut form = Form::default();
    let mut at = find(body, opening.as_bytes())? + opening.len();
    for _ in 0..most {
        let rest = body.get(at..)?;
        if rest.starts_with(b"--") {
            return Some(form);
        }
        let rest = rest.strip_prefix(b"\r\n")?;
        let head_length = find(&rest[..rest.len().min(LONGEST_HEAD)], b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_length]).ok()?;
        let content = at + 2 + head_length + 4;
        let length = find(body.get(content..)?, between.as_bytes())?;
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        })?;
        let field = parameter(disposition, "name")?;
        let bytes = body.slice(content..content + length);
        if parameter(disposition, "filename").is_some() {
            form.files.push(File { field, bytes });
        } else {
            if bytes.len() > LONGEST_VALUE {
                return None;
            }
            form.fields.push((field, String::from_utf8(bytes.to_vec()).ok()?));
        }
        at = content + length + between.len();
    }
    Some(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"--x\"";

    fn body(text: &str) -> Bytes {
        Bytes::from(text.replace('\n', "\r\n"))
    }

    #[test]
    fn fields_and_files_are_told_apart() {
        let form = read(
            TYPE,
            &body(
                "----x\nContent-Disposition: form-data; name=\"a;b\"\n\none\ntwo\n----x\nContent-Type: \
                 application/zip\nContent-Disposition: form-data; name=file; \
                 filename=\"p.zip\"\n\n\u{1}\n--\n----x--\n",
            ),
            10,
        )
        .unwrap();
        assert_eq!(form.fields, [("a;b".to_owned(), "one\r\ntwo".to_owned())]);
        assert_eq!(form.files[0].field, "file");
        assert_eq!(form.files[0].bytes, "\u{1}\r\n--");
    }

    #[test]
    fn what_is_cut_off_or_odd_is_refused_without_a_panic() {
        let whole = "----x\nContent-Disposition: form-data; name=\"a\"\n\none\n----x--\n";
        let bytes = body(whole);
        assert!(read(TYPE, &bytes, 10).is_some());
        for end in 0..bytes.len() - 4 {
            assert!(read(TYPE, &bytes.slice(..end), 10).is_none(), "{end}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=y",
        ] {
            assert!(read(kind, &bytes, 10).is_none(), "{kind}");
        }
        let headless = body("----x\nX: y\n\none\n----x--\n");
        assert!(read(TYPE, &headless, 10).is_none());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut text = b"----x\r\nContent-Disposition: form-data; name=a\r\n\r\n".to_vec();
            text.extend(&bytes);
            let _form = read(TYPE, &Bytes::from(text), 5);
            let _form = read(TYPE, &Bytes::from(bytes), 5);
        }
    }
}
