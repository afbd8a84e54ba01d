//! Metadata, DescribeTopicPartitions, DescribeCluster, FindCoordinator: who is where.

use protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    DescribeClusterRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest, MetadataRequest,
};
use protocol::{ApiKey, Str, Uuid};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::Metadata, "named topics", named),
    script(ApiKey::Metadata, "all topics", all),
    script(ApiKey::Metadata, "topics by id", by_id),
    script(ApiKey::Metadata, "names that are none", wrong_names),
    script(ApiKey::Metadata, "topics made on the way", automatic),
    script(ApiKey::Metadata, "operations", operations),
    script(ApiKey::DescribeTopicPartitions, "pages", pages),
    script(ApiKey::DescribeCluster, "brokers", brokers),
    script(ApiKey::FindCoordinator, "groups", coordinator_of_groups),
    script(ApiKey::FindCoordinator, "transactions and others", coordinator_of_others),
];

const AUTO_CREATION_CHOICE: i16 = 4;

fn ask_for(c: &Conversation, topics: Vec<MetadataRequestTopic>) -> MetadataRequest {
    // Before version 4 there is no choice.
    let allow_auto_topic_creation = c.version() < AUTO_CREATION_CHOICE;
    MetadataRequest { topics: Some(topics), allow_auto_topic_creation, ..MetadataRequest::default() }
}

fn topic_named(name: impl Into<Str>) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.into()), ..Default::default() }
}

fn named(c: &mut Conversation) {
    let (one, three) = (c.topic("one", 1), c.topic("three", 3));
    c.ask("one", &ask_for(c, vec![one.named()]));
    c.ask("two", &ask_for(c, vec![three.named(), one.named()]));
    c.ask("one twice", &ask_for(c, vec![one.named(), one.named()]));
    if c.version() >= AUTO_CREATION_CHOICE {
        let unknown = topic_named(c.name("unknown"));
        c.ask("an unknown one beside", &ask_for(c, vec![unknown, one.named()]));
    }
}

fn all(c: &mut Conversation) {
    c.topic("a", 2);
    c.ask("null", &MetadataRequest { topics: None, ..ask_for(c, Vec::new()) });
    // Everything in version 0, nothing from 1 on.
    c.ask("empty", &ask_for(c, Vec::new()));
}

fn by_id(c: &mut Conversation) {
    let topic = c.topic("a", 1);
    let of = |topic_id| MetadataRequestTopic { topic_id, name: None };
    c.ask("known", &ask_for(c, vec![of(topic.id)]));
    c.ask("unknown", &ask_for(c, vec![of(Uuid::from_u128(0x1234_5678))]));
    c.ask("known and unknown", &ask_for(c, vec![of(Uuid::from_u128(0x1234_5678)), of(topic.id)]));
    c.ask("none", &ask_for(c, vec![of(Uuid::ZERO)]));
    let both = MetadataRequestTopic { topic_id: topic.id, name: Some(topic.name.clone()) };
    c.ask("id and name", &ask_for(c, vec![both]));
    c.ask("one by id, one by name", &ask_for(c, vec![of(topic.id), topic.named()]));
}

fn wrong_names(c: &mut Conversation) {
    let long = "x".repeat(250);
    for (label, name) in [
        ("empty", ""),
        ("a dot", "."),
        ("two dots", ".."),
        ("a blank", "a b"),
        ("a slash", "a/b"),
        ("250 characters", long.as_str()),
        ("letters of elsewhere", "ä"),
    ] {
        c.ask(label, &ask_for(c, vec![topic_named(name)]));
    }
}

fn automatic(c: &mut Conversation) {
    let name = c.name("made");
    let request = MetadataRequest { topics: Some(vec![topic_named(name)]), ..MetadataRequest::default() };
    c.ask("at once", &request);
    c.settle("in the end", &request, |answer| answer.topics.iter().all(|topic| topic.error_code == 0));
    let wrong = MetadataRequest { topics: Some(vec![topic_named("a b")]), ..MetadataRequest::default() };
    c.ask("not what cannot be", &wrong);
}

fn operations(c: &mut Conversation) {
    let topic = c.topic("a", 1);
    let request = ask_for(c, vec![topic.named()]);
    c.ask("of topics", &MetadataRequest { include_topic_authorized_operations: true, ..request.clone() });
    c.ask("of the cluster", &MetadataRequest { include_cluster_authorized_operations: true, ..request });
}

