//! One request between its frame and its answer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::wire::{DecodeError, Reader};
use protocol::{ApiKey, Message, Request, Str, frame};

use crate::broker::Broker;
use crate::connection::Connection;

/// How the server runs a request.
pub enum Handling {
    /// The effect is already queued, in order; several may wait for their commits at once. Only Produce.
    Pipelined(BoxFuture<'static, Outcome>),
    /// Runs when it is polled, and is polled only when all earlier answers of its connection have left.
    Sequential(BoxFuture<'static, Outcome>),
    /// How it is run is known when long work is done; until then nothing else of its connection is handed over.
    Preparing(BoxFuture<'static, Handling>),
}

impl Handling {
    /// What becomes of it, for whoever does not run several at once.
    pub fn outcome(self) -> BoxFuture<'static, Outcome> {
        match self {
            Self::Pipelined(outcome) | Self::Sequential(outcome) => outcome,
            Self::Preparing(handling) => Box::pin(async move { handling.await.outcome().await }),
        }
    }
}

/// Requests from this length on are decoded when their turn comes: that can be the most work of them.
pub const LONG_REQUEST_BYTES: usize = 16 << 10;

pub enum Outcome {
    /// Segments that joined are a whole response, length prefix included.
    Answer(Vec<Bytes>),
    /// No answer is owed (`acks=0`).
    Silent,
    Close(CloseReason),
    /// The same segments, and then the end: what failed is told first.
    AnswerAndClose(Vec<Bytes>, CloseReason),
}

/// Why a connection is ended without an answer. Kafka does the same in each of these cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    Undecodable {
        api_key: Option<i16>,
        error: DecodeError,
    },
    UnsupportedVersion {
        api: &'static str,
        version: i16,
    },
    /// An `acks=0` produce failed: closing is the only way to say so, and makes the client look for the leader.
    ProduceWithoutAcksFailed,
    /// The producer has come by a newer connection: what still arrives by this one is late, and nobody waits for its answer.
    Overtaken,
    /// Our own mistake; the log has the details.
    Unanswerable {
        api: &'static str,
    },
    ShuttingDown,
    /// A request that needs to know who asks came before the proof, or a proof that was not asked for.
    NotAuthenticated {
        api: &'static str,
    },
    /// The time for which the proof counts is up (KIP-368).
    SessionExpired,
    AuthenticationFailed {
        mechanism: Str,
        reason: String,
    },
}

impl CloseReason {
    /// Is it for want of a proof of who the client is?
    pub fn is_authentication(&self) -> bool {
        matches!(
            self,
            Self::NotAuthenticated { .. } | Self::SessionExpired | Self::AuthenticationFailed { .. }
        )
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Undecodable { api_key: Some(key), error } => match ApiKey::try_from(*key) {
                Ok(api) => write!(f, "a {api} request cannot be read: {error}"),
                Err(_) => write!(f, "unknown api key {key}"),
            },
            CloseReason::Undecodable { api_key: None, error } => write!(f, "not a Kafka request: {error}"),
            CloseReason::UnsupportedVersion { api, version } => {
                write!(f, "{api} has no version {version} here")
            }
            CloseReason::ProduceWithoutAcksFailed => f.write_str("a produce request with acks=0 failed"),
            CloseReason::Overtaken => f.write_str("its producer has come by a newer connection"),
            CloseReason::Unanswerable { api } => write!(f, "no answer to {api} could be made"),
            CloseReason::ShuttingDown => f.write_str("the broker shuts down"),
            CloseReason::NotAuthenticated { api } => {
                write!(f, "{api} came before the client proved who it is")
            }
            CloseReason::SessionExpired => {
                f.write_str("the client did not prove again who it is (connections.max.reauth.ms)")
            }
            CloseReason::AuthenticationFailed { mechanism, reason } => {
                write!(f, "authentication with {mechanism:?} failed: {reason}")
            }
        }
    }
}

/// Who asks, and in which version. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub broker: Arc<Broker>,
    pub connection: Arc<Connection>,
    pub api_key: ApiKey,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
}

impl RequestContext {
    /// The whole answer to this request in the version it was asked in.
    pub fn answer<M: Message>(&self, response: &M) -> Outcome {
        self.answer_in(response, self.api_version)
    }

    /// The answer, and then the end of the connection.
    pub fn answer_and_close<M: Message>(&self, response: &M, reason: CloseReason) -> Outcome {
        match self.answer(response) {
            Outcome::Answer(segments) => Outcome::AnswerAndClose(segments, reason),
            other => other,
        }
    }

    pub fn answer_in<M: Message>(&self, response: &M, version: i16) -> Outcome {
        match frame::encode_response(self.correlation_id, response, self.api_key, version) {
            Ok(segments) => Outcome::Answer(segments),
            Err(error) => {
                tracing::error!(api = self.api_key.name(), version, %error, "an answer cannot be encoded");
                Outcome::Close(CloseReason::Unanswerable { api: self.api_key.name() })
            }
        }
    }
}

/// Decodes the body and wraps the handler: what nearly every row of the table does.
pub(crate) fn sequential<R, F>(
    context: RequestContext,
    body: Reader,
    handle: fn(RequestContext, R) -> F,
) -> Result<Handling, DecodeError>
where
    R: Request + Send + 'static,
    R::Response: Send,
    F: Future<Output = R::Response> + Send + 'static,
{
    decoded(context, body, move |context: RequestContext, request| async move {
        let response = handle(context.clone(), request).await;
        context.answer(&response)
    })
}

/// As [`sequential`], for handlers that may end the connection.
pub(crate) fn sequential_or_close<R, F>(
    context: RequestContext,
    body: Reader,
    handle: fn(RequestContext, R) -> F,
) -> Result<Handling, DecodeError>
where
    R: Request + Send + 'static,
    R::Response: Send,
    F: Future<Output = Result<R::Response, CloseReason>> + Send + 'static,
{
    decoded(context, body, move |context: RequestContext, request| async move {
        match handle(context.clone(), request).await {
            Ok(response) => context.answer(&response),
            Err(reason) => Outcome::Close(reason),
        }
    })
}

/// A short request is decoded at once, a long one when it runs.
fn decoded<R, F>(
    context: RequestContext,
    mut body: Reader,
    run: impl FnOnce(RequestContext, R) -> F + Send + 'static,
) -> Result<Handling, DecodeError>
where
    R: Request + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    // Bytes behind the message are allowed, as Kafka allows them.
    let decode = |context: &RequestContext, body: &mut Reader| {
        let request = R::decode(body, context.api_version)?;
        context.connection.note_decoded(body.charged());
        Ok(request)
    };
    if body.remaining() < LONG_REQUEST_BYTES {
        let request = decode(&context, &mut body)?;
        return Ok(Handling::Sequential(Box::pin(run(context, request))));
    }
    Ok(Handling::Sequential(Box::pin(async move {
        let request = match decode(&context, &mut body) {
            Ok(request) => request,
            Err(error) => {
                let api_key = Some(context.api_key.code());
                return Outcome::Close(CloseReason::Undecodable { api_key, error });
            }
        };
        drop(body);
        run(context, request).await
    })))
}
