//! Well-formed records, byte by byte as a probe writes them, and what must never happen to any bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portwatch_common::connection::{OwnedStateRecord, Owner, StateRecord};
use portwatch_common::header::{EventKind, Header, Mechanism as WireMechanism};
use portwatch_common::listener::{CloseRecord, HeldRecord, ListenerFlags, ListenerRecord};
use portwatch_common::process::{ExecRecord, LifeRecord};
use portwatch_common::socket::{Sock, SockFlags, TcpState};
use portwatch_common::task::{Ancestor, Image, ImageFlags, Task};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::record::{ProcessKey, Record, UnixName};
use super::{DecodeError, decode, decode_held, decode_state};
use crate::event::{Mechanism, Protocol};
use crate::time::BootNs;

fn zeroed<T: FromZeros>() -> T {
    T::new_zeroed()
}

fn header(kind: EventKind, len: usize) -> Header {
    Header {
        kind,
        mechanism: WireMechanism::FEXIT,
        len: u32::try_from(len).expect("small"),
        boot_ns: 77,
        ..zeroed()
    }
}

fn tcp4() -> Sock {
    let mut local = [0; 16];
    local[..4].copy_from_slice(&[127, 0, 0, 1]);
    Sock {
        sk: 0xffff_8880_0000_1000,
        cookie: 9,
        inode: 4242,
        netns: 4_026_531_840,
        family: 2,
        kind: 1,
        protocol: 6,
        port: 8080,
        state: TcpState::LISTEN,
        backlog: 128,
        local,
        ..zeroed()
    }
}

fn task() -> Task {
    Task {
        pid: 812,
        tid: 813,
        ppid: 1,
        uid: 33,
        gid: 34,
        loginuid: u32::MAX,
        start_boot_ns: 55,
        comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
        ..zeroed()
    }
}

/// A listener record with its texts behind it.
pub(super) struct Listener {
    pub(super) fixed: ListenerRecord,
    pub(super) exe: Vec<u8>,
    pub(super) cwd: Vec<u8>,
    pub(super) args: Vec<u8>,
    pub(super) resolved: Vec<u8>,
}

impl Listener {
    pub(super) fn new(kind: EventKind) -> Self {
        let mut fixed: ListenerRecord = zeroed();
        fixed.header = header(kind, 0);
        fixed.sock = tcp4();
        fixed.task = task();
        fixed.image.exe_inode = 5;
        fixed.image.exe_nlink = 1;
        fixed.ancestors[0] = Ancestor {
            pid: 1,
            start_boot_ns: 3,
            comm: *b"systemd\0\0\0\0\0\0\0\0\0",
            reserved: 0,
        };
        Self {
            fixed,
            exe: b"nginx\0sbin\0usr\0".to_vec(),
            cwd: Vec::new(),
            args: b"nginx\0-t\0".to_vec(),
            resolved: Vec::new(),
        }
    }

    fn unix(mut self, name: &[u8]) -> Self {
        self.fixed.sock.family = 1;
        self.fixed.sock.protocol = 0;
        self.fixed.unix.len = u16::try_from(name.len()).expect("short");
        self.fixed.unix.bytes[..name.len()].copy_from_slice(name);
        self
    }

    /// The bytes, with `slack` unused ones behind, as a ring of fixed sizes hands them out.
    pub(super) fn bytes(&self, slack: usize) -> Vec<u8> {
        let mut fixed = self.fixed;
        let len = |text: &[u8]| u16::try_from(text.len()).expect("short");
        fixed.image = Image {
            exe_len: len(&self.exe),
            cwd_len: len(&self.cwd),
            args_len: len(&self.args),
            args_total: u32::from(len(&self.args)) + fixed.image.args_total,
            ..fixed.image
        };
        fixed.unix.resolved_len = len(&self.resolved);
        let texts = [
            self.args.as_slice(),
            self.exe.as_slice(),
            self.cwd.as_slice(),
            self.resolved.as_slice(),
        ]
        .concat();
        fixed.header.len = u32::try_from(size_of_val(&fixed) + texts.len()).expect("small");
        [fixed.as_bytes(), &texts, &vec![0xaa; slack]].concat()
    }
}

fn opened(listener: &Listener) -> Box<super::record::ListenerSeen> {
    match decode(&listener.bytes(100)) {
        Ok(Record::Opened(seen)) => seen,
        other => panic!("not an opening: {other:?}"),
    }
}

