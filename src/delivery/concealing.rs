//! What a receiver echoes of what is secret is not kept and not shown.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::crypto::{SecretText, SecurityContext};

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// The shortest beginning of a secret that is taken for one where a text is cut off.
const CUT: usize = 8;

/// What of an attempt is told beside its answer, and what of the answer is not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told<'a> {
    /// The securityContext in the address.
    pub(super) context: Option<&'a SecurityContext>,
    /// Credentials in headers.
    pub(super) secrets: &'a [SecretText],
    /// Placeholders that had no value.
    pub(super) empty_placeholders: &'a [String],
    /// Whether somebody had it sent again.
    pub(super) is_replay: bool,
}

impl<'a> Told<'a> {
    /// Of a request with nothing but a securityContext.
    pub(super) fn of_context(context: Option<&'a SecurityContext>) -> Self {
        Self { context, ..Self::default() }
    }

    /// A text without what is secret in it, whole or cut off at the end.
    pub(super) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let context = self.context.map(|context| context.expose().to_owned());
        let secrets = self.secrets.iter().flat_map(|secret| forms(secret.expose()));
        context.into_iter().chain(secrets).fold(Cow::Borrowed(text), |text, secret| match mask_one(
            &text, &secret,
        ) {
            Some(masked) => Cow::Owned(masked),
            None => text,
        })
    }
}

/// How receivers write what they echo: as it is, within JSON, in an address, in HTML. Longest first,
/// so that no form leaves the rest of a longer one.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    if secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) {
        return forms;
    }
    for (is_ascii, escapes_slash) in [(false, false), (false, true), (true, false), (true, true)] {
        forms.push(in_json(secret, is_ascii, escapes_slash));
    }
    for (kept, space) in [("-_.~", "%20"), ("-_.!~*'()", "%20"), ("-_.*", "+"), ("-_.~+/=", "%20")]
    {
        let encoded = in_address(secret, kept, space);
        forms.push(lower_hex(&encoded));
        forms.push(encoded);
    }
    for apostrophe in ["&#39;", "&#039;", "&#x27;", "&apos;", "'"] {
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        forms.push(html.replace('"', "&quot;").replace('\'', apostrophe));
    }
    forms.sort_unstable_by(|one, two| two.len().cmp(&one.len()).then_with(|| one.cmp(two)));
    forms.dedup();
    forms
}

/// A text within a JSON string.
fn in_json(text: &str, is_ascii: bool, escapes_slash: bool) -> String {
    let mut written = String::with_capacity(text.len() + 8);
    for one in text.chars() {
        match one {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '/' if escapes_slash => written.push_str("\\/"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            one if u32::from(one) < 0x20 || (is_ascii && !one.is_ascii()) => {
                for unit in one.encode_utf16(&mut [0; 2]) {
                    // Writing to a text cannot fail.
                    let _ = write!(written, "\\u{unit:04x}");
                }
            }
            one => written.push(one),
        }
    }
    written
}

/// A text in an address: percent-encoded but for letters, digits and what is kept.
fn in_address(text: &str, kept: &str, space: &str) -> String {
    let mut written = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b' ' => written.push_str(space),
            byte if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => {
                written.push(char::from(byte));
            }
            byte => {
                // Writing to a text cannot fail.
                let _ = write!(written, "%{byte:02X}");
            }
        }
    }
    written
}

/// The same with the digits of its percent-encoding in lower case.
fn lower_hex(encoded: &str) -> String {
    let mut digits = 0;
    let lowered = encoded.chars().map(|one| {
        if one == '%' {
            digits = 2;
            return one;
        }
        let is_digit = digits > 0;
        digits -= i32::from(is_digit);
        if is_digit { one.to_ascii_lowercase() } else { one }
    });
    lowered.collect()
}

/// The text without the secret; nothing where it is not in it.
fn mask_one(text: &str, secret: &str) -> Option<String> {
    // Nearly always it is not there, not even its beginning: one look, and nothing is copied.
    if secret.is_empty() || !text.contains(secret.get(..CUT).unwrap_or(secret)) {
        return None;
    }
    let mut masked = text.replace(secret, MASK);
    let cut = (CUT..secret.len())
        .rev()
        .find(|length| secret.get(..*length).is_some_and(|start| masked.ends_with(start)));
    if let Some(length) = cut {
        masked.truncate(masked.len() - length);
        masked.push_str(MASK);
    }
    Some(masked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{KeyId, KeyRing, Locator, MasterKey, Purpose};
    use crate::identifier::InstallationId;
    use crate::seam::Randomness;

    #[test]
    fn an_echoed_context_is_masked_whole_and_cut() {
        let randomness = Randomness::default();
        let master = MasterKey::generate(&randomness).expect("a key");
        let wrapped =
            KeyRing::generate_wrapped(Purpose::SecurityContext, KeyId(1), &master, &randomness)
                .expect("a wrapped key");
        let ring = KeyRing::open([wrapped], &master).expect("a ring");
        let context = ring
            .seal_security_context(&Locator {
                installation: InstallationId(uuid::Uuid::from_u128(1)),
                generation: 1,
                webhook: None,
            })
            .expect("a context");
        let told = Told::of_context(Some(&context));
        let text = context.expose();
        let echo = format!("moved to https://vendor.example/?securityContext={text}&x=1");
        let masked = told.mask(&echo);
        assert_eq!(masked, "moved to https://vendor.example/?securityContext=***&x=1");
        let cut = format!("body {}", &text[..20]);
        assert_eq!(told.mask(&cut), "body ***");
        assert_eq!(told.mask("as it is"), "as it is");
    }

    #[test]
    fn echoed_credentials_are_masked_whatever_their_length() {
        let secrets = [SecretText::new("hunter2"), SecretText::new("a-longer-secret")];
        let told = Told { secrets: &secrets, ..Told::default() };
        assert_eq!(told.mask("Bearer hunter2, a-longer-secret"), "Bearer ***, ***");
        assert_eq!(told.mask("cut: a-longer-s"), "cut: ***");
        assert_eq!(Told::default().mask("hunter2"), "hunter2");
    }

    #[test]
    fn echoed_credentials_are_masked_however_they_are_written() {
        let secret = "a/b\"c'd+é==&x";
        let secrets = [SecretText::new(secret)];
        let told = Told { secrets: &secrets, ..Told::default() };
        for echo in [
            secret.to_owned(),
            serde_json::json!({ "authorization": secret }).to_string(),
            r#"{"a":"a\/b\"c'd+\u00e9==&x"}"#.to_owned(),
            "?key=a%2Fb%22c%27d%2B%C3%A9%3D%3D%26x".to_owned(),
            "?key=a%2fb%22c%27d%2b%c3%a9%3d%3d%26x".to_owned(),
            "?key=a%2Fb%22c'd%2B%C3%A9%3D%3D%26x".to_owned(),
            "<td>a/b&quot;c&#39;d+é==&amp;x</td>".to_owned(),
            "<td>a/b&quot;c&#039;d+é==&amp;x</td>".to_owned(),
        ] {
            let masked = told.mask(&echo);
            assert!(masked.contains(MASK), "{echo}");
            for rest in ["c'd", "c%27d", "c&#", "==", "%3D", "%3d", "&x"] {
                assert!(!masked.contains(rest), "{echo} became {masked}");
            }
        }
        let spaced = [SecretText::new("pass word")];
        let told = Told { secrets: &spaced, ..Told::default() };
        assert_eq!(told.mask("p=pass+word&q=pass%20word"), "p=***&q=***");
    }
}
