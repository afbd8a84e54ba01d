use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::super::event::*;
use super::super::snapshot::SnapshotPlace;
use super::model::*;

/// What clients and tools can see of a shard after a restart.
pub fn visible(world: &World) -> Vec<String> {
    let mut seen = Vec::new();
    for group in world.shard.list() {
        let described = world.shard.describe(&group.group).unwrap();
        let offsets =
            world.shard.fetch_offsets(&FetchOffsetsRequest { group: group.group.clone(), topics: None });
        // A simple group whose offsets are gone: nothing was ever written of it.
        let is_trace =
            group.protocol_type.is_empty() && described.members.is_empty() && offsets.topics.is_empty();
        if is_trace {
            continue;
        }
        seen.push(format!("{group:?} {described:?} {offsets:?}"));
    }
    seen
}

/// The pages of a snapshot, with `between` happening after each.
fn snapshot(world: &mut World, page_bytes: usize, mut between: impl FnMut(&mut World, usize)) -> usize {
    let first = world.log.len();
    let mut place: Option<SnapshotPlace> = None;
    for page in 0.. {
        let (records, next) = world.shard.snapshot_page(place, page_bytes);
        world.log.extend(records);
        between(world, page);
        match next {
            Some(next) => place = Some(next),
            None => return first,
        }
    }
    unreachable!()
}

#[test]
fn a_stable_group_is_found_again() {
    let mut world = World::new();
    let joins = [world.join(static_join("g", "i1")), world.join_with_id("g", "b").1];
    world.pass_ms(6_000);
    let joined = world.settle("g", &joins);
    world.commit(commit_as(&joined[0], commit_request("g", "clicks", 3, 77)));
    let mut restarted = world.restarted();
    assert_eq!(visible(&restarted), visible(&world));
    // its members go on without noticing
    for one in &joined {
        assert_eq!(restarted.heartbeat("g", &one.member_id, 1), ErrorCode::None);
    }
    let next = restarted.commit(commit_as(&joined[1], commit_request("g", "clicks", 3, 78)));
    assert_eq!(restarted.committed(next), CommitAnswer::Each(vec![ErrorCode::None]));
    // and those that are gone are missed after their session
    let mut silent = world.restarted();
    silent.pass_ms(10_000);
    assert_eq!(silent.state("g"), "Empty");
}

#[test]
fn a_group_in_the_middle_of_a_rebalance_comes_back_as_it_was_written() {
    let mut world = World::new();
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(3_000);
    let joined = world.settle("g", &[join]);
    let stable = visible(&world);
    world.join_with_id("g", "b");
    world.rejoin("g", &joined[0].member_id);
    assert_eq!(world.state("g"), "CompletingRebalance");
    assert_eq!(visible(&world.restarted()), stable);
    // also through a snapshot, which repeats what was written and not what is being agreed on
    let first = snapshot(&mut world, 1 << 20, |_, _| {});
    world.log.drain(..first);
    assert_eq!(visible(&world.restarted()), stable);
}

#[test]
fn a_snapshot_alone_is_the_whole_state() {
    let mut world = World::new();
    for group in 0..20 {
        for partition in 0..30 {
            world.commit(commit_request(
                &format!("simple-{group:02}"),
                "clicks",
                partition,
                i64::from(partition),
            ));
        }
    }
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(3_000);
    world.settle("g", &[join]);
    let before = visible(&world);
    for page_bytes in [1, 1_000, 1 << 20] {
        let first = snapshot(&mut world, page_bytes, |_, _| {});
        world.log.drain(..first);
        assert_eq!(visible(&world.restarted()), before, "pages of {page_bytes} bytes");
    }
}

#[test]
fn what_happens_between_two_pages_is_not_lost() {
    let mut world = World::new();
    for partition in 0..5_000 {
        world.commit(commit_request(&format!("simple-{}", partition % 7), "clicks", partition, 1));
    }
    let first = snapshot(&mut world, 1, |world, page| {
        let page = page as i32;
        // commits before and behind the place of the snapshot, deletions, a new group
        world.commit(commit_request("simple-0", "clicks", page * 7, 100 + i64::from(page)));
        world.commit(commit_request("simple-6", "clicks", 6 + page * 7, 100 + i64::from(page)));
        world.commit(commit_request(&format!("new-{page}"), "clicks", 0, 1));
        let gone: Vec<Str> = vec![format!("simple-{}", 5 - page % 5).into()];
        world.event(|shard, reply, _, effects| shard.delete_groups(gone, reply, effects));
    });
    world.log.drain(..first);
    assert_eq!(visible(&world.restarted()), visible(&world));
}

#[test]
fn a_snapshot_counts_what_is_on_its_way_to_the_log() {
    // given a commit that was handed to the log before the snapshot and lands before it too
    let mut world = World::new();
    world.commit(commit_request("simple", "clicks", 0, 1));
    world.lands_at_once = false;
    world.commit(commit_request("simple", "clicks", 0, 2));
    let (records, next) = world.shard.snapshot_page(None, 1 << 20);
    assert!(next.is_none());
    world.land_all();
    // when everything before the snapshot is cut off
    world.log = records;
    // then the commit is still there
    assert_eq!(world.restarted().offset("simple", "clicks", 0), 2);
}

#[test]
fn offsets_of_a_group_whose_own_record_failed_are_in_a_snapshot() {
    let mut world = World::new();
    world.lands_at_once = false;
    world.join(join_request("g"));
    let commit = world.commit(commit_request("g", "clicks", 0, 5));
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    world.land(Ok(()));
    assert_eq!(world.committed(commit), CommitAnswer::Each(vec![ErrorCode::None]));
    let first = snapshot(&mut world, 1 << 20, |_, _| {});
    world.log.drain(..first);
    assert_eq!((world.offset("g", "clicks", 0), world.restarted().offset("g", "clicks", 0)), (5, 5));
}

#[test]
fn records_are_in_kafkas_format() {
    let mut world = World::new();
    world.commit(commit_request("g", "t", 1, 5));
    let record = &world.log[0];
    // type 1, "g", "t", partition 1
    assert_eq!(record.key, Bytes::from_static(b"\0\x01\0\x01g\0\x01t\0\0\0\x01"));
    let value = record.value.as_ref().unwrap();
    // version 4: offset, leader epoch, metadata, commit time, one tagged field with the topic's id
    let mut wanted = vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1];
    wanted.extend(world.now.wall_ms.to_be_bytes());
    wanted.extend([1, 0, 16]);
    wanted.extend(TOPIC_ID.0);
    assert_eq!(value[..], wanted[..]);
    // a group key has type 2
    world.join(join_request("h"));
    assert_eq!(world.log[1].key, Bytes::from_static(b"\0\x02\0\x01h"));
    assert_eq!(world.log[1].value.as_ref().unwrap()[..2], [0, 3]);
}

#[test]
fn what_cannot_be_read_is_an_error_and_other_kinds_are_passed_over() {
    let mut world = World::new();
    let now = world.now;
    // a consumer group's record of KIP-848
    world.shard.replay(&Bytes::from_static(b"\0\x03\0\x01g"), None, now).unwrap();
    assert!(world.shard.replay(&Bytes::from_static(b"\0"), None, now).is_err());
    assert!(world.shard.replay(&Bytes::from_static(b"\0\x01\0\x09g"), None, now).is_err());
    assert_eq!(world.shard.group_count(), 0);
}
