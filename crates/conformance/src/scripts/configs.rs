//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.

use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    alter_configs_request, incremental_alter_configs_request,
};
use protocol::{ApiKey, Str};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::DescribeConfigs, "a topic", describe_topic),
    script(ApiKey::DescribeConfigs, "resources that are none", describe_wrong),
    script(ApiKey::DescribeConfigs, "some keys of a broker", describe_broker),
    script(ApiKey::DescribeConfigs, "a group and a subscription", describe_others),
    script(ApiKey::AlterConfigs, "a topic", alter),
    script(ApiKey::AlterConfigs, "others", alter_others),
    script(ApiKey::IncrementalAlterConfigs, "a topic", incremental),
    script(ApiKey::IncrementalAlterConfigs, "lists", incremental_lists),
    script(ApiKey::IncrementalAlterConfigs, "others", incremental_others),
    script(ApiKey::ListConfigResources, "types", list),
];

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn resource(resource_type: i8, name: &Str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type,
        resource_name: name.clone(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| Str::from(*key)).collect()),
        ..Default::default()
    }
}

fn describe(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }
}

fn describe_topic(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    c.ask("all keys", &describe(vec![resource(TOPIC, &a, None)]));
    c.ask("no keys", &describe(vec![resource(TOPIC, &a, Some(&[]))]));
    c.ask("some", &describe(vec![resource(TOPIC, &a, Some(&["retention.ms", "cleanup.policy"]))]));
    c.ask("an unknown key", &describe(vec![resource(TOPIC, &a, Some(&["no.such.key", "retention.ms"]))]));
    c.ask("one key twice", &describe(vec![resource(TOPIC, &a, Some(&["retention.ms", "retention.ms"]))]));
    c.ask(
        "one resource twice",
        &describe(vec![
            resource(TOPIC, &a, Some(&["retention.ms"])),
            resource(TOPIC, &a, Some(&["segment.bytes"])),
        ]),
    );
    let synonyms =
        DescribeConfigsRequest { include_synonyms: true, ..describe(vec![resource(TOPIC, &a, None)]) };
    c.ask("with synonyms", &synonyms);
    let documented =
        DescribeConfigsRequest { include_documentation: true, ..describe(vec![resource(TOPIC, &a, None)]) };
    c.ask("with documentation", &documented);
    change(c, "retention.ms", "12345");
    c.ask(
        "after a change, with synonyms",
        &DescribeConfigsRequest {
            include_synonyms: true,
            ..describe(vec![resource(TOPIC, &a, Some(&["retention.ms"]))])
        },
    );
}

/// Sets a key of the topic `a`.
fn change(c: &mut Conversation, key: &str, value: &str) {
    let request = incremental_of(vec![changes(TOPIC, &c.name("a"), &[(key, 0, Some(value))])]);
    c.help(&request);
    let look = describe(vec![resource(TOPIC, &c.name("a"), Some(&[key]))]);
    c.help_until(&look, |answer| {
        let mut configs = answer.results.iter().flat_map(|result| &result.configs);
        configs.any(|config| config.value.as_ref().is_some_and(|now| now == value))
    });
}

fn describe_wrong(c: &mut Conversation) {
    let unknown = c.name("unknown");
    c.ask("an unknown topic", &describe(vec![resource(TOPIC, &unknown, None)]));
    c.ask("a wrong name", &describe(vec![resource(TOPIC, &"a b".into(), None)]));
    c.ask("no name", &describe(vec![resource(TOPIC, &"".into(), None)]));
    c.ask("an unknown type", &describe(vec![resource(99, &unknown, None)]));
    c.ask("type 0", &describe(vec![resource(0, &unknown, None)]));
    c.ask("another broker", &describe(vec![resource(BROKER, &"77".into(), None)]));
    c.ask("a broker that is no number", &describe(vec![resource(BROKER, &"x".into(), None)]));
    c.ask("a logger of another broker", &describe(vec![resource(BROKER_LOGGER, &"77".into(), None)]));
    c.ask("nothing", &describe(Vec::new()));
}

