//! Stories about streams groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::messages::StreamsGroupTopologyValue;
use protocol::messages::streams_group_topology_description_update_request::{
    TopologyDescription, TopologyDescriptionGlobalStore, TopologyDescriptionNode,
    TopologyDescriptionSubtopology,
};
use protocol::messages::streams_group_topology_value::{Subtopology, TopicConfig, TopicInfo};
use protocol::{ErrorCode, Str};

use super::super::event::*;
use super::super::streams::{
    Endpoint, PushedDescription, StatusCode, StreamsHeartbeatAnswer, StreamsHeartbeatRequest, TaskSets,
    Tasks, Topology,
};
use super::fake_catalog::FakeCatalog;
use super::model::{World, commit_request, join_request};

/// A thread of an application as it talks to the group: what it knows and what it has.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: Str,
    /// `group.instance.id`
    pub instance_id: Option<Str>,
    pub process: Str,
    pub epoch: i32,
    pub endpoint_epoch: i32,
    pub owned: TaskSets,
}

impl Client {
    pub fn of(id: &str, process: &str) -> Client {
        Client {
            id: id.into(),
            instance_id: None,
            process: process.into(),
            epoch: 0,
            endpoint_epoch: 0,
            owned: TaskSets::default(),
        }
    }

    pub fn request(&self) -> StreamsHeartbeatRequest {
        let joins = self.epoch == 0;
        StreamsHeartbeatRequest {
            group: "g".into(),
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            epoch: self.epoch,
            endpoint_epoch: self.endpoint_epoch,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            shutdown_application: false,
            knows_descriptions: false,
            rack_id: None,
            rebalance_timeout_ms: joins.then_some(60_000),
            topology: joins.then(word_count),
            process_id: joins.then(|| self.process.clone()),
            endpoint: None,
            client_tags: joins.then(BTreeMap::new),
            owned: Some(self.owned.clone()),
        }
    }

    /// Takes what it was told at its word: gives up first, owns then.
    pub fn take(&mut self, answer: &StreamsHeartbeatAnswer) {
        assert_eq!(answer.error, ErrorCode::None, "{}: {:?}", self.id, answer.message);
        self.epoch = answer.epoch;
        self.endpoint_epoch = answer.endpoint_epoch;
        if let Some(tasks) = &answer.tasks {
            self.owned = tasks.clone();
        }
    }

    fn counts(&self) -> (usize, usize) {
        let count = |tasks: &Tasks| tasks.values().map(BTreeSet::len).sum();
        (count(&self.owned.active), count(&self.owned.standby))
    }
}

/// Lines are cut into words, which go through a topic to where they are counted.
pub fn word_count() -> Topology {
    let info = |name: &str| TopicInfo {
        name: name.into(),
        topic_configs: vec![TopicConfig { key: "cleanup.policy".into(), value: "compact".into() }],
        ..TopicInfo::default()
    };
    let cuts = Subtopology {
        subtopology_id: "0".into(),
        source_topics: vec!["lines".into()],
        repartition_sink_topics: vec!["words".into()],
        ..Subtopology::default()
    };
    let counts = Subtopology {
        subtopology_id: "1".into(),
        repartition_source_topics: vec![info("words")],
        state_changelog_topics: vec![info("counted")],
        ..Subtopology::default()
    };
    Topology::of(StreamsGroupTopologyValue { epoch: 3, subtopologies: vec![cuts, counts] }).unwrap()
}

pub fn ask(world: &mut World, request: StreamsHeartbeatRequest) -> ReplyId {
    world.event(|shard, reply, now, effects| shard.streams_heartbeat(&request, reply, now, effects))
}

pub fn answer(world: &World, reply: ReplyId) -> StreamsHeartbeatAnswer {
    match world.answers.get(&reply) {
        Some(Answer::StreamsHeartbeat(answer)) => answer.clone(),
        other => panic!("{reply:?}: {other:?}"),
    }
}

fn answer_to(world: &mut World, request: StreamsHeartbeatRequest) -> StreamsHeartbeatAnswer {
    let reply = ask(world, request);
    answer(world, reply)
}

fn beat(world: &mut World, client: &mut Client) -> StreamsHeartbeatAnswer {
    let answer = answer_to(world, client.request());
    client.take(&answer);
    answer
}

