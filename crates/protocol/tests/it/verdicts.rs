//! What Kafka says to batches of clients, and its transaction markers (`vectors/verdicts.txt`; the format of a
//! line stands in `vectors/java/…/Verdicts.java`).

use bytes::Bytes;
use protocol::batch::produce::{ProduceRules, validate};
use protocol::batch::{Batch, ControlRecord, Record, TimestampType};
use protocol::compression::Compression;

const VECTORS: &str = include_str!("../../vectors/verdicts.txt");
const CAP: usize = 1 << 20;

fn unhex(text: &str) -> Option<Bytes> {
    if text == "-" {
        return None;
    }
    let digits: Vec<u8> = text.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records(CAP).map(Result::unwrap).collect()
}

fn shown(record: &Record) -> String {
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let nullable = |bytes: &Option<Bytes>| bytes.as_ref().map_or("-".to_string(), hex);
    let headers: Vec<String> =
        record.headers.iter().map(|h| format!("{}={}", hex(&h.key), nullable(&h.value))).collect();
    format!(
        "R {} {} {} {} {}",
        record.offset,
        record.timestamp,
        nullable(&record.key),
        nullable(&record.value),
        headers.join(",")
    )
}

#[test]
fn we_read_javas_markers() {
    let mut expected = VECTORS.lines().filter(|line| line.starts_with("R "));
    let mut markers = Vec::new();
    for line in VECTORS.lines().filter(|line| line.starts_with("B ")) {
        let mut words = line.split(' ').skip(1);
        let (name, bytes) = (words.next().unwrap(), unhex(words.next().unwrap()).unwrap());
        let batch = Batch::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        for record in records(&batch) {
            assert_eq!(shown(&record), expected.next().unwrap(), "{name}");
            if batch.header.is_control() {
                markers.push(ControlRecord::parse(&record.key.unwrap(), record.value.as_deref()).unwrap());
            }
        }
    }
    assert_eq!(expected.next(), None);
    assert_eq!(
        markers,
        [ControlRecord::Commit { coordinator_epoch: 9 }, ControlRecord::Abort { coordinator_epoch: 9 }]
    );
}

#[test]
fn our_markers_are_javas() {
    let java = |name: &str| {
        let line = VECTORS.lines().find(|line| line.starts_with(name)).unwrap();
        unhex(line.split(' ').nth(2).unwrap()).unwrap()
    };
    let marker =
        |commit| protocol::batch::end_transaction_marker(4711, 3, commit, 9, 1_760_000_000_000).unwrap();
    assert_eq!(marker(true), java("B markerCOMMIT"));
    assert_eq!(marker(false), java("B markerABORT"));
}

/// One line `V`.
struct Verdict {
    rules: ProduceRules,
    sent: Bytes,
    /// The code and the faulty records, or the stored batch.
    verdict: Result<Bytes, (i16, String)>,
}

fn verdicts() -> impl Iterator<Item = (usize, Verdict)> {
    VECTORS.lines().enumerate().filter(|(_, line)| line.starts_with("V ")).map(|(number, line)| {
        let words: Vec<&str> = line.split(' ').collect();
        let rules = ProduceRules {
            message_bytes_max: CAP,
            compression: Compression::from_name(words[3]).map(|codec| (codec, None)),
            timestamp_type: match words[4] {
                "0" => TimestampType::CreateTime,
                _ => TimestampType::LogAppendTime,
            },
            timestamp_before_max_ms: words[5].parse().unwrap(),
            timestamp_after_max_ms: words[6].parse().unwrap(),
            compacted: words[7] == "1",
            ..ProduceRules::defaults(words[1].parse().unwrap(), words[2].parse().unwrap())
        };
        let verdict = match words[9] {
            "ok" => Ok(unhex(words[10]).unwrap()),
            refused => {
                let (code, faulty) = refused.split_once(':').unwrap();
                Err((code.parse().unwrap(), faulty.to_string()))
            }
        };
        (number + 1, Verdict { rules, sent: unhex(words[8]).unwrap_or_default(), verdict })
    })
}

#[test]
fn we_judge_as_kafka_does() {
    let mut wrong = Vec::new();
    for (line, Verdict { rules, sent, verdict }) in verdicts() {
        let rules = ProduceRules { check_compressed_records: true, ..rules };
        let ours = validate(&sent, &rules);
        match (&ours, &verdict) {
            (Ok(ours), Ok(kafkas)) => {
                // Kafka's verdict has the batch at its place in the log.
                let [head, rest] = ours.batch.at(1000, 5);
                let ours = Batch::parse([head, rest].concat().into()).unwrap();
                let kafkas = Batch::parse(kafkas.clone()).unwrap();
                ours.verify_crc().unwrap();
                let same_bytes = ours.bytes == kafkas.bytes;
                // Compressed anew, the bytes are the codec's business; what is in them is not.
                let compressed_anew = rules.compression.is_some_and(|(codec, _)| codec != Compression::None)
                    && {
                        let (mut a, mut b) = (ours.header, kafkas.header);
                        (a.crc, a.batch_length) = (0, 0);
                        (b.crc, b.batch_length) = (0, 0);
                        a == b && records(&ours) == records(&kafkas)
                    };
                // Kafka keeps inner offsets that do not count up if the batch is not compressed; we do not.
                let renumbered = ours.header.record_count == kafkas.header.record_count && {
                    let offset = |(index, record): (i64, &Record)| record.offset == 1000 + index;
                    (0..).zip(&records(&ours)).all(offset) && !(0..).zip(&records(&kafkas)).all(offset)
                };
                if !same_bytes && !compressed_anew && !renumbered {
                    wrong.push(format!("line {line}: {:?} but Kafka {:?}", ours.header, kafkas.header));
                }
            }
            (Err(ours), Err((code, faulty))) => {
                let indexes: Vec<String> =
                    ours.record_errors().iter().map(|error| error.batch_index.to_string()).collect();
                if ours.error_code().code() != *code || indexes.join(",") != *faulty {
                    wrong.push(format!(
                        "line {line}: {ours} ({}) but Kafka {code}:{faulty}",
                        ours.error_code()
                    ));
                }
            }
            (Ok(_), Err(kafkas)) => wrong.push(format!("line {line}: accepted, but Kafka {kafkas:?}")),
            (Err(ours), Ok(_)) => wrong.push(format!("line {line}: {ours}, but Kafka accepts")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn judging_by_the_header_refuses_nothing_that_kafka_takes() {
    for (line, Verdict { rules, sent, verdict }) in verdicts() {
        if verdict.is_ok() {
            assert!(validate(&sent, &rules).is_ok(), "line {line}");
        }
    }
}
