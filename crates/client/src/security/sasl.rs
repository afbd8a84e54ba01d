//! SASL before the first request: SaslHandshake names the mechanism, SaslAuthenticate carries its messages (KIP-43, KIP-152).

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use protocol::wire::Reader;
use protocol::{ErrorCode, Message, Request, Str, frame};
use world::rng::SharedRng;

use super::Refused;
use super::scram::{Scram, ScramMechanism};
use crate::error::code_of;
use crate::transport::Channel;

/// Every broker since Kafka 2.2 knows them, so they need not be asked for.
const HANDSHAKE_VERSION: i16 = 1;
const AUTHENTICATE_VERSION: i16 = 1;

/// Where a token for OAUTHBEARER comes from. It is asked for each connection: tokens end.
pub type Bearer = Arc<dyn Fn() -> io::Result<String> + Send + Sync>;

/// `sasl.mechanism`, and what it proves.
#[derive(Clone)]
pub enum Sasl {
    Plain {
        username: String,
        password: String,
    },
    /// `is_token`: name and password are the id and the HMAC of a delegation token (KIP-48).
    Scram {
        mechanism: ScramMechanism,
        username: String,
        password: String,
        is_token: bool,
    },
    OauthBearer(Bearer),
}

/// Secrets are in it.
impl fmt::Debug for Sasl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Sasl({})", self.mechanism())
    }
}

impl Sasl {
    pub fn mechanism(&self) -> &'static str {
        match self {
            Sasl::Plain { .. } => "PLAIN",
            Sasl::Scram { mechanism, .. } => mechanism.name(),
            Sasl::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    /// Says to the broker who we are. An error: it does not believe it, or did not prove that it knows us too.
    pub(super) async fn prove(&self, channel: &mut Channel, rng: &SharedRng) -> io::Result<()> {
        let mut exchange = Exchange { channel, next_id: 0 };
        exchange.begin(self.mechanism()).await?;
        match self {
            Sasl::Plain { username, password } => {
                exchange.say(format!("\0{username}\0{password}")).await?;
            }
            Sasl::Scram { mechanism, username, password, is_token } => {
                let mut nonce = [0; 24];
                rng.fill(&mut nonce);
                let scram = Scram::new(*mechanism, username, password, *is_token, &nonce);
                let challenge = exchange.say(scram.first()).await?;
                let (last, expected) = scram.answer(&challenge).map_err(Refused)?;
                let verdict = exchange.say(last).await?;
                expected.check(&verdict).map_err(Refused)?;
            }
            Sasl::OauthBearer(token) => {
                let token = token()?;
                let refusal = exchange.say(format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.trim())).await?;
                // RFC 7628: what is wrong comes as JSON, and the broker ends the exchange when we have seen it.
                if !refusal.is_empty() {
                    exchange.say("\u{1}".to_owned()).await?;
                    return Err(Refused(String::from_utf8_lossy(&refusal).into_owned()).into());
                }
            }
        }
        Ok(())
    }
}

struct Exchange<'a> {
    channel: &'a mut Channel,
    next_id: i32,
}

impl Exchange<'_> {
    async fn begin(&mut self, mechanism: &str) -> io::Result<()> {
        let request = SaslHandshakeRequest { mechanism: mechanism.into(), ..Default::default() };
        let answer = self.ask(&request, HANDSHAKE_VERSION).await?;
        match code_of(answer.error_code) {
            ErrorCode::None => Ok(()),
            ErrorCode::UnsupportedSaslMechanism => {
                let known: Vec<&str> = answer.mechanisms.iter().map(|name| &**name).collect();
                let known = known.join(", ");
                Err(Refused(format!("the broker has no SASL mechanism {mechanism} here, only: {known}"))
                    .into())
            }
            code => Err(Refused(code.to_string()).into()),
        }
    }

    /// One message of the mechanism, and the broker's.
    async fn say(&mut self, message: String) -> io::Result<Bytes> {
        let request = SaslAuthenticateRequest { auth_bytes: message.into(), ..Default::default() };
        let answer = self.ask(&request, AUTHENTICATE_VERSION).await?;
        match code_of(answer.error_code) {
            ErrorCode::None => Ok(answer.auth_bytes),
            code => {
                let why = answer.error_message.as_deref().unwrap_or_default();
                Err(Refused(format!("{code}{}{why}", if why.is_empty() { "" } else { ": " })).into())
            }
        }
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        let id = self.next_id;
        self.next_id += 1;
        let client_id = Some(Str::from(crate::connection::SOFTWARE_NAME));
        let segments = frame::encode_request(id, client_id, request, version).map_err(io::Error::other)?;
        self.channel.sender.send(segments).await?;
        let answer = self.channel.receiver.receive().await?;
        let answer = answer.ok_or_else(|| {
            let what = format!("the broker closed the connection instead of an answer to {}", R::KEY.name());
            io::Error::new(io::ErrorKind::UnexpectedEof, what)
        })?;
        let unreadable = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut reader = Reader::new(answer);
        let answered = frame::decode_response_header(&mut reader, R::KEY, version);
        if answered.map_err(|error| unreadable(error.to_string()))? != id {
            return Err(unreadable(format!("an answer that is not to {}", R::KEY.name())));
        }
        R::Response::decode(&mut reader, version).map_err(|error| unreadable(error.to_string()))
    }
}
