//! What becomes of the states of a group's share partitions: the share coordinator has begun them, or tools begin them anew or delete
//! them. Each of these is one step here before the share coordinator is asked, and one behind it; what a broker that ended in between
//! left in the middle is taken up again by whoever asks next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{ErrorCode, Str, Uuid};

use super::event::{Initialize, ShareStatesAnswer};
use super::group::{Change, ShareGroup};
use super::states::States;
use super::{Entry, Work};
use crate::groups::consumer::{Epoch, Refusal};
use crate::groups::event::{Answer, Effects, Now, ReplyId};
use crate::groups::shard::Shard;

impl Shard {
    /// The share coordinator has begun these, or could not.
    pub fn share_states_begun(
        &mut self,
        group: &Str,
        begun: &BTreeSet<(Uuid, i32)>,
        failed: &BTreeSet<(Uuid, i32)>,
        effects: &mut Effects,
    ) {
        let change = |states: &mut States| {
            states.initialized(begun);
            states.not_initialized(failed);
        };
        self.change_states(group, change, None, effects);
    }

    /// Offsets of an empty group, which may be new: the states of these share partitions begin anew. The group's epoch goes up, so
    /// that a leader that still has the old ones in memory is fenced.
    pub fn alter_share_offsets(
        &mut self,
        group: &Str,
        offsets: &BTreeMap<(Uuid, i32), i64>,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let checked = match entry.group() {
            None => self.check_new(&group_id, true),
            Some(group) => check_empty(group),
        };
        match checked {
            Err(refusal) => {
                effects.answer(reply, Answer::ShareStates(ShareStatesAnswer::Refused(refusal)));
            }
            Ok(()) if offsets.is_empty() => {
                let answer = Answer::ShareStates(ShareStatesAnswer::Initialize(Initialize::default()));
                self.write_changes(&group_id, &mut entry, Work::default(), Some((reply, answer)), effects);
            }
            Ok(()) => {
                let mut work = Work::default();
                let stored = &entry.create().stored;
                let mut states = States::clone(&stored.states);
                for (topic, partition) in offsets.keys() {
                    if let Some(topic) = self.settings.catalog.topic_by_id(*topic) {
                        states.begin(topic.id, &topic.name, [*partition], now.monotonic_ms);
                    }
                }
                let Epoch { epoch, metadata_hash } = stored.epoch;
                let state_epoch = epoch.max(stored.target_epoch.epoch) + 1;
                work.put(&mut entry, Change::Epoch(Some(Epoch { epoch: state_epoch, metadata_hash })));
                work.put(&mut entry, Change::States(Some(Arc::new(states))));
                let initialize = Initialize { state_epoch, partitions: offsets.clone() };
                let answer = Answer::ShareStates(ShareStatesAnswer::Initialize(initialize));
                self.write_changes(&group_id, &mut entry, work, Some((reply, answer)), effects);
            }
        }
        self.keep_entry(group_id, entry);
    }

