//! Who owns a connection, and the process behind it, cheaply enough for every state change.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use portwatch_common::socket::TcpState;

use crate::decode::record::{Held, ProcessKey, RingPlace, SockId, StateSeen, TaskInfo, Who};
use crate::enrich::Enricher;
use crate::event::Process;
use crate::inventory::{Inventory, Listener};
use crate::sink::ConnectionOwner;
use crate::time::{BootNs, WallClock};

/// Processes that are kept resolved; more than talk at once on most hosts.
const PROCESSES: usize = 1024;
/// Connections that are remembered with their owner. Of accepted ones beyond, each change looks the
/// listener up again; connecting ones beyond have no owner.
const KNOWN: usize = 65_536;
/// Listeners that closed while their connections' records may still wait in the other ring.
const CLOSED: usize = 256;
/// How long a resolved process is good for: it may have replaced its image since.
const FRESH_NS: u64 = 10_000_000_000;
/// CPUs whose records are counted; the kernel supports no more.
const CPUS: usize = 8192;

/// What is known of connections while their states are streamed.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Owners of connections that were there before the stream began, and when they were seen.
    before: HashMap<SockId, (TaskInfo, BootNs)>,
    /// Owners of connections since, until they close.
    known: HashMap<SockId, Arc<ConnectionOwner>, BuildHasherDefault<AddressHasher>>,
    /// Listeners that closed lately, newest last.
    closed: VecDeque<(Listener, Arc<ConnectionOwner>)>,
    resolved: HashMap<ProcessKey, (Arc<ConnectionOwner>, BootNs)>,
    /// The owner that each listener's process was made to.
    listeners: HashMap<SockId, (Arc<Process>, Arc<ConnectionOwner>)>,
    /// By CPU: how many records it should have made before the next.
    next: Vec<Option<u64>>,
}

impl Connections {
    /// The stream begins, or records were lost: these are the holders of what is connected now.
    pub(super) fn begin(&mut self, held: Vec<Held>) {
        self.before = held
            .into_iter()
            .map(|held| (held.sock.id, (held.holder, held.at)))
            .collect();
    }

    /// The stream ended.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A record came out of the ring. Tells whether some before it were lost: then no socket is known to
    /// be the one that it was, and all owners are forgotten.
    pub(super) fn arrived(&mut self, place: RingPlace) -> bool {
        let Ok(cpu) = usize::try_from(place.cpu) else {
            return false;
        };
        if cpu >= self.next.len() {
            self.next.resize((cpu + 1).min(CPUS), None);
        }
        let Some(next) = self.next.get_mut(cpu) else {
            return false;
        };
        let is_lost = next.is_some_and(|next| next != place.before);
        *next = Some(place.before + 1);
        if is_lost {
            self.known.clear();
            self.before.clear();
        }
        is_lost
    }

