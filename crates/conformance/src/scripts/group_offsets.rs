//! OffsetCommit, OffsetFetch, OffsetDelete.

use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use protocol::{ApiKey, Str, Uuid};

use super::group_membership::stable_member;
use super::setup::Topic;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::OffsetCommit, "without members", commit_alone),
    script(ApiKey::OffsetCommit, "of members", commit_of_members),
    script(ApiKey::OffsetCommit, "wrong places", commit_wrongly),
    script(ApiKey::OffsetFetch, "committed ones", fetch),
    script(ApiKey::OffsetFetch, "several groups", fetch_several),
    script(ApiKey::OffsetDelete, "partitions", delete),
];

fn commit(group: &Str, topic: &Topic, partitions: &[(i32, i64, Option<&str>)]) -> OffsetCommitRequest {
    let partition = |(partition_index, committed_offset, metadata): &(i32, i64, Option<&str>)| {
        OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_metadata: metadata.map(Str::from),
            ..Default::default()
        }
    };
    OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: partitions.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

fn commit_alone(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 2));
    c.ask("one", &commit(&g, &a, &[(0, 5, Some("m"))]));
    c.ask("two", &commit(&g, &a, &[(0, 6, None), (1, 7, Some(""))]));
    c.ask("an offset below 0", &commit(&g, &a, &[(0, -1, None)]));
    c.ask("metadata too long", &commit(&g, &a, &[(0, 1, Some(&"x".repeat(5000)))]));
    c.ask("one partition twice", &commit(&g, &a, &[(0, 8, None), (0, 9, None)]));
    c.ask("no partitions", &commit(&g, &a, &[]));
    let nothing = OffsetCommitRequest { topics: Vec::new(), ..commit(&g, &a, &[]) };
    c.ask("nothing", &nothing);
    c.ask(
        "a member of an empty group",
        &OffsetCommitRequest { member_id: "nobody".into(), ..commit(&g, &a, &[(0, 1, None)]) },
    );
    c.ask(
        "a generation of an empty group",
        &OffsetCommitRequest { generation_id_or_member_epoch: 3, ..commit(&g, &a, &[(0, 1, None)]) },
    );
    c.ask(
        "an instance of an empty group",
        &OffsetCommitRequest { group_instance_id: Some("i".into()), ..commit(&g, &a, &[(0, 1, None)]) },
    );
}

fn commit_of_members(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    let (member, generation) = stable_member(c, &g);
    let of = |member: &Str, generation_id_or_member_epoch| OffsetCommitRequest {
        generation_id_or_member_epoch,
        member_id: member.clone(),
        ..commit(&g, &a, &[(0, 5, None)])
    };
    c.ask("the member", &of(&member, generation));
    c.ask("an old generation", &of(&member, generation - 1));
    c.ask("a newer generation", &of(&member, generation + 1));
    c.ask("an unknown member", &of(&"nobody".into(), generation));
    c.ask("without a member", &of(&"".into(), -1));
    c.ask("a member without a generation", &of(&member, -1));
    c.ask(
        "an unknown instance",
        &OffsetCommitRequest { group_instance_id: Some("i".into()), ..of(&member, generation) },
    );
}

const COMMIT_IDS_SINCE: i16 = 10;

fn commit_wrongly(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    let unknown = Topic { name: c.name("unknown"), id: Uuid::from_u128(0x1234_5678) };
    c.ask("an unknown topic", &commit(&g, &unknown, &[(0, 5, None)]));
    c.ask("an unknown partition", &commit(&g, &a, &[(7, 5, None)]));
    c.ask("a partition below 0", &commit(&g, &a, &[(-1, 5, None)]));
    c.ask("no group", &commit(&"".into(), &a, &[(0, 5, None)]));
    // Kafka answers those that are wrong first.
    let mut mixed = commit(&g, &unknown, &[(0, 5, None)]);
    mixed.topics.extend(commit(&g, &a, &[(0, 5, None)]).topics);
    c.ask("an unknown and a known topic", &mixed);
    if c.version() < COMMIT_IDS_SINCE {
        let wrong = Topic { name: "a b".into(), id: Uuid::ZERO };
        c.ask("a wrong name", &commit(&g, &wrong, &[(0, 5, None)]));
    } else {
        c.ask("no id", &commit(&g, &Topic { name: a.name.clone(), id: Uuid::ZERO }, &[(0, 5, None)]));
    }
}

const GROUPS_SINCE: i16 = 8;
const FETCH_IDS_SINCE: i16 = 10;

