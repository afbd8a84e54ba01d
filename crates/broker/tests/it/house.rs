//! A broker on a disk or a bucket in memory, under a clock that only moves when nobody is busy, and a client that talks to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::{
    Broker, BrokerOptions, Connection, Endpoint, HandedOff, Handling, INTER_BROKER_LISTENER, Outcome, Peer,
    PeerCalls, Peers, Progress, SaslListeners,
};
use bytes::{Bytes, BytesMut};
use catalog::config::BrokerConfig;
use catalog::{BrokerEndpoint, Catalog, CatalogOptions, Levels};
use commitlog::{CommitLog, LogSettings};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use protocol::batch::BatchBuilder;
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{
    CreateTopicsRequest, MetadataRequest, ProduceRequest, ProduceResponse,
    metadata_request::MetadataRequestTopic,
};
use protocol::wire::Reader;
use protocol::{ErrorCode, Message, Records, Request, Str, Uuid, frame};
use world::bucket::{Bucket, MemBucket};
use world::clock::SimClock;
use world::disk::MemDisk;
use world::process::Process;
use world::rng::SeededRng;
use world::watch;

pub const NOW_MS: i64 = 1_700_000_000_000;
pub const LEASE_TTL: Duration = Duration::from_secs(3);

pub struct House {
    pub broker: Arc<Broker>,
    pub connection: Arc<Connection>,
    pub sasl: Arc<SaslListeners>,
    pub log: Arc<CommitLog>,
    pub catalog: Arc<Catalog>,
    store: Store,
    pub clock: Arc<SimClock>,
    config: Arc<BrokerConfig>,
    /// Each start has randomness of its own, as each process has.
    seed: u64,
}

#[derive(Clone)]
pub enum Store {
    Disk(Arc<MemDisk>),
    Bucket(MemBucket),
    /// A disk with small files, and a second tier to which a test copies by hand.
    Tiered(Arc<MemDisk>, MemBucket),
}

/// What a broker is started on.
pub struct Opened {
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
    store: Store,
    clock: Arc<SimClock>,
    config: Arc<BrokerConfig>,
    seed: u64,
    node_id: i32,
}

/// Calls between brokers of one process, without a network in between; they can be cut, and led astray.
#[derive(Clone)]
pub struct Wires {
    pub brokers: Arc<Mutex<BTreeMap<i32, Arc<Broker>>>>,
    pub are_cut: Arc<AtomicBool>,
    /// Calls for the one come to the other, as those of a broker that has not heard yet who leads now.
    pub astray: Arc<Mutex<Option<(i32, i32)>>>,
    breaks: Arc<watch::Sender<u64>>,
}

impl Default for Wires {
    fn default() -> Wires {
        Wires {
            brokers: Arc::default(),
            are_cut: Arc::default(),
            astray: Arc::default(),
            breaks: Arc::new(watch::channel(0).0),
        }
    }
}

impl Wires {
    fn to(&self, peer: &Peer) -> Option<Arc<Broker>> {
        let astray = self.astray.lock().filter(|(from, _)| *from == peer.node_id);
        let node_id = astray.map_or(peer.node_id, |(_, to)| to);
        match self.are_cut.load(Ordering::Relaxed) {
            true => None,
            false => self.brokers.lock().get(&node_id).cloned(),
        }
    }
}

impl Peers for Wires {
    fn log_moved(
        self: Arc<Self>,
        peer: Peer,
        position: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<Progress>> {
        let called = self.to(&peer).map(|broker| broker.log_moved(position, wait));
        Box::pin(async move { Some(called?.await) })
    }

    fn hand_off(self: Arc<Self>, _: Peer, _: Bytes) -> BoxFuture<'static, HandedOff> {
        Box::pin(std::future::ready(HandedOff::NotTaken))
    }

    fn transactions(
        self: Arc<Self>,
        peer: Peer,
        api_key: i16,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let called = self.to(&peer).map(|broker| broker.transactions(api_key, body));
        Box::pin(async move { world::task::timeout(within, called?).await.ok()? })
    }

    fn slots_stored(self: Arc<Self>, _: Peer, _: u64, _: Duration) -> BoxFuture<'static, Option<u64>> {
        Box::pin(std::future::ready(None))
    }

    fn refuses(self: Arc<Self>, _: Peer, _: Duration) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    fn follow(&self, _: &[Peer]) {}

    fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }
}

/// Three brokers on one bucket that call one another. Whoever drops their processes ends them.
pub struct Cluster {
    pub houses: Vec<House>,
    /// What each of them has of the bucket.
    pub buckets: Vec<MemBucket>,
    pub processes: Vec<Process>,
    pub wires: Wires,
}

