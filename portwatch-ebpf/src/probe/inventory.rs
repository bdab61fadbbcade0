//! The inventory: every descriptor of every task that refers to a receiving socket, in one pass over
//! all namespaces.
//!
//! `iter/task_file` is the only view that gives sockets together with their holders; `/proc` takes two
//! orders of magnitude longer for the same.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_seq_write,
};
use portwatch_common::header::{EventKind, Mechanism};
use portwatch_common::listener::HeldRecord;

use crate::kernel::{Copied, Object as _, Typed, argument};
use crate::maps::{CONTROL, HELD, TRACKED};
use crate::probe::unix;
use crate::{sock, task};

const LISTEN: u8 = 10;

/// `struct bpf_iter_meta`, as far as it is read.
#[repr(C)]
struct IteratorMeta {
    seq: *mut aya_ebpf::bindings::seq_file,
    session: u64,
}

/// `struct bpf_iter__task_file { meta, task, fd, file }`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn task_file_iter(context: *mut core::ffi::c_void) -> i32 {
    // SAFETY: as the context is declared; both may be missing.
    let (task, file) = unsafe { (Typed::argument(context, 1), Typed::argument(context, 3)) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let (sk, inode) = sock::of_typed_file(file);
    if sk == 0 {
        return 0;
    }
    let Some(last) = HELD.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map has one value, and the iterator one reader.
    let sk = unsafe { Copied::of(sk, &raw mut (*last).sock) };
    if !is_wanted(sk) {
        return 0;
    }
    // SAFETY: the map has one value and the iterator one reader; `seq` is the kernel's own pointer.
    unsafe {
        let meta = *context.cast::<*mut IteratorMeta>();
        let place = &raw mut (*last).record;
        // A server's descriptors come one after another: most of a record's cost would be to read the
        // same task again.
        if (*last).session != (*meta).session || !task::is_in(task, &raw const (*place).task) {
            (*last).session = (*meta).session;
            task::fill(task.address(), &raw mut (*place).task);
        }
        (*place).header.kind = EventKind::SOCKET_HELD;
        (*place).header.mechanism = Mechanism::ITERATOR;
        (*place).header.reserved = 0;
        (*place).header.len = size_of::<HeldRecord>() as u32;
        (*place).header.boot_ns = bpf_ktime_get_boot_ns();
        (*place).header.cpu = bpf_get_smp_processor_id();
        (*place).header.reserved2 = 0;
        (*place).header.cpu_seq = 0;
        sock::fill_with(sk, inode, &raw mut (*place).sock);
        sock::fill_unix_name(sk, &raw mut (*place).unix);
        (*place).fd = argument(context, 2) as u32;
        (*place).reserved = 0;
        bpf_seq_write((*meta).seq, place.cast(), size_of::<HeldRecord>() as u32);
    }
    0
}

/// Does this socket receive? Connections too, while user space asks for their owners.
#[inline(always)]
fn is_wanted(sk: Copied) -> bool {
    let family = sock::family(sk);
    let kind = sock::kind(sk);
    if family == sock::AF_UNIX {
        unix::is_listener(sk)
    } else if family == sock::AF_PACKET {
        sock::packet_protocol(sk) != 0
    } else if family == sock::AF_INET || family == sock::AF_INET6 {
        if kind == sock::SOCK_RAW {
            return true;
        }
        if kind == sock::SOCK_DGRAM {
            // Explicit binds; a bind to any address and port 0 leaves no trace but our own.
            return sock::port(sk) != 0
                && (sock::is_bound_explicitly(sk) || TRACKED.get_ptr(sk.address()).is_some());
        }
        let connections = match CONTROL.get(0) {
            Some(control) => control.inventory_connections != 0,
            None => false,
        };
        sock::state(sk) == LISTEN || connections
    } else {
        false
    }
}
