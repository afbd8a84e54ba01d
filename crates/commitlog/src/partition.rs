//! One partition: its offsets, its extents, its producers; append, read, trim.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::batch::{Batch, BatchHeader, TimestampType, split_batches};
use protocol::{Records, TopicIdPartition};
use tokio::sync::Notify;

use crate::checkpoint::{PartitionCheckpoint, WalExtent};
use crate::commit::Append;
use crate::container::{Entry, FooterExtent, LogStart};
use crate::error::{AppendError, CommitError, ReadError};
use crate::extent::{Extent, Source, WalPlace, read_together};
use crate::log::Shared;
use crate::manifest::PlacedPiece;
use crate::producers::{Producers, RememberedBatch, Sequenced, Verdict, last_sequence};
use crate::segment::SegmentId;
use crate::settings::PartitionSettings;
use crate::wal::Pending;

/// How often a read looks again when data moved under it.
const MOVED_ATTEMPTS: u32 = 5;
/// Where extents of a partition are this long, their pages hold little else: the page cache would help nobody.
const READ_ALONE_BYTES: u64 = 16 << 10;
/// Decompressing a batch to find a record by time stops here.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// See `Inner::first_reaching`.
const EXTENTS_NEAR_END: usize = 16;

/// The rewriter may move data, and retention drop it, between a look at the extents and the read of their files.
/// Then the failed read is no error of the medium: it is done again.
macro_rules! while_data_moves {
    ($partition:expr, $read:expr) => {{
        let mut attempts = 1;
        loop {
            let layout = $partition.inner.lock().layout;
            let result = $read.await;
            if attempts == MOVED_ATTEMPTS {
                break result;
            }
            match $partition.moved_away(&result, layout).await {
                Ok(true) => attempts += 1,
                Ok(false) => break result,
                Err(error) => break Err(error),
            }
        }
    }};
}

pub struct Partition {
    id: TopicIdPartition,
    shared: Arc<Shared>,
    pub(crate) inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub settings: PartitionSettings,
    pub log_start: i64,
    /// The highest that DeleteRecords or retention have asked for; it may be on its way.
    log_start_wanted: i64,
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
    /// In a bucket: it is about to go to another broker, or has gone.
    leaving: Leaving,
    /// Grows whenever extents go or move.
    layout: u64,
    /// Something changed since the last checkpoint frame.
    dirty: bool,
    /// Extents that end below this offset stand in a checkpoint frame.
    checkpointed_to: i64,
    waiters: Vec<Weak<Waiting>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Takes no appends: what was appended before is being committed, and another broker takes over behind it (R13).
    Draining,
    Gone,
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
            log_start_wanted: 0,
            high_watermark: 0,
            log_end: 0,
            extents: VecDeque::new(),
            size_bytes: 0,
            producers: Producers::default(),
            epochs: Vec::new(),
            deleted: false,
            leaving: Leaving::No,
            layout: 0,
            dirty: false,
            checkpointed_to: 0,
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

