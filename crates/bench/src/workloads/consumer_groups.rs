//! Workload 14: consumer groups of the new protocol (KIP-848).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::{ConsumerGroupHeartbeatRequest, FetchRequest, OffsetCommitRequest};
use protocol::{ErrorCode, Str};

use super::{ONE_BROKER, coordinated, delete, topic, usual};
use crate::connection::{Receiver, Sender, ask, connect, error_code};
use crate::fetch::Cursor;
use crate::latency::Latencies;
use crate::load::{self, Amount};
use crate::run::{Case, Run};
use crate::subject::Subject;
use crate::topic::Topic;

pub const ABOUT: &str = "Members on a connection each. \"Heartbeats\": 100 members join a group on 1,000 partitions, each heartbeat following \
    the answer to the one before, until every partition is owned by one of them; then they go on for three seconds. \"Reading\": ten \
    members join, then read 400 MB of 1 KB records from 100 partitions, commit after every answer what they have read, and check that \
    nothing is missing or comes twice.";

const MEMBERS: usize = 100;
const PARTITIONS: i32 = 1000;
const BEATING: Duration = Duration::from_secs(3);
const READERS: usize = 10;
const READ_PARTITIONS: i32 = 100;
const READ_BYTES: u64 = 400_000_000;
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

const HEARTBEAT_VERSION: i16 = 1;
const FETCH_VERSION: i16 = 16;
const OFFSET_COMMIT_VERSION: i16 = 9;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// Less than the session's time, which is 45 s in both.
const BEATS_WHILE_READING: Duration = Duration::from_secs(5);
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// Every run has a group of its own.
static GROUPS: AtomicU64 = AtomicU64::new(0);

pub async fn run(run: &mut Run) -> Result<()> {
    let mut subjects = Vec::new();
    for kind in run.one_of_each() {
        let mut subject = Subject::new(kind, &run.plan.places, &ONE_BROKER)?;
        subject.start()?;
        subjects.push(subject);
    }
    let case = Case::new(14, "100 members, heartbeats");
    if run.wants(&case) {
        for subject in &subjects {
            heartbeats(subject).await?;
        }
        run.rounds(&case, &mut subjects, async |run, subject| {
            let watched = run.watch(subject)?;
            let beats = heartbeats(subject).await?;
            let (used, _) = watched.usage()?;
            let latency = beats.latencies.summary();
            Ok(vec![
                ("ms until all is owned", beats.settled.as_secs_f64() * 1000.0),
                ("heartbeats/s", beats.count as f64 / BEATING.as_secs_f64()),
                ("p50 ms", latency.p50_ms),
                ("p99 ms", latency.p99_ms),
                ("CPU-ms per 1,000 heartbeats", used.cpu_seconds() * 1e6 / beats.all as f64),
            ])
        })
        .await?;
        delete(&subjects, "members").await?;
    }
    let case = Case::new(14, "10 members, reading");
    if run.wants(&case) {
        let mut records = BTreeMap::new();
        for subject in &subjects {
            let topic = topic(subject, "read", READ_PARTITIONS).await?;
            let amount = Amount { bytes: Some(READ_BYTES), seconds: None };
            let produced = load::run(&usual(subject, &topic, amount)).await?;
            records.insert(subject.kind, produced.records);
            reading(subject, produced.records).await?;
        }
        run.rounds(&case, &mut subjects, async |run, subject| {
            let watched = run.watch(subject)?;
            let read = reading(subject, records[&subject.kind]).await?;
            let (used, _) = watched.usage()?;
            let (commit, gigabytes) = (read.commits.summary(), read.bytes as f64 / 1e9);
            Ok(vec![
                ("MB/s", read.bytes as f64 / 1e6 / read.seconds),
                ("commit p50 ms", commit.p50_ms),
                ("commit p99 ms", commit.p99_ms),
                ("commits", commit.count as f64),
                ("CPU-s per GB", used.cpu_seconds() / gigabytes),
            ])
        })
        .await?;
        delete(&subjects, "read").await?;
    }
    Ok(())
}

