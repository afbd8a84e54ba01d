//! Why a key of Kafka has no effect in Ottla.

pub const AUTH: &str = "authentication and authorization are not there yet";
pub const CLUSTER: &str = "there is one broker so far";
pub const COMMIT: &str = "internal topics share the group commit of the write-ahead log";
pub const COMPACT: &str = "log compaction is not there yet";
pub const CONSUMER: &str = "groups of the new consumer protocol (KIP-848) are not there yet";
pub const DIRS: &str = "a broker has one data directory";
pub const FILES: &str = "partitions share one write-ahead log and have no files of this kind";
pub const INSYNC: &str = "every acknowledged record is durable, and its one copy is always in sync";
pub const INTERNALRF: &str = "internal topics have as many replicas as there are brokers";
pub const INTERVAL: &str = "the interval is fixed";
pub const JAVA: &str = "it names Java code, which Ottla cannot load";
pub const KERBEROS: &str = "Kerberos is not supported";
pub const METRICS: &str = "metrics are always on, at /metrics of the admin address";
pub const PURGATORY: &str = "waiting requests are found by an index, nothing has to be purged";
pub const QUORUM: &str = "there is no controller quorum, the metadata log needs no election";
pub const QUOTA: &str = "quotas are not there yet";
pub const REPL: &str = "brokers do not copy partitions from one another";
pub const SASL: &str = "SASL is not there yet";
pub const SEGMENT: &str = "the log decides itself where rewriting into segments pays";
pub const SHARE: &str = "share groups (KIP-932) are not there yet";
pub const SOCKET: &str = "buffers and backlog of sockets are left to the operating system";
pub const START: &str = "a start takes as long as its recovery";
pub const STREAMS: &str = "streams groups (KIP-1071) are not there yet";
pub const SYNC: &str = "every commit is synced; see log.sync";
pub const TELEMETRY: &str = "client metrics (KIP-714) are not there yet";
pub const THREADS: &str = "Ottla sizes its own threads and bounds memory, not queues";
pub const TIER: &str = "the second tier is built in: one task copies, and there is nothing of this kind";
pub const TIER_LAG: &str = "what is sealed is copied to the second tier at its next round";
pub const TLS: &str = "TLS is not there yet";
pub const TOKENS: &str = "delegation tokens are not there yet";
pub const TXN_LOAD: &str = "transactions are loaded in reads of a fixed size";
pub const TXN_TIMES: &str = "a transaction ends when its time is over, nobody has to look for it";
pub const TXN_VERIFIED: &str =
    "a batch of a transaction that its coordinator does not know would hold up readers for ever";
pub const UNCLEAN: &str = "a leader always has every acknowledged record";
pub const UNSTABLE: &str = "what is not finished is not there";
