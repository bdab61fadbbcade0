//! What may watch TCP on a machine: nothing, portwatch in its ways, and tools of the distribution.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::lab::{Daemon, Lab};
use super::load::{find, need};
use super::probes;
use super::process::{Running, on_cpu};
use super::table::Budget;

/// How long a tool may take until its probe is loaded.
const START: Duration = Duration::from_secs(60);
/// From a loaded probe to an attached one, and until the tool's start is over.
const SETTLE: Duration = Duration::from_millis(500);
/// From a daemon that watches to one that only watches: meanwhile it reads the programs of what listens, and all sockets once.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Tools look for tracepoints in tracefs, which not every machine has mounted: mounted where only the
/// tool sees it.
const IN_TRACEFS: &str = "\
    [ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; \
    exec \"$@\"";
const PRINTS: &str = "tracepoint:sock:inet_sock_set_state { \
    printf(\"%d %d %d %d\\n\", args->sport, args->dport, args->oldstate, args->newstate); }";
const EMPTY: &str = "tracepoint:sock:inet_sock_set_state { }";
/// What portwatch cannot do without where there are neither kprobes nor trampolines, doing nothing. One program at any system
/// call has the kernel take the slow way into and out of all of them.
const EMPTY_HOOKS: &str = "tracepoint:sock:inet_sock_set_state, \
    tracepoint:syscalls:sys_enter_socket, tracepoint:syscalls:sys_exit_socket, \
    tracepoint:syscalls:sys_enter_bind, tracepoint:syscalls:sys_exit_bind, \
    tracepoint:syscalls:sys_enter_listen, tracepoint:syscalls:sys_exit_listen { }";

/// A way of watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watcher {
    /// Nobody: what two measurements of the same thing differ by.
    Again,
    /// `portwatch run`.
    Run,
    /// `portwatch tail --states` with probes of its own.
    OwnTail,
    /// `portwatch run` with a `portwatch tail --states` attached.
    AttachedTail,
    /// tcpstates of libbpf-tools.
    Tcpstates,
    /// tcplife of libbpf-tools.
    Tcplife,
    /// bpftrace, printing each change.
    Bpftrace,
    /// bpftrace with a probe that does nothing.
    EmptyBpftrace,
    /// The same on system calls too.
    EmptyHooks,
    /// `ss -tan` every 100 ms.
    Ss,
}

