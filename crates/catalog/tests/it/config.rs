//! The table of config keys against Apache Kafka 4.4.0: its declarations, and what a running broker answered.
//!
//! The vectors were made by asking a real broker: two topics created, all resources described, then each line of
//! `kafka-4.4.0-changes.tsv` in order, then everything described again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use catalog::config::alter::{self, AlterOp, Change};
use catalog::config::describe::{DescribeOptions, describe};
use catalog::config::{self, BrokerConfig, ConfigSource, Mutability, Scope, TopicConfig, differences};
use catalog::{MetadataRecord, ResourceType, State};
use protocol::{Str, Uuid};
use world::disk::MemDisk;

use crate::support::*;

fn vector(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn the_table_has_every_key_of_kafka_with_its_type_default_and_update_mode() {
    let other_default: BTreeSet<&str> = differences::DEFAULTS.iter().map(|(name, _)| *name).collect();
    let mut seen = BTreeSet::new();
    for row in vector("kafka-4.4.0-keys.tsv") {
        let [scope, name, config_type, default, internal, mode] = row.try_into().unwrap();
        let scope_of_key = match scope.as_str() {
            "topic" => Scope::Topic,
            "broker" => Scope::Broker,
            "group" => Scope::Group,
            _ => Scope::ClientMetrics,
        };
        let key =
            config::find(scope_of_key, &name).unwrap_or_else(|| panic!("{scope} key {name} is missing"));
        assert_eq!(key.config_type.name(), config_type, "type of {name}");
        assert_eq!(key.internal, internal == "internal", "{name}");
        if scope == "broker" {
            let mutability = match mode.as_str() {
                "per-broker" => Mutability::PerBroker,
                "cluster-wide" => Mutability::ClusterWide,
                _ => Mutability::ReadOnly,
            };
            assert_eq!(key.mutability, mutability, "update mode of {name}");
        }
        if other_default.contains(name.as_str()) {
            assert_ne!(key.default.unwrap_or("<null>"), default, "{name} is listed as different and is not");
        } else {
            assert_eq!(key.default.unwrap_or("<null>"), default, "default of {scope} key {name}");
        }
        seen.insert((scope, name));
    }
    assert_eq!(seen.len(), 447);
    // Kafka keeps three throttles outside of its broker ConfigDef; everything else beyond it is ours and says so.
    let extra =
        config::keys(Scope::Broker).filter(|key| !seen.contains(&("broker".to_owned(), key.name.to_owned())));
    let (own, throttles): (Vec<&config::ConfigKey>, Vec<_>) = extra.partition(|key| key.ours);
    assert_eq!(throttles.len(), 3);
    assert!(own.iter().all(|key| key.mutability == Mutability::ReadOnly));
}

/// The `server.properties` of the broker that was asked.
const PROPERTIES: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:19393
listeners=PLAINTEXT://127.0.0.1:19392,CONTROLLER://127.0.0.1:19393,SASL_PLAINTEXT://127.0.0.1:19394,PROXIED://127.0.0.1:19395
advertised.listeners=PLAINTEXT://127.0.0.1:19392,SASL_PLAINTEXT://127.0.0.1:19394,PROXIED://127.0.0.1:29091
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=a
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=b
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=c
delegation.token.secret.key=secret
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
allow.everyone.if.no.acl.found=true
log.dirs=/data/log
num.partitions=4
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.coordinator.rebalance.protocols=classic,consumer,share,streams
group.share.min.record.lock.duration.ms=1000
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=500
log.cleaner.backoff.ms=1000
log.message.timestamp.after.max.ms=9223372036854775807
";

fn asked_broker() -> BrokerConfig {
    BrokerConfig::new(config::properties::parse(PROPERTIES).unwrap()).unwrap().0
}

fn set(resource_type: ResourceType, name: &str, changes: &[(&str, &str)]) -> MetadataRecord {
    let changes = changes.iter().map(|(key, value)| (Str::from(*key), Some(Str::from(*value)))).collect();
    MetadataRecord::SetConfigs { resource_type, resource_name: Str::from(name), changes }
}

/// Our answer in the words of the vector.
fn answer(state: &State, broker: &BrokerConfig, what: &str) -> BTreeMap<String, Vec<String>> {
    let (resource_type, name) = match what {
        "topic-plain" | "after-subtract" | "topic-dyn" => (ResourceType::Topic, "plain"),
        "topic-over" | "topic-over-dyn" => (ResourceType::Topic, "over"),
        "broker" | "broker-dyn" => (ResourceType::Broker, "1"),
        "broker-default" | "broker-default-dyn" => (ResourceType::Broker, ""),
        "group" | "group-dyn" => (ResourceType::Group, "g"),
        _ => (ResourceType::ClientMetrics, "cm"),
    };
    let options = DescribeOptions { synonyms: true, documentation: false };
    let described = describe(state, broker, resource_type, name, None, options).unwrap();
    let source = |source: ConfigSource| match source {
        ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
        ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
    };
    let kinds =
        ["UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"];
    let null = |value: &Option<Str>, null: &str| value.as_ref().map_or(null.to_owned(), ToString::to_string);
    let rows = described.iter().map(|entry| {
        let synonyms: Vec<String> = entry
            .synonyms
            .iter()
            .map(|synonym| {
                format!("{}:{}={}", source(synonym.source), synonym.name, null(&synonym.value, "null"))
            })
            .collect();
        let row = vec![
            kinds[entry.config_type as usize].to_owned(),
            null(&entry.value, "<null>"),
            source(entry.source).to_owned(),
            if entry.read_only { "ro" } else { "rw" }.to_owned(),
            if entry.is_sensitive { "sensitive" } else { "plain" }.to_owned(),
            synonyms.join(" | "),
        ];
        (entry.name.to_string(), row)
    });
    rows.collect()
}

/// Lines of the vector for `what`; `whole`: the vector has every key, so ours must have no other.
fn compare(state: &State, broker: &BrokerConfig, what: &str, whole: bool) {
    let differs: BTreeSet<&str> = differences::DEFAULTS.iter().map(|(name, _)| *name).collect();
    let mut ours = answer(state, broker, what);
    let mut compared = 0;
    for row in vector("kafka-4.4.0-describe.tsv").into_iter().filter(|row| row[0] == what) {
        let name = row[1].clone();
        let our_row = ours.remove(&name).unwrap_or_else(|| panic!("{what}: {name} is not described"));
        if differs.contains(name.as_str()) || differs.contains(base_name(&name)) {
            continue;
        }
        // What Kafka keeps unseen for its authorizer is in our table.
        if row[2] == "UNKNOWN" && config::find(Scope::Broker, &name).is_some_and(|key| key.ours) {
            continue;
        }
        assert_eq!(our_row, row[2..], "{what}: {name}");
        compared += 1;
    }
    if whole {
        ours.retain(|name, _| config::find(Scope::Broker, name).is_none_or(|key| !key.ours));
        assert!(ours.is_empty(), "{what}: described by us alone: {:?}", ours.keys());
        assert!(compared > 0 || what == "broker-default");
    }
}

fn base_name(name: &str) -> &str {
    name.strip_prefix("listener.name.plaintext.").unwrap_or(name)
}

/// Changes that Kafka and we answer differently, and why.
const OTHER_ANSWERS: &[(&str, &str)] = &[
    ("nope.key SET 1;", "Kafka keeps unknown broker keys for its plugins"),
    ("nope.key2 SET 1;", "Kafka keeps unknown broker keys for its plugins"),
    ("log.cleaner.threads SET 100;", "Kafka lets thread counts at most double; here they have no effect"),
    ("num.io.threads SET 100;", "Kafka lets thread counts at most double; here they have no effect"),
    ("min.insync.replicas SET 2;", "Kafka refuses it per broker for its eligible leader replicas"),
];

#[test]
fn describing_and_changing_answer_as_kafka_does() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let broker = asked_broker();
        // A cluster formatted by Kafka 4 starts with this override.
        catalog.append(vec![set(ResourceType::Broker, "", &[("min.insync.replicas", "1")])]).await.unwrap();
        let changes = vector("kafka-4.4.0-changes.tsv");
        let (mut ids, mut step) = (100u128, 0);
        for row in &changes {
            ids += 1;
            step += 1;
            match row[0].as_str() {
                "CREATE" => {
                    let code = create(&catalog, &broker, row, ids).await;
                    assert_eq!(code, row[5], "step {step}: {row:?}");
                }
                _ => {
                    let code = change(&catalog, &broker, row).await;
                    let excused = OTHER_ANSWERS.iter().any(|(changes, _)| row[3] == *changes);
                    if code != row[4] {
                        assert!(excused, "step {step}: {row:?}: we answer {code}");
                    }
                }
            }
            let state = catalog.read();
            match step {
                2 => {
                    for what in ["topic-plain", "broker", "broker-default", "group", "client-metrics"] {
                        compare(&state, &broker, what, true);
                    }
                    compare(&state, &broker, "topic-over", false);
                }
                _ if row[3].starts_with("cleanup.policy SUBTRACT delete")
                    && state.config(ResourceType::Topic, "plain").unwrap()["cleanup.policy"].is_empty() =>
                {
                    compare(&state, &broker, "after-subtract", false);
                }
                _ => {}
            }
        }
        // What we refused and Kafka kept.
        let kept = [
            set(ResourceType::Broker, "1", &[("nope.key", "1")]),
            set(ResourceType::Broker, "", &[("nope.key2", "1")]),
        ];
        for record in kept {
            catalog.append(vec![record]).await.unwrap();
        }
        let undo = ["log.cleaner.threads", "num.io.threads"].map(|key| (Str::from(key), None)).to_vec();
        let (resource_type, resource_name) = (ResourceType::Broker, Str::from(""));
        catalog
            .append(vec![MetadataRecord::SetConfigs { resource_type, resource_name, changes: undo }])
            .await
            .unwrap();
        let per_broker = vec![(Str::from("min.insync.replicas"), None)];
        let record =
            MetadataRecord::SetConfigs { resource_type, resource_name: Str::from("1"), changes: per_broker };
        catalog.append(vec![record]).await.unwrap();
        let state = catalog.read();
        for what in ["topic-dyn", "group-dyn"] {
            compare(&state, &broker, what, true);
        }
        for what in ["topic-over-dyn", "broker-dyn", "broker-default-dyn", "client-metrics-dyn"] {
            compare(&state, &broker, what, false);
        }

        let effective = TopicConfig::effective(&state, &broker, "bc9");
        assert_eq!((effective.retention_ms, effective.max_message_bytes), (5, 2_000_000));
        assert_eq!(effective.max_decompressed_message_bytes, 5_000_000);
        let effective = TopicConfig::effective(&state, &broker, "a.b");
        assert_eq!(effective.retention_ms, 8888, "this broker's override wins over the cluster's");
        assert!(effective.cleanup_policy.delete && effective.cleanup_policy.compact);
        assert_eq!(broker.effective(&state).message_max_bytes(), 2_000_000);
        assert_eq!(broker.message_max_bytes(), 1_048_588);
    });
}

