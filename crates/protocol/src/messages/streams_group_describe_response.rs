// Written by `cargo xtask codegen` from StreamsGroupDescribeResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamsGroupDescribeResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

impl StreamsGroupDescribeResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        value.groups = r.array(true, if version < 1 { 20 } else { 23 }, version, DescribedGroup::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.throttle_time_ms);
        w.array(true, version, &self.groups, DescribedGroup::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroup {
    pub error_code: i16,
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub topology: Option<Topology>,
    pub members: Vec<Member>,
    pub authorized_operations: i32,
    /// Version 1.
    pub topology_description: Option<TopologyDescription>,
    /// Version 1.
    pub topology_description_status: i8,
    /// Version 1.
    pub assignor_name: Option<Str>,
}

impl Default for DescribedGroup {
    fn default() -> DescribedGroup {
        DescribedGroup {
            error_code: 0,
            error_message: None,
            group_id: Str::default(),
            group_state: Str::default(),
            group_epoch: 0,
            assignment_epoch: 0,
            topology: None,
            members: Vec::new(),
            authorized_operations: i32::MIN,
            topology_description: None,
            topology_description_status: 0,
            assignor_name: None,
        }
    }
}

impl DescribedGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(true)?;
        value.group_id = r.string(true)?;
        value.group_state = r.string(true)?;
        value.group_epoch = r.i32()?;
        value.assignment_epoch = r.i32()?;
        value.topology = r.nullable_struct(version, Topology::read)?;
        value.members = r.array(true, 28, version, Member::read)?;
        value.authorized_operations = r.i32()?;
        if version == 1 {
            value.topology_description = r.nullable_struct(version, TopologyDescription::read)?;
        }
        if version == 1 {
            value.topology_description_status = r.i8()?;
        }
        if version == 1 {
            value.assignor_name = r.nullable_string(true)?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        w.nullable_string(true, &self.error_message)?;
        w.string(true, &self.group_id)?;
        w.string(true, &self.group_state)?;
        w.i32(self.group_epoch);
        w.i32(self.assignment_epoch);
        w.nullable_struct(version, &self.topology, Topology::write)?;
        w.array(true, version, &self.members, Member::write)?;
        w.i32(self.authorized_operations);
        if version == 1 {
            w.nullable_struct(version, &self.topology_description, TopologyDescription::write)?;
        } else if self.topology_description.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "TopologyDescription", version });
        }
        if version == 1 {
            w.i8(self.topology_description_status);
        } else if self.topology_description_status != 0 {
            return Err(EncodeError::FieldNotInVersion { field: "TopologyDescriptionStatus", version });
        }
        if version == 1 {
            w.nullable_string(true, &self.assignor_name)?;
        }
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Option<Vec<Subtopology>>,
}

