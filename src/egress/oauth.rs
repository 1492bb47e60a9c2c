//! The authorisation library's way out.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use url::Url;

use super::Egress;
use super::answer::SendError;
use super::exchange::OutgoingRequest;
use super::vetting::Refusal;

/// Longest answer of a token endpoint that is read.
const RESPONSE_LIMIT: usize = 256 * 1_024;
/// Time for one call of a token endpoint.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call of an authorisation server failed.
#[derive(Debug, thiserror::Error)]
pub enum OauthHttpError {
    /// The endpoint may not be called.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No answer came.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The endpoint is no URL.
    #[error("the endpoint of the authorisation server is not an absolute URL")]
    Endpoint,
    /// The answer is longer than any token.
    #[error("the authorisation server's answer is longer than {RESPONSE_LIMIT} bytes")]
    TooLong,
}

/// Lets the `oauth2` crate call authorisation servers through the door.
#[derive(Clone, Debug)]
pub struct OauthHttpClient {
    egress: Egress,
    is_operators: bool,
}

impl OauthHttpClient {
    /// For the operator's own providers, whatever their address and scheme.
    pub fn trusted(egress: Egress) -> Self {
        Self { egress, is_operators: true }
    }

    /// For endpoints that an administrator named: vetted as every URL of theirs.
    pub fn vetted(egress: Egress) -> Self {
        Self { egress, is_operators: false }
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, OauthHttpError> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|_| OauthHttpError::Endpoint)?;
        let url =
            if self.is_operators { self.egress.trusted(&url)? } else { self.egress.vet(&url)? };
        let answer = self
            .egress
            .send(OutgoingRequest {
                method: head.method,
                url,
                headers: head.headers,
                body: Bytes::from(body),
                deadline: DEADLINE,
                response_limit: RESPONSE_LIMIT,
                gate: None,
            })
            .await?;
        if answer.truncated {
            return Err(OauthHttpError::TooLong);
        }
        let mut response = HttpResponse::new(answer.body_excerpt.into());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for OauthHttpClient {
    type Error = OauthHttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OauthHttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}
