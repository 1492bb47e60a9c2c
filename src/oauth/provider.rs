//! The registry of authorisation servers. A token endpoint comes from the configuration or from a
//! published manifest, and never from a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardErrorResponse,
    TokenResponse, TokenUrl,
};
use secrecy::ExposeSecret;
use url::Url;
use uuid::Uuid;

use super::declared;
use super::error::OAuthError;
use crate::config::{Origin, Provider};
use crate::crypto::{KeyRing, SecretText};
use crate::egress::{Egress, OauthHttpClient, OauthHttpError, OutgoingRequest};
use crate::seam::{Clock, Timestamp};
use crate::store::Store;

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

impl Tokens {
    /// The tokens with their kinds (RFC 7009 section 2.1).
    pub(super) fn all(&self) -> Vec<(&'static str, &SecretText)> {
        let refresh = self.refresh.as_ref().map(|token| ("refresh_token", token));
        std::iter::once(("access_token", &self.access)).chain(refresh).collect()
    }
}

/// Who is asked: a service by its name, and who declares where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// The `serviceName`.
    pub name: String,
    /// The version whose manifest declares the endpoints; nothing where the operator does.
    pub declared_in: Option<Uuid>,
}

impl Service {
    /// A service of the operator's.
    pub fn of_operator(name: impl Into<String>) -> Self {
        Self { name: name.into(), declared_in: None }
    }
}

/// An authorisation server: where it is, and who says so.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) provider: Provider,
    /// What is added to the address that the browser is sent to.
    pub(super) parameters: Vec<(String, String)>,
    /// Where a browser comes back from it, below our address for browsers: the operator's servers
    /// share that address itself, each of a vendor's has a place of its own. So a server that sends a
    /// browser on to another one does not get that one's code (mix-up; RFC 9700 section 4.4.2.2).
    pub(super) place: Option<String>,
}

impl Server {
    /// Whether the operator named it: called whatever its address. A vendor's are vetted.
    pub(super) fn is_operators(&self) -> bool {
        self.place.is_none()
    }
}

/// What a refresh came to.
#[derive(Debug)]
pub(super) enum RefreshError {
    /// The server says that this refresh token is dead (`invalid_grant`).
    Dead,
    /// Everything else: the token may still be good.
    Failed {
        /// What happened, without anything secret.
        reason: String,
    },
}

/// All authorisation servers: the operator's, and those that manifests declare. Cloning shares
/// them.
#[derive(Clone, Debug)]
pub struct Providers {
    by_service: Arc<BTreeMap<String, Arc<Server>>>,
    store: Store,
    ring: KeyRing,
    redirect_url: Url,
    egress: Egress,
    clock: Clock,
}

impl Providers {
    /// The servers of the configuration; browsers come back to `public_url`.
    pub fn new(
        providers: BTreeMap<String, Provider>,
        public_url: &Url,
        store: Store,
        ring: KeyRing,
        egress: Egress,
        clock: Clock,
    ) -> Self {
        let mut redirect_url = public_url.clone();
        redirect_url.set_path("/oauth/callback");
        redirect_url.set_query(None);
        let by_service = providers
            .into_iter()
            .map(|(name, provider)| {
                let server = Server { provider, parameters: Vec::new(), place: None };
                (name, Arc::new(server))
            })
            .collect();
        Self { by_service: Arc::new(by_service), store, ring, redirect_url, egress, clock }
    }

    /// The server of a service.
    pub(super) async fn find(&self, service: &Service) -> Result<Arc<Server>, OAuthError> {
        let unknown = || OAuthError::UnknownService { service: service.name.clone() };
        match service.declared_in {
            None => self.by_service.get(&service.name).cloned().ok_or_else(unknown),
            Some(version) => declared::server(&self.store, &self.ring, version, &service.name)
                .await?
                .map(Arc::new)
                .ok_or_else(unknown),
        }
    }

