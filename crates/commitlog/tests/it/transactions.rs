//! Transactions in one partition: what readers of committed data see is what a plain list of batches says, whatever the log went
//! through (P4).
//!
//! ```text
//!   a b B c a A̶ b …    markers end what is open; rewrite, restart and takeover in between; then fetches of any range
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{
    AppendError, AppendOptions, CommitLog, EndTransaction, Isolation, LogSettings, Partition, ReadRequest,
    Verification,
};
use protocol::batch::{Batch, BatchBuilder, ControlRecord, split_batches};
use protocol::{Str, TopicIdPartition};
use world::bucket::{Bucket, MemBucket};
use world::clock::SimClock;
use world::disk::MemDisk;
use world::rng::{Rng, SeededRng};
use world::task;

use crate::house::{House, TOPIC, partition, run, small};

const NOW_MS: i64 = 1_700_000_000_000;
const PRODUCERS: usize = 5;

/// Where a log lies.
pub enum Home {
    Directory(Arc<MemDisk>),
    Bucket(MemBucket),
}

pub struct Open {
    pub log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
    client: Option<MemBucket>,
}

impl Home {
    async fn open(&self, rng: &SeededRng) -> Open {
        self.open_as(1, rng).await
    }

    /// Another broker of the bucket, which leads nothing.
    async fn reader(&self, rng: &SeededRng) -> Option<Open> {
        match self {
            Home::Directory(_) => None,
            Home::Bucket(_) => Some(self.open_as(2, rng).await),
        }
    }

    async fn open_as(&self, node_id: i32, rng: &SeededRng) -> Open {
        let clock = Arc::new(SimClock::new(NOW_MS));
        let own = SeededRng::shared(rng.below(u64::MAX));
        let settings = LogSettings {
            wal_retain_bytes: 0,
            rewrite_bytes_per_second: 0,
            rewrite_interval: Duration::from_secs(1_000_000),
            segment_own_bytes: 8 << 10,
            segment_bytes_max: 16 << 10,
            rewrite_job_bytes: 8 << 10,
            bucket_rewrite_slots: 3,
            puts_per_second: 100,
            linger: Duration::from_millis(5),
            ..small()
        };
        let (log, catalog, client) = match self {
            Home::Directory(disk) => {
                let root = PathBuf::from("/data");
                let options = CatalogOptions::default();
                let catalog =
                    Catalog::open(disk.clone(), root.join("meta"), clock.clone(), own.clone(), options);
                let catalog = catalog.await.expect("the catalog opens");
                create_topic(&catalog).await;
                let log = CommitLog::open(disk.clone(), root, clock, own, settings, catalog.clone()).await;
                (log.expect("the log opens"), catalog, None)
            }
            Home::Bucket(store) => {
                let client = store.client();
                let shared: Arc<dyn Bucket> = Arc::new(client.clone());
                let options = CatalogOptions {
                    node_id: Some(node_id),
                    lease_ttl: Duration::ZERO,
                    ..CatalogOptions::default()
                };
                let catalog = Catalog::open_bucket(shared.clone(), own.clone(), options).await;
                let catalog = catalog.expect("the catalog opens");
                let log = CommitLog::open_bucket(shared, clock, own, settings, catalog.clone()).await;
                create_topic(&catalog).await;
                (log.expect("the log opens"), catalog, Some(client))
            }
        };
        if node_id == 1 {
            log.create_partitions(&[(TopicIdPartition::new(TOPIC, 0), Default::default())]);
        }
        Open { log, catalog, client }
    }

    /// Dies, or ends in order.
    async fn end(&self, open: Open, dies: bool) {
        if dies {
            if let Some(client) = &open.client {
                client.kill();
            }
            drop(open.log);
            open.catalog.close().await;
            if let Home::Directory(disk) = self {
                disk.kill();
            }
            return;
        }
        open.log.close().await;
        open.catalog.close().await;
    }
}

async fn create_topic(catalog: &Catalog) {
    if catalog.read().topic("t").is_some() {
        return;
    }
    let topic = MetadataRecord::CreateTopic {
        id: TOPIC,
        name: Str::from("t"),
        partition_count: 1,
        replication_factor: 1,
        configs: vec![],
    };
    catalog.append(vec![topic]).await.expect("a topic");
}

