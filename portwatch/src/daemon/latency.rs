//! How long events take from the kernel to their publication: a histogram of fixed buckets. Pure, and without allocation.

use crate::interface::status::{LatencyBucket, LatencyStatus};

/// Upper ends of the buckets, in microseconds. The budgets are 100 µs for half of all events and a millisecond for 99 in a hundred;
/// what waits for a hash or a package takes up to `wait_ms`.
const ENDS: [u64; 14] = [
    25, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];

/// The histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// Events of each bucket alone; those that took longer than the last one are in `count` only.
    buckets: [u64; ENDS.len()],
    count: u64,
    sum_us: u64,
}

impl Latency {
    /// An event took this long, in microseconds.
    pub(super) fn record(&mut self, latency_us: u64) {
        let bucket = ENDS.partition_point(|&end| end < latency_us);
        if let Some(events) = self.buckets.get_mut(bucket) {
            *events += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(latency_us);
    }

    /// As it is told: each bucket with those before it.
    pub(super) fn status(&self) -> LatencyStatus {
        let mut below = 0;
        let buckets = ENDS.iter().zip(&self.buckets).map(|(&le_us, events)| {
            below += events;
            LatencyBucket {
                le_us,
                count: below,
            }
        });
        LatencyStatus {
            buckets: buckets.collect(),
            count: self.count,
            sum_us: self.sum_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_in_each_bucket_that_it_fits() {
        let mut latency = Latency::default();
        for latency_us in [0, 25, 26, 1_000_000, 1_000_001] {
            latency.record(latency_us);
        }
        let status = latency.status();
        assert_eq!((status.count, status.sum_us), (5, 2_000_052));
        let count = |le_us| {
            let bucket = status.buckets.iter().find(|bucket| bucket.le_us == le_us);
            bucket.map(|bucket| bucket.count)
        };
        assert_eq!(count(25), Some(2), "its end belongs to a bucket");
        assert_eq!(count(50), Some(3));
        assert_eq!(count(250_000), Some(3));
        assert_eq!(count(1_000_000), Some(4), "the rest is beyond the last one");
    }
}
