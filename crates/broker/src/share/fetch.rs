//! One ShareFetch while it waits: reads what may be given out, and gives it out when there is enough of it.
//!
//! It registers first and looks second, as Fetch does: at the log for new records, at share partitions for what comes back, and at the
//! clock for locks that end. A read at the log's tail does not wait; what an older one has read is given out only as far as nobody else
//! got it meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use commitlog::{AbortedTransaction, FetchWait, Isolation, Read, ReadError, ReadRequest};
use futures_util::future::select_all;
use protocol::batch::{Batch, ControlRecord, split_batches};
use protocol::{ErrorCode, Records, Str, TopicIdPartition};
use world::{task, watch};

use super::in_flight::{Acquired, Range, Wanted};
use super::partition::SharePartition;
use super::{GroupRules, Rules};
use crate::counters::TopicCounters;
use crate::error::read_error;
use crate::request::RequestContext;

/// Kafka's `ShareAcquireMode.RECORD_LIMIT`.
const RECORD_LIMIT: i8 = 1;

pub(crate) struct Source {
    pub share: Arc<SharePartition>,
    pub counters: Option<Arc<TopicCounters>>,
}

/// One partition of a fetch: where to read, or why not.
pub(crate) struct Target {
    pub place: TopicIdPartition,
    pub found: Result<Source, ErrorCode>,
}

pub(crate) struct FetchedPartition {
    pub place: TopicIdPartition,
    pub error: ErrorCode,
    pub records: Records,
    pub acquired: Vec<Acquired>,
}

pub(crate) struct ShareFetch {
    pub member: Str,
    pub targets: Vec<Target>,
    pub bytes_max: usize,
    pub bytes_min: usize,
    pub records_max: i32,
    pub batch_size: i32,
    pub acquire_mode: i8,
    pub wait_max: Duration,
    pub of_group: GroupRules,
}

/// What was read of one partition and is not given out yet.
struct Found {
    at: usize,
    from: i64,
    read: Read,
}

/// What one pass over all partitions gave.
#[derive(Default)]
struct Pass {
    found: Vec<Found>,
    bytes: usize,
    /// Something comes again: nobody waits for more of that.
    has_given_back: bool,
    /// The log begins later than a share partition: look again.
    has_moved: bool,
}

impl ShareFetch {
    fn rules(&self) -> &Rules {
        &self.of_group.rules
    }

    pub async fn run(&self, context: &RequestContext) -> Vec<FetchedPartition> {
        let mut fetched: Vec<FetchedPartition> = self.targets.iter().map(nothing).collect();
        let can_wait = self.targets.iter().any(|target| target.found.is_ok());
        if !can_wait || self.records_max <= 0 || self.bytes_max == 0 {
            return fetched;
        }
        let clock = &context.broker.clock;
        let deadline = clock.monotonic() + self.wait_max;
        loop {
            let mut changes: Vec<watch::Receiver<u64>> =
                self.sources().map(|(_, source)| source.share.subscribe()).collect();
            let wait = FetchWait::new();
            for (_, source) in self.sources() {
                if let Ok(Some((offset, _))) = source.share.next_offset(self.rules()) {
                    source.share.partition.notify(&wait, offset);
                }
            }
            let is_late = clock.monotonic() >= deadline;
            let pass = self.pass(&mut fetched).await;
            let is_enough =
                pass.bytes > 0 && (pass.bytes >= self.bytes_min || pass.has_given_back || is_late);
            let mut has_moved = pass.has_moved;
            // Whoever is gone has been taken what he had: what he got now would lie with him until its locks end.
            if is_enough && !context.connection.is_hung_up() {
                has_moved |= self.give_out(pass.found, &mut fetched);
            }
            let has_news = fetched.iter().any(|one| !one.acquired.is_empty() || one.error != ErrorCode::None);
            if has_news || is_late || context.connection.is_hung_up() {
                self.count(context, &fetched);
                return fetched;
            }
            if has_moved {
                // Nothing of what was read is for anybody: what comes behind it may be.
                task::yield_now().await;
                continue;
            }
            let now_ms = u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX);
            let expiry = self.sources().filter_map(|(_, source)| source.share.next_expiry_ms()).min();
            let expiry = expiry.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)));
            let left = deadline.saturating_sub(clock.monotonic());
            let pause = expiry.map_or(left, |expiry| expiry.min(left));
            let changed = select_all(changes.iter_mut().map(|change| Box::pin(change.changed())));
            let changed = pin!(changed);
            tokio::select! {
                biased;
                () = wait.notified() => {}
                _ = changed => {}
                () = context.connection.hung_up() => {}
                () = task::sleep(pause) => {}
            }
        }
    }

    fn sources(&self) -> impl Iterator<Item = (usize, &Source)> {
        let found = self.targets.iter().enumerate();
        found.filter_map(|(at, target)| target.found.as_ref().ok().map(|source| (at, source)))
    }

    /// Reads every partition once, in their order, until the bytes are used up.
    async fn pass(&self, fetched: &mut [FetchedPartition]) -> Pass {
        let mut pass = Pass::default();
        for (at, Source { share, .. }) in self.sources() {
            // What retention and DeleteRecords have taken is not waited for.
            share.move_start(share.partition.offsets().log_start);
            let (from, is_given_back) = match share.next_offset(self.rules()) {
                Ok(Some(next)) => next,
                Ok(None) => continue,
                Err(error) => {
                    fetched[at].error = told(error);
                    continue;
                }
            };
            let left = self.bytes_max.saturating_sub(pass.bytes);
            if left == 0 {
                break;
            }
            let request = ReadRequest {
                offset: from,
                max_bytes: left,
                min_one_batch: pass.bytes == 0,
                isolation: self.of_group.isolation,
            };
            let read = match share.partition.read_tail(&request) {
                Some(read) => read,
                None => share.partition.read(request).await,
            };
            match read {
                Ok(read) => {
                    let bytes = read.records.len();
                    if bytes > 0 {
                        pass.bytes += bytes;
                        pass.has_given_back |= is_given_back;
                        pass.found.push(Found { at, from, read });
                    }
                }
                Err(ReadError::OutOfRange { .. }) => {
                    let log_start = share.partition.offsets().log_start;
                    pass.has_moved |= log_start > from;
                    share.move_start(log_start);
                }
                Err(error) => {
                    tracing::debug!(?error, offset = from, "a share fetch failed");
                    fetched[at].error = told(read_error(&error));
                }
            }
        }
        pass
    }

    /// True: something has changed, also if nothing could be given.
    fn give_out(&self, found: Vec<Found>, fetched: &mut [FetchedPartition]) -> bool {
        let mut left = i64::from(self.records_max);
        let mut has_moved = false;
        for Found { at, from, read } in found {
            if left <= 0 {
                break;
            }
            let Ok(Source { share, .. }) = &self.targets[at].found else { continue };
            let batches = Batches::of(&read.records);
            let aborted = match self.of_group.isolation {
                Isolation::ReadCommitted => batches.aborted(&read.aborted),
                Isolation::ReadUncommitted => Vec::new(),
            };
            let wanted = Wanted {
                member: &self.member,
                from,
                batches: &batches.ranges,
                aborted: &aborted,
                records_max: left,
                is_exact: self.acquire_mode == RECORD_LIMIT,
                batch_size: self.batch_size.into(),
            };
            let (acquired, has_changed) = share.acquire(&wanted, self.rules());
            has_moved |= has_changed;
            left -= acquired.iter().map(|one| one.last_offset - one.first_offset + 1).sum::<i64>();
            if let (Some(first), Some(last)) = (acquired.first(), acquired.last()) {
                fetched[at].records = batches.records_of(first.first_offset, last.last_offset);
                fetched[at].acquired = acquired;
            }
        }
        has_moved
    }

    fn count(&self, context: &RequestContext, fetched: &[FetchedPartition]) {
        let counters = context.broker.counters();
        for (target, fetched) in self.targets.iter().zip(fetched) {
            let source = target.found.as_ref().ok();
            let topic = source.and_then(|source| source.counters.as_deref());
            let bytes = fetched.records.len() as u64;
            counters.add(topic, |counters| &counters.fetch_requests, 1);
            counters.add(topic, |counters| &counters.bytes_out, bytes);
            if let Some(source) = source {
                source.share.partition.count_read(bytes);
            }
        }
    }
}

