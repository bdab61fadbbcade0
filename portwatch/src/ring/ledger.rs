//! Loss accounting: what the probes counted against what arrived, and the difference as losses.
//!
//! Ring buffers do not count what they could not take, so the probes do, per CPU, and promise
//! `seen = emitted + dropped + filtered`. The ledger checks that promise, compares what was emitted
//! with what the reader took out, and turns every difference between two readings into a [`Loss`].

use std::collections::HashMap;

use portwatch_common::counters::{Counters, RINGS, RingCounters};

use super::skipped::{SETTLED, Skipped, SkippedAccount};
use crate::event::{Gap, GapCause as Cause, RingName};
use crate::time::{BootNs, WallClock};

/// The rings in the order of the counters.
const NAMES: [RingName; RINGS] = [RingName::Critical, RingName::Process, RingName::Bulk];

/// One reading of all counters.
///
/// The order matters: first the counters are read, then the rings are drained, then `received` is
/// noted; so a record that was emitted before the reading has been received.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When the counters were read.
    pub at: BootNs,
    /// The counters, summed over the CPUs ([`Counters::sum`]).
    pub counters: Counters,
    /// Records taken out of each ring since the start, understood or not.
    pub received: [u64; RINGS],
    /// Runs that the kernel skipped, by probe.
    pub skipped: Vec<Skipped>,
    /// Dropped records of listeners by cgroup id, since the start.
    pub crowd: Vec<(u64, u64)>,
}

/// Records that were lost between two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub ring: RingName,
    /// Why.
    pub cause: Cause,
    /// How many.
    pub lost: u64,
    /// No earlier than.
    pub from: BootNs,
    /// No later than.
    pub to: BootNs,
    /// The probe, for skipped runs.
    pub probe: Option<&'static str>,
    /// Whose they were, for a full ring of listeners: cgroup id and count, most first. The kernel keeps
    /// a bounded number of accounts, so these may be fewer than `lost`.
    pub cgroups: Vec<(u64, u64)>,
}

impl Loss {
    /// The loss as an event tells it.
    #[must_use]
    pub fn gap(&self, clock: WallClock) -> Gap {
        Gap {
            ring: self.ring,
            cause: Some(self.cause),
            lost: self.lost,
            from: clock.rfc3339(self.from),
            to: clock.rfc3339(self.to),
            probe: self.probe.map(str::to_owned),
            cgroups: Vec::new(),
        }
    }
}

/// The account of all rings and probes.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Times of the last readings, the latest first.
    at: [BootNs; SETTLED],
    rings: [RingAccount; RINGS],
    tracked_overflow: u64,
    skipped: HashMap<&'static str, SkippedAccount>,
    crowd: HashMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RingAccount {
    dropped: u64,
    unaccounted: Shortfall,
    undelivered: Shortfall,
}

impl Ledger {
    /// An account that begins with all counters at zero, at the moment the probes were attached.
    #[must_use]
    pub fn new(attached: BootNs) -> Self {
        Self {
            at: [attached; SETTLED],
            rings: [RingAccount::default(); RINGS],
            tracked_overflow: 0,
            skipped: HashMap::new(),
            crowd: HashMap::new(),
        }
    }

