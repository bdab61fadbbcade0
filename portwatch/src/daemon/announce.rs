//! From which rate on the probes announce by themselves, and from which sums of a second on there is a look without that. Pure.
//!
//! The probes count by CPU, for want of atomic operations that return a value. A rate that arrives on few CPUs is announced by
//! one of them at once. One that is spread over many stays below on each of them: the sum of all, which is looked at each
//! second, tells of it. So on a host with hundreds of CPUs no threshold has to be so low that ordinary traffic reaches it.

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use portwatch_common::storm::{FOLLOW_FROM, StormCount, Thresholds};

use crate::event::StormKind;
use crate::storm::{STATES, Settings};

/// One CPU announces no less than this.
const LEAST_BY_CPU: u64 = 8;
/// A rate that is spread over more CPUs than these is left to the sum of a second.
const SPREAD: u64 = 8;
/// SYNs of a listener in a window on the whole host, or connects of a process, from which on peers are looked at.
const PEER_FLOOR: u64 = 32;

/// What is announced, of the whole host, in a window of about a second: early enough for a look before a threshold is reached.
/// 0 switches off.
pub(super) fn thresholds(settings: &Settings) -> Thresholds {
    let limits = Limits::new(settings);
    Thresholds {
        syn: limits.half_open,
        accept: limits.accept,
        unanswered: limits.unanswered,
        reset: limits.reset,
        connect: match settings.off.contains(&StormKind::ConnectStorm) {
            true => 0,
            false => settings
                .connect_storm_failed
                .min(settings.connect_storm_rate)
                .into(),
        },
        ports: limits.ports,
        peer_floor: PEER_FLOOR,
        // The part of a look at once is told by transitions; this is about whose failures they are.
        failed: FOLLOW_FROM.min(u64::from(settings.connect_storm_failed / 2).max(1)),
    }
}

/// The part of it that one of so many CPUs announces. Processes and sources are counted on all of them together.
pub(super) fn by_cpu(host: Thresholds, cpus: u64) -> Thresholds {
    let cpus = cpus.max(1);
    let announced = |limit: u64| {
        let part = limit.div_ceil(cpus.min(SPREAD));
        // What the host as a whole does not announce, no CPU does.
        part.max(LEAST_BY_CPU).min(limit)
    };
    Thresholds {
        syn: announced(host.syn),
        accept: announced(host.accept),
        unanswered: announced(host.unanswered),
        reset: announced(host.reset),
        // Nobody is woken by it: it may be as low as it likes, but a single packet is not busy.
        peer_floor: host.peer_floor.div_ceil(cpus).max(2).min(host.peer_floor),
        ..host
    }
}

/// What may happen on the whole host in a second without anybody looking. 0: it is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// SYNs that were not completed.
    pub(super) half_open: u64,
    pub(super) accept: u64,
    pub(super) unanswered: u64,
    pub(super) reset: u64,
    pub(super) connect: u64,
    pub(super) failed: u64,
    /// Knocks at closed ports, of each protocol.
    pub(super) ports: u64,
}

impl Limits {
    /// Fractions of the thresholds.
    pub(super) fn new(settings: &Settings) -> Self {
        let part = |kind: StormKind, limit: u32, part: u32| match settings.off.contains(&kind) {
            true => 0,
            false => u64::from((limit / part).max(1)),
        };
        // SYNs that are not completed announce both: an accept queue that overflows drops the last packet of handshakes.
        let kinds = [StormKind::SynFlood, StormKind::AcceptQueueOverflow];
        let wanted = kinds.into_iter().find(|kind| !settings.off.contains(kind));
        let flood = part(
            wanted.unwrap_or(StormKind::SynFlood),
            settings.syn_flood_rate,
            3,
        );
        Self {
            half_open: flood,
            unanswered: flood,
            accept: part(
                StormKind::ConnectionStorm,
                settings.connection_storm_rate,
                4,
            ),
            reset: part(StormKind::ResetStorm, settings.reset_storm_rate, 2),
            connect: part(StormKind::ConnectStorm, settings.connect_storm_rate, 4),
            failed: part(StormKind::ConnectStorm, settings.connect_storm_failed, 2),
            ports: match settings.is_scan_off {
                true => 0,
                false => u64::from((settings.scan_ports.saturating_mul(3) / 4).max(1)),
            },
        }
    }

