//! Stories about consumer groups of the new protocol.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{ErrorCode, Str};

use super::super::consumer::{
    ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH,
    PATTERNS_PER_GROUP_MAX, Partitions,
};
use super::super::event::*;
use super::fake_catalog::FakeCatalog;
use super::model::{World, commit_request};

/// A client as it talks to the group: what it knows and what it owns.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub epoch: i32,
    pub topics: Vec<Str>,
    pub pattern: Option<Str>,
    pub assignor: Option<Str>,
    pub owned: Partitions,
}

impl Client {
    pub fn of(id: &str, topics: &[&str]) -> Client {
        Client {
            id: id.into(),
            instance_id: None,
            epoch: 0,
            topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
            pattern: None,
            assignor: None,
            owned: Partitions::new(),
        }
    }

    fn of_pattern(id: &str, pattern: &str) -> Client {
        Client { pattern: Some(pattern.into()), ..Client::of(id, &[]) }
    }

    fn of_instance(id: &str, instance_id: &str, topics: &[&str]) -> Client {
        Client { instance_id: Some(instance_id.into()), ..Client::of(id, topics) }
    }

    pub fn request(&self) -> ConsumerHeartbeatRequest {
        ConsumerHeartbeatRequest {
            group: "g".into(),
            member_id: self.id.clone(),
            epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            rack_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: Some(60_000),
            topics: Some(self.topics.clone()),
            pattern: self.pattern.clone(),
            compiled: None,
            assignor: self.assignor.clone(),
            owned: Some(self.owned.clone()),
        }
    }

    /// Takes what it was told at its word: gives up first, owns then.
    pub fn take(&mut self, answer: &ConsumerHeartbeatAnswer) {
        assert_eq!(answer.error, ErrorCode::None, "{}: {:?}", self.id, answer.message);
        self.epoch = answer.epoch;
        if let Some(assignment) = &answer.assignment {
            self.owned = assignment
                .iter()
                .map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()))
                .collect();
        }
    }

    pub fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

pub fn ask(world: &mut World, request: ConsumerHeartbeatRequest) -> ReplyId {
    world.event(|shard, reply, now, effects| {
        shard.consumer_heartbeat(&request, &|name| !name.starts_with("secret"), reply, now, effects);
    })
}

pub fn answer(world: &World, reply: ReplyId) -> ConsumerHeartbeatAnswer {
    match world.answers.get(&reply) {
        Some(Answer::ConsumerHeartbeat(answer)) => answer.clone(),
        other => panic!("{reply:?}: {other:?}"),
    }
}

fn beat(world: &mut World, client: &mut Client) -> ConsumerHeartbeatAnswer {
    let reply = ask(world, client.request());
    let answer = answer(world, reply);
    client.take(&answer);
    answer
}

fn refused(world: &mut World, client: &Client) -> ErrorCode {
    let reply = ask(world, client.request());
    answer(world, reply).error
}

/// Everybody sends heartbeats until nothing changes any more.
pub fn settle(world: &mut World, clients: &mut [Client]) {
    for _ in 0..10 {
        world.pass_ms(5_000);
        clients.iter_mut().for_each(|client| drop(beat(world, client)));
    }
    assert_eq!(world.state("g"), "Stable");
}

fn leave(world: &mut World, client: &Client, epoch: i32) -> ErrorCode {
    let reply = ask(world, ConsumerHeartbeatRequest { epoch, ..client.request() });
    answer(world, reply).error
}

fn world() -> (Arc<FakeCatalog>, World) {
    let catalog = FakeCatalog::with(&[("clicks", 4), ("views", 3)]);
    let world = World::with(catalog.settings());
    (catalog, world)
}

fn partitions(topic: &str, partitions: &[i32]) -> Partitions {
    [(FakeCatalog::id(topic), partitions.iter().copied().collect())].into()
}

#[test]
fn the_first_member_has_everything_in_its_first_answer() {
    let (_, mut world) = world();
    let mut only = Client::of("a", &["clicks"]);
    let answer = beat(&mut world, &mut only);
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    assert_eq!((only.epoch, only.owned), (2, partitions("clicks", &[0, 1, 2, 3])));
    assert_eq!(world.state("g"), "Stable");
    assert_eq!(world.shard.member_count(), 1);
}

