//! Writing: records gather in batches by partition, one task sends them, every record learns where it is.
//!
//! ```text
//! send ──► queue of a partition ──► sender task ──► one Produce per broker, several under way
//!   ▲ waits for buffer room              ▲                     │
//!   └────────────── room comes back ─────┴──── result ◄────────┘
//! ```
//!
//! **Order and no duplicates.** A batch gets its sequence when it is first sent and keeps it through every
//! retry, so the broker recognises what it already has. Several batches of a partition may be under way; after
//! a failure the batches go back to the front of the queue in the order of their sequences, and nothing is sent
//! for the partition while any of its batches is still out. A batch that is given up for good leaves a gap in
//! the sequences: the partition then starts anew with the next epoch of the producer (KIP-360), once nothing is
//! out any more and of every batch it is known whether the broker has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use protocol::batch::{BatchBuilder, BatchError, HEADER_LEN, Header, record_len, set_producer};
use protocol::compression::Compression;
use protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse, produce_request, produce_response,
};
use protocol::{ErrorCode, Records, Str, Uuid};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use world::task::{self, Instant, JoinHandle};

use crate::TopicPartition;
use crate::cluster::{Client, Lane};
use crate::error::{Error, check};
use crate::partitioner::{DefaultPartitioner, Partitioner};
use crate::retry::Tries;

/// A record to write.
///
/// ```
/// use client::Record;
/// let record = Record::to("clicks").key("user-1").value("start").header("origin", "web");
/// assert_eq!(record.topic, "clicks");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub topic: Str,
    /// `None`: by key, or sticky without one.
    pub partition: Option<i32>,
    /// Unix milliseconds; `None` is now.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    pub fn to(topic: impl Into<Str>) -> Record {
        Record { topic: topic.into(), ..Record::default() }
    }

    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub fn timestamp(mut self, unix_ms: i64) -> Self {
        self.timestamp = Some(unix_ms);
        self
    }

    pub fn header(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { key: key.into(), value: Some(value.into()) });
        self
    }
}

/// Where a record went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub topic: Str,
    pub partition: i32,
    /// −1 when it is not known: with acks=0, and when the broker only said that it has the batch already.
    pub offset: i64,
    /// The record's time as stored: the broker's in a `LogAppendTime` topic.
    pub timestamp: i64,
}

/// `acks`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Do not wait for the broker: no offsets, no retries, and losses are not noticed.
    None,
    Leader,
    #[default]
    All,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Settings of a [`Producer`]; the defaults are Kafka's.
#[derive(Clone)]
pub struct ProducerOptions {
    pub acks: Acks,
    /// `enable.idempotence`: needs acks=all.
    pub idempotent: bool,
    /// `linger.ms`
    pub linger: Duration,
    /// `batch.size`, uncompressed.
    pub batch_bytes: usize,
    /// `max.request.size`
    pub request_bytes_max: usize,
    /// `buffer.memory`: what waits and travels together, uncompressed.
    pub buffer_bytes: usize,
    /// `max.block.ms`: how long `send` may wait for metadata and for room.
    pub block_max: Duration,
    /// `delivery.timeout.ms`: from `send` to the report.
    pub delivery_timeout: Duration,
    /// `max.in.flight.requests.per.connection`; at most 5 when idempotent.
    pub in_flight_max: usize,
    /// `compression.type`
    pub compression: Compression,
    pub compression_level: Option<i32>,
    pub partitioner: Arc<dyn Partitioner>,
}

/// Newer versions of Produce name topics by id only (KIP-516).
const LAST_VERSION_WITH_NAMES: i16 = 12;

/// Kafka's broker remembers this many batches per producer and partition.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            acks: Acks::All,
            idempotent: true,
            linger: Duration::from_millis(5),
            batch_bytes: 16 << 10,
            request_bytes_max: 1 << 20,
            buffer_bytes: 32 << 20,
            block_max: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            in_flight_max: IDEMPOTENT_IN_FLIGHT_MAX,
            compression: Compression::None,
            compression_level: None,
            partitioner: Arc::new(DefaultPartitioner),
        }
    }
}