/// A batch of `count` records that name their offsets in the producer's own words.
pub fn data(producer: Option<(i64, i16, i32)>, transactional: bool, values: &[String]) -> Batch {
    let mut builder = BatchBuilder::new().transactional(transactional);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for value in values {
        builder.append(NOW_MS - 1, None, Some(value.as_bytes()), &[]).expect("a record");
    }
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

pub fn marker(producer_id: i64, commit: bool, stamp: i64) -> EndTransaction {
    EndTransaction { producer_id, producer_epoch: 0, coordinator_epoch: 1, commit, transaction_stamp: stamp }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Plain,
    Data { producer: i64, transaction: usize },
    Marker,
}

#[derive(Clone, Debug)]
struct Line {
    first: i64,
    last: i64,
    kind: Kind,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    producer: i64,
    first: i64,
    /// Its marker's offset, and whether it commits.
    ended: Option<(i64, bool)>,
}

/// The plain list.
#[derive(Default)]
struct Model {
    lines: Vec<Line>,
    transactions: Vec<Transaction>,
    log_start: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.lines.last().map_or(0, |line| line.last + 1)
    }

    fn open(&self, producer: i64) -> Option<usize> {
        self.transactions.iter().position(|known| known.producer == producer && known.ended.is_none())
    }

    fn last_stable(&self) -> i64 {
        let open = self.transactions.iter().filter(|known| known.ended.is_none()).map(|known| known.first);
        open.min().map_or(self.end(), |first| first.max(self.log_start))
    }

    /// What must be said of `from..to`.
    fn aborted(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let aborted = self.transactions.iter().filter_map(|known| match known.ended {
            Some((marker, false)) if marker >= from && known.first < to => {
                Some((marker, known.producer, known.first))
            }
            _ => None,
        });
        let mut aborted: Vec<_> = aborted.collect();
        aborted.sort_unstable();
        aborted.into_iter().map(|(_, producer, first)| (producer, first)).collect()
    }

    /// Committed records of `from..to`.
    fn committed(&self, from: i64, to: i64) -> Vec<(i64, String)> {
        let is_committed = |line: &&Line| match line.kind {
            Kind::Plain => true,
            Kind::Data { transaction, .. } => {
                matches!(self.transactions[transaction].ended, Some((_, true)))
            }
            Kind::Marker => false,
        };
        let lines = self.lines.iter().filter(is_committed);
        let records = lines.flat_map(|line| (line.first..).zip(line.values.iter().cloned()));
        records.filter(|(offset, _)| (from..to).contains(offset)).collect()
    }
}

/// As Kafka's consumers do it: a producer's data is skipped from where a transaction of its that was aborted begins, up to its
/// marker.
pub fn committed_records(bytes: &bytes::Bytes, aborted: &[(i64, i64)], from: i64) -> Vec<(i64, String)> {
    let mut waiting = aborted.to_vec();
    waiting.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
    let mut skipped = std::collections::BTreeSet::new();
    let mut records = Vec::new();
    for batch in split_batches(bytes) {
        let batch = batch.expect("whole batches");
        while waiting.last().is_some_and(|(_, first)| *first <= batch.header.last_offset()) {
            skipped.insert(waiting.pop().expect("one is there").0);
        }
        let producer = batch.header.producer_id;
        if batch.header.is_control() {
            let record = batch.records(1 << 20).next().expect("a marker").expect("a record");
            let control = ControlRecord::parse(&record.key.expect("a key"), record.value.as_deref());
            if matches!(control, Some(ControlRecord::Abort { .. })) {
                skipped.remove(&producer);
            }
            continue;
        }
        if batch.header.is_transactional() && skipped.contains(&producer) {
            continue;
        }
        let own = batch.records(1 << 20).map(|record| record.expect("a record"));
        records.extend(own.filter(|record| record.offset >= from).map(|record| {
            (record.offset, String::from_utf8(record.value.expect("a value").to_vec()).expect("text"))
        }));
    }
    records
}

