//! Notes by name, kept in one partition of a log on a disk in memory: what the runtime does with its log when something fails or is slow.

// All of this is tests; `cargo xtask check` finds where those of a file begin by this line.
#[cfg(test)]
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogOptions, MetadataRecord};
use commitlog::{CommitLog, EndTransaction, LogSettings, Partition, Verification};
use futures_util::future::join;
use protocol::wire::DecodeError;
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use tokio::sync::Semaphore;
use world::clock::SimClock;
use world::disk::{MemDisk, MemFaults};
use world::rng::SeededRng;
use world::task::{self, JoinHandle};

use super::{
    Effects, InTransaction, Marked, Now, PartitionRuntime, Record, ReplyId, StateMachine, Token, Write,
};

const TOPIC: Uuid = Uuid([7; 16]);
const PRODUCER: i64 = 7;
const STAMP: i64 = 5;
const LOG_BYTES_MAX: u64 = 1_000;

/// Pages of snapshots that were made.
#[derive(Default)]
struct Pages(AtomicUsize);

type Told = Result<(), ErrorCode>;

/// A name, and what it had before.
type Changed = (Bytes, Option<Bytes>);

struct Notes {
    pages: Arc<Pages>,
    notes: BTreeMap<Bytes, Bytes>,
    /// Who waits for a write, and what it has changed.
    under_way: BTreeMap<Token, (ReplyId, Option<Changed>)>,
    next_token: u64,
}

impl Notes {
    /// Counts at once; is taken back should it not be written.
    fn note(
        &mut self,
        (name, text): (&str, Option<Bytes>),
        transaction: Option<InTransaction>,
        reply: ReplyId,
        effects: &mut Effects<Told>,
    ) {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let before = match &text {
            Some(text) => self.notes.insert(name.clone(), text.clone()),
            None => self.notes.remove(&name),
        };
        let record = Record { key: name.clone(), value: text };
        self.write(vec![record], transaction, (reply, Some((name, before))), effects);
    }

    fn write(
        &mut self,
        records: Vec<Record>,
        transaction: Option<InTransaction>,
        waiting: (ReplyId, Option<(Bytes, Option<Bytes>)>),
        effects: &mut Effects<Told>,
    ) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.under_way.insert(token, waiting);
        effects.writes.push(Write { token, records, transaction });
    }

    fn set(&mut self, name: Bytes, text: Option<Bytes>) {
        match text {
            Some(text) => drop(self.notes.insert(name, text)),
            None => drop(self.notes.remove(&name)),
        }
    }
}

impl StateMachine for Notes {
    type Settings = Pages;
    type Answer = Told;
    type SnapshotPlace = ();
    const WHAT: &'static str = "notes";
    const IS_URGENT: bool = false;

    fn new(pages: Arc<Pages>) -> Notes {
        Notes { pages, notes: BTreeMap::new(), under_way: BTreeMap::new(), next_token: 0 }
    }

    fn set_settings(&mut self, _: Arc<Pages>) {}

    fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        _: Option<i64>,
        _: Now,
    ) -> Result<(), DecodeError> {
        self.set(key.clone(), value.cloned());
        Ok(())
    }

    fn replay_marker(&mut self, _: i64, _: bool, _: Now) {}

    fn loaded(&mut self, _: &dyn Fn(&Str) -> Option<Uuid>, _: Now, _: &mut Effects<Told>) {}

    fn tick(&mut self, _: Now, _: &mut Effects<Told>) {}

    fn next_alarm_at_ms(&self) -> Option<u64> {
        None
    }

    fn written(&mut self, token: Token, outcome: Told, _: Now, effects: &mut Effects<Told>) {
        let (reply, changed) = self.under_way.remove(&token).expect("is under way");
        if let (Err(_), Some((name, before))) = (outcome, changed) {
            self.set(name, before);
        }
        effects.answer(reply, outcome);
    }

    fn marked(&mut self, _: Marked, reply: ReplyId, _: Now, effects: &mut Effects<Told>) {
        self.write(Vec::new(), None, (reply, None), effects);
    }

    fn snapshot_page(&self, _: Option<()>, _: usize) -> (Vec<Record>, Option<()>) {
        self.pages.0.fetch_add(1, Ordering::Relaxed);
        let records = self.notes.iter();
        (records.map(|(key, value)| Record { key: key.clone(), value: Some(value.clone()) }).collect(), None)
    }

    fn unload(&mut self, _: ErrorCode, _: &mut Effects<Told>) {}
}

struct House {
    disk: Arc<MemDisk>,
    starts: u64,
}

/// A start of it.
struct Open {
    log: Arc<CommitLog>,
    catalog: Arc<Catalog>,
    runtime: Arc<PartitionRuntime<Notes>>,
    pages: Arc<Pages>,
    task: JoinHandle<()>,
}

impl House {
    /// `faults` are in the way of whoever reads the notes.
    async fn open_with(&mut self, faults: MemFaults) -> Open {
        self.starts += 1;
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        let (rng, root) = (SeededRng::shared(self.starts), PathBuf::from("/data"));
        let options = CatalogOptions::default();
        let opened = Catalog::open(self.disk.clone(), root.join("meta"), clock.clone(), rng.clone(), options);
        let catalog = opened.await.expect("a catalog");
        if catalog.read().topic("notes").is_none() {
            let topic = MetadataRecord::CreateTopic {
                id: TOPIC,
                name: Str::from("notes"),
                partition_count: 1,
                replication_factor: 1,
                configs: vec![],
            };
            catalog.append(vec![topic]).await.expect("a topic");
        }
        let settings = LogSettings {
            wal_file_bytes_min: 256 << 10,
            tail_bytes_max: 8 << 10,
            reserve_bytes: 0,
            ..LogSettings::default()
        };
        let log =
            CommitLog::open(self.disk.clone(), root, clock.clone(), rng, settings, catalog.clone()).await;
        let log = log.expect("a log");
        let partition = log.partition(&TopicIdPartition::new(TOPIC, 0)).expect("the topic has one");
        let pages = Arc::<Pages>::default();
        let runtime = PartitionRuntime::<Notes>::new(partition, 0, clock, pages.clone(), LOG_BYTES_MAX);
        self.disk.set_faults(faults);
        let running = runtime.clone();
        let task = task::spawn(async move {
            let loads = Semaphore::new(1);
            running.run(&loads, |_| None).await;
        });
        task::sleep(Duration::from_millis(100)).await;
        Open { log, catalog, runtime, pages, task }
    }

