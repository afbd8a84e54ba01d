//! Stories about share groups, told to the pure shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{ErrorCode, Str, Uuid};

use super::event::{Initialize, ShareHeartbeatAnswer, ShareHeartbeatRequest, ShareStatesAnswer};
use crate::groups::event::{
    Answer, CommitAnswer, CommitOffset, CommitRequest, Effects, GroupRecord, Now, ReplyId,
};
use crate::groups::shard::Shard;
use crate::groups::tests::fake_catalog::FakeCatalog;

const GROUP: &str = "group";
const SESSION_MS: u64 = 45_000;

struct Story {
    catalog: Arc<FakeCatalog>,
    shard: Shard,
    log: Vec<GroupRecord>,
    now_ms: u64,
    next_reply: u64,
    /// The next write fails.
    fails: bool,
}

impl Story {
    fn new(topics: &[(&str, i32)]) -> Story {
        let catalog = FakeCatalog::with(topics);
        let shard = Shard::new(Arc::new(catalog.settings()));
        Story { catalog, shard, log: Vec::new(), now_ms: 1_000_000, next_reply: 0, fails: false }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.now_ms as i64, monotonic_ms: self.now_ms }
    }

    /// Carries out what an event brought about, and gives the answer to it.
    fn tell(&mut self, event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects)) -> Option<Answer> {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        let mut effects = Effects::default();
        let now = self.now();
        event(&mut self.shard, reply, now, &mut effects);
        let mut answers = std::mem::take(&mut effects.answers);
        for write in effects.writes {
            let outcome = match std::mem::take(&mut self.fails) {
                true => Err(ErrorCode::CoordinatorNotAvailable),
                false => Ok(()),
            };
            if outcome.is_ok() {
                self.log.extend(write.records);
            }
            let mut effects = Effects::default();
            self.shard.written(write.token, outcome, now, &mut effects);
            answers.extend(effects.answers);
        }
        self.shard.check_invariants();
        answers.into_iter().find(|(of, _)| *of == reply).map(|(_, answer)| answer)
    }

    fn beat(&mut self, member: &str, epoch: i32, topics: Option<&[&str]>) -> ShareHeartbeatAnswer {
        let request = ShareHeartbeatRequest {
            group: GROUP.into(),
            member_id: member.into(),
            epoch,
            rack_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            topics: topics.map(|topics| topics.iter().map(|topic| Str::from(*topic)).collect()),
        };
        let told =
            self.tell(|shard, reply, now, effects| shard.share_heartbeat(&request, reply, now, effects));
        match told {
            Some(Answer::ShareHeartbeat(answer)) => answer,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    /// The share coordinator has begun what was to be initialized.
    fn begin(&mut self, initialize: Option<Initialize>) {
        let begun: BTreeSet<(Uuid, i32)> =
            initialize.expect("something begins").partitions.into_keys().collect();
        self.tell(|shard, _, _, effects| {
            shard.share_states_begun(&GROUP.into(), &begun, &BTreeSet::new(), effects);
        });
    }

    fn alter(&mut self, offsets: &[(&str, i32, i64)]) -> ShareStatesAnswer {
        let offsets: BTreeMap<(Uuid, i32), i64> = offsets
            .iter()
            .map(|(topic, partition, offset)| ((FakeCatalog::id(topic), *partition), *offset))
            .collect();
        self.states(|shard, reply, now, effects| {
            shard.alter_share_offsets(&GROUP.into(), &offsets, reply, now, effects);
        })
    }

    fn states(&mut self, event: impl FnOnce(&mut Shard, ReplyId, Now, &mut Effects)) -> ShareStatesAnswer {
        match self.tell(event) {
            Some(Answer::ShareStates(answer)) => answer,
            other => panic!("not about states: {other:?}"),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.tell(|shard, _, now, effects| shard.tick(now, effects));
    }

    /// A member that is in the group and has what there is.
    fn settled(&mut self, member: &str, topics: &[&str]) -> ShareHeartbeatAnswer {
        let joined = self.beat(member, 0, Some(topics));
        if joined.initialize.is_some() {
            self.begin(joined.initialize);
        }
        self.wait(2_000);
        self.beat(member, joined.epoch, None)
    }

    fn restart(&mut self) {
        let mut shard = Shard::new(Arc::new(self.catalog.settings()));
        for GroupRecord { key, value } in &self.log {
            shard.replay(key, value.as_ref(), self.now()).expect("what was written is read");
        }
        shard.loaded(self.now());
        self.shard = shard;
        self.shard.check_invariants();
    }

    fn described(&self) -> Vec<(Str, i32, Vec<i32>)> {
        let described = self.shard.describe_share_group(GROUP).expect("there is one");
        let member = |member: super::DescribedShareMember| {
            let assigned = member.assigned.into_iter().flat_map(|topic| topic.partitions);
            (member.member_id, member.epoch, assigned.collect())
        };
        described.members.into_iter().map(member).collect()
    }
}

fn partitions(answer: &ShareHeartbeatAnswer) -> Vec<i32> {
    let assigned = answer.assignment.as_ref().expect("an assignment is told");
    assigned.iter().flat_map(|(_, partitions)| partitions.clone()).collect()
}

#[test]
fn a_member_gets_partitions_once_their_state_has_begun() {
    let mut story = Story::new(&[("topic", 2)]);
    let joined = story.beat("a", 0, Some(&["topic", "not-there"]));
    assert_eq!((joined.error, joined.epoch, partitions(&joined)), (ErrorCode::None, 2, vec![]));
    let initialize = joined.initialize.clone().expect("states begin");
    assert_eq!(initialize.state_epoch, 2);
    assert_eq!(initialize.partitions.into_values().collect::<Vec<_>>(), [-1, -1]);
    let again = story.beat("a", 2, None);
    assert_eq!((again.initialize, again.assignment), (None, None), "it is under way");
    story.begin(joined.initialize);
    story.wait(1_500);
    let told = story.beat("a", 2, None);
    assert_eq!((told.epoch, partitions(&told)), (3, vec![0, 1]));
    // Its answer was lost: it comes with the epoch before, once more.
    let told = story.beat("a", 2, None);
    assert_eq!((told.epoch, partitions(&told)), (3, vec![0, 1]));
    assert_eq!(story.beat("a", 3, None).assignment, None, "it has it");
    assert_eq!(story.beat("a", 1, None).error, ErrorCode::FencedMemberEpoch);
    assert_eq!(story.beat("a", 4, None).error, ErrorCode::FencedMemberEpoch);
    assert_eq!(story.beat("b", 4, None).error, ErrorCode::UnknownMemberId);
    story.restart();
    assert_eq!(story.described(), [("a".into(), 3, vec![0, 1])]);
    assert_eq!(story.beat("a", 3, None).error, ErrorCode::None);
}

#[test]
fn members_share_partitions_and_leave_them_when_they_go() {
    let mut story = Story::new(&[("topic", 2)]);
    story.settled("a", &["topic"]);
    let b = story.settled("b", &["topic"]);
    let a = story.described()[0].clone();
    story.wait(1_500);
    let a = story.beat("a", a.1, None);
    assert_eq!((partitions(&a).len(), b.error), (1, ErrorCode::None));
    let left = story.beat("b", -1, None);
    assert_eq!((left.error, left.epoch), (ErrorCode::None, -1));
    story.wait(1_500);
    assert_eq!(partitions(&story.beat("a", a.epoch, None)), [0, 1]);
    story.wait(SESSION_MS);
    assert_eq!(story.described(), [], "nobody heard of it");
    assert_eq!(story.shard.list()[0].state, "Empty");
    assert_eq!(story.beat("a", a.epoch, None).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_has_one_kind_and_so_many_members() {
    let mut story = Story::new(&[("topic", 1)]);
    let mut settings = story.catalog.settings();
    settings.share_group_size_max = 1;
    story.shard.set_settings(Arc::new(settings));
    story.beat("a", 0, Some(&["topic"]));
    assert_eq!(story.beat("b", 0, Some(&["topic"])).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(story.beat("a", 0, Some(&["topic"])).error, ErrorCode::None);
    let commit = CommitRequest {
        group: GROUP.into(),
        generation: -1,
        member_id: Str::default(),
        instance_id: None,
        retention_ms: None,
        knows_group_id_not_found: true,
        offsets: vec![CommitOffset {
            topic: "topic".into(),
            topic_id: FakeCatalog::id("topic"),
            partition: 0,
            offset: 1,
            leader_epoch: -1,
            metadata: Str::default(),
        }],
    };
    let other = CommitRequest { group: "other".into(), ..commit.clone() };
    let told = story.tell(|shard, reply, now, effects| shard.commit_offsets(commit, reply, now, effects));
    assert_eq!(told, Some(Answer::Commit(CommitAnswer::Refused(ErrorCode::GroupIdNotFound))));
    story.tell(|shard, reply, now, effects| shard.commit_offsets(other, reply, now, effects));
    let request = ShareHeartbeatRequest {
        group: "other".into(),
        member_id: "a".into(),
        epoch: 0,
        rack_id: None,
        client_id: Str::default(),
        client_host: "/127.0.0.1".into(),
        topics: Some(vec!["topic".into()]),
    };
    let told = story.tell(|shard, reply, now, effects| shard.share_heartbeat(&request, reply, now, effects));
    let Some(Answer::ShareHeartbeat(answer)) = told else { panic!("not a heartbeat") };
    assert_eq!(answer.error, ErrorCode::GroupIdNotFound);
}

#[test]
fn partitions_that_come_later_begin_later_and_topics_that_go_are_forgotten() {
    let mut story = Story::new(&[("topic", 1)]);
    let told = story.settled("a", &["topic", "later"]);
    assert_eq!(partitions(&told), [0]);
    story.catalog.put("topic", 2);
    story.catalog.put("later", 1);
    let told = story.beat("a", told.epoch, None);
    let initialize = told.initialize.clone().expect("states begin");
    let new: BTreeSet<(Uuid, i32)> = initialize.partitions.into_keys().collect();
    assert_eq!(new, [(FakeCatalog::id("topic"), 1), (FakeCatalog::id("later"), 0)].into());
    story.begin(told.initialize);
    story.wait(1_500);
    let told = story.beat("a", told.epoch, None);
    assert_eq!(partitions(&told).len(), 3);
    story.catalog.remove("topic");
    story.tell(|shard, _, _, effects| shard.topics_deleted(&[], effects));
    assert_eq!(story.shard.kept_share_partitions(GROUP), [(FakeCatalog::id("later"), 0)].into());
    story.wait(1_500);
    assert_eq!(partitions(&story.beat("a", told.epoch, None)), [0]);
    story.restart();
    assert_eq!(story.shard.kept_share_partitions(GROUP), [(FakeCatalog::id("later"), 0)].into());
}

#[test]
fn what_did_not_begin_is_begun_again() {
    let mut story = Story::new(&[("topic", 1)]);
    let joined = story.beat("a", 0, Some(&["topic"]));
    assert!(joined.initialize.is_some());
    story.wait(29_000);
    assert_eq!(story.beat("a", joined.epoch, None).initialize, None);
    story.wait(1_000);
    assert!(story.beat("a", joined.epoch, None).initialize.is_some(), "nobody has answered");
    let failed: BTreeSet<(Uuid, i32)> = [(FakeCatalog::id("topic"), 0)].into();
    story.tell(|shard, _, _, effects| {
        shard.share_states_begun(&GROUP.into(), &BTreeSet::new(), &failed, effects);
    });
    assert!(story.beat("a", joined.epoch, None).initialize.is_some(), "at once");
    story.restart();
    assert!(story.beat("a", joined.epoch, None).initialize.is_some(), "whoever did it is gone");
}

#[test]
fn offsets_of_an_empty_group_are_changed_and_deleted() {
    let mut story = Story::new(&[("topic", 2), ("other", 1)]);
    let ShareStatesAnswer::Initialize(begun) = story.alter(&[("topic", 0, 7)]) else { panic!("refused") };
    assert_eq!((begun.state_epoch, begun.partitions.len()), (2, 1));
    story.begin(Some(begun));
    assert_eq!(story.shard.kept_share_partitions(GROUP), [(FakeCatalog::id("topic"), 0)].into());
    let told = story.settled("a", &["topic"]);
    let ShareStatesAnswer::Refused(refusal) = story.alter(&[("topic", 0, 9)]) else { panic!("not refused") };
    assert_eq!(refusal.error, ErrorCode::NonEmptyGroup);
    story.beat("a", -1, None);
    let ShareStatesAnswer::Initialize(begun) = story.alter(&[("topic", 0, 9)]) else { panic!("refused") };
    assert!(begun.state_epoch > told.epoch, "the leader that has the old state is fenced");
    story.begin(Some(begun));
    let names = ["topic".into(), "other".into(), "none".into()];
    let deleted = story.states(|shard, reply, _, effects| {
        shard.delete_share_states(&GROUP.into(), Some(&names), reply, effects);
    });
    let ShareStatesAnswer::Delete { state_epoch, partitions, unknown } = deleted else { panic!("refused") };
    assert_eq!((partitions.len(), unknown.len()), (2, 2));
    let group_ids = vec![Str::from(GROUP)];
    let told = story.tell(|shard, reply, _, effects| shard.delete_groups(group_ids.clone(), reply, effects));
    let Some(Answer::DeleteGroups(refused)) = told else { panic!("not a deletion") };
    assert_eq!(refused.groups[0].1, ErrorCode::CoordinatorNotAvailable, "there is something to delete first");
    story.restart();
    let deleted = story.states(|shard, reply, _, effects| {
        shard.delete_share_states(&GROUP.into(), Some(&names[..1]), reply, effects);
    });
    assert!(
        matches!(deleted, ShareStatesAnswer::Delete { partitions, .. } if partitions.len() == 2),
        "once more"
    );
    let done = [FakeCatalog::id("topic")].into();
    story.states(|shard, reply, _, effects| {
        shard.share_states_deleted(&GROUP.into(), &done, reply, effects);
    });
    assert!(!story.shard.has_share_states(GROUP));
    // Whoever came while that was under way would have had his begun in a later epoch.
    let joined = story.beat("a", 0, Some(&["topic"]));
    assert!(joined.initialize.expect("states begin").state_epoch > state_epoch);
    story.beat("a", -1, None);
    story.catalog.remove("topic");
    let deleted = story.states(|shard, reply, _, effects| {
        shard.delete_share_states(&GROUP.into(), None, reply, effects);
    });
    assert!(matches!(deleted, ShareStatesAnswer::Delete { partitions, .. } if partitions.is_empty()));
    let told = story.tell(|shard, reply, _, effects| shard.delete_groups(group_ids, reply, effects));
    let Some(Answer::DeleteGroups(deleted)) = told else { panic!("not a deletion") };
    assert_eq!(deleted.groups, [(Str::from(GROUP), ErrorCode::None)]);
    assert!(story.shard.list().is_empty());
    story.restart();
    assert!(story.shard.list().is_empty());
}

#[test]
fn a_heartbeat_that_could_not_be_written_is_as_if_it_had_not_come() {
    let mut story = Story::new(&[("topic", 1)]);
    story.settled("a", &["topic"]);
    let before = story.described();
    story.fails = true;
    assert_eq!(story.beat("b", 0, Some(&["topic"])).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(story.described(), before);
    assert_eq!(story.beat("b", 0, Some(&["topic"])).error, ErrorCode::None);
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize),
    Beat(usize),
    Leave(usize),
    Begin { works: bool },
    Wait(u64),
    Fail,
    Restart,
    Snapshot,
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..5, 0usize..3).prop_map(|(member, topics)| Step::Join(member, topics)),
        6 => (0usize..5).prop_map(Step::Beat),
        1 => (0usize..5).prop_map(Step::Leave),
        3 => prop::bool::weighted(0.8).prop_map(|works| Step::Begin { works }),
        3 => (100u64..20_000).prop_map(Step::Wait),
        1 => Just(Step::Fail),
        1 => Just(Step::Restart),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Grow),
    ]
}

proptest! {
    /// Whatever happens, members that go on end up with all partitions between them, and a replay says what memory says.
    #[test]
    fn every_partition_finds_a_reader(steps in prop::collection::vec(step(), 1..80)) {
        let mut story = Story::new(&[("x", 2), ("y", 1)]);
        let topics: [&[&str]; 3] = [&["x"], &["y"], &["x", "y"]];
        let mut epochs: BTreeMap<usize, i32> = BTreeMap::new();
        let mut waiting: Vec<Initialize> = Vec::new();
        let name = |member: usize| format!("member-{member}");
        let take = |answer: ShareHeartbeatAnswer, member: usize, epochs: &mut BTreeMap<usize, i32>,
                    waiting: &mut Vec<Initialize>| {
            match answer.error {
                ErrorCode::None => drop(epochs.insert(member, answer.epoch)),
                ErrorCode::CoordinatorNotAvailable => {}
                _ => drop(epochs.remove(&member)),
            }
            waiting.extend(answer.initialize);
        };
        for step in &steps {
            match step {
                Step::Join(member, of) => {
                    let answer = story.beat(&name(*member), 0, Some(topics[*of]));
                    take(answer, *member, &mut epochs, &mut waiting);
                }
                Step::Beat(member) => {
                    if let Some(epoch) = epochs.get(member).copied() {
                        let answer = story.beat(&name(*member), epoch, None);
                        take(answer, *member, &mut epochs, &mut waiting);
                    }
                }
                Step::Leave(member) => {
                    if epochs.contains_key(member) {
                        let answer = story.beat(&name(*member), -1, None);
                        if answer.error != ErrorCode::CoordinatorNotAvailable {
                            epochs.remove(member);
                        }
                    }
                }
                Step::Begin { works } => {
                    if let Some(initialize) = waiting.pop() {
                        let all: BTreeSet<(Uuid, i32)> = initialize.partitions.into_keys().collect();
                        let (begun, failed) = if *works { (all, BTreeSet::new()) } else { (BTreeSet::new(), all) };
                        story.tell(|shard, _, _, effects| {
                            shard.share_states_begun(&GROUP.into(), &begun, &failed, effects);
                        });
                    }
                }
                Step::Wait(ms) => story.wait(*ms),
                Step::Fail => story.fails = true,
                Step::Restart => {
                    story.fails = false;
                    story.restart();
                }
                Step::Snapshot => {
                    let (records, next) = story.shard.snapshot_page(None, 1 << 20);
                    prop_assert!(next.is_none());
                    story.log = records;
                }
                Step::Grow => {
                    let count = story.catalog.partition_count("x") + 1;
                    if count < 6 {
                        story.catalog.put("x", count);
                    }
                }
            }
        }
        story.fails = false;
        let joined = story.beat("member-0", 0, Some(topics[2]));
        let mut epoch = joined.epoch;
        waiting.extend(joined.initialize);
        for _ in 0..4 {
            for initialize in waiting.drain(..) {
                story.begin(Some(initialize));
            }
            // Longer than any session and any retry; the others are gone by then.
            story.wait(SESSION_MS - 1);
            let answer = story.beat("member-0", epoch, None);
            prop_assert_eq!(answer.error, ErrorCode::None);
            epoch = answer.epoch;
            waiting.extend(answer.initialize);
        }
        let all = story.catalog.partition_count("x") + story.catalog.partition_count("y");
        prop_assert_eq!(story.described()[0].2.len(), all as usize);
        let before = story.described();
        story.restart();
        prop_assert_eq!(story.described(), before);
    }
}
