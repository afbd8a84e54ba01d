//! Connections that prove who is at their ends: TLS below the frames, and SASL before the first request.
//!
//!   tcp ─▶ TLS (`tls`: the broker's certificate, and ours if we have one) ─▶ SASL (`sasl`, `scram`) ─▶ frames
//!
//! A proof that is refused is no fault of the network: it is [`Error::Authentication`](crate::Error), and nobody tries again.

mod sasl;
mod scram;
mod tls;

use std::io;

use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use world::net::Net;
use world::rng::{RealRng, SharedRng};

pub use sasl::{Bearer, Sasl};
pub use scram::ScramMechanism;
pub use tls::{Tls, TlsError};

use crate::transport::{Channel, FRAME_BYTES_MAX, Transport};

/// TCP with TLS, with SASL, or with both: `security.protocol` SSL, SASL_PLAINTEXT and SASL_SSL.
pub struct SecureTransport {
    net: Net,
    tls: Option<TlsConnector>,
    sasl: Option<Sasl>,
    rng: SharedRng,
}

impl SecureTransport {
    pub fn new(tls: Option<&Tls>, sasl: Option<Sasl>) -> Result<SecureTransport, TlsError> {
        let tls = tls.map(tls::connector).transpose()?;
        Ok(SecureTransport { net: Net::tcp(), tls, sasl, rng: RealRng::shared() })
    }
}

impl Transport for SecureTransport {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Channel>> {
        Box::pin(async move {
            let stream = self.net.connect(address).await?;
            let mut channel = match &self.tls {
                None => {
                    let (read, write) = stream.into_split();
                    Channel::over(read, write, FRAME_BYTES_MAX)
                }
                Some(tls) => {
                    let (read, write) = tokio::io::split(tls.connect(host(address)?, stream).await?);
                    Channel::over(read, write, FRAME_BYTES_MAX)
                }
            };
            if let Some(sasl) = &self.sasl {
                sasl.prove(&mut channel, &self.rng).await?;
            }
            Ok(channel)
        })
    }
}

/// Whose name the certificate must have.
fn host(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host name")))
}

/// The broker has refused our proof, or we its.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub String);

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, refused)
    }
}

/// Would the same connection be refused once more?
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refused>() || inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (address, expected) in [
            ("broker-1.example:9092", "broker-1.example"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:9092", "::1"),
        ] {
            assert_eq!(host(address).unwrap().to_str(), expected);
        }
        assert!(host("a b:1").is_err());
    }
}
