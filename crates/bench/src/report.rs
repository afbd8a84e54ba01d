//! `docs/performance.md` and its picture, from the files that runs left.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::results::{Ratio, Results, Row, Sample, digits, shown, shown_ratio};
use crate::stats::median;
use crate::subject::Kind;
use crate::targets::TARGETS;
use crate::workloads;

const SCALING: u8 = 11;
const BUCKET_COSTS: &str = "bucket-costs.md";
const PICTURE: &str = "performance-scaling.svg";

/// A file, and its rows: those that are the first of their case, and those that a file before it has.
struct Source {
    results: Results,
    first: Vec<Row>,
    again: Vec<Row>,
}

/// What is measured over hours is measured in pieces: every case of a workload comes from the first file that has it, and
/// what later files have of it is held against that.
fn sources(all: Vec<Results>) -> Vec<Source> {
    let mut known: Vec<(u8, String)> = Vec::new();
    let mut sources = Vec::new();
    for results in all {
        let (again, first): (Vec<Row>, Vec<Row>) =
            results.rows().into_iter().partition(|row| known.contains(&(row.workload, row.case.clone())));
        known.extend(first.iter().map(|row| (row.workload, row.case.clone())));
        sources.push(Source { results, first, again });
    }
    sources
}

/// Writes the document into `docs`.
pub fn write(files: &[PathBuf], docs: &Path) -> Result<()> {
    let all: Vec<Results> = files.iter().map(|file| Results::read(file)).collect::<Result<_>>()?;
    let machine = &all.first().context("no file")?.machine;
    for (file, results) in files.iter().zip(&all) {
        ensure!(
            (&machine.cpu, machine.cpus) == (&results.machine.cpu, results.machine.cpus),
            "{} is of another machine",
            file.display()
        );
    }
    let mut text = head(&all);
    // Ratios that held, of those that were measured again.
    let mut total = (0, 0);
    if let Some(limits) = all.iter().find_map(|results| results.limits.as_ref()) {
        let _ = writeln!(
            text,
            "\nWhat it gives without a broker, measured before the runs:\n\n{}",
            limits.table()
        );
    }
    let sources = sources(all);
    let first: Vec<&Row> = sources.iter().flat_map(|source| &source.first).collect();
    text.push_str(&targets(&first));
    for (number, title, about) in workloads::ALL {
        let rows: Vec<&Row> = of_workload(number, first.iter().copied());
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n## {number}. {title}\n{about}\n");
        if number == SCALING {
            let _ = writeln!(
                text,
                "![throughput and processor time over partitions and connections]({PICTURE})\n"
            );
            std::fs::write(docs.join(PICTURE), picture(&rows))?;
        }
        let _ = writeln!(text, "{}", section(&rows));
        let all_cases = cases(&rows);
        for (index, source) in sources.iter().enumerate() {
            let rows = of_workload(number, &source.first);
            if rows.is_empty() {
                continue;
            }
            let cases = cases(&rows);
            let of_these = if cases == all_cases { String::new() } else { format!("{}: ", cases.join("; ")) };
            let _ = writeln!(text, "{of_these}{}", measured_when(&source.results, number, &cases));
            for repeat in &sources[index + 1..] {
                let again: Vec<&Row> = of_workload(number, &repeat.again)
                    .into_iter()
                    .filter(|row| cases.contains(&row.case.as_str()))
                    .collect();
                if !again.is_empty() {
                    let hours = (repeat.results.at as f64 - source.results.at as f64) / 3600.0;
                    let (repeat, held, compared) = repeated(&rows, &again, hours);
                    let _ = writeln!(text, "{repeat}");
                    total = (total.0 + held, total.1 + compared);
                }
            }
        }
    }
    if total.1 > 0 {
        let _ = write!(
            text,
            "\n## Repeats\nOf {} ratios that were measured again {} ({:.1} %) lie within the intervals; of 95 % intervals one in twenty does not when\n\
             nothing has changed. Each that does not is named with its workload.\n",
            total.1,
            total.0,
            100.0 * total.0 as f64 / total.1 as f64
        );
    }
    // Figures of examples in virtual time, which are the same on every machine: not measured here.
    if docs.join(BUCKET_COSTS).exists() {
        let costs = std::fs::read_to_string(docs.join(BUCKET_COSTS))?;
        let _ = write!(text, "\n#{costs}");
    }
    std::fs::write(docs.join("performance.md"), text)?;
    Ok(())
}

