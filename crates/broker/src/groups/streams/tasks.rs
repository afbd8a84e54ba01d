//! Sets of tasks, in the forms that groups have them in. A task is a part of the topology (a subtopology) and the number of the
//! partitions that it reads.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Str;

/// Tasks by subtopology. A subtopology without tasks does not stand in it.
pub type Tasks = BTreeMap<Str, BTreeSet<i32>>;

/// Tasks by subtopology, each with the epoch in which its member got it.
pub type DatedTasks = BTreeMap<Str, BTreeMap<i32, i32>>;

/// What a member should have, or says it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskSets {
    /// It reads and writes.
    pub active: Tasks,
    /// It keeps a copy of the state of another member's task.
    pub standby: Tasks,
    /// It makes such a copy, to take the task over.
    pub warmup: Tasks,
}

/// What a member has been given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldTasks {
    pub active: DatedTasks,
    pub standby: Tasks,
    pub warmup: Tasks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Active,
    /// Standby or warm-up.
    Copy,
}

pub fn each(tasks: &Tasks) -> impl Iterator<Item = (&Str, i32)> {
    tasks.iter().flat_map(|(id, tasks)| tasks.iter().map(move |task| (id, *task)))
}

impl HeldTasks {
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// The same without epochs.
    pub fn sets(&self) -> TaskSets {
        let active = self.active.iter().map(|(id, tasks)| (id.clone(), tasks.keys().copied().collect()));
        TaskSets { active: active.collect(), standby: self.standby.clone(), warmup: self.warmup.clone() }
    }

    pub fn each(&self) -> impl Iterator<Item = (Role, &Str, i32)> + '_ {
        let active = self.active.iter().flat_map(|(id, tasks)| {
            let tasks = tasks.keys();
            tasks.map(move |task| (Role::Active, id, *task))
        });
        let copies = each(&self.standby).chain(each(&self.warmup));
        active.chain(copies.map(|(id, task)| (Role::Copy, id, task)))
    }

    /// It has this task in no role any more.
    pub fn remove(&mut self, subtopology: &str, task: i32) {
        if let Some(tasks) = self.active.get_mut(subtopology) {
            tasks.remove(&task);
        }
        self.active.retain(|_, tasks| !tasks.is_empty());
        for copies in [&mut self.standby, &mut self.warmup] {
            if let Some(tasks) = copies.get_mut(subtopology) {
                tasks.remove(&task);
            }
            copies.retain(|_, tasks| !tasks.is_empty());
        }
    }

    /// The epoch in which an active task was got, if it is there.
    pub fn epoch_of(&self, subtopology: &str, task: i32) -> Option<i32> {
        self.active.get(subtopology)?.get(&task).copied()
    }

    /// Whether a member that says it has `owned` has any of these.
    pub fn has_any_of(&self, owned: &TaskSets) -> bool {
        let in_active =
            |(id, tasks): (&Str, &BTreeSet<i32>)| tasks.iter().any(|task| self.epoch_of(id, *task).is_some());
        owned.active.iter().any(in_active)
            || shares(&self.standby, &owned.standby)
            || shares(&self.warmup, &owned.warmup)
    }

    /// Whether a member that says it has `owned` has nothing beside these.
    pub fn has_all_of(&self, owned: &TaskSets) -> bool {
        let in_active =
            |(id, tasks): (&Str, &BTreeSet<i32>)| tasks.iter().all(|task| self.epoch_of(id, *task).is_some());
        owned.active.iter().all(in_active)
            && contains(&self.standby, &owned.standby)
            && contains(&self.warmup, &owned.warmup)
    }
}

fn shares(left: &Tasks, right: &Tasks) -> bool {
    right.iter().any(|(id, tasks)| left.get(id).is_some_and(|left| !left.is_disjoint(tasks)))
}

fn contains(all: &Tasks, some: &Tasks) -> bool {
    some.iter().all(|(id, tasks)| tasks.is_empty() || all.get(id).is_some_and(|all| all.is_superset(tasks)))
}
