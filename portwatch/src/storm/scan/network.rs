//! Whoever has a network of his own to send from: many ports, each by another address of one IPv6 network of 64 bits. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Found, NETWORKS, Place, SAMPLE, SILENT_NS, Scans, Source};
use crate::event::ScanShape;
use crate::storm::peers::Prefix;
use crate::time::BootNs;

impl Scans {
    /// Vertical scans by several addresses of one network, of whom none has tried enough by itself. What was found is the scan of
    /// all of them, and the network is remembered in their stead: whoever has 2^64 addresses would fill the table with them, and
    /// those that come next would be told as another scan, or as a storm of knocks.
    pub(super) fn networks(&mut self, wanted: u32) -> Vec<Found> {
        let mut networks: BTreeMap<Place, Vec<Place>> = BTreeMap::new();
        for (place, source) in &self.sources {
            if let (false, Some(network)) = (source.is_told, network_of(place.1)) {
                let network = (place.0, network, place.2);
                if !self.networks.contains_key(&network) {
                    networks.entry(network).or_default().push(*place);
                }
            }
        }
        let several = networks
            .into_iter()
            .filter(|(_, members)| members.len() > 1);
        let mut found = Vec::new();
        for (network, members) in several {
            let Some(together) = self.together(&members) else {
                continue;
            };
            if together.ports() < wanted || !together.is_plausible(network.2, wanted) {
                continue;
            }
            if self.networks.len() >= NETWORKS {
                self.dropped += 1;
                continue;
            }
            self.networks.insert(network, together.last);
            for member in &members {
                self.sources.remove(member);
            }
            found.push(Found {
                shape: ScanShape::Vertical,
                source: Some(network.1),
                sources: u32::try_from(members.len()).unwrap_or(u32::MAX),
                netns: network.0,
                namespaces: 1,
                is_udp: network.2,
                ports: together.ports(),
                knocks: together.knocks,
                sample: together.ports.iter().copied().take(SAMPLE).collect(),
                first: together.first,
                last: together.last,
            });
        }
        found
    }

    /// Does whoever knocked then belong to a network of which is told already, and which has not been silent since?
    pub(super) fn is_of_told_network(&mut self, place: Place, knocked: BootNs) -> bool {
        let Some(network) = network_of(place.1) else {
            return false;
        };
        let Some(last) = self.networks.get_mut(&(place.0, network, place.2)) else {
            return false;
        };
        let goes_on = knocked.since(*last) <= SILENT_NS;
        *last = (*last).max(knocked);
        if !goes_on {
            self.networks.remove(&(place.0, network, place.2));
        }
        goes_on
    }

    /// All of them as one source. Of its ports only those are believed that were seen: two may have tried the same.
    fn together(&self, members: &[Place]) -> Option<Source> {
        let sources = || members.iter().filter_map(|member| self.sources.get(member));
        let ports: BTreeSet<u16> = sources().flat_map(|one| &one.ports).copied().collect();
        Some(Source {
            first: sources().map(|one| one.first).min()?,
            last: sources().map(|one| one.last).max()?,
            ports,
            counted: 0,
            knocks: sources().fold(0, |sum, one| sum.saturating_add(one.knocks)),
            grown: 0,
            is_told: false,
        })
    }
}

/// The first address of the network; none of an address that is in a network with others. Every neighbour has a link-local one.
fn network_of(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(six) if !six.is_loopback() && !six.is_unicast_link_local() => {
            Some(Prefix::single(address).address)
        }
        _ => None,
    }
}
