//! `docs/performance.md` and its picture, from the files that runs left.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::results::{Ratio, Results, Row, digits, shown, shown_ratio};
use crate::stats::median;
use crate::subject::Kind;
use crate::workloads;

const SCALING: u8 = 11;
const PICTURE: &str = "performance-scaling.svg";

/// Writes the document into `docs`. Every workload's tables come from the first file that has it; the others are held
/// against it.
pub fn write(files: &[PathBuf], docs: &Path) -> Result<()> {
    let all: Vec<Results> = files.iter().map(|file| Results::read(file)).collect::<Result<_>>()?;
    let first = all.first().context("no file")?;
    let mut text = head(first);
    for (number, title, about) in workloads::ALL {
        let having = |results: &&Results| results.samples.iter().any(|sample| sample.workload == number);
        let mut with = all.iter().filter(having);
        let Some(results) = with.next() else { continue };
        let _ = writeln!(text, "\n## {number}. {title}\n{about}\n");
        if number == SCALING {
            let _ = writeln!(
                text,
                "![throughput and processor time over partitions and connections]({PICTURE})\n"
            );
            std::fs::write(docs.join(PICTURE), picture(&results.rows()))?;
        }
        let rows: Vec<Row> = results.rows().into_iter().filter(|row| row.workload == number).collect();
        text.push_str(&section(&rows));
        let _ = writeln!(text, "\n{}", measured_when(results));
        for repeat in with {
            let hours = (repeat.at as f64 - results.at as f64) / 3600.0;
            let _ = writeln!(text, "{}", repeated(&rows, repeat, hours));
        }
    }
    std::fs::write(docs.join("performance.md"), text)?;
    Ok(())
}

fn head(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "# Performance\nWritten by `cargo xtask bench report FILE…` from files that `cargo xtask bench --json FILE` left; do not edit.\n\n\
         **Subjects.** `ottla` as it comes: an acknowledgement follows the sync. `kafka-fsync`: Apache Kafka 4.3.1 with\n\
         `flush.messages=1`, the same promise. `kafka`: as it comes, an acknowledgement follows the page cache. `ottla-interval`:\n\
         `log.sync=interval`, Kafka's promise. Each is a process that the run starts itself on a fresh directory and free ports, Kafka with\n\
         the options of its own start script, and that is known to be the one that listens. None is pinned to processors.\n\n\
         **Load.** Our own generator on the wire, the same for all: batches encoded once, requests pipelined, every answer checked, every\n\
         offset read checked for gaps. It shares the machine with the subject; what it costs is a row of its own.\n\n\
         **Rounds** go A B C D D C B A, so that what disturbs the machine disturbs all. Before each run the disk is synced and probed. A run\n\
         beside which other processes took more than {:.0} % of the processors is thrown away, counted and repeated.\n\
         A cell is the median (least–most); a ratio is the median of the ratios within rounds, [in its 95 % interval by bootstrap].\n\
         CPU is user + system of the subject's process tree, syncs are fsync and its kin as the kernel counts them (perf), bytes written\n\
         are those the kernel charges to the process. They survive a noisy machine; of times and throughput only the ratios do.\n\n\
         **Machine.** {} × {}, {:.0} GiB, Linux {}.\n",
        results.foreign_max * 100.0,
        machine.cpus,
        machine.cpu,
        machine.memory_gib,
        machine.kernel
    )
}

