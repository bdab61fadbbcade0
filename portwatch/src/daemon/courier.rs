//! Delivers the queue of one channel: the oldest message first, again and again until the other side has taken it.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;

use super::secret;
use crate::alert::email::{Email, Mailer, Refusal};
use crate::alert::{Message, Spool};
use crate::config::Channel;
use crate::config::channels::{self, Kind};
use crate::interface::status::ChannelStatus;

/// Distance of two attempts: doubled each time, from this …
const FIRST: Duration = Duration::from_secs(1);
/// … to this.
const LONGEST: Duration = Duration::from_secs(900);

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
        let mailer = mailer(channel, host)?;
        let (wake, woken) = sync_channel(1);
        let told = Arc::clone(&course);
        std::thread::Builder::new()
            .name(format!("to {name}"))
            .spawn(move || deliver(&name, &spool, &mailer, &told, &woken))
            .map_err(|error| format!("a thread for {} cannot be had: {error}", channel.name))?;
        Ok(Self { wake, course })
    }

    /// There is something in the queue.
    pub(super) fn wake(&self) {
        // It is awake, then.
        let _ = self.wake.try_send(());
    }

    /// Something did not even reach the queue.
    pub(super) fn lost(&self) {
        self.course.change(|figures| figures.lost += 1);
    }
}

/// A mailer for a channel, with its secrets read.
pub(super) fn mailer(channel: &Channel, host: &str) -> Result<Mailer, String> {
    let Kind::Email(settings) = &channel.kind;
    Mailer::new(email(settings, host)?)
}

fn email(settings: &channels::Email, host: &str) -> Result<Email, String> {
    let mailbox = |text: &String| {
        let parsed = text.parse();
        parsed.map_err(|error| format!("`{text}` is no address: {error}"))
    };
    let (servers, security) = settings.servers();
    let from = settings
        .from
        .clone()
        .unwrap_or_else(|| format!("portwatch@{host}"));
    let read = |path: &Path| std::fs::read(path).map_err(|error| cannot_read(path, &error));
    let login = match (&settings.user, &settings.password_file) {
        (Some(user), Some(file)) => Some(Credentials::new(user.clone(), secret::read(file)?)),
        _ => None,
    };
    Ok(Email {
        to: settings.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        from: mailbox(&from)?,
        subject: settings.subject.clone(),
        servers,
        security,
        authorities: settings.ca_file.as_deref().map(read).transpose()?,
        login,
        hello: host.to_owned(),
    })
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

fn deliver(name: &str, spool: &Spool, mailer: &Mailer, course: &Course, woken: &Receiver<()>) {
    let _turn = course.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pause = Duration::ZERO;
    loop {
        let first = spool.first().unwrap_or_else(|error| {
            tracing::error!(channel = name, %error, "the queue cannot be read");
            None
        });
        let Some(message) = first else {
            if woken.recv().is_err() {
                return;
            }
            continue;
        };
        match mailer.send(&message) {
            Ok(answer) => {
                tracing::info!(channel = name, message = %message.id, answer, "delivered");
                course.change(|figures| {
                    figures.delivered += 1;
                    figures.error = None;
                });
                done(name, spool, &message);
                pause = Duration::ZERO;
            }
            Err(Refusal::Never(why)) => {
                tracing::error!(channel = name, message = %message.id, why, "refused for good, and not tried again");
                course.change(|figures| {
                    figures.refused += 1;
                    figures.error = Some(why);
                });
                done(name, spool, &message);
            }
            Err(Refusal::Later(why)) => {
                if pause.is_zero() {
                    tracing::warn!(channel = name, why, "not taken now, tried again");
                }
                course.change(|figures| figures.error = Some(why));
                pause = (pause * 2).clamp(FIRST, LONGEST);
                // What comes meanwhile waits behind it, and wakes nobody.
                match woken.recv_timeout(jittered(pause)) {
                    Ok(()) => std::thread::sleep(jittered(pause)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }
}

fn done(name: &str, spool: &Spool, message: &Message) {
    if let Err(error) = spool.done(message.id) {
        tracing::error!(channel = name, %error, "a delivered alert stays in the queue, and comes again");
        // Not at once, and not without end.
        std::thread::sleep(LONGEST);
    }
}

/// A fleet whose mail server was away must not come back as one.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() % 512;
    pause.mul_f64(0.75 + random as f64 / 1024.0)
}