fn leave(world: &mut World, client: &Client) -> StreamsHeartbeatAnswer {
    answer_to(world, StreamsHeartbeatRequest { epoch: -1, ..client.request() })
}

/// Everybody sends heartbeats until nothing changes any more.
fn settle(world: &mut World, clients: &mut [&mut Client]) {
    for _ in 0..8 {
        world.pass_ms(5_000);
        clients.iter_mut().for_each(|client| drop(beat(world, client)));
    }
    assert_eq!(world.state("g"), "Stable");
}

fn codes(answer: &StreamsHeartbeatAnswer) -> Vec<StatusCode> {
    answer.statuses.iter().map(|status| status.code).collect()
}

/// A catalog with everything that the application needs, and no initial delay.
fn world() -> (Arc<FakeCatalog>, World) {
    let catalog = FakeCatalog::with(&[("lines", 2), ("words", 2), ("counted", 2)]);
    catalog.configure(|config| config.streams_initial_rebalance_delay_ms = 0);
    let world = World::with(catalog.settings());
    (catalog, world)
}

#[test]
fn the_first_member_has_everything_in_its_first_answer() {
    let (_, mut world) = world();
    let mut only = Client::of("a", "p");
    let answer = beat(&mut world, &mut only);
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    assert_eq!((only.epoch, only.counts()), (2, (4, 0)));
    assert!(answer.statuses.is_empty() && answer.missing_topics.is_empty());
    assert_eq!(world.state("g"), "Stable");
    assert_eq!((world.shard.group_count(), world.shard.member_count()), (1, 1));
    // It is told again only when something is new.
    assert_eq!(beat(&mut world, &mut only).tasks, None);
    let listed = world.shard.list();
    assert_eq!(
        (listed[0].group_type, &*listed[0].protocol_type, listed[0].state),
        ("streams", "streams", "Stable")
    );
}

#[test]
fn topics_of_the_application_are_asked_for_and_then_there_are_tasks() {
    let catalog = FakeCatalog::with(&[]);
    catalog.configure(|config| config.streams_initial_rebalance_delay_ms = 0);
    let mut world = World::with(catalog.settings());
    let mut a = Client::of("a", "p");
    let joined = beat(&mut world, &mut a);
    assert_eq!(codes(&joined), [StatusCode::MissingSourceTopics]);
    assert_eq!((world.state("g"), a.counts()), ("NotReady", (0, 0)));
    catalog.put("lines", 3);
    world.pass_ms(2_000);
    let next = beat(&mut world, &mut a);
    assert_eq!(codes(&next), [StatusCode::MissingInternalTopics]);
    let missing: Vec<(&str, i32)> =
        next.missing_topics.iter().map(|topic| (topic.name.as_str(), topic.partition_count)).collect();
    assert_eq!(missing, [("counted", 3), ("words", 3)]);
    let config = (Str::from("cleanup.policy"), Str::from("compact"));
    assert_eq!(next.missing_topics[0].configs, [config]);
    for topic in next.missing_topics {
        catalog.put(&topic.name, topic.partition_count);
    }
    world.pass_ms(2_000);
    let ready = beat(&mut world, &mut a);
    assert!(ready.statuses.is_empty(), "{:?}", ready.statuses);
    assert_eq!((world.state("g"), a.counts()), ("Stable", (6, 0)));
    // A source topic goes: so do the tasks.
    catalog.remove("lines");
    world.pass_ms(2_000);
    assert_eq!(codes(&beat(&mut world, &mut a)), [StatusCode::MissingSourceTopics]);
    assert_eq!((world.state("g"), a.counts()), ("NotReady", (0, 0)));
}

