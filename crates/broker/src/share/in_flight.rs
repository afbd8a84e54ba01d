//! The records of one share partition that are on their way: at a member, given back, done, or not given out yet. Pure: an event and the
//! time go in, what has to be kept comes out.
//!
//! ```text
//!        done         at A until 12:03     given back      at B, who said "accept"; being kept        not given out yet
//!   ┤ 0 … 99 │ 100 … 149           │ 150 … 159     │ 160 … 199                            │ 200 …
//!            ^ start               (runs)                                                   ^ end
//! ```
//! Runs cover every offset from start to end. What is done at the front moves the start; nothing behind the end was ever given out since
//! this broker leads. Locks are looked at when somebody asks for something: one that is over is as good as released.
//!
//! Kafka: `SharePartition`.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Str};

use crate::share_coordinator::StateBatch;

/// Kafka's `RecordState`.
pub const AVAILABLE: i8 = 0;
pub const ACKNOWLEDGED: i8 = 2;
pub const ARCHIVING: i8 = 3;
pub const ARCHIVED: i8 = 4;

/// What a member says of a record; Kafka's `AcknowledgeType`, and 0 for "there is no such record".
const GAP: i8 = 0;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
pub const RENEW: i8 = 4;

/// What the group's config says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `share.delivery.count.limit`
    pub deliveries_max: i16,
    /// `share.partition.max.record.locks`
    pub locks_max: i64,
    /// `share.record.lock.duration.ms`
    pub lock_ms: u64,
    /// `share.renew.acknowledge.enable`
    pub may_renew: bool,
    /// `errors.deadletterqueue.topic.name` is set: what is given up goes there first.
    pub has_dead_letters: bool,
}

impl Rules {
    /// From so many deliveries on, records are given out few at a time: one of them may be what breaks its consumers.
    fn suspicious_from(&self) -> i16 {
        (self.deliveries_max / 2 + self.deliveries_max % 2).max(2)
    }
}

/// Who has a record, and until when (monotonic ms).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lock {
    member: Str,
    until_ms: u64,
}

/// Why a record is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its member has said so.
    Rejected,
    /// It has had its deliveries.
    Deliveries,
    /// A leader before this one knew it; it is not kept.
    NotKnown,
}

/// What becomes of a record that nobody has any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Available,
    Acknowledged,
    /// It goes to the group's dead letter queue, and is archived then.
    Archiving(Cause),
    Archived,
}

impl Next {
    fn state(self) -> i8 {
        match self {
            Next::Available => AVAILABLE,
            Next::Acknowledged => ACKNOWLEDGED,
            Next::Archiving(_) => ARCHIVING,
            Next::Archived => ARCHIVED,
        }
    }

    fn fate(self, is_kept: bool) -> Fate {
        match self {
            Next::Available => Fate::Available,
            Next::Acknowledged => Fate::Acknowledged,
            Next::Archiving(cause) => Fate::Archiving { cause, is_kept },
            Next::Archived => Fate::Archived,
        }
    }

    fn given_up(cause: Cause, rules: &Rules) -> Next {
        if rules.has_dead_letters { Next::Archiving(cause) } else { Next::Archived }
    }

    /// Of a record that was given back, or not acknowledged in time.
    fn released(count: i16, rules: &Rules) -> Next {
        if count >= rules.deliveries_max { Next::given_up(Cause::Deliveries, rules) } else { Next::Available }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Available,
    Acquired(Lock),
    /// Its member has said what becomes of it, and that is being kept.
    Keeping {
        token: u64,
        next: Next,
        lock: Lock,
    },
    Acknowledged,
    /// It is given up and waits for its dead letter, which is written only when the coordinator has kept that it is given up: a leader
    /// that is none any more would put there what the next one delivers.
    Archiving {
        cause: Cause,
        is_kept: bool,
    },
    Archived,
    /// The log has no record here.
    Missing,
}

impl Fate {
    fn is_done(&self) -> bool {
        matches!(self, Fate::Acknowledged | Fate::Archived | Fate::Missing)
    }

