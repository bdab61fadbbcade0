//! OpenSMTPD for the tests of mail: unpacked from Debian's packages into the cache, and installed nowhere. A host has one
//! mail server at most, and the tests do not take its place, nor touch its queue.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::host;
use crate::vm::apt::{self, PrivateApt};
use crate::vm::arch::Arch;
use crate::vm::mirror;

/// Its place in the cache, and the folder of that which has the files.
const CACHE: &str = "opensmtpd";
const TREE: &str = "tree";
/// The one of bookworm has no TLS that works: it is not made for OpenSSL 3.
const SUITE: &str = "trixie";
/// The server, the shell that its deliveries go through, and every library that they load.
const PACKAGES: [&str; 13] = [
    "opensmtpd",
    "dash",
    "libaudit1",
    "libc6",
    "libcap-ng0",
    "libcrypt1",
    "libdb5.3t64",
    "libevent-2.1-7t64",
    "libgcc-s1",
    "libpam0g",
    "libssl3t64",
    "libzstd1",
    "zlib1g",
];

/// Where it was unpacked; none where it was not.
pub(crate) fn tree() -> Result<Option<PathBuf>> {
    let tree = host::cache(CACHE)?.join(TREE);
    Ok(tree.is_dir().then_some(tree))
}

/// Fetches it, unless it is there. `tests/src/harness/mail_server.rs` finds it.
pub(crate) fn fetch() -> Result<()> {
    if tree()?.is_some() {
        return Ok(());
    }
    let home = host::cache(CACHE)?;
    println!(
        "fetching OpenSMTPD from Debian {SUITE} into {}",
        home.display()
    );
    let arch = match std::env::consts::ARCH {
        "aarch64" => Arch::Arm64,
        _ => Arch::Amd64,
    };
    let apt = PrivateApt::new(&home, &[(&mirror::debian()?, SUITE)], arch)?;
    host::run(apt.command("apt-get").args(["-qq", "update"]))
        .with_context(|| format!("cannot read Debian {SUITE}"))?;
    let debs = home.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    host::run(
        apt.command("apt-get")
            .args(["-qq", "download"])
            .args(PACKAGES)
            .current_dir(&debs),
    )
    .context("cannot download OpenSMTPD")?;
    apt::unpack(&debs, &home.join(TREE))
}
