//! `ottla topic`: create, list, describe, alter, delete, trim.

use std::collections::BTreeMap;

use client::{
    Admin, AlterConfig, ErrorCode, Isolation, NewTopic, OffsetSpec, Resource, Str, TopicInfo, TopicPartition,
};
use serde_json::{Value, json};

use crate::arguments::Output;
use crate::exit::{Done, Exit, Failure};
use crate::output;

use super::arguments::{Topic, TrimTo};
use super::connect::{about, connect, is_not_found};
use super::progress;

pub async fn run(verb: Topic, output: Output) -> Done {
    match verb {
        Topic::Create { brokers, names, partitions, replication_factor, configs, if_not_exists } => {
            let admin = connect(&brokers).await?.admin();
            let new = |name: &String| {
                let mut topic = NewTopic::new(name.as_str());
                topic.partitions = partitions.unwrap_or(-1);
                topic.replication_factor = replication_factor.unwrap_or(-1);
                topic.configs =
                    configs.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
                topic
            };
            create(&admin, names.iter().map(new).collect(), if_not_exists, output).await
        }
        Topic::List { brokers, internal } => list(&connect(&brokers).await?.admin(), internal, output).await,
        Topic::Describe { brokers, names } => {
            describe(&connect(&brokers).await?.admin(), &names, output).await
        }
        Topic::Alter { brokers, name, partitions, set, unset } => {
            if partitions.is_none() && set.is_empty() && unset.is_empty() {
                return Err(Failure::usage("nothing to change: want --partitions, --set or --unset"));
            }
            alter(&connect(&brokers).await?.admin(), &name, partitions, &set, &unset).await
        }
        Topic::Delete { brokers, names, if_exists } => {
            delete(&connect(&brokers).await?.admin(), &names, if_exists).await
        }
        Topic::Trim { brokers, name, partition, before } => {
            trim(&connect(&brokers).await?.admin(), &name, partition, before, output).await
        }
    }
}

async fn create(admin: &Admin, topics: Vec<NewTopic>, if_not_exists: bool, output: Output) -> Done {
    let names: Vec<Str> = topics.iter().map(|topic| topic.name.clone()).collect();
    let results =
        progress::show(|| format!("creating {} topics", names.len()), admin.create_topics(topics, false))
            .await?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(made) => {
                rows.push(vec![
                    json!(&*made.name),
                    json!(made.id.to_string()),
                    json!(made.partitions),
                    json!(made.replication_factor),
                ]);
            }
            Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
            Err(error) => failure = worse(failure, about(name, error)),
        }
    }
    output::table(output, &["topic", "id", "partitions", "replication_factor"], &rows)?;
    failure.map_or(Ok(()), Err)
}

/// All failures are told, the first one's exit code counts.
fn worse(failure: Option<Failure>, next: Failure) -> Option<Failure> {
    Some(match failure {
        None => next,
        Some(first) => {
            Failure { exit: first.exit, message: format!("{}\nottla: {}", first.message, next.message) }
        }
    })
}

async fn list(admin: &Admin, internal: bool, output: Output) -> Done {
    let topics = progress::show(|| "listing topics".to_owned(), admin.topics()).await?;
    let row = |topic: &TopicInfo| {
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        vec![
            json!(&*topic.name),
            json!(topic.id.to_string()),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(topic.internal),
        ]
    };
    let rows: Vec<_> = topics.iter().filter(|topic| internal || !topic.internal).map(row).collect();
    output::table(output, &["topic", "id", "partitions", "replication_factor", "internal"], &rows)
}

const PARTITION_COLUMNS: [&str; 7] = ["partition", "leader", "epoch", "replicas", "isr", "start", "end"];

