//! From readings to events: what the detector finds, told with its listener, its owner and what to do next.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use portwatch_common::storm::Thresholds;
use tokio::sync::mpsc;

use super::answerable::process_now;
use super::pipeline::Pipeline;
use super::responses::{Done, Worker};
use super::storms::{THRESHOLDS, key_of};
use crate::decode::record::ProcessKey;
use crate::enrich::Waits;
use crate::event::message::{advice, scan_advice};
use crate::event::{
    Event, EventType, Process, Protocol, Response, Scan, Storm, StormKind, StormPeer,
};
use crate::interface::status::StormStatus;
use crate::inventory::Listener;
use crate::storm::episode::is_level;
use crate::storm::response::{Order, Responder, Terms};
use crate::storm::scan::Found;
use crate::storm::{
    Crossing, Detector, Episode, ListenerKey, Rate, Reading, Report, Settings, Share, Subject,
};
use crate::time::BootNs;

/// Episodes and scans that are remembered after they are over.
const RECENT: usize = 256;
/// For how long the sources of knocks are read each time, after one of them tried many ports.
const KNOCKING_NS: u64 = 3_000_000_000;

/// Episodes that go on, and those of the past.
pub(super) struct Episodes {
    detector: Detector,
    responder: Responder,
    worker: Worker,
    /// What was told of each last.
    open: BTreeMap<u64, Arc<Event>>,
    recent: VecDeque<Arc<Event>>,
    knocking_until: BootNs,
}

impl Episodes {
    /// With nothing going on. What is done comes back through the receiver.
    pub(super) fn new(settings: Settings, terms: Terms) -> (Self, mpsc::Receiver<Done>) {
        let (worker, done) = Worker::new();
        let episodes = Self {
            detector: Detector::new(settings),
            responder: Responder::new(terms),
            worker,
            open: BTreeMap::new(),
            recent: VecDeque::new(),
            knocking_until: BootNs(0),
        };
        (episodes, done)
    }

    /// What storms are.
    pub(super) const fn settings(&self) -> &Settings {
        self.detector.settings()
    }

    /// Other settings from now on.
    pub(super) fn configure(&mut self, settings: Settings, terms: Terms) {
        self.detector.configure(settings);
        self.responder.configure(terms);
    }

    /// The kernel says that a rate was crossed.
    pub(super) fn crossed(&mut self, crossing: &Crossing) {
        self.detector.crossed(crossing);
        if crossing.rate == Rate::Ports {
            self.knocking_until = BootNs(crossing.at.0.saturating_add(KNOCKING_NS));
        }
    }

    /// How long to wait for the next reading, in nanoseconds, if it is wanted soon.
    pub(super) fn beat(&self, now: BootNs) -> Option<u64> {
        self.detector.beat(now)
    }

    /// Are all sources of knocks to be read?
    pub(super) fn is_knocked(&self, now: BootNs) -> bool {
        now <= self.knocking_until
    }

    /// Is it to be found out, for any of these namespaces, towards whom its local ports are taken?
    pub(super) fn wants_busiest(&self, reading: Option<&Reading>) -> bool {
        let mut namespaces = reading.into_iter().flat_map(|reading| &reading.namespaces);
        namespaces.any(|one| self.detector.wants_busiest(one))
    }

    /// Remembers what was told last.
    pub(super) fn remember(&mut self, event: &Arc<Event>) {
        let episode = event.storm.as_ref().map(|storm| storm.episode);
        match (event.kind, episode) {
            (EventType::StormStarted | EventType::StormUpdated, Some(number)) => {
                self.open.insert(number, Arc::clone(event));
            }
            (EventType::StormEnded, Some(number)) => {
                self.open.remove(&number);
                self.keep(event);
            }
            (EventType::ScanDetected, _) => self.keep(event),
            _ => {}
        }
    }

    fn keep(&mut self, event: &Arc<Event>) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(event));
    }

    /// What goes on, then what is over, each the latest first.
    pub(super) fn list(&self) -> Vec<Arc<Event>> {
        let open = self.open.values().rev();
        open.chain(self.recent.iter().rev())
            .map(Arc::clone)
            .collect()
    }

    /// For `status`.
    pub(super) fn status(&self) -> StormStatus {
        let account = self.detector.account();
        StormStatus {
            open: self.open.len() as u64,
            episodes: account.started,
            scans: account.scans,
            untold: account.untold,
            dropped: account.dropped,
            sources: account.sources,
            capped: self.responder.capped,
        }
    }
}

