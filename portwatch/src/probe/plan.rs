//! Which mechanism each signal gets: features in, plan out, no I/O.
//!
//! Every signal has a ladder of mechanisms, best first. The plan takes the highest rung that nothing
//! stands against, remembers why the better ones were passed over, and what the one taken cannot see.

mod ladder;
mod obstacle;
mod signal;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;

use portwatch_common::settings::{SockOpsSignals, SyscallSignals};
use thiserror::Error;

use crate::event::sensor::SignalMechanism;
use crate::event::{Mechanism, Protocol};
use crate::kernel::features::Features;

pub use signal::{Attach, CgroupHook, Program, Signal};

/// A rung of the ladders, best first, without the difference between the entry and the exit of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// Trampolines: fexit and fentry.
    Fexit,
    /// kretprobe and kprobe.
    Kretprobe,
    /// cgroup2 hooks.
    Cgroup,
    /// BTF-typed raw tracepoints.
    TpBtf,
    /// System call tracepoints.
    Tracepoint,
    /// The inventory's iterator.
    Iterator,
    /// Looking again from time to time; always possible.
    Reconcile,
}

impl Rung {
    /// Those that can be asked for.
    pub const FORCEABLE: [Self; 6] = [
        Self::Fexit,
        Self::Kretprobe,
        Self::Cgroup,
        Self::TpBtf,
        Self::Tracepoint,
        Self::Reconcile,
    ];

    /// The name in `--rung`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Kretprobe => "kretprobe",
            Self::Cgroup => "cgroup",
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
            Self::Reconcile => "reconcile",
        }
    }

    /// The rung that a mechanism belongs to.
    #[must_use]
    pub const fn of(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Fexit | Mechanism::Fentry => Self::Fexit,
            Mechanism::Kretprobe | Mechanism::Kprobe => Self::Kretprobe,
            Mechanism::Cgroup => Self::Cgroup,
            Mechanism::TpBtf => Self::TpBtf,
            Mechanism::Tracepoint => Self::Tracepoint,
            Mechanism::Iterator => Self::Iterator,
            Mechanism::Snapshot | Mechanism::Reconcile => Self::Reconcile,
        }
    }
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::FORCEABLE
            .into_iter()
            .find(|rung| rung.as_str() == name)
            .ok_or_else(|| {
                let known = Self::FORCEABLE.map(Self::as_str).join(", ");
                format!("there is no rung of this name; choose one of {known}")
            })
    }
}

/// A better mechanism that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Why, as a clause.
    pub reason: String,
}

/// What a signal got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The signal.
    pub signal: Signal,
    /// The mechanism it got.
    pub mechanism: Mechanism,
    /// The programs that make it, none for [`Mechanism::Reconcile`].
    pub programs: Vec<Program>,
    /// Better mechanisms that were passed over, best first.
    pub rejected: Vec<Rejected>,
    /// What is not seen, or only later.
    pub blind_to: Option<&'static str>,
    /// What the administrator can do about it.
    pub remedy: Option<&'static str>,
}

impl Choice {
    /// The rung it stands on.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        Rung::of(self.mechanism)
    }

    /// Would a better mechanism of its ladder see more?
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        self.blind_to.is_some() && !self.rejected.is_empty()
    }
}

/// A rung was asked for that no signal can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no sensor of this host can use --rung {rung}: {reason}; leave --rung out to give each sensor its best mechanism"
)]
pub struct ImpossibleRung {
    /// The name of the rung.
    pub rung: &'static str,
    /// What stands against it, as a clause.
    pub reason: String,
}

/// What went wrong when a plan was carried out.
#[derive(Clone, Debug)]
struct Failure {
    /// A rung of one signal, or everything that needs a program.
    what: Failed,
    reason: String,
}

#[derive(Clone, Debug)]
enum Failed {
    Mechanism(Signal, Mechanism),
    Program(String),
}

/// The mechanism of every signal.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for each signal that this host can have, in the order of [`Signal::ALL`].
    pub choices: Vec<Choice>,
    features: Features,
    forced: Option<Rung>,
    failures: Vec<Failure>,
}

