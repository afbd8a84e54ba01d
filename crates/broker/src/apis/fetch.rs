//! Fetch (key 1), versions 4–18.
//!
//! Reads record batches from many partitions, in the order of the request or of its session, until `max_bytes` is
//! reached. The first batch of the first partition that has data is sent even when it is larger than every bound,
//! or a consumer could never get past it. Without enough data (`min_bytes`) the answer waits up to `max_wait_ms`.
//!
//! In a bucket every broker that is shown as a replica serves consumers (KIP-392, `elsewhere.rs`), and a leader sends those of other
//! racks there without being told to by `replica.selector.class`: what it has acknowledged lies in the bucket, so the replica has it.
//! A replica does not know whether it is behind: an offset beyond its end is OFFSET_NOT_AVAILABLE there, what is wrong otherwise is
//! NOT_LEADER_OR_FOLLOWER, and the client asks the leader.
//!
//! Differences: no follower fetches from us (a replica id is NOT_LEADER_OR_FOLLOWER); only durable records are served, so high
//! watermark and log end are the same; damage on disk is CORRUPT_MESSAGE for that partition and nothing else. Before a partition is
//! said to be unknown, or led elsewhere, we catch up with what other brokers said about it.
//!
//! 5: log start offset · 7: sessions (KIP-227) · 9: leader epoch (KIP-320) · 10: zstd · 11: racks (KIP-392) ·
//! 12: flexible, diverging epochs (KIP-595) · 13: topic ids (KIP-516) · 15: replica state (KIP-903) · 16: leader's
//! address (KIP-951) · 17: directory ids (KIP-853) · 18: the fetcher's high watermark (KIP-1166).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::acl::AclOperation;
use commitlog::{FetchWait, Isolation, Partition, Read, ReadError, ReadRequest};
use protocol::messages::fetch_request::FetchTopic;
use protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ErrorCode, Records, Str, TopicIdPartition};
use world::task::{JoinHandle, spawn};

use crate::authorizer::{Resource, TopicRights};
use crate::counters::TopicCounters;
use crate::elsewhere::{self, Zones};
use crate::error::read_error;
use crate::fetch_sessions::{Asked, Wanted};
use crate::freshness::may_be_stale;
use crate::memory::MemoryShare;
use crate::partitions::{Led, TopicRef, led_here};
use crate::quotas::Usage;
use crate::request::RequestContext;

const TOPIC_IDS_SINCE: i16 = 13;
const RACKS_SINCE: i16 = 11;
const CURRENT_LEADER_SINCE: i16 = 16;
/// The last version whose clients do not know KAFKA_STORAGE_ERROR.
const LAST_WITHOUT_STORAGE_ERROR: i16 = 5;
const READ_COMMITTED: i8 = 1;
const NO_EPOCH: i32 = -1;
const NO_REPLICA: i32 = -1;
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

    let client = Client {
        // Whoever says that he is a broker has to be one.
        right: match is_follower {
            true => context
                .authorize(AclOperation::ClusterAction, Resource::Cluster)
                .map_err(|_| ErrorCode::TopicAuthorizationFailed),
            false => Ok(()),
        },
        is_follower,
        reads_elsewhere: !is_follower && context.api_version >= RACKS_SINCE && broker.catalog.is_shared(),
        rack: request.rack_id.clone(),
    };
    let again = |targets: Vec<Target>| targets.into_iter().map(|target| target.wanted).collect();
    let mut readable = context.topics(AclOperation::Read);
    let mut found = targets(&context, wanted, &client, &mut readable);
    if found.is_stale && broker.freshness.catch_up().await {
        found = targets(&context, again(found.targets), &client, &mut readable);
    }
    if !found.unopened.is_empty() && elsewhere::open(&broker, &found.unopened).await {
        found = targets(&context, again(found.targets), &client, &mut readable);
    }
    let bytes_max =
        request.max_bytes.min(broker.configs.broker(&broker.catalog.read()).fetch_max_bytes()).max(0);
    let short = context.connection.answer_bytes_max();
    let bytes_max = bytes_max.min(short.map_or(i32::MAX, |short| short as i32));
    let fetch = Fetch {
        targets: found.targets,
        bytes_max: bytes_max as usize,
        is_short: short.is_some(),
        bytes_min: request.min_bytes.clamp(0, bytes_max) as usize,
        wait_max: Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation: match request.isolation_level {
            READ_COMMITTED => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
    };
    // The shares of what was read from the disk: the server has the answer in its account when they are given back.
    let (read, _shares) = fetch.run(&context).await;

    let Some((session_id, partitions)) = broker.fetch_sessions.finish(&fetching, read) else {
        return session_error(ErrorCode::InvalidFetchSessionEpoch);
    };
    let bytes: usize =
        partitions.iter().filter_map(|(_, data)| data.records.as_ref()).map(Records::len).sum();
    let throttle_time_ms = context.use_quota(Usage::Fetch, bytes as f64);
    let mut response = FetchResponse { session_id, throttle_time_ms, ..FetchResponse::default() };
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
                // Kafka takes every negative epoch for none.
                current_leader_epoch: partition.current_leader_epoch.max(NO_EPOCH),
                last_fetched_epoch: partition.last_fetched_epoch,
            })
        })
        .collect()
}

