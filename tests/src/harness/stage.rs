//! A daemon of one's own for what is told of storms: what is named, how soon, how it ends, and what is named wrongly.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::daemon::{Daemon, Home};
use super::watch::{Watch, scale};
use super::{Actor, Context, Event, Kind, Outcome, Sock};

/// How long an episode takes to begin or to end at most, where nothing else is promised.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What is told of a storm's beginning.
const STARTED: &str = "storm.started";
const ENDED: &str = "storm.ended";
const SCAN: &str = "scan.detected";

/// A daemon of its own, and somebody who listens to it.
#[derive(Debug)]
pub struct Stage {
    /// Its folders.
    pub home: Home,
    /// It.
    pub daemon: Daemon,
    /// What it tells.
    pub watch: Watch,
}

/// A listener in a network namespace of its own.
#[derive(Debug)]
pub struct Place {
    /// Whose it is.
    pub actor: Actor,
    /// Inode of the namespace.
    pub netns: u64,
    /// The listener.
    pub sock: Sock,
    /// Its port.
    pub port: u16,
}

/// An event, and how long after its cause it came.
#[derive(Clone, Debug)]
pub struct Named {
    /// The event.
    pub event: Event,
    /// Since the storm or scan began.
    pub after: Duration,
}

impl Place {
    /// A TCP listener on loopback, in a new namespace where invented senders can be answered.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn new(token: &str, backlog: u32) -> Result<Self> {
        Self::at(token, "127.0.0.1:0", backlog)
    }

    /// The same on an address which may be one that the namespace does not have yet.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn at(token: &str, address: &str, backlog: u32) -> Result<Self> {
        let mut actor = Actor::start(token)?;
        let netns = actor.call("unshare-net")?.number("netns")?;
        actor.call("senders")?;
        if let Some((host, _)) = address
            .split_once(':')
            .filter(|(host, _)| *host != "127.0.0.1")
        {
            actor.call(&format!("address {host}"))?;
        }
        let sock = actor.listener(Kind::TCP4, address, backlog)?;
        let port = actor.port(&sock)?;
        Ok(Self {
            actor,
            netns,
            sock,
            port,
        })
    }
}

impl Stage {
    /// With this configuration.
    ///
    /// # Errors
    /// It does not start.
    pub fn new(context: &Context, config: &str) -> Result<Self> {
        let home = Home::new()?;
        fs::write(home.path("portwatch.toml"), config)?;
        let daemon = home.start(context.rung())?;
        let watch = home.tail(&[])?;
        Ok(Self {
            home,
            daemon,
            watch,
        })
    }

