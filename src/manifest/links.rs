//! Rules about URLs: of webhooks and callbacks strict, elsewhere lenient.

use url::Url;

use super::{
    diagnostic::{Severity, shown},
    findings::Findings,
    policy::{HostVerdict, Policy},
    position::Part,
};

/// Where a URL stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'static str,
    pub(crate) pointer: &'a str,
}

/// The codes of a kind of link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes {
    /// The text is no absolute URL of a scheme that is allowed.
    pub(crate) invalid: &'static str,
    /// The host can't be public.
    pub(crate) host: &'static str,
}

/// A URL that the program itself will call: absolute https (http too where the policy says so),
/// and a host that may be public.
pub(crate) fn called(
    findings: &mut Findings<'_>,
    policy: &Policy,
    place: Place<'_>,
    codes: Codes,
    text: &str,
) {
    let schemes: &[&str] = if policy.require_https { &["https"] } else { &["https", "http"] };
    let Some(url) = absolute(text, schemes) else {
        let wanted = schemes.join(" or ");
        let message = format!("{} is not an absolute {wanted} URL", shown(text));
        findings
            .report(codes.invalid, Severity::Error, place.file, place.pointer, Part::Value, message)
            .suggest("write it as https://host/path");
        return;
    };
    vet(findings, policy, place, codes.host, Severity::Error, &url);
}

/// A URL that a browser or the vendor's own code will call: of one of the schemes; placeholders
/// (`{{name}}`) may stand in it, and its host is no more than a warning.
pub(crate) fn named(
    findings: &mut Findings<'_>,
    policy: &Policy,
    place: Place<'_>,
    codes: Codes,
    schemes: &[&str],
    text: &str,
) {
    // A host that is made up later can't be judged now; only the scheme can.
    let (candidate, has_placeholder) = without_placeholders(text);
    let Some(url) = absolute(&candidate, schemes) else {
        let wanted = schemes.join(", ");
        let message = format!("{} is not an absolute URL of the scheme {wanted}", shown(text));
        findings
            .report(codes.invalid, Severity::Error, place.file, place.pointer, Part::Value, message)
            .suggest("write it with its scheme, as in https://host");
        return;
    };
    if !has_placeholder {
        vet(findings, policy, place, codes.host, Severity::Warning, &url);
    }
}

fn vet(
    findings: &mut Findings<'_>,
    policy: &Policy,
    place: Place<'_>,
    code: &'static str,
    severity: Severity,
    url: &Url,
) {
    let Some(host) = url.host() else { return };
    let port = url.port_or_known_default().unwrap_or(443);
    if let HostVerdict::NotPublic { reason } = (policy.host_vetting)(&host, port) {
        let message =
            format!("the host {} can't be reached from here: {reason}", shown(&host.to_string()));
        findings
            .report(code, severity, place.file, place.pointer, Part::Value, message)
            .suggest("name a host that is public");
    }
}

/// A URL with its scheme and its host written out. The URL standard would repair `https:host` and
/// trim blanks; a package has to say what it means.
fn absolute(text: &str, schemes: &[&str]) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let allowed = schemes.iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed));
    let plain = !rest.starts_with(['/', '\\']) && !text.contains(char::is_control);
    if !allowed || !plain || text.trim() != text {
        return None;
    }
    Url::parse(text).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
}

/// The text with a word in the place of each `{{name}}`, and whether there was any.
fn without_placeholders(text: &str) -> (String, bool) {
    let mut plain = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((_, behind)) = after.split_once("}}") else { break };
        plain.push_str(before);
        plain.push_str("placeholder");
        rest = behind;
        found = true;
    }
    plain.push_str(rest);
    (plain, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_out_is_absolute() {
        for text in ["https://a.example", "HTTPS://a.example/x?y=1#z", "https://[2606:4700::1]:1/"]
        {
            assert!(absolute(text, &["https"]).is_some(), "{text}");
        }
        for text in [
            "",
            "nope",
            "/x",
            "//a.example",
            "https:a.example",
            "https://",
            "https:///a.example",
            " https://a.example",
            "https://a.example\n",
            "https://a b",
            "http://a.example",
            "ftp://a.example",
            "javascript://a.example",
        ] {
            assert!(absolute(text, &["https"]).is_none(), "{text}");
        }
    }

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(
            without_placeholders("https://{{a}}.x/{{b}}"),
            ("https://placeholder.x/placeholder".to_owned(), true)
        );
        assert_eq!(without_placeholders("https://{{a"), ("https://{{a".to_owned(), false));
    }
}
