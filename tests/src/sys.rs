//! System calls that no safe wrapper offers; with `sys/process.rs` and `sys/uring.rs`, the only `unsafe` of the test package.
//!
//! Socket addresses travel as the bytes of a `sockaddr`, because the scenarios bind names that no
//! typed address can express (abstract names with NULs, a family alone, 108 bytes without an end).

pub mod process;
pub mod uring;

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU8;

/// Longest `sockaddr` any family here uses (`sockaddr_un`: 110 bytes).
const SOCKADDR_MAX: usize = 128;
/// Most descriptors that a scenario holds: the ten thousand listeners of a flood, with room.
const DESCRIPTORS: u64 = 16_384;

/// `socket(2)` with any numbers, close-on-exec.
///
/// # Errors
/// The kernel's refusal.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers in, a new descriptor or -1 out.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over a descriptor that the image before this one left open.
///
/// # Errors
/// `EBADF` when it is not open, `EINVAL` for standard input, output and error, which have owners.
pub fn inherited(fd: i32) -> io::Result<OwnedFd> {
    if fd <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_SETFD takes plain integers, and fails where the descriptor is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: open, and nothing in this young image has claimed it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bind(2)` with the bytes of a `sockaddr`.
///
/// # Errors
/// The kernel's refusal.
pub fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe one live slice, which the kernel only reads.
    let ret = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) };
    check(ret)
}

/// `bind(2)` with the bytes of a `sockaddr` that another thread may change meanwhile.
///
/// # Errors
/// The kernel's refusal.
pub fn bind_shared(fd: BorrowedFd<'_>, address: &[AtomicU8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).unwrap_or(0);
    // SAFETY: pointer and length describe one live slice of atomic bytes, which the kernel only reads;
    // what it reads of a byte that changes is the old value or the new one.
    let ret = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), length) };
    check(ret)
}

/// `dup2(2)`: puts what `fd` refers to at the number of `place`, whatever was there.
///
/// # Errors
/// The kernel's refusal.
pub fn replace(fd: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain integers. `place` is open and stays open, so its owner still owns a descriptor.
    check(unsafe { libc::dup2(fd.as_raw_fd(), place.as_raw_fd()) })
}

/// Makes the socket drop every packet that arrives, before TCP sees it (`SO_DETACH_FILTER` ends it).
///
/// # Errors
/// The kernel's refusal.
pub fn drop_incoming(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut program = [libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or(0),
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads one `sock_fprog`, which is live, and the one instruction that it points to.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0),
        )
    })
}

/// `connect(2)` with the bytes of a `sockaddr`.
///
/// # Errors
/// The kernel's refusal.
pub fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe one live slice, which the kernel only reads.
    let ret = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) };
    check(ret)
}

/// `sendto(2)` of one byte to the bytes of a `sockaddr`.
///
/// # Errors
/// The kernel's refusal.
pub fn send_to(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let payload = [0u8; 1];
    // SAFETY: both pointer and length pairs describe live slices, which the kernel only reads.
    let ret = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            payload.as_ptr().cast(),
            payload.len(),
            libc::MSG_NOSIGNAL,
            address.as_ptr().cast(),
            length(address),
        )
    };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `getsockname(2)`: the bytes of the `sockaddr`.
///
/// # Errors
/// The kernel's refusal.
pub fn local_name(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = [0u8; SOCKADDR_MAX];
    let mut used = length(&bytes);
    // SAFETY: the buffer is writable for `used` bytes, and `used` is a live socklen_t.
    let ret =
        unsafe { libc::getsockname(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut used) };
    check(ret)?;
    let used = usize::try_from(used).unwrap_or(0).min(SOCKADDR_MAX);
    Ok(bytes.get(..used).unwrap_or_default().to_vec())
}

/// `setsockopt(2)` with an int.
///
/// # Errors
/// The kernel's refusal.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let value: c_int = value;
    // SAFETY: the pointer is to a live int of the length given; the kernel only reads it.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length(&value.to_ne_bytes()),
        )
    };
    check(ret)
}

/// Who we are after [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The parent, with the child's pid.
    Parent(u32),
    /// The child.
    Child,
}

/// `fork(2)`. For single-threaded callers: the actor, which joins its threads before it goes on.
///
/// # Errors
/// The kernel's refusal.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the caller has one thread, so no lock can be left held in the child.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    Ok(u32::try_from(pid).map_or(Forked::Child, |pid| {
        if pid == 0 {
            Forked::Child
        } else {
            Forked::Parent(pid)
        }
    }))
}

/// Moves the process into a new, empty network namespace.
///
/// # Errors
/// The kernel's refusal (`EPERM` without `CAP_SYS_ADMIN`).
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: takes flags only; CLONE_NEWNET touches no memory of ours.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Drops every group and takes this id as user and group, for good.
///
/// # Errors
/// The kernel's refusal.
pub fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: a count of 0 never reads the (null) list.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: plain integers.
    check(unsafe { libc::setresgid(id, id, id) })?;
    // SAFETY: plain integers.
    check(unsafe { libc::setresuid(id, id, id) })
}

/// Sets the interface `lo` of the current network namespace up.
///
/// # Errors
/// The kernel's refusal.
pub fn loopback_up() -> io::Result<()> {
    let control = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // `struct ifreq`: 16 bytes of name, then a union whose first two bytes are the flags.
    let mut request = [0u8; 40];
    let flags = u16::try_from(libc::IFF_UP | libc::IFF_RUNNING)
        .unwrap_or(0)
        .to_ne_bytes();
    if let Some(head) = request.get_mut(..18) {
        head.copy_from_slice(&[b"lo".as_slice(), &[0; 14], &flags].concat());
    }
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, 40 bytes, which the live buffer is.
    check(unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            request.as_mut_ptr(),
        )
    })
}

/// Lets this process hold as many sockets as the largest scenario needs, or as many as it may: many scenarios share
/// one, and a guest's first process starts with a limit of 4,096.
///
/// # Errors
/// The kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let enough = limit.maximum.map(|maximum| maximum.max(DESCRIPTORS));
    for maximum in [enough, limit.maximum] {
        let raised = rustix::process::Rlimit {
            current: maximum,
            maximum,
        };
        match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
            // Only root may lift the upper one.
            Err(rustix::io::Errno::PERM) => {}
            other => return Ok(other?),
        }
    }
    Err(rustix::io::Errno::PERM.into())
}

/// The name of an error number, as portwatch's `error` key spells it.
#[must_use]
pub fn errno_name(error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let known = match number {
        libc::EACCES => "EACCES",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::EINVAL => "EINVAL",
        libc::EPERM => "EPERM",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::ESOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENOSYS => "ENOSYS",
        libc::ENOENT => "ENOENT",
        _ => return format!("errno-{number}"),
    };
    known.to_owned()
}

fn check(ret: c_int) -> io::Result<()> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn length(bytes: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes.len()).unwrap_or(0)
}
