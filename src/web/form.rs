//! What a form sends.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::multipart;

/// How many fields a form may have: a rule with the most conditions has four for each.
const MOST_FIELDS: usize = 1_000;

/// The fields of a form, in their order, and its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    pub(super) fields: Vec<(String, String)>,
    pub(super) files: Vec<File>,
}

/// A file that somebody chose.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// The field of the form.
    pub(super) field: String,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

/// A body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The form could not be read. Go back and send it again.")]
pub(super) struct Unreadable;

impl Form {
    /// Reads a body by its content type.
    pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Unreadable> {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or("application/x-www-form-urlencoded");
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let form = if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let fields: Vec<_> = url::form_urlencoded::parse(body)
                .take(MOST_FIELDS + 1)
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            Self { fields, files: Vec::new() }
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            multipart::read(kind, body, MOST_FIELDS + 1).ok_or(Unreadable)?
        } else {
            return Err(Unreadable);
        };
        let count = form.fields.len() + form.files.len();
        if count > MOST_FIELDS { Err(Unreadable) } else { Ok(form) }
    }

    /// The value of a field, without spaces around it; empty where it was not sent.
    pub(super) fn text(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map_or("", |(_, value)| value.trim())
    }

    /// The values of a field that may be there several times.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.trim())
    }

    /// The value of a field of several lines, whose ends browsers send as CR LF.
    pub(super) fn lines(&self, name: &str) -> String {
        self.text(name).replace("\r\n", "\n").replace('\r', "\n")
    }

    /// Whether a field was sent, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// The value of a field; nothing where it is empty.
    pub(super) fn filled(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether a box is ticked.
    pub(super) fn is_ticked(&self, name: &str) -> bool {
        !self.text(name).is_empty()
    }

    /// A file that is not empty.
    pub(super) fn file(&self, name: &str) -> Option<&Bytes> {
        let file = self.files.iter().find(|file| file.field == name && !file.bytes.is_empty());
        file.map(|file| &file.bytes)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn fields_are_read_and_other_bodies_refused() {
        let mut headers = HeaderMap::new();
        let body = Bytes::from_static(b"a=1&b=%3Cx%3E+y&a=2&empty=+");
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
        );
        let form = Form::read(&headers, &body).unwrap();
        assert_eq!((form.text("a"), form.text("b"), form.text("c")), ("1", "<x> y", ""));
        assert_eq!(form.filled("empty"), None);
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert!(form.has("empty") && !form.has("c"));
        let many = Bytes::from("a=1&".repeat(MOST_FIELDS + 5));
        assert!(Form::read(&headers, &many).is_err());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(Form::read(&headers, &body).is_err());
    }
}
