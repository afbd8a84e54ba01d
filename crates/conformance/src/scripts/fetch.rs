//! Fetch: what is read, and fetch sessions (KIP-227).

use bytes::BytesMut;
use protocol::batch::split_batches;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ApiKey, Uuid};

use super::setup::{Topic, batch};
use super::{Script, script};
use crate::conversation::Conversation;
use crate::value::Value;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::Fetch, "records", records),
    script(ApiKey::Fetch, "bounds", bounds),
    script(ApiKey::Fetch, "wrong places", wrong_places),
    script(ApiKey::Fetch, "epochs", epochs),
    script(ApiKey::Fetch, "sessions", sessions),
];

const SESSIONS_SINCE: i16 = 7;
const IDS_SINCE: i16 = 13;
const NO_SESSION: (i32, i32) = (0, -1);
const NEW_SESSION: (i32, i32) = (0, 0);

fn partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() }
}

fn topic(topic: &Topic, partitions: Vec<FetchPartition>) -> FetchTopic {
    FetchTopic { topic: topic.name.clone(), topic_id: topic.id, partitions, ..Default::default() }
}

fn fetch(topics: Vec<FetchTopic>, (session_id, session_epoch): (i32, i32)) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id,
        session_epoch,
        topics,
        ..FetchRequest::default()
    }
}

/// Asks, and keeps what is in the batches too.
fn read(c: &mut Conversation, label: &str, request: &FetchRequest) -> Option<FetchResponse> {
    let answer = c.ask(label, request)?;
    let mut found = Vec::new();
    for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
        let mut bytes = BytesMut::new();
        for segment in partition.records.iter().flat_map(|records| records.segments()) {
            bytes.extend_from_slice(segment);
        }
        for batch in split_batches(&bytes.freeze()) {
            let Ok(batch) = batch else {
                found.push(Value::Text("no batch".to_owned()));
                continue;
            };
            let header = batch.header;
            let of_records = batch.records(1 << 20).map(|record| match record {
                Ok(record) => Value::Text(format!("{} {:?} {:?}", record.offset, record.key, record.value)),
                Err(error) => Value::Text(error.to_string()),
            });
            found.push(Value::Struct(vec![
                ("base_offset".to_owned(), Value::Int(header.base_offset)),
                ("leader_epoch".to_owned(), Value::Int(header.partition_leader_epoch.into())),
                ("attributes".to_owned(), Value::Int(header.attributes.into())),
                ("max_timestamp".to_owned(), Value::Int(header.max_timestamp)),
                ("crc_is_right".to_owned(), Value::Bool(batch.verify_crc().is_ok())),
                ("records".to_owned(), Value::List(of_records.collect())),
            ]));
        }
    }
    c.note(&format!("{label}: batches"), Value::List(found));
    Some(answer)
}

fn records(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.write(&a, 0, batch(&["1", "2"]));
    c.write(&a, 0, batch(&["3"]));
    let of = |partitions: Vec<FetchPartition>| fetch(vec![topic(&a, partitions)], NO_SESSION);
    read(c, "from the start", &of(vec![partition(0, 0)]));
    read(c, "from inside a batch", &of(vec![partition(0, 1)]));
    read(c, "from the second batch", &of(vec![partition(0, 2)]));
    read(c, "at the end", &of(vec![partition(0, 3)]));
    read(c, "both partitions", &of(vec![partition(0, 0), partition(1, 0)]));
    read(c, "one twice", &of(vec![partition(0, 0), partition(0, 2)]));
    read(c, "committed ones", &FetchRequest { isolation_level: 1, ..of(vec![partition(0, 0)]) });
    read(c, "an unknown isolation", &FetchRequest { isolation_level: 9, ..of(vec![partition(0, 0)]) });
    read(c, "nothing", &fetch(Vec::new(), NO_SESSION));
    read(c, "a topic without partitions", &of(Vec::new()));
    read(c, "a rack", &FetchRequest { rack_id: "r".into(), ..of(vec![partition(0, 0)]) });
}

