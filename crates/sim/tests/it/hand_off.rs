//! Appends by way of the controller: what they save, and whole brokers that talk to one another over TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::{
    Broker, BrokerOptions, Endpoint, HandedOff, INTER_BROKER_LISTENER, Peer, PeerCalls, Peers, Progress,
};
use bytes::Bytes;
use catalog::config::BrokerConfig;
use catalog::{BrokerEndpoint, Catalog, CatalogOptions, HandOff, HandOffFuture, MetadataRecord};
use commitlog::{CommitLog, LogSettings};
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use protocol::{Str, Uuid};
use server::{
    Authority, AuthorityStore, BoundInterBroker, Credentials, InterBroker, InterBrokerLimits, PeerId,
    Security,
};
use world::bucket::{MemBucket, MemBucketFaults};
use world::clock::{RealClock, SharedClock, SimClock};
use world::net::Net;
use world::rng::{RealRng, Rng, SeededRng};
use world::task;

const BROKERS: u64 = 3;

fn topic(id: u64) -> MetadataRecord {
    MetadataRecord::CreateTopic {
        id: Uuid::from_u128(u128::from(id) + 1),
        name: Str::from(format!("topic-{id}")),
        partition_count: 1,
        replication_factor: 1,
        configs: Vec::new(),
    }
}

fn endpoint(port: u16) -> BrokerEndpoint {
    BrokerEndpoint {
        listener_name: INTER_BROKER_LISTENER.into(),
        security_protocol: 1,
        host: "127.0.0.1".into(),
        port,
    }
}

/// A catalog that is asked over the wire.
struct OnlyCatalog(Arc<Catalog>);

impl PeerCalls for OnlyCatalog {
    fn is_live(&self, _: i32, _: u64) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }

    fn log_moved(&self, _: u64, _: Duration) -> BoxFuture<'static, Progress> {
        let catalog = self.0.clone();
        Box::pin(async move {
            let replayed = catalog.catch_up().await.unwrap_or(0);
            Progress { replayed, applied: replayed, load: None }
        })
    }

    fn append_for(&self, wal_id: u64, requests: Bytes) -> BoxFuture<'static, HandedOff> {
        let catalog = self.0.clone();
        Box::pin(async move { catalog.append_for(wal_id, &requests).await })
    }

    fn transactions(&self, _: i16, _: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(std::future::ready(None))
    }

    fn slots_stored(&self, more_than: u64, _: Duration) -> BoxFuture<'static, u64> {
        Box::pin(std::future::ready(more_than))
    }
}

struct Way(Arc<InterBroker>);

impl HandOff for Way {
    fn hand_off(&self, controller: &catalog::state::Broker, requests: Bytes) -> HandOffFuture {
        let address = format!("127.0.0.1:{}", controller.endpoints[0].port);
        let peer = Peer { node_id: controller.node_id, wal_id: controller.wal_id, address };
        self.0.clone().hand_off(peer, requests)
    }
}

#[derive(Debug)]
struct Cost {
    objects: usize,
    puts: u64,
    p50: Duration,
    p99: Duration,
}

