//! How we say at an endpoint who we are. What is secret in it is one text, kept sealed beside the
//! rest and never shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::definition::FieldFault;
use crate::crypto::SecretText;
use crate::egress::Egress;
use crate::seam::Timestamp;

/// The longest of its texts but for certificates and keys, in bytes.
const LONGEST: usize = 4_096;

/// The longest certificate chain or key, in bytes.
const LONGEST_PEM: usize = 64 * 1_024;

/// Where a client says at the token endpoint who it is (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuthentication {
    /// In the header `Authorization`.
    #[default]
    Basic,
    /// In the body.
    Body,
}

/// How an endpoint is told who calls, without what is secret in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Authentication {
    /// It is not told; it can verify the signature.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        username: String,
    },
    /// `Authorization: Bearer`.
    Bearer {
        /// When the token ends, as RFC 3339; somebody is told a week before.
        #[serde(default)]
        expires_at: Option<String>,
    },
    /// A header of the receiver's choice.
    ApiKey {
        /// Its name.
        header: String,
    },
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4): tokens are fetched and refreshed.
    Oauth2ClientCredentials {
        /// The token endpoint.
        token_url: Url,
        /// The client.
        client_id: String,
        /// The scopes, with spaces between.
        #[serde(default)]
        scope: Option<String>,
        /// Where the client says who it is.
        #[serde(default)]
        client_authentication: ClientAuthentication,
    },
    /// OAuth 2.0 authorisation code (RFC 6749 section 4.1): somebody authorises, and tokens are
    /// refreshed.
    Oauth2AuthorizationCode {
        /// Where a browser is sent to.
        authorization_url: Url,
        /// The token endpoint.
        token_url: Url,
        /// The client.
        client_id: String,
        /// The scopes, with spaces between.
        #[serde(default)]
        scope: Option<String>,
        /// Where the client says who it is.
        #[serde(default)]
        client_authentication: ClientAuthentication,
    },
    /// A certificate of ours (TLS client authentication).
    Mtls {
        /// The chain, as PEM; it is no secret.
        certificate: String,
    },
}

/// How an endpoint is to be told who calls. Which members are taken goes by `type`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationRequest {
    /// `none`, `basic`, `bearer`, `apiKey`, `oauth2ClientCredentials`, `oauth2AuthorizationCode` or
    /// `mtls`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of `basic`.
    #[serde(default)]
    pub username: Option<String>,
    /// Of `basic`; never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub password: Option<SecretText>,
    /// Of `bearer`; never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub token: Option<SecretText>,
    /// Of `bearer`: when the token ends (RFC 3339); there is a notice a week before.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// Of `apiKey`: the header's name.
    #[serde(default)]
    pub header: Option<String>,
    /// Of `apiKey`: the header's value; never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub value: Option<SecretText>,
    /// Of `oauth2AuthorizationCode`: where a browser is sent to.
    #[serde(default)]
    pub authorization_url: Option<String>,
    /// Of `oauth2ClientCredentials` and `oauth2AuthorizationCode`: the token endpoint.
    #[serde(default)]
    pub token_url: Option<String>,
    /// Of `oauth2ClientCredentials`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Of `oauth2ClientCredentials`; never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub client_secret: Option<SecretText>,
    /// Of `oauth2ClientCredentials`: the scopes, with spaces between.
    #[serde(default)]
    pub scope: Option<String>,
    /// Of `oauth2ClientCredentials`: `basic` (where it is left out) or `body`.
    #[serde(default)]
    pub client_authentication: Option<ClientAuthentication>,
    /// Of `mtls`: the certificate with its chain, as PEM.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Of `mtls`: the key, as PEM; never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub private_key: Option<SecretText>,
}

