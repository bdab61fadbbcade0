//! Features in, plan out: what each kind of kernel gets.

use std::collections::BTreeSet;

use portwatch_common::settings::{SockOpsSignals, SyscallSignals};

use super::signal::Attach;
use super::{Plan, Rung, Signal, ladder, plan};
use crate::event::Mechanism::{
    Cgroup, Fentry, Fexit, Iterator, Kprobe, Kretprobe, Reconcile, TpBtf, Tracepoint,
};
use crate::event::{Mechanism, Protocol};
use crate::kernel::btf::Prototype;
use crate::kernel::capability::{Capabilities, Capability};
use crate::kernel::features::{
    FUNCTIONS, Features, Lockdown, RAW_TRACEPOINTS, SYSCALL_TRACEPOINTS,
};
use crate::kernel::permitted::{Permitted, ProgramKind};

/// A kernel with neither trampolines nor kprobes, and everything else.
fn bare() -> Features {
    let mut features = Features::everything();
    for kind in [ProgramKind::Fexit, ProgramKind::Fentry] {
        let answer = Permitted::No("operation not permitted".to_owned());
        features.permitted.insert(kind, answer);
    }
    features.kprobes = Err("the kernel is built without kprobes".to_owned());
    features
}

fn without_cgroup2() -> Features {
    let mut features = bare();
    features.cgroup2 = Err("the cgroup2 hierarchy is not mounted".to_owned());
    features
}

fn without_tracefs(mut features: Features) -> Features {
    features.tracefs = Err("tracefs is not mounted".to_owned());
    features.tracepoints.clear();
    features
}

fn without_btf() -> Features {
    let mut features = Features::everything();
    features.btf = Err("cannot read kernel types".to_owned());
    features.functions.clear();
    features.raw_tracepoints.clear();
    features
}

fn best(features: &Features) -> Plan {
    plan(features, None).expect("nothing is forced")
}

fn mechanisms(plan: &Plan) -> Vec<Mechanism> {
    plan.choices.iter().map(|choice| choice.mechanism).collect()
}

fn names(plan: &Plan, signal: Signal) -> Vec<&'static str> {
    let choice = plan.choice(signal).expect("the signal is there");
    choice.programs.iter().map(|program| program.name).collect()
}

#[test]
fn each_kind_of_kernel_gets_its_mechanisms() {
    // In the order of Signal::ALL: tcp.listen, .backlog, .state; udp.bind, .close; unix.bind, .listen,
    // .close; packet.open, .close; raw.open, .close; bind.failed; sctp.listen;
    // tcp.syn, .synack, .reset, .knock; udp.knock; exec, fork, exit; inventory.
    let kprobes = {
        let mut features = bare();
        features.kprobes = Ok(());
        features
    };
    let table: [(&str, Features, [Mechanism; 23]); 6] = [
        (
            "everything",
            Features::everything(),
            [
                Fexit, Fexit, TpBtf, Fexit, Fentry, Fexit, Fexit, Fentry, Fexit, Fentry, Fexit,
                Fentry, Fexit, TpBtf, Fentry, TpBtf, TpBtf, Fentry, Fentry, TpBtf, TpBtf, TpBtf,
                Iterator,
            ],
        ),
        (
            "kprobes",
            kprobes,
            [
                Kretprobe, Kretprobe, TpBtf, Kretprobe, Kprobe, Kretprobe, Kretprobe, Kprobe,
                Kretprobe, Kprobe, Kprobe, Kprobe, Kretprobe, TpBtf, Kprobe, TpBtf, TpBtf, Kprobe,
                Kprobe, TpBtf, TpBtf, TpBtf, Iterator,
            ],
        ),
        (
            "neither",
            bare(),
            [
                Cgroup, Tracepoint, TpBtf, Cgroup, Cgroup, Tracepoint, Tracepoint, Reconcile,
                Tracepoint, Reconcile, Cgroup, Cgroup, Tracepoint, TpBtf, Cgroup, TpBtf, TpBtf,
                TpBtf, TpBtf, TpBtf, TpBtf, TpBtf, Iterator,
            ],
        ),
        (
            "no cgroup2",
            without_cgroup2(),
            [
                TpBtf, Tracepoint, TpBtf, Tracepoint, Reconcile, Tracepoint, Tracepoint, Reconcile,
                Tracepoint, Reconcile, Tracepoint, Reconcile, Tracepoint, TpBtf, Reconcile, TpBtf,
                TpBtf, TpBtf, TpBtf, TpBtf, TpBtf, TpBtf, Iterator,
            ],
        ),
        (
            "no tracefs",
            without_tracefs(bare()),
            [
                Cgroup, Reconcile, TpBtf, Cgroup, Cgroup, Reconcile, Reconcile, Reconcile,
                Reconcile, Reconcile, Cgroup, Cgroup, Reconcile, TpBtf, Cgroup, TpBtf, TpBtf,
                TpBtf, TpBtf, TpBtf, TpBtf, TpBtf, Iterator,
            ],
        ),
        ("no BTF", without_btf(), [Reconcile; 23]),
    ];
    for (kernel, features, expected) in table {
        assert_eq!(mechanisms(&best(&features)), expected, "{kernel}");
    }
}

