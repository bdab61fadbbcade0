//! A Kafka cluster: librdkafka's stand-in for one, within a kcat that is its consumer as well and prints what comes.
//!
//! Debian has no broker. The stand-in speaks the protocol as librdkafka's makers wrote it, on ports of its own choice, and
//! keeps its log in memory: killed, it has lost what its consumer had not printed. It takes neither TLS nor logins.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::program::{Program, find};
use super::watch::scale;

/// The topic that it has, with four partitions.
pub const TOPIC: &str = "portwatch";
/// Brokers of it, so that most leaders are another one than who is asked first.
const BROKERS: u16 = 3;
/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A cluster.
#[derive(Debug)]
pub struct KafkaCluster {
    /// Where it is found, also after it was started again.
    pub port: u16,
    /// Its brokers of now.
    pub brokers: Vec<u16>,
    /// One of them.
    now: Arc<AtomicU16>,
    printed: Arc<Mutex<Vec<String>>>,
    program: Option<Program>,
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Its partition.
    pub partition: String,
    /// Its time, ms since 1970.
    pub ms: i64,
    /// Its key.
    pub key: String,
    /// Its headers: `NAME=VALUE`, with commas between.
    pub headers: String,
    /// What it is.
    pub value: String,
}

/// What to skip a test with where there is no kcat.
#[must_use]
pub fn missing() -> String {
    "kcat is not here: run `cargo xtask test --only needs`".to_owned()
}

/// kcat, with what it needs to find the cluster.
fn kcat() -> Option<Command> {
    find("kcat").map(Command::new)
}

impl KafkaCluster {
    /// Starts one; none where there is no kcat.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Option<Self>> {
        if kcat().is_none() {
            return Ok(None);
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut this = Self {
            port: listener.local_addr()?.port(),
            brokers: Vec::new(),
            now: Arc::default(),
            printed: Arc::default(),
            program: None,
        };
        let now = Arc::clone(&this.now);
        // Ends with the process of the tests.
        thread::spawn(move || relay(&listener, &now));
        this.restart()?;
        Ok(Some(this))
    }

    /// Starts it anew, with nothing in its log.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let mut program = Program::start(|_| {
            let mut command = kcat().context("kcat is not here any more")?;
            command
                .args(["-C", "-u", "-t", TOPIC, "-o", "beginning", "-b", "none"])
                .args(["-X", &format!("test.mock.num.brokers={BROKERS}")])
                .args(["-X", "check.crcs=true", "-X", "fetch.wait.max.ms=10"])
                .args(["-f", r"%p\t%T\t%k\t%h\t%s\n"]);
            Ok(command)
        })?;
        let mut output = BufReader::new(program.output()?);
        let printed = Arc::clone(&self.printed);
        thread::spawn(move || {
            let mut line = String::new();
            // One that a kill cut off is none.
            while output
                .read_line(&mut line)
                .is_ok_and(|_| line.ends_with('\n'))
            {
                locked(&printed).push(line.trim_end_matches('\n').to_owned());
                line.clear();
            }
        });
        let deadline = Instant::now() + PATIENCE * scale();
        let ports = loop {
            if let Some(ports) = ports(&program.errors()) {
                break ports;
            }
            if Instant::now() > deadline {
                bail!("no cluster: {}", program.errors());
            }
            thread::sleep(LOOK);
        };
        let first = ports.first().copied().context("a cluster of nobody")?;
        self.now.store(first, Ordering::Relaxed);
        self.brokers = ports;
        self.program = Some(program);
        Ok(())
    }

    /// Ends it without asking. What it had not printed is lost.
    ///
    /// # Errors
    /// It cannot be.
    pub fn kill(&mut self) -> Result<()> {
        self.now.store(0, Ordering::Relaxed);
        self.signal(Signal::KILL)?;
        drop(self.program.take());
        Ok(())
    }

    /// Stops it where it is, with all its connections.
    ///
    /// # Errors
    /// It cannot be.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It cannot be.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(program) = &self.program else {
            return Ok(());
        };
        let pid = i32::try_from(program.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, signal).context("no signal can be sent")
    }

    /// What was consumed so far, over all restarts.
    #[must_use]
    pub fn consumed(&self) -> Vec<Consumed> {
        let printed = locked(&self.printed);
        printed.iter().filter_map(|line| parse(line)).collect()
    }

    /// Waits until this is so of what was consumed.
    ///
    /// # Errors
    /// It is not in time.
    pub fn wait(&self, is_so: impl Fn(&[Consumed]) -> bool) -> Result<Vec<Consumed>> {
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            let consumed = self.consumed();
            if is_so(&consumed) {
                return Ok(consumed);
            }
            if Instant::now() > deadline {
                bail!("{} records, and not those: {}", consumed.len(), self.log());
            }
            thread::sleep(LOOK);
        }
    }

    /// What it wrote of itself.
    #[must_use]
    pub fn log(&self) -> String {
        let program = self.program.as_ref();
        program.map(Program::errors).unwrap_or_default()
    }

    /// Produces a record by the producer of librdkafka, with the partitioner of Kafka's Java client.
    ///
    /// # Errors
    /// It does not.
    pub fn produce(&self, key: &str, value: &str) -> Result<()> {
        let mut command = kcat().context("kcat is not here any more")?;
        command
            .args([
                "-P",
                "-q",
                "-t",
                TOPIC,
                "-k",
                key,
                "-X",
                "topic.partitioner=murmur2",
            ])
            .args(["-b", &format!("127.0.0.1:{}", self.port)]);
        let program = Program::start(|folder| {
            let path = folder.path().join("value");
            std::fs::write(&path, value)?;
            command.arg(path);
            Ok(command)
        })?;
        self.wait(|all| all.iter().any(|one| one.value == value))
            .with_context(|| program.errors())
            .map(drop)
    }
}

fn locked(printed: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of `… replaced with 127.0.0.1:39777,127.0.0.1:37897`.
fn ports(log: &str) -> Option<Vec<u16>> {
    let (_, brokers) = log.split_once("replaced with ")?;
    // Whole only with its end.
    let (brokers, _) = brokers.split_once('\n')?;
    let port = |broker: &str| broker.rsplit_once(':')?.1.parse().ok();
    brokers.split(',').map(port).collect()
}

fn parse(line: &str) -> Option<Consumed> {
    let mut fields = line.splitn(5, '\t');
    let mut field = || fields.next().map(str::to_owned);
    Some(Consumed {
        partition: field()?,
        ms: field()?.parse().ok()?,
        key: field()?,
        headers: field()?,
        value: field()?,
    })
}

/// Leads to a broker of now whoever comes; nowhere while there is none.
fn relay(listener: &TcpListener, now: &AtomicU16) {
    for client in listener.incoming().flatten() {
        let Ok(broker) = TcpStream::connect(("127.0.0.1", now.load(Ordering::Relaxed))) else {
            continue;
        };
        for (from, to) in [(&client, &broker), (&broker, &client)] {
            let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
                continue;
            };
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }
}
