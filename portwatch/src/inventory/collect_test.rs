//! The fallback look against the running kernel: sockets of every kind, found with this process as holder.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};

use portwatch_common::socket::TcpState;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol as Number, RawProtocol, SocketType as Kind, bind, listen, socket,
};

use super::collect::{alive, collect, listening, still_there};
use super::fixture::{tcp, udp};
use super::namespaces::{current, within};
use super::proc_net::{instead_of, read};
use super::snapshot::Unheld;
use super::sock_diag::{SockDiag, Table};
use super::{Inventory, MergeReason, Snapshot, Suspect, is_synthetic};
use crate::decode::record::{Held, UnixName};
use crate::event::{Protocol, SocketType};
use crate::time::BootNs;

fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).expect("a descriptor").st_ino
}

/// The row of this socket with this process as its holder.
fn mine(snapshot: &Snapshot, inode: u64) -> &Held {
    let mut rows = snapshot
        .held
        .iter()
        .filter(|held| held.sock.inode == Some(inode));
    let row = rows.find(|held| held.holder.key.pid == std::process::id());
    row.unwrap_or_else(|| panic!("socket {inode} was not found with this process as holder"))
}

fn number(protocol: u32) -> Number {
    Number::from_raw(RawProtocol::new(protocol).expect("not zero"))
}