/// The members of a request by name, with whether they are there.
type Given = [(&'static str, bool); 14];

/// Reads an authentication, faults by faults.
pub(super) struct Reading<'r> {
    pub(super) request: &'r AuthenticationRequest,
    pub(super) faults: &'r mut Vec<FieldFault>,
    /// The door, for the address of a token endpoint.
    pub(super) egress: &'r Egress,
    /// The kind of which the secret is kept already: it need not be given again.
    pub(super) kept: Option<&'r Authentication>,
}

impl Reading<'_> {
    /// The authentication with its secret; no secret where the kept one stays.
    pub(super) fn read(mut self) -> Option<(Authentication, Option<SecretText>)> {
        let request = self.request;
        let (taken, secret): (&[&str], Option<(&'static str, &Option<SecretText>)>) = match request
            .kind
            .as_str()
        {
            "none" => (&[], None),
            "basic" => (&["username", "password"], Some(("password", &request.password))),
            "bearer" => (&["token", "expiresAt"], Some(("token", &request.token))),
            "apiKey" => (&["header", "value"], Some(("value", &request.value))),
            "oauth2ClientCredentials" => (
                &["tokenUrl", "clientId", "clientSecret", "scope", "clientAuthentication"],
                Some(("clientSecret", &request.client_secret)),
            ),
            "oauth2AuthorizationCode" => (
                &[
                    "authorizationUrl",
                    "tokenUrl",
                    "clientId",
                    "clientSecret",
                    "scope",
                    "clientAuthentication",
                ],
                Some(("clientSecret", &request.client_secret)),
            ),
            "mtls" => (&["certificate", "privateKey"], Some(("privateKey", &request.private_key))),
            _ => {
                self.fault(
                    "type",
                    "must be none, basic, bearer, apiKey, oauth2ClientCredentials, \
                     oauth2AuthorizationCode or mtls",
                );
                return None;
            }
        };
        for (name, is_there) in self.given() {
            if is_there && !taken.contains(&name) {
                self.fault(name, &format!("is not of the type {}", request.kind));
            }
        }
        let authentication = self.authentication()?;
        let secret = match secret {
            None => None,
            Some((name, Some(secret))) => {
                self.check_secret(name, secret);
                Some(secret.clone())
            }
            Some((name, None)) => {
                if !self.kept.is_some_and(|kept| kept.keeps_secret_for(&authentication)) {
                    self.missing(name);
                }
                None
            }
        };
        Some((authentication, secret))
    }

    fn given(&self) -> Given {
        let request = self.request;
        [
            ("username", request.username.is_some()),
            ("password", request.password.is_some()),
            ("token", request.token.is_some()),
            ("expiresAt", request.expires_at.is_some()),
            ("header", request.header.is_some()),
            ("value", request.value.is_some()),
            ("authorizationUrl", request.authorization_url.is_some()),
            ("tokenUrl", request.token_url.is_some()),
            ("clientId", request.client_id.is_some()),
            ("clientSecret", request.client_secret.is_some()),
            ("scope", request.scope.is_some()),
            ("clientAuthentication", request.client_authentication.is_some()),
            ("certificate", request.certificate.is_some()),
            ("privateKey", request.private_key.is_some()),
        ]
    }

    fn authentication(&mut self) -> Option<Authentication> {
        let request = self.request;
        Some(match request.kind.as_str() {
            "basic" => {
                let username = self.text("username", request.username.as_ref())?;
                if username.contains(':') || username.chars().any(char::is_control) {
                    self.fault("username", "must have no colon and no control characters");
                }
                Authentication::Basic { username }
            }
            "bearer" => Authentication::Bearer { expires_at: self.moment() },
            "apiKey" => {
                let header = self.text("header", request.header.as_ref())?.to_ascii_lowercase();
                self.check_header(&header);
                Authentication::ApiKey { header }
            }
            "oauth2ClientCredentials" => {
                let token_url = self.text("tokenUrl", request.token_url.as_ref())?;
                let client_id = self.text("clientId", request.client_id.as_ref())?;
                let token_url = self.secure_url("tokenUrl", &token_url)?;
                let scope = match &request.scope {
                    Some(scope) => Some(self.text("scope", Some(scope))?),
                    None => None,
                };
                Authentication::Oauth2ClientCredentials {
                    token_url,
                    client_id,
                    scope,
                    client_authentication: request.client_authentication.unwrap_or_default(),
                }
            }
            "oauth2AuthorizationCode" => {
                let authorization_url =
                    self.text("authorizationUrl", request.authorization_url.as_ref())?;
                let token_url = self.text("tokenUrl", request.token_url.as_ref())?;
                let client_id = self.text("clientId", request.client_id.as_ref())?;
                let authorization_url = self.secure_url("authorizationUrl", &authorization_url)?;
                let token_url = self.secure_url("tokenUrl", &token_url)?;
                let scope = match &request.scope {
                    Some(scope) => Some(self.text("scope", Some(scope))?),
                    None => None,
                };
                Authentication::Oauth2AuthorizationCode {
                    authorization_url,
                    token_url,
                    client_id,
                    scope,
                    client_authentication: request.client_authentication.unwrap_or_default(),
                }
            }
            "mtls" => {
                let Some(certificate) = request.certificate.clone() else {
                    self.missing("certificate");
                    return None;
                };
                if certificate.len() > LONGEST_PEM {
                    self.fault("certificate", "is longer than 64 KiB");
                    return None;
                }
                Authentication::Mtls { certificate }
            }
            _ => Authentication::None,
        })
    }

    fn moment(&mut self) -> Option<String> {
        let text = self.request.expires_at.as_deref()?;
        let moment = Timestamp::parse_rfc3339(text);
        if moment.is_none() {
            self.fault("expiresAt", "must be a moment by RFC 3339, such as 2027-01-31T12:00:00Z");
        }
        moment.map(Timestamp::rfc3339)
    }

    /// The address of an authorisation server: what is secret goes there.
    fn secure_url(&mut self, name: &'static str, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok();
        let Some(url) = url else {
            self.fault(name, "must be an absolute URL");
            return None;
        };
        if url.scheme() != "https" {
            self.fault(name, "must be https: credentials are not sent over plain http");
            return None;
        }
        if let Err(refusal) = self.egress.vet(&url) {
            self.fault(name, &refusal.to_string());
            return None;
        }
        Some(url)
    }

    fn check_header(&mut self, name: &str) {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.fault("header", "is not the name of a header");
        } else if is_ours(name) {
            self.fault("header", "is Mortise's own");
        }
    }

    fn check_secret(&mut self, name: &'static str, secret: &SecretText) {
        let most = if name == "privateKey" { LONGEST_PEM } else { LONGEST };
        let text = secret.expose();
        if text.is_empty() || text.len() > most {
            self.fault(name, &format!("must have 1 to {most} bytes"));
        } else if ["token", "value"].contains(&name) && HeaderValue::from_str(text).is_err() {
            self.fault(name, "cannot be sent in a header");
        }
    }

    fn text(&mut self, name: &'static str, text: Option<&String>) -> Option<String> {
        match text {
            None => {
                self.missing(name);
                None
            }
            Some(text) if text.is_empty() || text.len() > LONGEST => {
                self.fault(name, &format!("must have 1 to {LONGEST} bytes"));
                None
            }
            Some(text) => Some(text.clone()),
        }
    }

    fn fault(&mut self, name: &str, message: &str) {
        self.faults.push(FieldFault::new(format!("/authentication/{name}"), message));
    }

    fn missing(&mut self, name: &str) {
        let message = format!("is needed for the type {}", self.request.kind);
        self.faults.push(FieldFault::missing(format!("/authentication/{name}"), message));
    }
}

/// Whether a header frames, routes or signs a request, so that nobody else may set it.
pub(crate) fn is_ours(lower: &str) -> bool {
    const OURS: [&str; 17] = [
        "host",
        "connection",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "user-agent",
        "hash",
        "date",
        "x-zdesk-jwt",
        "accept-encoding",
        "x-dzdesk-signature",
    ];
    OURS.contains(&lower)
        || ["ce-", "webhook-", "x-mortise-", "proxy-", "x-forwarded-", "x-zendesk-webhook-"]
            .iter()
            .any(|prefix| lower.starts_with(prefix))
}

impl Authentication {
    /// The name of its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic { .. } => "basic",
            Self::Bearer { .. } => "bearer",
            Self::ApiKey { .. } => "apiKey",
            Self::Oauth2ClientCredentials { .. } => "oauth2ClientCredentials",
            Self::Oauth2AuthorizationCode { .. } => "oauth2AuthorizationCode",
            Self::Mtls { .. } => "mtls",
        }
    }

    /// Whether there is anything that must not go over plain http.
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// When what is secret in it ends, where that is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Bearer { expires_at } => expires_at.as_deref().and_then(Timestamp::parse_rfc3339),
            _ => None,
        }
    }

    /// Whether the secret of this one is still the one of another: the same kind, and nobody else is
    /// told it.
    fn keeps_secret_for(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Oauth2ClientCredentials { token_url: one, .. },
                Self::Oauth2ClientCredentials { token_url: two, .. },
            )
            | (
                Self::Oauth2AuthorizationCode { token_url: one, .. },
                Self::Oauth2AuthorizationCode { token_url: two, .. },
            ) => one.origin() == two.origin(),
            // A key fits its own certificate alone.
            (Self::Mtls { certificate: one }, Self::Mtls { certificate: two }) => one == two,
            (one, two) => one.kind() == two.kind() && one.is_some(),
        }
    }
}

