//! SyncGroup v0–5: the leader brings the assignment, everybody waits for their part of it.
//!
//! An assignment is answered when it is in the log. v3 static members (KIP-345) · v4 is flexible · v5 says which
//! protocol it means, and must (KIP-559).

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::authorizer::Resource;
use crate::groups::{Answer, SyncAnswer, SyncRequest};
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let answer = sync(&context, request).await;
    let names_protocol = context.api_version >= 5;
    SyncGroupResponse {
        error_code: answer.error.code(),
        protocol_type: answer.protocol_type.filter(|_| names_protocol),
        protocol_name: answer.protocol_name.filter(|_| names_protocol),
        assignment: answer.assignment,
        ..SyncGroupResponse::default()
    }
}

async fn sync(context: &RequestContext, request: SyncGroupRequest) -> SyncAnswer {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.api_version >= 5 && !names_protocol {
        return SyncAnswer::refused(ErrorCode::InconsistentGroupProtocol);
    }
    if let Err(code) = context.authorize(AclOperation::Read, Resource::Group(&request.group_id)) {
        return SyncAnswer::refused(code);
    }
    if request.group_id.is_empty() {
        return SyncAnswer::refused(ErrorCode::InvalidGroupId);
    }
    let assignments = request.assignments.into_iter().map(|given| (given.member_id, given.assignment));
    let sync = SyncRequest {
        group: request.group_id.clone(),
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: assignments.collect(),
    };
    let groups = &context.broker.groups;
    match groups
        .ask(&request.group_id, |shard, reply, now, effects| shard.sync(sync, reply, now, effects))
        .await
    {
        Ok(Answer::Sync(answer)) => answer,
        Ok(other) => unreachable!("a sync is answered by a sync, not {other:?}"),
        Err(error) => SyncAnswer::refused(error),
    }
}
