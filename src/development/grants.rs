//! What the development authorisation server has granted: codes, tokens and their families.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::seam::{Seam, Timestamp};

/// How long a code may be redeemed (RFC 6749 advises 10 minutes at most).
const CODE_LIFETIME: Duration = Duration::from_mins(1);

/// The most codes that wait, and the most tokens that are remembered.
const CAPACITY: usize = 100_000;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// For calls to the API.
    Access,
    /// For new access tokens.
    Refresh,
}

/// A token that was issued.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// Its value.
    pub token: String,
    /// What it is for.
    pub kind: TokenKind,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Which consent it comes from; tokens of one consent share it.
    pub family: u64,
}

/// Why the token endpoint refuses (RFC 6749, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
}

const fn refusal(error: &'static str, description: &'static str) -> Refusal {
    Refusal { error, description }
}

/// A consent that waits for its code to be redeemed.
#[derive(Clone, Debug)]
pub(crate) struct Consent {
    pub(crate) redirect_uri: String,
    pub(crate) challenge: String,
    pub(crate) scopes: Vec<String>,
}

struct Code {
    consent: Consent,
    expires: Timestamp,
    /// The family of its tokens, once it has been redeemed.
    family: Option<u64>,
}

#[derive(Clone)]
struct Token {
    issued: IssuedToken,
    expires: Option<Timestamp>,
    state: State,
    /// The refresh token that took its place.
    successor: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Rotated,
    Revoked,
}

/// What the token endpoint hands out.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    pub(crate) scopes: Vec<String>,
}

/// All codes and tokens.
#[derive(Default)]
pub(crate) struct Grants {
    codes: HashMap<String, Code>,
    tokens: HashMap<String, Token>,
    /// Values in the order of their issue.
    order: VecDeque<String>,
    families: u64,
}

impl Grants {
    /// Issues a code for a consent.
    pub(crate) fn issue_code(&mut self, seam: &Seam, consent: Consent) -> Option<String> {
        let now = seam.clock.now();
        let forgotten = now.minus(CODE_LIFETIME * 10);
        self.codes.retain(|_, code| code.expires > forgotten);
        if self.codes.len() >= CAPACITY {
            return None;
        }
        let value = random_value(seam)?;
        let code = Code { consent, expires: now.plus(CODE_LIFETIME), family: None };
        self.codes.insert(value.clone(), code);
        Some(value)
    }

    /// Redeems a code: once, in time, by who knows the verifier.
    pub(crate) fn redeem(
        &mut self,
        seam: &Seam,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        lifetime: Duration,
        with_refresh: bool,
    ) -> Result<Pair, Refusal> {
        let unknown = refusal("invalid_grant", "the code is unknown or has expired");
        let known = self.codes.get_mut(code).ok_or(unknown)?;
        if let Some(family) = known.family {
            // Somebody else has the code too: RFC 6749, section 4.1.2.
            self.revoke_family(family);
            return Err(refusal("invalid_grant", "the code has been redeemed before"));
        }
        if known.expires <= seam.clock.now() {
            return Err(unknown);
        }
        if known.consent.redirect_uri != redirect_uri {
            return Err(refusal("invalid_grant", "redirect_uri is not the one of the consent"));
        }
        if challenge_of(verifier) != known.consent.challenge {
            return Err(refusal("invalid_grant", "code_verifier does not fit code_challenge"));
        }
        self.families += 1;
        known.family = Some(self.families);
        let (family, scopes) = (self.families, known.consent.scopes.clone());
        self.issue_pair(seam, family, scopes, lifetime, with_refresh)
    }

    /// The pair of a new consent with the refresh token of a former one, where that is still good.
    pub(crate) fn repeated(&mut self, mut pair: Pair) -> Pair {
        let former = self.order.iter().filter_map(|value| self.tokens.get(value)).find(|token| {
            let is_refresh = token.issued.kind == TokenKind::Refresh;
            is_refresh
                && token.state == State::Live
                && Some(&token.issued.token) != pair.refresh.as_ref()
        });
        let Some(former) = former.map(|token| token.issued.clone()) else { return pair };
        if let Some(surplus) = pair.refresh.replace(former.token) {
            self.tokens.remove(&surplus);
        }
        if let Some(access) = self.tokens.get_mut(&pair.access) {
            access.issued.family = former.family;
        }
        pair
    }

