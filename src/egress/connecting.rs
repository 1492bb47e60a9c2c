//! Opening a connection: the name, the vetting of its addresses, TCP, TLS.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::client::CONNECT;
use super::gated::GatedBody;
use super::probe::{Probe, Stage};
use super::resolver::{LookupFailed, Resolver, vetted_addresses};
use super::vetting::{Origin, Policy, Refusal, vet_address};
use crate::seam::Clock;

/// Where a name has several addresses, the next is tried beside the former after this time
/// (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 16;

/// An open connection.
pub(super) struct Open {
    pub(super) sender: SendRequest<GatedBody>,
    pub(super) remote: SocketAddr,
}

/// Why none could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Name(#[from] LookupFailed),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("connecting took longer than {} s", CONNECT.as_secs())]
    Overdue,
}

impl ConnectFailure {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Refused(_) | Self::Name(_) => Stage::Resolving,
            Self::Io(_) | Self::Http(_) => Stage::Connecting,
            Self::Overdue => Stage::Overdue,
        }
    }

    /// The error that says most.
    pub(super) fn cause(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Refused(error) => error,
            Self::Name(error) => error,
            Self::Io(error) => error,
            Self::Http(error) => error,
            Self::Overdue => self,
        }
    }
}

/// Opens connections to vetted addresses.
pub(super) struct Connector {
    pub(super) resolver: Resolver,
    pub(super) policy: Arc<Policy>,
    pub(super) tls: TlsConnector,
    pub(super) clock: Clock,
    /// The one address that is connected to, in plain HTTP and whatever the name: this server's own
    /// listener.
    pub(super) listener: Option<SocketAddr>,
}

impl Connector {
    pub(super) async fn open(
        &self,
        origin: &Origin,
        probe: &Probe,
    ) -> Result<Open, ConnectFailure> {
        let started = self.clock.instant();
        let opened = tokio::time::timeout(CONNECT, self.connect(origin, probe)).await;
        let open = opened.unwrap_or(Err(ConnectFailure::Overdue))?;
        probe.connected(started.elapsed());
        Ok(open)
    }

    async fn connect(&self, origin: &Origin, probe: &Probe) -> Result<Open, ConnectFailure> {
        if let Some(remote) = self.listener {
            let stream = TcpStream::connect(remote).await?;
            stream.set_nodelay(true)?;
            return Ok(Open { sender: speak(stream).await?, remote });
        }
        let addresses = match &origin.host {
            Host::Domain(name) => {
                let resolver = (&self.resolver, Some(&*self.policy), &self.clock);
                vetted_addresses(resolver, name, origin.port, Some(probe)).await?
            }
            Host::Ipv4(address) => vec![self.vetted(IpAddr::V4(*address), origin.port, probe)?],
            Host::Ipv6(address) => vec![self.vetted(IpAddr::V6(*address), origin.port, probe)?],
        };
        let stream = self.reach(&addresses, origin.port).await?;
        stream.set_nodelay(true)?;
        let remote = stream.peer_addr()?;
        let sender = if origin.is_https {
            let name = match &origin.host {
                Host::Domain(name) => ServerName::try_from(name.clone())
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no TLS name"))?,
                Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
                Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
            };
            speak(self.tls.connect(name, stream).await?).await?
        } else {
            speak(stream).await?
        };
        Ok(Open { sender, remote })
    }

    /// A literal address was vetted with its URL; once more, since this is the door.
    fn vetted(&self, address: IpAddr, port: u16, probe: &Probe) -> Result<IpAddr, Refusal> {
        vet_address(address, port, &self.policy).inspect_err(|refusal| {
            probe.refuse(refusal.clone());
        })?;
        Ok(address)
    }

    /// The first address that answers.
    async fn reach(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut waiting = addresses.iter().take(MOST_ADDRESSES);
        let mut trying = FuturesUnordered::new();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
        loop {
            if let Some(address) = waiting.next() {
                trying.push(TcpStream::connect(SocketAddr::new(*address, port)));
            }
            let is_more = waiting.len() > 0;
            tokio::select! {
                tried = trying.next() => match tried {
                    Some(Ok(stream)) => return Ok(stream),
                    Some(Err(error)) => last = error,
                    None => return Err(last),
                },
                () = self.clock.sleep(NEXT_ADDRESS), if is_more => {}
            }
        }
    }
}

async fn speak<Stream>(stream: Stream) -> hyper::Result<SendRequest<GatedBody>>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets the error too.
        if let Err(error) = connection.await {
            tracing::trace!(error = %error, "a connection to a receiver ended");
        }
    });
    Ok(sender)
}