impl Cluster {
    pub async fn start(bucket: &MemBucket) -> Cluster {
        let wires = Wires::default();
        let processes: Vec<Process> = (1..=3).map(|_| Process::new()).collect();
        let buckets: Vec<MemBucket> = (1..=3).map(|_| bucket.client()).collect();
        let mut houses = Vec::new();
        for ((node_id, process), bucket) in (1..).zip(&processes).zip(&buckets) {
            houses.push(House::calling(bucket, node_id, &wires, process).await);
        }
        Cluster { houses, buckets, processes, wires }
    }
}

/// Runs a story in a world where time passes only when everybody waits.
pub fn story<F: Future<Output = ()>>(tell: impl FnOnce() -> F) {
    world::task::deterministic(7);
    world::task::paused_runtime().block_on(tell());
}

impl House {
    pub async fn new() -> House {
        House::with(&[]).await
    }

    pub async fn with(properties: &[(&str, &str)]) -> House {
        let (config, _) = BrokerConfig::new(properties.iter().copied()).expect("good properties");
        let disk = Store::Disk(MemDisk::new(7));
        Opened::on(disk, Arc::new(SimClock::new(NOW_MS)), Arc::new(config), Levels::KNOWN, 7)
            .await
            .start()
            .await
    }

    /// Node 1 on a bucket that it may share. It never looks for the appends of others unless somebody asks it to.
    pub async fn in_bucket(bucket: &MemBucket, properties: &[(&str, &str)]) -> House {
        Opened::in_bucket(bucket, properties, 7).await.start().await
    }

    /// The same of a build that knows other feature levels.
    pub async fn at_levels(bucket: &MemBucket, levels: Levels) -> House {
        let (config, _) = BrokerConfig::new([("node.id", "1")]).expect("good properties");
        let (store, clock) = (Store::Bucket(bucket.clone()), Arc::new(SimClock::new(NOW_MS)));
        Opened::on(store, clock, Arc::new(config), levels, 7).await.start().await
    }

    /// One of several brokers that watch one another's leases and follow the metadata, in a rack. Whoever drops its process ends it.
    pub async fn among(bucket: &MemBucket, node_id: i32, rack: &str, process: &Process) -> House {
        Self::among_peers(bucket, node_id, rack, process, None).await
    }

    /// The same, with a way to ask the others.
    pub async fn among_peers(
        bucket: &MemBucket,
        node_id: i32,
        rack: &str,
        process: &Process,
        peers: Option<Arc<dyn Peers>>,
    ) -> House {
        let host = format!("broker-{node_id}.test");
        let for_brokers = BrokerEndpoint {
            listener_name: INTER_BROKER_LISTENER.into(),
            security_protocol: 1,
            port: 9094,
            ..endpoint(&host)
        };
        let options = CatalogOptions {
            node_id: Some(node_id),
            rack: Some(rack.into()),
            lease_ttl: LEASE_TTL,
            endpoints: vec![endpoint(&host), for_brokers],
            follow_every: Duration::from_millis(500),
            ..CatalogOptions::default()
        };
        let (config, _) = BrokerConfig::new::<String, String>([]).expect("no properties");
        let (store, clock) = (Store::Bucket(bucket.clone()), Arc::new(SimClock::new(NOW_MS)));
        let seed = 100 + node_id as u64;
        let opening = async move {
            Opened::with(store, clock, Arc::new(config), seed, options).await.start_among(peers).await
        };
        process.spawn(opening).await.expect("nobody kills it yet")
    }

    /// One of several brokers that call one another.
    pub async fn calling(bucket: &MemBucket, node_id: i32, wires: &Wires, process: &Process) -> House {
        let between_brokers = BrokerEndpoint {
            listener_name: INTER_BROKER_LISTENER.into(),
            security_protocol: 1,
            ..endpoint(&format!("between-{node_id}.test"))
        };
        let options = CatalogOptions {
            node_id: Some(node_id),
            lease_ttl: LEASE_TTL,
            endpoints: vec![endpoint(&format!("broker-{node_id}.test")), between_brokers],
            follow_every: Duration::from_millis(500),
            ..CatalogOptions::default()
        };
        let properties = [
            ("offsets.topic.num.partitions", "6"),
            ("transaction.state.log.num.partitions", "6"),
            // Longer than everything that a leader may have to wait for here.
            ("add.partitions.to.txn.retry.backoff.max.ms", "30000"),
        ];
        let (config, _) = BrokerConfig::new(properties).expect("good properties");
        let (store, clock) = (Store::Bucket(bucket.clone()), Arc::new(SimClock::new(NOW_MS)));
        let (seed, wires) = (100 + node_id as u64, wires.clone());
        let opening = async move {
            let opened = Opened::with(store, clock, Arc::new(config), seed, options).await;
            let house = opened.start_among(Some(Arc::new(wires.clone()))).await;
            wires.brokers.lock().insert(node_id, house.broker.clone());
            house
        };
        process.spawn(opening).await.expect("nobody kills it yet")
    }