    /// As its coordinator has it.
    fn of(state: i8) -> Fate {
        match state {
            ACKNOWLEDGED => Fate::Acknowledged,
            ARCHIVING => Fate::Archiving { cause: Cause::NotKnown, is_kept: true },
            ARCHIVED => Fate::Archived,
            _ => Fate::Available,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    last: i64,
    /// Deliveries so far.
    count: i16,
    fate: Fate,
}

impl Run {
    fn is_like(&self, other: &Run) -> bool {
        self.count == other.count && self.fate == other.fate
    }
}

/// Offsets, both ends included.
pub type Range = (i64, i64);

/// Given out by one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_count: i16,
}

/// Records that are given up and wait for their dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_count: i16,
    pub cause: Cause,
    /// The coordinator knows that they are given up.
    pub is_kept: bool,
}

impl Dead {
    pub fn state_batch(&self) -> StateBatch {
        state_batch(self.first_offset, self.last_offset, ARCHIVING, self.delivery_count)
    }
}

/// What a fetch wants and what it has read.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub member: &'a Str,
    /// Where the read began.
    pub from: i64,
    /// The batches that were read, ascending.
    pub batches: &'a [Range],
    /// Those of them that belong to aborted transactions, and are not for this group.
    pub aborted: &'a [Range],
    pub records_max: i64,
    /// Never more than `records_max`, also in the middle of a batch (KIP-1206); else to the end of a batch.
    pub is_exact: bool,
    /// About so many records make an entry of the answer, which a member acknowledges as one.
    pub batch_size: i64,
}

/// One entry of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    pub first_offset: i64,
    pub last_offset: i64,
    /// One for all, or one for each.
    pub types: Vec<i8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub error: ErrorCode,
    pub message: &'static str,
}

