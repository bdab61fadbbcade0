//! The other way to look for listeners: `ss -ltnp` again and again. Which of the short-lived ones does it see?

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use portwatch_tests::harness::program::find;

/// A thread that polls.
#[derive(Debug)]
pub(crate) struct Poll {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// What polling saw, beyond what was there before.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Listeners by address, with the process shown, if any was.
    listeners: HashMap<String, Option<u64>>,
    /// Polls made.
    pub(crate) polls: u32,
}

impl Poll {
    /// Begins.
    pub(crate) fn start(distance: Duration) -> Result<Self> {
        let program = find("ss").context("--poll needs ss on PATH")?;
        let once = move || -> Result<String> {
            let mut command = Command::new(&program);
            let output = command.arg("-Hltnp").stdin(Stdio::null()).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let before: HashSet<String> = rows(&once()?).map(|(address, _)| address).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let mut next = Instant::now() + distance;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                next += distance;
                seen.polls += 1;
                seen.add(&once()?, &before);
            }
            Ok(seen)
        });
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the polling thread panicked"))?
    }
}

impl Seen {
    fn add(&mut self, text: &str, before: &HashSet<String>) {
        for (address, pid) in rows(text).filter(|(address, _)| !before.contains(address)) {
            let known = self.listeners.entry(address).or_default();
            *known = known.or(pid);
        }
    }

    /// Listeners that appeared in any poll.
    pub(crate) fn count(&self) -> usize {
        self.listeners.len()
    }

    /// Those shown with one of these processes.
    pub(crate) fn of(&self, pids: &HashSet<u64>) -> usize {
        let shown = self.listeners.values().flatten();
        shown.filter(|pid| pids.contains(pid)).count()
    }
}

/// Address and first process of each line of `ss -Hltnp`. Pure.
fn rows(text: &str) -> impl Iterator<Item = (String, Option<u64>)> {
    text.lines().filter_map(|line| {
        let address = line.split_whitespace().nth(3)?.to_owned();
        let pid = line.split_once("pid=").and_then(|(_, rest)| {
            let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        Some((address, pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "LISTEN 0 128 127.0.0.1:40001 0.0.0.0:* users:((\"actor\",pid=77,fd=3))\n\
                        LISTEN 0 128 127.0.0.1:40002 0.0.0.0:*\n\
                        LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=5,fd=3))\n";

    #[test]
    fn what_was_there_before_does_not_count() {
        let before = HashSet::from(["0.0.0.0:22".to_owned()]);
        let mut seen = Seen::default();
        seen.add(TEXT, &before);
        seen.add("LISTEN 0 128 127.0.0.1:40001 0.0.0.0:*\n", &before);
        assert_eq!(seen.count(), 2);
        assert_eq!(seen.of(&HashSet::from([77, 5])), 1);
        assert_eq!(seen.of(&HashSet::new()), 0);
    }
}
