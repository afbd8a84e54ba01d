// Written by `cargo xtask codegen` from StreamsGroupHeartbeatRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamsGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub endpoint_information_epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub rebalance_timeout_ms: i32,
    pub topology: Option<Topology>,
    pub active_tasks: Option<Vec<TaskIds>>,
    pub standby_tasks: Option<Vec<TaskIds>>,
    pub warmup_tasks: Option<Vec<TaskIds>>,
    pub process_id: Option<Str>,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Option<Vec<KeyValue>>,
    pub task_offsets: Option<Vec<TaskOffset>>,
    pub task_end_offsets: Option<Vec<TaskOffset>>,
    pub shutdown_application: bool,
}

impl Default for StreamsGroupHeartbeatRequest {
    fn default() -> StreamsGroupHeartbeatRequest {
        StreamsGroupHeartbeatRequest {
            group_id: Str::default(),
            member_id: Str::default(),
            member_epoch: 0,
            endpoint_information_epoch: 0,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: -1,
            topology: None,
            active_tasks: None,
            standby_tasks: None,
            warmup_tasks: None,
            process_id: None,
            user_endpoint: None,
            client_tags: None,
            task_offsets: None,
            task_end_offsets: None,
            shutdown_application: false,
        }
    }
}

impl StreamsGroupHeartbeatRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.string(true)?;
        value.member_id = r.string(true)?;
        value.member_epoch = r.i32()?;
        value.endpoint_information_epoch = r.i32()?;
        value.instance_id = r.nullable_string(true)?;
        value.rack_id = r.nullable_string(true)?;
        value.rebalance_timeout_ms = r.i32()?;
        value.topology = r.nullable_struct(version, Topology::read)?;
        value.active_tasks = r.nullable_array(true, 3, version, TaskIds::read)?;
        value.standby_tasks = r.nullable_array(true, 3, version, TaskIds::read)?;
        value.warmup_tasks = r.nullable_array(true, 3, version, TaskIds::read)?;
        value.process_id = r.nullable_string(true)?;
        value.user_endpoint = r.nullable_struct(version, Endpoint::read)?;
        value.client_tags = r.nullable_array(true, 3, version, KeyValue::read)?;
        value.task_offsets = r.nullable_array(true, 14, version, TaskOffset::read)?;
        value.task_end_offsets = r.nullable_array(true, 14, version, TaskOffset::read)?;
        value.shutdown_application = r.bool()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.group_id)?;
        w.string(true, &self.member_id)?;
        w.i32(self.member_epoch);
        w.i32(self.endpoint_information_epoch);
        w.nullable_string(true, &self.instance_id)?;
        w.nullable_string(true, &self.rack_id)?;
        w.i32(self.rebalance_timeout_ms);
        w.nullable_struct(version, &self.topology, Topology::write)?;
        w.nullable_array(true, version, self.active_tasks.as_deref(), TaskIds::write)?;
        w.nullable_array(true, version, self.standby_tasks.as_deref(), TaskIds::write)?;
        w.nullable_array(true, version, self.warmup_tasks.as_deref(), TaskIds::write)?;
        w.nullable_string(true, &self.process_id)?;
        w.nullable_struct(version, &self.user_endpoint, Endpoint::write)?;
        w.nullable_array(true, version, self.client_tags.as_deref(), KeyValue::write)?;
        w.nullable_array(true, version, self.task_offsets.as_deref(), TaskOffset::write)?;
        w.nullable_array(true, version, self.task_end_offsets.as_deref(), TaskOffset::write)?;
        w.bool(self.shutdown_application);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
}

impl Topology {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.epoch = r.i32()?;
        value.subtopologies = r.array(true, 8, version, Subtopology::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.epoch);
        w.array(true, version, &self.subtopologies, Subtopology::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub source_topic_regex: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_sink_topics: Vec<Str>,
    pub repartition_source_topics: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
}

impl Subtopology {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.source_topics = r.array(true, 1, version, |r, _| r.string(true))?;
        value.source_topic_regex = r.array(true, 1, version, |r, _| r.string(true))?;
        value.state_changelog_topics = r.array(true, 9, version, TopicInfo::read)?;
        value.repartition_sink_topics = r.array(true, 1, version, |r, _| r.string(true))?;
        value.repartition_source_topics = r.array(true, 9, version, TopicInfo::read)?;
        value.copartition_groups = r.array(true, 4, version, CopartitionGroup::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.array(true, version, &self.source_topics, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.source_topic_regex, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.state_changelog_topics, TopicInfo::write)?;
        w.array(true, version, &self.repartition_sink_topics, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.repartition_source_topics, TopicInfo::write)?;
        w.array(true, version, &self.copartition_groups, CopartitionGroup::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopicInfo {
    pub name: Str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub topic_configs: Vec<KeyValue>,
}

impl TopicInfo {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.partitions = r.i32()?;
        value.replication_factor = r.i16()?;
        value.topic_configs = r.array(true, 3, version, KeyValue::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.i32(self.partitions);
        w.i16(self.replication_factor);
        w.array(true, version, &self.topic_configs, KeyValue::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyValue {
    pub key: Str,
    pub value: Str,
}

impl KeyValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.key = r.string(true)?;
        value.value = r.string(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.key)?;
        w.string(true, &self.value)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
}

impl CopartitionGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.source_topics = r.array(true, 2, version, |r, _| r.i16())?;
        value.source_topic_regex = r.array(true, 2, version, |r, _| r.i16())?;
        value.repartition_source_topics = r.array(true, 2, version, |r, _| r.i16())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.source_topics, |value, w, _| {
            w.i16(*value);
            Ok(())
        })?;
        w.array(true, version, &self.source_topic_regex, |value, w, _| {
            w.i16(*value);
            Ok(())
        })?;
        w.array(true, version, &self.repartition_source_topics, |value, w, _| {
            w.i16(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
}

impl TaskIds {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.partitions = r.array(true, 4, version, |r, _| r.i32())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.array(true, version, &self.partitions, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
}

impl Endpoint {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.host = r.string(true)?;
        value.port = r.u16()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.host)?;
        w.u16(self.port);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskOffset {
    pub subtopology_id: Str,
    pub partition: i32,
    pub offset: i64,
}

impl TaskOffset {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.partition = r.i32()?;
        value.offset = r.i64()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.i32(self.partition);
        w.i64(self.offset);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for StreamsGroupHeartbeatRequest {
    const NAME: &'static str = "StreamsGroupHeartbeatRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
    const FIRST_FLEXIBLE_VERSION: i16 = 0;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for StreamsGroupHeartbeatRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::StreamsGroupHeartbeat;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::StreamsGroupHeartbeatResponse;
}
