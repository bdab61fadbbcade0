//! The answer to `portwatch stats`: one look at the kernel's tables, elsewhere, beside what is kept here.
//!
//! The states of the answer are the kernel's own, because half-open connections and TIME_WAIT pass no hook. What events
//! keep is held against them each time: a difference that churn during the look cannot explain is told and put right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use portwatch_common::storm::StormCount;
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::errand::Errand;
use super::observer::{Part, add_opening, count};
use super::pipeline::Pipeline;
use super::status::state;
use crate::decode::record::TaskInfo;
use crate::event::words::Word as _;
use crate::event::{Family, Mechanism};
use crate::interface::stats::{
    CutStats, KeptStats, KnockStats, ListenerStats, PeerStats, ProcessStats, SCHEMA, SpaceStats,
    States, Stats,
};
use crate::inventory::tcp::{self, ALL_STATES};
use crate::probe::plan::Signal;
use crate::probe::storms::Tables;
use crate::storm::{Counts, Reading, STATES, TOLD, Tally};
use crate::text::escape;
use crate::time::{BootNs, WallClock};

/// Rows of an answer.
const LISTENERS: usize = 400;
const PROCESSES: usize = 100;
const PEERS: usize = 50;
const SENDERS: usize = 5;
const KNOCKS: usize = 20;
const SPACES: usize = 64;

/// What the look found.
pub(super) struct Looked {
    home: u32,
    tally: Tally,
    owners: HashMap<u64, TaskInfo>,
    /// What the probes keep.
    reading: Reading,
    unseen: Vec<String>,
}

/// A look that is under way, and who waits for it.
#[derive(Default)]
pub(super) struct Asked {
    waiting: Vec<oneshot::Sender<Stats>>,
    look: Errand<io::Result<Looked>>,
    /// The counters before it began.
    before: Option<Counters>,
}

impl Asked {
    /// Completes when the look has ended. Cancel-safe.
    pub(super) async fn looked(&mut self) -> Result<io::Result<Looked>, JoinError> {
        self.look.ended().await
    }
}

/// What stands in the tables of the kernel, without the daemon.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn stats() -> io::Result<Stats> {
    let looked = look(None)?;
    let now = WallClock::read().rfc3339(BootNs::now());
    Ok(assemble(&looked, now, None))
}

fn look(tables: Option<&Tables>) -> io::Result<Looked> {
    let mut tally = Tally::default();
    let looked = tcp::look(ALL_STATES, &mut |socket| tally.add(&socket))?;
    let files: HashSet<u64> = tally.files.keys().copied().collect();
    let mut unseen = looked.refused;
    if tally.beyond > 0 {
        unseen.push(format!(
            "{} sockets are counted by state alone: there are too many",
            tally.beyond
        ));
    }
    let owners = tcp::owners(&files)?;
    let all = |tables| {
        let mut reading = count(tables, BootNs::now(), Part::ALL)?;
        add_opening(&mut reading, tables);
        Ok::<_, io::Error>(reading)
    };
    let counted = tables.map(all);
    let reading = counted.transpose().unwrap_or_else(|error| {
        unseen.push(format!("the probes' tables cannot be read: {error}"));
        None
    });
    Ok(Looked {
        home: looked.home,
        tally,
        owners,
        reading: reading.unwrap_or_default(),
        unseen,
    })
}

impl Pipeline {
    /// Somebody asks; or nobody (at the start), to learn what was there before.
    pub(super) fn ask_stats(&mut self, answer: Option<oneshot::Sender<Stats>>) {
        self.asked.waiting.extend(answer);
        if self.asked.look.is_under_way() {
            return;
        }
        // Where no probe tells of states, the counters stand still whatever happens.
        let are_told = self.plan.uses(Signal::TcpState, Mechanism::TpBtf);
        self.asked.before = self.counters().filter(|_| are_told);
        let tables: Option<Arc<Tables>> = self.sensors.as_mut().map(|one| one.storms().tables());
        self.asked.look.begin(move || look(tables.as_deref()));
    }

