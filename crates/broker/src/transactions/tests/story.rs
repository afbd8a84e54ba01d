//! Stories of one transactional id.

use protocol::ErrorCode;

use super::super::event::*;
use super::super::transaction::{EPOCH_EXHAUSTED, State};
use super::world::*;
use crate::coordinators::StateMachine;

const OLD: Comes = Comes::By(1);
const NEW: Comes = Comes::WithItsEpoch;

fn code(code: ErrorCode) -> Refusal {
    Refusal::Code(code)
}

#[test]
fn a_transaction_is_decided_told_and_complete() {
    let mut world = World::new();
    let producer = world.init();
    assert_eq!(producer.1, 0);
    let stamp = world.add(producer, &[0, 1], OLD).unwrap();
    assert_eq!(world.add(producer, &[1], OLD), Ok(stamp), "it is in there already");
    assert_eq!(world.end(producer, true, OLD), Ok(producer));
    assert_eq!(world.state(), State::PrepareCommit);
    // Until the partitions know, nothing begins.
    assert_eq!(world.add(producer, &[0], OLD), Err(code(ErrorCode::ConcurrentTransactions)));
    assert_eq!(world.init_by(None, 1), Err(code(ErrorCode::ConcurrentTransactions)));
    assert_eq!(world.end(producer, true, OLD), Err(code(ErrorCode::ConcurrentTransactions)));
    assert_eq!(world.end(producer, false, OLD), Err(code(ErrorCode::InvalidTxnState)));
    let decision = world.shard.decisions(|_, _| false).pop().unwrap();
    assert_eq!((decision.stamp, decision.commit, decision.partitions), (stamp, true, places(&[0, 1])));
    world.event(|shard, _, now, effects| {
        assert!(!shard.told(&ID.into(), stamp, places(&[0]), now, effects));
    });
    assert_eq!(world.shard.decision(ID, stamp).unwrap().partitions, places(&[1]));
    world.tell_all();
    assert_eq!(world.state(), State::CompleteCommit);
    assert_eq!(world.end(producer, true, OLD), Ok(producer), "the answer may have been lost");
    assert_eq!(world.end(producer, false, OLD), Err(code(ErrorCode::InvalidTxnState)));
    // The clock has not moved, and still the next one has a stamp of its own (T2).
    assert!(world.add(producer, &[0], OLD).unwrap() > stamp);
}

#[test]
fn a_partition_counts_once_however_often_it_is_named() {
    let mut world = World::new();
    world.settings.partitions_max = 3;
    world.restart(0, 0);
    let producer = world.init();
    let stamp = world.add(producer, &[0, 1], OLD).unwrap();
    assert_eq!(world.add(producer, &[0, 1, 2], OLD), Ok(stamp));
    assert_eq!(world.add(producer, &[2, 3], OLD), Err(code(ErrorCode::PolicyViolation)));
    assert_eq!(world.add(producer, &[0, 2], OLD), Ok(stamp), "what is in it may be named again");
    world.end(producer, true, OLD).unwrap();
    world.tell_all();
    assert!(world.add(producer, &[3, 4, 5], OLD).is_ok(), "the next one has room for as many");
}

#[test]
fn nothing_is_told_before_the_decision_is_durable() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0], OLD).unwrap();
    world.lands_at_once = false;
    let end = EndRequest { producer: named(producer), commit: true, comes: OLD, fresh_producer_id: None };
    let reply = world.event(|shard, reply, now, effects| shard.end(end, reply, now, effects));
    assert!(world.answers.is_empty());
    assert!(world.shard.decisions(|_, _| false).is_empty());
    // Nor does anybody hear of what may not be so.
    let described = world.event(|shard, reply, _, effects| shard.describe(&ID.into(), reply, effects));
    assert!(world.answers.is_empty());
    world.land(Ok(()));
    assert_eq!(world.answers[&reply], Answer::Ended(Ok(producer)));
    assert!(
        matches!(&world.answers[&described], Answer::Described(Ok(it)) if it.state == State::PrepareCommit)
    );
    assert_eq!(world.shard.decisions(|_, _| false).len(), 1);
}

