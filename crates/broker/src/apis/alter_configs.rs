//! AlterConfigs (key 33), versions 0–2. Deprecated by KIP-339: what the request does not name loses its override.
//!
//! Difference: none but those of `catalog::config::alter`. 2: flexible.

use catalog::acl::AclOperation;
use catalog::config::alter::replace;
use protocol::Str;
use protocol::messages::alter_configs_request::AlterConfigsResource;
use protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use crate::error::ApiError;
use crate::request::RequestContext;
use crate::resources::{Repeated, acl_resource, resource_type};

pub(super) async fn handle(context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse {
    context.broker.freshness.catch_up().await;
    let resources = request.resources.iter();
    let repeated = Repeated::of(resources.map(|resource| (resource.resource_type, &resource.resource_name)));
    let mut response = AlterConfigsResponse::default();
    for resource in &request.resources {
        let result = match repeated.check(resource.resource_type, &resource.resource_name) {
            Ok(()) => alter(&context, resource, request.validate_only).await,
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

async fn alter(
    context: &RequestContext,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ApiError> {
    let broker = &context.broker;
    let resource_type = resource_type(resource.resource_type)?;
    context.authorize(AclOperation::AlterConfigs, acl_resource(resource_type, &resource.resource_name))?;
    let configs: Vec<(Str, Option<Str>)> =
        resource.configs.iter().map(|config| (config.name.clone(), config.value.clone())).collect();
    let record = {
        let state = broker.catalog.read();
        replace(&state, broker.configs.started_with(), resource_type, &resource.resource_name, &configs)?
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