    /// The look has ended. Whoever waits for one that failed hears that there is no answer, and may ask again.
    pub(super) fn stats_looked(&mut self, looked: Result<io::Result<Looked>, JoinError>) {
        let Asked {
            waiting, before, ..
        } = std::mem::take(&mut self.asked);
        let looked = match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(%error, "TCP sockets could not be counted");
                return;
            }
        };
        let kept = before
            .zip(self.counters())
            .and_then(|(before, after)| self.compare(&looked.tally, &before, &after));
        if waiting.is_empty() {
            return;
        }
        let ts = self.surroundings.clock.rfc3339(BootNs::now());
        let mut stats = assemble(&looked, ts, kept);
        stats.unseen.extend(self.unseen_of_storms());
        for answer in waiting {
            // The client may have gone.
            let _ = answer.send(stats.clone());
        }
    }

    /// Holds the count by events against what the kernel said between two readings of the counters.
    fn compare(&mut self, tally: &Tally, before: &Counters, after: &Counters) -> Option<KeptStats> {
        let churn = churn(before, after);
        let Some(kept) = self.storms.kept(after) else {
            self.storms.keep(&tally.whole, after, churn);
            return None;
        };
        let wrong = self.storms.compare(&tally.whole, after, &churn);
        let difference: BTreeMap<String, i64> = wrong
            .into_iter()
            .map(|(told, by)| (name(told), by))
            .collect();
        if !difference.is_empty() {
            tracing::debug!(?difference, "the count by events was put right");
        }
        let states = TOLD.into_iter().filter_map(|told| {
            let count = u64::try_from(at(&kept, usize::from(told.0))).unwrap_or_default();
            (count > 0).then(|| (name(told), count))
        });
        Some(KeptStats {
            states: states.collect(),
            difference,
        })
    }

    /// What did not fit into the tables, a sentence each.
    fn unseen_of_storms(&self) -> Vec<String> {
        let storm = self.counters().map(|counters| counters.storm);
        let counted = |count: StormCount| {
            let index = usize::try_from(count.0).ok()?;
            storm?.get(index).copied()
        };
        let sentences = [
            (
                self.storms.without_cell() as u64,
                "listeners have no counts, because there are too many",
            ),
            (
                counted(StormCount::PASSED_OVER).unwrap_or_default(),
                "knocks of unknown sources were passed over, because there were too many of those",
            ),
            (
                counted(StormCount::HELD_BACK).unwrap_or_default(),
                "rates that were too high were not announced at once, because there were too many of those",
            ),
        ];
        let sentences = sentences.into_iter().filter(|(count, _)| *count > 0);
        sentences
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn counters(&self) -> Option<Counters> {
        self.sensors.as_ref()?.counters().ok()
    }
}

fn at(counts: &Counts, index: usize) -> i64 {
    counts.get(index).copied().unwrap_or_default()
}

/// How often each state was entered or left between the two.
fn churn(before: &Counters, after: &Counters) -> [u64; STATES] {
    let mut churn = [0; STATES];
    let cells = after.transitions.iter().zip(&before.transitions);
    for (cell, (after, before)) in cells.enumerate() {
        for state in [cell / STATES, cell % STATES] {
            if let Some(times) = churn.get_mut(state) {
                *times += after.wrapping_sub(*before);
            }
        }
    }
    churn
}

fn name(told: TcpState) -> String {
    state(told).map_or_else(|| told.0.to_string(), |state| state.word().to_owned())
}

fn states(counts: &[u64; STATES]) -> States {
    let all = TcpState::ALL.iter().filter_map(|&told| {
        let count = *counts.get(usize::from(told.0))?;
        (count > 0).then(|| (name(told), count))
    });
    all.collect()
}

fn assemble(looked: &Looked, ts: String, kept: Option<KeptStats>) -> Stats {
    let (tally, reading) = (&looked.tally, &looked.reading);
    let home = tally.spaces.get(&looked.home).map(states);
    let others = tally
        .spaces
        .iter()
        .filter(|(netns, _)| **netns != looked.home);
    let others = others.map(|(netns, counts)| SpaceStats {
        netns: u64::from(*netns),
        states: states(counts),
    });
    let peers = tally.peers.iter();
    let peers = peers.map(|(&address, &count)| PeerStats { address, count });
    let (namespaces, namespaces_cut) = first(others.collect(), SPACES);
    let (listeners, listeners_cut) = first(listeners(tally, reading), LISTENERS);
    let (processes, processes_cut) = first(processes(looked, reading), PROCESSES);
    let (peers, peers_cut) = first(by_count(peers), PEERS);
    let (knocks, knocks_cut) = first(knocks(reading), KNOCKS);
    Stats {
        schema: SCHEMA.to_owned(),
        ts,
        netns: u64::from(looked.home),
        states: home.unwrap_or_default(),
        namespaces,
        listeners,
        processes,
        peers,
        knocks,
        kept,
        cut: CutStats {
            namespaces: namespaces_cut,
            listeners: listeners_cut,
            processes: processes_cut,
            peers: peers_cut,
            knocks: knocks_cut,
        },
        unseen: looked.unseen.clone(),
    }
}

/// As many as may be told, and how many are left out.
fn first<T>(mut all: Vec<T>, most: usize) -> (Vec<T>, u64) {
    let cut = all.len().saturating_sub(most) as u64;
    all.truncate(most);
    (all, cut)
}

