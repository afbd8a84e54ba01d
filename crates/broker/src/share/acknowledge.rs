//! What members say of records that they have, partition by partition.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use protocol::{ErrorCode, TopicIdPartition};

use super::in_flight::Acknowledgement;
use super::partition::Kept;
use super::{RENEW, Rules, SessionKey, Sharing};
use crate::partitions::Led;

/// What a member is told of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub error: ErrorCode,
    pub message: Option<&'static str>,
}

impl Outcome {
    pub const DONE: Outcome = Outcome { error: ErrorCode::None, message: None };
}

impl From<ErrorCode> for Outcome {
    fn from(error: ErrorCode) -> Outcome {
        Outcome { error, message: None }
    }
}

/// Handed over, in the order of the partitions; [`Acknowledged::outcomes`] waits until it is kept.
#[derive(Default)]
pub(crate) struct Acknowledged(BTreeMap<TopicIdPartition, Under>);

enum Under {
    Told(Outcome),
    Way(Kept),
}

impl Acknowledged {
    pub fn refuse(&mut self, place: TopicIdPartition, outcome: impl Into<Outcome>) {
        self.0.insert(place, Under::Told(outcome.into()));
    }

    pub async fn outcomes(self) -> BTreeMap<TopicIdPartition, Outcome> {
        let outcomes = self.0.into_iter().map(|(place, under)| async move {
            let outcome = match under {
                Under::Told(outcome) => outcome,
                Under::Way(None) => Outcome::DONE,
                Under::Way(Some(kept)) => match kept.await {
                    Ok(Ok(())) => Outcome::DONE,
                    Ok(Err(error)) => error.into(),
                    // The task that writes has ended with the broker.
                    Err(_) => ErrorCode::CoordinatorNotAvailable.into(),
                },
            };
            (place, outcome)
        });
        join_all(outcomes).await.into_iter().collect()
    }
}

impl Sharing {
    /// Hands over what a member says about one partition that is led here.
    pub fn acknowledge(
        &self,
        key: &SessionKey,
        place: TopicIdPartition,
        led: &Led,
        acknowledgements: &[Acknowledgement],
        rules: &Rules,
        acknowledged: &mut Acknowledged,
    ) {
        // Nothing was given out by this leader, then.
        let Some(share) = self.known(&key.group, place, led) else {
            return acknowledged.refuse(place, ErrorCode::UnknownTopicOrPartition);
        };
        match share.acknowledge(&key.member, acknowledgements, rules) {
            Ok(kept) => drop(acknowledged.0.insert(place, Under::Way(kept))),
            Err((error, message)) => acknowledged.refuse(place, Outcome { error, message }),
        }
    }
}

/// Whether the entries of one partition make sense. Kafka's `KafkaApis.validateAcknowledgementBatches`.
pub(crate) fn are_valid(acknowledgements: &[Acknowledgement], may_renew: bool) -> bool {
    let mut before = -1;
    acknowledgements.iter().all(|entry| {
        let Acknowledgement { first_offset, last_offset, types } = entry;
        let count = last_offset.saturating_sub(*first_offset).saturating_add(1);
        let is_valid = first_offset <= last_offset
            && *first_offset >= before
            && !types.is_empty()
            && (types.len() == 1 || count == types.len() as i64)
            && types.iter().all(|kind| (0..RENEW).contains(kind) || *kind == RENEW && may_renew);
        before = *last_offset;
        is_valid
    })
}
