//! Appending what clients send: one partition's records from the frame into the log's queue.
//!
//! ```text
//!   slice of the frame ─ batch::produce::validate ─► Partition::append (queued, offset known) ─► committed
//!                        one pass: header, CRC        synchronous, in the order of arrival       awaited later
//! ```
//! No record is built unless the topic's settings ask a question that only records answer (see
//! `protocol::batch::produce`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use catalog::config::{TimestampType as TopicTimestampType, TopicCompression, TopicConfig};
use catalog::{State, Topic};
use commitlog::{Append, AppendError, AppendOptions, CommitLog, NO_STAMP, Partition, Verification};
use protocol::batch::TimestampType;
use protocol::batch::produce::{
    Accepted, ProduceError, ProduceRules, RecordError, is_compressed, is_unpacked, validate,
};
use protocol::compression::Compression;
use protocol::messages::ProduceRequest;
use protocol::{ErrorCode, Message};

use crate::broker::Broker;
use crate::counters::{Counters, TopicCounters};
use crate::error::{append_error, commit_error};
use crate::partitions::{Led, led_here};
use crate::transactions::Joined;

/// Kafka's admin tools may write to internal topics under this client id, nobody else.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// What unpacks to so much is judged on the way; more is long work, and so is packing a quarter of it.
const UNPACKED_ON_THE_WAY_BYTES_MAX: usize = 256 << 10;

/// Records that have to be unpacked to be judged, and what was found. Judging changes nothing and needs no lock.
pub(crate) enum Judgement {
    Found(Result<Accepted, ProduceError>),
    /// It is long work.
    Due(Bytes, ProduceRules),
}

impl Judgement {
    fn of(records: &Bytes, rules: ProduceRules) -> Judgement {
        let is_packed = rules.compression.is_some();
        let on_the_way = UNPACKED_ON_THE_WAY_BYTES_MAX / if is_packed { 4 } else { 1 };
        let due = || Judgement::Due(records.clone(), rules);
        if records.len() > on_the_way {
            return due();
        }
        let decompressed_bytes_max = rules.decompressed_bytes_max.min(on_the_way);
        match validate(records, &ProduceRules { decompressed_bytes_max, ..rules }) {
            Err(ProduceError::DecompressedTooLarge { cap }) if cap < rules.decompressed_bytes_max => due(),
            found => Judgement::Found(found),
        }
    }

    pub fn is_due(&self) -> bool {
        matches!(self, Judgement::Due(..))
    }

    pub fn complete(&mut self) {
        if let Judgement::Due(records, rules) = self {
            *self = Judgement::Found(validate(records, rules));
        }
    }

    fn found(mut self) -> Result<Accepted, ProduceError> {
        self.complete();
        match self {
            Judgement::Found(found) => found,
            Judgement::Due(..) => unreachable!("it was completed"),
        }
    }
}

/// A topic as one produce request sees it.
pub(crate) struct ProduceTopic {
    pub topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    counters: Option<Arc<TopicCounters>>,
}

/// What every partition of a request shares.
#[derive(Clone, Copy)]
pub(crate) struct ProduceTerms<'a> {
    pub version: i16,
    pub now_ms: i64,
    pub transactional_id: Option<&'a str>,
    /// What the coordinator said of partitions that transactions begin in.
    pub joined: &'a Joined,
}

/// Records in the log's queue.
pub(crate) struct Appended {
    append: Append,
    log_append_time_ms: i64,
}

/// Why a partition's records are not in the log.
#[derive(Default)]
pub(crate) struct Refused {
    pub code: ErrorCode,
    pub message: Option<String>,
    pub record_errors: Vec<RecordError>,
    pub log_start_offset: i64,
    /// That what this partition knows of producers made it so.
    judged_by: Option<Arc<Partition>>,
}

impl Refused {
    /// What a leader knows of producers is told by leaders only (R20): one that others have taken over from, and that has not heard of
    /// it, would end a producer for good that has written elsewhere since.
    pub async fn confirmed(self, broker: &Broker) -> Refused {
        let Some(partition) = &self.judged_by else { return self };
        let is_known = broker.know_ends().await.is_ok();
        let now = broker.log.partition(&partition.id());
        let leads = now.is_some_and(|now| Arc::ptr_eq(&now, partition)) && !partition.is_leaving();
        if is_known && leads { self } else { Refused::from(ErrorCode::NotLeaderOrFollower) }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused { code, log_start_offset: -1, ..Refused::default() }
    }
}

