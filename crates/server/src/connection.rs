//! One connection: frames in, answers out, in one task.
//!
//! ```text
//!   socket ─ FrameReader ─► Dispatch::handle ─► under_way (in order) ─► Outbox ─ socket
//!                                                 P P P S
//! ```
//! Produce requests (`P`) are already in the log's queue when `handle` returns; many wait for their commits at once. Any other
//! request (`S`) runs when all answers before it have left, and nothing behind it is handled until its answer has: Kafka mutes the
//! channel the same way. While it runs the socket is still watched, so that a long poll ends when its client leaves.
//!
//! A client that does not read its answers fills its outbox and is not served further; nothing is made for it meanwhile.
//! Everything is one poll function and no channel: an idle connection costs its task, its socket and no buffers.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker::memory::{MemoryAccount, MemoryShare, Standing};
use broker::{CloseReason, Connection, Handling, Outcome};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use protocol::api_key::ApiKey;
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use world::task::patiently;

use crate::admission::Place;
use crate::counters::Counters;
use crate::dispatch::Dispatch;
use crate::frame::{Frame, FrameError, FrameReader, SMALL_FRAME_BYTES};
use crate::limits::{LONG_REQUEST_BYTES, Limits, SHORT_FETCH_BYTES, SMALL_ANSWER_BYTES};
use crate::outbox::{Outbox, Transport};
use crate::turns::{AllTurns, Turns};

/// Answers are gathered up to this size before they are sent, and none is made while this much waits. No request is taken while more
/// than a small answer does.
const OUTBOX_BYTES: usize = 1 << 20;
/// So many requests of one connection are taken before others come.
const REQUESTS_AT_ONCE: u32 = 16;
/// An answer of which more than a little is left is sent in pieces of this size, by so many connections at once as there are turns for it:
/// the system copies megabytes in one call, and dozens of such clients would keep all workers from everybody else.
const ANSWER_PIECE_BYTES: usize = 1 << 20;
/// A client that takes nothing for this long no longer keeps the log's memory.
const SHARED_MEMORY_STALL: Duration = Duration::from_secs(1);
/// To send the last answers after the broker asked for the connection to be closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all connections of a server share.
pub(crate) struct Shared {
    pub dispatch: Box<dyn Dispatch>,
    pub limits: Limits,
    pub counters: Arc<Counters>,
    pub request_memory: Arc<MemoryAccount>,
    pub answer_memory: Arc<MemoryAccount>,
    pub decode_memory: Arc<MemoryAccount>,
    /// A place for each request that may be much work.
    pub heavy: Arc<Semaphore>,
    /// As many for receiving pieces of very long requests.
    pub long_frames: Arc<AllTurns>,
    /// And for sending pieces of answers: for all processors but one.
    pub answer_turns: Arc<AllTurns>,
    pub clock: world::clock::SharedClock,
    pub is_stopping: AtomicBool,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    PeerClosed,
    PeerBroke(FrameError),
    Garbage(FrameError),
    Refused(String),
    /// The client did not prove who it is.
    Unauthenticated(String),
    NotProvedInTime,
    Idle,
    FirstRequestTooSlow,
    FrameStalled,
    NoRequestMemory,
    LongWait,
    AnswerNotTaken,
    WriteFailed(io::Error),
    ServerStops,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::PeerClosed => f.write_str("the client closed it"),
            End::PeerBroke(error) => write!(f, "reading: {error}"),
            End::Garbage(error) => write!(f, "{error}"),
            End::Refused(reason) | End::Unauthenticated(reason) => f.write_str(reason),
            End::NotProvedInTime => {
                f.write_str("it did not prove in time who it is (connection.handshake.timeout.ms)")
            }
            End::Idle => f.write_str("idle for too long (connections.max.idle.ms)"),
            End::FirstRequestTooSlow => f.write_str("its first request did not become complete in time"),
            End::FrameStalled => f.write_str("a request stopped in the middle"),
            End::NoRequestMemory => f.write_str("the request memory stayed full (queued.max.request.bytes)"),
            End::LongWait => {
                f.write_str("it waited with a long request while the memory for requests was used up")
            }
            End::AnswerNotTaken => f.write_str("it did not take its answer"),
            End::WriteFailed(error) => write!(f, "writing: {error}"),
            End::ServerStops => f.write_str("the server stops"),
        }
    }
}

