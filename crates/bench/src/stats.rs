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

/// With fewer values a bootstrap repeats little more than their range.
const BOOTSTRAP_FROM: usize = 6;
/// Student's t at 97.5 %, for one to four degrees of freedom.
const STUDENT: [f64; BOOTSTRAP_FROM - 2] = [12.706, 4.303, 3.182, 2.776];

/// The 95 % interval of a ratio by its values: from six on by bootstrap, below by Student's t of their logarithms. One value
/// has none.
pub fn interval(values: &[f64]) -> (f64, f64) {
    match values.len() {
        0 => (f64::NAN, f64::NAN),
        1 => (values[0], values[0]),
        BOOTSTRAP_FROM.. => bootstrap(values),
        _ if values.iter().any(|value| *value <= 0.0) => range(values),
        count => {
            let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
            let mean = logarithms.iter().sum::<f64>() / count as f64;
            let squares: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
            let error = (squares / (count - 1) as f64 / count as f64).sqrt();
            let half = STUDENT[count - 2] * error;
            ((mean - half).exp(), (mean + half).exp())
        }
    }
}

/// The 95 % interval of the median: the medians of samples drawn from the sample. The same values give the same interval every
/// time.
fn bootstrap(values: &[f64]) -> (f64, f64) {
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
        let (low, high) = interval(&[2.0, 2.0, 2.0]);
        assert!((low - 2.0).abs() < 1e-9 && (high - 2.0).abs() < 1e-9);
        assert_eq!((interval(&[3.0]), interval(&[0.0, 1.0])), ((3.0, 3.0), (0.0, 1.0)));
        assert_eq!(interval(&few), interval(&few), "the draws are the same in every run");
    }

    /// The share of known samples whose interval holds the true median is near 95 %, of few values and of many.
    #[test]
    fn an_interval_of_95_percent_holds_the_truth_so_often() {
        let mut random = 7_u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) as f64 / f64::from(1 << 24)
        };
        for count in [2, 3, 4, 5, 15] {
            let mut held = 0;
            for _ in 0..400 {
                // The product of twelve factors around one: as a ratio varies, its median is one.
                let mut one = || (0..12).map(|_| (uniform() - 0.5) / 10.0).sum::<f64>().exp();
                let (low, high) = interval(&(0..count).map(|_| one()).collect::<Vec<_>>());
                held += u32::from(low <= 1.0 && 1.0 <= high);
            }
            assert!((364..=396).contains(&held), "of {count} values {held} of 400");
        }
    }

    #[test]
    fn the_order_turns_around_every_round() {
        let all: Vec<usize> = (0..3).flat_map(|round| order(round, 3)).collect();
        assert_eq!(all, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }
}
