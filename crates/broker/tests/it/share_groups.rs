//! Share groups (KIP-932) through the whole broker: real messages, the real log, a restart, leaders that move.

use std::sync::Arc;
use std::time::Duration;

use broker::Connection;
use protocol::batch::split_batches;
use protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    ListGroupsRequest, ShareAcknowledgeRequest, ShareFetchRequest, ShareFetchResponse,
    ShareGroupDescribeRequest, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
};
use protocol::{ErrorCode, Request, Str, Uuid};
use world::bucket::MemBucket;

use crate::house::{Cluster, House, answer, code, frame_of, story};

pub const SMALL: &[(&str, &str)] =
    &[("offsets.topic.num.partitions", "2"), ("share.coordinator.state.topic.num.partitions", "3")];
const GROUP: i8 = 32;
pub const ACCEPT: i8 = 1;
pub const RELEASE: i8 = 2;
pub const REJECT: i8 = 3;

/// A member on a connection of its own.
pub struct Member<'a> {
    house: &'a House,
    pub connection: Arc<Connection>,
    name: &'static str,
    topic: Uuid,
    epoch: i32,
}

pub type Acquired = (i64, i64, i16);

impl<'a> Member<'a> {
    pub fn new(house: &'a House, name: &'static str, topic: Uuid) -> Member<'a> {
        Member {
            house,
            connection: House::connection(name.bytes().map(u64::from).sum()),
            name,
            topic,
            epoch: 0,
        }
    }

    fn start<R: Request>(&self, version: i16, request: &R) -> impl Future<Output = R::Response> + use<R> {
        let outcome = self.house.broker.handle(&self.connection, frame_of(version, request)).outcome();
        async move { answer::<R>(version, outcome.await) }
    }

    fn request(&mut self, wait_ms: i32) -> ShareFetchRequest {
        let topic = FetchTopic { topic_id: self.topic, partitions: vec![FetchPartition::default()] };
        let epoch = self.epoch;
        self.epoch += 1;
        ShareFetchRequest {
            group_id: Some("g".into()),
            member_id: Some(self.name.into()),
            share_session_epoch: epoch,
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: if epoch == 0 { vec![topic] } else { Vec::new() },
            ..ShareFetchRequest::default()
        }
    }

    /// Values as they were produced, and what is acquired of them.
    pub async fn fetch(&mut self, wait_ms: i32) -> (Vec<String>, Vec<Acquired>) {
        let request = self.request(wait_ms);
        fetched(&self.start(2, &request).await)
    }

    /// What is acquired, whatever stands in the records.
    pub async fn acquired(&mut self, wait_ms: i32) -> Vec<Acquired> {
        let request = self.request(wait_ms);
        let response = self.start(2, &request).await;
        assert_eq!(code(response.error_code), ErrorCode::None, "{response:?}");
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        let acquired = partitions.flat_map(|partition| &partition.acquired_records);
        acquired.map(|one| (one.first_offset, one.last_offset, one.delivery_count)).collect()
    }

    pub async fn say(&mut self, first_offset: i64, last_offset: i64, kind: i8) -> ErrorCode {
        self.say_each(first_offset, last_offset, vec![kind]).await
    }

    pub async fn say_each(&mut self, first_offset: i64, last_offset: i64, kinds: Vec<i8>) -> ErrorCode {
        let batch = AcknowledgementBatch { first_offset, last_offset, acknowledge_types: kinds };
        let partition = AcknowledgePartition { partition_index: 0, acknowledgement_batches: vec![batch] };
        let request = ShareAcknowledgeRequest {
            group_id: Some("g".into()),
            member_id: Some(self.name.into()),
            share_session_epoch: self.epoch,
            topics: vec![AcknowledgeTopic { topic_id: self.topic, partitions: vec![partition] }],
            ..ShareAcknowledgeRequest::default()
        };
        self.epoch += 1;
        let response = self.start(2, &request).await;
        match code(response.error_code) {
            ErrorCode::None => code(response.responses[0].partitions[0].error_code),
            error => error,
        }
    }

    /// Its last request.
    pub async fn close(&mut self) {
        let mut request = self.request(0);
        request.share_session_epoch = -1;
        assert_eq!(self.start(2, &request).await.error_code, 0);
        self.epoch = 0;
    }
}

