//! Who tries which ports answer: many ports by one source, however slowly, one port by many, or one in many namespaces. Pure.

mod network;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::reading::{Crossing, Rate, SourceReading, Subject};
use super::settings::Settings;
use crate::event::ScanShape;
use crate::time::BootNs;

/// Sources that are remembered; about 600 bytes each at most.
const SOURCES: usize = 2_048;
/// Ports that are remembered of each.
const PORTS: usize = 96;
/// Ports that are told.
const SAMPLE: usize = 16;
/// Crossings of which the reading is awaited.
const AWAITED: usize = 64;
/// Namespaces of which knocks are added up.
const NAMESPACES_KNOCKED: usize = 256;
/// Ports and addresses that were told as distributed or horizontal.
const TOLD: usize = 512;
/// From here on the kernel chooses ports by itself, on a host that was not told otherwise. What comes late to a port that
/// is closed already knocks there, and scans nothing.
const EPHEMERAL: u16 = 32_768;
/// A source that was silent for so long begins another scan.
const SILENT_NS: u64 = 3_600_000_000_000;
/// Within this time sources are taken for one distributed scan.
const TOGETHER_NS: u64 = 600_000_000_000;
/// How often distributed and horizontal scans are looked for.
const LOOK_NS: u64 = 5_000_000_000;
/// Networks of which was told that they scan.
const NETWORKS: usize = 512;
/// A distributed scan is told once in this time.
const AGAIN_NS: u64 = 86_400_000_000_000;
/// A source of a distributed scan tries no more ports than these.
const FEW: usize = 3;
/// So many namespaces make one source horizontal.
const NAMESPACES: usize = 3;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How it goes about it.
    pub shape: ScanShape,
    /// Who. Where a vertical scan has several sources, the first address of their network of 64 bits.
    pub source: Option<IpAddr>,
    /// How many.
    pub sources: u32,
    /// Where, the first of them.
    pub netns: u32,
    /// In how many namespaces.
    pub namespaces: u32,
    /// By UDP.
    pub is_udp: bool,
    /// Different ports.
    pub ports: u32,
    /// Knocks.
    pub knocks: u64,
    /// Some of the ports, in rising order.
    pub sample: Vec<u16>,
    /// The first knock.
    pub first: BootNs,
    /// The last one.
    pub last: BootNs,
}

type Place = (u32, IpAddr, bool);

#[derive(Debug)]
struct Source {
    first: BootNs,
    last: BootNs,
    ports: BTreeSet<u16>,
    /// As the kernel counts them.
    counted: u32,
    knocks: u64,
    /// Since the reading before.
    grown: u64,
    is_told: bool,
}

/// Everybody who knocked lately.
#[derive(Debug, Default)]
pub(super) struct Scans {
    sources: HashMap<Place, Source>,
    awaited: Vec<(Place, u64, BootNs)>,
    told: HashMap<(u32, u16), BootNs>,
    told_sources: HashMap<IpAddr, BootNs>,
    /// Networks that were told to scan, and when any of their addresses knocked last.
    networks: HashMap<Place, BootNs>,
    looked: BootNs,
    last: BootNs,
    /// Knocks of TCP by namespace that no scan explains, since the start.
    knocks: HashMap<u32, u64>,
    /// Nobody who is remembered tried fewer ports than these, as far as is known.
    least: u32,
    /// Sources that found no place.
    pub(super) dropped: u64,
}

impl Source {
    fn ports(&self) -> u32 {
        let known = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        self.counted.max(known)
    }

    /// Are they ports that services have? Of UDP all that is believed is what is seen.
    fn is_plausible(&self, is_udp: bool, wanted: u32) -> bool {
        let of_services = self.ports.range(..EPHEMERAL).count();
        let is_half = of_services * 2 >= self.ports.len();
        let seen = u32::try_from(of_services).unwrap_or(u32::MAX);
        is_half && (!is_udp || seen >= wanted.div_ceil(2))
    }
}

impl Scans {
    /// Was that a rate of ports? Then its source is looked for in the next reading.
    pub(super) fn crossed(&mut self, crossing: &Crossing) {
        if let (Rate::Ports, Subject::Source(netns, address)) = (crossing.rate, crossing.subject)
            && self.awaited.len() < AWAITED
        {
            let place = (netns, address.to_canonical(), crossing.is_udp);
            self.awaited.push((place, crossing.count, crossing.at));
        }
    }

    /// Knocks of TCP at this namespace that no scan explains, since the start.
    pub(super) fn knocks(&self, netns: u32) -> u64 {
        self.knocks.get(&netns).copied().unwrap_or(0)
    }

