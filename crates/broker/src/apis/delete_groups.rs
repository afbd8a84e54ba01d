//! DeleteGroups v0–3: forgets empty groups and all their offsets (KIP-229).
//!
//! v2 is flexible · v3 has a sentence for the error (KIP-1043).

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use protocol::messages::delete_groups_response::DeletableGroupResult;
use protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use protocol::{ErrorCode, Str};

use super::delete_share_group_offsets;
use crate::authorizer::Resource;
use crate::groups::Answer;
use crate::request::RequestContext;

pub(crate) async fn handle(context: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    // Each group once, whatever the request says.
    let mut outcome: BTreeMap<Str, ErrorCode> = BTreeMap::new();
    let mut in_order = Vec::new();
    for group in request.groups_names {
        if outcome.insert(group.clone(), ErrorCode::NotCoordinator).is_none() {
            in_order.push(group);
        }
    }
    let mut allowed = Vec::with_capacity(in_order.len());
    for group in &in_order {
        match context.authorize(AclOperation::Delete, Resource::Group(group)) {
            Ok(()) => allowed.push(group.clone()),
            Err(code) => drop(outcome.insert(group.clone(), code)),
        }
    }
    let groups = &context.broker.groups;
    // What a share group has at the share coordinator goes first: once the group is gone nobody knows of it.
    let mut to_delete = Vec::with_capacity(allowed.len());
    for group in allowed {
        let has_states = groups.with(&group, |shard, _, _| shard.has_share_states(&group));
        let deleted = match has_states {
            Ok(true) => delete_share_group_offsets::delete(&context, &group, None).await,
            Ok(false) | Err(_) => Ok(Vec::new()),
        };
        match deleted {
            Ok(failed) if failed.is_empty() => to_delete.push(group),
            Ok(failed) => drop(outcome.insert(group, failed[0].1.0)),
            Err((error, _)) => drop(outcome.insert(group, error)),
        }
    }
    for group_ids in groups.by_partition(to_delete).unwrap_or_default() {
        let first = group_ids[0].clone();
        let asked = groups.ask(&first, |shard, reply, _, effects| {
            shard.delete_groups(group_ids.clone(), reply, effects);
        });
        match asked.await {
            Ok(Answer::DeleteGroups(deleted)) => outcome.extend(deleted.groups),
            Ok(other) => unreachable!("a deletion is answered by a deletion, not {other:?}"),
            Err(error) => outcome.extend(group_ids.into_iter().map(|group| (group, error))),
        }
    }
    let result = |group_id: Str| DeletableGroupResult {
        error_code: outcome[&group_id].code(),
        group_id,
        ..DeletableGroupResult::default()
    };
    DeleteGroupsResponse {
        results: in_order.into_iter().map(result).collect(),
        ..DeleteGroupsResponse::default()
    }
}
