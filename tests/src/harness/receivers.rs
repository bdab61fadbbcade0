//! Receivers of sinks, as Debian has them: rsyslog and nats-server, each from a folder of its own, killed and started
//! again as often as a test likes. What they were given stays.
//!
//! `cargo xtask test --only needs` unpacks them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::program::{Program, free_tcp_port, server, wait_for};
use super::receiver::{Authority, get_json};
use super::watch::scale;

/// A program out of the unpacked tree, with the libraries beside it.
fn program(name: &str) -> Option<Command> {
    let tree = server("receivers")?;
    let libraries = tree.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let loader = fs::read_dir(&libraries).ok()?.flatten().find(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("ld-linux-")
    })?;
    let mut command = Command::new(loader.path());
    command
        .arg("--library-path")
        .arg(&libraries)
        .arg(tree.join("usr/sbin").join(name))
        .env("RSYSLOG_MODDIR", libraries.join("rsyslog"));
    Some(command)
}

/// What to skip a test with where they are not.
#[must_use]
pub fn missing() -> String {
    "rsyslog, nats-server or openssl is not here: run `cargo xtask test --only needs`".to_owned()
}

/// What both have in common: a folder, and a process that comes and goes.
#[derive(Debug)]
struct Life {
    folder: TempDir,
    program: Option<Program>,
}

impl Life {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portwatch-receiver-")
            .tempdir()?;
        Ok(Self {
            folder,
            program: None,
        })
    }

    fn begin(&mut self, command: Command, ports: &[u16]) -> Result<()> {
        let program = Program::start(|_| Ok(command))?;
        for port in ports {
            wait_for(*port).with_context(|| program.errors())?;
        }
        self.program = Some(program);
        Ok(())
    }

    /// Ends it without asking.
    fn kill(&mut self) -> Result<()> {
        let Some(program) = self.program.take() else {
            return Ok(());
        };
        let pid = i32::try_from(program.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::KILL)?;
        drop(program);
        Ok(())
    }
}

/// rsyslog. It writes each message, whole, before it reads the next: what it has read is never lost.
#[derive(Debug)]
pub struct Rsyslog {
    life: Life,
    /// Its authority, whose certificate it shows.
    pub authority: Authority,
    /// TCP.
    pub tcp: u16,
    /// TLS.
    pub tls: u16,
    /// TLS, for those who show a certificate of its authority.
    pub mutual: u16,
    /// RELP.
    pub relp: u16,
}

impl Rsyslog {
    /// Starts one; none where it was not unpacked.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Option<Self>> {
        if program("rsyslogd").is_none() {
            return Ok(None);
        }
        let mut this = Self {
            life: Life::new()?,
            authority: Authority::new()?,
            tcp: free_tcp_port()?,
            tls: free_tcp_port()?,
            mutual: free_tcp_port()?,
            relp: free_tcp_port()?,
        };
        this.configure()?;
        this.restart()?;
        Ok(Some(this))
    }

    /// Starts it again, ended or not.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.life.kill()?;
        let mut command = program("rsyslogd").context("rsyslog is not here any more")?;
        command
            .args(["-n", "-i", "NONE", "-f"])
            .arg(self.path("conf"));
        let ports = [self.tcp, self.tls, self.mutual, self.relp];
        self.life.begin(command, &ports)
    }

    /// Ends it without asking.
    ///
    /// # Errors
    /// It cannot be.
    pub fn kill(&mut self) -> Result<()> {
        self.life.kill()
    }

    /// What it wrote of itself.
    #[must_use]
    pub fn log(&self) -> String {
        let program = self.life.program.as_ref();
        program.map(Program::errors).unwrap_or_default()
    }

    /// Its socket for programs of this host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("log")
    }

    /// What it has written: `PRIORITY MSGID TEXT`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("out")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The same, one line after the other: there may be more of them than memory has room for.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn each_line(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        for line in BufReader::new(File::open(self.path("out"))?).split(b'\n') {
            take(&line?);
        }
        Ok(())
    }

    /// Waits until there are so many lines.
    ///
    /// # Errors
    /// There are not in time.
    pub fn wait_for(&self, count: usize, patience: Duration) -> Result<Vec<String>> {
        wait_for_lines(|| Ok(self.lines()), count, patience)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.life.folder.path().join(name)
    }

    fn configure(&self) -> Result<()> {
        let folder = self.life.folder.path().display();
        let Self {
            tcp,
            tls,
            mutual,
            relp,
            ..
        } = self;
        let [ca, leaf, key] = [
            self.authority.certificate(),
            self.authority.leaf(),
            self.authority.key(),
        ];
        let (ca, leaf, key) = (ca.display(), leaf.display(), key.display());
        let text = format!(
            r#"global(workDirectory="{folder}" maxMessageSize="128k"
 defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{leaf}" defaultNetstreamDriverKeyFile="{key}")
main_queue(queue.type="direct")
module(load="imtcp")
module(load="imrelp")
module(load="imuxsock" SysSock.Use="off")
template(name="whole" type="string" string="%pri% %msgid% %msg:::drop-last-lf%\n")
ruleset(name="all") {{ action(type="omfile" file="{folder}/out" template="whole") }}
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="all"
 streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{mutual}" ruleset="all"
 streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imrelp" address="127.0.0.1" port="{relp}" ruleset="all" maxDataSize="128k")
input(type="imuxsock" Socket="{folder}/log" ruleset="all" RateLimit.Interval="0")
"#
        );
        fs::write(self.path("conf"), text).context("the configuration cannot be written")
    }
}