fn nothing(target: &Target) -> FetchedPartition {
    FetchedPartition {
        place: target.place,
        error: target.found.as_ref().err().copied().unwrap_or(ErrorCode::None),
        records: Records::new(),
        acquired: Vec::new(),
    }
}

/// Members know few errors here, and stop at others. A coordinator that cannot be reached is one they hear nothing of: they come again.
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorNotAvailable | ErrorCode::RequestTimedOut => ErrorCode::None,
        ErrorCode::GroupIdNotFound => ErrorCode::UnknownServerError,
        error => error,
    }
}

/// The batches of a read, whole.
struct Batches {
    batches: Vec<Batch>,
    ranges: Vec<Range>,
}

impl Batches {
    fn of(records: &Records) -> Batches {
        // What the log hands out is whole batches.
        let batches: Vec<Batch> =
            records.segments().iter().flat_map(split_batches).map_while(Result::ok).collect();
        let ranges = batches.iter().map(|batch| (batch.header.base_offset, batch.header.last_offset()));
        Batches { ranges: ranges.collect(), batches }
    }

    /// Batches of aborted transactions. Kafka: `SharePartition.fetchAbortedTransactionRecordBatches`.
    fn aborted(&self, transactions: &[AbortedTransaction]) -> Vec<Range> {
        let mut coming: Vec<&AbortedTransaction> = transactions.iter().collect();
        coming.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        let mut producers: Vec<i64> = Vec::new();
        let mut aborted = Vec::new();
        for (range, batch) in self.ranges.iter().zip(&self.batches) {
            while let Some(transaction) = coming.last().filter(|one| one.first_offset <= range.1) {
                producers.push(transaction.producer_id);
                coming.pop();
            }
            let header = &batch.header;
            if header.is_control() {
                if is_abort(batch) {
                    producers.retain(|producer| *producer != header.producer_id);
                }
            } else if header.is_transactional() && producers.contains(&header.producer_id) {
                aborted.push(*range);
            }
        }
        aborted
    }

    /// All batches that have something of these offsets.
    fn records_of(&self, first: i64, last: i64) -> Records {
        let all = self.ranges.iter().zip(&self.batches);
        let wanted = all.filter(|((begin, end), _)| *begin <= last && *end >= first);
        wanted.map(|(_, batch)| batch.bytes.clone()).collect()
    }
}

/// A marker is small, and not compressed.
const MARKER_BYTES_MAX: usize = 1 << 10;

fn is_abort(batch: &Batch) -> bool {
    let first = batch.records(MARKER_BYTES_MAX).next().and_then(Result::ok);
    let marker = first.and_then(|record| ControlRecord::parse(record.key.as_ref()?, record.value.as_deref()));
    matches!(marker, Some(ControlRecord::Abort { .. }))
}
