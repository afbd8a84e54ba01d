//! Very many offset commits, then a restart: how short the log stays and how long loading takes.
//!
//!     cargo run --release -p broker --example offset_commits -- 10000000 [DIRECTORY]
//!
//! Wanted (issue 3): ten million commits, restart under 1 s, log of the groups under 64 MiB. The same story with
//! 16,000 commits runs in every `cargo test` (`tests/it/groups.rs`).
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerOptions, Connection, Endpoint, Outcome};
use bytes::BytesMut;
use catalog::config::BrokerConfig;
use catalog::{Catalog, CatalogOptions};
use commitlog::{CommitLog, LogSettings};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::{CreateTopicsRequest, FindCoordinatorRequest, OffsetCommitRequest};
use protocol::{Message, Request, TopicIdPartition, frame};
use world::clock::RealClock;
use world::disk::RealDisk;
use world::rng::RealRng;

/// Groups that commit at the same time: all share one sync.
const COMMITTERS: u64 = 512;

struct House {
    broker: Arc<Broker>,
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(200_000);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let directory = arguments.next().map_or_else(|| scratch.path().to_owned(), PathBuf::from);

    let house = start(&directory).await;
    let topic = CreatableTopic {
        name: "clicks".into(),
        num_partitions: 8,
        replication_factor: 1,
        ..Default::default()
    };
    ask(&house.broker, 7, CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    ask(&house.broker, 4, find).await;
    loaded(&house.broker).await;

    let started = Instant::now();
    let committers =
        (0..COMMITTERS).map(|committer| tokio::spawn(commits(house.broker.clone(), committer, count)));
    for committer in committers.collect::<Vec<_>>() {
        committer.await.expect("commits succeed");
    }
    let took = started.elapsed().as_secs_f64();
    println!("{count} commits in {took:.1} s, {:.0} per second", count as f64 / took);
    println!("log of the groups: {:.1} MiB", log_bytes(&house) as f64 / f64::from(1 << 20));

    house.broker.shutdown().await;
    house.log.close().await;
    house.catalog.close().await;
    drop(house);
    // The last task that holds the directory ends in a moment.
    tokio::time::sleep(Duration::from_millis(200)).await;

    let started = Instant::now();
    let house = start(&directory).await;
    println!("restart to serving: {} ms", started.elapsed().as_millis());
    loaded(&house.broker).await;
    println!("restart to all groups loaded: {} ms", started.elapsed().as_millis());
    println!("{:?}", house.broker.group_counts());
    house.broker.shutdown().await;
    house.log.close().await;
    house.catalog.close().await;
}

async fn commits(broker: Arc<Broker>, committer: u64, count: u64) {
    let mine = count / COMMITTERS + u64::from(committer < count % COMMITTERS);
    for number in 0..mine {
        let partition = OffsetCommitRequestPartition {
            partition_index: (number % 8) as i32,
            committed_offset: number as i64,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: "clicks".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: format!("group-{committer}").into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let response = ask(&broker, 8, request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
}

fn log_bytes(house: &House) -> u64 {
    let state = house.catalog.read();
    let topic = state.topic("__consumer_offsets").expect("a coordinator was asked for");
    let partition = |index| house.log.partition(&TopicIdPartition::new(topic.id, index)).expect("is there");
    (0..topic.partitions.len() as i32).map(|index| partition(index).size_bytes()).sum()
}

async fn loaded(broker: &Broker) {
    while broker.group_counts().partitions_loading > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn start(directory: &Path) -> House {
    let (clock, rng) = (RealClock::shared(), RealRng::shared());
    let disk = RealDisk::new();
    let options = CatalogOptions::default();
    let metadata = directory.join("metadata");
    let catalog =
        Catalog::open(disk.clone(), metadata, clock.clone(), rng.clone(), options).await.expect("catalog");
    let (log_directory, settings) = (directory.join("log"), LogSettings::default());
    let log = CommitLog::open(disk, log_directory, clock.clone(), rng.clone(), settings, catalog.clone());
    let log = log.await.expect("log");
    let endpoint = Endpoint {
        listener_name: "PLAINTEXT".into(),
        security_protocol: 0,
        host: "localhost".into(),
        port: 9092,
    };
    let options = BrokerOptions {
        clock,
        rng,
        catalog: catalog.clone(),
        log: log.clone(),
        config: Arc::new(BrokerConfig::default()),
        node_id: 1,
        advertised: vec![endpoint],
        peers: None,
        sasl: Arc::default(),
    };
    House { broker: Broker::start(options).await.expect("broker"), catalog, log }
}

async fn ask<R: Request>(broker: &Arc<Broker>, version: i16, request: R) -> R::Response {
    let connection = Connection::new(1, SocketAddr::from(([127, 0, 0, 1], 50_000)), "PLAINTEXT");
    let client = protocol::Str::from_static("example");
    let segments = frame::encode_request(1, Some(client), &request, version).expect("a good request");
    let mut whole = BytesMut::new();
    segments.iter().for_each(|segment| whole.extend_from_slice(segment));
    let outcome = broker.handle(&connection, whole.freeze().slice(4..)).outcome().await;
    let Outcome::Answer(segments) = outcome else { panic!("an answer was expected") };
    let mut whole = BytesMut::new();
    segments.iter().for_each(|segment| whole.extend_from_slice(segment));
    let mut reader = protocol::wire::Reader::new(whole.freeze().slice(4..));
    frame::decode_response_header(&mut reader, R::KEY, version).expect("a header");
    R::Response::decode(&mut reader, version).expect("a response")
}
