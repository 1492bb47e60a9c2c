//! How TLS is spoken with whoever is called.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_platform_verifier::Verifier;

use super::certificate::CertificateRefused;
use super::client::{EgressError, EgressOptions, TlsProfile, chain};

/// What a pinned certificate is called where it cannot be read.
pub(super) const PINNED: &str = "the webhook's pinned certificate";

/// The settings of all connections of one door: the system's roots with those of the operator and
/// of the profile, TLS 1.2 and 1.3, HTTP/1.1.
pub(super) fn client_config(
    options: &EgressOptions,
    profile: &TlsProfile,
) -> Result<ClientConfig, EgressError> {
    let mut roots = Vec::new();
    if let Some(path) = &options.ca_file {
        roots.extend(read_roots(path)?);
    }
    if let Some(pem) = &profile.extra_roots {
        roots.extend(certificates(pem, "the webhook's own CA")?);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let failed = |error: Error| EgressError::Client(chain(&error));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = if let Some(pem) = &profile.pinned {
        let certificate = match certificates(pem, PINNED)?.as_slice() {
            [one] => one.clone(),
            _ => return Err(EgressError::Certificates { what: PINNED.to_owned() }),
        };
        let pinned = PinnedCertificate { certificate, provider };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
    } else {
        match Verifier::new_with_extra_roots(roots.iter().cloned(), provider) {
            Ok(verifier) => {
                let naming = NamingVerifier(verifier);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(naming))
            }
            // Most often the system has no root certificates at all, as in a bare container. The
            // server is of use without them; what fails then is each https call, as a TLS error.
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the system's root certificates cannot be used: https calls will fail unless egress.ca_file names some"
                );
                let mut store = RootCertStore::empty();
                for root in roots {
                    store.add(root).map_err(failed)?;
                }
                builder.with_root_certificates(store)
            }
        }
    };
    let mut config = match &profile.identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let (chain, key) = identity(pem.expose())?;
            builder.with_client_auth_cert(chain, key).map_err(|_| EgressError::Identity)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn identity(
    pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), EgressError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| EgressError::Identity)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| EgressError::Identity)?;
    if chain.is_empty() { Err(EgressError::Identity) } else { Ok((chain, key)) }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    let pem = std::fs::read(path)
        .map_err(|source| EgressError::CaFile { path: path.to_owned(), source })?;
    certificates(&pem, &format!("egress.ca_file {}", path.display()))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| EgressError::Certificates { what: what.to_owned() })
}

/// The system's verifier, whose refusals name the certificate.
#[derive(Debug)]
struct NamingVerifier(Verifier);

impl ServerCertVerifier for NamingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| {
            let refused = CertificateRefused::new(end_entity, &error);
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The refusal of a certificate within an error of TLS.
pub(super) fn certificate_refused(error: &Error) -> Option<&CertificateRefused> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref()
        }
        _ => None,
    }
}

/// Takes one certificate and no other, where the operator allows that for an org: its names and times
/// are not looked at. The handshake itself is checked, so that whoever has it has its key.
#[derive(Debug)]
struct PinnedCertificate {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        let refused = CertificateRefused::not_pinned(end_entity);
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
