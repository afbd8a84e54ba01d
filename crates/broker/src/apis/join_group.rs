//! JoinGroup v0–9: a member wants to be in a group, and waits until the group knows who is in it.
//!
//! We differ from Kafka in bounds: metadata of one member above `group.member.metadata.max.bytes` is
//! MESSAGE_TOO_LARGE, a group has 10,000 members at most, and ids given out by MEMBER_ID_REQUIRED are counted.
//!
//! v1 has a rebalance timeout of its own (KIP-62) · v4 MEMBER_ID_REQUIRED (KIP-394) · v5 static members (KIP-345)
//! · v6 is flexible · v7 answers the protocol type, names may be null (KIP-559) · v8 the client's reason (KIP-800)
//! · v9 a static leader that came back is told to skip the assignment (KIP-814).

use catalog::acl::AclOperation;
use protocol::ErrorCode;
use protocol::Str;
use protocol::messages::join_group_response::JoinGroupResponseMember;
use protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::authorizer::Resource;
use crate::groups::{Answer, JoinAnswer, JoinRequest, OfferedProtocol};
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let answer = join(&context, request).await;
    let version = context.api_version;
    let member = |member: crate::groups::JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id.filter(|_| version >= 5),
        metadata: member.metadata,
    };
    JoinGroupResponse {
        error_code: answer.error.code(),
        generation_id: answer.generation,
        protocol_type: answer.protocol_type.filter(|_| version >= 7),
        // Null only since v7; there the empty name is null.
        protocol_name: match version {
            ..7 => Some(answer.protocol_name.unwrap_or_default()),
            _ => answer.protocol_name.filter(|name| !name.is_empty()),
        },
        leader: answer.leader,
        skip_assignment: answer.skip_assignment && version >= 9,
        member_id: answer.member_id,
        members: answer.members.into_iter().map(member).collect(),
        ..JoinGroupResponse::default()
    }
}

async fn join(context: &RequestContext, request: JoinGroupRequest) -> JoinAnswer {
    if let Err(code) = context.authorize(AclOperation::Read, Resource::Group(&request.group_id)) {
        return JoinAnswer::refused(code, Str::default());
    }
    let refused = |error| JoinAnswer::refused(error, request.member_id.clone());
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let version = context.api_version;
    let groups = &context.broker.groups;
    let protocol = |offered: &protocol::messages::join_group_request::JoinGroupRequestProtocol| {
        OfferedProtocol { name: offered.name.clone(), metadata: offered.metadata.clone() }
    };
    let join = JoinRequest {
        group: request.group_id.clone(),
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.connection.client_host(),
        session_timeout_ms: request.session_timeout_ms,
        // v0 had one timeout for both.
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.clone(),
        protocols: request.protocols.iter().map(protocol).collect(),
        requires_known_member_id: version >= 4,
        can_skip_assignment: version >= 9,
        fresh: groups.fresh_uuid(),
    };
    tracing::debug!(
        group = %request.group_id,
        member = %request.member_id,
        reason = request.reason.as_ref().map_or("not provided", Str::as_str),
        "a member joins"
    );
    match groups
        .ask(&request.group_id, |shard, reply, now, effects| shard.join(join, reply, now, effects))
        .await
    {
        Ok(Answer::Join(answer)) => answer,
        Ok(other) => unreachable!("a join is answered by a join, not {other:?}"),
        Err(error) => refused(error),
    }
}
