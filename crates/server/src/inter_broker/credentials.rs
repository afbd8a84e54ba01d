//! Who a broker is to the others: a certificate that it signs itself, with the cluster's certificate authority.
//!
//! ```text
//!   ca/1, ca/2 … in the bucket ──▶ all of them are trusted; the newest signs ──▶ our certificate: in memory only, renewed every day
//! ```
//!
//! The name in a certificate is that of one incarnation, `wal-17.node-3.ottla.internal`. Whoever calls a broker asks for exactly the
//! incarnation that the metadata log names at that address, and whoever is called knows who calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use world::clock::SharedClock;

use crate::world_time::WorldTime;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// For readers of the certificate: verifiers do not hold the time against what they trust anyway.
const AUTHORITY_LIFE: Duration = Duration::from_secs(36_500 * 24 * 3600);
const CERTIFICATE_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
const CERTIFICATE_RENEWED_EVERY: Duration = DAY;
/// How far the clocks of two machines may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 24 * 3600);
/// A peer that nobody trusts may be one with a new authority: the bucket is asked so often at most.
const RELOAD_PAUSE: Duration = Duration::from_secs(60);
/// For names of machines that are nowhere else (ICANN's resolution of 2024).
const DOMAIN: &str = "ottla.internal";

/// One incarnation of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId {
    pub node_id: i32,
    pub wal_id: u64,
}

impl PeerId {
    fn dns_name(self) -> String {
        format!("wal-{}.node-{}.{DOMAIN}", self.wal_id, self.node_id)
    }

    fn of_dns_name(name: &str) -> Option<Self> {
        let (wal, node) = name.strip_suffix(DOMAIN)?.strip_suffix('.')?.split_once('.')?;
        let id = Self {
            wal_id: wal.strip_prefix("wal-")?.parse().ok()?,
            node_id: node.strip_prefix("node-")?.parse().ok()?,
        };
        // One name for one broker.
        (id.dns_name() == name).then_some(id)
    }

    pub(super) fn server_name(self) -> ServerName<'static> {
        ServerName::try_from(self.dns_name()).expect("made of digits and letters")
    }

    /// Whose certificate it is. That it is one of the cluster TLS has found out.
    pub(super) fn of_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(der).ok()?;
        certificate.valid_dns_names().find_map(Self::of_dns_name)
    }
}

/// A certificate authority with its key, as the bucket has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    pub number: u64,
    /// DER.
    pub certificate: Bytes,
    /// PKCS #8, DER.
    pub private_key: Bytes,
}

/// Where the authorities are.
pub trait AuthorityStore: Send + Sync + 'static {
    /// By number.
    fn list(&self) -> BoxFuture<'static, Result<Vec<Authority>, String>>;
    /// Gives the one of that number that is there afterwards: of several who add it one is the first.
    fn add(&self, new: Authority) -> BoxFuture<'static, Result<Authority, String>>;
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the cluster's certificate authority: {0}")]
    Store(String),
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the cluster has no certificate authority")]
    NoAuthority,
}

/// What TLS needs on either side. Changes with time.
#[derive(Clone)]
pub(super) struct Configs {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

pub struct Credentials {
    store: Arc<dyn AuthorityStore>,
    cluster_id: String,
    me: PeerId,
    clock: SharedClock,
    provider: Arc<CryptoProvider>,
    configs: RwLock<Configs>,
    known: Mutex<Known>,
}

struct Known {
    authorities: Vec<Authority>,
    signed_at: Duration,
    loaded_at: Duration,
}

impl Credentials {
    /// Reads the cluster's authorities, makes one where there is none, and signs a certificate for `me`.
    pub async fn load(
        store: Arc<dyn AuthorityStore>,
        cluster_id: &str,
        me: PeerId,
        clock: SharedClock,
    ) -> Result<Arc<Self>, CredentialsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut authorities = store.list().await.map_err(CredentialsError::Store)?;
        if authorities.is_empty() {
            let new = new_authority(1, cluster_id, &clock)?;
            authorities.push(store.add(new).await.map_err(CredentialsError::Store)?);
        }
        let configs = configs(&authorities, cluster_id, me, &clock, &provider)?;
        let now = clock.monotonic();
        Ok(Arc::new(Self {
            store,
            cluster_id: cluster_id.to_owned(),
            me,
            clock,
            provider,
            configs: RwLock::new(configs),
            known: Mutex::new(Known { authorities, signed_at: now, loaded_at: now }),
        }))
    }

    pub fn me(&self) -> PeerId {
        self.me
    }