fn fetched(response: &ShareFetchResponse) -> (Vec<String>, Vec<Acquired>) {
    assert_eq!(code(response.error_code), ErrorCode::None, "{response:?}");
    let (mut values, mut acquired) = (Vec::new(), Vec::new());
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        assert_eq!(code(partition.error_code), ErrorCode::None, "{partition:?}");
        assert_eq!(code(partition.acknowledge_error_code), ErrorCode::None, "{partition:?}");
        let records = partition.records.iter().flat_map(|records| records.segments());
        for batch in records.flat_map(split_batches).map(|batch| batch.expect("a batch")) {
            for record in batch.records(1 << 20) {
                let value = record.expect("a record").value.expect("a value");
                values.push(String::from_utf8(value.to_vec()).expect("text"));
            }
        }
        let plain = partition.acquired_records.iter();
        acquired.extend(plain.map(|one| (one.first_offset, one.last_offset, one.delivery_count)));
    }
    (values, acquired)
}

pub async fn open(house: &House) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    house.ask(4, request).await;
    loaded(house).await;
}

pub async fn loaded(house: &House) {
    let is_loading = || {
        house.broker.group_counts().partitions_loading + house.broker.share_state_counts().partitions_loading
            > 0
    };
    while is_loading() {
        world::task::sleep(Duration::from_millis(1)).await;
    }
}

pub async fn configure(house: &House, name: &str, value: &str) {
    let config =
        AlterableConfig { name: name.into(), value: Some(value.into()), ..AlterableConfig::default() };
    let resource =
        AlterConfigsResource { resource_type: GROUP, resource_name: "g".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = house.ask(1, request).await;
    assert_eq!(code(response.responses[0].error_code), ErrorCode::None, "{response:?}");
}

pub async fn beat(
    house: &House,
    member: &str,
    epoch: i32,
    topics: Option<&[&str]>,
) -> ShareGroupHeartbeatResponse {
    let request = ShareGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch: epoch,
        rack_id: None,
        subscribed_topic_names: topics.map(|topics| topics.iter().map(|topic| Str::from(*topic)).collect()),
    };
    house.ask(1, request).await
}

/// Joins and waits until it has partitions.
pub async fn join(house: &House, member: &str, topics: &[&str]) -> i32 {
    let joined = beat(house, member, 0, Some(topics)).await;
    assert_eq!(code(joined.error_code), ErrorCode::None, "{:?}", joined.error_message);
    let mut epoch = joined.member_epoch;
    for _ in 0..10 {
        world::task::sleep(Duration::from_millis(1_100)).await;
        let beat = beat(house, member, epoch, None).await;
        epoch = beat.member_epoch;
        if beat.assignment.is_some_and(|assignment| !assignment.topic_partitions.is_empty()) {
            return epoch;
        }
    }
    panic!("{member} gets nothing");
}

/// A broker with a topic, whose group begins at its first record and has one member.
pub async fn opened(properties: &[(&str, &str)]) -> (House, Uuid) {
    let house = House::with(properties).await;
    let topic = house.create_topic("clicks", 1, &[]).await;
    open(&house).await;
    configure(&house, "share.auto.offset.reset", "earliest").await;
    join(&house, "member", &["clicks"]).await;
    (house, topic)
}

