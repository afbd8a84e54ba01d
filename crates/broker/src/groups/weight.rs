//! What the groups and offsets of a partition weigh in memory, about (`coordinators/memory.rs`).

use protocol::Str;

use super::event::{CommitOffset, Now};
use super::group::Group;
use super::shard::Shard;

/// Of a group and of a member beside the texts and bytes in them: nodes of maps, timers, names of clients.
const GROUP_BYTES: usize = 1 << 10;
const MEMBER_BYTES: usize = 1 << 10;
const OFFSET_BYTES: usize = 256;
/// Of a name in a list, and of a partition in an assignment.
const NAME_BYTES: usize = 48;
const PLACE_BYTES: usize = 16;

impl Shard {
    /// May a member of a classic group be added that says so much about itself?
    pub(super) fn has_room_for_member(&mut self, said_bytes: usize, now: Now) -> bool {
        self.has_room_for(GROUP_BYTES + MEMBER_BYTES + said_bytes, now)
    }

    /// May these offsets be added? Those that are there already take no more room.
    pub(super) fn has_room_for_offsets(&mut self, group: &Str, offsets: &[CommitOffset], now: Now) -> bool {
        let is_new = |commit: &&CommitOffset| {
            self.offsets
                .get(group, &commit.topic, commit.partition)
                .is_none_or(|known| known.metadata.len() < commit.metadata.len())
        };
        let bytes: usize =
            offsets.iter().filter(is_new).map(|commit| OFFSET_BYTES + commit.metadata.len()).sum();
        bytes == 0 || self.has_room_for(bytes, now)
    }

    pub(super) fn has_room_for(&mut self, bytes: usize, now: Now) -> bool {
        let mut weight = std::mem::take(&mut self.weight);
        let has_room = weight.admits(&self.settings.memory, bytes as u64, now, || self.weigh());
        self.weight = weight;
        has_room
    }

    pub(super) fn weigh_anew(&mut self, now: Now) {
        let bytes = self.weigh();
        self.weight.set(&self.settings.memory, bytes, now);
    }

    fn weigh(&self) -> u64 {
        let classic: usize = self.groups.values().map(weight_of_classic).sum();
        let consumers = self.consumers.values().filter_map(super::consumer::Entry::group);
        let consumers: usize = consumers.map(weight_of_consumer).sum();
        let offsets = self.offsets.metadata_bytes()
            + (self.offsets.len() + self.offsets.pending_len() + self.pending_offsets.len()) * OFFSET_BYTES;
        (classic + consumers + offsets) as u64
    }
}

fn weight_of_classic(group: &Group) -> usize {
    let members = group.members.values().map(|member| {
        let offered = member.protocols.iter();
        let offered: usize = offered.map(|offered| offered.name.len() + offered.metadata.len()).sum();
        MEMBER_BYTES + offered + member.assignment.len()
    });
    let record = group.record.as_ref().map_or(0, bytes::Bytes::len);
    GROUP_BYTES + group.id.len() + record + group.pending_join.len() * NAME_BYTES + members.sum::<usize>()
}

fn weight_of_consumer(group: &super::consumer::ConsumerGroup) -> usize {
    let members = group.stored.members.values().map(|member| {
        let topics: usize = member.profile.topics.iter().map(|topic| NAME_BYTES + topic.len()).sum();
        let pattern = member.profile.pattern.as_ref().map_or(0, |pattern| pattern.len());
        let places: usize =
            member.progress.assigned.values().map(|of_topic| of_topic.len() * PLACE_BYTES).sum();
        MEMBER_BYTES + topics + pattern + places
    });
    let targets = group.stored.targets.values();
    let targets: usize = targets
        .map(|target| target.values().map(|of_topic| of_topic.len() * PLACE_BYTES).sum::<usize>())
        .sum();
    GROUP_BYTES + targets + members.sum::<usize>()
}