/// Where the records are, once they are durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
}

impl ProduceTopic {
    pub fn find(
        broker: &Broker,
        state: &State,
        topic: &Arc<Topic>,
        client_id: Option<&str>,
    ) -> Result<ProduceTopic, ErrorCode> {
        if topic.internal && client_id != Some(ADMIN_CLIENT_ID) {
            return Err(ErrorCode::InvalidTopicException);
        }
        Ok(ProduceTopic {
            topic: topic.clone(),
            config: broker.configs.topic(state, topic),
            counters: broker.counters().topic(topic),
        })
    }

    /// Judges ahead what has to be unpacked for it. None where that is not so, or where records are refused unseen.
    pub fn judge(
        &self,
        broker: &Broker,
        partition: i32,
        records: &Bytes,
        version: i16,
        now_ms: i64,
    ) -> Option<Judgement> {
        if matches!(self.config.compression, TopicCompression::Producer) && !is_compressed(records) {
            return None;
        }
        let rules = produce_rules(&self.config, version, now_ms);
        let is_due = is_unpacked(records, &rules)
            && led_here(&broker.log, broker.node_id, &self.topic, partition).is_ok();
        is_due.then(|| Judgement::of(records, rules))
    }

    /// Checks the records, unless that was done ahead, and puts them into the log's queue.
    pub fn append(
        &self,
        broker: &Broker,
        partition: i32,
        records: &Bytes,
        judged: Option<Judgement>,
        terms: ProduceTerms<'_>,
    ) -> Result<Appended, Refused> {
        let counters = broker.counters();
        counters.add(self.counters.as_deref(), |counters| &counters.produce_requests, 1);
        let result = self.try_append(broker, partition, records, judged, terms);
        match &result {
            Ok(appended) if !appended.append.duplicate => {
                count(counters, self.counters.as_deref(), records.len(), &appended.append)
            }
            Ok(_) => {}
            Err(_) => counters.add(self.counters.as_deref(), |counters| &counters.failed_produce_requests, 1),
        }
        result
    }

    fn try_append(
        &self,
        broker: &Broker,
        partition: i32,
        records: &Bytes,
        judged: Option<Judgement>,
        terms: ProduceTerms<'_>,
    ) -> Result<Appended, Refused> {
        let Led { partition, leader_epoch } = led_here(&broker.log, broker.node_id, &self.topic, partition)?;
        let accepted = match judged {
            Some(judged) => judged.found(),
            None => validate(records, &produce_rules(&self.config, terms.version, terms.now_ms)),
        };
        let accepted = accepted.map_err(|error| refused_records(&error, &partition))?;
        let Accepted { batch, log_append_time_ms, rewritten } = accepted;
        let is_new = broker.is_new_leader_of(&partition.id());
        let mut options =
            AppendOptions { leader_epoch, begins_producers: is_new, ..AppendOptions::default() };
        if batch.header.is_transactional() {
            let place = partition.id();
            let (verification, stamp) = match terms.transactional_id {
                Some(_) => terms.joined.of(&place).unwrap_or(Ok((Verification::Begun, NO_STAMP)))?,
                None => return Err(ErrorCode::TransactionalIdAuthorizationFailed.into()),
            };
            options.verification = verification;
            options.transaction_stamp = stamp;
        }
        if rewritten {
            broker.counters().batches_rewritten.fetch_add(1, Ordering::Relaxed);
        }
        let append = partition.append(batch, options).map_err(|error| match error {
            AppendError::OutOfOrderSequence { .. } if is_new => ErrorCode::NotLeaderOrFollower.into(),
            error => refused_append(&error, &partition),
        })?;
        Ok(Appended { append, log_append_time_ms })
    }
}

fn count(counters: &Counters, topic: Option<&TopicCounters>, bytes: usize, append: &Append) {
    let messages = (append.last_offset - append.base_offset + 1) as u64;
    counters.add(topic, |counters| &counters.messages_in, messages);
    counters.add(topic, |counters| &counters.bytes_in, bytes as u64);
}

