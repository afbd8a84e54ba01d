//! CreateAcls (key 30), versions 1–3.
//!
//! Each ACL for itself: what makes no sense is INVALID_REQUEST, one that is there already is success. The ones that are good count
//! together. A new ACL may take rights away, so the answer leaves when every live broker goes by it; REQUEST_TIMED_OUT says that
//! one did not in time, and that the ACL is there all the same.
//!
//! Differences: texts are bounded, and so is the number of ACLs (`cluster.acls.max`, POLICY_VIOLATION). Numbers that are no code are
//! INVALID_REQUEST, where Kafka ends the connection for a zero.
//!
//! 1: prefixed patterns (KIP-290) · 2: flexible · 3: users as resources (KIP-373).

use std::collections::BTreeSet;

use catalog::MetadataRecord;
use catalog::acl::{Acl, AclOperation};
use protocol::ErrorCode;
use protocol::messages::create_acls_response::AclCreationResult;
use protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use crate::authorizer::{ACL_CHANGES_MAX, Resource, acl_to_create};
use crate::error::ApiError;
use crate::request::RequestContext;

pub(super) async fn handle(context: RequestContext, request: CreateAclsRequest) -> CreateAclsResponse {
    let results: Vec<Result<(), ApiError>> = match create(&context, &request).await {
        Ok(results) => results,
        Err(error) => request.creations.iter().map(|_| Err(error.clone())).collect(),
    };
    let results = results.into_iter().map(|result| {
        let error = result.err().unwrap_or(ApiError::NONE);
        AclCreationResult { error_code: error.code.code(), error_message: error.message }
    });
    CreateAclsResponse { results: results.collect(), ..CreateAclsResponse::default() }
}

/// What becomes of each; an error is that of all of them.
async fn create(
    context: &RequestContext,
    request: &CreateAclsRequest,
) -> Result<Vec<Result<(), ApiError>>, ApiError> {
    context.authorize(AclOperation::Alter, Resource::Cluster)?;
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let wanted: Vec<Result<Acl, ApiError>> = request.creations.iter().map(acl_to_create).collect();
    let (new, count) = {
        let state = broker.catalog.read();
        let good = wanted.iter().filter_map(|wanted| wanted.as_ref().ok());
        let new: BTreeSet<&Acl> = good.filter(|acl| !state.acls().contains(acl)).collect();
        (new, state.acls().len())
    };
    if new.len() > ACL_CHANGES_MAX {
        let message = format!("one request may create {ACL_CHANGES_MAX} ACLs at most");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    if !new.is_empty() && count + new.len() > broker.limits.cluster_acls_max {
        let max = broker.limits.cluster_acls_max;
        let message = format!("the cluster would have more than {max} ACLs (cluster.acls.max)");
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    let records: Vec<_> = new.iter().map(|acl| MetadataRecord::CreateAcl((*acl).clone())).collect();
    let made = match context.change_rights(records).await {
        Err(error) => Err(error),
        Ok(position) => {
            new.iter().for_each(|acl| context.audit_change("ACL created", *acl));
            context.in_effect_everywhere(position).await
        }
    };
    Ok(wanted.into_iter().map(|wanted| wanted.and(made.clone())).collect())
}
