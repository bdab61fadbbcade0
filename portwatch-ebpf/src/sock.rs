//! The socket, from the kernel object.

use portwatch_common::listener::UnixName;
use portwatch_common::offsets::ABSENT;
use portwatch_common::socket::{Sock, SockFlags, TcpState, UNIX_NAME_LEN};

use crate::kernel::{Object, Typed, bits, field, offset, setting};

/// Address families.
pub const AF_UNIX: u16 = 1;
/// IPv4.
pub const AF_INET: u16 = 2;
/// IPv6.
pub const AF_INET6: u16 = 10;
/// Packet sockets.
pub const AF_PACKET: u16 = 17;
/// Socket types.
pub const SOCK_DGRAM: u16 = 2;
/// Raw.
pub const SOCK_RAW: u16 = 3;
/// TCP's protocol number.
pub const IPPROTO_TCP: u16 = 6;
/// UDP's.
pub const IPPROTO_UDP: u16 = 17;
/// UDP-Lite's.
pub const IPPROTO_UDPLITE: u16 = 136;
/// SCTP's.
pub const IPPROTO_SCTP: u16 = 132;
/// The MPTCP socket that a program holds.
const IPPROTO_MPTCP: u16 = 262;
/// `sk_userlocks`: the address or the port was asked for.
const SOCK_BIND_LOCKS: u8 = 4 | 8;
/// `S_IFMT` and `S_IFSOCK`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The address family of a sock.
#[inline(always)]
pub fn family(sk: impl Object) -> u16 {
    sk.field(offset!(sk_family))
}

/// The socket type.
#[inline(always)]
pub fn kind(sk: impl Object) -> u16 {
    sk.field(offset!(sk_type))
}

/// The protocol; a byte wide before 5.6, which no supported kernel is.
#[inline(always)]
pub fn protocol(sk: impl Object) -> u16 {
    sk.field(offset!(sk_protocol))
}

/// The socket that listens for this one. Trap `mptcp_backlog`: an MPTCP socket listens through its first
/// subflow, which alone has the backlog and whose end alone is told.
#[inline(always)]
pub fn listening(sk: u64) -> u64 {
    if protocol(sk) != IPPROTO_MPTCP || offset!(mptcp_first) == ABSENT {
        return sk;
    }
    match field::<u64>(sk, offset!(mptcp_first)) {
        0 => sk,
        subflow => subflow,
    }
}

/// The state number.
#[inline(always)]
pub fn state(sk: impl Object) -> u8 {
    sk.field(offset!(sk_state))
}

/// The local port, host order.
#[inline(always)]
pub fn port(sk: impl Object) -> u16 {
    sk.field(offset!(sk_num))
}

/// The local port as packets carried it, host order: outlives the port's release, and goes stale when
/// the socket is used anew, so it is for sockets that just ended only.
#[inline(always)]
pub fn last_port(sk: u64) -> u16 {
    field::<u16>(sk, offset!(inet_sport)).swap_bytes()
}

/// Inode of the network namespace.
#[inline(always)]
pub fn netns(sk: impl Object) -> u32 {
    sk.behind(offset!(sk_net), offset!(net_inum))
}

/// The longest accept queue.
#[inline(always)]
pub fn backlog(sk: impl Object) -> u32 {
    sk.field(offset!(sk_max_ack_backlog))
}

/// Was the address or port asked for, rather than chosen for a client?
#[inline(always)]
pub fn is_bound_explicitly(sk: impl Object) -> bool {
    bits(sk, offset!(sk_userlocks_bit), 0xf) & SOCK_BIND_LOCKS != 0
}

/// Is it the kernel's own? Not known where the field is not.
#[inline(always)]
pub fn is_kernels(sk: impl Object) -> bool {
    bits(sk, offset!(sk_kern_sock_bit), 1) != 0
}