async fn create(catalog: &catalog::Catalog, broker: &BrokerConfig, row: &[String], id: u128) -> String {
    let name = &row[1];
    if catalog.read().topic(name).is_some() {
        return "TOPIC_ALREADY_EXISTS".to_owned();
    }
    let configs: Vec<(Str, Option<Str>)> = row[4]
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (Str::from(key), Some(Str::from(value))))
        .collect();
    let configs = match alter::topic_create_configs(&catalog.read(), broker, &configs) {
        Ok(configs) => configs,
        Err(error) => return error.code.name().to_owned(),
    };
    let record = MetadataRecord::CreateTopic {
        id: Uuid::from_u128(id),
        name: Str::from(name),
        partition_count: row[2].parse().unwrap(),
        replication_factor: row[3].parse().unwrap(),
        configs,
    };
    match catalog.append(vec![record]).await {
        Ok(_) => "NONE".to_owned(),
        Err(error) => error.error_code().name().to_owned(),
    }
}

async fn change(catalog: &catalog::Catalog, broker: &BrokerConfig, row: &[String]) -> String {
    let resource_type = match row[1].as_str() {
        "TOPIC" => ResourceType::Topic,
        "BROKER" => ResourceType::Broker,
        "GROUP" => ResourceType::Group,
        _ => ResourceType::ClientMetrics,
    };
    let changes: Vec<Change> = row[3]
        .split(';')
        .map(|change| change.trim_start().splitn(3, ' ').collect::<Vec<_>>())
        .filter(|parts| parts.len() >= 2)
        .map(|parts| {
            let op = match parts[1] {
                "SET" => AlterOp::Set,
                "DELETE" => AlterOp::Delete,
                "APPEND" => AlterOp::Append,
                _ => AlterOp::Subtract,
            };
            let value = (op != AlterOp::Delete).then(|| Str::from(*parts.get(2).unwrap_or(&"")));
            Change { name: Str::from(parts[0]), op, value }
        })
        .collect();
    let altered = alter::alter(&catalog.read(), broker, resource_type, &row[2], &changes);
    match altered {
        Ok(record) => match catalog.append(record.into_iter().collect()).await {
            Ok(_) => "NONE".to_owned(),
            Err(error) => error.error_code().name().to_owned(),
        },
        Err(error) => error.code.name().to_owned(),
    }
}

