//! AlterClientQuotas (key 49), versions 0–1 (KIP-546).
//!
//! Sets and removes quotas of users, client ids, both together, and addresses; a null name is the default of its type. Each entity as a
//! whole or not at all, and the good ones together. 1: flexible.
//!
//! Differences: an address is an address, names are not looked up. There may be so many entities and no more (POLICY_VIOLATION).

use std::collections::BTreeSet;
use std::net::IpAddr;

use catalog::MetadataRecord;
use catalog::acl::AclOperation;
use catalog::quota::{CLIENT_ID, IP, QuotaChange, QuotaEntity, QuotaValue, USER};
use protocol::messages::alter_client_quotas_request as asked;
use protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;

/// Entities with quotas of their own.
const ENTITIES_MAX: usize = 100_000;
const NAME_LEN_MAX: usize = 1024;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let results: Vec<Result<(), ApiError>> = match alter(&context, &request).await {
        Ok(results) => results,
        Err(error) => request.entries.iter().map(|_| Err(error.clone())).collect(),
    };
    let entries = request.entries.into_iter().zip(results).map(|(entry, result)| {
        let error = result.err().unwrap_or(ApiError::NONE);
        EntryData {
            error_code: error.code.code(),
            error_message: error.message,
            entity: entry
                .entity
                .into_iter()
                .map(|part| EntityData { entity_type: part.entity_type, entity_name: part.entity_name })
                .collect(),
        }
    });
    AlterClientQuotasResponse { entries: entries.collect(), ..AlterClientQuotasResponse::default() }
}

async fn alter(
    context: &RequestContext,
    request: &AlterClientQuotasRequest,
) -> Result<Vec<Result<(), ApiError>>, ApiError> {
    context.authorize(AclOperation::AlterConfigs, Resource::Cluster)?;
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let mut seen = BTreeSet::new();
    let changes: Vec<Result<QuotaChange, ApiError>> = request
        .entries
        .iter()
        .map(|entry| {
            let change = change(entry)?;
            match seen.insert(change.entity.clone()) {
                true => Ok(change),
                false => Err(invalid("the entity stands in the request more than once")),
            }
        })
        .collect();
    let good: Vec<&QuotaChange> = changes.iter().flatten().collect();
    {
        let state = broker.catalog.read();
        let is_new = |change: &&&QuotaChange| {
            state.quotas().of(&change.entity).is_none()
                && change.values.iter().any(|(_, value)| value.is_some())
        };
        if state.quotas().len() + good.iter().filter(is_new).count() > ENTITIES_MAX {
            let message = format!("there may be quotas of {ENTITIES_MAX} entities at most");
            return Err(ApiError::new(ErrorCode::PolicyViolation, message));
        }
    }
    let records: Vec<_> = good.iter().map(|change| MetadataRecord::AlterQuota((*change).clone())).collect();
    let made = match request.validate_only || records.is_empty() {
        true => Ok(()),
        false => match broker.catalog.append(records).await {
            Err(error) => Err(ApiError::from(error)),
            Ok(_) => {
                good.iter().for_each(|change| context.audit_change("quotas", &told(change)));
                broker.tell_others().await;
                Ok(())
            }
        },
    };
    Ok(changes.into_iter().map(|change| change.and(made.clone())).collect())
}

fn invalid(message: impl Into<Str>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn change(entry: &asked::EntryData) -> Result<QuotaChange, ApiError> {
    let mut entity = QuotaEntity::new();
    for part in &entry.entity {
        if ![USER, CLIENT_ID, IP].contains(&part.entity_type.as_str()) {
            return Err(invalid(format!("there is no entity type {}", part.entity_type)));
        }
        if part.entity_name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_LEN_MAX) {
            return Err(invalid(format!("a name has 1 to {NAME_LEN_MAX} bytes")));
        }
        if entity.insert(part.entity_type.clone(), part.entity_name.clone()).is_some() {
            return Err(invalid(format!("the entity type {} is named more than once", part.entity_type)));
        }
    }
    if entity.is_empty() {
        return Err(invalid("an entity is empty"));
    }
    if let Some(address) = entity.get(IP).cloned() {
        if entity.len() > 1 {
            return Err(invalid("an address goes with no user and no client id"));
        }
        if let Some(address) = address {
            let parsed: IpAddr =
                address.parse().map_err(|_| invalid(format!("{address} is not an IP address")))?;
            entity.insert(Str::from_static(IP), Some(Str::from(parsed.to_canonical().to_string())));
        }
    }
    let is_address = entity.contains_key(IP);
    let mut values: Vec<(Str, Option<QuotaValue>)> = Vec::with_capacity(entry.ops.len());
    for op in &entry.ops {
        if values.iter().any(|(key, _)| *key == op.key) {
            return Err(invalid(format!("the quota {} is named more than once", op.key)));
        }
        let value = if op.remove { None } else { Some(check(is_address, op)?) };
        values.push((op.key.clone(), value));
    }
    Ok(QuotaChange { entity, values })
}

fn check(is_address: bool, op: &asked::OpData) -> Result<QuotaValue, ApiError> {
    let (most, is_whole) = match (op.key.as_str(), is_address) {
        ("producer_byte_rate" | "consumer_byte_rate", false) => (i64::MAX as f64, true),
        ("request_percentage" | "controller_mutation_rate", false) => (f64::MAX, false),
        ("connection_creation_rate", true) => (f64::from(i32::MAX), true),
        (key, _) => return Err(invalid(format!("there is no quota {key} of such an entity"))),
    };
    match op.value {
        value if value.is_nan() || value <= 0.0 => Err(invalid(format!("{} must be above 0", op.key))),
        value if value > most => Err(invalid(format!("{} is too large", op.key))),
        value if is_whole && value.fract().abs() > 1e-6 => {
            Err(invalid(format!("{} cannot be a fraction", op.key)))
        }
        value => Ok(QuotaValue(value)),
    }
}

fn told(change: &QuotaChange) -> String {
    let entity =
        change.entity.iter().map(|(kind, name)| format!("{kind} {}", name.as_deref().unwrap_or("(default)")));
    let values = change.values.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={}", value.0),
        None => format!("{key} removed"),
    });
    format!("{}: {}", entity.collect::<Vec<_>>().join(", "), values.collect::<Vec<_>>().join(", "))
}
