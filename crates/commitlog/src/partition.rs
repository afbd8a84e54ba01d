//! One partition: its offsets, its extents, its producers; append, read, trim.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::batch::{Batch, BatchHeader, split_batches};
use protocol::{Records, TopicIdPartition};
use tokio::sync::Notify;

use crate::commit::Append;
use crate::container::{BatchEntry, BatchFlags, Note};
use crate::error::{AppendError, ReadError};
use crate::extent::Extent;
use crate::log::Shared;
use crate::producers::{Producers, RememberedBatch, Sequenced, Verdict};
use crate::settings::PartitionSettings;
use crate::wal::Pending;

/// Decompressing a batch to find a record by time stops here.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

pub struct Partition {
    id: TopicIdPartition,
    shared: Arc<Shared>,
    pub(crate) inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub settings: PartitionSettings,
    pub log_start: i64,
    /// First offset that is not durable yet, or not yet known to be: readers end here.
    pub high_watermark: i64,
    /// Next offset to assign.
    pub log_end: i64,
    pub extents: VecDeque<Extent>,
    pub size_bytes: u64,
    pub producers: Producers,
    /// (epoch, first offset of it), ascending (F10).
    pub epochs: Vec<(i32, i64)>,
    pub deleted: bool,
    waiters: Vec<Weak<Waiting>>,
}

