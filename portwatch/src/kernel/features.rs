//! What the running kernel has and permits, as plain data that the probe plan is made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portwatch_common::offsets::Offsets;

use super::btf::{self, AttachTypes, Btf, Prototype};
use super::capability::Capabilities;
use super::offsets::{self, MissingField};
use super::permitted::{Permitted, Prober, ProgramKind};
use super::tracefs::Tracefs;
use super::{mount, preemption, read};

/// Functions that probes attach to, and helpers whose presence decides what probes may call.
pub const FUNCTIONS: [&str; 25] = [
    "inet_csk_listen_start",
    "inet_listen",
    "inet_bind",
    "inet6_bind",
    "udp_destroy_sock",
    "udpv6_destroy_sock",
    "unix_bind",
    "unix_listen",
    "unix_release_sock",
    "packet_create",
    "packet_bind",
    "packet_release",
    "raw_hash_sk",
    "raw_unhash_sk",
    "sctp_inet_listen",
    "tcp_conn_request",
    "tcp_v4_send_reset",
    "tcp_v6_send_reset",
    "__icmp_send",
    "icmp6_send",
    TASK_FILE_ITERATOR,
    SOCKET_COOKIE,
    FUNC_RET,
    MISSES,
    CHARGE,
];

/// What the iterator `iter/task_file` attaches to.
const TASK_FILE_ITERATOR: &str = "bpf_iter_task_file";
/// Body of `bpf_get_socket_cookie` for tracing programs, from 5.12.
const SOCKET_COOKIE: &str = "bpf_get_socket_ptr_cookie";
/// Body of `bpf_get_func_ret`, from 5.17.
const FUNC_RET: &str = "get_func_ret";
/// What counts the runs of a raw tracepoint's program that are skipped because it runs already, from 6.1.
const MISSES: &str = "bpf_prog_inc_misses_counter";
/// Charges a map to the locked memory of its maker, before 5.11.
const CHARGE: &str = "bpf_map_charge_init";

/// Tracepoints that `tp_btf` programs attach to.
pub const RAW_TRACEPOINTS: [&str; 8] = [
    "inet_sock_set_state",
    "tcp_retransmit_synack",
    "tcp_receive_reset",
    "tcp_send_reset",
    "icmp_send",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
];

/// System call tracepoints, all of the category `syscalls`.
pub const SYSCALL_TRACEPOINTS: [&str; 6] = [
    "sys_enter_bind",
    "sys_exit_bind",
    "sys_enter_listen",
    "sys_exit_listen",
    "sys_enter_socket",
    "sys_exit_socket",
];

/// How far the kernel is locked down (`kernel_lockdown(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all, or the kernel knows no lockdown.
    #[default]
    None,
    /// The kernel cannot be changed.
    Integrity,
    /// Nor can its memory be read: no probe can see anything.
    Confidentiality,
}

impl Lockdown {
    /// Reads `none [integrity] confidentiality`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.contains("[integrity]") {
            Self::Integrity
        } else if text.contains("[confidentiality]") {
            Self::Confidentiality
        } else {
            Self::None
        }
    }
}

/// Everything that decides what can be seen. `Err` always holds a clause that says why not.
#[derive(Clone, Debug)]
pub struct Features {
    /// Kernel release, to show; nothing is decided by it.
    pub release: String,
    /// Can the kernel's types be read?
    pub btf: Result<(), String>,
    /// Where the fields lie.
    pub offsets: Offsets,
    /// Fields that are not there.
    pub missing_fields: Vec<MissingField>,
    /// Those of [`FUNCTIONS`] that BTF has.
    pub functions: BTreeMap<&'static str, Prototype>,
    /// Those of [`RAW_TRACEPOINTS`] that BTF has.
    pub raw_tracepoints: BTreeMap<&'static str, Prototype>,
    /// What the loader needs to know of both.
    pub attach_types: AttachTypes,
    /// Those of [`SYSCALL_TRACEPOINTS`] that tracefs has, with their ids.
    pub tracepoints: BTreeMap<&'static str, u64>,
    /// Effective capabilities.
    pub capabilities: Capabilities,
    /// Capabilities count only in the first user namespace.
    pub initial_user_namespace: bool,
    /// Lockdown.
    pub lockdown: Lockdown,
    /// Where the root of the cgroup2 hierarchy is mounted.
    pub cgroup2: Result<PathBuf, String>,
    /// tracefs.
    pub tracefs: Result<Tracefs, String>,
    /// Does the kernel let this process have maps of the size that is needed? Known once it was tried.
    pub maps: Result<(), String>,
    /// Are there kprobes?
    pub kprobes: Result<(), String>,
    /// What may be loaded, as far as it was asked.
    pub permitted: BTreeMap<ProgramKind, Permitted>,
    /// May the kernel preempt a probe? Then it skips that probe for others meanwhile.
    pub preempts_probes: bool,
    /// Does the kernel speak IPv6?
    pub ipv6: bool,
    /// Does the kernel speak SCTP, or could it load the module that does?
    pub sctp: bool,
}

