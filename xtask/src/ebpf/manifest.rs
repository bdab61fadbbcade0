//! What the committed eBPF object was built from and with, and whether that still holds.
//!
//! Shared, by path, between the chore that writes the manifest and the plain `cargo test` of
//! `portwatch/tests/ebpf_object.rs` that compares it with the sources. Needs neither network nor
//! the BPF toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// An architecture with an object of its own: kprobe programs read its argument registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    /// As the compiler names it.
    pub(crate) name: &'static str,
    /// The committed object, from the repository's root.
    pub(crate) object: &'static str,
    /// Its manifest, from the repository's root.
    pub(crate) manifest: &'static str,
}

/// Every architecture that portwatch is built for.
pub(crate) const ARCHES: [Arch; 2] = [
    Arch {
        name: "x86_64",
        object: "portwatch/ebpf/portwatch.bpf.o",
        manifest: "portwatch/ebpf/portwatch.bpf.json",
    },
    Arch {
        name: "aarch64",
        object: "portwatch/ebpf/portwatch.bpf.arm64.o",
        manifest: "portwatch/ebpf/portwatch.bpf.arm64.json",
    },
];
/// The package whose program the object is.
pub(crate) const PACKAGE: &str = "portwatch-ebpf";
/// Where the sources are, from the repository's root.
const SOURCES: [&str; 2] = [PACKAGE, "portwatch-common"];

/// The record that is committed beside the object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The object itself.
    pub(crate) object: Object,
    /// What compiled and linked it.
    pub(crate) toolchain: Toolchain,
    /// The flags it was compiled with.
    pub(crate) flags: Vec<String>,
    /// What it was built from.
    pub(crate) inputs: Inputs,
}

/// The object, as far as bytes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// Architecture whose registers the kernel probes read.
    pub(crate) arch: String,
    /// Compilation target.
    pub(crate) target: String,
    /// SHA-256, in hex.
    pub(crate) sha256: String,
    /// Length in bytes.
    pub(crate) size: usize,
}

/// Version lines of everything that shapes the object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    /// `rustc --version`.
    pub(crate) rustc: String,
    /// `cargo --version`: cargo chooses the hash in symbol names.
    pub(crate) cargo: String,
    /// `bpf-linker --version`.
    pub(crate) bpf_linker: String,
    /// Version of the LLVM that bpf-linker generates code with.
    pub(crate) llvm: String,
}

/// Everything in the repository that the object depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// SHA-256 by path, for each source file.
    pub(crate) files: BTreeMap<String, String>,
    /// The parts of the workspace's `Cargo.toml` that reach the build.
    pub(crate) settings: BTreeMap<String, toml::Value>,
    /// Locked packages of the dependency tree: `name version`, and the registry's checksum.
    pub(crate) crates: BTreeMap<String, String>,
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            rustc,
            cargo,
            bpf_linker,
            llvm,
        } = self;
        write!(f, "{rustc}, {cargo}, {bpf_linker}, LLVM {llvm}")
    }
}

impl Manifest {
    /// Reads the committed manifest. `Ok(None)`: there is none yet.
    pub(crate) fn load(root: &Path, arch: Arch) -> Result<Option<Self>> {
        let name = arch.manifest;
        let path = root.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let manifest = serde_json::from_str(&text).with_context(|| {
            format!("{name} is not a manifest; write it anew with `cargo xtask ebpf`")
        })?;
        Ok(Some(manifest))
    }

    /// Every way in which the working tree departs from this manifest, one line each.
    pub(crate) fn departures(&self, inputs: &Inputs, object: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        compare("", &self.inputs.files, &inputs.files, &mut found);
        compare(
            "Cargo.toml: ",
            &self.inputs.settings,
            &inputs.settings,
            &mut found,
        );
        compare(
            "Cargo.lock: ",
            &self.inputs.crates,
            &inputs.crates,
            &mut found,
        );
        if self.object.sha256 != sha256(object) {
            found.push(format!(
                "the object for {} is not the one that its manifest describes",
                self.object.arch
            ));
        }
        found
    }
}