/// From where on the kernel announces, so that there is time to look before a threshold is reached.
pub(super) fn thresholds(settings: &Settings, usual: Thresholds) -> Thresholds {
    let part = |limit: u32, part: u32| u64::from((limit / part).max(1));
    let is_on = |kind: StormKind| !settings.off.contains(&kind);
    let flood = part(settings.syn_flood_rate, 3);
    Thresholds {
        syn: if is_on(StormKind::SynFlood) { flood } else { 0 },
        unanswered: if is_on(StormKind::SynFlood) { flood } else { 0 },
        accept: match is_on(StormKind::ConnectionStorm) {
            true => part(settings.connection_storm_rate, 4),
            false => 0,
        },
        reset: match is_on(StormKind::ResetStorm) {
            true => part(settings.reset_storm_rate, 2),
            false => 0,
        },
        connect: match is_on(StormKind::ConnectStorm) {
            true => part(
                settings
                    .connect_storm_failed
                    .min(settings.connect_storm_rate),
                1,
            ),
            false => 0,
        },
        ports: match settings.is_scan_off {
            true => 0,
            false => part(settings.scan_ports.saturating_mul(3), 4),
        },
        ..usual
    }
}

impl Pipeline {
    /// A reading is whole: tells what the detector finds in it.
    pub(super) fn judge_storms(&mut self, reading: &Reading) {
        let clock = self.surroundings.clock;
        for report in self.episodes.detector.read(reading, clock) {
            match report {
                Report::Started(episode) => {
                    self.tell_episode(EventType::StormStarted, &episode, None);
                    self.respond(|responder, own, now| responder.storm(&episode, own, now));
                }
                Report::Updated(episode) => {
                    self.tell_episode(EventType::StormUpdated, &episode, None);
                    self.respond(|responder, own, now| responder.storm(&episode, own, now));
                }
                Report::Ended(episode, is_lost) => {
                    let reason = is_lost.then(|| "it can no longer be seen".to_owned());
                    self.tell_episode(EventType::StormEnded, &episode, reason);
                    self.respond(|responder, _, now| responder.over(&episode, now));
                }
                Report::Scan(found) => {
                    self.tell_scan(&found);
                    self.respond(|responder, own, now| responder.scan(&found, own, now));
                }
            }
        }
    }

    /// Other settings from now on, in the kernel too.
    pub(super) fn configure_storms(&mut self, settings: Settings, terms: Terms) {
        if let Some(sensors) = &mut self.sensors {
            let thresholds = thresholds(&settings, THRESHOLDS);
            let set = self.storms.announce_from(thresholds, sensors.storms());
            if let Err(error) = set {
                tracing::error!(%error, "the probes announce by the old thresholds of storms");
            }
        }
        self.episodes.configure(settings, terms);
    }

    fn tell_episode(&mut self, kind: EventType, episode: &Episode, reason: Option<String>) {
        let now = BootNs::now();
        let mut event = self.surroundings.event(kind, now);
        let (mut netns, mut waits) = (None, Waits::default());
        let key = match episode.subject {
            Subject::Listener(key) => {
                netns = Some(key.netns);
                self.add_listener(&mut event, key, episode.number, now);
                let family = if key.is_v6 { "ipv6" } else { "ipv4" };
                format!(
                    "listener {family} port {}{}",
                    key.port,
                    self.namespace(key.netns)
                )
            }
            Subject::Process(pid, start) => {
                let key = ProcessKey {
                    pid,
                    start: BootNs(start),
                };
                let clock = self.surroundings.clock;
                let (process, asked) = self.enricher.by_key(key, now, &clock);
                waits = asked;
                let name = program(&process).to_owned();
                event.process = Some(process);
                format!("process {name}")
            }
            Subject::Namespace(of) | Subject::Source(of, _) => {
                netns = Some(of);
                format!("network namespace{}", self.namespace(of))
            }
        };
        event.duration_ms = Some(episode.duration_ms());
        let mut storm = told(episode, key, netns, reason);
        storm.advice = advice(storm.kind, &event);
        event.storm = Some(storm);
        self.push(event, now, None, waits);
    }

