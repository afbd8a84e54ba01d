//! ApiVersions (key 18), versions 0–5.
//!
//! Says which APIs and versions this broker answers, and its feature levels. The one API whose unknown versions
//! are answered: with UNSUPPORTED_VERSION in version 0, so that a newer client can step down.
//!
//! Differences: `zk_migration_ready` is always false. Features: see `features.rs`.
//!
//! 3: flexible, name and version of the client (KIP-511), features (KIP-584) · 4: features whose lowest level is 0
//! · 5: the cluster and node that the client believes to talk to (KIP-1242).

use protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::TABLE;
use crate::connection::ClientSoftware;
use crate::features;
use crate::request::{Handling, RequestContext};

const CLIENT_SOFTWARE_SINCE: i16 = 3;
const LEVEL_0_SINCE: i16 = 4;
const CLIENT_SOFTWARE_LEN_MAX: usize = 255;

pub(super) async fn handle(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if context.api_version >= CLIENT_SOFTWARE_SINCE {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_word(name) || !is_software_word(version) {
            return refusal(ErrorCode::InvalidRequest);
        }
        context
            .connection
            .set_software(ClientSoftware { name: name.detached(), version: version.detached() });
    }
    if let Some(code) = wrong_place(&context, &request) {
        return refusal(code);
    }
    let mut response = ApiVersionsResponse { api_keys: versions(), ..ApiVersionsResponse::default() };
    let state = context.broker.catalog.read();
    for feature in features::supported(context.broker.catalog.levels()) {
        // KIP-1022: older clients take a lowest level of 0 for nonsense.
        if feature.lowest > 0 || context.api_version >= LEVEL_0_SINCE {
            response.supported_features.push(SupportedFeatureKey {
                name: Str::from_static(feature.name),
                min_version: feature.lowest,
                max_version: feature.highest,
            });
        }
        let level = feature.level(&state);
        response.finalized_features.push(FinalizedFeatureKey {
            name: Str::from_static(feature.name),
            max_version_level: level,
            min_version_level: level,
        });
    }
    response.finalized_features_epoch = i64::try_from(state.position()).unwrap_or(i64::MAX);
    response
}

/// The answer to a version that nobody here knows.
pub(crate) fn unsupported(context: RequestContext) -> Handling {
    Handling::Sequential(Box::pin(async move {
        let mut response = refusal(ErrorCode::UnsupportedVersion);
        response.api_keys =
            versions().into_iter().filter(|api| api.api_key == ApiKey::ApiVersions.code()).collect();
        context.answer_in(&response, 0)
    }))
}

fn versions() -> Vec<ApiVersion> {
    let version = |api: &super::Api| ApiVersion {
        api_key: api.key.code(),
        min_version: *api.advertised.start(),
        max_version: *api.advertised.end(),
    };
    TABLE.iter().map(version).collect()
}

fn refusal(code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse { error_code: code.code(), ..ApiVersionsResponse::default() }
}

/// KIP-511's rule for names and versions of client libraries: letters and digits, with '-' and '.' in between.
fn is_software_word(word: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    bytes.len() <= CLIENT_SOFTWARE_LEN_MAX
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// A client that kept an address across clusters, or across brokers, learns that it is wrong here.
///
/// On a bucket node ids go from address to address: who is started again before the lease of its former life has ended gets another one,
/// and the next who starts elsewhere may get that. There only another cluster is the wrong place. A client that came for another broker
/// would give up all its connections, find the same in the metadata, and come again; told NOT_LEADER_OR_FOLLOWER it stays, and learns of
/// the new leader when there is one.
fn wrong_place(context: &RequestContext, request: &ApiVersionsRequest) -> Option<ErrorCode> {
    let catalog = &context.broker.catalog;
    let is_other_node =
        !catalog.is_shared() && request.node_id >= 0 && request.node_id != context.broker.node_id;
    let state = catalog.read();
    let is_other_cluster = request.cluster_id.as_ref().is_some_and(|id| id != state.cluster_id());
    (is_other_cluster || is_other_node).then_some(ErrorCode::RebootstrapRequired)
}

#[cfg(test)]
mod tests {
    use super::is_software_word;

    #[test]
    fn names_of_client_libraries_follow_kip_511() {
        for good in ["apache-kafka-java", "4.4.0", "librdkafka", "a", "2.3.0-rc.1"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", ".", &"x".repeat(256)] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }
}
