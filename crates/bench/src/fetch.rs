//! Readers: every group reads all partitions, through incremental fetch sessions as consumers do. What is read is checked
//! for gaps and repeats and thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use client::{Isolation, OffsetSpec, TopicPartition};
use protocol::batch::{Batch, split_batches};
use protocol::messages::FetchRequest;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::{ErrorCode, Str};
use serde::Serialize;
use tokio::sync::watch;

use crate::batches::{now_micros, stamp_of};
use crate::connection::{ask, connect, error_code};
use crate::latency::{Latencies, Summary};
use crate::topic::{Topic, admin};

#[derive(Clone)]
pub struct Readers {
    pub address: String,
    pub topic: Topic,
    pub groups: usize,
    /// Connections of one group; they share the partitions.
    pub readers: usize,
    pub from: From,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start,
    End,
}

impl Readers {
    /// As kafka-clients asks if nobody configures it.
    pub fn new(address: &str, topic: &Topic) -> Readers {
        Readers {
            address: address.to_owned(),
            topic: topic.clone(),
            groups: 1,
            readers: 1,
            from: From::Start,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
        }
    }
}

/// When the readers stop. They look after every answer, so at the latest after `max_wait_ms`.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Told,
    /// Every group has read as many records.
    Records(u64),
    /// Every group has read as many bytes.
    Bytes(u64),
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// To the last record.
    pub seconds: f64,
    pub requests: u64,
    pub empty_answers: u64,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    /// Sessions that the broker had forgotten.
    pub sessions_lost: u64,
    /// From the stamps; none if there are none.
    pub latency: Summary,
}

impl Outcome {
    pub fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }
}

const FETCH_VERSION: i16 = 16;

/// Readers that are under way.
pub struct Running {
    tasks: Vec<tokio::task::JoinHandle<Result<Part>>>,
    until: watch::Sender<Option<Until>>,
    start: Instant,
}

/// Starts the readers: when this returns, each knows where it begins.
pub async fn start(readers: &Readers) -> Result<Running> {
    ensure!(readers.groups > 0 && readers.readers > 0, "nobody would read");
    let offsets = offsets(readers).await?;
    let (until, told) = watch::channel(None);
    let mut tasks = Vec::new();
    for _ in 0..readers.groups {
        let progress = Arc::new(Progress::default());
        for index in 0..readers.readers {
            let mine: BTreeMap<i32, Cursor> = offsets
                .iter()
                .filter(|(partition, _)| **partition as usize % readers.readers == index)
                .map(|(partition, offset)| (*partition, Cursor { next_offset: *offset }))
                .collect();
            if mine.is_empty() {
                continue;
            }
            let (readers, told, progress) = (readers.clone(), told.clone(), progress.clone());
            tasks.push(tokio::spawn(async move { Reader::new(readers, mine, progress).run(told).await }));
        }
    }
    Ok(Running { tasks, until, start: Instant::now() })
}

