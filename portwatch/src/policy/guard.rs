//! A quick no: what most rules are refused by, side by side in memory. A rule that its guard lets through is
//! looked at in full; one that it refuses would certainly not match.

use super::facts::Facts;
use super::patterns::{Patterns, head};
use super::ports::Ports;
use super::rule::{Selector, WordSet, bit};

/// What must hold before a rule is worth a look. Half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// Bits of executables' first bytes that all of its patterns have in common, and their values.
    mask: u64,
    head: u64,
    /// From the lowest of its ports to the highest.
    from: u32,
    to: u32,
    protocols: u32,
}

/// The same of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hints {
    head: u64,
    /// All bits where there is no executable: then none of them is as a pattern wants it.
    unknown: u64,
    port: u32,
    protocol: u32,
}

/// Stands for no port: higher than any, so that only a guard without ports lets it through.
const NO_PORT: u32 = u32::MAX;

impl Guard {
    /// Lets nothing through.
    pub(super) const CLOSED: Self = Self {
        mask: 0,
        head: 0,
        from: 0,
        to: 0,
        protocols: 0,
    };

    pub(super) fn of(when: &Selector) -> Self {
        let (head, mask) = when.exe.as_ref().map_or((0, 0), Patterns::common_head);
        let (from, to) = match when.port.as_ref().and_then(Ports::bounds) {
            Some((from, to)) => (from.into(), to.into()),
            None => (0, NO_PORT),
        };
        Self {
            mask,
            head,
            from,
            to,
            protocols: when.protocol.map_or(u32::MAX, WordSet::bits),
        }
    }

    #[inline]
    pub(super) const fn admits(&self, hints: &Hints) -> bool {
        self.protocols & hints.protocol != 0
            && self.from <= hints.port
            && hints.port <= self.to
            && ((hints.head ^ self.head) | hints.unknown) & self.mask == 0
    }
}

impl Hints {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        Self {
            head: facts.exe.map_or(0, head),
            unknown: if facts.exe.is_some() { 0 } else { u64::MAX },
            port: facts.port.map_or(NO_PORT, u32::from),
            protocol: bit(facts.protocol),
        }
    }
}
