//! A consumer group and its writes under way.
//!
//! The group is changed at once, and whoever waits is answered when the records are in the log. Should they not get there,
//! the group is what the log says, with the later writes on top; everybody who was about to be answered from the lost state
//! gets an error instead and comes again.

use std::collections::VecDeque;

use protocol::ErrorCode;

use super::group::{Change, ConsumerGroup, Stored};
use crate::groups::event::{Answer, ReplyId, Token};

#[derive(Debug, Default)]
pub struct Entry {
    /// With all that was handed to the log. None: there is no such consumer group (any more).
    group: Option<ConsumerGroup>,
    /// What the log has for good. None: the same as `group`, nothing is under way.
    safe: Option<Option<Stored>>,
    in_flight: VecDeque<InFlight>,
    /// A write failed: answers of the writes up to this one were made from a state that is gone.
    doubtful: Option<(Token, ErrorCode)>,
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    changes: Vec<Change>,
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

impl Entry {
    /// As it was read from the log.
    pub fn loaded(stored: Stored) -> Entry {
        Entry { group: Some(ConsumerGroup::of(stored)), ..Entry::default() }
    }

    pub fn group(&self) -> Option<&ConsumerGroup> {
        self.group.as_ref()
    }

    pub fn group_mut(&mut self) -> Option<&mut ConsumerGroup> {
        self.group.as_mut()
    }

    /// What readers may see: only what is in the log for good.
    pub fn settled(&self) -> Option<&Stored> {
        match &self.safe {
            Some(safe) => safe.as_ref(),
            None => self.group.as_ref().map(|group| &group.stored),
        }
    }

    /// Nothing has to be remembered.
    pub fn is_over(&self) -> bool {
        self.group.is_none() && self.in_flight.is_empty()
    }

    /// The group is made, and empty so far.
    pub fn create(&mut self) -> &mut ConsumerGroup {
        self.keep_safe();
        self.group.get_or_insert_default()
    }

    pub fn apply(&mut self, change: &Change) {
        self.keep_safe();
        match change {
            Change::Epoch(None) => self.group = None,
            change => {
                if let Some(group) = &mut self.group {
                    group.apply(change);
                }
            }
        }
    }

    fn keep_safe(&mut self) {
        if self.safe.is_none() {
            self.safe = Some(self.group.as_ref().map(|group| group.stored.clone()));
        }
    }

    /// These changes, which were applied, go to the log now.
    pub fn begin(&mut self, token: Token, changes: Vec<Change>, answer: Option<(ReplyId, Answer)>) {
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
            ended.changes.iter().for_each(|change| Stored::apply_to(safe, change));
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
            Stored::apply_to(&mut stored, change);
        }
        self.group = stored.map(ConsumerGroup::of);
    }

    /// Another kind of group has its place.
    pub fn give_way(&mut self) {
        self.group = None;
    }
}
