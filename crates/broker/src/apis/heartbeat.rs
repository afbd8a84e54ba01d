//! Heartbeat v0–4: a member says that it lives, and learns whether to join again.
//!
//! While the group is being loaded the answer is "all is well": the member can do nothing about it, and its
//! session begins anew after loading. v3 static members (KIP-345) · v4 is flexible.

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::authorizer::Resource;
use crate::groups;
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = heartbeat(&context, request);
    HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() }
}

fn heartbeat(context: &RequestContext, request: HeartbeatRequest) -> ErrorCode {
    if let Err(code) = context.authorize(AclOperation::Read, Resource::Group(&request.group_id)) {
        return code;
    }
    if request.group_id.is_empty() {
        return ErrorCode::InvalidGroupId;
    }
    let heartbeat = groups::HeartbeatRequest {
        group: request.group_id.clone(),
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
    };
    match context.broker.groups.with(&request.group_id, |shard, now, _| shard.heartbeat(&heartbeat, now)) {
        Ok(answer) => answer,
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error) => error,
    }
}
