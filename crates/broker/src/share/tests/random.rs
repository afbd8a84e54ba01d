//! Random members, writes that fail, restarts and retention, against a model that looks at each record on its own.
//!
//! What must hold: a record is at one member at most; one that was accepted (and told so) is given to nobody again, also after a restart;
//! one that was released comes again, counted exactly, up to its last delivery; one of an aborted transaction is given to nobody; what
//! compaction has taken is not waited for; the start never goes back. With a dead letter queue nobody is given a record that has a letter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use protocol::Str;

use super::super::in_flight::{
    ACKNOWLEDGED, ARCHIVED, ARCHIVING, AVAILABLE, Acknowledgement, Dead, InFlight, Range, Rules, Wanted,
};
use crate::share_coordinator::{KeptState, StateBatch};

const BATCH: i64 = 5;
const MEMBERS: [&str; 3] = ["a", "b", "c"];
const RULES: Rules =
    Rules { deliveries_max: 3, locks_max: 40, lock_ms: 50, may_renew: true, has_dead_letters: false };

#[derive(Debug, Clone)]
enum Step {
    Produce(i64),
    Fetch {
        member: usize,
        records_max: i64,
        is_exact: bool,
    },
    /// A read at an offset that somebody else may have taken meanwhile.
    LateFetch {
        member: usize,
        back: i64,
        batches: usize,
    },
    Say {
        member: usize,
        pick: usize,
        kind: i8,
        only_first: bool,
    },
    /// The oldest write under way ends.
    Land {
        is_kept: bool,
    },
    /// It ends after its leader gave up waiting, and is kept all the same.
    LandLate,
    Wait(u64),
    Leave(usize),
    /// The leader moves: what is kept is read again, writes that had not landed are lost or not.
    Restart {
        lands: usize,
    },
    Trim(i64),
    /// Compaction takes a batch away.
    Compact(i64),
    /// A batch belongs to a transaction that is aborted.
    Abort(i64),
    /// The first so many of what is given up get their dead letters.
    WriteLetters(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1i64..4).prop_map(Step::Produce),
        5 => (0usize..3, 1i64..12, any::<bool>())
            .prop_map(|(member, records_max, is_exact)| Step::Fetch { member, records_max, is_exact }),
        1 => (0usize..3, 0i64..25, 1usize..4)
            .prop_map(|(member, back, batches)| Step::LateFetch { member, back, batches }),
        6 => (0usize..3, 0usize..8, 0i8..5, any::<bool>())
            .prop_map(|(member, pick, kind, only_first)| Step::Say { member, pick, kind, only_first }),
        5 => prop::bool::weighted(0.8).prop_map(|is_kept| Step::Land { is_kept }),
        1 => Just(Step::LandLate),
        2 => (1u64..60).prop_map(Step::Wait),
        1 => (0usize..3).prop_map(Step::Leave),
        1 => (0usize..3).prop_map(|lands| Step::Restart { lands }),
        1 => (0i64..8).prop_map(Step::Trim),
        1 => (0i64..20).prop_map(Step::Compact),
        1 => (0i64..4).prop_map(Step::Abort),
        3 => (1i64..8).prop_map(Step::WriteLetters),
    ]
}

struct Write {
    token: Option<u64>,
    start: i64,
    batches: Vec<StateBatch>,
    /// Records that are accepted with it.
    accepted: Vec<Range>,
    /// Records that are given up with it.
    dead: Vec<Dead>,
}

struct World {
    rules: Rules,
    flight: InFlight,
    kept: KeptState,
    /// Records there are.
    end: i64,
    log_start: i64,
    now_ms: u64,
    token: u64,
    under_way: VecDeque<Write>,
    /// Who has which record, and until when, as the members know it.
    locks: BTreeMap<i64, (usize, u64)>,
    /// Told so.
    accepted: BTreeSet<i64>,
    /// As often as its leader knows.
    deliveries: BTreeMap<i64, i16>,
    /// Batches by number.
    compacted: BTreeSet<i64>,
    aborted: BTreeSet<i64>,
    /// Records that have a dead letter.
    letters: BTreeSet<i64>,
    highest_start: i64,
}

