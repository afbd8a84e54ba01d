use std::sync::Arc;

use catalog::{Catalog, CatalogOptions, Levels, MetadataRecord};
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{ApiVersionsRequest, UpdateFeaturesRequest, UpdateFeaturesResponse};
use protocol::{ErrorCode, Str};
use world::bucket::MemBucket;
use world::rng::SeededRng;

use crate::house::{House, code, story};

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const NEW: Levels = Levels { lowest: 1, highest: 3 };

fn to(feature: &str, max_version_level: i16, upgrade_type: i8) -> FeatureUpdateKey {
    FeatureUpdateKey { feature: Str::from(feature), max_version_level, upgrade_type, allow_downgrade: false }
}

async fn update(house: &House, updates: &[FeatureUpdateKey], validate_only: bool) -> UpdateFeaturesResponse {
    let feature_updates = updates.to_vec();
    let request =
        UpdateFeaturesRequest { feature_updates, validate_only, ..UpdateFeaturesRequest::default() };
    house.ask(2, request).await
}

async fn refused(house: &House, update_to: FeatureUpdateKey, why: &str) {
    let response = update(house, &[update_to], false).await;
    assert_eq!(code(response.error_code), ErrorCode::InvalidUpdateVersion);
    let message = response.error_message.unwrap_or_default();
    assert!(message.contains(why), "{message}");
}

/// Lowest and highest supported, and finalized, of a feature as ApiVersions says it.
async fn shown(house: &House, name: &str) -> (i16, i16, i16) {
    let request = ApiVersionsRequest {
        client_software_name: "a".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let response = house.ask(4, request).await;
    let supported = response.supported_features.iter().find(|feature| feature.name == name).unwrap();
    let finalized = response.finalized_features.iter().find(|feature| feature.name == name).unwrap();
    assert_eq!(finalized.min_version_level, finalized.max_version_level);
    (supported.min_version, supported.max_version, finalized.max_version_level)
}

async fn neighbour(bucket: &MemBucket, levels: Levels) -> Arc<Catalog> {
    let options = CatalogOptions {
        node_id: Some(2),
        levels,
        lease_ttl: std::time::Duration::ZERO,
        ..CatalogOptions::default()
    };
    let rng = SeededRng::shared(bucket.trace_hash());
    Catalog::open_bucket(Arc::new(bucket.clone()), rng, options).await.unwrap()
}

#[test]
fn the_level_goes_up_when_every_live_broker_knows_it() {
    story(|| async {
        let bucket = MemBucket::new(1);
        let old = neighbour(&bucket, Levels::FIRST_ONLY).await;
        let house = House::at_levels(&bucket, NEW).await;
        assert_eq!(shown(&house, "ottla.version").await, (1, 3, 1));
        refused(&house, to("ottla.version", 2, UPGRADE), "broker 2 is alive and knows 1 to 1").await;
        old.append(vec![MetadataRecord::FenceWal { wal_id: old.wal_id() }]).await.unwrap();
        // The house looks by itself, and one that only asks changes nothing.
        let tried = update(&house, &[to("ottla.version", 2, UPGRADE)], true).await;
        assert_eq!((code(tried.error_code), tried.error_message), (ErrorCode::None, None));
        assert_eq!(shown(&house, "ottla.version").await, (1, 3, 1));
        let both = [to("ottla.version", 2, UPGRADE), to("metadata.version", 33, UPGRADE)];
        assert_eq!(code(update(&house, &both, false).await.error_code), ErrorCode::None);
        assert_eq!(shown(&house, "ottla.version").await, (1, 3, 2));
        let position = house.catalog.read().position();
        assert_eq!(code(update(&house, &both, false).await.error_code), ErrorCode::None);
        assert_eq!(house.catalog.read().position(), position, "it is there already");
        for down in [UPGRADE, SAFE_DOWNGRADE, 3] {
            refused(&house, to("ottla.version", 1, down), "never goes down").await;
        }
        let behind_old = update(&house, &[to("ottla.version", 3, UPGRADE), to("x", 1, UPGRADE)], false).await;
        assert_eq!(code(behind_old.error_code), ErrorCode::InvalidUpdateVersion);
        assert_eq!(shown(&house, "ottla.version").await, (1, 3, 2), "all of a request, or nothing");
    });
}

#[test]
fn what_cannot_be_is_refused() {
    story(|| async {
        let house = House::new().await;
        assert_eq!(shown(&house, "metadata.version").await, (33, 33, 33));
        assert_eq!(shown(&house, "ottla.version").await, (1, 1, 1));
        refused(&house, to("ottla.version", 2, UPGRADE), "broker 1 knows 1 to 1").await;
        refused(&house, to("ottla.version", 0, SAFE_DOWNGRADE), "broker 1 knows 1 to 1").await;
        refused(&house, to("ottla.version", 1, 4), "4 is no upgrade type").await;
        refused(&house, to("metadata.version", 32, SAFE_DOWNGRADE), "broker 1 knows 33 to 33").await;
        refused(&house, to("kraft.version", 1, UPGRADE), "not supported here").await;
        assert_eq!(shown(&house, "group.version").await, (0, 1, 1));
        assert_eq!(shown(&house, "share.version").await, (0, 2, 2));
        // Results of single features end with version 1.
        for version in [0, 1] {
            let mut only = to("ottla.version", 1, UPGRADE);
            only.allow_downgrade = version == 0;
            let request =
                UpdateFeaturesRequest { feature_updates: vec![only], ..UpdateFeaturesRequest::default() };
            let response = house.ask(version, request).await;
            assert_eq!(code(response.error_code), ErrorCode::None);
            let results: Vec<(&str, i16)> =
                response.results.iter().map(|result| (&*result.feature, result.error_code)).collect();
            assert_eq!(results, [("ottla.version", 0)]);
        }
    });
}
