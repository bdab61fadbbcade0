//! A running `portwatch tail -o json`, read line by line, and the questions a scenario asks of its stream.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::event::Event;
use super::locate;
use super::rungs::{self, Capability, Rung, Sees};

/// How long an exact mechanism may take; an idle machine needs under a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long loading the probes may take; emulation is ten times slower than hardware.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long until looking again must have found a change.
const RECONCILE_PATIENCE: Duration = Duration::from_secs(15);
/// Lines and standard error kept for a failure's text.
const LAST_LINES: usize = 6;

/// What the reading threads have collected.
#[derive(Debug, Default)]
struct Stream {
    events: Vec<Event>,
    broken: Option<String>,
    complaints: String,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    stream: Mutex<Stream>,
    grown: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A portwatch that streams, and what it has said so far. Killed when dropped.
#[derive(Debug)]
pub struct Watch {
    child: Mutex<Child>,
    shared: Arc<Shared>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    rung: Rung,
    /// Signals that nothing but looking again tells of.
    looked_for: Vec<String>,
}

impl Watch {
    /// Starts `portwatch tail -o json --no-daemon`, with `--rung` when one is asked for, and waits
    /// until it says that it watches.
    ///
    /// # Errors
    /// It does not start, or never says `sensor.ready`.
    pub fn start(rung: Option<&str>, extra: &[&str]) -> Result<Self> {
        let mut command = Command::new(locate::portwatch()?);
        command
            .args(["tail", "-o", "json", "--no-daemon"])
            .args(rung_args(rung))
            .args(extra);
        let mut watch = Self::read(command)?;
        let ready = watch
            .wait(START_PATIENCE, 0, |event| event.kind() == "sensor.ready")
            .unwrap_or_else(|| Err(anyhow!("it is silent")))
            .map_err(|error| anyhow!("no sensor.ready: {error} {}", watch.told(|_| false)))?;
        watch.rung = Rung::in_use(&ready);
        watch.looked_for = rungs::looked_for(&ready);
        Ok(watch)
    }

    /// Starts any command that prints events and reads it; does not wait for anything.
    ///
    /// # Errors
    /// It does not start.
    pub fn read(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let shared = Arc::new(Shared::default());
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            readers.push(std::thread::spawn(move || read_events(stdout, &shared)));
        }
        if let Some(stderr) = child.stderr.take() {
            let shared = Arc::clone(&shared);
            readers.push(std::thread::spawn(move || read_complaints(stderr, &shared)));
        }
        Ok(Self {
            child: Mutex::new(child),
            shared,
            readers: Mutex::new(readers),
            rung: Rung::Reconcile,
            looked_for: Vec::new(),
        })
    }

    /// The rung that it said is in use.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }

    /// What it sees of a capability: as its rung does, or as looking again does where no better
    /// mechanism was left for that signal alone.
    #[must_use]
    pub fn sees(&self, capability: Capability) -> Sees {
        let looked_for = |signal: &str| self.looked_for.iter().any(|one| one == signal);
        match capability.signal() {
            Some(signal) if looked_for(signal) => Rung::Reconcile.sees(capability),
            _ => self.rung.sees(capability),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id()
    }

    /// The first event from `after` on that fits, or an error that shows what came instead: events
    /// that `near` finds similar, and the last ones.
    ///
    /// # Errors
    /// None came in time, the stream ended or broke.
    pub fn expect(
        &self,
        what: &str,
        sees: Sees,
        after: usize,
        near: impl Fn(&Event) -> bool,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let patience = match sees {
            Sees::Exactly => PATIENCE,
            Sees::ByReconcile | Sees::No => RECONCILE_PATIENCE,
        };
        match self.wait(patience, after, fits) {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                Err(error.context(format!("while waiting for {what} {}", self.told(near))))
            }
            None => bail!("no {what} within {patience:?} {}", self.told(near)),
        }
    }

    /// Events so far that fit.
    #[must_use]
    pub fn all(&self, fits: impl Fn(&Event) -> bool) -> Vec<Event> {
        self.shared
            .lock()
            .events
            .iter()
            .filter(|event| fits(event))
            .cloned()
            .collect()
    }

    /// The index that the next event will get.
    #[must_use]
    pub fn position(&self) -> usize {
        self.shared.lock().events.len()
    }