#[test]
fn records_are_delivered_until_somebody_accepts_them() {
    story(|| async {
        let (house, topic) = opened(SMALL).await;
        house.produce("clicks", 0, &["a", "b", "c", "d"]).await;
        let mut member = Member::new(&house, "member", topic);
        // The state of the share partition has to be read first.
        let (values, acquired) = member.fetch(1_000).await;
        assert_eq!((values.join(""), acquired), ("abcd".to_owned(), vec![(0, 3, 1)]));
        assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::None);
        assert_eq!(member.say(1, 1, RELEASE).await, ErrorCode::None);
        assert_eq!(member.say(2, 2, REJECT).await, ErrorCode::None);
        assert_eq!(member.say(2, 2, ACCEPT).await, ErrorCode::InvalidRecordState);
        assert_eq!(member.say(4, 4, ACCEPT).await, ErrorCode::InvalidRequest);
        let (_, acquired) = member.fetch(0).await;
        assert_eq!(acquired, [(1, 1, 2)]);
        assert_eq!(member.say(1, 1, ACCEPT).await, ErrorCode::None);

        let house = house.restarted().await;
        open(&house).await;
        loaded(&house).await;
        let mut member = Member::new(&house, "member", topic);
        let (_, acquired) = member.fetch(1_000).await;
        assert_eq!(acquired, [(3, 3, 1)], "what nobody has said anything about");
        assert_eq!(member.say(3, 3, ACCEPT).await, ErrorCode::None);
        house.produce("clicks", 0, &["e"]).await;
        assert_eq!(member.fetch(0).await.1, [(4, 4, 1)]);
    });
}

/// The fate of every record on its way may be another, which takes memory; its bound is that of groups.
#[test]
fn while_memory_is_used_up_few_records_of_a_share_partition_are_on_their_way() {
    story(|| async {
        for (limit, is_given) in [("1000000", true), ("40000", false)] {
            let (house, topic) = opened(&[SMALL, &[("coordinators.memory.max.bytes", limit)]].concat()).await;
            house.produce("clicks", 0, &["x"; 400]).await;
            let mut member = Member::new(&house, "member", topic);
            assert_eq!(member.fetch(1_000).await.1, [(0, 399, 1)]);
            // All are done but the first, each with another fate than the one before.
            let fates = (1..400).map(|offset| if offset % 2 == 0 { ACCEPT } else { REJECT });
            assert_eq!(member.say_each(1, 399, fates.collect()).await, ErrorCode::None);
            house.produce("clicks", 0, &["y"; 50]).await;
            let next = [(400, 449, 1)];
            assert_eq!(member.fetch(0).await.1, if is_given { &next[..] } else { &[] }, "{limit}");
            assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::None);
            assert_eq!(member.fetch(0).await.1, if is_given { &[] } else { &next[..] }, "{limit}");
        }
    });
}

#[test]
fn a_fetch_waits_for_new_records_for_what_is_released_and_for_locks_that_end() {
    story(|| async {
        let (house, topic) = opened(SMALL).await;
        let mut first = Member::new(&house, "first", topic);
        let mut second = Member::new(&house, "second", topic);
        assert_eq!(first.fetch(100).await.1, []);
        let request = first.request(60_000);
        let waiting = world::task::spawn(first.start(2, &request));
        world::task::sleep(Duration::from_secs(1)).await;
        house.produce("clicks", 0, &["a"]).await;
        assert_eq!(fetched(&waiting.await.expect("an answer")).1, [(0, 0, 1)]);

        assert_eq!(second.fetch(0).await.1, []);
        let request = second.request(60_000);
        let waiting = world::task::spawn(second.start(2, &request));
        world::task::sleep(Duration::from_secs(1)).await;
        assert_eq!(first.say(0, 0, RELEASE).await, ErrorCode::None);
        assert_eq!(fetched(&waiting.await.expect("an answer")).1, [(0, 0, 2)]);

        // Nobody says anything; whoever waits gets it when the lock is over.
        let before = clock_ms(&house);
        let (_, acquired) = first.fetch(60_000).await;
        assert_eq!(acquired, [(0, 0, 3)]);
        assert!((29_000..=30_100).contains(&(clock_ms(&house) - before)), "{}", clock_ms(&house) - before);

        // The socket is gone.
        let request = second.request(60_000);
        let waiting = world::task::spawn(second.start(2, &request));
        world::task::sleep(Duration::from_secs(1)).await;
        first.connection.hang_up();
        assert_eq!(fetched(&waiting.await.expect("an answer")).1, [(0, 0, 4)]);
        assert_eq!(first.say(0, 0, ACCEPT).await, ErrorCode::ShareSessionNotFound);
        assert_eq!(house.broker.share_counts().sessions.sessions, 1);
        second.close().await;
        assert_eq!(house.broker.share_counts().sessions.sessions, 0);
    });
}

