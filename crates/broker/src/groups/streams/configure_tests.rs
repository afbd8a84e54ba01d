//! Topologies and the topics that there are.

use protocol::messages::StreamsGroupTopologyValue;
use protocol::messages::streams_group_topology_value::{CopartitionGroup, Subtopology, TopicInfo};
use protocol::{ErrorCode, Str};

use super::configure::{Configured, StatusCode, configure};
use super::topology::Topology;
use crate::groups::tests::FakeCatalog;

fn names(names: &[&str]) -> Vec<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

fn info(name: &str, partitions: i32) -> TopicInfo {
    TopicInfo { name: name.into(), partitions, ..TopicInfo::default() }
}

fn subtopology(id: &str, sources: &[&str]) -> Subtopology {
    Subtopology { subtopology_id: id.into(), source_topics: names(sources), ..Subtopology::default() }
}

fn topology(subtopologies: Vec<Subtopology>) -> Topology {
    Topology::of(StreamsGroupTopologyValue { epoch: 0, subtopologies }).unwrap()
}

/// Lines are cut into words, which go through a topic to where they are counted.
fn word_count() -> Topology {
    topology(vec![
        Subtopology { repartition_sink_topics: names(&["words"]), ..subtopology("0", &["lines"]) },
        Subtopology {
            repartition_source_topics: vec![info("words", 0)],
            state_changelog_topics: vec![info("counted", 0)],
            ..subtopology("1", &[])
        },
    ])
}

fn configured(topology: &Topology, topics: &[(&str, i32)]) -> Configured {
    configure(topology, &*FakeCatalog::with(topics)).unwrap()
}

fn problem(topology: &Topology, topics: &[(&str, i32)]) -> (StatusCode, String) {
    let problem = configured(topology, topics).problem.expect("these topics do not fit");
    (problem.code, problem.detail)
}

#[test]
fn partitions_follow_from_the_sources() {
    let found = configured(&word_count(), &[("lines", 3)]);
    let missing: Vec<(&str, i32)> =
        found.missing.iter().map(|topic| (topic.name.as_str(), topic.partition_count)).collect();
    assert_eq!(missing, [("counted", 3), ("words", 3)]);
    assert!(!found.is_ready());
    let problem = found.problem.unwrap();
    assert_eq!(problem.code, StatusCode::MissingInternalTopics);
    assert_eq!(problem.detail, "Internal topics are missing: counted, words");
    let ready = configured(&word_count(), &[("lines", 3), ("words", 3), ("counted", 3)]);
    assert!(ready.is_ready());
    let tasks: Vec<(&str, i32, bool)> =
        ready.subtopologies.iter().map(|(id, one)| (id.as_str(), one.task_count, one.is_stateful)).collect();
    assert_eq!(tasks, [("0", 3, false), ("1", 3, true)]);
}

#[test]
fn source_topics_must_be_there() {
    let many = topology(vec![subtopology("0", &["e", "d", "c", "b", "a"])]);
    let expected = "Source topics a, b, d and 1 additional topics are missing.".to_owned();
    assert_eq!(problem(&many, &[("c", 1)]), (StatusCode::MissingSourceTopics, expected));
}

#[test]
fn a_topic_of_the_application_with_another_number_of_partitions_is_wrong() {
    let expected = "Existing topic words has different number of partitions: expected 3, found 2".to_owned();
    assert_eq!(
        problem(&word_count(), &[("lines", 3), ("words", 2)]),
        (StatusCode::IncorrectlyPartitionedTopics, expected)
    );
}

#[test]
fn a_chain_of_repartition_topics_is_resolved() {
    let chain = topology(vec![
        Subtopology {
            repartition_source_topics: vec![info("second", 0)],
            repartition_sink_topics: names(&["third"]),
            ..subtopology("0", &[])
        },
        Subtopology { repartition_source_topics: vec![info("third", 0)], ..subtopology("1", &[]) },
        Subtopology { repartition_sink_topics: names(&["second"]), ..subtopology("2", &["lines"]) },
    ]);
    let found = configured(&chain, &[("lines", 5)]);
    assert_eq!((found.partition_counts["second"], found.partition_counts["third"]), (5, 5));
}

