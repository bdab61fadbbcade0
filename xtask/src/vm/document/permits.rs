//! The part of docs/kernels.md about what each kernel has and permits.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{list, row, rule, word};
use crate::vm::grid;
use crate::vm::outcome::Outcome;

/// What `doctor` said of the kernel itself, where nothing was taken away.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let kernels = grid::by_kernel(outcomes);
    let doctors: Vec<Option<&Value>> = kernels
        .iter()
        .map(|(_, list)| {
            let mut plain = list.iter().filter(|one| one.cell.condition.is_none());
            plain.find_map(|one| one.found("doctor").next())
        })
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for feature in doctors
        .iter()
        .flatten()
        .flat_map(|doctor| list(doctor, "features"))
    {
        if let Some(name) = feature["name"]
            .as_str()
            .filter(|name| !names.contains(name))
        {
            names.push(name);
        }
    }
    let mut text = "\n## What each kernel permits\n\n".to_owned();
    text += &row("", kernels.iter().map(|(name, _)| (*name).to_owned()));
    text += &rule(kernels.len());
    for name in names {
        let entries = doctors.iter().map(|doctor| {
            let mut features = doctor.iter().flat_map(|doctor| list(doctor, "features"));
            let state = features
                .find(|feature| feature["name"] == name)
                .and_then(|feature| feature["state"].as_str());
            state.unwrap_or("–").to_owned()
        });
        text += &row(name, entries);
    }
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for ((kernel, _), doctor) in kernels.iter().zip(&doctors) {
        for field in doctor
            .iter()
            .flat_map(|doctor| list(doctor, "missing_fields"))
        {
            let line = format!("`{}`: {}", word(field, "field"), word(field, "costs"));
            missing.entry(line).or_default().push(kernel);
        }
    }
    if !missing.is_empty() {
        text += "\nFields that a kernel does not have, and what is not known without them:\n\n";
        for (line, kernels) in missing {
            text += &format!("- {line} ({})\n", kernels.join(", "));
        }
    }
    text
}