#[test]
fn a_write_that_the_log_refuses_leaves_nothing_behind() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0], OLD).unwrap();
    world.lands_at_once = false;
    let end = EndRequest { producer: named(producer), commit: true, comes: OLD, fresh_producer_id: None };
    let reply = world.event(|shard, reply, now, effects| shard.end(end, reply, now, effects));
    world.land(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.answers[&reply], Answer::Ended(Err(code(ErrorCode::NotCoordinator))));
    assert!(world.shard.is_lost() && world.shard.decisions(|_, _| false).is_empty());
    world.lands_at_once = true;
    world.restart(0, 0);
    assert_eq!(world.state(), State::Ongoing);
    assert_eq!(world.end(producer, false, OLD), Ok(producer), "so the client may decide otherwise");
}

/// The log had no room for one write, and has room again for the next.
#[test]
fn what_stands_behind_a_lost_write_is_not_believed() {
    let mut world = World::new();
    let producer = world.init();
    world.lands_at_once = false;
    let partitions = places(&[0]);
    let add = AddRequest { producer: named(producer), partitions: partitions.clone(), comes: NEW };
    world.event(|shard, reply, now, effects| shard.add(add, reply, now, effects));
    let init = InitRequest {
        transactional_id: "another".into(),
        timeout_ms: TIMEOUT_MS,
        expected: None,
        fresh_producer_id: Some(1),
        connection: 1,
    };
    world.event(|shard, reply, now, effects| shard.init(init, reply, now, effects));
    // Says yes, as far as it knows, and waits behind the second write.
    let asked = world.event(|shard, reply, _, effects| {
        shard.verify(&named(producer), &partitions, reply, effects);
    });
    world.land(Err(ErrorCode::CoordinatorNotAvailable));
    world.land(Ok(()));
    assert_eq!(world.answers[&asked], Answer::Verified(Err(ErrorCode::NotCoordinator)));
    world.restart(0, 0);
    assert_eq!((world.state(), world.shard.transaction_count()), (State::Empty, 2));
}

#[test]
fn a_new_producer_fences_the_one_before_and_aborts_what_it_left() {
    let mut world = World::new();
    let first = world.init();
    world.add(first, &[0], OLD).unwrap();
    assert_eq!(world.init_by(None, 2), Err(code(ErrorCode::ConcurrentTransactions)));
    assert_eq!(world.state(), State::PrepareAbort);
    let decision = world.tell_all().pop().unwrap();
    assert_eq!((decision.epoch, decision.commit), (1, false), "its markers fence the old producer");
    let second = world.init_by(None, 2).unwrap();
    assert_eq!(second, (first.0, 2));
    for refused in [world.end(first, true, OLD).unwrap_err(), world.add(first, &[0], OLD).unwrap_err()] {
        assert_eq!(refused, code(ErrorCode::ProducerFenced));
    }
    assert_eq!(world.init_by(Some(first), 1), Err(code(ErrorCode::ProducerFenced)));
}

#[test]
fn a_producer_that_goes_on_may_repeat_its_question() {
    let mut world = World::new();
    let first = world.init();
    let second = world.init_by(Some(first), 1).unwrap();
    assert_eq!(second, (first.0, 1));
    assert_eq!(world.init_by(Some(first), 1), Ok(second), "the answer was lost");
    assert_eq!(world.init_by(Some((first.0 + 1, 1)), 1), Err(code(ErrorCode::ProducerFenced)));
    let other = world.init_by(None, 1).unwrap();
    assert_eq!(
        world.init_by(Some(first), 1),
        Err(code(ErrorCode::ProducerFenced)),
        "{other:?} is somebody else"
    );
}

