//! The process that an event about a listener names, and what only that process can tell.

use crate::decode::record::UnixName;
use crate::enrich::{Enricher, Ticket};
use crate::event::Process;
use crate::inventory::{Listener, absolute};
use crate::time::{BootNs, WallClock};

/// The process, and the look-up that will complete it.
///
/// An opener is told as it was when it opened the listener, whatever became of it. A holder stands for a
/// listener that nobody was seen opening: while it runs it is resolved again, because the holder may be
/// another one by now, or run another image; once it has ended it is told as before.
pub(super) fn process_of(
    listener: &Listener,
    enricher: &mut Enricher,
    now: BootNs,
    clock: &WallClock,
) -> (Option<Process>, Option<Ticket>) {
    let told = listener.process.as_deref();
    let Some(who) = listener.who() else {
        return (told.cloned(), None);
    };
    let key = who.task.key;
    let is_final = listener.opener.is_some() || !enricher.runs(key);
    match told.filter(|process| is_final && process.pid == key.pid) {
        Some(process) => (Some(process.clone()), None),
        None => {
            let resolution = enricher.resolve(who, now, clock);
            (Some(resolution.process), resolution.ticket)
        }
    }
}

/// The process, for who cannot wait: what was told before where the rest is still looked up.
pub(super) fn process_now(
    listener: &Listener,
    enricher: &mut Enricher,
    now: BootNs,
    clock: &WallClock,
) -> Option<Process> {
    let (process, ticket) = process_of(listener, enricher, now, clock);
    let process = process?;
    let told = listener.process.as_deref().filter(|told| {
        told.pid == process.pid && told.exe == process.exe && told.args == process.args
    });
    match told {
        Some(told) if ticket.is_some() => Some(told.clone()),
        _ => Some(process),
    }
}

/// The name of a unix socket, resolved against the working directory that its process has now: nothing
/// but the name as bound is kept in the socket. None when it needs none, or none is known.
pub(super) fn absolute_name(listener: &Listener, enricher: &Enricher) -> Option<UnixName> {
    let name = listener.unix.as_ref().filter(|name| name.is_relative())?;
    let directory = enricher.working_directory(listener.who()?.task.key)?;
    absolute(name, &directory)
}
