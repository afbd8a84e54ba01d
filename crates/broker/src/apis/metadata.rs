//! Metadata (key 3), versions 0–13.
//!
//! Brokers, topics, partitions and their leaders. No topics asked: none in version 1 and later when the list is
//! empty, all when it is null; version 0 has no null and takes the empty list for all.
//!
//! Topics that do not exist are made when the request allows it (before version 4 it always does) and
//! `auto.create.topics.enable` does. Difference: Kafka answers the request that caused it with
//! UNKNOWN_TOPIC_OR_PARTITION and clients ask again; here the topic exists before the answer leaves.
//!
//! Brokers that are fenced are not listed. A partition whose leader is one of them has no leader (LEADER_NOT_AVAILABLE) until
//! another takes over; one whose leader has no listener of this name is LISTENER_NOT_FOUND from version 6 on. Before a topic
//! is said to be unknown, or to lack a leader, we catch up with what other brokers said about it.
//!
//! 1: null = all, controller, rack, internal · 2: cluster id · 4: auto-creation is asked for · 5: offline replicas ·
//! 7: leader epochs (KIP-320) · 8: authorized operations (KIP-430), of the cluster up to 10 only · 9: flexible ·
//! 10: topic ids (KIP-516), to ask by id from 12 · 13: error of the whole answer (KIP-1102).

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::acl::AclOperation;
use catalog::{PartitionInfo, Replicas, State, Topic, topic_name};
use protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::{MetadataRequest, MetadataResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::{Resource, TopicRights};
use crate::nodes::{NO_NODE, Node, Nodes};
use crate::request::RequestContext;
use crate::topics::NewTopic;

const TOPIC_IDS_IN_REQUEST_SINCE: i16 = 12;
const LISTENER_NOT_FOUND_SINCE: i16 = 6;
/// In every version: there is no error that a client would have to know.
const STRICT_SINCE: i16 = 0;
/// How many topics one request may make; Kafka has no limit.
const AUTO_CREATED_TOPICS_MAX: usize = 1_000;

pub(super) async fn handle(context: RequestContext, request: MetadataRequest) -> MetadataResponse {
    let broker = &context.broker;
    let mut wanted = Wanted::of(&context, &request);
    let mut describable = match wanted {
        Wanted::All => context.topics_quietly(AclOperation::Describe),
        _ => context.topics(AclOperation::Describe),
    };
    let mut hidden = wanted.keep_allowed(&context, &mut describable);
    if broker.catalog.is_shared() && wanted.lacks_something(&broker.catalog.read()) {
        broker.freshness.catch_up().await;
    }
    if let Wanted::Names(names) = &mut wanted
        && request.allow_auto_topic_creation
    {
        hidden.extend(auto_create(&context, names).await);
    }

    let state = broker.catalog.read();
    let seen = Seen {
        state: &state,
        nodes: broker.nodes(&state, &context.connection.listener),
        replicas: state.replicas(),
        version: context.api_version,
    };
    let mut response = MetadataResponse {
        cluster_id: Some(state.cluster_id().clone()),
        controller_id: broker.controller_id(&state),
        ..MetadataResponse::default()
    };
    response.topics = match &wanted {
        Wanted::Invalid => {
            let topics = request.topics.iter().flatten();
            // These versions have no null to answer with.
            let refuse = |name: &Option<Str>, id| {
                refused(ErrorCode::InvalidRequest, Some(name.clone().unwrap_or_default()), id)
            };
            topics.map(|topic| refuse(&topic.name, topic.topic_id)).collect()
        }
        Wanted::All => {
            let shown = state.topics().filter(|topic| describable.allows(&state, &topic.name));
            shown.map(|topic| seen.topic(topic)).collect()
        }
        Wanted::Names(names) => names.iter().map(|name| seen.named(name)).collect(),
        Wanted::Ids(ids) => ids.iter().map(|id| seen.with_id(*id, &mut describable)).collect(),
    };
    response.brokers = seen.nodes.into_iter().map(broker_response).collect();
    if request.include_topic_authorized_operations {
        let rights = context.rights(&state);
        for topic in &mut response.topics {
            // Of an id that nobody knows, or that is not for the caller, there is no name.
            let Some(name) = topic.name.as_ref() else { continue };
            topic.topic_authorized_operations = rights.operations(Resource::Topic(name));
        }
    }
    response.topics.extend(hidden);
    response.cluster_authorized_operations =
        context.cluster_operations_if(request.include_cluster_authorized_operations);
    response
}

/// Which topics are asked for, each once.
enum Wanted {
    All,
    Names(BTreeSet<Str>),
    Ids(BTreeSet<Uuid>),
    /// Null names or topic ids in a version that has neither.
    Invalid,
}

impl Wanted {
    fn of(context: &RequestContext, request: &MetadataRequest) -> Wanted {
        let Some(topics) = &request.topics else { return Wanted::All };
        if topics.is_empty() && context.api_version == 0 {
            return Wanted::All;
        }
        let by_id = |id: Uuid| !id.is_zero();
        let is_invalid = topics.iter().any(|topic| topic.name.is_none() || by_id(topic.topic_id));
        if is_invalid && context.api_version < TOPIC_IDS_IN_REQUEST_SINCE {
            return Wanted::Invalid;
        }
        let ids: BTreeSet<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| by_id(*id)).collect();
        if !ids.is_empty() {
            return Wanted::Ids(ids);
        }
        Wanted::Names(topics.iter().filter_map(|topic| topic.name.clone()).collect())
    }

    /// Takes out the names of which the caller may know nothing, not even whether there is such a topic; what the answer says of them.
    /// Ids are looked at when it is known whose they are.
    fn keep_allowed(
        &mut self,
        context: &RequestContext,
        describable: &mut TopicRights<'_>,
    ) -> Vec<MetadataResponseTopic> {
        let Wanted::Names(names) = self else { return Vec::new() };
        let state = context.broker.catalog.read();
        let mut hidden = Vec::new();
        names.retain(|name| {
            let is_allowed = describable.allows(&state, name);
            if !is_allowed {
                hidden.push(MetadataResponseTopic {
                    is_internal: false,
                    ..refused(ErrorCode::TopicAuthorizationFailed, Some(name.clone()), Uuid::ZERO)
                });
            }
            is_allowed
        });
        hidden
    }

    /// A topic, or the leader of a partition.
    fn lacks_something(&self, state: &State) -> bool {
        let leaders: BTreeSet<i32> = state.live_brokers().map(|broker| broker.node_id).collect();
        let is_whole =
            |topic: &Arc<Topic>| topic.partitions.iter().all(|info| leaders.contains(&info.leader));
        match self {
            Wanted::All => !state.topics().all(is_whole),
            Wanted::Names(names) => !names.iter().all(|name| match state.topic(name) {
                Some(topic) => is_whole(topic),
                None => topic_name::validate(name).is_err(),
            }),
            Wanted::Ids(ids) => !ids.iter().all(|id| state.topic_by_id(*id).is_some_and(is_whole)),
            Wanted::Invalid => false,
        }
    }
}