impl Running {
    /// Waits until all have read what they shall, but not longer than `limit`.
    pub async fn finish(self, until: Until, limit: Duration) -> Result<Outcome> {
        self.until.send_replace(Some(until));
        let mut outcome = Outcome::default();
        let mut latencies = Latencies::default();
        let aborts: Vec<_> = self.tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect();
        let all = async {
            for task in self.tasks {
                let part = task.await??;
                outcome.requests += part.outcome.requests;
                outcome.empty_answers += part.outcome.empty_answers;
                outcome.batches += part.outcome.batches;
                outcome.records += part.outcome.records;
                outcome.bytes += part.outcome.bytes;
                outcome.sessions_lost += part.outcome.sessions_lost;
                latencies.add(&part.latencies);
                if let Some(at) = part.last_record_at {
                    outcome.seconds = outcome.seconds.max((at - self.start).as_secs_f64());
                }
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(limit, all).await {
            Ok(done) => done?,
            Err(_) => {
                aborts.iter().for_each(tokio::task::AbortHandle::abort);
                bail!("the readers did not get {until:?} within {limit:?}");
            }
        }
        outcome.latency = latencies.summary();
        Ok(outcome)
    }
}

/// Where every partition is read from.
async fn offsets(readers: &Readers) -> Result<BTreeMap<i32, i64>> {
    let spec = match readers.from {
        From::Start => OffsetSpec::Earliest,
        From::End => OffsetSpec::Latest,
    };
    let asked: BTreeMap<TopicPartition, OffsetSpec> = (0..readers.topic.partitions)
        .map(|partition| (TopicPartition::new(&readers.topic.name, partition), spec))
        .collect();
    let answers = admin(&readers.address).list_offsets(&asked, Isolation::ReadUncommitted).await?;
    answers.into_iter().map(|(at, answer)| Ok((at.partition, answer?.offset))).collect()
}

/// What a group has read.
#[derive(Default)]
struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Part {
    outcome: Outcome,
    latencies: Latencies,
    last_record_at: Option<Instant>,
}

struct Reader {
    readers: Readers,
    cursors: BTreeMap<i32, Cursor>,
    progress: Arc<Progress>,
    session: Session,
    part: Part,
}

/// An incremental fetch session (KIP-227): the broker remembers the partitions, a request names what changed.
#[derive(Default)]
struct Session {
    id: i32,
    epoch: i32,
}

impl Reader {
    fn new(readers: Readers, cursors: BTreeMap<i32, Cursor>, progress: Arc<Progress>) -> Reader {
        Reader { readers, cursors, progress, session: Session::default(), part: Part::default() }
    }

    async fn run(mut self, told: watch::Receiver<Option<Until>>) -> Result<Part> {
        let mut connection = connect(&self.readers.address).await?;
        let mut changed: Vec<i32> = self.cursors.keys().copied().collect();
        while !self.done(*told.borrow()) {
            let request = self.request(&changed);
            let answer = ask(&mut connection, &request, FETCH_VERSION).await?;
            self.part.outcome.requests += 1;
            match error_code(answer.error_code) {
                ErrorCode::None => {}
                ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch => {
                    self.part.outcome.sessions_lost += 1;
                    self.session = Session::default();
                    changed = self.cursors.keys().copied().collect();
                    continue;
                }
                code => bail!("fetch: {code}"),
            }
            // Without a session every request names everything.
            self.session.id = answer.session_id;
            self.session.epoch = if answer.session_id == 0 { 0 } else { self.session.epoch % i32::MAX + 1 };
            changed.clear();
            let arrived = Arrived { at: Instant::now(), micros: now_micros() };
            for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                let index = partition.partition_index;
                ensure!(partition.error_code == 0, "{index}: {}", error_code(partition.error_code));
                let Some(records) = partition.records.as_ref().filter(|records| !records.is_empty()) else {
                    continue;
                };
                let cursor = self.cursors.get_mut(&index).context("a partition that was not asked for")?;
                let read = cursor.advance(&records.to_bytes(), |batch| {
                    if let Some(stamp) = stamp_of(&batch.bytes) {
                        self.part.latencies.note(Duration::from_micros(arrived.micros.saturating_sub(stamp)));
                    }
                });
                let read = read.with_context(|| format!("partition {index}"))?;
                changed.push(index);
                self.part.outcome.batches += read.batches;
                self.part.outcome.records += read.records;
                self.part.outcome.bytes += read.bytes;
                self.progress.records.fetch_add(read.records, Ordering::Relaxed);
                self.progress.bytes.fetch_add(read.bytes, Ordering::Relaxed);
                self.part.last_record_at = Some(arrived.at);
            }
            if changed.is_empty() {
                self.part.outcome.empty_answers += 1;
            }
            if self.session.id == 0 {
                changed = self.cursors.keys().copied().collect();
            }
        }
        Ok(self.part)
    }

    fn done(&self, until: Option<Until>) -> bool {
        match until {
            None => false,
            Some(Until::Told) => true,
            Some(Until::Records(records)) => self.progress.records.load(Ordering::Relaxed) >= records,
            Some(Until::Bytes(bytes)) => self.progress.bytes.load(Ordering::Relaxed) >= bytes,
        }
    }

    fn request(&self, changed: &[i32]) -> FetchRequest {
        let readers = &self.readers;
        let partitions: Vec<_> = changed
            .iter()
            .map(|partition| FetchPartition {
                partition: *partition,
                fetch_offset: self.cursors[partition].next_offset,
                partition_max_bytes: readers.partition_max_bytes,
                ..Default::default()
            })
            .collect();
        let topic = FetchTopic { topic: Str::default(), topic_id: readers.topic.id, partitions };
        FetchRequest {
            max_wait_ms: readers.max_wait_ms,
            min_bytes: readers.min_bytes,
            max_bytes: readers.max_bytes,
            session_id: self.session.id,
            session_epoch: self.session.epoch,
            topics: if changed.is_empty() { Vec::new() } else { vec![topic] },
            ..Default::default()
        }
    }
}

struct Arrived {
    at: Instant,
    micros: u64,
}

/// Where a partition is read, and that nothing is left out and nothing comes twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Cursor {
    pub next_offset: i64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Advance {
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
}

impl Cursor {
    /// Takes the batches of an answer. The first one may begin before the offset that was asked for; a last one that is
    /// cut off comes again.
    pub fn advance(&mut self, records: &Bytes, mut each: impl FnMut(&Batch)) -> Result<Advance> {
        let mut advance = Advance::default();
        for batch in split_batches(records) {
            let batch = batch?;
            let header = &batch.header;
            let fits = if advance.batches == 0 {
                header.base_offset <= self.next_offset && self.next_offset < header.next_offset()
            } else {
                header.base_offset == self.next_offset
            };
            ensure!(
                fits,
                "offsets {} to {} where {} was due",
                header.base_offset,
                header.last_offset(),
                self.next_offset
            );
            advance.batches += 1;
            advance.records += (header.next_offset() - self.next_offset.max(header.base_offset)) as u64;
            advance.bytes += batch.bytes.len() as u64;
            self.next_offset = header.next_offset();
            each(&batch);
        }
        Ok(advance)
    }
}

/// Records that lie before these readers.
pub async fn there(readers: &Readers) -> Result<u64> {
    let begin = offsets(readers).await?;
    let end = offsets(&Readers { from: From::End, ..readers.clone() }).await?;
    Ok(end.iter().map(|(partition, end)| (end - begin[partition]) as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::batch::BatchBuilder;

    /// A batch of `count` records at `offset`.
    fn batch(offset: i64, count: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(offset);
        for _ in 0..count {
            builder.append(0, None, Some(b"value"), &[]).unwrap();
        }
        builder.build().unwrap().to_vec()
    }

    fn advance(from: i64, batches: &[Vec<u8>]) -> (Result<Advance>, i64) {
        let mut cursor = Cursor { next_offset: from };
        let read = cursor.advance(&Bytes::from(batches.concat()), |_| {});
        (read, cursor.next_offset)
    }

    #[test]
    fn batches_in_a_row_are_counted() {
        let (read, next) = advance(10, &[batch(10, 3), batch(13, 1)]);
        let read = read.unwrap();
        assert_eq!((read.batches, read.records, next), (2, 4, 14));
    }

    #[test]
    fn an_answer_may_begin_within_a_batch_and_end_within_one() {
        //  10 11 12 │ 13 14 │ 15 …       asked for 12; the third batch is cut off
        let mut cut = batch(15, 2);
        cut.truncate(70);
        let (read, next) = advance(12, &[batch(10, 3), batch(13, 2), cut]);
        assert_eq!((read.unwrap().records, next), (3, 15));
    }

    #[test]
    fn a_gap_and_a_repeat_are_found() {
        assert!(advance(10, &[batch(11, 1)]).0.is_err(), "the first record is missing");
        assert!(advance(10, &[batch(10, 1), batch(12, 1)]).0.is_err(), "one in between is missing");
        assert!(advance(10, &[batch(10, 2), batch(10, 2)]).0.is_err(), "a batch comes twice");
        assert!(advance(10, &[batch(5, 5)]).0.is_err(), "an old batch");
        assert!(advance(10, &[batch(10, 2), batch(11, 2)]).0.is_err(), "a record comes twice");
    }
}
