//! The topology of an application, as its members send it when they join: which topics each part of it reads, which topics it
//! needs for itself. Kept in Kafka's own record (type 23).

use std::collections::{BTreeMap, BTreeSet};

use protocol::message::{decode_versioned_value, versioned_value};
use protocol::messages::StreamsGroupTopologyValue;
use protocol::messages::streams_group_topology_value::{Subtopology, TopicInfo};
use protocol::{ErrorCode, Str};

use super::Refusal;

const VALUE_VERSION: i16 = 0;
const ENCODES: &str = "what was decoded from a frame fits into a record";

#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    pub epoch: i32,
    /// By id.
    pub subtopologies: BTreeMap<Str, Subtopology>,
}

impl Topology {
    pub fn of(value: StreamsGroupTopologyValue) -> Result<Topology, Refusal> {
        let mut subtopologies = BTreeMap::new();
        for subtopology in value.subtopologies {
            let id = subtopology.subtopology_id.clone();
            if subtopologies.insert(id.clone(), subtopology).is_some() {
                return Err(Refusal::topology(format!("Subtopology {id} is there more than once.")));
            }
        }
        Ok(Topology { epoch: value.epoch, subtopologies })
    }

    /// As it stands in the log.
    pub fn value(&self) -> StreamsGroupTopologyValue {
        StreamsGroupTopologyValue {
            epoch: self.epoch,
            subtopologies: self.subtopologies.values().cloned().collect(),
        }
    }

    /// The same with all its names in one piece of memory of its own: the frame it came in may be much larger.
    pub fn detached(&self) -> Topology {
        let bytes = versioned_value(VALUE_VERSION, &self.value()).expect(ENCODES);
        let (_, value) = decode_versioned_value(&bytes).expect(ENCODES);
        Topology::of(value).expect("each id stood there once")
    }

    /// About how much it weighs in memory.
    pub fn size_bytes(&self) -> usize {
        self.subtopologies.values().map(subtopology_bytes).sum()
    }

    /// Every topic that has to be there for the application to run.
    pub fn required_topics(&self) -> BTreeSet<&Str> {
        let subtopologies = self.subtopologies.values();
        let of = |one| sources(one).chain(one.state_changelog_topics.iter().map(|info| &info.name));
        subtopologies.flat_map(of).collect()
    }

    /// The subtopology that reads a topic.
    pub fn reader_of(&self, topic: &str) -> Option<&Str> {
        let reads = |one: &&Subtopology| sources(one).any(|source| source == topic);
        self.subtopologies.values().find(reads).map(|one| &one.subtopology_id)
    }
}

/// The topics that a subtopology reads, those of the application itself included.
pub fn sources(subtopology: &Subtopology) -> impl Iterator<Item = &Str> {
    let own = subtopology.repartition_source_topics.iter().map(|info| &info.name);
    subtopology.source_topics.iter().chain(own)
}

/// The topics of the application itself.
pub fn internal_topics(subtopology: &Subtopology) -> impl Iterator<Item = &TopicInfo> {
    subtopology.repartition_source_topics.iter().chain(&subtopology.state_changelog_topics)
}

fn subtopology_bytes(one: &Subtopology) -> usize {
    const STRING_BYTES: usize = 40;
    let texts = one.source_topics.iter().chain(&one.source_topic_regex).chain(&one.repartition_sink_topics);
    let texts: usize = texts.map(|text| STRING_BYTES + text.len()).sum();
    let info = |info: &TopicInfo| {
        let configs = info.topic_configs.iter();
        let configs = configs.map(|config| 2 * STRING_BYTES + config.key.len() + config.value.len());
        2 * STRING_BYTES + info.name.len() + configs.sum::<usize>()
    };
    let numbers = one.copartition_groups.iter().map(|group| {
        2 * STRING_BYTES + 2 * (group.source_topics.len() + group.repartition_source_topics.len())
    });
    let infos = internal_topics(one).map(info);
    8 * STRING_BYTES + one.subtopology_id.len() + texts + infos.sum::<usize>() + numbers.sum::<usize>()
}

impl Refusal {
    pub fn topology(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::StreamsInvalidTopology, message)
    }
}