    /// Was more than that counted between two readings of the counters? SYNs are counted of listeners with a cell alone, and
    /// completed connections of all: where some have none, the difference says nothing.
    pub(super) const fn are_passed(&self, grown: &Counts, all_have_cells: bool) -> bool {
        const fn is_over(count: u64, limit: u64) -> bool {
            limit != 0 && count >= limit
        }
        let half_open = if all_have_cells {
            grown.half_open()
        } else {
            grown.syn
        };
        is_over(half_open, self.half_open)
            || is_over(grown.accept, self.accept)
            || is_over(grown.unanswered, self.unanswered)
            || is_over(grown.reset, self.reset)
            || is_over(grown.connect, self.connect)
            || is_over(grown.failed, self.failed)
            || is_over(grown.knock, self.ports)
            || is_over(grown.udp_knock, self.ports)
    }
}

/// What the probes counted of storms on the whole host: since they began, or between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    syn: u64,
    /// Connections that were completed, at any listener.
    accept: u64,
    unanswered: u64,
    reset: u64,
    connect: u64,
    pub(super) failed: u64,
    knock: u64,
    udp_knock: u64,
}

impl Counts {
    /// What they stand at.
    pub(super) fn of(counters: &Counters) -> Self {
        let counted = |count: StormCount| {
            let index = usize::try_from(count.0).ok();
            let count = index.and_then(|index| counters.storm.get(index));
            count.copied().unwrap_or_default()
        };
        let changed = |old: TcpState, new: TcpState| {
            let cell = usize::from(old.0) * STATES + usize::from(new.0);
            counters.transitions.get(cell).copied().unwrap_or_default()
        };
        Self {
            syn: counted(StormCount::SYN),
            accept: changed(TcpState::SYN_RECV, TcpState::ESTABLISHED),
            unanswered: counted(StormCount::UNANSWERED),
            reset: counted(StormCount::RESET),
            connect: changed(TcpState::CLOSE, TcpState::SYN_SENT),
            failed: changed(TcpState::SYN_SENT, TcpState::CLOSE),
            knock: counted(StormCount::KNOCK),
            udp_knock: counted(StormCount::UDP_KNOCK),
        }
    }

    /// What was counted since they stood there.
    pub(super) const fn since(&self, before: &Self) -> Self {
        Self {
            syn: self.syn.wrapping_sub(before.syn),
            accept: self.accept.wrapping_sub(before.accept),
            unanswered: self.unanswered.wrapping_sub(before.unanswered),
            reset: self.reset.wrapping_sub(before.reset),
            connect: self.connect.wrapping_sub(before.connect),
            failed: self.failed.wrapping_sub(before.failed),
            knock: self.knock.wrapping_sub(before.knock),
            udp_knock: self.udp_knock.wrapping_sub(before.udp_knock),
        }
    }

    /// SYNs beyond those that were completed. The end of a burst completes more than begin.
    const fn half_open(&self) -> u64 {
        self.syn.saturating_sub(self.accept)
    }

    /// Did anybody knock at a closed port?
    pub(super) const fn has_knocks(&self) -> bool {
        self.knock > 0 || self.udp_knock > 0
    }
}

/// CPUs that are online: `0-3,5`.
pub(super) fn online_cpus() -> u64 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    cpus_in(&text).max(1)
}

