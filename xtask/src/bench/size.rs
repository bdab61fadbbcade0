//! `size`: bytes of the program as it is released.

use anyhow::{Context as _, Result};

use super::Bench;
use super::lab::Lab;
use super::table::{Budget, Row};

pub(super) const BENCH: Bench = Bench {
    name: "size",
    title: "Size of the stripped release binary",
    run,
};

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let meta = lab.portwatch.metadata().context("cannot see the program")?;
    let size = meta.len() as f64 / 1e6;
    Ok(vec![
        Row::new("`portwatch`", "MB", &[size]).within(Budget::AtMost(8.0)),
    ])
}