#[test]
fn the_first_assignment_waits_for_more_members() {
    let (catalog, mut world) = world();
    catalog.configure(|config| config.streams_initial_rebalance_delay_ms = 3_000);
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    assert_eq!(codes(&beat(&mut world, &mut a)), [StatusCode::AssignmentDelayed]);
    world.pass_ms(1_000);
    assert_eq!(codes(&beat(&mut world, &mut b)), [StatusCode::AssignmentDelayed]);
    assert_eq!((a.epoch, a.counts(), world.state("g")), (1, (0, 0), "Assigning"));
    world.pass_ms(2_000);
    assert!(beat(&mut world, &mut a).statuses.is_empty());
    beat(&mut world, &mut b);
    assert_eq!((a.counts(), b.counts()), ((2, 0), (2, 0)));
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn a_task_is_given_up_before_another_has_it() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    assert_eq!((b.epoch, b.counts()), (3, (0, 0)));
    assert_eq!(world.state("g"), "Reconciling");
    let before = a.clone();
    beat(&mut world, &mut a);
    assert_eq!((a.epoch, a.counts()), (2, (2, 0)));
    // Its heartbeat still names what it had: nothing moves.
    let mut unmoved = before.request();
    unmoved.epoch = a.epoch;
    assert_eq!(answer_to(&mut world, unmoved).epoch, 2);
    beat(&mut world, &mut b);
    assert_eq!(b.counts(), (0, 0));
    beat(&mut world, &mut a);
    beat(&mut world, &mut b);
    assert_eq!((a.epoch, b.epoch, b.counts()), (3, 3, (2, 0)));
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn copies_are_in_other_processes_and_a_change_of_their_number_is_a_new_assignment() {
    let (catalog, mut world) = world();
    let (mut a, mut b, mut c) = (Client::of("a", "p"), Client::of("b", "p"), Client::of("c", "q"));
    for client in [&mut a, &mut b, &mut c] {
        beat(&mut world, client);
    }
    settle(&mut world, &mut [&mut a, &mut b, &mut c]);
    assert!([&a, &b, &c].iter().all(|client| client.counts().1 == 0));
    catalog.configure(|config| config.streams_num_standby_replicas = 1);
    settle(&mut world, &mut [&mut a, &mut b, &mut c]);
    let copies: usize = [&a, &b, &c].iter().map(|client| client.counts().1).sum();
    assert_eq!(copies, 2, "two tasks with state");
    let of = |tasks: &Tasks| tasks.get("1").cloned().unwrap_or_default();
    let in_p: BTreeSet<i32> = &of(&a.owned.active) | &of(&b.owned.active);
    let copied_in_p: BTreeSet<i32> = &of(&a.owned.standby) | &of(&b.owned.standby);
    assert!(in_p.is_disjoint(&copied_in_p));
}

#[test]
fn a_lost_answer_is_told_again() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    // What it is to give up is told in an answer that is lost.
    ask(&mut world, a.request());
    let again = beat(&mut world, &mut a);
    assert_eq!((again.epoch, a.counts()), (2, (2, 0)));
    settle(&mut world, &mut [&mut a, &mut b]);
    // And so is what it gets, with a new epoch.
    leave(&mut world, &b);
    world.pass_ms(2_000);
    ask(&mut world, a.request());
    let again = beat(&mut world, &mut a);
    assert_eq!(a.counts(), (4, 0));
    assert_eq!(again.epoch, a.epoch);
}

#[test]
fn who_does_not_come_or_does_not_give_up_is_out() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
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
    assert_eq!(answer_to(&mut world, stubborn.request()).error, ErrorCode::UnknownMemberId);
    settle(&mut world, &mut [&mut b]);
    assert_eq!(b.counts(), (4, 0));
    world.pass_ms(50_000);
    assert_eq!(world.state("g"), "Empty");
    assert_eq!(answer_to(&mut world, b.request()).error, ErrorCode::UnknownMemberId);
}

#[test]
fn wrong_epochs_are_fenced() {
    let (_, mut world) = world();
    let mut a = Client::of("a", "p");
    beat(&mut world, &mut a);
    let with = |epoch: i32| StreamsHeartbeatRequest { epoch, ..a.request() };
    assert_eq!(answer_to(&mut world, with(9)).error, ErrorCode::FencedMemberEpoch);
    assert_eq!(answer_to(&mut world, with(1)).error, ErrorCode::FencedMemberEpoch);
    let unknown = StreamsHeartbeatRequest { member_id: "x".into(), ..with(2) };
    assert_eq!(answer_to(&mut world, unknown).error, ErrorCode::UnknownMemberId);
    let nowhere = StreamsHeartbeatRequest { group: "other".into(), ..with(2) };
    assert_eq!(answer_to(&mut world, nowhere).error, ErrorCode::GroupIdNotFound);
    let mut owned = a.owned.clone();
    owned.active.insert("7".into(), [0].into());
    let wrong = StreamsHeartbeatRequest { owned: Some(owned.clone()), ..with(2) };
    assert_eq!(answer_to(&mut world, wrong).error, ErrorCode::InvalidRequest);
    owned.active.clear();
    owned.active.insert("0".into(), [2].into());
    let wrong = StreamsHeartbeatRequest { owned: Some(owned), ..with(2) };
    assert_eq!(answer_to(&mut world, wrong).error, ErrorCode::InvalidRequest);
}

