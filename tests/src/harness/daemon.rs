//! A `portwatch run` with folders of its own, for what needs the daemon.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::locate;
use super::trigger::own_inode;
use super::watch::{Watch, rung_args, scale};

/// How long the daemon may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long one listener of a starting `tail` is given to be heard of.
const KNOCK: Duration = Duration::from_millis(200);

/// Folders for configuration, state and runtime, removed when dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// Fresh, empty folders.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portwatch-test-")
            .tempdir()?;
        for name in ["state", "run"] {
            fs::create_dir(folder.path().join(name))?;
        }
        fs::write(folder.path().join("portwatch.toml"), "")?;
        Ok(Self { folder })
    }

    /// portwatch with these folders.
    ///
    /// # Errors
    /// There is no portwatch.
    pub fn command(&self) -> Result<Command> {
        Ok(self.command_of(&locate::portwatch()?))
    }

    /// Another copy of portwatch with these folders.
    #[must_use]
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("PORTWATCH_CONFIG", self.path("portwatch.toml"))
            .env("PORTWATCH_STATE_DIR", self.path("state"))
            .env("PORTWATCH_RUNTIME_DIR", self.path("run"))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Lets every user read and enter it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open_to_all(&self) -> Result<()> {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.folder.path(), mode).context("cannot open the folder")
    }

    /// A path in here.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the daemon and waits until `status` gets an answer.
    ///
    /// # Errors
    /// It ends or does not answer in time; shows what it said.
    pub fn start(&self, rung: Option<&str>) -> Result<Daemon> {
        let errors = fs::File::create(self.path("errors"))?;
        let mut command = self.command()?;
        command
            .arg("run")
            .args(rung_args(rung))
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0);
        let mut child = command.spawn().context("cannot start the daemon")?;
        let deadline = Instant::now() + START_PATIENCE * scale();
        loop {
            let ended = child.try_wait()?;
            let answer = self.command()?.args(["status", "-o", "json"]).output()?;
            if answer.status.success() && ended.is_none() {
                return Ok(Daemon { child });
            }
            if ended.is_some() || Instant::now() > deadline {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                let told = fs::read_to_string(self.path("errors")).unwrap_or_default();
                bail!("the daemon does not answer ({ended:?}): {told}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A `tail -o json` that is attached to the daemon: from here on it sees everything.
    ///
    /// # Errors
    /// It does not start, or hears nothing of listeners that are opened for it to hear.
    pub fn tail(&self, extra: &[&str]) -> Result<Watch> {
        let mut command = self.command()?;
        command.args(["tail", "-o", "json"]).args(extra);
        let watch = Watch::read(command)?;
        self.heard_by(&watch)?;
        Ok(watch)
    }

    /// Opens listeners until this `tail` has told of one: then it has told of all that came before.
    ///
    /// # Errors
    /// It hears nothing of them.
    pub fn heard_by(&self, watch: &Watch) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE * scale();
        loop {
            let after = watch.position();
            let knock = TcpListener::bind("127.0.0.1:0")?;
            let inode = own_inode(&knock)?;
            let heard = watch.next_after(after, KNOCK, |event| {
                event.is_opening() && event.has_inode(inode)
            });
            if heard.is_some() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("tail hears nothing {}", watch.told(|_| false));
            }
        }
    }
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal the daemon")
    }

    /// Kills it as a crash would: no clean-up of its own.
    ///
    /// # Errors
    /// It is gone already.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the daemon")?;
        self.child.wait().context("cannot wait for the daemon")?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
