//! The stream of TCP state changes, while somebody asks for it.

use portwatch_common::socket::TcpState;

use super::draft;
use super::look;
use super::pending::Draft;
use super::pipeline::{BATCH, Pipeline};
use super::status;
use crate::decode::record::StateSeen;
use crate::event::EventType;
use crate::time::BootNs;

impl Pipeline {
    pub(super) fn state_record(&mut self, seen: &StateSeen) {
        if !self.streaming {
            return;
        }
        let (Some(old), Some(new)) = (status::state(seen.old), status::state(seen.new)) else {
            self.decode_errors += 1;
            return;
        };
        let now = BootNs::now();
        let clock = self.surroundings.clock;
        let owner = self
            .connections
            .owner(seen, &self.inventory, &mut self.enricher, now, &clock);
        let mut event = self.surroundings.event(EventType::ConnectionState, seen.at);
        event.socket = Some(self.surroundings.socket(&seen.sock, None));
        event.process = owner.map(|process| (*process).clone());
        event.old_state = Some(old);
        event.new_state = Some(new);
        event.sensor = Some(draft::sensor(seen.mechanism));
        let draft = Draft {
            event,
            at: seen.at,
            sock: None,
            ticket: None,
        };
        // A listener's own changes keep their place among its events; connections need not wait for them.
        let begins = seen.new == TcpState::LISTEN;
        let ends = seen.old == TcpState::LISTEN && seen.new == TcpState::CLOSE;
        if begins || ends {
            self.pending.push(draft, now);
        } else {
            self.publish(draft, now);
        }
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
        if on {
            // Who holds what is connected already; a connection that closes meanwhile does no harm.
            match look::walk(sensors, true, 0) {
                Ok(walk) => self.connections.begin(walk.held),
                Err(error) => tracing::debug!(%error, "owners of connections are not known"),
            }
        } else {
            self.connections.end();
            if let Some(readers) = &mut self.readers {
                while readers.bulk.drain(BATCH, |_| {}) {}
            }
        }
        Ok(())
    }
}
