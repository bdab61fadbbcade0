//! Compiles the kernel probes to the same bytes wherever the repository and the registry lie.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::manifest::{Arch, PACKAGE};
use super::toolchain::Reference;
use crate::host;

/// The target: little-endian BPF.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Compiler flags that every machine passes alike. The manifest records them.
pub(crate) fn flags(arch: Arch) -> Vec<String> {
    vec![format!("--cfg=bpf_target_arch=\"{}\"", arch.name)]
}

/// Builds for one architecture and returns the object's path, in a target directory of its own: in a
/// shared one the flags of each would make the other's core be built anew.
pub(crate) fn compile(root: &Path, reference: &Reference, arch: Arch) -> Result<PathBuf> {
    let target_dir = root.join("target/ebpf").join(arch.name);
    let mut rustflags = flags(arch);
    rustflags.extend(remaps(root, reference)?);
    let mut cargo = reference.cargo()?;
    cargo
        .current_dir(root)
        .args(["build", "--locked", "--profile", "ebpf", "--target", TARGET])
        .args([
            "-Z",
            "build-std=core",
            "--package",
            PACKAGE,
            "--bin",
            "portwatch",
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"));
    host::run(&mut cargo).context("the kernel probes do not compile")?;
    Ok(target_dir.join(TARGET).join("ebpf/portwatch"))
}

/// One `--remap-path-prefix` per package: panic messages name `aya-ebpf-0.2.1/src/…`, not the
/// home directory of whoever built them.
fn remaps(root: &Path, reference: &Reference) -> Result<Vec<String>> {
    let mut cargo = reference.cargo()?;
    cargo
        .current_dir(root)
        .args(["metadata", "--locked", "--format-version", "1"]);
    cargo.args(["--filter-platform", TARGET]);
    let metadata: serde_json::Value = serde_json::from_str(&host::output(&mut cargo)?)
        .context("`cargo metadata` printed something other than JSON")?;
    let Some(packages) = metadata["packages"].as_array() else {
        bail!("`cargo metadata` names no packages");
    };
    // rustc takes the last prefix that matches, so the root comes first.
    let mut remaps = vec![format!("--remap-path-prefix={}=.", root.display())];
    for package in packages {
        let [name, version, manifest] =
            ["name", "version", "manifest_path"].map(|key| package[key].as_str());
        let (Some(name), Some(version), Some(manifest)) = (name, version, manifest) else {
            bail!("`cargo metadata` names a package without name, version or path");
        };
        let dir = Path::new(manifest).parent().unwrap_or(Path::new("/"));
        if !dir.starts_with(root) {
            remaps.push(format!(
                "--remap-path-prefix={}={name}-{version}",
                dir.display()
            ));
        }
    }
    Ok(remaps)
}
