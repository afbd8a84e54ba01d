//! Reading: partitions that one names, or those that a group gives.
//!
//! `poll` drives everything: membership, positions, fetches. Between polls only answers of fetches arrive (one
//! Fetch under way per broker) and heartbeats go out.
//!
//! * `membership.rs`: joining and staying in a group · `coordinator.rs`: the exchanges with its coordinator
//! * `assignor.rs`: who reads what · `fetcher.rs`: from answers to records · `offsets.rs`: offsets by time

pub(crate) mod assignor;
pub(crate) mod coordinator;
mod fetcher;
mod membership;
pub(crate) mod offsets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::batch::Header;
use protocol::messages::{FetchRequest, FetchResponse, fetch_request};
use protocol::{ErrorCode, Str, Uuid};
use tokio::sync::mpsc;
use world::task::{self, Instant, JoinHandle};

use self::assignor::{Assignor, AssignorKind};
use self::coordinator::{Identity, Joined, Joining};
use self::fetcher::Fetched;
use self::membership::{Membership, Step};
pub use self::offsets::{OffsetAndMetadata, OffsetAndTimestamp, OffsetSpec};
use crate::TopicPartition;
use crate::cluster::{Client, Cluster, Lane};
use crate::error::{Error, check, code_of};
use crate::retry::Tries;

/// Newer versions of Fetch name topics by id only (KIP-516).
const LAST_VERSION_WITH_NAMES: i16 = 12;

/// One record as a consumer gets it. Key, value and headers are slices of the answer that brought them: who
/// keeps a small one for long should copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub topic: Str,
    pub partition: i32,
    pub offset: i64,
    /// Unix milliseconds; −1 is none.
    pub timestamp: i64,
    /// The timestamp is the broker's, not the producer's.
    pub log_append_time: bool,
    /// −1 when unknown.
    pub leader_epoch: i32,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// `isolation.level`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i8)]
pub enum Isolation {
    #[default]
    ReadUncommitted = 0,
    /// Transactions that are open or aborted are not shown.
    ReadCommitted = 1,
}

/// `auto.offset.reset`: where to start when there is no committed offset, or it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    #[default]
    Latest,
    /// An error instead: [`Error::NoOffset`].
    None,
}

/// Is told what a rebalance gives and takes. Called within `poll` and `close`.
pub trait RebalanceListener: Send + Sync + 'static {
    /// New partitions; with a cooperative assignor only those that came.
    fn assigned(&self, partitions: &[TopicPartition]);
    /// Partitions about to be given up; their positions are still committed after this returns.
    fn revoked(&self, partitions: &[TopicPartition]);
    /// Partitions that somebody else may already have.
    fn lost(&self, partitions: &[TopicPartition]) {
        self.revoked(partitions);
    }
}

