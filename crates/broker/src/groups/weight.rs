//! What the groups and offsets of a partition weigh in memory, about (`coordinators/memory.rs`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::{ErrorCode, Str, Uuid};

use super::consumer::{self, ConsumerGroup, ConsumerHeartbeatRequest, Refusal};
use super::entry::{Entry, Kind};
use super::event::{CommitOffset, GroupRecord, Now};
use super::group::Group;
use super::shard::Shard;
use super::share::{self, ShareGroup, ShareHeartbeatRequest};
use super::streams::{self, StreamsGroup, StreamsHeartbeatRequest};

/// Of a group and of a member beside the texts and bytes in them: nodes of maps, timers, names of clients.
const GROUP_BYTES: usize = 1 << 10;
const MEMBER_BYTES: usize = 1 << 10;
const OFFSET_BYTES: usize = 256;
/// Of a name in a list, and of a partition in an assignment.
const NAME_BYTES: usize = 48;
const PLACE_BYTES: usize = 16;
/// Of a partition or task that a member has: by that its holder is found, too.
const HELD_BYTES: usize = 112;
/// Of what a record says in memory, beside the record.
const SAID_PER_WRITTEN: usize = 2;

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

    /// May this member say what it says? What it has said before takes no more room, so who is there goes on.
    pub(super) fn check_room<G: Weighs>(
        &mut self,
        entry: &Entry<G>,
        group_id: &Str,
        request: &G::Heartbeat,
        now: Now,
    ) -> Result<(), Refusal> {
        let said = G::said_bytes(request);
        let known = entry.group().and_then(|group| group.member_bytes(G::member_id(request)));
        let is_there = known.is_some_and(|known| said <= known);
        let opens = if entry.group().is_none() { GROUP_BYTES + group_id.len() } else { 0 };
        let mut weight = std::mem::take(&mut self.weight);
        // The group was taken out of the shard while it is worked on.
        let weigh = || self.weigh() + weight_of_one(group_id, entry) as u64;
        let has_room = is_there || weight.admits(&self.settings.memory, (opens + said) as u64, now, weigh);
        self.weight = weight;
        match has_room {
            true => Ok(()),
            false => Err(Refusal::new(ErrorCode::PolicyViolation, "The memory for groups is used up.")),
        }
    }

    /// Assignments and what else follows from what members say.
    pub(super) fn note_written(&mut self, records: &[GroupRecord]) {
        let bytes = records.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len);
        let bytes = bytes.sum::<usize>() * SAID_PER_WRITTEN;
        self.weight.note(&self.settings.memory, bytes as u64);
    }

    /// Once what was noted is in the shard: what it replaces weighs nothing any more.
    pub(super) fn weigh_if_doubtful(&mut self) {
        if self.weight.is_doubtful(&self.settings.memory) {
            let bytes = self.weigh();
            self.weight.put_weighed(&self.settings.memory, bytes);
        }
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
        let of_classic = |group: &Group| weight_of_classic(group, self.group_records.newest(&group.id));
        let classic: usize = self.groups.values().map(of_classic).sum();
        let groups =
            weight_of_all(&self.consumers) + weight_of_all(&self.streams) + weight_of_all(&self.shares);
        let offsets = self.offsets.metadata_bytes()
            + (self.offsets.len() + self.offsets.pending_len() + self.pending_offsets.len()) * OFFSET_BYTES;
        (classic + groups + offsets) as u64
    }
}

fn weight_of_classic(group: &Group, record: Option<&Bytes>) -> usize {
    let members = group.members.values().map(|member| {
        let offered = member.protocols.iter();
        let offered: usize = offered.map(|offered| offered.name.len() + offered.metadata.len()).sum();
        MEMBER_BYTES + member.client_id.len() + offered + member.assignment.len()
    });
    let record = record.map_or(0, Bytes::len);
    GROUP_BYTES + group.id.len() + record + group.pending_join.len() * NAME_BYTES + members.sum::<usize>()
}

fn weight_of_all<G: Weighs>(entries: &BTreeMap<Str, Entry<G>>) -> usize {
    entries.iter().map(|(id, entry)| weight_of_one(id, entry)).sum()
}

fn weight_of_one<G: Weighs>(id: &Str, entry: &Entry<G>) -> usize {
    GROUP_BYTES + id.len() + entry.group().map_or(0, Weighs::weight_bytes)
}

/// A kind of group whose members say what they want in heartbeats.
pub(super) trait Weighs: Kind {
    type Heartbeat;

    fn member_id(request: &Self::Heartbeat) -> &Str;
    /// What a member would weigh that says this, without what it is assigned.
    fn said_bytes(request: &Self::Heartbeat) -> usize;
    /// The same of a member that is there. None: it is not.
    fn member_bytes(&self, id: &Str) -> Option<usize>;
    /// The whole group.
    fn weight_bytes(&self) -> usize;
}

fn texts<'a>(texts: impl IntoIterator<Item = Option<&'a Str>>) -> usize {
    texts.into_iter().flatten().map(|text| text.len()).sum()
}

fn names<'a>(names: impl IntoIterator<Item = &'a Str>) -> usize {
    names.into_iter().map(|name| NAME_BYTES + name.len()).sum()
}

fn places(partitions: &BTreeMap<Uuid, BTreeSet<i32>>) -> usize {
    partitions.values().map(|of_topic| NAME_BYTES + of_topic.len() * PLACE_BYTES).sum()
}

impl Weighs for ConsumerGroup {
    type Heartbeat = ConsumerHeartbeatRequest;

    fn member_id(request: &ConsumerHeartbeatRequest) -> &Str {
        &request.member_id
    }