    /// Takes a reading; what was lost since the one before comes back.
    ///
    /// A counter that went backwards belongs to probes that were loaded anew: the account goes on from
    /// there. Differences that one reading shows may be records on their way, because the counters are
    /// not read in one instant and a task may be preempted inside a probe for longer than one reading
    /// takes to the next; they are losses when [`SETTLED`] readings in a row show them.
    pub fn read(&mut self, reading: &Reading) -> Vec<Loss> {
        let [from, before, ..] = self.at;
        let [.., settled] = self.at;
        let to = reading.at;
        let mut losses = Vec::new();
        let mut add = |ring, cause, lost, from, probe| {
            if lost > 0 {
                losses.push(Loss {
                    ring,
                    cause,
                    lost,
                    from,
                    to,
                    probe,
                    cgroups: Vec::new(),
                });
            }
        };
        let rings = self.rings.iter_mut().zip(&reading.counters.rings);
        for (((account, counted), received), ring) in rings.zip(reading.received).zip(NAMES) {
            let dropped = advance(&mut account.dropped, counted.dropped);
            add(ring, Cause::RingFull, dropped, from, None);
            let lost = account.unaccounted.observe(imbalance(counted));
            add(ring, Cause::Unaccounted, lost, settled, None);
            let missing = behind(counted.emitted, received);
            let lost = account.undelivered.observe(missing);
            add(ring, Cause::Undelivered, lost, settled, None);
        }
        let counted = reading.counters.tracked_overflow;
        let lost = advance(&mut self.tracked_overflow, counted);
        add(RingName::Critical, Cause::TableFull, lost, from, None);
        for skipped in &reading.skipped {
            let account = self.skipped.entry(skipped.probe).or_default();
            let lost = account.observe(skipped);
            let probe = Some(skipped.probe);
            let since = if skipped.spare.is_some() {
                settled
            } else {
                before
            };
            add(RingName::Probe, Cause::ProbeSkipped, lost, since, probe);
        }
        let full =
            |loss: &&mut Loss| loss.ring == RingName::Critical && loss.cause == Cause::RingFull;
        if let Some(loss) = losses.iter_mut().find(full) {
            loss.cgroups = advance_crowd(&mut self.crowd, &reading.crowd);
        }
        self.at.rotate_right(1);
        self.at[0] = to;
        losses
    }
}

/// Records that were seen and went nowhere.
fn imbalance(ring: &RingCounters) -> u64 {
    let accounted = ring.emitted.wrapping_add(ring.dropped);
    behind(ring.seen, accounted.wrapping_add(ring.filtered))
}

/// How far `now` is behind `target`; 0 when it is level or ahead. Right across a wrap.
pub(super) fn behind(target: u64, now: u64) -> u64 {
    let distance = target.wrapping_sub(now);
    if distance.cast_signed() > 0 {
        distance
    } else {
        0
    }
}

/// Moves a counter on and gives the way it went; 0 when it went backwards.
fn advance(known: &mut u64, now: u64) -> u64 {
    let way = behind(now, *known);
    *known = now;
    way
}

/// What each cgroup lost since the last time, most first. Only the accounts that the kernel still has
/// are remembered, so that this is as bounded as they are.
fn advance_crowd(known: &mut HashMap<u64, u64>, crowd: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let before = std::mem::take(known);
    let mut lost: Vec<(u64, u64)> = crowd
        .iter()
        .map(|&(cgroup, now)| {
            let mut account = before.get(&cgroup).copied().unwrap_or_default();
            let way = if now < account {
                now
            } else {
                advance(&mut account, now)
            };
            known.insert(cgroup, now);
            (cgroup, way)
        })
        .filter(|(_, lost)| *lost > 0)
        .collect();
    lost.sort_unstable_by_key(|&(cgroup, lost)| (std::cmp::Reverse(lost), cgroup));
    lost
}

/// A difference that is a loss once [`SETTLED`] readings in a row show it.
#[derive(Clone, Copy, Debug, Default)]
struct Shortfall {
    /// The differences before, the latest first.
    last: [u64; SETTLED - 1],
    told: u64,
}

impl Shortfall {
    /// Takes the difference of one reading; what is now certain, and was not told yet, comes back.
    fn observe(&mut self, now: u64) -> u64 {
        let certain = self.last.into_iter().fold(now, u64::min);
        self.last.rotate_right(1);
        self.last[0] = now;
        // Below what was told, the counters have begun anew.
        let lost = certain.saturating_sub(self.told);
        self.told = if now < self.told {
            now
        } else {
            self.told + lost
        };
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Ledger, Loss, NAMES, Reading, SETTLED, Skipped, advance, behind};
    use crate::event::RingName;
    use crate::time::{BootNs, WallClock};
    use portwatch_common::counters::{Counters, RINGS};
    use proptest::prelude::*;

