//! The reference toolchain: Debian's `rustc-web`, and a pinned bpf-linker on Debian's LLVM.
//!
//! A distribution's compiler with `RUSTC_BOOTSTRAP=1` stays put between releases, which a nightly
//! does not, and the byte-for-byte comparison rests on that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::manifest::Toolchain;
use crate::host;

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const RUST_SRC: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";
const LLVM: &str = "/usr/lib/llvm-22";
const LLVM_MAJOR: &str = "22";
const LINKER_VERSION: &str = "0.13.0";
const PACKAGES: [&str; 6] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// The compiler, the package manager and the linker, found or installed.
pub(crate) struct Reference {
    linker: PathBuf,
    /// What the manifest records of them.
    pub(crate) versions: Toolchain,
}

impl Reference {
    /// Finds the toolchain; installs what is missing where it may.
    pub(crate) fn find() -> Result<Self> {
        let llvm_config = Path::new(LLVM).join("bin/llvm-config");
        let present = [RUSTC, CARGO, RUST_SRC]
            .iter()
            .all(|file| Path::new(file).exists());
        if !present || !llvm_config.exists() {
            host::install(&PACKAGES, "building the eBPF object")?;
        }
        let details = host::output(clean(RUSTC).arg("-vV"))?;
        let its_llvm = details
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "));
        if its_llvm.and_then(|version| version.split('.').next()) != Some(LLVM_MAJOR) {
            bail!(
                "{RUSTC} is not the reference compiler (it is on LLVM {}, not {LLVM_MAJOR}); \
                 install Debian's rustc-web, cargo-web and rust-web-src",
                its_llvm.unwrap_or("unknown")
            );
        }
        let linker = linker()?;
        let versions = Toolchain {
            rustc: details.lines().next().unwrap_or_default().to_owned(),
            cargo: version(CARGO)?,
            bpf_linker: version(&linker)?,
            llvm: host::output(Command::new(llvm_config).arg("--version"))?
                .trim()
                .to_owned(),
        };
        Ok(Self { linker, versions })
    }

    /// A cargo command for the BPF target: of the caller's environment it sees only what reaches
    /// the registry, so that no setting of the outer build can alter the object.
    pub(crate) fn cargo(&self) -> Result<Command> {
        let mut cargo = clean(CARGO);
        let tools = self.linker.parent().map(Path::to_path_buf);
        cargo
            .env("PATH", search_path(tools)?)
            .env("RUSTC", RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            // Set and empty: overrides a wrapper that the user's cargo configuration asks for.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "");
        Ok(cargo)
    }
}

/// bpf-linker from the cache; built once, in 40 s or so.
fn linker() -> Result<PathBuf> {
    let home = host::cache(&format!(
        "tools/bpf-linker-{LINKER_VERSION}-llvm-{LLVM_MAJOR}"
    ))?;
    let linker = home.join("bin/bpf-linker");
    // A binary that no longer starts (its LLVM is gone) is as good as none.
    if linker.exists() && version(&linker).is_ok() {
        return Ok(linker);
    }
    println!(
        "building bpf-linker {LINKER_VERSION} into {}",
        home.display()
    );
    let mut install = clean(CARGO);
    install
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--force",
            "--version",
            LINKER_VERSION,
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{LLVM_MAJOR}"),
            "--root",
        ])
        .arg(&home)
        .env("PATH", search_path(None)?)
        .env("RUSTC", RUSTC)
        .env("LLVM_PREFIX", LLVM);
    host::run(&mut install).context(
        "cannot build bpf-linker; it needs a C++ compiler, llvm-22-dev, libzstd-dev and zlib1g-dev",
    )?;
    Ok(linker)
}

fn version(program: impl AsRef<std::ffi::OsStr>) -> Result<String> {
    Ok(host::output(clean(program).arg("--version"))?
        .trim()
        .to_owned())
}

/// System directories only, after `first`: a rustup proxy must not shadow Debian's compiler.
fn search_path(first: Option<PathBuf>) -> Result<OsString> {
    let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::join_paths(first.into_iter().chain(system))
        .context("the tool cache's path holds a colon; set XDG_CACHE_HOME to another directory")
}

/// A command that inherits nothing but the way to the home directory and to the network.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    const KEPT: [&str; 5] = ["HOME", "CARGO_HOME", "TERM", "TMPDIR", "SSL_CERT_FILE"];
    let mut command = Command::new(program);
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let known = name.to_str().is_some_and(|name| {
            let lower = name.to_ascii_lowercase();
            KEPT.contains(&name)
                || lower.ends_with("_proxy")
                || lower.starts_with("cargo_http_")
                || lower.starts_with("cargo_net_")
                || lower.starts_with("cargo_registries_")
        });
        if known {
            command.env(name, value);
        }
    }
    command
}
