//! From a cgroup2 id to a placement: remembered, read from the living process, or found by a walk.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bounded::Bounded;
use super::cgroup::{self, Placement};
use super::proc_fs::{ProcFs, stamp};
use crate::decode::record::ProcessKey;

/// Most ids, and most processes, remembered.
const PLACES_MAX: usize = 4_096;
/// Most directories of the cgroup tree looked at in one walk.
const WALK_MAX: usize = 10_000;
/// Id of the cgroup2 root. On hosts that keep their groups in v1 hierarchies every process is there,
/// so it says nothing.
pub(super) const ROOT_ID: u64 = 1;

/// What is known of where a process is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This.
    Known(Arc<Placement>),
    /// Nothing, and nothing more can be found out.
    Unknown,
    /// The process is gone; a walk of the cgroup tree may find this id.
    Walk(u64),
}

/// Placements by cgroup id and, where the id says nothing, by process.
#[derive(Debug)]
pub(super) struct CgroupMap {
    mount: PathBuf,
    by_id: Bounded<u64, Option<Arc<Placement>>>,
    by_process: Bounded<ProcessKey, Arc<Placement>>,
}

impl CgroupMap {
    /// `mount` is where cgroup2 is mounted, or the directory in which hybrid hosts mount it (`unified`).
    pub(super) fn new(mount: &Path) -> Self {
        Self {
            mount: cgroup2_mount(mount),
            by_id: Bounded::new(PLACES_MAX),
            by_process: Bounded::new(PLACES_MAX),
        }
    }

    /// The mount point of cgroup2.
    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    /// From memory, or from /proc/PID/cgroup while the process lives.
    pub(super) fn place(&mut self, key: ProcessKey, id: u64, proc: &ProcFs) -> Place {
        let walked = match self.by_id.get(&id) {
            Some(Some(known)) => return Place::Known(Arc::clone(known)),
            found => found.is_some(),
        };
        if let Some(known) = self.by_process.get(&key) {
            return Place::Known(Arc::clone(known));
        }
        let elsewhere = if id > ROOT_ID && !walked {
            Place::Walk(id)
        } else {
            Place::Unknown
        };
        let Some((path, unified)) = proc.open_same(key).and_then(|process| process.cgroup()) else {
            return elsewhere;
        };
        let placement = Arc::new(cgroup::parse(&path));
        if unified && id > ROOT_ID {
            // It may have been moved since the event: then the path belongs to another id.
            if self.id_of(&path).is_some_and(|there| there != id) {
                return elsewhere;
            }
            self.by_id.insert(id, Some(Arc::clone(&placement)));
        } else {
            self.by_process.insert(key, Arc::clone(&placement));
        }
        Place::Known(placement)
    }

    /// What a walk found for an id, or that it found nothing.
    pub(super) fn learn(&mut self, id: u64, placement: Option<Arc<Placement>>) {
        self.by_id.insert(id, placement);
    }

    /// The path of a cgroup, if it was met before.
    pub(super) fn path(&mut self, id: u64) -> Option<String> {
        if id == ROOT_ID {
            return Some("/".to_owned());
        }
        let placement = self.by_id.get(&id)?.as_ref()?;
        Some(placement.path.clone())
    }

    fn id_of(&self, path: &[u8]) -> Option<u64> {
        let relative = Path::new(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/")?));
        let found = stamp(rustix::fs::CWD, &self.mount.join(relative)).ok();
        found.map(|(stamp, _)| stamp.inode)
    }
}

/// Looks through the cgroup tree for the directory with this inode number, which is the cgroup id.
/// Breadth first, because services lie near the root. Slow: for the workers only.
pub(super) fn walk(mount: &Path, id: u64) -> Option<Placement> {
    let mut waiting = VecDeque::from([mount.to_path_buf()]);
    let mut seen = 0;
    while let Some(dir) = waiting.pop_front() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            let path = entry.path();
            if entry.ino() == id {
                let inside = path.strip_prefix(mount).ok()?;
                let path = [b"/", inside.as_os_str().as_bytes()].concat();
                return Some(cgroup::parse(&path));
            }
            if seen >= WALK_MAX {
                return None;
            }
            waiting.push_back(path);
        }
    }
    None
}

