//! `ottla consume`: records of a topic, or of a group's share of some topics.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use client::{
    Admin, Client, Consumer, ConsumerOptions, Isolation, OffsetReset, OffsetSpec, Received, TopicPartition,
};
use serde_json::{Map, Value, json};

use crate::arguments::Output;
use crate::exit::{Done, Exit, Failure};

use super::arguments::{Consume, Start};
use super::connect::{about, connect};
use super::record_format::{RecordFormat, Shown};

const POLL: Duration = Duration::from_millis(500);

pub async fn run(arguments: Consume, output: Output) -> Done {
    let format =
        RecordFormat::parse(&arguments.format).map_err(|error| Failure::usage(format!("-f: {error}")))?;
    if arguments.group.is_none() && arguments.offset == Some(Start::Stored) {
        return Err(Failure::usage("-o stored wants a group: -g"));
    }
    if arguments.group.is_some()
        && !matches!(arguments.offset, None | Some(Start::Beginning | Start::End | Start::Stored))
    {
        return Err(Failure::usage(
            "a group starts where it stopped, or at -o beginning|end the first time; `ottla group reset` moves it",
        ));
    }
    let client = connect(&arguments.brokers).await?;
    let mut consumer = match &arguments.group {
        Some(group) => member(&client, group, &arguments)?,
        None => reader(&client, &arguments).await?,
    };
    let done = print_all(&client.admin(), &mut consumer, &arguments, &format, output).await;
    let closed = consumer.close().await;
    done?;
    Ok(closed?)
}

fn member(client: &Client, group: &str, arguments: &Consume) -> Result<Consumer, Failure> {
    let reset =
        if arguments.offset == Some(Start::End) { OffsetReset::Latest } else { OffsetReset::Earliest };
    // What was printed is committed, and nothing else: by us, after printing.
    let options = ConsumerOptions::group(group)
        .offset_reset(reset)
        .auto_commit(None)
        .isolation(Isolation::ReadCommitted);
    let mut consumer = client.consumer(options)?;
    consumer.subscribe(arguments.topics.iter().map(String::as_str))?;
    Ok(consumer)
}

async fn reader(client: &Client, arguments: &Consume) -> Result<Consumer, Failure> {
    let admin = client.admin();
    let mut partitions = Vec::new();
    for name in &arguments.topics {
        let topic = admin.topic(name.as_str()).await.map_err(|error| about(name, error))?;
        let chosen = topic
            .partitions
            .iter()
            .map(|p| p.partition)
            .filter(|p| arguments.partition.is_none_or(|only| only == *p));
        let before = partitions.len();
        partitions.extend(chosen.map(|p| TopicPartition::new(name.as_str(), p)));
        if partitions.len() == before {
            let message = format!("{name} has no partition {}", arguments.partition.unwrap_or_default());
            return Err(Failure { exit: Exit::NotFound, message });
        }
    }
    let starts = resolve(&admin, &partitions, arguments.offset.unwrap_or(Start::Beginning)).await?;
    let options = ConsumerOptions::default().isolation(Isolation::ReadCommitted);
    let mut consumer = client.consumer(options)?;
    consumer.assign(starts.keys().cloned())?;
    for (partition, offset) in &starts {
        consumer.seek(partition, *offset)?;
    }
    Ok(consumer)
}

/// The offsets that `start` means, between the first and the last of each partition.
pub async fn resolve(
    admin: &Admin,
    partitions: &[TopicPartition],
    start: Start,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let first = ask(admin, partitions, OffsetSpec::Earliest).await?;
    let end = ask(admin, partitions, OffsetSpec::Latest).await?;
    let wanted = match start {
        Start::Beginning | Start::Stored => first.clone(),
        Start::End => end.clone(),
        Start::At(offset) => partitions.iter().map(|partition| (partition.clone(), offset)).collect(),
        Start::BeforeEnd(count) => {
            end.iter().map(|(partition, end)| (partition.clone(), end - count)).collect()
        }
        Start::Time(ms) => {
            let found = ask(admin, partitions, OffsetSpec::Timestamp(ms)).await?;
            // Nothing that late: what comes next.
            found
                .into_iter()
                .map(|(p, offset)| if offset < 0 { (p.clone(), end[&p]) } else { (p, offset) })
                .collect()
        }
    };
    Ok(wanted.into_iter().map(|(p, offset)| (p.clone(), offset.min(end[&p]).max(first[&p]))).collect())
}

