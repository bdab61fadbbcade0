//! What every benchmark needs: the program under test, folders, rounds; and how to start the program.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch::interface::status::Status;
use rustix::process::Signal;
use serde_json::Value;

use super::load::Load;
use super::process::Running;
use super::warden::Warden;

/// How long the daemon may take until it is ready, and a measuring program until it has something to say.
const START: Duration = Duration::from_secs(60);

/// The surroundings of a run.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The program under test.
    pub(crate) portwatch: PathBuf,
    /// Where the measuring programs are.
    pub(crate) programs: PathBuf,
    /// Rounds of a benchmark; slow ones make fewer.
    pub(crate) rounds: usize,
    /// Small counts and short times.
    pub(crate) quick: bool,
    /// Short-lived listeners, where another number than usual is asked for.
    pub(crate) listeners: Option<u32>,
    /// Ends all that is started.
    pub(crate) warden: Warden,
}

/// A `portwatch run` with folders of its own.
#[derive(Debug)]
pub(crate) struct Daemon {
    running: Running,
    home: Home,
    /// From its start until it said that it is ready.
    pub(crate) ready: Duration,
}

/// A measuring program that holds something; when dropped, it lets go, and is waited for.
#[derive(Debug)]
pub(crate) struct Held(Running);

/// Folders of one daemon, and the program that uses them.
#[derive(Debug)]
struct Home {
    folder: PathBuf,
    program: PathBuf,
}

impl Lab {
    /// A folder that is gone after the run.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = self.warden.folder().join(format!("{name}-{number}"));
        fs::create_dir(&folder).context("cannot make a folder")?;
        Ok(folder)
    }

    /// nginx and wrk.
    pub(crate) fn load(&self) -> Result<Load> {
        Load::start(&self.folder("load")?)
    }

    /// A time in the full run, and a shorter one in a quick run.
    pub(crate) const fn time(&self, full: Duration, quick: Duration) -> Duration {
        if self.quick { quick } else { full }
    }

    /// Rounds, but no more than these.
    pub(crate) fn rounds_up_to(&self, most: usize) -> usize {
        self.rounds.min(most)
    }

    /// The daemon, ready; without configuration but for these lines.
    pub(crate) fn daemon(&self, configuration: &str) -> Result<Daemon> {
        let folder = self.folder("daemon")?;
        for name in ["state", "run"] {
            fs::create_dir(folder.join(name)).context("cannot make a folder")?;
        }
        fs::write(folder.join("portwatch.toml"), configuration).context("cannot write")?;
        let home = Home {
            folder,
            program: self.portwatch.clone(),
        };
        let notify = home.folder.join("notify");
        let socket = UnixDatagram::bind(&notify).context("cannot bind")?;
        socket.set_read_timeout(Some(START))?;
        let began = Instant::now();
        let mut command = home.command();
        command.arg("run").env("NOTIFY_SOCKET", &notify);
        let errors = fs::File::create(home.folder.join("errors")).context("cannot write")?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running::spawn(command.stderr(errors))?;
        let mut told = [0; 4096];
        loop {
            let length = socket.recv(&mut told).with_context(|| {
                let errors = fs::read_to_string(home.folder.join("errors")).unwrap_or_default();
                format!("the daemon does not say that it is ready: {errors}")
            })?;
            let words = String::from_utf8_lossy(told.get(..length).unwrap_or_default());
            if words.lines().any(|line| line == "READY=1") {
                return Ok(Daemon {
                    running,
                    home,
                    ready: began.elapsed(),
                });
            }
        }
    }

    /// Runs a measuring program to its end; gives the object that it prints.
    pub(crate) fn measure(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        let output = self
            .program(name)
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .with_context(|| format!("{name} ended with {} and said: {text}", output.status))
    }

    /// A measuring program that holds something until its input ends; returns when it says `ready`.
    pub(crate) fn hold(&self, name: &str, arguments: &[&str]) -> Result<Held> {
        let mut command = self.program(name);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::spawn(&mut command)?;
        let output = running.child().stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "{name} said {line:?}");
        Ok(Held(running))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env("PORTWATCH_BIN", &self.portwatch)
            .env("PORTWATCH_ACTOR", self.programs.join("actor"))
            .env("TMPDIR", self.warden.folder());
        command
    }
}

impl Daemon {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> Result<Status> {
        self.home.status()
    }

    /// A `tail -o json` that reads from it and throws everything away; returns when it is seated.
    pub(crate) fn tail(&self, arguments: &[&str]) -> Result<Running> {
        let before = self.status()?.clients.len();
        let mut command = self.home.command();
        command.args(["tail", "-o", "json"]).args(arguments);
        let mut tail = Running::quiet(&mut command)?;
        tail.wait_until("seat at the daemon", START, |_| {
            self.status()
                .is_ok_and(|status| status.clients.len() > before)
        })?;
        Ok(tail)
    }

    /// Ends it, and waits until it is gone.
    pub(crate) fn end(mut self) -> Result<()> {
        self.running.end(Signal::TERM)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.child().stdin.take());
        let deadline = Instant::now() + START;
        // Beyond that, dropping it ends it.
        while matches!(self.0.child().try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Home {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("PORTWATCH_CONFIG", self.path("portwatch.toml"))
            .env("PORTWATCH_STATE_DIR", self.path("state"))
            .env("PORTWATCH_RUNTIME_DIR", self.path("run"))
            .env_remove("NOTIFY_SOCKET");
        command
    }

    fn status(&self) -> Result<Status> {
        let output = self
            .command()
            .args(["status", "-o", "json"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start portwatch")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("`portwatch status` gives no status: {said}")
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(name)
    }
}