    /// The listener and who owns it, or what was told of it last: it may be gone meanwhile.
    fn add_listener(&mut self, event: &mut Event, key: ListenerKey, episode: u64, now: BootNs) {
        let is_it = |listener: &&Listener| key_of(listener) == Some(key);
        if let Some(listener) = self.inventory.iter().find(is_it) {
            let listed = self.surroundings.listed(listener, &mut self.enricher, now);
            let clock = &self.surroundings.clock;
            event.process = process_now(listener, &mut self.enricher, now, clock);
            event.socket = listed.socket;
            if listed.owners.len() > 1 {
                event.owners = listed.owners;
            }
        } else if let Some(before) = self.episodes.open.get(&episode) {
            event.socket.clone_from(&before.socket);
            event.process.clone_from(&before.process);
        }
    }

    /// ` of this host`, or which other one.
    fn namespace(&self, netns: u32) -> String {
        match netns == self.surroundings.netns {
            true => " of this host".to_owned(),
            false => format!(" in namespace {netns}"),
        }
    }

    fn tell_scan(&mut self, found: &Found) {
        let now = BootNs::now();
        let clock = self.surroundings.clock;
        let mut event = self.surroundings.event(EventType::ScanDetected, now);
        let mut scan = Scan {
            shape: found.shape,
            source: found.source.map(|source| source.to_string()),
            sources: found.sources,
            netns: found.netns,
            namespaces: found.namespaces,
            protocol: if found.is_udp {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            ports: found.ports,
            knocks: found.knocks,
            sample: found.sample.clone(),
            first: clock.rfc3339(found.first),
            last: clock.rfc3339(found.last),
            advice: String::new(),
        };
        scan.advice = scan_advice(&scan);
        event.scan = Some(scan);
        self.push(event, now, None, Waits::default());
    }

    fn respond(&mut self, decide: impl FnOnce(&mut Responder, &[IpAddr], BootNs) -> Vec<Order>) {
        if !self.episodes.responder.is_needed() {
            return;
        }
        let interfaces = self.surroundings.interfaces.by_index.values();
        let own: Vec<IpAddr> = interfaces.flat_map(|one| one.addresses.clone()).collect();
        let orders = decide(&mut self.episodes.responder, &own, BootNs::now());
        for order in orders {
            if let Some(done) = self.episodes.worker.take(order) {
                self.responded(done);
            }
        }
    }

    /// Something was done, or would have been.
    pub(super) fn responded(&mut self, done: Done) {
        let now = BootNs::now();
        let (order, error) = (done.order, done.error);
        if error.is_some() {
            self.episodes.responder.failed(&order);
        }
        let mut event = self.surroundings.event(EventType::StormResponse, now);
        event.response = Some(Response {
            action: order.action,
            dry_run: order.dry_run,
            prefixes: order.prefixes.iter().map(ToString::to_string).collect(),
            set: order.set.to_string(),
            timeout_s: match order.action {
                crate::event::ResponseAction::Block => Some(order.timeout.as_secs()),
                crate::event::ResponseAction::Unblock => None,
            },
            cause: order.cause.to_owned(),
            episode: order.episode,
            error,
        });
        self.push(event, now, None, Waits::default());
    }
}

fn program(process: &Process) -> &str {
    process.exe.as_deref().unwrap_or(&process.name)
}

fn told(episode: &Episode, key: String, netns: Option<u32>, reason: Option<String>) -> Storm {
    let is_level = is_level(episode.kind);
    let peer = |share: &Share| StormPeer {
        prefix: share.prefix.to_string(),
        count: share.count,
        share: share.percent,
    };
    Storm {
        kind: episode.kind,
        episode: episode.number,
        key,
        netns,
        rate: (!is_level).then_some(episode.value),
        level: is_level.then_some(episode.value),
        peak: episode.peak,
        threshold: episode.threshold,
        total: episode.total,
        completed: episode.completed,
        ratio: episode.ratio(),
        half_open: episode.half_open,
        accept_queue: episode.accept_queue.map(|(now, _)| now),
        accept_queue_max: episode.accept_queue.map(|(_, most)| most),
        cookies_sent: episode.cookies,
        peers: episode.peers.iter().map(peer).collect(),
        advice: String::new(),
        reason,
    }
}
