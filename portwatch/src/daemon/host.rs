//! The host that events come from.

use crate::event::Host;
use crate::text::escape;

/// Reads the host's name and ids.
pub(super) fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        name: escape(uname.nodename().to_bytes()),
        id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel: escape(uname.release().to_bytes()),
    }
}

/// Inode of the network namespace that the host itself lives in: init's, or ours where that cannot be read.
#[must_use]
pub fn network_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    ["/proc/1/ns/net", "/proc/self/ns/net"]
        .into_iter()
        .find_map(|path| std::fs::metadata(path).ok())
        .and_then(|metadata| u32::try_from(metadata.ino()).ok())
        .unwrap_or(0)
}

fn line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| escape(line.as_bytes()))
}
