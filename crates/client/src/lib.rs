//! A Kafka client in pure Rust: producer, consumer, admin. A public crate; the `ottla` verbs are built on it.
//!
//! Owns: connections (pipelined, with deadlines), the metadata cache, retries, partitioning, batching, group
//! membership. Works over any [`Transport`]: TCP, TLS and SASL, or in-process straight into a broker.
//! Never sees: the broker and what is below it; it knows Kafka's protocol and nothing else.
//! Start reading at `transport.rs` (how frames travel), `connection.rs` (one connection), `cluster.rs` (which
//! broker to ask), then `producer.rs`, `consumer.rs` or `admin.rs`.
//!
//! ```no_run
//! use client::{Client, ClientOptions, ConsumerOptions, OffsetReset, ProducerOptions, Record};
//! # async fn example() -> Result<(), client::Error> {
//! let client = Client::new(ClientOptions::new(["127.0.0.1:9092"]));
//!
//! let producer = client.producer(ProducerOptions::default()).await?;
//! let delivery = producer.send(Record::to("clicks").key("user-1").value("start")).await?;
//! println!("stored at {}", delivery.await?.offset);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer(ConsumerOptions::group("readers").offset_reset(OffsetReset::Earliest))?;
//! consumer.subscribe(["clicks"])?;
//! for record in consumer.poll(std::time::Duration::from_secs(1)).await? {
//!     println!("{}-{} @ {}: {:?}", record.topic, record.partition, record.offset, record.value);
//! }
//! consumer.close().await?;
//! # Ok(()) }
//! ```

mod admin;
mod cluster;
mod connection;
mod consumer;
mod error;
mod partitioner;
mod producer;
mod retry;
mod security;
mod transport;

pub use admin::{
    Admin, AlterConfig, AlterOperation, BrokerInfo, ClusterInfo, ConfigEntry, ConfigResource, ConfigSynonym,
    CreatedTopic, Feature, GroupDescription, GroupListing, GroupMember, LogDir, LogDirPartition, NewTopic,
    Resource,
};
pub use cluster::{Broker, Client, ClientOptions, Cluster, PartitionInfo, TopicInfo};
pub use consumer::{
    Consumer, ConsumerOptions, Isolation, OffsetAndMetadata, OffsetAndTimestamp, OffsetReset, OffsetSpec,
    RebalanceListener, Received,
    assignor::{Assignor, AssignorKind},
};
pub use error::Error;
pub use partitioner::{Partitioner, murmur2, partition_for_key};
pub use producer::{Acks, Delivered, Delivery, Producer, ProducerOptions, Record};
pub use protocol::batch::Header;
pub use protocol::compression::Compression;
pub use protocol::{ErrorCode, Str, Uuid};
pub use security::{Bearer, Sasl, ScramMechanism, SecureTransport, Tls, TlsError};
pub use transport::{Channel, FrameReceiver, FrameSender, TcpTransport, Transport};

/// A topic and the number of one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Str,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Str>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
