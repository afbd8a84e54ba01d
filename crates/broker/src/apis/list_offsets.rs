//! ListOffsets (key 2), versions 1–11.
//!
//! The offset that stands for a timestamp: the first record at or after it, or one of the special ones: −1 latest
//! (with READ_COMMITTED the last stable offset), −2 earliest, −3 the record with the largest timestamp (7), −4
//! earliest on this broker's own storage (8), −5 the last one that the second tier has (9), −6 the first one that it has not (11).
//! Without `remote.storage.enable` −4 is the same as −2, and the other two are −1. What the tier does not say in time is
//! REQUEST_TIMED_OUT, which clients repeat.
//!
//! Before a partition is said to be unknown, or led elsewhere, we catch up with what other brokers said about it.
//!
//! 2: isolation (KIP-98) · 4: leader epoch (KIP-320) · 6: flexible · 10: timeout (KIP-1075), not needed here.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use protocol::messages::list_offsets_request::ListOffsetsPartition;
use protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use protocol::{ErrorCode, Str};

use crate::error::read_error;
use crate::freshness::SecondLook;
use crate::partitions::{Led, TopicRef, led_here};
use crate::request::RequestContext;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const READ_COMMITTED: i8 = 1;
const LEADER_EPOCH_SINCE: i16 = 4;

pub(super) async fn handle(context: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    let is_too_large = partitions > context.broker.limits.request_partitions_max;
    let times = asked_times(&request);
    // Once for all of them.
    let ends = match request
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|asked| needs_end(asked.timestamp))
    {
        true => context.broker.know_ends().await,
        false => Ok(()),
    };
    let mut response = ListOffsetsResponse::default();
    let mut second_look = SecondLook::default();
    let mut describable = context.topics(AclOperation::Describe);
    for topic in &request.topics {
        let right = describable.check(&context.broker.catalog.read(), &topic.name);
        let mut answered = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let is_repeated = times[&(&topic.name, partition.partition_index)] > 1;
            let find = async || match ends {
                Err(code) if needs_end(partition.timestamp) => Err(code),
                _ => find(&context, &topic.name, partition, request.isolation_level).await,
            };
            let mut result = match right {
                Err(code) => Err(code),
                Ok(()) if is_repeated || is_too_large => Err(ErrorCode::InvalidRequest),
                Ok(()) => find().await,
            };
            if let Err(code) = result
                && second_look.is_due(&context.broker.freshness, code).await
            {
                result = find().await;
            }
            answered.push(partition_response(&context, partition.partition_index, result));
        }
        response.topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions: answered });
    }
    response
}

/// How often each partition is named: a partition asked twice is refused each time.
fn asked_times(request: &ListOffsetsRequest) -> BTreeMap<(&Str, i32), u32> {
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *times.entry((&topic.name, partition.partition_index)).or_default() += 1;
        }
    }
    times
}

/// An answer that says where a partition ends must not be an old one: "read to the end" would miss records (R20).
fn needs_end(timestamp: i64) -> bool {
    timestamp >= 0 || matches!(timestamp, LATEST | MAX_TIMESTAMP)
}

struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found { timestamp: -1, offset: -1, leader_epoch: -1 };

async fn find(
    context: &RequestContext,
    topic: &Str,
    asked: &ListOffsetsPartition,
    isolation_level: i8,
) -> Result<Found, ErrorCode> {
    if is_unsupported(asked.timestamp, context.api_version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let broker = &context.broker;
    let led: Led = {
        let state = broker.catalog.read();
        let topic = TopicRef::Name(topic.clone()).find(&state)?.clone();
        led_here(&broker.log, broker.node_id, &topic, asked.partition_index)?
    };
    led.check_epoch(asked.current_leader_epoch)?;
    let partition = &led.partition;
    if needs_end(asked.timestamp) && partition.is_leaving() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let offsets = partition.offsets();
    let end = match isolation_level {
        READ_COMMITTED => offsets.last_stable,
        _ => offsets.high_watermark,
    };
    let at =
        |offset: i64| Found { timestamp: -1, offset, leader_epoch: partition.epoch_at(offset).unwrap_or(-1) };
    // Where there are no records the next one will be this leader's.
    let earliest = |offset: i64| match offset == offsets.high_watermark {
        true => Found { timestamp: -1, offset, leader_epoch: led.leader_epoch },
        false => at(offset),
    };
    Ok(match asked.timestamp {
        LATEST => Found { timestamp: -1, offset: end, leader_epoch: led.leader_epoch },
        EARLIEST => earliest(offsets.log_start),
        EARLIEST_LOCAL => earliest(partition.tiered_offsets().local_start),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD if !partition.settings().tier.enabled => NOTHING,
        LATEST_TIERED => partition.tiered_offsets().tiered_end.map_or(NOTHING, |end| at(end - 1)),
        EARLIEST_PENDING_UPLOAD => {
            at(partition.tiered_offsets().tiered_end.unwrap_or(0).max(offsets.log_start))
        }
        timestamp => {
            let found = match timestamp {
                MAX_TIMESTAMP => partition.max_timestamp().await,
                _ => partition.offset_for_timestamp(timestamp).await,
            };
            let found = found.map_err(|error| read_error(&error))?;
            // What a reader of committed data may not fetch yet is not there for it.
            match found.filter(|found| found.offset < end) {
                Some(found) => Found {
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: found.leader_epoch,
                },
                None => NOTHING,
            }
        }
    })
}

fn is_unsupported(timestamp: i64, version: i16) -> bool {
    let since = match timestamp {
        0.. | LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => i16::MAX,
    };
    version < since
}

fn partition_response(
    context: &RequestContext,
    partition_index: i32,
    result: Result<Found, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let code = result.as_ref().err().copied().unwrap_or(ErrorCode::None);
    let found = result.unwrap_or(NOTHING);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.code(),
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: if context.api_version >= LEADER_EPOCH_SINCE { found.leader_epoch } else { -1 },
    }
}

#[cfg(test)]
mod tests {
    use super::is_unsupported;

    #[test]
    fn special_timestamps_came_one_by_one() {
        for (timestamp, since) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert!(is_unsupported(timestamp, since - 1), "{timestamp} before {since}");
            assert!(!is_unsupported(timestamp, since), "{timestamp} at {since}");
        }
        assert!(is_unsupported(-7, 11));
        assert!(!is_unsupported(0, 1));
    }
}
