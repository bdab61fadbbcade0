//! `cargo xtask soak`: builds portwatch and the soak program of portwatch-tests, and runs it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::host;

/// Where the report goes, from the repository's root.
const FOLDER: &str = "target/soak";

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long, after the daemon's tables have been filled
    #[arg(long, default_value_t = 5, value_name = "N")]
    minutes: u32,
    /// What happens, and in which order
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Others make this machine busy: a loss that a gap tells of is reported, but is no failure
    #[arg(long)]
    crowded: bool,
    /// Build with the release profile
    #[arg(long)]
    release: bool,
}

/// Runs the chore; fails when anything was missed or the daemon grew.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !host::is_root() {
        bail!("loading probes needs root; run `cargo xtask soak` as root");
    }
    let root = host::root()?;
    let profile = if args.release { "release" } else { "debug" };
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&root).args(["build", "--bins"]);
    build.args(["--package", "portwatch", "--package", "portwatch-tests"]);
    if args.release {
        build.arg("--release");
    }
    host::run(&mut build)?;
    let built = target(&root).join(profile);
    let folder = root.join(FOLDER);
    let mut soak = Command::new(built.join("soak"));
    soak.args(["--minutes", &args.minutes.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .arg("--out")
        .arg(&folder);
    if args.crowded {
        soak.arg("--crowded");
    }
    host::run(&mut soak).with_context(|| format!("read {}", folder.join("report.md").display()))
}

fn target(root: &std::path::Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
