//! Looking again: on a beat, on a hint, after a loss; and what must be verified in between.

use std::collections::{HashMap, HashSet};

use portwatch_common::counters::RINGS;
use portwatch_common::socket::TcpState;

use super::look;
use super::pipeline::Pipeline;
use crate::decode::record::{SockId, SockInfo};
use crate::enrich::Waits;
use crate::event::words::Word as _;
use crate::event::{EventType, GapCgroup, Reconciled, RingName};
use crate::interface::status::FirstLook;
use crate::inventory::collect::{self, Collected};
use crate::inventory::{MergeReason, Merged, Snapshot};
use crate::memory;
use crate::probe::sensors::Sensors;
use crate::ring::ledger::Reading;
use crate::time::BootNs;

/// Rows that a look has more than there are listeners: several hold the same one, others are new.
const MORE_ROWS: usize = 64;

/// Cgroups that one `gap` names at most.
const GAP_CGROUPS: usize = 16;

/// What a look outside of the pipeline found.
pub(super) enum Found {
    /// A whole snapshot (no iterator on this kernel), and why it was taken.
    Snapshot(std::io::Result<Collected>, MergeReason),
    /// What sock_diag shows besides: sockets that no descriptor refers to.
    Beyond(std::io::Result<Collected>, MergeReason),
    /// The suspects that live.
    Alive(std::io::Result<HashSet<u64>>),
}

impl Pipeline {
    /// Looks at every socket again, here or elsewhere.
    pub(super) fn look_again(&mut self, reason: MergeReason) {
        if self.looking {
            return;
        }
        self.hint = None;
        let began = BootNs::now();
        let cost = processor_ns();
        let expected = self.inventory.len() + MORE_ROWS;
        let walked = match &mut self.sensors {
            Some(sensors) if sensors.has_iterator() => Some(look::walk(sensors, false, expected)),
            _ => None,
        };
        match walked {
            Some(Ok(walk)) => {
                self.decode_errors += walk.errors;
                self.drain();
                let complete = walk.errors == 0 && !walk.is_cut_short;
                self.merge(Snapshot::of_descriptors(began, walk.held, complete), reason);
                let cost = processor_ns().saturating_sub(cost);
                self.glances.looked(BootNs::now(), cost);
            }
            Some(Err(error)) => tracing::warn!(%error, "the inventory could not be walked"),
            None => {
                self.looking = true;
                let sender = self.found.0.clone();
                tokio::task::spawn_blocking(move || {
                    // The pipeline is gone when nobody receives.
                    let _ = sender.blocking_send(Found::Snapshot(collect::collect(), reason));
                });
            }
        }
    }

    /// Looks for what no walk over descriptors can show: the kernel's own sockets, those of io_uring and
    /// those in flight between processes.
    pub(super) fn look_beyond(&mut self, reason: MergeReason) {
        let has_iterator = self.sensors.as_ref().is_some_and(Sensors::has_iterator);
        if !has_iterator {
            return;
        }
        if self.looking {
            // Each beat asks after suspects first: where there are some at each, its turn would never come.
            self.beyond = Some(reason);
            return;
        }
        self.looking = true;
        let sender = self.found.0.clone();
        tokio::task::spawn_blocking(move || {
            // The pipeline is gone when nobody receives.
            let _ = sender.blocking_send(Found::Beyond(collect::collect(), reason));
        });
    }

