//! What a partition remembers of idempotent producers, so that a retried batch is recognised (KIP-98, KIP-360).
//!
//! Per producer id the epoch and the last five batches, as Kafka keeps them: a producer may have five requests in
//! flight, so any of the last five may come again. Batches in flight stand apart from committed ones: the check sees
//! both, a checkpoint only what is committed, and an answer "duplicate" for a batch still in flight waits for that
//! batch's own commit (F9 of the bucket protocol).

use std::collections::VecDeque;
use std::sync::Arc;

use world::collections::HashMap;

use crate::commit::CommitGroup;
use crate::container::Entry;
use crate::error::AppendError;

/// Batches remembered per producer id. Kafka's clients rely on five.
pub const BATCHES_PER_PRODUCER: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    /// The batch's max timestamp.
    pub timestamp: i64,
}

/// What a batch says of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    Data(RememberedBatch),
    /// The end of a transaction: it has the epoch of the producer that may go on.
    Marker {
        coordinator_epoch: i32,
        timestamp: i64,
    },
}

/// A producer as of the last commit: what checkpoints hold (F3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: i16,
    pub coordinator_epoch: i32,
    /// Of its last batch; −1 when there is none.
    pub last_timestamp: i64,
    /// When its last batch was committed, by the chunk: expiry counts from here, so a replay comes to the same answer
    /// and a producer that writes old timestamps is not forgotten while it writes.
    pub last_append_ms: i64,
    /// Oldest first.
    pub batches: VecDeque<RememberedBatch>,
}

impl Default for ProducerState {
    fn default() -> Self {
        Self {
            epoch: -1,
            coordinator_epoch: -1,
            last_timestamp: -1,
            last_append_ms: -1,
            batches: VecDeque::new(),
        }
    }
}

impl ProducerState {
    pub fn take(&mut self, epoch: i16, produced: Produced, append_ms: i64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
        self.last_append_ms = append_ms;
        match produced {
            Produced::Data(batch) => {
                if self.batches.len() == BATCHES_PER_PRODUCER {
                    self.batches.pop_front();
                }
                self.batches.push_back(batch);
                self.last_timestamp = batch.timestamp;
            }
            Produced::Marker { coordinator_epoch, timestamp } => {
                self.coordinator_epoch = coordinator_epoch;
                self.last_timestamp = timestamp;
            }
        }
    }
}

#[derive(Debug)]
struct InFlight {
    epoch: i16,
    base_offset: i64,
    produced: Produced,
    group: Arc<CommitGroup>,
}

impl InFlight {
    fn batch(&self) -> Option<&RememberedBatch> {
        match &self.produced {
            Produced::Data(batch) => Some(batch),
            Produced::Marker { .. } => None,
        }
    }
}

#[derive(Debug, Default)]
struct Producer {
    committed: ProducerState,
    in_flight: VecDeque<InFlight>,
    /// Since the last checkpoint frame.
    changed: bool,
}

impl Producer {
    fn epoch(&self) -> i16 {
        self.in_flight.back().map_or(self.committed.epoch, |last| last.epoch)
    }

    /// The last batch under the current epoch.
    fn last(&self) -> Option<&RememberedBatch> {
        let epoch = self.epoch();
        let flying = self.in_flight.iter().rev().take_while(|flying| flying.epoch == epoch);
        let committed = (self.committed.epoch == epoch).then(|| self.committed.batches.back());
        flying.filter_map(InFlight::batch).next().or(committed.flatten())
    }

    fn coordinator_epoch(&self) -> i32 {
        let flying = self.in_flight.iter().rev().find_map(|flying| match flying.produced {
            Produced::Marker { coordinator_epoch, .. } => Some(coordinator_epoch),
            Produced::Data(_) => None,
        });
        flying.unwrap_or(self.committed.coordinator_epoch)
    }
}

#[derive(Debug, Default)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

/// A batch as the check sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    /// A coordinator's batch carries an epoch and no sequence: only the epoch is judged.
    pub has_sequence: bool,
}

