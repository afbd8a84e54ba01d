//! One row of the matrix for each API: asks in one version, and compares every field that Kafka authorises with the model.
//!
//! Requests are such that whoever may make them changes little: they are only checked, or name what is wrong behind the check of rights.

use bytes::Bytes;
use protocol::batch::BatchBuilder;
use protocol::messages::*;
use protocol::{ApiKey, ErrorCode, Records, Str, Uuid};

use super::model::*;
use super::{Case, GROUPS, MISSING, TOPICS, more_rows};
use crate::house::{NOW_MS, batch};

const TOPIC_REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;
const GROUP_REFUSED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const CLUSTER_REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;
const TRANSACTION_REFUSED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;

const TRANSACTIONAL_IDS: [&str; 2] = ["t-pay", "x"];
const NOBODY: &str = "nobody";

/// False: no row is written for it.
pub async fn run(case: &mut Case<'_>) -> bool {
    match case.api {
        // Before anybody is known, and to whoever comes.
        ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => {}
        // Of every client's own.
        ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry => {}
        // No right but that of the token's owner and renewers; who may see others' tokens: see the story of tokens in `sasl.rs`.
        ApiKey::RenewDelegationToken | ApiKey::ExpireDelegationToken | ApiKey::DescribeDelegationToken => {}
        ApiKey::Produce => produce(case).await,
        ApiKey::Fetch => fetch(case).await,
        ApiKey::ListOffsets => list_offsets(case).await,
        ApiKey::Metadata => metadata(case).await,
        ApiKey::OffsetCommit => offset_commit(case).await,
        ApiKey::OffsetFetch => offset_fetch(case).await,
        ApiKey::FindCoordinator => find_coordinator(case).await,
        ApiKey::JoinGroup => join_group(case).await,
        ApiKey::Heartbeat => heartbeat(case).await,
        ApiKey::LeaveGroup => leave_group(case).await,
        ApiKey::SyncGroup => sync_group(case).await,
        ApiKey::DescribeGroups => describe_groups(case).await,
        ApiKey::ListGroups => list_groups(case).await,
        ApiKey::CreateTopics => create_topics(case).await,
        ApiKey::DeleteTopics => delete_topics(case).await,
        ApiKey::DeleteRecords => delete_records(case).await,
        ApiKey::InitProducerId => init_producer_id(case).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch(case).await,
        ApiKey::DescribeAcls => describe_acls(case).await,
        ApiKey::CreateAcls => create_acls(case).await,
        ApiKey::DeleteAcls => delete_acls(case).await,
        ApiKey::DescribeConfigs => describe_configs(case).await,
        ApiKey::AlterConfigs => alter_configs(case).await,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs(case).await,
        ApiKey::AlterReplicaLogDirs => alter_replica_log_dirs(case).await,
        ApiKey::DescribeLogDirs => describe_log_dirs(case).await,
        ApiKey::CreatePartitions => create_partitions(case).await,
        ApiKey::DeleteGroups => delete_groups(case).await,
        ApiKey::ElectLeaders => elect_leaders(case).await,
        ApiKey::AlterPartitionReassignments => alter_partition_reassignments(case).await,
        ApiKey::ListPartitionReassignments => list_partition_reassignments(case).await,
        ApiKey::OffsetDelete => offset_delete(case).await,
        ApiKey::DescribeClientQuotas => describe_client_quotas(case).await,
        ApiKey::AlterClientQuotas => alter_client_quotas(case).await,
        ApiKey::DescribeQuorum => describe_quorum(case).await,
        ApiKey::UpdateFeatures => update_features(case).await,
        ApiKey::DescribeCluster => describe_cluster(case).await,
        ApiKey::DescribeProducers => describe_producers(case).await,
        ApiKey::ListConfigResources => list_config_resources(case).await,
        ApiKey::DescribeTopicPartitions => describe_topic_partitions(case).await,
        _ => return more_rows::run(case).await,
    }
    true
}

/// Those that exist and one that does not.
fn names() -> impl Iterator<Item = &'static str> {
    TOPICS.into_iter().chain([MISSING])
}

