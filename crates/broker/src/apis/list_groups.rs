//! ListGroups v0–5: all groups there are.
//!
//! v3 is flexible · v4 filters by state (KIP-518) · v5 filters by type (KIP-848), "classic", "consumer" or "streams".
//! Names in filters may be written in any case; an unknown one matches nothing.

use catalog::acl::AclOperation;
use protocol::messages::list_groups_response::ListedGroup;
use protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    let listed = match context.broker.groups.list() {
        Ok(listed) => listed,
        Err(error) => {
            return ListGroupsResponse { error_code: error.code(), ..ListGroupsResponse::default() };
        }
    };
    let version = context.api_version;
    let is_wanted = |filter: &[Str], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
    };
    // Whoever may describe the cluster sees all of them.
    let state = context.broker.catalog.read();
    let rights = context.rights(&state);
    let sees_all = rights.may(AclOperation::Describe, Resource::Cluster);
    let is_seen = |group: &str| sees_all || rights.may(AclOperation::Describe, Resource::Group(group));
    let groups = listed
        .into_iter()
        .filter(|group| is_seen(&group.group))
        .filter(|group| is_wanted(&request.types_filter, group.group_type))
        .filter(|group| is_wanted(&request.states_filter, group.state))
        .map(|group| ListedGroup {
            group_id: group.group,
            protocol_type: group.protocol_type,
            group_state: if version >= 4 { Str::from_static(group.state) } else { Str::default() },
            group_type: if version >= 5 { Str::from_static(group.group_type) } else { Str::default() },
        });
    ListGroupsResponse {
        error_code: ErrorCode::None.code(),
        groups: groups.collect(),
        ..ListGroupsResponse::default()
    }
}
