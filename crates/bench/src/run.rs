//! Rounds: every subject in turn, there and back, and what was measured while others took the machine thrown away.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::limits::Limits;
use crate::machine::{Foreign, Machine, sync_all, syncs_per_second};
use crate::process::{Usage, Watch};
use crate::results::{Results, Sample};
use crate::stats::order;
use crate::subject::{Kind, Places, Subject};
use crate::syncs::{Count, can_count};

#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub rounds: usize,
    /// Share of the machine's processors that others may take during a run that counts.
    pub foreign_max: f64,
    pub json: PathBuf,
    /// Only cases with this in their names.
    pub only: Option<String>,
    /// How long workload 9 goes on.
    pub steady_seconds: f64,
    pub commit: String,
}

/// What others may take of the machine before a run is thrown away.
pub const FOREIGN_MAX: f64 = 0.10;
/// A run is repeated so often; on a machine that is never quiet its round stays without a value.
const TRIES_MAX: usize = 4;

pub struct Run {
    pub plan: Plan,
    pub results: Results,
    counts_syncs: bool,
}

/// What a run gave: metric and value.
pub type Values = Vec<(&'static str, f64)>;

/// Where values belong.
#[derive(Clone, Debug)]
pub struct Case {
    pub workload: u8,
    pub name: String,
}

impl Case {
    pub fn new(workload: u8, name: impl Into<String>) -> Case {
        Case { workload, name: name.into() }
    }
}

impl Run {
    pub fn new(plan: Plan) -> Run {
        let counts_syncs = can_count();
        if !counts_syncs {
            eprintln!(
                "perf cannot count system calls here: syncs are those of Ottla's own metrics, Kafka's are missing"
            );
        }
        let results = Results {
            machine: Machine::here(),
            limits: Limits::measure(&plan.places.work)
                .inspect_err(|error| eprintln!("what the machine itself gives is not known: {error:#}"))
                .ok(),
            at: crate::batches::now_micros() / 1_000_000,
            commit: plan.commit.clone(),
            kafka: crate::subject::kafka_version().to_owned(),
            foreign_max: plan.foreign_max,
            samples: Vec::new(),
            discarded: 0,
        };
        Run { plan, results, counts_syncs }
    }

    pub fn wants(&self, case: &Case) -> bool {
        self.plan.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()))
    }

    /// Ottla and Kafka as they come: where nothing hangs on the syncs, the other two would only repeat them.
    pub fn one_of_each(&self) -> Vec<Kind> {
        let kinds = self.plan.kinds.iter().copied();
        kinds.filter(|kind| matches!(kind, Kind::Ottla | Kind::Kafka)).collect()
    }

    pub fn started(&self, kinds: &[Kind]) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for kind in kinds {
            let mut subject = Subject::new(*kind, &self.plan.places, &[])?;
            subject.start()?;
            subjects.push(subject);
        }
        Ok(subjects)
    }

    /// Measures every subject in every round and keeps the values.
    pub async fn rounds(
        &mut self,
        case: &Case,
        subjects: &mut [Subject],
        mut measure: impl AsyncFnMut(&Run, &mut Subject) -> Result<Values>,
    ) -> Result<()> {
        for round in 0..self.plan.rounds {
            for index in order(round, subjects.len()) {
                let subject = &mut subjects[index];
                let kind = subject.kind;
                let mut probe = 0.0;
                let (values, foreign, thrown) = quiet(self.plan.foreign_max, async || {
                    sync_all()?;
                    probe = syncs_per_second(&self.plan.places.work)?;
                    let foreign = Foreign::watch()?;
                    let context = || format!("{} in {case:?}", kind.name());
                    let values = measure(self, subject).await.with_context(context)?;
                    Ok((values, foreign.share()?))
                })
                .await?;
                self.results.discarded += thrown;
                let Some(values) = values else {
                    eprintln!(
                        "{case:?} {}: others took {foreign:.2} of the machine, {thrown} times",
                        kind.name()
                    );
                    continue;
                };
                self.keep(case, kind, round, &values, foreign, probe);
            }
        }
        self.results.write(&self.plan.json)
    }

    pub fn keep(
        &mut self,
        case: &Case,
        subject: Kind,
        round: usize,
        values: &Values,
        foreign: f64,
        probe: f64,
    ) {
        let shown: Vec<String> = values
            .iter()
            .map(|(metric, value)| format!("{metric} {}", crate::results::digits(*value)))
            .collect();
        eprintln!(
            "{} · {} · {} · round {round}: {} (foreign {foreign:.2}, disk {probe:.0} syncs/s)",
            case.workload,
            case.name,
            subject.name(),
            shown.join(", ")
        );
        for (metric, value) in values {
            self.results.samples.push(Sample {
                workload: case.workload,
                case: case.name.clone(),
                metric: (*metric).to_owned(),
                subject,
                round,
                value: *value,
                foreign,
                probe,
            });
        }
    }

    /// What a subject uses from now on.
    pub fn watch(&self, subject: &Subject) -> Result<Watched> {
        let pid = subject.pid()?;
        let count = if self.counts_syncs { Some(Count::start(pid)?) } else { None };
        Ok(Watched {
            count,
            watch: Watch::start(pid, subject.admin.clone())?,
            generator: Watch::this_process()?,
        })
    }
}

pub struct Watched {
    count: Option<Count>,
    watch: Watch,
    generator: Watch,
}

impl Watched {
    /// The subject's and the generator's.
    pub fn usage(self) -> Result<(Usage, Usage)> {
        let mut usage = self.watch.usage()?;
        if let Some(count) = self.count {
            usage.syncs = Some(count.finish()?);
        }
        Ok((usage, self.generator.usage()?))
    }
}

/// Tries until others leave the machine alone. Gives the values, what others took in the last try, and how many tries
/// were thrown away.
async fn quiet(
    foreign_max: f64,
    mut attempt: impl AsyncFnMut() -> Result<(Values, f64)>,
) -> Result<(Option<Values>, f64, u64)> {
    let mut thrown = 0;
    loop {
        let (values, foreign) = attempt().await?;
        if foreign <= foreign_max {
            return Ok((Some(values), foreign, thrown));
        }
        thrown += 1;
        if thrown == TRIES_MAX as u64 {
            return Ok((None, foreign, thrown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tried(shares: &[f64]) -> (Option<Values>, f64, u64) {
        let mut shares = shares.iter();
        quiet(0.1, async || {
            let share = *shares.next().expect("no more tries than allowed");
            Ok((vec![("share", share)], share))
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_measured_beside_others_is_thrown_away_and_counted() {
        assert_eq!(tried(&[0.05]).await, (Some(vec![("share", 0.05)]), 0.05, 0));
        assert_eq!(tried(&[0.5, 0.2, 0.1]).await, (Some(vec![("share", 0.1)]), 0.1, 2));
        assert_eq!(tried(&[0.5, 0.4, 0.3, 0.2]).await, (None, 0.2, 4), "a machine that is never quiet");
    }

    #[tokio::test]
    async fn an_error_is_not_a_noisy_round() {
        assert!(quiet(0.1, async || anyhow::bail!("the broker is gone")).await.is_err());
    }
}