/// A socket of this kind, or nothing where the test may not have one or the kernel does not know it.
fn try_socket(family: AddressFamily, kind: Kind, protocol: u32) -> Option<OwnedFd> {
    match socket(family, kind, Some(number(protocol))) {
        Err(Errno::PERM | Errno::ACCESS | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => None,
        fd => Some(fd.expect("a socket")),
    }
}

#[test]
fn inet_listeners_of_each_kind_are_found() {
    let tcp4 = TcpListener::bind("127.0.0.1:0").expect("bind");
    let tcp6 = TcpListener::bind("[::1]:0").expect("bind");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let connected = UdpSocket::bind("127.0.0.1:0").expect("bind");
    connected.connect("127.0.0.1:9").expect("connect");
    let client = TcpStream::connect(tcp4.local_addr().expect("bound")).expect("connect");
    let collected = collect().expect("/proc");
    let snapshot = &collected.snapshot;

    let held = mine(snapshot, inode(&tcp4));
    assert_eq!(held.sock.local, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!(held.sock.port, tcp4.local_addr().ok().map(|it| it.port()));
    assert_eq!(
        (held.sock.protocol, held.sock.state),
        (Protocol::Tcp, TcpState::LISTEN)
    );
    assert!(held.sock.backlog > 0 && held.sock.cookie.is_some());
    assert!(is_synthetic(held.sock.id));
    assert_eq!(held.sock.netns, current().expect("/proc"));
    let held = mine(snapshot, inode(&tcp6));
    assert_eq!(held.sock.local, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    let held = mine(snapshot, inode(&udp));
    assert_eq!(
        (held.sock.protocol, held.sock.kind),
        (Protocol::Udp, SocketType::Dgram)
    );
    assert_eq!(held.sock.port, udp.local_addr().ok().map(|it| it.port()));
    assert_eq!(mine(snapshot, inode(&connected)).sock.peer_port, Some(9));

    let mut inventory = Inventory::default();
    inventory.merge(snapshot, MergeReason::Start);
    let listens = |inode: u64| inventory.iter().any(|it| it.sock.inode == Some(inode));
    assert!(listens(inode(&tcp4)) && listens(inode(&udp)));
    assert!(!listens(inode(&connected)) && !listens(inode(&client)));
}

#[test]
fn unix_listeners_of_each_kind_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("stream socket");
    let stream = UnixListener::bind(&path).expect("bind");
    let datagram = UnixDatagram::bind(dir.path().join("d")).expect("bind");
    let unnamed = UnixDatagram::unbound().expect("a socket");
    let name = [b"pw\0".as_slice(), &std::process::id().to_ne_bytes()].concat();
    let address = UnixAddr::from_abstract_name(&name).expect("a name");
    let hidden = UnixListener::bind_addr(&address).expect("bind");
    let collected = collect().expect("/proc");
    let snapshot = &collected.snapshot;

    let held = mine(snapshot, inode(&stream));
    let path = path.into_os_string().into_encoded_bytes();
    let expected = UnixName::Path {
        as_bound: path.clone(),
        resolved: Some(path),
    };
    assert_eq!(held.unix, Some(expected));
    assert!(held.sock.backlog > 0);
    assert_eq!(
        mine(snapshot, inode(&datagram)).sock.kind,
        SocketType::Dgram
    );
    assert_eq!(
        mine(snapshot, inode(&hidden)).unix,
        Some(UnixName::Abstract(name))
    );
    let is_unnamed = |held: &Held| held.sock.inode == Some(inode(&unnamed));
    assert!(!snapshot.held.iter().any(is_unnamed));
}

#[test]
fn raw_and_packet_sockets_are_found() {
    const ETH_P_IP: u16 = 0x0800;
    let raw = try_socket(AddressFamily::INET, Kind::RAW, 1);
    let raw6 = try_socket(AddressFamily::INET6, Kind::RAW, 58);
    let packet = try_socket(
        AddressFamily::PACKET,
        Kind::DGRAM,
        u32::from(ETH_P_IP.to_be()),
    );
    let collected = collect().expect("/proc");
    for (fd, protocol, number) in [
        (raw, Protocol::Raw, 1),
        (raw6, Protocol::Raw, 58),
        (packet, Protocol::Packet, ETH_P_IP),
    ] {
        let Some(fd) = fd else {
            continue;
        };
        let held = mine(&collected.snapshot, inode(&fd));
        assert_eq!(
            (
                held.sock.protocol,
                held.sock.protocol_number,
                held.sock.port
            ),
            (protocol, Some(number), None)
        );
    }
}

#[test]
fn an_mptcp_listener_is_one_socket() {
    let Some(fd) = try_socket(AddressFamily::INET, Kind::STREAM, 262) else {
        return;
    };
    bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    listen(&fd, 7).expect("listen");
    let address = rustix::net::getsockname(&fd).expect("bound");
    let port = SocketAddr::try_from(address).expect("inet").port();
    let collected = collect().expect("/proc");
    assert_eq!(
        mine(&collected.snapshot, inode(&fd)).sock.protocol,
        Protocol::Mptcp
    );
    let groups = collected.snapshot.groups();
    let here = groups
        .iter()
        .filter(|group| group.sock.port == Some(port) && group.sock.protocol != Protocol::Udp);
    assert_eq!(here.count(), 1);
    let mut inventory = Inventory::default();
    inventory.merge(&collected.snapshot, MergeReason::Start);
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let found = inventory.find_listener(current().expect("/proc"), local, port);
    assert_eq!(found.and_then(|it| it.sock.inode), Some(inode(&fd)));
}

#[test]
fn a_second_look_tells_nothing_of_what_stays_and_closes_what_went() {
    let stays = TcpListener::bind("127.0.0.1:0").expect("bind");
    let goes = UdpSocket::bind("[::1]:0").expect("bind");
    let (stays_inode, goes_inode) = (inode(&stays), inode(&goes));
    let mut inventory = Inventory::default();
    let mut look = || {
        let collected = collect().expect("/proc");
        assert_eq!(collected.refused, Vec::<String>::new());
        let merged = inventory.merge(&collected.snapshot, MergeReason::Beat);
        let changes = merged.changes.into_iter();
        let told = changes.filter_map(|change| {
            let inode = change.listener().sock.inode;
            let ours = [Some(stays_inode), Some(goes_inode)].contains(&inode);
            // A child that another test forks at this moment holds our sockets until it execs.
            let of_holders = matches!(change, super::Change::Changed { .. });
            (ours && !of_holders).then_some((inode, matches!(change, super::Change::Closed { .. })))
        });
        told.collect::<HashSet<_>>()
    };
    let first = look();
    let expected = [(Some(stays_inode), false), (Some(goes_inode), false)];
    assert_eq!(first, HashSet::from(expected));
    assert_eq!(look(), HashSet::new());
    drop(goes);
    let told = (0..50).map(|_| look()).find(|told| !told.is_empty());
    assert_eq!(told, Some(HashSet::from([(Some(goes_inode), true)])));
    drop(stays);
}

#[test]
fn the_text_tables_show_what_netlink_shows() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let dir = tempfile::tempdir().expect("a directory");
    let unix = UnixListener::bind(dir.path().join("s")).expect("bind");
    let netns = current().expect("/proc");
    let mut diag = SockDiag::open(netns).expect("netlink");
    for (table, inode) in [(Table::all()[0], inode(&tcp)), (Table::Unix, inode(&unix))] {
        let by_netlink = diag.rows(table).expect("a table");
        let text = instead_of(table).expect("a text");
        let by_text = read(text, netns).expect("a table");
        let find = |rows: Vec<super::sock_diag::Row>| {
            let mut rows = rows.into_iter();
            rows.find(|row| row.sock.inode == Some(inode))
                .expect("the socket")
        };
        let (mut expected, found) = (find(by_netlink), find(by_text));
        expected.sock.cookie = None;
        expected.sock.backlog = 0;
        assert_eq!(found, expected);
    }
}

#[test]
fn a_listener_tells_the_port_that_it_got() {
    let listens = TcpListener::bind("[::1]:0").expect("bind");
    let bound = try_socket(AddressFamily::INET, Kind::STREAM, 6).expect("a socket");
    bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    let inodes = HashSet::from([inode(&listens), inode(&bound)]);
    let found = listening(current().expect("/proc"), &inodes).expect("netlink");
    assert_eq!(found.len(), 1);
    let port = listens.local_addr().ok().map(|it| it.port());
    assert_eq!(found[&inode(&listens)].port, port);
    assert!(listening(1, &inodes).is_err(), "nobody lives there");
}

#[test]
fn suspects_are_asked_about() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let unix = UnixListener::bind_addr(
        &UnixAddr::from_abstract_name(format!("alive{}", std::process::id())).expect("a name"),
    )
    .expect("bind");
    let netns = current().expect("/proc");
    let suspect = |inode: u64, protocol: Protocol, netns: u32| Suspect {
        sock: super::synthetic_id(inode),
        inode,
        protocol,
        netns,
        began: BootNs(0),
    };
    let (closed, gone) = {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let unix = UnixDatagram::unbound().expect("a socket");
        (inode(&tcp), inode(&unix))
    };
    let suspects = [
        suspect(inode(&tcp), Protocol::Tcp, netns),
        suspect(closed, Protocol::Tcp, netns),
        suspect(inode(&unix), Protocol::Unix, netns),
        suspect(gone, Protocol::Unix, netns),
        // In a namespace that no process lives in, a descriptor decides.
        suspect(inode(&tcp), Protocol::Tcp, 1),
        suspect(closed, Protocol::Tcp, 1),
    ];
    let lives = alive(&suspects[..4]).expect("/proc");
    assert!(lives.contains(&inode(&tcp)) && lives.contains(&inode(&unix)));
    assert!(!lives.contains(&closed) && !lives.contains(&gone));
    let lives = alive(&suspects[4..]).expect("/proc");
    assert_eq!(lives, HashSet::from([inode(&tcp)]));
}

