//! The state of one partition of `__share_group_state`. Pure: an event and the time go in, records to write and answers come out.
//!
//! A write holds for the next event at once, and is told to nobody before its record is durable. The log takes writes in order, and
//! one that failed is followed by none that lands; then this state is read anew.
//!
//! Two epochs fence: the state's, which grows with each initialization, and the leader's, which grows with each leader that reads.
//! Whoever comes with a smaller one is told so, and nothing of it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str, Uuid};

use super::event::{
    Answer, Asked, Effects, Now, ReadState, Record, Refusal, ReplyId, StateSummary, Token, Told, WriteState,
};
use super::records::{self, ReadRecord, Update};
use super::settings::ShareCoordinatorSettings;
use super::state::{NO_COUNT, NO_EPOCH, NO_START_OFFSET, ShareKey, ShareState};
use crate::coordinators::{Marked, StateMachine, Weight, Write};

const NOT_INITIALIZED: &str = "The state of this share partition is not initialized.";
const TOO_MANY: &str = "There are as many share partitions as there may be.";
const TOO_HEAVY: &str = "The memory for groups is used up.";
/// What a share partition weighs beside the name of its group, and each of its batches (`coordinators/memory.rs`).
const STATE_BYTES: usize = 256;
const SPAN_BYTES: usize = 64;

pub struct ShareShard {
    settings: Arc<ShareCoordinatorSettings>,
    states: BTreeMap<ShareKey, ShareState>,
    pending: BTreeMap<Token, Vec<(ReplyId, Answer)>>,
    next_token: u64,
    /// The log has refused a write: what is here may not be so.
    is_broken: bool,
    weight: Weight,
}

impl ShareShard {
    pub fn state_count(&self) -> usize {
        self.states.len()
    }

    #[cfg(test)]
    pub fn state(&self, key: &ShareKey) -> Option<&ShareState> {
        self.states.get(key)
    }

    pub fn ask(&mut self, key: &ShareKey, asked: &Asked, reply: ReplyId, now: Now, effects: &mut Effects) {
        let before = self.bytes_of(key);
        if let Err(refusal) = self.answer(key, asked, reply, now, effects) {
            self.answer_behind_writes(reply, Err(refusal), effects);
        }
        self.weight.put(&self.settings.memory, self.weight.bytes() + self.bytes_of(key) - before);
    }

    fn bytes_of(&self, key: &ShareKey) -> u64 {
        self.states.get(key).map_or(0, |state| weight_of(key, state))
    }

    fn weigh_anew(&mut self) {
        let bytes = self.states.iter().map(|(key, state)| weight_of(key, state)).sum();
        self.weight.put(&self.settings.memory, bytes);
    }

