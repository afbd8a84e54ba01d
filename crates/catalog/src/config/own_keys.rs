//! Keys of Ottla that Kafka does not have, sorted by name: what has no counterpart there, and the limits of
//! design §6.

use super::key::ConfigType::*;
use super::key::{ConfigKey, Validator, key};

pub static OWN_KEYS: &[ConfigKey] = &[
    key("admin.address", String, "127.0.0.1:8080", "Address of metrics and health over HTTP.").ours(),
    // Kafka's authorizer reads these two, so they are not in Kafka's table.
    key(
        "allow.everyone.if.no.acl.found",
        Boolean,
        "",
        "Whether anybody may do anything with a resource that no ACL names. Not set: true while every listener is plain and on a loopback \
         address, where nobody from outside comes and nobody says who he is; else false.",
    )
    .null()
    .ours(),
    key(
        "bucket.backlog.slots.max",
        Long,
        "4096",
        "Data in a bucket: with more commits of this broker that are not rewritten into segments yet, the next ones wait, the longer the \
         more there are; nothing is refused. Whoever opens partitions has to know of all of them.",
    )
    .min(512)
    .ours(),
    key(
        "bucket.cache.bytes",
        Long,
        "10737418240",
        "Data in a bucket: how much bucket.cache.dir may take. What was not read for longest goes first.",
    )
    .min(64 << 20)
    .ours(),
    key(
        "bucket.cache.dir",
        String,
        "",
        "Data in a bucket: a directory for pieces of segments that consumers have read, so that they are fetched and paid for once, also \
         across restarts. One broker each. What is in it may be lost or removed at any time. Without it a broker leaves no file on its disk.",
    )
    .null()
    .ours(),
    key(
        "bucket.follow.interval.ms",
        Long,
        "500",
        "Data in a bucket: how often a broker looks for what others have changed in the metadata and, while consumers read there from \
         partitions that others lead, for what their leaders have written. The store charges for each look.",
    )
    .min(10)
    .ours(),
    key(
        "bucket.lease.ttl.ms",
        Long,
        "6000",
        "Data in a bucket: a broker that has not renewed its lease for so long is taken over from by the others. A lease is renewed \
         three times in that time; the store charges for it. The same for all brokers of a cluster.",
    )
    .min(500)
    .ours(),
    key(
        "bucket.linger.max.ms",
        Long,
        "1000",
        "Data in a bucket: how long a commit waits for more records at most, when bucket.puts.per.second is spent.",
    )
    .min(0)
    .ours(),
    key(
        "bucket.linger.ms",
        Long,
        "50",
        "Data in a bucket: how long a commit waits for more records at least; a full one is sent at once.",
    )
    .min(0)
    .ours(),
    key(
        "bucket.object.bytes",
        Int,
        "8388608",
        "Data in a bucket: a commit is full when it is this long. One record batch may be longer.",
    )
    .min(1 << 16)
    .ours(),
    key(
        "bucket.price.delete",
        Double,
        "0.0",
        "Data in a bucket: what the store charges for a million DELETE requests, for the estimate ottla_bucket_cost_month. The currency is yours; the defaults are the list prices of S3 Standard in us-east-1, in dollars.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1e9 })
    .ours(),
    key(
        "bucket.price.get",
        Double,
        "0.4",
        "Data in a bucket: what the store charges for a million GET requests, for the estimate ottla_bucket_cost_month.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1e9 })
    .ours(),
    key(
        "bucket.price.gib.month",
        Double,
        "0.023",
        "Data in a bucket: what the store charges for a GiB for a month, for the estimate ottla_bucket_cost_month.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1e9 })
    .ours(),
    key(
        "bucket.price.list",
        Double,
        "5.0",
        "Data in a bucket: what the store charges for a million LIST requests, for the estimate ottla_bucket_cost_month.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1e9 })
    .ours(),
    key(
        "bucket.price.put",
        Double,
        "5.0",
        "Data in a bucket: what the store charges for a million PUT requests, for the estimate ottla_bucket_cost_month.",
    )
    .check(Validator::DoubleRange { min: 0.0, max: 1e9 })
    .ours(),
    key(
        "bucket.puts.per.second",
        Int,
        "4",
        "Data in a bucket: commits that are not full, per second on the average. The store charges for each of them; two seconds' worth \
         may be saved up in quiet times.",
    )
    .min(1)
    .ours(),
    key(
        "bucket.replaced.keep.ms",
        Long,
        "600000",
        "Data in a bucket: an object in whose place others are stays so long, for readers who learnt of it a moment before.",
    )
    .min(0)
    .ours(),
    key(
        "bucket.replicas.open.max",
        Int,
        "10000",
        "Data in a bucket: partitions that others lead and that a broker keeps open for consumers of its rack. The one that was not \
         read for longest is closed for another.",
    )
    .min(1)
    .ours(),
    key(
        "bucket.segment.bytes",
        Long,
        "268435456",
        "Data in a bucket: small segments are merged into ones of about this size. A broker has one in memory while it makes it, and \
         retention removes what a partition has in one of them as a whole.",
    )
    .min(1 << 20)
    .ours(),
    key(
        "bucket.urgent.flush.ms",
        Long,
        "25",
        "Data in a bucket: what ends a transaction waits less for more records; it is sent so long after the commit before, as long \
         as bucket.puts.per.second has one left.",
    )
    .min(0)
    .ours(),
    key(
        "cluster.acls.max",
        Int,
        "100000",
        "Most ACLs of the cluster; a request that would go beyond is refused.",
    )
    .min(0)
    .ours(),
    key(
        "cluster.partitions.max",
        Int,
        "100000",
        "Most partitions of the cluster; a topic that would go beyond is refused.",
    )
    .min(1)
    .ours(),
    key(
        "connection.handshake.timeout.ms",
        Int,
        "10000",
        "Closes a connection that has not sent its first complete request, or not authenticated, by then.",
    )
    .min(1)
    .ours(),
    key(
        "connection.unauthenticated.creation.rate.per.ip",
        Int,
        "200",
        "New unauthenticated connections per second from one address; loopback is exempt.",
    )
    .min(1)
    .ours(),
    key(
        "connection.unauthenticated.max.per.ip",
        Int,
        "1000",
        "Unauthenticated connections from one address; loopback is exempt.",
    )
    .min(1)
    .ours(),
    key(
        "coordinators.memory.max.bytes",
        Long,
        "-1",
        "Memory for groups, their members and offsets, for transactions and for share partitions; what would go beyond is refused. -1 takes an eighth of the \
         machine's memory, 64 MiB at least.",
    )
    .min(-1)
    .ours(),
    key(
        "group.member.metadata.max.bytes",
        Int,
        "1048576",
        "Largest subscription and assignment of a member of a group.",
    )
    .min(1)
    .ours(),
    key(
        "log.cache.bytes",
        Long,
        "-1",
        "Memory for the newest chunks of the log, from which tail reads are served. -1 takes 1/64 of the machine's memory, from 128 MiB \
         to 256 MiB; 0 keeps only the newest chunk.",
    )
    .min(-1)
    .ours(),
    key(
        "log.disk.reserve.bytes",
        Long,
        "134217728",
        "Free disk space below which produce is refused, so that rewriting can always free space.",
    )
    .min(0)
    .ours(),
    key(
        "log.sync",
        String,
        "commit",
        "commit acknowledges a record when it is durable; interval acknowledges first and syncs every \
         log.sync.interval.ms, so a power cut may lose acknowledged records.",
    )
    .one_of(&["commit", "interval"])
    .ours(),
    key("log.sync.interval.ms", Long, "100", "Time between two syncs when log.sync is interval.")
        .min(1)
        .ours(),
    key(
        "log.unflushed.max.bytes",
        Long,
        "268435456",
        "Bytes that may wait for their commit; beyond it the broker stops reading requests.",
    )
    .min(1 << 20)
    .ours(),
    key("log.wal.file.max.bytes", Long, "268435456", "Largest size of a file of the write-ahead log.")
        .min(1 << 20)
        .ours(),
    key(
        "log.wal.file.min.bytes",
        Long,
        "16777216",
        "Size of the first file of the write-ahead log; each next one doubles up to the largest.",
    )
    .min(1 << 20)
    .ours(),
    key(
        "producer.ids.max",
        Int,
        "100000",
        "Live producer ids; beyond it the one idle for longest is forgotten.",
    )
    .min(1)
    .ours(),
    key(
        "queued.max.response.bytes",
        Long,
        "-1",
        "Memory for answers that clients have not taken yet; beyond it nothing is begun whose answer may be long, and who takes nothing is \
         disconnected. -1 takes a quarter of the machine's memory.",
    )
    .min(-1)
    .ours(),
    key(
        "remote.log.storage.url",
        Password,
        "",
        "The bucket of the second tier: s3://BUCKET/PREFIX?endpoint=…, as --data takes it. It may hold secrets, so it is never shown.",
    )
    .null()
    .ours(),
    key("request.partitions.max", Int, "10000", "Most partitions that one request may name.").min(1).ours(),
    key(
        "super.users",
        String,
        "",
        "Principals that may do everything whatever the ACLs say, separated by semicolons: User:admin;User:CN=ops,O=Example.",
    )
    .ours(),
];
