//! Which member should have which tasks: Kafka's assignor `sticky`. A task stays where it is, or goes where a copy of it is, as
//! long as nobody gets more than a fair part; what is left goes to the process with the least load. Copies (standby tasks) go to
//! other processes than the task.
//!
//! Where we differ: between equals the order of ids decides, where Kafka leaves it to its hash maps.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Str;

use super::tasks::{TaskSets, Tasks};

/// The name by which Kafka knows it.
pub const NAME: &str = "sticky";

pub struct MemberSpec {
    pub process_id: Str,
    /// What it should have had until now.
    pub earlier: Arc<TaskSets>,
}

pub struct SubtopologySpec {
    pub id: Str,
    pub task_count: i32,
    pub is_stateful: bool,
}

pub struct Spec {
    /// In the order of their ids.
    pub members: Vec<MemberSpec>,
    /// In the order of their ids.
    pub subtopologies: Vec<SubtopologySpec>,
    pub standby_replicas: usize,
}

/// What each member should have, in the order of the members.
pub fn assign(spec: &Spec) -> Vec<TaskSets> {
    let mut assignment = Assignment::new(spec);
    if !spec.members.is_empty() {
        assignment.assign_active();
        assignment.assign_standby();
    }
    assignment.outcome()
}

/// (subtopology, partition), by indexes.
type Task = (usize, i32);

/// A fair part: as much as each of those gets that are not full yet.
struct Quota {
    tasks_left: usize,
    members_left: usize,
    per_member: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Quota {
        Quota { tasks_left: tasks, members_left: members, per_member: tasks.div_ceil(members.max(1)) }
    }

    /// A member has so many now. One that is full leaves the rest to the others.
    fn given(&mut self, count: usize) {
        if count == self.per_member {
            self.members_left = self.members_left.saturating_sub(1);
            self.tasks_left = self.tasks_left.saturating_sub(count);
            self.per_member = match self.members_left {
                0 => 0,
                members => self.tasks_left.div_ceil(members),
            };
        }
    }
}

struct Process {
    tasks: BTreeSet<Task>,
    /// Its members by the number of their tasks.
    members: BTreeSet<(usize, usize)>,
    task_count: usize,
}

impl Process {
    fn load(&self, index: usize) -> Load {
        Load { tasks: self.task_count, members: self.members.len(), process: index }
    }
}

/// Tasks per member.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Load {
    tasks: usize,
    members: usize,
    process: usize,
}

impl Load {
    fn by_load(&self, other: &Load) -> Ordering {
        (self.tasks * other.members).cmp(&(other.tasks * self.members))
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Load) -> Ordering {
        self.by_load(other).then(self.process.cmp(&other.process))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Load) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

struct Assignment<'a> {
    spec: &'a Spec,
    processes: Vec<Process>,
    /// Of each member.
    process_of: Vec<usize>,
    task_counts: Vec<usize>,
    active: Vec<BTreeSet<Task>>,
    standby: Vec<BTreeSet<Task>>,
    had_active: BTreeMap<Task, usize>,
    had_standby: BTreeMap<Task, Vec<usize>>,
    active_quota: Quota,
    quota: Quota,
}

impl<'a> Assignment<'a> {
    fn new(spec: &'a Spec) -> Assignment<'a> {
        let member_count = spec.members.len();
        let mut by_id: BTreeMap<&Str, usize> = BTreeMap::new();
        let mut processes: Vec<Process> = Vec::new();
        let mut process_of = Vec::with_capacity(member_count);
        let subtopology_of: BTreeMap<&Str, usize> =
            spec.subtopologies.iter().enumerate().map(|(index, one)| (&one.id, index)).collect();
        let each = |tasks: &'a Tasks| {
            let known = tasks.iter().filter_map(|(id, tasks)| Some((*subtopology_of.get(id)?, tasks)));
            let tasks = known.flat_map(|(index, tasks)| tasks.iter().map(move |task| (index, *task)));
            tasks.collect::<Vec<Task>>()
        };
        let mut had_active = BTreeMap::new();
        let mut had_standby: BTreeMap<Task, Vec<usize>> = BTreeMap::new();
        for (index, member) in spec.members.iter().enumerate() {
            let process = *by_id.entry(&member.process_id).or_insert_with(|| {
                processes.push(Process { tasks: BTreeSet::new(), members: BTreeSet::new(), task_count: 0 });
                processes.len() - 1
            });
            processes[process].members.insert((0, index));
            process_of.push(process);
            had_active.extend(each(&member.earlier.active).into_iter().map(|task| (task, index)));
            for task in each(&member.earlier.standby) {
                had_standby.entry(task).or_default().push(index);
            }
        }
        let count = |one: &SubtopologySpec| usize::try_from(one.task_count).unwrap_or(0);
        let active_count: usize = spec.subtopologies.iter().map(count).sum();
        let stateful = spec.subtopologies.iter().filter(|one| one.is_stateful);
        let standby_count = stateful.map(count).sum::<usize>() * spec.standby_replicas;
        Assignment {
            spec,
            processes,
            process_of,
            task_counts: vec![0; member_count],
            active: vec![BTreeSet::new(); member_count],
            standby: vec![BTreeSet::new(); member_count],
            had_active,
            had_standby,
            active_quota: Quota::new(active_count, member_count),
            quota: Quota::new(active_count + standby_count, member_count),
        }
    }