#[test]
fn the_old_alter_configs_drops_what_is_not_named() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let broker = BrokerConfig::default();
        catalog.append(vec![topic(1, "a", 1)]).await.unwrap();
        let replace = |configs: &[(&str, &str)]| {
            let configs: Vec<_> =
                configs.iter().map(|(key, value)| (Str::from(*key), Some(Str::from(*value)))).collect();
            alter::replace(&catalog.read(), &broker, ResourceType::Topic, "a", &configs)
        };
        for (configs, expected) in [
            (
                vec![("retention.ms", "5"), ("segment.bytes", " 2097152 ")],
                vec!["retention.ms", "segment.bytes"],
            ),
            (vec![("segment.bytes", "2097152")], vec!["segment.bytes"]),
            (vec![], vec![]),
        ] {
            let record = replace(&configs).unwrap().expect("something changes");
            catalog.append(vec![record]).await.unwrap();
            let state = catalog.read();
            let names: Vec<String> = state
                .config(ResourceType::Topic, "a")
                .map(|map| map.keys().map(ToString::to_string).collect())
                .unwrap_or_default();
            assert_eq!(names, expected);
        }
        assert_eq!(replace(&[]).unwrap(), None, "nothing to change, nothing to append");
        assert!(replace(&[("retention.ms", "5"), ("retention.ms", "6")]).is_err());
        assert!(replace(&[("nope", "5")]).is_err());
    });
}

