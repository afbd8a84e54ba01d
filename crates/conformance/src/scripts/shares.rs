//! ShareFetch and ShareAcknowledge, the offsets of share groups and the state that brokers keep of them (KIP-932).

use protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic};
use protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic};
use protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequest,
    IncrementalAlterConfigsRequest, ShareAcknowledgeRequest, ShareFetchRequest, ShareFetchResponse,
    ShareGroupHeartbeatRequest, share_acknowledge_request,
};
use protocol::{ApiKey, Str, Uuid};

use super::setup::{Topic, batch};
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::ShareFetch, "one member", fetches),
    script(ApiKey::ShareFetch, "wrong ones", wrong_fetches),
    script(ApiKey::ShareAcknowledge, "one member", acknowledges),
    script(ApiKey::DescribeShareGroupOffsets, "groups", describe_offsets),
    script(ApiKey::AlterShareGroupOffsets, "good and bad", alter_offsets),
    script(ApiKey::DeleteShareGroupOffsets, "good and bad", delete_offsets),
];

/// As a client makes it.
const MEMBER: &str = "bWVtYmVyLW9mLXNoYXJl";
const RESOURCE_GROUP: i8 = 32;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const FINAL: i32 = -1;
const WAIT_MS: i32 = 2_000;

/// A group that begins at the first record, with a member that was told to read the topic.
fn member_of(c: &mut Conversation) -> (Str, Topic) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    let config = AlterableConfig {
        name: "share.auto.offset.reset".into(),
        value: Some("earliest".into()),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource {
        resource_type: RESOURCE_GROUP,
        resource_name: g.clone(),
        configs: vec![config],
    };
    c.help(&IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false });
    join(c, &g, &a);
    (g, a)
}

fn join(c: &mut Conversation, group: &Str, topic: &Topic) {
    let request = ShareGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        member_epoch: 0,
        rack_id: None,
        subscribed_topic_names: Some(vec![topic.name.clone()]),
    };
    c.help_until(&request, |answer| {
        answer.assignment.as_ref().is_some_and(|assignment| !assignment.topic_partitions.is_empty())
    });
}

fn leave(c: &mut Conversation, group: &Str) {
    c.help(&ShareGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        member_epoch: -1,
        rack_id: None,
        subscribed_topic_names: None,
    });
}

type Said = (i64, i64, Vec<i8>);

