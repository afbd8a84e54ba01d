//! AlterReplicaLogDirs (key 34), versions 1–2 (KIP-113).
//!
//! Moves replicas between directories of a broker. There is one directory here, so "move it there" is done already,
//! and any other directory is LOG_DIR_NOT_FOUND.
//!
//! 2: flexible.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::partitions::{TopicRef, led_here};
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let broker = &context.broker;
    let right = context.authorize(AclOperation::Alter, Resource::Cluster);
    broker.freshness.catch_up().await;
    let data_dir = broker.configs.started_with().data_dir();
    let is_shared = broker.catalog.is_shared();
    let state = broker.catalog.read();
    let mut results: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &request.dirs {
        let is_ours = dir.path.trim_end_matches('/') == data_dir.trim_end_matches('/');
        for topic in &dir.topics {
            for index in &topic.partitions {
                let found =
                    TopicRef::Name(topic.name.clone()).find(&state).and_then(|topic| match is_shared {
                        // All of the bucket is at hand for every broker.
                        true if (0..topic.partitions.len() as i32).contains(index) => Ok(()),
                        true => Err(ErrorCode::UnknownTopicOrPartition),
                        false => led_here(&broker.log, broker.node_id, topic, *index).map(drop),
                    });
                let code = match found {
                    _ if right.is_err() => ErrorCode::ClusterAuthorizationFailed,
                    _ if !is_ours => ErrorCode::LogDirNotFound,
                    Ok(()) => ErrorCode::None,
                    Err(code) => code,
                };
                let result =
                    AlterReplicaLogDirPartitionResult { partition_index: *index, error_code: code.code() };
                results.entry(topic.name.clone()).or_default().push(result);
            }
        }
    }
    let results = results
        .into_iter()
        .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions });
    AlterReplicaLogDirsResponse { results: results.collect(), ..AlterReplicaLogDirsResponse::default() }
}
