//! The history checker: what producers were told, against what the log holds at the end.
//!
//! A *write* is one record that a producer sent: (producer, partition, number); numbers grow by one per producer and partition.
//! It was acknowledged at an offset, or its outcome is unknown. The promises checked are P1 to P3 of the design:
//! nothing acknowledged is lost or moved, nothing is there twice, each producer's records of a partition stand in the order sent,
//! and the offsets of a partition have no hole.

use std::collections::BTreeMap;
use std::fmt;

/// Who wrote: one producer instance of one client family.
pub type ProducerName = String;

/// The broker had the write already, and did not say where.
pub const NO_OFFSET: i64 = -1;

/// What one producer was told.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    /// (producer, partition, number) → offset that the broker answered; [`NO_OFFSET`] when it only said that it has it.
    writes: BTreeMap<(ProducerName, i32, u64), i64>,
}

impl Acknowledged {
    /// Notes an acknowledgement; the same write acknowledged twice at different offsets is a violation at once.
    pub fn add(&mut self, producer: &str, partition: i32, number: u64, offset: i64) -> Result<(), Violation> {
        // librdkafka says -1001.
        let offset = offset.max(NO_OFFSET);
        let known = self.writes.entry((producer.to_owned(), partition, number)).or_insert(offset);
        if *known == NO_OFFSET {
            *known = offset;
        }
        if offset == NO_OFFSET || *known == offset {
            return Ok(());
        }
        let write = Write { producer: producer.to_owned(), partition, number };
        Err(Violation::AcknowledgedTwice { write, offsets: [*known, offset] })
    }

    /// What other producers were told.
    pub fn extend(&mut self, others: Acknowledged) {
        self.writes.extend(others.writes);
    }

    /// Those at or behind the start of their partition, and as if that were offset 0.
    pub fn from(self, start: impl Fn(i32) -> i64) -> Self {
        let writes = self.writes.into_iter().filter_map(|(write, offset)| {
            let start = start(write.1);
            (offset >= start).then(|| (write, offset - start))
        });
        Acknowledged { writes: writes.collect() }
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// One record as a reader found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    pub producer: ProducerName,
    pub number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    pub producer: ProducerName,
    pub partition: i32,
    pub number: u64,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of {} in partition {}", self.number, self.producer, self.partition)
    }
}

/// A broken promise, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("lost: {write} was acknowledged at offset {offset} and is not in the log")]
    Lost { write: Write, offset: i64 },
    #[error("moved: {write} was acknowledged at offset {acknowledged} and stands at {found}")]
    Moved { write: Write, acknowledged: i64, found: i64 },
    #[error("twice: {write} stands at offsets {} and {}", offsets[0], offsets[1])]
    Twice { write: Write, offsets: [i64; 2] },
    #[error("acknowledged twice: {write} at offsets {} and {}", offsets[0], offsets[1])]
    AcknowledgedTwice { write: Write, offsets: [i64; 2] },
    #[error("given twice: {} and {} were both acknowledged at offset {offset}", writes[0], writes[1])]
    OffsetGivenTwice { writes: [Write; 2], offset: i64 },
    #[error("out of order: {later} stands before {earlier}, at offset {offset}")]
    OutOfOrder { earlier: Write, later: Write, offset: i64 },
    #[error("hole: partition {partition} goes from offset {before} to {after}")]
    Hole { partition: i32, before: i64, after: i64 },
    #[error("changed: offset {offset} was {earlier} and is now {}", match now { Some(now) => now.to_string(), None => "gone".into() })]
    Changed { earlier: Write, offset: i64, now: Option<Write> },
}

/// What a check looked at; a check of nothing is no check, so the caller asserts on these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub acknowledged: usize,
    pub found: usize,
}

/// Checks the whole log as read once from the start of each partition, in offset order per partition. Returns at most
/// [`VIOLATIONS_MAX`] violations.
pub fn check(acknowledged: &Acknowledged, log: &[Found]) -> Result<Checked, Vec<Violation>> {
    let mut violations = violations(acknowledged, log);
    if violations.is_empty() {
        return Ok(Checked { acknowledged: acknowledged.len(), found: log.len() });
    }
    violations.truncate(VIOLATIONS_MAX);
    Err(violations)
}

/// All that [`check`] finds.
pub fn violations(acknowledged: &Acknowledged, log: &[Found]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut at: BTreeMap<Write, i64> = BTreeMap::new();
    let mut last_offset: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last_number: BTreeMap<(&str, i32), u64> = BTreeMap::new();
    for record in log {
        let Found { partition, offset, ref producer, number } = *record;
        let write = Write { producer: producer.clone(), partition, number };
        let before = last_offset.insert(partition, offset).unwrap_or(-1);
        if offset != before + 1 {
            violations.push(Violation::Hole { partition, before, after: offset });
        }
        if let Some(earlier) = at.insert(write.clone(), offset) {
            at.insert(write.clone(), earlier);
            violations.push(Violation::Twice { write, offsets: [earlier, offset] });
            continue;
        }
        let last = last_number.entry((producer, partition)).or_insert(number);
        if *last > number {
            let later = Write { producer: producer.clone(), partition, number: *last };
            violations.push(Violation::OutOfOrder { earlier: write, later, offset });
        }
        *last = (*last).max(number);
    }
    let mut given: BTreeMap<(i32, i64), Write> = BTreeMap::new();
    for ((producer, partition, number), &offset) in &acknowledged.writes {
        let write = Write { producer: producer.clone(), partition: *partition, number: *number };
        if offset != NO_OFFSET
            && let Some(first) = given.insert((*partition, offset), write.clone())
        {
            violations.push(Violation::OffsetGivenTwice { writes: [first, write.clone()], offset });
        }
        match at.get(&write) {
            None => violations.push(Violation::Lost { write, offset }),
            Some(&found) if found != offset && offset != NO_OFFSET => {
                violations.push(Violation::Moved { write, acknowledged: offset, found });
            }
            Some(_) => {}
        }
    }
    violations
}