const fn refused(error: ErrorCode, message: &'static str) -> Refused {
    Refused { error, message }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InFlight {
    start: i64,
    end: i64,
    runs: BTreeMap<i64, Run>,
}

impl InFlight {
    /// As its coordinator has kept it. What lies between the batches was given out and not acknowledged: it comes again.
    pub fn loaded(start: i64, batches: &[StateBatch]) -> InFlight {
        let mut loaded = InFlight { start, end: start, runs: BTreeMap::new() };
        for batch in batches {
            let first = batch.first_offset.max(loaded.end);
            if batch.last_offset < first {
                continue;
            }
            if loaded.end < first {
                let run = Run { last: first - 1, count: 0, fate: Fate::Available };
                loaded.runs.insert(loaded.end, run);
            }
            let fate = Fate::of(batch.delivery_state);
            loaded.runs.insert(first, Run { last: batch.last_offset, count: batch.delivery_count, fate });
            loaded.end = batch.last_offset + 1;
        }
        loaded.tidy();
        loaded
    }

    pub fn start(&self) -> i64 {
        self.start
    }

    pub fn end(&self) -> i64 {
        self.end
    }

    /// Records behind the start that are done, or will be when what is under way is kept.
    pub fn complete_count(&self) -> i32 {
        let is_complete = |fate: &Fate| match fate {
            Fate::Keeping { next, .. } => next.fate(true).is_done(),
            fate => fate.is_done(),
        };
        let runs = self.runs.iter().filter(|(_, run)| is_complete(&run.fate));
        let count: i64 = runs.map(|(first, run)| run.last - first + 1).sum();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// Records between start and end, which is what `share.partition.max.record.locks` bounds.
    fn locked(&self) -> i64 {
        let runs = self.runs.iter().filter(|(_, run)| run.fate != Fate::Missing);
        runs.map(|(first, run)| run.last - first + 1).sum()
    }

    /// Where the next fetch reads. None: nothing may be given out now.
    pub fn next_offset(&self, rules: &Rules) -> Option<i64> {
        let given_back = self.runs.iter().find(|(_, run)| run.fate == Fate::Available);
        match given_back {
            Some((first, _)) => Some(*first),
            None => (self.locked() < rules.locks_max).then_some(self.end),
        }
    }

    /// When the first lock is over, monotonic ms.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let locks = self.runs.values().filter_map(|run| match &run.fate {
            Fate::Acquired(lock) => Some(lock.until_ms),
            _ => None,
        });
        locks.min()
    }

    /// Locks that are over. Gives what has to be kept: deliveries are counted. What is given up is kept by whoever writes its dead
    /// letter ([`InFlight::dead`]).
    pub fn expire(&mut self, rules: &Rules, now_ms: u64) -> Vec<StateBatch> {
        self.release_where(rules, |lock| lock.until_ms <= now_ms)
    }

    /// A member is gone: what it has comes again.
    pub fn release(&mut self, member: &str, rules: &Rules) -> Vec<StateBatch> {
        self.release_where(rules, |lock| lock.member == member)
    }

    fn release_where(&mut self, rules: &Rules, is_over: impl Fn(&Lock) -> bool) -> Vec<StateBatch> {
        let mut kept = Vec::new();
        let mut has_changed = false;
        for (first, run) in &mut self.runs {
            if matches!(&run.fate, Fate::Acquired(lock) if is_over(lock)) {
                let next = Next::released(run.count, rules);
                run.fate = next.fate(false);
                has_changed = true;
                if !matches!(next, Next::Archiving(_)) {
                    kept.push(state_batch(*first, run.last, next.state(), run.count));
                }
            }
        }
        if has_changed {
            self.tidy();
        }
        kept
    }

    /// The log begins here now. What lay before is done with.
    pub fn move_start(&mut self, log_start: i64) {
        if log_start <= self.start {
            return;
        }
        self.split_at(log_start);
        self.runs = self.runs.split_off(&log_start);
        self.start = log_start;
        self.end = self.end.max(log_start);
        self.tidy();
    }

    /// Gives records to a member. True: something has changed, also if nothing could be given.
    pub fn acquire(&mut self, wanted: &Wanted<'_>, rules: &Rules, now_ms: u64) -> (Vec<Acquired>, bool) {
        let (Some((first_read, _)), Some((_, last_read))) = (wanted.batches.first(), wanted.batches.last())
        else {
            return (Vec::new(), false);
        };
        if *last_read < self.start {
            // Others were given it while it was read, and are done with it.
            return (Vec::new(), false);
        }
        let before = self.clone();
        // Compaction has taken these away.
        let mut from = wanted.from;
        for (first, last) in wanted.batches {
            if from < *first {
                self.miss(from, first - 1);
            }
            from = last + 1;
        }
        let lock = Lock { member: wanted.member.clone(), until_ms: now_ms + rules.lock_ms };
        let given = self.give(wanted, (*first_read).max(self.start), *last_read, &lock, rules);
        let given = self.without_aborted(given, wanted.aborted);
        let given = match wanted.is_exact {
            true => given,
            false => given.into_iter().flat_map(|given| in_batches(given, wanted)).collect(),
        };
        self.tidy();
        (given, *self != before)
    }

    /// There are no records here: as far as they were not given out, nobody waits for them.
    fn miss(&mut self, first: i64, last: i64) {
        let known_last = last.min(self.end - 1);
        if first <= known_last {
            self.split_at(first);
            self.split_at(known_last + 1);
            let available =
                self.runs.range_mut(first..=known_last).filter(|(_, run)| run.fate == Fate::Available);
            available.for_each(|(_, run)| run.fate = Fate::Missing);
        }
        // What lies behind records that nobody has yet is looked at when these are given out.
        if first <= self.end && last >= self.end {
            self.runs.insert(self.end, Run { last, count: 0, fate: Fate::Missing });
            self.end = last + 1;
        }
    }

    fn give(
        &mut self,
        wanted: &Wanted<'_>,
        first: i64,
        last: i64,
        lock: &Lock,
        rules: &Rules,
    ) -> Vec<Acquired> {
        let mut given: Vec<Acquired> = Vec::new();
        let mut left = wanted.records_max;
        self.split_at(first);
        let available: Vec<(i64, i64, i16)> = self
            .runs
            .range(first..=last.max(first))
            .filter(|(_, run)| run.fate == Fate::Available)
            .map(|(first, run)| (*first, run.last.min(last), run.count))
            .collect();
        for (run_first, run_last, count) in available {
            if left <= 0 {
                return given;
            }
            if count >= rules.deliveries_max {
                // The limit was lowered: it has had its deliveries.
                self.set(run_first, run_last, |run| run.fate = Next::released(count, rules).fate(false));
                continue;
            }
            let is_suspicious = count >= rules.suspicious_from();
            if is_suspicious && !given.is_empty() {
                return given;
            }
            let length = run_last - run_first + 1;
            let taken = match (is_suspicious, count == rules.deliveries_max - 1 && rules.deliveries_max > 2) {
                (_, true) => 1,
                (true, _) => (length >> (count - rules.suspicious_from() + 1)).max(1),
                (false, _) => length,
            };
            let taken_last = (run_first + left.min(taken) - 1).min(run_last);
            let taken_last = match wanted.is_exact || is_suspicious || taken < length {
                true => taken_last,
                false => batch_end(wanted.batches, taken_last).min(run_last),
            };
            self.set(run_first, taken_last, |run| {
                run.count += 1;
                run.fate = Fate::Acquired(lock.clone());
            });
            given.push(Acquired {
                first_offset: run_first,
                last_offset: taken_last,
                delivery_count: count + 1,
            });
            left -= taken_last - run_first + 1;
            if is_suspicious {
                return given;
            }
        }
        let room = rules.locks_max - self.locked();
        // What was read begins behind the end only if others have taken what was there meanwhile.
        let new_first = self.end;
        if left > 0 && room > 0 && (first..=last).contains(&new_first) {
            let taken_last = (new_first + left.min(room) - 1).min(last);
            let taken_last = match wanted.is_exact {
                true => taken_last,
                false => batch_end(wanted.batches, taken_last).min(last),
            };
            let run = Run { last: taken_last, count: 1, fate: Fate::Acquired(lock.clone()) };
            self.runs.insert(new_first, run);
            self.end = taken_last + 1;
            given.push(Acquired { first_offset: new_first, last_offset: taken_last, delivery_count: 1 });
        }
        given
    }

    /// Takes back what belongs to aborted transactions; nobody gets that.
    fn without_aborted(&mut self, given: Vec<Acquired>, aborted: &[Range]) -> Vec<Acquired> {
        let mut left = given;
        for (first, last) in aborted {
            let mut next = Vec::with_capacity(left.len());
            for given in left {
                let (both_first, both_last) = (given.first_offset.max(*first), given.last_offset.min(*last));
                if both_first > both_last {
                    next.push(given);
                    continue;
                }
                self.set(both_first, both_last, |run| run.fate = Fate::Archived);
                if given.first_offset < both_first {
                    next.push(Acquired { last_offset: both_first - 1, ..given });
                }
                if both_last < given.last_offset {
                    next.push(Acquired { first_offset: both_last + 1, ..given });
                }
            }
            left = next;
        }
        left
    }

    /// What a member says of records that it has. All of it or nothing is taken; what has to be kept comes back, and counts when
    /// [`InFlight::settle`] is told so. Renewed locks hold at once.
    pub fn acknowledge(
        &mut self,
        member: &str,
        acknowledgements: &[Acknowledgement],
        token: u64,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Vec<StateBatch>, Refused> {
        let before = self.runs.clone();
        let taken = self.take_acknowledgements(member, acknowledgements, token, rules, now_ms);
        match taken {
            Ok(_) => self.tidy(),
            Err(_) => self.runs = before,
        }
        taken
    }

    fn take_acknowledgements(
        &mut self,
        member: &str,
        acknowledgements: &[Acknowledgement],
        token: u64,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Vec<StateBatch>, Refused> {
        let mut kept = Vec::new();
        for acknowledgement in acknowledgements {
            for (first, last, kind) in by_type(acknowledgement) {
                // The log does not have these any more, or they are done: there is nothing to say about them.
                let first = first.max(self.start);
                if last < first {
                    continue;
                }
                if last >= self.end {
                    return Err(refused(
                        ErrorCode::InvalidRequest,
                        "The last offset in the request is past acquired records.",
                    ));
                }
                self.take_one(member, (first, last), kind, token, rules, now_ms, &mut kept)?;
            }
        }
        Ok(kept)
    }

    #[allow(clippy::too_many_arguments)]
    fn take_one(
        &mut self,
        member: &str,
        (first, last): Range,
        kind: i8,
        token: u64,
        rules: &Rules,
        now_ms: u64,
        kept: &mut Vec<StateBatch>,
    ) -> Result<(), Refused> {
        self.split_at(first);
        self.split_at(last + 1);
        for (run_first, run) in self.runs.range_mut(first..=last) {
            let lock = match &mut run.fate {
                Fate::Acquired(lock) if lock.member == member => lock,
                Fate::Acquired(_) => {
                    return Err(refused(
                        ErrorCode::InvalidRecordState,
                        "Member is not the owner of the record.",
                    ));
                }
                _ => {
                    let message = "The record cannot be acknowledged. It is not in the acquired state.";
                    return Err(refused(ErrorCode::InvalidRecordState, message));
                }
            };
            let next = match kind {
                RENEW if !rules.may_renew => {
                    let message = "Renewing acquisition locks is not enabled for the group.";
                    return Err(refused(ErrorCode::InvalidRecordState, message));
                }
                RENEW => {
                    lock.until_ms = now_ms + rules.lock_ms;
                    continue;
                }
                ACCEPT => Next::Acknowledged,
                RELEASE => Next::released(run.count, rules),
                REJECT => Next::given_up(Cause::Rejected, rules),
                GAP => Next::Archived,
                _ => return Err(refused(ErrorCode::InvalidRequest, "Unknown acknowledge type.")),
            };
            let lock = lock.clone();
            run.fate = Fate::Keeping { token, next, lock };
            kept.push(state_batch(*run_first, run.last, next.state(), run.count));
        }
        Ok(())
    }

    /// What was said under this token is kept, or is not: then it is as if nothing had been said.
    pub fn settle(&mut self, token: u64, is_kept: bool, rules: &Rules, now_ms: u64) {
        for run in self.runs.values_mut() {
            let Fate::Keeping { token: of_run, next, lock } = &run.fate else { continue };
            if *of_run != token {
                continue;
            }
            run.fate = match is_kept {
                true => next.fate(true),
                false if lock.until_ms > now_ms => Fate::Acquired(lock.clone()),
                false => Next::released(run.count, rules).fate(false),
            };
        }
        self.tidy();
    }

    pub fn has_dead(&self) -> bool {
        self.runs.values().any(|run| matches!(run.fate, Fate::Archiving { .. }))
    }

    /// Records that wait for their dead letters, which is what keeps them from being done.
    pub fn dead_count(&self) -> u64 {
        let dead = self.runs.iter().filter(|(_, run)| matches!(run.fate, Fate::Archiving { .. }));
        dead.map(|(first, run)| run.last.abs_diff(*first) + 1).sum()
    }

    /// The first so many of them.
    pub fn dead(&self, records_max: i64) -> Vec<Dead> {
        let mut dead = Vec::new();
        let mut left = records_max;
        for (first, run) in &self.runs {
            let Fate::Archiving { cause, is_kept } = run.fate else { continue };
            if left <= 0 {
                break;
            }
            let last_offset = run.last.min(first + left - 1);
            left -= last_offset - first + 1;
            dead.push(Dead { first_offset: *first, last_offset, delivery_count: run.count, cause, is_kept });
        }
        dead
    }

    /// The coordinator knows that these are given up.
    pub fn dead_are_kept(&mut self, dead: &[Dead]) {
        self.change_archiving(dead, |fate| {
            if let Fate::Archiving { is_kept, .. } = fate {
                *is_kept = true;
            }
        });
    }

    /// Their dead letters are written, or nobody tries any more. Gives what has to be kept.
    pub fn archive(&mut self, dead: &[Dead]) -> Vec<StateBatch> {
        let start = self.start;
        self.change_archiving(dead, |fate| *fate = Fate::Archived);
        let still_here = dead.iter().filter(|one| one.last_offset >= start);
        still_here.map(|one| StateBatch { delivery_state: ARCHIVED, ..one.state_batch() }).collect()
    }

    /// As far as they are still here: retention may have taken some of them meanwhile.
    fn change_archiving(&mut self, dead: &[Dead], change: impl Fn(&mut Fate)) {
        for one in dead {
            self.split_at(one.first_offset);
            self.split_at(one.last_offset + 1);
            let runs = self.runs.range_mut(one.first_offset..=one.last_offset);
            let archiving = runs.filter(|(_, run)| matches!(run.fate, Fate::Archiving { .. }));
            archiving.for_each(|(_, run)| change(&mut run.fate));
        }
        self.tidy();
    }

    /// Changes all runs of a range that is within start and end.
    fn set(&mut self, first: i64, last: i64, change: impl Fn(&mut Run)) {
        self.split_at(first);
        self.split_at(last + 1);
        self.runs.range_mut(first..=last).for_each(|(_, run)| change(run));
    }

    /// From here on a run begins.
    fn split_at(&mut self, offset: i64) {
        let Some((_, run)) = self.runs.range_mut(..offset).next_back() else { return };
        if run.last >= offset {
            let behind = run.clone();
            run.last = offset - 1;
            self.runs.insert(offset, behind);
        }
    }

    /// Neighbours alike become one, and the start moves over what is done.
    fn tidy(&mut self) {
        let mut joined: Vec<(i64, Run)> = Vec::with_capacity(self.runs.len());
        for (first, run) in std::mem::take(&mut self.runs) {
            if joined.is_empty() && run.fate.is_done() {
                self.start = run.last + 1;
                continue;
            }
            match joined.last_mut() {
                Some((_, before)) if before.is_like(&run) => before.last = run.last,
                _ => joined.push((first, run)),
            }
        }
        self.runs = joined.into_iter().collect();
    }

    /// Runs there are; what bounds memory.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    #[cfg(test)]
    pub fn locks_for_tests(&self) -> Vec<(i64, Str, u64)> {
        let runs = self.runs.iter().filter_map(|(first, run)| match &run.fate {
            Fate::Acquired(lock) => Some((*first..=run.last, lock)),
            _ => None,
        });
        runs.flat_map(|(offsets, lock)| {
            offsets.map(move |offset| (offset, lock.member.clone(), lock.until_ms))
        })
        .collect()
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        let mut next = self.start;
        for (first, run) in &self.runs {
            assert_eq!(*first, next, "runs cover everything: {self:?}");
            assert!(run.last >= *first, "{self:?}");
            next = run.last + 1;
        }
        assert_eq!(next, self.end, "{self:?}");
        let is_done = self.runs.values().next().is_some_and(|run| run.fate.is_done());
        assert!(!is_done, "the start has not moved: {self:?}");
        let mut neighbours = self.runs.values().zip(self.runs.values().skip(1));
        assert!(neighbours.all(|(left, right)| !left.is_like(right)), "{self:?}");
    }
}

fn state_batch(first_offset: i64, last_offset: i64, delivery_state: i8, delivery_count: i16) -> StateBatch {
    StateBatch { first_offset, last_offset, delivery_state, delivery_count }
}

/// The last offset of the batch that an offset is in.
fn batch_end(batches: &[Range], offset: i64) -> i64 {
    let at = batches.partition_point(|(_, last)| *last < offset);
    batches.get(at).filter(|(first, _)| *first <= offset).map_or(offset, |(_, last)| *last)
}

/// An entry is cut where a batch begins, once it has `batch_size` records.
fn in_batches(given: Acquired, wanted: &Wanted<'_>) -> Vec<Acquired> {
    let mut cut = Vec::with_capacity(1);
    let mut rest = given;
    let begins = wanted.batches.iter().map(|(first, _)| *first);
    for begin in begins.filter(|begin| given.first_offset < *begin && *begin <= given.last_offset) {
        if begin - rest.first_offset >= wanted.batch_size.max(1) {
            cut.push(Acquired { last_offset: begin - 1, ..rest });
            rest.first_offset = begin;
        }
    }
    cut.push(rest);
    cut
}

/// The runs of one type in an entry.
fn by_type(acknowledgement: &Acknowledgement) -> Vec<(i64, i64, i8)> {
    let Acknowledgement { first_offset, last_offset, types } = acknowledgement;
    if let [one] = types[..] {
        return vec![(*first_offset, *last_offset, one)];
    }
    let mut runs: Vec<(i64, i64, i8)> = Vec::new();
    for (offset, kind) in (*first_offset..=*last_offset).zip(types) {
        match runs.last_mut() {
            Some((_, last, of_run)) if of_run == kind => *last = offset,
            _ => runs.push((offset, offset, *kind)),
        }
    }
    runs
}
