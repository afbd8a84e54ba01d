//! What a Fetch answer brought for one partition, and how records come out of it one by one.

use std::collections::{BTreeSet, VecDeque};

use protocol::batch::{Batch, ControlRecord, Records, SplitBatches, TimestampType, split_batches};
use protocol::messages::fetch_response::PartitionData;

use super::{Isolation, Received};
use crate::TopicPartition;
use crate::error::Error;

/// The batches of one partition that were fetched and not yet given out.
pub(crate) struct Fetched {
    batches: SplitBatches,
    current: Option<(Batch, Records)>,
    /// Where the next record to give out is, or the next Fetch starts.
    pub next_offset: i64,
    isolation: Isolation,
    /// Aborted transactions that begin in the rest of these batches, by first offset (last one first).
    aborted: VecDeque<(i64, i64)>,
    /// Producers inside an aborted transaction at the current position.
    aborting: BTreeSet<i64>,
    decompressed_bytes_max: usize,
    check_crcs: bool,
}

impl Fetched {
    pub fn new(
        answer: &PartitionData,
        offset: i64,
        isolation: Isolation,
        decompressed_bytes_max: usize,
        check_crcs: bool,
    ) -> Fetched {
        let records = answer.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
        let mut aborted: Vec<(i64, i64)> = answer
            .aborted_transactions
            .iter()
            .flatten()
            .map(|transaction| (transaction.first_offset, transaction.producer_id))
            .collect();
        aborted.sort_unstable();
        Fetched {
            batches: split_batches(&records),
            current: None,
            next_offset: offset,
            isolation,
            aborted: aborted.into(),
            aborting: BTreeSet::new(),
            decompressed_bytes_max,
            check_crcs,
        }
    }

    /// The next record for the application; `None` when these batches are used up.
    pub fn next(&mut self, partition: &TopicPartition) -> Result<Option<Received>, Error> {
        loop {
            if let Some((batch, records)) = &mut self.current {
                match records.next() {
                    Some(record) => {
                        let record = record?;
                        // A Fetch answer starts with the whole batch that has the offset.
                        if record.offset < self.next_offset {
                            continue;
                        }
                        self.next_offset = record.offset + 1;
                        return Ok(Some(Received {
                            topic: partition.topic.clone(),
                            partition: partition.partition,
                            offset: record.offset,
                            timestamp: record.timestamp,
                            log_append_time: batch.header.timestamp_type() == TimestampType::LogAppendTime,
                            leader_epoch: batch.header.partition_leader_epoch,
                            key: record.key,
                            value: record.value,
                            headers: record.headers,
                        }));
                    }
                    None => {
                        // Compaction may have taken the last records of the batch.
                        self.next_offset = self.next_offset.max(batch.header.next_offset());
                        self.current = None;
                    }
                }
            }
            let Some(batch) = self.batches.next() else { return Ok(None) };
            let batch = batch?;
            if self.check_crcs {
                batch.verify_crc()?;
            }
            if batch.header.last_offset() < self.next_offset {
                continue;
            }
            if self.is_hidden(&batch)? {
                self.next_offset = batch.header.next_offset();
                continue;
            }
            let records = batch.records(self.decompressed_bytes_max);
            self.current = Some((batch, records));
        }
    }

    /// Control batches are never shown; with read_committed, neither are batches of aborted transactions.
    fn is_hidden(&mut self, batch: &Batch) -> Result<bool, Error> {
        let header = &batch.header;
        if self.isolation == Isolation::ReadCommitted && header.has_producer_id() {
            while self.aborted.front().is_some_and(|(first_offset, _)| *first_offset <= header.last_offset())
            {
                let (_, producer_id) = self.aborted.pop_front().expect("just seen");
                self.aborting.insert(producer_id);
            }
            if header.is_control() {
                let marker = batch.records(self.decompressed_bytes_max).next().transpose()?;
                let aborts = marker.is_some_and(|marker| {
                    let control = marker
                        .key
                        .as_ref()
                        .and_then(|key| ControlRecord::parse(key, marker.value.as_deref()));
                    matches!(control, Some(ControlRecord::Abort { .. }))
                });
                if aborts {
                    self.aborting.remove(&header.producer_id);
                }
            } else if header.is_transactional() && self.aborting.contains(&header.producer_id) {
                return Ok(true);
            }
        }
        Ok(header.is_control())
    }
}