impl Features {
    /// Looks at the running kernel. Loads no program: [`Self::ask`] does.
    #[must_use]
    pub fn detect() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let version = uname.version().to_string_lossy();
        let mut features = Self {
            btf: Ok(()),
            offsets: Offsets::ALL_ABSENT,
            missing_fields: Vec::new(),
            functions: BTreeMap::new(),
            raw_tracepoints: BTreeMap::new(),
            attach_types: AttachTypes::default(),
            tracepoints: BTreeMap::new(),
            capabilities: Capabilities::of_this_thread(),
            initial_user_namespace: namespace_is_initial("user", INITIAL_USER_NS),
            lockdown: read::text(Path::new("/sys/kernel/security/lockdown"), 256)
                .map_or(Lockdown::None, |text| Lockdown::parse(&text)),
            cgroup2: find_cgroup2(),
            tracefs: Tracefs::open(),
            maps: Ok(()),
            kprobes: find_kprobes(),
            permitted: BTreeMap::new(),
            preempts_probes: preemption::may_preempt(&release, &version),
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            sctp: has_module("sctp", &release),
            release,
        };
        match Btf::read(btf::VMLINUX.as_ref()) {
            Ok(btf) => features.take_btf(&btf),
            Err(error) => {
                features.btf = Err(error.to_string());
                features.missing_fields = offsets::all_missing();
            }
        }
        if let Ok(tracefs) = &features.tracefs {
            features.tracepoints = SYSCALL_TRACEPOINTS
                .iter()
                .filter_map(|&name| Some((name, tracefs.tracepoint_id("syscalls", name)?)))
                .collect();
        }
        features
    }

    /// Asks the kernel about every kind of program.
    pub fn ask(&mut self, prober: &mut dyn Prober) {
        for kind in ProgramKind::ALL {
            let answer = match prober.try_kind(kind) {
                Ok(()) => Permitted::Yes,
                Err(reason) => Permitted::No(reason),
            };
            self.permitted.insert(kind, answer);
        }
    }

    /// What was answered about a kind of program.
    #[must_use]
    pub fn permitted(&self, kind: ProgramKind) -> &Permitted {
        self.permitted.get(&kind).unwrap_or(&Permitted::Unknown)
    }

    /// The id of a tracepoint of any category, read through tracefs.
    #[must_use]
    pub fn tracepoint_id(&self, category: &str, name: &str) -> Option<u64> {
        self.tracefs.as_ref().ok()?.tracepoint_id(category, name)
    }

    /// `inet_csk_listen_start` takes `(sk, backlog)`, as before 5.17.
    #[must_use]
    pub fn listen_start_has_backlog(&self) -> bool {
        self.functions
            .get("inet_csk_listen_start")
            .is_some_and(|prototype| prototype.params.len() == 2)
    }

    /// Tracing programs may call `bpf_get_socket_cookie` (5.12).
    #[must_use]
    pub fn has_cookie_helper(&self) -> bool {
        self.functions.contains_key(SOCKET_COOKIE)
    }

    /// Programs may call `bpf_get_func_ret` (5.17).
    #[must_use]
    pub fn has_func_ret_helper(&self) -> bool {
        self.functions.contains_key(FUNC_RET)
    }

    /// A raw tracepoint's program that an interrupt runs into is skipped there (6.1). Before, it runs within itself.
    #[must_use]
    pub fn skips_nested(&self) -> bool {
        self.functions.contains_key(MISSES)
    }

    /// Maps count as locked memory, of which there may be little (before 5.11; since then they belong to a cgroup).
    #[must_use]
    pub fn limits_locked_memory(&self) -> bool {
        self.functions.contains_key(CHARGE)
    }

    fn take_btf(&mut self, btf: &Btf) {
        (self.offsets, self.missing_fields) = offsets::resolve(btf);
        self.functions = FUNCTIONS
            .iter()
            .filter_map(|&name| Some((name, btf.function(name)?)))
            .collect();
        self.raw_tracepoints = RAW_TRACEPOINTS
            .iter()
            .filter_map(|&name| Some((name, btf.tracepoint(name)?)))
            .collect();
        self.attach_types = btf.attach_types(&FUNCTIONS, &RAW_TRACEPOINTS);
        self.sctp |= self.functions.contains_key("sctp_inet_listen");
    }
}

/// `PROC_USER_INIT_INO` of the kernel.
const INITIAL_USER_NS: u32 = 0xefff_fffd;
/// `PROC_CGROUP_INIT_INO` of the kernel.
const INITIAL_CGROUP_NS: u32 = 0xefff_fffb;