/// nats-server with JetStream, whose writes are synced before they are acknowledged.
#[derive(Debug)]
pub struct NatsServer {
    life: Life,
    /// Its authority, whose certificate it shows.
    pub authority: Authority,
    /// Where it listens, with TLS.
    pub port: u16,
    /// Where it tells of itself, by HTTP.
    monitor: u16,
}

impl NatsServer {
    /// Starts one with more lines of configuration, such as who may log in; none where it was not unpacked.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(more: &str) -> Result<Option<Self>> {
        if program("nats-server").is_none() {
            return Ok(None);
        }
        let mut this = Self {
            life: Life::new()?,
            authority: Authority::new()?,
            port: free_tcp_port()?,
            monitor: free_tcp_port()?,
        };
        let text = format!(
            "listen: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\nserver_name: test\n\
             jetstream {{ store_dir: \"{}\", max_memory_store: 64MB, max_file_store: 16GB, sync_interval: always }}\n\
             tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n{more}\n",
            this.port,
            this.monitor,
            this.path("store").display(),
            this.authority.leaf().display(),
            this.authority.key().display(),
        );
        fs::write(this.path("conf"), text).context("the configuration cannot be written")?;
        this.restart()?;
        Ok(Some(this))
    }

    /// Starts it again, ended or not.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.life.kill()?;
        let mut command = program("nats-server").context("nats-server is not here any more")?;
        command.arg("-c").arg(self.path("conf"));
        self.life.begin(command, &[self.port, self.monitor])
    }

    /// What it tells of its streams.
    ///
    /// # Errors
    /// It does not answer.
    pub fn streams(&self) -> Result<serde_json::Value> {
        get_json(self.monitor, "/jsz?acc=$G&streams=true&config=true")
    }

    /// All bytes that its streams have on disk.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn stored(&self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.each_stored(|bytes| all.extend_from_slice(bytes))?;
        Ok(all)
    }

    /// Hands on all bytes that its streams have on disk, one file after the other, in the order of their messages. No
    /// message is in two of them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn each_stored(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut blocks = Vec::new();
        let mut folders = vec![self.path("store")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                match path.extension() {
                    _ if path.is_dir() => folders.push(path),
                    Some(extension) if extension == "blk" => blocks.push(path),
                    _ => {}
                }
            }
        }
        // Their names are numbers.
        blocks.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        for path in blocks {
            take(&fs::read(path)?);
        }
        Ok(())
    }

    /// Ends it without asking.
    ///
    /// # Errors
    /// It cannot be.
    pub fn kill(&mut self) -> Result<()> {
        self.life.kill()
    }

    /// What it wrote of itself.
    #[must_use]
    pub fn log(&self) -> String {
        let program = self.life.program.as_ref();
        program.map(Program::errors).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.life.folder.path().join(name)
    }
}

/// Waits until there are so many lines.
fn wait_for_lines(
    lines: impl Fn() -> Result<Vec<String>>,
    count: usize,
    patience: Duration,
) -> Result<Vec<String>> {
    let deadline = Instant::now() + patience * scale();
    loop {
        let all = lines()?;
        if all.len() >= count {
            return Ok(all);
        }
        if Instant::now() > deadline {
            bail!("{} lines of {count}", all.len());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
