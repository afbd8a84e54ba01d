//! A hostile client's connection: bytes out, bytes in, and no promise kept. It comes from an address of its own, so that the bounds of
//! one address meet it and not the good client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use protocol::wire::Reader;
use protocol::{Message, Request, frame};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::txn::wire::read_frame;

/// Where the hostile client comes from. Loopback as well: nothing has to be set up on the machine.
pub const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PIECE_BYTES: usize = 32 << 10;
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The broker may hold a request up for a while; who waits for longer has been refused.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub struct Foe {
    stream: Box<dyn Wire>,
    next_id: i32,
}

/// With TLS or without.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

impl Foe {
    fn over(stream: impl Wire + 'static) -> Foe {
        Foe { stream: Box::new(stream), next_id: 0 }
    }

    pub async fn connect(to: SocketAddr) -> anyhow::Result<Foe> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((HOSTILE, 0)))?;
        let stream = timeout(CONNECT_MAX, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Foe::over(stream))
    }

    /// From the address of everybody else.
    pub async fn disguised(to: SocketAddr) -> anyhow::Result<Foe> {
        Ok(Foe::over(timeout(CONNECT_MAX, TcpStream::connect(to)).await??))
    }

    /// Takes little of what the broker sends, so that the rest stays with the broker.
    pub async fn connect_narrow(to: SocketAddr) -> anyhow::Result<Foe> {
        Ok(Foe::over(narrow(to).await?))
    }

    /// The same over TLS, whoever the broker says that it is.
    pub async fn connect_narrow_tls(to: SocketAddr) -> anyhow::Result<Foe> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost")?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, narrow(to).await?);
        Ok(Foe::over(timeout(ANSWER_MAX, handshake).await??))
    }

    /// In pieces: the system does not interrupt a call that copies megabytes, and it is another machine that would do that.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.stream.write_all(piece).await?;
        }
        Ok(self.stream.flush().await?)
    }

    /// Without waiting for the answer.
    pub async fn tell<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<()> {
        let bytes = self.encode(version, request)?;
        self.send(&bytes).await
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response> {
        self.tell(version, request).await?;
        let answer =
            timeout(ANSWER_MAX, read_frame(&mut self.stream)).await.context("no answer in time")??;
        let mut answer = Reader::new(answer.context("the connection was closed")?);
        let id = frame::decode_response_header(&mut answer, R::KEY, version)?;
        ensure!(id == self.next_id, "an answer to another request");
        Ok(R::Response::decode(&mut answer, version)?)
    }

    fn encode<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<Bytes> {
        self.next_id += 1;
        let segments = frame::encode_request(self.next_id, Some("hostile".into()), request, version)?;
        let mut bytes = BytesMut::new();
        segments.iter().for_each(|segment| bytes.extend_from_slice(segment));
        Ok(bytes.freeze())
    }

    /// Has the broker ended the connection? Takes what it still sends.
    pub async fn is_closed_within(&mut self, patience: Duration) -> bool {
        let mut taken = vec![0; 64 << 10];
        let gone = async { while let Ok(1..) = self.stream.read(&mut taken).await {} };
        timeout(patience, gone).await.is_ok()
    }
}

async fn narrow(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::from((HOSTILE, 0)))?;
    Ok(timeout(CONNECT_MAX, socket.connect(to)).await??)
}

/// Trusts every certificate: the broker of the run signs its own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The header of a request whose body is made by hand, behind a length that may lie.
pub fn by_hand(length: i32, api_key: i16, version: i16, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&api_key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&7i32.to_be_bytes());
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    if is_flexible {
        bytes.push(0);
    }
    bytes.extend_from_slice(body);
    bytes
}

/// As [`by_hand`], with the length that is true.
pub fn whole(api_key: i16, version: i16, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = by_hand(0, api_key, version, is_flexible, body);
    let length = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}
