//! `ottla produce`: records from stdin or files, stored before it says so.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{Compression, Delivered, Delivery, Producer, ProducerOptions, Record};
use serde_json::json;
use tokio::sync::mpsc;

use crate::arguments::Output;
use crate::exit::{Done, Failure};
use crate::output;

use super::arguments::{Codec, Produce};
use super::connect::{about, connect};
use super::progress;
use super::record_split::{KeyAndValue, KeySource, Records};

/// The largest record that is read; the broker's `message.max.bytes` is usually far below.
const RECORD_BYTES_MAX: usize = 96 << 20;
/// Records read and not handed to the producer yet.
const READ_AHEAD: usize = 256;
/// Records handed to the producer whose delivery was not reported yet.
const IN_FLIGHT: usize = 10_000;

pub async fn run(arguments: Produce, output: Output) -> Done {
    let client = connect(&arguments.brokers).await?;
    let mut options = ProducerOptions::default().compression(compression(arguments.compression));
    // How large a record may be is for the broker to say.
    options.request_bytes_max = RECORD_BYTES_MAX;
    options.buffer_bytes = RECORD_BYTES_MAX;
    let producer = client.producer(options).await?;
    let mut records = read(&arguments)?;
    let stored = AtomicU64::new(0);
    let line = || format!("{} records stored", stored.load(Ordering::Relaxed));
    let sums = progress::show(line, send_all(&producer, &arguments, &mut records, &stored)).await?;
    producer.close().await?;
    match output {
        Output::Table => {
            eprintln!("{} records stored in {}", sums.records, arguments.topic);
            Ok(())
        }
        Output::Json => output::json(&json!({
            "topic": arguments.topic, "records": sums.records, "bytes": sums.bytes,
            "partitions": sums.partitions.iter().map(|(partition, (first, last))| json!({
                "partition": partition, "first_offset": first, "last_offset": last,
            })).collect::<Vec<_>>(),
        })),
    }
}

#[derive(Default)]
struct Sums {
    records: u64,
    bytes: u64,
    partitions: BTreeMap<i32, (i64, i64)>,
}

async fn send_all(
    producer: &Producer,
    arguments: &Produce,
    records: &mut mpsc::Receiver<io::Result<KeyAndValue>>,
    stored: &AtomicU64,
) -> Result<Sums, Failure> {
    let mut sums = Sums::default();
    let mut in_flight: VecDeque<Delivery> = VecDeque::new();
    while let Some(record) = records.recv().await {
        let record = record.map_err(|error| Failure::failed(format!("reading: {error}")))?;
        sums.bytes += (record.value.len() + record.key.as_ref().map_or(0, Vec::len)) as u64;
        let sent = producer.send(to_send(arguments, record)).await;
        in_flight.push_back(sent.map_err(|error| about(&arguments.topic, error))?);
        if in_flight.len() >= IN_FLIGHT {
            // What goes out first is reported first.
            note(&mut sums, in_flight.pop_front().expect("there is one").await, stored, arguments)?;
        }
    }
    producer.flush().await.map_err(|error| about(&arguments.topic, error))?;
    for delivery in in_flight {
        note(&mut sums, delivery.await, stored, arguments)?;
    }
    Ok(sums)
}

fn note(
    sums: &mut Sums,
    delivered: Result<Delivered, client::Error>,
    stored: &AtomicU64,
    arguments: &Produce,
) -> Done {
    let number = sums.records + 1;
    let delivered = delivered
        .map_err(|error| about(&format!("{}: record {number} was not stored", arguments.topic), error))?;
    sums.records = number;
    stored.store(number, Ordering::Relaxed);
    let range = sums.partitions.entry(delivered.partition).or_insert((delivered.offset, delivered.offset));
    *range = (range.0.min(delivered.offset), range.1.max(delivered.offset));
    Ok(())
}

fn to_send(arguments: &Produce, KeyAndValue { key, value }: KeyAndValue) -> Record {
    let mut record = Record::to(arguments.topic.as_str());
    if let Some(key) = key {
        record = record.key(key);
    }
    if !(arguments.null && value.is_empty()) {
        record = record.value(value);
    }
    if let Some(partition) = arguments.partition {
        record = record.partition(partition);
    }
    for (name, value) in &arguments.headers {
        record = record.header(name.clone(), value.clone());
    }
    record
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

/// Starts reading on a thread of its own: stdin blocks.
fn read(arguments: &Produce) -> Result<mpsc::Receiver<io::Result<KeyAndValue>>, Failure> {
    let key = match (&arguments.key, &arguments.key_delimiter, &arguments.key_regex) {
        (Some(key), _, _) => KeySource::Fixed(key.clone().into_bytes()),
        (_, Some(delimiter), _) => KeySource::Delimiter(delimiter.0.clone()),
        (_, _, Some(expression)) => KeySource::Found(expression.clone()),
        _ => KeySource::None,
    };
    let open = |path: &Path| {
        File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    };
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    if !arguments.whole.is_empty() {
        let files = arguments.whole.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        std::thread::spawn(move || {
            for mut file in files {
                let mut whole = Vec::new();
                let read = file.read_to_end(&mut whole).map(|_| key.cut(whole));
                if sender.blocking_send(read).is_err() {
                    return;
                }
            }
        });
        return Ok(receiver);
    }
    let input: Box<dyn Read + Send> = match &arguments.lines {
        Some(path) => Box::new(open(path)?),
        None => Box::new(io::stdin()),
    };
    let mut records = Records::new(input, arguments.delimiter.0.clone(), RECORD_BYTES_MAX);
    std::thread::spawn(move || {
        loop {
            let next = match records.next_record() {
                Ok(Some(record)) => Ok(key.cut(record)),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let is_last = next.is_err();
            if sender.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    });
    Ok(receiver)
}