/// Who asks.
struct Client {
    is_follower: bool,
    right: Result<(), ErrorCode>,
    /// It may read at a replica that does not lead.
    reads_elsewhere: bool,
    rack: Str,
}

/// All partitions of a fetch.
struct Targets {
    targets: Vec<Target>,
    /// A refusal among them may be old news.
    is_stale: bool,
    /// Led by others, to be read here, and not open yet.
    unopened: Vec<TopicIdPartition>,
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
    /// Another broker leads it.
    is_elsewhere: bool,
    /// Where this consumer had better read it.
    preferred: Option<i32>,
}

impl Source {
    /// The answer that sends the client to another replica, as far as that has what it asks for.
    fn redirect(&self, wanted: &Wanted) -> Option<PartitionData> {
        let preferred_read_replica = self.preferred?;
        let offsets = self.partition.offsets();
        let has_it = (offsets.log_start..=offsets.high_watermark).contains(&wanted.fetch_offset);
        has_it.then(|| PartitionData {
            partition_index: wanted.partition,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable,
            log_start_offset: offsets.log_start,
            aborted_transactions: None,
            preferred_read_replica,
            records: Some(Records::new()),
            ..PartitionData::default()
        })
    }
}

struct Refusal {
    code: ErrorCode,
    leader: Option<LeaderIdAndEpoch>,
}

/// Looks all partitions up, under one read of the catalog.
fn targets(
    context: &RequestContext,
    wanted: Vec<Wanted>,
    client: &Client,
    readable: &mut TopicRights<'_>,
) -> Targets {
    let broker = &context.broker;
    let state = broker.catalog.read();
    let zones = Zones::new(broker, &state);
    let mut find = |wanted: &Wanted, unopened: &mut Vec<TopicIdPartition>| {
        // A session does not outlive the right to read what it has.
        let topic = match client.is_follower {
            true => client.right.and_then(|()| wanted.topic.find(&state)),
            false => wanted.topic.find_allowed(&state, readable),
        };
        let topic = topic.map_err(|code| Refusal { code, leader: None })?;
        let mut is_elsewhere = false;
        let led = match led_here(&broker.log, broker.node_id, topic, wanted.partition) {
            Ok(_) if client.is_follower => Err(ErrorCode::NotLeaderOrFollower),
            Err(ErrorCode::NotLeaderOrFollower) if client.reads_elsewhere => {
                is_elsewhere = true;
                zones.read_here(topic, wanted.partition, unopened)
            }
            led => led,
        };
        let led = led.and_then(|led: Led| led.check_epoch(wanted.current_leader_epoch).map(|()| led));
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
            is_elsewhere,
            preferred: match client.reads_elsewhere && !is_elsewhere && !client.rack.is_empty() {
                true => zones.preferred(topic, &topic.partitions[wanted.partition as usize], &client.rack),
                false => None,
            },
        })
    };
    let (mut is_stale, mut unopened) = (false, Vec::new());
    let targets = wanted.into_iter().map(|wanted| {
        let unopened_before = unopened.len();
        let found: Result<Source, Refusal> = find(&wanted, &mut unopened);
        if let Err(refusal) = &found {
            let is_refused = unopened.len() == unopened_before && !client.is_follower;
            is_stale |= is_refused && may_be_stale(refusal.code);
        }
        Target { wanted, found }
    });
    let targets = targets.collect();
    Targets { targets, is_stale, unopened }
}

/// One fetch while it waits and reads.
struct Fetch {
    targets: Vec<Target>,
    bytes_max: usize,
    /// The memory for answers is used up: not even one batch may be longer than that.
    is_short: bool,
    bytes_min: usize,
    wait_max: Duration,
    isolation: Isolation,
}

/// What one pass over all partitions gave.
#[derive(Default)]
struct Pass {
    data: Vec<PartitionData>,
    bytes: usize,
    /// An error, a diverging epoch or another place to read: the client must hear of it at once.
    is_urgent: bool,
    is_out_of_range: bool,
    /// For data that is in no cache.
    shares: Vec<MemoryShare>,
}