    /// The states of these topics, or of all with None, are to be deleted; the group has to be empty.
    pub fn delete_share_states(
        &mut self,
        group: &Str,
        topics: Option<&[Str]>,
        reply: ReplyId,
        effects: &mut Effects,
    ) {
        let answer = |answer| Answer::ShareStates(answer);
        let checked = match self.share_group(group) {
            None => self.check_new(group, false),
            Some(group) => check_empty(group),
        };
        if let Err(refusal) = checked {
            return effects.answer(reply, answer(ShareStatesAnswer::Refused(refusal)));
        }
        let view = self.settings.catalog.clone();
        let stored = &self.share_group(group).expect("was just looked up").stored;
        // Whoever joins while that goes on raises the epoch first: what is begun for him is not deleted.
        let state_epoch = stored.epoch.epoch.max(stored.target_epoch.epoch);
        let (states, of_all) = (&stored.states, topics.is_none());
        let topics: Vec<(Str, Option<Uuid>)> = match topics {
            Some(names) => {
                names.iter().map(|name| (name.clone(), view.topic(name).map(|topic| topic.id))).collect()
            }
            None => {
                let of = |(id, name): (&Uuid, &Str)| (name.clone(), Some(*id));
                let begun = states.initializing.iter().chain(&states.initialized);
                let begun = begun.map(|(id, states)| (id, &states.name));
                begun.chain(&states.deleting).map(of).collect()
            }
        };
        let (mut partitions, mut unknown) = (BTreeSet::new(), Vec::new());
        let change = |states: &mut States| {
            if of_all {
                states.forget(|topic| view.topic_by_id(topic).is_none());
            }
            for (name, id) in topics {
                let topic = id.and_then(|id| view.topic_by_id(id));
                let deleted = topic
                    .map(|topic| (topic.id, states.delete(topic.id, &topic.name, topic.partition_count)));
                match deleted {
                    Some((id, deleted)) if !deleted.is_empty() => {
                        partitions.extend(deleted.into_iter().map(|partition| (id, partition)));
                    }
                    _ => unknown.push(name),
                }
            }
        };
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let mut work = Work::default();
        change_states_of(&mut entry, change, &mut work);
        let told = answer(ShareStatesAnswer::Delete { state_epoch, partitions, unknown });
        self.write_changes(&group_id, &mut entry, work, Some((reply, told)), effects);
        self.keep_entry(group_id, entry);
    }

    /// The share coordinator has deleted the states of these topics.
    pub fn share_states_deleted(
        &mut self,
        group: &Str,
        topics: &BTreeSet<Uuid>,
        reply: ReplyId,
        effects: &mut Effects,
    ) {
        let answer = Answer::ShareStates(ShareStatesAnswer::Done);
        self.change_states(group, |states| states.deleted(topics), Some((reply, answer)), effects);
    }

    /// Whether the share coordinator may have something of this group.
    pub fn has_share_states(&self, group: &str) -> bool {
        self.share_group(group).is_some_and(|group| *group.stored.states != States::default())
    }

    /// Share partitions of a group whose state is kept.
    pub fn kept_share_partitions(&self, group: &str) -> BTreeSet<(Uuid, i32)> {
        let stored = self.shares.get(group).and_then(|entry| entry.settled());
        let topics = stored.into_iter().flat_map(|stored| &stored.states.initialized);
        topics
            .flat_map(|(topic, states)| states.partitions.iter().map(|partition| (*topic, *partition)))
            .collect()
    }

    /// Topics are gone, and the states of their share partitions with them.
    pub(in crate::groups) fn share_topics_deleted(&mut self, effects: &mut Effects) {
        let view = self.settings.catalog.clone();
        let is_gone = |topic: Uuid| view.topic_by_id(topic).is_none();
        let has_gone = |group: &ShareGroup| {
            let states = &group.stored.states;
            let topics = states.initializing.keys().chain(states.initialized.keys());
            topics.chain(states.deleting.keys()).any(|topic| is_gone(*topic))
        };
        let affected: Vec<Str> = self
            .shares
            .iter()
            .filter(|(_, entry)| entry.group().is_some_and(has_gone))
            .map(|(id, _)| id.clone())
            .collect();
        for group in affected {
            self.change_states(&group, |states| states.forget(is_gone), None, effects);
        }
    }

    fn change_states(
        &mut self,
        group: &Str,
        change: impl FnOnce(&mut States),
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        let (group_id, mut entry): (Str, Entry) = self.take_entry(group);
        let mut work = Work::default();
        change_states_of(&mut entry, change, &mut work);
        self.write_changes(&group_id, &mut entry, work, answer, effects);
        self.keep_entry(group_id, entry);
    }
}

/// Of a group that is gone nothing changes.
fn change_states_of(entry: &mut Entry, change: impl FnOnce(&mut States), work: &mut Work) {
    let Some(group) = entry.group() else { return };
    let mut states = States::clone(&group.stored.states);
    change(&mut states);
    if states != *group.stored.states {
        work.put(entry, Change::States(Some(Arc::new(states))));
    }
}

fn check_empty(group: &ShareGroup) -> Result<(), Refusal> {
    match group.stored.members.is_empty() {
        true => Ok(()),
        false => Err(Refusal::new(ErrorCode::NonEmptyGroup, "The group is not empty.")),
    }
}
