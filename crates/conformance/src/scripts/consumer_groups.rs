//! ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848), and those of share groups (KIP-932).

use protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest,
};
use protocol::{ApiKey, Str};

use super::setup::Topic;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::ConsumerGroupHeartbeat, "one member", beats),
    script(ApiKey::ConsumerGroupHeartbeat, "wrong ones", wrong_beats),
    script(ApiKey::ConsumerGroupDescribe, "groups", describe),
    script(ApiKey::ShareGroupHeartbeat, "one member", share_beats),
    script(ApiKey::ShareGroupDescribe, "groups", share_describe),
];

/// As a client makes it.
const MEMBER: &str = "bWVtYmVyLW9mLWEtZ3JvdXA";
const LEAVES: i32 = -1;

fn join(group: &Str, topic: &Topic) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![topic.name.clone()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn beat(group: &Str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        member_epoch,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        topic_partitions: None,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// Waits until the coordinator of groups assigns a topic: Kafka's learns of topics later than its leaders do. One coordinator has all
/// groups, since `__consumer_offsets` has one partition here.
pub(super) fn await_coordinator_of(c: &mut Conversation, topic: &Topic) {
    let scouts = c.group("scouts");
    c.help_until(&join(&scouts, topic), |answer| {
        answer.error_code == 0
            && answer.assignment.as_ref().is_some_and(|assigned| !assigned.topic_partitions.is_empty())
    });
    c.help(&beat(&scouts, LEAVES));
}

fn beats(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 2));
    await_coordinator_of(c, &a);
    let joined = c.ask("joins", &join(&g, &a));
    let epoch = joined.map_or(0, |joined| joined.member_epoch);
    c.ask("is there", &beat(&g, epoch));
    c.ask("an older epoch", &beat(&g, epoch - 1));
    c.ask("a newer epoch", &beat(&g, epoch + 1));
    c.ask(
        "an unknown member",
        &ConsumerGroupHeartbeatRequest { member_id: "nobody".into(), ..beat(&g, epoch) },
    );
    c.ask("leaves", &beat(&g, LEAVES));
    c.ask("has left", &beat(&g, epoch));
    c.ask("leaves again", &beat(&g, LEAVES));
}

fn wrong_beats(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    let plain = join(&g, &a);
    for (label, request) in [
        ("no group", ConsumerGroupHeartbeatRequest { group_id: "".into(), ..plain.clone() }),
        (
            "no member",
            ConsumerGroupHeartbeatRequest { member_id: "".into(), member_epoch: 1, ..plain.clone() },
        ),
        ("no time", ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..plain.clone() }),
        ("no topics", ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..plain.clone() }),
        ("owns something before", ConsumerGroupHeartbeatRequest { topic_partitions: None, ..plain.clone() }),
        (
            "an unknown assignor",
            ConsumerGroupHeartbeatRequest { server_assignor: Some("x".into()), ..plain.clone() },
        ),
        (
            "an empty assignor",
            ConsumerGroupHeartbeatRequest { server_assignor: Some("".into()), ..plain.clone() },
        ),
        (
            "an empty instance",
            ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..plain.clone() },
        ),
        ("an empty rack", ConsumerGroupHeartbeatRequest { rack_id: Some("".into()), ..plain.clone() }),
        ("an epoch below all", ConsumerGroupHeartbeatRequest { member_epoch: -9, ..plain.clone() }),
        (
            "an instance that never was",
            ConsumerGroupHeartbeatRequest {
                instance_id: Some("i".into()),
                member_epoch: -2,
                ..plain.clone()
            },
        ),
        (
            "an expression that is none",
            ConsumerGroupHeartbeatRequest {
                subscribed_topic_regex: Some("(".into()),
                subscribed_topic_names: None,
                ..plain
            },
        ),
    ] {
        c.ask(label, &request);
    }
}

fn describe(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    await_coordinator_of(c, &a);
    c.help(&join(&g, &a));
    let of = |groups: &[&Str]| ConsumerGroupDescribeRequest {
        group_ids: groups.iter().map(|group| (*group).clone()).collect(),
        ..ConsumerGroupDescribeRequest::default()
    };
    c.ask("one", &of(&[&g]));
    c.ask("an unknown one", &of(&[&c.name("x")]));
    c.ask("no name", &of(&[&"".into()]));
    c.ask("none", &of(&[]));
}

fn share_join(group: &Str, topic: &Topic) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest {
        group_id: group.clone(),
        member_id: MEMBER.into(),
        subscribed_topic_names: Some(vec![topic.name.clone()]),
        ..ShareGroupHeartbeatRequest::default()
    }
}

fn share_beats(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    await_coordinator_of(c, &a);
    let joined = c.ask("joins", &share_join(&g, &a));
    let epoch = joined.map_or(0, |joined| joined.member_epoch);
    let of = |member_epoch| ShareGroupHeartbeatRequest {
        member_epoch,
        subscribed_topic_names: None,
        ..share_join(&g, &a)
    };
    c.ask("a newer epoch", &of(epoch + 5));
    c.ask("no group", &ShareGroupHeartbeatRequest { group_id: "".into(), ..share_join(&g, &a) });
    c.ask("no member", &ShareGroupHeartbeatRequest { member_id: "".into(), ..share_join(&g, &a) });
    c.ask("no topics", &ShareGroupHeartbeatRequest { subscribed_topic_names: None, ..share_join(&g, &a) });
    c.ask("an unknown member", &ShareGroupHeartbeatRequest { member_id: "nobody".into(), ..of(epoch) });
    c.ask("leaves", &of(LEAVES));
    c.ask("leaves again", &of(LEAVES));
}

fn share_describe(c: &mut Conversation) {
    let (g, a) = (c.group("g"), c.topic("a", 1));
    await_coordinator_of(c, &a);
    c.help(&share_join(&g, &a));
    let of = |groups: &[&Str]| ShareGroupDescribeRequest {
        group_ids: groups.iter().map(|group| (*group).clone()).collect(),
        ..ShareGroupDescribeRequest::default()
    };
    c.ask("one", &of(&[&g]));
    c.ask("an unknown one", &of(&[&c.name("x")]));
    c.ask("no name", &of(&[&"".into()]));
}
