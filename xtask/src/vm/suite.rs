//! Builds the test suite with the programs that it starts, and learns from cargo where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cross::Cross;
use crate::host;

const PACKAGE: &str = "portwatch-tests";
const INIT: &str = "vm_init";

/// Executables on the host. The guest has them under the same paths, because tests know each
/// other's programs by the absolute paths that cargo compiled into them.
pub(crate) struct Suite {
    /// The program that is run.
    pub(crate) executable: PathBuf,
    /// Where cargo would run it.
    pub(crate) directory: PathBuf,
    /// The programs that it may start.
    pub(crate) programs: Vec<PathBuf>,
    /// The guest's first process.
    pub(crate) init: PathBuf,
}

impl Suite {
    /// Builds `name`, a test target of portwatch-tests, or else one of its programs.
    /// With a cross compiler, for its architecture.
    pub(crate) fn build(
        root: &Path,
        name: &str,
        release: bool,
        cross: Option<&Cross>,
    ) -> Result<Self> {
        let compile = |args: &[&str]| match cross {
            Some(cross) => {
                let mut cargo = cross.cargo(root);
                cargo.args(args);
                cargo
            }
            None => cargo(root, args),
        };
        let profile: &[&str] = if release { &["--release"] } else { &[] };
        let mut bins = compile(&["build", "--package", "portwatch", "--package", PACKAGE]);
        let bins = executables(bins.arg("--bins").args(profile), "bin")?;
        let named = |wanted: &str| {
            let found = bins.iter().find(|(name, _)| name == wanted);
            found.map(|(_, path)| path.clone())
        };
        let executable = if is_test(root, name)? {
            let mut test = compile(&["test", "--no-run", "--package", PACKAGE]);
            let built = executables(test.args(["--test", name]).args(profile), "test")?;
            built.into_iter().next().map(|(_, path)| path)
        } else {
            named(name)
        };
        let Some(executable) = executable else {
            bail!("--suite {name}: {PACKAGE} has neither a test target nor a program of that name");
        };
        let init = named(INIT).with_context(|| format!("{PACKAGE} has no program {INIT}"))?;
        let programs = bins
            .into_iter()
            .map(|(_, path)| path)
            .filter(|path| *path != init);
        Ok(Self {
            executable,
            directory: root.join("tests"),
            programs: programs.collect(),
            init,
        })
    }
}

fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(args);
    cargo
}

fn is_test(root: &Path, name: &str) -> Result<bool> {
    let mut metadata = cargo(root, &["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&host::output(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut targets = packages
        .filter(|package| package["name"] == PACKAGE)
        .flat_map(|package| package["targets"].as_array().into_iter().flatten());
    Ok(targets.any(|target| target["name"] == name && target["kind"][0] == "test"))
}

/// Runs cargo and returns name and path of each executable of one kind that it reports.
fn executables(cargo: &mut Command, kind: &str) -> Result<Vec<(String, PathBuf)>> {
    let messages =
        host::output(cargo.args(["--quiet", "--message-format=json-render-diagnostics"]))?;
    let mut found = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let target = &message["target"];
        if let (Some(name), Some(path)) = (target["name"].as_str(), message["executable"].as_str())
            && target["kind"][0] == kind
        {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(found)
}
