//! Fetch (key 1), versions 4–18.
//!
//! Reads record batches from many partitions, in the order of the request or of its session, until `max_bytes` is
//! reached. The first batch of the first partition that has data is sent even when it is larger than every bound,
//! or a consumer could never get past it. Without enough data (`min_bytes`) the answer waits up to `max_wait_ms`.
//!
//! Differences: no follower fetches from us (a replica id is NOT_LEADER_OR_FOLLOWER); there is one replica, so no
//! preferred one; only durable records are served, so high watermark and log end are the same; damage on disk is
//! CORRUPT_MESSAGE for that partition and nothing else. Before a partition is said to be unknown, or led elsewhere, we catch
//! up with what other brokers said about it.
//!
//! 5: log start offset · 7: sessions (KIP-227) · 9: leader epoch (KIP-320) · 10: zstd · 11: racks (KIP-392) ·
//! 12: flexible, diverging epochs (KIP-595) · 13: topic ids (KIP-516) · 15: replica state (KIP-903) · 16: leader's
//! address (KIP-951) · 17: directory ids (KIP-853) · 18: the fetcher's high watermark (KIP-1166).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commitlog::{FetchWait, Isolation, Partition, Read, ReadError, ReadRequest};
use protocol::messages::fetch_request::FetchTopic;
use protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ErrorCode, Records};
use world::task::{JoinHandle, spawn};

use crate::counters::TopicCounters;
use crate::error::read_error;
use crate::fetch_sessions::{Asked, Wanted};
use crate::freshness::may_be_stale;
use crate::partitions::{Led, TopicRef, led_here};
use crate::request::RequestContext;

const TOPIC_IDS_SINCE: i16 = 13;
const CURRENT_LEADER_SINCE: i16 = 16;
/// The last version whose clients do not know KAFKA_STORAGE_ERROR.
const LAST_WITHOUT_STORAGE_ERROR: i16 = 5;
const READ_COMMITTED: i8 = 1;
const NO_EPOCH: i32 = -1;
/// Of one fetch. The disk has a bound of its own for all of them.
const COLD_READS_AT_ONCE: usize = 16;

pub(super) async fn handle(context: RequestContext, request: FetchRequest) -> FetchResponse {
    let broker = context.broker.clone();
    let is_follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let asked = Asked {
        session_id: request.session_id,
        epoch: request.session_epoch,
        uses_topic_ids: context.api_version >= TOPIC_IDS_SINCE,
    };
    let wanted = wanted(&context, &request.topics);
    if wanted.len() > broker.limits.request_partitions_max {
        return session_error(ErrorCode::InvalidRequest);
    }
    let forgotten: Vec<(TopicRef, i32)> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let reference = match asked.uses_topic_ids {
                true => TopicRef::Id(topic.topic_id),
                false => TopicRef::Name(topic.topic.clone()),
            };
            topic.partitions.iter().map(move |partition| (reference.clone(), *partition))
        })
        .collect();
    let (fetching, wanted) = match broker.fetch_sessions.begin(asked, wanted, &forgotten) {
        Ok(begun) => begun,
        Err(code) => return session_error(code),
    };

    let (mut found, is_stale) = targets(&context, wanted, is_follower);
    if is_stale && broker.freshness.catch_up().await {
        let wanted = found.into_iter().map(|target| target.wanted).collect();
        (found, _) = targets(&context, wanted, is_follower);
    }
    let bytes_max =
        request.max_bytes.min(broker.configs.broker(&broker.catalog.read()).fetch_max_bytes()).max(0);
    let fetch = Fetch {
        targets: found,
        bytes_max: bytes_max as usize,
        bytes_min: request.min_bytes.clamp(0, bytes_max) as usize,
        wait_max: Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation: match request.isolation_level {
            READ_COMMITTED => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
    };
    let read = fetch.run(&context).await;

    let Some((session_id, partitions)) = broker.fetch_sessions.finish(&fetching, read) else {
        return session_error(ErrorCode::InvalidFetchSessionEpoch);
    };
    let mut response = FetchResponse { session_id, ..FetchResponse::default() };
    if context.api_version >= CURRENT_LEADER_SINCE {
        response.node_endpoints = leader_endpoints(&context, &partitions);
    }
    response.responses = by_topic(partitions);
    response
}

