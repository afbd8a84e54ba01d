//! What scripts need before they can ask: topics that are led, groups that have a coordinator, batches.

use bytes::Bytes;
use protocol::batch::BatchBuilder;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest,
    ProduceRequest,
};
use protocol::{Records, Str, Uuid};

use crate::conversation::Conversation;

pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;
/// A moment of records, in milliseconds: fixed, so that answers about times can be compared.
pub(super) const MOMENT: i64 = 1_700_000_000_000;
const TIMEOUT_MS: i32 = 10_000;

/// A topic that exists and is led.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub name: Str,
    pub id: Uuid,
}

impl Topic {
    /// By name, in requests that know both.
    pub fn named(&self) -> MetadataRequestTopic {
        MetadataRequestTopic { name: Some(self.name.clone()), ..Default::default() }
    }
}

impl Conversation<'_> {
    /// Makes a topic and waits until all its partitions answer.
    pub(super) fn topic(&mut self, name: &str, partitions: i32) -> Topic {
        let name = self.name(name);
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        self.help(&CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() });
        self.await_topic(name, partitions)
    }

    /// Waits until a topic that was made answers.
    pub(super) fn await_topic(&mut self, name: Str, partitions: i32) -> Topic {
        let named = MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![named]), ..MetadataRequest::default() };
        let answer = self.help_until(&request, |answer| {
            answer.topics.iter().all(|topic| {
                topic.error_code == 0
                    && topic.partitions.iter().filter(|p| p.leader_id >= 0).count() as i32 >= partitions
            })
        });
        let id = answer.and_then(|answer| Some(answer.topics.first()?.topic_id)).unwrap_or_default();
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..Default::default()
        };
        let topic =
            ListOffsetsTopic { name: name.clone(), partitions: (0..partitions).map(partition).collect() };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        self.help_until(&request, |answer| {
            answer.topics.iter().all(|topic| topic.partitions.iter().all(|p| p.error_code == 0))
        });
        Topic { name, id }
    }

    /// A group's name whose coordinator answers.
    pub(super) fn group(&mut self, name: &str) -> Str {
        let group = self.name(name);
        let find = FindCoordinatorRequest {
            coordinator_keys: vec![group.clone()],
            ..FindCoordinatorRequest::default()
        };
        self.help_until(&find, |answer| answer.coordinators.iter().all(|c| c.error_code == 0));
        let of_group =
            OffsetFetchRequestGroup { group_id: group.clone(), topics: None, ..Default::default() };
        let fetch = OffsetFetchRequest { groups: vec![of_group], ..OffsetFetchRequest::default() };
        self.help_until(&fetch, |answer| answer.groups.iter().all(|group| group.error_code == 0));
        group
    }

    /// Writes batches to one partition, and keeps nothing.
    pub(super) fn write(&mut self, topic: &Topic, partition: i32, batch: Bytes) {
        let request = produce_of(topic, partition, Some(batch), -1);
        self.help(&request);
    }
}

/// One partition's records, by whatever the version has: name or id.
pub(super) fn produce_of(topic: &Topic, index: i32, records: Option<Bytes>, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData { index, records: records.map(Records::from), ..Default::default() };
    let topic = TopicProduceData {
        name: topic.name.clone(),
        topic_id: topic.id,
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { acks, timeout_ms: TIMEOUT_MS, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// A batch of these values, without a producer, a millisecond between them.
pub(super) fn batch(values: &[&str]) -> Bytes {
    filled(BatchBuilder::new(), values)
}

/// The same with what the builder already says.
pub(super) fn filled(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for (index, value) in values.iter().enumerate() {
        builder
            .append(MOMENT + index as i64, Some(b"key"), Some(value.as_bytes()), &[])
            .expect("a small record fits");
    }
    builder.build().expect("a batch of some records")
}
