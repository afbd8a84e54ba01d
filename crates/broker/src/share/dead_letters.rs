//! Dead letters: what a share group gave up, put into a topic of its choice (KIP-1191). At least once: a letter whose write was not
//! answered is written again.
//!
//! ```text
//!   records given up ─▶ letters, one batch ─▶ partition (theirs modulo how many there are)
//!                                                 led here: appended      led elsewhere: 32011 to its leader, which appends
//!
//!   32011 DeadLetters 0   topic id · partition i32 · records: bytes   →   error code i16 · message (nullable)
//! ```
//! A letter says in headers where its record was and why it was given up, as text. With `errors.deadletterqueue.copy.record.enable` it
//! has the record's key and value, and not its headers, as in Kafka.
//!
//! Kafka: `ShareGroupDLQStateManager`, `ShareGroupDLQRecordFetcher`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::Topic;
use catalog::config::TopicConfig;
use commitlog::{Isolation, Partition, ReadError, ReadRequest};
use protocol::batch::{BatchBuilder, Header, record_len, split_batches};
use protocol::wire::{DecodeError, EncodeError, Reader, Writer};
use protocol::{ErrorCode, Str, Uuid};
use tokio::sync::Semaphore;

use super::SharingOptions;
use super::in_flight::{Cause, Dead};
use crate::error::ApiError;
use crate::freshness::may_be_stale;
use crate::peers::Others;
use crate::produce::{OwnBatch, Refused};
use crate::topics::NewTopic;

pub const DEAD_LETTERS: i16 = 32_011;

/// Of one write. What does not fit goes with the next one.
pub const RECORDS_PER_WRITE_MAX: i64 = 500;
/// A single letter may be larger, up to what its topic takes.
const BYTES_PER_WRITE_MAX: usize = 1 << 20;
/// Share partitions whose letters are written at the same time; others wait for their turn, with nothing of theirs read yet.
const WRITES_AT_ONCE_MAX: usize = 16;
/// A letter for another broker has to fit into a frame between brokers.
const CALL_BYTES_MAX: usize = 3 << 19;
/// Of one read of what was given up; a batch that is longer comes whole.
const READ_BYTES: usize = 256 << 10;
/// For a commit at another broker, which in a bucket takes as long as the store does.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Configs of a topic that is made for dead letters. Letters have the time at which they were written.
const TOPIC_CONFIGS: [(&str, &str); 2] =
    [("errors.deadletterqueue.group.enable", "true"), ("message.timestamp.type", "CreateTime")];

/// Kafka's texts, which consumers of dead letters may look for.
const REJECTED: &str = "Offset rejected by client.";
const DELIVERIES: &str = "Offset delivery count exceeded the threshold.";

pub struct DeadLetters {
    options: Arc<SharingOptions>,
    turns: Semaphore,
    are_stopped: AtomicBool,
    written: AtomicU64,
    writes: AtomicU64,
    failed_writes: AtomicU64,
    given_up: AtomicU64,
}

/// Since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    pub written: u64,
    pub writes: u64,
    pub failed_writes: u64,
    /// Records that are archived without a letter.
    pub given_up: u64,
}

/// Where records come from.
pub struct Origin<'a> {
    pub group: &'a Str,
    pub topic: Uuid,
    pub index: i32,
    pub partition: &'a Arc<Partition>,
    /// `share.delivery.count.limit`
    pub deliveries_max: i16,
}

pub enum Failure {
    TryAgain(String),
    /// Another try would end in the same way.
    GiveUp(String),
}

/// One try to write letters for the first of the records.
pub struct Tried {
    /// Those that it was about; never none.
    pub dead: Vec<Dead>,
    pub outcome: Result<(), Failure>,
}

impl Tried {
    pub fn last_offset(&self) -> i64 {
        self.dead.last().map_or(-1, |one| one.last_offset)
    }
}

/// Where letters go.
struct Place {
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    index: i32,
    leader: i32,
    copies: bool,
    source_name: Str,
    /// Of a batch with records that were given up.
    decompressed_bytes_max: usize,
}

#[derive(Default)]
struct Originals {
    records: BTreeMap<i64, (Option<Bytes>, Option<Bytes>)>,
    /// From here on nothing was read: there is enough.
    end: Option<i64>,
}

