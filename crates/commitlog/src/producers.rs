//! What a partition remembers of idempotent producers, so that a retried batch is recognised (KIP-98, KIP-360).
//!
//! Per producer id the epoch and the last five batches, as Kafka keeps them: a producer may have five requests in flight, so any
//! of the last five may come again. The state moves when a batch is enqueued, so that the next batch in flight finds it; an answer
//! "duplicate" for a batch still in flight waits for that batch's own commit (F9 of the bucket protocol).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::commit::CommitGroup;
use crate::error::AppendError;

/// Batches remembered per producer id. Kafka's clients rely on five.
pub const BATCHES_PER_PRODUCER: usize = 5;

#[derive(Clone, Debug)]
pub struct RememberedBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    /// While it is in flight: what to wait for.
    pub in_flight: Option<Arc<CommitGroup>>,
}

#[derive(Clone, Debug)]
pub struct ProducerState {
    pub epoch: i16,
    /// Oldest first.
    pub batches: VecDeque<RememberedBatch>,
    /// Of the last batch; −1 when unknown. Expiry counts from here (F3), so a replay comes to the same answer.
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
}

#[derive(Debug, Default)]
pub struct Producers {
    by_id: BTreeMap<i64, ProducerState>,
}

/// A batch as the check sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
}

pub enum Verdict {
    New,
    Duplicate(RememberedBatch),
}

impl Producers {
    /// Whether the batch may follow what is known of its producer.
    pub fn check(&self, batch: Sequenced) -> Result<Verdict, AppendError> {
        let Some(known) = self.by_id.get(&batch.producer_id) else {
            // Forgotten (expired, trimmed) or new: Kafka takes any sequence here, the producer knows better than we.
            return Ok(Verdict::New);
        };
        if batch.epoch < known.epoch {
            let (producer_id, epoch, current) = (batch.producer_id, batch.epoch, known.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if batch.epoch > known.epoch {
            return match batch.first_sequence {
                0 => Ok(Verdict::New),
                found => Err(AppendError::OutOfOrderSequence {
                    producer_id: batch.producer_id,
                    expected: 0,
                    found,
                }),
            };
        }
        let same = |b: &&RememberedBatch| {
            b.first_sequence == batch.first_sequence && b.last_sequence == batch.last_sequence
        };
        if let Some(duplicate) = known.batches.iter().find(same) {
            return Ok(Verdict::Duplicate(duplicate.clone()));
        }
        match known.batches.back() {
            Some(last) if next_sequence(last.last_sequence) != batch.first_sequence => {
                let (producer_id, found) = (batch.producer_id, batch.first_sequence);
                Err(AppendError::OutOfOrderSequence {
                    producer_id,
                    expected: next_sequence(last.last_sequence),
                    found,
                })
            }
            _ => Ok(Verdict::New),
        }
    }

    /// Remembers a batch that was checked.
    pub fn remember(&mut self, batch: Sequenced, remembered: RememberedBatch, timestamp: i64) {
        let fresh = || ProducerState {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(BATCHES_PER_PRODUCER),
            last_timestamp: -1,
            coordinator_epoch: -1,
        };
        let state = self.by_id.entry(batch.producer_id).or_insert_with(fresh);
        if state.epoch != batch.epoch {
            state.epoch = batch.epoch;
            state.batches.clear();
        }
        if state.batches.len() == BATCHES_PER_PRODUCER {
            state.batches.pop_front();
        }
        state.batches.push_back(remembered);
        state.last_timestamp = timestamp;
    }

    /// Drops the handles of batches that are committed now.
    pub fn committed_through(&mut self, producer_id: i64, last_offset: i64) {
        if let Some(state) = self.by_id.get_mut(&producer_id) {
            state
                .batches
                .iter_mut()
                .filter(|b| b.last_offset <= last_offset)
                .for_each(|b| b.in_flight = None);
        }
    }

    /// Forgets producers whose last batch is older than `before_ms`. Never one with a batch in flight.
    pub fn expire(&mut self, before_ms: i64) {
        self.by_id
            .retain(|_, s| s.last_timestamp >= before_ms || s.batches.iter().any(|b| b.in_flight.is_some()));
    }

    /// Forgets the producers that were silent longest until `limit` are left.
    pub fn shrink_to(&mut self, limit: usize) {
        if self.by_id.len() <= limit {
            return;
        }
        let mut ages: Vec<(i64, i64)> =
            self.by_id.iter().map(|(id, state)| (state.last_timestamp, *id)).collect();
        ages.sort_unstable();
        for (_, id) in ages.into_iter().take(self.by_id.len() - limit) {
            if self.by_id[&id].batches.iter().all(|b| b.in_flight.is_none()) {
                self.by_id.remove(&id);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.by_id.iter().map(|(id, state)| (*id, state))
    }

    pub fn insert(&mut self, id: i64, state: ProducerState) {
        self.by_id.insert(id, state);
    }
}

/// Sequences wrap from 2^31 − 1 to 0.
pub fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> Sequenced {
        Sequenced { producer_id: 7, epoch, first_sequence: first, last_sequence: last }
    }

    fn take(producers: &mut Producers, b: Sequenced, base_offset: i64) {
        assert!(matches!(producers.check(b), Ok(Verdict::New)));
        let last_offset = base_offset + i64::from(b.last_sequence.wrapping_sub(b.first_sequence));
        let (first_sequence, last_sequence) = (b.first_sequence, b.last_sequence);
        let remembered =
            RememberedBatch { first_sequence, last_sequence, base_offset, last_offset, in_flight: None };
        producers.remember(b, remembered, 0);
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_an_older_one_is_out_of_order() {
        let mut producers = Producers::default();
        (0..6).for_each(|i| take(&mut producers, batch(0, i, i), i64::from(i)));
        for i in 1..6 {
            let Ok(Verdict::Duplicate(found)) = producers.check(batch(0, i, i)) else {
                panic!("{i} is forgotten")
            };
            assert_eq!(found.base_offset, i64::from(i));
        }
        assert!(matches!(
            producers.check(batch(0, 0, 0)),
            Err(AppendError::OutOfOrderSequence { expected: 6, found: 0, .. })
        ));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        take(&mut producers, batch(3, 10, 12), 0);
        assert!(matches!(
            producers.check(batch(4, 13, 13)),
            Err(AppendError::OutOfOrderSequence { expected: 0, found: 13, .. })
        ));
        take(&mut producers, batch(4, 0, 0), 3);
        let fenced = producers.check(batch(3, 13, 13));
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { epoch: 3, current: 4, .. })));
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut producers = Producers::default();
        take(&mut producers, batch(0, i32::MAX, i32::MAX), 0);
        take(&mut producers, batch(0, 0, 0), 1);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert!(matches!(Producers::default().check(batch(5, 1000, 1001)), Ok(Verdict::New)));
    }
}
