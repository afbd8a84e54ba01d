//! CreateTopics, DeleteTopics, CreatePartitions, ElectLeaders, reassignments.

use protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::elect_leaders_request::TopicPartitions;
use protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use protocol::messages::{
    AlterPartitionReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use protocol::{ApiKey, Str, Uuid};

use super::setup::Topic;
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::CreateTopics, "good ones", create),
    script(ApiKey::CreateTopics, "wrong names", create_with_wrong_names),
    script(ApiKey::CreateTopics, "wrong counts", create_with_wrong_counts),
    script(ApiKey::CreateTopics, "assignments", create_with_assignments),
    script(ApiKey::CreateTopics, "configs", create_with_configs),
    script(ApiKey::CreateTopics, "the same twice", create_twice),
    script(ApiKey::DeleteTopics, "by name", delete_by_name),
    script(ApiKey::DeleteTopics, "by id", delete_by_id),
    script(ApiKey::CreatePartitions, "counts", partitions),
    script(ApiKey::CreatePartitions, "assignments", partitions_with_assignments),
    script(ApiKey::ElectLeaders, "elections", elections),
    script(ApiKey::AlterPartitionReassignments, "to where it is and elsewhere", reassign),
    script(ApiKey::ListPartitionReassignments, "none under way", list_reassignments),
];

const TIMEOUT_MS: i32 = 10_000;

fn topic(name: impl Into<Str>, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions, replication_factor, ..Default::default() }
}

fn creation(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: TIMEOUT_MS, ..CreateTopicsRequest::default() }
}

fn create(c: &mut Conversation) {
    c.ask("one", &creation(vec![topic(c.name("a"), 2, 1)]));
    c.ask("several", &creation(vec![topic(c.name("b"), 1, 1), topic(c.name("c"), 3, 1)]));
    c.ask("defaults", &creation(vec![topic(c.name("d"), -1, -1)]));
    c.ask("none", &creation(Vec::new()));
    let mut only_checked = creation(vec![topic(c.name("e"), 1, 1)]);
    only_checked.validate_only = true;
    c.ask("only checked", &only_checked);
    c.ask("only checked, so not there", &only_checked);
    c.ask("one more that is there", &creation(vec![topic(c.name("a"), 2, 1)]));
    c.ask("a good one beside a bad one", &creation(vec![topic(c.name("f"), 1, 1), topic("a b", 1, 1)]));
    c.ask("and it is there", &creation(vec![topic(c.name("f"), 1, 1)]));
    let mut impatient = creation(vec![topic(c.name("g"), 1, 1)]);
    impatient.timeout_ms = 0;
    c.ask("no time", &impatient);
}

fn create_with_wrong_names(c: &mut Conversation) {
    let long = "x".repeat(250);
    for (label, name) in [
        ("empty", ""),
        ("a dot", "."),
        ("two dots", ".."),
        ("a blank", "a b"),
        ("letters of elsewhere", "ä"),
        ("250 characters", long.as_str()),
        ("an internal one", "__consumer_offsets"),
        ("the metadata's", "__cluster_metadata"),
    ] {
        c.ask(label, &creation(vec![topic(name, 1, 1)]));
    }
    let dots = c.name("with.dot");
    c.ask("a dot inside", &creation(vec![topic(dots, 1, 1)]));
    c.ask("an underscore where a dot was", &creation(vec![topic(c.name("with_dot"), 1, 1)]));
}

fn create_with_wrong_counts(c: &mut Conversation) {
    for (label, partitions, replicas) in [
        ("no partition", 0, 1),
        ("partitions below 0", -2, 1),
        ("no replica", 1, 0),
        ("replicas below 0", 1, -2),
        ("more replicas than brokers", 1, 2),
        ("both wrong", 0, 0),
    ] {
        c.ask(label, &creation(vec![topic(c.name(&label.replace(' ', "-")), partitions, replicas)]));
    }
}

fn create_with_assignments(c: &mut Conversation) {
    let assigned = |c: &Conversation, name: &str, assignments: &[(i32, &[i32])]| {
        let assignment = |(partition_index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
            ..Default::default()
        };
        CreatableTopic {
            assignments: assignments.iter().map(assignment).collect(),
            ..topic(c.name(name), -1, -1)
        }
    };
    for (label, assignments) in [
        ("two partitions", &[(0, &[1][..]), (1, &[1])][..]),
        ("the second first", &[(1, &[1]), (0, &[1])]),
        ("a gap", &[(0, &[1]), (2, &[1])]),
        ("not from 0", &[(1, &[1])]),
        ("one twice", &[(0, &[1]), (0, &[1])]),
        ("no brokers", &[(0, &[])]),
        ("an unknown broker", &[(0, &[77])]),
        ("a broker twice", &[(0, &[1, 1])]),
        ("a broker below 0", &[(0, &[-1])]),
        ("a partition below 0", &[(-1, &[1])]),
    ] {
        c.ask(label, &creation(vec![assigned(c, &label.replace(' ', "-"), assignments)]));
    }
    let both = CreatableTopic { num_partitions: 1, ..assigned(c, "both", &[(0, &[1])]) };
    c.ask("and a count", &creation(vec![both]));
    let both = CreatableTopic { replication_factor: 1, ..assigned(c, "both2", &[(0, &[1])]) };
    c.ask("and a factor", &creation(vec![both]));
}

