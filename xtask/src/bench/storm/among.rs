//! Listeners that are opened at a beat among a flood: all must be told, and the daemon must have lost nothing.

use anyhow::{Context as _, Result};
use portwatch::event::RingName;
use portwatch::interface::status::Status;
use serde_json::Value;

use super::super::lab::Lab;
use super::super::table::{Budget, Row};
use super::flood::{Answer, Poured};

const LISTENERS: u32 = 1_000;
const QUICK: u32 = 200;
const ROUNDS: usize = 5;

/// How much of the machine floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Senders {
    /// One processor: where there are more, there is one for who is told.
    One,
    /// All of them.
    All,
}

/// Percentiles that are told.
const PERCENTILES: [&str; 3] = ["p50", "p99", "max"];
/// The bound that the scenario `floods::among_new_listeners` keeps, in microseconds within portwatch.
const LATE: Budget = Budget::AtMost(10_000.0);

/// Rows of all floods.
pub(super) fn listeners(lab: &Lab) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    let count = if lab.quick { QUICK } else { LISTENERS }.to_string();
    for senders in [Senders::One, Senders::All] {
        for answer in Answer::ALL {
            let arguments = ["listeners", "--count", &count];
            let arguments = [&arguments, senders.arguments(), answer.arguments()].concat();
            let rounds = (0..lab.rounds_up_to(ROUNDS)).map(|_| {
                let round = Round::parse(&lab.measure("flood", &arguments)?)?;
                println!("  {} by {}: {round:?}", answer.label(), senders.label());
                anyhow::Ok(round)
            });
            let rounds: Vec<Round> = rounds.collect::<Result<_>>()?;
            all.extend(rows(senders, answer, &rounds));
        }
    }
    Ok(all)
}

impl Senders {
    const fn label(self) -> &'static str {
        match self {
            Self::One => "one processor",
            Self::All => "all processors",
        }
    }

    /// Arguments that the program takes for it.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::One => &["--threads", "1"],
            Self::All => &[],
        }
    }
}

/// What one round found.
#[derive(Clone, Debug, PartialEq)]
struct Round {
    poured: Poured,
    /// Listeners that a probe told, in percent; those that were found by looking again were lost before.
    told: f64,
    /// From `listen` to the reader, by [`PERCENTILES`], in microseconds.
    whole: [f64; PERCENTILES.len()],
    /// From the kernel's time of it until the line was made, at most.
    inside: f64,
    /// Critical records that were lost.
    critical: f64,
    /// Everything that was lost, critical or not.
    lost: f64,
    /// From the first SYN until the storm was told, in milliseconds, where it was.
    named: Option<f64>,
}

impl Round {
    /// Of the object that the program prints. Pure.
    fn parse(told: &Value) -> Result<Self> {
        let number = |pointer: &str| {
            let number = told.pointer(pointer).and_then(Value::as_f64);
            number.with_context(|| format!("flood does not say {pointer}: {told}"))
        };
        let status = |place: &str| -> Result<Status> {
            let status = told.pointer(place).context("flood gives no status")?;
            Ok(serde_json::from_value(status.clone())?)
        };
        let (before, after) = (status("/status/0")?, status("/status/1")?);
        let since = |of: fn(&Status) -> u64| of(&after).saturating_sub(of(&before)) as f64;
        let all = number("/listeners")?;
        let mut whole = [0.0; PERCENTILES.len()];
        for (value, name) in whole.iter_mut().zip(PERCENTILES) {
            *value = number(&format!("/whole_us/{name}"))?;
        }
        let gaps = number("/gaps")?.max(since(|status| status.losses.gaps));
        Ok(Self {
            poured: Poured::parse(told)?,
            told: (number("/told")? - number("/by_looking")?) / all * 100.0,
            whole,
            inside: number("/inside_us/max")?,
            critical: since(critical),
            // A gap tells of one record at least.
            lost: since(Status::lost_total).max(gaps),
            named: number("/named_ms").ok(),
        })
    }
}

/// Records of listeners that the ring had no room for, or that did not arrive.
fn critical(status: &Status) -> u64 {
    let ring = status
        .rings
        .iter()
        .filter(|ring| ring.ring == RingName::Critical);
    let dropped: u64 = ring.map(|ring| ring.dropped).sum();
    let lost = status.losses.by_ring.get("critical").copied();
    // A dropped record is a lost one as soon as its gap is told.
    dropped.max(lost.unwrap_or(0))
}

