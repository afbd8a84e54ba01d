//! Ottla held against Apache Kafka, answer by answer: the same requests go to both, in every version that Kafka advertises, and what
//! comes back is compared field by field.
//!
//! Owns: the scripts (`scripts/`, one file per family of APIs: what is asked), a broker being asked (`conversation`), what may differ
//! from run to run (`normal`), the comparison (`compare`), and the list of what differs on purpose (`declared`, which reads
//! `docs/differences.md`). Who answers is only an address: Kafka and Ottla are started by `bench::subject`.
//! Never sees: the broker and what is below it. A harness, not a room of the product: it asks the real clock.
//! Start reading at `scripts/metadata.rs`, then `conversation.rs`.
#![allow(clippy::disallowed_methods)]

pub mod compare;
pub mod conversation;
pub mod declared;
pub mod normal;
pub mod pattern;
pub mod report;
pub mod scripts;
pub mod value;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use protocol::ApiKey;

use compare::{Covered, Difference, Differences};
use conversation::{Broker, Conversation, Exchange, Versions};
use scripts::Script;

/// Which of the scripts are run, and in which versions.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// None: all.
    pub apis: Vec<ApiKey>,
    /// Only scripts with this in their names.
    pub script: Option<String>,
    /// Only the lowest, the first flexible and the highest version of each API.
    pub few_versions: bool,
    /// Say on stderr which scripts a broker needs long for.
    pub verbose: bool,
}

/// Where a broker is: its listener for everybody, and the one for those who say who they are.
#[derive(Debug, Clone)]
pub struct Place {
    pub address: String,
    pub sasl_address: Option<String>,
}

/// What a run has found.
pub struct Findings {
    pub kafka: Versions,
    pub ottla: Versions,
    pub differences: Differences,
    /// What no line tells and what did not come again: a race, of the script or of one of the two.
    pub passed_by: Vec<Difference>,
    pub covered: Covered,
    /// APIs that scripts were run for.
    pub scripted: BTreeSet<i16>,
}

struct Run {
    script: &'static Script,
    version: i16,
    marker: String,
}

/// How often a script must show a difference that no line tells. Kafka does after its answer some of what it has answered for, so a
/// script that asks at once meets it before or after.
const SHOWN_MIN: usize = 3;

/// Runs the chosen scripts against both, which work side by side. `is_told`: some line declares the difference.
pub fn run(
    kafka: &Place,
    ottla: &Place,
    choice: &Choice,
    is_told: impl Fn(&Difference) -> bool,
) -> Result<Findings> {
    let meet = |place: &Place| Broker::meet(&place.address, place.sasl_address.as_deref());
    let (kafka, ottla) = (meet(kafka)?, meet(ottla)?);
    let has_sasl = kafka.sasl_address.is_some() && ottla.sasl_address.is_some();
    let runs = planned(&kafka.advertised, has_sasl, choice);
    let versions = &kafka.advertised;
    let both = |runs: &[Run]| {
        std::thread::scope(|scope| {
            let verbose = choice.verbose;
            let (ottla, kafka) = (&ottla, &kafka);
            let other = scope.spawn(move || all(runs, ottla, versions, verbose.then_some("Ottla")));
            let of_kafka = all(runs, kafka, versions, verbose.then_some("Kafka"));
            (of_kafka, other.join().expect("a script does not panic"))
        })
    };
    let (of_kafka, of_ottla) = both(&runs);
    let (mut differences, mut covered) = (Differences::new(), Covered::new());
    let mut passed_by = Vec::new();
    for (run, (left, right)) in runs.iter().zip(of_kafka.iter().zip(&of_ottla)) {
        let mut of_run = Differences::new();
        compare::compare(run.script.name, &run.marker, left, right, &mut of_run, &mut covered);
        for time in 1..SHOWN_MIN {
            if of_run.keys().all(&is_told) {
                break;
            }
            let again =
                Run { script: run.script, version: run.version, marker: format!("{}{time}-", run.marker) };
            let (left, right) = both(std::slice::from_ref(&again));
            let mut shown = Differences::new();
            compare::compare(again.script.name, &again.marker, &left[0], &right[0], &mut shown, &mut covered);
            let gone =
                of_run.keys().filter(|&difference| !is_told(difference) && !shown.contains_key(difference));
            passed_by.extend(gone.cloned());
            of_run.retain(|difference, _| is_told(difference) || shown.contains_key(difference));
        }
        for (difference, versions) in of_run {
            differences.entry(difference).or_default().extend(versions);
        }
    }
    let scripted = runs.iter().map(|run| run.script.api.code()).collect();
    Ok(Findings {
        kafka: kafka.advertised.clone(),
        ottla: ottla.advertised.clone(),
        differences,
        passed_by,
        covered,
        scripted,
    })
}

fn planned(versions: &Versions, has_sasl: bool, choice: &Choice) -> Vec<Run> {
    // Brokers that are up already have the names of earlier runs.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let mut runs = Vec::new();
    for script in scripts::all() {
        let is_chosen = (choice.apis.is_empty() || choice.apis.contains(&script.api))
            && choice.script.as_ref().is_none_or(|part| script.name.contains(part))
            && (has_sasl || !script.needs_sasl);
        let Some((low, high)) = versions.get(&script.api.code()).filter(|_| is_chosen) else { continue };
        let Some(known) = script.api.versions() else { continue };
        let range = (*low).max(*known.start())..=(*high).min(*known.end());
        for version in range.clone() {
            let is_edge = version == *range.start()
                || version == *range.end()
                || (script.api.is_flexible(version) && !script.api.is_flexible(version - 1));
            if choice.few_versions && !is_edge {
                continue;
            }
            let marker = format!("c{seconds:x}-{}-", runs.len());
            runs.push(Run { script, version, marker });
        }
    }
    runs
}

/// What a script may need that does not wait for anything.
const LONG: Duration = Duration::from_secs(1);

fn all(runs: &[Run], broker: &Broker, versions: &Versions, told: Option<&str>) -> Vec<Vec<Exchange>> {
    let mut exchanges = Vec::with_capacity(runs.len());
    for run in runs {
        let began = Instant::now();
        let mut conversation = Conversation::new(broker, versions, run.script, run.version, &run.marker);
        (run.script.run)(&mut conversation);
        exchanges.push(conversation.finish());
        if let Some(who) = told
            && began.elapsed() > LONG
        {
            let (script, seconds) = (run.script, began.elapsed().as_secs_f64());
            eprintln!("{who}: {} {}, {}: {seconds:.1} s", script.api, run.version, script.name);
        }
    }
    exchanges
}
