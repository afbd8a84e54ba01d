//! Topics, configs, groups, offsets, records: everything one does *to* a cluster.
//!
//! Calls are retried while the error is retriable and `api_timeout` lasts. A call on several things gives one
//! result for each, in the order asked.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::messages::*;
use protocol::{ErrorCode, Request, Str, Uuid};

use crate::TopicPartition;
use crate::cluster::{Broker, Client, Cluster, Lane, TopicInfo};
use crate::connection::SOFTWARE_NAME;
use crate::consumer::offsets::{self, OffsetAndMetadata, OffsetAndTimestamp, OffsetSpec};
use crate::consumer::{Isolation, coordinator};
use crate::error::{Error, check, code_of};
use crate::retry::Tries;

/// Administration of a cluster. Made by [`Client::admin`].
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::NewTopic;
/// let admin = client.admin();
/// admin.create_topic(NewTopic::new("clicks").partitions(3).config("retention.ms", "3600000")).await?;
/// for topic in admin.topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

/// How long a broker may take for a change before it answers REQUEST_TIMED_OUT.
const CHANGE_TIMEOUT_MS: i32 = 30_000;
/// The version of ApiVersions that says all that `features` asks for; the next one names whom it believes to talk to.
const FEATURES_FROM_LEVEL_0: i16 = 4;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: Str,
    /// −1 is the broker's `num.partitions`.
    pub partitions: i32,
    /// −1 is the broker's `default.replication.factor`.
    pub replication_factor: i16,
    pub configs: Vec<(Str, Str)>,
}

impl NewTopic {
    pub fn new(name: impl Into<Str>) -> NewTopic {
        NewTopic { name: name.into(), partitions: -1, replication_factor: -1, configs: Vec::new() }
    }

    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = count;
        self
    }

    pub fn replication_factor(mut self, factor: i16) -> Self {
        self.replication_factor = factor;
        self
    }

    pub fn config(mut self, key: impl Into<Str>, value: impl Into<Str>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: Str,
    pub id: Uuid,
    pub partitions: i32,
    pub replication_factor: i16,
}

/// What configs belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(Str),
    /// One broker by its id; the empty string is the default of all brokers.
    Broker(Str),
    Group(Str),
    ClientMetrics(Str),
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
            Resource::ClientMetrics(_) => 16,
            Resource::Group(_) => 32,
        }
    }

    pub fn name(&self) -> &Str {
        match self {
            Resource::Topic(name)
            | Resource::Broker(name)
            | Resource::Group(name)
            | Resource::ClientMetrics(name) => name,
        }
    }
}

/// The configs of one resource.
#[derive(Clone, Debug)]
pub struct ConfigResource {
    pub resource: Resource,
    pub entries: Vec<ConfigEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: Str,
    /// `None` when it is sensitive.
    pub value: Option<Str>,
    /// Kafka's name of where the value comes from, such as `DYNAMIC_TOPIC_CONFIG`.
    pub source: &'static str,
    pub read_only: bool,
    pub sensitive: bool,
    pub synonyms: Vec<ConfigSynonym>,
    /// Kafka's name of the type, such as `LONG`.
    pub value_type: &'static str,
    pub documentation: Option<Str>,
}

impl ConfigEntry {
    pub fn is_default(&self) -> bool {
        self.source == "DEFAULT_CONFIG"
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: Str,
    pub value: Option<Str>,
    pub source: &'static str,
}

/// One change of one config key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfig {
    pub key: Str,
    pub operation: AlterOperation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterOperation {
    Set(Str),
    /// Back to the default.
    Delete,
    /// To the end of a list.
    Append(Str),
    /// Out of a list.
    Subtract(Str),
}

impl AlterConfig {
    pub fn set(key: impl Into<Str>, value: impl Into<Str>) -> AlterConfig {
        AlterConfig { key: key.into(), operation: AlterOperation::Set(value.into()) }
    }

