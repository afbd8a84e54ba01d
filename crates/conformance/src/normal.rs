//! What may differ from run to run and from broker to broker, declared once. A value that is made equal keeps its shape: null stays
//! null, "no id" stays "no id", and equal ids stay equal: the second id of an answer is `<topic id 2>` on both sides or a difference.

use std::collections::BTreeMap;

use crate::pattern::matches;
use crate::value::Value;

#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Chosen by the broker; numbered in the order in which they appear in a script.
    Id(&'static str),
    /// Chosen by the broker, and nothing else says it.
    Any(&'static str),
    /// A moment or a duration that depends on it: negative, nought or something.
    Time,
    /// Any number, negative ones too.
    Random,
    /// Meant for people: null, empty or something.
    Text,
    /// The elements in the order of this field, which is their name in paths; Kafka's order is that of a hash map, or does not matter.
    By(&'static str),
    /// The same for elements that are values.
    Sorted,
    /// Only elements whose field was named by the script: answers about everything.
    Ours(&'static str),
}

/// API, path, rule; both with `*`. All that fit are applied in this order.
pub const RULES: &[(&str, &str, Rule)] = &[
    ("*", "*topic_id", Rule::Id("topic id")),
    ("*", "*member_id", Rule::Id("member")),
    ("JoinGroup", "leader", Rule::Id("member")),
    ("*", "*producer_id", Rule::Id("producer")),
    ("*", "*cluster_id", Rule::Id("cluster")),
    ("*", "*directory_id", Rule::Id("directory")),
    ("*", "*session_id", Rule::Id("session")),
    ("*", "*client_instance_id", Rule::Id("client instance")),
    ("*", "*subscription_id", Rule::Random),
    ("GetTelemetrySubscriptions", "requested_metrics", Rule::Sorted),
    ("*", "*token_id", Rule::Id("token")),
    ("*", "*hmac", Rule::Id("hmac")),
    ("SaslHandshake", "mechanisms", Rule::Sorted),
    ("FindCoordinator", "host", Rule::Any("host")),
    ("FindCoordinator", "port", Rule::Any("port")),
    ("*", "*.host", Rule::Any("host")),
    ("*", "*.port", Rule::Any("port")),
    ("*", "*error_message", Rule::Text),
    ("*", "*error_string", Rule::Text),
    ("*", "*log_append_time_ms", Rule::Time),
    ("*", "*timestamp", Rule::Time),
    ("*", "*timestamp_ms", Rule::Time),
    ("WriteTxnMarkers", "markers[].topics[].partitions", Rule::By("partition_index")),
    ("Metadata", "topics", Rule::Ours("name")),
    ("Metadata", "topics", Rule::By("name")),
    ("Metadata", "topics[*].partitions", Rule::By("partition_index")),
    ("ListGroups", "groups", Rule::Ours("group_id")),
    ("ListGroups", "groups", Rule::By("group_id")),
    ("DescribeConfigs", "results[].configs", Rule::By("name")),
    ("DescribeConfigs", "results[].configs[*].documentation", Rule::Text),
    ("ApiVersions", "api_keys", Rule::By("api_key")),
    ("ApiVersions", "supported_features", Rule::By("name")),
    ("ApiVersions", "finalized_features", Rule::By("name")),
    ("ApiVersions", "finalized_features_epoch", Rule::Time),
    ("CreateTopics", "topics", Rule::By("name")),
    ("CreateTopics", "topics[*].configs", Rule::By("name")),
    ("DeleteTopics", "responses", Rule::By("name")),
    ("CreatePartitions", "results", Rule::By("name")),
    ("DescribeLogDirs", "results[].log_dir", Rule::Any("log directory")),
    ("DescribeLogDirs", "results[].topics", Rule::Ours("name")),
    ("DescribeLogDirs", "results[].topics", Rule::By("name")),
    ("DescribeLogDirs", "results[].topics[*].partitions", Rule::By("partition_index")),
    ("DescribeLogDirs", "results[].*_bytes", Rule::Time),
    ("DescribeLogDirs", "results[].topics[*].partitions[*].partition_size", Rule::Time),
    ("ListConfigResources", "config_resources", Rule::Ours("resource_name")),
    ("ListConfigResources", "config_resources", Rule::By("resource_name")),
    ("ListTransactions", "transaction_states", Rule::Ours("transactional_id")),
    ("DescribeQuorum", "topics[].partitions[].high_watermark", Rule::Time),
    ("DescribeQuorum", "topics[].partitions[].leader_epoch", Rule::Time),
    ("DescribeQuorum", "*log_end_offset", Rule::Time),
    ("ListOffsets", "topics", Rule::By("name")),
    ("ListOffsets", "topics[*].partitions", Rule::By("partition_index")),
    ("OffsetForLeaderEpoch", "topics", Rule::By("topic")),
    ("DescribeGroups", "groups", Rule::By("group_id")),
    ("OffsetCommit", "topics", Rule::By("name")),
    ("Fetch", "responses", Rule::By("topic")),
    ("Produce", "responses[].partition_responses", Rule::By("index")),
    ("ElectLeaders", "replica_election_results", Rule::Ours("topic")),
    ("ElectLeaders", "replica_election_results", Rule::By("topic")),
    ("OffsetDelete", "topics", Rule::By("name")),
    ("DeleteGroups", "results", Rule::By("group_id")),
    ("DescribeGroups", "groups[*].members", Rule::Sorted),
    ("JoinGroup", "members", Rule::Sorted),
    ("*", "*authorized_operations", Rule::Any("operations")),
];

/// What one script has seen of one broker.
pub struct Normal<'a> {
    /// What is in every name that the script has made; left out.
    marker: &'a str,
    ids: BTreeMap<(&'static str, String), usize>,
}

impl Normal<'_> {
    pub fn new(marker: &str) -> Normal<'_> {
        Normal { marker, ids: BTreeMap::new() }
    }

    pub fn of(&mut self, api: &str, answer: &Value) -> Value {
        let rules: Vec<(&str, Rule)> = RULES
            .iter()
            .filter(|(of, _, _)| matches(of, api))
            .map(|(_, path, rule)| (*path, *rule))
            .collect();
        self.walk(&rules, "", answer)
    }

    fn walk(&mut self, rules: &[(&str, Rule)], path: &str, value: &Value) -> Value {
        let mut value = value.clone();
        for (_, rule) in rules.iter().filter(|(pattern, _)| matches(pattern, path)) {
            value = self.apply(*rule, value);
        }
        match value {
            Value::Text(text) => Value::Text(text.replace(self.marker, "~")),
            Value::List(items) => {
                let inner = format!("{path}[]");
                Value::List(items.iter().map(|item| self.walk(rules, &inner, item)).collect())
            }
            Value::Keyed(items) => {
                let items = items.iter().map(|(key, item)| {
                    let key = key.replace(self.marker, "~");
                    let item = self.walk(rules, &format!("{path}[{key}]"), item);
                    (key, item)
                });
                Value::Keyed(items.collect())
            }
            Value::Struct(fields) => {
                let fields = fields.iter().map(|(name, field)| {
                    let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    (name.clone(), self.walk(rules, &inner, field))
                });
                Value::Struct(fields.collect())
            }
            other => other,
        }
    }

    fn apply(&mut self, rule: Rule, value: Value) -> Value {
        match (rule, value) {
            (Rule::Id(kind), value) => self.id(kind, value),
            (Rule::Any(kind), value) => match is_nothing(&value) {
                true => value,
                false => Value::Stand(kind.to_owned()),
            },
            (Rule::Time, Value::Int(number)) if number > 0 => Value::Stand("time".to_owned()),
            (Rule::Random, Value::Int(_)) => Value::Stand("random".to_owned()),
            (Rule::Text, Value::Text(text)) if !text.is_empty() => Value::Stand("text".to_owned()),
            (Rule::Ours(field), Value::List(items)) => {
                let ours = |item: &Value| match item.field(field) {
                    Some(Value::Text(name)) => name.contains(self.marker),
                    _ => true,
                };
                Value::List(items.into_iter().filter(|item| ours(item)).collect())
            }
            (Rule::By(field), Value::List(items)) => keyed(field, items),
            (Rule::Sorted, Value::List(mut items)) => {
                // Ids are numbered in the order of what stands beside them.
                items.sort_by_key(|item| without_member_id(item).to_string());
                Value::List(items)
            }
            (_, value) => value,
        }
    }

    fn id(&mut self, kind: &'static str, value: Value) -> Value {
        if is_nothing(&value) {
            return value;
        }
        let next = self.ids.keys().filter(|(of, _)| *of == kind).count() + 1;
        let number = *self.ids.entry((kind, value.to_string())).or_insert(next);
        Value::Stand(format!("{kind} {number}"))
    }
}

/// What stands for "none" in Kafka's messages.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Int(number) => *number <= 0,
        Value::Text(text) => text.is_empty(),
        Value::Uuid(text) => text.bytes().all(|byte| byte == b'A'),
        _ => false,
    }
}