#[test]
fn a_topology_does_not_change() {
    let (_, mut world) = world();
    let mut a = Client::of("a", "p");
    beat(&mut world, &mut a);
    let b = Client::of("b", "q");
    let mut other = word_count();
    other.subtopologies.remove("1");
    let changed = StreamsHeartbeatRequest { topology: Some(other.clone()), ..b.request() };
    assert_eq!(answer_to(&mut world, changed).error, ErrorCode::InvalidRequest);
    assert_eq!(world.shard.member_count(), 1);
    // One from an older release of the application may be there, and is told so.
    other.epoch = 2;
    let older = StreamsHeartbeatRequest { topology: Some(other), ..b.request() };
    let joined = answer_to(&mut world, older);
    assert_eq!((joined.error, codes(&joined)[0]), (ErrorCode::None, StatusCode::StaleTopology));
    let mut huge = word_count();
    let source = &mut huge.subtopologies.get_mut("0").unwrap().source_topics;
    *source = (0..30_000).map(|number| Str::from(format!("topic-{number}"))).collect();
    let request = StreamsHeartbeatRequest { topology: Some(huge), ..b.request() };
    assert_eq!(answer_to(&mut world, request).error, ErrorCode::InvalidRequest);
}

#[test]
fn one_member_can_ask_the_whole_application_to_stop() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    beat(&mut world, &mut b);
    ask(&mut world, StreamsHeartbeatRequest { shutdown_application: true, ..a.request() });
    assert!(codes(&beat(&mut world, &mut b)).contains(&StatusCode::ShutdownApplication));
    leave(&mut world, &a);
    assert!(codes(&beat(&mut world, &mut b)).contains(&StatusCode::ShutdownApplication));
    leave(&mut world, &b);
    // Whoever comes when all have gone begins anew.
    world.pass_ms(2_000);
    assert!(beat(&mut world, &mut Client::of("c", "r")).statuses.is_empty());
}

#[test]
fn members_are_told_where_tasks_are() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    let at = |client: &Client| StreamsHeartbeatRequest {
        endpoint: Some(Endpoint { host: client.id.clone(), port: 7 }),
        ..client.request()
    };
    let reply = answer_to(&mut world, at(&a));
    a.take(&reply);
    let only = beat(&mut world, &mut a).endpoints.expect("it does not know yet");
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].active, [(Str::from("lines"), vec![0, 1]), (Str::from("words"), vec![0, 1])]);
    assert_eq!(beat(&mut world, &mut a).endpoints, None);
    let reply = answer_to(&mut world, at(&b));
    b.take(&reply);
    settle(&mut world, &mut [&mut a, &mut b]);
    b.endpoint_epoch = -1;
    let both = beat(&mut world, &mut b).endpoints.expect("it has forgotten");
    let partitions: usize =
        both.iter().flat_map(|one| &one.active).map(|(_, partitions)| partitions.len()).sum();
    assert_eq!((both.len(), partitions), (2, 4));
}

#[test]
fn an_empty_classic_group_gives_way_and_comes_back() {
    let (_, mut world) = world();
    let mut a = Client::of("a", "p");
    world.commit(commit_request("g", "lines", 0, 5));
    beat(&mut world, &mut a);
    assert_eq!((world.state("g"), world.offset("g", "lines", 0)), ("Stable", 5));
    // With members it does not.
    let refused = world.join(join_request("g"));
    assert_eq!(world.joined(refused).error, ErrorCode::InconsistentGroupProtocol);
    leave(&mut world, &a);
    let (_, joined) = world.join_with_id("g", "client");
    world.pass_ms(3_000);
    assert_eq!(world.joined(joined).error, ErrorCode::None);
    let joins = answer_to(&mut world, Client::of("b", "p").request());
    assert_eq!(joins.error, ErrorCode::GroupIdNotFound);
    assert_eq!(world.offset("g", "lines", 0), 5);
    let restarted = world.restarted();
    assert!(restarted.shard.describe_streams_group("g").is_err());
    assert_eq!(restarted.offset("g", "lines", 0), 5);
}

