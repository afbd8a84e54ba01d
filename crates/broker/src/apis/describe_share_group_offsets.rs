//! DescribeShareGroupOffsets v0–1: where share groups begin in their partitions, and how much lies behind that (KIP-932).
//!
//! The lag needs the ends of partitions that other brokers lead; in a bucket every broker can read them.
//!
//! v0 · v1 the lag (KIP-1226).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::acl::AclOperation;
use protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup as Group;
use protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use protocol::messages::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};

use crate::authorizer::Resource;
use crate::elsewhere;
use crate::request::RequestContext;
use crate::share_coordinator::{Asked, NO_COUNT, NO_START_OFFSET, Question, Told};

const SUMMARY_MAX: Duration = Duration::from_secs(5);
const LAG_SINCE: i16 = 1;
const NO_LAG: i64 = -1;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    // Once, however many groups are named: a topic may have been made a moment ago.
    if request.groups.iter().any(|group| group.topics.is_some()) {
        context.broker.freshness.catch_up().await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let group_id = group.group_id.clone();
        let described = describe(&context, group).await;
        groups.push(described.unwrap_or_else(|error| DescribeShareGroupOffsetsResponseGroup {
            group_id,
            error_code: error.code(),
            ..DescribeShareGroupOffsetsResponseGroup::default()
        }));
    }
    DescribeShareGroupOffsetsResponse { groups, ..DescribeShareGroupOffsetsResponse::default() }
}

/// Partitions by topic; those of a topic that may not be described or does not exist are answered without being asked for.
#[derive(Default)]
struct Places {
    known: BTreeSet<TopicIdPartition>,
    names: BTreeMap<Uuid, Str>,
    others: Vec<DescribeShareGroupOffsetsResponseTopic>,
}

async fn describe(
    context: &RequestContext,
    group: Group,
) -> Result<DescribeShareGroupOffsetsResponseGroup, ErrorCode> {
    context.authorize(AclOperation::Describe, Resource::Group(&group.group_id))?;
    let broker = &context.broker;
    let places = match &group.topics {
        Some(topics) => {
            let count: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
            if count > broker.limits.request_partitions_max {
                return Err(ErrorCode::InvalidRequest);
            }
            wanted(context, &group)
        }
        None => {
            let kept = broker
                .groups
                .with(&group.group_id, |shard, _, _| shard.kept_share_partitions(&group.group_id))?;
            all(context, kept)
        }
    };
    let question =
        |place: &TopicIdPartition| -> Question { (place.topic_id, place.partition, Asked::Summary) };
    let questions: Vec<Question> = places.known.iter().map(question).collect();
    let answers = match questions.is_empty() {
        true => Vec::new(),
        false => broker.share_coordinator.keep_all(&group.group_id, questions, SUMMARY_MAX).await,
    };
    let ends = match context.api_version >= LAG_SINCE {
        true => ends(context, &places.known).await,
        false => BTreeMap::new(),
    };
    let mut by_topic: BTreeMap<Uuid, Vec<DescribeShareGroupOffsetsResponsePartition>> = BTreeMap::new();
    for (place, answer) in places.known.iter().zip(answers) {
        let mut partition = nothing(place.partition);
        if let Ok(Told::Summary(summary)) = answer {
            partition.start_offset = summary.start_offset;
            partition.leader_epoch = summary.leader_epoch;
            let is_counted =
                summary.start_offset != NO_START_OFFSET && summary.delivery_complete_count != NO_COUNT;
            if let Some(end) = ends.get(place).filter(|_| is_counted) {
                let done = summary.start_offset + i64::from(summary.delivery_complete_count);
                partition.lag = (end - done).max(0);
            }
        }
        by_topic.entry(place.topic_id).or_default().push(partition);
    }
    let topic = |(topic_id, partitions): (Uuid, _)| DescribeShareGroupOffsetsResponseTopic {
        topic_name: places.names.get(&topic_id).cloned().unwrap_or_default(),
        topic_id,
        partitions,
    };
    let mut topics: Vec<_> = by_topic.into_iter().map(topic).collect();
    topics.extend(places.others);
    Ok(DescribeShareGroupOffsetsResponseGroup {
        group_id: group.group_id,
        topics,
        ..DescribeShareGroupOffsetsResponseGroup::default()
    })
}

fn nothing(partition_index: i32) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: NO_START_OFFSET,
        lag: NO_LAG,
        ..DescribeShareGroupOffsetsResponsePartition::default()
    }
}

fn wanted(context: &RequestContext, group: &Group) -> Places {
    let mut places = Places::default();
    let state = context.broker.catalog.read();
    for topic in group.topics.iter().flatten() {
        let name = &topic.topic_name;
        let right = context.authorize(AclOperation::Describe, Resource::Topic(name));
        let known = right.map(|()| state.topic(name));
        match known {
            Ok(Some(known)) => {
                places.names.insert(known.id, name.clone());
                let partitions = topic.partitions.iter();
                places.known.extend(partitions.map(|partition| TopicIdPartition::new(known.id, *partition)));
            }
            refused => {
                let error = refused.err().unwrap_or(ErrorCode::None);
                let partition = |index: &i32| DescribeShareGroupOffsetsResponsePartition {
                    error_code: error.code(),
                    ..nothing(*index)
                };
                places.others.push(DescribeShareGroupOffsetsResponseTopic {
                    topic_name: name.clone(),
                    topic_id: Uuid::ZERO,
                    partitions: topic.partitions.iter().map(partition).collect(),
                });
            }
        }
    }
    places
}

/// Topics that the caller may not describe are left out.
fn all(context: &RequestContext, kept: BTreeSet<(Uuid, i32)>) -> Places {
    let mut places = Places::default();
    let state = context.broker.catalog.read();
    let may_see = |name: &Str| context.may(AclOperation::Describe, Resource::Topic(name));
    for (topic, partition) in kept {
        let Some(known) = state.topic_by_id(topic).filter(|known| may_see(&known.name)) else { continue };
        places.names.insert(topic, known.name.clone());
        places.known.insert(TopicIdPartition::new(topic, partition));
    }
    places
}

/// Where partitions end, as far as that can be read here.
async fn ends(
    context: &RequestContext,
    places: &BTreeSet<TopicIdPartition>,
) -> BTreeMap<TopicIdPartition, i64> {
    let broker = &context.broker;
    let end_here =
        |place: &TopicIdPartition| broker.log.partition(place).map(|led| led.offsets().high_watermark);
    let mut ends: BTreeMap<TopicIdPartition, i64> =
        places.iter().filter_map(|place| Some((*place, end_here(place)?))).collect();
    let elsewhere: Vec<TopicIdPartition> =
        places.iter().filter(|place| !ends.contains_key(place)).copied().collect();
    if elsewhere.is_empty() || !broker.catalog.is_shared() {
        return ends;
    }
    elsewhere::open(broker, &elsewhere).await;
    elsewhere::refresh(broker).await;
    for place in elsewhere {
        if let Some(view) = broker.log.view(&place) {
            ends.insert(place, view.offsets().high_watermark);
        }
    }
    ends
}
