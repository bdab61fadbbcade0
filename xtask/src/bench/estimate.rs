//! From samples to one number with an interval: median and order statistics. Pure.

use serde::{Deserialize, Serialize};

/// The confidence that an interval is asked to have.
const CONFIDENCE: f64 = 0.95;

/// A median, and an interval that holds the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// Median of the samples.
    pub(crate) median: f64,
    /// Lower end of the interval: one of the samples.
    pub(crate) low: f64,
    /// Upper end of the interval: one of the samples.
    pub(crate) high: f64,
    /// Probability that the interval holds the true median, 0 to 1. Below 0.95 with fewer than six
    /// samples, where the interval is the whole range.
    pub(crate) confidence: f64,
    /// Number of samples.
    pub(crate) samples: usize,
}

impl Estimate {
    /// Of one value at least; none of them may be NaN.
    ///
    /// The interval lies between two order statistics: the true median is below the k-th smallest of n
    /// samples when fewer than k of them fall below it, which is a matter of n fair coins, whatever the
    /// distribution of the samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.retain(|sample| !sample.is_nan());
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (rank, confidence) = rank(count)?;
        Some(Self {
            median: middle(&sorted)?,
            low: *sorted.get(rank - 1)?,
            high: *sorted.get(count - rank)?,
            confidence,
            samples: count,
        })
    }
}

/// What the ratio of `these` to `those` loses against 1, in percent, pair by pair.
pub(crate) fn paired_cost(these: &[f64], those: &[f64]) -> Vec<f64> {
    let pairs = these.iter().zip(those).filter(|(_, that)| **that > 0.0);
    pairs
        .map(|(this, that)| (1.0 - this / that) * 100.0)
        .collect()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(half - 1)?, upper))
}

/// The rank k such that the k-th smallest and the k-th largest sample enclose the median with the
/// confidence asked for, as near to the middle as that permits, and the confidence they really give.
fn rank(count: usize) -> Option<(usize, f64)> {
    if count == 0 {
        return None;
    }
    // Probability that fewer than k of n coins show heads, one term of the binomial at a time.
    let coins = i32::try_from(count).ok()?;
    let mut term = 0.5_f64.powi(coins);
    let mut fewer = term;
    let mut best = (1, 1.0 - 2.0 * fewer);
    for k in 2..=count.div_ceil(2) {
        let heads = (k - 1) as f64;
        term *= (count as f64 - heads + 1.0) / heads;
        fewer += term;
        let confidence = 1.0 - 2.0 * fewer;
        if confidence < CONFIDENCE {
            break;
        }
        best = (k, confidence);
    }
    Some((best.0, best.1.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-4
    }

    /// Ranks and confidences as printed in tables of the sign test.
    #[test]
    fn the_interval_has_the_tables_ranks() {
        for (count, expected, confidence) in [
            (1, 1, 0.0),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (8, 1, 0.9922),
            (9, 2, 0.9609),
            (10, 2, 0.9785),
            (15, 4, 0.9648),
            (20, 6, 0.9586),
            (50, 18, 0.9672),
        ] {
            let (rank, got) = rank(count).expect("samples");
            assert_eq!(rank, expected, "{count} samples");
            assert!(close(got, confidence), "{count} samples: {got}");
        }
        assert_eq!(rank(0), None);
    }

    #[test]
    fn order_does_not_matter_and_outliers_hardly() {
        let mut samples: Vec<f64> = (1..=15).rev().map(f64::from).collect();
        let plain = Estimate::of(&samples).expect("samples");
        assert_eq!((plain.low, plain.median, plain.high), (4.0, 8.0, 12.0));
        samples[0] = 1e9;
        let spoilt = Estimate::of(&samples).expect("samples");
        assert_eq!((spoilt.low, spoilt.median, spoilt.high), (4.0, 8.0, 12.0));
    }

    #[test]
    fn few_samples_give_the_whole_range() {
        let estimate = Estimate::of(&[3.0, 1.0, 2.0, 4.0]).expect("samples");
        assert_eq!(
            (estimate.low, estimate.median, estimate.high),
            (1.0, 2.5, 4.0)
        );
        assert!(close(estimate.confidence, 0.875));
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[f64::NAN]), None);
    }

    /// Nine of ten intervals and more hold the true median of samples drawn by a fixed generator.
    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Skewed: the median of x² is a quarter.
            let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
            uniform * uniform
        };
        let held = (0..4000)
            .filter(|_| {
                let samples: Vec<f64> = (0..15).map(|_| draw()).collect();
                let estimate = Estimate::of(&samples).expect("samples");
                estimate.low <= 0.25 && 0.25 <= estimate.high
            })
            .count();
        let share = held as f64 / 4000.0;
        assert!((0.95..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn costs_are_paired() {
        let costs = paired_cost(&[90.0, 45.0], &[100.0, 50.0]);
        assert!(costs.iter().all(|cost| close(*cost, 10.0)), "{costs:?}");
        assert!(paired_cost(&[1.0], &[0.0]).is_empty());
    }
}