fn cgroup2_mount(mount: &Path) -> PathBuf {
    let hybrid = mount.join("unified");
    if hybrid.join("cgroup.procs").exists() {
        hybrid
    } else {
        mount.to_path_buf()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use super::{CgroupMap, Place, Placement, walk};
    use crate::decode::record::ProcessKey;
    use crate::enrich::proc_fs::ProcFs;
    use crate::time::BootNs;

    const KEY: ProcessKey = ProcessKey {
        pid: 7,
        start: BootNs(5_000_000_000),
    };

    fn unit(name: &str) -> Placement {
        Placement {
            path: format!("/system.slice/{name}"),
            unit: Some(name.into()),
            container: None,
        }
    }

    /// A process in `path` and a cgroup tree with that path; its id.
    fn fixture(root: &Path, path: &str) -> (ProcFs, u64) {
        let dir = root.join("proc/7");
        std::fs::create_dir_all(&dir).expect("dir");
        let stat = "7 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 500 9 9";
        std::fs::write(dir.join("stat"), stat).expect("stat");
        std::fs::write(dir.join("cgroup"), format!("0::{path}\n")).expect("cgroup");
        let group = root.join("cgroup").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&group).expect("group");
        let id = std::fs::metadata(group).expect("group").ino();
        (ProcFs::new(root.join("proc")), id)
    }

    #[test]
    fn an_id_is_read_once_and_outlives_the_process() {
        let root = tempfile::tempdir().expect("dir");
        let (proc, id) = fixture(root.path(), "/system.slice/a.service");
        let mut map = CgroupMap::new(&root.path().join("cgroup"));
        let expected = Place::Known(Arc::new(unit("a.service")));
        assert_eq!(map.place(KEY, id, &proc), expected);
        std::fs::remove_dir_all(root.path().join("proc")).expect("exit");
        let other = ProcessKey { pid: 8, ..KEY };
        assert_eq!(map.place(other, id, &proc), expected);
        assert_eq!(map.path(id).as_deref(), Some("/system.slice/a.service"));
        assert_eq!(
            (map.path(1).as_deref(), map.path(id + 1)),
            (Some("/"), None)
        );
        assert_eq!(map.place(other, id + 1, &proc), Place::Walk(id + 1));
        assert_eq!(map.place(other, 0, &proc), Place::Unknown);
    }

    #[test]
    fn a_process_that_moved_does_not_name_its_old_group() {
        let root = tempfile::tempdir().expect("dir");
        let (proc, old) = fixture(root.path(), "/system.slice/a.service");
        fixture(root.path(), "/system.slice/b.service");
        let mut map = CgroupMap::new(&root.path().join("cgroup"));
        assert_eq!(map.place(KEY, old, &proc), Place::Walk(old));
        let found = walk(map.mount(), old);
        assert_eq!(found, Some(unit("a.service")));
        map.learn(old, found.map(Arc::new));
        assert_eq!(
            map.place(KEY, old, &proc),
            Place::Known(Arc::new(unit("a.service")))
        );
        assert_eq!(walk(map.mount(), u64::MAX), None);
        map.learn(u64::MAX, None);
        assert_eq!(
            map.place(KEY, u64::MAX, &proc),
            Place::Unknown,
            "not walked again"
        );
    }

    #[test]
    fn where_all_ids_are_the_root_each_process_is_asked() {
        let root = tempfile::tempdir().expect("dir");
        let (proc, _) = fixture(root.path(), "/");
        let group = root.path().join("proc/7/cgroup");
        std::fs::write(group, "1:name=systemd:/system.slice/v1.service\n0::/\n").expect("write");
        let mut map = CgroupMap::new(&root.path().join("cgroup"));
        let expected = Place::Known(Arc::new(unit("v1.service")));
        assert_eq!(map.place(KEY, 1, &proc), expected);
        let reused = ProcessKey {
            start: BootNs(9_000_000_000),
            ..KEY
        };
        assert_eq!(map.place(reused, 1, &proc), Place::Unknown);
        std::fs::remove_dir_all(root.path().join("proc")).expect("exit");
        assert_eq!(map.place(KEY, 1, &proc), expected, "remembered");
    }
}