/// An authentication with its secret, ready for use. The secret is neither printed nor serialised.
#[derive(Clone, Debug, Default)]
pub struct EndpointAuthentication {
    /// How.
    pub how: Authentication,
    /// What is secret in it.
    pub secret: Option<SecretText>,
}

impl EndpointAuthentication {
    /// Adds what can be said without asking anybody. Returns false where the secret cannot be
    /// written in a header.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) -> bool {
        let Some(secret) = &self.secret else { return true };
        let (name, value) = match &self.how {
            Authentication::Basic { username } => {
                let pair = SecretText::new(format!("{username}:{}", secret.expose()));
                let value = SecretText::new(format!("Basic {}", STANDARD.encode(pair.expose())));
                (header::AUTHORIZATION, value)
            }
            Authentication::Bearer { .. } => {
                (header::AUTHORIZATION, SecretText::new(format!("Bearer {}", secret.expose())))
            }
            Authentication::ApiKey { header } => match HeaderName::from_bytes(header.as_bytes()) {
                Ok(name) => (name, secret.clone()),
                Err(_) => return false,
            },
            Authentication::None
            | Authentication::Oauth2ClientCredentials { .. }
            | Authentication::Oauth2AuthorizationCode { .. }
            | Authentication::Mtls { .. } => return true,
        };
        add_secret(headers, name, value.expose())
    }

    /// The texts that must not be shown where a receiver echoes them.
    pub(crate) fn concealed(&self) -> Vec<SecretText> {
        let Some(secret) = &self.secret else { return Vec::new() };
        let mut all = vec![secret.clone()];
        if let Authentication::Basic { username } = &self.how {
            let pair = SecretText::new(format!("{username}:{}", secret.expose()));
            all.push(SecretText::new(STANDARD.encode(pair.expose())));
        }
        all
    }
}

