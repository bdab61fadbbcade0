//! A view of tracefs, to learn the ids of tracepoints, that leaves the user's mounts as they are.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::{mount, read};

/// tracefs, wherever it can be read. Clones share the mount; the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Tracefs {
    path: PathBuf,
    /// Holds a private mount in being; `path` leads through this descriptor.
    private: Option<Arc<OwnedFd>>,
}

impl Tracefs {
    /// Takes tracefs where it is mounted. Where it is not, mounts it detached: read-only, seen by no
    /// other process, in no directory.
    ///
    /// # Errors
    /// A sentence why there is none.
    pub fn open() -> Result<Self, String> {
        let mounted = mount::find("tracefs", mount::TRACEFS_MAGIC)
            .map(Self::at)
            .filter(Self::is_readable);
        match mounted {
            Some(tracefs) => Ok(tracefs),
            None => Self::mount_private(),
        }
    }

    /// tracefs, or something of its shape, in this directory.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            private: None,
        }
    }

    /// Its directory. A private mount has the form `/proc/self/fd/N`: good in this process only, for
    /// as long as a clone of this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Was it mounted for this process alone?
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// The id that `perf_event_open` knows a tracepoint by.
    #[must_use]
    pub fn tracepoint_id(&self, category: &str, name: &str) -> Option<u64> {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !plain(category) || !plain(name) {
            return None;
        }
        let file = self
            .path
            .join("events")
            .join(category)
            .join(name)
            .join("id");
        read::text(&file, 32).ok()?.trim().parse().ok()
    }

    fn is_readable(&self) -> bool {
        std::fs::read_dir(self.path.join("events")).is_ok()
    }

    fn mount_private() -> Result<Self, String> {
        let mounted = || {
            let fs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&fs)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        let private: OwnedFd = mounted().map_err(|error| {
            format!("tracefs is not mounted, and cannot be mounted privately: {error}")
        })?;
        let tracefs = Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", private.as_raw_fd())),
            private: Some(Arc::new(private)),
        };
        if tracefs.is_readable() {
            Ok(tracefs)
        } else {
            Err("tracefs has no readable directory of events".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tracefs;
    use crate::kernel::capability::{Capabilities, Capability};

    #[test]
    fn an_id_is_read_where_tracefs_keeps_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let event = dir.path().join("events/syscalls/sys_enter_bind");
        std::fs::create_dir_all(&event).expect("directories");
        std::fs::write(event.join("id"), "1789\n").expect("a file");
        let tracefs = Tracefs::at(dir.path().to_owned());
        assert_eq!(
            tracefs.tracepoint_id("syscalls", "sys_enter_bind"),
            Some(1789)
        );
        assert_eq!(tracefs.tracepoint_id("syscalls", "sys_exit_bind"), None);
        assert_eq!(
            tracefs.tracepoint_id("..", "events/syscalls/sys_enter_bind"),
            None
        );
        std::fs::write(event.join("id"), "many\n").expect("a file");
        assert_eq!(tracefs.tracepoint_id("syscalls", "sys_enter_bind"), None);
    }

    #[test]
    fn a_private_mount_serves_ids_and_shows_nowhere() {
        if !Capabilities::of_this_thread().has(Capability::SysAdmin) {
            eprintln!("skipped: needs CAP_SYS_ADMIN to mount");
            return;
        }
        let mounts = || {
            let all = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            all.lines()
                .filter(|line| line.contains(" - tracefs "))
                .count()
        };
        let before = mounts();
        let tracefs = match Tracefs::mount_private() {
            Ok(tracefs) => tracefs,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        };
        assert!(tracefs.is_private());
        assert_eq!(mounts(), before, "no one else sees it");
        let clone = tracefs.clone();
        drop(tracefs);
        assert!(
            clone
                .tracepoint_id("sched", "sched_process_exec")
                .is_some_and(|id| id > 0),
            "a clone keeps the mount"
        );
    }
}