    /// With a second tier.
    pub async fn tiered(bucket: &MemBucket) -> House {
        let url = "s3://in/memory";
        let properties = [("remote.log.storage.system.enable", "true"), ("remote.log.storage.url", url)];
        let (config, _) = BrokerConfig::new(properties).expect("good properties");
        let store = Store::Tiered(MemDisk::new(7), bucket.clone());
        Opened::on(store, Arc::new(SimClock::new(NOW_MS)), Arc::new(config), Levels::KNOWN, 7)
            .await
            .start()
            .await
    }

    /// Stops as SIGTERM does, and starts again on the same disk.
    pub async fn restarted(self) -> House {
        self.broker.shutdown().await;
        self.log.close().await;
        self.catalog.close().await;
        let House { store, clock, config, seed, .. } = self;
        // The process ends: whatever task still held the directory holds it no more.
        if let Store::Disk(disk) | Store::Tiered(disk, _) = &store {
            disk.kill();
        }
        Opened::on(store, clock, config, Levels::KNOWN, seed + 1).await.start().await
    }

    /// The id of `__consumer_offsets`, once it is there.
    pub fn offsets_topic_id(&self) -> Uuid {
        let state = self.catalog.read();
        state.topic(catalog::topic_name::CONSUMER_OFFSETS).expect("a coordinator was asked for").id
    }

    pub fn connection(id: u64) -> Arc<Connection> {
        Connection::new(id, SocketAddr::from(([127, 0, 0, 1], 50_000)), "PLAINTEXT")
    }

    /// Hands one frame over, as the server would.
    pub fn hand_over(&self, frame: Bytes) -> Handling {
        self.broker.handle(&self.connection, frame)
    }

    pub fn start<R: Request>(&self, version: i16, request: &R) -> BoxFuture<'static, Outcome> {
        self.hand_over(frame_of(version, request)).outcome()
    }

    pub async fn ask<R: Request>(&self, version: i16, request: R) -> R::Response {
        answer::<R>(version, self.start(version, &request).await)
    }

    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Str::from(*name),
            value: Some(Str::from(*value)),
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = self.ask(7, request).await;
        assert_eq!(
            code(response.topics[0].error_code),
            ErrorCode::None,
            "{:?}",
            response.topics[0].error_message
        );
        response.topics[0].topic_id
    }

    pub async fn topic_exists(&self, name: &str) -> bool {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = self.ask(12, request).await;
        response.topics[0].error_code == ErrorCode::None.code()
    }

    /// Appends values to a partition and gives the offset of the first.
    pub async fn produce(&self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let response = self.ask(12, produce_request(topic, partition, batch(values))).await;
        let answered = only_partition(&response);
        assert_eq!(code(answered.error_code), ErrorCode::None);
        answered.base_offset
    }
}

impl Opened {
    /// Each start needs a seed of its own.
    pub async fn in_bucket(bucket: &MemBucket, properties: &[(&str, &str)], seed: u64) -> Opened {
        let (config, _) = BrokerConfig::new(properties.iter().copied()).expect("good properties");
        let (store, clock) = (Store::Bucket(bucket.clone()), Arc::new(SimClock::new(NOW_MS)));
        Opened::on(store, clock, Arc::new(config), Levels::KNOWN, seed).await
    }

    async fn on(
        store: Store,
        clock: Arc<SimClock>,
        config: Arc<BrokerConfig>,
        levels: Levels,
        seed: u64,
    ) -> Opened {
        let options = CatalogOptions {
            node_id: Some(1),
            lease_ttl: Duration::ZERO,
            endpoints: vec![endpoint("broker.test")],
            follow_every: Duration::from_secs(1_000_000),
            levels,
            ..CatalogOptions::default()
        };
        Self::with(store, clock, config, seed, options).await
    }

