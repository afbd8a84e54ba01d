//! What of a batch stays: two passes over the same batches, in offset order. The first learns the newest offset of each key ([`Keys`]), the second
//! judges ([`Cleaner`]). Pure: batches in, batches out.
//!
//! Source: Kafka's `Cleaner`, `CleanedTransactionMetadata` and `MemoryRecords.filterTo`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::batch::{Batch, RecordRef, RecordsRef, emptied, retained};
use world::broken;

use super::offset_map::OffsetMap;
use crate::container::Entry;
use crate::transactions::{ABORT, Aborted, COMMIT, NO_STAMP};

/// Why a partition cannot be compacted: its bytes are not what the log says, or we would not write what we mean to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {detail}")]
pub struct Unclean {
    pub offset: i64,
    pub detail: String,
}

impl Unclean {
    fn at(offset: i64, detail: impl std::fmt::Display) -> Self {
        Self { offset, detail: detail.to_string() }
    }
}

/// The batch that a producer is recognised by: it stays, empty if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastOf {
    /// The last offset of its last batch.
    Data(i64),
    /// Only its epoch is known, by a marker.
    Marker { epoch: i16 },
}

/// Which transactions were met so far on the way from the start.
#[derive(Default)]
struct Met {
    /// By first offset; those from `next` on begin farther on.
    aborted: Vec<Aborted>,
    next: usize,
    /// Producers whose transaction is one of those, and whether something of it was seen.
    aborting: BTreeMap<i64, bool>,
    /// Producers of whose transaction something stays before its marker.
    staying: BTreeSet<i64>,
}

impl Met {
    fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
        Self { aborted, ..Self::default() }
    }

    fn go_to(&mut self, offset: i64) {
        while let Some(aborted) = self.aborted.get(self.next).filter(|aborted| aborted.first_offset <= offset)
        {
            self.aborting.entry(aborted.producer_id).or_insert(false);
            self.next += 1;
        }
    }

    /// May its records go, because of the transaction that it belongs to?
    fn may_go(&mut self, batch: &Batch) -> bool {
        let header = &batch.header;
        self.go_to(header.last_offset());
        let producer_id = header.producer_id;
        if header.is_control() {
            return self.may_marker_go(batch);
        }
        if !header.is_transactional() {
            return false;
        }
        match self.aborting.get_mut(&producer_id) {
            Some(seen) => {
                *seen = true;
                true
            }
            None => {
                self.staying.insert(producer_id);
                false
            }
        }
    }

    fn may_marker_go(&mut self, batch: &Batch) -> bool {
        let producer_id = batch.header.producer_id;
        if batch.header.record_count == 0 {
            return true;
        }
        let entry = Entry::of_batch(batch, batch.header.base_offset as u64, NO_STAMP);
        match entry.transaction.map(|transaction| transaction.control_type) {
            Some(ABORT) => {
                let was_seen = self.aborting.remove(&producer_id).unwrap_or(false);
                !(self.staying.remove(&producer_id) || was_seen)
            }
            Some(COMMIT) => !self.staying.remove(&producer_id),
            // A kind of marker that we do not know.
            _ => false,
        }
    }
}

/// The first pass, over what is dirty.
pub struct Keys {
    map: OffsetMap,
    met: Met,
    from: i64,
    /// Behind the last batch that was taken.
    to: i64,
    decompressed_bytes_max: usize,
}

impl Keys {
    /// `from`: below it everything is clean.
    pub fn new(map: OffsetMap, from: i64, facts: &Facts) -> Self {
        let (met, decompressed_bytes_max) = (Met::new(facts.aborted.clone()), facts.decompressed_bytes_max);
        Self { map, met, from, to: from, decompressed_bytes_max }
    }

    /// Takes the next batch; false when it does not fit any more.
    pub fn take(&mut self, batch: &Batch) -> Result<bool, Unclean> {
        let header = &batch.header;
        let is_aborted = self.met.may_go(batch);
        let is_clean = header.last_offset() < self.from;
        if !is_clean && !is_aborted && !header.is_control() && header.record_count > 0 {
            let count = header.record_count as usize;
            if count > self.map.room() {
                if self.map.len() > 0 {
                    return Ok(false);
                }
                self.map.make_room(count);
            }
            let records = decompressed(batch, self.decompressed_bytes_max)?;
            for record in RecordsRef::new(&records, header.record_count) {
                let record = record.map_err(|error| Unclean::at(header.base_offset, error))?;
                let offset = offset_of(batch, &record);
                if let Some(key) = record.key.filter(|_| offset >= self.from) {
                    self.map.put(key, offset);
                }
            }
        }
        self.to = self.to.max(header.next_offset());
        Ok(true)
    }

