//! The life of records in one share partition.

use protocol::{ErrorCode, Str};

use super::super::in_flight::{
    ACKNOWLEDGED, ARCHIVED, ARCHIVING, AVAILABLE, Acknowledgement, Acquired, Cause, Dead, InFlight, Range,
    Rules, Wanted,
};
use crate::share_coordinator::StateBatch;

const RULES: Rules =
    Rules { deliveries_max: 5, locks_max: 100, lock_ms: 30, may_renew: true, has_dead_letters: false };

struct Story {
    flight: InFlight,
    /// Of the log, both ends included.
    batches: Vec<Range>,
    now_ms: u64,
    next_token: u64,
    rules: Rules,
}

impl Story {
    fn new(batches: &[Range]) -> Story {
        let flight = InFlight::loaded(0, &[]);
        Story { flight, batches: batches.to_vec(), now_ms: 1_000, next_token: 0, rules: RULES }
    }

    fn fetch(&mut self, member: &str, records_max: i64, is_exact: bool) -> Vec<(i64, i64, i16)> {
        self.flight.expire(&self.rules, self.now_ms);
        let Some(from) = self.flight.next_offset(&self.rules) else { return Vec::new() };
        let batches: Vec<Range> = self.batches.iter().filter(|(_, last)| *last >= from).copied().collect();
        self.give(member, from, &batches, &[], records_max, is_exact)
    }

    fn give(
        &mut self,
        member: &str,
        from: i64,
        batches: &[Range],
        aborted: &[Range],
        records_max: i64,
        is_exact: bool,
    ) -> Vec<(i64, i64, i16)> {
        let member = Str::from(member);
        let wanted =
            Wanted { member: &member, from, batches, aborted, records_max, is_exact, batch_size: 500 };
        let (acquired, _) = self.flight.acquire(&wanted, &self.rules, self.now_ms);
        self.flight.check_invariants();
        let plain = |one: Acquired| (one.first_offset, one.last_offset, one.delivery_count);
        acquired.into_iter().map(plain).collect()
    }

    fn say(&mut self, member: &str, first: i64, last: i64, types: &[i8]) -> Result<u64, ErrorCode> {
        self.flight.expire(&self.rules, self.now_ms);
        let said = Acknowledgement { first_offset: first, last_offset: last, types: types.to_vec() };
        let token = self.next_token;
        self.next_token += 1;
        let taken = self.flight.acknowledge(member, &[said], token, &self.rules, self.now_ms);
        self.flight.check_invariants();
        taken.map(|_| token).map_err(|refused| refused.error)
    }

    /// Said and kept.
    fn done(&mut self, member: &str, first: i64, last: i64, types: &[i8]) {
        let token = self.say(member, first, last, types).expect("may be said");
        self.settle(token, true);
    }

    fn settle(&mut self, token: u64, is_kept: bool) {
        self.flight.settle(token, is_kept, &self.rules, self.now_ms);
        self.flight.check_invariants();
    }
}

const ACCEPT: &[i8] = &[1];
const RELEASE: &[i8] = &[2];
const REJECT: &[i8] = &[3];
const RENEW: &[i8] = &[4];

#[test]
fn whole_batches_are_given_out_and_what_is_accepted_moves_the_start() {
    let mut story = Story::new(&[(0, 9), (10, 19), (20, 29)]);
    assert_eq!(story.fetch("a", 15, false), [(0, 19, 1)], "to the end of a batch");
    assert_eq!(story.fetch("b", 5, true), [(20, 24, 1)], "not one more than was asked for");
    story.done("a", 10, 19, ACCEPT);
    assert_eq!(story.flight.start(), 0, "what lies before is not done");
    story.done("a", 0, 9, REJECT);
    assert_eq!(story.flight.start(), 20);
    assert_eq!(story.flight.complete_count(), 0);
    assert_eq!(story.say("b", 20, 25, ACCEPT), Err(ErrorCode::InvalidRequest), "25 was given to nobody");
    assert_eq!(story.say("a", 20, 24, ACCEPT), Err(ErrorCode::InvalidRecordState), "they are b's");
    assert_eq!(story.fetch("a", 100, false), [(25, 29, 1)]);
}

