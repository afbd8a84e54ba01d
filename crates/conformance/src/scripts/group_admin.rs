//! DescribeGroups, ListGroups, DeleteGroups.

use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
};
use protocol::{ApiKey, Str};

use super::group_membership::{member, stable_member};
use super::setup::Topic;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::DescribeGroups, "states", describe),
    script(ApiKey::ListGroups, "states and types", list),
    script(ApiKey::DeleteGroups, "groups", delete),
];

/// A group that has an offset and no members.
fn group_with_offset(c: &mut Conversation, name: &str, topic: &Topic) -> Str {
    let group = c.group(name);
    let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    let of_topic = OffsetCommitRequestTopic {
        name: topic.name.clone(),
        topic_id: topic.id,
        partitions: vec![partition],
        ..Default::default()
    };
    c.help(&OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: -1,
        topics: vec![of_topic],
        ..OffsetCommitRequest::default()
    });
    group
}

fn describe(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let empty = group_with_offset(c, "empty", &a);
    let (waiting, stable) = (c.group("waiting"), c.group("stable"));
    member(c, &waiting);
    stable_member(c, &stable);
    let of = |groups: &[&Str]| DescribeGroupsRequest {
        groups: groups.iter().map(|group| (*group).clone()).collect(),
        ..DescribeGroupsRequest::default()
    };
    c.ask("without members", &of(&[&empty]));
    c.ask("before the assignment", &of(&[&waiting]));
    c.ask("stable", &of(&[&stable]));
    c.ask("unknown", &of(&[&c.name("x")]));
    c.ask("no name", &of(&[&"".into()]));
    c.ask("several", &of(&[&stable, &c.name("x"), &empty]));
    c.ask("one twice", &of(&[&empty, &empty]));
    c.ask("none", &of(&[]));
    c.ask("operations", &DescribeGroupsRequest { include_authorized_operations: true, ..of(&[&empty]) });
}

fn list(c: &mut Conversation) {
    let a = c.topic("a", 1);
    group_with_offset(c, "empty", &a);
    let stable = c.group("stable");
    stable_member(c, &stable);
    let of = |states: &[&str], types: &[&str]| ListGroupsRequest {
        states_filter: states.iter().map(|state| Str::from(*state)).collect(),
        types_filter: types.iter().map(|kind| Str::from(*kind)).collect(),
        ..ListGroupsRequest::default()
    };
    c.ask("all", &of(&[], &[]));
    c.ask("empty ones", &of(&["Empty"], &[]));
    c.ask("stable ones, in small letters", &of(&["stable"], &[]));
    c.ask("two states", &of(&["Stable", "Empty"], &[]));
    c.ask("an unknown state", &of(&["Sleeping"], &[]));
    c.ask("no state", &of(&[""], &[]));
    c.ask("classic ones", &of(&[], &["classic"]));
    c.ask("classic ones, in capitals", &of(&[], &["CLASSIC"]));
    c.ask("consumer ones", &of(&[], &["consumer"]));
    c.ask("an unknown type", &of(&[], &["x"]));
}

fn delete(c: &mut Conversation) {
    let a = c.topic("a", 1);
    let (one, two) = (group_with_offset(c, "one", &a), group_with_offset(c, "two", &a));
    let stable = c.group("stable");
    stable_member(c, &stable);
    let of = |groups: &[&Str]| DeleteGroupsRequest {
        groups_names: groups.iter().map(|group| (*group).clone()).collect(),
        ..DeleteGroupsRequest::default()
    };
    c.ask("one", &of(&[&one]));
    c.ask("again", &of(&[&one]));
    c.ask("with members", &of(&[&stable]));
    c.ask("unknown", &of(&[&c.name("x")]));
    c.ask("no name", &of(&[&"".into()]));
    c.ask("one twice", &of(&[&two, &two]));
    c.ask("none", &of(&[]));
}
