//! SaslAuthenticate (key 36), versions 0–2 (KIP-152): one message of the mechanism that SaslHandshake named.
//!
//! SASL_AUTHENTICATION_FAILED comes after `connection.failed.authentication.delay.ms` and ends the connection; so does what comes out
//! of turn, ILLEGAL_SASL_STATE, unless the client has proved who it is already. Behind SaslHandshake 0 the messages are frames
//! without a header, in both directions, and a refusal is only the end of the connection.
//!
//! Difference: none. 1: session lifetime (KIP-368) · 2: flexible.

use std::sync::Arc;

use bytes::Bytes;
use protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use protocol::wire::{DecodeError, Reader};
use protocol::{ErrorCode, Message, Str};

use crate::authn::{Finished, Refusal, Step};
use crate::broker::Broker;
use crate::connection::Connection;
use crate::request::{CloseReason, Handling, Outcome, RequestContext};

pub(super) fn handle(context: RequestContext, mut body: Reader) -> Result<Handling, DecodeError> {
    let request = SaslAuthenticateRequest::decode(&mut body, context.api_version)?;
    Ok(Handling::Sequential(Box::pin(async move { authenticate(context, request.auth_bytes).await })))
}

/// A message in a frame of its own.
pub(crate) fn raw(broker: Arc<Broker>, connection: Arc<Connection>, frame: Bytes) -> Handling {
    Handling::Sequential(Box::pin(async move {
        match take(&broker, &connection, &frame).await {
            Taken::Challenge(bytes) => Outcome::Answer(sized(bytes)),
            Taken::Done(finished) => Outcome::Answer(sized(finished.answer)),
            Taken::Refused(_, reason) => Outcome::Close(reason),
            Taken::OutOfTurn => Outcome::Close(CloseReason::NotAuthenticated { api: "SaslAuthenticate" }),
        }
    }))
}

fn sized(bytes: Vec<u8>) -> Vec<Bytes> {
    let length = i32::try_from(bytes.len()).expect("our messages are short");
    vec![[&length.to_be_bytes()[..], &bytes].concat().into()]
}

enum Taken {
    Challenge(Vec<u8>),
    Done(Finished),
    /// What the client is told, and what the log.
    Refused(String, CloseReason),
    OutOfTurn,
}

async fn authenticate(context: RequestContext, bytes: Bytes) -> Outcome {
    let mut response =
        SaslAuthenticateResponse { error_message: None, ..SaslAuthenticateResponse::default() };
    match take(&context.broker, &context.connection, &bytes).await {
        Taken::Challenge(bytes) => response.auth_bytes = bytes.into(),
        Taken::Done(finished) => {
            response.auth_bytes = finished.answer.into();
            response.session_lifetime_ms = finished.lifetime_ms;
        }
        Taken::Refused(told, reason) => {
            response.error_code = ErrorCode::SaslAuthenticationFailed.code();
            response.error_message = Some(Str::from(told));
            return context.answer_and_close(&response, reason);
        }
        Taken::OutOfTurn => {
            response.error_code = ErrorCode::IllegalSaslState.code();
            let text = "SaslAuthenticate request received after successful authentication";
            if !context.connection.owes_proof() {
                response.error_message = Some(Str::from_static(text));
                return context.answer(&response);
            }
            response.error_message = Some(Str::from_static("SaslHandshake comes first"));
            return context
                .answer_and_close(&response, CloseReason::NotAuthenticated { api: "SaslAuthenticate" });
        }
    }
    context.answer(&response)
}

async fn take(broker: &Arc<Broker>, connection: &Connection, bytes: &[u8]) -> Taken {
    let authn = &broker.authn;
    let sasl = connection.sasl();
    let Some((sasl, exchange)) = sasl.and_then(|sasl| Some((sasl, sasl.take_exchange()?))) else {
        return Taken::OutOfTurn;
    };
    let (mechanism, is_again) = (exchange.mechanism(), exchange.is_again());
    match exchange.step(authn, bytes).await {
        Ok(Step::Challenge(exchange, bytes)) => {
            sasl.go_on(exchange);
            Taken::Challenge(bytes)
        }
        Ok(Step::Done(finished)) => {
            connection.set_user(&finished.identity.user, finished.identity.is_token);
            sasl.succeed(&finished, authn.clock.monotonic());
            authn.count(|counters| match finished.is_again {
                true => &counters.reauthenticated,
                false => &counters.succeeded,
            });
            Taken::Done(finished)
        }
        Err(Refusal { reason, told }) => {
            sasl.fail();
            authn.count(|counters| &counters.failed);
            world::task::sleep(authn.settings(&connection.listener).failed_delay).await;
            let during = if is_again { "re-authentication" } else { "authentication" };
            let told = told.unwrap_or_else(|| {
                format!(
                    "Authentication failed during {during} due to invalid credentials with SASL mechanism {mechanism}"
                )
            });
            let mechanism = Str::from_static(mechanism);
            Taken::Refused(told, CloseReason::AuthenticationFailed { mechanism, reason })
        }
    }
}