#[test]
fn what_was_read_before_others_were_done_with_it_is_nobodys() {
    let mut story = Story::new(&[(0, 9), (10, 19)]);
    assert_eq!(story.fetch("a", 100, false), [(0, 19, 1)]);
    story.done("a", 0, 9, ACCEPT);
    story.done("a", 10, 19, RELEASE);
    assert_eq!(story.give("b", 0, &[(0, 9)], &[], 100, false), []);
    assert_eq!(story.give("b", 0, &[(0, 9), (10, 19)], &[], 100, false), [(10, 19, 2)]);
}

#[test]
fn what_is_released_or_not_acknowledged_in_time_comes_again_and_is_counted() {
    let mut story = Story::new(&[(0, 9)]);
    story.fetch("a", 100, false);
    story.done("a", 0, 4, RELEASE);
    assert_eq!(story.fetch("b", 100, false), [(0, 4, 2)]);
    story.now_ms += RULES.lock_ms;
    assert_eq!(story.say("a", 5, 9, ACCEPT), Err(ErrorCode::InvalidRecordState), "the lock is over");
    assert_eq!(story.fetch("c", 100, false), [(0, 4, 3), (5, 9, 2)]);
}

#[test]
fn a_record_that_nobody_can_take_is_given_up() {
    let mut story = Story::new(&[(0, 0), (1, 1)]);
    for delivery in 1..=5 {
        assert_eq!(story.fetch("a", 1, true), [(0, 0, delivery)]);
        story.done("a", 0, 0, RELEASE);
    }
    assert_eq!(story.flight.start(), 1, "archived");
    assert_eq!(story.fetch("a", 1, true), [(1, 1, 1)]);
}

#[test]
fn records_that_have_failed_often_come_few_at_a_time() {
    let mut story = Story::new(&[(0, 15)]);
    for delivery in 1..=3 {
        assert_eq!(story.fetch("a", 100, false), [(0, 15, delivery)]);
        story.done("a", 0, 15, RELEASE);
    }
    assert_eq!(story.fetch("a", 100, false), [(0, 7, 4)], "a half");
    story.done("a", 0, 7, RELEASE);
    assert_eq!(story.fetch("a", 100, false), [(0, 0, 5)], "for the last time alone");
}

#[test]
fn a_renewed_lock_holds_longer() {
    let mut story = Story::new(&[(0, 9)]);
    story.fetch("a", 100, false);
    story.now_ms += RULES.lock_ms - 1;
    story.say("a", 0, 4, RENEW).unwrap();
    story.now_ms += 1;
    assert_eq!(story.fetch("b", 100, false), [(5, 9, 2)]);
    story.done("a", 0, 4, ACCEPT);
    story.rules.may_renew = false;
    assert_eq!(story.say("b", 5, 9, RENEW), Err(ErrorCode::InvalidRecordState));
}

#[test]
fn each_record_may_have_an_answer_of_its_own() {
    let mut story = Story::new(&[(0, 5)]);
    story.fetch("a", 100, false);
    story.done("a", 0, 5, &[1, 1, 2, 3, 0, 1]);
    assert_eq!(story.flight.start(), 2);
    assert_eq!(story.fetch("b", 100, false), [(2, 2, 2)]);
    story.done("b", 2, 2, ACCEPT);
    assert_eq!((story.flight.start(), story.flight.end()), (6, 6));
}

#[test]
fn all_that_is_said_in_one_request_is_taken_or_nothing() {
    let mut story = Story::new(&[(0, 9)]);
    story.fetch("a", 5, true);
    story.fetch("b", 5, true);
    let before = story.flight.clone();
    assert_eq!(story.say("a", 0, 9, ACCEPT), Err(ErrorCode::InvalidRecordState));
    assert_eq!(story.flight, before);
    assert_eq!(story.say("a", 0, 4, &[1, 1, 9, 1, 1]), Err(ErrorCode::InvalidRequest));
    assert_eq!(story.flight, before);
}

