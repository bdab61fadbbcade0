//! Which programs share their hook with a spare one.
//!
//! Where the kernel preempts probes, it skips one for every task that makes the same call on that CPU
//! meanwhile (trap `preempted_probe`). Then each hook gets the same program twice: what one is skipped for,
//! the other tells.

use portwatch_common::counters::{Counters, Hook, SpareCounters};

use super::plan::{Program, counts_alone};

/// Program, its spare one, and their hook.
const PAIRS: [(&str, &str, Hook); 25] = [
    ("listen_fexit", "listen_fexit_spare", Hook::LISTEN),
    (
        "listen_backlog_fexit",
        "listen_backlog_fexit_spare",
        Hook::LISTEN,
    ),
    ("relisten_fexit", "relisten_fexit_spare", Hook::RELISTEN),
    ("bind_fexit", "bind_fexit_spare", Hook::BIND),
    ("bind6_fexit", "bind6_fexit_spare", Hook::BIND6),
    ("unix_bind_fexit", "unix_bind_fexit_spare", Hook::UNIX_BIND),
    (
        "unix_listen_fexit",
        "unix_listen_fexit_spare",
        Hook::UNIX_LISTEN,
    ),
    (
        "packet_create_fexit",
        "packet_create_fexit_spare",
        Hook::PACKET_CREATE,
    ),
    (
        "packet_bind_fexit",
        "packet_bind_fexit_spare",
        Hook::PACKET_BIND,
    ),
    ("raw_open_fexit", "raw_open_fexit_spare", Hook::RAW_OPEN),
    (
        "udp_close_fentry",
        "udp_close_fentry_spare",
        Hook::UDP_CLOSE,
    ),
    (
        "udp6_close_fentry",
        "udp6_close_fentry_spare",
        Hook::UDP6_CLOSE,
    ),
    (
        "unix_close_fentry",
        "unix_close_fentry_spare",
        Hook::UNIX_CLOSE,
    ),
    (
        "packet_close_fentry",
        "packet_close_fentry_spare",
        Hook::PACKET_CLOSE,
    ),
    (
        "raw_close_fentry",
        "raw_close_fentry_spare",
        Hook::RAW_CLOSE,
    ),
    ("exec_tp_btf", "exec_tp_btf_spare", Hook::EXEC),
    ("fork_tp_btf", "fork_tp_btf_spare", Hook::FORK),
    ("exit_tp_btf", "exit_tp_btf_spare", Hook::EXIT),
    (
        "listener_state_tp_btf",
        "listener_state_tp_btf_spare",
        Hook::STATE,
    ),
    ("bind_enter", "bind_enter_spare", Hook::BIND_ENTER),
    ("bind_exit", "bind_exit_spare", Hook::BIND_EXIT),
    ("listen_enter", "listen_enter_spare", Hook::LISTEN_ENTER),
    ("listen_exit", "listen_exit_spare", Hook::LISTEN_EXIT),
    ("socket_enter", "socket_enter_spare", Hook::SOCKET_ENTER),
    ("socket_exit", "socket_exit_spare", Hook::SOCKET_EXIT),
];

/// The program that stands in for this one; none for kinds that run undisturbed.
pub(super) fn of(program: &Program) -> Option<Program> {
    let (_, name, _) = pair(program.name)?;
    Some(Program {
        name,
        attach: program.attach,
    })
}

/// The program that does a part of this one's work on kernels that preempt probes: that of state changes is
/// busy with connections, and is skipped too often for listeners.
pub(super) fn part_of(program: &Program) -> Option<Program> {
    (program.name == STATES).then_some(Program {
        name: "listener_state_tp_btf",
        attach: program.attach,
    })
}

/// Does this program see connections alone where the kernel preempts probes? While nobody streams them, one that it
/// is skipped for is missing in the counts of transitions alone, and `status` tells how many.
pub(super) fn is_of_connections(program: &str) -> bool {
    program == STATES
}

/// Does this program do nothing but count? One that it is skipped for is a count too low by one, and no listener that
/// was missed.
pub(super) fn is_of_counts(program: &str) -> bool {
    counts_alone(program)
}

/// Of every state change.
const STATES: &str = "state_tp_btf";

/// Does this program stand in for another one?
pub(super) fn is_spare(program: &str) -> bool {
    PAIRS.iter().any(|(_, spare, _)| *spare == program)
}

/// The program that stands in for this one, and how the two shared their hook.
pub(super) fn shared(program: &str, counters: &Counters) -> Option<Shared> {
    let (_, spare, hook) = pair(program)?;
    let index = usize::try_from(hook.0).ok()?;
    Some(Shared {
        spare,
        counted: *counters.spares.get(index)?,
    })
}

/// A spare program and its counters.
pub(super) struct Shared {
    pub(super) spare: &'static str,
    pub(super) counted: SpareCounters,
}

fn pair(program: &str) -> Option<(&'static str, &'static str, Hook)> {
    PAIRS.into_iter().find(|(first, _, _)| *first == program)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portwatch_common::counters::{HOOKS, Hook};

    use super::PAIRS;
    use crate::probe::object::Object;

    #[test]
    fn every_pair_is_in_the_object_and_every_hook_has_one() {
        let object = Object::unpack().expect("whole");
        let has = |name: &str| {
            let name = [name.as_bytes(), b"\0"].concat();
            object
                .as_ref()
                .windows(name.len())
                .any(|bytes| bytes == name)
        };
        for (first, spare, _) in PAIRS {
            assert!(has(first) && has(spare), "{first}, {spare}");
        }
        let hooks: BTreeSet<_> = PAIRS.iter().map(|(_, _, hook)| hook.0).collect();
        assert_eq!(hooks.len(), HOOKS);
        assert_eq!(Hook::ALL.len(), HOOKS);
    }
}
