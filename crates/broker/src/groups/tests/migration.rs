//! Stories about groups on their way from the classic protocol to the new one, and back.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use protocol::message::{decode_versioned_value, versioned_value};
use protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
use protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use protocol::{ErrorCode, Str};

use super::super::consumer::{ConsumerHeartbeatRequest, LEAVING_EPOCH};
use super::super::event::*;
use super::super::member::OfferedProtocol;
use super::super::settings::Migration;
use super::consumers::{Client, answer, ask};
use super::fake_catalog::FakeCatalog;
use super::model::{World, join_request};

/// A consumer of the classic protocol with a cooperative assignor: it says what it owns, and keeps it over a rebalance.
struct Classic {
    id: Str,
    instance_id: Option<Str>,
    generation: i32,
    owned: BTreeSet<i32>,
}

impl Classic {
    fn metadata(&self) -> Bytes {
        let owned = OwnedTopic { topic: "clicks".into(), partitions: self.owned.iter().copied().collect() };
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["clicks".into()],
            owned_partitions: vec![owned],
            generation_id: self.generation,
            ..ConsumerProtocolSubscription::default()
        };
        versioned_value(3, &subscription).unwrap()
    }

    fn join(&self) -> JoinRequest {
        JoinRequest {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            protocols: vec![OfferedProtocol { name: "cooperative-sticky".into(), metadata: self.metadata() }],
            ..join_request("g")
        }
    }

    fn heartbeat(&self, world: &mut World) -> ErrorCode {
        world.heartbeat("g", &self.id, self.generation)
    }

    /// JoinGroup and SyncGroup in a consumer group; false: to be tried again.
    fn rejoin(&mut self, world: &mut World) -> bool {
        let reply = world.join(self.join());
        let joined = world.joined(reply);
        assert_eq!(joined.error, ErrorCode::None);
        assert!(joined.leader.is_empty() && joined.members.is_empty());
        self.id = joined.member_id.clone();
        self.generation = joined.generation;
        let reply = sync(world, &joined, Vec::new());
        let synced = world.synced(reply);
        match synced.error {
            ErrorCode::None => {
                self.owned = read(&synced.assignment);
                true
            }
            ErrorCode::RebalanceInProgress => false,
            other => panic!("{other:?}"),
        }
    }
}

fn sync(world: &mut World, joined: &JoinAnswer, assignments: Vec<(Str, Bytes)>) -> ReplyId {
    let request = SyncRequest {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: joined.protocol_name.clone(),
        assignments,
    };
    world.event(|shard, reply, now, effects| shard.sync(request, reply, now, effects))
}

fn assignment(partitions: &BTreeSet<i32>) -> Bytes {
    let topic = AssignedTopic { topic: "clicks".into(), partitions: partitions.iter().copied().collect() };
    let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
    versioned_value(3, &assignment).unwrap()
}

fn read(bytes: &Bytes) -> BTreeSet<i32> {
    let (_, assignment) = decode_versioned_value::<ConsumerProtocolAssignment>(bytes).unwrap();
    assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
}

/// A stable classic group of two, with half of the six partitions each.
fn classic_group(settings: super::super::settings::GroupSettings) -> (World, Vec<Classic>) {
    let mut world = World::with(settings);
    let mut members: Vec<Classic> = (0..2)
        .map(|_| Classic { id: Str::default(), instance_id: None, generation: -1, owned: BTreeSet::new() })
        .collect();
    let mut joins = Vec::new();
    for member in &mut members {
        let reply = world.join(member.join());
        member.id = world.joined(reply).member_id;
        joins.push(world.join(member.join()));
    }
    world.pass_ms(10_000);
    settle_classic(&mut world, &mut members, &joins);
    (world, members)
}

fn settle_classic(world: &mut World, members: &mut [Classic], joins: &[ReplyId]) {
    let joined: Vec<JoinAnswer> = joins.iter().map(|join| world.joined(*join)).collect();
    let halves = [BTreeSet::from([0, 1, 2]), BTreeSet::from([3, 4, 5]), BTreeSet::new()];
    let assignments: Vec<(Str, Bytes)> =
        joined.iter().zip(&halves).map(|(one, half)| (one.member_id.clone(), assignment(half))).collect();
    let syncs: Vec<ReplyId> = joined
        .iter()
        .map(|one| {
            let given = if one.leader == one.member_id { assignments.clone() } else { Vec::new() };
            sync(world, one, given)
        })
        .collect();
    for ((member, joined), sync) in members.iter_mut().zip(&joined).zip(syncs) {
        let synced = world.synced(sync);
        assert_eq!((joined.error, synced.error), (ErrorCode::None, ErrorCode::None));
        member.generation = joined.generation;
        member.owned = read(&synced.assignment);
    }
    assert_eq!(world.state("g"), "Stable");
}

