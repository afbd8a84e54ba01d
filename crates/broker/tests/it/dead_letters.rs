//! The dead letter queues of share groups (KIP-1191): what a group gives up is in a topic of its choice before it is archived.

use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use commitlog::{Isolation, ReadRequest};
use protocol::batch::{BatchBuilder, Header, split_batches};
use protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::read_share_group_state_summary_request::{
    PartitionData as SummaryOf, ReadStateSummaryData,
};
use protocol::messages::write_share_group_state_request::{PartitionData, StateBatch, WriteStateData};
use protocol::messages::{
    CreateTopicsRequest, DescribeConfigsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    ReadShareGroupStateSummaryRequest, WriteShareGroupStateRequest,
    describe_configs_request::DescribeConfigsResource,
};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use world::bucket::MemBucket;

use crate::house::{Cluster, House, NOW_MS, code, only_partition, produce_request, story};
use crate::share_groups::{
    ACCEPT, Member, REJECT, RELEASE, SMALL, configure, coordinator, described, join, open, opened, settled,
    until_fetched,
};

const REJECTED: &str = "Offset rejected by client.";
const DELIVERIES: &str = "Offset delivery count exceeded the threshold.";
const TAKES: &[(&str, &str)] = &[("errors.deadletterqueue.group.enable", "true")];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter {
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, String)>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A letter as Kafka 4.4.0 writes it for a record of `clicks`, partition 0.
fn letter(offset: i64, count: i16, message: &str, key: Option<&str>, value: Option<&str>) -> Letter {
    let headers = [
        ("__dlq.errors.topic", "clicks".to_owned()),
        ("__dlq.errors.partition", "0".to_owned()),
        ("__dlq.errors.offset", offset.to_string()),
        ("__dlq.errors.group", "g".to_owned()),
        ("__dlq.errors.delivery.count", count.to_string()),
        ("__dlq.errors.message", message.to_owned()),
    ];
    Letter {
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    }
}

/// All that is durable in a partition that is led here.
async fn letters_in(house: &House, topic: &str, index: i32) -> Vec<Letter> {
    let id = house.catalog.read().topic(&Str::from(topic)).expect("the topic is there").id;
    let partition = house.log.partition(&TopicIdPartition::new(id, index)).expect("led here");
    let mut letters = Vec::new();
    let mut offset = 0;
    while offset < partition.offsets().high_watermark {
        let isolation = Isolation::ReadUncommitted;
        let request = ReadRequest { offset, max_bytes: 1 << 20, min_one_batch: true, isolation };
        let read = partition.read(request).await.expect("it can be read");
        for batch in read.records.segments().iter().flat_map(split_batches) {
            let batch = batch.expect("a batch");
            for record in batch.records(1 << 24) {
                let record = record.expect("a record");
                let header =
                    |header: &Header| (text(&header.key), text(header.value.as_ref().expect("a value")));
                letters.push(Letter {
                    key: record.key.as_deref().map(text),
                    value: record.value.as_deref().map(text),
                    headers: record.headers.iter().map(header).collect(),
                });
            }
            offset = batch.header.next_offset();
        }
    }
    letters
}

async fn letters(house: &House) -> Vec<Letter> {
    letters_in(house, "dlq.clicks", 0).await
}

/// A broker whose group has a dead letter queue, and the queue's topic if there is to be one.
async fn with_queue(properties: &[(&str, &str)], configs: Option<&[(&str, &str)]>) -> (House, Uuid) {
    let (house, topic) = opened(&[SMALL, properties].concat()).await;
    if let Some(configs) = configs {
        house.create_topic("dlq.clicks", 1, configs).await;
    }
    configure(&house, "errors.deadletterqueue.topic.name", "dlq.clicks").await;
    (house, topic)
}

/// Until nothing waits for its letter any more.
async fn archived(house: &House) {
    for _ in 0..10_000 {
        world::task::sleep(Duration::from_millis(10)).await;
        if house.broker.share_counts().records_archiving == 0 {
            return;
        }
    }
    panic!("it waits for its letter for ever: {:?}", house.broker.share_counts());
}

