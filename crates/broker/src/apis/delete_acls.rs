//! DeleteAcls (key 31), versions 1–3.
//!
//! Deletes what filters match, all of it in one step, and says for each filter what that was. The answer leaves when no live broker goes
//! by the deleted ones any more; REQUEST_TIMED_OUT says that one did not let go in time, and that they are gone all the same.
//!
//! Difference: numbers that are no code are INVALID_REQUEST, where Kafka ends the connection for a zero.
//!
//! 1: prefixed patterns (KIP-290) · 2: flexible · 3: users as resources (KIP-373).

use std::collections::BTreeSet;

use catalog::MetadataRecord;
use catalog::acl::{Acl, AclOperation};
use protocol::messages::delete_acls_request::DeleteAclsFilter;
use protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::{ACL_CHANGES_MAX, AclFilter, FilterFields, Resource};
use crate::error::ApiError;
use crate::request::RequestContext;

pub(super) async fn handle(context: RequestContext, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let results: Vec<Result<Vec<Acl>, ApiError>> = match delete(&context, &request).await {
        Ok(results) => results,
        Err(error) => request.filters.iter().map(|_| Err(error.clone())).collect(),
    };
    let results = results.into_iter().map(|result| match result {
        Ok(deleted) => DeleteAclsFilterResult {
            error_code: ErrorCode::None.code(),
            error_message: None,
            matching_acls: deleted.into_iter().map(matching_acl).collect(),
        },
        Err(error) => DeleteAclsFilterResult {
            error_code: error.code.code(),
            error_message: error.message,
            matching_acls: Vec::new(),
        },
    });
    DeleteAclsResponse { filter_results: results.collect(), ..DeleteAclsResponse::default() }
}

/// What each filter deleted; an error is that of all of them.
async fn delete(
    context: &RequestContext,
    request: &DeleteAclsRequest,
) -> Result<Vec<Result<Vec<Acl>, ApiError>>, ApiError> {
    context.authorize(AclOperation::Alter, Resource::Cluster)?;
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let matches = |filter: &DeleteAclsFilter| -> Result<Vec<Acl>, ApiError> {
        let filter = filter_of(filter)?;
        let state = broker.catalog.read();
        Ok(state.acls().iter().filter(|acl| filter.matches(acl)).collect())
    };
    let results: Vec<Result<Vec<Acl>, ApiError>> = request.filters.iter().map(matches).collect();
    let deleted: BTreeSet<&Acl> = results.iter().flatten().flatten().collect();
    if deleted.len() > ACL_CHANGES_MAX {
        let message = format!("one request may delete {ACL_CHANGES_MAX} ACLs at most");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let records = deleted.iter().map(|acl| MetadataRecord::DeleteAcl((*acl).clone())).collect();
    let position = context.change_rights(records).await?;
    deleted.iter().for_each(|acl| context.audit_change("ACL deleted", *acl));
    context.in_effect_everywhere(position).await?;
    Ok(results)
}

fn filter_of(filter: &DeleteAclsFilter) -> Result<AclFilter, ApiError> {
    AclFilter::of(&FilterFields {
        resource_type: filter.resource_type_filter,
        name: &filter.resource_name_filter,
        pattern_type: filter.pattern_type_filter,
        principal: &filter.principal_filter,
        host: &filter.host_filter,
        operation: filter.operation,
        permission: filter.permission_type,
    })
}

fn matching_acl(acl: Acl) -> DeleteAclsMatchingAcl {
    let none: Option<Str> = None;
    DeleteAclsMatchingAcl {
        error_code: ErrorCode::None.code(),
        error_message: none,
        resource_type: acl.pattern.resource_type.code(),
        resource_name: acl.pattern.name,
        pattern_type: acl.pattern.pattern_type.code(),
        principal: acl.principal,
        host: acl.rule.host,
        operation: acl.rule.operation.code(),
        permission_type: acl.rule.permission.code(),
    }
}
