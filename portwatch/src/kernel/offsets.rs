//! Where the fields that the probes read lie on this kernel, and what each absent one costs.

use portwatch_common::offsets::{ABSENT, Offsets};

use super::btf::{Btf, Member};

/// Bytes read behind an offset stay within a page or two; more than this is damaged BTF.
const MAX_OFFSET: u32 = 1 << 20;

/// A field that this kernel does not have where it was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingField {
    /// Its name in [`Offsets`].
    pub field: &'static str,
    /// The kernel structure it was looked for in.
    pub type_name: &'static str,
    /// The member paths that were tried, separated by `|`.
    pub path: &'static str,
    /// What is not known without it.
    pub costs: &'static str,
}

/// Looks every field up. Fields named `*_bit` get a bit offset, all others a byte offset; a member
/// that does not start on a byte counts as missing there.
#[must_use]
pub fn resolve(btf: &Btf) -> (Offsets, Vec<MissingField>) {
    let mut values = [ABSENT; Offsets::FIELDS.len()];
    let mut missing = Vec::new();
    for (value, &(field, type_name, path)) in values.iter_mut().zip(Offsets::FIELDS) {
        let found = path
            .split('|')
            .filter_map(|path| btf.member(type_name, path))
            .find_map(|member| place(field, member));
        match found {
            Some(offset) => *value = offset,
            None => missing.push(MissingField {
                field,
                type_name,
                path,
                costs: cost(field),
            }),
        }
    }
    (Offsets::from_values(&values), missing)
}

/// Every field as missing: what a kernel without BTF has.
#[must_use]
pub fn all_missing() -> Vec<MissingField> {
    let missing = |&(field, type_name, path)| MissingField {
        field,
        type_name,
        path,
        costs: cost(field),
    };
    Offsets::FIELDS.iter().map(missing).collect()
}

/// The number that goes into the field, if the member is where such a field can be read.
fn place(field: &str, member: Member) -> Option<u32> {
    let bytes = member.bit_offset / 8;
    let aligned = member.bit_offset.is_multiple_of(8);
    if bytes > MAX_OFFSET {
        None
    } else if is_bit_field(field) {
        Some(member.bit_offset)
    } else {
        aligned.then_some(bytes)
    }
}

fn is_bit_field(field: &str) -> bool {
    field.ends_with("_bit")
}

