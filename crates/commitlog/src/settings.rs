//! The bounds and choices of the log. Names of config keys: `catalog::config`.

use std::time::Duration;

use catalog::config::TopicConfig;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// An acknowledged write is on the medium. The default.
    Commit,
    /// Acknowledge first, sync at most this much later (`log.sync=interval`). A power cut loses what was not synced.
    Interval(Duration),
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    pub sync: SyncMode,
    /// The first WAL file; each next one is twice as long, up to `wal_file_bytes_max`.
    pub wal_file_bytes_min: u64,
    pub wal_file_bytes_max: u64,
    /// Chunks of this size on the average do not feel what a commit into never-written blocks costs: then new files are
    /// allocated, and not filled with zeros.
    pub allocate_from_bytes: u64,
    /// In a bucket: how long a commit waits for company at least, unless it is as long as it may be …
    pub linger: Duration,
    /// … and at most, when the budget is spent …
    pub linger_max: Duration,
    /// Markers, and what coordinators write of transactions, go so long after the commit before, if the budget has one left …
    pub urgent_flush: Duration,
    /// … of so many PUTs a second on the average, for commits that are not full.
    pub puts_per_second: u32,
    /// A chunk takes batches until it is this long; one batch may be longer.
    pub chunk_bytes_max: usize,
    /// Batches waiting for their commit; above it `room()` holds the sockets back.
    pub unflushed_bytes_max: usize,
    /// Recent chunks kept for readers at the tail.
    pub tail_bytes_max: usize,
    /// Extents read from files, kept for the next read.
    pub cold_bytes_max: usize,
    /// Free space that only housekeeping may use: below it produce is refused.
    pub reserve_bytes: u64,
    /// No chunk begins farther than this behind a durable checkpoint: so far a start looks for chunks behind a damaged one.
    pub checkpoint_bytes: u64,
    pub producer_expiration: Duration,
    /// Per partition; the ones silent longest go first.
    pub producers_max: usize,
    /// Aborted transactions remembered per partition: with so many, none begins before retention has removed some.
    pub aborted_transactions_max: usize,
    /// Sealed WAL files beyond this are rewritten into segments, the oldest first. What expires before never is.
    pub wal_retain_bytes: u64,
    /// The same for files whose extents are long on the average: they are as good as segments, and cost an open file each.
    pub wal_retain_large_bytes: u64,
    /// Runs of batches in sealed WAL files, each of which takes memory: more are a reason to rewrite, too.
    pub wal_extents_max: u64,
    /// What one rewrite takes on at most (at least one file).
    pub rewrite_job_bytes: u64,
    /// In a bucket: blocks of objects kept in memory, so that an object is fetched once for all who read it.
    pub bucket_cache_bytes: usize,
    /// … and for who reads a segment in a row so much is fetched ahead, with one request; 0: nothing.
    pub bucket_read_ahead_bytes: usize,
    /// In a bucket: partitions that others lead and that are open for readers here, and …
    pub bucket_views_max: usize,
    /// … how long one stays open that nobody reads.
    pub bucket_view_idle: Duration,
    /// How often it is looked what their leaders have written.
    pub bucket_view_interval: Duration,
    /// In a bucket: one slot of so many says what the ones before it say, for who opens partitions. The same for all who share a bucket, or
    /// openings are slow; 0 or 1: none does.
    pub bucket_digest_slots: u64,
    /// In a bucket: with more slots of the broker's own WAL that are not rewritten, commits wait for one another, more and more.
    pub bucket_backlog_slots_max: u64,
    /// In a bucket: so many slots of the broker's own WAL are rewritten into segments, however little is in them.
    pub bucket_rewrite_slots: u64,
    /// … and whatever is older than this.
    pub bucket_rewrite_age: Duration,
    /// In a bucket: small segments become ones of about this size. One is in memory while it is made.
    pub bucket_segment_bytes: u64,
    /// … so many of about the same size at a time (or as many as fill one), and so many runs of a partition become one.
    pub bucket_merge_segments: u64,
    /// … and how often it is looked whether there are any.
    pub bucket_merge_interval: Duration,
    /// In a bucket: objects in whose place others are stay so long, for readers who learnt of them a moment ago.
    pub bucket_replaced_keep: Duration,
    /// In a bucket: a shard of the manifest that is so short is written whole by each change …
    pub bucket_shard_whole_bytes: u64,
    /// … a longer one when the changes since have this part of it.
    pub bucket_shard_changes_percent: u64,
    /// A rewrite goes on at this pace; 0 is without bound.
    pub rewrite_bytes_per_second: u64,
    /// How often the rewriter looks.
    pub rewrite_interval: Duration,
    /// A partition with at least so much to rewrite gets a segment of its own. In a bucket: a run of a partition that is as long is not
    /// merged any more.
    pub segment_own_bytes: u64,
    /// No segment's payload is longer (but for a single batch that is).
    pub segment_bytes_max: u64,
    /// How often retention and expiry look.
    pub housekeeping_interval: Duration,
    /// Compaction, as it is at the start: see [`CompactionLimits`].
    pub compaction: CompactionLimits,
    /// With a second tier: how long a start waits for it to show that it keeps its promises; if it is silent, it is asked again before
    /// anything is written there. Zero: it is asked only then.
    pub tier_probe_wait: Duration,
    /// How often what is sealed is copied there, and local copies are let go.
    pub tier_interval: Duration,
    /// No object of the tier is longer (but for a single batch that is). It is in memory twice while it is made.
    pub tier_object_bytes: u64,
    /// What is copied before the manifest says so, in several objects.
    pub tier_job_bytes: u64,
    /// Copying goes on at this pace; 0 is without bound.
    pub tier_bytes_per_second: u64,
    /// So much may be dead in WAL files that are mostly dead before the rest of them is rewritten.
    pub tier_dead_bytes_max: u64,
    /// How long a reader waits for the tier.
    pub tier_read_wait: Duration,
    /// A batch that decompresses to more is not looked into when a record is looked for by its time.
    pub decompressed_bytes_max: usize,
    /// Reads of the tier under way at once; those beyond wait.
    pub tier_reads_max: usize,
    /// Blocks of its objects kept in memory.
    pub tier_cache_bytes: usize,
    /// Tests only: break a rule on purpose.
    #[cfg(feature = "negative-controls")]
    pub negative_control: Option<NegativeControl>,
}

