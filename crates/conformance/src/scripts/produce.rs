//! Produce, InitProducerId, DeleteRecords, DescribeProducers.

use bytes::{Bytes, BytesMut};
use protocol::batch::{BatchBuilder, Header};
use protocol::compression::Compression;
use protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::describe_producers_request::TopicRequest;
use protocol::messages::{
    ApiVersionsRequest, DeleteRecordsRequest, DescribeProducersRequest, InitProducerIdRequest,
};
use protocol::{ApiKey, Str, Uuid};

use super::setup::{MOMENT, Topic, batch, filled, produce_of};
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::Produce, "good ones", good),
    script(ApiKey::Produce, "codecs", codecs),
    script(ApiKey::Produce, "acks", acks),
    script(ApiKey::Produce, "wrong places", wrong_places),
    script(ApiKey::Produce, "wrong batches", wrong_batches),
    script(ApiKey::Produce, "producers", producers),
    script(ApiKey::Produce, "times", times),
    script(ApiKey::InitProducerId, "without a transaction", init_producer_id),
    script(ApiKey::DeleteRecords, "offsets", delete_records),
    script(ApiKey::DescribeProducers, "partitions", describe_producers),
];

const ALL: i16 = -1;

fn good(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.ask("one record", &produce_of(&a, 0, Some(batch(&["1"])), ALL));
    c.ask("three more", &produce_of(&a, 0, Some(batch(&["2", "3", "4"])), ALL));
    c.ask("another partition", &produce_of(&a, 1, Some(batch(&["1"])), 1));
    let mut both = produce_of(&a, 0, Some(batch(&["5"])), ALL);
    both.topic_data[0]
        .partition_data
        .extend(produce_of(&a, 1, Some(batch(&["2"])), ALL).topic_data[0].partition_data.clone());
    c.ask("two partitions", &both);
    let mut builder = BatchBuilder::new();
    let headers = [Header::new("k", Some("v")), Header::new("k", None::<Bytes>), Header::new("", Some(""))];
    builder.append(MOMENT, None, None, &headers).expect("a small record");
    c.ask("nulls and headers", &produce_of(&a, 0, builder.build().ok(), ALL));
}

fn codecs(c: &mut Conversation) {
    let a = c.topic("a", 1);
    for (label, codec) in [
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        let packed = filled(BatchBuilder::new().compression(codec), &["1", "2"]);
        c.ask(label, &produce_of(&a, 0, Some(packed.clone()), ALL));
        let mut broken = packed.to_vec();
        let last = broken.len() - 3;
        broken[last] ^= 0x55;
        c.ask(
            &format!("{label}, damaged, its checksum right"),
            &produce_of(&a, 0, Some(with_checksum(broken)), ALL),
        );
    }
}