async fn produce(case: &mut Case<'_>) {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let by_id = case.version >= 13;
    let transactional = || {
        let mut builder = BatchBuilder::new().producer(1 << 40, 0, 0).transactional(true);
        builder.append(NOW_MS, None, Some(b"v"), &[]).expect("a small record");
        builder.build().expect("a small batch")
    };
    let request = |case: &Case<'_>, transactional_id: Option<&str>, records: Bytes| {
        let topics = names().filter(|name| !by_id || *name != MISSING);
        ProduceRequest {
            acks: -1,
            transactional_id: transactional_id.map(Str::from),
            topic_data: topics
                .map(|name| TopicProduceData {
                    name: if by_id { Str::default() } else { name.into() },
                    topic_id: if by_id { case.id(name) } else { Uuid::ZERO },
                    partition_data: vec![PartitionProduceData {
                        // There is no such partition.
                        index: 7,
                        records: Some(Records::from(records.clone())),
                    }],
                })
                .collect(),
            ..ProduceRequest::default()
        }
    };
    let name_of = |case: &Case<'_>, topic: &produce_response::TopicProduceResponse| match by_id {
        true => case.name(topic.topic_id),
        false => topic.name.to_string(),
    };
    let response = case.ask(&request(case, None, batch(&["v"]))).await;
    for topic in &response.responses {
        let name = name_of(case, topic);
        let may = case.may(WRITE, TOPIC, &name);
        case.cell(&format!("topic {name}"), may, TOPIC_REFUSED, topic.partition_responses[0].error_code);
    }
    for transactional_id in TRANSACTIONAL_IDS {
        let response = case.ask(&request(case, Some(transactional_id), transactional())).await;
        let may_write_under_it = case.may(WRITE, TRANSACTIONAL_ID, transactional_id);
        for topic in &response.responses {
            let name = name_of(case, topic);
            let (may, refused) = match may_write_under_it {
                true => (case.may(WRITE, TOPIC, &name), TOPIC_REFUSED),
                false => (false, TRANSACTION_REFUSED),
            };
            let code = topic.partition_responses[0].error_code;
            case.cell(&format!("{transactional_id}, topic {name}"), may, refused, code);
        }
    }
}

async fn fetch(case: &mut Case<'_>) {
    use fetch_request::{FetchPartition, FetchTopic};
    let by_id = case.version >= 13;
    for is_follower in [false, true] {
        let mut request = FetchRequest {
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: names()
                .map(|name| FetchTopic {
                    topic: if by_id { Str::default() } else { name.into() },
                    topic_id: if by_id { case.id(name) } else { Uuid::ZERO },
                    partitions: vec![FetchPartition {
                        partition_max_bytes: 1 << 20,
                        ..FetchPartition::default()
                    }],
                })
                .collect(),
            ..FetchRequest::default()
        };
        request.replica_id = -1;
        if is_follower {
            match case.version >= 15 {
                true => request.replica_state.replica_id = 9,
                false => request.replica_id = 9,
            }
        }
        let response = case.ask(&request).await;
        for topic in &response.responses {
            let name = if by_id { case.name(topic.topic_id) } else { topic.topic.to_string() };
            let may = match is_follower {
                true => case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER),
                // An id that nobody knows is no secret.
                false => (by_id && name == MISSING) || case.may(READ, TOPIC, &name),
            };
            let field = format!("topic {name}, follower {is_follower}");
            case.cell(&field, may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn list_offsets(case: &mut Case<'_>) {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let topics = names().map(|name| ListOffsetsTopic {
        name: name.into(),
        partitions: vec![ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() }],
    });
    let request =
        ListOffsetsRequest { replica_id: -1, topics: topics.collect(), ..ListOffsetsRequest::default() };
    for topic in case.ask(&request).await.topics {
        let may = case.may(DESCRIBE, TOPIC, &topic.name);
        case.cell(&topic.name, may, TOPIC_REFUSED, topic.partitions[0].error_code);
    }
}