    /// A reading in which the critical ring has these numbers and everything emitted was received.
    fn reading(at: u64, seen: u64, emitted: u64, dropped: u64, filtered: u64) -> Reading {
        let mut counters = Counters::sum(&[]);
        counters.rings[0].seen = seen;
        counters.rings[0].emitted = emitted;
        counters.rings[0].dropped = dropped;
        counters.rings[0].filtered = filtered;
        Reading {
            at: BootNs(at),
            counters,
            received: [emitted, 0, 0],
            skipped: Vec::new(),
            crowd: Vec::new(),
        }
    }

    fn told(losses: &[Loss]) -> Vec<(Cause, u64, u64, u64)> {
        let tell = |loss: &Loss| (loss.cause, loss.lost, loss.from.0, loss.to.0);
        losses.iter().map(tell).collect()
    }

    #[test]
    fn what_a_full_ring_dropped_is_told_once_with_its_times() {
        let mut ledger = Ledger::new(BootNs(5));
        assert_eq!(told(&ledger.read(&reading(10, 7, 5, 0, 2))), []);
        let losses = ledger.read(&reading(20, 12, 7, 3, 2));
        assert_eq!(told(&losses), [(Cause::RingFull, 3, 10, 20)]);
        assert_eq!(losses[0].ring, RingName::Critical);
        assert_eq!(told(&ledger.read(&reading(30, 12, 7, 3, 2))), []);
        let gap = losses[0].gap(WallClock::from_epoch_ns(0));
        assert_eq!((gap.lost, gap.probe), (3, None));
        assert_eq!(gap.from, "1970-01-01T00:00:00.000000010Z");
        assert_eq!(gap.to, "1970-01-01T00:00:00.000000020Z");
    }

    #[test]
    fn a_full_ring_names_the_cgroups_that_lost() {
        let mut ledger = Ledger::new(BootNs(0));
        let mut first = reading(10, 9, 4, 5, 0);
        first.crowd = vec![(7, 1), (8, 4)];
        assert_eq!(ledger.read(&first)[0].cgroups, [(8, 4), (7, 1)]);
        // Without a loss nobody is named; 8 was forgotten in the kernel and has begun anew.
        first.at = BootNs(20);
        assert_eq!(told(&ledger.read(&first)), []);
        let mut second = reading(30, 20, 10, 10, 0);
        second.crowd = vec![(7, 3), (8, 3), (9, 0)];
        assert_eq!(ledger.read(&second)[0].cgroups, [(8, 3), (7, 2)]);
    }

    /// Gives the ledger this reading until it tells something; how many it took, and what it told.
    fn until_told(ledger: &mut Ledger, at: &mut u64, mut same: Reading) -> (usize, Vec<Loss>) {
        for count in 1..=2 * SETTLED {
            *at += 10;
            same.at = BootNs(*at);
            let losses = ledger.read(&same);
            if !losses.is_empty() {
                return (count, losses);
            }
        }
        (0, Vec::new())
    }

    #[test]
    fn a_broken_law_is_told_when_it_lasts() {
        let mut ledger = Ledger::new(BootNs(0));
        let mut at = 0;
        // Two records on their way for many readings, of a task that was preempted, arrive at last.
        for _ in 1..SETTLED {
            at += 10;
            assert_eq!(told(&ledger.read(&reading(at, 9, 7, 0, 0))), []);
        }
        let arrived = until_told(&mut ledger, &mut at, reading(0, 9, 9, 0, 0));
        assert_eq!(arrived, (0, vec![]));
        let (count, losses) = until_told(&mut ledger, &mut at, reading(0, 30, 26, 0, 0));
        assert_eq!(count, SETTLED);
        let from = at - 10 * SETTLED as u64;
        assert_eq!(told(&losses), [(Cause::Unaccounted, 4, from, at)]);
        let (_, losses) = until_told(&mut ledger, &mut at, reading(0, 40, 35, 0, 0));
        assert_eq!(losses[0].lost, 1);
    }

    #[test]
    fn what_was_emitted_must_arrive() {
        let mut ledger = Ledger::new(BootNs(0));
        let mut at = 0;
        let mut behind = reading(0, 12, 12, 0, 0);
        behind.received[0] = 10;
        let (count, losses) = until_told(&mut ledger, &mut at, behind.clone());
        assert_eq!(count, SETTLED);
        assert_eq!(told(&losses), [(Cause::Undelivered, 2, 0, at)]);
        assert_eq!(
            losses[0].gap(WallClock::from_epoch_ns(0)).cause,
            Some(Cause::Undelivered)
        );
        // The reader may be ahead of the reading.
        behind.received[0] = 15;
        assert_eq!(until_told(&mut ledger, &mut at, behind), (0, vec![]));
    }

