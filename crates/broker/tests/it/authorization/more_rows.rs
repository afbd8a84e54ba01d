//! Rows of the APIs of transactions, of KIP-848's groups and of users. They count as soon as the broker's table has the APIs.

use protocol::messages::*;
use protocol::{ApiKey, ErrorCode, Str, Uuid};

use super::model::*;
use super::{Case, GROUPS, TOPICS, share_rows};

const TRANSACTIONAL_IDS: [&str; 2] = ["t-pay", "x"];
const TOPIC_REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;
const GROUP_REFUSED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const CLUSTER_REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;
const TRANSACTION_REFUSED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;
const TOKEN_REFUSED: ErrorCode = ErrorCode::DelegationTokenAuthorizationFailed;
/// Nobody was given it.
const PRODUCER_ID: i64 = 1 << 40;

/// False: no row is written for it.
pub async fn run(case: &mut Case<'_>) -> bool {
    match case.api {
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn(case).await,
        ApiKey::AddOffsetsToTxn => add_offsets_to_txn(case).await,
        ApiKey::EndTxn => end_txn(case).await,
        ApiKey::TxnOffsetCommit => txn_offset_commit(case).await,
        ApiKey::WriteTxnMarkers => write_txn_markers(case).await,
        ApiKey::DescribeTransactions => describe_transactions(case).await,
        ApiKey::ListTransactions => list_transactions(case).await,
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat(case).await,
        ApiKey::ConsumerGroupDescribe => consumer_group_describe(case).await,
        ApiKey::StreamsGroupHeartbeat => streams_group_heartbeat(case).await,
        ApiKey::StreamsGroupDescribe => streams_group_describe(case).await,
        ApiKey::StreamsGroupTopologyDescriptionUpdate => topology_description_update(case).await,
        ApiKey::DescribeUserScramCredentials => describe_user_scram_credentials(case).await,
        ApiKey::AlterUserScramCredentials => alter_user_scram_credentials(case).await,
        ApiKey::CreateDelegationToken => create_delegation_token(case).await,
        ApiKey::UnregisterBroker => unregister_broker(case).await,
        _ => return share_rows::run(case).await,
    }
    true
}

async fn add_partitions_to_txn(case: &mut Case<'_>) {
    use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
    let topics = || -> Vec<AddPartitionsToTxnTopic> {
        TOPICS.map(|name| AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0] }).to_vec()
    };
    for transactional_id in TRANSACTIONAL_IDS {
        if case.version >= 4 {
            let transaction = AddPartitionsToTxnTransaction {
                transactional_id: transactional_id.into(),
                producer_id: PRODUCER_ID,
                verify_only: true,
                topics: topics(),
                ..AddPartitionsToTxnTransaction::default()
            };
            let request = AddPartitionsToTxnRequest {
                transactions: vec![transaction],
                ..AddPartitionsToTxnRequest::default()
            };
            let code = case.ask(&request).await.error_code;
            let may = case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER);
            case.cell(transactional_id, may, CLUSTER_REFUSED, code);
            continue;
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: transactional_id.into(),
            v3_and_below_producer_id: PRODUCER_ID,
            v3_and_below_topics: topics(),
            ..AddPartitionsToTxnRequest::default()
        };
        let may_write_under_it = case.may(WRITE, TRANSACTIONAL_ID, transactional_id);
        for topic in case.ask(&request).await.results_by_topic_v3_and_below {
            let (may, refused) = match may_write_under_it {
                true => (case.may(WRITE, TOPIC, &topic.name), TOPIC_REFUSED),
                false => (false, TRANSACTION_REFUSED),
            };
            let code = topic.results_by_partition[0].partition_error_code;
            case.cell(&format!("{transactional_id}, {}", topic.name), may, refused, code);
        }
    }
}

async fn add_offsets_to_txn(case: &mut Case<'_>) {
    for (transactional_id, group) in TRANSACTIONAL_IDS.into_iter().zip(GROUPS) {
        let request = AddOffsetsToTxnRequest {
            transactional_id: transactional_id.into(),
            producer_id: PRODUCER_ID,
            producer_epoch: 0,
            group_id: group.into(),
        };
        let code = case.ask(&request).await.error_code;
        let (may, refused) = match case.may(WRITE, TRANSACTIONAL_ID, transactional_id) {
            true => (case.may(READ, GROUP, group), GROUP_REFUSED),
            false => (false, TRANSACTION_REFUSED),
        };
        case.cell(&format!("{transactional_id}, {group}"), may, refused, code);
    }
}

