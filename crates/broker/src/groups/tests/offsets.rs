use protocol::{ErrorCode, Str, Uuid};

use super::super::event::*;
use super::super::settings::GroupSettings;
use super::model::*;

const DAY_MS: u64 = 24 * 60 * 60_000;

fn stable(world: &mut World) -> JoinAnswer {
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(3_000);
    world.settle("g", &[join]).remove(0)
}

#[test]
fn a_commit_is_seen_when_it_is_in_the_log() {
    let mut world = World::new();
    world.lands_at_once = false;
    let commit = world.commit(commit_request("simple", "clicks", 0, 42));
    assert!(!world.is_answered(commit));
    assert_eq!(world.offset("simple", "clicks", 0), -1);
    world.land(Ok(()));
    assert_eq!(world.committed(commit), CommitAnswer::Each(vec![ErrorCode::None]));
    assert_eq!(world.offset("simple", "clicks", 0), 42);
}

#[test]
fn a_commit_that_fails_leaves_what_was_there() {
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 41));
    world.lands_at_once = false;
    let failing = world.commit(commit_request("simple", "clicks", 0, 42));
    let other = world.commit(commit_request("fresh", "clicks", 0, 1));
    world.land(Err(ErrorCode::NotCoordinator));
    world.land(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.committed(failing), CommitAnswer::Refused(ErrorCode::NotCoordinator));
    assert_eq!(world.committed(other), CommitAnswer::Refused(ErrorCode::NotCoordinator));
    assert_eq!(world.offset("simple", "clicks", 0), 41);
    assert_eq!(world.state("fresh"), "Dead");
}

#[test]
fn a_stable_fetch_waits_for_commits_under_way() {
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 41));
    world.lands_at_once = false;
    world.commit(commit_request("simple", "clicks", 0, 42));
    let request = FetchOffsetsRequest { group: "simple".into(), topics: None };
    let fetch = world.event(|shard, reply, _, effects| shard.fetch_stable_offsets(&request, reply, effects));
    assert!(!world.is_answered(fetch));
    assert_eq!(world.offset("simple", "clicks", 0), 41, "others read on");
    world.land_all();
    let Answer::Fetch(Ok(fetched)) = &world.answers[&fetch] else { panic!() };
    assert_eq!(fetched.topics[0].partitions[0].offset, 42);
}

#[test]
fn a_stable_fetch_says_nothing_of_a_commit_that_failed() {
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 41));
    world.lands_at_once = false;
    world.commit(commit_request("simple", "clicks", 0, 42));
    // Behind it one that the log takes.
    world.commit(commit_request("other", "clicks", 0, 1));
    let request = FetchOffsetsRequest { group: "simple".into(), topics: None };
    let waits = world.event(|shard, reply, _, effects| shard.fetch_stable_offsets(&request, reply, effects));
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    world.land(Ok(()));
    assert_eq!(world.answers[&waits], Answer::Fetch(Err(ErrorCode::CoordinatorNotAvailable)));
    let again = world.event(|shard, reply, _, effects| shard.fetch_stable_offsets(&request, reply, effects));
    let Answer::Fetch(Ok(fetched)) = &world.answers[&again] else { panic!() };
    assert_eq!(fetched.topics[0].partitions[0].offset, 41);
}