    fn tasks(&self, stateful_only: bool) -> Vec<Task> {
        let subtopologies = self.spec.subtopologies.iter().enumerate();
        let wanted = subtopologies.filter(|(_, one)| !stateful_only || one.is_stateful);
        wanted.flat_map(|(index, one)| (0..one.task_count).map(move |task| (index, task))).collect()
    }

    /// Gives a task to a member; says how many it has now.
    fn give(&mut self, member: usize, task: Task, is_active: bool) -> usize {
        let before = self.task_counts[member];
        let process = &mut self.processes[self.process_of[member]];
        process.members.remove(&(before, member));
        process.members.insert((before + 1, member));
        process.tasks.insert(task);
        process.task_count += 1;
        self.task_counts[member] = before + 1;
        let side = if is_active { &mut self.active } else { &mut self.standby };
        side[member].insert(task);
        before + 1
    }

    fn give_active(&mut self, member: usize, task: Task) {
        let count = self.give(member, task, true);
        self.active_quota.given(count);
        self.quota.given(count);
    }

    fn give_standby(&mut self, member: usize, task: Task) {
        let count = self.give(member, task, false);
        self.quota.given(count);
    }

    fn assign_active(&mut self) {
        // Tasks of the same partition stay together, so that goes first.
        let mut tasks = self.tasks(false);
        tasks.sort_by_key(|(subtopology, partition)| (*partition, *subtopology));
        tasks.retain(|task| match self.had_active.get(task).copied() {
            Some(member) if self.task_counts[member] < self.active_quota.per_member => {
                self.give_active(member, *task);
                false
            }
            _ => true,
        });
        tasks.retain(|task| match self.least_loaded(*task, false) {
            Some(member) if self.task_counts[member] < self.active_quota.per_member => {
                self.give_active(member, *task);
                false
            }
            _ => true,
        });
        tasks.sort_unstable();
        let mut by_load = self.by_load();
        for task in tasks {
            let least = by_load.pop_first().expect("there is a process with a member");
            let (_, member) = *self.processes[least.process].members.first().expect("has a member");
            self.give_active(member, task);
            by_load.insert(self.processes[least.process].load(least.process));
        }
    }

    fn assign_standby(&mut self) {
        let replicas = self.spec.standby_replicas;
        if replicas == 0 {
            return;
        }
        let mut tasks = self.tasks(true);
        tasks.sort_by_key(|(subtopology, partition)| std::cmp::Reverse((*partition, *subtopology)));
        let mut left: Vec<(Task, usize)> = Vec::new();
        for task in tasks {
            for given in 0..replicas {
                match self.standby_from_before(task) {
                    Some(member) => self.give_standby(member, task),
                    None => {
                        left.push((task, replicas - given));
                        break;
                    }
                }
            }
        }
        left.sort_by_key(|(task, _)| std::cmp::Reverse(*task));
        let mut by_load = self.by_load();
        for (task, replicas) in left {
            for _ in 0..replicas {
                let without = by_load.iter().find(|load| !self.processes[load.process].tasks.contains(&task));
                // Every process has it: there are too few of them.
                let Some(least) = without.copied() else { break };
                by_load.remove(&least);
                let (_, member) = *self.processes[least.process].members.first().expect("has a member");
                self.give_standby(member, task);
                by_load.insert(self.processes[least.process].load(least.process));
            }
        }
    }

    /// Who has the state of a task already and may keep a copy of it.
    fn standby_from_before(&self, task: Task) -> Option<usize> {
        let has_room = |member: &usize| self.task_counts[*member] < self.quota.per_member;
        let is_free = |member: &usize| !self.processes[self.process_of[*member]].tasks.contains(&task);
        let active = self.had_active.get(&task).copied();
        let active = active.filter(is_free).filter(has_room);
        active.or_else(|| self.least_loaded(task, true).filter(has_room))
    }

    /// Of those that had a copy of a task the one with the least load, whose process may have to be without it.
    fn least_loaded(&self, task: Task, must_be_without: bool) -> Option<usize> {
        let had = self.had_standby.get(&task)?.iter().copied();
        let may = had.filter(|member| {
            !must_be_without || !self.processes[self.process_of[*member]].tasks.contains(&task)
        });
        let load = |member: usize| {
            let process = self.process_of[member];
            self.processes[process].load(process)
        };
        may.min_by(|left, right| {
            let of_process = load(*left).by_load(&load(*right));
            of_process.then(self.task_counts[*left].cmp(&self.task_counts[*right]))
        })
    }

    fn by_load(&self) -> BTreeSet<Load> {
        self.processes.iter().enumerate().map(|(index, process)| process.load(index)).collect()
    }

    fn outcome(self) -> Vec<TaskSets> {
        let spec = self.spec;
        let named = |tasks: BTreeSet<Task>| {
            let mut named = Tasks::new();
            for (subtopology, task) in tasks {
                named.entry(spec.subtopologies[subtopology].id.clone()).or_default().insert(task);
            }
            named
        };
        let both = self.active.into_iter().zip(self.standby);
        let sets = both.map(|(active, standby)| TaskSets {
            active: named(active),
            standby: named(standby),
            warmup: Tasks::new(),
        });
        sets.collect()
    }
}