fn catalog() -> Arc<FakeCatalog> {
    FakeCatalog::with(&[("clicks", 6)])
}

/// Everybody does as its protocol says until all is settled. Partitions are with one member at any time.
fn settle(world: &mut World, classic: &mut [Classic], modern: &mut Client) {
    for _ in 0..12 {
        world.pass_ms(3_000);
        for index in 0..classic.len() {
            if classic[index].heartbeat(world) == ErrorCode::RebalanceInProgress {
                for _ in 0..5 {
                    if classic[index].rejoin(world) {
                        break;
                    }
                    world.pass_ms(1_000);
                }
            }
            check(classic, modern);
        }
        let reply = ask(world, modern.request());
        modern.take(&answer(world, reply));
        check(classic, modern);
    }
    assert_eq!(world.state("g"), "Stable");
}

fn check(classic: &[Classic], modern: &Client) {
    let modern = modern.owned.values().flatten();
    let all: Vec<i32> = classic.iter().flat_map(|member| &member.owned).chain(modern).copied().collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
}

#[test]
fn a_classic_group_takes_members_of_the_new_protocol_and_becomes_classic_again() {
    let (mut world, mut classic) = classic_group(catalog().settings());
    let mut modern = Client::of("new", &["clicks"]);
    let reply = ask(&mut world, modern.request());
    modern.take(&answer(&world, reply));
    assert_eq!(modern.count(), 0, "all of it is with the others yet");
    let listed = world.shard.list();
    assert_eq!((listed[0].group_type, listed.len()), ("consumer", 1));
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(modern.count(), 2);
    assert!(classic.iter().all(|member| member.owned.len() == 2));
    let described = world.shard.describe_consumer_group("g").unwrap();
    assert_eq!(described.members.iter().filter(|member| member.is_classic).count(), 2);
    assert_eq!(world.restarted().shard.describe_consumer_group("g"), Ok(described));

    let leaves = ConsumerHeartbeatRequest { epoch: LEAVING_EPOCH, ..modern.request() };
    let reply = ask(&mut world, leaves);
    assert_eq!(answer(&world, reply).error, ErrorCode::None);
    assert_eq!(world.shard.list()[0].group_type, "classic");
    assert_eq!(world.state("g"), "PreparingRebalance");
    let restarted = world.restarted();
    assert_eq!(restarted.state("g"), "Stable");
    // The assignment of the record is what the members have.
    for member in &restarted.shard.describe("g").unwrap().members {
        let own = classic.iter().find(|classic| classic.id == member.member_id).unwrap();
        assert!(own.owned.is_subset(&read(&member.assignment)));
    }
    let joins: Vec<ReplyId> =
        classic.iter().map(|member| member.join()).map(|join| world.join(join)).collect();
    settle_classic(&mut world, &mut classic, &joins);
}