#[test]
fn what_could_not_be_kept_is_as_if_it_had_not_been_said() {
    let mut story = Story::new(&[(0, 9)]);
    story.fetch("a", 100, false);
    let token = story.say("a", 0, 9, ACCEPT).unwrap();
    assert_eq!(story.say("a", 0, 9, RELEASE), Err(ErrorCode::InvalidRecordState), "one word at a time");
    assert_eq!(story.flight.complete_count(), 10);
    story.settle(token, false);
    assert_eq!((story.flight.start(), story.flight.complete_count()), (0, 0));
    let token = story.say("a", 0, 9, ACCEPT).unwrap();
    story.now_ms += RULES.lock_ms;
    assert_eq!(story.fetch("b", 100, false), [], "while it is being kept nobody gets it");
    story.settle(token, false);
    assert_eq!(story.fetch("b", 100, false), [(0, 9, 2)]);
}

#[test]
fn so_many_records_are_locked_and_no_more() {
    let mut story = Story::new(&[(0, 59), (60, 119), (120, 179)]);
    assert_eq!(story.fetch("a", 1_000, false), [(0, 119, 1)], "100, and to the end of the batch");
    assert_eq!(story.fetch("b", 1_000, false), []);
    story.done("a", 0, 59, ACCEPT);
    assert_eq!(story.fetch("b", 1_000, true), [(120, 159, 1)]);
}

#[test]
fn what_compaction_and_retention_take_is_not_waited_for() {
    let mut story = Story::new(&[(0, 9), (20, 29)]);
    assert_eq!(story.fetch("a", 100, false), [(0, 29, 1)]);
    story.done("a", 0, 29, RELEASE);
    // Compacted: the first batch that is left begins at 15.
    assert_eq!(story.give("a", 0, &[(15, 29)], &[], 100, false), [(15, 29, 2)]);
    assert_eq!(story.flight.start(), 15);
    story.flight.move_start(25);
    assert_eq!(story.flight.start(), 25);
    story.done("a", 15, 29, ACCEPT);
    assert_eq!(story.flight.start(), 30);
    // A gap at the end of what is known.
    assert_eq!(story.give("a", 30, &[(1_000_000, 1_000_009)], &[], 100, false), [(1_000_000, 1_000_009, 1)]);
    assert_eq!(story.flight.start(), 1_000_000);
}

#[test]
fn aborted_records_are_nobodys() {
    let mut story = Story::new(&[]);
    let batches = [(0, 9), (10, 19), (20, 20), (21, 29)];
    assert_eq!(story.give("a", 0, &batches, &[(10, 19)], 100, false), [(0, 9, 1), (20, 29, 1)]);
    story.done("a", 0, 9, ACCEPT);
    assert_eq!(story.flight.start(), 20);
    assert_eq!(story.give("a", 30, &[(30, 39)], &[(30, 39)], 100, false), []);
    story.done("a", 20, 29, ACCEPT);
    assert_eq!(story.flight.start(), 40);
}

#[test]
fn after_a_restart_what_was_under_way_comes_again() {
    let batch = |first_offset, last_offset, delivery_state, delivery_count| StateBatch {
        first_offset,
        last_offset,
        delivery_state,
        delivery_count,
    };
    let kept = [batch(10, 19, ACKNOWLEDGED, 1), batch(30, 39, AVAILABLE, 2), batch(40, 49, ARCHIVED, 5)];
    let mut flight = InFlight::loaded(5, &kept);
    flight.check_invariants();
    assert_eq!((flight.start(), flight.end(), flight.complete_count()), (5, 50, 20));
    assert_eq!(flight.next_offset(&RULES), Some(5));
    flight.move_start(10);
    assert_eq!((flight.start(), flight.next_offset(&RULES)), (20, Some(20)));
    assert_eq!(InFlight::loaded(5, &[batch(5, 9, ACKNOWLEDGED, 1)]).start(), 10);
}

