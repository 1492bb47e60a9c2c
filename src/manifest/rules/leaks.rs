//! Secrets that were pasted into the sources of an extension, where every user can read them.

use std::sync::LazyLock;

use regex::Regex;

use super::super::code;
use super::super::diagnostic::{Finding, Reporter, Severity};
use super::super::json::{Place, Span, shown_path};
use super::super::position::Positions;
use super::super::source::{MANIFEST_FILE, RESOURCES_FILE};
use super::Package;

/// The most that are told of one file.
const MOST_IN_A_FILE: usize = 20;
/// A secret of the manifest that is shorter may stand in a source by chance.
const SHORTEST_OWN_SECRET: usize = 8;

/// Secrets that can be told by their shape alone. The engine takes linear time.
const SHAPES: [(&str, &str); 9] = [
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    ("an access key of AWS", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("an API key of Google", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a token of GitHub", r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{50})"),
    ("a token of Slack", r"\bxox[abeoprs]-[0-9A-Za-z-]{10,72}"),
    ("a live key of Stripe", r"\b[rs]k_live_[0-9A-Za-z]{16,99}"),
    ("a token of Zoho", r"\b1000\.[0-9a-f]{32}\.[0-9a-f]{32}\b"),
    (
        "a token of Twilio or SendGrid",
        r"\b(?:SK[0-9a-f]{32}|SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43})\b",
    ),
    ("a webhook secret", r"\bwhsec_[0-9A-Za-z+/=]{24,88}"),
];

#[expect(
    clippy::expect_used,
    reason = "the patterns are part of the program; a test compiles them"
)]
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compile = |(what, pattern): (&'static str, &str)| {
        (what, Regex::new(pattern).expect("a pattern compiles"))
    };
    SHAPES.into_iter().map(compile).collect()
});

pub(super) fn check(package: &Package<'_>, reporter: &mut Reporter) {
    if !package.source.has_files {
        return;
    }
    let root = package.manifest.map(super::super::json::Document::cursor);
    let own = root.as_ref().and_then(|root| root.text_of("secret"));
    let own = own.filter(|secret| secret.len() >= SHORTEST_OWN_SECRET);
    for (file, content) in &package.source.files {
        let sources = file != MANIFEST_FILE && file != RESOURCES_FILE;
        let text = content.content.as_deref().filter(|_| sources).map(std::str::from_utf8);
        let Some(Ok(text)) = text else { continue };
        let (found, left_out) = find(text, own);
        if found.is_empty() {
            continue;
        }
        reporter.leave_out(Severity::Warning, left_out);
        let positions = Positions::new(text);
        for (span, what) in found {
            let place = Place { file: shown_path(file), pointer: String::new(), span: Some(span) };
            let message = format!("this looks like {what}, and every user can read it");
            let hint = "remove it, replace it where it is used, and keep it in a secure parameter";
            let finding = Finding::warning(code::SECRET_IN_SOURCE, place, message).suggest(hint);
            reporter.report_at(Some(&positions), finding);
        }
    }
}

/// Where the first secrets stand and what they are, and how many more there are.
fn find(text: &str, own: Option<&str>) -> (Vec<(Span, &'static str)>, usize) {
    let (mut found, mut count) = (Vec::new(), 0);
    let mut keep = |what: &'static str, spans: &mut dyn Iterator<Item = (usize, usize)>| {
        for (position, (start, length)) in spans.enumerate() {
            count += 1;
            if position < MOST_IN_A_FILE {
                found.push((Span { start, end: start + length }, what));
            }
        }
    };
    for (what, pattern) in PATTERNS.iter() {
        keep(what, &mut pattern.find_iter(text).map(|found| (found.start(), found.len())));
    }
    if let Some(own) = own {
        let mut places = text.match_indices(own).map(|(at, _)| (at, own.len()));
        keep("the manifest's `secret`", &mut places);
    }
    found.sort_by_key(|(span, _)| span.start);
    found.truncate(MOST_IN_A_FILE);
    let left_out = count - found.len();
    (found, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together here, so that scanners of this repository stay quiet.
    fn pasted(parts: &[&str]) -> String {
        parts.concat()
    }

    #[test]
    fn secrets_are_known_by_their_shape() {
        for (secret, what) in [
            (pasted(&["-----BEGIN RSA ", "PRIVATE KEY-----"]), "a private key"),
            (pasted(&["AKIA", "IOSFODNN7EXAMPLE"]), "an access key of AWS"),
            (pasted(&["AIza", &"x".repeat(35)]), "an API key of Google"),
            (pasted(&["ghp_", &"a1".repeat(18)]), "a token of GitHub"),
            (pasted(&["xoxb-", "1234567890-abc"]), "a token of Slack"),
            (pasted(&["sk_live_", &"a1".repeat(12)]), "a live key of Stripe"),
            (pasted(&["1000.", &"0".repeat(32), ".", &"f".repeat(32)]), "a token of Zoho"),
            (pasted(&["whsec_", &"Ab".repeat(16)]), "a webhook secret"),
        ] {
            let text = format!("let key = \"{secret}\";");
            let (found, _) = find(&text, None);
            assert_eq!(found.len(), 1, "{secret}");
            assert_eq!((found[0].0.start, found[0].1), (11, what));
        }
        assert!(
            find("const token = input.value; // sk_live_… goes to the server", None).0.is_empty()
        );
    }

    #[test]
    fn the_manifests_own_secret_is_found_anywhere() {
        let (found, _) = find("x = 'correct horse battery'", Some("correct horse battery"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.start, 5);
        let (found, left_out) = find(&"own secret, ".repeat(50), Some("own secret"));
        assert_eq!((found.len(), left_out), (20, 30));
    }
}
