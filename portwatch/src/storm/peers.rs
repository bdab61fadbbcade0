//! Out of single peers, those that matter: the most frequent, and prefixes that many of them share. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portwatch_common::storm::PEER_EVERY;

use super::reading::PeerReading;

/// Single peers that are told.
const SINGLES: usize = 10;
/// Prefixes that are told.
const PREFIXES: usize = 5;
/// Peers of one listener or process that a reading tells.
pub const PEERS_TOLD: usize = 32;
/// Connections from which on it is known who sends them: ten samples of one in [`PEER_EVERY`].
pub(super) const ENOUGH: u64 = 10 * PEER_EVERY;
/// Peers that are looked at.
const MOST: usize = 1_024;
/// A prefix must hold this part of all, in percent, and this many peers.
const SHARE: u64 = 10;
const MEMBERS: usize = 4;

/// A network: an address whose other bits are zero, and how many bits it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The network's address.
    pub address: IpAddr,
    /// Length, in bits.
    pub bits: u8,
}

/// Some of a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it comes from.
    pub prefix: Prefix,
    /// How many.
    pub count: u64,
    /// Of a hundred that were counted by peer.
    pub percent: u32,
}

impl Prefix {
    /// What one peer is: an IPv4 address, or 64 bits of IPv6. An IPv4 address in IPv6 is IPv4.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self {
                address: v4,
                bits: 32,
            },
            v6 @ IpAddr::V6(_) => Self::of(v6, 64),
        }
    }

    /// Is it one peer, as [`Prefix::single`] makes them?
    #[must_use]
    pub const fn is_single(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.bits == 32,
            IpAddr::V6(_) => self.bits == 64,
        }
    }

    /// The network of this length that the address is in.
    #[must_use]
    pub fn of(address: IpAddr, bits: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32)));
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask.unwrap_or(0)))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128)));
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask.unwrap_or(0)))
            }
        };
        Self { address, bits }
    }

    /// `198.51.100.0/24`, or an address alone. Bits behind the length are taken for zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then(|| Self::of(address, bits))
    }

    /// Is the address in it?
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::of(address, self.bits) == *self
    }

    /// Have the two an address in common?
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// What peers stood at, at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    counts: HashMap<IpAddr, u64>,
    /// Whoever is not among them had no more than that.
    others: u64,
}

impl Before {
    /// As told: the most frequent first, [`PEERS_TOLD`] at most, or all of them.
    pub(super) fn of(peers: &[PeerReading]) -> Self {
        let is_cut = peers.len() == PEERS_TOLD;
        let least = peers.iter().map(|peer| peer.count).min();
        Self {
            counts: peers.iter().map(|one| (one.address, one.count)).collect(),
            others: least.filter(|_| is_cut).unwrap_or(0),
        }
    }

    /// What came since. A count that is smaller than it was is another one: the kernel forgot the peer meanwhile.
    pub(super) fn until(&self, peers: &[PeerReading]) -> Vec<PeerReading> {
        let since = peers.iter().map(|peer| {
            let before = self.counts.get(&peer.address).copied();
            let before = before.unwrap_or(self.others);
            PeerReading {
                count: peer.count.checked_sub(before).unwrap_or(peer.count),
                ..*peer
            }
        });
        let mut since: Vec<PeerReading> = since.filter(|peer| peer.count > 0).collect();
        since.sort_unstable_by_key(|peer| (std::cmp::Reverse(peer.count), peer.address));
        since
    }
}

/// The most frequent peers, then the longest prefixes that hold a tenth of all and several peers. At most 15.
#[must_use]
pub fn shares(peers: &[PeerReading]) -> Vec<Share> {
    let mut singles: HashMap<Prefix, u64> = HashMap::new();
    for peer in peers.iter().take(MOST) {
        let count = singles.entry(Prefix::single(peer.address)).or_default();
        *count = count.saturating_add(peer.count);
    }
    let all = singles
        .values()
        .fold(0, |all: u64, one| all.saturating_add(*one));
    if all == 0 {
        return Vec::new();
    }
    let share = |(prefix, count): (Prefix, u64)| Share {
        prefix,
        count,
        percent: percent(count, all),
    };
    let mut sorted: Vec<(Prefix, u64)> = singles.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut told: Vec<Share> = sorted.iter().take(SINGLES).copied().map(share).collect();
    told.extend(prefixes(&sorted, all).into_iter().map(share));
    told
}