/// Elements under their names, in the order of the names. One without a name, or the second of a name, is numbered.
fn keyed(field: &str, items: Vec<Value>) -> Value {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut named: Vec<(String, Value)> = Vec::with_capacity(items.len());
    for item in items {
        let name = match item.field(field) {
            Some(Value::Text(name)) => name.clone(),
            Some(Value::Int(number)) => number.to_string(),
            _ => "null".to_owned(),
        };
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        named.push((if *count == 1 { name } else { format!("{name} {count}") }, item));
    }
    named.sort_by(|left, right| left.0.cmp(&right.0));
    Value::Keyed(named)
}

fn without_member_id(value: &Value) -> Value {
    match value {
        Value::Struct(fields) => {
            Value::Struct(fields.iter().filter(|(name, _)| name != "member_id").cloned().collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::messages::MetadataResponse;
    use protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
    use protocol::{Str, Uuid};

    use super::*;

    fn topic(name: &str, id: u128) -> MetadataResponseTopic {
        MetadataResponseTopic {
            name: Some(Str::from(name)),
            topic_id: Uuid::from_u128(id),
            ..Default::default()
        }
    }

    fn answer(topics: Vec<MetadataResponseTopic>) -> Value {
        let broker = MetadataResponseBroker { host: "h".into(), port: 9, ..Default::default() };
        Value::of(&MetadataResponse { brokers: vec![broker], topics, ..Default::default() }).unwrap()
    }

    #[test]
    fn equal_ids_stay_equal_and_different_ones_different() {
        let mut normal = Normal::new("m1-");
        let first = normal.of("Metadata", &answer(vec![topic("m1-b", 7), topic("m1-a", 8), topic("x", 9)]));
        let text = first.to_string();
        assert!(text.contains("~a: {error_code: 0, name: \"~a\", topic_id: <topic id 1>"), "{text}");
        assert!(text.contains("~b: {error_code: 0, name: \"~b\", topic_id: <topic id 2>"), "{text}");
        assert!(text.contains("host: <host>, port: <port>"), "{text}");
        assert!(!text.contains('x'), "others' topics are left out: {text}");
        let again = normal.of("Metadata", &answer(vec![topic("m1-b", 7), topic("m1-c", 0)])).to_string();
        assert!(again.contains("~b\", topic_id: <topic id 2>"), "{again}");
        assert!(again.contains("topic_id: AAAAAAAAAAAAAAAAAAAAAA"), "no id stays no id: {again}");
    }

    #[test]
    fn the_second_of_a_name_is_kept() {
        let twice = Normal::new("m").of("Metadata", &answer(vec![topic("ma", 1), topic("ma", 2)]));
        let Some(Value::Keyed(topics)) = twice.field("topics") else { panic!("{twice}") };
        assert_eq!(topics.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["~a", "~a 2"]);
    }
}
