//! Every value that was measured, as it goes into the file, and what follows from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::machine::Machine;
use crate::stats::{interval, median, range};
use crate::subject::Kind;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// None in files older than it, and where it could not be measured.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// Seconds since 1970.
    pub at: u64,
    pub commit: String,
    /// The version of Apache Kafka.
    #[serde(default = "kafka_of_older_files")]
    pub kafka: String,
    /// The share of the machine that others may have taken in a run.
    pub foreign_max: f64,
    pub samples: Vec<Sample>,
    /// Runs thrown away because others took more.
    pub discarded: u64,
}

/// One value of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub workload: u8,
    pub case: String,
    pub metric: String,
    pub subject: Kind,
    pub round: usize,
    pub value: f64,
    /// The share of the machine that others took meanwhile.
    pub foreign: f64,
    /// Syncs per second that the disk gave right before.
    pub probe: f64,
}

/// One row of a table: a metric of a case, over all subjects.
pub struct Row {
    pub workload: u8,
    pub case: String,
    pub metric: String,
    pub values: BTreeMap<Kind, Vec<f64>>,
    pub ratios: Vec<Ratio>,
}

/// What one subject has of another, paired by round.
pub struct Ratio {
    pub of: Kind,
    pub to: Kind,
    pub median: f64,
    pub interval: (f64, f64),
    /// Of rounds. One round has no interval.
    pub pairs: usize,
}

fn kafka_of_older_files() -> String {
    "4.3.1".to_owned()
}

impl Results {
    pub fn read(path: &Path) -> Result<Results> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no file of ours", path.display()))
    }

    /// The file is replaced whole, so that one run that fails leaves what was measured before.
    pub fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_string_pretty(self)?)?;
        Ok(std::fs::rename(&new, path)?)
    }

    /// In the order in which they were measured first.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for sample in &self.samples {
            let known = rows.iter_mut().find(|row| {
                (row.workload, &row.case, &row.metric) == (sample.workload, &sample.case, &sample.metric)
            });
            let row = match known {
                Some(row) => row,
                None => {
                    rows.push(Row {
                        workload: sample.workload,
                        case: sample.case.clone(),
                        metric: sample.metric.clone(),
                        values: BTreeMap::new(),
                        ratios: Vec::new(),
                    });
                    rows.last_mut().expect("one was pushed")
                }
            };
            row.values.entry(sample.subject).or_default().push(sample.value);
        }
        for row in &mut rows {
            row.ratios = self.ratios(row);
        }
        rows
    }

    fn ratios(&self, row: &Row) -> Vec<Ratio> {
        let of = |kind: Kind| -> BTreeMap<usize, f64> {
            self.samples
                .iter()
                .filter(|s| {
                    (s.workload, &s.case, &s.metric, s.subject)
                        == (row.workload, &row.case, &row.metric, kind)
                })
                .map(|sample| (sample.round, sample.value))
                .collect()
        };
        let mut ratios = Vec::new();
        for kind in Kind::ALL {
            for neighbour in kind.neighbours() {
                let (ours, theirs) = (of(kind), of(*neighbour));
                // Rounds of which one side was thrown away have no ratio.
                let paired: Vec<f64> = ours
                    .iter()
                    .filter_map(|(round, value)| Some(value / theirs.get(round).filter(|v| **v != 0.0)?))
                    .collect();
                if !paired.is_empty() {
                    let (median, interval) = (median(&paired), interval(&paired));
                    ratios.push(Ratio { of: kind, to: *neighbour, median, interval, pairs: paired.len() });
                }
            }
        }
        ratios
    }
}

/// A median with its range.
pub fn shown(values: &[f64]) -> String {
    let (least, most) = range(values);
    match values.len() {
        0 => "–".to_owned(),
        1 => digits(values[0]),
        _ => format!("{} ({}–{})", digits(median(values)), digits(least), digits(most)),
    }
}

pub fn shown_ratio(ratio: &Ratio) -> String {
    let (low, high) = ratio.interval;
    format!("{} [{}–{}]", digits(ratio.median), digits(low), digits(high))
}

/// Three digits that count, thousands apart.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "–".to_owned(),
        _ if size >= 1000.0 => {
            let whole = format!("{size:.0}");
            let mut out = String::new();
            for (index, digit) in whole.chars().enumerate() {
                if index > 0 && (whole.len() - index).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(samples: &[(Kind, usize, f64)]) -> Results {
        let sample = |(subject, round, value): &(Kind, usize, f64)| Sample {
            workload: 1,
            case: "one".into(),
            metric: "MB/s".into(),
            subject: *subject,
            round: *round,
            value: *value,
            foreign: 0.0,
            probe: 1000.0,
        };
        Results {
            machine: Machine::here(),
            limits: None,
            at: 0,
            commit: String::new(),
            kafka: kafka_of_older_files(),
            foreign_max: 0.1,
            samples: samples.iter().map(sample).collect(),
            discarded: 0,
        }
    }

    #[test]
    fn ratios_are_paired_by_round_and_a_round_that_lacks_a_side_has_none() {
        // The machine is half as fast in round 1: values differ, the ratio does not.
        let results = results(&[
            (Kind::Ottla, 0, 200.0),
            (Kind::Kafka, 0, 100.0),
            (Kind::Kafka, 1, 50.0),
            (Kind::Ottla, 1, 100.0),
            (Kind::Ottla, 2, 900.0),
        ]);
        let rows = results.rows();
        assert_eq!(rows.len(), 1);
        let ratio = &rows[0].ratios[0];
        assert_eq!((ratio.of, ratio.to), (Kind::Ottla, Kind::Kafka));
        assert_eq!((ratio.median, ratio.interval), (2.0, (2.0, 2.0)));
        assert_eq!(shown(&rows[0].values[&Kind::Kafka]), "75.0 (50.0–100)");
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("bench-results-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let written = results(&[(Kind::Ottla, 0, 1.5), (Kind::OttlaInterval, 0, 3.0)]);
        written.write(&folder.join("results.json")).unwrap();
        let read = Results::read(&folder.join("results.json")).unwrap();
        assert_eq!(read.samples.len(), 2);
        assert_eq!(read.samples[1].subject, Kind::OttlaInterval);
        assert!(Results::read(&folder.join("missing.json")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(digits(1_234_567.8), "1,234,568");
        assert_eq!(digits(123.4), "123");
        assert_eq!(digits(0.0123), "0.0123");
        assert_eq!(digits(f64::NAN), "–");
    }
}
