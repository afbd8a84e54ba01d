//! DeleteTopics (key 20), versions 1–6.
//!
//! By name, or from version 6 on by id. When the answer leaves, the topic is gone from the catalog and its records
//! are no longer read; offsets that groups committed for it go as well. `delete.topic.enable=false` refuses all:
//! INVALID_REQUEST before version 3, TOPIC_DELETION_DISABLED since. A topic named twice, by whichever of its names,
//! is refused.
//!
//! Difference: internal topics cannot be deleted (TOPIC_AUTHORIZATION_FAILED); Kafka lets whoever has the right do it, and its
//! coordinators lose their state.
//!
//! 4: flexible · 5: error messages (KIP-599) · 6: topic ids (KIP-516).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::Topic;
use catalog::acl::AclOperation;
use futures_util::future::join_all;
use protocol::messages::delete_topics_response::DeletableTopicResult;
use protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::Resource;
use crate::error::ApiError;
use crate::request::RequestContext;

const BY_ID_SINCE: i16 = 6;
/// Clients of older versions do not know THROTTLING_QUOTA_EXCEEDED: they are only made to wait.
const THROTTLED_SINCE: i16 = 5;
const DELETION_DISABLED_SINCE: i16 = 3;

pub(super) async fn handle(context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let broker = &context.broker;
    let mut named = Named::default();
    for name in &request.topic_names {
        named.add_name(name.clone());
    }
    for topic in &request.topics {
        match (&topic.name, topic.topic_id) {
            (None, Uuid::ZERO) => named.refuse(None, Uuid::ZERO, "a topic needs a name or an id"),
            (None, id) => named.add_id(id),
            (Some(name), Uuid::ZERO) => named.add_name(name.clone()),
            (Some(name), id) => {
                named.refuse(Some(name.clone()), id, "a topic is named by name or by id, not both")
            }
        }
    }
    if !named.are_known(&broker.catalog.read()) {
        broker.freshness.catch_up().await;
    }
    let (topics, mut responses) = {
        let state = broker.catalog.read();
        if !broker.configs.broker(&state).delete_topic_enable() {
            let code = match context.api_version < DELETION_DISABLED_SINCE {
                true => ErrorCode::InvalidRequest,
                false => ErrorCode::TopicDeletionDisabled,
            };
            (Vec::new(), named.refuse_all(code))
        } else {
            named.resolve(&context, &state)
        }
    };
    let until = broker.clock.monotonic() + Duration::from_millis(request.timeout_ms.max(0) as u64);
    let mut mutations = context.mutations(THROTTLED_SINCE);
    let mut throttled = Vec::new();
    let topics: Vec<Arc<Topic>> = topics
        .into_iter()
        .filter(|topic| match mutations.take(topic.partitions.len()) {
            Ok(()) => true,
            Err(error) => {
                throttled.push(response(Some(topic.name.clone()), topic.id, error));
                false
            }
        })
        .collect();
    responses.extend(throttled);
    let delete = async |topic: &Arc<Topic>| match topic.internal {
        true => Err(ApiError::new(ErrorCode::TopicAuthorizationFailed, "internal topics cannot be deleted")),
        false => broker.topics.delete(topic).await,
    };
    // At once, so that they share commits.
    let results = join_all(topics.iter().map(delete)).await;
    let mut deleted = Vec::new();
    for (topic, result) in topics.into_iter().zip(results) {
        match result {
            Ok(position) => {
                broker.groups.topic_deleted(&topic).await;
                broker.share_coordinator.topics_deleted();
                broker.sharing.follow_catalog();
                tracing::info!(topic = %topic.name, id = %topic.id, "topic deleted");
                deleted.push((topic, position));
            }
            Err(error) => responses.push(response(Some(topic.name.clone()), topic.id, error)),
        }
    }
    // A broker that still leads one of them would take records of a topic of the same name that is made next.
    let last = deleted.iter().map(|(_, position)| *position).max();
    let result = match last {
        Some(last)
            if !world::broken::rule("recreate-same-name")
                && !broker.applied_everywhere(last, until).await =>
        {
            ErrorCode::RequestTimedOut.into()
        }
        _ => ApiError::NONE,
    };
    let deleted = deleted.into_iter();
    responses.extend(deleted.map(|(topic, _)| response(Some(topic.name.clone()), topic.id, result.clone())));
    if context.api_version < BY_ID_SINCE {
        for response in &mut responses {
            response.name.get_or_insert_default();
        }
    }
    let throttle_time_ms = mutations.throttle_time_ms();
    DeleteTopicsResponse { throttle_time_ms, responses }
}

