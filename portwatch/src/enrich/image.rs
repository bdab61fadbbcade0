//! The image of a process: from the record, else the table, else /proc while the process lives.

use std::borrow::Cow;

use rustix::io::Errno;

use super::Enricher;
use crate::decode::record::{ImageInfo, ProcessKey, Who};
use crate::time::BootNs;

pub(crate) const KERNEL_THREAD: &str = "kernel thread";
const ENDED: &str = "the process ended before its image was read";
const NOT_PERMITTED: &str =
    "reading the executable of the process is not permitted; portwatch needs CAP_SYS_PTRACE";
const NO_PATH: &str = "the path of the executable cannot be read";

/// What is known of an image, and why its executable is not.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) image: Option<Cow<'a, ImageInfo>>,
    pub(super) unresolved: Option<&'static str>,
}

impl Enricher {
    /// The image of a process at the time of the record, which the table learns too.
    pub(super) fn image_of<'a>(&mut self, who: &'a Who, now: BootNs) -> Found<'a> {
        let key = who.task.key;
        let parent = who.ancestors.first().map(|parent| parent.key);
        let recorded = who.image.as_ref();
        self.table.learn(key, &who.task.comm, parent, recorded, now);
        self.renew(key, now);
        if who.task.is_kthread {
            return Found {
                image: None,
                unresolved: Some(KERNEL_THREAD),
            };
        }
        let mut image = recorded.map_or_else(|| Cow::Owned(ImageInfo::default()), Cow::Borrowed);
        if let Some(known) = self.table.image(key) {
            fill(&mut image, known);
        }
        let mut unresolved = None;
        if image.exe.is_none() || (image.cwd.is_none() && self.table.may_ask_proc(key)) {
            match self.proc.open_same(key).map(|process| process.image()) {
                Some(Ok(read)) => {
                    fill(&mut image, &read);
                    self.table.learn(key, b"", None, Some(&image), now);
                }
                Some(Err(Errno::ACCESS | Errno::PERM)) => unresolved = Some(NOT_PERMITTED),
                // Its memory is gone already, or it goes between two reads.
                Some(Err(Errno::NOENT | Errno::SRCH)) | None => unresolved = Some(ENDED),
                Some(Err(_)) => unresolved = Some(NO_PATH),
            }
        }
        Found {
            unresolved: unresolved.filter(|_| image.exe.is_none()),
            image: Some(image),
        }
    }

    /// Reads a living process anew where nothing tells of new images, or records of them were lost: the
    /// table may hold one that it has replaced since. What is known of one that has ended stays, unless
    /// it is in doubt.
    pub(super) fn renew(&mut self, key: ProcessKey, now: BootNs) {
        if self.execs_are_told && !self.table.is_doubted(key) {
            return;
        }
        if let Some(process) = self.proc.open_same(key)
            && let Some(stat) = process.stat()
            && let Ok(image) = process.image()
        {
            self.table.renew(key, &stat.comm, image, stat.layout, now);
        }
    }

    /// Does this process live, and has not begun to end?
    #[must_use]
    pub fn runs(&self, key: ProcessKey) -> bool {
        self.proc.exe_stamp(key, 0).is_some()
    }

    /// The working directory of a process as it is now, or was when it was last looked at.
    #[must_use]
    pub fn working_directory(&self, key: ProcessKey) -> Option<Vec<u8>> {
        let now = self
            .proc
            .open_same(key)
            .and_then(|process| process.working_directory());
        now.or_else(|| self.table.image(key)?.cwd.clone())
    }
}

/// Takes over what `image` lacks, if both are of the same executable: the process may have run
/// another one before or since.
fn fill(image: &mut Cow<'_, ImageInfo>, other: &ImageInfo) {
    let same_file =
        image.exe_inode == 0 || other.exe_inode == 0 || image.exe_inode == other.exe_inode;
    let same_path = image.exe.is_none() || other.exe.is_none() || image.exe == other.exe;
    let lacks = (image.exe.is_none() && other.exe.is_some())
        || (image.cwd.is_none() && other.cwd.is_some())
        || (image.args.is_none() && other.args.is_some());
    if !(lacks && same_file && same_path) {
        return;
    }
    let image = image.to_mut();
    if image.exe.is_none() {
        image.exe.clone_from(&other.exe);
        image.exe_deleted = other.exe_deleted;
        image.exe_memfd = other.exe_memfd;
        if image.exe_inode == 0 {
            image.exe_inode = other.exe_inode;
            image.exe_dev = other.exe_dev;
        }
    }
    if image.cwd.is_none() {
        image.cwd.clone_from(&other.cwd);
    }
    if image.args.is_none() {
        image.args.clone_from(&other.args);
        image.args_truncated = other.args_truncated;
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::fill;
    use crate::decode::record::ImageInfo;

    #[test]
    fn only_the_same_executable_fills_gaps() {
        let known = ImageInfo {
            exe: Some(b"/bin/nc".to_vec()),
            exe_inode: 5,
            exe_dev: 8,
            args: Some(vec![b"nc".to_vec()]),
            cwd: Some(b"/".to_vec()),
            ..ImageInfo::default()
        };
        let filled = |record: &ImageInfo| {
            let mut image = Cow::Borrowed(record);
            fill(&mut image, &known);
            image.into_owned()
        };
        assert_eq!(filled(&ImageInfo::default()), known);
        let other_file = ImageInfo {
            exe_inode: 6,
            ..ImageInfo::default()
        };
        assert_eq!(filled(&other_file), other_file);
        let other_path = ImageInfo {
            exe: Some(b"/bin/sh".to_vec()),
            ..ImageInfo::default()
        };
        assert_eq!(filled(&other_path), other_path);
        let own_cwd = ImageInfo {
            cwd: Some(b"/srv".to_vec()),
            ..ImageInfo::default()
        };
        assert_eq!(filled(&own_cwd).cwd, own_cwd.cwd);
        assert_eq!(filled(&own_cwd).exe, known.exe);
    }
}