    fn answer(
        &mut self,
        key: &ShareKey,
        asked: &Asked,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if key.partition < 0 {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "The partition is negative."));
        }
        match asked {
            Asked::Initialize { state_epoch, start_offset } => {
                if *state_epoch < 0 {
                    return Err(Refusal::new(ErrorCode::InvalidRequest, "The state epoch is negative."));
                }
                let known = self.states.get(key);
                check_epoch(known.map(|state| state.state_epoch), *state_epoch, ErrorCode::FencedStateEpoch)?;
                self.check_topic(key)?;
                if known.is_some_and(|state| state.state_epoch == *state_epoch) {
                    // It came twice, and between the two somebody may have begun to work with it.
                    self.answer_behind_writes(reply, Ok(Told::Done), effects);
                    return Ok(());
                }
                if known.is_none() && self.states.len() >= self.settings.states_per_partition_max {
                    return Err(Refusal::new(ErrorCode::PolicyViolation, TOO_MANY));
                }
                // Whoever is there may write: its leader makes no more batches than it has to while memory is used up.
                if known.is_none() && !self.settings.memory.has_room((STATE_BYTES + key.group.len()) as u64) {
                    return Err(Refusal::new(ErrorCode::PolicyViolation, TOO_HEAVY));
                }
                let state = ShareState {
                    snapshot_epoch: known.map_or(0, |state| state.snapshot_epoch + 1),
                    state_epoch: *state_epoch,
                    start_offset: *start_offset,
                    delivery_complete_count: if *start_offset == NO_START_OFFSET { NO_COUNT } else { 0 },
                    created_ms: now.wall_ms,
                    written_ms: now.wall_ms,
                    ..ShareState::default()
                };
                let record = records::snapshot(key, &state);
                self.states.insert(key.detached(), state);
                self.write(vec![record], Some((reply, Ok(Told::Done))), effects);
            }
            Asked::Read { leader_epoch } => {
                let state = self.known(key)?;
                check_epoch(Some(state.leader_epoch), *leader_epoch, ErrorCode::FencedLeaderEpoch)?;
                self.check_topic(key)?;
                let told = Told::State(ReadState {
                    state_epoch: state.state_epoch,
                    start_offset: state.start_offset,
                    batches: state.batches(),
                });
                if *leader_epoch == NO_EPOCH || *leader_epoch == state.leader_epoch {
                    self.answer_behind_writes(reply, Ok(told), effects);
                    return Ok(());
                }
                // From now on the leader before is fenced, also after a restart of ours.
                let write = WriteState {
                    state_epoch: state.state_epoch,
                    leader_epoch: *leader_epoch,
                    start_offset: NO_START_OFFSET,
                    delivery_complete_count: state.delivery_complete_count,
                    batches: Vec::new(),
                };
                self.write_state(key, &write, *leader_epoch, (reply, Ok(told)), now, effects);
            }
            Asked::Write(write) => {
                let state = self.known(key)?;
                check_epoch(Some(state.leader_epoch), write.leader_epoch, ErrorCode::FencedLeaderEpoch)?;
                check_epoch(Some(state.state_epoch), write.state_epoch, ErrorCode::FencedStateEpoch)?;
                self.check_topic(key)?;
                let batches = &write.batches;
                if batches
                    .iter()
                    .any(|batch| batch.first_offset < 0 || batch.last_offset < batch.first_offset)
                {
                    return Err(Refusal::new(ErrorCode::InvalidRequest, "A batch ends before it begins."));
                }
                if state.span_count() + batches.len() > self.settings.batches_max {
                    return Err(Refusal::new(ErrorCode::InvalidRequest, "There are too many batches."));
                }
                self.write_state(key, write, NO_EPOCH, (reply, Ok(Told::Done)), now, effects);
            }
            Asked::Delete { state_epoch } => {
                self.check_topic(key)?;
                // One that has begun anew meanwhile is not what was to be deleted.
                let is_meant =
                    |state: &ShareState| *state_epoch == NO_EPOCH || state.state_epoch <= *state_epoch;
                match self.states.get(key).is_some_and(is_meant) {
                    true => {
                        self.states.remove(key);
                        self.write(vec![records::tombstone(key)], Some((reply, Ok(Told::Done))), effects);
                    }
                    false => self.answer_behind_writes(reply, Ok(Told::Done), effects),
                }
            }
            Asked::Summary => {
                self.check_topic(key)?;
                let summary = self.states.get(key).map_or(NOTHING, |state| StateSummary {
                    state_epoch: state.state_epoch,
                    leader_epoch: state.leader_epoch,
                    start_offset: state.start_offset,
                    delivery_complete_count: state.delivery_complete_count,
                });
                self.answer_behind_writes(reply, Ok(Told::Summary(summary)), effects);
            }
        }
        Ok(())
    }

    /// Share partitions of topics that are gone.
    pub fn drop_gone_topics(&mut self, effects: &mut Effects) {
        let topics = &self.settings.topics;
        let gone: Vec<ShareKey> =
            self.states.keys().filter(|key| !topics.has(key.topic, key.partition)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        for key in &gone {
            self.states.remove(key);
        }
        self.weigh_anew();
        self.write(gone.iter().map(records::tombstone).collect(), None, effects);
    }

    fn known(&self, key: &ShareKey) -> Result<&ShareState, Refusal> {
        self.states.get(key).ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, NOT_INITIALIZED))
    }

    fn check_topic(&self, key: &ShareKey) -> Result<(), Refusal> {
        match self.settings.topics.has(key.topic, key.partition) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownTopicOrPartition.into()),
        }
    }

    fn write_state(
        &mut self,
        key: &ShareKey,
        write: &WriteState,
        leader_epoch: i32,
        answer: (ReplyId, Answer),
        now: Now,
        effects: &mut Effects,
    ) {
        let state = self.states.get_mut(key).expect("was looked up");
        let leader_epoch = if leader_epoch == NO_EPOCH { state.leader_epoch } else { leader_epoch };
        let mut update = Update {
            snapshot_epoch: state.snapshot_epoch,
            leader_epoch,
            start_offset: write.start_offset,
            delivery_complete_count: write.delivery_complete_count,
            batches: write.batches.clone(),
        };
        apply(state, &update);
        let record = match state.updates > self.settings.updates_per_snapshot {
            true => {
                state.snapshot_epoch += 1;
                state.created_ms = now.wall_ms;
                state.written_ms = now.wall_ms;
                state.updates = 0;
                state.join();
                records::snapshot(key, state)
            }
            false => {
                // What is written of one offset twice within one write is written once.
                let mut written = ShareState::default();
                written.put(&update.batches);
                update.batches = written.batches();
                records::update(key, &update)
            }
        };
        self.write(vec![record], Some(answer), effects);
    }

    fn write(&mut self, records: Vec<Record>, answer: Option<(ReplyId, Answer)>, effects: &mut Effects) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.pending.insert(token, answer.into_iter().collect());
        effects.writes.push(Write { token, records, transaction: None });
    }

    /// Answers when everything that was written so far is durable: what it says may stand there.
    fn answer_behind_writes(&mut self, reply: ReplyId, answer: Answer, effects: &mut Effects) {
        match self.pending.last_entry() {
            Some(mut newest) => newest.get_mut().push((reply, answer)),
            None if self.is_broken => effects.answer(reply, Err(ErrorCode::NotCoordinator.into())),
            None => effects.answer(reply, answer),
        }
    }
}

