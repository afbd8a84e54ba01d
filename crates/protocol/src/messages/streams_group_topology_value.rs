// Written by `cargo xtask codegen` from StreamsGroupTopologyValue.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamsGroupTopologyValue {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
}

impl StreamsGroupTopologyValue {
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
    pub topic_configs: Vec<TopicConfig>,
}

impl TopicInfo {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.partitions = r.i32()?;
        value.replication_factor = r.i16()?;
        value.topic_configs = r.array(true, 3, version, TopicConfig::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.i32(self.partitions);
        w.i16(self.replication_factor);
        w.array(true, version, &self.topic_configs, TopicConfig::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopicConfig {
    pub key: Str,
    pub value: Str,
}

impl TopicConfig {
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

impl Message for StreamsGroupTopologyValue {
    const NAME: &'static str = "StreamsGroupTopologyValue";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;
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