#[test]
fn what_was_made_for_a_write_that_failed_is_taken_back() {
    let (_, mut world) = world();
    world.commit(commit_request("g", "lines", 0, 5));
    world.lands_at_once = false;
    let a = Client::of("a", "p");
    let reply = ask(&mut world, a.request());
    assert!(!world.is_answered(reply), "not before the log has it");
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(answer(&world, reply).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!((world.state("g"), world.offset("g", "lines", 0)), ("Empty", 5));
    assert!(world.shard.describe_streams_group("g").is_err());
}

#[test]
fn commits_fit_to_the_member() {
    let (_, mut world) = world();
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    let of = |client: &Client, epoch: i32, topic: &str, partition: i32| CommitRequest {
        generation: epoch,
        member_id: client.id.clone(),
        ..commit_request("g", topic, partition, 7)
    };
    let commit = |world: &mut World, request: CommitRequest| {
        let reply = world.commit(request);
        match world.committed(reply) {
            CommitAnswer::Each(each) => each[0],
            CommitAnswer::Refused(error) => error,
        }
    };
    assert_eq!(commit(&mut world, of(&a, 2, "lines", 0)), ErrorCode::None);
    assert_eq!(commit(&mut world, of(&a, 3, "lines", 0)), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, of(&b, 2, "lines", 0)), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut world, commit_request("g", "lines", 0, 7)), ErrorCode::UnknownMemberId);
    let old = CommitRequest { knows_group_id_not_found: false, ..of(&a, 2, "lines", 0) };
    assert_eq!(commit(&mut world, old), ErrorCode::UnsupportedVersion);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    settle(&mut world, &mut [&mut a, &mut b]);
    // An older epoch is good for what has been its own since.
    let kept = *a.owned.active["0"].first().unwrap();
    assert_eq!(commit(&mut world, of(&a, 2, "lines", kept)), ErrorCode::None);
    assert_eq!(commit(&mut world, of(&a, 2, "lines", 1 - kept)), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, of(&a, 2, "elsewhere", kept)), ErrorCode::StaleMemberEpoch);
    let fetch =
        |world: &World, member: Option<&str>, epoch| world.shard.check_offset_fetch("g", member, epoch);
    assert_eq!(fetch(&world, None, -1), Ok(()));
    assert_eq!(fetch(&world, Some("a"), a.epoch), Ok(()));
    assert_eq!(fetch(&world, Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(&world, Some("x"), 2), Err(ErrorCode::UnknownMemberId));
    // What it reads cannot be deleted under it.
    let delete = |world: &mut World| {
        let reply = world.event(|shard, reply, _, effects| {
            shard.delete_offsets(&"g".into(), vec![("lines".into(), 0)], reply, effects);
        });
        match &world.answers[&reply] {
            Answer::DeleteOffsets(DeleteOffsetsAnswer::Each(each)) => each[0],
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world), ErrorCode::GroupSubscribedToTopic);
    leave(&mut world, &a);
    leave(&mut world, &b);
    assert_eq!(delete(&mut world), ErrorCode::None);
}

#[test]
fn an_empty_group_can_be_deleted_and_goes_when_its_offsets_are_old() {
    let (_, mut world) = world();
    let mut a = Client::of("a", "p");
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
    leave(&mut world, &a);
    assert_eq!(delete(&mut world), ErrorCode::None);
    assert_eq!((world.state("g"), world.restarted().shard.group_count()), ("Dead", 0));

    let mut b = Client::of("b", "p");
    beat(&mut world, &mut b);
    let own =
        CommitRequest { generation: b.epoch, member_id: b.id.clone(), ..commit_request("g", "lines", 0, 9) };
    world.commit(own);
    leave(&mut world, &b);
    world.pass_ms(6 * 24 * 60 * 60_000);
    assert_eq!((world.state("g"), world.offset("g", "lines", 0)), ("Empty", 9));
    world.pass_ms(2 * 24 * 60 * 60_000);
    assert_eq!((world.state("g"), world.offset("g", "lines", 0)), ("Dead", -1));
    assert_eq!(world.restarted().shard.group_count(), 0);
}

