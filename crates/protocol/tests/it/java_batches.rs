//! Record batches that Kafka's own builder wrote, with every codec (`vectors/java`, `cargo xtask vectors`).

use bytes::Bytes;

use protocol::batch::{
    Batch, BatchBuilder, Header, Record, TimestampType, end_transaction_marker, set_base_offset,
    set_leader_epoch,
};
use protocol::compression::Compression;

use crate::java::from_hex;

const VECTORS: &str = include_str!("../../vectors/batches.txt");
const CAP: usize = 1 << 20;

fn optional(word: &str) -> Option<Bytes> {
    (word != "-").then(|| Bytes::from(from_hex(word)))
}

fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split(' ').collect();
    let headers = words[5].split(',').filter(|header| !header.is_empty()).map(|header| {
        let (key, value) = header.split_once('=').expect("name=value");
        Header { key: Bytes::copy_from_slice(key.as_bytes()), value: optional(value) }
    });
    Record {
        offset: words[1].parse().unwrap(),
        timestamp: words[2].parse().unwrap(),
        key: optional(words[3]),
        value: optional(words[4]),
        headers: headers.collect(),
    }
}

/// Codec, shape, the batch, and the records Kafka reads out of it.
fn vectors() -> Vec<(Compression, &'static str, Batch, Vec<Record>)> {
    let mut vectors = Vec::new();
    for line in VECTORS.lines() {
        if let Some(batch) = line.strip_prefix("B ") {
            let words: Vec<&str> = batch.split(' ').collect();
            let batch =
                Batch::parse(Bytes::from(from_hex(words[2]))).expect("Kafka's batch has a good header");
            let codec = Compression::from_name(words[0]).expect("a codec we know");
            vectors.push((codec, words[1], batch, Vec::new()));
        } else if line.starts_with("R ") {
            vectors.last_mut().expect("a B line stands before").3.push(record(line));
        }
    }
    assert_eq!(vectors.len(), 5 * 4);
    vectors
}

#[test]
fn we_read_kafkas_batches_as_kafka_does() {
    for (codec, shape, batch, expected) in vectors() {
        let header = batch.header;
        assert_eq!(batch.verify_crc(), Ok(()), "{codec} {shape}");
        assert_eq!(header.compression(), codec, "{shape}");
        assert_eq!(header.base_offset, 1000);
        assert_eq!(header.partition_leader_epoch, 6);
        assert_eq!(header.record_count as usize, expected.len());
        assert_eq!(header.is_transactional(), shape == "transactional");
        assert_eq!(header.timestamp_type() == TimestampType::LogAppendTime, shape == "appended");
        let records: Vec<Record> = batch.records(CAP).map(|record| record.expect("a good record")).collect();
        assert_eq!(records, expected, "{codec} {shape}");
    }
}

#[test]
fn our_builder_writes_the_batch_that_kafka_writes() {
    for (codec, shape, batch, records) in vectors() {
        let mut builder = BatchBuilder::new().base_offset(1000).leader_epoch(6).compression(codec);
        if shape == "appended" {
            builder = builder.log_append_time(batch.header.max_timestamp);
        }
        if shape == "transactional" {
            builder = builder.producer(42, 3, 17).transactional(true);
        }
        for (number, record) in records.iter().enumerate() {
            // In a LogAppendTime batch Kafka keeps the client's times in the records and shows the batch's.
            let number = number as i64;
            let timestamp = 1_700_000_000_000 + if number % 2 == 0 { number } else { -number };
            builder
                .append(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
                .expect("room for a record");
        }
        let ours = Batch::parse(builder.build().expect("a batch")).expect("our own batch");
        assert_eq!(ours.verify_crc(), Ok(()));
        // Compressors differ in their bytes; what they hold and all of the header but length and CRC must not.
        assert_eq!(ours.decompress(CAP), batch.decompress(CAP), "{codec} {shape}");
        assert_eq!(ours.bytes[21..61], batch.bytes[21..61], "{codec} {shape}: header");
        if codec == Compression::None {
            assert_eq!(ours.bytes, batch.bytes, "{shape}");
        }
    }
}

#[test]
fn our_transaction_markers_are_kafkas() {
    let mut seen = 0;
    for line in VECTORS.lines().filter_map(|line| line.strip_prefix("M ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<i64>().unwrap();
        let marker = end_transaction_marker(
            number(1),
            number(2) as i16,
            words[0] == "commit",
            number(3) as i32,
            number(5),
        );
        let mut marker = marker.expect("a marker").to_vec();
        set_base_offset(&mut marker, number(4));
        set_leader_epoch(&mut marker, 3);
        assert_eq!(marker, from_hex(words[6]), "{}", words[0]);
        seen += 1;
    }
    assert_eq!(seen, 2);
}
