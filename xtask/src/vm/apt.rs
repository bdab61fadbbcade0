//! Debian packages without touching the system's apt: lists, cache and sources of our own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::arch::Arch;
use super::mirror;
use crate::host;

/// apt with its own lists, cache and sources, so that neither the system's state nor its pins matter.
pub(crate) struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    /// Below `home`; `sources` are pairs of archive and suite.
    pub(crate) fn new(home: &Path, sources: &[(&str, &str)], arch: Arch) -> Result<Self> {
        let home = home.join("apt");
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            let dir = home.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let (status, list) = (home.join("status"), home.join("sources.list"));
        let (arch, keyrings) = (arch.debian(), mirror::keyrings()?);
        let lines: String = sources
            .iter()
            .map(|(archive, suite)| {
                format!("deb [arch={arch} signed-by={keyrings}] {archive} {suite} main\n")
            })
            .collect();
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        let options = vec![
            format!("Dir::State={}", home.join("state").display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", home.join("cache").display()),
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures={arch}"),
            // As root apt would fetch as `_apt`, who cannot write below somebody's home.
            "APT::Sandbox::User=".to_owned(),
        ];
        Ok(Self { options })
    }

    /// One of apt's programs.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }
}

/// Extracts every package in `debs` into `tree` and removes them. Extracted beside and then renamed: a
/// tree in the cache is a whole one.
pub(crate) fn unpack(debs: &Path, tree: &Path) -> Result<()> {
    let partial = tree.with_file_name("partial");
    let _ = fs::remove_dir_all(&partial);
    for deb in fs::read_dir(debs).context("cannot list the downloaded packages")? {
        let deb = deb.context("cannot list the downloaded packages")?.path();
        host::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&partial))?;
    }
    fs::rename(&partial, tree).with_context(|| format!("cannot create {}", tree.display()))?;
    fs::remove_dir_all(debs).context("cannot remove the downloaded packages")
}
