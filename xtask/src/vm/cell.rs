//! The cells of the matrix: which there are, which are asked for, which share a boot.

use anyhow::{Result, bail};
use portwatch_tests::harness::Rung;
use portwatch_tests::harness::condition::{self, Change};

/// The name of the rung that portwatch chooses by itself.
pub(crate) const BEST: &str = "best";
/// The cell of the whole suite on several processors.
const MANY_CPUS: &str = "4-cpus";
/// Cells that share a boot at most: a guest that crashes takes the rest into another boot, and two
/// guests side by side are not to wait for one long one.
const TOGETHER: usize = 5;

/// One run of the suite on a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What a column of the grid is headed with.
    pub(crate) name: String,
    /// `--rung`; `None` leaves the choice to portwatch.
    pub(crate) rung: Option<String>,
    /// What is taken away, by its name in `harness::condition`.
    pub(crate) condition: Option<&'static str>,
    /// Virtual processors, where the cell is about them.
    pub(crate) cpus: Option<u16>,
}

/// The cells that are asked for; all, when none is.
pub(crate) fn choose(rungs: &[String], conditions: &[String]) -> Result<Vec<Cell>> {
    for rung in rungs {
        if rung != BEST && Rung::named(rung).is_none() {
            let known = Rung::ALL.map(Rung::name).join(", ");
            bail!("--rung {rung}: there are {BEST}, {known}");
        }
    }
    if let Some(unknown) = conditions.iter().find(|name| of_condition(name).is_none()) {
        let known = condition::ALL.map(|one| one.name).join(", ");
        bail!("--condition {unknown}: there are {known}, {MANY_CPUS}");
    }
    let all = rungs.is_empty() && conditions.is_empty();
    let mut cells = Vec::new();
    if conditions.is_empty() {
        let every = Rung::ALL.iter().map(|rung| rung.name().to_owned());
        let every: Vec<String> = std::iter::once(BEST.to_owned()).chain(every).collect();
        let rungs = if all { &every[..] } else { rungs };
        cells.extend(rungs.iter().map(|rung| of_rung(rung)));
    }
    let mut chosen: Vec<Cell> = conditions
        .iter()
        .filter_map(|name| of_condition(name))
        .collect();
    if all {
        chosen = condition::ALL
            .iter()
            .map(|one| one.name)
            .chain([MANY_CPUS])
            .filter_map(of_condition)
            .collect();
    }
    for cell in chosen {
        match rungs {
            [] => cells.push(cell),
            rungs => cells.extend(rungs.iter().map(|rung| on_rung(&cell, rung))),
        }
    }
    // What a boot cannot undo comes last in it.
    cells.sort_by_key(lock);
    Ok(cells)
}

impl Cell {
    /// The one of a kernel that also runs what the kernel has no part in.
    pub(crate) fn is_whole(&self) -> bool {
        self.rung.is_none() && self.condition.is_none() && self.cpus.is_none()
    }
}

/// Cells that share a boot: on the same number of processors, and not too many. Of so many kernels' cells, no fewer
/// boots are made than guests may run side by side.
pub(crate) fn boots(cells: &[Cell], kernels: usize, workers: usize) -> Vec<Vec<Cell>> {
    let each = cells.len().saturating_mul(kernels).div_ceil(workers.max(1));
    let together = each.clamp(1, TOGETHER);
    let mut boots: Vec<Vec<Cell>> = Vec::new();
    for cell in cells {
        match boots
            .iter_mut()
            .find(|boot| boot.len() < together && boot.iter().all(|one| one.cpus == cell.cpus))
        {
            Some(boot) => boot.push(cell.clone()),
            None => boots.push(vec![cell.clone()]),
        }
    }
    boots
}

fn of_rung(rung: &str) -> Cell {
    Cell {
        name: rung.to_owned(),
        rung: (rung != BEST).then(|| rung.to_owned()),
        condition: None,
        cpus: None,
    }
}

fn of_condition(name: &str) -> Option<Cell> {
    let cell = of_rung(BEST);
    if name == MANY_CPUS {
        return Some(Cell {
            name: name.to_owned(),
            cpus: Some(4),
            ..cell
        });
    }
    condition::named(name).map(|found| Cell {
        name: name.to_owned(),
        condition: Some(found.name),
        ..cell
    })
}

fn on_rung(cell: &Cell, rung: &str) -> Cell {
    Cell {
        name: format!("{}/{rung}", cell.name),
        rung: of_rung(rung).rung,
        ..cell.clone()
    }
}

/// The level of lockdown by its place in the list of conditions: none first, the strongest last.
fn lock(cell: &Cell) -> Option<usize> {
    let is_own = |one: &condition::Condition| Some(one.name) == cell.condition;
    let at = condition::ALL.iter().position(is_own)?;
    matches!(condition::ALL[at].change, Change::LockDown(_)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cells: &[Cell]) -> Vec<&str> {
        cells.iter().map(|cell| cell.name.as_str()).collect()
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn all_is_every_rung_every_condition_and_more_processors() {
        let all = choose(&[], &[]).expect("all");
        assert_eq!(all.len(), 1 + Rung::ALL.len() + condition::ALL.len() + 1);
        assert_eq!(names(&all)[..3], ["best", "fexit", "kretprobe"]);
        let whole = all.iter().filter(|cell| cell.is_whole());
        assert_eq!(whole.count(), 1);
        assert!(names(&all).contains(&MANY_CPUS));
        assert_eq!(names(&all).last(), Some(&"lockdown-confidentiality"));
    }

    #[test]
    fn asking_narrows_down() {
        let rungs = choose(&owned(&["best", "tp_btf"]), &[]).expect("rungs");
        assert_eq!(names(&rungs), ["best", "tp_btf"]);
        assert_eq!(rungs[0].rung, None);
        let both = choose(&owned(&["tracepoint"]), &owned(&["no-tracefs"])).expect("both");
        assert_eq!(names(&both), ["no-tracefs/tracepoint"]);
        assert_eq!(both[0].rung.as_deref(), Some("tracepoint"));
        let locked = ["lockdown-confidentiality", "no-btf", "lockdown-integrity"];
        let cells = choose(&[], &owned(&locked)).expect("conditions");
        assert_eq!(names(&cells), [locked[1], locked[2], locked[0]]);
        assert!(choose(&owned(&["uprobe"]), &[]).is_err());
        assert!(choose(&[], &owned(&["no-luck"])).is_err());
    }

    #[test]
    fn a_boot_has_one_number_of_processors_and_few_cells() {
        let all = choose(&[], &[]).expect("all");
        let boots = boots(&all, 4, 2);
        assert_eq!(boots.iter().map(Vec::len).sum::<usize>(), all.len());
        for boot in &boots {
            assert!(boot.len() <= TOGETHER);
            assert!(boot.iter().all(|cell| cell.cpus == boot[0].cpus));
            assert!(boot.is_sorted_by_key(lock), "{boot:?}");
        }
    }

    #[test]
    fn no_processor_waits_for_a_boot_that_has_several_cells() {
        let two = choose(&owned(&["fexit", "kretprobe"]), &[]).expect("rungs");
        assert_eq!(boots(&two, 1, 2).len(), 2);
        assert_eq!(boots(&two, 1, 1).len(), 1);
        assert_eq!(boots(&two, 4, 2).len(), 1, "there are other kernels");
    }
}
