//! Transactions under kill -9, time-outs, fencing, and requests that arrive long after their client has given them up.
//!
//! ```text
//!   producers ──▶ holder: EndTxn waits here for up to a minute ──▶ broker, which is killed ──▶ readers of committed data, all the while
//! ```
//! In the end: no transaction is torn, nothing is seen that was said to be aborted or that nobody committed, nothing is missing that was
//! said to be committed, and what readers saw on the way is what stands there.

mod holder;
mod producer;
mod reader;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Txn;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::producers::Work;
use holder::Holder;
use producer::{History, TOPIC, Terms};
use reader::{Reader, committed_offset};
use wire::Wire;

const SETTLE_MAX: Duration = Duration::from_secs(60);

pub fn run(args: &Txn) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(story(args))
}

async fn story(args: &Txn) -> anyhow::Result<()> {
    let work = Work::new()?;
    let port = free_port()?;
    let settings = Settings {
        bin: args.bin.clone(),
        data: args.data.clone().unwrap_or_else(|| work.path().join("data")),
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: args.partitions,
        extra: vec![
            ("offsets.topic.num.partitions".into(), "4".into()),
            ("transaction.state.log.num.partitions".into(), "4".into()),
        ],
    };
    let start = || -> anyhow::Result<Broker> {
        let mut broker = Broker::start(&settings, &[])?;
        ensure!(broker.ready(port)?, "the broker does not start: {}", last_words(&settings.log));
        Ok(broker)
    };
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut broker = tokio::task::block_in_place(start)?;
    let address = settings.address();
    create_topic(address, args.partitions).await?;
    let holder = Holder::start(address, args.seed, Duration::from_secs(args.hold_seconds_max)).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..args.producers)
        .map(|index| {
            let terms = Terms {
                name: format!("{}-{index}", if index % 3 == 2 { "epochs" } else { "plain" }),
                address: holder.address,
                partitions: args.partitions,
                has_epochs: index % 3 == 2,
                timeout_ms: 8_000,
            };
            let running = producer::run(terms.clone(), args.seed * 1_000 + index as u64, is_over.clone());
            (terms, tokio::spawn(running))
        })
        .collect();
    let readers: Vec<_> = (0..args.partitions)
        .map(|partition| tokio::spawn(read(address, partition, is_over.clone())))
        .collect();
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed().as_secs_f64() < args.minutes * 60.0 {
        // Now and then longer than anything is held up, so that it arrives where it was sent to.
        let seconds = match random.random_ratio(1, 4) {
            true => random.random_range(args.hold_seconds_max as f64..2.0 * args.hold_seconds_max as f64),
            false => random.random_range(0.2..8.0),
        };
        let left = args.minutes * 60.0 - began.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs_f64(seconds.min(left.max(0.0)))).await;
        ensure!(!producers.iter().any(|(_, task)| task.is_finished()), "a producer has ended by itself");
        tokio::task::block_in_place(|| broker.kill())?;
        kills += 1;
        broker = tokio::task::block_in_place(start)?;
    }
    is_over.store(true, Ordering::Relaxed);
    holder.calm_down();
    let mut histories = BTreeMap::new();
    for (terms, task) in producers {
        histories.insert(terms.name.clone(), task.await?.with_context(|| terms.name)?);
    }
    let mut seen = Vec::new();
    for task in readers {
        seen.push(task.await??);
    }
    let (mut log, mut offsets) = (Vec::new(), BTreeMap::new());
    for partition in 0..args.partitions {
        let mut reader = Reader::new(address, partition);
        ensure!(reader.finish(SETTLE_MAX).await?, "a transaction in partition {partition} hangs");
        log.push(reader.values);
    }
    for name in histories.keys() {
        offsets.insert(name.clone(), committed_offset(address, name).await?);
    }
    tokio::task::block_in_place(|| broker.stop())?;
    let held = holder.counters.held.load(Ordering::Relaxed);
    let late = holder.counters.late.load(Ordering::Relaxed);
    let violations = check(&histories, &log, &seen, &offsets);
    violations.iter().for_each(|violation| println!("{violation}"));
    let fates = || histories.values().flat_map(BTreeMap::values);
    let told = |commit| fates().filter(|fate| fate.told == Some(commit)).count();
    println!(
        "{kills} kills, {} transactions, {} said to be committed, {} aborted, {} of unknown end; {held} requests held up, {late} arrived late: \
         {} violations",
        fates().count(),
        told(true),
        told(false),
        fates().filter(|fate| fate.told.is_none()).count(),
        violations.len()
    );
    ensure!(violations.is_empty(), "{} violations", violations.len());
    ensure!(told(true) > 0 && late > 0, "nothing was committed, or nothing came late: nothing is proved");
    work.done()
}