impl ProducerOptions {
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Anything but `All` turns idempotence off, which needs it.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self.idempotent &= acks == Acks::All;
        self
    }

    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    pub fn delivery_timeout(mut self, limit: Duration) -> Self {
        self.delivery_timeout = limit;
        self
    }

    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Arc::new(partitioner);
        self
    }
}

/// The report on one record, to be awaited or dropped. Dropping it does not take the record back.
#[derive(Clone)]
pub struct Delivery {
    outcome: Arc<Outcome>,
    partition: TopicPartition,
    index: i64,
    timestamp: i64,
}

impl Delivery {
    /// Waits until the record is stored or given up.
    pub async fn wait(&self) -> Result<Delivered, Error> {
        loop {
            let told = self.outcome.told.notified();
            if let Some(result) = self.now() {
                return result;
            }
            told.await;
        }
    }

    /// The report if it is there already.
    pub fn now(&self) -> Option<Result<Delivered, Error>> {
        let result = self.outcome.result.get()?;
        Some(result.clone().map(|stored| Delivered {
            topic: self.partition.topic.clone(),
            partition: self.partition.partition,
            offset: if stored.base_offset < 0 { -1 } else { stored.base_offset + self.index },
            timestamp: if stored.log_append_time < 0 { self.timestamp } else { stored.log_append_time },
        }))
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl IntoFuture for Delivery {
    type Output = Result<Delivered, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.wait().await })
    }
}

/// What became of a batch; shared by the reports of its records.
#[derive(Default)]
struct Outcome {
    result: OnceLock<Result<Stored, Error>>,
    told: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    base_offset: i64,
    log_append_time: i64,
}

/// Writes records. Made by [`Client::producer`]; cheap to clone, and all clones share one buffer.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    sender: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    client: Client,
    options: ProducerOptions,
    room: Arc<Semaphore>,
    state: Mutex<State>,
    /// Wakes the sender: something is ready, or a flush or the end was asked for.
    work: Notify,
    /// Wakes those who wait for batches to be done.
    done: Notify,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, Queue>,
    /// The sticky choice per topic: a partition, and the bytes it got so far.
    sticky: BTreeMap<Str, (i32, usize)>,
    next_batch: u64,
    /// All batches that are neither stored nor given up.
    unfinished: BTreeSet<u64>,
    /// Batches up to this number do not linger.
    flush_to: Option<u64>,
    producer_id: i64,
    initial_epoch: i16,
    closing: bool,
    failed: Option<Error>,
}

/// The batches of one partition, oldest first; those with a sequence have been sent before.
#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    in_flight: usize,
    /// A leader refused or vanished: not before this.
    not_before: Option<Instant>,
    failures: u32,
    epoch: i16,
    next_sequence: i32,
    /// A batch with a sequence was given up: start anew when nothing is out.
    gap: bool,
    /// The leader has stored a batch of this epoch, so it knows our sequences. Until then one batch at a time:
    /// a leader that knows nothing of a producer takes any sequence as the first. If it refused batch 0 for
    /// another reason (a leader that just became one does) and took batch 1, their order would be lost.
    known: bool,
    /// The batches from the oldest one whose fate is open to the newest one sent, and whether each is settled.
    /// The broker recognises the last five only. Sent further ahead, a batch that has to be asked about again
    /// would be taken for one that never came.
    window: VecDeque<(u64, bool)>,
}

impl Queue {
    fn settle(&mut self, number: u64) {
        if let Some(entry) = self.window.iter_mut().find(|entry| entry.0 == number) {
            entry.1 = true;
        }
        while self.window.front().is_some_and(|entry| entry.1) {
            self.window.pop_front();
        }
    }
}

