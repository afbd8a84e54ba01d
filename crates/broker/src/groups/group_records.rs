//! The records of classic groups as the log has them, and those on their way there. Not what members are about to agree on: a snapshot
//! repeats what a restart must find.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::Str;

use super::event::Token;

#[derive(Debug, Default)]
pub struct GroupRecords {
    groups: BTreeMap<Str, Versions>,
    /// Whose records are under way, oldest first.
    under_way: VecDeque<(Token, Str)>,
}

/// The values of one group's record; `None`: there is none, or a tombstone.
#[derive(Debug, Default)]
struct Versions {
    stored: Option<Bytes>,
    /// Oldest first.
    handed_over: VecDeque<Option<Bytes>>,
}

impl GroupRecords {
    /// What the log will say once everything under way is written.
    pub fn newest(&self, group: &str) -> Option<&Bytes> {
        let versions = self.groups.get(group)?;
        versions.handed_over.back().unwrap_or(&versions.stored).as_ref()
    }

    /// It was read from the log.
    pub fn loaded(&mut self, group: &Str, value: Option<Bytes>) {
        match value {
            Some(value) => self.of(group).stored = Some(value),
            None => drop(self.groups.remove(group)),
        }
    }

    /// It goes to the log with the write of this token, which is the newest.
    pub fn hand_over(&mut self, token: Token, group: &Str, value: Option<Bytes>) {
        assert!(self.under_way.back().is_none_or(|(newest, _)| *newest <= token), "{token:?} comes late");
        self.of(group).handed_over.push_back(value);
        self.under_way.push_back((token, group.clone()));
    }

    /// The write of this token is in the log, or could not be written: then what stood there before stands there still.
    pub fn landed(&mut self, token: Token, is_written: bool) {
        while let Some((_, group)) = self.under_way.pop_front_if(|(oldest, _)| *oldest == token) {
            let versions = self.groups.get_mut(&group).expect("is kept while something is under way");
            let value = versions.handed_over.pop_front().expect("was handed over");
            if is_written {
                versions.stored = value;
            }
            if versions.stored.is_none() && versions.handed_over.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Takes away what belongs to no group: one whose first record failed while a later one did not.
    pub fn keep(&mut self, is_there: impl Fn(&Str) -> bool) {
        self.groups.retain(|group, versions| is_there(group) || !versions.handed_over.is_empty());
    }

    fn of(&mut self, group: &Str) -> &mut Versions {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), Versions::default());
        }
        self.groups.get_mut(group).expect("was put there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_what_later_ones_bring() {
        let (mut records, group) = (GroupRecords::default(), Str::from("g"));
        let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        records.loaded(&group, value("a"));
        records.hand_over(Token(1), &group, value("b"));
        records.hand_over(Token(2), &group, value("c"));
        records.hand_over(Token(4), &group, None);
        assert_eq!(records.newest("g"), None);
        records.landed(Token(1), false);
        records.landed(Token(2), true);
        // Another group's write in between.
        records.landed(Token(3), true);
        records.keep(|_| false);
        assert_eq!(records.newest("g"), None, "a deletion is under way");
        records.landed(Token(4), false);
        assert_eq!(records.newest("g"), value("c").as_ref());
        records.keep(|_| true);
        assert_eq!(records.newest("g"), value("c").as_ref());
        records.keep(|_| false);
        assert_eq!(records.newest("g"), None);
    }
}