impl Topology {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.epoch = r.i32()?;
        value.subtopologies = r.nullable_array(true, 6, version, Subtopology::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.epoch);
        w.nullable_array(true, version, self.subtopologies.as_deref(), Subtopology::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub repartition_sink_topics: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_source_topics: Vec<TopicInfo>,
}

impl Subtopology {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.source_topics = r.array(true, 1, version, |r, _| r.string(true))?;
        value.repartition_sink_topics = r.array(true, 1, version, |r, _| r.string(true))?;
        value.state_changelog_topics = r.array(true, 9, version, TopicInfo::read)?;
        value.repartition_source_topics = r.array(true, 9, version, TopicInfo::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.array(true, version, &self.source_topics, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.repartition_sink_topics, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.state_changelog_topics, TopicInfo::write)?;
        w.array(true, version, &self.repartition_source_topics, TopicInfo::write)?;
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
pub struct Member {
    pub member_id: Str,
    pub member_epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topology_epoch: i32,
    pub process_id: Str,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Vec<KeyValue>,
    pub task_offsets: Vec<TaskOffset>,
    pub task_end_offsets: Vec<TaskOffset>,
    pub assignment: Assignment,
    pub target_assignment: Assignment,
    pub is_classic: bool,
}

impl Member {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.member_id = r.string(true)?;
        value.member_epoch = r.i32()?;
        value.instance_id = r.nullable_string(true)?;
        value.rack_id = r.nullable_string(true)?;
        value.client_id = r.string(true)?;
        value.client_host = r.string(true)?;
        value.topology_epoch = r.i32()?;
        value.process_id = r.string(true)?;
        value.user_endpoint = r.nullable_struct(version, Endpoint::read)?;
        value.client_tags = r.array(true, 3, version, KeyValue::read)?;
        value.task_offsets = r.array(true, 14, version, TaskOffset::read)?;
        value.task_end_offsets = r.array(true, 14, version, TaskOffset::read)?;
        value.assignment = Assignment::read(r, version)?;
        value.target_assignment = Assignment::read(r, version)?;
        value.is_classic = r.bool()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.member_id)?;
        w.i32(self.member_epoch);
        w.nullable_string(true, &self.instance_id)?;
        w.nullable_string(true, &self.rack_id)?;
        w.string(true, &self.client_id)?;
        w.string(true, &self.client_host)?;
        w.i32(self.topology_epoch);
        w.string(true, &self.process_id)?;
        w.nullable_struct(version, &self.user_endpoint, Endpoint::write)?;
        w.array(true, version, &self.client_tags, KeyValue::write)?;
        w.array(true, version, &self.task_offsets, TaskOffset::write)?;
        w.array(true, version, &self.task_end_offsets, TaskOffset::write)?;
        self.assignment.write(w, version)?;
        self.target_assignment.write(w, version)?;
        w.bool(self.is_classic);
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

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assignment {
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
}

impl Assignment {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.active_tasks = r.array(true, 3, version, TaskIds::read)?;
        value.standby_tasks = r.array(true, 3, version, TaskIds::read)?;
        value.warmup_tasks = r.array(true, 3, version, TaskIds::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.active_tasks, TaskIds::write)?;
        w.array(true, version, &self.standby_tasks, TaskIds::write)?;
        w.array(true, version, &self.warmup_tasks, TaskIds::write)?;
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
pub struct TopologyDescription {
    pub subtopologies: Vec<TopologyDescriptionSubtopology>,
    pub global_stores: Vec<TopologyDescriptionGlobalStore>,
}

impl TopologyDescription {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopologies = r.array(true, 3, version, TopologyDescriptionSubtopology::read)?;
        value.global_stores = r.array(true, 15, version, TopologyDescriptionGlobalStore::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.subtopologies, TopologyDescriptionSubtopology::write)?;
        w.array(true, version, &self.global_stores, TopologyDescriptionGlobalStore::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopologyDescriptionSubtopology {
    pub subtopology_id: Str,
    pub nodes: Vec<TopologyDescriptionNode>,
}

impl TopologyDescriptionSubtopology {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.nodes = r.array(true, 7, version, TopologyDescriptionNode::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.array(true, version, &self.nodes, TopologyDescriptionNode::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopologyDescriptionNode {
    pub name: Str,
    pub node_type: i8,
    pub source_topics: Vec<Str>,
    pub sink_topic: Option<Str>,
    pub stores: Vec<Str>,
    pub successors: Vec<Str>,
}

impl TopologyDescriptionNode {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.node_type = r.i8()?;
        value.source_topics = r.array(true, 1, version, |r, _| r.string(true))?;
        value.sink_topic = r.nullable_string(true)?;
        value.stores = r.array(true, 1, version, |r, _| r.string(true))?;
        value.successors = r.array(true, 1, version, |r, _| r.string(true))?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.i8(self.node_type);
        w.array(true, version, &self.source_topics, |value, w, _| w.string(true, value))?;
        w.nullable_string(true, &self.sink_topic)?;
        w.array(true, version, &self.stores, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.successors, |value, w, _| w.string(true, value))?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopologyDescriptionGlobalStore {
    pub source: TopologyDescriptionNode,
    pub processor: TopologyDescriptionNode,
}

impl TopologyDescriptionGlobalStore {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.source = TopologyDescriptionNode::read(r, version)?;
        value.processor = TopologyDescriptionNode::read(r, version)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.source.write(w, version)?;
        self.processor.write(w, version)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for StreamsGroupDescribeResponse {
    const NAME: &'static str = "StreamsGroupDescribeResponse";
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