    /// Checks the producer's sequence, gives the batch its offsets and lets it wait for the next commit. Cheap and
    /// synchronous: batches of one connection are enqueued in the order in which they came.
    ///
    /// The batch was validated before (`protocol::batch::produce`), its CRC included.
    pub fn append(self: &Arc<Self>, batch: Batch, options: AppendOptions) -> Result<Append, AppendError> {
        self.shared.check_room(&options, batch.bytes.len())?;
        let header = batch.header;
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(AppendError::Deleted);
        }
        if inner.leaving != Leaving::No {
            return Err(AppendError::NotLeader);
        }
        let sequenced = (header.has_producer_id() && !header.is_control()).then(|| Sequenced {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            has_sequence: options.origin == Origin::Client && header.base_sequence >= 0,
        });
        let log_append_time = |timestamp| match header.timestamp_type() {
            TimestampType::LogAppendTime => timestamp,
            TimestampType::CreateTime => -1,
        };
        if let Some(sequenced) = sequenced
            && let Verdict::Duplicate(known, group) = inner.producers.check(sequenced)?
        {
            return Ok(Append {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                log_start_offset: inner.log_start,
                log_append_time: log_append_time(known.timestamp),
                duplicate: true,
                group,
            });
        }
        let base_offset = inner.log_end;
        let span = i64::from(header.last_offset_delta);
        let last_offset = base_offset.checked_add(span).filter(|last| *last < i64::MAX - 1);
        let last_offset = last_offset.ok_or(AppendError::OffsetsExhausted)?;
        // An epoch never goes back: a batch that still carries the old one is written under the newest.
        let leader_epoch =
            inner.epochs.last().map_or(options.leader_epoch, |(last, _)| options.leader_epoch.max(*last));
        let pending =
            Pending { partition: self.clone(), batch, base_offset: base_offset as u64, leader_epoch };
        // The partition's lock is held across the hand-over: the order of offsets is the order in the queue.
        let group = self.shared.enqueue(pending);
        inner.log_end = last_offset + 1;
        inner.start_epoch(leader_epoch, base_offset);
        if let Some(sequenced) = sequenced {
            let remembered = RememberedBatch {
                first_sequence: sequenced.first_sequence,
                last_sequence: sequenced.last_sequence,
                base_offset,
                last_offset,
                timestamp: header.max_timestamp,
            };
            if inner.producers.enqueued(sequenced, remembered, group.clone()) {
                self.shared.producers_added(1);
            }
        }
        Ok(Append {
            base_offset,
            last_offset,
            log_start_offset: inner.log_start,
            log_append_time: log_append_time(header.max_timestamp),
            duplicate: false,
            group: Some(group),
        })
    }

    /// As much as can be had without touching the medium; `None` when the first bytes are not in memory.
    pub fn read_tail(&self, request: &ReadRequest) -> Option<Result<Read, ReadError>> {
        let plan = match self.plan(request, LastExtent::InPart) {
            Ok(plan) => plan,
            Err(error) => return Some(Err(error)),
        };
        let mut out = Collect::new(request, plan.end);
        for (index, extent) in plan.extents.iter().enumerate() {
            match self.tail_bytes(extent) {
                Some(bytes) if out.take(&bytes) => break,
                Some(_) => {}
                None if index == 0 => return None,
                None => break,
            }
        }
        Some(Ok(plan.answer(self.unpinned(out))))
    }

    /// Reads from memory or from the medium. Whole batches only; the first may start before `offset`, as Kafka's
    /// clients expect.
    pub async fn read(&self, request: ReadRequest) -> Result<Read, ReadError> {
        if let Some(read) = self.read_tail(&request) {
            return read;
        }
        while_data_moves!(self, self.read_medium(&request))
    }

    /// An error that data which moved meanwhile explains: then the caller looks again. In a bucket others move it; what is
    /// missing there is no damage before we know what they did (R15); as long as that cannot be known it is an error of the bucket.
    async fn moved_away<T>(&self, result: &Result<T, ReadError>, layout: u64) -> Result<bool, ReadError> {
        if !matches!(result, Err(ReadError::Storage(_) | ReadError::Damaged { .. })) {
            return Ok(false);
        }
        if self.inner.lock().layout == layout {
            self.shared.look_for_moves().await?;
        }
        let inner = self.inner.lock();
        match (inner.deleted, inner.leaving) {
            (true, _) => Err(ReadError::Deleted),
            (_, Leaving::Gone) => Err(ReadError::NotLeader),
            _ => Ok(inner.layout != layout),
        }
    }

    async fn read_medium(&self, request: &ReadRequest) -> Result<Read, ReadError> {
        let plan = self.plan(request, LastExtent::Whole)?;
        let mut out = Collect::new(request, plan.end);
        // Long ones in a bucket are found by the footer of their segment.
        let extents = self.cut(plan.extents.clone(), request.offset).await?;
        let mut rest = fitting(&extents, request);
        'gathered: while let Some(next) = rest.first() {
            if let Some(bytes) = self.in_memory(next) {
                rest = &rest[1..];
                if out.take(&bytes) {
                    break;
                }
                continue;
            }
            // What the tail has is not read again: its chunks are the newest.
            let cold = rest.partition_point(|extent| self.tail_bytes(extent).is_none());
            let together = read_together(&rest[..cold.max(1)]);
            rest = &rest[together.len()..];
            let all = match self.read_extents(together).await {
                Ok(all) => all,
                // What was read before the damage is good.
                Err(_) if out.len > 0 => break,
                Err(error) => return Err(error),
            };
            let mut full = false;
            for (extent, bytes) in together.iter().zip(all) {
                match self.check(extent, &bytes) {
                    Ok(()) => {}
                    Err(_) if out.len > 0 => break 'gathered,
                    Err(error) => return Err(error),
                }
                // Also what does not fit any more: the next read begins with it.
                self.shared.cold.lock().put(&extent.source, bytes.clone());
                full = full || out.take(&bytes);
            }
            if full {
                break;
            }
        }
        Ok(plan.answer(self.unpinned(out)))
    }

    /// The answer's segments, copied where they would keep too much memory alive; neighbours into one.
    fn unpinned(&self, out: Collect) -> Vec<Bytes> {
        let tail = self.shared.tail.lock();
        let must_copy: Vec<bool> = out.segments.iter().map(|segment| tail.must_copy(segment.len())).collect();
        drop(tail);
        let mut segments = Vec::new();
        let mut copied = BytesMut::new();
        for (bytes, must_copy) in out.segments.into_iter().zip(must_copy) {
            if must_copy {
                copied.extend_from_slice(&bytes);
                continue;
            }
            if !copied.is_empty() {
                segments.push(copied.split().freeze());
            }
            segments.push(bytes);
        }
        if !copied.is_empty() {
            segments.push(copied.freeze());
        }
        segments
    }

    fn plan(&self, request: &ReadRequest, last: LastExtent) -> Result<Plan, ReadError> {
        let inner = self.inner.lock();
        if inner.deleted {
            return Err(ReadError::Deleted);
        }
        if inner.leaving == Leaving::Gone {
            return Err(ReadError::NotLeader);
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
        let first = inner.first_reaching(request.offset);
        let mut extents: Vec<Extent> = Vec::new();
        let mut len = 0;
        for extent in inner.extents.range(first..) {
            let fits = match last {
                LastExtent::InPart => len < request.max_bytes,
                LastExtent::Whole => len + extent.len as usize <= request.max_bytes,
            };
            if extent.first_offset >= end || !(fits || extents.is_empty()) {
                break;
            }
            // The first extent may begin long before the offset; then its length does not count.
            if extent.first_offset >= request.offset {
                len += extent.len as usize;
            }
            extents.push(extent.clone());
        }
        Ok(Plan { extents, offsets, end })
    }

    fn tail_bytes(&self, extent: &Extent) -> Option<Bytes> {
        self.shared.tail.lock().get(extent.wal()?, extent.len)
    }

    /// From the tail, or from what was read lately.
    fn in_memory(&self, extent: &Extent) -> Option<Bytes> {
        self.tail_bytes(extent).or_else(|| self.shared.cold.lock().get(&extent.source))
    }

    async fn cut(&self, extents: Vec<Extent>, offset: i64) -> Result<Vec<Extent>, ReadError> {
        self.missing_is_damage(offset, self.shared.medium.cut(&self.id, extents, offset).await)
    }

    async fn read_extents(&self, together: &[Extent]) -> Result<Vec<Bytes>, ReadError> {
        let read = self.shared.medium.read_extents(together, READ_ALONE_BYTES).await;
        self.missing_is_damage(together[0].first_offset, read)
    }

    fn missing_is_damage<T>(&self, offset: i64, read: Result<T, ReadError>) -> Result<T, ReadError> {
        let damaged = |detail: String| ReadError::Damaged { partition: self.id, offset, detail };
        match read {
            // Deleted or trimmed while we read: its file may be gone already.
            Err(_) if self.inner.lock().deleted => Err(ReadError::Deleted),
            Err(_) if self.inner.lock().leaving == Leaving::Gone => Err(ReadError::NotLeader),
            Err(ReadError::Storage(error)) if error.is_not_found() => Err(damaged(error.to_string())),
            Err(error @ ReadError::Missing { .. }) => Err(damaged(error.to_string())),
            other => other,
        }
    }

    /// The extent's bytes: from memory or from the file, every checksum verified.
    async fn extent_bytes(&self, extent: &Extent) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.in_memory(extent) {
            return Ok(bytes);
        }
        let mut read = self.read_extents(std::slice::from_ref(extent)).await?;
        let bytes = read.pop().expect("one was asked for");
        self.check(extent, &bytes)?;
        self.shared.cold.lock().put(&extent.source, bytes.clone());
        Ok(bytes)
    }

    /// Nothing leaves here unless every batch is the one that was committed at this place (P7).
    pub(crate) fn check(&self, extent: &Extent, bytes: &Bytes) -> Result<(), ReadError> {
        let checked = self.check_batches(extent, bytes);
        if checked.is_err() {
            self.shared.medium.distrust(extent);
        }
        checked
    }

    fn check_batches(&self, extent: &Extent, bytes: &Bytes) -> Result<(), ReadError> {
        let damaged =
            |detail: String| ReadError::Damaged { partition: self.id, offset: extent.first_offset, detail };
        if bytes.len() as u64 != extent.len {
            return Err(damaged(format!("{} of {} bytes are there", bytes.len(), extent.len)));
        }
        let mut next = extent.first_offset;
        for batch in split_batches(bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            batch.verify_crc().map_err(|error| damaged(error.to_string()))?;
            if batch.header.base_offset != next {
                return Err(damaged(format!(
                    "a batch of offset {} where {next} belongs",
                    batch.header.base_offset
                )));
            }
            if batch.header.partition_leader_epoch != extent.leader_epoch() {
                let found = batch.header.partition_leader_epoch;
                return Err(damaged(format!("epoch {found} where {} belongs", extent.leader_epoch())));
            }
            next = batch.header.next_offset();
        }
        if next != extent.last_offset + 1 {
            return Err(damaged(format!("ends at offset {next}, not at {}", extent.last_offset + 1)));
        }
        Ok(())
    }

    /// The first record at or after `timestamp`, in offset order, among those that are readable.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        while_data_moves!(self, self.find_timestamp(timestamp))
    }

    async fn find_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let (extents, log_start) = {
            let inner = self.inner.lock();
            let late = |e: &&Extent| e.max_timestamp >= timestamp;
            (inner.extents.iter().filter(late).cloned().collect::<Vec<_>>(), inner.log_start)
        };
        for extent in extents {
            for short in self.cut(vec![extent], log_start).await? {
                if short.max_timestamp >= timestamp
                    && let Some(found) = self.find(&short, log_start, |at| at >= timestamp).await?
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp (ListOffsets −3, KIP-734).
    pub async fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        while_data_moves!(self, self.find_max_timestamp())
    }

    async fn find_max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let (extents, log_start, largest) = {
            let inner = self.inner.lock();
            let Some(largest) = inner.extents.iter().map(|e| e.max_timestamp).max() else { return Ok(None) };
            let with = |e: &&Extent| e.max_timestamp == largest;
            (inner.extents.iter().filter(with).cloned().collect::<Vec<_>>(), inner.log_start, largest)
        };
        for extent in extents {
            for short in self.cut(vec![extent], log_start).await? {
                if short.max_timestamp == largest
                    && let Some(found) = self.find(&short, log_start, |at| at == largest).await?
                {
                    return Ok(Some(found));
                }
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
            |detail: String| ReadError::Damaged { partition: self.id, offset: extent.first_offset, detail };
        for batch in split_batches(&bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let leader_epoch = batch.header.partition_leader_epoch;
            if batch.header.is_control() || batch.header.last_offset() < log_start {
                continue;
            }
            if batch.header.timestamp_type() == TimestampType::LogAppendTime {
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

    /// The largest epoch at or below `epoch`, and where it ends (OffsetForLeaderEpoch); (−1, −1) when it is unknown.
    /// `current_epoch` is the leader's: it ends at the high watermark.
    pub fn end_offset_for_epoch(&self, epoch: i32, current_epoch: i32) -> (i32, i64) {
        let inner = self.inner.lock();
        if epoch < 0 || epoch > current_epoch {
            return (-1, -1);
        }
        if epoch == current_epoch {
            return (epoch, inner.high_watermark);
        }
        let after = inner.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = inner
            .epochs
            .get(after)
            .map_or(inner.high_watermark, |(_, start)| *start)
            .min(inner.high_watermark);
        match after.checked_sub(1) {
            Some(at) => (inner.epochs[at].0, end),
            // Older than all we know: what it wrote is gone, and the answer says where what is left begins.
            None => (epoch, end),
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
        let (group, before) = {
            let mut inner = self.inner.lock();
            if inner.deleted {
                return Err(ReadError::Deleted);
            }
            if inner.leaving != Leaving::No {
                return Err(ReadError::NotLeader);
            }
            let before = if before == -1 { inner.high_watermark } else { before };
            if before < 0 || before > inner.high_watermark {
                let (log_start, high_watermark) = (inner.log_start, inner.high_watermark);
                return Err(ReadError::OutOfRange { offset: before, log_start, high_watermark });
            }
            if before <= inner.log_start {
                return Ok(inner.log_start);
            }
            inner.log_start_wanted = inner.log_start_wanted.max(before);
            (self.shared.enqueue_log_start(LogStart { id: self.id, offset: before as u64 }), before)
        };
        group.wait().await.map_err(|CommitError(why)| ReadError::Stopped(why))?;
        let inner = self.inner.lock();
        if inner.log_start >= before {
            return Ok(inner.log_start);
        }
        // Taken over from, and closed, while it was committed: whoever leads it now has found it.
        Err(if inner.deleted { ReadError::Deleted } else { ReadError::NotLeader })
    }

    /// Where retention would put the log start now.
    pub(crate) fn expired_before(&self, now_ms: i64) -> Option<i64> {
        let inner = self.inner.lock();
        if !inner.settings.delete || inner.deleted || inner.leaving != Leaving::No {
            return None;
        }
        let PartitionSettings { retention_ms, retention_bytes, .. } = inner.settings;
        let mut size = inner.size_bytes;
        let mut before = inner.log_start;
        for extent in &inner.extents {
            let age_ms = now_ms.saturating_sub(extent.max_timestamp);
            let old = retention_ms >= 0 && extent.max_timestamp >= 0 && age_ms > retention_ms;
            let over = retention_bytes >= 0 && size - extent.len >= retention_bytes as u64;
            if !old && !over {
                break;
            }
            size -= extent.len;
            before = extent.last_offset + 1;
        }
        (before > inner.log_start).then_some(before)
    }

    /// Registers for the next commit here, and says whether a reader at this offset would hear anything already. A wait
    /// that was dropped costs nothing but its place until then.
    pub fn notify(&self, wait: &FetchWait, offset: i64) -> bool {
        let mut inner = self.inner.lock();
        if inner.waiters.len() >= 32 && inner.waiters.len().is_power_of_two() {
            inner.waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        inner.waiters.push(Arc::downgrade(&wait.waiting));
        inner.deleted || inner.leaving == Leaving::Gone || offset != inner.high_watermark
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
        let mut producers: Vec<ActiveProducer> = inner.producers.iter().map(active).collect();
        producers.sort_unstable_by_key(|producer| producer.producer_id);
        producers
    }

    /// A committed extent becomes readable. Waiting fetches are woken by the caller, after all locks are gone.
    pub(crate) fn commit(
        self: &Arc<Self>,
        extent: Extent,
        entries: &[Entry],
        append_ms: i64,
    ) -> Vec<CommitWaiter> {
        let mut inner = self.inner.lock();
        let last_offset = extent.last_offset;
        if inner.deleted {
            // Nobody reads it any more, and its bytes count for nothing.
            inner.high_watermark = last_offset + 1;
        } else {
            self.shared.medium.hold(&extent);
            inner.add_extent(extent);
            self.mark_dirty(&mut inner);
        }
        for entry in entries {
            if let Some(producer) = entry.producer.filter(|_| !is_control(entry)) {
                inner.producers.committed(producer.id, entry.base_offset as i64, append_ms);
            }
        }
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().filter_map(Weak::upgrade).map(CommitWaiter).collect()
    }

    /// A log start that is durable now.
    pub(crate) fn commit_log_start(self: &Arc<Self>, offset: i64) {
        let mut inner = self.inner.lock();
        if inner.deleted || offset <= inner.log_start {
            return;
        }
        inner.log_start = offset;
        let dropped = inner.drop_below_log_start();
        self.mark_dirty(&mut inner);
        drop(inner);
        self.shared.medium.release(&dropped);
    }

    fn mark_dirty(self: &Arc<Self>, inner: &mut Inner) {
        if self.shared.medium.has_checkpoints() && !std::mem::replace(&mut inner.dirty, true) {
            self.shared.dirty.lock().push(self.clone());
        }
    }

    /// What a checkpoint frame says of this partition: what changed since the last one, or everything.
    pub(crate) fn capture(&self, all: bool) -> Option<PartitionCheckpoint> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.dirty = false;
        let from = if all { 0 } else { inner.checkpointed_to };
        inner.checkpointed_to = inner.high_watermark;
        if inner.deleted || (inner.high_watermark == 0 && inner.log_start == 0) {
            return None;
        }
        let start = inner.extents.partition_point(|extent| extent.first_offset < from);
        let extents = inner.extents.range(start..).filter_map(|extent| {
            let place = extent.wal()?;
            Some(WalExtent {
                first_offset: extent.first_offset,
                last_offset: extent.last_offset,
                max_timestamp: extent.max_timestamp,
                len: extent.len as u32,
                leader_epoch: place.leader_epoch,
                file: place.file,
                position: place.position,
                chunk: place.chunk,
                position_in_chunk: place.position_in_chunk,
            })
        });
        Some(PartitionCheckpoint {
            log_start: inner.log_start,
            log_end: inner.high_watermark,
            // What is in flight may have begun an epoch; it is not durable.
            epochs: inner.epochs.iter().filter(|(_, start)| *start < inner.high_watermark).copied().collect(),
            extents: extents.collect(),
            producers: inner.producers.capture(all).map(|(id, state)| (id, state.clone())).collect(),
        })
    }

    /// Starts from what a checkpoint says. False when its extents do not reach its log end: it contradicts itself.
    pub(crate) fn restore(&self, state: PartitionCheckpoint) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.log_start = state.log_start;
        inner.epochs = state.epochs;
        inner.high_watermark = state.log_end;
        inner.log_end = state.log_end;
        inner.checkpointed_to = state.log_end;
        for extent in state.extents.iter().filter(|extent| extent.last_offset >= state.log_start) {
            inner.size_bytes += u64::from(extent.len);
            inner.extents.push_back(Extent {
                first_offset: extent.first_offset,
                last_offset: extent.last_offset,
                max_timestamp: extent.max_timestamp,
                len: u64::from(extent.len),
                source: Source::Wal(WalPlace {
                    file: extent.file,
                    position: extent.position,
                    chunk: extent.chunk,
                    position_in_chunk: extent.position_in_chunk,
                    leader_epoch: extent.leader_epoch,
                }),
            });
        }
        self.shared.producers_added(state.producers.len());
        state.producers.into_iter().for_each(|(id, producer)| inner.producers.insert(id, producer));
        inner.extents.back().is_none_or(|last| last.last_offset + 1 == state.log_end)
    }

    /// An extent that recovery found in the WAL. An error when it does not follow what is there.
    pub(crate) fn replay(
        self: &Arc<Self>,
        extent: Extent,
        leader_epoch: i32,
        entries: &[Entry],
        append_ms: i64,
    ) -> Result<(), String> {
        let mut inner = self.inner.lock();
        if extent.last_offset < inner.high_watermark {
            // The checkpoint was taken while commits went on and has it already.
            return Ok(());
        }
        if extent.first_offset != inner.high_watermark {
            let (first, end) = (extent.first_offset, inner.high_watermark);
            return Err(format!("it brings offset {first} of {}, whose log ends at {end}", self.id));
        }
        inner.start_epoch(leader_epoch, extent.first_offset);
        let before = inner.producers.len();
        for (id, epoch, batch) in remembered(entries) {
            inner.producers.replay(id, epoch, batch, append_ms);
        }
        self.shared.producers_added(inner.producers.len() - before);
        inner.add_extent(extent);
        self.mark_dirty(&mut inner);
        Ok(())
    }

    pub(crate) fn replay_log_start(self: &Arc<Self>, offset: i64) {
        let mut inner = self.inner.lock();
        if offset > inner.log_start {
            inner.log_start = offset;
            self.mark_dirty(&mut inner);
        }
    }

    /// After recovery: do the extents reach from the log start to the log's end?
    pub(crate) fn check_gaps(&self) -> Result<(), String> {
        let inner = self.inner.lock();
        let mut next = inner.log_start;
        for extent in &inner.extents {
            if extent.first_offset > next {
                return Err(format!(
                    "offsets {next} to {} of {} are nowhere",
                    extent.first_offset - 1,
                    self.id
                ));
            }
            next = next.max(extent.last_offset + 1);
        }
        if next < inner.high_watermark {
            return Err(format!("offsets {next} to {} of {} are nowhere", inner.high_watermark - 1, self.id));
        }
        Ok(())
    }

    /// After recovery: what lies below the log start is let go, what lives holds its file.
    pub(crate) fn settle(&self) {
        let mut inner = self.inner.lock();
        inner.drop_below_log_start();
        inner.extents.iter().for_each(|extent| self.shared.medium.hold(extent));
    }

    /// The WAL extents up to this file, oldest first: what the rewriter may take.
    pub(crate) fn wal_extents_through(&self, file: u64) -> Vec<Extent> {
        let inner = self.inner.lock();
        let first = inner.extents.partition_point(|extent| extent.segment().is_some());
        let through = |extent: &&Extent| extent.wal().is_some_and(|place| place.file <= file);
        inner.extents.range(first..).take_while(through).cloned().collect()
    }

    /// What it has in this segment.
    pub(crate) fn pieces_in(&self, segment: &SegmentId) -> Vec<Extent> {
        let inner = self.inner.lock();
        let in_it = |extent: &&Extent| extent.segment().is_some_and(|place| place.segment.id == *segment);
        inner.extents.iter().filter(in_it).cloned().collect()
    }

    /// All its pieces as they will be when `new` stands in the place of what it covers: for the manifest.
    pub(crate) fn pieces_with(&self, new: &[PlacedPiece]) -> Vec<PlacedPiece> {
        let inner = self.inner.lock();
        if inner.deleted {
            return Vec::new();
        }
        let live = |placed: &&PlacedPiece| placed.piece.last_offset >= inner.log_start;
        let (first, last) = match (new.first(), new.last()) {
            (Some(first), Some(last)) => (first.piece.first_offset, last.piece.last_offset),
            _ => (i64::MAX, -1),
        };
        let mut pieces: Vec<PlacedPiece> = Vec::new();
        let stays = |extent: &&Extent| extent.last_offset < first || extent.first_offset > last;
        pieces.extend(inner.extents.iter().filter(stays).filter_map(Extent::piece));
        let at = pieces.partition_point(|placed| placed.piece.last_offset < first);
        pieces.splice(at..at, new.iter().filter(live).cloned());
        pieces
    }

    /// Puts `new` in the place of the extents that it covers. Readers find either.
    pub(crate) fn replace(self: &Arc<Self>, new: Vec<Extent>) {
        let mut inner = self.inner.lock();
        let (Some(first), Some(last)) =
            (new.first().map(|e| e.first_offset), new.last().map(|e| e.last_offset))
        else {
            return;
        };
        if inner.deleted {
            return;
        }
        let at = inner.extents.partition_point(|extent| extent.last_offset < first);
        let to = inner.extents.partition_point(|extent| extent.last_offset <= last);
        // What fell below the log start meanwhile is not put back. Extents go as a whole, so what is left of the old
        // ones still ends where the new ones end.
        let log_start = inner.log_start;
        let new: Vec<Extent> = new.into_iter().filter(|extent| extent.last_offset >= log_start).collect();
        assert!(
            at == to || inner.extents[to - 1].last_offset == last,
            "{}: new pieces end at {last}, inside of {:?}",
            self.id,
            inner.extents.get(to)
        );
        assert_eq!(
            at == to,
            new.is_empty(),
            "{}: what is replaced lives exactly as long as what replaces it",
            self.id
        );
        new.iter().for_each(|extent| self.shared.medium.hold(extent));
        let gained: u64 = new.iter().map(|extent| extent.len).sum();
        inner.layout += 1;
        let behind = inner.extents.split_off(to);
        let replaced: Vec<Extent> = inner.extents.split_off(at).into();
        inner.extents.extend(new);
        inner.extents.extend(behind);
        let gone: u64 = replaced.iter().map(|extent| extent.len).sum();
        inner.size_bytes = inner.size_bytes + gained - gone;
        self.mark_dirty(&mut inner);
        drop(inner);
        self.shared.medium.release(&replaced);
    }

    /// At start, behind the replay of the WAL: what the manifest says wins over what the checkpoint says.
    pub(crate) fn restore_pieces(&self, pieces: &[PlacedPiece]) -> Result<(), String> {
        let mut inner = self.inner.lock();
        let Some(end) = pieces.last().map(|placed| placed.piece.last_offset) else { return Ok(()) };
        let covered = inner.extents.partition_point(|extent| extent.last_offset <= end);
        if inner.extents.get(covered).is_some_and(|extent| extent.first_offset <= end) {
            return Err(format!("its pieces end at {end}, inside of a run of batches in the log"));
        }
        if end >= inner.high_watermark {
            return Err(format!("its pieces end at {end}, behind the log's end {}", inner.high_watermark));
        }
        let behind = inner.extents.split_off(covered);
        let gone: u64 = inner.extents.iter().map(|extent| extent.len).sum();
        let log_start = inner.log_start;
        let live = pieces.iter().filter(|placed| placed.piece.last_offset >= log_start);
        inner.extents = live.map(Extent::of_piece).collect();
        let gained: u64 = inner.extents.iter().map(|extent| extent.len).sum();
        inner.size_bytes = inner.size_bytes + gained - gone;
        inner.extents.extend(behind);
        Ok(())
    }

    /// In a bucket: the manifest's pieces have taken the place of what they cover. Readers find either.
    pub(crate) fn take_pieces(&self, pieces: &[PlacedPiece]) -> Result<(), String> {
        let mut inner = self.inner.lock();
        let Some(end) = pieces.last().map(|placed| placed.piece.last_offset) else { return Ok(()) };
        if inner.deleted || inner.leaving == Leaving::Gone {
            return Ok(());
        }
        let covered = inner.extents.partition_point(|extent| extent.last_offset <= end);
        if inner.extents.get(covered).is_some_and(|extent| extent.first_offset <= end) {
            return Err(format!("its pieces end at {end}, inside of a run of batches in the log"));
        }
        if end >= inner.high_watermark {
            return Err(format!("its pieces end at {end}, behind the log's end {}", inner.high_watermark));
        }
        let log_start = inner.log_start;
        let live = pieces.iter().filter(|placed| placed.piece.last_offset >= log_start);
        let new: Vec<Extent> = live.map(Extent::of_piece).collect();
        if inner.extents.range(..covered).eq(&new) {
            return Ok(());
        }
        let behind = inner.extents.split_off(covered);
        let gone: u64 = inner.extents.iter().map(|extent| extent.len).sum();
        let gained: u64 = new.iter().map(|extent| extent.len).sum();
        inner.extents = new.into();
        inner.extents.extend(behind);
        inner.size_bytes = inner.size_bytes + gained - gone;
        inner.layout += 1;
        Ok(())
    }

    /// In a bucket: from here on appends are refused, until [`Partition::stay`] or [`Partition::leave`].
    pub(crate) fn drain(&self) {
        let mut inner = self.inner.lock();
        if inner.leaving == Leaving::No {
            inner.leaving = Leaving::Draining;
        }
    }

    /// Is all committed that was appended, and every log start that was asked for?
    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        let is_gone = inner.deleted || inner.leaving == Leaving::Gone;
        is_gone || inner.log_end == inner.high_watermark && inner.log_start_wanted <= inner.log_start
    }

    pub(crate) fn stay(&self) {
        let mut inner = self.inner.lock();
        if inner.leaving == Leaving::Draining {
            inner.leaving = Leaving::No;
        }
    }

    /// Another broker leads it now: whoever waits here hears of it.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner.lock();
        if inner.deleted || inner.leaving == Leaving::Gone {
            return;
        }
        inner.leaving = Leaving::Gone;
        inner.extents.clear();
        inner.size_bytes = 0;
        let waiters = std::mem::take(&mut inner.waiters);
        let producers = inner.producers.len();
        drop(inner);
        self.shared.producers_removed(producers);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiting| CommitWaiter(waiting).wake());
    }

    /// May its end be told? Not while another broker may be writing behind it.
    pub fn is_leaving(&self) -> bool {
        self.inner.lock().leaving != Leaving::No
    }

    pub(crate) fn forget_producer(&self, id: i64) -> bool {
        self.inner.lock().producers.forget(id)
    }

    /// Forgets what is older than `before_ms`, and tells who is left, and since when they are silent.
    pub(crate) fn expire_producers(&self, before_ms: i64) -> usize {
        self.inner.lock().producers.expire(before_ms)
    }

    pub(crate) fn producer_ages(&self) -> Vec<(i64, i64)> {
        self.inner.lock().producers.iter().map(|(id, state)| (state.last_append_ms, id)).collect()
    }

    /// Marks it deleted, wakes its readers and gives its space back.
    pub(crate) fn delete(&self) {
        let mut inner = self.inner.lock();
        inner.deleted = true;
        inner.size_bytes = 0;
        let extents: Vec<Extent> = std::mem::take(&mut inner.extents).into();
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiting| CommitWaiter(waiting).wake());
        self.shared.medium.release(&extents);
    }
}