fn of_workload<'a>(number: u8, rows: impl IntoIterator<Item = &'a Row>) -> Vec<&'a Row> {
    rows.into_iter().filter(|row| row.workload == number).collect()
}

fn cases<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    cases
}

fn targets(rows: &[&Row]) -> String {
    let mut text = String::from(
        "\n## Targets\nWhat was asked for before it was built. The median decides; the interval says how sure that is.\n\n\
         | | workload | wanted | measured | reached |\n|---|---|---|---|---|\n",
    );
    for target in &TARGETS {
        let _ = writeln!(text, "{}", target.row(rows));
    }
    let limited = TARGETS.iter().filter(|target| target.reached(rows) == Some(false));
    for (index, target) in limited.enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}- *{}*: {}", target.what, target.limit);
    }
    text
}

fn head(all: &[Results]) -> String {
    let machine = &all[0].machine;
    let foreign_max = all.iter().map(|results| results.foreign_max).fold(0.0, f64::max);
    let versions: BTreeSet<&str> = all.iter().map(|results| results.kafka.as_str()).collect();
    let kafka = versions.into_iter().collect::<Vec<_>>().join(" and ");
    format!(
        "# Performance\nWritten by `cargo xtask bench report FILE…` from files that `cargo xtask bench --json FILE` left; do not edit.\n\n\
         **Subjects.** `ottla` as it comes: an acknowledgement follows the sync. `kafka-fsync`: Apache Kafka {kafka} with\n\
         `flush.messages=1`, the same promise. `kafka`: as it comes, an acknowledgement follows the page cache. `ottla-interval`:\n\
         `log.sync=interval`, Kafka's promise. Each is a process that the run starts itself on a fresh directory and free ports, Kafka with\n\
         the options of its own start script, and that is known to be the one that listens. None is pinned to processors.\n\n\
         **Load.** Our own generator on the wire, the same for all: batches encoded once, requests pipelined, every answer checked, every\n\
         offset read checked for gaps. It shares the machine with the subject; what it costs is a row of its own.\n\n\
         **Rounds** go A B C D D C B A, so that what disturbs the machine disturbs all. Before each run the disk is synced and probed. A run\n\
         beside which other processes took more than {:.0} % of the processors is thrown away, counted and repeated.\n\
         A cell is the median (least–most); a ratio is the median of the ratios within rounds, [in its 95 % interval: by\n\
         bootstrap from six rounds on; of fewer, whose bootstrap is only their range, by Student's t of their logarithms].\n\
         CPU is user + system of the subject's process tree, syncs are fsync and its kin as the kernel counts them (perf), bytes written\n\
         are those the kernel charges to the process, allocations are counted by Ottla itself (a JVM does not tell). They survive a noisy machine; of times and throughput only the ratios do.\n\
         A virtual machine whose host takes free memory back pays for the first touch of every page, in the kernel: more with Kafka, which\n\
         writes through the page cache, and more in a first round than later.\n\n\
         **Memory** (\"resident peak\") is that of a Kafka with a heap of 1 GB as its script has it, and of Ottla as it comes: bounded by\n\
         `log.cache.bytes` (1/64 of the machine's, 128 to 256 MiB), `log.unflushed.max.bytes` (256 MiB) of what waits for its commit, and\n\
         about 100 B for each of at most 800,000 runs of batches that wait in the WAL.\n\n\
         **Machine.** {} × {}, {:.0} GiB, Linux {}.\n",
        foreign_max * 100.0,
        machine.cpus,
        machine.cpu,
        machine.memory_gib,
        machine.kernel
    )
}

fn measured_when(results: &Results, workload: u8, cases: &[&str]) -> String {
    let samples: Vec<&Sample> = results
        .samples
        .iter()
        .filter(|sample| sample.workload == workload && cases.contains(&sample.case.as_str()))
        .collect();
    let probes: Vec<f64> = samples.iter().map(|sample| sample.probe).collect();
    let foreign: Vec<f64> = samples.iter().map(|sample| sample.foreign * 100.0).collect();
    format!(
        "Measured {}, commit {}. The disk gave {} syncs per second, others took {} % of the processors; {} runs of this file were thrown away.",
        date(results.at),
        results.commit,
        shown(&probes),
        shown(&foreign),
        results.discarded
    )
}

