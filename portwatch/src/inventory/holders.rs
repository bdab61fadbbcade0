//! Which processes hold which sockets, from the descriptor links of `/proc`.
//!
//! Processes come and go during the walk: one that vanishes is passed over, one that is not permitted
//! makes the walk incomplete. Start times have the clock tick's grain here, 10 ms.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::decode::record::{ProcessKey, TaskInfo};
use crate::time::BootNs;

/// Descriptors that one walk looks at, at most.
const MAX_DESCRIPTORS: usize = 4_000_000;
/// More than any `stat` or `status` is long.
const MAX_BYTES: u64 = 16 * 1024;
/// `USER_HZ` is 100 on every architecture that this program runs on.
const TICK_NS: u64 = 1_000_000_000 / 100;
/// `PF_KTHREAD` in the flags of `stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// One descriptor of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) task: TaskInfo,
    pub(super) fd: u32,
}

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) by_inode: HashMap<u64, Vec<Holder>>,
    /// Every process that was there could be read.
    pub(super) complete: bool,
}

/// Walks every process for descriptors of these sockets.
///
/// # Errors
/// `/proc` itself cannot be read.
pub(super) fn holders(wanted: &HashSet<u64>) -> io::Result<Holders> {
    let mut found = Holders {
        complete: true,
        ..Holders::default()
    };
    let mut left = MAX_DESCRIPTORS;
    for pid in pids()? {
        match process(pid, wanted, &mut left, &mut found.by_inode) {
            Err(error) if !has_vanished(&error) => found.complete = false,
            _ => {}
        }
        if left == 0 {
            found.complete = false;
            break;
        }
    }
    Ok(found)
}

/// The processes there are now.
///
/// # Errors
/// `/proc` itself cannot be read.
pub(super) fn pids() -> io::Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Does this descriptor of this process still refer to the socket with this inode?
#[must_use]
pub fn still_holds(pid: u32, fd: u32, inode: u64) -> bool {
    link_number(Path::new(&format!("/proc/{pid}/fd/{fd}")), "socket") == Some(inode)
}

/// The number in a link like `socket:[4242]` or `net:[4026531840]`.
pub(super) fn link_number(path: &Path, prefix: &str) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    let rest = target.to_str()?.strip_prefix(prefix)?;
    rest.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

fn process(
    pid: u32,
    wanted: &HashSet<u64>,
    left: &mut usize,
    found: &mut HashMap<u64, Vec<Holder>>,
) -> io::Result<()> {
    let mut task = None;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Ok(());
        }
        let entry = entry?;
        let Some(inode) = link_number(&entry.path(), "socket") else {
            continue;
        };
        let Some(fd) = entry.file_name().to_str().and_then(|fd| fd.parse().ok()) else {
            continue;
        };
        if !wanted.contains(&inode) {
            continue;
        }
        if task.is_none() {
            task = Some(read_task(pid)?);
        }
        if let Some(task) = task.clone() {
            found.entry(inode).or_default().push(Holder { task, fd });
        }
    }
    Ok(())
}

fn read_task(pid: u32) -> io::Result<TaskInfo> {
    let read = |name: &str| {
        let mut bytes = Vec::new();
        let file = File::open(format!("/proc/{pid}/{name}"))?;
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let stat = read("stat")?;
    let status = read("status")?;
    // Without the audit subsystem there is no such file.
    let loginuid = read("loginuid").unwrap_or_default();
    parse_task(pid, &stat, &status, &loginuid)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be understood")))
}

/// The name in `stat` stands in parentheses, may hold any bytes, and ends at the last one.
pub(super) fn parse_task(
    pid: u32,
    stat: &[u8],
    status: &[u8],
    loginuid: &[u8],
) -> Option<TaskInfo> {
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let comm = stat.get(open + 1..close)?.to_vec();
    // Fields from the state (the third of proc(5)) on.
    let rest = str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let real_id = |key: &str| {
        let mut lines = status.split(|&byte| byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
        let text = str::from_utf8(line).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u32>().ok()
    };
    let loginuid = str::from_utf8(loginuid).ok();
    let loginuid = loginuid.and_then(|text| text.trim().parse::<u32>().ok());
    Some(TaskInfo {
        key: ProcessKey {
            pid,
            start: BootNs(number(19)?.saturating_mul(TICK_NS)),
        },
        tid: pid,
        ppid: u32::try_from(number(1)?).ok()?,
        uid: real_id("Uid:")?,
        gid: real_id("Gid:")?,
        loginuid: loginuid.filter(|&uid| uid != u32::MAX),
        cgroup_id: 0,
        comm,
        is_kthread: number(6)? & PF_KTHREAD != 0,
    })
}

fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::{parse_task, read_task};
    use proptest::prelude::*;

    const STATUS: &[u8] = b"Name:\tx\nUid:\t33\t0\t0\t0\nGid:\t34\t0\t0\t0\n";

    #[test]
    fn a_name_may_hold_what_looks_like_its_end() {
        let stat = b"7 (a) R 1 (b) S 3 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 250 0 0";
        let task = parse_task(7, stat, STATUS, b"1000").expect("a task");
        assert_eq!(task.comm, b"a) R 1 (b");
        assert_eq!((task.ppid, task.uid, task.gid), (3, 33, 34));
        assert_eq!(task.key.start.0, 2_500_000_000);
        assert_eq!(task.loginuid, Some(1000));
        assert!(!task.is_kthread);
        let unset = parse_task(7, stat, STATUS, b"4294967295").expect("a task");
        assert_eq!(unset.loginuid, None);
    }

    #[test]
    fn this_process_can_be_read() {
        let task = read_task(std::process::id()).expect("this process");
        assert_eq!(task.ppid, std::os::unix::process::parent_id());
        assert_eq!(task.uid, rustix::process::getuid().as_raw());
        let age = crate::time::BootNs::now().since(task.key.start);
        assert!(age < 3600 * 1_000_000_000, "{age} ns old");
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(stat in proptest::collection::vec(any::<u8>(), 0..200), status in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_task(1, &stat, &status, &stat);
        }
    }
}
