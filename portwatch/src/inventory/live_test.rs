//! What live records alone make of the inventory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fixture::{closing, held, opening, task, tcp, udp};
use super::{Change, Inventory, Listener, MergeReason, Snapshot};
use crate::decode::record::{ListenerSeen, SockId, SockInfo};
use crate::event::{Family, Mechanism, Protocol};
use crate::time::BootNs;

fn tentative(at: u64, sock: SockInfo) -> ListenerSeen {
    ListenerSeen {
        tentative: true,
        ..opening(at, sock)
    }
}

/// One letter a change: Opened, Present, Changed, closed (X).
pub(super) fn kinds(changes: &[Change]) -> String {
    let letter = |change: &Change| match change {
        Change::Opened { .. } => 'O',
        Change::Present { .. } => 'P',
        Change::Changed { .. } => 'C',
        Change::Closed { .. } => 'X',
    };
    changes.iter().map(letter).collect()
}

#[test]
fn a_life_is_told_once_with_its_length() {
    let mut inventory = Inventory::default();
    let opened = inventory.opened(opening(1_000, tcp(1, 11, 80)));
    assert_eq!(kinds(&opened), "O");
    assert_eq!(opened[0].listener().owners[0].pid, 100);
    assert_eq!(kinds(&inventory.opened(opening(1_001, tcp(1, 11, 80)))), "");
    let closed = inventory.closed(closing(5_000, tcp(1, 11, 80)));
    let [
        Change::Closed {
            at,
            mechanism,
            duration_ns,
            ..
        },
    ] = closed.as_slice()
    else {
        panic!("{closed:?}");
    };
    assert_eq!(
        (*at, *mechanism, *duration_ns),
        (BootNs(5_000), Mechanism::TpBtf, Some(4_000))
    );
    assert_eq!(kinds(&inventory.closed(closing(6_000, tcp(1, 11, 80)))), "");
    assert_eq!(inventory.counts().unknown_closes, 1);
    assert!(inventory.is_empty());
}

#[test]
fn another_backlog_interface_or_ethertype_is_a_change() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(1, tcp(1, 11, 80)));
    let mut again = tcp(1, 11, 80);
    again.backlog = 5;
    let changes = inventory.opened(opening(2, again));
    let [
        Change::Changed {
            listener, previous, ..
        },
    ] = changes.as_slice()
    else {
        panic!("{changes:?}");
    };
    assert_eq!((listener.sock.backlog, previous.backlog), (5, Some(128)));

    let mut packet = udp(2, 12, 0);
    packet.protocol = Protocol::Packet;
    packet.protocol_number = Some(3);
    inventory.opened(opening(3, packet.clone()));
    packet.ifindex = Some(4);
    packet.protocol_number = Some(0x800);
    packet.backlog = 77;
    let changes = inventory.opened(opening(4, packet));
    let [Change::Changed { previous, .. }] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!(
        (previous.ifindex, previous.protocol_number, previous.backlog),
        (Some(None), Some(Some(3)), None)
    );
}

#[test]
fn an_address_that_was_used_again_closes_what_was_there() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(1, tcp(1, 11, 80)));
    let changes = inventory.opened(opening(9, tcp(1, 12, 81)));
    assert_eq!(kinds(&changes), "XO");
    assert_eq!(changes[0].listener().sock.inode, Some(11));
    assert_eq!(changes[0].mechanism(), Mechanism::Reconcile);
    assert_eq!(changes[1].listener().sock.inode, Some(12));
    assert_eq!(inventory.len(), 1);
}

#[test]
fn the_same_socket_on_another_port_was_shut_down_between() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(1, tcp(1, 11, 80)));
    assert_eq!(kinds(&inventory.opened(opening(9, tcp(1, 11, 81)))), "XO");
    assert!(
        inventory
            .find_listener(1, IpAddr::V4(Ipv4Addr::LOCALHOST), 80)
            .is_none()
    );
}

#[test]
fn a_close_that_names_another_socket_still_frees_the_address() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let old = inventory.closed(closing(4, tcp(1, 10, 80)));
    assert_eq!((kinds(&old).as_str(), inventory.counts().stale), ("", 1));
    let newer = inventory.closed(closing(6, tcp(1, 12, 80)));
    assert_eq!(kinds(&newer), "X");
    assert_eq!(newer[0].mechanism(), Mechanism::Reconcile);
}

#[test]
fn a_failed_listen_is_silent() {
    let mut inventory = Inventory::default();
    assert_eq!(
        kinds(&inventory.opened(tentative(1_000, tcp(1, 11, 0)))),
        ""
    );
    assert_eq!(kinds(&inventory.closed(closing(3_000, tcp(1, 11, 0)))), "");
    assert_eq!(inventory.counts().failed_listens, 1);
    assert!(inventory.tentative_due(BootNs(u64::MAX)).is_empty());
}

