//! The way of one member to the tasks that it should have: what must go first goes, then comes what nobody else has any more.
//!
//! ```text
//!   Stable ──new target──▶ Unrevoked ──the member no longer has it──▶ Unreleased ──others gave it up──▶ Stable
//! ```
//!
//! An active task is never with two members, and no task twice in one process. Kafka: `CurrentAssignmentBuilder`.

use std::collections::BTreeSet;

use protocol::Str;

use super::member::{MemberState, Progress};
use super::tasks::{DatedTasks, HeldTasks, Role, TaskSets, Tasks};

pub struct Reconciliation<'a> {
    pub progress: &'a Progress,
    pub target_epoch: i32,
    pub target: &'a TaskSets,
    /// What it says it has. None: as it said before.
    pub owned: Option<&'a TaskSets>,
    /// Whether another member has it in a way that this one must wait for.
    pub is_held_by_another: &'a dyn Fn(Role, &Str, i32) -> bool,
}

impl Reconciliation<'_> {
    /// None: the member stays as it is.
    pub fn next(&self) -> Option<Progress> {
        let progress = self.progress;
        let next = match progress.state {
            MemberState::Stable if progress.epoch == self.target_epoch => return None,
            MemberState::Stable | MemberState::Unreleased => self.advance(progress.epoch),
            MemberState::Unrevoked if self.still_has(&progress.pending_revocation) => return None,
            // It is told something new though it is not at the target yet.
            MemberState::Unrevoked => self.advance(progress.epoch.saturating_add(1)),
            MemberState::Unknown => self.advance(self.target_epoch),
        };
        (next != *progress).then_some(next)
    }

    fn still_has(&self, given_up: &HeldTasks) -> bool {
        self.owned.is_none_or(|owned| given_up.has_any_of(owned))
    }

    fn advance(&self, epoch: i32) -> Progress {
        let progress = self.progress;
        let (kept_active, gone_active) = split_dated(&progress.held.active, &self.target.active);
        let (kept_standby, gone_standby) = split(&progress.held.standby, &self.target.standby);
        let (kept_warmup, gone_warmup) = split(&progress.held.warmup, &self.target.warmup);
        let gone = HeldTasks { active: gone_active, standby: gone_standby, warmup: gone_warmup };
        let mut held = HeldTasks { active: kept_active, standby: kept_standby, warmup: kept_warmup };
        if !gone.is_empty() && self.still_has(&gone) {
            return Progress {
                state: MemberState::Unrevoked,
                held,
                pending_revocation: gone,
                ..progress.moved_to(epoch)
            };
        }
        let mut is_complete = true;
        let mut may_have = |role: Role, subtopology: &Str, task: i32| {
            let may = !(self.is_held_by_another)(role, subtopology, task);
            is_complete &= may;
            may
        };
        for (subtopology, tasks) in &self.target.active {
            for task in tasks {
                if held.epoch_of(subtopology, *task).is_none() && may_have(Role::Active, subtopology, *task) {
                    held.active.entry(subtopology.clone()).or_default().insert(*task, self.target_epoch);
                }
            }
        }
        take(&self.target.standby, &mut held.standby, &mut may_have);
        take(&self.target.warmup, &mut held.warmup, &mut may_have);
        Progress {
            state: if is_complete { MemberState::Stable } else { MemberState::Unreleased },
            held,
            pending_revocation: HeldTasks::default(),
            // The epoch may be the same: then what came before is what came before.
            ..match progress.epoch == self.target_epoch {
                true => progress.clone(),
                false => progress.moved_to(self.target_epoch),
            }
        }
    }
}

fn take(target: &Tasks, held: &mut Tasks, may_have: &mut dyn FnMut(Role, &Str, i32) -> bool) {
    for (subtopology, tasks) in target {
        for task in tasks {
            let has = held.get(subtopology).is_some_and(|held| held.contains(task));
            if !has && may_have(Role::Copy, subtopology, *task) {
                held.entry(subtopology.clone()).or_default().insert(*task);
            }
        }
    }
}

/// What stays, and what goes.
fn split(held: &Tasks, target: &Tasks) -> (Tasks, Tasks) {
    let (mut kept, mut gone) = (Tasks::new(), Tasks::new());
    for (subtopology, tasks) in held {
        let wanted = target.get(subtopology);
        let (stay, go): (BTreeSet<i32>, BTreeSet<i32>) =
            tasks.iter().partition(|task| wanted.is_some_and(|wanted| wanted.contains(*task)));
        if !stay.is_empty() {
            kept.insert(subtopology.clone(), stay);
        }
        if !go.is_empty() {
            gone.insert(subtopology.clone(), go);
        }
    }
    (kept, gone)
}

fn split_dated(held: &DatedTasks, target: &Tasks) -> (DatedTasks, DatedTasks) {
    let (mut kept, mut gone) = (DatedTasks::new(), DatedTasks::new());
    for (subtopology, tasks) in held {
        let wanted = target.get(subtopology);
        for (task, epoch) in tasks {
            let stays = wanted.is_some_and(|wanted| wanted.contains(task));
            let side = if stays { &mut kept } else { &mut gone };
            side.entry(subtopology.clone()).or_default().insert(*task, *epoch);
        }
    }
    (kept, gone)
}