/// Sets a header that no log of a library may show.
pub(crate) fn add_secret(headers: &mut HeaderMap, name: HeaderName, value: &str) -> bool {
    let Ok(mut value) = HeaderValue::from_str(value) else { return false };
    value.set_sensitive(true);
    headers.insert(name, value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_into_their_header_and_are_concealed() {
        let of = |how, secret: &str| EndpointAuthentication {
            how,
            secret: Some(SecretText::new(secret)),
        };
        let mut headers = HeaderMap::new();
        let basic = of(Authentication::Basic { username: "ann".to_owned() }, "pa:ss");
        assert!(basic.add_to(&mut headers));
        // RFC 7617: base64 of `ann:pa:ss`.
        assert_eq!(headers["authorization"], "Basic YW5uOnBhOnNz");
        assert!(headers["authorization"].is_sensitive());
        let concealed = basic.concealed();
        assert!(concealed.iter().any(|text| text.expose() == "YW5uOnBhOnNz"));
        assert!(of(Authentication::Bearer { expires_at: None }, "t").add_to(&mut headers));
        assert_eq!(headers["authorization"], "Bearer t");
        let key = of(Authentication::ApiKey { header: "x-key".to_owned() }, "k");
        assert!(key.add_to(&mut headers));
        assert_eq!(headers["x-key"], "k");
        assert!(
            !of(Authentication::ApiKey { header: "x-key".to_owned() }, "a\nb").add_to(&mut headers)
        );
        assert!(!format!("{key:?}").contains("\"k\""));
    }

    #[test]
    fn a_stored_authentication_reads_back() {
        let one = Authentication::Oauth2ClientCredentials {
            token_url: "https://id.example/token".parse().unwrap(),
            client_id: "c".to_owned(),
            scope: None,
            client_authentication: ClientAuthentication::Body,
        };
        let text = serde_json::to_string(&one).unwrap();
        assert!(text.contains("\"type\":\"oauth2ClientCredentials\"") && text.contains("tokenUrl"));
        assert_eq!(serde_json::from_str::<Authentication>(&text).unwrap(), one);
        let other = Authentication::Oauth2ClientCredentials {
            token_url: "https://evil.example/token".parse().unwrap(),
            client_id: "c".to_owned(),
            scope: None,
            client_authentication: ClientAuthentication::Body,
        };
        assert!(one.keeps_secret_for(&one) && !one.keeps_secret_for(&other));
        assert!(!Authentication::None.keeps_secret_for(&Authentication::None));
    }
}
