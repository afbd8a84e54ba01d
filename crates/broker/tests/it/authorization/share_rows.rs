//! Rows of the APIs of share groups (KIP-932).

use std::sync::Arc;

use protocol::messages::*;
use protocol::{ApiKey, ErrorCode, Request, Str, Uuid};

use super::model::*;
use super::{Case, GROUPS, TOPICS, ask};

const TOPIC_REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;
const GROUP_REFUSED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const CLUSTER_REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;
const MEMBER: &str = "member";
/// There are no groups of these names.
const NO_GROUPS: [&str; 2] = ["t-", "h"];

/// False: no row is written for it.
pub async fn run(case: &mut Case<'_>) -> bool {
    match case.api {
        ApiKey::ShareGroupHeartbeat => share_group_heartbeat(case).await,
        ApiKey::ShareGroupDescribe => share_group_describe(case).await,
        ApiKey::ShareFetch => share_fetch(case).await,
        ApiKey::ShareAcknowledge => share_acknowledge(case).await,
        ApiKey::InitializeShareGroupState => initialize_share_group_state(case).await,
        ApiKey::ReadShareGroupState => read_share_group_state(case).await,
        ApiKey::WriteShareGroupState => write_share_group_state(case).await,
        ApiKey::DeleteShareGroupState => delete_share_group_state(case).await,
        ApiKey::ReadShareGroupStateSummary => read_share_group_state_summary(case).await,
        ApiKey::DescribeShareGroupOffsets => describe_share_group_offsets(case).await,
        ApiKey::AlterShareGroupOffsets => alter_share_group_offsets(case).await,
        ApiKey::DeleteShareGroupOffsets => delete_share_group_offsets(case).await,
        _ => return false,
    }
    true
}

async fn share_group_heartbeat(case: &mut Case<'_>) {
    for group in GROUPS {
        for topics in [&TOPICS[..1], &TOPICS[..]] {
            // A member that is not there: nobody joins.
            let request = ShareGroupHeartbeatRequest {
                group_id: group.into(),
                member_id: "nobody".into(),
                member_epoch: 5,
                rack_id: None,
                subscribed_topic_names: Some(topics.iter().map(|name| Str::from(*name)).collect()),
            };
            let code = case.ask(&request).await.error_code;
            let may_group = case.may(READ, GROUP, group);
            let may_topics = topics.iter().all(|name| case.may(DESCRIBE, TOPIC, name));
            let refused = if may_group { TOPIC_REFUSED } else { GROUP_REFUSED };
            case.cell(&format!("{group}, {topics:?}"), may_group && may_topics, refused, code);
        }
    }
}

async fn share_group_describe(case: &mut Case<'_>) {
    let request = ShareGroupDescribeRequest {
        group_ids: GROUPS.map(Str::from).to_vec(),
        include_authorized_operations: true,
    };
    for group in case.ask(&request).await.groups {
        let may = case.may(DESCRIBE, GROUP, &group.group_id);
        case.cell(&group.group_id, may, GROUP_REFUSED, group.error_code);
    }
}