#[test]
fn an_upgrade_that_fails_leaves_the_classic_group() {
    let (mut world, classic) = classic_group(catalog().settings());
    world.lands_at_once = false;
    let modern = Client::of("new", &["clicks"]);
    let first = ask(&mut world, modern.request());
    let second = ask(&mut world, Client::of("newer", &["clicks"]).request());
    world.land(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.land_all();
    for reply in [first, second] {
        assert_eq!(answer(&world, reply).error, ErrorCode::NotCoordinator);
    }
    assert_eq!(world.shard.list().len(), 1);
    assert_eq!(classic[0].heartbeat(&mut world), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_member_that_is_refused_does_not_turn_a_classic_group_into_another() {
    let (mut world, mut classic) = classic_group(catalog().settings());
    // One of them is static; the newcomer claims its instance id under the member id of the other one.
    let mut third =
        Classic { id: Str::default(), instance_id: Some("i".into()), generation: -1, owned: BTreeSet::new() };
    let join = world.join(third.join());
    let mut joins: Vec<ReplyId> = Vec::new();
    for member in &classic {
        joins.push(world.join(member.join()));
    }
    joins.push(join);
    third.id = world.joined(join).member_id;
    classic.push(third);
    settle_classic(&mut world, &mut classic, &joins);
    let mut modern = Client::of(&classic[0].id, &["clicks"]);
    modern.instance_id = Some("i".into());
    let reply = ask(&mut world, modern.request());
    assert_eq!(answer(&world, reply).error, ErrorCode::FencedInstanceId);
    assert_eq!(world.shard.list()[0].group_type, "classic");
    assert_eq!(world.shard.member_count(), 3);
    // They are asked to join again, and nothing of it is in the log.
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert_eq!(world.restarted().state("g"), "Stable");
}

#[test]
fn a_downgrade_that_fails_leaves_the_consumer_group() {
    let (mut world, mut classic) = classic_group(catalog().settings());
    let mut modern = Client::of("new", &["clicks"]);
    let reply = ask(&mut world, modern.request());
    modern.take(&answer(&world, reply));
    settle(&mut world, &mut classic, &mut modern);
    world.lands_at_once = false;
    let leaves = ask(&mut world, ConsumerHeartbeatRequest { epoch: LEAVING_EPOCH, ..modern.request() });
    let join = world.join(classic[0].join());
    world.land(Err(ErrorCode::NotCoordinator));
    world.land_all();
    assert_eq!(answer(&world, leaves).error, ErrorCode::NotCoordinator);
    assert_eq!(world.joined(join).error, ErrorCode::NotCoordinator);
    world.lands_at_once = true;
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(world.shard.list()[0].group_type, "consumer");
}

#[test]
fn a_silent_classic_member_is_removed_from_a_consumer_group() {
    let (mut world, mut classic) = classic_group(catalog().settings());
    let mut modern = Client::of("new", &["clicks"]);
    let reply = ask(&mut world, modern.request());
    modern.take(&answer(&world, reply));
    let mut gone = classic.split_off(1);
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!((modern.count(), classic[0].owned.len()), (3, 3));
    assert_eq!(gone.pop().unwrap().heartbeat(&mut world), ErrorCode::UnknownMemberId);
    // An administrator removes the other one: nobody is left who could be in a classic group.
    let leave = LeavingMember { member_id: classic[0].id.clone(), instance_id: None };
    let request = LeaveRequest { group: "g".into(), members: vec![leave] };
    let reply = world.event(|shard, reply, now, effects| shard.leave(request, reply, now, effects));
    assert_eq!(world.left(reply).members[0].1, ErrorCode::None);
    settle(&mut world, &mut [], &mut modern);
    assert_eq!(modern.count(), 6);
}

#[test]
fn a_classic_static_member_takes_the_place_of_the_last_one_of_the_new_protocol() {
    let mut world = World::with(catalog().settings());
    let mut modern = Client::of("new", &["clicks"]);
    modern.instance_id = Some("i".into());
    let reply = ask(&mut world, modern.request());
    modern.take(&answer(&world, reply));
    let classic =
        Classic { id: Str::default(), instance_id: Some("i".into()), generation: -1, owned: BTreeSet::new() };
    let reply = world.join(classic.join());
    assert_eq!(world.shard.list()[0].group_type, "classic");
    let joined = world.joined(reply);
    assert_eq!((joined.error, joined.leader == joined.member_id), (ErrorCode::None, true));
    assert_eq!(world.shard.member_count(), 1);
    let reply = ask(&mut world, modern.request());
    assert_eq!(answer(&world, reply).error, ErrorCode::GroupIdNotFound);
}

#[test]
fn the_policy_and_foreign_groups_forbid_it() {
    let none = Migration { upgrades: false, downgrades: false };
    let settings = super::super::settings::GroupSettings { consumer_migration: none, ..catalog().settings() };
    let (mut world, _) = classic_group(settings);
    let reply = ask(&mut world, Client::of("new", &["clicks"]).request());
    assert_eq!(answer(&world, reply).error, ErrorCode::GroupIdNotFound);
    assert_eq!(world.state("g"), "Stable");
    // Not a group of consumers.
    let mut world = World::with(catalog().settings());
    let connect =
        JoinRequest { protocol_type: "connect".into(), requires_known_member_id: false, ..join_request("g") };
    world.join(connect);
    let reply = ask(&mut world, Client::of("new", &["clicks"]).request());
    assert_eq!(answer(&world, reply).error, ErrorCode::GroupIdNotFound);
}

#[test]
fn empty_groups_change_their_kind_without_ado() {
    let catalog = catalog();
    let mut world = World::with(catalog.settings());
    // Offsets of a simple consumer stay when the group gets members.
    world.commit(super::model::commit_request("g", "clicks", 0, 5));
    let mut modern = Client::of("new", &["clicks"]);
    let reply = ask(&mut world, modern.request());
    modern.take(&answer(&world, reply));
    assert_eq!(world.offset("g", "clicks", 0), 5);
    assert_eq!(world.restarted().shard.list()[0].group_type, "consumer");
    ask(&mut world, ConsumerHeartbeatRequest { epoch: LEAVING_EPOCH, ..modern.request() });
    // A classic member finds it empty.
    let classic = Classic { id: Str::default(), instance_id: None, generation: -1, owned: BTreeSet::new() };
    let reply = world.join(classic.join());
    assert_eq!(world.joined(reply).error, ErrorCode::MemberIdRequired);
    assert_eq!(world.shard.list()[0].group_type, "classic");
    assert_eq!(world.shard.group_count(), 1);
    assert_eq!(world.restarted().shard.list()[0].group_type, "classic");
    assert_eq!(world.offset("g", "clicks", 0), 5);
}
