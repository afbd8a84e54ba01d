//! DescribeUserScramCredentials (key 50), version 0 (KIP-554): which users have which mechanisms with how many iterations. Never salts
//! or keys. Null or no users asks for all of them.
//!
//! A user that is named twice is DUPLICATE_RESOURCE, one without credentials RESOURCE_NOT_FOUND.
//!
//! Difference: any broker answers, from its own replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::acl::AclOperation;
use catalog::{ScramCredential, ScramMechanism};
use protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::request::RequestContext;

pub(super) async fn handle(
    context: RequestContext,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if let Err(code) = context.authorize(AclOperation::Describe, Resource::Cluster) {
        return DescribeUserScramCredentialsResponse {
            error_code: code.code(),
            ..DescribeUserScramCredentialsResponse::default()
        };
    }
    context.broker.freshness.catch_up().await;
    let state = context.broker.catalog.read();
    let credentials = state.credentials();
    let mut named: BTreeMap<Str, u32> = BTreeMap::new();
    for user in request.users.iter().flatten() {
        *named.entry(user.name.clone()).or_default() += 1;
    }
    let results = match named.is_empty() {
        true => credentials.scram_users().map(|(user, of_user)| found(user.clone(), of_user)).collect(),
        false => {
            let described = named.into_iter().map(|(user, times)| match credentials.scram_user(&user) {
                _ if times > 1 => {
                    let why =
                        format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
                    missing(user, ErrorCode::DuplicateResource, why)
                }
                Some(of_user) => found(user, of_user),
                None => {
                    let why =
                        format!("Attempt to describe a user credential that does not exist: {user}");
                    missing(user, ErrorCode::ResourceNotFound, why)
                }
            });
            described.collect()
        }
    };
    DescribeUserScramCredentialsResponse {
        error_message: None,
        results,
        ..DescribeUserScramCredentialsResponse::default()
    }
}

fn found(
    user: Str,
    of_user: &BTreeMap<ScramMechanism, Arc<ScramCredential>>,
) -> DescribeUserScramCredentialsResult {
    let infos = of_user.iter().map(|(mechanism, credential)| CredentialInfo {
        mechanism: mechanism.code(),
        iterations: credential.iterations as i32,
        ..CredentialInfo::default()
    });
    DescribeUserScramCredentialsResult {
        user,
        error_code: ErrorCode::None.code(),
        error_message: None,
        credential_infos: infos.collect(),
        ..DescribeUserScramCredentialsResult::default()
    }
}

fn missing(user: Str, code: ErrorCode, why: String) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user,
        error_code: code.code(),
        error_message: Some(why.into()),
        ..DescribeUserScramCredentialsResult::default()
    }
}