async fn describe(admin: &Admin, names: &[String], output: Output) -> Done {
    let mut described = Vec::new();
    for name in names {
        let topic = admin.topic(name.as_str()).await.map_err(|error| about(name, error))?;
        let partitions = partition_rows(admin, &topic).await?;
        let configs = admin.describe_config(&Resource::Topic(name.as_str().into()), None, false).await?;
        let changed: BTreeMap<String, Value> = configs
            .entries
            .iter()
            .filter(|entry| entry.source == "DYNAMIC_TOPIC_CONFIG")
            .map(|entry| (entry.name.to_string(), json!(entry.value.as_deref())))
            .collect();
        if output == Output::Json {
            described.push(json!({
                "topic": name, "id": topic.id.to_string(), "internal": topic.internal,
                "partitions": output::objects(&PARTITION_COLUMNS, &partitions), "configs": changed,
            }));
            continue;
        }
        let configs: Vec<String> =
            changed.iter().map(|(key, value)| format!("{key}={}", output::plain(value))).collect();
        let configs = if configs.is_empty() { "all default".to_owned() } else { configs.join(" ") };
        output::print(&format!("topic {name}  id {}  configs: {configs}\n", topic.id))?;
        output::table(output, &PARTITION_COLUMNS, &partitions)?;
    }
    if output == Output::Json { output::json(&Value::Array(described)) } else { Ok(()) }
}

async fn partition_rows(admin: &Admin, topic: &TopicInfo) -> Result<Vec<Vec<Value>>, Failure> {
    let all = |spec: OffsetSpec| {
        let one = move |partition: &client::PartitionInfo| {
            (TopicPartition::new(topic.name.clone(), partition.partition), spec)
        };
        topic.partitions.iter().map(one).collect::<BTreeMap<_, _>>()
    };
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest), Isolation::ReadUncommitted).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest), Isolation::ReadUncommitted).await?;
    let row = |partition: &client::PartitionInfo| {
        let key = TopicPartition::new(topic.name.clone(), partition.partition);
        let offset = |offsets: &BTreeMap<_, Result<client::OffsetAndTimestamp, client::Error>>| {
            json!(offsets.get(&key).and_then(|offset| offset.as_ref().ok()).map(|offset| offset.offset))
        };
        vec![
            json!(partition.partition),
            json!(partition.leader),
            json!(partition.leader_epoch),
            json!(partition.replicas),
            json!(partition.in_sync),
            offset(&starts),
            offset(&ends),
        ]
    };
    Ok(topic.partitions.iter().map(row).collect())
}

async fn alter(
    admin: &Admin,
    name: &str,
    partitions: Option<i32>,
    set: &[(String, String)],
    unset: &[String],
) -> Done {
    admin.topic(name).await.map_err(|error| about(name, error))?;
    let changes: Vec<AlterConfig> = set
        .iter()
        .map(|(key, value)| AlterConfig::set(key.as_str(), value.as_str()))
        .chain(unset.iter().map(|key| AlterConfig::delete(key.as_str())))
        .collect();
    if !changes.is_empty() {
        admin
            .alter_configs(&Resource::Topic(name.into()), &changes, false)
            .await
            .map_err(|error| about(name, error))?;
    }
    if let Some(count) = partitions {
        admin.create_partitions(name, count).await.map_err(|error| about(name, error))?;
    }
    Ok(())
}

async fn delete(admin: &Admin, names: &[String], if_exists: bool) -> Done {
    let keys: Vec<Str> = names.iter().map(|name| name.as_str().into()).collect();
    let results =
        progress::show(|| format!("deleting {} topics", names.len()), admin.delete_topics(&keys)).await?;
    let mut failure = None;
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => {}
            Err(error) if if_exists && error.code().is_some_and(is_not_found) => {}
            Err(error) => failure = worse(failure, about(name, error)),
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn trim(admin: &Admin, name: &str, partition: Option<i32>, before: TrimTo, output: Output) -> Done {
    let topic = admin.topic(name).await.map_err(|error| about(name, error))?;
    let offset = match before {
        TrimTo::Offset(offset) => offset,
        TrimTo::End => -1,
    };
    let chosen =
        topic.partitions.iter().map(|p| p.partition).filter(|p| partition.is_none_or(|only| only == *p));
    let wanted: BTreeMap<TopicPartition, i64> =
        chosen.map(|p| (TopicPartition::new(name, p), offset)).collect();
    if wanted.is_empty() {
        let message = format!("{name} has no partition {}", partition.unwrap_or_default());
        return Err(Failure { exit: Exit::NotFound, message });
    }
    let results = progress::show(|| "deleting records".to_owned(), admin.delete_records(&wanted)).await?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for (partition, result) in results {
        match result {
            Ok(start) => rows.push(vec![json!(name), json!(partition.partition), json!(start)]),
            Err(error) => failure = worse(failure, about(&partition.to_string(), error)),
        }
    }
    output::table(output, &["topic", "partition", "start"], &rows)?;
    failure.map_or(Ok(()), Err)
}
