//! A group that is kept as many records, and its writes under way: one of consumers (KIP-848), or of another kind like it.
//!
//! The group is changed at once, and whoever waits is answered when the records are in the log. Should they not get there,
//! the group is what the log says, with the later writes on top; everybody who was about to be answered from the lost state
//! gets an error instead and comes again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use bytes::Bytes;
use protocol::{ErrorCode, Str};

use super::event::{Answer, Effects, GroupRecord, ReplyId, Token};
use super::group::Group;
use super::shard::{AfterWrite, Shard};

/// A kind of group: what its records say, with what is counted from that.
pub trait Kind: Debug + Default {
    /// What the records of a group say.
    type Stored: Debug + Clone;
    /// One record.
    type Change: Debug + Clone;

    fn of(stored: Self::Stored) -> Self;
    fn stored(&self) -> &Self::Stored;
    fn apply(&mut self, change: &Self::Change);
    /// Applies a change to a group that may not be there.
    fn apply_to(stored: &mut Option<Self::Stored>, change: &Self::Change);
    /// The tombstone with which a group ends.
    fn is_end(change: &Self::Change) -> bool;
    fn record(group: &Str, change: &Self::Change) -> GroupRecord;
    fn after_write(group: Str, classic: ClassicGroup) -> AfterWrite;
    /// The tombstones of all that the records of a group say.
    fn tombstones(stored: &Self::Stored) -> Vec<Self::Change>;
    fn has_members(&self) -> bool;
    /// Whether offsets of this topic have to stay.
    fn is_subscribed_to(&self, topic: &str) -> bool;
    /// Where the groups of this kind are kept.
    fn entries(shard: &mut Shard) -> &mut BTreeMap<Str, Entry<Self>>;
}

#[derive(Debug)]
pub struct Entry<G: Kind> {
    /// With all that was handed to the log. None: there is no such group (any more).
    group: Option<G>,
    /// What the log has for good. None: the same as `group`, nothing is under way.
    safe: Option<Option<G::Stored>>,
    in_flight: VecDeque<InFlight<G::Change>>,
    /// A write failed: answers of the writes up to this one were made from a state that is gone.
    doubtful: Option<(Token, ErrorCode)>,
}

impl<G: Kind> Default for Entry<G> {
    fn default() -> Entry<G> {
        Entry { group: None, safe: None, in_flight: VecDeque::new(), doubtful: None }
    }
}

#[derive(Debug)]
struct InFlight<C> {
    token: Token,
    changes: Vec<C>,
    /// Answers about the state that these changes lead to.
    waiting: Vec<(ReplyId, Answer)>,
}

/// What a write that ended means.
#[derive(Debug)]
pub struct Landed {
    pub answers: Vec<(ReplyId, Answer)>,
    /// The group is not what it was: its alarms have to be set anew.
    pub is_rebuilt: bool,
}

impl<G: Kind> Entry<G> {
    /// As it was read from the log.
    pub fn loaded(stored: G::Stored) -> Entry<G> {
        Entry { group: Some(G::of(stored)), ..Entry::default() }
    }

    pub fn group(&self) -> Option<&G> {
        self.group.as_ref()
    }

    pub fn group_mut(&mut self) -> Option<&mut G> {
        self.group.as_mut()
    }

    /// What readers may see: only what is in the log for good.
    pub fn settled(&self) -> Option<&G::Stored> {
        match &self.safe {
            Some(safe) => safe.as_ref(),
            None => self.group.as_ref().map(G::stored),
        }
    }

    /// Nothing has to be remembered.
    pub fn is_over(&self) -> bool {
        self.group.is_none() && self.in_flight.is_empty()
    }

    /// The group is made, and empty so far.
    pub fn create(&mut self) -> &mut G {
        self.keep_safe();
        self.group.get_or_insert_default()
    }

    pub fn apply(&mut self, change: &G::Change) {
        self.keep_safe();
        if G::is_end(change) {
            self.group = None;
        } else if let Some(group) = &mut self.group {
            group.apply(change);
        }
    }

    fn keep_safe(&mut self) {
        if self.safe.is_none() {
            self.safe = Some(self.group.as_ref().map(|group| group.stored().clone()));
        }
    }

    /// These changes, which were applied, go to the log now.
    pub fn begin(&mut self, token: Token, changes: Vec<G::Change>, answer: Option<(ReplyId, Answer)>) {
        self.keep_safe();
        self.in_flight.push_back(InFlight { token, changes, waiting: answer.into_iter().collect() });
    }

    /// Holds an answer back until everything it was made from is in the log. Gives it back when nothing is under way.
    pub fn answer_behind(&mut self, reply: ReplyId, answer: Answer) -> Option<(ReplyId, Answer)> {
        match self.in_flight.back_mut() {
            Some(newest) => {
                newest.waiting.push((reply, answer));
                None
            }
            None => Some((reply, answer)),
        }
    }

    /// Nothing was handed over after all: the copy is not needed.
    pub fn forget_copy(&mut self) {
        if self.in_flight.is_empty() {
            self.safe = None;
        }
    }

