//! The listener that is flooded, in a network namespace of its own, and its flood.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portwatch_tests::harness::stage::Place;

use super::How;

/// The queue of a listener as servers have it: what the kernel permits where nobody changed it.
const USUAL: u32 = 4_096;
/// A queue in which each SYN finds a place while its request lives, which is one second here. It bounds the memory that the
/// kernel needs for requests, about 300 bytes each.
const ROOM: u32 = 1 << 20;
/// Between the listener's opening and the flood: who watches is to know of it, and requests of a flood before are to be gone.
const SETTLE: Duration = Duration::from_millis(1_100);
/// SYNs and time of one command; the actor takes neither more nor longer.
const COUNT: u64 = 1 << 24;
const TIME: Duration = Duration::from_secs(4);

/// A listener, and how many SYNs it was sent.
#[derive(Debug)]
pub(crate) struct Target {
    place: Place,
    threads: usize,
    sent: u64,
}

/// A flood that is over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Poured {
    /// SYNs.
    pub(crate) sent: u64,
    /// How long it took.
    pub(crate) time: Duration,
    /// What its senders used of processors, the kernel's work with the SYNs among it.
    pub(crate) processors: Duration,
}

impl Target {
    /// Opens it, and gives whoever watches the time to know of it.
    pub(crate) fn new(how: How) -> Result<Self> {
        let mut place = Place::new("flood", USUAL)?;
        place.actor.call("senders 10.0.0.0 8")?;
        if how.requests {
            place.actor.call(&format!("sysctl somaxconn {ROOM}"))?;
            // A request that nobody completes is given up after one second, not after a minute.
            place.actor.call("sysctl tcp_synack_retries 0")?;
            let sock = place.sock.clone();
            place.actor.listen(&sock, ROOM)?;
        }
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match how.threads {
            Some(threads) => usize::try_from(threads)?,
            None => all,
        };
        std::thread::sleep(SETTLE);
        Ok(Self {
            place,
            threads,
            sent: 0,
        })
    }

    /// The process that holds the listener.
    pub(crate) fn pid(&self) -> u32 {
        self.place.actor.pid
    }

    /// Inode of the namespace.
    pub(crate) fn netns(&self) -> u64 {
        self.place.netns
    }

    /// Floods it with so many SYNs, for no longer than that.
    pub(crate) fn pour(&mut self, count: u64, time: Duration) -> Result<Poured> {
        let began = Instant::now();
        let mut poured = Poured::default();
        while poured.sent < count && began.elapsed() < time {
            let part = (count - poured.sent).min(COUNT);
            let millis = time.saturating_sub(began.elapsed()).min(TIME).as_millis();
            let (sent, port, threads) = (self.sent, self.place.port, self.threads);
            let command = format!("pour {sent} {part} {millis} {port} {threads}");
            let answer = self.place.actor.call(&command)?;
            let sent: u64 = answer.number("sent")?;
            // The last millisecond may be too short for a single one.
            ensure!(sent > 0 || millis < 10, "no SYN could be sent");
            self.sent += sent;
            poured.sent += sent;
            poured.time += Duration::from_micros(answer.number("micros")?);
            poured.processors += Duration::from_micros(answer.number("cpu")?);
        }
        Ok(poured)
    }

    /// SYNs that the kernel answered by a cookie.
    pub(crate) fn cookies(&mut self) -> Result<u64> {
        self.place.actor.call("mib SyncookiesSent")?.number("value")
    }
}