    /// Exchanges a refresh token for a new pair; the old one is dead then.
    pub(crate) fn refresh(
        &mut self,
        seam: &Seam,
        value: &str,
        asked: Option<&[String]>,
        lifetime: Duration,
        is_resilient: bool,
    ) -> Result<Pair, Refusal> {
        let unknown = refusal("invalid_grant", "the refresh token is unknown or revoked");
        // FAPI 2.0: the former token is good until its successor is used; who lost the answer asks
        // again.
        let unused =
            self.tokens.get(value).filter(|token| token.state == State::Rotated).filter(|token| {
                let successor = token.successor.as_ref().and_then(|next| self.tokens.get(next));
                is_resilient && successor.is_none_or(|next| next.state == State::Live)
            });
        if let Some(successor) = unused.map(|token| token.successor.clone()) {
            if let Some(lost) = successor.and_then(|next| self.tokens.get_mut(&next)) {
                lost.state = State::Revoked;
            }
            if let Some(token) = self.tokens.get_mut(value) {
                token.state = State::Live;
            }
        }
        let token = self.tokens.get_mut(value).ok_or(unknown)?;
        if token.issued.kind != TokenKind::Refresh || token.state == State::Revoked {
            return Err(unknown);
        }
        let family = token.issued.family;
        if token.state == State::Rotated {
            // RFC 9700, section 4.14.2: one of the two users of it is a thief.
            self.revoke_family(family);
            return Err(refusal("invalid_grant", "the refresh token has been used before"));
        }
        let granted: HashSet<&String> = token.issued.scopes.iter().collect();
        let scopes = match asked {
            Some(asked) if asked.iter().any(|scope| !granted.contains(scope)) => {
                return Err(refusal("invalid_scope", "more scopes than were granted"));
            }
            Some(asked) => asked.to_vec(),
            None => token.issued.scopes.clone(),
        };
        token.state = State::Rotated;
        let pair = self.issue_pair(seam, family, scopes, lifetime, true)?;
        if let Some(token) = self.tokens.get_mut(value) {
            token.successor.clone_from(&pair.refresh);
        }
        Ok(pair)
    }

    /// Loses a token, as a server does whose write did not last.
    pub(crate) fn forget(&mut self, value: &str) {
        self.tokens.remove(value);
    }

    /// Issues an access token to the client itself.
    pub(crate) fn issue_to_client(
        &mut self,
        seam: &Seam,
        scopes: Vec<String>,
        lifetime: Duration,
    ) -> Result<Pair, Refusal> {
        self.families += 1;
        self.issue_pair(seam, self.families, scopes, lifetime, false)
    }

    fn issue_pair(
        &mut self,
        seam: &Seam,
        family: u64,
        scopes: Vec<String>,
        lifetime: Duration,
        with_refresh: bool,
    ) -> Result<Pair, Refusal> {
        let expires = seam.clock.now().plus(lifetime);
        let mut issue = |kind, expires| {
            let nothing = refusal("server_error", "the system gave no random bytes");
            let value = random_value(seam).ok_or(nothing)?;
            let issued = IssuedToken { token: value.clone(), kind, scopes: scopes.clone(), family };
            if self.order.len() >= CAPACITY
                && let Some(oldest) = self.order.pop_front()
            {
                self.tokens.remove(&oldest);
            }
            self.order.push_back(value.clone());
            self.tokens.insert(
                value.clone(),
                Token { issued, expires, state: State::Live, successor: None },
            );
            Ok(value)
        };
        let access = issue(TokenKind::Access, Some(expires))?;
        let refresh = if with_refresh { Some(issue(TokenKind::Refresh, None)?) } else { None };
        Ok(Pair { access, refresh, scopes })
    }

    /// Revokes a token; a refresh token takes its whole family along (RFC 7009, section 2.1).
    pub(crate) fn revoke(&mut self, value: &str) -> bool {
        let Some(token) = self.tokens.get_mut(value) else { return false };
        match token.issued.kind {
            TokenKind::Access => token.state = State::Revoked,
            TokenKind::Refresh => {
                let family = token.issued.family;
                self.revoke_family(family);
            }
        }
        true
    }

    /// Revokes everything, as a user does who withdraws his consent at the provider.
    pub(crate) fn revoke_all(&mut self) {
        self.tokens.values_mut().for_each(|token| token.state = State::Revoked);
    }

