//! DescribeClientQuotas (key 48), versions 0–1 (KIP-546).
//!
//! The quotas of users, client ids and addresses that a filter matches: by exact name, by default (a null name), or by type. A strict
//! filter finds entities of just these types. 1: flexible.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use catalog::quota::{CLIENT_ID, IP, QuotaEntity, USER};
use protocol::messages::describe_client_quotas_request::ComponentData;
use protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What is asked of the name of one type.
enum Asked {
    Is(Option<Str>),
    Any,
}

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let (error, entries) = match describe(&context, &request).await {
        Ok(entries) => (ApiError::NONE, Some(entries)),
        Err(error) => (error, None),
    };
    DescribeClientQuotasResponse {
        error_code: error.code.code(),
        error_message: error.message,
        entries,
        ..DescribeClientQuotasResponse::default()
    }
}

async fn describe(
    context: &RequestContext,
    request: &DescribeClientQuotasRequest,
) -> Result<Vec<EntryData>, ApiError> {
    context.authorize(AclOperation::DescribeConfigs, Resource::Cluster)?;
    let asked = asked(&request.components)?;
    context.broker.freshness.catch_up().await;
    let state = context.broker.catalog.read();
    let matches = |entity: &QuotaEntity| {
        (!request.strict || entity.len() == asked.len())
            && asked.iter().all(|(kind, asked)| match (entity.get(*kind), asked) {
                (Some(name), Asked::Is(wanted)) => name == wanted,
                (Some(_), Asked::Any) => true,
                (None, _) => false,
            })
    };
    let found = state.quotas().iter().filter(|(entity, _)| matches(entity));
    let entries = found.map(|(entity, values)| EntryData {
        entity: entity
            .iter()
            .map(|(kind, name)| EntityData { entity_type: kind.clone(), entity_name: name.clone() })
            .collect(),
        values: values.iter().map(|(key, value)| ValueData { key: key.clone(), value: value.0 }).collect(),
    });
    Ok(entries.collect())
}

fn asked(components: &[ComponentData]) -> Result<BTreeMap<&str, Asked>, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let mut asked = BTreeMap::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return invalid("an entity type is empty".to_owned());
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            let message = format!("there is no entity type {kind}");
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
        }
        let wanted = match (component.match_type, &component.r#match) {
            (EXACT, Some(name)) => Asked::Is(Some(name.clone())),
            (DEFAULT, None) => Asked::Is(None),
            (SPECIFIED, None) => Asked::Any,
            (EXACT | DEFAULT | SPECIFIED, _) => {
                return invalid("a name goes with an exact match, and only with that".to_owned());
            }
            (other, _) => return invalid(format!("there is no match type {other}")),
        };
        if asked.insert(kind, wanted).is_some() {
            return invalid(format!("the entity type {kind} stands in the filter more than once"));
        }
    }
    if asked.contains_key(IP) && asked.len() > 1 {
        return invalid("an address goes with no user and no client id".to_owned());
    }
    Ok(asked)
}