#[test]
fn storms_have_their_blind_spots() {
    let mut old = bare();
    let two = Prototype {
        params: vec!["void *".to_owned(); 2],
        returns: "void".to_owned(),
    };
    old.raw_tracepoints.insert("tcp_send_reset", two);
    old.raw_tracepoints.remove("icmp_send");
    let plan = best(&old);
    for signal in [Signal::TcpKnock, Signal::UdpKnock] {
        let choice = plan.choice(signal).expect("there");
        assert_eq!(choice.mechanism, Reconcile, "{signal:?}");
        assert!(choice.is_degraded());
    }
    let knock = plan.choice(Signal::TcpKnock).expect("there");
    let reasons: Vec<_> = knock
        .rejected
        .iter()
        .map(|one| one.reason.as_str())
        .collect();
    assert!(
        reasons[2].contains("does not tell of closed ports"),
        "{reasons:?}"
    );
    let syn = plan.choice(Signal::TcpSyn).expect("there");
    assert!(syn.blind_to.is_some_and(|text| text.contains("cookie")));
    assert!(super::counts_alone("syn_fentry") && super::counts_alone("reset_tp_btf"));
    assert!(
        !super::counts_alone("state_tp_btf")
            && !super::counts_alone("tcp_sockops")
            && !super::counts_alone("unheard_of")
    );
    assert_eq!(
        plan.sock_ops_signals(),
        SockOpsSignals::LISTEN | SockOpsSignals::SYN
    );
    assert_eq!(best(&Features::everything()).sock_ops_signals(), 0);
    let mut without_ipv6 = Features::everything();
    without_ipv6.ipv6 = false;
    let plan = best(&without_ipv6);
    assert_eq!(names(&plan, Signal::TcpKnock), ["reset_fentry"]);
    assert_eq!(names(&plan, Signal::UdpKnock), ["icmp_fentry"]);
}

#[test]
fn a_kernel_with_nothing_still_has_reconciliation() {
    let mut features = without_tracefs(without_btf());
    features.cgroup2 = Err("the cgroup2 hierarchy is not mounted".to_owned());
    let plan = best(&features);
    assert!(!plan.has_sensor());
    assert!(plan.programs().is_empty());
    for choice in &plan.choices {
        assert!(choice.blind_to.is_some(), "{:?}", choice.signal);
        assert!(!choice.rejected.is_empty(), "{:?}", choice.signal);
    }
    assert!(best(&bare()).has_sensor());
}

#[test]
fn rejections_remedies_and_blind_spots_are_told() {
    let plan = best(&without_cgroup2());
    let udp = plan.choice(Signal::UdpBind).expect("there");
    let rejected: Vec<_> = udp.rejected.iter().map(|r| r.mechanism).collect();
    assert_eq!(rejected, [Fexit, Kretprobe, Cgroup]);
    assert_eq!(
        udp.rejected[0].reason,
        "the kernel refuses fexit programs: operation not permitted"
    );
    assert_eq!(
        udp.blind_to,
        Some("calls made through io_uring or by 32-bit programs")
    );
    assert!(
        udp.remedy.is_some_and(|r| r.starts_with("mount ")),
        "a mount is cheaper than another kernel: {:?}",
        udp.remedy
    );
    let best_listen = best(&bare());
    let listen = best_listen.choice(Signal::TcpListen).expect("there");
    assert_eq!(
        (listen.blind_to, listen.remedy),
        (None, None),
        "nothing is lost, nothing to do"
    );
}

