//! Who acts, as history and audit name him: by the host's name for a person, or by the id of a token.

use super::role::Role;
use crate::identifier::TokenId;

/// What stands before the id of a token, so that no person's name looks like one.
const TOKEN: &str = "token:";

/// The longest name, in characters: as every id of the host.
const LONGEST: usize = 64;

/// Why a text is no name of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSubject {
    #[error(
        "must have 1 to 64 characters, none of them a control character or one that is not seen"
    )]
    Characters,
    #[error("must not begin with `token:`, which tokens are named by")]
    LooksLikeToken,
}

/// Holds the host's name for a person to being a name that can be told from others by looking at it,
/// and from a token's.
pub(super) fn check(text: &str) -> Result<(), InvalidSubject> {
    let is_hidden = |letter: char| letter.is_control() || is_format(letter);
    if !(1..=LONGEST).contains(&text.chars().count()) || text.chars().any(is_hidden) {
        return Err(InvalidSubject::Characters);
    }
    let begins_so = text.get(..TOKEN.len()).is_some_and(|start| start.eq_ignore_ascii_case(TOKEN));
    if begins_so { Err(InvalidSubject::LooksLikeToken) } else { Ok(()) }
}

/// Whoever granted something: a person, or a token.
pub(super) fn holder(subject: Option<&str>, token: TokenId) -> String {
    subject.map_or_else(|| format!("{TOKEN}{token}"), str::to_owned)
}

/// The name of an actor: `admin:4711` for a person, `admin:token:0198…` for a token.
pub(super) fn actor_name(role: Role, subject: Option<&str>, token: TokenId) -> String {
    format!("{role}:{}", holder(subject, token))
}

/// What third parties are told of an actor: his role. People of others are none of their business.
pub(super) fn role_of(actor: &str) -> &str {
    actor.split_once(':').map_or(actor, |(role, _)| role)
}

/// Whether a character is a format character (general category Cf of Unicode 17): without a look of
/// its own, or with the power to turn others around.
pub(super) fn is_format(letter: char) -> bool {
    const RANGES: &[(u32, u32)] = &[
        (0x00AD, 0x00AD),
        (0x0600, 0x0605),
        (0x061C, 0x061C),
        (0x06DD, 0x06DD),
        (0x070F, 0x070F),
        (0x0890, 0x0891),
        (0x08E2, 0x08E2),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x2064),
        (0x2066, 0x206F),
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
        (0x110BD, 0x110BD),
        (0x110CD, 0x110CD),
        (0x13430, 0x1343F),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0001, 0xE0001),
        (0xE0020, 0xE007F),
    ];
    let code = u32::from(letter);
    RANGES.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// Whether a name may be shown to others as it is: without characters that turn others around. The
/// joiners of some scripts, and of composed symbols, may stand in it.
pub(super) fn is_shown_name(text: &str, longest: usize) -> bool {
    let joins = |letter: char| matches!(letter, '\u{200C}' | '\u{200D}');
    (1..=longest).contains(&text.chars().count())
        && !text.chars().any(|letter| letter.is_control() || (is_format(letter) && !joins(letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_person_is_named_like_a_token_or_like_another_person() {
        let id = uuid::Uuid::from_u128(7);
        for good in ["4711", "ada@desk.example", "Ada L\u{f6}velace", "tokens", &id.to_string()] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "a\nb", "ada\u{200B}", "ada\u{202E}nimda", "\u{FEFF}ada", "a\u{AD}b", &long]
        {
            assert_eq!(check(bad), Err(InvalidSubject::Characters), "{bad:?}");
        }
        for bad in ["token:1", "Token:1"] {
            assert_eq!(check(bad), Err(InvalidSubject::LooksLikeToken), "{bad:?}");
        }
        let token = TokenId(id);
        let (person, holder) = (
            actor_name(Role::Admin, Some(&id.to_string()), token),
            actor_name(Role::Admin, None, token),
        );
        assert_eq!(person, format!("admin:{id}"));
        assert_eq!(holder, format!("admin:token:{id}"));
        assert_eq!((role_of(&person), role_of("browser")), ("admin", "browser"));
    }

    #[test]
    fn names_may_have_joiners_and_nothing_else_that_is_not_seen() {
        assert!(is_shown_name("\u{646}\u{645}\u{6CC}\u{200C}\u{62F}\u{627}\u{646}\u{645}", 100));
        for bad in ["", "a\u{202E}b", "a\u{2066}b", "a\tb", &"x".repeat(101)] {
            assert!(!is_shown_name(bad, 100), "{bad:?}");
        }
    }
}
