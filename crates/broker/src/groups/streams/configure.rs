//! What a topology means with the topics that there are: how many tasks each part of it has, how many partitions the topics of
//! the application itself must have, and which of these are missing. Kafka: `InternalTopicManager` and what it calls.
//!
//! ```text
//!   partitions of the source topics ─▶ of the repartition topics ─▶ those that are joined must agree ─▶ of the changelogs
//! ```
//!
//! Where we differ: a repartition topic with a number of its own has to agree with those that it is joined with, and not with
//! every other one of the topology.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Str;
use protocol::messages::streams_group_topology_value::{CopartitionGroup, Subtopology, TopicInfo};

use super::Refusal;
use super::topology::{Topology, internal_topics, sources};
use crate::groups::catalog_view::CatalogView;

/// So many tasks a group may have. A bound of our own: each of them is looked at in every assignment.
pub const TASKS_PER_GROUP_MAX: i64 = 100_000;

/// Kafka's `StreamsGroupHeartbeatResponse.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    StaleTopology,
    MissingSourceTopics,
    IncorrectlyPartitionedTopics,
    MissingInternalTopics,
    ShutdownApplication,
    AssignmentDelayed,
}

impl StatusCode {
    pub fn code(self) -> i8 {
        match self {
            StatusCode::StaleTopology => 0,
            StatusCode::MissingSourceTopics => 1,
            StatusCode::IncorrectlyPartitionedTopics => 2,
            StatusCode::MissingInternalTopics => 3,
            StatusCode::ShutdownApplication => 4,
            StatusCode::AssignmentDelayed => 5,
        }
    }
}

/// What a member is told beside its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: StatusCode,
    pub detail: String,
}

/// A topic that the application needs for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    pub name: Str,
    pub partition_count: i32,
    /// 0: as the broker decides.
    pub replication_factor: i16,
    pub configs: Vec<(Str, Str)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredSubtopology {
    pub task_count: i32,
    /// Its tasks have state, so that copies of them make sense.
    pub is_stateful: bool,
    /// All topics that it reads.
    pub sources: BTreeSet<Str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configured {
    /// By id; nothing where the topics do not fit.
    pub subtopologies: BTreeMap<Str, ConfiguredSubtopology>,
    /// How many partitions the topics of the application have, or will have.
    pub partition_counts: BTreeMap<Str, i32>,
    pub missing: Vec<InternalTopic>,
    /// Why there can be no tasks.
    pub problem: Option<Status>,
}

impl Configured {
    pub fn is_ready(&self) -> bool {
        self.problem.is_none()
    }
}

/// An error: no topics could help this topology.
pub fn configure(topology: &Topology, view: &dyn CatalogView) -> Result<Configured, Refusal> {
    let topics = Topics { view, decided: BTreeMap::new() };
    match topics.configure(topology) {
        Ok(configured) => Ok(configured),
        Err(Wrong::Topics(problem)) => Ok(Configured { problem: Some(problem), ..Configured::default() }),
        Err(Wrong::Topology(refusal)) => Err(refusal),
    }
}

enum Wrong {
    /// Of the topics as they are.
    Topics(Status),
    Topology(Refusal),
}

fn topology_is_wrong<T>(message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Topology(Refusal::topology(message)))
}

fn partitions_are_wrong<T>(detail: String) -> Result<T, Wrong> {
    Err(Wrong::Topics(Status { code: StatusCode::IncorrectlyPartitionedTopics, detail }))
}

/// Topics that are there, and those of the application as far as they are decided.
struct Topics<'a> {
    view: &'a dyn CatalogView,
    decided: BTreeMap<Str, i32>,
}

