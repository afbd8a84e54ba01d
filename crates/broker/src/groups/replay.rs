//! A shard as its log has it. Records are applied in the order of the log; the newest of a key counts.

use bytes::Bytes;
use protocol::Str;
use protocol::messages::GroupMetadataValue;
use protocol::wire::DecodeError;

use super::event::Now;
use super::group::{Group, GroupState};
use super::member::{Member, OfferedProtocol};
use super::records::{self, ReadRecord};
use super::shard::Shard;

impl Shard {
    pub fn replay(&mut self, key: &Bytes, value: Option<&Bytes>, now: Now) -> Result<(), DecodeError> {
        match records::read(key, value)? {
            ReadRecord::Group { group, value: None } => {
                self.group_records.loaded(&group, None);
                self.groups.remove(&group);
            }
            ReadRecord::Group { group, value: Some((record, value)) } => {
                let loaded = load_group(group, value);
                self.group_records.loaded(&loaded.id, Some(record));
                self.replayed.remove(&loaded.id);
                self.replayed_streams.remove(&loaded.id);
                self.replayed_shares.remove(&loaded.id);
                self.groups.insert(loaded.id.clone(), loaded);
            }
            ReadRecord::Offset { key, value } => {
                if value.is_some() && !self.has_replayed(&key.group) {
                    self.groups.insert(key.group.clone(), Group::new(key.group.clone(), now.wall_ms));
                }
                if value.is_none() {
                    self.pending_offsets.forget(&key);
                }
                self.offsets.apply(&key, value);
            }
            ReadRecord::Consumer { group, change: Some(change) } => self.replay_consumer(group, &change),
            ReadRecord::Streams { group, change: Some(change) } => self.replay_streams(group, &change),
            ReadRecord::Share { group, change } => self.replay_share(group, &change),
            ReadRecord::Consumer { change: None, .. } | ReadRecord::Streams { change: None, .. } => {}
            ReadRecord::Other { record_type } => {
                // Written by a broker of Kafka with groups of a kind we do not have yet: kept, and not understood.
                tracing::debug!(record_type, "a record of another kind in __consumer_offsets");
            }
        }
        Ok(())
    }

    /// Whether a group of any kind was read.
    pub(super) fn has_replayed(&self, group: &str) -> bool {
        self.groups.contains_key(group)
            || self.replayed.contains_key(group)
            || self.replayed_streams.contains_key(group)
            || self.replayed_shares.contains_key(group)
    }

    /// The end of the log is reached: every member gets a whole session to be heard of.
    pub fn loaded(&mut self, now: Now) {
        let members = |group: &Group| {
            let group_id = group.id.clone();
            group
                .members
                .values()
                .map(move |member| (group_id.clone(), member.id.clone(), member.session_timeout_ms))
                .collect::<Vec<_>>()
        };
        let watched: Vec<(Str, Str, i32)> = self.groups.values().flat_map(members).collect();
        for (group_id, member_id, session_timeout_ms) in watched {
            self.watch(&group_id, &member_id, session_timeout_ms, now);
        }
        self.consumers_loaded(now);
        self.streams_loaded(now);
        self.shares_loaded(now);
        // A commit that raced the deletion of its group: what readers can see must have a group.
        let has_no_group = |group: &&Str| !self.has_group(group);
        let pending = self.pending_offsets.iter().map(|(key, _)| &key.group);
        let orphaned: Vec<Str> = self.offsets.groups().chain(pending).filter(has_no_group).cloned().collect();
        for group_id in orphaned {
            self.groups.insert(group_id.clone(), Group::new(group_id, now.wall_ms));
        }
        self.schedule_expiration(now);
    }
}

fn load_group(id: Str, value: GroupMetadataValue) -> Group {
    let mut group = Group::new(id, 0);
    group.state = match value.members.is_empty() {
        true => GroupState::Empty,
        false => GroupState::Stable,
    };
    group.state_since_ms = (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
    group.generation = value.generation;
    group.protocol_type = Some(value.protocol_type.detached()).filter(|kind| !kind.is_empty());
    group.protocol_name = value.protocol.as_ref().map(Str::detached);
    if group.is_in(GroupState::Stable) && group.protocol_name.is_none() {
        group.protocol_name = Some(Str::default());
    }
    let protocol = group.protocol_name.clone().unwrap_or_default();
    for member in value.members {
        let rebalance_timeout_ms = match member.rebalance_timeout {
            // Version 0 had one timeout for both.
            -1 => member.session_timeout,
            rebalance_timeout_ms => rebalance_timeout_ms,
        };
        let instance_id = member.group_instance_id.as_ref().map(Str::detached);
        let loaded = Member {
            id: member.member_id.detached(),
            // An id that stands there twice can belong to one only.
            instance_id: instance_id.filter(|id| !group.static_members.contains_key(id)),
            client_id: member.client_id.detached(),
            client_host: member.client_host.detached(),
            rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout,
            // Slices of the record, which is kept anyway.
            protocols: vec![OfferedProtocol { name: protocol.clone(), metadata: member.subscription }],
            assignment: member.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        };
        group.add(loaded);
    }
    let leader = value.leader.filter(|leader| group.members.contains_key(leader));
    if let Some(leader) = leader {
        group.leader = Some(leader.detached());
    }
    group.subscribed_topics = group.read_subscriptions();
    group
}