async fn produce_whole(house: &House, key: &str, value: &str) {
    let mut builder = BatchBuilder::new();
    let header = Header::new("trace", Some("7"));
    builder.append(NOW_MS, Some(key.as_bytes()), Some(value.as_bytes()), &[header]).expect("small");
    let response = house.ask(12, produce_request("clicks", 0, builder.build().expect("small"))).await;
    assert_eq!(code(only_partition(&response).error_code), ErrorCode::None);
}

#[test]
fn what_is_rejected_or_has_had_its_deliveries_gets_a_letter_that_says_where_it_was() {
    story(|| async {
        let (house, topic) = with_queue(&[], Some(TAKES)).await;
        configure(&house, "share.delivery.count.limit", "2").await;
        house.produce("clicks", 0, &["a", "b", "c", "d"]).await;
        let mut member = Member::new(&house, "member", topic);
        assert_eq!(member.fetch(1_000).await.1, [(0, 3, 1)]);
        assert_eq!(member.say_each(0, 3, vec![ACCEPT, REJECT, RELEASE, RELEASE]).await, ErrorCode::None);
        archived(&house).await;
        assert_eq!(letters(&house).await, [letter(1, 1, REJECTED, None, None)]);
        assert_eq!(described(&house).await, [("clicks".into(), 2, 2)], "the start has moved over it");

        // The second delivery is the last one: said so, or not acknowledged in time.
        assert_eq!(member.fetch(0).await.1, [(2, 3, 2)]);
        assert_eq!(member.say(2, 2, RELEASE).await, ErrorCode::None);
        archived(&house).await;
        world::task::sleep(Duration::from_secs(31)).await;
        assert_eq!(member.fetch(0).await.1, []);
        archived(&house).await;
        let all = [
            letter(1, 1, REJECTED, None, None),
            letter(2, 2, DELIVERIES, None, None),
            letter(3, 2, DELIVERIES, None, None),
        ];
        assert_eq!(letters(&house).await, all);
        assert_eq!(described(&house).await, [("clicks".into(), 4, 0)]);
        let counts = house.broker.share_counts().dead_letters;
        assert_eq!((counts.written, counts.writes, counts.failed_writes, counts.given_up), (3, 3, 0, 0));

        // Nothing is written again after a restart.
        let house = house.restarted().await;
        open(&house).await;
        let mut member = Member::new(&house, "member", topic);
        house.produce("clicks", 0, &["e"]).await;
        assert_eq!(until_fetched(&mut member).await, [(4, 4, 1)]);
        archived(&house).await;
        assert_eq!(letters(&house).await, all);
    });
}

#[test]
fn a_member_that_leaves_with_the_last_delivery_leaves_a_letter() {
    story(|| async {
        let (house, topic) = with_queue(&[], Some(TAKES)).await;
        configure(&house, "share.delivery.count.limit", "2").await;
        house.produce("clicks", 0, &["a"]).await;
        let mut member = Member::new(&house, "member", topic);
        for count in 1..=2 {
            assert_eq!(until_fetched(&mut member).await, [(0, 0, count)]);
            member.close().await;
            world::task::sleep(Duration::from_secs(1)).await;
        }
        // Nobody of the group is left, and it is written all the same.
        archived(&house).await;
        assert_eq!(letters(&house).await, [letter(0, 2, DELIVERIES, None, None)]);
        assert_eq!(described(&house).await, [("clicks".into(), 1, 0)]);
    });
}