fn describe_broker(c: &mut Conversation) {
    let keys: &[&str] = &[
        "log.retention.hours",
        "log.retention.ms",
        "num.partitions",
        "compression.type",
        "min.insync.replicas",
        "message.max.bytes",
        "log.cleanup.policy",
        "auto.create.topics.enable",
        "group.max.session.timeout.ms",
        "offsets.retention.minutes",
        "log.segment.bytes",
        "default.replication.factor",
    ];
    c.ask("one", &describe(vec![resource(BROKER, &"1".into(), Some(keys))]));
    c.ask(
        "with synonyms",
        &DescribeConfigsRequest {
            include_synonyms: true,
            ..describe(vec![resource(BROKER, &"1".into(), Some(keys))])
        },
    );
    c.ask("all brokers", &describe(vec![resource(BROKER, &"".into(), None)]));
}

fn describe_others(c: &mut Conversation) {
    c.ask("a group", &describe(vec![resource(GROUP, &c.name("g"), None)]));
    c.ask("a group without a name", &describe(vec![resource(GROUP, &"".into(), None)]));
    c.ask("a subscription that is not there", &describe(vec![resource(CLIENT_METRICS, &c.name("m"), None)]));
    c.ask("a subscription without a name", &describe(vec![resource(CLIENT_METRICS, &"".into(), None)]));
}

fn altered(
    resource_type: i8,
    name: &Str,
    configs: &[(&str, Option<&str>)],
) -> alter_configs_request::AlterConfigsResource {
    let config = |(name, value): &(&str, Option<&str>)| alter_configs_request::AlterableConfig {
        name: (*name).into(),
        value: value.map(Str::from),
        ..Default::default()
    };
    alter_configs_request::AlterConfigsResource {
        resource_type,
        resource_name: name.clone(),
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    }
}

fn alter_of(resources: Vec<alter_configs_request::AlterConfigsResource>) -> AlterConfigsRequest {
    AlterConfigsRequest { resources, ..AlterConfigsRequest::default() }
}