fn cpus_in(text: &str) -> u64 {
    let span = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.trim().split(',').filter_map(span).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    #[test]
    fn no_number_of_cpus_switches_off_or_makes_noise() {
        let host = thresholds(&Settings::default());
        for cpus in [1, 2, 12, 64, 512] {
            let cpu = by_cpu(host, cpus);
            for (part, whole) in [
                (cpu.syn, host.syn),
                (cpu.accept, host.accept),
                (cpu.unanswered, host.unanswered),
                (cpu.reset, host.reset),
            ] {
                assert!(part >= LEAST_BY_CPU.min(whole) && part <= whole, "{cpus}");
                // An eighth of what matters on the host is no ordinary traffic of one CPU.
                assert!(part >= whole / SPREAD, "{cpus} CPUs: {part} of {whole}");
            }
            assert!((2..=PEER_FLOOR).contains(&cpu.peer_floor), "{cpus}");
            assert_eq!((cpu.connect, cpu.ports), (host.connect, host.ports));
        }
        for one in [1, 0] {
            // 0 is a host whose CPUs cannot be counted.
            assert_eq!(by_cpu(host, one).as_bytes(), host.as_bytes());
        }
        assert_eq!(by_cpu(host, 512).accept, host.accept.div_ceil(SPREAD));
    }

    #[test]
    fn what_is_off_stays_off_on_every_cpu() {
        let mut settings = Settings::default();
        settings.off.extend([
            StormKind::SynFlood,
            StormKind::AcceptQueueOverflow,
            StormKind::ResetStorm,
        ]);
        settings.is_scan_off = true;
        let host = thresholds(&settings);
        for cpus in [1, 512] {
            let cpu = by_cpu(host, cpus);
            assert_eq!(
                (cpu.syn, cpu.unanswered, cpu.reset, cpu.ports),
                (0, 0, 0, 0)
            );
        }
        let grown = Counts {
            syn: 900_000,
            knock: 900_000,
            ..Counts::default()
        };
        assert!(!Limits::new(&settings).are_passed(&grown, true));
    }

    #[test]
    fn syns_that_are_not_completed_announce_two_kinds() {
        for off in [StormKind::SynFlood, StormKind::AcceptQueueOverflow] {
            let mut settings = Settings::default();
            settings.off.insert(off);
            assert_eq!(thresholds(&settings).syn, 20, "{off:?} is off");
        }
    }

    #[test]
    fn listeners_without_a_cell_hide_no_flood() {
        let limits = Limits::new(&Settings::default());
        // A busy listener without a cell, and a flood at one that has one.
        let grown = Counts {
            syn: 100,
            accept: 5_000,
            ..Counts::default()
        };
        assert!(!limits.are_passed(&grown, true));
        assert!(limits.are_passed(&grown, false));
    }

    #[test]
    fn connections_that_are_completed_ask_for_no_look() {
        let limits = Limits::new(&Settings::default());
        let passed = |syn, accept, connect, failed| {
            let grown = Counts {
                syn,
                accept,
                connect,
                failed,
                ..Counts::default()
            };
            limits.are_passed(&grown, true)
        };
        assert!(!passed(5_000, 4_990, 0, 0), "a busy service");
        assert!(passed(5_100, 4_990, 0, 0), "a flood beside it");
        assert!(!passed(100, 4_000, 0, 0), "the end of a burst");
        assert!(!passed(0, 0, 5_000, 10), "a proxy");
        assert!(passed(0, 0, 30, 30), "a worm");
    }

    #[test]
    fn counts_come_from_the_probes_and_from_transitions() {
        let mut counters = Counters::new_zeroed();
        let before = Counts::of(&counters);
        counters.storm[StormCount::SYN.0 as usize] = 7;
        // SYN_RECV to ESTABLISHED, CLOSE to SYN_SENT, and back.
        for (cell, times) in [(3 * 16 + 1, 5), (7 * 16 + 2, 3), (2 * 16 + 7, 2)] {
            counters.transitions[cell] = times;
        }
        let expected = Counts {
            syn: 7,
            accept: 5,
            connect: 3,
            failed: 2,
            ..Counts::default()
        };
        assert_eq!(Counts::of(&counters).since(&before), expected);
        assert_eq!(expected.half_open(), 2);
    }

    #[test]
    fn cpus_are_counted() {
        assert_eq!(cpus_in("0-3,5\n"), 5);
        assert_eq!(cpus_in("0\n"), 1);
        assert_eq!(cpus_in("3-0,x"), 0);
        assert!(online_cpus() >= 1);
    }

    proptest! {
        /// However SYNs are spread over the CPUs: a listener with as many half-open ones in a second as ask for a look gets
        /// one, by a CPU that announces or by the sum.
        #[test]
        fn no_rate_goes_unnoticed(
            cpus in prop::sample::select(vec![1_usize, 2, 12, 64, 512]),
            rate in 1_u32..100_000,
            skew in prop::collection::vec(0_u64..100, 1..512),
        ) {
            let settings = Settings { syn_flood_rate: rate, ..Settings::default() };
            let host = thresholds(&settings);
            let cpu = by_cpu(host, cpus as u64);
            let weights: Vec<u64> = (0..cpus).map(|n| skew[n % skew.len()] + 1).collect();
            let sum: u64 = weights.iter().sum();
            let counts: Vec<u64> = weights.iter().map(|weight| (u64::from(rate) * weight).div_ceil(sum)).collect();
            let total: u64 = counts.iter().sum();
            let announces = counts.iter().any(|count| *count >= cpu.syn);
            let grown = Counts { syn: total, ..Counts::default() };
            prop_assert!(announces || Limits::new(&settings).are_passed(&grown, true));
            // And none of them announces what is not worth it on the whole host.
            prop_assert!(cpu.syn >= 1 && cpu.syn.saturating_mul(SPREAD) >= host.syn);
        }
    }
}