    /// The first event from `after` on that fits; `None` when it does not come in time.
    #[must_use]
    pub fn next_after(
        &self,
        after: usize,
        patience: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Option<Event> {
        self.wait(patience, after, fits)?.ok()
    }

    /// Waits until at least `count` events fit, or the patience is at an end; gives those that do.
    #[must_use]
    pub fn gather(
        &self,
        count: usize,
        patience: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Vec<Event> {
        let deadline = Instant::now() + patience * scale();
        let mut found = Vec::new();
        let mut next = 0;
        while found.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(Ok(event)) = self.wait_unscaled(left, next, &fits) else {
                break;
            };
            next = event.index + 1;
            found.push(event);
        }
        found
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn complaints(&self) -> String {
        self.shared.lock().complaints.clone()
    }

    /// Interrupts it as Ctrl-C does, and waits for its end and the end of its output.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn interrupt(&self) -> Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.wait_end()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("no pid")?;
        kill_process(pid, signal).context("portwatch is gone")
    }

    /// Waits for its end and the end of its output.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait_end(&self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE * scale();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("portwatch does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(child);
        for reader in self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            reader
                .join()
                .map_err(|_| anyhow!("a reading thread panicked"))?;
        }
        Ok(status)
    }

    /// The invariants of the whole stream: every line is JSON, `seq` starts at 1 and goes up by
    /// one, ids are unique, and no socket is opened twice without having been closed.
    ///
    /// # Errors
    /// One of them is broken; says where.
    pub fn check_stream(&self) -> Result<()> {
        let stream = self.shared.lock();
        if let Some(broken) = &stream.broken {
            bail!("the stream broke: {broken}");
        }
        let mut last: Option<u64> = None;
        let mut ids = std::collections::HashSet::new();
        let mut open = std::collections::HashMap::new();
        for event in &stream.events {
            let seq = event
                .number("seq")
                .with_context(|| format!("no seq: {}", event.value()))?;
            let due = last.map_or(1, |last| last + 1);
            if seq != due {
                bail!("seq {seq} where {due} is due: {}", event.value());
            }
            last = Some(seq);
            if event.text("schema") != "portwatch.event/1" || !ids.insert(event.text("id")) {
                bail!("a wrong schema or a repeated id: {}", event.value());
            }
            let Some(inode) = event.number("socket.inode") else {
                continue;
            };
            if event.is_opening() {
                if let Some(before) = open.insert(inode, seq) {
                    bail!("socket {inode} opened in seq {before} and again in seq {seq}");
                }
            } else if event.kind() == "listener.closed" && open.remove(&inode).is_none() {
                bail!("socket {inode} closed in seq {seq} without having been opened");
            }
        }
        Ok(())
    }

    /// The text of a failure: what came that is similar, what came last, what portwatch complained of.
    pub(super) fn told(&self, near: impl Fn(&Event) -> bool) -> String {
        let stream = self.shared.lock();
        let similar: Vec<&Event> = stream.events.iter().filter(|event| near(event)).collect();
        let list = |events: &[&Event]| -> String {
            let skip = events.len().saturating_sub(LAST_LINES);
            events
                .iter()
                .skip(skip)
                .map(|event| format!("\n    {}", event.brief()))
                .collect()
        };
        let last: Vec<&Event> = stream.events.iter().collect();
        format!(
            "({} events, {})\n  near misses:{}\n  last lines:{}\n  standard error: {}",
            stream.events.len(),
            if stream.ended {
                "stream ended"
            } else {
                "stream open"
            },
            list(&similar),
            list(&last),
            stream.complaints.trim_end(),
        )
    }

    fn wait(
        &self,
        patience: Duration,
        after: usize,
        fits: impl Fn(&Event) -> bool,
    ) -> Option<Result<Event>> {
        self.wait_unscaled(patience * scale(), after, fits)
    }

    fn wait_unscaled(
        &self,
        patience: Duration,
        after: usize,
        fits: impl Fn(&Event) -> bool,
    ) -> Option<Result<Event>> {
        let deadline = Instant::now() + patience;
        let mut next = after;
        let mut stream = self.shared.lock();
        loop {
            let unseen = stream.events.get(next..).unwrap_or_default();
            if let Some(event) = unseen.iter().find(|event| fits(event)) {
                return Some(Ok(event.clone()));
            }
            next = stream.events.len().max(after);
            if let Some(broken) = &stream.broken {
                return Some(Err(anyhow!("the stream broke: {broken}")));
            }
            if stream.ended {
                return Some(Err(anyhow!("portwatch ended")));
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            stream = self
                .shared
                .grown
                .wait_timeout(stream, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; then both are refused, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Arguments common to every start: the rung, and what the environment adds (`PORTWATCH_TEST_ARGS`).
#[must_use]
pub fn rung_args(rung: Option<&str>) -> Vec<String> {
    let rung = rung
        .into_iter()
        .flat_map(|rung| ["--rung".to_owned(), rung.to_owned()]);
    let more = std::env::var("PORTWATCH_TEST_ARGS").unwrap_or_default();
    rung.chain(more.split_whitespace().map(str::to_owned))
        .collect()
}

/// `PORTWATCH_TEST_SLOWNESS`: a factor on every patience, for emulated machines.
#[must_use]
pub fn scale() -> u32 {
    let told = std::env::var("PORTWATCH_TEST_SLOWNESS").ok();
    told.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Does this program exist and run at all with these arguments?
///
/// # Errors
/// It cannot be started.
pub fn output(args: &[impl AsRef<OsStr>]) -> Result<std::process::Output> {
    Command::new(locate::portwatch()?)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("cannot run portwatch")
}

fn read_events(stdout: impl Read, shared: &Shared) {
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = lines.read_until(b'\n', &mut line);
        let arrived = Instant::now();
        let mut stream = shared.lock();
        match got {
            Ok(0) | Err(_) => {
                stream.ended = true;
                shared.grown.notify_all();
                return;
            }
            Ok(_) => match (
                line.pop(),
                Event::parse(&line, stream.events.len(), arrived),
            ) {
                (Some(b'\n'), Ok(event)) => stream.events.push(event),
                (Some(b'\n'), Err(error)) => stream.broken = Some(format!("{error:#}")),
                _ => stream.broken = Some("half a line at the end".to_owned()),
            },
        }
        shared.grown.notify_all();
    }
}

fn read_complaints(stderr: impl Read, shared: &Shared) {
    for line in BufReader::new(stderr)
        .lines()
        .map_while(std::io::Result::ok)
    {
        let mut stream = shared.lock();
        stream.complaints.push_str(&line);
        stream.complaints.push('\n');
    }
}