#[test]
fn a_letter_has_key_and_value_of_its_record_when_the_group_wants_that() {
    story(|| async {
        let takes_little = [TAKES, &[("max.message.bytes", "600")]].concat();
        let (house, topic) = with_queue(&[], Some(&takes_little)).await;
        configure(&house, "errors.deadletterqueue.copy.record.enable", "true").await;
        produce_whole(&house, "user", "clicked").await;
        produce_whole(&house, "user", "other").await;
        produce_whole(&house, "big", &"x".repeat(1_000)).await;
        produce_whole(&house, "user", "last").await;
        let mut member = Member::new(&house, "member", topic);
        member.fetch(1_000).await;
        let said = member.say_each(0, 3, vec![REJECT, ACCEPT, REJECT, REJECT]).await;
        assert_eq!(said, ErrorCode::None);
        archived(&house).await;
        let all = [
            letter(0, 1, REJECTED, Some("user"), Some("clicked")),
            // It does not fit: where it was is more than nothing.
            letter(2, 1, REJECTED, None, None),
            letter(3, 1, REJECTED, Some("user"), Some("last")),
        ];
        assert_eq!(letters(&house).await, all);

        // What the log does not have any more has a letter without them.
        produce_whole(&house, "user", "gone").await;
        member.fetch(0).await;
        let gone = protocol::messages::DeleteRecordsRequest {
            topics: vec![protocol::messages::delete_records_request::DeleteRecordsTopic {
                name: "clicks".into(),
                partitions: vec![protocol::messages::delete_records_request::DeleteRecordsPartition {
                    partition_index: 0,
                    offset: 5,
                }],
            }],
            timeout_ms: 1_000,
        };
        house.ask(2, gone).await;
        assert_eq!(member.say(4, 4, REJECT).await, ErrorCode::None);
        archived(&house).await;
        assert_eq!(letters(&house).await[3..], [letter(4, 1, REJECTED, None, None)]);
    });
}

#[test]
fn many_at_once_are_written_a_part_at_a_time() {
    story(|| async {
        let (house, topic) = with_queue(&[], Some(TAKES)).await;
        configure(&house, "errors.deadletterqueue.copy.record.enable", "true").await;
        configure(&house, "share.partition.max.record.locks", "3000").await;
        let values: Vec<String> = (0..1_200).map(|number| format!("{number}")).collect();
        house.produce("clicks", 0, &values.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut member = Member::new(&house, "member", topic);
        assert_eq!(member.fetch(1_000).await.1, [(0, 1_199, 1)]);
        assert_eq!(member.say(0, 1_199, REJECT).await, ErrorCode::None);
        archived(&house).await;
        let all: Vec<Letter> = (0..)
            .zip(&values)
            .map(|(offset, value)| letter(offset, 1, REJECTED, None, Some(value)))
            .collect();
        assert_eq!(letters(&house).await, all);
        assert_eq!(house.broker.share_counts().dead_letters.writes, 3);
    });
}

/// A queue that cannot be written to holds up nobody: its records are archived without letters, as in Kafka.
#[test]
fn a_topic_that_is_none_for_dead_letters_gets_none() {
    story(|| async {
        let missing = (&[][..], None);
        let without_consent = (&[][..], Some(&[][..]));
        let other_prefix = (&[("errors.deadletterqueue.topic.name.prefix", "letters.")][..], Some(TAKES));
        for (properties, configs) in [missing, without_consent, other_prefix] {
            let (house, topic) = with_queue(properties, configs).await;
            house.produce("clicks", 0, &["a", "b"]).await;
            let mut member = Member::new(&house, "member", topic);
            assert_eq!(member.fetch(1_000).await.1, [(0, 1, 1)]);
            assert_eq!(member.say(0, 1, REJECT).await, ErrorCode::None);
            archived(&house).await;
            assert_eq!(described(&house).await, [("clicks".into(), 2, 0)]);
            assert_eq!(house.topic_exists("dlq.clicks").await, configs.is_some());
            if configs.is_some() {
                assert_eq!(letters(&house).await, []);
            }
            let counts = house.broker.share_counts().dead_letters;
            assert_eq!((counts.written, counts.given_up), (0, 2));
        }
    });
}

#[test]
fn the_topic_is_made_when_the_broker_may_and_takes_dead_letters() {
    story(|| async {
        let properties =
            [("errors.deadletterqueue.auto.create.topics.enable", "true"), ("num.partitions", "2")];
        let (house, topic) = with_queue(&properties, None).await;
        house.produce("clicks", 0, &["a"]).await;
        let mut member = Member::new(&house, "member", topic);
        member.fetch(1_000).await;
        assert_eq!(member.say(0, 0, REJECT).await, ErrorCode::None);
        archived(&house).await;
        assert_eq!(letters(&house).await, [letter(0, 1, REJECTED, None, None)]);
        assert_eq!(letters_in(&house, "dlq.clicks", 1).await, []);
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: "dlq.clicks".into(),
            configuration_keys: None,
        };
        let request =
            DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let described = house.ask(4, request).await;
        let mut own: Vec<(String, String)> = described.results[0]
            .configs
            .iter()
            .filter(|config| config.config_source == 1)
            .map(|config| (config.name.to_string(), config.value.clone().unwrap_or_default().to_string()))
            .collect();
        own.sort();
        let wanted =
            [("errors.deadletterqueue.group.enable", "true"), ("message.timestamp.type", "CreateTime")];
        assert_eq!(own, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    });
}

/// A group that reads its own queue gets letters about letters, one for each that it gives up and no more.
#[test]
fn a_group_may_read_its_own_queue() {
    story(|| async {
        let (house, topic) = with_queue(&[], Some(TAKES)).await;
        let queue = house.catalog.read().topic(&Str::from("dlq.clicks")).expect("is there").id;
        house.produce("clicks", 0, &["a"]).await;
        let mut member = Member::new(&house, "member", topic);
        member.fetch(1_000).await;
        assert_eq!(member.say(0, 0, REJECT).await, ErrorCode::None);
        archived(&house).await;
        join(&house, "reader", &["dlq.clicks"]).await;
        let mut reader = Member::new(&house, "reader", queue);
        let mut acquired = Vec::new();
        for _ in 0..10 {
            acquired = reader.acquired(1_000).await;
            if !acquired.is_empty() {
                break;
            }
        }
        assert_eq!(acquired, [(0, 0, 1)]);
        assert_eq!(reader.say(0, 0, REJECT).await, ErrorCode::None);
        archived(&house).await;
        world::task::sleep(Duration::from_secs(60)).await;
        let all = letters(&house).await;
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].headers[0], ("__dlq.errors.topic".to_owned(), "dlq.clicks".to_owned()));
    });
}