/// A kernel without this kind of namespace has only the initial one.
fn namespace_is_initial(kind: &str, inode: u32) -> bool {
    std::fs::read_link(Path::new("/proc/self/ns").join(kind)).map_or(true, |link| {
        link.as_os_str() == format!("{kind}:[{inode}]").as_str()
    })
}

fn find_cgroup2() -> Result<PathBuf, String> {
    if !namespace_is_initial("cgroup", INITIAL_CGROUP_NS) {
        return Err(
            "this is a container's cgroup namespace, whose root is not the host's".to_owned(),
        );
    }
    mount::find("cgroup2", mount::CGROUP2_MAGIC)
        .ok_or_else(|| "the cgroup2 hierarchy is not mounted".to_owned())
}

fn find_kprobes() -> Result<(), String> {
    if Path::new("/sys/bus/event_source/devices/kprobe/type").exists() {
        Ok(())
    } else {
        Err("the kernel is built without kprobes (CONFIG_KPROBE_EVENTS)".to_owned())
    }
}

/// Is a network module loaded, or there to be loaded?
fn has_module(name: &str, release: &str) -> bool {
    let loadable = |suffix: &str| {
        Path::new("/lib/modules")
            .join(release)
            .join(format!("kernel/net/{name}/{name}.ko{suffix}"))
            .exists()
    };
    Path::new("/sys/module").join(name).exists()
        || ["", ".xz", ".zst", ".gz"].into_iter().any(loadable)
}

#[cfg(test)]
impl Features {
    /// A kernel that has and permits everything, of the shape that Linux 6.1 has.
    pub(crate) fn everything() -> Self {
        let prototype = |params: usize| Prototype {
            params: vec!["void *".to_owned(); params],
            returns: "int".to_owned(),
        };
        let params = |name: &str| match name {
            "unix_release_sock" | "inet_listen" | "unix_listen" => 2,
            "inet_bind" | "inet6_bind" | "unix_bind" | "packet_bind" => 3,
            "packet_create" | "tcp_conn_request" => 4,
            "tcp_v4_send_reset" | "tcp_v6_send_reset" => 2,
            "__icmp_send" | "icmp6_send" => 5,
            _ => 1,
        };
        Self {
            release: "6.1.0-test".to_owned(),
            btf: Ok(()),
            offsets: Offsets::from_values(&[8; Offsets::FIELDS.len()]),
            missing_fields: Vec::new(),
            functions: FUNCTIONS.map(|name| (name, prototype(params(name)))).into(),
            raw_tracepoints: RAW_TRACEPOINTS.map(|name| (name, prototype(3))).into(),
            attach_types: AttachTypes::default(),
            tracepoints: SYSCALL_TRACEPOINTS.map(|name| (name, 100)).into(),
            capabilities: Capabilities::of(&super::capability::Capability::ALL),
            initial_user_namespace: true,
            lockdown: Lockdown::None,
            cgroup2: Ok(PathBuf::from("/sys/fs/cgroup")),
            tracefs: Ok(Tracefs::at(PathBuf::from("/sys/kernel/tracing"))),
            maps: Ok(()),
            kprobes: Ok(()),
            permitted: ProgramKind::ALL.map(|kind| (kind, Permitted::Yes)).into(),
            preempts_probes: true,
            ipv6: true,
            sctp: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Features, Lockdown};
    use crate::kernel::capability::Capability;

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(
            Lockdown::parse("[none] integrity confidentiality\n"),
            Lockdown::None
        );
        assert_eq!(
            Lockdown::parse("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            Lockdown::parse("none integrity [confidentiality]\n"),
            Lockdown::Confidentiality
        );
        assert_eq!(Lockdown::parse(""), Lockdown::None);
    }

    #[test]
    fn the_running_kernel_is_described() {
        let features = Features::detect();
        assert!(features.release.contains('.'), "{}", features.release);
        if features.btf.is_err() {
            assert_eq!(features.offsets.task_pid, portwatch_common::offsets::ABSENT);
            assert!(!features.missing_fields.is_empty() && features.functions.is_empty());
            return;
        }
        // `icmp_send` came with 6.11.
        let newer = 1;
        assert!(features.raw_tracepoints.len() + newer >= super::RAW_TRACEPOINTS.len());
        let listen = &features.functions["inet_csk_listen_start"];
        assert_eq!(
            features.listen_start_has_backlog(),
            listen.params.len() == 2
        );
        if let Ok(root) = &features.cgroup2 {
            assert!(root.join("cgroup.procs").exists(), "{}", root.display());
        }
        if features.capabilities.has(Capability::SysAdmin) && features.tracefs.is_ok() {
            let id = features.tracepoint_id("sched", "sched_process_exec");
            assert!(id.is_some_and(|id| id > 0), "{id:?}");
        }
    }
}
