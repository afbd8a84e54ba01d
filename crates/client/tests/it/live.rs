//! Stories against a real broker, Apache Kafka or Ottla, at `OTTLA_TEST_BROKER=host:port`. Without the variable
//! they do nothing: the same stories run against the broker in-process from the rooms that know it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::*;

const SECOND: Duration = Duration::from_secs(1);

fn client() -> Option<Client> {
    let address = std::env::var("OTTLA_TEST_BROKER").ok()?;
    Some(Client::new(ClientOptions::new([address]).client_id("it")))
}

/// A name that no other run has used.
fn fresh(name: &str) -> Str {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    Str::from(format!("{name}-{nanos}"))
}

async fn topic(client: &Client, name: &str, partitions: i32) -> Str {
    let name = fresh(name);
    client.admin().create_topic(NewTopic::new(name.clone()).partitions(partitions)).await.unwrap();
    name
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<Received> {
    let mut records = Vec::new();
    for _ in 0..60 {
        records.extend(consumer.poll(Duration::from_millis(500)).await.unwrap());
        if records.len() >= count {
            break;
        }
    }
    records
}

fn values(records: &[Received]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_as_they_were_sent() {
    let Some(client) = client() else { return };
    for compression in Compression::ALL {
        let topic = topic(&client, "round", 1).await;
        let options = ProducerOptions::default().compression(compression);
        let producer = client.producer(options).await.unwrap();
        let mut deliveries = Vec::new();
        for i in 0..500 {
            let record = Record::to(topic.clone())
                .key(format!("key-{i}"))
                .value(format!("value-{i}"))
                .header("h", format!("{i}"))
                .timestamp(1_700_000_000_000 + i);
            deliveries.push(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
        for (i, delivery) in deliveries.into_iter().enumerate() {
            let delivered = delivery.now().expect("flush waits").unwrap();
            assert_eq!((delivered.partition, delivered.offset), (0, i as i64));
        }
        producer.close().await.unwrap();

        let mut consumer =
            client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::Earliest)).unwrap();
        consumer.assign([TopicPartition::new(topic.clone(), 0)]).unwrap();
        let records = read(&mut consumer, 500).await;
        assert_eq!(records.len(), 500, "{compression}");
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.offset, i as i64);
            assert_eq!(record.timestamp, 1_700_000_000_000 + i as i64);
            assert_eq!(record.key.as_ref().unwrap(), format!("key-{i}").as_bytes());
            assert_eq!(record.value.as_ref().unwrap(), format!("value-{i}").as_bytes());
            assert_eq!(record.headers, [Header::new("h", Some(format!("{i}")))]);
        }
        client.admin().delete_topic(topic).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_with_many_batches_under_way() {
    let Some(client) = client() else { return };
    let topic = topic(&client, "order", 3).await;
    let producer =
        client.producer(ProducerOptions::default().batch_bytes(300).linger(Duration::ZERO)).await.unwrap();
    let mut last = Vec::new();
    for i in 0..3000 {
        last.push(
            producer
                .send(Record::to(topic.clone()).key(format!("{}", i % 10)).value(format!("{i}")))
                .await
                .unwrap(),
        );
    }
    producer.close().await.unwrap();
    for delivery in last {
        delivery.await.unwrap();
    }
    let mut consumer =
        client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::Earliest)).unwrap();
    consumer.assign((0..3).map(|p| TopicPartition::new(topic.clone(), p))).unwrap();
    let records = read(&mut consumer, 3000).await;
    assert_eq!(records.len(), 3000);
    let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for record in &records {
        let value: i64 = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap();
        let key = record.key.as_ref().unwrap().to_vec();
        assert_eq!(record.partition, partition_for_key(&key, 3));
        let before = seen.insert(key, value).unwrap_or(-1);
        assert!(value > before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_and_take_over() {
    let Some(client) = client() else { return };
    for kind in [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::CooperativeSticky] {
        let topic = topic(&client, "share", 4).await;
        let group = fresh("group");
        let options = || {
            let mut options =
                ConsumerOptions::group(group.clone()).offset_reset(OffsetReset::Earliest).assignor(kind);
            options.session_timeout = Duration::from_secs(6);
            options.heartbeat_interval = Duration::from_millis(300);
            options
        };
        let producer = client.producer(ProducerOptions::default()).await.unwrap();
        let put = async |text: &str| {
            for partition in 0..4 {
                let record =
                    Record::to(topic.clone()).partition(partition).value(format!("{text}-{partition}"));
                producer.send(record).await.unwrap().await.unwrap();
            }
        };
        put("first").await;

        // Given one member that reads everything
        let mut one = client.consumer(options()).unwrap();
        one.subscribe([topic.clone()]).unwrap();
        let got = read(&mut one, 4).await;
        assert_eq!(got.len(), 4, "{kind:?}");
        assert_eq!(one.assignment().count(), 4);

        // when a second one comes, then they have two partitions each
        let mut two = client.consumer(options()).unwrap();
        two.subscribe([topic.clone()]).unwrap();
        let mut stray = Vec::new();
        for _ in 0..100 {
            stray.extend(one.poll(Duration::from_millis(100)).await.unwrap());
            stray.extend(two.poll(Duration::from_millis(100)).await.unwrap());
            if one.assignment().count() == 2 && two.assignment().count() == 2 {
                break;
            }
        }
        assert_eq!((one.assignment().count(), two.assignment().count()), (2, 2), "{kind:?}");
        assert_eq!(stray, [], "what was read and committed is not read again");
        put("second").await;
        let mut all = values(&read(&mut one, 2).await);
        all.extend(values(&read(&mut two, 2).await));
        all.sort();
        assert_eq!(all, ["second-0", "second-1", "second-2", "second-3"]);

        // and when the first one leaves, the second goes on where it was
        let described = client.admin().describe_group(group.clone()).await.unwrap();
        assert_eq!(described.members.len(), 2);
        assert_eq!(described.protocol, kind.name());
        one.close().await.unwrap();
        put("third").await;
        let mut all = values(&read(&mut two, 4).await);
        all.sort();
        assert_eq!(all, ["third-0", "third-1", "third-2", "third-3"], "{kind:?}");
        two.commit().await.unwrap();
        let offsets = client.admin().group_offsets(group.clone(), None).await.unwrap();
        assert_eq!(offsets.values().map(|o| o.offset).collect::<Vec<_>>(), [3, 3, 3, 3]);
        two.close().await.unwrap();

        // and the group can be reset and deleted once it is empty
        let back = TopicPartition::new(topic.clone(), 0);
        let admin = client.admin();
        admin.alter_group_offsets(group.clone(), &BTreeMap::from([(back.clone(), 1.into())])).await.unwrap();
        assert_eq!(admin.group_offsets(group.clone(), None).await.unwrap()[&back].offset, 1);
        let deleted = admin.delete_group_offsets(group.clone(), std::slice::from_ref(&back)).await.unwrap();
        assert!(deleted[&back].is_ok());
        assert_eq!(admin.group_offsets(group.clone(), None).await.unwrap().len(), 3);
        assert!(admin.groups().await.unwrap().iter().any(|listed| listed.group_id == group));
        admin.delete_group(group.clone()).await.unwrap();
        assert!(!admin.groups().await.unwrap().iter().any(|listed| listed.group_id == group));
    }
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl RebalanceListener for Heard {
    fn assigned(&self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("+{}", partitions.len()));
    }
    fn revoked(&self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("-{}", partitions.len()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_seek_pause_times_and_commits() {
    let Some(client) = client() else { return };
    let topic = topic(&client, "seek", 1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let producer = client.producer(ProducerOptions::default()).await.unwrap();
    for i in 0..10 {
        let record = Record::to(topic.clone()).value(format!("{i}")).timestamp(1_000 * (i + 1));
        producer.send(record).await.unwrap().await.unwrap();
    }
    let heard = Heard::default();
    let group = fresh("seek");
    let options = ConsumerOptions::group(group.clone())
        .offset_reset(OffsetReset::Earliest)
        .auto_commit(None)
        .listener(heard.clone())
        .poll_records_max(3);
    let mut consumer = client.consumer(options).unwrap();
    consumer.subscribe([topic.clone()]).unwrap();
    let first = read(&mut consumer, 1).await;
    assert_eq!(values(&first), ["0", "1", "2"]);
    assert_eq!(consumer.position(&partition).await.unwrap(), 3);
    consumer.seek(&partition, 8).unwrap();
    assert_eq!(values(&read(&mut consumer, 2).await), ["8", "9"]);
    assert_eq!(consumer.lag(&partition), Some(0));
    consumer.seek_to(&partition, OffsetSpec::Timestamp(4_500)).unwrap();
    assert_eq!(values(&read(&mut consumer, 1).await), ["4", "5", "6"]);
    let times = consumer.offsets_for_times(&BTreeMap::from([(partition.clone(), 5_000)])).await.unwrap();
    assert_eq!((times[&partition].offset, times[&partition].timestamp), (4, 5_000));
    assert_eq!(consumer.end_offsets(std::slice::from_ref(&partition)).await.unwrap()[&partition], 10);
    assert_eq!(consumer.beginning_offsets(std::slice::from_ref(&partition)).await.unwrap()[&partition], 0);

    consumer.pause(&partition).unwrap();
    assert_eq!(consumer.poll(SECOND).await.unwrap(), []);
    consumer.resume(&partition).unwrap();
    assert_eq!(values(&read(&mut consumer, 1).await), ["7", "8", "9"]);

    assert!(consumer.committed(std::slice::from_ref(&partition)).await.unwrap().is_empty());
    consumer.seek(&partition, 6).unwrap();
    consumer.commit().await.unwrap();
    assert_eq!(consumer.committed(std::slice::from_ref(&partition)).await.unwrap()[&partition].offset, 6);
    consumer.seek(&partition, 7).unwrap();
    consumer.commit_async().await.unwrap().unwrap();
    assert_eq!(consumer.committed(std::slice::from_ref(&partition)).await.unwrap()[&partition].offset, 7);

    // An offset that is gone follows the reset policy.
    let low = client.admin().delete_records(&BTreeMap::from([(partition.clone(), 5)])).await.unwrap();
    assert_eq!(*low[&partition].as_ref().unwrap(), 5);
    consumer.seek(&partition, 0).unwrap();
    assert_eq!(values(&read(&mut consumer, 1).await), ["5", "6", "7"]);
    consumer.close().await.unwrap();
    assert_eq!(*heard.0.lock().unwrap(), ["+1", "-1"]);

    let mut strict = client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::None)).unwrap();
    strict.assign([partition.clone()]).unwrap();
    assert!(matches!(strict.poll(SECOND).await, Err(Error::NoOffset { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_members_come_back_without_a_rebalance() {
    let Some(client) = client() else { return };
    let topic = topic(&client, "static", 2).await;
    let group = fresh("static");
    let member = || {
        let mut options = ConsumerOptions::group(group.clone()).instance_id("instance-1");
        options.session_timeout = Duration::from_secs(20);
        let mut consumer = client.consumer(options).unwrap();
        consumer.subscribe([topic.clone()]).unwrap();
        consumer
    };
    let mut first = member();
    while first.assignment().count() == 0 {
        first.poll(Duration::from_millis(200)).await.unwrap();
    }
    let described = client.admin().describe_group(group.clone()).await.unwrap();
    assert_eq!(described.members[0].instance_id.as_deref(), Some("instance-1"));
    first.close().await.unwrap();
    assert_eq!(client.admin().describe_group(group.clone()).await.unwrap().members.len(), 1, "it stays");
    let mut second = member();
    while second.assignment().count() == 0 {
        second.poll(Duration::from_millis(200)).await.unwrap();
    }
    assert_eq!(second.assignment().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_configs_and_the_cluster() {
    let Some(client) = client() else { return };
    let admin = client.admin();
    let cluster = admin.cluster().await.unwrap();
    assert!(!cluster.cluster_id.is_empty());
    assert_eq!(cluster.brokers.len(), 1);
    let name = fresh("admin");
    let created = admin
        .create_topic(NewTopic::new(name.clone()).partitions(2).config("retention.ms", "12345"))
        .await
        .unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    let again = admin.create_topic(NewTopic::new(name.clone())).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TopicAlreadyExists));
    // Apache Kafka's brokers learn of a new topic a little after its controller said yes.
    while !admin.topics().await.unwrap().iter().any(|topic| topic.name == name) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin.topic(name.clone()).await.unwrap().id, created.id);
    admin.create_partitions(name.clone(), 5).await.unwrap();
    while admin.topic(name.clone()).await.unwrap().partitions.len() == 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin.topic(name.clone()).await.unwrap().partitions.len(), 5);

    let resource = Resource::Topic(name.clone());
    let entry = async |key: &str| {
        let keys = [Str::from(key)];
        let described = admin.describe_config(&resource, Some(&keys), true).await.unwrap();
        described.entries.into_iter().next().unwrap()
    };
    let retention = entry("retention.ms").await;
    assert_eq!((retention.value.as_deref(), retention.source), (Some("12345"), "DYNAMIC_TOPIC_CONFIG"));
    assert_eq!(retention.value_type, "LONG");
    admin
        .alter_configs(
            &resource,
            &[AlterConfig::delete("retention.ms"), AlterConfig::set("cleanup.policy", "compact")],
            false,
        )
        .await
        .unwrap();
    assert!(entry("retention.ms").await.is_default());
    assert_eq!(entry("cleanup.policy").await.value.as_deref(), Some("compact"));
    let wrong = admin.alter_configs(&resource, &[AlterConfig::set("cleanup.policy", "burn")], false).await;
    assert_eq!(wrong.unwrap_err().code(), Some(ErrorCode::InvalidConfig));
    let broker = Resource::Broker(Str::from(cluster.brokers[0].id.to_string()));
    assert!(admin.describe_config(&broker, None, false).await.unwrap().entries.len() > 100);

    // A compacted topic tells which record it did not take.
    let producer = client.producer(ProducerOptions::default()).await.unwrap();
    let refused = producer.send(Record::to(name.clone()).value("no key")).await.unwrap().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRecord));
    // And the producer goes on after that.
    let partition = producer.send(Record::to(name.clone()).key("k").value("v")).await.unwrap().await.unwrap();
    assert_eq!(partition.offset, 0);

    let dirs = admin.log_dirs(Some(std::slice::from_ref(&name))).await.unwrap();
    let listed: BTreeSet<i32> =
        dirs.iter().flat_map(|d| &d.partitions).map(|p| p.partition.partition).collect();
    assert_eq!(listed, BTreeSet::from([0, 1, 2, 3, 4]));

    admin.delete_topic(name.clone()).await.unwrap();
    let gone = admin.delete_topic(name.clone()).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_does_not_stop_its_partition() {
    let Some(client) = client() else { return };
    // Given a topic that takes small batches only, and a producer with several batches under way
    let name = fresh("small");
    client
        .admin()
        .create_topic(NewTopic::new(name.clone()).partitions(1).config("max.message.bytes", "1000"))
        .await
        .unwrap();
    let producer =
        client.producer(ProducerOptions::default().batch_bytes(100).linger(Duration::ZERO)).await.unwrap();
    let mut deliveries = Vec::new();
    for i in 0..40 {
        let size = if i % 7 == 3 { 2000 } else { 60 };
        deliveries.push(producer.send(Record::to(name.clone()).value(vec![b'x'; size])).await.unwrap());
    }
    // then only the large ones fail, and every other is stored once, in order
    let mut next = 0;
    for (i, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(delivered) => {
                assert_eq!(delivered.offset, next);
                next += 1;
            }
            Err(error) => {
                assert_eq!(i % 7, 3);
                assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
            }
        }
    }
    assert_eq!(next, 34);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_zero_and_one() {
    let Some(client) = client() else { return };
    let topic = topic(&client, "acks", 1).await;
    for (acks, offset) in [(Acks::None, -1), (Acks::Leader, 1)] {
        let producer = client.producer(ProducerOptions::default().acks(acks)).await.unwrap();
        let delivered = producer.send(Record::to(topic.clone()).value("x")).await.unwrap().await.unwrap();
        assert_eq!(delivered.offset, offset);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