/// Of one group, in whatever shape the version has.
fn fetch_of(c: &Conversation, group: &Str, topics: Option<&[(&Topic, &[i32])]>) -> OffsetFetchRequest {
    match c.version() >= GROUPS_SINCE {
        false => {
            let topic = |(topic, partitions): &(&Topic, &[i32])| OffsetFetchRequestTopic {
                name: topic.name.clone(),
                partition_indexes: partitions.to_vec(),
                ..Default::default()
            };
            OffsetFetchRequest {
                group_id: group.clone(),
                topics: topics.map(|topics| topics.iter().map(topic).collect()),
                ..OffsetFetchRequest::default()
            }
        }
        true => {
            OffsetFetchRequest { groups: vec![group_of(c, group, topics)], ..OffsetFetchRequest::default() }
        }
    }
}

fn group_of(c: &Conversation, group: &Str, topics: Option<&[(&Topic, &[i32])]>) -> OffsetFetchRequestGroup {
    let by_id = c.version() >= FETCH_IDS_SINCE;
    let topic = |(topic, partitions): &(&Topic, &[i32])| OffsetFetchRequestTopics {
        name: if by_id { Str::default() } else { topic.name.clone() },
        topic_id: if by_id { topic.id } else { Uuid::ZERO },
        partition_indexes: partitions.to_vec(),
        ..Default::default()
    };
    OffsetFetchRequestGroup {
        group_id: group.clone(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        ..Default::default()
    }
}

fn fetch(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 3));
    c.help(&commit(&g, &a, &[(0, 5, Some("m")), (1, 0, None)]));
    c.ask("two that are, one that is not", &fetch_of(c, &g, Some(&[(&a, &[0, 1, 2])])));
    c.ask("an unknown partition", &fetch_of(c, &g, Some(&[(&a, &[7])])));
    let unknown = Topic { name: c.name("unknown"), id: Uuid::from_u128(0x1234_5678) };
    c.ask("an unknown topic", &fetch_of(c, &g, Some(&[(&unknown, &[0])])));
    c.ask("an unknown group", &fetch_of(c, &c.name("x"), Some(&[(&a, &[0])])));
    c.ask("no group", &fetch_of(c, &"".into(), Some(&[(&a, &[0])])));
    c.ask("all", &fetch_of(c, &g, None));
    c.ask("all of an unknown group", &fetch_of(c, &c.name("x"), None));
    c.ask("no topics", &fetch_of(c, &g, Some(&[])));
    c.ask("no partitions", &fetch_of(c, &g, Some(&[(&a, &[])])));
    c.ask("one twice", &fetch_of(c, &g, Some(&[(&a, &[0, 0])])));
    c.ask(
        "stable ones",
        &OffsetFetchRequest { require_stable: true, ..fetch_of(c, &g, Some(&[(&a, &[0])])) },
    );
}

fn fetch_several(c: &mut Conversation) {
    if c.version() < GROUPS_SINCE {
        return;
    }
    let (g, h, a) = (c.group("g"), c.group("h"), c.topic("a", 1));
    c.help(&commit(&g, &a, &[(0, 5, None)]));
    let of = |groups| OffsetFetchRequest { groups, ..OffsetFetchRequest::default() };
    let one = group_of(c, &g, Some(&[(&a, &[0])]));
    c.ask("two", &of(vec![one.clone(), group_of(c, &h, None)]));
    c.ask("one twice", &of(vec![one.clone(), one.clone()]));
    c.ask("none", &of(Vec::new()));
    c.ask(
        "a member that is none",
        &of(vec![OffsetFetchRequestGroup {
            member_id: Some("nobody".into()),
            member_epoch: 1,
            ..one.clone()
        }]),
    );
    c.ask("an epoch alone", &of(vec![OffsetFetchRequestGroup { member_epoch: 1, ..one }]));
}

fn delete(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 2));
    c.help(&commit(&g, &a, &[(0, 5, None), (1, 6, None)]));
    let of = |group: &Str, topics: &[(&Str, &[i32])]| {
        let topic = |(name, partitions): &(&Str, &[i32])| OffsetDeleteRequestTopic {
            name: (*name).clone(),
            partitions: partitions
                .iter()
                .map(|partition_index| OffsetDeleteRequestPartition {
                    partition_index: *partition_index,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        OffsetDeleteRequest {
            group_id: group.clone(),
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        }
    };
    c.ask("one", &of(&g, &[(&a.name, &[0])]));
    c.ask("again", &of(&g, &[(&a.name, &[0])]));
    c.ask("an unknown partition", &of(&g, &[(&a.name, &[7])]));
    c.ask("an unknown topic", &of(&g, &[(&c.name("unknown"), &[0])]));
    c.ask("an unknown group", &of(&c.name("x"), &[(&a.name, &[0])]));
    c.ask("no group", &of(&"".into(), &[(&a.name, &[0])]));
    c.ask("nothing", &of(&g, &[]));
    stable_member(c, &g);
    c.ask("of a group with members", &of(&g, &[(&a.name, &[1])]));
}
