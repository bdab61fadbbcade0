//! Servers for the tests: unpacked from Debian's packages into the cache, each with every library that it loads, and
//! installed nowhere. A host has one of each at most, and the tests neither take its place nor touch what it keeps.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::host;
use crate::vm::apt::{self, PrivateApt};
use crate::vm::arch::Arch;
use crate::vm::mirror;

/// The OpenSMTPD of bookworm has no TLS that works: it is not made for OpenSSL 3.
const SUITE: &str = "trixie";

/// Folder in the cache, where the harness of the tests finds it, and packages.
const SERVERS: [(&str, &[&str]); 2] = [
    // The server, the shell that its deliveries go through, and libraries.
    (
        MAIL,
        &[
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
        ],
    ),
    // Receivers of sinks: rsyslog with TLS and RELP, and nats-server.
    (
        "receivers",
        &[
            "nats-server",
            "rsyslog",
            "rsyslog-openssl",
            "rsyslog-relp",
            "libc6",
            "libcap2",
            "libestr0",
            "libfastjson4",
            "libffi8",
            "libgcc-s1",
            "libgmp10",
            "libgnutls30t64",
            "libhogweed6t64",
            "libidn2-0",
            "liblognorm5",
            "libnettle8t64",
            "libp11-kit0",
            "librelp0",
            "libssl3t64",
            "libsystemd0",
            "libtasn1-6",
            "libunistring5",
            "libuuid1",
            "libzstd1",
            "zlib1g",
        ],
    ),
];

/// The mail server's folder in the cache.
pub(crate) const MAIL: &str = "opensmtpd";
/// Where in that folder its files are.
const TREE: &str = "tree";

/// Where one was unpacked; none where it was not.
pub(crate) fn tree(name: &str) -> Result<Option<PathBuf>> {
    let tree = host::cache(name)?.join(TREE);
    Ok(tree.is_dir().then_some(tree))
}

/// Fetches those that are not there.
pub(crate) fn fetch() -> Result<()> {
    SERVERS
        .iter()
        .try_for_each(|(name, packages)| fetch_one(name, packages))
}

fn fetch_one(name: &str, packages: &[&str]) -> Result<()> {
    if tree(name)?.is_some() {
        return Ok(());
    }
    let home = host::cache(name)?;
    println!(
        "fetching {name} from Debian {SUITE} into {}",
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
            .args(packages)
            .current_dir(&debs),
    )
    .with_context(|| format!("cannot download {name}"))?;
    apt::unpack(&debs, &home.join(TREE))
}