/// The `struct sock` behind a `struct socket`; 0 when there is none.
#[inline(always)]
pub fn of_socket(socket: u64) -> u64 {
    field(socket, offset!(socket_sk))
}

/// The `struct sock` behind a descriptor of `task`; 0 when the descriptor is no socket.
///
/// Trap `toctou`: another thread may have put another file at the descriptor since the system call
/// began; what is reported is what the kernel object says, never the arguments.
#[inline(always)]
pub fn of_descriptor(task: u64, fd: u64) -> u64 {
    let files: u64 = field(task, offset!(task_files));
    let table: u64 = field(files, offset!(files_fdt));
    let max: u32 = field(table, offset!(fdtable_max_fds));
    if fd >= max as u64 {
        return 0;
    }
    let array: u64 = field(table, offset!(fdtable_fd));
    of_file(field(array, (fd as u32).wrapping_mul(8)))
}

/// The `struct sock` behind a file; 0 when the file is no socket.
///
/// A unix socket's path, opened with `O_PATH`, has a socket's mode too: the file system tells them apart.
#[inline(always)]
pub fn of_file(file: u64) -> u64 {
    let inode: u64 = field(file, offset!(file_inode));
    let mode: u16 = field(inode, offset!(inode_mode));
    if mode & S_IFMT != S_IFSOCK {
        return 0;
    }
    let sb: u64 = field(inode, offset!(inode_sb));
    if field::<u64>(sb, offset!(sb_magic)) != setting!(sockfs_magic) as u64 {
        return 0;
    }
    of_socket(field(file, offset!(file_private_data)))
}

/// As [`of_file`], with the inode in sockfs, for the argument of an iterator.
#[inline(always)]
pub fn of_typed_file(file: Typed) -> (u64, u64) {
    // SAFETY: `f_inode` and `i_sb` are pointers to kernel structures.
    let (inode, sb) = unsafe {
        let inode = file.follow(offset!(file_inode));
        (inode, inode.follow(offset!(inode_sb)))
    };
    let mode: u16 = inode.field(offset!(inode_mode));
    let magic: u64 = sb.field(offset!(sb_magic));
    if mode & S_IFMT != S_IFSOCK || magic != setting!(sockfs_magic) as u64 {
        return (0, 0);
    }
    let socket: u64 = file.field(offset!(file_private_data));
    (of_socket(socket), inode.field(offset!(inode_ino)))
}

/// Fills in a socket.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill(sk: impl Object, out: *mut Sock) {
    let file = inode(sk.field(offset!(sk_socket)));
    // SAFETY: the caller's promise.
    unsafe { fill_with(sk, file, out) }
}

/// As [`fill`], with the inode in sockfs.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill_with(sk: impl Object, inode: u64, out: *mut Sock) {
    let family = family(sk);
    let kind = kind(sk);
    let locks = bits(sk, offset!(sk_userlocks_bit), 0xf);
    let mut flags = (bits(sk, offset!(sk_reuseport_bit), 1) * SockFlags::REUSEPORT)
        | (((locks >> 2 | locks >> 3) & 1) * SockFlags::BINDPORT_LOCK);
    // SAFETY: `out` is writable; plain integers and byte arrays.
    unsafe {
        (*out).sk = sk.address();
        (*out).cookie = sk.field(offset!(sk_cookie));
        (*out).inode = inode;
        (*out).netns = netns(sk);
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
            (*out).ifindex = sk.field(offset!(sk_bound_dev_if));
            if kind != SOCK_RAW {
                (*out).port = port(sk);
                (*out).peer_port = sk.field::<u16>(offset!(sk_dport)).swap_bytes();
            }
        }
        let local = (&raw mut (*out).local).cast::<u64>();
        let peer = (&raw mut (*out).peer).cast::<u64>();
        if family == AF_INET {
            *local.cast::<u32>() = sk.field(offset!(sk_rcv_saddr));
            *peer.cast::<u32>() = sk.field(offset!(sk_daddr));
        } else if family == AF_INET6 && offset!(sk_v6_rcv_saddr) != ABSENT {
            flags |= bits(sk, offset!(sk_ipv6only_bit), 1) * SockFlags::V6ONLY;
            *local = sk.field(offset!(sk_v6_rcv_saddr));
            *local.add(1) = sk.field(offset!(sk_v6_rcv_saddr) + 8);
            *peer = sk.field(offset!(sk_v6_daddr));
            *peer.add(1) = sk.field(offset!(sk_v6_daddr) + 8);
        } else if family == AF_PACKET {
            (*out).protocol = packet_protocol(sk);
            (*out).ifindex = sk.field(offset!(packet_ifindex));
        }
        if (*out).protocol == IPPROTO_TCP {
            flags |= bits(sk, offset!(tcp_is_mptcp_bit), 1) * SockFlags::MPTCP;
        }
        (*out).flags = flags;
    }
}

