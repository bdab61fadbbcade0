//! Actors from the outside: started, commanded, identified, and cleaned away.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::kind::{Kind, Sock};
use super::locate;
use super::watch::scale;
use crate::address::{Address, hex};
use crate::channel::Channel;

/// How long an actor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A copy of a program that another thread's fork still holds open for writing cannot be run yet.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);

/// Facts of an answer.
#[derive(Clone, Debug)]
pub struct Answer(String);

impl Answer {
    /// The value of `key=`.
    ///
    /// # Errors
    /// The actor did not say.
    pub fn text(&self, key: &str) -> Result<&str> {
        let mut facts = self.0.split(' ').filter_map(|fact| fact.split_once('='));
        let (_, value) = facts
            .find(|(name, _)| *name == key)
            .with_context(|| format!("the actor did not say {key}: {}", self.0))?;
        Ok(value)
    }

    /// The same as a number.
    ///
    /// # Errors
    /// The actor did not say, or said something else.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse()
            .ok()
            .with_context(|| format!("{key}={text} is no number"))
    }
}

/// How to start an actor.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Another path than the actor's own.
    pub program: Option<PathBuf>,
    /// Another name than the path as first argument.
    pub name: Option<std::ffi::OsString>,
    /// Links of the chain between harness and actor.
    pub chain: u32,
    /// More arguments, behind the token.
    pub more: Vec<std::ffi::OsString>,
}

/// A running actor, and who it is.
#[derive(Debug)]
pub struct Actor {
    child: Child,
    channel: Channel,
    sockets: u32,
    /// Its process id.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its executable, as the kernel resolves it; what is no UTF-8 in it is replaced.
    pub exe: String,
    /// Its arguments, the same way.
    pub args: Vec<String>,
    /// Its real user.
    pub uid: u32,
}

impl Actor {
    /// Starts an actor whose arguments hold this token.
    ///
    /// # Errors
    /// It cannot be found or started.
    pub fn start(token: &str) -> Result<Self> {
        Self::launch(token, &Launch::default())
    }

    /// Starts an actor in a special way.
    ///
    /// # Errors
    /// It cannot be found or started.
    pub fn launch(token: &str, how: &Launch) -> Result<Self> {
        let program = how.program.clone().map_or_else(locate::actor, Ok)?;
        let (ours, theirs) = UnixStream::pair().context("no socket pair")?;
        let mut command = Command::new(&program);
        if let Some(name) = &how.name {
            command.arg0(name);
        }
        let depth = how.chain.to_string();
        match how.chain {
            0 => command.args(["serve", token]),
            _ => command.args(["chain", &depth, token]),
        };
        command
            .args(&how.more)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .process_group(0);
        let child = spawn_patiently(&mut command)?;
        drop(command);
        let mut channel = Channel::new(ours);
        channel.set_patience(PATIENCE * scale())?;
        let who = ask(&mut channel, "whoami")?;
        let exe = program.to_string_lossy().into_owned();
        let name = how
            .name
            .as_ref()
            .map_or_else(|| exe.clone(), |name| name.to_string_lossy().into_owned());
        Ok(Self {
            child,
            channel,
            sockets: 0,
            pid: who.number("pid")?,
            ppid: who.number("ppid")?,
            uid: who.number("uid")?,
            exe,
            args: [name, "serve".to_owned(), token.to_owned()]
                .into_iter()
                .chain(
                    how.more
                        .iter()
                        .map(|arg| arg.to_string_lossy().into_owned()),
                )
                .collect(),
        })
    }

    /// Gives a command and wants it obeyed.
    ///
    /// # Errors
    /// The command was refused, or the actor is gone.
    pub fn call(&mut self, command: &str) -> Result<Answer> {
        ask(&mut self.channel, command)
    }

    /// Gives a command and wants it refused; the errno's name.
    ///
    /// # Errors
    /// The command was obeyed, or the actor is gone.
    pub fn refused(&mut self, command: &str) -> Result<String> {
        match answer(&mut self.channel, command)? {
            Ok(_) => bail!("`{command}` was not refused"),
            Err(told) => Ok(told.split(' ').next().unwrap_or_default().to_owned()),
        }
    }