impl DeadLetters {
    pub fn new(options: Arc<SharingOptions>) -> Arc<DeadLetters> {
        Arc::new(DeadLetters {
            options,
            turns: Semaphore::new(WRITES_AT_ONCE_MAX),
            are_stopped: AtomicBool::new(false),
            written: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        })
    }

    /// The broker ends: what is not written is written by the next leader.
    pub fn stop(&self) {
        self.are_stopped.store(true, Ordering::Relaxed);
    }

    pub fn are_stopped(&self) -> bool {
        self.are_stopped.load(Ordering::Relaxed)
    }

    pub fn counts(&self) -> DeadLetterCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeadLetterCounts {
            written: load(&self.written),
            writes: load(&self.writes),
            failed_writes: load(&self.failed_writes),
            given_up: load(&self.given_up),
        }
    }

    pub fn gave_up(&self, dead: &[Dead]) {
        self.given_up.fetch_add(record_count(dead), Ordering::Relaxed);
    }

    /// Writes letters for as many of the records as fit into one batch. `is_last_try`: what cannot be read now is left out.
    pub async fn write(&self, origin: &Origin<'_>, dead: &[Dead], is_last_try: bool) -> Tried {
        let failed = |failure| Tried { dead: dead.to_vec(), outcome: Err(failure) };
        let place = match self.place(origin).await {
            Ok(place) => place,
            Err(failure) => return failed(failure),
        };
        let _turn = self.turns.acquire().await.expect("nobody closes it");
        let originals = match place.copies {
            true => self.originals(origin, dead, place.decompressed_bytes_max).await,
            false => Ok(Originals::default()),
        };
        let originals = match originals {
            Ok(originals) => originals,
            Err((_, originals)) if is_last_try => originals,
            Err((error, _)) => {
                return failed(Failure::TryAgain(format!("records cannot be read to be copied: {error}")));
            }
        };
        let (batch, dead) = match self.batch(origin, &place, dead, &originals) {
            Ok(built) => built,
            Err(error) => return failed(Failure::GiveUp(error.to_string())),
        };
        self.writes.fetch_add(1, Ordering::Relaxed);
        let outcome = match place.leader == self.options.node_id {
            true => self.append(&place.topic, place.index, batch).await,
            false => self.call(&place, batch).await,
        };
        let outcome = outcome.map_err(|error| {
            self.failed_writes.fetch_add(1, Ordering::Relaxed);
            if may_be_stale(error.code) {
                self.options.freshness.catch_up_soon();
            }
            failure(format!("{} does not take dead letters", place.topic.name), error)
        });
        if outcome.is_ok() {
            self.written.fetch_add(record_count(&dead), Ordering::Relaxed);
        }
        Tried { dead, outcome }
    }

    /// The checks are made for each try, since configs may change.
    async fn place(&self, origin: &Origin<'_>) -> Result<Place, Failure> {
        let SharingOptions { catalog, configs, freshness, .. } = &*self.options;
        let give_up = |why: String| Err(Failure::GiveUp(why));
        let (name, copies, broker) = {
            let state = catalog.read();
            let share = &configs.group(&state, origin.group).share;
            (share.dead_letter_topic.clone(), share.dead_letters_copy, configs.broker(&state))
        };
        let Some(name) = name.map(Str::from) else {
            return give_up("its group has no topic for dead letters any more".to_owned());
        };
        let prefix = broker.dead_letters_topic_name_prefix();
        if name.starts_with("__") || !name.starts_with(&prefix) {
            return give_up(format!(
                "{name} cannot be a topic for dead letters: their names begin with {prefix}"
            ));
        }
        let is_there = || catalog.read().topic(&name).is_some();
        // Another broker may have made it a moment ago.
        let is_known = is_there() || freshness.catch_up().await && is_there();
        if !is_known {
            if !broker.dead_letters_auto_create_topics_enable() {
                return give_up(format!("there is no topic {name}, and it is not to be made"));
            }
            self.create(&name).await?;
        }
        let state = catalog.read();
        let Some(topic) = state.topic(&name).cloned() else {
            return Err(Failure::TryAgain(format!("{name} is not there yet")));
        };
        let config = configs.topic(&state, &topic);
        if !config.takes_dead_letters {
            return give_up(format!("{name} takes no dead letters (errors.deadletterqueue.group.enable)"));
        }
        let index = origin.index as usize % topic.partitions.len().max(1);
        let Some(info) = topic.partitions.get(index) else {
            return give_up(format!("{name} has no partitions"));
        };
        let source = state.topic_by_id(origin.topic);
        Ok(Place {
            index: index as i32,
            leader: info.leader,
            copies,
            source_name: source.map_or_else(|| origin.topic.to_string().into(), |source| source.name.clone()),
            decompressed_bytes_max: source.map_or(0, |source| {
                usize::try_from(configs.topic(&state, source).max_decompressed_message_bytes).unwrap_or(0)
            }),
            config,
            topic,
        })
    }

    async fn create(&self, name: &Str) -> Result<(), Failure> {
        let SharingOptions { catalog, topics, .. } = &*self.options;
        let configs =
            TOPIC_CONFIGS.map(|(key, value)| (Str::from_static(key), Some(Str::from_static(value))));
        let new = NewTopic { configs: configs.to_vec(), ..NewTopic::with_defaults(name.clone()) };
        let what = || format!("{name} cannot be made");
        let planned = topics.plan(&catalog.read(), &new);
        let made = match planned {
            Ok(planned) => topics.create(&[planned]).await.pop().expect("one answer for one topic"),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => tracing::info!(topic = %name, "topic created for dead letters"),
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
            Err(error) => return Err(failure(what(), error)),
        }
        Ok(())
    }

    /// Keys and values of the records, as far as they are there and are enough for a write. An error comes with what was read before.
    async fn originals(
        &self,
        origin: &Origin<'_>,
        dead: &[Dead],
        decompressed_bytes_max: usize,
    ) -> Result<Originals, (ReadError, Originals)> {
        let mut originals = Originals::default();
        let mut bytes = 0;
        let mut wanted = next_dead(dead, 0);
        while let Some(offset) = wanted {
            if bytes >= BYTES_PER_WRITE_MAX {
                originals.end = Some(offset);
                break;
            }
            let request = ReadRequest {
                offset,
                max_bytes: READ_BYTES,
                min_one_batch: true,
                isolation: Isolation::ReadUncommitted,
            };
            let records = match origin.partition.read(request).await {
                Ok(read) => read.records,
                // Retention has taken it, or it is damaged: nobody will ever read it.
                Err(ReadError::OutOfRange { .. } | ReadError::Damaged { .. } | ReadError::Missing { .. }) => {
                    wanted = next_dead(dead, offset + 1);
                    continue;
                }
                Err(error) => return Err((error, originals)),
            };
            let mut read_to = offset;
            for batch in records.segments().iter().flat_map(split_batches).map_while(Result::ok) {
                if bytes >= BYTES_PER_WRITE_MAX {
                    break;
                }
                let is_wanted = next_dead(dead, batch.header.base_offset)
                    .is_some_and(|offset| offset <= batch.header.last_offset());
                if is_wanted && !batch.header.is_control() {
                    for record in batch.records(decompressed_bytes_max).map_while(Result::ok) {
                        if next_dead(dead, record.offset) == Some(record.offset) {
                            // Copies: a slice would hold the whole batch.
                            let copy = |part: &Option<Bytes>| part.as_deref().map(Bytes::copy_from_slice);
                            let (key, value) = (copy(&record.key), copy(&record.value));
                            bytes +=
                                key.as_ref().map_or(0, Bytes::len) + value.as_ref().map_or(0, Bytes::len);
                            originals.records.insert(record.offset, (key, value));
                        }
                    }
                }
                read_to = read_to.max(batch.header.next_offset());
            }
            // An empty read: the log has nothing there.
            wanted = next_dead(dead, read_to.max(offset + 1));
        }
        Ok(originals)
    }

    /// Letters for the first of the records, and for which.
    fn batch(
        &self,
        origin: &Origin<'_>,
        place: &Place,
        dead: &[Dead],
        originals: &Originals,
    ) -> Result<(Bytes, Vec<Dead>), protocol::batch::BatchError> {
        let letter_bytes_max = {
            let of_topic = usize::try_from(place.config.max_message_bytes).unwrap_or(0);
            if place.leader == self.options.node_id { of_topic } else { of_topic.min(CALL_BYTES_MAX) }
        };
        let now_ms = self.options.clock.now_ms();
        let mut builder = BatchBuilder::new();
        let mut written: Vec<Dead> = Vec::new();
        for one in dead {
            for offset in one.first_offset..=one.last_offset {
                let is_first = builder.is_empty();
                if !is_first && originals.end.is_some_and(|end| offset >= end) {
                    return Ok((builder.build()?, written));
                }
                let headers = headers(origin, place, one, offset);
                let (mut key, mut value) = originals
                    .records
                    .get(&offset)
                    .map_or((None, None), |(key, value)| (key.as_deref(), value.as_deref()));
                let with = builder.uncompressed_len() + record_len(key, value, &headers);
                if !is_first && with > letter_bytes_max.min(BYTES_PER_WRITE_MAX) {
                    return Ok((builder.build()?, written));
                }
                if with > letter_bytes_max {
                    // Where it was is more than nothing. Kafka writes no letter then.
                    tracing::warn!(group = %origin.group, topic = %place.source_name, offset,
                        "a record does not fit into a dead letter, which says only where it was");
                    (key, value) = (None, None);
                }
                builder.append(now_ms, key, value, &headers)?;
                match written.last_mut() {
                    Some(last) if last.first_offset == one.first_offset => last.last_offset = offset,
                    _ => written.push(Dead { last_offset: offset, ..*one }),
                }
            }
        }
        Ok((builder.build()?, written))
    }

    /// To a partition that is led here.
    async fn append(&self, topic: &Arc<Topic>, index: i32, records: Bytes) -> Result<(), ApiError> {
        let SharingOptions { node_id, clock, log, catalog, configs, counters, .. } = &*self.options;
        // As connections do before they hand over what is to be produced.
        log.room().await;
        let config = configs.topic(&catalog.read(), topic);
        let batch = OwnBatch { topic, index, records, now_ms: clock.now_ms() };
        let appended = batch.append(log, *node_id, &config, counters);
        let stored = match appended {
            Ok(appended) => appended.committed().await,
            Err(refused) => Err(refused),
        };
        stored
            .map(drop)
            .map_err(|Refused { code, message, .. }| ApiError { code, message: message.map(Str::from) })
    }

    async fn call(&self, place: &Place, records: Bytes) -> Result<(), ApiError> {
        let others = self.options.others.as_ref();
        let peer = Others::of(&self.options.catalog.read(), place.leader);
        let (Some(others), Some(peer)) = (others, peer) else {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        };
        let body = encode(place.topic.id, place.index, &records);
        let answer = others.peers.clone().transactions(peer, DEAD_LETTERS, body, ANSWER_MAX).await;
        let answered = answer.map(decode_answer).and_then(Result::ok);
        // Nobody knows whether it has written them.
        answered.unwrap_or_else(|| Err(ErrorCode::RequestTimedOut.into()))
    }

    /// Letters of another broker for a partition that is led here. None: it cannot be understood.
    pub async fn answer(&self, body: Bytes) -> Option<Bytes> {
        let (topic_id, index, records) = decode(body).ok()?;
        let SharingOptions { catalog, freshness, .. } = &*self.options;
        let find = || catalog.read().topic_by_id(topic_id).cloned();
        let topic = match find() {
            Some(topic) => Some(topic),
            None => {
                if freshness.catch_up().await {
                    find()
                } else {
                    None
                }
            }
        };
        let appended = match topic {
            Some(topic) if !topic.internal => self.append(&topic, index, records).await,
            Some(_) => Err(ErrorCode::InvalidTopicException.into()),
            None => Err(ErrorCode::UnknownTopicOrPartition.into()),
        };
        if matches!(&appended, Err(error) if may_be_stale(error.code)) {
            freshness.catch_up_soon();
        }
        encode_answer(&appended).ok()
    }
}

