//! Sets of ports: `443`, `"8000-8100"`, and lists of both.

use std::fmt;

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first.
    pub from: u16,
    /// The last, not below the first.
    pub to: u16,
}

/// A set of ports, as few ranges as it takes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<PortRange>);

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self {
            from: port,
            to: port,
        }
    }

    /// Reads `80` or `8000-8100`; spaces around the dash are allowed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = match text.split_once('-') {
            Some((from, to)) => (number(from.trim())?, number(to.trim())?),
            None => {
                let port = number(text.trim())?;
                (port, port)
            }
        };
        (from <= to).then_some(Self { from, to })
    }
}

impl Ports {
    /// The ports of all these ranges.
    #[must_use]
    pub fn new(mut ranges: Vec<PortRange>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(range.from) <= u32::from(last.to) + 1 => {
                    last.to = last.to.max(range.to);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// Is this one of them?
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|range| range.from <= port);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|range| port <= range.to)
    }

    /// The lowest and the highest.
    #[must_use]
    pub fn bounds(&self) -> Option<(u16, u16)> {
        Some((self.0.first()?.from, self.0.last()?.to))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if range.from == range.to {
                write!(out, "{comma}{}", range.from)?;
            } else {
                write!(out, "{comma}{}-{}", range.from, range.to)?;
            }
        }
        Ok(())
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u16> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PortRange, Ports};

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        assert_eq!(PortRange::parse("80"), Some(PortRange::single(80)));
        let range = PortRange { from: 1, to: 1023 };
        assert_eq!(PortRange::parse("1 - 1023"), Some(range));
        for text in [
            "", "-", "80-", "-80", "90-80", "+80", "65536", "80..90", "http",
        ] {
            assert_eq!(PortRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn neighbours_become_one() {
        let ranges = ["8000-8100", "80", "8101", "81", "8050-8060", "65535"];
        let ports = Ports::new(
            ranges
                .iter()
                .filter_map(|text| PortRange::parse(text))
                .collect(),
        );
        assert_eq!(ports.to_string(), "80-81, 8000-8101, 65535");
    }

    proptest! {
        #[test]
        fn a_set_holds_what_its_ranges_hold(
            ranges in proptest::collection::vec((any::<u16>(), 0_u16..500), 0..12),
            port in any::<u16>(),
            near in any::<proptest::sample::Index>(),
        ) {
            let ranges: Vec<PortRange> = ranges
                .into_iter()
                .map(|(from, length)| PortRange { from, to: from.saturating_add(length) })
                .collect();
            let edges = ranges.iter().flat_map(|range| [range.from, range.to, range.to.wrapping_add(1)]);
            let edges: Vec<u16> = edges.chain([port]).collect();
            let port = *near.get(&edges);
            let held = ranges.iter().any(|range| (range.from..=range.to).contains(&port));
            prop_assert_eq!(Ports::new(ranges).contains(port), held);
        }
    }
}