async fn metadata(case: &mut Case<'_>) {
    use metadata_request::MetadataRequestTopic;
    let version = case.version;
    let asks_operations = version >= 8;
    let asks_cluster = (8..=10).contains(&version);
    let request = |topics: Option<Vec<MetadataRequestTopic>>, creates: bool| MetadataRequest {
        topics,
        allow_auto_topic_creation: creates,
        include_cluster_authorized_operations: asks_cluster,
        include_topic_authorized_operations: asks_operations,
    };
    // All topics.
    let all = if version == 0 { Some(Vec::new()) } else { None };
    let response = case.ask(&request(all, version < 4)).await;
    for name in TOPICS {
        let is_shown = response.topics.iter().any(|topic| topic.name.as_deref() == Some(name));
        let may = case.may(DESCRIBE, TOPIC, name);
        case.same(&format!("all, {name}"), may, is_shown);
    }
    if asks_cluster {
        let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
        let expected = if may { case.operations(CLUSTER, THE_CLUSTER) } else { 0 };
        case.same("operations of the cluster", expected, response.cluster_authorized_operations);
    }
    // By name, and with a name that may have to be made.
    let by_name = names().map(|name| MetadataRequestTopic { name: Some(name.into()), topic_id: Uuid::ZERO });
    let response = case.ask(&request(Some(by_name.collect()), true)).await;
    for topic in &response.topics {
        let name = topic.name.clone().expect("they were named").to_string();
        let is_missing = name == MISSING;
        let may_describe = case.may(DESCRIBE, TOPIC, &name);
        let may_create = case.may(CREATE, CLUSTER, THE_CLUSTER) || case.may(CREATE, TOPIC, &name);
        let may = may_describe && (!is_missing || may_create);
        case.cell(&format!("name {name}"), may, TOPIC_REFUSED, topic.error_code);
        if version >= 10 {
            case.same(&format!("id of {name}"), may, !topic.topic_id.is_zero());
        }
        if asks_operations {
            let expected = if may { case.operations(TOPIC, &name) } else { i32::MIN };
            case.same(&format!("operations of {name}"), expected, topic.topic_authorized_operations);
        }
    }
    case.delete_missing().await;
    if version >= 12 {
        let ids = names().map(|name| MetadataRequestTopic { name: None, topic_id: case.id(name) });
        let response = case.ask(&request(Some(ids.collect()), false)).await;
        for topic in &response.topics {
            let name = case.name(topic.topic_id);
            let may = name == MISSING || case.may(DESCRIBE, TOPIC, &name);
            case.cell(&format!("id of {name}"), may, TOPIC_REFUSED, topic.error_code);
            case.same(&format!("name of {name}"), may && name != MISSING, topic.name.is_some());
        }
    }
}

async fn offset_commit(case: &mut Case<'_>) {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let by_id = case.version >= 10;
    for group in GROUPS {
        let topics = names().map(|name| OffsetCommitRequestTopic {
            name: if by_id { Str::default() } else { name.into() },
            topic_id: if by_id { case.id(name) } else { Uuid::ZERO },
            partitions: vec![OffsetCommitRequestPartition::default()],
        });
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: 5,
            member_id: NOBODY.into(),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        let may_group = case.may(READ, GROUP, group);
        for topic in case.ask(&request).await.topics {
            let name = if by_id { case.name(topic.topic_id) } else { topic.name.to_string() };
            let may_topic = (by_id && name == MISSING) || case.may(READ, TOPIC, &name);
            let refused = if may_group { TOPIC_REFUSED } else { GROUP_REFUSED };
            let code = topic.partitions[0].error_code;
            case.cell(&format!("{group}, {name}"), may_group && may_topic, refused, code);
        }
    }
}