    pub fn delete(key: impl Into<Str>) -> AlterConfig {
        AlterConfig { key: key.into(), operation: AlterOperation::Delete }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: Str,
    pub controller: i32,
    pub brokers: Vec<BrokerInfo>,
}

pub type BrokerInfo = Broker;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: Str,
    /// `consumer` for consumer groups, empty for groups that only hold offsets.
    pub protocol_type: Str,
    /// Such as `Stable` or `Empty`; empty from brokers before 2.6.
    pub state: Str,
    /// `Classic` or `Consumer`; empty from brokers before 3.8.
    pub group_type: Str,
    pub coordinator: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: Str,
    pub state: Str,
    pub protocol_type: Str,
    /// The assignor that the group agreed on.
    pub protocol: Str,
    pub members: Vec<GroupMember>,
    pub coordinator: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub assignment: Vec<TopicPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    pub broker: i32,
    pub path: Str,
    pub error: ErrorCode,
    /// −1 from brokers before 3.2.
    pub total_bytes: i64,
    pub usable_bytes: i64,
    pub partitions: Vec<LogDirPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirPartition {
    pub partition: TopicPartition,
    pub size_bytes: i64,
    pub offset_lag: i64,
}

/// A feature of the cluster, as the broker that answered tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: Str,
    /// The levels that this broker knows.
    pub lowest: i16,
    pub highest: i16,
    /// The level of the cluster; `None`: the feature is off.
    pub level: Option<i16>,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    // ---- topics

    /// Creates one topic.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, Error> {
        self.create_topics(vec![topic], false).await?.pop().unwrap_or_else(missing)
    }