#[test]
fn a_partition_is_given_up_before_another_has_it() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    // Its target is half of it, and all of that is still with the other one.
    beat(&mut world, &mut b);
    assert_eq!((b.epoch, b.count()), (3, 0));
    assert_eq!(world.state("g"), "Reconciling");
    // The first one is told, and stays in its epoch until it says that it has done so.
    let before = a.clone();
    beat(&mut world, &mut a);
    assert_eq!((a.epoch, a.count()), (2, 2));
    beat(&mut world, &mut b);
    assert_eq!(b.count(), 0);
    // Its heartbeat still names what it had: nothing moves.
    let reply = ask(&mut world, before.request());
    assert_eq!(answer(&world, reply).epoch, 2);
    beat(&mut world, &mut b);
    assert_eq!(b.count(), 0);
    beat(&mut world, &mut a);
    assert_eq!(a.epoch, 3);
    beat(&mut world, &mut b);
    assert_eq!((b.epoch, b.count()), (3, 2));
    assert_eq!(world.state("g"), "Stable");
    assert!(a.owned[&FakeCatalog::id("clicks")].is_disjoint(&b.owned[&FakeCatalog::id("clicks")]));
}

#[test]
fn assignments_keep_a_distance() {
    let (catalog, mut world) = world();
    catalog.configure(|config| config.consumer_assignment_interval_ms = 10_000);
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(9_000);
    beat(&mut world, &mut b);
    assert_eq!(world.state("g"), "Assigning");
    assert_eq!(b.epoch, 2, "the epoch of the last assignment");
    world.pass_ms(1_000);
    beat(&mut world, &mut a);
    assert_eq!(world.state("g"), "Reconciling");
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_removed() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    let stubborn = a.clone();
    beat(&mut world, &mut a);
    for _ in 0..13 {
        world.pass_ms(5_000);
        beat(&mut world, &mut b);
        ask(&mut world, stubborn.request());
    }
    assert_eq!(refused(&mut world, &stubborn), ErrorCode::UnknownMemberId);
    world.pass_ms(5_000);
    beat(&mut world, &mut b);
    assert_eq!(b.count(), 4);
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    beat(&mut world, &mut b);
    for _ in 0..10 {
        world.pass_ms(5_000);
        beat(&mut world, &mut b);
    }
    assert_eq!(b.count(), 4);
    assert_eq!(refused(&mut world, &a), ErrorCode::UnknownMemberId);
    a.epoch = 0;
    a.owned.clear();
    settle(&mut world, &mut [a, b]);
}

#[test]
fn a_member_leaves_and_the_group_is_deleted() {
    let (_, mut world) = world();
    let mut a = Client::of("a", &["clicks"]);
    beat(&mut world, &mut a);
    let delete = |world: &mut World| {
        let reply =
            world.event(|shard, reply, _, effects| shard.delete_groups(vec!["g".into()], reply, effects));
        match &world.answers[&reply] {
            Answer::DeleteGroups(deleted) => deleted.groups[0].1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world), ErrorCode::NonEmptyGroup);
    assert_eq!(leave(&mut world, &a, LEAVING_EPOCH), ErrorCode::None);
    assert_eq!(world.state("g"), "Empty");
    assert_eq!(leave(&mut world, &a, LEAVING_EPOCH), ErrorCode::UnknownMemberId);
    assert_eq!(delete(&mut world), ErrorCode::None);
    assert_eq!(world.state("g"), "Dead");
    assert_eq!(refused(&mut world, &Client { epoch: 3, ..a.clone() }), ErrorCode::GroupIdNotFound);
    assert_eq!(world.restarted().state("g"), "Dead");
}

#[test]
fn a_lost_answer_does_not_cost_the_membership() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    beat(&mut world, &mut a);
    // It has given up, moves to the next epoch, and does not hear of it.
    ask(&mut world, a.request());
    assert_eq!(a.epoch, 2);
    beat(&mut world, &mut a);
    assert_eq!(a.epoch, 3);
    // One epoch further back, or with partitions that are not its own, it is fenced.
    assert_eq!(refused(&mut world, &Client { epoch: 1, ..a.clone() }), ErrorCode::FencedMemberEpoch);
    let owned = partitions("clicks", &[0, 1, 2, 3]);
    assert_eq!(refused(&mut world, &Client { epoch: 2, owned, ..a.clone() }), ErrorCode::FencedMemberEpoch);
    assert_eq!(refused(&mut world, &Client { epoch: 4, ..a }), ErrorCode::FencedMemberEpoch);
}

