//! `request_percentage`: the time that this broker works at the requests of a client, of one processor's hundred per cent.
//!
//! Work is what happens between the polls of a request's future; what a request waits for costs nobody anything.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Usage;
use crate::request::{Handling, Outcome, RequestContext};

/// Hands a request over, and counts its time where somebody has a quota for it.
pub(crate) fn timed<E>(
    context: &RequestContext,
    hand_over: impl FnOnce() -> Result<Handling, E>,
) -> Result<Handling, E> {
    if context.quota(Usage::RequestTime).is_none() {
        return hand_over();
    }
    let began = context.broker.clock.monotonic();
    let handling = hand_over()?;
    let worked = context.broker.clock.monotonic().saturating_sub(began);
    Ok(with_time(context.clone(), handling, worked))
}

/// `worked`: so long until now.
fn with_time(context: RequestContext, handling: Handling, worked: Duration) -> Handling {
    let timed =
        |answer, context| -> BoxFuture<'static, Outcome> { Box::pin(Timed { answer, worked, context }) };
    match handling {
        Handling::Pipelined(answer) => Handling::Pipelined(timed(answer, context)),
        Handling::Sequential(answer) => Handling::Sequential(timed(answer, context)),
        // Its turn included: it is long work by all means.
        Handling::Preparing(prepared) => Handling::Preparing(Box::pin(async move {
            let began = context.broker.clock.monotonic();
            let handling = prepared.await;
            let worked = worked + context.broker.clock.monotonic().saturating_sub(began);
            with_time(context, handling, worked)
        })),
    }
}

struct Timed {
    answer: BoxFuture<'static, Outcome>,
    worked: Duration,
    context: RequestContext,
}

impl Future for Timed {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let began = self.context.broker.clock.monotonic();
        let polled = self.answer.as_mut().poll(cx);
        let now = self.context.broker.clock.monotonic();
        self.worked += now.saturating_sub(began);
        if polled.is_ready() {
            // The bound is in per cent of a second per second.
            self.context.use_quota(Usage::RequestTime, self.worked.as_secs_f64() * 100.0);
        }
        polled
    }
}