    /// Adds up what a source has knocked since the reading before. What was never remembered counts as a whole, once.
    fn add_knocks(&mut self, place: Place, reading: &SourceReading, wanted: u32) {
        let grown = match self.sources.get(&place) {
            Some(source) if source.is_told || source.ports() * 2 >= wanted => 0,
            Some(source) => source.grown,
            None if reading.first > self.last => reading.count,
            None => 0,
        };
        let is_room = self.knocks.len() < NAMESPACES_KNOCKED || self.knocks.contains_key(&place.0);
        if grown > 0 && !place.2 && is_room {
            let sum = self.knocks.entry(place.0).or_default();
            *sum = sum.saturating_add(grown);
        }
    }

    /// Takes note of who knocked. `is_storm` tells of a namespace whether its knocks are a storm already.
    pub(super) fn read(
        &mut self,
        sources: &[SourceReading],
        at: BootNs,
        settings: &Settings,
        is_storm: impl Fn(u32) -> bool,
    ) -> Vec<Found> {
        let window = u64::try_from(settings.scan_window.as_nanos()).unwrap_or(u64::MAX);
        for source in self.sources.values_mut() {
            source.grown = 0;
        }
        let mut found = Vec::new();
        for reading in sources {
            let place = (
                reading.netns,
                reading.address.to_canonical(),
                reading.is_udp,
            );
            // Who tries much by himself is told beside his network.
            let is_alone = reading.ports * 2 >= settings.scan_ports;
            if self.is_of_told_network(place, reading.last) && !is_alone {
                continue;
            }
            // The kernel remembers for longer. Whoever was forgotten here is no news until he knocks again.
            let is_past = at.since(reading.last) > SILENT_NS.min(window);
            if is_past && !self.sources.contains_key(&place) {
                continue;
            }
            self.note(place, reading, window);
            found.extend(self.vertical(place, settings.scan_ports, 0));
            self.add_knocks(place, reading, settings.scan_ports);
        }
        self.last = at;
        for (place, count, seen) in std::mem::take(&mut self.awaited) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            if self.is_of_told_network(place, seen) && count < settings.scan_ports {
                continue;
            }
            if self.sources.contains_key(&place) {
                let counted = self.vertical(place, settings.scan_ports, count);
                found.extend(counted);
            } else if count >= settings.scan_ports {
                // The kernel has forgotten it meanwhile, and knows no more of it. Those who are told of stay, and must not
                // become more than there is room for.
                if self.sources.len() >= SOURCES {
                    self.dropped += 1;
                    continue;
                }
                self.insert(place, seen).counted = count;
                found.extend(self.vertical(place, settings.scan_ports, 0));
            }
        }
        if at.since(self.looked) >= LOOK_NS {
            self.looked = at;
            self.forget(at, window);
            found.extend(self.networks(settings.scan_ports));
            found.extend(self.distributed(at, settings.scan_sources, is_storm));
            found.extend(self.horizontal(at));
        }
        found
    }

    fn insert(&mut self, place: Place, at: BootNs) -> &mut Source {
        self.sources.entry(place).or_insert_with(|| Source {
            first: at,
            last: at,
            ports: BTreeSet::new(),
            counted: 0,
            knocks: 0,
            grown: 0,
            is_told: false,
        })
    }

    fn note(&mut self, place: Place, reading: &SourceReading, window: u64) {
        if !self.sources.contains_key(&place)
            && self.sources.len() >= SOURCES
            && !self.make_room(reading)
        {
            self.dropped += 1;
            return;
        }
        self.least = self.least.min(reading.ports);
        let source = self.insert(place, reading.first);
        let is_new = reading.last > source.last || source.knocks == 0;
        let is_another = reading.last.since(source.last) >= SILENT_NS && source.is_told;
        let is_old = !source.is_told && reading.last.since(source.first) > window;
        if is_another || is_old {
            source.first = reading.last;
            source.ports.clear();
            source.is_told = false;
            source.counted = reading.ports;
            source.grown = reading.count.saturating_sub(source.knocks);
        } else {
            source.first = source.first.min(reading.first);
            source.counted = source.counted.max(reading.ports);
            source.grown = match reading.count.checked_sub(source.knocks) {
                Some(grown) => grown,
                None => reading.count,
            };
        }
        source.last = source.last.max(reading.last);
        source.knocks = reading.count;
        if is_new {
            let room = PORTS.saturating_sub(source.ports.len());
            let fresh = reading
                .sample
                .iter()
                .filter(|port| !source.ports.contains(port));
            let fresh: Vec<u16> = fresh.copied().take(room).collect();
            source.ports.extend(fresh);
        }
    }

    /// Whoever tried least goes, when the new one tried more.
    fn make_room(&mut self, reading: &SourceReading) -> bool {
        // A flood of strangers must not have the table searched for each of them.
        if reading.ports < 2 || reading.ports <= self.least {
            return false;
        }
        let untold = self.sources.iter().filter(|(_, source)| !source.is_told);
        let least = untold.min_by_key(|(_, source)| (source.ports(), source.last));
        let Some((place, ports)) = least.map(|(place, source)| (*place, source.ports())) else {
            return false;
        };
        self.least = ports;
        if ports >= reading.ports {
            return false;
        }
        self.sources.remove(&place);
        true
    }

    fn vertical(&mut self, place: Place, wanted: u32, at_least: u32) -> Option<Found> {
        let source = self.sources.get_mut(&place)?;
        source.counted = source.counted.max(at_least);
        let is_scan = source.ports() >= wanted && source.is_plausible(place.2, wanted);
        if source.is_told || !is_scan {
            return None;
        }
        source.is_told = true;
        Some(Found {
            shape: ScanShape::Vertical,
            source: Some(place.1),
            sources: 1,
            netns: place.0,
            namespaces: 1,
            is_udp: place.2,
            ports: source.ports(),
            knocks: source.knocks.max(source.ports().into()),
            sample: source.ports.iter().copied().take(SAMPLE).collect(),
            first: source.first,
            last: source.last,
        })
    }

    /// What was silent for longer than any window is forgotten.
    fn forget(&mut self, at: BootNs, window: u64) {
        self.sources.retain(|_, source| {
            let kept = if source.is_told { SILENT_NS } else { window };
            at.since(source.last) <= kept
        });
        self.networks.retain(|_, last| at.since(*last) <= SILENT_NS);
        self.least = 0;
        self.told.retain(|_, told| at.since(*told) <= AGAIN_NS);
        self.told_sources
            .retain(|_, told| at.since(*told) <= AGAIN_NS);
    }

    fn distributed(
        &mut self,
        at: BootNs,
        wanted: u32,
        is_storm: impl Fn(u32) -> bool,
    ) -> Vec<Found> {
        let mut groups: HashMap<(u32, u16), Found> = HashMap::new();
        for ((netns, _, is_udp), source) in &self.sources {
            let is_one = !is_udp
                && !source.is_told
                && source.ports.len() <= FEW
                && at.since(source.last) <= TOGETHER_NS;
            if !is_one {
                continue;
            }
            for port in source.ports.iter().filter(|port| **port < EPHEMERAL) {
                let group = groups.entry((*netns, *port)).or_insert_with(|| Found {
                    shape: ScanShape::Distributed,
                    source: None,
                    sources: 0,
                    netns: *netns,
                    namespaces: 1,
                    is_udp: false,
                    ports: 1,
                    knocks: 0,
                    sample: vec![*port],
                    first: source.first,
                    last: source.last,
                });
                group.sources += 1;
                group.knocks = group.knocks.saturating_add(source.knocks);
                group.first = group.first.min(source.first);
                group.last = group.last.max(source.last);
            }
        }
        let mut found: Vec<Found> = Vec::new();
        for (place, group) in groups {
            let is_told = self.told.contains_key(&place) || self.told.len() >= TOLD;
            if group.sources >= wanted && !is_told && !is_storm(place.0) {
                self.told.insert(place, at);
                found.push(group);
            }
        }
        found.sort_by_key(|one| (one.netns, one.sample.clone()));
        found
    }

    fn horizontal(&mut self, at: BootNs) -> Vec<Found> {
        let mut places: HashMap<(IpAddr, u16), HashSet<u32>> = HashMap::new();
        for ((netns, address, is_udp), source) in &self.sources {
            // Every namespace has a loopback of its own: its addresses are not one source.
            if *is_udp || address.is_loopback() || at.since(source.last) > TOGETHER_NS {
                continue;
            }
            for port in source.ports.range(..EPHEMERAL) {
                places.entry((*address, *port)).or_default().insert(*netns);
            }
        }
        let mut hits: Vec<_> = places
            .into_iter()
            .filter(|(_, namespaces)| namespaces.len() >= NAMESPACES)
            .map(|((address, port), namespaces)| {
                (
                    address,
                    port,
                    namespaces.into_iter().collect::<BTreeSet<_>>(),
                )
            })
            .collect();
        hits.sort();
        let mut found = Vec::new();
        for (address, port, namespaces) in hits {
            let is_told = self.told_sources.contains_key(&address);
            if is_told || self.told_sources.len() >= TOLD {
                continue;
            }
            self.told_sources.insert(address, at);
            let of = namespaces
                .iter()
                .filter_map(|netns| self.sources.get(&(*netns, address, false)));
            let of: Vec<&Source> = of.collect();
            found.push(Found {
                shape: ScanShape::Horizontal,
                source: Some(address),
                sources: 1,
                netns: namespaces.first().copied().unwrap_or(0),
                namespaces: u32::try_from(namespaces.len()).unwrap_or(u32::MAX),
                is_udp: false,
                ports: 1,
                knocks: of.iter().fold(0, |sum, one| sum.saturating_add(one.knocks)),
                sample: vec![port],
                first: of.iter().map(|one| one.first).min().unwrap_or(at),
                last: of.iter().map(|one| one.last).max().unwrap_or(at),
            });
        }
        found
    }

    /// Sources that are remembered.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
