//! What the daemon holds in memory before, during and after a flood in which no sender comes twice.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::super::lab::Lab;
use super::super::markdown::number;
use super::super::process::Memory;
use super::super::table::{Budget, Row};
use super::flood::{Answer, Poured};

/// SYNs, each from another sender.
const SYNS: u32 = 10_000_000;
const QUICK: u32 = 300_000;
const ROUNDS: usize = 3;
/// Longest time of a flood, in milliseconds: a machine that sends 35,000 a second is in time.
const LONGEST: &str = "300000";
/// The first seconds still see what the daemon's start began.
const SETTLED: Duration = Duration::from_secs(2);
/// From the end of the flood until it is looked at again: its storm is still told of.
const AFTER: Duration = Duration::from_secs(2);
/// Between two looks during the flood.
const LOOK: Duration = Duration::from_millis(100);
/// What an idle daemon may hold, it may hold in a flood.
const ANONYMOUS: Budget = Budget::AtMost(10.0);

/// A part of the memory.
struct Part {
    what: &'static str,
    bytes: fn(Memory) -> u64,
    budget: Option<Budget>,
}

const PARTS: [Part; 2] = [
    Part {
        what: "anonymous memory (RssAnon)",
        bytes: |memory| memory.anonymous,
        budget: Some(ANONYMOUS),
    },
    Part {
        what: "memory of BPF maps (memlock)",
        bytes: |memory| memory.maps,
        budget: None,
    },
];
const TIMES: [&str; 3] = ["before", "during, at most", "2 s after"];

/// Rows of both answers.
pub(super) fn memory(lab: &Lab) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for answer in Answer::ALL {
        let rounds = lab.rounds_up_to(ROUNDS);
        let samples = (0..rounds).map(|_| one(lab, answer));
        let samples: Vec<[Memory; TIMES.len()]> = samples.collect::<Result<_>>()?;
        all.extend(rows(answer, syns(lab), &samples));
    }
    Ok(all)
}

const fn syns(lab: &Lab) -> u32 {
    if lab.quick { QUICK } else { SYNS }
}

fn one(lab: &Lab, answer: Answer) -> Result<[Memory; TIMES.len()]> {
    let daemon = lab.daemon("")?;
    std::thread::sleep(SETTLED);
    let before = Memory::of(daemon.pid())?;
    let count = syns(lab).to_string();
    let arguments = ["syns", "--count", &count, "--millis", LONGEST];
    let arguments = [&arguments, answer.arguments()].concat();
    let mut during = before;
    let told = std::thread::scope(|scope| {
        let flood = scope.spawn(|| lab.measure("flood", &arguments));
        while !flood.is_finished() {
            during = during.max(Memory::of(daemon.pid())?);
            std::thread::sleep(LOOK);
        }
        flood.join().unwrap_or_else(|_| bail!("the flood panicked"))
    })?;
    let poured = Poured::parse(&told).context("no flood")?;
    ensure!(
        poured.syns >= f64::from(syns(lab)),
        "only {} of {count} SYNs could be sent in {LONGEST} ms",
        poured.syns
    );
    std::thread::sleep(AFTER);
    let after = Memory::of(daemon.pid())?;
    println!("  {before:?}, {during:?}, {after:?}");
    Ok([before, during, after])
}

/// What the table says. Pure.
fn rows(answer: Answer, syns: u32, samples: &[[Memory; TIMES.len()]]) -> Vec<Row> {
    let mut rows = Vec::new();
    let flood = format!("{} SYNs {}", number(f64::from(syns)), answer.label());
    for part in PARTS {
        for (place, when) in TIMES.iter().enumerate() {
            let then = samples.iter().filter_map(|times| times.get(place));
            let megabytes: Vec<f64> = then
                .map(|&memory| (part.bytes)(memory) as f64 / 1e6)
                .collect();
            rows.push(Row {
                budget: part.budget,
                ..Row::new(format!("{flood}: {}, {when}", part.what), "MB", &megabytes)
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_its_own_row_and_only_anonymous_memory_a_budget() {
        let memory = |anonymous, maps| Memory {
            anonymous,
            maps,
            ..Memory::default()
        };
        let round = [
            memory(2_000_000, 30),
            memory(3_000_000, 31),
            memory(2_500_000, 32),
        ];
        let rows = rows(Answer::Cookie, 10_000_000, &[round]);
        let medians: Vec<_> = rows
            .iter()
            .map(|row| row.estimate.map(|one| one.median))
            .collect();
        assert_eq!(medians[..3], [Some(2.0), Some(3.0), Some(2.5)]);
        assert_eq!(rows.iter().filter(|row| row.budget.is_some()).count(), 3);
        assert!(
            rows[1]
                .what
                .contains("10\u{202f}000\u{202f}000 SYNs answered by cookies"),
            "{}",
            rows[1].what
        );
    }
}