/// Any ranges, with any bounds: data, last stable offset and aborted transactions are the model's.
async fn check(partition: &Arc<Partition>, model: &Model, rng: &SeededRng) {
    let offsets = partition.offsets();
    let last_stable = model.last_stable();
    assert_eq!((offsets.high_watermark, offsets.last_stable), (model.end(), last_stable));
    for _ in 0..12 {
        let from = offsets.log_start + rng.below((model.end() - offsets.log_start + 1) as u64) as i64;
        let request = ReadRequest {
            offset: from,
            max_bytes: [1, 300, 2_000, 1 << 20][rng.below(4) as usize],
            min_one_batch: true,
            isolation: Isolation::ReadCommitted,
        };
        let read = partition.read(request).await.expect("readable");
        assert_eq!((read.high_watermark, read.last_stable_offset), (model.end(), last_stable));
        let bytes = read.records.to_bytes();
        let end = split_batches(&bytes).last().map(|batch| batch.expect("whole").header.last_offset() + 1);
        let aborted: Vec<(i64, i64)> =
            read.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect();
        let Some(end) = end else {
            assert!(from >= last_stable, "nothing at {from} below {last_stable}");
            assert!(aborted.is_empty());
            continue;
        };
        assert!(end <= last_stable, "data up to {end} behind {last_stable}");
        assert_eq!(aborted, model.aborted(from, end), "of {from}..{end}");
        assert_eq!(committed_records(&bytes, &aborted, from), model.committed(from, end), "of {from}..{end}");
        let plain = ReadRequest { isolation: Isolation::ReadUncommitted, ..request };
        assert!(partition.read(plain).await.expect("readable").aborted.is_empty());
    }
}

async fn story(home: Home, seed: u64) {
    let rng = SeededRng::new(seed);
    let mut model = Model::default();
    let mut sequences = [0; PRODUCERS];
    let mut open = home.open(&rng).await;
    let reader = home.reader(&rng).await;
    for step in 0..rng.below(80) + 40 {
        let partition = partition(&open.log, 0);
        let producer = rng.below(PRODUCERS as u64) as usize;
        let id = 100 + producer as i64;
        let first = model.end();
        let values: Vec<String> = (0..=rng.below(4)).map(|n| format!("{step}-{n}")).collect();
        let stamp = 1_000 + step as i64;
        match rng.below(20) {
            // Nobody's, or of a producer that never has a transaction.
            0..4 => {
                let sent = partition.append(data(None, false, &values), AppendOptions::default());
                sent.expect("taken").committed().await.expect("committed");
                let last = first + values.len() as i64 - 1;
                model.lines.push(Line { first, last, kind: Kind::Plain, values });
            }
            4..12 => {
                let sequence = sequences[producer];
                sequences[producer] += values.len() as i32;
                let options = AppendOptions { transaction_stamp: stamp, ..AppendOptions::default() };
                let sent = partition.append(data(Some((id, 0, sequence)), true, &values), options);
                let sent = sent.expect("taken");
                assert_eq!(sent.base_offset, first);
                sent.committed().await.expect("committed");
                let transaction = model.open(id).unwrap_or_else(|| {
                    model.transactions.push(Transaction { producer: id, first, ended: None });
                    model.transactions.len() - 1
                });
                let last = first + values.len() as i64 - 1;
                let kind = Kind::Data { producer: id, transaction };
                model.lines.push(Line { first, last, kind, values });
                // Outside of its transaction it may write nothing.
                let sequence = sequences[producer];
                let plain = data(Some((id, 0, sequence)), false, &["no".into()]);
                let refused = partition.append(plain, AppendOptions::default());
                assert!(matches!(refused, Err(AppendError::NotInTransaction { .. })), "{refused:?}");
            }
            12..17 => {
                let commit = rng.below(2) == 0;
                let known = model.open(id).map(|known| model.transactions[known]);
                let opened = partition.open_transaction(id);
                assert_eq!(opened.map(|(first, _)| first), known.map(|known| known.first));
                let end = async |commit: bool, stamp: i64| {
                    open.log
                        .end_transaction(&partition.id(), marker(id, commit, stamp), 0)
                        .await
                        .expect("ended")
                };
                if let Some((_, stamp)) = opened {
                    // A late marker of an earlier transaction does nothing (T2).
                    assert_eq!(end(!commit, stamp - 1).await, None);
                }
                let stamp = opened.map_or(7, |(_, stamp)| stamp);
                // The second one comes while the first is in flight.
                let (ended, repeated) =
                    futures_util::future::join(end(commit, stamp), end(!commit, stamp)).await;
                assert_eq!((ended, repeated), (known.map(|_| first), None));
                if let Some(known) = model.open(id) {
                    model.transactions[known].ended = Some((first, commit));
                    model.lines.push(Line { first, last: first, kind: Kind::Marker, values: vec![] });
                }
            }
            17 => while open.log.rewrite().await.expect("rewritten") {},
            18 => {
                home.end(open, rng.below(2) == 0).await;
                open = home.open(&rng).await;
            }
            _ if rng.below(4) == 0 => {
                let before =
                    model.log_start + rng.below((model.end() - model.log_start) as u64 / 3 + 1) as i64;
                model.log_start = partition.delete_records(before).await.expect("trimmed");
            }
            _ => {}
        }
        if step % 5 == 0 {
            check(&crate::house::partition(&open.log, 0), &model, &rng).await;
        }
        if step % 7 == 0
            && let Some(reader) = &reader
        {
            check_elsewhere(reader, &model, &rng).await;
        }
    }
    home.end(open, true).await;
    let open = home.open(&rng).await;
    check(&partition(&open.log, 0), &model, &rng).await;
    while open.log.rewrite().await.expect("rewritten") {}
    check(&partition(&open.log, 0), &model, &rng).await;
    if let Some(reader) = reader {
        check_elsewhere(&reader, &model, &rng).await;
        reader.log.close().await;
    }
    home.end(open, false).await;
}

