//! pySigma for the test of our Sigma rules: in an environment of its own in the cache, installed nowhere.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::host;

/// The version that the rules were last read by.
const PACKAGE: &str = "pysigma==2.0.1";

/// Installs it, unless it is there. Where that cannot be, the rules are judged by the evaluator of our own tests alone.
pub(crate) fn fetch() -> Result<()> {
    let home = host::cache("pysigma")?;
    if !is_there(&home)
        && let Err(error) = install(&home)
    {
        println!("no pySigma, so no test by it: {error:#}");
    }
    Ok(())
}

/// `tests/tests/scenario/siem.rs` looks for the same.
fn is_there(home: &Path) -> bool {
    let mut python = Command::new(home.join("bin/python3"));
    python.args(["-c", "import sigma"]);
    python.status().is_ok_and(|status| status.success())
}

fn install(home: &Path) -> Result<()> {
    println!("installing {PACKAGE} into {}", home.display());
    host::run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
    let mut pip = Command::new(home.join("bin/pip"));
    host::run(pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]))
}
