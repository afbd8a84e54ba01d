//! Medians, intervals and the order of rounds.

/// The middle value; of an even count the mean of the middle two. NaN for nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

pub fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// Draws with replacement for an interval.
const RESAMPLES: usize = 10_000;

/// The 95 % interval of the median, by bootstrap: the medians of samples drawn from the sample. The same values give the
/// same interval every time. With two or three values it is their range, and says no more than that.
pub fn interval(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = values
                .iter()
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    values[(random >> 33) as usize % values.len()]
                })
                .collect();
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40])
}

/// A B C C B A …: what disturbs the machine for a while, or drifts, disturbs all of them.
pub fn order(round: usize, subjects: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..subjects).collect() } else { (0..subjects).rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_there_is() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(range(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }

    #[test]
    fn the_interval_holds_the_median_and_shrinks_with_more_values() {
        let spread = |count: i32| -> Vec<f64> { (0..count).map(|i| f64::from(i * 37 % 101)).collect() };
        let (few, many) = (spread(6), spread(100));
        for values in [&few, &many] {
            let (low, high) = interval(values);
            assert!(low <= median(values) && median(values) <= high, "{low} to {high}");
        }
        let width = |values: &[f64]| interval(values).1 - interval(values).0;
        assert!(width(&many) < width(&few));
        assert_eq!(interval(&[2.0, 2.0, 2.0]), (2.0, 2.0));
        assert_eq!(interval(&few), interval(&few), "the draws are the same in every run");
        // The share of known samples whose interval holds the true median: near 95 %.
        let mut held = 0;
        let mut random = 7_u64;
        for _ in 0..100 {
            let sample: Vec<f64> = (0..15)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 40) as f64 / f64::from(1 << 24)
                })
                .collect();
            let (low, high) = interval(&sample);
            held += usize::from(low <= 0.5 && 0.5 <= high);
        }
        assert!((88..=100).contains(&held), "{held} of 100");
    }

    #[test]
    fn the_order_turns_around_every_round() {
        let all: Vec<usize> = (0..3).flat_map(|round| order(round, 3)).collect();
        assert_eq!(all, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }
}
