//! Answers to the control server, between two records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answerable::process_now;
use super::pipeline::Pipeline;
use super::status::{self, Health};
use crate::decode::record::SockId;
use crate::enrich::Waits;
use crate::event::message;
use crate::event::{Event, EventCount, EventType, Heartbeat};
use crate::interface::server::{Applied, Beat, Query};
use crate::inventory::Listener;
use crate::probe::sensors::Sensors;
use crate::time::BootNs;

impl Pipeline {
    pub(super) fn answer(&mut self, query: Query) {
        match query {
            Query::List(answer) => {
                // The client may have gone.
                let _ = answer.send(self.list());
            }
            Query::Apply(applied, answer) => {
                self.apply(*applied);
                let _ = answer.send(());
            }
            Query::Storms(answer) => {
                let _ = answer.send(self.episodes.list());
            }
            Query::Stats(answer) => self.ask_stats(Some(answer)),
            Query::Heartbeat(beat) => self.beat(*beat),
            Query::Status(answer) => {
                let _ = answer.send(self.status());
            }
        }
    }

    fn beat(&mut self, beat: Beat) {
        let now = BootNs::now();
        let mut event = self.surroundings.event(EventType::Heartbeat, now);
        let events = self.events.iter().map(|(kind, count)| EventCount {
            kind: *kind,
            count: *count,
        });
        event.heartbeat = Some(Heartbeat {
            uptime_ms: now.since(self.since) / 1_000_000,
            every_ms: u64::try_from(beat.every.as_millis()).unwrap_or(u64::MAX),
            events: events.collect(),
            gaps: self.events.get(&EventType::Gap).copied().unwrap_or(0),
            lost: self.lost.values().sum(),
            sinks: beat.sinks,
        });
        self.push(event, now, None, Waits::default());
    }

    /// From here on these rules judge. What listens already is met by them too.
    fn apply(&mut self, applied: Applied) {
        self.configure_storms(applied.storm, applied.response);
        self.policy = applied.policy;
        let now = BootNs::now();
        let judged = self.judged();
        self.expected.reload(self.policy.rules(), now);
        for (id, event) in judged {
            for told in self.expect(&event, id, now) {
                self.push(told, now, None, Waits::default());
            }
        }
    }

    pub(super) fn list(&mut self) -> Vec<Arc<Event>> {
        let judged = self.judged().into_iter();
        judged.map(|(_, event)| Arc::new(event)).collect()
    }

    /// Every listener now, judged.
    fn judged(&mut self) -> Vec<(SockId, Event)> {
        let now = BootNs::now();
        let listeners: Vec<&Listener> = self.inventory.iter().collect();
        let mut events = Vec::with_capacity(listeners.len());
        for (listener, seq) in listeners.into_iter().zip(1..) {
            let mut event = self.surroundings.listed(listener, &mut self.enricher, now);
            let clock = &self.surroundings.clock;
            event.process = process_now(listener, &mut self.enricher, now, clock);
            event.seq = seq;
            event.id = uuid::Uuid::now_v7().to_string();
            let severity = self.approvals.judge(&self.policy, &mut event);
            event.severity = severity.unwrap_or_else(|| message::severity(&event));
            event.message = message::sentence(&event);
            events.push((listener.id(), event));
        }
        events
    }

    pub(super) fn status(&self) -> crate::interface::status::Status {
        let sensors = self.sensors.as_ref();
        let counters = sensors.and_then(|sensors| sensors.counters().ok());
        let skipped = sensors
            .zip(counters.as_ref())
            .map(|(sensors, counters)| sensors.skipped(counters))
            .unwrap_or_default();
        status::status(&Health {
            host: &self.surroundings.host,
            plan: &self.plan,
            inventory: &self.inventory,
            counters,
            received: self.received(),
            sizes: self.sizes,
            skipped,
            events: &self.events,
            ignored: self.ignored,
            lost: &self.lost,
            decode_errors: self.decode_errors,
            enrich: self.enricher.stats(),
            heartbeat: self.heartbeat.load(Ordering::Relaxed),
            latency: &self.latency,
            costs: sensors.map(Sensors::costs).unwrap_or_default(),
            since: self.since,
            first_look: self.first_look,
            checks: self.expected.checks(),
            storms: self
                .episodes
                .status(self.storms.without_cell() as u64, self.storms.failed()),
            now: BootNs::now(),
            clock: self.surroundings.clock,
        })
    }
}