impl World {
    fn new(has_dead_letters: bool) -> World {
        World {
            rules: Rules { has_dead_letters, ..RULES },
            flight: InFlight::default(),
            kept: KeptState::default(),
            end: 0,
            log_start: 0,
            now_ms: 1_000,
            token: 0,
            under_way: VecDeque::new(),
            locks: BTreeMap::new(),
            accepted: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            compacted: BTreeSet::new(),
            aborted: BTreeSet::new(),
            letters: BTreeSet::new(),
            highest_start: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Produce(batches) => self.end += batches * BATCH,
            Step::Wait(ms) => self.now_ms += ms,
            Step::Fetch { member, records_max, is_exact } => {
                self.expire();
                if let Some(from) = self.flight.next_offset(&self.rules) {
                    self.give(*member, from, usize::MAX, *records_max, *is_exact);
                }
            }
            Step::LateFetch { member, back, batches } => {
                self.expire();
                let from = (self.flight.end() - back).max(0);
                self.give(*member, from, *batches, 100, false);
            }
            Step::Say { member, pick, kind, only_first } => self.say(*member, *pick, *kind, *only_first),
            Step::Land { is_kept } => self.land(*is_kept, true),
            Step::LandLate => self.land(true, false),
            Step::Leave(member) => {
                let batches = self.flight.release(MEMBERS[*member], &self.rules);
                self.locks.retain(|_, (holder, _)| holder != member);
                self.write(None, batches, Vec::new());
            }
            Step::Restart { lands } => {
                for _ in 0..*lands {
                    self.land(true, false);
                }
                self.under_way.clear();
                self.locks.clear();
                self.flight = InFlight::loaded(self.kept.start_offset(), &self.kept.batches());
                assert!(self.flight.start() >= self.kept.start_offset());
                let counted = self.kept.batches();
                let counted = counted.iter().flat_map(|batch| {
                    (batch.first_offset..=batch.last_offset).map(|offset| (offset, batch.delivery_count))
                });
                self.deliveries = counted.collect();
                self.highest_start = self.kept.start_offset();
                // As a fetch does before it reads.
                self.flight.move_start(self.log_start);
            }
            Step::Trim(records) => {
                self.log_start = (self.log_start + records).min(self.end);
                self.flight.move_start(self.log_start);
                self.locks.retain(|offset, _| *offset >= self.log_start);
            }
            Step::WriteLetters(records_max) => self.write_letters(*records_max),
            Step::Compact(batch) => {
                if batch * BATCH < self.end {
                    self.compacted.insert(*batch);
                }
            }
            Step::Abort(back) => {
                // Only what nobody was given yet: its end is known before it can be read.
                let batch = (self.flight.end() + BATCH - 1) / BATCH + back;
                if batch * BATCH < self.end {
                    self.aborted.insert(batch);
                }
            }
        }
        self.flight.check_invariants();
        assert!(self.flight.start() >= self.highest_start, "the start went back");
        assert!(self.kept.start_offset() <= self.flight.start());
        self.highest_start = self.flight.start();
        assert!(self.flight.end() <= self.end);
    }

    fn batches_from(&self, from: i64) -> Vec<Range> {
        let first = from.max(self.log_start) / BATCH;
        let batches = (first..self.end / BATCH).filter(|batch| !self.compacted.contains(batch));
        batches.map(|batch| (batch * BATCH, batch * BATCH + BATCH - 1)).collect()
    }

    fn expire(&mut self) {
        let batches = self.flight.expire(&self.rules, self.now_ms);
        let now_ms = self.now_ms;
        self.locks.retain(|_, (_, until_ms)| *until_ms > now_ms);
        self.write(None, batches, Vec::new());
    }

    fn give(&mut self, member: usize, from: i64, batches: usize, records_max: i64, is_exact: bool) {
        let batches: Vec<Range> = self.batches_from(from).into_iter().take(batches).collect();
        let name = Str::from(MEMBERS[member]);
        let is_aborted = |(first, _): &&Range| self.aborted.contains(&(first / BATCH));
        let aborted: Vec<Range> = batches.iter().filter(is_aborted).copied().collect();
        let wanted = Wanted {
            member: &name,
            from,
            batches: &batches,
            aborted: &aborted,
            records_max,
            is_exact,
            batch_size: 3,
        };
        let (given, _) = self.flight.acquire(&wanted, &self.rules, self.now_ms);
        let mut count = 0;
        for one in given {
            for offset in one.first_offset..=one.last_offset {
                count += 1;
                assert!(offset >= self.log_start && offset < self.end);
                assert!(!self.accepted.contains(&offset), "{offset} was accepted and comes again");
                assert!(!self.letters.contains(&offset), "{offset} has a dead letter and comes again");
                let until_ms = self.now_ms + self.rules.lock_ms;
                let earlier = self.locks.insert(offset, (member, until_ms));
                assert_eq!(earlier, None, "{offset} is at two members");
                // Of offsets without a record a member says that there is none.
                let batch = offset / BATCH;
                let is_nothing = self.compacted.contains(&batch);
                assert!(
                    is_nothing || !self.aborted.contains(&batch),
                    "{offset} is of an aborted transaction"
                );
                assert!(one.delivery_count <= self.rules.deliveries_max);
                let deliveries = self.deliveries.entry(offset).or_default();
                assert_eq!(one.delivery_count, *deliveries + 1, "{offset} is counted wrongly");
                *deliveries = one.delivery_count;
            }
        }
        assert!(!is_exact || count <= records_max);
    }

