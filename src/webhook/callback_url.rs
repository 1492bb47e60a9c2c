//! The URL that an extension's webhook really calls: the declared one with `orgId` and
//! `securityContext` appended.

use url::Url;

use crate::identifier::OrgId;

const ORG: &str = "orgId";
const CONTEXT: &str = "securityContext";
/// What stands for a securityContext wherever the URL is shown.
const MASK: &str = "***";

/// Appends `orgId` and then `securityContext` to a declared URL.
///
/// The declared query is kept byte for byte and in order, but for parameters of these two names,
/// in whatever spelling a receiver decodes to them: those are dropped, so that nobody can declare
/// another org than the real one. The fragment is dropped. Values are percent-encoded: unreserved
/// characters of RFC 3986 stay, every other byte becomes `%XX`.
pub fn append_context(declared: &Url, org: &OrgId, context: &str) -> Url {
    let mut query = kept(declared, |name| !is_ours(name));
    for (name, value) in [(ORG, org.as_str()), (CONTEXT, context)] {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        encode_into(&mut query, value);
    }
    let mut url = declared.clone();
    url.set_fragment(None);
    url.set_query(Some(&query));
    url
}

/// The URL as it may be shown: the value of every `securityContext` is replaced.
pub fn mask_context(url: &Url) -> String {
    let Some(query) = url.query() else {
        return url.to_string();
    };
    let mut shown = url.clone();
    shown.set_query(Some(&mask_context_query(query)));
    shown.to_string()
}

/// A query for showing: as it is, but for the value of `securityContext`.
pub fn mask_context_query(query: &str) -> String {
    let masked: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if decodes_to(name, CONTEXT) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        })
        .collect();
    masked.join("&")
}

/// The query with only those pairs whose name passes.
fn kept(url: &Url, passes: impl Fn(&str) -> bool) -> String {
    let query = url.query().unwrap_or_default();
    let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
    let kept: Vec<_> = query.split('&').filter(|pair| passes(&name(pair))).collect();
    kept.join("&")
}

fn is_ours(name: &str) -> bool {
    decodes_to(name, ORG) || decodes_to(name, CONTEXT)
}

/// Whether a receiver that decodes percent signs reads this name; case matters.
fn decodes_to(encoded: &str, name: &str) -> bool {
    let mut bytes = encoded.bytes();
    let mut expected = name.bytes();
    loop {
        let byte = match bytes.next() {
            None => return expected.next().is_none(),
            Some(b'%') => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                // No escape: neither of our names has a percent sign.
                _ => return false,
            },
            Some(byte) => byte,
        };
        if expected.next() != Some(byte) {
            return false;
        }
    }
}

