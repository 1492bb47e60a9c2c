//! The rules for an org's custom headers, as Zendesk has them: names, values, what is forbidden,
//! and what looks like a credential.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The most custom headers of a webhook.
pub const MOST_HEADERS: usize = 5;

/// The longest name, in characters.
pub const LONGEST_NAME: usize = 128;

/// The longest value, in characters.
pub const LONGEST_VALUE: usize = 1_000;

/// The signs that a name may have beside letters and digits of ASCII.
const NAME_SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";

/// Names that cannot be chosen.
pub const FORBIDDEN_NAMES: [&str; 26] = [
    "accept-charset",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "referer",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "www-authenticate",
    "zendesk-api-version",
    "zendesk-ep",
];

/// What a name cannot begin with.
pub const FORBIDDEN_PREFIXES: [&str; 7] =
    ["access-control", "x-amzn", "x-apigw", "x-datadog", "x-envoy", "x-forwarded", "x-zendesk"];

/// What a name cannot begin with because requests of this server have such headers themselves.
pub const OUR_PREFIXES: [&str; 6] =
    ["ce-", "proxy-", "webhook-", "x-dzdesk", "x-mortise", "x-zdesk"];

/// What is wrong with custom headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Too many.
    #[error("there are {count} custom headers; at most {MOST_HEADERS} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// They would travel in the open.
    #[error("custom headers need an https address")]
    NeedsHttps,
    /// The name has no or too many characters.
    #[error("a header's name must have 1 to {LONGEST_NAME} characters")]
    NameLength,
    /// The name has other characters.
    #[error(
        "a header's name may have ASCII letters and digits and ! # $ % & ' * + - . ^ _ ` | ~ only"
    )]
    NameCharacters,
    /// Another header has the same name.
    #[error("the header {name} is there already; case makes no difference")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The name is on the list.
    #[error("the header {name} cannot be set")]
    Forbidden {
        /// The name.
        name: String,
    },
    /// The name begins as it may not.
    #[error("headers that begin with {prefix} cannot be set")]
    ForbiddenPrefix {
        /// The beginning.
        prefix: &'static str,
    },
    /// The value is too long.
    #[error("a header's value may have at most {LONGEST_VALUE} characters")]
    ValueLength,
    /// The value has other characters.
    #[error("a header's value may have printable ASCII characters only (0x20 to 0x7E)")]
    ValueCharacters,
}

/// Custom headers that keep the rules.
#[derive(Clone, Debug, Default)]
pub struct CheckedHeaders {
    /// Ready for requests.
    pub headers: HeaderMap,
    /// The names of those that look like credentials, as they were written. They belong into the
    /// webhook's authentication, where they are sealed and never shown.
    pub credentials: Vec<String>,
}

/// Checks the custom headers of a webhook, all of them at once. A fault comes with the place of its
/// header; one without a place is about all of them.
pub fn check(
    pairs: &[(String, String)],
    is_https: bool,
) -> Result<CheckedHeaders, Vec<(Option<usize>, HeaderFault)>> {
    let mut faults = Vec::new();
    if pairs.len() > MOST_HEADERS {
        faults.push((None, HeaderFault::TooMany { count: pairs.len() }));
    }
    if !pairs.is_empty() && !is_https {
        faults.push((None, HeaderFault::NeedsHttps));
    }
    let mut checked = CheckedHeaders::default();
    // Whatever comes, no more than this is looked at.
    for (index, (name, value)) in pairs.iter().enumerate().take(MOST_HEADERS * 4) {
        let (known_name, known_value) = (name_of(name), value_of(value));
        let fault = |fault| (Some(index), fault);
        if let Ok(name) = &known_name
            && checked.headers.contains_key(name)
        {
            faults.push(fault(HeaderFault::Duplicate { name: name.as_str().to_owned() }));
        }
        match (known_name, known_value) {
            (Ok(known), Ok(text)) => {
                if looks_like_a_credential(known.as_str(), value) {
                    checked.credentials.push(name.clone());
                }
                checked.headers.insert(known, text);
            }
            (name, value) => {
                faults.extend(name.err().map(fault));
                faults.extend(value.err().map(fault));
            }
        }
    }
    if faults.is_empty() { Ok(checked) } else { Err(faults) }
}

fn name_of(name: &str) -> Result<HeaderName, HeaderFault> {
    if !(1..=LONGEST_NAME).contains(&name.chars().count()) {
        return Err(HeaderFault::NameLength);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || NAME_SIGNS.contains(&byte)) {
        return Err(HeaderFault::NameCharacters);
    }
    let lower = name.to_ascii_lowercase();
    if FORBIDDEN_NAMES.contains(&lower.as_str()) {
        return Err(HeaderFault::Forbidden { name: lower });
    }
    let mut prefixes = FORBIDDEN_PREFIXES.iter().chain(&OUR_PREFIXES);
    if let Some(prefix) = prefixes.find(|prefix| lower.starts_with(**prefix)) {
        return Err(HeaderFault::ForbiddenPrefix { prefix });
    }
    HeaderName::from_bytes(lower.as_bytes()).map_err(|_| HeaderFault::NameCharacters)
}

fn value_of(value: &str) -> Result<HeaderValue, HeaderFault> {
    if value.chars().count() > LONGEST_VALUE {
        return Err(HeaderFault::ValueLength);
    }
    if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Err(HeaderFault::ValueCharacters);
    }
    HeaderValue::from_str(value).map_err(|_| HeaderFault::ValueCharacters)
}