    fn say(&mut self, member: usize, pick: usize, kind: i8, only_first: bool) {
        self.expire();
        let mine: Vec<i64> = self
            .locks
            .iter()
            .filter(|(_, (holder, _))| *holder == member)
            .map(|(offset, _)| *offset)
            .collect();
        let Some(&first) = mine.get(pick % mine.len().max(1)) else { return };
        let run = mine[pick % mine.len()..].iter().zip(first..).take_while(|(offset, next)| *offset == next);
        let last = if only_first { first } else { first + run.count() as i64 - 1 };
        let said = Acknowledgement { first_offset: first, last_offset: last, types: vec![kind] };
        let token = self.token;
        self.token += 1;
        let taken = self.flight.acknowledge(MEMBERS[member], &[said], token, &self.rules, self.now_ms);
        let batches = taken.expect("who has a record may say what becomes of it");
        if kind == 4 {
            let until_ms = self.now_ms + self.rules.lock_ms;
            self.locks.extend((first..=last).map(|offset| (offset, (member, until_ms))));
            return;
        }
        self.locks.retain(|offset, _| !(first..=last).contains(offset));
        let accepted = if kind == 1 { vec![(first, last)] } else { Vec::new() };
        self.write(Some(token), batches, accepted);
    }

    fn write(&mut self, token: Option<u64>, batches: Vec<StateBatch>, accepted: Vec<Range>) {
        if !batches.is_empty() {
            let start = self.flight.start();
            self.under_way.push_back(Write { token, start, batches, accepted, dead: Vec::new() });
        }
    }

    fn land(&mut self, is_kept: bool, is_told: bool) {
        let Some(write) = self.under_way.pop_front() else { return };
        if is_kept {
            self.kept.write(write.start, &write.batches);
        }
        if is_kept && is_told {
            self.flight.dead_are_kept(&write.dead);
        }
        let Some(token) = write.token else { return };
        // Whoever was not told that it is kept takes it for lost, and may be given the records again.
        self.flight.settle(token, is_kept && is_told, &self.rules, self.now_ms);
        if is_kept && is_told {
            let offsets = write.accepted.iter().flat_map(|(first, last)| *first..=*last);
            self.accepted.extend(offsets);
        } else {
            self.forget_locks();
        }
    }

    /// As the task does that writes them: what the coordinator does not know yet is kept first.
    fn write_letters(&mut self, records_max: i64) {
        let dead = self.flight.dead(records_max);
        let not_kept: Vec<Dead> = dead.iter().filter(|one| !one.is_kept).copied().collect();
        if !not_kept.is_empty() {
            let batches = not_kept.iter().map(Dead::state_batch).collect();
            let start = self.flight.start();
            let accepted = Vec::new();
            self.under_way.push_back(Write { token: None, start, batches, accepted, dead: not_kept });
            return;
        }
        self.letters.extend(dead.iter().flat_map(|one| one.first_offset..=one.last_offset));
        let batches = self.flight.archive(&dead);
        self.write(None, batches, Vec::new());
    }

    /// Members of a write that failed have their records until the locks end; nobody else may get them before.
    fn forget_locks(&mut self) {
        let start = self.flight.start();
        self.locks.retain(|offset, _| *offset >= start);
        for (offset, member, until_ms) in self.flight.locks_for_tests() {
            let member = MEMBERS.iter().position(|name| *name == member).expect("a member");
            self.locks.insert(offset, (member, until_ms));
        }
    }

    /// In the end everything is accepted by somebody, or was given up after its last delivery.
    fn drain(&mut self) {
        while !self.under_way.is_empty() {
            self.land(true, true);
        }
        for _ in 0..200 * self.rules.deliveries_max as usize {
            self.now_ms += self.rules.lock_ms;
            self.run(&Step::Fetch { member: 0, records_max: 100, is_exact: false });
            if self.batches_from(self.flight.start()).is_empty() {
                return;
            }
            let mine: Vec<i64> = self.locks.keys().copied().collect();
            for offset in mine {
                if self.locks.contains_key(&offset) {
                    let pick = self.locks.keys().position(|held| *held == offset).expect("is there");
                    self.run(&Step::Say { member: 0, pick, kind: 1, only_first: true });
                }
            }
            self.run(&Step::WriteLetters(100));
            while !self.under_way.is_empty() {
                self.run(&Step::Land { is_kept: true });
            }
        }
        panic!("records are left that nobody gets: {:?}", self.flight);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_record_has_one_holder_and_one_end(
        steps in prop::collection::vec(step(), 1..120),
        has_dead_letters: bool,
    ) {
        let mut world = World::new(has_dead_letters);
        for step in &steps {
            world.run(step);
        }
        world.drain();
        let states: BTreeSet<i8> =
            world.kept.batches().iter().map(|batch| batch.delivery_state).collect();
        prop_assert!(states.is_subset(&[AVAILABLE, ACKNOWLEDGED, ARCHIVING, ARCHIVED].into()));
        prop_assert!(has_dead_letters || world.letters.is_empty() && !states.contains(&ARCHIVING));
    }
}