#[test]
fn an_internal_topic_is_no_queue() {
    story(|| async {
        let (house, _) = opened(SMALL).await;
        let config = AlterableConfig {
            name: "errors.deadletterqueue.topic.name".into(),
            value: Some("__letters".into()),
            ..AlterableConfig::default()
        };
        let resource =
            AlterConfigsResource { resource_type: 32, resource_name: "g".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let response = house.ask(1, request).await;
        assert_eq!(code(response.responses[0].error_code), ErrorCode::InvalidConfig);
    });
}

/// Given up, and the broker ends before the letter is written: the coordinator has it, and whoever reads that writes the letter.
#[test]
fn after_a_restart_what_was_given_up_gets_its_letter() {
    story(|| async {
        let bucket = MemBucket::new(9);
        let on_bucket = House::in_bucket(&bucket, SMALL).await;
        for house in [House::with(SMALL).await, on_bucket] {
            let topic = house.create_topic("clicks", 1, &[]).await;
            house.create_topic("dlq.clicks", 1, TAKES).await;
            open(&house).await;
            configure(&house, "share.auto.offset.reset", "earliest").await;
            configure(&house, "errors.deadletterqueue.topic.name", "dlq.clicks").await;
            join(&house, "member", &["clicks"]).await;
            house.produce("clicks", 0, &["a", "b", "c"]).await;
            let mut member = Member::new(&house, "member", topic);
            assert_eq!(until_fetched(&mut member).await, [(0, 2, 1)]);
            member.close().await;
            let known = ReadStateSummaryData {
                topic_id: topic,
                partitions: vec![SummaryOf { partition: 0, leader_epoch: -1 }],
            };
            let request = ReadShareGroupStateSummaryRequest { group_id: "g".into(), topics: vec![known] };
            let state_epoch = house.ask(1, request).await.results[0].partitions[0].state_epoch;
            let given_up = |first_offset, last_offset, delivery_count| StateBatch {
                first_offset,
                last_offset,
                delivery_state: 3,
                delivery_count,
                ..StateBatch::default()
            };
            let partition = PartitionData {
                leader_epoch: -1,
                state_epoch,
                start_offset: -1,
                state_batches: vec![given_up(0, 0, 1), given_up(2, 2, 5)],
                ..PartitionData::default()
            };
            let data = WriteStateData { topic_id: topic, partitions: vec![partition], ..Default::default() };
            let request = WriteShareGroupStateRequest {
                group_id: "g".into(),
                topics: vec![data],
                ..WriteShareGroupStateRequest::default()
            };
            let written = house.ask(1, request).await;
            assert_eq!(code(written.results[0].partitions[0].error_code), ErrorCode::None, "{written:?}");
            assert_eq!(letters(&house).await, []);

            let house = house.restarted().await;
            open(&house).await;
            let mut member = Member::new(&house, "member", topic);
            assert_eq!(until_fetched(&mut member).await, [(1, 1, 2)]);
            archived(&house).await;
            let all = [letter(0, 1, REJECTED, None, None), letter(2, 5, DELIVERIES, None, None)];
            assert_eq!(letters(&house).await, all);
            assert_eq!(member.say(1, 1, ACCEPT).await, ErrorCode::None);
            assert_eq!(described(&house).await, [("clicks".into(), 1, 0)], "all of it is done");
        }
    });
}

/// One partition, at this broker.
async fn create_at(house: &House, name: &str, node_id: i32, configs: &[(&str, &str)]) -> Uuid {
    let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![node_id] };
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: Str::from(*name), value: Some(Str::from(*value)) });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assignment],
        configs: configs.collect(),
    };
    let response =
        house.ask(7, CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
    assert_eq!(code(response.topics[0].error_code), ErrorCode::None, "{response:?}");
    response.topics[0].topic_id
}

