//! Which transactions a partition has open, and which were aborted: what readers of committed data need besides batches (KIP-98).
//!
//! ```text
//!   offset  0   1   2   3   4   5   6        open: producer 8 since 3
//!           a   b   B   c   a   A̶   b        aborted: {producer a, 0 to 5, stable up to 3}     (big letters: markers)
//!                       └ last stable offset: before the first open transaction
//! ```
//!
//! It says what committed batches say and nothing else, so whoever replays the same footers comes to the same (F1, F4, F5).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::container::Entry;
use crate::encoding::{Decoder, Encoder, FormatError};

/// As Kafka numbers them in a control record's key.
pub const ABORT: i16 = 0;
pub const COMMIT: i16 = 1;
/// A transaction's stamp that nobody knows (T2).
pub const NO_STAMP: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub first_offset: i64,
    /// When it began, by its coordinator; [`NO_STAMP`] when that was not said.
    pub stamp: i64,
}

/// A transaction that was aborted, as Kafka's transaction index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The marker's.
    pub last_offset: i64,
    /// The last stable offset when the marker was there. Whoever reads below it need not look at later markers.
    pub last_stable: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// By producer id.
    open: BTreeMap<i64, OpenTransaction>,
    /// First offsets of the open ones.
    first_offsets: BTreeSet<i64>,
    /// In the order of their markers, so `last_offset` and `last_stable` grow.
    aborted: VecDeque<Aborted>,
}

impl Transactions {
    /// The next committed batch of the partition.
    pub fn take(&mut self, entry: &Entry) {
        let (Some(producer), Some(transaction)) = (entry.producer, entry.transaction) else { return };
        if !entry.is_control() {
            let opened = OpenTransaction { first_offset: entry.base_offset as i64, stamp: transaction.stamp };
            self.begin(producer.id, opened);
            return;
        }
        if !matches!(transaction.control_type, ABORT | COMMIT) {
            return;
        }
        let Some(ended) = self.open.remove(&producer.id) else { return };
        self.first_offsets.remove(&ended.first_offset);
        if transaction.control_type == ABORT {
            let last_offset = entry.last_offset as i64;
            self.aborted.push_back(Aborted {
                producer_id: producer.id,
                first_offset: ended.first_offset,
                last_offset,
                last_stable: self.first_open().unwrap_or(last_offset + 1),
            });
        }
    }

    fn begin(&mut self, producer_id: i64, opened: OpenTransaction) {
        self.open.entry(producer_id).or_insert_with(|| {
            self.first_offsets.insert(opened.first_offset);
            opened
        });
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.aborted.is_empty()
    }

    pub fn first_open(&self) -> Option<i64> {
        self.first_offsets.first().copied()
    }

    pub fn open(&self, producer_id: i64) -> Option<OpenTransaction> {
        self.open.get(&producer_id).copied()
    }

    pub fn all_open(&self) -> impl Iterator<Item = (i64, OpenTransaction)> {
        self.open.iter().map(|(id, open)| (*id, *open))
    }

    /// Everything below is decided. What lies below the log start is nobody's concern any more.
    pub fn last_stable(&self, log_start: i64, high_watermark: i64) -> i64 {
        self.first_open().map_or(high_watermark, |first| first.max(log_start).min(high_watermark))
    }

    /// Aborted transactions with something in `from..to`, as Kafka's `collectAbortedTxns` finds them. Markers lie behind their data,
    /// so it looks forward.
    pub fn aborted_in(&self, from: i64, to: i64) -> Vec<Aborted> {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        let mut found = Vec::new();
        for aborted in self.aborted.range(first..) {
            if aborted.first_offset < to {
                found.push(*aborted);
            }
            if aborted.last_stable >= to {
                break;
            }
        }
        found
    }

    pub fn aborted_count(&self) -> usize {
        self.aborted.len()
    }

    /// Forgets what was aborted below the log start.
    pub fn trim(&mut self, log_start: i64) {
        let dead = self.aborted.partition_point(|aborted| aborted.last_offset < log_start);
        self.aborted.drain(..dead);
        if self.aborted.is_empty() {
            self.aborted = VecDeque::new();
        }
    }

    /// The same with only those aborted whose markers lie at `from` or behind: what a delta says.
    pub fn since(&self, from: i64) -> Transactions {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        Transactions {
            open: self.open.clone(),
            first_offsets: self.first_offsets.clone(),
            aborted: self.aborted.range(first..).copied().collect(),
        }
    }