/// Year, month, day of seconds since 1970, UTC. (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".)
fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year}-{month:02}-{:02}", day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The tables of a run, for a terminal.
pub fn tables(results: &Results) -> String {
    let rows = results.rows();
    let mut text = String::new();
    for (number, title, _) in workloads::ALL {
        let mine: Vec<&Row> = rows.iter().filter(|row| row.workload == number).collect();
        if !mine.is_empty() {
            let _ = writeln!(text, "{number}. {title}");
            text.push_str(&table(&mine, |row| format!("{} · {}", row.case, row.metric)));
        }
    }
    text
}

/// One table per metric where there are many cases, else one for all.
const CASES_IN_ONE_TABLE_MAX: usize = 3;

fn section(rows: &[&Row]) -> String {
    let cases = cases(rows);
    if cases.len() <= CASES_IN_ONE_TABLE_MAX {
        let one = cases.len() == 1;
        return table(
            rows,
            |row| if one { row.metric.clone() } else { format!("{}: {}", row.case, row.metric) },
        );
    }
    let mut metrics: Vec<&str> = Vec::new();
    for row in rows {
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
    }
    let mut text = String::new();
    for metric in metrics {
        let mine: Vec<&Row> = rows.iter().copied().filter(|row| row.metric == metric).collect();
        let _ = write!(text, "**{metric}**\n\n{}\n", table(&mine, |row| row.case.clone()));
    }
    text
}

fn table(rows: &[&Row], name: impl Fn(&Row) -> String) -> String {
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| rows.iter().any(|row| row.values.contains_key(kind))).collect();
    let pairs: Vec<(Kind, Kind)> = Kind::ALL
        .into_iter()
        .flat_map(|kind| kind.neighbours().iter().map(move |neighbour| (kind, *neighbour)))
        .filter(|(of, to)| kinds.contains(of) && kinds.contains(to))
        .collect();
    let mut text = String::from("| |");
    for kind in &kinds {
        let _ = write!(text, " {} |", kind.name());
    }
    for (of, to) in &pairs {
        let _ = write!(text, " {} ÷ {} |", of.name(), to.name());
    }
    let _ = write!(text, "\n|---{}|\n", "|---".repeat(kinds.len() + pairs.len()));
    for row in rows {
        let _ = write!(text, "| {} |", name(row));
        for kind in &kinds {
            let _ =
                write!(text, " {} |", row.values.get(kind).map_or("–".to_owned(), |values| shown(values)));
        }
        for (of, to) in &pairs {
            let ratio = row.ratios.iter().find(|ratio| (ratio.of, ratio.to) == (*of, *to));
            let _ = write!(text, " {} |", ratio.map_or("–".to_owned(), shown_ratio));
        }
        text.push('\n');
    }
    text
}

/// How many ratios of a later run have an interval that meets the first one's, and which do not. Where both are of one
/// round there is no interval to meet: how far they are apart is all that can be said. The text, how many held, and of how many.
fn repeated(rows: &[&Row], again: &[&Row], hours: f64) -> (String, usize, usize) {
    let (mut held, mut apart, mut single) = (0, Vec::new(), Vec::new());
    for row in rows {
        let known = again.iter().find(|a| (&a.case, &a.metric) == (&row.case, &row.metric));
        for ratio in &row.ratios {
            let same = |other: &&Ratio| (other.of, other.to) == (ratio.of, ratio.to);
            let Some(other) = known.and_then(|row| row.ratios.iter().find(same)) else { continue };
            let name = format!("{} · {}: {} ÷ {}", row.case, row.metric, ratio.of.name(), ratio.to.name());
            if ratio.pairs == 1 && other.pairs == 1 {
                single.push(format!("{name} {} then {}", digits(ratio.median), digits(other.median)));
            } else if other.interval.1 < ratio.interval.0 || ratio.interval.1 < other.interval.0 {
                apart.push(format!("{name} {} then {}", shown_ratio(ratio), shown_ratio(other)));
            } else {
                held += 1;
            }
        }
    }
    let when = if hours < 0.0 { "earlier" } else { "later" };
    let mut text = format!("Repeated {} hours {when}:", digits(hours.abs()));
    if held + apart.len() > 0 {
        let _ = write!(text, " {held} of {} ratios within the intervals.", held + apart.len());
    }
    if !apart.is_empty() {
        let _ = write!(text, " Apart: {}.", apart.join("; "));
    }
    if !single.is_empty() {
        let _ = write!(text, " Of one round each, without an interval: {}.", single.join("; "));
    }
    if held + apart.len() + single.len() == 0 {
        text.push_str(" nothing of it is a ratio.");
    }
    let compared = held + apart.len();
    (text, held, compared)
}