/// Three brokers that append so often each, at a store of 100 ms in the median and 300 ms at p99.
fn cost(hands_off: bool, per_second: u64) -> Cost {
    const SECONDS: u64 = 60;
    task::deterministic(7);
    task::paused_runtime().block_on(async {
        let store = MemBucket::new(7);
        let (net, clock): (Net, SharedClock) = (Net::memory(), Arc::new(SimClock::new(0)));
        let seeds = SeededRng::new(7);
        let mut catalogs = Vec::new();
        for node_id in 1..=BROKERS as i32 {
            let bound = BoundInterBroker::bind(&net, "127.0.0.1:0").await.unwrap();
            let options = CatalogOptions {
                node_id: Some(node_id),
                lease_ttl: Duration::ZERO,
                endpoints: vec![endpoint(bound.address().port())],
                ..CatalogOptions::default()
            };
            let rng = SeededRng::shared(seeds.next_u64());
            let catalog = Catalog::open_bucket(Arc::new(store.clone()), rng, options).await.unwrap();
            let me = PeerId { node_id, wal_id: catalog.wal_id() };
            let others = InterBroker::new(net.clone(), Security::Memory(me), clock.clone());
            others.serve(bound, OnlyCatalog(catalog.clone()), InterBrokerLimits::default());
            if hands_off {
                catalog.hand_off_by(Arc::new(Way(others)));
            }
            catalogs.push(catalog);
        }
        let latency = Some((Duration::from_millis(100), Duration::from_millis(300)));
        store.set_faults(MemBucketFaults { latency_p50_p99: latency, ..MemBucketFaults::default() });
        let puts = || store_puts(&store);
        let (objects_before, puts_before) = (frames(&store), puts());
        let mut asked = task::JoinSet::new();
        for number in 0..BROKERS * per_second * SECONDS {
            let catalog = catalogs[(number % BROKERS) as usize].clone();
            let at = Duration::from_millis(number * 1000 / (BROKERS * per_second));
            asked.spawn(async move {
                task::sleep(at).await;
                let began = task::now();
                catalog.append(vec![topic(number)]).await.expect("nothing is in its way");
                began.elapsed()
            });
        }
        let mut took = asked.join_all().await;
        took.sort();
        let at = |part: f64| took[(took.len() as f64 * part) as usize];
        Cost {
            objects: frames(&store) - objects_before,
            puts: puts() - puts_before,
            p50: at(0.5),
            p99: at(0.99),
        }
    })
}

fn frames(store: &MemBucket) -> usize {
    store.objects().keys().filter(|key| key.starts_with("meta/")).count()
}

fn store_puts(store: &MemBucket) -> u64 {
    use world::bucket::Bucket;
    store.counters().puts.load(Ordering::Relaxed)
}

/// 180 and 1,800 changes in a minute.
#[test]
fn one_who_appends_for_all_needs_fewer_objects_and_less_time() {
    for per_second in [1, 10] {
        let (alone, together) = (cost(false, per_second), cost(true, per_second));
        println!(
            "{per_second} a second each, without: {alone:?}\n{per_second} a second each, with:    {together:?}"
        );
        assert!(together.puts < alone.puts && together.p50 < alone.p50 && together.p99 < alone.p99);
        // Hardly anybody finds another's object where his own should stand; three take snapshots.
        assert!(together.puts as usize <= together.objects + 20);
    }
}

/// The authorities of a bucket.
struct Store(catalog::Authorities);

impl AuthorityStore for Store {
    fn list(&self) -> BoxFuture<'static, Result<Vec<Authority>, String>> {
        let authorities = self.0.clone();
        Box::pin(async move {
            let listed = authorities.list().await.map_err(|error| error.to_string())?;
            Ok(listed.into_iter().map(of_catalog).collect())
        })
    }

    fn add(&self, new: Authority) -> BoxFuture<'static, Result<Authority, String>> {
        let authorities = self.0.clone();
        let Authority { number, certificate, private_key } = new;
        Box::pin(async move {
            let added = authorities.add(catalog::Authority { number, certificate, private_key }).await;
            added.map(of_catalog).map_err(|error| error.to_string())
        })
    }
}

fn of_catalog(authority: catalog::Authority) -> Authority {
    let catalog::Authority { number, certificate, private_key } = authority;
    Authority { number, certificate, private_key }
}

struct Running {
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
    broker: Arc<Broker>,
    others: Arc<InterBroker>,
}

