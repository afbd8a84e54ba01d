//! One partition: its offsets, its extents, its producers; append, read, trim.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use protocol::batch::{Batch, BatchError, BatchHeader, TimestampType, end_transaction_marker, split_batches};
use protocol::compression::Compression;
use protocol::{ErrorCode, Records, TopicIdPartition};
use tokio::sync::Notify;
use world::broken;
use world::task::patiently;

use crate::checkpoint::{PartitionCheckpoint, WalExtent};
use crate::commit::{Append, CommitGroup};
use crate::container::{Entry, FooterExtent, LogStart};
use crate::error::{AppendError, CommitError, ReadError};
use crate::extent::{Extent, Source, WalPlace, read_together};
use crate::log::Shared;
use crate::manifest::PlacedPiece;
use crate::medium::Medium;
use crate::producers::{Produced, Producers, RememberedBatch, Sequenced, Verdict, produced};
use crate::segment::SegmentId;
use crate::settings::PartitionSettings;
use crate::transactions::{Aborted, NO_STAMP, OpenTransaction, Transactions};
use crate::wal::Pending;

/// How often a read looks again when data moved under it.
const MOVED_ATTEMPTS: u32 = 5;
/// Where extents of a partition are this long, their pages hold little else: the page cache would help nobody.
const READ_ALONE_BYTES: u64 = 16 << 10;
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
    traffic: AtomicU64,
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
    /// What lies here: without gaps up to the high watermark.
    pub extents: VecDeque<Extent>,
    /// Of `extents`.
    pub size_bytes: u64,
    /// What the second tier has: without gaps from the log start on, as far as it was copied. What of it is not in `extents`
    /// as well can be read from there only.
    pub tiered: VecDeque<Extent>,
    /// Below this offset only the newest record of each key is left, and of no transaction that was aborted anything but its marker.
    pub compacted_to: i64,
    pub producers: Producers,
    /// As of the high watermark.
    pub transactions: Transactions,
    /// Stamps of the transactions that are open as of the log's end, by producer id (T2).
    open_at_end: BTreeMap<i64, i64>,
    /// Questions to coordinators that no marker has overtaken, by producer id (T4). As many as requests under way.
    verifications: BTreeMap<i64, BTreeSet<u64>>,
    /// (epoch, first offset of it), ascending (F10).
    pub epochs: Vec<(i32, i64)>,
    pub deleted: bool,
    /// In a bucket: it is about to go to another broker, or has gone.
    leaving: Leaving,
    /// Grows whenever extents go or move.
    pub layout: u64,
    /// Something changed since the last checkpoint frame.
    dirty: bool,
    /// Extents that end below this offset stand in a checkpoint frame.
    checkpointed_to: i64,
    waiters: Vec<Weak<Waiting>>,
    /// Of a view: the end and the log start that waiters were woken for.
    heard_of: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Takes no appends: what was appended before is being committed, and another broker takes over behind it (R13).
    Draining,
    Gone,
    /// Another broker leads it, and readers here follow.
    Elsewhere,
}

/// What readers may know of a partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    pub high_watermark: i64,
    /// Before the first open transaction, or the high watermark.
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

#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    pub leader_epoch: i32,
    pub origin: Origin,
    /// When its transaction began, by the coordinator; −1 when that was not said (T2).
    pub transaction_stamp: i64,
    pub verification: Verification,
    /// In a bucket: it waits less for company, since somebody waits for it and for what comes after it. Markers are.
    pub is_urgent: bool,
    /// Of a producer that is not known here nothing but its first batch is taken: what comes before may have been refused a moment ago.
    pub begins_producers: bool,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self {
            leader_epoch: 0,
            origin: Origin::Client,
            transaction_stamp: NO_STAMP,
            verification: Verification::Unasked,
            is_urgent: false,
            begins_producers: false,
        }
    }
}

/// What a batch of a transaction has to show before it may begin that transaction in a partition (T3, T4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// The caller answers for it himself.
    #[default]
    Unasked,
    /// The transaction has begun here; should it have ended meanwhile, the batch is refused.
    Begun,
    /// The coordinator said yes, and no marker has come since it was asked.
    Asked(u64),
}

/// A marker: how a transaction ends in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    /// Or abort.
    pub commit: bool,
    /// Which transaction it ends, by when that began; −1: whichever is open (T2).
    pub transaction_stamp: i64,
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

