//! Does a quantity grow? Judged on samples that were all taken in the same idle state. Pure.

/// Fewer samples than this say nothing about growth.
pub(crate) const ENOUGH: usize = 6;

/// How a quantity went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// Median of the first third.
    pub(crate) first: f64,
    /// Median of the last third.
    pub(crate) last: f64,
    /// Growth that the line of least squares shows from its first sample to its last.
    pub(crate) fitted: f64,
}

impl Trend {
    /// From pairs of time and value, in order of time; `None` when there are not [`ENOUGH`].
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < ENOUGH {
            return None;
        }
        let third = points.len() / 3;
        let values = |part: &[(f64, f64)]| part.iter().map(|(_, value)| *value).collect();
        let slope = slope(points);
        let span = points.last()?.0 - points.first()?.0;
        Some(Self {
            first: median(values(points.get(..third)?)),
            last: median(values(points.get(points.len() - third..)?)),
            fitted: slope * span,
        })
    }

    /// Growth from the first third to the last, in percent; negative when it shrank.
    pub(crate) fn percent(&self) -> f64 {
        if self.first == 0.0 {
            return 0.0;
        }
        (self.last - self.first) / self.first * 100.0
    }
}

/// Least squares; 0 when all samples are of one time.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut both, mut square) = (0.0, 0.0);
    for point in points {
        both += (point.0 - x) * (point.1 - y);
        square += (point.0 - x) * (point.0 - x);
    }
    if square == 0.0 { 0.0 } else { both / square }
}

/// The middle value; the mean of two for an even count, 0 for none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(*value, values[middle - 1]),
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: u32, start: f64, step: f64) -> Vec<(f64, f64)> {
        let point = |at| (f64::from(at) * 60.0, start + step * f64::from(at));
        (0..count).map(point).collect()
    }

    #[test]
    fn a_leak_is_growth_and_noise_is_not() {
        let leak = Trend::of(&line(30, 1000.0, 10.0)).expect("trend");
        assert!((leak.fitted - 290.0).abs() < 1e-6);
        assert!(leak.percent() > 15.0);
        let mut noise = line(30, 1000.0, 0.0);
        for (at, point) in noise.iter_mut().enumerate() {
            point.1 += [0.0, 8.0, -8.0][at % 3];
        }
        let noise = Trend::of(&noise).expect("trend");
        assert!(noise.percent().abs() < 0.1 && noise.fitted.abs() < 10.0);
    }

    #[test]
    fn one_outlier_is_no_growth_and_few_samples_say_nothing() {
        let mut points = line(9, 1000.0, 0.0);
        points[8].1 = 5000.0;
        assert_eq!(Trend::of(&points).expect("trend").percent(), 0.0);
        assert_eq!(Trend::of(&points[..5]), None);
    }
}