#[test]
fn a_group_is_the_same_after_a_restart_and_in_a_snapshot() {
    let (catalog, mut world) = world();
    catalog.configure(|config| config.streams_num_standby_replicas = 1);
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    let request = StreamsHeartbeatRequest {
        endpoint: Some(Endpoint { host: "here".into(), port: 80 }),
        client_tags: Some([(Str::from("zone"), Str::from("1"))].into()),
        rack_id: Some("r".into()),
        ..a.request()
    };
    let joined = answer_to(&mut world, request);
    a.take(&joined);
    world.pass_ms(2_000);
    beat(&mut world, &mut b);
    beat(&mut world, &mut a);
    world.commit(CommitRequest {
        generation: a.epoch,
        member_id: a.id.clone(),
        ..commit_request("g", "lines", 0, 9)
    });
    let before = world.shard.describe_streams_group("g").unwrap();
    assert_eq!(before.state.name(), "Reconciling");
    assert_eq!(before.topology.as_ref().unwrap().subtopologies["1"].state_changelog_topics[0].partitions, 2);
    let mut restarted = world.restarted();
    assert_eq!(restarted.shard.describe_streams_group("g").unwrap(), before);
    let (page, next) = world.shard.snapshot_page(None, usize::MAX);
    assert!(next.is_none());
    let mut short = World::with(world.shard.settings_for_tests());
    short.now = world.now;
    for record in &page {
        short.shard.replay(&record.key, record.value.as_ref(), short.now).unwrap();
    }
    short.shard.loaded(short.now);
    assert_eq!(short.shard.describe_streams_group("g").unwrap(), before);
    assert_eq!(short.offset("g", "lines", 0), 9);
    // And it goes on.
    settle(&mut restarted, &mut [&mut a, &mut b]);
    assert_eq!((a.counts(), b.counts()), ((2, 1), (2, 1)));
}

#[test]
fn a_group_of_consumers_has_its_name_to_itself() {
    let (_, mut world) = world();
    let consumer = super::consumers::Client::of("c", &["lines"]);
    super::consumers::ask(&mut world, consumer.request());
    assert_eq!(answer_to(&mut world, Client::of("a", "p").request()).error, ErrorCode::GroupIdNotFound);
    assert_eq!(world.shard.describe_streams_group("g").unwrap_err().error, ErrorCode::GroupIdNotFound);
    let mut other = World::with(world.shard.settings_for_tests());
    beat(&mut other, &mut Client::of("a", "p"));
    let reply = super::consumers::ask(&mut other, consumer.request());
    assert_eq!(super::consumers::answer(&other, reply).error, ErrorCode::GroupIdNotFound);
}

#[test]
fn a_group_has_a_bound() {
    let (catalog, _) = world();
    let mut settings = catalog.settings();
    settings.streams_group_size_max = 1;
    let mut world = World::with(settings);
    let mut a = Client::of("a", "p");
    beat(&mut world, &mut a);
    assert_eq!(answer_to(&mut world, Client::of("b", "p").request()).error, ErrorCode::GroupMaxSizeReached);
    // It may come again itself.
    a.epoch = 0;
    a.owned = TaskSets::default();
    beat(&mut world, &mut a);
    assert_eq!(a.counts(), (4, 0));
}

fn static_client(id: &str, instance_id: &str, process: &str) -> Client {
    Client { instance_id: Some(instance_id.into()), ..Client::of(id, process) }
}

