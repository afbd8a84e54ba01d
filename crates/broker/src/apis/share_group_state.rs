//! What the five APIs about the state of share partitions have in common: the right to act for the cluster, one answer for each
//! partition, gathered by topic.

use std::collections::BTreeMap;

use catalog::acl::AclOperation;
use protocol::{ErrorCode, Str, Uuid};

use crate::authorizer::Resource;
use crate::request::RequestContext;
use crate::share_coordinator::{Answer, Question};

/// By topic, in the order of the request as far as a topic stands in it once.
pub(super) async fn answered(
    context: &RequestContext,
    group: &Str,
    questions: Vec<Question>,
) -> Vec<(Uuid, Vec<(i32, Answer)>)> {
    let places: Vec<(Uuid, i32)> =
        questions.iter().map(|(topic, partition, _)| (*topic, *partition)).collect();
    let refuse = |error: ErrorCode| places.iter().map(|_| Err(error.into())).collect::<Vec<Answer>>();
    let may = context.authorize(AclOperation::ClusterAction, Resource::Cluster);
    let answers = match may {
        Err(error) => refuse(error),
        Ok(()) if group.is_empty() => refuse(ErrorCode::InvalidRequest),
        Ok(()) if places.len() > context.broker.limits.request_partitions_max => {
            refuse(ErrorCode::InvalidRequest)
        }
        Ok(()) => context.broker.share_coordinator.ask_here(group, questions).await,
    };
    let mut order: Vec<Uuid> = Vec::new();
    let mut by_topic: BTreeMap<Uuid, Vec<(i32, Answer)>> = BTreeMap::new();
    for ((topic, partition), answer) in places.into_iter().zip(answers) {
        if !by_topic.contains_key(&topic) {
            order.push(topic);
        }
        by_topic.entry(topic).or_default().push((partition, answer));
    }
    order.into_iter().map(|topic| (topic, by_topic.remove(&topic).unwrap_or_default())).collect()
}

pub(super) fn error_code(answer: &Answer) -> i16 {
    answer.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.error).code()
}

pub(super) fn message(answer: &Answer) -> Option<Str> {
    answer.as_ref().err().and_then(|refusal| refusal.message.clone())
}
