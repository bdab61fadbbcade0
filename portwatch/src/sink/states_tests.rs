//! The fast writer against serde, byte for byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::event::{Exposure, Mechanism, Process, Protocol, State};
use crate::sink::testing::{connection, host};
use crate::sink::{ConnectionOwner, MAX_LINE, Occasion};
use crate::time::{BootNs, WallClock};

const ALL_STATES: [State; 12] = [
    State::Established,
    State::SynSent,
    State::SynRecv,
    State::FinWait1,
    State::FinWait2,
    State::TimeWait,
    State::Close,
    State::CloseWait,
    State::LastAck,
    State::Listen,
    State::Closing,
    State::NewSynRecv,
];

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
        any::<Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped())),
    ]
}

fn owner() -> impl Strategy<Value = Arc<ConnectionOwner>> {
    let text = prop_oneof!["\\PC{0,12}", Just("\"\\x1b\\\\\u{7f}\u{202e}".to_owned())];
    (any::<u32>(), text, any::<Option<u32>>(), 0_usize..3_000).prop_map(
        |(pid, name, uid, repeat)| {
            Arc::new(ConnectionOwner::new(Process {
                pid,
                user: Some(name.repeat(repeat % 60)),
                args: Some(vec![name.repeat(repeat)]),
                name,
                uid,
                ..Process::default()
            }))
        },
    )
}

prop_compose! {
    pub(in crate::sink) fn transition()(
        at in any::<u64>(),
        (local, peer) in (address(), any::<bool>(), address()).prop_map(|(local, has_peer, peer)| {
            (local, has_peer.then_some(peer))
        }),
        (port, peer_port) in any::<(Option<u16>, Option<u16>)>(),
        (cookie, inode, netns) in any::<(Option<u64>, Option<u64>, u32)>(),
        (ifindex, number) in any::<(Option<u32>, Option<u16>)>(),
        (v6only, reuseport, mptcp) in any::<(bool, bool, bool)>(),
        backlog in any::<u32>(),
        interface in proptest::option::weighted(0.1, "\\PC{0,8}"),
        owner in proptest::option::of(owner()),
        (old, new) in (0_usize..12, 0_usize..12),
    ) -> Transition {
        let mut sock = connection();
        sock.family = if local.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        sock.protocol = if mptcp { Protocol::Mptcp } else { Protocol::Tcp };
        (sock.local, sock.peer) = (Some(local), peer);
        (sock.port, sock.peer_port) = (port, peer_port);
        (sock.cookie, sock.inode, sock.netns) = (cookie, inode, netns);
        (sock.ifindex, sock.protocol_number) = (ifindex, number);
        (sock.v6only, sock.reuseport, sock.backlog) = (v6only, reuseport, backlog);
        Transition {
            at: BootNs(at),
            place: 0,
            sock,
            interface: interface.map(Arc::from),
            exposure: Exposure::Loopback,
            old: ALL_STATES[old],
            new: ALL_STATES[new],
            mechanism: Mechanism::TpBtf,
            owner,
        }
    }
}

pub(in crate::sink) fn batch(transitions: Vec<Transition>, at: u64) -> Arc<States> {
    let occasion = Occasion {
        host: host(),
        clock: WallClock::from_epoch_ns(1_795_287_600_000_000_000),
        first_seq: 7,
        id: Uuid::now_v7(),
        at: BootNs(at),
    };
    States::new(occasion, transitions).expect("some")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_state_change_is_what_serde_writes(
        transitions in proptest::collection::vec(transition(), 1..5),
        at in any::<u64>(),
        first in any::<u64>(),
    ) {
        let states = batch(transitions, at);
        let mut writer = StateWriter::default();
        for index in 0..states.count() {
            let seq = first.wrapping_add(index as u64);
            let mut line = Vec::new();
            writer.append(&states, index, seq, &mut line);
            let event = Event { seq, ..states.event(index).expect("there") };
            let (line, wanted) = (String::from_utf8_lossy(&line), encode_line(&event));
            prop_assert_eq!(line, String::from_utf8_lossy(&wanted));
            prop_assert!(wanted.len() <= MAX_LINE);
        }
    }
}

#[test]
fn ids_of_a_batch_differ_and_rise() {
    let one = Transition {
        at: BootNs(1),
        place: 0,
        sock: connection(),
        interface: None,
        exposure: Exposure::Loopback,
        old: State::Listen,
        new: State::SynRecv,
        mechanism: Mechanism::TpBtf,
        owner: None,
    };
    let batches = [batch(vec![one.clone(); 3], 2), batch(vec![one; 2], 3)];
    let ids: Vec<Uuid> = batches
        .iter()
        .flat_map(|states| states.transitions.iter().map(|one| states.id(one)))
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.iter().all(|id| id.get_version_num() == 7));
    let mut nothing = Vec::new();
    StateWriter::default().append(&batches[1], 2, 1, &mut nothing);
    assert!(nothing.is_empty() && batches[1].event(2).is_none());
}
