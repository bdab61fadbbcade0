//! The texts of /proc/PID, parsed without trust: names and arguments in them are chosen by the process.

use crate::decode::record::ProcessKey;
use crate::time::BootNs;

/// `start_boottime` appears in /proc in ticks of `USER_HZ`, which is 100 on every architecture Linux
/// runs BPF on, cut down to whole ticks.
pub const TICK_NS: u64 = 10_000_000;
/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process as both the kernel's records and /proc can name it: the start is cut to ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Thread group id.
    pub pid: u32,
    /// Start of the group leader, in ticks since boot.
    pub ticks: u64,
}

impl From<ProcessKey> for Slot {
    fn from(key: ProcessKey) -> Self {
        Self {
            pid: key.pid,
            ticks: key.start.0 / TICK_NS,
        }
    }
}

/// What portwatch needs of /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name, any bytes.
    pub comm: Vec<u8>,
    /// Parent process.
    pub ppid: u32,
    /// Start, cut to ticks.
    pub start: BootNs,
    /// A kernel thread.
    pub is_kthread: bool,
    /// Where its memory begins; absent when this may not be read.
    pub layout: Option<Layout>,
}

/// Where the kernel laid out stack and arguments when the process last replaced its image. Another
/// image gets other, random addresses; only with randomisation switched off, and the same executable
/// with arguments and environment of the same length, are they the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `startstack`.
    pub stack: u64,
    /// `arg_start`.
    pub args: u64,
}

/// Parses /proc/PID/stat. The name may hold spaces and parentheses, so it ends at the last `)`.
#[must_use]
pub fn stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = text.get(open + 1..close)?.to_vec();
    let mut fields = text.get(close + 1..)?.split(u8::is_ascii_whitespace);
    // What follows the name is field 3 (state); an empty piece stands before the first space.
    let mut field = |skip: usize| number(fields.by_ref().filter(|f| !f.is_empty()).nth(skip)?);
    let ppid = u32::try_from(field(1)?).ok()?; // 4
    let flags = field(4)?; // 9
    let ticks = field(12)?; // 22
    let stack = field(5).filter(|&address| address != 0); // 28
    let args = field(19).filter(|&address| address != 0); // 48
    Some(Stat {
        comm,
        ppid,
        start: BootNs(ticks.checked_mul(TICK_NS)?),
        is_kthread: flags & PF_KTHREAD != 0,
        layout: stack.zip(args).map(|(stack, args)| Layout { stack, args }),
    })
}

/// Real user and group id from /proc/PID/status. The kernel escapes line feeds in `Name:`.
#[must_use]
pub fn ids(text: &[u8]) -> Option<(u32, u32)> {
    let id = |name: &[u8]| {
        let line = text
            .split(|&b| b == b'\n')
            .find_map(|line| line.strip_prefix(name))?;
        let first = line
            .split(u8::is_ascii_whitespace)
            .find(|f| !f.is_empty())?;
        u32::try_from(number(first)?).ok()
    };
    Some((id(b"Uid:")?, id(b"Gid:")?))
}

/// /proc/PID/loginuid; absent when no login led here (`(uid_t)-1`).
#[must_use]
pub fn loginuid(text: &[u8]) -> Option<u32> {
    u32::try_from(number(text.trim_ascii())?)
        .ok()
        .filter(|&uid| uid != portwatch_common::task::NO_LOGINUID)
}

/// /proc/PID/cmdline: arguments, each ended by a NUL (the last one perhaps not).
#[must_use]
pub fn args(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    text.split(|&b| b == 0).map(<[u8]>::to_vec).collect()
}

/// The path in /proc/PID/cgroup that says most, and whether it is the one of cgroup2.
///
/// The unified hierarchy first; where that is only the root (v1 and hybrid hosts), systemd's own
/// hierarchy; else the deepest path of any controller.
#[must_use]
pub fn cgroup(text: &[u8]) -> Option<(&[u8], bool)> {
    let mut unified = None;
    let mut systemd = None;
    let mut deepest: Option<&[u8]> = None;
    for line in text.split(|&b| b == b'\n') {
        let mut parts = line.splitn(3, |&b| b == b':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        match (id, controllers) {
            (b"0", b"") => unified = Some(path),
            (_, b"name=systemd") => systemd = Some(path),
            _ if deepest.is_none_or(|best| depth(path) > depth(best)) => deepest = Some(path),
            _ => {}
        }
    }
    let useful = |path: &&[u8]| depth(path) > 0;
    unified
        .filter(useful)
        .map(|path| (path, true))
        .or_else(|| systemd.filter(useful).map(|path| (path, false)))
        .or_else(|| deepest.filter(useful).map(|path| (path, false)))
        .or_else(|| unified.map(|path| (path, true)))
}