#[test]
fn programs_are_listed_once() {
    let plan = best(&bare());
    let names: Vec<_> = plan.programs().iter().map(|p| p.name).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    for name in [
        "tcp_sockops",
        "state_tp_btf",
        "sock_release",
        "task_file_iter",
        "bind_exit",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let sharing: Vec<_> = plan.signals_of("sock_release").collect();
    assert_eq!(sharing, [Signal::UdpClose, Signal::RawClose]);
}

#[test]
fn everything_that_is_attached_to_was_looked_for() {
    for step in Signal::ALL.into_iter().flat_map(ladder::steps) {
        for program in step.programs {
            let looked_for = match program.attach {
                Attach::Fexit { function }
                | Attach::Fentry { function }
                | Attach::Kprobe { function }
                | Attach::Kretprobe { function } => FUNCTIONS.contains(&function),
                Attach::TpBtf { tracepoint } => RAW_TRACEPOINTS.contains(&tracepoint),
                Attach::Tracepoint { name, .. } => SYSCALL_TRACEPOINTS.contains(&name),
                Attach::SockOps | Attach::CgroupSock(_) | Attach::Iter { .. } => true,
            };
            assert!(looked_for, "{program:?}");
        }
    }
}

#[test]
fn every_program_of_the_ladders_is_in_the_probes() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../portwatch-ebpf/src/probe");
    let text: String = std::fs::read_dir(sources)
        .expect("the probes are beside this crate")
        .map(|file| std::fs::read_to_string(file.expect("readable").path()).expect("readable"))
        .collect();
    let words: BTreeSet<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let ladders = Signal::ALL.into_iter().flat_map(ladder::steps);
    let programs = ladders.flat_map(|step| step.programs).map(|p| p.name);
    let missing: Vec<_> = programs
        .chain(["listen_backlog_fexit"])
        .filter(|name| !words.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_shared_probes_report_only_what_nothing_better_does() {
    let all = SyscallSignals::FAILURES
        | SyscallSignals::UNIX_BIND
        | SyscallSignals::UNIX_LISTEN
        | SyscallSignals::PACKET
        | SyscallSignals::INET_LISTEN;
    let bare = best(&bare());
    assert_eq!(bare.syscall_signals(), all, "UDP and raw come by cgroup");
    assert!(!bare.listen_tentative());
    let lower = best(&without_cgroup2());
    assert_eq!(
        lower.syscall_signals(),
        all | SyscallSignals::UDP_BIND | SyscallSignals::RAW
    );
    assert!(lower.listen_tentative());
    assert_eq!(best(&Features::everything()).syscall_signals(), 0);
}

#[test]
fn an_older_prototype_takes_its_own_program_and_an_unknown_one_none() {
    let prototype = |count| Prototype {
        params: vec!["int".to_owned(); count],
        returns: "int".to_owned(),
    };
    let mut features = Features::everything();
    features
        .functions
        .insert("inet_csk_listen_start", prototype(2));
    let older = best(&features);
    assert_eq!(names(&older, Signal::TcpListen), ["listen_backlog_fexit"]);
    assert!(names(&older, Signal::BindFailed).contains(&"listen_backlog_fexit"));
    assert!(!older.programs().iter().any(|p| p.name == "listen_fexit"));

    features
        .functions
        .insert("inet_csk_listen_start", prototype(3));
    let unknown = best(&features);
    let listen = unknown.choice(Signal::TcpListen).expect("there");
    assert_eq!(listen.mechanism, Cgroup);
    assert_eq!(
        listen.rejected[0].reason,
        "inet_csk_listen_start() takes 3 arguments here, which the probes do not know"
    );
}

#[test]
fn without_ipv6_its_functions_are_not_missed() {
    let mut features = Features::everything();
    features.functions.remove("inet6_bind");
    let with = best(&features);
    assert!(with.uses(Signal::UdpBind, Cgroup), "IPv6 would not be seen");
    features.ipv6 = false;
    let without = best(&features);
    assert_eq!(names(&without, Signal::UdpBind), ["bind_fexit"]);
}

#[test]
fn sctp_is_left_out_where_there_is_none() {
    let mut features = Features::everything();
    features.sctp = false;
    assert!(best(&features).choice(Signal::SctpListen).is_none());
}

#[test]
fn a_forced_rung_is_taken_where_it_exists_and_the_next_lower_elsewhere() {
    let forced = |rung| plan(&Features::everything(), Some(rung)).expect("possible");
    let cgroup = forced(Rung::Cgroup);
    assert!(cgroup.uses(Signal::TcpListen, Cgroup) && cgroup.uses(Signal::UdpClose, Cgroup));
    assert!(
        cgroup.uses(Signal::UnixListen, Tracepoint) && cgroup.uses(Signal::UnixClose, Reconcile)
    );
    assert!(
        cgroup.uses(Signal::TcpState, TpBtf),
        "it has no other mechanism"
    );
    assert_eq!(
        cgroup.choice(Signal::TcpListen).expect("there").rejected[0].reason,
        "passed over, as --rung cgroup asks"
    );
    let tracepoint = forced(Rung::Tracepoint);
    assert!(tracepoint.uses(Signal::TcpListen, Tracepoint));
    assert!(tracepoint.uses(Signal::UnixClose, Reconcile));
    assert!(tracepoint.uses(Signal::Inventory, Iterator));
    let reconcile = forced(Rung::Reconcile);
    assert!(
        reconcile
            .choices
            .iter()
            .all(|choice| choice.mechanism == Reconcile)
    );
}

#[test]
fn forcing_the_impossible_is_one_sentence() {
    let error = plan(&bare(), Some(Rung::Kretprobe)).expect_err("there are no kprobes");
    assert_eq!(
        error.to_string(),
        "no sensor of this host can use --rung kretprobe: the kernel is built without kprobes; \
         leave --rung out to give each sensor its best mechanism"
    );
    assert!(
        "fentry"
            .parse::<Rung>()
            .is_err_and(|e| e.contains("fexit, kretprobe, cgroup"))
    );
    assert_eq!("tp_btf".parse(), Ok(Rung::TpBtf));
}

#[test]
fn demotion_takes_the_next_rung_and_remembers_why() {
    let first = best(&Features::everything());
    let second = first.demote(Signal::UdpBind, Fexit, "fexit of inet_bind: out of memory");
    let udp = second.choice(Signal::UdpBind).expect("there");
    assert_eq!(udp.mechanism, Kretprobe);
    assert_eq!(udp.rejected[0].reason, "fexit of inet_bind: out of memory");
    assert!(second.uses(Signal::TcpListen, Fexit), "others stay");
    let third = second.demote(Signal::UdpBind, Kretprobe, "no slots");
    assert!(
        third.uses(Signal::UdpBind, Cgroup),
        "the first failure is not forgotten"
    );

    let shared = first.demote_program("listen_fexit", "refused by the verifier");
    assert!(shared.uses(Signal::TcpListen, Kretprobe));
    assert!(shared.uses(Signal::BindFailed, Kretprobe));
    assert!(!shared.programs().iter().any(|p| p.name == "listen_fexit"));
}

#[test]
fn demotion_ends() {
    let mut plan = best(&Features::everything());
    for _ in 0..100 {
        let Some(program) = plan.programs().first().copied() else {
            break;
        };
        plan = plan.demote_program(program.name, "refused");
    }
    assert!(plan.programs().is_empty() && !plan.has_sensor());
}

#[test]
fn what_was_not_asked_is_tried() {
    let mut features = Features::everything();
    features.permitted.clear();
    assert!(best(&features).uses(Signal::TcpListen, Fexit));
}

#[test]
fn privileges_and_lockdown_come_first() {
    let mut features = Features::everything();
    features.capabilities = Capabilities::of(&[Capability::Bpf, Capability::Perfmon]);
    features.functions.clear();
    let plan = best(&features);
    let udp = plan.choice(Signal::UdpBind).expect("there");
    assert_eq!(
        udp.mechanism, Tracepoint,
        "cgroup programs need CAP_NET_ADMIN"
    );
    assert_eq!(udp.rejected[2].reason, "CAP_NET_ADMIN is missing");

    features.capabilities = Capabilities::of(&[]);
    let none = best(&features);
    assert!(!none.has_sensor());
    assert_eq!(none.choices[0].rejected[0].reason, "CAP_BPF is missing");

    let mut features = Features::everything();
    features.lockdown = Lockdown::Confidentiality;
    assert!(!best(&features).has_sensor());
}

#[test]
fn without_maps_there_is_looking_again_and_a_way_to_mend_it() {
    let mut features = Features::everything();
    features.maps = Err("the kernel refuses the probes' maps: EPERM".to_owned());
    let plan = best(&features);
    assert!(!plan.has_sensor() && plan.programs().is_empty());
    let listen = plan.choice(Signal::TcpListen).expect("the signal is there");
    assert_eq!(listen.mechanism, Reconcile);
    assert!(listen.is_degraded());
    assert_eq!(
        listen.remedy,
        Some("raise the locked-memory limit (LimitMEMLOCK=infinity), or grant CAP_SYS_RESOURCE")
    );
}

#[test]
fn an_opening_is_told_where_every_signal_of_its_protocol_has_a_hook() {
    let told = best(&Features::everything()).told_openings();
    assert!(told.contains(&Protocol::Unix) && told.contains(&Protocol::Raw));
    assert!(!told.contains(&Protocol::Icmp) && !told.contains(&Protocol::Vsock));
    let nothing = plan(&Features::everything(), Some(Rung::Reconcile)).expect("always possible");
    assert_eq!(nothing.told_openings(), []);
}
