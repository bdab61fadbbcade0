//! `transition`: how long a probe runs for one state change of a socket, as the kernel measures it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::lab::Lab;
use super::load::Load;
use super::order::shuffled;
use super::probes::{Measuring, Runs};
use super::table::{Budget, Row};
use super::watcher::Watcher;

pub(super) const BENCH: Bench = Bench {
    name: "transition",
    title: "Time in the kernel for one TCP state change",
    run,
};

const WATCHERS: [(Watcher, Option<Budget>); 6] = [
    (Watcher::Run, Some(Budget::AtMost(60.0))),
    (Watcher::AttachedTail, None),
    (Watcher::Tcpstates, None),
    (Watcher::Tcplife, None),
    (Watcher::Bpftrace, None),
    (Watcher::EmptyBpftrace, None),
];
const ROUND: Duration = Duration::from_secs(1);

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let load = lab.load()?;
    let _measuring = Measuring::start()?;
    let mut samples = WATCHERS.map(|_| Vec::new());
    let mut troubles = WATCHERS.map(|(watcher, _)| watcher.prepare().err());
    for round in 0..lab.rounds {
        for place in shuffled(round, WATCHERS.len()) {
            let (Some((watcher, budget)), Some(samples), Some(trouble)) = (
                WATCHERS.get(place),
                samples.get_mut(place),
                troubles.get_mut(place),
            ) else {
                continue;
            };
            if trouble.is_some() {
                continue;
            }
            match measure(lab, &load, *watcher) {
                Ok(each) => {
                    println!("  {each:>9.1} ns  {}", watcher.label());
                    samples.push(each);
                }
                Err(error) if budget.is_some() => return Err(error),
                Err(error) => *trouble = Some(error),
            }
        }
    }
    let rows = WATCHERS.iter().zip(&samples).zip(&troubles);
    let rows = rows.map(|(((watcher, budget), samples), trouble)| {
        let row = match trouble {
            Some(error) => Row::missing(watcher.label(), "ns", format!("{error:#}")),
            None => Row::new(watcher.label(), "ns", samples),
        };
        Row {
            budget: *budget,
            ..row
        }
    });
    Ok(rows.collect())
}

fn measure(lab: &Lab, load: &Load, watcher: Watcher) -> Result<f64> {
    let at_work = watcher.start(lab)?;
    let pid = at_work.pid().context("nobody watches")?;
    let before = Runs::of_states(pid)?;
    load.run(ROUND)?;
    let after = Runs::of_states(pid)?;
    after.each_since(before).context("the probe never ran")
}
