//! Objects that nothing leads to any more, and that stay for a while: a reader may have learnt of them a moment ago (F8). That is
//! comfort and not safety, a reader that finds nothing looks at the catalog again (R15). So who forgets them does no harm: after a
//! start the sweep finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kept at most; beyond it the oldest go at once.
const GRAVES_MAX: usize = 100_000;

#[derive(Default)]
pub struct Graves {
    /// By when they may go, on the monotonic clock.
    due: BTreeMap<Duration, Vec<String>>,
    keys: BTreeSet<String>,
}

impl Graves {
    pub fn bury(&mut self, keys: Vec<String>, due: Duration) {
        let new: Vec<String> = keys.into_iter().filter(|key| self.keys.insert(key.clone())).collect();
        if !new.is_empty() {
            self.due.entry(due).or_default().extend(new);
        }
    }

    /// Those that may go now.
    pub fn take_due(&mut self, now: Duration) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some(first) = self.due.first_entry()
            && (*first.key() <= now || self.keys.len() > GRAVES_MAX)
        {
            for key in first.remove() {
                self.keys.remove(&key);
                gone.push(key);
            }
        }
        gone
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_go_when_it_is_time_and_when_there_are_too_many() {
        let mut graves = Graves::default();
        let second = Duration::from_secs;
        graves.bury(vec!["a".into(), "b".into()], second(10));
        // The sweep finds it as well: that does not make it stay longer.
        graves.bury(vec!["b".into(), "c".into()], second(20));
        assert_eq!(graves.take_due(second(9)), Vec::<String>::new());
        assert_eq!(graves.take_due(second(10)), ["a", "b"]);
        assert_eq!(graves.take_due(second(30)), ["c"]);
        let many = |from: usize| (from..from + GRAVES_MAX).map(|at| at.to_string()).collect::<Vec<_>>();
        graves.bury(many(0), second(40));
        graves.bury(many(GRAVES_MAX), second(41));
        assert_eq!(graves.take_due(second(31)).len(), GRAVES_MAX);
        assert_eq!(graves.len(), GRAVES_MAX);
    }
}
