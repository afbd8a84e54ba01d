//! Making, growing and deleting topics: decided here, recorded in the catalog, then followed by the log.
//!
//! ```text
//!   CreateTopics, Metadata (auto-creation), coordinators
//!        │ plan: names, counts, configs                 errors per topic
//!        ▼
//!   catalog.append  ─ durable and replayed ─►  follow_catalog: the log gets what the catalog has
//! ```
//! `follow_catalog` looks at what the catalog says *now* under a lock of its own, so that a creation and a deletion
//! that cross each other leave the log as the catalog is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalog::config::{BrokerConfig, alter};
use catalog::{Catalog, CatalogError, MetadataRecord, ResourceType, State, Topic, topic_name};
use commitlog::{CommitLog, PartitionSettings};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};
use world::rng::Rng;

use crate::configs::Configs;
use crate::counters::Counters;
use crate::error::ApiError;
use crate::limits::Limits;

/// One metadata append carries at most this many topics, so that a frame of the catalog's log stays small.
const TOPICS_PER_APPEND: usize = 1_000;

pub(crate) struct Topics {
    pub node_id: i32,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub counters: Arc<Counters>,
    pub limits: Limits,
    follow: Mutex<()>,
}

/// A topic that somebody wants. `None` and −1 leave the choice to the broker's defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTopic {
    pub name: Str,
    pub partition_count: i32,
    pub replication_factor: i16,
    /// (partition, its brokers), as the client placed them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Vec<(Str, Option<Str>)>,
}

impl NewTopic {
    pub fn with_defaults(name: Str) -> NewTopic {
        NewTopic { name, partition_count: -1, replication_factor: -1, ..NewTopic::default() }
    }
}

/// A topic that may be made: everything is decided but whether it can be written.
#[derive(Debug, Clone)]
pub(crate) struct PlannedTopic {
    pub id: Uuid,
    pub name: Str,
    pub partition_count: u32,
    pub replication_factor: i16,
    /// Of each partition; empty: wherever there is room.
    pub assignments: Vec<Vec<i32>>,
    pub configs: Vec<(Str, Str)>,
}

impl Topics {
    pub fn new(
        node_id: i32,
        rng: Arc<dyn Rng>,
        catalog: Arc<Catalog>,
        log: Arc<CommitLog>,
        configs: Arc<Configs>,
        counters: Arc<Counters>,
        limits: Limits,
    ) -> Self {
        Self { node_id, rng, catalog, log, configs, counters, limits, follow: Mutex::new(()) }
    }

    /// Checks one topic in the order in which Kafka's controller does, which decides the error of a topic with
    /// several faults.
    pub fn plan(&self, state: &State, new: &NewTopic) -> Result<PlannedTopic, ApiError> {
        let name = &new.name;
        check_name(state, name)?;
        if state.topic(name).is_some() {
            return Err(ApiError::new(
                ErrorCode::TopicAlreadyExists,
                format!("the topic {name} exists already"),
            ));
        }
        let configs = alter::topic_create_configs(state, self.configs.started_with(), &new.configs)?;
        let broker = self.configs.broker(state);
        let (partition_count, replication_factor) = match new.assignments.is_empty() {
            true => plan_counts(state, new, &broker, self.catalog.is_shared())?,
            false => plan_assignments(state, new)?,
        };
        let assignments: BTreeMap<i32, &Vec<i32>> =
            new.assignments.iter().map(|(index, nodes)| (*index, nodes)).collect();
        Ok(PlannedTopic {
            id: Uuid::from_bytes(self.rng.uuid()),
            name: name.detached(),
            partition_count,
            replication_factor,
            assignments: assignments.into_values().cloned().collect(),
            configs,
        })
    }

    /// Whether the cluster has room for so many more partitions.
    fn check_room(&self, state: &State, more: u64) -> Result<(), ApiError> {
        let max = self.limits.cluster_partitions_max;
        match state.partition_count().saturating_add(more) <= max {
            true => Ok(()),
            false => Err(ApiError::new(
                ErrorCode::PolicyViolation,
                format!("the cluster would have more than {max} partitions (cluster.partitions.max)"),
            )),
        }
    }

    /// Checks what only matters once the topics are really made, and one after the other.
    pub fn check_room_for(&self, state: &State, planned: &[PlannedTopic]) -> Vec<Result<(), ApiError>> {
        let mut more = 0;
        planned
            .iter()
            .map(|topic| {
                let count = u64::from(topic.partition_count);
                self.check_room(state, more + count)?;
                more += count;
                Ok(())
            })
            .collect()
    }

