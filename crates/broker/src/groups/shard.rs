//! The state of one partition of `__consumer_offsets`: its groups, their offsets, their alarms. Pure: an event and
//! the time go in, records to write, answers and alarms come out. It never waits and knows no log, no clock.
//!
//! How a write works: the shard hands out a [`Write`] with a [`Token`]. The runtime appends the records and later
//! calls [`Shard::written`] with the token and the outcome, in the order of the tokens. What depends on the records
//! being safe (an answer, an assignment, a committed offset) waits in `after_write` under that token. A write that
//! failed is taken back there.
//!
//! `consumer/` has the groups of the new protocol (KIP-848), `streams/` those of Kafka Streams (KIP-1071); `entry.rs` is what both
//! have in common. `share/` has share groups (KIP-932); the rest is about classic ones.
//! `membership.rs` has JoinGroup, SyncGroup, Heartbeat, LeaveGroup; `offsets.rs` the offsets; `admin.rs` what
//! tools ask for; `replay.rs` rebuilds a shard from its log, `snapshot.rs` keeps that log short.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::consumer;
use super::entry::ClassicGroup;
use super::event::{
    Answer, CommitAnswer, DeleteOffsetsAnswer, DeletedGroups, Effects, GroupRecord, JoinAnswer, LeaveAnswer,
    Now, ReplyId, Token, Write,
};
use super::group::Group;
use super::group_records::GroupRecords;
use super::member::OfferedProtocol;
use super::offset_store::{OffsetKey, OffsetStore};
use super::pending::{PendingOffsets, PendingWrite};
use super::records;
use super::settings::GroupSettings;
use super::share;
use super::streams;
use super::timers::{Alarm, Timers};
use crate::coordinators::{InTransaction, Marked, Weight};

/// What happens once a write is in the log for good, or could not be written.
#[derive(Debug)]
pub(super) enum AfterWrite {
    /// A group was made by the first JoinGroup; the join answer, if one is due, waited for the record.
    GroupCreated {
        group: Str,
        answer: Option<(ReplyId, JoinAnswer)>,
    },
    /// A group lost its last member. Who left waits for that.
    GroupEmptied {
        answer: Option<(ReplyId, LeaveAnswer)>,
    },
    /// The leader's assignment.
    AssignmentStored {
        group: Str,
        generation: i32,
        assignment: BTreeMap<Str, Bytes>,
    },
    /// A static member took its place back without a rebalance.
    StaticMemberReplaced(Box<StaticReplacement>),
    /// Groups and all their offsets were deleted.
    GroupsDeleted {
        groups: Vec<Group>,
        consumers: Vec<Str>,
        streams: Vec<Str>,
        shares: Vec<Str>,
        answer: Option<(ReplyId, DeletedGroups)>,
    },
    OffsetsCommitted {
        reply: ReplyId,
        answer: CommitAnswer,
        created: Option<Str>,
    },
    OffsetsDeleted {
        reply: ReplyId,
        answer: DeleteOffsetsAnswer,
    },
    /// Offsets expired or their topic went away.
    OffsetsDropped,
    /// Offsets inside a transaction.
    PendingOffsets(Box<PendingWrite>),
    /// A marker, and the offsets that it makes count.
    TransactionEnded {
        reply: ReplyId,
        marked: Marked,
    },
    /// A share group changed. Who waits is known to its entry.
    Share {
        group: Str,
    },
    /// A consumer group changed. Who waits is known to its entry.
    Consumer {
        group: Str,
        classic: ClassicGroup,
    },
    /// The same for a streams group.
    Streams {
        group: Str,
        classic: ClassicGroup,
    },
}

/// A static member that took its place back: what to undo should its new id not reach the log.
#[derive(Debug)]
pub(super) struct StaticReplacement {
    pub group: Str,
    pub instance_id: Str,
    pub old_id: Str,
    pub new_id: Str,
    pub old_protocols: Vec<OfferedProtocol>,
    pub old_rebalance_timeout_ms: i32,
    pub old_session_timeout_ms: i32,
    /// The leader as it was called before: clients older than KIP-814 are told this name, so that a leader that
    /// came back does not assign anew.
    pub old_leader: Str,
    pub can_skip_assignment: bool,
}

/// A write under way: the offsets it changes, and what follows.
#[derive(Debug)]
pub(super) struct Pending {
    pub offsets: Vec<OffsetKey>,
    pub after: AfterWrite,
    /// Reads that must not overtake this write (`require_stable`).
    pub waiting: Vec<(ReplyId, Answer)>,
}

