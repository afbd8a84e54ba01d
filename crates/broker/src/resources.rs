//! Config resources as requests name them: a type number and a name.

use std::collections::BTreeMap;

use catalog::ResourceType;
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;

pub(crate) fn resource_type(code: i8) -> Result<ResourceType, ApiError> {
    ResourceType::from_code(code)
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidRequest, format!("there is no resource type {code}")))
}

/// What ACLs call a config resource: those of brokers and of client metrics are the cluster's.
pub(crate) fn acl_resource(resource_type: ResourceType, name: &str) -> Resource<'_> {
    match resource_type {
        ResourceType::Topic => Resource::Topic(name),
        ResourceType::Group => Resource::Group(name),
        ResourceType::Broker | ResourceType::BrokerLogger | ResourceType::ClientMetrics => Resource::Cluster,
    }
}

/// How often each resource stands in a request; altering one twice is refused both times.
pub(crate) struct Repeated<'a>(BTreeMap<(i8, &'a Str), u32>);

impl<'a> Repeated<'a> {
    pub fn of(resources: impl Iterator<Item = (i8, &'a Str)>) -> Repeated<'a> {
        let mut times = BTreeMap::new();
        for resource in resources {
            *times.entry(resource).or_default() += 1;
        }
        Repeated(times)
    }

    pub fn check(&self, code: i8, name: &'a Str) -> Result<(), ApiError> {
        match self.0.get(&(code, name)) {
            Some(2..) => {
                Err(ApiError::new(ErrorCode::InvalidRequest, "the resource is named more than once"))
            }
            _ => Ok(()),
        }
    }
}