#[derive(Default)]
struct Beats {
    settled: Duration,
    /// After that.
    count: u64,
    all: u64,
    latencies: Latencies,
}

async fn heartbeats(subject: &Subject) -> Result<Beats> {
    let topic = topic(subject, "members", PARTITIONS).await?;
    let mut members = join(subject, &topic, MEMBERS).await?;
    let began = Instant::now();
    let all = settle(&mut members).await?;
    let settled = began.elapsed();
    let until = Instant::now() + BEATING;
    let beating = members.iter_mut().map(|member| async move {
        let mut latencies = Latencies::default();
        while Instant::now() < until {
            let began = Instant::now();
            member.beat().await?;
            latencies.note(began.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let mut beats = Beats { settled, ..Beats::default() };
    for latencies in try_join_all(beating).await? {
        beats.latencies.add(&latencies);
    }
    beats.count = beats.latencies.summary().count;
    beats.all = beats.count + all;
    leave(members).await?;
    Ok(beats)
}

#[derive(Default)]
struct Read {
    seconds: f64,
    bytes: u64,
    records: u64,
    commits: Latencies,
}

async fn reading(subject: &Subject, records: u64) -> Result<Read> {
    let topic = topic(subject, "read", READ_PARTITIONS).await?;
    let mut members = join(subject, &topic, READERS).await?;
    settle(&mut members).await?;
    let left = AtomicU64::new(records);
    let began = Instant::now();
    let parts = try_join_all(members.iter_mut().map(|member| member.read(&subject.address, &left))).await?;
    let mut read = Read { seconds: began.elapsed().as_secs_f64(), ..Read::default() };
    for part in parts {
        read.bytes += part.bytes;
        read.records += part.records;
        read.commits.add(&part.commits);
    }
    ensure!(read.records == records, "{} records of {records}", read.records);
    leave(members).await?;
    Ok(read)
}

struct Member<'a> {
    connection: (Sender, Receiver),
    topic: &'a Topic,
    group: Str,
    id: Str,
    epoch: i32,
    owned: Vec<i32>,
    /// It has joined, and what it owns has to be told.
    has_news: bool,
}

async fn join<'a>(subject: &Subject, topic: &'a Topic, count: usize) -> Result<Vec<Member<'a>>> {
    let group = Str::from(format!("bench-{}", GROUPS.fetch_add(1, Ordering::Relaxed)));
    let mut members = Vec::new();
    for index in 0..count {
        let mut connection = connect(&subject.address).await?;
        coordinated(&mut connection, 0, &group).await?;
        let (group, id) = (group.clone(), Str::from(format!("member-{index}")));
        members.push(Member {
            connection,
            topic,
            group,
            id,
            epoch: JOINS,
            owned: Vec::new(),
            has_news: true,
        });
    }
    Ok(members)
}

/// Rounds of heartbeats until every partition is owned and nothing changes any more. How many those were.
async fn settle(members: &mut [Member<'_>]) -> Result<u64> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let mut beats = 0;
    loop {
        let changed = try_join_all(members.iter_mut().map(Member::beat)).await?;
        beats += members.len() as u64;
        let owned: usize = members.iter().map(|member| member.owned.len()).sum();
        let all = members.first().map_or(0, |member| member.topic.partitions as usize);
        if owned == all && !changed.contains(&true) {
            let mut each: Vec<i32> = members.iter().flat_map(|member| member.owned.iter().copied()).collect();
            each.sort_unstable();
            ensure!(each.iter().copied().eq(0..all as i32), "partitions with two owners");
            return Ok(beats);
        }
        ensure!(Instant::now() < deadline, "{owned} of {all} partitions are owned");
    }
}

async fn leave(members: Vec<Member<'_>>) -> Result<()> {
    try_join_all(members.into_iter().map(|mut member| async move {
        member.epoch = LEAVES;
        member.beat().await
    }))
    .await
    .map(drop)
}

impl Member<'_> {
    /// A heartbeat, and what it says of our partitions. Whether they have changed.
    async fn beat(&mut self) -> Result<bool> {
        let is_joining = self.epoch == JOINS;
        let owned = TopicPartitions { topic_id: self.topic.id, partitions: self.owned.clone() };
        let told = match self.owned.is_empty() {
            true => Vec::new(),
            false => vec![owned],
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if is_joining { REBALANCE_TIMEOUT_MS } else { -1 },
            subscribed_topic_names: is_joining.then(|| vec![self.topic.name.clone()]),
            topic_partitions: self.has_news.then_some(told),
            ..Default::default()
        };
        let answer = ask(&mut self.connection, &request, HEARTBEAT_VERSION).await?;
        match error_code(answer.error_code) {
            ErrorCode::None => {}
            // A coordinator that has just been found may still be loading.
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator if is_joining => {
                return Ok(true);
            }
            code => bail!("{} in {}: {code} {:?}", self.id, self.group, answer.error_message),
        }
        let had_another_epoch = self.epoch != answer.member_epoch;
        self.epoch = answer.member_epoch;
        self.has_news = false;
        if let Some(assignment) = answer.assignment {
            let mut now: Vec<i32> =
                assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
            now.sort_unstable();
            self.has_news = now != self.owned;
            self.owned = now;
        }
        Ok(self.has_news || had_another_epoch)
    }

    /// Reads what it owns from the start until nothing is left for anybody.
    async fn read(&mut self, address: &str, left: &AtomicU64) -> Result<Read> {
        let mut connection = connect(address).await?;
        let mut cursors: BTreeMap<i32, Cursor> =
            self.owned.iter().map(|partition| (*partition, Cursor { next_offset: 0 })).collect();
        let mut read = Read::default();
        let mut beaten = Instant::now();
        while left.load(Ordering::Relaxed) > 0 {
            let answer = ask(&mut connection, &self.fetch(&cursors), FETCH_VERSION).await?;
            ensure!(answer.error_code == 0, "fetch: {}", error_code(answer.error_code));
            let mut advanced = Vec::new();
            for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                let index = partition.partition_index;
                ensure!(partition.error_code == 0, "{index}: {}", error_code(partition.error_code));
                let Some(records) = partition.records.as_ref().filter(|records| !records.is_empty()) else {
                    continue;
                };
                let cursor = cursors.get_mut(&index).context("a partition that was not asked for")?;
                let more = cursor
                    .advance(&records.to_bytes(), |_| {})
                    .with_context(|| format!("partition {index}"))?;
                read.bytes += more.bytes;
                read.records += more.records;
                left.fetch_sub(more.records, Ordering::Relaxed);
                advanced.push((index, cursor.next_offset));
            }
            if !advanced.is_empty() {
                let began = Instant::now();
                self.commit(&advanced).await?;
                read.commits.note(began.elapsed());
            }
            if beaten.elapsed() > BEATS_WHILE_READING {
                ensure!(!self.beat().await?, "the group changes while it reads");
                beaten = Instant::now();
            }
        }
        Ok(read)
    }

    /// Without a session: all partitions, in turn from where the last answer ended.
    fn fetch(&self, cursors: &BTreeMap<i32, Cursor>) -> FetchRequest {
        let partitions = cursors
            .iter()
            .map(|(partition, cursor)| FetchPartition {
                partition: *partition,
                fetch_offset: cursor.next_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            })
            .collect();
        FetchRequest {
            // A member that is through looks often whether all are.
            max_wait_ms: 20,
            min_bytes: 1,
            max_bytes: 50 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic { topic_id: self.topic.id, partitions, ..Default::default() }],
            ..Default::default()
        }
    }

    async fn commit(&mut self, advanced: &[(i32, i64)]) -> Result<()> {
        let partitions = advanced
            .iter()
            .map(|(partition, offset)| OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                ..Default::default()
            })
            .collect();
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.epoch,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: self.topic.name.clone(),
                partitions,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask(&mut self.connection, &request, OFFSET_COMMIT_VERSION).await?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            ensure!(
                partition.error_code == 0,
                "commit of {}: {}",
                partition.partition_index,
                error_code(partition.error_code)
            );
        }
        Ok(())
    }
}