/// The first record of a batch from `log_start` on whose timestamp is wanted.
fn look_for_time(
    batch: &Batch,
    log_start: i64,
    wanted: impl Fn(i64) -> bool,
    decompressed_bytes_max: usize,
) -> Result<Option<TimestampOffset>, BatchError> {
    let leader_epoch = batch.header.partition_leader_epoch;
    for record in batch.records(decompressed_bytes_max) {
        let (offset, timestamp) = match record {
            Ok(record) if record.offset < log_start => continue,
            Ok(record) => (record.offset, record.timestamp),
            // Nobody looked into it when it came. Whoever begins at its first record misses none.
            Err(error) if error.error_code() == ErrorCode::MessageTooLarge => {
                (batch.header.base_offset.max(log_start), batch.header.max_timestamp)
            }
            Err(error) => return Err(error),
        };
        if wanted(timestamp) {
            return Ok(Some(TimestampOffset { offset, timestamp, leader_epoch }));
        }
    }
    Ok(None)
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
    /// Of its open transaction; −1 when there is none.
    pub transaction_start_offset: i64,
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
            tiered: VecDeque::new(),
            compacted_to: 0,
            producers: Producers::default(),
            transactions: Transactions::default(),
            open_at_end: BTreeMap::new(),
            verifications: BTreeMap::new(),
            epochs: Vec::new(),
            deleted: false,
            leaving: Leaving::No,
            layout: 0,
            dirty: false,
            checkpointed_to: 0,
            waiters: Vec::new(),
            heard_of: (0, 0),
        };
        Partition { id, shared, inner: Mutex::new(inner), traffic: AtomicU64::new(0) }
    }

    /// In a bucket: one that another broker leads, for readers here.
    pub(crate) fn view(id: TopicIdPartition, shared: Arc<Shared>) -> Partition {
        let view = Partition::new(id, shared, PartitionSettings::default());
        view.inner.lock().leaving = Leaving::Elsewhere;
        view
    }

    /// An empty one in the place of this.
    pub(crate) fn view_anew(&self) -> Arc<Partition> {
        Arc::new(Partition::view(self.id, self.shared.clone()))
    }

    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub(crate) fn medium(&self) -> &Medium {
        &self.shared.medium
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

    pub(crate) fn traffic_bytes(&self) -> u64 {
        self.traffic.load(Ordering::Relaxed)
    }

    /// A client is given so many bytes of it.
    pub fn count_read(&self, bytes: u64) {
        self.traffic.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Checks the producer's sequence, gives the batch its offsets and lets it wait for the next commit. Cheap and
    /// synchronous: batches of one connection are enqueued in the order in which they came.
    ///
    /// The batch was validated before (`protocol::batch::produce`), its CRC included.
    pub fn append(self: &Arc<Self>, batch: Batch, options: AppendOptions) -> Result<Append, AppendError> {
        self.shared.check_room(&options, batch.bytes.len())?;
        let header = batch.header;
        if header.is_control() {
            return Err(AppendError::ControlBatch);
        }
        let mut inner = self.inner.lock();
        inner.check_takes_appends()?;
        let sequenced = header.has_producer_id().then(|| Sequenced {
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
        if let Some(Sequenced { producer_id, first_sequence, has_sequence: true, .. }) = sequenced
            && options.begins_producers
            && first_sequence != 0
            && inner.producers.epoch(producer_id).is_none()
        {
            let (expected, found) = (0, first_sequence);
            return Err(AppendError::OutOfOrderSequence { producer_id, expected, found });
        }
        let transactional = sequenced.filter(|_| header.is_transactional());
        let max = self.shared.settings.aborted_transactions_max;
        if let Some(Sequenced { producer_id, epoch, .. }) = sequenced {
            let is_open = inner.open_at_end.contains_key(&producer_id);
            if is_open && transactional.is_none() {
                return Err(AppendError::NotInTransaction { producer_id });
            }
            if transactional.is_some() && !inner.is_verified(producer_id, epoch, options.verification) {
                return Err(AppendError::NotVerified { producer_id });
            }
            if !is_open && transactional.is_some() && inner.transactions.aborted_count() >= max {
                return Err(AppendError::TooManyAborted { max });
            }
        }
        let (base_offset, last_offset, group) = self.enqueue(&mut inner, batch, &options)?;
        if let Some(sequenced) = transactional {
            inner.open_at_end.entry(sequenced.producer_id).or_insert(options.transaction_stamp);
        }
        if let Some(sequenced) = sequenced {
            let remembered = RememberedBatch {
                first_sequence: sequenced.first_sequence,
                last_sequence: sequenced.last_sequence,
                base_offset,
                last_offset,
                timestamp: header.max_timestamp,
            };
            let (id, epoch) = (sequenced.producer_id, sequenced.epoch);
            let data = Produced::Data(remembered);
            if inner.producers.enqueued(id, epoch, base_offset, data, group.clone()) {
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

    /// To be called before a coordinator is asked whether a transaction may begin here (T3). Any marker of the producer that comes
    /// from here on takes the answer's worth (T4): it may have been given before the transaction ended.
    pub fn verification(&self, producer_id: i64, producer_epoch: i16) -> Verification {
        let mut inner = self.inner.lock();
        if inner.has_begun(producer_id, producer_epoch) {
            return Verification::Begun;
        }
        let number = self.shared.verifications.fetch_add(1, Ordering::Relaxed) + 1;
        inner.verifications.entry(producer_id).or_default().insert(number);
        Verification::Asked(number)
    }

    /// The answer came, and was used or not.
    pub fn forget_verification(&self, producer_id: i64, verification: Verification) {
        let Verification::Asked(number) = verification else { return };
        let mut inner = self.inner.lock();
        if let Some(asked) = inner.verifications.get_mut(&producer_id) {
            asked.remove(&number);
            if asked.is_empty() {
                inner.verifications.remove(&producer_id);
            }
        }
    }

    /// Gives a batch that was checked its offsets, and lets it wait for the next commit.
    fn enqueue(
        self: &Arc<Self>,
        inner: &mut Inner,
        batch: Batch,
        options: &AppendOptions,
    ) -> Result<(i64, i64, Arc<CommitGroup>), AppendError> {
        let AppendOptions { leader_epoch, transaction_stamp: stamp, is_urgent, .. } = *options;
        self.traffic.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        let base_offset = inner.log_end;
        let span = i64::from(batch.header.last_offset_delta);
        let last_offset = base_offset.checked_add(span).filter(|last| *last < i64::MAX - 1);
        let last_offset = last_offset.ok_or(AppendError::OffsetsExhausted)?;
        // An epoch never goes back: a batch that still carries the old one is written under the newest.
        let leader_epoch = inner.epochs.last().map_or(leader_epoch, |(last, _)| leader_epoch.max(*last));
        let pending =
            Pending { partition: self.clone(), batch, base_offset: base_offset as u64, leader_epoch, stamp };
        // The partition's lock is held across the hand-over: the order of offsets is the order in the queue.
        let group = self.shared.enqueue(pending, is_urgent);
        inner.log_end = last_offset + 1;
        inner.start_epoch(leader_epoch, base_offset);
        Ok((base_offset, last_offset, group))
    }

    /// Ends a transaction with a marker, see [`crate::CommitLog::end_transaction`]. One that names another transaction than the one
    /// that is open here is a repeated or a late one: a duplicate, which waits for what of the producer is in flight, since the
    /// marker that did it may be.
    pub fn end_transaction(
        self: &Arc<Self>,
        marker: EndTransaction,
        leader_epoch: i32,
    ) -> Result<Append, AppendError> {
        let EndTransaction { producer_id, producer_epoch, coordinator_epoch, .. } = marker;
        let timestamp = self.shared.clock.now_ms();
        let built =
            end_transaction_marker(producer_id, producer_epoch, marker.commit, coordinator_epoch, timestamp);
        let batch = built.and_then(Batch::parse).expect("a marker is a good batch");
        let options = AppendOptions {
            leader_epoch,
            origin: Origin::Coordinator,
            transaction_stamp: marker.transaction_stamp,
            is_urgent: true,
            ..AppendOptions::default()
        };
        self.shared.check_room(&options, batch.bytes.len())?;
        let mut inner = self.inner.lock();
        inner.check_takes_appends()?;
        if !broken::rule("stale-verification") {
            inner.verifications.remove(&producer_id);
        }
        let is_known = |stamp: i64| stamp != NO_STAMP;
        let is_open = inner.open_at_end.get(&producer_id).is_some_and(|stamp| {
            let named = marker.transaction_stamp;
            !is_known(*stamp) || !is_known(named) || *stamp == named || broken::rule("marker-repeat")
        });
        if !is_open {
            return Ok(Append {
                base_offset: -1,
                last_offset: -1,
                log_start_offset: inner.log_start,
                log_append_time: -1,
                duplicate: true,
                group: inner.producers.last_in_flight(producer_id),
            });
        }
        inner.producers.check_marker(producer_id, producer_epoch, coordinator_epoch)?;
        let (base_offset, last_offset, group) = self.enqueue(&mut inner, batch, &options)?;
        inner.open_at_end.remove(&producer_id);
        let ends = Produced::Marker { coordinator_epoch, timestamp };
        if inner.producers.enqueued(producer_id, producer_epoch, base_offset, ends, group.clone()) {
            self.shared.producers_added(1);
        }
        Ok(Append {
            base_offset,
            last_offset,
            log_start_offset: inner.log_start,
            log_append_time: -1,
            duplicate: false,
            group: Some(group),
        })
    }

    /// The transaction of this producer that is open as of the high watermark: where it began, and its stamp.
    pub fn open_transaction(&self, producer_id: i64) -> Option<(i64, i64)> {
        let open = self.inner.lock().transactions.open(producer_id);
        open.map(|OpenTransaction { first_offset, stamp }| (first_offset, stamp))
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
        let end = out.taken_to;
        Some(Ok(plan.answer(self.unpinned(out), end)))
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
                // As Kafka has it: no data yet, and no error. It is being fetched; the next read finds it in memory.
                Err(ReadError::NotYet) => break,
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
                self.keep_cold(extent, &bytes);
                full = full || out.take(&bytes);
            }
            if full {
                break;
            }
        }
        let end = out.taken_to;
        Ok(plan.answer(self.unpinned(out), end))
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
        // The log start may lie in the middle of a batch, and the last stable offset with it.
        // From one of both places in one read; the next one goes on in the other.
        let lies_here = match () {
            () if request.offset >= end => inner.extents.range(inner.extents.len()..),
            () if inner.is_only_tiered(request.offset) => {
                inner.tiered.range(inner.tiered.partition_point(|e| e.last_offset < request.offset)..)
            }
            () => inner.extents.range(inner.first_reaching(request.offset)..),
        };
        let mut extents: Vec<Extent> = Vec::new();
        let mut len = 0;
        for extent in lies_here {
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
        // All at once: what is below the last stable offset is decided, and what is forgotten meanwhile was needed.
        let aborted = match (request.isolation, extents.last()) {
            (Isolation::ReadCommitted, Some(last)) => {
                inner.transactions.aborted_in(request.offset, end.min(last.last_offset + 1))
            }
            _ => Vec::new(),
        };
        Ok(Plan { extents, offsets, end, aborted })
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
        self.keep_cold(extent, &bytes);
        Ok(bytes)
    }

    /// What came from the tier is in the cache of its blocks.
    fn keep_cold(&self, extent: &Extent, bytes: &Bytes) {
        if extent.tier().is_none() {
            self.shared.cold.lock().put(&extent.source, bytes.clone());
        }
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
        let is_sparse = extent.is_sparse();
        let (mut next, mut records) = (extent.first_offset, 0u64);
        for batch in split_batches(bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            batch.verify_crc().map_err(|error| damaged(error.to_string()))?;
            let found = batch.header.base_offset;
            if !(found == next || is_sparse && found > next) {
                return Err(damaged(format!("a batch of offset {found} where {next} belongs")));
            }
            records += u64::from(batch.header.record_count.unsigned_abs());
            if batch.header.partition_leader_epoch != extent.leader_epoch() {
                let found = batch.header.partition_leader_epoch;
                return Err(damaged(format!("epoch {found} where {} belongs", extent.leader_epoch())));
            }
            next = batch.header.next_offset();
        }
        if next != extent.last_offset + 1 {
            return Err(damaged(format!("ends at offset {next}, not at {}", extent.last_offset + 1)));
        }
        if is_sparse && extent.record_count().is_some_and(|count| u64::from(count) != records) {
            return Err(damaged(format!("{records} records, not {:?}", extent.record_count())));
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
            (inner.all_extents().filter(late).cloned().collect::<Vec<_>>(), inner.log_start)
        };
        for extent in extents {
            for short in self.cut(vec![extent], log_start).await? {
                if short.max_timestamp >= timestamp
                    && let Some(found) = self.find(&short, log_start, move |at| at >= timestamp).await?
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
        let mut below = None;
        // Compaction leaves batches without records, which still say how new they were: then it is an older one.
        loop {
            let (extents, log_start, largest) = {
                let inner = self.inner.lock();
                let times = inner.all_extents().map(|e| e.max_timestamp);
                let Some(largest) = times.filter(|at| below.is_none_or(|below| *at < below)).max() else {
                    return Ok(None);
                };
                let with = |e: &&Extent| e.max_timestamp >= largest;
                (inner.all_extents().filter(with).cloned().collect::<Vec<_>>(), inner.log_start, largest)
            };
            for extent in extents {
                for short in self.cut(vec![extent], log_start).await? {
                    if short.max_timestamp >= largest
                        && let Some(found) = self.find(&short, log_start, move |at| at == largest).await?
                    {
                        return Ok(Some(found));
                    }
                }
            }
            below = Some(largest);
        }
    }

    async fn find(
        &self,
        extent: &Extent,
        log_start: i64,
        wanted: impl Fn(i64) -> bool + Copy + Send + 'static,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let bytes = self.extent_bytes(extent).await?;
        let damaged =
            |detail: String| ReadError::Damaged { partition: self.id, offset: extent.first_offset, detail };
        for batch in split_batches(&bytes) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let leader_epoch = batch.header.partition_leader_epoch;
            // Markers count, as in Kafka: their timestamps are the largest ones of their runs.
            if batch.header.last_offset() < log_start {
                continue;
            }
            let is_whole = batch.header.record_count == batch.header.last_offset_delta + 1;
            if is_whole && batch.header.timestamp_type() == TimestampType::LogAppendTime {
                let (offset, timestamp) =
                    (batch.header.base_offset.max(log_start), batch.header.max_timestamp);
                if wanted(timestamp) {
                    return Ok(Some(TimestampOffset { offset, timestamp, leader_epoch }));
                }
                continue;
            }
            let decompressed_bytes_max = self.shared.settings.decompressed_bytes_max;
            let is_compressed = batch.header.compression() != Compression::None;
            let look = move || look_for_time(&batch, log_start, wanted, decompressed_bytes_max);
            let found = if is_compressed { patiently(look).await } else { look() };
            if let Some(found) = found.map_err(|error| damaged(error.to_string()))? {
                return Ok(Some(found));
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
        let mut size = inner.size_bytes + inner.only_tiered().map(|extent| extent.len).sum::<u64>();
        let mut before = inner.log_start;
        for extent in inner.all_extents() {
            let age_ms = now_ms.saturating_sub(extent.max_timestamp);
            let old = retention_ms >= 0 && extent.max_timestamp >= 0 && age_ms > retention_ms;
            let over = retention_bytes >= 0 && size.saturating_sub(extent.len) >= retention_bytes as u64;
            if !old && !over {
                break;
            }
            size = size.saturating_sub(extent.len);
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
            transaction_start_offset: inner
                .transactions
                .open(producer_id)
                .map_or(-1, |open| open.first_offset),
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
            if let Some(producer) = entry.producer {
                inner.producers.committed(producer.id, entry.base_offset as i64, append_ms);
            }
            inner.transactions.take(entry);
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
            transactions: inner.transactions.since(from),
        })
    }

    /// Starts from what a checkpoint says. False when its extents reach beyond its log end: it contradicts itself. That they do not reach it
    /// is no contradiction, the rest may be in segments by now: whether something is missing is seen when their pieces are there.
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
        inner.transactions = state.transactions;
        inner.extents.back().is_none_or(|last| last.last_offset < state.log_end)
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
        // Only a leader judges producers.
        if inner.leaving != Leaving::Elsewhere {
            let before = inner.producers.len();
            for (id, epoch, produced) in produced(entries) {
                inner.producers.replay(id, epoch, produced, append_ms);
            }
            self.shared.producers_added(inner.producers.len() - before);
        }
        entries.iter().for_each(|entry| inner.transactions.take(entry));
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
        for extent in inner.all_extents() {
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
        inner.open_at_end = inner.transactions.all_open().map(|(id, open)| (id, open.stamp)).collect();
        inner.extents.iter().chain(&inner.tiered).for_each(|extent| self.shared.medium.hold(extent));
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
    pub(crate) fn replace(self: &Arc<Self>, new: Vec<Extent>, compacted_to: Option<i64>) {
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
        // What fell below the log start meanwhile, or lies in the tier only, is not put back. Extents go as a whole, so what is
        // left of the old ones still ends where the new ones end.
        let start = inner.local_start();
        let new: Vec<Extent> = new.into_iter().filter(|extent| extent.last_offset >= start).collect();
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
        inner.compacted(compacted_to.unwrap_or_default());
        self.mark_dirty(&mut inner);
        drop(inner);
        self.shared.medium.release(&replaced);
    }

    /// At start, behind the replay of the WAL: what the manifest says wins over what the checkpoint says.
    pub(crate) fn restore_pieces(&self, pieces: &[PlacedPiece], compacted_to: i64) -> Result<(), String> {
        let mut inner = self.inner.lock();
        inner.compacted(compacted_to);
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
    pub(crate) fn take_pieces(&self, pieces: &[PlacedPiece], compacted_to: i64) -> Result<(), String> {
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
        // Data and the index of what was aborted change together (F6).
        inner.compacted(compacted_to);
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

    /// Of a view: what the manifest has of it now. Where that is ahead, slots that were never looked at here are rewritten already.
    pub(crate) fn follow_manifest(
        &self,
        state: &PartitionCheckpoint,
        pieces: &[PlacedPiece],
        compacted_to: i64,
    ) -> Result<(), String> {
        let mut inner = self.inner.lock();
        if inner.deleted || inner.leaving != Leaving::Elsewhere {
            return Ok(());
        }
        inner.log_start = inner.log_start.max(state.log_start);
        if state.log_end <= inner.high_watermark {
            inner.drop_below_log_start();
            drop(inner);
            return self.take_pieces(pieces, compacted_to);
        }
        let log_start = inner.log_start;
        let live = pieces.iter().filter(|placed| placed.piece.last_offset >= log_start);
        inner.extents = live.map(Extent::of_piece).collect();
        inner.size_bytes = inner.extents.iter().map(|extent| extent.len).sum();
        inner.high_watermark = state.log_end;
        inner.log_end = state.log_end;
        inner.epochs.clone_from(&state.epochs);
        inner.transactions = state.transactions.clone();
        inner.compacted(compacted_to);
        inner.layout += 1;
        inner.drop_below_log_start();
        Ok(())
    }

    /// Of a view: whoever waits hears of what is new.
    pub(crate) fn settle_view(&self) {
        let mut inner = self.inner.lock();
        inner.drop_below_log_start();
        let now = (inner.high_watermark, inner.log_start);
        if std::mem::replace(&mut inner.heard_of, now) == now {
            return;
        }
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiting| CommitWaiter(waiting).wake());
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
        let mut inner = self.inner.lock();
        !inner.is_in_transaction(id) && inner.producers.forget(id)
    }

    /// Forgets what is older than `before_ms`, and tells who is left, and since when they are silent.
    pub(crate) fn expire_producers(&self, before_ms: i64) -> usize {
        let mut inner = self.inner.lock();
        let Inner { producers, open_at_end, transactions, .. } = &mut *inner;
        producers.expire(before_ms, |id| open_at_end.contains_key(&id) || transactions.open(id).is_some())
    }

    pub(crate) fn producer_ages(&self) -> Vec<(i64, i64)> {
        self.inner.lock().producers.iter().map(|(id, state)| (state.last_append_ms, id)).collect()
    }

    /// Marks it deleted, wakes its readers and gives its space back.
    pub(crate) fn delete(&self) {
        let mut inner = self.inner.lock();
        inner.deleted = true;
        inner.size_bytes = 0;
        let mut extents: Vec<Extent> = std::mem::take(&mut inner.extents).into();
        extents.extend(std::mem::take(&mut inner.tiered));
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiting| CommitWaiter(waiting).wake());
        self.shared.medium.release(&extents);
    }
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
    fn check_takes_appends(&self) -> Result<(), AppendError> {
        match self.leaving {
            _ if self.deleted => Err(AppendError::Deleted),
            Leaving::No => Ok(()),
            Leaving::Draining | Leaving::Gone | Leaving::Elsewhere => Err(AppendError::NotLeader),
        }
    }

    /// Is a transaction of this very producer open as of the log's end?
    fn has_begun(&self, producer_id: i64, epoch: i16) -> bool {
        self.open_at_end.contains_key(&producer_id) && self.producers.epoch(producer_id) == Some(epoch)
    }

    fn is_verified(&self, producer_id: i64, epoch: i16, verification: Verification) -> bool {
        let is_open = self.open_at_end.contains_key(&producer_id);
        match verification {
            Verification::Unasked => true,
            // What an older epoch has begun has to end first.
            _ if is_open => self.has_begun(producer_id, epoch),
            Verification::Begun => false,
            Verification::Asked(number) => {
                self.verifications.get(&producer_id).is_some_and(|asked| asked.contains(&number))
            }
        }
    }

    fn is_in_transaction(&self, producer_id: i64) -> bool {
        self.open_at_end.contains_key(&producer_id) || self.transactions.open(producer_id).is_some()
    }

    pub fn offsets(&self) -> Offsets {
        let high_watermark = self.high_watermark;
        Offsets {
            log_start: self.log_start,
            high_watermark,
            last_stable: self.transactions.last_stable(self.log_start, high_watermark),
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

    /// Where begins what lies here.
    pub fn local_start(&self) -> i64 {
        let first = self.extents.front().map_or(self.high_watermark, |first| first.first_offset);
        first.max(self.log_start)
    }

    /// Behind what the tier has; `None` when it has nothing.
    pub fn tiered_end(&self) -> Option<i64> {
        self.tiered.back().map(|last| last.last_offset + 1)
    }

    fn is_only_tiered(&self, offset: i64) -> bool {
        self.tiered_end().is_some_and(|end| offset < end) && offset < self.local_start()
    }

    /// What cannot be read here; the last of it may reach into what can.
    pub fn only_tiered(&self) -> impl Iterator<Item = &Extent> {
        let local_start = self.local_start();
        self.tiered.iter().take_while(move |extent| extent.first_offset < local_start)
    }

    /// Everything in offset order, from where it is read.
    fn all_extents(&self) -> impl Iterator<Item = &Extent> {
        self.only_tiered().chain(&self.extents)
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

    /// What stands below is compacted. Of transactions that were aborted nothing but their markers is left there: if a marker goes one day
    /// and the transaction were still named, readers would take what its producer wrote afterwards for aborted.
    fn compacted(&mut self, to: i64) {
        self.compacted_to = self.compacted_to.max(to);
        if !broken::rule("compaction-forgets-late") {
            self.transactions.trim(to);
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
        let mut dropped: Vec<Extent> = self.extents.drain(..count).collect();
        self.size_bytes -= dropped.iter().map(|extent| extent.len).sum::<u64>();
        self.transactions.trim(self.log_start);
        let tiered = self.tiered.partition_point(|extent| extent.last_offset < self.log_start);
        dropped.extend(self.tiered.drain(..tiered));
        self.layout += u64::from(!dropped.is_empty());
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
    /// Aborted transactions in all of the extents.
    aborted: Vec<Aborted>,
}

impl Plan {
    /// `end`: what is given ends before this offset.
    fn answer(&self, segments: Vec<Bytes>, end: i64) -> Read {
        // Up to the first whose marker shows that all before `end` is decided, as Kafka's search ends.
        let decided = self.aborted.iter().position(|aborted| aborted.last_stable >= end);
        let told = &self.aborted[..decided.map_or(self.aborted.len(), |last| last + 1)];
        let aborted = told.iter().filter(|aborted| aborted.first_offset < end);
        let named = |aborted: &Aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        };
        Read {
            records: Records::from(segments),
            high_watermark: self.offsets.high_watermark,
            last_stable_offset: self.offsets.last_stable,
            log_start_offset: self.offsets.log_start,
            aborted: aborted.map(named).collect(),
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
    /// Behind the last record that was taken.
    taken_to: i64,
}

impl Collect {
    fn new(request: &ReadRequest, end: i64) -> Collect {
        let (offset, max_bytes, min_one_batch) = (request.offset, request.max_bytes, request.min_one_batch);
        Collect { segments: Vec::new(), len: 0, offset, end, max_bytes, min_one_batch, taken_to: offset }
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
            self.taken_to = header.last_offset() + 1;
        }
        if to > from {
            self.len += to - from;
            self.segments.push(extent.slice(from..to));
        }
        full || self.len >= self.max_bytes
    }
}