/// Chooses for every signal. `forced` makes signals pass over every better rung; a signal with a single
/// mechanism keeps it, unless [`Rung::Reconcile`] is forced.
///
/// # Errors
/// When no signal at all can have the forced rung.
pub fn plan(features: &Features, forced: Option<Rung>) -> Result<Plan, ImpossibleRung> {
    let plan = Plan::choose(features.clone(), forced, Vec::new());
    match forced {
        Some(rung) if !plan.choices.iter().any(|choice| choice.rung() == rung) => {
            let reason = plan
                .choices
                .iter()
                .flat_map(|choice| &choice.rejected)
                .find(|rejected| Rung::of(rejected.mechanism) == rung)
                .map_or_else(
                    || "no sensor has it".to_owned(),
                    |rejected| rejected.reason.clone(),
                );
            Err(ImpossibleRung {
                rung: rung.as_str(),
                reason,
            })
        }
        _ => Ok(plan),
    }
}

/// What tells of the openings of a protocol.
const OPENINGS: [(Protocol, &[Signal]); 8] = [
    (Protocol::Tcp, &[Signal::TcpListen]),
    (Protocol::Mptcp, &[Signal::TcpListen]),
    (Protocol::Sctp, &[Signal::SctpListen]),
    (Protocol::Udp, &[Signal::UdpBind]),
    (Protocol::Udplite, &[Signal::UdpBind]),
    (Protocol::Unix, &[Signal::UnixBind, Signal::UnixListen]),
    (Protocol::Packet, &[Signal::PacketOpen]),
    (Protocol::Raw, &[Signal::RawOpen]),
];

impl Plan {
    /// What a signal got; none when this host cannot have the signal (SCTP).
    #[must_use]
    pub fn choice(&self, signal: Signal) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.signal == signal)
    }

    /// Does this signal come by this mechanism?
    #[must_use]
    pub fn uses(&self, signal: Signal, mechanism: Mechanism) -> bool {
        self.choice(signal)
            .is_some_and(|choice| choice.mechanism == mechanism)
    }

    /// Every program that the plan needs, each once, in the order of the signals.
    #[must_use]
    pub fn programs(&self) -> Vec<Program> {
        let mut seen = BTreeSet::new();
        let all = self.choices.iter().flat_map(|choice| &choice.programs);
        all.filter(|program| seen.insert(program.name))
            .copied()
            .collect()
    }

    /// The signals that need a program.
    pub fn signals_of<'a>(&'a self, program: &'a str) -> impl Iterator<Item = Signal> + 'a {
        self.choices
            .iter()
            .filter(move |choice| choice.programs.iter().any(|one| one.name == program))
            .map(|choice| choice.signal)
    }

    /// Is there anything that sees a listener when it opens? Without, there is only looking again.
    #[must_use]
    pub fn has_sensor(&self) -> bool {
        self.choices
            .iter()
            .any(|choice| choice.signal.is_opening() && choice.mechanism != Mechanism::Reconcile)
    }

    /// The protocols whose listeners are all told when they open.
    #[must_use]
    pub fn told_openings(&self) -> Vec<Protocol> {
        let is_told = |signal: &Signal| {
            self.choice(*signal)
                .is_some_and(|choice| choice.mechanism != Mechanism::Reconcile)
        };
        let told = OPENINGS.iter();
        told.filter(|(_, signals)| signals.iter().all(is_told))
            .map(|&(protocol, _)| protocol)
            .collect()
    }

    /// The plan after one mechanism of one signal failed when it was loaded or attached.
    #[must_use]
    pub fn demote(&self, signal: Signal, mechanism: Mechanism, reason: &str) -> Self {
        self.after(Failed::Mechanism(signal, mechanism), reason)
    }

    /// The plan after a program failed when it was loaded or attached: every rung that needs it is
    /// passed over.
    #[must_use]
    pub fn demote_program(&self, program: &str, reason: &str) -> Self {
        self.after(Failed::Program(program.to_owned()), reason)
    }

    /// Every signal with its mechanism, as `sensor.ready` tells it.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<SignalMechanism> {
        self.choices
            .iter()
            .map(|choice| SignalMechanism {
                signal: choice.signal.as_str().to_owned(),
                mechanism: choice.mechanism,
            })
            .collect()
    }

    /// Must the state program announce listens before the kernel validated them
    /// ([`Settings::listen_tentative`])? Only where nothing better tells of them.
    ///
    /// [`Settings::listen_tentative`]: portwatch_common::settings::Settings::listen_tentative
    #[must_use]
    pub fn listen_tentative(&self) -> bool {
        self.uses(Signal::TcpListen, Mechanism::TpBtf)
    }

    /// Bits of [`SockOpsSignals`]: one program serves both signals, and reports only those that no better mechanism does.
    #[must_use]
    pub fn sock_ops_signals(&self) -> u32 {
        [
            (Signal::TcpListen, SockOpsSignals::LISTEN),
            (Signal::TcpSyn, SockOpsSignals::SYN),
        ]
        .into_iter()
        .filter(|&(signal, _)| self.uses(signal, Mechanism::Cgroup))
        .fold(0, |bits, (_, bit)| bits | bit)
    }

    /// Bits of [`SyscallSignals`]: the system call tracepoints serve several signals, and report only
    /// those that no better mechanism does.
    #[must_use]
    pub fn syscall_signals(&self) -> u32 {
        [
            (Signal::BindFailed, SyscallSignals::FAILURES),
            (Signal::UnixBind, SyscallSignals::UNIX_BIND),
            (Signal::UnixListen, SyscallSignals::UNIX_LISTEN),
            (Signal::PacketOpen, SyscallSignals::PACKET),
            (Signal::UdpBind, SyscallSignals::UDP_BIND),
            (Signal::RawOpen, SyscallSignals::RAW),
            (Signal::TcpListen, SyscallSignals::INET_LISTEN),
            (Signal::TcpBacklog, SyscallSignals::INET_LISTEN),
        ]
        .into_iter()
        .filter(|&(signal, _)| self.uses(signal, Mechanism::Tracepoint))
        .fold(0, |bits, (_, bit)| bits | bit)
    }

    fn after(&self, what: Failed, reason: &str) -> Self {
        let mut failures = self.failures.clone();
        failures.push(Failure {
            what,
            reason: reason.to_owned(),
        });
        Self::choose(self.features.clone(), self.forced, failures)
    }

    fn choose(features: Features, forced: Option<Rung>, failures: Vec<Failure>) -> Self {
        let choices = Signal::ALL
            .into_iter()
            .filter(|&signal| signal != Signal::SctpListen || features.sctp)
            .map(|signal| choose(signal, &features, forced, &failures))
            .collect();
        Self {
            choices,
            features,
            forced,
            failures,
        }
    }
}