    pub(super) fn merge(&mut self, mut snapshot: Snapshot, reason: MergeReason) {
        let started = BootNs::now();
        if let Some(test) = &mut self.self_test {
            snapshot
                .held
                .retain(|held| !test.takes(held.sock.inode, true));
        }
        let snapshot = &snapshot;
        let merged = self.inventory.merge(snapshot, reason);
        if reason == MergeReason::Start && self.first_look.is_none() {
            self.first_look = Some(FirstLook {
                sockets: merged.checked,
                owners_us: BootNs::now().since(snapshot.began) / 1_000,
                ..FirstLook::default()
            });
        }
        let Merged {
            changes,
            found,
            vanished,
            changed,
            checked,
        } = merged;
        self.tell_changes(changes);
        if let Some(at) = self.inventory.next_find() {
            self.hint.get_or_insert(self.glances.not_before(at));
        }
        self.unhooked = self.without_hook();
        self.watched = self.holders_of(&self.unhooked);
        let suspects = self.inventory.suspects().to_vec();
        // A look that began before the loss has made nothing good for.
        let began = snapshot.began;
        let lost_before = self.after_gap.take_if(|lost| began >= *lost).is_some();
        if lost_before || reason == MergeReason::Gap {
            let report = Reconciled {
                found,
                vanished,
                changed,
                checked,
                took_us: 0,
            };
            self.report = Some((report, started.min(snapshot.began)));
        }
        if suspects.is_empty() {
            self.tell_report();
        }
        if !suspects.is_empty() {
            self.looking = true;
            let sender = self.found.0.clone();
            tokio::task::spawn_blocking(move || {
                // The pipeline is gone when nobody receives.
                let _ = sender.blocking_send(Found::Alive(collect::alive(&suspects)));
            });
        }
    }

    /// Tells what the look after a loss found, once everything is decided.
    fn tell_report(&mut self) {
        let Some((mut report, began)) = self.report.take() else {
            return;
        };
        let now = BootNs::now();
        report.took_us = now.since(began) / 1_000;
        let mut event = self.surroundings.event(EventType::GapReconciled, now);
        event.reconciled = Some(report);
        self.push(event, now, None, Waits::default());
    }

    pub(super) fn found(&mut self, found: Found) {
        self.looking = false;
        let is_error = match found {
            Found::Snapshot(Err(_), _) | Found::Beyond(Err(_), _) | Found::Alive(Err(_)) => true,
            Found::Snapshot(..) | Found::Beyond(..) | Found::Alive(_) => false,
        };
        self.take_found(found);
        // What had to wait for its end; not again at once where it fails.
        if !self.looking && !is_error && self.after_gap.is_some() {
            self.look_again(MergeReason::Gap);
        }
        if !self.looking
            && let Some(reason) = self.beyond.take()
        {
            self.look_beyond(reason);
        }
    }

    fn take_found(&mut self, found: Found) {
        match found {
            Found::Snapshot(Ok(collected), reason) => {
                for refused in &collected.refused {
                    tracing::debug!(refused, "not looked at");
                }
                self.drain();
                self.merge(collected.snapshot, reason);
            }
            Found::Beyond(Ok(collected), reason) => {
                let mut snapshot = collected.snapshot;
                // A descriptor's socket is the iterator's to tell, which knows a server's from a client's.
                snapshot.held.clear();
                snapshot.complete = false;
                // Whose descriptors cannot be read, his clients seem to have none.
                if !collected.knows_holders {
                    snapshot
                        .unheld
                        .retain(|one| !one.sock.protocol.is_datagram());
                }
                self.drain();
                // This is no look at all sockets: what was lost is still to be made good for.
                let lost = self.after_gap.take();
                self.merge(snapshot, reason);
                self.after_gap = lost;
                // Every now and then, and after what takes most.
                memory::give_back();
            }
            Found::Alive(Ok(alive)) => {
                self.drain();
                let changes = self.inventory.resolve_suspects(&alive, BootNs::now());
                if let Some((report, _)) = &mut self.report {
                    report.vanished += changes.len() as u64;
                }
                self.tell_changes(changes);
                self.tell_report();
            }
            Found::Snapshot(Err(error), _)
            | Found::Beyond(Err(error), _)
            | Found::Alive(Err(error)) => {
                tracing::warn!(%error, "the sockets could not be looked at");
                // What is known is told; what could not be decided will be suspected again.
                self.tell_report();
            }
        }
    }

    fn holders_of(&self, listeners: &[SockId]) -> HashSet<u32> {
        let listeners = listeners.iter().filter_map(|&id| self.inventory.get(id));
        listeners
            .flat_map(|listener| listener.owners.iter().map(|owner| owner.pid))
            .collect()
    }

    /// Something's time has come.
    pub(super) fn due(&mut self) {
        let now = BootNs::now();
        self.enricher.relieve(now);
        self.tell_down(now);
        let tentative = self.inventory.tentative_due(now);
        if !tentative.is_empty() {
            self.verify(&tentative);
        }
        if self.hint.is_some_and(|hint| hint <= now) {
            self.look_again(MergeReason::Hint);
        }
        if self.storms.is_due(now) {
            self.look_for_storms();
        }
    }

