//! What has to be done before sinks can begin, and may take as long as a disk takes: files are opened, certificates and
//! secrets read, buffers looked through. Not for the thread of the pipeline.

use std::sync::{Arc, TryLockError};

use super::{Kept, Sinks};
use crate::config::Sink;
use crate::daemon::places;
use crate::daemon::transports::transport;
use crate::sink::transport::Transport;
use crate::sink::{Lane, buffer};

/// Sinks that can begin: nothing is wrong with their settings.
pub(in crate::daemon) struct Prepared {
    /// All of them, in their order.
    pub(super) sinks: Vec<Sink>,
    /// Those that are not at work already.
    pub(super) ready: Vec<Ready>,
}

/// One of them.
pub(super) struct Ready {
    pub(super) sink: Sink,
    pub(super) transport: Option<Box<dyn Transport>>,
    pub(super) kept: Kept,
}

impl Sinks {
    /// Prepares these sinks; nothing changes yet for those at work. It may wait for a disk, for ever when that is away.
    ///
    /// # Errors
    /// What is wrong with one of them, or that an earlier call still waits, in a sentence.
    pub(in crate::daemon) fn prepare(&self, sinks: &[Sink]) -> Result<Prepared, String> {
        let _alone = match self.preparing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(
                    "an earlier configuration still waits for the files of its sinks: is their disk there?"
                        .to_owned(),
                );
            }
        };
        let (running, kept) = {
            let all = self.all();
            let running: Vec<Sink> = all.running.iter().map(|one| one.sink.clone()).collect();
            (running, all.kept.clone())
        };
        let new = sinks.iter().filter(|sink| !running.contains(sink));
        let ready = new.map(|sink| {
            let kept = kept.get(&sink.name).cloned().unwrap_or_default();
            self.ready(sink, kept)
                .map_err(|why| format!("sink {}: {why}", sink.name))
        });
        Ok(Prepared {
            ready: ready.collect::<Result<_, _>>()?,
            sinks: sinks.to_vec(),
        })
    }

    fn ready(&self, sink: &Sink, mut kept: Kept) -> Result<Ready, String> {
        places::check(sink)?;
        let transport = transport(sink, &self.host)?;
        if transport.is_some() && kept.buffer.is_none() {
            let folder = self.folder.join(&sink.name);
            let (reader, gauge) = buffer::open(&folder).map_err(|error| {
                let folder = folder.display();
                format!("no buffer can be had in {folder}: {error}")
            })?;
            let (host, figures) = (Arc::clone(&self.host), Arc::clone(&kept.figures));
            kept.buffer = Some((Lane::new(&sink.name, reader, host, figures), gauge));
        }
        Ok(Ready {
            sink: sink.clone(),
            transport,
            kept,
        })
    }
}
