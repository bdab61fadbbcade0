//! The desk at which incidents become messages: a route for each channel, and a courier that delivers from its queue.
//!
//! Architecture invariant: a message is on the disk before it is tried, and it is delivered from there alone. What
//! waits before that is on the disk too, with what was told. Killed at any point, the daemon tells again rather than
//! never.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::alerts::Alerting;
use super::courier::{Courier, Course, Courses};
use crate::alert::batch::Content;
use crate::alert::incident::Open;
use crate::alert::{
    Bounds, Held, Incidents, Memory, Message, Notice, Now, Phase, Remembered, Route, Spool, Window,
};
use crate::baseline::Frame;
use crate::config::Channel;
use crate::event::{Event, EventType, Host, RingName};
use crate::sink::Item;
use crate::time::BootNs;

/// Where queues and memory are, below the state directory.
const FOLDER: &str = "alerts";
/// Distance of two writes of the memory: a flood is not to be a flood of writes.
const REST: Duration = Duration::from_secs(1);
/// Messages that wait in memory while the disk takes none.
const UNQUEUED: usize = 100;
/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Everything that is between events and couriers.
pub(super) struct Desk {
    host: String,
    frame: Frame,
    folder: PathBuf,
    incidents: Incidents,
    windows: Vec<Window>,
    held: Held,
    memory: Option<Memory>,
    outlets: Vec<Outlet>,
    courses: Courses,
    /// The memory is to be written at this time.
    write_at: Option<BootNs>,
    written_at: BootNs,
}

/// A channel.
struct Outlet {
    route: Route,
    spool: Arc<Spool>,
    course: Arc<Course>,
    courier: Courier,
    /// Messages that had to go to make room, and were not told of yet.
    dropped: u64,
    /// Messages that the disk did not take yet.
    unqueued: VecDeque<Message>,
    /// When it is tried again.
    queue_at: Option<BootNs>,
}