fn wanted(context: &RequestContext, topics: &[FetchTopic]) -> Vec<Wanted> {
    let uses_topic_ids = context.api_version >= TOPIC_IDS_SINCE;
    topics
        .iter()
        .flat_map(|topic| {
            let reference = match uses_topic_ids {
                true => TopicRef::Id(topic.topic_id),
                false => TopicRef::Name(topic.topic.clone()),
            };
            topic.partitions.iter().map(move |partition| Wanted {
                topic: reference.clone(),
                partition: partition.partition,
                fetch_offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            })
        })
        .collect()
}

/// One partition of a fetch: where to read, or why not.
struct Target {
    wanted: Wanted,
    found: Result<Source, Refusal>,
}

struct Source {
    partition: Arc<Partition>,
    leader_epoch: i32,
    counters: Option<Arc<TopicCounters>>,
}

struct Refusal {
    code: ErrorCode,
    leader: Option<LeaderIdAndEpoch>,
}

/// Looks all partitions up, under one read of the catalog. True: a refusal among them may be old news.
fn targets(context: &RequestContext, wanted: Vec<Wanted>, is_follower: bool) -> (Vec<Target>, bool) {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let find = |wanted: &Wanted| {
        let topic = wanted.topic.find(&state).map_err(|code| Refusal { code, leader: None })?;
        let led = led_here(&broker.log, broker.node_id, topic, wanted.partition).and_then(|led: Led| {
            match is_follower {
                true => Err(ErrorCode::NotLeaderOrFollower),
                false => led.check_epoch(wanted.current_leader_epoch).map(|()| led),
            }
        });
        let led = led.map_err(|code| {
            let tells_leader = context.api_version >= CURRENT_LEADER_SINCE
                && matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
            let info = topic.partitions.get(wanted.partition as usize).filter(|_| tells_leader);
            let leader =
                info.map(|info| LeaderIdAndEpoch { leader_id: info.leader, leader_epoch: info.leader_epoch });
            Refusal { code, leader }
        })?;
        Ok(Source {
            partition: led.partition,
            leader_epoch: led.leader_epoch,
            counters: broker.counters().topic(topic),
        })
    };
    let mut is_stale = false;
    let targets = wanted.into_iter().map(|wanted| {
        let found: Result<Source, Refusal> = find(&wanted);
        if let Err(refusal) = &found {
            is_stale |= !is_follower && may_be_stale(refusal.code);
        }
        Target { wanted, found }
    });
    (targets.collect(), is_stale)
}

/// One fetch while it waits and reads.
struct Fetch {
    targets: Vec<Target>,
    bytes_max: usize,
    bytes_min: usize,
    wait_max: Duration,
    isolation: Isolation,
}

/// What one pass over all partitions gave.
#[derive(Default)]
struct Pass {
    data: Vec<PartitionData>,
    bytes: usize,
    /// An error or a diverging epoch: the client must hear of it at once.
    is_urgent: bool,
    is_out_of_range: bool,
}

impl Pass {
    /// At its place, or in the place of what stood for it.
    fn put(&mut self, at: usize, data: PartitionData) {
        self.is_out_of_range |= data.error_code == ErrorCode::OffsetOutOfRange.code();
        self.bytes += data.records.as_ref().map_or(0, Records::len);
        self.is_urgent |= data.error_code != ErrorCode::None.code() || data.diverging_epoch.end_offset >= 0;
        match self.data.get_mut(at) {
            Some(known) => *known = data,
            None => self.data.push(data),
        }
    }
}

/// Reads from the medium that are under way, and for which place in the answer.
#[derive(Default)]
struct ColdReads {
    reads: Vec<(usize, JoinHandle<Result<Read, ReadError>>)>,
    /// What they may bring.
    bytes_max: usize,
}

impl ColdReads {
    fn start(&mut self, at: usize, partition: Arc<Partition>, request: ReadRequest) {
        self.bytes_max += request.max_bytes;
        self.reads.push((at, spawn(async move { partition.read(request).await })));
    }
}

impl Fetch {
    async fn run(self, context: &RequestContext) -> Vec<(Wanted, PartitionData)> {
        let broker = &context.broker;
        let counters = broker.counters();
        for target in &self.targets {
            let topic = target.found.as_ref().ok().and_then(|source| source.counters.as_deref());
            counters.add(topic, |counters| &counters.fetch_requests, 1);
        }
        let mut pass = self.pass(context.api_version).await;
        if pass.is_out_of_range && broker.catalog.is_shared() {
            pass = self.sure(context).await;
        }
        if !self.is_enough(&pass) && !self.wait_max.is_zero() {
            // What was read is read again: it must not be kept in memory while nothing happens.
            drop(pass);
            pass = self.wait(context).await;
        }
        for (target, data) in self.targets.iter().zip(&pass.data) {
            let topic = target.found.as_ref().ok().and_then(|source| source.counters.as_deref());
            let bytes = data.records.as_ref().map_or(0, Records::len) as u64;
            counters.add(topic, |counters| &counters.bytes_out, bytes);
            if is_failure(data.error_code) {
                counters.add(topic, |counters| &counters.failed_fetch_requests, 1);
            }
        }
        self.targets.into_iter().map(|target| target.wanted).zip(pass.data).collect()
    }

