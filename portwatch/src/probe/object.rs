//! The built eBPF object, part of this program, so that nothing has to be found at run time.

use std::io::{self, Read as _};

use flate2::read::DeflateDecoder;
use zerocopy::IntoBytes as _;

/// The ELF file that `cargo xtask ebpf` builds, packed by `build.rs`; its manifest lies beside it in the tree.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/object.deflate"));
/// Its size, in bytes.
const SIZE: &str = env!("PORTWATCH_OBJECT_BYTES");

/// The ELF file, aligned as its structures are.
#[derive(Debug)]
pub struct Object {
    words: Vec<u64>,
    size: usize,
}

impl Object {
    /// Unpacks it.
    ///
    /// # Errors
    /// Never, unless this program's own file is damaged.
    pub fn unpack() -> io::Result<Self> {
        let size = SIZE.parse().map_err(io::Error::other)?;
        let mut words = vec![0_u64; usize::div_ceil(size, size_of::<u64>())];
        let mut decoder = DeflateDecoder::new(PACKED);
        let room = words.as_mut_bytes().get_mut(..size).unwrap_or_default();
        decoder.read_exact(room)?;
        Ok(Self { words, size })
    }
}

impl AsRef<[u8]> for Object {
    fn as_ref(&self) -> &[u8] {
        self.words.as_bytes().get(..self.size).unwrap_or_default()
    }
}

/// Names of maps and globals in the object.
pub mod names {
    /// Ring of listeners.
    pub const CRITICAL: &str = "CRITICAL";
    /// Ring of process lifecycles.
    pub const PROCESS: &str = "PROCESS";
    /// Ring of connection states.
    pub const BULK: &str = "BULK";
    /// Per-CPU counters.
    pub const COUNTERS: &str = "COUNTERS";
    /// Switches that change while running.
    pub const CONTROL: &str = "CONTROL";
    /// Reported listeners by socket address.
    pub const TRACKED: &str = "TRACKED";
    /// Accounts of a crowded ring by cgroup.
    pub const CROWD: &str = "CROWD";
    /// Cells of listeners.
    pub const CELLS: &str = "CELLS";
    /// Whom busy listeners and processes have to do with.
    pub const PEERS: &str = "PEERS";
    /// Processes that connect.
    pub const PROCESSES: &str = "PROCESSES";
    /// Connects that are not told to the processes yet.
    pub const OPENING: &str = "OPENING";
    /// Who knocks at closed ports.
    pub const SOURCES: &str = "SOURCES";
    /// From which rate on something is announced.
    pub const THRESHOLDS: &str = "THRESHOLDS";
    /// Field offsets.
    pub const OFFSETS: &str = "OFFSETS";
    /// Constants fixed at load.
    pub const SETTINGS: &str = "SETTINGS";
    /// Level of the diagnostics from the kernel side.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn it_is_the_object_of_the_tree() {
        let name = match cfg!(target_arch = "x86_64") {
            true => "ebpf/portwatch.bpf.o",
            false => "ebpf/portwatch.bpf.arm64.o",
        };
        let built = std::fs::read(name).expect("in the tree");
        let object = Object::unpack().expect("whole");
        assert!(object.as_ref() == built, "another object is packed");
    }
}