#[test]
fn an_opening_tells_everything_the_probe_knew() {
    let mut listener = Listener::new(EventKind::LISTENER_OPENED);
    listener.fixed.flags = ListenerFlags::TENTATIVE;
    listener.fixed.image.args_total = 10;
    let seen = opened(&listener);
    assert_eq!((seen.at, seen.mechanism), (BootNs(77), Mechanism::Fexit));
    assert_eq!(seen.sock.local, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!((seen.sock.port, seen.sock.backlog), (Some(8080), 128));
    assert_eq!((seen.sock.inode, seen.sock.cookie), (Some(4242), Some(9)));
    assert_eq!((seen.sock.peer, seen.sock.peer_port), (None, None));
    assert!(seen.tentative);
    assert_eq!(seen.errno, 0);
    let image = seen.who.image.expect("an image");
    assert_eq!(image.exe.as_deref(), Some(&b"/usr/sbin/nginx"[..]));
    assert_eq!(image.cwd.as_deref(), Some(&b"/"[..]));
    assert_eq!(image.args, Some(vec![b"nginx".to_vec(), b"-t".to_vec()]));
    assert!(image.args_truncated && !image.exe_deleted);
    assert_eq!(seen.who.task.loginuid, None);
    assert_eq!(seen.who.task.comm, b"nginx");
    assert_eq!(seen.who.ancestors.len(), 1);
    assert_eq!(
        seen.who.ancestors[0].key,
        ProcessKey {
            pid: 1,
            start: BootNs(3)
        }
    );
}

#[test]
fn a_cut_path_is_no_path() {
    let mut listener = Listener::new(EventKind::LISTENER_OPENED);
    listener.fixed.image.flags = ImageFlags::EXE_TRUNCATED
        | ImageFlags::CWD_TRUNCATED
        | ImageFlags::ARGS_UNREADABLE
        | ImageFlags::EXE_MEMFD;
    listener.fixed.image.exe_nlink = 0;
    let image = opened(&listener).who.image.expect("an image");
    assert_eq!((image.exe, image.cwd, image.args), (None, None, None));
    assert!(image.exe_memfd && !image.exe_deleted);
}

#[test]
fn an_executable_is_never_the_root() {
    for components in [&b""[..], b"\0", b"/\0", b"\0/\0\0"] {
        let mut listener = Listener::new(EventKind::LISTENER_OPENED);
        listener.exe = components.to_vec();
        let image = opened(&listener).who.image.expect("an image");
        assert_eq!(image.exe, None, "{components:?}");
        assert_eq!(image.exe_inode, 5, "the rest is known");
    }
}

#[test]
fn unix_names_keep_their_bytes() {
    let name = |listener: Listener| opened(&listener).unix;
    let new = || Listener::new(EventKind::LISTENER_OPENED);
    assert_eq!(name(new().unix(b"")), None);
    assert_eq!(
        name(new().unix(b"\0\0x\0")),
        Some(UnixName::Abstract(b"\0x\0".to_vec()))
    );
    let mut by_cwd = new().unix(b"../s\0");
    by_cwd.cwd = b"app\0run\0".to_vec();
    assert_eq!(
        name(by_cwd),
        Some(UnixName::Path {
            as_bound: b"../s".to_vec(),
            resolved: Some(b"/run/s".to_vec())
        })
    );
    let mut by_probe = new().unix(b"s");
    by_probe.resolved = b"s\0real\0".to_vec();
    assert_eq!(
        name(by_probe),
        Some(UnixName::Path {
            as_bound: b"s".to_vec(),
            resolved: Some(b"/real/s".to_vec())
        })
    );
}

#[test]
fn mptcp_is_told_by_the_subflow_and_by_the_socket_itself() {
    let mut listener = Listener::new(EventKind::LISTENER_OPENED);
    listener.fixed.sock.flags = SockFlags::MPTCP;
    let subflow = opened(&listener).sock;
    assert_eq!(
        (subflow.protocol, subflow.protocol_number),
        (Protocol::Mptcp, None)
    );
    listener.fixed.sock.protocol = 262;
    let itself = opened(&listener).sock;
    assert_eq!(
        (itself.protocol, itself.protocol_number),
        (Protocol::Mptcp, Some(262))
    );
}

#[test]
fn a_refusal_carries_its_errno() {
    let mut listener = Listener::new(EventKind::BIND_FAILED);
    listener.fixed.ret = -98;
    assert!(matches!(decode(&listener.bytes(0)), Ok(Record::Refused(seen)) if seen.errno == 98));
    listener.fixed.ret = 0;
    assert_eq!(
        decode(&listener.bytes(0)),
        Err(DecodeError::Result { kind: 3, ret: 0 })
    );
}

#[test]
fn states_owners_and_mapped_addresses() {
    let mut wire: OwnedStateRecord = zeroed();
    let state = &mut wire.state;
    state.header = header(EventKind::CONNECTION_STATE, size_of::<OwnedStateRecord>());
    state.header.cpu_seq = 7;
    state.sock = tcp4();
    state.sock.family = 10;
    state.sock.peer = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    state.sock.peer_port = 5000;
    state.old = TcpState::SYN_RECV;
    state.new = TcpState::ESTABLISHED;
    wire.owner = Owner::of(&task());
    let Ok(Record::State(seen)) = decode(wire.as_bytes()) else {
        panic!("not a state");
    };
    assert_eq!(decode_state(wire.as_bytes()).as_ref(), Ok(&*seen));
    let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().expect("an address");
    assert_eq!(seen.sock.peer, Some(IpAddr::V6(mapped)));
    assert_eq!(seen.owner.map(|owner| owner.key.pid), Some(812));
    assert_eq!(seen.place.before, 7);

    // Without an owner the record is shorter; what the ring has behind it is not looked at.
    wire.state.header.len = size_of::<StateRecord>() as u32;
    assert!(matches!(decode_state(wire.as_bytes()), Ok(seen) if seen.owner.is_none()));
    wire.state.header.len += 1;
    assert!(matches!(
        decode_state(wire.as_bytes()),
        Err(DecodeError::TooShort { have: 121, .. })
    ));
    wire.state.header.len = size_of::<StateRecord>() as u32;
    wire.state.new = TcpState(13);
    assert_eq!(
        decode_state(wire.as_bytes()),
        Err(DecodeError::UnknownState(13))
    );
    wire.state.header.kind = EventKind::PROCESS_EXIT;
    assert_eq!(
        decode_state(wire.as_bytes()),
        Err(DecodeError::UnknownKind(5))
    );
}

#[test]
fn an_accepted_connection_does_not_have_its_listeners_cookie() {
    let cookie = |old, new| {
        let mut wire: StateRecord = zeroed();
        wire.header = header(EventKind::CONNECTION_STATE, size_of::<StateRecord>());
        wire.sock = tcp4();
        (wire.sock.cookie, wire.old, wire.new) = (77, old, new);
        match decode(wire.as_bytes()) {
            Ok(Record::State(seen)) => seen.sock.cookie,
            other => panic!("not a state: {other:?}"),
        }
    };
    assert_eq!(cookie(TcpState::LISTEN, TcpState::SYN_RECV), None);
    assert_eq!(cookie(TcpState::LISTEN, TcpState::CLOSE), Some(77));
    assert_eq!(cookie(TcpState::CLOSE, TcpState::LISTEN), Some(77));
}

#[test]
fn processes_and_holders() {
    let mut exec: ExecRecord = zeroed();
    exec.header = header(EventKind::PROCESS_EXEC, size_of::<ExecRecord>() + 4);
    exec.task = task();
    exec.image.exe_len = 4;
    let bytes = [exec.as_bytes(), b"sh\0x"].concat();
    assert!(
        matches!(decode(&bytes), Ok(Record::Exec(seen)) if seen.image.exe.as_deref() == Some(b"/x/sh"))
    );

    let mut life: LifeRecord = zeroed();
    life.header = header(EventKind::PROCESS_FORK, size_of::<LifeRecord>());
    life.task = task();
    life.parent_start_boot_ns = 3;
    assert!(
        matches!(decode(life.as_bytes()), Ok(Record::Fork(seen)) if seen.parent == Some(ProcessKey { pid: 1, start: BootNs(3) }))
    );
    life.header.kind = EventKind::PROCESS_EXIT;
    life.exit_code = 9;
    assert!(
        matches!(decode(life.as_bytes()), Ok(Record::Exit(seen)) if seen.parent.is_none() && seen.exit_code == 9)
    );

    let mut held: HeldRecord = zeroed();
    held.header = header(EventKind::SOCKET_HELD, size_of::<HeldRecord>());
    held.sock = tcp4();
    held.task = task();
    held.fd = 6;
    assert!(matches!(decode(held.as_bytes()), Ok(Record::Held(seen)) if seen.fd == 6));
    assert!(matches!(decode_held(held.as_bytes()), Ok(seen) if seen.fd == 6));
    held.header.len += 1;
    assert_eq!(
        decode_held(held.as_bytes()).err(),
        decode(held.as_bytes()).err()
    );
    assert!(decode_held(life.as_bytes()).is_err(), "another kind");
    // A listener of SMC, which the iterator shows as well.
    held.header.len -= 1;
    held.sock.protocol = 256;
    let unwatched = decode_held(held.as_bytes()).expect_err("not watched");
    assert!(unwatched.is_unwatched(), "{unwatched}");

    let mut close: CloseRecord = zeroed();
    close.header = header(EventKind::LISTENER_CLOSED, size_of::<CloseRecord>());
    close.sock = tcp4();
    assert!(
        matches!(decode(close.as_bytes()), Ok(Record::Closed(seen)) if seen.sock.port == Some(8080))
    );
}

#[test]
fn numbers_from_another_version_are_named() {
    let mut listener = Listener::new(EventKind(99));
    assert_eq!(
        decode(&listener.bytes(0)),
        Err(DecodeError::UnknownKind(99))
    );
    listener.fixed.header.kind = EventKind::LISTENER_OPENED;
    listener.fixed.header.mechanism = WireMechanism(0);
    assert_eq!(
        decode(&listener.bytes(0)),
        Err(DecodeError::UnknownMechanism(0))
    );
    listener.fixed.header.mechanism = WireMechanism::CGROUP;
    listener.fixed.unix.len = 109;
    assert_eq!(
        decode(&listener.bytes(0)),
        Err(DecodeError::UnixNameLength(109))
    );
}

/// One well-formed record of every kind.
fn one_of_each() -> Vec<Vec<u8>> {
    let listener = Listener::new(EventKind::LISTENER_OPENED).unix(b"/run/x");
    let mut refusal = Listener::new(EventKind::BIND_FAILED);
    refusal.fixed.ret = -13;
    let mut all = vec![listener.bytes(0), refusal.bytes(7)];
    for (kind, size) in [
        (EventKind::LISTENER_CLOSED, size_of::<CloseRecord>()),
        (EventKind::SOCKET_HELD, size_of::<HeldRecord>()),
        (EventKind::PROCESS_EXEC, size_of::<ExecRecord>()),
        (EventKind::PROCESS_FORK, size_of::<LifeRecord>()),
        (EventKind::CONNECTION_STATE, size_of::<StateRecord>()),
    ] {
        let mut bytes = vec![0; size];
        let header = header(kind, size);
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let rest = &mut bytes[size_of::<Header>()..];
        if kind != EventKind::PROCESS_EXEC && kind != EventKind::PROCESS_FORK {
            let sock = tcp4();
            rest[..size_of::<Sock>()].copy_from_slice(sock.as_bytes());
        }
        if kind == EventKind::CONNECTION_STATE {
            bytes[size - 8..size - 6].copy_from_slice(&[7, 2]);
        }
        all.push(bytes);
    }
    all.push(super::storm::tests::sample());
    all
}

/// A record of every kind and special case, by name.
pub(super) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "unix", "refused", "closed", "held", "exec", "fork", "state", "crossed",
    ];
    let mut all: Vec<_> = names.into_iter().zip(one_of_each()).collect();
    let new = || Listener::new(EventKind::LISTENER_OPENED);
    all.push(("opened", new().bytes(0)));
    let mut tentative = new();
    tentative.fixed.flags = ListenerFlags::TENTATIVE;
    all.push(("tentative", tentative.bytes(0)));
    let mut mptcp = new();
    mptcp.fixed.sock.flags = SockFlags::MPTCP;
    all.push(("subflow", mptcp.bytes(0)));
    mptcp.fixed.sock.protocol = 262;
    mptcp.fixed.sock.sk += 64;
    all.push(("mptcp", mptcp.bytes(0)));
    let mut relative = new().unix(b"../s\0");
    relative.cwd = b"app\0run\0".to_vec();
    all.push(("relative", relative.bytes(9)));
    all.push(("abstract", new().unix(b"\0\0x\x1b").bytes(0)));
    all
}