/// Kafka's headers, all of them text.
fn headers(origin: &Origin<'_>, place: &Place, dead: &Dead, offset: i64) -> [Header; 6] {
    let cause = match dead.cause {
        Cause::Rejected => REJECTED,
        Cause::Deliveries => DELIVERIES,
        // As Kafka guesses it.
        Cause::NotKnown if dead.delivery_count >= origin.deliveries_max => DELIVERIES,
        Cause::NotKnown => REJECTED,
    };
    let header =
        |key: &'static str, value: String| Header::new(Bytes::from_static(key.as_bytes()), Some(value));
    [
        header("__dlq.errors.topic", place.source_name.to_string()),
        header("__dlq.errors.partition", origin.index.to_string()),
        header("__dlq.errors.offset", offset.to_string()),
        header("__dlq.errors.group", origin.group.to_string()),
        header("__dlq.errors.delivery.count", dead.delivery_count.to_string()),
        header("__dlq.errors.message", cause.to_owned()),
    ]
}

/// The first of the offsets that is not before `from`.
fn next_dead(dead: &[Dead], from: i64) -> Option<i64> {
    let at = dead.partition_point(|one| one.last_offset < from);
    dead.get(at).map(|one| one.first_offset.max(from))
}

fn record_count(dead: &[Dead]) -> u64 {
    dead.iter().map(|one| one.last_offset.abs_diff(one.first_offset) + 1).sum()
}

