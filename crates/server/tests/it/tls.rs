//! Listeners with TLS: who is let in and as whom, certificates that change, and what is no TLS at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::{Connection, Handling, Outcome, PrincipalMapping};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use server::{
    BindError, BoundListener, ClientAuth, Dispatch, Limits, ListenerSecurity, ListenerTls, Server, TlsError,
    TlsSettings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::clock::RealClock;
use world::net::Net;

use crate::script::{METADATA, request, until, within};

/// Answers with the principal of whoever asks, and behind it as many bytes as the request's body says.
struct WhoAmI;

impl Dispatch for WhoAmI {
    fn handle(&self, connection: &Arc<Connection>, frame: Bytes) -> Handling {
        let principal = connection.principal();
        let size = frame.get(8..12).map_or(0, |size| u32::from_be_bytes(size.try_into().unwrap()) as usize);
        let mut head = BytesMut::new();
        head.put_u32((4 + 4 + principal.len() + size) as u32);
        head.extend_from_slice(&frame[4..8]);
        head.put_u32(principal.len() as u32);
        head.extend_from_slice(principal.as_bytes());
        let answer = Outcome::Answer(vec![head.freeze(), Bytes::from(vec![7; size])]);
        Handling::Sequential(Box::pin(std::future::ready(answer)))
    }

