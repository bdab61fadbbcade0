//! The socket, from the kernel object.

use portwatch_common::listener::UnixName;
use portwatch_common::offsets::ABSENT;
use portwatch_common::socket::{Sock, SockFlags, TcpState, UNIX_NAME_LEN};

use crate::kernel::{bits, copy, field, follow, offset, setting};

/// Address families.
pub const AF_UNIX: u16 = 1;
/// IPv4.
pub const AF_INET: u16 = 2;
/// IPv6.
pub const AF_INET6: u16 = 10;
/// Packet sockets.
pub const AF_PACKET: u16 = 17;
/// vsock.
pub const AF_VSOCK: u16 = 40;
/// Socket types.
pub const SOCK_DGRAM: u16 = 2;
/// Raw.
pub const SOCK_RAW: u16 = 3;
/// TCP's protocol number.
pub const IPPROTO_TCP: u16 = 6;
/// Ping sockets.
pub const IPPROTO_ICMP: u16 = 1;
/// UDP's.
pub const IPPROTO_UDP: u16 = 17;
/// UDP-Lite's.
pub const IPPROTO_UDPLITE: u16 = 136;
/// SCTP's.
pub const IPPROTO_SCTP: u16 = 132;
/// MPTCP's.
pub const IPPROTO_MPTCP: u16 = 262;
/// `sk_userlocks`: the address or the port was asked for.
const SOCK_BIND_LOCKS: u8 = 4 | 8;
/// `S_IFMT` and `S_IFSOCK`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The address family of a sock.
#[inline(always)]
pub fn family(sk: u64) -> u16 {
    field(sk, offset!(sk_family)).unwrap_or(0)
}

/// The socket type.
#[inline(always)]
pub fn kind(sk: u64) -> u16 {
    field(sk, offset!(sk_type)).unwrap_or(0)
}

/// The protocol; a byte wide before 5.6, which no supported kernel is.
#[inline(always)]
pub fn protocol(sk: u64) -> u16 {
    field(sk, offset!(sk_protocol)).unwrap_or(0)
}

/// The state number.
#[inline(always)]
pub fn state(sk: u64) -> u8 {
    field(sk, offset!(sk_state)).unwrap_or(0)
}

/// The local port, host order.
#[inline(always)]
pub fn port(sk: u64) -> u16 {
    field(sk, offset!(sk_num)).unwrap_or(0)
}

/// The longest accept queue.
#[inline(always)]
pub fn backlog(sk: u64) -> u32 {
    field(sk, offset!(sk_max_ack_backlog)).unwrap_or(0)
}

/// Was the address or port asked for, rather than chosen for a client?
#[inline(always)]
pub fn is_bound_explicitly(sk: u64) -> bool {
    bits(sk, offset!(sk_userlocks_bit), 0xf) & SOCK_BIND_LOCKS != 0
}

/// The `struct sock` behind a `struct socket`.
#[inline(always)]
pub fn of_socket(socket: u64) -> Option<u64> {
    follow(socket, offset!(socket_sk))
}

/// The `struct sock` behind a descriptor of `task`, when the descriptor is a socket.
///
/// Trap: another thread may have put another file at the descriptor since the system call began; what
/// is reported is what the kernel object says, never the arguments.
#[inline(always)]
pub fn of_descriptor(task: u64, fd: u64) -> Option<u64> {
    let files = follow(task, offset!(task_files))?;
    let table = follow(files, offset!(files_fdt))?;
    let max: u32 = field(table, offset!(fdtable_max_fds))?;
    if fd >= u64::from(max) {
        return None;
    }
    let array = follow(table, offset!(fdtable_fd))?;
    of_file(follow(array, (fd * 8) as u32)?)
}

/// The `struct sock` behind a file, when the file is a socket.
///
/// A unix socket's path, opened with `O_PATH`, has a socket's mode too: the file system tells them apart.
#[inline(always)]
pub fn of_file(file: u64) -> Option<u64> {
    let inode = follow(file, offset!(file_inode))?;
    let mode: u16 = field(inode, offset!(inode_mode))?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let sb = follow(inode, offset!(inode_sb))?;
    let magic: u64 = field(sb, offset!(sb_magic))?;
    if magic != u64::from(setting!(sockfs_magic)) {
        return None;
    }
    of_socket(follow(file, offset!(file_private_data))?)
}

