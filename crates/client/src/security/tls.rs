//! TLS as a client has it: which authorities are trusted, whose name must stand in the certificate, and our own certificate.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

/// What our side of TLS is made of.
#[derive(Clone)]
pub struct Tls {
    /// PEM: authorities of brokers. None: those of the operating system.
    pub trusted: Option<Vec<u8>>,
    /// PEM: our certificate first, then those that lead to an authority; and its private key, without a password.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// `ssl.endpoint.identification.algorithm`: whether the certificate must have the name that was connected to. Without it any
    /// broker that an authority knows may stand for any other.
    pub checks_host_name: bool,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls { trusted: None, identity: None, checks_host_name: true }
    }
}

/// The key is in it.
impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tls(checks host name: {})", self.checks_host_name)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the trusted certificates are not PEM: {0}")]
    Trusted(String),
    #[error("no certificate is trusted")]
    NothingTrusted,
    #[error("the certificate chain is not PEM: {0}")]
    Chain(String),
    #[error("the private key is not PEM, or has a password: {0}")]
    Key(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

pub(super) fn connector(tls: &Tls) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = roots(tls.trusted.as_deref())?;
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if tls.checks_host_name {
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { roots, provider }))
    };
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = certificates(chain).map_err(TlsError::Chain)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.map_err(|error| error.to_string())
}

fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match pem {
        Some(pem) => {
            for certificate in certificates(pem).map_err(TlsError::Trusted)? {
                roots.add(certificate)?;
            }
        }
        // Some of a system's authorities are too old for rustls; the others are enough.
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() { Err(TlsError::NothingTrusted) } else { Ok(roots) }
}

/// Checks everything of a certificate but the name in it.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