#[test]
fn who_is_gone_is_given_nothing() {
    story(|| async {
        let (house, topic) = opened(SMALL).await;
        let mut gone = Member::new(&house, "gone", topic);
        let mut other = Member::new(&house, "other", topic);
        assert_eq!(gone.fetch(100).await.1, []);
        assert_eq!(other.fetch(0).await.1, []);
        let request = gone.request(60_000);
        let mut waiting = std::pin::pin!(gone.start(2, &request));
        assert!(world::task::timeout(Duration::from_secs(1), waiting.as_mut()).await.is_err());
        // Its session is over before its fetch looks again, and finds records then.
        gone.connection.hang_up();
        world::task::sleep(Duration::from_secs(1)).await;
        house.produce("clicks", 0, &["a"]).await;
        assert_eq!(fetched(&waiting.await).1, []);
        assert_eq!(other.fetch(0).await.1, [(0, 0, 1)]);
    });
}

#[test]
fn requests_of_a_session_come_in_order_and_nobody_else_has_its_records() {
    story(|| async {
        let (house, topic) = opened(&[SMALL, &[("group.share.max.share.sessions", "1")]].concat()).await;
        house.produce("clicks", 0, &["a"]).await;
        let mut member = Member::new(&house, "member", topic);
        assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::InvalidShareSessionEpoch);
        assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::ShareSessionNotFound);
        member.epoch = 0;
        assert_eq!(member.fetch(1_000).await.1, [(0, 0, 1)]);
        let mut other = Member::new(&house, "other", topic);
        let request = other.request(500);
        let before = clock_ms(&house);
        assert_eq!(code(other.start(2, &request).await.error_code), ErrorCode::ShareSessionLimitReached);
        assert!(clock_ms(&house) - before >= 500, "it would come again at once");
        member.epoch = 7;
        assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::InvalidShareSessionEpoch);
        member.epoch = 1;
        let mut request = member.request(0);
        request.is_renew_ack = true;
        assert_eq!(code(member.start(2, &request).await.error_code), ErrorCode::InvalidRequest);
        // In a fetch what is said is answered beside the records.
        member.epoch = 1;
        let mut request = member.request(0);
        let batch = protocol::messages::share_fetch_request::AcknowledgementBatch {
            first_offset: 0,
            last_offset: 0,
            acknowledge_types: vec![ACCEPT],
        };
        let partition = FetchPartition { partition_index: 0, acknowledgement_batches: vec![batch] };
        request.topics = vec![FetchTopic { topic_id: topic, partitions: vec![partition] }];
        let response = member.start(2, &request).await;
        assert_eq!(fetched(&response), (Vec::new(), Vec::new()));
        assert_eq!(response.responses[0].partitions[0].partition_index, 0);
        assert_eq!(response.acquisition_lock_timeout_ms, 30_000);
        house.produce("clicks", 0, &["b"]).await;
        assert_eq!(member.fetch(0).await.1, [(1, 1, 1)]);
    });
}

