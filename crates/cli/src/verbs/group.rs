//! `ottla group`: list, describe, reset, delete.

use std::collections::{BTreeMap, BTreeSet};

use client::{Admin, Client, ErrorCode, Isolation, OffsetAndMetadata, OffsetSpec, TopicPartition};
use serde_json::{Value, json};

use crate::arguments::Output;
use crate::exit::{Done, Exit, Failure};
use crate::output;

use super::arguments::{Group, Start};
use super::connect::{about, connect};
use super::consume::resolve;
use super::progress;

pub async fn run(verb: Group, output: Output) -> Done {
    match verb {
        Group::List { brokers } => list(&connect(&brokers).await?.admin(), output).await,
        Group::Describe { brokers, group } => {
            describe(&connect(&brokers).await?.admin(), &group, output).await
        }
        Group::Reset { brokers, group, topic, partition, to, dry_run } => {
            if to == Start::Stored {
                return Err(Failure::usage("--to stored changes nothing"));
            }
            reset(&connect(&brokers).await?, &group, &topic, partition, to, dry_run, output).await
        }
        Group::Delete { brokers, groups } => {
            let admin = connect(&brokers).await?.admin();
            for group in &groups {
                admin.delete_group(group.as_str()).await.map_err(|error| about(group, error))?;
            }
            Ok(())
        }
    }
}

async fn list(admin: &Admin, output: Output) -> Done {
    let groups = progress::show(|| "listing groups".to_owned(), admin.groups()).await?;
    let rows: Vec<Vec<Value>> = groups
        .iter()
        .map(|group| {
            vec![
                json!(&*group.group_id),
                json!(&*group.state),
                json!(&*group.protocol_type),
                json!(group.coordinator),
            ]
        })
        .collect();
    output::table(output, &["group", "state", "protocol_type", "coordinator"], &rows)
}

const COLUMNS: [&str; 9] =
    ["topic", "partition", "committed", "end", "lag", "member", "client", "host", "metadata"];

async fn describe(admin: &Admin, group: &str, output: Output) -> Done {
    let described = admin.describe_group(group).await.map_err(|error| about(group, error))?;
    if described.state == "Dead" {
        return Err(Failure { exit: Exit::NotFound, message: format!("there is no group {group}") });
    }
    let offsets = admin.group_offsets(group, None).await.map_err(|error| about(group, error))?;
    let assigned = described
        .members
        .iter()
        .flat_map(|member| member.assignment.iter().map(move |partition| (partition, member)));
    let owners: BTreeMap<_, _> = assigned.collect();
    let partitions: BTreeSet<&TopicPartition> = offsets.keys().chain(owners.keys().copied()).collect();
    let latest: BTreeMap<TopicPartition, OffsetSpec> =
        partitions.iter().map(|p| ((*p).clone(), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&latest, Isolation::ReadUncommitted).await?;
    let row = |partition: &&TopicPartition| {
        let committed = offsets.get(*partition).map(|offset| offset.offset);
        let end = ends.get(*partition).and_then(|end| end.as_ref().ok()).map(|end| end.offset);
        let lag = committed.zip(end).map(|(committed, end)| (end - committed).max(0));
        let owner = owners.get(*partition);
        vec![
            json!(&*partition.topic),
            json!(partition.partition),
            json!(committed),
            json!(end),
            json!(lag),
            json!(owner.map(|member| &*member.member_id)),
            json!(owner.map(|member| &*member.client_id)),
            json!(owner.map(|member| &*member.client_host)),
            json!(
                offsets
                    .get(*partition)
                    .map(|offset| offset.metadata.to_string())
                    .filter(|metadata| !metadata.is_empty())
            ),
        ]
    };
    let rows: Vec<Vec<Value>> = partitions.iter().map(row).collect();
    match output {
        Output::Table => {
            let protocol = if described.protocol.is_empty() { "-" } else { &described.protocol };
            let members = described.members.len();
            output::print(&format!(
                "group {group}  state {}  protocol {protocol}  members {members}\n",
                described.state
            ))?;
            output::table(output, &COLUMNS, &rows)
        }
        Output::Json => output::json(&json!({
            "group": group, "state": &*described.state, "protocol": &*described.protocol, "coordinator": described.coordinator,
            "members": described.members.iter().map(|member| json!({
                "member": &*member.member_id, "instance": member.instance_id.as_deref(), "client": &*member.client_id,
                "host": &*member.client_host, "partitions": member.assignment.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "offsets": output::objects(&COLUMNS, &rows),
        })),
    }
}

async fn reset(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Option<i32>,
    to: Start,
    dry_run: bool,
    output: Output,
) -> Done {
    let admin = client.admin();
    let found = admin.topic(topic).await.map_err(|error| about(topic, error))?;
    let chosen =
        found.partitions.iter().map(|p| p.partition).filter(|p| partition.is_none_or(|only| only == *p));
    let partitions: Vec<TopicPartition> = chosen.map(|p| TopicPartition::new(topic, p)).collect();
    if partitions.is_empty() {
        return Err(Failure {
            exit: Exit::NotFound,
            message: format!("{topic} has no partition {}", partition.unwrap_or_default()),
        });
    }
    let targets = resolve(&admin, &partitions, to).await?;
    if !dry_run {
        let offsets = targets
            .iter()
            .map(|(partition, offset)| (partition.clone(), OffsetAndMetadata::from(*offset)))
            .collect();
        admin.alter_group_offsets(group, &offsets).await.map_err(|error| match error.code() {
            Some(ErrorCode::UnknownMemberId | ErrorCode::NonEmptyGroup) => Failure::failed(format!(
                "{group} has members; stop them first: they would commit over the reset"
            )),
            _ => about(group, error),
        })?;
    }
    let rows: Vec<Vec<Value>> = targets
        .iter()
        .map(|(partition, offset)| {
            vec![json!(group), json!(topic), json!(partition.partition), json!(offset)]
        })
        .collect();
    output::table(output, &["group", "topic", "partition", "offset"], &rows)
}
