use protocol::{ErrorCode, Str};

use super::super::event::*;
use super::super::member::OfferedProtocol;
use super::super::settings::GroupSettings;
use super::model::*;

/// The initial delay of 3 s, over.
const INITIAL_MS: u64 = 3_000;

#[test]
fn three_members_agree_eagerly() {
    // given three consumers that start together
    let mut world = World::new();
    let joins: Vec<ReplyId> = ["a", "b", "c"].map(|client| world.join_with_id("g", client).1).to_vec();
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert!(joins.iter().all(|join| !world.is_answered(*join)), "the group waits for more members");
    // when the initial delay is over (it is prolonged once, because members came during it)
    world.pass_ms(INITIAL_MS);
    assert!(!world.is_answered(joins[0]));
    world.pass_ms(INITIAL_MS);
    // then all are in generation 1, one of them leads and knows everybody
    let joined = world.settle("g", &joins);
    assert!(joined.iter().all(|one| one.generation == 1 && one.protocol_name == Some("range".into())));
    assert_eq!(joined.iter().filter(|one| !one.members.is_empty()).count(), 1);
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn one_leaves_and_the_others_join_again() {
    let mut world = World::new();
    let joins: Vec<ReplyId> = ["a", "b", "c"].map(|client| world.join_with_id("g", client).1).to_vec();
    world.pass_ms(2 * INITIAL_MS);
    let joined = world.settle("g", &joins);
    // when a follower leaves
    let leaving = joined.iter().find(|one| one.leader != one.member_id).unwrap().member_id.clone();
    let left = world.leave("g", &leaving);
    assert_eq!(world.left(left).members[0].1, ErrorCode::None);
    // then heartbeats of the others say so, and the rebalance ends when both are back
    let staying: Vec<&JoinAnswer> = joined.iter().filter(|one| one.member_id != leaving).collect();
    for one in &staying {
        assert_eq!(world.heartbeat("g", &one.member_id, 1), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(world.heartbeat("g", &leaving, 1), ErrorCode::UnknownMemberId);
    let first = world.rejoin("g", &staying[0].member_id);
    assert!(!world.is_answered(first));
    let second = world.rejoin("g", &staying[1].member_id);
    let joined = world.settle("g", &[first, second]);
    assert!(joined.iter().all(|one| one.generation == 2));
}

#[test]
fn cooperative_members_rebalance_twice() {
    // given a stable cooperative group of one
    let mut world = World::new();
    let cooperative = |topics: &[&str]| JoinRequest {
        protocols: vec![offers("cooperative-sticky", topics)],
        ..join_request("g")
    };
    let first = world.join(cooperative(&["clicks"]));
    let a = world.joined(first).member_id;
    let join_a = world.join(JoinRequest { member_id: a.clone(), ..cooperative(&["clicks"]) });
    world.pass_ms(INITIAL_MS);
    world.settle("g", &[join_a]);
    // when a second one comes, the first rejoins with what it owns, and gives some of it back in this generation
    let first = world.join(cooperative(&["clicks"]));
    let b = world.joined(first).member_id;
    let join_b = world.join(JoinRequest { member_id: b.clone(), ..cooperative(&["clicks"]) });
    assert_eq!(world.heartbeat("g", &a, 1), ErrorCode::RebalanceInProgress);
    let owned = vec![offers("cooperative-sticky", &["clicks", "owned"])];
    let join_a = world.join(JoinRequest { member_id: a.clone(), protocols: owned, ..cooperative(&[]) });
    let joined = world.settle("g", &[join_a, join_b]);
    assert_eq!(joined[0].generation, 2);
    // then the one that revoked joins again, which makes the second rebalance
    let join_a = world.join(JoinRequest { member_id: a.clone(), ..cooperative(&["clicks"]) });
    assert_eq!(world.heartbeat("g", &b, 2), ErrorCode::RebalanceInProgress);
    let join_b = world.join(JoinRequest { member_id: b.clone(), ..cooperative(&["clicks"]) });
    let joined = world.settle("g", &[join_a, join_b]);
    assert!(joined.iter().all(|one| one.generation == 3 && one.error == ErrorCode::None));
}

fn stable_statics(world: &mut World) -> Vec<JoinAnswer> {
    let joins = ["i1", "i2"].map(|instance| world.join(static_join("g", instance)));
    world.pass_ms(2 * INITIAL_MS);
    let joined: Vec<JoinAnswer> = joins.iter().map(|join| world.joined(*join)).collect();
    for one in &joined {
        let assignments =
            one.members.iter().map(|m| (m.member_id.clone(), assignment_of(&m.member_id))).collect();
        let sync = SyncRequest {
            group: "g".into(),
            generation: one.generation,
            member_id: one.member_id.clone(),
            instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments,
        };
        world.event(|shard, reply, now, effects| shard.sync(sync, reply, now, effects));
    }
    assert_eq!(world.state("g"), "Stable");
    joined
}

#[test]
fn a_static_member_restarts_without_a_rebalance() {
    let mut world = World::new();
    let joined = stable_statics(&mut world);
    for (instance, before) in ["i1", "i2"].iter().zip(&joined) {
        let was_leader = before.leader == before.member_id;
        // when it comes back without its member id
        let again = world.join(static_join("g", instance));
        let answer = world.joined(again);
        // then it is in the same generation under a new id, and the leader need not assign anew (KIP-814)
        assert_eq!((answer.error, answer.generation), (ErrorCode::None, 1));
        assert_ne!(answer.member_id, before.member_id);
        assert_eq!(answer.skip_assignment, was_leader);
        assert_eq!(answer.members.is_empty(), !was_leader);
        assert_eq!(world.state("g"), "Stable");
        // and gets the assignment of its old self
        let synced = world.sync("g", &answer, Vec::new());
        assert_eq!(world.synced(synced).assignment, assignment_of(&before.member_id));
        // and the old self is fenced
        let beat = HeartbeatRequest {
            group: "g".into(),
            generation: 1,
            member_id: before.member_id.clone(),
            instance_id: Some((*instance).into()),
        };
        assert_eq!(world.shard.heartbeat(&beat, world.now), ErrorCode::FencedInstanceId);
    }
}

#[test]
fn a_static_leader_with_an_old_client_is_told_its_old_name() {
    // given a client that does not know KIP-814
    let mut world = World::new();
    let joined = stable_statics(&mut world);
    let (instance, before) =
        ["i1", "i2"].into_iter().zip(&joined).find(|(_, one)| one.leader == one.member_id).unwrap();
    let again = world.join(JoinRequest { can_skip_assignment: false, ..static_join("g", instance) });
    // then it does not recognise itself as the leader, so it does not assign anew
    let answer = world.joined(again);
    assert_eq!(answer.leader, before.member_id);
    assert!(answer.members.is_empty() && !answer.skip_assignment);
}

#[test]
fn a_static_member_whose_new_id_is_not_written_keeps_its_old_one() {
    let mut world = World::new();
    let joined = stable_statics(&mut world);
    world.lands_at_once = false;
    let again = world.join(static_join("g", "i1"));
    assert!(!world.is_answered(again));
    world.land(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.joined(again).error, ErrorCode::NotCoordinator);
    assert_eq!(world.heartbeat("g", &joined[0].member_id, 1), ErrorCode::None);
}

/// Its place was taken for a moment by one that offered more, and somebody joined who knows only that.
#[test]
fn a_static_member_that_has_nothing_in_common_with_the_others_any_more_is_dropped() {
    let mut world = World::new();
    let both = || vec![offers("range", &["clicks"]), offers("sticky", &["clicks"])];
    let at_once = |protocols| JoinRequest { protocols, requires_known_member_id: false, ..join_request("g") };
    let joins = [world.join(static_join("g", "i1")), world.join(at_once(both()))];
    world.pass_ms(6_000);
    let joined = world.settle("g", &joins);
    world.lands_at_once = false;
    let restarted = world.join(JoinRequest { protocols: both(), ..static_join("g", "i1") });
    let sticky = world.join(at_once(vec![offers("sticky", &["clicks"])]));
    assert_eq!(world.state("g"), "PreparingRebalance");
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(world.joined(restarted).error, ErrorCode::CoordinatorNotAvailable);
    world.join(JoinRequest { member_id: joined[1].member_id.clone(), ..at_once(both()) });
    let answer = world.joined(sticky);
    assert_eq!((answer.error, answer.protocol_name), (ErrorCode::None, Some("sticky".into())));
}

#[test]
fn a_second_client_with_the_same_instance_id_fences_the_first() {
    let mut world = World::new();
    let joined = stable_statics(&mut world);
    let follower = joined.iter().position(|one| one.leader != one.member_id).unwrap();
    let instance = ["i1", "i2"][follower];
    // given the leader prepares a rebalance, and the static member waits in it
    let leader = &joined[1 - follower];
    world.join(JoinRequest {
        member_id: leader.member_id.clone(),
        ..static_join("g", ["i1", "i2"][1 - follower])
    });
    let waits = world
        .join(JoinRequest { member_id: joined[follower].member_id.clone(), ..static_join("g", instance) });
    // both came, so the rebalance is over; the next one begins when the leader joins again
    assert!(world.is_answered(waits));
    world.join(JoinRequest {
        member_id: leader.member_id.clone(),
        ..static_join("g", ["i1", "i2"][1 - follower])
    });
    assert_eq!(world.state("g"), "CompletingRebalance");
    let synced = SyncRequest {
        group: "g".into(),
        generation: 2,
        member_id: joined[follower].member_id.clone(),
        instance_id: Some(instance.into()),
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    let synced = world.event(|shard, reply, now, effects| shard.sync(synced, reply, now, effects));
    // when another client claims the instance id
    let usurper = world.join(static_join("g", instance));
    // then the first is told so, and everybody joins again
    assert_eq!(world.synced(synced).error, ErrorCode::FencedInstanceId);
    assert!(!world.is_answered(usurper));
    assert_eq!(world.state("g"), "PreparingRebalance");
}

#[test]
fn a_member_that_falls_silent_is_removed_after_its_session() {
    let mut world = World::new();
    let (a, join_a) = world.join_with_id("g", "a");
    let (b, join_b) = world.join_with_id("g", "b");
    world.pass_ms(2 * INITIAL_MS);
    world.settle("g", &[join_a, join_b]);
    // when only a sends heartbeats
    for _ in 0..3 {
        world.pass_ms(4_000);
        world.heartbeat("g", &a, 1);
    }
    // then b is gone after 10 s, and a is told to join again
    assert_eq!(world.heartbeat("g", &b, 1), ErrorCode::UnknownMemberId);
    assert_eq!(world.heartbeat("g", &a, 1), ErrorCode::RebalanceInProgress);
    let join_a = world.rejoin("g", &a);
    assert_eq!(world.settle("g", &[join_a])[0].generation, 2);
    // and when a falls silent as well, the group is empty, and that is written
    let records_before = world.log.len();
    world.pass_ms(10_000);
    assert_eq!(world.state("g"), "Empty");
    assert_eq!(world.log.len(), records_before + 1);
}

#[test]
fn who_does_not_rejoin_in_time_is_left_behind() {
    let mut world = World::new();
    let (a, join_a) = world.join_with_id("g", "a");
    let (b, join_b) = world.join_with_id("g", "b");
    world.pass_ms(2 * INITIAL_MS);
    let joined = world.settle("g", &[join_a, join_b]);
    let leader = joined.iter().find(|one| one.leader == one.member_id).unwrap().member_id.clone();
    let follower = if leader == a { b } else { a };
    // given the follower starts a rebalance by new metadata, and the leader only sends heartbeats
    let changed = vec![offers("range", &["clicks", "views"])];
    let join =
        world.join(JoinRequest { member_id: follower.clone(), protocols: changed, ..join_request("g") });
    for _ in 0..14 {
        world.pass_ms(4_500);
        world.heartbeat("g", &leader, 1);
    }
    // then the rebalance time-out of 60 s ends it: the follower leads, the old leader is out
    let answer = world.joined(join);
    assert_eq!((answer.generation, answer.leader.clone()), (2, follower));
    assert_eq!(world.heartbeat("g", &leader, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn members_that_do_not_sync_are_removed() {
    let mut world = World::new();
    let (a, join_a) = world.join_with_id("g", "a");
    let (b, join_b) = world.join_with_id("g", "b");
    world.pass_ms(2 * INITIAL_MS);
    let (joined_a, joined_b) = (world.joined(join_a), world.joined(join_b));
    // given only the follower syncs; both send heartbeats
    let follower = if joined_a.leader == a { &joined_b } else { &joined_a };
    let sync = world.sync("g", follower, Vec::new());
    for _ in 0..14 {
        world.pass_ms(4_500);
        world.heartbeat("g", &a, 1);
        world.heartbeat("g", &b, 1);
    }
    // then after the rebalance time-out the leader is removed, and the follower joins again
    assert_eq!(world.synced(sync).error, ErrorCode::RebalanceInProgress);
    let leader = if joined_a.leader == a { &a } else { &b };
    assert_eq!(world.heartbeat("g", leader, 1), ErrorCode::UnknownMemberId);
    assert_eq!(world.state("g"), "PreparingRebalance");
}

#[test]
fn an_assignment_that_cannot_be_written_is_not_given_out() {
    let mut world = World::new();
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(2 * INITIAL_MS);
    let joined = world.joined(join);
    world.lands_at_once = false;
    let sync = world.sync("g", &joined, vec![(joined.member_id.clone(), assignment_of("a"))]);
    assert!(!world.is_answered(sync), "first the log, then the answer");
    world.land(Err(ErrorCode::NotCoordinator));
    let synced = world.synced(sync);
    assert_eq!((synced.error, synced.assignment.len()), (ErrorCode::NotCoordinator, 0));
    assert_eq!(world.state("g"), "PreparingRebalance");
}

#[test]
fn a_rebalance_overtakes_an_assignment_on_its_way_to_the_log() {
    let mut world = World::new();
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(2 * INITIAL_MS);
    let joined = world.joined(join);
    world.lands_at_once = false;
    let sync = world.sync("g", &joined, vec![(joined.member_id.clone(), assignment_of("a"))]);
    // when somebody joins before the write lands
    let (_, join_b) = world.join_with_id("g", "b");
    assert_eq!(world.synced(sync).error, ErrorCode::RebalanceInProgress);
    world.land_all();
    // then the old assignment changes nothing
    assert_eq!(world.state("g"), "PreparingRebalance");
    assert!(!world.is_answered(join_b));
}

#[test]
fn the_first_answer_waits_for_the_group_to_be_written() {
    let mut world = World::new();
    world.lands_at_once = false;
    let first = world.join(join_request("g"));
    assert!(!world.is_answered(first));
    world.land(Ok(()));
    assert_eq!(world.joined(first).error, ErrorCode::MemberIdRequired);
    let first = world.join(join_request("h"));
    world.land(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.joined(first).error, ErrorCode::NotCoordinator);
    assert_eq!(world.state("h"), "Dead");
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let mut world = World::new();
    let first = world.join(join_request("g"));
    let id = world.joined(first).member_id;
    world.pass_ms(10_001);
    let late = world.rejoin("g", &id);
    assert_eq!(world.joined(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn who_leaves_before_it_has_joined_costs_the_others_nothing() {
    let mut world = World::new();
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(3_000);
    world.settle("g", &[join]);
    let given = world.join(join_request("g"));
    let member_id = world.joined(given).member_id;
    let left = world.leave("g", &member_id);
    assert_eq!(world.left(left).members[0].1, ErrorCode::None);
    assert_eq!(world.state("g"), "Stable");
}

#[test]
fn what_joiners_are_refused_for() {
    let mut world = World::with(GroupSettings { group_size_max: 1, ..GroupSettings::default() });
    let refused = |world: &mut World, request: JoinRequest| {
        let join = world.join(request);
        world.joined(join).error
    };
    let short = JoinRequest { session_timeout_ms: 5_999, ..join_request("g") };
    assert_eq!(refused(&mut world, short), ErrorCode::InvalidSessionTimeout);
    let unknown = JoinRequest { member_id: "nobody".into(), ..join_request("g") };
    assert_eq!(refused(&mut world, unknown), ErrorCode::UnknownMemberId);
    let nothing = JoinRequest { protocols: Vec::new(), ..join_request("g") };
    assert_eq!(refused(&mut world, nothing), ErrorCode::InconsistentGroupProtocol);
    let huge = OfferedProtocol { name: "range".into(), metadata: vec![0; (1 << 20) + 1].into() };
    let huge = JoinRequest { protocols: vec![huge], ..join_request("g") };
    assert_eq!(refused(&mut world, huge), ErrorCode::MessageTooLarge);

    let (a, join_a) = world.join_with_id("g", "a");
    assert_eq!(refused(&mut world, join_request("g")), ErrorCode::GroupMaxSizeReached);
    world.pass_ms(2 * INITIAL_MS);
    world.settle("g", &[join_a]);
    assert_eq!(refused(&mut world, join_request("g")), ErrorCode::GroupMaxSizeReached);
    let other = JoinRequest { protocol_type: "connect".into(), member_id: a, ..join_request("g") };
    assert_eq!(refused(&mut world, other), ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn what_syncers_are_refused_for() {
    let mut world = World::new();
    let (_, join) = world.join_with_id("g", "a");
    world.pass_ms(2 * INITIAL_MS);
    let joined = world.joined(join);
    let good = SyncRequest {
        group: "g".into(),
        generation: 1,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: Vec::new(),
    };
    let cases = [
        (SyncRequest { group: "other".into(), ..good.clone() }, ErrorCode::UnknownMemberId),
        (SyncRequest { member_id: "nobody".into(), ..good.clone() }, ErrorCode::UnknownMemberId),
        (SyncRequest { generation: 2, ..good.clone() }, ErrorCode::IllegalGeneration),
        (
            SyncRequest { protocol_type: Some("connect".into()), ..good.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncRequest { protocol_name: Some("sticky".into()), ..good.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
    ];
    for (request, error) in cases {
        let sync = world.event(|shard, reply, now, effects| shard.sync(request, reply, now, effects));
        assert_eq!(world.synced(sync).error, error);
    }
}

#[test]
fn members_vote_for_the_protocol_they_all_know() {
    let mut world = World::new();
    let offer = |names: &[&str]| names.iter().map(|name| offers(name, &["clicks"])).collect::<Vec<_>>();
    let joins: Vec<ReplyId> = [&["range", "sticky"][..], &["sticky", "range"], &["sticky", "other", "range"]]
        .into_iter()
        .map(|names| {
            let request = JoinRequest { protocols: offer(names), ..join_request("g") };
            let first = world.join(request.clone());
            world.join(JoinRequest { member_id: world.joined(first).member_id, ..request })
        })
        .collect();
    world.pass_ms(2 * INITIAL_MS);
    assert!(joins.iter().all(|join| world.joined(*join).protocol_name == Some("sticky".into())));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut world = World::new();
    stable_statics(&mut world);
    let members = vec![
        LeavingMember { member_id: Str::default(), instance_id: Some("i1".into()) },
        LeavingMember { member_id: Str::default(), instance_id: Some("nobody".into()) },
        LeavingMember { member_id: "wrong".into(), instance_id: Some("i2".into()) },
    ];
    let leave = LeaveRequest { group: "g".into(), members };
    let left = world.event(|shard, reply, now, effects| shard.leave(leave, reply, now, effects));
    let errors: Vec<ErrorCode> = world.left(left).members.iter().map(|(_, error)| *error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId]);
    assert_eq!(world.state("g"), "PreparingRebalance");
}

#[test]
fn a_leader_that_leaves_while_others_wait_for_it_keeps_nobody_waiting() {
    let mut world = World::new();
    let (_, join_a) = world.join_with_id("g", "a");
    let (_, join_b) = world.join_with_id("g", "b");
    world.pass_ms(2 * INITIAL_MS);
    let joined = [world.joined(join_a), world.joined(join_b)];
    let syncs: Vec<ReplyId> = joined
        .iter()
        .filter(|one| one.leader != one.member_id)
        .map(|one| world.sync("g", one, Vec::new()))
        .collect();
    let leader = joined[0].leader.clone();
    world.leave("g", &leader);
    assert_eq!(world.synced(syncs[0]).error, ErrorCode::RebalanceInProgress);
}