/// What an earlier reading saw and a later one of the whole log does not: nothing that was once shown to a reader may change or go.
pub fn changes(earlier: &[Found], later: &[Found]) -> Vec<Violation> {
    let write = |record: &Found| Write {
        producer: record.producer.clone(),
        partition: record.partition,
        number: record.number,
    };
    let now: BTreeMap<(i32, i64), &Found> =
        later.iter().map(|record| ((record.partition, record.offset), record)).collect();
    let changed = |record: &&Found| now.get(&(record.partition, record.offset)) != Some(record);
    let violation = |record: &Found| Violation::Changed {
        earlier: write(record),
        offset: record.offset,
        now: now.get(&(record.partition, record.offset)).map(|record| write(record)),
    };
    earlier.iter().filter(changed).map(violation).collect()
}

/// How many violations one check reports.
pub const VIOLATIONS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn log(numbers: &[u64]) -> Vec<Found> {
        let found =
            |(offset, &number)| Found { partition: 0, offset: offset as i64, producer: "p".into(), number };
        numbers.iter().enumerate().map(found).collect()
    }

    fn acknowledged(writes: &[(u64, i64)]) -> Acknowledged {
        let mut all = Acknowledged::default();
        writes.iter().for_each(|&(number, offset)| all.add("p", 0, number, offset).unwrap());
        all
    }

    fn write(number: u64) -> Write {
        Write { producer: "p".into(), partition: 0, number }
    }

    #[test]
    fn a_log_with_everything_in_place_passes_and_says_how_much_it_saw() {
        let result = check(&acknowledged(&[(0, 0), (1, 1)]), &log(&[0, 1, 2]));
        assert_eq!(result, Ok(Checked { acknowledged: 2, found: 3 }));
    }

    #[test]
    fn a_record_that_nobody_was_promised_may_be_missing() {
        // 1 failed for its producer and never arrived: 0, 2 is a legal log.
        assert!(check(&acknowledged(&[(0, 0), (2, 1)]), &log(&[0, 2])).is_ok());
    }

    #[test]
    fn each_broken_promise_is_named() {
        let lost = check(&acknowledged(&[(0, 0), (1, 1)]), &log(&[0])).unwrap_err();
        assert_eq!(lost, [Violation::Lost { write: write(1), offset: 1 }]);

        let moved = check(&acknowledged(&[(1, 0)]), &log(&[0, 1])).unwrap_err();
        assert_eq!(moved, [Violation::Moved { write: write(1), acknowledged: 0, found: 1 }]);

        let given_twice = check(&acknowledged(&[(0, 0), (1, 0)]), &log(&[0])).unwrap_err();
        let writes = [write(0), write(1)];
        let given_twice_first = Violation::OffsetGivenTwice { writes, offset: 0 };
        assert_eq!(given_twice, [given_twice_first, Violation::Lost { write: write(1), offset: 0 }]);

        let twice = check(&acknowledged(&[(0, 0)]), &log(&[0, 0])).unwrap_err();
        assert_eq!(twice, [Violation::Twice { write: write(0), offsets: [0, 1] }]);

        let order = check(&Acknowledged::default(), &log(&[1, 0])).unwrap_err();
        assert_eq!(order, [Violation::OutOfOrder { earlier: write(0), later: write(1), offset: 1 }]);

        let mut gap = log(&[0, 1]);
        gap[1].offset = 2;
        let hole = check(&Acknowledged::default(), &gap).unwrap_err();
        assert_eq!(hole, [Violation::Hole { partition: 0, before: 0, after: 2 }]);
    }

    #[test]
    fn two_answers_for_one_write_must_agree() {
        let mut told = acknowledged(&[(0, 7)]);
        assert_eq!(told.add("p", 0, 0, 7), Ok(()));
        let broken = Violation::AcknowledgedTwice { write: write(0), offsets: [7, 8] };
        assert_eq!(told.add("p", 0, 0, 8), Err(broken));
    }

    #[test]
    fn an_acknowledgement_without_an_offset_promises_only_that_it_is_there() {
        let mut told = acknowledged(&[(0, NO_OFFSET), (1, 1)]);
        assert!(check(&told, &log(&[0, 1])).is_ok());
        assert_eq!(told.add("p", 0, 0, 0), Ok(()));
        let lost = check(&acknowledged(&[(9, NO_OFFSET)]), &log(&[0])).unwrap_err();
        assert_eq!(lost, [Violation::Lost { write: write(9), offset: NO_OFFSET }]);
    }

    #[test]
    fn what_was_read_once_stays() {
        assert_eq!(changes(&log(&[0, 1]), &log(&[0, 1, 2])), []);
        let other = Violation::Changed { earlier: write(1), offset: 1, now: Some(write(2)) };
        assert_eq!(changes(&log(&[0, 1]), &log(&[0, 2])), [other]);
        let gone = Violation::Changed { earlier: write(1), offset: 1, now: None };
        assert_eq!(changes(&log(&[0, 1]), &log(&[0])), [gone]);
    }
}
