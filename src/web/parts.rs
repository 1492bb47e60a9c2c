//! Small parts of pages that write themselves: read from the API's answers as they are, shown as
//! HTML with everything escaped.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::words;
use crate::seam::Timestamp;

/// A value, or its default where the API says null.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A moment. Shown in UTC, and by the script in the reader's zone; the exact one is in its title.
#[derive(Clone, Debug, Default, Template)]
#[template(
    source = r#"{% if exact.is_empty() %}<span class="none" title="never">–</span>{% else %}<time datetime="{{ exact }}" title="{{ exact }}">{{ text }}</time>{% endif %}"#,
    ext = "html"
)]
pub(super) struct Moment {
    exact: String,
    text: String,
}

impl HtmlSafe for Moment {}

impl Moment {
    /// A moment from its RFC 3339 form; none from anything else.
    pub(super) fn parse(text: &str) -> Self {
        let Some(moment) = Timestamp::parse_rfc3339(text) else { return Self::default() };
        let exact = moment.rfc3339();
        let text = match (exact.get(..10), exact.get(11..19)) {
            (Some(day), Some(time)) => format!("{day} {time} UTC"),
            _ => exact.clone(),
        };
        Self { exact, text }
    }

    /// Whether there is one.
    pub(super) fn is_known(&self) -> bool {
        !self.exact.is_empty()
    }

    /// The moment itself.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(&self.exact)
    }

    /// Its RFC 3339 form; empty where there is none.
    pub(super) fn exact(&self) -> &str {
        &self.exact
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&Option::<String>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// A state, as a word with a colour.
#[derive(Clone, Debug, Default, Template)]
#[template(
    source = r#"<span class="state state-{{ self.tone() }}">{{ self.label() }}</span>"#,
    ext = "html"
)]
pub(super) struct State {
    name: String,
}

impl HtmlSafe for State {}

impl State {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    fn tone(&self) -> &'static str {
        words::state(&self.name).map_or(words::Tone::Plain, |(_, tone)| tone).name()
    }

    fn label(&self) -> &str {
        words::state(&self.name).map_or(&self.name, |(label, _)| label)
    }

    /// Whether it is this one.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { name: Option::<String>::deserialize(deserializer)?.unwrap_or_default() })
    }
}

/// A text that people want to take elsewhere, with a button for it.
#[derive(Clone, Debug, Default, Template)]
#[template(
    source = r#"<span class="copy"><code>{{ text }}</code><button type="button" class="copy-button" data-copy="{{ text }}" hidden aria-label="Copy {{ what }}">Copy</button></span>"#,
    ext = "html"
)]
pub(super) struct Copy {
    text: String,
    what: &'static str,
}

impl HtmlSafe for Copy {}

impl Copy {
    pub(super) fn new(text: impl Into<String>, what: &'static str) -> Self {
        Self { text: text.into(), what }
    }
}

/// A text, or a dash where there is none. Escaped where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(Option<String>);

impl Text {
    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    pub(super) fn or_text<'t>(&'t self, other: &'t str) -> &'t str {
        self.0.as_deref().unwrap_or(other)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_deref().unwrap_or("–"))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(text.filter(|text| !text.is_empty())))
    }
}

/// A document, indented for people.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A text of JSON, indented for people with everything in its order; any other text as it is.
pub(super) fn pretty_text(text: &str) -> String {
    let is_document = text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_document { indented(text) } else { text.to_owned() }
}

/// A text that is known to be JSON, with a line for each member and entry.
fn indented(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut letters = text.chars().filter(|letter| !letter.is_control()).peekable();
    let line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        // Deeper ones stay below each other: their spaces would be longer than what they say.
        shown.extend(std::iter::repeat_n("  ", depth.min(32)));
    };
    while let Some(letter) = letters.next() {
        if in_text {
            shown.push(letter);
            in_text = is_escaped || letter != '"';
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            ' ' => {}
            '"' => {
                in_text = true;
                shown.push(letter);
            }
            '{' | '[' => {
                shown.push(letter);
                while letters.next_if_eq(&' ').is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    shown.push(end);
                } else {
                    depth += 1;
                    line(&mut shown, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut shown, depth);
                shown.push(letter);
            }
            ',' => {
                shown.push(letter);
                line(&mut shown, depth);
            }
            ':' => shown.push_str(": "),
            other => shown.push(other),
        }
    }
    shown
}

