//! `storm`: what portwatch costs in a flood of SYNs, and what the flood does to portwatch: its memory, and the listeners that it
//! is to tell of meanwhile.
//!
//! Floods come from `tests/src/bin/flood`: each SYN from another sender, at a listener in a network namespace of its own.
//! Connections that are completed are the load of `rate`, measured here again in the same run.

mod among;
mod cost;
mod flood;
mod held;

use anyhow::Result;

use super::Bench;
use super::lab::Lab;
use super::rate;
use super::table::Row;

pub(super) const BENCH: Bench = Bench {
    name: "storm",
    title: "A flood of SYNs at the machine's maximum, and connections beside it",
    run,
};

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = cost::of_each_answer(lab)?;
    let connections = rate::of_daemon(lab)?.into_iter();
    rows.extend(connections.map(|row| Row {
        what: format!("connections completed (`rate`): {}", row.what),
        ..row
    }));
    rows.extend(held::memory(lab)?);
    rows.extend(among::listeners(lab)?);
    Ok(rows)
}