async fn start(store: &MemBucket) -> Running {
    let bound = BoundInterBroker::bind(&Net::tcp(), "127.0.0.1:0").await.unwrap();
    let (clock, rng, bucket) = (RealClock::shared(), RealRng::shared(), Arc::new(store.clone()));
    // Whoever waits for the next look waits for ever: what is known at once is known by a call.
    let options = CatalogOptions {
        endpoints: vec![endpoint(bound.address().port())],
        follow_every: Duration::from_secs(3600),
        ..CatalogOptions::default()
    };
    let catalog = Catalog::open_bucket(bucket.clone(), rng.clone(), options).await.unwrap();
    let log =
        CommitLog::open_bucket(bucket, clock.clone(), rng.clone(), LogSettings::default(), catalog.clone());
    let log = log.await.unwrap();
    let me = PeerId { node_id: catalog.node_id(), wal_id: catalog.wal_id() };
    let authorities = Arc::new(Store(catalog.authorities().unwrap().clone()));
    let credentials = Credentials::load(authorities, "cluster", me, clock.clone()).await.unwrap();
    let others = InterBroker::new(Net::tcp(), Security::Tls(credentials), clock.clone());
    let (config, _) = BrokerConfig::new([("node.id", catalog.node_id().to_string())]).unwrap();
    let broker = Broker::start(BrokerOptions {
        clock,
        rng,
        catalog: catalog.clone(),
        log: log.clone(),
        config: Arc::new(config),
        node_id: catalog.node_id(),
        advertised: vec![Endpoint {
            listener_name: "PLAINTEXT".into(),
            security_protocol: 0,
            host: "127.0.0.1".into(),
            port: 9092,
        }],
        peers: Some(others.clone()),
        sasl: Arc::default(),
    });
    let broker = broker.await.unwrap();
    others.serve(bound, broker.clone(), InterBrokerLimits::default());
    Running { catalog, log, broker, others }
}

/// Over real sockets and TLS, and the controller stops answering half-way.
#[test]
fn three_brokers_over_tls_append_through_one_until_it_is_gone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = MemBucket::new(1);
        let mut brokers = Vec::new();
        for _ in 0..BROKERS {
            brokers.push(start(&store).await);
        }
        let refused = Arc::new(Mutex::new(Vec::new()));
        let append = |range: std::ops::Range<u64>| {
            let refused = &refused;
            let asked = range.map(|number| {
                let catalog = brokers[(number % BROKERS) as usize].catalog.clone();
                async move {
                    if let Err(error) = catalog.append(vec![topic(number)]).await {
                        refused.lock().push(error.to_string());
                    }
                }
            });
            join_all(asked)
        };
        append(0..60).await;
        let counters = |number: usize| brokers[number].catalog.counters();
        assert_eq!(counters(0).handed_off.load(Ordering::Relaxed), 0);
        for number in 1..BROKERS as usize {
            assert!(counters(number).handed_off.load(Ordering::Relaxed) > 0);
        }
        assert!(counters(0).appends_for_others.load(Ordering::Relaxed) > 0);
        // All know it, and nobody has looked by himself: the controller told them.
        for broker in &brokers {
            let mut changes = broker.catalog.changes();
            let knows = async {
                while broker.catalog.read().topic_count() < 60 {
                    changes.changed().await.unwrap()
                }
            };
            task::timeout(Duration::from_secs(20), knows).await.expect("the news have come");
        }
        assert!(brokers[1].others.unreachable().1.is_empty());
        let ((), _) = tokio::join!(brokers[0].others.stop(), append(60..120));
        append(120..180).await;
        assert_eq!(*refused.lock(), Vec::<String>::new());
        let agree = async {
            // The brokers append records of their own meanwhile: only states of one position are compared.
            loop {
                let mut states = Vec::new();
                for broker in &brokers {
                    broker.catalog.catch_up().await.unwrap();
                    let state = broker.catalog.read();
                    assert_eq!(state.topic_count(), 180);
                    states.push((state.position(), state.hash()));
                }
                if states.iter().all(|(position, _)| *position == states[0].0) {
                    break states;
                }
            }
        };
        let states = task::timeout(Duration::from_secs(20), agree).await.expect("they come to one position");
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
        for Running { catalog, log, broker, others } in &brokers {
            others.stop().await;
            broker.shutdown().await;
            log.close().await;
            catalog.close().await;
        }
    });
}
