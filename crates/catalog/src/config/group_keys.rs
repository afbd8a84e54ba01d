//! Keys of groups (Kafka's `GroupConfig`, KIP-848, KIP-932, KIP-1071) and of client-metrics subscriptions (KIP-714).

use super::key::ConfigType::*;
use super::key::{ConfigKey, Validator, key, same};
use super::reasons::*;

pub static GROUP_KEYS: &[ConfigKey] = &[
    key(
        "consumer.assignment.interval.ms",
        Int,
        "1000",
        "Shortest time between two assignments of the group.",
    )
    .min(0)
    .behind(&[same("group.consumer.assignment.interval.ms")]),
    key(
        "consumer.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of the group in the background.",
    )
    .internal()
    .no_effect(OFFLOAD)
    .behind(&[same("group.consumer.assignor.offload.enable")]),
    key("consumer.heartbeat.interval.ms", Int, "5000", "Time between two heartbeats of a member.")
        .min(1)
        .behind(&[same("group.consumer.heartbeat.interval.ms")]),
    key("consumer.session.timeout.ms", Int, "45000", "Silence after which a member is taken for gone.")
        .min(1)
        .behind(&[same("group.consumer.session.timeout.ms")]),
    key(
        "errors.deadletterqueue.copy.record.enable",
        Boolean,
        "false",
        "Puts key and value of a given-up record into its dead letter, not only where it was.",
    ),
    key("errors.deadletterqueue.topic.name", String, "", "Topic for records that the group gave up.")
        .check(Validator::DeadLetterTopic),
    key("share.assignment.interval.ms", Int, "1000", "Shortest time between two assignments of the group.")
        .min(0)
        .behind(&[same("group.share.assignment.interval.ms")]),
    key(
        "share.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of the group in the background.",
    )
    .internal()
    .no_effect(OFFLOAD)
    .behind(&[same("group.share.assignor.offload.enable")]),
    key(
        "share.auto.offset.reset",
        String,
        "latest",
        "Where a share group starts: earliest, latest or some time back.",
    )
    .check(Validator::ShareOffsetReset),
    key("share.delivery.count.limit", Int, "5", "How often a record is delivered before it is given up.")
        .min(2)
        .behind(&[same("group.share.delivery.count.limit")]),
    key("share.heartbeat.interval.ms", Int, "5000", "Time between two heartbeats of a member.")
        .min(1)
        .behind(&[same("group.share.heartbeat.interval.ms")]),
    key(
        "share.isolation.level",
        String,
        "read_uncommitted",
        "Whether records of open and aborted transactions are delivered.",
    )
    .one_of(&["read_committed", "read_uncommitted"]),
    key(
        "share.partition.max.record.locks",
        Int,
        "2000",
        "Most records of one partition that are locked at once.",
    )
    .min(100)
    .behind(&[same("group.share.partition.max.record.locks")]),
    key(
        "share.record.lock.duration.ms",
        Int,
        "30000",
        "Time a record stays locked for the consumer that got it.",
    )
    .min(1000)
    .behind(&[same("group.share.record.lock.duration.ms")]),
    key("share.renew.acknowledge.enable", Boolean, "true", "Lets a consumer prolong its lock on a record."),
    key("share.session.timeout.ms", Int, "45000", "Silence after which a member is taken for gone.")
        .min(1)
        .behind(&[same("group.share.session.timeout.ms")]),
    key("streams.acceptable.recovery.lag", Long, "10000", "Lag up to which a task counts as caught up.")
        .min(0)
        .internal()
        .behind(&[same("group.streams.acceptable.recovery.lag")]),
    key("streams.assignment.interval.ms", Int, "1000", "Shortest time between two assignments of the group.")
        .min(0)
        .behind(&[same("group.streams.assignment.interval.ms")]),
    key("streams.assignor.name", String, "", "Assignor of the group.")
        .null()
        .behind(&[same("group.streams.assignors")]),
    key(
        "streams.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of the group in the background.",
    )
    .internal()
    .no_effect(STREAMS)
    .behind(&[same("group.streams.assignor.offload.enable")]),
    key("streams.heartbeat.interval.ms", Int, "5000", "Time between two heartbeats of a member.")
        .min(1)
        .behind(&[same("group.streams.heartbeat.interval.ms")]),
    key(
        "streams.initial.rebalance.delay.ms",
        Int,
        "3000",
        "Time the first rebalance of an empty group waits for more members.",
    )
    .min(0)
    .behind(&[same("group.streams.initial.rebalance.delay.ms")]),
    key("streams.num.standby.replicas", Int, "0", "Standby tasks of the group.")
        .min(0)
        .behind(&[same("group.streams.num.standby.replicas")]),
    key("streams.num.warmup.replicas", Int, "2", "Warm-up tasks of the group.")
        .min(0)
        .internal()
        .no_effect(STREAMS)
        .behind(&[same("group.streams.num.warmup.replicas")]),
    key("streams.rack.aware.assignment.tags", List, "", "Client tags over which standby tasks are spread.")
        .list()
        .no_effect(STREAMS)
        .behind(&[same("group.streams.rack.aware.assignment.tags")]),
    key("streams.session.timeout.ms", Int, "45000", "Silence after which a member is taken for gone.")
        .min(1)
        .behind(&[same("group.streams.session.timeout.ms")]),
    key("streams.task.offset.interval.ms", Int, "60000", "Time between two reports of task offsets.")
        .min(1)
        .internal()
        .behind(&[same("group.streams.task.offset.interval.ms")]),
];

pub static CLIENT_METRICS_KEYS: &[ConfigKey] = &[
    key("interval.ms", Int, "300000", "Time between two pushes of client metrics."),
    key("match", List, "", "Which clients a subscription is for, as name=pattern pairs.").list(),
    key("metrics", List, "", "Prefixes of the metrics that clients push.").list(),
];