#[test]
fn with_its_own_epoch_each_transaction_ends_once() {
    let mut world = World::new();
    let first = world.init();
    world.add(first, &[0], NEW).unwrap();
    let second = world.end(first, true, NEW).unwrap();
    assert_eq!(second, (first.0, 1));
    assert_eq!(world.end(first, true, NEW), Err(code(ErrorCode::ConcurrentTransactions)));
    assert_eq!(world.tell_all()[0].epoch, 1, "the marker has the next epoch, so old batches are refused");
    assert_eq!(world.end(first, true, NEW), Ok(second));
    assert_eq!(world.end(first, false, NEW), Err(code(ErrorCode::InvalidTxnState)));
    world.add(second, &[0], NEW).unwrap();
    assert_eq!(world.end(first, true, NEW), Err(code(ErrorCode::ProducerFenced)), "late, and of another one");
    assert_eq!(world.add(first, &[1], NEW), Err(code(ErrorCode::ProducerFenced)));
    // An abort of what was never begun ends its epoch as well.
    let third = world.end(second, false, NEW).unwrap();
    world.tell_all();
    let fourth = world.end(third, false, NEW).unwrap();
    assert_eq!((third.1, fourth.1), (2, 3));
    assert_eq!(world.tell_all()[0].partitions, places(&[]));
    assert_eq!(world.state(), State::CompleteAbort);
}

#[test]
fn used_up_epochs_go_on_under_another_producer_id() {
    for comes in [OLD, NEW] {
        let mut world = World::new();
        let first = world.init();
        world.shard.transactions.get_mut(ID).unwrap().epoch = EPOCH_EXHAUSTED - 1;
        let last = world.init_by(None, 1).unwrap();
        assert_eq!(last, (first.0, EPOCH_EXHAUSTED));
        world.add(last, &[0], comes).unwrap();
        let next = match comes {
            Comes::WithItsEpoch => {
                let next = world.end(last, true, comes).unwrap();
                // It goes on at once, as it was told to, and has to wait like everybody.
                let wait = Err(code(ErrorCode::ConcurrentTransactions));
                assert_eq!(world.add(next, &[0], comes), wait.map(|()| 0));
                assert_eq!(world.end(next, false, comes), wait.map(|()| next));
                assert_eq!(world.init_by(Some(next), 1), wait.map(|()| next));
                assert_eq!(world.tell_all()[0].epoch, i16::MAX);
                assert_eq!(world.end(last, true, comes), Ok(next), "the answer was lost");
                next
            }
            Comes::By(_) => {
                assert_eq!(world.end(last, true, comes), Ok(last));
                world.tell_all();
                let next = world.init_by(Some(last), 1).unwrap();
                assert_eq!(world.init_by(Some(last), 1), Ok(next), "the answer was lost");
                next
            }
        };
        assert!(next.0 != last.0 && next.1 == 0, "{next:?}");
        world.add(next, &[0], comes).unwrap();
        assert_eq!(world.add(last, &[0], comes), Err(code(ErrorCode::InvalidProducerIdMapping)));
        // One that times out at the last epoch has room for being fenced.
        world.shard.transactions.get_mut(ID).unwrap().epoch = EPOCH_EXHAUSTED;
        world.pass_ms(TIMEOUT_MS as u64);
        assert_eq!(world.tell_all()[0].epoch, i16::MAX);
        // And that is nobody's to go on with.
        let fenced = Err(code(ErrorCode::ProducerFenced));
        assert_eq!(world.end((next.0, EPOCH_EXHAUSTED), false, NEW), fenced.map(|()| next));
        for comes in [OLD, NEW] {
            assert_eq!(world.end((next.0, i16::MAX), false, comes), fenced.map(|()| next));
            assert_eq!(world.add((next.0, i16::MAX), &[0], comes), fenced.map(|()| 0));
        }
        let after = world.init_by(None, 1).unwrap();
        assert!(after.0 != next.0 && after.1 == 0, "{after:?}");
    }
}

#[test]
fn what_takes_too_long_is_aborted_also_over_a_restart() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0], OLD).unwrap();
    world.pass_ms(TIMEOUT_MS as u64 - 1_000);
    world.restart(0, 0);
    assert_eq!(world.state(), State::Ongoing);
    world.pass_ms(1_000);
    assert_eq!(world.state(), State::PrepareAbort);
    assert_eq!(world.end(producer, true, OLD), Err(code(ErrorCode::ProducerFenced)));
    world.restart(0, 0);
    assert_eq!(world.tell_all().len(), 1, "a restart tells everybody again (T6)");
    assert_eq!(world.state(), State::CompleteAbort);
}

