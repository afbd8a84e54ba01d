//! How long a client waited: when things came, per stream, and the longest pause around a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One producer or consumer, and one partition.
pub type Stream = (String, i32);

/// When something came, in milliseconds of the run.
#[derive(Default)]
pub struct Timeline(BTreeMap<Stream, Vec<u32>>);

impl Timeline {
    pub fn note(&mut self, who: &str, partition: i32, now_ms: u32) {
        match self.0.get_mut(&(who.to_owned(), partition)) {
            Some(times) => times.push(now_ms),
            None => drop(self.0.insert((who.to_owned(), partition), vec![now_ms])),
        }
    }

    /// Of each stream of these partitions the longest pause that touches the window. A stream that never came back pauses to the
    /// window's end at least.
    pub fn pauses(&self, partitions: &BTreeSet<i32>, window_ms: &Range<u32>) -> Vec<u32> {
        let concerned = self.0.iter().filter(|((_, partition), _)| partitions.contains(partition));
        concerned.filter_map(|(_, times)| longest_pause(times, window_ms)).collect()
    }

    /// The longest pauses of all, longest first: of whom, in which partition, and when.
    pub fn longest(&self, count: usize) -> Vec<(&Stream, Range<u32>)> {
        let mut all: Vec<(&Stream, Range<u32>)> = Vec::new();
        for (stream, times) in &self.0 {
            all.extend(times.windows(2).map(|pair| (stream, pair[0]..pair[1])));
        }
        all.sort_by_key(|(_, span_ms)| std::cmp::Reverse(span_ms.end - span_ms.start));
        all.truncate(count);
        all
    }

    /// The longest time in which no stream had anything, up to the end of the run.
    pub fn longest_silence_ms(&self, end_ms: u32) -> u32 {
        let mut times: Vec<u32> = self.0.values().flatten().copied().filter(|time| *time < end_ms).collect();
        times.sort_unstable();
        times.push(end_ms);
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(end_ms)
    }
}

/// `None`: it had not begun.
fn longest_pause(times: &[u32], window_ms: &Range<u32>) -> Option<u32> {
    let first = times.partition_point(|time| *time <= window_ms.start).checked_sub(1)?;
    let mut longest = 0;
    for (index, time) in times.iter().enumerate().skip(first).take_while(|(_, time)| **time < window_ms.end) {
        let next = times.get(index + 1).copied().unwrap_or(window_ms.end);
        longest = longest.max(next - time);
    }
    Some(longest)
}

/// A fault that had the cluster for itself.
#[derive(Debug, Clone)]
pub struct Window {
    pub kind: &'static str,
    pub partitions: BTreeSet<i32>,
    pub span_ms: Range<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Faults that had the cluster for themselves.
    pub windows: usize,
    pub streams: usize,
    pub p50_ms: u32,
    pub p99_ms: u32,
    pub max_ms: u32,
}

/// By kind of fault.
pub fn gaps(timeline: &Timeline, windows: &[Window]) -> BTreeMap<&'static str, Gap> {
    let mut by_kind: BTreeMap<&'static str, (usize, Vec<u32>)> = BTreeMap::new();
    for window in windows {
        let pauses = timeline.pauses(&window.partitions, &window.span_ms);
        // A broker that led nothing left no gap.
        if !pauses.is_empty() {
            let (count, all) = by_kind.entry(window.kind).or_default();
            *count += 1;
            all.extend(pauses);
        }
    }
    by_kind.into_iter().map(|(kind, (count, pauses))| (kind, Gap::of(count, pauses))).collect()
}

impl Gap {
    fn of(windows: usize, mut pauses: Vec<u32>) -> Gap {
        pauses.sort_unstable();
        // The smallest value that so many percent do not exceed.
        let percentile = |percent: usize| pauses[(pauses.len() * percent).div_ceil(100).max(1) - 1];
        let (p50_ms, p99_ms, max_ms) = (percentile(50), percentile(99), percentile(100));
        Gap { windows, streams: pauses.len(), p50_ms, p99_ms, max_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(streams: &[(i32, &[u32])]) -> Timeline {
        let mut timeline = Timeline::default();
        for (partition, times) in streams {
            times.iter().for_each(|time| timeline.note("p", *partition, *time));
        }
        timeline
    }

    #[test]
    fn a_pause_counts_where_it_touches_the_window() {
        //   0 .. 100 . 200 ............ 900 . 1000 ...... 1500
        let times = &[0, 100, 200, 900, 1000, 1500][..];
        let pause = |window| timeline(&[(0, times)]).pauses(&BTreeSet::from([0]), &window);
        assert_eq!(pause(300..400), [700]); // inside the pause
        assert_eq!(pause(150..300), [700]); // up to its begin
        assert_eq!(pause(100..150), [100]);
        assert_eq!(pause(900..950), [100]); // it is over
        assert_eq!(pause(1400..1450), [500]);
    }

    #[test]
    fn a_stream_that_does_not_come_back_pauses_to_the_end() {
        let all = timeline(&[(0, &[0, 100]), (1, &[100]), (2, &[5000])]);
        assert_eq!(all.pauses(&BTreeSet::from([0, 1, 2]), &(200..3000)), [2900, 2900]);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let gap = Gap::of(1, (1..=200).rev().collect());
        assert_eq!(gap, Gap { windows: 1, streams: 200, p50_ms: 100, p99_ms: 198, max_ms: 200 });
        assert_eq!(Gap::of(3, vec![7]), Gap { windows: 3, streams: 1, p50_ms: 7, p99_ms: 7, max_ms: 7 });
    }
}
