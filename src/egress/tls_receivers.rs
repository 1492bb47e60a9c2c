//! The door against receivers that speak TLS, with certificates made for the test.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::receivers::{LONG, OK, listen, post};
use super::{Egress, EgressOptions, ErrorClass, Policy, Resolver, ScriptedNames, TlsProfile};
use crate::crypto::SecretBytes;
use crate::seam::Clock;

/// An authority of our own, with its certificate in a file.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str, expired: bool) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A TLS receiver for one name; gives its port, and the names that it was asked for (SNI).
    async fn receiver(
        &self,
        name: &str,
        expired: bool,
        wants_certificate: bool,
    ) -> (u16, Arc<Mutex<Vec<String>>>) {
        let (certificate, key) = self.issue(name, expired);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::clone(&asked);
        let (address, _) = listen(move |stream, _| {
            let (acceptor, names) = (acceptor.clone(), Arc::clone(&names));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                names.lock().unwrap().push(name);
                while stream.read(&mut [0; 4_096]).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(OK).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        (address.port(), asked)
    }
}

fn egress(ca_file: Option<PathBuf>) -> Egress {
    let loopback = || [vec![IpAddr::from([127, 0, 0, 1])]];
    let names = ScriptedNames::default()
        .with("hooks.vendor.com", loopback())
        .with("other.vendor.com", loopback());
    let options = EgressOptions {
        policy: Policy { allow: vec!["127.0.0.1".parse().unwrap()], ..Policy::default() },
        ca_file,
        resolver: Resolver::Scripted(names),
        ..EgressOptions::default()
    };
    Egress::new(options, Clock::default()).unwrap()
}

async fn call(egress: &Egress, name: &str, port: u16) -> Result<String, ErrorClass> {
    let url = format!("https://{name}:{port}/?securityContext=confidential");
    match egress.send(post(egress, &url, LONG)).await {
        Ok(answer) => Ok(String::from_utf8(answer.body_excerpt.to_vec()).unwrap()),
        Err(error) => {
            assert!(!error.detail.contains("confidential"), "{error:?}");
            Err(error.class)
        }
    }
}

#[tokio::test]
async fn only_a_valid_certificate_of_a_trusted_authority_passes() {
    let authority = Authority::new();
    let (port, asked) = authority.receiver("hooks.vendor.com", false, false).await;
    let (expired, _) = authority.receiver("hooks.vendor.com", true, false).await;
    let trusting = egress(Some(authority.file()));
    assert_eq!(call(&trusting, "hooks.vendor.com", port).await, Ok("ok".to_owned()));
    assert_eq!(
        *asked.lock().unwrap(),
        ["hooks.vendor.com"],
        "the name goes along, not the address"
    );
    assert_eq!(call(&trusting, "other.vendor.com", port).await, Err(ErrorClass::Tls));
    assert_eq!(call(&trusting, "127.0.0.1", port).await, Err(ErrorClass::Tls));
    assert_eq!(call(&trusting, "hooks.vendor.com", expired).await, Err(ErrorClass::Tls));
    let stranger = egress(Some(Authority::new().file()));
    assert_eq!(call(&stranger, "hooks.vendor.com", port).await, Err(ErrorClass::Tls));
    assert_eq!(call(&egress(None), "hooks.vendor.com", port).await, Err(ErrorClass::Tls));
}

#[tokio::test]
async fn a_refusal_names_the_certificate_and_the_ways_out() {
    let authority = Authority::new();
    let (port, _) = authority.receiver("hooks.vendor.com", false, false).await;
    let (expired, _) = authority.receiver("hooks.vendor.com", true, false).await;
    let (trusting, stranger) = (egress(Some(authority.file())), egress(None));
    for (egress, name, port, said, way) in [
        (&trusting, "hooks.vendor.com", expired, "has expired", "Renew it"),
        (&trusting, "other.vendor.com", port, "other names", "Use one of those in the URL"),
        (&stranger, "hooks.vendor.com", port, "issuer that is not trusted", "full chain"),
    ] {
        let url = format!("https://{name}:{port}/");
        let error = egress.send(post(egress, &url, LONG)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Tls);
        assert!(error.detail.contains("hooks.vendor.com"), "{}", error.detail);
        assert!(error.detail.contains(said), "{}", error.detail);
        assert!(error.hint.contains(way), "{}", error.hint);
    }
}

#[tokio::test]
async fn a_webhook_can_bring_its_own_tls_settings() {
    let authority = Authority::new();
    let (port, _) = authority.receiver("hooks.vendor.com", false, false).await;
    let plain = egress(None);
    let own_authority = TlsProfile {
        extra_roots: Some(authority.certificate.pem().into_bytes()),
        ..TlsProfile::default()
    };
    let with_authority = plain.with_tls(&own_authority).unwrap();
    assert_eq!(call(&with_authority, "hooks.vendor.com", port).await, Ok("ok".to_owned()));
    assert_eq!(call(&with_authority, "other.vendor.com", port).await, Err(ErrorClass::Tls));
    let other = TlsProfile {
        pinned: Some(authority.certificate.pem().into_bytes()),
        ..TlsProfile::default()
    };
    let url = format!("https://hooks.vendor.com:{port}/");
    let pinning = plain.with_tls(&other).unwrap();
    let error = pinning.send(post(&pinning, &url, LONG)).await.unwrap_err();
    assert!(error.detail.contains("not the one that the webhook pins"), "{}", error.detail);
    assert!(error.hint.contains("tls.pinnedCertificate"), "{}", error.hint);
    let two = authority.certificate.pem().repeat(2).into_bytes();
    assert!(plain.with_tls(&TlsProfile { pinned: Some(two), ..TlsProfile::default() }).is_err());
    assert_eq!(call(&plain, "hooks.vendor.com", port).await, Err(ErrorClass::Tls));
    let broken =
        TlsProfile { identity: Some(SecretBytes::new(*b"no PEM")), ..TlsProfile::default() };
    assert!(plain.with_tls(&broken).is_err());
}

#[tokio::test]
async fn a_receiver_that_wants_our_certificate_gets_it() {
    let authority = Authority::new();
    let (port, _) = authority.receiver("hooks.vendor.com", false, true).await;
    let without = egress(Some(authority.file()));
    assert_eq!(call(&without, "hooks.vendor.com", port).await, Err(ErrorClass::Tls));
    let (certificate, key) = authority.issue("mortise.vendor.com", false);
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    let profile = TlsProfile { identity: Some(SecretBytes::new(pem)), ..TlsProfile::default() };
    let with = without.with_tls(&profile).unwrap();
    assert_eq!(call(&with, "hooks.vendor.com", port).await, Ok("ok".to_owned()));
}
