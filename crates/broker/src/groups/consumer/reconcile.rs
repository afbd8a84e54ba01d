//! The way of one member to what it should have: what must go first goes, then comes what nobody else has any more.
//!
//! ```text
//!   Stable ──new target──▶ Unrevoked ──the member no longer has it──▶ Unreleased ──others gave it up──▶ Stable
//! ```
//!
//! Between two members a partition is free for a moment and never with both. Kafka: `CurrentAssignmentBuilder`.

use std::collections::BTreeSet;

use protocol::Uuid;

use super::assignment::{Assigned, Partitions, epoch_of};
use super::member::{MemberState, Progress};

pub struct Reconciliation<'a> {
    pub progress: &'a Progress,
    pub target_epoch: i32,
    pub target: &'a Partitions,
    /// Topics it subscribes to now. It must give up those of others whatever the target says.
    pub subscribed: &'a BTreeSet<Uuid>,
    pub has_subscription_changed: bool,
    /// What it says it has. None: as it said before.
    pub owned: Option<&'a Partitions>,
    pub is_held_by_another: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Reconciliation<'_> {
    /// None: the member stays as it is.
    pub fn next(&self) -> Option<Progress> {
        let progress = self.progress;
        let next = match progress.state {
            MemberState::Stable if progress.epoch != self.target_epoch => self.advance(progress.epoch),
            MemberState::Stable if self.has_subscription_changed => return self.give_up_unsubscribed(),
            MemberState::Stable => return None,
            MemberState::Unrevoked if self.still_has(&progress.pending_revocation) => {
                return self.has_subscription_changed.then(|| self.give_up_unsubscribed()).flatten();
            }
            MemberState::Unrevoked | MemberState::Unreleased => self.advance(progress.epoch),
            MemberState::Unknown => self.advance(self.target_epoch),
        };
        (next != *progress).then_some(next)
    }

    fn still_has(&self, given_up: &Assigned) -> bool {
        let Some(owned) = self.owned else { return true };
        let is_given_up = |topic: &Uuid, partition: &i32| epoch_of(given_up, *topic, *partition).is_some();
        owned.iter().any(|(topic, partitions)| partitions.iter().any(|one| is_given_up(topic, one)))
    }

    /// The target has not changed, or is not looked at yet; topics that the member dropped go all the same.
    fn give_up_unsubscribed(&self) -> Option<Progress> {
        let dropped = |topic: &Uuid| !self.subscribed.contains(topic);
        if !self.progress.assigned.keys().any(dropped) {
            return None;
        }
        let mut next = self.progress.moved_to(self.progress.epoch);
        let (gone, kept): (Assigned, Assigned) =
            std::mem::take(&mut next.assigned).into_iter().partition(|(topic, _)| dropped(topic));
        next.assigned = kept;
        for (topic, partitions) in gone {
            next.pending_revocation.entry(topic).or_default().extend(partitions);
        }
        match self.still_has(&next.pending_revocation) {
            true => next.state = MemberState::Unrevoked,
            false => next.pending_revocation = Assigned::new(),
        }
        Some(next)
    }

    fn advance(&self, epoch: i32) -> Progress {
        let progress = self.progress;
        let is_target = |topic: &Uuid, partition: &i32| {
            self.subscribed.contains(topic)
                && self.target.get(topic).is_some_and(|partitions| partitions.contains(partition))
        };
        let (mut assigned, mut revoked) = (Assigned::new(), Assigned::new());
        for (topic, partitions) in &progress.assigned {
            for (partition, epoch) in partitions {
                let side = if is_target(topic, partition) { &mut assigned } else { &mut revoked };
                side.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        if !revoked.is_empty() && self.still_has(&revoked) {
            return Progress {
                state: MemberState::Unrevoked,
                assigned,
                pending_revocation: revoked,
                ..progress.moved_to(epoch)
            };
        }
        let mut is_complete = true;
        for (topic, partitions) in self.target {
            for partition in partitions.iter().filter(|partition| is_target(topic, partition)) {
                if epoch_of(&assigned, *topic, *partition).is_some() {
                    continue;
                }
                match (self.is_held_by_another)(*topic, *partition) {
                    true => is_complete = false,
                    false => {
                        assigned.entry(*topic).or_default().insert(*partition, self.target_epoch);
                    }
                }
            }
        }
        Progress {
            state: if is_complete { MemberState::Stable } else { MemberState::Unreleased },
            assigned,
            pending_revocation: Assigned::new(),
            // The epoch may be the same: then what came before is what came before.
            ..match progress.epoch == self.target_epoch {
                true => progress.clone(),
                false => progress.moved_to(self.target_epoch),
            }
        }
    }
}