fn leave_for_a_while(world: &mut World, client: &Client) -> StreamsHeartbeatAnswer {
    answer_to(world, StreamsHeartbeatRequest { epoch: -2, ..client.request() })
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (_, mut world) = world();
    let (mut a, mut b) = (static_client("a", "i", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    beat(&mut world, &mut b);
    settle(&mut world, &mut [&mut a, &mut b]);
    let epoch = a.epoch;
    let left = leave_for_a_while(&mut world, &a);
    assert_eq!((left.error, left.epoch, left.tasks), (ErrorCode::None, -2, None));
    // Nobody gets what it has.
    world.pass_ms(5_000);
    assert_eq!(beat(&mut world, &mut b).tasks, None);
    let mut world = world.restarted();
    beat(&mut world, &mut b);
    let mut back = static_client("a2", "i", "p");
    beat(&mut world, &mut back);
    assert_eq!((back.epoch, &back.owned), (epoch, &a.owned));
    assert_eq!(beat(&mut world, &mut b).tasks, None);
    assert_eq!((b.epoch, world.state("g")), (epoch, "Stable"));
    assert_eq!(world.shard.member_count(), 2);
    // Who it was before has nothing to say any more.
    assert_eq!(answer_to(&mut world, a.request()).error, ErrorCode::FencedInstanceId);
    assert_eq!(leave_for_a_while(&mut world, &a).error, ErrorCode::FencedInstanceId);
    let nameless = StreamsHeartbeatRequest { instance_id: None, ..a.request() };
    assert_eq!(answer_to(&mut world, nameless).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_does_not_come_back_is_out_when_its_session_ends() {
    let (_, mut world) = world();
    let (mut a, mut b) = (static_client("a", "i", "p"), Client::of("b", "q"));
    beat(&mut world, &mut a);
    beat(&mut world, &mut b);
    settle(&mut world, &mut [&mut a, &mut b]);
    leave_for_a_while(&mut world, &a);
    for _ in 0..10 {
        world.pass_ms(5_000);
        beat(&mut world, &mut b);
    }
    assert_eq!((world.shard.member_count(), b.counts()), (1, (4, 0)));
    assert_eq!(answer_to(&mut world, a.request()).error, ErrorCode::UnknownMemberId);
}

#[test]
fn an_instance_id_is_one_members() {
    let (_, mut world) = world();
    let mut a = static_client("a", "i", "p");
    beat(&mut world, &mut a);
    let other = answer_to(&mut world, static_client("b", "i", "q").request());
    assert_eq!(other.error, ErrorCode::UnreleasedInstanceId);
    // Its own join, whose answer was lost.
    let again = StreamsHeartbeatRequest { epoch: 0, ..static_client("a", "i", "p").request() };
    assert_eq!(answer_to(&mut world, again).error, ErrorCode::None);
    let unknown = StreamsHeartbeatRequest { instance_id: Some("j".into()), ..a.request() };
    assert_eq!(answer_to(&mut world, unknown).error, ErrorCode::UnknownMemberId);
    // With a whole goodbye the id is free.
    leave(&mut world, &a);
    beat(&mut world, &mut static_client("b", "i", "q"));
    assert_eq!(world.shard.member_count(), 1);
}

#[test]
fn an_empty_group_is_assigned_and_the_next_member_does_not_wait() {
    let (_, mut world) = world();
    let mut a = Client::of("a", "p");
    beat(&mut world, &mut a);
    leave(&mut world, &a);
    let empty = world.shard.describe_streams_group("g").unwrap();
    assert_eq!((empty.epoch, empty.assignment_epoch), (3, 3));
    let mut b = Client::of("b", "p");
    let joined = beat(&mut world, &mut b);
    assert_eq!((codes(&joined), b.counts()), (Vec::new(), (4, 0)));
}

fn node(name: &str, node_type: i8, successors: &[&str]) -> TopologyDescriptionNode {
    TopologyDescriptionNode {
        name: name.into(),
        node_type,
        source_topics: vec!["lines".into(), "lines".into()],
        sink_topic: Some("words".into()),
        stores: vec!["counted".into()],
        successors: successors.iter().map(|name| Str::from(*name)).collect(),
    }
}

fn described(nodes: Vec<TopologyDescriptionNode>) -> TopologyDescription {
    let subtopologies = vec![TopologyDescriptionSubtopology { subtopology_id: "0".into(), nodes }];
    TopologyDescription { subtopologies, global_stores: Vec::new() }
}

fn push(world: &mut World, pushed: PushedDescription) -> ErrorCode {
    let now = world.now;
    let kept = world.shard.keep_topology_description(pushed, now);
    kept.map_or_else(|refusal| refusal.error, |()| ErrorCode::None)
}

fn pushed(description: TopologyDescription) -> PushedDescription {
    PushedDescription { group: "g".into(), member_id: "a".into(), topology_epoch: 3, description }
}

fn is_asked(world: &mut World, client: &mut Client) -> bool {
    let request = StreamsHeartbeatRequest { knows_descriptions: true, ..client.request() };
    let answer = answer_to(world, request);
    client.take(&answer);
    answer.is_description_missing
}

#[test]
fn one_member_is_asked_for_a_description_until_it_is_there() {
    let (catalog, mut world) = world();
    catalog.configure(|config| config.streams_session_timeout_ms = i32::MAX);
    let (mut a, mut b) = (Client::of("a", "p"), Client::of("b", "q"));
    assert!(!beat(&mut world, &mut a).is_description_missing, "it does not know the question");
    assert!(is_asked(&mut world, &mut b));
    assert!(!is_asked(&mut world, &mut a));
    world.pass_ms(30_000);
    assert!(is_asked(&mut world, &mut a));
    world.pass_ms(59_999);
    assert!(!is_asked(&mut world, &mut a));
    world.pass_ms(1);
    assert!(is_asked(&mut world, &mut a));
    assert_eq!(push(&mut world, pushed(described(vec![node("in", 1, &["out", "out"])]))), ErrorCode::None);
    world.pass_ms(7_200_000);
    assert!(!is_asked(&mut world, &mut a));
    let kept = world.shard.describe_streams_group("g").unwrap().description.expect("was kept");
    let [only] = &kept.subtopologies[0].nodes[..] else { panic!("{kept:?}") };
    assert_eq!((only.source_topics.len(), only.successors.len()), (1, 1), "each name once");
    assert_eq!((only.sink_topic.as_ref(), only.stores.len()), (None, 0), "a source has no such thing");
    // It is in memory only, and asked for again.
    let mut restarted = world.restarted();
    assert_eq!(restarted.shard.describe_streams_group("g").unwrap().description, None);
    assert!(is_asked(&mut restarted, &mut a));
}

#[test]
fn a_description_that_does_not_fit_is_refused() {
    let (catalog, _) = world();
    let mut settings = catalog.settings();
    settings.member_metadata_bytes_max = 2_000;
    let mut world = World::with(settings);
    let fine = || described(vec![node("in", 1, &["work"]), node("work", 2, &[])]);
    assert_eq!(push(&mut world, pushed(fine())), ErrorCode::GroupIdNotFound);
    let mut a = Client::of("a", "p");
    beat(&mut world, &mut a);
    type Pushed = PushedDescription;
    let stores = |source, processor| TopologyDescription {
        subtopologies: Vec::new(),
        global_stores: vec![TopologyDescriptionGlobalStore {
            source: node("in", source, &["keep"]),
            processor: node("keep", processor, &[]),
        }],
    };
    for (wrong, expected) in [
        (Pushed { member_id: "x".into(), ..pushed(fine()) }, ErrorCode::UnknownMemberId),
        (Pushed { topology_epoch: 2, ..pushed(fine()) }, ErrorCode::InvalidRequest),
        (Pushed { topology_epoch: 4, ..pushed(fine()) }, ErrorCode::InvalidRequest),
        (pushed(described(vec![node("x", 0, &[])])), ErrorCode::InvalidRequest),
        (pushed(described(vec![node("x", 4, &[])])), ErrorCode::InvalidRequest),
        (pushed(stores(1, 1)), ErrorCode::InvalidRequest),
        (pushed(stores(2, 1)), ErrorCode::InvalidRequest),
    ] {
        let shown = format!("{wrong:?}");
        assert_eq!(push(&mut world, wrong), expected, "{shown}");
    }
    assert!(is_asked(&mut world, &mut a), "nothing was kept");
    assert_eq!(push(&mut world, pushed(stores(1, 2))), ErrorCode::None);
    let long = "n".repeat(2_000);
    let too_large = pushed(described(vec![node(&long, 2, &[])]));
    assert_eq!(push(&mut world, too_large), ErrorCode::StreamsTopologyDescriptionUpdateFailed);
    assert_eq!(world.shard.describe_streams_group("g").unwrap().description, None);
    world.pass_ms(40_000);
    assert!(!is_asked(&mut world, &mut a), "it would send the same again");
}