/// Three brokers that call one another, with a topic at the first one. Its queue is at a broker that leads neither the topic nor keeps
/// the state of its share partition.
struct Three {
    cluster: Cluster,
    topic: Uuid,
    queue: i32,
}

const SOURCE: i32 = 1;

impl Three {
    async fn open() -> Three {
        let cluster = Cluster::start(&MemBucket::new(5)).await;
        let houses = &cluster.houses;
        settled().await;
        let topic = create_at(&houses[0], "clicks", SOURCE, &[]).await;
        settled().await;
        let group_coordinator = coordinator(&houses[0]).await;
        configure(&houses[group_coordinator], "share.auto.offset.reset", "earliest").await;
        configure(&houses[group_coordinator], "errors.deadletterqueue.topic.name", "dlq.clicks").await;
        settled().await;
        join(&houses[group_coordinator], "member", &["clicks"]).await;
        let request = FindCoordinatorRequest {
            key_type: 2,
            coordinator_keys: vec![format!("g:{topic}:0").into()],
            ..FindCoordinatorRequest::default()
        };
        let state_at = houses[0].ask(6, request).await.coordinators[0].node_id;
        let queue = (1..=3).find(|node_id| ![SOURCE, state_at].contains(node_id)).expect("a third one");
        create_at(&houses[0], "dlq.clicks", queue, TAKES).await;
        settled().await;
        Three { cluster, topic, queue }
    }

    fn at(&self, node_id: i32) -> &House {
        &self.cluster.houses[node_id as usize - 1]
    }

    fn source(&self) -> &House {
        self.at(SOURCE)
    }

    async fn letters(&self) -> Vec<Letter> {
        letters(self.at(self.queue)).await
    }

    /// A record is given up while nobody can call the broker of the queue.
    async fn give_up_without_a_way(&self) -> CutOff<'_> {
        self.source().produce("clicks", 0, &["a"]).await;
        let mut member = Member::new(self.source(), "member", self.topic);
        assert_eq!(until_fetched(&mut member).await, [(0, 0, 1)]);
        let cut_off = self.cut_off();
        assert_eq!(member.say(0, 0, REJECT).await, ErrorCode::None);
        cut_off
    }

    /// Nobody can call the broker of the queue until what comes back is dropped.
    fn cut_off(&self) -> CutOff<'_> {
        let broker = self.cluster.wires.brokers.lock().remove(&self.queue);
        CutOff { three: self, broker }
    }
}