#[test]
fn an_unvalidated_listener_that_lived_longer_than_a_call_was_real() {
    let mut inventory = Inventory::default();
    inventory.opened(tentative(1_000, tcp(1, 11, 80)));
    let changes = inventory.closed(closing(22_500_000, tcp(1, 11, 80)));
    assert_eq!(kinds(&changes), "OX");
}

#[test]
fn an_unvalidated_opening_falls_due_and_is_confirmed_or_refuted() {
    let mut inventory = Inventory::default();
    inventory.opened(tentative(1_000, tcp(1, 11, 0)));
    inventory.opened(tentative(2_000, tcp(2, 12, 0)));
    assert!(inventory.tentative_due(BootNs(30_001_000)).is_empty());
    let due = inventory.tentative_due(BootNs(31_000_000));
    assert_eq!(due, [tcp(1, 11, 0).id, tcp(2, 12, 0).id]);
    assert!(inventory.tentative(due[0]).is_some());
    let changes = inventory.confirm(due[0], Some(40_000), BootNs(31_000_001));
    assert_eq!(kinds(&changes), "O");
    assert_eq!(changes[0].at(), BootNs(1_000));
    assert_eq!(changes[0].listener().sock.port, Some(40_000));
    inventory.refute(due[1]);
    assert!(inventory.tentative_due(BootNs(u64::MAX)).is_empty());
    assert_eq!(inventory.len(), 1);
}

#[test]
fn a_validated_opening_settles_an_unvalidated_one() {
    let mut inventory = Inventory::default();
    inventory.opened(tentative(1, tcp(1, 11, 0)));
    assert_eq!(kinds(&inventory.opened(opening(2, tcp(1, 11, 80)))), "O");
    assert_eq!(kinds(&inventory.opened(tentative(3, tcp(1, 11, 80)))), "");
    assert!(inventory.tentative_due(BootNs(u64::MAX)).is_empty());
}

/// The two halves of an MPTCP listener: its subflow, and the socket that the program holds.
fn mptcp_halves(inodes: (u64, u64)) -> (SockInfo, SockInfo) {
    let mut subflow = tcp(1, inodes.0, 80);
    subflow.protocol = Protocol::Mptcp;
    let mut itself = tcp(2, inodes.1, 80);
    itself.protocol = Protocol::Mptcp;
    itself.protocol_number = Some(262);
    (subflow, itself)
}

#[test]
fn mptcp_is_one_listener() {
    // Kernels differ in whether the halves share their inode.
    for inodes in [(11, 12), (11, 11)] {
        let (subflow, itself) = mptcp_halves(inodes);
        for (first, second) in [(&subflow, &itself), (&itself, &subflow)] {
            for closes in [first, second] {
                let mut inventory = Inventory::default();
                let opened = inventory.opened(opening(1, first.clone()));
                assert_eq!(kinds(&opened), "O", "{first:?}");
                let again = inventory.opened(opening(2, second.clone()));
                assert_eq!((kinds(&again).as_str(), inventory.len()), ("", 1));
                assert_eq!(
                    kinds(&inventory.closed(closing(4, closes.clone()))),
                    "X",
                    "{first:?} closed by {closes:?}"
                );
            }
        }
    }
}

#[test]
fn an_mptcp_socket_is_closed_by_the_subflow_that_was_never_told() {
    for inodes in [(11, 12), (11, 11)] {
        let (subflow, itself) = mptcp_halves(inodes);
        let mut inventory = Inventory::default();
        inventory.opened(opening(1, itself));
        assert_eq!(kinds(&inventory.closed(closing(4, subflow))), "X");
    }
}

#[test]
fn an_mptcp_socket_waits_with_its_subflow_for_validation() {
    let (subflow, itself) = mptcp_halves((11, 12));
    let mut inventory = Inventory::default();
    assert_eq!(kinds(&inventory.opened(tentative(1, subflow.clone()))), "");
    assert_eq!(kinds(&inventory.opened(opening(2, itself))), "");
    let confirmed = inventory.confirm(subflow.id, None, BootNs(9));
    assert_eq!(kinds(&confirmed), "O");
    assert_eq!(inventory.counts().mptcp_twins, 1);
}

#[test]
fn the_address_of_a_replaced_half_is_free() {
    let (subflow, itself) = mptcp_halves((11, 12));
    let (_, mut next) = mptcp_halves((11, 11));
    next.id = tcp(3, 0, 0).id;
    let mut inventory = Inventory::default();
    inventory.opened(opening(1, subflow.clone()));
    inventory.opened(opening(2, itself.clone()));
    assert_eq!(kinds(&inventory.opened(opening(3, next))), "");
    assert_eq!(kinds(&inventory.closed(closing(4, subflow))), "X");
    // What comes where the first half was is another listener, found under its own address.
    assert_eq!(kinds(&inventory.opened(opening(5, tcp(2, 20, 81)))), "O");
    assert!(inventory.get(itself.id).is_some());
    let unseen = inventory.opened(opening(6, tcp(2, 21, 81)));
    assert_eq!((kinds(&unseen).as_str(), inventory.len()), ("XO", 1));
}

