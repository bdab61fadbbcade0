//! The texts of `/proc`, and the files of a host, with any bytes in them.

use super::proc_parse::{args, cgroup, ids, loginuid, stat};
use super::{cgroup as groups, mounts, package, render, services, users};
use crate::decode::record::{ImageInfo, TaskInfo, Who};
use crate::event::{Ancestor, Process};
use crate::fuzzing::assert_plain;
use crate::time::WallClock;

/// The property of the target `procfs`.
pub fn procfs(bytes: &[u8]) {
    if let Some(stat) = stat(bytes) {
        assert!(stat.comm.len() < bytes.len());
    }
    let _ = ids(bytes);
    assert_ne!(loginuid(bytes), Some(u32::MAX));

    let joined = args(bytes).join(&0);
    assert_eq!(joined, bytes.strip_suffix(b"\0").unwrap_or(bytes));

    assert_sound_placement(bytes);
    if let Some((path, _)) = cgroup(bytes) {
        assert!(!path.contains(&b'\n'));
        assert_sound_placement(path);
    }

    // The mount of the first line, which is the one that has something to be read.
    let first = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let id = std::str::from_utf8(first)
        .ok()
        .and_then(|id| id.parse().ok());
    let _ = mounts::superblock(bytes, id.unwrap_or(0));

    crate::inventory::fuzz::proc_texts(bytes);
}

fn assert_sound_placement(path: &[u8]) {
    let placement = groups::parse(path);
    if let Some(unit) = &placement.unit {
        assert!(unit.len() <= 255 && unit.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!unit.contains('/'));
    }
    if let Some(container) = &placement.container {
        assert!(!container.id.is_empty());
        assert_plain(&container.id);
        container.runtime.iter().for_each(|name| assert_plain(name));
    }
}

/// The property of the target `files`.
pub fn files(bytes: &[u8]) {
    for name in services::parse(bytes).values() {
        assert!(!name.is_empty());
        assert_plain(name);
    }
    for name in users::parse(bytes).values() {
        assert!(!name.is_empty());
        assert_plain(name);
    }
    package::fuzz::databases(bytes);
}

/// What the pipeline makes of a task, for `daemon::fuzz`.
pub(crate) fn process(task: &TaskInfo, image: Option<&ImageInfo>, clock: &WallClock) -> Process {
    render::process(task, image, clock)
}

/// What it makes of the parents in a record.
pub(crate) fn ancestors(who: &Who) -> Vec<Ancestor> {
    let parents = who.ancestors.iter();
    parents
        .map(|parent| render::ancestor(parent.key.pid, &parent.comm, None))
        .collect()
}

/// Texts in the form of each file of `/proc` that is read.
#[cfg(test)]
pub(crate) fn proc_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let stat = "4711 (a) R 1 (b c) S 812 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 \
        2330624 213 18446744073709551615 94020 94109 140728 0 0 0 0 4096 65536 0 0 0 17 1 0 0 0 0 0 \
        94128 94132 94500 140729 140740 140740 140766 0\n";
    let status = "Name:\tbash\nUmask:\t0022\nUid:\t33\t0\t0\t0\nGid:\t34\t0\t0\t0\n";
    let cgroups = "9:name=systemd:/system.slice/b.service\n4:memory:/docker/0123\n0::/\n";
    let container = format!(
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{}.scope/container\n",
        "0123456789abcdef".repeat(4)
    );
    let kubernetes = format!(
        "0::/kubepods-burstable-pod1.slice:cri-containerd:{}\n",
        "fedcba9876543210".repeat(4)
    );
    let mounts = "22 1 0:31 / / rw,relatime shared:1 - btrfs /dev/sda rw\n\
        40 22 0:55 / /home/u/m rw - fuse.sshfs host: rw\n";
    let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
           0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n\
           1: 000080FE00000000FF005450B6AD1DFE:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4243 2 0 0\n";
    let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01  1562 /run/a b\n\
        0000000000000000: 00000002 00000000 00000000 0002 01 1562000 @x\n";
    let packet = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n\
        0000000000000000 3      3    0003   2     1 0      0      20812\n";
    vec![
        ("stat", stat.into()),
        ("stat-status", [stat, status].concat().into()),
        ("status", status.into()),
        ("loginuid", "4294967295\n".into()),
        ("cmdline", b"nginx\0-g\0\0daemon on;\0".to_vec()),
        ("cgroup", cgroups.into()),
        ("container", container.into()),
        ("kubernetes", kubernetes.into()),
        ("mountinfo", mounts.into()),
        ("tcp", tcp.into()),
        ("unix", unix.into()),
        ("packet", packet.into()),
    ]
}

/// Files in each form that is read.
#[cfg(test)]
pub(crate) fn file_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds: Vec<(&'static str, Vec<u8>)> = vec![
        (
            "services",
            "# comment\nhttp\t80/tcp www # web\ndomain 53/udp\nx\x1b 1/sctp\nssh 22/dccp\n".into(),
        ),
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/bash\n+nis::7:\nwww\x1b:x:33:33::/:\nbad:x:-1:0\n".into(),
        ),
    ];
    seeds.extend(package::fuzz::seeds());
    seeds
}
