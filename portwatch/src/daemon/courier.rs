//! Delivers the queue of one channel: the oldest message first, again and again until the other side has taken it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::carriers::carrier;
use crate::alert::email::IDLE;
use crate::alert::{Carrier, Message, PutOff, Refusal, Spool};
use crate::config::Channel;
use crate::interface::status::ChannelStatus;

/// Distance of two attempts: doubled each time, from this …
const FIRST: Duration = Duration::from_secs(1);
/// … to this.
const LONGEST: Duration = Duration::from_secs(900);

/// A message that the other side puts off all the time is given up after this (RFC 5321, 4.5.4.1).
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(5 * 24);

/// How delivery goes.
#[derive(Debug, Default)]
pub(super) struct Course {
    figures: Mutex<Figures>,
    /// Held by who delivers: after a new configuration the next one waits until the last attempt of the one before is
    /// over, so that nothing is delivered twice.
    turn: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Figures {
    delivered: u64,
    refused: u64,
    lost: u64,
    error: Option<String>,
}

impl Course {
    fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn figures(&self) -> Figures {
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A channel's name, its queue, and how its delivery goes.
type Lane = (String, Arc<Spool>, Arc<Course>);

/// The courses of all channels.
#[derive(Clone, Debug, Default)]
pub(super) struct Courses(Arc<Mutex<Vec<Lane>>>);

impl Courses {
    /// These channels instead of the ones before.
    pub(super) fn replace(&self, all: impl Iterator<Item = Lane>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
    }

    /// For `portwatch status`.
    pub(super) fn status(&self) -> Vec<ChannelStatus> {
        let of = |(name, spool, course): &Lane| {
            let figures = course.figures();
            ChannelStatus {
                name: name.clone(),
                queued: spool.depth().map_or(0, |depth| depth.messages),
                delivered: figures.delivered,
                refused: figures.refused,
                lost: figures.lost,
                error: figures.error,
            }
        };
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(of).collect()
    }
}

/// The thread of one channel. It ends with the process: what it has not delivered is on the disk.
#[derive(Debug)]
pub(super) struct Courier {
    wake: SyncSender<()>,
    course: Arc<Course>,
}

impl Courier {
    /// Starts to deliver.
    ///
    /// # Errors
    /// What is wrong with the channel's settings, in a sentence.
    pub(super) fn start(
        channel: &Channel,
        host: &str,
        spool: Arc<Spool>,
        course: Arc<Course>,
    ) -> Result<Self, String> {
        let name = channel.name.clone();
        let carrier = carrier(channel, host).map_err(|why| format!("{name}: {why}"))?;
        let (wake, woken) = sync_channel(1);
        let told = Arc::clone(&course);
        std::thread::Builder::new()
            .name(format!("to {name}"))
            .spawn(move || deliver(&name, &spool, &carrier, &told, &woken))
            .map_err(|error| format!("a thread for {} cannot be had: {error}", channel.name))?;
        Ok(Self { wake, course })
    }

    /// There is something in the queue.
    pub(super) fn wake(&self) {
        // It is awake, then.
        let _ = self.wake.try_send(());
    }

    /// The disk takes nothing for the queue.
    pub(super) fn unqueued(&self, why: &impl std::fmt::Display) {
        self.course.change(|figures| {
            figures.error = Some(format!("an alert could not be queued: {why}"));
        });
    }

    /// Something did not even reach the queue, and will not.
    pub(super) fn lost(&self) {
        self.course.change(|figures| figures.lost += 1);
    }
}

fn deliver(name: &str, spool: &Spool, carrier: &Carrier, course: &Course, woken: &Receiver<()>) {
    let _turn = course.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pause = Duration::ZERO;
    let mut put_off = PutOff::default();
    // The one that failed last: perhaps it is because of it, so that another one goes first.
    let mut failed = None;
    // Those that are done with and cannot be taken out of the queue: they are not sent again.
    let mut kept: BTreeSet<Uuid> = BTreeSet::new();
    loop {
        let now = Instant::now();
        kept.retain(|id| spool.done(*id).is_err());
        let first =
            spool.first(|id| put_off.is_due(id, now) && Some(id) != failed && !kept.contains(&id));
        if matches!(first, Ok(None)) && failed.is_none() {
            put_off.forget_due(now);
        }
        let first = first.unwrap_or_else(|error| {
            tracing::error!(channel = name, %error, "the queue cannot be read");
            None
        });
        if first.is_none() && failed.take().is_some() {
            continue;
        }
        let Some(message) = first else {
            let next = put_off.next();
            let wait = next.map_or(IDLE, |next| next.saturating_duration_since(now).min(IDLE));
            match woken.recv_timeout(wait) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => carrier.rest(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            continue;
        };
        let (why, least) = match carrier.send(&message) {
            Ok(answer) => {
                tracing::info!(channel = name, message = %message.id, answer, "delivered");
                course.change(|figures| {
                    figures.delivered += 1;
                    figures.error = None;
                });
                put_off.forget(message.id);
                kept.extend(stays(name, spool, &message));
                pause = Duration::ZERO;
                continue;
            }
            Err(Refusal::PutOff(why)) if !is_old(&message) => {
                tracing::info!(channel = name, message = %message.id, why, "put off, tried again");
                course.change(|figures| figures.error = Some(why));
                put_off.again(message.id, Instant::now(), jittered);
                pause = Duration::ZERO;
                continue;
            }
            Err(Refusal::Never(why) | Refusal::PutOff(why)) => {
                tracing::error!(channel = name, message = %message.id, why, "refused for good, and not tried again");
                course.change(|figures| {
                    figures.refused += 1;
                    figures.error = Some(why);
                });
                put_off.forget(message.id);
                kept.extend(stays(name, spool, &message));
                pause = Duration::ZERO;
                continue;
            }
            Err(Refusal::Later(why)) => (why, Duration::ZERO),
            Err(Refusal::After(why, span)) => (why, span),
        };
        if pause.is_zero() {
            tracing::warn!(channel = name, why, "not taken now, tried again");
        }
        course.change(|figures| figures.error = Some(why));
        failed = Some(message.id);
        pause = (pause * 2).clamp(FIRST, LONGEST);
        if wait(jittered(pause).max(least), woken).is_break() {
            return;
        }
    }
}

/// Waits for the next attempt; breaks when there is another courier, or none any more. What comes meanwhile waits too,
/// and makes nothing faster.
fn wait(span: Duration, woken: &Receiver<()>) -> ControlFlow<()> {
    let until = Instant::now() + span;
    loop {
        match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        }
    }
}

/// The other side had time enough to take it: what is put off for ever is refused.
fn is_old(message: &Message) -> bool {
    let age = message
        .ts
        .parse()
        .map(|ts| Timestamp::now().duration_since(ts));
    age.is_ok_and(|age| age > GIVEN_UP)
}

/// Takes it out of the queue; it comes back where that cannot be.
fn stays(name: &str, spool: &Spool, message: &Message) -> Option<Uuid> {
    let error = spool.done(message.id).err()?;
    tracing::error!(channel = name, %error, "a message that is done with stays in the queue; a restart sends it again");
    Some(message.id)
}

/// A fleet whose mail server was away must not come back as one.
fn jittered(pause: Duration) -> Duration {
    let random = Uuid::now_v7().as_u128() % 512;
    pause.mul_f64(0.75 + random as f64 / 1024.0)
}
