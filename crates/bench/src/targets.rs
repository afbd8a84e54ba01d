//! What the figures must be, and whether they are.

use crate::results::{Row, digits, shown, shown_ratio};
use crate::stats::median;
use crate::subject::Kind;
use crate::workloads::{fan_out, latency, many_topics, produce, starts, steady_state, volume};

/// Ottla's value, or what it is of another's, at a side of a bound.
pub struct Target {
    pub what: &'static str,
    pub workload: u8,
    pub case: &'static str,
    pub metric: &'static str,
    pub beside: Option<Kind>,
    pub wanted: Wanted,
    /// Where the rest goes, said where it is not reached.
    pub limit: &'static str,
}

#[derive(Clone, Copy)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

use Wanted::{AtLeast, AtMost, Below};

const fn ratio(
    what: &'static str,
    (workload, case, metric): (u8, &'static str, &'static str),
    beside: Kind,
    wanted: Wanted,
) -> Target {
    Target { what, workload, case, metric, beside: Some(beside), wanted, limit: UNEXPLAINED }
}

const fn value(
    what: &'static str,
    (workload, case, metric): (u8, &'static str, &'static str),
    wanted: Wanted,
) -> Target {
    Target { what, workload, case, metric, beside: None, wanted, limit: UNEXPLAINED }
}

/// A target that is missed without anybody having said why is a task.
const UNEXPLAINED: &str = "not explained yet.";

/// Of durable produce beside a Kafka that syncs.
const CHEAP_SYNCS: &str = "each of Kafka's batches costs it three syncs, which are cheap where one takes a tenth of a millisecond (the machine's own \
     table); Ottla's side, with one sync for 60 to 70 batches, is bound by the processors, which it shares with the generator. On a volume \
     of 3,000 writes per second (workload 12) the syncs decide.";
/// Of one connection with five requests under way.
const WAKE_UPS: &str = "Kafka's three syncs per batch already run at what this disk gives, one after the other (the probe: about 11,000 a second). Of \
     Ottla's five requests under way about three are in a commit, so 7,500 syncs a second, and every commit waits for threads of two \
     processes to wake up several times; ottla-interval beside it shows what is left of that without any sync. With as few syncs the disk \
     alone would end it at 9 ×. More requests under way, or more connections, fill the commits; so does a slower disk (workload 12).";
/// Of many partitions where a commit takes long.
const UNDER_WAY: &str = "four connections with five requests of ten batches have 200 batches under way, of which a commit holds about 120; more \
     requests would fill it, while Kafka's syncs stay three for each batch.";
/// Of a processor's time per byte where batches are small.
const SMALL_BATCHES: &str = "per record about 3 µs. The profile of this load (perf, 1,500 Hz, 5 s): 65 % is the kernel's (writing the commits 16, syncing \
     them 9, receiving and answering 12, threads that wait and wake, futex and epoll, 17, the rest zeros ahead of use and memory), 27 % \
     Ottla's own code, no function above 2.3, and 7 % the C library's. The kernel's part alone is 0.18 of all that Kafka uses, which never \
     syncs. After 800,000 runs of batches (200,000 on small machines) the rewriting into segments comes on top. Tried without gain: other \
     allocators (mimalloc, jemalloc), larger windows for the rewriter's reads, zeros written without syncs in between.";

const MB: &str = produce::MB_PER_S;
const CPU: &str = produce::CPU_PER_GB;

