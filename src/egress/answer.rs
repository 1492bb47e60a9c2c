//! What comes back of a request, or why nothing did.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// How long each phase took, in microseconds, as far as it was reached.
///
/// `dns` and `connect` are missing where a kept connection was used; `connect` is TCP and TLS
/// together, for the connector does not tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Name resolution.
    pub dns_micros: Option<u32>,
    /// TCP and TLS handshakes.
    pub connect_micros: Option<u32>,
    /// From the start to the answer's headers.
    pub first_byte_micros: Option<u32>,
    /// Reading the answer's body.
    pub body_micros: Option<u32>,
    /// From the start to the end.
    pub total_micros: u32,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The headers; the connection bounds them to about 400 KiB and 100.
    pub headers: HeaderMap,
    /// The beginning of the body, up to the limit.
    pub body_excerpt: Bytes,
    /// Whether more followed.
    pub truncated: bool,
    /// How long it took.
    pub timing: Phases,
    /// What was connected to: the receiver, or the proxy where one is configured.
    pub remote_address: Option<SocketAddr>,
}

impl Answer {
    /// The headers as texts, for keeping: at most so many, and at most so many bytes in all.
    /// Values that are no UTF-8 are shown with replacement characters.
    pub fn header_texts(&self, most: usize, most_bytes: usize) -> Vec<(String, String)> {
        let mut left = most_bytes;
        let mut texts = Vec::new();
        for (name, value) in self.headers.iter().take(most) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else {
                break;
            };
            left = rest;
            texts.push((name.as_str().to_owned(), value.into_owned()));
        }
        texts
    }
}

/// Which kind of failure kept an answer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The address is not public, and not allowed.
    AddressRefused,
    /// The name has no addresses, or nobody answered for it.
    NameResolution,
    /// No connection: refused, unreachable.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection was closed or reset before the answer was complete.
    ConnectionClosed,
    /// What came back is not HTTP, or its head is too large.
    Protocol,
    /// The request cannot be written as HTTP.
    InvalidRequest,
    /// The gate was closed: nothing was sent.
    Withdrawn,
    /// There is no access token to send.
    Credentials,
}

impl ErrorClass {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressRefused => "addressRefused",
            Self::NameResolution => "nameResolution",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::ConnectionClosed => "connectionClosed",
            Self::Protocol => "protocol",
            Self::InvalidRequest => "invalidRequest",
            Self::Withdrawn => "withdrawn",
            Self::Credentials => "credentials",
        }
    }

    /// What the receiver's owner can look at.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::AddressRefused => {
                "The name leads to an address that is not public. Use a public address, or have the operator allow this one in egress.allow."
            }
            Self::NameResolution => {
                "The name cannot be resolved. Check its spelling and its DNS records; a new record needs a while to be seen everywhere, and a name of an internal network is not seen at all."
            }
            Self::Connect => {
                "Nothing accepts connections there. Check that the receiver runs, listens on this port and on all interfaces, and that its firewall lets us in."
            }
            Self::Tls => {
                "The secure connection failed. Check that the certificate is valid, complete with its intermediates, and made for this name."
            }
            Self::Timeout => {
                "The receiver took too long. Answer first and do the work afterwards; where not even the connection stood, look at its firewall, which may drop packets silently."
            }
            Self::ConnectionClosed => {
                "The receiver closed the connection before its answer was complete. Look for a crash or a proxy's timeout there."
            }
            Self::Protocol => {
                "The answer is not HTTP/1.1. Check the port, and whether it expects https."
            }
            Self::InvalidRequest => {
                "The request cannot be written as HTTP. Check the URL and the headers."
            }
            Self::Withdrawn => "It was withdrawn before it was sent: nothing left.",
            Self::Credentials => {
                "No access token could be had for the endpoint. Check the token endpoint, the client and its secret."
            }
        }
    }
}

/// Why no answer came. Neither text contains the URL.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", class.as_str())]
pub struct SendError {
    /// Which kind of failure.
    pub class: ErrorClass,
    /// What exactly was seen, without anything secret.
    pub detail: String,
    /// What the receiver's owner can look at.
    pub hint: &'static str,
    /// How far it came and how long that took.
    pub timing: Phases,
    /// The status, where the answer broke off after its headers.
    pub status: Option<StatusCode>,
}

impl SendError {
    /// Whether a kept connection broke before anything came back, as when the receiver restarted
    /// or closed it while the request was on its way. That says nothing about the receiver now, so
    /// a delivery may be tried again at once; it may have been received.
    pub fn is_stale_connection(&self) -> bool {
        self.class == ErrorClass::ConnectionClosed
            && self.status.is_none()
            && self.timing.connect_micros.is_none()
    }
}

/// How a request ended.
pub type Outcome = Result<Answer, SendError>;
