//! AlterUserScramCredentials (key 51), version 0 (KIP-554): sets and removes SCRAM credentials.
//!
//! The client sends the salted password; the catalog gets the two keys that follow from it. All changes that are possible are made
//! together. UNACCEPTABLE_CREDENTIAL: no name, or fewer than 4,096 or more than 16,384 iterations; UNSUPPORTED_SASL_MECHANISM: an unknown
//! mechanism; RESOURCE_NOT_FOUND: there is nothing to remove; DUPLICATE_RESOURCE: a user is named twice. A removal, and a new password in
//! place of an old one, are answered when no live broker lets in who has the old one; REQUEST_TIMED_OUT: it is made, and some broker did
//! not say in time that it knows.
//!
//! Differences: any broker answers. A salted password that has not the mechanism's length and a salt that is empty are
//! UNACCEPTABLE_CREDENTIAL too; Kafka takes them, and nobody could use them.

use std::collections::{BTreeMap, BTreeSet};

use catalog::acl::AclOperation;
use catalog::{CatalogError, MetadataRecord, Precondition, ScramMechanism, State};
use protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use protocol::messages::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse};
use protocol::{ErrorCode, Str};

use crate::authn::scram::{self, ITERATIONS_MAX, ITERATIONS_MIN};
use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;

const USER_LEN_MAX: usize = 1024;
const SALT_LEN_MAX: usize = 1024;

type Plan = BTreeMap<Str, Result<MetadataRecord, ApiError>>;

pub(super) async fn handle(
    context: RequestContext,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    if let Err(code) = context.authorize(AclOperation::Alter, Resource::Cluster) {
        return refused(&request, code);
    }
    let broker = &context.broker;
    broker.freshness.catch_up().await;
    let (plan, withdraws) = {
        let state = broker.catalog.read();
        let plan = plan(&state, &request);
        let withdraws = plan.values().flatten().any(|record| takes_something_away(&state, record));
        (plan, withdraws)
    };
    let records: Vec<MetadataRecord> = plan.values().flatten().cloned().collect();
    let done = match change(&context, records, &plan, withdraws).await {
        Ok(()) => ApiError::NONE,
        Err(error) => error,
    };
    let results = plan.into_iter().map(|(user, planned)| {
        let error = match planned {
            Ok(_) => done.clone(),
            Err(error) => error,
        };
        AlterUserScramCredentialsResult {
            user,
            error_code: error.code.code(),
            error_message: error.message,
            ..AlterUserScramCredentialsResult::default()
        }
    });
    AlterUserScramCredentialsResponse {
        results: results.collect(),
        ..AlterUserScramCredentialsResponse::default()
    }
}

/// Is there something that whoever knows it is let in with, and no longer shall be?
fn takes_something_away(state: &State, record: &MetadataRecord) -> bool {
    match record {
        MetadataRecord::RemoveScramCredential { .. } => true,
        MetadataRecord::PutScramCredential { user, mechanism, .. } => {
            state.credentials().scram(user, *mechanism).is_some()
        }
        _ => false,
    }
}

