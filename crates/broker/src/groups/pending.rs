//! Offsets inside transactions: TxnOffsetCommit, and the markers that make them count. Behaviour after Kafka's `OffsetMetadataManager`.
//!
//! ```text
//!   TxnOffsetCommit ─▶ written, waits under its producer ─▶ marker: commit ─▶ on its way like any offset ─▶ readers see it
//!                      UNSTABLE_OFFSET_COMMIT                     └ abort ─▶ forgotten
//! ```
//! Readers see what a transaction commits when the marker is durable, by the same token (T7). Of several writes of one offset the one
//! that stands last in the log counts, and not the one whose marker comes last. Commit timestamps of a key grow with the log for that
//! reason: a snapshot's pages stand behind what they repeat, and a restart must not take them for newer.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str};
use world::broken;

use super::consumer::ConsumerGroup;
use super::event::{Answer, CommitAnswer, CommitRequest, Effects, Now, ReplyId};
use super::group::{Group, GroupState};
use super::offset_store::{CommittedOffset, OffsetKey};
use super::offsets::is_longer_than;
use super::records::{self, ReadRecord};
use super::shard::{AfterWrite, Shard};
use crate::coordinators::{InTransaction, Marked};

/// Offsets of transactions that are open, by producer id.
#[derive(Debug, Default)]
pub struct PendingOffsets {
    by_producer: BTreeMap<i64, BTreeMap<OffsetKey, CommittedOffset>>,
    /// How many producers have one of a key.
    by_key: BTreeMap<OffsetKey, usize>,
    /// The newest connection of producers that give all their transactions one epoch, and that epoch. Not in the log.
    connections: BTreeMap<i64, (i16, u64)>,
}

/// Producers whose newest connection is remembered; of more those with the oldest ids are forgotten.
const CONNECTIONS_MAX: usize = 10_000;

impl PendingOffsets {
    pub fn len(&self) -> usize {
        self.by_producer.values().map(BTreeMap::len).sum()
    }

    pub fn has(&self, key: &OffsetKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// May a request by this connection have an effect? Not if the producer has come by a newer one: then it is a late one, perhaps of
    /// an earlier transaction of the same epoch (P6).
    pub fn is_newest_connection(&mut self, producer_id: i64, epoch: i16, connection: u64) -> bool {
        let newest = self.connections.entry(producer_id).or_insert((epoch, connection));
        if epoch == newest.0 && connection < newest.1 {
            return false;
        }
        *newest = (epoch, connection);
        if self.connections.len() > CONNECTIONS_MAX {
            self.connections.pop_first();
        }
        true
    }

    pub fn has_group(&self, group: &Str) -> bool {
        self.keys_of(group).next().is_some()
    }

    pub fn keys_of(&self, group: &Str) -> impl Iterator<Item = &OffsetKey> + use<'_> {
        let group = group.clone();
        let first = OffsetKey { group: group.clone(), topic: Str::default(), partition: i32::MIN };
        self.by_key.range(first..).map(|(key, _)| key).take_while(move |key| key.group == group)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OffsetKey, &CommittedOffset)> {
        self.by_producer.values().flatten()
    }

    /// When the newest pending write of a key was.
    fn newest_at_ms(&self, key: &OffsetKey) -> Option<i64> {
        if !self.has(key) {
            return None;
        }
        self.by_producer.values().filter_map(|offsets| offsets.get(key)).map(|it| it.committed_at_ms).max()
    }

    fn insert(
        &mut self,
        producer_id: i64,
        key: OffsetKey,
        value: CommittedOffset,
    ) -> Option<CommittedOffset> {
        let earlier = self.by_producer.entry(producer_id).or_default().insert(key.clone(), value);
        if earlier.is_none() {
            *self.by_key.entry(key).or_default() += 1;
        }
        earlier
    }

    fn remove(&mut self, producer_id: i64, key: &OffsetKey) {
        let Some(offsets) = self.by_producer.get_mut(&producer_id) else { return };
        if offsets.remove(key).is_some() {
            if offsets.is_empty() {
                self.by_producer.remove(&producer_id);
            }
            self.uncount(key);
        }
    }

    fn uncount(&mut self, key: &OffsetKey) {
        let count = self.by_key.get_mut(key).expect("what is pending is counted");
        *count -= 1;
        if *count == 0 {
            self.by_key.remove(key);
        }
    }

    fn take(&mut self, producer_id: i64) -> BTreeMap<OffsetKey, CommittedOffset> {
        let taken = self.by_producer.remove(&producer_id).unwrap_or_default();
        taken.keys().for_each(|key| self.uncount(key));
        taken
    }

