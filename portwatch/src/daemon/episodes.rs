//! From readings to events: what the detector finds, told with its listener, its owner and what to do next.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::answerable::process_now;
use super::observer::Found as Looked;
use super::pipeline::Pipeline;
use super::responses::{Done, Worker};
use super::storms::key_of;
use crate::decode::record::ProcessKey;
use crate::enrich::Waits;
use crate::event::message::{advice, scan_advice};
use crate::event::{Event, EventType, Process, Protocol, Response, Scan, Storm, StormPeer};
use crate::interface::status::StormStatus;
use crate::inventory::Listener;
use crate::storm::episode::is_level;
use crate::storm::response::{Order, Responder, Terms};
use crate::storm::scan::Found;
use crate::storm::{Account, Detector, Episode, ListenerKey, Report, Settings, Share, Subject};
use crate::time::BootNs;

/// Episodes and scans that are remembered after they are over.
const RECENT: usize = 256;

/// Episodes that go on, and those of the past.
pub(super) struct Episodes {
    settings: Settings,
    /// As of the last look, with what other observers counted before this one.
    account: Account,
    before: Account,
    next_number: u64,
    responder: Responder,
    worker: Worker,
    /// What was told of each last.
    open: BTreeMap<u64, Arc<Event>>,
    recent: VecDeque<Arc<Event>>,
}

impl Episodes {
    /// With nothing going on. What is done comes back through the receiver.
    pub(super) fn new(settings: Settings, terms: Terms) -> (Self, mpsc::Receiver<Done>) {
        let (worker, done) = Worker::new();
        let episodes = Self {
            settings,
            account: Account::default(),
            before: Account::default(),
            next_number: 1,
            responder: Responder::new(terms),
            worker,
            open: BTreeMap::new(),
            recent: VecDeque::new(),
        };
        (episodes, done)
    }

    /// What storms are.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A detector that has seen nothing yet, and repeats no number.
    pub(super) fn detector(&self) -> Detector {
        Detector::new(self.settings.clone()).numbered_from(self.next_number)
    }

    /// Is anything ever done about them?
    pub(super) fn are_answered(&self) -> bool {
        self.responder.is_needed()
    }

    /// What the detector counted so far.
    fn account_for(&mut self, account: Account) {
        self.account = Account {
            started: self.before.started + account.started,
            scans: self.before.scans + account.scans,
            untold: self.before.untold + account.untold,
            dropped: self.before.dropped.saturating_add(account.dropped),
            ..account
        };
    }

    /// Its detector is lost: what went on comes back, each as it was told last.
    fn give_up(&mut self) -> Vec<Arc<Event>> {
        self.before = Account {
            unjudged: 0,
            sources: 0,
            ..self.account
        };
        self.open.values().map(Arc::clone).collect()
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
    pub(super) fn status(&self, without_cell: u64, failed_looks: u64) -> StormStatus {
        let account = self.account;
        StormStatus {
            open: self.open.len() as u64,
            episodes: account.started,
            scans: account.scans,
            untold: account.untold,
            dropped: account.dropped,
            unjudged: account.unjudged,
            sources: account.sources,
            capped: self.responder.capped,
            without_cell,
            failed_looks,
        }
    }
}

impl Pipeline {
    /// A look has ended: tells what it found.
    pub(super) fn tell_storms(&mut self, looked: Looked) {
        self.episodes.account_for(looked.account);
        for report in looked.reports {
            match report {
                Report::Started(episode) => {
                    let next = episode.number.saturating_add(1);
                    self.episodes.next_number = self.episodes.next_number.max(next);
                    self.tell_episode(EventType::StormStarted, &episode, None);
                }
                Report::Updated(episode) => {
                    self.tell_episode(EventType::StormUpdated, &episode, None);
                }
                Report::Ended(episode, is_lost) => {
                    let reason = is_lost.then(|| "it can no longer be seen".to_owned());
                    self.tell_episode(EventType::StormEnded, &episode, reason);
                    let (kind, number) = (episode.kind, episode.number);
                    self.respond(|responder, _, now| responder.over(kind, number, now));
                }
                Report::Scan(found) => {
                    self.tell_scan(&found);
                    self.respond(|responder, own, now| responder.scan(&found, own, now));
                }
            }
        }
        // Each time, not only when there is something to tell: who sends is known better with every look.
        for episode in &looked.open {
            self.respond(|responder, own, now| responder.storm(episode, own, now));
        }
    }

    /// Nobody follows what goes on any more: all of it ends, for this reason, and what was done about it is undone.
    pub(super) fn give_episodes_up(&mut self, reason: &str) {
        let now = BootNs::now();
        // What began and has not been told yet.
        while let Some(draft) = self.pending.pop_any() {
            self.publish(draft, now);
        }
        for last in self.episodes.give_up() {
            let Some(mut storm) = last.storm.clone() else {
                continue;
            };
            let (kind, number) = (storm.kind, storm.episode);
            storm.reason = Some(reason.to_owned());
            let mut event = self.surroundings.event(EventType::StormEnded, now);
            event.socket.clone_from(&last.socket);
            event.process.clone_from(&last.process);
            event.owners.clone_from(&last.owners);
            event.duration_ms = last.duration_ms;
            event.storm = Some(storm);
            self.push(event, now, None, Waits::default());
            self.respond(|responder, _, now| responder.over(kind, number, now));
        }
    }

    /// Other settings from now on, in the kernel too.
    pub(super) fn configure_storms(&mut self, settings: Settings, terms: Terms) {
        if let Some(sensors) = &mut self.sensors {
            let set = self.storms.configure(&settings, sensors.storms());
            if let Err(error) = set {
                tracing::error!(%error, "the probes announce by the old thresholds of storms");
            }
        }
        self.storms.hand_over(settings.clone());
        self.episodes.settings = settings;
        self.episodes.responder.configure(terms);
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
            self.episodes.responder.failed(&order, now);
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