pub const TARGETS: [Target; 23] = [
    ratio(
        "durable produce, 1 partition; one record of 1 KB is a batch, one connection",
        (1, "1 partition, 1 KB, small batches", MB),
        Kind::KafkaFsync,
        AtLeast(10.0),
    )
    .limited_by(WAKE_UPS),
    ratio(
        "durable produce, 100 partitions; one record of 1 KB is a batch",
        (1, "100 partitions, 1 KB, small batches", MB),
        Kind::KafkaFsync,
        AtLeast(100.0),
    )
    .limited_by(CHEAP_SYNCS),
    ratio(
        "durable produce, 1,000 partitions; one record of 1 KB is a batch",
        (1, "1,000 partitions, 1 KB, small batches", MB),
        Kind::KafkaFsync,
        AtLeast(300.0),
    )
    .limited_by(CHEAP_SYNCS),
    ratio(
        "the same on a volume of 3,000 writes per second, 1 partition",
        (12, volume::CASES[0].1, MB),
        Kind::KafkaFsync,
        AtLeast(10.0),
    ),
    ratio(
        "the same on a volume of 3,000 writes per second, 100 partitions",
        (12, volume::CASES[1].1, MB),
        Kind::KafkaFsync,
        AtLeast(100.0),
    )
    .limited_by(UNDER_WAY),
    ratio(
        "the same on a volume of 3,000 writes per second, 1,000 partitions",
        (12, volume::CASES[2].1, MB),
        Kind::KafkaFsync,
        AtLeast(300.0),
    )
    .limited_by(UNDER_WAY),
    ratio(
        "durable produce beside a Kafka that does not sync, 1 partition",
        (1, "1 partition, 1 KB, none", MB),
        Kind::Kafka,
        AtLeast(0.8),
    ),
    ratio("the same, 100 partitions", (1, "100 partitions, 1 KB, none", MB), Kind::Kafka, AtLeast(1.5)),
    ratio("the same, 1,000 partitions", (1, "1,000 partitions, 1 KB, none", MB), Kind::Kafka, AtLeast(1.5)),
    ratio(
        "CPU per GB produced, batches of 64 KiB",
        (1, "1 partition, 1 KB, none", CPU),
        Kind::Kafka,
        AtMost(0.35),
    ),
    ratio(
        "the same, batches of 1 MB",
        (1, "1 partition, 1 KB, large batches", CPU),
        Kind::Kafka,
        AtMost(0.35),
    ),
    value("batches of 1 MB, CPU-seconds per GB", (1, "1 partition, 1 KB, large batches", CPU), AtMost(1.0)),
    ratio(
        "CPU per GB produced, 100 partitions; one record of 1 KB is a batch",
        (1, "100 partitions, 1 KB, small batches", CPU),
        Kind::Kafka,
        AtMost(0.2),
    )
    .limited_by(SMALL_BATCHES),
    ratio(
        "CPU per GB fetched at the tail",
        (3, fan_out::CASE, fan_out::CPU_PER_GB_FETCHED),
        Kind::Kafka,
        AtMost(0.5),
    ),
    ratio(
        "produce p99 at 2,000 records/s, beside a Kafka that does not sync",
        (2, latency::CASE_2000, latency::PRODUCE_P99),
        Kind::Kafka,
        AtMost(1.0),
    ),
    value("idle memory, MiB", (7, starts::EMPTY, starts::IDLE_MEMORY), Below(15.0)),
    value("start to first acknowledgement, ms", (7, starts::EMPTY, starts::FIRST_ACK), Below(50.0)),
    value(
        "kill -9 to first acknowledgement, 1 partition, ms; wanted with 10 GB of log, measured with 5 GB",
        (7, starts::ONE_PARTITION, starts::KILLED),
        Below(300.0),
    ),
    value(
        "kill -9 to first acknowledgement, 1,000 partitions, ms; 5 GB of log",
        (7, starts::MANY_PARTITIONS, starts::KILLED),
        Below(1000.0),
    ),
    value("10,000 topics created, s", (6, many_topics::CASE, many_topics::CREATE), Below(5.0)),
    value("memory of an idle partition, KiB", (6, many_topics::CASE, many_topics::PER_PARTITION), Below(2.0)),
    value(
        "the same after a restart",
        (6, many_topics::CASE, many_topics::PER_PARTITION_RESTARTED),
        Below(2.0),
    ),
    value(
        "bytes written to the device per byte acknowledged, steady state",
        (9, steady_state::CASE, steady_state::DEVICE_BYTES),
        AtMost(2.2),
    ),
];

impl Wanted {
    fn reached(self, measured: f64) -> bool {
        match self {
            AtLeast(bound) => measured >= bound,
            AtMost(bound) => measured <= bound,
            Below(bound) => measured < bound,
        }
    }

    fn shown(self) -> String {
        let (sign, bound) = match self {
            AtLeast(bound) => ("≥", bound),
            AtMost(bound) => ("≤", bound),
            Below(bound) => ("<", bound),
        };
        // As it was said: no digits that nobody asked for.
        if bound >= 1000.0 { format!("{sign} {}", digits(bound)) } else { format!("{sign} {bound}") }
    }
}

impl Target {
    const fn limited_by(self, limit: &'static str) -> Target {
        Target { limit, ..self }
    }

    /// The median, and how it is shown.
    fn measured(&self, rows: &[&Row]) -> Option<(f64, String)> {
        let row = rows.iter().find(|row| {
            (row.workload, row.case.as_str(), row.metric.as_str()) == (self.workload, self.case, self.metric)
        });
        match self.beside {
            Some(kind) => row
                .and_then(|row| row.ratios.iter().find(|ratio| (ratio.of, ratio.to) == (Kind::Ottla, kind)))
                .map(|ratio| (ratio.median, shown_ratio(ratio))),
            None => {
                row.and_then(|row| row.values.get(&Kind::Ottla)).map(|values| (median(values), shown(values)))
            }
        }
    }

    /// None where it was not measured.
    pub fn reached(&self, rows: &[&Row]) -> Option<bool> {
        self.measured(rows).map(|(median, _)| self.wanted.reached(median))
    }

    /// A row of the table: what, wanted, measured, whether reached.
    pub fn row(&self, rows: &[&Row]) -> String {
        let shown = self.measured(rows).map_or("–".to_owned(), |(_, shown)| shown);
        let reached = match self.reached(rows) {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        let wanted = match self.beside {
            Some(kind) => format!("{} × {}", self.wanted.shown(), kind.name()),
            None => self.wanted.shown(),
        };
        format!("| {} | {} | {wanted} | {shown} | {reached} |", self.what, self.workload)
    }
}