/// What readers may know of a partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    pub high_watermark: i64,
    /// Before the first open transaction; today the high watermark.
    pub last_stable: i64,
    /// The same as the high watermark for everybody outside: only committed data is visible.
    pub log_end: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Client,
    Coordinator,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct AppendOptions {
    pub leader_epoch: i32,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    pub offset: i64,
    pub max_bytes: usize,
    /// Return the first batch even when it is longer than `max_bytes` (KIP-74).
    pub min_one_batch: bool,
    pub isolation: Isolation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

#[derive(Clone, Debug)]
pub struct Read {
    pub records: Records,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub aborted: Vec<AbortedTransaction>,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

/// A producer as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
}

#[derive(Debug, Default)]
struct Waiting {
    fired: AtomicBool,
    notify: Notify,
}

/// Waits for the next commit on any of the partitions that it was given to. One per long poll.
#[derive(Clone, Debug, Default)]
pub struct FetchWait {
    waiting: Arc<Waiting>,
}

impl FetchWait {
    pub fn new() -> FetchWait {
        FetchWait::default()
    }

    pub async fn notified(&self) {
        loop {
            let notified = self.waiting.notify.notified();
            if self.waiting.fired.swap(false, Ordering::AcqRel) {
                return;
            }
            notified.await;
        }
    }
}

impl Partition {
    pub(crate) fn new(id: TopicIdPartition, shared: Arc<Shared>, settings: PartitionSettings) -> Partition {
        let inner = Inner {
            settings,
            log_start: 0,
            high_watermark: 0,
            log_end: 0,
            extents: VecDeque::new(),
            size_bytes: 0,
            producers: Producers::default(),
            epochs: Vec::new(),
            deleted: false,
            waiters: Vec::new(),
        };
        Partition { id, shared, inner: Mutex::new(inner) }
    }

    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub fn settings(&self) -> PartitionSettings {
        self.inner.lock().settings.clone()
    }

    pub fn offsets(&self) -> Offsets {
        self.inner.lock().offsets()
    }

    /// Bytes of batches that are readable.
    pub fn size_bytes(&self) -> u64 {
        self.inner.lock().size_bytes
    }

    /// Checks the producer's sequence, gives the batch its offsets and lets it wait for the next commit. Cheap and synchronous:
    /// batches of one connection are enqueued in the order in which they came.
    ///
    /// The batch was validated before (`protocol::batch::produce`), its CRC included.
    pub fn append(self: &Arc<Self>, batch: Batch, options: AppendOptions) -> Result<Append, AppendError> {
        self.shared.check_writable()?;
        let header = batch.header;
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(AppendError::Deleted);
        }
        let sequenced = (header.has_producer_id() && !header.is_control()).then(|| Sequenced {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
        });
        if let Some(sequenced) = sequenced
            && let Verdict::Duplicate(known) = inner.producers.check(sequenced)?
        {
            return Ok(Append {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                log_start_offset: inner.log_start,
                duplicate: true,
                group: known.in_flight,
            });
        }
        let base_offset = inner.log_end;
        let span = i64::from(header.last_offset_delta);
        let last_offset = base_offset.checked_add(span).filter(|last| *last < i64::MAX - 1);
        let last_offset = last_offset.ok_or(AppendError::OffsetsExhausted)?;
        let entry = entry_of(&header, base_offset, options.leader_epoch);
        let pending = Pending { partition: self.clone(), batch, entry };
        // The partition's lock is held across the hand-over: the order of offsets is the order in the queue.
        let group = self.shared.enqueue(pending);
        inner.log_end = last_offset + 1;
        inner.start_epoch(options.leader_epoch, base_offset);
        if let Some(sequenced) = sequenced {
            let remembered = RememberedBatch {
                first_sequence: sequenced.first_sequence,
                last_sequence: sequenced.last_sequence,
                base_offset,
                last_offset,
                in_flight: Some(group.clone()),
            };
            inner.producers.remember(sequenced, remembered, header.max_timestamp);
        }
        Ok(Append {
            base_offset,
            last_offset,
            log_start_offset: inner.log_start,
            duplicate: false,
            group: Some(group),
        })
    }

    /// As much as can be had without touching the medium; `None` when the first bytes are not in memory.
    pub fn read_tail(&self, request: &ReadRequest) -> Option<Result<Read, ReadError>> {
        let plan = match self.plan(request) {
            Ok(plan) => plan,
            Err(error) => return Some(Err(error)),
        };
        let mut out = Collect::new(request, plan.end);
        let mut first = true;
        for extent in &plan.extents {
            let bytes =
                self.shared.tail.lock().get(extent.chunk, u64::from(extent.position_in_chunk), extent.len);
            let Some(bytes) = bytes else {
                if first {
                    return None;
                }
                break;
            };
            first = false;
            if out.take(&bytes) {
                break;
            }
        }
        Some(Ok(plan.answer(out)))
    }

    /// Reads from memory or from the medium. Whole batches only; the first may start before `offset`, as Kafka's clients expect.
    pub async fn read(&self, request: ReadRequest) -> Result<Read, ReadError> {
        if let Some(read) = self.read_tail(&request) {
            return read;
        }
        let plan = self.plan(&request)?;
        let mut out = Collect::new(&request, plan.end);
        for extent in &plan.extents {
            match self.extent_bytes(extent).await {
                Ok(bytes) => {
                    if out.take(&bytes) {
                        break;
                    }
                }
                // What was read before the damage is good.
                Err(_) if out.len > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(plan.answer(out))
    }

    fn plan(&self, request: &ReadRequest) -> Result<Plan, ReadError> {
        let inner = self.inner.lock();
        if inner.deleted {
            return Err(ReadError::Deleted);
        }
        let offsets = inner.offsets();
        let end = match request.isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        if request.offset < offsets.log_start || request.offset > offsets.high_watermark {
            let (log_start, high_watermark) = (offsets.log_start, offsets.high_watermark);
            return Err(ReadError::OutOfRange { offset: request.offset, log_start, high_watermark });
        }
        let first = inner.extents.partition_point(|extent| extent.last_offset < request.offset);
        let mut extents = Vec::new();
        let mut len = 0;
        for extent in inner.extents.range(first..) {
            if extent.base_offset >= end || (len >= request.max_bytes && !extents.is_empty()) {
                break;
            }
            // The first extent may begin long before the offset, so its length does not count.
            len += if extents.is_empty() { 0 } else { extent.len as usize };
            extents.push(*extent);
        }
        Ok(Plan { extents, offsets, end })
    }

    /// The extent's bytes: from the tail, from what was read lately, or from the file, every checksum verified.
    pub(crate) async fn extent_bytes(&self, extent: &Extent) -> Result<Bytes, ReadError> {
        let tail = self.shared.tail.lock().get(extent.chunk, u64::from(extent.position_in_chunk), extent.len);
        if let Some(bytes) = tail {
            return Ok(bytes);
        }
        if let Some(bytes) = self.shared.cold.lock().get(extent.place) {
            return Ok(bytes);
        }
        let bytes = self.shared.read_file(extent.place, extent.len as usize).await?;
        let damaged =
            |detail: String| ReadError::Damaged { partition: self.id, offset: extent.base_offset, detail };
        let mut next = extent.base_offset;
        for batch in split_batches(&bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            batch.verify_crc().map_err(|error| damaged(error.to_string()))?;
            if batch.header.base_offset != next {
                return Err(damaged(format!(
                    "a batch of offset {} where {next} belongs",
                    batch.header.base_offset
                )));
            }
            next = batch.header.next_offset();
        }
        if next != extent.last_offset + 1 {
            return Err(damaged(format!("ends at offset {next}, not at {}", extent.last_offset + 1)));
        }
        self.shared.cold.lock().put(extent.place, bytes.clone());
        Ok(bytes)
    }

    /// The first record at or after `timestamp`, in offset order, among those that are readable.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let (extents, log_start) = {
            let inner = self.inner.lock();
            let late = |e: &&Extent| e.max_timestamp >= timestamp;
            (inner.extents.iter().filter(late).copied().collect::<Vec<_>>(), inner.log_start)
        };
        for extent in extents {
            if let Some(found) = self.find(&extent, log_start, |at| at >= timestamp).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp (ListOffsets −3, KIP-734).
    pub async fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let (extents, log_start, largest) = {
            let inner = self.inner.lock();
            let Some(largest) = inner.extents.iter().map(|e| e.max_timestamp).max() else { return Ok(None) };
            let with = |e: &&Extent| e.max_timestamp == largest;
            (inner.extents.iter().filter(with).copied().collect::<Vec<_>>(), inner.log_start, largest)
        };
        for extent in extents {
            if let Some(found) = self.find(&extent, log_start, |at| at == largest).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find(
        &self,
        extent: &Extent,
        log_start: i64,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let bytes = self.extent_bytes(extent).await?;
        let damaged =
            |detail: String| ReadError::Damaged { partition: self.id, offset: extent.base_offset, detail };
        for batch in split_batches(&bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let leader_epoch = batch.header.partition_leader_epoch;
            if batch.header.is_control() || batch.header.last_offset() < log_start {
                continue;
            }
            if batch.header.timestamp_type() == protocol::batch::TimestampType::LogAppendTime {
                let (offset, timestamp) =
                    (batch.header.base_offset.max(log_start), batch.header.max_timestamp);
                if wanted(timestamp) {
                    return Ok(Some(TimestampOffset { offset, timestamp, leader_epoch }));
                }
                continue;
            }
            for record in batch.records(DECOMPRESSED_BYTES_MAX) {
                let record = record.map_err(|error| damaged(error.to_string()))?;
                if record.offset >= log_start && wanted(record.timestamp) {
                    let (offset, timestamp) = (record.offset, record.timestamp);
                    return Ok(Some(TimestampOffset { offset, timestamp, leader_epoch }));
                }
            }
        }
        Ok(None)
    }

    /// The largest epoch at or below `epoch`, and where it ends (OffsetForLeaderEpoch). (−1, −1) when there is none.
    pub fn end_offset_for_epoch(&self, epoch: i32, current_epoch: i32) -> (i32, i64) {
        let inner = self.inner.lock();
        if epoch == current_epoch {
            return (epoch, inner.high_watermark);
        }
        let after = inner.epochs.partition_point(|(known, _)| *known <= epoch);
        match after.checked_sub(1) {
            _ if after == inner.epochs.len() && epoch > current_epoch => (-1, -1),
            None => (-1, -1),
            Some(at) => (
                inner.epochs[at].0,
                inner.epochs.get(after).map_or(inner.high_watermark, |(_, start)| *start),
            ),
        }
    }

    /// The leader epoch of the record at `offset`; `None` when the log knows none.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let inner = self.inner.lock();
        let after = inner.epochs.partition_point(|(_, start)| *start <= offset);
        Some(inner.epochs[after.checked_sub(1)?].0)
    }

    /// Makes everything below `before` unreachable, durably, and returns the log start. −1 means the high watermark.
    pub async fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, ReadError> {
        let group = {
            let mut inner = self.inner.lock();
            if inner.deleted {
                return Err(ReadError::Deleted);
            }
            let before = if before == -1 { inner.high_watermark } else { before };
            if before < 0 || before > inner.high_watermark {
                let (log_start, high_watermark) = (inner.log_start, inner.high_watermark);
                return Err(ReadError::OutOfRange { offset: before, log_start, high_watermark });
            }
            if before <= inner.log_start {
                return Ok(inner.log_start);
            }
            let note = Note::LogStart { partition: self.id, offset: before as u64 };
            let group = self.shared.enqueue_note(note);
            // Readers stop seeing the records now; space goes once the note is durable.
            inner.log_start = before;
            group
        };
        group.wait().await.map_err(|error| {
            ReadError::Storage(world::disk::DiskError::new(
                world::disk::DiskErrorKind::Io,
                "commit",
                std::path::Path::new("wal"),
                error.to_string(),
            ))
        })?;
        let mut inner = self.inner.lock();
        let dropped = inner.drop_below_log_start();
        let log_start = inner.log_start;
        drop(inner);
        self.shared.release(&dropped);
        Ok(log_start)
    }

    /// Where retention would put the log start now.
    pub(crate) fn expired_before(&self, now_ms: i64) -> Option<i64> {
        let inner = self.inner.lock();
        if !inner.settings.delete || inner.deleted {
            return None;
        }
        let PartitionSettings { retention_ms, retention_bytes, .. } = inner.settings;
        let mut size = inner.size_bytes;
        let mut before = inner.log_start;
        for extent in &inner.extents {
            let old = retention_ms >= 0
                && extent.max_timestamp >= 0
                && now_ms.saturating_sub(extent.max_timestamp) > retention_ms;
            let over = retention_bytes >= 0 && size - u64::from(extent.len) >= retention_bytes as u64;
            if !old && !over {
                break;
            }
            size -= u64::from(extent.len);
            before = extent.last_offset + 1;
        }
        (before > inner.log_start).then_some(before)
    }

    /// Registers for the next commit here. A wait that was dropped costs nothing but its place until then.
    pub fn notify(&self, wait: &FetchWait) {
        let mut inner = self.inner.lock();
        if inner.waiters.len() >= 32 && inner.waiters.len().is_power_of_two() {
            inner.waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        inner.waiters.push(Arc::downgrade(&wait.waiting));
    }

    pub fn producers(&self) -> Vec<ActiveProducer> {
        let inner = self.inner.lock();
        let active = |(producer_id, state): (i64, &crate::producers::ProducerState)| ActiveProducer {
            producer_id,
            epoch: state.epoch,
            last_sequence: state.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: state.last_timestamp,
            coordinator_epoch: state.coordinator_epoch,
        };
        inner.producers.iter().map(active).collect()
    }

    /// A committed extent becomes readable. Waiting fetches are woken by the caller, after all locks are gone.
    pub(crate) fn commit(&self, extent: Extent, batches: &[BatchEntry]) -> Vec<Arc<CommitWaiter>> {
        let mut inner = self.inner.lock();
        inner.add_extent(extent);
        for batch in batches.iter().filter(|batch| batch.producer_id >= 0) {
            inner.producers.committed_through(batch.producer_id, extent.last_offset);
        }
        let waiters = std::mem::take(&mut inner.waiters);
        waiters.iter().filter_map(Weak::upgrade).map(|waiting| Arc::new(CommitWaiter(waiting))).collect()
    }

    /// Marks it deleted, wakes its readers and hands back its extents.
    pub(crate) fn delete(&self) -> Vec<Extent> {
        let mut inner = self.inner.lock();
        inner.deleted = true;
        inner.size_bytes = 0;
        let extents = std::mem::take(&mut inner.extents);
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiting| CommitWaiter(waiting).wake());
        extents.into()
    }
}

/// A fetch that waits for a commit.
pub(crate) struct CommitWaiter(Arc<Waiting>);

impl CommitWaiter {
    pub fn wake(&self) {
        self.0.fired.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }
}

impl Inner {
    pub fn offsets(&self) -> Offsets {
        let high_watermark = self.high_watermark;
        Offsets {
            log_start: self.log_start,
            high_watermark,
            last_stable: high_watermark,
            log_end: high_watermark,
        }
    }

    pub fn add_extent(&mut self, extent: Extent) {
        assert_eq!(extent.base_offset, self.high_watermark, "extents are committed in offset order");
        self.high_watermark = extent.last_offset + 1;
        self.log_end = self.log_end.max(self.high_watermark);
        self.size_bytes += u64::from(extent.len);
        self.extents.push_back(extent);
    }

    pub fn start_epoch(&mut self, epoch: i32, offset: i64) {
        if self.epochs.last().is_none_or(|(last, _)| epoch > *last) {
            self.epochs.push((epoch, offset));
        }
    }

    /// Extents that lie below the log start as a whole.
    pub fn drop_below_log_start(&mut self) -> Vec<Extent> {
        let mut dropped = Vec::new();
        while let Some(extent) = self.extents.front().copied().filter(|e| e.last_offset < self.log_start) {
            self.extents.pop_front();
            self.size_bytes -= u64::from(extent.len);
            dropped.push(extent);
        }
        // An epoch that ends below the log start is history; the one that holds it starts there.
        let holds = self.epochs.partition_point(|(_, start)| *start <= self.log_start);
        if holds > 1 {
            self.epochs.drain(..holds - 1);
        }
        if let Some(first) = self.epochs.first_mut() {
            first.1 = first.1.max(self.log_start.min(self.high_watermark));
        }
        dropped
    }
}

struct Plan {
    extents: Vec<Extent>,
    offsets: Offsets,
    end: i64,
}

impl Plan {
    fn answer(&self, out: Collect) -> Read {
        Read {
            records: Records::from(out.segments),
            high_watermark: self.offsets.high_watermark,
            last_stable_offset: self.offsets.last_stable,
            log_start_offset: self.offsets.log_start,
            aborted: Vec::new(),
        }
    }
}

/// Gathers whole batches up to the bound.
struct Collect {
    segments: Vec<Bytes>,
    len: usize,
    offset: i64,
    end: i64,
    max_bytes: usize,
    min_one_batch: bool,
}

impl Collect {
    fn new(request: &ReadRequest, end: i64) -> Collect {
        let (offset, max_bytes, min_one_batch) = (request.offset, request.max_bytes, request.min_one_batch);
        Collect { segments: Vec::new(), len: 0, offset, end, max_bytes, min_one_batch }
    }

    /// Takes what fits of an extent; true when nothing more fits.
    fn take(&mut self, extent: &Bytes) -> bool {
        let (mut from, mut to) = (0, 0);
        let mut full = false;
        while to < extent.len() {
            let header = BatchHeader::read(&extent[to..]).expect("batches were checked when they came");
            let len = header.total_len();
            if header.last_offset() < self.offset {
                to += len;
                from = to;
                continue;
            }
            let fits = self.len + (to - from) + len <= self.max_bytes;
            let first = self.len == 0 && to == from;
            if header.base_offset >= self.end || !(fits || first && self.min_one_batch) {
                full = true;
                break;
            }
            to += len;
        }
        if to > from {
            self.len += to - from;
            self.segments.push(extent.slice(from..to));
        }
        full || self.len >= self.max_bytes
    }
}

fn entry_of(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> BatchEntry {
    let mut flags = 0;
    if header.is_transactional() {
        flags |= BatchFlags::TRANSACTIONAL;
    }
    if header.is_control() {
        flags |= BatchFlags::CONTROL;
    }
    BatchEntry {
        base_offset: base_offset as u64,
        last_offset: (base_offset + i64::from(header.last_offset_delta)) as u64,
        record_count: header.record_count as u32,
        leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        flags: BatchFlags(flags),
        coordinator_epoch: -1,
        transaction_stamp: -1,
        delete_horizon_ms: -1,
        max_timestamp: header.max_timestamp,
        position: 0,
        len: header.total_len() as u32,
        crc: header.crc,
    }
}
