//! Log compaction under load, with kill -9 in between: of each of a million keys the newest value is there, and nothing comes back that
//! compaction took away. The table of keys is much smaller than the keys, so that a log takes several rounds.
//!
//! ```text
//!   producers:  every key in an order of its own, again and again, each time a higher version; some of them tombstones
//!   checks:     between kills, while the producers rest, from the beginning: no key older than what was acknowledged before, no offset that was gone already
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use client::{
    Client, ClientOptions, ConsumerOptions, Delivery, NewTopic, OffsetReset, OffsetSpec, Producer,
    ProducerOptions, Received, Record, TopicPartition,
};
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::Compaction;
use crate::broker::{Broker, Settings, free_port, last_words};
use crate::producers::Work;

const TOPIC: &str = "compacted";
/// Records of one producer that are not acknowledged yet.
const IN_FLIGHT_MAX: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long compaction may take to come to rest when nobody writes any more. With a small table that is many rounds, and a debug build takes
/// some seconds for each.
const SETTLE_MAX: Duration = Duration::from_secs(900);
/// Times as many kills as were asked for, at most.
const MORE_KILLS_MAX: u32 = 5;
const PAUSE_LOOK: Duration = Duration::from_millis(10);
const POLL: Duration = Duration::from_millis(500);
/// Records beyond the keys that may be left then: each partition's newest stretch, empty batches, tombstones.
const LEFT_OVER_PART: usize = 10;

/// What was sent and what was acknowledged of each key: its version + 1, so 0 is none.
struct Ledger {
    sent: Vec<AtomicU32>,
    acknowledged: Vec<AtomicU32>,
}

impl Ledger {
    fn new(keys: usize) -> Ledger {
        let none = || (0..keys).map(|_| AtomicU32::new(0)).collect();
        Ledger { sent: none(), acknowledged: none() }
    }
}

/// Some versions of some keys are deletions.
fn is_tombstone(key: usize, version: u32) -> bool {
    version % 3 == 2 && key.is_multiple_of(5)
}

pub fn run(args: &Compaction) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(story(args));
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

