//! A receiver that speaks TLS with a certificate of its own authority.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct TlsRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl TlsRequest {
    /// A header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

type Answering = Box<dyn Fn(&TlsRequest) -> (u16, String) + Send + Sync>;

/// A receiver for `https://127.0.0.1`.
pub(crate) struct TlsReceiver {
    port: u16,
    /// The authority's certificate.
    pub(crate) ca: String,
    /// Its own.
    pub(crate) certificate: String,
    /// A client's certificate and key that the authority made.
    pub(crate) client: (String, String),
    received: Arc<Mutex<Vec<TlsRequest>>>,
    answering: Arc<Mutex<Answering>>,
}

impl TlsReceiver {
    /// Starts; asks clients for a certificate where it is to.
    pub(crate) async fn start(wants_certificate: bool) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(params, authority_key);
        let issue = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            (params.signed_by(&key, &issuer).expect("a certificate"), key)
        };
        let (certificate, key) = issue("127.0.0.1");
        let (client, client_key) = issue("mortise.example");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let config =
            builder.with_single_cert(vec![certificate.der().clone()], key).expect("a config");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let answering: Answering = Box::new(|_| (200, String::new()));
        let receiver = Self {
            port: listener.local_addr().expect("an address").port(),
            ca: authority.pem(),
            certificate: certificate.pem(),
            client: (client.pem(), client_key.serialize_pem()),
            received: Arc::default(),
            answering: Arc::new(Mutex::new(answering)),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (log, answering) = (Arc::clone(&receiver.received), Arc::clone(&receiver.answering));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log, answering) =
                    (acceptor.clone(), Arc::clone(&log), Arc::clone(&answering));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while let Some(request) = read(&mut stream).await {
                        let (status, body) = {
                            let answer = answering.lock().expect("a lock");
                            answer(&request)
                        };
                        log.lock().expect("a lock").push(request);
                        let answer = format!(
                            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        receiver
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Says how it answers from now on.
    pub(crate) fn answer(
        &self,
        answering: impl Fn(&TlsRequest) -> (u16, String) + Send + Sync + 'static,
    ) {
        *self.answering.lock().expect("a lock") = Box::new(answering);
    }

    /// What came to a path by POST, in order.
    pub(crate) fn posted(&self, path: &str) -> Vec<TlsRequest> {
        let all = self.received.lock().expect("a lock");
        all.iter()
            .filter(|one| one.method == "POST" && one.path.split('?').next() == Some(path))
            .cloned()
            .collect()
    }
}

/// The next request; none where the connection has ended.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<TlsRequest> {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4_096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let mut first = lines.next()?.split(' ');
            let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let length = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse::<usize>().unwrap_or(0));
            while bytes.len() < end + 4 + length {
                let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
                bytes.extend_from_slice(&buffer[..read]);
            }
            let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
            return Some(TlsRequest { method, path, headers, body });
        }
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
}
