use bytes::Bytes;
use proptest::prelude::*;

use super::produce::{ProduceError, ProduceRules, validate};
use super::*;
use crate::compression::Compression;
use crate::error_code::ErrorCode;

const CAP: usize = 64 << 20;
const NOW: i64 = 1_760_000_000_000;

type Story = Vec<(i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>)>;

fn three() -> Story {
    vec![
        (NOW, Some(b"k1".to_vec()), Some(b"v1".to_vec()), vec![]),
        (
            NOW - 5,
            None,
            Some(vec![7; 300]),
            vec![Header::new("h", Some("x")), Header::new("h", None::<Bytes>)],
        ),
        (NOW + 5, Some(b"k3".to_vec()), None, vec![]),
    ]
}

fn build(builder: BatchBuilder, story: &Story) -> Bytes {
    let mut builder = builder;
    for (timestamp, key, value, headers) in story {
        builder.append(*timestamp, key.as_deref(), value.as_deref(), headers).unwrap();
    }
    builder.build().unwrap()
}

fn read(batch: &Batch) -> Story {
    batch
        .records(CAP)
        .map(Result::unwrap)
        .map(|r| (r.timestamp, r.key.map(|k| k.to_vec()), r.value.map(|v| v.to_vec()), r.headers))
        .collect()
}

/// A batch whose header was tampered with, CRC made right again.
fn resealed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn crc_is_castagnoli() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(b""), 0);
}

#[test]
fn records_come_back_from_every_codec() {
    for codec in Compression::ALL {
        let bytes = build(BatchBuilder::new().compression(codec).producer(9, 1, 40), &three());
        let batch = Batch::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.header.compression(), codec);
        assert_eq!((batch.header.record_count, batch.header.last_offset_delta), (3, 2));
        assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (NOW, NOW + 5));
        assert_eq!((batch.header.base_sequence, batch.header.last_sequence()), (40, 42));
        assert_eq!(read(&batch), three());
    }
}

#[test]
fn sequences_wrap_from_the_largest_int_to_zero() {
    let bytes = build(BatchBuilder::new().producer(9, 1, i32::MAX - 1), &three());
    assert_eq!(Batch::parse(bytes).unwrap().header.last_sequence(), 0);
}

#[test]
fn place_in_the_log_is_outside_of_the_crc() {
    let batch = Batch::parse(build(BatchBuilder::new(), &three())).unwrap();
    let [head, rest] = batch.at(1 << 40, 7);
    let placed = Batch::parse([head, rest].concat().into()).unwrap();
    placed.verify_crc().unwrap();
    assert_eq!((placed.header.base_offset, placed.header.partition_leader_epoch), (1 << 40, 7));
    assert_eq!(placed.records(CAP).last().unwrap().unwrap().offset, (1 << 40) + 2);
}

#[test]
fn timestamps_change_and_the_crc_follows_without_reading_the_records() {
    for len in [0, 1, 5, 1000, 100_000] {
        let story: Story = vec![(NOW, None, Some(vec![3; len]), vec![])];
        let mut bytes = build(BatchBuilder::new(), &story).to_vec();
        set_timestamps(&mut bytes[..HEADER_LEN], TimestampType::LogAppendTime, NOW + 99);
        let batch = Batch::parse(bytes.clone().into()).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(read(&batch)[0].0, NOW + 99);
        // and back
        set_timestamps(&mut bytes, TimestampType::CreateTime, NOW);
        assert_eq!(Bytes::from(bytes), build(BatchBuilder::new(), &story));
    }
}

#[test]
fn a_batch_can_change_its_place_in_the_producers_order() {
    let mut bytes = build(BatchBuilder::new().producer(7, 1, 9), &three()).to_vec();
    set_producer(&mut bytes, 7, 2, 0);
    assert_eq!(Bytes::from(bytes), build(BatchBuilder::new().producer(7, 2, 0), &three()));
}