pub struct Shard {
    pub(super) settings: Arc<GroupSettings>,
    /// Classic groups, and simple ones, which have offsets and no members.
    pub(super) groups: BTreeMap<Str, Group>,
    pub(super) group_records: GroupRecords,
    /// Consumer groups (KIP-848). A name is in one of these maps at most.
    pub(super) consumers: BTreeMap<Str, consumer::Entry>,
    /// Streams groups (KIP-1071).
    pub(super) streams: BTreeMap<Str, streams::Entry>,
    /// Share groups (KIP-932).
    pub(super) shares: BTreeMap<Str, share::Entry>,
    /// Share groups while the log is read.
    pub(super) replayed_shares: BTreeMap<Str, share::Stored>,
    /// Consumer groups while the log is read.
    pub(super) replayed: BTreeMap<Str, consumer::Stored>,
    pub(super) replayed_streams: BTreeMap<Str, streams::Stored>,
    pub(super) offsets: OffsetStore,
    pub pending_offsets: PendingOffsets,
    pub(super) timers: Timers,
    pub(super) pending: BTreeMap<Token, Pending>,
    pub(super) weight: Weight,
    next_token: u64,
    /// A write failed: what waits for writes up to this one was read from a state that is gone.
    doubtful: Option<(Token, ErrorCode)>,
}

impl Shard {
    pub fn new(settings: Arc<GroupSettings>) -> Shard {
        Shard {
            settings,
            groups: BTreeMap::new(),
            group_records: GroupRecords::default(),
            consumers: BTreeMap::new(),
            streams: BTreeMap::new(),
            shares: BTreeMap::new(),
            replayed_shares: BTreeMap::new(),
            replayed: BTreeMap::new(),
            replayed_streams: BTreeMap::new(),
            offsets: OffsetStore::default(),
            pending_offsets: PendingOffsets::default(),
            timers: Timers::default(),
            pending: BTreeMap::new(),
            weight: Weight::default(),
            next_token: 0,
            doubtful: None,
        }
    }

    #[cfg(test)]
    pub fn generation_for_tests(&self, group: &str) -> Option<i32> {
        self.groups.get(group).map(|group| group.generation)
    }

    #[cfg(test)]
    pub fn settings_for_tests(&self) -> GroupSettings {
        (*self.settings).clone()
    }

    /// Settings that changed at run time hold from the next event on.
    pub fn set_settings(&mut self, settings: Arc<GroupSettings>) {
        self.settings = settings;
    }

    pub fn group_count(&self) -> usize {
        self.groups.len() + self.consumers.len() + self.streams.len() + self.shares.len()
    }

    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    pub fn member_count(&self) -> usize {
        let classic: usize = self.groups.values().map(|group| group.members.len()).sum();
        let consumers = self.consumers.values().filter_map(consumer::Entry::group);
        let streams = self.streams.values().filter_map(streams::Entry::group);
        let shares = self.shares.values().filter_map(share::Entry::group);
        classic
            + consumers.map(|group| group.stored.members.len()).sum::<usize>()
            + streams.map(|group| group.stored.members.len()).sum::<usize>()
            + shares.map(|group| group.stored.members.len()).sum::<usize>()
    }

    /// When [`Shard::tick`] wants to be called next, monotonic ms.
    pub fn next_alarm_at_ms(&self) -> Option<u64> {
        self.timers.next_at_ms()
    }