// ---- the picture

const PANEL_WIDTH: f64 = 380.0;
const PANEL_HEIGHT: f64 = 220.0;
const MARGIN: f64 = 56.0;

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ottla => "#0b6e4f",
        Kind::OttlaInterval => "#6bbf59",
        Kind::KafkaFsync => "#b23a48",
        Kind::Kafka => "#e09f3e",
    }
}

/// Four panels: throughput and processor time, over partitions and over connections. Both axes are logarithmic.
fn picture(rows: &[&Row]) -> String {
    let (width, height) = (2.0 * (PANEL_WIDTH + MARGIN) + 20.0, 2.0 * (PANEL_HEIGHT + MARGIN) + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (column, over) in ["partition", "connection"].into_iter().enumerate() {
        for (line, metric) in ["MB/s", "CPU-s per GB"].into_iter().enumerate() {
            let x = MARGIN + column as f64 * (PANEL_WIDTH + MARGIN);
            let y = 30.0 + line as f64 * (PANEL_HEIGHT + MARGIN);
            svg.push_str(&panel(rows, over, metric, (x, y)));
        }
    }
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let x = MARGIN + index as f64 * 140.0;
        let y = height - 14.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 6.0,
            colour(kind),
            x + 20.0,
            kind.name()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(rows: &[&Row], over: &str, metric: &str, (left, top): (f64, f64)) -> String {
    let mut mine: Vec<(f64, &Row)> = rows
        .iter()
        .filter(|row| row.workload == SCALING && row.metric == metric && row.case.contains(over))
        .filter_map(|row| Some((row.case.split(' ').next()?.replace(',', "").parse().ok()?, *row)))
        .collect();
    // They may come from several files, in any order.
    mine.sort_by(|a, b| a.0.total_cmp(&b.0));
    if mine.is_empty() {
        return String::new();
    }
    let all: Vec<f64> =
        mine.iter().flat_map(|(_, row)| row.values.values().map(|values| median(values))).collect();
    let (least, most) = crate::stats::range(&all);
    let decades = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let last = mine.iter().map(|(count, _)| count.log10()).fold(1.0, f64::max);
    let at_x = |count: f64| left + count.log10() / last * PANEL_WIDTH;
    let at_y =
        |value: f64| top + PANEL_HEIGHT * (1.0 - (value.log10() - decades.0) / (decades.1 - decades.0));
    let mut svg =
        format!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{metric} over {over}s</text>\n", top - 8.0);
    for decade in decades.0 as i32..=decades.1 as i32 {
        let y = at_y(10_f64.powi(decade));
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left + PANEL_WIDTH,
            left - 4.0,
            y + 4.0,
            if decade < 0 {
                format!("{}", 10_f64.powi(decade))
            } else {
                digits(10_f64.powi(decade)).replace(".00", "").replace(".0", "")
            }
        );
    }
    for (count, _) in &mine {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
            at_x(*count),
            top + PANEL_HEIGHT + 16.0
        );
    }
    for kind in Kind::ALL {
        let points: Vec<(f64, f64)> = mine
            .iter()
            .filter_map(|(count, row)| Some((at_x(*count), at_y(median(row.values.get(&kind)?)))))
            .collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            line.join(" "),
            colour(kind)
        );
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>", colour(kind));
        }
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    /// Results with so many rounds of each: workload, case, metric, Ottla's value, Kafka's if it has one.
    fn results(at: u64, rounds: usize, values: &[(u8, &str, &str, f64, Option<f64>)]) -> Results {
        let mut samples = Vec::new();
        for round in 0..rounds {
            for (workload, case, metric, ours, theirs) in values {
                for (subject, value) in [(Kind::Ottla, Some(*ours)), (Kind::Kafka, *theirs)] {
                    let Some(value) = value else { continue };
                    samples.push(Sample {
                        workload: *workload,
                        case: (*case).to_owned(),
                        metric: (*metric).to_owned(),
                        subject,
                        round,
                        value: value * (1.0 + round as f64 / 100.0),
                        foreign: 0.01,
                        probe: 900.0,
                    });
                }
            }
        }
        let at = 1_790_000_000 + at;
        let (machine, commit) = (Machine::here(), "abc".to_owned());
        Results {
            machine,
            limits: None,
            at,
            commit,
            kafka: "4.3.1".to_owned(),
            foreign_max: 0.1,
            samples,
            discarded: 2,
        }
    }

    /// The document and, where there is one, the picture.
    fn written(name: &str, all: &[Results]) -> (String, String) {
        let folder = std::env::temp_dir().join(format!("bench-report-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files: Vec<PathBuf> =
            (0..all.len()).map(|number| folder.join(format!("{number}.json"))).collect();
        for (file, results) in files.iter().zip(all) {
            results.write(file).unwrap();
        }
        write(&files, &folder).unwrap();
        let text = std::fs::read_to_string(folder.join("performance.md")).unwrap();
        let picture = std::fs::read_to_string(folder.join(PICTURE)).unwrap_or_default();
        std::fs::remove_dir_all(folder).unwrap();
        (text, picture)
    }

    fn scaling(at: u64, factor: f64) -> Results {
        let cases = [("1 partition", 1.0), ("10 partitions", 2.0), ("1 connection", 3.0)];
        let values =
            cases.map(|(case, scale)| (11, case, "MB/s", 100.0 * scale * factor, Some(50.0 * scale)));
        results(at, 4, &values)
    }

    #[test]
    fn the_document_has_tables_a_picture_and_says_what_a_repeat_gave() {
        let all = [scaling(0, 1.0), scaling(7200, 1.0), scaling(3600, 3.0)];
        let (text, picture) = written("scaling", &all);
        assert!(text.contains("| 10 partitions: MB/s | 203 (200–206) | 102 (100–103) | 2.00 ["), "{text}");
        assert!(text.contains("Measured 2026-09-21, commit abc."), "{text}");
        assert!(text.contains("Repeated 2.00 hours later: 3 of 3 ratios within the intervals."), "{text}");
        assert!(
            text.contains("Repeated 1.00 hours later: 0 of 3 ratios within the intervals. Apart: "),
            "{text}"
        );
        assert!(
            text.contains("Of 6 ratios that were measured again 3 (50.0 %) lie within the intervals"),
            "{text}"
        );
        assert_eq!(picture.matches("<circle").count(), 6, "three cases of two subjects");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }

    /// A: 1 (one case), 2, 10. B: 1 (another case), 11. C repeats A, D repeats B, and all of workload 1.
    #[test]
    fn a_set_in_several_files_is_one_document_and_later_files_are_held_against_it_case_by_case() {
        const RATE: &str = "2,000 records/s";
        let a = |at, p99| {
            results(
                at,
                3,
                &[
                    (1, "1 partition, 1 KB, none", "MB/s", 90.0, Some(100.0)),
                    (2, RATE, "produce p99 ms", p99, Some(4.0)),
                    (10, "100 records/s", "CPU-ms per second", 5.0, Some(20.0)),
                ],
            )
        };
        let b = |at, rate| {
            let mut values = vec![
                (1, "100 partitions, 1 KB, none", "MB/s", rate, Some(100.0)),
                (11, "10 partitions", "MB/s", 200.0, Some(100.0)),
                (11, "1 partition", "MB/s", 100.0, Some(100.0)),
            ];
            if at > 0 {
                values.push((1, "1 partition, 1 KB, none", "MB/s", 90.0, Some(100.0)));
            }
            results(at, 3, &values)
        };
        let (text, picture) = written("set", &[a(0, 2.0), b(0, 140.0), a(3600, 9.0), b(7200, 140.0)]);
        let lines: Vec<&str> = text.lines().collect();
        let at = |line: &str| {
            lines.iter().position(|l| l.starts_with(line)).unwrap_or_else(|| panic!("no {line} in {text}"))
        };
        for title in ["## 1. ", "## 2. ", "## 10. ", "## 11. "] {
            assert_eq!(lines.iter().filter(|line| line.starts_with(title)).count(), 1, "{title} in {text}");
        }
        // Workload 1 is one table of both files, and says for each of its cases when that was.
        let first = at("| 1 partition, 1 KB, none: MB/s | 90.9 (90.0–91.8) |");
        assert!(
            lines[first + 1].starts_with("| 100 partitions, 1 KB, none: MB/s | 141 (140–143) |"),
            "{text}"
        );
        let when = at("1 partition, 1 KB, none: Measured");
        assert_eq!(lines[when + 1], "Repeated 1.00 hours later: 1 of 1 ratios within the intervals.");
        assert_eq!(lines[when + 2], "Repeated 2.00 hours later: 1 of 1 ratios within the intervals.");
        let when = at("100 partitions, 1 KB, none: Measured");
        assert_eq!(lines[when + 1], "Repeated 2.00 hours later: 1 of 1 ratios within the intervals.");
        assert!(
            text.contains(&format!(
                "0 of 1 ratios within the intervals. Apart: {RATE} · produce p99 ms: ottla ÷ kafka 0.50 [0.50–0.50] then 2.25"
            )),
            "{text}"
        );
        // The repeats are in no table and in no target.
        assert_eq!(text.matches("| produce p99 ms |").count(), 1, "{text}");
        assert!(text.contains("| 2 | ≤ 1 × kafka | 0.50 [0.50–0.50] | yes |"), "{text}");
        assert!(
            text.contains("| the same, 100 partitions | 1 | ≥ 1.5 × kafka | 1.40 [1.40–1.40] | **no** |"),
            "{text}"
        );
        assert!(
            text.contains("| the same, 1,000 partitions | 1 | ≥ 1.5 × kafka | – | not measured |"),
            "{text}"
        );
        // The curve goes from left to right although the file does not.
        let line = picture.lines().find(|line| line.starts_with("<polyline")).unwrap();
        let xs: Vec<f64> = line
            .split('"')
            .nth(1)
            .unwrap()
            .split(' ')
            .map(|point| point.split(',').next().unwrap().parse().unwrap())
            .collect();
        assert!(xs.len() == 2 && xs[0] < xs[1], "{line}");
    }

    #[test]
    fn what_only_one_subject_has_leaves_cells_empty_and_one_round_has_no_interval() {
        let once = |at, written| {
            results(
                at,
                1,
                &[
                    (9, "20 MB/s, 1 GB kept", "bytes written to the device per byte", written, Some(2.0)),
                    (9, "20 MB/s, 1 GB kept", "allocations per request", 12.0, None),
                ],
            )
        };
        let (text, _) = written("once", &[once(0, 2.1), once(3600, 2.5)]);
        assert!(text.contains("| allocations per request | 12.0 | – | – |"), "{text}");
        assert!(text.contains("| 9 | ≤ 2.2 | 2.10 | yes |"), "{text}");
        assert!(
            text.contains(
                "Repeated 1.00 hours later: Of one round each, without an interval: 20 MB/s, 1 GB kept · bytes written \
                 to the device per byte: ottla ÷ kafka 1.05 then 1.25."
            ),
            "{text}"
        );
    }

    #[test]
    fn files_of_two_machines_are_no_set() {
        let mut other = scaling(0, 1.0);
        other.machine.cpus += 1;
        let folder = std::env::temp_dir().join(format!("bench-report-machines-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = [folder.join("a.json"), folder.join("b.json")];
        scaling(0, 1.0).write(&files[0]).unwrap();
        other.write(&files[1]).unwrap();
        let error = write(&files, &folder).unwrap_err().to_string();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(error.ends_with("is of another machine"), "{error}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_255_200), "2026-11-21");
    }
}