async fn story(args: &Compaction) -> anyhow::Result<()> {
    ensure!(args.keys >= 100 && args.keys <= 10_000_000, "--keys: 100 to 10,000,000");
    ensure!((1..=16).contains(&args.producers), "--producers: 1 to 16");
    let work = Work::new()?;
    let port = free_port()?;
    let data = args.data.clone().unwrap_or_else(|| work.path().join("data"));
    let extra = [
        ("log.cleaner.backoff.ms", "200".to_owned()),
        ("log.cleaner.dedupe.buffer.size", args.keys_bytes.to_string()),
    ];
    let settings = Settings {
        bin: args.bin.clone(),
        data,
        log: work.path().join("broker.log"),
        port,
        namespace: None,
        partitions: args.partitions,
        extra: extra.map(|(key, value)| (key.to_owned(), value)).to_vec(),
    };
    let address = format!("127.0.0.1:{port}");
    let mut broker = Broker::start(&settings, &[])?;
    ensure!(broker.ready(port)?, "the broker does not start: {}", last_words(&settings.log));
    let client = client(&address);
    let topic = NewTopic::new(TOPIC)
        .partitions(args.partitions)
        .config("cleanup.policy", "compact")
        .config("segment.ms", "1000")
        .config("min.cleanable.dirty.ratio", "0.1")
        .config("delete.retention.ms", "1000");
    client.admin().create_topic(topic).await?;

    let ledger = Arc::new(Ledger::new(args.keys));
    let stop = Arc::new(AtomicBool::new(false));
    let pause = Arc::new(Pause::default());
    let mut producers = JoinSet::new();
    for number in 0..args.producers {
        let options = ProducerOptions::default().delivery_timeout(PATIENCE);
        let producer = self::client(&address).producer(options).await?;
        let (ledger, stop, pause, args) = (ledger.clone(), stop.clone(), pause.clone(), args.clone());
        producers.spawn(produce(producer, number, args, ledger, stop, pause));
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(args.seed);
    let (mut gone, mut memory) = (Gone::default(), 0);
    let began = Instant::now();
    let mut kills = 0;
    // Kills before the first round is through prove little: then there are more of them.
    while kills < args.kills || gone.count() == 0 && kills < args.kills * MORE_KILLS_MAX {
        kills += 1;
        let wait = match random.random_ratio(1, 5) {
            true => random.random_range(0..50),
            false => random.random_range(500..args.between_ms.max(501)),
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        memory = memory.max(broker.memory_max()?);
        broker.kill()?;
        broker = Broker::start(&settings, &[])?;
        ensure!(broker.ready(port)?, "kill {kills}: it does not come back: {}", last_words(&settings.log));
        if kills.is_multiple_of(args.check_every) || kills == args.kills {
            pause.begin(args.producers, &mut producers).await?;
            let before = ledger.acknowledged.iter().map(|version| version.load(Ordering::Acquire)).collect();
            let reading = read(&client, args.partitions, args.keys).await?;
            gone.check(&reading)?;
            check(&reading, before, &ledger)?;
            eprintln!(
                "{kills} kills in {:?}: {} records for {} keys, {} offsets gone, at most {} MiB",
                began.elapsed(),
                reading.records,
                reading.newest.iter().filter(|newest| newest.is_some()).count(),
                gone.count(),
                memory >> 20
            );
            pause.end();
        }
    }
    ensure!(gone.count() > 0, "nothing was compacted between {kills} kills, so nothing is proved");
    stop.store(true, Ordering::Release);
    while let Some(done) = producers.join_next().await {
        done??;
    }
    // Everything is acknowledged: what was sent last is what has to be there.
    let last: Vec<u32> = ledger.acknowledged.iter().map(|version| version.load(Ordering::Acquire)).collect();
    ensure!(last.iter().all(|version| *version > 0), "not every key was sent once: more time, or fewer keys");
    let settled = Instant::now();
    let bound = args.keys + args.keys / LEFT_OVER_PART;
    let reading = loop {
        let reading = read(&client, args.partitions, args.keys).await?;
        gone.check(&reading)?;
        check(&reading, last.clone(), &ledger)?;
        if reading.records <= bound {
            break reading;
        }
        ensure!(
            settled.elapsed() < SETTLE_MAX,
            "{} records are left of {} keys: {}",
            reading.records,
            args.keys,
            last_words(&settings.log)
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    memory = memory.max(broker.memory_max()?);
    broker.kill()?;
    broker = Broker::start(&settings, &[])?;
    ensure!(broker.ready(port)?, "after the last kill: {}", last_words(&settings.log));
    let again = read(&client, args.partitions, args.keys).await?;
    gone.check(&again)?;
    check(&again, last.clone(), &ledger)?;
    memory = memory.max(broker.memory_max()?);
    broker.stop()?;
    ensure!(
        memory <= args.memory_max_mib << 20,
        "the broker took {} MiB, more than {}",
        memory >> 20,
        args.memory_max_mib
    );
    println!(
        "compaction, {} kills: {} keys, newest versions {} to {}, {} records left of {} offsets; 0 lost, 0 came back; at most {} MiB",
        kills,
        args.keys,
        last.iter().min().unwrap_or(&0),
        last.iter().max().unwrap_or(&0),
        reading.records,
        reading.ends.values().sum::<i64>(),
        memory >> 20
    );
    work.done()
}

/// While somebody reads from the beginning nobody writes: what came behind the end of the reading could take away what it has not come to.
#[derive(Default)]
struct Pause {
    is_on: AtomicBool,
    /// Producers that have nothing under way.
    resting: AtomicUsize,
}

impl Pause {
    /// Returns when all producers rest; with the error of one that has failed.
    async fn begin(&self, count: usize, producers: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
        self.is_on.store(true, Ordering::Release);
        while self.resting.load(Ordering::Acquire) < count {
            if let Some(ended) = producers.try_join_next() {
                ended??;
                bail!("a producer has ended");
            }
            tokio::time::sleep(PAUSE_LOOK).await;
        }
        Ok(())
    }

    fn end(&self) {
        self.is_on.store(false, Ordering::Release);
    }

    async fn rest(&self) {
        self.resting.fetch_add(1, Ordering::AcqRel);
        while self.is_on.load(Ordering::Acquire) {
            tokio::time::sleep(PAUSE_LOOK).await;
        }
        self.resting.fetch_sub(1, Ordering::AcqRel);
    }
}

fn client(address: &str) -> Client {
    let mut options = ClientOptions::new([address])
        .request_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(2))
        .api_timeout(PATIENCE);
    options.retry_backoff = Duration::from_millis(20);
    options.retry_backoff_max = Duration::from_millis(200);
    Client::new(options)
}

/// Sends each of its keys again and again, in an order that is another each time.
async fn produce(
    producer: Producer,
    number: usize,
    args: Compaction,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    pause: Arc<Pause>,
) -> anyhow::Result<()> {
    let mut random = rand::rngs::StdRng::seed_from_u64(args.seed * 1000 + number as u64);
    let mut keys: Vec<usize> = (number..args.keys).step_by(args.producers).collect();
    let mut waiting: VecDeque<(usize, u32, Delivery)> = VecDeque::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let per_tick = (args.rate as usize / 50).max(1);
    let mut version = 0;
    'passes: loop {
        for at in (1..keys.len()).rev() {
            keys.swap(at, random.random_range(0..=at));
        }
        for some in keys.chunks(per_tick) {
            // Every key once, whatever happens.
            if version > 0 && stop.load(Ordering::Acquire) {
                break 'passes;
            }
            if pause.is_on.load(Ordering::Acquire) {
                for (key, version, delivery) in waiting.drain(..) {
                    delivery.wait().await.with_context(|| format!("version {version} of key {key}"))?;
                    ledger.acknowledged[key].store(version + 1, Ordering::Release);
                }
                pause.rest().await;
            }
            ticks.tick().await;
            for key in some {
                let mut record = Record::to(TOPIC).key(format!("key-{key:08}"));
                if !is_tombstone(*key, version) {
                    record = record.value(format!("{version} {:0>60}", key));
                }
                ledger.sent[*key].store(version + 1, Ordering::Release);
                waiting.push_back((*key, version, producer.send(record).await?));
            }
            while waiting.len() > IN_FLIGHT_MAX
                || waiting.front().is_some_and(|(.., sent)| sent.now().is_some())
            {
                let Some((key, version, delivery)) = waiting.pop_front() else { break };
                delivery.wait().await.with_context(|| format!("version {version} of key {key}"))?;
                ledger.acknowledged[key].store(version + 1, Ordering::Release);
            }
        }
        version += 1;
    }
    for (key, version, delivery) in waiting {
        delivery.wait().await.with_context(|| format!("version {version} of key {key}"))?;
        ledger.acknowledged[key].store(version + 1, Ordering::Release);
    }
    Ok(producer.close().await?)
}

/// Everything that could be read, from the beginning.
struct Reading {
    records: usize,
    /// By key: what came last, as version + 1; `None` when nothing came.
    newest: Vec<Option<u32>>,
    ends: BTreeMap<i32, i64>,
    /// By partition, a bit per offset.
    seen: BTreeMap<i32, Vec<u64>>,
}

async fn read(client: &Client, partitions: i32, keys: usize) -> anyhow::Result<Reading> {
    let all: Vec<TopicPartition> =
        (0..partitions).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    let mut consumer = client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::None))?;
    consumer.assign(all.clone())?;
    for partition in &all {
        consumer.seek_to(partition, OffsetSpec::Earliest)?;
    }
    let ends: BTreeMap<i32, i64> =
        consumer.end_offsets(&all).await?.into_iter().map(|(at, end)| (at.partition, end)).collect();
    let mut reading = Reading { records: 0, newest: vec![None; keys], seen: BTreeMap::new(), ends };
    let mut quiet_since = Instant::now();
    let mut left = all;
    while !left.is_empty() {
        let records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            quiet_since = Instant::now();
        }
        ensure!(quiet_since.elapsed() < PATIENCE, "reading does not come to the end: {left:?} are left");
        for record in records {
            if record.offset < reading.ends[&record.partition] {
                reading.take(&record)?;
            }
        }
        let mut behind = Vec::new();
        for partition in left {
            if consumer.position(&partition).await? < reading.ends[&partition.partition] {
                behind.push(partition);
            }
        }
        left = behind;
    }
    consumer.close().await?;
    Ok(reading)
}

