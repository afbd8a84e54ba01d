//! What came of it: a short table for people, one line of JSON for programs.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use sim::history::{Violation, Write};

use super::faults::WITNESS;
use super::gaps::Gap;
use super::proxy::Counters;

/// Beyond the lease, and of a planned move.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Violations by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub lost: usize,
    pub moved: usize,
    pub offsets_given_twice: usize,
    pub duplicates: usize,
    pub out_of_order: usize,
    pub holes: usize,
    pub changed: usize,
    /// Of those above: acknowledged by a broker that was stopped or cut off, and not where it said.
    pub accepted_after_a_fence: usize,
}

impl Counts {
    pub fn of(violations: &[Violation]) -> Counts {
        let mut counts = Counts::default();
        for violation in violations {
            let count = match violation {
                Violation::Lost { .. } => &mut counts.lost,
                Violation::Moved { .. } | Violation::AcknowledgedTwice { .. } => &mut counts.moved,
                Violation::OffsetGivenTwice { .. } => &mut counts.offsets_given_twice,
                Violation::Twice { .. } => &mut counts.duplicates,
                Violation::OutOfOrder { .. } => &mut counts.out_of_order,
                Violation::Hole { .. } => &mut counts.holes,
                Violation::Changed { .. } => &mut counts.changed,
            };
            *count += 1;
            if let Violation::Lost { write, .. } | Violation::Moved { write, .. } = violation {
                counts.accepted_after_a_fence += usize::from(is_witness(write));
            }
        }
        counts
    }
}

fn is_witness(write: &Write) -> bool {
    write.producer.starts_with(WITNESS)
}

/// What the brokers logged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub takeovers: u64,
    pub planned_moves: u64,
    pub partitions_moved: u64,
    /// Leaves in which the partitions went to others.
    pub leaves: u64,
    pub panics: u64,
}

impl Said {
    pub fn in_logs(logs: impl Iterator<Item = String>) -> Said {
        let mut said = Said::default();
        for log in logs {
            log.lines().for_each(|line| said.add(line));
        }
        said
    }

    fn add(&mut self, line: &str) {
        self.takeovers += u64::from(line.contains("took over WAL"));
        self.leaves += u64::from(line.contains("left: "));
        self.panics += u64::from(line.contains("panicked at"));
        let moved = line.split_once("moved ").and_then(|(_, rest)| rest.split_once(" partition"));
        if let Some(count) = moved.and_then(|(count, _)| count.parse::<u64>().ok()) {
            self.planned_moves += 1;
            self.partitions_moved += count;
        }
    }
}

/// Requests to the store, and how many of them were spoiled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Requests {
    all: u64,
    refused: u64,
    answers_lost: u64,
}

pub fn requests<'a>(counters: impl Iterator<Item = &'a Counters>) -> Requests {
    counters.fold(Requests::default(), |sum, counters| Requests {
        all: sum.all + counters.requests.load(Ordering::Relaxed),
        refused: sum.refused + counters.refused.load(Ordering::Relaxed),
        answers_lost: sum.answers_lost + counters.lost.load(Ordering::Relaxed),
    })
}

pub struct Summary {
    pub seed: u64,
    pub brokers: usize,
    pub minutes: f64,
    pub injected: BTreeMap<&'static str, u32>,
    pub acknowledged: usize,
    pub found: usize,
    pub read_meanwhile: usize,
    pub counts: Counts,
    pub refused: usize,
    pub witnesses: u32,
    pub witnesses_acknowledged: u32,
    pub brokers_said: Said,
    pub ended_by_themselves: u32,
    /// Producers of librdkafka, by a mistake of its own, which were replaced.
    pub gave_up: usize,
    pub store: Requests,
    pub gaps: BTreeMap<&'static str, Gap>,
    pub consumer_gaps: BTreeMap<&'static str, Gap>,
    pub consumer_gap_max_ms: u32,
    pub lease: Duration,
    pub problems: Vec<String>,
    /// A gap beyond its bound fails the run.
    pub has_bounds: bool,
}

impl Summary {
    /// What was promised of a kind of fault, if anything, and what came of it: (milliseconds seen, milliseconds at most).
    fn promise(&self, kind: &str, gap: &Gap) -> Option<(u32, u32)> {
        match kind {
            // It is back when it is started again.
            _ if self.brokers == 1 => None,
            "kill" => Some((gap.max_ms, (self.lease + GAP_MAX).as_millis() as u32)),
            "leave" | "join" => Some((gap.p99_ms, GAP_MAX.as_millis() as u32)),
            _ => None,
        }
    }

    fn is_within_bounds(&self) -> bool {
        self.gaps.iter().all(|(kind, gap)| self.promise(kind, gap).is_none_or(|(seen, most)| seen <= most))
    }

    pub fn is_clean(&self) -> bool {
        self.counts == Counts::default()
            && self.refused == 0
            && self.problems.is_empty()
            && self.brokers_said.panics == 0
            // A check of nothing is no check.
            && self.acknowledged > 0
            && (!self.has_bounds || self.is_within_bounds())
    }

