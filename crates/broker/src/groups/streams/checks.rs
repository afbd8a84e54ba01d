//! Who may say what in a streams group: the refusals of StreamsGroupHeartbeat, before anything is changed.

use std::sync::Arc;

use protocol::{ErrorCode, Str};

use super::Refusal;
use super::configure::Configured;
use super::event::StreamsHeartbeatRequest;
use super::group::StreamsGroup;
use super::member::{JOINING_EPOCH, Member, MemberState, Progress};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::groups::settings::GroupSettings;

/// A member as it says it is, its topology included, may not weigh more than one of a classic group.
pub fn check_size(request: &StreamsHeartbeatRequest, settings: &GroupSettings) -> Result<(), Refusal> {
    const TASK_BYTES: usize = 4;
    let short = [&request.instance_id, &request.rack_id, &request.process_id].into_iter().flatten();
    let tags = request.client_tags.iter().flatten().map(|(key, value)| key.len() + value.len());
    let owned = request.owned.iter().flat_map(|owned| [&owned.active, &owned.standby, &owned.warmup]);
    let tasks = owned.flat_map(|tasks: &Tasks| tasks.iter());
    let tasks = tasks.map(|(id, tasks)| id.len() + TASK_BYTES * tasks.len());
    let size_bytes = short.map(|text| text.len()).sum::<usize>()
        + tags.sum::<usize>()
        + tasks.sum::<usize>()
        + request.endpoint.as_ref().map_or(0, |endpoint| endpoint.host.len())
        + request.topology.as_ref().map_or(0, Topology::size_bytes);
    match size_bytes + request.member_id.len() <= settings.member_metadata_bytes_max {
        true => Ok(()),
        false => Err(Refusal::new(ErrorCode::InvalidRequest, "The member says too much about itself.")),
    }
}

/// Whether this member may say something. Who holds its instance id, if it may go on as that one or take its place.
pub fn check_member(
    group_id: &str,
    group: &StreamsGroup,
    request: &StreamsHeartbeatRequest,
    settings: &GroupSettings,
) -> Result<Option<Str>, Refusal> {
    let holder = match &request.instance_id {
        None => None,
        Some(instance_id) => static_holder(group_id, group, request, instance_id)?,
    };
    if request.epoch == JOINING_EPOCH {
        let size_max = settings.streams_group_size_max;
        let is_there = holder.is_some() || group.member(&request.member_id).is_some();
        if is_there || group.stored.members.len() < size_max {
            return Ok(holder);
        }
        let message = format!("The streams group has reached its maximum capacity of {size_max} members.");
        return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
    }
    let (_, member) = known_member(group_id, group, &request.member_id)?;
    check_epoch(&member.progress, request)?;
    Ok(holder)
}

/// Who holds the instance id, if the one that asks may go on as it or take its place.
fn static_holder(
    group_id: &str,
    group: &StreamsGroup,
    request: &StreamsHeartbeatRequest,
    instance_id: &Str,
) -> Result<Option<Str>, Refusal> {
    if request.epoch != JOINING_EPOCH {
        return check_holder(group_id, group, &request.member_id, instance_id).map(Some);
    }
    let refuse = |error, message: String| Err(Refusal::new(error, message));
    if let Some(holder) = group.static_members(instance_id).find(|holder| **holder == request.member_id) {
        return Ok(Some(holder.clone()));
    }
    let Some(holder) = group.static_members(instance_id).last() else { return Ok(None) };
    if group.member(&request.member_id).is_some_and(|member| !is_nobody(member)) {
        // It would have what two had, and nobody what it had.
        let message =
            format!("Member {} is in the group already, under another instance id.", request.member_id);
        return refuse(ErrorCode::FencedInstanceId, message);
    }
    let is_there = |holder: &&Str| group.member(holder).is_some_and(|member| !member.is_away());
    if let Some(owner) = group.static_members(instance_id).find(is_there) {
        let message = format!(
            "Static member {} with instance id {instance_id} cannot join the group because the instance id is owned by {owner} member.",
            request.member_id
        );
        return refuse(ErrorCode::UnreleasedInstanceId, message);
    }
    Ok(Some(holder.clone()))
}

