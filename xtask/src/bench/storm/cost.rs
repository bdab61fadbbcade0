//! What a SYN costs with the daemon in its default mode: SYNs that the machine gets through, beside those without, in turns;
//! and the time of the probes as the kernel measures it, in rounds apart since measuring costs too.

use std::time::Duration;

use anyhow::Result;

use super::super::estimate::paired_cost;
use super::super::lab::Lab;
use super::super::mechanism;
use super::super::order::shuffled;
use super::super::probes::{Measuring, Runs};
use super::super::table::Row;
use super::super::watcher::Watcher;
use super::flood::{Answer, Poured};

const ROUND: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_secs(1);
/// Rounds in which the kernel measures programs.
const MEASURED: usize = 9;

/// What is compared.
type Number = fn(Poured) -> f64;

const WATCHERS: [Watcher; 2] = [Watcher::Again, Watcher::Run];

/// What one way of watching did.
#[derive(Default)]
struct Entry {
    these: Vec<Poured>,
    /// Just before and just after, with nothing watching.
    around: Vec<[Poured; 2]>,
    /// Processor time of the daemon, in percent of the machine.
    daemon: Vec<f64>,
}

/// All rows of both answers.
pub(super) fn of_each_answer(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for answer in Answer::ALL {
        rows.extend(paired(lab, answer)?);
        rows.extend(measured(lab, answer)?);
    }
    Ok(rows)
}

/// SYNs a second and a processor's second, in turns with nothing that watches.
fn paired(lab: &Lab, answer: Answer) -> Result<Vec<Row>> {
    let time = lab.time(ROUND, QUICK);
    let mut entries = WATCHERS.map(|_| Entry::default());
    for round in 0..lab.rounds {
        let mut before = answer.pour(lab, time)?;
        for place in shuffled(round, WATCHERS.len()) {
            let (Some(entry), Some(watcher)) = (entries.get_mut(place), WATCHERS.get(place)) else {
                continue;
            };
            let at_work = watcher.start(lab)?;
            let busy = at_work.on_cpu();
            let this = answer.pour(lab, time)?;
            if let (Some(busy), Some(now)) = (busy, at_work.on_cpu()) {
                // What it used before the first SYN and after the last is little, and counted as if it were the flood's.
                let used = now.saturating_sub(busy).as_secs_f64();
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                let share = used / this.seconds / processors as f64;
                entry.daemon.push(share * 100.0);
            }
            drop(at_work);
            let what = (answer.label(), watcher.label());
            println!("  {:>9.0} SYN/s, {}: {}", this.rate(), what.0, what.1);
            let after = answer.pour(lab, time)?;
            entry.these.push(this);
            entry.around.push([before, after]);
            before = after;
        }
    }
    Ok(rows(answer, &entries))
}

/// What the table says. Pure.
fn rows(answer: Answer, entries: &[Entry; WATCHERS.len()]) -> Vec<Row> {
    let row = |what: &str, unit, samples: &[f64]| {
        Row::new(format!("SYNs {}: {what}", answer.label()), unit, samples)
    };
    let around = entries.iter().flat_map(|entry| &entry.around).flatten();
    let nothing: Vec<Poured> = around.copied().collect();
    let of =
        |all: &[Poured], number: Number| -> Vec<f64> { all.iter().copied().map(number).collect() };
    let mut rows = vec![
        row("nothing watches", "SYN/s", &of(&nothing, Poured::rate)),
        row(
            "answered by a cookie",
            "%",
            &of(&nothing, Poured::by_cookie),
        ),
    ];
    let costs: [(&str, Number); 2] = [
        ("SYNs a second", Poured::rate),
        ("SYNs a processor's second", Poured::per_processor),
    ];
    for (of_what, number) in costs {
        for (entry, watcher) in entries.iter().zip(WATCHERS) {
            let these = of(&entry.these, number);
            let those = entry.around.iter();
            let those = those.map(|[before, after]| f64::midpoint(number(*before), number(*after)));
            let those: Vec<f64> = those.collect();
            let what = format!("cost of {}, in {of_what}", watcher.label());
            rows.push(row(&what, "%", &paired_cost(&these, &those)));
        }
    }
    let nanoseconds = |poured: Poured| 1e9 / poured.per_processor();
    let of_nothing = of(&nothing, nanoseconds);
    rows.push(row(
        "processor time for one, nothing watches",
        "ns",
        &of_nothing,
    ));
    let watched = entries.iter().zip(WATCHERS);
    for (entry, watcher) in watched.filter(|(_, watcher)| *watcher != Watcher::Again) {
        let label = watcher.label();
        let each = of(&entry.these, nanoseconds);
        rows.push(row(
            &format!("processor time for one, {label}"),
            "ns",
            &each,
        ));
        rows.push(row(
            &format!("processor time of {label}"),
            "%",
            &entry.daemon,
        ));
    }
    rows
}