impl Inputs {
    /// Reads the inputs as they are in the working tree.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for dir in SOURCES {
            collect(root, dir, &mut files)?;
        }
        Ok(Self {
            files,
            settings: settings(root)?,
            crates: crates(root)?,
        })
    }
}

/// SHA-256 of `bytes` in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn compare<V: PartialEq>(
    what: &str,
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
    found: &mut Vec<String>,
) {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(_), Some(_)) => found.push(format!("{what}{name} has changed")),
            (Some(_), None) => found.push(format!("{what}{name} is gone")),
            (None, _) => found.push(format!("{what}{name} is new")),
        }
    }
}

/// Adds every file that a compiler can read below `dir`. Hidden files are an editor's.
fn collect(root: &Path, dir: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(root.join(dir)).with_context(|| format!("cannot list {dir}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {dir}"))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let path = format!("{dir}/{name}");
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot inspect {path}"))?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.insert(path, sha256(&bytes));
        }
    }
    Ok(())
}

/// Profiles, and what the two packages inherit from the workspace.
fn settings(root: &Path) -> Result<BTreeMap<String, toml::Value>> {
    let workspace = table(root, "Cargo.toml")?;
    let mut settings = BTreeMap::new();
    const PATHS: [&str; 5] = [
        "profile.ebpf",
        "profile.release",
        "workspace.resolver",
        "workspace.package.edition",
        "workspace.package.version",
    ];
    for path in PATHS {
        if let Some(value) = dig(&workspace, path) {
            settings.insert(path.to_owned(), value.clone());
        }
    }
    for dir in SOURCES {
        let package = table(root, &format!("{dir}/Cargo.toml"))?;
        let Some(dependencies) = package.get("dependencies").and_then(toml::Value::as_table) else {
            continue;
        };
        for name in dependencies.keys() {
            let path = format!("workspace.dependencies.{name}");
            if let Some(value) = dig(&workspace, &path) {
                settings.insert(path, value.clone());
            }
        }
    }
    Ok(settings)
}

/// Walks the lock file from the package outwards. It does not know of features, so the set may be
/// larger than what is compiled, never smaller.
fn crates(root: &Path) -> Result<BTreeMap<String, String>> {
    let lock = table(root, "Cargo.lock")?;
    let Some(packages) = lock.get("package").and_then(toml::Value::as_array) else {
        bail!("Cargo.lock names no packages");
    };
    let text = |package: &toml::Value, key: &str| {
        package
            .get(key)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
    };
    let mut found = BTreeMap::new();
    let mut ahead = vec![PACKAGE.to_owned()];
    while let Some(wanted) = ahead.pop() {
        // `name`, or `name version` where the lock file holds several versions.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next(), words.next());
        for package in packages {
            let (Some(its_name), Some(its_version)) =
                (text(package, "name"), text(package, "version"))
            else {
                bail!("Cargo.lock holds a package without name or version");
            };
            if name != Some(&its_name) || version.is_some_and(|version| version != its_version) {
                continue;
            }
            let origin = text(package, "checksum").unwrap_or_else(|| "workspace".to_owned());
            if found
                .insert(format!("{its_name} {its_version}"), origin)
                .is_none()
            {
                let needs = package.get("dependencies").and_then(toml::Value::as_array);
                ahead.extend(
                    needs
                        .into_iter()
                        .flatten()
                        .filter_map(|need| need.as_str().map(str::to_owned)),
                );
            }
        }
    }
    Ok(found)
}

fn table(root: &Path, path: &str) -> Result<toml::Table> {
    let text =
        fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
    toml::from_str(&text).with_context(|| format!("cannot parse {path}"))
}

fn dig<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = table.get(first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        dig(value.as_table()?, rest)
    }
}