#[test]
fn damage_stays_visible_when_timestamps_are_set() {
    let mut bytes = build(BatchBuilder::new(), &three()).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    set_timestamps(&mut bytes, TimestampType::LogAppendTime, NOW);
    assert!(matches!(Batch::parse(bytes.into()).unwrap().verify_crc(), Err(BatchError::Crc { .. })));
}

#[test]
fn a_fetch_answer_splits_and_may_be_cut_anywhere() {
    let one = build(BatchBuilder::new(), &three());
    let two = build(BatchBuilder::new().base_offset(3).compression(Compression::Lz4), &three());
    let both: Bytes = [one.clone(), two.clone()].concat().into();
    let got: Vec<_> = split_batches(&both).map(|b| b.unwrap().bytes).collect();
    assert_eq!(got, [one.clone(), two]);
    for cut in 0..both.len() {
        let mut walk = split_batches(&both.slice(..cut));
        let got: Vec<_> = walk.by_ref().map(|b| b.unwrap().bytes).collect();
        assert_eq!(got.len(), usize::from(cut >= one.len()));
        assert_eq!(walk.rest().len(), cut - got.iter().map(Bytes::len).sum::<usize>());
    }
}

#[test]
fn a_batch_that_lies_about_its_records_gives_one_error_and_ends() {
    let batch = build(BatchBuilder::new(), &three());
    // fewer records than the header says
    let more = Batch::parse(resealed(&batch, |b| {
        b[26] = 3;
        b[60] = 4
    }))
    .unwrap();
    assert_eq!(more.records(CAP).filter(Result::is_ok).count(), 3);
    assert!(matches!(more.records(CAP).last(), Some(Err(BatchError::Record { index: 3, .. }))));
    // more records than the header says
    let fewer = Batch::parse(resealed(&batch, |b| b[60] = 2)).unwrap();
    assert!(matches!(fewer.records(CAP).last(), Some(Err(BatchError::Leftover { .. }))));
}

#[test]
fn transaction_markers_read_as_kafka_writes_them() {
    let bytes = end_transaction_marker(5, 2, true, 11, NOW).unwrap();
    let batch = Batch::parse(bytes).unwrap();
    assert!(batch.header.is_control() && batch.header.is_transactional());
    assert_eq!(batch.header.base_sequence, NO_SEQUENCE);
    let record = batch.records(CAP).next().unwrap().unwrap();
    assert_eq!(
        ControlRecord::parse(&record.key.unwrap(), record.value.as_deref()),
        Some(ControlRecord::Commit { coordinator_epoch: 11 })
    );
}

// ---- what a client may append

fn rules() -> ProduceRules {
    ProduceRules::defaults(9, NOW)
}

fn code(bytes: &Bytes, rules: &ProduceRules) -> ErrorCode {
    validate(bytes, rules).unwrap_err().error_code()
}

#[test]
fn an_ordinary_batch_is_taken_without_touching_it() {
    for codec in Compression::ALL {
        let bytes = build(BatchBuilder::new().compression(codec).producer(1, 0, 0), &three());
        let accepted = validate(&bytes, &rules()).unwrap();
        assert!(!accepted.rewritten);
        assert_eq!(accepted.batch.bytes.as_ptr(), bytes.as_ptr());
        assert_eq!(accepted.log_append_time_ms, -1);
    }
}

#[test]
fn exactly_one_batch() {
    let one = build(BatchBuilder::new(), &three());
    assert_eq!(validate(&Bytes::new(), &rules()).unwrap_err(), ProduceError::NoBatch);
    assert_eq!(validate(&one.slice(..one.len() - 1), &rules()).unwrap_err(), ProduceError::NoBatch);
    let two: Bytes = [one.clone(), one.clone()].concat().into();
    assert_eq!(validate(&two, &rules()).unwrap_err(), ProduceError::MoreThanOneBatch);
    assert_eq!(code(&two, &rules()), ErrorCode::InvalidRecord);
    // a cut-off second one is dropped
    let accepted = validate(&two.slice(..two.len() - 3), &rules()).unwrap();
    assert_eq!(accepted.batch.bytes, one);
}

