//! The run: fills the daemon's tables, then, minute by minute, makes a noise, falls silent, compares and
//! measures.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::watch::scale;
use serde_json::Value;

use crate::actors::{self, Shop};
use crate::audit::{Audit, audit};
use crate::sample::{Sample, sample};
use crate::stage::{Entrance, Player, Stage};
use crate::stream::{Kind, Stream};
use crate::truth::Truth;
use crate::{guests, programs};

/// Of each minute, for the noise; the rest is for silence.
const NOISE: Duration = Duration::from_secs(45);
const MINUTE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_secs(5);
/// Players at a time, residents not counted.
const CROWD: usize = 12;
/// Readings at the end of a silence, and the time before each of them.
const READINGS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// The daemon's longest memory, of closed listeners, holds 16 384; that of processes is bounded by bytes.
const FILL: u32 = 20_000;
const FILL_PART: u32 = 500;
/// How long what is owed may take to be told after the last listener is closed.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Who may come, and how often beside the others.
const CAST: [(usize, Entrance); 17] = [
    (4, programs::nginx),
    (3, programs::redis),
    (3, programs::python_http),
    (3, programs::python_udp),
    (3, programs::activation),
    (4, programs::burst),
    (10, actors::shop),
    (5, actors::in_namespace),
    (3, actors::as_nobody),
    (4, actors::exec),
    (4, actors::thread),
    (4, actors::refused),
    (5, actors::fork),
    (5, actors::pass),
    (12, actors::blinks),
    (12, guests::guest),
    (2, guests::hangup),
];

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Every few seconds, whatever is going on.
    pub(crate) samples: Vec<Sample>,
    /// Only in silence, after the tables were full.
    pub(crate) idle: Vec<Sample>,
    pub(crate) audits: Vec<Audit>,
    /// When the tables were full.
    pub(crate) filled: Duration,
    /// Processes that the daemon remembered then.
    pub(crate) remembered: u64,
    /// Why it ended before its time.
    pub(crate) broken: Option<String>,
    /// The daemon's last `status`.
    pub(crate) status: Value,
    /// The whole run, with its end.
    pub(crate) took: Duration,
}

