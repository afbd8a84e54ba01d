//! Who may say what in a consumer group: the refusals of ConsumerGroupHeartbeat, before anything is changed.

use std::sync::Arc;

use protocol::{ErrorCode, Str};

use super::assignment::{self, Partitions};
use super::event::{ConsumerHeartbeatRequest, Refusal};
use super::group::ConsumerGroup;
use super::member::{JOINING_EPOCH, Member, MemberState, Progress};
use crate::groups::settings::GroupSettings;

/// Who asks: a member under the id it will have, as it is before it says anything new.
pub struct Asking {
    pub id: Str,
    pub before: Member,
}

/// A member as it says it is may not weigh more than one of a classic group.
pub fn check_size(request: &ConsumerHeartbeatRequest, settings: &GroupSettings) -> Result<(), Refusal> {
    let names = request.topics.iter().flatten();
    let short = [&request.instance_id, &request.rack_id].into_iter().flatten();
    let size_bytes: usize = names.chain(short).map(|text| text.len()).sum();
    match size_bytes + request.member_id.len() <= settings.member_metadata_bytes_max {
        true => Ok(()),
        false => Err(Refusal::new(ErrorCode::InvalidRequest, "The member says too much about itself.")),
    }
}

/// Whether this member may say something. Who holds its instance id, if it may go on as that one or take its place.
pub fn check_member(
    group_id: &str,
    group: &ConsumerGroup,
    request: &ConsumerHeartbeatRequest,
    settings: &GroupSettings,
) -> Result<Option<Str>, Refusal> {
    check_room(group, &request.member_id, settings)?;
    check_patterns(group, request)?;
    match &request.instance_id {
        None => check_dynamic(group_id, group, request).map(|()| None),
        Some(instance_id) => static_holder(group_id, group, request, instance_id),
    }
}

pub fn check_room(group: &ConsumerGroup, member_id: &str, settings: &GroupSettings) -> Result<(), Refusal> {
    let size_max = settings.consumer_group_size_max;
    if group.stored.members.len() < size_max || group.member(member_id).is_some() {
        return Ok(());
    }
    let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
    Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
}

/// All members have the same one as a rule, or a few while they are moved to another. What each matches is kept, and all of them are
/// looked up in one heartbeat.
pub const PATTERNS_PER_GROUP_MAX: usize = 20;

fn check_patterns(group: &ConsumerGroup, request: &ConsumerHeartbeatRequest) -> Result<(), Refusal> {
    let Some(pattern) = request.pattern.as_ref().filter(|pattern| !pattern.is_empty()) else { return Ok(()) };
    if group.pattern_users(pattern) > 0 || group.used_patterns().count() < PATTERNS_PER_GROUP_MAX {
        return Ok(());
    }
    let message = format!("The group subscribes by {PATTERNS_PER_GROUP_MAX} regular expressions already.");
    Err(Refusal::new(ErrorCode::PolicyViolation, message))
}

pub fn known_or_new(group: &ConsumerGroup, member_id: &Str) -> Asking {
    match group.stored.members.get_key_value(member_id) {
        Some((id, member)) => Asking { id: id.clone(), before: Member::clone(member) },
        None => Asking { id: member_id.detached(), before: Member::default() },
    }
}

pub fn known_member(
    group_id: &str,
    group: &ConsumerGroup,
    member_id: &str,
) -> Result<(Str, Arc<Member>), Refusal> {
    let known = group.stored.members.get_key_value(member_id);
    known
        .map(|(id, member)| (id.clone(), member.clone()))
        .ok_or_else(|| Refusal::no_member(group_id, member_id))
}

fn check_dynamic(
    group_id: &str,
    group: &ConsumerGroup,
    request: &ConsumerHeartbeatRequest,
) -> Result<(), Refusal> {
    if request.epoch != JOINING_EPOCH {
        let (_, member) = known_member(group_id, group, &request.member_id)?;
        check_epoch(&member.progress, request)?;
    }
    group.member(&request.member_id).map_or(Ok(()), |member| check_state(&member.progress, request))
}

/// Who holds the instance id, if the one that asks may go on as it or take its place.
fn static_holder(
    group_id: &str,
    group: &ConsumerGroup,
    request: &ConsumerHeartbeatRequest,
    instance_id: &Str,
) -> Result<Option<Str>, Refusal> {
    if request.epoch != JOINING_EPOCH {
        let holder = check_holder(group_id, group, &request.member_id, instance_id)?;
        let progress = &group.member(&holder).expect("holds the instance id").progress;
        check_epoch(progress, request)?;
        check_state(progress, request)?;
        return Ok(Some(holder));
    }
    let holders = || group.static_members(instance_id);
    let own = holders().find(|holder| **holder == request.member_id);
    let Some(holder) = own.or_else(|| holders().last()) else { return Ok(None) };
    let member = group.member(holder).expect("holds the instance id");
    if holder != &request.member_id && group.member(&request.member_id).is_some() {
        // It would have what two had, and nobody what it had.
        let message =
            format!("Member {} is in the group already, under another instance id.", request.member_id);
        return Err(Refusal::new(ErrorCode::FencedInstanceId, message));
    }
    let is_there =
        |holder: &&Str| group.member(holder).is_some_and(|one| !one.is_classic() && !one.is_away());
    if own.is_none()
        && let Some(holder) = holders().find(is_there)
    {
        let message = format!(
            "Static member {} with instance id {instance_id} cannot join the group because the instance id is owned by {holder} member.",
            request.member_id
        );
        return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
    }
    check_state(&member.progress, request)?;
    Ok(Some(holder.clone()))
}

pub fn check_holder(
    group_id: &str,
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: &Str,
) -> Result<Str, Refusal> {
    let holders = || group.static_members(instance_id);
    match holders().find(|holder| *holder == member_id).or_else(|| holders().last()) {
        None => Err(Refusal::new(
            ErrorCode::UnknownMemberId,
            format!("Instance id {instance_id} is not in group {group_id}."),
        )),
        Some(holder) if holder != member_id => {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {holder}."
            );
            Err(Refusal::new(ErrorCode::FencedInstanceId, message))
        }
        Some(holder) => Ok(holder.clone()),
    }
}

/// A member may be one epoch behind when its answer was lost, if it has nothing beside what it was given.
fn check_epoch(progress: &Progress, request: &ConsumerHeartbeatRequest) -> Result<(), Refusal> {
    let (received, known) = (request.epoch, progress.epoch);
    let fence = |what: &str| {
        let message = format!(
            "The consumer group member has a {what} member epoch ({received}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        );
        Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
    };
    let may_be_behind = received == progress.previous_epoch
        && assignment::is_subset(request.owned.as_ref(), &progress.assigned);
    match received.cmp(&known) {
        std::cmp::Ordering::Greater => fence("greater"),
        std::cmp::Ordering::Less if !may_be_behind => fence("smaller"),
        _ => Ok(()),
    }
}

/// A state that a newer release wrote is left by joining anew, without anything.
fn check_state(progress: &Progress, request: &ConsumerHeartbeatRequest) -> Result<(), Refusal> {
    match progress.state == MemberState::Unknown && !request.owned.as_ref().is_some_and(Partitions::is_empty)
    {
        false => Ok(()),
        true => Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            "The consumer group member is in an unknown state. The member must abandon all its partitions and rejoin.",
        )),
    }
}