fn failure(what: String, ApiError { code, message }: ApiError) -> Failure {
    let why = match message {
        Some(message) => format!("{what}: {code:?}, {message}"),
        None => format!("{what}: {code:?}"),
    };
    let is_final = matches!(
        code,
        ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::CorruptMessage
            | ErrorCode::InvalidTopicException
            | ErrorCode::InvalidPartitions
            | ErrorCode::InvalidReplicationFactor
            | ErrorCode::InvalidConfig
            | ErrorCode::InvalidRequest
            | ErrorCode::PolicyViolation
    );
    if is_final { Failure::GiveUp(why) } else { Failure::TryAgain(why) }
}

fn encode(topic_id: Uuid, index: i32, records: &Bytes) -> Bytes {
    let mut out = Writer::new();
    out.uuid(topic_id);
    out.i32(index);
    out.i32(records.len() as i32);
    out.attach(records);
    out.into_bytes()
}

fn decode(body: Bytes) -> Result<(Uuid, i32, Bytes), DecodeError> {
    let mut body = Reader::new(body);
    let letters = (body.uuid()?, body.i32()?, body.bytes(false)?);
    body.expect_end()?;
    Ok(letters)
}

fn encode_answer(answer: &Result<(), ApiError>) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    let (code, message) = match answer {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, error.message.as_ref()),
    };
    out.i16(code.code());
    match message {
        Some(message) => out.string(false, message)?,
        None => out.null_string(false),
    }
    Ok(out.into_bytes())
}

