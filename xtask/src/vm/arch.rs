//! What differs between the machines that kernels are booted on.

use std::path::Path;

use clap::ValueEnum;

/// A processor architecture, by Debian's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit PC, the architecture of this repository's hosts.
    #[default]
    Amd64,
    /// 64-bit Arm: built by Debian's cross compiler, booted on QEMU's `virt` board.
    Arm64,
}

impl Arch {
    /// Debian's name.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Is it the host's own?
    pub(crate) const fn is_native(self) -> bool {
        match self {
            Self::Amd64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        }
    }

    /// QEMU's program, and the Debian package that has it.
    pub(crate) const fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The processor. QEMU 7.2 emulates CMPXCHG16B wrongly (it leaves an address in the flags), and kernels
    /// since 6.2 allocate memory with it: they died of double faults at random, mostly while booting. Where a processor is said
    /// to be fast at string instructions, kernels and C libraries copy and clear byte by byte, each of which is a step of
    /// the emulation; and a fifth level of page tables is walked at each miss. Without them a suite takes two thirds.
    pub(crate) const fn processor(self) -> &'static str {
        match self {
            Self::Amd64 => "max,-cx16,-erms,-fsrm,-la57",
            Self::Arm64 => "max",
        }
    }

    /// The kernel's name of the first serial port.
    pub(crate) const fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// The board with its two ports: the kernel's console goes to `log`, the suite's output to standard
    /// output. The Arm board has one port of its own; the second is a PCI card with the first `ttyS` name.
    pub(crate) fn board(self, log: &Path) -> Vec<String> {
        let console = format!("file:{}", log.display());
        let words: &[&str] = match self {
            Self::Amd64 => &["-serial", &console, "-serial", "stdio"],
            Self::Arm64 => &[
                "-machine",
                "virt",
                "-serial",
                &console,
                "-chardev",
                "stdio,id=suite",
                "-device",
                "pci-serial,chardev=suite",
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}