    async fn with(
        store: Store,
        clock: Arc<SimClock>,
        config: Arc<BrokerConfig>,
        seed: u64,
        options: CatalogOptions,
    ) -> Opened {
        let rng = SeededRng::shared(seed);
        let node_id = options.node_id.expect("a node has a number");
        let mut settings = LogSettings::default();
        let (catalog, log) = match &store {
            Store::Tiered(disk, bucket) => {
                let (metadata, log) = (PathBuf::from("/data/metadata"), PathBuf::from("/data/log"));
                let catalog =
                    Catalog::open(disk.clone(), metadata, clock.clone(), rng.clone(), options).await;
                let catalog = catalog.expect("the catalog opens");
                settings.wal_file_bytes_min = 8 << 10;
                settings.wal_file_bytes_max = 8 << 10;
                settings.tier_interval = Duration::from_secs(1_000_000);
                let tier: Option<Arc<dyn Bucket>> = Some(Arc::new(bucket.clone()));
                let (disk, clock) = (disk.clone(), clock.clone());
                let log = CommitLog::open_tiered(disk, log, clock, rng, settings, catalog.clone(), tier);
                (catalog, log.await)
            }
            Store::Disk(disk) => {
                let (metadata, log) = (PathBuf::from("/data/metadata"), PathBuf::from("/data/log"));
                let catalog =
                    Catalog::open(disk.clone(), metadata, clock.clone(), rng.clone(), options).await;
                let catalog = catalog.expect("the catalog opens");
                let log =
                    CommitLog::open(disk.clone(), log, clock.clone(), rng, settings, catalog.clone()).await;
                (catalog, log)
            }
            Store::Bucket(bucket) => {
                let bucket: Arc<dyn Bucket> = Arc::new(bucket.clone());
                let catalog = Catalog::open_bucket(bucket.clone(), rng.clone(), options).await;
                let catalog = catalog.expect("the catalog opens");
                let log = CommitLog::open_bucket(bucket, clock.clone(), rng, settings, catalog.clone()).await;
                (catalog, log)
            }
        };
        let log = log.expect("the log opens");
        Opened { catalog, log, store, clock, config, seed, node_id }
    }

    pub async fn start(self) -> House {
        self.start_among(None).await
    }

    async fn start_among(self, peers: Option<Arc<dyn Peers>>) -> House {
        let Opened { catalog, log, store, clock, config, seed, node_id } = self;
        let advertised = Endpoint {
            listener_name: "PLAINTEXT".into(),
            security_protocol: 0,
            host: "broker.test".into(),
            port: 9092,
        };
        let sasl: Arc<SaslListeners> = Arc::default();
        let options = BrokerOptions {
            clock: clock.clone(),
            rng: SeededRng::shared(seed ^ 0xb0b),
            catalog: catalog.clone(),
            log: log.clone(),
            config: config.clone(),
            node_id,
            advertised: vec![advertised],
            peers,
            sasl: sasl.clone(),
        };
        let broker = Broker::start(options).await.expect("the broker starts");
        let connection = House::connection(1);
        House { broker, connection, sasl, log, catalog, store, clock, config, seed }
    }
}

pub fn endpoint(host: &str) -> BrokerEndpoint {
    BrokerEndpoint { listener_name: "PLAINTEXT".into(), security_protocol: 0, host: host.into(), port: 9092 }
}

pub fn only_partition(
    response: &ProduceResponse,
) -> &protocol::messages::produce_response::PartitionProduceResponse {
    &response.responses[0].partition_responses[0]
}

pub fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(Records::from(records)) };
    let topic =
        TopicProduceData { name: topic.into(), partition_data: vec![data], ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// An uncompressed batch, every record a second after the one before.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (index, value) in values.iter().enumerate() {
        builder
            .append(NOW_MS + index as i64 * 1_000, None, Some(value.as_bytes()), &[])
            .expect("a small record");
    }
    builder.build().expect("a small batch")
}

pub fn frame_of<R: Request>(version: i16, request: &R) -> Bytes {
    let segments = frame::encode_request(77, Some("story".into()), request, version).expect("a good request");
    join(segments).slice(4..)
}

pub fn answer<R: Request>(version: i16, outcome: Outcome) -> R::Response {
    let segments = match outcome {
        Outcome::Answer(segments) | Outcome::AnswerAndClose(segments, _) => segments,
        Outcome::Silent => panic!("an answer to {} {version} was expected", R::KEY),
        Outcome::Close(reason) => panic!("an answer to {} {version} was expected, not {reason}", R::KEY),
    };
    let joined = join(segments);
    let length = u32::from_be_bytes(joined[..4].try_into().expect("four bytes"));
    assert_eq!(length as usize, joined.len() - 4, "the length prefix is wrong");
    let mut reader = Reader::new(joined.slice(4..));
    let correlation_id = frame::decode_response_header(&mut reader, R::KEY, version).expect("a header");
    assert_eq!(correlation_id, 77);
    let response = R::Response::decode(&mut reader, version).expect("a response");
    reader.expect_end().expect("nothing behind it");
    response
}

pub fn code(code: i16) -> ErrorCode {
    ErrorCode::try_from(code).expect("a known error code")
}

fn join(segments: Vec<Bytes>) -> Bytes {
    let mut joined = BytesMut::new();
    for segment in segments {
        joined.extend_from_slice(&segment);
    }
    joined.freeze()
}