/// Makes those that are missing. What the caller may not make is taken out; what the answer says of it.
async fn auto_create(context: &RequestContext, names: &mut BTreeSet<Str>) -> Vec<MetadataResponseTopic> {
    let broker = &context.broker;
    let mut hidden = Vec::new();
    let mut planned: Vec<_> = {
        let state = broker.catalog.read();
        if !names.iter().any(|name| state.topic(name).is_none()) {
            return hidden;
        }
        if !broker.configs.broker(&state).auto_create_topics_enable() {
            return hidden;
        }
        let rights = context.rights(&state);
        if !rights.may(AclOperation::Create, Resource::Cluster) {
            names.retain(|name| {
                let may_be = state.topic(name).is_some()
                    || rights.authorize(AclOperation::Create, Resource::Topic(name)).is_ok();
                if !may_be {
                    hidden.push(refused(ErrorCode::TopicAuthorizationFailed, Some(name.clone()), Uuid::ZERO));
                }
                may_be
            });
        }
        let missing = names.iter().filter(|name| state.topic(name).is_none());
        // What cannot be planned (a bad name) says so in its own entry of the answer.
        missing
            .filter(|name| !topic_name::is_internal(name) && **name != topic_name::CLUSTER_METADATA)
            .take(AUTO_CREATED_TOPICS_MAX)
            .filter_map(|name| broker.topics.plan(&state, &NewTopic::with_defaults(name.clone())).ok())
            .collect()
    };
    // Whoever has used up its quota of changes does not get more of them in this way: what is not made is unknown, and asked for again.
    let mut mutations = context.mutations(STRICT_SINCE);
    planned.retain(|topic| mutations.take(topic.partition_count as usize).is_ok());
    let made = broker.topics.create(&planned).await;
    broker.tell_others().await;
    for (topic, result) in planned.iter().zip(made) {
        match result {
            Ok(()) => tracing::info!(topic = %topic.name, "topic created because a client asked for it"),
            Err(error) => tracing::warn!(topic = %topic.name, error = ?error, "auto-creation failed"),
        }
    }
    hidden
}