    #[test]
    fn skipped_runs_and_full_tables_are_losses() {
        let mut ledger = Ledger::new(BootNs(0));
        let skipped = |probe, runs| Skipped {
            probe,
            runs,
            spare: None,
            is_unasked: false,
        };
        let mut first = reading(10, 0, 0, 0, 0);
        first.skipped = vec![skipped("relisten_fexit", 2), skipped("state_tp_btf", 0)];
        first.counters.tracked_overflow = 1;
        assert_eq!(told(&ledger.read(&first)), [(Cause::TableFull, 1, 0, 10)]);
        first.at = BootNs(20);
        let losses = ledger.read(&first);
        assert_eq!(told(&losses), [(Cause::ProbeSkipped, 2, 0, 20)]);
        assert_eq!(losses[0].ring, RingName::Probe);
        assert_eq!(losses[0].probe, Some("relisten_fexit"));
        first.at = BootNs(30);
        assert_eq!(told(&ledger.read(&first)), []);
    }

    #[test]
    fn counters_wrap_and_begin_anew() {
        let mut known = u64::MAX - 1;
        assert_eq!(advance(&mut known, 3), 5);
        assert_eq!(advance(&mut known, 1), 0);
        assert_eq!(advance(&mut known, 2), 1);
        assert_eq!((behind(2, u64::MAX), behind(u64::MAX, 2)), (3, 0));

        let mut cpu = Counters::sum(&[]);
        cpu.rings[1].dropped = u64::MAX;
        cpu.transitions[7] = 4;
        let mut other = cpu;
        other.rings[1].dropped = 3;
        let total = Counters::sum(&[cpu, other]);
        assert_eq!((total.rings[1].dropped, total.transitions[7]), (2, 8));
    }

    proptest! {
        /// Whatever happens on however many CPUs, from any start of the counters: what the ledger tells
        /// is what was dropped, and nothing is told of records that are merely on their way.
        #[test]
        fn told_is_what_was_dropped(
            start in prop_oneof![Just(0_u64), Just(u64::MAX - 20)],
            steps in proptest::collection::vec((0..4_usize, 0..RINGS, 0..4_u8, 0..3_u64), 0..200),
        ) {
            let mut cpus: Vec<Counters> = vec![Counters::sum(&[]); 4];
            for ring in &mut cpus[0].rings {
                (ring.seen, ring.emitted) = (start, start);
            }
            let mut ledger = Ledger::new(BootNs(0));
            let (mut dropped, mut told) = ([0_u64; RINGS], [0_u64; RINGS]);
            for (step, (cpu, ring, what, in_flight)) in steps.into_iter().enumerate() {
                let cell = &mut cpus[cpu].rings[ring];
                cell.seen = cell.seen.wrapping_add(1);
                match what {
                    0 => {
                        cell.dropped += 1;
                        dropped[ring] += 1;
                    }
                    1 => cell.filtered += 1,
                    _ => cell.emitted = cell.emitted.wrapping_add(1),
                }
                let mut counters = Counters::sum(&cpus);
                let received = counters.rings.map(|ring| ring.emitted);
                // Every other reading sees records that have entered and not left.
                if step % 2 == 0 {
                    counters.rings[ring].seen = counters.rings[ring].seen.wrapping_add(in_flight);
                }
                let at = BootNs(u64::try_from(step).expect("few steps"));
                let (skipped, crowd) = (Vec::new(), Vec::new());
                for loss in ledger.read(&Reading { at, counters, received, skipped, crowd }) {
                    prop_assert_eq!(loss.cause, Cause::RingFull);
                    let index = NAMES.iter().position(|name| *name == loss.ring);
                    told[index.expect("a ring")] += loss.lost;
                }
            }
            prop_assert_eq!(told, dropped);
        }
    }
}