async fn create_topic(address: SocketAddr, partitions: i32) -> anyhow::Result<()> {
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let created = Wire::new(address, Duration::from_secs(10)).ask(7, &request).await?;
    ensure!(created.topics[0].error_code == 0, "{:?}", created.topics[0].error_message);
    Ok(())
}

/// A consumer that lives through all of it.
async fn read(address: SocketAddr, partition: i32, is_over: Arc<AtomicBool>) -> anyhow::Result<Vec<String>> {
    let mut reader = Reader::new(address, partition);
    while !is_over.load(Ordering::Relaxed) {
        if reader.fetch().await?.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(reader.values)
}

fn check(
    histories: &BTreeMap<String, History>,
    log: &[Vec<String>],
    seen: &[Vec<String>],
    offsets: &BTreeMap<String, i64>,
) -> Vec<String> {
    let mut violations = Vec::new();
    // Who reads on the way reads the beginning of what stands there.
    for (partition, (seen, log)) in seen.iter().zip(log).enumerate() {
        if !log.starts_with(seen) {
            let at = seen.iter().zip(log).position(|(seen, log)| seen != log).unwrap_or(log.len());
            violations.push(format!(
                "partition {partition}: a reader saw {:?} where {:?} stands, at {at}",
                seen.get(at),
                log.get(at)
            ));
        }
    }
    // By producer and number: where it is committed.
    let mut committed: BTreeMap<(&str, u32), BTreeSet<i32>> = BTreeMap::new();
    for (partition, values) in log.iter().enumerate() {
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for value in values {
            let Some((name, number)) = value.rsplit_once(':') else {
                violations.push(format!("nobody wrote {value}"));
                continue;
            };
            let number: u32 = number.parse().unwrap_or(0);
            if last.insert(name, number).is_some_and(|last| last >= number) {
                violations.push(format!("partition {partition}: {value} twice, or behind a later one"));
            }
            committed.entry((name, number)).or_default().insert(partition as i32);
        }
    }
    for (name, history) in histories {
        for (number, fate) in history {
            let found = committed.remove(&(name.as_str(), *number)).unwrap_or_default();
            let missing: Vec<_> = fate.written.iter().filter(|it| !found.contains(it)).collect();
            let what = format!("{name} {number}: {fate:?}, found in {found:?}");
            match (fate.asked, fate.told) {
                (_, Some(true)) if !missing.is_empty() => {
                    violations.push(format!("committed is missing: {what}"))
                }
                (_, Some(false)) if !found.is_empty() => violations.push(format!("aborted is seen: {what}")),
                (None | Some(false), _) if !found.is_empty() => {
                    violations.push(format!("committed by nobody: {what}"));
                }
                _ if !found.is_empty() && !missing.is_empty() => violations.push(format!("torn: {what}")),
                _ => {}
            }
        }
        check_offset(name, history, log, offsets[name], &mut violations);
    }
    violations.extend(committed.keys().map(|(name, number)| format!("nobody wrote {name}:{number}")));
    violations
}

/// The offset is that of a transaction that is committed, and of none before the last one that was said to be.
fn check_offset(
    name: &str,
    history: &History,
    log: &[Vec<String>],
    offset: i64,
    violations: &mut Vec<String>,
) {
    let with_offset = || history.iter().filter(|(_, fate)| fate.offset);
    let least = with_offset().filter(|(_, fate)| fate.told == Some(true)).map(|(number, _)| *number).max();
    if offset < least.map_or(-1, i64::from) {
        violations.push(format!("{name}: offset {offset}, and {least:?} was said to be committed"));
    }
    if offset < 0 {
        return;
    }
    let fate = u32::try_from(offset).ok().and_then(|number| history.get(&number));
    let value = format!("{name}:{offset}");
    let is_there = log.iter().any(|values| values.contains(&value));
    if fate.is_none_or(|fate| fate.asked != Some(true)) || !is_there {
        violations
            .push(format!("{name}: offset {offset} is of a transaction that is not committed: {fate:?}"));
    }
}
