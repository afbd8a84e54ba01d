//! What coordinators have in common: a pure state machine for each partition of an internal topic, run by its leader.
//!
//! `runtime.rs` runs one of them on the log and the clock. `places.rs` has one runtime for each partition of the topic that this broker
//! leads, and starts and stops them as leaders move. What an event means stands in the state machines: `groups/` has one,
//! `transactions/` another.

mod memory;
mod places;
mod runtime;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use commitlog::Verification;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str, Uuid};

pub use memory::{StateMemory, Weight};
pub(crate) use places::{CoordinatorOptions, Coordinators, coordinator_of, partition_for};
pub(crate) use runtime::PartitionRuntime;

/// Both times of one event: Unix ms for what is written down, monotonic ms for alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall_ms: i64,
    pub monotonic_ms: u64,
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// One write, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A record of the topic; without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Record {
    pub fn size_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A producer's transaction that records belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// T2.
    pub stamp: i64,
    pub verification: Verification,
}

/// Records that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub token: Token,
    /// None in the write of a marker, which the log makes itself.
    pub records: Vec<Record>,
    pub transaction: Option<InTransaction>,
}

/// What an event brought about. The runtime appends the writes, in order, and sends the answers.
#[derive(Debug)]
pub struct Effects<A> {
    pub writes: Vec<Write>,
    pub answers: Vec<(ReplyId, A)>,
}

impl<A> Default for Effects<A> {
    fn default() -> Self {
        Self { writes: Vec::new(), answers: Vec::new() }
    }
}

impl<A> Effects<A> {
    pub fn answer(&mut self, reply: ReplyId, answer: A) {
        self.answers.push((reply, answer));
    }
}

/// A marker that was appended, or that nothing here waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    pub producer_id: i64,
    pub commit: bool,
    /// No such transaction is open in this partition, and nothing was written.
    pub is_repeated: bool,
}

/// The state of one partition. Pure: an event and the time go in, records to write, answers and alarms come out.
pub trait StateMachine: Send + Sized + 'static {
    type Settings: Send + Sync + 'static;
    type Answer: Send + 'static;
    /// Where the next page of a snapshot begins.
    type SnapshotPlace: Send + 'static;
    /// What is in it, for messages.
    const WHAT: &'static str;
    /// Somebody waits for its records, and for what comes after them, one after the other.
    const IS_URGENT: bool;

    fn new(settings: Arc<Self::Settings>) -> Self;
    /// Settings that changed at run time hold from the next event on.
    fn set_settings(&mut self, settings: Arc<Self::Settings>);
    /// A record of the log. `producer_id`: it stands in a transaction of that producer.
    fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        producer_id: Option<i64>,
        now: Now,
    ) -> Result<(), DecodeError>;
    /// A marker of the log.
    fn replay_marker(&mut self, producer_id: i64, commit: bool, now: Now);
    /// The end of the log is reached. `topic_id` knows the topics there are.
    fn loaded(
        &mut self,
        topic_id: &dyn Fn(&Str) -> Option<Uuid>,
        now: Now,
        effects: &mut Effects<Self::Answer>,
    );
    /// Rings every alarm that is due.
    fn tick(&mut self, now: Now, effects: &mut Effects<Self::Answer>);
    /// When `tick` wants to be called next, monotonic ms.
    fn next_alarm_at_ms(&self) -> Option<u64>;
    /// The outcome of a write. Tokens come in order; an error names what the clients are told.
    fn written(
        &mut self,
        token: Token,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects<Self::Answer>,
    );
    /// The marker that ends a transaction whose records stand in this partition. Makes exactly one write, without records.
    fn marked(&mut self, marked: Marked, reply: ReplyId, now: Now, effects: &mut Effects<Self::Answer>);
    /// One page of about `bytes_max`, and where the next one begins. An empty state has one empty page.
    fn snapshot_page(
        &self,
        place: Option<Self::SnapshotPlace>,
        bytes_max: usize,
    ) -> (Vec<Record>, Option<Self::SnapshotPlace>);
    /// Is something here that the log has refused? Then nothing is asked of it any more, and it is read anew.
    fn is_lost(&self) -> bool {
        false
    }
    /// Whoever waits is sent away; the state stays in the log.
    fn unload(&mut self, error: ErrorCode, effects: &mut Effects<Self::Answer>);
}
