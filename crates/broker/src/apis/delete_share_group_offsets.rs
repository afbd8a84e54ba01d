//! DeleteShareGroupOffsets v0: an empty share group forgets topics (KIP-932). When it comes to one of them again it begins where its
//! config says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::acl::AclOperation;
use protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use protocol::messages::{DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse};
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::Resource;
use crate::groups::{Answer, ShareStatesAnswer};
use crate::request::RequestContext;
use crate::share_coordinator::{Asked, Question};

const DELETE_MAX: Duration = Duration::from_secs(10);

pub(super) async fn handle(
    context: RequestContext,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let refused = |error: ErrorCode, message: Option<Str>| DeleteShareGroupOffsetsResponse {
        error_code: error.code(),
        error_message: message,
        ..DeleteShareGroupOffsetsResponse::default()
    };
    let group = request.group_id.clone();
    if let Err(error) = context.authorize(AclOperation::Delete, Resource::Group(&group)) {
        return refused(error, None);
    }
    if group.is_empty() {
        return refused(ErrorCode::InvalidGroupId, None);
    }
    let mut outcomes: BTreeMap<Str, (ErrorCode, Option<Str>)> = BTreeMap::new();
    let mut names = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        match context.authorize(AclOperation::Read, Resource::Topic(&topic.topic_name)) {
            Ok(()) => names.push(topic.topic_name.clone()),
            Err(error) => drop(outcomes.insert(topic.topic_name.clone(), (error, None))),
        }
    }
    match delete(&context, &group, Some(&names)).await {
        Err((error, message)) => return refused(error, message),
        Ok(deleted) => outcomes.extend(deleted),
    }
    let state = context.broker.catalog.read();
    let response = |name: Str| {
        let (error, message) = outcomes.get(&name).cloned().unwrap_or((ErrorCode::None, None));
        // Kafka tells the id of what it has deleted.
        let known = state.topic(&name).filter(|_| error == ErrorCode::None);
        DeleteShareGroupOffsetsResponseTopic {
            topic_id: known.map_or(Uuid::ZERO, |topic| topic.id),
            topic_name: name,
            error_code: error.code(),
            error_message: message,
        }
    };
    DeleteShareGroupOffsetsResponse {
        responses: request.topics.into_iter().map(|topic| response(topic.topic_name)).collect(),
        ..DeleteShareGroupOffsetsResponse::default()
    }
}

type Failed = (ErrorCode, Option<Str>);

/// Deletes the states of these topics, or of all with None: here, at the share coordinator, and here once more. Gives the topics of
/// which that did not work.
pub(super) async fn delete(
    context: &RequestContext,
    group: &Str,
    topics: Option<&[Str]>,
) -> Result<Vec<(Str, Failed)>, Failed> {
    let broker = &context.broker;
    let begun = broker.groups.ask(group, |shard, reply, _, effects| {
        shard.delete_share_states(group, topics, reply, effects);
    });
    let (state_epoch, partitions, unknown) = match begun.await {
        Ok(Answer::ShareStates(ShareStatesAnswer::Delete { state_epoch, partitions, unknown })) => {
            (state_epoch, partitions, unknown)
        }
        Ok(Answer::ShareStates(ShareStatesAnswer::Refused(refusal))) => {
            return Err((refusal.error, Some(Str::from(refusal.message))));
        }
        Ok(other) => unreachable!("a deletion is answered by what goes, not {other:?}"),
        Err(error) => return Err((error, None)),
    };
    let question = |(topic, partition): &(Uuid, i32)| (*topic, *partition, Asked::Delete { state_epoch });
    let questions: Vec<Question> = partitions.iter().map(question).collect();
    let answers = broker.share_coordinator.keep_all(group, questions, DELETE_MAX).await;
    let mut failed: BTreeMap<Uuid, Failed> = BTreeMap::new();
    for ((topic, _), answer) in partitions.iter().zip(answers) {
        match answer {
            // The topic has gone meanwhile, and took its states with it.
            Err(refusal) if refusal.error != ErrorCode::UnknownTopicOrPartition => {
                failed.insert(*topic, (refusal.error, refusal.message));
            }
            _ => {}
        }
    }
    let done: BTreeSet<Uuid> =
        partitions.iter().map(|(topic, _)| *topic).filter(|topic| !failed.contains_key(topic)).collect();
    let told = broker.groups.ask(group, |shard, reply, _, effects| {
        shard.share_states_deleted(group, &done, reply, effects);
    });
    told.await.map_err(|error| (error, None))?;
    let state = broker.catalog.read();
    let name = |topic: Uuid| state.topic_by_id(topic).map(|topic| topic.name.clone());
    let failed = failed.into_iter().filter_map(|(topic, failed)| Some((name(topic)?, failed)));
    let nothing = || Some(Str::from_static("There is no offset information to delete."));
    // Of a whole group whatever there is goes, and what is gone already is no failure.
    let unknown = unknown.into_iter().filter(|_| topics.is_some());
    let unknown = unknown.map(|name| (name, (ErrorCode::UnknownTopicOrPartition, nothing())));
    Ok(failed.chain(unknown).collect())
}