async fn offset_fetch(case: &mut Case<'_>) {
    use offset_fetch_request::*;
    let version = case.version;
    for group in GROUPS {
        let may_group = case.may(DESCRIBE, GROUP, group);
        let mut request = OffsetFetchRequest::default();
        let by_id = version >= 10;
        match version >= 8 {
            true => {
                let topics = names().map(|name| OffsetFetchRequestTopics {
                    name: if by_id { Str::default() } else { name.into() },
                    topic_id: if by_id { case.id(name) } else { Uuid::ZERO },
                    partition_indexes: vec![0],
                });
                request.groups = vec![OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: Some(topics.collect()),
                    ..OffsetFetchRequestGroup::default()
                }];
            }
            false => {
                let topics = names()
                    .map(|name| OffsetFetchRequestTopic { name: name.into(), partition_indexes: vec![0] });
                request.topics = Some(topics.collect());
                request.group_id = group.into();
            }
        }
        let response = case.ask(&request).await;
        let (code, topics): (i16, Vec<(String, i16)>) = match version >= 8 {
            true => {
                let group = &response.groups[0];
                let topics = group.topics.iter().map(|topic| {
                    let name = if by_id { case.name(topic.topic_id) } else { topic.name.to_string() };
                    (name, topic.partitions[0].error_code)
                });
                (group.error_code, topics.collect())
            }
            false => {
                let topics = response.topics.iter();
                let topics = topics.map(|topic| (topic.name.to_string(), topic.partitions[0].error_code));
                (response.error_code, topics.collect())
            }
        };
        if version >= 2 {
            case.cell(group, may_group, GROUP_REFUSED, code);
            if !may_group {
                case.same(&format!("{group}, topics"), 0, topics.len());
            }
        }
        for (name, code) in topics {
            let may_topic = (by_id && name == MISSING) || case.may(DESCRIBE, TOPIC, &name);
            let refused = if may_group { TOPIC_REFUSED } else { GROUP_REFUSED };
            case.cell(&format!("{group}, {name}"), may_group && may_topic, refused, code);
        }
        // All that it has.
        if version >= 2 {
            match version >= 8 {
                true => request.groups[0].topics = None,
                false => request.topics = None,
            }
            let response = case.ask(&request).await;
            for name in TOPICS {
                let is_shown = match version >= 8 {
                    true => response.groups[0].topics.iter().any(|topic| match by_id {
                        true => topic.topic_id == case.id(name),
                        false => topic.name == name,
                    }),
                    false => response.topics.iter().any(|topic| topic.name == name),
                };
                // A topic that was deleted has taken its offsets along.
                if case.has_offsets(name) {
                    let may = may_group && case.may(DESCRIBE, TOPIC, name);
                    case.same(&format!("{group}, all, {name}"), may, is_shown);
                }
            }
        }
    }
}

async fn find_coordinator(case: &mut Case<'_>) {
    let several = case.version >= 4;
    if case.version >= 6 {
        let request = FindCoordinatorRequest {
            key_type: 2,
            coordinator_keys: vec![Str::from(format!("g:{}:0", case.id(TOPICS[0])))],
            ..FindCoordinatorRequest::default()
        };
        let code = case.ask(&request).await.coordinators[0].error_code;
        case.cell("type 2", case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER), CLUSTER_REFUSED, code);
    }
    for (key_type, keys, resource_type, refused) in
        [(0, &GROUPS, GROUP, GROUP_REFUSED), (1, &TRANSACTIONAL_IDS, TRANSACTIONAL_ID, TRANSACTION_REFUSED)]
    {
        if key_type > 0 && case.version == 0 {
            continue;
        }
        let asked: Vec<Vec<&str>> = match several {
            true => vec![keys.to_vec()],
            false => keys.iter().map(|key| vec![*key]).collect(),
        };
        for keys in asked {
            let request = FindCoordinatorRequest {
                key: if several { Str::default() } else { keys[0].into() },
                key_type,
                coordinator_keys: keys.iter().filter(|_| several).map(|key| Str::from(*key)).collect(),
            };
            let response = case.ask(&request).await;
            for (at, key) in keys.iter().enumerate() {
                let code = match several {
                    true => response.coordinators[at].error_code,
                    false => response.error_code,
                };
                let may = case.may(DESCRIBE, resource_type, key);
                case.cell(&format!("type {key_type}, {key}"), may, refused, code);
            }
        }
    }
}

async fn join_group(case: &mut Case<'_>) {
    for group in GROUPS {
        // No session is so short: nobody joins.
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            protocol_type: "consumer".into(),
            ..JoinGroupRequest::default()
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(READ, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, code);
    }
}

