//! Percentiles of samples, each of which is one of them. Pure.

use std::time::Duration;

/// What is told of many samples.
pub const PERCENTILES: [(&str, usize); 4] = [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)];

/// All of [`PERCENTILES`]; sorts the samples.
#[must_use]
pub fn percentiles(samples: &mut [Duration]) -> [Duration; PERCENTILES.len()] {
    samples.sort_unstable();
    PERCENTILES.map(|(_, percent)| percentile(samples, percent))
}

/// They as an object of microseconds.
#[must_use]
pub fn object(values: [Duration; PERCENTILES.len()]) -> serde_json::Map<String, serde_json::Value> {
    let names = PERCENTILES.iter().map(|(name, _)| (*name).to_owned());
    let values = values.map(|value| (value.as_secs_f64() * 1e6).into());
    names.zip(values).collect()
}

/// The smallest sample that is not exceeded by this percentage of them; `samples` are sorted.
fn percentile(samples: &[Duration], percent: usize) -> Duration {
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    samples.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{object, percentile, percentiles};

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&samples, 50), Duration::from_micros(100));
        assert_eq!(percentile(&samples, 99), Duration::from_micros(198));
        assert_eq!(percentile(&samples, 100), Duration::from_micros(200));
        assert_eq!(percentile(&samples[..1], 50), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn they_are_told_in_microseconds_by_name() {
        let mut samples = [3, 1, 2].map(Duration::from_micros);
        let told = object(percentiles(&mut samples));
        assert_eq!(told["p50"], 2.0);
        assert_eq!(told["max"], 3.0);
        assert_eq!(told.len(), 4);
    }
}