/// A run in progress.
pub(crate) struct Run {
    pub(crate) stream: Stream,
    pub(crate) stage: Stage,
    pub(crate) daemon: Daemon,
    home: Home,
    residents: Vec<Box<dyn Player>>,
    players: Vec<Box<dyn Player>>,
    samples: Vec<Sample>,
    next_sample: Instant,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let start = Instant::now();
        let home = Home::new()?;
        let daemon = home.start(None)?;
        let stream = Stream::start(home.command()?, start)?;
        let socket = home.path("run").join("portwatch.sock");
        let stage = Stage::new(Truth::new(start), seed, (daemon.pid(), socket))?;
        let run = Self {
            stream,
            stage,
            daemon,
            home,
            residents: Vec::new(),
            players: Vec::new(),
            samples: Vec::new(),
            next_sample: start,
        };
        run.knock()?;
        Ok(run)
    }

    /// Plays for this many minutes after the tables are full.
    pub(crate) fn play(&mut self, minutes: u32) -> Result<Outcome> {
        for enter in [programs::nginx, actors::fork, actors::in_namespace] {
            self.residents.extend(enter(&mut self.stage)?);
        }
        self.residents.push(Shop::resident(&mut self.stage)?);
        let remembered = self.fill()?;
        let mut outcome = Outcome {
            samples: Vec::new(),
            idle: Vec::new(),
            audits: Vec::new(),
            filled: self.stage.truth.now(),
            remembered,
            status: Value::Null,
            broken: None,
            took: Duration::ZERO,
        };
        let played = (1..=minutes).try_for_each(|minute| self.minute(minute, &mut outcome));
        let ended = played.and_then(|()| {
            outcome.status = self.status()?;
            self.finish()
        });
        outcome.broken = ended.err().map(|error| format!("{error:#}"));
        outcome.samples = std::mem::take(&mut self.samples);
        outcome.took = self.stage.truth.now();
        Ok(outcome)
    }

    /// Noise, silence, comparison, measurement.
    fn minute(&mut self, minute: u32, outcome: &mut Outcome) -> Result<()> {
        let end = Instant::now() + MINUTE;
        while Instant::now() + (MINUTE - NOISE) < end {
            self.act()?;
        }
        self.silence()?;
        let audit = self.audit()?;
        println!(
            "minute {minute}: {} listeners so far, {} open, agreed after {:.1} s, {} disagreements",
            self.stage.truth.listeners().len(),
            audit.open,
            audit.took.as_secs_f32(),
            audit.disagreements.len(),
        );
        outcome.audits.push(audit);
        for _ in 0..READINGS {
            std::thread::sleep(PAUSE);
            let sample = self.sample()?;
            outcome.idle.push(sample);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Waits until `tail` hears what happens now: it may have come after the daemon was ready.
    fn knock(&self) -> Result<()> {
        let deadline = Instant::now() + LAST_WORDS * scale();
        while Instant::now() < deadline {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            let inode = rustix::fs::fstat(&listener)?.st_ino;
            let fits = |told: &crate::stream::Told| told.inode == inode;
            if self
                .stream
                .await_event(Duration::from_millis(300) * scale(), fits)?
            {
                return Ok(());
            }
        }
        bail!("portwatch tail hears nothing")
    }

    /// Short-lived processes until the daemon's memories are as full as they get.
    fn fill(&mut self) -> Result<u64> {
        let mut remembered = 0;
        for _ in 0..FILL / FILL_PART {
            actors::blink(&mut self.stage, FILL_PART, 4)?;
            self.sample_if_due()?;
        }
        // However many there were: no more are remembered than before.
        for _ in 0..FILL / FILL_PART {
            let status = self.status()?;
            let now = status["counters"]["process_table"].as_u64().unwrap_or(0);
            if now <= remembered {
                break;
            }
            remembered = now;
            actors::blink(&mut self.stage, FILL_PART, 4)?;
            self.sample_if_due()?;
        }
        println!(
            "tables full after {:.0} s and {} listeners: {remembered} processes remembered",
            self.stage.truth.now().as_secs_f32(),
            self.stage.truth.listeners().len()
        );
        Ok(remembered)
    }

    /// Somebody comes, goes, or does something.
    fn act(&mut self) -> Result<()> {
        let stage = &mut self.stage;
        let somebody = stage.chance.below(self.players.len());
        if self.players.len() < CROWD && stage.chance.percent(40) {
            let total: usize = CAST.iter().map(|(weight, _)| weight).sum();
            let mut ticket = stage.chance.below(total);
            let scene = CAST.iter().find(|(weight, _)| {
                let is_mine = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                is_mine
            });
            if let Some((_, enter)) = scene {
                self.players.extend(enter(stage)?);
            }
        } else if !self.players.is_empty() && stage.chance.percent(35) {
            self.players.swap_remove(somebody).leave(stage)?;
        } else if let Some(player) = self.players.get_mut(somebody) {
            player.step(stage)?;
        }
        let pause = stage.chance.millis(1, 120);
        std::thread::sleep(pause);
        self.sample_if_due()
    }

    /// Everybody leaves but the residents: the same state every minute.
    fn silence(&mut self) -> Result<()> {
        while let Some(player) = self.players.pop() {
            player.leave(&mut self.stage)?;
            self.sample_if_due()?;
        }
        Ok(())
    }

    fn audit(&self) -> Result<Audit> {
        let except = [std::process::id(), self.daemon.pid()];
        audit(|| self.home.command(), &self.stage.truth, &except)
    }

    fn status(&self) -> Result<Value> {
        let deadline = Instant::now() + LAST_WORDS * scale();
        loop {
            let mut status = self.home.command()?;
            let output = status.args(["status", "-o", "json"]).output()?;
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).context("status is no JSON");
            }
            if Instant::now() > deadline {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("portwatch status does not answer: {}", said.trim());
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn sample(&mut self) -> Result<Sample> {
        let sample = sample(self.daemon.pid(), self.stage.truth.now())?;
        self.samples.push(sample);
        Ok(sample)
    }

    fn sample_if_due(&mut self) -> Result<()> {
        if Instant::now() >= self.next_sample {
            self.sample()?;
            self.next_sample = Instant::now() + BEAT;
        }
        Ok(())
    }

    /// Even the residents leave; then waits for every closing that is owed.
    fn finish(&mut self) -> Result<()> {
        while let Some(resident) = self.residents.pop() {
            resident.leave(&mut self.stage)?;
        }
        let deadline = Instant::now() + LAST_WORDS * scale();
        while self.owed() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
        }
        // And for what comes although nothing is owed.
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// Openings that were told and closings that were not.
    fn owed(&self) -> usize {
        let story = self.stream.story();
        let mut open = HashSet::new();
        for told in &story.told {
            if told.kind == Kind::Closed {
                open.remove(&told.inode);
            } else if told.ours && told.pid != self.daemon.pid() {
                open.insert(told.inode);
            }
        }
        open.len()
    }
}