/// Readers at a broker that does not lead it see the same (F5).
async fn check_elsewhere(reader: &Open, model: &Model, rng: &SeededRng) {
    let id = TopicIdPartition::new(TOPIC, 0);
    reader.catalog.catch_up().await.expect("caught up");
    reader.log.open_views(&[id]).await.expect("open");
    // Slots may have been rewritten since it was opened, and reads find that out by themselves.
    if rng.below(2) == 0 {
        while reader.log.rewrite().await.expect("rewritten") {}
    }
    reader.log.refresh_views().await.expect("fresh");
    let view = reader.log.view(&id).expect("it is open");
    check(&view, model, rng).await;
    let refused = view.append(data(None, false, &["no".into()]), AppendOptions::default());
    assert!(matches!(refused, Err(AppendError::NotLeader)));
}

#[test]
fn readers_of_committed_data_see_what_a_plain_list_says_in_a_directory() {
    for seed in 1..=60 {
        run(seed, story(Home::Directory(MemDisk::new(seed)), seed));
    }
}

#[test]
fn readers_of_committed_data_see_what_a_plain_list_says_in_a_bucket() {
    for seed in 1..=60 {
        run(seed, async {
            task::timeout(Duration::from_secs(100_000), story(Home::Bucket(MemBucket::new(seed)), seed))
                .await
                .expect("it ends")
        });
    }
}

#[test]
fn a_partition_with_too_many_aborted_transactions_begins_no_other_until_some_are_gone() {
    run(1, async {
        let house = House::new(1, LogSettings { aborted_transactions_max: 2, ..small() });
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let begin = |sequence: i32| {
            p.append(data(Some((1, 0, sequence)), true, &["x".into()]), AppendOptions::default())
        };
        for round in 0..2 {
            begin(round).unwrap().committed().await.unwrap();
            log.end_transaction(&p.id(), marker(1, false, -1), 0).await.unwrap();
        }
        assert!(matches!(begin(2), Err(AppendError::TooManyAborted { max: 2 })));
        p.append(data(None, false, &["plain".into()]), AppendOptions::default())
            .unwrap()
            .committed()
            .await
            .unwrap();
        p.delete_records(2).await.unwrap();
        begin(2).unwrap().committed().await.unwrap();
        log.close().await;
    });
}

