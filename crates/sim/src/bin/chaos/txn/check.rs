//! What transactions came to, by what their clients were told, against what readers of committed data were given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One transaction as its client knows it.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Partitions in which its record was acknowledged.
    pub written: Vec<i32>,
    pub offset: bool,
    pub asked: Option<bool>,
    /// Of one that was asked to commit and was not told so nothing is known.
    pub told: Option<bool>,
    /// What its client gave up for.
    pub why: Option<String>,
}

/// By number.
pub type History = BTreeMap<u32, Fate>;
/// By the producer's name.
pub type Histories = BTreeMap<String, History>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Torn,
    AbortedSeen,
    CommittedMissing,
    /// Out of order, twice, seen before and gone, offsets.
    Other,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    /// Whose transaction; none if it is nobody's.
    pub name: String,
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Violation {
    fn new(kind: Kind, name: &str, text: String) -> Violation {
        Violation { kind, name: name.to_owned(), text }
    }
}

/// `log` has the values of each partition, `seen` what readers were given on the way, `offsets` the committed offset of each producer's group.
pub fn check(
    histories: &Histories,
    log: &[Vec<String>],
    seen: &[Vec<String>],
    offsets: &BTreeMap<String, i64>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut other = |name: &str, text| violations.push(Violation::new(Kind::Other, name, text));
    // Who reads on the way reads the beginning of what stands there.
    for (partition, (seen, log)) in seen.iter().zip(log).enumerate() {
        if !log.starts_with(seen) {
            let at = seen.iter().zip(log).position(|(seen, log)| seen != log).unwrap_or(log.len());
            let (saw, stands) = (seen.get(at), log.get(at));
            let name = saw.or(stands).and_then(|value| value.rsplit_once(':')).map_or("", |(name, _)| name);
            other(
                name,
                format!("partition {partition}: a reader saw {saw:?} where {stands:?} stands, at {at}"),
            );
        }
    }
    // By producer and number: where it is committed.
    let mut committed: BTreeMap<(&str, u32), BTreeSet<i32>> = BTreeMap::new();
    for (partition, values) in log.iter().enumerate() {
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for value in values {
            let Some((name, number)) = value.rsplit_once(':') else {
                other("", format!("nobody wrote {value}"));
                continue;
            };
            let number: u32 = number.parse().unwrap_or(0);
            if last.insert(name, number).is_some_and(|last| last >= number) {
                other(name, format!("partition {partition}: {value} twice, or behind a later one"));
            }
            committed.entry((name, number)).or_default().insert(partition as i32);
        }
    }
    for (name, history) in histories {
        for (number, fate) in history {
            let found = committed.remove(&(name.as_str(), *number)).unwrap_or_default();
            let missing: Vec<_> = fate.written.iter().filter(|it| !found.contains(it)).collect();
            let what = format!("{name} {number}: {fate:?}, found in {found:?}");
            let violation = match (fate.asked, fate.told) {
                _ if !found.is_empty() && !missing.is_empty() => (Kind::Torn, format!("torn: {what}")),
                (_, Some(true)) if !missing.is_empty() => {
                    (Kind::CommittedMissing, format!("committed is missing: {what}"))
                }
                (_, Some(false)) if !found.is_empty() => {
                    (Kind::AbortedSeen, format!("aborted is seen: {what}"))
                }
                (None | Some(false), _) if !found.is_empty() => {
                    (Kind::AbortedSeen, format!("committed by nobody: {what}"))
                }
                _ => continue,
            };
            violations.push(Violation::new(violation.0, name, violation.1));
        }
        if let Some(offset) = offsets.get(name) {
            let wrong = check_offset(name, history, log, *offset);
            violations.extend(wrong.map(|text| Violation::new(Kind::Other, name, text)));
        }
    }
    let nobodys = committed.keys();
    violations
        .extend(nobodys.map(|(name, number)| {
            Violation::new(Kind::Other, name, format!("nobody wrote {name}:{number}"))
        }));
    violations
}

/// The offset is that of a transaction that is committed, and of none before the last one that was said to be.
fn check_offset(name: &str, history: &History, log: &[Vec<String>], offset: i64) -> Option<String> {
    let with_offset = || history.iter().filter(|(_, fate)| fate.offset);
    let least = with_offset().filter(|(_, fate)| fate.told == Some(true)).map(|(number, _)| *number).max();
    if offset < least.map_or(-1, i64::from) {
        return Some(format!("{name}: offset {offset}, and {least:?} was said to be committed"));
    }
    if offset < 0 {
        return None;
    }
    let fate = u32::try_from(offset).ok().and_then(|number| history.get(&number));
    let value = format!("{name}:{offset}");
    let is_there = log.iter().any(|values| values.contains(&value));
    (fate.is_none_or(|fate| fate.asked != Some(true)) || !is_there)
        .then(|| format!("{name}: offset {offset} is of a transaction that is not committed: {fate:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(written: &[i32], asked: Option<bool>, told: Option<bool>) -> Fate {
        Fate { written: written.to_vec(), asked, told, ..Fate::default() }
    }

    fn kinds(fates: Vec<Fate>, log: &[&[&str]]) -> Vec<Kind> {
        let history = (1..).zip(fates).collect();
        let log: Vec<Vec<String>> =
            log.iter().map(|values| values.iter().map(|value| (*value).to_owned()).collect()).collect();
        let found = check(&[("a".to_owned(), history)].into(), &log, &[], &BTreeMap::new());
        found.into_iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn a_transaction_is_there_as_a_whole_or_not_at_all_as_its_client_was_told() {
        let both = |asked, told| vec![fate(&[0, 1], asked, told)];
        let (commit, abort) = (Some(true), Some(false));
        for (asked, told) in [(commit, commit), (commit, None)] {
            assert_eq!(kinds(both(asked, told), &[&["a:1"], &["a:1"]]), []);
        }
        for (asked, told) in [(commit, None), (abort, abort), (abort, None), (None, None)] {
            assert_eq!(kinds(both(asked, told), &[&[], &[]]), []);
        }
        assert_eq!(kinds(both(commit, None), &[&["a:1"], &[]]), [Kind::Torn]);
        assert_eq!(kinds(both(commit, commit), &[&["a:1"], &[]]), [Kind::Torn]);
        assert_eq!(kinds(both(commit, commit), &[&[], &[]]), [Kind::CommittedMissing]);
        for (asked, told) in [(abort, abort), (abort, None), (None, None)] {
            assert_eq!(kinds(both(asked, told), &[&["a:1"], &["a:1"]]), [Kind::AbortedSeen]);
        }
        assert_eq!(kinds(both(commit, commit), &[&["a:1", "a:1"], &["a:1"]]), [Kind::Other]);
        assert_eq!(kinds(Vec::new(), &[&["b:1"]]), [Kind::Other]);
    }

    #[test]
    fn a_group_has_the_offset_of_a_transaction_that_is_committed() {
        let wrote = |told| Fate { offset: true, ..fate(&[0], Some(true), told) };
        let history: History =
            (1..).zip([wrote(Some(true)), wrote(None), fate(&[0], Some(true), None)]).collect();
        let log = [vec!["a:1".to_owned(), "a:2".to_owned()]];
        for (offset, is_fine) in [(-1, false), (0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(check_offset("a", &history, &log, offset).is_none(), is_fine, "{offset}");
        }
    }
}
