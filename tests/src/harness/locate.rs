//! Where the programs under test lie: told by the environment, or beside the running test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The portwatch program: `PORTWATCH_BIN`, or `portwatch` beside the test.
///
/// # Errors
/// It is in neither place.
pub fn portwatch() -> Result<PathBuf> {
    find("portwatch", "PORTWATCH_BIN", "cargo build -p portwatch")
}

/// The actor: `PORTWATCH_ACTOR`, or `actor` beside the test. Resolved, as the kernel will report it.
///
/// # Errors
/// It is in neither place.
pub fn actor() -> Result<PathBuf> {
    find("actor", "PORTWATCH_ACTOR", "cargo build -p portwatch-tests")
}

fn find(name: &str, variable: &str, remedy: &str) -> Result<PathBuf> {
    if let Some(told) = std::env::var_os(variable) {
        return resolve(Path::new(&told)).with_context(|| format!("{variable} names no program"));
    }
    let me = std::env::current_exe().context("cannot tell where this test lies")?;
    // Cargo puts tests into target/PROFILE/deps and programs into target/PROFILE.
    let folders = me.ancestors().skip(1).take(2);
    let others = me
        .ancestors()
        .nth(3)
        .into_iter()
        .flat_map(|target| ["debug", "release"].map(|profile| target.join(profile)));
    for folder in folders.map(Path::to_path_buf).chain(others) {
        let candidate = folder.join(name);
        if candidate.is_file() {
            return resolve(&candidate);
        }
    }
    bail!(
        "no program {name} beside {}; set {variable} or run `{remedy}`",
        me.display()
    )
}

fn resolve(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("cannot resolve {}", path.display()))
}