    /// Goes on from here with what a delta says.
    pub fn apply(&mut self, delta: Transactions) {
        self.open = delta.open;
        self.first_offsets = delta.first_offsets;
        let known = self.aborted.back().map_or(-1, |last| last.last_offset);
        self.aborted.extend(delta.aborted.into_iter().filter(|aborted| aborted.last_offset > known));
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.u32(self.open.len() as u32);
        for (producer_id, open) in &self.open {
            out.i64(*producer_id);
            out.i64(open.first_offset);
            out.i64(open.stamp);
        }
        out.u32(self.aborted.len() as u32);
        for aborted in &self.aborted {
            out.i64(aborted.producer_id);
            out.i64(aborted.first_offset);
            out.i64(aborted.last_offset);
            out.i64(aborted.last_stable);
        }
    }

    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let mut transactions = Self::default();
        for _ in 0..input.count(24)? {
            let (producer_id, first_offset, stamp) = (input.i64()?, input.i64()?, input.i64()?);
            if !transactions.first_offsets.insert(first_offset) {
                return Err(input.inconsistent(format!("two transactions begin at {first_offset}")));
            }
            transactions.open.insert(producer_id, OpenTransaction { first_offset, stamp });
        }
        if transactions.open.len() != transactions.first_offsets.len() {
            return Err(input.inconsistent("a producer has two transactions open"));
        }
        for _ in 0..input.count(32)? {
            let aborted = Aborted {
                producer_id: input.i64()?,
                first_offset: input.i64()?,
                last_offset: input.i64()?,
                last_stable: input.i64()?,
            };
            let before = transactions.aborted.back();
            let follows = before.is_none_or(|before| {
                before.last_offset < aborted.last_offset && before.last_stable <= aborted.last_stable
            });
            if !follows || aborted.first_offset > aborted.last_offset {
                return Err(input.inconsistent(format!("an aborted transaction out of place: {aborted:?}")));
            }
            transactions.aborted.push_back(aborted);
        }
        Ok(transactions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{EntryProducer, EntryTransaction};

    fn entry(offset: i64, producer: i64, control_type: i16) -> Entry {
        let control = if control_type >= 0 { 0x30 } else { 0x10 };
        Entry {
            base_offset: offset as u64,
            last_offset: offset as u64,
            len: 100,
            record_count: 1,
            crc: 0,
            attributes: control,
            max_timestamp: 0,
            producer: Some(EntryProducer { id: producer, epoch: 0, base_sequence: 0 }),
            transaction: Some(EntryTransaction { control_type, coordinator_epoch: 1, stamp: offset }),
            delete_horizon_ms: None,
        }
    }

    /// Producers 1, 2 and 3: their data (−1), and their markers.
    fn story() -> Transactions {
        let mut transactions = Transactions::default();
        let story =
            [(1, -1), (2, -1), (2, COMMIT), (3, -1), (1, -1), (1, ABORT), (2, -1), (2, ABORT), (2, ABORT)];
        for (offset, (producer, kind)) in (0..).zip(story) {
            transactions.take(&entry(offset, producer, kind));
        }
        transactions
    }

    #[test]
    fn the_last_stable_offset_is_before_the_first_open_transaction() {
        let transactions = story();
        assert_eq!(transactions.open(3), Some(OpenTransaction { first_offset: 3, stamp: 3 }));
        assert_eq!(transactions.last_stable(0, 9), 3);
        assert_eq!(transactions.last_stable(5, 9), 5);
        assert_eq!(Transactions::default().last_stable(0, 9), 9);
        let aborted = |producer_id, first_offset, last_offset| Aborted {
            producer_id,
            first_offset,
            last_offset,
            last_stable: 3,
        };
        // A second marker of what is not open ends nothing.
        assert_eq!(transactions.aborted, [aborted(1, 0, 5), aborted(2, 6, 7)]);
    }

    #[test]
    fn a_reader_is_told_of_what_touches_its_range() {
        let transactions = story();
        let producers = |from, to| -> Vec<i64> {
            transactions.aborted_in(from, to).iter().map(|aborted| aborted.producer_id).collect()
        };
        assert_eq!(producers(0, 3), [1]);
        assert_eq!(producers(5, 6), [1]);
        assert_eq!(producers(6, 9), [2]);
        assert_eq!(producers(0, 9), [1, 2]);
        assert!(producers(8, 9).is_empty());
    }

    #[test]
    fn what_is_written_is_read_and_a_delta_goes_on() {
        let whole = story();
        let mut out = Encoder::default();
        whole.encode(&mut out);
        let bytes = out.into_vec();
        let mut input = Decoder::new(&bytes, "transactions");
        assert_eq!(Transactions::decode(&mut input).unwrap(), whole);
        let mut earlier = Transactions::default();
        for (offset, (producer, kind)) in
            (0..).zip([(1, -1), (2, -1), (2, COMMIT), (3, -1), (1, -1), (1, ABORT)])
        {
            earlier.take(&entry(offset, producer, kind));
        }
        earlier.apply(whole.since(6));
        assert_eq!(earlier, whole);
        earlier.apply(whole.since(0));
        assert_eq!(earlier, whole);
        earlier.trim(6);
        assert_eq!(earlier.aborted_count(), 1);
    }
}
