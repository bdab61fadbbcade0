//! The built eBPF object, part of this program, so that nothing has to be found at run time.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "there are eBPF objects for x86_64 and aarch64 only: kprobe programs read a machine's argument registers"
);

/// The ELF file that `cargo xtask ebpf` builds; its manifest lies beside it in the tree.
#[cfg(target_arch = "x86_64")]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/portwatch.bpf.o");
/// The ELF file that `cargo xtask ebpf` builds; its manifest lies beside it in the tree.
#[cfg(target_arch = "aarch64")]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/portwatch.bpf.arm64.o");

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
    /// Field offsets.
    pub const OFFSETS: &str = "OFFSETS";
    /// Constants fixed at load.
    pub const SETTINGS: &str = "SETTINGS";
    /// Level of the diagnostics from the kernel side.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
}