    /// Finds out the truth about listens that were announced before they were validated.
    pub(super) fn verify(&mut self, tentative: &[SockId]) {
        let now = BootNs::now();
        let held = match &mut self.sensors {
            Some(sensors) if sensors.has_iterator() => look::walk(sensors, false, 0).ok(),
            _ => None,
        };
        let mut listening: HashMap<SockId, SockInfo> = held
            .into_iter()
            .flat_map(|walk| walk.held)
            .filter(|held| held.sock.state == TcpState::LISTEN)
            .map(|held| (held.sock.id, held.sock))
            .collect();
        for &id in tentative {
            let found = listening.remove(&id).or_else(|| self.ask_sock_diag(id));
            match found {
                Some(sock) => {
                    let changes = self.inventory.confirm(id, sock.port, now);
                    self.tell_changes(changes);
                }
                None => self.inventory.refute(id),
            }
        }
    }

    /// The listening socket behind an unvalidated opening, if sock_diag knows one.
    pub(super) fn ask_sock_diag(&self, id: SockId) -> Option<SockInfo> {
        let seen = self.inventory.tentative(id)?;
        let inode = seen.sock.inode?;
        let wanted = HashSet::from([inode]);
        collect::listening(seen.sock.netns, &wanted)
            .ok()?
            .remove(&inode)
    }

    /// Every loss is an event, and every loss of listeners is made good by looking again.
    pub(super) fn count_losses(&mut self) {
        let Some(sensors) = &self.sensors else { return };
        let counters = match sensors.counters() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::warn!(%error, "the probes' counters could not be read");
                return;
            }
        };
        let skipped = sensors.skipped(&counters);
        if !self.told_reversed
            && let Some(probe) = skipped.iter().find(|probe| probe.is_reversed())
        {
            self.told_reversed = true;
            tracing::warn!(
                probe.probe,
                "this kernel runs the spare probe first; what it skips may be told twice"
            );
        }
        let crowd = sensors.crowd();
        self.storms_every_second(&counters);
        let at = BootNs::now();
        while self.drain() {}
        let reading = Reading {
            at,
            counters,
            received: self.received(),
            skipped,
            crowd,
        };
        let losses = self.ledger.read(&reading);
        let mut reconcile = false;
        for loss in losses {
            *self.lost.entry(loss.ring.word()).or_insert(0) += loss.lost;
            let is_exec = |probe: &str| probe.starts_with("exec_");
            if loss.ring == RingName::Process || loss.probe.is_some_and(is_exec) {
                self.enricher.on_loss();
            }
            reconcile |= matches!(loss.ring, RingName::Critical | RingName::Probe);
            let mut event = self.surroundings.event(EventType::Gap, loss.to);
            let mut gap = loss.gap(self.surroundings.clock);
            let most = loss.cgroups.iter().take(GAP_CGROUPS);
            gap.cgroups = most
                .map(|&(id, lost)| GapCgroup {
                    id,
                    path: self.enricher.cgroup_path(id),
                    lost,
                })
                .collect();
            event.gap = Some(gap);
            self.push(event, loss.to, None, Waits::default());
        }
        if reconcile {
            self.after_gap = Some(at);
            self.look_again(MergeReason::Gap);
        }
    }

    /// A ring out of which a whole batch came is under pressure. If it has dropped records, what is known
    /// of images is in doubt before the listeners that were opened since are told.
    pub(super) fn doubt_after_loss(&mut self) {
        let counters = self.sensors.as_ref().map(Sensors::counters);
        let Some(Ok(counters)) = counters else { return };
        let [_, processes, _] = counters.rings;
        if processes.dropped != self.processes_lost {
            self.processes_lost = processes.dropped;
            self.enricher.on_loss();
        }
    }

    pub(super) fn received(&self) -> [u64; RINGS] {
        self.readers.as_ref().map_or([0; RINGS], |readers| {
            [
                readers.critical.received(),
                readers.process.received(),
                readers.bulk.received(),
            ]
        })
    }

    pub(super) fn hint(&mut self, at: BootNs) {
        self.hint.get_or_insert(self.glances.after(at));
    }
}

/// Processor time of this thread: a look that was interrupted has cost no more.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