    /// Waits for enough data, the time to be up, or the client to leave.
    async fn wait(&self, context: &RequestContext) -> Pass {
        let clock = &context.broker.clock;
        let counters = context.broker.counters();
        counters.fetches_delayed.fetch_add(1, Ordering::Relaxed);
        let deadline = clock.monotonic() + self.wait_max;
        loop {
            // Registered before it looks again: what is committed in between is not missed.
            let wait = FetchWait::new();
            let mut has_news = false;
            for target in &self.targets {
                if let Ok(source) = &target.found {
                    has_news |= source.partition.notify(&wait, target.wanted.fetch_offset);
                }
            }
            // A reader of very many partitions at their ends need not look at each once more.
            if has_news {
                let pass = self.pass(context.api_version).await;
                if self.is_enough(&pass) {
                    return pass;
                }
            }
            let left = deadline.saturating_sub(clock.monotonic());
            tokio::select! {
                biased;
                () = wait.notified() => {}
                () = context.connection.hung_up() => {}
                () = world::task::sleep(left) => {}
            }
            let pass = self.pass(context.api_version).await;
            if self.is_enough(&pass) || context.connection.is_hung_up() {
                return pass;
            }
            if clock.monotonic() >= deadline {
                counters.fetches_expired.fetch_add(1, Ordering::Relaxed);
                return pass;
            }
        }
    }

    /// A consumer that is told that its offset is out of range goes elsewhere and skips data: nobody may be told so by a leader
    /// that was taken over from and does not know what came since (R20).
    async fn sure(&self, context: &RequestContext) -> Pass {
        let known = context.broker.know_ends().await;
        let mut pass = self.pass(context.api_version).await;
        for (target, data) in self.targets.iter().zip(&mut pass.data) {
            let is_leaving = target.found.as_ref().is_ok_and(|source| source.partition.is_leaving());
            if data.error_code == ErrorCode::OffsetOutOfRange.code() && (known.is_err() || is_leaving) {
                *data = refused(target.wanted.partition, ErrorCode::NotLeaderOrFollower);
            }
        }
        pass
    }

    fn is_enough(&self, pass: &Pass) -> bool {
        self.targets.is_empty() || pass.is_urgent || pass.bytes >= self.bytes_min
    }

    /// Reads every partition once. Tail reads do not wait. Cold ones do, as many at once as may be read in full: each
    /// may use up the bytes of the next.
    async fn pass(&self, api_version: i16) -> Pass {
        let mut pass = Pass { data: Vec::with_capacity(self.targets.len()), ..Pass::default() };
        let mut cold = ColdReads::default();
        for target in &self.targets {
            let wanted = &target.wanted;
            let data = match &target.found {
                Err(refusal) => {
                    let mut data = refused(wanted.partition, refusal.code);
                    data.current_leader = refusal.leader.clone().unwrap_or_default();
                    data
                }
                Ok(source) => match self.diverging(source, wanted) {
                    Some(diverging) => diverging,
                    None => {
                        let max_bytes = wanted.max_bytes.max(0) as usize;
                        if cold.reads.len() >= COLD_READS_AT_ONCE
                            || pass.bytes + cold.bytes_max + max_bytes > self.bytes_max
                        {
                            self.finish(&mut cold, &mut pass, api_version).await;
                        }
                        let left = self.bytes_max.saturating_sub(pass.bytes + cold.bytes_max);
                        let request = ReadRequest {
                            offset: wanted.fetch_offset,
                            max_bytes: left.min(max_bytes),
                            min_one_batch: pass.bytes + cold.bytes_max == 0,
                            isolation: self.isolation,
                        };
                        match source.partition.read_tail(&request) {
                            Some(read) => answer(wanted, read, self.isolation, api_version),
                            None => {
                                cold.start(pass.data.len(), source.partition.clone(), request);
                                refused(wanted.partition, ErrorCode::None)
                            }
                        }
                    }
                },
            };
            pass.put(pass.data.len(), data);
        }
        self.finish(&mut cold, &mut pass, api_version).await;
        pass
    }

