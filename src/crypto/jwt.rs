//! RS256 tokens for `X-ZDesk-JWT`, and the public key that verifies them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};

use super::{CryptoError, SecretBytes};

/// What a token says; the desk dialect's four claims. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JwtClaims<'a> {
    /// Who signed: `orgId:<id>`.
    pub iss: &'a str,
    /// For whom: `webhookId:<id>`.
    pub aud: &'a str,
    /// When it was signed.
    pub iat: i64,
    /// Until when it counts.
    pub exp: i64,
}

/// An RSA key of 2048 bits that signs tokens.
pub struct JwtSigningKey {
    pair: KeyPair,
    key_id: String,
    modulus: String,
    exponent: String,
    /// The header of every token, encoded, with the dot that follows it.
    header: String,
}

impl fmt::Debug for JwtSigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JwtSigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl JwtSigningKey {
    /// Makes a new key, in PKCS#8 DER, to be sealed by the caller and loaded by
    /// [`JwtSigningKey::load`]. Takes a tenth of a second or more.
    pub fn generate() -> Result<SecretBytes, CryptoError> {
        let failed = |_| CryptoError::Library { operation: "making an RSA key" };
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let document = pair.as_der().map_err(failed)?;
        Ok(SecretBytes::new(document.as_ref()))
    }

    /// Loads a key from PKCS#8 DER.
    pub fn load(document: &SecretBytes) -> Result<Self, CryptoError> {
        let malformed = CryptoError::Malformed { what: "an RSA key (PKCS#8 DER)" };
        let Ok(pair) = KeyPair::from_pkcs8(document.expose()) else {
            return Err(malformed);
        };
        let public = pair.public_key();
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let exponent = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        // RFC 7638: the required members in this order, without white space.
        let thumbprint = digest(
            &SHA256,
            format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#).as_bytes(),
        );
        let key_id = URL_SAFE_NO_PAD.encode(thumbprint);
        let header = format!(r#"{{"alg":"RS256","kid":"{key_id}","typ":"JWT"}}"#);
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header));
        Ok(Self { pair, key_id, modulus, exponent, header })
    }

    /// The `kid`: the key's thumbprint by RFC 7638.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public half as a JWK (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.key_id,
            "n": self.modulus,
            "e": self.exponent,
        })
    }

    /// Signs a token. Costs about a millisecond, so callers keep the token while it counts.
    pub fn sign(&self, claims: &JwtClaims<'_>) -> Result<String, CryptoError> {
        let failed = CryptoError::Library { operation: "signing a token" };
        let Ok(payload) = serde_json::to_vec(claims) else {
            return Err(failed);
        };
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::{JwkSet, ThumbprintHash};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

    use super::*;
    use crate::seam::Clock;

    #[derive(serde::Deserialize)]
    struct Received {
        iss: String,
        aud: String,
        iat: i64,
        exp: i64,
    }

    #[test]
    fn a_token_verifies_against_the_published_set_and_no_other_key() {
        let document = JwtSigningKey::generate().unwrap();
        let key = JwtSigningKey::load(&document).unwrap();
        let other = JwtSigningKey::load(&JwtSigningKey::generate().unwrap()).unwrap();
        let set = json!({ "keys": [other.jwk(), key.jwk()] });
        let set: JwkSet = serde_json::from_value(set).unwrap();
        assert_eq!(set.keys.len(), 2);

        let now = Clock::default().now().seconds();
        let claims = JwtClaims { iss: "orgId:42", aud: "webhookId:7", iat: now, exp: now + 3_600 };
        let token = key.sign(&claims).unwrap();
        let kid = decode_header(&token).unwrap().kid.unwrap();
        assert_eq!(kid, key.key_id());
        let jwk = set.find(&kid).unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), kid);

        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&["orgId:42"]);
        validation.set_audience(&["webhookId:7"]);
        let received =
            decode::<Received>(&token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).unwrap();
        let received = received.claims;
        assert_eq!((received.iss.as_str(), received.aud.as_str()), (claims.iss, claims.aud));
        assert_eq!((received.iat, received.exp), (claims.iat, claims.exp));

        let foreign = DecodingKey::from_jwk(set.find(other.key_id()).unwrap()).unwrap();
        assert!(decode::<Received>(&token, &foreign, &validation).is_err());
        validation.set_audience(&["webhookId:8"]);
        let own = DecodingKey::from_jwk(jwk).unwrap();
        assert!(decode::<Received>(&token, &own, &validation).is_err());
    }

    #[test]
    fn the_set_holds_no_private_part_and_a_key_loads_the_same() {
        let document = JwtSigningKey::generate().unwrap();
        let key = JwtSigningKey::load(&document).unwrap();
        assert_eq!(JwtSigningKey::load(&document).unwrap().key_id(), key.key_id());
        let jwk = key.jwk();
        let members: Vec<_> = jwk.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!(jwk["e"], "AQAB");
        assert!(format!("{key:?}").starts_with("JwtSigningKey { key_id: "));
        assert!(JwtSigningKey::load(&SecretBytes::new(*b"no key")).is_err());
    }
}
