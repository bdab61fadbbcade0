//! When the pipeline has storms looked for, and what it does with what was found. The looking itself is done by the
//! [`Observer`], on another thread; what it learned is written by [`super::habits`], on a third.

use std::time::Duration;

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use tokio::task::JoinError;

use super::observer::{Observer, Wanted};
use super::outside::CLOSE_WAIT_FLOOR;
use super::pipeline::Pipeline;
use super::storms::{FAST, Looked, PAUSE, SLOW};
use crate::decode::cell_key;
use crate::enrich::Waits;
use crate::event::{EventType, Mechanism, Sensor};
use crate::probe::plan::Signal;
use crate::probe::sensors::Sensors;
use crate::storm::{Crossing, Rate, Subject};
use crate::time::BootNs;

/// How long the end waits for a look and for the disk.
const FAREWELL: Duration = Duration::from_secs(2);

impl Pipeline {
    /// A rate was crossed: everything is looked at, unless that was done a moment ago, or there is no reason to.
    pub(super) fn crossed(&mut self, crossing: &Crossing) {
        tracing::debug!(?crossing, "a rate was crossed");
        let now = BootNs::now();
        let is_worth_it = match (crossing.rate, crossing.subject) {
            (Rate::Syn, Subject::Listener(key)) => {
                let maps = self.sensors.as_mut().map(Sensors::storms);
                let cell = maps.and_then(|maps| maps.cell(cell_key(key)));
                self.storms.are_half_open(key, cell)
            }
            (Rate::Connect, _) => self.is_connecting_in_vain(now),
            _ => true,
        };
        if is_worth_it {
            self.storms.cross(crossing, now);
        }
    }

    /// Many processes may connect a lot: the counters are read for them a few times a second at most.
    fn is_connecting_in_vain(&mut self, now: BootNs) -> bool {
        if now.since(self.storms.asked) < PAUSE {
            return false;
        }
        self.storms.asked = now;
        let counters = self.sensors.as_ref().and_then(|one| one.counters().ok());
        counters.is_some_and(|counters| self.storms.are_failing(&counters))
    }

    /// Has everything looked at, elsewhere.
    pub(super) fn look_for_storms(&mut self) {
        let now = BootNs::now();
        self.storms.not_before = BootNs(now.0 + PAUSE);
        let is_fast = self.storms.fast_until > now;
        // What makes no request moves no count of the probes: where requests alone are counted, only a look tells of it.
        let is_half_blind = self.plan.uses(Signal::TcpSyn, Mechanism::Cgroup);
        let usual = if is_fast || is_half_blind { FAST } else { SLOW };
        self.storms.due = BootNs(now.0 + usual);
        let counters = self.sensors.as_ref().map(Sensors::counters);
        let kept = counters
            .and_then(Result::ok)
            .and_then(|counters| self.storms.kept(&counters));
        // Without probes, nothing but the look itself tells whether there are any.
        let close_wait = kept.is_none_or(|counts| {
            let count = counts.get(usize::from(TcpState::CLOSE_WAIT.0));
            count.is_none_or(|count| *count >= CLOSE_WAIT_FLOOR)
        });
        if now.since(self.storms.settled) >= SLOW {
            self.storms.settled = now;
            let maps = self.sensors.as_mut().map(Sensors::storms);
            self.storms.settle(self.inventory.iter(), maps);
        }
        let mut observer = match self.storms.observer.take() {
            Some(observer) => observer,
            None => Box::new(self.observer()),
        };
        let wanted = Wanted {
            is_elsewhere: std::mem::take(&mut self.storms.is_elsewhere),
            crossings: std::mem::take(&mut self.storms.waiting),
            settings: self.storms.settings.take(),
            recalled: self.habits.recalled(),
            habits: self.habits.wanted(now, self.surroundings.clock),
            open: self.episodes.are_answered(),
            sources: std::mem::take(&mut self.storms.sources_moved),
            sees_syns: !self.plan.uses(Signal::TcpSyn, Mechanism::Reconcile),
            sees_requests: is_half_blind,
            close_wait,
            clock: self.surroundings.clock,
        };
        self.storms.began = now;
        self.storms.look.begin(move || {
            let found = observer.look(wanted);
            (observer, found)
        });
    }

    /// One that has seen nothing yet.
    fn observer(&mut self) -> Observer {
        let tables = self.sensors.as_mut().map(|one| one.storms().tables());
        self.habits.read(self.surroundings.clock);
        Observer::new(self.episodes.detector(), tables)
    }

    /// A look has ended.
    pub(super) fn looked_for_storms(&mut self, looked: Result<Looked, JoinError>) {
        match looked {
            Ok((observer, Ok(mut found))) => {
                self.storms.ended(observer, Some(&found));
                if let Some(text) = found.habits.take() {
                    self.habits.write(text, found.at);
                }
                self.tell_storms(found);
            }
            Ok((observer, Err(error))) => {
                self.storms.ended(observer, None);
                tracing::warn!(%error, "what storms are told by could not be looked at");
            }
            Err(error) => self.storms_broke(&error),
        }
    }

    /// A bug must not blind the watcher for good: what it was about begins anew, and that is said.
    fn storms_broke(&mut self, error: &JoinError) {
        tracing::error!(%error, "a look for storms failed; it begins anew");
        let now = BootNs::now();
        self.give_episodes_up("the look that told of it failed");
        if self.storms.broke(now) {
            self.tell_no_look(
                "a look for storms failed by a fault of portwatch",
                "report it with the daemon's log; it is tried again every 10 seconds",
            );
        }
    }

    /// What the probes counted in the last second.
    pub(super) fn storms_every_second(&mut self, counters: &Counters) {
        let now = BootNs::now();
        self.storms.every_second(counters, now);
        if self.storms.is_late(now) {
            self.tell_no_look(
                "a look for storms has taken more than 10 seconds",
                "see what the host is busy with: sockets are asked for by sock_diag, counters are read in /proc",
            );
        }
    }

    fn tell_no_look(&mut self, reason: &str, remedy: &str) {
        let now = BootNs::now();
        let mut event = self.surroundings.event(EventType::SensorDegraded, now);
        event.sensor = Some(Sensor {
            signal: Some("storms".to_owned()),
            reason: Some(reason.to_owned()),
            blind_to: Some("storms and scans until the next look".to_owned()),
            remedy: Some(remedy.to_owned()),
            ..Sensor::default()
        });
        self.push(event, now, None, Waits::default());
    }

    /// Has what was learned written down. A look and a file that are under way are waited for; a disk that hangs is not.
    pub(super) async fn end_storms(&mut self) {
        let clock = self.surroundings.clock;
        let (storms, habits) = (&mut self.storms, &mut self.habits);
        let end = async {
            if storms.look.is_under_way()
                && let Ok((observer, _)) = storms.look.ended().await
            {
                storms.observer = Some(observer);
            }
            while habits.is_busy() {
                let done = habits.done().await;
                habits.take(done, BootNs::now(), clock);
            }
            let observer = storms.observer.take();
            if let Some((mut observer, setting)) = observer.zip(habits.wanted_at_last(clock)) {
                // What was read a moment ago no look has taken along yet.
                observer.recall(&habits.recalled());
                habits.write(observer.habits(&setting), BootNs::now());
                let done = habits.done().await;
                habits.take(done, BootNs::now(), clock);
            }
        };
        if tokio::time::timeout(FAREWELL, end).await.is_err() {
            tracing::error!("what was learned of rates could not be written in time");
        }
    }
}
