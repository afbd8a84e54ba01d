//! The table of APIs: what is advertised is answered, what is not here does not exist.
//!
//! One file per API. A row is the key, the versions ApiVersions shows, and the handler. Versions are those of Kafka
//! 4.4; the one exception is Produce, see `produce.rs`.

use std::ops::RangeInclusive;

use protocol::ApiKey;
use protocol::wire::{DecodeError, Reader};

use crate::request::{Handling, RequestContext, sequential, sequential_or_close};

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod alter_share_group_offsets;
mod alter_user_scram_credentials;
pub(crate) mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_delegation_token;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_share_group_state;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_delegation_token;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod end_txn;
mod expire_delegation_token;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod initialize_share_group_state;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod read_share_group_state;
mod read_share_group_state_summary;
mod renew_delegation_token;
pub(crate) mod sasl_authenticate;
mod sasl_handshake;
mod share_acknowledge;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod share_group_state;
mod streams_group_describe;
mod streams_group_heartbeat;
mod streams_group_topology_description_update;
mod sync_group;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_share_group_state;
mod write_txn_markers;

type Handler = fn(RequestContext, Reader) -> Result<Handling, DecodeError>;

/// One row of the table.
pub struct Api {
    pub key: ApiKey,
    /// What ApiVersions says.
    pub advertised: RangeInclusive<i16>,
    /// The lowest version that is really answered.
    pub answered_from: i16,
    pub(crate) handler: Handler,
}

impl Api {
    pub fn answers(&self, version: i16) -> bool {
        (self.answered_from..=*self.advertised.end()).contains(&version)
    }
}

const fn api(key: ApiKey, advertised: RangeInclusive<i16>, handler: Handler) -> Api {
    let answered_from = *advertised.start();
    Api { key, advertised, answered_from, handler }
}