#[test]
fn every_truncation_is_refused() {
    for bytes in one_of_each() {
        assert!(decode(&bytes).is_ok(), "{:?}", decode(&bytes));
        let len = usize::try_from(u32::from_ne_bytes(
            bytes[4..8].try_into().expect("four bytes"),
        ))
        .expect("fits");
        for end in 0..len {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end} of {len}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_mutation_causes_a_panic(
        which in 0_usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = one_of_each().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn texts_come_back_as_they_were_written(
        path in proptest::collection::vec("[^/\0]{1,12}", 1..8),
        args in proptest::collection::vec("[^\0]{1,20}", 1..8),
        name in proptest::collection::vec(any::<u8>(), 0..107),
        slack in 0_usize..64,
    ) {
        let mut listener = Listener::new(EventKind::LISTENER_OPENED)
            .unix(&[&[0], name.as_slice()].concat());
        listener.exe = path.iter().rev().flat_map(|part| [part.as_bytes(), &[0]].concat()).collect();
        listener.args = args.iter().flat_map(|arg| [arg.as_bytes(), &[0]].concat()).collect();
        let Ok(Record::Opened(seen)) = decode(&listener.bytes(slack)) else {
            panic!("a well-formed record was refused");
        };
        let image = seen.who.image.expect("an image");
        prop_assert_eq!(image.exe, Some(format!("/{}", path.join("/")).into_bytes()));
        let expected: Vec<Vec<u8>> = args.iter().map(|arg| arg.clone().into_bytes()).collect();
        prop_assert_eq!(image.args, Some(expected));
        prop_assert_eq!(seen.unix, Some(UnixName::Abstract(name)));
    }
}