    /// The offset was deleted: what was written of it before is void, whoever wrote it.
    pub fn forget(&mut self, key: &OffsetKey) {
        if self.by_key.remove(key).is_some() {
            self.by_producer.retain(|_, offsets| {
                offsets.remove(key);
                !offsets.is_empty()
            });
        }
    }
}

/// What a write of pending offsets takes back should it not reach the log.
#[derive(Debug)]
pub(super) struct PendingWrite {
    producer_id: i64,
    earlier: Vec<(OffsetKey, Option<CommittedOffset>)>,
    pub reply: ReplyId,
    pub answer: CommitAnswer,
    created: Option<Str>,
}

impl Shard {
    /// `TxnOffsetCommit`. Its coordinator has been asked; the log looks whether that still counts.
    pub fn commit_in_transaction(
        &mut self,
        request: CommitRequest,
        transaction: InTransaction,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let created = match self.may_commit_in_transaction(&request, now) {
            Ok(is_new) => is_new,
            Err(error) => return effects.answer(reply, Answer::Commit(CommitAnswer::Refused(error))),
        };
        if created {
            let id = request.group.detached();
            self.groups.insert(id.clone(), Group::new(id, now.wall_ms));
        }
        let group_id = self.group_id(&request.group).expect("was made or is there");
        let created = created.then(|| group_id.clone());
        let units_max = self.settings.offset_metadata_units_max;
        let mut each = Vec::with_capacity(request.offsets.len());
        let mut records = Vec::with_capacity(request.offsets.len());
        let mut earlier = Vec::with_capacity(request.offsets.len());
        for commit in request.offsets {
            if is_longer_than(&commit.metadata, units_max) {
                each.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            each.push(ErrorCode::None);
            let topic = commit.topic.detached();
            let key = OffsetKey { group: group_id.clone(), topic, partition: commit.partition };
            let value = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.detached(),
                committed_at_ms: self.commit_time_ms(&key, now),
                expire_at_ms: None,
                topic_id: commit.topic_id,
            };
            records.push(records::offset_record(&key, &value));
            let before = self.pending_offsets.insert(transaction.producer_id, key.clone(), value);
            earlier.push((key, before));
        }
        let answer = CommitAnswer::Each(each);
        let write = PendingWrite { producer_id: transaction.producer_id, earlier, reply, answer, created };
        if records.is_empty() {
            return self.pending_offsets_written(write, Ok(()), effects);
        }
        let after = AfterWrite::PendingOffsets(Box::new(write));
        self.write_in(Some(transaction), records, Vec::new(), after, effects);
    }

    /// Whether its group would be new.
    fn may_commit_in_transaction(&mut self, request: &CommitRequest, now: Now) -> Result<bool, ErrorCode> {
        if !self.has_room_for_offsets(&request.group, &request.offsets, now) {
            return Err(ErrorCode::PolicyViolation);
        }
        let count = self.offsets.len() + self.offsets.pending_len() + self.pending_offsets.len();
        if count + request.offsets.len() > self.settings.offsets_per_partition_max {
            return Err(ErrorCode::PolicyViolation);
        }
        if let Some(group) = self.consumer_group(&request.group) {
            return check_consumer_commit(group, request).map(|()| false);
        }
        if let Some(group) = self.streams_group(&request.group) {
            return group.check_transactional_commit(request, says_who(request)).map(|()| false);
        }
        if self.share_group(&request.group).is_some() {
            return Err(ErrorCode::GroupIdNotFound);
        }
        let Some(group) = self.groups.get(&request.group) else {
            return match request.generation < 0 {
                true if self.is_full_of_groups() => Err(ErrorCode::PolicyViolation),
                true => Ok(true),
                false => Err(ErrorCode::IllegalGeneration),
            };
        };
        // Producers before KIP-447 say nothing of the group; the transactional id fences them. Others are fenced by the generation.
        let is_simple = request.generation < 0 && group.is_in(GroupState::Empty);
        if says_who(request) && !is_simple {
            group.check_member(&request.member_id, request.instance_id.as_ref())?;
            if request.generation != group.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        }
        Ok(false)
    }

    /// The time of a write of this offset: later than those it has to count before, whatever the clock says.
    pub(super) fn commit_time_ms(&self, key: &OffsetKey, now: Now) -> i64 {
        let behind_pending = self.pending_offsets.newest_at_ms(key).map_or(i64::MIN, |at_ms| at_ms + 1);
        let committed = self.offsets.newest(key).map_or(i64::MIN, |newest| newest.committed_at_ms);
        now.wall_ms.max(behind_pending).max(committed)
    }

