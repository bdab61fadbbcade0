//! Work inside other network namespaces, on a thread that enters one and ends there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::holders::{link_number, pids};

/// Namespaces that one look visits, at most.
const MAX_NAMESPACES: usize = 1024;

/// The distinct network namespaces that processes live in: inode, and the lowest pid in each. One that
/// only a thread, a bind mount or a descriptor keeps alive is not found this way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) pid_of: BTreeMap<u32, u32>,
    /// There were no more than could be visited.
    pub(super) complete: bool,
}

/// Finds them.
///
/// # Errors
/// `/proc` itself cannot be read.
pub(super) fn namespaces() -> io::Result<Namespaces> {
    let mut pid_of = BTreeMap::new();
    let mut complete = true;
    for pid in pids()? {
        let path = format!("/proc/{pid}/ns/net");
        let Some(netns) = link_number(Path::new(&path), "net") else {
            continue;
        };
        let Ok(netns) = u32::try_from(netns) else {
            continue;
        };
        if pid_of.len() >= MAX_NAMESPACES && !pid_of.contains_key(&netns) {
            complete = false;
        } else {
            let lowest = pid_of.entry(netns).or_insert(pid);
            *lowest = pid.min(*lowest);
        }
    }
    Ok(Namespaces { pid_of, complete })
}

/// The inode of the calling thread's network namespace.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn current() -> io::Result<u32> {
    inode(&File::open("/proc/thread-self/ns/net")?)
}

/// Runs `work` in the network namespace `netns`, in which the process `pid` lives. The calling thread
/// stays where it is.
///
/// # Errors
/// The process is gone or has moved, this process may not enter (`CAP_SYS_ADMIN`), or no thread is to
/// be had.
pub(super) fn within<T: Send>(
    netns: u32,
    pid: u32,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let file = File::open(format!("/proc/{pid}/ns/net"))?;
    if inode(&file)? != netns {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("process {pid} has left the network namespace {netns}"),
        ));
    }
    std::thread::scope(|scope| {
        let enter = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, enter)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the work in the namespace panicked")))
    })
}

fn inode(file: &File) -> io::Result<u32> {
    let inode = rustix::fs::fstat(file)?.st_ino;
    u32::try_from(inode).map_err(|_| io::Error::other("a namespace's inode has 32 bits"))
}
