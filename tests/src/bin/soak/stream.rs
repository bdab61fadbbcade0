//! The told side: `portwatch tail -o json`, of which only what is judged is kept.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use portwatch_tests::harness::Event;

/// Complaints that are kept; more add nothing.
const KEPT: usize = 50;

/// What an event says about a listener.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// `listener.opened`, `.present` or `.closed`.
    pub(crate) kind: Kind,
    /// When its line was read, since the start of the run.
    pub(crate) at: Duration,
    pub(crate) inode: u64,
    pub(crate) pid: u32,
    pub(crate) exe: String,
    pub(crate) protocol: String,
    pub(crate) place: Option<String>,
    /// The last argument.
    pub(crate) token: String,
    /// Network namespace.
    pub(crate) netns: u64,
    /// It descends from this program.
    pub(crate) ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Opened,
    Present,
    Closed,
}

/// All that was told.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) told: Vec<Told>,
    /// Lines by `type`.
    pub(crate) lines: HashMap<String, u64>,
    /// Broken lines and holes in `seq`, in words.
    pub(crate) trouble: Vec<String>,
    /// Times of which a `gap` says that events about listeners were lost, since the start of the run.
    pub(crate) gaps: Vec<(Duration, Duration)>,
    /// All the `gap` events, in words.
    pub(crate) gap_words: Vec<String>,
    /// Records that they stand for.
    pub(crate) lost: u64,
    pub(crate) ended: bool,
}

/// The running `tail`; killed when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    child: Child,
    story: Arc<Mutex<Story>>,
}

impl Stream {
    /// Starts reading. Not before [`Stream::await_event`] has returned does it surely hear everything.
    pub(crate) fn start(mut command: Command, start: Instant) -> Result<Self> {
        let mut child = command
            .args(["tail", "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start portwatch tail")?;
        let output = child.stdout.take().context("tail has no output")?;
        let story = Arc::new(Mutex::new(Story::default()));
        let shared = Arc::clone(&story);
        let wall = SystemTime::now() - start.elapsed();
        std::thread::spawn(move || read(output, (start, wall), &shared));
        Ok(Self { child, story })
    }

    pub(crate) fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something fits.
    ///
    /// # Errors
    /// The stream ended.
    pub(crate) fn await_event(
        &self,
        patience: Duration,
        fits: impl Fn(&Told) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + patience;
        let mut next = 0;
        loop {
            let story = self.story();
            if story.told.iter().skip(next).any(&fits) {
                return Ok(true);
            }
            next = story.told.len();
            if story.ended {
                bail!("portwatch tail ended: {:?}", story.trouble);
            }
            drop(story);
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Story {
    fn complain(&mut self, words: String) {
        if self.trouble.len() < KEPT {
            self.trouble.push(words);
        }
    }

    /// `wall` is when the run started.
    fn gap(&mut self, event: &Event, wall: SystemTime) {
        self.lost += event.number("gap.lost").unwrap_or(1);
        if self.gap_words.len() < KEPT {
            self.gap_words.push(event.at("gap").to_string());
        }
        let start = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let times = ["gap.from", "gap.to"].map(|key| since(start, event.text(key)));
        // Processes that were not seen cost no listener.
        if let [Some(from), Some(to)] = times
            && event.text("gap.ring") != "process"
        {
            self.gaps.push((from, to));
        }
    }
}

fn read(output: ChildStdout, (start, wall): (Instant, SystemTime), shared: &Mutex<Story>) {
    let mut due: Option<u64> = None;
    for (index, line) in BufReader::new(output).split(b'\n').enumerate() {
        let Ok(line) = line else { break };
        let arrived = Instant::now();
        let event = Event::parse(&line, index, arrived);
        let mut story = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                story.complain(format!("line {index}: {error:#}"));
                continue;
            }
        };
        let seq = event.number("seq");
        if seq.is_none() || due.is_some_and(|due| seq != Some(due)) {
            story.complain(format!("seq {seq:?} where {due:?} was due"));
        }
        due = seq.map(|seq| seq + 1);
        *story.lines.entry(event.kind().to_owned()).or_default() += 1;
        if event.kind() == "gap" {
            story.gap(&event, wall);
        }
        story.told.extend(shrink(&event, start));
    }
    shared.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
}

/// What is kept of an event, of `tail` or of `ls`; `None` when it is not about a listener's life.
pub(crate) fn shrink(event: &Event, start: Instant) -> Option<Told> {
    let kind = match event.kind() {
        "listener.opened" => Kind::Opened,
        "listener.present" => Kind::Present,
        "listener.closed" => Kind::Closed,
        _ => return None,
    };
    let me = u64::from(std::process::id());
    let last = |path: &str| Some(event.at(path).as_array()?.last()?.as_str()?.to_owned());
    let ancestors = event.at("process.ancestors").as_array();
    let place = match (
        event.text("socket.address"),
        event.number("socket.port"),
        event.text("socket.path"),
        event.text("socket.abstract"),
    ) {
        (address, Some(port), ..) if !address.is_empty() => Some(format!("{address}:{port}")),
        (_, _, path, _) if !path.is_empty() => Some(path.to_owned()),
        (.., name) if !name.is_empty() => Some(crate::truth::abstract_place(name)),
        _ => None,
    };
    Some(Told {
        kind,
        at: event.arrived.saturating_duration_since(start),
        inode: event.number("socket.inode").unwrap_or(0),
        pid: number(event.number("process.pid")),
        exe: event.text("process.exe").to_owned(),
        protocol: event.text("socket.protocol").to_owned(),
        place,
        token: last("process.args").unwrap_or_default(),
        netns: event.number("socket.netns").unwrap_or(0),
        ours: ancestors.is_some_and(|all| all.iter().any(|one| one["pid"].as_u64() == Some(me))),
    })
}

/// A time of day, `…T23:59:58.9…Z`, as time since the start of the run. Days are not looked at: the times
/// of a gap are of the last minutes.
fn since(start: Duration, text: &str) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let (_, time) = text.split_once('T')?;
    let mut seconds = 0.0;
    for part in time.strip_suffix('Z')?.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    let start = start.as_secs_f64() % DAY;
    // A gap may begin before the run: then at its start.
    let elapsed = (seconds - start + DAY / 2.0).rem_euclid(DAY) - DAY / 2.0;
    Duration::try_from_secs_f64(elapsed.max(0.0)).ok()
}

/// Pids fit; 0 is nobody.
fn number(value: Option<u64>) -> u32 {
    value
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_placed_in_the_run() {
        let start = Duration::from_secs(5 * 86_400 + 86_399);
        let seconds = |text: &str| since(start, text).map(|time| time.as_secs_f64());
        assert_eq!(seconds("2026-11-21T23:59:59.000000000Z"), Some(0.0));
        let late = seconds("2026-11-22T00:00:01.500000000Z").expect("a time");
        assert!((late - 2.5).abs() < 1e-6, "{late}");
        assert_eq!(seconds("2026-11-21T23:00:00Z"), Some(0.0));
        assert_eq!(seconds("no time"), None);
    }
}