impl Reading {
    fn take(&mut self, record: &Received) -> anyhow::Result<()> {
        let place = || format!("partition {} offset {}", record.partition, record.offset);
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let key = text(record.key.as_deref().with_context(place)?)?;
        let key: usize = key.strip_prefix("key-").and_then(|key| key.parse().ok()).with_context(place)?;
        let known = self.newest.get_mut(key).with_context(place)?;
        let version = match &record.value {
            Some(value) => {
                let value = text(value)?;
                let version = value.split_once(' ').and_then(|(version, rest)| {
                    (rest.trim_start_matches('0').parse().unwrap_or(0usize) == key).then_some(version)
                });
                version.and_then(|version| version.parse::<u32>().ok()).with_context(place)? + 1
            }
            // Which of its deletions it is is not said: at least one behind what came before.
            None => {
                ensure!(key.is_multiple_of(5), "{}: key {key} was never deleted", place());
                known.map_or(3, |before| (before / 3 + 1) * 3)
            }
        };
        ensure!(
            known.is_none_or(|before| before < version),
            "{}: version {version} of key {key} behind {known:?}",
            place()
        );
        *known = Some(version);
        self.records += 1;
        let bits = self.seen.entry(record.partition).or_default();
        let at = record.offset as usize;
        if bits.len() <= at / 64 {
            bits.resize(at / 64 + 1, 0);
        }
        ensure!(bits[at / 64] & 1 << (at % 64) == 0, "{} twice", place());
        bits[at / 64] |= 1 << (at % 64);
        Ok(())
    }
}