    /// Up to here everything was taken.
    pub fn to(&self) -> i64 {
        self.to
    }

    pub fn count(&self) -> usize {
        self.map.len()
    }

    pub fn bytes(&self) -> u64 {
        self.map.bytes()
    }
}

/// What is known besides batches.
pub struct Facts {
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    pub decompressed_bytes_max: usize,
    /// With something below the round's end.
    pub aborted: Vec<Aborted>,
    pub last_of_producers: BTreeMap<i64, LastOf>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub records_read: u64,
    pub records_kept: u64,
    pub bytes_read: u64,
    pub bytes_kept: u64,
    /// Newest records of their keys that were met: kept, or tombstones that have had their time.
    winners: u64,
}

/// The second pass, from the start of the log to the round's end.
pub struct Cleaner {
    keys: Keys,
    facts: Facts,
    met: Met,
    /// Behind the last batch of the round, which stays.
    end: i64,
    done: Cleaned,
}

enum Verdict {
    AsItIs,
    Instead(Batch),
    Gone,
}

impl Cleaner {
    pub fn new(keys: Keys, facts: Facts, end: i64) -> Self {
        let met = Met::new(facts.aborted.clone());
        Self { keys, facts, met, end, done: Cleaned::default() }
    }

    /// What stays of the next batches, none or some, as they will be written.
    pub fn take(&mut self, batches: &Bytes, out: &mut Vec<Batch>) -> Result<(), Unclean> {
        for batch in protocol::batch::split_batches(batches) {
            let batch = batch.map_err(|error| Unclean::at(self.end, error))?;
            self.done.records_read += u64::from(batch.header.record_count.unsigned_abs());
            self.done.bytes_read += batch.bytes.len() as u64;
            let kept = match self.judge(&batch)? {
                Verdict::AsItIs => batch,
                Verdict::Instead(new) => new,
                Verdict::Gone => continue,
            };
            self.done.bytes_kept += kept.bytes.len() as u64;
            out.push(kept);
        }
        Ok(())
    }

    /// Did the newest record of each key in the table come by? Else nothing may count.
    pub fn finish(self) -> Result<Cleaned, Unclean> {
        match self.done.winners == self.keys.count() as u64 {
            true => Ok(self.done),
            false => {
                let detail = format!("{} keys, but {} newest records", self.keys.count(), self.done.winners);
                Err(Unclean::at(self.keys.to, detail))
            }
        }
    }

