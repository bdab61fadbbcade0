//! Start: say what is blind, test the sensors, take the first inventory, be ready.

use std::time::Duration;

use super::StartError;
use super::pipeline::{Pipeline, sleep_until};
use super::selftest::SelfTest;
use crate::enrich::Waits;
use crate::event::{EventType, Mechanism, Sensor, SignalMechanism};
use crate::inventory::MergeReason;
use crate::probe::plan::Signal;
use crate::time::BootNs;

/// How long the self-test's listener may take to arrive; generous, because hosts boot.
const SELF_TEST: Duration = Duration::from_secs(3);
/// How long the first look at `/proc` may take.
const SEED: Duration = Duration::from_secs(2);
/// How long the start waits for what is slow to find out about it, in nanoseconds.
const ANSWERS_NS: u64 = 2_000_000_000;

impl Pipeline {
    /// Start: the probes are attached; seed the process table, test, take the first inventory, be ready.
    pub(super) async fn begin(&mut self) -> Result<(), StartError> {
        if let Some(sensors) = &mut self.sensors {
            let quarter = u64::from(self.sizes.bulk) / 4;
            let set = sensors.wake_bulk_at(quarter);
            set.map_err(|source| StartError::Io {
                what: "setting the probes' switches",
                source,
            })?;
            let settings = self.episodes.settings();
            let set = self.storms.configure(settings, sensors.storms());
            set.map_err(|source| StartError::Io {
                what: "setting the thresholds of storms",
                source,
            })?;
        }
        let seeded = self.enricher.seed(BootNs::now(), SEED);
        tracing::debug!(?seeded, "the process table is seeded");
        self.tell_degraded();
        let tested = self.test().await;
        self.first_look().await?;
        let seen = self.self_test.as_ref().is_some_and(SelfTest::saw_opening);
        match tested {
            Ok(()) if seen => {}
            Ok(()) => {
                let reason = "neither a probe nor a look at every socket shows a listener";
                return Err(StartError::NoSensor(reason.to_owned()));
            }
            Err(reason) => self.tell_untested(&reason),
        }
        if let Some(test) = &mut self.self_test {
            test.close();
        }
        // Whoever hears that the sensors are ready may rely on them.
        let states_wanted = *self.bus.wants_states().borrow();
        self.switch_states(states_wanted)
            .map_err(|source| StartError::Io {
                what: "setting the probes' switches",
                source,
            })?;
        let mut event = self
            .surroundings
            .event(EventType::SensorReady, BootNs::now());
        event.sensor = Some(Sensor {
            mechanisms: self.mechanisms(),
            ..Sensor::default()
        });
        self.push(event, BootNs::now(), None, Waits::default());
        self.publish_ready(BootNs::now());
        Ok(())
    }

    pub(super) fn mechanisms(&self) -> Vec<SignalMechanism> {
        self.plan.mechanisms()
    }

    pub(super) fn tell_degraded(&mut self) {
        let degraded: Vec<_> = self
            .plan
            .choices
            .iter()
            .filter(|choice| choice.is_degraded())
            .cloned()
            .collect();
        for choice in degraded {
            let mut event = self
                .surroundings
                .event(EventType::SensorDegraded, BootNs::now());
            event.sensor = Some(Sensor {
                mechanism: Some(choice.mechanism),
                signal: Some(choice.signal.as_str().to_owned()),
                reason: choice
                    .rejected
                    .first()
                    .map(|rejected| rejected.reason.clone()),
                blind_to: choice.blind_to.map(str::to_owned),
                remedy: choice.remedy.map(str::to_owned),
                ..Sensor::default()
            });
            self.push(event, BootNs::now(), None, Waits::default());
        }
        for limitation in std::mem::take(&mut self.limitations) {
            let Some(blind_to) = limitation.blind_to else {
                continue;
            };
            let name = limitation.missing.as_str();
            let mut event = self
                .surroundings
                .event(EventType::SensorDegraded, BootNs::now());
            event.sensor = Some(Sensor {
                reason: Some(format!("{name} is missing")),
                blind_to: Some(blind_to.to_owned()),
                remedy: Some(format!("grant {name}")),
                ..Sensor::default()
            });
            self.push(event, BootNs::now(), None, Waits::default());
        }
    }

    pub(super) fn tell_untested(&mut self, reason: &str) {
        let mut event = self
            .surroundings
            .event(EventType::SensorDegraded, BootNs::now());
        event.sensor = Some(Sensor {
            signal: Some(Signal::TcpListen.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            blind_to: Some("listeners that open, until the next look".to_owned()),
            remedy: Some("see `portwatch doctor`".to_owned()),
            ..Sensor::default()
        });
        self.push(event, BootNs::now(), None, Waits::default());
    }

    /// Opens a listener and waits until its own record comes through the ring. Where no probe tells of
    /// TCP listeners, it stays open for the first look to find.
    pub(super) async fn test(&mut self) -> Result<(), String> {
        let test = SelfTest::begin()
            .map_err(|error| format!("the self-test could not listen: {error}"))?;
        self.self_test = Some(test);
        let choice = self.plan.choice(Signal::TcpListen);
        if choice.is_none_or(|choice| choice.mechanism == Mechanism::Reconcile) {
            return Ok(());
        }
        let saw = self.wait_for(SelfTest::saw_opening).await;
        if let Some(test) = &mut self.self_test {
            test.close();
        }
        if saw {
            self.wait_for(SelfTest::saw_closing).await;
            Ok(())
        } else {
            Err("the self-test's listener was not reported".to_owned())
        }
    }

    pub(super) async fn wait_for(&mut self, happened: impl Fn(&SelfTest) -> bool) -> bool {
        let until = tokio::time::Instant::now() + SELF_TEST;
        loop {
            self.drain();
            if self.self_test.as_ref().is_some_and(&happened) {
                return true;
            }
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The first inventory: attached before, merged with what came meanwhile.
    pub(super) async fn first_look(&mut self) -> Result<(), StartError> {
        let began = BootNs::now();
        self.look_again(MergeReason::Start);
        self.wait_for_looks().await;
        self.look_beyond(MergeReason::Start);
        self.wait_for_looks().await;
        if let Some(look) = &mut self.first_look {
            look.complete_us = BootNs::now().since(began) / 1_000;
        }
        // Slow look-ups of everything that was there already: a start may take the time they need.
        let until = BootNs(BootNs::now().0 + ANSWERS_NS);
        while self.pending.is_waiting() {
            let now = BootNs::now();
            if now >= until {
                break;
            }
            self.enricher.relieve(now);
            let next = self
                .enricher
                .relief_due()
                .map_or(until, |due| due.min(until));
            tokio::select! {
                Some(answer) = self.answers.recv() => self.answered(&answer),
                () = sleep_until(Some(next)) => {}
            }
        }
        self.drain();
        Ok(())
    }

    async fn wait_for_looks(&mut self) {
        while self.looking {
            match self.found.1.recv().await {
                Some(found) => self.found(found),
                None => break,
            }
        }
    }
}
