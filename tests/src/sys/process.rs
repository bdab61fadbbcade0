//! Processes made in ways that no safe wrapper offers: with a pid of one's choice, and in storms.

use std::ffi::CStr;
use std::io;

use super::{Forked, check};

/// `fork(2)` that gives the child this pid. For single-threaded callers, as [`super::fork`].
///
/// # Errors
/// The kernel's refusal: `EEXIST` when somebody has the pid, `EPERM` without the capability,
/// `ENOSYS` and `E2BIG` on kernels before 5.5.
pub fn fork_as(pid: u32) -> io::Result<Forked> {
    let wanted = [libc::pid_t::try_from(pid).unwrap_or(-1)];
    // SAFETY: plain integers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = wanted.as_ptr() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: both pointers are to live memory of the size given, which the kernel only reads; without a
    // stack of its own the child is a copy of this process, as after fork.
    let made = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match made {
        0 => Ok(Forked::Child),
        made if made > 0 => Ok(Forked::Parent(u32::try_from(made).unwrap_or(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Starts a program without arguments or environment, with as little work as the system needs
/// (`posix_spawn`), and waits for its end.
///
/// # Errors
/// It cannot be started.
pub fn run_quickly(program: &CStr) -> io::Result<()> {
    let mut pid = 0;
    let arguments = [program.as_ptr().cast_mut(), std::ptr::null_mut()];
    let environment = [std::ptr::null_mut()];
    // SAFETY: the strings end with a NUL and the lists with a null pointer; all of them outlive the call,
    // which with `CLONE_VFORK` returns when the child has its own image.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    loop {
        // SAFETY: a null status is permitted; the pid is that of our own child.
        match check(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Moves this process into a mount namespace of its own, from which nothing spreads.
///
/// # Errors
/// The kernel's refusal.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: takes flags only; CLONE_NEWNS touches no memory of ours.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(io::Error::from)
}

/// Makes this thread one that runs before all ordinary ones (`SCHED_FIFO`), as soon as it can.
///
/// # Errors
/// The kernel's refusal.
pub fn run_before_others() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter outlives the call, which only reads it; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) })
}

/// Ends this process at once: what a fork without an image of its own must do.
pub fn end_now() -> ! {
    // SAFETY: never returns, and runs nothing of this process on the way.
    unsafe { libc::_exit(0) }
}