impl Desk {
    /// Opens queues and memory, and starts to deliver what a run before has left.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub(super) fn open(alerting: Alerting) -> Result<Self, String> {
        let mut desk = Self {
            incidents: Incidents::new(alerting.frame.clone(), None),
            host: alerting.host,
            frame: alerting.frame,
            folder: alerting.state_dir.join(FOLDER),
            windows: Vec::new(),
            held: Held::default(),
            memory: None,
            outlets: Vec::new(),
            courses: Courses::default(),
            write_at: None,
            written_at: BootNs::default(),
        };
        desk.apply(alerting.channels, alerting.windows)?;
        if let Some(memory) = &desk.memory {
            let read = memory.read();
            let before = read.map_err(|error| cannot(&desk.folder, &error))?;
            desk.remember(before);
        }
        Ok(desk)
    }

    /// Is there anybody to tell?
    pub(super) const fn is_needed(&self) -> bool {
        !self.outlets.is_empty()
    }

    /// How each channel does, now and later.
    pub(super) fn courses(&self) -> Courses {
        self.courses.clone()
    }

    /// Works with these channels from now on. Secrets are read anew; what waits stays.
    ///
    /// # Errors
    /// What is wrong, in a sentence; then all is as before.
    pub(super) fn apply(
        &mut self,
        channels: Vec<Channel>,
        windows: Vec<Window>,
    ) -> Result<(), String> {
        if self.memory.is_none() && !channels.is_empty() {
            let memory = Memory::open(&self.folder);
            self.memory = Some(memory.map_err(|error| cannot(&self.folder, &error))?);
        }
        let couriers = channels.iter().map(|channel| self.courier(channel));
        let couriers: Vec<_> = couriers.collect::<Result<_, String>>()?;
        // From here on nothing can fail.
        let had_none = self.outlets.is_empty();
        let mut before: BTreeMap<String, Outlet> = std::mem::take(&mut self.outlets)
            .into_iter()
            .map(|outlet| (outlet.route.name().to_string(), outlet))
            .collect();
        let now = BootNs::now();
        for (channel, (spool, course, courier)) in channels.into_iter().zip(couriers) {
            let outlet = match before.remove(&channel.name) {
                Some(mut outlet) => {
                    outlet.route.change(channel.terms, now);
                    Outlet { courier, ..outlet }
                }
                None => Outlet {
                    route: Route::new(&channel.name, channel.terms),
                    spool,
                    course,
                    courier,
                    dropped: 0,
                    unqueued: VecDeque::new(),
                    queue_at: None,
                },
            };
            outlet.courier.wake();
            self.outlets.push(outlet);
        }
        for name in before.into_keys() {
            tracing::info!(
                channel = name,
                "no longer configured; what is in its queue stays there"
            );
        }
        if had_none {
            self.incidents = Incidents::midway(self.frame.clone());
        }
        self.windows = windows;
        self.courses.replace(self.outlets.iter().map(|outlet| {
            let name = outlet.route.name().to_string();
            (name, Arc::clone(&outlet.spool), Arc::clone(&outlet.course))
        }));
        Ok(())
    }

    /// When there is something to do without an event.
    pub(super) fn due(&self) -> Option<BootNs> {
        let routes = self.outlets.iter();
        let routes = routes.flat_map(|outlet| [outlet.route.due(), outlet.queue_at]);
        let others = [self.held.due(), self.write_at];
        routes.chain(others).flatten().min()
    }

    /// Takes note of events. When some did not reach us, tells since when (RFC 3339).
    pub(super) fn take(&mut self, items: Vec<Item>) -> Option<String> {
        let now = now();
        let mut missed: Option<String> = None;
        for item in items {
            let Item::Line(line) = item else {
                continue;
            };
            let event = line.event();
            self.observe(event, &now);
            if let Some(gap) = &event.gap
                && gap.ring == RingName::Client
                && missed.as_ref().is_none_or(|since| gap.from < *since)
            {
                missed = Some(gap.from.clone());
            }
        }
        missed
    }

    /// Every listener now, after events since then did not reach us.
    pub(super) fn catch_up(&mut self, all: &[Arc<Event>], since: &str) {
        let now = now();
        let (begun, ended) = self.incidents.catch_up(all, since);
        if let Some(any) = all.first() {
            let at = format!("{:.9}", Timestamp::now());
            let how = "unseen, while much happened at once";
            for gone in ended {
                self.tell(ended_unseen(gone, (&at, &any.host), how), &now);
            }
        }
        for notice in begun {
            self.tell(notice, &now);
        }
        self.is_stale(now.boot);
    }

    /// Makes the messages whose time has come, and remembers what was told.
    pub(super) async fn work(&mut self) {
        let now = now();
        for notice in self.held.release(now.boot) {
            self.offer(&notice, &now);
        }
        for at in 0..self.outlets.len() {
            let outlet = &mut self.outlets[at];
            let is_again = outlet.queue_at.is_some_and(|again| again <= now.boot);
            if let Some(content) = outlet.route.take(&now) {
                let dropped = std::mem::take(&mut outlet.dropped);
                outlet
                    .unqueued
                    .push_back(message(content, &self.host, dropped));
                self.is_stale(now.boot);
            } else if !is_again {
                continue;
            }
            self.outlets[at].queue(now.boot).await;
        }
        if self.write_at.is_some_and(|at| at <= now.boot) {
            self.write().await;
        }
    }

    /// What waits goes to the disk: the next run tells it.
    pub(super) async fn close(mut self) {
        if self.write_at.is_some() {
            self.write().await;
        }
    }

    fn courier(&self, channel: &Channel) -> Result<(Arc<Spool>, Arc<Course>, Courier), String> {
        let name = channel.name.as_str();
        let known = self
            .outlets
            .iter()
            .find(|outlet| **outlet.route.name() == *name);
        let (spool, course) = if let Some(outlet) = known {
            (Arc::clone(&outlet.spool), Arc::clone(&outlet.course))
        } else {
            let queue = self.folder.join(name);
            let spool = Spool::open(&queue, Bounds::default());
            let spool = spool.map_err(|error| cannot(&queue, &error))?;
            (Arc::new(spool), Arc::new(Course::default()))
        };
        let (from, told) = (Arc::clone(&spool), Arc::clone(&course));
        let courier = Courier::start(channel, &self.host, from, told)?;
        Ok((spool, course, courier))
    }

    /// Takes over what a run before has left.
    fn remember(&mut self, before: Option<Remembered>) {
        let now = now();
        let Remembered {
            open,
            mut waiting,
            held,
        } = match before {
            Some(before) => before,
            None => {
                self.incidents = Incidents::new(self.frame.clone(), None);
                return;
            }
        };
        self.incidents = Incidents::new(self.frame.clone(), Some(open));
        for outlet in &mut self.outlets {
            if let Some(waiting) = waiting.remove(&**outlet.route.name()) {
                outlet.route.resume(waiting, &now);
            }
        }
        for resting in held {
            let notice = Notice::from(resting);
            let until = self.window_end(&notice.event, &now).unwrap_or(now.boot);
            // There was room for it before.
            let _ = self.held.keep(notice, until);
        }
    }

    fn observe(&mut self, event: &Arc<Event>, now: &Now) {
        if let Some(notice) = self.incidents.observe(event) {
            self.tell(notice, now);
            self.is_stale(now.boot);
        } else if event.kind == EventType::SensorReady {
            for gone in self.incidents.ended_unseen() {
                let how = "while portwatch did not run";
                self.tell(ended_unseen(gone, (&event.ts, &event.host), how), now);
            }
            // That there was a first start is remembered too: what the next one finds besides is news.
            self.is_stale(now.boot);
        }
    }

    /// Now, or at the end of a maintenance.
    fn tell(&mut self, notice: Notice, now: &Now) {
        let kept = self.held.until(&notice.key);
        let until = kept.or_else(|| self.window_end(&notice.event, now));
        let notice = match (until, notice.phase) {
            // It waits already.
            (_, Phase::Still) if kept.is_some() => return,
            (Some(until), Phase::Began | Phase::Once | Phase::Ended) => {
                self.held.keep(notice, until)
            }
            _ => Some(notice),
        };
        if let Some(notice) = notice {
            self.offer(&notice, now);
        }
    }

    fn offer(&mut self, notice: &Notice, now: &Now) {
        let mut told = BTreeSet::new();
        for outlet in &mut self.outlets {
            if outlet.route.offer(notice, now) {
                told.insert(Arc::clone(outlet.route.name()));
            }
        }
        self.incidents.was_told(&notice.key, told);
    }

    fn window_end(&self, event: &Event, now: &Now) -> Option<BootNs> {
        let windows = self.windows.iter().filter(|window| window.covers(event));
        let ends = windows.filter_map(|window| window.end(&now.wall));
        ends.max().map(|end| now.boot_at(&end))
    }

    /// Something is to be remembered: soon, but not once for each event of a flood.
    fn is_stale(&mut self, now: BootNs) {
        let rest = u64::try_from(REST.as_nanos()).unwrap_or(u64::MAX);
        let rested = BootNs(self.written_at.0.saturating_add(rest));
        self.write_at.get_or_insert(rested.max(now));
    }

    async fn write(&mut self) {
        self.write_at = None;
        if self.outlets.iter().any(|outlet| outlet.queue_at.is_some()) {
            // What the disk did not take yet is in no queue: the memory from before has it still.
            self.write_at = self
                .outlets
                .iter()
                .filter_map(|outlet| outlet.queue_at)
                .max();
            return;
        }
        let Some(memory) = self.memory.clone() else {
            return;
        };
        let remembered = Remembered {
            open: self.incidents.all().collect(),
            waiting: self
                .outlets
                .iter()
                .filter(|outlet| outlet.route.is_waiting())
                .map(|outlet| (outlet.route.name().to_string(), outlet.route.waiting()))
                .collect(),
            held: self.held.all().collect(),
        };
        let written = spawn_blocking(move || memory.write(&remembered)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "what was told is not remembered, and may be told again");
        }
        self.written_at = BootNs::now();
    }
}

