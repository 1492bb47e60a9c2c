//! What the API refused of a form, shown at the fields that it is about.

use std::fmt::Write as _;

use askama::Template;
use askama::filters::HtmlSafe;
use http::StatusCode;
use serde_json::Value;

use super::trouble::Trouble;
use super::visit::Answered;

/// How many faults are listed.
const LISTED: usize = 50;

/// The fields of a form: the JSON pointer of what each is in the API, and its label.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// What is wrong with what a form sent.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    fields: Fields,
    /// What was refused as a whole; empty where nothing was.
    pub(super) summary: String,
    all: Vec<(String, String)>,
}

/// A fault as the head of a form lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The field to go to; empty where there is none.
    pub(super) id: String,
    pub(super) label: String,
    pub(super) message: String,
}

/// What is wrong with one field, below it.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"{% if !messages.is_empty() %}<p class="fault" id="{{ id }}-fault">{% for message in messages %}{{ message }}{% if !loop.last %}<br>{% endif %}{% endfor %}</p>{% endif %}"#,
    ext = "html"
)]
pub(super) struct Told {
    id: String,
    messages: Vec<String>,
}

impl HtmlSafe for Told {}

/// The attributes of a field that something is wrong with.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"{% if is_wrong %} aria-invalid="true" aria-describedby="{{ id }}-fault"{% endif %}"#,
    ext = "html"
)]
pub(super) struct Mark {
    id: String,
    is_wrong: bool,
}

impl HtmlSafe for Mark {}

/// The id of a field in a page.
pub(super) fn id_of(pointer: &str) -> String {
    let mut id = String::with_capacity(pointer.len());
    for letter in pointer.trim_start_matches('/').chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') {
            id.push(letter);
        } else if letter == '/' {
            id.push('-');
        } else {
            // Writing to a text never fails. Ids have no spaces, and two names stay two.
            let _infallible = write!(id, ".{:x}", u32::from(letter));
        }
    }
    id
}

