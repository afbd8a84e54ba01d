//! Topics that coordinators keep their state in. They are ordinary partitions; clients read them and may not write.

use std::sync::Arc;

use catalog::config::BrokerConfig;
use catalog::{Topic, topic_name};

use crate::error::ApiError;
use crate::topics::Topics;

/// `__consumer_offsets`, made on first use with `offsets.topic.num.partitions` partitions. The configs are those
/// Kafka gives it. It is kept short by snapshots of the coordinator's state (`groups/snapshot.rs`), which a reader
/// cannot tell from compaction but for the offsets that are gone, and is compacted besides.
pub(crate) async fn ensure_consumer_offsets(
    topics: &Topics,
    config: &BrokerConfig,
) -> Result<Arc<Topic>, ApiError> {
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", OFFSETS_SEGMENT_BYTES.to_string()),
    ];
    topics
        .ensure_internal(topic_name::CONSUMER_OFFSETS, config.offsets_topic_num_partitions(), &configs)
        .await
}

/// `__transaction_state`, made on first use with `transaction.state.log.num.partitions` partitions, with Kafka's configs.
pub(crate) async fn ensure_transaction_state(
    topics: &Topics,
    config: &BrokerConfig,
) -> Result<Arc<Topic>, ApiError> {
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "uncompressed".to_owned()),
        ("segment.bytes", TRANSACTIONS_SEGMENT_BYTES.to_string()),
    ];
    let partitions = config.transaction_state_log_num_partitions();
    topics.ensure_internal(topic_name::TRANSACTION_STATE, partitions, &configs).await
}

/// Kafka's default of `transaction.state.log.segment.bytes`.
const TRANSACTIONS_SEGMENT_BYTES: u64 = 100 << 20;

/// Kafka's default of `offsets.topic.segment.bytes`: so much of its newest part compaction leaves alone.
const OFFSETS_SEGMENT_BYTES: u64 = 100 << 20;

/// `__share_group_state`, made on first use with `share.coordinator.state.topic.num.partitions` partitions, with Kafka's configs: nothing
/// expires, and what is not needed any more is trimmed.
pub(crate) async fn ensure_share_group_state(
    topics: &Topics,
    config: &BrokerConfig,
) -> Result<Arc<Topic>, ApiError> {
    let configs = [
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("retention.ms", "-1".to_owned()),
        ("segment.bytes", SHARE_STATE_SEGMENT_BYTES.to_string()),
    ];
    let partitions = config.share_coordinator_state_topic_num_partitions();
    topics.ensure_internal(topic_name::SHARE_GROUP_STATE, partitions, &configs).await
}

/// Kafka's default of `share.coordinator.state.topic.segment.bytes`.
const SHARE_STATE_SEGMENT_BYTES: u64 = 100 << 20;
