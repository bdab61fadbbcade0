//! What has to be done before sinks can begin, and may take as long as a disk takes: files are opened, certificates and
//! secrets read, buffers looked through. Not for the thread of the pipeline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::{Kept, Sinks};
use crate::config::Sink;
use crate::daemon::files::{Files, Print};
use crate::daemon::places;
use crate::daemon::transports::transport;
use crate::sink::transport::Transport;
use crate::sink::{Lane, buffer};

/// How often a full disk is asked for room.
const AGAIN: Duration = Duration::from_secs(1);

/// How long files of sinks may take to be opened.
pub(in crate::daemon) const PATIENCE: Duration = Duration::from_secs(10);

/// Sinks that can begin: nothing is wrong with their settings.
pub(in crate::daemon) enum Prepared {
    /// They are as before, and what is in their files cannot be looked at now.
    Same,
    /// These take their place.
    Changed(Change),
}

/// The sinks from now on.
pub(in crate::daemon) struct Change {
    /// All of them, in their order.
    pub(super) sinks: Vec<Sink>,
    /// Those that are not at work already.
    pub(super) ready: Vec<Ready>,
}

/// One of them.
pub(super) struct Ready {
    pub(super) sink: Sink,
    pub(super) transport: Option<Box<dyn Transport>>,
    /// What was in its secrets and certificates.
    pub(super) print: Print,
    pub(super) kept: Kept,
}

impl Sinks {
    /// Prepares these sinks; nothing changes yet for those at work. Those that are as before, with the same in their secrets
    /// and certificates, are not touched. It may wait for a disk, for ever when that is away; while an earlier call does, others
    /// than before cannot be had, and those of before are left as they are.
    ///
    /// # Errors
    /// What is wrong with one of them, or that an earlier call still waits, in a sentence.
    pub(in crate::daemon) fn prepare(&self, sinks: &[Sink]) -> Result<Prepared, String> {
        let _alone = match self.alone() {
            Ok(alone) => alone,
            Err(why) if self.are_same(sinks) => {
                tracing::warn!(why, "sinks stay as they are");
                return Ok(Prepared::Same);
            }
            Err(why) => return Err(why),
        };
        let (running, kept) = {
            let all = self.all();
            let running = all.running.iter();
            let running: Vec<(Sink, Print)> =
                running.map(|one| (one.sink.clone(), one.print)).collect();
            (running, all.kept.clone())
        };
        let mut ready = Vec::new();
        for sink in sinks {
            let before = running.iter().find(|(one, _)| one == sink);
            let kept = kept.get(&sink.name).cloned().unwrap_or_default();
            let before = before.map(|(_, print)| *print);
            let prepared = self.ready(sink, before, kept, Full::IsAnError);
            ready.extend(prepared.map_err(|why| format!("sink {}: {why}", sink.name))?);
        }
        Ok(Prepared::Changed(Change {
            ready,
            sinks: sinks.to_vec(),
        }))
    }

    /// Are these the sinks of now, at work or waited for?
    fn are_same(&self, sinks: &[Sink]) -> bool {
        let all = self.all();
        let running = all.running.iter().map(|one| &one.sink);
        let now: Vec<&Sink> = running
            .chain(all.awaited.iter().map(|one| &one.sink))
            .collect();
        now.len() == sinks.len() && sinks.iter().all(|sink| now.contains(&sink))
    }

    /// Nobody else prepares sinks for as long as this is kept.
    pub(super) fn alone(&self) -> Result<OwnedMutexGuard<()>, String> {
        Arc::clone(&self.preparing).try_lock_owned().map_err(|_| {
            "the files of other sinks are still waited for: is their disk there? If it does not come back, restart portwatch"
                .to_owned()
        })
    }

    /// Nothing for one at work whose files hold what they held `before`.
    pub(super) fn ready(
        &self,
        sink: &Sink,
        before: Option<Print>,
        mut kept: Kept,
        full: Full,
    ) -> Result<Option<Ready>, String> {
        if before.is_none() {
            places::check(sink)?;
        }
        let mut files = Files::default();
        let transport = transport(sink, &self.host, &mut files)?;
        let print = files.print();
        if before == Some(print) {
            return Ok(None);
        }
        if transport.is_some() && kept.buffer.is_none() {
            let folder = self.folder.join(&sink.name);
            let (reader, gauge) = open(|| buffer::open(&folder), full).map_err(|error| {
                let folder = folder.display();
                format!("no buffer can be had in {folder}: {error}")
            })?;
            let (host, figures) = (Arc::clone(&self.host), Arc::clone(&kept.figures));
            kept.buffer = Some((Lane::new(&sink.name, reader, host, figures), gauge));
        }
        Ok(Some(Ready {
            sink: sink.clone(),
            transport,
            print,
            kept,
        }))
    }
}

/// What a disk is for which there is no room on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// One that is waited for, as one that does not answer: at the start, which must not fail for it.
    IsWaitedFor,
    /// One that a new configuration is refused for.
    IsAnError,
}

fn open<T>(mut open: impl FnMut() -> io::Result<T>, full: Full) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if buffer::is_full(&error) && full == Full::IsWaitedFor => {
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}