    /// What to use for the next connection. Those that are open stay: whoever is alive was let in.
    pub(super) fn configs(&self) -> Configs {
        let mut known = self.known.lock();
        let now = self.clock.monotonic();
        if now.saturating_sub(known.signed_at) >= CERTIFICATE_RENEWED_EVERY {
            known.signed_at = now;
            self.sign(&known.authorities);
        }
        self.configs.read().clone()
    }

    /// A peer is not trusted, or does not trust us: perhaps there is a new authority.
    pub(super) async fn reload(&self) {
        let now = self.clock.monotonic();
        {
            let mut known = self.known.lock();
            if now.saturating_sub(known.loaded_at) < RELOAD_PAUSE {
                return;
            }
            known.loaded_at = now;
        }
        match self.store.list().await {
            Ok(authorities) => {
                let mut known = self.known.lock();
                if known.authorities != authorities && self.sign(&authorities) {
                    tracing::info!(
                        "the cluster's certificate authorities have changed: {} are trusted",
                        authorities.len()
                    );
                    known.authorities = authorities;
                    known.signed_at = now;
                }
            }
            Err(error) => tracing::warn!("the cluster's certificate authorities cannot be read: {error}"),
        }
    }

    fn sign(&self, authorities: &[Authority]) -> bool {
        match configs(authorities, &self.cluster_id, self.me, &self.clock, &self.provider) {
            Ok(configs) => {
                *self.configs.write() = configs;
                true
            }
            Err(error) => {
                tracing::warn!("the certificate for other brokers stays as it was: {error}");
                false
            }
        }
    }
}

fn at(clock: &SharedClock) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(clock.now_ms() / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn authority_params(cluster_id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, cluster_id);
    params.distinguished_name.push(DnType::CommonName, "Ottla brokers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// A new one, to be added to a store.
pub fn new_authority(
    number: u64,
    cluster_id: &str,
    clock: &SharedClock,
) -> Result<Authority, CredentialsError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(cluster_id);
    params.not_before = at(clock) - CLOCK_SKEW;
    params.not_after = at(clock) + AUTHORITY_LIFE;
    let certificate = params.self_signed(&key)?;
    let certificate = Bytes::copy_from_slice(certificate.der());
    Ok(Authority { number, certificate, private_key: key.serialize_der().into() })
}

/// Our own certificate and its key, signed by one authority.
fn sign(
    authority: &Authority,
    cluster_id: &str,
    me: PeerId,
    clock: &SharedClock,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CredentialsError> {
    let authority_key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&authority.private_key[..]))?;
    let issuer = Issuer::new(authority_params(cluster_id), authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([me.dns_name()])?;
    params.distinguished_name.push(DnType::OrganizationName, cluster_id);
    params.distinguished_name.push(DnType::CommonName, me.dns_name());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = at(clock) - CLOCK_SKEW;
    params.not_after = at(clock) + CERTIFICATE_LIFE;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.into(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn configs(
    authorities: &[Authority],
    cluster_id: &str,
    me: PeerId,
    clock: &SharedClock,
    provider: &Arc<CryptoProvider>,
) -> Result<Configs, CredentialsError> {
    let newest = authorities.last().ok_or(CredentialsError::NoAuthority)?;
    let (certificate, key) = sign(newest, cluster_id, me, clock)?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.certificate.to_vec()))?;
    }
    let roots = Arc::new(roots);
    let time: Arc<dyn TimeProvider> = Arc::new(WorldTime(clock.clone()));
    let peers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut server = ServerConfig::builder_with_details(provider.clone(), time.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(peers)
        .with_single_cert(vec![certificate.clone()], key.clone_key())?;
    // A connection stays for as long as both live: there is nothing to resume, and so nothing that outlives a certificate.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_details(provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    client.resumption = Resumption::disabled();
    Ok(Configs { server: Arc::new(server), client: Arc::new(client) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_it_is_and_no_other_name_does() {
        let id = PeerId { node_id: 3, wal_id: 17 };
        assert_eq!(id.dns_name(), "wal-17.node-3.ottla.internal");
        assert_eq!(PeerId::of_dns_name(&id.dns_name()), Some(id));
        for wrong in [
            "wal-17.node-3.ottla.internal.",
            "wal-017.node-3.ottla.internal",
            "wal-+17.node-3.ottla.internal",
            "wal-17.node-3",
            "",
        ] {
            assert_eq!(PeerId::of_dns_name(wrong), None, "{wrong}");
        }
    }
}
