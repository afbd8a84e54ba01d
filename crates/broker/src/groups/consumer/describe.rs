//! What tools ask of consumer groups, and what commits are checked against.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Str, Uuid};

use super::assignment::{self, Partitions};
use super::event::{DescribedConsumer, DescribedConsumerGroup, DescribedTopic, Refusal};
use super::group::{ConsumerGroup, ConsumerGroupState, Stored};
use super::member::Member;
use crate::groups::catalog_view::CatalogView;
use crate::groups::event::CommitRequest;
use crate::groups::shard::Shard;

impl Shard {
    /// The consumer group of this name with all that was handed to the log.
    pub(in crate::groups) fn consumer_group(&self, group: &str) -> Option<&ConsumerGroup> {
        self.consumers.get(group)?.group()
    }

    pub fn describe_consumer_group(&self, group_id: &str) -> Result<DescribedConsumerGroup, Refusal> {
        let Some(stored) = self.consumers.get(group_id).and_then(|entry| entry.settled()) else {
            return Err(match self.has_group(group_id) {
                true => Refusal::no_group(group_id),
                false => Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
            });
        };
        let view = &*self.settings.catalog;
        let assignor = stored.preferred_assignor().unwrap_or(self.settings.consumer_assignor);
        let members = stored.members.iter();
        Ok(DescribedConsumerGroup {
            state: stored.state(),
            epoch: stored.epoch.epoch,
            assignment_epoch: stored.target_epoch.epoch,
            assignor: Str::from_static(assignor.name()),
            members: members.map(|(id, member)| described(stored, id, member, view)).collect(),
        })
    }

    /// Consumer groups with what is in the log of them for good.
    pub(in crate::groups) fn settled_consumer_groups(&self) -> impl Iterator<Item = (&Str, &Stored)> {
        self.consumers.iter().filter_map(|(id, entry)| Some((id, entry.settled()?)))
    }

    /// What a commit of a member must fit to; of members as they are now, also where the log does not say so yet.
    pub(in crate::groups) fn check_consumer_commit(
        &self,
        group: &ConsumerGroup,
        request: &CommitRequest,
    ) -> Result<(), ErrorCode> {
        // A tool or a simple consumer.
        if request.generation < 0 && group.stored.members.is_empty() {
            return Ok(());
        }
        let member = group.member(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let stale = match member.is_classic() {
            true => ErrorCode::IllegalGeneration,
            false => ErrorCode::StaleMemberEpoch,
        };
        // Versions before do not know that error.
        if !member.is_classic() && !request.knows_group_id_not_found {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if member.may_commit(request) { Ok(()) } else { Err(stale) }
    }

    /// Whether a member may fetch offsets (v9 on: it says who it is).
    pub fn check_offset_fetch(
        &self,
        group: &str,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        if let Some(stored) = self.streams.get(group).and_then(|entry| entry.settled()) {
            return Shard::check_streams_offset_fetch(stored, member_id, epoch);
        }
        let Some(stored) = self.consumers.get(group).and_then(|entry| entry.settled()) else { return Ok(()) };
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = stored.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        match (epoch == member.progress.epoch, member.is_classic()) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorCode::IllegalGeneration),
            (false, false) => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    pub(in crate::groups) fn is_empty_consumer_group(&self, group: &str) -> bool {
        self.consumer_group(group).is_some_and(|group| group.stored.state() == ConsumerGroupState::Empty)
    }

    /// A group of any kind.
    pub(in crate::groups) fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
            || self.consumer_group(group).is_some()
            || self.streams_group(group).is_some()
            || self.share_group(group).is_some()
    }

    pub(in crate::groups) fn is_full_of_groups(&self) -> bool {
        self.group_count() >= self.settings.groups_per_partition_max
    }
}

impl Member {
    /// Whether a commit comes from the member's epoch. It may be behind, as long as what it commits has been its own since then.
    pub(in crate::groups) fn may_commit(&self, request: &CommitRequest) -> bool {
        let progress = &self.progress;
        let is_own = |topic: Uuid, partition: i32| {
            let epoch = assignment::epoch_of(&progress.assigned, topic, partition)
                .or_else(|| assignment::epoch_of(&progress.pending_revocation, topic, partition));
            epoch.is_some_and(|epoch| request.generation >= epoch)
        };
        let are_own = || request.offsets.iter().all(|commit| is_own(commit.topic_id, commit.partition));
        request.generation == progress.epoch || request.generation < progress.epoch && are_own()
    }
}

fn described(stored: &Stored, id: &Str, member: &Member, view: &dyn CatalogView) -> DescribedConsumer {
    let Member { profile, progress } = member;
    let mut assigned = Partitions::new();
    let has = assignment::each(&progress.assigned).chain(assignment::each(&progress.pending_revocation));
    for (topic, partition) in has {
        assigned.entry(topic).or_default().insert(partition);
    }
    DescribedConsumer {
        member_id: id.clone(),
        instance_id: profile.instance_id.clone(),
        rack_id: profile.rack_id.clone(),
        epoch: progress.epoch,
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        topics: profile.topics.iter().cloned().collect(),
        pattern: profile.pattern.clone(),
        assigned: named(&assigned, view),
        target: named(&stored.target(id), view),
        is_classic: member.is_classic(),
    }
}

fn named(partitions: &Partitions, view: &dyn CatalogView) -> Vec<DescribedTopic> {
    let named: BTreeMap<Str, (Uuid, Vec<i32>)> = partitions
        .iter()
        .filter_map(|(id, partitions)| {
            Some((view.topic_by_id(*id)?.name, (*id, partitions.iter().copied().collect())))
        })
        .collect();
    named.into_iter().map(|(name, (id, partitions))| DescribedTopic { id, name, partitions }).collect()
}
