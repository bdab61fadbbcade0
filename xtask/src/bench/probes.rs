//! What the kernel says of loaded BPF programs: which one is on the hook, and how long its runs take.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};

use super::process;

/// What names of programs on `inet_sock_set_state` have in common, within the 15 bytes that the kernel
/// keeps: `state_tp_btf`, `handle_set_state`, `inet_sock_set_s`.
const STATES: [&str; 2] = ["state_tp_btf", "set_s"];
/// The program that counts SYNs, by its mechanism.
const SYNS: [&str; 3] = ["syn_fentry", "syn_kprobe", "tcp_sockops"];

/// The kernel measures programs for as long as this lives, also when the process is killed.
#[derive(Debug)]
pub(crate) struct Measuring(#[expect(dead_code, reason = "open is on")] OwnedFd);

/// How often a program ran, and for how long altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Times that it ran.
    pub(crate) count: u64,
    /// Time it took.
    pub(crate) time: Duration,
}

impl Measuring {
    /// Begins.
    pub(crate) fn start() -> Result<Self> {
        let on = enable_stats(Stats::RunTime).context("cannot have the kernel measure programs")?;
        Ok(Self(on))
    }
}

impl Runs {
    /// Of the program that this process has on the state changes of sockets.
    pub(crate) fn of_states(pid: u32) -> Result<Self> {
        let program = of_states(pid).context("no program on the state changes of sockets")?;
        Ok(Self::of(&program))
    }

    /// Of the program that counts SYNs for this process.
    pub(crate) fn of_syns(pid: u32) -> Result<Self> {
        let program = program(pid, &SYNS).context("no program counts SYNs")?;
        Ok(Self::of(&program))
    }

    /// Of all programs of this process.
    pub(crate) fn of_all(pid: u32) -> Self {
        let held = process::bpf_programs(pid);
        let ours = loaded_programs().flatten();
        let ours = ours.filter(|program| held.contains(&program.id()));
        ours.fold(Self::default(), |sum, program| {
            let one = Self::of(&program);
            Self {
                count: sum.count + one.count,
                time: sum.time + one.time,
            }
        })
    }

    fn of(program: &ProgramInfo) -> Self {
        Self {
            count: program.run_count(),
            time: program.run_time(),
        }
    }

    /// Nanoseconds that a run took since `before`; `None` when there was none.
    pub(crate) fn each_since(self, before: Self) -> Option<f64> {
        let runs = self
            .count
            .checked_sub(before.count)
            .filter(|&runs| runs > 0)?;
        let time = self.time.checked_sub(before.time)?;
        Some(time.as_nanos() as f64 / runs as f64)
    }
}

/// The program that this process has on the state changes of sockets.
pub(crate) fn of_states(pid: u32) -> Option<ProgramInfo> {
    program(pid, &STATES)
}

/// The first program that this process has under one of these names.
fn program(pid: u32, names: &[&str]) -> Option<ProgramInfo> {
    let held = process::bpf_programs(pid);
    loaded_programs().flatten().find(|program| {
        let name = program.name_as_str().unwrap_or_default();
        held.contains(&program.id()) && names.iter().any(|known| name.contains(known))
    })
}

/// Programs that are loaded now.
pub(crate) fn loaded() -> usize {
    loaded_programs().flatten().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_was_added_since() {
        let runs = |count, nanoseconds| Runs {
            count,
            time: Duration::from_nanos(nanoseconds),
        };
        assert_eq!(runs(300, 9_000).each_since(runs(100, 1_000)), Some(40.0));
        assert_eq!(runs(100, 1_000).each_since(runs(100, 1_000)), None);
        assert_eq!(runs(0, 0).each_since(runs(100, 1_000)), None, "another one");
    }
}
