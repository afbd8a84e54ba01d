//! The description of a group's topology for people: its sources, processors, sinks and stores, and who feeds whom (KIP-1331).
//!
//! Kafka gives descriptions to a plug-in and writes into the group's record which one it has. Ottla keeps the newest one with the group in
//! memory: whatever took it away (a restart, another coordinator, a write that failed), the next heartbeat asks a member for it.

use std::sync::Arc;

use protocol::message::{decode_versioned_value, versioned_value};
use protocol::messages::StreamsGroupTopologyDescriptionUpdateRequest;
use protocol::messages::streams_group_topology_description_update_request::{
    TopologyDescription, TopologyDescriptionNode, TopologyDescriptionSubtopology,
};
use protocol::{ErrorCode, Str};

use super::heartbeat::not_a_streams_group;
use super::{Entry, Refusal, checks};
use crate::groups::event::Now;
use crate::groups::shard::Shard;

/// A member that was asked and has not sent it may not be able to. Kafka's times.
const ASKED_AGAIN_MS: u64 = 30_000;
const ASKED_AGAIN_MS_MAX: u64 = 3_600_000;

const SOURCE: i8 = 1;
const PROCESSOR: i8 = 2;
const SINK: i8 = 3;

/// The epoch of a topology that is not there.
const NO_TOPOLOGY: i32 = -1;
const VALUE_VERSION: i16 = 0;
const ENCODES: &str = "what was decoded from a frame can be written again";

/// What a group knows of the description of its topology.
#[derive(Debug, Clone, Default)]
pub struct Description {
    state: State,
    asked: Option<Asked>,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Missing,
    Kept {
        description: Arc<TopologyDescription>,
        size_bytes: usize,
    },
    /// It will be no other when it comes again.
    Refused,
}

/// A member was asked for it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    wait_ms: u64,
    /// Monotonic.
    again_at_ms: u64,
}

impl Description {
    pub fn kept(&self) -> Option<&Arc<TopologyDescription>> {
        match &self.state {
            State::Kept { description, .. } => Some(description),
            _ => None,
        }
    }

    pub fn size_bytes(&self) -> usize {
        match self.state {
            State::Kept { size_bytes, .. } => size_bytes,
            _ => 0,
        }
    }

    /// Whether the member that is answered now should be asked for it.
    pub fn ask(&mut self, now: Now) -> bool {
        let is_too_early = self.asked.is_some_and(|asked| now.monotonic_ms < asked.again_at_ms);
        if !matches!(self.state, State::Missing) || is_too_early {
            return false;
        }
        self.wait(now);
        true
    }

    fn wait(&mut self, now: Now) {
        let wait_ms = self.asked.map_or(ASKED_AGAIN_MS, |asked| (2 * asked.wait_ms).min(ASKED_AGAIN_MS_MAX));
        self.asked = Some(Asked { wait_ms, again_at_ms: now.monotonic_ms + wait_ms });
    }
}

/// What a member pushes.
#[derive(Debug, Clone)]
pub struct PushedDescription {
    pub group: Str,
    pub member_id: Str,
    pub topology_epoch: i32,
    pub description: TopologyDescription,
}

impl Shard {
    pub fn keep_topology_description(&mut self, pushed: PushedDescription, now: Now) -> Result<(), Refusal> {
        let group_id = &pushed.group;
        let Some(group) = self.streams_group(group_id) else {
            return Err(match self.has_group(group_id) {
                true => not_a_streams_group(group_id),
                false => Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
            });
        };
        checks::known_member(group_id, group, &pushed.member_id)?;
        let known_epoch = group.stored.topology.as_ref().map_or(NO_TOPOLOGY, |topology| topology.epoch);
        if pushed.topology_epoch != known_epoch {
            let message = format!(
                "The description is of topology epoch {}, the group is in {known_epoch}.",
                pushed.topology_epoch
            );
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let before_bytes = group.description.size_bytes();
        let description = checked(pushed.description)?;
        let size_bytes = size_bytes(&description);
        let is_too_large = size_bytes > self.settings.member_metadata_bytes_max;
        let grows = size_bytes.saturating_sub(before_bytes);
        let has_room = grows == 0 || !is_too_large && self.has_room_for(grows, now);
        let group = self.streams.get_mut(group_id).and_then(Entry::group_mut).expect("was there");
        let refused = |why| Err(Refusal::new(ErrorCode::StreamsTopologyDescriptionUpdateFailed, why));
        if is_too_large {
            // As in Kafka when its plug-in says that it will never take it: nobody is asked for it again.
            group.description = Description { state: State::Refused, asked: None };
            return refused("The description is larger than group.member.metadata.max.bytes.");
        }
        if !has_room {
            group.description.wait(now);
            return refused("The memory for groups is used up.");
        }
        let description = Arc::new(detached(description));
        group.description = Description { state: State::Kept { description, size_bytes }, asked: None };
        Ok(())
    }
}

/// As Kafka keeps it: of each node what its kind has, names once.
fn checked(description: TopologyDescription) -> Result<TopologyDescription, Refusal> {
    let TopologyDescription { mut subtopologies, mut global_stores } = description;
    for TopologyDescriptionSubtopology { nodes, .. } in &mut subtopologies {
        nodes.iter_mut().try_for_each(check_node)?;
    }
    for store in &mut global_stores {
        check_node(&mut store.source)?;
        check_node(&mut store.processor)?;
        if (store.source.node_type, store.processor.node_type) != (SOURCE, PROCESSOR) {
            let message = "A global store is a source and a processor.";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    }
    Ok(TopologyDescription { subtopologies, global_stores })
}

fn check_node(node: &mut TopologyDescriptionNode) -> Result<(), Refusal> {
    let TopologyDescriptionNode { node_type, source_topics, sink_topic, stores, successors, .. } = node;
    if !(SOURCE..=SINK).contains(node_type) {
        let message = format!("There is no kind {node_type} of nodes.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if *node_type != SOURCE {
        source_topics.clear();
    }
    if *node_type != PROCESSOR {
        stores.clear();
    }
    if *node_type != SINK {
        *sink_topic = None;
    }
    for names in [source_topics, stores, successors] {
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
    }
    Ok(())
}

/// The same with all its names in one piece of memory of its own: the frame it came in may be larger.
fn detached(topology_description: TopologyDescription) -> TopologyDescription {
    type Pushed = StreamsGroupTopologyDescriptionUpdateRequest;
    let value = Pushed { topology_description, ..Pushed::default() };
    let bytes = versioned_value(VALUE_VERSION, &value).expect(ENCODES);
    decode_versioned_value::<Pushed>(&bytes).expect(ENCODES).1.topology_description
}

/// About how much it weighs in memory.
fn size_bytes(description: &TopologyDescription) -> usize {
    let subtopologies = description.subtopologies.iter().map(|one| {
        size_of::<TopologyDescriptionSubtopology>()
            + one.subtopology_id.len()
            + one.nodes.iter().map(node_bytes).sum::<usize>()
    });
    let stores = description.global_stores.iter();
    let stores = stores.map(|store| node_bytes(&store.source) + node_bytes(&store.processor));
    subtopologies.chain(stores).sum()
}

fn node_bytes(node: &TopologyDescriptionNode) -> usize {
    let names = node.source_topics.iter().chain(&node.stores).chain(&node.successors);
    let names = names.map(|name| size_of::<Str>() + name.len());
    size_of::<TopologyDescriptionNode>()
        + node.name.len()
        + node.sink_topic.as_ref().map_or(0, |topic| topic.len())
        + names.sum::<usize>()
}