    fn produce_room(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// Certificate and key, PEM; and the key's DER.
    fn sign(&self, name: &str) -> (String, KeyPair, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Ottla");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key, certificate.der().clone())
    }

    fn settings(&self, client_auth: ClientAuth) -> TlsSettings {
        let (certificate, key, _) = self.sign("server");
        TlsSettings {
            certificate_chain: certificate.into_bytes(),
            private_key: key.serialize_pem().into_bytes(),
            trusted: Some(self.pem.clone().into_bytes()),
            client_auth,
            versions: Vec::new(),
            principals: PrincipalMapping::parse("RULE:^CN=(.*?),O=Ottla$/$1/U").unwrap(),
        }
    }
}

struct Place {
    server: Arc<Server>,
    tls: Arc<ListenerTls>,
}

async fn serve(settings: &TlsSettings, limits: Limits) -> Place {
    serve_as(ListenerSecurity::Ssl, settings, limits).await
}

async fn serve_as(
    security: fn(Arc<ListenerTls>) -> ListenerSecurity,
    settings: &TlsSettings,
    limits: Limits,
) -> Place {
    let clock = Arc::new(RealClock::new());
    let tls = ListenerTls::new(settings, clock.clone()).unwrap();
    let security = security(tls.clone());
    let listener =
        BoundListener::bind_with(&Net::tcp(), "SSL", "127.0.0.1:0", security, false).await.unwrap();
    Place { server: Server::start(vec![listener], WhoAmI, limits, clock), tls }
}

struct Client {
    trusts: CertificateDer<'static>,
    shows: Option<(CertificateDer<'static>, KeyPair)>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Client {
    fn of(authority: &Authority) -> Self {
        Self { trusts: authority.der.clone(), shows: None, versions: rustls::ALL_VERSIONS }
    }

    fn named(authority: &Authority, signed_by: &Authority, name: &str) -> Self {
        let (_, key, der) = signed_by.sign(name);
        Self { shows: Some((der, key)), ..Self::of(authority) }
    }

    async fn connect(&self, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some((der, key)) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![der.clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(server.local_addresses()[0]).await?;
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// Who the server says it is; the error of whatever went wrong.
    async fn ask(&self, server: &Server) -> std::io::Result<String> {
        let mut stream = self.connect(server).await?;
        ask(&mut stream, 0).await
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>, size: u32) -> std::io::Result<String> {
    stream.write_all(&request(METADATA, 1, &size.to_be_bytes())).await?;
    within(async {
        let length = stream.read_u32().await?;
        assert_eq!(stream.read_i32().await?, 1);
        let mut name = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut name).await?;
        let mut rest = vec![0; length as usize - 8 - name.len()];
        stream.read_exact(&mut rest).await?;
        assert_eq!(rest.len(), size as usize);
        Ok(String::from_utf8(name).unwrap())
    })
    .await
}

#[tokio::test]
async fn a_certificate_says_who_a_client_is() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let place = serve(&ours.settings(ClientAuth::Required), Limits::default()).await;
    let alice = Client::named(&ours, &ours, "alice");
    assert_eq!(alice.ask(&place.server).await.unwrap(), "User:ALICE");
    assert!(Client::of(&ours).ask(&place.server).await.is_err(), "nobody without a certificate");
    assert!(Client::named(&ours, &other, "alice").ask(&place.server).await.is_err(), "nor with another's");
    assert!(Client::of(&other).ask(&place.server).await.is_err(), "who does not trust us does not come");
    let counters = place.server.counters();
    until(|| counters.tls_handshakes_failed.load(Ordering::Relaxed) == 3).await;

    let place = serve(&ours.settings(ClientAuth::Requested), Limits::default()).await;
    assert_eq!(Client::of(&ours).ask(&place.server).await.unwrap(), "User:ANONYMOUS");
    assert_eq!(alice.ask(&place.server).await.unwrap(), "User:ALICE");
    assert!(Client::named(&ours, &other, "alice").ask(&place.server).await.is_err());

    let mut settings = ours.settings(ClientAuth::Required);
    settings.principals = PrincipalMapping::parse("RULE:^CN=bob.*$/bob/").unwrap();
    let place = serve(&settings, Limits::default()).await;
    assert!(alice.ask(&place.server).await.is_err(), "no rule, no principal");

    // With SASL it is not the certificate that says who comes.
    let place = serve_as(ListenerSecurity::SaslSsl, &settings, Limits::default()).await;
    assert_eq!(alice.ask(&place.server).await.unwrap(), "User:ANONYMOUS");
    assert!(Client::of(&ours).ask(&place.server).await.is_err(), "and yet it must be there");
}

#[tokio::test]
async fn both_versions_are_spoken_and_one_can_be_left_out() {
    let ours = Authority::new("ours");
    let mut settings = ours.settings(ClientAuth::None);
    static OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let old = Client { versions: OLD, ..Client::of(&ours) };
    let place = serve(&settings, Limits::default()).await;
    assert_eq!(old.ask(&place.server).await.unwrap(), "User:ANONYMOUS");
    settings.versions = vec!["TLSv1.3".to_owned()];
    let place = serve(&settings, Limits::default()).await;
    assert!(old.ask(&place.server).await.is_err());
    assert_eq!(Client::of(&ours).ask(&place.server).await.unwrap(), "User:ANONYMOUS");
    settings.versions = vec!["SSLv3".to_owned()];
    let clock = Arc::new(RealClock::new());
    assert!(matches!(ListenerTls::new(&settings, clock), Err(TlsError::Version(_))));
}

/// TLS takes bytes and holds them back; an answer is sent to its last one all the same.
#[tokio::test]
async fn answers_of_any_size_arrive() {
    let ours = Authority::new("ours");
    let place = serve(&ours.settings(ClientAuth::None), Limits::default()).await;
    let mut stream = Client::of(&ours).connect(&place.server).await.unwrap();
    for size in [0, 1, 16 << 10, (64 << 10) - 7, 5 << 20, 3] {
        ask(&mut stream, size).await.unwrap();
    }
}

/// What TLS holds back for it is in no outbox, and nobody may wait for it to be copied from there.
#[tokio::test]
async fn a_client_that_does_not_read_for_a_while_keeps_nobody_waiting() {
    let ours = Authority::new("ours");
    let place = serve(&ours.settings(ClientAuth::None), Limits::default()).await;
    let client = Client::of(&ours);
    let mut silent = client.connect(&place.server).await.unwrap();
    const ANSWERS: i32 = 500;
    for number in 0..ANSWERS {
        within(silent.write_all(&request(METADATA, number, &(16u32 << 10).to_be_bytes()))).await.unwrap();
    }
    within(silent.flush()).await.unwrap();
    // Longer than it may keep the log's memory.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    client.ask(&place.server).await.unwrap();
    for number in 0..ANSWERS {
        within(async {
            let length = silent.read_u32().await.unwrap();
            assert_eq!(silent.read_i32().await.unwrap(), number);
            silent.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let place = serve(&before.settings(ClientAuth::Required), Limits::default()).await;
    let old = Client::named(&before, &before, "old");
    let mut open = old.connect(&place.server).await.unwrap();
    assert_eq!(ask(&mut open, 0).await.unwrap(), "User:OLD");
    place.tls.replace(&after.settings(ClientAuth::Required)).unwrap();
    assert_eq!(Client::named(&after, &after, "new").ask(&place.server).await.unwrap(), "User:NEW");
    assert!(old.ask(&place.server).await.is_err(), "neither side trusts the other");
    assert!(Client::named(&after, &before, "old").ask(&place.server).await.is_err());
    assert_eq!(ask(&mut open, 0).await.unwrap(), "User:OLD", "whoever is in stays in");
    // What cannot be used changes nothing.
    let mut wrong = before.settings(ClientAuth::Required);
    wrong.private_key =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nQQ==\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec();
    assert!(matches!(place.tls.replace(&wrong), Err(TlsError::EncryptedKey)));
    let mut wrong = before.settings(ClientAuth::Required);
    wrong.trusted = None;
    assert!(matches!(place.tls.replace(&wrong), Err(TlsError::NothingTrusted)));
    let mut wrong = before.settings(ClientAuth::None);
    wrong.certificate_chain = Vec::new();
    assert!(matches!(place.tls.replace(&wrong), Err(TlsError::NoCertificate)));
    let mut wrong = before.settings(ClientAuth::None);
    wrong.private_key = after.settings(ClientAuth::None).private_key;
    assert!(place.tls.replace(&wrong).is_err(), "the key is not the certificate's");
    assert_eq!(Client::named(&after, &after, "new").ask(&place.server).await.unwrap(), "User:NEW");
}

#[tokio::test]
async fn what_is_no_tls_is_turned_away() {
    let ours = Authority::new("ours");
    let limits = Limits { first_request: Duration::from_millis(300), ..Limits::default() };
    let place = serve(&ours.settings(ClientAuth::None), limits).await;
    let counters = place.server.counters();
    for sent in [request(METADATA, 1, &[0; 4]), vec![0x16, 3, 1, 0xff, 0xff], vec![0x16; 100_000], Vec::new()]
    {
        let mut stream = TcpStream::connect(place.server.local_addresses()[0]).await.unwrap();
        // It may be turned away before all is sent.
        let _ = stream.write_all(&sent).await;
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    until(|| counters.tls_handshakes_failed.load(Ordering::Relaxed) == 4).await;
    until(|| place.server.connections_open() == 0).await;
    assert_eq!(Client::of(&ours).ask(&place.server).await.unwrap(), "User:ANONYMOUS");
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls_and_a_proof() {
    let ours = Authority::new("ours");
    let clock = Arc::new(RealClock::new());
    let tls = |client_auth| ListenerTls::new(&ours.settings(client_auth), clock.clone()).unwrap();
    for (security, is_secure) in [
        (ListenerSecurity::Plaintext, false),
        (ListenerSecurity::SaslPlaintext, false),
        (ListenerSecurity::Ssl(tls(ClientAuth::None)), false),
        (ListenerSecurity::Ssl(tls(ClientAuth::Requested)), false),
        (ListenerSecurity::Ssl(tls(ClientAuth::Required)), true),
        (ListenerSecurity::SaslSsl(tls(ClientAuth::None)), true),
    ] {
        for insecure in [false, true] {
            let bound =
                BoundListener::bind_with(&Net::tcp(), "X", "0.0.0.0:0", security.clone(), insecure).await;
            match is_secure || insecure {
                true => assert!(bound.is_ok()),
                false => assert!(matches!(bound, Err(BindError::Insecure { .. }))),
            }
        }
    }
}

/// The scripted broker never lets anybody in, so a client of this listener stays before its proof.
#[tokio::test]
async fn before_the_proof_frames_are_short_and_time_is_limited() {
    let listener =
        BoundListener::bind_with(&Net::tcp(), "SASL", "127.0.0.1:0", ListenerSecurity::SaslPlaintext, false)
            .await
            .unwrap();
    let limits = Limits { first_request: Duration::from_millis(300), ..Limits::default() };
    let clock = Arc::new(RealClock::new());
    let server = Server::start(vec![listener], WhoAmI, limits, clock);
    let connect = async || TcpStream::connect(server.local_addresses()[0]).await.unwrap();
    let mut silent = connect().await;
    let mut long = connect().await;
    long.write_all(&((64 << 10) + 1i32).to_be_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = within(long.read_to_end(&mut rest)).await;
    assert_eq!(
        (rest.len(), server.counters().connections_closed_for_garbage.load(Ordering::Relaxed)),
        (0, 1)
    );
    // One that is answered and never proves it.
    let mut slow = connect().await;
    let mut body = vec![0; (64 << 10) - 8];
    body[..4].copy_from_slice(&[0; 4]);
    slow.write_all(&request(METADATA, 1, &body)).await.unwrap();
    let answer = within(slow.read_u32()).await.unwrap();
    assert_eq!(answer as usize, 4 + 4 + "User:ANONYMOUS".len());
    let _ = within(slow.read_to_end(&mut rest)).await;
    let unauthenticated = &server.counters().connections_closed_unauthenticated;
    until(|| unauthenticated.load(Ordering::Relaxed) == 1).await;
    // One that asks for much and takes a little of it now and then.
    let mut taking = connect().await;
    taking.write_all(&request(METADATA, 1, &(32u32 << 20).to_be_bytes())).await.unwrap();
    let take = async {
        while within(taking.read_u32()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = take => {}
        () = until(|| unauthenticated.load(Ordering::Relaxed) == 2) => {}
    }
    until(|| unauthenticated.load(Ordering::Relaxed) == 2).await;
    // Who has not said anything is only idle: some clients dial long before they ask.
    silent.write_all(&request(METADATA, 1, &[0; 4])).await.unwrap();
    assert!(within(silent.read_u32()).await.is_ok());
}