    fn judge(&mut self, batch: &Batch) -> Result<Verdict, Unclean> {
        let header = batch.header;
        // What did not fit into the table is the next round's.
        if header.base_offset >= self.keys.to {
            self.done.records_kept += header.record_count as u64;
            return Ok(Verdict::AsItIs);
        }
        let may_go = self.met.may_go(batch);
        let has_had_its_time = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.facts.now_ms)
            || broken::rule("compaction-tombstones-at-once");
        let is_dropped = may_go && (!header.is_control() || has_had_its_time);
        let stays_empty = self.stays_empty(batch);
        let is_undated = header.delete_horizon_ms().is_none();
        let mut needs_horizon = header.is_control() && may_go && is_undated && header.record_count > 0;
        let records = match is_dropped {
            true => Bytes::new(),
            false => decompressed(batch, self.facts.decompressed_bytes_max)?,
        };
        // In order, as the records are.
        let mut keep: Vec<i32> = Vec::new();
        let (mut winners, mut kept_winners) = (0, 0);
        if !is_dropped {
            for record in RecordsRef::new(&records, header.record_count) {
                let record = record.map_err(|error| Unclean::at(header.base_offset, error))?;
                let offset = offset_of(batch, &record);
                // Without a key: from before the topic was compacted.
                let newest = record.key.map(|key| self.keys.map.get(key));
                let is_winner = !header.is_control() && newest == Some(Some(offset));
                winners += u64::from(is_winner);
                let is_newest = newest.is_some_and(|newest| newest.is_none_or(|newest| offset >= newest));
                let stays = header.is_control() || is_newest && (record.value.is_some() || !has_had_its_time);
                if stays {
                    needs_horizon |= !header.is_control() && record.value.is_none() && is_undated;
                    kept_winners += u64::from(is_winner);
                    keep.push(record.offset_delta);
                }
            }
        }
        self.done.winners += winners;
        self.done.records_kept += keep.len() as u64;
        if keep.is_empty() {
            return Ok(match stays_empty {
                true if header.record_count == 0 => Verdict::AsItIs,
                true => Verdict::Instead(parsed(batch, emptied(batch))?),
                false => Verdict::Gone,
            });
        }
        if keep.len() == header.record_count as usize && !needs_horizon {
            return Ok(Verdict::AsItIs);
        }
        let horizon = needs_horizon.then(|| self.facts.now_ms.saturating_add(self.facts.delete_retention_ms));
        let new =
            retained(batch, &records, |record| keep.binary_search(&record.offset_delta).is_ok(), horizon);
        let new = parsed(batch, new.map_err(|error| Unclean::at(header.base_offset, error))?)?;
        self.check(batch, &records, &keep, &new, kept_winners)?;
        Ok(Verdict::Instead(new))
    }

    fn stays_empty(&self, batch: &Batch) -> bool {
        let header = &batch.header;
        let last_of_producer = self.facts.last_of_producers.get(&header.producer_id);
        let is_last_of_producer = header.has_producer_id()
            && last_of_producer.is_some_and(|last| match last {
                LastOf::Data(offset) => *offset == header.last_offset(),
                LastOf::Marker { epoch } => header.is_control() && header.producer_epoch == *epoch,
            });
        is_last_of_producer || header.next_offset() == self.end
    }

    /// Reads what was made of a batch, as a consumer will, and compares it with what was to stay.
    fn check(
        &self,
        old: &Batch,
        old_records: &Bytes,
        keep: &[i32],
        new: &Batch,
        winners: u64,
    ) -> Result<(), Unclean> {
        let wrong = |detail: String| Unclean::at(old.header.base_offset, detail);
        new.verify_crc().map_err(|error| wrong(error.to_string()))?;
        let (was, is) = (&old.header, &new.header);
        let place = |header: &protocol::batch::BatchHeader| {
            (
                header.base_offset,
                header.last_offset_delta,
                header.partition_leader_epoch,
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
            )
        };
        if place(was) != place(is) || is.record_count as usize != keep.len() {
            return Err(wrong(format!("{was:?} became {is:?}")));
        }
        let new_records = decompressed(new, self.facts.decompressed_bytes_max)?;
        let was_kept = |record: &Result<RecordRef<'_>, _>| {
            record
                .as_ref()
                .is_ok_and(|record: &RecordRef<'_>| keep.binary_search(&record.offset_delta).is_ok())
        };
        let mut old_ones = RecordsRef::new(old_records, was.record_count).filter(was_kept);
        let mut found = 0;
        for record in RecordsRef::new(&new_records, is.record_count) {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let Some(Ok(old)) = old_ones.next() else { return Err(wrong("a record too many".into())) };
            let same = old.offset_delta == record.offset_delta
                && old.key == record.key
                && old.value == record.value
                && old.headers.eq(record.headers)
                && was.record_timestamp(old.timestamp_delta) == is.record_timestamp(record.timestamp_delta);
            if !same {
                return Err(wrong(format!("record {} is not what it was", record.offset_delta)));
            }
            let offset = offset_of(new, &record);
            let newest = record.key.and_then(|key| self.keys.map.get(key));
            found += u64::from(!is.is_control() && newest == Some(offset));
        }
        match old_ones.next().is_none() && found == winners {
            true => Ok(()),
            false => Err(wrong(format!("{found} newest records of {winners}"))),
        }
    }
}

fn offset_of(batch: &Batch, record: &RecordRef<'_>) -> i64 {
    batch.header.base_offset + i64::from(record.offset_delta)
}

/// What was made of a batch.
fn parsed(old: &Batch, new: Bytes) -> Result<Batch, Unclean> {
    Batch::parse(new).map_err(|error| Unclean::at(old.header.base_offset, error))
}

fn decompressed(batch: &Batch, bytes_max: usize) -> Result<Bytes, Unclean> {
    if batch.header.record_count == 0 {
        return Ok(Bytes::new());
    }
    batch.decompress(bytes_max).map_err(|error| Unclean::at(batch.header.base_offset, error))
}