impl Pass {
    /// At its place, or in the place of what stood for it.
    fn put(&mut self, at: usize, data: PartitionData) {
        self.is_out_of_range |= data.error_code == ErrorCode::OffsetOutOfRange.code();
        self.bytes += data.records.as_ref().map_or(0, Records::len);
        self.is_urgent |= data.error_code != ErrorCode::None.code()
            || data.diverging_epoch.end_offset >= 0
            || data.preferred_read_replica != NO_REPLICA;
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
    async fn run(self, context: &RequestContext) -> (Vec<(Wanted, PartitionData)>, Vec<MemoryShare>) {
        let broker = &context.broker;
        let counters = broker.counters();
        for target in &self.targets {
            let topic = target.found.as_ref().ok().and_then(|source| source.counters.as_deref());
            counters.add(topic, |counters| &counters.fetch_requests, 1);
        }
        // It comes from the leader, who is ahead of what we have looked at.
        let is_ahead = |target: &Target| {
            let source = target.found.as_ref().ok().filter(|source| source.is_elsewhere);
            let end = source.map(|source| source.partition.offsets().high_watermark);
            end.is_some_and(|end| target.wanted.fetch_offset > end)
        };
        if self.targets.iter().any(is_ahead) {
            elsewhere::refresh(broker).await;
        }
        let mut pass = self.pass(context).await;
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
            match &target.found {
                Ok(source) if source.is_elsewhere => {
                    counters.replica_bytes_out.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok(source) => source.partition.count_read(bytes),
                Err(_) => {}
            }
            if is_failure(data.error_code) {
                counters.add(topic, |counters| &counters.failed_fetch_requests, 1);
            }
        }
        (self.targets.into_iter().map(|target| target.wanted).zip(pass.data).collect(), pass.shares)
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
                let pass = self.pass(context).await;
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
            let pass = self.pass(context).await;
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
        let mut pass = self.pass(context).await;
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
    async fn pass(&self, context: &RequestContext) -> Pass {
        let api_version = context.api_version;
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
                Ok(source) => match source.redirect(wanted).or_else(|| self.diverging(source, wanted)) {
                    Some(answered) => answered,
                    None => {
                        let max_bytes = wanted.max_bytes.max(0) as usize;
                        if cold.reads.len() >= COLD_READS_AT_ONCE
                            || pass.bytes + cold.bytes_max + max_bytes > self.bytes_max
                        {
                            self.finish(&mut cold, &mut pass, api_version).await;
                        }
                        let left = self.bytes_max.saturating_sub(pass.bytes + cold.bytes_max);
                        let mut request = ReadRequest {
                            offset: wanted.fetch_offset,
                            max_bytes: left.min(max_bytes),
                            min_one_batch: pass.bytes + cold.bytes_max == 0 && !self.is_short,
                            isolation: self.isolation,
                        };
                        match source.partition.read_tail(&request) {
                            Some(read) => answer(target, read, self.isolation, api_version),
                            None => {
                                if !self.is_short
                                    && let Some(share) =
                                        context.connection.take_answer_memory(request.max_bytes)
                                {
                                    // Never nothing: only the first partition may bring a batch that is longer than allowed.
                                    request.max_bytes =
                                        request.max_bytes.min((share.bytes() as usize).max(1));
                                    pass.shares.push(share);
                                }
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
            let target = &self.targets[at];
            let data = match read.await {
                Ok(read) => answer(target, read, self.isolation, api_version),
                // Only when the runtime shuts down, or by a panic of ours.
                Err(_) => refused(target.wanted.partition, ErrorCode::UnknownServerError),
            };
            pass.put(at, data);
        }
    }

    /// A fetcher that says which epoch it read last is told when its log goes another way than ours.
    fn diverging(&self, source: &Source, wanted: &Wanted) -> Option<PartitionData> {
        // Only what is committed is ever seen, so nobody has to go back, and a replica that is behind must not say so (F10).
        if wanted.last_fetched_epoch <= NO_EPOCH || source.is_elsewhere {
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
    target: &Target,
    read: Result<Read, ReadError>,
    isolation: Isolation,
    api_version: i16,
) -> PartitionData {
    let wanted = &target.wanted;
    let is_elsewhere = target.found.as_ref().is_ok_and(|source| source.is_elsewhere);
    let read = match read {
        Ok(read) => read,
        Err(ReadError::OutOfRange { offset, high_watermark, .. })
            if is_elsewhere && offset > high_watermark =>
        {
            return refused(wanted.partition, ErrorCode::OffsetNotAvailable);
        }
        // Whoever leads it says what is wrong.
        Err(error) if is_elsewhere && !matches!(error, ReadError::Deleted) => {
            tracing::debug!(?error, offset = wanted.fetch_offset, "a fetch is sent back to the leader");
            return refused(wanted.partition, ErrorCode::NotLeaderOrFollower);
        }
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
        // Kafka's two ways to refuse differ in this: what does not exist has an empty list, what cannot be read has none.
        aborted_transactions: matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            .then(Vec::new),
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