    /// Waits until the place's listener is known, and the first look after that is old.
    ///
    /// # Errors
    /// It is not known.
    pub fn knows(&self, place: &Place) -> Result<()> {
        let deadline = Instant::now() + PATIENCE * scale();
        let wanted = format!("\"inode\":{},", place.sock.inode);
        loop {
            let listed = self.home.command()?.args(["ls", "-o", "json"]).output()?;
            if String::from_utf8_lossy(&listed.stdout).contains(&wanted) {
                break;
            }
            ensure!(Instant::now() < deadline, "the listener is not known");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// The answer of `portwatch COMMAND -o json`.
    ///
    /// # Errors
    /// It fails.
    pub fn ask(&self, command: &str) -> Result<Value> {
        let mut asked = self.home.command()?;
        let output = asked.args([command, "-o", "json"]).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}: {told}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The mechanism that a signal got.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn mechanism(&self, signal: &str) -> Result<String> {
        let status = self.ask("status")?;
        let mut all = status["mechanisms"].as_array().into_iter().flatten();
        let ours = all.find(|one| one["signal"] == signal);
        let name = ours.and_then(|one| one["mechanism"].as_str());
        Ok(name.context("no such signal")?.to_owned())
    }

    /// Wants portwatch to say what it does not see of this signal.
    ///
    /// # Errors
    /// It does not.
    pub fn admits(&self, signal: &str) -> Result<Outcome> {
        let status = self.ask("status")?;
        let mut all = status["mechanisms"].as_array().into_iter().flatten();
        let ours = all.find(|one| one["signal"] == signal);
        let ours = ours.context("no such signal")?;
        let blind_to = ours["blind_to"].as_str().unwrap_or_default();
        ensure!(
            !blind_to.is_empty(),
            "it does not say what it misses: {ours}"
        );
        Ok(Outcome::Skipped(format!(
            "{signal} by {} does not see it, and says so",
            ours["mechanism"].as_str().unwrap_or_default()
        )))
    }

    /// Wants a storm named; `began` is when it began.
    ///
    /// # Errors
    /// It is not named in time.
    pub fn storm(
        &self,
        (after, began): (usize, Instant),
        kind: &str,
        is_ours: impl Fn(&Event) -> bool,
    ) -> Result<Named> {
        let event = self.watch.next_after(after, PATIENCE, |event| {
            event.kind() == STARTED && event.at("storm.kind") == kind && is_ours(event)
        });
        let event = event.ok_or_else(|| anyhow!("no {kind} {}", self.named_after(after)))?;
        let after = event.arrived.saturating_duration_since(began);
        Ok(Named { event, after })
    }

    /// Wants this episode to end, once, and to be the only one of its kind here.
    ///
    /// # Errors
    /// It does not end, or began or ended more than once.
    pub fn end_of(&self, named: &Event) -> Result<Event> {
        let ended = self.end_of_one(named)?;
        for what in [STARTED, ENDED] {
            let count = self
                .watch
                .all(|event| event.kind() == what && is_same(event, named));
            ensure!(
                count.len() == 1,
                "{} of {what}: {}",
                count.len(),
                named.brief()
            );
        }
        Ok(ended)
    }

    /// Wants this episode to end, whatever was before it.
    ///
    /// # Errors
    /// It does not.
    pub fn end_of_one(&self, named: &Event) -> Result<Event> {
        let ended = self.watch.next_after(named.index, PATIENCE, |event| {
            event.kind() == ENDED && is_same(event, named)
        });
        let ended = ended.with_context(|| format!("no end of {}", named.brief()))?;
        ensure!(
            ended.at("storm.episode") == named.at("storm.episode"),
            "another episode: {}",
            ended.value()
        );
        Ok(ended)
    }

    /// How many storms of this kind were named: each is to be told once, of what causes it.
    #[must_use]
    pub fn count(&self, kind: &str, is_ours: impl Fn(&Event) -> bool) -> usize {
        let is_one = |event: &Event| {
            event.kind() == STARTED && event.at("storm.kind") == kind && is_ours(event)
        };
        self.watch.all(is_one).len()
    }

    /// Kinds that were named of this namespace or of this process, besides those that are meant; since there is that process, for
    /// another scenario's namespace, which is gone, may have had the same number.
    #[must_use]
    pub fn wrong(&self, netns: u64, pid: u32, meant: &[&str]) -> Vec<String> {
        let born = born(pid);
        let is_about = |event: &Event| {
            let places = ["storm.netns", "socket.netns", "scan.netns"];
            event.has_pid(pid)
                || places
                    .iter()
                    .any(|place| event.number(place) == Some(netns))
        };
        let named = self.watch.all(|event| {
            (event.kind() == STARTED || event.kind() == SCAN)
                && born.is_none_or(|born| event.arrived >= born)
                && is_about(event)
                && !meant.contains(&kind_of(event))
        });
        named
            .iter()
            .map(|event| kind_of(event).to_owned())
            .collect()
    }

    /// What was named instead, for the text of a failure.
    fn named_after(&self, after: usize) -> String {
        let all = self
            .watch
            .all(|event| event.index >= after && (event.kind() == STARTED || event.kind() == SCAN));
        let briefs: Vec<String> = all.iter().map(Event::brief).collect();
        format!("but {briefs:?}")
    }
}

/// When this process began.
fn born(pid: u32) -> Option<Instant> {
    /// `USER_HZ` is 100 everywhere.
    const TICK: u64 = 10;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    let age = now.checked_sub(Duration::from_millis(ticks.checked_mul(TICK)?))?;
    Instant::now().checked_sub(age)
}

/// Are they about the same?
fn is_same(one: &Event, other: &Event) -> bool {
    let keys = ["storm.kind", "storm.key", "storm.netns", "process.pid"];
    keys.iter().all(|key| one.at(key) == other.at(key))
}

/// The kind of a storm; scans are `port-scan`.
fn kind_of(event: &Event) -> &str {
    match event.kind() {
        SCAN => "port-scan",
        _ => event.text("storm.kind"),
    }
}

/// One line of the table in docs/storms.md.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The kind that should be named; empty where none should.
    pub kind: &'a str,
    /// Under which circumstances.
    pub case: &'a str,
    /// By which mechanism its signal is seen.
    pub mechanism: &'a str,
    /// How soon it was named; none if it was not.
    pub named: Option<Duration>,
    /// What was named wrongly.
    pub wrong: &'a [String],
}

/// Writes down what was named of a case, and wants nothing to be named wrongly.
///
/// # Errors
/// Something was.
pub fn measured(
    context: &Context,
    kind: &str,
    case: &str,
    mechanism: &str,
    named: Option<&Named>,
    wrong: &[String],
) -> Result<()> {
    let measured = Measured {
        kind,
        case,
        mechanism,
        named: named.map(|named| named.after),
        wrong,
    };
    measured.note(context)
}

impl Measured<'_> {
    /// Writes it down, and wants nothing to be named wrongly.
    ///
    /// # Errors
    /// Something was.
    pub fn note(&self, context: &Context) -> Result<()> {
        let ms = self.named.map(|after| after.as_millis());
        let soon = ms.map_or_else(|| "not seen".to_owned(), |ms| format!("{ms} ms"));
        eprintln!(
            "| {} | {} | {} | {soon} | {} |",
            self.kind,
            self.case,
            self.mechanism,
            self.wrong.len()
        );
        context.found(
            "storm",
            &json!({
                "kind": self.kind, "case": self.case, "mechanism": self.mechanism,
                "ms": ms.and_then(|ms| u64::try_from(ms).ok()), "wrong": self.wrong,
            }),
        );
        ensure!(
            self.wrong.is_empty(),
            "{}, {}: named as well: {:?}",
            self.kind,
            self.case,
            self.wrong
        );
        Ok(())
    }