    fn said_bytes(request: &ConsumerHeartbeatRequest) -> usize {
        let short = [&request.instance_id, &request.rack_id, &request.pattern, &request.assignor];
        MEMBER_BYTES
            + texts(short.map(Option::as_ref))
            + texts([Some(&request.member_id), Some(&request.client_id)])
            + names(request.topics.iter().flatten())
    }

    fn member_bytes(&self, id: &Str) -> Option<usize> {
        self.member(id).map(|member| consumer_bytes(id, &member.profile))
    }

    fn weight_bytes(&self) -> usize {
        let members = self.stored.members.iter().map(|(id, member)| {
            let held = [&member.progress.assigned, &member.progress.pending_revocation];
            let held: usize = held.into_iter().flat_map(BTreeMap::values).map(BTreeMap::len).sum();
            let offered = member.profile.classic.iter().flat_map(|classic| &classic.protocols);
            let offered = offered.map(|offered| offered.name.len() + offered.metadata.len());
            consumer_bytes(id, &member.profile) + held * HELD_BYTES + offered.sum::<usize>()
        });
        let targets = self.stored.targets.values().map(|target| places(target));
        let patterns = self.stored.patterns.values().map(|matches| names(&matches.topics));
        members.chain(targets).chain(patterns).sum()
    }
}

fn consumer_bytes(id: &Str, profile: &consumer::Profile) -> usize {
    let short = [&profile.instance_id, &profile.rack_id, &profile.pattern, &profile.assignor];
    MEMBER_BYTES
        + texts(short.map(Option::as_ref))
        + texts([Some(id), Some(&profile.client_id)])
        + names(&profile.topics)
}

impl Weighs for ShareGroup {
    type Heartbeat = ShareHeartbeatRequest;

    fn member_id(request: &ShareHeartbeatRequest) -> &Str {
        &request.member_id
    }

    fn said_bytes(request: &ShareHeartbeatRequest) -> usize {
        MEMBER_BYTES
            + texts([request.rack_id.as_ref(), Some(&request.member_id), Some(&request.client_id)])
            + names(request.topics.iter().flatten())
    }

    fn member_bytes(&self, id: &Str) -> Option<usize> {
        self.member(id).map(|member| sharer_bytes(id, &member.profile))
    }

    fn weight_bytes(&self) -> usize {
        let members = self.stored.members.iter();
        // What a member was told is its target as a rule, and takes no memory of its own then.
        let members = members.map(|(id, member)| {
            let is_target = self
                .stored
                .targets
                .get(id)
                .is_some_and(|target| std::sync::Arc::ptr_eq(target, &member.progress.assigned));
            let assigned = if is_target { 0 } else { places(&member.progress.assigned) };
            sharer_bytes(id, &member.profile) + assigned
        });
        let targets = self.stored.targets.values().map(|target| places(target));
        let states = [&self.stored.states.initializing, &self.stored.states.initialized];
        let states = states.into_iter().flat_map(BTreeMap::values);
        let states = states.map(|topic| NAME_BYTES + topic.name.len() + topic.partitions.len() * PLACE_BYTES);
        let deleting = names(self.stored.states.deleting.values());
        members.chain(targets).chain(states).sum::<usize>() + deleting
    }
}

fn sharer_bytes(id: &Str, profile: &share::Profile) -> usize {
    MEMBER_BYTES
        + texts([profile.rack_id.as_ref(), Some(id), Some(&profile.client_id)])
        + names(&profile.topics)
}

impl Weighs for StreamsGroup {
    type Heartbeat = StreamsHeartbeatRequest;

    fn member_id(request: &StreamsHeartbeatRequest) -> &Str {
        &request.member_id
    }

    /// Its topology is the group's. Only a group without one takes it.
    fn said_bytes(request: &StreamsHeartbeatRequest) -> usize {
        let short = [&request.instance_id, &request.rack_id, &request.process_id];
        MEMBER_BYTES
            + texts(short.map(Option::as_ref))
            + texts([Some(&request.member_id), Some(&request.client_id)])
            + request.endpoint.as_ref().map_or(0, |endpoint| endpoint.host.len())
            + request.client_tags.as_ref().map_or(0, |tags| names(tags.iter().flat_map(<[&Str; 2]>::from)))
    }

    fn member_bytes(&self, id: &Str) -> Option<usize> {
        self.member(id).map(|member| streamer_bytes(id, &member.profile))
    }

    fn weight_bytes(&self) -> usize {
        let members = self.stored.members.iter().map(|(id, member)| {
            let held = [&member.progress.held, &member.progress.pending_revocation];
            let held: usize = held.iter().map(|held| held.each().count()).sum();
            streamer_bytes(id, &member.profile) + held * HELD_BYTES
        });
        let targets = self.stored.targets.values().map(|target| {
            let sets = [&target.active, &target.standby, &target.warmup];
            let sets = sets.into_iter().flat_map(BTreeMap::values);
            sets.map(|tasks| NAME_BYTES + tasks.len() * PLACE_BYTES).sum::<usize>()
        });
        // What follows from the topology names its topics again.
        let topology = self.stored.topology.as_ref().map_or(0, |topology| 2 * topology.size_bytes());
        members.chain(targets).sum::<usize>() + topology + self.description.size_bytes()
    }
}

fn streamer_bytes(id: &Str, profile: &streams::Profile) -> usize {
    MEMBER_BYTES
        + texts([profile.instance_id.as_ref(), profile.rack_id.as_ref(), Some(&profile.process_id)])
        + texts([Some(id), Some(&profile.client_id)])
        + profile.endpoint.as_ref().map_or(0, |endpoint| endpoint.host.len())
        + names(profile.client_tags.iter().flat_map(<[&Str; 2]>::from))
}