#[test]
fn headers_that_lie_are_refused_with_kafkas_codes() {
    let batch = build(BatchBuilder::new().producer(1, 0, 0), &three());
    let with = |change: fn(&mut [u8])| code(&resealed(&batch, change), &rules());
    assert_eq!(with(|b| b[7] = 1), ErrorCode::InvalidRecord, "base offset");
    assert_eq!(with(|b| b[16] = 1), ErrorCode::InvalidRecord, "format 1");
    assert_eq!(with(|b| b[16] = 3), ErrorCode::CorruptMessage, "format 3");
    assert_eq!(with(|b| b[22] |= 0x20), ErrorCode::InvalidRecord, "control batch");
    assert_eq!(with(|b| b[22] |= 0x05), ErrorCode::UnsupportedCompressionType);
    assert_eq!(with(|b| b[26] = 9), ErrorCode::InvalidRecord, "last offset delta");
    assert_eq!(with(|b| b[57] = 0xff), ErrorCode::InvalidRecord, "count");
    assert_eq!(with(|b| b[53] = 0xff), ErrorCode::InvalidRecord, "sequence");
    assert_eq!(
        with(|b| {
            b[43] = 0xff;
            b[22] |= 0x10
        }),
        ErrorCode::InvalidRecord,
        "transactional without producer"
    );
    let mut broken = batch.to_vec();
    broken[70] ^= 1;
    assert_eq!(code(&broken.into(), &rules()), ErrorCode::CorruptMessage);
}

#[test]
fn size_and_zstd_have_their_own_codes() {
    let batch = build(BatchBuilder::new().compression(Compression::Zstd), &three());
    let small = ProduceRules { message_bytes_max: batch.len() - 1, ..rules() };
    assert_eq!(code(&batch, &small), ErrorCode::MessageTooLarge);
    assert!(validate(&batch, &ProduceRules { message_bytes_max: batch.len(), ..rules() }).is_ok());
    let old = ProduceRules { produce_version: 6, ..rules() };
    assert_eq!(code(&batch, &old), ErrorCode::UnsupportedCompressionType);
}

#[test]
fn compacted_topics_need_keys_and_name_the_records_without() {
    for codec in Compression::ALL {
        let batch = build(BatchBuilder::new().compression(codec), &three());
        let error = validate(&batch, &ProduceRules { compacted: true, ..rules() }).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
        assert_eq!(error.record_errors().iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1]);
    }
}

#[test]
fn timestamps_out_of_bounds_name_their_records() {
    for codec in Compression::ALL {
        let story: Story = [0, 10_000_000, -10_000_000]
            .map(|distance| (NOW + distance, None, Some(b"v".to_vec()), vec![]))
            .to_vec();
        let batch = build(BatchBuilder::new().compression(codec), &story);
        let faulty = |rules: ProduceRules| {
            let error = validate(&batch, &rules).unwrap_err();
            assert_eq!(error.error_code(), ErrorCode::InvalidTimestamp);
            error.record_errors().iter().map(|e| e.batch_index).collect::<Vec<_>>()
        };
        assert_eq!(faulty(rules()), [1], "an hour ahead is Kafka's default");
        let both = ProduceRules { timestamp_before_max_ms: 1000, ..rules() };
        assert_eq!(faulty(both), [1, 2]);
        let none = ProduceRules { timestamp_after_max_ms: i64::MAX, ..rules() };
        assert!(validate(&batch, &none).is_ok());
    }
}

#[test]
fn log_append_time_is_set_in_the_header() {
    for codec in Compression::ALL {
        let batch = build(BatchBuilder::new().compression(codec), &three());
        let rules = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
        let accepted = validate(&batch, &rules).unwrap();
        accepted.batch.verify_crc().unwrap();
        assert_eq!(accepted.log_append_time_ms, NOW);
        assert!(read(&accepted.batch).iter().all(|record| record.0 == NOW));
        // a producer must not claim it
        let claims = build(BatchBuilder::new().compression(codec).log_append_time(NOW), &three());
        assert_eq!(code(&claims, &rules), ErrorCode::InvalidTimestamp);
    }
}