#[test]
fn markers_are_not_taken_from_clients_and_old_coordinators_are_fenced() {
    run(1, async {
        let house = House::new(1, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let bytes = protocol::batch::end_transaction_marker(1, 0, true, 0, NOW_MS).unwrap();
        let refused = p.append(Batch::parse(bytes).unwrap(), AppendOptions::default());
        assert!(matches!(refused, Err(AppendError::ControlBatch)));
        for sequence in 0..2 {
            let sent = p.append(data(Some((1, 0, sequence)), true, &["x".into()]), AppendOptions::default());
            sent.unwrap().committed().await.unwrap();
            let old = EndTransaction { coordinator_epoch: sequence - 1, ..marker(1, true, -1) };
            if sequence > 0 {
                let fenced = log.end_transaction(&p.id(), old, 0).await.unwrap_err();
                assert!(fenced.to_string().contains("epoch 0 is older than 1"), "{fenced}");
            }
            log.end_transaction(&p.id(), marker(1, true, -1), 0).await.unwrap();
        }
        let producer = p.producers()[0];
        assert_eq!((producer.coordinator_epoch, producer.transaction_start_offset), (1, -1));
        assert_eq!(p.max_timestamp().await.unwrap().unwrap().offset, 1, "markers have times as well");
        log.close().await;
    });
}

/// A leader that was taken over from knows nothing of transactions that began since, and must not say that they are ended (T2, R20).
#[test]
fn a_leader_that_was_taken_over_from_ends_nothing() {
    run(1, async {
        let rng = SeededRng::new(1);
        let home = Home::Bucket(MemBucket::new(1));
        let old = home.open(&rng).await;
        let new = home.open(&rng).await;
        let p = partition(&new.log, 0);
        let options = AppendOptions { leader_epoch: 1, transaction_stamp: 5, ..AppendOptions::default() };
        p.append(data(Some((1, 0, 0)), true, &["x".into()]), options).unwrap().committed().await.unwrap();
        let ended = old.log.end_transaction(&p.id(), marker(1, true, 5), 0).await;
        assert!(ended.is_err(), "{ended:?}");
        assert_eq!(p.open_transaction(1), Some((0, 5)));
        assert_eq!(new.log.end_transaction(&p.id(), marker(1, true, 5), 1).await.unwrap(), Some(1));
    });
}

/// ```text
///   led here ── asks ── led elsewhere, where a marker comes ── led here again ── asks for the next transaction ── the first answer comes
/// ```
/// The answer is about a transaction that has ended since (T4).
#[test]
fn what_was_asked_for_a_leadership_that_ended_is_worth_nothing_in_the_next_one() {
    run(1, async {
        let home = Home::Bucket(MemBucket::new(1));
        let open = home.open(&SeededRng::new(1)).await;
        let id = TopicIdPartition::new(TOPIC, 0);
        let early = partition(&open.log, 0).verification(1, 0);
        open.log.close_partitions(&[id]);
        open.log.open_partitions(&[(id, Default::default())]).await.unwrap();
        let p = partition(&open.log, 0);
        let late = p.verification(1, 0);
        let append = |verification| {
            let options = AppendOptions { verification, transaction_stamp: 7, ..AppendOptions::default() };
            p.append(data(Some((1, 0, 0)), true, &["x".into()]), options)
        };
        assert!(matches!(append(early), Err(AppendError::NotVerified { producer_id: 1 })));
        append(late).unwrap().committed().await.unwrap();
        home.end(open, false).await;
    });
}

/// A coordinator's yes is worth something until a marker comes, and a batch that joins must find its transaction open (T3, T4).
#[test]
fn a_marker_takes_the_worth_of_what_was_asked_before_it() {
    run(1, async {
        let house = House::new(1, small());
        let log = house.open().await.unwrap();
        let p = partition(&log, 0);
        let append = |producer: (i64, i16, i32), verification| {
            let options = AppendOptions { verification, transaction_stamp: 7, ..AppendOptions::default() };
            p.append(data(Some(producer), true, &["x".into()]), options)
        };
        let is_refused = |append: Result<commitlog::Append, AppendError>| {
            assert!(matches!(append, Err(AppendError::NotVerified { producer_id: 1 })), "{append:?}");
        };
        is_refused(append((1, 0, 0), Verification::Begun));
        let (early, late) = (p.verification(1, 0), p.verification(1, 0));
        assert_ne!(early, late);
        // Nothing is open, so this marker ends nothing; but somebody has decided about the transaction that was asked for.
        assert_eq!(log.end_transaction(&p.id(), marker(1, true, 6), 0).await.unwrap(), None);
        is_refused(append((1, 0, 0), early));
        is_refused(append((1, 0, 0), late));
        let asked = p.verification(1, 0);
        append((1, 0, 0), asked).unwrap().committed().await.unwrap();
        p.forget_verification(1, asked);
        assert_eq!(p.verification(1, 0), Verification::Begun);
        append((1, 0, 1), Verification::Begun).unwrap().committed().await.unwrap();
        // Another epoch has to wait for the marker, whatever its coordinator says.
        let newer = p.verification(1, 1);
        assert_ne!(newer, Verification::Begun);
        is_refused(append((1, 1, 0), newer));
        log.end_transaction(&p.id(), marker(1, true, 7), 0).await.unwrap();
        is_refused(append((1, 0, 2), Verification::Begun));
        let forgotten = p.verification(1, 0);
        p.forget_verification(1, forgotten);
        is_refused(append((1, 0, 2), forgotten));
        log.close().await;
    });
}