fn hex(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn encode_into(query: &mut String, value: &str) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            query.push(char::from(byte));
        } else {
            query.push('%');
            query.push(DIGITS[usize::from(byte >> 4)]);
            query.push(DIGITS[usize::from(byte & 0x0f)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Declared URL, org, context, what is called.
    const GOLDEN: &[(&str, &str, &str, &str)] = &[
        // Nothing declared.
        ("https://v.com", "42", "abc", "https://v.com/?orgId=42&securityContext=abc"),
        ("https://v.com/", "42", "abc", "https://v.com/?orgId=42&securityContext=abc"),
        ("https://v.com/hooks", "42", "abc", "https://v.com/hooks?orgId=42&securityContext=abc"),
        ("https://v.com/hooks/", "42", "abc", "https://v.com/hooks/?orgId=42&securityContext=abc"),
        ("https://v.com/hooks?", "42", "abc", "https://v.com/hooks?orgId=42&securityContext=abc"),
        ("https://v.com:8443/h", "42", "abc", "https://v.com:8443/h?orgId=42&securityContext=abc"),
        ("http://[::1]:80/h", "42", "abc", "http://[::1]/h?orgId=42&securityContext=abc"),
        // The declared query is kept byte for byte.
        ("https://v.com/h?a=1", "42", "abc", "https://v.com/h?a=1&orgId=42&securityContext=abc"),
        (
            "https://v.com/h?b=2&a=1",
            "42",
            "abc",
            "https://v.com/h?b=2&a=1&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=1&a=2",
            "42",
            "abc",
            "https://v.com/h?a=1&a=2&orgId=42&securityContext=abc",
        ),
        ("https://v.com/h?a", "42", "abc", "https://v.com/h?a&orgId=42&securityContext=abc"),
        ("https://v.com/h?a=", "42", "abc", "https://v.com/h?a=&orgId=42&securityContext=abc"),
        ("https://v.com/h?=a", "42", "abc", "https://v.com/h?=a&orgId=42&securityContext=abc"),
        (
            "https://v.com/h?a=b=c",
            "42",
            "abc",
            "https://v.com/h?a=b=c&orgId=42&securityContext=abc",
        ),
        ("https://v.com/h?a=1&", "42", "abc", "https://v.com/h?a=1&&orgId=42&securityContext=abc"),
        ("https://v.com/h?&a=1", "42", "abc", "https://v.com/h?&a=1&orgId=42&securityContext=abc"),
        (
            "https://v.com/h?a=1&&b=2",
            "42",
            "abc",
            "https://v.com/h?a=1&&b=2&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=%2f%2F+%20",
            "42",
            "abc",
            "https://v.com/h?a=%2f%2F+%20&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=%zz%",
            "42",
            "abc",
            "https://v.com/h?a=%zz%&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?u=https://x/?y=1",
            "42",
            "abc",
            "https://v.com/h?u=https://x/?y=1&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=1;b=2",
            "42",
            "abc",
            "https://v.com/h?a=1;b=2&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=ä",
            "42",
            "abc",
            "https://v.com/h?a=%C3%A4&orgId=42&securityContext=abc",
        ),
        // Our names are ours, in every spelling.
        ("https://v.com/h?orgId=7", "42", "abc", "https://v.com/h?orgId=42&securityContext=abc"),
        ("https://v.com/h?orgId", "42", "abc", "https://v.com/h?orgId=42&securityContext=abc"),
        (
            "https://v.com/h?orgId=7&a=1",
            "42",
            "abc",
            "https://v.com/h?a=1&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=1&orgId=7&b=2",
            "42",
            "abc",
            "https://v.com/h?a=1&b=2&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?orgId=7&orgId=8",
            "42",
            "abc",
            "https://v.com/h?orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?securityContext=x&orgId=7",
            "42",
            "abc",
            "https://v.com/h?orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?%6FrgId=7&a=1",
            "42",
            "abc",
            "https://v.com/h?a=1&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?%6f%72%67%49%64=7",
            "42",
            "abc",
            "https://v.com/h?orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?security%43ontext=x",
            "42",
            "abc",
            "https://v.com/h?orgId=42&securityContext=abc",
        ),
        // Other names only look like them.
        (
            "https://v.com/h?orgid=7",
            "42",
            "abc",
            "https://v.com/h?orgid=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?ORGID=7",
            "42",
            "abc",
            "https://v.com/h?ORGID=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?xorgId=7",
            "42",
            "abc",
            "https://v.com/h?xorgId=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?orgId2=7",
            "42",
            "abc",
            "https://v.com/h?orgId2=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?orgI=7",
            "42",
            "abc",
            "https://v.com/h?orgI=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?%256FrgId=7",
            "42",
            "abc",
            "https://v.com/h?%256FrgId=7&orgId=42&securityContext=abc",
        ),
        (
            "https://v.com/h?a=orgId",
            "42",
            "abc",
            "https://v.com/h?a=orgId&orgId=42&securityContext=abc",
        ),
        // Fragments go; paths and user names stay.
        ("https://v.com/h#top", "42", "abc", "https://v.com/h?orgId=42&securityContext=abc"),
        (
            "https://v.com/h?a=1#top",
            "42",
            "abc",
            "https://v.com/h?a=1&orgId=42&securityContext=abc",
        ),
        ("https://v.com/h#?orgId=7", "42", "abc", "https://v.com/h?orgId=42&securityContext=abc"),
        (
            "https://v.com/a%2Fb/c;d=e",
            "42",
            "abc",
            "https://v.com/a%2Fb/c;d=e?orgId=42&securityContext=abc",
        ),
        // Values are encoded.
        ("https://v.com/h", "a b", "abc", "https://v.com/h?orgId=a%20b&securityContext=abc"),
        ("https://v.com/h", "a&b=c", "abc", "https://v.com/h?orgId=a%26b%3Dc&securityContext=abc"),
        (
            "https://v.com/h",
            "a+b/c?d#e",
            "abc",
            "https://v.com/h?orgId=a%2Bb%2Fc%3Fd%23e&securityContext=abc",
        ),
        ("https://v.com/h", "ä%41", "abc", "https://v.com/h?orgId=%C3%A4%2541&securityContext=abc"),
        ("https://v.com/h", "-._~", "-._~", "https://v.com/h?orgId=-._~&securityContext=-._~"),
        (
            "https://v.com/h",
            "'\"<>",
            "a=",
            "https://v.com/h?orgId=%27%22%3C%3E&securityContext=a%3D",
        ),
    ];

    fn org(text: &str) -> OrgId {
        OrgId::new(text).unwrap()
    }

    #[test]
    fn the_golden_table_holds() {
        for (declared, org_id, context, called) in GOLDEN {
            let url = append_context(&Url::parse(declared).unwrap(), &org(org_id), context);
            assert_eq!(url.as_str(), *called, "{declared}");
            // What is called parses to itself: nothing changes on the way out.
            assert_eq!(Url::parse(url.as_str()).unwrap(), url);
        }
    }

    #[test]
    fn appending_again_replaces() {
        let declared = Url::parse("https://v.com/h?a=1").unwrap();
        let once = append_context(&declared, &org("1"), "old");
        let twice = append_context(&once, &org("2"), "new");
        assert_eq!(twice.as_str(), "https://v.com/h?a=1&orgId=2&securityContext=new");
    }

    #[test]
    fn the_context_is_masked_in_every_spelling() {
        for (url, shown) in [
            ("https://v.com/h", "https://v.com/h"),
            (
                "https://v.com/h?orgId=1&securityContext=abc",
                "https://v.com/h?orgId=1&securityContext=***",
            ),
            (
                "https://v.com/h?securityContext=abc&a=1#x",
                "https://v.com/h?securityContext=***&a=1#x",
            ),
            ("https://v.com/h?securit%79Context=abc", "https://v.com/h?securit%79Context=***"),
            (
                "https://v.com/h?securityContext=a&securityContext=b",
                "https://v.com/h?securityContext=***&securityContext=***",
            ),
            ("https://v.com/h?securityContext", "https://v.com/h?securityContext"),
            ("https://v.com/h?a=%20+&b", "https://v.com/h?a=%20+&b"),
        ] {
            assert_eq!(mask_context(&Url::parse(url).unwrap()), shown);
        }
    }

    proptest! {
        #[test]
        fn a_receiver_reads_exactly_one_of_each(
            query in "[a-zA-Z0-9%&=+./?-]{0,60}", org_id in "[^\\p{C}]{1,20}", context in "[A-Za-z0-9_-]{1,80}",
        ) {
            let declared = Url::parse(&format!("https://v.com/h?orgId=0&{query}")).unwrap();
            let url = append_context(&declared, &org(&org_id), &context);
            let all = |name: &str| -> Vec<String> {
                url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
            };
            prop_assert_eq!(all(ORG), vec![org_id]);
            prop_assert_eq!(all(CONTEXT), vec![context.clone()]);
            let masked = Url::parse(&mask_context(&url)).unwrap();
            let shown: Vec<_> = masked.query_pairs().filter(|(key, _)| key == CONTEXT).map(|(_, value)| value).collect();
            prop_assert_eq!(shown, vec![MASK]);
        }
    }
}