/// Puts the checksum of a batch right.
fn with_checksum(mut batch: Vec<u8>) -> Bytes {
    let crc = protocol::batch::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn acks(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let next = ApiVersionsRequest::default();
    c.tell("0", &produce_of(&a, 0, Some(batch(&["1"])), 0), &next);
    c.tell("0, unknown partition", &produce_of(&a, 9, Some(batch(&["1"])), 0), &next);
    for acks in [2, -2, 99] {
        c.ask(&acks.to_string(), &produce_of(&a, 0, Some(batch(&["1"])), acks));
    }
    let mut none = produce_of(&a, 0, None, ALL);
    none.topic_data.clear();
    c.ask("no topics", &none);
    none.acks = 7;
    c.ask("no topics, unknown acks", &none);
    none.acks = 0;
    c.tell("no topics, 0", &none, &next);
}

const IDS_SINCE: i16 = 13;

fn wrong_places(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let nowhere = |c: &Conversation| Topic { name: c.name("unknown"), id: Uuid::from_u128(0x1234_5678) };
    c.ask("an unknown partition", &produce_of(&a, 7, Some(batch(&["1"])), ALL));
    c.ask("a partition below 0", &produce_of(&a, -1, Some(batch(&["1"])), ALL));
    c.ask("an unknown topic", &produce_of(&nowhere(c), 0, Some(batch(&["1"])), ALL));
    if c.version() >= IDS_SINCE {
        c.ask(
            "no id",
            &produce_of(&Topic { name: a.name.clone(), id: Uuid::ZERO }, 0, Some(batch(&["1"])), ALL),
        );
    } else {
        for name in ["", "a b", "."] {
            let topic = Topic { name: name.into(), id: Uuid::ZERO };
            c.ask(&format!("name {name:?}"), &produce_of(&topic, 0, Some(batch(&["1"])), ALL));
        }
    }
    let mut mixed = produce_of(&a, 0, Some(batch(&["1"])), ALL);
    mixed.topic_data.extend(produce_of(&nowhere(c), 0, Some(batch(&["1"])), ALL).topic_data);
    c.ask("a known and an unknown topic", &mixed);
    let mut twice = produce_of(&a, 0, Some(batch(&["1"])), ALL);
    twice.topic_data[0]
        .partition_data
        .extend(produce_of(&a, 0, Some(batch(&["2"])), ALL).topic_data[0].partition_data.clone());
    c.ask("one partition twice", &twice);
    let mut empty = produce_of(&a, 0, None, ALL);
    empty.topic_data[0].partition_data.clear();
    c.ask("a topic without partitions", &empty);
    let mut transactional = produce_of(&a, 0, Some(batch(&["1"])), ALL);
    transactional.transactional_id = Some(c.name("t"));
    c.ask("a transaction's name and plain records", &transactional);
}

fn wrong_batches(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let compacted = c.topic("a-compacted", 1);
    let _ = compacted;
    let whole = batch(&["1", "2"]);
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = whole.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let mut two = BytesMut::from(&whole[..]);
    two.extend_from_slice(&whole);
    let mut control = BatchBuilder::new().control(true);
    control.append(MOMENT, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &[]).expect("a small record");
    for (label, records) in [
        ("null", None),
        ("empty", Some(Bytes::new())),
        ("two batches", Some(two.freeze())),
        ("a wrong checksum", Some(changed(17, &[1, 2, 3, 4]).into())),
        ("magic 1", Some(changed(16, &[1]).into())),
        ("magic 3", Some(changed(16, &[3]).into())),
        ("a length too large", Some(changed(8, &1000_i32.to_be_bytes()).into())),
        ("a length too small", Some(changed(8, &20_i32.to_be_bytes()).into())),
        ("a length below 0", Some(changed(8, &(-1_i32).to_be_bytes()).into())),
        ("half a batch", Some(whole.slice(..30))),
        ("a few bytes", Some(whole.slice(..5))),
        ("bytes behind the batch", Some([&whole[..], &[1, 2, 3]].concat().into())),
        ("base offset 5", Some(changed(0, &5_i64.to_be_bytes()).into())),
        ("a count too large", Some(with_checksum(changed(57, &3_i32.to_be_bytes())))),
        ("a count too small", Some(with_checksum(changed(57, &1_i32.to_be_bytes())))),
        ("a count of 0", Some(with_checksum(changed(57, &0_i32.to_be_bytes())))),
        ("a last offset too large", Some(with_checksum(changed(23, &5_i32.to_be_bytes())))),
        ("a last offset below 0", Some(with_checksum(changed(23, &(-1_i32).to_be_bytes())))),
        ("an unknown codec", Some(with_checksum(changed(21, &7_i16.to_be_bytes())))),
        ("a control batch", control.build().ok()),
        (
            "a transactional batch",
            Some(filled(BatchBuilder::new().transactional(true).producer(1, 0, 0), &["1"])),
        ),
        (
            "LogAppendTime said by the client",
            Some(filled(BatchBuilder::new().log_append_time(MOMENT), &["1"])),
        ),
    ] {
        c.ask(label, &produce_of(&a, 0, records, ALL));
    }
    // What was taken and what was not shows in the next offset.
    c.ask("the next one", &produce_of(&a, 0, Some(whole.clone()), ALL));
}

fn producers(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let given = c.help(&InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() });
    let (id, epoch) = given.map_or((-1, -1), |given| (given.producer_id, given.producer_epoch));
    let with = |id, epoch, sequence, values: &[&str]| {
        filled(BatchBuilder::new().producer(id, epoch, sequence), values)
    };
    for (label, records) in [
        ("the first", with(id, epoch, 0, &["1", "2"])),
        ("the next", with(id, epoch, 2, &["3"])),
        ("the next again", with(id, epoch, 2, &["3"])),
        ("the first again", with(id, epoch, 0, &["1", "2"])),
        ("half of the first", with(id, epoch, 0, &["1"])),
        ("a gap", with(id, epoch, 9, &["x"])),
        ("a sequence below 0", with(id, epoch, -1, &["x"])),
        ("a newer epoch, not from 0", with(id, epoch + 1, 5, &["x"])),
        ("a newer epoch", with(id, epoch + 1, 0, &["4"])),
        ("the old epoch", with(id, epoch, 3, &["x"])),
        ("an epoch below 0", with(id, -1, 0, &["x"])),
        ("an unknown id, not from 0", with(id + 1000, 0, 7, &["x"])),
        ("an unknown id", with(id + 1001, 0, 0, &["x"])),
        ("an id below -1", with(-5, 0, 0, &["x"])),
    ] {
        c.ask(label, &produce_of(&a, 0, Some(records), ALL));
    }
    let mut mixed = BytesMut::from(&with(id, epoch + 1, 1, &["5"])[..]);
    mixed.extend_from_slice(&with(id, epoch + 1, 2, &["6"]));
    c.ask("two batches of a producer", &produce_of(&a, 0, Some(mixed.freeze()), ALL));
}