#[test]
fn secrets_are_never_told() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let broker = asked_broker();
        let state = catalog.read();
        for options in [DescribeOptions::default(), DescribeOptions { synonyms: true, documentation: true }] {
            let described = describe(&state, &broker, ResourceType::Broker, "1", None, options).unwrap();
            for entry in described.iter().filter(|entry| entry.is_sensitive) {
                assert_eq!(entry.value, None);
                assert!(entry.synonyms.iter().all(|synonym| synonym.value.is_none()));
            }
        }
        let change = |value: &str| Change {
            name: Str::from("listener.name.plaintext.ssl.key.password"),
            op: AlterOp::Set,
            value: Some(Str::from(value)),
        };
        alter::alter(&state, &broker, ResourceType::Broker, "1", &[change("hush")]).unwrap();
        let names = [Str::from("node.id"), Str::from("no.such.key")];
        let asked =
            describe(&state, &broker, ResourceType::Broker, "1", Some(&names), DescribeOptions::default())
                .unwrap();
        assert_eq!(asked.len(), 1);
    });
}

/// KIP-405 and KIP-950, as Kafka's `LogConfig` checks them.
#[test]
fn a_topic_goes_into_the_second_tier_and_leaves_it_by_rule() {
    run(async {
        let disk = MemDisk::new(1);
        let catalog = open(&disk).await;
        let enabled =
            [("remote.log.storage.system.enable", "true"), ("remote.log.storage.url", "s3://bucket/tier")];
        let (with, _) = BrokerConfig::new(enabled).unwrap();
        let without = BrokerConfig::default();
        let missing = BrokerConfig::new([("remote.log.storage.system.enable", "true")]);
        assert!(missing.unwrap_err().to_string().contains("remote.log.storage.url"));
        let state = catalog.read().clone();
        let create = |broker: &BrokerConfig, configs: &[(&str, &str)]| {
            let configs: Vec<(Str, Option<Str>)> =
                configs.iter().map(|(key, value)| (Str::from(*key), Some(Str::from(*value)))).collect();
            alter::topic_create_configs(&state, broker, &configs).map_err(|error| error.code)
        };
        let refused = Err(protocol::ErrorCode::InvalidConfig);
        let on = ("remote.storage.enable", "true");
        assert_eq!(create(&without, &[on]), refused, "no tier");
        assert!(create(&without, &[("local.retention.ms", "5")]).is_ok(), "means nothing there");
        assert!(create(&with, &[on]).is_ok());
        for policy in ["compact", "compact,delete", ""] {
            assert_eq!(create(&with, &[on, ("cleanup.policy", policy)]), refused, "{policy}");
        }
        for (whole, local, is_ok) in [
            ("1000", "1000", true),
            ("1000", "1001", false),
            ("1000", "-1", false),
            ("1000", "-2", true),
            ("-1", "-1", true),
            ("-1", "5", true),
        ] {
            for (key, local_key) in
                [("retention.ms", "local.retention.ms"), ("retention.bytes", "local.retention.bytes")]
            {
                let created = create(&with, &[on, (key, whole), (local_key, local)]);
                assert_eq!(created.is_ok(), is_ok, "{key}={whole} {local_key}={local}");
                let copy_disabled = ("remote.log.copy.disable", "true");
                let created = create(&with, &[on, copy_disabled, (key, whole), (local_key, local)]);
                assert_eq!(
                    created.is_ok(),
                    is_ok && (local == whole || local == "-2"),
                    "{local_key}={local}"
                );
            }
        }
        // The default of the broker counts as well.
        let defaults = enabled.into_iter().chain([("log.local.retention.bytes", "10")]);
        let (tight, _) = BrokerConfig::new(defaults).unwrap();
        assert_eq!(create(&tight, &[on, ("retention.bytes", "9")]), refused);

        let id = Uuid::from_u128(5);
        let configs = vec![(Str::from("remote.storage.enable"), Str::from("true"))];
        let (partition_count, replication_factor) = (1, 1);
        let topic = MetadataRecord::CreateTopic {
            id,
            name: Str::from("old"),
            partition_count,
            replication_factor,
            configs,
        };
        catalog.append(vec![topic]).await.unwrap();
        let state = catalog.read();
        let change = |changes: &[(&str, Option<&str>)]| {
            let changes = changes.iter().map(|(name, value)| Change {
                name: Str::from(*name),
                op: if value.is_some() { AlterOp::Set } else { AlterOp::Delete },
                value: value.map(Str::from),
            });
            let changes: Vec<Change> = changes.collect();
            alter::alter(&state, &with, ResourceType::Topic, "old", &changes).map_err(|error| error.code)
        };
        assert_eq!(
            change(&[("remote.storage.enable", Some("false"))]),
            Err(protocol::ErrorCode::InvalidConfig)
        );
        assert_eq!(change(&[("remote.storage.enable", None)]), Err(protocol::ErrorCode::InvalidConfig));
        let deletes = ("remote.log.delete.on.disable", Some("true"));
        assert!(change(&[("remote.storage.enable", Some("false")), deletes]).is_ok());
        assert!(change(&[("remote.storage.enable", None), deletes]).is_ok());
        let effective = TopicConfig::effective(&state, &with, "old");
        assert!(effective.remote_storage_enable && !effective.remote_log_copy_disable);
        assert_eq!(effective.local_retention_ms, effective.retention_ms, "-2 is as long as the whole");
        // What may be secret is not shown.
        let names = [Str::from("remote.log.storage.url")];
        let asked =
            describe(&state, &with, ResourceType::Broker, "1", Some(&names), DescribeOptions::default())
                .unwrap();
        assert!(asked[0].is_sensitive && asked[0].value.is_none(), "{asked:?}");
    });
}

#[test]
fn the_reference_in_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let fresh = config::reference::markdown();
    if std::env::var_os("OTTLA_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == fresh, "docs/config.md is stale: OTTLA_WRITE_DOCS=1 cargo test -p catalog");
}
