//! Which kinds of programs the kernel permits, and who asks it.

/// A kind of program that a kernel may or may not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramKind {
    /// Trampoline at function exit.
    Fexit,
    /// Trampoline at function entry.
    Fentry,
    /// Entry and return probes.
    Kprobe,
    /// BTF-typed raw tracepoint.
    TpBtf,
    /// Perf tracepoint.
    Tracepoint,
    /// cgroup hook of a socket (create, release, post-bind).
    CgroupSock,
    /// cgroup hook of TCP events.
    SockOps,
    /// Iterator over tasks and their files.
    Iterator,
}

impl ProgramKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Fexit,
        Self::Fentry,
        Self::Kprobe,
        Self::TpBtf,
        Self::Tracepoint,
        Self::CgroupSock,
        Self::SockOps,
        Self::Iterator,
    ];

    /// The name that people know it by.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::CgroupSock => "cgroup/sock",
            Self::SockOps => "sock_ops",
            Self::Iterator => "iterator",
        }
    }
}

/// The kernel's answer to the question whether a kind of program may be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permitted {
    /// One was loaded.
    Yes,
    /// Refused, with what the kernel said.
    No(String),
    /// Not asked.
    #[default]
    Unknown,
}

/// Asks the kernel by loading the smallest program of a kind.
pub trait Prober {
    /// Loads (and where that is the question, attaches) one.
    ///
    /// # Errors
    /// What the kernel said.
    fn try_kind(&mut self, kind: ProgramKind) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::{Permitted, Prober, ProgramKind};
    use crate::kernel::features::Features;

    struct NoTrampolines;
    impl Prober for NoTrampolines {
        fn try_kind(&mut self, kind: ProgramKind) -> Result<(), String> {
            match kind {
                ProgramKind::Fexit | ProgramKind::Fentry => Err("EPERM".to_owned()),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn the_prober_is_asked_about_every_kind() {
        let mut features = Features::everything();
        features.permitted.clear();
        assert_eq!(features.permitted(ProgramKind::TpBtf), &Permitted::Unknown);
        features.ask(&mut NoTrampolines);
        assert_eq!(
            features.permitted(ProgramKind::Fexit),
            &Permitted::No("EPERM".to_owned())
        );
        assert_eq!(features.permitted(ProgramKind::TpBtf), &Permitted::Yes);
        assert_eq!(features.permitted.len(), ProgramKind::ALL.len());
    }
}
