//! Transactions while the cluster breaks: many short producers of librdkafka and kafka-clients, a reader of committed data that lives through
//! all of it, and what they were told against what there is in the end (`txn/check.rs`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use client::{Consumer, ConsumerOptions, Isolation, NewTopic, OffsetReset, OffsetSpec, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::faults::Scene;
use super::{OFFSETS_PARTITIONS, load};
use crate::txn::check::check;
use crate::txn::programs::{Program, Programs};
use crate::txn::{Family, Load, TOPIC, print};

/// Those that find coordinators and leaders by themselves.
const FAMILIES: [Family; 3] = [Family::Librdkafka, Family::Java, Family::JavaOld];
const TIMEOUT_MS: i32 = 20_000;
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Transactions of a producer.
const EACH: u32 = 8;
/// Nothing is open any more after the last producer's time-out, and some.
const SETTLE_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(500);
const STUCK_MAX: Duration = Duration::from_secs(60);

/// By partition.
type Values = Vec<Vec<String>>;

pub struct Transactions {
    programs: Vec<Program>,
    addresses: Vec<String>,
    partitions: i32,
    ends: watch::Sender<Option<Vec<i64>>>,
    watcher: JoinHandle<anyhow::Result<Values>>,
}

impl Transactions {
    pub async fn start(
        addresses: &[String],
        partitions: i32,
        at_once: u32,
        seed: u64,
        work: &Path,
        clients_home: Option<&Path>,
    ) -> anyhow::Result<Transactions> {
        let admin = load::client(addresses);
        admin.admin().create_topic(NewTopic::new(TOPIC).partitions(partitions)).await?;
        let load = Load {
            work: work.to_owned(),
            addresses: addresses.join(","),
            topic: TOPIC.to_owned(),
            partitions,
            runs: i32::MAX as u32,
            at_once,
            seed,
            timeout_ms: TIMEOUT_MS,
            each: EACH,
        };
        let built = tokio::task::block_in_place(|| Programs::build(clients_home))?;
        let programs = FAMILIES.into_iter().map(|family| built.start(family, &load));
        let programs = programs.collect::<anyhow::Result<Vec<_>>>()?;
        let (ends, known) = watch::channel(None);
        let watcher = tokio::spawn(read(reader(addresses, partitions)?, partitions, known));
        Ok(Transactions { programs, addresses: addresses.to_owned(), partitions, ends, watcher })
    }

    /// A program that ended by itself, or was stuck. It goes on without it.
    pub fn look_after(&self, scene: &Scene, is_known: &mut bool) {
        if !*is_known && (self.programs.iter().any(Program::is_over) || self.watcher.is_finished()) {
            *is_known = true;
            scene.problem("a client of transactions has ended by itself".to_owned());
        }
    }

    /// All is well again: what there is has to be what they were told. Gives what was read, for another reading.
    pub async fn finish(mut self, scene: &Scene) -> anyhow::Result<Values> {
        self.programs.iter_mut().for_each(Program::stop);
        let mut histories = BTreeMap::new();
        for program in self.programs {
            match tokio::task::block_in_place(|| program.finish()) {
                Ok(some) => histories.extend(some),
                Err(error) => scene.problem(format!("{error:#}")),
            }
        }
        let ends = stable_ends(&self.addresses, TOPIC, self.partitions).await?;
        // Offsets inside transactions are markers in there.
        stable_ends(&self.addresses, OFFSETS_TOPIC, OFFSETS_PARTITIONS).await?;
        let log = read_all(&self.addresses, self.partitions, ends.clone()).await?;
        self.ends.send_replace(Some(ends));
        let seen = self.watcher.await?.context("the reader of committed data")?;
        let (client, mut offsets) = (load::client(&self.addresses), BTreeMap::new());
        let place = TopicPartition::new(TOPIC, 0);
        for name in histories.keys() {
            let found =
                client.admin().group_offsets(name.as_str(), Some(std::slice::from_ref(&place))).await?;
            offsets.insert(name.clone(), found.get(&place).map_or(-1, |found| found.offset));
        }
        let violations = check(&histories, &log, &seen, &offsets);
        print(&histories, &violations);
        if !violations.is_empty() {
            scene.problem(format!("{} violations of transactions", violations.len()));
        }
        let fates = histories.values().flat_map(BTreeMap::values);
        if fates.filter(|fate| fate.told == Some(true)).count() == 0 {
            scene.problem("no transaction was committed: nothing is proved".to_owned());
        }
        Ok(log)
    }
}

/// Where partitions end once no transaction is open in them.
async fn stable_ends(addresses: &[String], topic: &str, partitions: i32) -> anyhow::Result<Vec<i64>> {
    let until = Instant::now() + SETTLE_MAX;
    let client = load::client(addresses);
    let latest: BTreeMap<_, _> =
        (0..partitions).map(|p| (TopicPartition::new(topic, p), OffsetSpec::Latest)).collect();
    loop {
        let mut ends = Vec::new();
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let found = client.admin().list_offsets(&latest, isolation).await?;
            let found: Result<Vec<i64>, client::Error> =
                found.into_values().map(|end| end.map(|end| end.offset)).collect();
            ends.push(found?);
        }
        if ends[0] == ends[1] {
            return Ok(ends.swap_remove(0));
        }
        ensure!(Instant::now() < until, "a transaction in {topic} hangs: {ends:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// With a reader of its own.
pub async fn read_all(addresses: &[String], partitions: i32, ends: Vec<i64>) -> anyhow::Result<Values> {
    let (_sender, known) = watch::channel(Some(ends));
    read(reader(addresses, partitions)?, partitions, known).await
}

/// The same again by these brokers: what was read before is there.
pub async fn read_again(addresses: &[String], before: &Values) -> anyhow::Result<()> {
    let partitions = before.len() as i32;
    let ends = stable_ends(addresses, TOPIC, partitions).await?;
    ensure!(read_all(addresses, partitions, ends).await? == *before, "committed data has changed");
    Ok(())
}

fn reader(addresses: &[String], partitions: i32) -> anyhow::Result<Consumer> {
    let options = ConsumerOptions {
        isolation: Isolation::ReadCommitted,
        group: None,
        // An offset that is out of range would mean that something is gone: an error, not a new start.
        ..ConsumerOptions::default().offset_reset(OffsetReset::None).poll_records_max(10_000)
    };
    let mut consumer = load::client(addresses).consumer(options)?;
    let all: Vec<TopicPartition> = (0..partitions).map(|p| TopicPartition::new(TOPIC, p)).collect();
    consumer.assign(all.clone())?;
    for partition in &all {
        consumer.seek(partition, 0)?;
    }
    Ok(consumer)
}

/// Until the ends are known and reached.
async fn read(
    mut consumer: Consumer,
    partitions: i32,
    known: watch::Receiver<Option<Vec<i64>>>,
) -> anyhow::Result<Values> {
    let mut values: Values = (0..partitions).map(|_| Vec::new()).collect();
    let mut last = Instant::now();
    loop {
        let ends = known.borrow().clone();
        match ends {
            None => last = Instant::now(),
            Some(ends) => {
                let mut is_there = true;
                for (partition, end) in (0..).zip(ends) {
                    is_there &= consumer.position(&TopicPartition::new(TOPIC, partition)).await? >= end;
                }
                if is_there {
                    return Ok(values);
                }
                ensure!(last.elapsed() < STUCK_MAX, "the end of what is committed is not reached");
            }
        }
        for record in consumer.poll(POLL).await? {
            last = Instant::now();
            let value = record.value.unwrap_or_default();
            values[record.partition as usize].push(String::from_utf8(value.to_vec())?);
        }
    }
}