/// What is lost without a field, as the end of the sentence "without it there is no …".
fn cost(field: &str) -> &'static str {
    match field {
        "task_tgid" | "task_pid" | "task_group_leader" | "task_start_boottime" => {
            "process identity: events cannot be told apart by process"
        }
        "task_real_parent" => "parent process and ancestors",
        "task_comm" => "process name",
        "task_flags" => "telling kernel threads from processes",
        "task_loginuid" => "the user who logged in (loginuid); the kernel lacks CONFIG_AUDIT",
        "cred_uid" | "cred_gid" | "task_cred" => "user and group of the process",
        "task_exit_code" | "task_signal" | "signal_live" => "the end of a process and its status",
        "task_nsproxy" | "task_thread_pid" | "nsproxy_pid_ns" | "pidns_inum" => {
            "the pid namespace of the process"
        }
        "task_cgroups" | "css_set_dfl_cgrp" | "cgroup_kn" | "kernfs_id" => {
            "the cgroup, and with it the unit and container of the process"
        }
        "task_mm" | "mm_arg_start" | "mm_arg_end" => "arguments of short-lived processes",
        "task_files" | "files_fdt" | "fdtable_fd" | "fdtable_max_fds" | "file_private_data" => {
            "the socket behind a descriptor: the tracepoint rungs"
        }
        "socket_sk"
        | "socket_file"
        | "socket_alloc_inode"
        | "socket_alloc_socket"
        | "sk_socket" => "the inode of a socket",
        "unix_addr" | "unix_address_len" | "unix_address_name" => "names of unix sockets",
        "unix_path" => "paths of unix sockets that were bound relatively",
        "packet_num" | "packet_ifindex" => "protocol and interface of packet sockets",
        "inet_sport" => "protocol of raw sockets",
        "tcp_is_mptcp_bit" => "telling MPTCP from TCP; the kernel lacks CONFIG_MPTCP",
        "mptcp_first" => "the backlog of MPTCP listeners; the kernel lacks CONFIG_MPTCP",
        "vsock_local_addr" => "addresses of vsock sockets",
        "sk_v6_daddr" | "sk_v6_rcv_saddr" => "IPv6 addresses",
        "sk_ipv6only_bit" => "whether an IPv6 listener takes IPv4 too",
        "sk_reuseport_bit" => "whether several sockets may share the port",
        "sk_userlocks_bit" => "whether a port was chosen by the kernel",
        "sk_kern_sock_bit" => "telling the kernel's own raw sockets from those of programs",
        "sk_max_ack_backlog" => "the backlog of listeners",
        "sk_net" | "net_inum" => "the network namespace of a socket",
        "sk_cookie" => "socket cookies before Linux 5.12",
        _ if field.starts_with("sk_") => "the address, state or type of sockets",
        _ => "paths of executables and working directories of short-lived processes",
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::{Btf, VMLINUX, fixture::Builder};
    use super::{all_missing, resolve};
    use portwatch_common::offsets::{ABSENT, Offsets};

    fn resolved(b: &Builder) -> (Offsets, Vec<&'static str>) {
        let (offsets, missing) = resolve(&Btf::parse(b.build()).expect("well formed"));
        (offsets, missing.iter().map(|m| m.field).collect())
    }

    #[test]
    fn bytes_bits_and_alternatives() {
        let mut b = Builder::new();
        let int = b.int("int", 4);
        b.structure("task_struct", &[("real_start_time", int, 64)]);
        let qstr = b.structure("qstr", &[("len", int, 32), ("name", int, 64)]);
        b.structure("dentry", &[("__d_name", qstr, 256)]);
        let common = b.bit_fields("sock_common", &[("skc_reuseport", int, 148, 1)]);
        b.bit_fields(
            "sock",
            &[
                ("__sk_common", common, 0, 0),
                ("sk_userlocks", int, 260, 4),
                ("sk_protocol", int, 264, 8),
                ("sk_type", int, 273, 16),
            ],
        );
        b.bit_fields("tcp_sock", &[("is_mptcp", int, 803, 1)]);

        let (offsets, missing) = resolved(&b);
        assert_eq!(
            offsets.task_start_boottime, 8,
            "the name before 5.5 is tried"
        );
        assert_eq!((offsets.dentry_name, offsets.dentry_name_len), (40, 36));
        assert_eq!(offsets.sk_reuseport_bit, 148);
        assert_eq!(offsets.sk_userlocks_bit, 260);
        assert_eq!(offsets.tcp_is_mptcp_bit, 803);
        assert_eq!(offsets.sk_protocol, 33, "a bit-field on a byte is readable");
        assert_eq!(offsets.sk_type, ABSENT, "a bit-field across bytes is not");
        assert!(missing.contains(&"sk_type") && missing.contains(&"task_pid"));
        assert!(!missing.contains(&"sk_protocol"));
    }

    #[test]
    fn an_offset_beyond_reason_is_missing() {
        let mut b = Builder::new();
        let int = b.int("int", 4);
        b.structure("task_struct", &[("tgid", int, !7)]);
        let (offsets, missing) = resolved(&b);
        assert_eq!(offsets.task_tgid, ABSENT);
        assert_eq!(missing.len(), Offsets::FIELDS.len());
    }

    #[test]
    fn without_btf_everything_is_missing_and_every_cost_is_told() {
        let missing = all_missing();
        assert_eq!(missing.len(), Offsets::FIELDS.len());
        let cost_of = |field: &str| missing.iter().find(|m| m.field == field).map(|m| m.costs);
        assert_eq!(cost_of("unix_addr"), Some("names of unix sockets"));
        assert_eq!(
            cost_of("dentry_parent"),
            Some("paths of executables and working directories of short-lived processes")
        );
    }

    #[test]
    fn the_running_kernel_has_what_the_probes_need() {
        let Ok(btf) = Btf::read(VMLINUX.as_ref()) else {
            eprintln!("skipped: this kernel shows no BTF");
            return;
        };
        let (offsets, missing) = resolve(&btf);
        // What depends on the kernel's configuration may be absent, nothing else.
        let optional = [
            "task_loginuid",
            "tcp_is_mptcp_bit",
            "mptcp_first",
            "vsock_local_addr",
            "packet_num",
            "packet_ifindex",
            "unix_addr",
            "unix_path",
            "unix_address_len",
            "unix_address_name",
            "sk_v6_daddr",
            "sk_v6_rcv_saddr",
        ];
        let unexpected: Vec<_> = missing
            .iter()
            .filter(|m| !optional.contains(&m.field))
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
        assert_eq!(offsets.sk_family, 16);
        assert_eq!(offsets.sk_dport, 12);
        assert_eq!(
            offsets.sk_ipv6only_bit,
            offsets.sk_reuseport_bit + 1,
            "neighbours in sock_common"
        );
    }
}