    /// Makes them all; the answers stand in the order of the topics.
    pub async fn create(&self, planned: &[PlannedTopic]) -> Vec<Result<(), ApiError>> {
        let mut results = Vec::with_capacity(planned.len());
        for chunk in planned.chunks(TOPICS_PER_APPEND) {
            let records = chunk.iter().flat_map(|topic| self.create_records(topic)).collect();
            match self.catalog.append(records).await {
                Ok(_) => results.extend(chunk.iter().map(|_| Ok(()))),
                // One of them lost a race; the others must not fail with it.
                Err(CatalogError::Rejected(_)) if chunk.len() > 1 => {
                    for topic in chunk {
                        let one = self.catalog.append(self.create_records(topic)).await;
                        results.push(one.map(|_| ()).map_err(ApiError::from));
                    }
                }
                Err(error) => {
                    let error = ApiError::from(error);
                    results.extend(chunk.iter().map(|_| Err(error.clone())));
                }
            }
        }
        self.follow_catalog(planned.iter().map(|topic| topic.id));
        results
    }

    /// Makes a topic of the coordinators, or finds it.
    pub async fn ensure_internal(
        &self,
        name: &'static str,
        partition_count: i32,
        configs: &[(&'static str, String)],
    ) -> Result<Arc<Topic>, ApiError> {
        let name = Str::from_static(name);
        let planned = {
            let state = self.catalog.read();
            if let Some(topic) = state.topic(&name) {
                return Ok(topic.clone());
            }
            let new = NewTopic {
                name: name.clone(),
                partition_count,
                replication_factor: 1,
                assignments: Vec::new(),
                configs: configs
                    .iter()
                    .map(|(key, value)| (Str::from_static(key), Some(Str::from(value.as_str()))))
                    .collect(),
            };
            self.plan(&state, &new)?
        };
        let made = self.create(&[planned]).await.pop().expect("one answer for one topic");
        match made {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => return Err(error),
            _ => {}
        }
        let topic = self.catalog.read().topic(&name).cloned();
        topic.ok_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
    }

    /// The position of the deletion in the catalog.
    pub async fn delete(&self, topic: &Topic) -> Result<u64, ApiError> {
        let result = self.catalog.append(vec![MetadataRecord::DeleteTopic { id: topic.id }]).await;
        let position = result.map_err(ApiError::from)?;
        self.log.remove_partitions(topic.id).await;
        self.counters.forget_topic(topic.id);
        Ok(position)
    }

    /// Grows a topic from the size the caller saw to a new one.
    pub async fn add_partitions(
        &self,
        topic: &Topic,
        to_count: u32,
        assignments: &[Vec<i32>],
    ) -> Result<(), ApiError> {
        let from_count = topic.partitions.len() as u32;
        self.check_room(&self.catalog.read(), u64::from(to_count.saturating_sub(from_count)))?;
        let mut records = vec![MetadataRecord::CreatePartitions { id: topic.id, from_count, to_count }];
        records.extend(self.assign_record(topic.id, from_count, assignments));
        self.catalog.append(records).await.map_err(ApiError::from)?;
        self.follow_catalog([topic.id]);
        Ok(())
    }

    fn create_records(&self, topic: &PlannedTopic) -> Vec<MetadataRecord> {
        let create = MetadataRecord::CreateTopic {
            id: topic.id,
            name: topic.name.clone(),
            partition_count: topic.partition_count,
            replication_factor: topic.replication_factor,
            configs: topic.configs.clone(),
        };
        [create].into_iter().chain(self.assign_record(topic.id, 0, &topic.assignments)).collect()
    }

    /// In a directory there is one place for all of them.
    fn assign_record(&self, topic_id: Uuid, first: u32, assignments: &[Vec<i32>]) -> Option<MetadataRecord> {
        let is_wanted = self.catalog.is_shared() && !assignments.is_empty();
        let partitions = (first..).zip(assignments.iter().cloned()).collect();
        is_wanted.then_some(MetadataRecord::AssignReplicas { topic_id, partitions })
    }

    /// Writes config changes that were checked, and lets the log know.
    pub async fn set_configs(&self, record: MetadataRecord) -> Result<(), ApiError> {
        let MetadataRecord::SetConfigs { resource_type, resource_name, .. } = &record else {
            unreachable!("a config change is a SetConfigs record, not {record:?}");
        };
        let (resource_type, resource_name) = (*resource_type, resource_name.clone());
        self.catalog.append(vec![record]).await.map_err(ApiError::from)?;
        let ids: Vec<Uuid> = {
            let state = self.catalog.read();
            match resource_type {
                ResourceType::Topic => {
                    state.topic(&resource_name).map(|topic| topic.id).into_iter().collect()
                }
                // A default of all topics may have changed.
                ResourceType::Broker => state.topics().map(|topic| topic.id).collect(),
                _ => Vec::new(),
            }
        };
        self.follow_catalog(ids);
        Ok(())
    }

    /// Brings the log's partitions of these topics, and their settings, to what the catalog says now.
    pub fn follow_catalog(&self, ids: impl IntoIterator<Item = Uuid>) {
        let _one_at_a_time = self.follow.lock();
        let mut missing = Vec::new();
        let is_shared = self.catalog.is_shared();
        for id in ids {
            let (topic, config, leads) = {
                let state = self.catalog.read();
                let Some(topic) = state.topic_by_id(id).cloned() else { continue };
                let config = self.configs.topic(&state, &topic);
                (topic, config, !is_shared || state.leads(self.catalog.wal_id()))
            };
            let settings = PartitionSettings::from(&*config);
            for (index, info) in (0..).zip(&topic.partitions) {
                let place = TopicIdPartition::new(id, index);
                if info.leader != self.node_id || !leads {
                    continue;
                }
                match self.log.partition(&place) {
                    Some(_) => self.log.update_settings(&place, settings.clone()),
                    // What another broker has led before is not empty: it is read first (`cluster.rs`).
                    None if is_shared && info.leader_epoch > 0 => {}
                    None => missing.push((place, settings.clone())),
                }
            }
        }
        self.log.create_partitions(&missing);
    }
}

fn check_name(state: &State, name: &str) -> Result<(), ApiError> {
    if let Err(error) = topic_name::validate(name) {
        return Err(ApiError::new(ErrorCode::InvalidTopicException, error.to_string()));
    }
    match state.colliding_topic(name) {
        Some(existing) => Err(ApiError::new(
            ErrorCode::InvalidTopicException,
            format!("the name {name} collides with the existing topic {existing}"),
        )),
        None => Ok(()),
    }
}

/// In a shared catalog any number of replicas is taken: a bucket keeps records as often as it keeps them, and whoever can
/// reach it can lead. Applications that ask for 3 need not care how many brokers there are today.
fn plan_counts(
    state: &State,
    new: &NewTopic,
    broker: &BrokerConfig,
    is_shared: bool,
) -> Result<(u32, i16), ApiError> {
    let replication_factor = match new.replication_factor {
        ..-1 | 0 => {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicationFactor,
                "the replication factor must be at least 1, or -1 for the default",
            ));
        }
        -1 => i16::try_from(broker.default_replication_factor()).unwrap_or(i16::MAX),
        factor => factor,
    };
    let partition_count = match new.partition_count {
        ..-1 | 0 => {
            return Err(ApiError::new(
                ErrorCode::InvalidPartitions,
                "the number of partitions must be at least 1, or -1 for the default",
            ));
        }
        -1 => broker.num_partitions(),
        count => count,
    };
    let brokers = state.brokers().count();
    if !is_shared && replication_factor as usize > brokers {
        return Err(ApiError::new(
            ErrorCode::InvalidReplicationFactor,
            format!("{replication_factor} replicas need as many brokers, {brokers} registered"),
        ));
    }
    Ok((partition_count as u32, replication_factor))
}

