//! Builds for another architecture with Debian's compilers: `rustc-web`, its standard library for that
//! architecture in a system root of our own, and the C cross compiler for dependencies in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::PrivateApt;
use super::arch::Arch;
use super::mirror;
use crate::host;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
/// The compilers of this machine, and a C library to link with.
const PACKAGES: [&str; 4] = [
    "rustc-web",
    "cargo-web",
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];
/// The standard library, of the other architecture: never installed, only unpacked.
const STD: &str = "libstd-rust-web-dev";

/// A cross compiler that is ready.
pub(crate) struct Cross {
    sysroot: PathBuf,
}

impl Cross {
    /// Finds it, or installs and fetches what is missing.
    pub(crate) fn find(arch: Arch) -> Result<Self> {
        let present = [RUSTC, CARGO].iter().all(|file| Path::new(file).exists());
        if !present || host::find(LINKER).is_none() {
            host::install(&PACKAGES, "building for arm64")?;
        }
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=${Version}", "rustc-web"]);
        let version = host::output(&mut query).context("rustc-web is not installed")?;
        // `+` and `~` are in Debian's versions, `:` would be an epoch.
        let home = host::cache(&format!("rust-std/{}-{version}", arch.debian()))?;
        let sysroot = home.join("tree/usr");
        if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
            fetch(arch, &version, &home)?;
        }
        Ok(Self { sysroot })
    }

    /// cargo for the other architecture: static, because the guest has no libraries of it.
    pub(crate) fn cargo(&self, root: &Path) -> Command {
        let variable = |name: &str| {
            let target = TARGET.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{target}_{name}")
        };
        let flags = format!(
            "--sysroot={} -Ctarget-feature=+crt-static -Cstrip=debuginfo",
            self.sysroot.display()
        );
        let mut cargo = Command::new(CARGO);
        cargo
            .current_dir(root)
            .env("RUSTC", RUSTC)
            .env("CARGO_BUILD_TARGET", TARGET)
            .env("CARGO_TARGET_DIR", root.join("target/arm64"))
            .env(variable("LINKER"), LINKER)
            .env(variable("RUSTFLAGS"), flags)
            .env(format!("CC_{}", TARGET.replace('-', "_")), LINKER)
            .env_remove("RUSTFLAGS")
            // rustup's proxy sets it for the compiler that it starts.
            .env_remove("RUSTUP_TOOLCHAIN");
        cargo
    }
}

fn fetch(arch: Arch, version: &str, home: &Path) -> Result<()> {
    println!("fetching {STD} {version} for {}", arch.debian());
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let Some(suite) = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
    else {
        bail!("/etc/os-release names no Debian release to fetch {STD} from");
    };
    let archive = mirror::debian()?;
    let security = format!("{archive}-security");
    let apt = PrivateApt::new(
        home,
        &[
            (archive.as_str(), suite),
            (security.as_str(), &format!("{suite}-security")),
        ],
        arch,
    )?;
    host::run(apt.command("apt-get").args(["-qq", "update"]))?;
    let debs = home.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    let mut download = apt.command("apt-get");
    download.args(["-qq", "download", &format!("{STD}={version}")]);
    host::run(download.current_dir(&debs))
        .with_context(|| format!("Debian has no {STD} {version} for {}", arch.debian()))?;
    super::apt::unpack(&debs, &home.join("tree"))
}