    /// Writes down that it cannot be seen here, which portwatch says.
    ///
    /// # Errors
    /// As [`Measured::note`] and [`Stage::admits`].
    pub fn unseen(&self, context: &Context, stage: &Stage, signal: &str) -> Result<Outcome> {
        self.note(context)?;
        stage.admits(signal)
    }
}

/// Wants it to have been named this soon.
///
/// # Errors
/// It was not.
pub fn in_time(named: &Named, limit: Duration) -> Result<()> {
    ensure!(
        named.after <= limit * scale(),
        "named after {:?}: {}",
        named.after,
        named.event.brief()
    );
    Ok(())
}

/// Wants a count to be what it should be, give or take so many percent.
///
/// # Errors
/// It is not.
pub fn about(what: &str, told: Option<u64>, truth: u64, percent: u64) -> Result<()> {
    let Some(told) = told else {
        bail!("no {what}, {truth} in truth");
    };
    let slack = (truth * percent).div_ceil(100);
    ensure!(
        told.abs_diff(truth) <= slack,
        "{what} is {told}, {truth} in truth, of which {percent} % may be wrong"
    );
    Ok(())
}

/// Does it in the network namespace of this process, on a thread of its own: what it starts is there too.
///
/// # Errors
/// What it does fails, or the namespace is gone.
pub fn within<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| bail!("the thread panicked"))
    })
}
