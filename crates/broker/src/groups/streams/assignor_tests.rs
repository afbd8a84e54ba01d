//! Who gets which task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::Str;

use super::assignor::{MemberSpec, Spec, SubtopologySpec, assign};
use super::tasks::{TaskSets, Tasks};

fn subtopology(id: &str, task_count: i32, is_stateful: bool) -> SubtopologySpec {
    SubtopologySpec { id: id.into(), task_count, is_stateful }
}

fn member(process_id: &str) -> MemberSpec {
    MemberSpec { process_id: process_id.into(), earlier: Arc::default() }
}

fn spec(members: Vec<MemberSpec>, subtopologies: Vec<SubtopologySpec>, standby_replicas: usize) -> Spec {
    Spec { members, subtopologies, standby_replicas }
}

/// The same members with what they were given.
fn again(spec: Spec, given: Vec<TaskSets>) -> Spec {
    let members = spec.members.into_iter().zip(given);
    let members = members.map(|(member, given)| MemberSpec { earlier: Arc::new(given), ..member }).collect();
    Spec { members, ..spec }
}

fn count(tasks: &Tasks) -> usize {
    tasks.values().map(BTreeSet::len).sum()
}

#[test]
fn tasks_of_one_subtopology_are_spread_and_those_of_a_partition_go_together_at_first() {
    let given = assign(&spec(
        vec![member("p"), member("q")],
        vec![subtopology("0", 2, false), subtopology("1", 2, true)],
        0,
    ));
    for one in &given {
        assert_eq!((count(&one.active), count(&one.standby)), (2, 0));
        assert_eq!(one.active["0"], one.active["1"], "one partition for each");
    }
}

#[test]
fn a_task_stays_where_it_is() {
    let first = spec(vec![member("p"), member("q"), member("r")], vec![subtopology("0", 7, true)], 0);
    let given = assign(&first);
    let second = again(first, given.clone());
    assert_eq!(assign(&second), given);
    // One more member: nothing goes to another but to it.
    let mut third = again(second, given.clone());
    third.members.push(member("s"));
    let grown = assign(&third);
    for (before, after) in given.iter().zip(&grown) {
        let kept = &after.active["0"];
        assert!(kept.is_subset(&before.active["0"]));
        assert!(!kept.is_empty());
    }
    assert!(count(&grown[3].active) >= 1);
}

#[test]
fn a_copy_is_in_another_process_and_takes_over() {
    let first = spec(vec![member("p"), member("q")], vec![subtopology("0", 4, true)], 1);
    let given = assign(&first);
    for one in &given {
        assert_eq!((count(&one.active), count(&one.standby)), (2, 2));
        assert!(one.active["0"].is_disjoint(&one.standby["0"]));
    }
    // The other process is gone: everything is where its copy was, and there is no place for another copy.
    let mut second = again(first, given.clone());
    second.members.pop();
    let alone = assign(&second);
    assert_eq!(count(&alone[0].active), 4);
    assert_eq!(count(&alone[0].standby), 0);
}

#[test]
fn a_process_with_more_members_has_more_tasks() {
    let members = vec![member("p"), member("p"), member("p"), member("q")];
    let given = assign(&spec(members, vec![subtopology("0", 8, false)], 0));
    let counts: Vec<usize> = given.iter().map(|one| count(&one.active)).collect();
    assert_eq!(counts, [2, 2, 2, 2]);
}

#[test]
fn tasks_without_state_have_no_copies() {
    let given = assign(&spec(vec![member("p"), member("q")], vec![subtopology("0", 4, false)], 2));
    assert!(given.iter().all(|one| one.standby.is_empty()));
}

#[test]
fn what_is_not_in_the_topology_any_more_is_forgotten() {
    let earlier = TaskSets { active: [(Str::from("gone"), [0].into())].into(), ..TaskSets::default() };
    let members = vec![MemberSpec { process_id: "p".into(), earlier: Arc::new(earlier) }];
    let given = assign(&spec(members, vec![subtopology("0", 1, false)], 0));
    assert_eq!(given[0].active, [(Str::from("0"), BTreeSet::from([0]))].into());
}

#[test]
fn nobody_is_no_problem() {
    assert!(assign(&spec(Vec::new(), vec![subtopology("0", 3, true)], 1)).is_empty());
    assert_eq!(assign(&spec(vec![member("p")], Vec::new(), 1)), [TaskSets::default()]);
}

proptest! {
    /// Whatever came before: each task is with one member, its copies are with other processes, as many as there can be, and
    /// nobody has much more than others.
    #[test]
    fn every_task_is_given_once(
        processes in prop::collection::vec(0..4usize, 1..8),
        rounds in prop::collection::vec((prop::collection::vec((1..6i32, any::<bool>()), 1..4), 0..3usize, 0..8usize), 1..4),
    ) {
        let names = ["p", "q", "r", "s"];
        let mut members: Vec<MemberSpec> = processes.iter().map(|process| member(names[*process])).collect();
        for (shapes, replicas, leaves) in rounds {
            if members.len() > 1 {
                members.remove(leaves % members.len());
            }
            let subtopologies: Vec<SubtopologySpec> = shapes
                .iter()
                .enumerate()
                .map(|(number, (tasks, stateful))| subtopology(&number.to_string(), *tasks, *stateful))
                .collect();
            let made = spec(members, subtopologies, replicas);
            let given = assign(&made);
            let mut at: BTreeMap<(Str, i32), Vec<Str>> = BTreeMap::new();
            for (member, tasks) in made.members.iter().zip(&given) {
                for (id, tasks) in tasks.active.iter() {
                    for task in tasks {
                        at.entry((id.clone(), *task)).or_default().push(member.process_id.clone());
                    }
                }
            }
            prop_assert!(at.values().all(|owners| owners.len() == 1));
            let all: i32 = shapes.iter().map(|(tasks, _)| tasks).sum();
            prop_assert_eq!(at.len() as i32, all);
            for (member, tasks) in made.members.iter().zip(&given) {
                for (id, tasks) in tasks.standby.iter() {
                    for task in tasks {
                        at.get_mut(&(id.clone(), *task)).unwrap().push(member.process_id.clone());
                    }
                }
            }
            let there: BTreeSet<&Str> = made.members.iter().map(|member| &member.process_id).collect();
            for ((id, _), processes) in &at {
                let stateful = shapes[id.parse::<usize>().unwrap()].1;
                let wanted = 1 + if stateful { replicas.min(there.len() - 1) } else { 0 };
                prop_assert_eq!(processes.len(), wanted);
                let distinct: BTreeSet<&Str> = processes.iter().collect();
                prop_assert_eq!(distinct.len(), wanted, "twice in one process");
            }
            let most = given.iter().map(|one| count(&one.active)).max().unwrap();
            prop_assert!(most <= (all as usize).div_ceil(made.members.len()) + 1, "{} of {}", most, all);
            members = again(made, given).members;
        }
    }
}