/// The longest prefixes first; what one holds counts for none that contains it.
fn prefixes(singles: &[(Prefix, u64)], all: u64) -> Vec<(Prefix, u64)> {
    let mut found: Vec<(Prefix, u64)> = Vec::new();
    for (v4, v6) in [(24, 56), (16, 48), (8, 32)] {
        let mut groups: HashMap<Prefix, (u64, usize)> = HashMap::new();
        for (single, count) in singles {
            if found
                .iter()
                .any(|(known, _)| known.contains(single.address))
            {
                continue;
            }
            let bits = if single.address.is_ipv4() { v4 } else { v6 };
            let group = groups.entry(Prefix::of(single.address, bits)).or_default();
            group.0 = group.0.saturating_add(*count);
            group.1 += 1;
        }
        let matters = |(_, (count, members)): &(Prefix, (u64, usize))| {
            *members >= MEMBERS && u64::from(percent(*count, all)) >= SHARE
        };
        let groups = groups.into_iter().filter(matters);
        found.extend(groups.map(|(prefix, (count, _))| (prefix, count)));
    }
    found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    found.truncate(PREFIXES);
    found
}

/// Of a hundred; more than that where the part is larger than the whole.
#[must_use]
pub fn percent(part: u64, whole: u64) -> u32 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u32::try_from(percent).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::{Prefix, shares};
    use crate::storm::reading::PeerReading;

    fn told(peers: &[(&str, u64)]) -> Vec<(String, u64, u32)> {
        let peers: Vec<PeerReading> = peers
            .iter()
            .map(|(address, count)| PeerReading {
                address: address.parse().expect("an address"),
                count: *count,
            })
            .collect();
        let shares = shares(&peers).into_iter();
        shares
            .map(|share| (share.prefix.to_string(), share.count, share.percent))
            .collect()
    }

    #[test]
    fn one_source_is_told_as_it_is() {
        let told = told(&[("203.0.113.7", 900), ("::ffff:198.51.100.9", 100)]);
        assert_eq!(told[0], ("203.0.113.7/32".to_owned(), 900, 90));
        assert_eq!(told[1], ("198.51.100.9/32".to_owned(), 100, 10));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn many_of_one_network_are_told_as_that_network() {
        let names: Vec<String> = (0..50).map(|n| format!("198.51.100.{n}")).collect();
        let mut peers: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 2)).collect();
        peers.push(("2001:db8:0:1::1", 5));
        peers.push(("2001:db8:0:1::2", 5));
        let told = told(&peers);
        assert_eq!(told.len(), 11);
        assert_eq!(told[0], ("2001:db8:0:1::/64".to_owned(), 10, 9));
        assert_eq!(told[10], ("198.51.100.0/24".to_owned(), 100, 90));
    }

    proptest! {
        #[test]
        fn shares_are_few_and_add_up(peers in prop::collection::vec((any::<u32>(), 0..1000_u64), 0..300)) {
            let peers: Vec<PeerReading> = peers
                .into_iter()
                .map(|(bits, count)| PeerReading { address: IpAddr::V4(Ipv4Addr::from_bits(bits)), count })
                .collect();
            let all: u64 = peers.iter().map(|peer| peer.count).sum();
            let shares = shares(&peers);
            prop_assert!(shares.len() <= 15);
            let singles = shares.iter().filter(|share| share.prefix.bits == 32);
            prop_assert!(singles.map(|share| share.count).sum::<u64>() <= all);
            prop_assert!(shares.iter().all(|share| share.percent <= 100));
        }

        #[test]
        fn a_prefix_contains_its_addresses(bits in any::<u32>(), length in 0_u8..=32, host in any::<u32>()) {
            let prefix = Prefix::of(IpAddr::V4(Ipv4Addr::from_bits(bits)), length);
            let free = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let inside = IpAddr::V4(Ipv4Addr::from_bits((bits & !free) | (host & free)));
            prop_assert!(prefix.contains(inside));
            prop_assert!(prefix.overlaps(&Prefix::single(inside)));
        }
    }
}
