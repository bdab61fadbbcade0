//! What can be taken away from portwatch, and what it is held to then: to see all, to say what it does
//! not see, or to refuse and name why.

/// A condition that portwatch has to live with.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The name that `PORTWATCH_TEST_CONDITION` takes.
    pub name: &'static str,
    /// What the guest's init does to the machine.
    pub change: Change,
    /// Capabilities that portwatch is started without.
    pub drops: &'static [&'static str],
    /// What portwatch is held to.
    pub claim: Claim,
    /// Scenarios that cannot be met here, and what the event itself must say instead.
    pub unmet: &'static [(&'static str, &'static str)],
}

impl Condition {
    /// Does this failure show that portwatch said, in the event, why it cannot meet the scenario?
    #[must_use]
    pub fn excuses(&self, scenario: &str, failure: &str) -> bool {
        let mut unmet = self.unmet.iter();
        unmet.any(|(name, words)| *name == scenario && failure.contains(words))
    }
}

/// A change of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// None.
    Nothing,
    /// Nothing is below this directory, as in a kernel that was built without it.
    Hide(&'static str),
    /// The file system that is mounted here is not.
    Unmount(&'static str),
    /// This level of lockdown, for good: nothing but a boot lifts it.
    LockDown(&'static str),
}

/// What portwatch is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It sees all that the best rung sees, and complains of nothing.
    Whole,
    /// It says that it misses something, each of these words; beyond that, the rung that it then
    /// uses is held to what such a rung sees.
    Says(&'static [&'static str]),
    /// Whole on kernels that allow it; elsewhere it says these words.
    WholeOrSays(&'static [&'static str]),
    /// It ends with 77 and names these.
    Refuses(&'static [&'static str]),
}

/// Every condition. What cannot be undone comes last, the weaker level first.
pub const ALL: [Condition; 14] = [
    machine(
        "no-btf",
        Change::Hide("/sys/kernel/btf"),
        Claim::Says(&["BTF"]),
    ),
    // Not mounted is not missed: portwatch mounts it for itself.
    machine(
        "no-tracefs",
        Change::Unmount("/sys/kernel/tracing"),
        Claim::Whole,
    ),
    machine(
        "no-cgroup2",
        Change::Unmount("/sys/fs/cgroup"),
        Claim::Whole,
    ),
    // CAP_SYS_ADMIN stands for both.
    without("no-cap-bpf", &["CAP_BPF"], Claim::Whole),
    without("no-cap-perfmon", &["CAP_PERFMON"], Claim::Whole),
    without(
        "no-cap-sys-admin",
        &["CAP_SYS_ADMIN"],
        Claim::Says(&["CAP_SYS_ADMIN"]),
    ),
    Condition {
        // What was there before has no record of its executable, only a link that may not be read.
        unmet: &[
            ("inventory::present_at_start", "needs CAP_SYS_PTRACE"),
            ("inventory::relative_path_at_start", "needs CAP_SYS_PTRACE"),
        ],
        ..without(
            "no-cap-sys-ptrace",
            &["CAP_SYS_PTRACE"],
            Claim::Says(&["CAP_SYS_PTRACE"]),
        )
    },
    // Root's CAP_DAC_OVERRIDE opens the same directories.
    without(
        "no-cap-dac-read-search",
        &["CAP_DAC_READ_SEARCH"],
        Claim::Whole,
    ),
    without(
        "no-cap-dac-at-all",
        &["CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"],
        Claim::Says(&["CAP_DAC_READ_SEARCH"]),
    ),
    // Before 5.11 maps count as locked memory.
    without(
        "no-cap-sys-resource",
        &["CAP_SYS_RESOURCE"],
        Claim::WholeOrSays(&["CAP_SYS_RESOURCE"]),
    ),
    without(
        "no-cap-bpf-at-all",
        &["CAP_BPF", "CAP_SYS_ADMIN"],
        Claim::Refuses(&["CAP_BPF"]),
    ),
    without(
        "no-cap-perfmon-at-all",
        &["CAP_PERFMON", "CAP_SYS_ADMIN"],
        Claim::Refuses(&["CAP_PERFMON"]),
    ),
    machine(
        "lockdown-integrity",
        Change::LockDown("integrity"),
        Claim::Whole,
    ),
    machine(
        "lockdown-confidentiality",
        Change::LockDown("confidentiality"),
        Claim::Says(&["lock", "confidentiality"]),
    ),
];

/// The condition of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Condition> {
    static CONDITIONS: [Condition; ALL.len()] = ALL;
    CONDITIONS.iter().find(|condition| condition.name == name)
}

const fn machine(name: &'static str, change: Change, claim: Claim) -> Condition {
    Condition {
        name,
        change,
        drops: &[],
        claim,
        unmet: &[],
    }
}

const fn without(name: &'static str, drops: &'static [&'static str], claim: Claim) -> Condition {
    Condition {
        name,
        change: Change::Nothing,
        drops,
        claim,
        unmet: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Change, Condition, named};

    #[test]
    fn every_name_is_found_and_means_one_condition() {
        for condition in ALL {
            assert_eq!(
                named(condition.name).map(|found| found.name),
                Some(condition.name)
            );
            let same = ALL.iter().filter(|other| other.name == condition.name);
            assert_eq!(same.count(), 1, "{}", condition.name);
            assert!(
                condition.change != Change::Nothing || !condition.drops.is_empty(),
                "{} takes nothing away",
                condition.name
            );
        }
        assert!(named("best").is_none());
    }

    #[test]
    fn only_the_named_scenario_is_excused_and_only_in_these_words() {
        let ptrace = named("no-cap-sys-ptrace").expect("known");
        let told = "exe is null in {unresolved: portwatch needs CAP_SYS_PTRACE}";
        assert!(ptrace.excuses("inventory::present_at_start", told));
        assert!(!ptrace.excuses("inventory::present_at_start", "nothing came"));
        assert!(!ptrace.excuses("tcp::v4", told));
    }

    #[test]
    fn lockdown_comes_last_because_only_a_boot_lifts_it() {
        let locks = |one: &Condition| matches!(one.change, Change::LockDown(_));
        for pair in ALL.windows(2) {
            assert!(locks(&pair[1]) || !locks(&pair[0]), "{}", pair[1].name);
        }
    }
}
