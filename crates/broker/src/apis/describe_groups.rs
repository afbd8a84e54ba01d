//! DescribeGroups v0–6: state, protocol and members of groups.
//!
//! v3 authorized operations (KIP-430) · v4 instance ids (KIP-345) · v5 is flexible · v6 GROUP_ID_NOT_FOUND with a
//! sentence instead of a group in state Dead (KIP-1043).
//!
//! Difference: more than `request.partitions.max` groups are INVALID_REQUEST, and those that an answer has no room for any more
//! (`answer_room.rs`) COORDINATOR_LOAD_IN_PROGRESS: tools ask for them again.

use catalog::acl::AclOperation;
use protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use protocol::{ErrorCode, Str};

use crate::answer_room::AnswerRoom;
use crate::authorizer::Resource;
use crate::groups;
use crate::request::RequestContext;

pub(crate) async fn handle(
    context: RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let is_asked = request.include_authorized_operations && context.api_version >= 3;
    let mut room = AnswerRoom::of(&context, request.groups.len());
    let groups = request.groups.into_iter().map(|group_id| {
        let may_be_told = room
            .check(ErrorCode::CoordinatorLoadInProgress)
            .and_then(|()| context.authorize(AclOperation::Describe, Resource::Group(&group_id)));
        if let Err(code) = may_be_told {
            return DescribedGroup { error_code: code.code(), group_id, ..DescribedGroup::default() };
        }
        let mut described = describe(&context, group_id);
        if is_asked && described.error_code == ErrorCode::None.code() {
            described.authorized_operations =
                context.authorized_operations(Resource::Group(&described.group_id));
        }
        room.take(told_bytes(&described));
        described
    });
    DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }
}

/// How long what is told of a group is, about.
fn told_bytes(group: &DescribedGroup) -> usize {
    const MEMBER_BYTES: usize = 32;
    let told = |member: &DescribedGroupMember| {
        let texts = [&member.member_id, &member.client_id, &member.client_host];
        MEMBER_BYTES
            + texts.iter().map(|text| text.len()).sum::<usize>()
            + member.member_metadata.len()
            + member.member_assignment.len()
    };
    group.members.iter().map(told).sum()
}

fn describe(context: &RequestContext, group_id: Str) -> DescribedGroup {
    match context.broker.groups.with(&group_id, |shard, _, _| shard.describe(&group_id)) {
        Err(error) => DescribedGroup { error_code: error.code(), group_id, ..DescribedGroup::default() },
        Ok(None) if context.api_version >= 6 => DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(Str::from(format!("Group {group_id} not found."))),
            group_state: Str::from_static("Dead"),
            group_id,
            ..DescribedGroup::default()
        },
        Ok(None) => {
            DescribedGroup { group_state: Str::from_static("Dead"), group_id, ..DescribedGroup::default() }
        }
        Ok(Some(described)) => DescribedGroup {
            group_state: Str::from_static(described.state.name()),
            protocol_type: described.protocol_type,
            protocol_data: described.protocol_name,
            members: described.members.into_iter().map(|one| member(context, one)).collect(),
            group_id,
            ..DescribedGroup::default()
        },
    }
}

fn member(context: &RequestContext, member: groups::DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id.filter(|_| context.api_version >= 4),
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