/// Of a share partition that is not there.
const NOTHING: StateSummary = StateSummary {
    state_epoch: 0,
    leader_epoch: 0,
    start_offset: NO_START_OFFSET,
    delivery_complete_count: NO_COUNT,
};

fn weight_of(key: &ShareKey, state: &ShareState) -> u64 {
    (STATE_BYTES + key.group.len() + state.span_count() * SPAN_BYTES) as u64
}

fn check_epoch(known: Option<i32>, asked: i32, fenced: ErrorCode) -> Result<(), Refusal> {
    match known {
        Some(known) if asked != NO_EPOCH && asked < known => Err(fenced.into()),
        _ => Ok(()),
    }
}

fn apply(state: &mut ShareState, update: &Update) {
    if update.leader_epoch != NO_EPOCH {
        state.leader_epoch = update.leader_epoch;
    }
    // A write that comes late, after its leader gave up waiting for it, must not bring back what is done.
    state.move_start(update.start_offset.max(state.start_offset));
    state.delivery_complete_count = update.delivery_complete_count;
    state.put(&update.batches);
    state.updates += 1;
}

impl StateMachine for ShareShard {
    type Settings = ShareCoordinatorSettings;
    type Answer = Answer;
    /// Behind this share partition.
    type SnapshotPlace = ShareKey;
    const WHAT: &'static str = "share partitions";
    const IS_URGENT: bool = true;

    fn new(settings: Arc<ShareCoordinatorSettings>) -> ShareShard {
        ShareShard {
            settings,
            states: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_token: 0,
            is_broken: false,
            weight: Weight::default(),
        }
    }

    fn set_settings(&mut self, settings: Arc<ShareCoordinatorSettings>) {
        self.settings = settings;
    }

    fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        _: Option<i64>,
        _: Now,
    ) -> Result<(), DecodeError> {
        match records::read(key, value)? {
            Some(ReadRecord::Snapshot(key, Some(state))) => {
                self.states.insert(key, *state);
            }
            Some(ReadRecord::Snapshot(key, None)) => {
                self.states.remove(&key);
            }
            // Without a snapshot before it an update says too little. Nothing leaves one alone: a share partition begins with a snapshot.
            Some(ReadRecord::Update(key, update)) => {
                if let Some(state) = self.states.get_mut(&key) {
                    apply(state, &update);
                }
            }
            Some(ReadRecord::Other(record_type)) => {
                tracing::debug!(record_type, "a record of another kind in __share_group_state");
            }
            None => {}
        }
        Ok(())
    }

    fn replay_marker(&mut self, _: i64, _: bool, _: Now) {
        // Nobody writes into this topic inside a transaction.
    }

    fn loaded(&mut self, _: &dyn Fn(&Str) -> Option<Uuid>, _: Now, effects: &mut Effects) {
        self.states.values_mut().for_each(ShareState::join);
        self.weigh_anew();
        self.drop_gone_topics(effects);
    }

    fn tick(&mut self, _: Now, _: &mut Effects) {}

    fn next_alarm_at_ms(&self) -> Option<u64> {
        None
    }

    fn written(&mut self, token: Token, outcome: Result<(), ErrorCode>, _: Now, effects: &mut Effects) {
        let waiting = self.pending.remove(&token).expect("a write that was under way has ended");
        self.is_broken |= outcome.is_err();
        for (reply, answer) in waiting {
            effects.answer(reply, outcome.map_or_else(|error| Err(error.into()), |()| answer));
        }
    }

    fn marked(&mut self, _: Marked, _: ReplyId, _: Now, _: &mut Effects) {
        unreachable!("nobody writes into this topic inside a transaction");
    }

    fn snapshot_page(&self, place: Option<ShareKey>, bytes_max: usize) -> (Vec<Record>, Option<ShareKey>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = place.map_or(Unbounded, Excluded);
        let (mut records, mut size_bytes) = (Vec::new(), 0);
        for (key, state) in self.states.range((behind, Unbounded)) {
            let record = records::snapshot(key, state);
            size_bytes += record.size_bytes();
            records.push(record);
            if size_bytes >= bytes_max {
                return (records, Some(key.clone()));
            }
        }
        (records, None)
    }

    fn is_lost(&self) -> bool {
        self.is_broken
    }

    fn unload(&mut self, error: ErrorCode, effects: &mut Effects) {
        self.states.clear();
        self.weigh_anew();
        self.is_broken = true;
        for waiting in self.pending.values_mut() {
            for (reply, _) in waiting.drain(..) {
                effects.answer(reply, Err(error.into()));
            }
        }
    }
}