async fn change(
    context: &RequestContext,
    records: Vec<MetadataRecord>,
    plan: &Plan,
    withdraws: bool,
) -> Result<(), ApiError> {
    if records.is_empty() {
        return Ok(());
    }
    let position = match context.broker.catalog.append(records).await {
        Ok(position) => position,
        Err(CatalogError::Rejected(Precondition::UnknownCredential { .. })) => {
            return Err(ApiError::new(
                ErrorCode::ResourceNotFound,
                "Attempt to delete a user credential that does not exist",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    // Made, whatever the others say.
    for (user, record) in plan.iter().filter_map(|(user, planned)| Some((user, planned.as_ref().ok()?))) {
        audit(context, user, record);
    }
    match withdraws {
        true => context.in_effect_everywhere(position).await,
        false => {
            context.broker.tell_others().await;
            Ok(())
        }
    }
}

fn audit(context: &RequestContext, user: &str, record: &MetadataRecord) {
    let (mechanism, what) = match record {
        MetadataRecord::RemoveScramCredential { mechanism, .. } => (mechanism, "removed"),
        MetadataRecord::PutScramCredential { mechanism, .. } => (mechanism, "set"),
        _ => return,
    };
    context.audit_change("user", &format!("{user}: {} credential {what}", mechanism.name()));
}

/// Every user of the request, once.
fn refused(request: &AlterUserScramCredentialsRequest, code: ErrorCode) -> AlterUserScramCredentialsResponse {
    let deleted = request.deletions.iter().map(|deletion| &deletion.name);
    let users: BTreeSet<&Str> = deleted.chain(request.upsertions.iter().map(|set| &set.name)).collect();
    let results = users.into_iter().map(|user| AlterUserScramCredentialsResult {
        user: user.clone(),
        error_code: code.code(),
        ..AlterUserScramCredentialsResult::default()
    });
    AlterUserScramCredentialsResponse {
        results: results.collect(),
        ..AlterUserScramCredentialsResponse::default()
    }
}

fn plan(state: &State, request: &AlterUserScramCredentialsRequest) -> Plan {
    let mut plan = Plan::new();
    let mut add = |user: &Str, planned: Result<MetadataRecord, ApiError>| {
        let twice = ApiError::new(
            ErrorCode::DuplicateResource,
            "A user credential cannot be altered twice in the same request",
        );
        match plan.get_mut(user) {
            None => drop(plan.insert(user.clone(), planned)),
            // What was wrong first stays what is told.
            Some(Err(_)) => {}
            Some(before) => *before = Err(twice),
        }
    };
    for deletion in &request.deletions {
        add(&deletion.name, removal(state, deletion));
    }
    for upsertion in &request.upsertions {
        add(&upsertion.name, setting(upsertion));
    }
    plan
}

fn named(user: &Str, mechanism: i8) -> Result<ScramMechanism, ApiError> {
    if user.is_empty() {
        return Err(ApiError::new(ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    if user.len() > USER_LEN_MAX {
        let why = format!("a name has {USER_LEN_MAX} bytes at most");
        return Err(ApiError::new(ErrorCode::UnacceptableCredential, why));
    }
    let unknown = || ApiError::new(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    ScramMechanism::from_code(mechanism).ok_or_else(unknown)
}

fn removal(state: &State, deletion: &ScramCredentialDeletion) -> Result<MetadataRecord, ApiError> {
    let mechanism = named(&deletion.name, deletion.mechanism)?;
    if state.credentials().scram(&deletion.name, mechanism).is_none() {
        return Err(ApiError::new(
            ErrorCode::ResourceNotFound,
            "Attempt to delete a user credential that does not exist",
        ));
    }
    Ok(MetadataRecord::RemoveScramCredential { user: deletion.name.clone(), mechanism })
}

fn setting(upsertion: &ScramCredentialUpsertion) -> Result<MetadataRecord, ApiError> {
    let mechanism = named(&upsertion.name, upsertion.mechanism)?;
    let unacceptable = |why: &str| Err(ApiError::new(ErrorCode::UnacceptableCredential, why.to_owned()));
    let iterations = match u32::try_from(upsertion.iterations) {
        Ok(iterations) if iterations > ITERATIONS_MAX => return unacceptable("Too many iterations"),
        Ok(iterations) if iterations >= ITERATIONS_MIN => iterations,
        _ => return unacceptable("Too few iterations"),
    };
    if upsertion.salted_password.len() != mechanism.key_bytes() {
        return unacceptable("the salted password has not the mechanism's length");
    }
    if !(1..=SALT_LEN_MAX).contains(&upsertion.salt.len()) {
        return unacceptable("the salt is empty or too long");
    }
    let credential = scram::credential(mechanism, &upsertion.salted_password, &upsertion.salt, iterations);
    Ok(MetadataRecord::PutScramCredential { user: upsertion.name.clone(), mechanism, credential })
}
