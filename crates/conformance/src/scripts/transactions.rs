//! InitProducerId with a name, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, and what is told of transactions.

use protocol::batch::BatchBuilder;
use protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest, TxnOffsetCommitRequest,
    WriteTxnMarkersRequest,
};
use protocol::{ApiKey, Str};

use super::setup::{Topic, filled, produce_of};
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::InitProducerId, "a transaction's name", names),
    script(ApiKey::AddPartitionsToTxn, "of one producer", add_partitions),
    script(ApiKey::AddOffsetsToTxn, "a group", add_offsets),
    script(ApiKey::TxnOffsetCommit, "a group", commit_offsets),
    script(ApiKey::EndTxn, "commits and aborts", end),
    script(ApiKey::DescribeTransactions, "states", describe),
    script(ApiKey::ListTransactions, "filters", list),
    script(ApiKey::WriteTxnMarkers, "past the coordinator", write_markers),
];

const TRANSACTION: i8 = 1;
const CONCURRENT_TRANSACTIONS: i16 = 51;
/// The coordinator is there, or will be in a moment.
const NOT_YET: [i16; 3] = [14, 15, 16];

fn init_of(name: &Str) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(name.clone()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    }
}

struct Producer {
    name: Str,
    id: i64,
    epoch: i16,
}

/// A producer whose coordinator answers.
fn producer(c: &mut Conversation, name: &str) -> Producer {
    let name = c.name(name);
    let find = FindCoordinatorRequest {
        key_type: TRANSACTION,
        coordinator_keys: vec![name.clone()],
        ..Default::default()
    };
    c.help_until(&find, |answer| {
        answer.coordinators.iter().all(|of| of.error_code == 0 || of.error_code == 35)
    });
    let given = c.help_until(&init_of(&name), |answer| {
        !NOT_YET.contains(&answer.error_code) && answer.error_code != CONCURRENT_TRANSACTIONS
    });
    let (id, epoch) = given.map_or((-1, -1), |given| (given.producer_id, given.producer_epoch));
    Producer { name, id, epoch }
}

fn names(c: &mut Conversation) {
    let of = producer(c, "t");
    c.settle("again", &init_of(&of.name), |answer| answer.error_code != CONCURRENT_TRANSACTIONS);
    c.ask("no time", &InitProducerIdRequest { transaction_timeout_ms: 0, ..init_of(&of.name) });
    c.ask("time below 0", &InitProducerIdRequest { transaction_timeout_ms: -1, ..init_of(&of.name) });
    c.ask("too much time", &InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..init_of(&of.name) });
    let known = |producer_id, producer_epoch| InitProducerIdRequest {
        producer_id,
        producer_epoch,
        ..init_of(&of.name)
    };
    c.ask("another's id", &known(of.id + 12345, 0));
    c.ask("a newer epoch", &known(of.id, i16::MAX - 5));
    c.ask("an epoch alone", &known(-1, 3));
}

fn adding(c: &Conversation, of: &Producer, topic: &Str, partitions: &[i32]) -> AddPartitionsToTxnRequest {
    let topic = AddPartitionsToTxnTopic {
        name: topic.clone(),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    if c.version() >= 4 {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: of.name.clone(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            topics: vec![topic],
            ..Default::default()
        };
        return AddPartitionsToTxnRequest { transactions: vec![transaction], ..Default::default() };
    }
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: of.name.clone(),
        v3_and_below_producer_id: of.id,
        v3_and_below_producer_epoch: of.epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    }
}