/// Whether a header looks like a secret: by words in its name, or by how its value begins.
fn looks_like_a_credential(name: &str, value: &str) -> bool {
    const WORDS: [&str; 8] = [
        "authorization",
        "api-key",
        "apikey",
        "token",
        "secret",
        "password",
        "credential",
        "cookie",
    ];
    const BEGINNINGS: [&str; 8] =
        ["bearer ", "basic ", "token ", "eyj", "ghp_", "sk_", "xox", "whsec_"];
    let value = value.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
        || name.split(['-', '_']).any(|word| word == "auth")
        || BEGINNINGS.iter().any(|beginning| value.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<CheckedHeaders, Vec<(Option<usize>, HeaderFault)>> {
        check(&[(name.to_owned(), value.to_owned())], true)
    }

    fn fault(name: &str, value: &str) -> HeaderFault {
        let mut faults = one(name, value).expect_err(name);
        assert_eq!(faults.len(), 1, "{name}: {faults:?}");
        assert_eq!(faults[0].0, Some(0));
        faults.remove(0).1
    }

    /// Every name and every beginning of the rules, in either case.
    #[test]
    fn what_is_forbidden_is_refused() {
        assert_eq!((FORBIDDEN_NAMES.len(), FORBIDDEN_PREFIXES.len()), (26, 7));
        for name in FORBIDDEN_NAMES {
            for written in [name.to_owned(), name.to_uppercase()] {
                let expected = HeaderFault::Forbidden { name: name.to_owned() };
                assert_eq!(fault(&written, "x"), expected, "{written}");
            }
            assert!(one(&format!("a-{name}"), "x").is_ok(), "only the whole name: a-{name}");
        }
        for prefix in FORBIDDEN_PREFIXES.into_iter().chain(OUR_PREFIXES) {
            let expected = HeaderFault::ForbiddenPrefix { prefix };
            for written in [format!("{prefix}-y"), format!("{prefix}y").to_uppercase()] {
                assert_eq!(fault(&written, "x"), expected, "{written}");
            }
            assert!(one(&format!("y-{prefix}"), "x").is_ok(), "only at the beginning: {prefix}");
        }
    }

    #[test]
    fn names_have_their_characters_and_length() {
        for name in ["X-Team", "a", "1", "!#$%&'*+-.^_`|~", &"n".repeat(128)] {
            let checked = one(name, "x").expect(name);
            assert_eq!(checked.headers[name.to_lowercase()], "x", "{name}");
        }
        for name in ["", &"n".repeat(129)] {
            assert_eq!(fault(name, "x"), HeaderFault::NameLength);
        }
        for name in ["a b", "a:", "a\"", "a(b)", "a/b", "ä", "a\n", "a@b", "a[", "{a}", "\u{7f}"] {
            assert_eq!(fault(name, "x"), HeaderFault::NameCharacters, "{name:?}");
        }
    }

    #[test]
    fn values_have_their_characters_and_length() {
        let all: String = (0x20_u8..=0x7e).map(char::from).collect();
        for value in ["", " ", &all, &"v".repeat(1_000)] {
            assert_eq!(one("x-team", value).expect(value).headers["x-team"], value);
        }
        assert_eq!(fault("x-team", &"v".repeat(1_001)), HeaderFault::ValueLength);
        for value in ["a\n", "a\r\nb: c", "\t", "ä", "\u{7f}", "\0"] {
            assert_eq!(fault("x-team", value), HeaderFault::ValueCharacters, "{value:?}");
        }
    }

    #[test]
    fn there_are_five_at_most_each_with_a_name_of_its_own_and_over_https() {
        let pairs = |count: usize| -> Vec<(String, String)> {
            (0..count).map(|number| (format!("x-{number}"), "v".to_owned())).collect()
        };
        assert_eq!(check(&pairs(5), true).expect("five").headers.len(), 5);
        assert_eq!(
            check(&pairs(6), true).unwrap_err(),
            [(None, HeaderFault::TooMany { count: 6 })]
        );
        assert_eq!(check(&pairs(1), false).unwrap_err(), [(None, HeaderFault::NeedsHttps)]);
        assert!(check(&[], false).is_ok());
        let twice = [("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
        assert_eq!(
            check(&twice, true).unwrap_err(),
            [(Some(1), HeaderFault::Duplicate { name: "x-a".to_owned() })]
        );
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let pairs = [("Host".to_owned(), "ä".to_owned()), (String::new(), "v".to_owned())];
        assert_eq!(
            check(&pairs, false).unwrap_err(),
            [
                (None, HeaderFault::NeedsHttps),
                (Some(0), HeaderFault::Forbidden { name: "host".to_owned() }),
                (Some(0), HeaderFault::ValueCharacters),
                (Some(1), HeaderFault::NameLength),
            ]
        );
    }

    #[test]
    fn what_looks_like_a_credential_is_told() {
        for (name, value, expected) in [
            ("Authorization", "x", true),
            ("X-API-Key", "x", true),
            ("X-Auth-Token", "x", true),
            ("Cookie", "a=b", true),
            ("X-Team", "Bearer abc", true),
            ("X-Team", "eyJhbGciOiJIUzI1NiJ9.e30.x", true),
            ("X-Team", "blue", false),
            ("X-Author", "blue", false),
            ("X-Environment", "basics", false),
        ] {
            let checked = one(name, value).expect(name);
            assert_eq!(!checked.credentials.is_empty(), expected, "{name}: {value}");
        }
    }
}