    /// A process replaced its image.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        self.resolved.remove(&key);
    }

    /// A listener closed: its connections are attributed to it for a while yet.
    pub(super) fn listener_closed(&mut self, listener: &Listener, process: &Process) {
        self.listeners.remove(&listener.id());
        if self.closed.len() >= CLOSED {
            self.closed.pop_front();
        }
        let owner = Arc::new(ConnectionOwner::new(process.clone()));
        self.closed.push_back((listener.clone(), owner));
    }

    /// The owner of the connection: who connected it (told by the kernel side in process context),
    /// who held it when the stream began, or the listener it came in on. Never the task that the
    /// softirq interrupted.
    pub(super) fn owner(
        &mut self,
        seen: &StateSeen,
        inventory: &Inventory,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Option<Arc<ConnectionOwner>> {
        let id = seen.sock.id;
        // A child that a listener has just made, or a socket that connects, sits where some other was.
        let is_first = seen.old == TcpState::LISTEN || seen.owner.is_some();
        let is_last = seen.new == TcpState::CLOSE;
        let before = self.before(seen, is_first || is_last).filter(|_| !is_first);
        if let Some(task) = seen.owner.clone().or(before) {
            let owner = self.process(task, enricher, now, clock);
            if seen.owner.is_some() {
                self.remember(id, &owner);
            }
            return Some(owner);
        }
        let known = if is_last {
            self.known.remove(&id)
        } else {
            self.known.get(&id).map(Arc::clone)
        };
        if let Some(owner) = known.filter(|_| !is_first) {
            return Some(owner);
        }
        let owner = self.listener_process(seen, inventory, enricher, now, clock)?;
        if !is_last {
            self.remember(id, &owner);
        }
        Some(owner)
    }

    /// Who held the socket when somebody looked. A change from before that look may be of another socket
    /// that was there.
    fn before(&mut self, seen: &StateSeen, takes: bool) -> Option<TaskInfo> {
        if self.before.is_empty() {
            return None;
        }
        let (task, at) = self.before.get(&seen.sock.id)?;
        if seen.at < *at {
            return None;
        }
        let task = task.clone();
        if takes {
            self.before.remove(&seen.sock.id);
        }
        Some(task)
    }

    fn remember(&mut self, id: SockId, owner: &Arc<ConnectionOwner>) {
        if self.known.len() < KNOWN || self.known.contains_key(&id) {
            self.known.insert(id, Arc::clone(owner));
        }
    }

    /// The process of the listener that this connection came in on, or of the listener itself.
    fn listener_process(
        &mut self,
        seen: &StateSeen,
        inventory: &Inventory,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Option<Arc<ConnectionOwner>> {
        // A connection is no listener: one at its address is gone, and nobody has told yet.
        let is_listeners_own = seen.new == TcpState::LISTEN
            || (seen.old == TcpState::LISTEN && seen.new == TcpState::CLOSE);
        let own = inventory.get(seen.sock.id).filter(|_| is_listeners_own);
        let listener = own.or_else(|| {
            inventory.find_listener(seen.sock.netns, seen.sock.local?, seen.sock.port?)
        });
        let Some(listener) = listener else {
            let newest_first = self.closed.iter().rev();
            return newest_first
                .filter(|(closed, _)| {
                    closed.sock.netns == seen.sock.netns && closed.sock.port == seen.sock.port
                })
                .map(|(_, owner)| Arc::clone(owner))
                .next();
        };
        if let Some(process) = &listener.process {
            return Some(self.listeners_owner(listener.id(), process));
        }
        let task = listener.who()?.task.clone();
        Some(self.process(task, enricher, now, clock))
    }

    fn listeners_owner(&mut self, id: SockId, process: &Arc<Process>) -> Arc<ConnectionOwner> {
        if let Some((known, owner)) = self.listeners.get(&id)
            && Arc::ptr_eq(known, process)
        {
            return Arc::clone(owner);
        }
        let owner = Arc::new(ConnectionOwner::new(Process::clone(process)));
        if self.listeners.len() >= PROCESSES {
            self.listeners.clear();
        }
        self.listeners
            .insert(id, (Arc::clone(process), Arc::clone(&owner)));
        owner
    }

    fn process(
        &mut self,
        task: TaskInfo,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Arc<ConnectionOwner> {
        let key = task.key;
        if let Some((process, at)) = self.resolved.get(&key)
            && now.since(*at) < FRESH_NS
        {
            return Arc::clone(process);
        }
        let who = Who {
            task,
            image: None,
            ancestors: Vec::new(),
        };
        let process = enricher.resolve(&who, now, clock).process;
        let owner = Arc::new(ConnectionOwner::new(process));
        if self.resolved.len() >= PROCESSES {
            self.resolved.clear();
        }
        self.resolved.insert(key, (Arc::clone(&owner), now));
        owner
    }
}

/// Spreads kernel addresses, which nobody chooses, over a table: one multiplication.
#[derive(Debug, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, address: u64) {
        // The golden ratio: its product spreads low bits upwards, the rotation brings them back down.
        self.0 = (self.0 ^ address)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;
    use crate::enrich::EnrichConfig;
    use crate::event::Mechanism;
    use crate::inventory::DEFAULT_LIMIT;
    use crate::inventory::fixture::{task, tcp};

    const CLOCK: WallClock = WallClock::from_epoch_ns(0);

    fn seen(at: u64, old: TcpState, new: TcpState, owner: Option<TaskInfo>) -> StateSeen {
        StateSeen {
            at: BootNs(at),
            place: RingPlace { cpu: 0, before: 0 },
            mechanism: Mechanism::TpBtf,
            sock: tcp(1, 1, 80),
            owner,
            old,
            new,
        }
    }

    /// The pid of the owner that the change is told with.
    fn owner(connections: &mut Connections, seen: &StateSeen) -> Option<u32> {
        let (mut enricher, _answers) = Enricher::new(EnrichConfig::default());
        let inventory = Inventory::new(DEFAULT_LIMIT);
        connections
            .owner(seen, &inventory, &mut enricher, BootNs(9), &CLOCK)
            .map(|owner| owner.process().pid)
    }

    #[test]
    fn who_connected_is_remembered_until_the_end() {
        let mut connections = Connections::default();
        let mut next = |old, new, task| owner(&mut connections, &seen(5, old, new, task));
        let connects = next(TcpState::CLOSE, TcpState::SYN_SENT, Some(task(7)));
        assert_eq!(connects, Some(7));
        let connected = next(TcpState::SYN_SENT, TcpState::ESTABLISHED, None);
        assert_eq!(connected, Some(7));
        assert_eq!(next(TcpState::ESTABLISHED, TcpState::CLOSE, None), Some(7));
        // Another socket at the same place, whose beginning nobody saw.
        let other = next(TcpState::ESTABLISHED, TcpState::FIN_WAIT1, None);
        assert_eq!(other, None);
    }

    #[test]
    fn a_hole_in_the_numbers_forgets_all_owners() {
        let mut connections = Connections::default();
        let connects = seen(5, TcpState::CLOSE, TcpState::SYN_SENT, Some(task(7)));
        let connected = seen(6, TcpState::SYN_SENT, TcpState::ESTABLISHED, None);
        let mut arrives = |cpu, before| connections.arrived(RingPlace { cpu, before });
        assert!(!arrives(3, 10) && !arrives(3, 11) && !arrives(0, 500));
        assert_eq!(owner(&mut connections, &connects), Some(7));
        assert_eq!(owner(&mut connections, &connected), Some(7));
        assert!(connections.arrived(RingPlace { cpu: 3, before: 13 }));
        assert_eq!(owner(&mut connections, &connected), None);
        assert!(!connections.arrived(RingPlace { cpu: 3, before: 14 }));
        assert!(!connections.arrived(RingPlace {
            cpu: u32::MAX,
            before: 0
        }));
    }

    #[test]
    fn a_change_from_before_the_look_is_of_another_socket() {
        let mut connections = Connections::default();
        connections.begin(vec![Held {
            at: BootNs(10),
            sock: tcp(1, 1, 80),
            unix: None,
            holder: task(7),
            fd: 3,
        }]);
        let closed = seen(9, TcpState::LAST_ACK, TcpState::CLOSE, None);
        assert_eq!(owner(&mut connections, &closed), None);
        let later = seen(11, TcpState::ESTABLISHED, TcpState::CLOSE, None);
        assert_eq!(owner(&mut connections, &later), Some(7));
        assert_eq!(owner(&mut connections, &later), None, "it has closed");
    }

    #[test]
    fn neighbouring_addresses_spread() {
        let build = BuildHasherDefault::<AddressHasher>::default();
        // A table takes its place from the low bits, and its tag from the highest seven.
        let hashes =
            || (0..1024_u64).map(|n| build.hash_one(SockId(0xffff_8880_0000_0000 + n * 2304)));
        let places: std::collections::HashSet<u64> = hashes().map(|hash| hash & 0xfff).collect();
        let tags: std::collections::HashSet<u64> = hashes().map(|hash| hash >> 57).collect();
        assert!(places.len() > 700, "{} places", places.len());
        assert!(tags.len() > 100, "{} tags", tags.len());
    }
}
