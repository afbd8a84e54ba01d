//! One share partition, from its beginning to its end.

use std::sync::Arc;

use protocol::ErrorCode;

use super::super::event::{Answer, Asked, ReadState, StateSummary, Told as Says, WriteState};
use super::super::state::{ShareKey, StateBatch};
use super::{GONE, Told, key};
use crate::coordinators::{StateMachine, StateMemory};

fn batch(first_offset: i64, last_offset: i64, delivery_state: i8, delivery_count: i16) -> StateBatch {
    StateBatch { first_offset, last_offset, delivery_state, delivery_count }
}

fn write(state_epoch: i32, leader_epoch: i32, start_offset: i64, batches: &[StateBatch]) -> Asked {
    Asked::Write(WriteState {
        state_epoch,
        leader_epoch,
        start_offset,
        delivery_complete_count: 3,
        batches: batches.to_vec(),
    })
}

fn begin(state_epoch: i32, start_offset: i64) -> Asked {
    Asked::Initialize { state_epoch, start_offset }
}

const DELETE: Asked = Asked::Delete { state_epoch: -1 };

fn state(answer: Answer) -> ReadState {
    match answer {
        Ok(Says::State(state)) => state,
        other => panic!("not a state: {other:?}"),
    }
}

fn error(answer: Answer) -> ErrorCode {
    answer.expect_err("refused").error
}

#[test]
fn what_is_written_is_read_by_the_next_leader_and_after_a_replay() {
    let mut told = Told::new();
    assert_eq!(error(told.ask(&key(0), Asked::Read { leader_epoch: 1 })), ErrorCode::InvalidRequest);
    assert_eq!(told.ask(&key(0), begin(2, -1)), Ok(Says::Done));
    let read = state(told.ask(&key(0), Asked::Read { leader_epoch: 1 }));
    assert_eq!((read.state_epoch, read.start_offset), (2, -1));
    told.ask(&key(0), write(2, 1, 10, &[batch(12, 15, 2, 1), batch(16, 20, 0, 1)])).unwrap();
    told.ask(&key(0), write(2, 1, 11, &[batch(16, 17, 4, 2)])).unwrap();
    let expected = [batch(12, 15, 2, 1), batch(16, 17, 4, 2), batch(18, 20, 0, 1)];
    let read = state(told.ask(&key(0), Asked::Read { leader_epoch: 2 }));
    assert_eq!((read.start_offset, &read.batches[..]), (11, &expected[..]));
    assert_eq!(told.replayed().state(&key(0)).unwrap().batches(), expected);
    let summary =
        StateSummary { state_epoch: 2, leader_epoch: 2, start_offset: 11, delivery_complete_count: 3 };
    assert_eq!(told.ask(&key(0), Asked::Summary), Ok(Says::Summary(summary)));
}

