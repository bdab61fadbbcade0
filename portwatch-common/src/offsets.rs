//! Where the fields of kernel structures lie on the running kernel, resolved from BTF at load.
//!
//! rustc emits no CO-RE relocations, so the offsets are looked up in user space and handed over as
//! one read-only global. [`ABSENT`] marks a field that this kernel does not have: every reader in the
//! probes checks for it, and the plan tells which capability that costs.

use crate::wire;

/// Offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Declares the offsets struct together with the table of the BTF paths that fill it.
macro_rules! offsets {
    ($($(#[$meta:meta])* $field:ident: $type_name:literal, $path:literal;)*) => {
        wire! {
            /// Byte offsets, one a field; bit-field entries hold a bit offset (see each).
            pub struct Offsets {
                $($(#[$meta])* pub $field: u32,)*
            } size 4 * [$($path),*].len()
        }
        impl Offsets {
            /// All absent: what a kernel without BTF has.
            pub const ALL_ABSENT: Self = Self { $($field: ABSENT,)* };
            /// `(name, BTF struct, member path, position in this struct)`: alternatives of a path are separated by `|`.
            pub const FIELDS: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($field), $type_name, $path),)*];
            /// The values in the order of [`Self::FIELDS`].
            #[must_use]
            pub fn from_values(values: &[u32; Self::FIELDS.len()]) -> Self {
                let mut next = 0;
                $(let $field = values[next]; next += 1;)*
                let _ = next;
                Self { $($field,)* }
            }
        }
    };
}

offsets! {
    /// Task: thread group id.
    task_tgid: "task_struct", "tgid";
    /// Task: thread id.
    task_pid: "task_struct", "pid";
    /// Task: group leader.
    task_group_leader: "task_struct", "group_leader";
    /// Task: real parent.
    task_real_parent: "task_struct", "real_parent";
    /// Task: start, boot clock (`real_start_time` before 5.5).
    task_start_boottime: "task_struct", "start_boottime|real_start_time";
    /// Task: name.
    task_comm: "task_struct", "comm";
    /// Task: audit login uid.
    task_loginuid: "task_struct", "loginuid";
    /// Task: flags (`PF_KTHREAD`).
    task_flags: "task_struct", "flags";
    /// Task: address space.
    task_mm: "task_struct", "mm";
    /// Task: working directory and root.
    task_fs: "task_struct", "fs";
    /// Task: open files.
    task_files: "task_struct", "files";
    /// Task: credentials.
    task_cred: "task_struct", "cred";
    /// Task: namespaces.
    task_nsproxy: "task_struct", "nsproxy";
    /// Task: cgroup membership.
    task_cgroups: "task_struct", "cgroups";
    /// Task: pid of the thread.
    task_thread_pid: "task_struct", "thread_pid";
    /// Task: shared signal state.
    task_signal: "task_struct", "signal";
    /// Task: wait status at exit.
    task_exit_code: "task_struct", "exit_code";
    /// Signal: live threads (an `atomic_t`).
    signal_live: "signal_struct", "live";
    /// Credentials: real uid.
    cred_uid: "cred", "uid";
    /// Credentials: real gid.
    cred_gid: "cred", "gid";
    /// css_set: default-hierarchy cgroup.
    css_set_dfl_cgrp: "css_set", "dfl_cgrp";
    /// cgroup: its kernfs node.
    cgroup_kn: "cgroup", "kn";
    /// kernfs node: 64-bit id (a union member before 5.5).
    kernfs_id: "kernfs_node", "id";
    /// pid namespace of the children.
    nsproxy_pid_ns: "nsproxy", "pid_ns_for_children";
    /// pid namespace: its ns_common's inode.
    pidns_inum: "pid_namespace", "ns.inum";
    /// Address space: executable.
    mm_exe_file: "mm_struct", "exe_file";
    /// Address space: first byte of the arguments.
    mm_arg_start: "mm_struct", "arg_start";
    /// Address space: one past the arguments.
    mm_arg_end: "mm_struct", "arg_end";
    /// fs: working directory.
    fs_pwd: "fs_struct", "pwd";
    /// fs: root directory.
    fs_root: "fs_struct", "root";
    /// Path: mount.
    path_mnt: "path", "mnt";
    /// Path: dentry.
    path_dentry: "path", "dentry";
    /// File: path.
    file_path: "file", "f_path";
    /// File: inode.
    file_inode: "file", "f_inode";
    /// File: private data (the `struct socket` of a socket).
    file_private_data: "file", "private_data";
    /// Dentry: parent.
    dentry_parent: "dentry", "d_parent";
    /// Dentry: name (a `qstr`).
    dentry_name: "dentry", "d_name.name|__d_name.name";
    /// Dentry: name length.
    dentry_name_len: "dentry", "d_name.len|__d_name.len";
    /// Inode: number.
    inode_ino: "inode", "i_ino";
    /// Inode: mode.
    inode_mode: "inode", "i_mode";
    /// Inode: links.
    inode_nlink: "inode", "i_nlink";
    /// Inode: superblock.
    inode_sb: "inode", "i_sb";
    /// Superblock: device.
    sb_dev: "super_block", "s_dev";
    /// Superblock: magic.
    sb_magic: "super_block", "s_magic";
    /// mount: the embedded vfsmount.
    mount_mnt: "mount", "mnt";
    /// mount: parent mount.
    mount_parent: "mount", "mnt_parent";
    /// mount: dentry it is mounted on.
    mount_mountpoint: "mount", "mnt_mountpoint";
    /// vfsmount: root of the mounted tree.
    vfsmount_root: "vfsmount", "mnt_root";
    /// files: descriptor table.
    files_fdt: "files_struct", "fdt";
    /// fdtable: array of files.
    fdtable_fd: "fdtable", "fd";
    /// fdtable: its size.
    fdtable_max_fds: "fdtable", "max_fds";
    /// socket: its file.
    socket_file: "socket", "file";
    /// socket: its sock.
    socket_sk: "socket", "sk";
    /// socket_alloc: the inode beside the socket.
    socket_alloc_inode: "socket_alloc", "vfs_inode";
    /// socket_alloc: the socket.
    socket_alloc_socket: "socket_alloc", "socket";
    /// sock: family.
    sk_family: "sock", "__sk_common.skc_family";
    /// sock: state.
    sk_state: "sock", "__sk_common.skc_state";
    /// sock: BIT offset of `skc_reuseport`.
    sk_reuseport_bit: "sock", "__sk_common.skc_reuseport";
    /// sock: BIT offset of `skc_ipv6only`.
    sk_ipv6only_bit: "sock", "__sk_common.skc_ipv6only";
    /// sock: bound interface.
    sk_bound_dev_if: "sock", "__sk_common.skc_bound_dev_if";
    /// sock: network namespace pointer.
    sk_net: "sock", "__sk_common.skc_net";
    /// sock: remote IPv4 address.
    sk_daddr: "sock", "__sk_common.skc_daddr";
    /// sock: local IPv4 address the socket receives on.
    sk_rcv_saddr: "sock", "__sk_common.skc_rcv_saddr";
    /// sock: remote port, network order.
    sk_dport: "sock", "__sk_common.skc_dport";
    /// sock: local port, host order.
    sk_num: "sock", "__sk_common.skc_num";
    /// sock: remote IPv6 address.
    sk_v6_daddr: "sock", "__sk_common.skc_v6_daddr";
    /// sock: local IPv6 address the socket receives on.
    sk_v6_rcv_saddr: "sock", "__sk_common.skc_v6_rcv_saddr";
    /// sock: cookie (an `atomic64_t`).
    sk_cookie: "sock", "__sk_common.skc_cookie";
    /// sock: type (a byte-aligned bit-field before 5.6).
    sk_type: "sock", "sk_type";
    /// sock: protocol.
    sk_protocol: "sock", "sk_protocol";
    /// sock: the struct socket.
    sk_socket: "sock", "sk_socket";
    /// sock: BIT offset of `sk_userlocks` (4 bits).
    sk_userlocks_bit: "sock", "sk_userlocks";
    /// sock: BIT offset of `sk_kern_sock` (1 bit).
    sk_kern_sock_bit: "sock", "sk_kern_sock";
    /// sock: longest accept queue.
    sk_max_ack_backlog: "sock", "sk_max_ack_backlog";
    /// skb: start of its memory.
    skb_head: "sk_buff", "head";
    /// skb: the IP header, from `head`.
    skb_network_header: "sk_buff", "network_header";
    /// skb: the transport header, from `head`.
    skb_transport_header: "sk_buff", "transport_header";
    /// skb: ethertype, network order.
    skb_protocol: "sk_buff", "protocol";
    /// skb: the device it came by.
    skb_dev: "sk_buff", "dev";
    /// Network device: its namespace.
    netdev_net: "net_device", "nd_net";
    /// net: its ns_common's inode.
    net_inum: "net", "ns.inum";
    /// unix: name.
    unix_addr: "unix_sock", "addr";
    /// unix: path.
    unix_path: "unix_sock", "path";
    /// unix name: length.
    unix_address_len: "unix_address", "len";
    /// unix name: the sockaddr.
    unix_address_name: "unix_address", "name";
    /// packet: protocol, network order.
    packet_num: "packet_sock", "num";
    /// packet: interface.
    packet_ifindex: "packet_sock", "ifindex";
    /// inet: local port, network order (raw sockets keep the protocol in `inet_num`).
    inet_sport: "inet_sock", "inet_sport";
    /// TCP: BIT offset of `is_mptcp` (absent without MPTCP).
    tcp_is_mptcp_bit: "tcp_sock", "is_mptcp";
    /// MPTCP: the first subflow, which is the one that listens (absent without MPTCP).
    mptcp_first: "mptcp_sock", "first";
    /// vsock: local address.
    vsock_local_addr: "vsock_sock", "local_addr";
}