async fn heartbeat(case: &mut Case<'_>) {
    for group in GROUPS {
        let request = HeartbeatRequest {
            group_id: group.into(),
            member_id: NOBODY.into(),
            ..HeartbeatRequest::default()
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(READ, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, code);
    }
}

async fn leave_group(case: &mut Case<'_>) {
    use leave_group_request::MemberIdentity;
    for group in GROUPS {
        let mut request = LeaveGroupRequest { group_id: group.into(), ..LeaveGroupRequest::default() };
        match case.version >= 3 {
            true => {
                request.members =
                    vec![MemberIdentity { member_id: NOBODY.into(), ..MemberIdentity::default() }];
            }
            false => request.member_id = NOBODY.into(),
        }
        let code = case.ask(&request).await.error_code;
        let may = case.may(READ, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, code);
    }
}

async fn sync_group(case: &mut Case<'_>) {
    for group in GROUPS {
        let request = SyncGroupRequest {
            group_id: group.into(),
            member_id: NOBODY.into(),
            protocol_type: (case.version >= 5).then(|| "consumer".into()),
            protocol_name: (case.version >= 5).then(|| "range".into()),
            ..SyncGroupRequest::default()
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(READ, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, code);
    }
}

async fn describe_groups(case: &mut Case<'_>) {
    let request = DescribeGroupsRequest {
        groups: GROUPS.into_iter().map(Str::from).collect(),
        include_authorized_operations: case.version >= 3,
    };
    for group in case.ask(&request).await.groups {
        let may = case.may(DESCRIBE, GROUP, &group.group_id);
        case.cell(&group.group_id, may, GROUP_REFUSED, group.error_code);
        if case.version >= 3 {
            let expected = if may { case.operations(GROUP, &group.group_id) } else { i32::MIN };
            case.same(&format!("operations of {}", group.group_id), expected, group.authorized_operations);
        }
    }
}

async fn list_groups(case: &mut Case<'_>) {
    let response = case.ask(&ListGroupsRequest::default()).await;
    for group in GROUPS {
        let is_shown = response.groups.iter().any(|listed| listed.group_id == group);
        let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER) || case.may(DESCRIBE, GROUP, group);
        case.same(group, may, is_shown);
    }
}

async fn create_topics(case: &mut Case<'_>) {
    use create_topics_request::CreatableTopic;
    let topics = names().map(|name| CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    for topic in case.ask(&request).await.topics {
        let may = case.may(CREATE, CLUSTER, THE_CLUSTER) || case.may(CREATE, TOPIC, &topic.name);
        case.cell(&topic.name, may, TOPIC_REFUSED, topic.error_code);
        if case.version >= 5 && topic.error_code == 0 {
            let may = case.may(DESCRIBE_CONFIGS, TOPIC, &topic.name);
            let field = format!("configs of {}", topic.name);
            case.cell(&field, may, TOPIC_REFUSED, topic.topic_config_error_code);
            case.same(&field, may, topic.configs.is_some_and(|configs| !configs.is_empty()));
        }
    }
}

async fn delete_topics(case: &mut Case<'_>) {
    use delete_topics_request::DeleteTopicState;
    let by_state = case.version >= 6;
    for by_id in [false, true] {
        if by_id && !by_state {
            continue;
        }
        let mut request = DeleteTopicsRequest { timeout_ms: 1_000, ..DeleteTopicsRequest::default() };
        match by_state {
            true => {
                request.topics = names()
                    .map(|name| match by_id {
                        true => DeleteTopicState { name: None, topic_id: case.id(name) },
                        false => DeleteTopicState { name: Some(name.into()), topic_id: Uuid::ZERO },
                    })
                    .collect();
            }
            false => request.topic_names = names().map(Str::from).collect(),
        }
        let may_all = case.may(DELETE, CLUSTER, THE_CLUSTER);
        for topic in case.ask(&request).await.responses {
            let name = match by_id {
                true => case.name(topic.topic_id),
                false => topic.name.clone().expect("it was named").to_string(),
            };
            let may_describe = may_all || case.may(DESCRIBE, TOPIC, &name);
            let may_delete = may_all || case.may(DELETE, TOPIC, &name);
            // By its name it has to be described first, by its id it need not be.
            let may = match (by_id, name == MISSING) {
                (true, true) => true,
                (true, false) => may_delete,
                (false, true) => may_describe,
                (false, false) => may_describe && may_delete,
            };
            case.cell(&format!("{name}, by id {by_id}"), may, TOPIC_REFUSED, topic.error_code);
            if by_id {
                // Who has deleted it is told what it was.
                let is_told = name != MISSING && (may_describe || may_delete);
                case.same(&format!("name of {name}"), is_told, topic.name.is_some());
            }
        }
        case.make_topics().await;
    }
}

async fn delete_records(case: &mut Case<'_>) {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let topics = names().map(|name| DeleteRecordsTopic {
        name: name.into(),
        partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -5 }],
    });
    let request = DeleteRecordsRequest { topics: topics.collect(), ..DeleteRecordsRequest::default() };
    for topic in case.ask(&request).await.topics {
        let may = case.may(DELETE, TOPIC, &topic.name);
        case.cell(&topic.name, may, TOPIC_REFUSED, topic.partitions[0].error_code);
    }
}

