//! What tools ask for: ListGroups, DescribeGroups, DeleteGroups.

use protocol::{ErrorCode, Str};

use super::consumer::ConsumerGroup;
use super::entry::Kind;
use super::event::{Answer, DeletedGroups, DescribedGroup, DescribedMember, Effects, ListedGroup, ReplyId};
use super::group::{CONSUMER_PROTOCOL_TYPE, Group, GroupState};
use super::offset_store::OffsetKey;
use super::shard::{AfterWrite, Shard};
use super::share::ShareGroup;
use super::streams::{STREAMS_PROTOCOL_TYPE, StreamsGroup};

impl Shard {
    pub fn list(&self) -> Vec<ListedGroup> {
        let listed = |group: &Group| ListedGroup {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            group_type: "classic",
        };
        let consumers = self.settled_consumer_groups().map(|(group, stored)| ListedGroup {
            group: group.clone(),
            protocol_type: Str::from_static(CONSUMER_PROTOCOL_TYPE),
            state: stored.state().name(),
            group_type: "consumer",
        });
        let streams = self.settled_streams_groups().map(|(group, stored)| ListedGroup {
            group: group.clone(),
            protocol_type: Str::from_static(STREAMS_PROTOCOL_TYPE),
            state: stored.state().name(),
            group_type: STREAMS_PROTOCOL_TYPE,
        });
        let shares = self.settled_share_groups().map(|(group, stored)| ListedGroup {
            group: group.clone(),
            protocol_type: Str::from_static("share"),
            state: stored.state().name(),
            group_type: "share",
        });
        self.groups.values().map(listed).chain(consumers).chain(streams).chain(shares).collect()
    }

    pub fn describe(&self, group_id: &str) -> Option<DescribedGroup> {
        let group = self.groups.get(group_id)?;
        // Before the group has settled, what its members say about themselves may belong to another protocol.
        let protocol_name = group.protocol_name.clone().filter(|_| group.is_in(GroupState::Stable));
        let members = group.members.values().map(|member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol_name.as_ref().map(|name| member.metadata(name)).unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        Some(DescribedGroup {
            state: group.state,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol_name: protocol_name.clone().unwrap_or_default(),
        })
    }

    /// Deletes empty groups with all their offsets, in one write.
    pub fn delete_groups(&mut self, group_ids: Vec<Str>, reply: ReplyId, effects: &mut Effects) {
        let mut outcome = Vec::with_capacity(group_ids.len());
        let mut deleted = Vec::new();
        let (mut consumers, mut streams, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for group_id in group_ids {
            let is_named_twice =
                [&consumers, &streams, &shares].iter().any(|named| named.contains(&group_id));
            let share = self.share_group(&group_id).map(|group| group.stored.members.is_empty());
            let error = match self.groups.get(&group_id) {
                _ if is_named_twice => ErrorCode::GroupIdNotFound,
                // Somebody has had states begun for it meanwhile. Without the group nobody would know of them any more, nor could one of
                // the same name ever begin its own: those have a greater epoch.
                None if share == Some(true) && self.has_share_states(&group_id) => {
                    ErrorCode::CoordinatorNotAvailable
                }
                None if share == Some(true) => {
                    shares.push(group_id.detached());
                    ErrorCode::None
                }
                None if share == Some(false) => ErrorCode::NonEmptyGroup,
                None if self.is_empty_consumer_group(&group_id) => {
                    consumers.push(group_id.detached());
                    ErrorCode::None
                }
                None if self.consumer_group(&group_id).is_some() => ErrorCode::NonEmptyGroup,
                None => match self.streams_group(&group_id).map(Kind::has_members) {
                    Some(true) => ErrorCode::NonEmptyGroup,
                    Some(false) => {
                        streams.push(group_id.detached());
                        ErrorCode::None
                    }
                    None => ErrorCode::GroupIdNotFound,
                },
                Some(group) if !group.is_in(GroupState::Empty) => ErrorCode::NonEmptyGroup,
                Some(_) => ErrorCode::None,
            };
            if error == ErrorCode::None {
                deleted.extend(self.groups.remove(&group_id));
            }
            outcome.push((group_id, error));
        }
        let answer = DeletedGroups { groups: outcome };
        if deleted.is_empty() && consumers.is_empty() && streams.is_empty() && shares.is_empty() {
            return self.answer_behind_writes(reply, Answer::DeleteGroups(answer), effects);
        }
        let mut keys: Vec<OffsetKey> = Vec::new();
        let mut tombstones = Vec::new();
        let token = self.next_token();
        for group in consumers.iter().chain(&streams).chain(&shares) {
            let offsets = self.offsets.newest_of_group(group);
            keys.extend(offsets.into_iter().map(|(key, _)| key));
            keys.extend(self.pending_offsets.keys_of(group).cloned());
        }
        for group in &consumers {
            tombstones.extend(self.begin_deletion::<ConsumerGroup>(group, token));
        }
        for group in &streams {
            tombstones.extend(self.begin_deletion::<StreamsGroup>(group, token));
        }
        for group in &shares {
            tombstones.extend(self.begin_deletion::<ShareGroup>(group, token));
        }
        for group in &deleted {
            let offsets = self.offsets.newest_of_group(&group.id);
            keys.extend(offsets.into_iter().map(|(key, _)| key));
            keys.extend(self.pending_offsets.keys_of(&group.id).cloned());
            self.timers.cancel_group(&group.id, group.pending_join.iter().cloned());
            tombstones.push(self.group_tombstone(&group.id));
        }
        keys.sort_unstable();
        keys.dedup();
        let after = AfterWrite::GroupsDeleted {
            groups: deleted,
            consumers,
            streams,
            shares,
            answer: Some((reply, answer)),
        };
        self.drop_offsets(keys, after, tombstones, effects);
    }

    pub(super) fn groups_deleted(
        &mut self,
        groups: Vec<Group>,
        answer: Option<(ReplyId, DeletedGroups)>,
        outcome: Result<(), ErrorCode>,
        effects: &mut Effects,
    ) {
        if outcome.is_err() {
            // They are still in the log, so they are still there. One that was made anew meanwhile stays as it is.
            for mut group in groups {
                // The alarms of ids given out are gone, so are the ids.
                group.pending_join.clear();
                self.groups.entry(group.id.clone()).or_insert(group);
            }
        }
        let Some((reply, mut answer)) = answer else { return };
        if let Err(error) = outcome {
            let was_deleted = |(_, was): &&mut (Str, ErrorCode)| *was == ErrorCode::None;
            answer.groups.iter_mut().filter(was_deleted).for_each(|(_, was)| *was = error);
        }
        effects.answer(reply, Answer::DeleteGroups(answer));
    }
}
