//! Asking leaders for offsets: first, last, by time.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use protocol::messages::{ListOffsetsRequest, list_offsets_request};
use protocol::{ErrorCode, Str};

use super::Isolation;
use crate::TopicPartition;
use crate::cluster::{Client, Lane};
use crate::error::{Error, check};
use crate::retry::Tries;

/// Which offset is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one that is still there.
    Earliest,
    /// The one behind the last record (that the isolation level lets us see).
    Latest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record whose timestamp is this or later, in Unix milliseconds.
    Timestamp(i64),
}

impl OffsetSpec {
    fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(timestamp) => timestamp,
        }
    }
}

/// An answer to an [`OffsetSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// −1: there is no such record.
    pub offset: i64,
    /// −1 for first and last offsets.
    pub timestamp: i64,
    pub leader_epoch: Option<i32>,
}

/// A position to commit, or that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The offset of the *next* record to read.
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Str,
}

impl OffsetAndMetadata {
    pub fn new(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata { offset, leader_epoch: None, metadata: Str::default() }
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata::new(offset)
    }
}

pub(crate) type ByPartition<T> = BTreeMap<TopicPartition, Result<T, Error>>;
pub(crate) type Results<T> = Vec<(TopicPartition, Result<T, Error>)>;

pub(crate) async fn list(
    client: &Client,
    specs: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: Isolation,
) -> Result<ByPartition<OffsetAndTimestamp>, Error> {
    let partitions: Vec<TopicPartition> = specs.keys().cloned().collect();
    by_leader(client, &partitions, |node, partitions| {
        let mut topics: BTreeMap<Str, Vec<_>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic.clone()).or_default().push(
                list_offsets_request::ListOffsetsPartition {
                    partition_index: partition.partition,
                    current_leader_epoch: -1,
                    timestamp: specs[&partition].wire(),
                },
            );
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation as i8,
            topics: topics
                .into_iter()
                .map(|(name, partitions)| list_offsets_request::ListOffsetsTopic { name, partitions })
                .collect(),
            ..Default::default()
        };
        Box::pin(async move {
            let answer = client.call_node(Lane::General, node, &request, 9).await?;
            let mut results = Vec::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let key = TopicPartition::new(topic.name.detached(), partition.partition_index);
                    let found = OffsetAndTimestamp {
                        offset: partition.offset,
                        timestamp: partition.timestamp,
                        leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
                    };
                    results.push((key, check(partition.error_code, None).map(|()| found)));
                }
            }
            Ok(results)
        })
    })
    .await
}

/// Asks each partition's leader through `ask`, again for the partitions whose answer may change, until
/// `api_timeout` is over. Every partition gets a result.
pub(crate) async fn by_leader<'f, T: Send>(
    client: &'f Client,
    partitions: &[TopicPartition],
    ask: impl Fn(i32, Vec<TopicPartition>) -> BoxFuture<'f, Result<Results<T>, Error>> + Send + Sync,
) -> Result<ByPartition<T>, Error> {
    let mut tries = Tries::within(client, client.options().api_timeout);
    let mut done = BTreeMap::new();
    let mut open = partitions.to_vec();
    while !open.is_empty() {
        let mut topics: Vec<Str> = open.iter().map(|partition| partition.topic.clone()).collect();
        topics.dedup();
        let mut failures: BTreeMap<TopicPartition, Error> = BTreeMap::new();
        match client.fresh_cluster(&topics).await {
            Err(error) => failures.extend(open.iter().map(|partition| (partition.clone(), error.clone()))),
            Ok(cluster) => {
                let mut by_node: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
                for partition in &open {
                    match cluster.leader(&partition.topic, partition.partition) {
                        Some(leader) => by_node.entry(leader).or_default().push(partition.clone()),
                        None => {
                            let code = match cluster.topics.get(&partition.topic).map(|topic| topic.error) {
                                Some(code) if code != ErrorCode::None => code,
                                _ if cluster.partition(&partition.topic, partition.partition).is_some() => {
                                    ErrorCode::LeaderNotAvailable
                                }
                                _ => ErrorCode::UnknownTopicOrPartition,
                            };
                            let message = partition.to_string().into();
                            failures.insert(partition.clone(), Error::Kafka { code, message });
                        }
                    }
                }
                for (node, asked) in by_node {
                    match ask(node, asked.clone()).await {
                        Err(error) => failures.extend(asked.into_iter().map(|p| (p, error.clone()))),
                        Ok(results) => {
                            for (partition, result) in results {
                                match result {
                                    Err(error) if error.is_retriable() => {
                                        failures.insert(partition, error);
                                    }
                                    result => {
                                        done.insert(partition, result);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        open.retain(|partition| !done.contains_key(partition));
        let Some(partition) = open.first() else { break };
        let error = failures.get(partition).cloned().unwrap_or(Error::Kafka {
            code: ErrorCode::UnknownServerError,
            message: "the broker's answer does not mention the partition".into(),
        });
        // A topic that does not exist is not worth the whole time: a leader says so at once.
        let give_up = !error.is_retriable() || error.code() == Some(ErrorCode::UnknownTopicOrPartition);
        let paused = if give_up { Err(error.clone()) } else { tries.pause(error).await };
        if let Err(error) = paused {
            for partition in open.drain(..) {
                let error = failures.remove(&partition).unwrap_or_else(|| error.clone());
                if error.is_connect() && done.is_empty() {
                    return Err(error);
                }
                done.insert(partition, Err(error));
            }
        }
    }
    Ok(done)
}
