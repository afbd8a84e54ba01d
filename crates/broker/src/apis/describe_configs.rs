//! DescribeConfigs (key 32), versions 1–4.
//!
//! Effective configs of topics, brokers, groups and client-metrics subscriptions, with where each value comes from.
//! The table of keys and all rules are `catalog::config`; the broker with the empty name is "all brokers".
//!
//! Before a topic is said to be unknown we catch up with what other brokers said about it.
//!
//! Difference: more than `request.partitions.max` resources are INVALID_REQUEST, and so are those that the answer has no room for
//! (`answer_room.rs`). Log levels (BROKER_LOGGER) cannot be read over this protocol: INVALID_REQUEST.
//!
//! 1: sources and synonyms (KIP-226) · 3: types and documentation (KIP-569) · 4: flexible.

use catalog::acl::AclOperation;
use catalog::config::describe::{DescribeOptions, Described, describe};
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use protocol::{ErrorCode, Str};

use crate::answer_room::AnswerRoom;
use crate::error::ApiError;
use crate::freshness::SecondLook;
use crate::request::RequestContext;
use crate::resources::{acl_resource, resource_type};

const TOO_MUCH: &str = "That is more than one answer may say; ask for fewer resources at once.";

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let options =
        DescribeOptions { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut second_look = SecondLook::default();
    let mut room = AnswerRoom::of(&context, request.resources.len());
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let mut result = match room.check(ErrorCode::InvalidRequest) {
            Err(code) => Err(ApiError::new(code, TOO_MUCH)),
            Ok(()) => describe_resource(&context, &resource, options),
        };
        if let Err(error) = &result
            && second_look.is_due(&context.broker.freshness, error.code).await
        {
            result = describe_resource(&context, &resource, options);
        }
        let (error, configs) = match result {
            Ok(configs) => {
                room.take(configs.iter().map(told_bytes).sum());
                (ApiError::NONE, configs)
            }
            Err(error) => (error, Vec::new()),
        };
        results.push(DescribeConfigsResult {
            error_code: error.code.code(),
            error_message: error.message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: configs.into_iter().map(config).collect(),
        });
    }
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

/// How long what is told of a config is, about.
fn told_bytes(config: &Described) -> usize {
    const CONFIG_BYTES: usize = 16;
    let text = |text: &Option<Str>| text.as_ref().map_or(0, |text| text.len());
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|synonym| CONFIG_BYTES + synonym.name.len() + text(&synonym.value));
    CONFIG_BYTES
        + config.name.len()
        + text(&config.value)
        + config.documentation.map_or(0, str::len)
        + synonyms.sum::<usize>()
}

fn describe_resource(
    context: &RequestContext,
    resource: &DescribeConfigsResource,
    options: DescribeOptions,
) -> Result<Vec<Described>, ApiError> {
    let resource_type = resource_type(resource.resource_type)?;
    context.authorize(AclOperation::DescribeConfigs, acl_resource(resource_type, &resource.resource_name))?;
    // An empty list asks for everything too: that is what old clients send.
    let names = resource.configuration_keys.as_deref().filter(|names| !names.is_empty());
    let started_with = context.broker.configs.started_with();
    // Read anew for each resource: a request with thousands of them must not hold the catalog's writers up.
    let state = context.broker.catalog.read();
    describe(&state, started_with, resource_type, &resource.resource_name, names, options)
        .map_err(|error| ApiError::new(error.code, error.message))
}

fn config(described: Described) -> DescribeConfigsResourceResult {
    let synonyms = described.synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: synonym.value,
        source: synonym.source.code(),
    });
    DescribeConfigsResourceResult {
        name: described.name,
        value: described.value,
        read_only: described.read_only,
        config_source: described.source.code(),
        is_sensitive: described.is_sensitive,
        synonyms: synonyms.collect(),
        config_type: described.config_type,
        documentation: described.documentation.map(Str::from_static),
    }
}
