//! ListConfigResources (key 74), versions 0–1 (KIP-714, KIP-1142).
//!
//! Names of the resources that have, or could have, configs: all topics and brokers; groups and client-metrics
//! subscriptions only those that were configured. Version 0 knows client-metrics subscriptions only. In version 1 an
//! empty list of types asks for all of them; a type that does not exist is UNSUPPORTED_VERSION.

use catalog::acl::AclOperation;
use catalog::{ResourceType, State};
use protocol::messages::list_config_resources_response::ConfigResource;
use protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::request::RequestContext;

const ALL: [ResourceType; 5] = [
    ResourceType::Topic,
    ResourceType::Broker,
    ResourceType::BrokerLogger,
    ResourceType::ClientMetrics,
    ResourceType::Group,
];

pub(super) async fn handle(
    context: RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if let Err(code) = context.authorize(AclOperation::DescribeConfigs, Resource::Cluster) {
        let error_code = code.code();
        return ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
    }
    let mut types = Vec::new();
    for code in &request.resource_types {
        match ResourceType::from_code(*code) {
            Some(resource_type) => types.push(resource_type),
            None => {
                return ListConfigResourcesResponse {
                    error_code: ErrorCode::UnsupportedVersion.code(),
                    ..ListConfigResourcesResponse::default()
                };
            }
        }
    }
    if context.api_version == 0 {
        types = vec![ResourceType::ClientMetrics];
    } else if types.is_empty() {
        types = ALL.to_vec();
    }
    types.sort_unstable();
    types.dedup();
    let state = context.broker.catalog.read();
    let mut response = ListConfigResourcesResponse::default();
    for resource_type in types {
        let names = names(&state, resource_type).into_iter();
        response.config_resources.extend(
            names.map(|resource_name| ConfigResource { resource_name, resource_type: resource_type.code() }),
        );
    }
    response
}

fn names(state: &State, resource_type: ResourceType) -> Vec<Str> {
    match resource_type {
        ResourceType::Topic => state.topics().map(|topic| topic.name.clone()).collect(),
        ResourceType::Broker | ResourceType::BrokerLogger => {
            state.brokers().map(|broker| Str::from(broker.node_id.to_string())).collect()
        }
        ResourceType::Group | ResourceType::ClientMetrics => {
            state.configured(resource_type).map(|(name, _)| name.clone()).collect()
        }
    }
}