fn plan_assignments(state: &State, new: &NewTopic) -> Result<(u32, i16), ApiError> {
    let refused = |code, message: &str| Err(ApiError::new(code, message));
    if new.replication_factor != -1 {
        return refused(
            ErrorCode::InvalidRequest,
            "with manual assignments the replication factor must be -1",
        );
    }
    if new.partition_count != -1 {
        return refused(
            ErrorCode::InvalidRequest,
            "with manual assignments the number of partitions must be -1",
        );
    }
    let mut factor = None;
    let mut seen = BTreeSet::new();
    for (partition, brokers) in &new.assignments {
        if !seen.insert(*partition) {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicaAssignment,
                format!("partition {partition} is assigned more than once"),
            ));
        }
        check_assignment(state, brokers, factor)?;
        factor = Some(brokers.len());
    }
    if !seen.iter().copied().eq(0..new.assignments.len() as i32) {
        return refused(
            ErrorCode::InvalidReplicaAssignment,
            "the assigned partitions must be 0, 1, 2, … without a gap",
        );
    }
    Ok((new.assignments.len() as u32, factor.unwrap_or(1) as i16))
}

/// One partition's brokers, as a client placed it.
pub(crate) fn check_assignment(
    state: &State,
    brokers: &[i32],
    factor: Option<usize>,
) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if brokers.is_empty() {
        return refused("a partition is assigned to no broker".to_owned());
    }
    let mut sorted = brokers.to_vec();
    sorted.sort_unstable();
    for (place, broker) in sorted.iter().enumerate() {
        if state.broker(*broker).is_none() {
            return refused(format!("a partition is assigned to broker {broker}, which is not registered"));
        }
        if place > 0 && sorted[place - 1] == *broker {
            return refused(format!("a partition is assigned to broker {broker} more than once"));
        }
    }
    match factor {
        Some(factor) if factor != brokers.len() => {
            refused(format!("a partition is assigned to {} brokers, the others to {factor}", brokers.len()))
        }
        _ => Ok(()),
    }
}