pub fn check_holder(
    group_id: &str,
    group: &StreamsGroup,
    member_id: &str,
    instance_id: &Str,
) -> Result<Str, Refusal> {
    let refuse = |error, message: String| Err(Refusal::new(error, message));
    let holders = || group.static_members(instance_id);
    if let Some(holder) = holders().find(|holder| *holder == member_id) {
        return Ok(holder.clone());
    }
    match holders().last() {
        None => refuse(
            ErrorCode::UnknownMemberId,
            format!("Instance id {instance_id} is not in group {group_id}."),
        ),
        Some(holder) => refuse(
            ErrorCode::FencedInstanceId,
            format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {holder}."
            ),
        ),
    }
}

/// A member whose profile did not get into the log is nobody: it has to join anew.
pub fn known_member(
    group_id: &str,
    group: &StreamsGroup,
    member_id: &str,
) -> Result<(Str, Arc<Member>), Refusal> {
    let known = group.stored.members.get_key_value(member_id);
    known
        .filter(|(_, member)| !is_nobody(member))
        .map(|(id, member)| (id.clone(), member.clone()))
        .ok_or_else(|| Refusal::no_member(group_id, member_id))
}

/// Whoever joined from somewhere has an address.
pub fn is_nobody(member: &Member) -> bool {
    member.profile.client_host.is_empty()
}

/// A member may be one epoch behind when its answer was lost, if it has nothing beside what it was given.
fn check_epoch(progress: &Progress, request: &StreamsHeartbeatRequest) -> Result<(), Refusal> {
    let (received, known) = (request.epoch, progress.epoch);
    let fence = |what: &str| {
        let message = format!(
            "The streams group member has a {what} member epoch ({received}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        );
        Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
    };
    let may_be_behind = received == progress.previous_epoch
        && request.owned.as_ref().is_some_and(|owned| progress.held.has_all_of(owned));
    match received.cmp(&known) {
        std::cmp::Ordering::Greater => return fence("greater"),
        std::cmp::Ordering::Less if !may_be_behind => return fence("smaller"),
        _ => {}
    }
    // A state that a newer release wrote is left by joining anew, without anything.
    match progress.state {
        MemberState::Unknown => Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin.",
        )),
        _ => Ok(()),
    }
}

/// The topology that the group has then, and whether that is a new one.
pub fn check_topology(
    group_id: &str,
    group: &StreamsGroup,
    request: &StreamsHeartbeatRequest,
) -> Result<(Arc<Topology>, bool), Refusal> {
    match (&group.stored.topology, &request.topology) {
        (None, Some(new)) => Ok((Arc::new(new.detached()), true)),
        // The record of the topology was lost, whoever joins brings it again.
        (None, None) => Err(Refusal::no_member(group_id, &request.member_id)),
        (Some(known), None) => Ok((known.clone(), false)),
        // A member with an older topology may be there, and is told so.
        (Some(known), Some(said)) if known.epoch > said.epoch || **known == *said => {
            Ok((known.clone(), false))
        }
        (Some(_), Some(_)) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Topology updates are not supported yet."))
        }
    }
}

/// A member can only have tasks that there are.
pub fn check_owned(configured: &Configured, request: &StreamsHeartbeatRequest) -> Result<(), Refusal> {
    let Some(owned) = request.owned.as_ref().filter(|_| configured.is_ready()) else { return Ok(()) };
    for (id, tasks) in [&owned.active, &owned.standby, &owned.warmup].into_iter().flatten() {
        let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let Some(subtopology) = configured.subtopologies.get(id) else {
            return refuse(format!("Subtopology {id} does not exist in the topology."));
        };
        let count = subtopology.task_count;
        if let Some(task) = tasks.iter().find(|task| !(0..count).contains(*task)) {
            return refuse(format!(
                "Task {task} for subtopology {id} is invalid. Number of tasks for this subtopology: {count}"
            ));
        }
    }
    Ok(())
}