async fn init_producer_id(case: &mut Case<'_>) {
    let request = |transactional_id: Option<&str>| InitProducerIdRequest {
        transactional_id: transactional_id.map(Str::from),
        transaction_timeout_ms: -1,
        ..InitProducerIdRequest::default()
    };
    let code = case.ask(&request(None)).await.error_code;
    let may = case.may(IDEMPOTENT_WRITE, CLUSTER, THE_CLUSTER) || case.may_somewhere(WRITE, TOPIC);
    case.cell("idempotence", may, CLUSTER_REFUSED, code);
    for transactional_id in TRANSACTIONAL_IDS {
        let code = case.ask(&request(Some(transactional_id))).await.error_code;
        let may = case.may(WRITE, TRANSACTIONAL_ID, transactional_id);
        case.cell(transactional_id, may, TRANSACTION_REFUSED, code);
    }
}

async fn offset_for_leader_epoch(case: &mut Case<'_>) {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let topics = names().map(|name| OffsetForLeaderTopic {
        topic: name.into(),
        partitions: vec![OffsetForLeaderPartition::default()],
    });
    let request = OffsetForLeaderEpochRequest { replica_id: -2, topics: topics.collect() };
    for topic in case.ask(&request).await.topics {
        let may = case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER) || case.may(DESCRIBE, TOPIC, &topic.topic);
        case.cell(&topic.topic, may, TOPIC_REFUSED, topic.partitions[0].error_code);
    }
}

async fn describe_acls(case: &mut Case<'_>) {
    let request = DescribeAclsRequest {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..DescribeAclsRequest::default()
    };
    let request = DescribeAclsRequest {
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
        ..request
    };
    let response = case.ask(&request).await;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, response.error_code);
    let described: usize = response.resources.iter().map(|resource| resource.acls.len()).sum();
    case.same("all of them", if may { case.model.rules.len() } else { 0 }, described);
}

async fn create_acls(case: &mut Case<'_>) {
    // "Any" is no type of resource.
    let creation = create_acls_request::AclCreation {
        resource_type: 1,
        resource_name: "x".into(),
        principal: "User:x".into(),
        host: "*".into(),
        operation: READ,
        permission_type: ALLOW,
        ..Default::default()
    };
    let response = case.ask(&CreateAclsRequest { creations: vec![creation] }).await;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, response.results[0].error_code);
}

async fn delete_acls(case: &mut Case<'_>) {
    let filter = delete_acls_request::DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: Some("no such name".into()),
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    let response = case.ask(&DeleteAclsRequest { filters: vec![filter] }).await;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, response.filter_results[0].error_code);
}

/// Topics, a group, a broker and a subscription of metrics: type, name, and what ACLs and refusals call it.
fn config_resources() -> Vec<(i8, &'static str, i8, &'static str, ErrorCode)> {
    let mut resources: Vec<_> = names().map(|name| (2, name, TOPIC, name, TOPIC_REFUSED)).collect();
    resources.extend(GROUPS.map(|group| (32, group, GROUP, group, GROUP_REFUSED)));
    resources.push((4, "1", CLUSTER, THE_CLUSTER, CLUSTER_REFUSED));
    resources.push((16, "metrics", CLUSTER, THE_CLUSTER, CLUSTER_REFUSED));
    resources
}

fn config_resource(resource_type: i8, name: &str) -> (i8, &'static str, ErrorCode) {
    let found = config_resources().into_iter().find(|one| one.0 == resource_type && one.1 == name);
    let (_, _, acl_type, acl_name, refused) = found.expect("it was asked for");
    (acl_type, acl_name, refused)
}

