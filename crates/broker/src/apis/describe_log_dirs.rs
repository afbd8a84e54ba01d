//! DescribeLogDirs (key 35), versions 1–5 (KIP-113).
//!
//! The one directory of this broker and what each partition holds in it. Sizes count the bytes of records, not of
//! files: many partitions share a file here. Nothing is ever moved between directories, so no future logs and no lag.
//!
//! 2: flexible · 3: error of the whole answer · 4: size of the volume (KIP-827), not known here: −1 · 5: cordoned
//! directories (KIP-1066), never.

use std::collections::BTreeSet;

use catalog::Topic;
use catalog::acl::AclOperation;
use protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::partitions::led_here;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let broker = &context.broker;
    if let Err(code) = context.authorize(AclOperation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse { error_code: code.code(), ..DescribeLogDirsResponse::default() };
    }
    let asked: Option<BTreeSet<(&Str, i32)>> = request.topics.as_ref().map(|topics| {
        let of_topic =
            topics.iter().map(|topic| topic.partitions.iter().map(move |index| (&topic.topic, *index)));
        of_topic.flatten().collect()
    });
    let state = broker.catalog.read();
    let mut topics = Vec::new();
    for topic in state.topics() {
        let is_asked = |index: i32| asked.as_ref().is_none_or(|asked| asked.contains(&(&topic.name, index)));
        let partitions: Vec<_> = partitions(&context, topic, is_asked);
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic { name: topic.name.clone(), partitions });
        }
    }
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: Str::from(broker.configs.started_with().data_dir()),
        topics,
        ..DescribeLogDirsResult::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

fn partitions(
    context: &RequestContext,
    topic: &Topic,
    is_asked: impl Fn(i32) -> bool,
) -> Vec<DescribeLogDirsPartition> {
    let broker = &context.broker;
    (0..topic.partitions.len() as i32)
        .filter(|index| is_asked(*index))
        .filter_map(|index| {
            let led = led_here(&broker.log, broker.node_id, topic, index).ok()?;
            Some(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: led.partition.size_bytes() as i64,
                ..DescribeLogDirsPartition::default()
            })
        })
        .collect()
}