/// Of each key what was acknowledged before the reading, or something newer, is what one ends up with.
fn check(reading: &Reading, acknowledged: Vec<u32>, ledger: &Ledger) -> anyhow::Result<()> {
    for (key, before) in acknowledged.into_iter().enumerate().filter(|(_, before)| *before > 0) {
        let sent = ledger.sent[key].load(Ordering::Acquire);
        let deleted = || (before..=sent).any(|version| is_tombstone(key, version - 1));
        let is_right = match reading.newest[key] {
            Some(found) => (before..=sent).contains(&found),
            None => deleted(),
        };
        // A deletion does not say which one it is, so it may be an older one than it was taken for.
        let is_right =
            is_right || reading.newest[key].is_some_and(|found| is_tombstone(key, found - 1)) && deleted();
        if !is_right {
            bail!(
                "key {key}: version {before} was acknowledged, {sent} sent, and {:?} is what is there",
                reading.newest[key]
            );
        }
    }
    Ok(())
}

/// Offsets that were not there any more.
#[derive(Default)]
struct Gone {
    bits: BTreeMap<i32, Vec<u64>>,
}

impl Gone {
    /// What was gone stays gone; what is gone now is remembered.
    fn check(&mut self, reading: &Reading) -> anyhow::Result<()> {
        for (partition, end) in &reading.ends {
            let words = *end as usize / 64;
            let gone = self.bits.entry(*partition).or_default();
            let empty = Vec::new();
            let seen = reading.seen.get(partition).unwrap_or(&empty);
            for at in 0..words {
                let seen = seen.get(at).copied().unwrap_or(0);
                let back = gone.get(at).copied().unwrap_or(0) & seen;
                ensure!(back == 0, "partition {partition}: offsets from {} came back: {back:b}", at * 64);
                match gone.get_mut(at) {
                    Some(word) => *word |= !seen,
                    None => gone.push(!seen),
                }
            }
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        self.bits.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }
}