fn fetch(group: &Str, topic: Uuid, epoch: i32, said: &[Said]) -> ShareFetchRequest {
    let batches = said.iter().map(|(first_offset, last_offset, types)| AcknowledgementBatch {
        first_offset: *first_offset,
        last_offset: *last_offset,
        acknowledge_types: types.clone(),
    });
    let partition = FetchPartition { partition_index: 0, acknowledgement_batches: batches.collect() };
    ShareFetchRequest {
        group_id: Some(group.clone()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: epoch,
        max_wait_ms: if said.is_empty() { WAIT_MS } else { 0 },
        min_bytes: 1,
        max_bytes: if said.is_empty() { 1 << 20 } else { 0 },
        max_records: if said.is_empty() { 500 } else { 0 },
        batch_size: 500,
        topics: vec![FetchTopic { topic_id: topic, partitions: vec![partition] }],
        ..ShareFetchRequest::default()
    }
}

fn has_records(answer: &ShareFetchResponse) -> bool {
    answer.responses.iter().flat_map(|topic| &topic.partitions).any(|one| !one.acquired_records.is_empty())
}

/// The first fetch of the member, which gets all records.
fn begin(c: &mut Conversation) -> (Str, Topic) {
    let (g, a) = member_of(c);
    c.write(&a, 0, batch(&["a", "b", "c", "d"]));
    c.help_until(&fetch(&g, a.id, 0, &[]), has_records);
    (g, a)
}

fn fetches(c: &mut Conversation) {
    let (g, a) = begin(c);
    c.ask("says something", &fetch(&g, a.id, 1, &[(0, 2, vec![ACCEPT, RELEASE, REJECT])]));
    c.ask("what was released", &fetch(&g, a.id, 2, &[]));
    c.ask("says it again", &fetch(&g, a.id, 3, &[(0, 0, vec![ACCEPT])]));
    c.ask("of records that nobody has", &fetch(&g, a.id, 4, &[(9, 9, vec![ACCEPT])]));
    c.ask("an unknown type", &fetch(&g, a.id, 5, &[(3, 3, vec![9])]));
    c.ask("types that do not fit", &fetch(&g, a.id, 6, &[(1, 3, vec![ACCEPT, ACCEPT])]));
    c.ask("ends before it begins", &fetch(&g, a.id, 7, &[(3, 1, vec![ACCEPT])]));
    c.ask("the last one", &fetch(&g, a.id, FINAL, &[(3, 3, vec![ACCEPT])]));
    c.ask("behind the last one", &fetch(&g, a.id, 9, &[]));
}

fn wrong_fetches(c: &mut Conversation) {
    let (g, a) = member_of(c);
    c.ask("no session", &fetch(&g, a.id, 5, &[]));
    c.ask("the last one of none", &fetch(&g, a.id, FINAL, &[]));
    c.ask("says something at once", &fetch(&g, a.id, 0, &[(0, 0, vec![ACCEPT])]));
    c.ask("no member", &ShareFetchRequest { member_id: Some("".into()), ..fetch(&g, a.id, 0, &[]) });
    let long = "m".repeat(37);
    c.ask("a long member", &ShareFetchRequest { member_id: Some(long.into()), ..fetch(&g, a.id, 0, &[]) });
    c.ask("an unknown topic", &fetch(&g, Uuid([7; 16]), 0, &[]));
    c.ask("an epoch that is none", &fetch(&g, a.id, 9, &[]));
}

fn acknowledge(group: &Str, topic: Uuid, epoch: i32, said: &[Said]) -> ShareAcknowledgeRequest {
    let batches = said.iter().map(|(first_offset, last_offset, types)| {
        share_acknowledge_request::AcknowledgementBatch {
            first_offset: *first_offset,
            last_offset: *last_offset,
            acknowledge_types: types.clone(),
        }
    });
    let partition = AcknowledgePartition { partition_index: 0, acknowledgement_batches: batches.collect() };
    ShareAcknowledgeRequest {
        group_id: Some(group.clone()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: epoch,
        topics: vec![AcknowledgeTopic { topic_id: topic, partitions: vec![partition] }],
        ..ShareAcknowledgeRequest::default()
    }
}

fn acknowledges(c: &mut Conversation) {
    let (g, a) = begin(c);
    c.ask("a session that begins", &acknowledge(&g, a.id, 0, &[(0, 0, vec![ACCEPT])]));
    c.ask("an epoch that is none", &acknowledge(&g, a.id, 9, &[(0, 0, vec![ACCEPT])]));
    c.ask("one for all", &acknowledge(&g, a.id, 1, &[(0, 1, vec![ACCEPT])]));
    c.ask("one for each", &acknowledge(&g, a.id, 2, &[(2, 3, vec![RELEASE, REJECT])]));
    c.ask("again", &acknowledge(&g, a.id, 3, &[(2, 3, vec![RELEASE, REJECT])]));
    c.ask("nothing", &acknowledge(&g, a.id, 4, &[]));
    c.ask("an unknown topic", &acknowledge(&g, Uuid([7; 16]), 5, &[(0, 0, vec![ACCEPT])]));
    c.ask("the last one", &acknowledge(&g, a.id, FINAL, &[]));
    c.ask("behind the last one", &acknowledge(&g, a.id, 7, &[]));
}

fn described(group: &Str, topics: Option<&[&Str]>) -> DescribeShareGroupOffsetsRequest {
    let topic = |name: &&Str| DescribeShareGroupOffsetsRequestTopic {
        topic_name: (*name).clone(),
        partitions: vec![0],
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: group.clone(), topics };
    DescribeShareGroupOffsetsRequest { groups: vec![group] }
}

fn describe_offsets(c: &mut Conversation) {
    let (g, a) = begin(c);
    let request = acknowledge(&g, a.id, 1, &[(0, 1, vec![ACCEPT])]);
    c.help(&request);
    c.ask("all", &described(&g, None));
    c.ask("one topic", &described(&g, Some(&[&a.name])));
    c.ask("an unknown topic", &described(&g, Some(&[&c.name("x")])));
    c.ask("none", &described(&g, Some(&[])));
    c.ask("an unknown group", &described(&c.name("y"), None));
}

fn altered(
    group: &Str,
    topic: &Str,
    partition_index: i32,
    start_offset: i64,
) -> AlterShareGroupOffsetsRequest {
    let partition = AlterShareGroupOffsetsRequestPartition { partition_index, start_offset };
    let topic = AlterShareGroupOffsetsRequestTopic { topic_name: topic.clone(), partitions: vec![partition] };
    AlterShareGroupOffsetsRequest { group_id: group.clone(), topics: vec![topic] }
}

fn alter_offsets(c: &mut Conversation) {
    let (g, a) = begin(c);
    c.ask("a group with members", &altered(&g, &a.name, 0, 2));
    leave(c, &g);
    c.ask("a group without", &altered(&g, &a.name, 0, 2));
    c.ask("an unknown partition", &altered(&g, &a.name, 9, 2));
    c.ask("an unknown topic", &altered(&g, &c.name("x"), 0, 2));
    c.ask("no group", &altered(&"".into(), &a.name, 0, 2));
    c.ask("nothing", &AlterShareGroupOffsetsRequest { topics: Vec::new(), ..altered(&g, &a.name, 0, 0) });
    let new = c.group("h");
    c.ask("a new group", &altered(&new, &a.name, 0, 1));
}

fn deleted(group: &Str, topics: &[&Str]) -> DeleteShareGroupOffsetsRequest {
    let topic = |name: &&Str| DeleteShareGroupOffsetsRequestTopic { topic_name: (*name).clone() };
    DeleteShareGroupOffsetsRequest { group_id: group.clone(), topics: topics.iter().map(topic).collect() }
}

fn delete_offsets(c: &mut Conversation) {
    let (g, a) = begin(c);
    c.ask("a group with members", &deleted(&g, &[&a.name]));
    leave(c, &g);
    c.ask("an unknown topic", &deleted(&g, &[&c.name("x")]));
    c.ask("a group without", &deleted(&g, &[&a.name]));
    c.ask("again", &deleted(&g, &[&a.name]));
    c.ask("nothing", &deleted(&g, &[]));
    c.ask("an unknown group", &deleted(&c.name("y"), &[&a.name]));
    c.ask("no group", &deleted(&"".into(), &[&a.name]));
}