#[test]
fn commits_belong_to_a_member_of_the_generation() {
    let mut world = World::new();
    let joined = stable(&mut world);
    let good = commit_as(&joined, commit_request("g", "clicks", 0, 5));
    let refused = |world: &mut World, request: CommitRequest| {
        let commit = world.commit(request);
        match world.committed(commit) {
            CommitAnswer::Refused(error) => error,
            CommitAnswer::Each(each) => each[0],
        }
    };
    let wrong_generation = CommitRequest { generation: 2, ..good.clone() };
    assert_eq!(refused(&mut world, wrong_generation), ErrorCode::IllegalGeneration);
    let nobody = CommitRequest { member_id: "nobody".into(), ..good.clone() };
    assert_eq!(refused(&mut world, nobody), ErrorCode::UnknownMemberId);
    let claims = CommitRequest { instance_id: Some("i1".into()), ..good.clone() };
    assert_eq!(refused(&mut world, claims), ErrorCode::UnknownMemberId);
    // a tool must not write into a group that lives
    assert_eq!(refused(&mut world, commit_request("g", "clicks", 0, 9)), ErrorCode::UnknownMemberId);
    // an unknown group, told in the words the client knows
    let unknown = CommitRequest { group: "unknown".into(), ..good.clone() };
    assert_eq!(refused(&mut world, unknown.clone()), ErrorCode::GroupIdNotFound);
    let old_client = CommitRequest { knows_group_id_not_found: false, ..unknown };
    assert_eq!(refused(&mut world, old_client), ErrorCode::IllegalGeneration);
    assert_eq!(refused(&mut world, good.clone()), ErrorCode::None);
    // between the phases of a rebalance it may not commit
    let (_, join_b) = world.join_with_id("g", "b");
    assert_eq!(
        refused(&mut world, good),
        ErrorCode::None,
        "while others are waited for, the old assignment holds"
    );
    let join_a = world.rejoin("g", &joined.member_id);
    let joined = world.joined(join_a);
    assert!(world.is_answered(join_b));
    let early = commit_as(&joined, commit_request("g", "clicks", 0, 6));
    assert_eq!(refused(&mut world, early), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_commit_keeps_the_session() {
    let mut world = World::new();
    let joined = stable(&mut world);
    for offset in 0..5 {
        world.pass_ms(8_000);
        world.commit(commit_as(&joined, commit_request("g", "clicks", 0, offset)));
    }
    assert_eq!(world.heartbeat("g", &joined.member_id, 1), ErrorCode::None);
}

#[test]
fn metadata_has_a_limit_of_its_own() {
    let mut world = World::new();
    let mut request = commit_request("simple", "clicks", 0, 1);
    let mut second = request.offsets[0].clone();
    second.partition = 1;
    second.metadata = "x".repeat(4_097).into();
    request.offsets.push(second.clone());
    // Kafka counts UTF-16 units: these are 4,096 of them in 8,192 bytes
    second.partition = 2;
    second.metadata = "é".repeat(4_096).into();
    request.offsets.push(second);
    let commit = world.commit(request);
    let each = [ErrorCode::None, ErrorCode::OffsetMetadataTooLarge, ErrorCode::None];
    assert_eq!(world.committed(commit), CommitAnswer::Each(each.to_vec()));
    assert_eq!(world.offset("simple", "clicks", 1), -1);
}

#[test]
fn offsets_of_an_earlier_topic_of_that_name_do_not_count() {
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 7));
    let fetch = |world: &World, topic_id| {
        let topics = vec![FetchTopic { topic: "clicks".into(), topic_id, partitions: vec![0] }];
        let request = FetchOffsetsRequest { group: "simple".into(), topics: Some(topics) };
        world.shard.fetch_offsets(&request).topics[0].partitions[0].offset
    };
    assert_eq!(fetch(&world, TOPIC_ID), 7);
    assert_eq!(fetch(&world, Uuid([8; 16])), -1);
}

#[test]
fn offsets_are_deleted_unless_somebody_reads_the_topic() {
    let mut world = World::new();
    let joined = stable(&mut world);
    world.commit(commit_as(&joined, commit_request("g", "clicks", 0, 1)));
    world.commit(commit_as(&joined, commit_request("g", "views", 0, 2)));
    let partitions: Vec<(Str, i32)> = vec![("clicks".into(), 0), ("views".into(), 0), ("views".into(), 9)];
    let delete = world.event(|shard, reply, _, effects| {
        shard.delete_offsets(&"g".into(), partitions, reply, effects);
    });
    let Answer::DeleteOffsets(answer) = &world.answers[&delete] else { panic!() };
    let each = [ErrorCode::GroupSubscribedToTopic, ErrorCode::None, ErrorCode::None];
    assert_eq!(*answer, DeleteOffsetsAnswer::Each(each.to_vec()));
    assert_eq!((world.offset("g", "clicks", 0), world.offset("g", "views", 0)), (1, -1));
    // no such group
    let delete = world.event(|shard, reply, _, effects| {
        shard.delete_offsets(&"nobody".into(), vec![("clicks".into(), 0)], reply, effects);
    });
    let Answer::DeleteOffsets(answer) = &world.answers[&delete] else { panic!() };
    assert_eq!(*answer, DeleteOffsetsAnswer::Refused(ErrorCode::GroupIdNotFound));
}

