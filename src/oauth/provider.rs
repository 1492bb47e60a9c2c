//! The registry of authorisation servers. A token endpoint comes from the configuration and never
//! from a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use secrecy::ExposeSecret;
use url::Url;

use super::error::OAuthError;
use crate::config::{Origin, Provider};
use crate::crypto::SecretText;
use crate::egress::{Egress, OauthHttpClient, OutgoingRequest};
use crate::seam::{Clock, Timestamp};

/// The service of a manifest that names none: the host's own authorisation server.
pub const DEFAULT_SERVICE: &str = "zlabs_integration";

/// How long a call to an authorisation server may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of a revocation's answer is read.
const ANSWER_LIMIT: usize = 4_096;

/// Tokens as a server granted them.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access: SecretText,
    pub(super) refresh: Option<SecretText>,
    pub(super) expires_at: Option<Timestamp>,
    /// The scopes of the answer; nothing where it had none, which means "as asked".
    pub(super) scopes: Option<Vec<String>>,
}

/// All configured authorisation servers. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Providers {
    by_service: Arc<BTreeMap<String, Provider>>,
    redirect_url: Url,
    egress: Egress,
    clock: Clock,
}

impl Providers {
    /// The servers of the configuration; browsers come back to `public_url`.
    pub fn new(
        providers: BTreeMap<String, Provider>,
        public_url: &Url,
        egress: Egress,
        clock: Clock,
    ) -> Self {
        let mut redirect_url = public_url.clone();
        redirect_url.set_path("/oauth/callback");
        redirect_url.set_query(None);
        Self { by_service: Arc::new(providers), redirect_url, egress, clock }
    }

    pub(super) fn get(&self, service: &str) -> Result<&Provider, OAuthError> {
        self.by_service
            .get(service)
            .ok_or_else(|| OAuthError::UnknownService { service: service.to_owned() })
    }

    /// Whether a service is configured.
    pub fn has(&self, service: &str) -> bool {
        self.by_service.contains_key(service)
    }

    /// The origins that a connection's token may go to.
    pub fn api_origins(&self, service: &str) -> &[Origin] {
        self.by_service.get(service).map_or(&[], |provider| provider.api_origins.as_slice())
    }

    /// Where the browser is sent.
    pub(super) fn authorization_url(
        &self,
        service: &str,
        scopes: &[String],
        state: &str,
        verifier: &str,
    ) -> Result<Url, OAuthError> {
        let provider = self.get(service)?;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(
            verifier.to_owned(),
        ));
        let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(provider.authorize_url.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url.clone()));
        let (url, _state) = client
            .authorize_url(|| CsrfToken::new(state.to_owned()))
            // One text: what stands between scopes differs from server to server.
            .add_scope(Scope::new(scopes.join(&provider.scope_separator)))
            .set_pkce_challenge(challenge)
            .url();
        Ok(url)
    }

    /// Checks the `iss` of an answer where the configuration declares an issuer.
    ///
    /// A browser must bring it (`is_required`); what the marketplace passes on need not have it.
    pub(crate) fn check_issuer_of(
        &self,
        service: &str,
        issuer: Option<&str>,
        is_required: bool,
    ) -> Result<(), OAuthError> {
        let declared = self.get(service)?.issuer.as_deref();
        match (declared, issuer) {
            (Some(declared), Some(given)) if declared == given => Ok(()),
            (Some(_), None) if !is_required => Ok(()),
            (Some(_), _) => Err(OAuthError::WrongIssuer),
            (None, _) => Ok(()),
        }
    }

    /// Exchanges a code for tokens.
    pub(super) async fn exchange(
        &self,
        service: &str,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, OAuthError> {
        let provider = self.get(service)?;
        let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
            .set_client_secret(ClientSecret::new(provider.client_secret.expose_secret().to_owned()))
            .set_token_uri(TokenUrl::from_url(provider.token_url.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url.clone()));
        let http = OauthHttpClient::trusted(self.egress.clone());
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&http)
            .await
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(answer) => match answer.error() {
                    BasicErrorResponseType::InvalidClient
                    | BasicErrorResponseType::UnauthorizedClient => OAuthError::Unreachable {
                        reason: format!("it does not know this client ({})", answer.error()),
                    },
                    // These say that the server failed, not that the code is wrong; some servers
                    // answer the authorisation endpoint's codes here (RFC 6749 section 4.1.2.1).
                    BasicErrorResponseType::Extension(code)
                        if code == "server_error" || code == "temporarily_unavailable" =>
                    {
                        OAuthError::Unreachable { reason: format!("it failed ({code})") }
                    }
                    other => OAuthError::CodeRefused { reason: other.to_string() },
                },
                RequestTokenError::Request(error) => {
                    OAuthError::Unreachable { reason: error.to_string() }
                }
                RequestTokenError::Parse(..) => OAuthError::Unreachable {
                    reason: "its answer is not a token answer".to_owned(),
                },
                RequestTokenError::Other(reason) => OAuthError::Unreachable { reason },
            })?;
        let now = self.clock.now();
        Ok(Tokens {
            access: SecretText::new(answer.access_token().secret().clone()),
            refresh: answer.refresh_token().map(|token| SecretText::new(token.secret().clone())),
            expires_at: answer.expires_in().map(|span| now.plus(span)),
            scopes: answer.scopes().map(|scopes| {
                let joined: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                split_scopes(&joined.join(" "))
            }),
        })
    }

    /// Revokes a token (RFC 7009). A server without a revocation endpoint has nothing to be asked.
    pub(super) async fn revoke(
        &self,
        service: &str,
        token: &SecretText,
        kind: &str,
    ) -> Result<(), OAuthError> {
        let provider = self.get(service)?;
        let Some(revoke_url) = &provider.revoke_url else { return Ok(()) };
        let url = self
            .egress
            .trusted(revoke_url)
            .map_err(|refusal| OAuthError::Unreachable { reason: refusal.to_string() })?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose())
            .append_pair("token_type_hint", kind)
            .finish();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(header::AUTHORIZATION, basic(provider)?);
        let answer = self
            .egress
            .send(OutgoingRequest {
                method: Method::POST,
                url,
                headers,
                body: body.into(),
                deadline: DEADLINE,
                response_limit: ANSWER_LIMIT,
                gate: None,
            })
            .await
            .map_err(|error| OAuthError::Unreachable { reason: error.to_string() })?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(OAuthError::Unreachable {
                reason: format!("revocation answered {}", answer.status),
            })
        }
    }
}

/// HTTP Basic with the client's credentials, form-encoded first (RFC 6749 section 2.3.1).
fn basic(provider: &Provider) -> Result<HeaderValue, OAuthError> {
    use base64::Engine;
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = format!(
        "{}:{}",
        encode(&provider.client_id),
        encode(provider.client_secret.expose_secret())
    );
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| OAuthError::Unreadable { what: "client secret" })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Scopes of an answer, whatever stands between them.
fn split_scopes(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_split_by_spaces_and_commas() {
        assert_eq!(split_scopes("a.READ,b.ALL c.x  d"), ["a.READ", "b.ALL", "c.x", "d"]);
        assert!(split_scopes("").is_empty());
    }
}