    pub fn print(&self) {
        let Summary { brokers, seed, acknowledged, found, counts, brokers_said, .. } = self;
        println!(
            "{brokers} brokers, {:.1} minutes, seed {seed}: {} faults ({})",
            self.minutes,
            self.injected.values().sum::<u32>(),
            self.injected
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        println!(
            "{acknowledged} acknowledged, {found} in the log, {} lost, {} duplicates, {} accepted after a fence, {} moved, \
             {} offsets given twice, {} out of order, {} holes, {} changed, {} not acknowledged in time",
            counts.lost,
            counts.duplicates,
            counts.accepted_after_a_fence,
            counts.moved,
            counts.offsets_given_twice,
            counts.out_of_order,
            counts.holes,
            counts.changed,
            self.refused
        );
        println!(
            "{} takeovers, {} planned moves of {} partitions, {} planned leaves, {} processes ended by themselves, {} panics",
            brokers_said.takeovers,
            brokers_said.planned_moves,
            brokers_said.partitions_moved,
            brokers_said.leaves,
            self.ended_by_themselves,
            brokers_said.panics
        );
        if self.gave_up > 0 {
            println!(
                "{} producers of librdkafka gave up by a mistake of its own and were replaced",
                self.gave_up
            );
        }
        println!(
            "\n{:<20}{:>7}{:>9}{:>9}{:>9}{:>9}  consumer p99 / max",
            "gap, ms", "faults", "streams", "p50", "p99", "max"
        );
        for (kind, gap) in &self.gaps {
            let Gap { windows, streams, p50_ms, p99_ms, max_ms } = gap;
            print!("{kind:<20}{windows:>7}{streams:>9}{p50_ms:>9}{p99_ms:>9}{max_ms:>9}");
            if let Some(Gap { p99_ms, max_ms, .. }) = self.consumer_gaps.get(kind) {
                print!("  {p99_ms} / {max_ms}");
            }
            if let Some((seen, most)) = self.promise(kind, gap) {
                print!("  {} {most}", if seen <= most { "within" } else { "BEYOND" });
            }
            println!();
        }
        println!("longest time without any record at the consumer: {} ms\n", self.consumer_gap_max_ms);
        println!("{}", self.json());
    }

    fn json(&self) -> Value {
        let gaps = |gaps: &BTreeMap<&'static str, Gap>| {
            let of = |gap: &Gap| {
                let Gap { windows, streams, p50_ms, p99_ms, max_ms } = gap;
                json!({ "faults": windows, "streams": streams, "p50_ms": p50_ms, "p99_ms": p99_ms, "max_ms": max_ms })
            };
            gaps.iter().map(|(kind, gap)| (kind.to_string(), of(gap))).collect::<serde_json::Map<_, _>>()
        };
        let Counts {
            lost,
            moved,
            offsets_given_twice,
            duplicates,
            out_of_order,
            holes,
            changed,
            accepted_after_a_fence,
        } = self.counts;
        let Said { takeovers, planned_moves, partitions_moved, leaves, panics } = self.brokers_said;
        json!({
            "is_clean": self.is_clean(),
            "seed": self.seed,
            "brokers": self.brokers,
            "minutes": self.minutes,
            "faults": self.injected,
            "acknowledged": self.acknowledged,
            "found": self.found,
            "read_meanwhile": self.read_meanwhile,
            "lost": lost,
            "duplicates": duplicates,
            "accepted_after_a_fence": accepted_after_a_fence,
            "moved": moved,
            "offsets_given_twice": offsets_given_twice,
            "out_of_order": out_of_order,
            "holes": holes,
            "changed": changed,
            "not_acknowledged_in_time": self.refused,
            "writes_to_stopped_or_cut_off_brokers": self.witnesses,
            "of_them_partitions_acknowledged": self.witnesses_acknowledged,
            "takeovers": takeovers,
            "planned_moves": planned_moves,
            "partitions_moved": partitions_moved,
            "planned_leaves": leaves,
            "ended_by_themselves": self.ended_by_themselves,
            "librdkafka_gave_up": self.gave_up,
            "panics": panics,
            "store_requests": self.store.all,
            "store_requests_refused": self.store.refused,
            "store_answers_lost": self.store.answers_lost,
            "gaps": gaps(&self.gaps),
            "consumer_gaps": gaps(&self.consumer_gaps),
            "consumer_gap_max_ms": self.consumer_gap_max_ms,
            "gaps_within_bounds": self.is_within_bounds(),
            "problems": self.problems,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takeovers_and_moves_are_counted_in_what_brokers_say() {
        let log = "2026 INFO catalog: took over WAL 7 of node 2\n2026 INFO moved 4 partitions\n\
                   2026 INFO moved on\nthread 'x' panicked at a.rs:1\n2026 INFO took over WAL 8 of node 2\n\
                   INFO left: 2 other brokers have the partitions";
        let said =
            Said::in_logs([log.to_owned(), "INFO moved 2 partitions to node 3".to_owned()].into_iter());
        assert_eq!(said, Said { takeovers: 2, planned_moves: 2, partitions_moved: 6, leaves: 1, panics: 1 });
    }

    #[test]
    fn an_acknowledgement_of_a_fenced_broker_that_is_not_in_the_log_is_counted_as_such() {
        let lost = |producer: &str| Violation::Lost {
            write: Write { producer: producer.into(), partition: 0, number: 0 },
            offset: 3,
        };
        let counts = Counts::of(&[lost("own-1"), lost("witness-3")]);
        assert_eq!(counts, Counts { lost: 2, accepted_after_a_fence: 1, ..Counts::default() });
    }
}