/// The ethertype a packet socket receives, host order; 0 while it receives nothing.
#[inline(always)]
pub fn packet_protocol(sk: impl Object) -> u16 {
    sk.field::<u16>(offset!(packet_num)).swap_bytes()
}

/// The inode in sockfs, which lies beside the `struct socket` in one allocation.
#[inline(always)]
pub fn inode(socket: u64) -> u64 {
    let distance = offset!(socket_alloc_inode).wrapping_sub(offset!(socket_alloc_socket));
    // A socket without a file (0) lands in the first page, which reads as zero.
    field(socket.wrapping_add(distance as u64), offset!(inode_ino))
}

/// As [`inode`], of a typed sock: four loads where its socket has a file. One without is the kernel's own, or the part of an
/// MPTCP socket, which has that one's inode beside it.
#[inline(always)]
pub fn typed_inode(sk: Typed) -> u64 {
    let socket: u64 = sk.field(offset!(sk_socket));
    if socket == 0 {
        return 0;
    }
    if offset!(socket_file) == ABSENT {
        return inode(socket);
    }
    // SAFETY: `sk_socket` and `file` are pointers to kernel structures.
    let file = unsafe { sk.follow(offset!(sk_socket)).follow(offset!(socket_file)) };
    if file.address() == 0 {
        return inode(socket);
    }
    // SAFETY: so is `f_inode`.
    unsafe { file.follow(offset!(file_inode)) }.field(offset!(inode_ino))
}

/// Has this unix socket a name?
#[inline(always)]
pub fn has_unix_name(sk: impl Object) -> bool {
    sk.field::<u64>(offset!(unix_addr)) != 0
}

/// Fills in a unix socket's name, as it was bound.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill_unix_name(sk: impl Object, out: *mut UnixName) {
    // SAFETY: `out` is writable; plain integers and bytes.
    unsafe {
        (*out).len = 0;
        (*out).resolved_len = 0;
        (*out).bytes = [0; UNIX_NAME_LEN];
        if family(sk) != AF_UNIX {
            return;
        }
        let address: u64 = sk.field(offset!(unix_addr));
        let length: u32 = field(address, offset!(unix_address_len));
        // The kernel's length counts the family's two bytes, and for a path the NUL that it added, which
        // has no place in the array when the path has all of it (`longest_path`).
        if length < 3 || length > UNIX_NAME_LEN as u32 + 3 {
            return;
        }
        // The allocation may be shorter than the array: only the used bytes are read.
        let used = (length - 2) & 0x7f;
        let used = if used > UNIX_NAME_LEN as u32 {
            UNIX_NAME_LEN as u32
        } else {
            used
        };
        let name = address.wrapping_add(offset!(unix_address_name) as u64 + 2);
        let result = aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            (&raw mut (*out).bytes).cast(),
            used,
            name as *const core::ffi::c_void,
        );
        if result == 0 {
            (*out).len = used as u16;
        }
    }
}