fn refused_records(error: &ProduceError, partition: &Partition) -> Refused {
    Refused {
        code: error.error_code(),
        message: Some(error.to_string()),
        record_errors: error.record_errors().to_vec(),
        log_start_offset: partition.offsets().log_start,
        judged_by: None,
    }
}

fn refused_append(error: &AppendError, partition: &Arc<Partition>) -> Refused {
    Refused {
        code: append_error(error),
        message: Some(error.to_string()),
        record_errors: Vec::new(),
        log_start_offset: partition.offsets().log_start,
        judged_by: is_of_producers(error).then(|| partition.clone()),
    }
}

/// A batch of the broker's own making for a topic of clients; it has no producer. It is judged as theirs are.
pub(crate) struct OwnBatch<'a> {
    pub topic: &'a Arc<Topic>,
    pub index: i32,
    pub records: Bytes,
    pub now_ms: i64,
}

impl OwnBatch<'_> {
    pub fn append(
        &self,
        log: &CommitLog,
        node_id: i32,
        config: &TopicConfig,
        counters: &Counters,
    ) -> Result<Appended, Refused> {
        let Led { partition, leader_epoch } = led_here(log, node_id, self.topic, self.index)?;
        let rules = produce_rules(config, *ProduceRequest::VERSIONS.end(), self.now_ms);
        let Accepted { batch, log_append_time_ms, .. } =
            validate(&self.records, &rules).map_err(|error| refused_records(&error, &partition))?;
        let options = AppendOptions { leader_epoch, ..AppendOptions::default() };
        let append = partition.append(batch, options).map_err(|error| refused_append(&error, &partition))?;
        let of_topic = counters.topic(self.topic);
        count(counters, of_topic.as_deref(), self.records.len(), &append);
        Ok(Appended { append, log_append_time_ms })
    }
}

impl Appended {
    /// Waits until the records are durable.
    pub async fn committed(self) -> Result<Stored, Refused> {
        let Appended { append, log_append_time_ms } = self;
        let stored = Stored {
            base_offset: append.base_offset,
            // A duplicate is answered with the time of the original.
            log_append_time_ms: if log_append_time_ms < 0 { -1 } else { append.log_append_time },
            log_start_offset: append.log_start_offset,
        };
        match append.committed().await {
            Ok(()) => Ok(stored),
            Err(error) => Err(Refused {
                code: commit_error(&error),
                message: Some(error.to_string()),
                ..Refused::from(ErrorCode::None)
            }),
        }
    }
}

/// Does it say something of what other batches there are?
fn is_of_producers(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::OutOfOrderSequence { .. }
            | AppendError::InvalidProducerEpoch { .. }
            | AppendError::UnknownProducerId { .. }
            | AppendError::NotInTransaction { .. }
            | AppendError::NotVerified { .. }
    )
}

fn produce_rules(config: &TopicConfig, produce_version: i16, now_ms: i64) -> ProduceRules {
    ProduceRules {
        produce_version,
        now_ms,
        message_bytes_max: usize::try_from(config.max_message_bytes).unwrap_or(0),
        compression: codec(config.compression),
        timestamp_type: match config.timestamp_type {
            TopicTimestampType::CreateTime => TimestampType::CreateTime,
            TopicTimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        compacted: config.cleanup_policy.compact,
        decompressed_bytes_max: usize::try_from(config.max_decompressed_message_bytes).unwrap_or(0),
        check_compressed_records: false,
    }
}

/// `compression.type` as the judgement on batches takes it; `None` keeps what the producer chose.
fn codec(compression: TopicCompression) -> Option<(Compression, Option<i32>)> {
    match compression {
        TopicCompression::Producer => None,
        TopicCompression::Uncompressed => Some((Compression::None, None)),
        TopicCompression::Gzip { level } => Some((Compression::Gzip, Some(level))),
        TopicCompression::Snappy => Some((Compression::Snappy, None)),
        TopicCompression::Lz4 { level } => Some((Compression::Lz4, Some(level))),
        TopicCompression::Zstd { level } => Some((Compression::Zstd, Some(level))),
    }
}
