//! Who owns a connection, and the process behind it, cheaply enough for every state change.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use portwatch_common::socket::TcpState;

use crate::decode::record::{Held, ProcessKey, SockId, StateSeen, TaskInfo, Who};
use crate::enrich::Enricher;
use crate::event::Process;
use crate::inventory::{Inventory, Listener};
use crate::time::{BootNs, WallClock};

/// Processes that are kept resolved; more than talk at once on most hosts.
const PROCESSES: usize = 1024;
/// Accepted connections that are remembered with their owner; beyond, each change looks it up again.
const ACCEPTED: usize = 65_536;
/// Listeners that closed while their connections' records may still wait in the other ring.
const CLOSED: usize = 256;
/// How long a resolved process is good for: it may have replaced its image since.
const FRESH_NS: u64 = 10_000_000_000;

/// What is known of connections while their states are streamed.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Owners of connections that were there before the stream began.
    before: HashMap<SockId, TaskInfo>,
    /// Owners of connections that came in on a listener since, until they close.
    accepted: HashMap<SockId, Arc<Process>>,
    /// Listeners that closed lately, newest last.
    closed: VecDeque<(Listener, Arc<Process>)>,
    resolved: HashMap<ProcessKey, (Arc<Process>, BootNs)>,
}

impl Connections {
    /// The stream begins: these are the holders of what is connected already.
    pub(super) fn begin(&mut self, held: Vec<Held>) {
        self.before = held
            .into_iter()
            .map(|held| (held.sock.id, held.holder))
            .collect();
    }

    /// The stream ended.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A process replaced its image.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        self.resolved.remove(&key);
    }

    /// A listener closed: its connections are attributed to it for a while yet.
    pub(super) fn listener_closed(&mut self, listener: &Listener, process: &Process) {
        if self.closed.len() >= CLOSED {
            self.closed.pop_front();
        }
        self.closed
            .push_back((listener.clone(), Arc::new(process.clone())));
    }

    /// The owner of the connection: who connected it (recorded by the kernel side in process context),
    /// who held it when the stream began, or the listener it came in on. Never the task that the
    /// softirq interrupted.
    pub(super) fn owner(
        &mut self,
        seen: &StateSeen,
        inventory: &Inventory,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Option<Arc<Process>> {
        // A child that a listener has just made sits where some socket was before.
        let is_first = seen.old == TcpState::LISTEN;
        let before = match seen.new {
            _ if is_first => {
                self.before.remove(&seen.sock.id);
                None
            }
            TcpState::CLOSE => self.before.remove(&seen.sock.id),
            _ => self.before.get(&seen.sock.id).cloned(),
        };
        if let Some(task) = seen.owner.clone().or(before) {
            return Some(self.process(task, enricher, now, clock));
        }
        let known = match seen.new {
            TcpState::CLOSE => self.accepted.remove(&seen.sock.id),
            _ => self.accepted.get(&seen.sock.id).cloned(),
        };
        if let Some(process) = known.filter(|_| !is_first) {
            return Some(process);
        }
        let process = self.listener_process(seen, inventory, enricher, now, clock)?;
        if seen.new != TcpState::CLOSE && self.accepted.len() < ACCEPTED {
            self.accepted.insert(seen.sock.id, Arc::clone(&process));
        }
        Some(process)
    }

    /// The process of the listener that this connection came in on, or of the listener itself.
    fn listener_process(
        &mut self,
        seen: &StateSeen,
        inventory: &Inventory,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Option<Arc<Process>> {
        let listener = inventory.get(seen.sock.id).or_else(|| {
            inventory.find_listener(seen.sock.netns, seen.sock.local?, seen.sock.port?)
        });
        let Some(listener) = listener else {
            let newest_first = self.closed.iter().rev();
            return newest_first
                .filter(|(closed, _)| {
                    closed.sock.netns == seen.sock.netns && closed.sock.port == seen.sock.port
                })
                .map(|(_, process)| Arc::clone(process))
                .next();
        };
        if let Some(process) = &listener.process {
            return Some(Arc::clone(process));
        }
        let task = listener.who()?.task.clone();
        Some(self.process(task, enricher, now, clock))
    }

    fn process(
        &mut self,
        task: TaskInfo,
        enricher: &mut Enricher,
        now: BootNs,
        clock: &WallClock,
    ) -> Arc<Process> {
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
        let process = Arc::new(enricher.resolve(&who, now, clock).process);
        if self.resolved.len() >= PROCESSES {
            self.resolved.clear();
        }
        self.resolved.insert(key, (Arc::clone(&process), now));
        process
    }
}
