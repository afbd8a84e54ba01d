//! What brokers say to one another about transactions, in the bodies of private requests (`server` carries them):
//!
//! ```text
//!   32005 EndTransactions 0   list of {topic id · partition i32 · producer id i64 · epoch i16 · coordinator epoch i32 · commit i8
//!                             · stamp i64}                                                   →  list of error codes i16
//!   32006 JoinTransaction 0   transactional id · producer id i64 · epoch i16 · adds i8 · list of {topic name · partition i32}
//!                                                          →  error code i16 · stamp i64 · list of those missing, as asked
//! ```
//! Strings and lists as in Kafka's messages that are not flexible.

use std::collections::BTreeSet;

use bytes::Bytes;
use commitlog::EndTransaction;
use protocol::ErrorCode;
use protocol::TopicIdPartition;
use protocol::wire::{DecodeError, EncodeError, Reader, Writer};

use super::event::{Producer, Verified};
use super::transaction::TopicPartition;

pub const END_TRANSACTIONS: i16 = 32_005;
pub const JOIN_TRANSACTION: i16 = 32_006;

/// Markers of any transactions for partitions that the other broker leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTransactions(pub Vec<(TopicIdPartition, EndTransaction)>);

/// A leader asks the coordinator whether partitions belong to a transaction, or that they shall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTransaction {
    pub producer: Producer,
    pub partitions: BTreeSet<TopicPartition>,
    pub adds: bool,
}

impl EndTransactions {
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = Writer::new();
        out.array(false, 0, &self.0, |(place, marker), out, _| {
            out.uuid(place.topic_id);
            out.i32(place.partition);
            out.i64(marker.producer_id);
            out.i16(marker.producer_epoch);
            out.i32(marker.coordinator_epoch);
            out.bool(marker.commit);
            out.i64(marker.transaction_stamp);
            Ok(())
        })?;
        Ok(out.into_bytes())
    }

    pub fn decode(body: Bytes) -> Result<EndTransactions, DecodeError> {
        let mut body = Reader::new(body);
        let markers = body.array(false, 43, 0, |body, _| {
            let place = TopicIdPartition::new(body.uuid()?, body.i32()?);
            let marker = EndTransaction {
                producer_id: body.i64()?,
                producer_epoch: body.i16()?,
                coordinator_epoch: body.i32()?,
                commit: body.bool()?,
                transaction_stamp: body.i64()?,
            };
            Ok((place, marker))
        })?;
        body.expect_end()?;
        Ok(EndTransactions(markers))
    }
}

pub fn encode_codes(codes: &[ErrorCode]) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    out.array(false, 0, codes, |code, out, _| {
        out.i16(code.code());
        Ok(())
    })?;
    Ok(out.into_bytes())
}

pub fn decode_codes(body: Bytes) -> Result<Vec<ErrorCode>, DecodeError> {
    let mut body = Reader::new(body);
    body.array(false, 2, 0, |body, _| Ok(code(body.i16()?)))
}

impl JoinTransaction {
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = Writer::new();
        out.string(false, &self.producer.transactional_id)?;
        out.i64(self.producer.id);
        out.i16(self.producer.epoch);
        out.bool(self.adds);
        encode_partitions(&mut out, &self.partitions)?;
        Ok(out.into_bytes())
    }

    pub fn decode(body: Bytes) -> Result<JoinTransaction, DecodeError> {
        let mut body = Reader::new(body);
        let producer =
            Producer { transactional_id: body.string(false)?, id: body.i64()?, epoch: body.i16()? };
        let adds = body.bool()?;
        let partitions = decode_partitions(&mut body)?;
        body.expect_end()?;
        Ok(JoinTransaction { producer, partitions, adds })
    }
}

pub fn encode_joined(joined: &Result<Verified, ErrorCode>) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    match joined {
        Ok(verified) => {
            out.i16(ErrorCode::None.code());
            out.i64(verified.stamp);
            encode_partitions(&mut out, &verified.missing)?;
        }
        Err(code) => out.i16(code.code()),
    }
    Ok(out.into_bytes())
}

pub fn decode_joined(body: Bytes) -> Result<Result<Verified, ErrorCode>, DecodeError> {
    let mut body = Reader::new(body);
    match code(body.i16()?) {
        ErrorCode::None => {
            let stamp = body.i64()?;
            Ok(Ok(Verified { stamp, missing: decode_partitions(&mut body)? }))
        }
        refused => Ok(Err(refused)),
    }
}

fn encode_partitions(out: &mut Writer, partitions: &BTreeSet<TopicPartition>) -> Result<(), EncodeError> {
    let partitions: Vec<&TopicPartition> = partitions.iter().collect();
    out.array(false, 0, &partitions, |it, out, _| {
        out.string(false, &it.topic)?;
        out.i32(it.partition);
        Ok(())
    })
}

fn decode_partitions(body: &mut Reader) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    let read =
        |body: &mut Reader, _| Ok(TopicPartition { topic: body.string(false)?, partition: body.i32()? });
    Ok(body.array(false, 6, 0, read)?.into_iter().collect())
}

/// One that a newer release has made up is an error all the same.
fn code(code: i16) -> ErrorCode {
    ErrorCode::try_from(code).unwrap_or(ErrorCode::UnknownServerError)
}

#[cfg(test)]
mod tests {
    use protocol::{Str, Uuid};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let marker = EndTransaction {
            producer_id: 7,
            producer_epoch: 3,
            coordinator_epoch: 5,
            commit: true,
            transaction_stamp: 1 << 40,
        };
        let markers = EndTransactions(vec![(TopicIdPartition::new(Uuid([9; 16]), 4), marker)]);
        let bytes = markers.encode().unwrap();
        assert_eq!(EndTransactions::decode(bytes.clone()).unwrap(), markers);
        assert!(EndTransactions::decode(bytes.slice(..bytes.len() - 1)).is_err());
        let producer = Producer { transactional_id: Str::from("t"), id: 7, epoch: 3 };
        let partitions: BTreeSet<_> =
            (0..3).map(|partition| TopicPartition { topic: Str::from("topic"), partition }).collect();
        let join = JoinTransaction { producer, partitions: partitions.clone(), adds: true };
        assert_eq!(JoinTransaction::decode(join.encode().unwrap()).unwrap(), join);
        for joined in [Ok(Verified { stamp: 8, missing: partitions }), Err(ErrorCode::ConcurrentTransactions)]
        {
            assert_eq!(decode_joined(encode_joined(&joined).unwrap()).unwrap(), joined);
        }
        let codes = vec![ErrorCode::None, ErrorCode::NotLeaderOrFollower];
        assert_eq!(decode_codes(encode_codes(&codes).unwrap()).unwrap(), codes);
    }
}
