//! The capabilities that matter here, which of them this process has, and what each is for.

use std::path::Path;

use super::read;

/// A capability, by its number in `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Capability {
    /// Do anything with any file and directory.
    DacOverride = 1,
    /// Read any file and directory.
    DacReadSearch = 2,
    /// Network administration; loads and attaches cgroup programs.
    NetAdmin = 12,
    /// Look into other processes.
    SysPtrace = 19,
    /// Nearly everything; stands for CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN in BPF matters.
    SysAdmin = 21,
    /// Raise resource limits.
    SysResource = 24,
    /// Load tracing programs, read kernel memory (Linux 5.8).
    Perfmon = 38,
    /// Make maps, load programs (Linux 5.8).
    Bpf = 39,
}

impl Capability {
    /// All that are asked for.
    pub const ALL: [Self; 8] = [
        Self::Bpf,
        Self::Perfmon,
        Self::SysAdmin,
        Self::NetAdmin,
        Self::SysPtrace,
        Self::DacReadSearch,
        Self::DacOverride,
        Self::SysResource,
    ];

    /// The name as manuals and systemd units write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// The effective capabilities of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those of this thread; none when `/proc` does not tell.
    #[must_use]
    pub fn of_this_thread() -> Self {
        read::text(Path::new("/proc/thread-self/status"), 64 << 10)
            .ok()
            .and_then(|status| Self::parse(&status))
            .unwrap_or_default()
    }

    /// Reads the `CapEff` line of a `/proc/PID/status`.
    #[must_use]
    pub fn parse(status: &str) -> Option<Self> {
        let digits = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(digits.trim(), 16).ok().map(Self)
    }

    /// Exactly these.
    #[must_use]
    pub fn of(list: &[Capability]) -> Self {
        Self(list.iter().fold(0, |set, &one| set | 1 << one as u8))
    }

    /// Is this one effective?
    #[must_use]
    pub const fn has(self, one: Capability) -> bool {
        self.0 >> one as u8 & 1 == 1
    }

    /// May this process use what the capability is for in BPF matters: has it, or CAP_SYS_ADMIN?
    #[must_use]
    pub const fn allows(self, one: Capability) -> bool {
        self.has(one) || self.has(Capability::SysAdmin)
    }
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Capability};

    #[test]
    fn the_status_line_is_read_bit_by_bit() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000001004\nCapBnd:\t0\n";
        let caps = Capabilities::parse(status).expect("there is a CapEff line");
        let expected = [
            Capability::Bpf,
            Capability::Perfmon,
            Capability::NetAdmin,
            Capability::DacReadSearch,
        ];
        assert_eq!(caps, Capabilities::of(&expected));
        assert!(caps.has(Capability::Perfmon) && !caps.has(Capability::SysAdmin));
    }

    #[test]
    fn sys_admin_stands_for_bpf() {
        let caps = Capabilities::of(&[Capability::SysAdmin]);
        assert!(caps.allows(Capability::Bpf) && !caps.has(Capability::Bpf));
    }

    #[test]
    fn nonsense_is_no_capability() {
        for status in ["", "CapEff:", "CapEff:\tzz", "CapEff:\t1ffffffffffffffff"] {
            assert_eq!(Capabilities::parse(status), None, "{status:?}");
        }
    }
}