struct Batch {
    number: u64,
    content: Content,
    record_count: i32,
    /// Uncompressed.
    len: usize,
    born: Instant,
    /// Closed to new records.
    full: bool,
    sequence: Option<i32>,
    /// A try ended without an answer.
    maybe_stored: bool,
    outcome: Arc<Outcome>,
    room: OwnedSemaphorePermit,
}

enum Content {
    Open(BatchBuilder),
    /// Compressed and written when first sent; only the producer's part of the header changes after that.
    Written(Bytes),
}

impl Producer {
    pub(crate) async fn new(client: Client, mut options: ProducerOptions) -> Result<Producer, Error> {
        if options.idempotent {
            if options.acks != Acks::All {
                return Err(Error::invalid("an idempotent producer needs acks=all"));
            }
            options.in_flight_max = options.in_flight_max.min(IDEMPOTENT_IN_FLIGHT_MAX);
        }
        options.in_flight_max = options.in_flight_max.max(1);
        let mut state = State { producer_id: -1, initial_epoch: -1, ..State::default() };
        if options.idempotent {
            let (id, epoch) = init_producer_id(&client, options.block_max).await?;
            state.producer_id = id;
            state.initial_epoch = epoch;
        }
        let shared = Arc::new(Shared {
            room: Arc::new(Semaphore::new(options.buffer_bytes.min(u32::MAX as usize))),
            client,
            options,
            state: Mutex::new(state),
            work: Notify::new(),
            done: Notify::new(),
        });
        let sender = task::spawn(Sender::new(shared.clone()).run());
        Ok(Producer { shared, sender: Arc::new(Mutex::new(Some(sender))) })
    }

    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Puts the record into its partition's batch and gives the report to wait for. Waits itself, up to
    /// `block_max`, while the topic is not known and while the buffer is full.
    ///
    /// Records of one task that go to one partition are stored in the order of their calls.
    pub async fn send(&self, record: Record) -> Result<Delivery, Error> {
        let shared = &self.shared;
        let options = &shared.options;
        let len = record_len(record.key.as_deref(), record.value.as_deref(), &record.headers);
        let cap = options.request_bytes_max.min(options.buffer_bytes);
        if len > cap {
            return Err(Error::RecordTooLarge { len, cap });
        }
        let known = shared.client.cluster();
        let count = match known.topic(&record.topic).map(|topic| topic.partitions.len()) {
            Some(count @ 1..) => count as i32,
            _ => {
                let cluster = shared.client.topic(&record.topic, options.block_max).await?;
                cluster.topic(&record.topic).map_or(0, |topic| topic.partitions.len()) as i32
            }
        };
        if record.partition.is_some_and(|partition| !(0..count).contains(&partition)) {
            return Err(Error::Kafka {
                code: ErrorCode::UnknownTopicOrPartition,
                message: format!("{} has {count} partitions", record.topic).into(),
            });
        }
        let room = match shared.room.clone().try_acquire_many_owned(len as u32) {
            Ok(room) => room,
            Err(_) => {
                // Whoever waits for room does not want to wait for a linger.
                shared.work.notify_one();
                let waiting = shared.room.clone().acquire_many_owned(len as u32);
                match task::timeout(options.block_max, waiting).await {
                    Ok(room) => room.map_err(|_| Error::Closed)?,
                    Err(_) => {
                        let what = Str::from_static("waiting for room in the producer's buffer");
                        return Err(Error::Timeout { what, limit: options.block_max });
                    }
                }
            }
        };
        shared.append(record, count, len, room)
    }

    /// Sends everything that was given to `send` before, without lingering, and waits for the reports. The
    /// reports themselves say how it went.
    pub async fn flush(&self) -> Result<(), Error> {
        let target = {
            let mut state = self.shared.state.lock();
            let Some(last) = state.next_batch.checked_sub(1) else { return Ok(()) };
            state.flush_to = state.flush_to.max(Some(last));
            last
        };
        loop {
            let done = self.shared.done.notified();
            {
                let state = self.shared.state.lock();
                if state.unfinished.first().is_none_or(|first| *first > target) {
                    return Ok(());
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
            }
            self.shared.work.notify_one();
            done.await;
        }
    }

    /// Flushes and ends. Later calls of `send` fail with [`Error::Closed`].
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.state.lock().closing = true;
        let flushed = self.flush().await;
        self.shared.work.notify_one();
        let sender = self.sender.lock().take();
        if let Some(sender) = sender {
            sender.abort();
        }
        flushed
    }