/// Whether a pointer is another one, or below it.
fn is_within(pointer: &str, other: &str) -> bool {
    pointer.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Faults {
    /// None yet, of a form with these fields.
    pub(super) fn none(fields: Fields) -> Self {
        Self { fields, summary: String::new(), all: Vec::new() }
    }

    /// What the API refused of what was sent. `below` is where the form's document stands in the
    /// request. What is not about the form is a trouble.
    pub(super) fn of(fields: Fields, answered: Answered, below: &str) -> Result<Self, Trouble> {
        let text = |name: &str| answered.json.get(name).and_then(Value::as_str).unwrap_or_default();
        let is_about_it = match answered.status {
            StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::FORBIDDEN => text("errorCode") == "LICENSE_ACCESS_LIMITED",
            _ => false,
        };
        if !is_about_it {
            return Err(Trouble::refused(answered.status, answered.json));
        }
        let mut faults = Self::none(fields);
        let errors = answered.json.get("errors").and_then(Value::as_array);
        for error in errors.into_iter().flatten().take(LISTED) {
            let part = |name: &str| error.get(name).and_then(Value::as_str);
            let Some(message) = part("errorMessage") else { continue };
            let pointer = part("fieldName").unwrap_or_default();
            let pointer = pointer.strip_prefix(below).unwrap_or(pointer);
            let message = match part("suggestion") {
                Some(nearest) => format!("{message} (did you mean {nearest}?)"),
                None => message.to_owned(),
            };
            // Of several about one field the first says what to do.
            if !faults.all.iter().any(|(place, _)| place == pointer) {
                faults.add(pointer, message);
            }
        }
        if faults.all.is_empty() {
            text("detail").clone_into(&mut faults.summary);
            if faults.summary.is_empty() {
                text("title").clone_into(&mut faults.summary);
            }
        }
        Ok(faults)
    }

    /// Adds one that a page found by itself.
    pub(super) fn add(&mut self, pointer: &str, message: impl Into<String>) {
        self.all.push((pointer.to_owned(), message.into()));
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.summary.is_empty()
    }

    /// What is said before everything else.
    pub(super) fn head(&self) -> String {
        match self.all.len() {
            _ if !self.summary.is_empty() => self.summary.clone(),
            1 => "Nothing was saved: one thing has to be put right.".to_owned(),
            many => format!("Nothing was saved: {many} things have to be put right."),
        }
    }

    /// All of them, with the field to go to.
    pub(super) fn listed(&self) -> Vec<Listed> {
        let field_of = |pointer: &str| {
            let known = self.fields.iter().filter(|(known, _)| is_within(pointer, known));
            known.max_by_key(|(known, _)| known.len())
        };
        self.all
            .iter()
            .map(|(pointer, message)| match field_of(pointer) {
                Some((known, label)) => {
                    let rest = pointer.get(known.len()..).unwrap_or_default();
                    let rest = rest.trim_start_matches('/').replace('/', " ");
                    let label = if rest.is_empty() {
                        (*label).to_owned()
                    } else {
                        format!("{label} {rest}")
                    };
                    Listed { id: id_of(known), label, message: message.clone() }
                }
                None => Listed {
                    id: String::new(),
                    label: pointer.trim_start_matches('/').to_owned(),
                    message: message.clone(),
                },
            })
            .collect()
    }

    fn of_field(&self, pointer: &str) -> Vec<String> {
        let own = self.all.iter().filter(|(place, _)| is_within(place, pointer));
        own.map(|(_, message)| message.clone()).collect()
    }

    /// What is wrong with a field, or with what is below it.
    pub(super) fn at(&self, pointer: &str) -> Told {
        Told { id: id_of(pointer), messages: self.of_field(pointer) }
    }

    /// What is wrong with a field itself, where what is below it says so by itself.
    pub(super) fn only(&self, pointer: &str) -> Told {
        let own = self.all.iter().filter(|(place, _)| place == pointer);
        Told { id: id_of(pointer), messages: own.map(|(_, message)| message.clone()).collect() }
    }

    /// The attributes of a field.
    pub(super) fn mark(&self, pointer: &str) -> Mark {
        Mark { id: id_of(pointer), is_wrong: !self.of_field(pointer).is_empty() }
    }

    /// Whether something is wrong with a field, or with what is below it.
    pub(super) fn has(&self, pointer: &str) -> bool {
        !self.of_field(pointer).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: Fields = &[("/url", "Address"), ("/subscriptions", "Events")];

    fn refused(status: u16, json: Value) -> Result<Faults, Trouble> {
        let status = StatusCode::from_u16(status).unwrap();
        Faults::of(FIELDS, Answered { status, json }, "/webhook")
    }

    #[test]
    fn faults_stand_at_their_fields() {
        let faults = refused(
            422,
            json!({ "detail": "all of it", "errors": [
                { "fieldName": "/webhook/url", "errorMessage": "must be <b>" },
                { "fieldName": "/subscriptions/A/fields", "errorMessage": "too many", "suggestion": "B" },
                { "fieldName": "/other", "errorMessage": "what" },
            ] }),
        )
        .unwrap();
        assert!(!faults.is_empty() && faults.head().contains("3 things"));
        let told = faults.at("/url").to_string();
        assert!(
            told.contains("id=\"url-fault\"") && told.contains("must be &#60;b&#62;"),
            "{told}"
        );
        assert!(faults.mark("/url").to_string().contains("aria-describedby=\"url-fault\""));
        assert!(faults.at("/ur").to_string().is_empty());
        assert!(faults.only("/subscriptions").to_string().is_empty());
        assert!(faults.at("/subscriptions/A").to_string().contains("too many"));
        assert!(faults.has("/subscriptions/A") && !faults.has("/subscriptions/B"));
        let listed = faults.listed();
        assert_eq!((listed[0].id.as_str(), listed[0].label.as_str()), ("url", "Address"));
        assert_eq!(listed[1].label, "Events A fields");
        assert!(listed[1].message.contains("did you mean B?"));
        assert_eq!((listed[2].id.as_str(), listed[2].label.as_str()), ("", "other"));
    }

    #[test]
    fn what_is_not_about_the_form_is_a_trouble() {
        assert!(refused(404, json!({})).is_err());
        assert!(refused(403, json!({ "errorCode": "FORBIDDEN" })).is_err());
        let limited =
            json!({ "errorCode": "LICENSE_ACCESS_LIMITED", "detail": "The plan is full." });
        assert_eq!(refused(403, limited).unwrap().head(), "The plan is full.");
    }

    #[test]
    fn ids_have_no_spaces_and_stay_apart() {
        assert_eq!(id_of("/authentication/tokenUrl"), "authentication-tokenUrl");
        assert_eq!(id_of("/subscriptions/Device Online"), "subscriptions-Device.20Online");
    }
}