fn by_count(peers: impl Iterator<Item = PeerStats>) -> Vec<PeerStats> {
    let mut peers: Vec<_> = peers.collect();
    peers.sort_unstable_by_key(|peer| (Reverse(peer.count), peer.address));
    peers
}

fn listeners(tally: &Tally, reading: &Reading) -> Vec<ListenerStats> {
    let counted: HashMap<_, _> = reading.listeners.iter().map(|one| (one.key, one)).collect();
    let listening = tally.ports.iter().filter(|(_, at)| at.listening > 0);
    let mut all: Vec<ListenerStats> = listening
        .map(|(key, at)| {
            let counted = counted.get(key);
            let senders = counted.map(|one| one.peers.as_slice()).unwrap_or_default();
            let senders = senders.iter().map(|peer| PeerStats {
                address: peer.address,
                count: peer.count,
            });
            ListenerStats {
                netns: u64::from(key.netns),
                family: if key.is_v6 {
                    Family::Ipv6
                } else {
                    Family::Ipv4
                },
                port: key.port,
                established: u64::from(at.established),
                half_open: u64::from(at.half_open),
                closing: u64::from(at.other),
                accept_queue: u64::from(at.queue.0),
                backlog: u64::from(at.queue.1),
                syns: counted.and_then(|one| one.syns),
                accepted: counted.and_then(|one| one.accepted),
                unanswered: counted.and_then(|one| one.unanswered),
                resets: counted.and_then(|one| one.resets),
                // The most frequent ones, as storms name them: not a list of all.
                senders: first(by_count(senders), SENDERS).0,
            }
        })
        .collect();
    all.sort_unstable_by_key(|one| {
        let connections = one.established + one.half_open + one.closing;
        (
            Reverse(connections),
            one.netns,
            one.port,
            one.family == Family::Ipv6,
        )
    });
    all
}

fn processes(looked: &Looked, reading: &Reading) -> Vec<ProcessStats> {
    let mut by_pid: BTreeMap<u32, (&TaskInfo, [u64; STATES])> = BTreeMap::new();
    for (inode, told) in &looked.tally.files {
        let Some(owner) = looked.owners.get(inode) else {
            continue;
        };
        let (_, counts) = by_pid.entry(owner.key.pid).or_insert((owner, [0; STATES]));
        if let Some(count) = counts.get_mut(usize::from(told.0)) {
            *count += 1;
        }
    }
    let connects: HashMap<u32, _> = reading.processes.iter().map(|one| (one.pid, one)).collect();
    let mut all: Vec<_> = by_pid
        .into_iter()
        .map(|(pid, (owner, counts))| {
            let connects = connects.get(&pid);
            let process = ProcessStats {
                pid,
                name: escape(&owner.comm),
                states: states(&counts),
                connects: connects.and_then(|one| one.connects),
                failed: connects.and_then(|one| one.failed),
            };
            (Reverse(counts.iter().sum::<u64>()), process)
        })
        .collect();
    all.sort_by_key(|(total, process)| (*total, process.pid));
    all.into_iter().map(|(_, process)| process).collect()
}

fn knocks(reading: &Reading) -> Vec<KnockStats> {
    let mut all: Vec<_> = reading.sources.iter().collect();
    all.sort_unstable_by_key(|one| (Reverse(one.ports), Reverse(one.count), one.address));
    let all = all.into_iter();
    all.map(|one| KnockStats {
        netns: u64::from(one.netns),
        address: one.address,
        protocol: if one.is_udp { "udp" } else { "tcp" }.to_owned(),
        ports: one.ports,
        count: one.count,
        sample: one.sample.clone(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::storm::TcpSocket;

    #[test]
    fn rows_that_do_not_fit_are_counted() {
        let mut tally = Tally::default();
        for n in 0..450_u16 {
            for state in [TcpState::LISTEN, TcpState::ESTABLISHED] {
                tally.add(&TcpSocket {
                    netns: 1 + u32::from(n % 70),
                    is_v6: false,
                    state,
                    is_remnant: false,
                    port: 1_000 + n,
                    peer: IpAddr::V4(Ipv4Addr::from_bits(u32::from(n))),
                    peer_port: 1,
                    inode: 0,
                    queue: (0, 1),
                });
            }
        }
        let looked = Looked {
            home: 1,
            tally,
            owners: HashMap::new(),
            reading: Reading::default(),
            unseen: Vec::new(),
        };
        let stats = assemble(&looked, String::new(), None);
        let expected = CutStats {
            namespaces: 69 - 64,
            listeners: 50,
            peers: 400,
            ..CutStats::default()
        };
        assert_eq!(stats.cut, expected);
        assert_eq!(stats.listeners.len() as u64 + stats.cut.listeners, 450);
    }
}