fn times(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let at = |timestamp| {
        let mut builder = BatchBuilder::new();
        builder.append(timestamp, None, Some(b"x"), &[]).expect("a small record");
        builder.build().ok()
    };
    c.ask("long ago", &produce_of(&a, 0, at(0), ALL));
    c.ask("none", &produce_of(&a, 0, at(-1), ALL));
    c.ask("below none", &produce_of(&a, 0, at(-2), ALL));
    c.ask("in a hundred years", &produce_of(&a, 0, at(4_900_000_000_000), ALL));
}

const IDENTITY_SINCE: i16 = 3;

fn init_producer_id(c: &mut Conversation) {
    let plain = InitProducerIdRequest { transaction_timeout_ms: 1000, ..InitProducerIdRequest::default() };
    c.ask("one", &plain);
    c.ask("another", &plain);
    c.ask("no time-out", &InitProducerIdRequest { transaction_timeout_ms: 0, ..plain.clone() });
    c.ask("a time-out below 0", &InitProducerIdRequest { transaction_timeout_ms: -1, ..plain.clone() });
    if c.version() >= IDENTITY_SINCE {
        for (label, producer_id, producer_epoch) in
            [("an id without an epoch", 5, -1), ("an epoch without an id", -1, 5), ("both", 5, 5)]
        {
            c.ask(label, &InitProducerIdRequest { producer_id, producer_epoch, ..plain.clone() });
        }
    }
    c.ask(
        "an empty transaction's name",
        &InitProducerIdRequest { transactional_id: Some("".into()), ..plain },
    );
}

fn delete_records(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.write(&a, 0, batch(&["1", "2", "3", "4", "5"]));
    let of = |name: &Str, partitions: &[(i32, i64)]| {
        let partition = |(partition_index, offset): &(i32, i64)| DeleteRecordsPartition {
            partition_index: *partition_index,
            offset: *offset,
            ..Default::default()
        };
        DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: name.clone(),
                partitions: partitions.iter().map(partition).collect(),
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        }
    };
    c.ask("up to 2", &of(&a.name, &[(0, 2)]));
    c.ask("up to 2 again", &of(&a.name, &[(0, 2)]));
    c.ask("back to 1", &of(&a.name, &[(0, 1)]));
    c.ask("behind the end", &of(&a.name, &[(0, 9)]));
    c.ask("below -1", &of(&a.name, &[(0, -2)]));
    c.ask("an empty partition", &of(&a.name, &[(1, 0)]));
    c.ask("an unknown partition", &of(&a.name, &[(7, 0)]));
    c.ask("an unknown topic", &of(&c.name("unknown"), &[(0, 0)]));
    c.ask("a wrong name", &of(&"a b".into(), &[(0, 0)]));
    c.ask("one partition twice", &of(&a.name, &[(0, 3), (0, 4)]));
    c.ask("all", &of(&a.name, &[(0, -1)]));
    c.ask("no partitions", &of(&a.name, &[]));
    c.ask("nothing", &DeleteRecordsRequest { timeout_ms: 10_000, ..Default::default() });
}

fn describe_producers(c: &mut Conversation) {
    let a = c.topic("a", 2);
    let given = c.help(&InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() });
    let id = given.map_or(-1, |given| given.producer_id);
    c.write(&a, 0, filled(BatchBuilder::new().producer(id, 0, 0), &["1", "2"]));
    let of = |name: &Str, partition_indexes: &[i32]| DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: name.clone(),
            partition_indexes: partition_indexes.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    c.ask("both partitions", &of(&a.name, &[0, 1]));
    c.ask("an unknown partition", &of(&a.name, &[7]));
    c.ask("an unknown topic", &of(&c.name("unknown"), &[0]));
    c.ask("a wrong name", &of(&"a b".into(), &[0]));
    c.ask("one twice", &of(&a.name, &[0, 0]));
    c.ask("nothing", &DescribeProducersRequest::default());
}