#[test]
fn share_partitions_weigh_as_long_as_they_are_there() {
    let memory = Arc::new(StateMemory::new(600));
    let mut told = Told::with(memory.clone());
    told.ask(&key(0), begin(2, 0)).unwrap();
    told.ask(&key(1), begin(2, 0)).unwrap();
    let two = memory.used();
    // There is no room for a third; who is there goes on, and has what is kept of it counted.
    assert_eq!(error(told.ask(&key(2), begin(2, 0))), ErrorCode::PolicyViolation);
    told.ask(&key(0), Asked::Read { leader_epoch: 1 }).unwrap();
    told.ask(&key(0), write(2, 1, 0, &[batch(12, 15, 2, 1), batch(16, 20, 0, 1)])).unwrap();
    assert!(memory.used() > two && memory.is_full());
    told.ask(&key(0), begin(3, 0)).unwrap();
    assert_eq!(memory.used(), two);
    told.ask(&key(1), DELETE).unwrap();
    assert_eq!(memory.used(), two / 2);
    drop(told);
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_leader_before_this_one_is_fenced_and_so_is_a_beginning_before_this_one() {
    let mut told = Told::new();
    told.ask(&key(0), begin(2, 0)).unwrap();
    told.ask(&key(0), Asked::Read { leader_epoch: 5 }).unwrap();
    assert_eq!(error(told.ask(&key(0), Asked::Read { leader_epoch: 4 })), ErrorCode::FencedLeaderEpoch);
    assert_eq!(error(told.ask(&key(0), write(2, 4, 0, &[]))), ErrorCode::FencedLeaderEpoch);
    told.ask(&key(0), begin(3, 7)).unwrap();
    assert_eq!(error(told.ask(&key(0), write(2, 5, 0, &[]))), ErrorCode::FencedStateEpoch);
    assert_eq!(error(told.ask(&key(0), begin(2, 0))), ErrorCode::FencedStateEpoch);
    // After a replay as well.
    told.ask(&key(0), Asked::Read { leader_epoch: 6 }).unwrap();
    told.shard = told.replayed();
    assert_eq!(error(told.ask(&key(0), write(3, 5, 0, &[]))), ErrorCode::FencedLeaderEpoch);
    assert_eq!(error(told.ask(&key(0), write(2, 6, 0, &[]))), ErrorCode::FencedStateEpoch);
    told.ask(&key(0), write(3, 6, 0, &[])).unwrap();
}

#[test]
fn a_write_that_comes_late_does_not_bring_back_what_is_done() {
    let mut told = Told::new();
    told.ask(&key(0), begin(1, 0)).unwrap();
    told.ask(&key(0), Asked::Read { leader_epoch: 1 }).unwrap();
    told.ask(&key(0), write(1, 1, 20, &[batch(20, 29, 2, 2)])).unwrap();
    told.ask(&key(0), write(1, 1, 5, &[batch(5, 25, 0, 1)])).unwrap();
    let read = state(told.ask(&key(0), Asked::Read { leader_epoch: 2 }));
    assert_eq!((read.start_offset, &read.batches[..]), (20, &[batch(20, 29, 2, 2)][..]));
    assert_eq!(told.replayed().state(&key(0)).unwrap().batches(), [batch(20, 29, 2, 2)]);
}

#[test]
fn updates_become_snapshots_and_say_the_same() {
    let mut told = Told::new();
    told.ask(&key(0), begin(1, 0)).unwrap();
    told.ask(&key(0), Asked::Read { leader_epoch: 1 }).unwrap();
    for offset in 0..20 {
        told.ask(&key(0), write(1, 1, 0, &[batch(2 * offset, 2 * offset, 2, 1)])).unwrap();
    }
    let snapshots = told.log.iter().filter(|record| record.key[..2] == [0, 0]).count();
    assert_eq!(snapshots, 4, "the first, and one behind each five updates");
    let own = told.shard.state(&key(0)).unwrap().batches();
    assert_eq!(told.replayed().state(&key(0)).unwrap().batches(), own);
    // A snapshot of the coordinator's own begins the log anew.
    let (records, next) = told.shard.snapshot_page(None, 1 << 20);
    assert!(next.is_none());
    told.log = records;
    assert_eq!(told.replayed().state(&key(0)).unwrap().batches(), own);
}

#[test]
fn what_is_deleted_is_gone_and_may_begin_again() {
    let mut told = Told::new();
    told.ask(&key(0), begin(4, 0)).unwrap();
    told.ask(&key(0), DELETE).unwrap();
    assert_eq!(told.ask(&key(0), DELETE), Ok(Says::Done), "once more is no harm");
    assert_eq!(error(told.ask(&key(0), write(4, 1, 0, &[]))), ErrorCode::InvalidRequest);
    assert!(told.replayed().state(&key(0)).is_none());
    told.ask(&key(0), begin(1, 3)).unwrap();
}

#[test]
fn a_request_that_comes_late_harms_nothing_that_has_begun_since() {
    let mut told = Told::new();
    told.ask(&key(0), begin(4, -1)).unwrap();
    told.ask(&key(0), Asked::Read { leader_epoch: 0 }).unwrap();
    let done = [batch(12, 15, 2, 1)];
    told.ask(&key(0), write(4, 0, 10, &done)).unwrap();
    // The beginning once more: its first answer was lost, or it was asked twice.
    assert_eq!(told.ask(&key(0), begin(4, -1)), Ok(Says::Done));
    let read = state(told.ask(&key(0), Asked::Read { leader_epoch: 0 }));
    assert_eq!((read.start_offset, &read.batches[..]), (10, &done[..]));
    // The deletion of what was there before.
    assert_eq!(told.ask(&key(0), Asked::Delete { state_epoch: 3 }), Ok(Says::Done));
    assert_eq!(told.replayed().state(&key(0)).unwrap().start_offset, 10);
    assert_eq!(told.ask(&key(0), Asked::Delete { state_epoch: 4 }), Ok(Says::Done));
    assert!(told.replayed().state(&key(0)).is_none());
}

#[test]
fn there_are_topics_and_partitions_and_so_many_states() {
    let mut told = Told::new();
    let gone = ShareKey { topic: GONE, ..key(0) };
    assert_eq!(error(told.ask(&gone, begin(1, 0))), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(error(told.ask(&key(4), begin(1, 0))), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(error(told.ask(&key(-1), begin(1, 0))), ErrorCode::InvalidRequest);
    (0..3).for_each(|partition| drop(told.ask(&key(partition), begin(1, 0)).unwrap()));
    assert_eq!(error(told.ask(&key(3), begin(1, 0))), ErrorCode::PolicyViolation);
    let many: Vec<StateBatch> = (0..101).map(|offset| batch(2 * offset, 2 * offset, 2, 1)).collect();
    assert_eq!(error(told.ask(&key(0), write(1, -1, 0, &many))), ErrorCode::InvalidRequest);
    assert_eq!(error(told.ask(&key(0), write(1, -1, 0, &[batch(5, 4, 2, 1)]))), ErrorCode::InvalidRequest);
}

#[test]
fn after_a_write_that_failed_nothing_is_answered_from_memory() {
    let mut told = Told::new();
    told.ask(&key(0), begin(1, 0)).unwrap();
    let failed = told.ask_with(&key(0), write(1, -1, 9, &[]), Err(ErrorCode::NotCoordinator));
    assert_eq!(error(failed), ErrorCode::NotCoordinator);
    assert!(told.shard.is_lost());
    assert_eq!(error(told.ask(&key(0), Asked::Summary)), ErrorCode::NotCoordinator);
    assert_eq!(told.replayed().state(&key(0)).unwrap().start_offset, 0);
}