/// Fills in a socket.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill(sk: u64, out: *mut Sock) {
    let family = family(sk);
    let kind = kind(sk);
    let mut flags = 0u8;
    if bits(sk, offset!(sk_reuseport_bit), 1) != 0 {
        flags |= SockFlags::REUSEPORT;
    }
    if is_bound_explicitly(sk) {
        flags |= SockFlags::BINDPORT_LOCK;
    }
    // SAFETY: `out` is writable; plain integers and byte arrays.
    unsafe {
        (*out).sk = sk;
        (*out).cookie = field(sk, offset!(sk_cookie)).unwrap_or(0);
        (*out).inode = inode(sk);
        (*out).netns = match follow(sk, offset!(sk_net)) {
            Some(net) => field(net, offset!(net_inum)).unwrap_or(0),
            None => 0,
        };
        (*out).family = family;
        (*out).kind = kind;
        (*out).protocol = protocol(sk);
        (*out).port = 0;
        (*out).peer_port = 0;
        (*out).state = TcpState(state(sk));
        (*out).backlog = backlog(sk);
        (*out).ifindex = 0;
        (*out).local = [0; 16];
        (*out).peer = [0; 16];
        if family == AF_INET || family == AF_INET6 {
            (*out).ifindex = field(sk, offset!(sk_bound_dev_if)).unwrap_or(0);
            if kind != SOCK_RAW {
                (*out).port = port(sk);
                (*out).peer_port = field::<u16>(sk, offset!(sk_dport))
                    .unwrap_or(0)
                    .swap_bytes();
            }
        }
        if family == AF_INET {
            copy(
                (&raw mut (*out).local).cast::<[u8; 4]>(),
                sk.wrapping_add(u64::from(offset!(sk_rcv_saddr))),
            );
            copy(
                (&raw mut (*out).peer).cast::<[u8; 4]>(),
                sk.wrapping_add(u64::from(offset!(sk_daddr))),
            );
        } else if family == AF_INET6 && offset!(sk_v6_rcv_saddr) != ABSENT {
            if bits(sk, offset!(sk_ipv6only_bit), 1) != 0 {
                flags |= SockFlags::V6ONLY;
            }
            copy(
                &raw mut (*out).local,
                sk.wrapping_add(u64::from(offset!(sk_v6_rcv_saddr))),
            );
            copy(
                &raw mut (*out).peer,
                sk.wrapping_add(u64::from(offset!(sk_v6_daddr))),
            );
        } else if family == AF_PACKET {
            (*out).protocol = packet_protocol(sk);
            (*out).ifindex = field(sk, offset!(packet_ifindex)).unwrap_or(0);
        }
        if (*out).protocol == IPPROTO_TCP && bits(sk, offset!(tcp_is_mptcp_bit), 1) != 0 {
            flags |= SockFlags::MPTCP;
        }
        (*out).flags = flags;
    }
}

/// The ethertype a packet socket receives, host order; 0 while it receives nothing.
#[inline(always)]
pub fn packet_protocol(sk: u64) -> u16 {
    field::<u16>(sk, offset!(packet_num))
        .unwrap_or(0)
        .swap_bytes()
}

/// The inode in sockfs, which lies beside the `struct socket` in one allocation.
#[inline(always)]
fn inode(sk: u64) -> u64 {
    let Some(socket) = follow(sk, offset!(sk_socket)) else {
        return 0;
    };
    if offset!(socket_alloc_inode) == ABSENT || offset!(socket_alloc_socket) == ABSENT {
        return 0;
    }
    let inode = socket
        .wrapping_sub(u64::from(offset!(socket_alloc_socket)))
        .wrapping_add(u64::from(offset!(socket_alloc_inode)));
    field(inode, offset!(inode_ino)).unwrap_or(0)
}

/// Has this unix socket a name?
#[inline(always)]
pub fn has_unix_name(sk: u64) -> bool {
    follow(sk, offset!(unix_addr)).is_some()
}

/// Fills in a unix socket's name, as it was bound.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill_unix_name(sk: u64, out: *mut UnixName) {
    // SAFETY: `out` is writable; plain integers and bytes.
    unsafe {
        (*out).len = 0;
        (*out).resolved_len = 0;
        (*out).bytes = [0; UNIX_NAME_LEN];
        if family(sk) != AF_UNIX {
            return;
        }
        let Some(address) = follow(sk, offset!(unix_addr)) else {
            return;
        };
        let Some(length) = field::<u32>(address, offset!(unix_address_len)) else {
            return;
        };
        // The kernel's length counts the family's two bytes.
        if !(3..=(UNIX_NAME_LEN as u32 + 2)).contains(&length) {
            return;
        }
        let name = address
            .wrapping_add(u64::from(offset!(unix_address_name)))
            .wrapping_add(2);
        // The allocation may be shorter than the array: only the used bytes are read.
        let used = length - 2;
        let result = aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            (&raw mut (*out).bytes).cast(),
            used & 0x7f,
            name as *const core::ffi::c_void,
        );
        if result == 0 {
            (*out).len = used as u16;
        }
    }
}

/// Is this a pathname that must be resolved against a working directory?
///
/// # Safety
/// `name` must be readable.
#[inline(always)]
pub unsafe fn is_relative(name: *const UnixName) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*name).len > 0 && (*name).bytes[0] != 0 && (*name).bytes[0] != b'/' }
}