#[test]
fn tools_see_and_change_where_a_group_is() {
    story(|| async {
        let (house, topic) = opened(SMALL).await;
        house.produce("clicks", 0, &["a", "b", "c", "d"]).await;
        let mut member = Member::new(&house, "member", topic);
        member.fetch(1_000).await;
        assert_eq!(member.say(0, 0, ACCEPT).await, ErrorCode::None);
        assert_eq!(member.say(2, 2, ACCEPT).await, ErrorCode::None);
        assert_eq!(described(&house).await, [("clicks".into(), 1, 2)], "a gap is done as well");
        let listed = house.ask(5, ListGroupsRequest::default()).await;
        let listed: Vec<(&str, &str, &str)> = listed
            .groups
            .iter()
            .map(|group| (&*group.protocol_type, &*group.group_type, &*group.group_state))
            .collect();
        assert_eq!(listed, [("share", "share", "Stable")]);
        let request =
            ShareGroupDescribeRequest { group_ids: vec!["g".into(), "h".into()], ..Default::default() };
        let groups = house.ask(1, request).await.groups;
        assert_eq!((&*groups[0].assignor_name, groups[0].members.len()), ("simple", 1));
        assert_eq!(code(groups[1].error_code), ErrorCode::GroupIdNotFound);

        assert_eq!(alter(&house, 3).await, (ErrorCode::NonEmptyGroup, None));
        member.close().await;
        let left = beat(&house, "member", -1, None).await;
        assert_eq!(code(left.error_code), ErrorCode::None);
        assert_eq!(alter(&house, 3).await, (ErrorCode::None, Some(ErrorCode::None)));
        assert_eq!(described(&house).await, [("clicks".into(), 3, 1)]);
        join(&house, "member", &["clicks"]).await;
        assert_eq!(member.fetch(1_000).await.1, [(3, 3, 1)]);
        member.close().await;
        beat(&house, "member", -1, None).await;

        let topic = DeleteShareGroupOffsetsRequestTopic { topic_name: "clicks".into() };
        let request = DeleteShareGroupOffsetsRequest { group_id: "g".into(), topics: vec![topic] };
        let deleted = house.ask(0, request.clone()).await;
        assert_eq!(code(deleted.responses[0].error_code), ErrorCode::None, "{deleted:?}");
        let deleted = house.ask(0, request).await;
        assert_eq!(code(deleted.responses[0].error_code), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(described(&house).await, []);
        assert_eq!(house.broker.share_state_counts().share_partitions, 0);

        join(&house, "member", &["clicks"]).await;
        assert_eq!(delete_group(&house).await, ErrorCode::NonEmptyGroup);
        beat(&house, "member", -1, None).await;
        assert_eq!(house.broker.share_state_counts().share_partitions, 1);
        assert_eq!(delete_group(&house).await, ErrorCode::None);
        assert_eq!(delete_group(&house).await, ErrorCode::GroupIdNotFound);
        assert_eq!(house.broker.share_state_counts().share_partitions, 0);
    });
}

/// Topic, start offset and lag.
pub async fn described(house: &House) -> Vec<(String, i64, i64)> {
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: "g".into(), topics: None };
    let response = house.ask(1, DescribeShareGroupOffsetsRequest { groups: vec![group] }).await;
    assert_eq!(code(response.groups[0].error_code), ErrorCode::None);
    let topics = response.groups[0].topics.iter();
    topics
        .map(|topic| {
            (topic.topic_name.to_string(), topic.partitions[0].start_offset, topic.partitions[0].lag)
        })
        .collect()
}

async fn alter(house: &House, start_offset: i64) -> (ErrorCode, Option<ErrorCode>) {
    let partition = AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset };
    let topic =
        AlterShareGroupOffsetsRequestTopic { topic_name: "clicks".into(), partitions: vec![partition] };
    let request = AlterShareGroupOffsetsRequest { group_id: "g".into(), topics: vec![topic] };
    let response = house.ask(0, request).await;
    let topic = response.responses.first();
    (code(response.error_code), topic.map(|topic| code(topic.partitions[0].error_code)))
}

async fn delete_group(house: &House) -> ErrorCode {
    let response = house.ask(2, DeleteGroupsRequest { groups_names: vec!["g".into()] }).await;
    code(response.results[0].error_code)
}

