//! LeaveGroup v0–5: members leave, or an administrator removes static members by their instance id.
//!
//! v3 several members at once, each with an answer of its own (KIP-345) · v4 is flexible · v5 a reason (KIP-800).

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::messages::leave_group_response::MemberResponse;
use protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::authorizer::Resource;
use crate::groups::{Answer, LeaveAnswer, LeaveRequest, LeavingMember};
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let answer = leave(&context, request).await;
    if context.api_version < 3 {
        // One member, whose error is the error.
        let of_member = answer.members.first().map_or(ErrorCode::None, |(_, error)| *error);
        let error = if answer.error == ErrorCode::None { of_member } else { answer.error };
        return LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() };
    }
    let member = |(member, error): (LeavingMember, ErrorCode)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        error_code: error.code(),
    };
    LeaveGroupResponse {
        error_code: answer.error.code(),
        members: answer.members.into_iter().map(member).collect(),
        ..LeaveGroupResponse::default()
    }
}

async fn leave(context: &RequestContext, request: LeaveGroupRequest) -> LeaveAnswer {
    let refused = |error| LeaveAnswer { error, members: Vec::new() };
    if let Err(code) = context.authorize(AclOperation::Read, Resource::Group(&request.group_id)) {
        return refused(code);
    }
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let members = match context.api_version {
        ..3 => vec![LeavingMember { member_id: request.member_id, instance_id: None }],
        _ => {
            let leaving = request.members.into_iter();
            leaving
                .map(|member| LeavingMember {
                    member_id: member.member_id,
                    instance_id: member.group_instance_id,
                })
                .collect()
        }
    };
    let leave = LeaveRequest { group: request.group_id.clone(), members };
    let groups = &context.broker.groups;
    match groups
        .ask(&request.group_id, |shard, reply, now, effects| shard.leave(leave, reply, now, effects))
        .await
    {
        Ok(Answer::Leave(answer)) => answer,
        Ok(other) => unreachable!("a leave is answered by a leave, not {other:?}"),
        Err(error) => refused(error),
    }
}
