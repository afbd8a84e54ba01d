//! Work whose instructions are counted (`cargo xtask instructions`): one case, so many times over.
#![allow(clippy::disallowed_methods)] // names a program's arguments

use std::hint::black_box;

use bytes::Bytes;
use protocol::batch::produce::{ProduceRules, validate};
use protocol::batch::{BatchBuilder, split_batches};
use protocol::compression::Compression;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use protocol::messages::{FetchRequest, ProduceRequest, ProduceResponse};
use protocol::wire::{Reader, Writer};
use protocol::{Message, Uuid};

const PARTITIONS: i32 = 100;
const NOW_MS: i64 = 1_760_000_000_000;
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 17;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().expect("CASE COUNT");
    let count: u64 = arguments.next().expect("CASE COUNT").parse().expect("a count");
    match case.as_str() {
        "produce-request-100-partitions" => {
            let bytes = encoded(&produce_request(), PRODUCE_VERSION);
            repeat(count, || {
                ProduceRequest::decode(&mut Reader::new(bytes.clone()), PRODUCE_VERSION).expect("ours")
            });
        }
        "produce-response-100-partitions" => {
            let response = produce_response();
            repeat(count, || encoded(&response, PRODUCE_VERSION));
        }
        "fetch-request-100-partitions" => {
            let bytes = encoded(&fetch_request(), FETCH_VERSION);
            repeat(count, || {
                FetchRequest::decode(&mut Reader::new(bytes.clone()), FETCH_VERSION).expect("ours")
            });
        }
        "validate-16-records-uncompressed" => judge(count, Compression::None),
        "validate-16-records-lz4" => judge(count, Compression::Lz4),
        "split-100-batches" => {
            let many = Bytes::from(batch(Compression::None, 1).repeat(100));
            repeat(count, || {
                split_batches(&many).map(|batch| batch.expect("ours").header.record_count).sum::<i32>()
            });
        }
        other => panic!("no case {other}"),
    }
}

fn repeat<T>(count: u64, mut work: impl FnMut() -> T) {
    for _ in 0..count {
        black_box(work());
    }
}

fn judge(count: u64, compression: Compression) {
    let batch = batch(compression, 16);
    let rules = ProduceRules::defaults(PRODUCE_VERSION, NOW_MS);
    repeat(count, || validate(&batch, &rules).expect("ours").batch.header.record_count);
}

fn batch(compression: Compression, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    for i in 0..records {
        builder.append(NOW_MS, Some(b"key"), Some(&[i as u8; 1000]), &[]).expect("a record");
    }
    builder.build().expect("a batch")
}

fn encoded(message: &impl Message, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("ours");
    writer.into_bytes()
}

fn produce_request() -> ProduceRequest {
    let records = batch(Compression::None, 1);
    let partition = |index| PartitionProduceData {
        index,
        records: Some(records.clone().into()),
        ..PartitionProduceData::default()
    };
    ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            topic_id: Uuid([7; 16]),
            partition_data: (0..PARTITIONS).map(partition).collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

fn produce_response() -> ProduceResponse {
    let partition = |index| PartitionProduceResponse {
        index,
        base_offset: 1 << 40,
        ..PartitionProduceResponse::default()
    };
    ProduceResponse {
        responses: vec![TopicProduceResponse {
            topic_id: Uuid([7; 16]),
            partition_responses: (0..PARTITIONS).map(partition).collect(),
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponse::default()
    }
}

fn fetch_request() -> FetchRequest {
    let partition =
        |partition| FetchPartition { partition, fetch_offset: 1 << 40, ..FetchPartition::default() };
    FetchRequest {
        topics: vec![FetchTopic {
            topic_id: Uuid([7; 16]),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}