async fn ask(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let specs = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let answers = admin.list_offsets(&specs, Isolation::ReadCommitted).await?;
    let offset =
        |(partition, answer): (TopicPartition, Result<client::OffsetAndTimestamp, client::Error>)| {
            match answer {
                Ok(found) => Ok((partition, found.offset)),
                Err(error) => Err(about(&partition.to_string(), error)),
            }
        };
    answers.into_iter().map(offset).collect()
}

async fn print_all(
    admin: &Admin,
    consumer: &mut Consumer,
    arguments: &Consume,
    format: &RecordFormat,
    output: Output,
) -> Done {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut signal = std::pin::pin!(world::task::termination());
    while left > 0 {
        let records = tokio::select! {
            biased;
            _ = signal.as_mut() => break,
            records = consumer.poll(POLL) => records?,
        };
        let mut out = Vec::new();
        let mut next = BTreeMap::new();
        for record in &records {
            if left == 0 {
                break;
            }
            left -= 1;
            match output {
                Output::Table => format.write(&shown(record), &mut out),
                Output::Json => {
                    out.extend_from_slice(to_json(record).to_string().as_bytes());
                    out.push(b'\n');
                }
            }
            next.insert(TopicPartition::new(record.topic.clone(), record.partition), record.offset + 1);
        }
        if !write(&out)? {
            return Ok(());
        }
        if arguments.group.is_some() && !next.is_empty() {
            let next = next.into_iter().map(|(partition, offset)| (partition, offset.into())).collect();
            match consumer.commit_offsets(&next).await {
                Err(error) if is_rebalance(&error) => {
                    eprintln!("ottla: the group rebalances; some records may be printed again")
                }
                committed => committed?,
            }
        }
        if arguments.exit_at_end && records.is_empty() && is_at_end(admin, consumer).await? {
            break;
        }
    }
    Ok(())
}

/// The partitions may have gone to another member, who starts where the last commit was.
fn is_rebalance(error: &client::Error) -> bool {
    use client::ErrorCode::*;
    matches!(error.code(), Some(RebalanceInProgress | IllegalGeneration | UnknownMemberId))
}

/// Whether everything that is there now was read.
async fn is_at_end(admin: &Admin, consumer: &mut Consumer) -> Result<bool, Failure> {
    let assigned: Vec<TopicPartition> = consumer.assignment().cloned().collect();
    if assigned.is_empty() {
        return Ok(false);
    }
    let ends = ask(admin, &assigned, OffsetSpec::Latest).await?;
    for (partition, end) in &ends {
        if consumer.position(partition).await? < *end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn shown(record: &Received) -> Shown<'_> {
    Shown {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|header| (&*header.key, header.value.as_deref())).collect(),
    }
}

/// Bytes that are no text come as base64 under another name, so that a reader cannot mistake one for the other.
fn to_json(record: &Received) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(&*record.topic));
    object.insert("partition".into(), json!(record.partition));
    object.insert("offset".into(), json!(record.offset));
    object.insert("timestamp".into(), json!(record.timestamp));
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|header| {
        let mut one = Map::new();
        one.insert("name".into(), json!(String::from_utf8_lossy(&header.key)));
        put(&mut one, "value", header.value.as_deref());
        Value::Object(one)
    });
    object.insert("headers".into(), headers.collect());
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), json!(text)),
        Some((bytes, Err(_))) => {
            use base64::Engine;
            object.insert(
                format!("{name}_base64"),
                json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
            )
        }
    };
}

/// False when nobody reads stdout any more.
fn write(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(format!("stdout: {error}"))),
    }
}