async fn end_txn(case: &mut Case<'_>) {
    for transactional_id in TRANSACTIONAL_IDS {
        let request = EndTxnRequest {
            transactional_id: transactional_id.into(),
            producer_id: PRODUCER_ID,
            producer_epoch: 0,
            committed: true,
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(WRITE, TRANSACTIONAL_ID, transactional_id);
        case.cell(transactional_id, may, TRANSACTION_REFUSED, code);
    }
}

async fn txn_offset_commit(case: &mut Case<'_>) {
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let by_id = case.version >= 6;
    for (transactional_id, group) in TRANSACTIONAL_IDS.into_iter().zip(GROUPS) {
        let topics = TOPICS.map(|name| TxnOffsetCommitRequestTopic {
            name: if by_id { Str::default() } else { name.into() },
            topic_id: if by_id { case.id(name) } else { Uuid::ZERO },
            // There is no such partition.
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: 7,
                ..TxnOffsetCommitRequestPartition::default()
            }],
        });
        let request = TxnOffsetCommitRequest {
            transactional_id: transactional_id.into(),
            group_id: group.into(),
            producer_id: PRODUCER_ID,
            topics: topics.to_vec(),
            ..TxnOffsetCommitRequest::default()
        };
        for topic in case.ask(&request).await.topics {
            let name = if by_id { case.name(topic.topic_id) } else { topic.name.to_string() };
            let may_write_under_it = case.may(WRITE, TRANSACTIONAL_ID, transactional_id);
            let (may, refused) = match (may_write_under_it, case.may(READ, GROUP, group)) {
                (true, true) => (case.may(READ, TOPIC, &name), TOPIC_REFUSED),
                (true, false) => (false, GROUP_REFUSED),
                (false, _) => (false, TRANSACTION_REFUSED),
            };
            let field = format!("{transactional_id}, {group}, {name}");
            case.cell(&field, may, refused, topic.partitions[0].error_code);
        }
    }
}

async fn write_txn_markers(case: &mut Case<'_>) {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let topics = TOPICS.map(|name| WritableTxnMarkerTopic { name: name.into(), partition_indexes: vec![7] });
    let marker = WritableTxnMarker {
        producer_id: PRODUCER_ID,
        topics: topics.to_vec(),
        ..WritableTxnMarker::default()
    };
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER) || case.may(CLUSTER_ACTION, CLUSTER, THE_CLUSTER);
    for marker in case.ask(&WriteTxnMarkersRequest { markers: vec![marker] }).await.markers {
        for topic in marker.topics {
            case.cell(&topic.name, may, CLUSTER_REFUSED, topic.partitions[0].error_code);
        }
    }
}

async fn describe_transactions(case: &mut Case<'_>) {
    let transactional_ids = TRANSACTIONAL_IDS.map(Str::from).to_vec();
    for state in case.ask(&DescribeTransactionsRequest { transactional_ids }).await.transaction_states {
        let may = case.may(DESCRIBE, TRANSACTIONAL_ID, &state.transactional_id);
        case.cell(&state.transactional_id, may, TRANSACTION_REFUSED, state.error_code);
    }
}

/// What there is of them nobody may see without the right to describe it.
async fn list_transactions(case: &mut Case<'_>) {
    let request = ListTransactionsRequest {
        duration_filter: -1,
        transactional_id_pattern: None,
        ..ListTransactionsRequest::default()
    };
    for state in case.ask(&request).await.transaction_states {
        let may = case.may(DESCRIBE, TRANSACTIONAL_ID, &state.transactional_id);
        case.same(&state.transactional_id, may, true);
    }
}

async fn consumer_group_heartbeat(case: &mut Case<'_>) {
    for group in GROUPS {
        for topics in [&TOPICS[..1], &TOPICS[..]] {
            // A member that is not there: nobody joins.
            let request = ConsumerGroupHeartbeatRequest {
                group_id: group.into(),
                member_id: "nobody".into(),
                member_epoch: 5,
                rebalance_timeout_ms: -1,
                subscribed_topic_names: Some(topics.iter().map(|name| Str::from(*name)).collect()),
                instance_id: None,
                rack_id: None,
                subscribed_topic_regex: None,
                server_assignor: None,
                topic_partitions: None,
            };
            let code = case.ask(&request).await.error_code;
            let may_group = case.may(READ, GROUP, group);
            let may_topics = topics.iter().all(|name| case.may(DESCRIBE, TOPIC, name));
            let refused = if may_group { TOPIC_REFUSED } else { GROUP_REFUSED };
            case.cell(&format!("{group}, {topics:?}"), may_group && may_topics, refused, code);
        }
    }
}