    fn redirect_url(&self, server: &Server) -> Url {
        let mut url = self.redirect_url.clone();
        if let Some(place) = &server.place {
            url.set_path(&format!("{}/{place}", url.path()));
        }
        url
    }

    /// Where browsers come back from a service; what is registered there.
    pub(crate) async fn redirect_url_of(&self, service: &Service) -> Result<Url, OAuthError> {
        Ok(self.redirect_url(&*self.find(service).await?))
    }

    /// Refuses a browser that comes back at another server's place than that of the one which it
    /// was sent to.
    pub(crate) async fn check_place(
        &self,
        service: &Service,
        place: Option<&str>,
    ) -> Result<(), OAuthError> {
        let server = self.find(service).await?;
        if server.place.as_deref() == place { Ok(()) } else { Err(OAuthError::InvalidState) }
    }

    /// Whether the operator configured a service.
    pub fn has(&self, service: &str) -> bool {
        self.by_service.contains_key(service)
    }

    /// The origins that a connection's token may go to.
    pub fn api_origins(&self, service: &str) -> &[Origin] {
        self.by_service.get(service).map_or(&[], |server| server.provider.api_origins.as_slice())
    }

    /// Where the token of a service may go, and whether the operator says so: the operator's hosts
    /// are called whatever their address, those of a manifest are vetted. A service that nobody
    /// knows reaches nothing.
    pub(crate) async fn reach_of(
        &self,
        service: &Service,
    ) -> Result<(Vec<Origin>, bool), OAuthError> {
        match self.find(service).await {
            Ok(server) => Ok((server.provider.api_origins.clone(), server.is_operators())),
            Err(OAuthError::UnknownService { .. }) => Ok((Vec::new(), false)),
            Err(error) => Err(error),
        }
    }