#[test]
fn new_topics_and_partitions_are_assigned() {
    let (catalog, mut world) = world();
    let mut a = Client::of("a", &["clicks", "later"]);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 4);
    catalog.put("clicks", 6);
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 6);
    catalog.put("later", 2);
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 8);
    catalog.remove("clicks");
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert_eq!(a.owned, partitions("later", &[0, 1]));
    // A catalog that changes elsewhere moves nothing.
    let epoch = a.epoch;
    settle(&mut world, std::slice::from_mut(&mut a));
    let epoch_settled = a.epoch;
    catalog.put("unrelated", 1);
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert!(epoch <= epoch_settled && a.epoch == epoch_settled);
}

#[test]
fn a_regular_expression_stands_for_all_topics_it_matches_whole() {
    let (catalog, mut world) = world();
    catalog.put("clicks-eu", 2);
    catalog.put("secret-clicks", 5);
    let mut a = Client::of_pattern("a", "(secret-)?clicks");
    beat(&mut world, &mut a);
    // Neither the one that only begins like it, nor the one that the caller may not see.
    assert_eq!(a.owned, partitions("clicks", &[0, 1, 2, 3]));
    a.pattern = Some("clicks.*".into());
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 6);
    // A topic that comes later is found when topics are looked at again.
    catalog.put("clicks-us", 3);
    world.pass_ms(5_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 6, "not every ten seconds yet");
    world.pass_ms(10_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 9);
    let described = world.shard.describe_consumer_group("g").unwrap();
    assert_eq!(described.members[0].pattern, Some("clicks.*".into()));
    // The answers of the log are those of the memory.
    let mut restarted = world.restarted();
    restarted.pass_ms(1_000);
    assert_eq!(beat(&mut restarted, &mut a.clone()).epoch, a.epoch);
    // None any more.
    a.pattern = Some(Str::default());
    world.pass_ms(2_000);
    beat(&mut world, &mut a);
    assert_eq!(a.count(), 0);
}

/// Each of them may stand for all topics there are.
#[test]
fn a_group_has_few_regular_expressions() {
    let (_, mut world) = world();
    for number in 0..PATTERNS_PER_GROUP_MAX {
        beat(&mut world, &mut Client::of_pattern(&format!("m{number}"), &format!("clicks|{number}")));
    }
    let one_more = Client::of_pattern("another", "clicks");
    assert_eq!(refused(&mut world, &one_more), ErrorCode::PolicyViolation);
    beat(&mut world, &mut Client::of_pattern("another", "clicks|0"));
    assert_eq!(
        leave(&mut world, &Client { epoch: 1, ..Client::of("m1", &[]) }, LEAVING_EPOCH),
        ErrorCode::None
    );
    assert_eq!(refused(&mut world, &one_more), ErrorCode::None);
}

#[test]
fn a_bad_regular_expression_is_refused_and_changes_nothing() {
    let (_, mut world) = world();
    for bad in ["(", "a)|(b", "a{1000}{1000}", &"x".repeat(20_000)] {
        let reply = ask(&mut world, Client::of_pattern("a", bad).request());
        assert_eq!(answer(&world, reply).error, ErrorCode::InvalidRegularExpression, "{bad:.20}");
        assert!(!answer(&world, reply).message.unwrap().is_empty());
    }
    assert_eq!(world.state("g"), "Dead");
    assert!(world.log.is_empty());
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (_, mut world) = world();
    let mut first = Client::of_instance("a", "i", &["clicks"]);
    let mut other = Client::of("b", &["clicks"]);
    beat(&mut world, &mut first);
    let mut clients = [first.clone(), other.clone()];
    settle(&mut world, &mut clients);
    [first, other] = clients;
    // Somebody else under its instance id while it is there.
    let mut second = Client::of_instance("c", "i", &["clicks"]);
    assert_eq!(refused(&mut world, &second), ErrorCode::UnreleasedInstanceId);
    let both = Client { epoch: 0, owned: Partitions::new(), instance_id: Some("i".into()), ..other.clone() };
    assert_eq!(refused(&mut world, &both), ErrorCode::FencedInstanceId);
    assert_eq!(leave(&mut world, &first, LEAVING_FOR_A_WHILE_EPOCH), ErrorCode::None);
    // Nothing moves while it is away.
    world.pass_ms(5_000);
    beat(&mut world, &mut other);
    assert_eq!(other.count(), 2);
    let epoch = other.epoch;
    beat(&mut world, &mut second);
    assert_eq!((second.epoch, &second.owned), (epoch, &first.owned));
    assert_eq!(refused(&mut world, &first), ErrorCode::FencedInstanceId);
    assert_eq!(world.shard.member_count(), 2);
    // One that never comes back is removed like any other.
    assert_eq!(leave(&mut world, &second, LEAVING_FOR_A_WHILE_EPOCH), ErrorCode::None);
    for _ in 0..10 {
        world.pass_ms(5_000);
        beat(&mut world, &mut other);
    }
    assert_eq!(other.count(), 4);
}