fn measured_when(results: &Results) -> String {
    let probes: Vec<f64> = results.samples.iter().map(|sample| sample.probe).collect();
    let foreign: Vec<f64> = results.samples.iter().map(|sample| sample.foreign * 100.0).collect();
    format!(
        "Measured {}, commit {}. The disk gave {} syncs per second, others took {} % of the processors, {} runs were thrown away.",
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

fn section(rows: &[Row]) -> String {
    let mut cases: Vec<&str> = Vec::new();
    let mut metrics: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
    }
    if cases.len() <= CASES_IN_ONE_TABLE_MAX {
        let all: Vec<&Row> = rows.iter().collect();
        let one = cases.len() == 1;
        return table(
            &all,
            |row| if one { row.metric.clone() } else { format!("{}: {}", row.case, row.metric) },
        );
    }
    let mut text = String::new();
    for metric in metrics {
        let mine: Vec<&Row> = rows.iter().filter(|row| row.metric == metric).collect();
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

/// How many ratios of a later run have an interval that meets the first one's, and which do not.
fn repeated(rows: &[Row], repeat: &Results, hours: f64) -> String {
    let again = repeat.rows();
    let (mut all, mut apart) = (0, Vec::new());
    for row in rows {
        let known =
            again.iter().find(|a| (a.workload, &a.case, &a.metric) == (row.workload, &row.case, &row.metric));
        for ratio in &row.ratios {
            let same = |other: &&Ratio| (other.of, other.to) == (ratio.of, ratio.to);
            let Some(other) = known.and_then(|row| row.ratios.iter().find(same)) else { continue };
            all += 1;
            if other.interval.1 < ratio.interval.0 || ratio.interval.1 < other.interval.0 {
                apart.push(format!(
                    "{} · {}: {} ÷ {} then {}",
                    row.case,
                    row.metric,
                    ratio.of.name(),
                    ratio.to.name(),
                    shown_ratio(other)
                ));
            }
        }
    }
    let mut text = format!(
        "Repeated {} hours later: {} of {all} ratios within the intervals.",
        digits(hours),
        all - apart.len()
    );
    if !apart.is_empty() {
        let _ = write!(text, " Apart: {}.", apart.join("; "));
    }
    text
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
fn picture(rows: &[Row]) -> String {
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

fn panel(rows: &[Row], over: &str, metric: &str, (left, top): (f64, f64)) -> String {
    let mine: Vec<(f64, &Row)> = rows
        .iter()
        .filter(|row| row.workload == SCALING && row.metric == metric && row.case.contains(over))
        .filter_map(|row| Some((row.case.split(' ').next()?.replace(',', "").parse().ok()?, row)))
        .collect();
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
    use crate::results::Sample;

    fn results(at: u64, factor: f64) -> Results {
        let mut samples = Vec::new();
        for round in 0..4 {
            for (case, scale) in [("1 partition", 1.0), ("10 partitions", 2.0), ("1 connection", 3.0)] {
                for (subject, value) in [(Kind::Ottla, 100.0 * factor), (Kind::Kafka, 50.0)] {
                    let value = scale * value + round as f64;
                    let metric = "MB/s".to_owned();
                    let case = case.to_owned();
                    samples.push(Sample {
                        workload: 11,
                        case,
                        metric,
                        subject,
                        round,
                        value,
                        foreign: 0.01,
                        probe: 900.0,
                    });
                }
            }
        }
        let (machine, commit) = (Machine::here(), "abc".to_owned());
        Results { machine, at, commit, foreign_max: 0.1, samples, discarded: 2 }
    }

    #[test]
    fn the_document_has_tables_a_picture_and_says_what_a_repeat_gave() {
        let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files: Vec<PathBuf> = [("a", 1.0, 0), ("b", 1.0, 7200), ("c", 3.0, 3600)]
            .into_iter()
            .map(|(name, factor, later)| {
                let file = folder.join(name);
                results(1_790_000_000 + later, factor).write(&file).unwrap();
                file
            })
            .collect();
        write(&files, &folder).unwrap();
        let text = std::fs::read_to_string(folder.join("performance.md")).unwrap();
        assert!(text.contains("| 10 partitions: MB/s | 202 (200–203) | 102 (100–103) | 1.99 ["), "{text}");
        assert!(text.contains("Measured 2026-09-21, commit abc."), "{text}");
        assert!(text.contains("Repeated 2.00 hours later: 3 of 3 ratios within the intervals."), "{text}");
        assert!(
            text.contains("Repeated 1.00 hours later: 0 of 3 ratios within the intervals. Apart: "),
            "{text}"
        );
        let picture = std::fs::read_to_string(folder.join(PICTURE)).unwrap();
        assert_eq!(picture.matches("<circle").count(), 6, "three cases of two subjects");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_255_200), "2026-11-21");
    }
}
