//! The actor's flood at the machine's maximum: SYNs from several threads at once, each from a sender of its own. Bounded in count
//! and in time, and only in a network namespace of the actor's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::packets::{Raw, syn};
use super::{Outcome, number};

/// Senders are all of 10.0.0.0/8; beyond, they begin again with another port.
const SENDERS: u64 = 1 << 24;
/// Longest time of one command: whoever commands waits for the answer.
const LONGEST: Duration = Duration::from_secs(5);
/// Most threads.
const THREADS: usize = 1024;
/// SYNs that a thread takes at a time, between two looks at the clock.
const BURST: u64 = 64;

/// `pour FIRST COUNT MILLIS PORT THREADS`: sends SYNs as fast as so many threads can, until there were so many or the time is
/// over; the nth of all is from the sender of number FIRST + n (`senders 10.0.0.0 8` has them answered).
pub(super) fn pour(words: &[&str]) -> Result<Outcome> {
    let (first, count): (u64, u64) = (number(words, 0)?, number(words, 1)?);
    let time = Duration::from_millis(number(words, 2)?).min(LONGEST);
    let (port, threads): (u16, usize) = (number(words, 3)?, number(words, 4)?);
    ensure!(count <= SENDERS, "at most {SENDERS} SYNs");
    ensure!((1..=THREADS).contains(&threads), "1 to {THREADS} threads");
    let sockets = (0..threads).map(|_| Raw::new());
    let sockets: Vec<Raw> = sockets.collect::<Result<_>>()?;
    let next = AtomicU64::new(0);
    let (start, used) = (Instant::now(), processor_time());
    let one = |socket: &Raw| {
        while start.elapsed() < time {
            let begin = next.fetch_add(BURST, Ordering::Relaxed);
            if begin >= count {
                break;
            }
            for nth in begin..count.min(begin + BURST) {
                let (round, sender) = ((first + nth) / SENDERS, (first + nth) % SENDERS);
                let (round, [.., b, c, d]) = (u32::try_from(round)?, sender.to_be_bytes());
                let sequence = u32::try_from(sender)?;
                socket.send(&syn([10, b, c, d], port, round, sequence))?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = sockets
            .iter()
            .map(|socket| scope.spawn(move || one(socket)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    let sent = next.into_inner().min(count);
    Ok(Outcome::facts([
        ("sent", sent.to_string()),
        ("micros", start.elapsed().as_micros().to_string()),
        ("cpu", (processor_time() - used).as_micros().to_string()),
    ]))
}

/// What this process has used of processors. What the kernel does with a packet on loopback it does on the sender's time, except
/// where it accounts for interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING`).
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
