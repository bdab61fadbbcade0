//! The actor's commands that do one thing as fast as the machine can, within a given time.

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{Outcome, Slots, life, number};
use crate::sys::{self, Forked};

/// Longest that any of these may go on.
const LONGEST: Duration = Duration::from_secs(60);
/// Between two listeners of a process that renames itself.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "renaming" => renaming(words, slots),
        "exec-storm" => exec_storm(words),
        "flood" => flood(words),
        "reuse" => reuse(words),
        "bomb" => bomb(words),
        "listeners" => listeners(words),
        other => bail!("no command {other:?}"),
    }
}

/// `renaming COUNT PREFIX`: opens that many TCP listeners, kept, from one thread, while the leader gives
/// itself another name without pause.
fn renaming(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let count: usize = number(words, 0)?;
    let prefix = words.get(1).context("renaming COUNT PREFIX")?;
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let (listeners, renames) = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let open = || {
                std::thread::sleep(PAUSE);
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            };
            let listeners: io::Result<Vec<TcpListener>> = (0..count).map(|_| open()).collect();
            done.store(true, Ordering::Relaxed);
            listeners
        });
        let mut renames: u64 = 0;
        while !done.load(Ordering::Relaxed) {
            let name = CString::new(format!("{prefix}{renames}"))?;
            rustix::thread::set_name(&name).map_err(io::Error::from)?;
            renames += 1;
        }
        let listeners = opener
            .join()
            .map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        anyhow::Ok((listeners, renames))
    })?;
    let took = start.elapsed();
    let mut inodes = Vec::with_capacity(count);
    for (at, listener) in listeners.into_iter().enumerate() {
        inodes.push(rustix::fs::fstat(&listener)?.st_ino.to_string());
        slots.insert(format!("{prefix}{at}"), listener.into());
    }
    Ok(Outcome::facts([
        ("inodes", inodes.join(",")),
        ("renames", renames.to_string()),
        ("millis", took.as_millis().to_string()),
    ]))
}

/// `exec-storm MILLIS HEX`: starts this program again and again, on twice as many threads as there are
/// processors.
fn exec_storm(words: &[&str]) -> Result<Outcome> {
    let deadline = deadline(words)?;
    let program = life::path(words.get(1).context("exec-storm MILLIS HEX")?)?;
    let program = CString::new(program.into_os_string().into_vec())?;
    let count = everywhere(2, || {
        let mut count = 0;
        while Instant::now() < deadline {
            sys::process::run_quickly(&program)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(Outcome::facts([("count", count.to_string())]))
}

/// `flood MILLIS`: opens and closes TCP listeners on every processor.
fn flood(words: &[&str]) -> Result<Outcome> {
    let deadline = deadline(words)?;
    let count = everywhere(1, || {
        let mut count = 0;
        while Instant::now() < deadline {
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
            count += 1;
        }
        Ok(count)
    })?;
    Ok(Outcome::facts([("count", count.to_string())]))
}

/// `listeners COUNT MICROS [realtime]`: opens and closes TCP listeners on the first processor, with so long
/// a pause between them; `realtime` before any other thread that wants it.
fn listeners(words: &[&str]) -> Result<Outcome> {
    let count: usize = number(words, 0)?;
    let pause = Duration::from_micros(number(words, 1)?);
    let mut first = rustix::thread::CpuSet::new();
    first.set(0);
    rustix::thread::sched_setaffinity(None, &first).map_err(io::Error::from)?;
    if words.get(2) == Some(&"realtime") {
        sys::process::run_before_others()?;
    }
    for _ in 0..count {
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        std::thread::sleep(pause);
    }
    Ok(Outcome::facts([("count", count.to_string())]))
}

/// `reuse COUNT PREFIX HEX`: COUNT processes, one after the other, that all have the same pid; each opens
/// a listener and is gone (`blink PREFIX-i`). By turns they run this program and the one named.
fn reuse(words: &[&str]) -> Result<Outcome> {
    let count: usize = number(words, 0)?;
    let prefix = words.get(1).context("reuse COUNT PREFIX HEX")?;
    let other = life::path(words.get(2).context("reuse COUNT PREFIX HEX")?)?;
    let programs = [std::env::current_exe()?, other];
    let mut wanted = None;
    for (at, program) in (0..count).zip(programs.iter().cycle()) {
        let pid = blink_as(wanted, program, &format!("{prefix}-{at}"))?;
        wanted = Some(pid);
    }
    Ok(Outcome::facts([(
        "pid",
        wanted.context("reuse of nothing")?.to_string(),
    )]))
}

/// Runs `program blink TOKEN` to its end, with this pid.
fn blink_as(wanted: Option<u32>, program: &Path, token: &str) -> Result<u32> {
    let made = match wanted {
        Some(pid) => sys::process::fork_as(pid)?,
        None => sys::fork()?,
    };
    let Forked::Parent(pid) = made else {
        // Comes back only when it fails; the parent sees that nothing was opened.
        let _ = Command::new(program).args(["blink", token]).exec();
        std::process::exit(1);
    };
    wait_for(pid)?;
    Ok(pid)
}

/// `bomb MILLIS`: every process forks without end, and so do its children, as far as they are let.
fn bomb(words: &[&str]) -> Result<Outcome> {
    let deadline = deadline(words)?;
    let mut started = 0_u64;
    while Instant::now() < deadline {
        match sys::fork() {
            Ok(Forked::Child) => explode(deadline),
            Ok(Forked::Parent(_)) => started += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
        while matches!(waitpid(None, WaitOptions::NOHANG), Ok(Some(_))) {}
    }
    while waitpid(None, WaitOptions::empty()).is_ok() {}
    Ok(Outcome::facts([("started", started.to_string())]))
}

/// A child of the bomb: makes two more and ends, or ends at once when it may not.
fn explode(deadline: Instant) -> ! {
    for _ in 0..2 {
        if Instant::now() < deadline && matches!(sys::fork(), Ok(Forked::Child)) {
            explode(deadline);
        }
    }
    while waitpid(None, WaitOptions::empty()).is_ok() {}
    sys::process::end_now()
}

fn wait_for(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let ended = waitpid(pid, WaitOptions::empty()).map_err(io::Error::from)?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => bail!("a short-lived process failed: {ended:?}"),
    }
}

fn deadline(words: &[&str]) -> Result<Instant> {
    let time = Duration::from_millis(number(words, 0)?);
    Ok(Instant::now() + time.min(LONGEST))
}

/// Does it on `times` as many threads as there are processors; the sum of what they count.
fn everywhere(times: usize, work: impl Fn() -> Result<u64> + Sync) -> Result<u64> {
    let threads = times * std::thread::available_parallelism().map_or(1, usize::from);
    let sum = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    sum.fetch_add(work()?, Ordering::Relaxed);
                    anyhow::Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(sum.into_inner())
}