fn decode_answer(body: Bytes) -> Result<Result<(), ApiError>, DecodeError> {
    let mut body = Reader::new(body);
    // One that a newer release has made up is an error all the same.
    let code = ErrorCode::try_from(body.i16()?).unwrap_or(ErrorCode::UnknownServerError);
    let message = body.nullable_string(false)?;
    body.expect_end()?;
    Ok(match code {
        ErrorCode::None => Ok(()),
        code => Err(ApiError { code, message }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let records = Bytes::from_static(b"a batch");
        let bytes = encode(Uuid([7; 16]), 3, &records);
        assert_eq!(decode(bytes.clone()).unwrap(), (Uuid([7; 16]), 3, records));
        assert!(decode(bytes.slice(..bytes.len() - 1)).is_err());
        for answer in [
            Ok(()),
            Err(ApiError::new(ErrorCode::InvalidRecord, "why")),
            Err(ErrorCode::UnknownServerError.into()),
        ] {
            let bytes = encode_answer(&answer).unwrap();
            assert_eq!(decode_answer(bytes.clone()).unwrap(), answer);
            assert!(decode_answer(bytes.slice(..bytes.len() - 1)).is_err());
        }
    }

    #[test]
    fn offsets_that_wait_are_found_one_after_the_other() {
        let dead = |first_offset, last_offset| Dead {
            first_offset,
            last_offset,
            delivery_count: 1,
            cause: Cause::Rejected,
            is_kept: true,
        };
        let all = [dead(3, 4), dead(7, 7)];
        let found: Vec<_> = (2..9).map(|from| next_dead(&all, from)).collect();
        assert_eq!(found, [Some(3), Some(3), Some(4), Some(7), Some(7), Some(7), None]);
        assert_eq!(record_count(&all), 3);
    }
}