/// What of compaction may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionLimits {
    /// Off: nothing is compacted, whatever topics say.
    pub enabled: bool,
    /// Memory for the keys of one round: 24 bytes each …
    pub keys_bytes_max: u64,
    /// … in a table that gets so full. What does not fit is left to the next round.
    pub load_factor: f64,
    /// Read at a time, one run of batches at least. It is in memory compressed, decompressed, and as it will be.
    pub read_bytes: u64,
    /// Read and written at this pace; 0 is without bound.
    pub bytes_per_second: u64,
    /// How long it is not looked again when there was nothing to do.
    pub backoff: Duration,
}

impl CompactionLimits {
    /// How long reading so much may take.
    pub fn time_for(&self, bytes: u64) -> Duration {
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_second);
        Duration::from_micros(micros.unwrap_or(0))
    }
}

impl Default for CompactionLimits {
    fn default() -> Self {
        CompactionLimits {
            enabled: true,
            keys_bytes_max: 128 << 20,
            load_factor: 0.9,
            read_bytes: 512 << 10,
            bytes_per_second: 0,
            backoff: Duration::from_secs(15),
        }
    }
}

#[cfg(feature = "negative-controls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegativeControl {
    AcknowledgeBeforeSync,
    SkipDirectorySync,
    /// Bucket: that an object exists is taken for one's own success (R3).
    ExistsIsStored,
    /// Bucket: a slot counts before the ones below it (R4).
    AcknowledgeOutOfOrder,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            sync: SyncMode::Commit,
            wal_file_bytes_min: 16 << 20,
            wal_file_bytes_max: 256 << 20,
            allocate_from_bytes: 512 << 10,
            linger: Duration::from_millis(50),
            linger_max: Duration::from_secs(1),
            urgent_flush: Duration::from_millis(25),
            puts_per_second: 4,
            chunk_bytes_max: 4 << 20,
            unflushed_bytes_max: 64 << 20,
            tail_bytes_max: 64 << 20,
            cold_bytes_max: 16 << 20,
            reserve_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            producer_expiration: Duration::from_secs(24 * 3600),
            producers_max: 100_000,
            aborted_transactions_max: 100_000,
            wal_retain_bytes: 1 << 30,
            wal_retain_large_bytes: 64 << 30,
            wal_extents_max: 200_000,
            rewrite_job_bytes: 256 << 20,
            bucket_cache_bytes: 64 << 20,
            bucket_views_max: 10_000,
            bucket_view_idle: Duration::from_secs(60),
            bucket_view_interval: Duration::from_millis(500),
            bucket_read_ahead_bytes: 8 << 20,
            bucket_digest_slots: 32,
            bucket_backlog_slots_max: 4096,
            bucket_rewrite_slots: 256,
            bucket_rewrite_age: Duration::from_secs(600),
            bucket_segment_bytes: 256 << 20,
            bucket_merge_segments: 8,
            bucket_merge_interval: Duration::from_secs(30),
            bucket_replaced_keep: Duration::from_secs(600),
            bucket_shard_whole_bytes: 256 << 10,
            bucket_shard_changes_percent: 25,
            rewrite_bytes_per_second: 64 << 20,
            rewrite_interval: Duration::from_secs(5),
            segment_own_bytes: 32 << 20,
            segment_bytes_max: 128 << 20,
            housekeeping_interval: Duration::from_secs(30),
            compaction: CompactionLimits::default(),
            tier_probe_wait: Duration::from_secs(5),
            tier_interval: Duration::from_secs(30),
            tier_object_bytes: 16 << 20,
            tier_job_bytes: 256 << 20,
            tier_bytes_per_second: 0,
            tier_dead_bytes_max: 64 << 20,
            tier_read_wait: Duration::from_millis(500),
            decompressed_bytes_max: 128 << 20,
            tier_reads_max: 100,
            tier_cache_bytes: 64 << 20,
            #[cfg(feature = "negative-controls")]
            negative_control: None,
        }
    }
}

