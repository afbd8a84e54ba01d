//! DescribeAcls (key 29), versions 1–3.
//!
//! The ACLs that a filter matches, by resource. A filter of the pattern type MATCH finds what a resource of that name is judged by: its
//! own ACLs, those of prefixes of its name, and those of the wildcard.
//!
//! Difference: numbers that are no code are INVALID_REQUEST; Kafka ends the connection for a zero, and finds nothing for the others.
//!
//! 1: prefixed patterns (KIP-290) · 2: flexible · 3: users as resources (KIP-373).

use std::collections::BTreeMap;

use catalog::acl::{AclOperation, ResourcePattern};
use protocol::ErrorCode;
use protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use crate::authorizer::{AclFilter, FilterFields, Resource};
use crate::error::ApiError;
use crate::request::RequestContext;

pub(super) async fn handle(context: RequestContext, request: DescribeAclsRequest) -> DescribeAclsResponse {
    match describe(&context, &request).await {
        Ok(resources) => DescribeAclsResponse {
            error_code: ErrorCode::None.code(),
            error_message: None,
            resources,
            ..DescribeAclsResponse::default()
        },
        Err(error) => DescribeAclsResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..DescribeAclsResponse::default()
        },
    }
}

async fn describe(
    context: &RequestContext,
    request: &DescribeAclsRequest,
) -> Result<Vec<DescribeAclsResource>, ApiError> {
    context.authorize(AclOperation::Describe, Resource::Cluster)?;
    let filter = AclFilter::of(&FilterFields {
        resource_type: request.resource_type_filter,
        name: &request.resource_name_filter,
        pattern_type: request.pattern_type_filter,
        principal: &request.principal_filter,
        host: &request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    })?;
    context.broker.freshness.catch_up().await;
    let mut resources: BTreeMap<ResourcePattern, Vec<AclDescription>> = BTreeMap::new();
    for acl in context.broker.catalog.read().acls().iter().filter(|acl| filter.matches(acl)) {
        let description = AclDescription {
            principal: acl.principal,
            host: acl.rule.host,
            operation: acl.rule.operation.code(),
            permission_type: acl.rule.permission.code(),
        };
        resources.entry(acl.pattern).or_default().push(description);
    }
    let resources = resources.into_iter().map(|(pattern, acls)| DescribeAclsResource {
        resource_type: pattern.resource_type.code(),
        resource_name: pattern.name,
        pattern_type: pattern.pattern_type.code(),
        acls,
    });
    Ok(resources.collect())
}
