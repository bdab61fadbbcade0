//! Sockets, tasks and records for the tests of the inventory.

use std::net::{IpAddr, Ipv4Addr};

use portwatch_common::socket::TcpState;

use crate::decode::record::{
    CloseSeen, Held, ListenerSeen, ProcessKey, SockId, SockInfo, TaskInfo, UnixName, Who,
};
use crate::event::{Family, Mechanism, Protocol, SocketType};
use crate::time::BootNs;

/// A listener that was seen opening.
pub(crate) fn listener(sock: SockInfo) -> super::Listener {
    super::Listener::opened(opening(1, sock))
}

/// A TCP listener on 0.0.0.0.
pub(crate) fn tcp(id: u64, inode: u64, port: u16) -> SockInfo {
    SockInfo {
        id: SockId(0xffff_8880_0000_0000 | id),
        cookie: None,
        inode: Some(inode),
        netns: 1,
        family: Family::Ipv4,
        kind: SocketType::Stream,
        protocol: Protocol::Tcp,
        protocol_number: None,
        local: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: (port != 0).then_some(port),
        peer: None,
        peer_port: None,
        state: TcpState::LISTEN,
        backlog: 128,
        ifindex: None,
        v6only: false,
        reuseport: false,
    }
}

/// A UDP socket on 0.0.0.0.
pub(crate) fn udp(id: u64, inode: u64, port: u16) -> SockInfo {
    SockInfo {
        kind: SocketType::Dgram,
        protocol: Protocol::Udp,
        state: TcpState::CLOSE,
        backlog: 0,
        ..tcp(id, inode, port)
    }
}

/// A listening unix stream socket.
pub(crate) fn unix_stream(id: u64, inode: u64) -> SockInfo {
    SockInfo {
        family: Family::Unix,
        protocol: Protocol::Unix,
        local: None,
        ..tcp(id, inode, 0)
    }
}

/// An absolute path name.
pub(crate) fn unix_path(path: &str) -> UnixName {
    UnixName::Path {
        as_bound: path.into(),
        resolved: Some(path.into()),
    }
}

/// A process that started at its pid's number.
pub(crate) fn task(pid: u32) -> TaskInfo {
    TaskInfo {
        key: ProcessKey {
            pid,
            start: BootNs(u64::from(pid)),
        },
        tid: pid,
        ppid: 1,
        uid: 0,
        gid: 0,
        loginuid: None,
        cgroup_id: 0,
        comm: format!("p{pid}").into_bytes(),
        is_kthread: false,
    }
}

/// An opening by process 100.
pub(crate) fn opening(at: u64, sock: SockInfo) -> ListenerSeen {
    ListenerSeen {
        at: BootNs(at),
        mechanism: Mechanism::Fexit,
        sock,
        unix: None,
        who: Who {
            task: task(100),
            image: None,
            ancestors: Vec::new(),
        },
        errno: 0,
        tentative: false,
    }
}

/// A closing.
pub(crate) fn closing(at: u64, sock: SockInfo) -> CloseSeen {
    CloseSeen {
        at: BootNs(at),
        mechanism: Mechanism::TpBtf,
        sock,
    }
}

/// A row of a snapshot.
pub(crate) fn held(at: u64, sock: SockInfo, pid: u32, fd: u32) -> Held {
    Held {
        at: BootNs(at),
        sock,
        unix: None,
        holder: task(pid),
        fd,
    }
}
