//! UpdateFeatures (key 57), versions 0–2 (KIP-584, KIP-778).
//!
//! Raises the level of the cluster, `ottla.version`, once every live broker knows the new one; `kafka-features.sh upgrade` is its tool.
//! All updates of a request count or none. What cannot be is INVALID_UPDATE_VERSION: a feature or a level that is not known here or at
//! another live broker, and every step down, because records of the level may stand in the log. `metadata.version` can be set to what
//! it is and to nothing else.
//!
//! Difference: any broker answers, in Kafka the controller does.
//!
//! 1: upgrade types, `validate_only` · 2: one error for all, no results of single features (KIP-1022).

use catalog::acl::AclOperation;
use catalog::{CatalogError, MetadataRecord, OTTLA_VERSION, Precondition, State};
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::update_features_response::UpdatableFeatureResult;
use protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use protocol::{ErrorCode, Str};

use crate::authorizer::Resource;
use crate::broker::Broker;
use crate::error::ApiError;
use crate::features::{self, Feature};
use crate::request::RequestContext;

const UPGRADE_TYPES_SINCE: i16 = 1;
const RESULTS_UNTIL: i16 = 1;
const UPGRADE: i8 = 1;
const DOWNGRADES: std::ops::RangeInclusive<i8> = 2..=3;

pub(super) async fn handle(
    context: RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut response = UpdateFeaturesResponse { error_message: None, ..UpdateFeaturesResponse::default() };
    match update(&context, &request).await {
        Ok(()) if context.api_version <= RESULTS_UNTIL => {
            let done = |update: &FeatureUpdateKey| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code: ErrorCode::None.code(),
                error_message: None,
            };
            response.results = request.feature_updates.iter().map(done).collect();
        }
        Ok(()) => {}
        Err(error) => {
            response.error_code = error.code.code();
            response.error_message =
                error.message.map(|why| Str::from(format!("No feature was updated. {why}")));
        }
    }
    response
}

async fn update(context: &RequestContext, request: &UpdateFeaturesRequest) -> Result<(), ApiError> {
    let broker = &context.broker;
    context.authorize(AclOperation::Alter, Resource::Cluster)?;
    if broker.catalog.is_shared() {
        // Who lives, and whether somebody else has raised it a moment ago.
        broker.catalog.catch_up().await?;
    }
    let mut raised = None;
    for update in &request.feature_updates {
        let upgrade_type = match (context.api_version >= UPGRADE_TYPES_SINCE, update.allow_downgrade) {
            (true, _) => update.upgrade_type,
            (false, true) => *DOWNGRADES.start(),
            (false, false) => UPGRADE,
        };
        let plan = plan(broker, &broker.catalog.read(), update, upgrade_type)?;
        raised = plan.or(raised);
    }
    let Some((from_level, to_level)) = raised.filter(|_| !request.validate_only) else { return Ok(()) };
    let record = MetadataRecord::FeatureLevel { name: Str::from_static(OTTLA_VERSION), from_level, to_level };
    match broker.catalog.append(vec![record]).await {
        Ok(position) => tracing::info!("{OTTLA_VERSION} goes from {from_level} to {to_level} at {position}"),
        // Two of the same request: the first one did it.
        Err(CatalogError::Rejected(Precondition::FeatureMoved { actual, .. })) if actual == to_level => {}
        Err(error) => return Err(error.into()),
    }
    broker.tell_others().await;
    Ok(())
}

/// What the level of the cluster goes from and to; None if nothing changes.
fn plan(
    broker: &Broker,
    state: &State,
    update: &FeatureUpdateKey,
    upgrade_type: i8,
) -> Result<Option<(i16, i16)>, ApiError> {
    let (name, to) = (&update.feature, update.max_version_level);
    let refused = |why: String| {
        let message = format!("{name} cannot be at {to}: {why}");
        Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message))
    };
    if upgrade_type != UPGRADE && !DOWNGRADES.contains(&upgrade_type) {
        return refused(format!("{upgrade_type} is no upgrade type that is known here"));
    }
    let known = features::supported(broker.catalog.levels());
    let Some(feature) = known.iter().find(|feature| *name == feature.name) else {
        return refused("this feature is not supported here".to_owned());
    };
    let Feature { lowest, highest, .. } = *feature;
    if !(lowest..=highest).contains(&to) {
        return refused(format!("broker {} knows {lowest} to {highest}", broker.node_id));
    }
    let from = feature.level(state);
    if to == from {
        return Ok(None);
    }
    if to < from {
        return refused(format!("it is at {from}, whose records may stand in the log; it never goes down"));
    }
    if upgrade_type != UPGRADE {
        return refused(format!("it is at {from}, that would be no downgrade"));
    }
    let mut live = state.live_brokers();
    if let Some(other) = live.find(|other| !other.levels.contains(to)) {
        let (node_id, known) = (other.node_id, other.levels);
        return refused(format!("broker {node_id} is alive and knows {known}; upgrade it first"));
    }
    Ok(Some((from, to)))
}
