//! What the HTTP page tells: health and metrics, composed of what the rooms count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use broker::{Broker, TopicCountersSnapshot};
use catalog::{Catalog, Topic};
use commitlog::bucket::BlockFiles;
use commitlog::tier::Tier;
use commitlog::{Backlog, CommitLog, LogCounters, LogState};
use parking_lot::RwLock;
use protocol::{Str, TopicIdPartition, Uuid};
use server::{InterBroker, MetricsText, Readiness, Report, Server};
use world::bucket::BucketCounters;
use world::clock::SharedClock;
use world::disk::DiskCounters;

use super::bucket_cost::{BucketCost, Requests};
use super::client_metrics::write_client_metrics;
use super::data::MediumCounters;
use super::memory_limit::MemoryLimit;

/// Partitions with series of their own; a page of 100,000 partitions would be 30 MB.
const PARTITION_SERIES: usize = 2000;

/// How far the start is. The page is there before the log is.
pub struct Progress {
    clock: SharedClock,
    rooms: RwLock<Option<Rooms>>,
    is_stopping: AtomicBool,
}

pub struct Rooms {
    pub broker: Arc<Broker>,
    pub server: Arc<Server>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub medium: MediumCounters,
    pub memory: MemoryLimit,
    /// The bucket of a second tier.
    pub tier: Option<Arc<BucketCounters>>,
    /// Of a bucket.
    pub others: Option<Arc<InterBroker>>,
}

