//! Picks kernel modules with what they depend on, in the order in which they must be loaded.
//!
//! Debian's packages come without `modules.dep` (depmod writes it at installation), so the
//! dependencies are read from the modules themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::host;

/// What the scenarios use and a distribution's kernel loads on demand, through a modprobe that
/// the guest does not have. A name that a kernel has built in, or has not at all, is passed over.
const WANTED: [&str; 16] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "af_packet_diag",
    "netlink_diag",
    "mptcp_diag",
    "sctp",
    "sctp_diag",
    "vsock",
    "vsock_loopback",
    "vsock_diag",
    "veth",
    "dummy",
    "overlay",
];

/// A module ready to be loaded.
pub(crate) struct Module {
    /// As lsmod shows it.
    pub(crate) name: String,
    /// The ELF object, decompressed.
    pub(crate) content: Vec<u8>,
}

/// Reads the wanted modules of a kernel, dependencies first.
pub(crate) fn pick(dir: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&dir.join("kernel"), &mut files)?;
    let mut picked = Vec::new();
    let mut visited = BTreeSet::new();
    for name in WANTED {
        visit(name, &files, &mut visited, &mut picked)?;
    }
    Ok(picked)
}

fn visit(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    visited: &mut BTreeSet<String>,
    picked: &mut Vec<Module>,
) -> Result<()> {
    let Some(file) = files.get(name) else {
        return Ok(());
    };
    if !visited.insert(name.to_owned()) {
        return Ok(());
    }
    let content = read(file)?;
    for needed in depends(&content) {
        visit(&needed, files, visited, picked)?;
    }
    picked.push(Module {
        name: name.to_owned(),
        content,
    });
    Ok(())
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let path = entry.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        }
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{}: not a kernel module", file.display()),
    };
    if host::find(tool).is_none() {
        bail!("{} needs {tool}; install it", file.display());
    }
    let output = Command::new(tool).arg("-dc").arg(file).output()?;
    if !output.status.success() {
        bail!("{tool} cannot decompress {}", file.display());
    }
    Ok(output.stdout)
}

/// The `depends=` line of the module's `.modinfo` section.
fn depends(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = content.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &content[start + KEY.len()..];
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF junk\0license=GPL\0depends=libcrc32c,udp-tunnel\0retpoline=Y\0";
        assert_eq!(depends(module), ["libcrc32c", "udp_tunnel"]);
        assert_eq!(depends(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(depends(b"no such section"), Vec::<String>::new());
    }
}