/// A watcher at work; it ends when dropped.
#[derive(Debug)]
pub(crate) enum AtWork {
    /// Nobody.
    Nobody,
    /// One process.
    One(Running),
    /// The daemon, and its reader where there is one.
    Daemon(Box<Daemon>, Option<Running>),
    /// A command again and again.
    Often(#[expect(dead_code, reason = "it works until it is dropped")] Often),
}

/// A command that is started at a fixed distance.
#[derive(Debug)]
pub(crate) struct Often {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// The words of its row.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Again => "nothing, measured again (noise)",
            Self::Run => "`portwatch run`",
            Self::OwnTail => "`portwatch tail --states -o json >/dev/null`, probes of its own",
            Self::AttachedTail => {
                "`portwatch run` and `portwatch tail --states -o json >/dev/null`"
            }
            Self::Tcpstates => "tcpstates (libbpf-tools)",
            Self::Tcplife => "tcplife (libbpf-tools)",
            Self::Bpftrace => "bpftrace, printing each change",
            Self::EmptyBpftrace => "bpftrace, an empty probe on the tracepoint",
            Self::EmptyHooks => {
                "bpftrace, empty probes on the tracepoint and at `socket`, `bind` and `listen`"
            }
            Self::Ss => "`ss -tan` every 100 ms",
        }
    }

    /// What it may cost of connections per second, in percent.
    pub(crate) const fn budget(self) -> Option<Budget> {
        match self {
            Self::Run => Some(Budget::AtMost(3.0)),
            Self::OwnTail | Self::AttachedTail => Some(Budget::AtMost(15.0)),
            _ => None,
        }
    }

    /// Installs what it needs.
    pub(crate) fn prepare(self) -> Result<()> {
        match self {
            Self::Tcpstates => need("tcpstates"),
            Self::Tcplife => need("tcplife"),
            Self::Bpftrace | Self::EmptyBpftrace | Self::EmptyHooks => need("bpftrace"),
            Self::Ss => need("ss"),
            _ => Ok(()),
        }
    }

    /// Begins to watch; returns when it does.
    pub(crate) fn start(self, lab: &Lab) -> Result<AtWork> {
        let bpftrace = |program| tracer("bpftrace", &["-e", program]);
        Ok(match self {
            Self::Again => AtWork::Nobody,
            Self::Run => AtWork::Daemon(Box::new(settled(lab)?), None),
            Self::AttachedTail => {
                let daemon = settled(lab)?;
                let tail = daemon.tail(&["--states"])?;
                AtWork::Daemon(Box::new(daemon), Some(tail))
            }
            Self::OwnTail => {
                let mut tail = Command::new(&lab.portwatch);
                tail.args(["tail", "--no-daemon", "--states", "-o", "json"]);
                AtWork::One(watching(&mut tail)?)
            }
            Self::Tcpstates => AtWork::One(watching(&mut tracer("tcpstates", &[])?)?),
            Self::Tcplife => AtWork::One(watching(&mut tracer("tcplife", &[])?)?),
            Self::Bpftrace => AtWork::One(watching(&mut bpftrace(PRINTS)?)?),
            Self::EmptyBpftrace => AtWork::One(watching(&mut bpftrace(EMPTY)?)?),
            Self::EmptyHooks => AtWork::One(watching(&mut bpftrace(EMPTY_HOOKS)?)?),
            Self::Ss => AtWork::Often(Often::start("ss", &["-tan"], Duration::from_millis(100))?),
        })
    }
}

impl AtWork {
    /// How long its processes have run so far; `None` where they come and go.
    pub(crate) fn on_cpu(&self) -> Option<Duration> {
        match self {
            Self::Nobody | Self::Often(_) => None,
            Self::One(running) => on_cpu(running.pid()).ok(),
            Self::Daemon(daemon, reader) => {
                let reader = match reader {
                    Some(reader) => on_cpu(reader.pid()).ok()?,
                    None => Duration::ZERO,
                };
                Some(on_cpu(daemon.pid()).ok()? + reader)
            }
        }
    }

    /// The process whose probe is on the hook.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Nobody | Self::Often(_) => None,
            Self::One(running) => Some(running.pid()),
            Self::Daemon(daemon, _) => Some(daemon.pid()),
        }
    }
}

fn settled(lab: &Lab) -> Result<Daemon> {
    let daemon = lab.daemon("")?;
    std::thread::sleep(FIRST_LOOK);
    Ok(daemon)
}

/// Starts a process and waits until it has a probe on the state changes of sockets.
pub(crate) fn watching(command: &mut Command) -> Result<Running> {
    let mut running = Running::quiet(command)?;
    running.wait_until("probe", START, |pid| probes::of_states(pid).is_some())?;
    std::thread::sleep(SETTLE);
    Ok(running)
}

/// A tool that needs tracefs.
fn tracer(tool: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-c", IN_TRACEFS, "tracefs"])
        .arg(find(tool)?)
        .args(arguments);
    Ok(command)
}

impl Often {
    fn start(tool: &str, arguments: &[&str], distance: Duration) -> Result<Self> {
        let program = find(tool)?;
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let mut command = Command::new(&program);
                // One that fails costs less than one that does not, which would show as a cost of 0.
                if let Ok(mut once) = Running::quiet(command.args(&arguments)) {
                    let _ = once.child().wait();
                }
                next += distance;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        let thread = std::thread::Builder::new().name("often".to_owned());
        let thread = thread.spawn(work).context("cannot start a thread")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Often {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only where the run is lost anyway.
            let _ = thread.join();
        }
    }
}
