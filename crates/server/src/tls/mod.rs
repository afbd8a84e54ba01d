//! TLS of listeners for clients: certificates that can be replaced while the server runs, and who a client's certificate says it is.

mod distinguished_name;

use std::fmt;
use std::io;
use std::sync::Arc;

use broker::PrincipalMapping;
use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use world::clock::SharedClock;
use world::net::Stream;

use crate::world_time::WorldTime;

/// `ssl.client.auth`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    /// Who shows no certificate is anonymous.
    Requested,
    Required,
}

/// What a listener's TLS is made of.
#[derive(Clone)]
pub struct TlsSettings {
    /// PEM: our certificate first, then those that lead to an authority.
    pub certificate_chain: Vec<u8>,
    /// PEM, without a password.
    pub private_key: Vec<u8>,
    /// PEM: authorities of clients.
    pub trusted: Option<Vec<u8>>,
    pub client_auth: ClientAuth,
    /// TLSv1.2 and TLSv1.3.
    pub versions: Vec<String>,
    pub principals: PrincipalMapping,
}

/// The key is among them.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TlsSettings(client auth: {:?})", self.client_auth)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate chain is not PEM: {0}")]
    Chain(String),
    #[error("there is no certificate in the chain")]
    NoCertificate,
    #[error(
        "the private key has a password, which is not supported: take it off with \
         `openssl pkcs8 -in KEY -topk8 -nocrypt -out NEW` and keep the file to yourself"
    )]
    EncryptedKey,
    #[error("the private key is not PEM: {0}")]
    Key(String),
    #[error("the trusted certificates are not PEM: {0}")]
    Trusted(String),
    #[error("client certificates are asked for and no authority is trusted (ssl.truststore.location)")]
    NothingTrusted,
    #[error("{0} is no version of TLS that is supported (TLSv1.2, TLSv1.3)")]
    Version(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The TLS of one listener.
pub struct ListenerTls {
    clock: SharedClock,
    current: RwLock<Arc<Current>>,
}

struct Current {
    config: Arc<ServerConfig>,
    principals: PrincipalMapping,
    client_auth: ClientAuth,
}

impl ListenerTls {
    pub fn new(settings: &TlsSettings, clock: SharedClock) -> Result<Arc<Self>, TlsError> {
        let current = current(settings, &clock)?;
        Ok(Arc::new(Self { clock, current: RwLock::new(current) }))
    }

    /// For connections that begin from now on; those that are open stay. An error: nothing has changed.
    pub fn replace(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        let current = current(settings, &self.clock)?;
        *self.current.write() = current;
        Ok(())
    }

    /// Must every client show one?
    pub fn requires_certificates(&self) -> bool {
        self.current.read().client_auth == ClientAuth::Required
    }

    /// Also who the client is, `User:…`; None without a certificate, and with SASL: there it only opens the door, and whatever name is in
    /// it, or none, does not matter (KIP-684).
    pub(crate) async fn accept(
        &self,
        stream: Stream,
        has_sasl: bool,
    ) -> io::Result<(TlsStream<Stream>, Option<String>)> {
        let current = self.current.read().clone();
        let stream = TlsAcceptor::from(current.config.clone()).accept(stream).await?;
        let principal = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) if !has_sasl => Some(principal(certificate, &current.principals)?),
            _ => None,
        };
        Ok((stream, principal))
    }
}

fn principal(certificate: &CertificateDer<'_>, principals: &PrincipalMapping) -> io::Result<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let name = parsed.ok().and_then(|parsed| distinguished_name::rfc2253(parsed.subject()));
    let name = name.ok_or_else(|| io::Error::other("the name in the client's certificate cannot be read"))?;
    let mapped = principals.name(&name);
    let mapped = mapped.filter(|mapped| !mapped.is_empty());
    let mapped = mapped
        .ok_or_else(|| io::Error::other(format!("no rule of ssl.principal.mapping.rules fits {name:?}")))?;
    Ok(format!("User:{mapped}"))
}

fn current(settings: &TlsSettings, clock: &SharedClock) -> Result<Arc<Current>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // The first randomness of a process has to be gathered for tens of milliseconds: not by a worker, with its first client.
    provider.secure_random.fill(&mut [0]).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
    let config = Arc::new(config(settings, clock, provider)?);
    Ok(Arc::new(Current {
        config,
        principals: settings.principals.clone(),
        client_auth: settings.client_auth,
    }))
}

fn config(
    settings: &TlsSettings,
    clock: &SharedClock,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&settings.certificate_chain).map_err(TlsError::Chain)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(&settings.private_key);
    let key = key.map_err(|error| match is_encrypted(&settings.private_key) {
        true => TlsError::EncryptedKey,
        false => TlsError::Key(error.to_string()),
    })?;
    let versions = versions(&settings.versions)?;
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(WorldTime(clock.clone())))
        .with_protocol_versions(&versions)?;
    let builder = match settings.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        asked => {
            let trusted = settings.trusted.as_deref().ok_or(TlsError::NothingTrusted)?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates(trusted).map_err(TlsError::Trusted)? {
                roots.add(certificate)?;
            }
            if roots.is_empty() {
                return Err(TlsError::NothingTrusted);
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(match asked {
                ClientAuth::Required => verifier.build()?,
                _ => verifier.allow_unauthenticated().build()?,
            })
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    if settings.client_auth != ClientAuth::None {
        // A session that is resumed shows its certificate no more: what is trusted meanwhile would not count.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    for name in names {
        versions.push(match name.as_str() {
            "TLSv1.2" => &TLS12,
            "TLSv1.3" => &TLS13,
            _ => return Err(TlsError::Version(name.clone())),
        });
    }
    match versions.is_empty() {
        true => Ok(vec![&TLS13, &TLS12]),
        false => Ok(versions),
    }
}
