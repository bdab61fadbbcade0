//! The dpkg database: `info/PACKAGE[:ARCH].list`, one path a line, and `diversions`.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Longest file list read, in bytes.
const LIST_MAX: u64 = 32 << 20;
/// Longest `diversions`, in bytes.
const DIVERSIONS_MAX: u64 = 4 << 20;

/// The package that owns a file known under any of `names`.
pub(super) fn owner(dpkg: &Path, names: &[Vec<u8>]) -> Option<Vec<u8>> {
    let diversions = read(&dpkg.join("diversions"), DIVERSIONS_MAX).unwrap_or_default();
    let questions: Vec<Question> = names
        .iter()
        .map(|name| question(&diversions, name))
        .collect();
    for entry in std::fs::read_dir(dpkg.join("info")).ok()?.flatten() {
        let file = entry.file_name();
        let Some(package) = file.as_bytes().strip_suffix(b".list") else {
            continue;
        };
        let package = package.split(|&b| b == b':').next().unwrap_or(package);
        let asked: Vec<_> = questions.iter().filter(|q| q.concerns(package)).collect();
        if asked.is_empty() {
            continue;
        }
        let text = read(&entry.path(), LIST_MAX).unwrap_or_default();
        let listed = |line: &[u8]| asked.iter().any(|question| question.path == line);
        if text.split(|&b| b == b'\n').any(listed) {
            return Some(package.to_vec());
        }
    }
    None
}

/// Which path to look for, and in whose lists.
pub(super) struct Question<'a> {
    pub(super) path: &'a [u8],
    whose: Whose<'a>,
}

enum Whose<'a> {
    Any,
    Only(&'a [u8]),
    AllBut(&'a [u8]),
}

impl Question<'_> {
    fn concerns(&self, package: &[u8]) -> bool {
        match self.whose {
            Whose::Any => true,
            Whose::Only(only) => package == only,
            Whose::AllBut(but) => package != but,
        }
    }
}

/// A diversion renames the file of every package but one: `from`, `to`, that package, a line each.
/// A local diversion has `:` for the package; then nobody's file lies at `from`.
pub(super) fn question<'a>(diversions: &'a [u8], name: &'a [u8]) -> Question<'a> {
    let mut lines = diversions.split(|&b| b == b'\n');
    while let (Some(from), Some(to), Some(by)) = (lines.next(), lines.next(), lines.next()) {
        if to == name {
            return Question {
                path: from,
                whose: Whose::AllBut(by),
            };
        }
        if from == name {
            return Question {
                path: from,
                whose: Whose::Only(by),
            };
        }
    }
    Question {
        path: name,
        whose: Whose::Any,
    }
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(limit).read_to_end(&mut text).ok()?;
    Some(text)
}
