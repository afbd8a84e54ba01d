//! A consumer at a broker that does not lead: how soon it sees a record, and what that costs, with leaders that say how far their WALs
//! are stored and without.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::{Broker, BrokerOptions, Endpoint, INTER_BROKER_LISTENER};
use catalog::config::BrokerConfig;
use catalog::{BrokerEndpoint, Catalog, CatalogOptions, MetadataRecord};
use commitlog::{AppendOptions, CommitLog, LogSettings};
use protocol::batch::{Batch, BatchBuilder};
use protocol::{Str, TopicIdPartition, Uuid};
use server::{BoundInterBroker, InterBroker, InterBrokerLimits, PeerId, Security};
use world::bucket::{Bucket, MemBucket, MemBucketFaults};
use world::clock::{SharedClock, SimClock};
use world::net::Net;
use world::rng::{Rng, SeededRng};
use world::task;

const RECORDS: i64 = 300;
const IDLE_MINUTES: u64 = 10;

struct Running {
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
    broker: Arc<Broker>,
    others: Arc<InterBroker>,
    store: MemBucket,
}

#[derive(Debug)]
struct Measured {
    /// From the acknowledgement to the moment at which it can be read elsewhere.
    p50: Duration,
    p99: Duration,
    /// Of the broker that does not lead.
    gets_a_record: f64,
    idle_gets_a_minute: u64,
}

fn one_record() -> Batch {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(b"a record"), &[]).expect("a record");
    Batch::parse(builder.build().expect("a batch")).expect("our own batch")
}

async fn start(store: &MemBucket, net: &Net, clock: &SharedClock, node_id: i32, they_talk: bool) -> Running {
    let (store, rng) = (store.client(), SeededRng::shared(node_id as u64));
    let bound = BoundInterBroker::bind(net, "127.0.0.1:0").await.unwrap();
    let between_brokers = BrokerEndpoint {
        listener_name: INTER_BROKER_LISTENER.into(),
        security_protocol: 1,
        host: "127.0.0.1".into(),
        port: bound.address().port(),
    };
    // The looks at the metadata log are not what is measured.
    let options = CatalogOptions {
        node_id: Some(node_id),
        endpoints: vec![between_brokers],
        follow_every: Duration::from_secs(60),
        ..CatalogOptions::default()
    };
    let catalog = Catalog::open_bucket(Arc::new(store.clone()), rng.clone(), options).await.unwrap();
    let settings = LogSettings { puts_per_second: 20, ..LogSettings::default() };
    let bucket = Arc::new(store.clone());
    let log = CommitLog::open_bucket(bucket, clock.clone(), rng.clone(), settings, catalog.clone());
    let log = log.await.unwrap();
    let me = PeerId { node_id, wal_id: catalog.wal_id() };
    let others = InterBroker::new(net.clone(), Security::Memory(me), clock.clone());
    let (config, _) = BrokerConfig::new([("node.id", node_id.to_string())]).unwrap();
    let endpoint = Endpoint {
        listener_name: "PLAINTEXT".into(),
        security_protocol: 0,
        host: "127.0.0.1".into(),
        port: 9092,
    };
    let options = BrokerOptions {
        clock: clock.clone(),
        rng,
        catalog: catalog.clone(),
        log: log.clone(),
        config: Arc::new(config),
        node_id,
        advertised: vec![endpoint],
        peers: they_talk.then(|| others.clone() as Arc<dyn broker::Peers>),
        sasl: Arc::default(),
    };
    let broker = Broker::start(options).await.unwrap();
    others.serve(bound, broker.clone(), InterBrokerLimits::default());
    Running { catalog, log, broker, others, store }
}

fn measure(they_talk: bool) -> Measured {
    task::deterministic(3);
    task::paused_runtime().block_on(async {
        let (store, net) = (MemBucket::new(3), Net::memory());
        let clock: SharedClock = Arc::new(SimClock::new(0));
        let leader = start(&store, &net, &clock, 1, they_talk).await;
        let id = TopicIdPartition { topic_id: Uuid::from_u128(1), partition: 0 };
        let topic = MetadataRecord::CreateTopic {
            id: id.topic_id,
            name: Str::from("t"),
            partition_count: 1,
            replication_factor: 1,
            configs: Vec::new(),
        };
        leader.catalog.append(vec![topic]).await.unwrap();
        let other = start(&store, &net, &clock, 2, they_talk).await;
        while leader.log.partition(&id).is_none() {
            task::sleep(Duration::from_millis(10)).await;
        }
        let latency = Some((Duration::from_millis(100), Duration::from_millis(300)));
        store.set_faults(MemBucketFaults { latency_p50_p99: latency, ..MemBucketFaults::default() });
        other.log.open_views(&[id]).await.unwrap();
        task::sleep(Duration::from_secs(5)).await;
        let gets = || other.store.counters().gets.load(Ordering::Relaxed);
        let (partition, view) = (leader.log.partition(&id).unwrap(), other.log.view(&id).unwrap());
        let (mut took, random, before) = (Vec::new(), SeededRng::new(5), gets());
        for offset in 0..RECORDS {
            task::sleep(Duration::from_millis(200 + random.below(1600))).await;
            partition.append(one_record(), AppendOptions::default()).unwrap().committed().await.unwrap();
            let acknowledged = task::now();
            while view.offsets().high_watermark <= offset {
                task::sleep(Duration::from_millis(1)).await;
                assert!(acknowledged.elapsed() < Duration::from_secs(30), "it is seen some day");
            }
            took.push(acknowledged.elapsed());
            other.log.view(&id).expect("somebody reads it");
        }
        let gets_a_record = (gets() - before) as f64 / RECORDS as f64;
        let before = gets();
        for _ in 0..IDLE_MINUTES * 2 {
            task::sleep(Duration::from_secs(30)).await;
            other.log.view(&id).expect("somebody reads it");
        }
        took.sort_unstable();
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        let measured = Measured {
            p50: at(50),
            p99: at(99),
            gets_a_record,
            idle_gets_a_minute: (gets() - before) / IDLE_MINUTES,
        };
        for Running { catalog, log, broker, others, .. } in [leader, other] {
            others.stop().await;
            broker.shutdown().await;
            log.close().await;
            catalog.close().await;
        }
        measured
    })
}

/// The store takes 100 ms in the median and 300 ms at p99.
#[test]
fn what_a_leader_says_makes_reads_elsewhere_soon_and_cheap() {
    let (silent, told) = (measure(false), measure(true));
    println!("without a word: {silent:?}\ntold:           {told:?}");
    assert!(told.p50 * 2 < silent.p50 && told.p99 < silent.p99);
    assert!(told.gets_a_record < silent.gets_a_record);
    assert!(told.idle_gets_a_minute * 5 < silent.idle_gets_a_minute);
}