    pub(super) fn pending_offsets_written(
        &mut self,
        write: PendingWrite,
        outcome: Result<(), ErrorCode>,
        effects: &mut Effects,
    ) {
        let PendingWrite { producer_id, earlier, reply, answer, created } = write;
        if broken::rule("offsets-before-marker") && outcome.is_ok() {
            let pending = self.pending_offsets.by_producer.get(&producer_id).cloned().unwrap_or_default();
            pending.into_iter().for_each(|(key, value)| self.offsets.apply(&key, Some(value)));
        }
        if outcome.is_err() {
            for (key, before) in earlier.into_iter().rev() {
                self.take_back(producer_id, key, before);
            }
            if let Some(group) = created {
                self.forget_unused_group(&group);
            }
        }
        let answer = outcome.err().map_or(answer, CommitAnswer::Refused);
        effects.answer(reply, Answer::Commit(answer));
    }

    /// A write of this offset did not reach the log: what stood there before counts again, also for what was handed over behind it.
    fn take_back(&mut self, producer_id: i64, key: OffsetKey, before: Option<CommittedOffset>) {
        for (token, behind) in &mut self.pending {
            match &mut behind.after {
                // Another one has followed, and would go back to the one that has failed.
                AfterWrite::PendingOffsets(next) if next.producer_id == producer_id => {
                    if let Some((_, its)) = next.earlier.iter_mut().find(|(its, _)| *its == key) {
                        *its = before;
                        return;
                    }
                }
                // The marker is there already, and has taken the wrong one along.
                AfterWrite::TransactionEnded { marked, .. }
                    if marked.producer_id == producer_id && !marked.is_repeated =>
                {
                    return self.offsets.amend(&key, *token, before);
                }
                // Deleted: nothing of it counts.
                _ if behind.offsets.contains(&key) && self.offsets.is_deleted_by(&key, *token) => return,
                _ => {}
            }
        }
        match before {
            Some(value) => drop(self.pending_offsets.insert(producer_id, key, value)),
            None => self.pending_offsets.remove(producer_id, &key),
        }
    }

    /// The marker of a transaction stands in the log's queue.
    pub(super) fn transaction_ended(&mut self, marked: Marked, reply: ReplyId, effects: &mut Effects) {
        let mut keys = Vec::new();
        if !marked.is_repeated {
            let token = self.next_token();
            for (key, value) in self.pending_offsets.take(marked.producer_id) {
                if marked.commit && self.counts(&key, &value) {
                    self.offsets.begin(key.clone(), token, Some(value));
                    keys.push(key);
                }
            }
        }
        self.write(Vec::new(), keys, AfterWrite::TransactionEnded { reply, marked }, effects);
    }

    /// Is this the last write of the offset, and not one that another write has followed?
    fn counts(&self, key: &OffsetKey, value: &CommittedOffset) -> bool {
        self.offsets.newest(key).is_none_or(|newest| newest.committed_at_ms <= value.committed_at_ms)
    }

    pub(super) fn replay_in_transaction(
        &mut self,
        producer_id: i64,
        key: &Bytes,
        value: Option<&Bytes>,
        now: Now,
    ) -> Result<(), DecodeError> {
        let ReadRecord::Offset { key, value: Some(value) } = records::read(key, value)? else {
            // Nobody writes anything else inside a transaction; a running Kafka would not understand it either.
            return Ok(());
        };
        if !self.has_replayed(&key.group) {
            self.groups.insert(key.group.clone(), Group::new(key.group.clone(), now.wall_ms));
        }
        self.pending_offsets.insert(producer_id, key, value);
        Ok(())
    }

    pub(super) fn replay_end_of_transaction(&mut self, producer_id: i64, commit: bool) {
        for (key, value) in self.pending_offsets.take(producer_id) {
            if commit && self.counts(&key, &value) {
                self.offsets.apply(&key, Some(value));
            }
        }
    }
}

fn says_who(request: &CommitRequest) -> bool {
    request.generation >= 0 || !request.member_id.is_empty() || request.instance_id.is_some()
}

/// In a group of KIP-848 the generation is the epoch of the member. TxnOffsetCommit has no error for one that is stale.
fn check_consumer_commit(group: &ConsumerGroup, request: &CommitRequest) -> Result<(), ErrorCode> {
    if request.generation < 0 && (group.stored.members.is_empty() || !says_who(request)) {
        return Ok(());
    }
    let member = group.member(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
    match member.may_commit(request) {
        true => Ok(()),
        false => Err(ErrorCode::IllegalGeneration),
    }
}