fn depth(path: &[u8]) -> usize {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty()).count()
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Layout, args, cgroup, ids, loginuid, stat};
    use crate::time::BootNs;

    #[test]
    fn the_layout_of_memory_is_read_where_that_is_permitted() {
        let layout = |stack: u64, args: u64| {
            let between = "0 ".repeat(19);
            let line = format!(
                "7 (a b) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 250 0 0 0 1 2 {stack} {between}{args} 0 0 0 0"
            );
            stat(line.as_bytes()).expect("parses").layout
        };
        assert_eq!(layout(5, 6), Some(Layout { stack: 5, args: 6 }));
        assert_eq!(layout(0, 0), None, "not permitted");
        let own = std::fs::read("/proc/self/stat").expect("stat");
        let own = stat(&own).expect("parses");
        // The arguments lie above the stack's start.
        let is_sane = own.layout.is_some_and(|found| found.args > found.stack);
        assert!(is_sane, "{own:?}");
    }

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let line =
            b"4711 (a) R 1 (b c) S 812 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 9 9\n";
        let stat = stat(line).expect("parses");
        assert_eq!(stat.comm, b"a) R 1 (b c");
        assert_eq!(stat.ppid, 812);
        assert_eq!(stat.start, BootNs(987_650_000_000));
        assert!(!stat.is_kthread);
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0";
        assert!(stat(line).expect("parses").is_kthread);
    }

    #[test]
    fn our_own_files_parse() {
        let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).expect("/proc");
        let own = stat(&read("stat")).expect("stat");
        assert!(own.start > BootNs(0) && own.start < BootNs::now());
        let (uid, gid) = ids(&read("status")).expect("status");
        assert_eq!(uid, rustix::process::getuid().as_raw());
        assert_eq!(gid, rustix::process::getgid().as_raw());
        assert!(!args(&read("cmdline")).is_empty());
    }

    #[test]
    fn arguments_keep_their_empty_ones() {
        assert_eq!(args(b""), Vec::<Vec<u8>>::new());
        assert_eq!(args(b"a\0\0b c\0"), [&b"a"[..], b"", b"b c"]);
        assert_eq!(args(b"unterminated"), [b"unterminated"]);
    }

    #[test]
    fn no_login_is_no_uid() {
        assert_eq!(loginuid(b"4294967295\n"), None);
        assert_eq!(loginuid(b"1000"), Some(1000));
        assert_eq!(loginuid(b"-1"), None);
    }

    #[test]
    fn the_path_that_says_most() {
        let pick = |text: &'static str| {
            cgroup(text.as_bytes())
                .map(|(path, unified)| (std::str::from_utf8(path).expect("text"), unified))
        };
        assert_eq!(
            pick("0::/system.slice/a.service\n"),
            Some(("/system.slice/a.service", true))
        );
        assert_eq!(
            pick("9:name=systemd:/system.slice/b.service\n4:memory:/x/y/z\n0::/\n"),
            Some(("/system.slice/b.service", false))
        );
        assert_eq!(
            pick("9:name=systemd:/\n4:memory:/docker/0123\n3:cpu,cpuacct:/docker\n0::/\n"),
            Some(("/docker/0123", false))
        );
        // Only the first two colons separate.
        assert_eq!(
            pick("0::/a.slice:cri-containerd:1\n"),
            Some(("/a.slice:cri-containerd:1", true))
        );
        assert_eq!(pick("0::/\n"), Some(("/", true)));
        assert_eq!(pick("garbage\n\n:"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (stat(&bytes), ids(&bytes), loginuid(&bytes), cgroup(&bytes));
            assert!(args(&bytes).len() <= bytes.len() + 1);
        }

        #[test]
        fn any_name_is_found_again(name in proptest::collection::vec(any::<u8>(), 0..15)) {
            let mut line = b"7 (".to_vec();
            line.extend_from_slice(&name);
            line.extend_from_slice(b") S 3 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 5 9 9");
            let stat = stat(&line).expect("parses");
            assert_eq!((stat.comm, stat.ppid), (name, 3));
        }
    }
}
