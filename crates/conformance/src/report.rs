//! What a run prints, and whether it is good.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use protocol::ApiKey;

use crate::Findings;
use crate::compare::Difference;
use crate::declared::Declared;

pub struct Report {
    pub text: String,
    /// Everything that makes the run fail.
    pub failures: Vec<String>,
}

/// `is_whole`: all scripts of the APIs that were chosen have run in all versions, so a declared difference of theirs has to show.
pub fn report(findings: &Findings, declared: &Declared, is_whole: bool) -> Report {
    let mut failures = Vec::new();
    let mut used = BTreeSet::new();
    for (difference, versions) in &findings.differences {
        match declared.patterns.iter().position(|pattern| pattern.fits(difference)) {
            Some(index) => _ = used.insert(index),
            None => failures.push(line(difference, versions)),
        }
    }
    let is_scripted = |name: &str| findings.scripted.iter().any(|code| name_of(*code) == name);
    // A line about all APIs may show in any of them.
    let is_every_api = crate::scripts::all()
        .map(|script| script.api.code())
        .all(|code| findings.scripted.contains(&code) || !findings.kafka.contains_key(&code));
    if is_whole {
        for (index, pattern) in declared.patterns.iter().enumerate() {
            if !used.contains(&index)
                && !pattern.by_chance
                && (is_scripted(&pattern.api) || (pattern.api == "*" && is_every_api))
            {
                failures.push(format!("declared and no longer so, {pattern}"));
            }
        }
    }
    let mut text = table(findings, declared);
    let mut missing = Vec::new();
    for code in findings.kafka.keys().filter(|code| !findings.ottla.contains_key(code)) {
        let name = name_of(*code);
        if !declared.not_advertised.contains(&name) {
            failures.push(format!("{name} is advertised by Kafka, not by Ottla, and not declared"));
        }
        missing.push(name);
    }
    for name in &declared.not_advertised {
        let is_there = findings.ottla.keys().any(|code| name_of(*code) == *name);
        if is_there {
            failures.push(format!("{name} is declared as not advertised, and it is"));
        }
    }
    let _ = writeln!(
        text,
        "not advertised by Ottla: {}",
        if missing.is_empty() { "none".into() } else { missing.join(" ") }
    );
    for difference in &findings.passed_by {
        let _ = writeln!(text, "did not come again: {}", shown(difference));
    }
    let versions = findings.covered.len();
    let apis: BTreeSet<i16> = findings.covered.iter().map(|(api, _)| *api).collect();
    let _ = writeln!(
        text,
        "{} APIs in {versions} versions compared; {} differences, {} of them declared",
        apis.len(),
        findings.differences.len(),
        findings.differences.len()
            - failures
                .iter()
                .filter(|failure| failure.contains(" | ") && !failure.starts_with("declared"))
                .count(),
    );
    Report { text, failures }
}

/// As a line of `docs/differences.md`, and the versions behind it.
fn line(difference: &Difference, versions: &BTreeSet<i16>) -> String {
    format!("{}    (versions {})", shown(difference), ranges(versions))
}

fn shown(Difference { api, step, path, kafka, ottla }: &Difference) -> String {
    format!("{api} | {step} | {path} | {kafka} | {ottla}")
}

fn table(findings: &Findings, declared: &Declared) -> String {
    let mut text = format!("{:<32} {:<9} {:<9} {:<12} differences\n", "API", "Kafka", "Ottla", "compared");
    for (code, range) in &findings.kafka {
        let name = name_of(*code);
        let ottla = findings.ottla.get(code).map_or("-".to_owned(), |range| shown_range(*range));
        let compared: BTreeSet<i16> =
            findings.covered.iter().filter(|(api, _)| api == code).map(|(_, version)| *version).collect();
        let of_api: Vec<&Difference> = findings.differences.keys().filter(|d| d.api == name).collect();
        let new = of_api.iter().filter(|difference| !declared.tells(difference)).count();
        let differences = match (of_api.len() - new, new) {
            (0, 0) => String::new(),
            (known, 0) => format!("{known} declared"),
            (0, new) => format!("{new} NEW"),
            (known, new) => format!("{known} declared, {new} NEW"),
        };
        let compared = if compared.is_empty() { "-".to_owned() } else { ranges(&compared) };
        let row = format!("{name:<32} {:<9} {ottla:<9} {compared:<12} {differences}", shown_range(*range));
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

fn name_of(code: i16) -> String {
    ApiKey::try_from(code).map_or_else(|_| code.to_string(), |key| key.name().to_owned())
}

fn shown_range((low, high): (i16, i16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

/// `0-3 5 7-9`
fn ranges(versions: &BTreeSet<i16>) -> String {
    let mut ranges: Vec<(i16, i16)> = Vec::new();
    for version in versions {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == *version => *high = *version,
            _ => ranges.push((*version, *version)),
        }
    }
    ranges.into_iter().map(shown_range).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Covered, Differences};

    fn findings(differences: &[(&str, &str)]) -> Findings {
        let mut map = Differences::new();
        for (api, path) in differences {
            let [kafka, ottla, step] = ["1", "2", "s/l"].map(str::to_owned);
            let difference = Difference { api: (*api).into(), step, path: (*path).into(), kafka, ottla };
            map.insert(difference, BTreeSet::from([0, 1, 3]));
        }
        Findings {
            kafka: [(1, (4, 18)), (12, (0, 4))].into(),
            ottla: [(1, (4, 18))].into(),
            differences: map,
            passed_by: Vec::new(),
            covered: Covered::from([(1, 4), (1, 5), (1, 18)]),
            scripted: BTreeSet::from([1]),
        }
    }

    const DECLARED: &str = "```differences\nFetch | * | a | * | *\n```\n```not-advertised\nHeartbeat\n```";

    #[test]
    fn what_is_declared_and_shows_is_good() {
        let declared = Declared::parse(DECLARED).unwrap();
        let report = report(&findings(&[("Fetch", "a")]), &declared, true);
        assert_eq!(report.failures, Vec::<String>::new());
        assert!(
            report
                .text
                .contains("Fetch                            4-18      4-18      4-5 18       1 declared"),
            "{}",
            report.text
        );
    }

    #[test]
    fn a_new_one_fails_and_one_that_is_gone_too() {
        let declared = Declared::parse(DECLARED).unwrap();
        let new = report(&findings(&[("Fetch", "a"), ("Fetch", "b")]), &declared, true);
        assert_eq!(new.failures, ["Fetch | s/l | b | 1 | 2    (versions 0-1 3)"]);
        let gone = report(&findings(&[]), &declared, true);
        assert!(
            gone.failures[0].starts_with("declared and no longer so, line 2: Fetch"),
            "{:?}",
            gone.failures
        );
        assert!(report(&findings(&[]), &declared, false).failures.is_empty());
    }

    #[test]
    fn an_api_that_is_missing_has_to_be_declared_and_no_other() {
        let nothing = report(&findings(&[]), &Declared::default(), true);
        assert_eq!(nothing.failures, ["Heartbeat is advertised by Kafka, not by Ottla, and not declared"]);
        let declared = Declared::parse("```not-advertised\nHeartbeat Fetch\n```").unwrap();
        let too_much = report(&findings(&[]), &declared, true);
        assert_eq!(too_much.failures, ["Fetch is declared as not advertised, and it is"]);
    }
}
