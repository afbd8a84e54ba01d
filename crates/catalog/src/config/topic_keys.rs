//! Keys of topics (Kafka's `LogConfig`), sorted by name.

use super::key::ConfigType::*;
use super::key::{ConfigKey, Synonym, Validator, key, same};
use super::reasons::*;

pub static TOPIC_KEYS: &[ConfigKey] = &[
    key(
        "cleanup.policy",
        List,
        "delete",
        "What happens to old records: delete by time and size, compact by key, or both.",
    )
    .check(Validator::List { values: &["compact", "delete"], empty_allowed: true })
    .behind(&[same("log.cleanup.policy")]),
    key(
        "compression.gzip.level",
        Int,
        "-1",
        "Level used when batches are recompressed with gzip; -1 is the default of the library.",
    )
    .check(Validator::IntegerRangeOr { min: 1, max: 9, or: -1 })
    .behind(&[same("compression.gzip.level")]),
    key("compression.lz4.level", Int, "9", "Level used when batches are recompressed with lz4.")
        .range(1, 17)
        .behind(&[same("compression.lz4.level")]),
    key(
        "compression.type",
        String,
        "producer",
        "Compression that stored batches have; producer keeps what the producer chose.",
    )
    .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
    .behind(&[same("compression.type")]),
    key("compression.zstd.level", Int, "3", "Level used when batches are recompressed with zstd.")
        .range(-131072, 22)
        .behind(&[same("compression.zstd.level")]),
    key("delete.retention.ms", Long, "86400000", "Time that tombstones stay in a compacted topic.")
        .min(0)
        .behind(&[same("log.cleaner.delete.retention.ms")]),
    key(
        "errors.deadletterqueue.group.enable",
        Boolean,
        "false",
        "Lets share groups put records here that they gave up.",
    ),
    key("file.delete.delay.ms", Long, "60000", "Time a deleted file stays on the disk.")
        .min(0)
        .no_effect(FILES)
        .behind(&[same("log.segment.delete.delay.ms")]),
    key("flush.messages", Long, "9223372036854775807", "Records written to a partition between two syncs.")
        .min(1)
        .no_effect(SYNC)
        .behind(&[same("log.flush.interval.messages")]),
    key("flush.ms", Long, "9223372036854775807", "Longest time a record stays unsynced.")
        .min(0)
        .no_effect(SYNC)
        .behind(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    key("follower.replication.throttled.replicas", List, "", "Replicas whose fetching is throttled.")
        .check(Validator::ThrottledReplicas)
        .no_effect(REPL),
    key("index.interval.bytes", Int, "4096", "Bytes between two entries of the offset index.")
        .min(0)
        .no_effect(FILES)
        .behind(&[same("log.index.interval.bytes")]),
    key("internal.segment.bytes", Int, "", "Size of a segment, for tests.")
        .null()
        .internal()
        .no_effect(FILES),
    key("leader.replication.throttled.replicas", List, "", "Replicas whose leader is throttled.")
        .check(Validator::ThrottledReplicas)
        .no_effect(REPL),
    key(
        "local.retention.bytes",
        Long,
        "-2",
        "Bytes of a partition that stay on local disk when a second tier is used; -2 is as many as retention.bytes says.",
    )
    .min(-2)
    .behind(&[same("log.local.retention.bytes")]),
    key("local.retention.ms", Long, "-2", "Time records stay on local disk when a second tier is used; -2 is as long as retention.ms says.")
        .min(-2)
        .behind(&[same("log.local.retention.ms")]),
    key(
        "max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "Longest time a record may wait for compaction.",
    )
    .min(1)
    .behind(&[same("log.cleaner.max.compaction.lag.ms")]),
    key(
        "max.decompressed.message.bytes",
        Int,
        "134217728",
        "Largest batch after decompression; checked while it is decompressed.",
    )
    .range(1, 2147483639)
    .behind(&[same("max.decompressed.message.bytes")]),
    key("max.message.bytes", Int, "1048588", "Largest record batch that is accepted.")
        .min(0)
        .behind(&[same("message.max.bytes")]),
    key(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        "How far the timestamp of a record may lie in the future.",
    )
    .min(0)
    .behind(&[same("log.message.timestamp.after.max.ms")]),
    key(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "How far the timestamp of a record may lie in the past.",
    )
    .min(0)
    .behind(&[same("log.message.timestamp.before.max.ms")]),
    key(
        "message.timestamp.type",
        String,
        "CreateTime",
        "Whether records keep the producer's time or get the time of the append.",
    )
    .one_of(&["CreateTime", "LogAppendTime"])
    .behind(&[same("log.message.timestamp.type")]),
    key(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        "Share of a log that must be uncompacted before the cleaner starts.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1.0 })
    .behind(&[same("log.cleaner.min.cleanable.ratio")]),
    key("min.compaction.lag.ms", Long, "0", "Shortest time a record stays before compaction may remove it.")
        .min(0)
        .behind(&[same("log.cleaner.min.compaction.lag.ms")]),
    key("min.insync.replicas", Int, "1", "In-sync replicas that acks=all needs.")
        .min(1)
        .no_effect(INSYNC)
        .behind(&[same("min.insync.replicas")]),
    key("preallocate", Boolean, "false", "Reserves disk space for a new segment at once.")
        .no_effect(FILES)
        .behind(&[same("log.preallocate")]),
    key("remote.copy.lag.bytes", Long, "-1", "Bytes that wait before they are copied to a second tier.")
        .min(-1)
        .no_effect(TIER_LAG)
        .behind(&[same("log.remote.copy.lag.bytes")]),
    key("remote.copy.lag.ms", Long, "0", "Time records wait before they are copied to a second tier.")
        .min(-1)
        .no_effect(TIER_LAG)
        .behind(&[same("log.remote.copy.lag.ms")]),
    key("remote.log.copy.disable", Boolean, "false", "Stops copying to the second tier."),
    key(
        "remote.log.delete.on.disable",
        Boolean,
        "false",
        "Deletes the second tier's data when it is switched off.",
    ),
    key("remote.storage.enable", Boolean, "false", "Uses a second storage tier for the topic."),
    key(
        "retention.bytes",
        Long,
        "-1",
        "Size of a partition beyond which its oldest records are deleted; -1 is no limit.",
    )
    .behind(&[same("log.retention.bytes")]),
    key("retention.ms", Long, "604800000", "Time records are kept; -1 keeps them for ever.").min(-1).behind(
        &[
            same("log.retention.ms"),
            Synonym { name: "log.retention.minutes", factor: 60000 },
            Synonym { name: "log.retention.hours", factor: 3600000 },
        ],
    ),
    key("segment.bytes", Int, "1073741824", "Size up to which compaction leaves the newest part of a log alone.")
        .min(1048576)
        .behind(&[same("log.segment.bytes")]),
    key("segment.index.bytes", Int, "10485760", "Largest size of an offset index.")
        .min(4)
        .no_effect(FILES)
        .behind(&[same("log.index.size.max.bytes")]),
    key("segment.jitter.ms", Long, "0", "Random part taken off segment.ms.")
        .min(0)
        .no_effect(FILES)
        .behind(&[same("log.roll.jitter.ms"), Synonym { name: "log.roll.jitter.hours", factor: 3600000 }]),
    key("segment.ms", Long, "604800000", "Age at which compaction takes the newest part of a log as well.")
        .min(1)
        .behind(&[same("log.roll.ms"), Synonym { name: "log.roll.hours", factor: 3600000 }]),
    key(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "Lets a replica lead that may lack acknowledged records.",
    )
    .no_effect(UNCLEAN)
    .behind(&[same("unclean.leader.election.enable")]),
];
