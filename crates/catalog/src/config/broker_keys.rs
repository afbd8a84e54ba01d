//! Keys of brokers (Kafka's `KafkaConfig`), sorted by name. Ottla's own stand in `own_keys.rs`.

use super::key::ConfigType::*;
use super::key::{ConfigKey, Validator, key};
use super::reasons::*;

pub static BROKER_KEYS: &[ConfigKey] = &[
    key(
        "add.partitions.to.txn.retry.backoff.max.ms",
        Int,
        "100",
        "Longest time a produce request waits for its partition to join the transaction.",
    )
    .min(0),
    key(
        "add.partitions.to.txn.retry.backoff.ms",
        Int,
        "20",
        "Pause between two tries to add a partition to a transaction.",
    )
    .min(1),
    key(
        "advertised.listeners",
        List,
        "",
        "Addresses that clients are told to connect to; the listeners when not set.",
    )
    .null()
    .list_not_empty(),
    key("alter.config.policy.class.name", Class, "", "Class that may refuse changes of configs.")
        .null()
        .no_effect(JAVA),
    key(
        "alter.log.dirs.replication.quota.window.num",
        Int,
        "11",
        "Number of samples kept for the quota of moves between directories.",
    )
    .min(1)
    .no_effect(DIRS),
    key(
        "alter.log.dirs.replication.quota.window.size.seconds",
        Int,
        "1",
        "Length of a sample of the quota of moves between directories.",
    )
    .min(1)
    .no_effect(DIRS),
    key("authorizer.class.name", String, "", "Class that decides who may do what.").no_effect(JAVA),
    key(
        "auto.create.topics.enable",
        Boolean,
        "true",
        "Creates a topic when a client asks for one that does not exist.",
    ),
    key(
        "auto.leader.rebalance.enable",
        Boolean,
        "true",
        "On a bucket: gives partitions to other brokers where traffic or the zones of leaders are uneven. Numbers of leaders are made equal, and what was assigned by hand goes to its broker, in any case.",
    ),
    key("background.threads", Int, "10", "Threads for background work.")
        .min(1)
        .cluster_wide()
        .no_effect(THREADS),
    key(
        "broker.heartbeat.interval.ms",
        Int,
        "2000",
        "Time between two signs of life that a broker sends to the controller.",
    )
    .no_effect(QUORUM),
    key("broker.id", Int, "-1", "Older name of node.id."),
    key("broker.rack", String, "", "Rack or zone of this broker, told to clients.").null(),
    key(
        "broker.session.timeout.ms",
        Int,
        "9000",
        "Silence after which the controller takes a broker for dead.",
    )
    .no_effect(QUORUM),
    key("client.quota.callback.class", Class, "", "Class that computes quotas of clients.")
        .null()
        .no_effect(JAVA),
    key(
        "compression.gzip.level",
        Int,
        "-1",
        "Level used when batches are recompressed with gzip; -1 is the default of the library.",
    )
    .check(Validator::IntegerRangeOr { min: 1, max: 9, or: -1 })
    .cluster_wide(),
    key("compression.lz4.level", Int, "9", "Level used when batches are recompressed with lz4.")
        .range(1, 17)
        .cluster_wide(),
    key(
        "compression.type",
        String,
        "producer",
        "Compression that stored batches have; producer keeps what the producer chose.",
    )
    .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
    .cluster_wide(),
    key("compression.zstd.level", Int, "3", "Level used when batches are recompressed with zstd.")
        .range(-131072, 22)
        .cluster_wide(),
    key("config.providers", List, "", "Plugins that fill placeholders in config values.")
        .list()
        .cluster_wide()
        .no_effect(JAVA),
    key(
        "connection.failed.authentication.delay.ms",
        Int,
        "100",
        "Pause before a connection is closed whose authentication failed.",
    )
    .min(0),
    key("connections.max.idle.ms", Long, "600000", "Closes a connection that was silent for this long."),
    key("connections.max.reauth.ms", Long, "0", "Time after which a client must authenticate again."),
    key("controlled.shutdown.enable", Boolean, "true", "Hands leadership over before a broker stops.")
        .no_effect(CLUSTER),
    key("controller.listener.names", List, "CONTROLLER", "Names of the listeners that controllers use.")
        .list_not_empty()
        .no_effect(QUORUM),
    key(
        "controller.performance.always.log.threshold.ms",
        Long,
        "2000",
        "Controller events slower than this are logged.",
    )
    .min(0)
    .internal()
    .no_effect(QUORUM),
    key(
        "controller.performance.sample.period.ms",
        Long,
        "60000",
        "Time between two reports on the slowest controller events.",
    )
    .min(100)
    .internal()
    .no_effect(QUORUM),
    key(
        "controller.quorum.append.linger.ms",
        Int,
        "25",
        "Time the quorum leader waits to gather records for one write.",
    )
    .min(0)
    .no_effect(QUORUM),
    key(
        "controller.quorum.auto.join.enable",
        Boolean,
        "false",
        "Lets a new controller join the quorum by itself.",
    )
    .no_effect(QUORUM),
    key(
        "controller.quorum.bootstrap.servers",
        List,
        "",
        "Addresses where the controller quorum is first looked for.",
    )
    .list()
    .no_effect(QUORUM),
    key(
        "controller.quorum.election.backoff.max.ms",
        Int,
        "1000",
        "Longest pause before another election is tried.",
    )
    .min(0)
    .no_effect(QUORUM),
    key(
        "controller.quorum.election.timeout.ms",
        Int,
        "1000",
        "Time without a leader after which an election starts.",
    )
    .min(0)
    .no_effect(QUORUM),
    key(
        "controller.quorum.fetch.max.bytes",
        Int,
        "1048576",
        "Most bytes one fetch of the metadata log gives.",
    )
    .min(1)
    .no_effect(QUORUM),
    key(
        "controller.quorum.fetch.snapshot.max.bytes",
        Int,
        "1048576",
        "Most bytes one fetch of a metadata snapshot gives.",
    )
    .min(1)
    .no_effect(QUORUM),
    key(
        "controller.quorum.fetch.timeout.ms",
        Int,
        "2000",
        "Time without an answer after which the quorum leader is taken for lost.",
    )
    .min(0)
    .no_effect(QUORUM),
    key("controller.quorum.request.timeout.ms", Int, "2000", "Longest wait for an answer within the quorum.")
        .min(0)
        .no_effect(QUORUM),
    key(
        "controller.quorum.retry.backoff.ms",
        Int,
        "20",
        "Pause before a request within the quorum is sent again.",
    )
    .min(0)
    .no_effect(QUORUM),
    key("controller.quorum.voters", List, "", "Members of the controller quorum with their addresses.")
        .list()
        .no_effect(QUORUM),
    key(
        "controller.quota.window.num",
        Int,
        "11",
        "Number of samples kept for the quota of controller changes.",
    )
    .min(1),
    key(
        "controller.quota.window.size.seconds",
        Int,
        "1",
        "Length of a sample of the quota of controller changes.",
    )
    .min(1),
    key("controller.socket.timeout.ms", Int, "30000", "Longest wait for an answer of the controller.")
        .no_effect(QUORUM),
    key("cordoned.log.dirs", List, "", "Directories that get no new partitions.")
        .list()
        .per_broker()
        .no_effect(DIRS),
    key("create.topic.policy.class.name", Class, "", "Class that may refuse new topics.")
        .null()
        .no_effect(JAVA),
    key(
        "default.replication.factor",
        Int,
        "1",
        "Replicas of a topic that is created without saying how many.",
    ),
    key(
        "delegation.token.expiry.check.interval.ms",
        Long,
        "3600000",
        "Time between two searches for expired delegation tokens.",
    )
    .min(1),
    key("delegation.token.expiry.time.ms", Long, "86400000", "Life of a delegation token between renewals.")
        .min(1),
    key("delegation.token.max.lifetime.ms", Long, "604800000", "Longest life of a delegation token.")
        .min(1),
    key("delegation.token.secret.key", Password, "", "Secret that delegation tokens are made with.")
        .null(),
    key(
        "delete.records.purgatory.purge.interval.requests",
        Int,
        "1",
        "Requests between two clean-ups of waiting DeleteRecords requests.",
    )
    .no_effect(PURGATORY),
    key("delete.topic.enable", Boolean, "true", "Lets clients delete topics."),
    key("early.start.listeners", List, "", "Listeners that open before the authorizer is ready.")
        .null()
        .list()
        .no_effect(LISTENERS),
    key(
        "errors.deadletterqueue.auto.create.topics.enable",
        Boolean,
        "false",
        "Creates the topic for records that a share group gave up, when it is missing.",
    )
    .cluster_wide(),
    key(
        "errors.deadletterqueue.topic.name.prefix",
        String,
        "dlq.",
        "What names of topics for given-up records must begin with; empty: with anything.",
    )
    .cluster_wide(),
    key(
        "fetch.max.bytes",
        Int,
        "57671680",
        "Most bytes one fetch answer holds, but for a first batch that is larger.",
    )
    .min(1024),
    key(
        "fetch.purgatory.purge.interval.requests",
        Int,
        "1000",
        "Requests between two clean-ups of waiting fetches.",
    )
    .no_effect(PURGATORY),
    key(
        "follower.fetch.last.tiered.offset.enable",
        Boolean,
        "false",
        "Lets a new follower start behind the data that is already in the second tier.",
    )
    .cluster_wide()
    .no_effect(TIER),
    key(
        "follower.replication.throttled.rate",
        Long,
        "",
        "Bytes per second that throttled followers may fetch.",
    )
    .null()
    .min(0)
    .cluster_wide()
    .internal()
    .no_effect(REPL),
    key(
        "group.consumer.assignment.interval.ms",
        Int,
        "1000",
        "Shortest time between two assignments of a consumer group of the new protocol.",
    )
    .min(0)
    .cluster_wide(),
    key(
        "group.consumer.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of consumer groups in the background.",
    )
    .cluster_wide()
    .internal()
    .no_effect(OFFLOAD),
    key(
        "group.consumer.assignors",
        List,
        "uniform,range",
        "Server-side assignors of consumer groups, the first is the default.",
    )
    .list_not_empty(),
    key(
        "group.consumer.heartbeat.interval.ms",
        Int,
        "5000",
        "Time between two heartbeats of a member of the new protocol.",
    )
    .min(1),
    key(
        "group.consumer.max.assignment.interval.ms",
        Int,
        "15000",
        "Largest assignment interval a consumer group may set.",
    )
    .min(0),
    key(
        "group.consumer.max.heartbeat.interval.ms",
        Int,
        "15000",
        "Largest heartbeat interval a consumer group may set.",
    )
    .min(1),
    key(
        "group.consumer.max.session.timeout.ms",
        Int,
        "60000",
        "Largest session time-out a consumer group may set.",
    )
    .min(1),
    key(
        "group.consumer.max.size",
        Int,
        "10000",
        "Most members of a consumer group of the new protocol.",
    )
    .min(1),
    key(
        "group.consumer.migration.policy",
        String,
        "bidirectional",
        "Whether classic groups and groups of the new protocol turn into one another.",
    )
    .check(Validator::OneOfIgnoreCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"])),
    key(
        "group.consumer.min.assignment.interval.ms",
        Int,
        "0",
        "Smallest assignment interval a consumer group may set.",
    )
    .min(0),
    key(
        "group.consumer.min.heartbeat.interval.ms",
        Int,
        "5000",
        "Smallest heartbeat interval a consumer group may set.",
    )
    .min(1),
    key(
        "group.consumer.min.session.timeout.ms",
        Int,
        "45000",
        "Smallest session time-out a consumer group may set.",
    )
    .min(1),
    key(
        "group.consumer.regex.refresh.interval.ms",
        Int,
        "600000",
        "Time between two evaluations of a regular expression that a group subscribes to.",
    )
    .min(10000)
    .internal(),
    key(
        "group.consumer.session.timeout.ms",
        Int,
        "45000",
        "Silence after which a member of the new protocol is taken for gone.",
    )
    .min(1),
    key(
        "group.coordinator.append.linger.ms",
        Int,
        "-1",
        "Time the group coordinator gathers records for one write; -1 lets it decide.",
    )
    .min(-1)
    .no_effect(COMMIT),
    key("group.coordinator.background.threads", Int, "2", "Threads for slow work of the group coordinator.")
        .min(1)
        .no_effect(THREADS),
    key(
        "group.coordinator.cached.buffer.max.bytes",
        Int,
        "1048588",
        "Largest buffer that the group coordinator keeps for reuse.",
    )
    .min(524288)
    .cluster_wide()
    .no_effect(COMMIT),
    key(
        "group.coordinator.rebalance.protocols",
        List,
        "classic,consumer,streams",
        "Group protocols that are switched on.",
    )
    .check(Validator::List { values: &["consumer", "classic", "share", "streams"], empty_allowed: false }),
    key("group.coordinator.threads", Int, "4", "Threads of the group coordinator.").min(1).no_effect(THREADS),
    key(
        "group.initial.rebalance.delay.ms",
        Int,
        "3000",
        "Time the first rebalance of an empty group waits for more members.",
    ),
    key(
        "group.max.session.timeout.ms",
        Int,
        "1800000",
        "Largest session time-out a classic member may ask for.",
    ),
    key("group.max.size", Int, "10000", "Most members of a classic group.").min(1),
    key(
        "group.min.session.timeout.ms",
        Int,
        "6000",
        "Smallest session time-out a classic member may ask for.",
    ),
    key(
        "group.share.assignment.interval.ms",
        Int,
        "1000",
        "Shortest time between two assignments of a share group.",
    )
    .min(0)
    .cluster_wide(),
    key(
        "group.share.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of share groups in the background.",
    )
    .cluster_wide()
    .internal()
    .no_effect(OFFLOAD),
    key("group.share.assignors", List, "simple", "Server-side assignors of share groups.")
        .list_not_empty()
        .no_effect(ASSIGNOR),
    key(
        "group.share.delivery.count.limit",
        Int,
        "5",
        "How often a record is delivered to a share group before it is given up.",
    )
    .range(2, 10),
    key(
        "group.share.dlq.manager.class.name",
        String,
        "org.apache.kafka.server.share.dlq.DefaultShareGroupDLQManager",
        "Class that writes given-up records of share groups.",
    )
    .internal()
    .no_effect(JAVA),
    key(
        "group.share.heartbeat.interval.ms",
        Int,
        "5000",
        "Time between two heartbeats of a member of a share group.",
    )
    .min(1),
    key(
        "group.share.initialize.retry.interval.ms",
        Int,
        "30000",
        "Pause before the state of a share partition is initialized again.",
    )
    .min(1)
    .internal(),
    key(
        "group.share.max.assignment.interval.ms",
        Int,
        "15000",
        "Largest assignment interval a share group may set.",
    )
    .min(0),
    key("group.share.max.delivery.count.limit", Int, "10", "Largest delivery limit a share group may set.")
        .range(5, 25),
    key(
        "group.share.max.heartbeat.interval.ms",
        Int,
        "15000",
        "Largest heartbeat interval a share group may set.",
    )
    .min(1),
    key(
        "group.share.max.partition.max.record.locks",
        Int,
        "4000",
        "Largest number of locked records per partition a share group may set.",
    )
    .range(2000, 10000),
    key(
        "group.share.max.record.lock.duration.ms",
        Int,
        "60000",
        "Longest lock on a record a share group may set.",
    )
    .range(30000, 3600000),
    key(
        "group.share.max.session.timeout.ms",
        Int,
        "60000",
        "Largest session time-out a share group may set.",
    )
    .min(1),
    key("group.share.max.share.sessions", Int, "2000", "Most share sessions of a broker.")
        .min(1),
    key("group.share.max.size", Int, "200", "Most members of a share group.").range(1, 1000),
    key(
        "group.share.min.assignment.interval.ms",
        Int,
        "0",
        "Smallest assignment interval a share group may set.",
    )
    .min(0),
    key("group.share.min.delivery.count.limit", Int, "2", "Smallest delivery limit a share group may set.")
        .range(2, 5),
    key(
        "group.share.min.heartbeat.interval.ms",
        Int,
        "5000",
        "Smallest heartbeat interval a share group may set.",
    )
    .min(1),
    key(
        "group.share.min.partition.max.record.locks",
        Int,
        "100",
        "Smallest number of locked records per partition a share group may set.",
    )
    .range(100, 2000),
    key(
        "group.share.min.record.lock.duration.ms",
        Int,
        "15000",
        "Shortest lock on a record a share group may set.",
    )
    .range(1000, 30000),
    key(
        "group.share.min.session.timeout.ms",
        Int,
        "45000",
        "Smallest session time-out a share group may set.",
    )
    .min(1),
    key(
        "group.share.partition.max.record.locks",
        Int,
        "2000",
        "Most records of one partition that a share group has locked at once.",
    )
    .range(100, 10000),
    key(
        "group.share.persister.class.name",
        String,
        "org.apache.kafka.server.share.persister.DefaultStatePersister",
        "Class that stores the state of share groups.",
    )
    .internal()
    .no_effect(JAVA),
    key(
        "group.share.record.lock.duration.ms",
        Int,
        "30000",
        "Time a record stays locked for the consumer that got it.",
    )
    .range(1000, 3600000),
    key(
        "group.share.session.timeout.ms",
        Int,
        "45000",
        "Silence after which a member of a share group is taken for gone.",
    )
    .min(1),
    key(
        "group.streams.acceptable.recovery.lag",
        Long,
        "10000",
        "Lag up to which a task counts as caught up.",
    )
    .min(0)
    .internal(),
    key(
        "group.streams.assignment.interval.ms",
        Int,
        "1000",
        "Shortest time between two assignments of a streams group.",
    )
    .min(0)
    .cluster_wide(),
    key(
        "group.streams.assignor.offload.enable",
        Boolean,
        "true",
        "Computes assignments of streams groups in the background.",
    )
    .cluster_wide()
    .internal()
    .no_effect(STREAMS),
    key(
        "group.streams.assignors",
        List,
        "sticky",
        "Server-side assignors of streams groups, the first is the default.",
    )
    .list_not_empty(),
    key(
        "group.streams.heartbeat.interval.ms",
        Int,
        "5000",
        "Time between two heartbeats of a member of a streams group.",
    )
    .min(1),
    key(
        "group.streams.initial.rebalance.delay.ms",
        Int,
        "3000",
        "Time the first rebalance of an empty streams group waits for more members.",
    )
    .min(0),
    key(
        "group.streams.max.assignment.interval.ms",
        Int,
        "15000",
        "Largest assignment interval a streams group may set.",
    )
    .min(0),
    key(
        "group.streams.max.heartbeat.interval.ms",
        Int,
        "15000",
        "Largest heartbeat interval a streams group may set.",
    )
    .min(1),
    key(
        "group.streams.max.session.timeout.ms",
        Int,
        "60000",
        "Largest session time-out a streams group may set.",
    )
    .min(1),
    key("group.streams.max.size", Int, "2147483647", "Most members of a streams group.")
        .min(1),
    key("group.streams.max.standby.replicas", Int, "2", "Most standby tasks a streams group may set.")
        .min(0),
    key("group.streams.max.warmup.replicas", Int, "20", "Most warm-up tasks a streams group may set.")
        .min(0)
        .internal()
        .no_effect(STREAMS),
    key(
        "group.streams.min.assignment.interval.ms",
        Int,
        "0",
        "Smallest assignment interval a streams group may set.",
    )
    .min(0),
    key(
        "group.streams.min.heartbeat.interval.ms",
        Int,
        "5000",
        "Smallest heartbeat interval a streams group may set.",
    )
    .min(1),
    key(
        "group.streams.min.session.timeout.ms",
        Int,
        "45000",
        "Smallest session time-out a streams group may set.",
    )
    .min(1),
    key(
        "group.streams.min.task.offset.interval.ms",
        Int,
        "15000",
        "Smallest task offset interval a streams group may set.",
    )
    .min(1)
    .internal(),
    key("group.streams.num.standby.replicas", Int, "0", "Standby tasks of a streams group.")
        .min(0),
    key("group.streams.num.warmup.replicas", Int, "2", "Warm-up tasks of a streams group.")
        .min(0)
        .internal()
        .no_effect(STREAMS),
    key(
        "group.streams.rack.aware.assignment.tags",
        List,
        "",
        "Client tags over which standby tasks are spread.",
    )
    .list()
    .no_effect(STREAMS),
    key(
        "group.streams.session.timeout.ms",
        Int,
        "45000",
        "Silence after which a member of a streams group is taken for gone.",
    )
    .min(1),
    key("group.streams.task.offset.interval.ms", Int, "60000", "Time between two reports of task offsets.")
        .min(1)
        .internal(),
    key(
        "group.streams.topology.description.plugin.class",
        Class,
        "",
        "Class that keeps descriptions of topologies.",
    )
    .null()
    .no_effect(JAVA),
    key(
        "initial.broker.registration.timeout.ms",
        Int,
        "60000",
        "On a bucket: how long a broker that starts asks a store that does not answer.",
    )
    .min(0),
    key(
        "inter.broker.listener.name",
        String,
        "",
        "Listener that brokers of a bucket use among themselves, and only they: BROKER, unless this names one with SSL.",
    )
    .null(),
    key(
        "internal.metadata.delete.delay.millis",
        Long,
        "60000",
        "Time an old file of the metadata log stays before it is deleted.",
    )
    .internal()
    .no_effect(QUORUM),
    key("internal.metadata.log.segment.bytes", Int, "", "Size of a file of the metadata log, for tests.")
        .null()
        .internal()
        .no_effect(QUORUM),
    key("internal.metadata.max.batch.size.in.bytes", Int, "8388608", "Largest batch of the metadata log.")
        .internal()
        .no_effect(QUORUM),
    key(
        "kafka.metrics.polling.interval.secs",
        Int,
        "10",
        "Time between two polls of the old metrics reporters.",
    )
    .min(1)
    .no_effect(METRICS),
    key("kafka.metrics.reporters", List, "", "Classes of the old metrics reporters.")
        .list()
        .no_effect(METRICS),
    key(
        "leader.imbalance.check.interval.seconds",
        Long,
        "300",
        "Time between two looks whether traffic or the zones of leaders are uneven.",
    )
    .min(1),
    key(
        "leader.replication.throttled.rate",
        Long,
        "",
        "Bytes per second that throttled leaders may send to followers.",
    )
    .null()
    .min(0)
    .cluster_wide()
    .internal()
    .no_effect(REPL),
    key(
        "listener.security.protocol.map",
        String,
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Security protocol of each listener name.",
    )
    .per_broker(),
    key("listeners", List, "PLAINTEXT://127.0.0.1:9092", "Addresses this broker listens on.")
        .list_not_empty()
        .per_broker(),
    key("log.cleaner.backoff.ms", Long, "15000", "Pause of compaction when there is nothing to do.")
        .min(0)
        .cluster_wide(),
    key(
        "log.cleaner.dedupe.buffer.size",
        Long,
        "134217728",
        "Memory of compaction for keys, 24 bytes each; a log with more dirty keys takes several rounds.",
    )
    .cluster_wide(),
    key(
        "log.cleaner.delete.retention.ms",
        Long,
        "86400000",
        "Time that tombstones stay in a compacted topic.",
    )
    .min(0)
    .cluster_wide(),
    key("log.cleaner.enable", Boolean, "true", "Switches compaction on; false leaves compacted topics as they are."),
    key("log.cleaner.io.buffer.load.factor", Double, "0.9", "How full compaction lets its table of keys get.")
        .cluster_wide(),
    key("log.cleaner.io.buffer.size", Int, "524288", "What compaction reads at a time, one run of batches at least.")
        .min(0)
        .cluster_wide(),
    key(
        "log.cleaner.io.max.bytes.per.second",
        Double,
        "1.7976931348623157E308",
        "Bytes per second that compaction reads, twice what is dirty and once what is clean.",
    )
    .cluster_wide(),
    key(
        "log.cleaner.max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "Longest time a record may wait for compaction.",
    )
    .min(1)
    .cluster_wide(),
    key(
        "log.cleaner.min.cleanable.ratio",
        Double,
        "0.5",
        "Share of a log that must be uncompacted before the cleaner starts.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1.0 })
    .cluster_wide(),
    key(
        "log.cleaner.min.compaction.lag.ms",
        Long,
        "0",
        "Shortest time a record stays before compaction may remove it.",
    )
    .min(0)
    .cluster_wide(),
    key("log.cleaner.threads", Int, "1", "Threads that compact.").min(0).cluster_wide().no_effect(COMPACT),
    key(
        "log.cleanup.policy",
        List,
        "delete",
        "What happens to old records: delete by time and size, compact by key, or both.",
    )
    .check(Validator::List { values: &["compact", "delete"], empty_allowed: true })
    .cluster_wide(),
    key("log.dir", List, "./ottla-data", "Directory of the data, used when log.dirs is not set.")
        .list_not_empty(),
    key(
        "log.dir.failure.timeout.ms",
        Long,
        "30000",
        "Time after which a broker stops that cannot report a failed directory.",
    )
    .min(1)
    .no_effect(DIRS),
    key("log.dirs", List, "", "Directory of the data; Ottla uses the first one.").null().list_not_empty(),
    key(
        "log.flush.interval.messages",
        Long,
        "9223372036854775807",
        "Records written to a partition between two syncs.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(SYNC),
    key("log.flush.interval.ms", Long, "", "Longest time a record stays unsynced.")
        .null()
        .cluster_wide()
        .no_effect(SYNC),
    key(
        "log.flush.offset.checkpoint.interval.ms",
        Int,
        "60000",
        "Time between two checkpoints of how far logs are synced.",
    )
    .min(0)
    .no_effect(SYNC),
    key(
        "log.flush.scheduler.interval.ms",
        Long,
        "9223372036854775807",
        "Time between two checks whether a log needs a sync.",
    )
    .no_effect(SYNC),
    key(
        "log.flush.start.offset.checkpoint.interval.ms",
        Int,
        "60000",
        "Time between two checkpoints of log start offsets.",
    )
    .min(0)
    .no_effect(SYNC),
    key("log.index.interval.bytes", Int, "4096", "Bytes between two entries of the offset index.")
        .min(0)
        .cluster_wide()
        .no_effect(FILES),
    key("log.index.size.max.bytes", Int, "10485760", "Largest size of an offset index.")
        .min(4)
        .cluster_wide()
        .no_effect(FILES),
    key("log.initial.task.delay.ms", Long, "30000", "Pause after start before log maintenance begins.")
        .min(0)
        .internal()
        .no_effect(FILES),
    key(
        "log.local.retention.bytes",
        Long,
        "-2",
        "Bytes of a partition that stay on local disk when a second tier is used; -2 is as many as its retention says.",
    )
    .min(-2)
    .cluster_wide(),
    key("log.local.retention.ms", Long, "-2", "Time records stay on local disk when a second tier is used; -2 is as long as their retention says.")
        .min(-2)
        .cluster_wide(),
    key(
        "log.message.timestamp.after.max.ms",
        Long,
        "3600000",
        "How far the timestamp of a record may lie in the future.",
    )
    .min(0)
    .cluster_wide(),
    key(
        "log.message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "How far the timestamp of a record may lie in the past.",
    )
    .min(0)
    .cluster_wide(),
    key(
        "log.message.timestamp.type",
        String,
        "CreateTime",
        "Whether records keep the producer's time or get the time of the append.",
    )
    .one_of(&["CreateTime", "LogAppendTime"])
    .cluster_wide(),
    key("log.preallocate", Boolean, "false", "Reserves disk space for a new segment at once.")
        .cluster_wide()
        .no_effect(FILES),
    key("log.remote.copy.lag.bytes", Long, "-1", "Bytes that wait before they are copied to a second tier.")
        .min(-1)
        .cluster_wide()
        .no_effect(TIER_LAG),
    key("log.remote.copy.lag.ms", Long, "0", "Time records wait before they are copied to a second tier.")
        .min(-1)
        .cluster_wide()
        .no_effect(TIER_LAG),
    key(
        "log.retention.bytes",
        Long,
        "-1",
        "Size of a partition beyond which its oldest records are deleted; -1 is no limit.",
    )
    .cluster_wide(),
    key("log.retention.check.interval.ms", Long, "300000", "Time between two checks for records to delete.")
        .min(1),
    key(
        "log.retention.hours",
        Int,
        "168",
        "Time records are kept, in hours, used when neither minutes nor milliseconds are set.",
    ),
    key(
        "log.retention.minutes",
        Int,
        "",
        "Time records are kept, in minutes, used when milliseconds are not set.",
    )
    .null(),
    key("log.retention.ms", Long, "", "Time records are kept; -1 keeps them for ever.").null().cluster_wide(),
    key("log.roll.hours", Int, "168", "Age at which compaction takes the newest part of a log as well, in hours.")
        .min(1),
    key("log.roll.jitter.hours", Int, "0", "Random part taken off log.roll.hours.").min(0).no_effect(FILES),
    key("log.roll.jitter.ms", Long, "", "Random part taken off log.roll.ms.")
        .null()
        .cluster_wide()
        .no_effect(FILES),
    key("log.roll.ms", Long, "", "Age at which compaction takes the newest part of a log as well.")
        .null()
        .cluster_wide(),
    key("log.segment.bytes", Int, "1073741824", "Size up to which compaction leaves the newest part of a log alone.")
        .min(1048576)
        .cluster_wide(),
    key("log.segment.delete.delay.ms", Long, "60000", "Time a deleted file stays on the disk.")
        .min(0)
        .cluster_wide()
        .no_effect(FILES),
    key("max.connection.creation.rate", Int, "2147483647", "New connections per second of the broker.")
        .min(0)
        .cluster_wide(),
    key("max.connections", Int, "10000", "Most connections of the broker.").min(0).cluster_wide(),
    key("max.connections.per.ip", Int, "2147483647", "Most connections from one address.")
        .min(0)
        .cluster_wide(),
    key(
        "max.connections.per.ip.overrides",
        String,
        "",
        "Other limits for some addresses, as address:count pairs.",
    )
    .cluster_wide(),
    key(
        "max.decompressed.message.bytes",
        Int,
        "134217728",
        "Largest batch after decompression; checked while it is decompressed.",
    )
    .range(1, 2147483639)
    .cluster_wide(),
    key("max.incremental.fetch.session.cache.slots", Int, "10000", "Most incremental fetch sessions kept.")
        .min(0),
    key(
        "max.request.partition.size.limit",
        Int,
        "2000",
        "Most partitions one DescribeTopicPartitions answer holds.",
    )
    .min(1),
    key("message.max.bytes", Int, "1048588", "Largest record batch that is accepted.").min(0).cluster_wide(),
    key("metadata.log.dir", String, "", "Directory of the metadata log.").null().no_effect(QUORUM),
    key(
        "metadata.log.max.record.bytes.between.snapshots",
        Long,
        "20971520",
        "Bytes of the metadata log between two snapshots.",
    )
    .min(1)
    .no_effect(QUORUM),
    key(
        "metadata.log.max.snapshot.interval.ms",
        Long,
        "3600000",
        "Longest time between two metadata snapshots.",
    )
    .min(0)
    .no_effect(QUORUM),
    key("metadata.log.segment.bytes", Int, "1073741824", "Size of a file of the metadata log.")
        .min(8388608)
        .no_effect(QUORUM),
    key("metadata.log.segment.ms", Long, "604800000", "Longest time a file of the metadata log stays open.")
        .no_effect(QUORUM),
    key(
        "metadata.max.idle.interval.ms",
        Int,
        "500",
        "Time between two empty records of an idle metadata log.",
    )
    .min(0)
    .no_effect(QUORUM),
    key(
        "metadata.max.retention.bytes",
        Long,
        "104857600",
        "Size of metadata log and snapshots beyond which old ones are deleted.",
    )
    .no_effect(QUORUM),
    key(
        "metadata.max.retention.ms",
        Long,
        "604800000",
        "Time that old metadata logs and snapshots are kept.",
    )
    .no_effect(QUORUM),
    key(
        "metric.reporters",
        List,
        "org.apache.kafka.common.metrics.JmxReporter",
        "Classes that report metrics.",
    )
    .list()
    .cluster_wide()
    .no_effect(METRICS),
    key("metrics.num.samples", Int, "2", "Samples kept to compute a metric.").min(1).no_effect(METRICS),
    key("metrics.recording.level", String, "INFO", "How detailed the recorded metrics are.")
        .no_effect(METRICS),
    key("metrics.sample.window.ms", Long, "30000", "Length of a sample of a metric.")
        .min(1)
        .no_effect(METRICS),
    key("min.insync.replicas", Int, "1", "In-sync replicas that acks=all needs.")
        .min(1)
        .cluster_wide()
        .no_effect(INSYNC),
    key("node.id", Int, "1", "Id of this broker in the cluster.").min(0),
    key("num.io.threads", Int, "8", "Threads that handle requests.").min(1).cluster_wide().no_effect(THREADS),
    key("num.network.threads", Int, "3", "Threads that read and write sockets.")
        .min(1)
        .cluster_wide()
        .no_effect(THREADS),
    key("num.partitions", Int, "1", "Partitions of a topic that is created without saying how many.").min(1),
    key("num.recovery.threads.per.data.dir", Int, "2", "Threads per directory that recover logs at start.")
        .min(1)
        .cluster_wide()
        .no_effect(THREADS),
    key("num.replica.alter.log.dirs.threads", Int, "", "Threads that move replicas between directories.")
        .null()
        .no_effect(THREADS),
    key("num.replica.fetchers", Int, "1", "Threads that fetch from each other broker.")
        .min(1)
        .cluster_wide()
        .no_effect(REPL),
    key(
        "offset.metadata.max.bytes",
        Int,
        "4096",
        "Largest text that a client may store with a committed offset.",
    ),
    key("offsets.commit.timeout.ms", Int, "5000", "Longest wait for a commit of offsets to become durable.")
        .min(1)
        .no_effect(COMMIT),
    key("offsets.load.buffer.size", Int, "5242880", "Bytes read at once when offsets are loaded.")
        .min(1)
        .no_effect(COMMIT),
    key(
        "offsets.retention.check.interval.ms",
        Long,
        "600000",
        "Time between two searches for expired offsets.",
    )
    .min(1),
    key("offsets.retention.minutes", Int, "10080", "Time that offsets of a group without members are kept.")
        .min(1),
    key("offsets.topic.compression.codec", Int, "0", "Compression of the records of __consumer_offsets.")
        .no_effect(COMMIT),
    key("offsets.topic.num.partitions", Int, "50", "Partitions of __consumer_offsets.").min(1),
    key("offsets.topic.replication.factor", Short, "3", "Replicas of __consumer_offsets.")
        .min(1)
        .no_effect(INTERNALRF),
    key("offsets.topic.segment.bytes", Int, "104857600", "Size of a segment of __consumer_offsets.")
        .min(1)
        .no_effect(COMMIT),
    key(
        "principal.builder.class",
        Class,
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        "Class that turns a connection into a principal.",
    )
    .per_broker()
    .no_effect(JAVA),
    key("process.roles", List, "broker,controller", "Roles of this process: broker, controller or both.")
        .check(Validator::List { values: &["broker", "controller"], empty_allowed: false })
        .no_effect(QUORUM),
    key(
        "producer.id.expiration.check.interval.ms",
        Int,
        "600000",
        "Time between two searches for expired producer ids.",
    )
    .min(1)
    .internal()
    .no_effect(INTERVAL),
    key("producer.id.expiration.ms", Int, "86400000", "Time that an idle producer id is remembered.")
        .min(1)
        .cluster_wide(),
    key(
        "producer.purgatory.purge.interval.requests",
        Int,
        "1000",
        "Requests between two clean-ups of waiting produce requests.",
    )
    .no_effect(PURGATORY),
    key(
        "queued.max.request.bytes",
        Long,
        "-1",
        "Memory for requests that wait or are handled; -1 is a quarter of the machine's memory.",
    ),
    key("queued.max.requests", Int, "500", "Requests that may wait for a handler thread.")
        .min(1)
        .no_effect(THREADS),
    key("quota.window.num", Int, "11", "Number of samples kept for quotas of clients.")
        .min(1),
    key("quota.window.size.seconds", Int, "1", "Length of a sample of quotas of clients.")
        .min(1),
    key("remote.fetch.max.wait.ms", Int, "500", "Longest wait for data of the second tier.")
        .min(1)
        .cluster_wide(),
    key(
        "remote.list.offsets.request.timeout.ms",
        Long,
        "30000",
        "Longest wait for offsets of the second tier.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(TIER),
    key(
        "remote.log.index.file.cache.total.size.bytes",
        Long,
        "1073741824",
        "Disk space for indexes fetched from the second tier.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(TIER),
    key(
        "remote.log.index.file.cache.ttl.ms",
        Long,
        "900000",
        "Time an unused index of the second tier stays cached.",
    )
    .min(-1)
    .internal()
    .no_effect(TIER),
    key("remote.log.manager.copier.thread.pool.size", Int, "10", "Threads that copy to the second tier.")
        .min(1)
        .cluster_wide()
        .no_effect(TIER),
    key(
        "remote.log.manager.copy.max.bytes.per.second",
        Long,
        "9223372036854775807",
        "Bytes per second copied to the second tier.",
    )
    .min(1)
    .cluster_wide(),
    key("remote.log.manager.copy.quota.window.num", Int, "11", "Number of samples kept for the copy quota.")
        .min(1)
        .no_effect(TIER),
    key(
        "remote.log.manager.copy.quota.window.size.seconds",
        Int,
        "1",
        "Length of a sample of the copy quota.",
    )
    .min(1)
    .no_effect(TIER),
    key(
        "remote.log.manager.expiration.thread.pool.size",
        Int,
        "10",
        "Threads that delete from the second tier.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(TIER),
    key(
        "remote.log.manager.fetch.max.bytes.per.second",
        Long,
        "9223372036854775807",
        "Bytes per second fetched from the second tier.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(TIER),
    key(
        "remote.log.manager.fetch.quota.window.num",
        Int,
        "11",
        "Number of samples kept for the fetch quota.",
    )
    .min(1)
    .no_effect(TIER),
    key(
        "remote.log.manager.fetch.quota.window.size.seconds",
        Int,
        "1",
        "Length of a sample of the fetch quota.",
    )
    .min(1)
    .no_effect(TIER),
    key(
        "remote.log.manager.follower.thread.pool.size",
        Int,
        "2",
        "Threads that follow the second tier for follower partitions.",
    )
    .min(1)
    .cluster_wide()
    .no_effect(TIER),
    key("remote.log.manager.task.interval.ms", Long, "30000", "Time between two rounds of copying.")
        .min(1),
    key(
        "remote.log.manager.task.retry.backoff.max.ms",
        Long,
        "30000",
        "Longest pause before a failed copy is tried again.",
    )
    .min(1)
    .internal()
    .no_effect(TIER),
    key(
        "remote.log.manager.task.retry.backoff.ms",
        Long,
        "500",
        "First pause before a failed copy is tried again.",
    )
    .min(1)
    .internal()
    .no_effect(TIER),
    key(
        "remote.log.manager.task.retry.jitter",
        Double,
        "0.2",
        "Random part of the pause before another try.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 0.5 })
    .internal()
    .no_effect(TIER),
    key("remote.log.manager.thread.pool.size", Int, "2", "Threads that schedule work on the second tier.")
        .min(1)
        .no_effect(TIER),
    key(
        "remote.log.metadata.custom.metadata.max.bytes",
        Int,
        "128",
        "Largest private note a storage plugin may keep per segment.",
    )
    .min(0)
    .no_effect(TIER),
    key(
        "remote.log.metadata.manager.class.name",
        String,
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "Class that keeps the list of remote segments.",
    )
    .check(Validator::NotEmpty)
    .no_effect(JAVA),
    key("remote.log.metadata.manager.class.path", String, "", "Where that class is loaded from.")
        .null()
        .no_effect(JAVA),
    key(
        "remote.log.metadata.manager.impl.prefix",
        String,
        "rlmm.config.",
        "Prefix of the settings passed to that class.",
    )
    .check(Validator::NotEmpty)
    .no_effect(TIER),
    key(
        "remote.log.metadata.manager.listener.name",
        String,
        "",
        "Listener that this class uses to talk to brokers.",
    )
    .null()
    .check(Validator::NotEmpty)
    .no_effect(TIER),
    key("remote.log.reader.max.pending.tasks", Int, "100", "Reads of the second tier under way at once; those beyond wait.")
        .min(1),
    key("remote.log.reader.threads", Int, "10", "Threads that read from the second tier.")
        .min(1)
        .cluster_wide()
        .no_effect(TIER),
    key(
        "remote.log.storage.manager.class.name",
        String,
        "",
        "Class that stores segments in the second tier.",
    )
    .null()
    .check(Validator::NotEmpty)
    .no_effect(JAVA),
    key("remote.log.storage.manager.class.path", String, "", "Where that class is loaded from.")
        .null()
        .no_effect(JAVA),
    key(
        "remote.log.storage.manager.impl.prefix",
        String,
        "rsm.config.",
        "Prefix of the settings passed to that class.",
    )
    .check(Validator::NotEmpty)
    .no_effect(TIER),
    key("remote.log.storage.system.enable", Boolean, "false", "Switches tiered storage on; where it lies says remote.log.storage.url."),
    key(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        Long,
        "",
        "Bytes per second that moves between directories may use.",
    )
    .null()
    .min(0)
    .cluster_wide()
    .internal()
    .no_effect(DIRS),
    key("replica.fetch.backoff.ms", Int, "1000", "Pause of a follower after a failed fetch.")
        .min(0)
        .no_effect(REPL),
    key("replica.fetch.max.bytes", Int, "1048576", "Bytes a follower asks for per partition.")
        .min(0)
        .no_effect(REPL),
    key("replica.fetch.min.bytes", Int, "1", "Bytes a follower waits for.").no_effect(REPL),
    key("replica.fetch.response.max.bytes", Int, "10485760", "Bytes of one answer to a follower.")
        .min(0)
        .no_effect(REPL),
    key("replica.fetch.wait.max.ms", Int, "500", "Longest wait of a follower's fetch.").no_effect(REPL),
    key(
        "replica.high.watermark.checkpoint.interval.ms",
        Long,
        "5000",
        "Time between two checkpoints of high watermarks.",
    )
    .no_effect(REPL),
    key("replica.lag.time.max.ms", Long, "30000", "Lag after which a follower leaves the in-sync set.")
        .no_effect(REPL),
    key("replica.selector.class", String, "", "Class that picks the replica a consumer reads from.")
        .null()
        .no_effect(
            "it names Java code. In a bucket leaders send consumers to a live broker of their `client.rack` by themselves, as Kafka's \
             RackAwareReplicaSelector does; in a directory there is no other broker",
        ),
    key("replica.socket.receive.buffer.bytes", Int, "65536", "Receive buffer of follower connections.")
        .no_effect(REPL),
    key("replica.socket.timeout.ms", Int, "30000", "Time-out of follower connections.").no_effect(REPL),
    key("replication.quota.window.num", Int, "11", "Number of samples kept for replication quotas.")
        .min(1)
        .no_effect(REPL),
    key("replication.quota.window.size.seconds", Int, "1", "Length of a sample of replication quotas.")
        .min(1)
        .no_effect(REPL),
    key("request.timeout.ms", Int, "30000", "Longest wait for an answer between brokers.").no_effect(CLUSTER),
    key(
        "sasl.client.callback.handler.class",
        Class,
        "",
        "Class that answers SASL questions on the client's side.",
    )
    .null()
    .no_effect(JAVA),
    key("sasl.enabled.mechanisms", List, "GSSAPI", "SASL mechanisms that are switched on.")
        .list()
        .per_broker(),
    key("sasl.jaas.config", Password, "", "Login data of a SASL mechanism.")
        .null()
        .per_broker(),
    key("sasl.kerberos.kinit.cmd", String, "/usr/bin/kinit", "Path of the kinit command.")
        .per_broker()
        .no_effect(KERBEROS),
    key("sasl.kerberos.min.time.before.relogin", Long, "60000", "Shortest time between two Kerberos logins.")
        .per_broker()
        .no_effect(KERBEROS),
    key(
        "sasl.kerberos.principal.to.local.rules",
        List,
        "DEFAULT",
        "Rules that turn Kerberos principals into short names.",
    )
    .list()
    .per_broker()
    .no_effect(KERBEROS),
    key("sasl.kerberos.service.name", String, "", "Kerberos name of the service.")
        .null()
        .per_broker()
        .no_effect(KERBEROS),
    key(
        "sasl.kerberos.ticket.renew.jitter",
        Double,
        "0.05",
        "Random part of the time before a ticket is renewed.",
    )
    .per_broker()
    .no_effect(KERBEROS),
    key(
        "sasl.kerberos.ticket.renew.window.factor",
        Double,
        "0.8",
        "Share of a ticket's life after which it is renewed.",
    )
    .per_broker()
    .no_effect(KERBEROS),
    key("sasl.login.callback.handler.class", Class, "", "Class that gives login data.")
        .null()
        .no_effect(JAVA),
    key("sasl.login.class", Class, "", "Class that logs in.").null().no_effect(JAVA),
    key("sasl.login.connect.timeout.ms", Int, "", "Longest wait for a connection to the token provider.")
        .null()
        .no_effect(PROVIDER),
    key("sasl.login.read.timeout.ms", Int, "", "Longest wait for an answer of the token provider.")
        .null()
        .no_effect(PROVIDER),
    key(
        "sasl.login.refresh.buffer.seconds",
        Short,
        "300",
        "Time before its end at which a token is refreshed at the latest.",
    )
    .per_broker()
    .no_effect(PROVIDER),
    key("sasl.login.refresh.min.period.seconds", Short, "60", "Shortest time before a token is refreshed.")
        .per_broker()
        .no_effect(PROVIDER),
    key(
        "sasl.login.refresh.window.factor",
        Double,
        "0.8",
        "Share of a token's life after which it is refreshed.",
    )
    .per_broker()
    .no_effect(PROVIDER),
    key(
        "sasl.login.refresh.window.jitter",
        Double,
        "0.05",
        "Random part of the time before a token is refreshed.",
    )
    .per_broker()
    .no_effect(PROVIDER),
    key(
        "sasl.login.retry.backoff.max.ms",
        Long,
        "10000",
        "Longest pause between two logins at the token provider.",
    )
    .no_effect(PROVIDER),
    key("sasl.login.retry.backoff.ms", Long, "100", "First pause between two logins at the token provider.")
        .no_effect(PROVIDER),
    key("sasl.mechanism.controller.protocol", String, "GSSAPI", "SASL mechanism for talking to controllers.")
        .no_effect(QUORUM),
    key("sasl.mechanism.inter.broker.protocol", String, "GSSAPI", "SASL mechanism between brokers.")
        .per_broker()
        .no_effect(CLUSTER),
    key(
        "sasl.oauthbearer.allow.unverified.audience",
        Boolean,
        "false",
        "Accepts tokens whose audience is not checked.",
    )
    .no_effect(VERIFIED),
    key(
        "sasl.oauthbearer.allow.unverified.issuer",
        Boolean,
        "false",
        "Accepts tokens whose issuer is not checked.",
    )
    .no_effect(VERIFIED),
    key(
        "sasl.oauthbearer.assertion.algorithm",
        String,
        "RS256",
        "Algorithm that signs the assertion of a token request.",
    )
    .check(Validator::OneOfIgnoreCase(&["ES256", "RS256"]))
    .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.claim.aud", String, "", "Audience claim of the assertion.")
        .null()
        .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.claim.exp.seconds", Int, "300", "Life of the assertion.")
        .range(0, 86400)
        .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.claim.iss", String, "", "Issuer claim of the assertion.")
        .null()
        .no_effect(PROVIDER),
    key(
        "sasl.oauthbearer.assertion.claim.jti.include",
        Boolean,
        "false",
        "Whether the assertion carries an id of its own.",
    )
    .no_effect(PROVIDER),
    key(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Int,
        "60",
        "How far in the past the assertion becomes valid.",
    )
    .range(0, 3600)
    .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.claim.sub", String, "", "Subject claim of the assertion.")
        .null()
        .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.file", String, "", "File with a ready assertion.").null().no_effect(PROVIDER),
    key(
        "sasl.oauthbearer.assertion.private.key.file",
        String,
        "",
        "File with the key that signs the assertion.",
    )
    .null()
    .no_effect(PROVIDER),
    key("sasl.oauthbearer.assertion.private.key.passphrase", Password, "", "Passphrase of that key.")
        .null()
        .no_effect(PROVIDER),
    key(
        "sasl.oauthbearer.assertion.template.file",
        String,
        "",
        "File with headers and claims for the assertion.",
    )
    .null()
    .no_effect(PROVIDER),
    key("sasl.oauthbearer.client.credentials.client.id", String, "", "Client id for the token provider.")
        .null()
        .no_effect(PROVIDER),
    key(
        "sasl.oauthbearer.client.credentials.client.secret",
        Password,
        "",
        "Client secret for the token provider.",
    )
    .null()
    .no_effect(PROVIDER),
    key("sasl.oauthbearer.clock.skew.seconds", Int, "30", "Difference of clocks that token checks allow."),
    key("sasl.oauthbearer.expected.audience", List, "", "Audiences a token must name one of.")
        .list(),
    key("sasl.oauthbearer.expected.issuer", String, "", "Issuer a token must name.").null(),
    key(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        Long,
        "3600000",
        "Time between two fetches of the provider's keys.",
    ),
    key(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Long,
        "10000",
        "Longest pause before the keys are fetched again.",
    ),
    key(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        Long,
        "100",
        "First pause before the keys are fetched again.",
    ),
    key("sasl.oauthbearer.jwks.endpoint.url", String, "", "Where the provider's keys are.")
        .null(),
    key(
        "sasl.oauthbearer.jwt.retriever.class",
        Class,
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        "Class that gets tokens.",
    )
    .no_effect(JAVA),
    key(
        "sasl.oauthbearer.jwt.validator.class",
        Class,
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        "Class that checks tokens.",
    )
    .no_effect(JAVA),
    key("sasl.oauthbearer.scope", String, "", "Scope to ask the token provider for.").null().no_effect(PROVIDER),
    key("sasl.oauthbearer.scope.claim.name", String, "scope", "Claim that holds the scope.").no_effect(SCOPES),
    key("sasl.oauthbearer.sub.claim.name", String, "sub", "Claim that holds the subject."),
    key("sasl.oauthbearer.token.endpoint.url", String, "", "Where tokens are fetched.")
        .null()
        .no_effect(PROVIDER),
    key("sasl.server.callback.handler.class", Class, "", "Class that checks SASL data on the server's side.")
        .null()
        .no_effect(JAVA),
    key("sasl.server.max.receive.size", Int, "524288", "Largest SASL message before authentication.")
        .no_effect(PREAUTH),
    key("security.inter.broker.protocol", String, "PLAINTEXT", "Security protocol between brokers.")
        .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
        .no_effect(CLUSTER),
    key("security.providers", String, "", "Java security providers.").null().no_effect(JAVA),
    key("server.max.startup.time.ms", Long, "9223372036854775807", "Time after which a start is given up.")
        .min(0)
        .internal()
        .no_effect(START),
    key(
        "share.coordinator.append.linger.ms",
        Int,
        "-1",
        "Time the share coordinator gathers records for one write.",
    )
    .min(-1)
    .no_effect(COMMIT),
    key(
        "share.coordinator.cached.buffer.max.bytes",
        Int,
        "1048588",
        "Largest buffer that the share coordinator keeps for reuse.",
    )
    .min(524288)
    .cluster_wide()
    .no_effect(COMMIT),
    key(
        "share.coordinator.cold.partition.snapshot.interval.ms",
        Int,
        "300000",
        "Time between two snapshots of idle share partitions.",
    )
    .min(1)
    .internal()
    .no_effect(SHARE_SNAPSHOT),
    key(
        "share.coordinator.load.buffer.size",
        Int,
        "5242880",
        "Bytes read at once when share state is loaded.",
    )
    .min(1)
    .no_effect(SHARE_LOAD),
    key(
        "share.coordinator.snapshot.update.records.per.snapshot",
        Int,
        "500",
        "Updates of share state between two snapshots.",
    )
    .range(0, 500),
    key(
        "share.coordinator.state.topic.compression.codec",
        Int,
        "0",
        "Compression of the records of __share_group_state.",
    )
    .no_effect(SHARE_CODEC),
    key(
        "share.coordinator.state.topic.min.isr",
        Short,
        "2",
        "In-sync replicas that __share_group_state needs.",
    )
    .min(1)
    .no_effect(INSYNC),
    key("share.coordinator.state.topic.num.partitions", Int, "50", "Partitions of __share_group_state.")
        .min(1),
    key(
        "share.coordinator.state.topic.prune.interval.ms",
        Int,
        "300000",
        "Time between two trims of __share_group_state.",
    )
    .min(1)
    .internal()
    .no_effect(SHARE_SNAPSHOT),
    key("share.coordinator.state.topic.replication.factor", Short, "3", "Replicas of __share_group_state.")
        .min(1)
        .no_effect(INTERNALRF),
    key(
        "share.coordinator.state.topic.segment.bytes",
        Int,
        "104857600",
        "Size of a segment of __share_group_state.",
    )
    .min(1)
    .no_effect(SEGMENT),
    key("share.coordinator.threads", Int, "1", "Threads of the share coordinator.").min(1).no_effect(THREADS),
    key("share.coordinator.write.timeout.ms", Int, "5000", "Longest wait for share state to become durable.")
        .min(1),
    key(
        "share.fetch.purgatory.purge.interval.requests",
        Int,
        "1000",
        "Requests between two clean-ups of waiting share fetches.",
    )
    .no_effect(PURGATORY),
    key(
        "socket.connection.setup.timeout.max.ms",
        Long,
        "30000",
        "Longest wait for a connection to another broker.",
    )
    .no_effect(CLUSTER),
    key(
        "socket.connection.setup.timeout.ms",
        Long,
        "10000",
        "First wait for a connection to another broker.",
    )
    .no_effect(CLUSTER),
    key("socket.listen.backlog.size", Int, "50", "Connections that may wait to be accepted.")
        .min(1)
        .no_effect(SOCKET),
    key(
        "socket.receive.buffer.bytes",
        Int,
        "102400",
        "Receive buffer of client connections; -1 leaves it to the system.",
    )
    .no_effect(SOCKET),
    key("socket.request.max.bytes", Int, "104857600", "Largest request that is accepted.").min(1),
    key(
        "socket.send.buffer.bytes",
        Int,
        "102400",
        "Send buffer of client connections; -1 leaves it to the system.",
    )
    .no_effect(SOCKET),
    key("ssl.allow.dn.changes", Boolean, "false", "Lets a new certificate have another distinguished name.")
        .no_effect(RELOAD),
    key("ssl.allow.san.changes", Boolean, "false", "Lets a new certificate have other alternative names.")
        .no_effect(RELOAD),
    key("ssl.cipher.suites", List, "", "Cipher suites that are allowed.").list().per_broker().no_effect(RUSTLS),
    key("ssl.client.auth", String, "none", "Whether clients must show a certificate.")
        .one_of(&["required", "requested", "none"])
        .per_broker(),
    key("ssl.enabled.protocols", List, "TLSv1.2,TLSv1.3", "TLS versions that are allowed.")
        .list()
        .per_broker(),
    key(
        "ssl.endpoint.identification.algorithm",
        String,
        "https",
        "How the name in a server's certificate is checked.",
    )
    .per_broker()
    .no_effect(CLUSTER_TLS),
    key("ssl.engine.factory.class", Class, "", "Class that makes TLS engines.")
        .null()
        .per_broker()
        .no_effect(JAVA),
    key("ssl.key.password", Password, "", "Password of the private key.").null().per_broker().no_effect(PEM),
    key("ssl.keymanager.algorithm", String, "SunX509", "Java algorithm of key managers.")
        .per_broker()
        .no_effect(JAVA),
    key("ssl.keystore.certificate.chain", Password, "", "Certificate chain as PEM text.")
        .null()
        .per_broker(),
    key("ssl.keystore.key", Password, "", "Private key as PEM text.").null().per_broker(),
    key("ssl.keystore.location", String, "", "File of the key store.").null().per_broker(),
    key("ssl.keystore.password", Password, "", "Password of the key store.")
        .null()
        .per_broker()
        .no_effect(PEM),
    key("ssl.keystore.type", String, "JKS", "Format of the key store.").per_broker(),
    key(
        "ssl.principal.mapping.rules",
        String,
        "DEFAULT",
        "Rules that turn certificate names into principals.",
    ),
    key("ssl.protocol", String, "TLSv1.3", "TLS version to start with.").per_broker().no_effect(RUSTLS),
    key("ssl.provider", String, "", "Java security provider for TLS.").null().per_broker().no_effect(JAVA),
    key("ssl.secure.random.implementation", String, "", "Java source of randomness for TLS.")
        .null()
        .per_broker()
        .no_effect(JAVA),
    key("ssl.trustmanager.algorithm", String, "PKIX", "Java algorithm of trust managers.")
        .per_broker()
        .no_effect(JAVA),
    key("ssl.truststore.certificates", Password, "", "Trusted certificates as PEM text.")
        .null()
        .per_broker(),
    key("ssl.truststore.location", String, "", "File of the trust store.").null().per_broker(),
    key("ssl.truststore.password", Password, "", "Password of the trust store.")
        .null()
        .per_broker()
        .no_effect(PEM),
    key("ssl.truststore.type", String, "JKS", "Format of the trust store.").per_broker(),
    key("telemetry.max.bytes", Int, "1048576", "Largest push of client metrics.").min(1),
    key(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Int,
        "10000",
        "Time between two searches for transactions that timed out.",
    )
    .min(1)
    .no_effect(TXN_TIMES),
    key("transaction.max.timeout.ms", Int, "900000", "Longest time-out a transaction may ask for.")
        .min(1),
    key(
        "transaction.partition.verification.enable",
        Boolean,
        "true",
        "Checks that a partition belongs to the running transaction before a write.",
    )
    .cluster_wide()
    .no_effect(TXN_VERIFIED),
    key(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Int,
        "3600000",
        "Time between two searches for expired transactional ids.",
    )
    .min(1),
    key(
        "transaction.state.log.load.buffer.size",
        Int,
        "5242880",
        "Bytes read at once when transaction state is loaded.",
    )
    .min(1)
    .no_effect(TXN_LOAD),
    key("transaction.state.log.min.isr", Int, "2", "In-sync replicas that __transaction_state needs.")
        .min(1)
        .no_effect(INSYNC),
    key("transaction.state.log.num.partitions", Int, "50", "Partitions of __transaction_state.")
        .min(1),
    key("transaction.state.log.replication.factor", Short, "3", "Replicas of __transaction_state.")
        .min(1)
        .no_effect(INTERNALRF),
    key("transaction.state.log.segment.bytes", Int, "104857600", "Size of a segment of __transaction_state.")
        .min(1)
        .no_effect(SEGMENT),
    key(
        "transaction.two.phase.commit.enable",
        Boolean,
        "false",
        "Lets transactions take part in a two-phase commit.",
    )
    .no_effect(UNSTABLE),
    key(
        "transactional.id.expiration.ms",
        Int,
        "604800000",
        "Time that an idle transactional id is remembered.",
    )
    .min(1),
    key(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "Lets a replica lead that may lack acknowledged records.",
    )
    .cluster_wide()
    .no_effect(UNCLEAN),
    key(
        "unclean.leader.election.interval.ms",
        Long,
        "300000",
        "Time between two looks for partitions that need an unclean leader.",
    )
    .min(1)
    .internal()
    .no_effect(UNCLEAN),
    key("unstable.api.versions.enable", Boolean, "false", "Switches on API versions that are still in work.")
        .internal()
        .no_effect(UNSTABLE),
    key(
        "unstable.feature.versions.enable",
        Boolean,
        "false",
        "Switches on feature levels that are still in work.",
    )
    .internal()
    .no_effect(UNSTABLE),
];
