//! SaslHandshake (key 17), versions 0–1 (KIP-43): the client names the mechanism with which it will prove who it is.
//!
//! UNSUPPORTED_SASL_MECHANISM lists those of the listener and ends the connection. ILLEGAL_SASL_STATE is for everything that comes at
//! another time: on a listener without SASL, a second time, or again before a second is over (KIP-368).
//!
//! Difference: none. 1: what follows is in SaslAuthenticate requests, and no longer in frames of its own.

use protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use protocol::wire::{DecodeError, Reader};
use protocol::{ErrorCode, Message, Str};

use crate::authn::{BeginError, SaslSettings};
use crate::request::{CloseReason, Handling, Outcome, RequestContext};

const AUTHENTICATE_SINCE: i16 = 1;
/// RFC 4422 gives mechanisms 20 characters.
const MECHANISM_SHOWN_MAX: usize = 40;

pub(super) fn handle(context: RequestContext, mut body: Reader) -> Result<Handling, DecodeError> {
    let request = SaslHandshakeRequest::decode(&mut body, context.api_version)?;
    Ok(Handling::Sequential(Box::pin(async move { handshake(context, request).await })))
}

async fn handshake(context: RequestContext, request: SaslHandshakeRequest) -> Outcome {
    let authn = &context.broker.authn;
    let settings = authn.settings(&context.connection.listener);
    let Some(sasl) = context.connection.sasl() else {
        return context.answer(&response(ErrorCode::IllegalSaslState, &settings));
    };
    let chosen = settings.mechanisms.iter().find(|settings| settings.mechanism.name() == &*request.mechanism);
    let is_raw = context.api_version < AUTHENTICATE_SINCE;
    let (code, reason) = match sasl.begin(chosen, is_raw, authn.clock.monotonic()) {
        Ok(()) => return context.answer(&response(ErrorCode::None, &settings)),
        Err(BeginError::NotNow) => return context.answer(&response(ErrorCode::IllegalSaslState, &settings)),
        Err(BeginError::NoSuchMechanism) => {
            (ErrorCode::UnsupportedSaslMechanism, "the listener does not have this mechanism")
        }
        Err(BeginError::OtherMechanism) => {
            (ErrorCode::IllegalSaslState, "it was another mechanism the first time")
        }
    };
    authn.count(|counters| &counters.failed);
    world::task::sleep(settings.failed_delay).await;
    let reason =
        CloseReason::AuthenticationFailed { mechanism: shown(&request.mechanism), reason: reason.to_owned() };
    context.answer_and_close(&response(code, &settings), reason)
}

/// For the log: whoever asks for nonsense may ask for much of it.
fn shown(mechanism: &Str) -> Str {
    Str::from(mechanism.chars().take(MECHANISM_SHOWN_MAX).collect::<String>())
}

/// Whoever may not ask now is not told the mechanisms either.
fn response(code: ErrorCode, settings: &SaslSettings) -> SaslHandshakeResponse {
    let mechanisms = settings.mechanisms.iter().filter(|_| code != ErrorCode::IllegalSaslState);
    let mechanisms = mechanisms.map(|settings| Str::from_static(settings.mechanism.name())).collect();
    SaslHandshakeResponse { error_code: code.code(), mechanisms, ..SaslHandshakeResponse::default() }
}
