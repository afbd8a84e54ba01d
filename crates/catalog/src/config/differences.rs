//! Where the table differs from the one of Apache Kafka 4.4, each with its reason. A test compares the rest.

/// (broker or topic key, reason) whose default is another one.
pub const DEFAULTS: &[(&str, &str)] = &[
    ("controller.listener.names", "required by Kafka, meaningless here"),
    ("group.consumer.max.size", "every limit has a bound: 10,000 members"),
    ("group.max.size", "every limit has a bound: 10,000 members"),
    ("listeners", "plain TCP stays on loopback unless told otherwise"),
    ("log.dir", "the directory is ./ottla-data"),
    ("max.connections", "every limit has a bound: 10,000 connections"),
    ("max.decompressed.message.bytes", "a batch may not take 2 GiB of memory: 128 MiB"),
    ("max.incremental.fetch.session.cache.slots", "10,000 fetch sessions"),
    ("node.id", "required by Kafka; a directory broker is 1"),
    ("process.roles", "required by Kafka, meaningless here"),
];