    /// Rings every alarm that is due.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        while let Some(alarm) = self.timers.take_due(now.monotonic_ms) {
            match alarm {
                Alarm::Session { group, member } => self.session_ended(&group, &member, now, effects),
                Alarm::InitialJoin { group, delay_ms, remaining_ms } => {
                    self.initial_join_delay_ended(&group, delay_ms, remaining_ms, now, effects);
                }
                Alarm::Join { group } => self.complete_join(&group, None, now, effects),
                Alarm::Sync { group, generation } => self.sync_phase_ended(&group, generation, now, effects),
                Alarm::Consumer { group, member, kind, epoch } => {
                    self.consumer_alarm(&group, &member, kind, epoch, now, effects);
                }
                Alarm::Streams { group, member, kind, epoch } => {
                    self.streams_alarm(&group, &member, kind, epoch, now, effects);
                }
                Alarm::Share { group, member } => self.share_session_ended(&group, &member, effects),
                Alarm::Expiration => {
                    self.expire(now, effects);
                    self.group_records.keep(|group| self.groups.contains_key(group));
                    self.weigh_anew(now);
                    self.schedule_expiration(now);
                }
            }
        }
    }

    /// Starts the regular look for offsets that are old enough to go.
    pub fn schedule_expiration(&mut self, now: Now) {
        let at_ms = now.monotonic_ms + self.settings.offsets_retention_check_interval_ms;
        self.timers.set(at_ms, Alarm::Expiration);
    }

    /// The outcome of a write. Tokens must come in order; an error names what the clients are told.
    pub fn written(&mut self, token: Token, outcome: Result<(), ErrorCode>, now: Now, effects: &mut Effects) {
        let Some(pending) = self.pending.remove(&token) else {
            panic!("write {token:?} is not under way");
        };
        match outcome {
            Ok(()) => self.offsets.commit(&pending.offsets, token),
            Err(_) => self.offsets.roll_back(&pending.offsets, token),
        }
        self.group_records.landed(token, outcome.is_ok());
        self.after_write(token, pending.after, outcome, now, effects);
        if let Err(error) = outcome {
            self.doubtful = Some((self.pending.keys().next_back().copied().unwrap_or(token), error));
        }
        let doubt = self.doubtful.filter(|(last, _)| token <= *last).map(|(_, error)| error);
        for (reply, answer) in pending.waiting {
            let answer = match doubt {
                Some(error) => answer.refused(error),
                None => answer,
            };
            effects.answer(reply, answer);
        }
    }

    fn after_write(
        &mut self,
        token: Token,
        after: AfterWrite,
        outcome: Result<(), ErrorCode>,
        now: Now,
        effects: &mut Effects,
    ) {
        match after {
            AfterWrite::GroupCreated { group, answer } => {
                self.group_created(&group, answer, outcome, effects)
            }
            // Without the record the generation that stands in the log has no live members; a restart lets it time out.
            AfterWrite::GroupEmptied { answer } => {
                if let Some((reply, answer)) = answer {
                    effects.answer(reply, Answer::Leave(answer));
                }
            }
            AfterWrite::AssignmentStored { group, generation, assignment } => {
                self.assignment_stored(&group, generation, assignment, outcome, now, effects);
            }
            AfterWrite::StaticMemberReplaced(replacement) => {
                self.static_member_replaced(*replacement, outcome, now, effects);
            }
            AfterWrite::GroupsDeleted { groups, consumers, streams, shares, answer } => {
                for group in shares {
                    self.share_written(&group, token, outcome, now, effects);
                }
                for group in consumers {
                    self.consumer_written(&group, token, ClassicGroup::Nothing, outcome, now, effects);
                }
                for group in streams {
                    self.streams_written(&group, token, ClassicGroup::Nothing, outcome, now, effects);
                }
                self.groups_deleted(groups, answer, outcome, effects)
            }
            AfterWrite::OffsetsCommitted { reply, answer, created } => {
                if let (Err(_), Some(group)) = (outcome, created) {
                    self.forget_unused_group(&group);
                }
                let answer = outcome.err().map_or(answer, CommitAnswer::Refused);
                effects.answer(reply, Answer::Commit(answer));
            }
            AfterWrite::OffsetsDeleted { reply, answer } => {
                let answer = outcome.err().map_or(answer, DeleteOffsetsAnswer::Refused);
                effects.answer(reply, Answer::DeleteOffsets(answer));
            }
            AfterWrite::OffsetsDropped => {}
            AfterWrite::PendingOffsets(write) => self.pending_offsets_written(*write, outcome, effects),
            AfterWrite::TransactionEnded { reply, marked } => {
                effects.answer(reply, Answer::Marked(outcome.map(|()| marked)));
            }
            AfterWrite::Share { group } => self.share_written(&group, token, outcome, now, effects),
            AfterWrite::Consumer { group, classic } => {
                self.consumer_written(&group, token, classic, outcome, now, effects);
            }
            AfterWrite::Streams { group, classic } => {
                self.streams_written(&group, token, classic, outcome, now, effects);
            }
        }
    }

    /// Hands records to the log. `offsets` are the keys whose newest value these records carry.
    pub(super) fn write(
        &mut self,
        records: Vec<GroupRecord>,
        offsets: Vec<OffsetKey>,
        after: AfterWrite,
        effects: &mut Effects,
    ) {
        self.write_in(None, records, offsets, after, effects);
    }

    pub(super) fn write_in(
        &mut self,
        transaction: Option<InTransaction>,
        records: Vec<GroupRecord>,
        offsets: Vec<OffsetKey>,
        after: AfterWrite,
        effects: &mut Effects,
    ) {
        let token = self.next_token();
        self.next_token += 1;
        self.pending.insert(token, Pending { offsets, after, waiting: Vec::new() });
        effects.writes.push(Write { token, records, transaction });
    }

    /// The token the next write will have.
    pub(super) fn next_token(&self) -> Token {
        Token(self.next_token)
    }

    /// Answers at once, or behind the newest write under way.
    pub(super) fn answer_behind_writes(&mut self, reply: ReplyId, answer: Answer, effects: &mut Effects) {
        match self.pending.last_entry() {
            Some(mut newest) => newest.get_mut().waiting.push((reply, answer)),
            None => effects.answer(reply, answer),
        }
    }

    /// A classic group's record. It has to go into the next write.
    pub(super) fn group_record(&mut self, group: &Str, value: Bytes) -> GroupRecord {
        let record = records::group_record(group, &value);
        self.group_records.hand_over(self.next_token(), group, Some(value));
        record
    }

    /// The same for its tombstone.
    pub(super) fn group_tombstone(&mut self, group: &Str) -> GroupRecord {
        self.group_records.hand_over(self.next_token(), group, None);
        records::group_tombstone(group)
    }

    /// Takes a group back that was made for a write that failed, unless somebody uses it by now.
    pub(super) fn forget_unused_group(&mut self, group_id: &Str) {
        let is_unused = self
            .groups
            .get(group_id)
            .is_some_and(|group| group.members.is_empty() && group.pending_join.is_empty());
        let is_unused = is_unused && self.group_records.newest(group_id).is_none();
        let has_offsets = self.offsets.has_group(group_id) || self.pending_offsets.has_group(group_id);
        if is_unused && !has_offsets {
            self.groups.remove(group_id);
        }
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        use super::group::GroupState;
        use super::timers::{ConsumerAlarm, StreamsAlarm, TimerKey};
        for (id, entry) in &self.streams {
            let Some(group) = entry.group() else { continue };
            assert!(!self.groups.contains_key(id), "group {id} is of two kinds");
            assert!(self.consumer_group(id).is_none(), "group {id} is of two kinds");
            group.check_invariants();
            for member in group.stored.members.keys() {
                let session = TimerKey::streams(id, member, StreamsAlarm::Session);
                assert!(self.timers.is_set(&session), "nobody watches member {member} of group {id}");
            }
        }
        for (id, entry) in &self.consumers {
            let Some(group) = entry.group() else { continue };
            assert!(!self.groups.contains_key(id), "group {id} is of two kinds");
            group.check_invariants();
            for member in group.stored.members.keys() {
                let session = TimerKey::consumer(id, member, ConsumerAlarm::Session);
                assert!(self.timers.is_set(&session), "nobody watches member {member} of group {id}");
            }
        }
        for (id, entry) in &self.shares {
            let Some(group) = entry.group() else { continue };
            assert!(!self.groups.contains_key(id), "group {id} is of two kinds");
            for member in group.stored.members.keys() {
                let session = TimerKey::Share { group: id.clone(), member: member.clone() };
                assert!(self.timers.is_set(&session), "nobody watches member {member} of group {id}");
            }
        }
        for group in self.groups.values() {
            group.check_invariants();
            let id = group.id.clone();
            let has_join_timer = self.timers.is_set(&TimerKey::Join { group: id.clone() });
            if group.is_in(GroupState::PreparingRebalance) {
                assert!(has_join_timer, "group {id} prepares a rebalance that nothing ends");
            }
            for member in group.members.values() {
                let session = TimerKey::Session { group: id.clone(), member: member.id.clone() };
                let is_watched = self.timers.is_set(&session);
                // Who waits for the leader is watched by the sync timer or released by the leader's write.
                assert!(
                    is_watched || member.is_excused_from_heartbeat(),
                    "nobody watches member {} of group {id} in {}",
                    member.id,
                    group.state
                );
            }
            for member in &group.pending_join {
                assert!(self.timers.is_set(&TimerKey::Session { group: id.clone(), member: member.clone() }));
            }
            if group.is_in(GroupState::CompletingRebalance) && !group.pending_sync.is_empty() {
                assert!(
                    self.timers.is_set(&TimerKey::Sync { group: id.clone() }),
                    "group {id} waits for ever"
                );
            }
        }
    }
}
