//! What a receiver echoes of what is secret is not kept and not shown.

use std::borrow::Cow;

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
        let context = self.context.map(SecurityContext::expose);
        let secrets = self.secrets.iter().map(SecretText::expose);
        context.into_iter().chain(secrets).fold(Cow::Borrowed(text), |text, secret| match mask_one(
            &text, secret,
        ) {
            Some(masked) => Cow::Owned(masked),
            None => text,
        })
    }
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
}
