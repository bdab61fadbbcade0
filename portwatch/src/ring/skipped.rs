//! Runs of probes that the kernel skipped: which of them nobody saw. Pure.
//!
//! Trap `preempted_probe`: where a hook has two programs, only what both are skipped for is a loss. The kernel counts
//! what it skips for each of them, and they count what they shared; a call that is between the two at the moment of a
//! reading makes a difference too, which is why one reading proves nothing.

use portwatch_common::counters::SpareCounters;

use super::ledger::behind;

/// Calls that may be between two probes of a hook while the counters are read, at most.
const UNDER_WAY: u64 = 64;

/// Readings of which each must show what two programs missed: a task that is preempted between the two waits longer than
/// one (on a crowded processor for seconds), and the next reading finds another one there.
pub(super) const SETTLED: usize = 10;
/// The same for a single program.
const SINGLE: usize = 2;

/// Runs of one probe that the kernel skipped (`recursion_misses`), since the start.
#[derive(Clone, Copy, Debug)]
pub struct Skipped {
    /// The probe.
    pub probe: &'static str,
    /// How many.
    pub runs: u64,
    /// What the probe that stands in for it saw of them, where there is one.
    pub spare: Option<SpareRuns>,
    /// Nobody asked for what it would have told.
    pub is_unasked: bool,
}

/// What a spare probe was skipped for itself, and what the two counted.
#[derive(Clone, Copy, Debug)]
pub struct SpareRuns {
    /// Runs of the spare one that the kernel skipped.
    pub skipped: u64,
    /// How they shared their hook.
    pub counted: SpareCounters,
}

impl Skipped {
    /// Calls that no probe saw. One that is under way may be among them for a moment.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        let Some(SpareRuns { counted, .. }) = self.spare else {
            return self.runs;
        };
        behind(self.runs.wrapping_add(counted.left), counted.covered)
    }

    /// Does the spare probe run before the one that it stands in for? Then calls are told twice.
    #[must_use]
    pub fn is_reversed(&self) -> bool {
        self.spare.is_some_and(|spare| {
            let due = self.runs.wrapping_add(spare.counted.left);
            behind(spare.counted.covered, due) > UNDER_WAY
        })
    }

    /// No more calls than this can be unseen: each was skipped by all of them.
    fn most(&self) -> u64 {
        match self.spare {
            Some(spare) => self.runs.min(spare.skipped),
            None => self.runs,
        }
    }
}

/// What was told of one probe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SkippedAccount {
    /// What nobody saw, at the readings before, the latest first.
    unseen: [u64; SETTLED - 1],
    /// How many could be unseen at most, the same.
    most: [u64; SETTLED],
    told: u64,
}

impl SkippedAccount {
    /// Takes a reading; what is now certain, and was not told yet, comes back.
    pub(super) fn observe(&mut self, skipped: &Skipped) -> u64 {
        let (unseen, most) = (skipped.unseen(), skipped.most());
        let readings = if skipped.spare.is_some() {
            SETTLED
        } else {
            SINGLE
        };
        let before = self.unseen.iter().take(readings - 1);
        let certain = before.copied().fold(unseen, u64::min);
        let limit = behind(most, self.most[readings - 1]);
        self.unseen.rotate_right(1);
        self.unseen[0] = unseen;
        self.most.rotate_right(1);
        self.most[0] = most;
        if skipped.is_unasked || unseen < self.told {
            // Nobody misses it; or the counters have begun anew.
            self.told = unseen;
            return 0;
        }
        let lost = certain.saturating_sub(self.told).min(limit);
        self.told += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::{SETTLED, Skipped, SkippedAccount, SpareCounters, SpareRuns};

    /// Of a probe with a spare one: own skipped runs, those of the spare one, left and covered.
    fn shared(runs: u64, spare: u64, left: u64, covered: u64) -> Skipped {
        Skipped {
            probe: "exit_tp_btf",
            runs,
            spare: Some(SpareRuns {
                skipped: spare,
                counted: SpareCounters { left, covered },
            }),
            is_unasked: false,
        }
    }

    /// Whichever is skipped: what neither saw is counted, and nothing else.
    #[test]
    fn what_a_spare_probe_saw_is_no_loss() {
        // The first one is skipped for three calls, the spare one told two of them.
        assert_eq!(shared(3, 1, 0, 2).unseen(), 1);
        // Of five that are no news the first one is skipped for one; the spare one saw all.
        assert_eq!(shared(1, 0, 4, 5).unseen(), 0);
        // The spare one alone is skipped, for a call that was no news.
        assert_eq!(shared(0, 1, 5, 4).most(), 0);
        // The spare one's part of a call is under way.
        assert_eq!(shared(0, 0, 0, 1).unseen(), 0);
    }

    /// The spare one told more than the other one was skipped for: the kernel runs it first.
    #[test]
    fn an_order_that_is_not_expected_is_noticed() {
        assert!(!shared(3, 0, 10, 13).is_reversed());
        assert!(!shared(3, 0, 10, 14).is_reversed(), "a call under way");
        assert!(shared(3, 0, 10, 99).is_reversed());
    }

    #[test]
    fn calls_under_way_are_no_losses_and_real_ones_are_told_once() {
        let mut account = SkippedAccount::default();
        // Each reading finds another call between its two probes.
        let under_way = [
            shared(0, 0, 11, 10),
            shared(0, 0, 25, 24),
            shared(4, 0, 31, 35),
        ];
        assert_eq!(under_way.map(|one| account.observe(&one)), [0, 0, 0]);
        // Both are skipped for one call, and the next readings find one under way besides.
        let told: Vec<u64> = (0..SETTLED as u64 + 2)
            .map(|reading| {
                let is_under_way = reading % 2;
                let left = 40 + 10 * reading;
                account.observe(&shared(5, 1, left, left + 4 - is_under_way))
            })
            .collect();
        assert_eq!(told.iter().sum::<u64>(), 1, "{told:?}");
        assert_eq!(told[SETTLED - 1], 1, "{told:?}");
    }

    #[test]
    fn what_nobody_asks_for_is_no_loss_also_when_somebody_asks_later() {
        let mut account = SkippedAccount::default();
        let alone = |runs, is_unasked| Skipped {
            probe: "state_tp_btf",
            runs,
            spare: None,
            is_unasked,
        };
        let readings = [
            alone(3, true),
            alone(3, true),
            alone(5, true),
            alone(5, false),
            alone(6, false),
            alone(6, false),
        ];
        assert_eq!(
            readings.map(|one| account.observe(&one)),
            [0, 0, 0, 0, 0, 1]
        );
    }
}
