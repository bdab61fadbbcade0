//! `cargo xtask ebpf`: rebuilds the committed eBPF objects, or checks them byte for byte.

mod compile;
mod manifest;
mod toolchain;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::host;
use manifest::{ARCHES, Arch, Inputs, Manifest, Object, sha256};
use toolchain::Reference;

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rebuild and compare with the committed objects; write nothing.
    #[arg(long)]
    check: bool,
}

/// Runs the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = host::root()?;
    for arch in ARCHES {
        if args.check {
            check(&root, arch)?;
        } else {
            rebuild(&root, arch)?;
        }
    }
    Ok(())
}

fn rebuild(root: &Path, arch: Arch) -> Result<()> {
    let built = Built::new(root, arch)?;
    store(root, arch.object, &built.object)?;
    let mut text = serde_json::to_string_pretty(&built.manifest).context("cannot write JSON")?;
    text.push('\n');
    store(root, arch.manifest, text.as_bytes())?;
    println!("{}", built.summary());
    Ok(())
}

/// Fails when the sources, the object and the manifest disagree, or when the same toolchain no
/// longer builds the same bytes. A toolchain that moved on is news, not a failure: the probes
/// must still compile, and the notice asks for a new manifest.
fn check(root: &Path, arch: Arch) -> Result<()> {
    let (name, manifest) = (arch.object, arch.manifest);
    let Some(committed) = Manifest::load(root, arch)? else {
        bail!("{manifest} is missing; write it with `cargo xtask ebpf`");
    };
    let object = fs::read(root.join(name))
        .with_context(|| format!("cannot read {name}; write it with `cargo xtask ebpf`"))?;
    let departures = committed.departures(&Inputs::read(root)?, &object);
    if !departures.is_empty() {
        bail!(
            "the committed eBPF object is stale; run `cargo xtask ebpf` and commit what it \
             writes:\n  {}",
            departures.join("\n  ")
        );
    }
    let built = Built::new(root, arch)?;
    if committed.toolchain != built.manifest.toolchain {
        println!(
            "NOTICE: the toolchain has moved on, so a comparison of bytes would say nothing.\n  \
             manifest: {}\n  here:     {}\n\
             The probes compile with it. Run `cargo xtask ebpf` here and commit the new object \
             and manifest.",
            committed.toolchain, built.manifest.toolchain
        );
        return Ok(());
    }
    if committed.flags != built.manifest.flags {
        bail!("the build flags have changed; run `cargo xtask ebpf` and commit what it writes");
    }
    if built.object != object {
        bail!(
            "the same sources and the same toolchain built another object: {name} has sha256 \
             {}, the rebuilt one {}; if nobody touched the committed file, the build depends on \
             something that the manifest does not name (compare it with \
             target/ebpf/{}/{}/ebpf/portwatch)",
            committed.object.sha256,
            built.manifest.object.sha256,
            arch.name,
            compile::TARGET
        );
    }
    println!(
        "{}; the committed object is the same, byte for byte",
        built.summary()
    );
    Ok(())
}

/// A fresh build, and the manifest it deserves.
struct Built {
    object: Vec<u8>,
    manifest: Manifest,
}

impl Built {
    fn new(root: &Path, arch: Arch) -> Result<Self> {
        let reference = Reference::find()?;
        // Inputs first: a file saved during the build must make the manifest stale, not wrong.
        let inputs = Inputs::read(root)?;
        let path = compile::compile(root, &reference, arch)?;
        let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if may_panic(&object) {
            bail!(
                "a probe may panic, so no kernel would load it: look for a division or an index \
                 that the compiler has to check"
            );
        }
        let manifest = Manifest {
            object: Object {
                arch: arch.name.to_owned(),
                target: compile::TARGET.to_owned(),
                sha256: sha256(&object),
                size: object.len(),
            },
            toolchain: reference.versions,
            flags: compile::flags(arch),
            inputs,
        };
        Ok(Self { object, manifest })
    }

    fn summary(&self) -> String {
        let (object, toolchain) = (&self.manifest.object, &self.manifest.toolchain);
        format!(
            "{}: {} bytes, sha256 {}, built with {toolchain}",
            object.arch, object.size, object.sha256
        )
    }
}

/// Does core's panic machinery stand in the symbols? It does only when something calls it, and the loader,
/// which knows no cold sections, would leave that call dangling.
fn may_panic(object: &[u8]) -> bool {
    let symbol = b"core9panicking";
    object.windows(symbol.len()).any(|part| part == symbol)
}

/// Writes a file only when its content changes, so that an unchanged build rebuilds nothing else.
fn store(root: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let file = root.join(path);
    if fs::read(&file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::write(&file, bytes).with_context(|| format!("cannot write {path}"))?;
    println!("wrote {path}");
    Ok(())
}