#[test]
fn a_member_that_is_gone_leaves_what_it_has() {
    let mut story = Story::new(&[(0, 9)]);
    story.fetch("a", 5, true);
    story.fetch("b", 5, true);
    let kept = story.flight.release("a", &RULES);
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].first_offset, kept[0].last_offset, kept[0].delivery_state), (0, 4, AVAILABLE));
    assert_eq!(story.fetch("c", 100, false), [(0, 4, 2)]);
}

/// ```text
///   0 accepted │ 1, 2 rejected │ 3 released for the last time │ 4 gone        (1 to 3 wait for their dead letters)
/// ```
#[test]
fn what_is_given_up_stays_until_it_has_its_dead_letter() {
    let mut story = Story::new(&[(0, 4)]);
    story.rules = Rules { deliveries_max: 2, has_dead_letters: true, ..RULES };
    story.fetch("a", 100, false);
    let said = story.say("a", 0, 4, &[1, 3, 3, 2, 0]).unwrap();
    assert!(!story.flight.has_dead(), "nobody has kept it yet");
    assert_eq!(story.flight.complete_count(), 2, "accepted, and gone");
    story.settle(said, true);
    let dead = |first_offset, last_offset, delivery_count, cause, is_kept| Dead {
        first_offset,
        last_offset,
        delivery_count,
        cause,
        is_kept,
    };
    let rejected = dead(1, 2, 1, Cause::Rejected, true);
    assert_eq!(story.flight.dead(100), [rejected]);
    assert_eq!(story.flight.start(), 1);
    // A last delivery that nobody says anything about.
    assert_eq!(story.fetch("a", 100, false), [(3, 3, 2)]);
    story.now_ms += 30;
    assert_eq!(
        story.flight.expire(&story.rules, story.now_ms),
        [],
        "whoever writes the letter keeps it first"
    );
    let late = dead(3, 3, 2, Cause::Deliveries, false);
    assert_eq!(story.flight.dead(100), [rejected, late]);
    assert_eq!((story.flight.dead_count(), story.flight.start()), (3, 1));
    assert_eq!(story.flight.dead(1), [dead(1, 1, 1, Cause::Rejected, true)]);
    assert_eq!(story.fetch("b", 100, false), []);
    assert_eq!(story.say("a", 1, 1, &[1]), Err(ErrorCode::InvalidRecordState));

    // The next leader finds what is kept, and nobody has told it why.
    let kept = [rejected.state_batch(), late.state_batch()];
    assert_eq!(kept[0].delivery_state, ARCHIVING);
    let loaded = InFlight::loaded(1, &kept);
    let unknown = |one: Dead| Dead { cause: Cause::NotKnown, is_kept: true, ..one };
    assert_eq!(loaded.dead(100), [unknown(rejected), unknown(late)]);

    story.flight.dead_are_kept(&[late]);
    assert_eq!(story.flight.dead(100)[1], Dead { is_kept: true, ..late });
    let archived = story.flight.archive(&[dead(1, 1, 1, Cause::Rejected, true)]);
    assert_eq!((archived.len(), archived[0].delivery_state, story.flight.start()), (1, ARCHIVED, 2));
    // Retention has taken one of them meanwhile.
    story.flight.move_start(3);
    assert_eq!(story.flight.archive(&[rejected, late]).len(), 1);
    story.flight.check_invariants();
    assert_eq!((story.flight.has_dead(), story.flight.start()), (false, 5));
}

#[test]
fn a_limit_that_was_lowered_gives_up_what_has_had_its_deliveries() {
    let mut story = Story::new(&[(0, 1)]);
    story.rules.has_dead_letters = true;
    for count in 1..=3 {
        assert_eq!(story.fetch("a", 1, true), [(0, 0, count)]);
        let said = story.say("a", 0, 0, &[2]).unwrap();
        story.settle(said, true);
    }
    story.rules.deliveries_max = 2;
    assert_eq!(story.fetch("a", 1, true), [(1, 1, 1)]);
    assert_eq!(story.flight.dead_count(), 1);
    assert_eq!(story.flight.dead(1)[0].cause, Cause::Deliveries);
}