/// What a commit's entries say of idempotent producers: id, epoch, batch.
pub(crate) fn remembered(entries: &[Entry]) -> impl Iterator<Item = (i64, i16, RememberedBatch)> {
    entries.iter().filter(|entry| !is_control(entry)).filter_map(|entry| {
        let producer = entry.producer?;
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
        Some((producer.id, producer.epoch, batch))
    })
}

fn is_control(entry: &Entry) -> bool {
    const CONTROL_BIT: i16 = 0x20;
    entry.attributes & CONTROL_BIT != 0
}

/// The extent that a chunk's footer describes, when the chunk stands at `offset` of `file`.
pub(crate) fn extent_of(footer: &FooterExtent, file: u64, offset: u64, chunk: u64) -> Extent {
    Extent {
        first_offset: footer.first_offset as i64,
        last_offset: footer.last_offset as i64,
        max_timestamp: footer.max_timestamp,
        len: footer.len,
        source: Source::Wal(WalPlace {
            file,
            position: offset + footer.position,
            chunk,
            position_in_chunk: u32::try_from(footer.position).expect("a chunk is below 4 GiB"),
            leader_epoch: footer.leader_epoch,
        }),
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
        assert_eq!(extent.first_offset, self.high_watermark, "extents are committed in offset order");
        self.high_watermark = extent.last_offset + 1;
        self.log_end = self.log_end.max(self.high_watermark);
        self.size_bytes += extent.len;
        self.extents.push_back(extent);
    }

    /// The place of the first extent that ends at `offset` or behind it. Most readers are at the tail: a search through all
    /// extents takes a miss of the processor's caches with each step, so the last few are looked at first.
    fn first_reaching(&self, offset: i64) -> usize {
        let near = self.extents.len().saturating_sub(EXTENTS_NEAR_END);
        let is_before = |extent: &Extent| extent.last_offset < offset;
        match self.extents.get(near) {
            Some(extent) if is_before(extent) => {
                near + self.extents.range(near..).take_while(|extent| is_before(extent)).count()
            }
            _ => self.extents.partition_point(is_before),
        }
    }

    pub fn start_epoch(&mut self, epoch: i32, offset: i64) {
        if self.epochs.last().is_none_or(|(last, _)| epoch > *last) {
            self.epochs.push((epoch, offset));
        }
    }

    /// Extents that lie below the log start as a whole.
    pub fn drop_below_log_start(&mut self) -> Vec<Extent> {
        let count = self.extents.partition_point(|extent| extent.last_offset < self.log_start);
        self.layout += u64::from(count > 0);
        let dropped: Vec<Extent> = self.extents.drain(..count).collect();
        self.size_bytes -= dropped.iter().map(|extent| extent.len).sum::<u64>();
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
    fn answer(&self, segments: Vec<Bytes>) -> Read {
        Read {
            records: Records::from(segments),
            high_watermark: self.offsets.high_watermark,
            last_stable_offset: self.offsets.last_stable,
            log_start_offset: self.offsets.log_start,
            aborted: Vec::new(),
        }
    }
}

/// Those at the start that a read has room for, and the first one at any rate.
fn fitting<'a>(extents: &'a [Extent], request: &ReadRequest) -> &'a [Extent] {
    let mut len = 0;
    let fits = |extent: &&Extent| {
        // It may begin long before the offset; then its length does not count.
        if extent.first_offset >= request.offset {
            len += extent.len as usize;
        }
        len <= request.max_bytes
    };
    let count = extents.iter().take_while(fits).count();
    &extents[..count.max(1).min(extents.len())]
}

/// Gathers whole batches up to the bound.
/// What a read that comes to its bound does with the extent there.
#[derive(Clone, Copy)]
enum LastExtent {
    /// Takes what fits of it: in memory a part costs no more than the part.
    InPart,
    /// Leaves it to the next read: half of what is read from the medium would be read again.
    Whole,
}

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