fn add_partitions(c: &mut Conversation) {
    let a = c.topic("a", 2);
    let of = producer(c, "t");
    let but = |id, epoch| Producer { name: of.name.clone(), id, epoch };
    c.ask("one", &adding(c, &of, &a.name, &[0]));
    c.ask("it again", &adding(c, &of, &a.name, &[0]));
    c.ask("none", &adding(c, &of, &a.name, &[]));
    c.ask("an unknown partition", &adding(c, &of, &a.name, &[0, 7]));
    c.ask("an unknown topic", &adding(c, &of, &c.name("unknown"), &[0]));
    c.ask("an older epoch", &adding(c, &but(of.id, of.epoch - 1), &a.name, &[0]));
    c.ask("a newer epoch", &adding(c, &but(of.id, of.epoch + 1), &a.name, &[0]));
    c.ask("another's id", &adding(c, &but(of.id + 12345, of.epoch), &a.name, &[0]));
    c.ask(
        "an unknown name",
        &adding(c, &Producer { name: c.name("x"), id: of.id, epoch: of.epoch }, &a.name, &[0]),
    );
    c.ask("no name", &adding(c, &Producer { name: "".into(), id: of.id, epoch: of.epoch }, &a.name, &[0]));
}

fn add_offsets(c: &mut Conversation) {
    let group = c.group("g");
    let of = producer(c, "t");
    let request =
        |transactional_id: &Str, producer_id, producer_epoch, group_id: &Str| AddOffsetsToTxnRequest {
            transactional_id: transactional_id.clone(),
            producer_id,
            producer_epoch,
            group_id: group_id.clone(),
        };
    c.ask("one", &request(&of.name, of.id, of.epoch, &group));
    c.ask("again", &request(&of.name, of.id, of.epoch, &group));
    c.ask("no group", &request(&of.name, of.id, of.epoch, &"".into()));
    c.ask("an older epoch", &request(&of.name, of.id, of.epoch - 1, &group));
    c.ask("another's id", &request(&of.name, of.id + 12345, of.epoch, &group));
    c.ask("an unknown name", &request(&c.name("x"), of.id, of.epoch, &group));
    c.ask("no name", &request(&"".into(), of.id, of.epoch, &group));
}