struct CutOff<'a> {
    three: &'a Three,
    broker: Option<Arc<Broker>>,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        let broker = self.broker.take().expect("it was there");
        self.three.cluster.wires.brokers.lock().insert(self.three.queue, broker);
    }
}

/// ```text
///   clicks-0 at one broker ── rejected ──▶ dlq.clicks-0 at another, which cannot be reached for a while
/// ```
#[test]
fn a_letter_goes_to_the_broker_that_leads_its_partition_and_waits_until_that_can_be_reached() {
    story(|| async {
        let three = Three::open().await;
        three.source().produce("clicks", 0, &["a", "b"]).await;
        let mut member = Member::new(three.source(), "member", three.topic);
        assert_eq!(until_fetched(&mut member).await, [(0, 1, 1)]);
        assert_eq!(member.say(0, 0, REJECT).await, ErrorCode::None);
        archived(three.source()).await;
        let first = || letter(0, 1, REJECTED, None, None);
        assert_eq!(three.letters().await, [first()]);

        let cut_off = three.cut_off();
        assert_eq!(member.say(1, 1, REJECT).await, ErrorCode::None);
        world::task::sleep(Duration::from_secs(5)).await;
        let counts = three.source().broker.share_counts();
        assert_eq!(counts.records_archiving, 1, "not before its letter is durable");
        assert!(counts.dead_letters.failed_writes > 1);
        assert_eq!(three.letters().await, [first()]);
        drop(cut_off);
        archived(three.source()).await;
        assert_eq!(three.letters().await, [first(), letter(1, 1, REJECTED, None, None)]);
        assert_eq!(three.source().broker.share_counts().dead_letters.given_up, 0);
    });
}

/// Whoever cannot write for longer than brokers need to replace one another gives up, and counts it.
#[test]
fn a_queue_that_stays_out_of_reach_is_given_up() {
    story(|| async {
        let three = Three::open().await;
        let cut_off = three.give_up_without_a_way().await;
        world::task::sleep(Duration::from_secs(60)).await;
        assert_eq!(three.source().broker.share_counts().records_archiving, 1);
        archived(three.source()).await;
        let counts = three.source().broker.share_counts().dead_letters;
        assert_eq!((counts.written, counts.given_up, counts.failed_writes), (0, 1, 8));
        drop(cut_off);
        assert_eq!(three.letters().await, []);
    });
}

/// Its leader is gone before it could write the letter: the next one does.
#[test]
fn the_next_leader_writes_the_letters_that_are_missing() {
    story(|| async {
        let three = Three::open().await;
        let cut_off = three.give_up_without_a_way().await;
        world::task::sleep(Duration::from_secs(1)).await;
        assert_eq!(three.source().broker.share_counts().records_archiving, 1);
        three.cluster.wires.brokers.lock().remove(&SOURCE);
        three.source().broker.shutdown().await;
        three.cluster.processes[SOURCE as usize - 1].kill();
        drop(cut_off);
        let alive = three.at(three.queue);
        let mut next = SOURCE;
        for _ in 0..30 {
            settled().await;
            alive.catalog.catch_up().await.unwrap();
            next = alive.catalog.read().topic(&Str::from("clicks")).unwrap().partitions[0].leader;
            if next != SOURCE {
                break;
            }
        }
        assert_ne!(next, SOURCE);
        assert_eq!(three.letters().await, []);
        three.at(next).produce("clicks", 0, &["b"]).await;
        let mut member = Member::new(three.at(next), "member", three.topic);
        assert_eq!(until_fetched(&mut member).await, [(1, 1, 1)]);
        archived(three.at(next)).await;
        assert_eq!(three.letters().await, [letter(0, 1, REJECTED, None, None)]);
    });
}