    /// The oldest write under way has ended. Writes end in the order in which they began.
    pub fn landed(&mut self, token: Token, outcome: Result<(), ErrorCode>) -> Landed {
        let ended = match self.in_flight.front() {
            Some(front) if front.token == token => self.in_flight.pop_front(),
            // The shard was emptied meanwhile.
            _ => None,
        };
        let Some(ended) = ended else { return Landed { answers: Vec::new(), is_rebuilt: false } };
        if outcome.is_ok() {
            let safe = self.safe.as_mut().expect("kept while something is under way");
            ended.changes.iter().for_each(|change| G::apply_to(safe, change));
        }
        if let Err(error) = outcome {
            self.rebuild();
            self.doubtful = self.in_flight.back().map(|newest| (newest.token, error));
        }
        let doubt = match (outcome, self.doubtful) {
            (Err(error), _) => Some(error),
            (Ok(()), Some((last, error))) if token <= last => Some(error),
            _ => None,
        };
        let answers = ended.waiting.into_iter().map(|(reply, answer)| match doubt {
            Some(error) => (reply, answer.refused(error)),
            None => (reply, answer),
        });
        let answers = answers.collect();
        if self.in_flight.is_empty() {
            self.safe = None;
            self.doubtful = None;
        }
        Landed { answers, is_rebuilt: outcome.is_err() }
    }

    fn rebuild(&mut self) {
        let mut stored = self.safe.clone().expect("kept while something is under way");
        for change in self.in_flight.iter().flat_map(|write| &write.changes) {
            G::apply_to(&mut stored, change);
        }
        self.group = stored.map(G::of);
    }

    /// Another kind of group has its place.
    pub fn give_way(&mut self) {
        self.group = None;
    }
}

/// What one event changes.
#[derive(Debug)]
pub struct Work<G: Kind> {
    /// In their order.
    changes: Vec<G::Change>,
    pub classic: ClassicGroup,
}

/// What becomes of the classic group of the same name; taken back should the write fail.
#[derive(Debug, Default)]
pub enum ClassicGroup {
    #[default]
    Nothing,
    /// It makes room.
    TakenAway(Box<Group>),
    /// It is made of the other group, with this record.
    Made(Bytes),
}

impl<G: Kind> Default for Work<G> {
    fn default() -> Work<G> {
        Work { changes: Vec::new(), classic: ClassicGroup::Nothing }
    }
}

impl<G: Kind> Work<G> {
    /// Changes the group, and writes it down.
    pub fn put(&mut self, entry: &mut Entry<G>, change: G::Change) {
        entry.apply(&change);
        self.changes.push(change);
    }
}

/// The group's next epoch. That of the target or of a member is larger than its own when the write of its own has failed and theirs has not.
/// One that a member has already must not come again with another target: the member would never look at it.
pub fn next_epoch(epoch: i32, target_epoch: i32, of_members: impl Iterator<Item = i32>) -> i32 {
    of_members.fold(epoch.max(target_epoch), i32::max) + 1
}

impl Shard {
    /// Takes the entry of a group out of the shard while it is worked on, with an id that keeps no frame alive.
    pub(super) fn take_entry<G: Kind>(&mut self, group: &Str) -> (Str, Entry<G>) {
        match G::entries(self).remove_entry(group) {
            Some(taken) => taken,
            None => {
                let id = self.groups.get_key_value(group).map(|(id, _)| id.clone());
                (id.unwrap_or_else(|| group.detached()), Entry::default())
            }
        }
    }

    pub(super) fn keep_entry<G: Kind>(&mut self, group_id: Str, entry: Entry<G>) {
        if !entry.is_over() {
            G::entries(self).insert(group_id, entry);
        }
        self.weigh_if_doubtful();
    }

    /// Takes a group without members away with the write of this token; its tombstones are the caller's to write.
    pub(super) fn begin_deletion<G: Kind>(&mut self, group: &Str, token: Token) -> Vec<GroupRecord> {
        let (group_id, mut entry) = self.take_entry::<G>(group);
        let tombstones = G::tombstones(entry.group().expect("was looked up").stored());
        tombstones.iter().for_each(|change| entry.apply(change));
        entry.begin(token, tombstones.clone(), None);
        self.keep_entry(group_id, entry);
        tombstones.iter().map(|change| G::record(group, change)).collect()
    }

    /// Takes a group without members away, for another kind to have its place.
    pub(super) fn clear_empty<G: Kind>(&mut self, group: &Str, effects: &mut Effects) {
        let (group_id, mut entry) = self.take_entry::<G>(group);
        let mut work = Work::default();
        for change in G::tombstones(entry.group().expect("was looked up").stored()) {
            work.put(&mut entry, change);
        }
        self.write_changes(&group_id, &mut entry, work, None, effects);
        self.keep_entry(group_id, entry);
    }

    /// Hands the changes over and answers behind them; without any, behind what is under way.
    pub(super) fn write_changes<G: Kind>(
        &mut self,
        group_id: &Str,
        entry: &mut Entry<G>,
        work: Work<G>,
        answer: Option<(ReplyId, Answer)>,
        effects: &mut Effects,
    ) {
        let Work { changes, classic } = work;
        if changes.is_empty() && matches!(classic, ClassicGroup::Nothing) {
            entry.forget_copy();
            if let Some((reply, answer)) =
                answer.and_then(|(reply, answer)| entry.answer_behind(reply, answer))
            {
                effects.answer(reply, answer);
            }
            return;
        }
        let token = self.next_token();
        let (before, behind) = match &classic {
            ClassicGroup::Nothing => (None, None),
            ClassicGroup::TakenAway(_) => (Some(self.group_tombstone(group_id)), None),
            ClassicGroup::Made(value) => (None, Some(self.group_record(group_id, value.clone()))),
        };
        let own = changes.iter().map(|change| G::record(group_id, change));
        let all: Vec<GroupRecord> = before.into_iter().chain(own).chain(behind).collect();
        entry.begin(token, changes, answer);
        self.note_written(&all);
        self.write(all, Vec::new(), G::after_write(group_id.clone(), classic), effects);
    }
}