#[test]
fn a_full_table_still_tells_of_openings() {
    let mut inventory = Inventory::new(1);
    assert_eq!(kinds(&inventory.opened(opening(1, tcp(1, 11, 80)))), "O");
    assert_eq!(kinds(&inventory.opened(opening(2, tcp(2, 12, 81)))), "O");
    assert_eq!((inventory.len(), inventory.counts().untracked), (1, 1));
}

#[test]
fn a_kernel_threads_socket_has_no_holder() {
    let mut inventory = Inventory::default();
    let mut seen = opening(1, tcp(1, 11, 2049));
    seen.who.task.is_kthread = true;
    assert!(inventory.opened(seen)[0].listener().owners.is_empty());
}

#[test]
fn connections_find_their_listener_as_the_kernel_does() {
    let mut inventory = Inventory::default();
    let mut add = |id: u64, local: &str, v6only: bool, port: u16| {
        let local: IpAddr = local.parse().expect("an address");
        let mut sock = tcp(id, id, port);
        sock.local = Some(local);
        sock.v6only = v6only;
        sock.family = if local.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        inventory.opened(opening(id, sock));
    };
    add(1, "0.0.0.0", false, 80);
    add(2, "10.0.0.1", false, 80);
    add(3, "::", true, 80);
    add(4, "::", false, 81);
    add(5, "::", true, 82);
    let find = |address: &str, port: u16| {
        inventory
            .find_listener(1, address.parse().expect("an address"), port)
            .and_then(|listener| listener.sock.inode)
    };
    assert_eq!(find("10.0.0.1", 80), Some(2));
    assert_eq!(find("10.0.0.2", 80), Some(1));
    assert_eq!(find("2001:db8::1", 80), Some(3));
    assert_eq!(find("10.0.0.1", 81), Some(4));
    assert_eq!(find("::ffff:10.0.0.1", 81), Some(4));
    assert_eq!(find("10.0.0.1", 82), None);
    assert_eq!(find("::ffff:10.0.0.1", 82), None);
    assert_eq!(find("::1", 82), Some(5));
    assert_eq!(find("::1", 83), None);
    assert!(
        inventory
            .find_listener(2, IpAddr::V6(Ipv6Addr::LOCALHOST), 82)
            .is_none()
    );
}

#[test]
fn of_two_listeners_on_one_address_the_newest_lives() {
    let mut inventory = Inventory::default();
    let (stale, living) = (tcp(1, 11, 80), tcp(2, 12, 80));
    inventory.opened(opening(1, stale));
    inventory.opened(opening(2, living.clone()));
    let local = living.local.expect("an address");
    let found = inventory.find_listener(living.netns, local, 80);
    assert_eq!(found.map(Listener::id), Some(living.id));
}

#[test]
fn the_resolved_process_stays_with_the_listener() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(1, tcp(1, 11, 80)));
    let process = std::sync::Arc::new(crate::event::Process {
        pid: task(100).key.pid,
        ..Default::default()
    });
    let id = tcp(1, 11, 80).id;
    assert!(inventory.set_process(id, BootNs(1), process.clone()));
    assert!(!inventory.set_process(SockId(7), BootNs(1), process.clone()));
    // What was looked up for the socket that had this address before is not this one's.
    let before = std::sync::Arc::default();
    assert!(!inventory.set_process(id, BootNs(0), before));
    let closed = inventory.closed(closing(2, tcp(1, 11, 80)));
    assert_eq!(closed[0].listener().process, Some(process));
}

/// A record of before it was found tells who opened it; a later `listen` on it is somebody's who uses it.
#[test]
fn whoever_listens_again_has_not_opened_what_was_found() {
    for (at, opener) in [(9, Some(100)), (12, Some(100)), (30_000_000, None)] {
        let mut inventory = Inventory::default();
        let rows = vec![held(11, tcp(1, 11, 80), 7, 3)];
        inventory.merge(
            &Snapshot::of_descriptors(BootNs(10), rows, true),
            MergeReason::Start,
        );
        inventory.opened(opening(at, tcp(1, 11, 80)));
        let known = inventory.iter().next().expect("known");
        let found = known.opener.as_ref().map(|who| who.task.key.pid);
        assert_eq!(
            (found, known.opened_at.is_some()),
            (opener, opener.is_some())
        );
    }
}