    /// Opens a socket in a new slot.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn socket(&mut self, kind: Kind) -> Result<Sock> {
        self.sockets += 1;
        let slot = format!("s{}", self.sockets);
        let (domain, number, protocol) = kind.numbers;
        let answer = self.call(&format!("socket {slot} {domain} {number} {protocol}"))?;
        Ok(Sock {
            slot,
            kind,
            fd: answer.number("fd")?,
            inode: answer.number("inode")?,
            netns: answer.number("netns")?,
        })
    }

    /// Binds.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn bind(&mut self, sock: &Sock, address: &Address) -> Result<()> {
        self.call(&format!("bind {} {address}", sock.slot))
            .map(drop)
    }

    /// Listens.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn listen(&mut self, sock: &Sock, backlog: u32) -> Result<()> {
        self.call(&format!("listen {} {backlog}", sock.slot))
            .map(drop)
    }

    /// A TCP-like listener on this address.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn listener(&mut self, kind: Kind, address: &str, backlog: u32) -> Result<Sock> {
        let sock = self.socket(kind)?;
        self.bind(&sock, &Address::inet(address)?)?;
        self.listen(&sock, backlog)?;
        Ok(sock)
    }

    /// The name that the kernel gave it.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn name(&mut self, sock: &Sock) -> Result<Address> {
        self.call(&format!("name {}", sock.slot))?
            .text("address")?
            .parse()
    }

    /// The address of an inet socket.
    ///
    /// # Errors
    /// It is no inet socket.
    pub fn inet_name(&mut self, sock: &Sock) -> Result<SocketAddr> {
        match self.name(sock)? {
            Address::Inet(inet) => Ok(inet),
            other => bail!("{other} is no inet address"),
        }
    }

    /// The port of an inet socket.
    ///
    /// # Errors
    /// It is no inet socket.
    pub fn port(&mut self, sock: &Sock) -> Result<u16> {
        Ok(self.inet_name(sock)?.port())
    }

    /// The cookie of a socket. Asking makes one, so ask after the event.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn cookie(&mut self, sock: &Sock) -> Result<u64> {
        self.call(&format!("cookie {}", sock.slot))?
            .number("cookie")
    }

    /// Closes its descriptor.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn close(&mut self, sock: &Sock) -> Result<()> {
        self.call(&format!("close {}", sock.slot)).map(drop)
    }

    /// Sets the working directory.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn chdir(&mut self, folder: &Path) -> Result<()> {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str());
        self.call(&format!("chdir {}", hex(bytes))).map(drop)
    }

    /// A descriptor of the socket, passed to this process.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn pass(&mut self, sock: &Sock) -> Result<OwnedFd> {
        self.call(&format!("pass {}", sock.slot))?;
        self.channel.take_descriptor().context("no descriptor came")
    }

    /// Gives the actor a descriptor, into the slot of the same name.
    ///
    /// # Errors
    /// The actor is gone.
    pub fn take(&mut self, sock: &Sock, fd: BorrowedFd<'_>) -> Result<()> {
        self.channel
            .send(&format!("take {}", sock.slot), Some(fd))?;
        read_answer(&mut self.channel, "take")?
            .map(drop)
            .map_err(anyhow::Error::msg)
    }

    /// Replaces its image; slots stay. The arguments change to hold this token.
    ///
    /// # Errors
    /// The new image does not answer.
    pub fn exec(&mut self, token: &str, kept: &[&Sock]) -> Result<()> {
        self.call(&format!("exec {token}"))?;
        self.args = vec![self.exe.clone(), "resume".to_owned(), token.to_owned()];
        self.args
            .extend(kept.iter().map(|sock| format!("{}={}", sock.slot, sock.fd)));
        Ok(())
    }

    /// Replaces its image by another program that is an actor too. The arguments change to hold this
    /// token, and no slot is kept.
    ///
    /// # Errors
    /// The new image does not answer.
    pub fn exec_as(&mut self, program: &Path, token: &str) -> Result<()> {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(program.as_os_str());
        self.call(&format!("exec-as {} {token}", hex(bytes)))?;
        self.exe = program.to_string_lossy().into_owned();
        self.args = vec![self.exe.clone(), "resume".to_owned(), token.to_owned()];
        Ok(())
    }

    /// Ends it as a program ends, and waits. Children that it forked live on.
    ///
    /// # Errors
    /// It does not obey.
    pub fn exit(&mut self) -> Result<()> {
        self.call("exit")?;
        self.child.wait().context("cannot wait for the actor")?;
        Ok(())
    }

    /// Kills it with SIGKILL, and waits.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the actor")?;
        self.child.wait().context("cannot wait for the actor")?;
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // The actor leads a process group: its forks and the links of its chain go with it. All of
        // these may be gone already, which is as good.
        let group = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it, again while the kernel says that the program's file is being written.
///
/// # Errors
/// It cannot be started.
pub fn spawn_patiently(command: &mut Command) -> Result<Child> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => {
                let program = command.get_program().display().to_string();
                return other.with_context(|| format!("cannot start {program}"));
            }
        }
    }
}

fn ask(channel: &mut Channel, command: &str) -> Result<Answer> {
    answer(channel, command)?.map_err(anyhow::Error::msg)
}

/// The answer, or the text of the refusal.
fn answer(channel: &mut Channel, command: &str) -> Result<Result<Answer, String>> {
    channel.send(command, None)?;
    read_answer(channel, command)
}

fn read_answer(channel: &mut Channel, command: &str) -> Result<Result<Answer, String>> {
    let line = channel
        .receive()
        .with_context(|| format!("after `{command}`"))?
        .with_context(|| format!("the actor ended at `{command}`"))?;
    match line.split_once(' ') {
        _ if line == "ok" => Ok(Ok(Answer(line))),
        Some(("ok", _)) => Ok(Ok(Answer(line))),
        Some(("err", told)) => Ok(Err(told.to_owned())),
        _ => bail!("the actor said {line:?}"),
    }
}

/// A descriptor's socket inode, for sockets that this process holds itself.
///
/// # Errors
/// It is no socket.
pub fn own_inode(fd: &impl std::os::fd::AsFd) -> Result<u64> {
    Ok(rustix::fs::fstat(fd.as_fd())?.st_ino)
}