fn fetch(case: &Case<'_>, group: &str) -> ShareFetchRequest {
    use share_fetch_request::{FetchPartition, FetchTopic};
    let topic = |name| FetchTopic { topic_id: case.id(name), partitions: vec![FetchPartition::default()] };
    ShareFetchRequest {
        group_id: Some(group.into()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: 0,
        max_wait_ms: 0,
        max_bytes: 1,
        max_records: 1,
        topics: TOPICS.map(topic).to_vec(),
        ..ShareFetchRequest::default()
    }
}

async fn share_fetch(case: &mut Case<'_>) {
    for group in GROUPS {
        let response = case.ask(&fetch(case, group)).await;
        let may_group = case.may(READ, GROUP, group);
        case.cell(group, may_group, GROUP_REFUSED, response.error_code);
        for topic in response.responses {
            let name = case.name(topic.topic_id);
            let may = case.may(READ, TOPIC, &name);
            case.cell(&format!("{group}, {name}"), may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

/// Somebody else has opened the session of the member.
async fn share_acknowledge(case: &mut Case<'_>) {
    use share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch};
    for group in GROUPS {
        let opened = ask_as_root(case, 2, &fetch(case, group)).await;
        assert_eq!(opened.error_code, 0, "{opened:?}");
        let batch = AcknowledgementBatch { first_offset: 0, last_offset: 0, acknowledge_types: vec![1] };
        let topic = |name| AcknowledgeTopic {
            topic_id: case.id(name),
            partitions: vec![AcknowledgePartition {
                partition_index: 0,
                acknowledgement_batches: vec![batch.clone()],
            }],
        };
        let request = ShareAcknowledgeRequest {
            group_id: Some(group.into()),
            member_id: Some(MEMBER.into()),
            share_session_epoch: 1,
            topics: TOPICS.map(topic).to_vec(),
            ..ShareAcknowledgeRequest::default()
        };
        let response = case.ask(&request).await;
        let may_group = case.may(READ, GROUP, group);
        case.cell(group, may_group, GROUP_REFUSED, response.error_code);
        for topic in response.responses {
            let name = case.name(topic.topic_id);
            let may = case.may(READ, TOPIC, &name);
            case.cell(&format!("{group}, {name}"), may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn ask_as_root<R: Request>(case: &Case<'_>, version: i16, request: &R) -> R::Response {
    ask(&case.world.house, &Arc::clone(&case.world.root), version, request).await
}

fn may_act(case: &Case<'_>) -> bool {
    case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER)
}

async fn initialize_share_group_state(case: &mut Case<'_>) {
    use initialize_share_group_state_request::{InitializeStateData, PartitionData};
    let partition = PartitionData { partition: 9, ..PartitionData::default() };
    let topic = InitializeStateData { topic_id: case.id(TOPICS[0]), partitions: vec![partition] };
    let request = InitializeShareGroupStateRequest { group_id: "h".into(), topics: vec![topic] };
    let code = case.ask(&request).await.results[0].partitions[0].error_code;
    case.cell("cluster", may_act(case), CLUSTER_REFUSED, code);
}

async fn read_share_group_state(case: &mut Case<'_>) {
    use read_share_group_state_request::{PartitionData, ReadStateData};
    let topic = ReadStateData { topic_id: case.id(TOPICS[0]), partitions: vec![PartitionData::default()] };
    let request = ReadShareGroupStateRequest { group_id: "h".into(), topics: vec![topic] };
    let code = case.ask(&request).await.results[0].partitions[0].error_code;
    case.cell("cluster", may_act(case), CLUSTER_REFUSED, code);
}

async fn write_share_group_state(case: &mut Case<'_>) {
    use write_share_group_state_request::{PartitionData, WriteStateData};
    let topic = WriteStateData { topic_id: case.id(TOPICS[0]), partitions: vec![PartitionData::default()] };
    let request = WriteShareGroupStateRequest { group_id: "h".into(), topics: vec![topic] };
    let code = case.ask(&request).await.results[0].partitions[0].error_code;
    case.cell("cluster", may_act(case), CLUSTER_REFUSED, code);
}

async fn delete_share_group_state(case: &mut Case<'_>) {
    use delete_share_group_state_request::{DeleteStateData, PartitionData};
    let topic = DeleteStateData { topic_id: case.id(TOPICS[0]), partitions: vec![PartitionData::default()] };
    let request = DeleteShareGroupStateRequest { group_id: "h".into(), topics: vec![topic] };
    let code = case.ask(&request).await.results[0].partitions[0].error_code;
    case.cell("cluster", may_act(case), CLUSTER_REFUSED, code);
}

async fn read_share_group_state_summary(case: &mut Case<'_>) {
    use read_share_group_state_summary_request::{PartitionData, ReadStateSummaryData};
    let topic =
        ReadStateSummaryData { topic_id: case.id(TOPICS[0]), partitions: vec![PartitionData::default()] };
    let request = ReadShareGroupStateSummaryRequest { group_id: "h".into(), topics: vec![topic] };
    let code = case.ask(&request).await.results[0].partitions[0].error_code;
    case.cell("cluster", may_act(case), CLUSTER_REFUSED, code);
}

async fn describe_share_group_offsets(case: &mut Case<'_>) {
    use describe_share_group_offsets_request::{
        DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    };
    let group = |name: &str| DescribeShareGroupOffsetsRequestGroup {
        group_id: name.into(),
        topics: Some(
            TOPICS
                .map(|name| DescribeShareGroupOffsetsRequestTopic {
                    topic_name: name.into(),
                    partitions: vec![0],
                })
                .to_vec(),
        ),
    };
    let request = DescribeShareGroupOffsetsRequest { groups: NO_GROUPS.map(group).to_vec() };
    for group in case.ask(&request).await.groups {
        let may_group = case.may(DESCRIBE, GROUP, &group.group_id);
        case.cell(&group.group_id, may_group, GROUP_REFUSED, group.error_code);
        for topic in group.topics {
            let may = case.may(DESCRIBE, TOPIC, &topic.topic_name);
            let field = format!("{}, {}", group.group_id, topic.topic_name);
            case.cell(&field, may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn alter_share_group_offsets(case: &mut Case<'_>) {
    use alter_share_group_offsets_request::{
        AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
    };
    for group in NO_GROUPS {
        // There is no such partition, so nothing is made.
        let partition = AlterShareGroupOffsetsRequestPartition { partition_index: 9, start_offset: 1 };
        let topic = |name: &str| AlterShareGroupOffsetsRequestTopic {
            topic_name: name.into(),
            partitions: vec![partition.clone()],
        };
        let request =
            AlterShareGroupOffsetsRequest { group_id: group.into(), topics: TOPICS.map(topic).to_vec() };
        let response = case.ask(&request).await;
        case.cell(group, case.may(READ, GROUP, group), GROUP_REFUSED, response.error_code);
        for topic in response.responses {
            let may = case.may(READ, TOPIC, &topic.topic_name);
            let field = format!("{group}, {}", topic.topic_name);
            case.cell(&field, may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn delete_share_group_offsets(case: &mut Case<'_>) {
    use delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
    for group in NO_GROUPS {
        let topic = |name: &str| DeleteShareGroupOffsetsRequestTopic { topic_name: name.into() };
        let request =
            DeleteShareGroupOffsetsRequest { group_id: group.into(), topics: TOPICS.map(topic).to_vec() };
        let response = case.ask(&request).await;
        case.cell(group, case.may(DELETE, GROUP, group), GROUP_REFUSED, response.error_code);
        for topic in response.responses {
            assert_eq!(topic.topic_id, Uuid::ZERO, "there is no such group");
        }
    }
}