async fn describe_configs(case: &mut Case<'_>) {
    use describe_configs_request::DescribeConfigsResource;
    let resources = config_resources().into_iter().map(|(resource_type, name, ..)| DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(vec!["retention.ms".into()]),
    });
    let request =
        DescribeConfigsRequest { resources: resources.collect(), ..DescribeConfigsRequest::default() };
    for result in case.ask(&request).await.results {
        let (acl_type, acl_name, refused) = config_resource(result.resource_type, &result.resource_name);
        let may = case.may(DESCRIBE_CONFIGS, acl_type, acl_name);
        case.cell(&result.resource_name, may, refused, result.error_code);
    }
}

async fn alter_configs(case: &mut Case<'_>) {
    use alter_configs_request::AlterConfigsResource;
    let resources = config_resources().into_iter().map(|(resource_type, name, ..)| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    });
    let request = AlterConfigsRequest { resources: resources.collect(), validate_only: true };
    for result in case.ask(&request).await.responses {
        let (acl_type, acl_name, refused) = config_resource(result.resource_type, &result.resource_name);
        let may = case.may(ALTER_CONFIGS, acl_type, acl_name);
        case.cell(&result.resource_name, may, refused, result.error_code);
    }
}

async fn incremental_alter_configs(case: &mut Case<'_>) {
    use incremental_alter_configs_request::AlterConfigsResource;
    let resources = config_resources().into_iter().map(|(resource_type, name, ..)| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    });
    let request = IncrementalAlterConfigsRequest { resources: resources.collect(), validate_only: true };
    for result in case.ask(&request).await.responses {
        let (acl_type, acl_name, refused) = config_resource(result.resource_type, &result.resource_name);
        let may = case.may(ALTER_CONFIGS, acl_type, acl_name);
        case.cell(&result.resource_name, may, refused, result.error_code);
    }
}

async fn alter_replica_log_dirs(case: &mut Case<'_>) {
    use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
    let topics = names().map(|name| AlterReplicaLogDirTopic { name: name.into(), partitions: vec![0] });
    let dir = AlterReplicaLogDir { path: "/elsewhere".into(), topics: topics.collect() };
    for topic in case.ask(&AlterReplicaLogDirsRequest { dirs: vec![dir] }).await.results {
        let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
        case.cell(&topic.topic_name, may, CLUSTER_REFUSED, topic.partitions[0].error_code);
    }
}

async fn describe_log_dirs(case: &mut Case<'_>) {
    let response = case.ask(&DescribeLogDirsRequest { topics: None }).await;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    if case.version >= 3 {
        case.cell("cluster", may, CLUSTER_REFUSED, response.error_code);
    }
    case.same("directories", may, !response.results.is_empty());
}

async fn create_partitions(case: &mut Case<'_>) {
    use create_partitions_request::CreatePartitionsTopic;
    let topics = names().map(|name| CreatePartitionsTopic { name: name.into(), count: 3, assignments: None });
    let request = CreatePartitionsRequest {
        topics: topics.collect(),
        validate_only: true,
        ..CreatePartitionsRequest::default()
    };
    for topic in case.ask(&request).await.results {
        let may = case.may(ALTER, TOPIC, &topic.name);
        case.cell(&topic.name, may, TOPIC_REFUSED, topic.error_code);
    }
}

async fn delete_groups(case: &mut Case<'_>) {
    let groups = ["t-none", "g-none"];
    let request = DeleteGroupsRequest { groups_names: groups.map(Str::from).to_vec() };
    for group in case.ask(&request).await.results {
        let may = case.may(DELETE, GROUP, &group.group_id);
        case.cell(&group.group_id, may, GROUP_REFUSED, group.error_code);
    }
}

async fn elect_leaders(case: &mut Case<'_>) {
    use elect_leaders_request::TopicPartitions;
    let topics = names().map(|name| TopicPartitions { topic: name.into(), partitions: vec![0] });
    let request =
        ElectLeadersRequest { election_type: 0, topic_partitions: Some(topics.collect()), timeout_ms: 1_000 };
    let response = case.ask(&request).await;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    if case.version >= 1 {
        case.cell("cluster", may, CLUSTER_REFUSED, response.error_code);
    }
    for topic in response.replica_election_results {
        case.cell(&topic.topic, may, CLUSTER_REFUSED, topic.partition_result[0].error_code);
    }
}