    /// Where the browser is sent.
    pub(super) async fn authorization_url(
        &self,
        service: &Service,
        scopes: &[String],
        state: &str,
        verifier: &str,
    ) -> Result<Url, OAuthError> {
        let server = self.find(service).await?;
        let provider = &server.provider;
        if !server.is_operators() {
            // A browser is not sent where our own calls would not go.
            let vetted = self.egress.vet(&provider.authorize_url);
            vetted.map_err(|refusal| OAuthError::Unreachable { reason: refusal.to_string() })?;
        }
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(
            verifier.to_owned(),
        ));
        let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(provider.authorize_url.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url(&server)));
        let mut asking =
            client.authorize_url(|| CsrfToken::new(state.to_owned())).set_pkce_challenge(challenge);
        if !scopes.is_empty() {
            // One text: what stands between scopes differs from server to server.
            asking = asking.add_scope(Scope::new(scopes.join(&provider.scope_separator)));
        }
        for (name, value) in &server.parameters {
            asking = asking.add_extra_param(name.clone(), value.clone());
        }
        let (url, _state) = asking.url();
        Ok(url)
    }

    /// Checks the `iss` of an answer where the configuration declares an issuer.
    ///
    /// A browser must bring it (`is_required`); what the marketplace passes on need not have it.
    pub(crate) async fn check_issuer_of(
        &self,
        service: &Service,
        issuer: Option<&str>,
        is_required: bool,
    ) -> Result<(), OAuthError> {
        let server = self.find(service).await?;
        match (server.provider.issuer.as_deref(), issuer) {
            (Some(declared), Some(given)) if declared == given => Ok(()),
            (Some(_), None) if !is_required => Ok(()),
            (Some(_), _) => Err(OAuthError::WrongIssuer),
            (None, _) => Ok(()),
        }
    }

    fn client(&self, server: &Server) -> OauthHttpClient {
        if server.is_operators() {
            OauthHttpClient::trusted(self.egress.clone())
        } else {
            OauthHttpClient::vetted(self.egress.clone())
        }
    }

    fn tokens(&self, answer: &BasicTokenResponse) -> Tokens {
        let now = self.clock.now();
        Tokens {
            access: SecretText::new(answer.access_token().secret().clone()),
            refresh: answer.refresh_token().map(|token| SecretText::new(token.secret().clone())),
            expires_at: answer.expires_in().map(|span| now.plus(span)),
            scopes: answer.scopes().map(|scopes| {
                let joined: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                split_scopes(&joined.join(" "))
            }),
        }
    }

    /// Exchanges a code for tokens.
    pub(super) async fn exchange(
        &self,
        service: &Service,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, OAuthError> {
        let server = self.find(service).await?;
        let provider = &server.provider;
        let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
            .set_client_secret(ClientSecret::new(provider.client_secret.expose_secret().to_owned()))
            .set_token_uri(TokenUrl::from_url(provider.token_url.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url(&server)));
        let http = self.client(&server);
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&http)
            .await
            .map_err(|error| match failure(error) {
                Failure::Refused(reason) => OAuthError::CodeRefused { reason },
                Failure::Other(reason) => OAuthError::Unreachable { reason },
            })?;
        Ok(self.tokens(&answer))
    }

    /// Exchanges a refresh token for new tokens (RFC 6749 section 6). No scope is asked for: what
    /// was granted goes on.
    pub(super) async fn refresh(
        &self,
        server: &Server,
        refresh: &SecretText,
    ) -> Result<Tokens, RefreshError> {
        let provider = &server.provider;
        let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
            .set_client_secret(ClientSecret::new(provider.client_secret.expose_secret().to_owned()))
            .set_token_uri(TokenUrl::from_url(provider.token_url.clone()));
        let http = self.client(server);
        let token = RefreshToken::new(refresh.expose().to_owned());
        let answer = client.exchange_refresh_token(&token).request_async(&http).await;
        match answer {
            Ok(answer) => Ok(self.tokens(&answer)),
            Err(error) => Err(match failure(error) {
                Failure::Refused(reason) if reason == "invalid_grant" => RefreshError::Dead,
                Failure::Refused(reason) => {
                    RefreshError::Failed { reason: format!("it refuses to refresh ({reason})") }
                }
                Failure::Other(reason) => RefreshError::Failed { reason },
            }),
        }
    }

    /// Revokes a token (RFC 7009). A server without a revocation endpoint has nothing to be asked.
    pub(super) async fn revoke(
        &self,
        service: &Service,
        token: &SecretText,
        kind: &str,
    ) -> Result<(), OAuthError> {
        let server = self.find(service).await?;
        let Some(revoke_url) = &server.provider.revoke_url else { return Ok(()) };
        let url = if server.is_operators() {
            self.egress.trusted(revoke_url)
        } else {
            self.egress.vet(revoke_url)
        };
        let url = url.map_err(|refusal| OAuthError::Unreachable { reason: refusal.to_string() })?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose())
            .append_pair("token_type_hint", kind)
            .finish();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(header::AUTHORIZATION, basic(&server.provider)?);
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

/// Why a token endpoint gave no tokens.
enum Failure {
    /// It refused what it was brought, with this code.
    Refused(String),
    /// It failed, in words.
    Other(String),
}

fn failure(
    error: RequestTokenError<OauthHttpError, StandardErrorResponse<BasicErrorResponseType>>,
) -> Failure {
    match error {
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            BasicErrorResponseType::InvalidClient | BasicErrorResponseType::UnauthorizedClient => {
                Failure::Other(format!("it does not know this client ({})", answer.error()))
            }
            // These say that the server failed, not that the token is wrong; some servers
            // answer the authorisation endpoint's codes here (RFC 6749 section 4.1.2.1).
            BasicErrorResponseType::Extension(code)
                if code == "server_error" || code == "temporarily_unavailable" =>
            {
                Failure::Other(format!("it failed ({code})"))
            }
            other => Failure::Refused(other.to_string()),
        },
        RequestTokenError::Request(error) => Failure::Other(error.to_string()),
        RequestTokenError::Parse(..) => Failure::Other("its answer is not a token answer".into()),
        RequestTokenError::Other(reason) => Failure::Other(reason),
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