/// Settings of a [`Consumer`]; the defaults are Kafka's, except that only one assignor is offered by default.
#[derive(Clone)]
pub struct ConsumerOptions {
    /// `group.id`; without one there is only `assign`, and no commit.
    pub group: Option<Str>,
    /// `group.instance.id`: a static member.
    pub instance_id: Option<Str>,
    /// `partition.assignment.strategy`, most wanted first. All must be eager or all cooperative.
    pub assignors: Vec<Arc<dyn Assignor>>,
    pub offset_reset: OffsetReset,
    pub isolation: Isolation,
    /// `enable.auto.commit` and `auto.commit.interval.ms`; `None` is off.
    pub auto_commit: Option<Duration>,
    /// `session.timeout.ms`
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`
    pub poll_interval_max: Duration,
    /// `max.poll.records`
    pub poll_records_max: usize,
    /// `fetch.min.bytes`
    pub fetch_bytes_min: i32,
    /// `fetch.max.bytes`
    pub fetch_bytes_max: i32,
    /// `max.partition.fetch.bytes`
    pub partition_fetch_bytes_max: i32,
    /// `fetch.max.wait.ms`
    pub fetch_wait_max: Duration,
    /// `check.crcs`
    pub check_crcs: bool,
    /// `client.rack` (KIP-392)
    pub rack: Str,
    /// A batch that decompresses to more is an error.
    pub decompressed_bytes_max: usize,
    pub listener: Option<Arc<dyn RebalanceListener>>,
}

impl Default for ConsumerOptions {
    fn default() -> ConsumerOptions {
        ConsumerOptions {
            group: None,
            instance_id: None,
            assignors: vec![Arc::new(AssignorKind::CooperativeSticky)],
            offset_reset: OffsetReset::Latest,
            isolation: Isolation::ReadUncommitted,
            auto_commit: Some(Duration::from_secs(5)),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
            poll_records_max: 500,
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 << 20,
            partition_fetch_bytes_max: 1 << 20,
            fetch_wait_max: Duration::from_millis(500),
            check_crcs: true,
            rack: Str::default(),
            decompressed_bytes_max: 256 << 20,
            listener: None,
        }
    }
}

impl ConsumerOptions {
    /// A member of a group.
    pub fn group(group: impl Into<Str>) -> ConsumerOptions {
        ConsumerOptions { group: Some(group.into()), ..ConsumerOptions::default() }
    }

    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.offset_reset = reset;
        self
    }

    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    pub fn auto_commit(mut self, interval: Option<Duration>) -> Self {
        self.auto_commit = interval;
        self
    }

    pub fn assignor(mut self, assignor: impl Assignor) -> Self {
        self.assignors = vec![Arc::new(assignor)];
        self
    }

    pub fn instance_id(mut self, id: impl Into<Str>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    pub fn poll_records_max(mut self, count: usize) -> Self {
        self.poll_records_max = count;
        self
    }
}

/// Reads records. Made by [`Client::consumer`].
///
/// Every method may be dropped while it waits; nothing is lost by that, records least of all.
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    cooperative: bool,
    subscription: BTreeSet<Str>,
    membership: Option<Membership>,
    /// Partition counts of the subscribed topics at the last rebalance.
    seen_counts: BTreeMap<Str, usize>,
    partitions: BTreeMap<TopicPartition, Reading>,
    /// Where the next round of giving out records starts, so that no partition starves another.
    turn: usize,
    fetching: BTreeMap<i32, JoinHandle<()>>,
    fetched: mpsc::UnboundedReceiver<Answer>,
    fetched_sender: mpsc::UnboundedSender<Answer>,
    next_auto_commit: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    closed: bool,
}

/// One assigned partition.
#[derive(Default)]
struct Reading {
    /// The offset of the next record for the application.
    position: Option<i64>,
    /// Where to look when there is no position; `None` means the committed offset, then the reset policy.
    start: Option<OffsetSpec>,
    paused: bool,
    buffered: Option<Fetched>,
    /// Counts seeks: an answer to a question from before the seek is thrown away.
    seeks: u64,
    high_watermark: Option<i64>,
    /// The offset is gone and the policy is `none`: only a seek helps.
    out_of_range: bool,
    /// The version of the metadata by which its leader was asked in vain: it is not asked again by the same.
    doubted: Option<u64>,
}

/// What a Fetch task sends back. One per broker is under way, so their number is bounded.
struct Answer {
    node: i32,
    asked: BTreeMap<TopicPartition, (i64, u64)>,
    ids: BTreeMap<Uuid, Str>,
    /// Of the metadata that it was sent by.
    version: u64,
    result: Result<FetchResponse, Error>,
}

impl Consumer {
    pub(crate) fn new(client: Client, options: ConsumerOptions) -> Result<Consumer, Error> {
        let cooperative = options.assignors.iter().all(|assignor| assignor.is_cooperative());
        if !cooperative && options.assignors.iter().any(|assignor| assignor.is_cooperative()) {
            return Err(Error::invalid("assignors must be all eager or all cooperative"));
        }
        if options.assignors.is_empty() || options.poll_records_max == 0 {
            return Err(Error::invalid("at least one assignor and one record per poll are needed"));
        }
        let membership = options.group.as_ref().map(|group| {
            Membership::new(
                client.clone(),
                group.clone(),
                options.instance_id.clone(),
                options.heartbeat_interval,
                options.session_timeout,
                options.poll_interval_max,
            )
        });
        let (fetched_sender, fetched) = mpsc::unbounded_channel();
        Ok(Consumer {
            next_auto_commit: options.auto_commit.map(|interval| task::now() + interval),
            client,
            options,
            cooperative,
            subscription: BTreeSet::new(),
            membership,
            seen_counts: BTreeMap::new(),
            partitions: BTreeMap::new(),
            turn: 0,
            fetching: BTreeMap::new(),
            fetched,
            fetched_sender,
            not_before: None,
            failures: 0,
            closed: false,
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    // ---- what to read

    /// Reads topics as a member of the group: the group decides which partitions. Replaces an earlier
    /// subscription.
    pub fn subscribe<S: Into<Str>>(&mut self, topics: impl IntoIterator<Item = S>) -> Result<(), Error> {
        let Some(membership) = &self.membership else {
            return Err(Error::invalid("a subscription needs a group"));
        };
        if self.subscription.is_empty() && !self.partitions.is_empty() {
            return Err(Error::invalid("subscribe and assign exclude each other"));
        }
        let topics: BTreeSet<Str> = topics.into_iter().map(Into::into).collect();
        if topics != self.subscription {
            self.subscription = topics;
            membership.request_rejoin();
        }
        Ok(())
    }

    /// Reads these partitions, no others, and without joining a group.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), Error> {
        if !self.subscription.is_empty() {
            return Err(Error::invalid("subscribe and assign exclude each other"));
        }
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        self.partitions.retain(|partition, _| wanted.contains(partition));
        for partition in wanted {
            self.partitions.entry(partition).or_default();
        }
        Ok(())
    }

    /// Gives everything up; leaves the group, after committing if auto-commit is on.
    pub async fn unsubscribe(&mut self) -> Result<(), Error> {
        let committed = self.give_up_all().await;
        self.subscription.clear();
        self.partitions.clear();
        let left = match &mut self.membership {
            Some(membership) => membership.leave("the consumer unsubscribed").await,
            None => Ok(()),
        };
        committed.and(left)
    }

    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    pub fn subscription(&self) -> impl Iterator<Item = &Str> {
        self.subscription.iter()
    }

    /// Our name in the group, once we are a member.
    pub fn member_id(&self) -> Option<&Str> {
        self.membership.as_ref().map(|membership| &membership.identity.member_id).filter(|id| !id.is_empty())
    }

    // ---- reading

    /// Waits up to `wait` for records and gives what is there, at most `poll_records_max`. An empty result means
    /// that nothing came in that time; errors that may pass are waited out.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Received>, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        let deadline = task::now() + wait;
        if let Some(membership) = &self.membership {
            membership.polled();
        }
        self.auto_commit();
        loop {
            let wake = self.make_progress().await?;
            let records = self.take_records()?;
            if !records.is_empty() || task::now() >= deadline {
                // The next records travel while the application works on these.
                self.start_fetches();
                return Ok(records);
            }
            self.wait_for_news(wake.map_or(deadline, |wake| wake.min(deadline))).await;
        }
    }

    /// One round of everything that stands between us and records. Gives the time for the next round if it
    /// depends on one.
    async fn make_progress(&mut self) -> Result<Option<Instant>, Error> {
        self.take_answers();
        if !self.subscription.is_empty() {
            self.keep_membership().await?;
        }
        if let Some(at) = self.not_before.filter(|at| task::now() < *at) {
            return Ok(Some(at));
        }
        let topics: Vec<Str> = match self.subscription.is_empty() {
            false => self.subscription.iter().cloned().collect(),
            true => self.partitions.keys().map(|partition| partition.topic.clone()).collect(),
        };
        if topics.is_empty() {
            return Ok(None);
        }
        let progress = async {
            let cluster = self.client.fresh_cluster(&topics).await?;
            self.watch_partition_counts(&cluster);
            self.find_positions().await
        };
        match progress.await {
            Ok(()) => {
                self.not_before = None;
                self.failures = 0;
                self.start_fetches();
                // Leaders that are not known yet, or do not answer.
                let lagging =
                    self.partitions.iter().any(|(p, reading)| self.leader(p).is_none() && !reading.paused);
                Ok(lagging.then(|| {
                    self.client.outdated();
                    task::now() + self.client.backoff(2)
                }))
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "reading waits");
                if let Some(membership) = &mut self.membership {
                    membership.heard(&error);
                }
                if error.needs_metadata() {
                    self.client.outdated();
                }
                let at = task::now() + self.client.backoff(self.failures);
                self.failures += 1;
                self.not_before = Some(at);
                Ok(Some(at))
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_for_news(&mut self, until: Instant) {
        let subscribed = !self.subscription.is_empty();
        let membership = self.membership.as_mut().filter(|_| subscribed);
        let group_news = async {
            match membership {
                Some(membership) => membership.news().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = self.fetched.recv() => answer,
            () = group_news => {
                // Whoever told us may need one more turn to be seen as finished.
                task::yield_now().await;
                None
            }
            () = task::sleep_until(until) => None,
        };
        if let Some(answer) = answer {
            self.take_answer(answer);
        }
    }

    fn take_records(&mut self) -> Result<Vec<Received>, Error> {
        let mut records = Vec::new();
        let count = self.partitions.len();
        if count == 0 {
            return Ok(records);
        }
        self.turn = (self.turn + 1) % count;
        let (first, second): (Vec<_>, Vec<_>) =
            self.partitions.iter_mut().enumerate().partition(|(index, _)| *index >= self.turn);
        for (_, (partition, reading)) in first.into_iter().chain(second) {
            if reading.paused {
                continue;
            }
            let Some(fetched) = &mut reading.buffered else { continue };
            while records.len() < self.options.poll_records_max {
                match fetched.next(partition) {
                    Ok(Some(record)) => {
                        reading.position = Some(record.offset + 1);
                        records.push(record);
                    }
                    Ok(None) => {
                        reading.position = Some(fetched.next_offset);
                        reading.buffered = None;
                        break;
                    }
                    // What came before the damage is given out first.
                    Err(error) if records.is_empty() => {
                        reading.buffered = None;
                        return Err(error);
                    }
                    Err(_) => {
                        reading.buffered = None;
                        return Ok(records);
                    }
                }
            }
        }
        Ok(records)
    }

    // ---- membership

    async fn keep_membership(&mut self) -> Result<(), Error> {
        loop {
            let Some(membership) = &mut self.membership else { return Ok(()) };
            match membership.next().await? {
                Step::Stable | Step::Wait => return Ok(()),
                Step::Lost => {
                    let lost: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
                    self.partitions.clear();
                    self.tell(&lost, |listener, lost| listener.lost(lost));
                }
                Step::MustJoin => {
                    if !self.cooperative {
                        // Eager: everything is given up before we join.
                        if let Err(error) = self.give_up_all().await {
                            tracing::warn!(%error, "the last positions could not be committed");
                        }
                        self.partitions.clear();
                    } else {
                        self.commit_if_auto().await;
                    }
                    self.start_joining();
                    return Ok(());
                }
                Step::Joined(joined) => self.take_assignment(joined).await,
            }
        }
    }

    fn start_joining(&mut self) {
        let joining = Joining {
            session_timeout_ms: self.options.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: self.options.poll_interval_max.as_millis() as i32,
            topics: self.subscription.iter().cloned().collect(),
            owned: self.partitions.keys().cloned().collect(),
            assignors: self.options.assignors.clone(),
        };
        self.seen_counts.clear();
        if let Some(membership) = &mut self.membership {
            membership.start_joining(joining);
        }
    }

    async fn take_assignment(&mut self, joined: Joined) {
        tracing::debug!(assignor = %joined.assignor, partitions = joined.assignment.len(), "joined");
        let new: BTreeSet<TopicPartition> = joined.assignment.into_iter().collect();
        let revoked: Vec<TopicPartition> =
            self.partitions.keys().filter(|partition| !new.contains(*partition)).cloned().collect();
        if !revoked.is_empty() {
            self.tell(&revoked, |listener, revoked| listener.revoked(revoked));
            self.commit_if_auto().await;
            self.partitions.retain(|partition, _| new.contains(partition));
            // Others wait for what we gave up; it is assigned in one more round (KIP-429).
            if let Some(membership) = &self.membership {
                membership.request_rejoin();
            }
        }
        let added: Vec<TopicPartition> =
            new.into_iter().filter(|partition| !self.partitions.contains_key(partition)).collect();
        for partition in &added {
            self.partitions.insert(partition.clone(), Reading::default());
        }
        if let Some(listener) = &self.options.listener {
            listener.assigned(&added);
        }
    }

    fn tell(&self, partitions: &[TopicPartition], say: impl Fn(&dyn RebalanceListener, &[TopicPartition])) {
        if let Some(listener) = &self.options.listener
            && !partitions.is_empty()
        {
            say(&**listener, partitions);
        }
    }

    /// New partitions of subscribed topics need a new assignment.
    fn watch_partition_counts(&mut self, cluster: &Cluster) {
        let counts: BTreeMap<Str, usize> = self
            .subscription
            .iter()
            .filter_map(|name| Some((name.clone(), cluster.topic(name)?.partitions.len())))
            .collect();
        if self.seen_counts.is_empty() {
            self.seen_counts = counts;
        } else if counts != self.seen_counts && !counts.is_empty() {
            self.seen_counts = counts;
            if let Some(membership) = &self.membership {
                membership.request_rejoin();
            }
        }
    }

    /// Tells the listener and commits, as far as auto-commit is on.
    async fn give_up_all(&mut self) -> Result<(), Error> {
        let all: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if !self.subscription.is_empty() {
            self.tell(&all, |listener, revoked| listener.revoked(revoked));
        }
        if self.options.auto_commit.is_some() && self.options.group.is_some() {
            self.commit().await
        } else {
            Ok(())
        }
    }

    async fn commit_if_auto(&mut self) {
        if self.options.auto_commit.is_some()
            && let Err(error) = self.commit().await
        {
            tracing::warn!(%error, "the positions could not be committed");
        }
    }

    // ---- positions

    async fn find_positions(&mut self) -> Result<(), Error> {
        let open: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, reading)| reading.position.is_none())
            .map(|(partition, _)| partition.clone())
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if let Some(partition) = open.iter().find(|partition| self.partitions[*partition].out_of_range) {
            return Err(Error::NoOffset { partition: partition.clone() });
        }
        let ask_group: Vec<TopicPartition> =
            open.iter().filter(|partition| self.partitions[*partition].start.is_none()).cloned().collect();
        if !ask_group.is_empty() {
            let committed = self.committed_now(&ask_group).await?;
            for partition in ask_group {
                let Some(reading) = self.partitions.get_mut(&partition) else { continue };
                match committed.get(&partition) {
                    Some(committed) => reading.position = Some(committed.offset),
                    None => reading.start = Some(reset(self.options.offset_reset, &partition)?),
                }
            }
        }
        let specs: BTreeMap<TopicPartition, OffsetSpec> = open
            .into_iter()
            .filter_map(|partition| {
                let reading = &self.partitions[&partition];
                reading.start.filter(|_| reading.position.is_none()).map(|start| (partition, start))
            })
            .collect();
        if specs.is_empty() {
            return Ok(());
        }
        let found = offsets::list(&self.client, &specs, self.options.isolation).await?;
        for (partition, result) in found {
            let Some(reading) = self.partitions.get_mut(&partition) else { continue };
            let offset = result?.offset;
            if offset >= 0 {
                reading.position = Some(offset);
            } else {
                // No record is that new: go on behind the last one.
                reading.start = Some(OffsetSpec::Latest);
            }
        }
        Ok(())
    }

    async fn committed_now(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        let (Some(group), Some(membership)) = (&self.options.group, &self.membership) else {
            return Ok(BTreeMap::new());
        };
        let coordinator = membership.coordinator().await?;
        let stable = self.options.isolation == Isolation::ReadCommitted;
        coordinator::fetch_offsets(&self.client, coordinator, group, Some(partitions), stable).await
    }

    /// The offset of the next record that `poll` would give; waits until it is known.
    pub async fn position(&mut self, partition: &TopicPartition) -> Result<i64, Error> {
        let mut tries = Tries::within(&self.client, self.client.options().api_timeout);
        loop {
            let reading = self.partitions.get(partition);
            let reading = reading.ok_or_else(|| Error::invalid(format!("{partition} is not assigned")))?;
            if let Some(position) = reading.position {
                return Ok(position);
            }
            if let Err(error) = self.find_positions().await {
                tries.pause(error).await?;
            }
        }
    }

    /// The next poll starts here.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        if offset < 0 {
            return Err(Error::invalid("an offset is not negative"));
        }
        let reading = self.reading(partition)?;
        reading.seeks += 1;
        reading.buffered = None;
        reading.out_of_range = false;
        reading.position = Some(offset);
        Ok(())
    }

    /// The next poll starts at the first or last offset, or at a time.
    pub fn seek_to(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Result<(), Error> {
        let reading = self.reading(partition)?;
        reading.seeks += 1;
        reading.buffered = None;
        reading.out_of_range = false;
        reading.position = None;
        reading.start = Some(spec);
        Ok(())
    }

    fn reading(&mut self, partition: &TopicPartition) -> Result<&mut Reading, Error> {
        self.partitions
            .get_mut(partition)
            .ok_or_else(|| Error::invalid(format!("{partition} is not assigned")))
    }

    /// No records of this partition until `resume`; it stays assigned.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.reading(partition)?.paused = true;
        Ok(())
    }

    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.reading(partition)?.paused = false;
        Ok(())
    }

    pub fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.iter().filter(|(_, reading)| reading.paused).map(|(partition, _)| partition)
    }

    /// How many offsets lie between the position and the end, as of the last fetch.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let reading = self.partitions.get(partition)?;
        Some((reading.high_watermark? - reading.position?).max(0))
    }

    /// Offsets by time, first or last; does not move the consumer.
    pub async fn list_offsets(
        &self,
        specs: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetAndTimestamp, Error>>, Error> {
        offsets::list(&self.client, specs, self.options.isolation).await
    }

    /// The first offset of each partition whose record has this time or a later one; −1 if there is none.
    pub async fn offsets_for_times(
        &self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>, Error> {
        let specs = times.iter().map(|(p, time)| (p.clone(), OffsetSpec::Timestamp(*time))).collect();
        self.list_offsets(&specs).await?.into_iter().map(|(p, result)| Ok((p, result?))).collect()
    }

    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.ends(partitions, OffsetSpec::Earliest).await
    }

    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.ends(partitions, OffsetSpec::Latest).await
    }

    async fn ends(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let specs = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        self.list_offsets(&specs).await?.into_iter().map(|(p, result)| Ok((p, result?.offset))).collect()
    }

    // ---- committing

    /// Commits the positions: what `poll` has given counts as read.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let positions = self.positions();
        self.commit_offsets(&positions).await
    }

    /// Commits these offsets, each the one of the *next* record to read.
    pub async fn commit_offsets(
        &mut self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Error> {
        let (Some(group), Some(membership)) = (self.options.group.clone(), &mut self.membership) else {
            return Err(Error::invalid("committing needs a group"));
        };
        if offsets.is_empty() {
            return Ok(());
        }
        let mut tries = Tries::within(&self.client, self.client.options().api_timeout);
        loop {
            let identity = commit_identity(membership, !self.subscription.is_empty());
            let result = async {
                let coordinator = membership.coordinator().await?;
                coordinator::commit(&self.client, coordinator, &group, &identity, offsets).await
            };
            match result.await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    membership.heard(&error);
                    // Retriable for the group, but only `poll` can join: trying here again would never end well.
                    if error.code() == Some(ErrorCode::RebalanceInProgress) {
                        return Err(error);
                    }
                    tries.pause(error).await?;
                }
            }
        }
    }

    /// Commits the positions without waiting; the handle tells how it went. One try, no retry: a later commit
    /// could overtake it.
    pub fn commit_async(&mut self) -> JoinHandle<Result<(), Error>> {
        let positions = self.positions();
        let (client, group) = (self.client.clone(), self.options.group.clone());
        let target = self.membership.as_ref().map(|membership| {
            (commit_identity(membership, !self.subscription.is_empty()), membership.known_coordinator())
        });
        task::spawn(async move {
            let (Some(group), Some((identity, known))) = (group, target) else {
                return Err(Error::invalid("committing needs a group"));
            };
            if positions.is_empty() {
                return Ok(());
            }
            let coordinator = match known {
                Some(known) => known,
                None => coordinator::find(&client, &group).await?,
            };
            coordinator::commit(&client, coordinator, &group, &identity, &positions).await
        })
    }

    fn auto_commit(&mut self) {
        let (Some(at), Some(interval)) = (self.next_auto_commit, self.options.auto_commit) else { return };
        if task::now() >= at && self.options.group.is_some() {
            self.next_auto_commit = Some(task::now() + interval);
            drop(self.commit_async());
        }
    }

    /// What the group has committed; partitions without a commit are left out.
    pub async fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        let mut tries = Tries::within(&self.client, self.client.options().api_timeout);
        loop {
            match self.committed_now(partitions).await {
                Ok(committed) => return Ok(committed),
                Err(error) => {
                    if let Some(membership) = &mut self.membership {
                        membership.heard(&error);
                    }
                    tries.pause(error).await?;
                }
            }
        }
    }

    fn positions(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let known = |(partition, reading): (&TopicPartition, &Reading)| {
            Some((partition.clone(), OffsetAndMetadata::new(reading.position?)))
        };
        self.partitions.iter().filter_map(known).collect()
    }

    /// Commits if auto-commit is on, leaves the group, and ends. Static members stay in the group.
    pub async fn close(mut self) -> Result<(), Error> {
        self.closed = true;
        let committed = match self.membership.as_ref().is_some_and(Membership::is_member)
            || self.subscription.is_empty()
        {
            true => self.give_up_all().await,
            false => Ok(()),
        };
        let left = match &mut self.membership {
            Some(membership) => membership.leave("the consumer was closed").await,
            None => Ok(()),
        };
        committed.and(left)
    }

    // ---- fetching

    fn leader(&self, partition: &TopicPartition) -> Option<i32> {
        self.client.cluster().leader(&partition.topic, partition.partition)
    }

    /// One Fetch to each broker that leads something we want and has none under way.
    fn start_fetches(&mut self) {
        let cluster = self.client.cluster();
        let mut wanted: BTreeMap<i32, BTreeMap<TopicPartition, (i64, u64)>> = BTreeMap::new();
        for (partition, reading) in &self.partitions {
            let Some(position) = reading.position.filter(|_| !reading.paused && reading.buffered.is_none())
            else {
                continue;
            };
            if reading.doubted.is_some_and(|version| cluster.version <= version) {
                continue;
            }
            let Some(leader) = cluster.leader(&partition.topic, partition.partition) else { continue };
            wanted.entry(leader).or_default().insert(partition.clone(), (position, reading.seeks));
        }
        self.fetching.retain(|_, task| !task.is_finished());
        for (node, asked) in wanted {
            if self.fetching.contains_key(&node) {
                continue;
            }
            let (request, ids) = self.fetch_request(&cluster, &asked);
            let all_have_ids = request.topics.len() == ids.len();
            let cap = if all_have_ids { i16::MAX } else { LAST_VERSION_WITH_NAMES };
            let (client, answers) = (self.client.clone(), self.fetched_sender.clone());
            let (wait, version) = (self.options.fetch_wait_max, cluster.version);
            let fetch = async move {
                let result = async {
                    let connection = client.node(Lane::Fetch, node).await?;
                    let limit = client.options().request_timeout.max(wait + Duration::from_secs(5));
                    connection.call(&request, cap, limit).await
                };
                let result = result.await;
                let _ = answers.send(Answer { node, asked, ids, version, result });
            };
            self.fetching.insert(node, task::spawn(fetch));
        }
    }

    fn fetch_request(
        &self,
        cluster: &Cluster,
        asked: &BTreeMap<TopicPartition, (i64, u64)>,
    ) -> (FetchRequest, BTreeMap<Uuid, Str>) {
        let mut topics: BTreeMap<Str, Vec<fetch_request::FetchPartition>> = BTreeMap::new();
        for (partition, (offset, _)) in asked {
            let epoch =
                cluster.partition(&partition.topic, partition.partition).map_or(-1, |info| info.leader_epoch);
            topics.entry(partition.topic.clone()).or_default().push(fetch_request::FetchPartition {
                partition: partition.partition,
                current_leader_epoch: epoch,
                fetch_offset: *offset,
                partition_max_bytes: self.options.partition_fetch_bytes_max,
                ..Default::default()
            });
        }
        // From version 13 on topics have ids only: a topic that was deleted and made again is another one.
        let ids: BTreeMap<Str, Uuid> = topics.keys().filter_map(|name| cluster.topic_id(name)).collect();
        let names = ids.iter().map(|(name, id)| (*id, name.clone())).collect();
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: self.options.fetch_wait_max.as_millis() as i32,
            min_bytes: self.options.fetch_bytes_min,
            max_bytes: self.options.fetch_bytes_max,
            isolation_level: self.options.isolation as i8,
            // No session: the answer has all partitions, and nothing has to be remembered.
            session_id: 0,
            session_epoch: -1,
            topics: topics
                .into_iter()
                .map(|(topic, partitions)| fetch_request::FetchTopic {
                    topic_id: ids.get(&topic).copied().unwrap_or_default(),
                    topic,
                    partitions,
                })
                .collect(),
            rack_id: self.options.rack.clone(),
            ..Default::default()
        };
        (request, names)
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.fetched.try_recv() {
            self.take_answer(answer);
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        self.fetching.remove(&answer.node);
        let result = answer.result.and_then(|response| {
            check(response.error_code, None)?;
            Ok(response)
        });
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(node = answer.node, %error, "fetch");
                for partition in answer.asked.keys() {
                    if let Some(reading) = self.partitions.get_mut(partition) {
                        reading.doubted = Some(answer.version);
                    }
                }
                self.ask_for_metadata();
                return;
            }
        };
        let mut trouble = false;
        for topic in &response.responses {
            let name = answer.ids.get(&topic.topic_id).unwrap_or(&topic.topic);
            for data in &topic.partitions {
                let key = TopicPartition { topic: name.clone(), partition: data.partition_index };
                let (Some(reading), Some((offset, seeks))) =
                    (self.partitions.get_mut(&key), answer.asked.get(&key))
                else {
                    continue;
                };
                let current = reading.seeks == *seeks && reading.position == Some(*offset);
                if !current || reading.buffered.is_some() {
                    continue;
                }
                match code_of(data.error_code) {
                    ErrorCode::None => {
                        reading.high_watermark = Some(match self.options.isolation {
                            Isolation::ReadCommitted => data.last_stable_offset,
                            Isolation::ReadUncommitted => data.high_watermark,
                        });
                        if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                            reading.buffered = Some(Fetched::new(
                                data,
                                *offset,
                                self.options.isolation,
                                self.options.decompressed_bytes_max,
                                self.options.check_crcs,
                            ));
                        }
                    }
                    ErrorCode::OffsetOutOfRange => {
                        tracing::info!(partition = %key, offset, "the offset is gone");
                        reading.position = None;
                        match reset(self.options.offset_reset, &key) {
                            Ok(start) => reading.start = Some(start),
                            Err(_) => reading.out_of_range = true,
                        }
                    }
                    code => {
                        tracing::debug!(partition = %key, %code, "fetch");
                        reading.doubted = Some(answer.version);
                        trouble = true;
                    }
                }
            }
        }
        if trouble {
            self.ask_for_metadata();
        }
    }

    /// Soon. While other partitions have records for us there is always a next answer; it must not put off what the one before
    /// has asked for.
    fn ask_for_metadata(&mut self) {
        self.client.outdated();
        if self.not_before.is_none_or(|at| at <= task::now()) {
            self.not_before = Some(task::now() + self.client.backoff(self.failures));
            self.failures += 1;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for task in self.fetching.values() {
            task.abort();
        }
    }
}

fn reset(policy: OffsetReset, partition: &TopicPartition) -> Result<OffsetSpec, Error> {
    match policy {
        OffsetReset::Earliest => Ok(OffsetSpec::Earliest),
        OffsetReset::Latest => Ok(OffsetSpec::Latest),
        OffsetReset::None => Err(Error::NoOffset { partition: partition.clone() }),
    }
}

/// Members commit as members; with `assign` the group has none.
fn commit_identity(membership: &Membership, subscribed: bool) -> Identity {
    if subscribed { membership.identity.clone() } else { Identity::none() }
}