fn create_with_configs(c: &mut Conversation) {
    let configured = |c: &Conversation, name: &str, configs: &[(&str, Option<&str>)]| {
        let config = |(name, value): &(&str, Option<&str>)| CreatableTopicConfig {
            name: (*name).into(),
            value: value.map(Str::from),
            ..Default::default()
        };
        CreatableTopic { configs: configs.iter().map(config).collect(), ..topic(c.name(name), 1, 1) }
    };
    for (label, configs) in [
        ("retention", &[("retention.ms", Some("1000"))][..]),
        ("an unknown key", &[("no.such.key", Some("1"))]),
        ("no number", &[("retention.ms", Some("soon"))]),
        ("a number below the lowest", &[("segment.bytes", Some("1"))]),
        ("an unknown word", &[("cleanup.policy", Some("burn"))]),
        ("two policies", &[("cleanup.policy", Some("compact,delete"))]),
        ("null", &[("retention.ms", None)]),
        ("an empty value", &[("retention.ms", Some(""))]),
        ("one key twice", &[("retention.ms", Some("1000")), ("retention.ms", Some("2000"))]),
        ("blanks around", &[("retention.ms", Some(" 1000 "))]),
        ("a broker's key", &[("log.retention.ms", Some("1000"))]),
        ("an empty key", &[("", Some("1"))]),
        ("two keys that contradict", &[("local.retention.ms", Some("5000")), ("retention.ms", Some("1000"))]),
    ] {
        c.ask(label, &creation(vec![configured(c, &label.replace(' ', "-"), configs)]));
    }
}

fn create_twice(c: &mut Conversation) {
    let one = topic(c.name("a"), 1, 1);
    c.ask("equal", &creation(vec![one.clone(), one.clone()]));
    let other = topic(c.name("a"), 2, 1);
    c.ask("different", &creation(vec![one.clone(), other, topic(c.name("b"), 1, 1)]));
    c.ask("and none was made", &creation(vec![one]));
}

const STATES_SINCE: i16 = 6;

fn deletion(c: &Conversation, names: &[Str]) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest { timeout_ms: TIMEOUT_MS, ..DeleteTopicsRequest::default() };
    match c.version() >= STATES_SINCE {
        false => DeleteTopicsRequest { topic_names: names.to_vec(), ..request },
        true => {
            let state = |name: &Str| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
            DeleteTopicsRequest { topics: names.iter().map(state).collect(), ..request }
        }
    }
}

fn delete_by_name(c: &mut Conversation) {
    let (a, b) = (c.topic("a", 1), c.topic("b", 2));
    c.ask("one", &deletion(c, std::slice::from_ref(&a.name)));
    c.ask("again", &deletion(c, &[a.name]));
    c.ask("twice in one request", &deletion(c, &[b.name.clone(), b.name.clone()]));
    c.ask("a known and an unknown one", &deletion(c, &[b.name, c.name("unknown")]));
    c.ask("none", &deletion(c, &[]));
    c.ask("wrong name", &deletion(c, &["a b".into()]));
    c.ask("empty name", &deletion(c, &["".into()]));
}

fn delete_by_id(c: &mut Conversation) {
    if c.version() < STATES_SINCE {
        return;
    }
    let (a, b) = (c.topic("a", 1), c.topic("b", 1));
    let of = |states: &[(Option<&Str>, Uuid)]| {
        let state = |(name, topic_id): &(Option<&Str>, Uuid)| DeleteTopicState {
            name: name.cloned(),
            topic_id: *topic_id,
            ..Default::default()
        };
        DeleteTopicsRequest {
            topics: states.iter().map(state).collect(),
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        }
    };
    let Topic { name, id } = &a;
    c.ask("id and name", &of(&[(Some(name), *id)]));
    c.ask("neither", &of(&[(None, Uuid::ZERO)]));
    c.ask("unknown id", &of(&[(None, Uuid::from_u128(0x1234_5678))]));
    c.ask("the same by id and by name", &of(&[(None, *id), (Some(name), Uuid::ZERO)]));
    c.ask("one id twice", &of(&[(None, *id), (None, *id)]));
    c.ask("by id", &of(&[(None, *id)]));
    c.ask("by id again", &of(&[(None, *id)]));
    c.ask("good and bad", &of(&[(None, Uuid::from_u128(0x1234_5678)), (None, b.id)]));
}

fn growth(name: &Str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignment =
        |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec(), ..Default::default() };
    CreatePartitionsTopic {
        name: name.clone(),
        count,
        assignments: assignments.map(|assignments| assignments.iter().map(assignment).collect()),
        ..Default::default()
    }
}

