//! Turns missing privileges into one sentence that says which, and what to do.

use std::fmt;

use super::capability::Capability;
use super::features::Features;

/// The exit code for a lack of privileges: `EX_NOPERM` of `sysexits.h`.
pub const EXIT_NOT_PERMITTED: u8 = 77;

/// The probes cannot be loaded by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPermitted {
    /// What is missing; empty when the capabilities are there but do not count.
    pub missing: Vec<Capability>,
}

impl std::error::Error for NotPermitted {}

impl fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.missing.is_empty() {
            return f.write_str(
                "not permitted to load probes: the capabilities of this process end at its user namespace; \
                 run it outside the container, or in the host's user namespace",
            );
        }
        f.write_str("not permitted to load probes: ")?;
        for (index, capability) in self.missing.iter().enumerate() {
            let between = if index == 0 { "" } else { " and " };
            write!(f, "{between}{}", capability.as_str())?;
        }
        let verb = if self.missing.len() == 1 { "is" } else { "are" };
        write!(
            f,
            " {verb} missing; run as root, or grant CAP_BPF and CAP_PERFMON \
             (CAP_SYS_ADMIN before Linux 5.8)"
        )
    }
}

/// A capability that one can do without, at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limitation {
    /// What is missing.
    pub missing: Capability,
    /// What is lost: "without it …".
    pub loses: &'static str,
    /// What is not seen for want of it, where no signal's mechanism tells that anyway.
    pub blind_to: Option<&'static str>,
}

/// Tells whether probes can be loaded at all, and what is lost by optional capabilities that are missing.
///
/// # Errors
/// When CAP_BPF or CAP_PERFMON are missing and CAP_SYS_ADMIN is too, or when they do not count because
/// the process is not in the initial user namespace.
pub fn check(features: &Features) -> Result<Vec<Limitation>, NotPermitted> {
    let missing: Vec<_> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|&one| !features.capabilities.allows(one))
        .collect();
    if !missing.is_empty() || !features.initial_user_namespace {
        return Err(NotPermitted { missing });
    }
    Ok(limitations(features))
}

/// What is lost by each optional capability that is missing.
#[must_use]
pub fn limitations(features: &Features) -> Vec<Limitation> {
    let caps = features.capabilities;
    let optional = [
        (
            Capability::NetAdmin,
            caps.allows(Capability::NetAdmin),
            "no cgroup program can be loaded, which some kernels need for UDP and TCP listeners",
            None,
        ),
        (
            Capability::SysPtrace,
            caps.has(Capability::SysPtrace),
            "executables and descriptors of other users' processes cannot be read from /proc",
            Some(
                "executables, directories and network namespaces of other users' or more capable \
                 processes, where only /proc could tell them",
            ),
        ),
        (
            Capability::DacReadSearch,
            caps.has(Capability::DacReadSearch) || caps.has(Capability::DacOverride),
            "executables in closed directories cannot be hashed",
            Some("hashes of executables in closed directories"),
        ),
        (
            Capability::SysResource,
            caps.has(Capability::SysResource),
            "the locked-memory limit cannot be raised, so maps may be refused before Linux 5.11",
            None,
        ),
        (
            Capability::SysAdmin,
            features.tracefs.is_ok() || caps.has(Capability::SysAdmin),
            "tracefs cannot be mounted privately, so system calls are not traced",
            None,
        ),
        (
            Capability::SysAdmin,
            caps.has(Capability::SysAdmin),
            "other network namespaces cannot be entered to look for sockets without a descriptor",
            Some(
                "sockets of other network namespaces, where no probe and no descriptor tells of them",
            ),
        ),
    ];
    optional
        .into_iter()
        .filter(|&(_, has, ..)| !has)
        .map(|(missing, _, loses, blind_to)| Limitation {
            missing,
            loses,
            blind_to,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Capability, Features, check};
    use crate::kernel::capability::Capabilities;

    fn with(list: &[Capability]) -> Features {
        let mut features = Features::everything();
        features.capabilities = Capabilities::of(list);
        features
    }

    #[test]
    fn root_has_no_limitation() {
        assert_eq!(check(&Features::everything()), Ok(Vec::new()));
    }

    #[test]
    fn exactly_what_is_missing_is_named() {
        let error = check(&with(&[Capability::Bpf])).expect_err("CAP_PERFMON is missing");
        assert_eq!(error.missing, [Capability::Perfmon]);
        assert!(
            error
                .to_string()
                .starts_with("not permitted to load probes: CAP_PERFMON is missing; run as root"),
            "{error}"
        );
        let error = check(&with(&[])).expect_err("all are missing");
        assert!(
            error
                .to_string()
                .contains("CAP_BPF and CAP_PERFMON are missing"),
            "{error}"
        );
    }

    #[test]
    fn sys_admin_serves_as_well() {
        let limitations = check(&with(&[Capability::SysAdmin])).expect("enough to load");
        let missing: Vec<_> = limitations.iter().map(|l| l.missing).collect();
        assert_eq!(
            missing,
            [
                Capability::SysPtrace,
                Capability::DacReadSearch,
                Capability::SysResource
            ]
        );
    }

    #[test]
    fn bpf_and_perfmon_without_the_rest_work_with_limits() {
        let mut features = with(&[Capability::Bpf, Capability::Perfmon]);
        features.tracefs = Err("tracefs is not mounted".to_owned());
        let limitations = check(&features).expect("enough to load");
        assert!(
            limitations
                .iter()
                .any(|l| l.missing == Capability::NetAdmin)
        );
        assert!(
            limitations
                .iter()
                .any(|l| l.missing == Capability::SysAdmin)
        );
    }

    #[test]
    fn either_of_two_opens_closed_directories() {
        let mut capable = Capability::ALL.to_vec();
        capable.retain(|&one| one != Capability::DacReadSearch);
        assert_eq!(check(&with(&capable)), Ok(Vec::new()));
        capable.retain(|&one| one != Capability::DacOverride);
        let limitations = check(&with(&capable)).expect("enough to load");
        let missing: Vec<_> = limitations.iter().map(|l| l.missing).collect();
        assert_eq!(missing, [Capability::DacReadSearch]);
    }

    #[test]
    fn a_container_that_only_looks_like_root_is_told() {
        let mut features = Features::everything();
        features.initial_user_namespace = false;
        let error = check(&features).expect_err("capabilities do not count");
        assert!(error.to_string().contains("user namespace"), "{error}");
    }
}
