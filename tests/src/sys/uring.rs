//! The least of io_uring that can bind and listen: one submission, one completion, then it is torn down.
//!
//! System calls that go this way pass no syscall tracepoint, which is why the scenarios want them.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringFeatureFlags, IoringOp,
    IoringSetupFlags, io_uring_enter, io_uring_params, io_uring_setup,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Room for one submission is all that is used; the kernel rounds up to a power of two.
const ENTRIES: u32 = 1;
/// Bytes of a submission entry and of a completion entry (`linux/io_uring.h`).
const SQE_SIZE: usize = 64;
const CQE_SIZE: usize = 16;

/// `IORING_OP_BIND` with the bytes of a `sockaddr`.
///
/// # Errors
/// The refusal of the bind; `EINVAL` also where the kernel does not know the opcode (before 6.11).
pub fn bind(socket: BorrowedFd<'_>, address: &[u8], sqpoll: bool) -> io::Result<()> {
    let mut entry = Entry::new(IoringOp::Bind, socket);
    entry.put(8, &(address.len() as u64).to_ne_bytes());
    entry.put(16, &(address.as_ptr().addr() as u64).to_ne_bytes());
    // The address lives until the completion has been read, inside this call.
    Ring::new(sqpoll)?.run(&entry)
}

/// `IORING_OP_LISTEN`.
///
/// # Errors
/// The refusal of the listen; `EINVAL` also where the kernel does not know the opcode (before 6.11).
pub fn listen(socket: BorrowedFd<'_>, backlog: i32, sqpoll: bool) -> io::Result<()> {
    let mut entry = Entry::new(IoringOp::Listen, socket);
    entry.put(24, &backlog.to_ne_bytes());
    Ring::new(sqpoll)?.run(&entry)
}

/// Can this kernel bind and listen through io_uring? Asks by doing it on a loopback socket.
#[must_use]
pub fn is_available() -> bool {
    let address = crate::address::Address::inet("127.0.0.1:0").map(|any| any.to_sockaddr());
    let socket = super::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    match (address, socket) {
        (Ok(address), Ok(socket)) => bind(socket.as_fd(), &address, false).is_ok(),
        _ => false,
    }
}

/// A submission entry, as bytes: opcode at 0, descriptor at 4, `addr2` at 8, `addr` at 16, `len` at 24.
struct Entry([u8; SQE_SIZE]);

impl Entry {
    fn new(op: IoringOp, fd: BorrowedFd<'_>) -> Self {
        let mut entry = Self([0; SQE_SIZE]);
        entry.put(0, &[op as u8]);
        entry.put(4, &fd.as_raw_fd().to_ne_bytes());
        entry
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

/// An io_uring with its shared memory.
struct Ring {
    fd: OwnedFd,
    params: io_uring_params,
    rings: Mapping,
    entries: Mapping,
}

impl Ring {
    fn new(sqpoll: bool) -> io::Result<Self> {
        let mut params = io_uring_params::default();
        if sqpoll {
            params.flags = IoringSetupFlags::SQPOLL;
        }
        // SAFETY: `params` is a live structure of the layout the kernel writes back to.
        let fd = unsafe { io_uring_setup(ENTRIES, &mut params) }?;
        if !params.features.contains(IoringFeatureFlags::SINGLE_MMAP) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let submissions = params.sq_off.array as usize + params.sq_entries as usize * 4;
        let completions = params.cq_off.cqes as usize + params.cq_entries as usize * CQE_SIZE;
        let rings = Mapping::new(&fd, submissions.max(completions), IORING_OFF_SQ_RING)?;
        let entries = Mapping::new(&fd, params.sq_entries as usize * SQE_SIZE, IORING_OFF_SQES)?;
        Ok(Self {
            fd,
            params,
            rings,
            entries,
        })
    }

    /// Submits the entry, waits for its completion and gives its result.
    fn run(&self, entry: &Entry) -> io::Result<()> {
        // SAFETY: the mapping holds at least one entry, and the kernel reads it only after the tail moves.
        unsafe { self.entries.start.cast::<[u8; SQE_SIZE]>().write(entry.0) };
        self.rings
            .word(self.params.sq_off.array)?
            .store(0, Ordering::Relaxed);
        self.rings
            .word(self.params.sq_off.tail)?
            .store(1, Ordering::Release);
        let flags = IoringEnterFlags::GETEVENTS | IoringEnterFlags::SQ_WAKEUP;
        loop {
            // SAFETY: no argument points anywhere; the rings outlive the call.
            match unsafe { io_uring_enter(&self.fd, 1, 1, flags) } {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if self
                .rings
                .word(self.params.cq_off.tail)?
                .load(Ordering::Acquire)
                != 0
            {
                break;
            }
        }
        // A completion entry is user_data (8 bytes), then the result.
        let result = self
            .rings
            .word(self.params.cq_off.cqes + 8)?
            .load(Ordering::Relaxed);
        match i32::from_ne_bytes(result.to_ne_bytes()) {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(()),
        }
    }
}

/// Shared memory of a ring.
struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

impl Mapping {
    fn new(fd: &OwnedFd, size: usize, offset: u64) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let share = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), size, access, share, fd, offset) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size })
    }

    /// The shared 32-bit word at this offset.
    fn word(&self, offset: u32) -> io::Result<&AtomicU32> {
        let offset = offset as usize;
        if !offset.is_multiple_of(4) || offset + 4 > self.size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: inside the mapping, as just checked.
        let at = unsafe { self.start.add(offset) };
        // SAFETY: aligned, alive as long as the mapping, and shared only through atomics.
        Ok(unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.start.cast().as_ptr(), self.size) };
        debug_assert!(unmapped.is_ok(), "a ring could not be unmapped");
    }
}