impl Outlet {
    /// Puts what waits for it onto the disk. While that is full the newest messages wait here.
    async fn queue(&mut self, now: BootNs) {
        self.queue_at = None;
        while let Some(message) = self.unqueued.pop_front() {
            let spool = Arc::clone(&self.spool);
            let put = spawn_blocking(move || {
                let put = spool.put(&message);
                (message, put)
            });
            let (message, error) = match put.await {
                Ok((_, Ok(dropped))) => {
                    self.dropped += dropped;
                    continue;
                }
                Ok((message, Err(error))) => (message, error),
                Err(error) => {
                    tracing::error!(%error, "an alert could not be queued, and is lost");
                    self.courier.lost();
                    continue;
                }
            };
            let channel = self.route.name();
            tracing::error!(%error, %channel, "an alert cannot be queued, and waits in memory");
            self.courier.unqueued(&error);
            self.unqueued.push_front(message);
            while self.unqueued.len() > UNQUEUED {
                self.unqueued.pop_front();
                self.courier.lost();
            }
            let again = u64::try_from(AGAIN.as_nanos()).unwrap_or(u64::MAX);
            self.queue_at = Some(BootNs(now.0.saturating_add(again)));
            break;
        }
        self.courier.wake();
    }
}

fn now() -> Now {
    Now {
        boot: BootNs::now(),
        wall: Zoned::now(),
    }
}

/// What was told in a run before, and was gone when this one began.
/// The end of a matter which has no event of its own: when and where it is told, and how it came about.
fn ended_unseen(gone: Open, (ts, host): (&str, &Arc<Host>), how: &str) -> Notice {
    let event = Event {
        id: Uuid::now_v7().to_string(),
        message: format!("{}: it ended {how}", gone.sentence),
        ..Event::new(EventType::ListenerClosed, ts.to_owned(), Arc::clone(host))
    };
    Notice {
        key: gone.key,
        phase: Phase::Ended,
        since: gone.since,
        severity: gone.severity,
        event: Arc::new(event),
        told: gone.told.iter().map(|name| name.as_str().into()).collect(),
    }
}

fn message(content: Content, host: &str, dropped: u64) -> Message {
    let now = Timestamp::now();
    let mut more = content.more;
    if dropped > 0 {
        more.push((
            "messages that waited too long for their delivery".to_owned(),
            dropped,
        ));
    }
    let silent_until = content.silent_for.and_then(|span| {
        let span = SignedDuration::try_from(span).ok()?;
        let until = now.checked_add(span).ok()?;
        Some(format!("{until:.0}"))
    });
    let first = content.entries.first();
    Message {
        id: Uuid::now_v7(),
        ts: first.map_or_else(|| now.to_string(), |entry| entry.event.ts.clone()),
        host: host.to_owned(),
        severity: content.severity,
        entries: content.entries,
        more,
        silent_until,
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be used: {error}", path.display())
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