#[derive(Debug)]
pub enum Verdict {
    New,
    /// There already, at these offsets; while it is in flight, the commit to wait for.
    Duplicate(RememberedBatch, Option<Arc<CommitGroup>>),
}

impl Producers {
    /// Whether the batch may follow what is known of its producer.
    pub fn check(&self, batch: Sequenced) -> Result<Verdict, AppendError> {
        let producer_id = batch.producer_id;
        let Some(known) = self.by_id.get(&producer_id) else {
            // Forgotten (expired, trimmed) or new: Kafka takes any sequence here, the producer knows better than we.
            return Ok(Verdict::New);
        };
        let current = known.epoch();
        let same = |b: &RememberedBatch| {
            b.first_sequence == batch.first_sequence && b.last_sequence == batch.last_sequence
        };
        if batch.has_sequence && batch.epoch == current {
            let mut flying = known.in_flight.iter().filter(|flying| flying.epoch == batch.epoch);
            let found = flying.find_map(|flying| Some((flying.batch().filter(|known| same(known))?, flying)));
            if let Some((found, flying)) = found {
                return Ok(Verdict::Duplicate(*found, Some(flying.group.clone())));
            }
            if known.committed.epoch == batch.epoch
                && let Some(found) = known.committed.batches.iter().find(|b| same(b))
            {
                return Ok(Verdict::Duplicate(*found, None));
            }
        }
        if batch.epoch < current {
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch: batch.epoch, current });
        }
        if !batch.has_sequence {
            return Ok(Verdict::New);
        }
        let expected = match known.last() {
            _ if batch.epoch > current => 0,
            None => 0,
            Some(last) => next_sequence(last.last_sequence),
        };
        match batch.first_sequence {
            found if found == expected => Ok(Verdict::New),
            found => Err(AppendError::OutOfOrderSequence { producer_id, expected, found }),
        }
    }

    /// Whether a marker of this producer and coordinator may follow what is known.
    pub fn check_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
    ) -> Result<(), AppendError> {
        let Some(known) = self.by_id.get(&producer_id) else { return Ok(()) };
        let (current, coordinator) = (known.epoch(), known.coordinator_epoch());
        if epoch < current {
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if coordinator_epoch < coordinator {
            let (epoch, current) = (coordinator_epoch, coordinator);
            return Err(AppendError::CoordinatorFenced { producer_id, epoch, current });
        }
        Ok(())
    }

    /// Remembers a batch that was checked and enqueued. True when its producer was not known.
    pub fn enqueued(
        &mut self,
        producer_id: i64,
        epoch: i16,
        base_offset: i64,
        produced: Produced,
        group: Arc<CommitGroup>,
    ) -> bool {
        let before = self.by_id.len();
        let producer = self.by_id.entry(producer_id).or_default();
        producer.in_flight.push_back(InFlight { epoch, base_offset, produced, group });
        self.by_id.len() > before
    }

    /// The newest epoch of this producer.
    pub fn epoch(&self, producer_id: i64) -> Option<i16> {
        self.by_id.get(&producer_id).map(Producer::epoch)
    }

    /// The commit that the newest batch in flight of this producer waits for.
    pub fn last_in_flight(&self, producer_id: i64) -> Option<Arc<CommitGroup>> {
        Some(self.by_id.get(&producer_id)?.in_flight.back()?.group.clone())
    }

    /// The oldest batch in flight of this producer is durable now.
    pub fn committed(&mut self, producer_id: i64, base_offset: i64, append_ms: i64) {
        let producer =
            self.by_id.get_mut(&producer_id).expect("a producer with a batch in flight is not forgotten");
        let flown = producer.in_flight.pop_front().expect("a committed batch was in flight");
        assert_eq!(flown.base_offset, base_offset, "batches of producer {producer_id} commit in order");
        producer.committed.take(flown.epoch, flown.produced, append_ms);
        producer.changed = true;
    }

    /// A batch that recovery found in the WAL.
    pub fn replay(&mut self, producer_id: i64, epoch: i16, produced: Produced, append_ms: i64) {
        let producer = self.by_id.entry(producer_id).or_default();
        producer.committed.take(epoch, produced, append_ms);
        producer.changed = true;
    }

    pub fn insert(&mut self, id: i64, state: ProducerState) {
        self.by_id.insert(id, Producer { committed: state, ..Producer::default() });
    }

    /// Forgets producers whose last batch was committed before `before_ms`, never one with a batch in flight or one that is `busy`.
    /// How many.
    pub fn expire(&mut self, before_ms: i64, busy: impl Fn(i64) -> bool) -> usize {
        let count = self.by_id.len();
        self.by_id.retain(|id, producer| {
            producer.committed.last_append_ms >= before_ms || !producer.in_flight.is_empty() || busy(*id)
        });
        count - self.by_id.len()
    }

    pub fn forget(&mut self, id: i64) -> bool {
        match self.by_id.get(&id) {
            Some(producer) if producer.in_flight.is_empty() => self.by_id.remove(&id).is_some(),
            _ => false,
        }
    }

    /// Committed states. Those that changed since the last call, or all.
    pub fn capture(&mut self, all: bool) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.by_id.iter_mut().filter_map(move |(id, producer)| {
            let wanted = (all || producer.changed) && producer.committed.epoch >= 0;
            producer.changed = false;
            wanted.then_some((*id, &producer.committed))
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.by_id
            .iter()
            .filter(|(_, p)| p.committed.epoch >= 0)
            .map(|(id, producer)| (*id, &producer.committed))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// What a commit's entries say of producers: id, epoch, batch.
pub fn produced(entries: &[Entry]) -> impl Iterator<Item = (i64, i16, Produced)> {
    entries.iter().filter_map(|entry| {
        let producer = entry.producer?;
        if entry.is_control() {
            let coordinator_epoch = entry.transaction.map_or(-1, |transaction| transaction.coordinator_epoch);
            let marker = Produced::Marker { coordinator_epoch, timestamp: entry.max_timestamp };
            return Some((producer.id, producer.epoch, marker));
        }
        let last_sequence = match producer.base_sequence {
            none if none < 0 => none,
            first => last_sequence(first, (entry.last_offset - entry.base_offset) as i64),
        };
        let batch = RememberedBatch {
            first_sequence: producer.base_sequence,
            last_sequence,
            base_offset: entry.base_offset as i64,
            last_offset: entry.last_offset as i64,
            timestamp: entry.max_timestamp,
        };
        Some((producer.id, producer.epoch, Produced::Data(batch)))
    })
}

/// Sequences wrap from 2^31 − 1 to 0.
pub fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

/// The sequence of the last of `count` records.
pub fn last_sequence(first: i32, last_offset_delta: i64) -> i32 {
    (i64::from(first) + last_offset_delta).rem_euclid(1 << 31) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> Sequenced {
        Sequenced { producer_id: 7, epoch, first_sequence: first, last_sequence: last, has_sequence: true }
    }

    fn remembered(b: Sequenced, base_offset: i64) -> RememberedBatch {
        let last_offset = base_offset + i64::from(b.last_sequence.wrapping_sub(b.first_sequence));
        let (first_sequence, last_sequence) = (b.first_sequence, b.last_sequence);
        RememberedBatch { first_sequence, last_sequence, base_offset, last_offset, timestamp: 0 }
    }

    fn fly(producers: &mut Producers, b: Sequenced, base_offset: i64) -> Arc<CommitGroup> {
        let verdict = producers.check(b);
        assert!(matches!(verdict, Ok(Verdict::New)), "{verdict:?}");
        let group = Arc::<CommitGroup>::default();
        let data = Produced::Data(remembered(b, base_offset));
        producers.enqueued(b.producer_id, b.epoch, base_offset, data, group.clone());
        group
    }

    fn take(producers: &mut Producers, b: Sequenced, base_offset: i64) {
        fly(producers, b, base_offset);
        producers.committed(7, base_offset, 0);
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_an_older_one_is_out_of_order() {
        let mut producers = Producers::default();
        (0..6).for_each(|i| take(&mut producers, batch(0, i, i), i64::from(i)));
        for i in 1..6 {
            let Ok(Verdict::Duplicate(found, None)) = producers.check(batch(0, i, i)) else {
                panic!("{i} is forgotten")
            };
            assert_eq!(found.base_offset, i64::from(i));
        }
        let older = producers.check(batch(0, 0, 0));
        assert!(matches!(older, Err(AppendError::OutOfOrderSequence { expected: 6, found: 0, .. })));
    }

    #[test]
    fn a_duplicate_of_a_batch_in_flight_waits_for_that_commit() {
        let mut producers = Producers::default();
        let group = fly(&mut producers, batch(0, 0, 3), 0);
        let Ok(Verdict::Duplicate(found, Some(wait))) = producers.check(batch(0, 0, 3)) else {
            panic!("not found")
        };
        assert_eq!(found.base_offset, 0);
        assert!(Arc::ptr_eq(&group, &wait));
        fly(&mut producers, batch(0, 4, 4), 4);
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        take(&mut producers, batch(3, 10, 12), 0);
        let gap = producers.check(batch(4, 13, 13));
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 0, found: 13, .. })));
        fly(&mut producers, batch(4, 0, 0), 3);
        let fenced = producers.check(batch(3, 13, 13));
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { epoch: 3, current: 4, .. })));
        // A checkpoint taken now still has the old epoch's batches: the bump is not durable.
        let captured: Vec<_> =
            producers.capture(true).map(|(id, state)| (id, state.epoch, state.batches.len())).collect();
        assert_eq!(captured, [(7, 3, 1)]);
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut producers = Producers::default();
        take(&mut producers, batch(0, i32::MAX - 1, 0), 0);
        take(&mut producers, batch(0, 1, 1), 3);
        assert_eq!(last_sequence(i32::MAX - 1, 2), 0);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert!(matches!(Producers::default().check(batch(5, 1000, 1001)), Ok(Verdict::New)));
    }

    #[test]
    fn expiry_counts_from_the_last_commit_and_spares_what_is_in_flight() {
        let mut producers = Producers::default();
        fly(&mut producers, batch(0, 0, 0), 0);
        producers.committed(7, 0, 1_000);
        assert_eq!(producers.expire(1_000, |_| false), 0);
        fly(&mut producers, batch(0, 1, 1), 1);
        assert_eq!(producers.expire(5_000, |_| false), 0);
        producers.committed(7, 1, 1_500);
        assert_eq!(producers.expire(5_000, |id| id == 7), 0, "it is inside a transaction");
        assert_eq!(producers.expire(5_000, |_| false), 1);
    }

    #[test]
    fn a_marker_fences_old_coordinators_and_leaves_the_sequence_as_it_is() {
        let mut producers = Producers::default();
        take(&mut producers, batch(0, 0, 4), 0);
        let marker = |coordinator_epoch| Produced::Marker { coordinator_epoch, timestamp: 9 };
        producers.check_marker(7, 0, 3).unwrap();
        producers.enqueued(7, 0, 5, marker(3), Arc::default());
        fly(&mut producers, batch(0, 5, 5), 6);
        let fenced = producers.check_marker(7, 0, 2);
        assert!(matches!(fenced, Err(AppendError::CoordinatorFenced { epoch: 2, current: 3, .. })));
        producers.committed(7, 5, 0);
        producers.committed(7, 6, 0);
        // One that bumps the epoch: sequences begin anew, the old epoch is over.
        producers.check_marker(7, 1, 3).unwrap();
        producers.enqueued(7, 1, 7, marker(3), Arc::default());
        let late = producers.check(batch(0, 6, 6));
        assert!(matches!(late, Err(AppendError::InvalidProducerEpoch { epoch: 0, current: 1, .. })));
        fly(&mut producers, batch(1, 0, 0), 8);
        let late = producers.check_marker(7, 0, 3);
        assert!(matches!(late, Err(AppendError::InvalidProducerEpoch { .. })));
    }
}
