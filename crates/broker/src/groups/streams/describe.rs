//! What tools ask of streams groups, and what commits are checked against.

use std::sync::Arc;

use protocol::{ErrorCode, Str};

use super::Refusal;
use super::configure::configure;
use super::event::{DescribedStreamsGroup, DescribedStreamsMember};
use super::group::{Stored, StreamsGroup};
use super::heartbeat::not_a_streams_group;
use super::member::Member;
use super::topology::Topology;
use crate::groups::catalog_view::CatalogView;
use crate::groups::event::CommitRequest;
use crate::groups::shard::Shard;

impl Shard {
    /// The streams group of this name with all that was handed to the log.
    pub(in crate::groups) fn streams_group(&self, group: &str) -> Option<&StreamsGroup> {
        self.streams.get(group)?.group()
    }

    pub fn describe_streams_group(&self, group_id: &str) -> Result<DescribedStreamsGroup, Refusal> {
        let Some(stored) = self.streams.get(group_id).and_then(|entry| entry.settled()) else {
            return Err(match self.has_group(group_id) {
                true => not_a_streams_group(group_id),
                false => Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
            });
        };
        let members = stored.members.iter();
        let description = self.streams_group(group_id).and_then(|group| group.description.kept());
        Ok(DescribedStreamsGroup {
            state: stored.state(),
            epoch: stored.epoch.epoch,
            assignment_epoch: stored.target_epoch.epoch,
            topology: described_topology(stored, &*self.settings.catalog),
            description: description.cloned(),
            members: members.map(|(id, member)| described(stored, id, member)).collect(),
        })
    }

    /// Streams groups with what is in the log of them for good.
    pub(in crate::groups) fn settled_streams_groups(&self) -> impl Iterator<Item = (&Str, &Stored)> {
        self.streams.iter().filter_map(|(id, entry)| Some((id, entry.settled()?)))
    }

    /// Whether a member may fetch offsets: it says who it is.
    pub(in crate::groups) fn check_streams_offset_fetch(
        stored: &Stored,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = stored.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        match epoch == member.progress.epoch {
            true => Ok(()),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

impl StreamsGroup {
    /// What a commit of a member must fit to; of members as they are now, also where the log does not say so yet.
    pub(in crate::groups) fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        // A tool or a simple consumer.
        if request.generation < 0 && self.stored.members.is_empty() {
            return Ok(());
        }
        let member = self.member(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        // Versions before do not know the error that follows.
        if !request.knows_group_id_not_found {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match self.may_commit(member, request) {
            true => Ok(()),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    /// The same inside a transaction, where there is no error for an epoch that is stale.
    pub(in crate::groups) fn check_transactional_commit(
        &self,
        request: &CommitRequest,
        says_who: bool,
    ) -> Result<(), ErrorCode> {
        if request.generation < 0 && (self.stored.members.is_empty() || !says_who) {
            return Ok(());
        }
        let member = self.member(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match self.may_commit(member, request) {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Whether a commit comes from the member's epoch. It may be behind, as long as the tasks that read what it commits have been
    /// its own since then.
    fn may_commit(&self, member: &Member, request: &CommitRequest) -> bool {
        let progress = &member.progress;
        let is_own = |topic: &str, partition: i32| {
            let reader = self.stored.topology.as_ref().and_then(|topology| topology.reader_of(topic));
            let epoch = reader.and_then(|id| {
                let pending = || progress.pending_revocation.epoch_of(id, partition);
                progress.held.epoch_of(id, partition).or_else(pending)
            });
            epoch.is_some_and(|epoch| request.generation >= epoch)
        };
        let are_own = || request.offsets.iter().all(|commit| is_own(&commit.topic, commit.partition));
        request.generation == progress.epoch || request.generation < progress.epoch && are_own()
    }
}

/// With the partitions that the topics of the application have, if they are all there.
fn described_topology(stored: &Stored, view: &dyn CatalogView) -> Option<Topology> {
    let topology = stored.topology.as_ref()?;
    let mut described = Topology::clone(topology);
    let configured = stored.validated_topology().and_then(|topology| configure(topology, view).ok());
    let Some(configured) = configured.filter(|configured| configured.is_ready()) else {
        return Some(described);
    };
    for subtopology in described.subtopologies.values_mut() {
        let sources = subtopology.repartition_source_topics.iter_mut();
        for info in sources.chain(&mut subtopology.state_changelog_topics) {
            info.partitions = configured.partition_counts.get(&info.name).copied().unwrap_or(info.partitions);
        }
    }
    Some(described)
}

fn described(stored: &Stored, id: &Str, member: &Arc<Member>) -> DescribedStreamsMember {
    let Member { profile, progress } = &**member;
    DescribedStreamsMember {
        member_id: id.clone(),
        epoch: progress.epoch,
        instance_id: profile.instance_id.clone(),
        rack_id: profile.rack_id.clone(),
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        topology_epoch: profile.topology_epoch,
        process_id: profile.process_id.clone(),
        endpoint: profile.endpoint.clone(),
        client_tags: profile.client_tags.clone(),
        held: progress.held.sets(),
        target: (*stored.target(id)).clone(),
    }
}