impl Progress {
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, rooms: RwLock::new(None), is_stopping: AtomicBool::new(false) }
    }

    pub fn ready(&self, rooms: Rooms) {
        self.is_stopping.store(false, Ordering::Relaxed);
        *self.rooms.write() = Some(rooms);
    }

    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl Report for Progress {
    fn readiness(&self) -> Readiness {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Readiness::NotReady("stopping".to_owned());
        }
        let rooms = self.rooms.read();
        let Some(rooms) = rooms.as_ref() else {
            return Readiness::NotReady("recovering the log".to_owned());
        };
        match rooms.log.state() {
            LogState::Running => match rooms.others.as_deref().map(InterBroker::unreachable) {
                Some((others, silent)) if !silent.is_empty() => {
                    let nodes: Vec<String> = silent.iter().map(i32::to_string).collect();
                    let (nodes, silent) = (nodes.join(", "), silent.len());
                    Readiness::ReadyBut(format!(
                        "{silent} of {others} other brokers live in the bucket and do not answer this one: node {nodes}"
                    ))
                }
                _ => Readiness::Ready,
            },
            LogState::Full => {
                Readiness::NotReady("the disk is nearly full: reads go on, produce is refused".to_owned())
            }
            LogState::Failed(reason) => {
                Readiness::NotReady(format!("the log stopped acknowledging until a restart: {reason}"))
            }
        }
    }

    fn metrics(&self, text: &mut MetricsText) {
        let rooms = self.rooms.read();
        let broker_state = match (rooms.is_some(), self.is_stopping.load(Ordering::Relaxed)) {
            (_, true) => 6,
            (true, _) => 3,
            (false, _) => 2,
        };
        text.gauge(
            "kafka_server_kafkaserver_brokerstate",
            "2 recovering, 3 running, 6 stopping.",
            broker_state,
        );
        text.gauge("process_resident_memory_bytes", "Resident memory.", world::machine::resident_bytes());
        text.counter(
            "process_cpu_seconds_total",
            "Processor time, user and system.",
            world::machine::cpu_time().as_secs_f64(),
        );
        text.counter(
            "ottla_allocations_total",
            "Allocations of memory, by threads that are there to within 64 each.",
            world::alloc::allocations(),
        );
        let Some(rooms) = rooms.as_ref() else { return };
        rooms.memory.write(text);
        text.gauge(
            "ottla_coordinator_memory_bytes",
            "What groups, their members and offsets, transactions and share partitions weigh, about; at most coordinators.memory.max.bytes.",
            rooms.broker.coordinator_memory_bytes(),
        );
        server::write_server_metrics(text, &rooms.server, self.clock.monotonic());
        write_topic_metrics(text, &rooms.broker);
        write_client_metrics(text, rooms.broker.telemetry());
        write_cluster_metrics(text, &rooms.catalog);
        if let Some(others) = &rooms.others {
            server::write_inter_broker_metrics(text, others);
        }
        write_log_metrics(text, &rooms.log);
        rooms.log.tier().iter().for_each(|tier| write_tier_metrics(text, tier));
        match &rooms.medium {
            MediumCounters::Disk(disk) => {
                write_disk_metrics(text, disk);
                rooms.tier.iter().for_each(|bucket| write_bucket_metrics(text, bucket));
            }
            MediumCounters::Bucket(bucket, cost) => {
                write_bucket_metrics(text, bucket);
                write_bucket_cost(text, bucket, cost, rooms.log.counters(), self.clock.monotonic());
            }
        }
        write_partition_metrics(text, &rooms.catalog, &rooms.log);
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn write_log_metrics(text: &mut MetricsText, log: &CommitLog) {
    let counters = log.counters();
    let (commits, seconds) = (load(&counters.commits), load(&counters.commit_nanos) as f64 / 1e9);
    let state = match log.state() {
        LogState::Running => 0,
        LogState::Full => 1,
        LogState::Failed(_) => 2,
    };
    text.gauge(
        "ottla_log_state",
        "0 running, 1 full: produce is refused, 2 failed: no acknowledgement until a restart.",
        state,
    );
    text.family(
        "ottla_commit_seconds",
        "summary",
        "From the start of a commit's write to the end of its sync.",
    );
    text.sample("ottla_commit_seconds_sum", &[], seconds);
    text.sample("ottla_commit_seconds_count", &[], commits);
    text.counter("kafka_log_logflushstats_logflushrateandtimems_count", "Flushes of the log.", commits);
    text.counter("ottla_commit_batches_total", "Record batches committed.", load(&counters.batches));
    text.counter(
        "ottla_commit_bytes_total",
        "Bytes of chunks written; divided by commits, the size of a chunk.",
        load(&counters.bytes),
    );
    let (open, open_max) = log.view_count();
    text.gauge("ottla_replicas_open", "Partitions that others lead, open for consumers here.", open as u64);
    text.gauge("ottla_replicas_open_max", "Their bound.", open_max as u64);
    text.counter(
        "ottla_replica_slots_total",
        "Commits of other brokers whose index was read for them.",
        load(&counters.view_slots),
    );
    text.counter("ottla_checkpoints_total", "Checkpoints written.", load(&counters.checkpoints));
    text.gauge("ottla_wal_files", "Files of the write-ahead log.", load(&counters.wal_files));
    text.gauge("ottla_wal_bytes", "Bytes of these files.", load(&counters.wal_bytes));
    text.gauge("ottla_segments", "Segments in use.", load(&counters.segments));
    text.gauge("ottla_segment_bytes", "Bytes of these segments.", load(&counters.segment_bytes));
    text.gauge(
        "ottla_segment_live_bytes",
        "Of them, bytes of batches that can still be read.",
        load(&counters.segment_live_bytes),
    );
    text.gauge(
        "ottla_segments_damaged",
        "Segments that the last start found missing or cut off.",
        load(&counters.segments_damaged),
    );
    text.counter("ottla_rewrites_total", "Rewrites into segments.", load(&counters.rewrites));
    text.counter(
        "ottla_rewritten_bytes_total",
        "Bytes of batches written into segments.",
        load(&counters.bytes_rewritten),
    );
    text.counter(
        "ottla_merges_total",
        "Bucket: of these rewrites, those that made one segment of several.",
        load(&counters.merges),
    );
    text.gauge(
        "ottla_rewriter_damaged",
        "Bucket: objects or logs that are left as they are because something of them is damaged or missing. Not 0: see the log.",
        load(&counters.rewriter_damaged),
    );
    text.gauge(
        "ottla_bucket_replaced_objects",
        "Bucket: objects that nothing leads to any more and that stay for bucket.replaced.keep.ms.",
        load(&counters.replaced_objects),
    );
    let compaction = &counters.compaction;
    let seconds = load(&compaction.nanos) as f64 / 1e9;
    text.family("ottla_compaction_seconds", "summary", "How long rounds of compaction took.");
    text.sample("ottla_compaction_seconds_sum", &[], seconds);
    text.sample("ottla_compaction_seconds_count", &[], load(&compaction.rounds));
    text.gauge(
        "ottla_compaction_last_round_timestamp_seconds",
        "When the last round of compaction ended; 0 before the first.",
        load(&compaction.last_round_ms) as f64 / 1e3,
    );
    text.gauge(
        "ottla_compaction_keys_max_bytes",
        "Bound of the memory for keys: log.cleaner.dedupe.buffer.size.",
        log.compaction_limits().keys_bytes_max,
    );
    text.gauge(
        "kafka_log_logcleanermanager_uncleanable_partitions_count",
        "Compacted partitions that are left alone until the next start. Not 0: see the log.",
        load(&compaction.uncleanable_partitions),
    );
    text.gauge(
        "kafka_log_logcleanermanager_uncleanable_bytes",
        "Bytes of these partitions when they were given up.",
        load(&compaction.uncleanable_bytes),
    );
    let more: [(&str, &str, &str, &AtomicU64); 8] = [
        (
            "ottla_compaction_read_bytes_total",
            "counter",
            "Bytes of batches that compaction judged.",
            &compaction.bytes_read,
        ),
        (
            "ottla_compaction_kept_bytes_total",
            "counter",
            "Of them, what stayed and was written again.",
            &compaction.bytes_kept,
        ),
        (
            "ottla_compaction_removed_records_total",
            "counter",
            "Records that compaction removed.",
            &compaction.records_removed,
        ),
        (
            "ottla_compaction_keys_bytes",
            "gauge",
            "Memory for the keys of the round under way.",
            &compaction.keys_bytes,
        ),
        (
            "ottla_wal_files_recycled_total",
            "counter",
            "Files of the log that were used again.",
            &counters.wal_files_recycled,
        ),
        ("ottla_checkpoint_bytes_total", "counter", "Bytes of checkpoints.", &counters.checkpoint_bytes),
        ("ottla_producers", "gauge", "Live producer ids.", &counters.producers),
        (
            "ottla_recovered_chunks",
            "gauge",
            "Chunks that the last start replayed.",
            &counters.recovered_chunks,
        ),
    ];
    for (name, kind, help, counter) in more {
        text.family(name, kind, help);
        text.sample(name, &[], load(counter));
    }
    let recovery = load(&counters.recovery_nanos) as f64 / 1e9;
    text.gauge("ottla_recovery_seconds", "How long the log took to be ready at the last start.", recovery);
    let (tail, tail_limit) = log.tail_bytes();
    text.gauge("ottla_tail_cache_bytes", "Recent chunks kept in memory for readers at the tail.", tail);
    text.gauge("ottla_tail_cache_limit_bytes", "The most of it (log.cache.bytes).", tail_limit);
    if let Some(backlog) = log.backlog() {
        write_backlog(text, &backlog, counters);
    }
    if let Some((cached, limit)) = log.bucket_cache_bytes() {
        text.gauge(
            "ottla_bucket_cache_bytes",
            "Pieces of objects kept in memory for readers of old data.",
            cached,
        );
        text.gauge("ottla_bucket_cache_limit_bytes", "The most of it.", limit);
    }
    if let Some(files) = log.block_files() {
        write_block_files_metrics(text, files);
    }
    let (unflushed, unflushed_limit) = log.unflushed_bytes();
    text.gauge("ottla_unflushed_bytes", "Batches that wait for their commit.", unflushed);
    text.gauge(
        "ottla_unflushed_limit_bytes",
        "Above this, produce requests wait (log.unflushed.max.bytes).",
        unflushed_limit,
    );
}

/// What `bucket.cache.dir` has and was good for.
fn write_block_files_metrics(text: &mut MetricsText, files: &BlockFiles) {
    let (bytes, limit) = files.bytes();
    text.gauge("ottla_bucket_cache_files_bytes", "Pieces of segments in bucket.cache.dir.", bytes);
    text.gauge("ottla_bucket_cache_files_limit_bytes", "The most of it (bucket.cache.bytes).", limit);
    let counters = &files.counters;
    let rows: [(&str, &str, &AtomicU64); 6] = [
        ("hits", "Pieces of segments that were found in bucket.cache.dir.", &counters.hits),
        ("misses", "Pieces of segments that were looked for there and not found.", &counters.misses),
        ("writes", "Pieces of segments written there.", &counters.writes),
        ("evictions", "Of these, those that made room for others.", &counters.evictions),
        ("damaged", "Files there that were not as they were written, and were removed.", &counters.damaged),
        ("errors", "Operations there that failed; the bucket was asked instead.", &counters.errors),
    ];
    for (name, help, counter) in rows {
        text.counter(&format!("ottla_bucket_cache_files_{name}_total"), help, load(counter));
    }
}

/// Names of Kafka where it has them (`RemoteCopyLagBytes` … of KIP-405 and KIP-963).
fn write_tier_metrics(text: &mut MetricsText, tier: &Tier) {
    let counters = &tier.counters;
    let rows: [(&str, &str, &str, &AtomicU64); 15] = [
        (
            "kafka_server_brokertopicmetrics_remotecopybytes_total",
            "counter",
            "Bytes copied to the second tier.",
            &counters.bytes_copied,
        ),
        (
            "kafka_server_brokertopicmetrics_remotefetchbytes_total",
            "counter",
            "Bytes read from there.",
            &counters.bytes_read,
        ),
        (
            "kafka_server_brokertopicmetrics_remotefetchrequests_total",
            "counter",
            "Reads from there.",
            &counters.reads,
        ),
        (
            "kafka_server_brokertopicmetrics_remotefetcherrors_total",
            "counter",
            "Reads that failed.",
            &counters.read_errors,
        ),
        (
            "kafka_server_brokertopicmetrics_remotecopylagbytes",
            "gauge",
            "Bytes that are sealed and not copied yet.",
            &counters.lag_bytes,
        ),
        (
            "kafka_server_brokertopicmetrics_remotecopylagsegments",
            "gauge",
            "Files and segments that have something to be copied.",
            &counters.lag_segments,
        ),
        ("ottla_tier_lag_milliseconds", "gauge", "For how long the oldest of it waits.", &counters.lag_ms),
        (
            "ottla_tier_errors_total",
            "counter",
            "Rounds of copying that ended early; see the log.",
            &counters.errors,
        ),
        ("ottla_tier_copies_total", "counter", "Objects copied to the second tier.", &counters.copies),
        ("ottla_tier_objects", "gauge", "Objects in use there.", &counters.objects),
        (
            "kafka_server_brokertopicmetrics_remotelogsizebytes",
            "gauge",
            "Bytes of these objects.",
            &counters.object_bytes,
        ),
        (
            "ottla_tier_live_bytes",
            "gauge",
            "Of them, bytes of batches that can still be read.",
            &counters.live_bytes,
        ),
        (
            "ottla_tier_local_bytes_dropped_total",
            "counter",
            "Bytes of local copies that were let go.",
            &counters.local_bytes_dropped,
        ),
        ("ottla_tier_deletes_total", "counter", "Objects removed.", &counters.deletes),
        ("ottla_tier_deletes_waiting", "gauge", "Objects that are to be removed.", &counters.waiting_deletes),
    ];
    for (name, kind, help, counter) in rows {
        text.family(name, kind, help);
        text.sample(name, &[], load(counter));
    }
}

/// Requests as stores charge for them, tries included.
fn write_bucket_metrics(text: &mut MetricsText, bucket: &BucketCounters) {
    text.family("ottla_bucket_requests_total", "counter", "Requests to the bucket.");
    for (operation, counter) in
        [("put", &bucket.puts), ("get", &bucket.gets), ("list", &bucket.lists), ("delete", &bucket.deletes)]
    {
        text.sample("ottla_bucket_requests_total", &[("operation", operation)], load(counter));
    }
    text.counter("ottla_bucket_errors_total", "Requests that did not succeed.", load(&bucket.errors));
    text.counter("ottla_bucket_put_bytes_total", "Bytes sent to the bucket.", load(&bucket.bytes_put));
    text.counter("ottla_bucket_get_bytes_total", "Bytes read from the bucket.", load(&bucket.bytes_got));
}

/// What is not rewritten yet, and what it costs to open partitions behind it.
fn write_backlog(text: &mut MetricsText, backlog: &Backlog, counters: &LogCounters) {
    text.gauge(
        "ottla_backlog_slots",
        "Bucket: commits of this broker that are not rewritten into segments yet.",
        backlog.slots,
    );
    text.gauge("ottla_backlog_bytes", "Bytes of these commits.", backlog.bytes);
    text.gauge(
        "ottla_backlog_slots_max",
        "Bound behind which commits wait: bucket.backlog.slots.max.",
        backlog.slots_max,
    );
    text.gauge(
        "ottla_backlog_duties",
        "Commits of brokers that are gone, which this one is to rewrite.",
        backlog.duties,
    );
    text.gauge(
        "ottla_backlog_for_others",
        "Commits of the whole cluster that an opening of partitions has to know of.",
        backlog.for_others,
    );
    text.counter(
        "ottla_commits_held_back_total",
        "Commits that waited for the rewriter.",
        load(&counters.commits_held_back),
    );
    let seconds = |nanos: &AtomicU64| load(nanos) as f64 / 1e9;
    text.family(
        "ottla_opening_seconds",
        "summary",
        "How long it took to open partitions that another broker led.",
    );
    text.sample("ottla_opening_seconds_sum", &[], seconds(&counters.opening_nanos));
    text.sample("ottla_opening_seconds_count", &[], load(&counters.openings));
    text.gauge(
        "ottla_opening_last_seconds",
        "How long the last one took.",
        seconds(&counters.last_opening_nanos),
    );
}

/// Of this broker's requests, and of the whole bucket's bytes.
fn write_bucket_cost(
    text: &mut MetricsText,
    bucket: &BucketCounters,
    cost: &BucketCost,
    log: &LogCounters,
    now: Duration,
) {
    text.gauge(
        "ottla_bucket_objects",
        "Objects of logs, segments and the manifest in the whole bucket, when it was listed last (once an hour).",
        load(&log.bucket_objects),
    );
    text.gauge("ottla_bucket_bytes", "Bytes of these objects.", load(&log.bucket_bytes));
    let requests = Requests {
        puts: load(&bucket.puts),
        gets: load(&bucket.gets),
        lists: load(&bucket.lists),
        deletes: load(&bucket.deletes),
    };
    text.family(
        "ottla_bucket_cost_month",
        "gauge",
        "Estimate, by bucket.price.*: this broker's requests if it goes on as in the last hour, and the storage of all of the bucket.",
    );
    for (part, amount) in cost.month(now, requests, load(&log.bucket_bytes)) {
        text.sample("ottla_bucket_cost_month", &[("part", part)], format_args!("{amount:.4}"));
    }
}

fn write_disk_metrics(text: &mut MetricsText, disk: &DiskCounters) {
    text.counter("ottla_disk_writes_total", "Write calls handed to the disk.", load(&disk.writes));
    text.counter(
        "ottla_disk_written_bytes_total",
        "Bytes written, without zeros ahead of use.",
        load(&disk.bytes_written),
    );
    text.counter(
        "ottla_disk_zero_filled_bytes_total",
        "Zeros written ahead of use.",
        load(&disk.bytes_zero_filled),
    );
    text.counter("ottla_disk_syncs_total", "Syncs of file contents.", load(&disk.syncs));
    text.counter("ottla_disk_sync_seconds_total", "Time spent in them.", load(&disk.sync_nanos) as f64 / 1e9);
    text.counter("ottla_disk_directory_syncs_total", "Syncs of directories.", load(&disk.dir_syncs));
    text.counter(
        "ottla_disk_reads_total",
        "Reads handed over; many small ones together are one.",
        load(&disk.reads),
    );
    text.counter("ottla_disk_read_bytes_total", "Bytes read.", load(&disk.bytes_read));
}

/// Kafka's `BrokerTopicMetrics`: of all topics without a label, and of each topic.
fn write_topic_metrics(text: &mut MetricsText, broker: &Broker) {
    let counters = broker.counters();
    let all = counters.all_topics.snapshot();
    let topics = counters.topics();
    type Field = fn(&TopicCountersSnapshot) -> u64;
    let families: [(&str, &str, Field); 7] = [
        ("messagesin", "Records stored.", |c| c.messages_in),
        ("bytesin", "Bytes of record batches that producers sent.", |c| c.bytes_in),
        ("bytesout", "Bytes of record batches that consumers got.", |c| c.bytes_out),
        ("totalproducerequests", "Produce requests, per partition they touched.", |c| c.produce_requests),
        ("totalfetchrequests", "Fetch requests, per partition they touched.", |c| c.fetch_requests),
        ("failedproducerequests", "Produce requests that a partition refused.", |c| {
            c.failed_produce_requests
        }),
        ("failedfetchrequests", "Fetch requests that a partition refused.", |c| c.failed_fetch_requests),
    ];
    for (name, help, field) in families {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        text.family(&name, "counter", help);
        text.sample(&name, &[], field(&all));
        for (topic, counters) in &topics {
            text.sample(&name, &[("topic", topic)], field(counters));
        }
    }
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    text.gauge(
        "ottla_topic_counters_limit",
        "Topics that may have counters of their own.",
        counters.topics_limit(),
    );
    text.counter(
        "ottla_batches_rewritten_total",
        "Batches not stored byte for byte as they came.",
        load(&counters.batches_rewritten),
    );
    text.counter(
        "ottla_fetches_delayed_total",
        "Fetches that waited for data.",
        load(&counters.fetches_delayed),
    );
    text.counter(
        "ottla_fetches_expired_total",
        "Fetches whose wait ended without enough data.",
        load(&counters.fetches_expired),
    );
    text.counter(
        "ottla_authorizations_refused_total",
        "What clients asked for and may not do; the lines of audit say who and what.",
        load(&counters.authorizations_refused),
    );
    text.counter(
        "ottla_quota_waits_total",
        "How often a client that has used more than its quota was made to wait.",
        load(&counters.quota_waits),
    );
    text.counter(
        "ottla_replica_bytes_out_total",
        "Bytes that consumers read here of partitions that other brokers lead.",
        load(&counters.replica_bytes_out),
    );
    text.counter(
        "ottla_takeovers_total",
        "WALs of other brokers that this one has ended because they seemed to be gone.",
        load(&counters.takeovers),
    );
    text.family(
        "ottla_leaders_moved_total",
        "counter",
        "Partitions that this broker gave to others besides those that made their numbers equal, by the reason.",
    );
    for (reason, count) in
        [("load", &counters.leaders_moved_for_load), ("zone", &counters.leaders_moved_for_zones)]
    {
        text.sample("ottla_leaders_moved_total", &[("reason", reason)], load(count));
    }
    if let Some(traffic) = broker.leader_bytes_per_second() {
        text.gauge(
            "ottla_leader_bytes_per_second",
            "Traffic of the partitions that this broker leads, appended and read here, averaged over about a minute.",
            traffic,
        );
    }
    text.gauge(
        "ottla_partitions_not_open",
        "Partitions that this broker leads and cannot open now: the bucket does not answer, or something of them is damaged.",
        load(&counters.partitions_not_open),
    );
    let authn = broker.authn_counters();
    text.family(
        "ottla_authentications_total",
        "counter",
        "Proofs with SASL of who a client is, by what became of them.",
    );
    for (outcome, count) in [
        ("success", &authn.succeeded),
        ("failure", &authn.failed),
        ("again", &authn.reauthenticated),
        ("expired", &authn.expired),
    ] {
        text.sample("ottla_authentications_total", &[("outcome", outcome)], load(count));
    }
    let sessions = broker.fetch_session_counts();
    text.gauge(
        "kafka_server_fetchsessioncache_numincrementalfetchsessions",
        "Fetch sessions.",
        sessions.sessions,
    );
    text.gauge(
        "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
        "Partitions in them.",
        sessions.partitions,
    );
    let groups = broker.group_counts();
    text.gauge("kafka_coordinator_group_groupmetadatamanager_numgroups", "Groups.", groups.groups);
    text.gauge(
        "kafka_coordinator_group_groupmetadatamanager_numoffsets",
        "Committed offsets.",
        groups.offsets,
    );
    text.gauge("ottla_group_members", "Members of all groups.", groups.members);
    text.gauge(
        "ottla_group_partitions_loading",
        "Partitions of __consumer_offsets that are still read after the start.",
        groups.partitions_loading,
    );
    let transactions = broker.transaction_counts();
    text.gauge("ottla_transactional_ids", "Transactional ids.", transactions.transactional_ids);
    text.gauge("ottla_transactions_ongoing", "Transactions that are under way.", transactions.ongoing);
    text.gauge(
        "ottla_transactions_undelivered",
        "Transactions that are decided, and that not all of their partitions know of: brokers may not reach one another.",
        transactions.undelivered,
    );
    text.gauge(
        "ottla_transaction_partitions_loading",
        "Partitions of __transaction_state that are still read after the start.",
        transactions.partitions_loading,
    );
    let shares = broker.share_counts();
    text.gauge("ottla_share_sessions", "Share sessions.", shares.sessions.sessions);
    text.gauge("ottla_share_session_partitions", "Partitions in them.", shares.sessions.partitions);
    text.gauge("ottla_share_partitions", "Share partitions in memory, led here.", shares.share_partitions);
    text.gauge("ottla_share_runs", "Runs of records with one fate in all of them.", shares.runs);
    text.gauge(
        "ottla_share_records_archiving",
        "Records that share groups gave up and that wait for their dead letters.",
        shares.records_archiving,
    );
    let letters = shares.dead_letters;
    text.counter(
        "kafka_server_sharegroupmetrics_deadletterqueuerecordcount_total",
        "Dead letters of share groups that were written.",
        letters.written,
    );
    text.counter(
        "kafka_server_sharegroupmetrics_deadletterqueuetotalproducerequests_total",
        "Tries to write dead letters.",
        letters.writes,
    );
    text.counter(
        "kafka_server_sharegroupmetrics_deadletterqueuefailedproducerequests_total",
        "Tries to write dead letters that failed.",
        letters.failed_writes,
    );
    text.counter(
        "ottla_share_dead_letters_given_up_total",
        "Records that share groups gave up and that have no dead letter: nothing could be written to its topic.",
        letters.given_up,
    );
    let share_states = broker.share_state_counts();
    text.gauge(
        "ottla_share_states",
        "Share partitions whose state is kept here.",
        share_states.share_partitions,
    );
    text.gauge(
        "ottla_share_state_partitions_loading",
        "Partitions of __share_group_state that are still read after the start.",
        share_states.partitions_loading,
    );
    text.gauge(
        "ottla_fetch_sessions_limit",
        "Fetch sessions that may be kept.",
        broker.limits().fetch_sessions_max,
    );
}

fn write_cluster_metrics(text: &mut MetricsText, catalog: &Catalog) {
    let (topics, partitions, position) = {
        let state = catalog.read();
        (state.topic_count(), state.partition_count(), state.position())
    };
    let (live, controller) = {
        let state = catalog.read();
        (state.live_brokers().count(), state.controller())
    };
    let offline = {
        let state = catalog.read();
        let all = state.topics().flat_map(|topic| &topic.partitions);
        all.filter(|info| !state.is_live(info.leader)).count()
    };
    let led = match catalog.is_shared() {
        true => catalog.read().led_by(catalog.wal_id()).len() as u64,
        false => partitions,
    };
    text.gauge(
        "kafka_controller_kafkacontroller_activecontrollercount",
        "1 at the broker that takes over from others; a broker on a directory is its own.",
        u64::from(controller == Some(catalog.node_id())),
    );
    text.gauge("kafka_controller_kafkacontroller_activebrokercount", "Brokers that are not fenced.", live);
    text.gauge("kafka_controller_kafkacontroller_globaltopiccount", "Topics.", topics);
    text.gauge("kafka_controller_kafkacontroller_globalpartitioncount", "Partitions.", partitions);
    text.gauge(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "Partitions whose leader is fenced, until another takes over.",
        offline,
    );
    text.gauge("kafka_server_replicamanager_partitioncount", "Partitions on this broker.", led);
    text.gauge("kafka_server_replicamanager_leadercount", "Partitions this broker leads.", led);
    text.gauge(
        "kafka_server_replicamanager_underreplicatedpartitions",
        "A partition has one replica here.",
        0,
    );
    text.gauge(
        "kafka_server_replicamanager_underminisrpartitioncount",
        "Partitions below min.insync.replicas.",
        0,
    );
    let (acls, quota_entities) = {
        let state = catalog.read();
        (state.acls().len(), state.quotas().len())
    };
    text.gauge("ottla_acls", "ACLs of the cluster, at most cluster.acls.max.", acls);
    text.gauge(
        "ottla_quota_entities",
        "Users, clients and addresses with quotas of their own.",
        quota_entities,
    );
    text.gauge("ottla_metadata_position", "Records of the metadata log applied so far.", position);
    let counters = catalog.counters();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    text.counter(
        "ottla_metadata_appends_total",
        "Changes of metadata that were asked for.",
        load(&counters.appends),
    );
    text.counter(
        "ottla_metadata_appends_rejected_total",
        "Those that a precondition rejected.",
        load(&counters.appends_rejected),
    );
    text.counter(
        "ottla_metadata_appends_failed_total",
        "Those that could not be written.",
        load(&counters.appends_failed),
    );
    text.counter(
        "ottla_metadata_frames_total",
        "Objects, or frames of the file, that this broker has added to the metadata log.",
        load(&counters.frames),
    );
    text.counter(
        "ottla_metadata_appends_handed_off_total",
        "Changes that the controller was asked to append.",
        load(&counters.handed_off),
    );
    text.counter(
        "ottla_metadata_appends_handed_off_unknown_total",
        "Those of which it said nothing in time, so that this broker appended them itself.",
        load(&counters.handed_off_unknown),
    );
    text.counter(
        "ottla_metadata_appends_for_others_total",
        "Changes that other brokers have handed off to this one.",
        load(&counters.appends_for_others),
    );
    text.counter(
        "ottla_metadata_log_bytes_total",
        "Bytes written to the metadata log.",
        load(&counters.frame_bytes),
    );
}

/// Sizes and offsets of partitions; of the first ones by topic name when there are very many.
fn write_partition_metrics(text: &mut MetricsText, catalog: &Catalog, log: &CommitLog) {
    let chosen: Vec<(Str, Uuid, i32)> = {
        let state = catalog.read();
        let of_topic = |topic: &Arc<Topic>| {
            let (name, id) = (topic.name.clone(), topic.id);
            (0..topic.partitions.len() as i32).map(move |partition| (name.clone(), id, partition))
        };
        state.topics().flat_map(of_topic).take(PARTITION_SERIES).collect()
    };
    let found: Vec<(Str, String, i64, i64, u64)> = chosen
        .into_iter()
        .filter_map(|(topic, topic_id, partition)| {
            let opened = log.partition(&TopicIdPartition { topic_id, partition })?;
            let offsets = opened.offsets();
            Some((topic, partition.to_string(), offsets.log_start, offsets.log_end, opened.size_bytes()))
        })
        .collect();
    text.gauge("ottla_partition_series_limit", "Partitions that have series of their own.", PARTITION_SERIES);
    text.family("kafka_log_log_size", "gauge", "Bytes of a partition.");
    for (topic, partition, _, _, size) in &found {
        text.sample("kafka_log_log_size", &[("topic", topic), ("partition", partition)], size);
    }
    text.family("kafka_log_log_logstartoffset", "gauge", "First offset that is there.");
    for (topic, partition, start, _, _) in &found {
        text.sample("kafka_log_log_logstartoffset", &[("topic", topic), ("partition", partition)], start);
    }
    text.family("kafka_log_log_logendoffset", "gauge", "Offset of the next record.");
    for (topic, partition, _, end, _) in &found {
        text.sample("kafka_log_log_logendoffset", &[("topic", topic), ("partition", partition)], end);
    }
}
