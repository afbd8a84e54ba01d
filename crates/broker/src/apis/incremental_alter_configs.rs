//! IncrementalAlterConfigs (key 44), versions 0–1 (KIP-339).
//!
//! Sets, deletes, appends to and subtracts from single configs of a resource; each resource as a whole or not at all.
//! Two requests that cross each other both count, the later one on top of the earlier.
//!
//! Difference: log levels (BROKER_LOGGER) cannot be changed over this protocol: INVALID_REQUEST. 1: flexible.

use catalog::acl::AclOperation;
use catalog::config::alter::{AlterOp, Change, alter};
use protocol::ErrorCode;
use protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::error::ApiError;
use crate::request::RequestContext;
use crate::resources::{Repeated, acl_resource, resource_type};

pub(super) async fn handle(
    context: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    context.broker.freshness.catch_up().await;
    let resources = request.resources.iter();
    let repeated = Repeated::of(resources.map(|resource| (resource.resource_type, &resource.resource_name)));
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in &request.resources {
        let result = match repeated.check(resource.resource_type, &resource.resource_name) {
            Ok(()) => alter_resource(&context, resource, request.validate_only).await,
            Err(error) => Err(error),
        };
        let error = result.err().unwrap_or(ApiError::NONE);
        response.responses.push(AlterConfigsResourceResponse {
            error_code: error.code.code(),
            error_message: error.message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        });
    }
    response
}

async fn alter_resource(
    context: &RequestContext,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ApiError> {
    let broker = &context.broker;
    let resource_type = resource_type(resource.resource_type)?;
    context.authorize(AclOperation::AlterConfigs, acl_resource(resource_type, &resource.resource_name))?;
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let op = AlterOp::from_code(config.config_operation).ok_or_else(|| {
            let message = format!("there is no config operation {}", config.config_operation);
            ApiError::new(ErrorCode::InvalidRequest, message)
        })?;
        changes.push(Change { name: config.name.clone(), op, value: config.value.clone() });
    }
    let record = {
        let state = broker.catalog.read();
        alter(&state, broker.configs.started_with(), resource_type, &resource.resource_name, &changes)?
    };
    match record.filter(|_| !validate_only) {
        Some(record) => {
            broker.topics.set_configs(record).await?;
            // Values may be secret.
            let names: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
            let change = format!("{resource_type:?} '{}': {}", resource.resource_name, names.join(", "));
            context.audit_change("configs", &change);
            Ok(())
        }
        None => Ok(()),
    }
}