/// A request between its last byte and its answer.
struct UnderWay {
    answer: BoxFuture<'static, Outcome>,
    is_sequential: bool,
    has_started: bool,
    api_key: i16,
    version: i16,
    arrived: Duration,
    share: MemoryShare,
    /// For what was decoded of it.
    _decoded: Option<MemoryShare>,
    /// Before it starts it waits for its turn to be much work.
    turn: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    is_long: bool,
}

/// A request behind which nothing is read.
enum Held {
    /// It waits for room: in the log, or for what is decoded of it.
    Room(Frame, BoxFuture<'static, ()>),
    /// Long work is done on it before it is known how it is run.
    Preparing(Taken, BoxFuture<'static, Handling>),
}

/// A request that was handed over.
struct Taken {
    api_key: i16,
    version: i16,
    arrived: Duration,
    share: MemoryShare,
    is_long: bool,
    decoded_bytes: usize,
}

pub(crate) struct Session<S> {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    place: Place,
    /// Has it proved who it is, where that is asked for?
    has_proved: bool,
    stream: S,
    frames: FrameReader,
    held: Option<Held>,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    /// Whether the last of `under_way` blocks the connection.
    is_blocked: bool,
    outbox: Outbox,
    send_turns: Turns,
    /// It has taken the last answer, all of it.
    takes_answers: bool,
    /// Wakes the task when the server stops. Polled once: polling it with every request would take a lock that all connections share.
    server_stops: Option<BoxFuture<'static, ()>>,
    is_stop_watched: bool,
    /// Set once nothing more is read: why, and until when what is under way may go on.
    finishing: Option<(End, Duration)>,
    first_byte: Option<Duration>,
    has_had_request: bool,
    last_progress: Duration,
    memory_wait_began: Option<Duration>,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
}

impl<S: AsyncRead + Transport> Session<S> {
    pub fn new(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        id: u64,
        stream: S,
        place: Place,
        server_stops: BoxFuture<'static, ()>,
    ) -> Self {
        let frames = FrameReader::new(
            shared.request_memory.clone(),
            shared.long_frames.clone(),
            shared.clock.clone(),
            id,
            shared.limits.request_bytes_max,
        );
        let outbox = Outbox::new(shared.answer_memory.clone());
        let send_turns = Turns::of(shared.answer_turns.clone());
        let last_progress = shared.clock.monotonic();
        connection.set_answer_memory(shared.answer_memory.clone());
        let has_proved = !connection.has_sasl();
        Self {
            shared,
            connection,
            place,
            has_proved,
            stream,
            frames,
            held: None,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            is_blocked: false,
            outbox,
            send_turns,
            takes_answers: false,
            server_stops: Some(server_stops),
            is_stop_watched: false,
            finishing: None,
            first_byte: None,
            has_had_request: false,
            last_progress,
            memory_wait_began: None,
            timer: None,
        }
    }

    pub async fn run(&mut self) -> End {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.connection.hang_up();
        end
    }

    /// Once it has run: TLS has a word of farewell.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut taken = 0;
        loop {
            let now = self.now();
            self.watch_for_stop(cx, now);
            let mut moved = self.answer(cx, now);
            match self.send(cx, now) {
                Poll::Ready(Ok(sent)) => moved |= sent,
                Poll::Ready(Err(error)) => return Poll::Ready(End::WriteFailed(error)),
                Poll::Pending => {}
            }
            let is_others_turn = taken >= REQUESTS_AT_ONCE;
            if self.finishing.is_none() && !is_others_turn && self.read(cx, now).is_ready() {
                taken += 1;
                moved = true;
            }
            if self.is_finished() {
                let (end, _) = self.finishing.take().expect("a finished connection has a reason");
                return Poll::Ready(end);
            }
            if moved && !is_others_turn {
                continue;
            }
            if is_others_turn {
                cx.waker().wake_by_ref();
            }
            match self.poll_deadline(cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) if !is_others_turn => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn watch_for_stop(&mut self, cx: &mut Context<'_>, now: Duration) {
        let Some(server_stops) = &mut self.server_stops else { return };
        // The waker of a spawned task is always the same one.
        let woken =
            !std::mem::replace(&mut self.is_stop_watched, true) && server_stops.as_mut().poll(cx).is_ready();
        if woken || self.shared.is_stopping.load(Ordering::Relaxed) {
            self.server_stops = None;
            self.stop(now);
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    // ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes the answers that are ready, in order. True when there was one.
    fn answer(&mut self, cx: &mut Context<'_>, now: Duration) -> bool {
        let mut moved = false;
        while self.outbox.bytes() < OUTBOX_BYTES {
            let Some(first) = self.under_way.front_mut() else { break };
            if first.is_sequential && !first.has_started {
                // Its turn comes when all earlier answers are with the socket.
                if !self.outbox.is_empty() {
                    break;
                }
                let standing = if self.takes_answers { Standing::Favoured } else { Standing::Ordinary };
                let (account, connection) = (&self.shared.answer_memory, self.frames.connection());
                let has_room =
                    !may_be_long(first.api_key) || account.poll_room(cx, connection, standing).is_ready();
                // The kernel's buffers make many look as if they took their answers. So whoever may be a consumer at the end of the log
                // goes on with little, for which each connection has room of its own.
                let is_short_fetch = first.api_key == ApiKey::Fetch as i16
                    && first.share.bytes() <= LONG_REQUEST_BYTES as u64
                    && self.takes_answers;
                if !has_room && !is_short_fetch {
                    self.shared.counters.waits_for_answer_memory.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                self.connection.set_answer_bytes_max((!has_room).then_some(SHORT_FETCH_BYTES));
                // Last of all: nobody keeps a turn while he waits for something else.
                if let Some(waiting) = &mut first.turn {
                    let Poll::Ready(granted) = waiting.as_mut().poll(cx) else { break };
                    let answer = std::mem::replace(&mut first.answer, Box::pin(std::future::pending()));
                    let account = first.is_long.then(|| self.shared.decode_memory.clone());
                    first.answer = begun_patiently(answer, granted, self.connection.clone(), account).boxed();
                }
                first.turn = None;
                first.has_started = true;
                self.outbox.set_standing(standing);
                self.connection.set_takes_answers(self.takes_answers);
            }
            let Poll::Ready(outcome) = first.answer.as_mut().poll(cx) else { break };
            moved = true;
            self.last_progress = now;
            let done = self.under_way.pop_front().expect("the first was polled");
            self.close_account(&done, &outcome);
            match outcome {
                Outcome::Answer(segments) => self.outbox.push(segments),
                Outcome::Silent => {}
                Outcome::AnswerAndClose(segments, reason) => {
                    self.outbox.push(segments);
                    self.refuse(&reason, now);
                }
                Outcome::Close(reason) => self.refuse(&reason, now),
            }
        }
        moved
    }

    fn refuse(&mut self, reason: &CloseReason, now: Duration) {
        self.forget_requests();
        let end = match reason.is_authentication() {
            true => End::Unauthenticated(reason.to_string()),
            false => End::Refused(reason.to_string()),
        };
        self.finish(end, now + FAREWELL);
    }

    fn close_account(&mut self, done: &UnderWay, outcome: &Outcome) {
        self.under_way_bytes -= done.share.bytes() as usize;
        self.is_blocked &= !done.is_sequential;
        let counters = &self.shared.counters;
        counters.requests_under_way.fetch_sub(1, Ordering::Relaxed);
        if let Some(api) = counters.api(done.api_key) {
            api.answered_after.record(self.shared.clock.monotonic().saturating_sub(done.arrived));
            if let Outcome::Answer(segments) | Outcome::AnswerAndClose(segments, _) = outcome {
                api.answer_bytes
                    .fetch_add(segments.iter().map(Bytes::len).sum::<usize>() as u64, Ordering::Relaxed);
            }
        }
        tracing::trace!(api_key = done.api_key, version = done.version, "answered");
    }

    /// Ready with whether bytes were sent; pending when the socket takes no more and none were.
    fn send(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<io::Result<bool>> {
        if self.outbox.is_empty() {
            return Poll::Pending;
        }
        let (_turn, at_once_max) = match self.outbox.bytes() > SMALL_ANSWER_BYTES {
            true => (ready!(self.send_turns.poll(cx)), ANSWER_PIECE_BYTES),
            false => (None, usize::MAX),
        };
        let mut sent = 0;
        let result = self.outbox.poll_send(cx, &mut self.stream, at_once_max, &mut sent);
        if sent > 0 {
            self.last_progress = now;
            self.shared.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
        }
        self.takes_answers = matches!(result, Poll::Ready(Ok(())));
        match result {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(true)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    // ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Ready when something came of it.
    fn read(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<()> {
        match self.held.take() {
            None => {}
            Some(Held::Room(frame, mut room)) => match room.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.take_request(frame, now);
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.held = Some(Held::Room(frame, room));
                    return Poll::Pending;
                }
            },
            Some(Held::Preparing(taken, mut prepared)) => match prepared.as_mut().poll(cx) {
                Poll::Ready(handling) => {
                    self.put_under_way(taken, handling);
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.held = Some(Held::Preparing(taken, prepared));
                    return Poll::Pending;
                }
            },
        }
        let mut received = 0;
        let result = if self.is_blocked || self.is_muted(now) {
            self.frames.give_up_turn();
            match self.frames.poll_peer_gone(cx, &mut self.stream, &mut received) {
                Poll::Ready(gone) => Poll::Ready(Err(gone)),
                Poll::Pending => Poll::Pending,
            }
        } else if self.may_take_request() {
            self.look_for_proof();
            self.frames.poll_frame(cx, &mut self.stream, &mut received)
        } else {
            self.frames.give_up_turn();
            Poll::Pending
        };
        self.note_received(received, now);
        match result {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(frame)) => self.take_request(frame, now),
            Poll::Ready(Err(error)) => self.peer_is_gone(error, now),
        }
        Poll::Ready(())
    }

    /// What the next frame may be follows from what the client has proved.
    fn look_for_proof(&mut self) {
        if !self.connection.has_sasl() {
            return;
        }
        let owes_proof = self.connection.owes_proof();
        let limits = &self.shared.limits;
        let bytes_max = match owes_proof {
            true => limits.unauthenticated_request_bytes_max.min(limits.request_bytes_max),
            false => limits.request_bytes_max,
        };
        self.frames.set_bounds(self.connection.sends_raw_token(), bytes_max);
        if !owes_proof && !std::mem::replace(&mut self.has_proved, true) {
            self.place.authenticated();
        }
    }

    /// Its client has used more than its quota, and waits.
    fn is_muted(&self, now: Duration) -> bool {
        now < self.connection.muted_until()
    }

    fn may_take_request(&self) -> bool {
        let limits = &self.shared.limits;
        self.under_way.len() < limits.pipelined_requests_max
            && self.under_way_bytes < limits.pipelined_bytes_max
            && self.outbox.bytes() < SMALL_ANSWER_BYTES
    }

    fn note_received(&mut self, received: u64, now: Duration) {
        if received > 0 {
            self.first_byte.get_or_insert(now);
            self.last_progress = now;
            self.shared.counters.bytes_received.fetch_add(received, Ordering::Relaxed);
        }
        match (self.frames.is_under_memory_pressure(), self.memory_wait_began) {
            (true, None) => {
                self.memory_wait_began = Some(now);
                self.shared.counters.waits_for_request_memory.fetch_add(1, Ordering::Relaxed);
            }
            (false, Some(_)) => self.memory_wait_began = None,
            _ => {}
        }
    }

    fn take_request(&mut self, frame: Frame, now: Duration) {
        let (api_key, version) = match self.connection.sends_raw_token() {
            // It has no header; that is what it is.
            true => (ApiKey::SaslAuthenticate as i16, 0),
            false => (
                i16::from_be_bytes([frame.bytes[0], frame.bytes[1]]),
                i16::from_be_bytes([frame.bytes[2], frame.bytes[3]]),
            ),
        };
        let is_long = frame.bytes.len() > LONG_REQUEST_BYTES;
        if is_long && self.shared.decode_memory.is_pressed() {
            let (account, connection) = (self.shared.decode_memory.clone(), self.frames.connection());
            self.shared.counters.waits_for_request_memory.fetch_add(1, Ordering::Relaxed);
            let room = poll_fn(move |cx| account.poll_room(cx, connection, Standing::Ordinary));
            self.held = Some(Held::Room(frame, Box::pin(room)));
            return;
        }
        if api_key == ApiKey::Produce as i16
            && let Some(room) = self.shared.dispatch.produce_room()
        {
            self.shared.counters.waits_for_log_room.fetch_add(1, Ordering::Relaxed);
            self.held = Some(Held::Room(frame, room));
            return;
        }
        self.has_had_request = true;
        self.shared.counters.request(api_key, version, frame.bytes.len());
        let handling = self.shared.dispatch.handle(&self.connection, frame.bytes);
        let decoded_bytes = self.connection.take_decoded_bytes();
        let taken = Taken { api_key, version, arrived: now, share: frame.share, is_long, decoded_bytes };
        self.put_under_way(taken, handling);
    }

    fn put_under_way(&mut self, taken: Taken, handling: Handling) {
        let (answer, is_sequential) = match handling {
            Handling::Pipelined(answer) => (answer, false),
            Handling::Sequential(answer) => (answer, true),
            Handling::Preparing(prepared) => {
                self.held = Some(Held::Preparing(taken, prepared));
                return;
            }
        };
        let Taken { api_key, version, arrived, share, is_long, decoded_bytes } = taken;
        self.shared.counters.requests_under_way.fetch_add(1, Ordering::Relaxed);
        let decoded = is_long.then(|| self.shared.decode_memory.take_anyway(decoded_bytes as u64));
        let is_heavy = is_sequential && may_be_much_work(api_key, is_long);
        let turn = is_heavy.then(|| turn(self.shared.clone(), self.frames.connection(), is_long).boxed());
        self.is_blocked = is_sequential;
        self.under_way_bytes += share.bytes() as usize;
        self.under_way.push_back(UnderWay {
            answer,
            is_sequential,
            has_started: false,
            api_key,
            version,
            arrived,
            share,
            _decoded: decoded,
            turn,
            is_long,
        });
    }

    // ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The client is gone or sent what is no request. What it asked for before is finished; nobody may be there to read the answers.
    fn peer_is_gone(&mut self, error: FrameError, now: Duration) {
        let end = match error {
            FrameError::Closed => End::PeerClosed,
            FrameError::Length { .. } => End::Garbage(error),
            FrameError::Truncated { .. } | FrameError::Io(_) => End::PeerBroke(error),
        };
        self.connection.hang_up();
        self.end_waits();
        self.finish(end, now + self.shared.limits.orphan_grace);
    }

    fn stop(&mut self, now: Duration) {
        self.connection.hang_up();
        self.end_waits();
        self.finish(End::ServerStops, now + self.shared.limits.shutdown_grace);
    }

    fn finish(&mut self, end: End, until: Duration) {
        self.held = None;
        self.frames.give_up_turn();
        self.finishing = Some((end, until));
    }

    /// Drops a request that only waits. It is always the last.
    fn end_waits(&mut self) {
        if self.under_way.back().is_some_and(|last| is_long_poll(last.api_key)) {
            let last = self.under_way.pop_back().expect("there is a last one");
            self.close_account(&last, &Outcome::Silent);
        }
    }

    fn forget_requests(&mut self) {
        while let Some(request) = self.under_way.pop_front() {
            self.close_account(&request, &Outcome::Silent);
        }
    }

    fn is_finished(&self) -> bool {
        self.finishing.is_some() && self.under_way.is_empty() && self.outbox.is_empty()
    }

    // ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Ready with `None` when something was done about the time, with the end when it is up.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        loop {
            let now = self.now();
            let (at, what) = self.next_deadline();
            if at <= now {
                let end = self.deadline_passed(what);
                // A piece was copied; the others come first.
                if end.is_none() && matches!(what, Deadline::LetGo) && !self.outbox.is_own_copy() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(end);
            }
            // A timer that is set too early only looks again; progress does not touch it.
            if self.timer.as_ref().is_none_or(|(set_for, _)| *set_for > at) {
                self.timer = Some((at, Box::pin(world::task::sleep(at - now))));
            }
            let (_, timer) = self.timer.as_mut().expect("it was just set");
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) => self.timer = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn next_deadline(&self) -> (Duration, Deadline) {
        if let Some((_, until)) = &self.finishing {
            return (*until, Deadline::Finished);
        }
        let (at, what) = self.next_deadline_of_work();
        // Whoever does not take its answers has no more time for it.
        match self.proof_is_due().filter(|due| *due < at) {
            Some(due) => (due, Deadline::Proof),
            None => (at, what),
        }
    }

    /// By when it has to have proved who it is, if it still has to. While the broker looks at what it said it is not for us to hurry.
    fn proof_is_due(&self) -> Option<Duration> {
        let owes_proof = !self.has_proved && !self.is_blocked && self.connection.owes_proof();
        Some(self.first_byte.filter(|_| owes_proof)? + self.shared.limits.first_request)
    }

    fn next_deadline_of_work(&self) -> (Duration, Deadline) {
        let limits = &self.shared.limits;
        if !self.outbox.is_empty() {
            if !self.outbox.is_own_copy() {
                return (self.last_progress + SHARED_MEMORY_STALL, Deadline::LetGo);
            }
            let stall = match self.keeps_others_waiting() {
                true if self.outbox.bytes() > SMALL_ANSWER_BYTES => limits.stall_under_pressure,
                true => limits.small_stall_under_pressure,
                false => limits.connection_idle,
            };
            // Looked at again every now and then, because the pressure can come later.
            let stalled = self.last_progress + stall.min(limits.connection_idle);
            let look = self.now() + limits.stall_under_pressure;
            return if stalled <= look {
                (stalled, Deadline::AnswerNotTaken)
            } else {
                (look, Deadline::Look)
            };
        }
        if self.is_muted(self.now()) {
            return (self.connection.muted_until(), Deadline::Unmute);
        }
        if let Some(asked) = self.long_wait_since() {
            let cut = asked + limits.stall_under_pressure;
            return match self.keeps_others_waiting() {
                true => (cut, Deadline::LongWait),
                false => (self.now() + limits.stall_under_pressure, Deadline::Look),
            };
        }
        if self.held.is_some() || self.is_blocked || !self.under_way.is_empty() {
            // The log or the broker works; it is not for us to hurry it.
            return (self.now() + limits.connection_idle, Deadline::Look);
        }
        if let Some(began) = self.memory_wait_began.filter(|_| self.frames.waits_for_memory()) {
            return (began + limits.request_memory_wait, Deadline::NoRequestMemory);
        }
        let (mut at, mut what) = match self.frames.is_within_frame() {
            true => (self.last_progress + limits.frame_stall, Deadline::FrameStalled),
            false => (self.last_progress + limits.connection_idle, Deadline::Idle),
        };
        if let Some(first) = self.first_byte {
            let until = first + limits.first_request;
            if !self.has_had_request && self.frames.is_within_frame() && until < at {
                (at, what) = (until, Deadline::FirstRequest);
            }
        }
        if self.frames.holds_memory() {
            // It is the peer that keeps everybody waiting, if somebody waits. The finisher has a time for its frame besides.
            let finished = self
                .memory_wait_began
                .map(|began| (began + limits.request_memory_wait, Deadline::NoRequestMemory));
            let pressed = match self.keeps_others_waiting() {
                true => (self.last_progress + limits.stall_under_pressure, Deadline::FrameStalled),
                false => (self.now() + limits.stall_under_pressure, Deadline::Look),
            };
            for earlier in finished.into_iter().chain([pressed]) {
                if earlier.0 < at {
                    (at, what) = earlier;
                }
            }
        }
        (at, what)
    }

    /// Memory is used up, and this connection keeps a part of it.
    fn keeps_others_waiting(&self) -> bool {
        let holds_requests = self.frames.holds_memory() || self.under_way_bytes > SMALL_FRAME_BYTES;
        let shared = &self.shared;
        holds_requests && (shared.request_memory.is_pressed() || shared.decode_memory.is_pressed())
            || !self.outbox.is_empty() && shared.answer_memory.is_pressed()
    }

    /// Since when a long request waits for something that may never come.
    fn long_wait_since(&self) -> Option<Duration> {
        let waits = self.under_way.back().filter(|last| last.has_started && is_long_poll(last.api_key))?;
        (self.under_way_bytes > SMALL_FRAME_BYTES).then_some(waits.arrived)
    }

    fn deadline_passed(&mut self, what: Deadline) -> Option<End> {
        match what {
            Deadline::Finished => {
                Some(self.finishing.take().expect("only a finishing connection has this deadline").0)
            }
            // Not while memory is short: the copy would be of our own.
            Deadline::LetGo
                if self.keeps_others_waiting()
                    && self.outbox.bytes() > SMALL_ANSWER_BYTES
                    && self.last_progress + self.shared.limits.stall_under_pressure <= self.now() =>
            {
                Some(End::AnswerNotTaken)
            }
            Deadline::LetGo => {
                self.outbox.let_go_of_shared_memory();
                None
            }
            Deadline::Look => None,
            Deadline::Unmute => {
                // It was not idle, it was not heard.
                self.last_progress = self.now();
                None
            }
            Deadline::AnswerNotTaken => Some(End::AnswerNotTaken),
            Deadline::LongWait => Some(End::LongWait),
            Deadline::NoRequestMemory => Some(End::NoRequestMemory),
            Deadline::FrameStalled => Some(End::FrameStalled),
            Deadline::FirstRequest => Some(End::FirstRequestTooSlow),
            Deadline::Proof => Some(End::NotProvedInTime),
            Deadline::Idle => Some(End::Idle),
        }
    }
}

/// A turn to be much work. Whoever decodes much has it when there is memory for that.
async fn turn(shared: Arc<Shared>, connection: u64, is_long: bool) -> Option<OwnedSemaphorePermit> {
    loop {
        let permit = shared.heavy.clone().acquire_owned().await.ok()?;
        if !is_long || !shared.decode_memory.is_pressed() {
            return Some(permit);
        }
        drop(permit);
        poll_fn(|cx| shared.decode_memory.poll_room(cx, connection, Standing::Ordinary)).await;
    }
}

/// The first look at it, which is the work as a rule, is on a thread that stands back; once it waits for something its turn is over.
/// `account`: for what is decoded of it then.
async fn begun_patiently(
    mut answer: BoxFuture<'static, Outcome>,
    turn: Option<OwnedSemaphorePermit>,
    connection: Arc<Connection>,
    account: Option<Arc<MemoryAccount>>,
) -> Outcome {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let (answer, looked, _decoded) = patiently(move || {
        let looked = answer.as_mut().poll(&mut Context::from_waker(&waker));
        let decoded_bytes = connection.take_decoded_bytes() as u64;
        let decoded = account.map(|account| account.take_anyway(decoded_bytes));
        drop(turn);
        (answer, looked, decoded)
    })
    .await;
    match looked {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => answer.await,
    }
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.shared.counters.requests_under_way.fetch_sub(self.under_way.len() as u64, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Deadline {
    Finished,
    LetGo,
    Look,
    Unmute,
    AnswerNotTaken,
    LongWait,
    NoRequestMemory,
    FrameStalled,
    FirstRequest,
    Proof,
    Idle,
}

/// Requests that wait for others, for data or for the members of a group. What they change is done before they wait, so they may be
/// dropped when nobody waits for the answer any more. (Records that a share fetch took for its member come free with the connection.)
fn is_long_poll(api_key: i16) -> bool {
    const WAITS: [ApiKey; 4] = [ApiKey::Fetch, ApiKey::ShareFetch, ApiKey::JoinGroup, ApiKey::SyncGroup];
    WAITS.iter().any(|api| *api as i16 == api_key)
}

/// Lists of everything, and long lists of anything; of what waits only the first look. At most so many of them are worked on at once that the others find a processor.
fn may_be_much_work(api_key: i16, is_long: bool) -> bool {
    const EVERYTHING: [ApiKey; 16] = [
        ApiKey::Metadata,
        ApiKey::ListGroups,
        ApiKey::OffsetFetch,
        ApiKey::ListOffsets,
        ApiKey::DescribeConfigs,
        ApiKey::DescribeAcls,
        ApiKey::DescribeLogDirs,
        ApiKey::DescribeGroups,
        ApiKey::ConsumerGroupDescribe,
        ApiKey::StreamsGroupDescribe,
        ApiKey::ShareGroupDescribe,
        ApiKey::DescribeShareGroupOffsets,
        ApiKey::DescribeProducers,
        ApiKey::DescribeTopicPartitions,
        ApiKey::ListTransactions,
        ApiKey::DescribeClientQuotas,
    ];
    let is_everything = EVERYTHING.iter().any(|api| *api as i16 == api_key);
    is_everything || is_long && api_key != ApiKey::Produce as i16
}

/// All but those whose answer is a line or two, and that groups and producers live by.
fn may_be_long(api_key: i16) -> bool {
    const SHORT: [ApiKey; 22] = [
        ApiKey::Produce,
        ApiKey::OffsetCommit,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::SyncGroup,
        ApiKey::SaslHandshake,
        ApiKey::SaslAuthenticate,
        ApiKey::ApiVersions,
        ApiKey::InitProducerId,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::AddPartitionsToTxn,
        ApiKey::AddOffsetsToTxn,
        ApiKey::EndTxn,
        ApiKey::WriteTxnMarkers,
        ApiKey::TxnOffsetCommit,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::ShareGroupHeartbeat,
        ApiKey::StreamsGroupHeartbeat,
        ApiKey::ShareAcknowledge,
        ApiKey::GetTelemetrySubscriptions,
        ApiKey::PushTelemetry,
        ApiKey::FindCoordinator,
    ];
    !SHORT.iter().any(|api| *api as i16 == api_key)
}

/// Lets a few log lines a second through, so that a flood of bad connections does not become a flood of log.
#[derive(Default)]
pub(crate) struct LogBrake {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LogBrake {
    const LINES_PER_SECOND: u64 = 10;

    pub fn allows(&self, now: Duration) -> bool {
        if self.second.swap(now.as_secs(), Ordering::Relaxed) != now.as_secs() {
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < Self::LINES_PER_SECOND
    }
}