    /// Bytes of the buffer that are in use.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.options.buffer_bytes.saturating_sub(self.shared.room.available_permits())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The last one out: what was not flushed is lost, as with a process that ends.
        if Arc::strong_count(&self.sender) == 1
            && let Some(sender) = self.sender.lock().take()
        {
            sender.abort();
        }
    }
}

impl Shared {
    fn append(
        &self,
        record: Record,
        count: i32,
        len: usize,
        room: OwnedSemaphorePermit,
    ) -> Result<Delivery, Error> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.client.now_ms());
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.closing {
            return Err(Error::Closed);
        }
        let partition = match record.partition {
            Some(partition) => partition,
            None => match self.options.partitioner.partition(&record.topic, record.key.as_ref(), count) {
                Some(partition) if (0..count).contains(&partition) => partition,
                Some(partition) => {
                    return Err(Error::invalid(format!("the partitioner chose {partition} of {count}")));
                }
                None => self.sticky(state, &record.topic, count, len),
            },
        };
        let key = TopicPartition { topic: record.topic, partition };
        let initial_epoch = state.initial_epoch;
        let queue = state
            .partitions
            .entry(key.clone())
            .or_insert_with(|| Queue { epoch: initial_epoch, ..Queue::default() });
        let fits = queue
            .batches
            .back()
            .is_some_and(|batch| !batch.full && batch.len + len <= self.options.batch_bytes);
        let mut wake = false;
        if !fits {
            if let Some(last) = queue.batches.back_mut() {
                wake = !last.full;
                last.full = true;
            }
            let number = state.next_batch;
            state.next_batch += 1;
            state.unfinished.insert(number);
            // A first batch starts the linger, which the sender must know about.
            wake |= queue.batches.is_empty();
            queue.batches.push_back(Batch {
                number,
                content: Content::Open(
                    BatchBuilder::new()
                        .compression(self.options.compression)
                        .compression_level(self.options.compression_level),
                ),
                record_count: 0,
                len: 0,
                born: task::now(),
                full: false,
                sequence: None,
                maybe_stored: false,
                outcome: Arc::new(Outcome::default()),
                room,
            });
        } else if let Some(batch) = queue.batches.back_mut() {
            batch.room.merge(room);
        }
        let batch = queue.batches.back_mut().expect("just made or found");
        let Content::Open(builder) = &mut batch.content else { unreachable!("a written batch is full") };
        let index =
            builder.append(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)?;
        batch.len = builder.uncompressed_len();
        batch.record_count = builder.record_count();
        if batch.len >= self.options.batch_bytes {
            batch.full = true;
            wake = true;
        }
        let delivery =
            Delivery { outcome: batch.outcome.clone(), partition: key, index: i64::from(index), timestamp };
        drop(guard);
        if wake {
            self.work.notify_one();
        }
        Ok(delivery)
    }

    /// One partition until it got a batch's worth of bytes, then another by chance (KIP-794).
    fn sticky(&self, state: &mut State, topic: &Str, count: i32, len: usize) -> i32 {
        let random = || self.client.options().rng.below(count as u64) as i32;
        let choice = state.sticky.entry(topic.clone()).or_insert_with(|| (random(), 0));
        if choice.0 >= count || choice.1 >= self.options.batch_bytes {
            let mut next = random();
            if next == choice.0 && count > 1 {
                next = (next + 1) % count;
            }
            *choice = (next, 0);
        }
        choice.1 += len;
        choice.0
    }

    fn finish(&self, state: &mut State, batch: Batch, result: Result<Stored, Error>) {
        state.unfinished.remove(&batch.number);
        let _ = batch.outcome.result.set(result);
        batch.outcome.told.notify_waiters();
        self.done.notify_waiters();
    }
}