/// What the log needs to know of a partition's topic.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSettings {
    /// −1: for ever.
    pub retention_ms: i64,
    /// −1: without limit.
    pub retention_bytes: i64,
    /// `cleanup.policy` names delete: retention applies.
    pub delete: bool,
    pub compaction: CompactionPolicy,
    pub tier: TierPolicy,
}

/// Topics may let in longer batches than they do now; those that are there already should not be a trap.
const DECOMPRESSED_BYTES_MIN: usize = 256 << 20;

/// How a partition is compacted, by the keys of its topic.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionPolicy {
    /// `cleanup.policy` names compact.
    pub enabled: bool,
    /// How long a tombstone stays after it was first looked at, and the marker of a transaction of which nothing else is left.
    pub delete_retention_ms: i64,
    /// What is younger stays as it is.
    pub min_lag_ms: i64,
    /// What is older is a reason to compact, however little it is.
    pub max_lag_ms: i64,
    /// The part of the log that has to be dirty, else.
    pub dirty_ratio_min: f64,
    /// The newest part of the log is left alone, as Kafka leaves its active segment: it ends when it is so long, or so old.
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// A batch that is longer when it is decompressed makes its partition uncleanable.
    pub decompressed_bytes_max: usize,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        CompactionPolicy {
            enabled: false,
            delete_retention_ms: 24 * 3600 * 1000,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            dirty_ratio_min: 0.5,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MIN,
        }
    }
}

/// What of a partition goes into the second tier, and what stays here besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPolicy {
    /// `remote.storage.enable`
    pub enabled: bool,
    /// False with `remote.log.copy.disable`: what the tier has stays there until it expires, and nothing is added.
    pub copies: bool,
    /// `remote.log.delete.on.disable`: what only the tier has goes when it is not enabled any more.
    pub delete_on_disable: bool,
    /// How old, and how much of it, may stay here of what the tier has as well. −1: all.
    pub local_retention_ms: i64,
    pub local_retention_bytes: i64,
}

impl Default for TierPolicy {
    fn default() -> Self {
        TierPolicy {
            enabled: false,
            copies: true,
            delete_on_disable: false,
            local_retention_ms: -1,
            local_retention_bytes: -1,
        }
    }
}

impl Default for PartitionSettings {
    fn default() -> Self {
        // Until the topic's own settings are known nothing is removed.
        PartitionSettings {
            retention_ms: -1,
            retention_bytes: -1,
            delete: false,
            compaction: CompactionPolicy::default(),
            tier: TierPolicy::default(),
        }
    }
}

impl From<&TopicConfig> for PartitionSettings {
    fn from(config: &TopicConfig) -> Self {
        PartitionSettings {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            delete: config.cleanup_policy.delete,
            compaction: CompactionPolicy {
                enabled: config.cleanup_policy.compact,
                delete_retention_ms: config.delete_retention_ms,
                min_lag_ms: config.min_compaction_lag_ms,
                max_lag_ms: config.max_compaction_lag_ms,
                dirty_ratio_min: config.min_cleanable_dirty_ratio,
                segment_bytes: config.segment_bytes.max(1) as u64,
                segment_ms: config.segment_ms,
                decompressed_bytes_max: usize::try_from(config.max_decompressed_message_bytes)
                    .unwrap_or(0)
                    .max(DECOMPRESSED_BYTES_MIN),
            },
            tier: TierPolicy {
                enabled: config.remote_storage_enable,
                copies: !config.remote_log_copy_disable,
                delete_on_disable: config.remote_log_delete_on_disable,
                local_retention_ms: config.local_retention_ms,
                local_retention_bytes: config.local_retention_bytes,
            },
        }
    }
}

impl LogSettings {
    pub(crate) fn skips_directory_sync(&self) -> bool {
        #[cfg(feature = "negative-controls")]
        return self.negative_control == Some(NegativeControl::SkipDirectorySync);
        #[cfg(not(feature = "negative-controls"))]
        false
    }

    pub(crate) fn acknowledges_early(&self) -> bool {
        #[cfg(feature = "negative-controls")]
        return self.negative_control == Some(NegativeControl::AcknowledgeBeforeSync);
        #[cfg(not(feature = "negative-controls"))]
        false
    }
}