fn broker_response(node: Node) -> MetadataResponseBroker {
    MetadataResponseBroker { node_id: node.id, host: node.host, port: node.port, rack: node.rack }
}

/// The cluster as the client of one listener is shown it.
struct Seen<'a> {
    state: &'a State,
    nodes: Nodes,
    replicas: Replicas<'a>,
    version: i16,
}

impl Seen<'_> {
    fn named(&self, name: &Str) -> MetadataResponseTopic {
        match self.state.topic(name) {
            Some(topic) => self.topic(topic),
            None => {
                let code = match topic_name::validate(name) {
                    Ok(()) => ErrorCode::UnknownTopicOrPartition,
                    Err(_) => ErrorCode::InvalidTopicException,
                };
                refused(code, Some(name.clone()), Uuid::ZERO)
            }
        }
    }

    fn with_id(&self, id: Uuid, describable: &mut TopicRights<'_>) -> MetadataResponseTopic {
        match self.state.topic_by_id(id) {
            Some(topic) if describable.allows(self.state, &topic.name) => self.topic(topic),
            Some(_) => refused(ErrorCode::TopicAuthorizationFailed, None, id),
            None => refused(ErrorCode::UnknownTopicId, None, id),
        }
    }

    fn topic(&self, topic: &Arc<Topic>) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions).map(|(index, info)| self.partition(topic, index, info));
        MetadataResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }
    }

    fn partition(
        &self,
        topic: &Topic,
        partition_index: i32,
        info: &PartitionInfo,
    ) -> MetadataResponsePartition {
        let (replicas, in_sync) = self.replicas.of(topic, info);
        let leader_id = self.nodes.or_nobody(info.leader);
        let error = match leader_id {
            NO_NODE if self.version >= LISTENER_NOT_FOUND_SINCE && self.state.is_live(info.leader) => {
                ErrorCode::ListenerNotFound
            }
            NO_NODE => ErrorCode::LeaderNotAvailable,
            _ => ErrorCode::None,
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index,
            leader_id,
            leader_epoch: info.leader_epoch,
            replica_nodes: replicas.to_vec(),
            isr_nodes: in_sync.to_vec(),
            offline_replicas: self.nodes.offline(&replicas),
            ..MetadataResponsePartition::default()
        }
    }
}

fn refused(code: ErrorCode, name: Option<Str>, topic_id: Uuid) -> MetadataResponseTopic {
    let is_internal = name.as_deref().is_some_and(topic_name::is_internal);
    MetadataResponseTopic {
        error_code: code.code(),
        name,
        topic_id,
        is_internal,
        ..MetadataResponseTopic::default()
    }
}
