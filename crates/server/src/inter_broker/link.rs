//! A stream between two brokers of one cluster that know who the other one is.

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use world::net::Stream;
use world::watch;

use super::credentials::{Credentials, PeerId};
use super::messages::PROTOCOL_VERSION;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One more connection has ended.
pub(super) fn one_more(breaks: &watch::Sender<u64>) {
    breaks.send_if_modified(|count| {
        *count += 1;
        true
    });
}

/// How brokers know one another.
#[derive(Clone)]
pub enum Security {
    /// TLS 1.3, both with a certificate of the cluster's authority.
    Tls(Arc<Credentials>),
    /// Each is believed what it says. Of a simulation: there is no real network under it, and this refuses one.
    Memory(PeerId),
}

impl Security {
    pub fn me(&self) -> PeerId {
        match self {
            Self::Tls(credentials) => credentials.me(),
            Self::Memory(me) => *me,
        }
    }

    /// The side that was called. On return the other one is a broker of this cluster, and knows that we are.
    pub(super) async fn accept(&self, stream: Stream) -> io::Result<(Box<dyn Duplex>, PeerId)> {
        let (mut stream, peer): (Box<dyn Duplex>, PeerId) = match self {
            Self::Tls(credentials) => {
                let accepted = TlsAcceptor::from(credentials.configs().server).accept(stream).await?;
                let peer = named(accepted.get_ref().1.peer_certificates())?;
                (Box::new(accepted), peer)
            }
            Self::Memory(me) => {
                let mut stream = in_memory(stream)?;
                let caller = read_id(&mut stream).await?;
                if read_id(&mut stream).await? != *me {
                    return Err(stranger("another broker was wanted"));
                }
                (Box::new(stream), caller)
            }
        };
        stream.write_u16(PROTOCOL_VERSION).await?;
        stream.flush().await?;
        Ok((stream, peer))
    }

    /// The side that calls, and wants this incarnation.
    pub(super) async fn connect(&self, stream: Stream, peer: PeerId) -> io::Result<Box<dyn Duplex>> {
        let mut stream: Box<dyn Duplex> = match self {
            Self::Tls(credentials) => {
                let connector = TlsConnector::from(credentials.configs().client);
                Box::new(connector.connect(peer.server_name(), stream).await?)
            }
            Self::Memory(me) => {
                let mut stream = in_memory(stream)?;
                for id in [*me, peer] {
                    stream.write_i32(id.node_id).await?;
                    stream.write_u64(id.wal_id).await?;
                }
                Box::new(stream)
            }
        };
        // In TLS 1.3 a caller is done before the other side has looked at its certificate: this is the word that it was let in.
        match stream.read_u16().await? {
            PROTOCOL_VERSION => Ok(stream),
            version => Err(stranger(&format!("it speaks version {version} of the protocol between brokers"))),
        }
    }

    /// Somebody does not trust somebody.
    pub(super) async fn distrusted(&self) {
        if let Self::Tls(credentials) = self {
            credentials.reload().await;
        }
    }
}

fn named(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<PeerId> {
    let first = certificates.and_then(|certificates| certificates.first());
    first.and_then(PeerId::of_certificate).ok_or_else(|| stranger("its certificate names no broker"))
}

fn in_memory(stream: Stream) -> io::Result<Stream> {
    match stream {
        Stream::Memory(_) => Ok(stream),
        Stream::Tcp(_) => Err(stranger("without TLS there is no real network")),
    }
}

async fn read_id(stream: &mut Stream) -> io::Result<PeerId> {
    Ok(PeerId { node_id: stream.read_i32().await?, wal_id: stream.read_u64().await? })
}

fn stranger(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}