/// Is this a program of signals of storms and no other?
#[must_use]
pub fn counts_alone(program: &str) -> bool {
    let needs = |signal: &Signal| {
        let mut programs = ladder::steps(*signal).iter().flat_map(|step| step.programs);
        programs.any(|one| one.name == program)
    };
    let mut needing = Signal::ALL.into_iter().filter(needs).peekable();
    needing.peek().is_some() && needing.all(Signal::is_of_storms)
}

fn choose(
    signal: Signal,
    features: &Features,
    forced: Option<Rung>,
    failures: &[Failure],
) -> Choice {
    let steps = ladder::steps(signal);
    // A signal with one mechanism has nothing to choose from; only "no mechanism at all" moves it.
    let forced = forced.filter(|&rung| steps.len() > 1 || rung == Rung::Reconcile);
    let mut rejected = Vec::new();
    let mut remedies = Vec::new();
    for step in steps {
        let programs: Vec<_> = step
            .programs
            .iter()
            .filter_map(|&program| obstacle::adapt(features, program))
            .collect();
        let mut reject = |reason| {
            rejected.push(Rejected {
                mechanism: step.mechanism,
                reason,
            });
        };
        if let Some(rung) = forced.filter(|&rung| Rung::of(step.mechanism) < rung) {
            reject(format!("passed over, as --rung {} asks", rung.as_str()));
        } else if let Some(failure) = failures
            .iter()
            .find(|failure| failure.hits(signal, step.mechanism, &programs))
        {
            reject(failure.reason.clone());
        } else if let Some(obstacle) = obstacle::first(features, &programs) {
            remedies.extend(obstacle.remedy);
            reject(obstacle.reason);
        } else {
            return Choice {
                signal,
                mechanism: step.mechanism,
                programs,
                rejected,
                blind_to: step.blind_to,
                remedy: cheapest(step.blind_to, &remedies),
            };
        }
    }
    let blind_to = Some(ladder::reconcile_is_blind_to(signal));
    Choice {
        signal,
        mechanism: Mechanism::Reconcile,
        programs: Vec::new(),
        rejected,
        blind_to,
        remedy: cheapest(blind_to, &remedies),
    }
}

/// The remedy that costs least, where there is something to remedy.
fn cheapest(blind_to: Option<&'static str>, remedies: &[obstacle::Remedy]) -> Option<&'static str> {
    blind_to?;
    remedies.iter().min().map(|remedy| remedy.as_str())
}

impl Failure {
    fn hits(&self, signal: Signal, mechanism: Mechanism, programs: &[Program]) -> bool {
        match &self.what {
            Failed::Mechanism(failed, by) => *failed == signal && *by == mechanism,
            Failed::Program(name) => programs.iter().any(|program| program.name == name),
        }
    }
}