impl Topics<'_> {
    fn configure(mut self, topology: &Topology) -> Result<Configured, Wrong> {
        self.check_sources(topology)?;
        self.decided = self.repartition_counts(topology)?;
        for subtopology in topology.subtopologies.values() {
            for joined in &subtopology.copartition_groups {
                self.agree(subtopology, joined)?;
            }
        }
        let mut subtopologies = BTreeMap::new();
        let mut task_count: i64 = 0;
        for (id, subtopology) in &topology.subtopologies {
            let configured = self.subtopology(id, subtopology)?;
            task_count += i64::from(configured.task_count);
            subtopologies.insert(id.clone(), configured);
        }
        if task_count > TASKS_PER_GROUP_MAX {
            return partitions_are_wrong(format!(
                "The topology has {task_count} tasks, and a group may have {TASKS_PER_GROUP_MAX}."
            ));
        }
        let missing = self.missing(topology)?;
        let problem = (!missing.is_empty()).then(|| Status {
            code: StatusCode::MissingInternalTopics,
            detail: format!("Internal topics are missing: {}", some(missing.iter().map(|topic| &topic.name))),
        });
        Ok(Configured { subtopologies, partition_counts: self.decided, missing, problem })
    }

    /// What is there counts, whatever was decided.
    fn partition_count(&self, topic: &Str) -> Option<i32> {
        let existing = self.view.topic(topic).map(|topic| topic.partition_count);
        existing.or_else(|| self.decided.get(topic).copied())
    }

    fn known_count(&self, topic: &Str) -> Result<i32, Wrong> {
        match self.partition_count(topic) {
            Some(count) => Ok(count),
            None => topology_is_wrong(format!("Nothing says how many partitions topic {topic} has.")),
        }
    }

    fn check_sources(&self, topology: &Topology) -> Result<(), Wrong> {
        let all = topology.subtopologies.values().flat_map(|one| &one.source_topics);
        let missing: BTreeSet<&Str> = all.filter(|topic| self.view.topic(topic).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let detail = format!("Source topics {} are missing.", some(missing.into_iter()));
        Err(Wrong::Topics(Status { code: StatusCode::MissingSourceTopics, detail }))
    }

    /// A repartition topic has as many partitions as the application says, or else as the largest topic has that is read by
    /// what writes it. That may be a repartition topic as well, so it takes some rounds.
    fn repartition_counts(&self, topology: &Topology) -> Result<BTreeMap<Str, i32>, Wrong> {
        let all = || topology.subtopologies.values();
        let mut counts: BTreeMap<Str, i32> = BTreeMap::new();
        for info in all().flat_map(|one| &one.repartition_source_topics) {
            if info.partitions != 0 {
                counts.insert(info.name.clone(), info.partitions);
            }
        }
        loop {
            let (mut is_open, mut has_progressed) = (false, false);
            for subtopology in all() {
                for sink in &subtopology.repartition_sink_topics {
                    if counts.contains_key(sink) {
                        continue;
                    }
                    let own = subtopology.repartition_source_topics.iter();
                    let own = own.filter_map(|info| counts.get(&info.name).copied());
                    let others = subtopology.source_topics.iter();
                    let others = others.filter_map(|topic| self.partition_count(topic));
                    match own.chain(others).max() {
                        Some(count) => {
                            counts.insert(sink.clone(), count);
                            has_progressed = true;
                        }
                        None => is_open = true,
                    }
                }
            }
            match (is_open, has_progressed) {
                (false, _) => break,
                (true, true) => {}
                (true, false) => {
                    return topology_is_wrong(
                        "Failed to compute number of partitions for all repartition topics. There may be loops in the \
                         topology that cannot be resolved.",
                    );
                }
            }
        }
        match all().flat_map(|one| &one.repartition_source_topics).all(|info| counts.contains_key(&info.name))
        {
            true => Ok(counts),
            false => topology_is_wrong(
                "Failed to compute number of partitions for all repartition topics, because a repartition source topic is \
                 never used as a sink topic.",
            ),
        }
    }

    /// Topics that are joined have the same number of partitions: those of others must have it, those of the application get it.
    fn agree(&mut self, subtopology: &Subtopology, joined: &CopartitionGroup) -> Result<(), Wrong> {
        let index = |index: &i16| usize::try_from(*index).ok();
        let others = joined.source_topics.iter();
        let others: Option<Vec<&Str>> = others.map(|at| subtopology.source_topics.get(index(at)?)).collect();
        let own = joined.repartition_source_topics.iter();
        let own: Option<Vec<&TopicInfo>> =
            own.map(|at| subtopology.repartition_source_topics.get(index(at)?)).collect();
        let (Some(others), Some(own)) = (others, own) else {
            return topology_is_wrong("A copartition group has a topic that its subtopology does not read.");
        };
        let mut other_counts = BTreeMap::new();
        for topic in others {
            other_counts.insert(topic.clone(), self.known_count(topic)?);
        }
        let mut own_counts = BTreeMap::new();
        for info in &own {
            own_counts.insert(info.name.clone(), self.known_count(&info.name)?);
        }
        let fixed: Vec<&&TopicInfo> = own.iter().filter(|info| info.partitions != 0).collect();
        let differ = |counts: &BTreeMap<Str, i32>| {
            let counts = counts.iter().map(|(topic, count)| format!("{topic}={count}"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            partitions_are_wrong(format!(
                "Following topics do not have the same number of partitions: [{{{counts}}}]"
            ))
        };
        let count = match other_counts.values().next() {
            Some(first) if other_counts.values().any(|count| count != first) => return differ(&other_counts),
            Some(first) => *first,
            None => match fixed.first() {
                Some(first) if fixed.iter().any(|info| info.partitions != first.partitions) => {
                    return differ(&own_counts);
                }
                Some(first) => first.partitions,
                None => match own_counts.values().max() {
                    Some(most) => *most,
                    None => return Ok(()),
                },
            },
        };
        if let Some(info) = fixed.iter().find(|info| info.partitions != count) {
            return partitions_are_wrong(format!(
                "Number of partitions [{}] of repartition topic [{}] doesn't match number of partitions [{count}] of the \
                 source topic.",
                info.partitions, info.name
            ));
        }
        self.decided.extend(own.iter().map(|info| (info.name.clone(), count)));
        Ok(())
    }

    /// As many tasks as its largest topic has partitions, and so many partitions its changelogs have.
    fn subtopology(&mut self, id: &Str, subtopology: &Subtopology) -> Result<ConfiguredSubtopology, Wrong> {
        let mut task_count = 0;
        for topic in sources(subtopology) {
            task_count = task_count.max(self.known_count(topic)?);
        }
        if task_count < 1 {
            return topology_is_wrong(format!("No source topics found for subtopology {id}"));
        }
        for info in &subtopology.state_changelog_topics {
            self.decided.insert(info.name.clone(), task_count);
        }
        Ok(ConfiguredSubtopology {
            task_count,
            is_stateful: !subtopology.state_changelog_topics.is_empty(),
            sources: sources(subtopology).cloned().collect(),
        })
    }

    fn missing(&self, topology: &Topology) -> Result<Vec<InternalTopic>, Wrong> {
        let mut missing = BTreeMap::new();
        for info in topology.subtopologies.values().flat_map(internal_topics) {
            let partition_count = self.decided[&info.name];
            if partition_count < 1 {
                return topology_is_wrong(format!("Topic {} would have no partitions.", info.name));
            }
            match self.view.topic(&info.name) {
                Some(existing) if existing.partition_count != partition_count => {
                    return partitions_are_wrong(format!(
                        "Existing topic {} has different number of partitions: expected {partition_count}, found {}",
                        info.name, existing.partition_count
                    ));
                }
                Some(_) => {}
                None => {
                    let configs = info.topic_configs.iter();
                    let configs = configs.map(|config| (config.key.clone(), config.value.clone())).collect();
                    missing.insert(
                        info.name.clone(),
                        InternalTopic {
                            name: info.name.clone(),
                            partition_count,
                            replication_factor: info.replication_factor,
                            configs,
                        },
                    );
                }
            }
        }
        Ok(missing.into_values().collect())
    }
}

/// The first of many names.
fn some<'a>(names: impl Iterator<Item = &'a Str>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<&str> = names.map(|name| &**name).collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} additional topics"),
    }
}