fn growing(topics: Vec<CreatePartitionsTopic>) -> CreatePartitionsRequest {
    CreatePartitionsRequest { topics, timeout_ms: TIMEOUT_MS, ..CreatePartitionsRequest::default() }
}

fn partitions(c: &mut Conversation) {
    let a = c.topic("a", 2).name;
    let b = c.topic("b", 1).name;
    c.ask("more", &growing(vec![growth(&a, 4, None)]));
    c.ask("as many", &growing(vec![growth(&a, 4, None)]));
    c.ask("fewer", &growing(vec![growth(&a, 1, None)]));
    c.ask("0", &growing(vec![growth(&a, 0, None)]));
    c.ask("below 0", &growing(vec![growth(&a, -1, None)]));
    c.ask("unknown", &growing(vec![growth(&c.name("unknown"), 4, None)]));
    c.ask("none", &growing(Vec::new()));
    c.ask("one twice", &growing(vec![growth(&a, 5, None), growth(&a, 6, None), growth(&b, 2, None)]));
    c.ask(
        "only checked",
        &CreatePartitionsRequest { validate_only: true, ..growing(vec![growth(&a, 9, None)]) },
    );
    c.ask("so still", &growing(vec![growth(&a, 5, None)]));
    c.ask("wrong name", &growing(vec![growth(&"a b".into(), 5, None)]));
}

fn partitions_with_assignments(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    for (label, count, assignments) in [
        ("two for one", 2, &[&[1][..], &[1]][..]),
        ("none for one", 2, &[]),
        ("an unknown broker", 2, &[&[77]]),
        ("no broker", 2, &[&[]]),
        ("a broker twice", 2, &[&[1, 1]]),
        ("right", 2, &[&[1]]),
        ("for what is there", 2, &[&[1]]),
    ] {
        c.ask(label, &growing(vec![growth(&a, count, Some(assignments))]));
    }
}

fn elections(c: &mut Conversation) {
    let a = c.topic("a", 2).name;
    let of = |election_type, topics: Option<&[(&Str, &[i32])]>| ElectLeadersRequest {
        election_type,
        topic_partitions: topics.map(|topics| {
            let topic = |(topic, partitions): &(&Str, &[i32])| TopicPartitions {
                topic: (*topic).clone(),
                partitions: partitions.to_vec(),
                ..Default::default()
            };
            topics.iter().map(topic).collect()
        }),
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    c.ask("preferred", &of(0, Some(&[(&a, &[0, 1])])));
    c.ask("unclean", &of(1, Some(&[(&a, &[0])])));
    c.ask("an unknown kind", &of(9, Some(&[(&a, &[0])])));
    c.ask("an unknown partition", &of(0, Some(&[(&a, &[7])])));
    c.ask("an unknown topic", &of(0, Some(&[(&c.name("unknown"), &[0])])));
    c.ask("none", &of(0, Some(&[])));
    c.ask("a topic without partitions", &of(0, Some(&[(&a, &[])])));
    c.ask("one twice", &of(0, Some(&[(&a, &[0, 0])])));
    c.ask("all", &of(0, None));
}

fn reassign(c: &mut Conversation) {
    let a = c.topic("a", 2).name;
    let of = |topic: &Str, partitions: &[(i32, Option<&[i32]>)]| {
        let partition = |(partition_index, replicas): &(i32, Option<&[i32]>)| ReassignablePartition {
            partition_index: *partition_index,
            replicas: replicas.map(<[i32]>::to_vec),
            ..Default::default()
        };
        AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            topics: vec![ReassignableTopic {
                name: topic.clone(),
                partitions: partitions.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    c.ask("where it is", &of(&a, &[(0, Some(&[1]))]));
    c.ask("cancel what is not under way", &of(&a, &[(0, None)]));
    c.ask("to an unknown broker", &of(&a, &[(0, Some(&[77]))]));
    c.ask("to none", &of(&a, &[(0, Some(&[]))]));
    c.ask("to one twice", &of(&a, &[(0, Some(&[1, 1]))]));
    c.ask("an unknown partition", &of(&a, &[(7, Some(&[1]))]));
    c.ask("an unknown topic", &of(&c.name("unknown"), &[(0, Some(&[1]))]));
    c.ask("nothing", &AlterPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, ..Default::default() });
    let fixed = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        ..of(&a, &[(0, Some(&[1]))])
    };
    c.ask("the factor may not change", &fixed);
}

fn list_reassignments(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    let of =
        |topics| ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics, ..Default::default() };
    let topic = |name: &Str, partition_indexes| ListPartitionReassignmentsTopics {
        name: name.clone(),
        partition_indexes,
        ..Default::default()
    };
    c.ask("all", &of(None));
    c.ask("none", &of(Some(Vec::new())));
    c.ask("a topic", &of(Some(vec![topic(&a, vec![0])])));
    c.ask("an unknown one", &of(Some(vec![topic(&c.name("unknown"), vec![0])])));
}
