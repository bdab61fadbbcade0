//! Real programs of the host: found, run in process groups and folders of their own, and cleaned away.

use std::ffi::CString;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::watch::scale;
use crate::sys::process::unshare_mounts;

/// How long a program may take until it listens: it is read from a cold disk, beside whatever else the machine does.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a program may take to end after it was asked to.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The same when nobody asks any more how it ended.
const DROP_PATIENCE: Duration = Duration::from_millis(500);

/// The first program of this name on `PATH` that can be run, or one that `cargo xtask test` has unpacked.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let more = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .chain(
            unpacked()
                .into_iter()
                .flat_map(|tree| ["bin", "sbin"].map(|folder| tree.join(folder))),
        )
        .map(|folder| folder.join(name))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// The `/usr` of programs of which the host must not have the service.
#[must_use]
pub fn unpacked() -> Option<PathBuf> {
    Some(cache()?.join("tools/usr"))
}

/// Where `cargo xtask test` has unpacked a server with its libraries.
pub(super) fn server(name: &str) -> Option<PathBuf> {
    let tree = cache()?.join(name).join("tree");
    tree.is_dir().then_some(tree)
}

fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.filter(|cache| cache.is_absolute()).or_else(home)?;
    Some(cache.join("portwatch"))
}

/// A TCP port of loopback that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_tcp_port() -> Result<u16> {
    free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// A UDP port of loopback that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_udp_port() -> Result<u16> {
    free_port(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

/// Each port once, below those that the kernel gives to clients and to binds without a number: nobody
/// else of this suite gets it between our look and its use.
fn free_port(is_free: impl Fn(u16) -> bool) -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 10_000)?;
    (0..1_000)
        .map(|_| start + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000)
        .find(|&port| is_free(port))
        .context("no free port below the ephemeral ones")
}

/// A program that runs in the background; its whole process group is killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    /// Starts the command, made for an empty folder that is its own, in a process group of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(make: impl FnOnce(&TempDir) -> Result<Command>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portwatch-program-")
            .tempdir()?;
        let mut command = make(&folder)?;
        let errors = fs::File::create(folder.path().join("errors"))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, folder })
    }

    /// The same for a program that may be one of those that are only unpacked: then it sees the host as if its package
    /// were installed.
    ///
    /// # Errors
    /// It cannot be started, or nothing can be mounted for it.
    pub fn start_unpacked(
        program: &Path,
        make: impl FnOnce(&TempDir) -> Result<Command> + Send,
    ) -> Result<Self> {
        let Some(tree) = unpacked().filter(|tree| program.starts_with(tree)) else {
            return Self::start(make);
        };
        let shared = tree.join("share");
        let start = || {
            // Of this thread alone, and of what it starts.
            unshare_mounts().context("no mounts of its own")?;
            let layers = CString::new(format!("lowerdir={}:/usr/share", shared.display()))?;
            mount(
                "overlay",
                "/usr/share",
                "overlay",
                MountFlags::RDONLY,
                Some(&*layers),
            )
            .context("its files cannot be shown to it")?;
            Self::start(make)
        };
        let ended = std::thread::scope(|scope| scope.spawn(start).join());
        ended.map_err(|_| anyhow!("starting it panicked"))?
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    #[must_use]
    pub const fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// What it prints.
    ///
    /// # Errors
    /// Taken already.
    pub fn output(&mut self) -> Result<std::process::ChildStdout> {
        self.child
            .stdout
            .take()
            .context("the output was taken already")
    }

    /// The target of its `/proc/PID/exe`.
    ///
    /// # Errors
    /// It is gone.
    pub fn exe(&self) -> Result<String> {
        let exe = fs::read_link(format!("/proc/{}/exe", self.pid())).context(self.errors())?;
        exe.into_os_string()
            .into_string()
            .ok()
            .context("an executable that is no UTF-8")
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(&mut self) -> Result<()> {
        self.end_within(END_PATIENCE * scale())
    }

    fn end_within(&mut self, patience: Duration) -> Result<()> {
        kill_process(pid(&self.child).context("no pid")?, Signal::TERM)?;
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the program does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Asked first, so that a server can wait for its own children; then whatever is left of the
        // group. All of it may be gone already, which is as good.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.end_within(DROP_PATIENCE);
        }
        if let Some(group) = pid(&self.child) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx on this port of loopback, answering every request with one word.
///
/// # Errors
/// It cannot be started or does not listen.
pub fn nginx(program: &Path, port: u16, workers: u32) -> Result<Program> {
    let running = Program::start(|folder| {
        let configuration = folder.path().join("nginx.conf");
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.path().display()))
            .collect();
        fs::write(
            &configuration,
            format!(
                "daemon off; worker_processes {workers}; pid {}/pid; error_log stderr;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; {paths}\
                 server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }} }}\n",
                folder.path().display()
            ),
        )?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "stderr", "-c"])
            .arg(configuration);
        Ok(command)
    })?;
    wait_for(port).with_context(|| running.errors())?;
    Ok(running)
}

/// Waits until somebody listens on this port of loopback.
///
/// # Errors
/// Nobody does in time.
pub fn wait_for(port: u16) -> Result<()> {
    let deadline = Instant::now() + START_PATIENCE * scale();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