#[test]
fn offsets_of_an_empty_group_expire_together() {
    let mut world = World::new();
    let joined = stable(&mut world);
    world.commit(commit_as(&joined, commit_request("g", "clicks", 0, 1)));
    world.commit(commit_request("simple", "clicks", 0, 2));
    // given the group lives on for 5 days, then ends
    for _ in 0..(5 * DAY_MS / 9_000) {
        world.pass_ms(9_000);
        world.heartbeat("g", &joined.member_id, 1);
    }
    world.leave("g", &joined.member_id);
    // when 3 days later the commit is 8 days old
    world.pass_ms(3 * DAY_MS);
    // then the simple group's offset is gone, and the group with it; the other one still is the group's
    assert_eq!(world.state("simple"), "Dead");
    assert_eq!(world.offset("g", "clicks", 0), 1);
    // and a week after it became empty it goes too
    world.pass_ms(4 * DAY_MS + 600_000);
    assert_eq!((world.state("g"), world.offset("g", "clicks", 0)), ("Dead", -1));
    assert_eq!(world.restarted().shard.group_count(), 0);
}

#[test]
fn a_living_group_loses_only_offsets_of_topics_it_does_not_read() {
    let mut world = World::new();
    let joined = stable(&mut world);
    world.commit(commit_as(&joined, commit_request("g", "clicks", 0, 1)));
    world.commit(commit_as(&joined, commit_request("g", "views", 0, 2)));
    for _ in 0..(8 * DAY_MS / 9_000) {
        world.pass_ms(9_000);
        world.heartbeat("g", &joined.member_id, 1);
    }
    assert_eq!((world.offset("g", "clicks", 0), world.offset("g", "views", 0)), (1, -1));
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn a_retention_of_its_own_counts() {
    let mut world = World::with(GroupSettings::default());
    world.commit(CommitRequest { retention_ms: Some(3_600_000), ..commit_request("simple", "clicks", 0, 1) });
    world.pass_ms(3_600_000 - 1_000);
    assert_eq!(world.offset("simple", "clicks", 0), 1);
    let mut restarted = world.restarted();
    world.pass_ms(601_000);
    restarted.pass_ms(601_000);
    assert_eq!((world.state("simple"), restarted.state("simple")), ("Dead", "Dead"));
}

#[test]
fn offsets_of_a_deleted_topic_go() {
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 1));
    world.commit(commit_request("simple", "views", 0, 2));
    world.lands_at_once = false;
    world.commit(commit_request("simple", "clicks", 1, 3));
    world.event(|shard, _, _, effects| shard.topics_deleted(&[("clicks".into(), TOPIC_ID)], effects));
    world.land_all();
    let offsets =
        [("clicks", 0), ("clicks", 1), ("views", 0)].map(|(topic, p)| world.offset("simple", topic, p));
    assert_eq!(offsets, [-1, -1, 2]);
    // and after a restart those of a topic that went unnoticed
    world.event(|shard, _, _, effects| shard.drop_offsets_of_gone_topics(|_| Some(Uuid([9; 16])), effects));
    world.land_all();
    assert_eq!(world.offset("simple", "views", 0), -1);
}

#[test]
fn groups_are_deleted_when_they_are_empty() {
    let mut world = World::new();
    let joined = stable(&mut world);
    world.commit(commit_request("simple", "clicks", 0, 2));
    let delete = |world: &mut World, groups: &[&str]| {
        let groups: Vec<Str> = groups.iter().map(|group| Str::from(*group)).collect();
        let reply = world.event(|shard, reply, _, effects| shard.delete_groups(groups, reply, effects));
        match &world.answers[&reply] {
            Answer::DeleteGroups(deleted) => {
                deleted.groups.iter().map(|(_, error)| *error).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let errors = delete(&mut world, &["g", "simple", "nobody"]);
    assert_eq!(errors, [ErrorCode::NonEmptyGroup, ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert_eq!((world.state("simple"), world.offset("simple", "clicks", 0)), ("Dead", -1));
    world.leave("g", &joined.member_id);
    assert_eq!(delete(&mut world, &["g"]), [ErrorCode::None]);
    assert_eq!(world.restarted().shard.group_count(), 0);
}

#[test]
fn the_number_of_offsets_is_bounded() {
    let mut world = World::with(GroupSettings { offsets_per_partition_max: 2, ..GroupSettings::default() });
    for partition in 0..2 {
        world.commit(commit_request("simple", "clicks", partition, 1));
    }
    let third = world.commit(commit_request("simple", "clicks", 2, 1));
    assert_eq!(world.committed(third), CommitAnswer::Refused(ErrorCode::PolicyViolation));
    let again = world.commit(commit_request("simple", "clicks", 1, 2));
    assert_eq!(world.committed(again), CommitAnswer::Each(vec![ErrorCode::None]));
}