    fn revoke_family(&mut self, family: u64) {
        let members = self.tokens.values_mut().filter(|token| token.issued.family == family);
        members.for_each(|token| token.state = State::Revoked);
    }

    /// A token that can be used at this moment.
    pub(crate) fn live(&self, value: &str, now: Timestamp) -> Option<&IssuedToken> {
        let token = self.tokens.get(value)?;
        let in_time = token.expires.is_none_or(|expires| expires > now);
        (token.state == State::Live && in_time).then_some(&token.issued)
    }

    /// All tokens in the order of their issue.
    pub(crate) fn issued(&self) -> Vec<IssuedToken> {
        self.order
            .iter()
            .filter_map(|value| self.tokens.get(value))
            .map(|t| t.issued.clone())
            .collect()
    }
}

/// The S256 challenge of a verifier (RFC 7636, section 4.2).
pub(crate) fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A value that nobody can guess; none where the system has no randomness.
pub(crate) fn random_value(seam: &Seam) -> Option<String> {
    seam.randomness.bytes::<24>().ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const REDIRECT: &str = "http://127.0.0.1/oauth/callback";
    // The example of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn granted(seam: &Seam) -> (Grants, String) {
        let mut grants = Grants::default();
        let consent = Consent {
            redirect_uri: REDIRECT.to_owned(),
            challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
            scopes: vec!["a".to_owned(), "b".to_owned()],
        };
        let code = grants.issue_code(seam, consent).expect("a code");
        (grants, code)
    }

    fn redeem(grants: &mut Grants, seam: &Seam, code: &str) -> Result<Pair, Refusal> {
        grants.redeem(seam, code, REDIRECT, VERIFIER, HOUR, true)
    }

    #[test]
    fn the_second_redemption_kills_the_tokens_of_the_first() {
        let seam = Seam::default();
        let (mut grants, code) = granted(&seam);
        let pair = redeem(&mut grants, &seam, &code).expect("tokens");
        assert!(grants.live(&pair.access, seam.clock.now()).is_some());
        assert!(redeem(&mut grants, &seam, &code).is_err());
        assert!(grants.live(&pair.access, seam.clock.now()).is_none());
    }

    #[test]
    fn codes_expire_and_belong_to_verifier_and_redirect() {
        let seam = Seam::default();
        let (mut grants, code) = granted(&seam);
        assert!(grants.redeem(&seam, &code, "http://elsewhere/", VERIFIER, HOUR, true).is_err());
        assert!(grants.redeem(&seam, &code, REDIRECT, "another", HOUR, true).is_err());
        seam.clock.advance(CODE_LIFETIME);
        assert!(redeem(&mut grants, &seam, &code).is_err());
    }

    #[test]
    fn a_refresh_token_used_twice_kills_the_family() {
        let seam = Seam::default();
        let (mut grants, code) = granted(&seam);
        let first = redeem(&mut grants, &seam, &code).expect("tokens");
        let old = first.refresh.expect("a refresh token");
        let second = grants.refresh(&seam, &old, None, HOUR, false).expect("new tokens");
        assert!(grants.live(&second.access, seam.clock.now()).is_some());
        assert!(grants.refresh(&seam, &old, None, HOUR, false).is_err());
        assert!(grants.live(&second.access, seam.clock.now()).is_none());
    }

    #[test]
    fn refreshing_never_widens() {
        let seam = Seam::default();
        let (mut grants, code) = granted(&seam);
        let refresh = redeem(&mut grants, &seam, &code).expect("tokens").refresh.expect("one");
        let wide = grants.refresh(&seam, &refresh, Some(&["c".to_owned()]), HOUR, false);
        assert_eq!(wide.expect_err("refused").error, "invalid_scope");
        let narrow = grants.refresh(&seam, &refresh, Some(&["b".to_owned()]), HOUR, false);
        assert_eq!(narrow.expect("tokens").scopes, ["b"]);
    }

    #[test]
    fn access_tokens_expire() {
        let seam = Seam::default();
        let mut grants = Grants::default();
        let pair = grants.issue_to_client(&seam, Vec::new(), HOUR).expect("a token");
        assert!(pair.refresh.is_none());
        seam.clock.advance(HOUR);
        assert!(grants.live(&pair.access, seam.clock.now()).is_none());
    }
}