/// A share as people read it.
pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        // What was never wrong is 100 %, and what was wrong once is not.
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.1} %", (share * 1_000.0).floor() / 10.0),
    }
}

/// A number with what is counted, for one and for others.
pub(super) fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A duration as people read it.
pub(super) fn duration(millis: f64) -> String {
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else if millis < 1_000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.1} s", millis / 1_000.0)
    }
}

/// An entry of a list to choose from.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// A list to choose from: values with their labels.
pub(super) fn choices(all: &[(&str, &str)], chosen: &str) -> Vec<Choice> {
    all.iter()
        .map(|(value, label)| Choice {
            value: (*value).to_owned(),
            label: (*label).to_owned(),
            is_chosen: *value == chosen,
        })
        .collect()
}

/// A number that is counted up to a bound.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Count {
    count: i64,
    or_more: bool,
}

impl Count {
    pub(super) fn is_any(self) -> bool {
        self.count > 0
    }

    /// Whether there are more than are shown.
    pub(super) fn is_more_than(self, shown: usize) -> bool {
        usize::try_from(self.count).is_ok_and(|count| count > shown)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.or_more { "+" } else { "" };
        write!(formatter, "{}{more}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_them_parts_are_escaped() {
        let hostile = r#""><script>alert(1)</script>"#;
        for html in [
            State::new(hostile).to_string(),
            Copy::new(hostile, "it").to_string(),
            Moment { exact: hostile.to_owned(), text: hostile.to_owned() }.to_string(),
        ] {
            assert!(!html.contains("<script"), "{html}");
            assert!(html.contains("&#34;&#62;&#60;script"), "{html}");
        }
        assert!(!Moment::parse(hostile).is_known());
    }

    #[test]
    fn documents_keep_their_order_and_what_stands_in_texts() {
        let text = r#"[{"z":"a, {b} \"c\" : d","a":[],"n":1.50,"o":{ },"l":[1,2]}]"#;
        let shown = pretty_text(text);
        assert_eq!(
            shown,
            "[\n  {\n    \"z\": \"a, {b} \\\"c\\\" : d\",\n    \"a\": [],\n    \"n\": 1.50,\n    \
             \"o\": {},\n    \"l\": [\n      1,\n      2\n    ]\n  }\n]"
        );
        let same: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(same, serde_json::from_str::<Value>(text).unwrap());
        for other in ["", "plain", "{\"a\":", "<b>", "12"] {
            assert_eq!(pretty_text(other), other);
        }
    }

    #[test]
    fn figures_are_not_rounded_up_to_what_they_are_not() {
        assert_eq!(percent(Some(0.999_99)), "99.9 %");
        assert_eq!(percent(Some(1.0)), "100 %");
        assert_eq!(percent(Some(0.0)), "0.0 %");
        assert_eq!(percent(None), "–");
        assert_eq!(counted(1, "attempt", "attempts"), "1 attempt");
        assert_eq!(counted(0, "attempt", "attempts"), "0 attempts");
        assert_eq!(duration(1.25), "1.2 ms");
        assert_eq!(duration(250.4), "250 ms");
        assert_eq!(duration(12_340.0), "12.3 s");
    }

    #[test]
    fn moments_are_shown_to_the_second_and_kept_exactly() {
        let moment = Moment::parse("2026-11-21T19:43:07.123456Z");
        let html = moment.to_string();
        assert!(html.contains("2026-11-21 19:43:07 UTC"), "{html}");
        assert!(html.contains(moment.exact()));
        assert!(Moment::default().to_string().contains('–'));
    }
}