    /// Creates topics; with `validate_only` it only tells what would happen.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<CreatedTopic, Error>>, Error> {
        let request = CreateTopicsRequest {
            topics: topics
                .iter()
                .map(|topic| create_topics_request::CreatableTopic {
                    name: topic.name.clone(),
                    num_partitions: topic.partitions,
                    replication_factor: topic.replication_factor,
                    assignments: Vec::new(),
                    configs: topic
                        .configs
                        .iter()
                        .map(|(name, value)| create_topics_request::CreatableTopicConfig {
                            name: name.clone(),
                            value: Some(value.clone()),
                        })
                        .collect(),
                })
                .collect(),
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only,
        };
        let answer =
            self.change(&request, i16::MAX, |answer| answer.topics.iter().map(|t| t.error_code).collect());
        let mut results: BTreeMap<Str, _> = BTreeMap::new();
        for topic in answer.await?.topics {
            let result = check(topic.error_code, topic.error_message.as_ref()).map(|()| CreatedTopic {
                name: topic.name.detached(),
                id: topic.topic_id,
                partitions: topic.num_partitions,
                replication_factor: topic.replication_factor,
            });
            results.insert(topic.name, result);
        }
        self.client.outdated();
        Ok(topics.iter().map(|topic| results.remove(&topic.name).unwrap_or_else(missing)).collect())
    }

    /// Deletes one topic.
    pub async fn delete_topic(&self, name: impl Into<Str>) -> Result<(), Error> {
        self.delete_topics(&[name.into()]).await?.pop().unwrap_or_else(missing)
    }

    pub async fn delete_topics(&self, names: &[Str]) -> Result<Vec<Result<(), Error>>, Error> {
        let request = DeleteTopicsRequest {
            topic_names: names.to_vec(),
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..Default::default()
        };
        // From version 6 on topics are a list of names *or* ids; names are all we need.
        let answer =
            self.change(&request, 5, |answer| answer.responses.iter().map(|t| t.error_code).collect());
        let mut results: BTreeMap<Str, _> = BTreeMap::new();
        for topic in answer.await?.responses {
            let result = check(topic.error_code, topic.error_message.as_ref());
            results.insert(topic.name.unwrap_or_default(), result);
        }
        self.client.outdated();
        Ok(names.iter().map(|name| results.remove(name).unwrap_or_else(missing)).collect())
    }

    /// All topics, internal ones included.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        Ok(self.client.describe(None).await?.topics.into_values().collect())
    }

    /// One topic; UNKNOWN_TOPIC_OR_PARTITION if there is none.
    pub async fn topic(&self, name: impl Into<Str>) -> Result<TopicInfo, Error> {
        let name = name.into();
        let mut cluster = self.client.describe(Some(std::slice::from_ref(&name))).await?;
        let topic = cluster
            .topics
            .remove(&name)
            .ok_or(Error::Kafka { code: ErrorCode::UnknownTopicOrPartition, message: name.clone() })?;
        check(topic.error as i16, Some(&name))?;
        Ok(topic)
    }

    /// Raises the number of partitions to `count`.
    pub async fn create_partitions(&self, topic: impl Into<Str>, count: i32) -> Result<(), Error> {
        let request = CreatePartitionsRequest {
            topics: vec![create_partitions_request::CreatePartitionsTopic {
                name: topic.into(),
                count,
                assignments: None,
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only: false,
        };
        let codes = |answer: &CreatePartitionsResponse| answer.results.iter().map(|t| t.error_code).collect();
        let answer = self.change(&request, i16::MAX, codes).await?;
        self.client.outdated();
        let result = answer.results.first().ok_or_else(|| missing::<()>().unwrap_err())?;
        check(result.error_code, result.error_message.as_ref())
    }

    /// Deletes the records before the given offsets (−1: all that are there) and gives the new start offsets.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Result<i64, Error>>, Error> {
        let partitions: Vec<TopicPartition> = before.keys().cloned().collect();
        offsets::by_leader(&self.client, &partitions, |node, partitions| {
            let mut topics: BTreeMap<Str, Vec<_>> = BTreeMap::new();
            for partition in &partitions {
                topics.entry(partition.topic.clone()).or_default().push(
                    delete_records_request::DeleteRecordsPartition {
                        partition_index: partition.partition,
                        offset: before[partition],
                    },
                );
            }
            let request = DeleteRecordsRequest {
                topics: topics
                    .into_iter()
                    .map(|(name, partitions)| delete_records_request::DeleteRecordsTopic { name, partitions })
                    .collect(),
                timeout_ms: CHANGE_TIMEOUT_MS,
            };
            Box::pin(async move {
                let answer = self.client.call_node(Lane::General, node, &request, i16::MAX).await?;
                let mut results = Vec::new();
                for topic in answer.topics {
                    for partition in topic.partitions {
                        let key = TopicPartition::new(topic.name.detached(), partition.partition_index);
                        results
                            .push((key, check(partition.error_code, None).map(|()| partition.low_watermark)));
                    }
                }
                Ok(results)
            })
        })
        .await
    }

    /// Offsets by time, or first and last ones.
    pub async fn list_offsets(
        &self,
        specs: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetAndTimestamp, Error>>, Error> {
        offsets::list(&self.client, specs, isolation).await
    }

    // ---- configs

    /// The configs of resources; `keys` limits which.
    pub async fn describe_configs(
        &self,
        resources: &[Resource],
        keys: Option<&[Str]>,
        documentation: bool,
    ) -> Result<Vec<Result<ConfigResource, Error>>, Error> {
        let mut results = Vec::new();
        for resource in resources {
            results.push(self.describe_config(resource, keys, documentation).await);
        }
        Ok(results)
    }

    /// The configs of one resource. Those of a broker come from that broker.
    pub async fn describe_config(
        &self,
        resource: &Resource,
        keys: Option<&[Str]>,
        documentation: bool,
    ) -> Result<ConfigResource, Error> {
        let request = DescribeConfigsRequest {
            resources: vec![describe_configs_request::DescribeConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name().clone(),
                configuration_keys: keys.map(<[Str]>::to_vec),
            }],
            include_synonyms: true,
            include_documentation: documentation,
        };
        let mut tries = self.tries();
        loop {
            let asked = async {
                let answer = match self.broker_of(resource) {
                    Some(node) => {
                        self.client.fresh_cluster(&[]).await?;
                        self.client.call_node(Lane::General, node, &request, i16::MAX).await?
                    }
                    None => self.client.call_any(&request, i16::MAX).await?,
                };
                let result = answer.results.into_iter().next();
                let result = result.ok_or_else(|| missing::<()>().unwrap_err())?;
                check(result.error_code, result.error_message.as_ref())?;
                Ok(result)
            };
            match asked.await {
                Ok(result) => {
                    return Ok(ConfigResource {
                        resource: resource.clone(),
                        entries: result.configs.iter().map(config_entry).collect(),
                    });
                }
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Changes configs of one resource, all or none.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[AlterConfig],
        validate_only: bool,
    ) -> Result<(), Error> {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs_request::AlterConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name().clone(),
                configs: changes.iter().map(alterable).collect(),
            }],
            validate_only,
        };
        let mut tries = self.tries();
        loop {
            let asked = async {
                let answer = match self.broker_of(resource) {
                    Some(node) => {
                        self.client.fresh_cluster(&[]).await?;
                        self.client.call_node(Lane::General, node, &request, i16::MAX).await?
                    }
                    None => {
                        let connection = self.client.controller().await?;
                        connection.call(&request, i16::MAX, self.client.options().request_timeout).await?
                    }
                };
                let result = answer.responses.first().ok_or_else(|| missing::<()>().unwrap_err())?;
                check(result.error_code, result.error_message.as_ref())
            };
            match asked.await {
                Ok(()) => return Ok(()),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    fn broker_of(&self, resource: &Resource) -> Option<i32> {
        match resource {
            Resource::Broker(id) => id.parse().ok(),
            _ => None,
        }
    }

    // ---- the cluster

    pub async fn cluster(&self) -> Result<ClusterInfo, Error> {
        let mut tries = self.tries();
        loop {
            let asked = async {
                let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
                let answer = self.client.call_any(&request, i16::MAX).await?;
                check(answer.error_code, answer.error_message.as_ref())?;
                Ok(answer)
            };
            match asked.await {
                Ok(answer) => {
                    return Ok(ClusterInfo {
                        cluster_id: answer.cluster_id.detached(),
                        controller: answer.controller_id,
                        brokers: answer
                            .brokers
                            .iter()
                            .map(|broker| Broker {
                                id: broker.broker_id,
                                host: broker.host.detached(),
                                port: broker.port,
                                rack: broker.rack.as_ref().map(Str::detached),
                            })
                            .collect(),
                    });
                }
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// The features that a broker knows, and the levels that the cluster is at.
    pub async fn features(&self) -> Result<Vec<Feature>, Error> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let mut tries = self.tries();
        loop {
            let asked = async {
                let answer = self.client.call_any(&request, FEATURES_FROM_LEVEL_0).await?;
                check(answer.error_code, None)?;
                Ok(answer)
            };
            match asked.await {
                Ok(answer) => {
                    let finalized = &answer.finalized_features;
                    let feature = |known: &api_versions_response::SupportedFeatureKey| Feature {
                        name: known.name.detached(),
                        lowest: known.min_version,
                        highest: known.max_version,
                        level: finalized
                            .iter()
                            .find(|finalized| finalized.name == known.name)
                            .map(|finalized| finalized.max_version_level),
                    };
                    return Ok(answer.supported_features.iter().map(feature).collect());
                }
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Raises a feature to a level that all brokers know; with `validate_only` it only tells whether it could be.
    pub async fn upgrade_feature(
        &self,
        name: impl Into<Str>,
        level: i16,
        validate_only: bool,
    ) -> Result<(), Error> {
        let update = update_features_request::FeatureUpdateKey {
            feature: name.into(),
            max_version_level: level,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest {
            timeout_ms: CHANGE_TIMEOUT_MS,
            feature_updates: vec![update],
            validate_only,
        };
        let answer = self.change(&request, i16::MAX, |answer| vec![answer.error_code]).await?;
        check(answer.error_code, answer.error_message.as_ref())?;
        answer.results.iter().try_for_each(|result| check(result.error_code, result.error_message.as_ref()))
    }

    /// The log directories of all brokers with what lies in them; `topics` limits which partitions are listed.
    pub async fn log_dirs(&self, topics: Option<&[Str]>) -> Result<Vec<LogDir>, Error> {
        let cluster = self.brokers().await?;
        let mut partitions_of = None;
        if let Some(topics) = topics {
            let described = self.client.describe(Some(topics)).await?;
            partitions_of = Some(
                described
                    .topics
                    .values()
                    .map(|topic| describe_log_dirs_request::DescribableLogDirTopic {
                        topic: topic.name.clone(),
                        partitions: topic.partitions.iter().map(|p| p.partition).collect(),
                    })
                    .collect(),
            );
        }
        let request = DescribeLogDirsRequest { topics: partitions_of };
        let mut dirs = Vec::new();
        for broker in cluster.brokers.keys() {
            let answer = self.ask_broker(*broker, &request, |answer| answer.error_code).await?;
            for dir in answer.results {
                let mut partitions = Vec::new();
                for topic in &dir.topics {
                    for partition in &topic.partitions {
                        partitions.push(LogDirPartition {
                            partition: TopicPartition::new(topic.name.detached(), partition.partition_index),
                            size_bytes: partition.partition_size,
                            offset_lag: partition.offset_lag,
                        });
                    }
                }
                dirs.push(LogDir {
                    broker: *broker,
                    path: dir.log_dir.detached(),
                    error: code_of(dir.error_code),
                    total_bytes: dir.total_bytes,
                    usable_bytes: dir.usable_bytes,
                    partitions,
                });
            }
        }
        Ok(dirs)
    }

    // ---- groups

    /// The groups of all brokers.
    pub async fn groups(&self) -> Result<Vec<GroupListing>, Error> {
        let cluster = self.brokers().await?;
        let mut groups = Vec::new();
        for broker in cluster.brokers.keys() {
            let request = ListGroupsRequest::default();
            let answer = self.ask_broker(*broker, &request, |answer| answer.error_code).await?;
            groups.extend(answer.groups.iter().map(|group| GroupListing {
                group_id: group.group_id.detached(),
                protocol_type: group.protocol_type.detached(),
                state: group.group_state.detached(),
                group_type: group.group_type.detached(),
                coordinator: *broker,
            }));
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// One group of consumers, of either protocol. A group that does not exist is described as `Dead` (or GROUP_ID_NOT_FOUND by
    /// new brokers).
    pub async fn describe_group(&self, group: impl Into<Str>) -> Result<GroupDescription, Error> {
        let group = group.into();
        let classic = self.describe_classic_group(group.clone()).await;
        let is_other = match &classic {
            Ok(described) => described.state == "Dead",
            Err(error) => error.code() == Some(ErrorCode::GroupIdNotFound),
        };
        if !is_other {
            return classic;
        }
        match self.describe_consumer_group(group).await {
            Ok(described) => Ok(described),
            // Neither, or a broker that knows the classic ones only: then the first answer is the better one.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => classic,
            Err(Error::UnsupportedApi { .. }) => classic,
            Err(error) => Err(error),
        }
    }

    /// A group of the new protocol (KIP-848).
    async fn describe_consumer_group(&self, group: Str) -> Result<GroupDescription, Error> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group.clone()], ..Default::default() };
        let (coordinator, answer) = self
            .ask_coordinator(&group, &request, i16::MAX, |answer: &ConsumerGroupDescribeResponse| {
                answer.groups.iter().map(|g| (g.error_code, g.error_message.clone())).collect()
            })
            .await?;
        let described = answer.groups.into_iter().next().ok_or_else(|| missing::<()>().unwrap_err())?;
        let members = described.members.iter().map(|member| {
            let topics = member.assignment.topic_partitions.iter();
            let partitions = topics.flat_map(|topic| {
                let name = topic.topic_name.detached();
                topic.partitions.iter().map(move |&partition| TopicPartition::new(name.clone(), partition))
            });
            GroupMember {
                member_id: member.member_id.detached(),
                instance_id: member.instance_id.as_ref().map(Str::detached),
                client_id: member.client_id.detached(),
                client_host: member.client_host.detached(),
                assignment: partitions.collect(),
            }
        });
        Ok(GroupDescription {
            group_id: group,
            state: described.group_state.detached(),
            protocol_type: Str::from_static("consumer"),
            protocol: described.assignor_name.detached(),
            members: members.collect(),
            coordinator,
        })
    }

    async fn describe_classic_group(&self, group: Str) -> Result<GroupDescription, Error> {
        let request = DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() };
        let (coordinator, answer) = self
            .ask_coordinator(&group, &request, i16::MAX, |answer: &DescribeGroupsResponse| {
                answer.groups.iter().map(|g| (g.error_code, g.error_message.clone())).collect()
            })
            .await?;
        let described = answer.groups.into_iter().next().ok_or_else(|| missing::<()>().unwrap_err())?;
        let members = described.members.iter().map(|member| GroupMember {
            member_id: member.member_id.detached(),
            instance_id: member.group_instance_id.as_ref().map(Str::detached),
            client_id: member.client_id.detached(),
            client_host: member.client_host.detached(),
            assignment: coordinator::decode_assignment(&member.member_assignment).unwrap_or_default(),
        });
        Ok(GroupDescription {
            group_id: group,
            state: described.group_state.detached(),
            protocol_type: described.protocol_type.detached(),
            protocol: described.protocol_data.detached(),
            members: members.collect(),
            coordinator,
        })
    }

    pub async fn delete_group(&self, group: impl Into<Str>) -> Result<(), Error> {
        let group = group.into();
        let request = DeleteGroupsRequest { groups_names: vec![group.clone()] };
        self.ask_coordinator(&group, &request, i16::MAX, |answer: &DeleteGroupsResponse| {
            answer.results.iter().map(|g| (g.error_code, g.error_message.clone())).collect()
        })
        .await?;
        Ok(())
    }

    /// The committed offsets of a group; all of them without `partitions`.
    pub async fn group_offsets(
        &self,
        group: impl Into<Str>,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        let group = group.into();
        let mut tries = self.tries();
        loop {
            let asked = async {
                let node = coordinator::find(&self.client, &group).await?;
                coordinator::fetch_offsets(&self.client, node, &group, partitions, false).await
            };
            match asked.await {
                Ok(offsets) => return Ok(offsets),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Sets the committed offsets of a group that has no members (`UNKNOWN_MEMBER_ID` if it has).
    pub async fn alter_group_offsets(
        &self,
        group: impl Into<Str>,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Error> {
        let group = group.into();
        let identity = coordinator::Identity::none();
        let mut tries = self.tries();
        loop {
            let asked = async {
                let node = coordinator::find(&self.client, &group).await?;
                coordinator::commit(&self.client, node, &group, &identity, offsets).await
            };
            match asked.await {
                Ok(()) => return Ok(()),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Forgets committed offsets of a group. Partitions of topics that members are subscribed to are refused
    /// with GROUP_SUBSCRIBED_TO_TOPIC.
    pub async fn delete_group_offsets(
        &self,
        group: impl Into<Str>,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<(), Error>>, Error> {
        let group = group.into();
        let mut topics: BTreeMap<Str, Vec<_>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic.clone()).or_default().push(
                offset_delete_request::OffsetDeleteRequestPartition { partition_index: partition.partition },
            );
        }
        let request = OffsetDeleteRequest {
            group_id: group.clone(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| offset_delete_request::OffsetDeleteRequestTopic {
                    name,
                    partitions,
                })
                .collect(),
        };
        let (_, answer) = self
            .ask_coordinator(&group, &request, i16::MAX, |answer: &OffsetDeleteResponse| {
                vec![(answer.error_code, None)]
            })
            .await?;
        let mut results = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let key = TopicPartition::new(topic.name.detached(), partition.partition_index);
                results.insert(key, check(partition.error_code, None));
            }
        }
        Ok(results)
    }

    // ---- how requests find their broker

    fn tries(&self) -> Tries {
        Tries::within(&self.client, self.client.options().api_timeout)
    }

    async fn brokers(&self) -> Result<std::sync::Arc<Cluster>, Error> {
        let mut tries = self.tries();
        loop {
            match self.client.fresh_cluster(&[]).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// A change of metadata: asked of the controller, again while the whole request met a retriable error.
    async fn change<R: Request>(
        &self,
        request: &R,
        cap: i16,
        codes: impl Fn(&R::Response) -> Vec<i16>,
    ) -> Result<R::Response, Error> {
        let mut tries = self.tries();
        loop {
            let asked = async {
                let connection = self.client.controller().await?;
                let limit = Duration::from_millis(CHANGE_TIMEOUT_MS as u64);
                let limit = self.client.options().request_timeout.max(limit + Duration::from_secs(5));
                connection.call(request, cap, limit).await
            };
            let error = match asked.await {
                Ok(answer) => {
                    let not_controller = ErrorCode::NotController as i16;
                    if !codes(&answer).contains(&not_controller) {
                        return Ok(answer);
                    }
                    Error::Kafka { code: ErrorCode::NotController, message: Str::default() }
                }
                // Whether a lost change was made is not known; made again it would be refused as a duplicate.
                Err(error @ (Error::Disconnected { .. } | Error::Timeout { .. })) => return Err(error),
                Err(error) => error,
            };
            tries.pause(error).await?;
        }
    }

    async fn ask_broker<R: Request>(
        &self,
        broker: i32,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Error> {
        let mut tries = self.tries();
        loop {
            let asked = async {
                let answer = self.client.call_node(Lane::General, broker, request, i16::MAX).await?;
                check(code(&answer), None)?;
                Ok(answer)
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    async fn ask_coordinator<R: Request>(
        &self,
        group: &Str,
        request: &R,
        cap: i16,
        codes: impl Fn(&R::Response) -> Vec<(i16, Option<Str>)>,
    ) -> Result<(i32, R::Response), Error> {
        let mut tries = self.tries();
        loop {
            let asked = async {
                let node = coordinator::find(&self.client, group).await?;
                let answer = self.client.call_node(Lane::Coordinator, node, request, cap).await?;
                for (code, message) in codes(&answer) {
                    check(code, message.as_ref())?;
                }
                Ok((node, answer))
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.pause(error).await?,
            }
        }
    }
}

/// The broker left out something that we asked for.
fn missing<T>() -> Result<T, Error> {
    Err(Error::Kafka {
        code: ErrorCode::UnknownServerError,
        message: "the broker's answer does not mention it".into(),
    })
}

fn alterable(change: &AlterConfig) -> incremental_alter_configs_request::AlterableConfig {
    let (config_operation, value) = match &change.operation {
        AlterOperation::Set(value) => (0, Some(value.clone())),
        AlterOperation::Delete => (1, None),
        AlterOperation::Append(value) => (2, Some(value.clone())),
        AlterOperation::Subtract(value) => (3, Some(value.clone())),
    };
    incremental_alter_configs_request::AlterableConfig { name: change.key.clone(), config_operation, value }
}

fn config_entry(entry: &describe_configs_response::DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: entry.name.detached(),
        value: entry.value.as_ref().map(Str::detached),
        source: source_name(entry.config_source),
        read_only: entry.read_only,
        sensitive: entry.is_sensitive,
        synonyms: entry
            .synonyms
            .iter()
            .map(|synonym| ConfigSynonym {
                name: synonym.name.detached(),
                value: synonym.value.as_ref().map(Str::detached),
                source: source_name(synonym.source),
            })
            .collect(),
        value_type: type_name(entry.config_type),
        documentation: entry.documentation.as_ref().map(Str::detached),
    }
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

fn type_name(kind: i8) -> &'static str {
    match kind {
        1 => "BOOLEAN",
        2 => "STRING",
        3 => "INT",
        4 => "SHORT",
        5 => "LONG",
        6 => "DOUBLE",
        7 => "LIST",
        8 => "CLASS",
        9 => "PASSWORD",
        _ => "UNKNOWN",
    }
}