#[test]
fn a_wrong_largest_timestamp_is_put_right() {
    let batch = build(BatchBuilder::new(), &three());
    let lying = resealed(&batch, |b| b[35..43].copy_from_slice(&(NOW - 77).to_be_bytes()));
    let accepted = validate(&lying, &rules()).unwrap();
    assert_eq!(accepted.batch.bytes, batch);
}

#[test]
fn a_topic_with_its_own_codec_gets_it_and_everything_else_stays() {
    for source in Compression::ALL {
        for target in Compression::ALL {
            let batch = build(
                BatchBuilder::new().compression(source).producer(77, 3, 12).transactional(true),
                &three(),
            );
            let rules = ProduceRules { compression: Some((target, None)), ..rules() };
            let accepted = validate(&batch, &rules).unwrap();
            assert_eq!(accepted.rewritten, source != target);
            accepted.batch.verify_crc().unwrap();
            let header = accepted.batch.header;
            assert_eq!(header.compression(), target);
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, 12));
            assert!(header.is_transactional());
            assert_eq!(read(&accepted.batch), three());
        }
    }
}

#[test]
fn inner_offsets_that_do_not_count_up_are_written_anew() {
    let mut builder = BatchBuilder::new();
    let none: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append_at(0, NOW, None, Some(b"a"), none.into_iter()).unwrap();
    builder.append_at(5, NOW, None, Some(b"b"), none.into_iter()).unwrap();
    let batch = resealed(&builder.build().unwrap(), |b| b[26] = 1);
    let accepted = validate(&batch, &rules()).unwrap();
    assert!(accepted.rewritten);
    let offsets: Vec<_> = accepted.batch.records(CAP).map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn bombs_are_refused_only_when_records_must_be_read() {
    let story: Story = vec![(NOW, Some(b"k".to_vec()), Some(vec![0; 1 << 20]), vec![])];
    let batch = build(BatchBuilder::new().compression(Compression::Gzip), &story);
    let capped = ProduceRules { decompressed_bytes_max: 1 << 19, ..rules() };
    assert!(validate(&batch, &capped).is_ok());
    assert_eq!(code(&batch, &ProduceRules { compacted: true, ..capped }), ErrorCode::MessageTooLarge);
    assert_eq!(
        code(&batch, &ProduceRules { check_compressed_records: true, ..capped }),
        ErrorCode::MessageTooLarge
    );
}

// ---- properties

fn any_headers() -> impl Strategy<Value = Vec<Header>> {
    proptest::collection::vec(
        ("[a-z]{0,5}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9))),
        0..4,
    )
    .prop_map(|headers| headers.into_iter().map(|(key, value)| Header::new(key, value)).collect())
}

fn any_story() -> impl Strategy<Value = Story> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    proptest::collection::vec((NOW - 1000..NOW + 1000, bytes(), bytes(), any_headers()), 1..20)
}

fn any_codec() -> impl Strategy<Value = Compression> {
    (0usize..5).prop_map(|index| Compression::ALL[index])
}

proptest! {
    #[test]
    fn any_records_come_back(story in any_story(), codec in any_codec()) {
        let bytes = build(BatchBuilder::new().compression(codec), &story);
        prop_assert_eq!(read(&Batch::parse(bytes.clone()).unwrap()), story);
        prop_assert!(validate(&bytes, &rules()).is_ok());
    }

    #[test]
    fn kafka_protocol_reads_what_we_write(story in any_story(), codec in any_codec()) {
        use kafka_protocol::records::RecordBatchDecoder;
        let bytes = build(BatchBuilder::new().compression(codec).producer(4, 2, 8), &story);
        let set = RecordBatchDecoder::decode(&mut bytes.clone()).unwrap();
        prop_assert_eq!(set.records.len(), story.len());
        for (theirs, (timestamp, key, value, headers)) in set.records.iter().zip(&story) {
            prop_assert_eq!(theirs.timestamp, *timestamp);
            prop_assert_eq!(theirs.key.as_deref(), key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), value.as_deref());
            prop_assert_eq!(theirs.producer_id, 4);
            // its headers are a map: the last of equal keys stays
            for (name, value) in &theirs.headers {
                let ours = headers.iter().rev().find(|header| header.key == name.as_bytes()).unwrap();
                prop_assert_eq!(&ours.value, value);
            }
        }
    }

    #[test]
    fn we_read_what_kafka_protocol_writes(story in any_story(), codec in any_codec()) {
        use kafka_protocol::records as kp;
        let records: Vec<kp::Record> = story.iter().enumerate().map(|(i, (timestamp, key, value, _))| kp::Record {
            transactional: false, control: false, partition_leader_epoch: -1, producer_id: 4, producer_epoch: 2,
            timestamp_type: kp::TimestampType::Creation, offset: i as i64, sequence: i as i32,
            delete_horizon: Default::default(), timestamp: *timestamp, key: key.clone().map(Bytes::from), value: value.clone().map(Bytes::from),
            headers: Default::default(),
        }).collect();
        let compression = match codec {
            Compression::None => kp::Compression::None,
            Compression::Gzip => kp::Compression::Gzip,
            Compression::Snappy => kp::Compression::Snappy,
            Compression::Lz4 => kp::Compression::Lz4,
            Compression::Zstd => kp::Compression::Zstd,
        };
        let mut out = bytes::BytesMut::new();
        kp::RecordBatchEncoder::encode(&mut out, &records, &kp::RecordEncodeOptions { version: 2, compression }).unwrap();
        let accepted = validate(&out.freeze(), &rules()).unwrap();
        let ours: Vec<_> = read(&accepted.batch).into_iter().map(|(t, k, v, _)| (t, k, v)).collect();
        let theirs: Vec<_> = story.into_iter().map(|(t, k, v, _)| (t, k, v)).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn damaged_batches_never_panic(
        story in any_story(), codec in any_codec(), reseal: bool,
        cut in 0usize..2000, at in 0usize..2000, flip in 1u8..,
    ) {
        let bytes = build(BatchBuilder::new().compression(codec), &story);
        let damage = |b: &mut [u8]| if let Some(byte) = b.get_mut(at) { *byte ^= flip; };
        let damaged = if reseal { resealed(&bytes, damage) } else {
            let mut b = bytes.to_vec();
            damage(&mut b);
            b.into()
        };
        let damaged = damaged.slice(..damaged.len().saturating_sub(cut % 64));
        if let Ok(batch) = Batch::parse(damaged.clone()) {
            let _ = batch.verify_crc();
            for _ in batch.records(1 << 16) {}
        }
        for batch in split_batches(&damaged) { let _ = batch; }
        for compacted in [false, true] {
            for codec in [None, Some((Compression::Lz4, None))] {
                let _ = validate(&damaged, &ProduceRules {
                    compacted, compression: codec, check_compressed_records: compacted, ..rules()
                });
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, as_batch: bool) {
        if as_batch && bytes.len() > 61 {
            let len = (bytes.len() - 12) as u32;
            bytes[..8].fill(0);
            bytes[8..12].copy_from_slice(&len.to_be_bytes());
            bytes[16] = 2;
            bytes = resealed(&bytes.into(), |_| {}).to_vec();
        }
        let bytes = Bytes::from(bytes);
        let _ = validate(&bytes, &ProduceRules { check_compressed_records: true, decompressed_bytes_max: 1 << 16, ..rules() });
        for batch in split_batches(&bytes).flatten() {
            for _ in batch.records(1 << 16) {}
        }
    }
}