/// What a request names, each once; repeated names are refused as a whole.
#[derive(Default)]
struct Named {
    names: BTreeMap<Str, u32>,
    ids: BTreeMap<Uuid, u32>,
    responses: Vec<DeletableTopicResult>,
}

impl Named {
    fn are_known(&self, state: &catalog::State) -> bool {
        self.names.keys().all(|name| state.topic(name).is_some())
            && self.ids.keys().all(|id| state.topic_by_id(*id).is_some())
    }

    fn add_name(&mut self, name: Str) {
        *self.names.entry(name).or_default() += 1;
    }

    fn add_id(&mut self, id: Uuid) {
        *self.ids.entry(id).or_default() += 1;
    }

    fn refuse(&mut self, name: Option<Str>, id: Uuid, message: &'static str) {
        let error = ApiError::new(ErrorCode::InvalidRequest, message);
        self.responses.push(response(name, id, error));
    }

    fn refuse_all(mut self, code: ErrorCode) -> Vec<DeletableTopicResult> {
        let names = self.names.into_keys().map(|name| response(Some(name), Uuid::ZERO, code.into()));
        self.responses.extend(names);
        self.responses.extend(self.ids.into_keys().map(|id| response(None, id, code.into())));
        self.responses
    }

    /// Whoever may delete topics of the cluster may delete all of them. A topic that the caller may not describe is refused by the word
    /// that he has for it, whether it exists or not.
    fn resolve(
        mut self,
        context: &RequestContext,
        state: &catalog::State,
    ) -> (Vec<Arc<Topic>>, Vec<DeletableTopicResult>) {
        let rights = context.rights(state);
        let may_delete_all = rights.may(AclOperation::Delete, Resource::Cluster);
        let may_describe =
            |name: &str| may_delete_all || rights.may(AclOperation::Describe, Resource::Topic(name));
        let delete = |name: &str| match may_delete_all {
            true => Ok(()),
            false => rights.authorize(AclOperation::Delete, Resource::Topic(name)),
        };
        let mut topics: BTreeMap<Uuid, Arc<Topic>> = BTreeMap::new();
        let mut taken: BTreeSet<Uuid> = BTreeSet::new();
        for (id, times) in std::mem::take(&mut self.ids) {
            match state.topic_by_id(id) {
                _ if times > 1 => {
                    taken.insert(id);
                    self.refuse(None, id, "the topic id stands in the request more than once");
                }
                Some(topic) => match delete(&topic.name) {
                    Ok(()) => drop(topics.insert(id, topic.clone())),
                    Err(code) => {
                        let name = may_describe(&topic.name).then(|| topic.name.clone());
                        self.responses.push(response(name, id, code.into()));
                    }
                },
                None => self.responses.push(response(None, id, ErrorCode::UnknownTopicId.into())),
            }
        }
        for (name, times) in std::mem::take(&mut self.names) {
            if times > 1 {
                let message = "the topic name stands in the request more than once";
                self.refuse(Some(name), Uuid::ZERO, message);
                continue;
            }
            let described = match may_delete_all {
                true => Ok(()),
                false => rights.authorize(AclOperation::Describe, Resource::Topic(&name)),
            };
            let found = described.and_then(|()| {
                let topic = state.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                delete(&name).map(|()| topic)
            });
            match found {
                Err(code) => self.responses.push(response(Some(name), Uuid::ZERO, code.into())),
                Ok(topic) if taken.contains(&topic.id) || topics.contains_key(&topic.id) => {
                    topics.remove(&topic.id);
                    taken.insert(topic.id);
                    self.refuse(Some(name), topic.id, "the topic is named by its name and by its id");
                }
                Ok(topic) => drop(topics.insert(topic.id, topic.clone())),
            }
        }
        (topics.into_values().collect(), self.responses)
    }
}

fn response(name: Option<Str>, topic_id: Uuid, error: ApiError) -> DeletableTopicResult {
    DeletableTopicResult { name, topic_id, error_code: error.code.code(), error_message: error.message }
}