fn commit_offsets(c: &mut Conversation) {
    let (group, a) = (c.group("g"), c.topic("a", 2));
    let of = producer(c, "t");
    let add = AddOffsetsToTxnRequest {
        transactional_id: of.name.clone(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        group_id: group.clone(),
    };
    c.help(&add);
    let request = |partitions: &[i32]| TxnOffsetCommitRequest {
        transactional_id: of.name.clone(),
        group_id: group.clone(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: a.name.clone(),
            topic_id: a.id,
            partitions: partitions
                .iter()
                .map(|partition_index| TxnOffsetCommitRequestPartition {
                    partition_index: *partition_index,
                    committed_offset: 5,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..TxnOffsetCommitRequest::default()
    };
    c.ask("one", &request(&[0]));
    c.ask("an unknown partition", &request(&[7]));
    c.ask("no group", &TxnOffsetCommitRequest { group_id: "".into(), ..request(&[0]) });
    c.ask("an older epoch", &TxnOffsetCommitRequest { producer_epoch: of.epoch - 1, ..request(&[0]) });
    c.ask(
        "an unknown member",
        &TxnOffsetCommitRequest {
            member_id: "nobody".into(),
            generation_id_or_member_epoch: 1,
            ..request(&[0])
        },
    );
    c.ask("nothing", &TxnOffsetCommitRequest { topics: Vec::new(), ..request(&[]) });
}

fn end_of(of: &Producer, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: of.name.clone(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        committed,
        ..EndTxnRequest::default()
    }
}

/// Writes a record in a transaction, as clients of the first transaction protocol do.
fn write(c: &mut Conversation, of: &Producer, topic: &Topic, sequence: i32) {
    let topics =
        vec![AddPartitionsToTxnTopic { name: topic.name.clone(), partitions: vec![0], ..Default::default() }];
    let add = AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: of.name.clone(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            topics,
            ..Default::default()
        }],
        ..Default::default()
    };
    c.help(&add);
    let batch = filled(BatchBuilder::new().transactional(true).producer(of.id, of.epoch, sequence), &["x"]);
    let mut request = produce_of(topic, 0, Some(batch), -1);
    request.transactional_id = Some(of.name.clone());
    c.help(&request);
}

fn end(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let of = producer(c, "t");
    c.ask("before it has begun", &end_of(&of, true));
    write(c, &of, &a, 0);
    c.ask("an older epoch", &end_of(&Producer { epoch: of.epoch - 1, name: of.name.clone(), ..of }, true));
    c.ask("another's id", &end_of(&Producer { id: of.id + 12345, name: of.name.clone(), ..of }, true));
    c.ask("an unknown name", &end_of(&Producer { name: c.name("x"), ..of }, true));
    let answer =
        c.settle("a commit", &end_of(&of, true), |answer| answer.error_code != CONCURRENT_TRANSACTIONS);
    c.settle("again", &end_of(&of, true), |answer| answer.error_code != CONCURRENT_TRANSACTIONS);
    c.settle("an abort of it", &end_of(&of, false), |answer| answer.error_code != CONCURRENT_TRANSACTIONS);
    let epoch = answer.map_or(of.epoch, |answer| answer.producer_epoch).max(of.epoch);
    let next = Producer { name: of.name.clone(), id: of.id, epoch };
    c.settle("an abort of nothing", &end_of(&next, false), |answer| {
        answer.error_code != CONCURRENT_TRANSACTIONS
    });
}

fn describe(c: &mut Conversation) {
    let of = producer(c, "t");
    let request = |names: &[&Str]| DescribeTransactionsRequest {
        transactional_ids: names.iter().map(|name| (*name).clone()).collect(),
    };
    c.ask("one", &request(&[&of.name]));
    c.ask("an unknown one", &request(&[&c.name("x")]));
    c.ask("no name", &request(&[&"".into()]));
    c.ask("none", &request(&[]));
}

fn list(c: &mut Conversation) {
    let of = producer(c, "t");
    let plain = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
    c.ask("all", &plain);
    c.ask("empty ones", &ListTransactionsRequest { state_filters: vec!["Empty".into()], ..plain.clone() });
    c.ask(
        "an unknown state",
        &ListTransactionsRequest { state_filters: vec!["Sleeping".into()], ..plain.clone() },
    );
    c.ask("of a producer", &ListTransactionsRequest { producer_id_filters: vec![of.id], ..plain.clone() });
    c.ask("old ones", &ListTransactionsRequest { duration_filter: 3_600_000, ..plain.clone() });
    c.ask(
        "by pattern",
        &ListTransactionsRequest { transactional_id_pattern: Some(".*-t".into()), ..plain.clone() },
    );
    c.ask(
        "a pattern that is none",
        &ListTransactionsRequest { transactional_id_pattern: Some("(".into()), ..plain },
    );
}

/// As `kafka-transactions.sh abort` does it.
fn write_markers(c: &mut Conversation) {
    let a = c.topic("a", 2);
    let of = producer(c, "t");
    write(c, &of, &a, 0);
    let marker = |topic: &Str, partitions: &[i32]| WritableTxnMarker {
        producer_id: of.id,
        producer_epoch: of.epoch,
        transaction_result: false,
        topics: vec![WritableTxnMarkerTopic { name: topic.clone(), partition_indexes: partitions.to_vec() }],
        coordinator_epoch: 0,
        ..WritableTxnMarker::default()
    };
    let one = |marker| WriteTxnMarkersRequest { markers: vec![marker] };
    c.ask(
        "an older epoch",
        &one(WritableTxnMarker { producer_epoch: of.epoch - 1, ..marker(&a.name, &[0]) }),
    );
    c.ask("an unknown topic", &one(marker(&c.name("unknown"), &[0])));
    c.ask("an unknown partition", &one(marker(&a.name, &[0, 7])));
    c.ask("again", &one(marker(&a.name, &[0])));
    c.ask("where nothing is open", &one(marker(&a.name, &[1])));
    c.ask(
        "of an unknown producer",
        &one(WritableTxnMarker { producer_id: of.id + 12345, ..marker(&a.name, &[0]) }),
    );
    c.ask("an older coordinator", &one(WritableTxnMarker { coordinator_epoch: -1, ..marker(&a.name, &[0]) }));
    c.ask("no topics", &one(WritableTxnMarker { topics: Vec::new(), ..marker(&a.name, &[]) }));
    c.ask("none", &WriteTxnMarkersRequest::default());
}