async fn consumer_group_describe(case: &mut Case<'_>) {
    let request = ConsumerGroupDescribeRequest {
        group_ids: GROUPS.map(Str::from).to_vec(),
        include_authorized_operations: true,
    };
    for group in case.ask(&request).await.groups {
        let may = case.may(DESCRIBE, GROUP, &group.group_id);
        case.cell(&group.group_id, may, GROUP_REFUSED, group.error_code);
    }
}

async fn streams_group_heartbeat(case: &mut Case<'_>) {
    use streams_group_heartbeat_request::{Subtopology, Topology};
    for group in GROUPS {
        for topics in [&TOPICS[..1], &TOPICS[..]] {
            let subtopology = Subtopology {
                subtopology_id: "0".into(),
                source_topics: topics.iter().map(|name| Str::from(*name)).collect(),
                ..Subtopology::default()
            };
            // Nobody joins: it says nothing of its time.
            let request = StreamsGroupHeartbeatRequest {
                group_id: group.into(),
                member_id: "nobody".into(),
                topology: Some(Topology { epoch: 0, subtopologies: vec![subtopology] }),
                ..StreamsGroupHeartbeatRequest::default()
            };
            let code = case.ask(&request).await.error_code;
            let may_group = case.may(READ, GROUP, group);
            let may_topics = topics.iter().all(|name| case.may(DESCRIBE, TOPIC, name));
            let refused = if may_group { TOPIC_REFUSED } else { GROUP_REFUSED };
            case.cell(&format!("{group}, {topics:?}"), may_group && may_topics, refused, code);
        }
    }
}

async fn streams_group_describe(case: &mut Case<'_>) {
    let request = StreamsGroupDescribeRequest {
        group_ids: GROUPS.map(Str::from).to_vec(),
        include_authorized_operations: true,
        ..StreamsGroupDescribeRequest::default()
    };
    for group in case.ask(&request).await.groups {
        let may = case.may(DESCRIBE, GROUP, &group.group_id);
        case.cell(&group.group_id, may, GROUP_REFUSED, group.error_code);
    }
}

async fn topology_description_update(case: &mut Case<'_>) {
    for group in GROUPS {
        let request = StreamsGroupTopologyDescriptionUpdateRequest {
            group_id: group.into(),
            member_id: "nobody".into(),
            ..StreamsGroupTopologyDescriptionUpdateRequest::default()
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(READ, GROUP, group);
        case.cell(group, may, GROUP_REFUSED, code);
    }
}

async fn describe_user_scram_credentials(case: &mut Case<'_>) {
    let request = DescribeUserScramCredentialsRequest { users: None };
    let code = case.ask(&request).await.error_code;
    let may = case.may(DESCRIBE, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

async fn alter_user_scram_credentials(case: &mut Case<'_>) {
    use alter_user_scram_credentials_request::ScramCredentialDeletion;
    // Nobody of that name.
    let deletion = ScramCredentialDeletion { name: "nobody".into(), mechanism: 1 };
    let request = AlterUserScramCredentialsRequest { deletions: vec![deletion], upsertions: Vec::new() };
    let code = case.ask(&request).await.results[0].error_code;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}

/// For oneself nothing is asked; for somebody else, since it can be said whom it is for.
async fn create_delegation_token(case: &mut Case<'_>) {
    const CAROL: &str = "User:carol";
    let own = case.ask(&CreateDelegationTokenRequest::default()).await.error_code;
    case.cell("own", true, TOKEN_REFUSED, own);
    if case.version >= 3 {
        let request = CreateDelegationTokenRequest {
            owner_principal_type: Some("User".into()),
            owner_principal_name: Some("carol".into()),
            ..CreateDelegationTokenRequest::default()
        };
        let code = case.ask(&request).await.error_code;
        let may = case.may(CREATE_TOKENS, USER, CAROL);
        case.cell(CAROL, may, TOKEN_REFUSED, code);
    }
}

async fn unregister_broker(case: &mut Case<'_>) {
    // Nobody has that id.
    let code = case.ask(&UnregisterBrokerRequest { broker_id: 99 }).await.error_code;
    let may = case.may(ALTER, CLUSTER, THE_CLUSTER);
    case.cell("cluster", may, CLUSTER_REFUSED, code);
}