#[test]
fn commits_and_fetches_must_be_of_the_members_epoch() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    beat(&mut world, &mut a);
    let commit = |world: &mut World, client: &Client, partition: i32, epoch: i32| {
        let mut request = commit_request("g", "clicks", partition, 7);
        request.member_id = client.id.clone();
        request.generation = epoch;
        request.offsets[0].topic_id = FakeCatalog::id("clicks");
        let reply = world.commit(request);
        match world.committed(reply) {
            CommitAnswer::Each(each) => each[0],
            CommitAnswer::Refused(error) => error,
        }
    };
    assert_eq!(commit(&mut world, &a, 0, 2), ErrorCode::None);
    // What it is giving up is still its own.
    assert_eq!(commit(&mut world, &a, 3, 2), ErrorCode::None);
    beat(&mut world, &mut a);
    // It has moved on; the answer may have been lost, and partition 0 has been its own since epoch 2.
    assert_eq!(commit(&mut world, &a, 0, 2), ErrorCode::None);
    assert_eq!(commit(&mut world, &a, 3, 2), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, &a, 0, 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, &a, 0, 9), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, &Client::of("x", &[]), 0, 3), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut world, &Client::of("", &[]), 0, -1), ErrorCode::UnknownMemberId);
    let fetch = |world: &World, id: Option<&str>, epoch| world.shard.check_offset_fetch("g", id, epoch);
    assert_eq!(fetch(&world, Some("a"), 3), Ok(()));
    assert_eq!(fetch(&world, Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(&world, Some("x"), 2), Err(ErrorCode::UnknownMemberId));
    assert_eq!(fetch(&world, None, -1), Ok(()));
    assert_eq!(fetch(&world, None, 3), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn offsets_of_subscribed_topics_stay_and_those_of_an_empty_group_age() {
    let (_, mut world) = world();
    let mut a = Client::of("a", &["clicks"]);
    beat(&mut world, &mut a);
    let mut request = commit_request("g", "clicks", 0, 7);
    request.member_id = a.id.clone();
    request.generation = a.epoch;
    world.commit(request);
    let week_ms = 7 * 24 * 60 * 60_000;
    for _ in 0..week_ms / 40_000 {
        world.pass_ms(40_000);
        beat(&mut world, &mut a);
    }
    assert_eq!(world.offset("g", "clicks", 0), 7);
    let delete = vec![("clicks".into(), 0)];
    let reply =
        world.event(|shard, reply, _, effects| shard.delete_offsets(&"g".into(), delete, reply, effects));
    let subscribed = DeleteOffsetsAnswer::Each(vec![ErrorCode::GroupSubscribedToTopic]);
    assert_eq!(world.answers[&reply], Answer::DeleteOffsets(subscribed));
    leave(&mut world, &a, LEAVING_EPOCH);
    world.pass_ms(1_000_000);
    assert_eq!(world.offset("g", "clicks", 0), -1);
    assert_eq!(world.state("g"), "Dead");
    assert_eq!(world.restarted().shard.group_count(), 0);
}

#[test]
fn a_restart_finds_the_group_and_a_snapshot_says_the_same() {
    let (_, mut world) = world();
    let mut clients =
        [Client::of("a", &["clicks"]), Client::of_pattern("b", ".*"), Client::of("c", &["views"])];
    settle(&mut world, &mut clients);
    let owned: Vec<Partitions> = clients.iter().map(|client| client.owned.clone()).collect();
    let mut snapshot = World::with(world.shard.settings_for_tests());
    snapshot.now = world.now;
    let mut place = None;
    loop {
        let (records, next) = world.shard.snapshot_page(place, 100);
        snapshot.log.extend(records);
        place = next;
        if place.is_none() {
            break;
        }
    }
    for mut again in [world.restarted(), snapshot.restarted()] {
        assert_eq!(again.shard.describe_consumer_group("g"), world.shard.describe_consumer_group("g"));
        let mut clients = clients.clone();
        settle(&mut again, &mut clients);
        assert_eq!(clients.iter().map(|client| client.owned.clone()).collect::<Vec<_>>(), owned);
    }
}

#[test]
fn a_write_that_failed_leaves_the_group_as_the_log_has_it() {
    let (_, mut world) = world();
    let (mut a, b) = (Client::of("a", &["clicks"]), Client::of("b", &["clicks"]));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    world.lands_at_once = false;
    let joins = ask(&mut world, b.request());
    let revokes = ask(&mut world, a.request());
    let beats = ask(&mut world, a.request());
    assert_eq!(
        world.shard.describe_consumer_group("g").unwrap().members.len(),
        1,
        "readers see what is safe"
    );
    world.land(Err(ErrorCode::NotCoordinator));
    world.land_all();
    // Whoever was answered from the lost state hears of the error, also where its own write landed.
    for reply in [joins, revokes, beats] {
        assert_eq!(answer(&world, reply).error, ErrorCode::NotCoordinator);
    }
    world.lands_at_once = true;
    world.pass_ms(2_000);
    let mut clients = [a, b];
    settle(&mut world, &mut clients);
    assert_eq!(clients.map(|client| client.count()), [2, 2]);
    let restarted = world.restarted();
    assert_eq!(restarted.shard.describe_consumer_group("g"), world.shard.describe_consumer_group("g"));
}

/// The write that gave an instance id to another member is lost, and one that says it of that member once more is not.
#[test]
fn two_that_hold_one_instance_id_become_one() {
    let catalog = FakeCatalog::with(&[("clicks", 4), ("views", 2)]);
    let mut world = World::with(catalog.settings());
    let mut first = Client::of_instance("a", "i", &["clicks"]);
    beat(&mut world, &mut first);
    assert_eq!(leave(&mut world, &first, LEAVING_FOR_A_WHILE_EPOCH), ErrorCode::None);
    world.lands_at_once = false;
    let mut second = Client::of_instance("0", "i", &["clicks"]);
    let takes = ask(&mut world, second.request());
    let wants_more = Client { epoch: first.epoch, topics: vec!["views".into()], ..second.clone() };
    let goes_on = ask(&mut world, wants_more.request());
    world.land(Err(ErrorCode::NotCoordinator));
    world.land_all();
    for reply in [takes, goes_on] {
        assert_eq!(answer(&world, reply).error, ErrorCode::NotCoordinator);
    }
    world.lands_at_once = true;
    assert_eq!(world.shard.member_count(), 2);
    beat(&mut world, &mut second);
    assert_eq!(
        refused(&mut world, &Client::of_instance("x", "i", &["clicks"])),
        ErrorCode::UnreleasedInstanceId
    );
    // The other one never comes back.
    for _ in 0..12 {
        world.pass_ms(5_000);
        beat(&mut world, &mut second);
    }
    assert_eq!((world.shard.member_count(), second.count()), (1, 4));
    assert_eq!(leave(&mut world, &second, LEAVING_EPOCH), ErrorCode::None);
    assert_eq!(world.shard.member_count(), 0);
}

#[test]
fn the_first_write_fails_and_there_is_no_group() {
    let (_, mut world) = world();
    world.lands_at_once = false;
    let reply = ask(&mut world, Client::of("a", &["clicks"]).request());
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(answer(&world, reply).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(world.shard.group_count(), 0);
}

#[test]
fn groups_and_members_have_bounds() {
    let catalog = FakeCatalog::with(&[("clicks", 1)]);
    let mut settings = catalog.settings();
    settings.consumer_group_size_max = 1;
    settings.groups_per_partition_max = 1;
    settings.member_metadata_bytes_max = 100;
    let mut world = World::with(settings);
    let mut a = Client::of("a", &["clicks"]);
    beat(&mut world, &mut a);
    assert_eq!(refused(&mut world, &Client::of("b", &["clicks"])), ErrorCode::GroupMaxSizeReached);
    let other = ConsumerHeartbeatRequest { group: "h".into(), ..Client::of("b", &["clicks"]).request() };
    let reply = ask(&mut world, other);
    assert_eq!(answer(&world, reply).error, ErrorCode::PolicyViolation);
    a.topics = vec![Str::from("x".repeat(100))];
    assert_eq!(refused(&mut world, &a), ErrorCode::InvalidRequest);
}

#[test]
fn members_choose_the_assignor() {
    let (_, mut world) = world();
    let range = |id: &str| Client { assignor: Some("range".into()), ..Client::of(id, &["clicks", "views"]) };
    let mut clients = [range("a"), range("b"), Client::of("c", &["clicks", "views"])];
    settle(&mut world, &mut clients);
    assert_eq!(clients.clone().map(|client| client.count()), [3, 2, 2]);
    assert_eq!(world.shard.describe_consumer_group("g").unwrap().assignor, "range");
    let listed = world.shard.list();
    assert_eq!((listed[0].state, listed[0].group_type), ("Stable", "consumer"));
}