fn pages(c: &mut Conversation) {
    let (a, b) = (c.topic("a", 3), c.topic("b", 1));
    let unknown = c.name("unknown");
    let of = |names: &[&Str]| DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| TopicRequest { name: (*name).clone(), ..Default::default() })
            .collect(),
        ..DescribeTopicPartitionsRequest::default()
    };
    let at = |topic_name: &Str, partition_index| {
        Some(Cursor { topic_name: topic_name.clone(), partition_index, ..Default::default() })
    };
    c.ask("both", &of(&[&a.name, &b.name]));
    c.ask("in the other order", &of(&[&b.name, &a.name]));
    c.ask("one twice", &of(&[&a.name, &a.name]));
    c.ask("an unknown one", &of(&[&unknown]));
    c.ask("wrong name", &of(&[&Str::from("a b")]));
    c.ask(
        "two partitions",
        &DescribeTopicPartitionsRequest { response_partition_limit: 2, ..of(&[&a.name, &b.name]) },
    );
    c.ask(
        "from the second on",
        &DescribeTopicPartitionsRequest { cursor: at(&a.name, 1), ..of(&[&a.name, &b.name]) },
    );
    c.ask(
        "from the second topic on",
        &DescribeTopicPartitionsRequest { cursor: at(&b.name, 0), ..of(&[&a.name, &b.name]) },
    );
    c.ask("limit 0", &DescribeTopicPartitionsRequest { response_partition_limit: 0, ..of(&[&a.name]) });
    c.ask(
        "limit below 0",
        &DescribeTopicPartitionsRequest { response_partition_limit: -1, ..of(&[&a.name]) },
    );
    c.ask(
        "cursor behind the end",
        &DescribeTopicPartitionsRequest { cursor: at(&a.name, 9), ..of(&[&a.name]) },
    );
    c.ask("cursor below 0", &DescribeTopicPartitionsRequest { cursor: at(&a.name, -1), ..of(&[&a.name]) });
    c.ask(
        "cursor in another topic",
        &DescribeTopicPartitionsRequest { cursor: at(&unknown, 0), ..of(&[&a.name]) },
    );
}

fn brokers(c: &mut Conversation) {
    let plain = DescribeClusterRequest::default();
    c.ask("plain", &plain);
    c.ask(
        "operations",
        &DescribeClusterRequest { include_cluster_authorized_operations: true, ..plain.clone() },
    );
    c.ask("controllers", &DescribeClusterRequest { endpoint_type: 2, ..plain.clone() });
    c.ask("an unknown type", &DescribeClusterRequest { endpoint_type: 9, ..plain.clone() });
    c.ask("type 0", &DescribeClusterRequest { endpoint_type: 0, ..plain.clone() });
    c.ask("fenced ones too", &DescribeClusterRequest { include_fenced_brokers: true, ..plain });
}

const KEYS_SINCE: i16 = 4;

fn find(c: &Conversation, key_type: i8, keys: &[Str]) -> FindCoordinatorRequest {
    match c.version() >= KEYS_SINCE {
        true => FindCoordinatorRequest { key_type, coordinator_keys: keys.to_vec(), ..Default::default() },
        false => FindCoordinatorRequest {
            key_type,
            key: keys.first().cloned().unwrap_or_default(),
            ..Default::default()
        },
    }
}

fn coordinator_of_groups(c: &mut Conversation) {
    let group = c.group("g");
    c.ask("one", &find(c, 0, std::slice::from_ref(&group)));
    c.ask("empty name", &find(c, 0, &["".into()]));
    if c.version() >= KEYS_SINCE {
        c.ask("none", &find(c, 0, &[]));
        c.ask("one twice", &find(c, 0, &[group.clone(), group.clone()]));
        c.ask("two", &find(c, 0, &[group, c.name("other")]));
    }
}

fn coordinator_of_others(c: &mut Conversation) {
    let is_there = |answer: &protocol::messages::FindCoordinatorResponse| {
        answer.error_code != 15 && answer.coordinators.iter().all(|of_key| of_key.error_code != 15)
    };
    c.settle("a transaction", &find(c, 1, &[c.name("t")]), is_there);
    c.settle("a transaction without a name", &find(c, 1, &["".into()]), is_there);
    c.ask("a share group, not a key of one", &find(c, 2, &[c.name("s")]));
    c.ask("a share group, ids that are none", &find(c, 2, &["g:x:0".into()]));
    c.ask("an unknown type", &find(c, 3, &[c.name("x")]));
    c.ask("a type below 0", &find(c, -1, &[c.name("x")]));
}
