//! Who is at the other end of the control socket, and whether that one may read.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::process::geteuid;
use tokio::net::UnixStream;

/// Credentials of the process that connected, as the kernel kept them (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id; absent when it lives in a pid namespace that is not visible from here.
    pub pid: Option<u32>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When `SO_PEERCRED` fails.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            pid: credentials
                .pid()
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid != 0),
            uid: credentials.uid(),
            gid: credentials.gid(),
        })
    }

    /// May this peer read? Root, the daemon's own user, and members of `group`. The socket's mode says
    /// the same; this holds when somebody changes the mode or hands the socket on.
    #[must_use]
    pub fn is_permitted(&self, group: Option<u32>) -> bool {
        decide(self, geteuid().as_raw(), group, groups_of)
    }
}

/// The rule, apart from where the answers come from.
fn decide(
    peer: &Peer,
    own_uid: u32,
    group: Option<u32>,
    groups_of: impl FnOnce(u32) -> Option<TaskGroups>,
) -> bool {
    if peer.uid == 0 || peer.uid == own_uid {
        return true;
    }
    let Some(group) = group else {
        return false;
    };
    if peer.gid == group {
        return true;
    }
    // The pid may belong to another process by now. One of the same user that is in the group could
    // have connected itself, so that no one gains by the swap; one of another user does not count.
    peer.pid
        .and_then(groups_of)
        .is_some_and(|task| task.euid == peer.uid && task.groups.contains(&group))
}

/// What `/proc/PID/status` says of a task's identity.
#[derive(Debug, PartialEq, Eq)]
struct TaskGroups {
    euid: u32,
    groups: Vec<u32>,
}

fn groups_of(pid: u32) -> Option<TaskGroups> {
    // 65 536 groups of up to 10 digits are the most there can be.
    let text = read_bounded(&format!("/proc/{pid}/status"), 1 << 20)?;
    parse_status(&text)
}

fn parse_status(text: &[u8]) -> Option<TaskGroups> {
    let numbers = |key: &[u8]| -> Option<Vec<u32>> {
        let line = text
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(key))?;
        let line = std::str::from_utf8(line).ok()?;
        line.split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect()
    };
    Some(TaskGroups {
        // Real, effective, saved, file system.
        euid: *numbers(b"Uid:")?.get(1)?,
        groups: numbers(b"Groups:")?,
    })
}

/// Group id of a local group, from `/etc/group`.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    find_group(&read_bounded("/etc/group", 8 << 20)?, name)
}

fn find_group(file: &[u8], name: &str) -> Option<u32> {
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name.as_bytes() {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

fn read_bounded(path: &str, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTWATCH: u32 = 987;
    const STATUS: &[u8] =
        b"Name:\tUid:\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t27 987 1000 \n";

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer {
            pid: Some(4242),
            uid,
            gid,
        }
    }

    fn decided(peer: Peer, group: Option<u32>) -> bool {
        decide(&peer, 500, group, |pid| {
            assert_eq!(pid, 4242);
            parse_status(STATUS)
        })
    }

    #[test]
    fn root_the_daemon_and_the_group_may_read() {
        assert!(decided(peer(0, 0), None));
        assert!(decided(peer(500, 1), None));
        assert!(decided(peer(7, PORTWATCH), Some(PORTWATCH)));
        assert!(decided(peer(1000, 1000), Some(PORTWATCH)), "supplementary");
    }

    #[test]
    fn nobody_else_may() {
        assert!(!decided(peer(1000, 1000), None), "no such group");
        assert!(!decided(peer(1000, 1000), Some(4)));
        assert!(!decided(peer(1001, 1001), Some(PORTWATCH)), "pid reused");
        let hidden = Peer {
            pid: None,
            ..peer(1000, 1000)
        };
        assert!(!decided(hidden, Some(PORTWATCH)));
    }

    #[test]
    fn garbage_in_proc_is_no_membership() {
        assert_eq!(parse_status(b"Uid:\t1\nGroups:\t2\n"), None);
        assert_eq!(parse_status(b"Uid:\t1\t1\t1\t1\nGroups:\t2 x\n"), None);
        assert_eq!(parse_status(b"\xff\xfe"), None);
    }

    #[test]
    fn groups_are_found_by_name() {
        let file = b"root:x:0:\nportwatchers:x:5:\nportwatch:x:987:anna,bob\nbad:x\n";
        assert_eq!(find_group(file, "portwatch"), Some(PORTWATCH));
        assert_eq!(find_group(file, "bad"), None);
        assert_eq!(group_id("root"), Some(0));
    }

    #[test]
    fn this_process_has_readable_groups() {
        let own = groups_of(std::process::id()).expect("own status");
        assert_eq!(own.euid, geteuid().as_raw());
    }
}
