//! Real programs that scenarios talk to, for the guest: a web server, and the mail server with what makes its root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use crate::{host, servers};

/// What is taken along where the host has it; a scenario that misses one is left out, and says so. The last three
/// furnish the mail server's root (`tests/src/harness/mail_server.rs`).
const PROGRAMS: [&str; 5] = ["nginx", "openssl", "chroot", "cp", "mknod"];
/// Without it openssl makes no certificate.
const OPENSSL_CONFIGURATION: &str = "/usr/lib/ssl/openssl.cnf";
/// Where the suite looks for the mail server: the guest's `HOME` is `/root`.
const MAIL_SERVER: &str = "/root/.cache/portwatch/opensmtpd/tree";

/// Those of [`PROGRAMS`] that are on this host.
pub(super) fn programs() -> impl Iterator<Item = PathBuf> {
    PROGRAMS.iter().filter_map(|name| host::find(name))
}

/// Adds what they need besides their libraries.
pub(super) fn furnish(archive: &mut Archive) -> Result<()> {
    if let Ok(content) = fs::read(OPENSSL_CONFIGURATION) {
        archive.file(OPENSSL_CONFIGURATION, 0o644, &content)?;
    }
    match servers::tree(servers::MAIL)? {
        Some(tree) => copy(archive, &tree, MAIL_SERVER),
        None => Ok(()),
    }
}

/// Adds a folder with everything in it.
fn copy(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    archive.directory(to)?;
    let cannot = || format!("cannot read {}", from.display());
    for entry in fs::read_dir(from).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let path = entry.path();
        let place = format!("{to}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata().with_context(cannot)?;
        if metadata.is_dir() {
            copy(archive, &path, &place)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).with_context(cannot)?;
            archive.symlink(&place, &target.to_string_lossy())?;
        } else if metadata.is_file() {
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.file(&place, metadata.permissions().mode() & 0o7777, &content)?;
        }
    }
    Ok(())
}