fn bounds(c: &mut Conversation) {
    let a = c.topic("a", 2);
    for value in ["1", "2", "3"] {
        c.write(&a, 0, batch(&[value]));
        c.write(&a, 1, batch(&[value]));
    }
    let both = |max_bytes, partition_max_bytes| {
        let of = |index| FetchPartition { partition_max_bytes, ..partition(index, 0) };
        FetchRequest { max_bytes, ..fetch(vec![topic(&a, vec![of(0), of(1)])], NO_SESSION) }
    };
    read(c, "one byte", &both(1, 1));
    read(c, "a byte of each partition", &both(1 << 20, 1));
    read(c, "no byte", &both(0, 0));
    read(c, "below 0", &both(-1, -1));
    read(c, "a byte in all", &both(1, 1 << 20));
    let at_end = |max_wait_ms, min_bytes| FetchRequest {
        max_wait_ms,
        min_bytes,
        ..fetch(vec![topic(&a, vec![partition(0, 3)])], NO_SESSION)
    };
    read(c, "no wait", &at_end(0, 1));
    read(c, "a wait below 0", &at_end(-1, 1));
    read(c, "no least bytes", &at_end(5000, 0));
    read(c, "least bytes below 0", &at_end(5000, -1));
}

fn wrong_places(c: &mut Conversation) {
    let a = c.topic("a", 1);
    c.write(&a, 0, batch(&["1"]));
    let of = |partitions: Vec<FetchPartition>| fetch(vec![topic(&a, partitions)], NO_SESSION);
    c.ask("behind the end", &of(vec![partition(0, 9)]));
    c.ask("an offset below 0", &of(vec![partition(0, -1)]));
    c.ask("an unknown partition", &of(vec![partition(7, 0)]));
    c.ask("a partition below 0", &of(vec![partition(-1, 0)]));
    let unknown = Topic { name: c.name("unknown"), id: Uuid::from_u128(0x1234_5678) };
    c.ask("an unknown topic", &fetch(vec![topic(&unknown, vec![partition(0, 0)])], NO_SESSION));
    c.ask(
        "a known and an unknown one",
        &fetch(vec![topic(&a, vec![partition(0, 0)]), topic(&unknown, vec![partition(0, 0)])], NO_SESSION),
    );
    if c.version() < IDS_SINCE {
        let wrong = Topic { name: "a b".into(), id: Uuid::ZERO };
        c.ask("a wrong name", &fetch(vec![topic(&wrong, vec![partition(0, 0)])], NO_SESSION));
    } else {
        let none = Topic { name: a.name.clone(), id: Uuid::ZERO };
        c.ask("no id", &fetch(vec![topic(&none, vec![partition(0, 0)])], NO_SESSION));
    }
    c.ask("a follower that is none", &FetchRequest { replica_id: 77, ..of(vec![partition(0, 0)]) });
}

fn epochs(c: &mut Conversation) {
    let a = c.topic("a", 1);
    c.write(&a, 0, batch(&["1"]));
    let of = |current_leader_epoch, last_fetched_epoch| {
        let partition = FetchPartition { current_leader_epoch, last_fetched_epoch, ..partition(0, 0) };
        fetch(vec![topic(&a, vec![partition])], NO_SESSION)
    };
    c.ask("the leader's", &of(0, -1));
    c.ask("a newer one", &of(5, -1));
    c.ask("below none", &of(-2, -1));
    c.ask("last fetched in it", &of(-1, 0));
    c.ask("last fetched in a newer one", &of(-1, 5));
}

fn sessions(c: &mut Conversation) {
    if c.version() < SESSIONS_SINCE {
        return;
    }
    let (a, b) = (c.topic("a", 1), c.topic("b", 1));
    c.write(&a, 0, batch(&["1"]));
    let both = || vec![topic(&a, vec![partition(0, 0)]), topic(&b, vec![partition(0, 0)])];
    let answer = c.ask("a new one", &fetch(both(), NEW_SESSION));
    let id = answer.map_or(0, |answer| answer.session_id);
    c.ask("nothing has changed", &fetch(Vec::new(), (id, 1)));
    c.ask("further on in one", &fetch(vec![topic(&a, vec![partition(0, 1)])], (id, 2)));
    c.write(&b, 0, batch(&["1"]));
    c.ask("news in the other", &fetch(Vec::new(), (id, 3)));
    let forgotten =
        ForgottenTopic { topic: b.name.clone(), topic_id: b.id, partitions: vec![0], ..Default::default() };
    c.ask(
        "one forgotten",
        &FetchRequest { forgotten_topics_data: vec![forgotten], ..fetch(Vec::new(), (id, 4)) },
    );
    c.ask("an old epoch", &fetch(Vec::new(), (id, 4)));
    c.ask("an epoch too far", &fetch(Vec::new(), (id, 9)));
    c.ask("an unknown session", &fetch(Vec::new(), (id.wrapping_add(12345), 1)));
    c.ask("another one instead", &fetch(both(), (id, 0)));
    c.ask("the old one is gone", &fetch(Vec::new(), (id, 5)));
    c.ask("the end of one that is gone", &fetch(Vec::new(), (id, -1)));
    c.ask("an epoch below -1", &fetch(both(), (0, -2)));
}