#[test]
fn a_circle_is_refused() {
    let circle = topology(vec![Subtopology {
        repartition_source_topics: vec![info("round", 0)],
        repartition_sink_topics: names(&["round"]),
        ..subtopology("0", &[])
    }]);
    let refusal = configure(&circle, &*FakeCatalog::with(&[])).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::StreamsInvalidTopology);
    let unwritten = topology(vec![Subtopology {
        repartition_source_topics: vec![info("nowhere", 0)],
        ..subtopology("0", &["lines"])
    }]);
    let refusal = configure(&unwritten, &*FakeCatalog::with(&[("lines", 1)])).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::StreamsInvalidTopology);
}

#[test]
fn a_subtopology_reads_something() {
    let nothing = topology(vec![subtopology("0", &[])]);
    let refusal = configure(&nothing, &*FakeCatalog::with(&[])).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::StreamsInvalidTopology);
    let twice = StreamsGroupTopologyValue {
        epoch: 0,
        subtopologies: vec![subtopology("0", &["lines"]), subtopology("0", &["lines"])],
    };
    assert_eq!(Topology::of(twice).unwrap_err().error, ErrorCode::StreamsInvalidTopology);
}

fn joined(own: Vec<TopicInfo>, others: &[&str]) -> Topology {
    let all = |count: usize| (0..count).map(|index| index as i16).collect();
    let sinks = own.iter().map(|info| info.name.clone()).collect();
    let join = CopartitionGroup {
        source_topics: all(others.len()),
        repartition_source_topics: all(own.len()),
        ..CopartitionGroup::default()
    };
    topology(vec![
        Subtopology {
            repartition_source_topics: own,
            copartition_groups: vec![join],
            ..subtopology("0", others)
        },
        Subtopology { repartition_sink_topics: sinks, ..subtopology("1", &["small"]) },
    ])
}

#[test]
fn what_is_joined_has_the_same_number_of_partitions() {
    let topics = [("small", 2), ("large", 6), ("large-too", 6)];
    // The application's own topics follow those of others,
    let follows = configured(&joined(vec![info("own", 0)], &["large", "large-too"]), &topics);
    assert_eq!(follows.partition_counts["own"], 6);
    // or the one that has a number,
    let fixed = configured(&joined(vec![info("own", 0), info("fixed", 4)], &[]), &topics);
    assert_eq!((fixed.partition_counts["own"], fixed.partition_counts["fixed"]), (4, 4));
    // or the largest of them.
    let free = configured(&joined(vec![info("own", 0), info("too", 0)], &[]), &topics);
    assert_eq!((free.partition_counts["own"], free.partition_counts["too"]), (2, 2));
    let wrong = |topology: &Topology| {
        let (code, detail) = problem(topology, &topics);
        assert_eq!(code, StatusCode::IncorrectlyPartitionedTopics);
        detail
    };
    assert_eq!(
        wrong(&joined(Vec::new(), &["small", "large"])),
        "Following topics do not have the same number of partitions: [{large=6, small=2}]"
    );
    assert_eq!(
        wrong(&joined(vec![info("own", 4)], &["large"])),
        "Number of partitions [4] of repartition topic [own] doesn't match number of partitions [6] of the source topic."
    );
    assert_eq!(
        wrong(&joined(vec![info("four", 4), info("five", 5)], &[])),
        "Following topics do not have the same number of partitions: [{five=5, four=4}]"
    );
}

#[test]
fn a_join_of_what_is_not_there_is_refused() {
    let mut wrong = word_count();
    let one = wrong.subtopologies.get_mut("0").unwrap();
    one.copartition_groups =
        vec![CopartitionGroup { source_topics: vec![0, 7], ..CopartitionGroup::default() }];
    let refusal = configure(&wrong, &*FakeCatalog::with(&[("lines", 1)])).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::StreamsInvalidTopology);
    wrong.subtopologies.get_mut("0").unwrap().copartition_groups[0].source_topics = vec![-1];
    assert!(configure(&wrong, &*FakeCatalog::with(&[("lines", 1)])).is_err());
}

#[test]
fn there_is_a_bound_to_tasks() {
    let many = topology((0..3).map(|number| subtopology(&number.to_string(), &["huge"])).collect());
    let (code, detail) = problem(&many, &[("huge", 40_000)]);
    assert_eq!(code, StatusCode::IncorrectlyPartitionedTopics);
    assert!(detail.contains("120000 tasks"), "{detail}");
}

#[test]
fn a_copy_of_a_topology_is_the_same() {
    assert_eq!(word_count().detached(), word_count());
}