fn alter(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    let b = c.topic("b", 1).name;
    for (label, configs) in [
        ("one", &[("retention.ms", Some("1000"))][..]),
        ("none", &[]),
        ("an unknown key", &[("no.such.key", Some("1"))]),
        ("no number", &[("retention.ms", Some("soon"))]),
        ("below the lowest", &[("retention.ms", Some("-2"))]),
        ("null", &[("retention.ms", None)]),
        ("one key twice", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
    ] {
        c.ask(label, &alter_of(vec![altered(TOPIC, &a, configs)]));
    }
    let good: &[(&str, Option<&str>)] = &[("retention.ms", Some("1000"))];
    c.ask(
        "only checked",
        &AlterConfigsRequest { validate_only: true, ..alter_of(vec![altered(TOPIC, &a, good)]) },
    );
    c.ask("one resource twice", &alter_of(vec![altered(TOPIC, &a, good), altered(TOPIC, &a, good)]));
    c.ask(
        "a good and a bad one",
        &alter_of(vec![altered(TOPIC, &b, good), altered(TOPIC, &a, &[("x", Some("1"))])]),
    );
    c.ask("no resource", &alter_of(Vec::new()));
}

fn alter_others(c: &mut Conversation) {
    let good: &[(&str, Option<&str>)] = &[("retention.ms", Some("1000"))];
    c.ask("an unknown topic", &alter_of(vec![altered(TOPIC, &c.name("unknown"), good)]));
    c.ask("a wrong name", &alter_of(vec![altered(TOPIC, &"a b".into(), good)]));
    c.ask(
        "another broker",
        &alter_of(vec![altered(BROKER, &"77".into(), &[("log.retention.ms", Some("1"))])]),
    );
    c.ask("a broker that is no number", &alter_of(vec![altered(BROKER, &"x".into(), &[])]));
    c.ask("an unknown type", &alter_of(vec![altered(99, &c.name("x"), &[])]));
    c.ask(
        "a subscription",
        &alter_of(vec![altered(CLIENT_METRICS, &c.name("m"), &[("interval.ms", Some("1000"))])]),
    );
}

fn changes(
    resource_type: i8,
    name: &Str,
    configs: &[(&str, i8, Option<&str>)],
) -> incremental_alter_configs_request::AlterConfigsResource {
    let config = |(name, config_operation, value): &(&str, i8, Option<&str>)| {
        incremental_alter_configs_request::AlterableConfig {
            name: (*name).into(),
            config_operation: *config_operation,
            value: value.map(Str::from),
            ..Default::default()
        }
    };
    incremental_alter_configs_request::AlterConfigsResource {
        resource_type,
        resource_name: name.clone(),
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    }
}

fn incremental_of(
    resources: Vec<incremental_alter_configs_request::AlterConfigsResource>,
) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest { resources, ..IncrementalAlterConfigsRequest::default() }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn incremental(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    for (label, configs) in [
        ("set", &[("retention.ms", SET, Some("1000"))][..]),
        ("set null", &[("retention.ms", SET, None)]),
        ("delete", &[("retention.ms", DELETE, None)]),
        ("delete what is not set", &[("retention.ms", DELETE, None)]),
        ("delete with a value", &[("retention.ms", DELETE, Some("1"))]),
        ("delete an unknown key", &[("no.such.key", DELETE, None)]),
        ("set an unknown key", &[("no.such.key", SET, Some("1"))]),
        ("no number", &[("retention.ms", SET, Some("soon"))]),
        ("append to what is no list", &[("retention.ms", APPEND, Some("1"))]),
        ("subtract from what is no list", &[("retention.ms", SUBTRACT, Some("1"))]),
        ("an unknown operation", &[("retention.ms", 9, Some("1"))]),
        ("one key twice", &[("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))]),
        ("nothing", &[]),
        ("an empty key", &[("", SET, Some("1"))]),
    ] {
        c.ask(label, &incremental_of(vec![changes(TOPIC, &a, configs)]));
    }
    let good: &[(&str, i8, Option<&str>)] = &[("retention.ms", SET, Some("1000"))];
    c.ask("one resource twice", &incremental_of(vec![changes(TOPIC, &a, good), changes(TOPIC, &a, good)]));
    c.ask(
        "only checked",
        &IncrementalAlterConfigsRequest {
            validate_only: true,
            ..incremental_of(vec![changes(TOPIC, &a, &[("segment.ms", SET, Some("x"))])])
        },
    );
    c.ask("no resource", &incremental_of(Vec::new()));
}

fn incremental_lists(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    for (label, configs) in [
        ("append", &[("cleanup.policy", APPEND, Some("compact"))][..]),
        ("append again", &[("cleanup.policy", APPEND, Some("compact"))]),
        ("subtract", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
        ("subtract the last", &[("cleanup.policy", SUBTRACT, Some("compact"))]),
        ("append null", &[("cleanup.policy", APPEND, None)]),
        ("append an unknown word", &[("cleanup.policy", APPEND, Some("burn"))]),
    ] {
        c.ask(label, &incremental_of(vec![changes(TOPIC, &a, configs)]));
        c.ask("and now", &describe(vec![resource(TOPIC, &a, Some(&["cleanup.policy"]))]));
    }
}

fn incremental_others(c: &mut Conversation) {
    let good: &[(&str, i8, Option<&str>)] = &[("retention.ms", SET, Some("1000"))];
    c.ask("an unknown topic", &incremental_of(vec![changes(TOPIC, &c.name("unknown"), good)]));
    c.ask("a wrong name", &incremental_of(vec![changes(TOPIC, &"a b".into(), good)]));
    c.ask(
        "another broker",
        &incremental_of(vec![changes(BROKER, &"77".into(), &[("log.retention.ms", SET, Some("1"))])]),
    );
    c.ask("a broker that is no number", &incremental_of(vec![changes(BROKER, &"x".into(), &[])]));
    c.ask(
        "a read-only key",
        &incremental_of(vec![changes(BROKER, &"1".into(), &[("log.retention.hours", SET, Some("1"))])]),
    );
    c.ask(
        "a key only for all brokers",
        &incremental_of(vec![changes(BROKER, &"1".into(), &[("num.io.threads", SET, Some("0"))])]),
    );
    c.ask(
        "no number",
        &incremental_of(vec![changes(BROKER, &"".into(), &[("log.retention.ms", SET, Some("soon"))])]),
    );
    c.ask("an unknown type", &incremental_of(vec![changes(99, &c.name("x"), &[])]));
    c.ask("type 0", &incremental_of(vec![changes(0, &c.name("x"), &[])]));
    c.ask(
        "a logger",
        &incremental_of(vec![changes(BROKER_LOGGER, &"1".into(), &[("no.such.logger", SET, Some("DEBUG"))])]),
    );
    let m = c.name("m");
    for (label, configs) in [
        (
            "a subscription",
            &[("interval.ms", SET, Some("5000")), ("metrics", SET, Some("org.apache.kafka."))][..],
        ),
        ("an interval too small", &[("interval.ms", SET, Some("1"))]),
        ("a subscription's unknown key", &[("x", SET, Some("1"))]),
        ("a match that is none", &[("match", SET, Some("x"))]),
        ("a match of an unknown label", &[("match", SET, Some("x=y"))]),
        ("a match", &[("match", SET, Some("client_id=.*"))]),
    ] {
        c.ask(label, &incremental_of(vec![changes(CLIENT_METRICS, &m, configs)]));
    }
    c.ask(
        "a subscription without a name",
        &incremental_of(vec![changes(CLIENT_METRICS, &"".into(), &[("interval.ms", SET, Some("5000"))])]),
    );
    c.settle("the subscription", &describe(vec![resource(CLIENT_METRICS, &m, None)]), |answer| {
        answer.results.iter().flat_map(|result| &result.configs).any(|config| {
            config.name == "match" && config.value.as_ref().is_some_and(|value| value.contains("client_id"))
        })
    });
    let drop_all: &[(&str, i8, Option<&str>)] =
        &[("interval.ms", DELETE, None), ("metrics", DELETE, None), ("match", DELETE, None)];
    c.ask("and away", &incremental_of(vec![changes(CLIENT_METRICS, &m, drop_all)]));
    let g = c.name("g");
    for (label, configs) in [
        ("a group", &[("consumer.session.timeout.ms", SET, Some("50000"))][..]),
        ("a group's number too small", &[("consumer.session.timeout.ms", SET, Some("1"))]),
        ("a group's unknown key", &[("x", SET, Some("1"))]),
    ] {
        c.ask(label, &incremental_of(vec![changes(GROUP, &g, configs)]));
    }
    c.ask(
        "a group without a name",
        &incremental_of(vec![changes(
            GROUP,
            &"".into(),
            &[("consumer.session.timeout.ms", SET, Some("50000"))],
        )]),
    );
}

fn list(c: &mut Conversation) {
    let a = c.topic("a", 1).name;
    let _ = a;
    let g = c.name("g");
    c.help(&incremental_of(vec![changes(GROUP, &g, &[("consumer.session.timeout.ms", SET, Some("50000"))])]));
    let of =
        |types: &[i8]| ListConfigResourcesRequest { resource_types: types.to_vec(), ..Default::default() };
    let has_group = |answer: &protocol::messages::ListConfigResourcesResponse| {
        answer.config_resources.iter().any(|resource| resource.resource_name == g)
    };
    if c.version() > 0 {
        c.settle("groups", &of(&[GROUP]), has_group);
    }
    c.ask("all", &of(&[]));
    c.ask("topics", &of(&[TOPIC]));
    c.ask("brokers", &of(&[BROKER]));
    c.ask("loggers", &of(&[BROKER_LOGGER]));
    c.ask("an unknown type", &of(&[99]));
    c.ask("topics and an unknown type", &of(&[TOPIC, 99]));
}