/// The task that sends.
struct Sender {
    shared: Arc<Shared>,
    requests: FuturesUnordered<BoxFuture<'static, Sent>>,
    in_flight: BTreeMap<i32, usize>,
    /// A refresh of the metadata cache under way.
    metadata: Option<JoinHandle<()>>,
}

/// Resolves when the task is over; never without one.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// A request that came back.
struct Sent {
    node: i32,
    batches: Vec<(TopicPartition, Batch)>,
    ids: BTreeMap<Str, Uuid>,
    result: Result<Option<ProduceResponse>, Error>,
}

impl Sender {
    fn new(shared: Arc<Shared>) -> Sender {
        Sender { shared, requests: FuturesUnordered::new(), in_flight: BTreeMap::new(), metadata: None }
    }

    async fn run(mut self) {
        loop {
            let wake = self.send_ready();
            let shared = self.shared.clone();
            let sleep = async {
                match wake {
                    Some(at) => task::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(sent) = self.requests.next(), if !self.requests.is_empty() => self.take(sent),
                () = finished(&mut self.metadata) => self.metadata = None,
                () = shared.work.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Sends what is ready; gives the time when something will be that is not yet.
    fn send_ready(&mut self) -> Option<Instant> {
        self.expire();
        let topics: Vec<Str> = {
            let state = self.shared.state.lock();
            let mut topics: Vec<Str> = state
                .partitions
                .iter()
                .filter(|(_, queue)| !queue.batches.is_empty())
                .map(|(partition, _)| partition.topic.clone())
                .collect();
            topics.dedup();
            topics
        };
        if topics.is_empty() {
            return None;
        }
        let client = &self.shared.client;
        if client.is_stale(&topics) && self.metadata.is_none() {
            // Not waited for here: results of requests must not wait for metadata.
            let client = client.clone();
            self.metadata = Some(task::spawn(async move {
                if let Err(error) = client.fresh_cluster(&topics).await {
                    tracing::debug!(%error, "no metadata");
                }
                // A topic may be gone for long.
                if client.is_stale(&topics) {
                    task::sleep(client.backoff(1)).await;
                }
            }));
        }
        let (requests, wake) = self.collect(&self.shared.client.cluster());
        for (node, batches) in requests {
            self.send(node, batches);
        }
        wake
    }

    /// Takes the batches that may go now, by leader.
    #[allow(clippy::type_complexity)]
    fn collect(
        &mut self,
        cluster: &crate::Cluster,
    ) -> (BTreeMap<i32, Vec<(TopicPartition, Batch)>>, Option<Instant>) {
        let shared = self.shared.clone();
        let options = &shared.options;
        let now = task::now();
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        let hurry = state.closing || shared.room.available_permits() < options.batch_bytes;
        let mut requests: BTreeMap<i32, Vec<(TopicPartition, Batch)>> = BTreeMap::new();
        let mut bytes: BTreeMap<i32, usize> = BTreeMap::new();
        let mut wake: Option<Instant> = None;
        let mut wake_at = |at: Instant| wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        let mut leaderless = false;
        for (partition, queue) in &mut state.partitions {
            let Some(front) = queue.batches.front() else { continue };
            wake_at(front.born + options.delivery_timeout);
            if let Some(at) = queue.not_before.filter(|at| now < *at) {
                wake_at(at);
                continue;
            }
            // After a failure, and while sequences start anew: only when nothing is out.
            let alone = queue.gap || front.sequence.is_some() || options.idempotent && !queue.known;
            if queue.in_flight > 0 && alone {
                continue;
            }
            // The result of an earlier batch wakes us.
            if front.sequence.is_none() && queue.window.len() >= IDEMPOTENT_IN_FLIGHT_MAX {
                continue;
            }
            let flushed = state.flush_to.is_some_and(|to| front.number <= to);
            let lingers =
                !(front.full || front.sequence.is_some() || hurry || flushed || queue.batches.len() > 1);
            if lingers && now < front.born + options.linger {
                wake_at(front.born + options.linger);
                continue;
            }
            let Some(leader) = cluster.leader(&partition.topic, partition.partition) else {
                leaderless = true;
                wake_at(now + shared.client.backoff(queue.failures.max(1)));
                continue;
            };
            let under_way = self.in_flight.get(&leader).copied().unwrap_or(0);
            // The result of an earlier request wakes us.
            if under_way >= options.in_flight_max || queue.in_flight >= options.in_flight_max {
                continue;
            }
            let size = bytes.entry(leader).or_default();
            let len = front.len;
            if *size > 0 && *size + len > options.request_bytes_max {
                wake_at(now);
                continue;
            }
            *size += len;
            let mut batch = queue.batches.pop_front().expect("there is a front");
            batch.full = true;
            if options.idempotent {
                give_sequence(queue, &mut batch, state.producer_id);
            }
            queue.in_flight += 1;
            requests.entry(leader).or_default().push((partition.clone(), batch));
            if queue.batches.front().is_some_and(|next| next.full) {
                wake_at(now);
            }
        }
        if leaderless {
            shared.client.outdated();
        }
        (requests, wake)
    }

    fn send(&mut self, node: i32, ready: Vec<(TopicPartition, Batch)>) {
        let shared = self.shared.clone();
        let mut topics: BTreeMap<Str, Vec<produce_request::PartitionProduceData>> = BTreeMap::new();
        let cluster = shared.client.cluster();
        let mut batches = Vec::with_capacity(ready.len());
        for (partition, mut batch) in ready {
            match batch.content.write() {
                Ok(bytes) => {
                    let records = Some(Records::from(bytes));
                    let data = produce_request::PartitionProduceData { index: partition.partition, records };
                    topics.entry(partition.topic.clone()).or_default().push(data);
                    batches.push((partition, batch));
                }
                Err(error) => self.gave_up(&mut shared.state.lock(), &partition, batch, error.into()),
            }
        }
        if batches.is_empty() {
            return;
        }
        *self.in_flight.entry(node).or_default() += 1;
        let options = &shared.options;
        // From version 13 on topics have ids only: a topic that was deleted and made again is another one.
        let ids: BTreeMap<Str, Uuid> = topics.keys().filter_map(|name| cluster.topic_id(name)).collect();
        let cap = if ids.len() == topics.len() { i16::MAX } else { LAST_VERSION_WITH_NAMES };
        let request = ProduceRequest {
            transactional_id: None,
            acks: options.acks.wire(),
            timeout_ms: shared.client.options().request_timeout.as_millis() as i32,
            topic_data: topics
                .into_iter()
                .map(|(name, partition_data)| produce_request::TopicProduceData {
                    topic_id: ids.get(&name).copied().unwrap_or_default(),
                    name,
                    partition_data,
                })
                .collect(),
        };
        let silent = options.acks == Acks::None;
        let limit = shared.client.options().request_timeout;
        self.requests.push(Box::pin(async move {
            let result = async {
                let connection = shared.client.node(Lane::Produce, node).await?;
                let version = connection.version::<ProduceRequest>(cap)?;
                if silent {
                    connection.tell(&request, version).await.map(|()| None)
                } else {
                    connection.enqueue(&request, version).await?.answer(limit).await.map(Some)
                }
            };
            let result = result.await;
            Sent { node, batches, ids, result }
        }));
    }

    fn take(&mut self, sent: Sent) {
        if let Some(count) = self.in_flight.get_mut(&sent.node) {
            *count = count.saturating_sub(1);
        }
        let shared = self.shared.clone();
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        match sent.result {
            Ok(None) => {
                for (partition, batch) in sent.batches {
                    self.stored(state, &partition, batch, Stored { base_offset: -1, log_append_time: -1 });
                }
            }
            Ok(Some(response)) => {
                let answers = by_partition(response, &sent.ids);
                for (partition, batch) in sent.batches {
                    match answers.get(&partition) {
                        Some(answer) => self.answered(state, &partition, batch, answer),
                        None => {
                            let error = Error::Kafka {
                                code: ErrorCode::UnknownServerError,
                                message: "the broker's answer does not mention the partition".into(),
                            };
                            self.gave_up(state, &partition, batch, error);
                        }
                    }
                }
            }
            Err(error) => {
                for (partition, batch) in sent.batches {
                    self.failed(state, &partition, batch, error.clone());
                }
            }
        }
    }

    fn answered(
        &self,
        state: &mut State,
        partition: &TopicPartition,
        batch: Batch,
        answer: &produce_response::PartitionProduceResponse,
    ) {
        let stored = Stored { base_offset: answer.base_offset, log_append_time: answer.log_append_time_ms };
        match check(answer.error_code, answer.error_message.as_ref()) {
            Ok(()) => self.stored(state, partition, batch, stored),
            Err(error) => match error.code() {
                // An earlier try had arrived.
                Some(ErrorCode::DuplicateSequenceNumber) => {
                    self.stored(state, partition, batch, Stored { base_offset: -1, ..stored });
                }
                _ => self.failed(state, partition, batch, error),
            },
        }
    }

    fn stored(&self, state: &mut State, partition: &TopicPartition, batch: Batch, stored: Stored) {
        if let Some(queue) = state.partitions.get_mut(partition) {
            queue.in_flight -= 1;
            queue.failures = 0;
            queue.not_before = None;
            queue.known = true;
            queue.settle(batch.number);
        }
        self.shared.finish(state, batch, Ok(stored));
    }

    /// Back into the queue if another try can help, else given up.
    fn failed(&self, state: &mut State, partition: &TopicPartition, mut batch: Batch, error: Error) {
        let client = &self.shared.client;
        if error.needs_metadata() {
            client.outdated();
        }
        let options = &self.shared.options;
        let sequence_trouble = options.idempotent
            && matches!(
                error.code(),
                Some(
                    ErrorCode::OutOfOrderSequenceNumber
                        | ErrorCode::UnknownProducerId
                        | ErrorCode::InvalidProducerEpoch
                        | ErrorCode::ProducerFenced
                )
            );
        // With acks=0 a lost request is a lost batch.
        let again = options.acks != Acks::None && (error.is_retriable() || sequence_trouble);
        if !again || batch.born.elapsed() >= options.delivery_timeout {
            return self.gave_up(state, partition, batch, error);
        }
        tracing::debug!(%partition, %error, "a batch goes back");
        if sequence_trouble {
            // Had the broker stored it, it would have said so.
            batch.maybe_stored = false;
        } else if error.code().is_none() {
            batch.maybe_stored = true;
        }
        let Some(queue) = state.partitions.get_mut(partition) else { return };
        queue.in_flight -= 1;
        queue.not_before = Some(task::now() + client.backoff(queue.failures));
        queue.failures += 1;
        // Out of order because an earlier batch is still to be sent again: then that one goes first and all is
        // well. Out of order although it was the first one that is not stored: the broker has lost count of us.
        if sequence_trouble {
            let earlier = queue.in_flight > 0
                || queue
                    .batches
                    .front()
                    .is_some_and(|front| front.sequence.is_some() && front.number < batch.number);
            if !earlier || error.code() != Some(ErrorCode::OutOfOrderSequenceNumber) {
                queue.gap = true;
            }
        }
        let at = queue.batches.partition_point(|waiting| waiting.number < batch.number);
        queue.batches.insert(at, batch);
    }

    fn gave_up(&self, state: &mut State, partition: &TopicPartition, batch: Batch, error: Error) {
        if let Some(queue) = state.partitions.get_mut(partition) {
            queue.in_flight -= 1;
            queue.gap |= batch.sequence.is_some();
            queue.settle(batch.number);
        }
        self.shared.finish(state, batch, Err(error));
    }

    /// Gives up batches that waited longer than the delivery timeout. Those under way are waited for: their
    /// request has a time limit of its own.
    fn expire(&self) {
        let limit = self.shared.options.delivery_timeout;
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let mut expired = Vec::new();
        for (partition, queue) in &mut state.partitions {
            while queue.batches.front().is_some_and(|batch| batch.born.elapsed() >= limit) {
                let batch = queue.batches.pop_front().expect("there is a front");
                queue.gap |= batch.sequence.is_some();
                queue.settle(batch.number);
                expired.push((partition.clone(), batch));
            }
        }
        for (partition, batch) in expired {
            let what = Str::from(format!("delivery to {partition}"));
            self.shared.finish(state, batch, Err(Error::Timeout { what, limit }));
        }
    }
}

impl Content {
    /// The batch as it goes out.
    fn write(&mut self) -> Result<Bytes, BatchError> {
        if let Content::Open(builder) = self {
            *self = Content::Written(std::mem::take(builder).build()?);
        }
        match self {
            Content::Written(bytes) => Ok(bytes.clone()),
            Content::Open(_) => unreachable!("just written"),
        }
    }
}

/// Gives the batch its place in the order of its producer and partition, unless it has one.
fn give_sequence(queue: &mut Queue, batch: &mut Batch, producer_id: i64) {
    // A batch that may be stored is asked about first, under its old sequence: given a new one it could be stored
    // twice. The answer is either that it is there, or that it is out of order and therefore not. Batches
    // behind one that is not there are not there either.
    if queue.gap && !batch.maybe_stored {
        // Nothing is out: everything from here on belongs to the next epoch. An epoch that has run out
        // wraps to 0, which the broker refuses as old; that takes 32,767 lost batches of one partition.
        queue.gap = false;
        queue.known = false;
        queue.epoch = queue.epoch.wrapping_add(1) & i16::MAX;
        queue.next_sequence = 0;
        queue.window.clear();
        batch.sequence = None;
        for waiting in &mut queue.batches {
            waiting.sequence = None;
        }
    }
    if batch.sequence.is_some() {
        return;
    }
    let sequence = queue.next_sequence;
    batch.sequence = Some(sequence);
    queue.window.push_back((batch.number, false));
    match &mut batch.content {
        Content::Open(builder) => builder.set_producer(producer_id, queue.epoch, sequence),
        Content::Written(bytes) => {
            let mut header = bytes.slice(..HEADER_LEN).to_vec();
            set_producer(&mut header, producer_id, queue.epoch, sequence);
            header.extend_from_slice(&bytes[HEADER_LEN..]);
            *bytes = header.into();
        }
    }
    let next = (i64::from(sequence) + i64::from(batch.record_count)) % (1 << 31);
    queue.next_sequence = next as i32;
}

fn by_partition(
    response: ProduceResponse,
    ids: &BTreeMap<Str, Uuid>,
) -> BTreeMap<TopicPartition, produce_response::PartitionProduceResponse> {
    let mut answers = BTreeMap::new();
    for topic in response.responses {
        let named = ids.iter().find(|(_, id)| !topic.topic_id.is_zero() && **id == topic.topic_id);
        let name = named.map_or(&topic.name, |(name, _)| name);
        for partition in topic.partition_responses {
            answers.insert(TopicPartition { topic: name.clone(), partition: partition.index }, partition);
        }
    }
    answers
}

async fn init_producer_id(client: &Client, limit: Duration) -> Result<(i64, i16), Error> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let mut tries = Tries::within(client, limit);
    loop {
        let asked = async {
            let answer = client.call_any(&request, 5).await?;
            check(answer.error_code, None)?;
            Ok((answer.producer_id, answer.producer_epoch))
        };
        match asked.await {
            Ok(ids) => return Ok(ids),
            Err(error) => tries.pause(error).await?,
        }
    }
}