#[test]
fn another_namespace_is_looked_into() {
    let child = std::process::Command::new("unshare")
        .args(["--net", "sleep", "30"])
        .spawn();
    let Ok(mut child) = child else {
        return;
    };
    let home = current().expect("/proc");
    let link = format!("/proc/{}/ns/net", child.id());
    let find = || super::holders::link_number(link.as_ref(), "net");
    let entered = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        find().filter(|netns| *netns != u64::from(home))
    });
    // Without the privilege the child has ended by now.
    if let Some(netns) = entered.and_then(|netns| u32::try_from(netns).ok()) {
        let open = || TcpListener::bind("0.0.0.0:7777").expect("bind");
        let listener = within(netns, child.id(), open).expect("entered");
        assert_eq!(current().expect("/proc"), home, "this thread stays");
        let collected = collect().expect("/proc");
        let held = mine(&collected.snapshot, inode(&listener));
        assert_eq!((held.sock.netns, held.sock.port), (netns, Some(7777)));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Between the look at the tables and the look at descriptors a client was closed.
#[test]
fn a_client_that_is_gone_is_no_socket_that_nobody_holds() {
    let of = |sock| Unheld {
        at: BootNs(1),
        sock,
        unix: None,
    };
    let mut kernels = udp(3, 13, 51_820);
    kernels.inode = None;
    let mut elsewhere = udp(4, 14, 40_002);
    elsewhere.netns = 7;
    let rows = [
        udp(1, 11, 40_000),
        udp(2, 12, 40_001),
        kernels,
        elsewhere,
        tcp(5, 15, 80),
    ];
    let mut unheld: Vec<Unheld> = rows.map(of).into();
    let netns = unheld[0].sock.netns;
    // The other namespace cannot be asked any more.
    still_there(&mut unheld, |asked| {
        (asked == netns).then(|| HashSet::from([12]))
    });
    let left: Vec<Option<u64>> = unheld.iter().map(|one| one.sock.inode).collect();
    assert_eq!(left, [Some(12), None, Some(15)]);
}