/// What the table says. Pure.
fn rows(senders: Senders, answer: Answer, rounds: &[Round]) -> Vec<Row> {
    let of = |number: &dyn Fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(number).collect() };
    let row = |what: &str, unit, samples: &[f64]| {
        let flood = format!(
            "listeners among SYNs {}, by {}",
            answer.label(),
            senders.label()
        );
        Row::new(format!("{flood}: {what}"), unit, samples)
    };
    let nothing = Budget::AtMost(0.0);
    let mut rows = vec![
        row("SYNs", "SYN/s", &of(&|round| round.poured.rate())),
        row("told by probes", "%", &of(&|round| round.told)).within(Budget::AtLeast(100.0)),
        row(
            "critical records lost",
            "records",
            &of(&|round| round.critical),
        )
        .within(nothing),
        row("anything lost", "records", &of(&|round| round.lost)).within(nothing),
    ];
    for (place, name) in PERCENTILES.into_iter().enumerate() {
        let samples = rounds.iter().filter_map(|round| round.whole.get(place));
        let samples: Vec<f64> = samples.copied().collect();
        rows.push(row(
            &format!("`listen()` to a line, {name}"),
            "µs",
            &samples,
        ));
    }
    let inside = of(&|round| round.inside);
    rows.push(row("of which within portwatch, max", "µs", &inside).within(LATE));
    let named: Vec<f64> = rounds.iter().filter_map(|round| round.named).collect();
    rows.push(if named.is_empty() {
        Row::missing(
            row("the flood is told after", "ms", &[]).what,
            "ms",
            "it was not told",
        )
    } else {
        row("the flood is told after", "ms", &named)
    });
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::table::Verdict;
    use super::*;

    fn status(dropped: u64, lost: u64, gaps: u64) -> Value {
        let ring = |name, dropped| {
            json!({"ring": name, "seen": 9, "emitted": 9, "dropped": dropped, "filtered": 0,
                   "capacity_bytes": 4096, "pending_records": 0})
        };
        json!({
            "schema": "portwatch.status/1", "version": "0.1.0", "pid": 1, "ready": true,
            "host": {"name": "a", "id": "b", "boot_id": "c", "kernel": "6.1"},
            "mechanisms": [], "listeners": {"total": 0, "by_protocol": {}},
            "counters": {"events": {}, "transitions_total": 0, "transitions": [], "udp_autobinds": 0, "process_table": 0},
            "rings": [ring("critical", dropped), ring("process", 77)],
            "losses": {"gaps": gaps, "lost": lost, "by_ring": {"critical": lost}, "client_missed": 0, "decode_errors": 0},
            "clients": [], "enrich": {"table": 0, "queue": 0, "skipped": 0},
        })
    }

    fn told(count: u32, after: &Value) -> Value {
        json!({
            "syns": 3_000_000, "seconds": 2.0, "cpu_seconds": 3.0, "cookies": 0,
            "listeners": 1000, "told": count, "by_looking": 0,
            "whole_us": {"p50": 150.0, "p90": 300.0, "p99": 900.0, "max": 12_000.0},
            "inside_us": {"max": 11_000.0},
            "gaps": 0, "status": [status(2, 2, 1), after],
        })
    }

    #[test]
    fn what_was_lost_before_the_flood_is_not_its_loss() {
        let round = Round::parse(&told(1000, &status(2, 2, 1))).expect("a round");
        assert_eq!((round.told, round.critical, round.lost), (100.0, 0.0, 0.0));
        assert_eq!(round.whole, [150.0, 900.0, 12_000.0]);
        assert_eq!(round.named, None);
    }

    #[test]
    fn every_loss_shows() {
        let dropped = Round::parse(&told(999, &status(3, 2, 1))).expect("a round");
        assert_eq!((dropped.told, dropped.critical), (99.9, 1.0), "no gap yet");
        let lost = Round::parse(&told(1000, &status(2, 5, 2))).expect("a round");
        assert_eq!((lost.critical, lost.lost), (3.0, 3.0));
        let gap = Round::parse(&told(1000, &status(2, 2, 3))).expect("a round");
        assert_eq!(gap.lost, 2.0, "not counted yet");
    }

    #[test]
    fn a_listener_that_was_found_by_looking_was_lost() {
        let mut found = told(1000, &status(2, 2, 1));
        found["by_looking"] = json!(10);
        assert_eq!(Round::parse(&found).expect("a round").told, 99.0);
    }

    #[test]
    fn a_missing_listener_a_loss_and_a_late_line_break_budgets() {
        let round = Round::parse(&told(999, &status(3, 5, 2))).expect("a round");
        let rows = rows(Senders::One, Answer::Cookie, &[round]);
        let broken = rows
            .iter()
            .filter(|row| row.verdict() == Some(Verdict::NotMet));
        assert_eq!(broken.count(), 4, "told, critical, anything, late");
        let last = rows.last().expect("rows");
        assert_eq!(last.not_measured.as_deref(), Some("it was not told"));
    }
}
