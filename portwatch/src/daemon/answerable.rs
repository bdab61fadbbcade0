//! The process that an event about a listener names, and what only that process can tell.

use crate::decode::record::UnixName;
use crate::enrich::{Enricher, Waits};
use crate::event::Process;
use crate::inventory::{Listener, absolute};
use crate::time::{BootNs, WallClock};

/// The process, and the look-ups that will complete it.
///
/// An opener is told as it was when it opened the listener, whatever became of it. A holder stands for a
/// listener that nobody was seen opening: while it runs it is resolved again, because the holder may be
/// another one by now, or run another image; once it has ended it is told as before.
pub(super) fn process_of(
    listener: &Listener,
    enricher: &mut Enricher,
    now: BootNs,
    clock: &WallClock,
) -> (Option<Process>, Waits) {
    let told = listener.process.as_deref();
    let Some(who) = listener.who() else {
        return (told.cloned(), Waits::default());
    };
    let key = who.task.key;
    let is_final = listener.opener.is_some() || !enricher.runs(key);
    match told.filter(|process| is_final && process.pid == key.pid) {
        Some(process) => (Some(process.clone()), Waits::default()),
        None => {
            let resolution = enricher.resolve(who, now, clock);
            (Some(resolution.process), resolution.waits)
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
    let (process, waits) = process_of(listener, enricher, now, clock);
    let process = process?;
    let told = listener.process.as_deref().filter(|told| {
        told.pid == process.pid && told.exe == process.exe && told.args == process.args
    });
    match told {
        Some(told) if !waits.is_over() => Some(told.clone()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{absolute_name, process_now, process_of};
    use crate::decode::record::{TaskInfo, UnixName, Who};
    use crate::enrich::{EnrichConfig, Enricher};
    use crate::event::{Mechanism, Process};
    use crate::inventory::Listener;
    use crate::inventory::fixture::{task, unix_stream};
    use crate::time::{BootNs, WallClock};

    const CLOCK: WallClock = WallClock::from_epoch_ns(1_795_290_121_000_000_000);
    const NOBODY: u32 = 4_194_400;

    fn enricher() -> Enricher {
        Enricher::new(EnrichConfig::default()).0
    }

    /// This process as a task.
    fn this() -> TaskInfo {
        let proc = crate::enrich::proc_fs::ProcFs::new("/proc".into());
        let own = proc.who_from_proc(std::process::id());
        own.expect("this process").task
    }

    /// Held by this task, and told of with another executable.
    fn listener(holder: TaskInfo, told_pid: u32) -> Listener {
        let who = Who {
            task: holder,
            image: None,
            ancestors: Vec::new(),
        };
        Listener {
            sock: unix_stream(1, 1),
            unix: None,
            opener: None,
            holder: Some(Arc::new(who)),
            process: Some(Arc::new(Process {
                pid: told_pid,
                exe: Some("/told".to_owned()),
                ..Process::default()
            })),
            owners: Vec::new(),
            opened_at: None,
            first_seen: BootNs(1),
            mechanism: Mechanism::Snapshot,
        }
    }

    fn exe(listener: &Listener) -> Option<String> {
        let (process, _) = process_of(listener, &mut enricher(), BootNs::now(), &CLOCK);
        process.expect("a process").exe
    }

    #[test]
    fn a_holder_that_runs_is_asked_again() {
        let own = std::env::current_exe().expect("exe");
        let held = listener(this(), std::process::id());
        assert_eq!(exe(&held).as_deref(), own.to_str());
        let listed = process_now(&held, &mut enricher(), BootNs::now(), &CLOCK);
        assert_eq!(listed.expect("a process").exe.as_deref(), own.to_str());
    }

    #[test]
    fn an_opener_and_one_that_has_ended_are_told_as_before() {
        let mut opened = listener(this(), std::process::id());
        opened.opener = opened.holder.take();
        assert_eq!(exe(&opened).as_deref(), Some("/told"));
        assert_eq!(
            exe(&listener(task(NOBODY), NOBODY)).as_deref(),
            Some("/told")
        );
        let mut unheld = listener(task(NOBODY), NOBODY);
        unheld.holder = None;
        assert_eq!(exe(&unheld).as_deref(), Some("/told"));
    }

    #[test]
    fn another_holder_is_not_told_as_the_one_before() {
        let held = listener(task(NOBODY), 7);
        let (process, _) = process_of(&held, &mut enricher(), BootNs::now(), &CLOCK);
        let process = process.expect("a process");
        assert_eq!((process.pid, process.exe), (NOBODY, None));
    }

    #[test]
    fn a_relative_name_is_completed_by_its_process() {
        let mut held = listener(this(), std::process::id());
        let name = |resolved: Option<Vec<u8>>| UnixName::Path {
            as_bound: b"a.sock".to_vec(),
            resolved,
        };
        held.unix = Some(name(None));
        let directory = std::env::current_dir().expect("directory");
        let path = directory.join("a.sock").into_os_string();
        let path = Some(path.into_encoded_bytes());
        assert_eq!(absolute_name(&held, &enricher()), Some(name(path)));
        let gone = Listener {
            unix: held.unix,
            ..listener(task(NOBODY), NOBODY)
        };
        assert_eq!(absolute_name(&gone, &enricher()), None);
    }
}
