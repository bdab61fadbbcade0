//! Events for tests.

use std::sync::Arc;

use crate::decode::record::SockInfo;
use crate::event::{
    Event, EventType, Exposure, Host, Mechanism, Process, Protocol, Severity, State,
};
use crate::inventory::{described, fixture};
use crate::sink::states::{Occasion, States, Transition};
use crate::sink::{Item, Line};
use crate::time::{BootNs, WallClock};
use uuid::Uuid;

/// The host of every test event.
pub(crate) fn host() -> Arc<Host> {
    Arc::new(Host {
        name: "web1".to_owned(),
        id: None,
        boot_id: None,
        kernel: "6.1.0".to_owned(),
    })
}

/// An event whose time is `seq` milliseconds after 2026-11-21T19:00:00Z.
pub(crate) fn event(seq: u64, kind: EventType) -> Event {
    Event {
        id: format!("id-{seq}"),
        seq,
        severity: Severity::Notice,
        message: format!("event {seq}"),
        ..Event::new(kind, ts(seq), host())
    }
}

/// A listener at `0.0.0.0:port/tcp` in network namespace 1, of this program, run by root.
pub(crate) fn listener(kind: EventType, port: u16, pid: u32, exe: &str) -> Event {
    let mut socket = described(&connection(), None, Exposure::AllInterfaces);
    (socket.address, socket.port) = (Some("0.0.0.0".to_owned()), Some(port));
    (socket.protocol, socket.netns) = (Protocol::Tcp, Some(1));
    Event {
        socket: Some(socket),
        process: Some(Process {
            pid,
            name: exe.rsplit('/').next().unwrap_or_default().to_owned(),
            exe: Some(exe.to_owned()),
            user: Some("root".to_owned()),
            ..Process::default()
        }),
        ..event(1, kind)
    }
}

/// `seq` milliseconds after 2026-11-21T19:00:00Z.
pub(crate) fn ts(seq: u64) -> String {
    format!(
        "2026-11-21T19:00:{:02}.{:03}000000Z",
        seq / 1000,
        seq % 1000
    )
}

/// `count` state changes from this number on, at the times of [`event`].
pub(crate) fn states(first_seq: u64, count: usize) -> Item {
    let transition = |index: usize| Transition {
        at: BootNs((first_seq + index as u64) * 1_000_000),
        place: 0,
        sock: connection(),
        interface: None,
        exposure: Exposure::Loopback,
        old: State::Established,
        new: State::FinWait1,
        mechanism: Mechanism::TpBtf,
        owner: None,
    };
    let occasion = Occasion {
        host: host(),
        clock: WallClock::from_epoch_ns(1_795_287_600_000_000_000),
        first_seq,
        id: Uuid::from_u128(
            0x019a_b2c3_d4e5_7006_8708_090a_0000_0000 | u128::from(first_seq) << 16,
        ),
        at: BootNs(u64::MAX),
    };
    let transitions = (0..count).map(transition).collect();
    Item::States(States::new(occasion, transitions).expect("some"))
}

/// 127.0.0.1:80 with 127.0.0.1:40000.
pub(crate) fn connection() -> SockInfo {
    let mut sock = fixture::tcp(1, 1, 80);
    let loopback = "127.0.0.1".parse().expect("an address");
    sock.local = Some(loopback);
    sock.peer = Some(loopback);
    sock.peer_port = Some(40_000);
    sock
}

/// The numbers that the items' events have in the daemon's stream.
pub(crate) fn seqs(items: &[Item]) -> Vec<u64> {
    let numbers = |item: &Item| match item {
        Item::Line(line) => line.seq()..line.seq() + 1,
        Item::States(states) => states.first_seq()..states.first_seq() + states.count() as u64,
    };
    items.iter().flat_map(numbers).collect()
}

/// A listener's line.
pub(crate) fn opened(seq: u64) -> Arc<Line> {
    Line::new(Arc::new(event(seq, EventType::ListenerOpened)))
}

/// A connection's line.
pub(crate) fn state(seq: u64) -> Arc<Line> {
    Line::new(Arc::new(event(seq, EventType::ConnectionState)))
}
