//! One transactional id: who may write under it, and where its transaction stands. Kafka: `TransactionMetadata`.
//!
//! ```text
//!   Empty ──▶ Ongoing ──▶ PrepareCommit ──▶ CompleteCommit ──▶ Ongoing …
//!                 └─────▶ PrepareAbort ───▶ CompleteAbort        any but Ongoing and Prepare… ──InitProducerId──▶ Empty
//! ```

use std::collections::BTreeSet;

use protocol::Str;

pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// From this epoch on the next one is begun under another producer id. The one behind it is left for fencing.
pub const EPOCH_EXHAUSTED: i16 = i16::MAX - 1;

/// Kafka's `Dead` and `PrepareEpochFence` never stand in the log, and not here either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub const ALL: [State; 6] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
    ];

    /// As the record has it.
    pub fn id(self) -> i8 {
        self as i8
    }

    pub fn of_id(id: i8) -> Option<State> {
        State::ALL.into_iter().find(|state| state.id() == id)
    }

    /// As tools show it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
        }
    }

    pub fn is_prepared(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }

    fn may_follow(self, previous: State) -> bool {
        use State::*;
        match self {
            Empty => matches!(previous, Empty | CompleteCommit | CompleteAbort),
            Ongoing => matches!(previous, Ongoing | Empty | CompleteCommit | CompleteAbort),
            PrepareCommit => previous == Ongoing,
            // A version-2 client may abort what has no partition yet.
            PrepareAbort => matches!(previous, Ongoing | Empty | CompleteCommit | CompleteAbort),
            CompleteCommit => previous == PrepareCommit,
            CompleteAbort => previous == PrepareAbort,
        }
    }
}

/// A partition as Kafka's record names it. Which topic of that name is meant shows where its marker comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Str,
    pub partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub id: Str,
    pub producer_id: i64,
    /// Of the client before its epochs were used up; a repeated request may still name it.
    pub previous_producer_id: i64,
    /// What the producer id becomes when the transaction is complete.
    pub next_producer_id: i64,
    /// −1: nobody has asked for one yet.
    pub epoch: i16,
    /// Who has this epoch may repeat the request that took it from him. Not in the log, as in Kafka.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction began: its stamp (T2). Grows with each transaction of this id, whatever the clock says, and so it is
    /// kept when there is none.
    pub started_ms: i64,
    pub updated_ms: i64,
    /// Of the client: 2 with KIP-890, 0 before.
    pub version: i16,
    /// The newest connection that the producer of this epoch has come by, for clients before KIP-890 (P6). Not in the log.
    pub connection: u64,
    /// When its time is over, monotonic ms; while it is under way. Not in the log.
    pub deadline_ms: u64,
    /// The decision is durable, so markers may go (T1). Not in the log.
    pub is_decided: bool,
    /// Partitions whose marker is durable. Not in the log: a restart sends all of them again (T6).
    pub marked: BTreeSet<TopicPartition>,
}

impl Transaction {
    pub fn new(id: Str, producer_id: i64, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            id,
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            epoch: NO_PRODUCER_EPOCH,
            last_epoch: NO_PRODUCER_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
            version: 0,
            connection: 0,
            deadline_ms: 0,
            is_decided: false,
            marked: BTreeSet::new(),
        }
    }

    pub fn is_exhausted(&self) -> bool {
        self.epoch >= EPOCH_EXHAUSTED
    }

    pub fn become_state(&mut self, state: State, now_ms: i64) {
        assert!(
            state.may_follow(self.state),
            "transaction {}: {state:?} cannot follow {:?}",
            self.id,
            self.state
        );
        self.state = state;
        self.updated_ms = now_ms;
    }

    /// The next transaction begins.
    pub fn begin(&mut self, now_ms: i64) {
        self.become_state(State::Ongoing, now_ms);
        self.started_ms = now_ms.max(self.started_ms + 1);
    }

    /// Whether this is the producer id that its client was told to go on with, and that it gets when all partitions know of the end of
    /// the transaction: until then the client has to wait, and is nobody else.
    pub fn will_be(&self, producer_id: i64) -> bool {
        self.next_producer_id != NO_PRODUCER_ID && self.next_producer_id == producer_id
    }

    /// What a client is told after EndTxn: the ids it goes on with.
    pub fn after_end(&self) -> (i64, i16) {
        match self.next_producer_id {
            NO_PRODUCER_ID => (self.producer_id, self.epoch),
            next => (next, 0),
        }
    }

    /// All its markers are durable.
    pub fn complete(&mut self, now_ms: i64) {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        self.become_state(state, now_ms);
        if self.next_producer_id != NO_PRODUCER_ID {
            self.previous_producer_id = self.producer_id;
            self.producer_id = std::mem::replace(&mut self.next_producer_id, NO_PRODUCER_ID);
            self.epoch = 0;
        }
        self.partitions.clear();
        self.marked.clear();
        self.is_decided = false;
    }
}