    async fn finish(&self, cold: &mut ColdReads, pass: &mut Pass, api_version: i16) {
        cold.bytes_max = 0;
        for (at, read) in cold.reads.drain(..) {
            let wanted = &self.targets[at].wanted;
            let data = match read.await {
                Ok(read) => answer(wanted, read, self.isolation, api_version),
                // Only when the runtime shuts down, or by a panic of ours.
                Err(_) => refused(wanted.partition, ErrorCode::UnknownServerError),
            };
            pass.put(at, data);
        }
    }

    /// A fetcher that says which epoch it read last is told when its log goes another way than ours.
    fn diverging(&self, source: &Source, wanted: &Wanted) -> Option<PartitionData> {
        if wanted.last_fetched_epoch == NO_EPOCH {
            return None;
        }
        let (epoch, end_offset) =
            source.partition.end_offset_for_epoch(wanted.last_fetched_epoch, source.leader_epoch);
        if epoch < 0 || epoch == wanted.last_fetched_epoch && end_offset >= wanted.fetch_offset {
            return None;
        }
        let offsets = source.partition.offsets();
        let mut data = PartitionData {
            partition_index: wanted.partition,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable,
            log_start_offset: offsets.log_start,
            records: Some(Records::new()),
            ..PartitionData::default()
        };
        data.diverging_epoch = EpochEndOffset { epoch, end_offset };
        Some(data)
    }
}

fn answer(
    wanted: &Wanted,
    read: Result<Read, ReadError>,
    isolation: Isolation,
    api_version: i16,
) -> PartitionData {
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            let code = match read_error(&error) {
                ErrorCode::KafkaStorageError if api_version <= LAST_WITHOUT_STORAGE_ERROR => {
                    ErrorCode::NotLeaderOrFollower
                }
                // Who asked by id learns that the id is gone; the name may live on.
                ErrorCode::UnknownTopicOrPartition if matches!(wanted.topic, TopicRef::Id(_)) => {
                    ErrorCode::UnknownTopicId
                }
                code => code,
            };
            if is_failure(code.code()) {
                tracing::warn!(
                    ?error,
                    offset = wanted.fetch_offset,
                    partition = wanted.partition,
                    "a fetch failed"
                );
            }
            return refused(wanted.partition, code);
        }
    };
    let aborted = read.aborted.iter().map(|aborted| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
    });
    PartitionData {
        partition_index: wanted.partition,
        error_code: ErrorCode::None.code(),
        high_watermark: read.high_watermark,
        last_stable_offset: read.last_stable_offset,
        log_start_offset: read.log_start_offset,
        // Kafka sends null to readers of uncommitted data, who need no list.
        aborted_transactions: matches!(isolation, Isolation::ReadCommitted).then(|| aborted.collect()),
        records: Some(read.records),
        ..PartitionData::default()
    }
}

/// Errors of ours, not of the client's bookkeeping.
fn is_failure(code: i16) -> bool {
    code == ErrorCode::CorruptMessage.code()
        || code == ErrorCode::KafkaStorageError.code()
        || code == ErrorCode::UnknownServerError.code()
}

fn refused(partition: i32, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: None,
        // librdkafka and others read an empty record set here, not null.
        records: Some(Records::new()),
        ..PartitionData::default()
    }
}

fn session_error(code: ErrorCode) -> FetchResponse {
    FetchResponse { error_code: code.code(), ..FetchResponse::default() }
}

/// Neighbours of one topic share an entry; order stays as read.
fn by_topic(partitions: Vec<(TopicRef, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicRef> = None;
    for (topic, data) in partitions {
        if last.as_ref() != Some(&topic) {
            topics.push(FetchableTopicResponse {
                topic: topic.name(),
                topic_id: topic.id(),
                ..FetchableTopicResponse::default()
            });
            last = Some(topic);
        }
        topics.last_mut().expect("one was just pushed").partitions.push(data);
    }
    topics
}

fn leader_endpoints(context: &RequestContext, partitions: &[(TopicRef, PartitionData)]) -> Vec<NodeEndpoint> {
    let leaders: std::collections::BTreeSet<i32> = partitions
        .iter()
        .map(|(_, data)| data.current_leader.leader_id)
        .filter(|leader| *leader >= 0)
        .collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    let state = context.broker.catalog.read();
    let nodes = context.broker.nodes(&state, &context.connection.listener).into_iter();
    nodes
        .filter(|node| leaders.contains(&node.id))
        .map(|node| NodeEndpoint { node_id: node.id, host: node.host, port: node.port, rack: node.rack })
        .collect()
}