/// What the kernel says of the daemon's programs.
fn measured(lab: &Lab, answer: Answer) -> Result<Vec<Row>> {
    let daemon = lab.daemon("")?;
    let by = mechanism(&daemon.status()?, "tcp.syn");
    let _measuring = Measuring::start()?;
    let (mut all, mut one, mut often) = (Vec::new(), Vec::new(), Vec::new());
    let mut trouble = None;
    for _ in 0..lab.rounds_up_to(MEASURED) {
        let of_syns = || Runs::of_syns(daemon.pid());
        let before = (Runs::of_all(daemon.pid()), of_syns());
        let poured = answer.pour(lab, lab.time(ROUND, QUICK))?;
        let after = (Runs::of_all(daemon.pid()), of_syns());
        let used = after.0.time.saturating_sub(before.0.time);
        all.push(used.as_nanos() as f64 / poured.syns);
        match (before.1, after.1) {
            (Ok(before), Ok(after)) => {
                // Where no SYN came to it, there is no time of a run.
                one.extend(after.each_since(before));
                often.push(after.count.saturating_sub(before.count) as f64 / poured.syns);
            }
            (Err(error), _) | (_, Err(error)) => trouble = Some(format!("{error:#}")),
        }
    }
    println!("  {all:?} ns for one SYN, {one:?} ns a run, {often:?} runs a SYN");
    let what = |what: &str| format!("SYNs {}: {what}", answer.label());
    let mut rows = vec![Row::new(what("time of all probes for one"), "ns", &all)];
    let counts = |words: &str| {
        what(&format!(
            "program that counts them (tcp.syn by {by}), {words}"
        ))
    };
    rows.extend(match trouble {
        Some(why) => vec![Row::missing(counts("one run"), "ns", why)],
        None => vec![
            Row::new(counts("one run"), "ns", &one),
            Row::new(counts("runs for one"), "runs", &often),
        ],
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poured(syns: f64, cpu_seconds: f64) -> Poured {
        Poured {
            syns,
            seconds: 2.0,
            cpu_seconds,
            cookies: 0.0,
        }
    }

    fn median(rows: &[Row], ending: &str) -> Option<f64> {
        let row = rows.iter().find(|row| row.what.ends_with(ending))?;
        row.estimate.map(|estimate| estimate.median)
    }

    /// A machine that is faster and slower by turns: each round is compared with its neighbours.
    #[test]
    fn costs_are_ratios_with_the_neighbours() {
        let round = |factor: f64| Entry {
            these: vec![poured(950.0 * factor, 4.0)],
            around: vec![[poured(900.0 * factor, 2.0), poured(1100.0 * factor, 2.0)]],
            daemon: vec![1.0],
        };
        let mut run = round(1.0);
        let slow = round(0.1);
        run.these.extend(slow.these);
        run.around.extend(slow.around);
        let rows = rows(Answer::Cookie, &[Entry::default(), run]);
        let cost = |what: &str| median(&rows, &format!("cost of `portwatch run`, in {what}"));
        let near = |value: Option<f64>, wanted: f64| {
            assert!(
                value.is_some_and(|value| (value - wanted).abs() < 1e-9),
                "{value:?}"
            );
        };
        near(cost("SYNs a second"), 5.0);
        near(cost("SYNs a processor's second"), 52.5);
        near(median(&rows, "processor time of `portwatch run`"), 1.0);
    }

    #[test]
    fn every_row_names_the_answer_and_nothing_measured_is_said_to_be_missing() {
        let rows = rows(Answer::Request, &Default::default());
        assert!(
            rows.iter()
                .all(|row| row.what.starts_with("SYNs each a request: "))
        );
        assert!(rows.iter().all(|row| row.not_measured.is_some()));
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.what).collect();
        assert_eq!(names.len(), rows.len());
    }
}
