//! Secrets that went out with a call do not come back in its answer. Pure.
//!
//! The upstream chooses the answer and the vendor the secrets, so nothing that either of them writes
//! may make the search long: each secret is looked for in one pass (Knuth, Morris and Pratt), and
//! what is left is copied forward once.

use std::borrow::Cow;

use crate::crypto::SecretText;

/// What stands for a secret that an answer repeats.
const MASK: &[u8] = b"***";

/// A shorter secret would mask half of any text, and hides nothing.
const SHORTEST: usize = 4;

/// The secrets of one call, ready to be looked for.
pub(super) struct Masking<'s>(Vec<Needle<'s>>);

struct Needle<'s> {
    secret: &'s [u8],
    /// Of each beginning of the secret: how long a shorter beginning it ends with.
    borders: Vec<usize>,
}

impl<'s> Needle<'s> {
    fn new(secret: &'s [u8]) -> Self {
        let mut borders = vec![0; secret.len()];
        let mut matched = 0;
        for index in 1..secret.len() {
            while matched > 0 && secret[index] != secret[matched] {
                matched = borders[matched - 1];
            }
            if secret[index] == secret[matched] {
                matched += 1;
            }
            borders[index] = matched;
        }
        Self { secret, borders }
    }

    /// Marks where the secret stands in a text, and where it begins at the end of one that was cut.
    fn mark(&self, text: &[u8], is_cut: bool, marked: &mut Marked) {
        let (mut matched, mut from) = (0, 0);
        for (index, byte) in text.iter().enumerate() {
            while matched > 0 && *byte != self.secret[matched] {
                matched = self.borders[matched - 1];
            }
            if *byte == self.secret[matched] {
                matched += 1;
            }
            if matched == self.secret.len() {
                let end = index + 1;
                // Where it overlaps with itself nothing is marked twice.
                marked.add(text.len(), from.max(end - matched), end);
                from = end;
                matched = self.borders[matched - 1];
            }
        }
        if is_cut && matched >= SHORTEST {
            marked.add(text.len(), text.len() - matched, text.len());
        }
    }
}

/// Which bytes of a text are part of a secret; empty where none is.
#[derive(Default)]
struct Marked(Vec<bool>);

impl Marked {
    fn add(&mut self, length: usize, from: usize, to: usize) {
        if self.0.is_empty() {
            self.0.resize(length, false);
        }
        self.0[from..to].fill(true);
    }
}

impl<'s> Masking<'s> {
    /// Looks for these secrets.
    pub(super) fn new(secrets: &'s [SecretText]) -> Self {
        let secrets = secrets.iter().map(|secret| secret.expose().as_bytes());
        Self(secrets.filter(|secret| secret.len() >= SHORTEST).map(Needle::new).collect())
    }

    /// Bytes without the secrets; of a text that was cut also without the beginning of one at its
    /// end.
    pub(super) fn bytes<'t>(&self, text: &'t [u8], is_cut: bool) -> Cow<'t, [u8]> {
        let mut marked = Marked::default();
        for needle in &self.0 {
            needle.mark(text, is_cut, &mut marked);
        }
        if marked.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut left = Vec::with_capacity(text.len());
        let mut is_within = false;
        for (byte, is_secret) in text.iter().zip(marked.0) {
            if !is_secret {
                left.push(*byte);
            } else if !is_within {
                left.extend_from_slice(MASK);
            }
            is_within = is_secret;
        }
        Cow::Owned(left)
    }

    /// A text without the secrets.
    pub(super) fn text(&self, text: &str) -> String {
        // Secrets are whole characters, so what is left is text.
        String::from_utf8_lossy(&self.bytes(text.as_bytes(), false)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], text: &str, is_cut: bool) -> String {
        let secrets: Vec<_> = secrets.iter().map(|secret| SecretText::new(*secret)).collect();
        let masked = Masking::new(&secrets).bytes(text.as_bytes(), is_cut).into_owned();
        String::from_utf8(masked).expect("text")
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        for (secrets, text, wanted) in [
            (&["t0ken"][..], "a t0ken b t0ken", "a *** b ***"),
            (&["t0ken"], "t0kent0ke", "***t0ke"),
            (&["t0ken"], "t0ke", "t0ke"),
            (&["abab"], "xababab", "x***"),
            (&["aab"], "aab", "aab"),
            (&["aabaabc"], "aabaabaabc", "aab***"),
            (&["größe"], "die größe!", "die ***!"),
            // The longer one first: what is left of it would be worth something.
            (&["t0ken", "t0ken-of-the-customer"], "t0ken-of-the-customer", "***"),
            (&["-of-the", "t0ken-of"], "t0ken-of-the-x", "***-x"),
            (&[], "t0ken", "t0ken"),
        ] {
            assert_eq!(masked(secrets, text, false), wanted, "{secrets:?} {text}");
        }
    }

    #[test]
    fn the_beginning_of_a_secret_at_a_cut_is_masked() {
        assert_eq!(masked(&["t0ken-value"], "see t0ken-v", true), "see ***");
        assert_eq!(masked(&["t0ken-value"], "see t0ken-v", false), "see t0ken-v");
        assert_eq!(masked(&["t0ken-value"], "see t0k", true), "see t0k");
        assert_eq!(masked(&["größenwahn"], "grö", true), "***");
    }

    /// What would take hours by looking anew from the start after each find.
    #[test]
    fn neither_answers_nor_secrets_can_make_the_search_long() {
        let text = "a".repeat(4 << 20);
        assert_eq!(masked(&["aaaa", "aaaaaaaa"], &text, true), "***");
        let nearly = format!("{}b", "a".repeat(8_191));
        assert_eq!(masked(&[&nearly], &text, false), text);
        let apart = "aaaab".repeat(1 << 18);
        assert_eq!(masked(&["aaaa"], &apart, false), "***b".repeat(1 << 18));
    }
}
