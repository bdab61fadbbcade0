//! Which installed package an executable belongs to.

mod dpkg;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod rpm;
mod rpm_header;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::bounded::Bounded;
use super::hash::below;
use super::proc_fs::{FileStamp, stamp};
use crate::text::escape;

/// Most answers remembered.
const ANSWERS_MAX: usize = 1_024;
/// Directories that merged-/usr systems show below both `/` and `/usr`.
const MERGED: [&[u8]; 6] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32"];

/// The package databases of a host. File lists are searched when asked, not kept: a host has hundreds
/// of thousands of files and a few dozen programs that listen.
#[derive(Debug)]
pub(super) struct Packages {
    root: PathBuf,
    state: [Option<SystemTime>; 3],
    answers: Bounded<Vec<u8>, Option<Arc<str>>>,
}

impl Packages {
    /// Databases below `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: [None; 3],
            answers: Bounded::new(ANSWERS_MAX),
        }
    }

    /// The package that installed the file at `path`, if what lies there is the file with this stamp:
    /// in a container the same path is another file, which no package of this host owns.
    pub(super) fn owner(&mut self, path: &[u8], exe: &FileStamp) -> Option<Arc<str>> {
        let same = |name: &[u8]| {
            stamp(rustix::fs::CWD, &below(&self.root, name))
                .is_ok_and(|(there, _)| (there.dev, there.inode) == (exe.dev, exe.inode))
        };
        if !same(path) {
            return None;
        }
        let names: Vec<_> = spellings(path)
            .into_iter()
            .filter(|name| same(name))
            .collect();
        self.forget_when_changed();
        if let Some(known) = self.answers.get(&names.concat()) {
            return known.clone();
        }
        let owner = dpkg::owner(&self.dpkg(), &names)
            .or_else(|| self.rpm().iter().find_map(|db| rpm::owner(db, &names)))
            .map(|name| Arc::from(escape(&name)));
        self.answers.insert(names.concat(), owner.clone());
        owner
    }

    fn forget_when_changed(&mut self) {
        let changed = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
        };
        let [first, second] = self.rpm();
        let state = [
            changed(&self.dpkg().join("info")),
            changed(&first),
            changed(&second),
        ];
        if state != self.state {
            self.answers.clear();
            self.state = state;
        }
    }

    fn dpkg(&self) -> PathBuf {
        self.root.join("var/lib/dpkg")
    }

    fn rpm(&self) -> [PathBuf; 2] {
        ["var/lib/rpm", "usr/lib/sysimage/rpm"].map(|dir| self.root.join(dir).join("rpmdb.sqlite"))
    }
}

/// The paths under which a package may list a file: distributions merged `/bin` into `/usr/bin`, and
/// some `sbin` into `bin`, later than packages stopped to name the old places.
fn spellings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut names = vec![path.to_vec()];
    let inner = path.strip_prefix(b"/usr").unwrap_or(path);
    let Some((dir, rest)) = inner.strip_prefix(b"/").and_then(|inner| {
        let slash = inner.iter().position(|&b| b == b'/')?;
        inner.split_at_checked(slash)
    }) else {
        return names;
    };
    let dirs: &[&[u8]] = match dir {
        b"bin" | b"sbin" => &[b"bin", b"sbin"],
        _ if MERGED.contains(&dir) => &[dir],
        _ => &[],
    };
    for dir in dirs {
        for top in [&b"/usr/"[..], b"/"] {
            let name = [top, dir, rest].concat();
            if name != path {
                names.push(name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;
