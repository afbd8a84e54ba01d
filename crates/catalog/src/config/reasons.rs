//! Why a key of Kafka has no effect in Ottla.

pub const LISTENERS: &str = "a listener opens when all is ready, its rights as well";
pub const ASSIGNOR: &str = "share groups have one assignor, the simple one";
pub const CLUSTER: &str = "how brokers of one bucket speak and make way for one another is fixed";
pub const CLUSTER_TLS: &str = "brokers know one another by their incarnations, whatever this says";
pub const COMMIT: &str = "internal topics share the group commit of the write-ahead log";
pub const COMPACT: &str = "one task compacts, one partition after the other";
pub const DIRS: &str = "a broker has one data directory";
pub const FILES: &str = "partitions share one write-ahead log and have no files of this kind";
pub const INSYNC: &str = "every acknowledged record is durable, and its one copy is always in sync";
pub const INTERNALRF: &str = "internal topics have as many replicas as there are brokers";
pub const INTERVAL: &str = "the interval is fixed";
pub const JAVA: &str = "it names Java code, which Ottla cannot load";
pub const KERBEROS: &str = "Kerberos is not supported";
pub const METRICS: &str = "metrics are always on, at /metrics of the admin address";
pub const PEM: &str = "keys and certificates are PEM files without passwords";
pub const PREAUTH: &str = "frames before authentication have 64 KiB at most";
pub const PROVIDER: &str = "it is for clients of a token provider; a broker only checks tokens";
pub const PURGATORY: &str = "waiting requests are found by an index, nothing has to be purged";
pub const OFFLOAD: &str = "assignments are computed where they are needed, within the heartbeat";
pub const QUORUM: &str = "there is no controller quorum, the metadata log needs no election";
pub const RELOAD: &str = "certificates are reloaded when their files change, whatever their names";
pub const REPL: &str = "brokers do not copy partitions from one another";
pub const RUSTLS: &str = "the TLS library has only suites and versions that are safe";
pub const SCOPES: &str = "scopes of tokens are not used";
pub const SEGMENT: &str = "the log decides itself where rewriting into segments pays";
pub const SHARE_CODEC: &str = "records of a few hundred bytes gain nothing from it";
pub const SHARE_LOAD: &str = "state is loaded in reads of a fixed size";
pub const SHARE_SNAPSHOT: &str =
    "the topic gets a snapshot of all state when it has grown, and is trimmed behind it";
pub const SOCKET: &str = "buffers and backlog of sockets are left to the operating system";
pub const START: &str = "a start takes as long as its recovery";
pub const STREAMS: &str =
    "streams groups have no warm-up tasks, as in Kafka 4.4, and copies are not spread by tags";
pub const SYNC: &str = "every commit is synced; see log.sync";
pub const THREADS: &str = "Ottla sizes its own threads and bounds memory, not queues";
pub const TIER: &str = "the second tier is built in: one task copies, and there is nothing of this kind";
pub const TIER_LAG: &str = "what is sealed is copied to the second tier at its next round";
pub const TXN_LOAD: &str = "transactions are loaded in reads of a fixed size";
pub const TXN_TIMES: &str = "a transaction ends when its time is over, nobody has to look for it";
pub const TXN_VERIFIED: &str =
    "a batch of a transaction that its coordinator does not know would hold up readers for ever";
pub const UNCLEAN: &str = "a leader always has every acknowledged record";
pub const UNSTABLE: &str = "what is not finished is not there";
pub const VERIFIED: &str = "issuer and audience of tokens are always checked";