#[test]
fn what_retention_takes_nobody_waits_for_and_a_topic_that_goes_takes_its_states_along() {
    story(|| async {
        let (house, topic) = opened(SMALL).await;
        house.produce("clicks", 0, &["a", "b"]).await;
        house.produce("clicks", 0, &["c", "d"]).await;
        let mut member = Member::new(&house, "member", topic);
        assert_eq!(member.fetch(1_000).await.1, [(0, 3, 1)]);
        assert_eq!(member.say(0, 3, RELEASE).await, ErrorCode::None);
        let partition = DeleteRecordsPartition { partition_index: 0, offset: 3 };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic { name: "clicks".into(), partitions: vec![partition] }],
            timeout_ms: 1_000,
        };
        house.ask(2, request).await;
        assert_eq!(member.fetch(0).await.1, [(3, 3, 2)]);
        assert_eq!(house.broker.share_counts().share_partitions, 1);
        let request = protocol::messages::DeleteTopicsRequest {
            topic_names: vec!["clicks".into()],
            timeout_ms: 1_000,
            ..Default::default()
        };
        assert_eq!(house.ask(5, request).await.responses[0].error_code, 0);
        assert_eq!(house.broker.share_state_counts().share_partitions, 0);
        assert_eq!(house.broker.share_counts().share_partitions, 0);
        let request = member.request(0);
        let response = member.start(2, &request).await;
        assert_eq!(code(response.responses[0].partitions[0].error_code), ErrorCode::UnknownTopicId);
        assert_eq!(described(&house).await, []);
    });
}

/// On three brokers the coordinators of a group, of its share partitions and their leaders are different ones, and any of them may go.
#[test]
fn a_leader_that_is_gone_leaves_nothing_that_was_accepted() {
    story(|| async {
        let Cluster { houses, processes, wires, .. } = Cluster::start(&MemBucket::new(5)).await;
        settled().await;
        let topic = houses[0].create_topic("clicks", 6, &[]).await;
        settled().await;
        let coordinator = coordinator(&houses[0]).await;
        configure(&houses[coordinator], "share.auto.offset.reset", "earliest").await;
        settled().await;
        join(&houses[coordinator], "member", &["clicks"]).await;
        let leader = leader(&houses[0]);
        houses[leader].produce("clicks", 0, &["a", "b", "c", "d"]).await;
        let mut member = Member::new(&houses[leader], "member", topic);
        assert_eq!(until_fetched(&mut member).await, [(0, 3, 1)]);
        assert_eq!(member.say(0, 1, ACCEPT).await, ErrorCode::None);
        assert_eq!(member.say(3, 3, RELEASE).await, ErrorCode::None);
        wires.brokers.lock().remove(&(leader as i32 + 1));
        processes[leader].kill();
        let alive = &houses[(leader + 1) % 3];
        let mut next = leader;
        for _ in 0..30 {
            settled().await;
            alive.catalog.catch_up().await.unwrap();
            next = self::leader(alive);
            if next != leader {
                break;
            }
        }
        assert_ne!(next, leader);
        let mut member = Member::new(&houses[next], "member", topic);
        let acquired = until_fetched(&mut member).await;
        assert_eq!(acquired, [(2, 2, 1), (3, 3, 2)]);
        assert_eq!(member.say(2, 3, ACCEPT).await, ErrorCode::None);
    });
}

pub async fn settled() {
    world::task::sleep(Duration::from_secs(20)).await;
}

pub async fn coordinator(house: &House) -> usize {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    let node_id = house.ask(4, request).await.coordinators[0].node_id;
    settled().await;
    node_id as usize - 1
}

pub fn leader(house: &House) -> usize {
    let state = house.catalog.read();
    state.topic(&Str::from("clicks")).unwrap().partitions[0].leader as usize - 1
}

/// The share partition may still be read, or its leader may not know yet that it leads.
pub async fn until_fetched(member: &mut Member<'_>) -> Vec<Acquired> {
    for _ in 0..20 {
        let request = member.request(1_000);
        let response = member.start(2, &request).await;
        let has_error =
            response.responses.iter().flat_map(|topic| &topic.partitions).any(|one| one.error_code != 0);
        if response.error_code == 0 && !has_error && !fetched(&response).1.is_empty() {
            return fetched(&response).1;
        }
        world::task::sleep(Duration::from_millis(500)).await;
    }
    panic!("nothing comes");
}

fn clock_ms(house: &House) -> u64 {
    use world::clock::Clock;
    house.clock.monotonic().as_millis() as u64
}