/// In the order of the keys.
pub static TABLE: &[Api] = &[
    Api { key: ApiKey::Produce, advertised: 0..=13, answered_from: 3, handler: produce::handle },
    api(ApiKey::Fetch, 4..=18, |context, body| sequential(context, body, fetch::handle)),
    api(ApiKey::ListOffsets, 1..=11, |context, body| sequential(context, body, list_offsets::handle)),
    api(ApiKey::Metadata, 0..=13, |context, body| sequential(context, body, metadata::handle)),
    api(ApiKey::OffsetCommit, 2..=10, |context, body| sequential(context, body, offset_commit::handle)),
    api(ApiKey::OffsetFetch, 1..=10, |context, body| sequential(context, body, offset_fetch::handle)),
    api(ApiKey::FindCoordinator, 0..=6, |context, body| sequential(context, body, find_coordinator::handle)),
    api(ApiKey::JoinGroup, 0..=9, |context, body| sequential(context, body, join_group::handle)),
    api(ApiKey::Heartbeat, 0..=4, |context, body| sequential(context, body, heartbeat::handle)),
    api(ApiKey::LeaveGroup, 0..=5, |context, body| sequential(context, body, leave_group::handle)),
    api(ApiKey::SyncGroup, 0..=5, |context, body| sequential(context, body, sync_group::handle)),
    api(ApiKey::DescribeGroups, 0..=6, |context, body| sequential(context, body, describe_groups::handle)),
    api(ApiKey::ListGroups, 0..=5, |context, body| sequential(context, body, list_groups::handle)),
    api(ApiKey::SaslHandshake, 0..=1, sasl_handshake::handle),
    api(ApiKey::ApiVersions, 0..=5, |context, body| sequential(context, body, api_versions::handle)),
    api(ApiKey::CreateTopics, 2..=7, |context, body| sequential(context, body, create_topics::handle)),
    api(ApiKey::DeleteTopics, 1..=6, |context, body| sequential(context, body, delete_topics::handle)),
    api(ApiKey::DeleteRecords, 0..=2, |context, body| sequential(context, body, delete_records::handle)),
    api(ApiKey::InitProducerId, 0..=5, |context, body| sequential(context, body, init_producer_id::handle)),
    api(ApiKey::OffsetForLeaderEpoch, 2..=4, |context, body| {
        sequential(context, body, offset_for_leader_epoch::handle)
    }),
    api(ApiKey::AddPartitionsToTxn, 0..=5, |context, body| {
        sequential_or_close(context, body, add_partitions_to_txn::handle)
    }),
    api(ApiKey::AddOffsetsToTxn, 0..=4, |context, body| {
        sequential_or_close(context, body, add_offsets_to_txn::handle)
    }),
    api(ApiKey::EndTxn, 0..=5, |context, body| sequential_or_close(context, body, end_txn::handle)),
    api(ApiKey::WriteTxnMarkers, 1..=2, |context, body| sequential(context, body, write_txn_markers::handle)),
    api(ApiKey::TxnOffsetCommit, 0..=6, |context, body| {
        sequential_or_close(context, body, txn_offset_commit::handle)
    }),
    api(ApiKey::DescribeAcls, 1..=3, |context, body| sequential(context, body, describe_acls::handle)),
    api(ApiKey::CreateAcls, 1..=3, |context, body| sequential(context, body, create_acls::handle)),
    api(ApiKey::DeleteAcls, 1..=3, |context, body| sequential(context, body, delete_acls::handle)),
    api(ApiKey::DescribeConfigs, 1..=4, |context, body| sequential(context, body, describe_configs::handle)),
    api(ApiKey::AlterConfigs, 0..=2, |context, body| sequential(context, body, alter_configs::handle)),
    api(ApiKey::AlterReplicaLogDirs, 1..=2, |context, body| {
        sequential(context, body, alter_replica_log_dirs::handle)
    }),
    api(ApiKey::DescribeLogDirs, 1..=5, |context, body| sequential(context, body, describe_log_dirs::handle)),
    api(ApiKey::SaslAuthenticate, 0..=2, sasl_authenticate::handle),
    api(ApiKey::CreatePartitions, 0..=3, |context, body| {
        sequential(context, body, create_partitions::handle)
    }),
    api(ApiKey::CreateDelegationToken, 1..=3, |context, body| {
        sequential(context, body, create_delegation_token::handle)
    }),
    api(ApiKey::RenewDelegationToken, 1..=2, |context, body| {
        sequential(context, body, renew_delegation_token::handle)
    }),
    api(ApiKey::ExpireDelegationToken, 1..=2, |context, body| {
        sequential(context, body, expire_delegation_token::handle)
    }),
    api(ApiKey::DescribeDelegationToken, 1..=3, |context, body| {
        sequential(context, body, describe_delegation_token::handle)
    }),
    api(ApiKey::DeleteGroups, 0..=3, |context, body| sequential(context, body, delete_groups::handle)),
    api(ApiKey::ElectLeaders, 0..=2, |context, body| sequential(context, body, elect_leaders::handle)),
    api(ApiKey::IncrementalAlterConfigs, 0..=1, |context, body| {
        sequential(context, body, incremental_alter_configs::handle)
    }),
    api(ApiKey::AlterPartitionReassignments, 0..=1, |context, body| {
        sequential(context, body, alter_partition_reassignments::handle)
    }),
    api(ApiKey::ListPartitionReassignments, 0..=0, |context, body| {
        sequential(context, body, list_partition_reassignments::handle)
    }),
    api(ApiKey::OffsetDelete, 0..=0, |context, body| sequential(context, body, offset_delete::handle)),
    api(ApiKey::DescribeClientQuotas, 0..=1, |context, body| {
        sequential(context, body, describe_client_quotas::handle)
    }),
    api(ApiKey::AlterClientQuotas, 0..=1, |context, body| {
        sequential(context, body, alter_client_quotas::handle)
    }),
    api(ApiKey::DescribeUserScramCredentials, 0..=0, |context, body| {
        sequential(context, body, describe_user_scram_credentials::handle)
    }),
    api(ApiKey::AlterUserScramCredentials, 0..=0, |context, body| {
        sequential(context, body, alter_user_scram_credentials::handle)
    }),
    api(ApiKey::DescribeQuorum, 0..=2, |context, body| sequential(context, body, describe_quorum::handle)),
    api(ApiKey::UpdateFeatures, 0..=2, |context, body| sequential(context, body, update_features::handle)),
    api(ApiKey::DescribeCluster, 0..=2, |context, body| sequential(context, body, describe_cluster::handle)),
    api(ApiKey::DescribeProducers, 0..=0, |context, body| {
        sequential(context, body, describe_producers::handle)
    }),
    api(ApiKey::UnregisterBroker, 0..=0, |context, body| {
        sequential(context, body, unregister_broker::handle)
    }),
    api(ApiKey::DescribeTransactions, 0..=0, |context, body| {
        sequential(context, body, describe_transactions::handle)
    }),
    api(ApiKey::ListTransactions, 0..=2, |context, body| {
        sequential(context, body, list_transactions::handle)
    }),
    api(ApiKey::ConsumerGroupHeartbeat, 0..=1, |context, body| {
        sequential(context, body, consumer_group_heartbeat::handle)
    }),
    api(ApiKey::ConsumerGroupDescribe, 0..=1, |context, body| {
        sequential(context, body, consumer_group_describe::handle)
    }),
    api(ApiKey::GetTelemetrySubscriptions, 0..=0, |context, body| {
        sequential(context, body, get_telemetry_subscriptions::handle)
    }),
    api(ApiKey::PushTelemetry, 0..=0, |context, body| sequential(context, body, push_telemetry::handle)),
    api(ApiKey::ListConfigResources, 0..=1, |context, body| {
        sequential(context, body, list_config_resources::handle)
    }),
    api(ApiKey::DescribeTopicPartitions, 0..=0, |context, body| {
        sequential(context, body, describe_topic_partitions::handle)
    }),
    api(ApiKey::ShareGroupHeartbeat, 1..=1, |context, body| {
        sequential(context, body, share_group_heartbeat::handle)
    }),
    api(ApiKey::ShareGroupDescribe, 1..=1, |context, body| {
        sequential(context, body, share_group_describe::handle)
    }),
    api(ApiKey::ShareFetch, 1..=2, |context, body| sequential(context, body, share_fetch::handle)),
    api(ApiKey::ShareAcknowledge, 1..=2, |context, body| {
        sequential(context, body, share_acknowledge::handle)
    }),
    api(ApiKey::InitializeShareGroupState, 0..=0, |context, body| {
        sequential(context, body, initialize_share_group_state::handle)
    }),
    api(ApiKey::ReadShareGroupState, 0..=0, |context, body| {
        sequential(context, body, read_share_group_state::handle)
    }),
    api(ApiKey::WriteShareGroupState, 0..=1, |context, body| {
        sequential(context, body, write_share_group_state::handle)
    }),
    api(ApiKey::DeleteShareGroupState, 0..=0, |context, body| {
        sequential(context, body, delete_share_group_state::handle)
    }),
    api(ApiKey::ReadShareGroupStateSummary, 0..=1, |context, body| {
        sequential(context, body, read_share_group_state_summary::handle)
    }),
    api(ApiKey::StreamsGroupHeartbeat, 0..=1, |context, body| {
        sequential(context, body, streams_group_heartbeat::handle)
    }),
    api(ApiKey::StreamsGroupDescribe, 0..=1, |context, body| {
        sequential(context, body, streams_group_describe::handle)
    }),
    api(ApiKey::DescribeShareGroupOffsets, 0..=1, |context, body| {
        sequential(context, body, describe_share_group_offsets::handle)
    }),
    api(ApiKey::AlterShareGroupOffsets, 0..=0, |context, body| {
        sequential(context, body, alter_share_group_offsets::handle)
    }),
    api(ApiKey::DeleteShareGroupOffsets, 0..=0, |context, body| {
        sequential(context, body, delete_share_group_offsets::handle)
    }),
    api(ApiKey::StreamsGroupTopologyDescriptionUpdate, 0..=0, |context, body| {
        sequential(context, body, streams_group_topology_description_update::handle)
    }),
];

pub(crate) fn find(key: ApiKey) -> Option<&'static Api> {
    TABLE.iter().find(|api| api.key == key)
}