    async fn open(&mut self) -> Open {
        self.open_with(MemFaults::default()).await
    }

    async fn restart(&mut self, open: Open) -> Open {
        open.close().await;
        self.open().await
    }
}

impl Open {
    async fn close(self) {
        self.runtime.stop();
        self.task.await.expect("it ends when it is stopped");
        self.log.close().await;
        self.catalog.close().await;
    }

    fn partition(&self) -> &Arc<Partition> {
        self.runtime.partition()
    }

    async fn note(&self, name: &str, text: Option<usize>, transaction: Option<InTransaction>) -> Told {
        let text = text.map(|bytes| Bytes::from(vec![b'x'; bytes]));
        let asked = self.runtime.ask(&self.pages, |notes, reply, _, effects| {
            notes.note((name, text), transaction, reply, effects);
        });
        asked.await?
    }

    async fn put(&self, name: &str, bytes: usize) {
        self.note(name, Some(bytes), None).await.expect("is written");
    }

    fn names(&self) -> Vec<String> {
        self.runtime.look(|notes| {
            notes.notes.keys().map(|name| String::from_utf8(name.to_vec()).expect("text")).collect()
        })
    }

    fn pages(&self) -> usize {
        self.pages.0.load(Ordering::Relaxed)
    }
}

fn story<S: Future<Output = ()>>(story: impl FnOnce(House) -> S) {
    task::deterministic(1);
    task::paused_runtime().block_on(story(House { disk: MemDisk::new(1), starts: 0 }));
}

fn in_transaction(verification: Verification) -> InTransaction {
    InTransaction { producer_id: PRODUCER, producer_epoch: 0, stamp: STAMP, verification }
}

async fn seconds(seconds: u64) {
    task::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn behind_a_snapshot_the_log_is_short_and_says_the_same() {
    story(async |mut house| {
        let open = house.open().await;
        for _ in 0..10 {
            open.put("again", 500).await;
        }
        open.put("kept", 10).await;
        seconds(1).await;
        assert!(open.pages() > 0);
        assert!(open.partition().offsets().log_start > 0);
        let open = house.restart(open).await;
        assert_eq!(open.names(), ["again", "kept"]);
    });
}

/// A deletion that the log does not take, and a snapshot that was made before that was known: it lacks what has to come back.
#[test]
fn a_snapshot_that_lacks_what_a_failed_deletion_brings_back_takes_nothing_away() {
    story(async |mut house| {
        let open = house.open().await;
        open.put("kept", 10).await;
        let large = open.note("large", Some(2_000), None);
        let refused = open.note("kept", None, Some(in_transaction(Verification::Asked(u64::MAX))));
        let (large, refused) = join(large, refused).await;
        assert_eq!(large, Ok(()));
        assert!(refused.is_err());
        seconds(1).await;
        assert_eq!(open.pages(), 1, "it was made in between");
        assert_eq!(open.partition().offsets().log_start, 0);
        let open = house.restart(open).await;
        assert_eq!(open.names(), ["kept", "large"]);
        // The next one is whole.
        seconds(1).await;
        assert!(open.partition().offsets().log_start > 0);
        let open = house.restart(open).await;
        assert_eq!(open.names(), ["kept", "large"]);
    });
}

#[test]
fn while_a_transaction_keeps_the_log_long_no_snapshot_is_made_again_and_again() {
    story(async |mut house| {
        let open = house.open().await;
        let verification = open.partition().verification(PRODUCER, 0);
        open.note("pending", Some(10), Some(in_transaction(verification))).await.expect("is written");
        open.partition().forget_verification(PRODUCER, verification);
        for _ in 0..20 {
            open.put("again", 1_000).await;
            seconds(15).await;
        }
        assert_eq!(open.pages(), 1);
        let marker = EndTransaction {
            producer_id: PRODUCER,
            producer_epoch: 0,
            coordinator_epoch: 0,
            commit: true,
            transaction_stamp: STAMP,
        };
        let ended = open.runtime.end_transaction(&open.pages, marker).expect("is open");
        assert_eq!(ended.await, Ok(Ok(())));
        seconds(1).await;
        assert_eq!(open.pages(), 2);
        assert!(open.partition().offsets().log_start > 20);
        let open = house.restart(open).await;
        assert_eq!(open.names(), ["again", "pending"]);
    });
}

#[test]
fn a_log_that_could_not_be_read_is_read_again() {
    story(async |mut house| {
        let open = house.open().await;
        open.put("kept", 10).await;
        open.close().await;
        let open = house.open_with(MemFaults { fail_read_at: Some(1), ..MemFaults::default() }).await;
        assert_eq!(open.note("kept", None, None).await, Err(ErrorCode::CoordinatorNotAvailable));
        seconds(2).await;
        assert_eq!(open.names(), ["kept"]);
        open.put("more", 10).await;
        // Stopped while it waits for the next try it ends at once.
        let open = house.restart(open).await;
        assert_eq!(open.names(), ["kept", "more"]);
    });
}
