//! Log directories, the quorum, features, brokers that go.

use protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{
    AddRaftVoterRequest, AlterReplicaLogDirsRequest, ApiVersionsRequest, DescribeLogDirsRequest,
    DescribeQuorumRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use protocol::{ApiKey, Str, Uuid};

use super::setup::batch;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::DescribeLogDirs, "topics", log_dirs),
    script(ApiKey::AlterReplicaLogDirs, "elsewhere", move_dirs),
    script(ApiKey::DescribeQuorum, "the metadata's", quorum),
    script(ApiKey::UpdateFeatures, "wrong ones", features),
    script(ApiKey::UnregisterBroker, "brokers", unregister),
    script(ApiKey::AddRaftVoter, "a voter", add_voter),
    script(ApiKey::RemoveRaftVoter, "a voter", remove_voter),
];

fn log_dirs(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.write(&a, 0, batch(&["1"]));
    let of = |topics: Option<&[(&Str, &[i32])]>| DescribeLogDirsRequest {
        topics: topics.map(|topics| {
            let topic = |(topic, partitions): &(&Str, &[i32])| DescribableLogDirTopic {
                topic: (*topic).clone(),
                partitions: partitions.to_vec(),
                ..Default::default()
            };
            topics.iter().map(topic).collect()
        }),
        ..Default::default()
    };
    c.ask("all", &of(None));
    c.ask("one partition", &of(Some(&[(&a.name, &[0])])));
    c.ask("an unknown partition", &of(Some(&[(&a.name, &[7])])));
    c.ask("an unknown topic", &of(Some(&[(&c.name("unknown"), &[0])])));
    c.ask("none", &of(Some(&[])));
}

fn move_dirs(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let of = |path: &str, name: &Str, partitions: &[i32]| AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path: path.into(),
            topics: vec![AlterReplicaLogDirTopic {
                name: name.clone(),
                partitions: partitions.to_vec(),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    c.ask("no such directory", &of("/no/such", &a.name, &[0]));
    c.ask("a path that is none", &of("no/such", &a.name, &[0]));
    c.ask("an unknown topic", &of("/no/such", &c.name("unknown"), &[0]));
    c.ask("no partitions", &of("/no/such", &a.name, &[]));
    c.ask("nothing", &AlterReplicaLogDirsRequest::default());
}

fn quorum(c: &mut Conversation) {
    let of = |topic_name: &str, partitions: &[i32]| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: topic_name.into(),
            partitions: partitions
                .iter()
                .map(|partition_index| PartitionData {
                    partition_index: *partition_index,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    c.ask("the partition", &of("__cluster_metadata", &[0]));
    c.ask("another partition", &of("__cluster_metadata", &[1]));
    c.ask("another topic", &of("x", &[0]));
    c.ask("nothing", &DescribeQuorumRequest::default());
}

fn features(c: &mut Conversation) {
    // What it is already, so that nothing but the kind is wrong; version 0 does not say one.
    let level = metadata_level(c);
    let version = c.version();
    let of = |features: &[(&str, i16, i8)]| {
        let update = |(feature, max_version_level, upgrade_type): &(&str, i16, i8)| FeatureUpdateKey {
            feature: (*feature).into(),
            max_version_level: *max_version_level,
            upgrade_type: if version == 0 { 1 } else { *upgrade_type },
            ..Default::default()
        };
        UpdateFeaturesRequest {
            timeout_ms: 10_000,
            feature_updates: features.iter().map(update).collect(),
            ..Default::default()
        }
    };
    let (unknown, twice, nothing) = (of(&[("x", 1, 1)]), of(&[("x", 1, 1), ("x", 2, 1)]), of(&[]));
    let (no_name, too_high) = (of(&[("", 1, 1)]), of(&[("metadata.version", 999, 1)]));
    let below = of(&[("metadata.version", -1, 1)]);
    let kind = of(&[("metadata.version", level, 9)]);
    let lower = of(&[("metadata.version", 7, 1)]);
    c.ask("an unknown one", &unknown);
    c.ask("one twice", &twice);
    c.ask("nothing", &nothing);
    c.ask("no name", &no_name);
    c.ask("too high", &too_high);
    c.ask("below 0", &below);
    c.ask("an unknown kind", &kind);
    c.ask("an upgrade downwards", &lower);
}

fn metadata_level(c: &mut Conversation) -> i16 {
    let request = ApiVersionsRequest {
        client_software_name: "conformance".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let features = c.help(&request).map_or_else(Vec::new, |answer| answer.finalized_features);
    let feature = features.iter().find(|feature| &*feature.name == "metadata.version");
    feature.map_or(0, |feature| feature.max_version_level)
}

fn unregister(c: &mut Conversation) {
    let of = |broker_id| UnregisterBrokerRequest { broker_id };
    c.ask("an unknown one", &of(77));
    c.ask("below 0", &of(-1));
}

fn add_voter(c: &mut Conversation) {
    let plain = AddRaftVoterRequest {
        timeout_ms: 1000,
        voter_id: 77,
        voter_directory_id: Uuid::from_u128(1),
        ..AddRaftVoterRequest::default()
    };
    c.ask("one", &plain);
    c.ask("of another cluster", &AddRaftVoterRequest { cluster_id: Some("x".into()), ..plain });
}

fn remove_voter(c: &mut Conversation) {
    let plain =
        RemoveRaftVoterRequest { voter_id: 77, voter_directory_id: Uuid::from_u128(1), ..Default::default() };
    c.ask("one", &plain);
    c.ask("of another cluster", &RemoveRaftVoterRequest { cluster_id: Some("x".into()), ..plain });
}
