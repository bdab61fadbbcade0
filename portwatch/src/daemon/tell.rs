//! From changes of the inventory to published events, in order.

use std::sync::Arc;

use jiff::Timestamp;

use super::answerable::{absolute_name, process_of};
use super::pending::{Draft, Patience};
use super::pipeline::Pipeline;
use crate::decode::record::SockId;
use crate::enrich::{Answer, Waits};
use crate::event::message;
use crate::event::{Event, EventType, Mechanism, Process, Protocol, Severity};
use crate::inventory::{Change, Listener};
use crate::probe::plan::Signal;
use crate::probe::sensors::Sensors;
use crate::sink::Line;
use crate::time::BootNs;

/// How many times longer an event waits for its process's arguments than for its executable's hash.
const ARGS_PATIENCE: u64 = 10;

impl Pipeline {
    pub(super) fn tell_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.tell_change(change);
        }
    }

    pub(super) fn tell_change(&mut self, mut change: Change) {
        let now = BootNs::now();
        let begins = matches!(change, Change::Opened { .. } | Change::Present { .. });
        if begins && let Some(name) = absolute_name(change.listener(), &self.enricher) {
            self.inventory
                .set_unix_name(change.listener().id(), name.clone());
            change.listener_mut().unix = Some(name);
        }
        let maps = self.sensors.as_mut().map(Sensors::storms);
        self.storms.follow(&change, maps);
        let listener = change.listener();
        let mut event = self.surroundings.change(&change, &mut self.enricher, now);
        let clock = &self.surroundings.clock;
        let (process, waits) = process_of(listener, &mut self.enricher, now, clock);
        event.process = process;
        if begins {
            self.watch(listener);
        }
        match &change {
            Change::Present { listener, .. } => self.track(listener),
            Change::Closed { listener, .. } => self.untrack(listener.id(), listener.sock.protocol),
            Change::Opened { .. } | Change::Changed { .. } => {}
        }
        if self.streaming
            && let (Change::Closed { .. }, Some(process)) = (&change, &event.process)
        {
            self.connections.listener_closed(listener, process);
        }
        self.push(event, change.at(), Some(listener.id()), waits);
    }

    /// Remembers who holds a listener whose end nothing tells.
    pub(super) fn watch(&mut self, listener: &Listener) {
        if self.closing_is_told(listener.sock.protocol) {
            return;
        }
        self.unhooked.push(listener.id());
        self.watched
            .extend(listener.owners.iter().map(|owner| owner.pid));
    }

    /// Tells the probes of a listener that they did not see opening, so that its end is told.
    pub(super) fn track(&mut self, listener: &Listener) {
        let is_inet = listener.sock.local.is_some();
        let Some(sensors) = &mut self.sensors else {
            return;
        };
        if is_inet
            && !crate::inventory::is_synthetic(listener.id())
            && let Err(error) = sensors.track(listener.id(), listener.sock.backlog)
        {
            if self.untracked == 0 {
                tracing::warn!(%error, "the probes cannot be told of every listener that was there before; looking tells of the end of others");
            }
            self.untracked += 1;
        }
    }

    /// Where no probe tells of the end of such a listener, none forgets it either: the table would fill with those that are gone, and
    /// a client at the address of one of them be taken for it.
    fn untrack(&mut self, id: SockId, protocol: Protocol) {
        if self.closing_is_told(protocol) || self.inventory.get(id).is_some() {
            return;
        }
        if let Some(sensors) = &mut self.sensors {
            sensors.untrack(id);
        }
    }

    pub(super) fn closing_is_told(&self, protocol: Protocol) -> bool {
        let signal = match protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp => Signal::TcpState,
            Protocol::Udp | Protocol::Udplite | Protocol::Icmp => Signal::UdpClose,
            Protocol::Raw => Signal::RawClose,
            Protocol::Unix => Signal::UnixClose,
            Protocol::Packet => Signal::PacketClose,
            Protocol::Vsock => return false,
        };
        self.plan
            .choice(signal)
            .is_some_and(|choice| choice.mechanism != Mechanism::Reconcile)
    }

    pub(super) fn push(&mut self, event: Event, at: BootNs, sock: Option<SockId>, waits: Waits) {
        let now = BootNs::now().0;
        let patience = Patience {
            args: BootNs(now + ARGS_PATIENCE * self.wait_ns),
            rest: BootNs(now + self.wait_ns),
        };
        self.pending.push(
            Draft {
                event,
                at,
                sock,
                waits,
            },
            patience,
        );
        while let Some(draft) = self.pending.pop_excess() {
            self.publish(draft, BootNs::now());
        }
    }

    pub(super) fn answered(&mut self, answer: &Answer) {
        let mut used = false;
        for draft in self.pending.settle(answer) {
            if let Some(process) = &mut draft.event.process {
                self.enricher.complete(answer, process);
            }
            used = true;
        }
        if !used {
            self.enricher.absorb(answer);
        }
    }

    /// A process to keep. One that opens many listeners, or held them at the start, is kept once.
    fn shared(&mut self, process: &Process) -> Arc<Process> {
        match &self.last_process {
            Some(last) if **last == *process => Arc::clone(last),
            _ => {
                let process = Arc::new(process.clone());
                self.last_process = Some(Arc::clone(&process));
                process
            }
        }
    }

    pub(super) fn publish_ready(&mut self, now: BootNs) {
        while let Some(draft) = self.pending.pop(now) {
            self.publish(draft, now);
        }
    }

    pub(super) fn publish(&mut self, draft: Draft, now: BootNs) {
        let Draft {
            mut event,
            at,
            sock,
            ..
        } = draft;
        if let (Some(sock), Some(process)) = (sock, &event.process)
            && event.kind != EventType::ListenerClosed
        {
            let process = self.shared(process);
            self.inventory.set_process(sock, at, process);
        }
        let severity = self
            .approvals
            .judge(&self.policy, &mut event)
            .or_else(|| self.severity_of_down(&event));
        let met = sock.map_or_else(Vec::new, |sock| self.expect(&event, sock, at));
        if self.policy.ignores(&event) {
            self.ignored += 1;
        } else {
            self.send(event, severity, at, now);
        }
        for event in met {
            self.send(event, None, at, now);
        }
    }

    /// Numbers an event, and hands it to everybody.
    fn send(&mut self, mut event: Event, severity: Option<Severity>, at: BootNs, now: BootNs) {
        event.seq = self.next_seq;
        self.next_seq += 1;
        event.id = uuid::Uuid::now_v7().to_string();
        event.severity = severity.unwrap_or_else(|| message::severity(&event));
        event.message = message::sentence(&event);
        if let Some(sensor) = &mut event.sensor
            && matches!(sensor.mechanism, Some(mechanism) if is_live(mechanism))
        {
            let latency_us = now.since(at) / 1_000;
            sensor.latency_us = Some(latency_us);
            // What is said of a sensor was seen by nobody.
            if event.socket.is_some() {
                self.latency.record(latency_us);
            }
        }
        if event.kind == EventType::SensorReady {
            self.approvals.started(Timestamp::now());
        }
        *self.events.entry(event.kind).or_insert(0) += 1;
        let event = Arc::new(event);
        self.episodes.remember(&event);
        self.bus.publish(&Line::new(event));
    }
}

/// Mechanisms that run at the moment of the event, so that a latency means something.
const fn is_live(mechanism: Mechanism) -> bool {
    !matches!(
        mechanism,
        Mechanism::Iterator | Mechanism::Snapshot | Mechanism::Reconcile
    )
}
