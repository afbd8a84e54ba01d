//! StreamsGroupTopologyDescriptionUpdate v0: a member of a streams group sends what its topology is made of, because the answer to a
//! heartbeat asked for it (KIP-1331). StreamsGroupDescribe shows it.
//!
//! Kafka hands it to a plug-in and does not take it without one (UNSUPPORTED_VERSION). Here the group's coordinator keeps it in memory.
//! One that is too large, or has no room, is STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED.

use catalog::acl::AclOperation;
use protocol::messages::{
    StreamsGroupTopologyDescriptionUpdateRequest, StreamsGroupTopologyDescriptionUpdateResponse,
};
use protocol::{ErrorCode, Str};

use super::streams_group_heartbeat;
use crate::authorizer::Resource;
use crate::groups::{PushedDescription, Refusal};
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: StreamsGroupTopologyDescriptionUpdateRequest,
) -> StreamsGroupTopologyDescriptionUpdateResponse {
    let (error, message) = match update(&context, request) {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal.error, Some(Str::from(refusal.message))),
    };
    StreamsGroupTopologyDescriptionUpdateResponse {
        error_code: error.code(),
        error_message: message,
        ..StreamsGroupTopologyDescriptionUpdateResponse::default()
    }
}

fn update(
    context: &RequestContext,
    request: StreamsGroupTopologyDescriptionUpdateRequest,
) -> Result<(), Refusal> {
    let refused = |code| Refusal::new(code, "");
    if !streams_group_heartbeat::is_enabled(context) {
        return Err(refused(ErrorCode::UnsupportedVersion));
    }
    context.authorize(AclOperation::Read, Resource::Group(&request.group_id)).map_err(refused)?;
    if request.member_id.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "MemberId can't be empty."));
    }
    if request.group_id.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "GroupId can't be empty."));
    }
    let pushed = PushedDescription {
        group: request.group_id,
        member_id: request.member_id,
        topology_epoch: request.topology_epoch,
        description: request.topology_description,
    };
    let group = pushed.group.clone();
    let kept =
        context.broker.groups.with(&group, |shard, now, _| shard.keep_topology_description(pushed, now));
    kept.map_err(refused)?
}