/// P6: what is late does nothing, and a client that is well has a newer connection to come by.
#[test]
fn a_request_by_an_old_connection_never_touches_a_newer_transaction() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0], Comes::By(1)).unwrap();
    // Its EndTxn by connection 1 is held up; it comes again by 2, and goes on.
    assert_eq!(world.end(producer, true, Comes::By(2)), Ok(producer));
    assert_eq!(world.end(producer, true, Comes::By(1)), Err(Refusal::Overtaken));
    world.tell_all();
    world.add(producer, &[0], Comes::By(2)).unwrap();
    for late in [1, 0] {
        assert_eq!(world.end(producer, true, Comes::By(late)), Err(Refusal::Overtaken));
        assert_eq!(world.end(producer, false, Comes::By(late)), Err(Refusal::Overtaken));
        assert_eq!(world.add(producer, &[1], Comes::By(late)), Err(Refusal::Overtaken));
    }
    assert_eq!(world.state(), State::Ongoing);
    // Nor after a restart elsewhere, where connections of before may have something to say yet.
    world.restart(0, 9);
    assert_eq!(world.end(producer, true, Comes::By(9)), Err(Refusal::Overtaken));
    assert_eq!(world.end(producer, true, Comes::By(10)), Ok(producer));
    // A new epoch is a new producer, whatever connection it has.
    world.tell_all();
    let next = world.init_by(None, 4).unwrap();
    assert!(world.add(next, &[0], Comes::By(4)).is_ok());
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0], OLD).unwrap();
    world.pass_ms(TIMEOUT_MS as u64);
    world.tell_all();
    let interval = world.settings.expiration_interval_ms;
    world.pass_ms(world.settings.id_expiration_ms as u64 + interval);
    assert_eq!(world.shard.transaction_count(), 0);
    world.restart(0, 0);
    assert_eq!(world.shard.transaction_count(), 0);
    assert_eq!(world.add(producer, &[0], OLD), Err(code(ErrorCode::InvalidProducerIdMapping)));
    assert_ne!(world.init().0, producer.0);
}

#[test]
fn a_leader_is_told_what_belongs_to_a_transaction() {
    let mut world = World::new();
    let producer = world.init();
    let verify = |world: &mut World, producer, partitions: &[i32]| {
        let reply = world.event(|shard, reply, _, effects| {
            shard.verify(&named(producer), &places(partitions), reply, effects);
        });
        match world.answers.remove(&reply) {
            Some(Answer::Verified(result)) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(verify(&mut world, producer, &[0]).unwrap().missing, places(&[0]));
    let stamp = world.add(producer, &[0], OLD).unwrap();
    let told = verify(&mut world, producer, &[0, 1]).unwrap();
    assert_eq!((told.stamp, told.missing), (stamp, places(&[1])));
    assert_eq!(verify(&mut world, (producer.0, 1), &[0]), Err(ErrorCode::ProducerFenced));
    world.end(producer, true, OLD).unwrap();
    assert_eq!(verify(&mut world, producer, &[0]), Err(ErrorCode::ConcurrentTransactions));
    world.tell_all();
    assert_eq!(verify(&mut world, producer, &[0]).unwrap().missing, places(&[0]));
}

#[test]
fn a_snapshot_says_all_of_it() {
    let mut world = World::new();
    let producer = world.init();
    world.add(producer, &[0, 1], OLD).unwrap();
    let (mut records, mut place) = (Vec::new(), None);
    loop {
        let (page, next) = world.shard.snapshot_page(place, 1);
        records.extend(page);
        place = next;
        if place.is_none() {
            break;
        }
    }
    let before = world.shard.transactions.clone();
    world.log = records;
    world.restart(0, 0);
    let strip =
        |it: &super::super::transaction::Transaction| (it.state, it.partitions.clone(), it.started_ms);
    assert_eq!(
        before.values().map(strip).collect::<Vec<_>>(),
        world.shard.transactions.values().map(strip).collect::<Vec<_>>()
    );
    // A version before KIP-890, as an old log has it.
    assert_eq!(world.end(producer, true, OLD), Ok(producer));
}
