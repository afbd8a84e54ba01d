//! The records of `__transaction_state` in Kafka's own formats: TransactionLogKey 0, TransactionLogValue 1. Version 0 is read.
//! Version 1 has the producer ids before and behind in tagged fields, which a broker without KIP-890 skips.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::Str;
use protocol::message::{
    decode_record_key, decode_versioned_value, record_key, record_type, versioned_value,
};
use protocol::messages::transaction_log_value::PartitionsSchema;
use protocol::messages::{TransactionLogKey, TransactionLogValue};
use protocol::wire::DecodeError;

use super::event::Record;
use super::transaction::{NO_PRODUCER_EPOCH, State, TopicPartition, Transaction};

const TRANSACTION_KEY: i16 = 0;
const VALUE_VERSION: i16 = 1;
const ENCODES: &str = "what was decoded from a frame fits into a record";

#[derive(Debug, Clone, PartialEq)]
pub enum ReadRecord {
    Transaction(Box<Transaction>),
    Gone(Str),
    /// Of a kind that we never write.
    Other(i16),
}

pub fn record(transaction: &Transaction) -> Record {
    let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics =
        topics.into_iter().map(|(topic, ids)| PartitionsSchema { topic: topic.clone(), partition_ids: ids });
    let value = TransactionLogValue {
        producer_id: transaction.producer_id,
        previous_producer_id: transaction.previous_producer_id,
        next_producer_id: transaction.next_producer_id,
        producer_epoch: transaction.epoch,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state.id(),
        // Kafka writes null where no transaction can be open.
        transaction_partitions: (transaction.state != State::Empty).then(|| topics.collect()),
        transaction_last_update_timestamp_ms: transaction.updated_ms,
        transaction_start_timestamp_ms: transaction.started_ms,
        client_transaction_version: transaction.version,
        ..TransactionLogValue::default()
    };
    Record { key: key(&transaction.id), value: Some(versioned_value(VALUE_VERSION, &value).expect(ENCODES)) }
}

pub fn tombstone(transactional_id: &Str) -> Record {
    Record { key: key(transactional_id), value: None }
}

fn key(transactional_id: &Str) -> Bytes {
    record_key(TRANSACTION_KEY, &TransactionLogKey { transactional_id: transactional_id.clone() })
        .expect(ENCODES)
}

pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<ReadRecord, DecodeError> {
    match record_type(key)? {
        TRANSACTION_KEY => {}
        other => return Ok(ReadRecord::Other(other)),
    }
    // Detached: the record stands in a large read buffer that must not stay because of a name.
    let id = decode_record_key::<TransactionLogKey>(key)?.1.transactional_id.detached();
    let Some(value) = value else { return Ok(ReadRecord::Gone(id)) };
    let (_, value) = decode_versioned_value::<TransactionLogValue>(value)?;
    let state = State::of_id(value.transaction_status);
    let Some(state) = state else {
        // Kafka's Dead: written by nobody for long, and followed by a tombstone.
        return Ok(ReadRecord::Gone(id));
    };
    let mut transaction = Transaction::new(
        id,
        value.producer_id,
        value.transaction_timeout_ms,
        value.transaction_last_update_timestamp_ms,
    );
    transaction.previous_producer_id = value.previous_producer_id;
    transaction.next_producer_id = value.next_producer_id;
    transaction.epoch = value.producer_epoch;
    transaction.last_epoch = NO_PRODUCER_EPOCH;
    transaction.state = state;
    transaction.started_ms = value.transaction_start_timestamp_ms;
    transaction.version = value.client_transaction_version;
    for topic in value.transaction_partitions.unwrap_or_default() {
        let name = topic.topic.detached();
        let named = |partition: &i32| TopicPartition { topic: name.clone(), partition: *partition };
        transaction.partitions.extend(topic.partition_ids.iter().map(named));
    }
    Ok(ReadRecord::Transaction(Box::new(transaction)))
}
