//! Runs the loader where tracefs can be seen, without mounting anything that others would see.
//!
//! aya looks tracepoints up under `/sys/kernel/tracing` only. Where nobody mounted tracefs there, the
//! loader runs on a thread of its own with a private mount namespace in which it is mounted; the thread
//! ends with its namespace, the attached probes stay.

use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Where aya looks first.
const TRACING: &str = "/sys/kernel/tracing";

/// Runs `work` on a thread of its own; with a private tracefs, when `needed` and nobody mounted one.
/// A mount that is refused is not an error here: the tracepoints will not attach, and the plan falls back.
///
/// # Errors
/// When the thread cannot be started or panics.
pub(super) fn with_tracefs<T: Send>(
    needed: bool,
    work: impl FnOnce() -> T + Send,
) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("probe-loader".to_owned())
            .spawn_scoped(scope, move || {
                if needed && is_empty(Path::new(TRACING)) {
                    mount_privately();
                }
                work()
            })?;
        thread
            .join()
            .map_err(|_| std::io::Error::other("the loader thread panicked"))
    })
}

fn mount_privately() {
    // SAFETY: this thread shares no file descriptors through the call (only its mount namespace and
    // working directory become its own), and nothing else runs on it.
    if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNS) } {
        tracing::debug!(%error, "no private mount namespace for tracefs");
        return;
    }
    // Without this, the mount would spread to the namespace it was copied from.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    let result = mount_change("/", slave).and_then(|()| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tracefs", TRACING, "tracefs", flags, None)
    });
    if let Err(error) = result {
        tracing::debug!(%error, "tracefs could not be mounted privately");
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}
