//! Offsets inside transactions: what readers see, and that a restart at any place of the log, snapshots among it, sees the same.

use std::sync::Arc;

use commitlog::Verification;
use protocol::{ErrorCode, Str};
use world::rng::{Rng, SeededRng};

use super::super::consumer::LEAVING_EPOCH;
use super::super::event::*;
use super::super::settings::GroupSettings;
use super::super::shard::Shard;
use super::consumers::Client;
use super::model::TOPIC_ID;
use crate::coordinators::{InTransaction, Marked, StateMachine};

/// What stands in the log.
#[derive(Clone, Debug)]
enum Entry {
    Record(GroupRecord, Option<i64>),
    Marker(i64, bool),
}

struct World {
    shard: Shard,
    log: Vec<Entry>,
    now: Now,
    /// Where the next restart begins to read, as the runtime trims.
    log_start: usize,
}

impl World {
    fn new() -> World {
        let now = Now { wall_ms: 1_700_000_000_000, monotonic_ms: 1_000 };
        World { shard: Shard::new(Arc::new(GroupSettings::default())), log: Vec::new(), now, log_start: 0 }
    }

    /// One event, durable at once.
    fn event(&mut self, event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects)) -> Option<Answer> {
        let mut effects = Effects::default();
        event(&mut self.shard, ReplyId(0), self.now, &mut effects);
        let mut answers = std::mem::take(&mut effects.answers);
        for write in std::mem::take(&mut effects.writes) {
            let producer_id = write.transaction.map(|transaction| transaction.producer_id);
            self.log.extend(write.records.into_iter().map(|record| Entry::Record(record, producer_id)));
            self.shard.written(write.token, Ok(()), self.now, &mut effects);
            answers.append(&mut effects.answers);
        }
        answers.pop().map(|(_, answer)| answer)
    }

    fn request(partition: i32, offset: i64) -> CommitRequest {
        let commit = CommitOffset {
            topic: "t".into(),
            topic_id: TOPIC_ID,
            partition,
            offset,
            leader_epoch: -1,
            metadata: Str::default(),
        };
        CommitRequest {
            group: "g".into(),
            generation: -1,
            member_id: Str::default(),
            instance_id: None,
            retention_ms: None,
            knows_group_id_not_found: false,
            offsets: vec![commit],
        }
    }

    /// One event whose only write is on its way to the log.
    fn hold(&mut self, event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects)) -> Token {
        let mut effects = Effects::default();
        event(&mut self.shard, ReplyId(0), self.now, &mut effects);
        effects.writes.pop().expect("something is written").token
    }

    fn hold_commit_in(&mut self, producer_id: i64, offset: i64) -> Token {
        let transaction =
            InTransaction { producer_id, producer_epoch: 0, stamp: 1, verification: Verification::Begun };
        let request = Self::request(0, offset);
        self.hold(|shard, reply, now, effects| {
            shard.commit_in_transaction(request, transaction, reply, now, effects);
        })
    }

    fn hold_end(&mut self, producer_id: i64, commit: bool) -> Token {
        let marked = Marked { producer_id, commit, is_repeated: false };
        self.hold(|shard, reply, now, effects| shard.marked(marked, reply, now, effects))
    }

    /// What is on its way arrives, in its order, or is refused.
    fn land(&mut self, outcomes: &[(Token, bool)]) {
        for (token, lands) in outcomes {
            let outcome = if *lands { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) };
            self.shard.written(*token, outcome, self.now, &mut Effects::default());
        }
    }

    fn commit(&mut self, partition: i32, offset: i64) {
        let request = Self::request(partition, offset);
        self.event(|shard, reply, now, effects| shard.commit_offsets(request, reply, now, effects));
    }

    fn commit_in(&mut self, producer_id: i64, partition: i32, offset: i64) -> CommitAnswer {
        self.ask_in(producer_id, Self::request(partition, offset))
    }

    /// As a member of a consumer group: its id, and the epoch that it believes to be in.
    fn commit_as(&mut self, member: &str, epoch: i32, offset: i64) -> CommitAnswer {
        let request =
            CommitRequest { member_id: member.into(), generation: epoch, ..Self::request(0, offset) };
        self.ask_in(7, request)
    }

    fn ask_in(&mut self, producer_id: i64, request: CommitRequest) -> CommitAnswer {
        let transaction =
            InTransaction { producer_id, producer_epoch: 0, stamp: 1, verification: Verification::Unasked };
        let answer = self.event(|shard, reply, now, effects| {
            shard.commit_in_transaction(request, transaction, reply, now, effects);
        });
        match answer {
            Some(Answer::Commit(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// A heartbeat of a consumer group's only member. The epoch that it is told.
    fn beat(&mut self, epoch: i32) -> i32 {
        let member = Client { epoch, ..Client::of("m", &["t"]) };
        let answer = self.event(|shard, reply, now, effects| {
            shard.consumer_heartbeat(&member.request(), &|_| true, reply, now, effects);
        });
        match answer {
            Some(Answer::ConsumerHeartbeat(answer)) if answer.error == ErrorCode::None => answer.epoch,
            other => panic!("{other:?}"),
        }
    }

    fn delete_group(&mut self) -> ErrorCode {
        let deleted = self.event(|shard, reply, _, effects| {
            shard.delete_groups(vec!["g".into()], reply, effects);
        });
        match deleted {
            Some(Answer::DeleteGroups(deleted)) => deleted.groups[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, producer_id: i64, commit: bool) {
        self.log.push(Entry::Marker(producer_id, commit));
        let marked = Marked { producer_id, commit, is_repeated: false };
        self.event(|shard, reply, now, effects| shard.marked(marked, reply, now, effects));
    }

    /// The group's offset, and what who asks for what is stable is told.
    fn offset(&mut self, partition: i32) -> (i64, Option<i64>) {
        let wanted = FetchTopic { topic: "t".into(), topic_id: TOPIC_ID, partitions: vec![partition] };
        let request = FetchOffsetsRequest { group: "g".into(), topics: Some(vec![wanted]) };
        let any = self.shard.fetch_offsets(&request).topics[0].partitions[0].offset;
        let stable = self.event(|shard, reply, _, effects| {
            shard.fetch_stable_offsets(&request, reply, effects);
        });
        let Some(Answer::Fetch(Ok(stable))) = stable else { panic!("{stable:?}") };
        let stable = &stable.topics[0].partitions[0];
        (any, (!stable.is_unstable).then_some(stable.offset))
    }

    /// Where the oldest transaction begins that is open at the end of the log, or that end.
    fn last_stable(&self) -> usize {
        let mut open = std::collections::BTreeMap::new();
        for (index, entry) in self.log.iter().enumerate() {
            match entry {
                Entry::Record(_, Some(producer_id)) => drop(open.entry(*producer_id).or_insert(index)),
                Entry::Record(_, None) => {}
                Entry::Marker(producer_id, _) => drop(open.remove(producer_id)),
            }
        }
        open.values().copied().min().unwrap_or(self.log.len())
    }

    fn snapshot(&mut self) {
        let stable = self.last_stable();
        let (page, next) = self.shard.snapshot_page(None, usize::MAX);
        assert!(next.is_none());
        self.log_start = stable.min(self.log.len());
        self.log.extend(page.into_iter().map(|record| Entry::Record(record, None)));
    }

    fn restart(&mut self) {
        self.shard = Shard::new(Arc::new(GroupSettings::default()));
        for entry in &self.log[self.log_start..] {
            match entry {
                Entry::Record(record, producer_id) => {
                    let (key, value) = (&record.key, record.value.as_ref());
                    StateMachine::replay(&mut self.shard, key, value, *producer_id, self.now).unwrap();
                }
                Entry::Marker(producer_id, commit) => {
                    self.shard.replay_marker(*producer_id, *commit, self.now);
                }
            }
        }
        let mut effects = Effects::default();
        StateMachine::loaded(&mut self.shard, &|_| Some(TOPIC_ID), self.now, &mut effects);
        assert!(effects.writes.is_empty());
    }
}

#[test]
fn what_a_transaction_commits_is_seen_at_its_marker() {
    let mut world = World::new();
    world.commit(0, 5);
    assert_eq!(world.commit_in(7, 0, 6), CommitAnswer::Each(vec![ErrorCode::None]));
    assert_eq!(world.offset(0), (5, None));
    assert_eq!(world.offset(1), (-1, Some(-1)), "another partition is not unstable");
    world.restart();
    assert_eq!(world.offset(0), (5, None));
    world.end(7, true);
    assert_eq!(world.offset(0), (6, Some(6)));
    world.commit_in(7, 0, 9);
    world.end(7, false);
    assert_eq!(world.offset(0), (6, Some(6)));
}

/// The last write counts, whichever marker comes last.
#[test]
fn of_several_writes_the_last_one_in_the_log_counts() {
    let mut world = World::new();
    world.commit_in(7, 0, 10);
    world.commit_in(8, 0, 20);
    world.end(8, true);
    world.end(7, true);
    assert_eq!(world.offset(0), (20, Some(20)), "7 wrote before 8");
    world.commit_in(7, 0, 30);
    world.commit(0, 40);
    // Its page stands behind the write of 7, and is not newer for that.
    world.snapshot();
    world.end(7, true);
    assert_eq!(world.offset(0), (40, Some(40)));
    world.restart();
    assert_eq!(world.offset(0), (40, Some(40)));
    world.commit_in(7, 0, 50);
    world.snapshot();
    world.end(7, true);
    world.restart();
    assert_eq!(world.offset(0), (50, Some(50)), "the page before the marker says 40");
}

#[test]
fn a_write_that_does_not_reach_the_log_is_taken_back() {
    let mut world = World::new();
    world.commit_in(7, 0, 10);
    let transaction =
        InTransaction { producer_id: 7, producer_epoch: 0, stamp: 1, verification: Verification::Begun };
    let mut effects = Effects::default();
    world.shard.commit_in_transaction(
        World::request(0, 11),
        transaction,
        ReplyId(3),
        world.now,
        &mut effects,
    );
    let token = effects.writes[0].token;
    world.shard.written(token, Err(ErrorCode::InvalidTxnState), world.now, &mut effects);
    let refused = Answer::Commit(CommitAnswer::Refused(ErrorCode::InvalidTxnState));
    assert_eq!(effects.answers, [(ReplyId(3), refused)]);
    world.end(7, true);
    assert_eq!(world.offset(0), (10, Some(10)));
}

/// What follows it was made of a state that never was, and stands in the log all the same.
#[test]
fn a_write_that_is_taken_back_leaves_those_behind_it() {
    // Two fail, one after the other.
    let mut world = World::new();
    world.commit_in(7, 0, 10);
    let lost = [world.hold_commit_in(7, 11), world.hold_commit_in(7, 12)];
    world.land(&lost.map(|token| (token, false)));
    world.end(7, true);
    assert_eq!(world.offset(0), (10, Some(10)));
    // The second one lands.
    let (lost, kept) = (world.hold_commit_in(7, 21), world.hold_commit_in(7, 22));
    world.land(&[(lost, false), (kept, true)]);
    world.end(7, true);
    assert_eq!(world.offset(0), (22, Some(22)));
    // The transaction ends before it is known that one of its writes has failed.
    world.commit_in(7, 0, 30);
    let (lost, end) = (world.hold_commit_in(7, 31), world.hold_end(7, true));
    world.land(&[(lost, false), (end, true)]);
    assert_eq!(world.offset(0), (30, Some(30)));
    let (lost, end) = (world.hold_commit_in(7, 40), world.hold_end(7, true));
    world.land(&[(lost, false), (end, true)]);
    assert_eq!(world.offset(0), (30, Some(30)));
    // The write before it stands behind one outside of transactions.
    world.commit_in(7, 0, 50);
    world.commit(0, 55);
    let (lost, end) = (world.hold_commit_in(7, 56), world.hold_end(7, true));
    world.land(&[(lost, false), (end, true)]);
    assert_eq!(world.offset(0), (55, Some(55)));
    // One that came too late for its transaction, when the next one is at it already.
    let (late, end, next) =
        (world.hold_commit_in(7, 60), world.hold_end(7, false), world.hold_commit_in(7, 61));
    world.land(&[(late, false), (end, true), (next, true)]);
    assert_eq!(world.offset(0), (55, None));
    world.end(7, true);
    assert_eq!(world.offset(0), (61, Some(61)));
}

/// P6: what comes by a connection that its producer has given up is late.
#[test]
fn a_producer_has_one_connection_that_counts() {
    let mut world = World::new();
    let mut is_newest =
        |epoch, connection| world.shard.pending_offsets.is_newest_connection(7, epoch, connection);
    assert!(is_newest(0, 4) && is_newest(0, 5) && is_newest(0, 5));
    assert!(!is_newest(0, 4));
    assert!(is_newest(1, 3), "another epoch is another producer");
}

#[test]
fn a_group_that_is_deleted_takes_them_with_it() {
    let mut world = World::new();
    world.commit_in(7, 0, 10);
    assert_eq!(world.delete_group(), ErrorCode::None);
    for _ in 0..2 {
        assert_eq!(world.offset(0), (-1, Some(-1)));
        world.restart();
    }
    world.end(7, true);
    assert_eq!(world.offset(0), (-1, Some(-1)));
}

#[test]
fn members_of_a_consumer_group_are_fenced_by_their_epochs() {
    let each = CommitAnswer::Each(vec![ErrorCode::None]);
    let mut world = World::new();
    let epoch = world.beat(0);
    assert_eq!(world.commit_as("m", epoch, 10), each);
    // Kafka has no answer of TxnOffsetCommit for an epoch that is stale.
    for stale in [epoch - 1, epoch + 1] {
        let refused = CommitAnswer::Refused(ErrorCode::IllegalGeneration);
        assert_eq!(world.commit_as("m", stale, 11), refused);
    }
    let unknown = CommitAnswer::Refused(ErrorCode::UnknownMemberId);
    assert_eq!(world.commit_as("another", epoch, 12), unknown);
    assert_eq!(world.commit_as("another", -1, 13), unknown);
    world.restart();
    assert_eq!(world.offset(0), (-1, None));
    world.end(7, true);
    assert_eq!(world.offset(0), (10, Some(10)));
    // Before KIP-447 producers said nothing of the group.
    assert_eq!(world.commit_in(7, 0, 14), each);
    world.end(7, true);
    assert_eq!(world.offset(0), (14, Some(14)));
    assert_eq!(world.shard.list()[0].group_type, "consumer");
}

/// A classic group becomes a consumer group and goes: what waits in a transaction stays with the name, and goes with it.
#[test]
fn they_belong_to_a_group_of_either_kind() {
    let mut world = World::new();
    world.commit_in(7, 0, 10);
    world.beat(0);
    assert_eq!(world.delete_group(), ErrorCode::NonEmptyGroup);
    world.restart();
    assert_eq!((world.shard.list()[0].group_type, world.shard.group_count()), ("consumer", 1));
    world.end(7, true);
    assert_eq!(world.offset(0), (10, Some(10)));
    world.commit_in(7, 0, 20);
    world.beat(LEAVING_EPOCH);
    // Nothing of it is old enough to go as long as a transaction is open.
    world.commit_in(8, 1, 20);
    world.now.wall_ms += 10 * 24 * 60 * 60 * 1_000;
    world.event(|shard, _, now, effects| shard.expire(now, effects));
    assert_eq!(world.offset(0), (10, None));
    world.end(8, false);
    assert_eq!(world.delete_group(), ErrorCode::None);
    for _ in 0..2 {
        assert_eq!(world.offset(0), (-1, Some(-1)));
        assert_eq!(world.shard.group_count(), 0);
        world.restart();
    }
    world.end(7, true);
    assert_eq!(world.offset(0), (-1, Some(-1)));
}

/// After every event a restart sees what was seen before it, wherever a snapshot was made.
#[test]
fn a_restart_sees_the_same_whatever_was_open() {
    for seed in 0..300 {
        let rng = SeededRng::new(seed);
        let mut world = World::new();
        for step in 0..60i64 {
            let (producer, partition) = (rng.below(3) as i64, rng.below(3) as i32);
            match rng.below(8) {
                0 | 1 => world.commit(partition, step),
                2..=4 => drop(world.commit_in(producer, partition, step)),
                5 => world.end(producer, rng.below(3) > 0),
                6 => world.snapshot(),
                // The clock of another broker may be behind.
                _ => world.now.wall_ms += rng.below(40) as i64 - 20,
            }
            let before: Vec<_> = (0..3).map(|partition| world.offset(partition)).collect();
            world.restart();
            let after: Vec<_> = (0..3).map(|partition| world.offset(partition)).collect();
            assert_eq!(before, after, "seed {seed}, step {step}");
        }
    }
}