async fn alter_partition_reassignments(case: &mut Case<'_>) {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let topics = names().map(|name| ReassignableTopic {
        name: name.into(),
        partitions: vec![ReassignablePartition { partition_index: 0, replicas: Some(vec![1]) }],
    });
    let request = AlterPartitionReassignmentsRequest {
        topics: topics.collect(),
        ..AlterPartitionReassignmentsRequest::default()
    };
    let response = case.ask(&request).await;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, response.error_code);
    for topic in response.responses {
        case.cell(&topic.name, may, CLUSTER_REFUSED, topic.partitions[0].error_code);
    }
}

async fn list_partition_reassignments(case: &mut Case<'_>) {
    let request = ListPartitionReassignmentsRequest { topics: None, timeout_ms: 1_000 };
    let code = case.ask(&request).await.error_code;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn offset_delete(case: &mut Case<'_>) {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    for group in GROUPS {
        let topics = names().map(|name| OffsetDeleteRequestTopic {
            name: name.into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 7 }],
        });
        let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() };
        let response = case.ask(&request).await;
        let may = case.may(DELETE, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, response.error_code);
        for topic in response.topics {
            let may = case.may(READ, TOPIC, &topic.name);
            let field = format!("{group}, {}", topic.name);
            case.cell(&field, may, TOPIC_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn describe_client_quotas(case: &mut Case<'_>) {
    let code = case.ask(&DescribeClientQuotasRequest::default()).await.error_code;
    let may = case.may(DESCRIBE_CONFIGS, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn alter_client_quotas(case: &mut Case<'_>) {
    // An entity of nothing.
    let entry = alter_client_quotas_request::EntryData::default();
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: true };
    let code = case.ask(&request).await.entries[0].error_code;
    let may = case.may(ALTER_CONFIGS, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn describe_quorum(case: &mut Case<'_>) {
    let code = case.ask(&DescribeQuorumRequest::default()).await.error_code;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn update_features(case: &mut Case<'_>) {
    let code = case.ask(&UpdateFeaturesRequest::default()).await.error_code;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn describe_cluster(case: &mut Case<'_>) {
    let request = DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        ..DescribeClusterRequest::default()
    };
    let response = case.ask(&request).await;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    let expected = if may { case.operations(CLUSTER, THE_CLUSTER) } else { 0 };
    case.same("operations", expected, response.cluster_authorized_operations);
}

async fn describe_producers(case: &mut Case<'_>) {
    use describe_producers_request::TopicRequest;
    let topics = names().map(|name| TopicRequest { name: name.into(), partition_indexes: vec![0] });
    for topic in case.ask(&DescribeProducersRequest { topics: topics.collect() }).await.topics {
        let may = case.may(READ, TOPIC, &topic.name);
        case.cell(&topic.name, may, TOPIC_REFUSED, topic.partitions[0].error_code);
    }
}

async fn list_config_resources(case: &mut Case<'_>) {
    let code = case.ask(&ListConfigResourcesRequest::default()).await.error_code;
    let may = case.may(DESCRIBE_CONFIGS, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn describe_topic_partitions(case: &mut Case<'_>) {
    use describe_topic_partitions_request::TopicRequest;
    let request = |topics: Vec<TopicRequest>| DescribeTopicPartitionsRequest {
        topics,
        response_partition_limit: 1_000,
        cursor: None,
    };
    let all = case.ask(&request(Vec::new())).await;
    for name in TOPICS {
        let is_shown = all.topics.iter().any(|topic| topic.name.as_deref() == Some(name));
        let may = case.may(DESCRIBE, TOPIC, name);
        case.same(&format!("all, {name}"), may, is_shown);
    }
    let by_name = names().map(|name| TopicRequest { name: name.into() }).collect();
    for topic in case.ask(&request(by_name)).await.topics {
        let name = topic.name.expect("it was named").to_string();
        let may = case.may(DESCRIBE, TOPIC, &name);
        case.cell(&name, may, TOPIC_REFUSED, topic.error_code);
        let expected = if may { case.operations(TOPIC, &name) } else { i32::MIN };
        case.same(&format!("operations of {name}"), expected, topic.topic_authorized_operations);
        case.same(&format!("id of {name}"), may && name != MISSING, !topic.topic_id.is_zero());
    }
}
