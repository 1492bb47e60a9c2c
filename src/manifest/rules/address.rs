//! URLs and the hosts in them.

use url::Url;

use super::super::code;
use super::super::diagnostic::{Finding, Severity};
use super::super::json::{Cursor, shown};
use super::super::policy::{HostVerdict, Policy};

/// A URL that Mortise itself will call: absolute, https where that is required, with a host that
/// can be public.
pub(crate) fn check_callback(
    cursor: &Cursor<'_>,
    policy: &Policy,
    report: &mut impl FnMut(Finding),
) {
    let Some(text) = cursor.text().filter(|text| !text.is_empty()) else { return };
    let place = || cursor.at_value();
    let url = match absolute(text) {
        Ok(url) => url,
        Err(reason) => {
            let message = format!("`{}` is not an absolute URL: {reason}", shown(text));
            let hint = "write the whole address, such as `https://api.example.com/hooks`";
            report(Finding::error(code::URL_INVALID, place(), message).suggest(hint));
            return;
        }
    };
    match url.scheme() {
        "https" => {}
        "http" if !policy.require_https => {}
        scheme => {
            let message =
                format!("a URL that events are sent to must be https, not {}", shown(scheme));
            report(Finding::error(code::URL_SCHEME, place(), message).suggest("write `https://…`"));
            if scheme != "http" {
                return;
            }
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "the URL carries a user name or password, which is never sent";
        let hint = "verify the signature of what arrives instead";
        report(Finding::error(code::URL_CREDENTIALS, place(), message).suggest(hint));
    }
    check_host(cursor, &url, policy, Severity::Error, report);
    if url.fragment().is_some() {
        let message = "the part behind `#` is never sent";
        report(Finding::warning(code::URL_FRAGMENT, place(), message).suggest("remove it"));
    }
}

/// The query parameters that Mortise appends itself.
pub(crate) fn check_reserved_parameters(cursor: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(url) = cursor.text().and_then(|text| Url::parse(text).ok()) else { return };
    for reserved in ["orgId", "securityContext"] {
        if url.query_pairs().any(|(name, _)| name == reserved) {
            let message =
                format!("the parameter `{reserved}` is dropped: the real one is appended");
            report(
                Finding::warning(code::URL_RESERVED_PARAMETER, cursor.at_value(), message)
                    .suggest("remove it"),
            );
        }
    }
}

/// Tells where the host can't be called, as badly as the use of the URL makes it.
pub(crate) fn check_host(
    cursor: &Cursor<'_>,
    url: &Url,
    policy: &Policy,
    severity: Severity,
    report: &mut impl FnMut(Finding),
) {
    let Some(host) = url.host() else { return };
    let port = url.port_or_known_default().unwrap_or(443);
    let name = shown(&host.to_string());
    match (policy.host_vetting)(&host, port) {
        HostVerdict::Public => {}
        HostVerdict::Documentation => {
            let message =
                format!("`{name}` is a name for documentation; nobody can be reached there");
            let finding =
                Finding::warning(code::URL_DOCUMENTATION_HOST, cursor.at_value(), message);
            report(finding.suggest("replace it before you publish for real"));
        }
        HostVerdict::NotPublic { reason } => {
            let message = format!("the host `{name}` {reason}");
            let finding = Finding::error(code::URL_NOT_PUBLIC, cursor.at_value(), message);
            report(
                finding.severity(severity).suggest("use a host that the whole internet can reach"),
            );
        }
    }
}

/// Reads a URL that is written out in full. The URL Standard forgives missing slashes, blanks and
/// line breaks, which other programs read differently.
pub(crate) fn absolute(text: &str) -> Result<Url, String> {
    if let Some(odd) = text.chars().find(|odd| odd.is_control() || odd.is_whitespace()) {
        return Err(format!("it contains the character U+{:04X}", u32::from(odd)));
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let rest = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    if rest.is_none_or(|rest| rest.starts_with('/')) || text.contains('\\') {
        return Err("it must begin with a scheme and `://`".into());
    }
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err("it names no host".into());
    }
    // The URL Standard lets through what no name in the DNS can have.
    let odd = |odd: &char| !odd.is_ascii_alphanumeric() && !"-_.*[]:".contains(*odd);
    if let Some(odd) = host.chars().find(odd) {
        return Err(format!("its host contains `{}`", shown(&odd.to_string())));
    }
    Ok(url)
}

/// A text in which each `{{name}}` stands for the value of a parameter.
#[derive(Debug)]
pub(crate) struct Template<'t> {
    /// The names of the parameters.
    pub(crate) names: Vec<&'t str>,
    /// The text with a harmless word in place of each.
    pub(crate) filled: String,
    /// Whether the host holds one, so that it cannot be judged.
    pub(crate) open_host: bool,
}

impl<'t> Template<'t> {
    pub(crate) fn read(text: &'t str) -> Self {
        let (mut names, mut filled, mut rest) = (Vec::new(), String::new(), text);
        let host_end = text.find("://").map_or(text.len(), |at| {
            at + 3 + text[at + 3..].find(['/', '?', '#']).unwrap_or(text.len() - at - 3)
        });
        let mut open_host = false;
        while let Some(start) = rest.find("{{") {
            let Some(length) = rest[start..].find("}}") else { break };
            names.push(rest[start + 2..start + length].trim());
            open_host |= text.len() - rest.len() + start < host_end;
            filled.push_str(&rest[..start]);
            filled.push_str("placeholder");
            rest = &rest[start + length + 2..];
        }
        filled.push_str(rest);
        Self { names, filled, open_host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_in_full_are_absolute() {
        for good in ["https://a.example", "HTTPS://a.example/x?y#z", "wss://[2606::1]:8443/"] {
            assert!(absolute(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "/hooks",
            "//a.example",
            "https:a.example",
            "https:/a.example",
            "https://",
            "https:///x",
            "https://a.example/a b",
            "https://a.example/\n",
            "https:\\\\a",
            "https://a.example\\@b.example/",
            "mailto:a@b.example",
            "https://a b/",
            " https://a.example",
            "https://{{a}}.example/",
            "https://a,b.example/",
        ] {
            assert!(absolute(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn placeholders_are_filled() {
        let template = Template::read("https://{{ host }}/x/{{path}}");
        assert_eq!(template.names, ["host", "path"]);
        assert_eq!(template.filled, "https://placeholder/x/placeholder");
        assert!(template.open_host);
        let template = Template::read("https://a.example/{{path}}");
        assert!(!template.open_host);
        assert_eq!(Template::read("a{{b").filled, "a{{b");
        assert!(Template::read("{{}}").names == [""]);
    }
}
