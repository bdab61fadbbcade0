//! The stream of TCP state changes, while somebody asks for it.

use std::sync::Arc;

use uuid::Uuid;

use super::draft;
use super::look;
use super::pending::{Draft, Patience};
use super::pipeline::{BATCH, Pipeline};
use super::rings::RingReader;
use super::status;
use crate::decode::decode_state;
use crate::decode::record::StateSeen;
use crate::enrich::Waits;
use crate::event::{EventType, State};
use crate::inventory::exposure;
use crate::sink::{ConnectionOwner, Occasion, States, Transition};
use crate::time::BootNs;

impl Pipeline {
    /// Takes a batch of connections' changes out of the bulk ring, as far as they happened before `until`,
    /// and publishes it; tells whether there may be more.
    pub(super) fn drain_states(&mut self, bulk: &mut RingReader, until: BootNs) -> bool {
        let now = BootNs::now();
        let mut transitions = Vec::new();
        let more = bulk.drain_while(States::MAX, |bytes| {
            let seen = match decode_state(bytes) {
                Ok(seen) if seen.at > until => return false,
                Ok(seen) => seen,
                Err(error) => {
                    self.misunderstood(&error);
                    return true;
                }
            };
            if let Some(transition) = self.transition(seen, now) {
                if transitions.is_empty() {
                    transitions.reserve_exact(States::MAX);
                }
                transitions.push(transition);
            }
            true
        });
        let count = transitions.len() as u64;
        let occasion = Occasion {
            host: Arc::clone(&self.surroundings.host),
            clock: self.surroundings.clock,
            first_seq: self.next_seq,
            id: Uuid::now_v7(),
            at: BootNs::now(),
        };
        if let Some(states) = States::new(occasion, transitions) {
            self.next_seq += count;
            *self.events.entry(EventType::ConnectionState).or_insert(0) += count;
            self.bus.publish_states(states);
        }
        more
    }

    fn transition(&mut self, seen: StateSeen, now: BootNs) -> Option<Transition> {
        self.forgotten |= self.connections.arrived(seen.place);
        let (old, new) = self.states(&seen)?;
        let owner = self.owner(&seen, now);
        let surroundings = &self.surroundings;
        Some(Transition {
            at: seen.at,
            place: 0,
            interface: surroundings.bound_interface(&seen.sock).map(Arc::from),
            exposure: exposure(
                &seen.sock,
                None,
                surroundings.netns,
                &surroundings.interfaces,
            ),
            sock: seen.sock,
            old,
            new,
            mechanism: seen.mechanism,
            owner,
        })
    }

    /// A listener's own change keeps its place among its other events.
    pub(super) fn listener_state(&mut self, seen: &StateSeen) {
        if !self.streaming {
            return;
        }
        let Some((old, new)) = self.states(seen) else {
            return;
        };
        let now = BootNs::now();
        let owner = self.owner(seen, now);
        let mut event = self.surroundings.event(EventType::ConnectionState, seen.at);
        event.socket = Some(self.surroundings.socket(&seen.sock, None));
        event.process = owner.map(|owner| owner.process().clone());
        event.old_state = Some(old);
        event.new_state = Some(new);
        event.sensor = Some(draft::sensor(seen.mechanism));
        let draft = Draft {
            event,
            at: seen.at,
            sock: None,
            waits: Waits::default(),
        };
        let patience = Patience {
            args: now,
            rest: now,
        };
        self.pending.push(draft, patience);
    }

    fn states(&mut self, seen: &StateSeen) -> Option<(State, State)> {
        let states = status::state(seen.old).zip(status::state(seen.new));
        self.decode_errors += u64::from(states.is_none());
        states
    }

    fn owner(&mut self, seen: &StateSeen, now: BootNs) -> Option<Arc<ConnectionOwner>> {
        let clock = self.surroundings.clock;
        self.connections
            .owner(seen, &self.inventory, &mut self.enricher, now, &clock)
    }

    pub(super) fn switch_states(&mut self, on: bool) -> std::io::Result<()> {
        if self.streaming == on {
            return Ok(());
        }
        let Some(sensors) = &mut self.sensors else {
            return Ok(());
        };
        sensors.stream_states(on)?;
        self.streaming = on;
        self.forgotten = on;
        if on {
            self.remember_owners();
        } else {
            self.connections.end();
            if let Some(readers) = &mut self.readers {
                while readers.bulk.drain(BATCH, |_| {}) {}
            }
        }
        Ok(())
    }

    /// Who holds what is connected already: when the stream begins, and when records of it were lost.
    pub(super) fn remember_owners(&mut self) {
        let Some(sensors) = self
            .sensors
            .as_mut()
            .filter(|_| self.streaming && self.forgotten)
        else {
            return;
        };
        match look::walk(sensors, true, 0) {
            Ok(walk) => self.connections.begin(walk.held),
            Err(error) => tracing::debug!(%error, "owners of connections are not known"),
        }
        self.forgotten = false;
    }
}
